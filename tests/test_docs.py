"""Documents can't rot: the tour runs, links point somewhere, tables are those of the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from cubekit.cli import app
from cubekit.config import Study
from cubekit.cube.schema import TIME_ATTRS
from cubekit.sources import SCHEMES
from cubekit.sources._earthdata import LOGIN_HOST, TOKEN

ROOT = Path(__file__).parents[1]
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").glob("*.md"))]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)


def test_the_tour_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    """Every line of the README's tour in Python works, in its order."""
    monkeypatch.chdir(tmp_path)
    (tour,) = blocks("python")
    exec(compile(tour, "README.md", "exec"), {})
    assert "area_km2" in capsys.readouterr().out
    assert (tmp_path / "tsho_rolpa.zarr" / "zarr.json").is_file()
    assert len([line for line in tour.splitlines() if line.strip()]) <= 10


def test_the_study_is_valid(tmp_path: Path) -> None:
    """The README's study is one."""
    (text,) = blocks("toml")
    path = tmp_path / "study.toml"
    path.write_text(text)
    assert Study.load(path).lake[0].id == "tsho_rolpa"


def test_the_keys_of_a_study_are_all_listed() -> None:
    """docs/study.md is what the code writes."""
    study = Study.parse(
        {"study": {"name": "four lakes"}, "lake": [{"id": "tsho_rolpa"}], "source": {"uri": "folder:scenes"}}
    )
    assert study.dump().rstrip() in (ROOT / "docs" / "study.md").read_text()


def test_the_commands_are_all_listed() -> None:
    """The README's table of commands has every command, and none that isn't there."""
    listed = set(re.findall(r"\| `cubekit (\w+)", (ROOT / "README.md").read_text()))
    groups = {group.name: group.typer_instance for group in app.registered_groups}
    assert listed == {command.callback.__name__ for command in app.registered_commands} | groups.keys()
    for name, group in groups.items():
        commands = "\\|".join(command.callback.__name__ for command in group.registered_commands)
        assert f"| `cubekit {name} {commands}" in (ROOT / "README.md").read_text()
    assert CliRunner().invoke(app, ["--help"]).exit_code == 0


def test_the_cube_s_variables_are_all_listed() -> None:
    """docs/cube.md names every coordinate along time."""
    text = (ROOT / "docs" / "cube.md").read_text()
    assert [name for name in TIME_ATTRS if f"`{name}`" not in text] == []


def test_the_sources_are_all_listed() -> None:
    """docs/sources.md has every address that find_scenes takes, and every way to log in."""
    text = (ROOT / "docs" / "sources.md").read_text()
    assert [scheme for scheme in SCHEMES if f"| `{scheme}` |" not in text] == []
    assert TOKEN in text
    assert LOGIN_HOST in text
    assert {f"cubekit order {name}" in text for name in ("plan", "submit", "status", "fetch")} == {True}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_point_to_files_that_exist(document: Path) -> None:
    """A link within the repository leads somewhere."""
    targets = re.findall(r"\]\((?!http)([^)#]+)", document.read_text())
    assert [target for target in targets if not (document.parent / target).exists()] == []
