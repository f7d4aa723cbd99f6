"""The figure of a single pass; public as `cubekit.plots.plot_chip`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray

from cubekit.errors import ConfigError, GridMismatch
from cubekit.lakes import Lake
from cubekit.passes import PLATFORMS
from cubekit.plots.figures import own_axes, track_title
from cubekit.series._water import lake_water, masks, polygons, window

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def plot_chip(
    image: xr.DataArray,
    probability: xr.DataArray | None = None,
    lake: Lake | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Draw one pass with the lake's known outline and the shore that was found.

    Parameters
    ----------
    image
        Dims y and x. Floats are linear power and drawn in dB; uint8 is an equalised chip and drawn as it is. Pixels
        that were not observed (NaN, power of 0 and below, or False in the coordinate ``observed``) are hatched.
    probability
        Of the same pixels. Its shore is that of `lake_area`: with `lake`, of the water connected to the outline only.
    lake
        Draws its outline, dashed.
    ax
        Axes to draw on; by default those of a new figure.

    Returns
    -------
    matplotlib.axes.Axes
        With a colour bar; axes in kilometres of the lattice's coordinates.

    Raises
    ------
    ConfigError
        When image or probability is not a single image, or the image neither float nor uint8.
    GridMismatch
        When the probability lies on other pixels than the image, or with `lake` not on its lattice.
    """
    for given in (image, probability):
        if given is not None and set(given.dims) != {"y", "x"}:
            msg = f"{given.name or 'an image'} has the dims {given.dims}; select one pass first, e.g. .isel(time=0)"
            raise ConfigError(msg)
    if image.dtype.kind != "f" and image.dtype != np.uint8:
        msg = f"the image is {image.dtype}; give linear power as floats, or an equalised chip as uint8"
        raise ConfigError(msg)
    image, probability = compute(image, probability)
    image = image.transpose("y", "x")
    ax = own_axes(ax)
    shown, label, limits = shown_values(image)
    extent = _extent(image)
    ax.set_facecolor("white")
    ax.patch.set_hatch("////")
    ax.patch.set_edgecolor("#bbbbbb")
    drawn = ax.imshow(shown, cmap="gray", extent=extent, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    figure = ax.get_figure()
    if figure is not None:
        figure.colorbar(drawn, ax=ax, label=label, shrink=0.8)
    if probability is not None:
        draw_rings(
            ax, _found(image, probability.transpose("y", "x"), lake), color="#00a5e0", label="shore found (p = 0.5)"
        )
    if lake is not None:  # last, so that its dashes are seen on the shore found
        shore = lake.project(lake.outline)
        draw_rings(ax, shore, color="#ffb000", linestyle="--", label="outline of the catalogue")
    ax.set(
        xlabel="easting (km)", ylabel="northing (km)", title=_pass_title(image, lake), xlim=extent[:2], ylim=extent[2:]
    )
    ax.set_aspect("equal")
    if lake is not None or probability is not None:
        ax.legend(loc="upper right", fontsize=8, framealpha=0.9)
    return ax


def shown_values(image: xr.DataArray) -> tuple[NDArray[Any], str, tuple[float, float]]:
    """Values to draw, NaN where not observed; label of the colour bar; its limits."""
    values = image.to_numpy().astype(np.float64)
    if "observed" in image.coords and set(image["observed"].dims) == {"y", "x"}:
        values[~image["observed"].transpose("y", "x").to_numpy()] = np.nan
    if image.dtype == np.uint8:
        return values, "equalised value", (0.0, 255.0)
    values[~(values > 0)] = np.nan
    decibels = 10 * np.log10(values)
    known = decibels[np.isfinite(decibels)]
    low, high = np.percentile(known, (1, 99)).tolist() if known.size else (-25.0, 0.0)
    polarisation = str(image.attrs.get("polarisation", "")).upper()
    return decibels, f"γ⁰ {polarisation} (dB)".replace("  ", " "), (low, high)


def _corner(image: xr.DataArray) -> tuple[float, float, float, float]:
    """Left, top, and the steps of x and y, metres."""
    if any(name not in image.indexes or image.sizes[name] < 2 for name in ("y", "x")):
        msg = "the image has no coordinates y and x of at least two pixels; take it from a cube"
        raise GridMismatch(msg)
    x, y = (image.indexes[name].to_numpy().astype(float) for name in ("x", "y"))
    return x[0] - (x[1] - x[0]) / 2, y[0] - (y[1] - y[0]) / 2, x[1] - x[0], y[1] - y[0]


def _extent(image: xr.DataArray) -> tuple[float, float, float, float]:
    left, top, dx, dy = _corner(image)
    rows, columns = image.sizes["y"], image.sizes["x"]
    return left / 1e3, (left + columns * dx) / 1e3, (top + rows * dy) / 1e3, top / 1e3


def _found(image: xr.DataArray, probability: xr.DataArray, lake: Lake | None) -> Any:
    """Shore as polygons, metres."""
    from affine import Affine

    same = all(
        name in probability.indexes and probability.indexes[name].equals(image.indexes[name]) for name in ("y", "x")
    )
    if not same:
        msg = "the probability lies on other pixels than the image; select the same window of both"
        raise GridMismatch(msg)
    values = probability.to_numpy()
    water = values >= 0.5 if lake is None else lake_water(values, *masks(lake, *window(probability, lake)), 0.5)
    left, top, dx, dy = _corner(image)
    return polygons(water, Affine(dx, 0, left, 0, dy, top))


def draw_rings(ax: Axes, shape: Any, *, color: str, label: str, linestyle: str = "-") -> None:
    """Draw the rings of a shape in metres on axes in kilometres, once in the legend."""
    for ring in rings(shape):
        x, y = np.asarray(ring.coords)[:, :2].T / 1e3
        ax.plot(x, y, color=color, linestyle=linestyle, linewidth=1.2, label=label)
        label = f"_{label}"  # once in the legend
    if not label.startswith("_"):
        ax.plot([], [], linestyle="none", label=f"no {label}")


def rings(shape: Any) -> Iterator[Any]:
    """Shores and islands of a polygon, or of several."""
    for polygon in getattr(shape, "geoms", [shape]):
        yield polygon.exterior
        yield from polygon.interiors


def _pass_title(image: xr.DataArray, lake: Lake | None) -> str:
    parts = [] if lake is None else [lake.title]
    scalars = {
        name: image[name].item() for name in ("track", "platform") if name in image.coords and not image[name].dims
    }
    if "time" in image.coords and not image["time"].dims:
        parts.append(f"{str(image['time'].to_numpy().astype('datetime64[s]')).replace('T', ' ')} UTC")
    if "track" in scalars:
        parts.append(track_title(scalars["track"]))
    if "platform" in scalars and scalars["platform"] in range(len(PLATFORMS)):
        parts.append(PLATFORMS[scalars["platform"]])
    return ", ".join(parts)
