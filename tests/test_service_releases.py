"""Releases are whole or not there, and what was never released is swept."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from cubekit.service import releases
from cubekit.service.state import Release, State

NOON = datetime(2023, 7, 1, 12, tzinfo=UTC)
NAMES = ("snapshot", "model", "model_hash", "config_hash", "folder")


def test_names_sort_by_time() -> None:
    """To the microsecond; the snapshot tells two of the same moment apart."""
    moments = [NOON + timedelta(microseconds=count) for count in (0, 1, 999_999, 1_000_000)]
    names = [releases.name_of(moment, "AAAA") for moment in moments]
    assert names == sorted(set(names))
    assert releases.name_of(NOON, "AAAA") != releases.name_of(NOON, "BBBB")


def test_a_release_appears_whole(tmp_path: Path) -> None:
    """In its place only when all of it is written."""
    home = tmp_path / "service" / "releases" / "gokyo"
    with releases.writing(tmp_path, "gokyo", "R1") as folder:
        (folder / "series").mkdir()
        (folder / "series" / "areas.csv").write_text("1.5")
        assert not (home / "R1").exists()
    assert [str(path.relative_to(home)) for path in sorted(home.rglob("*.csv"))] == ["R1/series/areas.csv"]
    assert [path.name for path in home.iterdir()] == ["R1"]


def test_of_a_failed_one_nothing_stays(tmp_path: Path) -> None:
    """Neither in its place nor beside it."""

    def fail() -> None:
        with releases.writing(tmp_path, "gokyo", "R1") as folder:
            (folder / "areas.csv").write_text("1.5")
            msg = "the disk is full"
            raise OSError(msg)

    with pytest.raises(OSError, match="the disk is full"):
        fail()
    assert list((tmp_path / "service" / "releases" / "gokyo").iterdir()) == []


def test_what_has_no_row_is_swept(tmp_path: Path) -> None:
    """Folders of killed processes, finished or not, of this lake only."""
    state = State.of(tmp_path)
    for lake, name in (("gokyo", "R1"), ("gokyo", "R2"), ("tilicho", "R3")):
        with releases.writing(tmp_path, lake, name) as folder:
            (folder / "a.txt").write_text("1")
    home = tmp_path / "service" / "releases"
    (home / "gokyo" / ".R4.new").mkdir()
    with state.write() as session:
        session.add(Release(id="R1", lake="gokyo", source="opera", created=NOON, **dict.fromkeys(NAMES, "x")))
    assert releases.sweep(state, tmp_path, "gokyo") == [".R4.new", "R2"]
    assert releases.sweep(state, tmp_path, "gokyo") == []
    assert releases.sweep(state, tmp_path, "nowhere") == []
    assert sorted(str(path.relative_to(home)) for path in home.rglob("*.txt")) == ["gokyo/R1/a.txt", "tilicho/R3/a.txt"]
    state.close()


def test_descriptions_are_json_without_nan(tmp_path: Path) -> None:
    """What is not known is null: not every reader knows NaN."""
    releases.write_description(tmp_path, {"area_km2": None, "lake": "gokyo"})
    assert json.loads((tmp_path / "release.json").read_text()) == {"area_km2": None, "lake": "gokyo"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        releases.write_description(tmp_path, {"area_km2": float("nan")})
