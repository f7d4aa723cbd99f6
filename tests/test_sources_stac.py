"""`stac:URL#COLLECTION`, by the real pystac-client, GDAL and stackstac, against a server on 127.0.0.1."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xarray as xr
from affine import Affine
from factories import write_raster
from servers import WEB_PAGE, Answer, Service, internet, serving
from servers.files import Files, file_answer
from servers.stac import BASE, Stac, item, opera_items

from cubekit import build_cube, find_scenes
from cubekit.errors import ConfigError, CubekitError, MissingExtra, SceneWarning, SourceError
from cubekit.lakes import Lake
from cubekit.sources import _http, stac
from cubekit.sources._stac_items import Header, assets_of, declared, scene
from cubekit.sources.simulated import write_archive

PERIOD = ("2023-07-01", "2023-07-15")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Attempts follow each other at once."""
    monkeypatch.setattr(_http, "WAIT", 0.0)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory, opera_lake: Lake) -> Path:
    """Simulated OPERA granules of two tracks."""
    folder = tmp_path_factory.mktemp("opera")
    write_archive(opera_lake, folder, start=PERIOD[0], end=PERIOD[1], seed=3)
    return folder


@pytest.fixture(scope="module")
def folder_cube(archive: Path, opera_lake: Lake, tmp_path_factory: pytest.TempPathFactory) -> xr.Dataset:
    """The cube of the folder source."""
    items = find_scenes(opera_lake, f"folder:{archive}", *PERIOD)
    return build_cube(opera_lake, items, tmp_path_factory.mktemp("folder")).load()


@pytest.mark.parametrize("projection", ["epsg", "code", "none"])
def test_the_cube_is_that_of_the_folder(
    projection: str, archive: Path, folder_cube: xr.Dataset, opera_lake: Lake, tmp_path: Path
) -> None:
    """Must show 3: bit for bit, attributes included, however the items tell their projection."""
    server = Stac(opera_items(archive, "OPERA_L2_RTC-S1_V1_1", projection), archive, page=2)
    with serving(server) as url:
        items = find_scenes(opera_lake, f"stac:{url}#OPERA_L2_RTC-S1_V1_1", *PERIOD)
        headers = server.sent(lambda request: request.path.startswith("/files/"))
        cube = build_cube(opera_lake, items, tmp_path).load()
    assert (headers == 0) == (projection != "none")  # a header is read only where the item does not tell
    assert cube.sizes["time"] >= 3
    assert len(np.unique(cube["track"])) == 2
    xr.testing.assert_identical(cube.drop_vars("ingested"), folder_cube.drop_vars("ingested"))


@pytest.mark.parametrize("methods", [("GET", "POST"), ("GET",), ("POST",)], ids="+".join)
def test_every_page_is_read_by_the_method_the_api_has(
    methods: tuple[str, ...], archive: Path, opera_lake: Lake
) -> None:
    """POST where there is POST, else GET; all pages, each item once."""
    listed = opera_items(archive, "rtc", "code")
    server = Stac([*listed, listed[0]], archive, page=1, methods=methods)
    with serving(server) as url:
        items = find_scenes(opera_lake, f"stac:{url}#rtc", *PERIOD)
    searches = server.asked(lambda request: request.path == "/search")
    assert sorted(one.id for one in items) == sorted(one["id"] for one in listed)
    assert len(searches) == len(listed) + 1
    assert {request.method for request in searches} == {"POST" if "POST" in methods else "GET"}


def test_a_pass_over_midnight_is_whole(opera_lake: Lake, tmp_path: Path) -> None:
    """It belongs to the day it starts on, and both its scenes come or neither."""
    raster = write_raster(tmp_path / "a.tif", np.ones((300, 300), "float32"), _affine(opera_lake, 30), 32645, -1)
    times = [datetime(2020, 1, 3, 23, 59, 50, tzinfo=UTC), datetime(2020, 1, 4, 0, 0, 15, tzinfo=UTC)]
    known = {"sat__absolute_orbit": 30643, "sat__orbit_state": "ascending", "platform": "sentinel-1a"}
    given = [item(f"scene{n}", "rtc", raster, time, {"vv": "a.tif"}, **known) for n, time in enumerate(times)]
    with serving(Stac(given, tmp_path)) as url:
        items = find_scenes(opera_lake, f"stac:{url}#rtc", "2020-01-03", "2020-01-03")
        with pytest.raises(SourceError, match="no scene of tsho_rolpa between 2020-01-04"):
            find_scenes(opera_lake, f"stac:{url}#rtc", "2020-01-04", "2020-01-04")
    assert [one.id for one in items] == ["scene0", "scene1"]


@pytest.mark.parametrize(
    "fault",
    [
        Answer(429, b"{}", {"Retry-After": "0", "Content-Type": "application/json"}),
        WEB_PAGE,
        Answer(200, b"<html>", {"Content-Type": "text/html"}),
        Answer(200, b'{"type": "FeatureColl', cut=10, headers={"Content-Length": "21"}),
    ],
    ids=["429", "502", "html", "cut"],
)
def test_what_passes_is_tried_again(fault: Answer, archive: Path, opera_lake: Lake) -> None:
    """A page that fails for a while costs nothing but that page."""
    server = Stac(opera_items(archive, "rtc", "code"), archive, page=2)
    server.fail(fault, times=2, when=lambda request: request.path == "/search" and b"token" in request.body)
    with serving(server) as url:
        items = find_scenes(opera_lake, f"stac:{url}#rtc", *PERIOD)
    assert len(items) == len(server.items)
    assert len(server.asked(lambda request: request.path == "/search")) == -(-len(items) // 2) + 2


def test_what_stays_is_told(archive: Path, opera_lake: Lake) -> None:
    """A service that is down ends in one line, with the attempts it took."""
    server = Stac(opera_items(archive, "rtc", "code"), archive)
    server.fail(WEB_PAGE, times=99)
    with (
        serving(server) as url,
        pytest.raises(SourceError, match=r"search in 127\.0\.0\.1/? for rtc .* failed 5 times"),
    ):
        find_scenes(opera_lake, f"stac:{url}#rtc", *PERIOD)


@pytest.mark.parametrize(
    ("address", "error", "message"),
    [
        ("{url}", ConfigError, "is not stac:URL#COLLECTION"),
        ("{url}#", ConfigError, "is not stac:URL#COLLECTION"),
        ("ftp://somewhere#rtc", ConfigError, "is not stac:URL#COLLECTION"),
        ("http://me:planted@127.0.0.1#rtc", ConfigError, "at 127.0.0.1 holds a login or a query"),
        ("{url}?token=planted#rtc", ConfigError, "at 127.0.0.1 holds a login or a query"),
        ("{url}#rtx", SourceError, "has no collection 'rtx'; look at http://.*/collections"),
        ("{url}/nowhere#rtc", SourceError, "it answers 404"),
        ("{url}/files/page.json#rtc", SourceError, "does not answer as a STAC API does"),
        ("{url}/files/catalog.json#rtc", SourceError, "a catalog that can't be searched"),
    ],
)
def test_addresses_that_lead_nowhere(
    address: str, error: type[Exception], message: str, archive: Path, opera_lake: Lake
) -> None:
    """Each says what is wrong with it."""
    catalog = b'{"type": "Catalog", "id": "a", "stac_version": "1.0.0", "description": "a", "links": []}'
    server = Stac(opera_items(archive, "rtc", "code"), files={"page.json": b"[1]", "catalog.json": catalog})
    with serving(server) as url, pytest.raises(error, match=message) as caught:
        find_scenes(opera_lake, f"stac:{address.format(url=url)}", *PERIOD)
    assert "planted" not in str(caught.value)


def _affine(lake: Lake, spacing: float, shift: tuple[float, float] = (0.0, 0.0)) -> Affine:
    left, top = lake.corner
    return Affine(spacing, 0, left - 300 + shift[0], 0, -spacing, top + 300 + shift[1])


GRD = "S1A_IW_GRDH_1SDV_{time}_20200103T233621_030643_0382F7_rtc"


def grd_items(lake: Lake, folder: Path, *, year: int = 2020) -> tuple[list[dict[str, Any]], np.ndarray]:
    """A scene as the Planetary Computer has them: 10 m, its own origin, nodata told by the item only, no orbit."""
    shape = (640, 640)
    values = np.random.default_rng(5).uniform(0.01, 0.5, shape).astype("float32")
    values[:90] = -32768
    values[300:302, 300:302] = -32768
    values[:, 430:] = 0  # the border of an old scene
    values[400, 400] = 0  # dark water
    raster = write_raster(folder / "vv.tif", values, _affine(lake, 10, (4.0, -3.0)), lake.epsg, None)
    start = datetime(2020, 1, 3, 23, 35, 56, tzinfo=UTC)
    if year != 2020:
        start = datetime(2016, 11, 19, 23, 35, 56, tzinfo=UTC)
    bands = {"raster:bands": [{"nodata": -32768, "data_type": "float32", "spatial_resolution": 10}]}
    asset = {"href": f"{BASE}vv.tif", "type": "image/tiff; application=geotiff", **bands}
    known = {"platform": "SENTINEL-1A", "sar__looks_equivalent_number": 4.4, "sar__product_type": "GRD"}
    name = GRD.format(time=f"{start:%Y%m%dT%H%M%S}") if year == 2020 else "old"
    return [item(name, "sentinel-1-rtc", raster, start, {"vv": asset}, projection="epsg", **known)], values


@pytest.mark.parametrize("year", [2016, 2020])
def test_fine_pixels_are_averaged_and_nodata_is_nan(year: int, tsho_rolpa: Lake, tmp_path: Path) -> None:
    """10 m with its own origin onto 20 m: each pixel the mean of its four nearest ones, by brute force; what the item
    declares as nodata is none, and zeros at the border are none before 2018."""
    given, values = grd_items(tsho_rolpa, tmp_path, year=year)
    with serving(Stac(given, tmp_path)) as url:
        (found,) = items = find_scenes(tsho_rolpa, f"stac:{url}#sentinel-1-rtc")
        cube = build_cube(tsho_rolpa, items, tmp_path / "cube", polarisations=["vv"]).load()
    # 30 pixels of margin; shifted by 4 m east and 3 m south, the nearest fine pixel is the one of the same number.
    fine = np.where(values == -32768, np.nan, values.astype("float64"))
    if year == 2016:
        fine[:, 430:] = np.nan
    expected = np.full((256, 256), np.nan)
    for row, column in np.ndindex(256, 256):
        block = fine[30 + 2 * row : 32 + 2 * row, 30 + 2 * column : 32 + 2 * column]
        if np.isfinite(block).sum() >= 2:
            expected[row, column] = np.nanmean(block)
    np.testing.assert_allclose(cube["vv"][0], expected, rtol=1e-6)
    assert np.isnan(expected).sum() == (30 * 256 + 226 * 56 if year == 2016 else 30 * 200) + 1
    assert (cube["mask"].values[0] == 254).sum() == np.isfinite(expected).sum()
    assert found.properties["sat:orbit_state"] == "ascending"
    assert (cube["grid_offset_x"].item(), cube["grid_offset_y"].item()) == (4.0, -3.0)
    assert "cubekit:looks" not in found.properties  # of averaged pixels it isn't known


def test_orbits_are_computed_where_an_item_lacks_them(tsho_rolpa: Lake, tmp_path: Path) -> None:
    """From the name of the product it was made of, else from platform and time."""
    given, _ = grd_items(tsho_rolpa, tmp_path)
    nameless = {**given[0], "id": "nameless"}
    with serving(Stac([*given, nameless], tmp_path)) as url:
        items = find_scenes(tsho_rolpa, f"stac:{url}#sentinel-1-rtc")
    numbers = ("sat:absolute_orbit", "sat:relative_orbit", "sat:orbit_state", "platform")
    assert {tuple(one.properties[name] for name in numbers) for one in items} == {
        (30643, 121, "ascending", "sentinel-1a")
    }


def _changed(given: dict[str, Any], name: str, **changes: Any) -> dict[str, Any]:
    properties = {**given["properties"], **{key.replace("__", ":"): value for key, value in changes.items()}}
    return {**given, "id": name, "properties": {key: value for key, value in properties.items() if value is not None}}


def test_items_of_no_use_are_listed_with_their_reasons(tsho_rolpa: Lake, tmp_path: Path) -> None:
    """Another polarisation, radar geometry, decibel, degrees, contradictions: each says why; the rest is found."""
    (good,), _ = grd_items(tsho_rolpa, tmp_path)
    asset = good["assets"]["vv"]
    bad = {
        "it has HH and HV only": {**good, "id": "a", "assets": {"hh": asset, "hv": asset}},
        "no asset with VV or VH": {**good, "id": "b", "assets": {"preview": {"href": f"{BASE}vv.png"}}},
        "uint16, not floating-point": {
            **good,
            "id": "c",
            "assets": {"vv": {**asset, "raster:bands": [{"data_type": "uint16"}]}},
        },
        "decibel": {**good, "id": "d", "assets": {"vv": {**asset, "raster:bands": [{"unit": "dB"}]}}},
        "sigma0": {**good, "id": "e", "assets": {"sigma0_vv": asset}},
        r"\(EPSG:4326\) is not in metres": _changed(good, "f", proj__epsg=4326),
        "its pixels of 7 m": _changed(good, "g", proj__transform=[7, 0, 445000, 0, -7, 3085000]),
        "its name says relative orbit 12": _changed(good, "h", sat__relative_orbit=12, sat__absolute_orbit=30643),
        "its platform is 'ALOS-2'": _changed(good, "i", platform="ALOS-2"),
        "neither start_datetime nor datetime": _changed(good, "j", datetime=None),
        "was not calibrated before 2025-05-20": _changed(
            good, "k", platform="sentinel-1c", datetime="2025-04-01T00:00:00Z"
        ),
        "sigma0; cubes hold gamma0: order": {
            **good,
            "id": "l",
            "assets": {"vv": {**asset, "href": f"{BASE}S1A_IW_20200103T233556_DVP_RTC20_G_spuned_AAAA_VV.tif"}},
        },
    }
    with (
        serving(Stac([good, *bad.values()], tmp_path)) as url,
        pytest.warns(SceneWarning, match="12 items of .* are left out") as caught,
    ):
        items = find_scenes(tsho_rolpa, f"stac:{url}#sentinel-1-rtc")
    assert [one.id for one in items] == [good["id"]]
    lines = str(caught[0].message).splitlines()[1:]
    for line, (reason, given) in zip(lines, sorted(bad.items(), key=lambda pair: str(pair[1]["id"])), strict=True):
        assert line.startswith(f"  {given['id']}: ")
        assert re.search(reason, line), line


def test_only_items_that_touch_the_lake(tsho_rolpa: Lake, opera_lake: Lake, archive: Path) -> None:
    """A footprint whose box meets the lake's but which does not itself is left out."""
    listed = opera_items(archive, "rtc", "code")
    west, south, east, _ = listed[0]["bbox"]
    corner = [[west, south], [east, south], [west, south + 1e-4], [west, south]]
    listed[0] = {**listed[0], "geometry": {"type": "Polygon", "coordinates": [corner]}}
    with serving(Stac(listed, archive)) as url:
        items = find_scenes(opera_lake, f"stac:{url}#rtc", *PERIOD)
    assert listed[0]["id"] not in [one.id for one in items]
    assert len(items) == len(listed) - 1


def test_a_raster_without_projection_that_is_not_there(archive: Path, opera_lake: Lake, tmp_path: Path) -> None:
    """It is left out, and its address is told."""
    listed = opera_items(archive, "rtc", "none")
    server = Stac(listed, archive)
    server.fail(Answer(404, b""), times=9, when=lambda request: listed[0]["id"] in request.path)
    with serving(server) as url, pytest.warns(SceneWarning, match="its raster .* can't be read"):
        items = find_scenes(opera_lake, f"stac:{url}#rtc", *PERIOD)
    assert len(items) == len(listed) - 1


def test_a_header_that_fails_once_is_asked_for_again(archive: Path, opera_lake: Lake) -> None:
    """And no address stays lost for the life of the process, as it would with GDAL alone."""
    listed = opera_items(archive, "rtc", "none")
    server = Stac(listed, archive)
    server.fail(Answer(404, b""), when=lambda request: listed[0]["id"] in request.path)
    with serving(server) as url:
        assert len(find_scenes(opera_lake, f"stac:{url}#rtc", *PERIOD)) == len(listed)
    with serving(server) as url:  # another address; all attempts of a search are in vain, the next search finds it
        server.fail(Answer(404, b""), times=9, when=lambda request: listed[1]["id"] in request.path)
        with pytest.warns(SceneWarning, match="its raster .* can't be read"):
            find_scenes(opera_lake, f"stac:{url}#rtc", *PERIOD)
        server.recover()
        assert len(find_scenes(opera_lake, f"stac:{url}#rtc", *PERIOD)) == len(listed)


@pytest.mark.parametrize(("status", "times"), [(404, 1), (403, 1), (500, 2), (503, 4)])
def test_gdal_does_not_remember_that_a_raster_failed(
    status: int, times: int, archive: Path, folder_cube: xr.Dataset, opera_lake: Lake, tmp_path: Path
) -> None:
    """An address that is not signed stays the same: the same run reads it once it is there."""
    listed = opera_items(archive, "rtc", "code")
    server = Stac(listed, archive)
    with serving(server) as url:
        items = find_scenes(opera_lake, f"stac:{url}#rtc", *PERIOD)
        server.fail(Answer(status, b""), times=times, when=lambda request: f"{listed[0]['id']}_VH" in request.path)
        cube = build_cube(opera_lake, items, tmp_path).load()
    assert server.failed == times
    xr.testing.assert_identical(cube.drop_vars("ingested"), folder_cube.drop_vars("ingested"))


def test_looks_that_differ_are_not_told(archive: Path, opera_lake: Lake) -> None:
    """A cube has one number of looks: where items differ, it is measured."""
    listed = opera_items(archive, "rtc", "code")
    listed[0]["properties"]["sar:looks_equivalent_number"] = 4.3
    with serving(Stac(listed, archive)) as url:
        items = find_scenes(opera_lake, f"stac:{url}#rtc", *PERIOD)
    assert not any("cubekit:looks" in one.properties for one in items)


def test_the_planetary_computer_needs_its_package(tsho_rolpa: Lake, monkeypatch: pytest.MonkeyPatch) -> None:
    """Said before anything is asked."""
    monkeypatch.setitem(sys.modules, "planetary_computer", None)
    with pytest.raises(MissingExtra, match=r"install cubekit\[planetary\]"):
        find_scenes(tsho_rolpa, "stac:https://planetarycomputer.microsoft.com/api/stac/v1#sentinel-1-rtc")


class _Blobs(Files):
    """Azure's storage: files to those with a signature only."""

    def answer(self, request: Any) -> Answer:
        if request.query.get("sig") != "planted-secret":
            return Answer(404, b"<Error>PublicAccessNotPermitted</Error>", {"Content-Type": "application/xml"})
        content = self.content(request.path.rpartition("/")[2])
        return Answer(404) if content is None else file_answer(request, content)


class _Planetary(Stac):
    """The Planetary Computer: a STAC API and tokens."""

    def answer(self, request: Any) -> Answer:
        if request.path == "/api/sas/v1/token/sentinel1euwestrtc/sentinel1-grd-rtc":
            token = b'{"msft:expiry": "2999-01-01T00:00:00Z", "token": "st=1&se=2&sp=rl&sig=planted-secret"}'
            return Answer(200, token, {"Content-Type": "application/json"})
        return super().answer(request)


@pytest.fixture
def planetary(tsho_rolpa: Lake, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[_Planetary]:
    """The Planetary Computer by its real names, on 127.0.0.1."""
    pytest.importorskip("planetary_computer", reason="the extra cubekit[planetary] is not installed")
    monkeypatch.setenv("HOME", str(tmp_path))
    (given,), _ = grd_items(tsho_rolpa, tmp_path)
    blob = "https://sentinel1euwestrtc.blob.core.windows.net/sentinel1-grd-rtc/GRD/vv.tif"
    given["assets"]["vv"]["href"] = blob
    server = _Planetary([given], root="/api/stac/v1")
    services: dict[str, Service] = {stac.PLANETARY_HOSTS[0]: server}
    services["sentinel1euwestrtc.blob.core.windows.net"] = _Blobs(tmp_path)
    with internet(services, tmp_path / "tls") as network:
        for name, value in network.environment.items():
            monkeypatch.setenv(name, value)
        yield server
    assert network.strangers == []


def test_rasters_of_the_planetary_computer_are_signed_when_read(
    planetary: _Planetary, tsho_rolpa: Lake, tmp_path: Path
) -> None:
    """Items and cubes hold plain addresses; what is read is signed; the signature is in no file and no attribute."""
    address = "stac:https://planetarycomputer.microsoft.com/api/stac/v1#sentinel-1-rtc"
    (found,) = items = find_scenes(tsho_rolpa, address)
    cube = build_cube(tsho_rolpa, items, tmp_path / "cubes", polarisations=["vv"]).load()
    assert found.assets["vv"].href.endswith(".tif")
    assert np.isfinite(cube["vv"]).any()
    assert "planted-secret" not in str(cube) + str(cube.attrs) + str(found.to_dict())
    held = [path for path in (tmp_path / "cubes").rglob("*") if path.is_file()]
    assert not any(b"planted-secret" in path.read_bytes() for path in held)
    found.assets["vv"].href = found.assets["vv"].href.replace("vv.tif", "gone.tif")
    with pytest.raises(CubekitError, match="can't be read") as caught:
        build_cube(tsho_rolpa, items, tmp_path / "other", polarisations=["vv"])
    assert "planted-secret" not in repr(caught.value)


def recorded(name: str) -> dict[str, Any]:
    """An item as a real archive answered it."""
    path = Path(__file__).parents[2] / "shared" / "data" / "api" / "stac" / name
    if not path.is_file():
        pytest.skip("the recorded answers of STAC archives are absent")
    loaded: dict[str, Any] = json.loads(path.read_text())
    return loaded


def test_a_recorded_item_of_sentinel1_rtc_indigo() -> None:
    """gamma0 of several assets, orbit as told, nodata 0, filtered by the archive, which does not tell."""
    raw = recorded("sentinel1-rtc-indigo_S1A_20200103_17RMJ_ASC.json")
    made = scene(raw, declared(raw, assets_of(raw)["vv"]), "sentinel1-rtc-aws")
    assert not isinstance(made, str)
    assert {name: asset.href.rpartition("/")[2] for name, asset in made.assets.items()} == {
        "vv": "Gamma0_VV.tif",
        "vh": "Gamma0_VH.tif",
    }
    expected = {
        "platform": "sentinel-1a",
        "sat:absolute_orbit": 30643,
        "sat:relative_orbit": 121,
        "sat:orbit_state": "ascending",
        "proj:code": "EPSG:32617",
        "cubekit:source": "sentinel1-rtc-aws",
        "cubekit:spacing": 20,
        "cubekit:looks": 4.3,
        "cubekit:speckle_filter": "lee sigma",
        "cubekit:nodata": [0.0],
    }
    assert {name: made.properties[name] for name in expected} == expected
    assert "cubekit:zero_border" not in made.properties


def test_a_recorded_item_of_cmr_stac() -> None:
    """Without orbit, platform and projection: the names of its files and one header tell all."""
    raw = recorded("cmr-stac_OPERA_L2_RTC-S1_V1_1_item.json")
    assert assets_of(raw) == {"vv": "0_VV", "vh": "0_VH", "mask": "0_mask"}
    assert declared(raw, "0_VV") is None
    header = Header(32615, (30.0, 0, 400000.0, 0, -30.0, 4690000.0), (100, 100), "float32", (), {})
    made = scene(raw, header, "OPERA_L2_RTC-S1_V1_1")
    assert not isinstance(made, str)
    told = {name: made.properties[name] for name in ("platform", "sat:relative_orbit", "cubekit:source")}
    assert told == {"platform": "sentinel-1a", "sat:relative_orbit": 63, "cubekit:source": "opera"}
    assert made.properties["processing:datetime"] == "2024-07-13T22:16:17+00:00"


def test_a_recorded_item_that_is_not_terrain_corrected() -> None:
    """GRD has vv and vh, too, in radar geometry; the item tells a grid in degrees, the raster none."""
    raw = recorded("grd_S1A_IW_GRDH_1SDV_20210809T173953_20210809T174018_039156_049F13.json")
    told = declared(raw, assets_of(raw)["vv"])
    assert scene(raw, told, "sentinel-1-grd") == "its grid (EPSG:4326) is not in metres"
    header = Header(None, (1.0, 0, 0, 0, 1.0, 0), (100, 100), "uint16", (0.0,), {})
    assert scene(raw, header, "sentinel-1-grd") == (
        "its values are uint16, not floating-point power: it is not terrain-corrected gamma0"
    )
