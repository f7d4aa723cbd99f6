"""High-mountain terrain around a lake: drawn at random, or read from an elevation model.

Notes
-----
A drawn terrain is a U-shaped valley along the lake's axis. Its floor is the lake, up-glacier a tongue behind its front
(or, above rock basins, steep ground), down-valley a moraine dam and what falls away below it; walls with spurs,
gullies and lateral moraines rise from it to 600 to 1,500 m. All roughness is fractal: its power spectrum falls with
a power of the wave number, 3 to 4 as measured on mountains (Huang and Turcotte 1989, J. Geophys. Res. 94). What the
ranges are is chosen after maps of Himalayan lakes, not fitted: slopes of 20 to 40 degrees, tongues of 2 to 6.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubekit.errors import ConfigError, SourceError
from cubekit.sources._surfaces import Surface

_SMOOTH, _AROUND = 50.0, 300.0  # metres over which slope is taken, and the surroundings that a hollow lies below

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Terrain:
    """Ground around a lake.

    Attributes
    ----------
    elevation
        Heights above the lake's mean level, m, float32 (y, x). 0 on the lake.
    surface
        What lies on the ground where there is no water, codes of `Surface`, uint8 (y, x).
    """

    elevation: Floats
    surface: NDArray[np.uint8]


def make_terrain(lake_mask: Flags, spacing: float, *, seed: int, axis: tuple[float, float] | None = None) -> Terrain:
    """Draw a terrain around a lake.

    Parameters
    ----------
    lake_mask
        The lake at its widest, bool (y, x); y runs south.
    spacing
        Side of a pixel, metres.
    seed
        0 or more. The same gives the same terrain; three in four lakes are fed by a glacier's tongue.
    axis
        Direction (east, north) from the lake towards the glacier. By default the lake's long axis, either way.

    Returns
    -------
    Terrain
        On the grid of `lake_mask`.

    Raises
    ------
    ConfigError
        When the mask isn't bool (y, x) with both water and land in it, the spacing isn't above 0, the seed is
        negative or the axis has no length.

    Examples
    --------
    >>> rows, columns = np.indices((256, 256))
    >>> lake = ((rows - 128) / 12) ** 2 + ((columns - 128) / 40) ** 2 < 1
    >>> terrain = make_terrain(lake, 20.0, seed=1, axis=(1.0, 0.0))
    >>> float(abs(terrain.elevation[lake]).max()), bool(terrain.elevation.max() > 500)
    (0.0, True)
    """
    if lake_mask.ndim != 2 or lake_mask.dtype != bool or not lake_mask.any() or lake_mask.all():
        msg = (
            f"the lake mask ({lake_mask.dtype}, shape {lake_mask.shape}) must be bool, dims (y, x), with water and land"
        )
        raise ConfigError(msg)
    if not 0 < spacing < math.inf or seed < 0 or (axis is not None and not 0 < math.hypot(*axis) < math.inf):
        msg = f"spacing {spacing}, seed {seed} or axis {axis} is not allowed; give e.g. 20 m, 0 and (1, 0) for east"
        raise ConfigError(msg)
    from scipy.ndimage import distance_transform_edt

    generator = np.random.default_rng([seed, 0x7E88])
    fed, clean = generator.random() < 0.75, generator.random() < 0.35
    along, across = _valley(lake_mask, spacing, axis, generator)
    up, down = np.maximum(along - along[lake_mask].max(), 0), np.maximum(along[lake_mask].min() - along, 0)
    shore = distance_transform_edt(~lake_mask, sampling=spacing)

    half = lake_mask.sum() * spacing**2 / (np.ptp(along[lake_mask]) + spacing) / 2
    wide = half * generator.uniform(0.6, 1.2) + 0.3 * half * fractal(lake_mask.shape, 4.0, generator)
    floor = lake_mask | ((np.abs(across) < wide) & ((up > -half) if fed else (down > 0)) & (up + down > 0))
    away = distance_transform_edt(~floor, sampling=spacing)

    elevation = _bed(up, down, fed, generator) + _walls(away, floor, spacing, generator)
    elevation += generator.uniform(2, 7) * np.minimum(shore / 150, 1) * fractal(lake_mask.shape, 2.8, generator)
    # Whatever was drawn, the shore rises from the water: only below the dam may the ground be lower
    least = np.minimum(shore, 400) * 0.05
    elevation = np.where(down < 250, np.maximum(elevation, least * np.clip(1 - down / 250, 0, 1)), elevation)
    heights = np.asarray(np.where(lake_mask, 0, _rounded(elevation, lake_mask, spacing)), np.float32)

    surface = _classified(
        heights,
        spacing,
        patches=fractal(lake_mask.shape, 3.0, generator),
        green=float(generator.uniform(-200, 250)),
        white=float(generator.uniform(350, 800)),
    )
    surface[(shore < 300) & (surface == Surface.GRASS)] = Surface.MORAINE
    if fed:
        surface[floor & (up > 0)] = Surface.GLACIER if clean else Surface.DEBRIS_ICE
    return Terrain(heights, surface)


def read_terrain(path: str | Path, geobox: Any, *, level: float | None = None, lake_mask: Flags) -> Terrain:
    """Read a terrain from a digital elevation model.

    Parameters
    ----------
    path
        GeoTIFF with heights in metres in its first band, in any coordinate reference system.
    geobox
        Grid (odc.geo.GeoBox) with square pixels in metres, north up.
    level
        Height of the lake in the model. By default the median of its pixels.
    lake_mask
        The lake, bool (y, x), on that grid.

    Returns
    -------
    Terrain
        Heights resampled bilinearly; 0 on the lake. Surfaces are guessed from slope, height and curvature.

    Raises
    ------
    SourceError
        When the file can't be read, has no coordinate reference system, or has no height for a part of the grid.
    ConfigError
        When the mask isn't bool on the grid, or holds no lake.
    """
    import rasterio
    from rasterio.errors import RasterioError
    from rasterio.warp import Resampling, reproject

    if lake_mask.dtype != bool or lake_mask.shape != tuple(geobox.shape) or not lake_mask.any():
        msg = f"the lake mask ({lake_mask.dtype}, shape {lake_mask.shape}) must be bool, on the grid, with water in it"
        raise ConfigError(msg)
    elevation = np.full(lake_mask.shape, np.nan, np.float32)
    try:
        with rasterio.open(path) as dataset:
            if dataset.crs is None:
                msg = f"{path} has no coordinate reference system; give an elevation model that has one"
                raise SourceError(msg)
            reproject(
                rasterio.band(dataset, 1),
                elevation,
                dst_transform=geobox.affine,
                dst_crs=geobox.crs.to_wkt(),
                dst_nodata=np.nan,
                resampling=Resampling.bilinear,
            )
    except RasterioError as error:
        msg = f"{path} can't be read as an elevation model ({error}); give a GeoTIFF of heights in metres"
        raise SourceError(msg) from error
    if missing := np.count_nonzero(~np.isfinite(elevation)):
        msg = (
            f"{path} has no height for {missing / elevation.size:.1%} of the grid {geobox.boundingbox.bbox} in "
            f"{geobox.crs}; give an elevation model that covers it without holes"
        )
        raise SourceError(msg)
    elevation -= np.float32(np.median(elevation[lake_mask]) if level is None else level)
    elevation[lake_mask] = 0
    patches = fractal(geobox.shape, 3.0, np.random.default_rng(0))
    surface = _classified(elevation, abs(float(geobox.resolution.x)), patches=patches, green=0.0, white=600.0)
    return Terrain(elevation, surface)


def fractal(shape: tuple[int, int], exponent: float, generator: np.random.Generator) -> Floats:
    """Draw a field of mean 0 and variance 1 whose power spectrum falls with this power of the wave number.

    Parameters
    ----------
    shape
        Rows and columns.
    exponent
        0 is white noise; 3 to 4 are mountains: a fractal dimension of ``4 - exponent / 2``.
    generator
        Random numbers.

    Returns
    -------
    numpy.ndarray
        float32 (y, x). Opposite edges do not meet.

    Examples
    --------
    >>> field = fractal((64, 64), 3.0, np.random.default_rng(0))
    >>> field.dtype, round(float(field.std()), 3)
    (dtype('float32'), 1.0)
    """
    from scipy.fft import irfft2, next_fast_len, rfft2

    size = [next_fast_len(side + side // 4, real=True) for side in shape]  # cut out of a larger ring
    wave = np.hypot(np.fft.fftfreq(size[0])[:, None], np.fft.rfftfreq(size[1])[None]).astype(np.float32)
    wave[0, 0] = np.inf
    noise = rfft2(generator.standard_normal(size, np.float32))
    field = irfft2(noise * wave ** np.float32(-exponent / 2), size)[: shape[0], : shape[1]]
    field -= field.mean(dtype=np.float64)
    return np.asarray(field / field.std(dtype=np.float64), np.float32)


def _valley(
    mask: Flags, spacing: float, axis: tuple[float, float] | None, generator: np.random.Generator
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Metres along the valley, growing towards the glacier, and across it from its middle line."""
    grid = np.indices(mask.shape).astype(np.float64)
    north, east = (grid[0][mask].mean() - grid[0]) * spacing, (grid[1] - grid[1][mask].mean()) * spacing
    end = 1 if generator.random() < 0.5 else -1
    if axis is None:
        places = np.stack([east[mask], north[mask]])
        dx, dy = end * np.linalg.eigh(places @ places.T)[1][:, -1]
    else:
        dx, dy = np.array(axis) / math.hypot(*axis)
    along, across = east * dx + north * dy, north * dx - east * dy
    # The middle line: that of the lake where there is one, beyond it bends drawn at random
    ends = along[mask].min(), along[mask].max()
    length = max(ends[1] - ends[0], spacing)
    parts = np.clip(((along[mask] - ends[0]) / length * 12).astype(int), 0, 11)
    counts = np.bincount(parts, minlength=12)
    known = counts > 0
    middles = np.bincount(parts, across[mask], minlength=12)[known] / counts[known]
    at = ends[0] + (np.flatnonzero(known) + 0.5) / 12 * length
    steps = np.arange(along.min(), along.max() + 50, 50.0)
    bends = np.cumsum(np.cumsum(generator.normal(0, 0.02, steps.size))) * 50
    off = np.interp(steps, at, middles)
    for end, sign in ((ends[0], -1), (ends[1], 1)):
        beyond = np.maximum((steps - end) * sign, 0)
        bent = bends - np.interp(end, steps, bends)
        off += np.where(beyond > 0, np.clip(bent, -0.5 * beyond, 0.5 * beyond), 0)
    return along, across - np.interp(along, steps, off)


def _bed(
    up: NDArray[np.float64], down: NDArray[np.float64], fed: bool, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Height of the valley's floor: a front and the tongue behind it, or rock; the dam and what falls away below."""
    front = generator.uniform(4, 35) if fed else 0.0
    rise = math.tan(math.radians(generator.uniform(2, 6) if fed else generator.uniform(8, 20)))
    crest, height = generator.uniform(60, 350), generator.uniform(6, 45) if fed else generator.uniform(2, 20)
    fall = math.tan(math.radians(generator.uniform(4, 14)))
    ahead = front * (1 - np.exp(-up / 30)) + rise * up
    dam = np.where(down < crest, height * np.sin(0.5 * math.pi * down / crest) ** 2, height - fall * (down - crest))
    return np.asarray(np.where(up > 0, ahead, dam))


def _walls(
    away: NDArray[np.float64], floor: Flags, spacing: float, generator: np.random.Generator
) -> NDArray[np.float64]:
    """Height of the ground above the valley's floor, whose distance is given.

    Found as the travel time of a front that starts from the floor and is as slow as the ground is steep: so slopes are
    what was drawn, crests form where fronts meet, and side valleys where it runs ahead.
    """
    from scipy.ndimage import gaussian_filter, map_coordinates
    from skimage.graph import MCP_Geometric

    shape = away.shape
    broad, lines = fractal(shape, 3.4, generator), fractal(shape, 3.6, generator)
    degrees = generator.uniform(30, 41) + 7 * broad
    foot, flat = math.exp(generator.uniform(math.log(5), math.log(250))), generator.uniform(0.2, 0.7)
    degrees *= flat + (1 - flat) * np.minimum(away / foot, 1)
    # Side valleys follow a level line of a rough field, some way from the floor
    valley = np.exp(-((lines - generator.uniform(-0.5, 0.5)) ** 2) / 0.005) * (away > 250)
    degrees += (generator.uniform(8, 16) - degrees) * valley
    steep = np.tan(np.radians(np.clip(degrees, 4, 56)))

    front = MCP_Geometric(steep[::2, ::2] * 2 * spacing)
    times = front.find_costs(np.argwhere(floor[::2, ::2] | (away[::2, ::2] <= spacing)))[0]
    far = map_coordinates(times, np.indices(shape) / 2, order=1, mode="nearest")
    near = np.clip((away - 80) / 150, 0, 1)  # where the coarse front would be too rough
    walls = near * far + (1 - near) * steep * away
    relief = generator.uniform(700, 1600)
    walls = relief * np.tanh(walls / relief)
    rough = gaussian_filter(fractal(shape, 3.2, generator), 15 / spacing)
    rough *= generator.uniform(0.15, 0.3) * spacing / np.hypot(*np.gradient(rough)).std()
    walls += np.minimum(away / 250, 1) * rough
    if generator.random() < 0.7:  # lateral moraines
        high = generator.uniform(15, 80) * np.clip(0.6 + 0.8 * fractal(shape, 4.0, generator), 0, 1.5)
        top, width = generator.uniform(40, 220), generator.uniform(40, 120)
        rampart = high * np.maximum(0, 1 - np.abs(away - top) / width)
        walls += np.minimum(rampart, 0.6 * away)  # its inner side stands at some 35 degrees at most
    return np.asarray(walls)


def _rounded(elevation: NDArray[np.float64], lake: Flags, spacing: float) -> NDArray[np.float64]:
    """Without the creases that distances leave, up to the shore."""
    from scipy.ndimage import gaussian_filter

    land = (~lake).astype(np.float64)
    share = gaussian_filter(land, 22 / spacing)
    return np.asarray(gaussian_filter(elevation * land, 22 / spacing) / np.maximum(share, 1e-3))


def _classified(elevation: Floats, spacing: float, *, patches: Floats, green: float, white: float) -> NDArray[np.uint8]:
    """Guess the surface: rock where it is steep, grass low and silt in flat hollows, ice in high ones, else moraine."""
    from scipy.ndimage import gaussian_filter

    smooth = gaussian_filter(elevation, _SMOOTH / spacing)
    south_rise, east_rise = np.gradient(smooth, spacing)
    slope = np.degrees(np.arctan(np.hypot(south_rise, east_rise)))
    hollow = smooth < gaussian_filter(elevation, _AROUND / spacing)
    surface = np.full(elevation.shape, Surface.MORAINE, np.uint8)
    surface[(elevation + 120 * patches < green) & (slope < 28)] = Surface.GRASS
    surface[(slope + 2 * patches < 6) & (patches > 0.7)] = Surface.SILT
    surface[slope + 3 * patches > 33] = Surface.ROCK
    surface[(elevation + 80 * patches > white) & (slope + 3 * patches < 34) & (hollow | (slope < 20))] = Surface.GLACIER
    return surface
