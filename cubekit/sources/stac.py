"""Source `stac:URL#COLLECTION`: a STAC API, searched by pystac-client; its rasters are read in place, over HTTP."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, time, timedelta
from typing import Any
from urllib.parse import urlsplit

import pystac
from shapely.errors import ShapelyError
from shapely.geometry import shape

from cubekit.errors import ConfigError, MissingExtra, NothingFound, SceneWarning, SourceError
from cubekit.lakes import Lake
from cubekit.sources import Period
from cubekit.sources._addresses import place, without_queries
from cubekit.sources._items import LONGEST_PASS, UNKNOWN_PROCESSING, nothing_found, of_period
from cubekit.sources._stac_items import (
    Header,
    Raw,
    assets_of,
    declared,
    href,
    is_optical,
    nodata_of,
    scene,
)

PAGE = 100
"""Items that are asked for at a time."""

PLANETARY_HOSTS = ("planetarycomputer.microsoft.com",)
"""Hosts of STAC APIs whose rasters are read with an address that Microsoft's Planetary Computer has signed."""

SIGNING = "cubekit:signing"
"""Property of items whose assets are to be signed when they are read: a signed address lives for an hour or so."""

_HEADERS_AT_A_TIME = 8
_FEW = 20


def find(lake: Lake, period: Period, address: str) -> pystac.ItemCollection:
    """Find the scenes of a lake in a collection of a STAC API.

    Parameters
    ----------
    lake
        The lake; items whose footprint does not touch its AOI are left out without a word.
    period
        First and last day, both inclusive, UTC; None leaves a side open. A pass belongs to the day it starts on.
    address
        ``URL#COLLECTION``. Any collection of Sentinel-1 gamma0 in linear power with assets ``vv`` or ``vh`` (also
        ``gamma0_vv``, ``0_VV``), and the optical ones of `cubekit.sources.optical.PRODUCTS`.

    Returns
    -------
    pystac.ItemCollection
        One item a scene, by time, with the properties that `cubekit.sources.folder.find` gives, and where they apply:
        ``cubekit:nodata`` (declared values that stand for no data), ``cubekit:zero_border`` (zeros at the border are no
        data), ``cubekit:native_spacing`` (pixels that are averaged onto the lattice), ``cubekit:signing``. Products
        named as OPERA's or HyP3's are these, ``cubekit:source`` tells so; otherwise it is the collection. Optical
        scenes have ``cubekit:sensor``, ``cubekit:track`` and ``cubekit:offset``, and assets named as their bands.

    Raises
    ------
    ConfigError
        When the address is not ``URL#COLLECTION``, or the URL holds a login or a query: those may be secrets.
    MissingExtra
        When the API is the Planetary Computer's, and the package that signs its addresses is absent.
    SourceError
        When the API can't be searched or has no such collection, or has no usable scene of this lake in this period.

    Warns
    -----
    SceneWarning
        Once, with the items that can't be used and why.

    Notes
    -----
    Reads items only, not lazily; of a Sentinel-1 item without a projection (``proj:epsg`` or ``proj:code``, and
    ``proj:transform``) the header of one raster. Orbit numbers that an item lacks are computed from platform and time
    (`cubekit.passes`). Requests are repeated as `cubekit.sources._http.retrying` does.
    """
    url, _, collection = address.partition("#")
    if urlsplit(url).scheme not in {"http", "https"} or not collection:
        msg = (
            f"stac:{address} is not stac:URL#COLLECTION; give e.g. "
            "stac:https://planetarycomputer.microsoft.com/api/stac/v1#sentinel-1-rtc"
        )
        raise ConfigError(msg)
    if urlsplit(url).username or urlsplit(url).password or urlsplit(url).query:
        msg = (
            f"the address of the STAC API at {place(url)} holds a login or a query, which may be a secret and would be "
            "kept with what is made of it; give it without"
        )
        raise ConfigError(msg)
    planetary = urlsplit(url).hostname in PLANETARY_HOSTS
    if planetary:
        _planetary_computer()
    raws = [raw for raw in _search(url, collection, lake, period) if _touches(raw, lake)]
    left_out: dict[str, str] = {}
    items = []
    for raw, header in zip(raws, _headers(raws, planetary=planetary), strict=True):
        made = header if isinstance(header, str) else scene(raw, header, collection)
        if isinstance(made, str):
            left_out[str(raw["id"])] = made
            continue
        if planetary:
            made.properties[SIGNING] = "planetary"
        items.append(made)
    if left_out:
        warnings.warn(SceneWarning(_listing(url, collection, left_out), left_out), stacklevel=4)
    items = _of_period(items, period)
    if not items:
        reasons = f", for example because {next(iter(left_out.values()))}" if left_out else ""
        why = (
            f"in collection {collection!r} of {url}: of {len(raws)} items there {len(left_out)} can't be used{reasons}"
            "; give another collection or period"
        )
        raise NothingFound(nothing_found(lake.id, period, why))
    if len({item.properties.get("cubekit:looks") for item in items}) > 1:
        for item in items:  # a cube has one number of looks: none is told, and it is measured
            item.properties.pop("cubekit:looks", None)
    return pystac.ItemCollection(items)


def signed(item: pystac.Item) -> pystac.Item:
    """An item whose assets can be read now.

    Parameters
    ----------
    item
        As `find` gives it.

    Returns
    -------
    pystac.Item
        A copy with signed addresses where the item's ``cubekit:signing`` asks for it, else the item itself. A signed
        address is a secret that ends soon: sign where a raster is read, and keep none.

    Raises
    ------
    MissingExtra
        When the package that signs is absent.
    SourceError
        When no signature can be had.
    """
    if item.properties.get(SIGNING) != "planetary":
        return item
    copy = item.clone()
    for asset in copy.assets.values():
        asset.href = _sign(asset.href)
    return copy


def _sign(address: str) -> str:
    import requests

    try:
        return str(_planetary_computer()(address))
    except requests.RequestException as error:
        msg = f"the Planetary Computer gives no signature for {urlsplit(address).path} ({type(error).__name__})"
        raise SourceError(msg) from None


def _planetary_computer() -> Callable[[str], str]:
    try:
        import planetary_computer
    except ImportError:
        msg = (
            "rasters of the Planetary Computer are read with signed addresses, which needs the package "
            "planetary-computer; install cubekit[planetary]"
        )
        raise MissingExtra(msg) from None
    sign: Callable[[str], str] = planetary_computer.sign_url
    return sign


def _search(url: str, collection: str, lake: Lake, period: Period) -> list[dict[str, Any]]:
    """All items of the lake's box and the period, a day or so more at both ends."""
    from pystac_client import Client
    from pystac_client.exceptions import APIError
    from pystac_client.warnings import PystacClientWarning

    from cubekit.sources._http import TIMEOUT
    from cubekit.sources._stac_api import patient_io

    what = f"the search in {place(url)} for {collection} of {lake.id}"
    requests = patient_io(what)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", PystacClientWarning)  # APIs that don't tell what they conform to
            client = Client.open(url, stac_io=requests, timeout=TIMEOUT)
            links = client.get_links("search")
            if not links:
                msg = f"{url} is a catalog that can't be searched; give the address of a STAC API"
                raise SourceError(msg)
            methods = {str(link.extra_fields.get("method", "GET")).upper() for link in links}
            search = client.search(
                method="POST" if "POST" in methods else "GET",
                collections=[collection],
                bbox=list(lake.aoi.bounds),
                datetime=_interval(period),
                limit=PAGE,
            )
            found = {str(raw["id"]): raw for raw in search.items_as_dicts()}
            known = bool(found) or getattr(client.get_collection(collection), "id", None) == collection
    except APIError as error:
        msg = f"{what} failed: {_reason(error)}; look at {url}"
        raise SourceError(msg) from None
    except (pystac.STACError, AttributeError, KeyError, TypeError, ValueError) as error:
        msg = f"{url} does not answer as a STAC API does ({type(error).__name__}); give the address of its landing page"
        raise SourceError(msg) from None
    finally:
        requests.session.close()
    if not known:
        msg = f"{url} has no collection {collection!r}; look at {url.rstrip('/')}/collections for those it has"
        raise SourceError(msg)
    return list(found.values())


def _reason(error: Exception) -> str:
    text, status = (str(error).splitlines() or [""])[0][:200], getattr(error, "status_code", None)
    return text if status is None else f"it answers {status} {text}".rstrip()


def _interval(period: Period) -> str | None:
    first, last = period
    if first is None and last is None:
        return None
    # Items may give their middle or end as datetime.
    margin = LONGEST_PASS + timedelta(minutes=5)
    ends = (
        "" if first is None else _stamp(datetime.combine(first, time.min) - margin),
        "" if last is None else _stamp(datetime.combine(last, time.max) + margin),
    )
    return "/".join(end or ".." for end in ends)


def _stamp(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def _touches(raw: Raw, lake: Lake) -> bool:
    if not raw.get("geometry"):
        return True
    try:
        return bool(shape(raw["geometry"]).intersects(lake.aoi))
    except (ShapelyError, ValueError, KeyError, TypeError, AttributeError):
        return True  # a footprint that isn't one: the pixels decide


def _headers(raws: Iterable[Raw], *, planetary: bool) -> list[Header | str | None]:
    """Of every item what it or its raster tells: None for optical items and those without a usable band."""
    # One raster a scene, and headers only: a few at a time, since each is a wait for a server.
    with ThreadPoolExecutor(_HEADERS_AT_A_TIME) as pool:
        return list(pool.map(lambda raw: _header(raw, planetary=planetary), raws))


def _header(raw: Raw, *, planetary: bool) -> Header | str | None:
    assets = assets_of(raw)
    key = assets.get("vv") or assets.get("vh")
    if key is None or is_optical(raw):
        return None
    told = declared(raw, key)
    return told if told is not None else _read_header(raw, key, planetary=planetary)


def _read_header(raw: Raw, key: str, *, planetary: bool) -> Header | str:
    import rasterio
    from rasterio.errors import RasterioError

    from cubekit.sources import _earthdata

    address, reason = href(raw, key), ""
    for once_more in ({}, _earthdata.FORGETTING):
        try:
            readable = _sign(address) if planetary else _earthdata.direct(address)
            options = _earthdata.gdal_options([readable]) | once_more
            with rasterio.Env(**options), rasterio.open(readable) as dataset:
                return Header(
                    epsg=dataset.crs.to_epsg() if dataset.crs else None,
                    transform=tuple(dataset.transform)[:6],
                    shape=dataset.shape,
                    dtype=dataset.dtypes[0],
                    nodata=nodata_of(raw, key),  # the file's own GDAL takes care of
                    tags=dataset.tags(),
                )
        except SourceError as error:
            reason = str(error)
            break
        except (RasterioError, OSError) as error:
            reason = without_queries((str(error).splitlines() or [type(error).__name__])[0])
    return f"it tells no projection, and its raster {place(address)} can't be read: {reason}"


def _of_period(items: Iterable[pystac.Item], period: Period) -> list[pystac.Item]:
    """Radar scenes by their passes, each optical scene by its own day."""
    first, last = period
    radar: list[pystac.Item] = []
    optical: list[pystac.Item] = []
    for one in items:
        (optical if "cubekit:sensor" in one.properties else radar).append(one)
    days = [(one, one.datetime.date()) for one in optical if one.datetime]
    inside = [one for one, day in days if (first is None or day >= first) and (last is None or day <= last)]
    return sorted(of_period(radar, period) + inside, key=lambda one: (one.datetime or UNKNOWN_PROCESSING, one.id))


def _listing(url: str, collection: str, left_out: Mapping[str, str]) -> str:
    shown = sorted(left_out)[:_FEW]
    lines = [f"  {name}: {left_out[name]}" for name in shown]
    if len(left_out) > _FEW:
        lines.append(f"  and {len(left_out) - _FEW} more")
    return f"{len(left_out)} items of {json.dumps(collection)} at {url} are left out:\n" + "\n".join(lines)
