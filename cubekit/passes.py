"""Passes: all scenes of one platform and one absolute orbit over a lake are one time step, never a day.

At 87 degrees east the descending (00 UTC) and ascending (12 UTC) passes of a date share a solar day, and a pass may
cross midnight: only the orbit number tells passes apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pystac

from cubekit.errors import SourceError

PLATFORMS = ("sentinel-1a", "sentinel-1b", "sentinel-1c", "sentinel-1d")
"""Platforms by the order of their codes in a cube (0, 1, 2, 3)."""

REPEAT_ORBITS = 175
"""Orbits in one repeat cycle of 12 days."""

ORBIT_SECONDS = 12 * 86400 / REPEAT_ORBITS
"""Nodal period: 175 orbits in 12 days exactly, as the orbit is kept in its tube."""


@dataclass(frozen=True)
class _Regime:
    """A stretch of a platform's life in which the orbit was counted and phased the same way."""

    first: int  # first absolute orbit
    last: int | None
    offset: int  # relative orbit = (absolute orbit - offset) mod 175 + 1
    node: datetime  # ascending node of an orbit of this regime
    orbit: int  # that orbit


# Offsets: HyP3's own validation. The node of S1A is from the manifest of
# S1A_IW_GRDH_1SDV_20200103T233556_20200103T233621_030643_0382F7_C795. A relative orbit crosses the equator at the same
# place, so at the same time of day for every platform; the whole days between the platforms were found from scene
# names that carry both time and orbit (S1B + 6 days, S1C + 6 and since June 2026 + 1, S1D + 7).
_NODE_A = datetime(2020, 1, 3, 23, 29, 37, 865640, tzinfo=UTC)


def _shifted(days: int, track: int) -> datetime:
    """Node of `track` on a platform that follows S1A's cycle `days` later (track 121 is S1A's orbit 30643)."""
    return _NODE_A + timedelta(days=days, seconds=((track - 121) % REPEAT_ORBITS) * ORBIT_SECONDS)


_ORBITS: dict[str, tuple[_Regime, ...]] = {
    "sentinel-1a": (_Regime(2650, None, 73, _NODE_A, 30643),),
    "sentinel-1b": (_Regime(2000, 30175, 27, _shifted(-1146, 49), 3050),),
    "sentinel-1c": (
        _Regime(1600, 8018, 172, _shifted(2034, 130), 3451),
        _Regime(8019, None, 99, _shifted(2401, 36), 8884),
    ),
    "sentinel-1d": (_Regime(2400, None, 42, _shifted(2419, 85), 4326),),
}


def relative_orbit(platform: str, absolute_orbit: int) -> int:
    """Relative orbit (track) of an absolute orbit, 1 to 175.

    Parameters
    ----------
    platform
        ``sentinel-1a`` to ``sentinel-1d``.
    absolute_orbit
        Counted from launch, as in product names.

    Raises
    ------
    SourceError
        When the platform isn't known.

    Notes
    -----
    Offsets as in HyP3's validation: 73 (S1A), 27 (S1B), 172 up to orbit 8018 and 99 from then on (S1C, moved in June
    2026), 42 (S1D). Metadata, where there is any, wins over this table.

    Examples
    --------
    >>> relative_orbit("sentinel-1a", 30643)
    121
    """
    regime = _regime(platform, absolute_orbit)
    return (absolute_orbit - regime.offset) % REPEAT_ORBITS + 1


def absolute_orbit(platform: str, time: datetime) -> int:
    """Absolute orbit of a platform at a time, for products whose names carry no orbit.

    Parameters
    ----------
    platform
        ``sentinel-1a`` to ``sentinel-1d``.
    time
        UTC, with a time zone.

    Raises
    ------
    SourceError
        When the platform isn't known, or its orbit was not in its tube at that time (before it was operational, or
        while it was being moved): then the orbit isn't known.

    Notes
    -----
    175 orbits take 12 days exactly. Right to about a second at the equator crossing, where the count changes; lakes
    are minutes away from it.

    Examples
    --------
    >>> absolute_orbit("sentinel-1a", datetime(2020, 1, 3, 23, 35, 56, tzinfo=UTC))
    30643
    """
    for regime in _regimes(platform):
        orbit = regime.orbit + (time - regime.node) // timedelta(seconds=ORBIT_SECONDS)
        if orbit >= regime.first and (regime.last is None or orbit <= regime.last):
            return orbit
    msg = (
        f"the absolute orbit of {platform} at {time:%Y-%m-%dT%H:%M:%SZ} isn't known: it was not on its reference orbit"
    )
    raise SourceError(msg)


def ascending_node(platform: str, orbit: int) -> datetime:
    """Time (UTC) at which an absolute orbit starts: its crossing of the equator northwards.

    Parameters
    ----------
    platform
        ``sentinel-1a`` to ``sentinel-1d``.
    orbit
        Absolute orbit.
    """
    regime = _regime(platform, orbit)
    return regime.node + (orbit - regime.orbit) * timedelta(seconds=ORBIT_SECONDS)


def _regime(platform: str, orbit: int) -> _Regime:
    regimes = _regimes(platform)
    return next((regime for regime in regimes if regime.last is None or orbit <= regime.last), regimes[-1])


def _regimes(platform: str) -> tuple[_Regime, ...]:
    try:
        return _ORBITS[platform]
    except KeyError:
        msg = f"platform {platform!r} isn't known; allowed are {', '.join(PLATFORMS)}"
        raise SourceError(msg) from None


@dataclass(frozen=True)
class Pass:
    """All scenes of one platform and absolute orbit over a lake: one time step of a cube.

    Parameters
    ----------
    platform, absolute_orbit
        The key of the pass.
    track
        Relative orbit.
    direction
        ``ascending`` or ``descending``.
    time
        Start of the first scene, UTC.
    processed
        The newest processing time among the scenes, UTC.
    scenes
        Newest processing of each, by time then name.
    """

    platform: str
    absolute_orbit: int
    track: int
    direction: str
    time: datetime
    processed: datetime
    scenes: tuple[pystac.Item, ...]

    @property
    def key(self) -> tuple[int, int]:
        """Code of the platform and absolute orbit, as stored in a cube."""
        return PLATFORMS.index(self.platform), self.absolute_orbit

    @property
    def granules(self) -> tuple[str, ...]:
        """Names of the products, sorted."""
        return tuple(sorted(scene.id for scene in self.scenes))


def group(items: Iterable[pystac.Item]) -> list[Pass]:
    """Group scenes into passes, and keep the newest processing of each scene.

    Parameters
    ----------
    items
        Scenes with the properties that design.md's "scene" lists.

    Returns
    -------
    list of Pass
        By time.

    Raises
    ------
    SourceError
        When scenes of one pass disagree on their relative orbit or direction, when it can't be told which of two
        products of one scene is the newer, or when a scene is not Sentinel-1's.

    Notes
    -----
    Two products are processings of the same scene when they agree in ``cubekit:scene`` (platform, orbit, and the
    burst for OPERA or start time and polarisation for HyP3). Of those the one with the newest ``processing:datetime``
    stays, whatever the order of the input. Scenes are then taken by start, which is also the order in which a pass is
    mosaicked.
    """
    newest: dict[str, pystac.Item] = {}
    for item in items:
        if "cubekit:sensor" in item.properties:
            msg = (
                f"{item.id} is of {item.properties['cubekit:sensor']}, and a cube holds Sentinel-1; "
                "open optical scenes with cubekit.cube.optical.open_scenes"
            )
            raise SourceError(msg)
        scene = str(item.properties["cubekit:scene"])
        known = newest.get(scene)
        if known is not None and known.id != item.id and _processing(item) == _processing(known):
            msg = f"{known.id} and {item.id} are the same scene, and neither tells that it is the newer; remove one"
            raise SourceError(msg)
        if known is None or _processing(item) > _processing(known):
            newest[scene] = item
    grouped: dict[tuple[str, int], list[pystac.Item]] = {}
    for item in newest.values():
        key = (str(item.properties["platform"]), int(item.properties["sat:absolute_orbit"]))
        grouped.setdefault(key, []).append(item)
    return sorted((_pass(*key, scenes) for key, scenes in grouped.items()), key=lambda p: (p.time, p.key))


def _pass(platform: str, orbit: int, scenes: Sequence[pystac.Item]) -> Pass:
    tracks = {int(scene.properties["sat:relative_orbit"]) for scene in scenes}
    directions = {str(scene.properties["sat:orbit_state"]) for scene in scenes}
    if len(tracks) > 1 or len(directions) > 1:
        msg = (
            f"scenes of {platform} orbit {orbit} disagree: relative orbits {sorted(tracks)}, {sorted(directions)}; "
            f"look at {', '.join(sorted(scene.id for scene in scenes))}"
        )
        raise SourceError(msg)
    ordered = tuple(sorted(scenes, key=lambda scene: (_time(scene), scene.id)))
    return Pass(
        platform=platform,
        absolute_orbit=orbit,
        track=tracks.pop(),
        direction=directions.pop(),
        time=_time(ordered[0]),
        processed=max(_processing(scene) for scene in ordered),
        scenes=ordered,
    )


def _time(item: pystac.Item) -> datetime:
    if item.datetime is None:
        msg = f"scene {item.id} has no datetime"
        raise SourceError(msg)
    return item.datetime


def _processing(item: pystac.Item) -> datetime:
    return datetime.fromisoformat(str(item.properties["processing:datetime"]))
