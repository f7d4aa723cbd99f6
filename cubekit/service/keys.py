"""Keys for those who may acknowledge alerts: shown once, kept as salted hashes."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
from collections.abc import Sequence

from sqlalchemy import select

from cubekit.errors import ConfigError
from cubekit.service.context import Clock, present
from cubekit.service.state import Key, State

_NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def add_key(state: State, name: str, *, now: Clock = present) -> str:
    """Make a key.

    Parameters
    ----------
    state
        Of the study.
    name
        Whose it is: lower-case letters, digits, ``_`` and ``-``; written beside what is done with it.
    now
        The clock.

    Returns
    -------
    str
        The key. Nobody can tell it again: its hash is kept.

    Raises
    ------
    ConfigError
        When the name is not allowed, or has a key.
    """
    if not _NAME.fullmatch(name):
        msg = f"{name!r} is no name of a key; use lower-case letters, digits, _ and -, 64 at most"
        raise ConfigError(msg)
    # 256 random bits can't be guessed, so the hash need not be slow; and a slow one would let anybody keep us busy.
    secret, salt = secrets.token_urlsafe(32), secrets.token_hex(16)
    with state.write() as session:
        if session.get(Key, name) is not None:
            msg = f"{name} has a key, or had one; revoke it if need be, and give another name"
            raise ConfigError(msg)
        session.add(Key(name=name, hash=f"sha256${salt}${_digest(salt, secret)}", created=now()))
    return f"{name}.{secret}"


def revoke_key(state: State, name: str, *, now: Clock = present) -> None:
    """Let a key open nothing from now on.

    Raises
    ------
    ConfigError
        When there is none of this name.
    """
    with state.write() as session:
        row = session.get(Key, name)
        if row is None:
            msg = f"there is no key {name!r}; `cubekit keys show` shows them"
            raise ConfigError(msg)
        row.revoked = row.revoked or now()


def list_keys(state: State) -> Sequence[Key]:
    """All keys, also revoked ones, by name."""
    with state.read() as session:
        return session.scalars(select(Key).order_by(Key.name)).all()


def owner_of(state: State, key: str) -> str | None:
    """Tell whose key this is; None when it is nobody's, or was revoked.

    Examples
    --------
    >>> import tempfile
    >>> from pathlib import Path
    >>> state = State(Path(tempfile.mkdtemp()) / "state.sqlite")
    >>> key = add_key(state, "warden")
    >>> owner_of(state, key), owner_of(state, key + "x"), owner_of(state, "warden")
    ('warden', None, None)
    >>> state.close()
    """
    name, _, secret = key.partition(".")
    with state.read() as session:
        row = session.get(Key, name) if _NAME.fullmatch(name) else None
    _, salt, digest = row.hash.split("$") if row is not None else ("", "", "")
    right = hmac.compare_digest(_digest(salt, secret), digest)
    return name if right and row is not None and row.revoked is None else None


def _digest(salt: str, secret: str) -> str:
    return hashlib.sha256(f"{salt}{secret}".encode()).hexdigest()
