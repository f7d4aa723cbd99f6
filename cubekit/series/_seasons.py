"""Statistics of the passes of every season: plain numpy, all lakes at once."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

PERCENTILE = 0.9
"""Quantile of a season that `summer_maxima` reports."""


def expected_maximum_weights(count: int, looks: int) -> NDArray[np.float64]:
    """Weights of ordered values whose sum is the mean of the maxima of all subsets of some size.

    Parameters
    ----------
    count
        Values there are, 0 or more.
    looks
        Size of the subsets, 1 or more.

    Returns
    -------
    numpy.ndarray
        float64, one weight a value, the smallest value first; they add up to 1. All NaN when there are fewer values
        than `looks`.

    Notes
    -----
    The i-th smallest value is the maximum of C(i - 1, looks - 1) of the C(count, looks) subsets (Hoeffding 1948, Ann.
    Math. Stat. 19, on U-statistics; they have the least variance of what is unbiased whatever the distribution). By the
    ratio of successive weights, so that no binomial overflows.

    Examples
    --------
    >>> expected_maximum_weights(4, 2).round(3).tolist()  # of 6 pairs, 3 have the largest value as theirs
    [0.0, 0.167, 0.333, 0.5]
    """
    if count < looks:
        return np.full(count, np.nan)
    weights = np.zeros(count)
    weights[-1] = looks / count
    for index in range(count - 2, looks - 2, -1):
        weights[index] = weights[index + 1] * (index + 2 - looks) / (index + 1)
    return weights


def reduce_seasons(
    area: NDArray[np.float64],
    fraction: NDArray[np.float64],
    inside: NDArray[np.bool_],
    allowed: NDArray[np.bool_],
    groups: NDArray[np.int64],
    times: NDArray[np.datetime64],
    tracks: NDArray[np.int64],
    *,
    shape: tuple[int, int],
    looks: int,
    min_observed: float,
) -> tuple[NDArray[Any], ...]:
    """Statistics of every track and year, time last in all arrays; `summer_maxima` names them.

    `inside` says which passes lie in a season, `allowed` which of these may be used, `groups` to which track and year
    they belong: track * years + year.
    """
    area, fraction, inside, allowed = np.broadcast_arrays(area, fraction, inside, allowed)
    lakes = area.shape[:-1]
    fraction = np.where(np.isnan(fraction), 0.0, fraction)  # nothing known is nothing seen
    best = np.stack([fraction[..., tracks == track].max(axis=-1, initial=0.0) for track in range(shape[0])], axis=-1)
    usable = inside & allowed & ~np.isnan(area) & (fraction >= min_observed * best[..., tracks])
    numbers = np.full((4, *lakes, *shape), np.nan)
    passes, excluded = np.zeros((*lakes, *shape), np.int32), np.zeros((*lakes, *shape), np.int32)
    moment = np.full((*lakes, *shape), np.datetime64("NaT"), times.dtype)
    for group in np.unique(groups):
        cell = (..., *np.unravel_index(group, shape))
        members = np.flatnonzero(groups == group)
        members = members[np.argsort(times[members], kind="stable")]
        used = usable[..., members]
        passes[cell] = used.sum(axis=-1)
        excluded[cell] = inside[..., members].sum(axis=-1) - passes[cell]
        values = np.where(used, area[..., members], np.nan)
        numbers[(slice(None), *cell)] = _statistics(values, passes[cell], looks)
        # The first of equal ones, as members are in the order of time
        first = np.argmax(np.where(used, values, -np.inf), axis=-1)
        moment[cell] = np.where(passes[cell] > 0, times[members][first], np.datetime64("NaT"))
    maximum, fair, percentile, median = numbers
    return maximum, fair, percentile, median, passes, excluded, moment, best


def _statistics(values: NDArray[np.float64], count: NDArray[np.int32], looks: int) -> NDArray[np.float64]:
    """Maximum, expected maximum of `looks`, 90th percentile, median of the last axis, NaN left out."""
    ordered = np.sort(values, axis=-1)  # NaN last
    found = np.full((4, *count.shape), np.nan)
    for length in np.unique(count):
        if length == 0:
            continue
        rows = count == length
        sample = ordered[rows][..., :length]
        # Weights of 0 would not hide an infinite value, but areas have none
        weights = expected_maximum_weights(int(length), looks)
        place = np.clip((length + 1 / 3) * PERCENTILE - 2 / 3, 0, length - 1)  # Hyndman and Fan 1996, type 8
        low = int(place)
        high = min(low + 1, length - 1)
        percentile = sample[..., low] + (place - low) * (sample[..., high] - sample[..., low])
        median = (sample[..., (length - 1) // 2] + sample[..., length // 2]) / 2
        found[:, rows] = np.stack([sample[..., -1], (sample * weights).sum(axis=-1), percentile, median])
    return found
