"""Passes expected, found and usable: against dates of real scenes, counted by hand."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import factories
import pystac
import pytest
from shapely.geometry import box, mapping

from cubekit.errors import ConfigError, SourceError
from cubekit.lakes import catalogue
from cubekit.sources import find_scenes
from cubekit.sources.coverage import coverage, overflights, search, unusable

LAKE = catalogue()["tsho_rolpa"]
# A day on which S1A, by real scenes' names, passed over the three eastern lakes on each of their tracks.
REAL = {121: date(2021, 7, 9), 12: date(2021, 7, 25), 85: date(2021, 8, 23)}


def days(anchor: date, first: date, last: date) -> list[date]:
    """Every twelfth day, counted one by one from a day on which there was a pass."""
    day = anchor
    while day > first:
        day -= timedelta(days=12)
    found = []
    while day <= last:
        if day >= first:
            found.append(day)
        day += timedelta(days=12)
    return found


def counted(track: int, year: int) -> int:
    """Passes of all platforms: S1B is 6 days after S1A, and so is S1C until it was moved."""
    sixth = REAL[track] + timedelta(days=6)
    service = [
        (REAL[track], date(2014, 10, 3), date.max),
        (sixth, date(2016, 10, 1), date(2021, 12, 22)),
        (sixth, date(2025, 5, 20), date(2026, 5, 31)),
    ]
    first, last = date(year, 1, 1), date(year, 12, 31)
    return sum(
        len(days(anchor, max(first, begins), min(last, ends)))
        for anchor, begins, ends in service
        if begins <= last and ends >= first
    )


def rows(**options: object) -> dict[tuple[int | str, int], int | None]:
    return {
        (row.track, row.year): row.expected
        for row in coverage(LAKE, [], today=date(2025, 12, 31), **options)  # type: ignore[arg-type]
    }


def test_expected_are_the_days_of_the_repeat() -> None:
    """Counted by hand from real scenes, for every track and year of the mission."""
    assert rows() == {(track, year): counted(track, year) for track in REAL for year in range(2014, 2026)}


def test_both_platforms_and_one() -> None:
    """A pass every 6 days while S1B lived, every 12 days after."""
    expected = rows()
    assert expected[121, 2019] == 61
    assert expected[121, 2023] == 30


def test_nothing_is_expected_of_the_future() -> None:
    """From tomorrow on; nor beyond the period."""
    (row,) = [one for one in coverage(LAKE, [], "2023-07-01", today=date(2023, 7, 31)) if one.track == 121]
    assert row.expected == len(days(REAL[121], date(2023, 7, 1), date(2023, 7, 31)))
    assert coverage(LAKE, [], "2030-01-01", "2030-12-31", today=date(2025, 12, 31)) == []


def test_an_archive_that_begins_later_expects_later() -> None:
    """Nothing of OPERA before 2016-04-14; the same as of others from 2017 on."""
    every, opera = rows(), rows(source="opera?polarisations=vv")
    assert opera == rows(source="opera")
    assert {year for _, year in opera} == set(range(2016, 2026))
    assert opera[121, 2016] == counted(121, 2016) - len(days(REAL[121], date(2016, 1, 1), date(2016, 4, 13)))
    assert all(opera[key] == every[key] for key in opera if key[1] > 2016)


def test_only_what_is_asked_for_is_expected() -> None:
    """A search of one track, or of one platform, has not missed the others."""
    opera = rows(source="opera")
    assert rows(source="opera?tracks=12") == {key: count for key, count in opera.items() if key[0] == 12}
    assert rows(source="opera?direction=descending") == {key: one for key, one in opera.items() if key[0] == 121}
    alone = rows(source="opera?platforms=sentinel-1a")
    assert {alone[121, 2019], opera[121, 2019]} == {len(days(REAL[121], date(2019, 1, 1), date(2019, 12, 31))), 61}


def test_a_period_that_ends_before_it_starts_is_refused() -> None:
    """As everywhere."""
    with pytest.raises(ConfigError, match="swap them"):
        coverage(LAKE, [], "2020-01-02", "2020-01-01")


@pytest.fixture(scope="module")
def items(tmp_path_factory: pytest.TempPathFactory) -> list[pystac.Item]:
    """Three passes of T121, of which one has two bursts, and a newer processing of one of them."""
    folder = tmp_path_factory.mktemp("scenes")
    lake = LAKE.at_spacing(30)
    for time in ("20210709T001135", "20210721T001135", "20220105T001137"):
        factories.opera(folder, lake, time)
    factories.opera(folder, lake, "20210709T001138", burst="T121-257649-IW2")
    factories.opera(folder, lake, "20210721T001135", processed="20230101T000000")
    return list(find_scenes(LAKE, f"folder:{folder}"))


def test_found_are_passes_not_granules(items: list[pystac.Item]) -> None:
    """Bursts of a pass are one, processings of a burst are one; years are those of the passes."""
    found = {(row.track, row.year): (row.found, row.usable) for row in coverage(LAKE, items) if row.found}
    assert len(items) == 5
    assert found == {(121, 2021): (2, 2), (121, 2022): (1, 1)}


def test_a_track_that_does_not_see_the_lake_is_not_expected(items: list[pystac.Item]) -> None:
    """T085 ends before Chamlang Tsho: what is found there is listed, what is expected isn't known."""
    moved = [one.clone() for one in items]
    for one in moved:
        one.properties |= {"sat:relative_orbit": 85, "sat:orbit_state": "ascending"}
    lake = catalogue()["chamlang_tsho"]
    (row, *_) = [one for one in coverage(lake, moved, "2021-01-01", "2021-12-31") if one.track == 85]
    assert (row.expected, row.found, row.usable) == (None, 2, 0)


@pytest.mark.parametrize(("share", "fits"), [(1.0, True), (0.95, True), (0.8, False), (0.0, False)])
def test_a_footprint_must_cover_the_lake(items: list[pystac.Item], share: float, fits: bool) -> None:
    """Nine tenths of the outline; that two bursts cover it together is enough."""
    west, south, east, north = LAKE.outline.bounds
    low, high = west, east
    for _ in range(40):  # the longitude that cuts off this share
        middle = (low + high) / 2
        part = LAKE.outline.intersection(box(west, south, middle, north)).area / LAKE.outline.area
        low, high = (middle, high) if part < share else (low, middle)
    one = overflights(items)[0]
    halves = [box(west - 1, south - 1, west + (high - west) / 2, north + 1)]
    halves.append(box(west + (high - west) / 2, south - 1, high + (1 if share == 1 else 0), north + 1))
    scenes = tuple(scene.clone() for scene in one.scenes)
    for scene, half in zip(scenes, halves, strict=True):
        scene.geometry = mapping(half)
    reason = unusable(LAKE, replace(one, scenes=scenes))
    assert (reason is None) == fits
    assert fits or "less than 90%" in str(reason)


def test_sentinel_1c_is_usable_once_calibrated(items: list[pystac.Item]) -> None:
    """From 2025-05-20 on."""
    one = replace(overflights(items)[0], platform="sentinel-1c", time=datetime(2025, 5, 19, tzinfo=UTC))
    assert "not calibrated before 2025-05-20" in str(unusable(LAKE, one))
    assert unusable(LAKE, replace(one, time=datetime(2025, 5, 20, tzinfo=UTC))) is None


def test_optical_scenes_are_passes_of_their_own_track(items: list[pystac.Item]) -> None:
    """Tiles of one day are one pass; nothing is expected; they come after the radar's tracks."""
    optical = []
    for index, (time, platform) in enumerate(
        [("2021-07-10T04:47:01", "sentinel-2a"), ("2021-07-10T04:47:15", "sentinel-2a"), ("2021-07-15T04:47:01", "b")]
    ):
        one = items[0].clone()
        one.id, one.datetime = f"tile{index}", datetime.fromisoformat(time).replace(tzinfo=UTC)
        for name in ("sat:absolute_orbit", "sat:orbit_state"):
            del one.properties[name]
        one.properties |= {"cubekit:sensor": "sentinel-2", "cubekit:track": "S2-R019", "platform": platform}
        optical.append(one)
    found = coverage(LAKE, [*optical, *items], "2021-01-01", "2021-12-31")
    last = found[-1]
    assert (last.track, last.direction, last.expected, last.found, last.usable) == ("S2-R019", "", None, 2, 2)
    assert list(dict.fromkeys(row.track for row in found)) == [12, 85, 121, "S2-R019"]
    assert [row.track for row in coverage(LAKE, optical, "2021-01-01", "2021-12-31")] == ["S2-R019"]


def test_a_search_tells_its_sources_fault(tmp_path) -> None:
    """No count stands where nothing could be searched."""
    with pytest.raises(SourceError, match="does not exist"):
        search(LAKE, f"folder:{tmp_path / 'nope'}")


@pytest.mark.parametrize("name", ["tsho_rolpa", "tilicho", "gokyo"])
def test_real_passes_were_expected(npsar, name: str) -> None:
    """Every real pass is on a track that sees the lake, and no year has more than expected."""
    lake = catalogue()[name]
    found = coverage(lake, find_scenes(lake, f"folder:{npsar / 'rtc'}"))
    assert sum(row.found for row in found) == {"tsho_rolpa": 66, "tilicho": 30, "gokyo": 66}[name]
    assert all(row.expected is not None and row.found <= row.expected for row in found)
