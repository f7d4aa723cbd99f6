"""NASA's Common Metadata Repository as asf_search asks it: granule search in UMM-JSON, pages by header."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from shapely.geometry import Polygon, box
from shapely.geometry.base import BaseGeometry

from servers import Answer, Request, Service

Granule = dict[str, Any]

HOST = "cmr.earthdata.nasa.gov"
PATH = "/search/granules.umm_json"

_LAYERS = ("VV", "VH", "mask")
_COLLECTION = {"shortName", "short_name"}
_KNOWN = {
    *("shortName", "short_name", "short_name[]", "shortName[]", "collection_concept_id", "provider", "page_size"),
    *("bounding_box", "polygon", "point", "line", "temporal", "sort_key[]", "attribute[]", "platform[]"),
    *("options[temporal][and]", "options[platform][ignore_case]", "processing_level_id[]", "updated_since"),
    *("readable_granule_name[]", "granule_ur[]"),
}


class Cmr(Service):
    """Granules, found by what the client filters by.

    Parameters
    ----------
    granules
        ``meta`` and ``umm`` of each.
    page
        Most granules that a page holds, whatever is asked for.
    """

    def __init__(self, granules: Iterable[Granule] = (), *, page: int = 2000) -> None:
        super().__init__()
        self.granules, self.page = list(granules), page

    def answer(self, request: Request) -> Answer:
        if request.method != "POST" or request.path != PATH:
            return _errors(404, f"no such search: {request.method} {request.path}")
        form = request.form
        if unknown := sorted({name for name, _ in form} - _KNOWN):
            return _errors(400, f"Parameter [{unknown[0]}] was not recognized.")
        collections = [pair for pair in form if pair[0].removesuffix("[]") in _COLLECTION]  # any of them
        others = [pair for pair in form if pair not in collections]
        found = [one for one in self.granules if not collections or any(_matches(one, *pair) for pair in collections)]
        found = [one for one in found if all(_matches(one, *pair) for pair in others)]
        found.sort(key=lambda one: str(one["umm"].get("GranuleUR")))
        found.sort(key=_end, reverse=True)
        start = int(json.loads(request.headers.get("CMR-Search-After") or "[0]")[0])
        size = min(self.page, int(dict(form).get("page_size", 10)))
        page = found[start : start + size]
        headers = {"Content-Type": "application/vnd.nasa.cmr.umm_results+json", "CMR-Hits": str(len(found))}
        if page:
            headers["CMR-Search-After"] = json.dumps([start + len(page)])
        return Answer(200, json.dumps({"hits": len(found), "took": 7, "items": page}).encode(), headers)

    @property
    def searches(self) -> list[dict[str, str]]:
        """The forms of the searches that were made."""
        return [dict(request.form) for request in self.asked()]


def _errors(status: int, message: str) -> Answer:
    body = json.dumps({"errors": [message]}).encode()
    return Answer(status, body, {"Content-Type": "application/json; charset=utf-8"})


def _end(granule: Granule) -> str:
    return str(granule["umm"]["TemporalExtent"]["RangeDateTime"]["EndingDateTime"])


def _matches(granule: Granule, name: str, value: str) -> bool:
    umm = granule["umm"]
    if name.removesuffix("[]") in _COLLECTION:
        return bool(umm["CollectionReference"]["ShortName"] == value)
    if name == "provider":
        return bool(granule["meta"]["provider-id"] == value)
    if name == "attribute[]":
        kind, attribute, wanted = value.split(",")
        values = next((one["Values"] for one in umm["AdditionalAttributes"] if one["Name"] == attribute), [])
        return wanted in values if kind == "string" else int(wanted) in map(int, values)
    if name == "temporal":
        start, stop = ([*value.split(","), "", ""])[:2]
        extent = umm["TemporalExtent"]["RangeDateTime"]
        ends, begins = _time(extent["EndingDateTime"]), _time(extent["BeginningDateTime"])
        return (not start or ends >= _time(start)) and (not stop or begins <= _time(stop))
    if name == "updated_since":
        return _time(granule["meta"]["revision-date"]) >= _time(value)
    if name in {"bounding_box", "polygon"}:
        numbers = [float(one) for one in value.split(",")]
        corners = list(zip(numbers[::2], numbers[1::2], strict=True))
        asked = box(*numbers) if name == "bounding_box" else Polygon(corners)
        return bool(_shape(umm).intersects(asked))
    return True


def _time(text: str) -> datetime:
    return datetime.fromisoformat(text.replace("Z", "+00:00"))


def _shape(umm: Mapping[str, Any]) -> BaseGeometry:
    geometry = umm["SpatialExtent"]["HorizontalSpatialDomain"]["Geometry"]
    if "GPolygons" not in geometry:
        return box(-180, -90, 180, 90)
    points = geometry["GPolygons"][0]["Boundary"]["Points"]
    return Polygon([(one["Longitude"], one["Latitude"]) for one in points])


def opera_granule(
    name: str,
    files: Mapping[str, int],
    outline: BaseGeometry,
    *,
    orbit: int,
    direction: str,
    url: Callable[[str], str],
) -> Granule:
    """One OPERA RTC-S1 granule as CMR knows it.

    Parameters
    ----------
    name
        Of the granule, without layer.
    files
        Sizes of its files, by name.
    outline
        Its footprint in WGS84.
    orbit, direction
        Absolute orbit, and ``ascending`` or ``descending``.
    url
        Address of a file.
    """
    burst, start, processed, unit = name.removeprefix("OPERA_L2_RTC-S1_").split("_")[:4]
    begins, made = (datetime.strptime(text, "%Y%m%dT%H%M%SZ") for text in (start, processed))  # noqa: DTZ007
    track, _, swath = burst.split("-")
    attributes = {
        "ASCENDING_DESCENDING": [direction.upper()],
        "BEAM_MODE": ["IW"],
        "GROUP_ID": [f"{unit}_IWDV_0372_0379_{orbit:06d}_{track[1:]}"],
        "OPERA_BURST_ID": [burst.replace("-", "_")],
        "PATH_NUMBER": [str(int(track[1:]))],
        "POLARIZATION": sorted({one for one in ("VV", "VH") if any(file.endswith(f"_{one}.tif") for file in files)}),
        "PROCESSING_TYPE": ["RTC"],
        "PRODUCT_VERSION": ["1.0"],
        "SUBSWATH_NAME": [swath],
    }
    points = [{"Latitude": y, "Longitude": x} for x, y in outline.exterior.coords]
    # As in the archive: VH first, a checksum beside each file, pictures, and the same in its cloud's own addresses.
    links = [{"URL": url(file), "Type": "GET DATA", "Format": "GeoTIFF"} for file in sorted(files)]
    links += [{"URL": f"s3://products/{name}/{file}", "Type": "GET DATA VIA DIRECT ACCESS"} for file in sorted(files)]
    links += [{"URL": url(f"{file}.md5"), "Type": "EXTENDED METADATA"} for file in sorted(files)]
    links.append({"URL": url(f"{name}.h5"), "Type": "GET DATA", "Format": "HDF5"})
    links.append({"URL": url(f"{name}_BROWSE.png"), "Type": "GET RELATED VISUALIZATION", "Format": "PNG"})
    static = f"OPERA_L2_RTC-S1-STATIC_{burst}_20140403_{unit}_30_v1.0_local_incidence_angle.tif"
    links.append({"URL": url(static), "Type": "GET DATA", "Format": "GeoTIFF"})
    ends = begins + timedelta(seconds=3)
    return {
        "meta": {
            "concept-type": "granule",
            "concept-id": f"G{abs(hash(name)) % 10**10}-ASF",
            "native-id": name,
            "provider-id": "ASF",
            "collection-concept-id": "C2777436413-ASF",
            "revision-date": f"{made + timedelta(hours=1):%Y-%m-%dT%H:%M:%S}.000Z",
        },
        "umm": {
            "GranuleUR": name,
            "TemporalExtent": {
                "RangeDateTime": {
                    "BeginningDateTime": f"{begins:%Y-%m-%dT%H:%M:%SZ}",
                    "EndingDateTime": f"{ends:%Y-%m-%dT%H:%M:%SZ}",
                }
            },
            "OrbitCalculatedSpatialDomains": [{"OrbitNumber": orbit}],
            "AdditionalAttributes": [{"Name": key, "Values": values} for key, values in attributes.items()],
            "SpatialExtent": {
                "HorizontalSpatialDomain": {"Geometry": {"GPolygons": [{"Boundary": {"Points": points}}]}}
            },
            "CollectionReference": {"ShortName": "OPERA_L2_RTC-S1_V1", "Version": "1"},
            "RelatedUrls": links,
            "DataGranule": {
                "DayNightFlag": "Unspecified",
                "ProductionDateTime": f"{made:%Y-%m-%dT%H:%M:%SZ}",
                "Identifiers": [{"Identifier": name, "IdentifierType": "ProducerGranuleId"}],
                "ArchiveAndDistributionInformation": [
                    {"Name": file, "SizeInBytes": size, "Format": "GeoTIFF"} for file, size in files.items()
                ],
            },
            "Platforms": [{"ShortName": f"Sentinel-{unit[1:]}", "Instruments": [{"ShortName": "C-SAR"}]}],
        },
    }


def opera_granules(folder: Path, url: Callable[[str], str]) -> list[Granule]:
    """The OPERA granules of a folder as CMR knows them."""
    import rasterio
    from rasterio.warp import transform_bounds

    granules = []
    for first in sorted(folder.rglob("OPERA_L2_RTC-S1_*_VV.tif")):
        name = first.name.removesuffix("_VV.tif")
        files = [first.with_name(f"{name}_{layer}.tif") for layer in _LAYERS]
        with rasterio.open(first) as dataset:
            outline = box(*transform_bounds(dataset.crs, 4326, *dataset.bounds))
            tags = dataset.tags()
        granules.append(
            opera_granule(
                name,
                {file.name: file.stat().st_size for file in files if file.exists()},
                outline,
                orbit=int(tags["ABSOLUTE_ORBIT_NUMBER"]),
                direction=tags["ORBIT_PASS_DIRECTION"],
                url=url,
            )
        )
    return granules


def incomplete(answer: Answer) -> Answer:
    """A fault: a page that lacks its last granule, and does not say where to go on."""
    content = json.loads(answer.body)
    body = json.dumps({**content, "items": content["items"][:-1]}).encode()
    headers = {name: value for name, value in answer.headers.items() if name != "CMR-Search-After"}
    return replace(answer, body=body, headers=headers)


def without(granules: Sequence[Granule], change: Callable[[Granule], None]) -> list[Granule]:
    """Copies of granules of which the first one is changed."""
    copies = [json.loads(json.dumps(one)) for one in granules]
    change(copies[0])
    return copies
