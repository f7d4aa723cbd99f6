"""Alerts of a release are recorded once, however often and however late all is measured anew."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pytest
from sqlalchemy import select

from cubekit.series.alerts import Event
from cubekit.service.state import Alert, AlertEvent, Delivery, Look, Release, State
from cubekit.service.warn import record

BEGAN = datetime(2023, 1, 1, tzinfo=UTC)
TARGETS = ("https://example.org/one", "https://example.org/two")


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    opened = State.of(tmp_path)
    with opened.write() as session:
        session.add(Look(lake="gokyo", started=BEGAN))
    yield opened
    opened.close()


def event(alert: int, kind: str, day: int, since: int | None = None, *, sign: str = "drop", outcome: str = "") -> Event:
    """An event of a pass so many days after the service began."""
    time, first = (pd.Timestamp(BEGAN + timedelta(days=d)) for d in (day, day if since is None else since))
    return Event(alert, kind, sign, time, first, 121, 1.2, 1.5, -0.2, -6.0, outcome)


def measured(state: State, *events: Event, day: int = 100) -> list[tuple[str, str, bool]]:
    """Release a lake with these events; what of them is new."""
    table = pd.DataFrame(list(events), columns=list(Event._fields))
    with state.write() as session:
        count = len(session.scalars(select(Release)).all())
        hashes = {"snapshot": "A", "model": "otsu", "model_hash": "1", "config_hash": "2", "folder": "f"}
        moment = BEGAN + timedelta(days=day, hours=count)
        release = Release(id=f"R{count}", lake="gokyo", source="opera", created=moment, latest_pass=moment, **hashes)
        session.add(release)
        session.flush()
        return [(one.alert, one.stage, one.history) for one in record(session, release, table, TARGETS)]


def alerts(state: State) -> dict[str, tuple[str, str]]:
    with state.read() as session:
        return {one.id: (one.stage, one.outcome) for one in session.scalars(select(Alert))}


def outbox(state: State) -> list[tuple[str, str]]:
    with state.read() as session:
        joined = select(Delivery, AlertEvent).join(AlertEvent)
        return sorted((one.stage, delivery.target) for delivery, one in session.execute(joined).all())


LIFE = [
    event(1, "first", 10),
    event(1, "confirmed", 16, 10),
    event(1, "further", 22, 10),
    event(1, "further", 28, 10),
    event(1, "closed", 40, 10, outcome="returned"),
]
NAME = "gokyo-20230111T000000Z-drop"


def test_an_alert_is_told_step_by_step(state: State) -> None:
    """Each step once to each address, though all are measured anew each time."""
    stages = ["first", "confirmed", "further 1", "further 2", "closed"]
    for number, stage in enumerate(stages, 1):
        assert measured(state, *LIFE[:number]) == [(NAME, stage, False)]
        assert measured(state, *LIFE[:number]) == []
    assert outbox(state) == sorted((stage, target) for stage in stages for target in TARGETS)
    assert alerts(state) == {NAME: ("closed", "returned")}


def test_a_whole_life_at_once(state: State) -> None:
    """As after a long time without a look: all steps, in order."""
    assert [stage for _, stage, _ in measured(state, *LIFE)] == [
        "first",
        "confirmed",
        "further 1",
        "further 2",
        "closed",
    ]
    with state.read() as session:
        alert = session.scalars(select(Alert)).one()
    assert alert.opened == BEGAN + timedelta(days=10)
    assert alert.confirmed == BEGAN + timedelta(days=16)
    assert alert.closed == alert.decided == BEGAN + timedelta(days=40)


def test_what_is_older_than_the_service_is_history(state: State) -> None:
    """Recorded, never sent; a step that comes after the service began is sent."""
    told = measured(state, event(1, "first", -10), event(1, "confirmed", -4, -10))
    assert [history for *_, history in told] == [True, True]
    assert outbox(state) == []
    closed = event(1, "closed", 8, -10, outcome="returned")
    assert [
        history for *_, history in measured(state, event(1, "first", -10), event(1, "confirmed", -4, -10), closed)
    ] == [False]
    assert [stage for stage, _ in outbox(state)] == ["closed", "closed"]


def test_numbers_of_alerts_may_shift(state: State) -> None:
    """An old alert that turns up before it does not make an alert a new one."""
    measured(state, *LIFE[:2])
    older = [
        event(1, "first", -90, sign="growth"),
        event(1, "closed", -84, -90, sign="growth", outcome="not_confirmed"),
    ]
    shifted = [one._replace(alert=2) for one in LIFE[:3]]
    assert measured(state, *older, *shifted) == [
        ("gokyo-20221003T000000Z-growth", "first", True),
        ("gokyo-20221003T000000Z-growth", "closed", True),
        (NAME, "further 1", False),
    ]


def test_a_late_pass_may_move_the_beginning(state: State) -> None:
    """The alert that overlaps with one of the same sign is that one: nobody is warned twice."""
    measured(state, *LIFE[:2])
    moved = [event(1, "first", 7), event(1, "confirmed", 10, 7), event(1, "further", 16, 7)]
    assert measured(state, *moved) == [(NAME, "further 1", False)]
    assert list(alerts(state)) == [NAME]


def test_one_of_the_other_sign_is_another_alert(state: State) -> None:
    """Also where it overlaps."""
    measured(state, *LIFE[:1])
    told = measured(state, LIFE[0], event(2, "first", 12, sign="growth"))
    assert told == [("gokyo-20230113T000000Z-growth", "first", False)]


def test_a_later_one_of_the_same_sign_is_another_alert(state: State) -> None:
    """When the first was closed before it began."""
    measured(state, *LIFE)
    told = measured(state, *LIFE, event(2, "first", 40))
    assert told == [("gokyo-20230210T000000Z-drop", "first", False)]


def test_what_better_data_undo_is_withdrawn(state: State) -> None:
    """Told once to whom it was told; when it comes back it is a new alert only if its first pass is another."""
    measured(state, *LIFE[:2])
    assert measured(state) == [(NAME, "closed", False)]
    assert measured(state) == []
    assert alerts(state) == {NAME: ("closed", "withdrawn")}
    assert measured(state, event(1, "first", 16)) == [("gokyo-20230117T000000Z-drop", "first", False)]


def test_history_that_is_withdrawn_is_not_told(state: State) -> None:
    """Nobody was told of it."""
    measured(state, event(1, "first", -10))
    assert measured(state) == [("gokyo-20221222T000000Z-drop", "closed", True)]
    assert outbox(state) == []


def test_what_is_not_known_is_none(state: State) -> None:
    """SQLite has no NaN, and JSON neither."""
    unknown = LIFE[0]._replace(area_km2=float("nan"), deviations=float("inf"))
    measured(state, unknown)
    with state.read() as session:
        row = session.scalars(select(AlertEvent)).one()
    assert (row.value, row.deviations, row.expected) == (None, None, 1.5)
