"""Whether a service is ready: something is served of every lake, and somebody has looked lately."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable
from datetime import datetime, timedelta

from sqlalchemy.exc import DBAPIError

from cubekit.config import Study
from cubekit.service.state import State, last_good_look, newest_release

LATE = 3
"""Intervals without a look that ended well, after which the service isn't ready."""


def lacking(study: Study, state: State, lakes: Iterable[str], now: datetime) -> list[str]:
    """Tell why a service isn't ready.

    Parameters
    ----------
    study, state
        Of the service.
    lakes
        By id.
    now
        The present, with a time zone.

    Returns
    -------
    list of str
        Reasons; none when it is ready.
    """
    longest = timedelta(minutes=LATE * study.service.interval_minutes)
    reasons = []
    try:
        with state.read() as session:
            for lake in lakes:
                if newest_release(session, lake) is None:
                    reasons.append(f"nothing is released of {lake} yet")
                last = last_good_look(session, lake)
                if last is None:
                    reasons.append(f"nobody has looked for {lake} yet")
                elif now - last.started > longest:
                    reasons.append(f"the last good look for {lake} was at {last.started:%Y-%m-%dT%H:%M:%SZ}")
    except (sqlite3.Error, DBAPIError):
        reasons.append("the state can't be read")
    return reasons
