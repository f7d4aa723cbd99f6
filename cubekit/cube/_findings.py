"""What is wrong with a cube, in words, and what mends it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from cubekit.cube.store import first_line


class Remedy(StrEnum):
    """What mends a finding."""

    FETCH = "fetch"
    SEGMENT = "segment"
    PUBLISH = "publish"
    ROLL_BACK = "roll back"
    EXPIRE = "expire"
    NONE = "none"


ADVICE = {
    Remedy.FETCH: "--repair blanks the pass; `cubekit run` or append then reads its granules again",
    Remedy.SEGMENT: "--repair makes it pending; `cubekit run` segments it anew",
    Remedy.PUBLISH: "--repair publishes again",
    Remedy.ROLL_BACK: "--repair goes back to the newest snapshot that is whole; `cubekit run` adds what came since",
    Remedy.EXPIRE: "not repairable: `cubekit expire` forgets old snapshots",
    Remedy.NONE: "",
}


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, or to be known.

    Parameters
    ----------
    part
        ``repository``, ``passes``, ``water/<model>``, ``history`` or ``published``.
    variable
        Of that part, or the snapshot; empty where all of the part is meant.
    problem
        In words.
    remedy
        What mends it.
    row
        Where the pass is stored (not its place in time), where it is one pass.
    time
        Of that pass, if that can be read.
    granules
        Products that the pass was made of.
    wrong
        False for what is only to be known, such as passes that a model hasn't seen yet.
    """

    part: str
    variable: str
    problem: str
    remedy: Remedy
    row: int | None = None
    time: str = ""
    granules: tuple[str, ...] = ()
    wrong: bool = True


@dataclass
class Log:
    """Findings as they come."""

    findings: list[Finding] = field(default_factory=list)
    chunks: int = 0

    def add(self, part: str, variable: str, problem: str, remedy: Remedy, **more: Any) -> None:
        """Note a finding."""
        self.findings.append(Finding(part, variable, problem, remedy, **more))

    @contextmanager
    def unreadable(self, part: str, variable: str, remedy: Remedy, **more: Any) -> Iterator[None]:
        """Note what can't be read, and go on behind the block.

        Damage may bring any error, and Icechunk's panics are no `Exception`.
        """
        try:
            yield
        except (KeyboardInterrupt, SystemExit, GeneratorExit):
            raise
        except BaseException as error:
            reason = first_line(str(error)).partition("; see `cubekit verify")[0] or type(error).__name__
            self.add(part, variable, f"can't be read: {reason}", remedy, **more)

    def try_read(self, read: Callable[[], Any], part: str, variable: str, remedy: Remedy, **more: Any) -> Any:
        """What can be read, or None, and then it is noted."""
        found = None
        with self.unreadable(part, variable, remedy, **more):
            found = read()
        return found

    @property
    def wrong(self) -> bool:
        """Whether anything is wrong."""
        return any(finding.wrong for finding in self.findings)
