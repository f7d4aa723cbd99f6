"""What the service knows of its own work: SQLite in WAL mode, one file a study. Numbers of lakes are not in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from cubekit.errors import ConfigError, MissingExtra

try:
    from sqlalchemy import (
        Connection,
        Dialect,
        Engine,
        ForeignKey,
        Index,
        String,
        TypeDecorator,
        UniqueConstraint,
        create_engine,
        event,
        exc,
        func,
        select,
    )
    from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column
except ImportError as error:
    _msg = 'sqlalchemy is not installed, and the service needs it; pip install "cubekit[service]"'
    raise MissingExtra(_msg) from error

VERSION = 1
"""Of the tables, kept in the file: another one is refused."""

HOME = Path("service")
"""Folder of the service below a study's `out`."""

BUSY_SECONDS = 30.0
"""How long a writer waits for another one."""

_FORM = "%Y-%m-%dT%H:%M:%S.%fZ"


class UtcTime(TypeDecorator[datetime]):
    """A moment, in UTC, as ISO text of one length: what sorts as text sorts as time."""

    impl = String(27)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> str | None:  # noqa: ARG002
        """To text; a moment without a time zone is refused."""
        if value is None:
            return None
        if value.tzinfo is None:
            msg = f"{value} has no time zone; the state holds moments in UTC"
            raise ConfigError(msg)
        return value.astimezone(UTC).strftime(_FORM)

    def process_result_value(self, value: Any | None, dialect: Dialect) -> datetime | None:  # noqa: ARG002
        """From text."""
        return None if value is None else datetime.strptime(value, _FORM).replace(tzinfo=UTC)


class Table(DeclarativeBase):
    """Base of the tables."""

    type_annotation_map = {datetime: UtcTime}  # noqa: RUF012  what SQLAlchemy reads


class Look(Table):
    """One search of one lake. Without `ended` it runs, or was killed; with `error` it failed and is made again.

    `since` is None where all was asked for, not only what is new.
    """

    __tablename__ = "looks"
    id: Mapped[int] = mapped_column(primary_key=True)
    lake: Mapped[str] = mapped_column(index=True)
    started: Mapped[datetime]
    ended: Mapped[datetime | None]
    since: Mapped[datetime | None]
    found: Mapped[int] = mapped_column(default=0)
    appended: Mapped[int] = mapped_column(default=0)
    error: Mapped[str | None]


class PassTimes(Table):
    """When one version of a pass was acquired, produced, seen in the cube and served; granules as in the cube."""

    __tablename__ = "passes"
    __table_args__ = (
        UniqueConstraint("lake", "source", "platform", "absolute_orbit", "produced", "granules"),
        Index("passes_waiting", "lake", "served"),
    )
    id: Mapped[int] = mapped_column(primary_key=True)
    lake: Mapped[str]
    source: Mapped[str]
    platform: Mapped[str]
    absolute_orbit: Mapped[int]
    track: Mapped[int]
    granules: Mapped[str]
    acquired: Mapped[datetime]
    produced: Mapped[datetime]
    seen: Mapped[datetime]
    served: Mapped[datetime | None]


class DeadLetter(Table):
    """What could not be used, with the reason. Tried again at `next_try`; `solved` when it could be, or was replaced.

    `platform`, `absolute_orbit` and `acquired` are of a pass that was refused; without them it is a granule that the
    search itself left out, which every search tries again.
    """

    __tablename__ = "dead_letters"
    __table_args__ = (UniqueConstraint("lake", "granule"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    lake: Mapped[str]
    granule: Mapped[str]
    platform: Mapped[str | None]
    absolute_orbit: Mapped[int | None]
    acquired: Mapped[datetime | None]
    reason: Mapped[str]
    attempts: Mapped[int] = mapped_column(default=0)
    first: Mapped[datetime]
    last: Mapped[datetime]
    next_try: Mapped[datetime | None]
    solved: Mapped[datetime | None]


class Job(Table):
    """A cube to be measured as of a snapshot: queued, running (until its lease runs out), done or failed."""

    __tablename__ = "jobs"
    __table_args__ = (UniqueConstraint("lake", "source", "snapshot", "config_hash"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    lake: Mapped[str]
    source: Mapped[str]
    snapshot: Mapped[str]
    config_hash: Mapped[str]
    state: Mapped[str] = mapped_column(default="queued", index=True)
    attempts: Mapped[int] = mapped_column(default=0)
    leased_until: Mapped[datetime | None]
    next_try: Mapped[datetime | None]
    created: Mapped[datetime]
    finished: Mapped[datetime | None]
    error: Mapped[str | None]


class Release(Table):
    """What is served of a lake: its newest row, or the newest with `created` up to a moment."""

    __tablename__ = "releases"
    __table_args__ = (Index("releases_newest", "lake", "created"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    lake: Mapped[str]
    source: Mapped[str]
    snapshot: Mapped[str]
    model: Mapped[str]
    model_hash: Mapped[str]
    config_hash: Mapped[str]
    folder: Mapped[str]  # relative to the study's `out`
    created: Mapped[datetime]
    latest_pass: Mapped[datetime | None]


class Alert(Table):
    """A lake that grows or drains: as the newest release tells it, and who has acknowledged it."""

    __tablename__ = "alerts"
    __table_args__ = (Index("alerts_of_lake", "lake", "opened"),)
    id: Mapped[str] = mapped_column(primary_key=True)
    lake: Mapped[str]
    track: Mapped[str]
    sign: Mapped[str]
    stage: Mapped[str]
    opened: Mapped[datetime]  # the first pass that was off
    decided: Mapped[datetime]  # the pass of the newest event
    confirmed: Mapped[datetime | None]
    closed: Mapped[datetime | None]
    outcome: Mapped[str] = mapped_column(default="")
    release: Mapped[str] = mapped_column(ForeignKey("releases.id"))
    value: Mapped[float | None]
    expected: Mapped[float | None]
    change: Mapped[float | None]
    deviations: Mapped[float | None]
    acknowledged: Mapped[datetime | None]
    acknowledged_by: Mapped[str | None]


class AlertEvent(Table):
    """A step in an alert's life: first, confirmed, further 1, further 2, closed. Each is told once at most."""

    __tablename__ = "alert_events"
    __table_args__ = (UniqueConstraint("alert", "stage"),)
    id: Mapped[int] = mapped_column(primary_key=True)
    alert: Mapped[str] = mapped_column(ForeignKey("alerts.id"))
    stage: Mapped[str]
    at: Mapped[datetime]  # time of the pass
    recorded: Mapped[datetime]
    release: Mapped[str] = mapped_column(ForeignKey("releases.id"))
    history: Mapped[bool]  # from before the service's first look: never sent
    track: Mapped[str]
    value: Mapped[float | None]
    expected: Mapped[float | None]
    change: Mapped[float | None]
    deviations: Mapped[float | None]
    outcome: Mapped[str] = mapped_column(default="")


class Delivery(Table):
    """An event on its way to a webhook: waiting, sent or failed."""

    __tablename__ = "deliveries"
    __table_args__ = (UniqueConstraint("event", "target"), Index("deliveries_due", "state", "next_try"))
    id: Mapped[int] = mapped_column(primary_key=True)
    event: Mapped[int] = mapped_column(ForeignKey("alert_events.id"))
    target: Mapped[str]
    state: Mapped[str] = mapped_column(default="waiting")
    attempts: Mapped[int] = mapped_column(default=0)
    next_try: Mapped[datetime]
    sent_at: Mapped[datetime | None]
    error: Mapped[str | None]


class Key(Table):
    """Who may acknowledge alerts: the salted hash of a key that was shown once."""

    __tablename__ = "keys"
    name: Mapped[str] = mapped_column(primary_key=True)
    hash: Mapped[str]
    created: Mapped[datetime]
    revoked: Mapped[datetime | None]


class State:
    """The open file. `read` and `write` give sessions; a `write` is one transaction, alone among all processes.

    Parameters
    ----------
    path
        Of the SQLite file. Made, with its folder, when it isn't there.

    Raises
    ------
    ConfigError
        When the file is of another version, or no SQLite file, or can't be opened.

    Examples
    --------
    >>> import tempfile
    >>> state = State(Path(tempfile.mkdtemp()) / "service" / "state.sqlite")
    >>> with state.write() as session:
    ...     session.add(Look(lake="gokyo", started=datetime(2023, 7, 1, tzinfo=UTC)))
    >>> with state.read() as session:
    ...     session.scalars(select(Look)).one().started.isoformat()
    '2023-07-01T00:00:00+00:00'
    >>> state.close()
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            msg = f"{path.parent} can't be made ({error.strerror}); give another folder as study.out"
            raise ConfigError(msg) from error
        self.engine = _engine(path)
        try:
            with self.engine.connect().execution_options(immediate=True) as connection, connection.begin():
                _check(connection, path)
        except exc.DatabaseError as error:
            msg = f"the state at {path} can't be opened ({error.orig}); move it away to begin anew, the cubes stay"
            raise ConfigError(msg) from error

    @classmethod
    def of(cls, out: Path) -> State:
        """The state of the study that writes to `out`."""
        return cls(out / HOME / "state.sqlite")

    @contextmanager
    def read(self) -> Iterator[Session]:
        """Give a session that sees one moment of the state, and changes nothing."""
        with Session(self.engine, expire_on_commit=False) as session:
            yield session

    @contextmanager
    def write(self) -> Iterator[Session]:
        """Give a session whose changes come all together, when the block ends without an error."""
        with (
            self.engine.connect().execution_options(immediate=True) as connection,
            Session(connection, expire_on_commit=False) as session,
            session.begin(),
        ):
            yield session

    def close(self) -> None:
        """Close the file."""
        self.engine.dispose()


def newest_release(session: Session, lake: str, as_of: datetime | None = None) -> Release | None:
    """Find what is served of a lake, now or at a moment; None when nothing is."""
    query = select(Release).where(Release.lake == lake)
    if as_of is not None:
        query = query.where(Release.created <= as_of)
    return session.scalars(query.order_by(Release.created.desc(), Release.id.desc()).limit(1)).first()


def first_look(session: Session, lake: str) -> datetime | None:
    """Tell when the service first looked for a lake: what is older is history."""
    return session.scalar(select(func.min(Look.started)).where(Look.lake == lake))


def last_good_look(session: Session, lake: str, *, whole: bool = False) -> Look | None:
    """Find the newest look for a lake that ended well; or of those that asked for all."""
    good = select(Look).where(Look.lake == lake, Look.ended.is_not(None), Look.error.is_(None))
    if whole:
        good = good.where(Look.since.is_(None))
    return session.scalars(good.order_by(Look.started.desc(), Look.id.desc()).limit(1)).first()


def _engine(path: Path) -> Engine:
    engine = create_engine(f"sqlite:///{path}", connect_args={"timeout": BUSY_SECONDS})

    @event.listens_for(engine, "connect")
    def _prepare(connection: Any, _: object) -> None:
        connection.isolation_level = None  # the driver's own BEGIN comes too late for one look at one moment
        for pragma in ("journal_mode=WAL", "synchronous=FULL", "foreign_keys=ON"):
            connection.execute(f"PRAGMA {pragma}").close()

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        # Who will write says so first: two that both read and then write would have to give way to each other.
        immediate = connection.get_execution_options().get("immediate", False)
        connection.exec_driver_sql("BEGIN IMMEDIATE" if immediate else "BEGIN")

    return engine


def _check(connection: Connection, path: Path) -> None:
    """Make the tables of an empty file; refuse those of another version."""
    found = connection.exec_driver_sql("PRAGMA user_version").scalar()
    empty = connection.exec_driver_sql("SELECT count(*) FROM sqlite_master").scalar() == 0
    if empty:
        Table.metadata.create_all(connection)
        connection.exec_driver_sql(f"PRAGMA user_version={VERSION}")
    elif found != VERSION:
        msg = (
            f"the state at {path} is of version {found}, this cubekit writes version {VERSION}; use the cubekit that "
            "wrote it, or move the file away to begin anew: cubes and releases stay, alerts and keys don't"
        )
        raise ConfigError(msg)
