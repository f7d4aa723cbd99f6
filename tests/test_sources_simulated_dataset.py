"""`simulate`: passes as a lazy dataset with the truth, the lake's changes, and the physics of a pixel."""

import pickle
from datetime import UTC, date, datetime, timedelta

import dask
import numpy as np
import pandas as pd
import pytest
import rasterio
import shapely
import xarray as xr
from scipy.ndimage import binary_dilation

from cubekit import lakes
from cubekit.cube import build_cube
from cubekit.errors import ConfigError, GridMismatch, SourceError
from cubekit.preprocess import prepare
from cubekit.sources import _dynamics, _geometry, _radar, _scenes, _surfaces, find_scenes, simulated
from cubekit.sources._dynamics import Dynamics, Outburst
from cubekit.sources.simulated import PRODUCTS, simulate

CATALOGUE = lakes.catalogue()
LAKE = CATALOGUE["chamlang_tsho"].at_spacing(30)
SUMMER = {"start": "2021-07-01", "end": "2021-07-31"}


def at_spacing_of(product, name="chamlang_tsho"):
    return CATALOGUE[name].at_spacing(PRODUCTS[product].spacing)


def utc(*when):
    return datetime(*when, tzinfo=UTC)


@pytest.fixture(scope="module")
def still():
    """A summer month in memory, with the default speckle and (almost) without any."""
    return tuple(simulate(LAKE, seed=4, looks=looks, **SUMMER).load() for looks in (None, 1e6))


def test_building_it_computes_nothing(monkeypatch):
    """No scene is simulated, and nothing is computed, until values are asked for; each pass is a chunk."""

    def fail(*_, **__):
        raise AssertionError("computed")

    monkeypatch.setattr(_scenes.Scenery, "scene", fail)
    monkeypatch.setattr(_scenes, "make_terrain", fail)
    with dask.config.set(scheduler=fail):
        ds = simulate(LAKE, **SUMMER)
        prepared = prepare(ds, LAKE)
    assert all(ds[name].chunks == ((1,) * ds.sizes["time"], (256,), (256,)) for name in ds.data_vars)
    assert prepared.chunks is not None
    with pytest.raises(AssertionError, match="computed"):
        ds.isel(time=0).compute(scheduler="synchronous")


@pytest.mark.parametrize("product", PRODUCTS)
def test_a_cube_built_from_the_files_is_the_dataset(tmp_path, product):
    """Written, found, read and stacked, the passes are bit for bit those of `simulate`, coordinates included."""
    lake, period = at_spacing_of(product), {"start": "2021-03-20", "end": "2021-04-01"}
    items = find_scenes(lake, f"simulated:{tmp_path / 'archive'}?seed=9&product={product}", *period.values())
    cube = build_cube(lake, items, tmp_path / "cubes").compute()
    ds = simulate(lake, product=product, seed=9, **period).compute()
    assert cube.sizes["time"] == ds.sizes["time"] > 2
    for name in ("vv", "vh", "mask", "time", "track", "absolute_orbit", "platform", "orbit_direction", "granules", "y"):
        np.testing.assert_array_equal(ds[name], cube[name], err_msg=name)
        assert ds[name].dtype.kind == cube[name].dtype.kind
    for name in ("vv", "vh", "mask"):
        assert ds[name].dtype == cube[name].dtype
        same = [key for key in cube[name].attrs if key != "_FillValue"]
        assert {key: ds[name].attrs[key] for key in same} == {key: cube[name].attrs[key] for key in same}
    truth = simulated.read_truth(tmp_path / "archive" / lake.id)
    np.testing.assert_array_equal(truth["water_km2"], ds["water_km2"])
    assert truth["state"].tolist() == ds["state"].values.tolist()


@pytest.mark.parametrize("product", PRODUCTS)
def test_prepare_takes_it_as_it_is(product):
    """Filtered where the archive has not filtered, with the looks of the attributes; observed where mask says so."""
    lake = at_spacing_of(product)
    ds = simulate(lake, product=product, **SUMMER).isel(time=slice(0, 2))
    prepared = prepare(ds, lake).compute()
    rows, columns = lake.aoi_window
    assert prepared.shape[1:] == (rows.stop - rows.start, columns.stop - columns.start)
    assert prepared.attrs["speckle_filter"] == ("hyp3 enhanced lee 7x7" if product == "hyp3" else "lee 7x7")
    wet = (ds.water == 1).isel(y=rows, x=columns).values & prepared.observed.values
    dry = (ds.water + ds.ponds == 0).isel(y=rows, x=columns).values & prepared.observed.values
    assert prepared.values[wet].mean() < 0.5 * prepared.values[dry].mean()


def test_any_pass_alone_is_as_among_others(still):
    """A pass does not depend on the period, on the order of computing or on the process's memory of other lakes."""
    whole, _ = still
    for index in (5, 1):
        _scenes.shared.cache_clear()
        day = pd.Timestamp(whole.time.values[index]).date()
        alone = simulate(LAKE, seed=4, start=day, end=day).sel(time=whole.time.values[index])
        simulate(CATALOGUE["gokyo"].at_spacing(30), **SUMMER).isel(time=0).load()
        xr.testing.assert_identical(alone.load(), whole.isel(time=index))


def test_schedulers_agree(still):
    """Threads, one thread, and a graph that was pickled give the same values; none takes a terrain along."""
    whole, _ = still
    lazy = simulate(LAKE, seed=4, **SUMMER).isel(time=slice(0, 4))
    travelled = pickle.dumps(lazy)
    assert len(travelled) < 600_000
    for scheduler in ("synchronous", "threads"):
        values = pickle.loads(travelled).compute(scheduler=scheduler)
        xr.testing.assert_equal(values, whole.isel(time=slice(0, 4)))
    assert len(pickle.dumps(lazy)) == len(travelled)


def test_memory_of_lakes_is_bounded():
    """A process keeps a few sceneries, however many lakes and seeds it simulates."""
    assert 1 <= _scenes.shared.cache_info().maxsize <= 8
    scenery = simulate_scenery(seed=1)
    kept = _scenes.shared(scenery)
    assert kept is _scenes.shared(simulate_scenery(seed=1))
    assert kept is not scenery
    assert kept is not _scenes.shared(simulate_scenery(seed=2))


def simulate_scenery(seed):
    return _scenes.Scenery(LAKE, PRODUCTS["opera"], seed, 6.0, 20.0)


def test_seeds_and_lakes_differ_in_terrain_and_speckle():
    """Another seed is another terrain, other ponds and another draw of the same passes."""
    one, two = (simulate(LAKE, seed=seed, **SUMMER).isel(time=0).load() for seed in (0, 1))
    assert int(one.absolute_orbit) == int(two.absolute_orbit)
    assert not one["mask"].equals(two["mask"])
    assert not one["ponds"].equals(two["ponds"])
    assert not np.array_equal(one["vv"], two["vv"], equal_nan=True)


def speckle_of(noisy, quiet, band):
    """What multiplies the power of rough water, the sensor's noise included; NaN elsewhere."""
    look = _radar.look_of(_geometry.chosen(LAKE, [int(noisy.track)])[0])
    noise = 10 ** (_surfaces.NOISE_DB / 10) / np.cos(np.radians(look.incidence))
    level = (quiet.water == 1) & (quiet["mask"] == 0) & (quiet[band] > 2 * noise)
    return ((noisy[band] + noise) / (quiet[band] + noise)).where(level).values.astype(float)


def test_looks_of_the_speckle_are_the_declared(still):
    """On rough water, noise set aside, power over its expectation has mean 1 and the declared looks."""
    noisy, quiet = still
    assert noisy.vv.attrs["looks"] == PRODUCTS["opera"].looks
    ratio = np.concatenate([speckle_of(noisy[{"time": i}], quiet[{"time": i}], "vv").ravel() for i in range(11)])
    ratio = ratio[np.isfinite(ratio)]
    assert ratio.size > 3000
    assert ratio.mean() == pytest.approx(1, abs=0.02)
    assert 1 / ratio.var() == pytest.approx(PRODUCTS["opera"].looks, rel=0.06)


def test_speckle_correlates_by_resampling_only_and_not_across_bands(still):
    """Neighbours correlate by a quarter, as bilinear resampling makes them, others hardly; polarisations not at all."""
    noisy, quiet = still
    pairs = {"down": [], "right": [], "far": [], "bands": []}
    for index in range(11):
        one, other = noisy[{"time": index}], quiet[{"time": index}]
        vv = speckle_of(one, other, "vv")
        vh = (one.vh / other.vh).values.astype(float)
        for name, (a, b) in {
            "down": (vv[1:], vv[:-1]),
            "right": (vv[:, 1:], vv[:, :-1]),
            "far": (vv[3:], vv[:-3]),
            "bands": (vv, vh),
        }.items():
            both = np.isfinite(a) & np.isfinite(b)
            pairs[name].append(np.stack([a[both], b[both]]))
    found = {name: np.corrcoef(np.concatenate(parts, axis=1))[0, 1] for name, parts in pairs.items()}
    assert found == pytest.approx({"down": 0.25, "right": 0.25, "far": 0, "bands": 0}, abs=0.07)


def test_hyp3_filter_is_applied_where_the_name_says_so():
    """Filtered and unfiltered passes show the same ground; the filter smooths speckle as little as HyP3's does."""
    lake = CATALOGUE["tilicho"]
    both = [simulate(lake, product=product, tracks=[158], **SUMMER) for product in ("hyp3", "hyp3_unfiltered")]
    filtered, plain = (ds.isel(time=int(ds.wind.values.argmax())).load() for ds in both)
    np.testing.assert_array_equal(filtered["mask"], plain["mask"])
    water = ~binary_dilation((filtered.water < 1).values | (filtered["mask"] > 0).values, iterations=5)
    before, after = (image.vv.values[water] for image in (plain, filtered))
    assert after.mean() == pytest.approx(before.mean(), rel=0.05)
    assert 1.5 < (after.mean() / after.std()) ** 2 / (before.mean() / before.std()) ** 2 < 8
    assert "looks" not in filtered.vv.attrs
    assert plain.vv.attrs["looks"] == PRODUCTS["hyp3_unfiltered"].looks


def test_water_is_dark_when_calm_and_brighter_in_wind():
    """Open water gets brighter with the wind, in VV more than in VH."""
    ds = simulate(LAKE, start="2018-06-20", end="2021-09-30", revisit_days=24, looks=1e6, tracks=[12])
    ds = ds.isel(time=(ds.state == "open").values)
    order = ds.wind.values.argsort()
    levels = {}
    for name, index in (("calm", order[0]), ("rough", order[-1])):
        one = ds.isel(time=index).load()
        seen = (one.water == 1) & (one["mask"] == 0)
        levels[name] = {band: 10 * np.log10(float(one[band].where(seen).mean())) for band in ("vv", "vh")}
    assert float(ds.wind.max()) > 5
    assert levels["calm"]["vv"] < -19
    assert levels["rough"]["vv"] - levels["calm"]["vv"] > 4
    assert levels["rough"]["vv"] - levels["calm"]["vv"] > levels["rough"]["vh"] - levels["calm"]["vh"]


def test_mixed_pixels_follow_the_shares_of_land_and_water():
    """Expected power of a shore pixel is the mean of water and of its land, which a drained lake shows, by shares."""
    view = _geometry.chosen(LAKE, [12])[0]
    scenery = [
        _scenes.Scenery(LAKE, PRODUCTS["opera"], 0, 6.0, 0.0, outburst)
        for outburst in (None, Outburst(date(2021, 6, 1), 0.95))
    ]
    one = next(_geometry.passes(view, date(2021, 7, 7), date(2021, 7, 7), cycles=1, draws=scenery[0].draws))
    shares = [part.share(one.starts[0]) + part.ground.share for part in scenery]
    full, drained = (part.expected(one, share) for part, share in zip(scenery, shares, strict=True))
    water = np.median(full[:, shares[0] == 1], axis=1)[:, None]
    shore = (shares[0] > 0.05) & (shares[0] < 0.95) & (shares[1] == 0)
    mixed = shares[0][shore] * water + (1 - shares[0][shore]) * drained[:, shore]
    assert shore.sum() > 100
    np.testing.assert_allclose(full[:, shore], mixed, atol=water.max())
    assert np.median(np.abs(full[:, shore] / mixed - 1)) < 0.02


@pytest.mark.parametrize(("name", "product"), [("gokyo", "hyp3"), *((name, "opera") for name in CATALOGUE)])
def test_truth_adds_up(name, product):
    """Shares of pixels sum to the area of the truth, within 0.1 %; ponds are apart from the lake."""
    lake = at_spacing_of(product, name)
    one = simulate(lake, product=product, start="2016-01-01", end="2016-01-12").isel(time=[0])
    one = xr.concat([one, simulate(lake, product=product, start="2025-09-01", end="2025-09-12").isel(time=[0])], "time")
    truth = one[["water", "ponds"]].load()
    assert float(truth.water.min()) == 0
    assert float(truth.water.max()) == 1
    inside = lake.project(shapely.segmentize(lake.aoi, 0.001))
    share = _scenes.covered_share(inside, lake.lattice.boundingbox.bbox[::3], (256, 256), lake.spacing)
    area = (truth.water * share).sum(("y", "x"), dtype=float) * lake.pixel_km2
    np.testing.assert_allclose(area, one.water_km2, rtol=1e-3)
    wet = (truth.water > 0).values.any(0)
    assert not (binary_dilation(wet, iterations=2) & (truth.ponds > 0).values[0]).any()


def test_ponds_lie_on_gentle_ground_and_apart():
    """Where ground is gentle there are ponds, never on steep ground, nor near the lake or each other."""
    lake, counts = shapely.box(3000, 3000, 4500, 3600), []
    rise = np.full((256, 256), 0.1, np.float32)
    rise[:, :100] = 0.6
    for seed in range(20):
        ponds = _dynamics.place_ponds(lake, rise, (0.0, 7680.0), 30, np.random.default_rng(seed))
        counts.append(len(ponds))
        for index, pond in enumerate(ponds):
            assert 1_500 < pond.area < 110_000
            assert pond.centroid.x > 2950
            assert min([other.distance(pond) for other in (lake, *ponds[:index])]) >= 120
    assert 1 <= min(counts) <= max(counts) <= 8
    assert not _dynamics.place_ponds(lake, np.ones_like(rise), (0.0, 7680.0), 30, np.random.default_rng(0))


def test_share_of_known_shapes():
    """Half a pixel, whole pixels and shapes across or beyond the edge of the grid."""
    half = _scenes.covered_share(shapely.box(15, -60, 60, -30), (0.0, 0.0), (3, 4), 30)
    np.testing.assert_allclose(half, [[0, 0, 0, 0], [0.5, 1, 0, 0], [0, 0, 0, 0]])
    across = _scenes.covered_share(shapely.box(-500, -30, 20, 500), (0.0, 0.0), (3, 4), 20)
    np.testing.assert_allclose(across, [[1, 0, 0, 0], [0.5, 0, 0, 0], [0, 0, 0, 0]])
    beyond = _scenes.covered_share(shapely.box(900, 900, 990, 990), (0.0, 0.0), (3, 4), 30)
    assert not beyond.any()


def test_share_agrees_with_a_fine_raster():
    """Against half a million points: a lake with an island, and one in two parts."""
    island = shapely.Point(95, -88).buffer(70).difference(shapely.Point(80, -80).buffer(21))
    for polygon in (island, shapely.union_all([island, shapely.box(170, -290, 290, -171)])):
        share = _scenes.covered_share(polygon, (0.0, 0.0), (10, 10), 30)
        x, y = np.meshgrid((np.arange(750) + 0.5) * 0.4, (np.arange(750) + 0.5) * -0.4)
        points = shapely.contains_xy(polygon, x.ravel(), y.ravel()).reshape(10, 75, 10, 75).mean((1, 3))
        np.testing.assert_allclose(share, points, atol=0.04)
        assert share.sum(dtype=float) * 900 == pytest.approx(polygon.area, rel=0.01)


@pytest.mark.parametrize("name", CATALOGUE)
def test_outline_is_the_real_one_at_the_reference_and_grows_steadily(name):
    """The area is the outline's at the reference (season aside), and larger every year, before and after."""
    lake = CATALOGUE[name]
    flat, growing = Dynamics(lake, 0, 0.0), Dynamics(lake, 0, 20.0)
    still = [flat.polygon(utc(year, 7, 1)).area for year in (2015, 2020, 2026)]
    assert max(still) / min(still) - 1 < 1e-3  # leap days
    real = lake.project(lake.outline)
    assert abs(still[1] - real.area) < 1.25 * flat.shore_metres * real.length
    areas = [growing.polygon(utc(year, 7, 1)).area for year in range(2015, 2027)]
    assert (np.diff(areas) > 0).all()
    assert areas[5] == pytest.approx(still[1], rel=1e-6)


def test_growth_is_width_times_distance():
    """After the reference the area in Julys grows by the width of the lake at the cut times the distance."""
    dynamics = Dynamics(LAKE, 0, 30.0)
    _, outline = _dynamics.along_axis(LAKE)
    west, south, east, north = outline.bounds
    cut = west + 0.75 * (east - west)
    width = outline.intersection(shapely.LineString([(cut, south), (cut, north)])).length
    grown = dynamics.polygon(utc(2025, 7, 1)).area - dynamics.polygon(utc(2021, 7, 1)).area
    assert grown / 4 == pytest.approx(30 * width, rel=0.01)


def test_season_moves_the_shore():
    """The lake is largest in early September and smallest half a year later, by some metres of shore."""
    dynamics = Dynamics(LAKE, 0, 0.0)
    times = [utc(2021, 1, 1) + timedelta(days=day) for day in range(0, 365, 5)]
    areas = np.array([dynamics.polygon(time).area for time in times])
    assert times[areas.argmax()].month in {8, 9}
    assert times[areas.argmin()].month in {2, 3}
    assert 0.5 < dynamics.shore_metres < 4.1
    assert np.ptp(areas) == pytest.approx(2 * dynamics.shore_metres * LAKE.project(LAKE.outline).length, rel=0.1)


def test_states_follow_the_dates_of_ice():
    """Open, then ice with the freeze, broken ice from the break-up on, open when it is gone; shares fit the states."""
    dynamics = Dynamics(LAKE, 5, 0.0)
    for year in (2017, 2022):
        freeze, breaks, free = dynamics.ice(year)
        assert utc(year - 1, 12, 1) < freeze < utc(year, 1, 10)
        assert utc(year, 4, 1) < breaks < free < utc(year, 6, 5)
        second = timedelta(seconds=1)
        expected = [(freeze - second, "open"), (freeze, "ice"), (breaks - second, "ice"), (breaks, "thaw")]
        for time, state in [*expected, (free - second, "thaw"), (free, "open"), (utc(year, 8, 1), "open")]:
            cover = dynamics.cover(time)
            assert cover.state == state
            assert {"open": cover.share == 0, "ice": cover.share == 1, "thaw": 0 < cover.share < 1}[state]
        thickness = [dynamics.cover(freeze + timedelta(days=day)).thickness for day in (0, 20, 80)]
        assert thickness[0] == 0
        assert thickness[0] < thickness[1] < thickness[2] <= 1
    assert dynamics.ice(2017)[0] - dynamics.ice(2022)[0] != timedelta(days=-5 * 365 - 1)


def test_dataset_has_the_state_of_its_dates(still):
    """State, water and wind along time are the lake's at each pass; months fit."""
    ds = simulate(LAKE, start="2020-06-01", end="2021-05-31", seed=6, tracks=[121])
    states = pd.Series(ds.state.values, pd.DatetimeIndex(ds.time.values))
    assert set(states["2020-07":"2020-11"]) == {"open"}
    assert set(states["2021-01-15":"2021-03-31"]) == {"ice"}
    assert set(states) <= set(simulated.STATES)
    dynamics = Dynamics(LAKE, 6, 20.0)
    time = pd.Timestamp(ds.time.values[7]).to_pydatetime().replace(tzinfo=UTC)
    assert float(ds.water_km2[7]) == dynamics.water_km2(time)
    assert (ds.wind >= 0).all()
    assert still[0].state.dims == ("time",)


def test_ice_depends_on_altitude_and_hemisphere():
    """High lakes are frozen longer, low ones never; in the south half a year later."""
    geometry = CATALOGUE["gokyo"].outline
    south = shapely.transform(geometry, lambda xy: xy * (1, -1))

    def lake(altitude, outline):
        return lakes.Lake("some", "Some", outline, shapely.box(*outline.buffer(0.01).bounds), 32645, altitude=altitude)

    high, low = (Dynamics(lake(altitude, geometry), 0, 0.0) for altitude in (5300, 900))
    there = Dynamics(lake(5300, south), 0, 0.0)
    freeze, _, free = high.ice(2021)
    assert free - freeze > timedelta(days=130)
    assert low.cover(utc(2021, 2, 1)).state == "open"
    assert high.cover(utc(2021, 2, 1)).state == there.cover(utc(2021, 8, 1)).state == "ice"
    assert there.cover(utc(2021, 2, 1)).state == "open"
    assert {low.ice(2021)[0]} == set(low.ice(2021))


def test_snow_lies_low_in_winter_and_is_wet_in_spring():
    """Dry snow never lies below wet; spring has a band of wet snow, midwinter none; summer is bare."""
    dynamics = Dynamics(LAKE, 0, 0.0)
    for day in range(0, 365, 7):
        dry, any_ = dynamics.snow(utc(2021, 1, 1) + timedelta(days=day))
        assert dry >= any_
    winter, spring, summer = (dynamics.snow(utc(2021, *day)) for day in ((2, 10), (5, 10), (8, 20)))
    assert winter[0] == winter[1] < 800 < summer[1]
    assert spring[0] - spring[1] > 300


def test_evenings_are_windier_than_mornings():
    """At 87 degrees east 12 UTC is evening and 00 UTC morning; few passes have much more wind."""
    dynamics, quantiles = Dynamics(LAKE, 0, 0.0), np.linspace(0.01, 0.99, 99)
    morning, evening = ([dynamics.wind(utc(2021, 7, 1, hour), q) for q in quantiles] for hour in (0, 12))
    assert 3 < np.median(morning) < np.median(evening) < 5
    assert min(morning) < 2
    assert max(evening) > 8
    assert (np.diff(evening) > 0).all()


def test_an_outburst_takes_its_share_and_refills():
    """Within three days the share of the area is gone; it stays away, or comes back in the years given."""
    day = date(2021, 8, 1)
    whole, gone, back = (
        Dynamics(LAKE, 0, 20.0, outburst) for outburst in (None, Outburst(day, 0.4), Outburst(day, 0.4, 2.0))
    )
    for time, share in (
        (utc(2021, 8, 1), 0),
        (utc(2021, 8, 2, 12), 0.2),
        (utc(2021, 8, 4), 0.4),
        (utc(2024, 8, 10), 0.4),
    ):
        assert gone.polygon(time).area == pytest.approx((1 - share) * whole.polygon(time).area, rel=1e-4)
    halfway = utc(2021, 8, 4) + timedelta(days=365.25)
    assert back.polygon(halfway).area == pytest.approx(0.8 * whole.polygon(halfway).area, rel=1e-3)
    assert back.polygon(utc(2023, 8, 10)).equals(whole.polygon(utc(2023, 8, 10)))
    assert whole.polygon(utc(2021, 9, 1)).covers(gone.polygon(utc(2021, 9, 1)))


def test_an_outburst_reaches_the_dataset_and_the_archive(tmp_path):
    """Its truth and its water shrink at once; the same seed without it shows the same ground."""
    period = {"start": "2021-07-20", "end": "2021-08-15"}
    burst = simulate(LAKE, outburst=Outburst(date(2021, 8, 1), 0.5), tracks=[12], **period)
    calm = simulate(LAKE, tracks=[12], **period)
    ratio = (burst.water_km2 / calm.water_km2).values
    after = burst.time.values > np.datetime64("2021-08-04")
    np.testing.assert_allclose(ratio, np.where(after, 0.5, 1.0), rtol=1e-4)
    last = burst.water.isel(time=-1).sum(dtype=float) * 900 / 1e6
    assert float(last) == pytest.approx(float(burst.water_km2[-1]), rel=2e-3)
    xr.testing.assert_equal(burst["mask"].isel(time=0).load(), calm["mask"].isel(time=0).load())
    find_scenes(LAKE, f"simulated:{tmp_path}?outburst=2021-08-01:0.5", "2021-08-10", "2021-08-15")
    truth = simulated.read_truth(tmp_path / LAKE.id).set_index("absolute_orbit")["water_km2"]
    orbit = int(burst.absolute_orbit[-1])
    assert truth[orbit] == float(burst.water_km2[-1])


@pytest.mark.parametrize(("text", "share", "years"), [("2021-08-01", 0.3, 0), ("2021-08-01:0.4:5", 0.4, 5)])
def test_outbursts_are_read_from_text(text, share, years):
    """Day, share and years of refilling, the latter two optional."""
    assert Outburst.parse(text) == Outburst(date(2021, 8, 1), share, years)


@pytest.mark.parametrize(("share", "years"), [(0, 0), (1, 0), (-0.1, 0), (0.3, -1), (0.3, float("nan"))])
def test_impossible_outbursts_are_refused(share, years):
    """The message tells what was given and what is allowed."""
    with pytest.raises(ConfigError, match="give a share above 0 and below 1, and 0 years"):
        Outburst(date(2021, 8, 1), share, years)


@pytest.fixture(scope="module")
def ridge(tmp_path_factory):
    """An elevation model: flat, but for a steep ridge of 600 m along the meridian, 1.5 km east of the lake."""
    file = tmp_path_factory.mktemp("dem") / "ridge.tif"
    outline = LAKE.project(LAKE.outline)
    west, north = outline.centroid.x - 12_000, outline.centroid.y + 12_000
    x = west + 50 * (np.arange(480) + 0.5)
    height = 4900 + np.maximum(0, 600 - 1.2 * np.abs(x - outline.bounds[2] - 1500)) * np.ones((480, 1))
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "width": 480, "height": 480}
    transform = rasterio.transform.from_origin(west, north, 50, 50)
    with rasterio.open(file, "w", crs=f"EPSG:{LAKE.epsg}", transform=transform, **profile) as dataset:
        dataset.write(height.astype("float32"), 1)
    return file, outline.bounds[2] + 1500


def test_layover_falls_towards_the_radar(ridge):
    """On a given terrain: ascending tracks look east, so the ridge folds to its west; descending to its east."""
    file, crest = ridge
    options = {"dem": file, "looks": 1e6, **SUMMER}
    middles = {}
    for name, track in (("ascending", 12), ("descending", 121)):
        ds = simulate(LAKE, tracks=[track], **options)
        masks = ds["mask"].isel(time=slice(0, 3)).load()
        one = masks.isel(time=int(np.argmin((masks == 255).sum(("y", "x")).values)))
        folded = np.flatnonzero((one == 2).any("y"))
        assert len(folded) > 5
        middles[name] = float(one.x[folded].mean()) - crest
        assert not ((one == 1) | (one == 3)).any()  # 50 degrees: too gentle for shadow at 39 degrees
    assert middles["ascending"] < -100 < 100 < middles["descending"]


def test_an_elevation_model_that_does_not_cover_is_refused(ridge, tmp_path):
    """The error is of the source, and says what is missing."""
    file, _ = ridge
    far = CATALOGUE["tilicho"].at_spacing(30)
    ds = simulate(far, dem=file, **SUMMER)
    with pytest.raises(SourceError, match=r"no height for 100\.0% of the grid"):
        ds.isel(time=0).compute(scheduler="synchronous")
    with pytest.raises(SourceError, match=r"no height for 100\.0% of the grid"):
        simulated.write_archive(far, tmp_path, dem=file, start="2021-07-01", end="2021-07-12")


@pytest.mark.parametrize(
    ("changed", "error", "message"),
    [
        ({"product": "hyp3"}, GridMismatch, r"pixels of hyp3 are 20 m; give lake\.at_spacing\(20\)"),
        ({"product": "sentinel"}, ConfigError, "'sentinel' can't be simulated; allowed are opera, hyp3"),
        ({"end": None}, ConfigError, "needs its first and last day"),
        ({"start": "2021-07-02", "end": "2021-07-02"}, SourceError, "no pass of chamlang_tsho between 2021-07-02 and "),
        ({"looks": -1.0}, ConfigError, "looks -1.0: above 0"),
        ({"revisit_days": 6}, ConfigError, "revisit of 6 days: a multiple of 12"),
        ({"tracks": [1]}, ConfigError, r"tracks \[1\]: chamlang_tsho is seen by"),
        ({"dem": "nowhere.tif"}, ConfigError, r"dem nowhere\.tif: an existing file"),
    ],
)
def test_bad_parameters_are_refused(changed, error, message):
    """The message names the parameter, what was given and what is allowed."""
    with pytest.raises(error, match=message):
        simulate(LAKE, **{**SUMMER, **changed})
