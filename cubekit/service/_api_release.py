"""The tables of a release, as the API tells them."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

from cubekit.products import paths
from cubekit.results import FAIR, FUSED
from cubekit.service.releases import DESCRIPTION
from cubekit.service.state import Release
from cubekit.tables import PROVENANCE

OF_AREAS = ("time", "track", "platform", "area_km2", "area_low", "area_high", "area_subpixel_km2", "observed_fraction")
OF_PASSES = ("state", "state_probability", "expected_km2", "anomaly_km2")
COLUMNS = OF_AREAS + OF_PASSES
"""Of a row of the series."""

LINES = 256
"""Lines of a table that are sent together."""

_WHOLE = {"track", "year", "n", "passes", "passes_excluded"}
_TEXTS = {"time", "platform", "state", "state_then", "statistic", "verdict", "scatter_verdict", "time_of_maximum"}
_TEXTS |= {"scaling", "source", "provenance"}


class Pass(NamedTuple):
    """One row of the series."""

    time: datetime
    track: int
    cells: dict[str, Any]


class Tables:
    """What a release has written of its lake; read once.

    Parameters
    ----------
    out
        The study's folder.
    release
        Whose.
    """

    def __init__(self, out: Path, release: Release) -> None:
        self.release = release
        self.folder = out / release.folder
        self._series = self.folder / "series" / release.source

    @cached_property
    def told(self) -> dict[str, Any]:
        """What the release says of itself."""
        found: dict[str, Any] = json.loads((self.folder / DESCRIPTION).read_text(encoding="utf-8"))
        return found

    @cached_property
    def passes(self) -> list[Pass]:
        """All passes, by time."""
        found = []
        for area, further in zip(self.table("areas"), self.table("passes"), strict=True):
            cells = {name: area[name] for name in OF_AREAS} | {name: further[name] for name in OF_PASSES}
            found.append(Pass(datetime.fromisoformat(area["time"]), area["track"], cells))
        return found

    def table(self, name: str) -> list[dict[str, Any]]:
        """Rows of a table: numbers, texts, None where a cell is empty; without lake, granules and provenance."""
        with (self._series / f"{name}.csv").open(encoding="utf-8", newline="") as file:
            return [_typed(row) for row in csv.DictReader(file)]

    def chosen(self, start: datetime | None, end: datetime | None, track: int | None) -> list[Pass]:
        """The passes of a period, both ends included, and of a track."""
        return [
            one
            for one in self.passes
            if (start is None or start <= one.time)
            and (end is None or one.time <= end)
            and (track is None or one.track == track)
        ]

    def lines(self, start: datetime | None, end: datetime | None, track: int | None) -> Iterator[bytes]:
        """The batch job's own rows of a period and of a track, below their header; some at a time."""
        wanted = None if track is None else str(track)
        with (self._series / "areas.csv").open("rb") as file:
            ready = [file.readline()]
            for line in file:
                _, time, of_track, _ = line.split(b",", 3)
                if wanted in {None, of_track.decode()} and within(time.decode(), start, end):
                    ready.append(line)
                if len(ready) >= LINES:
                    yield b"".join(ready)
                    ready = []
        if ready:
            yield b"".join(ready)

    def pass_of(self, start: datetime, end: datetime, track: int | None) -> tuple[int, Pass] | None:
        """The pass of a day or a moment, and its place: of several that which saw most, then the later one."""
        found = [
            (place, one)
            for place, one in enumerate(self.passes)
            if start <= one.time <= end and track in {None, one.track}
        ]
        return max(found, key=lambda each: (each[1].cells["observed_fraction"] or 0.0, each[1].time), default=None)

    def newest(self, track: int | None) -> tuple[int, Pass] | None:
        """The newest pass, and its place."""
        found = [(place, one) for place, one in enumerate(self.passes) if track in {None, one.track}]
        return found[-1] if found else None

    @cached_property
    def latest(self) -> dict[str, Any] | None:
        """The newest pass whose area is known."""
        wanted = ("time", "track", "area_km2", "area_low", "area_high", "state", "observed_fraction")
        known = [one.cells for one in self.passes if one.cells["area_km2"] is not None]
        return {name: known[-1][name] for name in wanted} if known else None

    @cached_property
    def trends(self) -> list[dict[str, Any]]:
        """Trends of every statistic, by track, and of all tracks."""
        fused = [{**row, "track": FUSED} for row in self.table("fused_trends")]
        return [{**row, "track": str(row["track"])} for row in (*fused, *self.table("trends"))]

    @cached_property
    def trend(self) -> dict[str, Any] | None:
        """The trend that heads the results: of all tracks, or else of the one that sees most."""
        wanted = ("track", "statistic", "slope", "slope_low", "slope_high", "p_value", "n", "verdict")
        fair = {row["track"]: row for row in self.trends if row["statistic"] == FAIR}
        seen = sorted(self.told["tracks"], key=lambda row: (row["track"] != FUSED, -(row["seen"] or 0.0)))
        for row in seen:
            if (found := fair.get(str(row["track"]))) is not None:
                return {name: found[name] for name in wanted}
        return None

    @cached_property
    def seasons(self) -> list[dict[str, Any]]:
        """Statistics of the seasons, by track, and of all tracks."""
        fused = [{**row, "track": FUSED, "observed_fraction": None} for row in self.table("fused_maxima")]
        return [{**row, "track": str(row["track"])} for row in (*fused, *self.table("maxima"))]

    @cached_property
    def volume(self) -> dict[str, Any] | None:
        """What the newest season's area says of the volume, 10^6 m3, by published scalings."""
        rows = self.table("volumes")
        if not rows:
            return None
        year = max(row["year"] for row in rows)
        mine = [row for row in rows if row["year"] == year]
        wanted = ("scaling", "volume", "volume_low", "volume_high", "source", "provenance")
        estimates = [{name: row[name] for name in wanted} for row in mine]
        return {"year": year, "area_km2": mine[0]["area_km2"], "unit": "10^6 m3", "estimates": estimates}

    def outline(self, place: int) -> bytes:
        """The shore of a pass: a GeoJSON feature, as the release has it."""
        path = self.folder / paths(self.release.lake, self.release.source)["outlines"]
        with path.open("rb") as file:
            file.seek(self._features[place])
            return file.readline().rstrip(b",\n")

    @cached_property
    def _features(self) -> list[int]:
        """Where the features begin: one a line and a pass, below the first line."""
        path = self.folder / paths(self.release.lake, self.release.source)["outlines"]
        starts, here = [], 0
        with path.open("rb") as file:
            for line in file:
                if line.startswith(b'{"type": "Feature",'):
                    starts.append(here)
                here += len(line)
        return starts


def within(time: str, start: datetime | None, end: datetime | None) -> bool:
    """Whether the time of a row lies in a period, both ends included."""
    moment = datetime.fromisoformat(time)
    return (start is None or start <= moment) and (end is None or moment <= end)


def _typed(row: dict[str, str]) -> dict[str, Any]:
    left_out = {"lake", "granules", *PROVENANCE}
    return {name: _cell(name, text) for name, text in row.items() if name not in left_out}


def _cell(name: str, text: str) -> Any:
    if not text:
        return None
    if name in _TEXTS:
        return text
    if name in _WHOLE:
        return int(float(text))
    if text in {"True", "False"}:
        return text == "True"
    return float(text)
