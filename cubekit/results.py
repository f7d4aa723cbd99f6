"""All that a lake's areas say: seasons, trends, the fused series, what is usual, ice, volumes, alerts. No files."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from cubekit import series
from cubekit.errors import NoObservations
from cubekit.passes import PLATFORMS
from cubekit.series.fusion import completed_alike
from cubekit.series.season import LOOKS, MIN_OBSERVED, SEASON

STATISTICS = ("maximum", "fair_maximum", "percentile_90", "median")
"""Statistics of a season whose trends are computed: the paper's, and those that are fairer to the number of passes."""

FAIR = "median"
"""The statistic whose trend heads the results."""

FUSED = "fused"
"""Name of the track that stands for all of them, at the level of the one that sees most of the lake."""


@dataclass
class Results:
    """What the areas of one lake say.

    Parameters
    ----------
    area
        Over time, as given, with what is usual beside it: ``expected_km2``, ``expected_spread_km2``, ``anomaly_km2``.
    maxima, trends
        What `summer_maxima` gives, with the bounds of every statistic, and the trends of `STATISTICS`; by track.
    fused
        What `fuse` gives, without the covariance.
    fused_maxima, fused_trends
        The same as `maxima` and `trends` of `levelled` passes: one track, `FUSED`.
    climatology, ice
        What `climatology` gives for open water, and `ice_dates`.
    volumes
        What `volume` gives for the seasons' medians, of the fused series or else of the track that sees most.
    alerts
        What `replay` gives.
    unknown
        What of all this isn't there (None or empty), with the reason.
    """

    area: xr.Dataset
    climatology: xr.Dataset
    alerts: pd.DataFrame
    maxima: xr.Dataset | None = None
    trends: dict[str, xr.Dataset] = field(default_factory=dict)
    fused: xr.Dataset | None = None
    fused_maxima: xr.Dataset | None = None
    fused_trends: dict[str, xr.Dataset] = field(default_factory=dict)
    ice: xr.Dataset | None = None
    volumes: xr.Dataset | None = None
    unknown: dict[str, str] = field(default_factory=dict)


def measure(
    area: xr.Dataset,
    *,
    season: tuple[str, str] | Literal["auto"] = SEASON,
    min_observed: float = MIN_OBSERVED,
    looks: int = LOOKS,
) -> Results:
    """Find all that the areas of a lake say.

    Parameters
    ----------
    area
        What `lake_area` returns, in memory, of one lake; its ``state`` as `lake_states` tells it. Where it has the
        variable ``state_then``, the state as it was known at the time, alerts rest on that.
    season, min_observed, looks
        As in `summer_maxima`.

    Returns
    -------
    Results
        What can't be known is None or empty, with the reason in ``unknown``.

    Raises
    ------
    ConfigError
        As the verbs of `cubekit.series` do, when a variable is absent or an option out of range.

    Notes
    -----
    Areas of different tracks are different measurements: all is by track, but the fused series.

    Examples
    --------
    >>> times = np.array(["2020-07-05", "2020-08-10", "2021-07-05"], "datetime64[ns]")
    >>> km2 = {"area_km2": [1.5, 1.6, 1.7], "area_low": [1.4, 1.5, 1.6], "area_high": [1.6, 1.7, 1.8]}
    >>> values = {**km2, "observed_fraction": [1.0] * 3, "state": [1] * 3}
    >>> area = xr.Dataset({name: ("time", numbers) for name, numbers in values.items()}, {"time": times})
    >>> found = measure(area.assign_coords(track=("time", [121] * 3)))
    >>> found.maxima["median"].values.tolist(), found.unknown["fused series"]
    ([[1.55, 1.7]], 'there are usable passes of one track only')
    """
    usable = usable_passes(area, min_observed)
    open_water = area["area_km2"].where(xr.DataArray(usable, dims="time"))
    usual = series.anomalies(open_water)
    named = {"expected": "expected_km2", "spread": "expected_spread_km2", "anomaly": "anomaly_km2"}
    then = area.assign(state=area["state_then"]) if "state_then" in area else area
    found = Results(
        area=area.assign({new: usual[old].variable for old, new in named.items()}),
        climatology=series.climatology(open_water),
        alerts=series.replay(then, min_observed=min_observed),
    )
    try:
        found.ice = series.ice_dates(area)
    except NoObservations as error:
        found.unknown["ice"] = str(error)
    if season == "auto" and not (area["state"] > 0).any():
        found.unknown["seasons"] = "they are to be found from the states, of which none is known"
    else:
        _add_seasons(found, season, min_observed, looks)
    _add_fused(found, usable, season, min_observed, looks)
    _add_volumes(found)
    return found


def usable_passes(area: xr.Dataset, min_observed: float) -> NDArray[np.bool_]:
    """Passes of open water, as far as is known, with an area, that saw enough of what their track ever sees.

    Parameters
    ----------
    area
        As for `measure`.
    min_observed
        As in `summer_maxima`.
    """
    tracks, codes = np.unique(area["track"].to_numpy(), return_inverse=True)
    fraction = area["observed_fraction"].to_numpy()
    best = np.array([np.nan_to_num(fraction[codes == code]).max() for code in range(len(tracks))])
    usable = area["area_km2"].notnull().to_numpy() & (fraction >= min_observed * best[codes])
    return np.asarray(usable & np.isin(area["state"].to_numpy(), series.MAYBE_OPEN))


def evened(area: xr.Dataset, usable: NDArray[np.bool_]) -> xr.Dataset:
    """Complete all passes of a track by the same, where it does not see all of the lake.

    Parameters
    ----------
    area
        As for `measure`; it has ``area_completed_km2`` where tracks were completed.
    usable
        The passes that the mean is taken of.

    Returns
    -------
    xarray.Dataset
        What `fuse` takes: areas and bounds with the mean completion of their track, and what was seen as
        ``area_seen_km2``; the same Dataset where nothing was completed. What the hidden shore did meanwhile is not in
        it: each year's own completion would bring the other track's errors in twice.
    """
    if "area_completed_km2" not in area:
        return area
    _, codes = np.unique(area["track"].to_numpy(), return_inverse=True)
    completed, seen = area["area_completed_km2"].to_numpy(), area["area_km2"].to_numpy()
    rows = np.flatnonzero(usable & np.isfinite(completed))
    more = xr.DataArray(completed_alike(completed, seen, codes, rows) - seen, dims="time")
    names = ("area_km2", "area_low", "area_high")
    whole = {name: (area[name] + more).assign_attrs(area[name].attrs) for name in names}
    return area.assign({**whole, "area_seen_km2": area["area_km2"].variable})


def levelled(area: xr.Dataset, fused: xr.Dataset) -> xr.Dataset:
    """Bring the passes of all tracks to the level of one, by what `fuse` found of each track.

    Parameters
    ----------
    area
        What was fused.
    fused
        What `fuse` made of it.

    Returns
    -------
    xarray.Dataset
        The passes that were used, their areas and bounds less the offset and drift of their track and the steps that
        were found; ``observed_fraction`` is 1 and ``track`` is `FUSED`.

    Notes
    -----
    The fused series itself is smooth: neighbouring seasons share their passes, and a test for trends would take the
    smoothing for a trend. These passes aren't smoothed.
    """
    places = np.flatnonzero(fused["weight"].to_numpy() > 0)
    used = area.isel(time=places)
    times = pd.DatetimeIndex(used["time"].to_numpy())
    years = (times - times.mean()) / pd.Timedelta(days=365.25)
    mine = fused.sel(track=used["track"].to_numpy().astype(str))
    shift = mine["offset"].to_numpy() + mine["drift"].to_numpy() * np.asarray(years, np.float64)
    for step in fused["step"].to_numpy()[fused["step_found"].to_numpy()].tolist():
        name, _, kind = str(step).partition(" ")
        words = used[name].to_numpy()
        words = np.array(PLATFORMS)[words] if name == "platform" and words.dtype.kind in "iu" else words.astype(str)
        shift = shift + np.where(words == kind, float(fused["step_size"].sel(step=step)), 0.0)
    moved = {name: used[name] - shift for name in ("area_km2", "area_low", "area_high")}
    for name, values in moved.items():
        values.attrs = dict(area[name].attrs)
    seen = xr.ones_like(used["observed_fraction"])
    return used.assign({**moved, "observed_fraction": seen}).assign_coords(track=("time", [FUSED] * len(places)))


def seasons(
    area: xr.Dataset, season: tuple[str, str] | Literal["auto"], *, min_observed: float, looks: int
) -> xr.Dataset:
    """Take `summer_maxima` of the areas and of their bounds.

    Parameters
    ----------
    area, season, min_observed, looks
        As in `summer_maxima`.

    Returns
    -------
    xarray.Dataset
        As `summer_maxima` gives it, and ``<statistic>_low`` and ``<statistic>_high`` of each of `STATISTICS`: the same
        of the lower and of the upper bounds of the passes. Most of an area's error is the same in every pass, so they
        are not narrower.

    Raises
    ------
    ConfigError, NoObservations
        As `summer_maxima`.
    """
    found = series.summer_maxima(area, season=season, min_observed=min_observed, looks=looks)
    for end in ("low", "high"):
        bound = area[f"area_{end}"].where(area["area_km2"].notnull()).assign_attrs(area["area_km2"].attrs)
        other = series.summer_maxima(area.assign(area_km2=bound), season=season, min_observed=min_observed, looks=looks)
        found = found.assign({f"{name}_{end}": other[name] for name in STATISTICS})
    return found


def season_trends(maxima: xr.Dataset) -> dict[str, xr.Dataset]:
    """Take the trends of `STATISTICS`.

    Parameters
    ----------
    maxima
        What `seasons` returns.

    Returns
    -------
    dict of str to xarray.Dataset
        As `trend` gives them, with intervals and verdicts that carry the areas' own; and ``scatter_low``,
        ``scatter_high``, ``scatter_detectable``, ``scatter_verdict``: the same of the scatter of the seasons alone.
        These say whether the series rises, the others whether the lake does, whatever is wrong with its areas.
    """
    found = {}
    names = {"slope_low": "scatter_low", "slope_high": "scatter_high"}
    names |= {"detectable": "scatter_detectable", "verdict": "scatter_verdict"}
    for name in STATISTICS:
        carried = series.trend(maxima[name], low=maxima[f"{name}_low"], high=maxima[f"{name}_high"])
        alone = series.trend(maxima[name])
        found[name] = carried.assign({new: alone[old].variable for old, new in names.items()})
    return found


def _add_seasons(found: Results, season: tuple[str, str] | Literal["auto"], min_observed: float, looks: int) -> None:
    try:
        found.maxima = seasons(found.area, season, min_observed=min_observed, looks=looks)
    except NoObservations as error:
        found.unknown["seasons"] = str(error)
    else:
        found.trends = season_trends(found.maxima)


def _add_fused(
    found: Results,
    usable: NDArray[np.bool_],
    season: tuple[str, str] | Literal["auto"],
    min_observed: float,
    looks: int,
) -> None:
    tracks = np.unique(found.area["track"].to_numpy()[usable])
    if tracks.size < 2:
        found.unknown["fused series"] = f"there are usable passes of {'one track' if tracks.size else 'no track'} only"
        return
    whole = evened(found.area, usable)
    try:
        found.fused = series.fuse(whole, min_observed=min_observed).drop_vars("covariance")
    except NoObservations as error:
        found.unknown["fused series"] = str(error)
        return
    passes = levelled(whole, found.fused)
    if "seasons" in found.unknown:
        found.unknown["fused seasons"] = found.unknown["seasons"]
        return
    try:
        found.fused_maxima = seasons(passes, season, min_observed=min_observed, looks=looks)
    except NoObservations as error:
        found.unknown["fused seasons"] = str(error)
    else:
        found.fused_trends = season_trends(found.fused_maxima)


def _add_volumes(found: Results) -> None:
    if found.fused_maxima is not None:
        medians = found.fused_maxima[FAIR].sel(track=FUSED)
    elif found.maxima is not None:
        medians = found.maxima[FAIR].isel(track=int(np.nanargmax(found.maxima["observed_fraction"].to_numpy())))
    else:
        found.unknown["volumes"] = "no season has an area"
        return
    found.volumes = series.volume(medians).assign(area_km2=medians)
