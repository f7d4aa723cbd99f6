"""The REST API over a small study that was watched twice: what it tells, refuses, and leaves unsaid."""

from __future__ import annotations

import asyncio
import gzip
import io
import json
import re
import shutil
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from xml.etree import ElementTree as ET

import numpy as np
import pytest
import rasterio
import serving
import shapely
import xarray as xr
from PIL import Image
from sqlalchemy import delete, select
from starlette.testclient import TestClient

from cubekit import cube
from cubekit.areas import HIDDEN
from cubekit.errors import ConfigError
from cubekit.lakes import catalogue
from cubekit.series import read_csv
from cubekit.service._api_answer import Answer, tag_of
from cubekit.service._api_cache import Answers
from cubekit.service._api_images import SHORE, picture
from cubekit.service._api_live import Live
from cubekit.service._api_pages import page_files
from cubekit.service._api_release import COLUMNS
from cubekit.service.api import create_app
from cubekit.service.keys import revoke_key
from cubekit.service.state import Key, Look, Release, State

DAY = "2021-07-21"
FIRST, SECOND = "2026-01-01T12:30:00Z", "2026-01-01T13:00:00Z"
"""When the first release was served, and the second one."""
PAST = "2026-01-01T11:59:59Z"


READ_A_WINDOW = """
import sys, numpy, rasterio
with rasterio.open(sys.argv[1]) as tif:
    water = tif.read(1, window=((64, 192), (0, 256)))
print(*water.shape, *numpy.unique(water))
"""


@pytest.fixture(scope="module")
def served(tmp_path_factory) -> serving.Served:
    return serving.shared(tmp_path_factory)


@pytest.fixture(scope="module")
def client(served: serving.Served) -> Iterator[TestClient]:
    with TestClient(create_app(served.study)) as client:
        yield client


@pytest.fixture
def own(served: serving.Served, tmp_path: Path) -> serving.Served:
    """To be changed."""
    return serving.copied(served, tmp_path)


@contextmanager
def opened(served: serving.Served) -> Iterator[tuple[TestClient, State]]:
    state = State.of(served.study.study.out)
    with TestClient(create_app(served.study)) as client:
        yield client, state
    state.close()


def folder(served: serving.Served, which: int = 1) -> Path:
    return served.study.study.out / served.releases[which].folder


def areas(served: serving.Served, which: int = 1) -> bytes:
    return (folder(served, which) / "series" / "opera" / "areas.csv").read_bytes()


def image(client: TestClient, address: str) -> np.ndarray:
    answer = client.get(address)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"] == "image/png"
    return np.asarray(Image.open(io.BytesIO(answer.content)).convert("RGB"))


def refused(answer: Any, status: int, words: str) -> dict[str, Any]:
    """A problem, as RFC 9457 has it, that tells nothing of this machine."""
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["status"] == status
    assert re.search(words, document["detail"])
    assert "/out/" not in answer.text
    assert "Traceback" not in answer.text
    return document


def test_lakes(client: TestClient, served: serving.Served) -> None:
    """All lakes of the study; what isn't released has no numbers."""
    rolpa, gokyo = client.get("/lakes").json()["lakes"]
    table = read_csv(folder(served) / "series" / "opera" / "areas.csv")
    newest = table.iloc[-1]
    assert rolpa["id"] == "tsho_rolpa"
    assert rolpa["latest"] == {
        "time": "2021-08-02T00:11:35Z",
        "track": 121,
        "area_km2": newest["area_km2"],
        "area_low": newest["area_low"],
        "area_high": newest["area_high"],
        "state": newest["state"],
        "observed_fraction": newest["observed_fraction"],
    }
    assert rolpa["tracks"] == [121, 128]
    assert rolpa["passes"] == 7
    assert rolpa["open_alerts"] == 1
    assert rolpa["release"] == {"id": served.releases[1].id, "created": "2026-01-01T13:00:00.000000Z"}
    assert shapely.Point(rolpa["centroid"]).within(catalogue()["tsho_rolpa"].outline)
    assert gokyo["release"] is gokyo["latest"] is gokyo["trend"] is gokyo["source"] is None
    assert (gokyo["passes"], gokyo["tracks"], gokyo["open_alerts"]) == (0, [], 0)


def test_one_lake(client: TestClient, served: serving.Served) -> None:
    """What it was made with, what each track knows, what isn't known and why."""
    told = client.get("/lakes/tshorolpa").json()
    release = json.loads((folder(served) / "release.json").read_text())
    for name in ("snapshot", "model", "model_hash", "config_hash"):
        assert told[name] == release[name]
    assert told["unknown"] == release["not_known"]
    assert [{"lake": "tsho_rolpa", **row} for row in told["per_track"]] == release["tracks"]
    assert told["volume"]["year"] == 2021
    assert told["trend"]["statistic"] == "median"
    lake = serving.LAKE
    window = lake.lattice[lake.aoi_window].extent
    (west, north), _, (east, south), _ = [lake.project(shapely.Point(one)).coords[0] for one in told["image_corners"]]
    assert (west, south, east, north) == pytest.approx(tuple(window.boundingbox.bbox), abs=0.02)
    empty = client.get("/lakes/gokyo").json()
    assert empty["per_track"] == []
    assert empty["unknown"] == {"lake": "nothing is released of it yet"}


def test_series_are_the_batch_jobs_to_the_last_digit(client: TestClient, served: serving.Served) -> None:
    """JSON as `read_csv` reads what was released; CSV byte for byte."""
    told = client.get("/lakes/tsho_rolpa/series").json()
    table = read_csv(folder(served) / "series" / "opera" / "areas.csv")
    assert told["columns"] == list(COLUMNS)
    assert all(list(row) == told["columns"] for row in told["rows"])
    for name in ("area_km2", "area_low", "area_high", "area_subpixel_km2", "observed_fraction", "state", "track"):
        assert [row[name] for row in told["rows"]] == table[name].tolist()
    answer = client.get("/lakes/tsho_rolpa/series?format=csv")
    assert answer.content == areas(served)
    assert answer.headers["content-type"] == "text/csv; charset=utf-8"


def test_a_part_of_the_series(client: TestClient, served: serving.Served) -> None:
    """Both ends are included, a day is all of it, and CSV agrees with JSON."""
    asked = "/lakes/tsho_rolpa/series?start=2021-07-09&end=2021-07-21&track=121"
    times = [row["time"] for row in client.get(asked).json()["rows"]]
    assert times == ["2021-07-09T00:11:35Z", "2021-07-21T00:11:35Z"]
    header, *lines = areas(served).splitlines(keepends=True)
    chosen = [line for line in lines if line.split(b",")[1].decode() in times]
    assert client.get(f"{asked}&format=csv").content == b"".join([header, *chosen])
    both = client.get("/lakes/tsho_rolpa/series?start=2021-07-21T00:11:35Z&end=2021-07-21T14:13:55%2B02:00").json()
    assert [row["track"] for row in both["rows"]] == [121, 128]


@pytest.mark.parametrize(
    "asked",
    [
        "/lakes/tsho_rolpa/series?start=2019-01-01&end=2019-12-31",
        "/lakes/tsho_rolpa/series?track=19",
        "/lakes/tsho_rolpa/series?track=19&format=csv",
        "/lakes/tsho_rolpa/dates?track=19",
        "/lakes/gokyo/series",
        "/lakes/gokyo/dates",
        f"/lakes/tsho_rolpa/series?as_of={PAST}",
    ],
)
def test_nothing_there(client: TestClient, asked: str) -> None:
    """204: the lake is known, and nothing lies there."""
    answer = client.get(asked)
    assert (answer.status_code, answer.content) == (204, b"")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("/lakes/imja", "there is no lake 'imja'; there are tsho_rolpa, gokyo"),
        ("/lakes/imja/series", "no lake"),
        ("/images/imja/latest", "no lake"),
        ("/alerts?lake=imja", "no lake"),
        ("/images/gokyo/latest", "nothing is released of gokyo"),
        (f"/images/tsho_rolpa/latest?as_of={PAST}", "nothing is released of tsho_rolpa at 2026-01-01T11:59:59Z"),
        ("/images/tsho_rolpa/2021-07-22", "no pass over tsho_rolpa from 2021-07-22T00:00:00Z"),
        ("/images/tsho_rolpa/2021-07-21?track=12", "no pass over tsho_rolpa on track 12"),
        ("/images/tsho_rolpa/2021-07-21?track=128&layer=vh", "no vh of the pass of 2021-07-21T12:13:55Z"),
        ("/lakes/tsho_rolpa/outlines/2021-07-21T00:11:36Z", "no pass"),
        ("/lakes/tsho_rolpa/cog/2021-07-22", "no pass"),
        ("/alerts/tsho_rolpa-20200101T000000Z-drop.cap", "no alert"),
        ("/nowhere", "Not Found"),
        ("/lakes/", "Not Found"),
    ],
)
def test_what_is_not_there(client: TestClient, asked: str, words: str) -> None:
    """404, as a problem."""
    refused(client.get(asked), 404, words)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ("/lakes/tsho_rolpa/series?start=2021-13-01", "query start"),
        ("/lakes/tsho_rolpa/series?start=2021-02-30", "day is out of range"),
        ("/lakes/tsho_rolpa/series?start=yesterday", "query start"),
        ("/lakes/tsho_rolpa/series?start=2021-08-01&end=2021-07-01", "before it starts"),
        ("/lakes/tsho_rolpa/series?track=0", "greater than or equal to 1"),
        ("/lakes/tsho_rolpa/series?track=176", "less than or equal to 175"),
        ("/lakes/tsho_rolpa/series?track=12.5", "integer"),
        ("/lakes/tsho_rolpa/series?format=xml", "query format"),
        ("/lakes/tsho_rolpa/series?begin=2021-07-01", "query begin: Extra inputs are not permitted"),
        ("/images/tsho_rolpa/latest?size=63", "greater than or equal to 64"),
        ("/images/tsho_rolpa/latest?size=2049", "less than or equal to 2048"),
        ("/images/tsho_rolpa/latest?layer=hh", "query layer"),
        ("/images/tsho_rolpa/latest?as_of=2026-01-01T12:00:00 00:00", "query as_of"),
        ("/images/tsho_rolpa/20210721", "path date"),
        ("/images/Tsho%20Rolpa/latest", "path lake"),
        (f"/lakes/{'a' * 65}", "path lake"),
        ("/lakes/tsho_rolpa%00", "path lake"),
        ("/alerts?limit=0", "query limit"),
        ("/alerts/1;drop.cap", "path alert"),
    ],
)
def test_what_may_not_be_asked(client: TestClient, asked: str, words: str) -> None:
    """422, with where and why, and without what was given."""
    document = refused(client.get(asked), 422, words)
    assert document["errors"]


@pytest.mark.parametrize(
    "path",
    [
        "/../../etc/passwd",
        "/lakes/..%2f..%2f..%2fetc%2fpasswd",
        "/lakes/%2e%2e/series",
        "/images/tsho_rolpa/..%2flatest",
        "/lakes/tsho_rolpa/cog/%2e%2e%2f%2e%2e%2fstate.sqlite",
        "/service/state.sqlite",
        "/%00",
        "//etc/passwd",
        "/pages/../api.py",
    ],
)
def test_path_tricks(client: TestClient, path: str) -> None:
    """Nothing but the routes is reached, whatever the path."""
    answer = client.get(path)
    assert 400 <= answer.status_code < 500
    assert answer.headers["content-type"] == "application/problem+json"


def test_giant_requests(client: TestClient) -> None:
    """An address and headers have bounds; what was given is not given back."""
    refused(client.get("/lakes/" + "a" * 600), 414, "512 bytes at most")
    refused(client.get("/lakes?as_of=" + "2" * 2000), 414, "1024 after")
    refused(client.get("/lakes", headers={"x-much": "a" * 20_000}), 431, "16384 bytes at most")
    assert len(client.get("/lakes?as_of=" + "2" * 900).content) < 800


def test_other_methods(client: TestClient) -> None:
    """405 says which there are."""
    answer = client.post("/lakes")
    refused(answer, 405, "Method Not Allowed")
    assert answer.headers["allow"] == "GET"
    refused(client.delete("/"), 404, "Not Found")


def test_head(client: TestClient) -> None:
    """The headers of a GET, and no body; for files, problems and streams, too."""
    for path in ("/lakes", "/images/tsho_rolpa/latest", "/lakes/imja", "/lakes/tsho_rolpa/series?format=csv", "/docs"):
        whole, head = client.get(path), client.head(path)
        assert head.status_code == whole.status_code
        assert head.content == b""
        assert dict(head.headers) == dict(whole.headers)


def test_known_already(client: TestClient, served: serving.Served) -> None:
    """304 by ETag, or by date; a tag that is another one, or no date, gets the whole."""
    for path in ("/lakes", "/images/tshorolpa/latest", "/lakes/tsho_rolpa/series", f"/lakes/tsho_rolpa/cog/{DAY}"):
        whole = client.get(path)
        tag = whole.headers["etag"]
        for given in (tag, f'"other", {tag}', tag.removeprefix("W/"), "*"):
            answer = client.get(path, headers={"if-none-match": given})
            assert (answer.status_code, answer.content) == (304, b"")
            assert answer.headers["etag"] == tag
        assert client.get(path, headers={"if-none-match": '"other"'}).content == whole.content
    date = client.get("/images/tshorolpa/latest").headers["last-modified"]
    assert date == "Thu, 01 Jan 2026 13:00:00 GMT"
    for given, status in ((date, 304), ("Thu, 01 Jan 2026 12:59:59 GMT", 200), ("soon", 200)):
        assert client.get("/images/tshorolpa/latest", headers={"if-modified-since": given}).status_code == status
    both = {"if-modified-since": date, "if-none-match": '"other"'}
    assert client.get("/images/tshorolpa/latest", headers=both).status_code == 200


def test_known_already_without_the_cube(client: TestClient, own: serving.Served) -> None:
    """A client that has the image is told so by a service that was just started, whose cube is away."""
    path = "/images/tshorolpa/latest"
    tag = client.get(path).headers["etag"]
    shutil.rmtree(own.study.study.out / "cubes")
    with opened(own) as (fresh, _):
        assert fresh.get(path, headers={"if-none-match": tag}).status_code == 304
        refused(fresh.get(path), 503, "can't be read at present")


def test_a_date_is_told_when_its_second_is_over() -> None:
    """Two releases of one second have one date: until it is over none is told."""
    now = datetime.now(UTC)
    fresh = Answer(b"1", "text/plain", tag='"1"', modified=now + timedelta(seconds=1))
    since = {b"if-modified-since": b"Thu, 01 Jan 2099 00:00:00 GMT"}
    assert b"last-modified" not in dict(fresh.reply({}).headers)
    assert fresh.reply(since).status == 200
    old = Answer(b"1", "text/plain", tag='"1"', modified=now - timedelta(seconds=2))
    assert old.reply(since).status == 304


def test_gzip(client: TestClient) -> None:
    """Texts are compressed for who takes it, images aren't; the tag stays."""
    for path in ("/lakes/tsho_rolpa/series", "/lakes/tsho_rolpa/series?format=csv"):
        plain = client.get(path, headers={"accept-encoding": "identity"})
        packed = client.get(path, headers={"accept-encoding": "gzip"})
        assert packed.headers["content-encoding"] == "gzip"
        assert packed.headers["vary"] == plain.headers["vary"] == "Accept-Encoding"
        assert packed.content == plain.content
        assert packed.headers["etag"] == plain.headers["etag"]
        assert "content-encoding" not in plain.headers
    assert "content-encoding" not in client.get("/images/tsho_rolpa/latest").headers
    refusing = client.get("/lakes/tsho_rolpa/series", headers={"accept-encoding": "gzip;q=0"})
    assert "content-encoding" not in refusing.headers


def test_the_past(client: TestClient, served: serving.Served) -> None:
    """as_of tells what was served then; a day means its end."""
    then, now = (client.get(f"/lakes/tsho_rolpa{asked}").json() for asked in (f"?as_of={FIRST}", ""))
    assert (then["passes"], now["passes"]) == (6, 7)
    assert then["release"]["id"] == served.releases[0].id
    assert client.get(f"/lakes/tsho_rolpa?as_of={then['release']['created']}").json()["release"] == then["release"]
    assert client.get("/lakes/tsho_rolpa?as_of=2026-01-01").json() == now
    assert client.get(f"/lakes/tsho_rolpa/series?format=csv&as_of={FIRST}").content == areas(served, 0)
    assert client.get(f"/images/tsho_rolpa/latest?as_of={FIRST}").headers["x-pass-time"] == "2021-07-21T12:13:55Z"
    assert client.get("/images/tsho_rolpa/latest").headers["x-pass-time"] == "2021-08-02T00:11:35Z"
    assert [lake["passes"] for lake in client.get(f"/lakes?as_of={PAST}").json()["lakes"]] == [0, 0]


def test_a_release_is_served_from_the_next_request_on(own: serving.Served) -> None:
    """Images, series and lakes change together, with the row; what is old is not."""
    with State.of(own.study.study.out).write() as session:
        session.execute(delete(Release).where(Release.id == own.releases[1].id))
    with opened(own) as (client, state):
        paths = ("/lakes", "/lakes/tsho_rolpa", "/lakes/tsho_rolpa/series", "/images/tshorolpa/latest")
        tags = [client.get(path).headers["etag"] for path in paths]
        row = own.releases[1]
        with state.write() as session:
            session.add(Release(**{column.name: getattr(row, column.name) for column in Release.__table__.columns}))
        for path, tag in zip(paths, tags, strict=True):
            answer = client.get(path, headers={"if-none-match": tag})
            assert answer.status_code == 200
            assert answer.headers["etag"] != tag
        assert client.get("/images/tshorolpa/latest").headers["x-pass-time"] == "2021-08-02T00:11:35Z"


def test_a_look_alone_changes_nothing(own: serving.Served) -> None:
    """The state is written to all the time: only what is served makes another version."""
    live = Live(own.study, State.of(own.study.study.out))
    before = live.view()
    other = State.of(own.study.study.out)
    with other.write() as session:
        session.add(Look(lake="gokyo", started=datetime.now(UTC)))
    assert live.view() is before
    with other.write() as session:
        session.execute(delete(Release).where(Release.id == own.releases[1].id))
    assert live.view().version == before.version + 1
    live.close()
    other.close()


def test_dates(client: TestClient) -> None:
    """All passes; of each there are an image and an outline."""
    dates = client.get("/lakes/tsho_rolpa/dates").json()["dates"]
    assert len(dates) == 7
    for one in dates:
        for path in ("/images/tsho_rolpa/{}", "/lakes/tsho_rolpa/outlines/{}"):
            answer = client.get(path.format(one["time"]))
            assert answer.headers["x-pass-time"] == one["time"]
            assert answer.headers["x-pass-track"] == str(one["track"])


def test_a_day_with_two_passes(own: serving.Served) -> None:
    """Of a day's passes the one that saw most, of equals the later; a track or a time picks another."""
    table = folder(own) / "series" / "opera" / "areas.csv"
    with opened(own) as (client, _):
        day = f"/images/tsho_rolpa/{DAY}"
        assert client.get(day).headers["x-pass-track"] == "128"
        assert client.get(f"{day}?track=121").headers["x-pass-track"] == "121"
        assert client.get(f"{day}T00:11Z").headers["x-pass-track"] == "121"
        assert client.get(f"{day}T02:11:35%2B02:00").headers["x-pass-track"] == "121"
    text = table.read_text()
    line = next(line for line in text.splitlines() if ",128," in line)
    cells = line.split(",", 9)
    table.write_text(text.replace(line, ",".join([*cells[:8], "0.9", cells[9]])))
    with opened(own) as (client, _):
        assert client.get(f"/lakes/tsho_rolpa/outlines/{DAY}").headers["x-pass-track"] == "121"


def test_outlines(client: TestClient, served: serving.Served) -> None:
    """The feature of the batch job, whose area is that of the pass."""
    answer = client.get(f"/lakes/tsho_rolpa/outlines/{DAY}?track=121")
    assert answer.headers["content-type"] == "application/geo+json"
    document = json.loads((folder(served) / "outlines" / "opera" / "tsho_rolpa.geojson").read_text())
    assert answer.json() in document["features"]
    assert answer.json()["properties"]["time"] == f"{DAY}T00:11:35Z"
    shore = serving.LAKE.project(shapely.from_geojson(json.dumps(answer.json()["geometry"])))
    ground = shore.area / serving.LAKE.spacing**2 * serving.LAKE.pixel_km2
    assert ground == pytest.approx(answer.json()["properties"]["area_km2"], rel=1e-4)


def test_an_image_is_the_pass(client: TestClient, served: serving.Served) -> None:
    """At one dot a pixel, grey is gamma0 in dB, pixel by pixel, as the cube of the release has it."""
    lake = serving.LAKE
    rows, columns = lake.aoi_window
    shape = rows.stop - rows.start, columns.stop - columns.start
    path = served.study.study.out / "cubes" / "opera" / "tsho_rolpa"
    passes = cube.open_cube(path, as_of=served.releases[1].snapshot)
    for layer, (low, high) in {"vv": (-24, 0), "vh": (-32, -6)}.items():
        drawn = image(client, f"/images/tsho_rolpa/{DAY}?track=121&size={max(shape)}&outline=false&layer={layer}")
        power = passes[layer].sel(track=121).sel(time=DAY).isel(time=0, y=rows, x=columns).to_numpy()
        assert drawn.shape == (*shape, 3)
        expected = np.clip((10 * np.log10(power.astype(float)) - low) / (high - low) * 255, 0, 255)
        assert np.abs(drawn[..., 0] - expected).max() <= 0.51
        assert (drawn == drawn[..., :1]).all()


def test_the_shore_is_drawn_where_the_water_ends(client: TestClient, served: serving.Served) -> None:
    """Every edge between water and land has the shore's colour near it, and nothing else has."""
    asked = f"/images/tsho_rolpa/{DAY}?track=121&size=512"
    drawn, bare = image(client, asked), image(client, f"{asked}&outline=false")
    shore = (drawn == SHORE).all(axis=2)
    assert not (bare == SHORE).all(axis=2).any()
    with rasterio.MemoryFile(client.get(f"/lakes/tsho_rolpa/cog/{DAY}?track=121").content) as file, file.open() as tif:
        water = tif.read(1)[serving.LAKE.aoi_window] == 1
    scale = max(drawn.shape) / max(water.shape)
    edges = np.argwhere(water[:, 1:] != water[:, :-1])
    middles = np.column_stack([edges[:, 0] + 0.5, edges[:, 1] + 1]) * scale
    dots = np.argwhere(shore) + 0.5
    for middle in middles:
        assert np.abs(dots - middle).max(axis=1).min() <= 3
    assert shore.mean() < 0.03


def test_layers(client: TestClient, served: serving.Served) -> None:
    """All have one shape; water is blue, the chip is what a network sees."""
    shapes = set()
    for layer in ("vv", "vh", "probability", "mask", "chip"):
        drawn = image(client, f"/images/tsho_rolpa/{DAY}?track=121&size=300&layer={layer}")
        shapes.add(drawn.shape)
        assert max(drawn.shape) == 300
    assert len(shapes) == 1
    lake = serving.LAKE
    water = image(client, f"/images/tsho_rolpa/{DAY}?track=121&layer=probability&outline=false&size=146")
    inside = lake.outline_mask.to_numpy()[lake.aoi_window]
    size = Image.fromarray(inside).resize(water.shape[1::-1], Image.Resampling.NEAREST)
    blue = water[..., 2].astype(int) - water[..., 0]
    assert blue[np.asarray(size)].mean() > 90
    assert blue[~np.asarray(size)].mean() < 20


def test_what_was_not_observed_is_hatched() -> None:
    """Not seen is never black, which is calm water, in no layer and no size; a smaller image has means."""
    values = np.full((40, 60), 0.1, "float32")
    values[:, :30] = np.nan
    seen = xr.DataArray(np.isfinite(values), dims=("y", "x"))
    layers = {
        "vv": xr.DataArray(values, dims=("y", "x")),
        "probability": xr.DataArray(values, dims=("y", "x")),
        "mask": xr.DataArray(np.where(seen, 0, 255).astype("uint8"), dims=("y", "x")),
        "chip": xr.DataArray(np.zeros((40, 60), "uint8"), dims=("y", "x"), coords={"observed": seen}),
    }
    for layer, given in layers.items():
        for size in (240, 30):
            drawn = np.asarray(picture(given, layer, size))
            assert drawn.shape == (size * 2 // 3, size, 3)
            hidden = drawn[:, : size // 2 - 1].reshape(-1, 3)
            assert np.unique(hidden, axis=0).tolist() == [[176, 170, 160], [214, 209, 200]]
            assert np.ptp(drawn[:, size // 2 + 1 :].reshape(-1, 3), axis=0).max() == 0


def test_a_hidden_track_has_no_water(own: serving.Served) -> None:
    """What the network drew where a track sees no lake is in the cube, and is served as not known; others are."""
    for number in range(2):
        file = folder(own, number) / "release.json"
        told = json.loads(file.read_text())
        told["not_known"]["areas of track 121"] = HIDDEN
        file.write_text(json.dumps(told))
    with opened(own) as (client, _):
        for track, known in ((121, False), (128, True)):
            answer = client.get(f"/lakes/tsho_rolpa/cog/{DAY}?track={track}")
            with rasterio.MemoryFile(answer.content) as file, file.open() as tif:
                assert bool((tif.read(1) != 255).any()) == known
            image = client.get(f"/images/tsho_rolpa/{DAY}?track={track}&layer=probability&outline=false")
            colours = np.asarray(Image.open(io.BytesIO(image.content)).convert("RGB")).reshape(-1, 3)
            assert (len(np.unique(colours, axis=0)) > 2) == known  # of what is not known it has two


def test_rasters(client: TestClient, served: serving.Served) -> None:
    """Water has the area of the series, vv is the cube's bit for bit; both are cloud-optimised, and named."""
    for track, time_ in ((121, "00:11:35"), (128, "12:13:55")):
        answer = client.get(f"/lakes/tshorolpa/cog/{DAY}T{time_}Z")
        assert f"T{track:03d}_sentinel-1a_water.tif" in answer.headers["content-disposition"]
        with rasterio.MemoryFile(answer.content) as file, file.open() as tif:
            values, tags = tif.read(1), tif.tags()
            assert tif.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        row = next(
            row for row in client.get("/lakes/tsho_rolpa/series").json()["rows"] if row["time"] == f"{DAY}T{time_}Z"
        )
        pixel = catalogue()["tsho_rolpa"].at_spacing(30).pixel_km2
        assert (values == 1).sum() * pixel == pytest.approx(row["area_km2"], abs=1e-12)
        assert float(tags["area_low"]) == row["area_low"]
        assert tags["snapshot"] == served.releases[1].snapshot
    path = served.study.study.out / "cubes" / "opera" / "tsho_rolpa"
    expected = cube.open_cube(path).sel(track=128)["vv"].isel(time=0).to_numpy()
    answer = client.get(f"/lakes/tsho_rolpa/cog/{DAY}?track=128&layer=vv")
    with rasterio.MemoryFile(answer.content) as file, file.open() as tif:
        np.testing.assert_array_equal(tif.read(1), expected)
        assert tif.transform == serving.LAKE.lattice.transform
        assert tif.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_parts_of_a_raster(client: TestClient) -> None:
    """206 with what was asked for, 416 beyond its end, the whole for what is no range or is of another version."""
    path = f"/lakes/tsho_rolpa/cog/{DAY}?layer=vv"
    whole = client.get(path)
    body, length, tag = whole.content, len(whole.content), whole.headers["etag"]
    assert whole.headers["accept-ranges"] == "bytes"
    assert not tag.startswith("W/")
    for given, part in (
        ("bytes=0-99", body[:100]),
        ("bytes=100-", body[100:]),
        ("bytes=-7", body[-7:]),
        (f"bytes=10-{length + 5}", body[10:]),
        (f"bytes=-{length + 5}", body),
    ):
        answer = client.get(path, headers={"range": given, "if-range": tag})
        assert (answer.status_code, answer.content) == (206, part)
        start = length - len(part) if given != "bytes=0-99" else 0
        assert answer.headers["content-range"] == f"bytes {start}-{start + len(part) - 1}/{length}"
    for given in (f"bytes={length}-", "bytes=-0"):
        answer = client.get(path, headers={"range": given})
        assert answer.status_code == 416
        assert answer.headers["content-range"] == f"bytes */{length}"
        assert answer.headers["content-type"] == "application/problem+json"
    for headers in (
        {"range": "bytes=9-1"},
        {"range": "lines=1-2"},
        {"range": "bytes=0-1,5-6"},
        {"range": "bytes=-"},
        {"range": "bytes=0-9", "if-range": '"other"'},
    ):
        answer = client.get(path, headers=headers)
        assert (answer.status_code, answer.content) == (200, body)
    assert client.get("/images/tsho_rolpa/latest", headers={"range": "bytes=0-9"}).status_code == 200


def test_gdal_reads_a_raster_in_parts(served: serving.Served) -> None:
    """A real client, over a real server: GDAL opens the raster where it is, and reads a window of it."""
    with serving.running(create_app(served.study)) as address:
        # A process of its own: GDAL holds the interpreter while it waits for the server.
        done = subprocess.run(
            [sys.executable, "-c", READ_A_WINDOW, f"/vsicurl/{address}/lakes/tshorolpa/cog/{DAY}T00:11:35Z"],
            check=True,
            capture_output=True,
            text=True,
            timeout=60,
        )
    assert done.stdout.split() == ["128", "256", "0", "1", "255"]


def test_alerts(client: TestClient) -> None:
    """All of them, or those of a lake, a stage or a time."""
    (alert,) = client.get("/alerts").json()["alerts"]
    assert alert == {
        "id": serving.ALERT,
        "lake": "tsho_rolpa",
        "track": "121",
        "sign": "drop",
        "stage": "confirmed",
        "opened": "2021-07-21T00:11:35Z",
        "confirmed": "2021-07-21T12:11:35Z",
        "closed": None,
        "area_km2": 1.2,
        "expected_km2": 1.5,
        "change_percent": -20.0,
        "outcome": None,
        "acknowledged": None,
    }
    for asked, count in (
        ("lake=tshorolpa", 1),
        ("lake=gokyo", 0),
        ("stage=confirmed", 1),
        ("stage=first", 0),
        ("since=2021-07-21T12:11:35Z", 1),
        ("since=2021-07-22", 0),
        (f"as_of={PAST}", 0),
        (f"stage=first&as_of={FIRST}", 1),
        (f"stage=confirmed&as_of={FIRST}", 0),
        (f"since=2021-07-21T01:00&as_of={FIRST}", 0),
        ("stage=confirmed&as_of=2026-01-02", 1),
    ):
        assert len(client.get(f"/alerts?{asked}").json()["alerts"]) == count, asked
    assert client.get(f"/alerts?as_of={FIRST}").json()["alerts"][0]["confirmed"] is None
    assert client.get(f"/lakes/tsho_rolpa?as_of={PAST}").json()["open_alerts"] == 0
    assert client.get(f"/lakes/tsho_rolpa?as_of={FIRST}").json()["open_alerts"] == 1


def test_an_alert_as_cap(client: TestClient) -> None:
    """The newest message, or the first one as of then."""
    answer = client.get(f"/alerts/{serving.ALERT}.cap")
    assert answer.headers["content-type"] == "application/cap+xml"
    kinds = {}
    for asked in ("", f"?as_of={FIRST}"):
        root = ET.fromstring(client.get(f"/alerts/{serving.ALERT}.cap{asked}").content)
        assert root.tag == "{urn:oasis:names:tc:emergency:cap:1.2}alert"
        kinds[asked] = root.findtext("{*}msgType")
    assert kinds == {"": "Update", f"?as_of={FIRST}": "Alert"}
    refused(client.get(f"/alerts/{serving.ALERT}.cap?as_of={PAST}"), 404, "no alert")


def test_acknowledging_needs_a_key(own: serving.Served) -> None:
    """401 without one, with a wrong or a revoked one; with one the first stays; who reads sees it at once."""
    path = f"/alerts/{serving.ALERT}/acknowledge"
    with opened(own) as (client, state):
        tag = client.get("/alerts").headers["etag"]
        wrong = [
            "",
            "warden",
            own.key + "x",
            own.key[:-1],
            "nobody." + own.key.split(".")[1],
            "é",
            "a" * 5000,
            "a.b\x7f",
        ]
        for given in [None, *(one.encode("latin-1") for one in wrong)]:
            answer = client.post(path, headers={} if given is None else {b"x-api-key": given})
            refused(answer, 401, "a key is needed")
            assert answer.headers["www-authenticate"] == "ApiKey"
        headers = {"x-api-key": own.key}
        refused(client.post("/alerts/gokyo-20200101T000000Z-drop/acknowledge", headers=headers), 404, "no alert")
        refused(client.post("/alerts/none/acknowledge", headers=headers), 422, "path alert")
        refused(client.get(path), 405, "Method Not Allowed")
        first = client.post(path, headers=headers)
        assert first.status_code == 200
        assert first.headers["cache-control"] == "no-store"
        assert client.post(path, headers=headers).json() == first.json()
        now = client.get("/alerts", headers={"if-none-match": tag})
        assert now.json()["alerts"] == [first.json()]
        assert client.get(f"/alerts?as_of={SECOND}").json()["alerts"][0]["acknowledged"] is None
        with state.read() as session:
            (stored,) = session.scalars(select(Key.hash))
        assert own.key.split(".")[1] not in stored
        revoke_key(state, "warden")
        refused(client.post(path, headers=headers), 401, "a key is needed")


def test_health_and_readiness(own: serving.Served) -> None:
    """It lives at once; it is ready when all lakes are released and were looked for of late."""
    with opened(own) as (client, state):
        assert client.get("/health").json()["status"] == "ok"
        reasons = refused(client.get("/ready"), 503, "nothing is released of gokyo yet")["reasons"]
        assert "the last good look for tsho_rolpa was at 2026-01-01T13:00:00Z" in reasons
        with state.write() as session:
            row = own.releases[1]
            columns = {column.name: getattr(row, column.name) for column in Release.__table__.columns}
            session.add(Release(**columns | {"id": "other", "lake": "gokyo"}))
            for lake in ("tsho_rolpa", "gokyo"):
                now = datetime.now(UTC)
                session.add(Look(lake=lake, started=now, ended=now))
        assert client.get("/ready").json() == {"status": "ready"}


def test_a_state_that_fails(own: serving.Served) -> None:
    """What needs it is a 503 that says nothing of it; the process lives."""
    with opened(own) as (client, state):
        client.get("/lakes")
        with state.write() as session:
            session.connection().exec_driver_sql("ALTER TABLE releases RENAME TO others")
        refused(client.get("/lakes"), 503, "can't be read at present")
        refused(client.get("/images/tsho_rolpa/latest"), 503, "can't be read at present")
        assert "the state can't be read" in client.get("/ready").json()["reasons"]
        assert client.get("/health").status_code == 200


def test_a_state_of_another_version_is_refused(own: serving.Served) -> None:
    """Before anything is served."""
    with sqlite3.connect(own.study.study.out / "service" / "state.sqlite") as connection:
        connection.execute("PRAGMA user_version=99")
    connection.close()
    with pytest.raises(ConfigError, match="of version 99"):
        create_app(own.study)


def test_metrics(own: serving.Served) -> None:
    """Requests by route, and the state; unknown paths are one."""
    with opened(own) as (client, _):
        for _ in range(3):
            client.get("/images/tshorolpa/latest")
            client.get("/images/tsho_rolpa/2021-08-02")  # the same image
        for path in ("/nowhere", "/else", "/lakes/imja"):
            client.get(path)
        text = client.get("/metrics").text
    for line in (
        'cubekit_requests_total{method="GET",route="/images/{lake}/latest",status="200"} 3.0',
        'cubekit_requests_total{method="GET",route="/images/{lake}/{date}",status="200"} 3.0',
        'cubekit_requests_total{method="GET",route="none",status="404"} 2.0',
        'cubekit_requests_total{method="GET",route="/lakes/{lake}",status="404"} 1.0',
        'cubekit_request_seconds_count{route="/images/{lake}/latest"} 3.0',
        'cubekit_open_alerts{lake="tsho_rolpa"} 1.0',
        'cubekit_open_alerts{lake="gokyo"} 0.0',
        'cubekit_passes_served{lake="tsho_rolpa"} 7.0',
        'cubekit_dead_letters{lake="tsho_rolpa"} 0.0',
        'cubekit_jobs{state="done"} 2.0',
    ):
        assert line in text.splitlines(), line
    assert re.search(r'^cubekit_last_look_age_seconds\{lake="tsho_rolpa"\} \d+', text, re.MULTILINE)
    assert "process_resident_memory_bytes" in text


def test_every_answer_is_safe(client: TestClient) -> None:
    """No sniffing, no frames, no scripts, no other origins."""
    for path in ("/lakes", "/images/tsho_rolpa/latest", "/nowhere", "/docs", "/openapi.json", "/metrics", "/health"):
        for _ in range(2):  # made now, and kept
            headers = client.get(path, headers={"origin": "https://example.org"}).headers
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["x-frame-options"] == "DENY"
            assert "default-src 'none'" in headers["content-security-policy"]
            assert "script-src" not in headers["content-security-policy"]
            assert not [name for name in headers if name.startswith("access-control")]
    assert client.options("/lakes", headers={"origin": "https://example.org"}).status_code == 405


def test_the_api_tells_of_itself(client: TestClient) -> None:
    """For programs and for people, who need no script and nobody else's server for it."""
    document = client.get("/openapi.json").json()
    page = client.get("/docs").text
    for path in document["paths"]:
        assert path in page
    assert "<script" not in page
    assert not re.search(r"(src|href)=.?(https?:)?//", page)


def test_the_page(tmp_path: Path) -> None:
    """The built files alone; what has a hash in its name is kept for a year, all else asked for again."""
    for name in ("index.html", "app-4f9c2b1a.js", "app.css", "maplibre-gl-csp-worker.js", "src/app.ts", ".hidden"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(f"/* {name} */" * 100)
    files = page_files(tmp_path)
    assert set(files) == {"/", "/app-4f9c2b1a.js", "/app.css", "/maplibre-gl-csp-worker.js"}
    told = {name: dict(answer.reply({}).headers) for name, answer in files.items()}
    assert told["/"][b"content-type"] == b"text/html; charset=utf-8"
    assert told["/app.css"][b"content-type"] == b"text/css; charset=utf-8"
    kept = [name for name, headers in told.items() if b"immutable" in headers[b"cache-control"]]
    assert kept == ["/app-4f9c2b1a.js"]
    for headers in told.values():
        policy = headers[b"content-security-policy"].decode()
        assert "worker-src 'self'" in policy
        assert "unsafe" not in policy
        assert "http" not in policy
    reply = files["/app.css"].reply({b"accept-encoding": b"br, gzip"})
    assert gzip.decompress(reply.body) == (tmp_path / "app.css").read_bytes()
    assert files["/"].reply({b"if-none-match": files["/"].tag.encode()}).status == 304
    assert page_files(tmp_path / "absent") == {}


def test_the_page_that_is_shipped(client: TestClient) -> None:
    """It is served with all that it names, and has nothing in it that its own policy forbids."""
    page = client.get("/")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "script-src 'self'" in page.headers["content-security-policy"]
    named = re.findall(r'<(?:script|link)[^>]*?(?:src|href)="([^"]+)"', page.text)
    assert named
    for name in named:
        assert client.get(f"/{name}").status_code == 200, name
    assert not re.search(r"<script(?![^>]* src=)|<style| style=| on[a-z]+=", page.text)


def test_answers_are_made_once() -> None:
    """However many ask at the same time; an error reaches all of them, and the next one tries again."""
    made: list[str] = []

    def make() -> Answer:
        made.append("")
        time.sleep(0.05)
        if len(made) == 1:
            msg = "the cube is away"
            raise ConfigError(msg)
        return Answer(b"1" * 1000, "image/png", tag=tag_of(1))

    async def ask() -> None:
        answers = Answers(capacity=10_000)
        failed = await asyncio.gather(*(answers.of("one", make) for _ in range(5)), return_exceptions=True)
        assert all(isinstance(error, ConfigError) for error in failed)
        assert len(made) == 1
        same = await asyncio.gather(*(answers.of("one", make) for _ in range(5)))
        assert len(made) == 2
        assert len(set(map(id, same))) == 1
        for number in range(20):
            await answers.of(str(number), make)
        assert answers.get("one") is None
        assert answers.get("19") is not None

    asyncio.run(ask())


def test_the_newest_image_is_drawn_before_it_is_asked_for(own: serving.Served) -> None:
    """Once released it is ready: the cube can even go away."""
    app = create_app(own.study)
    with TestClient(app) as client:
        until = time.monotonic() + 30
        while not len(app.state.parts.answers) and time.monotonic() < until:
            time.sleep(0.05)
        shutil.rmtree(own.study.study.out / "cubes")
        assert client.get("/images/tshorolpa/latest").status_code == 200
        refused(client.get("/images/tshorolpa/latest?layer=vh"), 503, "can't be read at present")
