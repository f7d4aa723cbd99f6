"""The commands around archives: what `cubekit search` and `cubekit sources` print and write."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import factories
import pytest
from shapely.geometry import shape

from cubekit import cli
from cubekit.lakes import catalogue
from cubekit.sources import SCHEMES

LAKE = catalogue()["tsho_rolpa"].at_spacing(30)
YEAR = ("--start", "2021-01-01", "--end", "2021-12-31")
SECRET = "sEcReT-7f3a"


@pytest.fixture
def cubekit(capsys, monkeypatch) -> Callable[..., tuple[int, str, str]]:
    """`cubekit …` in this process: exit code, output, errors."""

    def called(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["cubekit", *map(str, arguments)])
        with warnings.catch_warnings():
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as ended:
                cli.main()
        return (int(ended.value.code or 0), *capsys.readouterr())

    return called


@pytest.fixture
def home(tmp_path: Path, monkeypatch) -> Path:
    """A folder with two passes over Tsho Rolpa, of which the second misses half of the lake."""
    monkeypatch.chdir(tmp_path)
    factories.opera(tmp_path / "scenes", LAKE, "20210709T001135")
    factories.opera(tmp_path / "scenes", LAKE, "20210721T001135", shift=(6000, 0))
    return tmp_path


def cells(out: str) -> dict[tuple[str, str], list[str]]:
    """Rows of the table by track and what they count."""
    rows, track = {}, ""
    for line in out.splitlines():
        parts = [part.strip() for part in re.split("[│┃]", line)[1:-1]]
        if len(parts) > 3 and line.startswith("│"):
            track = parts[0] or track
            rows[track, parts[2]] = parts[3:]
    return rows


def test_search_shows_a_table(home: Path, cubekit) -> None:
    """Each track that sees the lake, expected, found and usable by year, and why passes are not usable."""
    code, out, _ = cubekit("search", "tsho_rolpa", "--source", "folder:scenes", *YEAR)
    assert code == 0
    assert cells(out) == {
        ("12", "expected"): ["61", "61"],
        ("12", "found"): ["0", "0"],
        ("12", "usable"): ["0", "0"],
        ("85", "expected"): ["60", "60"],
        ("85", "found"): ["0", "0"],
        ("85", "usable"): ["0", "0"],
        ("121", "expected"): ["60", "60"],
        ("121", "found"): ["2", "2"],
        ("121", "usable"): ["1", "1"],
    }
    assert "1 not usable: its footprint covers less than 90% of the lake" in out


def test_search_writes_json(home: Path, cubekit) -> None:
    """All counts, and which passes are not usable."""
    code, _, _ = cubekit("search", "tsho_rolpa", "--source", "folder:scenes", *YEAR, "--json", "new/found.json")
    assert code == 0
    made = json.loads((home / "new" / "found.json").read_text())
    assert (made["start"], made["end"], made["failed"]) == ("2021-01-01", "2021-12-31", [])
    (result,) = made["results"]
    assert (result["lake"], result["source"]) == ("tsho_rolpa", "folder:scenes")
    row = {"track": 121, "direction": "descending", "year": 2021, "expected": 60, "found": 2, "usable": 1}
    assert row in result["coverage"]
    (pass_,) = result["unusable"]
    assert pass_["time"] == "2021-07-21T00:11:35Z"
    assert re.search("less than 90%", pass_["reason"])
    assert pass_["granules"][0].startswith("OPERA_L2_RTC-S1_T121-257648-IW2_20210721T001135Z")


def test_search_writes_footprints(home: Path, cubekit) -> None:
    """One feature a scene, where it is, without the addresses of its files."""
    cubekit("search", "tsho_rolpa", "--source", "folder:scenes", "--geojson", "found.geojson")
    made = json.loads((home / "found.geojson").read_text())
    assert made["type"] == "FeatureCollection"
    first, second = made["features"]
    assert shape(first["geometry"]).covers(LAKE.outline)
    assert not shape(second["geometry"]).covers(LAKE.outline)
    assert (first["properties"]["track"], first["properties"]["unusable"]) == (121, None)
    assert str(home) not in (home / "found.geojson").read_text()


@pytest.mark.parametrize(("option", "key"), [("--json", "results"), ("--geojson", "features")])
def test_a_dash_is_the_standard_output(home: Path, cubekit, option: str, key: str) -> None:
    """Which then holds nothing else."""
    code, out, _ = cubekit("search", "tsho_rolpa", "--source", "folder:scenes", *YEAR, option, "-")
    assert code == 0
    assert json.loads(out)[key]


def test_any_source_that_a_study_takes(home: Path, cubekit) -> None:
    """Several at once, each with its own table."""
    code, out, _ = cubekit(
        *("search", "tsho_rolpa", "--start", "2021-07-01", "--end", "2021-07-20"),
        *("--source", "folder:scenes", "--source", "simulated:archive?seed=1"),
    )
    assert code == 0
    assert "tsho_rolpa in folder:scenes: passes" in out
    assert "tsho_rolpa in simulated:archive?seed=1: passes" in out
    assert int(cells(out)["121", "found"][0]) > 0


def test_lakes_of_a_file(home: Path, cubekit) -> None:
    """All of a GeoJSON file, beside those of the catalogue, each once."""
    outline = json.loads(json.dumps(LAKE.outline.__geo_interface__))
    feature = {"type": "Feature", "properties": {"id": "mine"}, "geometry": outline}
    (home / "mine.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    arguments = ("search", "mine.geojson", "tsho_rolpa", "mine.geojson", "--source", "folder:scenes", "--json", "-")
    _, out, _ = cubekit(*arguments)
    assert [result["lake"] for result in json.loads(out)["results"]] == ["mine", "tsho_rolpa"]


def test_a_lake_that_is_not_there_does_not_end_the_others(home: Path, cubekit) -> None:
    """Its error is one line, no count stands for it, and the exit code says so."""
    arguments = ("search", "tilicho", "tsho_rolpa", "--source", "folder:scenes", *YEAR, "--json", "found.json")
    code, out, errors = cubekit(*arguments)
    assert code == 1
    assert "tsho_rolpa in folder:scenes" in out
    assert "tilicho in" not in out
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert re.match(r"error: tilicho in folder:scenes: no scene of tilicho between 2021-01-01 and 2021-12-31", line)
    (failed,) = json.loads((home / "found.json").read_text())["failed"]
    assert (failed["lake"], failed["source"]) == ("tilicho", "folder:scenes")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("nessie",), "'nessie' is not in the catalogue; it has chamlang_tsho.*give a .geojson file"),
        (("nope.geojson",), r"nope\.geojson can't be read"),
        (("tsho_rolpa", "--source", "ftp:scenes"), "'ftp:scenes' isn't known; allowed are folder:PATH"),
        (("tsho_rolpa", "--source", "folder:nope"), "folder nope does not exist"),
        (("tsho_rolpa", "--json", "-", "--geojson", "-"), "only one of --json and --geojson"),
        (
            ("tsho_rolpa", "--source", "folder:scenes", "--start", "2021-02-01", "--end", "2021-01-01"),
            "ends .* before it starts .*swap them",
        ),
    ],
)
def test_a_fault_is_one_line(home: Path, cubekit, arguments: tuple[str, ...], named: str) -> None:
    """Which names what is wrong; nothing is written."""
    before = sorted(home.rglob("*"))
    code, out, errors = cubekit("search", *arguments)
    assert (code, out) == (1, "")
    (line,) = [line for line in errors.splitlines() if line.startswith("error: ")]
    assert re.search(named, line)
    assert "Traceback" not in errors
    assert sorted(home.rglob("*")) == before


def test_sources_lists_all(home: Path, cubekit, monkeypatch) -> None:
    """What find_scenes takes, whole, and how to log in; the secret is shown nowhere."""
    monkeypatch.setenv("EARTHDATA_TOKEN", SECRET)
    code, out, errors = cubekit("sources")
    assert code == 0
    shown = "".join(re.findall(r"^│ (\S+) +│", out, re.MULTILINE))
    assert shown == "".join(SCHEMES)
    assert "urs.earthdata.nasa.gov" in out
    assert SECRET not in out + errors
