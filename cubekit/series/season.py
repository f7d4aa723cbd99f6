"""One number a summer and track, with the count of looks that it rests on."""

from __future__ import annotations

import re
from contextlib import suppress
from datetime import date
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError, NoObservations

SEASON = ("07-01", "09-30")
"""First and last day of the season, month and day: open water at 4,500 to 5,000 m."""

MIN_OBSERVED = 0.9
"""Share of the most that a track has ever seen of the lake zone, from which a pass is used."""

_DAY = re.compile(r"\d{2}-\d{2}")


def summer_maxima(
    area: xr.Dataset, *, season: tuple[str, str] = SEASON, min_observed: float = MIN_OBSERVED
) -> xr.Dataset:
    """Largest and median area of every season, track by track.

    .. warning::
       A maximum grows with the number of looks, without any change of the lake: on average by 1.03 standard
       deviations of a pass's noise at 4 looks, 1.42 at 8, 1.54 at 10 and 1.76 at 16. Summers with one satellite
       (2022 to 2024) have half the looks, which alone lowers the maximum by about 0.34 standard deviations: a step
       that is no change. Read it beside ``passes``; ``median`` does not have this bias.

    Parameters
    ----------
    area
        What `lake_area` returns: over time, with the coordinate ``track`` in memory.
    season
        First and last day as ``MM-DD``, both inclusive, UTC. A season that crosses new year, e.g.
        ``("11-01", "02-28")``, belongs to the year in which it starts.
    min_observed
        Passes that saw less than this share of the most that their track has ever seen of the lake zone are not used.
        Relative, because a track that never sees a part of the shore is still comparable with itself; how much it sees
        at best is in ``observed_fraction``, and where that is below 1 all its areas are lower bounds.

    Returns
    -------
    xarray.Dataset
        Dims track and year. Tracks are never pooled: their areas are different measurements. All years from the first
        to the last with a pass in the season of any track.

        ``maximum``, ``median``
            km2, over the usable passes; NaN where there is none, never 0.
        ``passes``, ``passes_excluded``
            int32. Usable ones, and those of the season that were not: observed below `min_observed`, or area unknown.
        ``time_of_maximum``
            The earliest pass with that area; NaT where there is none.
        ``observed_fraction``
            Dim track only: the most that a pass of this track has seen of the lake zone.

    Raises
    ------
    ConfigError
        When a variable is absent, ``track`` is lazy, a day is not ``MM-DD``, or `min_observed` is not from 0 to 1.
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
    >>> summer_maxima(area)["maximum"].to_series().to_dict()
    {(121, 2020): 1.6, (121, 2021): nan, (121, 2022): 1.7}
    """
    first, last = _day(season[0]), _day(season[1])
    times = _check(area, min_observed)
    days = times.month.to_numpy() * 100 + times.day.to_numpy()
    years = times.year.to_numpy().astype(np.int64)
    if first <= last:
        inside = (first <= days) & (days <= last)
    else:
        inside = (days >= first) | (days <= last)
        years = np.where(days <= last, years - 1, years)
    if not inside.any():
        msg = (
            f"none of {len(times)} passes lies in the season {season[0]} to {season[1]}; give another season or period"
        )
        raise NoObservations(msg)
    all_years = np.arange(years[inside].min(), years[inside].max() + 1)
    tracks, track_codes = np.unique(area["track"].to_numpy(), return_inverse=True)
    groups = np.where(inside, track_codes * len(all_years) + years - all_years[0], -1)
    reduced = xr.apply_ufunc(
        _reduce,
        _whole(area["area_km2"]),
        _whole(area["observed_fraction"]),
        xr.Variable("time", groups),
        xr.Variable("time", times.to_numpy()),
        xr.Variable("time", track_codes),
        kwargs={"shape": (len(tracks), len(all_years)), "min_observed": float(min_observed)},
        input_core_dims=[["time"]] * 5,
        output_core_dims=[*[["track", "year"]] * 5, ["track"]],
        dask="parallelized",
        output_dtypes=[np.float64, np.float64, np.int32, np.int32, times.dtype, np.float64],
        dask_gufunc_kwargs={"output_sizes": {"track": len(tracks), "year": len(all_years)}},
    )
    names = ("maximum", "median", "passes", "passes_excluded", "time_of_maximum", "observed_fraction")
    units = area["area_km2"].attrs.get("units", "km2")
    attrs: dict[str, dict[str, Any]] = {
        "maximum": {"long_name": "largest area of the season", "units": units, "ancillary_variables": "passes"},
        "median": {"long_name": "median area of the season", "units": units, "ancillary_variables": "passes"},
        "passes": {"long_name": "passes used", "units": "1"},
        "passes_excluded": {"long_name": "passes observed too little, or with unknown area", "units": "1"},
        "time_of_maximum": {"long_name": "time of the largest area", "standard_name": "time"},
        "observed_fraction": {"long_name": "largest observed fraction of the lake zone", "units": "1"},
    }
    for name, variable in zip(names, reduced, strict=True):
        variable.attrs = attrs[name]
    return xr.Dataset(
        dict(zip(names, reduced, strict=True)),
        coords={"track": ("track", tracks, dict(area["track"].attrs)), "year": all_years},
        attrs={**area.attrs, "season_start": season[0], "season_end": season[1], "min_observed": float(min_observed)},
    )


def _check(area: xr.Dataset, min_observed: float) -> pd.DatetimeIndex:
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


def _reduce(
    area: NDArray[np.float64],
    fraction: NDArray[np.float64],
    groups: NDArray[np.int64],
    times: NDArray[np.datetime64],
    tracks: NDArray[np.int64],
    *,
    shape: tuple[int, int],
    min_observed: float,
) -> tuple[NDArray[Any], ...]:
    maximum, median = np.full(shape, np.nan), np.full(shape, np.nan)
    passes, excluded = np.zeros(shape, np.int32), np.zeros(shape, np.int32)
    moment = np.full(shape, np.datetime64("NaT"), times.dtype)
    best = np.array([fraction[tracks == track].max() for track in range(shape[0])])
    usable = ~np.isnan(area) & (fraction >= min_observed * best[tracks])
    for group in np.unique(groups[groups >= 0]):
        cell = np.unravel_index(group, shape)
        members = np.flatnonzero(groups == group)
        used = members[usable[members]]
        passes[cell], excluded[cell] = used.size, members.size - used.size
        if used.size:
            maximum[cell], median[cell] = area[used].max(), np.median(area[used])
            moment[cell] = times[used[area[used] == maximum[cell]]].min()
    return maximum, median, passes, excluded, moment, best
