"""Radar products as STAC items, in the one shape that all archives give them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pystac
from shapely.geometry import mapping
from shapely.geometry.base import BaseGeometry

from cubekit.errors import SourceError
from cubekit.passes import ORBIT_SECONDS, REPEAT_ORBITS, absolute_orbit, ascending_node, relative_orbit
from cubekit.sources import Period
from cubekit.sources.names import ProductFile

UNKNOWN_PROCESSING = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for a processing time that a product does not tell: older than any other."""

LONGEST_PASS = timedelta(minutes=30)
"""A pass over a lake is shorter than this, whatever the number of scenes."""

CALIBRATED = {"sentinel-1c": date(2025, 5, 20)}
"""First day from which a platform's data may enter a series: before it they were not calibrated."""


def item(
    product: ProductFile,
    orbit: Mapping[str, int | str],
    outline: BaseGeometry,
    hrefs: Mapping[str, str],
    *,
    processed: datetime,
    source: str | None = None,
) -> pystac.Item:
    """One product as a STAC item.

    Parameters
    ----------
    product
        What its name says.
    orbit
        As `orbit_of` gives it.
    outline
        Its footprint in WGS84.
    hrefs
        Where its layers (``vv``, ``vh``, ``mask``) are.
    processed
        When it was processed, UTC.
    source
        What its cubes are made from; by default the product's family.

    Returns
    -------
    pystac.Item
        With the properties of design.md's "scene" but for ``proj:*``, which only a header tells, and with
        ``cubekit:scene`` (the same for two processings of a scene), ``cubekit:source``, ``cubekit:spacing``,
        ``cubekit:speckle_filter`` and ``cubekit:mask_coding``.
    """
    made = pystac.Item(
        id=product.product,
        geometry=mapping(outline),
        bbox=list(outline.bounds),
        datetime=product.start,
        properties={
            "platform": product.platform,
            **orbit,
            "processing:datetime": processed.isoformat(),
            "cubekit:scene": f"{product.platform}_{orbit['sat:absolute_orbit']}_{product.scene}",
            "cubekit:source": source or product.family,
            "cubekit:spacing": product.spacing,
            "cubekit:speckle_filter": product.speckle_filter,
            "cubekit:mask_coding": product.family,
        },
    )
    for layer, href in sorted(hrefs.items()):
        roles = ["data-mask"] if layer == "mask" else ["data"]
        made.add_asset(layer, pystac.Asset(href, media_type=pystac.MediaType.GEOTIFF, roles=roles))
    return made


def orbit_of(product: ProductFile, tags: Mapping[str, str]) -> dict[str, int | str] | str:
    """Orbit numbers and direction: from the metadata where it has them, else from the time.

    Parameters
    ----------
    product
        What its name says.
    tags
        ``ABSOLUTE_ORBIT_NUMBER`` and ``ORBIT_PASS_DIRECTION``, where they are known.

    Returns
    -------
    dict or str
        The properties ``sat:*``, or the reason why the product is of no use.
    """
    try:
        orbit = int(tags.get("ABSOLUTE_ORBIT_NUMBER") or absolute_orbit(product.platform, product.start))
    except SourceError as error:
        return str(error)
    except ValueError:
        return f"its tag ABSOLUTE_ORBIT_NUMBER is {tags['ABSOLUTE_ORBIT_NUMBER']!r}, not a number"
    computed = relative_orbit(product.platform, orbit)
    track = product.track or computed
    # The count changes at the equator, where the time is right to a second only: there the name wins.
    off = (track - computed + REPEAT_ORBITS // 2) % REPEAT_ORBITS - REPEAT_ORBITS // 2
    if abs(off) > 1 or (off and "ABSOLUTE_ORBIT_NUMBER" in tags):
        return f"its name says relative orbit {track}, its absolute orbit {orbit} is on {computed}"
    orbit += off
    since_node = (product.start - ascending_node(product.platform, orbit)).total_seconds() / ORBIT_SECONDS
    computed_direction = "descending" if 0.25 <= since_node % 1 < 0.75 else "ascending"
    direction = tags.get("ORBIT_PASS_DIRECTION", computed_direction).lower()
    if direction not in {"ascending", "descending"}:
        return f"its tag ORBIT_PASS_DIRECTION is {direction!r}, neither ascending nor descending"
    return {"sat:absolute_orbit": orbit, "sat:relative_orbit": track, "sat:orbit_state": direction}


def near(time: datetime, period: Period) -> bool:
    """Whether a scene of this time may belong to a pass that starts in a period."""
    first, last = period
    return (first is None or (time + LONGEST_PASS).date() >= first) and (
        last is None or (time - LONGEST_PASS).date() <= last
    )


def of_period(items: Iterable[pystac.Item], period: Period) -> list[pystac.Item]:
    """Items of the passes that start in a period, by time: a pass may cross midnight, and is not cut there."""
    passes: dict[tuple[str, int], list[pystac.Item]] = {}
    for one in items:
        key = (str(one.properties["platform"]), int(one.properties["sat:absolute_orbit"]))
        passes.setdefault(key, []).append(one)
    first, last = period
    kept: list[pystac.Item] = []
    for scenes in passes.values():
        day = min(scene.datetime for scene in scenes if scene.datetime).date()
        if (first is None or day >= first) and (last is None or day <= last):
            kept += scenes
    return sorted(kept, key=lambda one: (one.datetime or UNKNOWN_PROCESSING, one.id))


def nothing_found(what: str, period: Period, why: str) -> str:
    """The message of a search that found nothing."""
    first, last = period
    return f"no scene of {what} between {first or 'the beginning'} and {last or 'today'} {why}"


def grid(epsg: int, shape: Iterable[int], transform: Iterable[float]) -> dict[str, Any]:
    """The properties ``proj:*`` of a raster."""
    return {"proj:code": f"EPSG:{epsg}", "proj:shape": list(shape), "proj:transform": list(transform)[:6]}
