"""The simulated archive: names, tags, physics, truth, resume."""

import json
import shutil
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely

from cubekit import lakes
from cubekit.errors import ConfigError, SourceError
from cubekit.passes import ascending_node, group, relative_orbit
from cubekit.sources import _geometry, _scenes, find_scenes, names, simulated

LAKE = lakes.catalogue()["chamlang_tsho"]


def read(file):
    with rasterio.open(file) as dataset:
        return dataset.read(1)


def tags(file):
    with rasterio.open(file) as dataset:
        return dataset.tags()


def of_layer(files, layer):
    return [file for file in files if file.stem.endswith(f"_{layer}")]


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Three months of two satellites and two tracks."""
    home = tmp_path_factory.mktemp("archive")
    return home, simulated.write_archive(LAKE, home, start="2019-06-01", end="2019-08-31", seed=3)


def test_granules_have_three_files_with_opera_names(archive):
    """Every file's name is a granule's, and each granule has VV, VH and a mask."""
    _, files = archive
    parsed = [names.parse(file.name) for file in files]
    assert all(isinstance(one, names.ProductFile) for one in parsed)
    layers = pd.Series([one.layer for one in parsed]).groupby([one.product for one in parsed]).agg(sorted)
    assert len(layers) > 40
    assert all(found == ["mask", "vh", "vv"] for found in layers)


def test_tags_agree_with_names_and_orbits(archive):
    """Track, orbit, times and burst in the tags agree with the name and with the known orbits."""
    _, files = archive
    for file in files[::7]:
        found, name = tags(file), names.parse(file.name)
        orbit = int(found["ABSOLUTE_ORBIT_NUMBER"])
        start = datetime.strptime(found["ZERO_DOPPLER_START_TIME"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        processed = datetime.strptime(found["PROCESSING_DATETIME"], "%Y-%m-%dT%H:%M:%S.%fZ").replace(tzinfo=UTC)
        assert (start, processed) == (name.start, name.processed)
        assert int(found["TRACK_NUMBER"]) == name.track == relative_orbit(name.platform, orbit)
        assert found["PLATFORM"].lower() == name.platform
        assert found["BURST_ID"] == file.name.split("_")[3].lower().replace("-", "_")
        assert found["SOFTWARE_VERSION"].startswith("cubekit-simulator ")
        assert float(found["CUBEKIT_LOOKS"]) == simulated.LOOKS
        since_node = start - ascending_node(name.platform, orbit)
        minutes = since_node / timedelta(minutes=1)
        if found["ORBIT_PASS_DIRECTION"] == "ascending":
            assert minutes == pytest.approx(7.4, abs=0.2)
        else:
            assert found["ORBIT_PASS_DIRECTION"] == "descending"
            assert minutes == pytest.approx(41.9, abs=0.2)


@pytest.mark.parametrize(
    ("name", "track", "direction", "clock", "bursts"),
    [
        ("tsho_rolpa", 12, "ascending", "12:14", range(23784, 23792)),
        ("gokyo", 85, "ascending", "12:22", range(180581, 180588)),
        ("chamlang_tsho", 121, "descending", "00:11", range(258655, 258668)),
        ("tilicho", 19, "descending", "00:19", range(39567, 39575)),
        ("tilicho", 92, "descending", "00:27", range(196365, 196372)),
        ("tilicho", 158, "ascending", "12:30", range(337385, 337393)),
    ],
)
def test_views_agree_with_the_real_archive(name, track, direction, clock, bursts):
    """Tracks, pass times and burst numbers over the lakes are the real ones (ESA's burst map)."""
    view = {one.track: one for one in _geometry.views(lakes.catalogue()[name])}[track]
    assert view.direction == direction
    assert set(view.bursts) <= set(bursts)
    node = ascending_node("sentinel-1a", 30643 + track - 121)
    assert f"{node + view.start(view.bursts[0]):%H:%M}" == clock


@pytest.mark.parametrize(
    ("name", "tracks", "nearest"),
    [
        ("tsho_rolpa", {12, 85, 121}, {12, 121}),
        ("gokyo", {12, 85, 121}, {12, 121}),
        ("chamlang_tsho", {12, 121}, {12, 121}),  # real scenes of track 85 are empty here
        ("tilicho", {19, 92, 158}, {92, 158}),
    ],
)
def test_lakes_lie_in_the_swaths_that_really_see_them(name, tracks, nearest):
    """All tracks of the study's real scenes, and no others; by default one of each direction."""
    lake = lakes.catalogue()[name]
    assert {one.track for one in _geometry.views(lake)} == tracks
    assert {one.track for one in _geometry.chosen(lake, None)} == nearest


def test_grid_holds_the_lattice_and_lies_on_it(archive):
    """The bursts of a pass together cover the 30 m lattice, pixel on pixel."""
    home, _ = archive
    lattice = LAKE.at_spacing(30).lattice
    for granules in simulated.read_truth(home)["granules"]:
        covered = np.zeros(lattice.shape, int)
        for granule in json.loads(granules):
            with rasterio.open(home / f"{granule}_VV.tif") as dataset:
                assert dataset.crs.to_epsg() == LAKE.epsg
                assert dataset.dtypes == ("float32",)
                assert np.isnan(dataset.nodata)
                assert (dataset.compression.name, dataset.block_shapes) == ("deflate", [(512, 512)])
                assert dataset.transform.a == 30
                assert dataset.transform.c % 30 == dataset.transform.f % 30 == 0
                column, row = ~dataset.transform @ (lattice.transform.c, lattice.transform.f)
                inside = np.zeros((900, 900), int)
                inside[300 : 300 + dataset.height, 300 : 300 + dataset.width] = 1
                covered += inside[300 + round(row) :, 300 + round(column) :][:256, :256]
        assert covered.min() >= 1


def test_masks_tell_shadow_layover_and_no_data(archive):
    """Layover keeps its values, shadow and no data are NaN, and 255 stands only where VV and VH are NaN."""
    _, files = archive
    seen = set()
    for vv, vh, mask in zip(*(of_layer(files, layer) for layer in ("VV", "VH", "mask")), strict=True):
        power, cross, codes = read(vv), read(vh), read(mask)
        seen |= set(np.unique(codes))
        assert np.isnan(power[(codes == 1) | (codes == 3)]).all()
        assert np.isnan(power[codes == 255]).all()
        assert np.isfinite(power[(codes == 0) | (codes == 2)]).all()
        assert (np.isnan(power) == np.isnan(cross)).all()
        assert np.nanmin(power) > 0
        assert np.nanmean(power[codes == 2]) > 2 * np.nanmean(power[codes == 0])
    assert seen == {0, 1, 2, 3, 255}


def test_layover_lies_opposite_for_the_two_directions(archive):
    """Ascending tracks look east: layover east of the lake, shadow west of it; descending the reverse."""
    _, files = archive
    middle = LAKE.project(LAKE.outline).centroid.x
    for direction, sign in (("ascending", 1), ("descending", -1)):
        file = next(file for file in of_layer(files, "mask") if tags(file)["ORBIT_PASS_DIRECTION"] == direction)
        with rasterio.open(file) as dataset:
            codes, transform = dataset.read(1), dataset.transform
        x = transform.c + transform.a * (np.arange(codes.shape[1]) + 0.5) - middle
        east = {code: np.broadcast_to(x, codes.shape)[codes == code].mean() for code in (1, 2)}
        assert sign * east[2] > 100 > -100 > sign * east[1]


def test_some_passes_are_cut_by_the_swath_edge(archive):
    """A minority of passes has pixels without data on the lattice."""
    _, files = archive
    ascending = [read(file) for file in of_layer(files, "mask") if "_T012-" in file.name]
    cut = [bool((codes == 255).any()) for codes in ascending]
    assert 0 < sum(cut) < len(cut) / 2


def test_bursts_of_a_pass_agree_where_they_overlap(archive):
    """Descending passes come in two bursts, seconds apart, with equal values on the same ground and no gap between."""
    home, _ = archive
    truth = simulated.read_truth(home)
    counts = truth["granules"].map(lambda text: len(json.loads(text))).groupby(truth["track"]).unique()
    assert {track: list(count) for track, count in counts.items()} == {12: [1], 121: [2]}
    for text in truth["granules"][truth["track"] == 121]:
        north, south = sorted(json.loads(text))
        first, second = (names.parse(f"{granule}_VV.tif").start for granule in (north, south))
        assert timedelta(seconds=2) <= second - first <= timedelta(seconds=3)
        for layer in ("VV", "VH", "mask"):
            with (
                rasterio.open(home / f"{north}_{layer}.tif") as one,
                rasterio.open(home / f"{south}_{layer}.tif") as two,
            ):
                offset = round((one.transform.f - two.transform.f) / 30)
                above, below = one.read(1)[offset:], two.read(1)[: one.height - offset]
            if layer == "mask":
                both = (above != 255) & (below != 255)
                edge = (above == 255) & (below == 255)
                assert edge.mean() < 0.6
            else:
                both = np.isfinite(above) & np.isfinite(below)
            assert both.sum() > 5000
            np.testing.assert_array_equal(above[both], below[both])


def test_looks_measured_on_water_are_the_declared(archive):
    """Mean squared over variance, in open water, pooled over passes, is the number of looks within 5 %; VV and VH."""
    _, files = archive
    water = LAKE.project(LAKE.outline).buffer(-60)
    for layer in ("VV", "VH"):
        normalised = []
        for file in of_layer(files, layer):
            with rasterio.open(file) as dataset:
                transform, power = dataset.transform, dataset.read(1)
            inside = rasterio.features.geometry_mask([water], power.shape, transform, invert=True)
            found = power[inside & np.isfinite(power)]
            if found.size > 100:
                normalised.append(found / found.mean())
        pooled = np.concatenate(normalised).astype(float)
        assert pooled.size > 10_000
        assert 1 / pooled.var() == pytest.approx(simulated.LOOKS, rel=0.05)


def test_speckle_is_independent_between_pixels_and_polarisations(archive):
    """No correlation with the next row, the next column or the other polarisation, in open water."""
    _, files = archive
    shrunken = LAKE.project(LAKE.outline).buffer(-90)
    pairs = {"row": [], "column": [], "polarisation": []}
    for file in of_layer(files, "VV"):
        with rasterio.open(file) as dataset:
            power, transform = dataset.read(1), dataset.transform
        cross = read(file.with_name(file.name.replace("_VV", "_VH")))
        inside = rasterio.features.geometry_mask([shrunken], power.shape, transform, invert=True) & np.isfinite(power)
        if inside.sum() < 100:
            continue
        power, cross = power / power[inside].mean() - 1, cross / cross[inside].mean() - 1
        below, right = inside & np.roll(inside, -1, 0), inside & np.roll(inside, -1, 1)
        pairs["row"].append(np.stack([power[below], np.roll(power, -1, 0)[below]]))
        pairs["column"].append(np.stack([power[right], np.roll(power, -1, 1)[right]]))
        pairs["polarisation"].append(np.stack([power[inside], cross[inside]]))
    for kind, found in pairs.items():
        assert abs(np.corrcoef(np.concatenate(found, axis=1))[0, 1]) < 0.03, kind


def test_water_is_darker_than_land_and_stays_in_real_ranges(archive):
    """Mean levels of water and land per pass lie in the ranges the module cites."""
    _, files = archive
    outline = LAKE.project(LAKE.outline)
    limits = {"VV": ((-27, -11.5), (-10, -3)), "VH": ((-29, -23), (-17, -10))}
    for layer, (water_range, land_range) in limits.items():
        for file in of_layer(files, layer):
            with rasterio.open(file) as dataset:
                power, transform = dataset.read(1), dataset.transform
            lake = rasterio.features.geometry_mask([outline.buffer(-60)], power.shape, transform, invert=True)
            land = rasterio.features.geometry_mask([outline.buffer(600)], power.shape, transform)
            if np.isfinite(power[lake]).sum() > 100:
                assert water_range[0] < 10 * np.log10(np.nanmean(power[lake])) < water_range[1]
            assert land_range[0] < 10 * np.log10(np.nanmean(power[land])) < land_range[1]


@pytest.mark.parametrize("name", ["tsho_rolpa", "chamlang_tsho", "tilicho", "gokyo"])
@pytest.mark.parametrize("year", [2016, 2020, 2026])
def test_water_fractions_sum_to_the_area_of_the_polygon(name, year):
    """Sub-pixel shares add up to the polygon's area within 0.1 %, on any date."""
    lake = lakes.catalogue()[name].at_spacing(30)
    polygon = _scenes.lake_polygon(lake, datetime(year, 8, 3, tzinfo=UTC), 20.0)
    left, _, _, top = lake.lattice.boundingbox.bbox
    fraction = _scenes.water_fraction(polygon, (left, top), (256, 256))
    assert fraction.min() == 0
    assert fraction.max() == 1
    assert fraction.sum(dtype=float) * 900 == pytest.approx(polygon.area, rel=1e-3)


def test_water_fraction_of_known_shapes():
    """Half a pixel, whole pixels and shapes across or beyond the edge of the grid."""
    half = _scenes.water_fraction(shapely.box(15, -60, 60, -30), (0.0, 0.0), (3, 4))
    np.testing.assert_allclose(half, [[0, 0, 0, 0], [0.5, 1, 0, 0], [0, 0, 0, 0]])
    across = _scenes.water_fraction(shapely.box(-500, -45, 30, 500), (0.0, 0.0), (3, 4))
    np.testing.assert_allclose(across, [[1, 0, 0, 0], [0.5, 0, 0, 0], [0, 0, 0, 0]])
    beyond = _scenes.water_fraction(shapely.box(900, 900, 990, 990), (0.0, 0.0), (3, 4))
    assert not beyond.any()


def test_mixed_pixels_follow_the_shares_of_land_and_water(tmp_path):
    """With (almost) no speckle, power at the shore is the land's and the water's weighted by their shares."""
    quiet = simulated.write_archive(LAKE, tmp_path, start="2020-07-01", end="2020-07-12", looks=1e6, tracks=[12])
    file = next(
        one for one in of_layer(quiet, "VV") if (read(one.with_name(one.name.replace("_VV", "_mask"))) != 255).all()
    )
    with rasterio.open(file) as dataset:
        power, corner = dataset.read(1), (dataset.transform.c, dataset.transform.f)
    time = names.parse(file.name).start
    fraction = _scenes.water_fraction(_scenes.lake_polygon(LAKE, time, 20.0), corner, power.shape)
    water = power[fraction == 1].mean()
    # Seen once more: the shore's excess over water is land times (1 - share), and land's mean is known from around.
    shore = (fraction > 0.2) & (fraction < 0.8)
    around = (
        (fraction == 0)
        & np.isfinite(power)
        & (_scenes.water_fraction(_scenes.lake_polygon(LAKE, time, 20.0).buffer(90), corner, power.shape) > 0)
    )
    land = power[around].mean()
    slope = np.polyfit(1 - fraction[shore], power[shore] - water, 1)[0]
    assert slope == pytest.approx(land - water, rel=0.25)


def test_growth_is_recovered_from_truth(tmp_path):
    """After the reference the area in Julys grows by the width of the lake at the cut times the distance."""
    simulated.write_archive(LAKE, tmp_path, start="2021-07-01", end="2021-07-12", growth_m_per_year=30, tracks=[12])
    simulated.write_archive(LAKE, tmp_path, start="2025-07-01", end="2025-07-12", growth_m_per_year=30, tracks=[12])
    truth = simulated.read_truth(tmp_path).iloc[[0, -1]]
    years = np.diff(truth["time"])[0] / np.timedelta64(1, "D") / 365.25
    _, outline = _scenes.along_axis(LAKE)
    west, south, east, north = outline.bounds
    cut = west + 0.75 * (east - west)
    width = outline.intersection(shapely.LineString([(cut, south), (cut, north)])).length
    rate = np.diff(truth["water_km2"])[0] / years
    assert rate == pytest.approx(30 * width / 1e6, rel=0.02)


@pytest.mark.parametrize("name", ["tsho_rolpa", "chamlang_tsho", "tilicho", "gokyo"])
def test_outline_is_the_real_one_at_the_reference_and_grows_steadily(name):
    """The area is the outline's at the reference (season aside), and larger every year, before and after."""
    lake = lakes.catalogue()[name]
    still = [_scenes.lake_polygon(lake, datetime(year, 7, 1, tzinfo=UTC), 0.0).area for year in (2015, 2020, 2026)]
    assert max(still) / min(still) - 1 < 1e-3  # leap days
    real = lake.project(lake.outline)
    assert abs(still[1] - real.area) < 2.5 * real.length
    areas = [_scenes.lake_polygon(lake, datetime(year, 7, 1, tzinfo=UTC), 20.0).area for year in range(2015, 2027)]
    assert (np.diff(areas) > 0).all()
    assert areas[5] == pytest.approx(still[1], rel=1e-6)


def test_season_moves_the_shore():
    """The lake is largest in early September and smallest half a year later, by up to 2 m of shore each way."""
    times = [datetime(2021, 1, 1, tzinfo=UTC) + timedelta(days=day) for day in range(0, 365, 5)]
    areas = np.array([_scenes.lake_polygon(LAKE, time, 0.0).area for time in times])
    assert times[areas.argmax()].month in {8, 9}
    assert times[areas.argmin()].month in {2, 3}
    length = LAKE.project(LAKE.outline).length
    assert np.ptp(areas) == pytest.approx(4 * length, rel=0.1)


def test_truth_is_the_polygon_within_the_aoi(archive):
    """Columns, order and areas of the truth; one row a pass."""
    home, files = archive
    truth = simulated.read_truth(home)
    assert list(truth) == ["lake", "time", "track", "platform", "absolute_orbit", "water_km2", "granules"]
    assert truth["time"].is_monotonic_increasing
    assert not truth.duplicated(["platform", "absolute_orbit"]).any()
    assert set(truth["platform"]) == {"sentinel-1a", "sentinel-1b"}
    assert sum(len(json.loads(text)) for text in truth["granules"]) * 3 == len(files)
    row = truth.iloc[10]
    polygon = _scenes.lake_polygon(LAKE, row["time"].tz_localize("UTC").to_pydatetime(), 20.0)
    assert row["water_km2"] == pytest.approx(polygon.intersection(LAKE.project(LAKE.aoi)).area / 1e6, rel=1e-9)


def test_resume_writes_only_what_is_missing_and_the_same(archive, tmp_path):
    """Passes do not depend on order, on the period or on what exists: removed files come back byte for byte."""
    home, files = archive
    copy = tmp_path / "copy"
    shutil.copytree(home, copy)
    lost = [copy / file.name for file in files[5:9]]
    for file in lost:
        file.unlink()
    kept = {file.name: (copy / file.name).stat().st_mtime_ns for file in files[30:]}
    again = simulated.write_archive(LAKE, copy, start="2019-06-01", end="2019-08-31", seed=3)
    assert [file.name for file in again] == [file.name for file in files]
    assert kept == {name: (copy / name).stat().st_mtime_ns for name in kept}
    shorter = simulated.write_archive(LAKE, tmp_path / "short", start="2019-07-01", end="2019-07-08", seed=3)
    assert shorter
    for file in [*lost, *shorter]:
        assert file.read_bytes() == (home / file.name).read_bytes()
    assert (copy / simulated.TRUTH).read_bytes() == (home / simulated.TRUTH).read_bytes()
    assert not list(copy.glob(".*"))


def test_truth_grows_with_the_archive(tmp_path):
    """A second period adds its passes to the truth and keeps the first's."""
    simulated.write_archive(LAKE, tmp_path, start="2023-07-01", end="2023-07-12")
    before = simulated.read_truth(tmp_path)
    simulated.write_archive(LAKE, tmp_path, start="2022-07-01", end="2022-07-12")
    after = simulated.read_truth(tmp_path)
    assert (len(before), len(after)) == (2, 4)
    pd.testing.assert_frame_equal(after.tail(2).reset_index(drop=True), before)


def test_a_period_without_passes_keeps_the_truth(tmp_path):
    """No pass, no row: before, between and after periods that have some."""
    sizes = []
    for first, last in (("07-01", "07-01"), ("07-01", "07-12"), ("07-01", "07-01"), ("07-13", "07-24")):
        simulated.write_archive(LAKE, tmp_path, start=f"2023-{first}", end=f"2023-{last}")
        sizes.append(len(simulated.read_truth(tmp_path)))
    assert sizes == [0, 2, 2, 4]


def test_seed_changes_values_and_scenes_of_lakes_differ(tmp_path):
    """Another seed is another draw of the same passes."""
    options = {"start": "2023-07-01", "end": "2023-07-12", "tracks": [12]}
    one = simulated.write_archive(LAKE, tmp_path / "one", seed=1, **options)
    two = simulated.write_archive(LAKE, tmp_path / "two", seed=2, **options)
    assert tags(one[0])["ABSOLUTE_ORBIT_NUMBER"] == tags(two[0])["ABSOLUTE_ORBIT_NUMBER"]
    assert not np.array_equal(read(one[0]), read(two[0]), equal_nan=True)


def test_satellites_follow_their_lives():
    """S1B until December 2021; S1C from 20 May 2025; 12 days apart, 24 when asked for; no pass lost at midnight."""
    draws = _scenes.Scenery(LAKE.at_spacing(30), 0, 6.0, 20.0).draws
    view = _geometry.chosen(LAKE, [121])[0]

    def times(platform, first, last, cycles=1):
        found = _geometry.passes(view, first, last, cycles=cycles, draws=draws)
        return [one.starts[0] for one in found if one.platform == platform]

    decade = (date(2014, 10, 1), date(2026, 12, 31))
    assert min(times("sentinel-1b", *decade)).date() >= date(2016, 10, 1)
    assert max(times("sentinel-1b", *decade)).date() <= date(2021, 12, 22)
    assert min(times("sentinel-1c", *decade)).date() >= date(2025, 5, 20)
    for cycles in (1, 2):
        gaps = np.diff(times("sentinel-1a", *decade, cycles)) / timedelta(days=1)
        assert gaps == pytest.approx(np.full(len(gaps), 12.0 * cycles), abs=1e-3)
    for track in (12, 121):
        view = _geometry.chosen(LAKE, [track])[0]
        every = [date(2019, 7, 1) + timedelta(days=day) for day in range(24)]
        singly = [time for day in every for time in times("sentinel-1a", day, day)]
        assert singly == times("sentinel-1a", every[0], every[-1])
        assert len(singly) == 2
    day = times("sentinel-1a", *decade)[40].date()
    assert len(times("sentinel-1a", day, day)) == 1
    assert times("sentinel-1a", day + timedelta(days=1), day + timedelta(days=11)) == []


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"start": None}, "needs its first and last day"),
        ({"end": "2023-06-01"}, "ends"),
        ({"seed": -1}, "seed -1: 0 or more"),
        ({"looks": 0}, "looks 0: above 0"),
        ({"growth_m_per_year": -5}, "growth -5 m a year: 0 to 100"),
        ({"revisit_days": 10}, "a multiple of 12"),
        ({"tracks": [13]}, r"tracks \[13\]: chamlang_tsho is seen by \[12, 121\] only"),
        ({"tracks": []}, "give some of these"),
    ],
)
def test_bad_parameters_are_refused_before_anything_is_written(tmp_path, changed, message):
    """The message names the parameter, what was given and what is allowed."""
    options = {"start": "2023-07-01", "end": "2023-07-12", **changed}
    with pytest.raises(ConfigError, match=message):
        simulated.write_archive(LAKE, tmp_path / "none", **options)
    assert not (tmp_path / "none").exists()


def test_another_archive_in_the_folder_is_refused(tmp_path):
    """Scenes of two simulations never share a folder; the message tells what differs."""
    options = {"start": "2023-07-01", "end": "2023-07-12", "tracks": [12]}
    simulated.write_archive(LAKE, tmp_path, **options)
    with pytest.raises(ConfigError, match=r"made with seed 0 \(asked: 1\), growth_m_per_year 20.0 \(asked: 5.0\)"):
        simulated.write_archive(LAKE, tmp_path, seed=1, growth_m_per_year=5, **options)


def test_read_truth_of_no_archive(tmp_path):
    """A folder without truth is refused."""
    with pytest.raises(SourceError, match="give the folder of an archive"):
        simulated.read_truth(tmp_path)


def test_find_makes_the_archive_and_finds_its_passes(tmp_path):
    """The source writes what is missing, and its items group into the passes of the truth."""
    uri = f"simulated:{tmp_path}?seed=2&growth=10"
    items = find_scenes(LAKE, uri, "2021-07-01", "2021-07-31")
    assert {item.properties["cubekit:source"] for item in items} == {"simulated"}
    assert {item.properties["cubekit:looks"] for item in items} == {simulated.LOOKS}
    truth = simulated.read_truth(tmp_path / "chamlang_tsho")
    passes = group(items)
    assert [one.absolute_orbit for one in passes] == list(truth["absolute_orbit"])
    assert [one.track for one in passes] == list(truth["track"])
    assert [one.time.replace(tzinfo=None) for one in passes] == list(truth["time"])
    assert [json.dumps(one.granules) for one in passes] == list(truth["granules"])
    part = find_scenes(LAKE, uri, "2021-07-10", "2021-07-20")
    assert 0 < len(part) < len(items)


def test_find_needs_a_period_and_a_whole_seed(tmp_path):
    """An open period would simulate forever; half a seed is a mistake."""
    with pytest.raises(ConfigError, match="needs its first and last day"):
        simulated.find(LAKE, (date(2021, 7, 1), None), tmp_path)
    with pytest.raises(ConfigError, match=r"seed 1\.5 is not a whole number"):
        simulated.find(LAKE, (date(2021, 7, 1), date(2021, 7, 2)), tmp_path, seed=1.5)
    with pytest.raises(ConfigError, match=r"revisit nan is not a whole number; give e\.g\. 12"):
        simulated.find(LAKE, (date(2021, 7, 1), date(2021, 7, 2)), tmp_path, revisit=float("nan"))


def test_uri_sets_every_parameter(tmp_path):
    """Seed, growth, looks and revisit of the URI reach the archive."""
    uri = f"simulated:{tmp_path}?seed=1&growth=25&looks=4.5&revisit=24"
    items = find_scenes(LAKE, uri, "2023-06-01", "2023-07-31")
    made = json.loads((tmp_path / "chamlang_tsho" / "archive.json").read_text())
    assert (made["seed"], made["growth_m_per_year"], made["looks"]) == (1, 25.0, 4.5)
    assert {item.properties["cubekit:looks"] for item in items} == {4.5}
    for track in (12, 121):
        times = [one.time for one in group(items) if one.track == track]
        assert len(times) >= 2
        gaps = np.diff(times) / timedelta(days=1)
        assert gaps == pytest.approx(np.full(len(gaps), 24.0), abs=1e-3)


def test_a_longer_revisit_leaves_out_what_a_shorter_has_written(tmp_path):
    """What is found does not depend on what another call has written before; and nothing is an error."""
    period = ("2023-06-01", "2023-07-31")
    alone = find_scenes(LAKE, f"simulated:{tmp_path / 'alone'}?revisit=24", *period)
    every = find_scenes(LAKE, f"simulated:{tmp_path / 'both'}", *period)
    after = find_scenes(LAKE, f"simulated:{tmp_path / 'both'}?revisit=24", *period)
    assert [item.id for item in after] == [item.id for item in alone]
    assert len(every) > len(after)
    days = {item.datetime.date() for item in every} - {item.datetime.date() for item in after}
    with pytest.raises(SourceError, match=r"no pass of chamlang_tsho between .* with a revisit of 24 days"):
        find_scenes(LAKE, f"simulated:{tmp_path / 'both'}?revisit=24", min(days), min(days))


@pytest.mark.parametrize(
    ("query", "message"),
    [
        ("sead=1", "no parameter sead; allowed are seed, growth, looks, revisit$"),
        ("seed=1&tracks=12&speckle=0", "no parameter tracks, speckle; allowed are"),
        ("lake=1", "no parameter lake; allowed are"),
        ("seed=one", "'seed=one' of the simulated source are not name=number pairs"),
        ("seed=", "'seed=' of the simulated source are not name=number pairs"),
        ("seed", "'seed' of the simulated source are not name=number pairs"),
        ("seed=1&seed=2", "name one of them twice; give each once"),
        ("revisit=18", "revisit of 18 days: a multiple of 12"),
        ("revisit=12.5", r"revisit 12\.5 is not a whole number"),
        ("seed=inf", "seed inf is not a whole number"),
    ],
)
def test_uri_parameters_that_are_not_understood_are_refused(tmp_path, query, message):
    """The message names the parameter and what is allowed, and nothing is written."""
    with pytest.raises(ConfigError, match=message):
        find_scenes(LAKE, f"simulated:{tmp_path / 'none'}?{query}", "2021-07-01", "2021-07-12")
    assert not (tmp_path / "none").exists()


def test_a_granule_that_fails_leaves_nothing(tmp_path, monkeypatch):
    """When a layer can't be written, none of its granule is there, and no temporary file."""
    write_layer, written = simulated._write_layer, []

    def fail_third(file, *rest):
        write_layer(file, *rest)
        written.append(file)
        if len(written) == 3:
            raise OSError("disk full")

    monkeypatch.setattr(simulated, "_write_layer", fail_third)
    with pytest.raises(OSError, match="disk full"):
        simulated.write_archive(LAKE, tmp_path, start="2023-07-01", end="2023-07-12")
    assert [file.name for file in tmp_path.iterdir()] == ["archive.json"]
