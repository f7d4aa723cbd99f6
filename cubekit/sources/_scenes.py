"""What the radar sees of a simulated lake: its shore over time, terrain, backscatter, speckle, and the cut into bursts.

Notes
-----
Where the levels of backscatter (gamma0) come from: measured on real crops, or assumed. **None is from a cited paper
yet.** Levels of crops hold the sensor's noise too.

==============  ==========  ===========================================================================================
level           VV, VH, dB  origin
==============  ==========  ===========================================================================================
land            -8, -15     VV: medians of the HyP3 crops of the study's areas, water included, are -7.5 to -8.8 (but
                            -12.9 at Gokyo). VH: 67 OPERA crops of Californian land have it 6 to 10 below VV
spread of land  3, 3.2      assumed: 95 % of VV lie below -3.1, in the HyP3 crops below -1.8 to -2.7 (Gokyo -6.7)
layover         land + 6    assumed
calm water      -24, -32    assumed; with the noise -22.5, -26.5. 72 OPERA crops of the sea off California have -27.2 to
                            -11.5 (median -15.4) and -30.7 to -25.3 (median -27.6)
rough water     -12, -26    VV as the brightest of these crops. VH is assumed; with the noise -23.9, above all of them
noise           -28, -28    assumed, 6 below the -22 that Sentinel-1 is specified to keep
==============  ==========  ===========================================================================================

No DEM yet: layover and shadow are random fields, drawn once for each lake and direction.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from typing import Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import rotate, translate
from shapely.geometry import LineString, box
from shapely.geometry.base import BaseGeometry

from cubekit.lakes import LATTICE_PIXELS, Lake
from cubekit.passes import PLATFORMS
from cubekit.sources._geometry import SPACING, Pass

LOOKS = 6.0
"""Equivalent number of looks, as OPERA RTC-S1 may have it at 30 m.

Assumed: 54 real VV crops of bright sea have 3.4 to 6.9 (median 5.0) in 10 x 10 pixels, which swell may lower.
"""

REFERENCE = datetime(2020, 7, 1, tzinfo=UTC)
"""When the simulated lake has its real outline: ICIMOD's, which the catalogue has, are of 2020."""

_PIXELS = 300  # rows and columns of what is simulated: the lattice and a margin
_LEFT, _TOP = 24, 20  # margin, pixels
_SEAM, _OVERLAP, _PADDING = 150, 30, 30  # row between two bursts, half their overlap, rows without data beyond it
_TILT = math.tan(math.radians(10))  # of the ends of a burst against the rows, as the track is inclined
_SUBPIXELS = 10  # along each side: areas come out right to 0.02 %
_SHORE_METRES = 2.0  # how far the shore moves with the season
_CUT = 0.75  # part of its length at which the lake is stretched
_LAND_DB, _SPREAD_DB, _CROSS_DB, _LAYOVER_DB = -8.0, 3.0, -7.0, 6.0
_CALM_DB, _ROUGH_DB, _FLOOR_DB = np.array([-24.0, -32.0]), np.array([-12.0, -26.0]), -28.0
_EDGE_SHARE = 1 / 8  # of the passes, cut by the edge of the swath

Floats = NDArray[np.float32]
Codes = NDArray[np.uint8]


@dataclass(frozen=True)
class Scenery:
    """What all passes of one lake share; the lake lies on its 30 m lattice, growth is in metres a year."""

    lake: Lake
    seed: int
    looks: float
    growth: float

    @cached_property
    def corner(self) -> tuple[float, float]:
        """Upper left corner of what is simulated, in the lake's coordinate reference system."""
        left, _, _, top = self.lake.lattice.boundingbox.bbox
        return left - _LEFT * SPACING, top + _TOP * SPACING

    @cached_property
    def _aoi(self) -> BaseGeometry:
        return self.lake.project(shapely.segmentize(self.lake.aoi, 0.001))  # straight in degrees is curved here

    @cached_property
    def _terrain(self) -> Mapping[str, tuple[Floats, Codes]]:
        # Layover and shadow are kept off the water for as long as it may grow.
        widest = lake_polygon(self.lake, datetime(2036, 9, 1, tzinfo=UTC), self.growth)
        lake = water_fraction(widest, self.corner, (_PIXELS, _PIXELS)) > 0
        common = _field(self._generator("terrain"))
        return {name: _terrain(lake, common, name, self._generator(name)) for name in ("ascending", "descending")}

    def _generator(self, *key: str | int) -> np.random.Generator:
        words = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in (self.lake.id, *key)]
        return np.random.default_rng([self.seed, *words])

    def draws(self, platform: str, orbit: int) -> np.random.Generator:
        """Random numbers of one pass, from their beginning: they depend on seed, lake and pass only."""
        return self._generator(PLATFORMS.index(platform), orbit)

    def water_km2(self, time: datetime) -> float:
        """True area of the lake within its AOI at a time (UTC, with zone), km2."""
        area: float = lake_polygon(self.lake, time, self.growth).intersection(self._aoi).area
        return area / 1e6

    def scene(self, one: Pass) -> tuple[Floats, Codes]:
        """What one pass sees, before it is cut into bursts.

        Returns
        -------
        tuple of numpy.ndarray
            VV and VH (band, row, column), gamma0 in linear power, float32, NaN in shadow and beyond the swath; and
            OPERA's mask (row, column), uint8.
        """
        generator = self.draws(one.platform, one.orbit)
        _, _, roughness, edge, between, east, north = generator.random(7)  # the first two are those of its times
        polygon = lake_polygon(self.lake, one.starts[0], self.growth)
        fraction = water_fraction(polygon, self.corner, (_PIXELS, _PIXELS))
        land, slopes = self._terrain[one.view.direction]
        water = _power(_CALM_DB + roughness**2 * (_ROUGH_DB - _CALM_DB))[:, None, None]  # squared: mostly calm
        expected = fraction * water + (1 - fraction) * land + _power(_FLOOR_DB)
        values = expected * generator.standard_gamma(self.looks, expected.shape, np.float32) / np.float32(self.looks)
        mask = slopes.copy()
        values[:, (mask == 1) | (mask == 3)] = np.nan
        if edge < _EDGE_SHARE:
            signs = (math.copysign(1, east - 0.5), math.copysign(1, north - 0.5))
            outside = self._beyond(signs, 1.15 * between - 0.25, polygon)
            values[:, outside], mask[outside] = np.nan, 255
        return values.astype(np.float32), mask

    def bursts(self, one: Pass) -> Iterator[tuple[float, list[Floats | Codes]]]:
        """Each burst of a pass: its upper edge, in the lake's coordinate reference system, and its VV, VH and mask."""
        values, mask = self.scene(one)
        for index in range(len(one.starts)):
            rows, outside = _burst(index, len(one.starts))
            layers: list[Floats | Codes] = [np.where(outside, np.float32(np.nan), band[rows]) for band in values]
            layers.append(np.where(outside, np.uint8(255), mask[rows]))
            yield self.corner[1] - rows.start * SPACING, layers

    def _beyond(self, signs: tuple[float, float], between: float, polygon: BaseGeometry) -> NDArray[np.bool_]:
        """Pixels beyond a steep swath edge that runs between the lake (0, or less: through it) and a corner (1).

        The signs of x and y tell which corner.
        """
        x_sign, y_sign = signs
        left, top = self.corner
        pixels = np.arange(_PIXELS) * SPACING + SPACING / 2
        across = x_sign * (left + pixels) + 0.4 * y_sign * (top - pixels[:, None])
        x, y = shapely.get_coordinates(polygon).T
        shore, corner = (
            (x_sign * x + 0.4 * y_sign * y).max(),
            across[_TOP:, _LEFT:][:LATTICE_PIXELS, :LATTICE_PIXELS].max(),
        )
        beyond: NDArray[np.bool_] = across > shore + between * (corner - shore)
        return beyond


def lake_polygon(lake: Lake, time: datetime, growth_m_per_year: float) -> BaseGeometry:
    """Shore of the simulated lake at a time (UTC, with zone), in the lake's coordinate reference system.

    The outline is cut across at three quarters of its length, the part with the front (the end with more room in the
    AOI) moves along the long axis, and the cross-section fills the gap: after `REFERENCE` the area grows by exactly
    width times distance. Before, a slice is taken out. The season moves the shore by up to 2 m, outermost in September.
    """
    angle, outline = along_axis(lake)
    west, south, east, north = outline.bounds
    cut = west + _CUT * (east - west)
    # A front that would recede beyond the cut stays there.
    moved = max((time - REFERENCE) / timedelta(days=365.25) * growth_m_per_year, cut + 1 - east)
    back = outline.intersection(box(west - 1, south - 1, cut, north + 1))
    front = outline.intersection(box(cut + max(-moved, 0), south - 1, east + 1, north + 1))
    section = outline.intersection(LineString([(cut, south - 1), (cut, north + 1)]))
    gap = [box(cut, part.bounds[1], cut + moved, part.bounds[3]) for part in shapely.get_parts(section) if moved > 0]
    lake_now = rotate(shapely.union_all([back, translate(front, moved), *gap]), angle, origin=(0, 0))
    phase = 2 * math.pi * (time.timetuple().tm_yday - 245) / 365.25
    return lake_now.buffer(_SHORE_METRES * math.cos(phase), join_style="mitre")


def water_fraction(polygon: BaseGeometry, corner: tuple[float, float], shape: tuple[int, int]) -> Floats:
    """Share of each 30 m pixel inside a polygon, float32, 0 to 1; of a grid with this upper left corner and shape."""
    from rasterio.features import geometry_mask
    from rasterio.transform import from_origin

    left, top = corner
    fraction = np.zeros(shape, np.float32)
    west, south, east, north = polygon.intersection(
        box(left, top - shape[0] * SPACING, left + shape[1] * SPACING, top)
    ).bounds
    if not west < east:  # nothing inside
        return fraction
    rows = slice(math.floor((top - north) / SPACING), math.ceil((top - south) / SPACING))
    columns = slice(math.floor((west - left) / SPACING), math.ceil((east - left) / SPACING))
    height, width, fine = rows.stop - rows.start, columns.stop - columns.start, SPACING / _SUBPIXELS
    transform = from_origin(left + columns.start * SPACING, top - rows.start * SPACING, fine, fine)
    inside = geometry_mask([polygon], (height * _SUBPIXELS, width * _SUBPIXELS), transform, invert=True)
    fraction[rows, columns] = inside.reshape(height, _SUBPIXELS, width, _SUBPIXELS).mean((1, 3), dtype=np.float32)
    return fraction


def along_axis(lake: Lake) -> tuple[float, BaseGeometry]:
    """Angle (degrees) of the long axis, towards the end with more room in the AOI, and the outline turned onto x."""
    outline, aoi = lake.project(lake.outline), lake.project(lake.aoi)
    ring = np.asarray(shapely.get_coordinates(outline.minimum_rotated_rectangle))
    sides = np.diff(ring[:3], axis=0)
    dx, dy = sides[np.argmax(np.hypot(*sides.T))]
    angle = math.degrees(math.atan2(dy, dx))
    turned, around = (rotate(geometry, -angle, origin=(0, 0)) for geometry in (outline, aoi))
    if turned.bounds[0] - around.bounds[0] > around.bounds[2] - turned.bounds[2]:
        angle += 180
        turned = rotate(turned, 180, origin=(0, 0))
    return angle, turned


def _terrain(
    lake: NDArray[np.bool_], common: Floats, direction: str, generator: np.random.Generator
) -> tuple[Floats, Codes]:
    """Expected VV and VH of land (linear power) and OPERA's mask: layover on slopes that face the radar, shadow behind.

    Ascending tracks look east: the slopes east of the lake face them, the western ones lie in shadow.
    """
    from scipy.ndimage import distance_transform_edt

    own, cross, steep, deep = (_field(generator) for _ in range(4))
    vv = _LAND_DB + _SPREAD_DB * (common + own) / math.sqrt(2)
    decibel = np.stack([vv, vv + _CROSS_DB + cross])
    distance, (_, nearest) = distance_transform_edt(~lake, return_indices=True)
    east = (np.arange(_PIXELS) - nearest) / np.maximum(distance, 1)
    facing = east if direction == "ascending" else -east
    slope = (distance > 4) & (distance < 40) & (steep > 0.3)
    mask = np.zeros(lake.shape, np.uint8)
    mask[slope & (facing > 0.5)] = 2
    mask[slope & (facing < -0.5)] = 1
    mask[slope & (facing < -0.5) & (deep > 1)] = 3
    decibel[:, mask == 2] += _LAYOVER_DB
    return _power(decibel), mask


def _field(generator: np.random.Generator) -> Floats:
    """A smooth random field of mean 0 and standard deviation 1: half its variance at 60 m, half at 360 m."""
    from scipy.ndimage import gaussian_filter

    parts = [gaussian_filter(generator.standard_normal((_PIXELS, _PIXELS)), scale, mode="wrap") for scale in (2, 12)]
    field: Floats = np.sum([part / part.std() for part in parts], axis=0, dtype=np.float32)
    field -= field.mean()
    field /= field.std()
    return field


def _burst(index: int, count: int) -> tuple[slice, NDArray[np.bool_]]:
    """Rows of a burst (the northern first: two cover descending passes only) and which of its pixels hold no data."""
    if count == 1:
        return slice(0, _PIXELS), np.zeros((_PIXELS, _PIXELS), bool)
    reach = _OVERLAP + _PADDING
    rows = slice(0, _SEAM + reach) if index == 0 else slice(_SEAM - reach, _PIXELS)
    beyond = np.arange(_PIXELS)[rows, None] - _SEAM - _TILT * (np.arange(_PIXELS) - _PIXELS / 2)
    return rows, beyond > _OVERLAP if index == 0 else beyond < -_OVERLAP


def _power(decibel: Any) -> Any:
    return np.float32(10) ** (np.asarray(decibel, np.float32) / 10)
