"""A segmenter without a network: Otsu's threshold finds the lake, linear mixing of power places its shore.

It needs the lake's outline and nothing else: no training, no equalisation. Use it where there is no model, and as the
yardstick that a model has to beat.
"""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import ConfigError
from cubekit.segmentation._blocks import map_passes, observed_of, on_lattice

if TYPE_CHECKING:
    from cubekit.lakes import Lake

Floats = npt.NDArray[np.float64]
Booleans = npt.NDArray[np.bool_]


class Method(NamedTuple):
    """All that the method has to choose; in `METHOD_HASH`."""

    version: int = 2
    """Of the steps in `water_probability`."""

    fewest_pixels: int = 30
    """Below this the share of dark pixels inside or around the outline is not known to better than 0.1."""

    highest_valley: float = 0.8
    """Density of dB values at the threshold over that at the lower of the two classes' medians.

    Two classes have a valley between them. Where there is one class (a lake as bright as the land: ice, waves) Otsu's
    threshold still cuts it, but at its top: the ratio is 1.26 for a normal distribution, 1.0 for a uniform one. 0.8
    leaves room for the noise of the histogram.
    """

    least_agreement: float = 0.2
    """Share of dark pixels inside the outline minus that around it.

    Below this what is dark is not the lake: shadow beside a frozen one. A lake that lost four fifths of its area is not
    told from one that froze, and is not known either.
    """

    narrowest_inside: int = 3
    """Side of the square that dark parts have to hold inside the outline, pixels."""

    narrowest_outside: int = 5
    """Side of the disc (a square without its corners) that dark parts have to hold outside of it, pixels.

    Land is rough, and threads of its darkest pixels start along every shore.
    """

    land_reach: int = 3
    """How far from a pixel of the shore its land is looked at, pixels: land is alike over a few pixels only."""

    fewest_land_pixels: int = 5
    """Fewer pixels of land nearby than this: the level of all land around the lake is used."""

    far_land_reach: int = 10
    """How far from the lake that land lies, pixels."""

    floor: float = 1e-4
    """Linear power below which nothing is measured: a guard for the logarithm."""


METHOD = Method()

METHOD_HASH = "otsu-" + hashlib.sha256(json.dumps(METHOD._asdict(), sort_keys=True).encode()).hexdigest()[:12]
"""Changes with `METHOD`: written as `model_hash`, so that a change of method shows in the results."""


def segment_otsu(da: xr.DataArray, lake: Lake) -> xr.DataArray:
    """Probability of water by Otsu's threshold, pass by pass; see `water_probability` for the method.

    Parameters
    ----------
    da
        Dims (time, y, x), float, linear power, filtered, on the lake's lattice or a part of it; with the bool
        coordinate `observed` of the same dims.
    lake
        Its outline is where the lake is looked for, its zone (200 m around the outline) how far water may reach.

    Returns
    -------
    xarray.DataArray
        `probability`, float32 in 0..1, NaN where not observed, and all NaN in a pass whose lake can't be told from the
        land. Attributes `model` ("otsu") and `model_hash`. Lazy when `da` or `observed` is; passes are independent, so
        chunks along time make no difference at all.

    Raises
    ------
    ConfigError
        When `da` is not floating-point linear power, or lacks the dims or `observed`.
    GridMismatch
        When `da` does not lie on the lake's lattice.
    """
    observed_of(da)
    if not np.issubdtype(da.dtype, np.floating):
        msg = f"model 'otsu' takes linear power as prepare() makes it, not {da.dtype}; give what was not equalised"
        raise ConfigError(msg)
    scale = da.attrs.get("scale", "linear power")
    if scale != "linear power":
        msg = f"model 'otsu' takes linear power, this array says its scale is {scale!r}; give what prepare() makes"
        raise ConfigError(msg)
    outline, zone = (on_lattice(mask, da, lake) for mask in (lake.outline_mask, lake.zone_mask))
    # One byte a pixel, once in the graph: 0 far from the lake, 1 in its zone, 2 inside its outline.
    region = (zone.astype(np.uint8) + (outline & zone))[None]
    return map_passes(_segment_block, da, {"model": "otsu", "model_hash": METHOD_HASH}, region)


def water_probability(
    power: npt.NDArray[np.floating[Any]], observed: Booleans, outline: Booleans, zone: Booleans
) -> npt.NDArray[np.float32]:
    """Probability of water in one image.

    Parameters
    ----------
    power
        Linear power, (y, x), filtered. Not read where not observed.
    observed
        bool, (y, x).
    outline
        bool, (y, x): inside the lake's outline, as known from elsewhere.
    zone
        bool, (y, x): where the lake is looked for, and where alone there can be water. Bounds leaks of the dark class
        into terrain shadow; a lake that grew further than the zone is cut there.

    Returns
    -------
    numpy.ndarray
        float32 (y, x): the fraction of water in pixels of the shore, 1 inside of it, 0 outside. NaN where not
        observed; NaN everywhere when the lake is not separable.

    Notes
    -----
    1. Otsu's threshold (Otsu 1979) of the dB values observed in the zone, which holds about as much lake as land.
    2. The lake is separable when 30 or more pixels are observed inside and around the outline each, the values have
       two modes (their density at the threshold is at most 0.8 of that at the lower mode), and dark pixels are more
       frequent inside the outline than around it, by 0.2 or more. Otherwise nothing is known: NaN, never 0.
    3. The lake is the dark pixels connected through their sides to any inside the outline; through corners too would
       let it into shadow that only touches it. Threads are cut before (opened: 3 pixels wide inside the outline, 5
       outside), since the darkest pixels of rough land form some along every shore.
    4. Its shore: in a pixel that holds the fraction f of water, power is f P_water + (1 - f) P_land. A threshold half
       way in dB lies far below half way in power, and makes the lake smaller by up to a quarter of a pixel all along
       the shore. So f is solved for in the pixels on either side of that shore, with the median power of the lake and
       that of the land nearby; water is f >= 1/2. Blur by a filter is symmetric in power and leaves the half-way point
       in place, as long as it stays within those pixels: with Lee filters and HyP3's it does, with a plain mean over
       7 x 7 pixels it does not, and the lake comes out smaller (by a tenth for the smaller ones).
    5. Only pixels with one of the other kind beside them keep their f. Deeper in, power departs from P_water or P_land
       by speckle, texture and blur, not by mixing; cut at 0 and 1 these would not average out.

    Examples
    --------
    >>> lake = np.zeros((20, 20), np.bool_)
    >>> lake[5:15, 5:15] = True
    >>> power = np.where(lake, 0.01, 0.2)
    >>> power[5:15, 4] = 0.105  # half water
    >>> probability = water_probability(power, power > 0, lake, np.ones_like(lake))
    >>> float(probability.sum().round(3))
    105.0
    """
    probability = np.where(observed, np.float32(0), np.float32(np.nan))
    decibels = 10 * np.log10(np.maximum(np.where(observed, power, 1.0), METHOD.floor).astype(np.float64))
    inside = observed & zone
    threshold = _separating_threshold(decibels, inside & outline, inside & ~outline)
    if threshold is None:
        return np.full(power.shape, np.nan, np.float32)
    dark = _connected(_without_threads(inside & (decibels < threshold), outline), outline)
    if not dark.any():
        return np.full(power.shape, np.nan, np.float32)
    fraction = _water_fraction(10 ** (decibels / 10), observed, dark, 10 ** (threshold / 10))
    water = _connected(inside & (fraction >= 0.5), dark)
    shore = observed & (_grown(water, 1) & ~water | _grown(observed & ~water, 1) & water)
    probability[water] = 1.0
    probability[shore & zone] = fraction[shore & zone]
    return probability


def _segment_block(
    power: npt.NDArray[np.floating[Any]], observed: Booleans, region: npt.NDArray[np.uint8]
) -> npt.NDArray[np.float32]:
    outline, zone = region[0] == 2, region[0] >= 1
    images = [
        water_probability(one, seen & np.isfinite(one), outline, zone)
        for one, seen in zip(power, observed, strict=True)
    ]
    return np.stack(images) if images else np.empty(power.shape, np.float32)


def _separating_threshold(decibels: Floats, within: Booleans, around: Booleans) -> float | None:
    """Otsu's threshold, or None when it does not separate the lake (`within` the outline) from what is `around`."""
    if min(within.sum(), around.sum()) < METHOD.fewest_pixels:
        return None
    values = decibels[within | around]
    threshold = otsu_threshold(values)
    if threshold is None or _valley(values, threshold) > METHOD.highest_valley:
        return None
    agreement = (decibels[within] < threshold).mean() - (decibels[around] < threshold).mean()
    return threshold if agreement >= METHOD.least_agreement else None


def otsu_threshold(values: Floats) -> float | None:
    """Threshold that makes the variance between the two classes it parts the largest (Otsu 1979).

    Parameters
    ----------
    values
        1-D, finite. Taken one by one, not in a histogram: no bins to choose, no outlier that stretches them.

    Returns
    -------
    float or None
        Half way between the two values it lies between; None when all values are equal.

    Examples
    --------
    >>> otsu_threshold(np.array([1.0, 2.0, 9.0, 10.0]))
    5.5
    """
    ordered = np.sort(values)
    if ordered.size == 0 or ordered[0] == ordered[-1]:
        return None
    number = np.arange(1, ordered.size)
    total = np.cumsum(ordered - ordered.mean())[:-1]
    between = total**2 / (number * (ordered.size - number))
    between[ordered[1:] == ordered[:-1]] = -1.0  # equal values can't be parted
    last = int(np.argmax(between))
    return float((ordered[last] + ordered[last + 1]) / 2)


def _valley(values: Floats, threshold: float) -> float:
    """Density of values at the threshold over that at the lower of the two classes' medians."""
    low, high = np.median(values[values < threshold]), np.median(values[values >= threshold])
    # An eighth of the distance smooths the histogram and keeps the three windows well apart.
    half_width = (high - low) / 8
    density = [np.count_nonzero(np.abs(values - centre) <= half_width) for centre in (low, threshold, high)]
    return density[1] / min(density[0], density[2])


def _water_fraction(power: Floats, observed: Booleans, lake: Booleans, threshold: float) -> npt.NDArray[np.float32]:
    """Fraction of water in each pixel near the shore of `lake`; 1 deeper inside, 0 farther out."""
    deep = lake & ~_grown(observed & ~lake, 2)
    water_level = np.median(power[deep if deep.any() else lake])
    # Land begins beyond the pixels beside the lake, which are mixed.
    land = observed & ~_grown(lake, 1, square=True)
    shore = observed & (_grown(lake, 1) & ~lake | _grown(observed & ~lake, 1) & lake)
    # The level of all land near the lake, for where too little of it is near or it is as dark as water (shadow).
    bright = observed & ~lake & (power >= threshold)
    near = bright & land & _grown(lake, METHOD.far_land_reach, square=True)
    common = np.median(power[near if near.any() else bright])
    level = _local_median(power, land, shore)
    level = np.where(level >= threshold, level, common)
    fraction = lake.astype(np.float64)
    fraction[shore] = np.clip((level - power[shore]) / (level - water_level), 0.0, 1.0)
    return fraction.astype(np.float32)  # before it is compared with 1/2, so that the result compares alike


def _local_median(power: Floats, among: Booleans, where: Booleans) -> Floats:
    """Median of the pixels `among` those within reach, for each of the pixels `where`; NaN where there are too few."""
    reach = METHOD.land_reach
    padded = np.pad(np.where(among, power, np.nan), reach, constant_values=np.nan)
    width = 2 * reach + 1
    windows = np.lib.stride_tricks.sliding_window_view(padded, (width, width))[where]
    ordered = np.sort(windows.reshape(len(windows), width * width), axis=1)  # NaN last
    count = np.count_nonzero(np.isfinite(ordered), axis=1)
    row = np.arange(len(ordered))
    median = (ordered[row, np.maximum(count - 1, 0) // 2] + ordered[row, count // 2]) / 2
    return np.where(count >= METHOD.fewest_land_pixels, median, np.nan)


def _connected(candidates: Booleans, seeds: Booleans) -> Booleans:
    """Candidates connected through their sides to one that is a seed."""
    from scipy import ndimage

    labels, _ = ndimage.label(candidates)
    touching = np.unique(labels[candidates & seeds])
    return np.isin(labels, touching[touching > 0])


def _without_threads(dark: Booleans, outline: Booleans) -> Booleans:
    """What is left of the dark pixels when parts too narrow to be told from rough land are cut off."""
    from scipy import ndimage

    square = np.ones((METHOD.narrowest_inside, METHOD.narrowest_inside), np.bool_)
    disc = np.ones((METHOD.narrowest_outside, METHOD.narrowest_outside), np.bool_)
    disc[:: len(disc) - 1, :: len(disc) - 1] = False
    wide = np.asarray(ndimage.binary_opening(dark, disc), np.bool_)
    return wide | (np.asarray(ndimage.binary_opening(dark, square), np.bool_) & outline)


def _grown(mask: Booleans, pixels: int, *, square: bool = False) -> Booleans:
    """Mask and everything at most that many steps away: steps through sides, or through corners too (`square`)."""
    from scipy import ndimage

    step = ndimage.generate_binary_structure(2, 2 if square else 1)
    return np.asarray(ndimage.binary_dilation(mask, step, iterations=pixels), np.bool_)
