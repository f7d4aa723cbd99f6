"""OPERA RTC-S1 from its archive: the real asf_search, GDAL and stackstac against local servers with the real names."""

from __future__ import annotations

import json
import logging
import pickle
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from archives import LAKES, PERIOD, Asf, at_asf, find, from_folder, lake, own_blocks, stored
from odc.geo.geobox import GeoBox
from rasterio.merge import merge
from rasterio.warp import transform_bounds
from servers import WEB_PAGE, Answer, Request, cut
from servers.cmr import Granule, incomplete, opera_granule, without
from servers.files import Earthdata
from shapely.geometry import box

from cubekit import cube
from cubekit.config import Study
from cubekit.cube.read import read_pass
from cubekit.errors import ConfigError, SceneWarning, SourceError
from cubekit.lakes import Lake
from cubekit.passes import absolute_orbit, group
from cubekit.sources import _earthdata, _http, find_scenes, opera
from cubekit.sources._items import orbit_of
from cubekit.sources.names import ProductFile, parse

OPERA_REAL = Path(__file__).parents[2] / "shared" / "data" / "opera_rtc_s1" / "dist_s1_T137"


# -- the study ---------------------------------------------------------------------------------------------------------


def study(asf: Asf, root: Path, period: tuple[date, date], tmp_path: Path) -> float:
    """Cubes of two lakes from the archive and from the folder are the same; gives bytes asked for over own blocks."""
    own = 0
    for name in LAKES:
        local = from_folder(asf.folder, name, period)
        remote = find(name, period=period)
        built = cube.build_cube(lake(name), remote, root)
        expected = cube.build_cube(lake(name), local, tmp_path / "from_folder")
        xr.testing.assert_identical(stored(built), stored(expected))
        assert set(built["track"].values.tolist()) == {item.properties["sat:relative_orbit"] for item in local}
        assert len(set(built["track"].values.tolist())) == 2
        own += own_blocks(local, lake(name).lattice)
    asked = asf.raster_bytes()
    for name in LAKES:
        report = cube.update(lake(name), find(name, period=period), root)
        assert (report.written, report.refused) == (0, {})
    assert asf.raster_bytes() == asked  # no raster byte is asked for again
    return asked / own


def test_cubes_are_those_of_the_folder(asf: Asf, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Bit for bit; with few more bytes than the lattice's own blocks; a rerun asks for none; no secret is left."""
    with caplog.at_level(logging.DEBUG):
        ratio = study(asf, tmp_path / "root", PERIOD, tmp_path)
    assert ratio <= 1.3
    found_in = [path for path in tmp_path.rglob("*") if path.is_file() and asf.data.token.encode() in path.read_bytes()]
    assert not found_in
    assert asf.data.token not in caplog.text
    assert asf.data.token.encode() not in pickle.dumps(find())


def test_logged_in_by_netrc(asf: Asf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """User and password of a .netrc give the same cube, and are sent to Earthdata Login only."""
    monkeypatch.delenv(_earthdata.TOKEN)
    monkeypatch.setenv("NETRC", str(asf.data.netrc(tmp_path / "netrc")))
    items = find(uri="opera?tracks=12")
    expected = cube.build_cube(lake("gokyo"), from_folder(asf.folder)[:1], tmp_path / "expected")
    xr.testing.assert_identical(stored(cube.build_cube(lake("gokyo"), items, tmp_path / "root")), stored(expected))
    assert len(asf.data.asked(lambda request: request.host == asf.data.LOGIN)) <= 4


def test_without_login_nothing_is_lost(asf: Asf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Searching needs none; reading says what to do, writes nothing, and goes on once there is one."""
    token = asf.data.token
    monkeypatch.delenv(_earthdata.TOKEN)
    monkeypatch.setenv("NETRC", "no such file")
    items = find()
    with pytest.raises(SourceError, match=r"answers 401.*\.netrc or EARTHDATA_TOKEN"):
        cube.build_cube(lake("gokyo"), items, tmp_path / "root")
    monkeypatch.setenv(_earthdata.TOKEN, token)
    assert cube.build_cube(lake("gokyo"), items, tmp_path / "root").sizes["time"] == 2


# -- the search --------------------------------------------------------------------------------------------------------


def test_items_are_those_of_the_folder(asf: Asf) -> None:
    """All but where the files are, their sizes, and the grid, which the catalogue does not know."""
    remote, local = find(), from_folder(asf.folder)
    assert [one.id for one in remote] == [one.id for one in local]
    for one, other in zip(remote, local, strict=True):
        grid = {name: value for name, value in other.properties.items() if name.startswith("proj:")}
        assert one.properties | grid == other.properties
        assert one.datetime == other.datetime
        assert one.bbox == pytest.approx(other.bbox)
        assert one.assets.keys() == other.assets.keys()
        for name, asset in one.assets.items():
            path = Path(other.assets[name].href)
            assert asset.href == asf.data.url(path.name)
            assert asset.extra_fields[opera.SIZE] == path.stat().st_size
            assert (asset.roles, asset.media_type) == (other.assets[name].roles, other.assets[name].media_type)
    assert asf.raster_bytes() == 0


def test_asks_for_what_is_wanted(asf: Asf) -> None:
    """One search a track, within the box of the AOI, from before the first day to after the last."""
    items = find(uri="opera?tracks=12,121&platforms=sentinel-1a&polarisations=vv")
    assert {one.properties["sat:relative_orbit"] for one in items} == {12, 121}
    assert {tuple(sorted(one.assets)) for one in items} == {("mask", "vv")}
    searches = asf.cmr.searches
    assert [one["attribute[]"] for one in searches] == ["int,PATH_NUMBER,12", "int,PATH_NUMBER,121"]
    assert {one["shortName"] for one in searches} == {"OPERA_L2_RTC-S1_V1"}
    assert {one["temporal"].strip(",") for one in searches} == {"2023-06-30T23:30:00Z,2023-07-14T00:29:59Z"}
    asked = [float(one) for one in searches[0]["bounding_box"].split(",")]
    assert asked == pytest.approx(lake("gokyo").aoi.bounds)


def test_one_direction_is_asked_for(asf: Asf) -> None:
    """The catalogue is, so that no page is spent on the other."""
    items = find(uri="opera?direction=descending")
    assert [one.id for one in items] == [one.id for one in from_folder(asf.folder) if "_T121-" in one.id]
    assert [one["attribute[]"] for one in asf.cmr.searches] == ["string,ASCENDING_DESCENDING,DESCENDING"]


def test_the_tracks_of_a_study_are_asked_for_alone(asf: Asf) -> None:
    """Of this archive; what others give is sorted out, and a track that isn't there is said."""
    items = find_scenes(lake("gokyo"), "opera", *PERIOD, tracks=[12])
    assert [one["attribute[]"] for one in asf.cmr.searches] == ["int,PATH_NUMBER,12"]
    local = find_scenes(lake("gokyo"), f"folder:{asf.folder}", *PERIOD, tracks=[12])
    assert [one.id for one in items] == [one.id for one in local]
    with pytest.raises(SourceError, match=r"no scene of gokyo on the tracks 13 in folder:.*; it has 12, 121: change"):
        find_scenes(lake("gokyo"), f"folder:{asf.folder}", *PERIOD, tracks=[13])


def test_only_this_archive_is_downloaded() -> None:
    """Others are on disk already, or are ordered."""
    document = {"study": {"name": "a"}, "lake": [{"id": "gokyo"}], "source": {"uri": "folder:a", "download": True}}
    with pytest.raises(ConfigError, match="download is for the source opera, not 'folder:a'; leave it out"):
        Study.parse(document)


def test_open_periods(asf: Asf) -> None:
    """Without first or last day all there is is found."""
    assert len(find_scenes(lake("gokyo"), "opera")) == len(find())
    assert len(find_scenes(lake("gokyo"), "opera", end="2023-07-03")) == 1
    assert "temporal" not in asf.cmr.searches[0]


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("tracks=0", "relative orbits are 1 to 175"),
        ("tracks=twelve", "are not understood"),
        ("tracks", "are not understood"),
        ("tracks=12&tracks=85", "given twice"),
        ("heading=up", "has no parameter heading; allowed are tracks, platforms, direction, polarisations"),
        ("direction=up", r"direction \['up'\] are not allowed; give some of ascending, descending"),
        ("platforms=sentinel-2a", "are not allowed; give some of sentinel-1a"),
        ("polarisations=hh", "are not allowed; give some of vv, vh"),
        ("polarisations=", "are not allowed"),
    ],
)
def test_parameters_are_checked(query: str, message: str) -> None:
    """Before anybody is asked."""
    with pytest.raises(ConfigError, match=message):
        find(uri=f"opera?{query}")


@pytest.mark.parametrize("page", [1, 2, 3])
def test_pages_are_put_together(asf: Asf, page: int) -> None:
    """However few granules a page holds."""
    whole = [one.id for one in find()]
    asf.cmr.page = page
    assert [one.id for one in find()] == whole
    assert len(asf.cmr.log) == 1 + -(-len(whole) // page)


def test_searches_do_not_meet(asf: Asf) -> None:
    """Every search starts at the first page, also after one that was broken off in the middle."""
    asf.cmr.page = 1
    asf.cmr.fail(Answer(503), when=lambda request: "CMR-Search-After" in request.headers)
    assert [one.id for one in find()] == [one.id for one in from_folder(asf.folder)]


BAD_DAYS: Mapping[str, Answer | Callable[[Answer], Answer]] = {
    "429": Answer(429, b'{"errors": ["too many"]}', {"Content-Type": "application/json", "Retry-After": "0"}),
    "502, a web page": WEB_PAGE,
    "500, JSON": Answer(500, b'{"errors": ["oh"]}', {"Content-Type": "application/json"}),
    "silence": lambda answer: replace(answer, hang=2.5),
    "a page without its last granule": incomplete,
    "broken off": cut(500),
    "JSON without granules": Answer(200, b'{"took": 3}', {"Content-Type": "application/json"}),
}


@pytest.mark.parametrize("name", BAD_DAYS)
def test_bad_days_of_the_catalogue(asf: Asf, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """They pass, and nothing is missing."""
    if name == "silence":
        for limit in ("TIMEOUT", "SEARCH_TIMEOUT"):
            monkeypatch.setattr(_http, limit, (5.0, 0.3))
    asf.cmr.fail(BAD_DAYS[name])
    assert [one.id for one in find()] == [one.id for one in from_folder(asf.folder)]
    assert len(asf.cmr.log) == 2


@pytest.mark.parametrize("name", sorted(set(BAD_DAYS) - {"silence"}))
def test_a_catalogue_that_stays_down_is_said(asf: Asf, name: str) -> None:
    """One error, with what was tried; never a part of the granules."""
    asf.cmr.fail(BAD_DAYS[name], times=99)
    with pytest.raises(SourceError, match=r"the search for OPERA granules of gokyo failed 5 times, last: "):
        find()


def test_a_refused_search_is_not_repeated(asf: Asf) -> None:
    """What the catalogue says is told."""
    answer = Answer(400, b'{"errors": ["no such field"]}', {"Content-Type": "application/json"})
    asf.cmr.fail(answer, times=9)
    with pytest.raises(SourceError, match=r"is refused: HTTP 400: .*no such field"):
        find()
    assert len(asf.cmr.log) == 1


def test_nothing_there(asf: Asf) -> None:
    """It says how much was looked at, and what to change."""
    with pytest.raises(SourceError, match=r"no scene of gokyo between 2001-07-01 .* of 0 granules .* another period"):
        find(period=(date(2001, 7, 1), date(2001, 7, 2)))
    with pytest.raises(SourceError, match="of 3 granules 3 are of another period, track, platform or direction"):
        find(uri="opera?platforms=sentinel-1b")


def test_each_granule_once(asf: Asf) -> None:
    """The archive lists a granule twice; the client does not mind, the cube would."""
    asf.cmr.granules += asf.cmr.granules
    assert [one.id for one in find()] == [one.id for one in from_folder(asf.folder)]


def test_the_newest_processing_wins(asf: Asf) -> None:
    """Whatever their order in the answer; also when the burst's start moved by a second."""

    def again(granule: Granule) -> None:
        text = json.dumps(granule)
        parts = granule["umm"]["GranuleUR"].split("_")
        newer = [*parts[:4], shifted(parts[4], seconds=1), shifted(parts[5], days=400), *parts[6:]]
        granule.clear()
        granule.update(json.loads(text.replace("_".join(parts), "_".join(newer))))

    first = find()[0].id
    granules = [one for one in asf.cmr.granules if one["umm"]["GranuleUR"] == first]
    newer = without(granules, again)[0]["umm"]["GranuleUR"]
    for position in (0, len(asf.cmr.granules)):
        asf.cmr.granules = [one for one in asf.cmr.granules if one["umm"]["GranuleUR"] != newer]
        asf.cmr.granules.insert(position, without(granules, again)[0])
        names = [one.id for one in find()]
        assert newer in names
        assert first not in names
        assert len(names) == len(from_folder(asf.folder))


def shifted(stamp: str, **delta: float) -> str:
    return f"{datetime.strptime(stamp, '%Y%m%dT%H%M%SZ') + timedelta(**delta):%Y%m%dT%H%M%SZ}"  # noqa: DTZ007


def no_sizes(granule: Granule) -> None:
    for file in granule["umm"]["DataGranule"]["ArchiveAndDistributionInformation"]:
        file.pop("SizeInBytes")


def no_files(granule: Granule) -> None:
    granule["umm"]["DataGranule"].pop("ArchiveAndDistributionInformation")


@pytest.mark.parametrize("change", [no_sizes, no_files])
def test_a_granule_without_sizes_is_as_good(asf: Asf, change: Callable[[Granule], None]) -> None:
    """It would end the client's whole search; here it lacks a size, no more."""
    asf.cmr.granules = without(
        sorted(asf.cmr.granules, key=lambda one: "_T012-" not in one["umm"]["GranuleUR"]), change
    )
    items = find()
    assert [one.id for one in items] == [one.id for one in from_folder(asf.folder)]
    assert {name for one in items for name in one.assets if opera.SIZE not in one.assets[name].extra_fields} == {
        *("vv", "vh", "mask")
    }


def no_outline(granule: Granule) -> None:
    granule["umm"]["SpatialExtent"]["HorizontalSpatialDomain"]["Geometry"].pop("GPolygons")


def contradictory(granule: Granule) -> None:
    granule["umm"]["OrbitCalculatedSpatialDomains"][0]["OrbitNumber"] += 30


def no_bands(granule: Granule) -> None:
    links = granule["umm"]["RelatedUrls"]
    granule["umm"]["RelatedUrls"] = [one for one in links if "_VV" not in one["URL"] and "_VH" not in one["URL"]]


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (no_outline, "its metadata can't be read"),
        (contradictory, "its name says relative orbit 12, its absolute orbit .* is on 42"),
        (no_bands, "it has none of vv, vh"),
    ],
)
def test_a_bad_granule_is_left_out_alone(asf: Asf, change: Callable[[Granule], None], reason: str) -> None:
    """With a warning that names it; the others are found, on however many pages."""
    asf.cmr.granules = without(
        sorted(asf.cmr.granules, key=lambda one: "_T012-" not in one["umm"]["GranuleUR"]), change
    )
    good = [one.id for one in from_folder(asf.folder)]
    for page in (1, 250):
        asf.cmr.page = page
        with pytest.warns(SceneWarning, match=f"1 granules are left out:\n  OPERA_L2_RTC-S1_T012.*: {reason}"):
            names = [one.id for one in find(uri="opera")]
        assert names == [one for one in good if "_T012-" not in one]


def test_bad_granules_without_names_are_counted_each(asf: Asf) -> None:
    """On pages of their own: else the client takes the rest for incomplete."""

    def nameless(granule: Granule) -> None:
        granule["umm"].pop("GranuleUR")
        granule["meta"].pop("native-id")
        no_outline(granule)

    good = list(asf.cmr.granules)
    asf.cmr.granules = [*good, *without(good[:1], nameless), *without(good[:1], nameless)]
    asf.cmr.page = 1
    with pytest.warns(SceneWarning, match=r"2 granules are left out:\n.*granule without a name, 1: its metadata"):
        found = find()
    assert [one.id for one in found] == [one.id for one in from_folder(asf.folder)]


def test_a_missing_polarisation_is_no_harm(asf: Asf, tmp_path: Path) -> None:
    """The granule has one band less, as in a folder."""
    for granule in asf.cmr.granules:
        links = granule["umm"]["RelatedUrls"]
        granule["umm"]["RelatedUrls"] = [one for one in links if "_VH" not in one["URL"]]
    items = find()
    assert {tuple(sorted(one.assets)) for one in items} == {("mask", "vv")}
    built = cube.build_cube(lake("gokyo"), items, tmp_path)
    assert built["vh"].isnull().all()
    assert built["vv"].notnull().any(("y", "x")).all()


def test_uncalibrated_scenes_are_left_out(asf: Asf) -> None:
    """Sentinel-1C counts from 2025-05-20."""
    outline, burst = lake("gokyo").aoi.envelope, "T121-258662-IW2"
    for day in (19, 31):
        start = datetime(2025, 5, day, 0, 11, 29, tzinfo=UTC)
        name = f"OPERA_L2_RTC-S1_{burst}_{start:%Y%m%dT%H%M%SZ}_20250601T000000Z_S1C_30_v1.0"
        orbit = absolute_orbit("sentinel-1c", start)
        files = {f"{name}_{layer}.tif": 9 for layer in ("VV", "VH", "mask")}
        asf.cmr.granules.append(
            opera_granule(name, files, outline, orbit=orbit, direction="descending", url=asf.data.url)
        )
    with pytest.warns(SceneWarning, match="sentinel-1c is calibrated from 2025-05-20 only"):
        items = find(period=(date(2025, 5, 1), date(2025, 5, 31)))
    assert [one.datetime.day for one in items if one.datetime] == [31]


def test_a_pass_over_midnight_is_whole(asf: Asf) -> None:
    """It belongs to the day it starts on, with all its bursts."""
    outline = lake("gokyo").aoi.envelope
    asf.cmr.granules = []
    for burst, start in ((258662, "20230710T235959Z"), (258663, "20230711T000002Z")):
        name = f"OPERA_L2_RTC-S1_T121-{burst}-IW2_{start}_20230712T000000Z_S1A_30_v1.0"
        files = {f"{name}_{layer}.tif": 9 for layer in ("VV", "VH", "mask")}
        asf.cmr.granules.append(
            opera_granule(name, files, outline, orbit=49368, direction="descending", url=asf.data.url)
        )
    assert len(find(period=(date(2023, 7, 10), date(2023, 7, 10)))) == 2
    with pytest.raises(SourceError, match="no scene of gokyo"):
        find(period=(date(2023, 7, 11), date(2023, 7, 11)))


# -- reading in place --------------------------------------------------------------------------------------------------


def blocks(asf: Asf) -> Callable[[Request], bool]:
    """Requests of pixels: not of the first bytes of a file."""
    return lambda request: (
        request.host == asf.data.STORAGE
        and request.method == "GET"
        and not (request.headers.get("Range") or "bytes=0-").startswith("bytes=0-")
    )


def headers(asf: Asf) -> Callable[[Request], bool]:
    return lambda request: request.host == asf.data.STORAGE and (request.headers.get("Range") or "") == "bytes=0-16383"


def redirects(asf: Asf) -> Callable[[Request], bool]:
    return lambda request: request.host == asf.data.DATA


@pytest.fixture(scope="session")
def expected(published: Path, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """The cube of one pass of two bursts, from the folder."""
    items = [one for one in from_folder(published) if "_T121-" in one.id]
    return stored(cube.build_cube(lake("gokyo"), items, tmp_path_factory.mktemp("expected")))


READING: Mapping[str, tuple[Callable[[Asf], Callable[[Request], bool]], Answer | Callable[[Answer], Answer]]] = {
    "the archive is busy": (redirects, Answer(429, b"", {"Retry-After": "0"})),
    "the archive is down": (redirects, WEB_PAGE),
    "the storage is busy at the header": (headers, Answer(503, b"slow down")),
    "the storage is busy at the blocks": (blocks, Answer(503, b"slow down")),
    "the storage breaks off in a header": (headers, cut(1000)),
    "the storage breaks off in the blocks": (blocks, cut(70_000)),
    "the signature is refused": (headers, Answer(403, b"<Error>expired</Error>", {"Content-Type": "application/xml"})),
    "the storage says nothing": (blocks, lambda answer: replace(answer, hang=3.5)),
}


@pytest.mark.parametrize("name", READING)
@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_bad_days_of_the_archive(asf: Asf, name: str, expected: xr.Dataset, tmp_path: Path) -> None:
    """In the middle of reading: the cube ends as if nothing had happened, in the same run."""
    where, fault = READING[name]
    asf.data.fail(fault, when=where(asf))
    report = cube.update(lake("gokyo"), find(uri="opera?tracks=121"), tmp_path)
    assert asf.data.failed == 1  # it did happen
    assert (report.added, report.refused) == (1, {})
    xr.testing.assert_identical(stored(cube.open_cube(tmp_path / "gokyo")), expected)


def test_a_damaged_header_does_not_tell_the_signature(
    asf: Asf, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """GDAL names the file by path and query, without its host; the message goes into reports."""
    asf.data.fail(
        lambda answer: replace(answer, body=answer.body[:8] + bytes(len(answer.body) - 8)),
        times=99,
        when=lambda request: request.host == asf.data.STORAGE,
    )
    with caplog.at_level(logging.DEBUG), pytest.raises(SourceError, match=r"can't be read: .*TIFF") as caught:
        cube.build_cube(lake("gokyo"), find(uri="opera?tracks=12"), tmp_path / "root")
    ours = [each.getMessage() for each in caplog.records if not each.name.startswith("urllib3")]
    assert "X-Amz" not in str(caught.value) + " ".join(ours)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
@pytest.mark.parametrize(
    "name", ["the storage breaks off in a header", "the signature is refused", "the archive is down"]
)
def test_an_archive_that_stays_down_costs_its_passes_only(
    asf: Asf, name: str, expected: xr.Dataset, tmp_path: Path
) -> None:
    """They are refused with a reason, the others are there; the next run, of the same process, completes the cube."""
    where, fault = READING[name]
    items = find(uri="opera?tracks=12,121")
    asf.data.fail(fault, times=99, when=lambda request: where(asf)(request) and "_T012-" in request.path)
    report = cube.update(lake("gokyo"), items, tmp_path)
    assert report.added == 1
    assert len(report.refused) == 1
    assert "failed 5 times, last: " in next(iter(report.refused.values()))
    assert "X-Amz" not in str(report.refused)
    asf.data.recover()
    assert cube.update(lake("gokyo"), items, tmp_path).added == 1
    opened = stored(cube.open_cube(tmp_path / "gokyo"))
    assert opened.sizes["time"] == 2
    xr.testing.assert_identical(opened.sel(track=121), expected.sel(track=121))


# -- downloads ---------------------------------------------------------------------------------------------------------


def test_download_gives_the_same_cube(asf: Asf, tmp_path: Path) -> None:
    """The files are the archive's; a second call asks for nothing; the folder is a source of its own."""
    items = find()
    local = opera.download(items, tmp_path / "granules")
    assert [one.id for one in local] == [one.id for one in items]
    assert items[0].assets["vv"].href.startswith("https://")  # what was given is as it was
    for one in local:
        for asset in one.assets.values():
            path = Path(asset.href)
            assert path.read_bytes() == (asf.folder / path.name).read_bytes()
    asked = len(asf.data.log)
    opera.download(items, tmp_path / "granules")
    assert len(asf.data.log) == asked
    expected = stored(cube.build_cube(lake("gokyo"), from_folder(asf.folder), tmp_path / "expected"))
    xr.testing.assert_identical(stored(cube.build_cube(lake("gokyo"), local, tmp_path / "root")), expected)
    assert len(from_folder(tmp_path / "granules")) == len(items)


def test_a_granule_that_can_not_be_had_is_left_out(asf: Asf, tmp_path: Path) -> None:
    """Its first band never comes without its mask; the next call gets what is missing, and no more."""
    items = find()
    lost = Path(items[0].assets["mask"].href).name
    asf.data.fail(Answer(404), times=9, when=lambda request: request.path.endswith(lost))
    with pytest.warns(SceneWarning, match=rf"1 granules are left out:\n  {items[0].id}: .*{lost} failed.*answers 404"):
        local = opera.download(items, tmp_path)
    assert [one.id for one in local] == [one.id for one in items[1:]]
    assert not list(tmp_path.glob(f"{items[0].id}_VV.tif"))
    asf.data.recover()
    there = len(list(tmp_path.glob("*.tif")))
    asked = len(asf.data.asked(lambda request: request.host == asf.data.STORAGE))
    assert len(opera.download(items, tmp_path)) == len(items)
    missing = 3 * len(items) - there
    assert len(asf.data.asked(lambda request: request.host == asf.data.STORAGE)) == asked + missing


def test_no_granule_can_be_had(asf: Asf, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error, which says why."""
    items = find()
    monkeypatch.delenv(_earthdata.TOKEN)
    monkeypatch.setenv("NETRC", "no such file")
    with pytest.raises(SourceError, match=r"none of 3 granules could be downloaded: .*answers 401.*EARTHDATA_TOKEN"):
        opera.download(items, tmp_path)
    assert not list(tmp_path.glob("*.tif"))


# -- real granules -----------------------------------------------------------------------------------------------------


def real_passes() -> list[Path]:
    return sorted((OPERA_REAL / "bursts_all_15_for_5_dates").glob("*"))


@pytest.mark.skipif(not OPERA_REAL.is_dir(), reason="the real OPERA crops are absent")
@pytest.mark.parametrize("count", [3, pytest.param(15, marks=pytest.mark.slow)])
def test_a_real_pass_of_fifteen_bursts(count: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Found burst by burst through the catalogue, read in place: one pass, one mosaic, every burst's own pixels.

    The mosaic is read around the first `count` bursts.
    """
    when = real_passes()[0]
    crops = sorted(when.rglob("*_VV.tif"))
    assert len(crops) == 15
    corners = []
    data = Earthdata(files={crop.name: crop.read_bytes() for crop in when.rglob("*.tif")})
    with at_asf(data, [], tmp_path, monkeypatch) as there:
        items = {}
        for crop in crops:
            with rasterio.open(crop) as dataset:
                bounds, epsg = dataset.bounds, dataset.crs.to_epsg()
            corners.append(bounds)
            start = datetime.strptime(crop.name.split("_")[4], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
            name = crop.name.removesuffix("_VV.tif")
            files = {one: len(data.files[one]) for one in (crop.name, f"{name}_VH.tif")}
            outline = box(*transform_bounds(epsg, 4326, *bounds))
            orbit = absolute_orbit("sentinel-1a", start)
            there.cmr.granules.append(
                opera_granule(name, files, outline, orbit=orbit, direction="ascending", url=data.url)
            )
        for index, bounds in enumerate(corners):
            middle = box(*transform_bounds(epsg, 4326, *bounds)).centroid.buffer(0.001)
            aoi = middle.buffer(0.002).envelope
            here = Lake(f"part_{index}", f"Part {index}", middle, aoi, epsg=epsg, spacing=30)
            items |= {one.id: one for one in find_scenes(here, "opera", when.name, when.name)}
        passes = group(items.values())
        assert len(passes) == 1
        assert len(passes[0].scenes) == 15
        assert passes[0].track == 137
        edges = zip(*sorted(corners, key=lambda one: one.top)[:count], strict=True)
        bounds = [pick(edge) for pick, edge in zip((min, min, max, max), edges, strict=True)]
        lattice = GeoBox.from_bbox(bounds, crs=f"EPSG:{epsg}", resolution=30, tight=True)
        image = read_pass(passes[0], lattice, strict_grid=True)
    assert image.offset == (0.0, 0.0)
    for band, name in zip(image.bands, ("VV", "VH"), strict=True):
        files = [crop.with_name(crop.name.replace("_VV", f"_{name}")) for crop in crops]
        expected, _ = merge(files, bounds=bounds, nodata=np.nan)
        np.testing.assert_array_equal(band, expected[0])
        assert np.isfinite(band).sum() >= count * 100 * 100


@pytest.mark.skipif(not OPERA_REAL.is_dir(), reason="the real OPERA crops are absent")
def test_real_platforms_agree_on_their_track() -> None:
    """S1A and S1B, six days apart, absolute orbits from their times: track 137 for both, the same bursts and grid."""
    crops = [{crop.name.split("_")[3]: crop for crop in when.rglob("*_VV.tif")} for when in real_passes()[:2]]
    assert crops[0].keys() == crops[1].keys()
    orbits = {}
    for crop in (crop for some in crops for crop in some.values()):
        one = parse(crop.name)
        assert isinstance(one, ProductFile)
        orbits[one.platform] = orbit_of(one, {})
    assert orbits.keys() == {"sentinel-1a", "sentinel-1b"}
    assert {(one["sat:relative_orbit"], one["sat:orbit_state"]) for one in orbits.values()} == {(137, "ascending")}
    for burst, crop in crops[0].items():
        with rasterio.open(crop) as first, rasterio.open(crops[1][burst]) as second:
            assert (first.transform, first.shape, first.crs) == (second.transform, second.shape, second.crs)
