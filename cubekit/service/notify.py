"""The outbox: alert events on their way to webhooks. Signed, tried again with ever longer waits, one key an event."""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import uuid
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests
from sqlalchemy import select, update

from cubekit.config import ServiceOptions
from cubekit.errors import ConfigError
from cubekit.lakes import Lake
from cubekit.service import cap
from cubekit.service.context import Context, logger
from cubekit.service.letters import LONGEST_WAIT, wait
from cubekit.service.state import Alert, AlertEvent, Delivery

TIMEOUT = (10.0, 20.0)
"""To connect, and for an answer, seconds."""

CLAIM = timedelta(minutes=5)
"""How long a message belongs to the process that sends it."""

_PASSING = frozenset({408, 429})


@dataclass(frozen=True)
class _Answer:
    """What became of one attempt."""

    state: str
    error: str | None = None
    after: timedelta | None = None


def secret_of(options: ServiceOptions) -> bytes:
    """The secret that webhooks are signed with.

    Parameters
    ----------
    options
        Names the variable; with ``_FILE`` added, that of a file that holds the secret.

    Raises
    ------
    ConfigError
        When there are webhooks and no secret.
    """
    name = options.webhook_secret_env
    if secret := os.environ.get(name, "").strip():
        return secret.encode()
    path = os.environ.get(f"{name}_FILE")
    try:
        secret = Path(path).read_text(encoding="utf-8").strip() if path else ""
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the file that {name}_FILE names can't be read ({type(error).__name__}); mend the variable or the file"
        raise ConfigError(msg) from None
    if not secret and options.webhooks:
        msg = f"webhooks are signed, and there is no secret; set {name}, or {name}_FILE to a file that holds it"
        raise ConfigError(msg)
    return secret.encode()


def sign(secret: bytes, timestamp: str, body: bytes) -> str:
    """Sign a message: HMAC-SHA256 of the timestamp, a full stop, and the body.

    Parameters
    ----------
    secret
        Shared with the receiver.
    timestamp
        Seconds since 1970, as in the header ``X-Cubekit-Timestamp``.
    body
        Bytes of the message.

    Returns
    -------
    str
        For the header ``X-Cubekit-Signature``.

    Examples
    --------
    >>> sign(b"secret", "1688169600", b"{}")[:23]
    'sha256=b0acd6182bbf9729'
    """
    digest = hmac.new(secret, timestamp.encode() + b"." + body, hashlib.sha256)
    return f"sha256={digest.hexdigest()}"


def payload(alert: Alert, event: AlertEvent, lake: Lake | None, options: ServiceOptions) -> dict[str, Any]:
    """What a webhook is told: the same whenever it is sent.

    Parameters
    ----------
    alert, event
        What happened.
    lake
        Where; None when it is no longer in the study.
    options
        Of the study.
    """
    told: dict[str, Any] = {
        "type": "cubekit.alert",
        "id": str(key_of(event)),
        "alert": alert.id,
        "lake": alert.lake,
        "name": alert.lake if lake is None else lake.title,
        "sign": alert.sign,
        "stage": event.stage,
        "outcome": event.outcome or None,
        "opened": _text(alert.opened),
        "pass": _text(event.at),
        "recorded": _text(event.recorded),
        "track": event.track,
        "area_km2": event.value,
        "expected_km2": event.expected,
        "change_percent": None if event.change is None else round(100 * event.change, 3),
        "deviations": event.deviations,
        "release": event.release,
        "status": options.cap_status,
    }
    told |= cap.grade(alert.sign, event.stage, event.change, event.outcome)._asdict()
    return told


def key_of(event: AlertEvent) -> uuid.UUID:
    """The key of an event, for ``Idempotency-Key``: whoever gets it twice has got one message."""
    return uuid.uuid5(uuid.NAMESPACE_URL, f"cubekit:{event.alert}/{event.stage}")


def deliver(context: Context) -> int:
    """Send what is due.

    Parameters
    ----------
    context
        The service.

    Returns
    -------
    int
        How many messages were taken.

    Notes
    -----
    A 2xx ends it; 4xx, but 408 and 429, and 3xx are a no for good; all else is tried again. A message is marked as sent
    after it was: killed between the two, it is sent again, with the same key and the same bytes.
    """
    secret, sent = b"", 0
    down: set[str] = set()
    while (delivery := _claim(context, down)) is not None:
        secret = secret or secret_of(context.study.service)
        with context.state.read() as session:
            event = session.get_one(AlertEvent, delivery.event)
            alert = session.get_one(Alert, event.alert)
        told = payload(alert, event, context.lakes.get(alert.lake), context.study.service)
        answer = _post(delivery.target, told, secret, context.now())
        sent += answer.state == "sent"
        if answer.state == "waiting":  # the others for it wait for the next time: each may take half a minute
            down.add(delivery.target)
        _settle(context, delivery, answer)
        context.check()
    return sent


def _claim(context: Context, down: Collection[str] = ()) -> Delivery | None:
    """Take the oldest message that is due; nobody else gets it meanwhile."""
    now = context.now()
    targets = set(context.study.service.webhooks) - set(down)
    due = select(Delivery).where(Delivery.state == "waiting", Delivery.next_try <= now, Delivery.target.in_(targets))
    with context.state.write() as session:
        delivery = session.scalars(due.order_by(Delivery.id).limit(1)).first()
        if delivery is not None:
            delivery.next_try = now + CLAIM
            delivery.attempts += 1
    return delivery


def _post(target: str, told: Mapping[str, Any], secret: bytes, now: datetime) -> _Answer:
    body = json.dumps(told, sort_keys=True, allow_nan=False).encode()
    timestamp = str(int(now.timestamp()))
    headers = {
        "Content-Type": "application/json",
        "Idempotency-Key": str(told["id"]),
        "User-Agent": "cubekit",
        "X-Cubekit-Timestamp": timestamp,
        "X-Cubekit-Signature": sign(secret, timestamp, body),
    }
    try:
        # A fresh session that trusts nothing around it: a .netrc must not add a password to a signed message.
        with requests.Session() as session:
            session.auth = _unchanged
            answer = session.post(target, data=body, headers=headers, timeout=TIMEOUT, allow_redirects=False)
            answer.close()
    except requests.RequestException as error:
        return _Answer("waiting", type(error).__name__)
    told_status = f"it answers {answer.status_code}"
    if 200 <= answer.status_code < 300:
        return _Answer("sent")
    if 300 <= answer.status_code < 500 and answer.status_code not in _PASSING:
        return _Answer("failed", told_status)
    asked = answer.headers.get("Retry-After", "")
    after = timedelta(seconds=int(asked)) if asked.isdecimal() and len(asked) < 7 else None
    return _Answer("waiting", told_status, after)


def _unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request


def _settle(context: Context, delivery: Delivery, answer: _Answer) -> None:
    now, options = context.now(), context.study.service
    state = answer.state
    if state == "waiting" and delivery.attempts >= options.max_attempts:
        state = "failed"
    pause = max(wait(delivery.attempts, options.retry_minutes), min(answer.after or timedelta(0), LONGEST_WAIT))
    values = {
        "state": state,
        "next_try": now + pause,
        "sent_at": now if state == "sent" else None,
        "error": answer.error,
    }
    with context.state.write() as session:
        session.execute(update(Delivery).where(Delivery.id == delivery.id).values(**values))
    # The address may hold what others should not know: its host is enough.
    host = urlsplit(delivery.target).hostname
    told = {"delivery": delivery.id, "host": host, "attempts": delivery.attempts, "state": state}
    if state == "sent":
        logger.info("alert event %d told to %s", delivery.event, host, extra=told)
    else:
        logger.warning("alert event %d not told to %s: %s", delivery.event, host, answer.error, extra=told)


def _text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"
