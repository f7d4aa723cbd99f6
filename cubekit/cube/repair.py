"""Mend a cube: what can be made again is dropped or marked, so that the next run makes it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zarr

from cubekit.cube import store
from cubekit.cube._findings import ADVICE, Finding, Log, Remedy
from cubekit.cube._seal import KEY as SEAL
from cubekit.cube.publish import publish
from cubekit.cube.schema import NO_DATA
from cubekit.cube.verify import Verification, check_structure, verify

BLANK = {"mask": NO_DATA, "observed": False}
"""What stands where an image was lost; elsewhere NaN."""

WAITING = "{}"
"""The scenes of a pass that waits for its granules: the next append finds that others are stored than are known."""


@dataclass(frozen=True)
class Repair:
    """What `repair` did.

    Parameters
    ----------
    done
        In words.
    left
        What it can't mend, in words.
    granules
        Products that the cube needs again, with the passes that wait for them.
    """

    done: tuple[str, ...]
    left: tuple[str, ...]
    granules: tuple[str, ...]


def repair(path: str | Path, *, published: str | Path | None = None) -> Repair:
    """Verify a cube, and mend what can be mended from what is whole.

    Parameters
    ----------
    path
        The living cube.
    published
        What `publish` wrote of it; written anew where it is not in step, once nothing else is wrong.

    Returns
    -------
    Repair
        What was done, what is left, and which granules the cube needs again: `append` them, or run the study.

    Raises
    ------
    SourceError
        When there is no living cube at the path.
    CubeConflict
        When another process is writing to the cube.
    StorageError
        When the cube can't be written.

    Notes
    -----
    Metadata and columns that are damaged: the cube goes back to its newest snapshot that is whole, without the commits
    since, whose passes the next run reads again. An image of a pass that is damaged: the pass is blanked, not observed,
    and marked, so that the next `append` that knows its granules writes it again. A model's water that is damaged:
    those passes become pending, or all of them where its metadata is. What can't be mended is named.
    """
    where = store.local(path)
    found = verify(where, published=published, past=True)
    done: list[str] = []
    back = None
    if any(one.remedy is Remedy.ROLL_BACK and one.wrong for one in found.findings):
        with store.writer(where):
            back = _roll_back(where)
        if back is not None:
            done.append(
                f"went back to snapshot {back}, the newest that is whole; what came since has to be added again"
            )
            found = verify(where, published=published, past=True)
    if _mendable(found, Remedy.FETCH) or _mendable(found, Remedy.SEGMENT):
        with store.writer(where):
            done += _mend(where, found)
    if published is not None and back is None and _is_behind(found):
        publish(where, published, anew=True)
        done.append(f"published {published} again")
    return Repair(tuple(done), _left(found), _needed(where))


def _mendable(found: Verification, remedy: Remedy) -> list[Finding]:
    return [one for one in found.findings if one.wrong and one.remedy is remedy]


def _left(found: Verification) -> tuple[str, ...]:
    """What stays wrong in the living cube."""
    hopeless = {Remedy.ROLL_BACK, Remedy.EXPIRE}
    build = "no snapshot is whole: move the cube away, and `cubekit run` builds it again"
    advice = ADVICE | {Remedy.ROLL_BACK: build}
    told = dict.fromkeys(
        f"{' '.join(filter(None, (one.part, one.variable)))}: {one.problem}; {advice[one.remedy]}"
        for one in found.findings
        if one.wrong and one.remedy in hopeless
    )
    return tuple(told)


def _is_behind(found: Verification) -> bool:
    """Whether what is published is wrong, and the living cube isn't: a blanked pass is not to replace one that was."""
    wrong = {one.remedy for one in found.findings if one.wrong}
    return Remedy.PUBLISH in wrong and wrong <= {Remedy.PUBLISH, Remedy.EXPIRE}


def _roll_back(where: Path) -> str | None:
    """Point to the newest snapshot whose metadata and columns are whole; None where there is none."""
    repository = _opened(where)
    for name in _candidates(where, repository) if repository is not None else ():
        log = Log()
        with log.unreadable("", "", Remedy.ROLL_BACK):
            session = repository.readonly_session(snapshot_id=name)
            check_structure(log, session, repository.lookup_snapshot(name).metadata.get(SEAL))
        if not any(one.wrong and one.remedy is Remedy.ROLL_BACK for one in log.findings):
            with store.writable(where):
                repository.reset_branch("main", name)
            return name
    return None


def _opened(where: Path) -> Any:
    """Open a repository even where the file that names its newest snapshot is damaged: it is made to name any one."""

    def attempt() -> Any:
        return Log().try_read(lambda: store.open_repository(where), "", "", Remedy.NONE)

    repository, named = attempt(), where / "refs" / "branch.main" / "ref.json"
    if repository is not None or not named.is_file():
        return repository
    kept = named.read_bytes()
    with store.writable(where):
        for file in sorted((where / "snapshots").iterdir()):
            named.write_text(json.dumps({"snapshot": file.name}))
            if (repository := attempt()) is not None:
                return repository
        named.write_bytes(kept)
    return None


def _candidates(where: Path, repository: Any) -> Iterable[str]:
    """Snapshots, newest first: by their files, for the newest that is damaged doesn't tell what came before it."""
    found = []
    for file in (where / "snapshots").iterdir():
        with Log().unreadable("", "", Remedy.NONE):
            info = repository.lookup_snapshot(file.name)
            if info.parent_id is not None:  # Icechunk's own first one is empty
                found.append((info.written_at, file.name))
    return [name for _, name in sorted(found, reverse=True)]


def _mend(where: Path, found: Verification) -> list[str]:
    """Blank and mark passes, and water, in one commit."""
    fetch = {one.row for one in _mendable(found, Remedy.FETCH) if one.row is not None}
    water: dict[str, set[int] | None] = {}
    for one in _mendable(found, Remedy.SEGMENT):
        rows = water.setdefault(one.part, set())
        if one.row is None or rows is None:
            water[one.part] = None
        else:
            rows.add(one.row)
    done = []

    def fill(target: Any) -> None:
        root = zarr.open_group(target, mode="r+")
        if fetch:
            _blank(root[store.PASSES], sorted(fetch), WAITING)
        for name, rows in water.items():
            if rows is None:
                del root[name]
            else:
                _blank(root[name], sorted(rows), WAITING)

    if fetch:
        done.append(f"blanked {len(fetch)} passes, which wait for their granules")
    for name, rows in water.items():
        what = "all passes" if rows is None else f"{len(rows)} passes"
        done.append(f"{what} of {name} are to be segmented anew")
    store.commit(where, fill, f"repair: {'; '.join(done)}")
    return done


def _blank(group: Any, rows: Iterable[int], scenes: str) -> None:
    """Write images whole, over what can't be read, and say that the scenes of these rows are none."""
    column = group["scenes"]
    for row in rows:
        for name, array in group.arrays():
            if array.ndim == 3:
                array[row] = BLANK.get(name, float("nan"))
        column[row] = scenes


def _needed(where: Path) -> tuple[str, ...]:
    """Granules of the passes that wait for them."""
    log = Log()
    needed: set[str] = set()
    with log.unreadable("", "", Remedy.NONE):
        session = store.open_repository(where).readonly_session("main")
        passes, _ = check_structure(log, session, None)
        if passes is not None:
            for row in range(passes.length):
                if passes.columns["scenes"][row] == WAITING:
                    needed |= set(passes.about(row)["granules"])
    return tuple(sorted(needed))
