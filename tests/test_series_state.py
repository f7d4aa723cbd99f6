"""States against simulated truth, and against series whose ice was put there by hand."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from cubekit.errors import ConfigError, GridMismatch, NoObservations
from cubekit.lakes import catalogue
from cubekit.series import state as state_module
from cubekit.series._surface_model import _forward, _forward_backward, _steps
from cubekit.series.area import STATES
from cubekit.series.state import lake_states, surface_features
from cubekit.sources.simulated import simulate

OPEN, ICE, WET_SNOW, ROUGH = (STATES.index(name) for name in ("open", "ice", "wet_snow", "rough"))
DAY = 86400


@pytest.fixture(scope="module")
def lake():
    """Gokyo on its 30 m lattice."""
    return catalogue()["gokyo"].at_spacing(30)


@pytest.fixture(scope="module")
def year(lake):
    """A simulated year of two tracks: features in memory, and the truth."""
    ds = simulate(lake, start="2020-09-01", end="2021-08-31", seed=21, revisit_days=12)
    with dask.config.set(scheduler="synchronous"):
        return surface_features(ds, lake).compute()


def features(cells, *, start="2020-07-01", step=12, track=121):
    """Make features of one track from cells (pass, cell)."""
    count = len(cells)
    times = np.datetime64(start, "s") + step * DAY * np.arange(count)
    data = {"vv_cells": (("time", "cell"), np.asarray(cells, np.float32)), "vh": ("time", np.full(count, np.nan, "f4"))}
    return xr.Dataset(data, coords={"time": times, "track": ("time", np.full(count, track, np.int16))})


def winter(seed=0, *, base=-20.0, ice_db=-16.0, static=0.0):
    """Three years of one track, every 12 days: waves, and in winter ice whose pattern stays. Returns truth too."""
    rng = np.random.default_rng(seed)
    frozen = np.arange(91) % 30 >= 15
    frozen &= np.arange(91) % 30 < 26
    winters = np.arange(91) // 30
    bubbles = rng.normal(0, 1.5, (4, 100))
    cells = np.where(frozen[:, None], ice_db + bubbles[winters], base) + rng.normal(0, 1, (91, 100))
    return features(cells + static * rng.normal(0, 2, 100)), frozen


def never(dsk, keys, **kwargs):
    """Refuse to compute: a dask scheduler for building graphs under."""
    raise AssertionError("computed while building a graph")


def test_states_of_a_simulated_year_are_right(year, lake):
    """With VV and VH ice, melt and open water are told apart at 95 % of the dates and more; VV alone is nearly as good.

    The exact figures over more lakes and years are analyses/states.py's.
    """
    truth = np.select([year["state"] == "ice", year["state"] == "thaw"], ["frozen", "frozen"], "water")
    for given, least in ((year, 0.95), (year.assign(vh=year["vh"] * np.nan), 0.92)):
        found = lake_states(given, lake)["state"].values
        cover = np.where(np.isin(found, [ICE, WET_SNOW]), "frozen", "water")
        assert np.mean(cover == truth) >= least
        assert {OPEN, ICE} <= set(found.tolist())


def test_ice_is_found_whatever_the_months_are(lake):
    """The same record half a year later gives the same states: no month is looked at."""
    given, frozen = winter()
    found = lake_states(given, lake)["state"].values
    later = lake_states(given.assign_coords(time=given["time"] + np.timedelta64(183, "D")), lake)["state"].values
    np.testing.assert_array_equal(found, later)
    assert np.mean(np.isin(found, [ICE, WET_SNOW]) == frozen) >= 0.97


@pytest.mark.parametrize("level", [-22.0, -19.5, -17.0, -15.5])
def test_the_level_of_open_water_is_the_tracks_own(lake, level):
    """Ice 3 dB over the water is found at a dark and at a bright track, and beside a cliff's layover on the lake."""
    for static in (0.0, 1.0):
        given, frozen = winter(1, base=level, ice_db=level + 3, static=static)
        found = lake_states(given, lake)
        assert np.mean(np.isin(found["state"], [ICE, WET_SNOW]) == frozen) >= 0.95
        assert float(found["vv_above_open"].values[~frozen].mean()) == pytest.approx(0, abs=0.5)


def test_a_winter_as_dark_as_water_is_ice_and_not_wet_snow(lake):
    """New ice that hardly brightens through a winter keeps its pattern; melt does not last for months."""
    given, frozen = winter(8)
    dark, _ = winter(8, ice_db=-19.0)
    given["vv_cells"][30:60] = dark["vv_cells"][30:60]
    found = lake_states(given, lake)["state"].values
    assert np.mean(found[30:60][frozen[30:60]] == ICE) >= 0.9
    assert np.mean(np.isin(found, [ICE, WET_SNOW]) == frozen) >= 0.95


def test_a_winter_that_comes_first_is_not_taken_for_water(lake):
    """A record that begins under ice: told from its own past alone while it lasts, and once summer was there."""
    given, frozen = winter(9, ice_db=-15.0)
    given, frozen = given.isel(time=slice(15, None)), frozen[15:]
    assert frozen[:11].all()
    found = lake_states(given, lake)["state"].values
    assert np.mean(np.isin(found, [ICE, WET_SNOW]) == frozen) >= 0.95
    online = lake_states(given.isel(time=slice(11)), lake, past_only=True)["state"].values
    assert np.mean(np.isin(online, [ICE, WET_SNOW])) >= 0.6


@pytest.mark.parametrize("past", [False, True])
def test_a_track_in_layover_says_nothing_and_spoils_no_other(lake, past):
    """A slope folds onto the lake: always alike, as ice is. Its passes are unknown, the other track's are right."""
    given, frozen = winter(10)
    rng = np.random.default_rng(10)
    slope = -6 + rng.normal(0, 2, 100) + rng.normal(0, 1, given["vv_cells"].shape)
    later = given["time"] + np.timedelta64(4, "D")
    blind = given.assign(vv_cells=given["vv_cells"].copy(data=slope)).assign_coords(time=later)
    both = xr.concat([given, blind.assign_coords(track=("time", np.full(91, 12, np.int16)))], "time").sortby("time")
    found = lake_states(both, lake, past_only=past)
    mine = found["track"].values == 121
    assert (found["state"].values[~mine] == 0).all()
    right = np.isin(found["state"].values[mine], [ICE, WET_SNOW]) == frozen
    assert np.mean(right[30:]) >= (0.9 if past else 0.97)


def test_a_gale_is_rough_water_and_not_ice(lake):
    """One summer pass 6 dB brighter, of another pattern, is rough; its neighbours stay open."""
    given, frozen = winter(2)
    at = 40
    assert not frozen[at - 2 : at + 3].any()
    given["vv_cells"][at] += 6
    for past in (False, True):
        found = lake_states(given, lake, past_only=past)["state"].values
        assert found[at - 1 : at + 2].tolist() == [OPEN, ROUGH, OPEN]


@pytest.mark.parametrize("count", [1, 7, 40, 75])
def test_past_only_never_looks_ahead(lake, count):
    """States of the first passes are the same whatever comes after; smoothed ones may differ."""
    given, _ = winter(3)
    whole = lake_states(given, lake, past_only=True).isel(time=slice(count))
    xr.testing.assert_identical(lake_states(given.isel(time=slice(count)), lake, past_only=True), whole)
    shuffled = given.copy(deep=True)
    shuffled["vv_cells"][count:] = shuffled["vv_cells"][count:].values[::-1] + 3
    xr.testing.assert_identical(lake_states(shuffled, lake, past_only=True).isel(time=slice(count)), whole)


def test_past_only_is_right_too_once_it_has_seen_a_year(lake):
    """Freeze-up and break-up may be told late, no more."""
    given, frozen = winter(4)
    found = lake_states(given, lake, past_only=True)["state"].values
    assert np.mean(np.isin(found, [ICE, WET_SNOW])[30:] == frozen[30:]) >= 0.9


def test_the_order_of_passes_does_not_matter(lake):
    """A cube in order of arrival gives the same states."""
    given, _ = winter(5)
    order = np.random.default_rng(1).permutation(given.sizes["time"])
    for past in (False, True):
        found = lake_states(given.isel(time=order), lake, past_only=past).sortby("time")
        xr.testing.assert_identical(found, lake_states(given, lake, past_only=past))


def test_a_pass_that_was_not_seen_is_unknown_and_disturbs_no_other(lake):
    """Its probabilities come from the passes around it."""
    given, frozen = winter(6)
    holed = given.copy(deep=True)
    at = int(np.flatnonzero(frozen)[5])
    holed["vv_cells"][at] = np.nan
    found = lake_states(holed, lake)
    assert int(found["state"][at]) == 0
    assert np.isnan(found["state_probability"][at])
    assert float(found["probabilities"][at].sel(surface="ice")) > 0.9
    others = np.arange(len(frozen)) != at
    expected = lake_states(given, lake)["state"].values[others]
    assert np.mean(found["state"].values[others] == expected) >= 0.98


def test_probabilities_add_up_to_one_and_the_state_is_the_likeliest(year, lake):
    """Four states; the code of the likeliest."""
    for past in (False, True):
        found = lake_states(year, lake, past_only=past)
        np.testing.assert_allclose(found["probabilities"].sum("surface"), 1)
        assert float(found["probabilities"].min()) >= 0
        names = found["surface"].values[found["probabilities"].argmax("surface").values]
        known = found["state"].values > 0
        assert known.mean() > 0.9
        assert [STATES[code] for code in found["state"].values[known]] == names[known].tolist()
        likeliest = found["probabilities"].max("surface").values
        np.testing.assert_array_equal(found["state_probability"].values[known], likeliest[known])


def test_forward_and_backward_agree_with_summing_over_all_paths():
    """Marginals of a chain of five passes against all 1,024 paths, and the likelihood of all against their sum."""
    rng = np.random.default_rng(1)
    days, likelihood = np.array([0.0, 3, 15, 16, 40]), rng.random((5, 4))
    start = _steps(24 * 36525)[0]
    marginals = np.zeros((5, 4))
    for path in np.ndindex(*[4] * 5):
        weight = start[path[0]] * np.prod([likelihood[i, cover] for i, cover in enumerate(path)])
        for i in range(4):
            weight *= _steps(round(24 * (days[i + 1] - days[i])))[path[i], path[i + 1]]
        for i, cover in enumerate(path):
            marginals[i, cover] += weight
    np.testing.assert_allclose(_forward_backward(days, likelihood), marginals / marginals.sum(axis=1, keepdims=True))
    assert _forward(days, likelihood)[2] == pytest.approx(np.log(marginals[0].sum()))


def test_the_rates_are_of_a_chain():
    """Probabilities add up to 1, no time changes nothing, and two steps of a week are one of a fortnight."""
    np.testing.assert_allclose(_steps(0), np.eye(4), atol=1e-12)
    np.testing.assert_allclose(_steps(168).sum(axis=1), 1)
    np.testing.assert_allclose(_steps(168) @ _steps(168), _steps(336))


def cube(lake, power):
    """A cube of VV only from an array (time, y, x)."""
    count = len(power)
    stack = xr.DataArray(
        np.asarray(power, np.float32),
        dims=("time", "y", "x"),
        coords={
            "time": np.datetime64("2021-07-01", "s") + 12 * DAY * np.arange(count),
            "y": lake.outline_mask["y"],
            "x": lake.outline_mask["x"],
            "track": ("time", np.full(count, 121, np.int16)),
        },
    )
    return xr.Dataset({"vv": stack, "mask": xr.zeros_like(stack, dtype=np.uint8)})


def test_cells_are_means_of_linear_power_of_the_inner_lake(lake):
    """Against a mean by hand over every cell; nothing nearer than 60 m to the shore counts."""
    rng = np.random.default_rng(4)
    power = rng.exponential(0.01, (2, 256, 256))
    inner = np.zeros((256, 256), bool)
    rows, columns = np.nonzero(lake.outline_mask.values)
    outside = np.argwhere(~lake.outline_mask.values)
    for row, column in zip(rows, columns, strict=True):
        inner[row, column] = (np.hypot(*(outside - (row, column)).T).min() - 0.5) * 30 > 60
    found = surface_features(cube(lake, power), lake)
    top, left = (part.start for part in lake.aoi_window)
    cells = {}
    for row, column in np.argwhere(inner):
        cells.setdefault(((row - top) // 2, (column - left) // 2), []).append((row, column))
    kept = [np.array(members) for _, members in sorted(cells.items()) if len(members) >= 2.4]
    expected = [[10 * np.log10(image[tuple(members.T)].mean()) for members in kept] for image in power]
    np.testing.assert_allclose(found["vv_cells"], expected, rtol=1e-5)
    assert found.attrs["cell_m"] == 60


def test_what_was_not_observed_is_in_no_cell(lake):
    """Layover, shadow and no data are left out; a cell less than half seen is NaN."""
    ds = cube(lake, np.full((3, 256, 256), 0.01))
    ds["vv"][0] = np.nan
    ds["mask"][1] = 2
    ds["vv"][2] = ds["vv"][2].where(ds["x"] < ds["x"].mean())
    found = surface_features(ds, lake)["vv_cells"]
    assert found.isel(time=slice(2)).isnull().all()
    assert 0.1 < float(found[2].notnull().mean()) < 0.9
    np.testing.assert_allclose(found[2].dropna("cell"), -20, rtol=1e-5)
    states = lake_states(ds, lake)
    assert states["state"].values[:2].tolist() == [0, 0]


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 2, "y": 100, "x": 64}, {"time": -1}])
def test_any_chunking_gives_the_same(lake, chunks):
    """numpy and dask, features and states, dtypes included."""
    rng = np.random.default_rng(7)
    ds = cube(lake, rng.exponential(0.01, (5, 256, 256)))
    for past in (False, True):
        lazy, eager = (lake_states(data, lake, past_only=past) for data in (ds.chunk(chunks), ds))
        assert lazy["state"].chunks is not None
        assert {name: lazy[name].dtype for name in lazy} == {name: eager[name].dtype for name in eager}
        xr.testing.assert_allclose(lazy.compute(), eager, rtol=1e-9)


def test_building_the_graph_computes_nothing_and_calls_nothing(lake, monkeypatch):
    """Everything is known from shapes and coordinates."""

    def called(*args, **kwargs):
        raise AssertionError("a kernel was called while building the graph")

    for name in ("_means", "_median", "_states"):
        monkeypatch.setattr(state_module, name, called)
    ds = cube(lake, np.full((3, 256, 256), 0.01)).chunk(time=1)
    ds["vh"] = ds["vv"] / 4
    with dask.config.set(scheduler=never):
        found = lake_states(ds, lake)
    assert found["probabilities"].shape == (3, 4)


def test_a_tiny_lake_still_has_cells():
    """A pond of a few pixels is looked at down to its shore."""
    from shapely import Point

    from cubekit.lakes import Lake

    centre = Point(86.5, 27.9)
    pond = Lake(id="pond", title="Pond", outline=centre.buffer(0.0006), aoi=centre.buffer(0.01).envelope, epsg=32645)
    found = surface_features(cube(pond, np.full((1, 256, 256), 0.01)), pond)
    assert found.sizes["cell"] > 20
    assert found.attrs["cell_m"] == 20


def test_another_grid_is_refused(lake):
    """A cube of 20 m is not one of 30 m."""
    ds = cube(catalogue()["gokyo"], np.full((1, 256, 256), 0.01))
    with pytest.raises(GridMismatch, match="not the lattice of lake 'gokyo' at 30 m"):
        lake_states(ds, lake)


def test_what_lacks_tracks_dates_or_passes_is_refused(lake):
    """The open water is each track's own, and the ice needs time."""
    given, _ = winter()
    with pytest.raises(ConfigError, match="lack the coordinate track"):
        lake_states(given.drop_vars("track"), lake)
    with pytest.raises(ConfigError, match="time is int64; lake_states needs dates"):
        lake_states(given.assign_coords(time=np.arange(91)), lake)
    with pytest.raises(NoObservations, match="there are no passes"):
        lake_states(given.isel(time=slice(0)), lake)


def test_a_cube_without_vv_is_refused(lake):
    """VH alone has too little over the noise."""
    with pytest.raises(ConfigError, match="no polarisation 'vv'"):
        lake_states(cube(lake, np.full((1, 256, 256), 0.01)).rename(vv="vh"), lake)
