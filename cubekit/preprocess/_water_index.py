"""From a water index of one pass to the share of water in each pixel. Plain numpy, one pass at a time."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

FEWEST_PIXELS = 30
"""Fewer pixels than this of water or of land tell no level."""

Floats = NDArray[np.floating[Any]]
Flags = NDArray[np.bool_]


def water_fraction(index: Floats, weight: Floats, zone: Flags, bounds: tuple[float, float]) -> NDArray[np.float32]:
    """Share of water in each pixel, by a threshold of the index and by mixing along the shore.

    Parameters
    ----------
    index
        (y, x), the higher the more likely water; a ratio whose denominator is `weight`, NaN where it isn't known.
    weight
        (y, x), positive: what the index is weighted by where two surfaces share a pixel (for NDWI green + nir).
    zone
        bool (y, x): where threshold and levels are taken from.
    bounds
        What the threshold is kept between.

    Returns
    -------
    numpy.ndarray
        float32 (y, x), 0 to 1, NaN where the index isn't known.

    Notes
    -----
    1. Otsu's threshold (Otsu 1979) of the index in the zone, kept between `bounds`: the middle of the bounds where
       fewer than 30 pixels, or one value only, are known.
    2. Levels of pure water and land: the medians, in the zone, of index and weight on either side, of pixels not beside
       the other side (where there are 30 such). Without 30 pixels on both sides there is nothing to mix: 0 or 1.
    3. A ratio mixes by its two parts: with w of the pixel water, index = (w Nw Ww + (1 - w) Nl Wl) / (w Ww + (1 - w)
       Wl). Solved for w, kept between 0 and 1: at w = 1/2 the index lies closer to that of the brighter surface, which
       a threshold half way would count as land.
    4. Only pixels beside one of the other kind keep their share; deeper in, the index varies by other causes.
    """
    known = np.isfinite(index) & np.isfinite(weight)
    values = index[known & zone]
    water = known & (index >= _threshold(values, bounds))
    levels = [_level(index, weight, side & zone, known & ~side) for side in (water, known & ~water)]
    share = np.where(water, 1.0, 0.0)
    if levels[0] is not None and levels[1] is not None and levels[0][0] > levels[1][0]:
        mixed = _mixing(np.where(known, index, 0.0), levels[0], levels[1])
        water = known & (mixed >= 0.5)
        share = np.where(water, 1.0, 0.0)
        shore = (water & _beside(known & ~water)) | (known & ~water & _beside(water))
        share[shore] = mixed[shore]
    return np.where(known, share, np.nan).astype(np.float32)


def _threshold(values: Floats, bounds: tuple[float, float]) -> float:
    from skimage.filters import threshold_otsu

    low, high = bounds
    if values.size < FEWEST_PIXELS or values.min() == values.max():
        return (low + high) / 2
    return float(np.clip(threshold_otsu(values), low, high))  # type: ignore[no-untyped-call]


def _level(index: Floats, weight: Floats, side: Flags, other: Flags) -> tuple[float, float] | None:
    pure = side & ~_beside(other)
    chosen = pure if np.count_nonzero(pure) >= FEWEST_PIXELS else side
    if np.count_nonzero(chosen) < FEWEST_PIXELS:
        return None
    return float(np.median(index[chosen])), float(np.median(weight[chosen]))


def _mixing(index: Floats, water: tuple[float, float], land: tuple[float, float]) -> NDArray[np.float64]:
    (water_index, water_weight), (land_index, land_weight) = water, land
    inside = np.clip(index, land_index, water_index).astype(np.float64)
    above = land_weight * (inside - land_index)
    return np.asarray(above / (above + water_weight * (water_index - inside)))


def _beside(mask: Flags) -> Flags:
    from scipy.ndimage import binary_dilation

    return np.asarray(binary_dilation(mask), np.bool_)
