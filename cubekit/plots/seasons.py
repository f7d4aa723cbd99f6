"""The figure of the seasons' statistics."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from dask.base import compute

from cubekit.plots.figures import own_axes, track_title
from cubekit.plots.looks import finish, need, styles, unit
from cubekit.plots.trends import draw_trend, known_years

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_OTHERS = {"fair_maximum": ("x", "fair maximum"), "percentile_90": ("_", "90th percentile")}


def plot_maxima(maxima: xr.Dataset, ax: Axes | None = None, *, trends: xr.Dataset | None = None) -> Axes:
    """Draw each season's largest area with the count of looks behind it, and its fairer statistics, track by track.

    Parameters
    ----------
    maxima
        What `summer_maxima` returns.
    ax
        Axes to draw on; by default those of a new figure.
    trends
        What `trend` returns for a variable of `maxima`.

    Returns
    -------
    matplotlib.axes.Axes
        Filled markers are maxima, with the number of usable passes beside them, since a maximum grows with it; hollow
        ones are medians, crosses the fair maxima and dashes the 90th percentiles where there are such. Lines join years
        that follow each other; a missing year is a gap.

    Raises
    ------
    ConfigError
        When a variable is absent.
    """
    from matplotlib.ticker import MaxNLocator

    need(maxima, ("maximum", "median", "passes", "track", "year"), "summer_maxima")
    maxima, trends = compute(maxima, trends)
    ax = own_axes(ax)
    for track, style in styles(maxima["track"].to_numpy().tolist()).items():
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
        for name, (marker, word) in _OTHERS.items():
            if name in one and np.isfinite(one[name]).any():
                ax.plot(
                    year,
                    one[name],
                    linestyle="none",
                    marker=marker,
                    color=style["color"],
                    label=f"{track_title(track)} {word}",
                )
        for at, value, count in zip(year, largest, one["passes"].to_numpy(), strict=True):
            if np.isfinite(value):
                ax.annotate(str(count), (at, value), (0, 5), textcoords="offset points", ha="center", fontsize=7)
        if trends is not None and track in trends["track"]:
            years = known_years(one["maximum"])
            draw_trend(ax, trends.sel(track=track), years, at=years, style=style, name=track_title(track))
    finish(ax, maxima, xlabel="year", ylabel=f"area of the season ({unit(maxima['maximum'])})")
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))
    return ax
