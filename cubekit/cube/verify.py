"""Whether a cube is whole: every chunk, every word of its metadata, its history, and what was made of it."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cubekit.cube import store
from cubekit.cube._findings import Finding, Log, Remedy
from cubekit.cube._parts import (
    KEY,
    Part,
    check_image,
    check_lattice,
    check_schema,
    check_seal,
    complete,
    read_part,
)
from cubekit.cube._past import check_past
from cubekit.cube._published import check_published
from cubekit.cube._seal import KEY as SEAL
from cubekit.errors import ConfigError, SourceError

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Verification:
    """What `verify` found.

    Parameters
    ----------
    path
        The living cube.
    snapshot
        Its newest snapshot; empty where that can't be told.
    passes, chunks
        How many it holds, and how many were read.
    findings
        What is wrong, or to be known.
    """

    path: Path
    snapshot: str
    passes: int
    chunks: int
    findings: tuple[Finding, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong."""
        return not any(finding.wrong for finding in self.findings)


def verify(
    path: str | Path,
    *,
    published: str | Path | None = None,
    past: bool = True,
    workers: int = 1,
    progress: Progress | None = None,
) -> Verification:
    """Read all of a cube and tell what is wrong with it. Changes nothing.

    Parameters
    ----------
    path
        The living cube.
    published
        What `publish` wrote of it; must then be in step, and equal it in every value.
    past
        Also read what only older snapshots hold.
    workers
        Threads that read; each holds one chunk in memory.
    progress
        Called with the number of passes read of a group and of all its passes.

    Returns
    -------
    Verification
        Its `findings` name part, variable, pass, problem and remedy; `ok` where nothing is wrong.

    Raises
    ------
    SourceError
        When there is no living cube at the path.
    ConfigError
        When `workers` is less than 1.

    Notes
    -----
    Looked at are, for the newest snapshot: the seal (a digest of each array's metadata and of which chunks it has, kept
    in the commit), the schema, the checksum of every chunk, the lattice, that scenes, granules and processing times of
    a pass agree, that no pass is there twice, and that a model's water is of passes that are there. A cube that an
    older cubekit wrote has no checksums, or no seal; that is told, and what can be read is read.

    Nothing is kept in memory but one chunk a worker and the columns along time: some 2 MB for 3,000 passes.
    """
    if workers < 1:
        msg = f"workers={workers} is not allowed; give 1 or more"
        raise ConfigError(msg)
    where = store.local(path)
    if not store.is_living(where):
        msg = f"there is no living cube at {where}; give one that build_cube or `cubekit run` made"
        raise SourceError(msg)
    log = Log()
    repository = log.try_read(lambda: store.open_repository(where), "repository", "", Remedy.ROLL_BACK)
    head = None if repository is None else _head(log, repository)
    passes: Part | None = None
    if head is not None:
        session, sealed = head
        passes, waters = check_structure(log, session, sealed)
        for part in (passes, *waters):
            if part is not None:
                _check_images(log, part, workers, progress or _silent)
        if past:
            check_past(log, repository)
    if published is not None:
        check_published(log, where, store.local(Path(published).parent) / Path(published).name)
    snapshot = "" if head is None else str(head[0].snapshot_id)
    count = 0 if passes is None else passes.length
    return Verification(where, snapshot, count, log.chunks, tuple(log.findings))


def _head(log: Log, repository: Any) -> tuple[Any, dict[str, str] | None] | None:
    """The newest snapshot and its seal."""
    head = None
    with log.unreadable("repository", "", Remedy.ROLL_BACK):
        session = repository.readonly_session("main")
        head = session, repository.lookup_snapshot(session.snapshot_id).metadata.get(SEAL)
    return head


def check_structure(log: Log, session: Any, sealed: dict[str, str] | None) -> tuple[Part | None, list[Part]]:
    """All but the images: the seal, the schema, the columns. Gives the passes and the models' water."""
    if sealed is None:
        problem = "has no seal: an older cubekit wrote it, and a chunk that is no longer listed may not show"
        log.add("repository", "", problem, Remedy.NONE, wrong=False)
    paths = list(check_seal(log, session, sealed))
    passes = read_part(log, session, store.PASSES, paths)
    if passes is None:
        return None, []
    check_schema(log, passes)
    check_lattice(log, passes, passes.attrs)
    if not complete(passes):
        return passes, []
    with log.unreadable(store.PASSES, "", Remedy.ROLL_BACK):
        _check_passes(log, passes)
    waters = []
    for name in sorted({"/".join(path.split("/")[:2]) for path in paths if path.startswith("water/")}):
        water = read_part(log, session, name, paths)
        if water is not None:
            check_schema(log, water)
            check_lattice(log, water, passes.attrs)
            if complete(water):
                with log.unreadable(name, "", Remedy.SEGMENT):
                    _check_water(log, water, passes)
            waters.append(water)
    return passes, waters


def _check_passes(log: Log, passes: Part) -> None:
    """Whether what a pass says of itself agrees."""
    columns = passes.columns
    for key, count in Counter(passes.keys()).items():
        if count > 1:
            told = ", ".join(f"{name} {value}" for name, value in zip(KEY, key, strict=True))
            log.add(passes.name, "", f"{told} is there {count} times", Remedy.ROLL_BACK)
    for row in range(passes.length):
        scenes = json.loads(columns["scenes"][row])
        if not scenes:
            problem = "was blanked by a repair, and waits for its granules: `cubekit run` or append reads them again"
            log.add(passes.name, "", problem, Remedy.NONE, **passes.about(row))
        elif sorted({one["granule"] for one in scenes.values()}) != json.loads(columns["granules"][row]):
            log.add(passes.name, "granules", "are not those of its scenes", Remedy.ROLL_BACK, **passes.about(row))
    json.loads(passes.attrs["empty_passes"])


def _check_water(log: Log, water: Part, passes: Part) -> None:
    """Whether a model's rows are of passes that are there, at their times; those it has not seen are only told."""
    name = water.name
    if water.attrs["lake"] != passes.attrs["lake"]:
        log.add(name, "", f"is of {water.attrs['lake']}, the cube of {passes.attrs['lake']}", Remedy.SEGMENT)
    slots = {key: row for row, key in enumerate(passes.keys())}
    seen = set()
    for row, key in enumerate(water.keys()):
        slot = slots.get(key)
        if slot is None:
            log.add(name, "", "is of a pass that the cube doesn't hold", Remedy.SEGMENT, **water.about(row))
        elif water.columns["time"][row] != passes.columns["time"][slot]:
            log.add(name, "time", "is not the time of its pass", Remedy.SEGMENT, **water.about(row))
        elif water.columns["scenes"][row] == passes.columns["scenes"][slot]:
            seen.add(slot)
    if pending := passes.length - len(seen):
        problem = f"{pending} of {passes.length} passes are not segmented as they are; `cubekit run` does it"
        log.add(name, "", problem, Remedy.NONE, wrong=False)


def _check_images(log: Log, part: Part, workers: int, progress: Progress) -> None:
    """Read every image of a group, one at a time."""
    remedy = Remedy.SEGMENT if part.name.startswith("water/") else Remedy.FETCH
    listed = {finding.variable for finding in log.findings if finding.part == part.name and finding.row is None}
    # Where an array's metadata or list of chunks can't be read, no chunk of it can.
    rasters = {name: array for name, array in part.rasters.items() if name not in listed}

    def read(row: int) -> int:
        read = 0
        for name, array in rasters.items():
            if row < array.shape[0]:
                with log.unreadable(part.name, name, remedy, **part.about(row)):
                    problem = check_image(name, array[row])
                    read += 1
                    if problem:
                        log.add(part.name, name, problem, remedy, **part.about(row))
        return read

    count = max((array.shape[0] for array in rasters.values()), default=0)
    with ThreadPoolExecutor(workers) as threads:
        for done, read_now in enumerate(threads.map(read, range(count)), 1):
            log.chunks += read_now
            progress(done, count)


def _silent(done: int, count: int) -> None:
    """Progress that is not shown."""
