"""Which Sentinel-1 scenes an order asks for: found at ASF, and chosen by month or taken all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time
from typing import Any, Literal

import shapely
from shapely.geometry import box, shape
from shapely.geometry.base import BaseGeometry

from cubekit.errors import ConfigError, SourceError
from cubekit.lakes import Lake
from cubekit.passes import REPEAT_ORBITS
from cubekit.sources import Period
from cubekit.sources._items import CALIBRATED, LONGEST_PASS, near, nothing_found
from cubekit.sources._orders import Order

Every = Literal["month", "pass"]
Direction = Literal["ascending", "descending"]

WHOLE = 0.999
"""Share of an AOI from which on it is seen whole: footprints are told by four corners."""

_GRANULE = re.compile(r"S1(?P<unit>[A-D])_IW_GRDH_1SDV_(?P<start>\d{8}T\d{6})_\d{8}T\d{6}_(?P<orbit>\d{6})_\w{6}_\w{4}")


@dataclass(frozen=True)
class Scene:
    """One Sentinel-1 GRD scene of the archive.

    Parameters
    ----------
    granule
        Its name of 67 characters, as HyP3 wants it.
    platform
        ``sentinel-1a`` to ``sentinel-1d``.
    orbit
        Absolute orbit: with the platform, the pass.
    track, direction, frame
        Relative orbit, ``ascending`` or ``descending``, ASF's frame.
    start
        UTC.
    footprint
        WGS84.
    """

    granule: str
    platform: str
    orbit: int
    track: int
    direction: Direction
    frame: int | None
    start: datetime
    footprint: BaseGeometry

    @property
    def key(self) -> tuple[str, int]:
        """The pass it belongs to."""
        return self.platform, self.orbit


def search(
    lake: Lake,
    period: Period,
    *,
    tracks: Sequence[int] = (),
    direction: Direction | None = None,
    frames: Sequence[int] = (),
) -> list[Scene]:
    """Find the scenes of a lake at ASF: GRD, high resolution, IW, VV and VH.

    Parameters
    ----------
    lake
        The lake; scenes that don't touch its AOI are left out.
    period
        First and last day, both inclusive, UTC.
    tracks, direction, frames
        Relative orbits, direction and ASF's frames; all by default.

    Returns
    -------
    list of Scene
        By time; of a scene that ESA has processed again only the newest. Sentinel-1C from before its calibration is
        left out.

    Raises
    ------
    ConfigError
        When a track doesn't exist.
    SourceError
        When the archive can't be had, answers what isn't understood, or has no scene.
    """
    from cubekit.sources import _asf

    if wrong := [track for track in tracks if not 1 <= track <= REPEAT_ORBITS]:
        msg = f"tracks {wrong} don't exist; relative orbits are 1 to {REPEAT_ORBITS}"
        raise ConfigError(msg)
    options: dict[str, Any] = {
        "dataset": "SENTINEL-1",
        "processingLevel": "GRD_HD",
        "beamMode": "IW",
        "polarization": "VV+VH",
        "intersectsWith": box(*lake.aoi.bounds).wkt,
    }
    first, last = period
    # With times: the client takes a bare day for its midnight, and would lose the last one.
    if first is not None:
        options["start"] = datetime.combine(first, time.min, UTC) - LONGEST_PASS
    if last is not None:
        options["end"] = datetime.combine(last, time.max, UTC) + LONGEST_PASS
    if direction is not None:
        options["flightDirection"] = direction.upper()
    newest: dict[str, tuple[str, Scene]] = {}
    for track in tracks or (None,):
        for frame in frames or (None,):
            one = {"relativeOrbit": track, "frame": frame}
            given = {name: value for name, value in one.items() if value is not None}
            what = f"the search for Sentinel-1 scenes of {lake.id}"
            what += "".join(f", {name} {value}" for name, value in (("track", track), ("frame", frame)) if value)
            found, unread = _asf.search({**options, **given}, what=what)
            if unread:
                name, reason = next(iter(unread.items()))
                msg = f"{what} is incomplete: of {len(unread)} scenes {reason}, e.g. {name}; try again later"
                raise SourceError(msg)
            for product in found.values():
                processed, scene = _scene(product.properties, product.geometry, product.umm)
                known = newest.get(scene.granule.rpartition("_")[0])
                if known is None or (processed, scene.granule) > (known[0], known[1].granule):
                    newest[scene.granule.rpartition("_")[0]] = processed, scene
    scenes = _of_period((scene for _, scene in newest.values()), period)
    if not scenes:
        raise SourceError(
            nothing_found(lake.id, period, "in the archive of Sentinel-1 GRD; give another period or track")
        )
    return scenes


def _scene(properties: Mapping[str, Any], geometry: Mapping[str, Any], umm: Mapping[str, Any]) -> tuple[str, Scene]:
    """When it was processed, and what it is."""
    granule = str(properties.get("sceneName"))
    parsed = _GRANULE.fullmatch(granule)
    direction = str(properties.get("flightDirection") or "").lower()
    track, frame = properties.get("pathNumber"), properties.get("frameNumber")
    try:
        footprint = shape(dict(geometry))
    except (KeyError, TypeError, ValueError, IndexError, AttributeError):
        footprint = shapely.Polygon()
    if parsed is None or direction not in {"ascending", "descending"} or track is None or footprint.is_empty:
        msg = f"the archive describes {granule!r} in a way that is not understood (name, track, direction, footprint)"
        raise SourceError(msg)
    times = [
        str(attribute["Values"][0])
        for attribute in umm.get("AdditionalAttributes", ())
        if attribute.get("Name") == "PROCESSING_DATE" and attribute.get("Values")
    ]
    return (times or [""])[0], Scene(
        granule=granule,
        platform=f"sentinel-1{parsed['unit'].lower()}",
        orbit=int(parsed["orbit"]),
        track=int(track),
        direction="ascending" if direction == "ascending" else "descending",
        frame=None if frame is None else int(frame),
        start=datetime.strptime(parsed["start"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC),
        footprint=footprint,
    )


def _of_period(scenes: Iterable[Scene], period: Period) -> list[Scene]:
    """Scenes of passes that start in the period: a pass may cross midnight, and is not cut there."""
    first, last = period
    passes: dict[tuple[str, int], list[Scene]] = {}
    for scene in scenes:
        calibrated = CALIBRATED.get(scene.platform, date.min)
        if near(scene.start, period) and scene.start.date() >= calibrated:
            passes.setdefault(scene.key, []).append(scene)
    kept: list[Scene] = []
    for members in passes.values():
        day = min(scene.start for scene in members).date()
        if (first is None or day >= first) and (last is None or day <= last):
            kept += members
    return sorted(kept, key=lambda scene: (scene.start, scene.granule))


@dataclass(frozen=True)
class Choice:
    """What is ordered for one lake.

    Parameters
    ----------
    orders
        One a scene.
    passes
        How many passes they are of, and how many there are.
    partial
        Passes by track that see only a part of the AOI, and are not ordered.
    """

    orders: tuple[Order, ...]
    passes: tuple[int, int]
    partial: Mapping[int, int]


def choose(lake: Lake, scenes: Iterable[Scene], every: Every, *, known: Iterable[Order] = ()) -> Choice:
    """Choose which scenes of a lake to order.

    Parameters
    ----------
    lake
        The lake. A pass counts when its scenes show the whole AOI: usually one does, two where a slice ends above it.
    scenes
        Those of `search`.
    every
        ``pass`` takes all. ``month`` takes, of every track and calendar month (UTC), the pass nearest to the middle of
        the month, the earlier of two as near: so that the series is as even as the orbit allows.
    known
        Scenes that are ordered or planned already. They, and with ``month`` their months, are not chosen again.

    Returns
    -------
    Choice
        New orders by time.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> choose(catalogue()["gokyo"], [], "month").orders
    ()
    """
    mine = [order for order in known if lake.id in order.lakes]
    ordered = {order.scene for order in mine}
    taken = {_month(order.track, order.start) for order in mine}
    passes: dict[tuple[str, int], list[Scene]] = {}
    for scene in sorted(scenes, key=lambda scene: (scene.start, scene.granule)):
        passes.setdefault(scene.key, []).append(scene)
    partial: dict[int, int] = {}
    candidates: list[list[Scene]] = []
    for members in passes.values():
        if needed := _needed(lake, members):
            candidates.append(needed)
        else:
            partial[members[0].track] = partial.get(members[0].track, 0) + 1
    if every == "month":
        nearest: dict[tuple[int, int, int], list[Scene]] = {}
        for members in candidates:
            month = _month(members[0].track, members[0].start)
            if month in taken:
                continue
            if month not in nearest or _off(members[0].start) < _off(nearest[month][0].start):
                nearest[month] = members
        candidates = list(nearest.values())
    chosen = [[scene for scene in members if scene.granule.rpartition("_")[0] not in ordered] for members in candidates]
    orders = tuple(_order(lake, scene) for members in chosen for scene in members)
    return Choice(orders, (sum(bool(members) for members in chosen), len(passes)), partial)


def _needed(lake: Lake, members: Sequence[Scene]) -> list[Scene]:
    """The scenes of a pass that show the whole AOI, as few as can be; none when even all don't."""
    shares = {scene.granule: _share(lake, scene.footprint) for scene in members}
    best = max(members, key=lambda scene: shares[scene.granule])
    if shares[best.granule] >= WHOLE:
        return [best]
    needed = [scene for scene in members if shares[scene.granule] > 0]
    together = shapely.union_all([scene.footprint for scene in needed]) if needed else None
    return needed if together is not None and _share(lake, together) >= WHOLE else []


def _share(lake: Lake, footprint: BaseGeometry) -> float:
    return float(footprint.intersection(lake.aoi).area / lake.aoi.area)


def _month(track: int, start: datetime) -> tuple[int, int, int]:
    return track, start.year, start.month


def _off(start: datetime) -> float:
    """Seconds from the middle of its month."""
    first = datetime(start.year, start.month, 1, tzinfo=UTC)
    following = datetime(start.year + start.month // 12, start.month % 12 + 1, 1, tzinfo=UTC)
    return abs((start - first - (following - first) / 2).total_seconds())


def _order(lake: Lake, scene: Scene) -> Order:
    return Order(
        granule=scene.granule,
        lakes=(lake.id,),
        track=scene.track,
        direction=scene.direction,
        frame=scene.frame,
        start=scene.start,
    )


def merge(orders: Iterable[Order], new: Iterable[Order]) -> tuple[Order, ...]:
    """Add orders; a scene that several lakes want is ordered once, for all of them."""
    merged = {order.scene: order for order in orders}
    for order in new:
        if known := merged.get(order.scene):
            lakes = tuple(sorted({*known.lakes, *order.lakes}))
            merged[order.scene] = known.model_copy(update={"lakes": lakes})
        else:
            merged[order.scene] = order
    return tuple(merged.values())
