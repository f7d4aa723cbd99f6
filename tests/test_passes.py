"""Passes: orbits from times, and scenes grouped by orbit, never by day."""

from __future__ import annotations

import csv
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pystac
import pytest

from cubekit.errors import SourceError
from cubekit.passes import ORBIT_SECONDS, absolute_orbit, ascending_node, group, relative_orbit

# Scene names of public products that carry both the time and the absolute orbit.
NAMES = [
    "S1A_IW_SLC__1SSV_20141028T161116_20141028T161146_003032",
    "S1A_IW_SLC__1SDV_20150316T023715_20150316T023745_005051",
    "S1A_IW_GRDH_1SDV_20160925T171609_20160925T171634_013212",
    "S1A_IW_GRDH_1SDV_20200103T233556_20200103T233621_030643",
    "S1A_IW_GRDH_1SDV_20250420T135654_20250420T135723_058841",
    "S1B_IW_GRDH_1SDV_20161121T010910_20161121T010939_003050",
    "S1B_IW_GRDH_1SDV_20170311T234311_20170311T234336_004667",
    "S1B_IW_GRDH_1SDV_20211216T032038_20211216T032103_030045",
    "S1C_IW_GRDH_1SDV_20250509T044227_20250509T044252_002249",
    "S1C_IW_GRDH_1SDV_20250730T142348_20250730T142417_003451",
    "S1C_IW_SLC__1SDV_20260531T214004_20260531T214029_007903",
    "S1C_IW_GRDH_1SDV_20260728T151018_20260728T151051_008745",
    "S1C_IW_GRDH_1SDV_20260826T005736_20260826T005758_009159",
    "S1D_IW_SLC__1SDV_20260420T055953_20260420T060020_002426",
    "S1D_IW_GRDH_1SDV_20260816T122141_20260816T122206_004151",
    "S1D_IW_GRDH_1SDV_20260929T111023_20260929T111053_004792",
]


def utc(text: str) -> datetime:
    return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)


@pytest.mark.parametrize("name", NAMES)
def test_orbit_from_time_is_that_of_the_name(name: str) -> None:
    """The orbit derived from the time is the one that real products carry, for all four platforms."""
    platform = f"sentinel-1{name[2].lower()}"
    assert absolute_orbit(platform, utc(name[17:32])) == int(name[-6:])


@pytest.mark.parametrize(
    ("platform", "orbit", "track"),
    [
        ("sentinel-1a", 30643, 121),  # its manifest says so
        ("sentinel-1b", 3050, 49),
        ("sentinel-1c", 8018, (8018 - 172) % 175 + 1),  # before it was moved
        ("sentinel-1c", 8019, (8019 - 99) % 175 + 1),  # after
        ("sentinel-1d", 4326, 85),
    ],
)
def test_relative_orbit(platform: str, orbit: int, track: int) -> None:
    """Relative orbits follow the table of offsets, with S1C's change after orbit 8018."""
    assert relative_orbit(platform, orbit) == track


def test_orbits_repeat_after_twelve_days() -> None:
    """175 orbits later the track is the same, 12 days later to the microsecond."""
    later = ascending_node("sentinel-1a", 40175) - ascending_node("sentinel-1a", 40000)
    assert abs(later - timedelta(days=12)) < timedelta(microseconds=500)
    assert relative_orbit("sentinel-1a", 40175) == relative_orbit("sentinel-1a", 40000)


@pytest.mark.parametrize("platform", ["sentinel-1a", "sentinel-1b", "sentinel-1c", "sentinel-1d"])
def test_node_and_orbit_are_inverse(platform: str) -> None:
    """Just after its node an orbit is that orbit, just before the next node still."""
    orbit = {"sentinel-1b": 20000, "sentinel-1d": 3000, "sentinel-1c": 9000}.get(platform, 30000)
    node = ascending_node(platform, orbit)
    assert absolute_orbit(platform, node + timedelta(seconds=1)) == orbit
    assert absolute_orbit(platform, node + timedelta(seconds=ORBIT_SECONDS - 1)) == orbit


@pytest.mark.parametrize(
    ("platform", "time"),
    [("sentinel-1a", "20140601T000000"), ("sentinel-1b", "20220301T000000"), ("sentinel-1c", "20241220T000000")],
)
def test_orbit_outside_operation_is_not_known(platform: str, time: str) -> None:
    """Before and after its operation a platform's orbit is not guessed."""
    with pytest.raises(SourceError, match="isn't known: it was not on its reference orbit"):
        absolute_orbit(platform, utc(time))


def test_unknown_platform_is_refused() -> None:
    """Another satellite has no orbit here."""
    with pytest.raises(SourceError, match="'sentinel-2a' isn't known; allowed are sentinel-1a"):
        relative_orbit("sentinel-2a", 1)


def test_real_scenes_have_the_published_tracks(npsar: Path) -> None:
    """All 299 real crops get the relative orbit and the direction of the authors' index."""
    with (npsar / "index.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        time = utc(row["date"].replace("-", "") + "T" + row["time_utc"].zfill(6))
        orbit = absolute_orbit(f"sentinel-1{row['platform'][2].lower()}", time)
        since = (time - ascending_node("sentinel-1a", orbit)).total_seconds() / ORBIT_SECONDS
        assert f"T{relative_orbit('sentinel-1a', orbit):03d}" == row["rel_orbit_inferred"]
        assert ("DESC" if 0.25 < since < 0.75 else "ASC") == row["orbit_dir_inferred"]
    assert len(rows) == 299


def item(name: str, time: str, orbit: int, **more: object) -> pystac.Item:
    properties = {
        "platform": "sentinel-1a",
        "sat:absolute_orbit": orbit,
        "sat:relative_orbit": 121,
        "sat:orbit_state": "descending",
        "processing:datetime": "2024-01-01T00:00:00+00:00",
        "cubekit:scene": name,
    }
    return pystac.Item(name, None, None, utc(time), properties | more)


def test_passes_are_orbits_not_days() -> None:
    """Across midnight one pass; on one day two directions, or two platforms, are different passes."""
    items = [
        item("a", "20200101T235958", 1),
        item("b", "20200102T000001", 1),  # the same pass, another day
        item("c", "20200102T121000", 8),
        item("d", "20200102T001100", 2, platform="sentinel-1b"),
        item("e", "20200102T001100", 2),
    ]
    passes = group(reversed(items))
    assert [(p.platform[-1], p.absolute_orbit, [s.id for s in p.scenes]) for p in passes] == [
        ("a", 1, ["a", "b"]),
        ("a", 2, ["e"]),
        ("b", 2, ["d"]),
        ("a", 8, ["c"]),
    ]
    assert passes[0].time == utc("20200101T235958")


def test_newest_processing_wins_whatever_the_order() -> None:
    """Of two processings the newest stays: by its processing time, not by its name or its place in the list."""
    old = item("zzz", "20200101T000000", 1, **{"cubekit:scene": "s"})
    new = item(
        "aaa", "20200101T000000", 1, **{"cubekit:scene": "s", "processing:datetime": "2024-06-01T00:00:00+00:00"}
    )
    for items in ([old, new], [new, old]):
        (only,) = group(items)
        assert only.granules == ("aaa",)
        assert only.processed == datetime(2024, 6, 1, tzinfo=UTC)


def test_equal_processings_of_one_scene_are_refused() -> None:
    """When neither is the newer, neither is chosen."""
    twins = [item(name, "20200101T000000", 1, **{"cubekit:scene": "s"}) for name in ("a", "b")]
    with pytest.raises(SourceError, match="a and b are the same scene, and neither tells"):
        group(twins)


def test_contradicting_scenes_are_refused() -> None:
    """Scenes of one orbit on two tracks can't be right."""
    items = [item("a", "20200101T000000", 1), item("b", "20200101T000003", 1, **{"sat:relative_orbit": 12})]
    with pytest.raises(SourceError, match=r"orbit 1 disagree: relative orbits \[12, 121\].*look at a, b"):
        group(items)
