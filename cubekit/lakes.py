"""Lakes: where a lake is, the fixed grid it is measured on, and the part of it that is looked at."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cache, cached_property
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pyproj
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from shapely.geometry import MultiPolygon, Polygon, box, shape
from shapely.geometry.base import BaseGeometry
from shapely.validation import explain_validity

from cubekit.errors import LakeError

LATTICE_PIXELS = 256
"""Rows and columns of every lattice: the size the paper's network was trained on."""

SPACINGS = (20, 30)
"""Spacings a lattice can have, metres: HyP3 as the paper ordered it, and OPERA RTC-S1."""

ZONE_METRES = 200.0
"""How far the lake zone reaches beyond the outline, metres (design.md, "Words")."""

AOI_MARGIN_METRES = 400.0
"""Margin of the AOI around the outline when a user's file gives none, metres."""

Polygonal = Polygon | MultiPolygon

_ID = re.compile(r"[a-z][a-z0-9_]*")
# No land lies north of 83.7 degrees; UTM ends at 84 north and 80 south.
_LATITUDES = (-80.0, 83.7)
# High Mountain Asia, west, south, east, north: used only to notice swapped coordinates.
_HIGH_MOUNTAIN_ASIA = box(65.0, 25.0, 105.0, 46.0)


@dataclass(frozen=True)
class Lake:
    """One lake: its outline, its area of interest (AOI) and its lattice.

    Parameters
    ----------
    id
        Snake case, e.g. ``tsho_rolpa``. Names files and cubes.
    title
        Name for people.
    outline
        The lake's shore, WGS84 longitude and latitude in degrees. Areas count water connected to it.
    aoi
        The area of interest, WGS84. Holds the outline.
    epsg
        Code of the lattice's coordinate reference system, a projected one in metres. One lake, one EPSG.
    spacing
        Pixel spacing of the lattice, metres: 20 or 30.
    corner
        Upper left corner of the lattice in `epsg`, metres, multiples of `spacing`. By default the lattice is
        centred on the AOI.
    altitude
        Metres above sea level, or None when unknown.
    paper_coordinates
        Latitude and longitude as printed in the paper's Table 1 (whole arc-minutes; three of the four points
        lie outside these outlines, so nothing is computed from them).
    corners
        Upper left corners by spacing, for `at_spacing`.

    Raises
    ------
    LakeError
        When a geometry is not a valid polygon in WGS84, the outline is not inside the AOI, or the AOI does not fit
        on the lattice.

    Examples
    --------
    >>> lake = catalogue()["tsho_rolpa"]
    >>> lake.lattice.shape, lake.epsg, lake.spacing
    (Shape2d(x=256, y=256), 32645, 20)
    """

    id: str
    title: str
    outline: Polygonal
    aoi: Polygonal
    epsg: int
    spacing: int = 20
    corner: tuple[float, float] | None = None
    altitude: float | None = None
    paper_coordinates: tuple[float, float] | None = None
    corners: Mapping[int, tuple[float, float]] = field(default_factory=dict, compare=False, repr=False)

    def __post_init__(self) -> None:
        if not _ID.fullmatch(self.id):
            msg = f"lake id {self.id!r} is not snake case: use lower-case letters, digits and _, e.g. 'tsho_rolpa'"
            raise LakeError(msg)
        for role, geometry in (("outline", self.outline), ("AOI", self.aoi)):
            _check_geometry(geometry, f"{role} of lake {self.id!r}")
        if self.spacing not in SPACINGS:
            msg = f"lake {self.id!r}: spacing {self.spacing} m is not one of {SPACINGS}"
            raise LakeError(msg)
        _check_crs(self.epsg, self.id)
        if self.corner is None:
            object.__setattr__(self, "corner", self.corners.get(self.spacing) or self._centred_corner())
        if any(value % self.spacing for value in self.corner or ()):
            msg = f"lake {self.id!r}: lattice corner {self.corner} is not a multiple of {self.spacing} m"
            raise LakeError(msg)
        if not self.aoi.covers(self.outline):
            msg = f"lake {self.id!r}: its outline reaches beyond its AOI; enlarge the AOI"
            raise LakeError(msg)
        west, south, east, north = self._aoi_bounds
        left, bottom, right, top = self.lattice.boundingbox.bbox
        if west < left or south < bottom or east > right or north > top:
            reach = LATTICE_PIXELS * self.spacing
            msg = (
                f"lake {self.id!r}: its AOI of {east - west:.0f} x {north - south:.0f} m does not fit on its lattice "
                f"of {reach} x {reach} m; make the AOI smaller, move the lattice"
                + (" or use a spacing of 30 m" if self.spacing < 30 else "")
            )
            raise LakeError(msg)

    @cached_property
    def lattice(self) -> GeoBox:
        """The fixed 256 x 256 grid of this lake, an `odc.geo.geobox.GeoBox`."""
        assert self.corner is not None  # set in __post_init__
        left, top = self.corner
        reach = LATTICE_PIXELS * self.spacing
        return GeoBox.from_bbox(
            (left, top - reach, left + reach, top), crs=f"EPSG:{self.epsg}", resolution=self.spacing, tight=True
        )

    @property
    def wkt(self) -> str:
        """The AOI as WKT in WGS84, as archives ask for it."""
        return str(self.aoi.wkt)

    @property
    def centre(self) -> tuple[float, float]:
        """A point of the lake, latitude and longitude in degrees."""
        point = self.outline.representative_point()
        return point.y, point.x

    @cached_property
    def aoi_window(self) -> tuple[slice, slice]:
        """Rows and columns of the lattice that hold the AOI: what is filtered, equalised and seen by a network."""
        west, south, east, north = self._aoi_bounds
        assert self.corner is not None
        left, top = self.corner
        rows = slice(int((top - north) // self.spacing), int(-((south - top) // self.spacing)))
        return rows, slice(int((west - left) // self.spacing), int(-((left - east) // self.spacing)))

    @cached_property
    def pixel_km2(self) -> float:
        """Area of a pixel on the ground at the lake, km2: UTM maps it smaller or larger, by up to 0.1 % here."""
        scale = pyproj.Proj(self.epsg).get_factors(self.outline.centroid.x, self.outline.centroid.y).areal_scale
        return float(self.spacing**2 / 1e6 / scale)

    @cached_property
    def outline_mask(self) -> xr.DataArray:
        """True where a pixel's centre lies inside the outline: bool, dims y and x, on the lattice."""
        return self.rasterize(self.project(self.outline))

    @cached_property
    def zone_mask(self) -> xr.DataArray:
        """True in the lake zone (the outline and 200 m around it, within the AOI): bool, y and x, on the lattice."""
        zone = self.project(self.outline).buffer(ZONE_METRES).intersection(self.project(self.aoi))
        return self.rasterize(zone)

    def rasterize(self, geometry: BaseGeometry) -> xr.DataArray:
        """Pixels of the lattice whose centre lies inside a geometry.

        Parameters
        ----------
        geometry
            In the lattice's coordinate reference system.

        Returns
        -------
        xarray.DataArray
            bool, dims (y, x), with the lattice's coordinates.
        """
        from rasterio.features import geometry_mask

        inside = geometry_mask([geometry], self.lattice.shape, self.lattice.transform, invert=True)
        y, x = (self.lattice.coordinates[name].values for name in ("y", "x"))
        return xr.DataArray(inside, dims=("y", "x"), coords={"y": y, "x": x}, name=self.id)

    def project(self, geometry: BaseGeometry) -> BaseGeometry:
        """Bring a geometry from WGS84 into the lattice's coordinate reference system."""
        return _transform(geometry, _transformer(self.epsg).transform)

    def at_spacing(self, spacing: int) -> Lake:
        """The same lake on its lattice of another spacing, 20 or 30 m."""
        if spacing == self.spacing:
            return self
        here = {} if self.corner is None else {self.spacing: self.corner}
        return replace(self, spacing=spacing, corner=None, corners={**self.corners, **here})

    @cached_property
    def _aoi_bounds(self) -> tuple[float, float, float, float]:
        # A straight edge in degrees is curved on the lattice: points every 0.001 degrees (about 100 m) follow it.
        west, south, east, north = self.project(shapely.segmentize(self.aoi, 0.001)).bounds
        return west, south, east, north

    def _centred_corner(self) -> tuple[float, float]:
        west, south, east, north = self._aoi_bounds
        reach = LATTICE_PIXELS * self.spacing
        left = round(((west + east) / 2 - reach / 2) / self.spacing) * self.spacing
        top = round(((south + north) / 2 + reach / 2) / self.spacing) * self.spacing
        return float(left), float(top)

    def __hash__(self) -> int:
        return hash((self.id, self.epsg, self.spacing, self.corner))


@cache
def catalogue() -> Mapping[str, Lake]:
    """The lakes that come with cubekit: Tsho Rolpa, Chamlang Tsho, Tilicho and Gokyo, as in the paper.

    Returns
    -------
    Mapping
        Lake id to Lake, on 20 m lattices; `Lake.at_spacing(30)` gives the one for OPERA. Outlines are ICIMOD's of
        2020 (CC0), Gokyo's was drawn from Sentinel-1 (the inventory lacks it).

    Examples
    --------
    >>> sorted(catalogue())
    ['chamlang_tsho', 'gokyo', 'tilicho', 'tsho_rolpa']
    """
    return load(Path(str(resources.files("cubekit") / "data" / "lakes.geojson")))


def load(path: str | Path) -> Mapping[str, Lake]:
    """Read lakes from a GeoJSON file.

    Each feature is a Polygon or MultiPolygon with the properties ``id`` and, optionally, ``title``, ``altitude``,
    ``epsg``, ``spacing``. A feature is a lake's outline unless its property ``role`` is ``aoi``: then it is the AOI of
    the lake of that id, which is otherwise a box 400 m around the outline. Coordinates are longitude and latitude in
    WGS84, unless the file declares another ``crs``.

    Parameters
    ----------
    path
        The GeoJSON file.

    Returns
    -------
    Mapping
        Lake id to Lake.

    Raises
    ------
    LakeError
        When the file can't be read as GeoJSON, or a lake in it is not usable: another geometry than polygons, a
        self-crossing ring, swapped coordinates, an AOI that does not fit.
    """
    try:
        document = json.loads(Path(path).read_text(encoding="utf-8"))
        features = document["features"] if document["type"] == "FeatureCollection" else [document]
        to_wgs84 = _declared_crs(document)
        parsed = [(_properties(feature), shape(feature["geometry"])) for feature in features]
    except LakeError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, shapely.errors.ShapelyError) as error:
        msg = f"{path} can't be read as GeoJSON ({type(error).__name__}: {error}); give a FeatureCollection of polygons"
        raise LakeError(msg) from error
    outlines: dict[str, tuple[dict[str, Any], BaseGeometry]] = {}
    aois: dict[str, BaseGeometry] = {}
    for properties, geometry in parsed:
        name = str(properties["id"])
        known = aois if properties.get("role") == "aoi" else outlines
        if name in known:
            msg = f"{path}: lake {name!r} is given twice; every id must be unique"
            raise LakeError(msg)
        _check_geometry(geometry, f"lake {name!r}", degrees=False)
        placed = _transform(geometry, to_wgs84)
        if properties.get("role") == "aoi":
            aois[name] = placed
        else:
            outlines[name] = (properties, placed)
    if alone := sorted(set(aois) - set(outlines)):
        msg = f"{path}: {', '.join(alone)}: an AOI without an outline; add the lake's shore, a rough one will do"
        raise LakeError(msg)
    if not outlines:
        msg = f"{path} holds no lake; give at least one polygon feature"
        raise LakeError(msg)
    lakes = {name: _lake(name, *outlines[name], aois.get(name)) for name in outlines}
    return MappingProxyType(lakes)


def _lake(name: str, properties: dict[str, Any], outline: BaseGeometry, aoi: BaseGeometry | None) -> Lake:
    _check_geometry(outline, f"outline of lake {name!r}")
    if not properties.get("axis_order_checked", False):
        _check_axis_order(outline, f"outline of lake {name!r}")
    epsg, spacing = properties.get("epsg") or _utm(outline), properties.get("spacing", 20)
    if not isinstance(epsg, int) or not isinstance(spacing, int):
        msg = f"lake {name!r}: epsg {epsg!r} and spacing {spacing!r} must be whole numbers, e.g. 32645 and 20"
        raise LakeError(msg)
    _check_crs(epsg, name)
    if aoi is None:
        to_lattice, back = _transformer(epsg), _transformer(epsg, inverse=True)
        around = box(*_transform(outline, to_lattice.transform).buffer(AOI_MARGIN_METRES).bounds)
        aoi = _transform(shapely.segmentize(around, 100.0), back.transform)
    corners = {int(spacing): (float(x), float(y)) for spacing, (x, y) in properties.get("corners", {}).items()}
    printed = properties.get("paper_coordinates")
    return Lake(
        id=name,
        title=str(properties.get("title", name)),
        outline=outline,  # type: ignore[arg-type]  # checked above
        aoi=aoi,  # type: ignore[arg-type]  # checked in Lake
        epsg=epsg,
        spacing=spacing,
        altitude=properties.get("altitude"),
        paper_coordinates=None if printed is None else (float(printed[0]), float(printed[1])),
        corners=corners,
    )


def _properties(feature: dict[str, Any]) -> dict[str, Any]:
    properties: dict[str, Any] = feature.get("properties") or {}
    if "id" not in properties:
        properties = {**properties, "id": feature.get("id")}
    if properties["id"] is None:
        msg = 'a feature has no \'id\' among its properties; name each lake, e.g. "id": "my_lake"'
        raise LakeError(msg)
    return properties


def _check_geometry(geometry: BaseGeometry, what: str, *, degrees: bool = True) -> None:
    if not isinstance(geometry, Polygon | MultiPolygon) or geometry.is_empty:
        kind = f"an empty {geometry.geom_type}" if geometry.is_empty else f"a {geometry.geom_type}"
        msg = f"{what} is {kind}; give a Polygon or MultiPolygon"
        raise LakeError(msg)
    if not geometry.is_valid:
        msg = f"{what} is not a valid polygon: {explain_validity(geometry)}; draw its ring without crossing itself"
        raise LakeError(msg)
    west, south, east, north = geometry.bounds
    if degrees and (west < -180 or east > 180 or south < _LATITUDES[0] or north > _LATITUDES[1]):
        given = f"longitudes {west:.4f} to {east:.4f}, latitudes {south:.4f} to {north:.4f}"
        msg = f"{what}: no lake has {given}; are they swapped, or in another CRS that the file doesn't declare?"
        raise LakeError(msg)


def _check_axis_order(geometry: BaseGeometry, what: str) -> None:
    west, south, east, north = geometry.bounds
    lake, mirrored = box(west, south, east, north), box(south, west, north, east)
    if _HIGH_MOUNTAIN_ASIA.covers(mirrored) and not _HIGH_MOUNTAIN_ASIA.intersects(lake):
        msg = (
            f"{what}: longitudes {west:.4f} to {east:.4f}, latitudes {south:.4f} to {north:.4f} look swapped, since "
            "the other way round they lie in High Mountain Asia; GeoJSON is longitude first. If they are right, set "
            'the property "axis_order_checked": true'
        )
        raise LakeError(msg)


def _check_crs(epsg: int, name: str) -> None:
    try:
        crs = pyproj.CRS.from_epsg(epsg)
    except pyproj.exceptions.CRSError:
        crs = None
    if crs is None or not crs.is_projected or crs.axis_info[0].unit_name != "metre":
        msg = f"lake {name!r}: EPSG:{epsg} is not a projected system in metres; give its UTM zone"
        raise LakeError(msg)


def _declared_crs(document: dict[str, Any]) -> Any:
    """A function from the file's coordinates to WGS84."""
    declared = (document.get("crs") or {}).get("properties", {}).get("name", "OGC:CRS84")
    try:
        crs = pyproj.CRS.from_user_input(declared)
    except pyproj.exceptions.CRSError as error:
        msg = f"the file declares the CRS {declared!r}, which isn't known; use e.g. 'urn:ogc:def:crs:EPSG::32645'"
        raise LakeError(msg) from error
    if crs.equals(pyproj.CRS("EPSG:4326"), ignore_axis_order=True) or crs.equals(pyproj.CRS("OGC:CRS84")):
        return lambda x, y: (x, y)
    return pyproj.Transformer.from_crs(crs, "OGC:CRS84", always_xy=True).transform


def _transform(geometry: BaseGeometry, function: Any) -> BaseGeometry:
    return shapely.transform(shapely.force_2d(geometry), function, interleaved=False)


@cache
def _transformer(epsg: int, *, inverse: bool = False) -> pyproj.Transformer:
    pair = (f"EPSG:{epsg}", "OGC:CRS84") if inverse else ("OGC:CRS84", f"EPSG:{epsg}")
    return pyproj.Transformer.from_crs(*pair, always_xy=True)


def _utm(geometry: BaseGeometry) -> int:
    point = geometry.centroid
    zone = int(np.clip((point.x + 180) // 6 + 1, 1, 60))
    return (32600 if point.y >= 0 else 32700) + zone
