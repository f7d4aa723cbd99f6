"""The command line: what it prints, what it makes, and one line of error for everything that a user can mend."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import factories
import numpy as np
import pyproj
import pytest
import xarray as xr
from safetensors.numpy import save_file

from cubekit import cli, pipeline, plots, schedulers
from cubekit.config import Study
from cubekit.cube import history, update
from cubekit.lakes import catalogue
from cubekit.segmentation.card import ModelCard
from cubekit.sources import find_scenes

LAKE = catalogue()["tsho_rolpa"]
OPERA_LAKE = LAKE.at_spacing(30)
# Track 121, 12 days apart
DATES = ("20210709T001135", "20210721T001135", "20210802T001136")
GRANULE = "OPERA_L2_RTC-S1_T121-257648-IW2_20210802T001136Z"
COMMANDS = tuple(one.name or one.callback.__name__.replace("_", "-") for one in cli.app.registered_commands)


@dataclass
class Outcome:
    """What a command ended with."""

    code: int
    out: str
    err: str

    @property
    def errors(self) -> list[str]:
        """Lines of error, without those of warnings and progress."""
        stages = re.compile(r"\w+: (search|build|segment|measure|write|publish)")
        lines = [line for line in self.err.splitlines() if not stages.match(line)]
        kept, listing = [], False
        for line in lines:
            listing = line.startswith("warning:") or (listing and line.startswith("  "))
            if not listing:
                kept.append(line)
        return kept


@pytest.fixture
def cubekit(capsys, monkeypatch) -> Callable[..., Outcome]:
    """`cubekit …` in this process: its arguments, exit code and what it prints."""

    def called(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["cubekit", *map(str, arguments)])
        with warnings.catch_warnings():  # as a user's Python has them; main() takes over how they are shown
            warnings.simplefilter("default")
            with pytest.raises(SystemExit) as ended:
                cli.main()
        printed = capsys.readouterr()
        return Outcome(int(ended.value.code or 0), printed.out, printed.err)

    return called


@pytest.fixture
def no_figures(monkeypatch) -> None:
    """Figures are half of a run's time, and are looked at elsewhere."""
    for name in plots.__all__:
        monkeypatch.setattr(plots, name, lambda *_, **__: None)


def script(*arguments: object, cwd: Path) -> Outcome:
    """The console script that is installed."""
    path = Path(sys.executable).with_name("cubekit")
    done = subprocess.run([str(path), *map(str, arguments)], cwd=cwd, capture_output=True, text=True, check=False)
    return Outcome(done.returncode, done.stdout, done.stderr)


def toml(value: Any) -> str:
    return json.dumps(str(value)) if isinstance(value, Path) else json.dumps(value)


def write_study(home: Path, *, lakes: list[dict[str, Any]] | None = None, **sections: dict[str, Any]) -> Path:
    """A study of Tsho Rolpa from the folder `scenes`, with changes; relative to `home`, where it is run."""
    changed = {"study": {"name": "one"}, "source": {"uri": "folder:scenes"}, "model": {"path": "otsu"}}
    changed |= {name: changed.get(name, {}) | keys for name, keys in sections.items()}
    lines = []
    for lake in lakes or [{"id": "tsho_rolpa"}]:
        lines += ["[[lake]]", *(f"{key} = {toml(value)}" for key, value in lake.items())]
    for name, keys in changed.items():
        lines += [f"[{name}]", *(f"{key} = {toml(value)}" for key, value in keys.items())]
    path = home / "study.toml"
    path.write_text("\n".join(lines))
    return path


def opera(folder: Path, date: str, **changes: Any) -> list[Path]:
    return factories.opera(folder, OPERA_LAKE, date, values=factories.dark_lake(OPERA_LAKE, int(date[-6:])), **changes)


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> Path:
    """A home with scenes of three passes, of which two were run already."""
    home = tmp_path_factory.mktemp("made")
    for date in DATES[:2]:
        opera(home / "scenes", date)
    study = Study.parse(
        {
            "study": {"name": "one", "out": home / "out"},
            "lake": [{"id": "tsho_rolpa"}],
            "source": {"uri": f"folder:{home / 'scenes'}"},
            "model": {"path": "otsu"},
        }
    )
    report = pipeline.run(study)
    assert not report.failed
    opera(home / "scenes", DATES[2])
    return home


@pytest.fixture
def home(made: Path, tmp_path: Path, monkeypatch) -> Path:
    """A copy of it, to change; the working directory."""
    shutil.copytree(made, tmp_path, symlinks=True, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def only(home: Path, **changes: Any) -> list[Path]:
    """Put one scene in the place of all others, made otherwise."""
    shutil.rmtree(home / "scenes")
    return opera(home / "scenes", DATES[2], **changes)


def in_another_zone(home: Path) -> None:
    there = pyproj.Transformer.from_crs(32645, 32644, always_xy=True).transform(*OPERA_LAKE.corner)
    east, north = (float(30 * round((a - b) / 30)) for a, b in zip(there, OPERA_LAKE.corner, strict=True))
    only(home, epsg=32644, shift=(east, north))


def shifted(home: Path) -> None:
    only(home, shift=(10, 0))


def spoiled(how: Callable[[Path], object]) -> Callable[[Path], None]:
    def spoil(home: Path) -> None:
        for file in only(home):
            how(file)

    return spoil


def truncate(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-5000])


def mixed(home: Path) -> None:
    factories.hyp3(home / "scenes", LAKE, DATES[0])


def other_source_in_root(home: Path) -> None:
    """Somebody has put a cube of HyP3 where those of OPERA belong."""
    factories.hyp3(home / "hyp3", LAKE, DATES[0])
    shutil.rmtree(home / "out" / "cubes" / "opera")
    update(LAKE, find_scenes(LAKE, f"folder:{home / 'hyp3'}"), home / "out" / "cubes" / "opera")


def nothing(home: Path) -> None:
    """The study alone is at fault."""


def text_model(home: Path) -> None:
    (home / "unet.safetensors").write_text("these are no weights")


def other_model(home: Path) -> None:
    """A model's card, which is all that is read before its preprocessing is compared."""
    chain = {"equalize": "published", "polarisation": "vv", "source": "hyp3", "spacing": 20}
    card = ModelCard(
        name="made-for-hyp3",
        created=datetime(2025, 1, 1, tzinfo=UTC),
        preprocessing={**chain, "speckle_filter": "lee 7x7", "window": "aoi"},
        licence="CC0-1.0",
    )
    metadata = {"cubekit_card": json.dumps(card.to_mapping())}
    save_file({"a": np.zeros(1, np.float32)}, str(home / "unet.safetensors"), metadata=metadata)


def outline(home: Path, coordinates: Any, kind: str = "Polygon") -> None:
    feature = {"type": "Feature", "properties": {"id": "mine"}, "geometry": {"type": kind, "coordinates": coordinates}}
    (home / "mine.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))


def a_file_for_a_folder(home: Path) -> None:
    (home / "taken").write_text("")


CROSSING = [[[86.47, 27.85], [86.49, 27.87], [86.49, 27.85], [86.47, 27.87], [86.47, 27.85]]]
SWAPPED = [[[27.85, 86.47], [27.85, 86.48], [27.86, 86.48], [27.85, 86.47]]]
MINE = {"lakes": [{"geojson": "mine.geojson"}]}

# What is at fault -> what makes it so, what the study says, and what the error must name: the thing and a way out.
FAULTS: dict[str, tuple[Callable[[Path], object], dict[str, Any], str]] = {
    "wrong CRS": (in_another_zone, {}, rf"{GRANULE}.*EPSG:32644.*EPSG:32645.*strict_grid = false"),
    "shifted grid": (shifted, {}, rf"{GRANULE}.*10 m east and 0 m north.*strict_grid = false"),
    "two sources": (mixed, {}, "differ in their source: 'hyp3', 'opera'; .*one at a time"),
    "other source in root": (
        other_source_in_root,
        {},
        "out/cubes/opera/tsho_rolpa is of another kind .*source: stored 'hyp3', requested 'opera'.*use another root",
    ),
    "other polarisations": (
        nothing,
        {"source": {"polarisations": ["vv"]}},
        r"polarisations: stored \['vv', 'vh'\], requested \['vv'\].*use another root",
    ),
    "empty file": (
        spoiled(lambda file: file.write_bytes(b"")),
        {},
        "below scenes.*2 can't be used; give another folder",
    ),
    "truncated file": (spoiled(truncate), {}, "below scenes.*2 can't be used; give another folder"),
    "text file": (spoiled(lambda file: file.write_text("hello")), {}, "below scenes.*2 can't be used; give another"),
    "end before start": (
        nothing,
        {"period": {"start": "2021-09-01", "end": "2021-07-01"}},
        r"study\.toml.*period.* ends \(2021-07-01\) before it starts \(2021-09-01\); swap",
    ),
    "no scene in the period": (
        nothing,
        {"period": {"start": "2015-01-01", "end": "2015-12-31"}},
        "no scene of tsho_rolpa between 2015-01-01 and 2015-12-31 below scenes.*give another folder or period",
    ),
    "no such track": (nothing, {"source": {"tracks": [19]}}, "tracks 19 in folder:scenes; it has 121: change"),
    "unknown lake": (nothing, {"lakes": [{"id": "nessie"}]}, "'nessie' is not in the catalogue; it has .*tsho_rolpa"),
    "lake given twice": (nothing, {"lakes": [{"id": "gokyo"}] * 2}, "'gokyo' is given twice"),
    "unknown key": (nothing, {"source": {"trakcs": [121]}}, r"source\.trakcs is not a key.*`cubekit init` writes"),
    "unknown section": (nothing, {"sauce": {"hot": 1}}, "sauce is not a key of a study; `cubekit init` writes"),
    "unknown filter": (nothing, {"preprocess": {"filter": "median"}}, r"preprocess\.filter: .*'lee'.*given: 'median'"),
    "even window": (nothing, {"preprocess": {"window": 8}}, r"preprocess\.window: .*must be odd, not 8"),
    "unknown scheme": (nothing, {"source": {"uri": "ftp:scenes"}}, "'ftp:scenes' isn't known; allowed are folder:PATH"),
    "folder absent": (nothing, {"source": {"uri": "folder:nope"}}, "folder nope does not exist; give the folder"),
    "simulated parameter": (nothing, {"source": {"uri": "simulated:a?sed=1"}}, "no parameter sed; allowed are seed"),
    "geojson absent": (nothing, MINE, r"mine\.geojson can't be read.*give a FeatureCollection"),
    "crossing lake": (lambda h: outline(h, CROSSING), MINE, "'mine' is not a valid polygon: .*; draw its ring without"),
    "point lake": (lambda h: outline(h, [86.4, 27.8], "Point"), MINE, "'mine' is a Point; give a Polygon"),
    "swapped lake": (lambda h: outline(h, SWAPPED), MINE, "'mine'.*swapped"),
    "model absent": (nothing, {"model": {"path": "no.safetensors"}}, r"no model at no\.safetensors; give .* or 'otsu'"),
    "model is text": (
        text_model,
        {"model": {"path": "unet.safetensors"}},
        r"unet\.safetensors is truncated or not a safetensors file .*; save the model again",
    ),
    "model for other data": (
        other_model,
        {"model": {"path": "unet.safetensors"}},
        r"'made-for-hyp3' \(unet.safetensors\) was trained on other data.*source 'hyp3' \(data: 'opera'\).*prepare",
    ),
    "out is a file": (a_file_for_a_folder, {"study": {"out": "taken"}}, "taken can't be made .*give another folder"),
    "out is below a file": (a_file_for_a_folder, {"study": {"out": "taken/out"}}, "taken/out can't be made .*give"),
    "memory": (nothing, {"compute": {"memory": "lots"}}, r"compute\.memory: 'lots' is not an amount .*\"4GiB\""),
}


def cube_of(home: Path) -> Path:
    return home / "out" / "cubes" / "opera" / "tsho_rolpa"


def content(folder: Path) -> dict[Path, bytes]:
    """Everything below a folder but the locks, which hold nothing. A cube's history and values are files, too."""
    return {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock"}


def check_refused(outcome: Outcome, named: str) -> None:
    """One line of error that names the thing and the way out, exit code 1, no traceback."""
    assert outcome.code == 1
    assert len(outcome.errors) == 1, outcome.err
    assert outcome.errors[0].startswith("error: ")
    assert re.search(named, outcome.errors[0]), outcome.errors[0]
    assert "Traceback" not in outcome.out + outcome.err
    assert not outcome.out.strip()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_one_line_and_changes_nothing(home: Path, cubekit, fault: str) -> None:
    """The line names what is wrong and how to repair it; the cube that was there, and all results, are as they were."""
    spoil, changes, named = FAULTS[fault]
    later = home / "scenes" / "later"
    later.mkdir()
    for file in (home / "scenes").glob(f"{GRANULE}*"):
        file.rename(later / file.name)  # so that nothing is new
    spoil(home)
    before = content(home / "out")
    study = write_study(home, **changes)
    shutil.rmtree(later, ignore_errors=True)
    check_refused(cubekit("run", study.name), named)
    assert content(home / "out") == before


@pytest.mark.parametrize("fault", ["wrong CRS", "shifted grid", "two sources", "model for other data", "no such track"])
def test_a_fault_at_first_leaves_nothing_in_the_way(home: Path, cubekit, fault: str) -> None:
    """Where there was no cube, the same line is printed, there are no results, and sound scenes make a cube."""
    shutil.rmtree(home / "out")
    shutil.copytree(home / "scenes", home / "sound")
    spoil, changes, named = FAULTS[fault]
    spoil(home)
    check_refused(cubekit("run", write_study(home, **changes)), named)
    assert not list((home / "out").rglob("*.csv"))
    report = update(OPERA_LAKE, find_scenes(OPERA_LAKE, "folder:sound"), cube_of(home).parent)
    assert report.added + report.skipped == 3


# What is given instead of a study, and what the line must name.
ARGUMENTS: dict[str, tuple[tuple[str, ...], str]] = {
    "study absent": (("run", "nope.toml"), r"nope\.toml can't be read .*`cubekit init` writes one"),
    "study is a folder": (("run", "scenes"), "scenes can't be read .*`cubekit init` writes one"),
    "study is not TOML": (("run", "bad.toml"), r"bad\.toml is not TOML: .*line 1.*`cubekit init`"),
    "study is not text": (("run", "binary.toml"), r"binary\.toml is not TOML.*`cubekit init`"),
    "study is empty": (("run", "empty.toml"), "study: field required; lake: field required; source: field required"),
    "unknown scheduler": (("run", "study.toml", "--scheduler", "fast"), "'fast' is neither \"threads\" nor"),
    "nobody answers": (
        ("run", "study.toml", "--scheduler", "tcp://127.0.0.1:9"),
        "no Dask scheduler answers at tcp://127.0.0.1:9: .*; start one there, or give threads or processes",
    ),
    "unknown protocol": (("run", "study.toml", "--scheduler", "foo://there:1"), "foo://there:1.*; start one"),
    "info on a folder": (("info", "scenes"), "no cube at .*scenes; build one with .*`cubekit run`"),
    "info on nothing": (("info", "nope"), "no cube at .*nope; build one with .*`cubekit run`"),
    "info on an object store": (("info", "s3://bucket/cube"), "s3:.*give a local path"),
    "publish without cube": (("publish", "nope", "new/a.zarr"), "no cube at .*nope; build one with .*`cubekit run`"),
    "init on a file": (("init", "study.toml"), r"study\.toml exists; give another name"),
    "init in no folder": (("init", "nope/study.toml"), "nope"),
    "init with an unknown lake": (("init", "b.toml", "--lake", "nessie"), "'nessie' is not in the catalogue; it has"),
}


@pytest.mark.parametrize("what", ARGUMENTS)
def test_a_wrong_argument_is_one_line(home: Path, cubekit, monkeypatch, what: str) -> None:
    """Nothing is made, and what is there is left alone."""
    monkeypatch.setattr(schedulers, "ANSWER_SECONDS", 0.3)
    (home / "bad.toml").write_text("a = = 1")
    (home / "binary.toml").write_bytes(b"\xff\xfe\x00")
    (home / "empty.toml").write_text("")
    write_study(home)
    before = content(home)
    arguments, named = ARGUMENTS[what]
    check_refused(cubekit(*arguments), named)
    assert content(home) == before
    assert not (home / "new").exists()


def test_the_console_script_says_the_same(home: Path) -> None:
    """What is installed as `cubekit` ends as main() does: one line, exit code 1."""
    in_another_zone(home)
    write_study(home)
    check_refused(script("run", "study.toml", cwd=home), FAULTS["wrong CRS"][2])


@pytest.mark.parametrize("command", [(), *((name,) for name in COMMANDS)])
def test_help(cubekit, command: tuple[str, ...]) -> None:
    """Every command explains itself."""
    outcome = cubekit(*command, "--help")
    assert outcome.code == 0
    assert "Usage:" in outcome.out
    assert command or all(name in outcome.out for name in COMMANDS)
    assert {"run", "demo", "init", "lakes", "info", "publish"} <= set(COMMANDS)


@pytest.mark.usefixtures("no_figures")
def test_what_is_of_no_use_is_named_and_the_run_goes_on(home: Path, cubekit) -> None:
    """Empty, truncated and foreign files, and a pass off the lattice, with their reasons; the rest is used."""
    folder = home / "scenes"
    bad = [opera(folder, date)[0] for date in ("20210814T001136", "20210826T001137", "20210907T001138")]
    bad[0].write_bytes(b"")
    truncate(bad[1])
    bad[2].write_text("hello")
    (folder / "readme.tif").write_text("hello")
    opera(folder, "20210919T001138", shift=(10, 0))
    outcome = cubekit("run", write_study(home).name)
    assert (outcome.code, outcome.errors) == (0, [])
    assert "1 added, 0 replaced, 2 unchanged, 1 refused" in outcome.out
    (first,) = [line for line in outcome.err.splitlines() if line.startswith("warning: ")]
    assert re.search("files below scenes are left out", first)
    reasons = (r"empty \(0 bytes\)", "truncated|unreadable", "unreadable|not a GeoTIFF", "its name is neither")
    for file, reason in zip([*bad, folder / "readme.tif"], reasons, strict=True):
        assert re.search(rf"^  {re.escape(file.name)}: .*({reason})", outcome.err, re.MULTILINE), outcome.err
    assert re.search(r"^  refused OPERA_\S*20210919T001138Z\S*: .*10 m east", outcome.err, re.MULTILINE)


@pytest.mark.usefixtures("no_figures")
def test_one_lake_of_two_fails(home: Path, cubekit) -> None:
    """Results of the one are shown, the other is an error, and the exit code says so."""
    outcome = cubekit("run", write_study(home, lakes=[{"id": "tilicho"}, {"id": "tsho_rolpa"}]).name)
    assert outcome.code == 1
    assert len(outcome.errors) == 1
    assert re.match("error: tilicho: no scene of tilicho .*elsewhere", outcome.errors[0])
    assert "│ tsho_rolpa │ 121" in outcome.out


def test_lakes(cubekit) -> None:
    """The catalogue, each with its position."""
    outcome = cubekit("lakes")
    assert (outcome.code, outcome.err) == (0, "")
    for lake in catalogue().values():
        (row,) = [line for line in outcome.out.splitlines() if f"│ {lake.id} " in line]
        assert f"{lake.centre[0]:.4f}" in row
        assert str(lake.epsg) in row


def test_init_writes_a_study_that_runs(home: Path, cubekit) -> None:
    """Every key with its meaning; it runs as it is: what became of the passes, a row a track, where the results are."""
    outcome = cubekit("init", "mine [draft].toml", "--lake", "tsho_rolpa")
    assert outcome.code == 0
    assert outcome.out.strip() == "wrote mine [draft].toml; run it with: cubekit run mine [draft].toml"
    study = Study.load(home / "mine [draft].toml")
    assert study == Study.parse(
        {"study": {"name": "mine [draft]"}, "lake": [{"id": "tsho_rolpa"}], "source": {"uri": "folder:scenes"}}
    )
    outcome = cubekit("run", "mine [draft].toml")
    assert (outcome.code, outcome.errors) == (0, [])
    assert "tsho_rolpa: 1 added, 0 replaced, 2 unchanged" in outcome.out
    (row,) = [line for line in outcome.out.splitlines() if "│ 121" in line]
    cells = [cell.strip() for cell in row.strip("│").split("│")]
    assert cells[:6] == ["tsho_rolpa", "121", "3", "3", "1.00", "2021-08-02"]
    low, high = map(float, cells[7].split(" to "))
    assert low < float(cells[6]) < high
    assert "too few seasons" in cells[9]
    assert outcome.out.splitlines()[-1] == "results are in out"


def test_info_shows_what_a_cube_holds(home: Path, cubekit) -> None:
    """Living or published: passes by track and year, gaps, and, where there is one, the history."""
    living = cubekit("info", cube_of(home))
    published = cubekit("info", home / "out" / "zarr" / "opera" / "tsho_rolpa.zarr")
    for outcome in (living, published):
        assert (outcome.code, outcome.err) == (0, "")
        assert "tsho_rolpa from opera, EPSG:32645, 30 m, upper left 444960, 3085920" in outcome.out
        assert re.search(r"│ 121 +│ 2 +│ 2 +│", outcome.out)
        assert "longest gaps of track 121: 12 days until 2021-07-21" in outcome.out
    for snapshot in history(cube_of(home)):
        assert f"{snapshot.id} {snapshot.message}" in living.out
        assert snapshot.id not in published.out


def test_publish_writes_a_zarr(home: Path, cubekit) -> None:
    """Plain xarray opens it."""
    outcome = cubekit("publish", cube_of(home), "new/a.zarr")
    assert (outcome.code, outcome.out, outcome.err) == (0, f"published {home / 'new' / 'a.zarr'}\n", "")
    assert xr.open_zarr("new/a.zarr").sizes["time"] == 2


@pytest.mark.usefixtures("no_figures")
def test_demo_is_held_against_the_truth(tmp_path: Path, cubekit, monkeypatch) -> None:
    """The demonstration writes its archive, runs, and shows every pass beside the simulated truth."""
    from cubekit import demo

    monkeypatch.setattr(demo, "LAKES", ("tsho_rolpa",))
    monkeypatch.setattr(demo, "START", demo.START.replace(2021, 7, 1))
    monkeypatch.setattr(demo, "END", demo.START.replace(2021, 8, 10))
    outcome = cubekit("demo", tmp_path / "demo")
    assert (outcome.code, outcome.errors) == (0, [])
    table = (tmp_path / "demo" / "truth.csv").read_text().splitlines()
    assert len(table) > 3
    found = re.search(r"Median error (\d+\.\d+) % over (\d+) passes", outcome.out)
    assert found
    assert float(found[1]) < 5
    assert 0 < int(found[2]) <= len(table) - 1
