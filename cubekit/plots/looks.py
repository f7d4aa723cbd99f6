"""How tracks and states look, and what every figure of areas has: units, title, legend."""

from __future__ import annotations

from itertools import cycle
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr

from cubekit.errors import ConfigError
from cubekit.plots.figures import track_title

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Dark to light, so that tracks stay apart in grey; each with its own marker and line style as well.
_COLOURS = ("#15355e", "#b0502a", "#3f8f6d", "#8d6bb1", "#c79a2b", "#6d6d6d")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_LINES = ("-", "--", "-.", (0, (1, 1)), (0, (5, 1, 1, 1, 1, 1)))


_WIDE_ENTRY = 60  # characters
_LONG_LEGEND = 6


class StateLook(NamedTuple):
    """How a state is drawn: in grey, the filled half tells it."""

    colour: str
    fill: str
    word: str


STATE_LOOKS = {
    0: StateLook("#d0d0d0", "full", "state not known"),
    2: StateLook("#3f9fe0", "top", "ice"),
    3: StateLook("#e06aa8", "left", "wet snow"),
    4: StateLook("#f0a030", "bottom", "rough water"),
}
"""By code of `STATES`; open water has the colour of its track."""


def need(dataset: xr.Dataset, names: tuple[str, ...], origin: str) -> None:
    """Refuse a dataset that lacks what is drawn.

    Raises
    ------
    ConfigError
        Naming what is absent, and the function that gives it.
    """
    if absent := [name for name in names if name not in dataset.variables]:
        msg = f"{', '.join(absent)} can't be drawn because it is not there; give what {origin} returns"
        raise ConfigError(msg)


def styles(tracks: list[Any]) -> dict[Any, dict[str, Any]]:
    """Colour, marker and line style of every track, by its order."""
    looks = zip(cycle(_COLOURS), cycle(_MARKERS), cycle(_LINES), strict=False)
    names = ("color", "marker", "linestyle")
    return {track: dict(zip(names, look, strict=True)) for track, look in zip(tracks, looks, strict=False)}


def track_name(track: Any, passes: xr.Dataset) -> str:
    """A track with its direction, where all its passes have the same."""
    directions = np.unique(passes["orbit_direction"]).tolist() if "orbit_direction" in passes.variables else []
    words = {(0,): " ascending", (1,): " descending"}
    return track_title(track) + words.get(tuple(directions), "")


def unit(array: xr.DataArray) -> str:
    """UDUNITS for people: 'km2 year-1' is km²/year."""
    value, _, per = str(array.attrs.get("units", "km2")).partition(" ")
    return value.replace("km2", "km²") + (f"/{per.removesuffix('-1')}" if per else "")


def finish(ax: Axes, dataset: xr.Dataset, *, xlabel: str, ylabel: str) -> None:
    """Label the axes and draw grid and legend."""
    title = dataset.attrs.get("lake_title", dataset.attrs.get("lake", ""))
    ax.set(xlabel=xlabel, ylabel=ylabel, title=str(title))
    ax.grid(visible=True, linewidth=0.3, color="#cccccc")
    ax.set_axisbelow(True)
    legend(ax)


def legend(ax: Axes) -> None:
    """Draw the legend below the data: a decade of passes leaves no corner free."""
    words = ax.get_legend_handles_labels()[1]
    # Long entries would run into the next column; as wide as the axes and no wider, a layout would shrink them.
    columns = 2 if len(words) > _LONG_LEGEND and max(map(len, words)) <= _WIDE_ENTRY else 1
    where: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (0, -0.13, 1, 0), "mode": "expand"}
    ax.legend(fontsize=7, ncols=columns, frameon=False, **where)
