"""Source `simulated:PATH`: a lake that grows, as OPERA RTC-S1 would see it, with the truth beside the files.

No DEM yet: terrain, layover and shadow are random fields, drawn once for each lake and direction. What is random
depends on the seed, the lake and the pass only, so an archive can be resumed or extended and its files stay the same.
"""

from __future__ import annotations

import json
import math
import os
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cache, cached_property
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import rotate, translate
from shapely.geometry import LineString, box
from shapely.geometry.base import BaseGeometry

from cubekit.errors import ConfigError, SourceError
from cubekit.lakes import LATTICE_PIXELS, Lake
from cubekit.passes import ORBIT_SECONDS, PLATFORMS, REPEAT_ORBITS, absolute_orbit, ascending_node, relative_orbit
from cubekit.sources import Period, folder, parse_period

if TYPE_CHECKING:
    import pandas as pd
    import pystac

LOOKS = 6.0
"""Equivalent number of looks of OPERA RTC-S1 at 30 m: real crops over bright sea have 5 to 7 in 10 x 10 pixels."""

REFERENCE = datetime(2020, 7, 1, tzinfo=UTC)
"""When the simulated lake has its real outline: ICIMOD's, which the catalogue has, are of 2020."""

TRUTH = "truth.csv"
"""File of an archive with the true area of every pass."""

# First and last day on which each platform delivers; OPERA has none of the earlier, uncalibrated data of S1C.
_SERVICE: Mapping[str, tuple[date, date]] = {
    "sentinel-1a": (date(2014, 10, 3), date.max),
    "sentinel-1b": (date(2016, 10, 1), date(2021, 12, 22)),
    "sentinel-1c": (date(2025, 5, 20), date.max),
}
_SPACING, _PIXELS = 30, 300  # of what is simulated: the lattice and a margin
_LEFT, _TOP = 24, 20  # margin, pixels
_SEAM, _OVERLAP, _PADDING = 150, 30, 30  # row between two bursts, half their overlap, rows without data beyond it
_TILT = math.tan(math.radians(10))  # of the ends of a burst against the rows, as the track is inclined
_SUBPIXELS = 10  # along each side: areas come out right to 0.02 %
_SHORE_METRES = 2.0  # how far the shore moves with the season
_CUT = 0.75  # part of its length at which the lake is stretched
# Terrain: median and 95 % of HyP3 scenes of the study's lakes are -7 to -9 and -2 to -3 dB in VV; VH lies 7 dB below.
_LAND_DB, _SPREAD_DB, _CROSS_DB, _LAYOVER_DB = -8.0, 3.0, -7.0, 6.0
# Water, VV and VH: 42 real OPERA crops of the Californian coast have -27 (calm) to -11.5 and -28.7 to -25.3 dB, VH
# near the noise, whose specified equivalent is -22 dB.
_CALM_DB, _ROUGH_DB, _FLOOR_DB = np.array([-24.0, -32.0]), np.array([-12.0, -26.0]), -28.0
_EDGE_SHARE = 1 / 8  # of the passes, cut by the edge of the swath
# Sentinel-1's orbit and swath (ground range, km). Local time of the node and swath are fitted to the footprint in the
# manifest of S1A's orbit 30643. ESA's burst numbering: preamble and length of a burst cycle, s.
_INCLINATION, _NODE_HOUR, _EARTH_RATE = math.radians(98.18), 18.02, 2 * math.pi / 86164.1
_NEAR, _FAR, _EARTH_RADIUS = 365.0, 624.0, 6371.0
_PREAMBLE, _BURST = 2.299849, 2.758273
_STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class _View:
    """How a track sees a lake: direction, seconds from ascending node to closest approach, km from nadir to lake."""

    track: int
    direction: str
    seconds: float
    ground_range: float

    @property
    def bursts(self) -> tuple[int, ...]:
        """ESA numbers of the bursts that cover the lake: one, or two when descending."""
        first = 1 + int((self.seconds + (self.track - 1) * ORBIT_SECONDS - _PREAMBLE) // _BURST)
        return (first,) if self.direction == "ascending" else (first, first + 1)

    @property
    def swath(self) -> str:
        """Sub-swath, ``IW1`` to ``IW3``."""
        return f"IW{1 + min(2, int(3 * (self.ground_range - _NEAR) / (_FAR - _NEAR)))}"

    def start(self, burst: int) -> timedelta:
        """Time from the ascending node to the start of a burst."""
        return timedelta(seconds=_PREAMBLE + (burst - 1) * _BURST - (self.track - 1) * ORBIT_SECONDS)


@dataclass(frozen=True)
class _Pass:
    """One pass with its random scalars drawn, and the generator for its speckle."""

    platform: str
    orbit: int
    view: _View
    starts: tuple[datetime, ...]  # of its bursts
    processed: datetime
    roughness: float  # of the water, 0 calm to 1 rough
    edge: (
        tuple[float, float, float] | None
    )  # swath edge: signs of a corner's x and y, and where between lake and corner
    generator: np.random.Generator

    @property
    def granules(self) -> tuple[str, ...]:
        return tuple(
            f"OPERA_L2_RTC-S1_T{self.view.track:03d}-{burst:06d}-{self.view.swath}_{start:%Y%m%dT%H%M%SZ}"
            f"_{self.processed:%Y%m%dT%H%M%SZ}_S1{self.platform[-1].upper()}_{_SPACING}_v1.0"
            for burst, start in zip(self.view.bursts, self.starts, strict=True)
        )


def write_archive(
    lake: Lake,
    path: str | Path,
    *,
    start: str | date | None,
    end: str | date | None,
    seed: int = 0,
    looks: float = LOOKS,
    growth_m_per_year: float = 20.0,
    revisit_days: int = 12,
    tracks: Sequence[int] | None = None,
) -> list[Path]:
    """Simulate OPERA RTC-S1 granules of one lake, and write those that are missing.

    Parameters
    ----------
    lake
        Its outline is the lake of `REFERENCE`. Scenes lie on the grid of its 30 m lattice.
    path
        Folder of the archive, made when absent: granules, `TRUTH` and ``archive.json``.
    start, end
        First and last day, both inclusive, UTC.
    seed
        0 or more.
    looks
        Equivalent number of looks of the speckle.
    growth_m_per_year
        How fast the front moves up-glacier, 0 to 100.
    revisit_days
        Per platform and track, a multiple of 12.
    tracks
        Relative orbits. By default the nearest ascending and the nearest descending one.

    Returns
    -------
    list of Path
        Files of the passes in this period by time, also those that were there. float32 gamma0 in linear power, NaN in
        shadow and beyond the swath; masks uint8 in OPERA's codes.

    Raises
    ------
    ConfigError
        When a parameter is out of range, a track does not see the lake, or the folder holds an archive that was
        made with other parameters.

    Notes
    -----
    Shore pixels mix land and water in linear power by their shares. Speckle is gamma distributed, multiplicative and
    independent between pixels and polarisations (OPERA's is somewhat correlated). Descending tracks see the lake in
    two bursts that overlap, with the same values. The files of a granule are renamed into place when all are complete.

    The outline is stretched at three quarters of its length, towards the end with more room in the AOI; after
    `REFERENCE` the area grows by width times distance. The season moves the shore by up to 2 m.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from cubekit.lakes import catalogue
    >>> with TemporaryDirectory() as home:
    ...     files = write_archive(catalogue()["gokyo"], home, start="2023-07-01", end="2023-07-08")
    >>> files[0].name
    'OPERA_L2_RTC-S1_T012-023790-IW1_20230703T121409Z_..._S1A_30_v1.0_VV.tif'
    """
    first, last = parse_period(start, end)
    if first is None or last is None:
        msg = f"a simulated archive needs its first and last day, got {first} and {last}; give start and end"
        raise ConfigError(msg)
    checks = (
        (seed >= 0, f"seed {seed}: 0 or more"),
        (0 < looks < math.inf, f"looks {looks}: above 0"),
        (0 <= growth_m_per_year <= 100, f"growth {growth_m_per_year} m a year: 0 to 100"),
        (revisit_days > 0 and revisit_days % 12 == 0, f"revisit of {revisit_days} days: a multiple of 12"),
    )
    if wrong := "; ".join(message for good, message in checks if not good):
        msg = f"the simulation allows only ({wrong}); change it"
        raise ConfigError(msg)
    archive = _Archive(lake.at_spacing(_SPACING), int(seed), float(looks), float(growth_m_per_year))
    chosen = _chosen(lake, tracks)
    home = Path(path)
    home.mkdir(parents=True, exist_ok=True)
    archive.claim(home)
    passes = [one for view in chosen for one in archive.passes(view, first, last, revisit_days // 12)]
    passes.sort(key=lambda one: (one.starts[0], one.platform))
    files = []
    for one in passes:
        granules = [[home / f"{name}_{layer}.tif" for layer in ("VV", "VH", "mask")] for name in one.granules]
        if not all(file.exists() for granule in granules for file in granule):
            archive.write(one, granules)
        files += [file for granule in granules for file in granule]
    archive.write_truth(home, passes)
    return files


def find(
    lake: Lake, period: Period, path: str | Path, *, seed: float = 0, growth: float = 20.0, looks: float = LOOKS
) -> pystac.ItemCollection:
    """Find the scenes of a lake in a simulated archive, which is made where it is missing.

    Parameters
    ----------
    lake
        The lake.
    period
        First and last day, both inclusive, UTC; both are needed.
    path
        Folder that holds the archives, each in a folder named as its lake.
    seed, growth, looks
        As `write_archive`'s ``seed``, ``growth_m_per_year`` and ``looks``.

    Returns
    -------
    pystac.ItemCollection
        As `cubekit.sources.folder.find` gives it.

    Raises
    ------
    ConfigError
        As `write_archive`, and when the seed is not a whole number.
    SourceError
        When no pass lies in this period.
    """
    if seed != int(seed):
        msg = f"seed {seed} is not a whole number; give e.g. {int(seed)}"
        raise ConfigError(msg)
    home, (first, last) = Path(path) / lake.id, period
    write_archive(lake, home, start=first, end=last, seed=int(seed), growth_m_per_year=growth, looks=looks)
    return folder.find(lake, period, home)


def read_truth(path: str | Path) -> pd.DataFrame:
    """Read the truth of a simulated archive.

    Parameters
    ----------
    path
        Folder of the archive.

    Returns
    -------
    pandas.DataFrame
        A row a pass by time: ``lake``, ``time`` (start of the first burst, UTC, without zone), ``track``,
        ``platform``, ``absolute_orbit``, ``water_km2`` (lake's polygon within the AOI), ``granules`` (JSON list).

    Raises
    ------
    SourceError
        When the folder has no truth.
    """
    import pandas as pd

    file = Path(path) / TRUTH
    if not file.is_file():
        msg = f"{file} does not exist; give the folder of an archive that write_archive has made"
        raise SourceError(msg)
    table = pd.read_csv(file, float_precision="round_trip")
    return table.assign(time=pd.to_datetime(table["time"], utc=True).dt.tz_localize(None))


def _lake_polygon(lake: Lake, time: datetime, growth_m_per_year: float) -> BaseGeometry:
    """Shore of the simulated lake at a time (UTC, with zone), in the lake's coordinate reference system.

    The outline is cut across at three quarters of its length, the part with the front (the end with more room in the
    AOI) moves along the long axis, and the cross-section fills the gap: after `REFERENCE` the area grows by exactly
    width times distance. Before, a slice is taken out. The season moves the shore by up to 2 m, outermost in September.
    """
    angle, outline = _along_axis(lake)
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


def _water_fraction(polygon: BaseGeometry, corner: tuple[float, float], shape: tuple[int, int]) -> Floats:
    """Share of each 30 m pixel inside a polygon, float32, 0 to 1; of a grid with this upper left corner and shape."""
    from rasterio.features import geometry_mask
    from rasterio.transform import from_origin

    left, top = corner
    fraction = np.zeros(shape, np.float32)
    west, south, east, north = polygon.intersection(
        box(left, top - shape[0] * _SPACING, left + shape[1] * _SPACING, top)
    ).bounds
    if not west < east:  # nothing inside
        return fraction
    rows = slice(math.floor((top - north) / _SPACING), math.ceil((top - south) / _SPACING))
    columns = slice(math.floor((west - left) / _SPACING), math.ceil((east - left) / _SPACING))
    height, width, fine = rows.stop - rows.start, columns.stop - columns.start, _SPACING / _SUBPIXELS
    transform = from_origin(left + columns.start * _SPACING, top - rows.start * _SPACING, fine, fine)
    inside = geometry_mask([polygon], (height * _SUBPIXELS, width * _SUBPIXELS), transform, invert=True)
    fraction[rows, columns] = inside.reshape(height, _SUBPIXELS, width, _SUBPIXELS).mean((1, 3), dtype=np.float32)
    return fraction


def _views(lake: Lake) -> list[_View]:
    """All tracks in whose swath a lake lies: circular orbit, spherical Earth, right to about 10 km and 2 s."""
    latitude, longitude = map(math.radians, lake.centre)
    latitude = math.atan((1 - 1 / 298.257) ** 2 * math.tan(latitude))  # geocentric
    seconds = np.arange(0, ORBIT_SECONDS)
    u = 2 * math.pi * seconds / ORBIT_SECONDS
    east = np.arctan2(math.cos(_INCLINATION) * np.sin(u), np.cos(u)) - _EARTH_RATE * seconds
    north = np.arcsin(math.sin(_INCLINATION) * np.sin(u))
    nadir = np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=-1)
    left = np.cross(nadir, np.gradient(nadir, axis=0))
    found = []
    for track in range(1, REPEAT_ORBITS + 1):
        node = ascending_node("sentinel-1a", 30643 + track - 121)  # orbit 30643 is on track 121
        hours = node.hour + node.minute / 60 + node.second / 3600
        local = longitude - math.radians(15 * (_NODE_HOUR - hours))  # Sentinel-1's nodes are at 18:01 local time
        point = np.array(
            [math.cos(latitude) * math.cos(local), math.cos(latitude) * math.sin(local), math.sin(latitude)]
        )
        closest = int(np.argmax(nadir @ point))
        reach = _EARTH_RADIUS * math.acos(float(nadir[closest] @ point))
        if left[closest] @ point < 0 and _NEAR <= reach <= _FAR:  # it looks to the right
            direction = "descending" if 0.25 <= seconds[closest] / ORBIT_SECONDS < 0.75 else "ascending"
            found.append(_View(track, direction, float(seconds[closest]), reach))
    return found


@dataclass(frozen=True)
class _Archive:
    """What all passes of one lake share."""

    lake: Lake
    seed: int
    looks: float
    growth: float

    @cached_property
    def corner(self) -> tuple[float, float]:
        left, _, _, top = self.lake.lattice.boundingbox.bbox
        return left - _LEFT * _SPACING, top + _TOP * _SPACING

    @cached_property
    def aoi(self) -> BaseGeometry:
        return self.lake.project(shapely.segmentize(self.lake.aoi, 0.001))  # straight in degrees is curved here

    @cached_property
    def terrain(self) -> Mapping[str, tuple[Floats, NDArray[np.uint8]]]:
        # Layover and shadow are kept off the water for as long as it may grow.
        widest = _lake_polygon(self.lake, datetime(2036, 9, 1, tzinfo=UTC), self.growth)
        lake = _water_fraction(widest, self.corner, (_PIXELS, _PIXELS)) > 0
        common = _field(self.generator("terrain"))
        return {name: _terrain(lake, common, name, self.generator(name)) for name in ("ascending", "descending")}

    def generator(self, *key: str | int) -> np.random.Generator:
        words = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in (self.lake.id, *key)]
        return np.random.default_rng([self.seed, *words])

    def claim(self, home: Path) -> None:
        """Refuse a folder that holds another archive."""
        mine = {
            "lake": self.lake.id,
            "seed": self.seed,
            "looks": self.looks,
            "growth_m_per_year": self.growth,
            "grid": f"EPSG:{self.lake.epsg} {self.corner}",
            "outline": zlib.crc32(shapely.to_wkb(self.lake.outline) + shapely.to_wkb(self.lake.aoi)),
        }
        file = home / "archive.json"
        if not file.exists():
            _temporary(file).write_text(json.dumps(mine, indent=1))
            _temporary(file).replace(file)
        stored = json.loads(file.read_text())
        if other := [
            f"{name} {stored.get(name)} (asked: {value})" for name, value in mine.items() if stored.get(name) != value
        ]:
            msg = f"{home} holds a simulated archive made with {', '.join(other)}; give another folder"
            raise ConfigError(msg)

    def passes(self, view: _View, first: date, last: date, cycles: int) -> Iterator[_Pass]:
        """Passes of a track whose first burst starts on one of these days, of every `cycles`-th repeat cycle."""
        for platform, (begins, ends) in _SERVICE.items():
            begin, end, once = max(first, begins), min(last, ends), timedelta(seconds=ORBIT_SECONDS)
            # An orbit may start before midnight and reach the lake after it.
            time = datetime(begin.year, begin.month, begin.day, tzinfo=UTC) - once
            while time.date() <= end or (time - once).date() <= end:
                time += once
                try:
                    orbit = absolute_orbit(platform, time)
                except SourceError:  # the platform was being moved
                    continue
                if ahead := (view.track - relative_orbit(platform, orbit)) % REPEAT_ORBITS:
                    time += (ahead - 1) * once
                    continue
                one = self._pass(platform, orbit, view)
                if begin <= one.starts[0].date() <= end and orbit // REPEAT_ORBITS % cycles == 0:
                    yield one

    def _pass(self, platform: str, orbit: int, view: _View) -> _Pass:
        generator = self.generator(PLATFORMS.index(platform), orbit)
        late, latency, roughness, edge, between, east, north = generator.random(7)
        node = ascending_node(platform, orbit) + timedelta(seconds=late)
        starts = tuple((node + view.start(burst)).replace(microsecond=0) for burst in view.bursts)
        signs = (math.copysign(1, east - 0.5), math.copysign(1, north - 0.5))
        processed = starts[-1] + timedelta(seconds=int(3600 * (3 + 9 * latency)))
        cut = (*signs, 1.15 * between - 0.25) if edge < _EDGE_SHARE else None
        return _Pass(platform, orbit, view, starts, processed, roughness**2, cut, generator)  # squared: mostly calm

    def scene(self, one: _Pass) -> tuple[Floats, NDArray[np.uint8]]:
        """VV and VH (band, row, column) and OPERA's mask of one pass, before it is cut into bursts."""
        polygon = _lake_polygon(self.lake, one.starts[0], self.growth)
        fraction = _water_fraction(polygon, self.corner, (_PIXELS, _PIXELS))
        land, slopes = self.terrain[one.view.direction]
        water = _power(_CALM_DB + one.roughness * (_ROUGH_DB - _CALM_DB))[:, None, None]
        expected = fraction * water + (1 - fraction) * land + _power(_FLOOR_DB)
        values = (
            expected * one.generator.standard_gamma(self.looks, expected.shape, np.float32) / np.float32(self.looks)
        )
        mask = slopes.copy()
        values[:, (mask == 1) | (mask == 3)] = np.nan
        if one.edge:
            outside = self._beyond(one.edge, polygon)
            values[:, outside], mask[outside] = np.nan, 255
        return values.astype(np.float32), mask

    def _beyond(self, edge: tuple[float, float, float], polygon: BaseGeometry) -> NDArray[np.bool_]:
        """Pixels beyond a steep swath edge that runs between the lake (0, or less: through it) and a corner (1)."""
        x_sign, y_sign, between = edge
        left, top = self.corner
        pixels = np.arange(_PIXELS) * _SPACING + _SPACING / 2
        across = x_sign * (left + pixels) + 0.4 * y_sign * (top - pixels[:, None])
        x, y = shapely.get_coordinates(polygon).T
        shore, corner = (
            (x_sign * x + 0.4 * y_sign * y).max(),
            across[_TOP:, _LEFT:][:LATTICE_PIXELS, :LATTICE_PIXELS].max(),
        )
        beyond: NDArray[np.bool_] = across > shore + between * (corner - shore)
        return beyond

    def write(self, one: _Pass, granules: Sequence[Sequence[Path]]) -> None:
        """Write the granules of a pass; they carry OPERA's tags."""
        import rasterio
        from rasterio.transform import from_origin

        values, mask = self.scene(one)
        for index, (start, burst, files) in enumerate(zip(one.starts, one.view.bursts, granules, strict=True)):
            rows, outside = _burst(index, len(granules))
            layers = [np.where(outside, np.float32(np.nan), band[rows]) for band in values]
            layers.append(np.where(outside, np.uint8(255), mask[rows]))
            top = self.corner[1] - rows.start * _SPACING
            box_edges = [self.corner[0], top - outside.shape[0] * _SPACING, self.corner[0] + _PIXELS * _SPACING, top]
            tags = {
                "ABSOLUTE_ORBIT_NUMBER": one.orbit,
                "BOUNDING_BOX": box_edges,
                "BOUNDING_BOX_EPSG_CODE": self.lake.epsg,
                "BURST_ID": f"t{one.view.track:03d}_{burst:06d}_{one.view.swath.lower()}",
                "CUBEKIT_LOOKS": self.looks,
                "LOOK_DIRECTION": "right",
                "ORBIT_PASS_DIRECTION": one.view.direction,
                "PLATFORM": f"Sentinel-1{one.platform[-1].upper()}",
                "PROCESSING_DATETIME": f"{one.processed:{_STAMP}}",
                "PROCESSING_INFORMATION_FILTERING_APPLIED": False,
                "PRODUCT_VERSION": "1.0",
                "SOFTWARE_VERSION": f"{folder.SIMULATOR} {_version()}",
                "SUB_SWATH_ID": one.view.swath,
                "TRACK_NUMBER": one.view.track,
                "ZERO_DOPPLER_START_TIME": f"{start:{_STAMP}}",
                "ZERO_DOPPLER_END_TIME": f"{start + timedelta(seconds=3.1):{_STAMP}}",
            }
            transform = from_origin(self.corner[0], top, _SPACING, _SPACING)
            profile = {"driver": "GTiff", "count": 1, "crs": f"EPSG:{self.lake.epsg}", "transform": transform}
            profile |= {"width": _PIXELS, "height": outside.shape[0], "compress": "deflate", "zlevel": 1}
            profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512}
            for file, layer in zip(files, layers, strict=True):
                kind = (
                    {"nodata": 255, "predictor": 2} if layer.dtype == np.uint8 else {"nodata": np.nan, "predictor": 3}
                )
                with rasterio.open(_temporary(file), "w", dtype=layer.dtype, **profile, **kind) as dataset:
                    dataset.write(layer, 1)
                    dataset.update_tags(**tags, LAYER_NAME=file.stem.rsplit("_", 1)[1])
            for file in reversed(files):  # a granule shows when its VV does, the last
                _temporary(file).replace(file)

    def write_truth(self, home: Path, passes: Sequence[_Pass]) -> None:
        """Write the truth of these passes, and keep that of all others."""
        import pandas as pd

        file = home / TRUTH
        rows = []
        for one in passes:
            water = _lake_polygon(self.lake, one.starts[0], self.growth).intersection(self.aoi).area / 1e6
            row = (self.lake.id, f"{one.starts[0]:%Y-%m-%dT%H:%M:%SZ}", one.view.track, one.platform, one.orbit, water)
            rows.append((*row, json.dumps(sorted(one.granules))))
        table = pd.DataFrame(
            rows, columns=["lake", "time", "track", "platform", "absolute_orbit", "water_km2", "granules"]
        )
        if file.exists():
            table = pd.concat([pd.read_csv(file, float_precision="round_trip"), table])
        table = table.drop_duplicates(["platform", "absolute_orbit"]).sort_values(["time", "platform"])
        table.to_csv(_temporary(file), index=False)
        _temporary(file).replace(file)


def _chosen(lake: Lake, tracks: Sequence[int] | None) -> list[_View]:
    """The views of these tracks, or of the nearest ascending and the nearest descending one."""
    seen = {view.track: view for view in _views(lake)}
    if tracks is not None:
        if not tracks or set(tracks) - set(seen):
            msg = f"tracks {list(tracks)}: {lake.id} is seen by {sorted(seen)} only; give some of these"
            raise ConfigError(msg)
        return [seen[track] for track in dict.fromkeys(tracks)]
    nearest = sorted(seen.values(), key=lambda view: -view.ground_range)
    return list({view.direction: view for view in nearest}.values())


def _along_axis(lake: Lake) -> tuple[float, BaseGeometry]:
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
) -> tuple[Floats, NDArray[np.uint8]]:
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


def _temporary(file: Path) -> Path:
    return file.with_name(f".{file.name}.{os.getpid()}.tmp")


@cache
def _version() -> str:
    try:
        return metadata.version("cubekit")
    except metadata.PackageNotFoundError:
        return "0"
