"""What all figures share: axes of their own, the names of tracks, and how they are saved."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubekit.errors import ConfigError
from cubekit.files import replacing

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 150
"""Resolution of saved figures, dots per inch."""


def own_axes(ax: Axes | None) -> Axes:
    """Give these axes, or those of a new figure that Agg draws and pyplot does not know."""
    if ax is not None:
        return ax
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    return figure.subplots()


def track_title(track: Any) -> str:
    """Write T012 for Sentinel-1's track 12; tracks across sensors have their name already."""
    return f"T{track:03d}" if isinstance(track, int) else str(track)


def save_figure(ax: Axes, path: str | Path) -> Path:
    """Save the figure of some axes as PNG: 150 dpi, and the same bytes for the same figure.

    Parameters
    ----------
    ax
        Any axes of the figure.
    path
        Written under another name and then renamed. Missing folders are made.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ConfigError
        When the name does not end in ``.png``, or the axes belong to no figure.
    """
    target, figure = Path(path), ax.get_figure()
    if target.suffix.lower() != ".png":
        msg = f"{target} does not end in .png, the only format that is written"
        raise ConfigError(msg)
    if figure is None:
        msg = "the axes belong to no figure any more; draw them again"
        raise ConfigError(msg)
    with replacing(target) as temporary:
        # Without it matplotlib's version would be in the file.
        figure.figure.savefig(temporary, format="png", dpi=DPI, metadata={"Software": None})
    return target
