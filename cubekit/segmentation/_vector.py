"""Vector files as layers of features: GeoJSON by itself, all else through pyogrio."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pyproj
import shapely
from shapely.geometry import shape
from shapely.geometry.base import BaseGeometry

from cubekit.errors import MissingExtra, SourceError

_GEOJSON = (".geojson", ".json")


class Row(NamedTuple):
    """One feature."""

    name: str
    geometry: BaseGeometry | None
    columns: dict[str, Any]


class Layer(NamedTuple):
    """One layer with geometry."""

    name: str
    crs: pyproj.CRS
    features: list[Row]


def layers(path: Path) -> Iterator[Layer]:
    """Layers of a vector file that have geometry.

    Raises
    ------
    SourceError
        When the file can't be read, or a layer declares no CRS.
    MissingExtra
        When the file is no GeoJSON and pyogrio is absent.
    """
    return _geojson(path) if path.suffix.lower() in _GEOJSON else _others(path)


def _geojson(path: Path) -> Iterator[Layer]:
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        declared = (document.get("crs") or {}).get("properties", {}).get("name", "OGC:CRS84")
        features = [
            Row(
                str(feature.get("id", number)),
                shape(feature["geometry"]) if feature.get("geometry") else None,
                feature.get("properties") or {},
            )
            for number, feature in enumerate(document["features"], start=1)
        ]
    except (OSError, ValueError, KeyError, TypeError, AttributeError, shapely.errors.ShapelyError) as error:
        msg = f"{path} can't be read as GeoJSON ({type(error).__name__}: {error}); give a FeatureCollection of polygons"
        raise SourceError(msg) from error
    yield Layer(path.stem, _crs(declared, path, path.stem), features)


def _others(path: Path) -> Iterator[Layer]:
    pyogrio = ogr()
    try:
        names = [str(name) for name, kind in pyogrio.list_layers(path) if kind is not None]
        tables = [
            (name, pyogrio.raw.read(path, layer=name, return_fids=True, datetime_as_string=True)) for name in names
        ]
    except (pyogrio.errors.DataSourceError, pyogrio.errors.DataLayerError, OSError) as error:
        msg = f"{path} can't be read ({error}); give a GeoPackage, a GeoJSON or a Shapefile"
        raise SourceError(msg) from error
    for name, (meta, fids, geometries, columns) in tables:
        rows = [dict(zip(meta["fields"], values, strict=True)) for values in zip(*columns, strict=True)]
        shapes = [None if wkb is None else shapely.from_wkb(wkb) for wkb in geometries]
        features = [
            Row(str(fid), geometry, row)
            for fid, geometry, row in zip(fids, shapes, rows or [{}] * len(shapes), strict=True)
        ]
        yield Layer(name, _crs(meta["crs"], path, name), features)


def ogr() -> Any:
    """The module pyogrio, with its `raw` part.

    Raises
    ------
    MissingExtra
        When it is absent.
    """
    try:
        import pyogrio
        import pyogrio.raw
    except ImportError as error:
        msg = 'GeoPackages and Shapefiles need pyogrio: pip install "cubekit[vector]"; GeoJSON is read without'
        raise MissingExtra(msg) from error
    return pyogrio


def _crs(declared: Any, path: Path, layer: str) -> pyproj.CRS:
    try:
        return pyproj.CRS.from_user_input(declared)
    except pyproj.exceptions.CRSError as error:
        given = "no CRS" if declared is None else f"the CRS {declared!r}, which isn't known"
        msg = f"{path.name}, layer {layer!r}, declares {given}; set it in QGIS (layer properties, Source)"
        raise SourceError(msg) from error
