"""Source `folder:`: names, headers, and the files that can't be used."""

from __future__ import annotations

import shutil
import warnings
from datetime import UTC, date, datetime
from pathlib import Path

import factories
import numpy as np
import pytest
import rasterio
import rasterio.shutil

from cubekit.errors import ConfigError, SceneWarning, SourceError
from cubekit.lakes import Lake, catalogue
from cubekit.passes import group
from cubekit.sources import find_scenes, parse_period
from cubekit.sources.names import parse

HYP3 = "S1A_IW_20210721T001135_DVP_RTC20_G_gpuned_FFBC"
OPERA = "OPERA_L2_RTC-S1_T121-257648-IW2_20210721T001135Z_20210722T010229Z_S1A_30_v1.0"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (f"{HYP3}_VV.tif", ("hyp3", "vv", "none", 20, None)),
        (f"{HYP3.replace('gpuned', 'gpufed')}_VH.tif", ("hyp3", "vh", "hyp3 enhanced lee 7x7", 20, None)),
        (f"{HYP3}_VV_clipped_to_lakeAOI.tif", ("hyp3", "vv", "none", 20, None)),  # text follows, as in crops
        (f"{HYP3}_VV.tif_clipped_to_lakeAOI.geojson.tif", ("hyp3", "vv", "none", 20, None)),
        (f"{HYP3}_ls_map.tif", ("hyp3", "mask", "none", 20, None)),
        (f"{OPERA}_VV.tif", ("opera", "vv", "none", 30, 121)),
        (f"{OPERA}_mask.tif", ("opera", "mask", "none", 30, 121)),
        (f"{OPERA}_VH_cropped.tif", ("opera", "vh", "none", 30, 121)),
    ],
)
def test_names_are_parsed(name: str, expected: tuple) -> None:
    """Every field of a product's name is read, crops included."""
    found = parse(name)
    assert (found.family, found.layer, found.speckle_filter, found.spacing, found.track) == expected
    assert (found.platform, found.start) == ("sentinel-1a", datetime(2021, 7, 21, 0, 11, 35, tzinfo=UTC))
    assert found.product in {HYP3, HYP3.replace("gpuned", "gpufed"), OPERA}
    assert found.processed == (datetime(2021, 7, 22, 1, 2, 29, tzinfo=UTC) if expected[0] == "opera" else None)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("dem.tif", "neither that of a HyP3 RTC product nor of an OPERA RTC-S1 granule"),
        (f"{HYP3.replace('gpuned', 'spuned')}_VV.tif", "sigma0"),
        (f"{HYP3.replace('gpuned', 'gduned')}_VV.tif", "decibel; cubes hold linear power"),
        (f"{HYP3.replace('gpuned', 'gpunem')}_VV.tif", "matched to the DEM"),
        (f"{HYP3.replace('20210721', '20211399')}_VV.tif", "is not a time"),
    ],
)
def test_names_of_no_use_give_their_reason(name: str, reason: str) -> None:
    """What a cube can't hold says why."""
    assert reason in parse(name)


@pytest.mark.parametrize(
    "name",
    [
        f"{HYP3}_inc_map.tif",
        f"{HYP3}_dem.tif",
        f"{OPERA}_HH.tif",
        "OPERA_L2_RTC-S1-STATIC_T121-257648-IW2_20140403_S1A_30_v1.0_mask.tif",
    ],
)
def test_layers_that_are_not_needed_are_no_fault(name: str) -> None:
    """What an archive delivers besides is passed over without a word: a warning would hide what matters."""
    assert parse(name) is None


def test_items_carry_what_the_headers_say(tmp_path: Path, opera_lake: Lake) -> None:
    """An item has the orbit, the processing time, the grid and the assets of its product."""
    factories.opera(tmp_path, opera_lake, "20210721T001135", vh=True, processed="20210722T010229")
    (item,) = find_scenes(opera_lake, f"folder:{tmp_path}")
    assert sorted(item.assets) == ["mask", "vh", "vv"]
    assert item.properties["sat:absolute_orbit"] == 38868
    assert item.properties["sat:relative_orbit"] == 121
    assert item.properties["sat:orbit_state"] == "descending"
    assert item.properties["processing:datetime"] == "2021-07-22T01:02:29+00:00"
    assert item.properties["proj:code"] == "EPSG:32645"
    assert item.properties["cubekit:source"] == "opera"
    assert item.to_dict()["properties"]["platform"] == "sentinel-1a"


def test_hyp3_processing_time_is_the_tag(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """HyP3's processing time is in TIFFTAG_DATETIME; the newest wins, not the last random id nor the newest file."""
    factories.hyp3(tmp_path, tsho_rolpa, "20210721T001135", identifier="0000", processed="2024:06:01 10:00:00")
    factories.hyp3(tmp_path, tsho_rolpa, "20210721T001135", identifier="FFFF", processed="2024:05:31 10:00:00")
    (only,) = group(find_scenes(tsho_rolpa, f"folder:{tmp_path}"))
    assert only.granules == ("S1A_IW_20210721T001135_DVP_RTC20_G_gpuned_0000",)
    assert only.processed == datetime(2024, 6, 1, 10, tzinfo=UTC)


def test_simulated_granules_never_pass_for_real(tmp_path: Path, opera_lake: Lake) -> None:
    """A granule that the simulator wrote is marked by its tag, wherever it lies."""
    factories.opera(tmp_path, opera_lake, "20210721T001135", software="cubekit-simulator 0.1.0")
    (item,) = find_scenes(opera_lake, f"folder:{tmp_path}")
    assert item.properties["cubekit:source"] == "simulated"


def test_orbit_of_the_tag_wins_and_contradictions_are_left_out(tmp_path: Path, opera_lake: Lake) -> None:
    """The metadata's orbit is taken; one that is on another track than the name says is refused."""
    factories.opera(tmp_path / "good", opera_lake, "20210721T001135", orbit=38868)
    factories.opera(tmp_path / "bad", opera_lake, "20210721T001136", orbit=38800)
    with pytest.warns(SceneWarning, match=r"its name says relative orbit 121, its absolute orbit 38800 is on 53"):
        items = find_scenes(opera_lake, f"folder:{tmp_path}")
    assert [item.properties["sat:absolute_orbit"] for item in items] == [38868]


def test_period_is_inclusive(tmp_path: Path, opera_lake: Lake) -> None:
    """Both days of a period count, to their last second."""
    for day in ("20210720T235959", "20210721T001135", "20210722T235959", "20210723T000000"):
        factories.opera(
            tmp_path, opera_lake, day, burst="T121-257648-IW2" if "T00" in day else "T014-028000-IW2", orbit=None
        )
    with pytest.warns(SceneWarning, match="its name says relative orbit 14"):
        items = find_scenes(opera_lake, f"folder:{tmp_path}", "2021-07-21", date(2021, 7, 22))
    assert [item.datetime.day for item in items] == [21]


def test_a_pass_across_midnight_is_not_cut(tmp_path: Path) -> None:
    """Bursts at 23:59:59 and 00:00:01 are one pass of the day it starts on, whatever the period's edge."""
    lake = catalogue()["tsho_rolpa"].at_spacing(30)
    for time in ("20200104T235959", "20200105T000001"):
        factories.opera(tmp_path, lake, time, burst=f"T136-29000{time[-1]}-IW2", orbit=30658)
    for days in (("2020-01-04", "2020-01-04"), (None, "2020-01-04"), (None, None)):
        assert len(find_scenes(lake, f"folder:{tmp_path}", *days)) == 2
    with pytest.raises(SourceError, match="no scene of tsho_rolpa between 2020-01-05"):
        find_scenes(lake, f"folder:{tmp_path}", "2020-01-05")


def test_a_product_whose_mask_is_broken_is_left_out(tmp_path: Path, opera_lake: Lake) -> None:
    """Without its mask layover would pass for observed: the whole product waits for a sound one."""
    files = factories.opera(tmp_path, opera_lake, "20210721T001135")
    factories.opera(tmp_path, opera_lake, "20210802T001136")
    files[-1].write_bytes(b"broken")
    with pytest.warns(SceneWarning, match=r"_VV.tif: its mask .*_mask.tif can't be read"):
        items = find_scenes(opera_lake, f"folder:{tmp_path}")
    assert [item.datetime.day for item in items] == [2]


def test_layers_in_two_folders_are_one_product(tmp_path: Path, opera_lake: Lake) -> None:
    """VV here and VH there make one item; the same layer twice is named."""
    files = factories.opera(tmp_path / "a", opera_lake, "20210721T001135", vh=True)
    (tmp_path / "b").mkdir()
    files[1].rename(tmp_path / "b" / files[1].name)
    (item,) = find_scenes(opera_lake, f"folder:{tmp_path}")
    assert sorted(item.assets) == ["mask", "vh", "vv"]
    shutil.copy(files[0], tmp_path / "b" / files[0].name)
    with pytest.warns(SceneWarning, match="the same layer of the same product as"):
        assert len(find_scenes(opera_lake, f"folder:{tmp_path}")) == 1


def test_foreign_files_never_hide_a_broken_one(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """Thousands of other files are counted; every unusable product is listed."""
    factories.hyp3(tmp_path, tsho_rolpa, "20210721T001135")
    (tmp_path / "S1A_IW_20210802T001136_DVP_RTC20_G_gpuned_0001_VV.tif").write_text("broken")
    for number in range(30):
        (tmp_path / f"picture_{number}.tif").touch()
    with pytest.warns(SceneWarning, match=r"(?s)31 files.*0001_VV.tif: unreadable.*and 25 more of whom"):
        find_scenes(tsho_rolpa, f"folder:{tmp_path}")


@pytest.mark.parametrize(
    ("tags", "reason"),
    [
        ({"ABSOLUTE_ORBIT_NUMBER": "n/a"}, "its tag ABSOLUTE_ORBIT_NUMBER is 'n/a', not a number"),
        ({"ORBIT_PASS_DIRECTION": "sideways"}, "is 'sideways', neither ascending nor descending"),
    ],
)
def test_nonsense_in_tags_leaves_the_product_out(tmp_path: Path, opera_lake: Lake, tags: dict, reason: str) -> None:
    """One odd product does not end the search."""
    factories.opera(tmp_path, opera_lake, "20210721T001135")
    for file in factories.opera(tmp_path, opera_lake, "20210802T001136"):
        with rasterio.open(file, "r+") as dataset:
            dataset.update_tags(**tags)
    with pytest.warns(SceneWarning, match=reason):
        assert len(find_scenes(opera_lake, f"folder:{tmp_path}")) == 1


def test_burst_whose_start_moves_by_a_second_is_one_scene(tmp_path: Path, opera_lake: Lake) -> None:
    """A burst occurs once in an orbit: of two processings the newest stays, also when its start was rounded anew."""
    factories.opera(tmp_path, opera_lake, "20210721T001135", processed="20210722T000000")
    factories.opera(tmp_path, opera_lake, "20210721T001136", processed="20240101T000000")
    (only,) = group(find_scenes(opera_lake, f"folder:{tmp_path}"))
    (granule,) = only.granules
    assert "20240101T000000Z" in granule


def test_unknown_processing_times_are_not_guessed(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """Two products that don't tell which is the newer are refused, not chosen by HyP3's random id."""
    for identifier in ("0000", "FFFF"):
        factories.hyp3(tmp_path, tsho_rolpa, "20210721T001135", identifier=identifier, processed="")
    items = find_scenes(tsho_rolpa, f"folder:{tmp_path}")
    with pytest.raises(SourceError, match="are the same scene, and neither tells that it is the newer; remove one"):
        group(items)


def test_days_are_those_of_utc() -> None:
    """A time with a zone is taken to UTC before its day is taken."""
    from datetime import timedelta, timezone

    nepal = timezone(timedelta(hours=5, minutes=45))
    assert parse_period(datetime(2020, 1, 5, 0, 0, tzinfo=nepal), None) == (date(2020, 1, 4), None)


def test_other_lakes_are_left_out_silently(tmp_path: Path, opera_lake: Lake) -> None:
    """Scenes of another place are no fault, only not ours."""
    tilicho = catalogue()["tilicho"].at_spacing(30)
    factories.opera(tmp_path, opera_lake, "20210721T001135")
    factories.opera(tmp_path, tilicho, "20210328T001922", burst="T019-039572-IW2")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert len(find_scenes(opera_lake, f"folder:{tmp_path}")) == 1
        assert len(find_scenes(tilicho, f"folder:{tmp_path}")) == 1


def broken_files(folder: Path, lake: Lake) -> dict[str, str]:
    """One file of each kind that can't be used, and what the warning must say of it."""
    source = factories.hyp3(folder / "sound", lake, "20210721T001135")
    stem = "S1A_IW_20210802T001136_DVP_RTC20_G_gpuned"
    bad = folder / "bad"
    bad.mkdir()
    (bad / f"{stem}_0001_VV.tif").touch()
    (bad / f"{stem}_0002_VV.tif").write_text("not an image")
    whole = source.read_bytes()
    (bad / f"{stem}_0003_VV.tif").write_bytes(whole[: len(whole) * 2 // 3])
    (bad / f"{stem}_0004_VV.tif").write_bytes(whole[:100])
    cloud = bad / f"{stem}_0009_VV.tif"
    rasterio.shutil.copy(source, cloud, driver="COG", blocksize=128)
    cloud.write_bytes(cloud.read_bytes()[: cloud.stat().st_size * 2 // 3])
    shutil.copy(source, bad / "holiday.tif")
    affine, shape = factories.grid(lake)
    integers = np.ones(shape, "uint16")
    factories.write_raster(bad / f"{stem}_0005_VV.tif", integers, affine, lake.epsg, 0)
    factories.write_raster(
        bad / f"{stem}_0006_VV.tif", integers.astype("float32"), affine @ affine.scale(2), lake.epsg, 0
    )
    with rasterio.open(
        bad / f"{stem}_0007_VV.tif", "w", driver="GTiff", count=1, height=9, width=9, dtype="float32", transform=affine
    ) as d:
        d.write(np.ones((1, 9, 9), "float32"))
    factories.write_raster(bad / f"{stem}_0008_ls_map.tif", integers.astype("uint8"), affine, lake.epsg, 0)
    return {
        f"{stem}_0001_VV.tif": "empty (0 bytes)",
        f"{stem}_0002_VV.tif": "unreadable: ",
        f"{stem}_0003_VV.tif": "unreadable",  # its directory was at the end
        f"{stem}_0009_VV.tif": "truncated: its last blocks are missing",  # its directory is at the start
        f"{stem}_0004_VV.tif": "unreadable",
        "holiday.tif": "its name is neither",
        f"{stem}_0005_VV.tif": "its values are uint16, not floating-point power",
        f"{stem}_0006_VV.tif": "its pixels are 40 m, its name says 20 m",
        f"{stem}_0007_VV.tif": "no known coordinate reference system",
        f"{stem}_0008_ls_map.tif": "a layover map without its VV or VH file",
    }


def test_unusable_files_are_listed_once_with_their_reason(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """One warning lists every unusable file with its reason, and the sound scene is found all the same."""
    expected = broken_files(tmp_path, tsho_rolpa)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        items = find_scenes(tsho_rolpa, f"folder:{tmp_path}")
    assert len(items) == 1
    (listing,) = [str(w.message) for w in caught if w.category is SceneWarning]
    lines = listing.splitlines()
    assert lines[0].startswith(f"{len(expected)} files below")
    for name, reason in expected.items():
        (line,) = [line for line in lines if f"/{name}:" in line]
        assert reason in line


def test_nothing_usable_is_an_error(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """No scene at all is an error that counts what was there."""
    factories.hyp3(tmp_path, tsho_rolpa, "20210721T001135")
    with pytest.raises(
        SourceError, match=r"no scene of tsho_rolpa between 2022-01-01 and today.*of 1 GeoTIFFs 1 lie outside"
    ):
        find_scenes(tsho_rolpa, f"folder:{tmp_path}", "2022-01-01")


def test_missing_folder_is_an_error(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """A folder that does not exist is named."""
    with pytest.raises(SourceError, match="nowhere does not exist"):
        find_scenes(tsho_rolpa, f"folder:{tmp_path}/nowhere")


@pytest.mark.parametrize("source", ["sftp:somewhere", "folder:", "folder"])
def test_unknown_source_is_refused(tsho_rolpa: Lake, source: str) -> None:
    """What is no source is refused with those there are."""
    with pytest.raises(ConfigError, match="isn't known; allowed are folder:PATH, simulated:PATH"):
        find_scenes(tsho_rolpa, source)


@pytest.mark.parametrize(
    ("start", "end", "message"),
    [
        ("2021-07-02", "2021-07-01", r"ends \(2021-07-01\) before it starts"),
        ("july", None, "start 'july' is not a date"),
    ],
)
def test_bad_periods_are_refused(start: str, end: str | None, message: str) -> None:
    """A period that ends before it starts, or isn't dates, is refused."""
    with pytest.raises(ConfigError, match=message):
        parse_period(start, end)


@pytest.mark.parametrize(
    ("name", "count", "tracks"),
    [
        ("tsho_rolpa", 66, {12: 21, 85: 22, 121: 23}),
        ("chamlang_tsho", 70, {12: 25, 85: 22, 121: 23}),
        ("tilicho", 31, {19: 12, 92: 10, 158: 9}),
        ("gokyo", 66, {12: 21, 85: 22, 121: 23}),
    ],
)
def test_real_scenes_are_found(npsar: Path, name: str, count: int, tracks: dict[int, int]) -> None:
    """The real HyP3 crops are found lake by lake, with their tracks; Tilicho's come in two UTM zones."""
    items = list(find_scenes(catalogue()[name], f"folder:{npsar / 'rtc'}"))
    assert len(items) == count
    found = [item.properties["sat:relative_orbit"] for item in items]
    assert {track: found.count(track) for track in set(found)} == tracks
    assert {item.properties["cubekit:speckle_filter"] for item in items} == {"hyp3 enhanced lee 7x7"}
    assert len({item.properties["proj:code"] for item in items}) == (2 if name == "tilicho" else 1)


def test_real_scene_processed_twice_keeps_the_newest(npsar: Path) -> None:
    """Tilicho on 2021-03-28 was processed at 09:40 (9EE4) and at 12:28 (831F) of one day: 831F stays."""
    items = find_scenes(catalogue()["tilicho"], f"folder:{npsar / 'rtc'}", "2021-03-28", "2021-03-28")
    assert len(items) == 2
    (only,) = group(items)
    assert only.granules == ("S1A_IW_20210328T001922_DVP_RTC20_G_gpufed_831F",)
