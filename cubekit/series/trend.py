"""Trends of short series: Theil-Sen's slope, and a Mann-Kendall test that allows for autocorrelation."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError
from cubekit.series._kendall import EXACT_UP_TO, p_values, smallest_significant
from cubekit.series._persistence import FEWEST, MOST, estimate, inflation

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
_NORMAL = 1.959964  # percentile 97.5 of the normal distribution
_NORMAL_80 = 0.841621
_FEWER_SEEN = 1.1
"""A trend of few values passes partly for autocorrelation, which lowers the power: by simulation of 8 to 60 values,
autocorrelated or not, 80 % takes 1 to 1.2 times as much as the interval alone says."""
_NUMBERS: dict[str, str] = {
    "slope": "Theil-Sen slope",
    "slope_low": "lower end of the slope's 95 % interval",
    "slope_high": "upper end of the slope's 95 % interval",
    "intercept": "value of the line at {dim} 0",
    "p_value": "two-sided p of the Mann-Kendall test, autocorrelation allowed for",
    "p_independent": "two-sided p of the Mann-Kendall test, as if the values were independent",
    "autocorrelation": "lag-1 autocorrelation that was allowed for",
    "detectable": "smallest trend found with 80 % probability",
}


def trend(
    series: xr.DataArray,
    *,
    dim: str = "year",
    low: xr.DataArray | None = None,
    high: xr.DataArray | None = None,
    autocorrelation: float | None = None,
) -> xr.Dataset:
    """Slope, its interval, what could have been detected, and a verdict.

    Parameters
    ----------
    series
        Numbers over `dim` and any other dims (track, lake, y, x); NaN is a missing season. numpy or dask.
    dim
        Has a numeric coordinate with every value once, e.g. the year. Its true distances are used: a gap counts as
        many years as it lasts.
    low, high
        95 % interval of every value, with the coordinates of `series`; both or neither. A season without one counts as
        missing.
    autocorrelation
        From one step to the next, -0.9 to 0.9. By default estimated from each series, -0.5 to 1 - 5 / n; 0 gives plain
        Theil-Sen and Mann-Kendall, as other studies publish them.

    Returns
    -------
    xarray.Dataset
        Over the other dims:

        ``slope``, ``intercept``
            Theil and Sen: the median of the slopes of all pairs, per unit of `dim` (km2 per year), and the median of
            what remains, so that the line is intercept + slope * year. Reported from 2 seasons on, also where the
            verdict is that these are too few: it then describes and proves nothing.
        ``slope_low``, ``slope_high``
            95 % interval (Sen 1968), from the same distribution of S as `p_value`. An interval without 0 means p < 0.05
            (when no values are equal). With `low` and `high` it is wider: see the notes. NaN below 5 seasons, or of a
            given autocorrelation that so few seasons can't overcome, where no such interval exists.
        ``p_value``
            Two-sided Mann-Kendall test, S held against its distribution in series of this autocorrelation without a
            trend. NaN below 4 seasons.
        ``p_independent``
            The same as if the values were independent: too small where they are autocorrelated. Up to 50 seasons
            exact, ties included; beyond, the normal approximation with tie and continuity corrections.
        ``autocorrelation``
            That was allowed for: given, or estimated from 8 seasons on; 0 below.
        ``detectable``
            Per unit of `dim`, above 0: the smallest trend that a series of such seasons and such scatter would show, at
            this level, with a probability of about 80 %. What "no trend detected" does not exclude. NaN below 5
            seasons.
        ``n``
            int32, seasons that are not missing.
        ``verdict``
            int8, CF flags: 0 too few seasons (below 8), 1 no trend detected, 2 increasing, 3 decreasing: p < 0.05 and
            an interval without 0.

    Raises
    ------
    ConfigError
        When `dim` is absent, has no numeric coordinate or one with repeated values, the series is not of numbers, only
        one of `low` and `high` is given or their coordinates are others, or `autocorrelation` is out of range; on
        computing, when a `low` is above its `high`.

    Notes
    -----
    Plain Mann-Kendall finds trends in 14 % of series of 10 without any, when their autocorrelation is 0.4. Here it is
    6.7 % (4.4 % at 0; 10 % at 0.6 and 12 % at 0.7, which so few values can't tell from a curve), with 0.73 of plain
    Mann-Kendall's power for a trend of one standard deviation in five years, 0.8 for one in two years and all of it
    for one a year (``analyses/false_positive_rates.py``). The values are not pre-whitened, which takes strong or curved
    growth for autocorrelation. S is held against a larger variance instead: seasons in steady order remain a trend.

    The intervals of areas are no independent noise: most of an area's error is the same every year. A part common to
    all seasons changes the slope by as much as the error itself has a trend (an error in proportion to the area grows
    with it); a part that is independent is in the scatter of the seasons already, unless this is smaller than the
    intervals say. How much is common isn't known, so the larger of the two is added to the slope's interval, as
    variances. An error that drifts for other reasons (a change of sensor) is not in it.

    Lazy with dask, `dim` is merged into one chunk.

    Sen, P. K. (1968), J. Am. Stat. Assoc. 63, 1379. Kendall, M. G. (1975), Rank Correlation Methods. Variance of S of
    autocorrelated values: Hamed, K. H. and Rao, A. R. (1998), J. Hydrol. 204, 182. Its distribution: Hamed, K. H.
    (2009), J. Hydrol. 365, 86.

    Examples
    --------
    >>> years = np.array([2015, 2016, 2017, 2018, 2020, 2021, 2022, 2023, 2024])
    >>> areas = xr.DataArray(1.5 + 0.01 * (years - 2015), coords={"year": years}, dims="year", attrs={"units": "km2"})
    >>> found = trend(areas)
    >>> round(float(found["slope"]), 4), int(found["n"]), VERDICTS[int(found["verdict"])]
    (0.01, 9, 'increasing')
    """
    ordered = _ordered(series, dim)
    if autocorrelation is not None and not -MOST <= autocorrelation <= MOST:
        msg = f"autocorrelation {autocorrelation} is not from -0.9 to 0.9; leave it out to have it estimated"
        raise ConfigError(msg)
    inputs = [ordered, *_bounds(series, ordered, dim, low, high)]
    outputs = xr.apply_ufunc(
        _trends,
        *(array if array.chunks is None else array.chunk({dim: -1}) for array in inputs),
        kwargs={"x": ordered.indexes[dim].to_numpy().astype(np.float64), "given": autocorrelation},
        input_core_dims=[[dim]] * len(inputs),
        output_core_dims=[[]] * (len(_NUMBERS) + 2),
        dask="parallelized",
        output_dtypes=[np.float64] * len(_NUMBERS) + [np.int32, np.int8],
    )
    units = series.attrs.get("units")
    per_step = None if units is None else f"{units} {dim}-1"
    found = xr.Dataset(dict(zip((*_NUMBERS, "n", "verdict"), outputs, strict=True)))
    for name, long_name in (_NUMBERS | {"n": "values that are not missing", "verdict": "verdict"}).items():
        found[name].attrs = {"long_name": long_name.format(dim=dim)}
    for names, unit in (
        (("slope", "slope_low", "slope_high", "detectable"), per_step),
        (("intercept",), units),
        (("p_value", "p_independent", "autocorrelation", "n"), "1"),
    ):
        for name in names:
            found[name].attrs |= {} if unit is None else {"units": unit}
    found["slope"].attrs["ancillary_variables"] = "slope_low slope_high detectable verdict"
    found["verdict"].attrs |= {
        "flag_values": np.arange(len(VERDICTS), dtype=np.int8),
        "flag_meanings": " ".join(VERDICTS),
    }
    return found.assign_attrs(
        method=f"Theil-Sen slope, Mann-Kendall test (variance of S inflated; if not, exact up to {EXACT_UP_TO} values)",
        dim=dim,
        level=LEVEL,
        of=str(series.name),
        interval_carries="scatter" if low is None else "scatter and the intervals of the values",
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


def _bounds(
    series: xr.DataArray, ordered: xr.DataArray, dim: str, low: xr.DataArray | None, high: xr.DataArray | None
) -> list[xr.DataArray]:
    if low is None and high is None:
        return []
    if low is None or high is None:
        msg = f"only {'high' if low is None else 'low'} is given; give both bounds of the values, or neither"
        raise ConfigError(msg)
    for name, bound in (("low", low), ("high", high)):
        if set(bound.dims) != set(series.dims) or bound.sizes != series.sizes:
            msg = f"{name} has the sizes {dict(bound.sizes)}, the series {dict(series.sizes)}; give one bound a value"
            raise ConfigError(msg)
        for other in series.dims:
            index = bound.indexes.get(other)
            if index is not None and other in series.indexes and not index.equals(series.indexes[other]):
                msg = f"{name} has other values of {str(other)!r} than the series; give bounds of the same ones"
                raise ConfigError(msg)
    return [bound.assign_coords({dim: series[dim]}).sel({dim: ordered[dim]}) for bound in (low, high)]


def _trends(
    y: NDArray[Any], *bounds: NDArray[Any], x: NDArray[np.float64], given: float | None
) -> tuple[NDArray[Any], ...]:
    """Trends along the last axis, those of series with as many values together, in blocks that fit in memory."""
    shape, steps = y.shape[:-1], y.shape[-1]
    count = int(np.prod(shape))
    flat = y.reshape(count, steps)
    known = np.isfinite(flat)
    width = None
    if bounds:
        width = (bounds[1].astype(np.float64) - bounds[0]).reshape(count, steps)
        if (width < 0).any():
            msg = "a low of the values is above its high; give the lower bounds as low and the upper as high"
            raise ConfigError(msg)
        known &= np.isfinite(width)
    n = known.sum(axis=-1).astype(np.int32)
    numbers, verdict = np.full((len(_NUMBERS), count), np.nan), np.zeros(count, np.int8)
    numbers[6] = 0.0
    for length in np.unique(n[n >= 2]).tolist():
        members = np.flatnonzero(n == length)
        step = max(1, _BLOCK // (length * (length - 1) // 2))
        for start in range(0, len(members), step):
            rows = members[start : start + step]
            mask = known[rows]
            values = flat[rows][mask].astype(np.float64).reshape(len(rows), length)
            places = np.broadcast_to(x, mask.shape)[mask].reshape(len(rows), length)
            errors = None if width is None else width[rows][mask].reshape(len(rows), length) / 2 / _NORMAL
            numbers[:, rows], verdict[rows] = _block(values, places, errors, given)
    return (*(values.reshape(shape) for values in numbers), n.reshape(shape), verdict.reshape(shape))


def _block(
    y: NDArray[np.float64], x: NDArray[np.float64], errors: NDArray[np.float64] | None, given: float | None
) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """The numbers and verdicts of series of the same count of values, none missing."""
    n = y.shape[-1]
    phi = np.full(len(y), given or 0.0)
    if given is None and n >= FEWEST:
        phi = estimate(y, x)
    slopes, s = _pairwise(y, x)
    slope = _middle(slopes)
    inflated = inflation(phi, x)
    # Slopes b for which the rest, y - b x, would not be significant: S falls by 2 at every pairwise slope.
    rank = (slopes.shape[-1] - smallest_significant(n, LEVEL, inflated)) // 2
    exists, rank = rank >= 0, np.maximum(rank, 0)
    rows = np.arange(len(y))
    low = np.where(exists, slopes[rows, rank], np.nan)
    high = np.where(exists, slopes[rows, -1 - rank], np.nan)
    p, independent = np.full((2, len(y)), np.nan)
    if n >= _MIN_FOR_P:
        p = _mann_kendall(y, s, inflated)
        independent = _mann_kendall(y, s, np.ones(len(y)))
    detectable = (high - low) / 2 * (1 + _NORMAL_80 / _NORMAL)
    if given is None:
        detectable *= _FEWER_SEEN
    if errors is not None:
        extra = _area_error(x, errors, (high - low) / 2 / _NORMAL)
        low, high = (
            slope - np.hypot(slope - low, _NORMAL * extra),
            slope + np.hypot(high - slope, _NORMAL * extra),
        )
        detectable = np.hypot(detectable, (_NORMAL + _NORMAL_80) * extra)
    intercept = np.median(y - slope[:, None] * x, axis=-1)
    proven = (p < LEVEL) & ((low > 0) | (high < 0))
    verdict = np.where(proven, np.where(s > 0, 2, 3), 1) if n >= MIN_SEASONS else np.zeros(len(y))
    return np.stack([slope, low, high, intercept, p, independent, phi, detectable]), verdict.astype(np.int8)


def _pairwise(y: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Slopes of all pairs, ordered, and Mann-Kendall's S."""
    first, second = np.triu_indices(y.shape[-1], 1)
    slopes = (y[:, second] - y[:, first]) / (x[:, second] - x[:, first])
    s = np.count_nonzero(slopes > 0, axis=-1) - np.count_nonzero(slopes < 0, axis=-1)
    slopes.sort(axis=-1)
    return slopes, s


def _middle(ordered: NDArray[np.float64]) -> NDArray[np.float64]:
    size = ordered.shape[-1]
    return np.asarray((ordered[:, (size - 1) // 2] + ordered[:, size // 2]) / 2)


def _mann_kendall(y: NDArray[np.float64], s: NDArray[np.int64], inflated: NDArray[np.float64]) -> NDArray[np.float64]:
    ordered = np.sort(y, axis=-1)
    p = p_values(s, (1,) * y.shape[-1], inflated)
    for row in np.flatnonzero((ordered[:, 1:] == ordered[:, :-1]).any(axis=-1)):
        counts = np.unique_counts(ordered[row]).counts
        ties = tuple(sorted(counts.tolist(), reverse=True))
        p[row] = p_values(s[row : row + 1], ties, inflated[row : row + 1])[0]
    return p


def _area_error(
    x: NDArray[np.float64], errors: NDArray[np.float64], scatter: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Standard deviation of the slope from the values' own errors, beyond what the `scatter` of the values shows."""
    centred = x - x.mean(axis=-1, keepdims=True)
    weight = centred / (centred**2).sum(axis=-1, keepdims=True)
    common = (weight * errors).sum(axis=-1) ** 2
    independent = (weight**2 * errors**2).sum(axis=-1) - scatter**2
    return np.asarray(np.sqrt(np.maximum(common, independent)))
