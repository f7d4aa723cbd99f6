"""Numbers a season and track, with the count of looks that they rest on."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError, NoObservations
from cubekit.series._seasons import reduce_seasons
from cubekit.series.area import STATES

SEASON = ("07-01", "09-30")
"""First and last day of the season, month and day: open water at 4,500 to 5,000 m."""

MIN_OBSERVED = 0.9
"""Share of the most that a track has ever seen of the lake zone, from which a pass is used."""

LOOKS = 4
"""Of the maximum that is fair to the number of passes: a season of one satellite that repeats after 12 days has 7."""

_OPEN, _ICE, _WET_SNOW, _ROUGH = (STATES.index(name) for name in ("open", "ice", "wet_snow", "rough"))
_DAY = re.compile(r"\d{2}-\d{2}")
_NAMES: dict[str, dict[str, str]] = {
    "maximum": {"long_name": "largest area of the season"},
    "fair_maximum": {"long_name": "expected largest area of a fixed number of passes of the season"},
    "percentile_90": {"long_name": "90th percentile of the areas of the season"},
    "median": {"long_name": "median area of the season"},
    "passes": {"long_name": "passes used", "units": "1"},
    "passes_excluded": {"long_name": "passes observed too little, with rough water or with unknown area", "units": "1"},
    "time_of_maximum": {"long_name": "time of the largest area", "standard_name": "time"},
    "observed_fraction": {"long_name": "largest observed fraction of the lake zone", "units": "1"},
}


def summer_maxima(
    area: xr.Dataset,
    *,
    season: tuple[str, str] | Literal["auto"] = SEASON,
    min_observed: float = MIN_OBSERVED,
    looks: int = LOOKS,
) -> xr.Dataset:
    """Largest, fairly largest, 90th percentile and median area of every season, track by track.

    .. warning::
       A maximum grows with the number of looks, without any change of the lake: on average by 1.03 standard
       deviations of a pass's noise at 4 looks, 1.42 at 8, 1.54 at 10 and 1.77 at 16. Summers with one satellite
       (2022 to 2024) have half the looks, which alone lowers the maximum by about 0.34 standard deviations: a step
       that is no change. ``fair_maximum`` and ``median`` do not have this bias, ``percentile_90`` has little of it.

    Parameters
    ----------
    area
        What `lake_area` returns: over time, with the coordinate ``track`` in memory. Other dims may come with it, e.g.
        ``lake`` for many lakes on one axis of time, NaN where a lake has no pass: all are computed at once.
    season
        First and last day as ``MM-DD``, both inclusive, UTC. A season that crosses new year, e.g.
        ``("11-01", "02-28")``, belongs to the year in which it starts. Or ``auto``: the passes whose ``state`` is open
        water, in memory; rough water lies in the season but is excluded. Years are then cut in the middle of the ice
        (the circular mean of the days of ice and wet snow; at new year where there is none), and belong to the calendar
        year that holds most of them.
    min_observed
        Passes that saw less than this share of the most that their track has ever seen of the lake zone are not used.
        Relative, because a track that never sees a part of the shore is still comparable with itself; how much it sees
        at best is in ``observed_fraction``, and where that is below 1 all its areas are lower bounds.
    looks
        Number of passes that ``fair_maximum`` is the maximum of, 1 or more. The fewest of the seasons that are to be
        compared: seasons with fewer have none.

    Returns
    -------
    xarray.Dataset
        Dims track and year, after those that came along. Tracks are never pooled: their areas are different
        measurements. All years from the first to the last with a pass in the season of any track.

        ``maximum``, ``percentile_90``, ``median``
            km2, over the usable passes; NaN where there is none, never 0. The percentile is median-unbiased
            (Hyndman and Fan 1996, type 8); below 6 passes it is the maximum.
        ``fair_maximum``
            km2, the mean of the maxima of all subsets of `looks` usable passes, exactly: what a season of so many
            passes would show on average. Its expectation does not depend on the number of passes, as long as they
            are alike; NaN where there are fewer than `looks`.
        ``passes``, ``passes_excluded``
            int32. Usable ones, and those of the season that were not: observed below `min_observed`, or area unknown.
        ``time_of_maximum``
            The earliest pass with that area; NaT where there is none.
        ``observed_fraction``
            Without year: the most that a pass of this track has seen of the lake zone.

    Raises
    ------
    ConfigError
        When a variable is absent, ``track`` (or, for ``auto``, ``state``) is lazy, a day is not ``MM-DD``,
        `min_observed` is not from 0 to 1, `looks` is not a whole number above 0, or ``auto`` finds no state known.
    NoObservations
        When no pass lies in the season in any year.

    Notes
    -----
    Lazy with dask: tracks and years come from the coordinates, time is merged into one chunk.

    Examples
    --------
    >>> times = np.array(["2020-07-05", "2020-08-10", "2022-07-05", "2022-12-01"], "datetime64[s]")
    >>> km2 = {"area_km2": ("time", [1.5, 1.6, 1.7, 9.0]), "observed_fraction": ("time", [1.0, 1.0, 1.0, 1.0])}
    >>> area = xr.Dataset(km2, coords={"time": times, "track": ("time", [121, 121, 121, 121])})
    >>> found = summer_maxima(area, looks=1)
    >>> found["maximum"].to_series().to_dict()
    {(121, 2020): 1.6, (121, 2021): nan, (121, 2022): 1.7}
    >>> found["fair_maximum"].values.tolist()  # of single passes: their mean
    [[1.55, nan, 1.7]]
    """
    times = _check(area, min_observed, looks)
    inside, allowed, years = _seasons(area, times, season)
    anywhere = inside.any(axis=tuple(range(inside.ndim - 1)))
    if not anywhere.any():
        span = "found from the states" if season == "auto" else f"{season[0]} to {season[1]}"
        msg = f"none of {len(times)} passes lies in the season {span}; give another season or period"
        raise NoObservations(msg)
    all_years = np.arange(years[anywhere].min(), years[anywhere].max() + 1)
    tracks, track_codes = np.unique(area["track"].to_numpy(), return_inverse=True)
    # Passes outside of any season may lie in no year of the table; where they are counted doesn't matter
    columns = np.clip(years - all_years[0], 0, len(all_years) - 1)
    dims = area["state"].transpose(..., "time").dims if inside.ndim > 1 else ("time",)
    reduced = xr.apply_ufunc(
        reduce_seasons,
        _whole(area["area_km2"]),
        _whole(area["observed_fraction"]),
        xr.Variable(dims, inside),
        xr.Variable(dims, allowed),
        xr.Variable("time", track_codes * len(all_years) + columns),
        xr.Variable("time", times.to_numpy()),
        xr.Variable("time", track_codes),
        kwargs={"shape": (len(tracks), len(all_years)), "min_observed": float(min_observed), "looks": int(looks)},
        input_core_dims=[["time"]] * 7,
        output_core_dims=[*[["track", "year"]] * 7, ["track"]],
        dask="parallelized",
        output_dtypes=[*[np.float64] * 4, np.int32, np.int32, times.dtype, np.float64],
        dask_gufunc_kwargs={"output_sizes": {"track": len(tracks), "year": len(all_years)}},
    )
    units = area["area_km2"].attrs.get("units", "km2")
    for (name, attrs), variable in zip(_NAMES.items(), reduced, strict=True):
        variable.attrs = dict(attrs)
        if name in {"maximum", "fair_maximum", "percentile_90", "median"}:
            variable.attrs |= {"units": units, "ancillary_variables": "passes"}
    start, end = ("auto", "auto") if season == "auto" else season
    found = dict(zip(_NAMES, reduced, strict=True))
    found["fair_maximum"].attrs["looks"] = int(looks)
    others = {name: area[name] for name in area["area_km2"].dims if name != "time" and name in area.coords}
    return xr.Dataset(
        found,
        coords={"track": ("track", tracks, dict(area["track"].attrs)), "year": all_years, **others},
        attrs={
            **area.attrs,
            "season_start": start,
            "season_end": end,
            "min_observed": float(min_observed),
        },
    )


def _seasons(
    area: xr.Dataset, times: pd.DatetimeIndex, season: tuple[str, str] | Literal["auto"]
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    """Which passes lie in a season, which of these may be used, and the year that each belongs to."""
    if season == "auto":
        return _open_seasons(area, times)
    first, last = _day(season[0]), _day(season[1])
    days = times.month.to_numpy() * 100 + times.day.to_numpy()
    years = times.year.to_numpy().astype(np.int64)
    if first <= last:
        inside = (first <= days) & (days <= last)
    else:
        inside = (days >= first) | (days <= last)
        years = np.where(days <= last, years - 1, years)
    return inside, np.ones_like(inside), years


def _open_seasons(
    area: xr.Dataset, times: pd.DatetimeIndex
) -> tuple[NDArray[np.bool_], NDArray[np.bool_], NDArray[np.int64]]:
    if "state" not in area.variables or area["state"].chunks is not None:
        given = "is lazy" if "state" in area.variables else "is absent"
        msg = (
            f"season 'auto' is found from state, which {given}; give area.assign(state=lake_states(...).state.load()), "
            "or the days of the season"
        )
        raise ConfigError(msg)
    states = area["state"].transpose(..., "time").to_numpy()
    if not (states > 0).any():
        msg = "season 'auto' is found from state, which is unknown at every pass; give the days of the season"
        raise ConfigError(msg)
    frozen = np.isin(states, [_ICE, _WET_SNOW]).reshape(-1, len(times)).sum(axis=0)
    days = times.dayofyear.to_numpy()
    # Years are cut where the ice lies on average, on a circle of days
    turn = np.exp(2j * np.pi * (days - 1) / 365.25) @ frozen
    cut = int(np.rint(np.angle(turn) % (2 * np.pi) / (2 * np.pi) * 365.25)) % 365 if frozen.any() else 0
    shifted = times - pd.Timedelta(days=cut if cut <= 182 else cut - 365)
    inside = np.isin(states, [_OPEN, _ROUGH])
    return inside, states == _OPEN, shifted.year.to_numpy().astype(np.int64)


def _check(area: xr.Dataset, min_observed: float, looks: int) -> pd.DatetimeIndex:
    needed = ("area_km2", "observed_fraction", "track", "time")
    if absent := [name for name in needed if name not in area.variables]:
        msg = f"the areas lack {', '.join(absent)}; give what lake_area returns for passes of a cube"
        raise ConfigError(msg)
    times = area.indexes.get("time")
    if not isinstance(times, pd.DatetimeIndex):
        msg = f"time is {area['time'].dtype}; summer_maxima needs dates (datetime64)"
        raise ConfigError(msg)
    if area["track"].chunks is not None:
        msg = "track is lazy, but lays out the result; load it first: area.assign_coords(track=area.track.load())"
        raise ConfigError(msg)
    if not 0 <= min_observed <= 1:
        msg = f"min_observed {min_observed} is not between 0 and 1; 0.9 means nine tenths of the lake zone"
        raise ConfigError(msg)
    if isinstance(looks, bool) or not isinstance(looks, int | np.integer) or looks < 1:
        msg = f"looks {looks!r} is not a whole number above 0; give the fewest passes of a season, e.g. {LOOKS}"
        raise ConfigError(msg)
    return times


def _day(text: str) -> int:
    """Month and day as month * 100 + day, so that they compare as they follow each other."""
    if _DAY.fullmatch(str(text)):
        with suppress(ValueError):
            day = date.fromisoformat(f"2000-{text}")  # a leap year: 02-29 is a day
            return day.month * 100 + day.day
    msg = f"{text!r} is not a day of a season; give month and day as 'MM-DD', e.g. '07-01'"
    raise ConfigError(msg)


def _whole(array: xr.DataArray) -> xr.Variable:
    return array.variable if array.chunks is None else array.variable.chunk({"time": -1})
