"""Trends of short series: Theil-Sen's slope, and an exact Mann-Kendall test."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError
from cubekit.series._kendall import EXACT_UP_TO, p_value, smallest_significant

VERDICTS = ("too_few_seasons", "no_trend_detected", "increasing", "decreasing")
"""Verdicts of `trend` by the order of their codes."""

MIN_SEASONS = 8
"""Seasons needed for a verdict.

At 8, |S| >= 18 of 28 pairs (tau 0.64) is significant. With 7 it takes tau 0.71, with 6 0.87, with 5 a perfect order,
with 4 nothing can be: a test of so few is nearly blind, and "no trend detected" would say more than is known.
"""

LEVEL = 0.05
"""Level of the test and, as 1 - level, of the interval."""

_MIN_FOR_P = 4
_BLOCK = 2_000_000  # numbers held at once by the pairwise slopes, 16 MB


def trend(series: xr.DataArray, *, dim: str = "year") -> xr.Dataset:
    """Slope, its interval, and a verdict.

    Parameters
    ----------
    series
        Numbers over `dim` and any other dims (track, lake, y, x); NaN is a missing season. numpy or dask.
    dim
        Has a numeric coordinate with every value once, e.g. the year. Its true distances are used: a gap counts as
        many years as it lasts.

    Returns
    -------
    xarray.Dataset
        Over the other dims:

        ``slope``, ``intercept``
            Theil and Sen: the median of the slopes of all pairs, per unit of `dim` (km2 per year), and the median of
            what remains, so that the line is intercept + slope * year. Reported from 2 seasons on, also where the
            verdict is that these are too few: it then describes and proves nothing.
        ``slope_low``, ``slope_high``
            95 % interval (Sen 1968) from the same distribution of S as the p-value, so that p < 0.05 and an interval
            without 0 mean the same (when no values are equal). NaN below 5 seasons, where no such interval exists.
        ``p_value``
            Two-sided Mann-Kendall test. Up to 50 seasons exact, ties included; beyond, the normal approximation with
            tie and continuity corrections. NaN below 4 seasons.
        ``n``
            int32, seasons that are not missing.
        ``verdict``
            int8, CF flags: 0 too few seasons (below 8), 1 no trend detected, 2 increasing, 3 decreasing (p < 0.05, by
            the sign of S).

    Raises
    ------
    ConfigError
        When `dim` is absent, has no numeric coordinate or one with repeated values, or the series is not of numbers.

    Notes
    -----
    The p-value holds for independent seasons. With autocorrelation it is too small: of series without trend, 14 % are
    found significant at n = 10 and a lag-1 autocorrelation of 0.4. The uncertainty of a single area is mostly common
    to all seasons and is not in the interval.

    Lazy with dask, `dim` is merged into one chunk.

    Sen, P. K. (1968), J. Am. Stat. Assoc. 63, 1379. Kendall, M. G. (1975), Rank Correlation Methods.

    Examples
    --------
    >>> years = np.array([2015, 2016, 2017, 2018, 2020, 2021, 2022, 2023, 2024])
    >>> areas = xr.DataArray(1.5 + 0.01 * (years - 2015), coords={"year": years}, dims="year", attrs={"units": "km2"})
    >>> found = trend(areas)
    >>> round(float(found["slope"]), 4), int(found["n"]), VERDICTS[int(found["verdict"])]
    (0.01, 9, 'increasing')
    """
    ordered = _ordered(series, dim)
    outputs = xr.apply_ufunc(
        _trends,
        ordered.chunk({dim: -1}) if ordered.chunks is not None else ordered,
        kwargs={"x": ordered.indexes[dim].to_numpy().astype(np.float64)},
        input_core_dims=[[dim]],
        output_core_dims=[[]] * 7,
        dask="parallelized",
        output_dtypes=[np.float64] * 5 + [np.int32, np.int8],
    )
    names = ("slope", "slope_low", "slope_high", "intercept", "p_value", "n", "verdict")
    long_names = (
        "Theil-Sen slope",
        "lower end of the slope's 95 % interval",
        "upper end of the slope's 95 % interval",
        f"value of the line at {dim} 0",
        "two-sided p of the Mann-Kendall test",
        "values that are not missing",
        "verdict",
    )
    units = series.attrs.get("units")
    per_step = None if units is None else f"{units} {dim}-1"
    found = xr.Dataset(dict(zip(names, outputs, strict=True)))
    for name, long_name, unit in zip(
        names, long_names, (per_step, per_step, per_step, units, "1", "1", None), strict=True
    ):
        found[name].attrs = {"long_name": long_name, **({} if unit is None else {"units": unit})}
    found["verdict"].attrs |= {
        "flag_values": np.arange(len(VERDICTS), dtype=np.int8),
        "flag_meanings": " ".join(VERDICTS),
    }
    return found.assign_attrs(
        method=f"Theil-Sen slope, Mann-Kendall test (exact up to {EXACT_UP_TO} values)",
        dim=dim,
        level=LEVEL,
        of=str(series.name),
    )


def _ordered(series: xr.DataArray, dim: str) -> xr.DataArray:
    if dim not in series.dims:
        msg = f"the series has the dims {series.dims}, not {dim!r}; name the one to take the trend along with dim="
        raise ConfigError(msg)
    if series.dtype.kind not in "fiu":
        msg = f"the series is {series.dtype}; a trend needs numbers"
        raise ConfigError(msg)
    index = series.indexes.get(dim)
    if index is None or index.dtype.kind not in "fiu" or index.hasnans:
        given = "no coordinate" if index is None else f"a coordinate of {index.dtype}"
        msg = f"{dim!r} has {given}; a trend needs a number for every step, e.g. the year (decimal years for dates)"
        raise ConfigError(msg)
    if not index.is_unique:
        repeated = sorted({str(value) for value in index[index.duplicated()]})
        msg = f"{dim!r} holds {', '.join(repeated)} more than once; give one value a step, e.g. by summer_maxima"
        raise ConfigError(msg)
    return series if index.is_monotonic_increasing else series.sortby(dim)


def _trends(y: NDArray[Any], *, x: NDArray[np.float64]) -> tuple[NDArray[Any], ...]:
    """Trends along the last axis, in blocks of series so that the pairwise slopes fit in memory."""
    flat = y.reshape(-1, y.shape[-1]) if y.size else np.empty((int(np.prod(y.shape[:-1])), y.shape[-1]))
    step = max(1, _BLOCK // max(1, len(x) * (len(x) - 1) // 2))
    numbers, n = np.full((5, len(flat)), np.nan), np.zeros(len(flat), np.int32)
    verdict = np.zeros(len(flat), np.int8)
    for start in range(0, len(flat), step):
        rows = slice(start, start + step)
        block = flat[rows].astype(np.float64)
        block[~np.isfinite(block)] = np.nan
        numbers[:4, rows], n[rows], s = _theil_sen(block, x)
        numbers[4, rows] = _mann_kendall(block, n[rows], s)
        significant = (n[rows] >= MIN_SEASONS) & (numbers[4, rows] < LEVEL)
        verdict[rows] = np.where(n[rows] < MIN_SEASONS, 0, np.where(significant, np.where(s > 0, 2, 3), 1))
    shape = y.shape[:-1]
    return (*(values.reshape(shape) for values in numbers), n.reshape(shape), verdict.reshape(shape))


def _theil_sen(
    y: NDArray[np.float64], x: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.int32], NDArray[np.int64]]:
    """Slope, its bounds and intercept (4, series); n; Mann-Kendall's S."""
    n = np.count_nonzero(~np.isnan(y), axis=-1).astype(np.int32)
    pairs = n.astype(np.int64) * (n - 1) // 2
    first, second = np.triu_indices(len(x), 1)
    slopes = (y[:, second] - y[:, first]) / (x[second] - x[first])
    s = np.count_nonzero(slopes > 0, axis=-1) - np.count_nonzero(slopes < 0, axis=-1)
    slopes.sort(axis=-1)  # NaN last
    slope = _median(slopes, pairs)
    low, high = np.full(len(y), np.nan), np.full(len(y), np.nan)
    for length in np.unique(n):
        significant = smallest_significant(int(length), LEVEL)
        if significant is not None:
            # Slopes b for which the rest, y - b x, would not be significant: S falls by 2 at every pairwise slope.
            members = n == length
            rank = (length * (length - 1) // 2 - significant) // 2
            low[members], high[members] = slopes[members, rank], slopes[members, pairs[members] - 1 - rank]
    residuals = np.sort(y - slope[:, None] * x, axis=-1)
    intercept = np.where(n >= 2, _median(residuals, n), np.nan)
    return np.stack([slope, low, high, intercept]), n, s


def _median(ordered: NDArray[np.float64], count: NDArray[Any]) -> NDArray[np.float64]:
    """Median of the first `count` of each sorted row, NaN for none."""
    padded = np.concatenate([ordered, np.full((len(ordered), 1), np.nan)], axis=-1)
    row = np.arange(len(ordered))
    return np.asarray((padded[row, (count - 1) // 2] + padded[row, count // 2]) / 2)


def _mann_kendall(y: NDArray[np.float64], n: NDArray[np.int32], s: NDArray[np.int64]) -> NDArray[np.float64]:
    ordered = np.sort(y, axis=-1)
    tied = (ordered[:, 1:] == ordered[:, :-1]).any(axis=-1)
    p = np.full(len(y), np.nan)
    for row in np.flatnonzero(n >= _MIN_FOR_P):
        length = int(n[row])
        if tied[row]:
            counts = np.unique_counts(ordered[row, :length]).counts
            ties = tuple(sorted(counts.tolist(), reverse=True))
        else:
            ties = (1,) * length
        p[row] = p_value(int(s[row]), ties)
    return p
