"""Which pixels of one pass are this lake's water, and how much that is. Plain numpy, one pass at a time."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError, GridMismatch, LakeError
from cubekit.lakes import Lake
from cubekit.series._interval import TAIL, bounds

if TYPE_CHECKING:
    from affine import Affine
    from shapely import MultiPolygon

RIM_PIXELS = 2
"""How far beyond the thresholded water its partly wet rim reaches, pixels.

One pixel holds every mixed pixel of a sharp shore. A network's shore is softer: what it takes off inside the shore it
gives back outside. Measured on discs with a logistic shore of half a pixel, a rim of one pixel loses 0.04 pixels of
width along the shore and a rim of two 0.004. A wider rim would collect noise.
"""

OUTLINE_KNOWN = 0.5
"""Share of the outline that must be known for an area: of a lake mostly unseen, what is seen says too little."""

Masks = tuple[NDArray[np.bool_], NDArray[np.bool_]]


def check(probability: xr.DataArray, threshold: float) -> None:
    """Refuse what is not a stack of probabilities, without looking at a value."""
    if set(probability.dims) != {"time", "y", "x"}:
        msg = (
            f"probability has the dims {probability.dims}; it needs time, y and x (expand_dims('time') adds the first)"
        )
        raise ConfigError(msg)
    if probability.dtype.kind != "f":
        msg = f"probability is {probability.dtype}; give floats from 0 to 1 with NaN where not observed"
        raise ConfigError(msg)
    if not 0 < threshold < 1:
        msg = f"threshold {threshold} is not between 0 and 1; 0.5 is the usual one"
        raise ConfigError(msg)


def window(probability: xr.DataArray, lake: Lake) -> tuple[slice, slice]:
    """Rows and columns of the lake's lattice that a probability covers.

    Raises
    ------
    GridMismatch
        When its pixel centres are not pixel centres of the lattice, y descending and x ascending.
    """
    return _along(probability, lake, "y"), _along(probability, lake, "x")


def _along(probability: xr.DataArray, lake: Lake, name: str) -> slice:
    lattice = lake.outline_mask[name].values
    if name in probability.indexes and probability.sizes[name] > 0:
        given = probability.indexes[name].to_numpy().astype(float)
        first = int(np.argmin(np.abs(lattice - given[0])))
        stretch = slice(first, first + given.size)
        if lattice[stretch].size == given.size and np.allclose(lattice[stretch], given, rtol=0, atol=1e-3):
            return stretch
        found = f"{name} from {given[0]:.2f} to {given[-1]:.2f} in {given.size} steps"
    else:
        found = f"no coordinate {name}"
    msg = (
        f"lake {lake.id!r}: the probability has {found}, its lattice of {lake.spacing} m has {name} from "
        f"{lattice[0]:.2f} to {lattice[-1]:.2f}; give it on that lattice (y descending), or use lake.at_spacing(...)"
    )
    raise GridMismatch(msg)


def masks(lake: Lake, rows: slice, columns: slice) -> Masks:
    """Zone and outline of a lake in a window of its lattice."""
    outline = lake.outline_mask.to_numpy()
    if not outline.any():
        msg = f"lake {lake.id!r}: its outline holds no pixel centre of its lattice of {lake.spacing} m; it is too small"
        raise LakeError(msg)
    return lake.zone_mask.to_numpy()[rows, columns], outline[rows, columns]


def lake_water(
    probability: NDArray[Any], zone: NDArray[np.bool_], outline: NDArray[np.bool_], threshold: float
) -> NDArray[np.bool_]:
    """Wet pixels of the zone that are connected to the outline, over shared pixel edges (4-connectivity).

    A component counts when at least one of its pixels lies inside the outline. Over edges only, because a moraine one
    pixel wide then parts two waters whichever way it runs; over corners too, it would leak where it runs diagonally.
    Nothing of the lake is lost by it: parts that are cut off from each other inside the outline all count.
    """
    from scipy import ndimage

    wet = zone & (probability >= threshold)
    labels, count = ndimage.label(wet)
    belongs = np.zeros(count + 1, dtype=bool)
    belongs[labels[wet & outline]] = True
    return np.asarray(belongs[labels])


def lake_probability(
    probability: NDArray[Any], known: NDArray[np.bool_], outline: NDArray[np.bool_]
) -> NDArray[np.float32]:
    """Highest threshold at which a pixel is water of this lake, 0 where at none: its probability to be that.

    A pixel that is surely water but behind a sill of 0.3 is the lake's with 0.3, as the sill may be land. At any
    threshold, the pixels from it on are those of `lake_water`, but for what is nearer than `TAIL` to 0 or 1: that
    counts as 0 or 1. Not known counts as 0.
    """
    chance = np.where(known & (probability >= TAIL), probability, 0).astype(np.float32)
    chance[chance > 1 - TAIL] = 1
    reached = np.zeros_like(chance)
    box = _around(chance > 0)
    chance, within, outline = chance[box], reached[box], outline[box]
    np.copyto(within, chance, where=outline)
    # Two leaps first: nearly all water is reached at once, and only its soft shore step by step.
    for level in (0.5, 1.0):
        water = lake_water(chance, chance > 0, outline, level)
        np.maximum(within, np.float32(level), out=within, where=water)
    down, up, right, left = np.s_[1:], np.s_[:-1], np.s_[:, 1:], np.s_[:, :-1]
    while True:
        before = within.copy()
        for to, source in ((down, up), (up, down), (right, left), (left, right)):
            np.maximum(within[to], np.minimum(within[source], chance[to]), out=within[to])
        if np.array_equal(within, before):
            return reached


def _around(mask: NDArray[np.bool_]) -> tuple[slice, slice]:
    """Rows and columns that hold all of a mask; empty ones when nothing is in it."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)) if rows.size else np.s_[:0, :0]


def measure(
    probability: NDArray[Any],
    observed: NDArray[np.bool_],
    zone: NDArray[np.bool_],
    outline: NDArray[np.bool_],
    *,
    threshold: float,
    block: float,
    floor: float,
    zone_pixels: int,
    outline_pixels: int,
) -> tuple[float, float, float, float, float, float, float]:
    """Count one pass, in pixels: wet, at least, at most, summed probability, dry, not observed; observed fraction.

    At least and at most are the bounds of the block bootstrap (see `bounds`) of what was seen; at most with what may be
    water for all that is known: the unknown pixels that are connected to the outline over wet or unknown ones, those
    outside of the array included, and what was seen behind them. The first five are NaN when less than half of the
    outline is known.
    """
    seen = int(np.count_nonzero(zone & observed))
    missing, fraction = float(zone_pixels - seen), seen / zone_pixels
    known = zone & observed & ~np.isnan(probability)
    count = int(np.count_nonzero(known))
    values = probability[known]
    if count and (values.min() < 0 or values.max() > 1):
        msg = f"probabilities range from {values.min():g} to {values.max():g}; they must lie between 0 and 1"
        raise ConfigError(msg)
    if outline_pixels - np.count_nonzero(outline & known) > (1 - OUTLINE_KNOWN) * outline_pixels:
        return np.nan, np.nan, np.nan, np.nan, np.nan, missing, fraction
    water = lake_water(probability, zone & observed, outline, threshold)
    hopeful = np.where(known, probability, 1.0)
    possible = lake_water(hopeful, zone, outline, threshold)
    unknown = np.count_nonzero(possible & ~known) + zone_pixels - np.count_nonzero(zone)
    wet, reach = int(np.count_nonzero(water)), int(np.count_nonzero(possible & known))
    shore, fractions = 0.0, 0.0
    if wet:
        shore, fractions = _shore_length(water), _summed(probability, known, water, threshold)
    # Also where nothing is wet: a lake that is 0.4 everywhere may still be there.
    chance = lake_probability(probability, known, outline)
    low, high = bounds(chance, wet, shore, block=block, floor=floor)
    if count < zone.sum():
        # What isn't seen is no dam: likely water behind it belongs to the upper bound, surely wet or not.
        behind = np.where(known, lake_probability(hopeful, zone, outline), 0)
        if reach > wet or not np.array_equal(behind, chance):
            high = bounds(behind, reach, shore, block=block, floor=floor)[1]
    return float(wet), low, high + unknown, fractions, float(count - wet), missing, fraction


def _shore_length(water: NDArray[np.bool_]) -> float:
    """Length of the shore, islands included, pixels.

    Crofton's formula in four directions. Counting pixel edges instead is exact for the staircase but 27 % (4/pi) too
    long for a smooth shore, at any spacing.
    """
    from skimage.measure import perimeter_crofton

    return float(perimeter_crofton(water[_around(water)], directions=4))  # type: ignore[no-untyped-call]


def _summed(
    probability: NDArray[Any], observed: NDArray[np.bool_], water: NDArray[np.bool_], threshold: float
) -> float:
    """Sum of the probability over the water and its rim; other waters and what lies beyond a gap stay out."""
    from scipy import ndimage

    reachable = water | (observed & (probability < threshold))
    rim = ndimage.binary_dilation(water, structure=np.ones((3, 3), bool), iterations=RIM_PIXELS, mask=reachable)
    return float(probability[rim].sum(dtype=np.float64))


def polygons(water: NDArray[np.bool_], transform: Affine) -> MultiPolygon:
    """Pixel outlines of a mask, islands as holes, in the units of `transform`."""
    import shapely
    from rasterio.features import shapes

    # Over edges only, as above: rings that touch themselves at a corner would not be valid.
    found = shapes(water.astype(np.uint8), mask=water, connectivity=4, transform=transform)
    return shapely.MultiPolygon(
        [shapely.Polygon(rings[0], rings[1:]) for rings in (g["coordinates"] for g, _ in found)]
    )
