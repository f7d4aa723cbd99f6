"""Where a living cube lives: an Icechunk repository, one writer at a time, snapshots for readers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

from cubekit.cube._seal import KEY, seal
from cubekit.errors import CubeConflict, NoObservations, SourceError, StorageError

PASSES = "passes"
"""Group of the raw passes."""

LOCK_SECONDS = 5.0
"""How long a writer waits for another one."""


@dataclass(frozen=True)
class Snapshot:
    """One commit of a cube."""

    id: str
    time: datetime
    message: str


def local(path: str | Path) -> Path:
    """A local path from a path or URL.

    Raises
    ------
    SourceError
        For object stores: cubes are local so far.
    """
    text = str(path)
    scheme = urlparse(text).scheme
    if scheme in {"s3", "gs", "az", "http", "https"}:
        msg = f"{text}: cubes can't be kept at {scheme}:// yet; give a local path"
        raise SourceError(msg)
    return Path(text.removeprefix("file://")).resolve()  # one cube, one lock, by whatever link it is reached


def is_living(path: Path) -> bool:
    """Whether there is an Icechunk repository at a path."""
    return (path / "refs").is_dir() or (path / "repo").exists()


def is_published(path: Path) -> bool:
    """Whether there is a plain Zarr at a path."""
    return (path / "zarr.json").is_file()


def open_repository(path: Path) -> Any:
    """Open the repository of a living cube.

    Raises
    ------
    SourceError
        When there is none, or it can't be read.
    """
    import icechunk

    if not is_living(path):
        msg = f"there is no cube at {path}; build one with build_cube or `cubekit run`"
        raise SourceError(msg)
    try:
        return icechunk.Repository.open(_storage(path))
    except icechunk.IcechunkError as error:
        msg = f"the cube at {path} can't be opened: {first_line(str(error))}; see `cubekit verify {path}`"
        raise SourceError(msg) from error


def create(path: Path, fill: Callable[[Any], object], message: str) -> None:
    """Create a cube whole: it appears with its first commit in it, or not at all.

    Parameters
    ----------
    path
        Where; its parent is made when missing.
    fill
        Writes into the store it is given.
    message
        Of the first commit.

    Raises
    ------
    StorageError
        When it can't be written there. Nothing is left then.
    """
    import icechunk

    beside = path.with_name(f".{path.name}.new")
    shutil.rmtree(beside, ignore_errors=True)  # a killed writer's
    try:
        with writable(path):
            session = icechunk.Repository.create(_storage(beside)).writable_session("main")
            fill(session.store)
            session.commit(message, metadata={KEY: seal(session)})
            beside.rename(path)
    except StorageError:
        shutil.rmtree(beside, ignore_errors=True)  # on a full disk others need the room
        raise


def commit(path: Path, fill: Callable[[Any], object], message: str) -> None:
    """Write in one commit: readers see all of it or nothing. What changes nothing makes no snapshot.

    Raises
    ------
    StorageError
        When it can't be written. The cube is as before then.
    """
    repository = open_repository(path)
    with writable(path):
        session = repository.writable_session("main")
        fill(session.store)
        if session.has_uncommitted_changes:
            session.commit(message, metadata={KEY: seal(session)})


@contextmanager
def writable(path: Path, source: Path | None = None) -> Iterator[None]:
    """Tell in the cube's words why it can't be written, or why what it is made of (`source`) can't be read.

    Raises
    ------
    StorageError
        With what to do: a disk that is full, a folder that may not be written, a clock that went back, or damage.
    """
    import icechunk

    try:
        yield
    except (icechunk.IcechunkError, OSError) as error:
        raise StorageError(_refusal(path, str(error))) from error
    except (ValueError, RuntimeError) as error:  # a column is read before it is added to
        if not _is_damage(error):
            raise
        msg = f"the cube at {source or path} is damaged, and nothing was written; see `cubekit verify {source or path}`"
        raise StorageError(msg) from error


@contextmanager
def readable(path: Path) -> Iterator[None]:
    """Tell in the cube's words why it can't be read.

    Raises
    ------
    SourceError
        Which names the command that tells what is damaged.
    """
    import icechunk

    try:
        yield
    except (icechunk.IcechunkError, ValueError, RuntimeError) as error:
        if not isinstance(error, icechunk.IcechunkError) and not _is_damage(error):
            raise
        msg = f"the cube at {path} is damaged ({first_line(str(error))}); see `cubekit verify {path}`"
        raise SourceError(msg) from error


def _is_damage(error: Exception) -> bool:
    """Whether it is of a codec, whose errors have no type of their own."""
    return any(word in str(error).lower() for word in ("checksum", "zstd", "decompress"))


def _refusal(path: Path, reason: str) -> str:
    known = {
        "no space left": "the disk is full; make room, then run again",
        "quota exceeded": "the quota of this disk is used up; make room, then run again",
        "file too large": "a file may not become as large as it has to; raise the limit (ulimit -f), then run again",
        "read-only file system": "its disk may only be read; mount it for writing, or copy the cube",
        "permission denied": "this user may not write there; change the owner, or copy the cube",
        "operation not permitted": "this user may not write there; change the owner, or copy the cube",
        "timestamp ordering": "this machine's clock is behind the cube's newest snapshot; set it right, then run again",
        "clock has drifted": "the clocks of this machine and of the disk differ; set them right, then run again",
    }
    text = reason.lower()
    why = next((say for sign, say in known.items() if sign in text), first_line(reason))
    return f"the cube at {path} can't be written, and is as it was: {why}"


def first_line(text: str) -> str:
    """What an error says: Icechunk's draws an x before it and its origins below."""
    return text.strip().partition("\n")[0].removeprefix("x ").strip()


def read_store(path: Path, as_of: str | datetime | date | None = None) -> Any:
    """A store to read a cube from, at its newest snapshot or as it was.

    Parameters
    ----------
    path
        The living cube.
    as_of
        A time (UTC unless it says otherwise; a date means its end), or a snapshot's id.

    Raises
    ------
    NoObservations
        When the cube did not exist yet.
    SourceError
        When there is no such snapshot, or the cube is damaged.
    """
    repository = open_repository(path)
    with readable(path):
        if as_of is None:
            return repository.readonly_session("main").store
        snapshots = _history(repository)
        if isinstance(as_of, str) and any(snapshot.id == as_of for snapshot in snapshots):
            return repository.readonly_session(snapshot_id=as_of).store
    until = _end(as_of)
    written = [snapshot for snapshot in snapshots if snapshot.time <= until]
    if not written:
        first = f"{snapshots[-1].time:%Y-%m-%dT%H:%M:%SZ}"
        msg = f"the cube at {path} did not exist on {until:%Y-%m-%dT%H:%M:%SZ}; its first snapshot is of {first}"
        raise NoObservations(msg)
    with readable(path):
        return repository.readonly_session(snapshot_id=written[0].id).store


def history(path: str | Path) -> list[Snapshot]:
    """Snapshots of a living cube, newest first; among the oldest those that `expire` was told to keep.

    Raises
    ------
    SourceError
        When there is no living cube at the path.
    """
    where = local(path)
    repository = open_repository(where)
    with readable(where):
        return _history(repository)


def _history(repository: Any) -> list[Snapshot]:
    commits = [Snapshot(s.id, s.written_at, s.message) for s in repository.ancestry(branch="main")]
    del commits[-1]  # Icechunk's own: an empty repository
    kept = {repository.lookup_tag(tag) for tag in repository.list_tags()} - {commit.id for commit in commits}
    older = [Snapshot(s.id, s.written_at, s.message) for s in map(repository.lookup_snapshot, kept)]
    return commits + sorted(older, key=lambda snapshot: snapshot.time, reverse=True)


@contextmanager
def writer(path: Path) -> Iterator[None]:
    """Hold the one writer's lock of a cube; the system frees it when the process dies.

    Raises
    ------
    CubeConflict
        When another process holds it.
    StorageError
        When there may not be one.
    """
    from filelock import FileLock, Timeout

    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=LOCK_SECONDS)
    with writable(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            lock.acquire()
        except Timeout:  # which is an OSError, too
            msg = f"another process is writing to {path}; wait for it to end, then run again"
            raise CubeConflict(msg) from None
    try:
        yield
    finally:
        lock.release()


def point(link: Path, target: Path) -> None:
    """Let a link point to another folder beside it, in one step that no kill can halve.

    Raises
    ------
    CubeConflict
        When there is something else in the link's place.
    """
    if link.exists() and not link.is_symlink():
        msg = f"{link} exists and was not published by cubekit; remove it, or publish elsewhere"
        raise CubeConflict(msg)
    fresh = link.with_name(f".{link.name}.link")
    fresh.unlink(missing_ok=True)  # a killed writer's
    fresh.symlink_to(target.name)
    fresh.replace(link)


def _end(as_of: str | datetime | date) -> datetime:
    try:
        if isinstance(as_of, str):
            as_of = date.fromisoformat(as_of) if len(as_of) == len("2019-07-01") else datetime.fromisoformat(as_of)
    except ValueError:
        msg = f"as_of {as_of!r} is neither a snapshot of this cube nor a time; write e.g. 2019-07-01T12:00"
        raise SourceError(msg) from None
    if not isinstance(as_of, datetime):
        as_of = datetime(as_of.year, as_of.month, as_of.day, 23, 59, 59, 999999)  # noqa: DTZ001  (next line)
    return as_of.replace(tzinfo=UTC) if as_of.tzinfo is None else as_of


def _storage(path: Path) -> Any:
    import icechunk

    if "ICECHUNK_LOG" not in os.environ:
        # Icechunk warns that local storage does not see conflicting commits, which the writer's lock sees to, and logs
        # errors that it raises, too.
        icechunk.set_logs_filter("off")
    return icechunk.local_filesystem_storage(str(path))
