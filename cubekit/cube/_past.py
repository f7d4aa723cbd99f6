"""What only older snapshots hold: whether `as_of` can still be read."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import zarr

from cubekit.cube._findings import Log, Remedy
from cubekit.cube._seal import KEY, digests, nodes

PART = "history"


def check_past(log: Log, repository: Any) -> None:
    """Check each older snapshot's seal, and read the chunks that the one after it no longer has.

    What both have was read already, or is of the snapshot after it.
    """
    after = ""
    with log.unreadable(PART, "", Remedy.EXPIRE):
        for snapshot in repository.ancestry(branch="main"):
            if snapshot.parent_id is None:
                break  # Icechunk's own: an empty repository
            if after:
                _check_snapshot(log, repository, snapshot, after)
            after = snapshot.id
    with log.unreadable(PART, "", Remedy.EXPIRE):
        for tag in sorted(repository.list_tags()):  # what `expire` was told to keep
            name = repository.lookup_tag(tag)
            _check_snapshot(log, repository, repository.lookup_snapshot(name), "")


def _check_snapshot(log: Log, repository: Any, snapshot: Any, after: str) -> None:
    name = snapshot.id
    session = log.try_read(lambda: repository.readonly_session(snapshot_id=name), PART, name, Remedy.EXPIRE)
    if session is None:
        return
    there: dict[str, bool] = {}
    with log.unreadable(PART, snapshot.id, Remedy.EXPIRE):
        there = nodes(session)
        sealed = snapshot.metadata.get(KEY)
        if sealed is not None and digests(session, there) != sealed:
            problem = "its metadata or a list of its chunks is not what was committed"
            log.add(PART, snapshot.id, problem, Remedy.EXPIRE)
            return
    arrays = [path for path, array in there.items() if array]
    changed = _changed(log, repository, snapshot.id, after) if after else None
    for path in arrays:
        if changed is None or path in changed:
            with log.unreadable(PART, snapshot.id, Remedy.EXPIRE):
                _read(log, session, snapshot.id, path, None if changed is None else changed[path])


def _changed(log: Log, repository: Any, name: str, after: str) -> dict[str, list[Any] | None] | None:
    """Chunks of each array that the next snapshot has otherwise, None for all; None where that isn't known."""
    diff = Log().try_read(
        lambda: repository.diff(from_snapshot_id=name, to_snapshot_id=after), PART, after, Remedy.NONE
    )
    if diff is None:
        problem = "the log of what it changed can't be read; no value depends on it"
        log.add(PART, after, problem, Remedy.NONE, wrong=False)
        return None
    found: dict[str, list[Any] | None] = {path.lstrip("/"): chunks for path, chunks in diff.updated_chunks.items()}
    # An array that was deleted, or made anew in the place of another, shares no chunk.
    return found | {path.lstrip("/"): None for path in (*diff.deleted_arrays, *diff.new_arrays)}


def _read(log: Log, session: Any, name: str, path: str, chunks: list[Any] | None) -> None:
    array = zarr.open_array(session.store, path=path, mode="r")
    wanted = list(_all(array)) if chunks is None else [tuple(chunk) for chunk in chunks]
    for chunk in wanted:
        if all(index < count for index, count in zip(chunk, _counts(array), strict=True)):  # not added since
            with log.unreadable(PART, f"{name} {path}", Remedy.EXPIRE):
                array.blocks[chunk] if array.ndim else array[...]
                log.chunks += 1


def _counts(array: Any) -> tuple[int, ...]:
    return tuple(-(-length // size) for length, size in zip(array.shape, array.chunks, strict=True))


def _all(array: Any) -> Iterator[tuple[int, ...]]:
    return product(*map(range, _counts(array)))
