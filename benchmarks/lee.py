"""Lee 7x7 that ignores nodata, against the same filter written with scipy's box filters (normalised convolution)."""

from __future__ import annotations

import numpy as np
import xarray as xr
from scipy.ndimage import uniform_filter

from cubekit.preprocess import lee

CLAIM = "Lee 7x7, float32 with NaN"
PEER = "scipy, normalised convolution"
LOOKS = 4.4


def make(size: int) -> xr.DataArray:
    """Speckle with a tenth of it missing."""
    random = np.random.default_rng(0)
    power = random.gamma(LOOKS, 0.05 / LOOKS, (4, size, size)).astype("float32")
    power[random.random(power.shape) < 0.1] = np.nan
    return xr.DataArray(power, dims=("time", "y", "x"), attrs={"scale": "linear power", "looks": LOOKS})


def ours(power: xr.DataArray) -> np.ndarray:
    """Cubekit."""
    return lee(power, window=7).values


def peer(power: xr.DataArray) -> np.ndarray:
    """The peer: five box filters in float64."""
    values = power.values.astype("float64")
    valid = np.isfinite(values)
    filled = np.where(valid, values, 0)
    size = (1, 7, 7)
    count = np.maximum(uniform_filter(valid.astype("float64"), size, mode="constant"), 1e-9)
    mean = uniform_filter(filled, size, mode="constant") / count
    variance = uniform_filter(filled**2, size, mode="constant") / count - mean**2
    noise = 1 / LOOKS
    signal = np.maximum((variance - mean**2 * noise) / (1 + noise), 0)
    weight = signal / (signal + mean**2 * noise)
    return np.where(valid, mean + weight * (values - mean), np.nan).astype("float32")


def megapixels(power: xr.DataArray) -> float:
    """Work of one call."""
    return power.size / 1e6
