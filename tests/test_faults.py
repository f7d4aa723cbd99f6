"""What archives do on bad days, whole: each fault, what the user sees of it, and that nothing is lost by it.

docs/sources.md has this list as a table; ``python tests/test_faults.py`` prints it.
"""

from __future__ import annotations

import json
import logging
import sys
import warnings
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import xarray as xr
from archives import Asf, find, from_folder, lake, stored
from orders import LAKE, World, from_store, listing, posted
from rasterio.errors import NotGeoreferencedWarning
from servers import WEB_PAGE, Answer, Request, cut, serving
from servers.cmr import incomplete, without
from servers.files import truncated
from servers.stac import Stac, opera_items
from typer.testing import CliRunner

from cubekit import cube, find_scenes
from cubekit.cli import app
from cubekit.errors import CubekitError
from cubekit.sources import _earthdata, _http, hyp3, opera

ROOT = Path(__file__).parents[1]
JSON = {"Content-Type": "application/json"}
BUSY = Answer(429, b'{"errors": ["too many requests"]}', {**JSON, "Retry-After": "0"})

Scenario = Callable[[Any, Path, pytest.MonkeyPatch], str | None]


@dataclass(frozen=True)
class Fault:
    """A bad day.

    Parameters
    ----------
    stage
        What is being done.
    name
        What goes wrong.
    shown
        What the user sees of it: parts of one message, `…` between them; nothing when empty.
    lost
        What is lost: nothing, for this reason.
    happen
        Lets it happen, does what a user would do, and checks that nothing is lost. Gives what a command printed.
    """

    stage: str
    name: str
    shown: str
    lost: str
    happen: Scenario


FAULTS: list[Fault] = []
_FIXTURES = {"search": "asf", "read": "asf", "download": "asf", "order": "world", "follow": "world", "fetch": "world"}


def fault(stage: str, name: str, shown: str, lost: str) -> Callable[[Scenario], Scenario]:
    """List a scenario."""

    def listed(happen: Scenario) -> Scenario:
        FAULTS.append(Fault(stage, name, shown, lost, happen))
        return happen

    return listed


def table() -> str:
    """All faults, as in docs/sources.md."""
    rows = ["| while you | what goes wrong | what you see | what is lost |", "| --- | --- | --- | --- |"]
    for one in FAULTS:
        shown = f"`{one.shown}`" if one.shown else "nothing"
        rows.append(f"| {one.stage} | {one.name} | {shown} | {one.lost} |".replace("`…", "… `").replace("…`", "` …"))
    return "\n".join(rows)


@contextmanager
def failing() -> Iterator[list[str]]:
    """What ends with an error on purpose; its text."""
    told: list[str] = []
    try:
        yield told
    except CubekitError as error:
        told.append(str(error))
    assert told, "there was no error"


def said(text: list[str]) -> str:
    return " ".join(text)


# -- search ------------------------------------------------------------------------------------------------------------


def everything(asf: Asf) -> None:
    assert [one.id for one in find()] == [one.id for one in from_folder(asf.folder)]


PASSING: dict[str, tuple[Answer | Callable[[Answer], Answer], str]] = {
    "too many requests (429)": (BUSY, "answers 429 Too Many Requests; attempt 2 of 5"),
    "a web page with 502 in place of JSON": (WEB_PAGE, "answers 502 Bad Gateway; attempt 2 of 5"),
    "500 in JSON": (Answer(500, b'{"errors": ["oh"]}', JSON), "answers 500 Internal Server Error; attempt 2 of 5"),
    "no answer at all": (
        lambda answer: replace(answer, hang=2.5),
        "the search for OPERA granules of gokyo: … attempt 2 of 5",
    ),
    "a page without its last granule": (incomplete, "attempt 2 of 5"),
    "the answer breaks off": (cut(500), "the answer from … broke off; attempt 2 of 5"),
    "JSON of another shape": (
        Answer(200, b'{"took": 3}', JSON),
        "answers without granules and their count; attempt 2 of 5",
    ),
}


def _search(answer: Answer | Callable[[Answer], Answer]) -> Scenario:
    def happen(asf: Asf, _: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        for limit in ("TIMEOUT", "SEARCH_TIMEOUT"):
            monkeypatch.setattr(_http, limit, (5.0, 0.5))
        asf.cmr.fail(answer)
        everything(asf)
        assert asf.cmr.failed == 1

    return happen


for _name, (_answer, _shown) in PASSING.items():
    fault("search", _name, _shown, "nothing: all granules are found")(_search(_answer))


@fault("search", "the catalogue stays down", "failed 5 times, last: … nothing was lost, try again later", "nothing")
def _down(asf: Asf, home: Path, _: pytest.MonkeyPatch) -> str:
    asf.cmr.fail(WEB_PAGE, times=5)
    with failing() as told:
        find()
    everything(asf)
    return said(told)


@fault("search", "it asks for a day's patience", "asks to wait 86400 s; try again then", "nothing")
def _patience(asf: Asf, home: Path, _: pytest.MonkeyPatch) -> str:
    asf.cmr.fail(Answer(429, b"", {"Retry-After": "86400"}))
    with failing() as told:
        find()
    everything(asf)
    return said(told)


@fault("search", "a granule without sizes, which ends the client's whole search", "", "nothing: it is found, too")
def _sizes(asf: Asf, home: Path, _: pytest.MonkeyPatch) -> None:
    def no_sizes(granule: dict[str, Any]) -> None:
        granule["umm"]["DataGranule"].pop("ArchiveAndDistributionInformation")

    asf.cmr.granules = without(asf.cmr.granules, no_sizes)
    everything(asf)


@fault("search", "a granule that is listed twice", "", "nothing: it is taken once")
def _twice(asf: Asf, home: Path, _: pytest.MonkeyPatch) -> None:
    asf.cmr.granules += asf.cmr.granules
    everything(asf)


@fault(
    "search",
    "a granule whose metadata can't be read",
    "1 granules are left out: … its metadata can't be read",
    "nothing: the others are found, it is named",
)
def _unreadable(asf: Asf, home: Path, _: pytest.MonkeyPatch) -> None:
    def no_outline(granule: dict[str, Any]) -> None:
        granule["umm"]["SpatialExtent"]["HorizontalSpatialDomain"]["Geometry"].pop("GPolygons")

    ours = sorted(asf.cmr.granules, key=lambda one: "_T012-" not in one["umm"]["GranuleUR"])
    asf.cmr.granules = without(ours, no_outline)
    good = [one.id for one in from_folder(asf.folder) if "_T012-" not in one.id]
    assert [one.id for one in find()] == good


# -- reading in place --------------------------------------------------------------------------------------------------


def data(asf: Asf) -> Callable[[Request], bool]:
    return lambda request: request.host == asf.data.DATA


def header(asf: Asf) -> Callable[[Request], bool]:
    return lambda request: (
        request.host == asf.data.STORAGE and (request.headers.get("Range") or "").startswith("bytes=0-")
    )


def blocks(asf: Asf) -> Callable[[Request], bool]:
    return lambda request: request.host == asf.data.STORAGE and not header(asf)(request)


def reference(asf: Asf, home: Path) -> xr.Dataset:
    """The cube of the folder."""
    return stored(cube.build_cube(lake("gokyo"), from_folder(asf.folder), home / "reference"))


def as_reference(asf: Asf, home: Path) -> None:
    xr.testing.assert_identical(stored(cube.open_cube(home / "root" / "gokyo")), reference(asf, home))


READING = {
    "too many requests (429) at the login": (data, BUSY, "answers 429 Too Many Requests; attempt 2 of 5"),
    "the archive is down": (data, WEB_PAGE, "answers 502 Bad Gateway; attempt 2 of 5"),
    "the storage is busy (503)": (header, Answer(503, b"slow down"), "HTTP error code: 503 … Retrying again"),
    "a header breaks off": (header, cut(1000), "the reading of … attempt 2 of 5"),
    "a block breaks off": (blocks, cut(1000), ""),  # GDAL asks again, and says nothing
    "a signed address that has expired (403)": (
        header,
        Answer(403, b"<Error>expired</Error>", {"Content-Type": "application/xml"}),
        "the reading of … attempt 2 of 5",
    ),
    "the storage says nothing": (blocks, lambda answer: replace(answer, hang=3.5), "the reading of … attempt 2 of 5"),
}


def _read(where: Callable[[Asf], Callable[[Request], bool]], answer: Any) -> Scenario:
    def happen(asf: Asf, home: Path, _: pytest.MonkeyPatch) -> None:
        items = find()
        asf.data.fail(answer, when=where(asf))
        report = cube.update(lake("gokyo"), items, home / "root")
        assert asf.data.failed == 1
        assert report.refused == {}
        as_reference(asf, home)

    return happen


for _name, (_where, _given, _shown) in READING.items():
    fault("read", _name, _shown, "nothing: the same run builds the whole cube")(_read(_where, _given))


@fault(
    "read",
    "a granule that can't be had all day",
    "refused … failed 5 times, last: …",
    "nothing: the other passes are there, the next run adds this one",
)
def _stays(asf: Asf, home: Path, _: pytest.MonkeyPatch) -> str:
    items = find()
    asf.data.fail(WEB_PAGE, times=99, when=lambda request: "_T012-" in request.path)
    report = cube.update(lake("gokyo"), items, home / "root")
    assert (report.added, len(report.refused)) == (1, 1)
    asf.data.recover()
    cube.update(lake("gokyo"), items, home / "root")
    as_reference(asf, home)
    return f"refused {next(iter(report.refused.items()))}"


@fault(
    "read",
    "nobody is logged in",
    "answers 401 Unauthorized; log in to Earthdata (.netrc or EARTHDATA_TOKEN)",
    "nothing",
)
def _nobody(asf: Asf, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    items = find()
    monkeypatch.delenv(_earthdata.TOKEN)
    monkeypatch.setenv("NETRC", str(home / "no.netrc"))
    with failing() as told:
        cube.update(lake("gokyo"), items, home / "root")
    monkeypatch.setenv(_earthdata.TOKEN, asf.data.token)
    cube.update(lake("gokyo"), items, home / "root")
    as_reference(asf, home)
    return said(told)


@fault("read", "a .netrc that is not text", ".netrc is not text (nothing of it is shown); write it anew", "nothing")
def _binary(asf: Asf, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    (home / "binary").write_bytes(b"\xff\xfe\x00machine")
    monkeypatch.setenv("NETRC", str(home / "binary"))
    with failing() as told:
        find()
    monkeypatch.setenv("NETRC", str(home / "no.netrc"))
    everything(asf)
    return said(told)


# -- downloading -------------------------------------------------------------------------------------------------------


def arrived(asf: Asf, home: Path) -> None:
    """Every file is the archive's."""
    opera.download(find(), home / "granules")
    files = sorted(path.name for path in (home / "granules").glob("*.tif"))
    assert files == sorted(Path(a.href).name for one in from_folder(asf.folder) for a in one.assets.values())
    assert all((home / "granules" / name).read_bytes() == (asf.folder / name).read_bytes() for name in files)


def storage(asf: Asf) -> Callable[[Request], bool]:
    return lambda request: request.host == asf.data.STORAGE


@fault(
    "download",
    "the connection breaks",
    "the answer from … broke off; attempt 2 of 5",
    "nothing: it goes on where it stopped",
)
def _breaks(asf: Asf, home: Path, _: pytest.MonkeyPatch) -> None:
    before = asf.raster_bytes()
    asf.data.fail(cut(3_000_000), when=lambda request: storage(asf)(request) and request.path.endswith("_VH.tif"))
    arrived(asf, home)
    total = sum(path.stat().st_size for path in (home / "granules").glob("*.tif"))
    assert total <= asf.raster_bytes() - before < total + (1 << 17)


DOWNLOADING = {
    "a file that is shorter than the catalogue says": (truncated, "bytes, the archive says …"),
    "a web page in place of a file": (
        Answer(200, b"<html>log in</html>", {"Content-Type": "text/html"}),
        "gives a web page instead of a file",
    ),
    "a file that is gone": (Answer(404), "answers 404 Not Found"),
}


def _download(answer: Any) -> Scenario:
    def happen(asf: Asf, home: Path, _: pytest.MonkeyPatch) -> None:
        items = find()
        lost = Path(items[0].assets["mask"].href).name
        asf.data.fail(answer, when=lambda request: storage(asf)(request) and request.path.endswith(lost))
        kept = opera.download(items, home / "granules")
        assert [one.id for one in kept] == [one.id for one in items[1:]]
        assert not (home / "granules" / f"{items[0].id}_VV.tif").exists()
        arrived(asf, home)

    return happen


for _name, (_answer, _shown) in DOWNLOADING.items():
    _whole = "nothing: its granule is left out whole, the next run fetches it"
    fault("download", _name, f"1 granules are left out: … {_shown}", _whole)(_download(_answer))


@fault("download", "another process downloads into the folder", "another process is downloading into …", "nothing")
def _another(asf: Asf, home: Path, _: pytest.MonkeyPatch) -> str:
    lock = _http._lock(home / "granules")
    with failing() as told:
        opera.download(find(), home / "granules")
    lock.release()
    arrived(asf, home)
    return said(told)


# -- ordering at HyP3 --------------------------------------------------------------------------------------------------


def order(*arguments: object) -> str:
    """`cubekit order …`; an error as the command line shows it."""
    done = CliRunner().invoke(app, ["order", *map(str, arguments)])
    if done.exception is not None and not isinstance(done.exception, SystemExit | CubekitError):
        raise done.exception
    return " ".join(f"{done.output} {done.exception or ''}".split())


def delivered(world: World, count: int = 3) -> None:
    """The order ends with all its products, and no scene was ordered that had a job which could bring it."""
    world.hyp3.succeed()
    order("fetch", world.folder)
    assert len(find_scenes(LAKE, f"hyp3:{world.folder}")) == count


def once(world: World) -> None:
    assert set(Counter(world.hyp3.granules).values()) == {1}


@fault(
    "order", "the answer to an order is lost", "an order of 3 scenes is in doubt", "nothing: no scene is ordered twice"
)
def _lost(world: World, home: Path, _: pytest.MonkeyPatch) -> str:
    world.plan()
    world.hyp3.fail(WEB_PAGE, when=posted)
    told = order("submit", world.folder, "--yes")
    delivered(world)
    once(world)
    return told


@fault(
    "order",
    "credits for a part",
    "that is enough for 2 now; submit the other 1 next month (UTC)",
    "nothing: the rest stays planned",
)
def _credits(world: World, home: Path, _: pytest.MonkeyPatch) -> str:
    world.hyp3.credits = 40.0
    world.plan()
    told = order("submit", world.folder, "--yes")
    world.hyp3.credits = 8000.0
    order("submit", world.folder, "--yes")
    delivered(world)
    once(world)
    return told


@fault(
    "order",
    "credits that another spends meanwhile (400)",
    "HyP3 refuses (400): … you have only",
    "nothing: all stays planned",
)
def _spent(world: World, home: Path, _: pytest.MonkeyPatch) -> str:
    world.plan()

    def agree(_: object) -> bool:
        world.hyp3.credits = 20.0
        return True

    with failing() as told:
        hyp3.submit(world.folder, hyp3.connect(), agree=agree)
    world.hyp3.credits = 8000.0
    world.submit()
    delivered(world)
    once(world)
    return said(told)


@fault(
    "order",
    "a scene that HyP3 does not take",
    "refused: Some requested scenes could not be found",
    "nothing: the others are ordered, `--again` tries it again",
)
def _refused(world: World, home: Path, _: pytest.MonkeyPatch) -> str:
    world.hyp3.unknown = {world.plan().manifest.orders[1].granule}
    told = order("submit", world.folder, "--yes")
    world.hyp3.unknown = set()
    order("submit", world.folder, "--yes", "--again")
    delivered(world)
    once(world)
    return told


@fault(
    "order",
    "a token that is not accepted",
    "HyP3 refuses (401): … look at EARTHDATA_TOKEN",
    "nothing: nothing was ordered",
)
def _token(world: World, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    world.plan()
    monkeypatch.setenv("EARTHDATA_TOKEN", "outdated")
    told = order("submit", world.folder, "--yes")
    assert not world.hyp3.jobs
    monkeypatch.setenv("EARTHDATA_TOKEN", world.hyp3.token)
    world.submit()
    delivered(world)
    return told


@fault(
    "follow",
    "the list of jobs is down",
    "the list of jobs at HyP3: … answers 502 Bad Gateway; attempt 2 of 5",
    "nothing",
)
def _listing(world: World, home: Path, _: pytest.MonkeyPatch) -> str:
    world.plan()
    world.submit()
    world.hyp3.fail(WEB_PAGE, times=2, when=listing)
    told = order("status", world.folder)
    delivered(world)
    return told


@fault(
    "follow",
    "a job fails",
    "HyP3 could not process it: ValueError: no DEM",
    "nothing: it is listed, `--again` orders it again",
)
def _fails(world: World, home: Path, _: pytest.MonkeyPatch) -> str:
    world.plan()
    world.submit()
    world.hyp3.give_up(list(world.hyp3.jobs.values())[:1], log="ValueError: no DEM")
    told = order("status", world.folder)
    order("submit", world.folder, "--yes", "--again")
    delivered(world)
    return told


@fault(
    "follow",
    "a product expires before it is fetched",
    "kept until … and not fetched by then",
    "nothing that was had: `--again` orders it again",
)
def _expires(world: World, home: Path, _: pytest.MonkeyPatch) -> str:
    world.plan()
    world.submit()
    first = list(world.hyp3.jobs.values())[:1]
    world.hyp3.succeed(first)
    world.hyp3.expire(first)
    told = order("status", world.folder)
    order("submit", world.folder, "--yes", "--again")
    delivered(world)
    return told


def ready(world: World) -> list[dict[str, Any]]:
    world.plan()
    world.submit()
    world.hyp3.succeed()
    return list(world.hyp3.jobs.values())


@fault(
    "fetch",
    "the connection breaks",
    "the answer from … broke off; attempt 2 of 5",
    "nothing: it goes on where it stopped",
)
def _cut(world: World, home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_http, "_PIECE", 1 << 12)
    ready(world)
    world.hyp3.fail(cut(20_000), when=from_store)
    delivered(world)
    total = sum(map(len, world.hyp3.files.values()))
    assert world.hyp3.sent(from_store) < total + (1 << 12)


@fault(
    "fetch", "a zip suffers on its way", "its zip is damaged … downloaded again", "nothing: the second copy is whole"
)
def _suffers(world: World, home: Path, _: pytest.MonkeyPatch) -> None:
    ready(world)

    def flipped(answer: Answer) -> Answer:
        half = len(answer.body) // 2
        return replace(answer, body=answer.body[:half] + bytes([answer.body[half] ^ 1]) + answer.body[half + 1 :])

    world.hyp3.fail(flipped, when=from_store)
    delivered(world)


@fault(
    "fetch",
    "a zip that is damaged at HyP3",
    "its zip is damaged (BadZipFile",
    "nothing: the others come, `fetch --again` or `submit --again` get it",
)
def _damaged(world: World, home: Path, _: pytest.MonkeyPatch) -> str:
    file = ready(world)[0]["files"][0]
    key = file["s3"]["key"]
    whole = world.hyp3.files[key]
    world.hyp3.files[key] = b"x" * len(whole)
    told = order("fetch", world.folder)
    assert len(list((world.folder / "products").iterdir())) == 2
    world.hyp3.files[key] = whole
    order("fetch", world.folder, "--again")
    delivered(world)
    once(world)
    return told


@fault(
    "fetch",
    "a zip that is gone before its time",
    "its zip is not there any more",
    "nothing: `submit --again` orders it again",
)
def _gone(world: World, home: Path, _: pytest.MonkeyPatch) -> str:
    world.hyp3.files.pop(ready(world)[0]["files"][0]["s3"]["key"])
    told = order("fetch", world.folder)
    order("submit", world.folder, "--yes", "--again")
    delivered(world)
    return told


@fault(
    "fetch",
    "the disk is full",
    "it can't be unpacked: the disk is full: it needs …",
    "nothing: the zip stays, no byte is fetched again",
)
def _full(world: World, home: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    from cubekit.sources import _hyp3_product

    ready(world)
    with monkeypatch.context() as patch:
        patch.setattr(_hyp3_product.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
        told = order("fetch", world.folder)
    delivered(world)
    assert world.hyp3.sent(from_store) == sum(map(len, world.hyp3.files.values()))
    return told


@fault(
    "fetch",
    "somebody removes a mask afterwards",
    "was removed since it was fetched",
    "nothing: layover never passes for observed",
)
def _removed(world: World, home: Path, _: pytest.MonkeyPatch) -> None:
    ready(world)
    delivered(world)
    mask = next(world.folder.rglob("*_ls_map.tif"))
    content = mask.read_bytes()
    mask.unlink()
    assert len(find_scenes(LAKE, f"hyp3:{world.folder}")) == 2
    mask.write_bytes(content)
    assert len(find_scenes(LAKE, f"hyp3:{world.folder}")) == 3


# -- STAC --------------------------------------------------------------------------------------------------------------


def searched(request: Request) -> bool:
    return request.path == "/search"


STAC = {
    "too many requests (429)": (BUSY, "answers 429 Too Many Requests; attempt 2 of 5"),
    "a web page with 200 in place of JSON": (
        Answer(200, b"<html>", {"Content-Type": "text/html"}),
        "answers something else than JSON; attempt 2 of 5",
    ),
    "a page that breaks off": (
        Answer(200, b'{"type": "FeatureColl', {**JSON, "Content-Length": "21"}, cut=10),
        "broke off; attempt 2 of 5",
    ),
}


def _stac(answer: Any) -> Scenario:
    def happen(folder: Path, home: Path, _: pytest.MonkeyPatch) -> None:
        server = Stac(opera_items(folder, "rtc", "code"), folder, page=1)
        server.fail(answer, when=searched)
        with serving(server) as url:
            found = find(uri=f"stac:{url}#rtc")
        assert [one.id for one in found] == [one.id for one in from_folder(folder)]
        assert server.failed == 1

    return happen


for _name, (_answer, _shown) in STAC.items():
    fault("STAC search", _name, _shown, "nothing: all items are found")(_stac(_answer))


@fault(
    "STAC search",
    "a header that can't be had, of an item without projection",
    "its raster … can't be read",
    "nothing: the others are found, it is named",
)
def _raster(folder: Path, home: Path, _: pytest.MonkeyPatch) -> None:
    server = Stac(opera_items(folder, "rtc", "none"), folder)
    first = from_folder(folder)[0].id
    server.fail(Answer(404), times=99, when=lambda request: first in request.path)
    with serving(server) as url:
        found = find(uri=f"stac:{url}#rtc")
        assert [one.id for one in found] == [one.id for one in from_folder(folder)][1:]
        server.recover()
        assert [one.id for one in find(uri=f"stac:{url}#rtc")] == [one.id for one in from_folder(folder)]


@fault(
    "STAC read",
    "the server is down for a moment",
    "HTTP error code: 503 … Retrying again",
    "nothing: the same run builds the whole cube",
)
def _busy(folder: Path, home: Path, _: pytest.MonkeyPatch) -> None:
    server = Stac(opera_items(folder, "rtc", "code"), folder)
    with serving(server) as url:
        items = find(uri=f"stac:{url}#rtc")
        server.fail(Answer(503, b""), when=lambda request: request.path.startswith("/files/"))
        report = cube.update(lake("gokyo"), items, home / "root")
    assert (server.failed, report.refused) == (1, {})
    reference = cube.build_cube(lake("gokyo"), from_folder(folder), home / "reference")
    xr.testing.assert_identical(stored(cube.open_cube(home / "root" / "gokyo")), stored(reference))


# -- the tests ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("one", FAULTS, ids=lambda one: f"{one.stage}: {one.name}")
def test_nothing_is_lost(
    one: Fault,
    request: pytest.FixtureRequest,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """The fault happens; the user sees what the table says, in one message, and no secret; nothing is lost."""
    there = request.getfixturevalue(_FIXTURES.get(one.stage, "published"))
    monkeypatch.setattr(_http, "WAIT", 0.01)
    caplog.set_level(logging.WARNING)
    with warnings.catch_warnings(record=True) as warned:
        warnings.simplefilter("always")
        printed = one.happen(there, tmp_path, monkeypatch)
    for_users = [each for each in warned if issubclass(each.category, UserWarning)]  # as the command line chooses
    told = [str(each.message) for each in for_users if each.category is not NotGeoreferencedWarning]
    messages = [printed or "", *told, *(each.getMessage() for each in caplog.records)]
    shown = [" ".join(message.split()) for message in messages if message]
    if one.shown:
        assert any(_in_order(one.shown, message) for message in shown), shown
    else:  # GDAL may say what it likes of files that a test writes
        assert not told
        assert not [each.getMessage() for each in caplog.records if each.name.startswith("cubekit")]
    assert "X-Amz" not in json.dumps(shown)
    assert "Signature=" not in json.dumps(shown)


def _in_order(parts: str, message: str) -> bool:
    place = 0
    for part in (part.strip() for part in parts.split("…")):
        place = message.find(part, place)
        if place < 0:
            return False
        place += len(part)
    return True


def test_thirty_faults_at_least() -> None:
    """At every stage of every archive; docs/sources.md lists them all, and no other."""
    assert len(FAULTS) >= 30
    assert len({(one.stage, one.name) for one in FAULTS}) == len(FAULTS)
    assert table() in (ROOT / "docs" / "sources.md").read_text()


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
