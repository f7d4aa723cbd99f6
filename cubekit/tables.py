"""The tables of a study: their columns, and a lake's rows in them."""

from __future__ import annotations

from typing import Any

import pandas as pd
import xarray as xr

from cubekit.passes import PLATFORMS
from cubekit.results import STATISTICS, Results
from cubekit.series import STATES, VERDICTS
from cubekit.series.alerts import Event

PROVENANCE = ("snapshot", "model_hash", "config_hash")
"""What every row ends with: the cube's snapshot, the model, the study."""

_BOUNDED = tuple(f"{name}{end}" for name in STATISTICS for end in ("", "_low", "_high"))
_MAXIMA = ("year", *_BOUNDED, "passes", "passes_excluded", "time_of_maximum", "observed_fraction")
_TRENDS = (
    *("slope", "slope_low", "slope_high", "intercept", "p_value", "p_independent", "autocorrelation", "detectable"),
    *("n", "verdict", "scatter_low", "scatter_high", "scatter_detectable", "scatter_verdict"),
)
_OF_PASSES = (
    *("state_probability", "vv_above_open", "expected_km2", "expected_spread_km2", "anomaly_km2"),
    *("area_completed_km2", "area_completed_low", "area_completed_high", "completed_km2"),
    *("front_m", "front_low", "front_high"),
)
_VIEWS = ("zone_seen", "outline_seen", "layover", "shadow", "no_data", "recommended")
_OF_FUSION = ("offset", "offset_low", "offset_high", "drift", "noise", "level_error", "reference")
_VOLUMES = ("area_km2", "volume", "volume_low", "volume_high", "source", "provenance")

COLUMNS: dict[str, tuple[str, ...]] = {
    "passes": ("time", "track", "platform", "state", "state_then", *_OF_PASSES, "granules"),
    "maxima": ("track", *_MAXIMA),
    "trends": ("statistic", "track", *_TRENDS),
    "fused": ("time", "area_km2", "area_low", "area_high", "level_error", "weight", "gap_days", "granules"),
    "fused_maxima": _MAXIMA[:-1],
    "fused_trends": ("statistic", *_TRENDS),
    "tracks": ("track", "passes", *_VIEWS, "passes_fused", *_OF_FUSION, "amplitude"),
    "steps": ("step", "step_size", "step_low", "step_high", "step_p", "step_passes", "step_found"),
    "climatology": ("track", "month", "median", "spread", "passes", "years"),
    "ice": ("winter", "freeze_after", "freeze_by", "thaw_after", "thaw_by", "passes"),
    "volumes": ("year", "scaling", *_VOLUMES),
    "alerts": Event._fields,
}
"""Columns of the tables by their names, between the first, ``lake``, and the last, `PROVENANCE`."""


def columns(name: str) -> list[str]:
    """All columns of a table, in order.

    Examples
    --------
    >>> columns("ice")[:3], columns("ice")[-1]
    (['lake', 'winter', 'freeze_after'], 'config_hash')
    """
    return ["lake", *COLUMNS[name], *PROVENANCE]


def tables(results: Results, tracks: xr.Dataset) -> dict[str, pd.DataFrame]:
    """A lake's rows in every table.

    Parameters
    ----------
    results
        Of the lake.
    tracks
        What `track_views` gives.

    Returns
    -------
    dict of str to pandas.DataFrame
        By the names in `COLUMNS`, with all `columns`; without rows where there is nothing to tell. What is not known
        is NaN, NaT or None.
    """
    area, fused = results.area, results.fused
    of_volumes = None if results.volumes is None else results.volumes.drop_vars("track", errors="ignore")
    made = {
        "passes": _passes(area),
        "maxima": _frame(results.maxima),
        "trends": _of_trends(results.trends),
        "fused": None if fused is None else _fused(area, fused),
        "fused_maxima": _frame(results.fused_maxima),
        "fused_trends": _of_trends(results.fused_trends),
        "tracks": _tracks(results, tracks),
        "steps": None if fused is None else _frame(fused[list(COLUMNS["steps"][1:])]),
        "climatology": _frame(results.climatology.drop_vars("amplitude")),
        "ice": _frame(results.ice),
        "volumes": None if of_volumes is None else of_volumes.to_dataframe().reset_index(),
        "alerts": _alerts(results.alerts),
    }
    found = {}
    for name, frame in made.items():
        told = pd.DataFrame() if frame is None else frame
        origin = {key: area.attrs.get(key) for key in PROVENANCE}
        found[name] = told.assign(lake=area.attrs["lake"], **origin).reindex(columns=columns(name))
    return found


def _frame(data: xr.Dataset | None) -> pd.DataFrame | None:
    return None if data is None else data.reset_coords(drop=True).to_dataframe().reset_index()


def _of_trends(trends: dict[str, xr.Dataset]) -> pd.DataFrame | None:
    frames = [
        trend.reset_coords(drop=True).to_dataframe().reset_index().assign(statistic=name)
        for name, trend in trends.items()
    ]
    if not frames:
        return None
    table = pd.concat(frames, ignore_index=True)
    for name in ("verdict", "scatter_verdict"):
        table[name] = [VERDICTS[int(code)] for code in table[name]]
    return table


def _passes(area: xr.Dataset) -> pd.DataFrame:
    wanted = [name for name in COLUMNS["passes"] if name in area.variables and name != "time"]
    table = pd.DataFrame({"time": area["time"].to_numpy()} | {name: area[name].to_numpy() for name in wanted})
    for name in ("state", "state_then"):
        if name in table:
            table[name] = [STATES[int(code)] for code in table[name]]
    if table["platform"].dtype.kind in "iu":
        table["platform"] = [PLATFORMS[int(code)] for code in table["platform"]]
    return table


def _fused(area: xr.Dataset, fused: xr.Dataset) -> pd.DataFrame:
    wanted = ("time", "area_km2", "area_low", "area_high", "weight", "gap_days")
    table = pd.DataFrame({name: fused[name].to_numpy() for name in wanted})
    level_error = float(fused["level_error"].where(fused["reference"]).max())
    return table.assign(level_error=level_error, granules=area["granules"].to_numpy())


def _tracks(results: Results, tracks: xr.Dataset) -> pd.DataFrame:
    table = tracks.to_dataframe().reset_index()
    amplitude = results.climatology["amplitude"].to_series()
    table["amplitude"] = table["track"].map(amplitude)
    if results.fused is not None:
        of_tracks = results.fused[["passes", *_OF_FUSION]].rename(passes="passes_fused").to_dataframe()
        table = pd.concat([table, of_tracks.reindex(table["track"].astype(str)).reset_index(drop=True)], axis=1)
    return table


def _alerts(alerts: pd.DataFrame) -> pd.DataFrame:
    times = {name: alerts[name].dt.tz_localize(None) for name in ("time", "since") if len(alerts)}
    return alerts.assign(**times)


def write_text(frame: pd.DataFrame, path: Any) -> None:
    """Write rows as CSV: times in UTC to the second, numbers that are read back bit for bit."""
    plain = frame.copy()
    for name in plain.select_dtypes("datetime"):
        stamps = plain[name].dt.strftime("%Y-%m-%dT%H:%M:%SZ")
        plain[name] = stamps.where(plain[name].notna(), None)
    plain.to_csv(path, index=False)
