"""How long a cube remembers: old snapshots are expired, and what only they hold is deleted."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import zarr

from cubekit.cube import store
from cubekit.cube.store import Snapshot
from cubekit.errors import ConfigError, SourceError


@dataclass(frozen=True)
class Expiry:
    """What was expired, or would be.

    Parameters
    ----------
    expired, kept
        Snapshots, newest first.
    done
        False where it was only asked for.
    megabytes
        Deleted from disk; with `done` False, of what no snapshot holds even now, such as a killed writer's files.
    """

    expired: tuple[Snapshot, ...]
    kept: tuple[Snapshot, ...]
    done: bool
    megabytes: float


def expire(
    path: str | Path,
    *,
    older_than: timedelta | None = None,
    keep: int | None = None,
    keep_snapshots: Collection[str] = (),
    dry_run: bool = True,
) -> Expiry:
    """Forget old snapshots of a cube, and delete what only they hold.

    Parameters
    ----------
    path
        The living cube.
    older_than
        Younger snapshots stay. By default age doesn't count.
    keep
        So many of the newest stay, however old they are; at least 1, which is the default.
    keep_snapshots
        Ids of snapshots that stay whatever their age and number, such as those that results name. They stay until a
        later call expires them without naming them.
    dry_run
        Only tell what would go.

    Returns
    -------
    Expiry
        What went, or would go.

    Raises
    ------
    ConfigError
        When `keep` is less than 1, the age is negative, or neither says what may go.
    SourceError
        When there is no living cube, or it has no snapshot of that name.
    CubeConflict
        When another process is writing to the cube.
    StorageError
        When the cube can't be written.

    Notes
    -----
    The newest snapshot always stays: no pass is lost, only what it was before. Who has an expired snapshot open, by
    ``open_cube(path, as_of=…)`` or since before the last commit, can't read on: expire when nobody reads, or with
    `older_than` longer than anybody does.
    """
    if older_than is None and keep is None:
        msg = "nothing says which snapshots may go; give the age that they must have, how many are to stay, or both"
        raise ConfigError(msg)
    least, age = 1 if keep is None else keep, older_than or timedelta(0)
    if least < 1 or age < timedelta(0):
        msg = f"keep {keep} and older than {age} are not allowed; keep at least 1 snapshot, give an age of 0 or more"
        raise ConfigError(msg)
    where = store.local(path)
    repository = store.open_repository(where)
    with store.writer(where):
        snapshots = store.history(where)
        known = {snapshot.id for snapshot in snapshots}
        if missing := [name for name in keep_snapshots if name not in known]:
            msg = f"the cube at {where} has no snapshot {', '.join(missing)}; `cubekit history {where}` lists them"
            raise SourceError(msg)
        limit = datetime.now(UTC) - age
        # The newest stay up to the first that may go: all behind it are older still.
        stay = next((i for i, one in enumerate(snapshots) if i >= least and one.time < limit), len(snapshots))
        named = [one for one in snapshots[stay:] if one.id in keep_snapshots]
        gone = tuple(one for one in snapshots[stay:] if one.id not in keep_snapshots)
        kept = (*snapshots[:stay], *named)
        with store.writable(where):
            if gone and not dry_run:
                _tag(repository, named)
                repository.expire_snapshots(snapshots[stay - 1].time)
            # The lock is held, so nothing that no snapshot holds is somebody's work in progress.
            swept = repository.garbage_collect(datetime.now(UTC), dry_run=dry_run)
    return Expiry(gone, kept, not dry_run, swept.bytes_deleted / 1e6)


def _tag(repository: Any, named: Collection[Snapshot]) -> None:
    """Let exactly these stay: Icechunk keeps what a tag names. A tag's name is never free again, so it has the time."""
    wanted = {snapshot.id for snapshot in named}
    for tag in repository.list_tags():
        if repository.lookup_tag(tag) not in wanted:
            repository.delete_tag(tag)
    tagged = {repository.lookup_tag(tag) for tag in repository.list_tags()}
    for snapshot in sorted(wanted - tagged):
        repository.create_tag(f"keep-{snapshot}-{datetime.now(UTC):%Y%m%dT%H%M%S%f}", snapshot)


def passes_at(path: str | Path) -> Mapping[str, int]:
    """How many passes each snapshot of a living cube holds, by its id.

    Raises
    ------
    SourceError
        When there is no living cube at the path, or it is damaged.
    """
    where = store.local(path)
    repository = store.open_repository(where)
    found = {}
    for snapshot in store.history(where):
        with store.readable(where):
            past = repository.readonly_session(snapshot_id=snapshot.id).store
            found[snapshot.id] = int(zarr.open_array(past, path=f"{store.PASSES}/time", mode="r").shape[0])
    return found
