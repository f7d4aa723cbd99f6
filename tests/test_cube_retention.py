"""What a cube remembers: snapshots are listed and expired, and what is named stays readable."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import factories
import pytest
import xarray as xr

from cubekit import cli
from cubekit.cube import append, build_cube, expire, history, open_cube, open_water, passes_at, publish, write_water
from cubekit.errors import ConfigError, NoObservations, SourceError
from cubekit.lakes import catalogue
from cubekit.service.state import Job, Release, State
from cubekit.sources import find_scenes

LAKE = catalogue()["tsho_rolpa"].at_spacing(30)
DATES = ("20210709T001135", "20210721T001135", "20210802T001136", "20210814T001136", "20210826T001137")
DAY = timedelta(days=1)


def water_of(cube: xr.Dataset) -> xr.DataArray:
    values = cube["vv"].load()
    attrs = {"model": "otsu", "model_hash": "1", "preprocessing": "{}"}
    return (values * 2).assign_coords(observed=values.notnull()).assign_attrs(attrs)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A cube that grew by a pass a commit, and then was segmented: six snapshots."""
    home = tmp_path_factory.mktemp("made")
    for date in DATES:
        factories.opera(home / "archive", LAKE, date)
    items = sorted(find_scenes(LAKE, f"folder:{home / 'archive'}"), key=lambda item: item.datetime)
    path = home / "out" / "cubes" / "folder" / LAKE.id
    build_cube(LAKE, items[:1], path.parent)
    for item in items[1:]:
        append(path, [item])
    write_water(path, "otsu", water_of(open_cube(path)))
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    """A copy of one's own, at the same place below its `out`."""
    shutil.copytree(made.parents[2], tmp_path / "out")
    return tmp_path / "out" / "cubes" / "folder" / LAKE.id


def files(path: Path) -> dict[str, bytes]:
    return {str(file.relative_to(path)): file.read_bytes() for file in path.rglob("*") if file.is_file()}


def test_passes_of_each_snapshot(made: Path) -> None:
    assert [passes_at(made)[one.id] for one in history(made)] == [5, 5, 4, 3, 2, 1]


def test_a_dry_run_changes_no_byte(path: Path) -> None:
    before = files(path)
    told = expire(path, keep=2)
    assert ([one.message for one in told.kept], len(told.expired), told.done) == (
        [one.message for one in history(path)[:2]],
        4,
        False,
    )
    assert files(path) == before


def test_expired_snapshots_are_gone_and_the_newest_reads_as_before(path: Path) -> None:
    """Their files too; what stays is the same in every value, and more can be appended and published."""
    intact, snapshots, size = open_cube(path).load(), history(path), sum(map(len, files(path).values()))
    water = open_water(path, "otsu").load()
    done = expire(path, keep=2, dry_run=False)
    assert [one.id for one in history(path)] == [one.id for one in snapshots[:2]] == [one.id for one in done.kept]
    assert size - sum(map(len, files(path).values())) == pytest.approx(done.megabytes * 1e6, rel=0.05)
    assert done.megabytes > 0
    xr.testing.assert_identical(open_cube(path).load(), intact)
    xr.testing.assert_identical(open_water(path, "otsu").load(), water)
    with pytest.raises(SourceError, match="is neither a snapshot of this cube nor a time"):
        open_cube(path, as_of=snapshots[3].id)
    with pytest.raises(NoObservations, match="its first snapshot is of"):
        open_cube(path, as_of=snapshots[3].time)
    factories.opera(path.parent, LAKE, "20210907T001137")
    append(path, find_scenes(LAKE, f"folder:{path.parent}"))
    assert open_cube(publish(path, path.parent / "a.zarr")).sizes["time"] == 6


def test_named_snapshots_stay_readable(path: Path) -> None:
    """They are in the history, by time and by name, until a later call names them no more."""
    snapshots = history(path)
    was = open_cube(path, as_of=snapshots[4].id).load()
    expire(path, keep=1, keep_snapshots=[snapshots[4].id], dry_run=False)
    assert [one.id for one in history(path)] == [snapshots[0].id, snapshots[4].id]
    for as_of in (snapshots[4].id, snapshots[2].time):
        xr.testing.assert_identical(open_cube(path, as_of=as_of).load(), was)
    expire(path, keep=1, keep_snapshots=[snapshots[4].id], dry_run=False)
    assert len(history(path)) == 2
    expire(path, keep=1, dry_run=False)
    assert len(history(path)) == 1


def test_age_and_number_both_protect(path: Path) -> None:
    assert not expire(path, older_than=DAY).expired
    assert len(expire(path, older_than=timedelta(0)).expired) == 5
    assert len(expire(path, older_than=timedelta(0), keep=4).expired) == 2


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ({}, "nothing says which snapshots may go"),
        ({"keep": 0}, "keep at least 1 snapshot"),
        ({"older_than": -DAY}, "give an age of 0 or more"),
    ],
)
def test_what_says_nothing_is_refused(path: Path, asked: dict, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        expire(path, **asked)


def test_an_unknown_snapshot_is_refused(path: Path) -> None:
    with pytest.raises(SourceError, match=r"has no snapshot NONE; `cubekit history .*` lists them"):
        expire(path, keep=1, keep_snapshots=["NONE"])


def run(*words: str) -> int:
    """The exit code of a command."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["cubekit", *words])
        with pytest.raises(SystemExit) as ended:
            cli.main()
    return ended.value.code or 0


def test_history_on_the_command_line(made: Path, capsys) -> None:
    assert run("history", str(made)) == 0
    shown = capsys.readouterr().out
    assert all(one.id in shown and one.message in shown for one in history(made))
    assert run("history", str(made), "--json") == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["id"], row["passes"]) for row in rows] == list(passes_at(made).items())


def test_expire_on_the_command_line_keeps_what_results_and_releases_name(path: Path, capsys) -> None:
    """Areas name one snapshot, a release another, a waiting job a third; the option a fourth; the fifth goes."""
    names = [one.id for one in history(path)]
    out = path.parents[2]
    (out / "series" / "folder").mkdir(parents=True)
    (out / "series" / "folder" / "areas.csv").write_text(f"lake,snapshot\n{LAKE.id},{names[1]}\nother,{names[5]}\n")
    state, now = State.of(out), datetime.now(UTC)
    with state.write() as session:
        release = {"model": "otsu", "model_hash": "1", "config_hash": "1", "folder": "a", "created": now}
        session.add(Release(id="a", lake=LAKE.id, source="folder", snapshot=names[2], **release))
        session.add(Job(lake=LAKE.id, source="folder", snapshot=names[3], config_hash="1", created=now))
    state.close()
    assert run("expire", str(path), "--keep", "1", "--keep-snapshot", names[4]) == 0
    assert "1 would expire, 5 stay; --delete does it" in capsys.readouterr().out
    assert [one.id for one in history(path)] == names
    assert run("expire", str(path), "--keep", "1", "--keep-snapshot", names[4], "--delete") == 0
    assert "1 snapshots expired, 5 kept" in capsys.readouterr().out
    assert [one.id for one in history(path)] == names[:5]


def test_expire_on_the_command_line_asks_what(path: Path, capsys) -> None:
    assert run("expire", str(path)) == 1
    assert capsys.readouterr().err.startswith("error: nothing says which snapshots may go")
