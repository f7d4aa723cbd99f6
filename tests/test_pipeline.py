"""A study from its scenes to its files: once, again, killed, changed, on any scheduler."""

from __future__ import annotations

import csv
import hashlib
import json
import re
import shutil
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dask
import factories
import numpy as np
import pandas as pd
import pytest
import rasterio
import xarray as xr
from safetensors.numpy import save_file

import cubekit
from cubekit import cube, pipeline, plots, preprocess, schedulers, segmentation, segmenting
from cubekit import report as report_module
from cubekit.config import Study
from cubekit.errors import ConfigError, CubeConflict, MissingExtra, ModelError, NoObservations, SourceError
from cubekit.files import move_all
from cubekit.lakes import Lake, catalogue
from cubekit.report import Report
from cubekit.results import STATISTICS
from cubekit.segmentation import shipped
from cubekit.segmentation.card import ModelCard
from cubekit.series import read_csv
from cubekit.sources import find_scenes
from cubekit.sources.simulated import read_truth
from cubekit.tables import COLUMNS, PROVENANCE, columns

FIGURES = ("area", "calendar", "seasons", "fused", "shores", "latest")
LAKE = catalogue()["tsho_rolpa"]
OPERA_LAKE = LAKE.at_spacing(30)
# Track 121 in two summers, track 12 in one
DESCENDING = tuple(f"{day}T001135" for day in ("20200714", "20200726", "20200807", "20210709", "20210721", "20210802"))
ASCENDING = ("20210725T121355", "20210806T121355")


def scene(folder: Path, time: str, *, seed: int | None = None, **changes: Any) -> list[Path]:
    """An OPERA granule of a calm lake; its product tells no looks, they are 6."""
    burst = "T012-024518-IW2" if time in ASCENDING else "T121-257648-IW2"
    values = factories.dark_lake(OPERA_LAKE, int(time[4:8]) if seed is None else seed)
    return factories.opera(folder, OPERA_LAKE, time, values=values, burst=burst, **changes)


def study_of(home: Path, *, lakes: list[dict[str, Any]] | None = None, **sections: dict[str, Any]) -> Study:
    """A study of Tsho Rolpa that reads `home/scenes` and writes to `home/out`, with changes."""
    document: dict[str, Any] = {"study": {"name": "one", "out": home / "out"}, "model": {"path": "otsu"}}
    document |= {"lake": lakes or [{"id": "tsho_rolpa"}], "source": {"uri": f"folder:{home / 'scenes'}"}}
    return Study.parse(document | {name: document.get(name, {}) | keys for name, keys in sections.items()})


def content(folder: Path) -> dict[Path, tuple[int, bytes]]:
    """Every file below a folder, with the time of its last change; locks hold nothing."""
    files = [file for file in folder.rglob("*") if file.is_file() and file.suffix != ".lock"]
    return {file.relative_to(folder): (file.stat().st_mtime_ns, file.read_bytes()) for file in files}


def living(home: Path) -> Path:
    return home / "out" / "cubes" / "opera" / "tsho_rolpa"


def table(home: Path, name: str = "areas") -> bytes:
    return (home / "out" / "series" / "opera" / f"{name}.csv").read_bytes()


def areas_of(home: Path, *leave_out: str) -> list[list[str]]:
    """Rows of the areas' table as they are written, without what they were made from, nor the columns to leave out."""
    rows = list(csv.reader(table(home).decode().splitlines()))
    kept = [place for place, name in enumerate(rows[0]) if name not in {*PROVENANCE, *leave_out}]
    return [[row[place] for place in kept] for row in rows]


def provenance(home: Path) -> dict[str, Any]:
    return json.loads((home / "out" / "provenance.json").read_text())


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Report]:
    """A study of eight passes, run once."""
    home = tmp_path_factory.mktemp("made")
    for time in (*DESCENDING, *ASCENDING):
        scene(home / "scenes", time)
    return home, cubekit.run(study_of(home))


@pytest.fixture
def home(made: tuple[Path, Report], tmp_path: Path) -> Path:
    """A copy of its scenes and of what it wrote, to go on with."""
    home = tmp_path / "home"
    shutil.copytree(made[0], home, symlinks=True)
    return home


@pytest.fixture
def no_figures(monkeypatch) -> None:
    """Figures are half of a run's time, and are looked at in few tests."""
    for name in plots.__all__:
        monkeypatch.setattr(plots, name, lambda *_, **__: None)


@pytest.fixture
def segmented(monkeypatch) -> list[np.datetime64]:
    """Times of the passes that are segmented and stored from here on."""
    times: list[np.datetime64] = []
    write = cube.write_water

    def told(path: Path, model: str, probability: xr.DataArray) -> None:
        times.extend(probability["time"].values)
        write(path, model, probability)

    monkeypatch.setattr(cube, "write_water", told)
    return times


def days(times: list[np.datetime64]) -> list[str]:
    return sorted(f"{pd.Timestamp(time):%Y%m%dT%H%M%S}" for time in times)


def test_what_is_written_where(made: tuple[Path, Report]) -> None:
    """Cubes, published Zarr, tables, outlines, figures, study and provenance lie where `run` says, and nothing else."""
    home, report = made
    out = home / "out"
    assert not report.failed
    found = {str(path.relative_to(out)) for path in out.glob("*/opera/*") if not path.name.startswith(".")}
    assert found == {
        "cubes/opera/tsho_rolpa",
        "zarr/opera/tsho_rolpa.zarr",
        "series/opera/areas.csv",
        *(f"series/opera/{name}.csv" for name in COLUMNS),
        "outlines/opera/tsho_rolpa.geojson",
        *(f"figures/opera/tsho_rolpa_{name}.png" for name in FIGURES),
    }
    assert sorted(path.name for path in out.iterdir() if path.is_file()) == ["provenance.json", "study.toml"]
    assert not (out / pipeline.UNFINISHED).exists()
    assert not [path for path in out.rglob("*") if path.name.endswith((".tmp", ".new", ".old"))]
    lake = report.lakes["tsho_rolpa"]
    assert lake.cube == living(home)
    assert {path.relative_to(out).parts[0] for path in lake.files.values()} == {"series", "outlines", "figures"}
    assert all(path.is_file() for path in lake.files.values())
    assert xr.open_zarr(lake.zarr).sizes["time"] == 8


def test_areas_are_those_of_the_outline(made: tuple[Path, Report]) -> None:
    """A calm lake within its outline is measured to 5 %, in every pass of both tracks."""
    _, report = made
    truth = float(OPERA_LAKE.outline_mask.sum()) * 30**2 / 1e6
    areas = report.lakes["tsho_rolpa"].area
    assert days(list(areas["time"].values)) == sorted((*DESCENDING, *ASCENDING))
    np.testing.assert_allclose(areas["area_km2"], truth, rtol=0.05)
    assert (areas["area_low"] < truth).all()
    assert (areas["area_high"] > truth).all()


def test_tables_are_read_back(made: tuple[Path, Report]) -> None:
    """The CSVs hold what the report holds, bit for bit."""
    _, report = made
    lake = report.lakes["tsho_rolpa"]
    areas = read_csv(lake.files["areas"])
    np.testing.assert_array_equal(areas["area_km2"], lake.area["area_km2"])
    assert areas["track"].tolist() == lake.area["track"].values.tolist()
    assert [json.dumps(names) for names in areas["granules"]] == lake.area["granules"].values.tolist()
    maxima = pd.read_csv(lake.files["maxima"])
    assert maxima.columns.tolist() == columns("maxima")
    assert maxima.set_index(["track", "year"])["passes"].to_dict() == {
        (12, 2020): 0,
        (12, 2021): 2,
        (121, 2020): 3,
        (121, 2021): 3,
    }
    both = maxima.set_index(["track", "year"])["maximum"]
    np.testing.assert_array_equal(both[121], lake.maxima["maximum"].sel(track=121))
    trends = pd.read_csv(lake.files["trends"])
    assert trends.columns.tolist() == columns("trends")
    assert sorted(zip(trends["statistic"], trends["track"], strict=True)) == [
        (statistic, track) for statistic in sorted(STATISTICS) for track in (12, 121)
    ]
    assert set(trends["verdict"]) == {"too_few_seasons"}


def test_outlines_have_a_feature_a_pass(made: tuple[Path, Report]) -> None:
    """GeoJSON with the area of every pass."""
    _, report = made
    features = json.loads(report.lakes["tsho_rolpa"].files["outlines"].read_text())["features"]
    areas = report.lakes["tsho_rolpa"].area["area_km2"].values
    assert [feature["properties"]["area_km2"] for feature in features] == areas.tolist()


def test_the_study_written_is_the_study_run(made: tuple[Path, Report]) -> None:
    """study.toml runs the same study again."""
    home, _ = made
    assert Study.load(home / "out" / "study.toml") == study_of(home)


def test_provenance_says_what_the_results_are_made_of(made: tuple[Path, Report]) -> None:
    """Version, study, snapshot, model and its hash, the whole preprocessing, and how many passes."""
    home, report = made
    told = provenance(home)
    lake = told["lakes"]["tsho_rolpa"]
    dump = (home / "out" / "study.toml").read_bytes()
    assert (told["cubekit"], told["failed"]) == (cubekit.__version__, {})
    assert told["study_sha256"] == hashlib.sha256(dump).hexdigest()
    assert lake["snapshot"] == cube.history(living(home))[0].id
    assert lake["snapshot"] == xr.open_zarr(report.lakes["tsho_rolpa"].zarr).attrs["snapshot"]
    assert (lake["model"], lake["passes"]) == ("otsu", 8)
    assert lake["model_hash"] == segmentation.otsu.METHOD_HASH
    chain = lake["preprocessing"]
    assert {name: chain[name] for name in ("source", "spacing", "polarisation", "speckle_filter", "window")} == {
        "source": "opera",
        "spacing": 30,
        "polarisation": "vv",
        "speckle_filter": "lee 7x7",
        "window": "aoi",
    }
    assert chain["filter_looks"] == cube.open_cube(living(home)).attrs["looks_measured_vv"]


def test_the_summary_has_a_row_a_track(made: tuple[Path, Report]) -> None:
    """The newest known area of each track, its passes and its verdict."""
    _, report = made
    rows = report.table().set_index("track")
    areas = report.lakes["tsho_rolpa"].area
    assert rows["passes"].to_dict() == {12: 2, 121: 6, "fused": 8}
    assert rows["known"].to_dict() == {12: 2, 121: 6, "fused": 8}
    assert str(rows.loc[121, "latest"]) == "2021-08-02 00:11:35"
    assert rows.loc[121, "area_km2"] == float(areas["area_km2"].sel(time="2021-08-02T00:11:35"))
    assert {verdict.partition(",")[0] for verdict in rows["verdict"]} == {"too few seasons"}


def test_nothing_new_changes_no_file(home: Path, segmented: list, monkeypatch) -> None:
    """A second run writes no byte, makes no snapshot, segments nothing and measures no looks."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("looks were measured again")

    monkeypatch.setattr(preprocess, "equivalent_looks", refuse)
    shutil.copytree(home, home.parent / "kept", symlinks=True)
    cubekit.run(study_of(home))  # the study, and so its file, names another folder than the first run's
    before, snapshots = content(home / "out"), cube.history(living(home))
    report = cubekit.run(study_of(home))
    assert content(home / "out") == before
    assert cube.history(living(home)) == snapshots
    assert not segmented
    assert report.lakes["tsho_rolpa"].append.written == 0
    first, second = (areas_of(where) for where in (home.parent / "kept", home))
    assert first == second


@pytest.mark.usefixtures("no_figures")
def test_killed_while_segmenting_the_rest_is_segmented(home: Path, segmented: list, monkeypatch) -> None:
    """What was stored before stays; the next run does what is missing, and ends with the same areas."""
    # What the states are told from is what the whole record has
    expected = [row for row in areas_of(home, "state") if not row[1].startswith("2021-")]
    looks = provenance(home)["lakes"]["tsho_rolpa"]["preprocessing"]["filter_looks"]  # of fewer passes there are others
    shutil.rmtree(home / "out")
    monkeypatch.setattr(segmenting, "BATCH", 2)
    study = study_of(home, period={"end": "2020-12-31"}, preprocess={"looks": looks})

    def interrupt(lake: str, stage: str, done: int, total: int) -> None:
        if stage == "segment" and done == 2:
            raise KeyboardInterrupt("now")

    with pytest.raises(KeyboardInterrupt, match="now"):
        cubekit.run(study, progress=interrupt)
    first = days(segmented)
    assert len(first) == 2
    assert not (home / "out" / "provenance.json").exists()
    segmented.clear()
    cubekit.run(study)
    assert days(segmented) == sorted(set(DESCENDING[:3]) - set(first))
    assert areas_of(home, "state") == expected


@pytest.mark.usefixtures("no_figures")
def test_a_newer_processing_is_segmented_alone(home: Path, segmented: list, made: tuple[Path, Report]) -> None:
    """Of the other passes nothing changes; a pass that is new is segmented, too."""
    scene(home / "scenes" / "newer", DESCENDING[1], seed=77, processed="20240101T000000")
    scene(home / "scenes" / "late", "20200819T001135")
    report = cubekit.run(study_of(home)).lakes["tsho_rolpa"]
    assert (report.append.added, report.append.replaced, report.append.skipped) == (1, 1, 7)
    assert days(segmented) == [DESCENDING[1], "20200819T001135"]
    before, after = made[1].lakes["tsho_rolpa"].area, report.area
    same = after["time"].isin(before["time"]) & (after["time"] != np.datetime64("2020-07-26T00:11:35"))
    np.testing.assert_array_equal(after["area_km2"][same], before["area_km2"].sel(time=after["time"][same]))
    changed = float(after["area_subpixel_km2"].sel(time="2020-07-26T00:11:35"))
    assert changed != float(before["area_subpixel_km2"].sel(time="2020-07-26T00:11:35"))


@pytest.mark.usefixtures("no_figures")
@pytest.mark.parametrize(
    "changes",
    [
        {"window": 5},
        pytest.param({"looks": 3.0}, marks=pytest.mark.slow),
        pytest.param({"filter": "enhanced_lee"}, marks=pytest.mark.slow),
    ],
)
def test_other_preprocessing_segments_all_anew(home: Path, segmented: list, changes: dict[str, Any]) -> None:
    """Whatever changes the image of a pass; provenance tells."""
    cubekit.run(study_of(home, preprocess=changes))
    assert days(segmented) == sorted((*DESCENDING, *ASCENDING))
    chain = provenance(home)["lakes"]["tsho_rolpa"]["preprocessing"]
    expected = {"window": ("speckle_filter", "lee 5x5"), "looks": ("filter_looks", 3.0)}
    name, value = expected.get(next(iter(changes)), ("speckle_filter", "enhanced lee 7x7 damping 1"))
    assert chain[name] == value


@pytest.mark.usefixtures("no_figures")
def test_a_study_reports_its_tracks_and_period_only(home: Path, segmented: list) -> None:
    """A cube may hold more from other studies: it keeps that, and none of it is among the results."""
    asked = study_of(
        home,
        source={"uri": f"folder:{home / 'scenes'}", "tracks": [121]},
        period={"start": "2020-07-26", "end": "2021-07-09"},
    )
    report = cubekit.run(asked).lakes["tsho_rolpa"]
    times = ["20200726T001135", "20200807T001135", "20210709T001135"]
    assert days(list(report.area["time"].values)) == times  # both days inclusive
    assert set(report.area["track"].values) == {121}
    assert read_csv(report.files["areas"])["time"].dt.strftime("%Y%m%dT%H%M%S").tolist() == times
    assert len(json.loads(report.files["outlines"].read_text())["features"]) == 3
    assert provenance(home)["lakes"]["tsho_rolpa"]["passes"] == 3
    assert cube.open_cube(living(home)).sizes["time"] == 8
    assert not segmented


@pytest.mark.usefixtures("no_figures")
def test_passes_outside_of_the_season_have_areas(home: Path, made: tuple[Path, Report]) -> None:
    """Without a summer pass there are no maxima and no trend, and the areas are what they are."""
    report = cubekit.run(study_of(home, season={"start": "01-01", "end": "02-28"}))
    lake = report.lakes["tsho_rolpa"]
    xr.testing.assert_equal(lake.area, made[1].lakes["tsho_rolpa"].area)
    assert (lake.maxima, lake.trends, lake.results.fused_trends, lake.results.volumes) == (None, {}, {}, None)
    for name in ("maxima", "trends", "fused_maxima", "fused_trends", "volumes"):
        assert table(home, name).decode() == ",".join(columns(name)) + "\n"
    assert set(report.table()["verdict"]) == {"no summer pass"}
    told = provenance(home)["lakes"]["tsho_rolpa"]["not_known"]
    assert re.match("none of 8 passes lies in the season 01-01 to 02-28", told["seasons"])
    # What an earlier run drew of the seasons is not left beside
    assert not list((home / "out" / "figures" / "opera").glob("*_seasons.png"))


@pytest.mark.slow
@pytest.mark.usefixtures("no_figures")
def test_processes_give_the_same_areas(home: Path) -> None:
    """Workers in processes of their own read, filter and segment; nothing changes but the place."""
    expected = areas_of(home)
    shutil.rmtree(home / "out")
    report = cubekit.run(study_of(home, compute={"workers": 1, "memory": "2GiB"}), "processes")
    assert not report.failed
    assert areas_of(home) == expected


@pytest.mark.usefixtures("no_figures")
def test_a_cluster_gives_the_same_areas(home: Path) -> None:
    """So do those at the address of a Dask scheduler; the client is gone afterwards."""
    from distributed import LocalCluster, default_client

    expected = areas_of(home)
    shutil.rmtree(home / "out")
    with LocalCluster(
        n_workers=1, threads_per_worker=2, processes=False, protocol="tcp", dashboard_address=None
    ) as cluster:
        report = cubekit.run(study_of(home), cluster.scheduler_address)
    assert not report.failed
    assert areas_of(home) == expected
    with pytest.raises(ValueError, match="No client"):
        default_client()


@pytest.mark.parametrize("address", ["tcp://127.0.0.1:9", "foo://there:1"])
def test_a_cluster_that_does_not_answer_leaves_nothing_behind(
    home: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is computed afterwards is computed here, and doesn't wait for it."""
    from distributed import default_client

    monkeypatch.setattr(schedulers, "ANSWER_SECONDS", 0.3)
    before = dask.config.get("scheduler", None)
    with pytest.raises(ConfigError, match=f"no Dask scheduler answers at {address}"):
        cubekit.run(study_of(home), address)
    assert dask.config.get("scheduler", None) == before
    with pytest.raises(ValueError, match="No client"):
        default_client()


def test_reading_leaves_the_scheduler_as_it_was(home: Path, tmp_path: Path) -> None:
    """Passes are read side by side, and none of them changes what the next are read with, nor what users have set."""
    items = find_scenes(OPERA_LAKE, f"folder:{home / 'scenes'}")
    seen = []
    with dask.config.set(scheduler="threads", num_workers=4):
        cube.update(OPERA_LAKE, items, tmp_path / "c", progress=lambda _: seen.append(dask.config.get("scheduler")))
        seen.append(dask.config.get("scheduler"))
    assert set(seen) == {"threads"}


def lake_in_the_andes(folder: Path) -> Path:
    square = [[-73.10, -49.20], [-73.08, -49.20], [-73.08, -49.19], [-73.10, -49.19], [-73.10, -49.20]]
    feature = {
        "type": "Feature",
        "properties": {"id": "far_away"},
        "geometry": {"type": "Polygon", "coordinates": [square]},
    }
    path = folder / "far.geojson"
    path.write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    return path


@pytest.mark.usefixtures("no_figures")
def test_one_lake_that_fails_does_not_end_the_other(home: Path, made: tuple[Path, Report]) -> None:
    """It is in `failed` and in provenance; the other's results are what they were."""
    lakes = [{"geojson": lake_in_the_andes(home)}, {"id": "tsho_rolpa"}]
    expected = areas_of(home)
    report = cubekit.run(study_of(home, lakes=lakes))
    assert isinstance(report.failed["far_away"], SourceError)
    assert list(report.lakes) == ["tsho_rolpa"]
    assert areas_of(home) == expected
    assert "no scene of far_away" in provenance(home)["failed"]["far_away"]


def test_when_all_lakes_fail_earlier_results_stay(home: Path) -> None:
    """A folder that is away for once: the error is reported, and no file is touched."""
    before = content(home / "out")
    (home / "scenes").rename(home / "away")
    report = cubekit.run(study_of(home))
    assert isinstance(report.failed["tsho_rolpa"], SourceError)
    assert not report.lakes
    assert content(home / "out") == before
    assert report.table().empty


def test_when_all_passes_are_refused_nothing_passes_for_new(home: Path) -> None:
    """Results of an earlier run must not look like those of scenes that could not be used."""
    shutil.rmtree(home / "scenes")
    scene(home / "scenes", "20210814T001135", shift=(10, 0))
    before = content(home / "out")
    report = cubekit.run(study_of(home))
    assert "none of 1 passes" in str(report.failed["tsho_rolpa"])
    assert "10 m east" in str(report.failed["tsho_rolpa"])
    assert content(home / "out") == before


@pytest.mark.parametrize(
    ("lakes", "message"),
    [
        ([{"id": "nessie"}], "lake 'nessie' is not in the catalogue; it has"),
        ([{"id": "gokyo"}, {"id": "gokyo"}], "lake 'gokyo' is given twice"),
    ],
)
def test_lakes_are_checked_first(tmp_path: Path, lakes: list[dict[str, Any]], message: str) -> None:
    """Before anything is searched or written."""
    with pytest.raises(ConfigError, match=message):
        cubekit.run(study_of(tmp_path, lakes=lakes))
    assert not list(tmp_path.iterdir())


def test_looks_are_measured_on_the_lake(made: tuple[Path, Report]) -> None:
    """The product tells none: they are measured once, near what the speckle has, and kept with the cube."""
    attrs = cube.open_cube(living(made[0])).attrs
    assert "looks" not in attrs or attrs["looks"] is None
    assert attrs["looks_measured_vv"] == pytest.approx(6, rel=0.15)
    messages = [snapshot.message for snapshot in cube.history(living(made[0]))]
    assert messages.count("remember looks_measured_vv") == 1


@pytest.mark.usefixtures("no_figures")
def test_looks_that_cant_be_measured_are_asked_for(tmp_path: Path) -> None:
    """A lake whose open water is never seen has no looks; the error says where to give them."""
    values = factories.dark_lake(OPERA_LAKE, 1)
    values[np.pad(OPERA_LAKE.outline_mask.values, 10)] = np.nan
    factories.opera(tmp_path / "scenes", OPERA_LAKE, DESCENDING[0], values=values)
    report = cubekit.run(study_of(tmp_path))
    assert isinstance(report.failed["tsho_rolpa"], NoObservations)
    assert "give preprocess.looks" in str(report.failed["tsho_rolpa"])


@pytest.mark.usefixtures("no_figures")
def test_looks_that_the_product_tells_are_used(tmp_path: Path) -> None:
    """None are measured then."""
    for file in scene(tmp_path / "scenes", DESCENDING[0]):
        with rasterio.open(file, "r+") as dataset:
            dataset.update_tags(CUBEKIT_LOOKS="6.5")
    lake = cubekit.run(study_of(tmp_path)).lakes["tsho_rolpa"]
    assert json.loads(lake.preprocessing)["filter_looks"] == 6.5
    assert "looks_measured_vv" not in cube.open_cube(lake.cube).attrs


@pytest.mark.slow
def test_a_simulated_archive_against_its_truth(tmp_path: Path) -> None:
    """From the simulation to the areas, which are the truth's to 5 %."""
    study = study_of(
        tmp_path,
        source={"uri": f"simulated:{tmp_path / 'archive'}?seed=3&looks=8"},
        period={"start": "2021-07-01", "end": "2021-09-30"},
    )
    lake = cubekit.run(study).lakes["tsho_rolpa"]
    assert json.loads(lake.preprocessing)["filter_looks"] == 8
    assert lake.cube.parent.name == "simulated"
    truth = read_truth(tmp_path / "archive" / "tsho_rolpa").set_index("time")["water_km2"]
    error = lake.area["area_km2"].to_series() / truth - 1
    assert len(error) == lake.area.sizes["time"] >= 10
    assert error.abs().median() < 0.05


@pytest.mark.usefixtures("no_figures")
def test_what_hyp3_has_filtered_is_not_filtered_again(tmp_path: Path) -> None:
    """The study asks for Lee; provenance names HyP3's filter, and the water is that of the values as they came."""
    for time in DESCENDING[:2]:
        values = factories.dark_lake(LAKE, int(time[4:8]), looks=40)
        factories.hyp3(tmp_path / "scenes", LAKE, time, values=values, flags="gpufed")
    lake = cubekit.run(study_of(tmp_path)).lakes["tsho_rolpa"]
    chain = json.loads(lake.preprocessing)
    assert chain["speckle_filter"] == "hyp3 enhanced lee 7x7"
    assert "filter_looks" not in chain
    raw = preprocess.prepare(cube.open_cube(lake.cube), LAKE, filter="none")
    expected = segmentation.segment(raw, "otsu", lake=LAKE).compute()
    rows, columns = LAKE.aoi_window
    found = cube.open_water(lake.cube, "otsu")["probability"].isel(y=rows, x=columns)
    np.testing.assert_array_equal(found, expected)


def save_card(path: Path, name: str, **changes: Any) -> Path:
    """A model's file with a card for these scenes, with changes; its weights are none."""
    chain = {"equalize": "published", "polarisation": "vv", "source": "opera", "spacing": 30}
    chain |= {"speckle_filter": "lee 7x7", "window": "aoi", **changes}
    card = ModelCard(name=name, created=datetime(2025, 1, 1, tzinfo=UTC), preprocessing=chain, licence="CC0-1.0")
    metadata = {"cubekit_card": json.dumps(card.to_mapping())}
    save_file({"a": np.zeros(1, np.float32)}, str(path), metadata=metadata)
    return path


@pytest.mark.parametrize("changes", [{"source": "hyp3"}, {"speckle_filter": "lee 5x5"}, {"equalize": "robust"}])
def test_a_model_for_other_data_is_refused(home: Path, changes: dict[str, str]) -> None:
    """Before anything is computed; what another model made of the cube stays."""
    before = content(home / "out")
    path = save_card(home / "other.safetensors", "other", **changes)
    report = cubekit.run(study_of(home, model={"path": path}))
    assert isinstance(report.failed["tsho_rolpa"], ModelError)
    assert repr(next(iter(changes.values()))) in str(report.failed["tsho_rolpa"])
    assert content(home / "out") == before


def test_a_model_whose_name_cant_be_a_group_s_is_refused_at_once(home: Path) -> None:
    """Before the first batch is computed, which takes longest."""
    before = content(home / "out")
    path = save_card(home / "other.safetensors", "Our Model")
    report = cubekit.run(study_of(home, model={"path": path}))
    assert isinstance(report.failed["tsho_rolpa"], ConfigError)
    assert "model name 'Our Model' is not allowed" in str(report.failed["tsho_rolpa"])
    assert content(home / "out") == before


def test_a_file_that_is_no_model_ends_the_run_before_it_starts(tmp_path: Path) -> None:
    """Not after the cubes are built."""
    (tmp_path / "text.safetensors").write_text("hello")
    study = study_of(tmp_path, model={"path": tmp_path / "text.safetensors"})
    with pytest.raises(ModelError, match=r"text\.safetensors is truncated or not a safetensors file"):
        cubekit.run(study)
    assert not (tmp_path / "out").exists()


@pytest.mark.slow
def test_a_network_runs_through(home: Path, segmented: list) -> None:
    """A U-Net of random weights: its water lies beside Otsu's, its hash and threshold are told, and it runs once."""
    import torch

    torch.manual_seed(0)
    network = segmentation.build_network()
    network.segmentation_head[0].weight.data *= 20  # answers that spread over 0..1
    card = segmentation.read_card(save_card(home / "card.safetensors", "random"))
    path = segmentation.save_model(network, card, home / "random.safetensors")
    report = cubekit.run(study_of(home, model={"path": path}))
    assert not report.failed
    lake = report.lakes["tsho_rolpa"]
    assert cube.water_models(lake.cube) == ["otsu", "random"]
    assert days(segmented) == sorted((*DESCENDING, *ASCENDING))
    told = provenance(home)["lakes"]["tsho_rolpa"]
    assert (told["model"], told["model_hash"]) == ("random", segmentation.model_hash(path))
    assert told["preprocessing"]["equalize"] == "published"
    probability = cube.open_water(lake.cube, "random")["probability"]
    assert 0 < float(probability.min()) < 0.5 < float(probability.max()) < 1
    segmented.clear()
    before = content(home / "out")
    cubekit.run(study_of(home, model={"path": path}))
    assert not segmented
    assert content(home / "out") == before


def test_the_lake_of_the_report_is_a_lake() -> None:
    """`study_lakes` gives the catalogue's own."""
    assert isinstance(pipeline.study_lakes(study_of(Path("nowhere")))["tsho_rolpa"], Lake)


def test_rows_of_a_lake_that_failed_are_kept(tmp_path: Path) -> None:
    """What an earlier run knew of a lake that fails now is still known; those of other lakes are made anew."""
    old, new = tmp_path / "old", tmp_path / "new"
    for folder in (old, new):
        folder.mkdir()
    (old / "areas.csv").write_text("lake,area_km2\ngokyo,0.44\ntsho_rolpa,1.5\ngokyo_north,0.1\n")
    with report_module._keeping(old, new, Path("areas.csv"), {"gokyo"}) as path:
        path.write_text("lake,area_km2\ntsho_rolpa,1.6\n")
    assert (new / "areas.csv").read_text() == "lake,area_km2\ntsho_rolpa,1.6\ngokyo,0.44\n"


def test_rows_of_another_version_are_not_mixed_in(tmp_path: Path) -> None:
    """Their columns are others: the reader is told that they are gone."""
    (tmp_path / "new").mkdir()
    (tmp_path / "areas.csv").write_text("lake,km2\ngokyo,0.44\n")
    with (
        pytest.warns(UserWarning, match=r"rows of lakes that failed are not kept in areas\.csv"),
        report_module._keeping(tmp_path, tmp_path / "new", Path("areas.csv"), {"gokyo"}) as path,
    ):
        path.write_text("lake,area_km2\ntsho_rolpa,1.6\n")
    assert (tmp_path / "new" / "areas.csv").read_text() == "lake,area_km2\ntsho_rolpa,1.6\n"


def test_water_that_another_process_changes_meanwhile_is_no_result(home: Path, monkeypatch, no_figures) -> None:
    """Two studies with other preprocessing on one cube: the slower one is told, and no mixture is published."""
    before = table(home)
    write = cube.write_water

    def disturbed(path: Path, model: str, probability: xr.DataArray) -> None:
        write(path, model, probability)
        write(path, model, probability.isel(time=[0]).assign_attrs(preprocessing="another study's"))

    monkeypatch.setattr(cube, "write_water", disturbed)
    report = cubekit.run(study_of(home, preprocess={"window": 9}))
    assert isinstance(report.failed["tsho_rolpa"], CubeConflict)
    assert "each study into an `out` of its own" in str(report.failed["tsho_rolpa"])
    assert table(home) == before


def test_by_default_the_shipped_network_is_used(home: Path) -> None:
    """The one made for such images, without being named; its name and hash are in the provenance."""
    report = cubekit.run(study_of(home, model={"path": "auto"}))
    assert not report.failed
    lake = report.lakes["tsho_rolpa"]
    assert lake.model == "opera-30m"
    assert lake.model_hash == segmentation.model_hash(shipped.find("opera-30m"))
    known = lake.area["area_km2"].dropna("time")
    assert known.sizes["time"] == lake.area.sizes["time"]
    truth = float(OPERA_LAKE.outline_mask.sum()) * 0.03**2
    np.testing.assert_allclose(known, truth, rtol=0.1)
    assert lake.area.attrs["interval_block_m"] == segmentation.read_card(shipped.find("opera-30m")).interval_block_m


def test_images_that_no_shipped_network_knows_are_refused(home: Path) -> None:
    """What they are and what there is; what was made before stays."""
    before = cubekit.run(study_of(home)).lakes["tsho_rolpa"].area
    report = cubekit.run(study_of(home, model={"path": "auto"}, preprocess={"equalize": "robust"}))
    message = str(report.failed["tsho_rolpa"])
    assert "no model comes with cubekit for images made so: equalize robust, polarisation vv, source opera" in message
    assert "opera-30m for equalize published" in message
    xr.testing.assert_identical(cubekit.run(study_of(home)).lakes["tsho_rolpa"].area, before)


def test_the_wrong_shipped_network_says_which_is_needed(home: Path) -> None:
    """By name it can be asked for, and is refused for what it wasn't trained on."""
    report = cubekit.run(study_of(home, model={"path": "hyp3-20m"}))
    assert "was trained on other data than this: source 'hyp3' (data: 'opera')" in str(report.failed["tsho_rolpa"])


def test_every_row_names_what_it_is_made_from(made: tuple[Path, Report]) -> None:
    """The snapshot of the cube, the model and the study in every table, granules where a row is of a pass."""
    home, report = made
    told = provenance(home)
    origin = {"snapshot": told["lakes"]["tsho_rolpa"]["snapshot"], "model_hash": segmentation.otsu.METHOD_HASH}
    origin["config_hash"] = told["config_hash"]
    assert told["config_hash"] == study_of(home).fingerprint
    files = report.lakes["tsho_rolpa"].files
    rows = {name: pd.read_csv(files[name]) for name in ("areas", *COLUMNS)}
    assert {name for name, table in rows.items() if table.empty} <= {"alerts", "ice"}
    for table in rows.values():
        for name, value in origin.items():
            assert set(table[name]) <= {value}
    for name in ("areas", "passes", "fused"):
        assert [json.loads(cell) for cell in rows[name]["granules"]] == [
            json.loads(cell) for cell in report.lakes["tsho_rolpa"].area["granules"].values
        ]
    features = json.loads(files["outlines"].read_text())["features"]
    assert {name: features[0]["properties"][name] for name in origin} == origin


def test_the_hash_of_the_study_is_of_what_changes_a_number(tmp_path: Path) -> None:
    """Where it writes, computes and in which formats does not; how it filters, and when summer is, does."""
    study = study_of(tmp_path)
    same = study_of(tmp_path, study={"out": "other"}, output={"formats": ["masks"]}, compute={"workers": 3})
    assert same.fingerprint == study.fingerprint
    others = [
        study_of(tmp_path, **change) for change in ({"preprocess": {"window": 5}}, {"season": {"start": "06-01"}})
    ]
    assert len({study.fingerprint, *(other.fingerprint for other in others)}) == 3


def test_all_formats_hold_the_same(home: Path) -> None:
    """What is asked for is written, is read back to the areas' values, and does not change when nothing is new."""
    import geopandas
    import pystac

    formats = ["parquet", "netcdf", "geopackage", "masks", "animation"]
    study = study_of(home, output={"formats": formats, "frames": 3})
    report = cubekit.run(study)
    assert not report.failed
    lake = report.lakes["tsho_rolpa"]
    parquet = pd.read_parquet(lake.files["parquet"])
    np.testing.assert_array_equal(parquet["area_km2"], lake.area["area_km2"])
    assert set(parquet["config_hash"]) == {study.fingerprint}
    with xr.open_dataset(lake.files["netcdf"], engine="h5netcdf") as series:
        for name in ("area_low", "state", "state_probability", "anomaly_km2"):
            np.testing.assert_array_equal(series[name], lake.area[name])
        np.testing.assert_array_equal(series["fused_km2"], lake.results.fused["area_km2"])
        assert series.attrs["snapshot"] == lake.snapshot
    shores = geopandas.read_file(lake.files["geopackage"])
    ground = shores.area / OPERA_LAKE.spacing**2 * OPERA_LAKE.pixel_km2
    np.testing.assert_allclose(ground, lake.area["area_km2"], rtol=1e-9)
    items = list(pystac.Collection.from_file(str(lake.files["masks"])).get_items())
    assert {item.properties["cubekit:snapshot"] for item in items} == {lake.snapshot}
    with rasterio.open(items[0].get_assets()["mask"].get_absolute_href()) as mask:
        water = np.count_nonzero(mask.read(1) == 1) * OPERA_LAKE.pixel_km2
    assert water == pytest.approx(items[0].properties["cubekit:area_km2"])
    assert lake.files["animation"].read_bytes()[:6] == b"GIF89a"
    before = content(home / "out")
    cubekit.run(study)
    assert content(home / "out") == before
    cubekit.run(study_of(home))  # without them: those of an earlier run are not left beside newer tables
    left = {path for name, path in lake.files.items() if path.exists() and name in formats}
    assert left == {lake.files["masks"]}


def test_a_format_whose_library_is_absent_ends_the_run_at_once(tmp_path: Path, monkeypatch) -> None:
    """Before anything is searched or built."""
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        MissingExtra, match=r"pyarrow is not installed, and the format 'parquet' needs it; .*\[parquet\]"
    ):
        cubekit.run(study_of(tmp_path, output={"formats": ["parquet"]}))
    assert not list(tmp_path.iterdir())


def test_products_become_visible_together(home: Path, monkeypatch) -> None:
    """When the last of them can't be made, none of them is: tables, outlines and figures are those of before."""
    before = content(home / "out")
    scene(home / "scenes", "20210814T001135")

    def full(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(plots, "plot_chip", full)
    report = cubekit.run(study_of(home))
    assert isinstance(report.failed["tsho_rolpa"], OSError)
    changed = {path for path, old in content(home / "out").items() if before.get(path) != old}
    assert {path.parts[0] for path in changed} == {"cubes"}
    monkeypatch.undo()
    monkeypatch.setattr(pipeline, "write_results", full)
    with pytest.raises(OSError, match="No space left"):
        cubekit.run(study_of(home))
    changed = {path for path, old in content(home / "out").items() if before.get(path) != old}
    assert {path.parts[0] for path in changed} == {"cubes", "zarr"}
    assert not (home / "out" / pipeline.UNFINISHED).exists()


def test_what_a_killed_run_left_is_cleared(home: Path) -> None:
    """Files of its unfinished products never get among the next run's."""
    left = home / "out" / pipeline.UNFINISHED / "tsho_rolpa" / "figures"
    left.mkdir(parents=True)
    (left / "half.png").write_bytes(b"half")
    cubekit.run(study_of(home))
    assert not list((home / "out").rglob("half.png"))
    assert not (home / "out" / pipeline.UNFINISHED).exists()


def test_files_take_their_places(tmp_path: Path) -> None:
    """What is the same stays untouched, what is new replaces, what is no longer made is removed."""
    new, out = tmp_path / "new", tmp_path / "out"
    for folder, texts in ((new, {"a": "1", "b": "2"}), (out, {"a": "1", "b": "1", "c": "1", "d": "1"})):
        (folder / "deep").mkdir(parents=True)
        for name, text in texts.items():
            (folder / "deep" / name).write_text(text)
    untouched = (out / "deep" / "a").stat().st_ino
    move_all(new, out, leave=[Path("deep/c"), Path("deep/b")])
    assert {path.name: path.read_text() for path in (out / "deep").iterdir()} == {"a": "1", "b": "2", "d": "1"}
    assert (out / "deep" / "a").stat().st_ino == untouched
    assert not new.exists()


@pytest.mark.usefixtures("no_figures")
def test_a_season_found_from_the_states_and_a_front(home: Path) -> None:
    """`auto` and `front` reach what they are for."""
    lakes = [{"id": "tsho_rolpa", "front": 120}]
    lake = cubekit.run(study_of(home, lakes=lakes, season={"start": "auto", "end": "auto"})).lakes["tsho_rolpa"]
    passes = pd.read_csv(lake.files["passes"])
    assert passes["front_m"].between(1500, 2500).all()
    assert lake.maxima is None or lake.maxima.attrs["season_start"] == "auto"


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"season": {"start": "auto"}}, 'only one of start \\(auto\\) and end \\(09-30\\) is "auto"'),
        ({"season": {"start": "13-01"}}, "'13-01' is not a day of the year; write it as 07-01, or \"auto\""),
        ({"output": {"formats": ["shapefile"]}}, "output.formats.0"),
        ({"lakes": [{"geojson": "a.geojson", "front": 90}]}, "front = 90 is of one lake"),
    ],
)
def test_what_makes_no_sense_is_refused(tmp_path: Path, sections: dict[str, Any], message: str) -> None:
    """When the study is read."""
    with pytest.raises(ConfigError, match=message):
        study_of(tmp_path, **sections)


def verdict_of(**numbers: float) -> tuple[str, str]:
    """What the summary says of a trend of these numbers."""
    usual = {"slope": 0.01, "slope_low": -0.01, "slope_high": 0.03, "p_value": 0.001, "detectable": 0.02, "n": 10}
    one = xr.Dataset({"verdict": 1, "scatter_verdict": 2} | usual | numbers)
    return report_module._told({report_module.FAIR: one.expand_dims(track=[121])}, 121)


@pytest.mark.parametrize(
    ("numbers", "words"),
    [
        ({}, ("+0.0100 (-0.0100 to +0.0300)", "increasing, within the areas' errors, p 0.001, n 10")),
        ({"scatter_verdict": 1, "p_value": 0.4}, (None, "no trend detected, p 0.4, n 10, below 0.02")),
        ({"verdict": 3, "scatter_verdict": 3}, (None, "decreasing, p 0.001, n 10")),
        ({"verdict": 0, "scatter_verdict": 0, "n": 4, "slope_low": np.nan}, ("+0.0100 (interval not known)", None)),
        ({"verdict": 0, "scatter_verdict": 0, "n": 1, "slope": np.nan}, ("not known", "too few seasons, n 1")),
    ],
)
def test_a_trend_is_never_a_p_alone(numbers: dict[str, float], words: tuple[str | None, str | None]) -> None:
    """Slope, interval, verdict, seasons; what could have been seen where nothing was; the areas' errors count."""
    for found, expected in zip(verdict_of(**numbers), words, strict=True):
        assert expected is None or found == expected
