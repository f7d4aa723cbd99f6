"""A decade as a film: one frame a pass, each a figure of its own, and how films are saved."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask.base import compute

from cubekit.errors import ConfigError
from cubekit.files import replacing
from cubekit.lakes import Lake
from cubekit.plots.areas import plot_area
from cubekit.plots.chips import plot_chip, shown_values
from cubekit.plots.figures import own_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

DPI = 80
"""Resolution of frames, dots per inch."""

_SAMPLES = 9


def pass_frames(
    images: xr.DataArray, probability: xr.DataArray, lake: Lake, *, area: xr.Dataset | None = None
) -> Iterator[Axes]:
    """Draw one frame a pass: the image with its shore, and where in the series it stands.

    Parameters
    ----------
    images
        As for `plot_chip`, over time: a cube's ``vv``, or equalised chips. Passes of one track make a calm film.
    probability
        Of the same passes and pixels.
    lake
        As for `plot_chip`.
    area
        What `lake_area` returns, these passes among others: drawn beside the image as by `plot_area`, the pass marked.

    Yields
    ------
    matplotlib.axes.Axes
        Those of the image, each of a new figure, drawn when it is asked for. All have the same limits of grey, found
        from up to nine passes over the whole time.

    Raises
    ------
    ConfigError
        When images and probability are not of the same times; else as `plot_chip` and `plot_area`.

    Notes
    -----
    One pass is computed at a time, twice those that the limits are found from.
    """
    if "time" not in images.dims or not np.array_equal(images["time"].to_numpy(), probability["time"].to_numpy()):
        msg = "images and probability are not of the same times; select the same passes of both"
        raise ConfigError(msg)
    if area is not None:
        (area,) = compute(area)
    count = images.sizes["time"]
    chosen = sorted({round(place) for place in np.linspace(0, count - 1, _SAMPLES)}) if count else []
    ranges = [shown_values(images.isel(time=place).compute())[2] for place in chosen]
    for place in range(count):
        one, water = images.isel(time=place), probability.isel(time=place)
        if area is None:
            ax = own_axes(None)
        else:
            ax, beside = _side_by_side()
            plot_area(area, beside)
            beside.get_legend().remove()  # type: ignore[union-attr]
            # Its stub knows no dates.
            beside.axvline(one["time"].to_numpy(), color="black", label="_this pass")  # type: ignore[arg-type]
            beside.set_title("")
        plot_chip(one, water, lake, ax)
        # In grey levels of its own, every pass would flicker.
        ax.images[0].set_clim(
            float(np.median([low for low, _ in ranges])), float(np.median([top for _, top in ranges]))
        )
        yield ax


def save_animation(frames: Iterable[Axes], path: str | Path, *, seconds: float = 0.4) -> Path:
    """Save figures as an animated GIF that runs for ever, frame by frame.

    Parameters
    ----------
    frames
        Axes of the figures, e.g. of `pass_frames`, all of one size; asked for one by one.
    path
        Ends in ``.gif``; written under another name and then renamed. Missing folders are made.
    seconds
        That a frame is shown.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ConfigError
        When the name does not end in ``.gif``, `seconds` is not 0.02 or more, there is no frame, or one has another
        size than the first.

    Notes
    -----
    Frames are 256 colours each, at 80 dpi; the same figures give the same bytes.
    """
    target = Path(path)
    if target.suffix.lower() != ".gif":
        msg = f"{target} does not end in .gif, the only format that is written"
        raise ConfigError(msg)
    if not seconds >= 0.02:
        msg = f"{seconds} seconds a frame are too few for a GIF; give 0.02 or more"
        raise ConfigError(msg)
    pictures = _pictures(frames)
    first = next(pictures, None)
    if first is None:
        msg = "there is no frame to save; give at least one pass"
        raise ConfigError(msg)
    with replacing(target) as temporary:
        first.save(
            temporary, "GIF", save_all=True, append_images=pictures, duration=round(seconds * 1000), loop=0, disposal=1
        )
    return target


def _pictures(frames: Iterable[Axes]) -> Iterator[Any]:
    from PIL import Image

    size = None
    for ax in frames:
        figure = ax.get_figure()
        if figure is None:
            msg = "the axes of a frame belong to no figure any more; draw them again"
            raise ConfigError(msg)
        drawn = BytesIO()
        figure.figure.savefig(drawn, format="png", dpi=DPI)
        with Image.open(drawn) as opened:
            picture = opened.convert("RGB").quantize(256)
        size = size or picture.size
        if picture.size != size:
            msg = f"a frame has {picture.size} pixels, the first {size}; draw all figures in one size"
            raise ConfigError(msg)
        yield picture


def _side_by_side() -> tuple[Axes, Axes]:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 5.5), layout="constrained")
    FigureCanvasAgg(figure)
    left, right = figure.subplots(1, 2)
    return left, right
