"""The figure of a lake's area: passes, fused line, seasons, trends."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray

from cubekit.plots.figures import own_axes, track_title
from cubekit.plots.looks import STATE_LOOKS, finish, need, styles, track_name, unit
from cubekit.plots.trends import calendar_years, draw_trend, known_years, season_days, season_middle
from cubekit.series.season import MIN_OBSERVED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_STEP = np.timedelta64(300, "h")
"""Passes of a track further apart than this (12.5 days) have a missing one between them: the repeat is 12 days."""

FUSED_REACH = np.timedelta64(50, "D")
"""A fused line is not drawn further than this from a pass: over a season without one it is its smoother's alone."""


def plot_area(
    area: xr.Dataset,
    ax: Axes | None = None,
    *,
    maxima: xr.Dataset | None = None,
    trends: xr.Dataset | None = None,
    fused: xr.Dataset | None = None,
) -> Axes:
    """Draw a lake's area over the years, track by track: the paper's Figure 6 with what it left out.

    Parameters
    ----------
    area
        What `lake_area` returns. Points with their intervals; hollow where less of the zone was observed than the
        maxima's ``min_observed`` (0.9 without maxima) of the most that the track sees; missing passes are not drawn.
        Where ``state`` is known, passes of other states than open water are coloured by it and filled by half, each
        state another half. A thin line joins passes of one track that follow each other without a gap (12 days), never
        across a missing pass and never across tracks.
    ax
        Axes to draw on; by default those of a new figure.
    maxima
        What `summer_maxima` returns: the largest area of each season is ringed, its median is a bar there.
    trends
        What `trend` returns for a variable of `maxima` (the median is the fair one): a line a track over its years, the
        slope's interval as a band about its middle, with slope, interval and verdict in the legend.
    fused
        What `fuse` returns: a black line in a grey band, with gaps where no pass was used for 100 days.

    Returns
    -------
    matplotlib.axes.Axes
        `ax`, or the new one.

    Raises
    ------
    ConfigError
        When a variable or the coordinate ``track`` is absent.

    Notes
    -----
    Computes what is lazy, all at once.

    Examples
    --------
    >>> times = np.array(["2021-07-05", "2021-07-17", "2021-08-10"], "datetime64[s]")
    >>> km2 = {name: ("time", [1.5, np.nan, 1.6]) for name in ("area_km2", "area_low", "area_high")}
    >>> coords = {"time": times, "track": ("time", [121, 121, 121])}
    >>> area = xr.Dataset({**km2, "observed_fraction": ("time", [1.0, 0.0, 1.0])}, coords, {"lake_title": "Gokyo"})
    >>> ax = plot_area(area)
    >>> ax.get_title(), ax.get_ylabel()
    ('Gokyo', 'area (km²)')
    """
    need(area, ("area_km2", "area_low", "area_high", "observed_fraction", "track"), "lake_area")
    if maxima is not None:
        need(maxima, ("maximum", "median", "time_of_maximum", "track"), "summer_maxima")
    if fused is not None:
        need(fused, ("area_km2", "area_low", "area_high", "gap_days"), "fuse")
    area, maxima, trends, fused = compute(area, maxima, trends, fused)
    ax = own_axes(ax)
    limit = MIN_OBSERVED if maxima is None else float(maxima.attrs.get("min_observed", MIN_OBSERVED))
    hollow = False
    for track, style in styles(np.unique(area["track"].to_numpy()).tolist()).items():
        passes = area.isel(time=np.flatnonzero(area["track"].to_numpy() == track)).sortby("time")
        hollow |= _draw_passes(ax, passes, limit, style, track_name(track, passes))
        if maxima is not None and track in maxima["track"]:
            _draw_seasons(ax, maxima.sel(track=track), style)
        if trends is not None and track in trends["track"]:
            years = known_years(maxima.sel(track=track)["maximum"]) if maxima is not None else calendar_years(passes)
            draw_trend(
                ax,
                trends.sel(track=track),
                years,
                at=season_middle(years, maxima),
                style=style,
                name=track_title(track),
            )
    if fused is not None:
        _draw_fused(ax, fused.sortby("time"))
    _explain(ax, area, limit if hollow else None, maxima)
    finish(ax, area, xlabel="time (UTC)", ylabel=f"area ({unit(area['area_km2'])})")
    return ax


def _draw_passes(ax: Axes, passes: xr.Dataset, limit: float, style: dict[str, Any], label: str) -> bool:
    """Draw one track's passes; tell whether some are hollow."""
    time, area = passes["time"].to_numpy(), passes["area_km2"].to_numpy()
    known = np.isfinite(area)
    fraction = passes["observed_fraction"].to_numpy()
    full = known & (fraction >= limit * fraction.max())
    below, above = area - passes["area_low"].to_numpy(), passes["area_high"].to_numpy() - area
    ax.errorbar(
        time[known],
        area[known],
        yerr=(below[known], above[known]),
        fmt="none",
        ecolor=style["color"],
        elinewidth=0.7,
        alpha=0.4,
    )
    joined = _with_gaps(time, np.where(full, area, np.nan), LONGEST_STEP)
    ax.plot(*joined, color=style["color"], linewidth=0.5, alpha=0.6, label=f"_joined {label}")
    points = {"color": style["color"], "marker": style["marker"], "markersize": 5, "linestyle": "none"}
    states = _states(passes)
    coloured = np.isin(states, list(STATE_LOOKS)) if states.any() else np.zeros(states.shape, bool)
    plain = full & ~coloured
    ax.plot(time[plain], area[plain], label=label, **points)
    for code, look in STATE_LOOKS.items():
        of_state = full & coloured & (states == code)
        if of_state.any():
            ax.plot(
                time[of_state],
                area[of_state],
                fillstyle=look.fill,
                markerfacecolor=look.colour,
                markerfacecoloralt="white",
                markeredgewidth=0.6,
                label=f"_{look.word} {label}",
                **points,
            )
    poor = known & ~full
    ax.plot(time[poor], area[poor], label=f"_hollow {label}", markerfacecolor="none", **points)
    return bool(poor.any())


def _states(passes: xr.Dataset) -> NDArray[Any]:
    return passes["state"].to_numpy() if "state" in passes.variables else np.zeros(passes.sizes["time"], np.int8)


def _with_gaps(
    time: NDArray[np.datetime64], values: NDArray[Any], longest: np.timedelta64
) -> tuple[NDArray[np.datetime64], NDArray[Any]]:
    """Put a NaN into every step that is too long, so that no line is drawn across."""
    gaps = np.flatnonzero(np.diff(time) > longest) + 1
    return np.insert(time, gaps, time[gaps]), np.insert(values, gaps, np.nan)


def _draw_seasons(ax: Axes, maxima: xr.Dataset, style: dict[str, Any]) -> None:
    """Ring the largest areas, and draw the medians over their seasons."""
    found = np.isfinite(maxima["maximum"].to_numpy())
    name = track_title(maxima["track"].item())
    ax.plot(
        maxima["time_of_maximum"].to_numpy()[found],
        maxima["maximum"].to_numpy()[found],
        linestyle="none",
        marker="o",
        markersize=10,
        color="black",
        markerfacecolor="none",
        label=f"_maxima {name}",
    )
    years, median = maxima["year"].to_numpy()[found], maxima["median"].to_numpy()[found]
    half = np.timedelta64(45, "D")
    middle = season_middle(years, maxima).astype("datetime64[s]")
    ax.hlines(
        median, middle - half, middle + half, colors=style["color"], linewidth=2.5, alpha=0.8, label=f"_medians {name}"
    )


def _draw_fused(ax: Axes, fused: xr.Dataset) -> None:
    near = fused["gap_days"].to_numpy() <= FUSED_REACH / np.timedelta64(1, "D")
    time = fused["time"].to_numpy()[near]
    area, low, high = (
        _with_gaps(time, fused[name].to_numpy()[near], 2 * FUSED_REACH)
        for name in ("area_km2", "area_low", "area_high")
    )
    label = "_interval of the fused series"
    ax.fill_between(area[0], low[1], high[1], color="black", alpha=0.15, linewidth=0, label=label)
    level = ""
    if "reference" in fused.variables:
        level = " at the level of " + ", ".join(
            track_title(int(track)) if str(track).isdigit() else str(track)
            for track in fused["track"].to_numpy()[fused["reference"].to_numpy()].tolist()
        )
    ax.plot(*area, color="black", linewidth=1.4, label=f"all tracks fused{level}, band: 95 %")


def _explain(ax: Axes, area: xr.Dataset, limit: float | None, maxima: xr.Dataset | None) -> None:
    """Entries of the legend for what all tracks have."""
    ax.plot([], [], "|", color="#444444", markersize=9, label="bars: area_low to area_high")
    if limit is not None:
        label = f"hollow: saw less than {limit * 100:g} % of what its track sees at best"
        ax.plot([], [], "o", color="#444444", markerfacecolor="none", label=label)
    states = _states(area)[np.isfinite(area["area_km2"].to_numpy())]
    for code, look in STATE_LOOKS.items() if states.any() else ():
        if (states == code).any():
            ax.plot(
                [],
                [],
                "o",
                color="#444444",
                fillstyle=look.fill,
                markerfacecolor=look.colour,
                markerfacecoloralt="white",
                label=look.word,
            )
    if maxima is not None:
        found = "auto" in (maxima.attrs.get("season_start"), maxima.attrs.get("season_end"))
        season = "open water" if found else " to ".join(season_days(maxima))
        label = f"season's maximum ({season})"
        ax.plot([], [], "o", color="black", markerfacecolor="none", markersize=10, label=label)
        ax.plot([], [], "-", color="#444444", linewidth=2.5, label="season's median")
