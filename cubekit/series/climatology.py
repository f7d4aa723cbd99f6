"""What a lake usually does: monthly baselines per track, anomalies against them, dates of freezing and thawing."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError, NoObservations
from cubekit.series.area import STATES

MIN_PASSES = 3
"""Passes of a month and track from which its median stands for it."""

_FROZEN = [STATES.index("ice"), STATES.index("wet_snow")]
_TO_SIGMA = 1.4826  # of the median absolute deviation, for normal noise
_LONGEST_GAP = np.timedelta64(60, "D")


def climatology(series: xr.DataArray, *, min_passes: int = MIN_PASSES) -> xr.Dataset:
    """Monthly median and spread, and seasonal amplitude, track by track.

    Parameters
    ----------
    series
        Numbers over time and any other dims (lake, y, x), e.g. ``area_km2``, NaN where not known; with the coordinate
        ``track`` in memory. Leave out what should not count, e.g. ``area.area_km2.where(states.state == 1)``.
    min_passes
        Passes from which a month's median and spread are given, 1 or more.

    Returns
    -------
    xarray.Dataset
        Dims track and month (1 to 12, UTC), after those that came along. Tracks are never pooled.

        ``median``, ``spread``
            In the units of `series`; the spread is 1.4826 times the median absolute deviation, as a standard deviation
            of normal noise. NaN below `min_passes`.
        ``passes``, ``years``
            int32, how many passes these rest on, of how many years.
        ``amplitude``
            Without month: the largest less the smallest monthly median; NaN with fewer than two. Of few passes a month
            it is too large by their noise.

    Raises
    ------
    ConfigError
        When ``track`` is absent or lazy, time holds no dates, or `min_passes` is below 1.

    Notes
    -----
    Lazy with dask: time is merged into one chunk.

    Examples
    --------
    >>> times = np.array(["2019-07-05", "2020-07-10", "2021-07-15", "2021-09-01"], "datetime64[s]")
    >>> series = xr.DataArray([1.0, 1.2, 1.1, 1.5], {"time": times, "track": ("time", [121] * 4)}, "time")
    >>> found = climatology(series, min_passes=1)
    >>> found["median"].sel(track=121, month=[7, 8, 9]).values.tolist(), float(found["amplitude"][0].round(3))
    ([1.1, nan, 1.5], 0.4)
    """
    times, tracks, codes = _check(series, min_passes)
    shape = (len(tracks), 12)
    reduced = xr.apply_ufunc(
        _monthly,
        _whole(series),
        kwargs={
            "groups": codes * 12 + times.month.to_numpy() - 1,
            "years": times.year.to_numpy(),
            "shape": shape,
            "min_passes": min_passes,
        },
        input_core_dims=[["time"]],
        output_core_dims=[*[["track", "month"]] * 4, ["track"]],
        dask="parallelized",
        output_dtypes=[np.float64, np.float64, np.int32, np.int32, np.float64],
        dask_gufunc_kwargs={"output_sizes": {"track": shape[0], "month": 12}},
    )
    units = {"units": series.attrs["units"]} if "units" in series.attrs else {}
    attrs: dict[str, dict[str, Any]] = {
        "median": {"long_name": "median of the month", "ancillary_variables": "passes", **units},
        "spread": {"long_name": "1.4826 times the median absolute deviation of the month", **units},
        "passes": {"long_name": "passes of the month", "units": "1"},
        "years": {"long_name": "years with passes in the month", "units": "1"},
        "amplitude": {"long_name": "largest less smallest monthly median", **units},
    }
    for described, variable in zip(attrs.values(), reduced, strict=True):
        variable.attrs = described
    others = {name: series[name] for name in series.dims if name != "time" and name in series.coords}
    return xr.Dataset(
        dict(zip(attrs, reduced, strict=True)),
        coords={"track": ("track", tracks, dict(series["track"].attrs)), "month": np.arange(1, 13), **others},
        attrs={"of": str(series.name), "min_passes": min_passes},
    )


def anomalies(series: xr.DataArray, *, past_only: bool = False, min_passes: int = MIN_PASSES) -> xr.Dataset:
    """What every pass lies above or below the usual of its own track and month.

    Parameters
    ----------
    series, min_passes
        As in `climatology`.
    past_only
        False: against all other passes, for records. True: against earlier ones only, for near-real-time; a pass that
        is added then changes nothing before it.

    Returns
    -------
    xarray.Dataset
        Over the dims of `series`, float64 but for ``passes``:

        ``expected``, ``spread``
            Median, and 1.4826 times the median absolute deviation, of the other passes of this track and calendar
            month. The pass itself never counts. NaN below `min_passes`.
        ``anomaly``
            `series` less ``expected``.
        ``passes``
            int32, how many passes ``expected`` rests on.

    Raises
    ------
    ConfigError
        As `climatology`.

    Notes
    -----
    Lazy with dask: time is merged into one chunk. A lake that grows lies above its past: an anomaly against the past
    holds the trend, one against all years half of it.

    Examples
    --------
    >>> times = np.array(["2019-07-05", "2020-07-10", "2021-07-15", "2022-07-01"], "datetime64[s]")
    >>> series = xr.DataArray([1.0, 1.2, 1.1, 1.5], {"time": times, "track": ("time", [121] * 4)}, "time")
    >>> anomalies(series, past_only=True, min_passes=2)["anomaly"].values.round(3).tolist()
    [nan, nan, 0.0, 0.4]
    """
    times, _, codes = _check(series, min_passes)
    reduced = xr.apply_ufunc(
        _against,
        _whole(series),
        kwargs={
            "groups": codes * 12 + times.month.to_numpy() - 1,
            "times": times.to_numpy(),
            "past_only": past_only,
            "min_passes": min_passes,
        },
        input_core_dims=[["time"]],
        output_core_dims=[["time"]] * 4,
        dask="parallelized",
        output_dtypes=[np.float64, np.float64, np.float64, np.int32],
    )
    units = {"units": series.attrs["units"]} if "units" in series.attrs else {}
    which = "earlier passes" if past_only else "the other passes"
    attrs: dict[str, dict[str, Any]] = {
        "expected": {"long_name": f"median of {which} of the track and month", **units},
        "spread": {"long_name": f"1.4826 times the median absolute deviation of {which}", **units},
        "anomaly": {"long_name": f"difference from the median of {which} of the track and month", **units},
        "passes": {"long_name": f"number of {which} of the track and month", "units": "1"},
    }
    for described, variable in zip(attrs.values(), reduced, strict=True):
        variable.attrs = described
    found = xr.Dataset(dict(zip(attrs, reduced, strict=True)), coords=series.coords)
    return found.transpose(*series.dims).assign_attrs(of=str(series.name), past_only=int(past_only))


def ice_dates(states: xr.Dataset) -> xr.Dataset:
    """When a lake froze and thawed, winter by winter, as far apart as its passes are.

    Parameters
    ----------
    states
        What `lake_states` returns, with ``state`` in memory; all tracks together.

    Returns
    -------
    xarray.Dataset
        Dim winter, the calendar year in which its middle lies (that is where ice lies on average over all winters):

        ``freeze_after``, ``freeze_by``
            The last pass without ice and the first of the winter's ice.
        ``thaw_after``, ``thaw_by``
            The last pass with ice (wet snow and ice that breaks up included) and the first without.
            NaT where there is none within 60 days: such a date is not known. Nor is one of ice that lasts from one
            winter into the next.
        ``passes``
            int32, passes of known state in this winter's twelve months.

        Winters that show no ice have NaT everywhere.

    Raises
    ------
    ConfigError
        When ``state`` is absent or lazy, or time holds no dates.
    NoObservations
        When no pass shows ice.

    Notes
    -----
    The winter's ice is the stretch of passes in which those with ice outnumber those without by the most (each counts 1
    for or against), so that a single pass taken for the wrong state moves no date far.

    Examples
    --------
    >>> times = np.datetime64("2020-11-01", "s") + 12 * 86400 * np.arange(20)
    >>> state = np.array([1] * 4 + [2] * 10 + [3] + [1] * 5, "int8")
    >>> found = ice_dates(xr.Dataset({"state": ("time", state)}, coords={"time": times}))
    >>> found["freeze_by"].dt.strftime("%Y-%m-%d").values.tolist(), found["winter"].values.tolist()
    (['2020-12-19'], [2021])
    """
    times = states.indexes.get("time")
    if "state" not in states.variables or states["state"].dims != ("time",) or states["state"].chunks is not None:
        msg = "ice_dates needs the variable state over time, in memory; give lake_states(...).load()"
        raise ConfigError(msg)
    if not isinstance(times, pd.DatetimeIndex):
        msg = f"time is {states['time'].dtype}; ice_dates needs dates (datetime64)"
        raise ConfigError(msg)
    order = np.argsort(times.to_numpy(), kind="stable")
    state = states["state"].to_numpy()[order]
    moments = times[order][state > 0]
    frozen = np.isin(state[state > 0], _FROZEN)
    if not frozen.any():
        msg = f"none of {len(state)} passes shows ice, so there are no dates of it; is the lake too low to freeze?"
        raise NoObservations(msg)
    winter = moments.year.to_numpy() + _turn(moments, frozen)
    winters = np.arange(winter.min(), winter.max() + 1)
    stamps = moments.to_numpy()
    dates = np.full((4, len(winters)), np.datetime64("NaT"), stamps.dtype)
    counts = np.zeros(len(winters), np.int32)
    for index, year in enumerate(winters):
        members = np.flatnonzero(winter == year)
        counts[index] = members.size
        if members.size and frozen[members].any():
            first, last = (members[end] for end in _stretch(frozen[members]))
            # Where winters meet, the pass beside this one's stretch may be of the other's ice
            if first > 0 and not frozen[first - 1] and stamps[first] - stamps[first - 1] <= _LONGEST_GAP:
                dates[:2, index] = stamps[first - 1], stamps[first]
            after = last + 1
            if after < len(stamps) and not frozen[after] and stamps[after] - stamps[last] <= _LONGEST_GAP:
                dates[2:, index] = stamps[last], stamps[after]
    names = {
        "freeze_after": "last pass before the ice",
        "freeze_by": "first pass with ice",
        "thaw_after": "last pass with ice",
        "thaw_by": "first pass after the ice",
    }
    found = {name: ("winter", dates[row], {"long_name": words}) for row, (name, words) in enumerate(names.items())}
    passes = ("winter", counts, {"long_name": "passes of known state", "units": "1"})
    return xr.Dataset({**found, "passes": passes}, coords={"winter": winters}, attrs=dict(states.attrs))


def _turn(moments: pd.DatetimeIndex, frozen: NDArray[np.bool_]) -> NDArray[np.int64]:
    """What to add to the calendar year for the year of the middle of the winter that a pass belongs to."""
    days = moments.dayofyear.to_numpy() - 1
    middle = np.angle(np.exp(2j * np.pi * days[frozen] / 365.25).sum()) % (2 * np.pi) / (2 * np.pi) * 365.25
    # Half a year before the middle a winter begins, half a year after it ends
    return np.where(days >= middle + 182.6, 1, np.where(days < middle - 182.6, -1, 0))


def _stretch(frozen: NDArray[np.bool_]) -> tuple[int, int]:
    """First and last of the stretch with the largest sum of 1 for ice and -1 for none."""
    total = np.concatenate([[0], np.cumsum(np.where(frozen, 1, -1))])
    lowest = np.minimum.accumulate(total)
    last = int(np.argmax(total - lowest)) - 1
    first = int(np.flatnonzero(total[: last + 1] == lowest[last + 1])[-1])
    return first, last


def _check(series: xr.DataArray, min_passes: int) -> tuple[pd.DatetimeIndex, NDArray[Any], NDArray[np.int64]]:
    times = series.indexes.get("time")
    if "time" not in series.dims or not isinstance(times, pd.DatetimeIndex):
        given = str(series["time"].dtype) if "time" in series.coords else "absent"
        msg = f"time is {given}; a climatology needs a series over time with dates (datetime64)"
        raise ConfigError(msg)
    if "track" not in series.coords or series["track"].chunks is not None:
        given = "is lazy" if "track" in series.coords else "is absent"
        msg = f"the coordinate track {given}; tracks are never pooled: give it, in memory (assign_coords(track=...))"
        raise ConfigError(msg)
    if min_passes < 1:
        msg = f"min_passes {min_passes} is below 1; give the passes from which a median counts, e.g. {MIN_PASSES}"
        raise ConfigError(msg)
    tracks, codes = np.unique(series["track"].to_numpy(), return_inverse=True)
    return times, tracks, codes.astype(np.int64)


def _whole(array: xr.DataArray) -> xr.Variable:
    return array.variable if array.chunks is None else array.variable.chunk({"time": -1})


def _monthly(
    values: NDArray[Any],
    *,
    groups: NDArray[np.int64],
    years: NDArray[np.int64],
    shape: tuple[int, int],
    min_passes: int,
) -> tuple[NDArray[Any], ...]:
    lead = values.shape[:-1]
    numbers = np.full((2, *lead, *shape), np.nan)
    counts = np.zeros((2, *lead, *shape), np.int32)
    for group in np.unique(groups):
        cell = (..., *np.unravel_index(group, shape))
        members = np.flatnonzero(groups == group)
        own = values[..., members].astype(np.float64)
        numbers[(slice(None), *cell)], counts[(0, *cell)] = _middle(own, min_passes)
        for year in np.unique(years[members]):
            counts[(1, *cell)] += ~np.isnan(own[..., years[members] == year]).all(axis=-1)
    medians = numbers[0]
    known = ~np.isnan(medians)
    largest = np.where(known, medians, -np.inf).max(axis=-1)
    smallest = np.where(known, medians, np.inf).min(axis=-1)
    enough = known.sum(axis=-1) >= 2
    amplitude = np.where(enough, np.where(enough, largest, 0) - np.where(enough, smallest, 0), np.nan)
    return medians, numbers[1], counts[0], counts[1], amplitude


def _against(
    values: NDArray[Any],
    *,
    groups: NDArray[np.int64],
    times: NDArray[np.datetime64],
    past_only: bool,
    min_passes: int,
) -> tuple[NDArray[Any], ...]:
    numbers = np.full((2, *values.shape), np.nan)
    counts = np.zeros(values.shape, np.int32)
    for index, (group, time) in enumerate(zip(groups, times, strict=True)):
        alike = groups == group
        alike = alike & (times < time) if past_only else alike & (np.arange(len(times)) != index)
        numbers[..., index], counts[..., index] = _middle(values[..., alike].astype(np.float64), min_passes)
    return numbers[0], numbers[1], values - numbers[0], counts


def _middle(values: NDArray[np.float64], min_passes: int) -> tuple[NDArray[np.float64], NDArray[np.int32]]:
    """Median and spread (2, ...) of the last axis, NaN left out, and how many there are."""
    count = np.count_nonzero(~np.isnan(values), axis=-1).astype(np.int32)
    median = _sorted_median(values, count)
    spread = _TO_SIGMA * _sorted_median(np.abs(values - median[..., None]), count)
    return np.where(count >= min_passes, np.stack([median, spread]), np.nan), count


def _sorted_median(values: NDArray[np.float64], count: NDArray[np.int32]) -> NDArray[np.float64]:
    """Median of each last axis: its `count` numbers come first when sorted, NaN last."""
    ordered = np.concatenate([np.sort(values, axis=-1), np.full((*values.shape[:-1], 1), np.nan)], axis=-1)
    low, high = np.maximum(count - 1, 0) // 2, count // 2
    both = [np.take_along_axis(ordered, place[..., None], axis=-1)[..., 0] for place in (low, high)]
    return np.asarray((both[0] + both[1]) / 2)
