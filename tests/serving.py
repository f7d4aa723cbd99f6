"""A small study that the service has watched: two releases of one lake, none of another, alerts, a key."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import factories
import pytest

from cubekit import plots
from cubekit.config import Study
from cubekit.lakes import catalogue
from cubekit.service.context import Context
from cubekit.service.keys import add_key
from cubekit.service.state import Alert, AlertEvent, Release, State, newest_release
from cubekit.service.watch import watch

LAKE = catalogue()["tsho_rolpa"].at_spacing(30)
FIRST = ("20200714T001135", "20200726T001135", "20200807T001135", "20210709T001135", "20210721T001135")
"""Track 121."""
ASCENDING = "20210721T121355"
"""Track 128, on the day of the last one."""
LATEST = "20210802T001135"
"""Comes late: in the second release only."""
ALERT = "tsho_rolpa-20210721T001135Z-drop"
BEGUN = datetime(2026, 1, 1, 12, tzinfo=UTC)
"""When the service first looked; an hour later again."""


@dataclass(frozen=True)
class Served:
    """What there is to serve."""

    study: Study
    key: str
    releases: tuple[Release, Release]


def scene(folder: Path, start: str) -> None:
    """A granule of a calm lake."""
    burst = "T128-024518-IW2" if start == ASCENDING else "T121-257648-IW2"
    values = factories.dark_lake(LAKE, int(start[4:8]))
    factories.opera(folder, LAKE, start, values=values, burst=burst, vh=start != ASCENDING)


def study_of(home: Path, **service: Any) -> Study:
    """Two lakes; there are scenes of one."""
    return Study.parse(
        {
            "study": {"name": "served", "out": home / "out"},
            "lake": [{"id": "tsho_rolpa"}, {"id": "gokyo"}],
            "source": {"uri": f"folder:{home / 'scenes'}"},
            "model": {"path": "otsu"},
            "service": {"cap_sender": "lakes@example.org", **service},
        }
    )


@contextmanager
def without_figures() -> Iterator[None]:
    """They take most of the time of a release, and no test looks at them."""
    with pytest.MonkeyPatch.context() as patch:
        for name in plots.__all__:
            patch.setattr(plots, name, lambda *_, **__: None)
        yield


def look(study: Study, now: datetime) -> Release:
    """One cycle at some moment."""
    context = Context.of(study, now=lambda: now)
    with without_figures():
        watch(context, once=True)
    with context.state.read() as session:
        made = newest_release(session, "tsho_rolpa")
    context.state.close()
    assert made is not None
    return made


def warn(state: State, release: Release) -> None:
    """An alert with two events."""
    at = datetime(2021, 7, 21, 0, 11, 35, tzinfo=UTC)
    numbers = {"value": 1.2, "expected": 1.5, "change": -0.2, "deviations": -4.0, "track": "121"}
    with state.write() as session:
        session.add(
            Alert(
                id=ALERT,
                lake="tsho_rolpa",
                sign="drop",
                stage="confirmed",
                opened=at,
                decided=at + timedelta(hours=12),
                confirmed=at + timedelta(hours=12),
                release=release.id,
                **numbers,
            )
        )
        session.flush()
        for stage, hours in (("first", 0), ("confirmed", 12)):
            session.add(
                AlertEvent(
                    alert=ALERT,
                    stage=stage,
                    at=at + timedelta(hours=hours),
                    recorded=BEGUN + timedelta(hours=hours),
                    release=release.id,
                    history=False,
                    **numbers,
                )
            )


_made: list[Served] = []


def shared(factory: pytest.TempPathFactory) -> Served:
    """One for all tests of a process, which leave it as it is."""
    if not _made:
        _made.append(make(factory.mktemp("served")))
    return _made[0]


def copied(served: Served, home: Path) -> Served:
    """One for a test that changes it."""
    shutil.copytree(served.study.study.out, home / "out")
    options = served.study.study.model_copy(update={"out": home / "out"})
    return replace(served, study=served.study.model_copy(update={"study": options}))


def make(home: Path) -> Served:
    """Watch twice."""
    study = study_of(home)
    for start in (*FIRST, ASCENDING):
        scene(home / "scenes", start)
    first = look(study, BEGUN)
    scene(home / "scenes", LATEST)
    second = look(study, BEGUN + timedelta(hours=1))
    state = State.of(study.study.out)
    key = add_key(state, "warden")
    warn(state, first)
    state.close()
    return Served(study, key, (first, second))


@contextmanager
def running(app: Any) -> Iterator[str]:
    """The app on a real server; its address."""
    import uvicorn

    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_config=None, ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    try:
        while not server.started:
            time.sleep(0.01)
        yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()
