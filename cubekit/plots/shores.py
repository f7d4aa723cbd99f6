"""The figure of a lake's outlines over the years."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from shapely.geometry import shape

from cubekit.errors import ConfigError
from cubekit.lakes import Lake
from cubekit.plots.chips import draw_rings, rings
from cubekit.plots.figures import own_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_outlines(collection: Mapping[str, Any], lake: Lake, ax: Axes | None = None) -> Axes:
    """Draw the shores of several passes on a map, coloured by their date.

    Parameters
    ----------
    collection
        What `outlines` returns, or a GeoJSON of `write_outlines` as read by `json.load`. Passes of one track, one or
        few a year, make a legible figure: ``outlines(probability.sel(time=times), lake)`` with the times of the
        seasons' maxima. Features without geometry are not drawn.
    lake
        Gives the projection; its known outline is drawn dashed.
    ax
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        Dark is early, light is late, also in grey; a colour bar gives the years. Axes in kilometres of the lattice's
        coordinates.

    Raises
    ------
    ConfigError
        When the collection is none of features with times, or of another lake.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> ax = plot_outlines({"type": "FeatureCollection", "features": []}, catalogue()["gokyo"])
    >>> ax.get_title(), ax.get_xlabel()
    ('Gokyo (Dudh Pokhari), no shore', 'easting (km)')
    """
    from matplotlib.collections import LineCollection
    from matplotlib.colors import ListedColormap

    drawn = _shores(collection, lake)
    ax = own_axes(ax)
    if drawn:
        from matplotlib import colormaps

        # Without the lightest tenth, which is lost on white paper.
        colours = ListedColormap(colormaps["cividis"](np.linspace(0, 0.9, 256)), name="dark to light")
        segments = [np.asarray(ring.coords)[:, :2] / 1e3 for _, geometry in drawn for ring in rings(geometry)]
        years = np.array([year for year, geometry in drawn for _ in rings(geometry)])
        lines = LineCollection(segments, array=years, cmap=colours, linewidths=1.2, label="shores found, by year")
        ax.add_collection(lines)
        ax.autoscale_view()
        figure = ax.get_figure()
        if figure is not None:
            figure.colorbar(lines, ax=ax, label="year", shrink=0.8, format="{x:.0f}" if np.ptp(years) > 3 else None)
    draw_rings(ax, lake.project(lake.outline), color="#d62728", linestyle="--", label="outline of the catalogue")
    found = f"{len(drawn)} shores" if len(drawn) > 1 else ("one shore" if drawn else "no shore")
    ax.set(xlabel="easting (km)", ylabel="northing (km)", title=f"{lake.title}, {found}")
    ax.set_aspect("equal")
    ax.legend(loc="upper right", fontsize=8, framealpha=0.9)
    return ax


def _shores(collection: Mapping[str, Any], lake: Lake) -> list[tuple[float, Any]]:
    """Shores by time, with their year as a decimal, in the lattice's metres."""
    try:
        features = [
            (pd.Timestamp(feature["properties"]["time"]), feature["properties"]["lake"], feature["geometry"])
            for feature in collection["features"]
        ]
    except (KeyError, TypeError, ValueError) as error:
        msg = f"the collection is none of shores with lake and time ({error!r}); give what outlines returns"
        raise ConfigError(msg) from error
    if other := {name for _, name, _ in features} - {lake.id}:
        msg = f"the shores are of {', '.join(sorted(other))}, the lake is {lake.id!r}; give shores of one lake"
        raise ConfigError(msg)
    features.sort(key=lambda one: one[0])
    return [(_year(time), lake.project(shape(geometry))) for time, _, geometry in features if geometry is not None]


def _year(time: pd.Timestamp) -> float:
    return time.year + (time.dayofyear - 1) / (366 if time.is_leap_year else 365)
