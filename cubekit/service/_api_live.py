"""What is served at this moment, as the state tells it: looked up only when the state has changed."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from sqlalchemy import func, select

from cubekit.config import Study
from cubekit.lakes import Lake
from cubekit.pipeline import study_lakes
from cubekit.service._api_answer import tag_of
from cubekit.service.state import Alert, AlertEvent, Release, State, newest_release

LOCKED_SECONDS = 0.2
"""How long to wait for the state, which readers hardly ever have to."""


@dataclass(frozen=True)
class View:
    """One moment.

    Parameters
    ----------
    version
        Grows with every change of what is served.
    releases
        The newest of each lake that has one.
    token
        Of all releases and alerts: the same as long as none of them changes.
    changed
        When the last of them did.
    """

    version: int
    releases: Mapping[str, Release]
    token: str
    changed: datetime | None


@dataclass
class Live:
    """The state of a study, watched.

    Parameters
    ----------
    study
        Whose.
    state
        Of the study.
    lakes
        By id.
    """

    study: Study
    state: State
    lakes: Mapping[str, Lake] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.lakes = self.lakes or study_lakes(self.study)
        self.spelled = _spellings(self.lakes)
        # SQLite tells this connection, in microseconds, whether any other one has committed since.
        self._teller = sqlite3.connect(
            self.state.path, timeout=LOCKED_SECONDS, isolation_level=None, check_same_thread=False
        )
        self._lock = threading.Lock()
        self._told = self._data_version()
        self._view = self._load(View(0, {}, "", None))

    def close(self) -> None:
        """Close the state."""
        self._teller.close()
        self.state.close()

    def view(self) -> View:
        """The present moment.

        Raises
        ------
        sqlite3.Error, sqlalchemy.exc.DBAPIError
            When the state can't be read.
        """
        told = self._data_version()
        if told != self._told:
            with self._lock:
                self._view = self._load(self._view)
                self._told = told
        return self._view

    def release(self, lake: str, as_of: datetime | None) -> Release | None:
        """What is served of a lake, now or at a moment; reads the state in the latter case."""
        if as_of is None:
            return self.view().releases.get(lake)
        with self.state.read() as session:
            return newest_release(session, lake, as_of)

    def _data_version(self) -> int:
        return int(self._teller.execute("PRAGMA data_version").fetchone()[0])

    def _load(self, before: View) -> View:
        with self.state.read() as session:
            newest = {name: newest_release(session, name) for name in self.lakes}
            events = session.execute(select(func.max(AlertEvent.id), func.max(AlertEvent.recorded))).one()
            seen = session.execute(select(func.count(Alert.acknowledged), func.max(Alert.acknowledged))).one()
        releases = {name: release for name, release in newest.items() if release is not None}
        token = tag_of(*(release.id for release in releases.values()), *events, *seen)
        times = [*(release.created for release in releases.values()), *(_utc(row[1]) for row in (events, seen))]
        changed = max((time for time in times if time is not None), default=None)
        return before if before.token == token else View(before.version + 1, releases, token, changed)


def _utc(moment: datetime | None) -> datetime | None:
    return None if moment is None else moment.astimezone(UTC)


def _spellings(lakes: Mapping[str, Lake]) -> dict[str, str]:
    """Lakes by their ids, and by these without underscores, where that is one lake's alone."""
    short = [name.replace("_", "") for name in lakes]
    spelled = {one: name for one, name in zip(short, lakes, strict=True) if short.count(one) == 1}
    return spelled | {name: name for name in lakes}
