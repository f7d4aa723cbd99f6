"""Figures of areas: passes, seasons, trends."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray

from cubekit.errors import ConfigError
from cubekit.plots.figures import own_axes, track_title
from cubekit.series.season import MIN_OBSERVED, SEASON
from cubekit.series.trend import VERDICTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LONGEST_STEP = np.timedelta64(300, "h")
"""Passes of a track further apart than this (12.5 days) have a missing one between them: the repeat is 12 days."""

# Dark to light, so that tracks stay apart in grey; each with its own marker and line style as well.
_COLOURS = ("#15355e", "#b0502a", "#3f8f6d", "#8d6bb1", "#c79a2b", "#6d6d6d")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))


def plot_area(
    area: xr.Dataset,
    ax: Axes | None = None,
    *,
    maxima: xr.Dataset | None = None,
    trends: xr.Dataset | None = None,
) -> Axes:
    """Draw a lake's area over the years, track by track: the paper's Figure 6 with what it left out.

    Parameters
    ----------
    area
        What `lake_area` returns. Points with their intervals; hollow where less of the zone was observed than the
        maxima's ``min_observed`` (0.9 without maxima) of the most that the track sees; missing passes are not drawn. A
        thin line joins passes of one track that follow each other without a gap (12 days), never across a missing pass
        and never across tracks.
    ax
        Axes to draw on; by default those of a new figure.
    maxima
        What `summer_maxima` returns: the largest area of each season is ringed.
    trends
        What `trend` returns for a variable of `maxima` (the median is the fair one): a line a track over its years,
        with slope, interval and verdict in the legend.

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
    _need(area, ("area_km2", "area_low", "area_high", "observed_fraction", "track"), "lake_area")
    if maxima is not None:
        _need(maxima, ("maximum", "time_of_maximum", "track"), "summer_maxima")
    area, maxima, trends = compute(area, maxima, trends)
    ax = own_axes(ax)
    limit = MIN_OBSERVED if maxima is None else float(maxima.attrs.get("min_observed", MIN_OBSERVED))
    tracks = _styles(np.unique(area["track"].to_numpy()).tolist())
    hollow = False
    for track, style in tracks.items():
        passes = area.isel(time=np.flatnonzero(area["track"].to_numpy() == track)).sortby("time")
        hollow |= _draw_passes(ax, passes, limit, style, _name(track, passes))
        if maxima is not None and track in maxima["track"]:
            _draw_maxima(ax, maxima.sel(track=track))
        if trends is not None and track in trends["track"]:
            years = _years(maxima.sel(track=track)["maximum"]) if maxima is not None else _calendar(passes)
            _draw_trend(
                ax,
                trends.sel(track=track),
                years,
                at=season_middle(years, maxima),
                style=style,
                name=track_title(track),
            )
    ax.plot([], [], "|", color="#444444", markersize=9, label="bars: area_low to area_high")
    if hollow:
        label = f"hollow: saw less than {limit * 100:g} % of what its track sees at best"
        ax.plot([], [], "o", color="#444444", markerfacecolor="none", label=label)
    if maxima is not None:
        start, end = (
            maxima.attrs.get(name, day) for name, day in zip(("season_start", "season_end"), SEASON, strict=True)
        )
        ax.plot(
            [],
            [],
            "o",
            color="black",
            markerfacecolor="none",
            markersize=10,
            label=f"season's maximum ({start} to {end})",
        )
    _finish(ax, area, xlabel="time (UTC)", ylabel=f"area ({_unit(area['area_km2'])})")
    return ax


def plot_maxima(maxima: xr.Dataset, ax: Axes | None = None, *, trends: xr.Dataset | None = None) -> Axes:
    """Draw each season's largest area with the count of looks behind it, and its median, track by track.

    Parameters
    ----------
    maxima
        What `summer_maxima` returns.
    ax
        Axes to draw on; by default those of a new figure.
    trends
        What `trend` returns for ``maximum``.

    Returns
    -------
    matplotlib.axes.Axes
        Filled markers are maxima, with the number of usable passes beside them, since a maximum grows with it; hollow
        ones are medians. Lines join years that follow each other; a missing year is a gap.

    Raises
    ------
    ConfigError
        When a variable is absent.
    """
    from matplotlib.ticker import MaxNLocator

    _need(maxima, ("maximum", "median", "passes", "track", "year"), "summer_maxima")
    maxima, trends = compute(maxima, trends)
    ax = own_axes(ax)
    for track, style in _styles(maxima["track"].to_numpy().tolist()).items():
        one = maxima.sel(track=track).transpose("year")
        year, largest = one["year"].to_numpy(), one["maximum"].to_numpy()
        points = {"color": style["color"], "marker": style["marker"], "markersize": 5}
        ax.plot(year, largest, linewidth=0.8, label=f"{track_title(track)} maximum (number of passes)", **points)
        ax.plot(
            year,
            one["median"],
            linestyle="none",
            markerfacecolor="none",
            label=f"{track_title(track)} median",
            **points,
        )
        for at, value, count in zip(year, largest, one["passes"].to_numpy(), strict=True):
            if np.isfinite(value):
                ax.annotate(str(count), (at, value), (0, 5), textcoords="offset points", ha="center", fontsize=7)
        if trends is not None and track in trends["track"]:
            years = _years(one["maximum"])
            _draw_trend(ax, trends.sel(track=track), years, at=years, style=style, name=track_title(track))
    _finish(ax, maxima, xlabel="year", ylabel=f"area of the season ({_unit(maxima['maximum'])})")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax


def _need(dataset: xr.Dataset, names: tuple[str, ...], origin: str) -> None:
    if absent := [name for name in names if name not in dataset.variables]:
        msg = f"{', '.join(absent)} can't be drawn because it is not there; give what {origin} returns"
        raise ConfigError(msg)


def _styles(tracks: list[Any]) -> dict[Any, dict[str, Any]]:
    """Colour, marker and line style of every track, by its order."""
    looks = zip(cycle(_COLOURS), cycle(_MARKERS), cycle(_LINES), strict=False)
    names = ("color", "marker", "linestyle")
    return {track: dict(zip(names, look, strict=True)) for track, look in zip(tracks, looks, strict=False)}


def _name(track: Any, passes: xr.Dataset) -> str:
    directions = np.unique(passes["orbit_direction"]).tolist() if "orbit_direction" in passes.variables else []
    words = {(0,): " ascending", (1,): " descending"}
    return track_title(track) + words.get(tuple(directions), "")


def _unit(array: xr.DataArray) -> str:
    """UDUNITS for people: 'km2 year-1' is km²/year."""
    value, _, per = str(array.attrs.get("units", "km2")).partition(" ")
    return value.replace("km2", "km²") + (f"/{per.removesuffix('-1')}" if per else "")


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
    ax.plot(
        *_with_gaps(time, np.where(full, area, np.nan)),
        color=style["color"],
        linewidth=0.5,
        alpha=0.6,
        label=f"_joined {label}",
    )
    points = {"color": style["color"], "marker": style["marker"], "markersize": 4, "linestyle": "none"}
    ax.plot(time[full], area[full], label=label, **points)
    poor = known & ~full
    ax.plot(time[poor], area[poor], label=f"_hollow {label}", markerfacecolor="none", **points)
    return bool(poor.any())


def _with_gaps(time: NDArray[np.datetime64], values: NDArray[Any]) -> tuple[NDArray[np.datetime64], NDArray[Any]]:
    """Put a NaN wherever a pass is missing, so that no line is drawn across."""
    gaps = np.flatnonzero(np.diff(time) > LONGEST_STEP) + 1
    return np.insert(time, gaps, time[gaps]), np.insert(values, gaps, np.nan)


def _draw_maxima(ax: Axes, maxima: xr.Dataset) -> None:
    found = np.isfinite(maxima["maximum"].to_numpy())
    ax.plot(
        maxima["time_of_maximum"].to_numpy()[found],
        maxima["maximum"].to_numpy()[found],
        linestyle="none",
        marker="o",
        markersize=10,
        color="black",
        markerfacecolor="none",
        label=f"_maxima {track_title(maxima['track'].item())}",
    )


def _years(maximum: xr.DataArray) -> NDArray[np.int64]:
    return np.asarray(maximum["year"].to_numpy()[np.isfinite(maximum.to_numpy())], dtype=np.int64)


def _calendar(passes: xr.Dataset) -> NDArray[np.int64]:
    known = passes["time"].to_numpy()[np.isfinite(passes["area_km2"].to_numpy())]
    return np.unique(known.astype("datetime64[Y]").astype(np.int64) + 1970)


def season_middle(years: NDArray[np.int64], maxima: xr.Dataset | None) -> NDArray[np.datetime64]:
    """Where on the time axis a season of a year stands."""
    attrs = {} if maxima is None else maxima.attrs
    start, end = (str(attrs.get(name, day)) for name, day in zip(("season_start", "season_end"), SEASON, strict=True))

    def days(texts: list[str]) -> NDArray[np.datetime64]:
        months = np.array([text[:-3] for text in texts], "datetime64[M]").astype("datetime64[D]")
        days_later = np.array([int(text[-2:]) - 1 for text in texts], "timedelta64[D]")
        return np.asarray(months + days_later)

    first = days([f"{year:04d}-{start}" for year in years])
    last = days([f"{year + (end < start):04d}-{end}" for year in years])
    return np.asarray(first + (last - first) / 2)


def _draw_trend(
    ax: Axes, found: xr.Dataset, years: NDArray[np.int64], *, at: NDArray[Any], style: dict[str, Any], name: str
) -> None:
    """Draw a trend over its years; one of too few seasons is a line of text only."""
    slope, low, high, intercept, p = (
        float(found[key]) for key in ("slope", "slope_low", "slope_high", "intercept", "p_value")
    )
    count, verdict = int(found["n"]), VERDICTS[int(found["verdict"])]
    if found.attrs.get("of", "None") != "None":
        name = f"{name} {found.attrs['of']}"
    if verdict == VERDICTS[0] or not len(years):
        ax.plot([], [], linestyle="none", label=f"{name}: too few seasons for a trend (n = {count})")
        return
    label = (
        f"{name}: {slope:+.2g} {_unit(found['slope'])} (95 %: {low:+.2g} to {high:+.2g}), "
        f"p = {p:.2g}, n = {count}: {verdict.replace('_', ' ')}"
    )
    ends = [0, -1]
    ax.plot(
        at[ends],
        intercept + slope * years[ends],
        color=style["color"],
        linestyle=style["linestyle"],
        linewidth=1.8,
        label=label,
    )


def _finish(ax: Axes, dataset: xr.Dataset, *, xlabel: str, ylabel: str) -> None:
    title = dataset.attrs.get("lake_title", dataset.attrs.get("lake", ""))
    ax.set(xlabel=xlabel, ylabel=ylabel, title=str(title))
    ax.grid(visible=True, linewidth=0.3, color="#cccccc")
    ax.set_axisbelow(True)
    # Below the data: a decade of passes leaves no corner free.
    ax.legend(loc="upper left", bbox_to_anchor=(0, -0.13), fontsize=8, ncols=1, frameon=False)
