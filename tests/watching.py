"""A lake that is watched: an archive into which granules come one by one, one lake that drains, and a clock.

As a script it is what is killed: it follows orders, one a line, each in a fork of its own, as `crashing` does.
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))  # as a script

import factories
import numpy as np
from forks import say, serve
from rasterio.warp import transform_bounds
from servers import Answer, Request, Service, serving
from servers.cmr import Granule, opera_granule
from shapely.geometry import box
from sqlalchemy import select

from cubekit import cube
from cubekit.config import Study
from cubekit.lakes import catalogue
from cubekit.passes import absolute_orbit
from cubekit.service.context import Context
from cubekit.service.state import Alert, AlertEvent, Delivery, Release, State, newest_release
from cubekit.service.watch import watch

LAKE = catalogue()["tsho_rolpa"].at_spacing(30)
SECRET = "a secret of a webhook"
LIVE = datetime(2019, 6, 1, tzinfo=UTC)
"""When the service looks for the first time."""

FIRST_121 = datetime(2019, 1, 9, 0, 11, 35, tzinfo=UTC)
FIRST_12 = datetime(2019, 1, 1, 12, 14, 8, tzinfo=UTC)
LATENCY = timedelta(hours=6)
_NAMED = {"snapshot", "config_hash"}


def times(start: datetime, end: datetime) -> list[tuple[datetime, str, str]]:
    """Passes of two platforms on two tracks in a period: when, by whom, and the burst that sees the lake."""
    found = []
    for first, burst in ((FIRST_121, "T121-257648-IW2"), (FIRST_12, "T012-023790-IW1")):
        for platform, days in (("S1A", 0), ("S1B", 6)):
            cycles = range((start - first).days // 12 - 1, (end - first).days // 12 + 2)
            moments = [first + timedelta(days=12 * cycle + days) for cycle in cycles]
            found += [(moment, platform, burst) for moment in moments if start <= moment < end]
    return sorted(found)


def image(number: int, share: float) -> np.ndarray:
    """The lake, calm and dark, of which the lowest `share` has drained."""
    values = factories.dark_lake(LAKE, number)
    if share:
        rows = np.flatnonzero(np.pad(LAKE.outline_mask.values, 10).any(axis=1))
        dry = rows[-max(1, round(share * len(rows))) :]
        land = np.random.default_rng(1000 + number).gamma(6, 0.16 / 6, values.shape)
        values[dry] = land[dry]
    return values.astype("float32")


def granule(folder: Path, moment: datetime, platform: str, burst: str, *, share: float = 0.0) -> list[Path]:
    """One granule of the lake."""
    number = int(moment.timestamp() // 60) % 2**31
    orbit = absolute_orbit({"S1A": "sentinel-1a", "S1B": "sentinel-1b"}[platform], moment)
    stamp, values = f"{moment:%Y%m%dT%H%M%S}", image(number, share)
    return factories.opera(folder, LAKE, stamp, values=values, burst=burst, platform=platform, orbit=orbit)


@dataclass
class Coming:
    """Granules on their way into an archive: each moves there when it is processed."""

    store: Path
    folder: Path
    due: dict[datetime, list[Path]] = field(default_factory=dict)

    def come(self, now: datetime) -> int:
        """Let arrive what is processed by now; how many granules did."""
        self.folder.mkdir(parents=True, exist_ok=True)
        arrived = [moment for moment in sorted(self.due) if moment <= now]
        for moment in arrived:
            # The first band last: without the others the granule is not there.
            for path in sorted(self.due.pop(moment), key=lambda path: "_VV" in path.name):
                shutil.copy(path, self.folder / f".{path.name}")
                (self.folder / f".{path.name}").rename(self.folder / path.name)
        return len(arrived)


def passes() -> list[tuple[datetime, str, str]]:
    """A month before the service first looks, and a month after."""
    return times(LIVE - timedelta(days=30), LIVE + timedelta(days=30))


def simulate(store: Path) -> None:
    """Make the granules of those passes; from day 10 to day 20 of the service a third of the lake is gone."""
    for moment, platform, burst in passes():
        drained = LIVE + timedelta(days=10) <= moment < LIVE + timedelta(days=20)
        granule(store, moment, platform, burst, share=0.35 if drained else 0.0)


def on_their_way(store: Path, folder: Path) -> Coming:
    """Those granules, of which none is there yet."""
    made = Coming(store, folder)
    for moment, platform, burst in passes():
        files = sorted(store.glob(f"OPERA_*_{burst}_{moment:%Y%m%dT%H%M%S}Z_*_{platform}_*"))
        assert len(files) == 2
        made.due[moment + LATENCY] = files
    return made


def catalogued(folder: Path, url: Callable[[str], str]) -> list[Granule]:
    """The granules of a folder as the archive's catalogue has them."""
    left, bottom, right, top = transform_bounds(LAKE.epsg, 4326, *LAKE.lattice.boundingbox)
    found = []
    for first in sorted(folder.glob("OPERA_*_VV.tif")):
        name = first.name.removesuffix("_VV.tif")
        files = {path.name: path.stat().st_size for path in sorted(folder.glob(f"{name}_*.tif"))}
        moment = datetime.strptime(name.split("_")[4], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        platform = {"S1A": "sentinel-1a", "S1B": "sentinel-1b"}[name.split("_")[6]]
        orbit, direction = absolute_orbit(platform, moment), "ascending" if "_T012" in name else "descending"
        outline = box(left, bottom, right, top)
        found.append(opera_granule(name, files, outline, orbit=orbit, direction=direction, url=url))
    return found


def study(home: Path, uri: str | None = None, **service: object) -> Study:
    """A study of the lake, of which all areas are known: dark is water."""
    document = {
        "study": {"name": "watched", "out": str(home / "out")},
        "lake": [{"id": LAKE.id}],
        "source": {"uri": uri or f"folder:{home / 'archive'}"},
        "preprocess": {"looks": 6.0},
        "model": {"path": "otsu"},
        "service": service,
    }
    return Study.parse(document)


@dataclass
class Clock:
    """A clock that goes when it is told to, and a second further each time that it is read."""

    moment: datetime

    def __call__(self) -> datetime:
        self.moment += timedelta(seconds=1)
        return self.moment


class Hook(Service):
    """A webhook: keeps what it is told, and says no as often as it is told to."""

    def answer(self, request: Request) -> Answer:
        return Answer(204)

    @property
    def told(self) -> list[tuple[str, bytes]]:
        """Keys and bodies of what it has taken, in order."""
        taken = [one for one in self.log if one.answer.status < 300]
        return [(str(one.request.headers["Idempotency-Key"]), one.request.body) for one in taken]


@contextmanager
def hooked() -> Iterator[tuple[Hook, str]]:
    """A webhook and its address."""
    hook = Hook()
    with serving(hook) as url:
        yield hook, f"{url}/lakes"


def check_served(out: Path) -> str | None:
    """What is served is whole, at whatever moment; the name of the release."""
    state = State.of(out)
    try:
        with state.read() as session:
            release = newest_release(session, LAKE.id)
            known = set(session.scalars(select(Release.id)))
            alerts = session.scalars(select(Alert)).all()
            events = session.scalars(select(AlertEvent)).all()
            deliveries = session.scalars(select(Delivery)).all()
    finally:
        state.close()
    if release is None:
        assert not alerts
        return None
    folder = out / release.folder
    told = json.loads((folder / "release.json").read_text())
    assert told["snapshot"] == release.snapshot
    rows = (folder / "series" / "opera" / "areas.csv").read_text().splitlines()
    assert len(rows) == told["passes"] + 1
    path = out / "cubes" / "opera" / LAKE.id
    passes = cube.open_cube(path, as_of=release.snapshot)
    water = cube.open_water(path, release.model, as_of=release.snapshot)
    assert passes.sizes["time"] == water.sizes["time"] == told["passes"]
    assert passes["time"].values.max() == np.datetime64(release.latest_pass.replace(tzinfo=None))
    assert {one.release for one in alerts} | {one.release for one in events} <= known
    assert {one.alert for one in events} == {one.id for one in alerts}
    stages = {(one.alert, one.stage) for one in events}
    assert len(stages) == len(events)
    assert all((one.id, one.stage) in stages for one in alerts)
    assert {one.event for one in deliveries} <= {one.id for one in events if not one.history}
    return release.id


@dataclass
class Reader:
    """Somebody who reads what is served, all along."""

    out: Path
    seen: set[str] = field(default_factory=set)
    checks: int = 0
    faults: list[BaseException] = field(default_factory=list)
    _done: threading.Event = field(default_factory=threading.Event)

    def run(self) -> None:
        while not self._done.is_set():
            try:
                if (self.out / "service" / "state.sqlite").exists():
                    name = check_served(self.out)
                    self.seen |= {name} if name else set()
                    self.checks += 1
            except BaseException as error:
                self.faults.append(error)
                raise
            self._done.wait(0.25)

    @contextmanager
    def reading(self) -> Iterator[Reader]:
        thread = threading.Thread(target=self.run, daemon=True)
        thread.start()
        try:
            yield self
        finally:
            self._done.set()
            thread.join()
        assert not self.faults, self.faults


def outcome(out: Path) -> dict[str, object]:
    """What a service has come to, but for when: passes, areas, alerts, their steps, and what was told to whom."""
    state = State.of(out)
    with state.read() as session:
        release = newest_release(session, LAKE.id)
        assert release is not None
        alerts = {one.id: (one.sign, one.stage, one.outcome) for one in session.scalars(select(Alert))}
        events = sorted((one.alert, one.stage, one.history) for one in session.scalars(select(AlertEvent)))
        told = sorted(
            (one.alert, one.stage, delivery.state)
            for delivery, one in session.execute(select(Delivery, AlertEvent).join(AlertEvent)).all()
        )
    state.close()
    dataset = cube.open_cube(out / "cubes" / "opera" / LAKE.id).drop_vars("ingested").load()
    return {
        "passes": dataset,
        "tables": {
            path.name: without_snapshot(path)
            for path in sorted((out / release.folder / "series" / "opera").glob("*.csv"))
        },
        "outlines": outline_rows(next((out / release.folder / "outlines" / "opera").glob("*.geojson"))),
        "alerts": alerts,
        "events": events,
        "told": told,
    }


def without_snapshot(path: Path) -> list[dict[str, str]]:
    """Rows of a table without what has a name of its own each time: the snapshot, and the folder's in the study."""
    with path.open(newline="") as file:
        return [{name: text for name, text in row.items() if name not in _NAMED} for row in csv.DictReader(file)]


def outline_rows(path: Path) -> list[str]:
    """Outlines without the same."""
    features = json.loads(path.read_text())["features"]
    for one in features:
        one["properties"] = {name: value for name, value in one["properties"].items() if name not in _NAMED}
    return [json.dumps(one, sort_keys=True) for one in features]


def no_figures() -> None:
    """Draw nothing: what is drawn is tested elsewhere, and takes most of the time of a small cycle."""
    from cubekit import products

    products._draw_series = lambda *_: set()
    products._draw_maps = lambda *_: set()


def work(path: str, moment: str, once: bool) -> None:
    """Watch once, or until somebody ends it, from a moment on."""
    no_figures()
    context = Context.of(Study.load(path), now=Clock(datetime.fromisoformat(moment)))
    say(f"start {os.getpid()}")
    if once:
        watch(context, once=True)
    else:
        from cubekit.service.watch import ending_on_signals

        with ending_on_signals(context):
            watch(context)
    context.state.close()


if __name__ == "__main__":
    import matplotlib.figure  # noqa: F401  what a cycle loads late
    import rasterio.warp  # noqa: F401
    import stackstac  # noqa: F401

    import cubekit.plots  # noqa: F401

    serve(work)
