"""The service as it is deployed: three processes, the archive at ASF (served here), a webhook, and who looks at it."""

from __future__ import annotations

import csv
import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import requests
import watching
import yaml
from archives import Asf, at_asf
from servers.files import Earthdata
from sqlalchemy import func, select
from watching import LAKE, LIVE

from cubekit import pipeline, products
from cubekit.service.state import Job, Look, Release, State

INTERVAL = 2.0
"""Seconds between two looks: an hour, in the world."""


@pytest.fixture
def asf(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asf]:
    (tmp_path / "archive").mkdir()
    with at_asf(Earthdata(tmp_path / "archive"), [], tmp_path, monkeypatch) as there:
        yield there


@contextmanager
def running(study: Path, port: int, logs: Path) -> Iterator[list[subprocess.Popen[str]]]:
    """The three services of compose.yaml, by their own entry points; all end with 0 when they are asked to."""
    here = {"/etc/cubekit/study.toml": str(study), "0.0.0.0": "127.0.0.1", "8000": str(port)}
    services = yaml.safe_load((Path(__file__).parents[1] / "compose.yaml").read_text())["services"]
    assert [service["command"][0] for service in services.values()] == ["watch", "infer", "serve"]
    processes = []
    for service in services.values():
        with (logs / f"{service['command'][0]}.log").open("w") as log:
            words = [sys.executable, "-m", "cubekit.cli", *(here.get(word, word) for word in service["command"])]
            processes.append(subprocess.Popen(words, stderr=log, text=True))
    try:
        yield processes
        for process in processes:
            process.send_signal(signal.SIGTERM)
        assert [process.wait(60) for process in processes] == [0, 0, 0]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def until(ask: Callable[[], Any], alive: list[subprocess.Popen[str]], seconds: float = 180) -> Any:
    """Ask again and again; a process that ended is told at once."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        found = ask()
        if found:
            return found
        assert [process.poll() for process in alive] == [None] * len(alive)
        time.sleep(0.05)
    raise AssertionError("it did not happen in time")


def arrive(coming: watching.Coming, asf: Asf, moment: datetime) -> None:
    """Let the archive have what is processed by then, and say that it has it since now."""
    coming.come(moment)
    known = {one["umm"]["GranuleUR"]: one["meta"]["revision-date"] for one in asf.cmr.granules}
    granules = watching.catalogued(asf.folder, asf.data.url)
    for one in granules:
        one["meta"]["revision-date"] = known.get(one["umm"]["GranuleUR"], f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%S.%fZ}")
    asf.cmr.granules = granules


@dataclass
class Viewer:
    """Somebody who looks at the latest image, and into the state."""

    home: str
    out: Path

    def latest(self) -> tuple[datetime, str] | None:
        """The time of the pass whose image is served, and the image's tag."""
        try:
            answer = requests.get(f"{self.home}/images/{LAKE.id}/latest", timeout=30)
        except requests.ConnectionError:
            return None
        if answer.status_code != 200:
            return None
        assert answer.content[:4] == b"\x89PNG"
        return datetime.fromisoformat(answer.headers["x-pass-time"]), answer.headers["etag"]

    def shows(self, moment: datetime) -> str | None:
        """The tag of the latest image, once it is of that pass."""
        found = self.latest()
        return found[1] if found is not None and found[0] == moment else None

    def settled(self) -> bool:
        """Whether every job is done."""
        with closing(State.of(self.out)) as state, state.read() as session:
            return set(session.scalars(select(Job.state))) == {"done"}

    def since(self, moment: datetime) -> tuple[list[int], int]:
        """What each look appended that began after a moment, and how many releases were made after it."""
        with closing(State.of(self.out)) as state, state.read() as session:
            looks = select(Look.appended).where(Look.started >= moment).order_by(Look.started)
            made = select(func.count()).select_from(Release).where(Release.created >= moment)
            return list(session.scalars(looks)), session.scalar(made) or 0


@pytest.mark.parametrize("live", [2, pytest.param(10, marks=pytest.mark.slow)])
def test_three_processes_are_one_service(
    asf: Asf, tmp_path: Path, live: int, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """Granules appear one by one; each is on the latest image within a cycle; areas are the batch job's."""
    watching.simulate(tmp_path / "store")
    coming = watching.on_their_way(tmp_path / "store", asf.folder)
    moments = [moment for moment in sorted(coming.due) if moment > LIVE][:live]
    arrive(coming, asf, LIVE)
    path = tmp_path / "study.toml"
    path.write_text(watching.study(tmp_path, "opera", interval_minutes=INTERVAL / 60).dump())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    viewer, seconds = Viewer(f"http://127.0.0.1:{port}", tmp_path / "out"), []
    with running(path, port, tmp_path) as processes:
        newest, tag = until(viewer.latest, processes)
        assert newest == max(moment for moment, *_ in watching.passes() if moment + watching.LATENCY <= LIVE)
        for moment in moments:
            until(viewer.settled, processes)
            came, clock = datetime.now(UTC), time.monotonic()
            arrive(coming, asf, moment)
            changed = until(partial(viewer.shows, moment - watching.LATENCY), processes)
            seconds.append(round(time.monotonic() - clock, 1))
            # Within a cycle: the first look after it came has found it, and the release after that look has it.
            looks, releases = viewer.since(came)
            assert (looks[0], releases) == (1, 1)
            assert changed != tag
            tag = changed
        ready = requests.get(f"{viewer.home}/ready", timeout=30)
        assert (ready.status_code, ready.json()) == (200, {"status": "ready"})
        told = subprocess.run([sys.executable, "-m", "cubekit.cli", "ready", str(path)], capture_output=True, text=True)
        assert (told.returncode, told.stdout) == (0, "ready\n"), told.stderr
        assert requests.get(viewer.home, timeout=30).text.lower().startswith("<!doctype html>")
        served = requests.get(f"{viewer.home}/lakes/{LAKE.id}/series", params={"format": "csv"}, timeout=30).text
    record_property("seconds_to_latest", seconds)
    for name in ("watch", "infer"):  # nothing but what was to be told
        log = (tmp_path / f"{name}.log").read_text()
        assert {json.loads(line)["level"] for line in log.splitlines()} == {"info"}, log
    batch = watching.study(tmp_path / "batch", "opera")
    for name in ("_draw_series", "_draw_maps"):
        monkeypatch.setattr(products, name, lambda *_: set())
    assert not pipeline.run(batch).failed
    for name, rows in watching.outcome(tmp_path / "out")["tables"].items():
        assert rows == watching.without_snapshot(batch.study.out / "series" / "opera" / name), name
    areas = [row["area_km2"] for row in watching.without_snapshot(batch.study.out / "series" / "opera" / "areas.csv")]
    assert len(areas) == 10 + live
    assert [float(row["area_km2"]) for row in csv.DictReader(served.splitlines())] == list(map(float, areas))
