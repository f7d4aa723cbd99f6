"""Images of a pass as PNG: numpy and Pillow, tens of milliseconds each."""

from __future__ import annotations

import io
import json
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import shapely
import xarray as xr
from numpy.typing import NDArray
from shapely.geometry import shape

from cubekit.cube.schema import BOTH, CLEAR, LAYOVER, NO_DATA, NO_MAP, SHADOW
from cubekit.lakes import Lake
from cubekit.plots.chips import rings

if TYPE_CHECKING:
    from PIL import Image

DECIBELS = {"vv": (-24.0, 0.0), "vh": (-32.0, -6.0)}
"""What is black and what is white, gamma0: the same for all passes, so that two of them can be compared."""

SHORE = (0, 229, 255)
"""Colour of the shore that was found, on a dark rim: seen on black, white and blue alike."""

_RIM = (0, 25, 40)
_HATCH = ((176, 170, 160), (214, 209, 200))  # not observed: never black, which is calm water
_CLASSES = {
    CLEAR: (236, 236, 232),
    SHADOW: (75, 58, 120),
    LAYOVER: (230, 140, 50),
    BOTH: (140, 60, 60),
    NO_MAP: (200, 205, 210),
}
_STOPS = ((0.0, (244, 241, 234)), (0.25, (205, 220, 224)), (0.5, (120, 175, 205)), (1.0, (8, 64, 129)))

Pixels = NDArray[np.uint8]


def picture(image: xr.DataArray, layer: str, size: int) -> Image.Image:
    """Draw a layer, its longer side `size` pixels long.

    Parameters
    ----------
    image
        Dims y and x, as `Cubes.image` reads it.
    layer
        Its name.
    size
        Pixels.

    Returns
    -------
    PIL.Image.Image
        RGB; hatched where not observed. Pixels are enlarged as they are, not smoothed.
    """
    from PIL import Image

    colours, unknown = _drawn(image, layer)
    rows, columns = unknown.shape
    scale = size / max(rows, columns)
    target = (max(round(columns * scale), 1), max(round(rows * scale), 1))
    # When it gets smaller, means: of colours, not of flags.
    method = Image.Resampling.BOX if scale < 1 and layer != "mask" else Image.Resampling.NEAREST
    whole = Image.fromarray(colours).resize(target, method)
    if not unknown.any():
        return whole
    hidden = Image.fromarray(unknown).resize(target, Image.Resampling.NEAREST)
    whole.paste(_hatched(target), (0, 0), hidden)
    return whole


def draw_shore(whole: Image.Image, feature: bytes, lake: Lake) -> None:
    """Draw the shore of a pass onto its picture.

    Parameters
    ----------
    whole
        Of the lake's AOI window; changed.
    feature
        GeoJSON, WGS84; its geometry may be null.
    lake
        At the spacing of the cube.
    """
    from PIL import ImageDraw

    geometry = json.loads(feature)["geometry"]
    if geometry is None:
        return
    rows, columns = lake.aoi_window
    window = lake.lattice[rows, columns]
    scale = whole.width / window.shape.x
    inverse = ~window.transform
    pen = ImageDraw.Draw(whole)
    width = max(round(max(whole.size) / 320), 1)
    projected = lake.project(shape(geometry))
    lines = []
    for ring in rings(projected):
        x, y = np.asarray(ring.coords)[:, :2].T
        across, down = inverse * (x, y)
        # The shore runs along edges of pixels; those of Pillow are named by their middles.
        lines.append(list(zip((across * scale - 0.5).tolist(), (down * scale - 0.5).tolist(), strict=True)))
    for colour, wide in ((_RIM, 2 * width + 1), (SHORE, width)):
        for line in lines:
            pen.line(line, fill=colour, width=wide, joint="curve")


def png(whole: Image.Image) -> bytes:
    """Encode a picture."""
    file = io.BytesIO()
    whole.save(file, "PNG", compress_level=4)
    return file.getvalue()


def corners(lake: Lake) -> list[tuple[float, float]]:
    """Corners of the pictures of a lake, longitude and latitude, from the upper left one clockwise."""
    rows, columns = lake.aoi_window
    left, bottom, right, top = lake.lattice[rows, columns].boundingbox.bbox
    to_degrees = pyproj.Transformer.from_crs(f"EPSG:{lake.epsg}", "OGC:CRS84", always_xy=True)
    x, y = to_degrees.transform([left, right, right, left], [top, top, bottom, bottom])
    return [(round(a, 7), round(b, 7)) for a, b in zip(x, y, strict=True)]


def geojson(geometry: Any) -> dict[str, Any]:
    """A geometry as GeoJSON has it."""
    made: dict[str, Any] = json.loads(shapely.to_geojson(geometry))
    return made


def _drawn(image: xr.DataArray, layer: str) -> tuple[Pixels, NDArray[np.bool_]]:
    """Colours (y, x, 3), and where nothing was observed."""
    values = image.transpose("y", "x").to_numpy()
    if layer == "mask":
        colours = np.zeros((256, 3), np.uint8)
        for code, colour in _CLASSES.items():
            colours[code] = colour
        return colours[values], values == NO_DATA
    if layer == "chip":
        return _grey(values), ~image["observed"].transpose("y", "x").to_numpy()
    unknown = ~np.isfinite(values)
    if layer == "probability":
        places, stops = [place for place, _ in _STOPS], np.array([colour for _, colour in _STOPS])
        table = np.stack([np.interp(np.linspace(0, 1, 256), places, band) for band in stops.T], axis=1)
        codes = np.where(unknown, 0, values * 255).round().astype(np.uint8)
        return table.round().astype(np.uint8)[codes], unknown
    unknown |= ~(np.nan_to_num(values) > 0)
    low, high = DECIBELS[layer]
    decibels = 10 * np.log10(np.where(unknown, 1, values))
    return _grey((np.clip((decibels - low) / (high - low), 0, 1) * 255).round().astype(np.uint8)), unknown


def _grey(values: Pixels) -> Pixels:
    return np.repeat(values[..., None], 3, axis=2)


def _hatched(size: tuple[int, int]) -> Image.Image:
    from PIL import Image

    columns, rows = size
    step = max(max(size) // 64, 3)
    stripes = (np.add.outer(np.arange(rows), np.arange(columns)) // step) % 2
    return Image.fromarray(np.array(_HATCH, np.uint8)[stripes])
