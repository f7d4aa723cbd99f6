"""What an archive has of a lake beside what could be there: passes expected, found and usable, by track and year."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from typing import Any

import numpy as np
import pystac
import shapely
from shapely.geometry import shape

from cubekit.errors import SourceError
from cubekit.lakes import Lake
from cubekit.passes import group
from cubekit.sources import _geometry, find_scenes, opera, parse_period
from cubekit.sources._items import CALIBRATED

MIN_COVERED = 0.9
"""Part of the outline that the footprints of a usable pass cover: with less, a pass can't be one of a season's."""

_LAUNCH = date(2014, 10, 3)
# First day of the archives that begin later than the mission: OPERA needs SLCs of IPF 2.70 and newer.
_BEGINS = {"opera": date(2016, 4, 14)}


@dataclass(frozen=True)
class Coverage:
    """Passes of one track over a lake in one year.

    Parameters
    ----------
    track, direction
        Relative orbit, ``ascending`` or ``descending``; of optical sensors e.g. ``S2-R019`` and an empty direction.
    year
        UTC, of the start of the pass.
    expected
        At most: had every platform in service imaged the lake each time it came by. Where Sentinel-1B, and often
        Sentinel-1A before 2017, did not look, less was ever acquired. None where the track's swath doesn't reach the
        middle of the lake, and of optical sensors.
    found
        Passes of which the archive has a scene.
    usable
        Those that `unusable` has nothing against.
    """

    track: int | str
    direction: str
    year: int
    expected: int | None
    found: int
    usable: int


@dataclass(frozen=True)
class Overflight:
    """All scenes of one pass: as `cubekit.passes.Pass`, but also of sensors whose orbits aren't counted.

    Parameters
    ----------
    platform, track, direction, time
        As in `Coverage`; start of the first scene, UTC.
    scenes
        By time.
    """

    platform: str
    track: int | str
    direction: str
    time: datetime
    scenes: tuple[pystac.Item, ...]


@dataclass(frozen=True)
class Found:
    """What a search found.

    Parameters
    ----------
    lake, source
        What was searched.
    rows
        Counts by track and year.
    passes
        What was found, by time.
    """

    lake: Lake
    source: str
    rows: list[Coverage]
    passes: list[Overflight]

    def reasons(self) -> dict[str, int]:
        """How many passes are not usable, by reason."""
        return dict(Counter(reason for one in self.passes if (reason := unusable(self.lake, one))))

    def summary(self) -> dict[str, Any]:
        """Counts, and which passes are not usable and why, as JSON can hold it."""
        left_out = [
            {
                "platform": one.platform,
                "track": one.track,
                "time": f"{one.time:%Y-%m-%dT%H:%M:%SZ}",
                "granules": [scene.id for scene in one.scenes],
                "reason": reason,
            }
            for one in self.passes
            if (reason := unusable(self.lake, one))
        ]
        return {
            "lake": self.lake.id,
            "source": self.source,
            "coverage": [asdict(row) for row in self.rows],
            "unusable": left_out,
        }

    def features(self) -> list[dict[str, Any]]:
        """Footprints of all scenes, GeoJSON features in WGS84, without addresses: a signed one is a secret."""
        return [
            {
                "type": "Feature",
                "id": scene.id,
                "geometry": scene.geometry,
                "properties": {
                    "lake": self.lake.id,
                    "source": self.source,
                    "granule": scene.id,
                    "time": None if scene.datetime is None else f"{scene.datetime:%Y-%m-%dT%H:%M:%SZ}",
                    "platform": one.platform,
                    "track": one.track,
                    "absolute_orbit": scene.properties.get("sat:absolute_orbit"),
                    "direction": one.direction,
                    "processed": str(scene.properties["processing:datetime"]),
                    "unusable": unusable(self.lake, one),
                },
            }
            for one in self.passes
            for scene in one.scenes
        ]


def search(lake: Lake, source: str, start: str | date | None = None, end: str | date | None = None) -> Found:
    """Search an archive for a lake, and count what was found.

    Parameters
    ----------
    lake
        The lake.
    source
        As given to `find_scenes`.
    start, end
        First and last day, both inclusive, UTC. Open by default.

    Returns
    -------
    Found
        Counts and passes.

    Raises
    ------
    ConfigError, SourceError
        As `find_scenes`, and when scenes contradict each other.
    """
    items = list(find_scenes(lake, source, start, end))
    return Found(lake, source, coverage(lake, items, start, end, source=source), overflights(items))


def coverage(
    lake: Lake,
    items: Iterable[pystac.Item],
    start: str | date | None = None,
    end: str | date | None = None,
    *,
    source: str = "",
    today: date | None = None,
) -> list[Coverage]:
    """Passes expected, found and usable over a lake, by track and year.

    Parameters
    ----------
    lake
        The lake.
    items
        Scenes of it, of one archive, as `find_scenes` returns them for this period.
    start, end
        First and last day, both inclusive, UTC. By default from Sentinel-1's first to today.
    source
        Where the items are from, as given to `find_scenes`: of ``opera``, which begins on 2016-04-14, nothing is
        expected before, and only of what it is asked for.
    today
        Nothing is expected from tomorrow on; by default the day it is, UTC.

    Returns
    -------
    list of Coverage
        By track and year. Years without any pass are left out. Where all items are optical, no radar pass is expected.

    Raises
    ------
    ConfigError
        When the period is not understood.
    SourceError
        When scenes contradict each other (`cubekit.passes.group`).

    Notes
    -----
    Sentinel-1 repeats its track every 12 days with each platform. S1A is expected from 2014-10-03, S1B from 2016-10-01
    to 2021-12-22, S1C from 2025-05-20 (before it wasn't calibrated) but while it was moved in 2026; S1D isn't expected
    yet. Which tracks see a lake comes from a circular orbit, right to 10 km.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> for row in coverage(catalogue()["gokyo"], [], "2023-01-01", "2023-12-31"):
    ...     print(row.track, row.direction, row.year, row.expected, row.found)
    12 ascending 2023 31 0
    85 ascending 2023 30 0
    121 descending 2023 30 0
    """
    first, last = parse_period(start, end)
    items = list(items)
    scheme, asked = _asked(source)
    first = max(first or _LAUNCH, _LAUNCH, _BEGINS.get(scheme, _LAUNCH))
    last = min(last or date.max, today or datetime.now(UTC).date())
    tracks, platforms = asked.get("tracks", ()), asked.get("platforms", ())
    optical = bool(items) and all("cubekit:sensor" in item.properties for item in items)
    views = [] if optical else [view for view in _geometry.views(lake) if not tracks or view.track in tracks]
    views = [view for view in views if view.direction == asked.get("direction", view.direction)]
    directions: dict[int | str, str] = {view.track: view.direction for view in views}
    expected: Counter[tuple[int | str, int]] = Counter(
        (view.track, one.starts[0].year)
        for view in views
        for one in _geometry.passes(view, first, last, cycles=1, draws=_on_time)
        if not platforms or one.platform in platforms
    )
    found: Counter[tuple[int | str, int]] = Counter()
    usable: Counter[tuple[int | str, int]] = Counter()
    for one in overflights(items):
        key = (one.track, one.time.year)
        found[key] += 1
        usable[key] += unusable(lake, one) is None
        directions.setdefault(one.track, one.direction)
    seen = {track for track, _ in expected}
    return [
        Coverage(
            track=track,
            direction=directions[track],
            year=year,
            expected=expected[track, year] if track in seen else None,
            found=found[track, year],
            usable=usable[track, year],
        )
        for track, year in sorted(expected.keys() | found.keys(), key=_order)
    ]


def overflights(items: Iterable[pystac.Item]) -> list[Overflight]:
    """Group scenes into passes: radar as `cubekit.passes.group` does, optical scenes by platform, track and day.

    Parameters
    ----------
    items
        As `find_scenes` returns them. Of several processings of a radar scene the newest is kept.

    Returns
    -------
    list of Overflight
        By time.

    Raises
    ------
    SourceError
        When scenes contradict each other (`cubekit.passes.group`).
    """
    items = list(items)
    radar = group(item for item in items if "cubekit:sensor" not in item.properties)
    found = [Overflight(one.platform, one.track, one.direction, one.time, one.scenes) for one in radar]
    optical: dict[tuple[str, str, date], list[pystac.Item]] = {}
    for item in items:
        if "cubekit:sensor" in item.properties:
            key = (str(item.properties["platform"]), str(item.properties["cubekit:track"]), _time(item).date())
            optical.setdefault(key, []).append(item)
    for (platform, track, _), scenes in optical.items():
        ordered = tuple(sorted(scenes, key=lambda scene: (_time(scene), scene.id)))
        found.append(Overflight(platform, track, "", _time(ordered[0]), ordered))
    return sorted(found, key=lambda one: (one.time, one.platform))


def unusable(lake: Lake, one: Overflight) -> str | None:
    """Why a pass can't give an area of a lake, as far as its scenes' metadata tell.

    Parameters
    ----------
    lake
        The lake.
    one
        A pass, as `overflights` makes it.

    Returns
    -------
    str or None
        The reason, or None: then it is usable, unless its values (layover, shadow, clouds, holes) say otherwise. The
        footprint of a raster that was cut out is its frame, whether or not it is filled.
    """
    if one.time.date() < CALIBRATED.get(one.platform, date.min):
        return f"{one.platform} was not calibrated before {CALIBRATED[one.platform]}"
    footprint = shapely.union_all([shape(scene.geometry) for scene in one.scenes if scene.geometry])
    covered = footprint.intersection(lake.outline).area / lake.outline.area
    if covered < MIN_COVERED:
        return f"its footprint covers less than {MIN_COVERED:.0%} of the lake"
    return None


def _asked(source: str) -> tuple[str, opera.Parameters]:
    """The scheme of a source, and what it says of the search when it is ``opera``."""
    scheme, _, query = source.partition("?")
    return (scheme, opera.parameters(query)) if scheme == "opera" else (re.split(r"\W", source, maxsplit=1)[0], {})


def _time(item: pystac.Item) -> datetime:
    if item.datetime is None:
        msg = f"scene {item.id} has no datetime"
        raise SourceError(msg)
    return item.datetime


def _order(key: tuple[int | str, int]) -> tuple[bool, str, int]:
    """Radar first, by number; then the others."""
    track, year = key
    return (True, track, year) if isinstance(track, str) else (False, f"{track:03d}", year)


def _on_time(_platform: str, _orbit: int) -> np.random.Generator:
    """What delays a pass, by less than a second, is of no account for a count."""
    return np.random.default_rng(0)
