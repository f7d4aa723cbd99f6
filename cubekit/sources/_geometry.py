"""Which tracks see a lake, when and in which bursts: the geometry of the simulated archive.

Notes
-----
Circular orbit and spherical Earth, right to about 10 km and 2 s. The local time of the node and the reach of the swath
are fitted to the footprint in the manifest of S1A's orbit 30643; preamble and length of a burst cycle are those of
ESA's numbering of the bursts.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta

import numpy as np

from cubekit.errors import ConfigError, SourceError
from cubekit.lakes import Lake
from cubekit.passes import ORBIT_SECONDS, REPEAT_ORBITS, absolute_orbit, ascending_node, relative_orbit

# First and last day on which each platform delivers; OPERA has none of the earlier, uncalibrated data of S1C.
_SERVICE: Mapping[str, tuple[date, date]] = {
    "sentinel-1a": (date(2014, 10, 3), date.max),
    "sentinel-1b": (date(2016, 10, 1), date(2021, 12, 22)),
    "sentinel-1c": (date(2025, 5, 20), date.max),
}
_INCLINATION, _NODE_HOUR, _EARTH_RATE = math.radians(98.18), 18.02, 2 * math.pi / 86164.1
_NEAR, _FAR, _EARTH_RADIUS = 365.0, 624.0, 6371.0  # reach of the swath from nadir, on the ground, km
_PREAMBLE, _BURST = 2.299849, 2.758273  # s
_SCENE_LEAD = 12.5  # s from the start of a scene to the lake: HyP3 is given scenes of 25 s


@dataclass(frozen=True)
class View:
    """How a track sees a lake: direction, seconds from ascending node to closest approach, km from nadir to lake."""

    track: int
    direction: str
    seconds: float
    ground_range: float

    @property
    def bursts(self) -> tuple[int, ...]:
        """ESA numbers of the bursts that cover the lake: one, or two when descending."""
        first = 1 + int((self.seconds + (self.track - 1) * ORBIT_SECONDS - _PREAMBLE) // _BURST)
        return (first,) if self.direction == "ascending" else (first, first + 1)

    @property
    def swath(self) -> str:
        """Sub-swath, ``IW1`` to ``IW3``."""
        return f"IW{1 + min(2, int(3 * (self.ground_range - _NEAR) / (_FAR - _NEAR)))}"

    def start(self, burst: int) -> timedelta:
        """Time from the ascending node to the start of a burst."""
        return timedelta(seconds=_PREAMBLE + (burst - 1) * _BURST - (self.track - 1) * ORBIT_SECONDS)

    def starts(self, in_bursts: bool) -> tuple[timedelta, ...]:
        """Times from the ascending node to the start of each burst, or of the scene that has the lake in its middle."""
        if in_bursts:
            return tuple(self.start(burst) for burst in self.bursts)
        return (timedelta(seconds=self.seconds - _SCENE_LEAD),)


@dataclass(frozen=True)
class Pass:
    """One pass of a platform over a lake: when each of its products starts (UTC), and when they were processed."""

    platform: str
    orbit: int
    view: View
    starts: tuple[datetime, ...]
    processed: datetime


def views(lake: Lake) -> list[View]:
    """All tracks in whose swath a lake lies."""
    latitude, longitude = map(math.radians, lake.centre)
    latitude = math.atan((1 - 1 / 298.257) ** 2 * math.tan(latitude))  # geocentric
    seconds = np.arange(0, ORBIT_SECONDS)
    u = 2 * math.pi * seconds / ORBIT_SECONDS
    east = np.arctan2(math.cos(_INCLINATION) * np.sin(u), np.cos(u)) - _EARTH_RATE * seconds
    north = np.arcsin(math.sin(_INCLINATION) * np.sin(u))
    nadir = np.stack([np.cos(north) * np.cos(east), np.cos(north) * np.sin(east), np.sin(north)], axis=-1)
    left = np.cross(nadir, np.gradient(nadir, axis=0))
    found = []
    for track in range(1, REPEAT_ORBITS + 1):
        node = ascending_node("sentinel-1a", 30643 + track - 121)  # orbit 30643 is on track 121
        hours = node.hour + node.minute / 60 + node.second / 3600
        local = longitude - math.radians(15 * (_NODE_HOUR - hours))  # Sentinel-1's nodes are at 18:01 local time
        point = np.array(
            [math.cos(latitude) * math.cos(local), math.cos(latitude) * math.sin(local), math.sin(latitude)]
        )
        closest = int(np.argmax(nadir @ point))
        reach = _EARTH_RADIUS * math.acos(float(nadir[closest] @ point))
        if left[closest] @ point < 0 and _NEAR <= reach <= _FAR:  # it looks to the right
            direction = "descending" if 0.25 <= seconds[closest] / ORBIT_SECONDS < 0.75 else "ascending"
            found.append(View(track, direction, float(seconds[closest]), reach))
    return found


def chosen(lake: Lake, tracks: Sequence[int] | None) -> list[View]:
    """The views of these tracks, or of the nearest ascending and the nearest descending one."""
    seen = {view.track: view for view in views(lake)}
    if tracks is not None:
        if not tracks or set(tracks) - set(seen):
            msg = f"tracks {list(tracks)}: {lake.id} is seen by {sorted(seen)} only; give some of these"
            raise ConfigError(msg)
        return [seen[track] for track in dict.fromkeys(tracks)]
    nearest = sorted(seen.values(), key=lambda view: -view.ground_range)
    return list({view.direction: view for view in nearest}.values())


def passes(
    view: View,
    first: date,
    last: date,
    *,
    cycles: int,
    draws: Callable[[str, int], np.random.Generator],
    in_bursts: bool = True,
) -> Iterator[Pass]:
    """Passes of a track whose first product starts on one of these days.

    Parameters
    ----------
    view
        The track.
    first, last
        First and last day, both inclusive, UTC.
    cycles
        Every how many repeat cycles a platform delivers.
    draws
        Random numbers of a platform's absolute orbit, from their beginning.
    in_bursts
        Whether a pass is delivered in bursts, as OPERA's are, or in one scene.
    """
    for platform, (begins, ends) in _SERVICE.items():
        begin, end, once = max(first, begins), min(last, ends), timedelta(seconds=ORBIT_SECONDS)
        # An orbit may start before midnight and reach the lake after it.
        time = datetime(begin.year, begin.month, begin.day, tzinfo=UTC) - once
        while time.date() <= end or (time - once).date() <= end:
            time += once
            try:
                orbit = absolute_orbit(platform, time)
            except SourceError:  # the platform was being moved
                continue
            if ahead := (view.track - relative_orbit(platform, orbit)) % REPEAT_ORBITS:
                time += (ahead - 1) * once
                continue
            one = _pass(platform, orbit, view, draws(platform, orbit), in_bursts)
            if begin <= one.starts[0].date() <= end and delivered(orbit, cycles):
                yield one


def delivered(orbit: int, cycles: int) -> bool:
    """Whether an absolute orbit is of the repeat cycles, every `cycles`-th, in which a platform delivers."""
    return orbit // REPEAT_ORBITS % cycles == 0


def _pass(platform: str, orbit: int, view: View, draws: np.random.Generator, in_bursts: bool) -> Pass:
    late, latency = draws.random(2)
    node = ascending_node(platform, orbit) + timedelta(seconds=late)
    starts = tuple((node + since).replace(microsecond=0) for since in view.starts(in_bursts))
    return Pass(platform, orbit, view, starts, starts[-1] + timedelta(seconds=int(3600 * (3 + 9 * latency))))
