"""Labels: polygons drawn in QGIS, read from a vector file and turned into masks on a lattice or a chip."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from shapely.geometry import MultiPolygon, Polygon
from shapely.geometry.base import BaseGeometry
from shapely.validation import explain_validity

from cubekit.errors import ConfigError, LakeError, SourceError
from cubekit.lakes import Lake
from cubekit.segmentation._vector import layers

_DATE = re.compile(
    r"(?<!\d)(\d{4})[-/_]?([01]\d)[-/_]?([0-3]\d)(?:[T _]?(\d{2}):?(\d{2}):?(\d{2})(?:\.\d+)?(?:Z|\+00:?00)?)?(?!\d)"
)


@dataclass(frozen=True, eq=False)
class Label:
    """The water of one lake at one time, as drawn.

    Attributes
    ----------
    lake
        Its name.
    time
        UTC, datetime64[s]; midnight when only a date was given.
    whole_day
        True when only a date was given.
    geometry
        Polygon or MultiPolygon in `crs`, valid; islands are holes.
    crs
        As the file declares it.
    file, layer
        Where it was drawn.
    features
        Its features in that layer.
    who
        From the column ``who``, else empty.
    """

    lake: str
    time: np.datetime64
    whole_day: bool
    geometry: BaseGeometry = field(repr=False)
    crs: pyproj.CRS = field(repr=False)
    file: Path
    layer: str
    features: tuple[str, ...]
    who: str = ""

    @property
    def sha256(self) -> str:
        """Hash of lake, time, CRS and polygons: another polygon in the file, or QGIS opening it, doesn't change it."""
        text = f"{self.lake}|{self.time}|{self.whole_day}|{self.crs.to_wkt()}|".encode()
        return hashlib.sha256(text + shapely.to_wkb(shapely.normalize(self.geometry), byte_order=1)).hexdigest()


def read_labels(
    path: str | Path, *, lake: str | None = None, lake_column: str = "lake", date_column: str = "date"
) -> list[Label]:
    """Read polygons of water from a GeoPackage, GeoJSON or Shapefile.

    Parameters
    ----------
    path
        The file. A date is in the column `date_column` ("2021-01-22", "2021-01-22T00:11:30" UTC, or a date field), or
        else in the name of the layer ("tsho_rolpa 2021-01-22"): one layer a date. For a GeoJSON or a Shapefile the
        layer's name is the file's.
    lake
        Lake of the features that name none in `lake_column`.
    lake_column, date_column
        Names of the columns.

    Returns
    -------
    list of Label
        By lake and time. Features of the same lake and time are joined, e.g. two basins. Layers without geometry
        (QGIS keeps its styles in one) are passed over, so an empty template gives an empty list.

    Raises
    ------
    SourceError
        When the file can't be read, declares no CRS, or a feature has no date, or no lake.
    LakeError
        When a feature is not a valid polygon; the message names it.
    MissingExtra
        When the file is no GeoJSON and pyogrio is absent.

    Notes
    -----
    GeoJSON is longitude and latitude in WGS84 (RFC 7946), unless it declares another ``crs`` as QGIS does.
    """
    path = Path(path)
    drawn: dict[tuple[str, np.datetime64, bool, str], list[tuple[str, BaseGeometry, str, pyproj.CRS]]]
    drawn = defaultdict(list)
    for layer in layers(path):
        for row in layer.features:
            what = f"{path.name}, layer {layer.name!r}, feature {row.name}"
            geometry = _checked(row.geometry, what)
            given = row.columns.get(date_column)
            time, whole_day = _time(layer.name if _absent(given) else str(given), what, date_column)
            named = row.columns.get(lake_column)
            name = lake if _absent(named) else str(named)
            if name is None:
                msg = f"{what} names no lake in column {lake_column!r}; fill it in, or give lake="
                raise SourceError(msg)
            who = row.columns.get("who")
            one = (row.name, shapely.force_2d(geometry), "" if _absent(who) else str(who), layer.crs)
            drawn[name, time, whole_day, layer.name].append(one)
    labels = [
        Label(
            lake=name,
            time=time,
            whole_day=whole_day,
            geometry=shapely.union_all([geometry for _, geometry, *_ in parts]),
            crs=parts[0][3],
            file=path,
            layer=layer_name,
            features=tuple(feature for feature, *_ in parts),
            who=", ".join(sorted({who for _, _, who, _ in parts if who})),
        )
        for (name, time, whole_day, layer_name), parts in drawn.items()
    ]
    labels.sort(key=lambda label: (label.lake, label.time, label.layer))
    for first, second in pairwise(labels):
        if (first.lake, first.time, first.whole_day) == (second.lake, second.time, second.whole_day):
            where = f"layers {first.layer!r} and {second.layer!r}"
            msg = f"{path.name}: {first.lake} at {first.time} is drawn in {where}; keep one"
            raise SourceError(msg)
    return labels


def rasterize_label(label: Label, grid: Lake | GeoBox, *, subpixels: int = 1) -> xr.DataArray:
    """The mask of a label.

    Parameters
    ----------
    label
        From `read_labels`.
    grid
        A lake (its lattice is used), or a grid such as `chip_grid` gives. The label is brought to its CRS.
    subpixels
        1: a pixel is water when its centre is. More: so many sub-pixels a side are counted.

    Returns
    -------
    xarray.DataArray
        Dims (y, x). bool, or float32 fractions of water 0..1 with `subpixels` above 1.

    Raises
    ------
    ConfigError
        When `subpixels` is not 1 to 64, or the grid has no CRS.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> lake = catalogue()["gokyo"]
    >>> day = np.datetime64("2021-01-22", "s")
    >>> label = Label("gokyo", day, True, lake.outline, pyproj.CRS("OGC:CRS84"), Path("gokyo.gpkg"), "labels", ("1",))
    >>> bool((rasterize_label(label, lake) == lake.outline_mask).all())
    True
    """
    from rasterio.features import geometry_mask

    geobox = grid.lattice if isinstance(grid, Lake) else grid
    if not 1 <= subpixels <= 64:
        msg = f"subpixels is {subpixels}; give 1 for masks, or e.g. 8 for fractions"
        raise ConfigError(msg)
    if geobox.crs is None:
        msg = (
            f"the grid has no CRS, and the label {label.lake} {label.time} lies in {label.crs.name}; give one that has"
        )
        raise ConfigError(msg)
    placed = _to_crs(label.geometry, label.crs, pyproj.CRS.from_user_input(str(geobox.crs)))
    fine = geobox if subpixels == 1 else geobox.zoom_out(1 / subpixels)
    rows, columns = geobox.shape
    shape_ = (rows * subpixels, columns * subpixels)
    inside: Any = np.zeros(shape_, dtype=bool)
    if not placed.is_empty:
        inside = geometry_mask([placed], shape_, fine.transform, invert=True)
    if subpixels > 1:
        parts = inside.reshape(rows, subpixels, columns, subpixels)
        inside = parts.mean(axis=(1, 3), dtype=np.float32)
    y, x = (geobox.coordinates[name].values for name in geobox.dimensions)
    attrs = {"lake": label.lake, "label": f"{label.file.name}|{label.layer}", "crs": str(geobox.crs)}
    return xr.DataArray(inside, dims=("y", "x"), coords={"y": y, "x": x}, name="water", attrs=attrs)


def chip_grid(path: str | Path) -> GeoBox:
    """The grid of a chip or any other GeoTIFF.

    Raises
    ------
    SourceError
        When the file can't be read, or has no georeference.
    """
    import rasterio

    try:
        with rasterio.open(path) as file:
            crs, transform, shape_ = file.crs, file.transform, file.shape
    except rasterio.errors.RasterioError as error:
        msg = f"{path} can't be read as a raster ({error}); give a chip as write_chips makes it"
        raise SourceError(msg) from error
    if crs is None or transform.is_identity:
        msg = f"{path} has no georeference, so polygons can't be placed on it; write it with its CRS and transform"
        raise SourceError(msg)
    return GeoBox(shape_, transform, crs.to_wkt() if crs.to_epsg() is None else f"EPSG:{crs.to_epsg()}")


def _absent(value: Any) -> bool:
    return value is None or value != value or not str(value).strip() or str(value) == "NaT"  # noqa: PLR0124


def _time(text: str, what: str, column: str) -> tuple[np.datetime64, bool]:
    if match := _DATE.search(text):
        year, month, day, *clock = match.groups()
        hour, minute, second = (part or "00" for part in clock)
        try:
            time = np.datetime64(f"{year}-{month}-{day}T{hour}:{minute}:{second}", "s")
        except ValueError:
            pass
        else:
            return time, clock[0] is None
    allowed = "2021-01-22 or 2021-01-22T00:11:30 (UTC)"
    msg = f"{what} has the date {text!r}; write {allowed} in column {column!r}, or name the layer so"
    raise SourceError(msg)


def _checked(geometry: BaseGeometry | None, what: str) -> BaseGeometry:
    if geometry is None or geometry.is_empty:
        msg = f"{what} has no geometry; draw its polygon, or delete the feature"
        raise LakeError(msg)
    if not isinstance(geometry, Polygon | MultiPolygon):
        msg = f"{what} is a {geometry.geom_type}; draw water as Polygon or MultiPolygon"
        raise LakeError(msg)
    if not geometry.is_valid:
        msg = f"{what} is not a valid polygon: {explain_validity(geometry)}; redraw its ring without crossing itself"
        raise LakeError(msg)
    return geometry


def _to_crs(geometry: BaseGeometry, there: pyproj.CRS, here: pyproj.CRS) -> BaseGeometry:
    if there == here:
        return geometry
    west, south, east, north = geometry.bounds
    # A long edge that is straight in one CRS is curved in the other.
    fine = shapely.segmentize(geometry, max(east - west, north - south) / 200)
    transformer = pyproj.Transformer.from_crs(there, here, always_xy=True)
    # Its stub knows no function of two arrays.
    placed: BaseGeometry = shapely.transform(fine, transformer.transform, interleaved=False)  # type: ignore[arg-type]
    return placed
