"""Dead letters: granules that can't be used, with their reasons, tried again with ever longer waits."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import pystac
from sqlalchemy import Select, select
from sqlalchemy.orm import Session

from cubekit.errors import SceneWarning
from cubekit.passes import Pass
from cubekit.service.context import Context, logger
from cubekit.service.state import DeadLetter, Look

LONGEST_WAIT = timedelta(days=1)
"""Between two tries of what failed, until it was tried `service.max_attempts` times."""

GIVEN_UP = timedelta(days=7)
"""Between two tries of a granule from then on: an archive may mend what it has."""


@dataclass
class Found:
    """What a search brought, and what it left out by itself."""

    items: list[pystac.Item] = field(default_factory=list)
    left_out: dict[str, str] = field(default_factory=dict)
    lost: dict[str, tuple[Pass, str]] = field(default_factory=dict)
    """Passes that were found and could not be downloaded whole, by name, with the reason."""
    whole: bool = False
    """Whether the search was for all that the archive has."""


@contextmanager
def noting() -> Iterator[dict[str, str]]:
    """Give the reasons of what archives leave out by themselves, by name, when the block has ended."""
    left_out: dict[str, str] = {}
    with warnings.catch_warnings(record=True) as caught:
        warnings.filterwarnings("always", category=SceneWarning)
        yield left_out
    for one in caught:
        if isinstance(one.message, SceneWarning):
            left_out |= one.message.left_out
        else:
            warnings.warn_explicit(one.message, one.category, one.filename, one.lineno)


def due(letter: DeadLetter, now: datetime) -> bool:
    """Whether it is time to try again."""
    return letter.next_try is not None and letter.next_try <= now


def unsolved(context: Context, lake: str) -> Sequence[DeadLetter]:
    """What of a lake could not be used up to now."""
    with context.state.read() as session:
        return session.scalars(_of(lake)).all()


def _of(lake: str) -> Select[DeadLetter]:
    return select(DeadLetter).where(DeadLetter.lake == lake, DeadLetter.solved.is_(None))


def write(
    context: Context,
    session: Session,
    row: Look,
    found: Found,
    tried: Mapping[str, Pass],
    refused: Mapping[str, str],
) -> None:
    """Note what could not be used, and that what was noted before could be by now."""
    now, lake = context.now(), row.lake
    met = {(pass_.platform, pass_.absolute_orbit) for pass_ in tried.values()}
    good = {(pass_.platform, pass_.absolute_orbit) for name, pass_ in tried.items() if name not in refused}
    seen = {scene.id for pass_ in tried.values() for scene in pass_.scenes}
    bad = refused.keys() | found.lost.keys()
    for one in session.scalars(_of(lake)).all():
        if one.platform is None:
            solved = one.granule not in found.left_out and (found.whole or one.granule in seen)
        else:
            key = (one.platform, one.absolute_orbit)
            solved = key in good or (key in met and one.granule not in bad)  # else other granules have its place
            if not solved and one.granule not in bad and due(one, row.started):
                _complain(context, session, lake, one.granule, "the archive has it no longer", None)
        if solved:
            one.solved, one.next_try = now, None
            logger.info("%s: %s could be used", lake, one.granule, extra={"lake": lake, "granule": one.granule})
    for name, reason in refused.items():
        _complain(context, session, lake, name, reason, tried[name])
    for name, (pass_, reason) in found.lost.items():
        _complain(context, session, lake, name, reason, pass_)
    for name, reason in found.left_out.items():
        _complain(context, session, lake, name, reason, None)


def _complain(context: Context, session: Session, lake: str, granule: str, reason: str, pass_: Pass | None) -> None:
    now, options = context.now(), context.study.service
    same = select(DeadLetter).where(DeadLetter.lake == lake, DeadLetter.granule == granule)
    letter = session.scalars(same).first()
    if letter is None:
        letter = DeadLetter(lake=lake, granule=granule, reason=reason, attempts=0, first=now, last=now)
        session.add(letter)
    elif letter.solved is not None:
        letter.attempts, letter.solved = 0, None
    if pass_ is not None:
        letter.platform, letter.absolute_orbit, letter.acquired = pass_.platform, pass_.absolute_orbit, pass_.time
    letter.attempts += 1
    letter.reason, letter.last = reason, now
    letter.next_try = now + wait(letter.attempts, options.retry_minutes)
    if letter.attempts >= options.max_attempts:
        letter.next_try = now + GIVEN_UP
    told = {"lake": lake, "granule": granule, "attempts": letter.attempts}
    logger.warning("%s: %s can't be used: %s", lake, granule, reason, extra=told)


def wait(attempts: int, minutes: float) -> timedelta:
    """How long to wait after so many attempts: each time twice as long, a day at most.

    Examples
    --------
    >>> [str(wait(attempts, 30)) for attempts in (1, 2, 8)]
    ['0:30:00', '1:00:00', '1 day, 0:00:00']
    """
    return min(timedelta(minutes=minutes * 2 ** min(attempts - 1, 20)), LONGEST_WAIT)
