"""Intervals by bootstrap over clusters: images of one lake and date, or of one lake, are not independent."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cubekit.errors import ConfigError


class Interval(NamedTuple):
    """A statistic and its interval."""

    estimate: float
    low: float
    high: float
    clusters: int


def bootstrap(
    values: npt.NDArray[Any],
    statistic: Callable[[npt.NDArray[Any]], float],
    clusters: Sequence[Hashable],
    *,
    resamples: int = 2000,
    level: float = 0.95,
    seed: int = 0,
) -> Interval:
    """Interval of a statistic by drawing whole clusters with replacement.

    Parameters
    ----------
    values
        One row an image, e.g. its counts.
    statistic
        Of such rows, as many as may be.
    clusters
        For each row what it belongs to. Rows of one cluster are drawn together: images of one lake and date, or all
        of one lake, are not independent, and drawn one by one would make the interval too narrow.
    resamples
        How many times.
    level
        Of the interval, between 0 and 1.
    seed
        The same seed gives the same interval.

    Returns
    -------
    Interval
        The percentile interval (Efron & Tibshirani 1993). NaN bounds when there are fewer than two clusters. Resamples
        that do not define the statistic are left out.

    Raises
    ------
    ConfigError
        When rows and clusters are not as many, or `resamples` or `level` is out of range.

    Examples
    --------
    >>> interval = bootstrap(np.arange(10.0), np.mean, range(10))
    >>> bool(interval.low < 4.5 < interval.high)
    True
    """
    if len(values) != len(clusters):
        msg = f"{len(values)} rows of values and {len(clusters)} clusters; give each row its cluster"
        raise ConfigError(msg)
    if resamples < 1 or not 0 < level < 1:
        msg = f"resamples is {resamples} and level {level:g}; give at least 1, and a level between 0 and 1"
        raise ConfigError(msg)
    rows: dict[Hashable, list[int]] = {}
    for number, cluster in enumerate(clusters):
        rows.setdefault(cluster, []).append(number)
    groups = [np.array(numbers) for numbers in rows.values()]
    estimate = float(statistic(values)) if groups else np.nan
    if len(groups) < 2:
        return Interval(estimate, np.nan, np.nan, len(groups))
    rng = np.random.default_rng(seed)
    drawn = np.array(
        [
            statistic(values[np.concatenate([groups[one] for one in rng.integers(len(groups), size=len(groups))])])
            for _ in range(resamples)
        ]
    )
    drawn = drawn[np.isfinite(drawn)]
    if not drawn.size:
        return Interval(estimate, np.nan, np.nan, len(groups))
    low, high = np.quantile(drawn, [(1 - level) / 2, (1 + level) / 2])
    return Interval(estimate, float(low), float(high), len(groups))
