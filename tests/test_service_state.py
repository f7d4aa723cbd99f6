"""The state of the service: one version, moments in UTC, one writer at a time; and keys that are nowhere in it."""

from __future__ import annotations

import sqlite3
import subprocess
import sys
import threading
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from sqlalchemy import exc, select

from cubekit.errors import ConfigError
from cubekit.service.keys import add_key, list_keys, owner_of, revoke_key
from cubekit.service.state import (
    VERSION,
    Job,
    Key,
    Look,
    Release,
    State,
    Table,
    first_look,
    last_good_look,
    newest_release,
)

NOON = datetime(2023, 7, 1, 12, tzinfo=UTC)


@pytest.fixture
def state(tmp_path: Path):
    opened = State.of(tmp_path)
    yield opened
    opened.close()


def release(name: str, created: datetime, lake: str = "gokyo") -> Release:
    hashes = {"snapshot": "A", "model": "otsu", "model_hash": "1", "config_hash": "2"}
    return Release(id=name, lake=lake, source="opera", folder=name, created=created, **hashes)


def test_a_new_file_is_of_this_version_and_in_wal_mode(state: State) -> None:
    """With all tables of the contract in it."""
    assert state.path.name == "state.sqlite"
    with sqlite3.connect(state.path) as plain:
        assert plain.execute("PRAGMA user_version").fetchone() == (VERSION,)
        assert plain.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        names = {name for (name,) in plain.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    plain.close()
    wanted = {"looks", "passes", "dead_letters", "jobs", "releases", "alerts", "alert_events", "deliveries", "keys"}
    assert names == wanted == set(Table.metadata.tables)


def test_another_version_is_refused(state: State) -> None:
    """The message tells both versions and how to repair it."""
    with sqlite3.connect(state.path) as plain:
        plain.execute(f"PRAGMA user_version = {VERSION + 6}")
    plain.close()
    with pytest.raises(ConfigError, match=f"of version {VERSION + 6}, this cubekit writes version {VERSION}; use"):
        State(state.path)


def test_what_is_no_database_is_refused(tmp_path: Path) -> None:
    """Not overwritten."""
    path = tmp_path / "state.sqlite"
    path.write_text("a text that somebody put here, long enough to be no database of SQLite at all\n" * 20)
    before = path.read_bytes()
    with pytest.raises(ConfigError, match=r"state.sqlite can't be opened .*move it away to begin anew"):
        State(path)
    assert path.read_bytes() == before


def test_a_folder_that_cannot_be_made_is_refused(tmp_path: Path) -> None:
    """As any other wrong `out`."""
    (tmp_path / "service").write_text("a file in the way")
    with pytest.raises(ConfigError, match=r"can't be made .*give another folder as study.out"):
        State.of(tmp_path)


def test_moments_are_utc_whatever_they_were(state: State) -> None:
    """As text of one length, so that they sort; without a time zone they are refused."""
    east = timezone(timedelta(hours=5, minutes=45))
    with state.write() as session:
        session.add(Look(lake="gokyo", started=NOON.astimezone(east)))
    with sqlite3.connect(state.path) as plain:
        assert plain.execute("SELECT started FROM looks").fetchone() == ("2023-07-01T12:00:00.000000Z",)
    plain.close()
    with pytest.raises(exc.StatementError, match="has no time zone"), state.write() as session:
        session.add(Look(lake="gokyo", started=datetime(2023, 7, 1)))  # noqa: DTZ001


def test_a_failed_block_changes_nothing(state: State) -> None:
    """All of a transaction, or nothing."""

    def fail() -> None:
        with state.write() as session:
            session.add(Look(lake="gokyo", started=NOON))
            session.flush()
            msg = "halfway"
            raise RuntimeError(msg)

    with pytest.raises(RuntimeError, match="halfway"):
        fail()
    with state.read() as session:
        assert session.scalars(select(Look)).all() == []


def test_two_writers_take_turns(state: State) -> None:
    """Eight at a time that read and then write: none is refused, no count is lost."""
    with state.write() as session:
        session.add(Look(lake="gokyo", started=NOON, found=0))

    def count() -> None:
        other = State(state.path)
        for _ in range(10):
            with other.write() as session:
                look = session.scalars(select(Look)).one()
                look.found += 1
        other.close()

    threads = [threading.Thread(target=count) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with state.read() as session:
        assert session.scalars(select(Look)).one().found == 80


def test_a_reader_sees_one_moment(state: State) -> None:
    """What is written meanwhile is not seen before the next session, and nobody waits."""
    with state.write() as session:
        session.add(release("1", NOON))
    with state.read() as session:
        assert newest_release(session, "gokyo").id == "1"
        with state.write() as other:
            other.add(release("2", NOON + timedelta(hours=1)))
        session.expire_all()
        assert newest_release(session, "gokyo").id == "1"
    with state.read() as session:
        assert newest_release(session, "gokyo").id == "2"


def test_the_newest_release_is_that_of_a_moment(state: State) -> None:
    """As of a time before the first there is none; other lakes' do not count."""
    with state.write() as session:
        session.add_all([release("1", NOON), release("2", NOON + timedelta(days=1)), release("3", NOON, "tilicho")])
    with state.read() as session:
        assert newest_release(session, "gokyo").id == "2"
        assert newest_release(session, "gokyo", NOON + timedelta(hours=2)).id == "1"
        assert newest_release(session, "gokyo", NOON).id == "1"
        assert newest_release(session, "gokyo", NOON - timedelta(seconds=1)) is None
        assert newest_release(session, "thulagi") is None


def test_looks_that_failed_or_were_killed_do_not_count(state: State) -> None:
    """But the first one, however it ended, is when the service began."""
    hour = timedelta(hours=1)
    with state.write() as session:
        session.add(Look(lake="gokyo", started=NOON, ended=NOON, error="the archive is down"))
        session.add(Look(lake="gokyo", started=NOON + hour, ended=NOON + hour))
        session.add(Look(lake="gokyo", started=NOON + 2 * hour))
    with state.read() as session:
        assert last_good_look(session, "gokyo").started == NOON + hour
        assert first_look(session, "gokyo") == NOON
        assert last_good_look(session, "tilicho") is first_look(session, "tilicho") is None


def test_a_job_is_asked_for_once(state: State) -> None:
    """One a lake, snapshot and study."""
    job = {"lake": "gokyo", "source": "opera", "snapshot": "A", "config_hash": "1", "created": NOON}
    with state.write() as session:
        session.add(Job(**job))
    with pytest.raises(exc.IntegrityError, match="UNIQUE"), state.write() as session:
        session.add(Job(**job))


def test_keys_open_until_they_are_revoked(state: State) -> None:
    """By their whole text only; the state holds a salted hash."""
    key, other = add_key(state, "warden"), add_key(state, "other")
    assert owner_of(state, key) == "warden"
    assert owner_of(state, other) == "other"
    for wrong in ("", "warden", "warden.", key[:-1], key + " ", key.upper(), "other." + key.partition(".")[2], "a.b$c"):
        assert owner_of(state, wrong) is None
    revoke_key(state, "warden")
    assert owner_of(state, key) is None
    assert owner_of(state, other) == "other"
    assert [(one.name, one.revoked is None) for one in list_keys(state)] == [("other", True), ("warden", False)]
    with state.read() as session:
        assert all(one.hash.startswith("sha256$") for one in session.scalars(select(Key)))
    state.close()
    assert not [path for path in state.path.parent.iterdir() if key.partition(".")[2].encode() in path.read_bytes()]


@pytest.mark.parametrize("name", ["", "Warden", "a b", "a.b", "-a", "a" * 65])
def test_names_of_keys_are_checked(state: State, name: str) -> None:
    """They are written beside what is done with the key."""
    with pytest.raises(ConfigError, match="is no name of a key; use lower-case"):
        add_key(state, name)


def test_a_name_has_one_key(state: State) -> None:
    """Also after it was revoked: who did what must stay clear."""
    add_key(state, "warden")
    revoke_key(state, "warden")
    with pytest.raises(ConfigError, match="warden has a key, or had one"):
        add_key(state, "warden")
    with pytest.raises(ConfigError, match="there is no key 'nobody'"):
        revoke_key(state, "nobody")


def test_without_sqlalchemy_the_message_names_the_extra() -> None:
    """And the package itself loads none of what the service needs."""
    code = (
        "import sys; import cubekit, cubekit.cli; "
        "loaded = [name for name in ('sqlalchemy', 'apscheduler', 'fastapi', 'uvicorn') if name in sys.modules]; "
        "sys.modules['sqlalchemy'] = None\n"
        "try:\n    import cubekit.service.state\n"
        "except cubekit.errors.MissingExtra as error:\n    print(loaded, error)"
    )
    done = subprocess.run([sys.executable, "-c", f"import cubekit.errors; {code}"], capture_output=True, text=True)
    assert done.stdout.strip() == (
        '[] sqlalchemy is not installed, and the service needs it; pip install "cubekit[service]"'
    ), done.stderr
