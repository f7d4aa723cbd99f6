"""What the parts of a running service share: the study, its state, the clock, and the wish to end."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from filelock import FileLock, Timeout

from cubekit.config import Study
from cubekit.errors import CubeConflict
from cubekit.lakes import Lake
from cubekit.pipeline import study_lakes
from cubekit.service.state import HOME, State

logger = logging.getLogger("cubekit.service")
"""What the service tells of itself; `extra` has the numbers, for logs that machines read."""

LOCK_SECONDS = 2.0
"""How long one process waits for another one's lock."""

Clock = Callable[[], datetime]
"""Gives the present, with a time zone."""


class Stopped(BaseException):
    """The service was asked to end, and what had to be finished is."""


def present() -> datetime:
    """The present, UTC."""
    return datetime.now(UTC)


@dataclass
class Context:
    """A running service.

    Parameters
    ----------
    study
        What it works for.
    state
        Of the study.
    now
        The clock.
    lakes
        Of the study, by id.
    stopping
        Set when the service is to end.
    """

    study: Study
    state: State
    now: Clock = present
    lakes: Mapping[str, Lake] = field(default_factory=dict)
    stopping: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.lakes = self.lakes or study_lakes(self.study)

    @classmethod
    def of(cls, study: Study, *, now: Clock = present) -> Context:
        """Open the state of a study.

        Raises
        ------
        ConfigError
            When a lake isn't known, or the state can't be opened.
        """
        return cls(study, State.of(study.study.out), now)

    @property
    def out(self) -> Path:
        """The study's folder."""
        return self.study.study.out

    def cube(self, lake: str, source: str) -> Path:
        """Where the living cube of a lake is."""
        return self.out / "cubes" / source / lake

    def check(self) -> None:
        """Go on, or not.

        Raises
        ------
        Stopped
            When the service is to end.
        """
        if self.stopping.is_set():
            raise Stopped

    def progress(self, lake: str, stage: str, done: int, total: int) -> None:
        """Told by the pipeline after each commit: a good moment to end."""
        logger.debug("%s: %s %d of %d", lake, stage, done, total)
        self.check()

    @contextmanager
    def alone(self, what: str) -> Iterator[None]:
        """Hold a lock that the system frees when the process dies.

        Raises
        ------
        CubeConflict
            When another process holds it.
        """
        path = self.out / HOME / f".{what}.lock"
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path, timeout=LOCK_SECONDS)
        try:
            lock.acquire()
        except Timeout:
            msg = f"another process is at {what} of the study in {self.out}; wait for it to end, or end it"
            raise CubeConflict(msg) from None
        try:
            yield
        finally:
            lock.release()
