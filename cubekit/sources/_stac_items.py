"""What a STAC item of any archive says, as the scene that a cube is made of, or why it is of no use."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import urljoin, urlsplit

import pystac
from pyproj import CRS
from pyproj.exceptions import CRSError

from cubekit.lakes import SPACINGS
from cubekit.sources._items import CALIBRATED, UNKNOWN_PROCESSING, grid, orbit_of
from cubekit.sources.folder import PROJECTION, SIMULATOR
from cubekit.sources.names import ProductFile, parse
from cubekit.sources.optical import Product, of_platform, platform_name

Raw = Mapping[str, Any]
"""An item, as the archive sent it: pystac rewrites projections."""

BORDERS_UNTIL = datetime(2018, 1, 1, tzinfo=UTC)
"""Until then the borders of scenes made from Sentinel-1 GRD may be zeros that nothing declares as no data."""

# Archives that filter speckle, and whose items do not tell.
_FILTERED = {"sentinel1-rtc-aws": "lee sigma"}

_SENTINEL1 = re.compile(r"s(?:entinel)?-?1-?([a-d])")
_GRD = re.compile(r"S1[A-D]_IW_GRD[HMF]_\dS[DS][VH]_\d{8}T\d{6}_\d{8}T\d{6}_(?P<orbit>\d{6})_[0-9A-F]{6}")
_BANDS = ("vv", "vh", "hh", "hv")


@dataclass(frozen=True)
class Header:
    """What the header of a raster tells, or the item for it.

    Parameters
    ----------
    epsg
        None where it has none.
    transform
        Six numbers, from column and row to x and y.
    shape
        Rows and columns.
    dtype
        Of its values, as numpy names it; None where unknown.
    nodata
        Declared values that stand for no data.
    tags
        Of the file.
    """

    epsg: int | None
    transform: tuple[float, ...]
    shape: tuple[int, int] | None
    dtype: str | None
    nodata: tuple[float, ...]
    tags: Mapping[str, str]


def assets_of(raw: Raw) -> dict[str, str]:
    """Names of a scene's layers and the keys of the assets that hold them.

    Sentinel-1: ``vv``, ``vh``, ``mask`` (and ``hh``, ``hv``, which are told in messages). A key counts when one of its
    parts is the name: ``vv``, ``VV``, ``gamma0_vv``, ``0_VV``. Of several, one over http is taken before one in a
    bucket, and gamma0 before sigma0. Optical scenes: bands and ``quality``, by the names of their product.
    """
    assets: Mapping[str, Raw] = raw.get("assets", {})
    product = of_platform(_platform(raw))
    found: dict[str, str] = {}
    if product is not None:
        lower = {key.lower(): key for key in assets}
        for role, names in {**product.bands, "quality": product.quality}.items():
            key = next((lower[name] for name in names if name in lower), None)
            if key is not None:
                found[role] = key
        return found
    for name in (*_BANDS, "mask"):
        keys = [key for key, asset in assets.items() if name in re.split(r"[^a-z0-9]+", key.lower()) and _raster(asset)]
        keys.sort(key=lambda key: (str(assets[key]["href"]).startswith("s3:"), "sigma" in key.lower(), len(key), key))
        if keys:
            found[name] = keys[0]
    return found


def declared(raw: Raw, key: str) -> Header | None:
    """What an item tells of the raster of an asset; None where it tells no projection, or not all of it."""
    asset, properties = raw["assets"][key], raw.get("properties", {})
    code = _first("proj:code", asset, properties)
    epsg = _first("proj:epsg", asset, properties)
    if isinstance(code, str) and code.upper().startswith("EPSG:"):
        epsg = code[5:]
    transform, shape = (_first(name, asset, properties) for name in ("proj:transform", "proj:shape"))
    if not str(epsg).isdigit() or transform is None:
        return None
    band = next(iter(asset.get("raster:bands") or asset.get("bands") or [{}]))
    return Header(
        epsg=int(str(epsg)),
        transform=tuple(float(value) for value in transform[:6]),
        shape=None if shape is None else (int(shape[0]), int(shape[1])),
        dtype=_first("data_type", band, asset),
        nodata=nodata_of(raw, key),
        tags={},
    )


def nodata_of(raw: Raw, key: str) -> tuple[float, ...]:
    """Values that an item declares as no data of an asset, NaN left out."""
    asset = raw["assets"][key]
    bands = [*(asset.get("raster:bands") or []), *(asset.get("bands") or []), asset]
    given = {band["nodata"] for band in bands if isinstance(band.get("nodata"), int | float)}
    return tuple(sorted(float(value) for value in given if math.isfinite(value)))


def is_optical(raw: Raw) -> bool:
    """Whether an item is of an optical product that is known here."""
    return of_platform(_platform(raw)) is not None


def scene(raw: Raw, header: Header | None, collection: str) -> pystac.Item | str:
    """A STAC item as a scene, or the reason why it is of no use.

    Parameters
    ----------
    raw
        The item, as the archive sent it.
    header
        Of its first band; None for optical scenes, whose bands are read onto the lattice whatever their grid.
    collection
        Its collection.
    """
    product, assets = of_platform(_platform(raw)), assets_of(raw)
    start = _start(raw)
    if start is None:
        return "it has neither start_datetime nor datetime"
    if product is not None:
        properties = _optical(raw, product, assets, start)
    elif header is None:
        return _unusable_bands(assets)
    else:
        properties = _radar(raw, header, assets, start)
    if isinstance(properties, str):
        return properties
    item = pystac.Item(
        id=str(raw["id"]),
        geometry=raw.get("geometry"),
        bbox=raw.get("bbox"),
        datetime=properties.pop("start", start),
        properties={"cubekit:source": re.sub(r"[^A-Za-z0-9._-]+", "-", collection), **properties},
        stac_extensions=[PROJECTION],
    )
    for name, key in sorted(assets.items()):
        if name not in {"hh", "hv"}:
            roles = ["data-mask"] if name in {"mask", "quality"} else ["data"]
            item.add_asset(name, pystac.Asset(href(raw, key), media_type=pystac.MediaType.COG, roles=roles))
    return item


def href(raw: Raw, key: str) -> str:
    """Absolute address of an asset."""
    own = next((str(link["href"]) for link in raw.get("links", []) if link.get("rel") == "self"), "")
    return urljoin(own, str(raw["assets"][key]["href"]))


def _radar(raw: Raw, header: Header, assets: Mapping[str, str], start: datetime) -> dict[str, Any] | str:
    named = _named(href(raw, assets[_band(assets)]))
    unusable = named if isinstance(named, str) else _unusable_values(raw, header, assets)
    product = named if isinstance(named, ProductFile) else _generic(raw, start)
    spacing = _served_spacing(header)
    if unusable is not None or isinstance(product, str) or isinstance(spacing, str):
        return str(unusable or (product if isinstance(product, str) else spacing))
    if product.start.date() < CALIBRATED.get(product.platform, product.start.date()):
        return f"{product.platform} was not calibrated before {CALIBRATED[product.platform]}"
    orbit = _orbit(raw, header, product)
    if isinstance(orbit, str):
        return orbit
    properties: dict[str, Any] = {
        "start": product.start,
        "platform": product.platform,
        **orbit,
        "processing:datetime": (product.processed or _processed(raw)).isoformat(),
        **grid(header.epsg or 0, header.shape or (), header.transform),
        "cubekit:scene": f"{product.platform}_{orbit['sat:absolute_orbit']}_{product.scene}",
        "cubekit:spacing": spacing,
        "cubekit:speckle_filter": product.speckle_filter,
    }
    if isinstance(named, ProductFile):
        simulated = header.tags.get("SOFTWARE_VERSION", "").startswith(SIMULATOR)
        simulated |= SIMULATOR in raw["properties"].get("processing:software", {})
        properties["cubekit:source"] = "simulated" if simulated else named.family
        properties["cubekit:mask_coding"] = named.family
    elif product.start < BORDERS_UNTIL:
        properties["cubekit:zero_border"] = True
    if header.nodata:
        properties["cubekit:nodata"] = list(header.nodata)
    looks = header.tags.get("CUBEKIT_LOOKS") or raw["properties"].get("sar:looks_equivalent_number")
    if header.transform[0] != spacing:
        properties["cubekit:native_spacing"] = header.transform[0]  # averaged: its looks aren't known any more
    elif looks is not None:
        properties["cubekit:looks"] = float(looks)
    return properties


def _generic(raw: Raw, start: datetime) -> ProductFile | str:
    """What an item tells in place of a name."""
    unit = _SENTINEL1.fullmatch(platform_name(_platform(raw)))
    if unit is None:
        return f"its platform is {_platform(raw)!r}, neither a Sentinel-1 nor a known optical one"
    track = raw["properties"].get("sat:relative_orbit")
    return ProductFile(
        product=str(raw["id"]),
        family="stac",
        layer="vv",
        platform=f"sentinel-1{unit[1]}",
        start=start,
        spacing=0,
        scene=str(raw["id"]),  # archives keep the id when they process a scene again
        speckle_filter=_FILTERED.get(str(raw.get("collection")), "none"),
        track=None if track is None else int(track),
    )


def _optical(raw: Raw, product: Product, assets: Mapping[str, str], start: datetime) -> dict[str, Any] | str:
    if lacking := sorted({*product.bands, "quality"} - set(assets)):
        return f"it lacks {', '.join(lacking)}, which {product.sensor} needs; it has {', '.join(raw['assets'])}"
    described = product.describe(str(raw["id"]), raw["properties"])
    if isinstance(described, str):
        return described
    platform = platform_name(_platform(raw))
    processed = described.get("processed")
    stamp = datetime.strptime(processed, "%Y%m%d").replace(tzinfo=UTC) if processed else _processed(raw)
    properties = {
        "platform": platform,
        "sat:relative_orbit": described["track"],
        "processing:datetime": stamp.isoformat(),
        "cubekit:sensor": product.sensor,
        "cubekit:track": product.track.format(described["track"]),
        "cubekit:scene": f"{platform}_{start:%Y%m%dT%H%M%S}_{described['tile']}",
        "cubekit:spacing": product.spacing,
        "cubekit:offset": described.get("offset", 0.0),
    }
    header = declared(raw, assets[next(iter(product.bands))])
    return properties | ({} if header is None else {"proj:code": f"EPSG:{header.epsg}"})


def _unusable_bands(assets: Mapping[str, str]) -> str:
    if cross := [name.upper() for name in ("hh", "hv") if name in assets]:
        return f"it has {' and '.join(cross)} only; cubes hold VV or VH, which Sentinel-1 sends over land"
    return "it has no asset with VV or VH, nor the bands of a known optical product"


def _unusable_values(raw: Raw, header: Header, assets: Mapping[str, str]) -> str | None:
    asset = raw["assets"][assets[_band(assets)]]
    band = next(iter(asset.get("raster:bands") or asset.get("bands") or [{}]))
    if header.dtype is not None and not header.dtype.startswith("float"):
        return f"its values are {header.dtype}, not floating-point power: it is not terrain-corrected gamma0"
    if str(_first("unit", band, asset)).lower() in {"db", "decibel"}:
        return "decibel; cubes hold linear power"
    if "sigma" in assets[_band(assets)].lower():
        return "sigma0; cubes hold gamma0"
    return None


def _served_spacing(header: Header) -> int | str:
    """Spacing of the lattice that a grid is brought to: its own, or the next one that it divides."""
    east, skew_x, _, skew_y, south = header.transform[:5]
    if header.epsg is None:
        return "it has no coordinate reference system: it is not terrain-corrected"
    if not _metric(header.epsg):
        return f"its grid (EPSG:{header.epsg}) is not in metres"
    if skew_x or skew_y or east <= 0 or east != -south:
        return "its pixels are not square and north up"
    fitting = [spacing for spacing in SPACINGS if spacing % east == 0]
    return fitting[0] if fitting else f"its pixels of {east:g} m don't divide those of a lattice, {SPACINGS} m"


@cache
def _metric(epsg: int) -> bool:
    try:
        crs = CRS.from_epsg(epsg)
    except CRSError:
        return False
    return crs.is_projected and crs.axis_info[0].unit_name == "metre"


def _orbit(raw: Raw, header: Header, product: ProductFile) -> dict[str, int | str] | str:
    """Orbit numbers and direction: from the item or the names of its products where they tell, else from the time."""
    properties, tags = raw["properties"], header.tags
    told = {
        "ABSOLUTE_ORBIT_NUMBER": properties.get("sat:absolute_orbit")
        or tags.get("ABSOLUTE_ORBIT_NUMBER")
        or _grd_orbit(raw),
        "ORBIT_PASS_DIRECTION": properties.get("sat:orbit_state") or tags.get("ORBIT_PASS_DIRECTION"),
    }
    return orbit_of(product, {name: str(value) for name, value in told.items() if value is not None})


def _grd_orbit(raw: Raw) -> str | None:
    names = [str(raw["id"]), *map(str, raw["properties"].get("sentinel:product_ids", []))]
    found = next((match for name in names if (match := _GRD.match(name))), None)
    return found["orbit"] if found else None


def _processed(raw: Raw) -> datetime:
    """When a scene was processed; when its item was made is the next best."""
    names = ("processing:datetime", "s1:processing_datetime", "s2:generation_time", "created")
    told = (_time(raw["properties"].get(name)) for name in names)
    return next((time for time in told if time is not None), UNKNOWN_PROCESSING)


def _named(address: str) -> ProductFile | str | None:
    """What the name of a file says when it is one of OPERA's or HyP3's; the reason when that is of no use."""
    name = PurePosixPath(urlsplit(address).path).name
    parsed = parse(name)
    if isinstance(parsed, str):
        return parsed if re.match(r"(OPERA_L2_RTC|S1[A-D]_IW_\d{8}T\d{6}_\w+_RTC)", name) else None
    return parsed


def _start(raw: Raw) -> datetime | None:
    properties = raw.get("properties", {})
    return _time(properties.get("start_datetime")) or _time(properties.get("datetime"))


def _time(text: Any) -> datetime | None:
    try:
        time = datetime.fromisoformat(str(text))
    except ValueError:
        return None
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)


def _platform(raw: Raw) -> str:
    given = raw.get("properties", {}).get("platform")
    if given:
        return str(given)
    unit = re.match(r"S1([A-D])_|OPERA_L2_RTC.*_S1([A-D])_", str(raw.get("id", "")))
    return f"sentinel-1{(unit[1] or unit[2]).lower()}" if unit else ""


def _band(assets: Mapping[str, str]) -> str:
    return next((name for name in ("vv", "vh") if name in assets), "")


def _raster(asset: Raw) -> bool:
    path = urlsplit(str(asset.get("href", ""))).path.lower()
    return path.endswith((".tif", ".tiff", ".vrt")) or "tiff" in str(asset.get("type", ""))


def _first(name: str, *holders: Raw) -> Any:
    return next((holder[name] for holder in holders if holder.get(name) is not None), None)
