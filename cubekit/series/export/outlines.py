"""Shores as GeoJSON and GeoPackage."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyproj
import shapely
import xarray as xr
from numpy.typing import NDArray

from cubekit.files import replacing
from cubekit.lakes import Lake
from cubekit.series._water import polygons
from cubekit.series.export.passes import WATER, each_pass
from cubekit.series.export.rows import COLUMNS, NUMBERS, PROVENANCE, library, properties

if TYPE_CHECKING:
    from affine import Affine

DECIMALS = 7
"""Of longitude and latitude in GeoJSON, degrees: 1 cm."""

_PROPERTIES = ("lake", "time", "track", "platform", "area_km2", "state", "granules", *PROVENANCE)


def outlines(
    probability: xr.DataArray, lake: Lake, *, area: xr.Dataset | None = None, threshold: float = 0.5
) -> dict[str, Any]:
    """Shores of a lake at every pass, as GeoJSON.

    Parameters
    ----------
    probability, lake, threshold
        As for `lake_area`. The attributes ``model_hash``, ``snapshot`` and ``config_hash`` go into every feature.
    area
        Areas of the same passes, in the same order, when they are measured already: they are then taken as they are.

    Returns
    -------
    dict
        A FeatureCollection in WGS84 (RFC 7946: longitude first, outer rings counter-clockwise, 7 decimals). One
        feature a pass, in order: a MultiPolygon along the pixels that `lake_area` counts, islands as holes, and the
        properties lake, time, track, platform, area_km2, state, granules (a list), snapshot, model_hash, config_hash.
        The geometry is null when the pass has no water or nothing was observed; then area_km2 is 0 or null. What was
        seen of a lake mostly hidden has a geometry, but no area.

    Raises
    ------
    ConfigError, GridMismatch, LakeError
        As `lake_area`; ConfigError also when ``track`` or ``platform`` is absent, or `area` has other passes.

    Notes
    -----
    Computes, chunk by chunk along time, so no more than a chunk of probabilities is in memory at once.
    """
    return {"type": "FeatureCollection", "features": list(_features(probability, lake, area, threshold))}


def write_outlines(
    probability: xr.DataArray, lake: Lake, path: str | Path, *, area: xr.Dataset | None = None, threshold: float = 0.5
) -> Path:
    """Write `outlines` to a GeoJSON file, one feature a line.

    Parameters
    ----------
    probability, lake, area, threshold
        As for `outlines`.
    path
        Written under another name and then renamed. Features are written as they are made, none is kept in memory.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ConfigError, GridMismatch, LakeError
        As `outlines`; the file is then as it was before.
    """
    target = Path(path)
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for index, feature in enumerate(_features(probability, lake, area, threshold)):
            file.write((",\n" if index else "\n") + json.dumps(feature, allow_nan=False))
        file.write("\n]}\n")
    return target


def write_geopackage(
    probability: xr.DataArray, lake: Lake, path: str | Path, *, area: xr.Dataset | None = None, threshold: float = 0.5
) -> Path:
    """Write the shores of a lake at every pass as a GeoPackage, in the metres of its lattice.

    Parameters
    ----------
    probability, lake, area, threshold
        As for `outlines`.
    path
        Ends in ``.gpkg``; written under another name and then renamed.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ConfigError, GridMismatch, LakeError
        As `outlines`; the file is then as it was before.
    MissingExtra
        When pyogrio is absent.

    Notes
    -----
    One layer, of the lake's id: MultiPolygons along the pixels, exact: their area is ``area_km2`` but for the scale
    of the map (`Lake.pixel_km2`). With the columns of `write_csv`, time as a date in UTC, what is missing as null.
    The same shores give the same bytes.
    """
    ogr = library("pyogrio", "vector", "GeoPackage")
    writer = library("pyogrio.raw", "vector", "GeoPackage")
    found, shapes = [], []
    for each in each_pass(probability, lake, area, threshold):
        found.append(each.row)
        water = each.mask == WATER
        shapes.append(shapely.to_wkb(polygons(water, each.transform)) if water.any() else None)
    fields = [_field(name, [row[place] for row in found]) for place, name in enumerate(COLUMNS)]
    newest = max((row[COLUMNS.index("time")] for row in found), default="1970-01-01T00:00:00Z")
    target = Path(path)
    with replacing(target) as temporary, _named_gpkg(temporary) as unfinished, _dated(ogr, newest):
        writer.write(
            unfinished,
            np.array(shapes, object),
            fields,
            np.array(COLUMNS, object),
            layer=lake.id,
            driver="GPKG",
            geometry_type="MultiPolygon",
            crs=f"EPSG:{lake.epsg}",
            gdal_tz_offsets={"time": np.full(len(found), 100, np.int8)},  # GDAL's code of UTC
            layer_options={"SPATIAL_INDEX": "YES"},
        )
    return target


@contextmanager
def _named_gpkg(path: Path) -> Iterator[Path]:
    """Give a name that GDAL takes for a GeoPackage; on success it becomes `path`."""
    unfinished = path.with_name(f"{path.name}.gpkg")
    try:
        yield unfinished
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


@contextmanager
def _dated(ogr: Any, date: str) -> Iterator[None]:
    """Let GDAL write this date as that of the last change: today's would make every file another one."""
    name = "OGR_CURRENT_DATE"
    before = ogr.get_gdal_config_option(name)
    ogr.set_gdal_config_options({name: f"{date[:19]}.000Z"})
    try:
        yield
    finally:
        ogr.set_gdal_config_options({name: before})


def _field(name: str, cells: list[Any]) -> NDArray[Any]:
    if name in NUMBERS:
        return np.array([np.nan if cell is None else cell for cell in cells], np.float64)
    if name == "time":
        return np.array([cell.removesuffix("Z") for cell in cells], "datetime64[ms]")
    if name == "track" and all(isinstance(cell, int) for cell in cells):
        return np.array(cells, np.int32)
    return np.array([cell if cell is None else str(cell) for cell in cells], object)


def _features(
    probability: xr.DataArray, lake: Lake, area: xr.Dataset | None, threshold: float
) -> Iterator[dict[str, Any]]:
    to_degrees = pyproj.Transformer.from_crs(f"EPSG:{lake.epsg}", "OGC:CRS84", always_xy=True)
    for each in each_pass(probability, lake, area, threshold):
        cells = properties(each.row)
        yield {
            "type": "Feature",
            "geometry": _geometry(each.mask == WATER, each.transform, to_degrees),
            "properties": {name: cells[name] for name in _PROPERTIES},
        }


def _geometry(water: NDArray[np.bool_], transform: Affine, to_degrees: pyproj.Transformer) -> dict[str, Any] | None:
    if not water.any():
        return None

    def degrees(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return tuple(np.round(values, DECIMALS) for values in to_degrees.transform(x, y))

    # Its stub knows no function of two arrays.
    projected = shapely.transform(polygons(water, transform), degrees, interleaved=False)  # type: ignore[arg-type]
    geometry: dict[str, Any] = json.loads(shapely.to_geojson(shapely.orient_polygons(projected)))
    return geometry
