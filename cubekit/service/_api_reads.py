"""What is read of the lakes for an answer: documents, made of a release and of the alerts at one moment."""

from __future__ import annotations

import json
from datetime import datetime
from typing import Any

from cubekit.config import Study
from cubekit.lakes import Lake
from cubekit.service._api_alerts import count_open
from cubekit.service._api_cache import Recent
from cubekit.service._api_images import corners, geojson
from cubekit.service._api_live import Live
from cubekit.service._api_release import COLUMNS, Tables, within
from cubekit.service.state import Release, newest_release

READ = 64
"""Releases whose tables are kept in memory."""


class Reader:
    """Reads releases.

    Parameters
    ----------
    study
        Whose.
    live
        Its state.
    """

    def __init__(self, study: Study, live: Live) -> None:
        self._study, self._live = study, live
        self._tables: Recent[str, Tables] = Recent(READ)

    def tables(self, release: Release) -> Tables:
        """The tables of a release."""
        found = self._tables.get(release.id)
        if found is None:
            found = Tables(self._study.study.out, release)
            self._tables.put(release.id, found)
        return found

    def lakes(self, as_of: datetime | None) -> dict[str, Any]:
        """All lakes in short."""
        with self._live.state.read() as session:
            newest = {name: newest_release(session, name, as_of) for name in self._live.lakes}
            alerts = count_open(session, list(self._live.lakes), as_of)
        return {
            "lakes": [self._short(lake, newest[name], alerts.get(name, 0)) for name, lake in self._live.lakes.items()]
        }

    def lake(self, lake: Lake, as_of: datetime | None) -> dict[str, Any]:
        """One lake at length."""
        with self._live.state.read() as session:
            release = newest_release(session, lake.id, as_of)
            alerts = count_open(session, [lake.id], as_of).get(lake.id, 0)
        short = self._short(lake, release, alerts) | {"aoi": geojson(lake.aoi)}
        names = ("model", "model_hash", "snapshot", "config_hash")
        if release is None:
            unknown = {"lake": "nothing is released of it yet"}
            empty = dict.fromkeys((*names, "volume", "image_corners"))
            return {**short, "per_track": [], "unknown": unknown, **empty}
        tables = self.tables(release)
        told = tables.told
        per_track = [{name: value for name, value in row.items() if name != "lake"} for row in told["tracks"]]
        return {
            **short,
            "image_corners": corners(lake.at_spacing(int(told["preprocessing"]["spacing"]))),
            "per_track": per_track,
            "unknown": told["not_known"],
            **{name: getattr(release, name) for name in names},
            "volume": tables.volume,
        }

    def series(
        self, release: Release, start: datetime | None, end: datetime | None, track: int | None
    ) -> dict[str, Any] | None:
        """The series of a lake; None when nothing lies in the period."""
        tables = self.tables(release)
        rows = tables.chosen(start, end, track)
        if not rows:
            return None
        fused = [row for row in tables.table("fused") if within(row["time"], start, end)] if track is None else []
        wanted = ("time", "area_km2", "area_low", "area_high")
        mine = {str(track)} if track is not None else None
        return {
            "lake": release.lake,
            "columns": list(COLUMNS),
            "rows": [one.cells for one in rows],
            "fused": [{name: row[name] for name in wanted} for row in fused],
            "seasons": [row for row in tables.seasons if mine is None or row["track"] in mine],
            "trends": [row for row in tables.trends if mine is None or row["track"] in mine],
        }

    def dates(self, release: Release, track: int | None) -> dict[str, Any] | None:
        """The passes of a lake; None when there is none."""
        wanted = ("time", "track", "observed_fraction", "area_km2", "state")
        rows = self.tables(release).chosen(None, None, track)
        return {"dates": [{name: one.cells[name] for name in wanted} for one in rows]} if rows else None

    def _short(self, lake: Lake, release: Release | None, alerts: int) -> dict[str, Any]:
        point = lake.outline.representative_point()
        tables = None if release is None else self.tables(release)
        return {
            "id": lake.id,
            "name": lake.title,
            "centroid": (round(point.x, 6), round(point.y, 6)),
            "outline": geojson(lake.outline),
            "altitude_m": lake.altitude,
            "source": None if release is None else release.source,
            "tracks": [] if tables is None else sorted({one.track for one in tables.passes}),
            "passes": 0 if tables is None else len(tables.passes),
            "latest": None if tables is None else tables.latest,
            "trend": None if tables is None else tables.trend,
            "open_alerts": alerts,
            "release": None if release is None else {"id": release.id, "created": exact(release.created)},
        }


def exact(moment: datetime) -> str:
    """A moment to the microsecond: what as_of= finds again."""
    return f"{moment:%Y-%m-%dT%H:%M:%S.%fZ}"


def encoded(document: dict[str, Any]) -> bytes:
    """A document as JSON."""
    return json.dumps(document, separators=(",", ":"), allow_nan=False, ensure_ascii=False).encode()
