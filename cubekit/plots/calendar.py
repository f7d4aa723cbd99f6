"""The figure of what was observed when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from dask.base import compute

from cubekit.errors import NoObservations
from cubekit.plots.figures import own_axes, track_title
from cubekit.plots.looks import need
from cubekit.series.season import MIN_OBSERVED

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def plot_completeness(area: xr.Dataset, ax: Axes | None = None, *, min_observed: float = MIN_OBSERVED) -> Axes:
    """Draw a calendar of how many passes there are in every month, and how many of them have a usable area.

    Parameters
    ----------
    area
        What `lake_area` returns. All its tracks are counted together; select one to see it alone.
    ax
        Axes to draw on; by default those of a new figure.
    min_observed
        As in `summer_maxima`: a pass is usable whose area is known and that saw at least this share of the most that
        its track ever sees of the lake zone.

    Returns
    -------
    matplotlib.axes.Axes
        A row a year, a column a month. Written is usable/all; the more usable passes, the darker. Months without any
        pass between the first and the last are hatched, those before and after are blank.

    Raises
    ------
    ConfigError
        When a variable or the coordinate ``track`` is absent.
    NoObservations
        When there is no pass.

    Examples
    --------
    >>> times = np.array(["2021-07-05", "2021-07-17", "2021-09-10"], "datetime64[s]")
    >>> values = {"area_km2": ("time", [1.5, np.nan, 1.6]), "observed_fraction": ("time", [1.0, 0.0, 1.0])}
    >>> ax = plot_completeness(xr.Dataset(values, {"time": times, "track": ("time", [12, 12, 12])}))
    >>> [text.get_text() for text in ax.texts]
    ['1/2', '1/1']
    """
    from matplotlib.patches import Rectangle
    from matplotlib.ticker import MaxNLocator

    need(area, ("area_km2", "observed_fraction", "track"), "lake_area")
    (area,) = compute(area[["area_km2", "observed_fraction", "track"]])
    if not area.sizes["time"]:
        msg = "there is no pass to count; give areas of at least one"
        raise NoObservations(msg)
    months = area["time"].to_numpy().astype("datetime64[M]").astype(np.int64)  # since January 1970
    first = months.min() // 12
    cells = np.unravel_index(months - first * 12, (months.max() // 12 - first + 1, 12))
    there, usable = (np.zeros((months.max() // 12 - first + 1, 12), np.int64) for _ in range(2))
    np.add.at(there, cells, 1)
    np.add.at(usable, cells, _usable(area, min_observed))
    ax = own_axes(ax)
    shown = np.ma.masked_where(there == 0, usable)
    edges = (0.5, 12.5, first + 1970 + len(there) - 0.5, first + 1970 - 0.5)
    most = max(int(usable.max()), 1)
    drawn = ax.imshow(shown, cmap="Blues", extent=edges, vmin=0, vmax=most, aspect="auto", interpolation="nearest")
    for row, column in np.ndindex(there.shape):
        month = (first + row) * 12 + column
        year = int(first + row + 1970)
        if there[row, column]:
            dark = usable[row, column] > 0.6 * most
            text = f"{usable[row, column]}/{there[row, column]}"
            ax.text(column + 1, year, text, ha="center", va="center", fontsize=7, color="white" if dark else "black")
        elif months.min() < month < months.max():
            gap = Rectangle(
                (column + 0.5, year - 0.5), 1, 1, fill=False, hatch="////", edgecolor="#bbbbbb", linewidth=0
            )
            gap.set_label(f"_gap {year}-{column + 1:02d}")
            ax.add_patch(gap)
    figure = ax.get_figure()
    if figure is not None:
        figure.colorbar(drawn, ax=ax, label="usable passes a month", ticks=MaxNLocator(integer=True))
    tracks = ", ".join(track_title(track) for track in np.unique(area["track"].to_numpy()).tolist())
    title = area.attrs.get("lake_title", area.attrs.get("lake", ""))
    ax.set(xlabel="month (usable/all passes; hatched: none)", ylabel="year", title=f"{title} {tracks}".strip())
    ax.set_xticks(range(1, 13), _MONTHS)
    ax.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=20))
    return ax


def _usable(area: xr.Dataset, min_observed: float) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
    """As `summer_maxima` counts them."""
    tracks, codes = np.unique(area["track"].to_numpy(), return_inverse=True)
    fraction = area["observed_fraction"].to_numpy()
    best = np.array([fraction[codes == track].max() for track in range(len(tracks))])
    usable: np.ndarray[tuple[int], np.dtype[np.bool_]] = np.isfinite(area["area_km2"].to_numpy()) & (
        fraction >= min_observed * best[codes]
    )
    return usable
