"""Intervals of areas: a spatial block bootstrap of probabilities, and the block that makes it cover known truth."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from cubekit.errors import ConfigError
from cubekit.segmentation.bootstrap import Interval, bootstrap

LEVEL = 0.95
"""Of the intervals: their ends are the percentiles 2.5 and 97.5 of the drawn areas."""

TAIL = 0.01
"""Probabilities nearer than this to 0 or 1 count as 0 or 1.

Calibration says nothing of them: a network's tails are as it likes. Half a per cent all over the land would add as
much as a shore's worth of water.
"""

DEFAULT_BLOCK_M = 800.0
"""Length of a block where no other is fitted, metres.

The median of what five small networks needed, trained on noisy discs at 20 m (speckle of 4.4 looks, with and without a
7 x 7 Lee filter, water and land that differ by lake and pass; 60 passes to calibrate, 50 lakes of 12 to fit): 400, 800,
800, above 800 (the longest tried), 2,000. The filter alone makes errors alike over 140 m; most of the networks' error
moved the whole shore of a lake.
"""

UNFITTED_FLOOR = 0.5
"""Least margin of an interval whose block was not fitted, pixels along the shore: the usual bound of inventories."""

GRID_VARIANCE = 0.0724
"""Variance of a pixel count per pixel of shore, from the rounding to whole pixels alone (Gundersen & Jensen 1987)."""

_SHIFTS, _DRAWS_PER_SHIFT = 10, 40
_SEED = 20_150_609


def drawn_counts(probability: NDArray[Any], block: float) -> NDArray[np.float64]:
    """Draw the number of water pixels of an image, whose errors are alike within a block and independent between them.

    Parameters
    ----------
    probability
        That a pixel is water of this lake, (y, x), no NaN.
    block
        Side of a block, pixels, above 0; it need not be whole. Up to 1 all pixels are independent.

    Returns
    -------
    numpy.ndarray
        400 counts. Always the same for the same image, wherever in a larger one it lies.

    Notes
    -----
    Every block draws one number u, uniform from 0 to 1, and its pixels are water where their probability is above u:
    the shore of a whole block moves in or out together, the likelier pixels first. The grid of blocks is shifted at
    random, so that no pixel always lies at an edge; the correlation of two pixels then falls linearly with their
    distance. Their count has the mean that the probabilities say, whatever the block.

    Examples
    --------
    >>> shore = np.tile([1.0, 0.5, 0.0], (100, 1))
    >>> [int(drawn_counts(shore, block).std().round()) for block in (1, 20, 1e9)]
    [5, 23, 50]
    """
    certain = np.count_nonzero(probability > 1 - TAIL)
    rows, columns = np.nonzero((probability >= TAIL) & (probability <= 1 - TAIL))
    counts = np.full((_SHIFTS, _DRAWS_PER_SHIFT), float(certain))
    if not rows.size:
        return counts.ravel()
    chance = probability[rows, columns].astype(np.float32)
    rows, columns = rows - rows.min(), columns - columns.min()
    rng = np.random.default_rng(_SEED)
    side = max(float(block), 1.0)
    for shift, (down, right) in enumerate(rng.random((_SHIFTS, 2))):
        row, column = (rows / side + down).astype(np.intp), (columns / side + right).astype(np.intp)
        number = row * (column.max() + 1) + column
        # Only blocks that hold an uncertain pixel draw: for most lakes a few dozen along the shore.
        used = np.zeros(number.max() + 1, np.bool_)
        used[number] = True
        place = (np.cumsum(used) - 1)[number]
        uniform = rng.random((_DRAWS_PER_SHIFT, int(place.max()) + 1), dtype=np.float32)
        counts[shift] += np.count_nonzero(uniform.take(place, axis=1) < chance, axis=1)
    return counts.ravel()


def bounds(probability: NDArray[Any], wet: int, shore: float, *, block: float, floor: float) -> tuple[float, float]:
    """Bounds of the count of water pixels, the first from 0 to `wet`, the second from `wet` on.

    Parameters
    ----------
    probability
        That a pixel is water of this lake, (y, x), no NaN.
    wet
        Pixels that were counted as water.
    shore
        Length of their shore, pixels.
    block
        As in `drawn_counts`.
    floor
        Least distance of either bound, pixels along the shore. Rounding to whole pixels is never left out.
    """
    low, high = np.quantile(drawn_counts(probability, block), [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    least = max(floor * shore, 1.96 * float(np.sqrt(GRID_VARIANCE * shore)))
    return max(min(float(low), wet - least), 0.0), max(float(high), wet + least)


class BlockFit(NamedTuple):
    """A fitted block, and how well it does."""

    block: float | None
    """The smallest block that covers enough, in the unit of the blocks tried (metres); None when none does."""

    coverage: Interval
    """Share of passes whose truth lies in their interval, with an interval from drawing lakes; of the widest block
    when none is enough."""

    held_out: Interval
    """The same when each lake's block is fitted on all other lakes: what to expect of new ones."""

    by_block: pd.DataFrame
    """One row a block: coverage, coverage_low, coverage_high, below and above (shares of passes whose truth lies
    there), width (mean of high - low over truth)."""

    by_lake: pd.Series[float]
    """Coverage of each lake. Lakes far below the rest have an error of their own that all their passes share."""


def fit_block(
    areas: Mapping[float, pd.DataFrame | Mapping[str, ArrayLike]],
    truth: ArrayLike,
    lakes: Sequence[Hashable],
    *,
    coverage: float = LEVEL,
) -> BlockFit:
    """Find the smallest block whose intervals hold the truth often enough.

    Parameters
    ----------
    areas
        For each block tried, metres, the areas of the same passes as `lake_area(..., block=block)` gives them: a table
        or Dataset with `area_low` and `area_high`. Passes without an area (NaN) are left out.
    truth
        True area of each pass, km2, above 0 and finite.
    lakes
        Which lake each pass is of.
    coverage
        Share of passes whose truth must lie within, between 0 and 1.

    Returns
    -------
    BlockFit
        The smallest block from which on, in order of size, every block tried covers enough.

    Raises
    ------
    ConfigError
        When no block or only one lake is given, lengths differ, the truth is not positive, `coverage` is out of range,
        or blocks know different passes.

    Notes
    -----
    Passes of one lake share its shape, its surroundings and the network's habit with it, so lakes are drawn, not
    passes (Efron & Tibshirani 1993). A coverage "of at least" picked from the same passes is a little too high
    or low as luck has it; `held_out` is free of that.

    Examples
    --------
    >>> truth, lakes = np.full(40, 1.0), np.repeat(np.arange(8), 5)
    >>> area = truth + np.linspace(-0.1, 0.1, 40)
    >>> areas = {block: {"area_low": area - block / 1e3, "area_high": area + block / 1e3} for block in (50, 100, 200)}
    >>> fit = fit_block(areas, truth, lakes)
    >>> fit.block, fit.coverage.estimate
    (100, 1.0)
    """
    blocks, low, high, true, names = _checked(areas, truth, lakes, coverage)
    below, above = true < low, true > high
    covered = ~(below | above)
    index, lake = np.unique(names, return_inverse=True)
    passes = np.bincount(lake).astype(float)
    hits = np.stack([np.bincount(lake, weights=row, minlength=len(index)) for row in covered])  # blocks, lakes
    share = hits.sum(axis=1) / passes.sum()
    chosen = _smallest(share, coverage)
    intervals = [_over_lakes(row, passes) for row in hits]
    others = [
        _smallest((hits.sum(axis=1) - hits[:, one]) / (passes.sum() - passes[one]), coverage)
        for one in range(len(index))
    ]
    apart = np.array([hits[-1 if which is None else which, one] for one, which in enumerate(others)])
    table = pd.DataFrame(
        {
            "coverage": share,
            "coverage_low": [one.low for one in intervals],
            "coverage_high": [one.high for one in intervals],
            "below": below.mean(axis=1),
            "above": above.mean(axis=1),
            "width": ((high - low) / true).mean(axis=1),
        },
        index=pd.Index(blocks, name="block"),
    )
    row = -1 if chosen is None else chosen
    return BlockFit(
        block=None if chosen is None else blocks[chosen],
        coverage=intervals[row],
        held_out=_over_lakes(apart, passes),
        by_block=table,
        by_lake=pd.Series(hits[row] / passes, index=pd.Index(index, name="lake"), name="coverage"),
    )


def _smallest(share: NDArray[np.float64], coverage: float) -> int | None:
    """Place of the first block from which on all cover enough."""
    short = np.flatnonzero(share < coverage)
    first = int(short[-1]) + 1 if short.size else 0
    return first if first < share.size else None


def _over_lakes(hits: NDArray[np.float64], passes: NDArray[np.float64]) -> Interval:
    """Share of hits, lakes drawn with replacement."""
    rows = np.stack([hits, passes], axis=1)
    return bootstrap(rows, lambda drawn: float(drawn[:, 0].sum() / drawn[:, 1].sum()), range(len(rows)))


def _checked(
    areas: Mapping[float, pd.DataFrame | Mapping[str, ArrayLike]],
    truth: ArrayLike,
    lakes: Sequence[Hashable],
    coverage: float,
) -> tuple[list[float], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[Any]]:
    """Blocks in order of size; bounds (blocks, passes), truth and lakes of the passes that have an area."""
    true, names = np.asarray(truth, np.float64), np.asarray(lakes)
    blocks = sorted(areas)
    if not blocks or not blocks[0] > 0:
        msg = f"areas holds the blocks {blocks}; give the areas of at least one block, in metres above 0"
        raise ConfigError(msg)
    if not 0 < coverage < 1:
        msg = f"coverage {coverage} is not between 0 and 1; 0.95 is the usual one"
        raise ConfigError(msg)
    bounds = [[np.asarray(areas[one][name], np.float64) for one in blocks] for name in ("area_low", "area_high")]
    lengths = sorted({true.shape, names.shape, *(row.shape for rows in bounds for row in rows)})
    if len(lengths) > 1 or true.ndim != 1:
        msg = f"truth, lakes and the areas of the blocks have the shapes {lengths}; give one value a pass in each"
        raise ConfigError(msg)
    if not (np.isfinite(true) & (true > 0)).all():
        msg = f"truth lies between {true.min()} and {true.max()} km2; it must be finite and above 0 at every pass"
        raise ConfigError(msg)
    low, high = (np.stack(rows) for rows in bounds)
    known = ~np.isnan(low)
    if (known != known[0]).any() or (np.isnan(high) == known).any():
        msg = "the blocks have areas of different passes; measure the same probabilities with every block"
        raise ConfigError(msg)
    kept = known[0]
    if np.unique(names[kept]).size < 2:
        msg = f"passes with an area are of {np.unique(names[kept]).size} lake(s); give those of two or more"
        raise ConfigError(msg)
    return blocks, low[:, kept], high[:, kept], true[kept], names[kept]
