"""Alerts of a release: each step of each alert is recorded once, whatever is measured anew, and put into the outbox."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pandas as pd
from sqlalchemy import select
from sqlalchemy.orm import Session

from cubekit.service.state import Alert, AlertEvent, Delivery, Release, first_look

STAGES = ("first", "confirmed", "closed")
"""Of an alert. Events have ``further 1``, ``further 2`` between the last two."""

WITHDRAWN = "withdrawn"
"""Outcome of an alert that better data have undone: a late or newer pass, and it would never have been given."""


_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True)
class _Told:
    """One alert as the areas tell it by now."""

    sign: str
    since: datetime
    closed: datetime | None
    steps: tuple[tuple[str, Mapping[str, Any]], ...]
    """Stages and their events, in order."""


def record(session: Session, release: Release, events: pd.DataFrame, targets: Sequence[str]) -> list[AlertEvent]:
    """Bring alerts up to date with what was measured, and put what is new into the outbox.

    Parameters
    ----------
    session
        The transaction that makes the release visible.
    release
        Whose alerts these are; added to the session already.
    events
        What `cubekit.series.replay` gives for the lake: all of its history, each time anew.
    targets
        Addresses that are to be told.

    Returns
    -------
    list of AlertEvent
        What was not known before.

    Notes
    -----
    An alert is known by its lake, its sign and the first pass that was off. A pass that comes late may move that pass;
    an alert of the same sign that overlaps in time is taken for the same then, so that nobody is warned twice of one
    thing. Events of passes from before the service first looked at the lake are history: recorded, never sent.
    """
    began = first_look(session, release.lake)
    told = _alerts(events)
    stored = {one.id: one for one in session.scalars(select(Alert).where(Alert.lake == release.lake))}
    matched = _match(release.lake, told, stored)
    fresh: list[AlertEvent] = []
    for identity, alert in matched.items():
        row = stored.get(identity)
        if row is None:
            row = Alert(id=identity, lake=release.lake, sign=alert.sign, opened=alert.since)
            session.add(row)
        _update(row, alert, release)
        session.flush()
        known = set(session.scalars(select(AlertEvent.stage).where(AlertEvent.alert == identity)))
        for stage, event in alert.steps:
            if stage not in known:
                fresh.append(_event(identity, stage, event, release, began))
    for identity, row in stored.items():
        if identity not in matched and row.stage != "closed":
            fresh.append(_withdraw(row, release, began))
    session.add_all(fresh)
    session.flush()
    due = [event for event in fresh if not event.history]
    session.add_all(
        Delivery(event=event.id, target=target, next_try=release.created) for event in due for target in targets
    )
    return fresh


def _alerts(events: pd.DataFrame) -> list[_Told]:
    """Alerts, each with its steps, in the order of their first ones."""
    found = []
    for _, mine in events.groupby("alert", sort=True) if len(events) else ():
        steps: list[tuple[str, Mapping[str, Any]]] = []
        for event in mine.to_dict("records"):
            kind = str(event["kind"])
            if kind == "further":
                kind = f"further {sum(stage.startswith('further') for stage, _ in steps) + 1}"
            steps.append((kind, {str(name): value for name, value in event.items()}))
        first, last = steps[0][1], steps[-1]
        closed = _moment(last[1]["time"]) if last[0] == "closed" else None
        found.append(_Told(str(first["sign"]), _moment(first["since"]), closed, tuple(steps)))
    return found


def _match(lake: str, told: Sequence[_Told], stored: Mapping[str, Alert]) -> dict[str, _Told]:
    """Alerts by their ids: those of alerts that are known, also where their first pass has moved."""
    names = {f"{lake}-{one.since:%Y%m%dT%H%M%SZ}-{one.sign}": one for one in told}
    taken = set(names) & set(stored)
    matched = {}
    for name, one in names.items():
        end = one.closed or _NEVER
        same = [
            row
            for row in stored.values()
            if row.id not in taken
            and row.sign == one.sign
            and row.outcome != WITHDRAWN
            and row.opened < end
            and one.since < (row.closed or _NEVER)
        ]
        if name not in stored and same:
            name = min(same, key=lambda row: row.opened).id  # noqa: PLW2901
            taken.add(name)
        matched[name] = one
    return matched


def _update(row: Alert, alert: _Told, release: Release) -> None:
    stages = [stage for stage, _ in alert.steps]
    by_stage = dict(alert.steps)
    last = alert.steps[-1][1]
    # The numbers of a closed alert are those of its last step before: what the warning was of.
    main = alert.steps[-2][1] if stages[-1] == "closed" and len(stages) > 1 else last
    row.stage = next(stage for stage in reversed(STAGES) if stage in by_stage)
    row.decided, row.release = _moment(last["time"]), release.id
    row.confirmed = _moment(by_stage["confirmed"]["time"]) if "confirmed" in by_stage else None
    row.closed, row.outcome = alert.closed, str(last["outcome"])
    row.track, row.value, row.expected = str(main["track"]), _number(main["area_km2"]), _number(main["expected_km2"])
    row.change, row.deviations = _number(main["change"]), _number(main["deviations"])


def _event(alert: str, stage: str, event: Mapping[str, Any], release: Release, began: datetime | None) -> AlertEvent:
    at = _moment(event["time"])
    return AlertEvent(
        alert=alert,
        stage=stage,
        at=at,
        recorded=release.created,
        release=release.id,
        history=began is None or at < began,
        track=str(event["track"]),
        value=_number(event["area_km2"]),
        expected=_number(event["expected_km2"]),
        change=_number(event["change"]),
        deviations=_number(event["deviations"]),
        outcome=str(event["outcome"]),
    )


def _withdraw(row: Alert, release: Release, began: datetime | None) -> AlertEvent:
    at = release.latest_pass or row.decided
    row.stage, row.outcome, row.closed, row.release = "closed", WITHDRAWN, at, release.id
    return AlertEvent(
        alert=row.id,
        stage="closed",
        at=at,
        recorded=release.created,
        release=release.id,
        history=began is None or row.decided < began,
        track=row.track,
        value=row.value,
        expected=row.expected,
        change=row.change,
        deviations=row.deviations,
        outcome=WITHDRAWN,
    )


def _number(value: Any) -> float | None:
    """None where it isn't known."""
    return float(value) if math.isfinite(value) else None


def _moment(value: Any) -> datetime:
    stamp = pd.Timestamp(value)
    stamp = stamp.tz_localize("UTC") if stamp.tzinfo is None else stamp.tz_convert("UTC")
    return datetime.fromtimestamp(stamp.timestamp(), UTC).replace(microsecond=0)
