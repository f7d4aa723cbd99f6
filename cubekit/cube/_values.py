"""What of a raster's values is data, and how finer pixels become the lattice's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

Floats = NDArray[np.float32]


def mask_nodata(bands: Floats, nodata: Sequence[float], *, zero_border: bool) -> Floats:
    """Set what stands for no data to NaN.

    Parameters
    ----------
    bands
        float32 (band, y, x).
    nodata
        Values that stand for no data.
    zero_border
        Whether zeros at the border are no data: those connected, over pixel edges, to the edge of the window or to
        pixels without data. Zeros within the image stay: thermal noise was subtracted from dark water.

    Returns
    -------
    numpy.ndarray
        A copy.
    """
    masked = np.where(np.isin(bands, np.asarray(nodata, np.float32)), np.float32(np.nan), bands)
    if zero_border:
        for band in masked:
            band[_border(band)] = np.nan
    return masked


def _border(band: Floats) -> NDArray[np.bool_]:
    from scipy.ndimage import label

    void = np.isnan(band)
    labels, _ = label(np.pad((band == 0) | void, 1, constant_values=True))
    inner = labels[1:-1, 1:-1]
    outside = np.unique(np.append(inner[void], labels[0, 0]))
    border: NDArray[np.bool_] = np.isin(inner, outside) & (band == 0)
    return border


def finer(lattice: GeoBox, spacing: float) -> GeoBox:
    """The lattice with each of its pixels cut into smaller ones of this spacing, which divides its own."""
    return GeoBox.from_bbox(lattice.boundingbox, resolution=spacing, tight=True)


def block_means(values: NDArray[Any], count: int) -> Floats:
    """Mean of each block of `count` x `count` pixels, over those with data; NaN where fewer than half have some.

    In linear quantities only (power, reflectance): their mean is what a larger pixel would have seen.

    Examples
    --------
    >>> block_means(np.array([[[1, 3], [np.nan, 5]]], np.float32), 2)
    array([[[3.]]], dtype=float32)
    """
    if count == 1:
        return np.asarray(values, np.float32)
    bands, height, width = values.shape
    blocks = values.reshape(bands, height // count, count, width // count, count)
    has = np.isfinite(blocks)
    number = has.sum(axis=(2, 4))
    total = np.where(has, blocks, 0).sum(axis=(2, 4), dtype=np.float64)
    means = total / np.maximum(number, 1)
    return np.where(2 * number >= count**2, means, np.nan).astype(np.float32)
