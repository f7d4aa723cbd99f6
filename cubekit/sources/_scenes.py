"""What the radar sees of a simulated lake: ground, water, ice, speckle and the swath's edge, and the cut into bursts.

Notes
-----
Levels of backscatter are those of `cubekit.sources._surfaces`, the terrain is `_terrain`'s, the geometry `_radar`'s,
the changes of the lake are `_dynamics`'s. Everything is simulated on a grid with a margin around the lattice, so that
slopes outside it fold onto it and shade it; products hold the lattice and a smaller margin.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, fields, replace
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.geometry.base import BaseGeometry

from cubekit.lakes import LATTICE_PIXELS, Lake
from cubekit.passes import PLATFORMS
from cubekit.sources._dynamics import Cover, Dynamics, Outburst, draws, place_ponds
from cubekit.sources._geometry import Pass, View
from cubekit.sources._products import RadarProduct
from cubekit.sources._radar import Look, Observation, look_of, observe
from cubekit.sources._speckle import acquire, correlated
from cubekit.sources._surfaces import NOISE_DB, Season, ice_gamma0, land_gamma0, water_gamma0
from cubekit.sources._terrain import Terrain, make_terrain, read_terrain

PIXELS = 300
"""Rows and columns of a product: the lattice and a margin."""

_LEFT, _TOP = 24, 20  # margin of a product, pixels
_REACH = 1500.0  # from how far beyond a product slopes fold onto it and shade it, metres
_SEAM, _OVERLAP, _PADDING = 150, 30, 30  # row between two bursts, half their overlap, rows without data beyond it
_TILT = math.tan(math.radians(10))  # of the ends of a burst against the rows, as the track is inclined
_SUBPIXELS = 10  # lines in each row of pixels: areas come out right to 0.02 %
_EDGE_SHARE = 1 / 8  # of the passes, cut by the edge of the swath
_LEAST = np.float32(1e-5)  # what noise leaves of the darkest pixels: 0 is no data in HyP3's products
_SNOW_STEP = 25.0  # to which heights of the snow line are rounded, metres

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]


@dataclass(frozen=True)
class Draws:
    """Random numbers of one pass, each uniform from 0 to 1; the first two are those of its times."""

    late: float
    latency: float
    wind: float
    edge: float
    between: float
    east: float
    north: float


@dataclass(frozen=True)
class Ground:
    """The grid's terrain with its ponds, and the shares of pixels that these cover."""

    terrain: Terrain
    ponds: tuple[BaseGeometry, ...]
    share: Floats


@dataclass(frozen=True)
class Sight:
    """A track's look, and what it observes of the ground."""

    look: Look
    observation: Observation


@dataclass(frozen=True)
class Scenery:
    """What all passes of one lake share; the lake lies on the lattice of the product, growth is in metres a year.

    Terrain and looks are made when first needed, and kept: use `shared`. Neither copies nor pickles take them along.
    """

    lake: Lake
    product: RadarProduct
    seed: int
    looks: float
    growth: float
    outburst: Outburst | None = None
    dem: Path | None = None
    _lock: Any = field(default_factory=threading.RLock, init=False, repr=False, compare=False)
    _seen: dict[View, Sight] = field(default_factory=dict, init=False, repr=False, compare=False)
    _land: dict[Any, Floats] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), self.__dask_tokenize__()

    def __dask_tokenize__(self) -> tuple[Any, ...]:
        return tuple(getattr(self, one.name) for one in fields(self) if one.init)

    @property
    def key(self) -> tuple[object, ...]:
        """What tells products of this scenery from those of another, for their ids."""
        return self.seed, self.lake.id

    @property
    def spacing(self) -> int:
        """Side of a pixel, metres."""
        return self.product.spacing

    @cached_property
    def corner(self) -> tuple[float, float]:
        """Upper left corner of the products, in the lake's coordinate reference system."""
        left, _, _, top = self.lake.lattice.boundingbox.bbox
        return left - _LEFT * self.spacing, top + _TOP * self.spacing

    @cached_property
    def dynamics(self) -> Dynamics:
        """How the lake changes."""
        return Dynamics(self.lake, self.seed, self.growth, self.outburst)

    @property
    def ground(self) -> Ground:
        """The ground, level where the lake may grow to and where ponds are."""
        with self._lock:
            return self._ground

    def draws(self, platform: str, orbit: int) -> np.random.Generator:
        """Random numbers of one pass, from their beginning: they depend on seed, lake and pass only."""
        return draws(self.seed, self.lake, PLATFORMS.index(platform), orbit)

    def wind(self, one: Pass) -> float:
        """Wind at a pass, m/s."""
        return self.dynamics.wind(one.starts[0], Draws(*self.draws(one.platform, one.orbit).random(7)).wind)

    def scene(self, one: Pass) -> tuple[Floats, Codes]:
        """What one pass sees, before it is cut into bursts.

        Returns
        -------
        tuple of numpy.ndarray
            VV and VH (band, row, column), gamma0 in linear power, float32, NaN in shadow and beyond the swath; and
            the mask (row, column), uint8, in the codes of cubes.
        """
        time, generator = one.starts[0], self.draws(one.platform, one.orbit)
        drawn = Draws(*generator.random(7))
        sight = self._sight(one.view)
        values = acquire(
            self.expected(one, self.share(time) + self.ground.share),
            sight.observation,
            noise=10 ** (NOISE_DB / 10) / math.cos(math.radians(sight.look.incidence)),
            looks=self.looks,
            correlation=self.product.correlation,
            filter_looks=self.product.filter_looks,
            generator=generator,
        )[self._window_3d]
        values = np.maximum(values, _LEAST)
        layover, shadow = (flags[self._window] for flags in (sight.observation.layover, sight.observation.shadow))
        mask = (shadow + 2 * layover).astype(np.uint8)
        values[:, shadow] = np.nan
        if drawn.edge < _EDGE_SHARE:
            signs = (math.copysign(1, drawn.east - 0.5), math.copysign(1, drawn.north - 0.5))
            outside = self._beyond(signs, 1.15 * drawn.between - 0.25, self.dynamics.polygon(time))
            values[:, outside], mask[outside] = np.nan, 255
        return values.astype(np.float32), mask

    def bursts(self, one: Pass) -> Iterator[tuple[float, list[Floats | Codes]]]:
        """Each product of a pass: its upper edge, in the lake's coordinate reference system, its VV, VH and mask."""
        values, mask = self.scene(one)
        for index in range(len(one.starts)):
            rows, outside = _burst(index, len(one.starts))
            layers: list[Floats | Codes] = [np.where(outside, np.float32(np.nan), band[rows]) for band in values]
            layers.append(np.where(outside, np.uint8(255), mask[rows]))
            yield self.corner[1] - rows.start * self.spacing, layers

    def truth(self, time: datetime) -> tuple[Floats, Floats]:
        """Shares of the lattice's pixels under the lake and under ponds at a time, ice included; float32 (y, x)."""
        rows, columns = (slice(start, start + LATTICE_PIXELS) for start in (_TOP + self._margin, _LEFT + self._margin))
        return self.share(time)[rows, columns], self.ground.share[rows, columns]

    def share(self, time: datetime) -> Floats:
        """Share of every pixel of the grid under the lake at a time, ice included; float32 (y, x)."""
        return self._share(self.dynamics.polygon(time))

    @staticmethod
    def on_lattice(image: NDArray[Any]) -> NDArray[Any]:
        """The lattice's part of a product (..., row, column)."""
        return image[..., _TOP : _TOP + LATTICE_PIXELS, _LEFT : _LEFT + LATTICE_PIXELS]

    @property
    def _margin(self) -> int:
        return math.ceil(_REACH / self.spacing)

    @property
    def _window(self) -> tuple[slice, slice]:
        inside = slice(self._margin, self._margin + PIXELS)
        return inside, inside

    @property
    def _window_3d(self) -> tuple[slice, slice, slice]:
        return slice(None), *self._window

    @property
    def _outer(self) -> tuple[float, float]:
        """Upper left corner of the grid."""
        return self.corner[0] - self._margin * self.spacing, self.corner[1] + self._margin * self.spacing

    @property
    def _shape(self) -> tuple[int, int]:
        return PIXELS + 2 * self._margin, PIXELS + 2 * self._margin

    def _share(self, polygon: BaseGeometry) -> Floats:
        return covered_share(polygon, self._outer, self._shape, self.spacing)

    @cached_property
    def _ground(self) -> Ground:
        lake = self._share(self.dynamics.widest) > 0
        if self.dem is None:
            angle = math.radians(self.dynamics.front_degrees)
            seed = int(draws(self.seed, self.lake, "terrain").integers(2**31))
            terrain = make_terrain(lake, self.spacing, seed=seed, axis=(math.cos(angle), math.sin(angle)))
        else:
            from odc.geo.geobox import GeoBox

            left, top = self._outer
            side = self._shape[0] * self.spacing
            extent = (left, top - side, left + side, top)
            grid = GeoBox.from_bbox(extent, crs=f"EPSG:{self.lake.epsg}", resolution=self.spacing, tight=True)
            terrain = read_terrain(self.dem, grid, lake_mask=lake)
        rise = np.hypot(*np.gradient(terrain.elevation, self.spacing)).astype(np.float32)
        generator = draws(self.seed, self.lake, "ponds")
        ponds = place_ponds(self.dynamics.widest, rise[self._window], self.corner, self.spacing, generator)
        elevation, share = terrain.elevation.copy(), np.zeros(self._shape, np.float32)
        for pond in ponds:
            part = self._share(pond)
            elevation = _levelled(elevation, part > 0, self.spacing)
            share += part
        elevation[lake] = terrain.elevation[lake]
        return Ground(Terrain(elevation, terrain.surface), tuple(ponds), share)

    def _sight(self, view: View) -> Sight:
        ground = self.ground
        with self._lock:
            if view not in self._seen:
                look = look_of(view)
                self._seen[view] = Sight(look, observe(ground.terrain.elevation, self.spacing, look))
            return self._seen[view]

    def expected(self, one: Pass, share: Floats) -> Floats:
        """Gamma0 of land, water and ice, mixed by their shares in each pixel of the grid; as seen from straight above.

        Parameters
        ----------
        one
            The pass: its time tells season, ice and wind, its track the incidence.
        share
            Of every pixel under water, float32 (y, x).

        Returns
        -------
        numpy.ndarray
            VV and VH (band, y, x), linear power, float32, on the grid.
        """
        time, platform, sight = one.starts[0], PLATFORMS.index(one.platform), self._sight(one.view)
        expected = self._land_at(time, one.view, sight).copy()
        cover = self.dynamics.cover(time)
        rows, columns = _extent(share > 0)
        part = share[rows, columns]
        seed = int(draws(self.seed, self.lake, "water", platform, one.orbit).integers(2**31))
        surface = water_gamma0(part.shape, wind=self.wind(one), incidence=sight.look.incidence, texture_seed=seed)
        if cover.share:
            # The texture of ice is that of its winter
            winter = int(draws(self.seed, self.lake, "floes", (time.year * 12 + time.month + 4) // 12).integers(2**31))
            ice = ice_gamma0(part.shape, thickness=cover.thickness, wet=cover.wet, texture_seed=winter)
            floes = _floes(part, cover, winter)
            surface = np.where(floes, ice, surface)
        expected[:, rows, columns] += part * (surface - expected[:, rows, columns])
        return expected

    def _land_at(self, time: datetime, view: View, sight: Sight) -> Floats:
        """Land at a time, kept for as long as snow and frost stay the same."""
        dry, any_ = (round(height / _SNOW_STEP) * _SNOW_STEP for height in self.dynamics.snow(time))
        elevation = self.ground.terrain.elevation
        frozen = self.dynamics.cover(time).state == "ice" and not self.dynamics.cover(time).wet
        season: Season = "frozen" if frozen else "dry"
        snow: NDArray[np.bool_] | None = None
        if any_ < dry:
            season, snow = "wet_snow", (elevation >= any_) & (elevation < dry)
        elif frozen:
            season, snow = "dry_snow", elevation >= dry
        key = (view, season, dry, any_)
        with self._lock:
            if key not in self._land:
                while len(self._land) > 3:
                    self._land.pop(next(iter(self._land)))
                seed = int(draws(self.seed, self.lake, "land").integers(2**31))
                self._land[key] = land_gamma0(
                    self.ground.terrain.surface,
                    sight.observation.local_incidence,
                    season=season,
                    snow=snow,
                    texture_seed=seed,
                )
            return self._land[key]

    def _beyond(self, signs: tuple[float, float], between: float, polygon: BaseGeometry) -> NDArray[np.bool_]:
        """Pixels beyond a steep swath edge that runs between the lake (0, or less: through it) and a corner (1).

        The signs of x and y tell which corner.
        """
        x_sign, y_sign = signs
        left, top = self.corner
        pixels = np.arange(PIXELS) * self.spacing + self.spacing / 2
        across = x_sign * (left + pixels) + 0.4 * y_sign * (top - pixels[:, None])
        x, y = shapely.get_coordinates(polygon).T
        shore = (x_sign * x + 0.4 * y_sign * y).max()
        corner = self.on_lattice(across).max()
        beyond: NDArray[np.bool_] = across > shore + between * (corner - shore)
        return beyond


@lru_cache(maxsize=6)
def shared(scenery: Scenery) -> Scenery:
    """The scenery of this process that equals another, so that its terrain and looks are made once."""
    return replace(scenery)


def covered_share(polygon: BaseGeometry, corner: tuple[float, float], shape: tuple[int, int], spacing: float) -> Floats:
    """Share of each pixel inside a polygon, float32, 0 to 1; of a grid with this upper left corner and shape.

    Exact along ten lines in each row. Not rasterio's, which silences its warnings in a way that threads undo.
    """
    (left, top), (height, width) = corner, shape
    rings = [ring for part in shapely.get_parts(polygon) for ring in (part.exterior, *part.interiors)]
    ends = [np.asarray(ring.coords)[:, :2] for ring in rings]
    # In pixels from the corner; x, y of the start and of the end of every edge
    edges = np.concatenate([np.hstack([points[:-1], points[1:]]) for points in ends] or [np.empty((0, 4))])
    x0, y0, x1, y1 = ((edges - (left, top, left, top)) * (1, -1, 1, -1) / spacing).T
    lines = (np.arange(height * _SUBPIXELS) + 0.5) / _SUBPIXELS
    inside = slice(*np.searchsorted(lines, (y0.min(initial=0), max(y0.max(initial=0), 0))))
    line, edge = np.nonzero((y0 <= lines[inside, None]) != (y1 <= lines[inside, None]))
    at = x0[edge] + (lines[inside][line] - y0[edge]) * (x1[edge] - x0[edge]) / (y1[edge] - y0[edge])
    order = np.lexsort((at, line))
    at, row = np.clip(at[order], 0, width), (line[order] + inside.start) // _SUBPIXELS
    # Lines enter at odd crossings and leave at even ones. A pixel is covered up to the crossing in it, and by all
    # that lie beyond it.
    sign = np.where(np.arange(len(at)) % 2, 1.0, -1.0)
    column = np.floor(at).astype(np.int64)
    cell = row * (width + 1) + column
    count = height * (width + 1)
    part, whole = (np.bincount(cell, weight, count).reshape(height, -1) for weight in (sign * (at - column), sign))
    beyond = whole[:, ::-1].cumsum(axis=1)[:, ::-1] - whole
    return np.clip((part + beyond)[:, :-1] / _SUBPIXELS, 0, 1).astype(np.float32)


def _levelled(elevation: Floats, pond: NDArray[np.bool_], spacing: float) -> Floats:
    """Level ground under a pond, that passes into what is around it over some 80 m."""
    from scipy.ndimage import distance_transform_edt

    if not pond.any():
        return elevation
    near = np.exp(-((distance_transform_edt(~pond, sampling=spacing) / 60) ** 2)).astype(np.float32)
    return elevation + near * (np.median(elevation[pond]) - elevation)


def _extent(wet: NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest window that holds all of it, or a single pixel where there is none."""
    rows, columns = np.flatnonzero(wet.any(1)), np.flatnonzero(wet.any(0))
    if not len(rows):
        return slice(0, 1), slice(0, 1)
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _floes(part: Floats, cover: Cover, seed: int) -> NDArray[np.bool_]:
    """Which pixels of the water are under ice: those where a smooth field is highest, so floes only shrink."""
    if cover.share >= 1:
        return np.ones(part.shape, bool)
    height = correlated(part.shape, 8.0, np.random.default_rng(seed))
    return np.asarray(height >= np.quantile(height[part > 0], 1 - cover.share))


def _burst(index: int, count: int) -> tuple[slice, NDArray[np.bool_]]:
    """Rows of a burst (the northern first: two cover descending passes only) and which of its pixels hold no data."""
    if count == 1:
        return slice(0, PIXELS), np.zeros((PIXELS, PIXELS), bool)
    reach = _OVERLAP + _PADDING
    rows = slice(0, _SEAM + reach) if index == 0 else slice(_SEAM - reach, PIXELS)
    beyond = np.arange(PIXELS)[rows, None] - _SEAM - _TILT * (np.arange(PIXELS) - PIXELS / 2)
    return rows, beyond > _OVERLAP if index == 0 else beyond < -_OVERLAP
