"""The outbox: signed, told once, tried again where that helps, and no secret anywhere else."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import watching
from servers import Answer
from sqlalchemy import select

from cubekit.config import ServiceOptions, Study
from cubekit.errors import ConfigError
from cubekit.service import notify
from cubekit.service.context import Context, Stopped
from cubekit.service.state import Alert, AlertEvent, Delivery, Release, State

NOON = datetime(2023, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def hook() -> Iterator[tuple[watching.Hook, str]]:
    with watching.hooked() as there:
        yield there


@pytest.fixture
def context(tmp_path: Path, hook: tuple[watching.Hook, str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Context]:
    """A service with one webhook, and a clock that stands still."""
    monkeypatch.setenv("CUBEKIT_WEBHOOK_SECRET", watching.SECRET)
    made = Context.of(watching.study(tmp_path, webhooks=[hook[1]], max_attempts=4), now=lambda: NOON)
    yield made
    made.state.close()


def write(state: State, targets: list[str], *, count: int = 1) -> None:
    """An alert with events that wait for their webhooks."""
    with state.write() as session:
        hashes = {"snapshot": "A", "model": "otsu", "model_hash": "1", "config_hash": "2"}
        lake = watching.LAKE.id
        session.add(Release(id="R1", lake=lake, source="opera", folder="R1", created=NOON, **hashes))
        session.flush()
        numbers = {"value": 1.2, "expected": 1.5, "change": -0.2, "deviations": -6.0, "track": "121", "release": "R1"}
        times = {"opened": NOON, "decided": NOON}
        session.add(Alert(id="a", lake=lake, sign="drop", stage="first", **times, **numbers))
        session.flush()
        for number in range(count):
            stage = "first" if not number else f"further {number}"
            session.add(AlertEvent(alert="a", stage=stage, at=NOON, recorded=NOON, history=False, **numbers))
        session.flush()
        for event in session.scalars(select(AlertEvent)).all():
            session.add_all(Delivery(event=event.id, target=target, next_try=NOON) for target in targets)


def rows(context: Context) -> list[tuple[str, int, str | None]]:
    with context.state.read() as session:
        return [(one.state, one.attempts, one.error) for one in session.scalars(select(Delivery).order_by(Delivery.id))]


def later(context: Context, **delta: float) -> None:
    moment = context.now() + timedelta(**delta)
    context.now = lambda: moment


def test_a_message_is_signed_and_has_a_key(context: Context, hook: tuple[watching.Hook, str]) -> None:
    """The receiver, who has the secret, comes to the same signature of timestamp and body."""
    write(context.state, [hook[1]])
    assert notify.deliver(context) == 1
    (request,) = hook[0].asked()
    stamp = request.headers["X-Cubekit-Timestamp"]
    digest = hmac.new(watching.SECRET.encode(), f"{stamp}.".encode() + request.body, hashlib.sha256).hexdigest()
    assert request.headers["X-Cubekit-Signature"] == f"sha256={digest}"
    assert int(stamp) == NOON.timestamp()
    assert request.headers["Content-Type"] == "application/json"
    told = json.loads(request.body)
    assert told["id"] == request.headers["Idempotency-Key"]
    assert (told["lake"], told["stage"], told["change_percent"]) == ("tsho_rolpa", "first", -20.0)
    assert (told["severity"], told["certainty"], told["status"]) == ("Severe", "Possible", "Test")
    assert rows(context) == [("sent", 1, None)]


def test_what_was_told_is_not_told_again(context: Context, hook: tuple[watching.Hook, str]) -> None:
    """Nor later, nor by a process that was started anew."""
    write(context.state, [hook[1]], count=3)
    assert notify.deliver(context) == 3
    later(context, days=400)
    assert notify.deliver(context) == 0
    assert len(hook[0].log) == len({key for key, _ in hook[0].told}) == 3


@pytest.mark.parametrize("fault", [Answer(500), Answer(503), Answer(408), Answer(429), Answer(502, b"<html>", {})])
def test_what_may_pass_is_tried_again_with_the_same_key(
    context: Context, hook: tuple[watching.Hook, str], fault: Answer
) -> None:
    """After half an hour, then an hour; the body is the same to the last byte."""
    write(context.state, [hook[1]])
    hook[0].fail(fault, times=2, when=lambda _: True)
    assert notify.deliver(context) == 0
    assert rows(context)[0][:2] == ("waiting", 1)
    assert notify.deliver(context) == 0
    assert len(hook[0].log) == 1
    later(context, minutes=30)
    notify.deliver(context)
    later(context, minutes=59)
    notify.deliver(context)
    assert len(hook[0].log) == 2
    later(context, minutes=1)
    assert notify.deliver(context) == 1
    assert len({(one.request.headers["Idempotency-Key"], one.request.body) for one in hook[0].log}) == 1
    assert rows(context) == [("sent", 3, None)]


@pytest.mark.parametrize("status", [301, 307, 400, 401, 404, 410, 422])
def test_a_no_is_a_no(context: Context, hook: tuple[watching.Hook, str], status: int) -> None:
    """Nobody is followed to another address either: the message is signed for this one."""
    write(context.state, [hook[1]])
    hook[0].fail(Answer(status, b"", {"Location": f"{hook[1]}/elsewhere"}), times=9)
    notify.deliver(context)
    later(context, days=9)
    notify.deliver(context)
    assert len(hook[0].log) == 1
    assert rows(context) == [("failed", 1, f"it answers {status}")]


def test_attempts_come_to_an_end(context: Context, hook: tuple[watching.Hook, str]) -> None:
    """After `max_attempts`."""
    write(context.state, [hook[1]])
    hook[0].fail(Answer(500), times=99)
    for _ in range(9):
        notify.deliver(context)
        later(context, days=1)
    assert rows(context) == [("failed", 4, "it answers 500")]
    assert len(hook[0].log) == 4


def test_who_asks_for_time_gets_it(context: Context, hook: tuple[watching.Hook, str]) -> None:
    """`Retry-After`, a day at most."""
    write(context.state, [hook[1]])
    hook[0].fail(Answer(429, b"", {"Retry-After": "7200"}))
    notify.deliver(context)
    later(context, minutes=119)
    notify.deliver(context)
    assert len(hook[0].log) == 1
    later(context, minutes=1)
    assert notify.deliver(context) == 1


def test_one_that_is_down_does_not_stop_the_others(context: Context, hook: tuple[watching.Hook, str]) -> None:
    """Each address on its own."""
    study = context.study
    gone = "http://127.0.0.1:9/lakes"
    options = study.service.model_copy(update={"webhooks": (gone, hook[1])})
    context.study = study.model_copy(update={"service": options})
    write(context.state, [gone, hook[1]])
    assert notify.deliver(context) == 1
    assert rows(context) == [("waiting", 1, "ConnectionError"), ("sent", 1, None)]


def test_one_that_is_down_is_asked_once_at_a_time(context: Context, hook: tuple[watching.Hook, str]) -> None:
    """Not for each of its messages: each may take half a minute."""
    write(context.state, [hook[1]], count=3)
    hook[0].fail(Answer(503), times=1)
    assert notify.deliver(context) == 0
    assert len(hook[0].log) == 1
    assert notify.deliver(context) == 2
    later(context, minutes=30)
    assert notify.deliver(context) == 1


def test_an_address_that_is_no_longer_in_the_study_is_not_told(
    context: Context, hook: tuple[watching.Hook, str]
) -> None:
    """Its messages wait, should it come back."""
    write(context.state, ["http://127.0.0.1:9/gone", hook[1]])
    assert notify.deliver(context) == 1
    assert rows(context)[0] == ("waiting", 0, None)


def test_a_message_that_is_being_sent_is_nobody_elses(context: Context, hook: tuple[watching.Hook, str]) -> None:
    """Two processes at one outbox tell each event once."""
    write(context.state, [hook[1]])
    assert notify._claim(context) is not None
    other = Context.of(context.study, now=context.now)
    assert notify.deliver(other) == 0
    later(other, minutes=5)  # who had it is dead
    assert notify.deliver(other) == 1
    other.state.close()


def test_the_end_comes_after_the_message_at_hand(context: Context, hook: tuple[watching.Hook, str]) -> None:
    """What was sent is marked as sent."""
    write(context.state, [hook[1]], count=2)
    context.stopping.set()
    with pytest.raises(Stopped):
        notify.deliver(context)
    assert [state for state, *_ in rows(context)] == ["sent", "waiting"]


def test_secrets_are_nowhere(
    context: Context,
    hook: tuple[watching.Hook, str],
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Neither secret nor the address's path is logged; .netrc adds nothing to what is sent; no file has the secret."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login somebody password planted\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    caplog.set_level(logging.INFO)
    write(context.state, [hook[1]], count=2)
    hook[0].fail(Answer(500))
    notify.deliver(context)
    assert all("Authorization" not in one.headers for one in hook[0].asked())
    assert "told to 127.0.0.1" in caplog.text
    assert "/lakes" not in caplog.text
    assert watching.SECRET not in caplog.text
    context.state.close()
    assert not [
        path
        for path in (tmp_path / "out").rglob("*")
        if path.is_file() and watching.SECRET.encode() in path.read_bytes()
    ]


def test_the_secret_is_from_the_environment_or_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As containers give it."""
    options = ServiceOptions(webhooks=("https://example.org/lakes",), webhook_secret_env="HOOK")
    path = tmp_path / "secret"
    path.write_text("of a file\n")
    monkeypatch.setenv("HOOK_FILE", str(path))
    assert notify.secret_of(options) == b"of a file"
    monkeypatch.setenv("HOOK", "of the environment")
    assert notify.secret_of(options) == b"of the environment"


def test_no_secret_is_refused_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where there are webhooks; the file that can't be read is not shown."""
    options = ServiceOptions(webhooks=("https://example.org/lakes",))
    monkeypatch.delenv("CUBEKIT_WEBHOOK_SECRET", raising=False)
    assert notify.secret_of(ServiceOptions()) == b""
    with pytest.raises(
        ConfigError, match="there is no secret; set CUBEKIT_WEBHOOK_SECRET, or CUBEKIT_WEBHOOK_SECRET_F"
    ):
        notify.secret_of(options)
    monkeypatch.setenv("CUBEKIT_WEBHOOK_SECRET_FILE", str(tmp_path / "nothing"))
    with pytest.raises(ConfigError, match=r"_FILE names can't be read \(FileNotFoundError\)"):
        notify.secret_of(options)


@pytest.mark.parametrize(
    "address", ["example.org", "ftp://example.org", "https://", "https://somebody:planted@example.org/"]
)
def test_addresses_are_checked(address: str) -> None:
    """A password in one is refused, and not shown."""
    document = {"study": {"name": "one"}, "lake": [{"id": "gokyo"}], "source": {"uri": "opera"}}
    with pytest.raises(ConfigError, match=r"service.webhooks: a webhook is not an address like") as caught:
        Study.parse({**document, "service": {"webhooks": [address]}})
    assert "planted" not in str(caught.value)
