"""Killed at any moment, a cube holds whole passes or isn't there, and the next run ends as an undisturbed one."""

from __future__ import annotations

import bisect
import hashlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import crashing
import factories
import numpy as np
import pytest
import xarray as xr

from cubekit.cube import append, build, history, open_cube, open_water, publish, store, update, write_water
from cubekit.sources import find_scenes

LAKE = crashing.LAKE
SCRIPT = Path(crashing.__file__)
FIRST = datetime(2019, 1, 9, 0, 11, 35)  # noqa: DTZ001  a pass of track 121
PASSES = 24
LATE = 4

Signature = dict[tuple[int, int], str]
"""The scenes that each pass of a cube is made of, by the pass's key."""


def stamp(cycle: int, seconds: int = 0) -> str:
    return f"{FIRST + timedelta(days=12 * cycle, seconds=seconds):%Y%m%dT%H%M%S}"


def half(seed: int, *, north: bool) -> np.ndarray:
    """A burst that sees half of the lattice."""
    values = factories.pattern((276, 276), seed)
    values[150:] if north else values[:130]
    values[slice(150, None) if north else slice(None, 130)] = np.nan
    return values


def write_archives(archive: Path, late: Path) -> None:
    """What is known at first, and later: passes, bursts that were missing, and newer processings."""
    withheld, split = {3, 11, 19, 27}, {5, 21}
    cycles = [cycle for cycle in range(PASSES + LATE) if cycle not in withheld]
    for cycle in cycles:
        values = half(cycle, north=True) if cycle in split else factories.pattern((276, 276), cycle)
        factories.opera(archive, LAKE, stamp(cycle), values=values, vh=cycle % 2 == 0)
    for cycle in sorted(withheld):
        factories.opera(late, LAKE, stamp(cycle), values=factories.pattern((276, 276), cycle))
    for cycle in sorted(split):
        south = half(1000 + cycle, north=False)
        factories.opera(late, LAKE, stamp(cycle, 3), values=south, burst="T121-257649-IW2")
    for cycle in (8, 25):
        newer = factories.pattern((276, 276), 2000 + cycle)
        factories.opera(late, LAKE, stamp(cycle), values=newer, processed="20250101T000000")


def signature(cube: xr.Dataset) -> Signature:
    columns = (cube[name].values.tolist() for name in ("platform", "absolute_orbit", "scenes"))
    return {(platform, orbit): scenes for platform, orbit, scenes in zip(*columns, strict=True)}


def digests(cube: xr.Dataset) -> dict[tuple[int, int, str], str]:
    """What each pass holds, `ingested` excepted, by its key and scenes."""
    cube = cube.drop_vars("ingested").load()
    along = sorted(str(name) for name in cube.coords if cube[name].dims == ("time",))
    found = {}
    for row in range(cube.sizes["time"]):
        one = cube.isel(time=row)
        text = repr([(name, one[name].item()) for name in along]).encode()
        pixels = b"".join(np.ascontiguousarray(one[name].values).tobytes() for name in ("vv", "vh", "mask"))
        key = (int(one["platform"]), int(one["absolute_orbit"]), str(one["scenes"].item()))
        found[key] = hashlib.sha256(text + pixels).hexdigest()
    return found


@dataclass
class Undisturbed:
    """A run that nobody killed.

    Parameters
    ----------
    archive, late, cube
        What it was made of, and what it made.
    timeline
        Seconds from its start to each of its steps and to its end.
    states
        What the cube held after each of its commits.
    passes
        What every version of every pass is.
    end
        The cube at its end, in memory.
    """

    archive: Path
    late: Path
    cube: Path
    timeline: list[float]
    states: list[Signature]
    passes: dict[tuple[int, int, str], str]
    end: xr.Dataset


class Worker:
    """The script that follows orders in forks of its own, of which one at a time may be killed.

    Parameters
    ----------
    errors
        File for what it writes to stderr.
    """

    def __init__(self, errors: Path) -> None:
        self.errors = errors
        with errors.open("w") as stderr:
            command = [sys.executable, str(SCRIPT)]
            self.script = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=stderr, text=True
            )

    def close(self) -> None:
        self.script.stdin.close()
        self.script.wait()
        self.script.stdout.close()

    def order(self, what: str, *paths: Path, dies_after: int = 0) -> int:
        """Give an order; the process that works on it."""
        self.script.stdin.write(json.dumps([what, dies_after, *map(str, paths)]) + "\n")
        self.script.stdin.flush()
        started = self.line()
        assert started.startswith("start "), self.errors.read_text()
        return int(started.split()[1])

    def line(self) -> str:
        """What it says next."""
        return self.script.stdout.readline().strip()

    def end(self) -> list[float]:
        """Wait until it is done, or whoever works on it is dead: times at which it told of a step, or its end."""
        times = []
        while not (said := self.line()).startswith("ended"):
            assert said in {"step", "done"}, self.errors.read_text()
            times.append(time.monotonic())
        assert said in {"ended 0", "ended -9"}, self.errors.read_text()
        return times

    def measure(self, what: str, *paths: Path) -> list[float]:
        """Do it undisturbed: seconds from its start to each step, and to its end."""
        self.order(what, *paths)
        start = time.monotonic()
        return [0.0, *(moment - start for moment in self.end())]

    def kill_at(self, moment: float, timeline: Sequence[float], what: str, *paths: Path) -> None:
        """Kill it at a moment of the undisturbed run's clock: so long after the step that came last before it."""
        process = self.order(what, *paths)
        done = bisect.bisect_right(timeline, moment) - 1
        for _ in range(done):
            assert self.line() in {"step", "done"}, self.errors.read_text()
        time.sleep(moment - timeline[done])
        os.kill(process, signal.SIGKILL)
        self.end()


@pytest.fixture(scope="module")
def worker(tmp_path_factory) -> Iterator[Worker]:
    """One for all tests: loading libraries takes longest."""
    worker = Worker(tmp_path_factory.mktemp("worker") / "errors.txt")
    yield worker
    worker.close()


def moments(timeline: Sequence[float], count: int, seed: int) -> list[float]:
    """Random moments of a run, one in each of `count` equal parts of it; the last part reaches a bit beyond its end."""
    random = np.random.default_rng(seed)
    return [(part + random.random()) / count * 1.05 * timeline[-1] for part in range(count)]


@pytest.fixture(scope="module")
def undisturbed(worker: Worker, tmp_path_factory) -> Undisturbed:
    """The run that all others must end like."""
    home = tmp_path_factory.mktemp("undisturbed")
    archive, late, cube = home / "archive", home / "late", home / "cubes" / LAKE.id
    write_archives(archive, late)
    timeline = worker.measure("update", archive, late, cube.parent)
    snapshots = history(cube)[::-1]
    states = [signature(open_cube(cube, as_of=snapshot.id)) for snapshot in snapshots]
    built = next(s for s, state in zip(snapshots, states, strict=True) if len(state) == PASSES)
    end = open_cube(cube).load()
    passes = digests(open_cube(cube, as_of=built.id)) | digests(end)
    return Undisturbed(archive, late, cube, timeline, states, passes, end.drop_vars("ingested"))


def check_killed(path: Path, whole: Undisturbed) -> int:
    """What a kill left is what some commit made: its number, 0 for no cube at all."""
    if not store.is_living(path):
        return 0
    cube = open_cube(path)
    state = signature(cube)
    commits = history(path)
    assert len(state) == cube.sizes["time"]  # no key twice
    assert cube["time"].to_index().is_monotonic_increasing
    assert state == whole.states[len(commits) - 1]
    assert digests(cube).items() <= whole.passes.items()
    assert [one.message for one in commits] == [one.message for one in history(whole.cube)][-len(commits) :]
    return len(commits)


def kill_builds(worker: Worker, whole: Undisturbed, home: Path, count: int, seed: int) -> Counter[str]:
    """Kill runs at random moments and run them again; how often no cube, a part of one, or all of it was there."""
    hit: Counter[str] = Counter()
    for number, moment in enumerate(moments(whole.timeline, count, seed)):
        root = home / str(number)
        worker.kill_at(moment, whole.timeline, "update", whole.archive, whole.late, root)
        commits = check_killed(root / LAKE.id, whole)
        hit["none" if not commits else "all" if commits == len(whole.states) else "part"] += 1
        crashing.update_all(whole.archive, whole.late, root)
        xr.testing.assert_identical(open_cube(root / LAKE.id).drop_vars("ingested").load(), whole.end)
        assert sorted(file.name for file in root.iterdir()) == [f".{LAKE.id}.lock", LAKE.id]
        shutil.rmtree(root)
    return hit


def test_the_undisturbed_run_is_worth_killing(undisturbed: Undisturbed) -> None:
    """It makes many commits: passes are added, late ones too, and slots are rewritten."""
    assert len(undisturbed.states) == PASSES // crashing.BATCH + 1 + 2 + 2
    assert len(undisturbed.states[0]) == crashing.BATCH
    assert len(undisturbed.states[-1]) == PASSES + LATE
    assert len(undisturbed.passes) == PASSES + LATE + 2 + 2
    assert len(undisturbed.timeline) == 2 * len(undisturbed.states) + 2  # values, commit; its start and its end


@pytest.fixture
def small_batches(monkeypatch) -> None:
    monkeypatch.setattr(build, "BATCH", crashing.BATCH)


@pytest.mark.usefixtures("small_batches")
def test_killed_builds_end_as_undisturbed_ones(worker: Worker, undisturbed: Undisturbed, tmp_path: Path) -> None:
    """Killed in each quarter of its time, a build leaves whole passes, and its rerun ends right."""
    hit = kill_builds(worker, undisturbed, tmp_path, 4, seed=1)
    assert hit["part"] >= 2, hit


@pytest.mark.slow
@pytest.mark.usefixtures("small_batches")
def test_many_killed_builds_end_as_undisturbed_ones(
    worker: Worker, undisturbed: Undisturbed, tmp_path: Path, record_property
) -> None:
    """The same with twenty kills."""
    hit = kill_builds(worker, undisturbed, tmp_path, 20, seed=2)
    record_property("kills", dict(hit))
    assert hit["part"] >= 10, hit


# Steps: the values of a commit are written, it is made, those of the next are written …
@pytest.mark.parametrize(("steps", "commits"), [(1, 0), (2, 1), (3, 1), (-1, -1)])
def test_values_that_are_written_are_not_there_before_their_commit(
    worker: Worker, undisturbed: Undisturbed, tmp_path: Path, steps: int, commits: int
) -> None:
    """Killed with all values of a commit written, the cube is as before it, or isn't there."""
    total = len(undisturbed.states)
    worker.order("update", undisturbed.archive, undisturbed.late, tmp_path, dies_after=steps % (2 * total))
    worker.end()
    assert check_killed(tmp_path / LAKE.id, undisturbed) == commits % total


@dataclass
class Published:
    """A cube that was published before its last passes came, and what it is published as with them."""

    cube: Path
    old: Path
    new: Path


def stand_in(cube: xr.Dataset) -> xr.DataArray:
    """Something that a model could have made."""
    values = cube["vv"].load()
    attrs = {"model": "otsu", "model_hash": "1", "preprocessing": "{}"}
    return (values * 2).assign_coords(observed=values.notnull()).assign_attrs(attrs)


@pytest.fixture(scope="module")
def published(undisturbed: Undisturbed, tmp_path_factory) -> Published:
    """Published without the last passes, and with all."""
    home = tmp_path_factory.mktemp("published")
    cube = home / "cubes" / LAKE.id
    update(LAKE, find_scenes(LAKE, f"folder:{undisturbed.archive}", end="2019-03-10"), cube.parent)
    write_water(cube, "otsu", stand_in(open_cube(cube).isel(time=slice(0, 3))))
    old = publish(cube, home / "old" / "a.zarr")
    append(cube, find_scenes(LAKE, f"folder:{undisturbed.late}", end="2019-03-10"))
    return Published(cube, old, publish(cube, home / "new" / "a.zarr"))


def same(one: Path, other: Path) -> bool:
    """Whether two published cubes are the same, file by file."""
    tops = one.resolve(), other.resolve()
    files = [{p.relative_to(top): p.read_bytes() for p in top.rglob("*") if p.is_file()} for top in tops]
    return files[0] == files[1]


def check_published(target: Path, made: Published) -> str:
    """What a kill left is the old one or the new one, whole."""
    open_cube(target).load()
    open_water(target, "otsu").load()
    which = [name for name, known in (("old", made.old), ("new", made.new)) if same(target, known)]
    assert len(which) == 1, which
    return which[0]


def check_published_again(target: Path, made: Published) -> None:
    """The next call ends with the new one, and nothing beside it but the old one, for those who still read it."""
    publish(made.cube, target)
    assert same(target, made.new)
    kept = {made.old.resolve().name, made.new.resolve().name}
    assert {file.name for file in target.parent.iterdir()} == {f".{target.name}.lock", target.name, *kept}


def kill_publishing(worker: Worker, made: Published, home: Path, count: int, seed: int) -> Counter[str]:
    hit: Counter[str] = Counter()
    timeline = worker.measure("publish", made.cube, home / "measured" / "a.zarr")
    for number, moment in enumerate(moments(timeline, count, seed)):
        target = home / str(number) / "a.zarr"
        shutil.copytree(made.old.parent, target.parent, symlinks=True)
        worker.kill_at(moment, timeline, "publish", made.cube, target)
        hit[check_published(target, made)] += 1
        check_published_again(target, made)
        shutil.rmtree(target.parent)
    return hit


@pytest.mark.slow
def test_many_killed_publishes_leave_the_old_or_the_new(
    worker: Worker, published: Published, tmp_path: Path, record_property
) -> None:
    """Killed twenty times, the published Zarr is the old or the new one, and the next call ends right."""
    hit = kill_publishing(worker, published, tmp_path, 20, seed=2)
    record_property("kills", dict(hit))
    assert hit["old"] >= 10, hit


# Steps of publishing: passes and water are written, their folder gets its name, the link points to it.
@pytest.mark.parametrize(("steps", "left"), [(3, "old"), (4, "new")])
def test_a_publish_killed_at_its_swap(
    worker: Worker, published: Published, tmp_path: Path, steps: int, left: str
) -> None:
    """Killed just before and just after the one step in which the new one takes the old one's place."""
    target = tmp_path / "here" / "a.zarr"
    shutil.copytree(published.old.parent, target.parent, symlinks=True)
    worker.order("publish", published.cube, target, dies_after=steps)
    assert len(worker.end()) == steps
    assert check_published(target, published) == left
    check_published_again(target, published)
