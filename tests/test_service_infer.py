"""From a job to a release: the batch job's numbers, all visible in one step, and failures that are tried again."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import watching
from sqlalchemy import select
from watching import LAKE, LIVE

from cubekit import cube, pipeline, products
from cubekit.errors import CubeConflict, SourceError
from cubekit.service import infer, ingest
from cubekit.service.context import Context, Stopped
from cubekit.service.state import Job, PassTimes, Release, newest_release


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_draw_series", lambda *_: set())
    monkeypatch.setattr(products, "_draw_maps", lambda *_: set())


@pytest.fixture(scope="module")
def granules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four passes before the service began, and one after."""
    home = tmp_path_factory.mktemp("granules")
    for moment, platform, burst in watching.times(LIVE - timedelta(days=12), LIVE + timedelta(days=3)):
        watching.granule(home, moment, platform, burst)
    return home


@pytest.fixture(scope="module")
def looked(granules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Somebody has looked: the cube is there, and a job waits."""
    home = tmp_path_factory.mktemp("looked")
    made = Context.of(watching.study(home, f"folder:{granules}"), now=watching.Clock(LIVE))
    assert ingest.look(made, made.lakes[LAKE.id]).error is None
    made.state.close()
    return home / "out"


@pytest.fixture
def context(tmp_path: Path, granules: Path, looked: Path) -> Iterator[Context]:
    """The service after that look."""
    shutil.copytree(looked, tmp_path / "out")
    moment = LIVE + timedelta(minutes=1)
    made = Context.of(watching.study(tmp_path, f"folder:{granules}"), now=watching.Clock(moment))
    yield made
    made.state.close()


def jobs(context: Context) -> list[tuple[str, int]]:
    with context.state.read() as session:
        return [(one.state, one.attempts) for one in session.scalars(select(Job).order_by(Job.id))]


def released(context: Context) -> list[Release]:
    with context.state.read() as session:
        return list(session.scalars(select(Release).order_by(Release.created)))


def test_a_release_has_the_batch_jobs_tables(context: Context, tmp_path: Path, granules: Path) -> None:
    """To the last digit, but for the names of snapshots; from a cube of its own."""
    assert infer.run_due(context) == 1
    (release,) = released(context)
    study = watching.study(tmp_path / "batch", f"folder:{granules}")
    assert not pipeline.run(study).failed
    home = context.out / release.folder
    batch = tmp_path / "batch" / "out"
    tables = sorted(path.name for path in (home / "series" / "opera").iterdir())
    assert tables == sorted(path.name for path in (batch / "series" / "opera").iterdir())
    for name in tables:
        mine, other = (watching.without_snapshot(top / "series" / "opera" / name) for top in (home, batch))
        assert mine == other, name
    shores = [watching.outline_rows(top / "outlines" / "opera" / f"{LAKE.id}.geojson") for top in (home, batch)]
    assert shores[0] == shores[1]
    assert watching.check_served(context.out) == release.id


def test_all_is_visible_with_one_row(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Before it, a reader sees nothing: no release, no time of being served, no alert."""
    record, seen = infer.warn.record, []

    def looked_at(*arguments: object) -> object:
        with context.state.read() as session:
            served = session.scalars(select(PassTimes.served)).all()
            seen.append((newest_release(session, LAKE.id), set(served)))
        return record(*arguments)

    monkeypatch.setattr(infer.warn, "record", looked_at)
    infer.run_due(context)
    assert seen == [(None, {None})]
    with context.state.read() as session:
        release = newest_release(session, LAKE.id)
        rows = session.scalars(select(PassTimes)).all()
    assert len(rows) == 5
    assert all(row.acquired < row.produced and row.seen < row.served == release.created for row in rows)
    assert all(row.produced - row.acquired == watching.LATENCY for row in rows)


def test_a_description_tells_what_a_release_is(context: Context) -> None:
    """The same as its row."""
    infer.run_due(context)
    (release,) = released(context)
    told = json.loads((context.out / release.folder / "release.json").read_text())
    for name in ("lake", "source", "snapshot", "model", "model_hash", "config_hash"):
        assert told[name] == getattr(release, name)
    assert told["passes"] == 5
    assert told["latest_pass"] == f"{release.latest_pass:%Y-%m-%dT%H:%M:%SZ}"
    assert {row["track"] for row in told["tracks"]} >= {12, 121}
    assert all(row["area_km2"] is None or 1 < row["area_km2"] < 2 for row in told["tracks"])


def test_nothing_new_makes_no_release(context: Context) -> None:
    """Another look finds the same, asks for nothing, and changes no snapshot."""
    infer.run_due(context)
    path = context.cube(LAKE.id, "opera")
    before = cube.history(path)[0].id
    assert ingest.look(context, context.lakes[LAKE.id]).error is None
    assert infer.run_due(context) == 0
    assert jobs(context) == [("done", 1)]
    assert cube.history(path)[0].id == before


def test_another_study_makes_a_release_of_the_same_passes(context: Context) -> None:
    """What can change a number has changed: all is measured anew."""
    infer.run_due(context)
    season = context.study.season.model_copy(update={"looks": 2})
    context.study = context.study.model_copy(update={"season": season})
    ingest.look(context, context.lakes[LAKE.id])
    assert infer.run_due(context) == 1
    first, second = released(context)
    assert (first.snapshot, first.model_hash) == (second.snapshot, second.model_hash)
    assert first.config_hash != second.config_hash


def test_what_fails_is_tried_again(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """Later and later, until it has failed; a release then is still possible: a new pass asks for it."""

    def broken(*_: object) -> str:
        msg = "no model today"
        raise SourceError(msg)

    with monkeypatch.context() as patched:
        patched.setattr(infer, "segment_passes", broken)
        for attempt in range(1, 4):
            assert infer.run_due(context) == 0
            assert jobs(context) == [("queued", attempt)]
            assert infer.run_due(context) == 0
            context.now.moment += timedelta(minutes=30 * 2 ** (attempt - 1))
    with context.state.read() as session:
        assert session.scalars(select(Job.error)).one() == "SourceError: no model today"
    assert infer.run_due(context) == 1
    assert jobs(context) == [("done", 4)]


def test_at_last_it_has_failed(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """After `max_attempts`; the releases' folder has nothing of it."""
    options = context.study.service.model_copy(update={"max_attempts": 2})
    context.study = context.study.model_copy(update={"service": options})

    def broken(*_: object) -> None:
        msg = "unforeseen"
        raise ZeroDivisionError(msg)

    monkeypatch.setattr(infer, "_write_tables", broken)
    for _ in range(4):
        infer.run_due(context)
        context.now.moment += timedelta(days=1)
    assert jobs(context) == [("failed", 2)]
    assert list((context.out / "service" / "releases" / LAKE.id).iterdir()) == []


def test_a_cube_that_changes_meanwhile_is_measured_again(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """In the same job: a look of another process has added a pass."""
    measure, calls = pipeline.measure_lake, []

    def conflicting(*arguments: object) -> object:
        calls.append(1)
        if len(calls) == 1:
            msg = "the passes and their water are not of the same times"
            raise CubeConflict(msg)
        return measure(*arguments)

    monkeypatch.setattr(pipeline, "measure_lake", conflicting)
    assert infer.run_due(context) == 1
    assert len(calls) == 2
    assert jobs(context) == [("done", 1)]
    assert len(list((context.out / "service" / "releases" / LAKE.id).iterdir())) == 1


def test_who_is_to_end_gives_the_job_back(context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    """At the next commit; nothing is visible of it, and the next process goes on at once."""
    measure = pipeline.measure_lake

    def ended(*arguments: object) -> object:
        context.stopping.set()
        return measure(*arguments)

    with monkeypatch.context() as patched:
        patched.setattr(pipeline, "measure_lake", ended)
        with pytest.raises(Stopped):
            infer.run_due(context)
    assert jobs(context) == [("queued", 0)]
    assert released(context) == []
    assert list((context.out / "service" / "releases" / LAKE.id).iterdir()) == []
    context.stopping.clear()
    assert infer.run_due(context) == 1


def test_what_a_killed_process_left_is_cleared_up(context: Context) -> None:
    """Its job is free at once, its folder gone; while it lives, nobody touches either."""
    job = infer._lease(context)
    assert job is not None
    orphan = context.out / "service" / "releases" / LAKE.id / "R1"
    orphan.mkdir(parents=True)
    with context.alone(f"infer-{LAKE.id}"):
        other = Context.of(context.study, now=context.now)
        infer.reclaim(other)
        assert infer.run_due(other) == 0
        assert orphan.exists()
        other.state.close()
    infer.reclaim(context)
    assert not orphan.exists()
    assert infer.run_due(context) == 1


def test_a_lease_runs_out(context: Context) -> None:
    """For where the lock of a dead process is not freed: another machine's."""
    infer._lease(context)
    assert infer.run_due(context) == 0
    context.now.moment += infer.LEASE
    assert infer.run_due(context) == 1


def test_a_lake_that_left_the_study_stops_nobody(context: Context) -> None:
    """Its job fails, the others are done."""
    with context.state.write() as session:
        created = LIVE - timedelta(days=1)
        session.add(Job(lake="gone", source="opera", snapshot="A", config_hash="1", created=created))
    assert infer.run_due(context) == 1
    assert sorted(jobs(context)) == [("done", 1), ("queued", 1)]
