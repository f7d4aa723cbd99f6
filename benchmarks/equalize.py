"""Equalisation of valid pixels per pass, against scikit-image's equalize_hist with a mask."""

from __future__ import annotations

import numpy as np
import xarray as xr
from skimage.exposure import equalize_hist

from benchmarks.lee import make, megapixels
from cubekit.preprocess import equalize

CLAIM = "equalise, 256 bins, with nodata"
PEER = "scikit-image equalize_hist"

__all__ = ["CLAIM", "PEER", "make", "megapixels", "ours", "peer"]


def ours(power: xr.DataArray) -> np.ndarray:
    """Cubekit."""
    return equalize(power).values


def peer(power: xr.DataArray) -> np.ndarray:
    """The peer: it maps to 0..1 and keeps NaN."""
    return np.stack([equalize_hist(image, 256, mask=np.isfinite(image)) for image in power.values])
