"""Water as cloud-optimised GeoTIFFs, with the static STAC catalogue that finds them."""

from __future__ import annotations

import json
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyproj
import shapely
import xarray as xr
from numpy.typing import NDArray

from cubekit.cube.schema import DIRECTIONS
from cubekit.errors import ConfigError
from cubekit.files import replacing
from cubekit.lakes import Lake
from cubekit.series.export.passes import DRY, NOT_KNOWN, WATER, Water, each_pass
from cubekit.series.export.rows import COLUMNS, properties

if TYPE_CHECKING:
    import pystac

CATALOGUE = "catalog.json"
COLLECTION = "collection.json"

_EXTENSIONS = [
    f"https://stac-extensions.github.io/{name}/schema.json"
    for name in ("projection/v2.0.0", "sat/v1.0.0", "classification/v2.0.0")
]
_CLASSES = [
    {"value": DRY, "name": "dry", "description": "in the lake zone, observed, no water of this lake"},
    {"value": WATER, "name": "water", "description": "water of this lake"},
    {"value": NOT_KNOWN, "name": "not_known", "description": "not observed, not told, or outside of the lake zone"},
]
_JSON, _GEOJSON = "application/json", "application/geo+json"


def write_masks(
    probability: xr.DataArray,
    lake: Lake,
    folder: str | Path,
    *,
    area: xr.Dataset | None = None,
    threshold: float = 0.5,
) -> Path:
    """Write a lake's water at every pass as cloud-optimised GeoTIFF, with a static STAC collection.

    Parameters
    ----------
    probability, lake, area, threshold
        As for `outlines`.
    folder
        Gets ``catalog.json`` and, for this lake, ``<lake>/collection.json`` with a ``.tif`` and a ``.json`` a pass
        beside it. Other lakes' collections there stay, and the catalogue links them too.

    Returns
    -------
    pathlib.Path
        The collection.

    Raises
    ------
    ConfigError, GridMismatch, LakeError
        As `outlines`; ConfigError also when two passes have the same time, track and platform. The collection is then
        as it was before.

    Notes
    -----
    Masks are uint8 on the lattice's pixels: 0 dry, 1 water of this lake, 255 (nodata) not known or outside of the lake
    zone, so that the pixels of 1 and of 0 are ``area_km2`` and ``dry_km2`` of `lake_area`. Items (STAC 1.1, extensions
    projection, sat, classification) carry the columns of `write_csv` as ``cubekit:…``; the files name them in their
    tags. One pass is in memory at a time, each file is whole or not there, and the same masks give the same bytes.
    Items come first, the collection last; passes that the former collection had and this one hasn't are then removed.
    """
    root = Path(folder)
    home = root / lake.id
    to_degrees = pyproj.Transformer.from_crs(f"EPSG:{lake.epsg}", "OGC:CRS84", always_xy=True)
    kept: dict[str, str] = {}
    footprint: shapely.Polygon | None = None
    for each in each_pass(probability, lake, area, threshold):
        cells = properties(each.row)
        name = _name(cells)
        if name in kept:
            msg = f"two passes of {lake.id!r} are called {name}; give every pass once"
            raise ConfigError(msg)
        kept[name] = str(cells["time"])
        footprint = footprint or _footprint(each, to_degrees)
        _write_cog(each, lake, cells, home / f"{name}.tif")
        _write_json(_item(each, lake, cells, name, footprint).to_dict(transform_hrefs=False), home / f"{name}.json")
    former = _linked(home / COLLECTION)
    _write_json(_collection(lake, kept, footprint), home / COLLECTION)
    for name in former - set(kept):
        for suffix in (".json", ".tif"):
            (home / f"{name}{suffix}").unlink(missing_ok=True)
    _write_json(_catalogue(root), root / CATALOGUE)
    return home / COLLECTION


def _name(cells: dict[str, Any]) -> str:
    track = f"T{cells['track']:03d}" if isinstance(cells["track"], int) else str(cells["track"])
    return f"{cells['lake']}_{pd.Timestamp(cells['time']):%Y%m%dT%H%M%S}_{track}_{cells['platform']}"


def _write_cog(each: Water, lake: Lake, cells: dict[str, Any], path: Path) -> None:
    import rasterio

    rows, columns = each.mask.shape
    with (
        replacing(path) as temporary,
        rasterio.open(
            temporary,
            "w",
            driver="COG",
            width=columns,
            height=rows,
            count=1,
            dtype="uint8",
            crs=f"EPSG:{lake.epsg}",
            transform=each.transform,
            nodata=NOT_KNOWN,
            compress="DEFLATE",
            blocksize=256,
            overview_resampling="NEAREST",
        ) as file,
    ):
        file.write(each.mask, 1)
        file.set_band_description(1, "water of the lake")
        file.update_tags(**{name: _tag(value) for name, value in cells.items() if value is not None})


def _tag(value: Any) -> str:
    return json.dumps(value) if isinstance(value, list) else str(value)


def _footprint(each: Water, to_degrees: pyproj.Transformer) -> shapely.Polygon:
    """The edge of a mask in degrees, followed every kilometre: straight there is curved here."""
    rows, columns = each.mask.shape
    corner = each.transform
    left, top = corner.c, corner.f
    edge = shapely.segmentize(shapely.box(left, top + rows * corner.e, left + columns * corner.a, top), 1000)

    def degrees(x: NDArray[Any], y: NDArray[Any]) -> tuple[NDArray[Any], ...]:
        return tuple(np.round(values, 7) for values in to_degrees.transform(x, y))

    projected = shapely.transform(edge, degrees, interleaved=False)  # type: ignore[arg-type]
    return shapely.orient_polygons(projected)


def _item(each: Water, lake: Lake, cells: dict[str, Any], name: str, footprint: shapely.Polygon) -> pystac.Item:
    import pystac

    rows, columns = each.mask.shape
    made = pystac.Item(
        id=name,
        geometry=json.loads(shapely.to_geojson(footprint)),
        bbox=list(footprint.bounds),
        datetime=pd.Timestamp(cells["time"]).to_pydatetime(warn=False),
        properties={
            "platform": cells["platform"],
            **_orbit(cells, each.coords),
            "proj:code": f"EPSG:{lake.epsg}",
            "proj:shape": [rows, columns],
            "proj:transform": list(each.transform)[:6],
            **{f"cubekit:{column}": cells[column] for column in COLUMNS if column not in {"time", "platform"}},
        },
        stac_extensions=list(_EXTENSIONS),
        collection=lake.id,
    )
    made.add_asset(
        "mask",
        pystac.Asset(
            f"./{name}.tif",
            title="Water of the lake",
            media_type=pystac.MediaType.COG,
            roles=["data"],
            extra_fields={"data_type": "uint8", "nodata": NOT_KNOWN, "classification:classes": _CLASSES},
        ),
    )
    made.links = [
        pystac.Link("root", f"../{CATALOGUE}", _JSON),
        pystac.Link("parent", f"./{COLLECTION}", _JSON),
        pystac.Link("collection", f"./{COLLECTION}", _JSON),
    ]
    return made


def _orbit(cells: dict[str, Any], coords: dict[str, Any]) -> dict[str, Any]:
    """The properties ``sat:*``, of what is known."""
    orbit: dict[str, Any] = {}
    if isinstance(cells["track"], int):
        orbit["sat:relative_orbit"] = cells["track"]
    if "absolute_orbit" in coords:
        orbit["sat:absolute_orbit"] = int(coords["absolute_orbit"])
    if coords.get("orbit_direction") in range(len(DIRECTIONS)):
        orbit["sat:orbit_state"] = DIRECTIONS[int(coords["orbit_direction"])]
    return orbit


def _collection(lake: Lake, kept: dict[str, str], footprint: shapely.Polygon | None) -> dict[str, Any]:
    import pystac

    times = sorted(pd.Timestamp(time).to_pydatetime(warn=False) for time in kept.values())
    period: list[datetime | None] = [times[0], times[-1]] if times else [None, None]
    box = (footprint or shapely.box(*lake.aoi.bounds)).bounds
    made = pystac.Collection(
        id=lake.id,
        title=f"Water of {lake.title}",
        description=f"Masks of the water of {lake.title}, one a pass: 0 dry, 1 water of the lake, 255 not known.",
        license="other",
        extent=pystac.Extent(
            pystac.SpatialExtent([list(box)]),
            pystac.TemporalExtent([period]),
        ),
    )
    made.links = [
        pystac.Link("root", f"../{CATALOGUE}", _JSON),
        pystac.Link("parent", f"../{CATALOGUE}", _JSON),
        *(pystac.Link("item", f"./{name}.json", _GEOJSON) for name in kept),
    ]
    document: dict[str, Any] = made.to_dict(transform_hrefs=False)
    return document


def _catalogue(root: Path) -> dict[str, Any]:
    import pystac

    made = pystac.Catalog("masks", "Masks of the water of lakes, one collection a lake.", title="Water of lakes")
    lakes = sorted(path.parent.name for path in root.glob(f"*/{COLLECTION}"))
    made.links = [
        pystac.Link("root", f"./{CATALOGUE}", _JSON),
        *(pystac.Link("child", f"./{name}/{COLLECTION}", _JSON) for name in lakes),
    ]
    document: dict[str, Any] = made.to_dict(transform_hrefs=False)
    return document


def _linked(collection: Path) -> set[str]:
    """Names of the items of a collection that was written here before."""
    if not collection.is_file():
        return set()
    try:
        links = json.loads(collection.read_text(encoding="utf-8"))["links"]
        return {Path(link["href"]).stem for link in links if link["rel"] == "item"}
    except (ValueError, KeyError, TypeError) as error:
        msg = f"{collection} is not a STAC collection of cubekit ({type(error).__name__}); remove it"
        raise ConfigError(msg) from error


def _write_json(document: dict[str, Any], path: Path) -> None:
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
