"""Source `opera`: OPERA RTC-S1 granules at ASF, read in place by windows, or downloaded."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypedDict, cast
from urllib.parse import parse_qsl, urlsplit

import pystac
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from cubekit.errors import ConfigError, NothingFound, SceneWarning, SourceError
from cubekit.lakes import Lake
from cubekit.passes import PLATFORMS, REPEAT_ORBITS
from cubekit.sources import Period
from cubekit.sources._items import CALIBRATED, LONGEST_PASS, item, near, nothing_found, of_period, orbit_of
from cubekit.sources.names import ProductFile, parse

if TYPE_CHECKING:
    from asf_search import ASFProduct

SIZE = "file:size"
"""Field of an asset: its bytes, where the archive tells."""

Direction = Literal["ascending", "descending"]

_BANDS = ("vv", "vh")
_DIRECTIONS = ("ascending", "descending")
_SHOWN = 20


@dataclass
class _Found:
    """Items by scene, the newest processing of each, and what is of no use."""

    items: dict[str, pystac.Item] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)
    outside: int = 0
    granules: int = 0


def find(
    lake: Lake,
    period: Period,
    *,
    tracks: Sequence[int] = (),
    platforms: Sequence[str] = (),
    direction: Direction | None = None,
    polarisations: Sequence[str] = _BANDS,
    processed_since: datetime | None = None,
) -> pystac.ItemCollection:
    """Find the OPERA RTC-S1 granules of a lake in ASF's archive.

    Parameters
    ----------
    lake
        The lake; granules that do not touch the box around its AOI are left out.
    period
        First and last day, both inclusive, UTC; None leaves a side open. A pass belongs to the day it starts on.
    tracks
        Relative orbits; all by default.
    platforms
        Of `cubekit.passes.PLATFORMS`; all by default.
    direction
        ``ascending`` or ``descending``; both by default.
    polarisations
        Which assets the items get, of ``vv`` and ``vh``.
    processed_since
        Only granules that the archive has got or changed since then; a pass may have others, older ones. All by
        default.

    Returns
    -------
    pystac.ItemCollection
        One item a granule, by time, as `cubekit.sources.folder.find` gives it, but with addresses, and without
        ``proj:*``, which the archive's catalogue does not know: the header tells when a granule is read. Of several
        processings of a burst only the newest.

    Raises
    ------
    ConfigError
        When a track, platform, direction or polarisation isn't known.
    SourceError
        When the archive can't be had or refuses the search.
    NothingFound
        When it has no scene of this lake in this period.

    Warns
    -----
    SceneWarning
        Once, with the granules that can't be used and why.

    Notes
    -----
    Asks for metadata only, no login needed. The archive starts on 2016-04-14. Granules of Sentinel-1C from before
    2025-05-20 are not calibrated, and left out.
    """
    directions = () if direction is None else (direction,)
    _check(tracks, platforms, directions, polarisations)
    found = _Found()
    for track in tracks or (None,):
        granules, unread = _search(lake, period, track, direction, processed_since)
        found.left_out |= unread
        found.granules += len(granules) + len(unread)
        for product in granules.values():
            _sort(product, period, tracks, platforms or PLATFORMS, polarisations, found)
    if found.left_out:
        warnings.warn(SceneWarning(_listing(found.left_out), found.left_out), stacklevel=4)
    items = of_period(found.items.values(), period)
    if not items:
        why = (
            f"in the archive of OPERA RTC-S1: of {found.granules} granules {found.outside} are of another period, "
            f"track, platform or direction, {len(found.left_out)} can't be used; give another period"
        )
        raise NothingFound(nothing_found(lake.id, period, why))
    return pystac.ItemCollection(items)


def download(items: Iterable[pystac.Item], folder: str | Path) -> pystac.ItemCollection:
    """Download the files of granules, so that they can be read without the network.

    Parameters
    ----------
    items
        As `find` returns them.
    folder
        Where to; made when absent. It can be given as ``folder:PATH`` afterwards.

    Returns
    -------
    pystac.ItemCollection
        The same items with the paths of their files; without those of which a file could not be had.

    Raises
    ------
    SourceError
        When no granule could be had, or another process is downloading into this folder.

    Warns
    -----
    SceneWarning
        Once, with the granules that could not be had and why.

    Notes
    -----
    Files that are there and have the archive's size cost nothing. Each arrives under another name, is checked and
    renamed; what was cut short goes on where it stopped. The first band comes when the rest of its granule is there,
    so that no granule is ever taken for complete without its mask.
    """
    from cubekit.sources import _earthdata, _http

    items, home = [one.clone() for one in items], Path(folder)
    files: list[dict[str, _http.RemoteFile]] = [
        {
            name: _http.RemoteFile(asset.href, home / _name(asset.href), asset.extra_fields.get(SIZE))
            for name, asset in one.assets.items()
        }
        for one in items
    ]
    session = _earthdata.session()
    failed: dict[Path, str] = {}
    for last in (False, True):
        wanted = [
            file
            for layers in files
            for name, file in layers.items()
            if (name == _first(layers)) is last and not failed.keys() & {other.path for other in layers.values()}
        ]
        failed |= _http.download_all(wanted, session=session)
    kept, left_out = [], {}
    for one, layers in zip(items, files, strict=True):
        if reasons := [failed[file.path] for file in layers.values() if file.path in failed]:
            left_out[one.id] = reasons[0]
            continue
        for name, file in layers.items():
            one.assets[name].href = str(file.path.resolve())
        kept.append(one)
    if left_out and not kept:
        name, reason = next(iter(left_out.items()))
        msg = f"none of {len(left_out)} granules could be downloaded: {name}: {reason}"
        raise SourceError(msg)
    if left_out:
        warnings.warn(SceneWarning(_listing(left_out), left_out), stacklevel=2)
    return pystac.ItemCollection(kept)


class Parameters(TypedDict, total=False):
    """What a URI may say of a search: see `find`."""

    tracks: tuple[int, ...]
    platforms: tuple[str, ...]
    direction: Direction
    polarisations: tuple[str, ...]


def parameters(query: str) -> Parameters:
    """What a URI says of a search, after its question mark.

    Raises
    ------
    ConfigError
        When a parameter isn't known, is given twice, or a track is not a number.

    Examples
    --------
    >>> parameters("tracks=12,121&polarisations=vv")
    {'tracks': (12, 121), 'polarisations': ('vv',)}
    """
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query))
        tracks = {name: tuple(int(one) for one in value.split(",")) for name, value in pairs if name == "tracks"}
    except ValueError:
        msg = f"the parameters {query!r} of opera are not understood; write tracks=12,121&polarisations=vv"
        raise ConfigError(msg) from None
    names = [name for name, _ in pairs]
    if (unknown := set(names) - Parameters.__annotations__.keys()) or len(set(names)) < len(names):
        allowed = ", ".join(Parameters.__annotations__)
        what = f"has no parameter {', '.join(sorted(unknown))}" if unknown else "has a parameter that is given twice"
        msg = f"the source opera {what}; allowed are {allowed}, each once"
        raise ConfigError(msg)
    texts = {name: tuple(value.split(",")) for name, value in pairs if name in {"platforms", "polarisations"}}
    return cast("Parameters", tracks | texts | {name: value for name, value in pairs if name == "direction"})


def _check(
    tracks: Sequence[int], platforms: Sequence[str], directions: Sequence[str], polarisations: Sequence[str]
) -> None:
    if wrong := [track for track in tracks if not 1 <= track <= REPEAT_ORBITS]:
        msg = f"tracks {wrong} don't exist; relative orbits are 1 to {REPEAT_ORBITS}"
        raise ConfigError(msg)
    for name, given, allowed in (
        ("platforms", platforms, PLATFORMS),
        ("direction", directions, _DIRECTIONS),
        ("polarisations", polarisations, _BANDS),
    ):
        if set(given) - set(allowed) or (name == "polarisations" and not given):
            msg = f"{name} {list(given)} are not allowed; give some of {', '.join(allowed)}"
            raise ConfigError(msg)


def _search(
    lake: Lake, period: Period, track: int | None, direction: Direction | None, processed_since: datetime | None
) -> tuple[dict[str, ASFProduct], dict[str, str]]:
    from cubekit.sources import _asf

    first, last = period
    options: dict[str, Any] = {
        "dataset": "OPERA-S1",
        "processingLevel": "RTC",
        "intersectsWith": box(*lake.aoi.bounds).wkt,
    }
    # With times: the client takes a bare day for its midnight, and would lose the last one.
    if first is not None:
        options["start"] = datetime.combine(first, time.min, UTC) - LONGEST_PASS
    if last is not None:
        options["end"] = datetime.combine(last, time.max, UTC) + LONGEST_PASS
    if track is not None:
        options["relativeOrbit"] = track
    if direction is not None:
        options["flightDirection"] = direction.upper()
    if processed_since is not None:
        options["processingDate"] = f"{processed_since.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
    what = f"the search for OPERA granules of {lake.id}" + (f" on track {track}" if track else "")
    return _asf.search(options, what=what)


def _sort(
    product: ASFProduct,
    period: Period,
    tracks: Sequence[int],
    platforms: Sequence[str],
    polarisations: Sequence[str],
    found: _Found,
) -> None:
    """Take a granule into the items, when it is of use and no newer processing of it is known."""
    name = str(product.properties["fileID"])
    layers = _layers(product)
    wanted = {layer: file for layer, file in layers.items() if layer == "mask" or layer in polarisations}
    bands = [layer for layer in wanted if layer != "mask"]
    if not bands:
        found.left_out[name] = f"it has none of {', '.join(polarisations)}"
        return
    one = wanted[bands[0]][1]
    if one.platform not in platforms or (tracks and one.track not in tracks) or not near(one.start, period):
        found.outside += 1
        return
    if one.platform in CALIBRATED and one.start.date() < CALIBRATED[one.platform]:
        found.left_out[name] = f"{one.platform} is calibrated from {CALIBRATED[one.platform]} only"
        return
    made = _item(product, one, {layer: url for layer, (url, _) in wanted.items()})
    if isinstance(made, str):
        found.left_out[name] = made
        return
    known = found.items.get(made.properties["cubekit:scene"])
    if known is None or _age(made) > _age(known):
        found.items[made.properties["cubekit:scene"]] = made


def _layers(product: ASFProduct) -> dict[str, tuple[str, ProductFile]]:
    """Addresses of a granule's layers: told by their names, never by their place among the others."""
    layers = {}
    for url in product.find_urls(extension=".tif"):
        parsed = parse(_name(url))
        if isinstance(parsed, ProductFile) and parsed.family == "opera" and url.startswith("https://"):
            layers[parsed.layer] = url, parsed
    return layers


def _item(product: ASFProduct, one: ProductFile, hrefs: Mapping[str, str]) -> pystac.Item | str:
    told = {"ABSOLUTE_ORBIT_NUMBER": product.properties["orbit"]}
    told["ORBIT_PASS_DIRECTION"] = product.properties["flightDirection"]
    orbit = orbit_of(one, {name: str(value) for name, value in told.items() if value})
    if isinstance(orbit, str):
        return orbit
    if one.processed is None:
        return "its name does not tell when it was processed"
    outline: BaseGeometry = shape(product.geometry)
    made = item(one, orbit, outline, hrefs, processed=one.processed)
    sizes = product.properties["bytes"]
    for asset in made.assets.values():
        size = sizes.get(_name(asset.href), {}).get("bytes")
        if size:
            asset.extra_fields[SIZE] = int(size)
    return made


def _age(one: pystac.Item) -> tuple[str, str]:
    return str(one.properties["processing:datetime"]), one.id


def _first(layers: Mapping[str, object]) -> str:
    return next(band for band in _BANDS if band in layers)


def _name(href: str) -> str:
    return Path(urlsplit(href).path).name


def _listing(left_out: Mapping[str, str]) -> str:
    lines = [f"  {name}: {reason}" for name, reason in sorted(left_out.items())]
    if len(lines) > _SHOWN:
        lines[_SHOWN:] = [f"  and {len(lines) - _SHOWN} more"]
    return f"{len(left_out)} granules are left out:\n" + "\n".join(lines)
