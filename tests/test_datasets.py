"""The authors' public data: fetched by the real pooch from a server on 127.0.0.1, checked, and never without a word."""

from __future__ import annotations

import json
import re
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from urllib.parse import unquote

import numpy as np
import pytest
import rasterio
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from cubekit import datasets
from cubekit.datasets import checksums, npsar, published_paths
from cubekit.errors import ConfigError, MissingExtra, SourceError

SCENE = "S1A_IW_20210122T001130_DVP_RTC20_G_gpufed_5E3C"
CROP = f"rtc/gokyoTsho/{SCENE}_VV.tif_clipped_to_gokyoTshoAOI.geojson.tif"
CHIP = f"chips/gokyoTsho/{SCENE}_VV_clipped_to_gokyoTshoAOI.tif"
MASK = f"masks/gokyoTsho/{SCENE}_VV_clipped_to_gokyoTshoAOI.tif"
AOI = "aoi/gokyoTshoAOI.geojson"
NAMES = (CROP, CHIP, MASK, AOI)


@dataclass
class Server:
    """What it serves by path, what it was asked for, and a status that it answers to everything."""

    files: dict[str, bytes] = field(default_factory=dict)
    asked: list[str] = field(default_factory=list)
    status: int = 200
    url: str = ""


def raster(path: Path, values: np.ndarray, **profile: object) -> bytes:
    path.parent.mkdir(parents=True, exist_ok=True)
    shape = {"height": values.shape[0], "width": values.shape[1], "count": 1, "dtype": values.dtype}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", driver="GTiff", **shape, **profile) as dataset:
            dataset.write(values, 1)
    return path.read_bytes()


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    """The repository with four files, encoded otherwise than the copy that the checksums are of."""
    draw = np.random.default_rng(7)
    crop, chip = draw.random((40, 50), np.float32), draw.integers(0, 255, (256, 256), np.uint8)
    mask = (chip > 200).astype(np.uint8)
    placed = {"crs": "EPSG:32645", "transform": Affine(20, 0, 467000, 0, -20, 3094000)}
    copy = tmp_path / "copy"
    for name, values in ((CROP, crop), (CHIP, chip), (MASK, mask)):
        raster(copy / name, values, compress="deflate", **placed)
    aoi = json.dumps({"type": "FeatureCollection", "features": []}).encode()
    (copy / AOI).parent.mkdir()
    (copy / AOI).write_bytes(aoi)
    known = {name: datasets._checksum(copy / name) for name in NAMES}
    monkeypatch.setattr(datasets, "checksums", lambda: known)
    published = Server()
    published.files[published_paths(CROP)[0]] = raster(tmp_path / "a.tif", crop, **placed)
    published.files[published_paths(CHIP)[1]] = raster(tmp_path / "b.tif", chip, **placed)  # the second place
    published.files[published_paths(MASK)[0]] = raster(tmp_path / "c.tif", mask * np.float32(255))
    published.files[published_paths(AOI)[0]] = aoi

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = unquote(self.path).lstrip("/")
            published.asked.append(path)
            found = published.files.get(path)
            status = published.status if published.status != 200 else 404 if found is None else 200
            body = found if status == 200 and found is not None else b"no"
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep quiet."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as serving:
        Thread(target=serving.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        published.url = f"http://127.0.0.1:{serving.server_port}"
        monkeypatch.setattr(datasets, "_URL", published.url)
        yield published
        serving.shutdown()


@pytest.fixture(autouse=True)
def no_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    """The variable of who runs the tests is not theirs."""
    monkeypatch.delenv("CUBEKIT_NPSAR", raising=False)


def fetched(folder: Path) -> Path:
    with pytest.warns(UserWarning, match="states no licence.*keep all rights.*ask them"):
        return npsar(folder)


def refused(folder: Path, match: str) -> None:
    with (
        pytest.warns(UserWarning, match="no licence"),
        pytest.raises(SourceError, match=match),
    ):
        npsar(folder)


def test_everything_arrives_under_our_names(server: Server, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Whatever the encoding and the place, when the values are right; with the terms, and without chatter."""
    folder = fetched(tmp_path / "new" / "npsar")
    assert folder == tmp_path / "new" / "npsar"
    assert sorted(str(file.relative_to(folder)) for file in folder.rglob("*") if file.is_file()) == sorted(NAMES)
    for name in (CROP, CHIP):
        with rasterio.open(folder / name) as here, rasterio.open(tmp_path / "copy" / name) as copy:
            assert np.array_equal(here.read(1), copy.read(1))
            assert here.transform == copy.transform
    assert capfd.readouterr() == ("", "")


def test_what_is_there_is_not_asked_for(server: Server, tmp_path: Path) -> None:
    """A second call asks for nothing."""
    fetched(tmp_path / "npsar")
    server.asked.clear()
    fetched(tmp_path / "npsar")
    assert server.asked == []


@pytest.mark.parametrize("name", NAMES)
def test_what_is_damaged_is_fetched_again(server: Server, tmp_path: Path, name: str) -> None:
    """And nothing else."""
    path = fetched(tmp_path / "npsar") / name
    whole = path.read_bytes()
    path.write_bytes(whole[:-20] + b"x" * 10)
    server.asked.clear()
    fetched(tmp_path / "npsar")
    assert path.read_bytes() == whole
    assert set(server.asked) <= set(published_paths(name))


@pytest.mark.parametrize("name", NAMES)
def test_what_is_missing_is_told(server: Server, tmp_path: Path, name: str) -> None:
    """With its name; the others are kept, and a later call goes on."""
    places = [place for place in published_paths(name) if place in server.files]
    taken = {place: server.files.pop(place) for place in places}
    refused(tmp_path / "npsar", rf"1 of 4 files .*{re.escape(name)}: not where it was looked for.*CUBEKIT_NPSAR")
    assert sum(file.is_file() for file in (tmp_path / "npsar").rglob("*")) == 3
    server.files |= taken
    fetched(tmp_path / "npsar")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("fault", ["other", "truncated"])
def test_another_file_is_not_taken(server: Server, tmp_path: Path, name: str, fault: str) -> None:
    """Other values, or half of the file: it isn't left on disk either."""
    (place,) = [place for place in published_paths(name) if place in server.files]
    other = raster(tmp_path / "d.tif", np.ones((256, 256), np.uint8)) if name != AOI else b"{}"
    server.files[place] = other if fault == "other" else server.files[place][: len(server.files[place]) // 2]
    refused(tmp_path / "npsar", "1 of 4 files .*: another checksum")
    assert not (tmp_path / "npsar" / name).exists()


def test_the_right_values_count_not_the_place(server: Server, tmp_path: Path) -> None:
    """Another file in the first place does not hide the right one in the second."""
    server.files[published_paths(CHIP)[0]] = raster(tmp_path / "d.tif", np.ones((256, 256), np.uint8))
    fetched(tmp_path / "npsar")


def test_a_mask_of_other_values_is_none(server: Server, tmp_path: Path) -> None:
    """0 and 1, or 0 and 255; three classes are not water and land."""
    (place,) = [place for place in published_paths(MASK) if place in server.files]
    with rasterio.open(tmp_path / "copy" / MASK) as copy:
        values = copy.read(1)
    values[0, :3] = (0, 1, 2)
    server.files[place] = raster(tmp_path / "d.tif", values)
    refused(tmp_path / "npsar", "another checksum")


def test_a_server_that_fails_ends_it_at_once(server: Server, tmp_path: Path) -> None:
    """It is not asked 657 times."""
    server.status = 503
    refused(tmp_path / "npsar", "answers 503; .*try again later")
    assert len(server.asked) == 1


def test_no_connection_is_told(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where to, and that it may be tried again."""
    monkeypatch.setattr(datasets, "_URL", "http://127.0.0.1:9")
    refused(tmp_path / "npsar", r"127\.0\.0\.1:9.*ConnectionError.*try again")


def test_the_variable_names_the_data(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then nothing is fetched, but the terms are the same."""
    (tmp_path / "mine" / "rtc").mkdir(parents=True)
    monkeypatch.setenv("CUBEKIT_NPSAR", str(tmp_path / "mine"))
    with pytest.warns(UserWarning, match="states no licence"):
        assert npsar() == tmp_path / "mine"
    assert server.asked == []


@pytest.mark.filterwarnings("ignore:npSAR-dl")
def test_a_variable_that_names_nothing_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what the folder must hold."""
    monkeypatch.setenv("CUBEKIT_NPSAR", str(tmp_path))
    with pytest.raises(ConfigError, match=r"CUBEKIT_NPSAR is .*has no folder rtc; give the folder"):
        npsar()


@pytest.mark.filterwarnings("ignore:npSAR-dl")
def test_without_pooch_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the way without it."""
    monkeypatch.setitem(sys.modules, "pooch", None)
    with pytest.raises(MissingExtra, match=r"cubekit\[datasets\], or .*CUBEKIT_NPSAR"):
        npsar(tmp_path)


PUBLISHED = {
    CROP: f"Training_Dataset/gokyoTsho/{SCENE}_VV.tif_clipped_to_gokyoTshoAOI.geojson.tif",
    CHIP: f"SAR_model_data/Prelabelled/{SCENE}_VV.tif_clipped_to_gokyoTshoAOI.geojson.tif",
    MASK: f"SAR_model_data/Labelled/{SCENE}_VV.tif_clipped_to_gokyoTshoAOI.geojson.tif",
    "rtc/imjaTsho/S1A_IW_20150726T122148_SVP_RTC20_G_gpufed_0BB8_VV_clipped_to_imjaTshoAOI.tif": (
        "Training_Dataset/fake_imjaTsho/S1A_IW_20150726T122148_SVP_RTC20_G_gpufed_0BB8_VV_clipped_to_imjaTshoAOI.tif"
    ),
    "masks/tilichoTsho/S1A_IW_20210313T123031_DVP_RTC20_G_gpufed_0242_VV_clipped_to_tilichoTshoAOI.tif": (
        "SAR_model_data/Labelled/S1A_IW_20210313T123031_DVP_RTC20_G_gpufed_0242_VV_clipped_to_tilichoTshoAOI.tif"
    ),
    AOI: "Training_Dataset/gokyoTsho/gokyoTshoAOI.geojson",
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_names(name: str) -> None:
    """Paths that were seen in the repository's history."""
    assert PUBLISHED[name] in published_paths(name)


def test_every_checksum_has_a_place() -> None:
    """All 657 files can be asked for, each at its own address."""
    known = checksums()
    firsts = [published_paths(name)[0] for name in known]
    assert len(set(firsts)) == len(known) == 657
    assert {len(checksum) for checksum in known.values()} == {64}


def test_checksums_are_those_of_the_data(npsar: Path) -> None:
    """Every file of the real data has the values that are asked for; none is forgotten."""
    here = {
        str(file.relative_to(npsar))
        for part in ("rtc", "chips", "masks", "aoi")
        for file in npsar.glob(f"{part}/**/*.*")
    }
    known = checksums()
    assert here == set(known)
    assert [name for name in known if datasets._checksum(npsar / name) != known[name]] == []
