"""Equalisation of the valid pixels of each pass, against scikit-image's equalize_hist with a mask, two threads each.

scikit-image interpolates at the centres of the bins, and returns 0..1 in float64 where cubekit returns grey values.
"""

from __future__ import annotations

import numpy as np
import xarray as xr
from skimage.exposure import equalize_hist

from benchmarks import Result
from benchmarks._timing import on_threads, paired, rates, ratio
from benchmarks.lee import make
from cubekit.preprocess import equalize


def ours(image: xr.DataArray) -> np.ndarray:
    """Cubekit."""
    return equalize(image).values


def peer(image: np.ndarray) -> np.ndarray:
    """scikit-image."""
    return equalize_hist(image, 256, mask=np.isfinite(image))


def measure(*, tiny: bool = False) -> list[Result]:
    """Ratio to scikit-image."""
    power = make(32 if tiny else 1024)
    images = list(power.values)
    taken = paired(
        {"cubekit": lambda: on_threads(ours, list(power)), "scikit-image": lambda: on_threads(peer, images)},
        1 if tiny else 9,
    )
    detail = rates(taken, power.size / 1e6, "Mpx/s")
    return [
        Result(
            "equalise, 256 bins, with nodata: scikit-image", ratio(taken, "cubekit", "scikit-image"), 15, detail=detail
        )
    ]
