"""The simulated archive: names, tags, masks, truth, resume."""

import json
import shutil
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pandas as pd
import pytest
import rasterio

from cubekit import lakes
from cubekit.errors import ConfigError, SourceError
from cubekit.passes import ascending_node, group, relative_orbit
from cubekit.sources import _geometry, _products, _scenes, find_scenes, names, simulated
from cubekit.sources._dynamics import Dynamics

LAKE = lakes.catalogue()["chamlang_tsho"]
LOOKS = simulated.PRODUCTS["opera"].looks


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
        assert float(found["CUBEKIT_LOOKS"]) == LOOKS
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
    """Layover keeps its values, shadow and no data are NaN, 255 stands only where VV and VH are NaN."""
    _, files = archive
    seen, folded, level = set(), [], []
    for vv, vh, mask in zip(*(of_layer(files, layer) for layer in ("VV", "VH", "mask")), strict=True):
        power, cross, codes = read(vv), read(vh), read(mask)
        seen |= set(np.unique(codes))
        assert np.isnan(power[(codes == 1) | (codes == 3)]).all()
        assert np.isnan(power[codes == 255]).all()
        assert np.isfinite(power[(codes == 0) | (codes == 2)]).all()
        assert (np.isnan(power) == np.isnan(cross)).all()
        assert np.nanmin(power) > 0
        folded.append(power[codes == 2])
        level.append(power[codes == 0])
    assert np.concatenate(folded).mean() > 1.3 * np.concatenate(level).mean()
    assert {0, 1, 2, 255} <= seen <= {0, 1, 2, 3, 255}


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


def test_truth_is_the_polygon_within_the_aoi(archive):
    """Columns, order and areas of the truth; one row a pass."""
    home, files = archive
    truth = simulated.read_truth(home)
    assert list(truth) == ["lake", "time", "track", "platform", "absolute_orbit", "water_km2", "state", "granules"]
    assert truth["time"].is_monotonic_increasing
    assert not truth.duplicated(["platform", "absolute_orbit"]).any()
    assert set(truth["platform"]) == {"sentinel-1a", "sentinel-1b"}
    assert sum(len(json.loads(text)) for text in truth["granules"]) * 3 == len(files)
    row = truth.iloc[10]
    polygon = Dynamics(LAKE, 3, 20.0).polygon(row["time"].tz_localize("UTC").to_pydatetime())
    assert row["water_km2"] == pytest.approx(
        polygon.intersection(LAKE.project(LAKE.aoi)).area / LAKE.spacing**2 * LAKE.pixel_km2
    )


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
    draws = _scenes.Scenery(LAKE.at_spacing(30), simulated.PRODUCTS["opera"], 0, 6.0, 20.0).draws
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
        ({"product": "nisar"}, "'nisar' can't be simulated; allowed are opera, hyp3, hyp3_unfiltered"),
        ({"dem": "nowhere.tif"}, r"dem nowhere\.tif: an existing file"),
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


def test_an_archive_of_another_simulator_is_refused(tmp_path):
    """Files of a simulator that gave other values for the same parameters are not mixed with this one's."""
    options = {"start": "2023-07-01", "end": "2023-07-01"}
    simulated.write_archive(LAKE, tmp_path, **options)
    file = tmp_path / "archive.json"
    file.write_text(
        json.dumps({key: value for key, value in json.loads(file.read_text()).items() if key != "simulator"})
    )
    with pytest.raises(ConfigError, match=r"made with simulator None \(asked: 2\); give another folder"):
        simulated.write_archive(LAKE, tmp_path, **options)


def test_read_truth_of_no_archive(tmp_path):
    """A folder without truth is refused."""
    with pytest.raises(SourceError, match="give the folder of an archive"):
        simulated.read_truth(tmp_path)


def test_find_makes_the_archive_and_finds_its_passes(tmp_path):
    """The source writes what is missing, and its items group into the passes of the truth."""
    uri = f"simulated:{tmp_path}?seed=2&growth=10"
    items = find_scenes(LAKE, uri, "2021-07-01", "2021-07-31")
    assert {item.properties["cubekit:source"] for item in items} == {"simulated"}
    assert {item.properties["cubekit:looks"] for item in items} == {LOOKS}
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
        ("sead=1", "no parameter sead; allowed are seed, growth, looks, revisit, product, dem, outburst$"),
        ("seed=1&tracks=12&speckle=0", "no parameter tracks, speckle; allowed are"),
        ("lake=1", "no parameter lake; allowed are"),
        ("seed=one", "'seed=one' of the simulated source are not name=value pairs"),
        ("seed=", "'seed=' of the simulated source are not name=value pairs"),
        ("seed", "'seed' of the simulated source are not name=value pairs"),
        ("seed=1&seed=2", "name one of them twice; give each once"),
        ("revisit=18", "revisit of 18 days: a multiple of 12"),
        ("revisit=12.5", r"revisit 12\.5 is not a whole number"),
        ("seed=inf", "seed inf is not a whole number"),
        ("product=grd", "product 'grd' can't be simulated; allowed are opera, hyp3, hyp3_unfiltered"),
        ("outburst=August", "outburst 'August' isn't understood; write DAY:SHARE:REFILL_YEARS"),
        ("outburst=2021-08-01:0.3:5:1", "isn't understood; write DAY:SHARE:REFILL_YEARS"),
        ("outburst=2021-08-01:1.5", "share above 0 and below 1"),
    ],
)
def test_uri_parameters_that_are_not_understood_are_refused(tmp_path, query, message):
    """The message names the parameter and what is allowed, and nothing is written."""
    with pytest.raises(ConfigError, match=message):
        find_scenes(LAKE, f"simulated:{tmp_path / 'none'}?{query}", "2021-07-01", "2021-07-12")
    assert not (tmp_path / "none").exists()


def test_a_granule_that_fails_leaves_nothing(tmp_path, monkeypatch):
    """When a layer can't be written, none of its granule is there, and no temporary file."""
    write_layer, written = _products._write_layer, []

    def fail_third(file, *rest):
        write_layer(file, *rest)
        written.append(file)
        if len(written) == 3:
            raise OSError("disk full")

    monkeypatch.setattr(_products, "_write_layer", fail_third)
    with pytest.raises(OSError, match="disk full"):
        simulated.write_archive(LAKE, tmp_path, start="2023-07-01", end="2023-07-12")
    assert [file.name for file in tmp_path.iterdir()] == ["archive.json"]


@pytest.fixture(scope="module", params=["hyp3", "hyp3_unfiltered"])
def hyp3(request, tmp_path_factory):
    """A month of HyP3 products, filtered or not, found by their URI."""
    home = tmp_path_factory.mktemp(request.param)
    items = find_scenes(LAKE, f"simulated:{home}?seed=5&product={request.param}", "2021-02-01", "2021-03-03")
    return request.param, home / LAKE.id, items


def test_hyp3_products_have_hyp3_names_and_tags(hyp3):
    """Names tell scene, spacing and filter; one product a pass; tags are HyP3's, and mark the simulation."""
    product, home, items = hyp3
    filtered = product == "hyp3"
    assert len(items) == len(simulated.read_truth(home)) > 8
    assert len({item.id[-4:] for item in items}) == len(items)
    for item in items:
        assert item.id.startswith(
            f"S1{item.properties['platform'][-1].upper()}_IW_{item.datetime:%Y%m%dT%H%M%S}_DVP_RTC20_G_"
        )
        assert f"_gpu{'f' if filtered else 'n'}ed_" in item.id
        assert set(item.assets) == {"vv", "vh", "mask"}
        assert item.properties["cubekit:source"] == "simulated"
        assert item.properties["cubekit:spacing"] == 20
        assert item.properties["cubekit:speckle_filter"] == (names.HYP3_FILTER if filtered else "none")
        assert item.properties.get("cubekit:looks") == (None if filtered else simulated.PRODUCTS[product].looks)
        assert item.datetime < datetime.fromisoformat(item.properties["processing:datetime"])
        for layer in item.assets.values():
            found = tags(layer.href)
            assert {"AREA_OR_POINT", "TIFFTAG_DATETIME", "SOFTWARE_VERSION"} <= set(found)
            assert not {"ABSOLUTE_ORBIT_NUMBER", "TRACK_NUMBER", "LAYER_NAME"} & set(found)


def test_hyp3_passes_are_those_of_the_truth(hyp3):
    """Orbits, which HyP3's metadata lack, are found from the time."""
    _, home, items = hyp3
    truth, passes = simulated.read_truth(home), group(items)
    assert [one.absolute_orbit for one in passes] == list(truth["absolute_orbit"])
    assert [one.track for one in passes] == list(truth["track"])
    assert [one.time.replace(tzinfo=None) for one in passes] == list(truth["time"])
    assert [json.dumps(one.granules) for one in passes] == list(truth["granules"])


def test_hyp3_layers_have_hyp3_codes(hyp3):
    """No data is 0, declared; shadow is blank, layover is not; the map is a bit field, 0 beyond the swath."""
    _, _, items = hyp3
    lattice, seen = LAKE.at_spacing(20).lattice, set()
    for item in items:
        with rasterio.open(item.assets["vv"].href) as dataset:
            power = dataset.read(1)
            assert (dataset.nodata, dataset.dtypes, dataset.crs.to_epsg()) == (0, ("float32",), LAKE.epsg)
            column, row = ~dataset.transform @ (lattice.transform.c, lattice.transform.f)
            assert (column, row) == (24, 20)
        with rasterio.open(item.assets["mask"].href) as dataset:
            bits = dataset.read(1)
            assert (dataset.nodata, dataset.dtypes) == (0, ("uint8",))
        seen |= set(np.unique(bits).tolist())
        assert (power >= 0).all()
        assert np.isfinite(power).all()
        np.testing.assert_array_equal(power == 0, (bits == 0) | (bits & 16 > 0))
        np.testing.assert_array_equal(read(item.assets["vh"].href) == 0, power == 0)
    assert {0, 1, 5, 17} <= seen <= {0, 1, 5, 17, 21}


def test_hyp3_archives_resume(hyp3):
    """Removed files come back byte for byte, under the same name; another product in the folder is refused."""
    product, home, items = hyp3
    lost = [home / f"{items[2].id}_{layer}.tif" for layer in ("VV", "VH", "ls_map")]
    before = [file.read_bytes() for file in lost]
    for file in lost:
        file.unlink()
    options = {"start": "2021-02-01", "end": "2021-03-03", "seed": 5}
    simulated.write_archive(LAKE, home, product=product, **options)
    assert [file.read_bytes() for file in lost] == before
    with pytest.raises(ConfigError, match=rf"made with product {product} \(asked: opera\)"):
        simulated.write_archive(LAKE, home, **options)
