"""Source `hyp3`: the real clients against a HyP3 on this machine, which fails in every way it can."""

from __future__ import annotations

import json
import logging
import re
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import ordering
import pytest
import rasterio
from orders import (
    AFTERNOON,
    AROUND,
    FIRST,
    LAKE,
    PERIOD,
    World,
    catalogued,
    from_store,
    granule,
    listing,
    passes,
    posted,
)
from servers import WEB_PAGE, Answer, Request, cut
from servers.files import truncated
from servers.hyp3 import LOGIN, STORE, Hyp3, granule_name, grd_granule, zipped
from shapely.geometry import box

from cubekit.errors import ConfigError, MissingExtra, SceneWarning, SourceError
from cubekit.lakes import Lake, catalogue
from cubekit.sources import _http, find_scenes, folder, hyp3
from cubekit.sources._hyp3_search import choose


def states(manifest: hyp3.Manifest) -> dict[str, int]:
    return {str(state): len(orders) for state, orders in manifest.by_state().items()}


# Searching and choosing.


def test_the_catalogue_is_asked_for_what_hyp3_can_take(world: World) -> None:
    """GRD of high resolution, IW, VV and VH, of the lake, track and direction; the last day is included."""
    world.plan(tracks=[121], direction="descending", frames=[80], every="pass")
    form = world.cmr.asked()[0].form
    assert {value for name, value in form if name == "attribute[]"} >= {
        "string,BEAM_MODE,IW",
        "string,POLARIZATION,VV+VH",
        "int,PATH_NUMBER,121",
        "string,ASCENDING_DESCENDING,DESCENDING",
        "int,FRAME_NUMBER,80",
    }
    assert {"SENTINEL-1A_DP_GRD_HIGH", "SENTINEL-1C_DP_GRD_HIGH"} <= {v for n, v in form if n.startswith("shortName")}
    last = granule(datetime(2019, 3, 31, 0, 11, 35, tzinfo=UTC))
    world.cmr.granules = [catalogued(last), catalogued(granule(datetime(2019, 4, 1, 0, 11, 35, tzinfo=UTC)))]
    planned = world.plan(every="pass", folder=world.folder.with_name("other"))
    assert [order.granule for order in planned.manifest.orders] == [last]


def test_of_a_scene_processed_twice_the_newest_is_ordered(world: World) -> None:
    """They share everything but the checksum, and CMR's order says nothing."""
    old, new = (granule(FIRST, checksum=checksum) for checksum in ("FFFF", "0001"))
    for pair in ((old, new), (new, old)):
        dates = {old: "2019-01-09", new: "2019-05-01"}
        world.cmr.granules = [catalogued(name, processed=dates[name]) for name in pair]
        planned = world.plan(folder=world.folder / pair[0][-4:])
        assert [order.granule for order in planned.manifest.orders] == [new]


def test_sentinel_1c_before_its_calibration_is_not_ordered(world: World) -> None:
    """Credits are not spent on what no series may hold."""
    start = datetime(2025, 4, 20, 0, 11, 35, tzinfo=UTC)
    world.cmr.granules = [grd_granule(granule_name(start, 2000, unit="C"), AROUND, track=121, direction="descending")]
    with pytest.raises(SourceError, match=r"no scene of tsho_rolpa between 2025-01-01 and 2025-12-31 .*Sentinel-1 GRD"):
        hyp3.plan(world.folder, [LAKE], (date(2025, 1, 1), date(2025, 12, 31)))


def scenes_of(world: World, lake: Lake = LAKE) -> list:
    from cubekit.sources._hyp3_search import search

    return search(lake, PERIOD)


def test_by_month_the_pass_nearest_to_its_middle_is_chosen(world: World) -> None:
    """As a count by hand says, for each track on its own."""
    names = [*passes(FIRST, 7), *passes(AFTERNOON, 7)]
    world.cmr.granules = [catalogued(name) for name in names]
    expected = []
    for start in (FIRST, AFTERNOON):
        days = [start + timedelta(days=12 * cycle) for cycle in range(7)]
        for month, middle in ((1, 16.5), (2, 15.0), (3, 16.5)):
            ours = [day for day in days if day.month == month]
            expected.append(
                min(ours, key=lambda day: abs(day - datetime(2019, month, 1, tzinfo=UTC) - timedelta(middle - 1)))
            )
    chosen = choose(LAKE, scenes_of(world), "month")
    assert sorted(order.start for order in chosen.orders) == sorted(expected)
    assert chosen.passes == (6, 14)
    assert len(choose(LAKE, scenes_of(world), "pass").orders) == 14


def test_a_pass_counts_when_it_shows_the_whole_aoi(world: World) -> None:
    """Two slices that meet above it are both ordered; half a slice is not, and is told."""
    west, south, east, north = LAKE.aoi.bounds
    middle = (south + north) / 2
    upper, lower = box(west - 1, middle - 0.001, east + 1, north + 1), box(west - 1, south - 1, east + 1, middle)
    first, second = granule(FIRST), granule(FIRST + timedelta(seconds=25))
    alone = granule(FIRST + timedelta(days=12))
    world.cmr.granules = [catalogued(first, upper), catalogued(second, lower), catalogued(alone, upper)]
    planned = world.plan(every="pass")
    assert [order.granule for order in planned.manifest.orders] == [first, second]
    assert planned.choices["tsho_rolpa"].partial == {121: 1}


def test_a_scene_that_shows_two_lakes_is_ordered_once(world: World) -> None:
    """And knows both; planning again adds nothing, another lake later adds only itself."""
    other = catalogue()["chamlang_tsho"]
    planned = world.plan(LAKE, other)
    assert [order.lakes for order in planned.manifest.orders] == [("chamlang_tsho", "tsho_rolpa")] * 3
    before = (world.folder / hyp3.MANIFEST).read_bytes()
    assert world.plan(LAKE, other).choices["tsho_rolpa"].orders == ()
    assert (world.folder / hyp3.MANIFEST).read_bytes() == before
    assert world.plan(catalogue()["gokyo"]).manifest.orders[0].lakes == ("chamlang_tsho", "gokyo", "tsho_rolpa")


def test_a_month_that_is_planned_gets_no_second_pass(world: World) -> None:
    """Also when a scene nearer to its middle turns up later."""
    world.cmr.granules = [catalogued(granule(FIRST))]
    world.plan()
    world.cmr.granules.append(catalogued(granule(FIRST + timedelta(days=12))))
    assert [order.start for order in world.plan().manifest.orders] == [FIRST]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"resolution": 30}, "holds a plan with resolution 20, not 30; give another folder"),
        ({"api": "https://hyp3-plus.asf.alaska.edu"}, "holds a plan with api .*hyp3-api"),
        ({"resolution": 10}, r"resolution 10 m is not one of \(20, 30\)"),
        ({"tracks": [176]}, r"tracks \[176\] don't exist"),
        (
            {"api": "https://hyp3-api.asf.alaska.edu.example.org"},
            "is no address of HyP3; give one like https://hyp3-api",
        ),
        ({"api": "http://hyp3-api.asf.alaska.edu"}, "is no address of HyP3"),
    ],
)
def test_plans_that_can_not_be(world: World, options: dict, message: str) -> None:
    """What can't be, or contradicts the folder, is refused, and the plan stays as it was."""
    before = world.plan().manifest
    with pytest.raises(ConfigError, match=message):
        world.plan(**options)
    assert hyp3.load(world.folder) == before


def without_footprint(umm: dict) -> None:
    umm["SpatialExtent"]["HorizontalSpatialDomain"]["Geometry"] = {}


def without_direction(umm: dict) -> None:
    umm["AdditionalAttributes"] = [one for one in umm["AdditionalAttributes"] if one["Name"] != "ASCENDING_DESCENDING"]


def without_orbit(umm: dict) -> None:
    umm["OrbitCalculatedSpatialDomains"][0]["OrbitNumber"] = "x"


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (without_footprint, r"describes 'S1A_.*' in a way that is not understood"),
        (without_direction, r"describes 'S1A_.*' in a way that is not understood"),
        (without_orbit, r"is incomplete: of 1 scenes its metadata can't be read"),
    ],
)
def test_a_scene_that_can_not_be_read_stops_the_plan(world: World, spoil: Callable, message: str) -> None:
    """A plan that silently lacks scenes would spend credits on others."""
    spoil(world.cmr.granules[2]["umm"])
    with pytest.raises(SourceError, match=message):
        world.plan()
    assert not (world.folder / hyp3.MANIFEST).exists()


# Ordering.


def test_jobs_are_ordered_as_a_time_series_needs_them(world: World) -> None:
    """Not filtered, not matched, gamma0, power, 20 m: exactly what hyp3_sdk makes of it."""
    from hyp3_sdk import HyP3

    manifest = world.plan().manifest
    done = world.submit()
    assert (done.quote.scenes, done.quote.each, done.quote.total, done.quote.left) == (3, 15, 45, 8000)
    assert world.hyp3.credits == 8000 - 45
    names = [order.granule for order in manifest.orders]
    assert world.ordered() == [HyP3.prepare_rtc_job(name, name=manifest.name, resolution=20) for name in names]
    assert done.ordered == tuple(names)
    assert states(done.manifest) == {"pending": 3}


def test_nothing_is_spent_without_consent(world: World) -> None:
    """Who says no has ordered nothing, and may say yes later."""
    world.plan()
    asked = []
    done = hyp3.submit(world.folder, hyp3.connect(), agree=lambda quote: bool(asked.append(quote)))
    assert (done.ordered, len(asked), world.ordered()) == ((), 1, [])
    assert states(done.manifest) == {"planned": 3}


def test_submitting_twice_orders_once(world: World) -> None:
    """Neither from the same folder, nor from another one."""
    world.plan()
    world.submit()
    again = world.submit()
    assert (again.ordered, again.quote) == ((), None)
    elsewhere = world.folder.with_name("elsewhere")
    world.plan(folder=elsewhere)
    taken = world.submit(elsewhere)
    assert (taken.ordered, states(taken.manifest)) == ((), {"pending": 3})
    assert len(world.hyp3.jobs) == 3


@pytest.mark.parametrize("other", [{"speckle_filter": True}, {"resolution": 30}, {"scale": "decibel"}])
def test_a_job_that_makes_another_product_is_not_taken_over(world: World, other: dict) -> None:
    """A filtered product of the same scene is none of ours."""
    world.plan()
    client = hyp3.connect().client
    client.submit_prepared_jobs(client.prepare_rtc_job(granule(FIRST), **{"resolution": 20, **other}))
    assert len(world.submit().ordered) == 3


def write_order(folder: Path, count: int) -> hyp3.Manifest:
    """An order of so many scenes, not searched for."""
    from cubekit.sources._orders import save

    folder.mkdir()
    orders = tuple(
        hyp3.Order(granule=name, lakes=("tsho_rolpa",), track=121, direction="descending", start=FIRST)
        for name in (granule_name(FIRST + timedelta(seconds=second), 25000) for second in range(count))
    )
    return save(folder, hyp3.Manifest(name="many", api=hyp3.DEFAULT_API, resolution=20, orders=orders))


def test_the_service_gets_two_hundred_at_a_time(world: World) -> None:
    """And lists them in pages."""
    world.hyp3.page = 150
    write_order(world.folder, 401)
    world.submit()
    sizes = [len(json.loads(request.body)["jobs"]) for request in world.hyp3.asked(posted)]
    assert sizes == [200, 200, 1]
    assert states(world.status()) == {"pending": 401}


@pytest.mark.parametrize(("credits", "expected"), [(31.0, 2), (14.0, 0), (None, 3), (45.0, 3)])
def test_as_much_is_ordered_as_credits_allow(world: World, credits: float | None, expected: int) -> None:  # noqa: A002
    """The rest stays planned, for the next month."""
    world.hyp3.credits = credits
    world.plan()
    done = world.submit()
    assert (done.quote.affordable, len(done.ordered), len(world.hyp3.jobs)) == (expected, expected, expected)
    world.hyp3.credits = 8000.0
    world.submit()
    assert len(world.hyp3.jobs) == 3


def test_credits_that_others_spend_meanwhile(world: World) -> None:
    """The service's own refusal is told, and nothing is in doubt."""
    world.plan()

    def spend(_: object) -> bool:
        world.hyp3.credits = 20.0
        return True

    with pytest.raises(
        SourceError, match=r"HyP3 refuses \(400\): These jobs would cost 45.0 credits, but you have only 20"
    ):
        hyp3.submit(world.folder, hyp3.connect(), agree=spend)
    assert states(hyp3.load(world.folder)) == {"planned": 3}


def test_a_scene_that_hyp3_does_not_take_does_not_stop_the_others(world: World) -> None:
    """It is listed with the reason, and may be ordered again."""
    planned = world.plan().manifest
    bad = planned.orders[1].granule
    world.hyp3.unknown = {bad}
    done = world.submit()
    assert states(done.manifest) == {"pending": 2, "refused": 1}
    assert done.manifest.orders[1].reason(datetime.now(UTC)) == "Some requested scenes could not be found"
    world.hyp3.unknown = set()
    assert world.submit().ordered == ()
    assert world.submit(again=True).ordered == (bad,)


LOST: dict[str, object] = {
    "web page": WEB_PAGE,
    "gateway timeout": Answer(504, b'{"message": "Endpoint request timed out"}', {"Content-Type": "application/json"}),
    "broken connection": cut(10),
    "not understood": lambda answer: replace(answer, body=b'{"jobs": 7}', headers={}),
    "half of it": lambda answer: replace(
        answer, body=json.dumps({"jobs": json.loads(answer.body)["jobs"][:1]}).encode()
    ),
}


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
def test_an_order_whose_answer_is_lost_is_not_repeated(world: World, fault: object) -> None:
    """The service took it; its list shows it a moment later."""
    world.hyp3.lag = 0.1
    world.plan()
    world.hyp3.fail(fault, when=posted)
    done = world.submit()
    assert states(done.manifest) == {"pending": 3}
    assert len(world.ordered()) == len(world.hyp3.jobs) == len(done.ordered) == 3


def test_an_order_that_never_arrived_is_sent_again(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """After the service's list has been looked at."""
    world.plan()
    take, calls = Hyp3._order, []

    def drop(self: Hyp3, body: dict) -> Answer:
        calls.append(body)
        return WEB_PAGE if len(calls) == 1 else take(self, body)

    monkeypatch.setattr(Hyp3, "_order", drop)
    assert len(world.submit().ordered) == 3
    assert (len(calls), len(world.hyp3.jobs)) == (2, 3)


def test_an_order_that_is_never_answered_is_given_up(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """And is not in doubt afterwards."""
    world.plan()
    monkeypatch.setattr(Hyp3, "_order", lambda *_: WEB_PAGE)
    with pytest.raises(SourceError, match="unanswered 3 times; submit again later: nothing is ordered twice"):
        world.submit()
    assert states(hyp3.load(world.folder)) == {"planned": 3}


@pytest.mark.parametrize("path", ["/jobs", "/costs", "/user"])
def test_a_service_that_is_down_for_a_moment_is_asked_again(world: World, path: str) -> None:
    """Web pages, 503 and lost connections pass."""
    world.plan()
    for fault in (WEB_PAGE, Answer(503, b'{"detail": "busy"}', {"Content-Type": "application/json"}), cut(1)):
        world.hyp3.fail(fault, when=lambda request: request.method == "GET" and request.path == path)
    assert len(world.submit().ordered) == 3


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/costs", b"[]", "the price list of HyP3 is not understood"),
        ("/costs", b'[{"job_type": "RTC_GAMMA", "cost_table": {}}]', "the price list of HyP3 is not understood"),
        ("/user", b"{}", "the question for credits at HyP3 is not understood .*remaining_credits"),
        ("/jobs", b"{}", "the list of jobs at HyP3 is not understood"),
    ],
)
def test_answers_of_another_shape_are_told(world: World, path: str, body: bytes, message: str) -> None:
    """Nothing is guessed, and nothing ordered."""
    world.plan()
    world.hyp3.fail(Answer(200, body, {"Content-Type": "application/json"}), when=lambda request: request.path == path)
    with pytest.raises(SourceError, match=message):
        world.submit()
    assert world.ordered() == []


# Logging in.


def test_a_token_that_is_not_accepted(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says where to look, and not what it was."""
    world.plan()
    monkeypatch.setenv("EARTHDATA_TOKEN", "planted-secret-9")
    with pytest.raises(SourceError, match=r"HyP3 refuses \(401\): .*look at EARTHDATA_TOKEN") as caught:
        world.submit()
    error: BaseException | None = caught.value
    while error is not None:
        assert "planted" not in repr(error)
        error = error.__cause__ or error.__context__


def by_password(world: World, monkeypatch: pytest.MonkeyPatch, password: str) -> None:
    monkeypatch.delenv("EARTHDATA_TOKEN")
    file = world.folder.with_name("netrc")
    file.write_text(f"machine {LOGIN} login somebody password {password}\n")
    monkeypatch.setenv("NETRC", str(file))


def at_login(request: Request) -> bool:
    return request.host == LOGIN


@pytest.mark.parametrize("fault", [WEB_PAGE, Answer(429, b"", {"Retry-After": "0"}), Answer(hang=0.6)])
def test_a_password_logs_in_through_bad_moments(world: World, monkeypatch: pytest.MonkeyPatch, fault: Answer) -> None:
    """The client itself would take them for a refusal, or wait for ever."""
    by_password(world, monkeypatch, world.hyp3.password)
    monkeypatch.setattr(_http, "TIMEOUT", (2.0, 0.3))
    world.hyp3.fail(fault, when=at_login)
    world.plan()
    assert len(world.submit().ordered) == 3
    assert len(world.hyp3.asked(at_login)) == 2


def test_a_password_that_is_not_accepted_ends_the_following(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is sent once: who tries for days is locked out."""
    world.plan()
    world.submit()
    by_password(world, monkeypatch, "planted-password")
    with pytest.raises(hyp3.Refusal, match=r"does not accept the login found in \.netrc; look at ") as caught:
        next(hyp3.follow(world.folder, hyp3.connect, interval=0.01))
    assert "planted" not in str(caught.value)
    assert len(world.hyp3.asked(at_login)) == 1


def test_an_account_that_lacks_something_is_told_what(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Earthdata says so in an address, with status 200."""
    by_password(world, monkeypatch, world.hyp3.password)
    asked = "https://cumulus.asf.alaska.edu/login?error=access_denied&error_msg=Please+update+your+profile"
    world.hyp3.fail(Answer(302, b"", {"Location": asked}), when=at_login)
    with pytest.raises(hyp3.Refusal, match=r"found in \.netrc: Please update your profile; look at"):
        hyp3.connect()


def test_without_a_login_nothing_is_asked(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The message says how to give one."""
    monkeypatch.delenv("EARTHDATA_TOKEN")
    world.plan()
    with pytest.raises(ConfigError, match=r"none is found; set EARTHDATA_TOKEN, or write .* into \.netrc"):
        next(hyp3.follow(world.folder, hyp3.connect, interval=0.01))


def test_without_the_extra_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """hyp3_sdk is optional."""
    monkeypatch.setitem(sys.modules, "hyp3_sdk", None)
    with pytest.raises(
        MissingExtra, match=r"hyp3_sdk is not installed; install it with: pip install 'cubekit\[hyp3\]'"
    ):
        hyp3.connect()


# Following and fetching.


def test_what_was_ordered_arrives_and_is_found(world: World) -> None:
    """The same scenes as from a folder of these products; nothing else stays, a second fetch asks for no product."""
    world.plan()
    world.submit()
    world.hyp3.succeed()
    told: list[tuple[int, int]] = []
    fetched = world.fetch(told=lambda *count: told.append(count))
    assert (len(fetched.products), fetched.failed, told[-1]) == (3, {}, (3, 3))
    found = find_scenes(LAKE, f"hyp3:{world.folder}", *PERIOD)
    plain = folder.find(LAKE, PERIOD, world.folder / "products")
    assert [item.to_dict() for item in found] == [item.to_dict() for item in plain]
    assert [set(item.assets) for item in found] == [{"vv", "vh", "mask"}] * 3
    assert {item.properties["cubekit:source"] for item in found} == {"hyp3"}
    assert [path for path in (world.folder / ".work").iterdir() if path.name != ".downloads.lock"] == []
    before = world.hyp3.sent(from_store)
    assert world.fetch().products == ()
    assert world.hyp3.sent(from_store) == before


def test_a_download_goes_on_where_it_stopped(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes that have arrived are not asked for again, but for the last piece."""
    monkeypatch.setattr(_http, "_PIECE", 1 << 12)
    world.plan()
    world.submit()
    world.hyp3.succeed()
    size = sum(len(content) for content in world.hyp3.files.values())
    world.hyp3.fail(cut(20_000), when=from_store)
    assert len(world.fetch().products) == 3
    assert size <= world.hyp3.sent(from_store) < size + (1 << 12)


def one(world: World) -> tuple[dict, str]:
    """A single job, and the key of its product."""
    world.cmr.granules = world.cmr.granules[:1]
    world.plan()
    world.submit()
    world.hyp3.succeed()
    (job,) = world.hyp3.jobs.values()
    return job, job["files"][0]["s3"]["key"]


def repacked(content: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    import io

    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    change(files)
    return zipped(files)


def named(files: dict[str, bytes], ending: str) -> str:
    return next(name for name in files if name.endswith(ending))


def flipped(content: bytes) -> bytes:
    """One bit in the middle of a file in the zip."""
    middle = len(content) // 2
    return content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]


def linked(content: bytes) -> bytes:
    """A zip with a symbolic link in it."""
    import io

    held = io.BytesIO(content)
    with zipfile.ZipFile(held, "a") as archive:
        member = zipfile.ZipInfo(archive.namelist()[0].partition("/")[0] + "/link.tif")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    return held.getvalue()


def renamed(files: dict[str, bytes], old: str, new: str) -> None:
    for name in list(files):
        product, _, rest = name.partition("/")
        files[f"{product}/{rest.replace(old, new)}"] = files.pop(name)


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "a bit": (flipped, "its zip is damaged"),
    "half a zip": (lambda content: content[: len(content) // 2], r"its zip is damaged \(BadZipFile"),
    "no zip": (lambda content: b"x" * len(content), r"its zip is damaged \(BadZipFile"),
    "empty": (lambda _: zipped({}), "its zip is empty"),
    "outside": (
        lambda content: repacked(content, lambda files: files.update({"../../outside.tif": b"x"})),
        "holds '../../outside.tif', which is no plain file",
    ),
    "absolute": (
        lambda content: repacked(content, lambda files: files.update({"/tmp/outside.tif": b"x"})),
        "which is no plain file",
    ),
    "link": (linked, "link.tif', which is no plain file"),
    "half a GeoTIFF": (
        lambda content: repacked(
            content, lambda files: files.update({(n := named(files, "_VH.tif")): files[n][:9000]})
        ),
        "_VH.tif: (truncated|unreadable)",
    ),
    "no GeoTIFF": (
        lambda content: repacked(content, lambda files: files.update({named(files, "_VV.tif"): b"<html>"})),
        "_VV.tif: unreadable",
    ),
    "no mask": (
        lambda content: repacked(content, lambda files: files.pop(named(files, "_ls_map.tif"))),
        "it has no mask",
    ),
    "another scene": (
        lambda content: repacked(content, lambda files: renamed(files, "20190121", "20190123")),
        "its product is S1A_IW_20190123T001135_.*, ordered was S1A_IW_20190121",
    ),
}


@pytest.mark.parametrize(("damage", "message"), DAMAGES.values(), ids=DAMAGES)
def test_a_damaged_product_is_never_used(
    world: World, tmp_path: Path, damage: Callable[[bytes], bytes], message: str
) -> None:
    """It is fetched once more, then listed with the reason; whole at last, it is fetched without another order."""
    world.cmr.granules = world.cmr.granules[1:2]
    world.plan()
    world.submit()
    world.hyp3.succeed()
    (job,) = world.hyp3.jobs.values()
    key = job["files"][0]["s3"]["key"]
    whole = world.hyp3.files[key]
    world.hyp3.files[key] = damage(whole)
    job["files"][0]["size"] = len(world.hyp3.files[key])
    fetched = world.fetch()
    ((name, reason),) = fetched.failed.items()
    assert re.search(message, reason), reason
    assert states(fetched.manifest) == {"broken": 1}
    assert fetched.manifest.orders[0].reason(datetime.now(UTC)) == reason
    assert not list((world.folder / "products").glob("*"))
    assert not list(tmp_path.rglob("outside.tif"))
    assert len(world.hyp3.asked(from_store)) == 2
    with pytest.warns(SceneWarning, match=f"{name}: broken"), pytest.raises(SourceError, match="has come to"):
        find_scenes(LAKE, f"hyp3:{world.folder}")
    world.hyp3.files[key] = whole
    job["files"][0]["size"] = len(whole)
    assert world.fetch().products == ()
    assert len(world.fetch(again=True).products) == 1
    assert len(world.hyp3.jobs) == 1


def test_a_zip_that_suffers_on_its_way_is_fetched_again(world: World) -> None:
    """The second copy is whole."""
    one(world)
    world.hyp3.fail(lambda answer: replace(answer, body=flipped(answer.body)), when=from_store)
    assert len(world.fetch().products) == 1


@pytest.mark.parametrize("gone", [403, 404, 410])
def test_a_product_that_is_gone_before_its_time(world: World, gone: int) -> None:
    """It is told with host and path, not with the signature, and may be ordered again."""
    _, key = one(world)
    world.hyp3.files.pop(key)
    world.hyp3.gone = gone
    fetched = world.fetch()
    assert list(fetched.failed.values()) == [f"its zip is not there any more ({STORE}/{key} answers {gone})"]
    assert states(fetched.manifest) == {"broken": 1}
    assert len(world.submit(again=True).ordered) == 1
    world.hyp3.succeed()
    assert len(world.fetch().products) == 1
    assert len(world.hyp3.jobs) == 2


def test_a_download_that_fails_stays_ready(world: World) -> None:
    """No credits are asked for what another fetch may bring."""
    one(world)
    world.hyp3.fail(WEB_PAGE, times=6, when=from_store)
    fetched = world.fetch()
    assert "failed 5 times, last: " in fetched.failed[granule(FIRST)]
    assert states(fetched.manifest) == {"ready": 1}
    assert world.submit(again=True).ordered == ()
    assert len(world.fetch().products) == 1


def test_a_shorter_file_than_the_service_says_is_no_product(world: World) -> None:
    """It is not used, and not thrown away for another order."""
    one(world)
    world.hyp3.fail(truncated, when=from_store)
    assert "the archive says" in next(iter(world.fetch().failed.values()))
    assert len(world.fetch().products) == 1


def test_a_full_disk_is_told_and_loses_nothing(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """The zip stays: the next fetch asks for no byte of it."""
    from cubekit.sources import _hyp3_product

    _, key = one(world)
    size = len(world.hyp3.files[key])
    monkeypatch.setattr(_hyp3_product.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10})())
    fetched = world.fetch()
    assert "it can't be unpacked: the disk is full: it needs" in next(iter(fetched.failed.values()))
    monkeypatch.undo()
    monkeypatch.setenv("EARTHDATA_TOKEN", world.hyp3.token)
    for name, value in world.internet.environment.items():
        monkeypatch.setenv(name, value)
    assert len(world.fetch().products) == 1
    assert world.hyp3.sent(from_store) == size


def test_failed_and_expired_jobs_are_listed_with_their_reason(world: World) -> None:
    """And ordered again only when that is asked for."""
    world.plan()
    world.submit()
    first, second, third = world.hyp3.jobs.values()
    world.hyp3.give_up([first], log="Starting\nValueError: no DEM for this area\n\n")
    world.hyp3.give_up([second])
    world.hyp3.succeed([third])
    world.hyp3.expire([third])
    manifest = world.status()
    reasons = [order.reason(datetime.now(UTC)) for order in manifest.orders]
    assert reasons[0].startswith("HyP3 could not process it: ValueError: no DEM for this area (log: d3gm2hf49xd6jj")
    assert reasons[1] == "HyP3 could not process it, and keeps no log"
    assert re.fullmatch(r"kept until .* UTC, and not fetched by then", reasons[2])
    assert states(manifest) == {"failed": 2, "expired": 1}
    assert world.fetch().products == ()
    assert world.submit().ordered == ()
    assert len(world.submit(again=True).ordered) == 3
    world.hyp3.succeed()
    assert len(world.fetch().products) == 3
    assert [len(order.jobs) for order in hyp3.load(world.folder).orders] == [2, 2, 2]


def test_a_job_that_the_service_has_forgotten(world: World) -> None:
    """It is lost, not waited for for ever."""
    world.plan()
    world.submit()
    world.hyp3.jobs.clear()
    manifest = world.status()
    assert states(manifest) == {"failed": 3}
    assert manifest.orders[0].reason(datetime.now(UTC)) == "HyP3 does not know this job any more"


def test_a_status_that_is_not_known_is_told(world: World) -> None:
    """Not taken for another one."""
    world.plan()
    world.submit()
    next(iter(world.hyp3.jobs.values()))["status_code"] = "PAUSED"
    with pytest.raises(SourceError, match=r"a job of HyP3 is not valid: status: .*'PAUSED'"):
        world.status()


def test_what_expires_first_is_fetched_first(world: World) -> None:
    """Whatever the order of the scenes."""
    world.plan()
    world.submit()
    for job, days in zip(world.hyp3.jobs.values(), (9, 1, 5), strict=True):
        world.hyp3.succeed([job], days=days)
    fetched = world.fetch()
    assert [name.split("_")[2][:8] for name in fetched.products] == ["20190214", "20190310", "20190121"]


def test_an_order_is_followed_until_nothing_more_can_come(world: World) -> None:
    """Through hours in which the service is down."""
    world.plan()
    world.submit()
    looks = []
    for found in hyp3.follow(world.folder, hyp3.connect, interval=0.01):
        looks.append((len(found.products), found.expected))
        jobs = list(world.hyp3.jobs.values())
        if len(looks) == 1:
            world.hyp3.succeed(jobs[:1])
        elif len(looks) == 2:
            world.hyp3.fail(WEB_PAGE, times=_http.ATTEMPTS, when=listing)
        elif len(looks) == 3:
            world.hyp3.give_up(jobs[1:2])
            world.hyp3.succeed(jobs[2:])
    assert looks == [(0, 3), (1, 2), (0, 2), (1, 0)]


def test_a_login_that_ends_ends_the_following(world: World) -> None:
    """Waiting would not help."""
    world.plan()
    world.submit()
    world.hyp3.token = "another"
    with pytest.raises(hyp3.Refusal, match="401"):
        next(hyp3.follow(world.folder, hyp3.connect, interval=0.01))


def test_only_one_process_works_on_an_order(world: World) -> None:
    """The other is told."""
    from cubekit.sources._orders import alone

    world.plan()
    with alone(world.folder), pytest.raises(SourceError, match="another process works on the order"):
        world.submit()


def test_products_that_were_changed_since_are_left_out(world: World) -> None:
    """A mask that somebody removed would let layover pass for observed."""
    world.plan()
    world.submit()
    world.hyp3.succeed()
    world.fetch()
    first, second, _ = sorted((world.folder / "products").iterdir())
    next(first.glob("*_ls_map.tif")).unlink()
    raster = next(second.glob("*_VV.tif"))
    raster.write_bytes(raster.read_bytes() + b"x")
    with pytest.warns(SceneWarning, match="2 scenes of the order(?s:.*)was removed since(?s:.*)bytes, .* when it was"):
        found = find_scenes(LAKE, f"hyp3:{world.folder}")
    assert len(found) == 1


def test_scenes_that_have_not_come_are_told(world: World) -> None:
    """A study does not silently lack them."""
    world.plan()
    world.submit()
    world.hyp3.succeed(list(world.hyp3.jobs.values())[:1])
    world.fetch()
    with pytest.warns(SceneWarning, match="2 scenes of the order .* are left out:(?s:.*): pending"):
        assert len(find_scenes(LAKE, f"hyp3:{world.folder}")) == 1


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "holds no order .*plan one with: cubekit order plan"),
        ("{", "can't be read"),
        ("[]", "is not an order but a list"),
        ('{"version": 2, "name": "a", "api": "b", "resolution": 20}', "is not valid: version"),
        ('{"version": 1, "name": "a", "api": "b", "resolution": 20, "more": 1}', "more is not a key of an order"),
    ],
)
def test_folders_that_hold_no_order(tmp_path: Path, content: str | None, message: str) -> None:
    """Each message says what to do."""
    if content is not None:
        (tmp_path / hyp3.MANIFEST).write_text(content)
    with pytest.raises(ConfigError, match=message):
        find_scenes(LAKE, f"hyp3:{tmp_path}")


# Killed at any moment.


class Worker:
    """The script that orders and fetches, in forks of its own that die where they are told."""

    def __init__(self, world: World) -> None:
        self.process = subprocess.Popen(
            [sys.executable, ordering.__file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def work(self, what: str, dies_at: int, folder: Path) -> int:
        """How it ended: its exit code, or minus the signal."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps([what, dies_at, str(folder)]) + "\n")
        self.process.stdin.flush()
        return int(self.process.stdout.readline().removeprefix("ended "))

    def close(self) -> None:
        self.process.communicate()


@pytest.fixture
def worker(world: World) -> Iterator[Worker]:
    made = Worker(world)
    yield made
    made.close()


def contents(folder: Path) -> dict[str, str]:
    import hashlib

    return {
        re.sub(r"_[0-9A-F]{4}(?=[_/.])", "", str(path.relative_to(folder))): hashlib.sha256(
            path.read_bytes()
        ).hexdigest()
        for path in sorted((folder / "products").rglob("*"))
        if path.is_file()
    }


@pytest.mark.parametrize("stride", [9, pytest.param(1, marks=pytest.mark.slow)])
def test_killed_anywhere_nothing_is_ordered_twice_and_nothing_broken_used(
    world: World, worker: Worker, stride: int, record_property: Callable[[str, object], None]
) -> None:
    """An order is killed at each of its steps in turn, while it is sent and while it is fetched."""
    from cubekit.sources._orders import save

    world.cmr.granules = [catalogued(granule(FIRST)), catalogued(granule(FIRST + timedelta(days=24)))]
    planned, killed, expected, halves = world.plan(every="pass").manifest, {"submit": 0, "fetch": 0}, None, 0
    world.hyp3.lag = 0.05
    for dies_at in range(0, 1000, stride):
        home = world.folder.with_name(f"order-{dies_at}")
        home.mkdir()
        save(home, planned)
        world.hyp3.jobs.clear()
        ends = []
        for what in ("submit", "fetch"):
            ends.append(worker.work(what, dies_at, home))
            assert ends[-1] in {0, -9}
            if (home / "products").is_dir():
                for product in (home / "products").iterdir():
                    for raster in product.glob("*.tif"):
                        with rasterio.open(raster) as dataset:
                            assert np.isfinite(dataset.read()).all()
            if ends[-1]:
                killed[what] += 1
                halves += any(part.stat().st_size for part in home.glob(".work/.*.part"))
                assert worker.work(what, 0, home) == 0
            if what == "submit":
                assert world.hyp3.granules == sorted(order.granule for order in planned.orders)
                world.hyp3.succeed()
        assert len(find_scenes(LAKE, f"hyp3:{home}")) == 2
        expected = expected or contents(home)
        assert contents(home) == expected
        assert [path.name for path in home.glob(".*.tmp")] == []
        if dies_at and not any(ends):
            break
    assert killed["submit"] > 10 // stride
    assert killed["fetch"] > 40 // stride
    for what, times in killed.items():
        record_property(f"killed while it was to {what}", times)
    record_property("of those with a part of a zip on disk", halves)
    assert halves > 0


# Secrets.


def test_secrets_are_nowhere(world: World, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Neither token nor signatures are in files, logs or messages, whatever goes wrong."""
    caplog.set_level(logging.INFO)
    caplog.set_level(logging.DEBUG, "cubekit")
    world.plan()
    world.hyp3.fail(WEB_PAGE, when=posted)
    world.submit()
    jobs = list(world.hyp3.jobs.values())
    world.hyp3.give_up(jobs[:1], log="it broke")
    world.hyp3.succeed(jobs[1:])
    world.hyp3.files.pop(jobs[1]["files"][0]["s3"]["key"])
    world.hyp3.fail(WEB_PAGE, times=2, when=from_store)
    failed = world.fetch().failed
    with pytest.warns(SceneWarning) as warned:
        items = find_scenes(LAKE, f"hyp3:{world.folder}")
    said = [*failed.values(), caplog.text, str(items.to_dict()), *(str(warning.message) for warning in warned)]
    written = [path.read_bytes() for path in world.folder.rglob("*") if path.is_file()]
    for secret in (world.hyp3.token, world.hyp3.signature):
        assert not any(secret in text for text in said)
        assert not any(secret.encode() in content for content in written)
