"""Alerts as the API tells them: now, or as they were told at a moment."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from cubekit.service._api_cubes import name_of
from cubekit.service.context import present
from cubekit.service.state import Alert, AlertEvent, State


def list_alerts(
    session: Session,
    lakes: Collection[str],
    *,
    stage: str | None = None,
    since: datetime | None = None,
    as_of: datetime | None = None,
    limit: int,
) -> list[dict[str, Any]]:
    """Alerts, the newest first.

    Parameters
    ----------
    session
        Of the state.
    lakes
        Theirs.
    stage
        That are so far.
    since
        Whose newest event is of a pass from then on.
    as_of
        As they were told then.
    limit
        So many at most.
    """
    query = select(Alert).where(Alert.lake.in_(lakes)).order_by(Alert.opened.desc(), Alert.id)
    if as_of is None:
        if stage is not None:
            query = query.where(Alert.stage == stage)
        if since is not None:
            query = query.where(Alert.decided >= since)
        return [_told(row) for row in session.scalars(query.limit(limit))]
    found = []
    for row in session.scalars(query):
        then = _as_of(session, row, as_of)
        if then is None or (stage is not None and then["stage"] != stage):
            continue
        if since is None or then.pop("decided") >= since:
            found.append({name: value for name, value in then.items() if name != "decided"})
    return found[:limit]


def one_alert(session: Session, name: str, lakes: Collection[str]) -> Alert | None:
    """An alert of one of these lakes, or None."""
    row = session.get(Alert, name)
    return row if row is not None and row.lake in lakes else None


def events_of(session: Session, name: str, as_of: datetime | None) -> Sequence[AlertEvent]:
    """The events of an alert, in order, up to a moment."""
    query = select(AlertEvent).where(AlertEvent.alert == name)
    if as_of is not None:
        query = query.where(AlertEvent.recorded <= as_of)
    return session.scalars(query.order_by(AlertEvent.id)).all()


def count_open(session: Session, lakes: Collection[str], as_of: datetime | None) -> dict[str, int]:
    """How many alerts of each lake are not closed."""
    if as_of is None:
        query = select(Alert.lake, func.count()).where(Alert.lake.in_(lakes), Alert.stage != "closed")
        return {str(lake): int(count) for lake, count in session.execute(query.group_by(Alert.lake))}
    known = select(AlertEvent.alert).where(AlertEvent.recorded <= as_of)
    over = known.where(AlertEvent.stage == "closed")
    query = select(Alert.lake, func.count()).where(Alert.lake.in_(lakes), Alert.id.in_(known), Alert.id.not_in(over))
    return {str(lake): int(count) for lake, count in session.execute(query.group_by(Alert.lake))}


def acknowledge(state: State, name: str, lakes: Collection[str], owner: str) -> dict[str, Any] | None:
    """Note that somebody has seen an alert; who was first stays.

    Returns
    -------
    dict or None
        The alert; None when there is none.
    """
    with state.write() as session:
        row = one_alert(session, name, lakes)
        if row is None:
            return None
        if row.acknowledged is None:
            row.acknowledged, row.acknowledged_by = present(), owner
        return _told(row)


def _told(row: Alert) -> dict[str, Any]:
    return {
        "id": row.id,
        "lake": row.lake,
        "track": row.track,
        "sign": row.sign,
        "stage": row.stage,
        "opened": name_of(row.opened),
        "confirmed": _name(row.confirmed),
        "closed": _name(row.closed),
        "area_km2": row.value,
        "expected_km2": row.expected,
        "change_percent": _percent(row.change),
        "outcome": row.outcome or None,
        "acknowledged": _name(row.acknowledged),
    }


def _as_of(session: Session, row: Alert, as_of: datetime) -> dict[str, Any] | None:
    """An alert as its events told it at a moment; None when it was not given yet."""
    events = events_of(session, row.id, as_of)
    if not events:
        return None
    by_stage = {event.stage: event for event in events}
    closed, confirmed = by_stage.get("closed"), by_stage.get("confirmed")
    # The numbers of a closed alert are those of the step before, as they are now.
    main = events[-2] if closed is not None and len(events) > 1 else events[-1]
    seen = row.acknowledged if row.acknowledged is not None and row.acknowledged <= as_of else None
    return {
        **_told(row),
        "track": main.track,
        "stage": "closed" if closed else "confirmed" if confirmed else "first",
        "confirmed": None if confirmed is None else name_of(confirmed.at),
        "closed": None if closed is None else name_of(closed.at),
        "area_km2": main.value,
        "expected_km2": main.expected,
        "change_percent": _percent(main.change),
        "outcome": (closed.outcome or None) if closed is not None else None,
        "acknowledged": _name(seen),
        "decided": events[-1].at,
    }


def _name(moment: datetime | None) -> str | None:
    return None if moment is None else name_of(moment)


def _percent(change: float | None) -> float | None:
    return None if change is None else round(change * 100, 2)
