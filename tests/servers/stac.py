"""A STAC API: landing page, collections, item search by GET and POST with pages by next links, and the files."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import rasterio
from pyproj import Transformer
from shapely.geometry import box, mapping, shape

from servers import Answer, Request
from servers.files import Files

Item = dict[str, Any]

BASE = "BASE://"
"""Stands for the address of the server in the items that it is given."""

COG = "image/tiff; application=geotiff; profile=cloud-optimized"


class Stac(Files):
    """A STAC API with item search, that serves the files of a folder at ``/files/NAME``.

    Parameters
    ----------
    items
        Of any collections; addresses that begin with `BASE` become the server's own.
    folder, files
        As for `Files`.
    page
        Most items that a page holds, whatever is asked for.
    methods
        How it can be searched.
    root
        Path of the landing page.
    """

    def __init__(
        self,
        items: Iterable[Item] = (),
        folder: Path | None = None,
        files: Mapping[str, bytes] | None = None,
        *,
        page: int = 100,
        methods: Sequence[str] = ("GET", "POST"),
        root: str = "",
    ) -> None:
        super().__init__(folder, files)
        self.items, self.page, self.methods, self.root = list(items), page, tuple(methods), root

    def answer(self, request: Request) -> Answer:
        path = request.path
        if path.startswith("/files/"):
            return super().answer(_moved(request, path.removeprefix("/files")))
        if not path.startswith(self.root):
            return _json({"code": "NotFound"}, 404)
        path = path.removeprefix(self.root).rstrip("/")
        if path == "/search":
            return self._search(request) if request.method in self.methods else _json({"code": "MethodNotAllowed"}, 405)
        if path == "":
            return _json(self._landing(request))
        name = path.removeprefix("/collections/")
        if path.startswith("/collections/") and name in self._collections:
            return _json(self._collection(name, request))
        return _json({"code": "NotFoundError", "description": f"{path} does not exist"}, 404)

    def base(self, request: Request) -> str:
        """The server's address, as the client knows it."""
        host = str(request.headers.get("Host", ""))
        return f"{'http' if ':' in host else 'https'}://{host}"

    @property
    def _collections(self) -> set[str]:
        return {item["collection"] for item in self.items}

    def _landing(self, request: Request) -> dict[str, Any]:
        here = self.base(request) + self.root
        links: list[dict[str, str]] = [{"rel": rel, "href": here} for rel in ("self", "root")]
        links.append({"rel": "data", "href": f"{here}/collections"})
        for method in self.methods:
            # A link without a method is one by GET.
            given = {} if method == "GET" else {"method": method}
            links.append({"rel": "search", "type": "application/geo+json", "href": f"{here}/search", **given})
        parts = ("core", "collections", "item-search", "ogcapi-features")
        return {
            "type": "Catalog",
            "id": "stac",
            "stac_version": "1.0.0",
            "description": "test",
            "conformsTo": [f"https://api.stacspec.org/v1.0.0/{part}" for part in parts],
            "links": links,
        }

    def _collection(self, name: str, request: Request) -> dict[str, Any]:
        extent = {"spatial": {"bbox": [[-180, -90, 180, 90]]}, "temporal": {"interval": [[None, None]]}}
        here = f"{self.base(request)}{self.root}/collections/{name}"
        base = {"type": "Collection", "id": name, "stac_version": "1.0.0", "description": name, "license": "other"}
        return base | {"extent": extent, "links": [{"rel": "self", "href": here}]}

    def _search(self, request: Request) -> Answer:
        if request.method == "POST":
            asked = json.loads(request.body)
        else:
            asked = dict(request.query)
            asked |= {name: asked[name].split(",") for name in ("collections",) if name in asked}
            asked |= {name: [float(part) for part in asked[name].split(",")] for name in ("bbox",) if name in asked}
        if unknown := set(asked) - {"collections", "bbox", "datetime", "limit", "token"}:
            return _json({"code": "BadRequest", "description": f"unknown {sorted(unknown)}"}, 400)
        found = [item for item in self.items if _matches(item, asked)]
        start = int(asked.get("token", 0))
        stop = start + min(self.page, int(asked.get("limit", 10)))
        here = self.base(request)
        links: list[dict[str, Any]] = []
        if stop < len(found):
            url = f"{here}{self.root}/search"
            if request.method == "POST":
                links.append({"rel": "next", "method": "POST", "href": url, "body": {**asked, "token": stop}})
            else:
                links.append({"rel": "next", "href": f"{url}?{urlencode({**request.query, 'token': stop})}"})
        page = {"type": "FeatureCollection", "features": found[start:stop], "links": links}
        return Answer(
            200, json.dumps(page).replace(BASE, f"{here}/files/").encode(), {"Content-Type": "application/geo+json"}
        )


def _moved(request: Request, target: str) -> Request:
    return Request(request.method, request.host, target, request.headers, request.body)


def _json(document: object, status: int = 200) -> Answer:
    return Answer(status, json.dumps(document).encode(), {"Content-Type": "application/json"})


def _matches(item: Item, asked: Mapping[str, Any]) -> bool:
    if "collections" in asked and item["collection"] not in asked["collections"]:
        return False
    if "bbox" in asked and not shape(item["geometry"]).intersects(box(*asked["bbox"])):
        return False
    if "datetime" in asked:
        first, _, last = asked["datetime"].partition("/")
        properties = item["properties"]
        # As the standard has it: an item with start and end is found when they meet the interval.
        begin = _time(properties.get("start_datetime") or properties["datetime"])
        end = _time(properties.get("end_datetime") or properties["datetime"])
        if (first not in {"", ".."} and end < _time(first)) or (last not in {"", ".."} and begin > _time(last)):
            return False
    return True


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text).astimezone(UTC)


def item(
    identifier: str,
    collection: str,
    raster: Path,
    start: datetime,
    assets: Mapping[str, Any],
    *,
    projection: str = "code",
    **properties: Any,
) -> Item:
    """An item with the footprint of a raster.

    Parameters
    ----------
    assets
        File names by key, or whole assets.
    projection
        ``epsg``, ``code`` or ``none``: how it tells its grid.
    properties
        Names with ``__`` in place of ``:``.
    """
    with rasterio.open(raster) as dataset:
        epsg, bounds = dataset.crs.to_epsg(), dataset.bounds
        transform, size = list(dataset.transform), list(dataset.shape)
    west, south, east, north = Transformer.from_crs(epsg, 4326, always_xy=True).transform_bounds(*bounds)
    told: dict[str, Any] = {"proj:shape": size, "proj:transform": transform}
    told |= {"proj:epsg": epsg} if projection == "epsg" else {"proj:code": f"EPSG:{epsg}"}
    version = "v1.1.0" if projection == "epsg" else "v2.0.0"
    url = f"https://stac-extensions.github.io/projection/{version}/schema.json"
    extension = [] if projection == "none" else [url]
    return {
        "type": "Feature",
        "stac_version": "1.0.0",
        "stac_extensions": extension,
        "id": identifier,
        "collection": collection,
        "geometry": mapping(box(west, south, east, north)),
        "bbox": [west, south, east, north],
        "properties": {
            "datetime": f"{start + timedelta(seconds=2):%Y-%m-%dT%H:%M:%S.%fZ}",
            **({} if projection == "none" else told),
            **{name.replace("__", ":"): value for name, value in properties.items()},
        },
        "assets": {
            key: given if isinstance(given, dict) else {"href": BASE + given, "type": COG, "roles": ["data"]}
            for key, given in assets.items()
        },
        "links": [],
    }


def opera_items(folder: Path, collection: str, projection: str) -> list[Item]:
    """OPERA RTC-S1 granules of a folder as items; without a projection they are as CMR-STAC has them: names only."""
    items = []
    for path in sorted(folder.glob("*_VV.tif")):
        granule = path.name.removesuffix("_VV.tif")
        start = datetime.strptime(granule.split("_")[4], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        names = {key: f"{granule}_{key}.tif" for key in ("VV", "VH", "mask")}
        ends = {"start_datetime": f"{start:%Y-%m-%dT%H:%M:%SZ}"}
        ends |= {"end_datetime": f"{start + timedelta(seconds=3):%Y-%m-%dT%H:%M:%SZ}"}
        if projection == "none":
            bucket = {"href": f"s3://asf-cumulus-prod-opera-products/{names['VV']}", "roles": ["data"]}
            thumbnail = {"href": f"{BASE}{granule}_BROWSE.png", "type": "image/png"}
            assets: dict[str, Any] = {f"0_{key}": {"href": BASE + name} for key, name in names.items()}
            assets |= {"s3_0_VV": bucket, "browse": thumbnail}
            items.append(item(granule, collection, path, start, assets, projection="none", **ends))
            continue
        with rasterio.open(path) as dataset:
            tags = dataset.tags()
        software, _, version = tags["SOFTWARE_VERSION"].partition(" ")
        known: dict[str, Any] = {
            "platform": f"SENTINEL-1{tags['PLATFORM'][-1]}",
            "sat__relative_orbit": int(tags["TRACK_NUMBER"]),
            "sat__orbit_state": tags["ORBIT_PASS_DIRECTION"],
            "processing__software": {software: version},
        }
        if "CUBEKIT_LOOKS" in tags:
            known["sar__looks_equivalent_number"] = float(tags["CUBEKIT_LOOKS"])
        if projection == "epsg":
            known["sat__absolute_orbit"] = int(tags["ABSOLUTE_ORBIT_NUMBER"])
        assets = {key.lower(): name for key, name in names.items()}
        items.append(item(granule, collection, path, start, assets, projection=projection, **known, **ends))
    return items
