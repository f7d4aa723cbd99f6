"""Seasons against a table counted by hand, and a season that crosses new year."""

from __future__ import annotations

import time
from fractions import Fraction
from itertools import combinations
from math import comb

import dask
import numpy as np
import pytest
import xarray as xr

from cubekit.errors import ConfigError, NoObservations
from cubekit.series import season as season_module
from cubekit.series import summer_maxima
from cubekit.series._seasons import expected_maximum_weights

NAN = float("nan")


def areas(rows):
    """Make areas from rows of (time, track, km2, observed fraction)."""
    times, tracks, km2, fractions = zip(*rows, strict=True)
    return xr.Dataset(
        {
            "area_km2": ("time", np.array(km2, float), {"units": "km2"}),
            "observed_fraction": ("time", np.array(fractions, float)),
        },
        coords={"time": np.array(times, "datetime64[s]"), "track": ("time", np.array(tracks, np.int16))},
        attrs={"lake": "gokyo"},
    )


ROWS = [
    ("2017-06-30T23:59:59", 121, 9.0, 1.0),  # before the season
    ("2017-07-01T00:00:00", 121, 1.5, 1.0),  # its first moment
    ("2017-08-01T00:11:35", 121, 1.7, 0.9),  # observed just enough
    ("2017-08-13T00:11:35", 121, 8.0, 0.89),  # too little
    ("2017-08-25T00:11:35", 121, NAN, 0.95),  # not known
    ("2017-08-26T12:11:35", 12, 1.2, 1.0),  # another track
    ("2017-09-30T23:59:59", 121, 1.6, 1.0),  # its last moment
    ("2017-10-01T00:00:00", 121, 9.0, 1.0),  # after it
    ("2018-01-15T00:11:35", 121, 0.1, 1.0),  # winter only: 2018 has no season of track 121
    ("2018-08-26T12:11:35", 12, NAN, 0.0),  # nothing usable
    ("2020-07-05T00:11:35", 121, 1.8, 1.0),
    ("2020-08-05T00:11:35", 121, 1.8, 1.0),  # the same again
]


def never(dsk, keys, **kwargs):
    """Refuse to compute: a dask scheduler for building graphs under."""
    raise AssertionError("computed while building a graph")


def test_seasons_are_as_counted_by_hand():
    """Every cell of the table: limits inclusive, tracks apart, poor passes out, missing years there and missing."""
    found = summer_maxima(areas(ROWS))
    assert found["maximum"].dims == ("track", "year")
    assert found["track"].values.tolist() == [12, 121]
    assert found["year"].values.tolist() == [2017, 2018, 2019, 2020]
    np.testing.assert_array_equal(found["maximum"], [[1.2, NAN, NAN, NAN], [1.7, NAN, NAN, 1.8]])
    np.testing.assert_array_equal(found["median"], [[1.2, NAN, NAN, NAN], [1.6, NAN, NAN, 1.8]])
    np.testing.assert_array_equal(found["passes"], [[1, 0, 0, 0], [3, 0, 0, 2]])
    np.testing.assert_array_equal(found["passes_excluded"], [[0, 1, 0, 0], [2, 0, 0, 0]])
    moments = found["time_of_maximum"]
    assert moments.sel(track=121, year=2017).values == np.datetime64("2017-08-01T00:11:35")
    assert moments.sel(track=121, year=2020).values == np.datetime64("2020-07-05T00:11:35")
    np.testing.assert_array_equal(np.isnat(moments), np.isnan(found["maximum"]))


def test_a_season_across_new_year_belongs_to_the_year_in_which_it_starts():
    """November to February is one season, not two halves of a calendar year."""
    rows = [
        ("2019-02-28T10:00:00", 121, 1.1, 1.0),  # the winter of 2018
        ("2019-03-01T00:00:00", 121, 9.0, 1.0),
        ("2019-10-31T23:59:59", 121, 9.0, 1.0),
        ("2019-11-01T00:00:00", 121, 1.2, 1.0),
        ("2019-12-31T23:59:59", 121, 1.3, 1.0),
        ("2020-01-01T00:00:00", 121, 1.4, 1.0),
        ("2020-02-29T00:00:00", 121, 9.0, 1.0),  # a leap day after 02-28
    ]
    found = summer_maxima(areas(rows), season=("11-01", "02-28")).sel(track=121)
    assert found["maximum"].to_series().to_dict() == {2018: 1.1, 2019: 1.4}
    assert found["passes"].values.tolist() == [1, 3]


def test_a_single_day_and_a_leap_day_are_seasons():
    """Both ends count, and 29 February is a day."""
    rows = [("2020-02-29T10:00:00", 1, 1.0, 1.0), ("2021-02-28T10:00:00", 1, 2.0, 1.0)]
    found = summer_maxima(areas(rows), season=("02-29", "02-29"))
    assert found["maximum"].to_series().to_dict() == {(1, 2020): 1.0}


def test_the_minimum_observed_has_an_effect_in_both_directions():
    """A lower demand takes the poor pass in, a higher one takes the fair one out."""
    lenient, strict = (summer_maxima(areas(ROWS), min_observed=limit).sel(track=121, year=2017) for limit in (0.8, 1))
    assert (float(lenient["maximum"]), int(lenient["passes"]), int(lenient["passes_excluded"])) == (8.0, 4, 1)
    assert (float(strict["maximum"]), int(strict["passes"]), int(strict["passes_excluded"])) == (1.6, 2, 3)


def test_the_order_of_passes_does_not_matter():
    """A cube in order of arrival gives the same seasons."""
    shuffled = np.random.default_rng(1).permutation(len(ROWS))
    xr.testing.assert_identical(summer_maxima(areas(ROWS).isel(time=shuffled)), summer_maxima(areas(ROWS)))


@pytest.mark.parametrize("length", [1, 5, -1])
def test_any_chunking_gives_the_same(length):
    """Chunk edges within a season change nothing, dtypes included."""
    lazy = summer_maxima(areas(ROWS).chunk(time=length).assign_coords(track=areas(ROWS)["track"]))
    eager = summer_maxima(areas(ROWS))
    assert lazy["maximum"].chunks is not None
    assert {name: lazy[name].dtype for name in lazy} == {name: eager[name].dtype for name in eager}
    xr.testing.assert_identical(lazy.compute(), eager)


def test_building_the_graph_computes_nothing_and_calls_nothing(monkeypatch):
    """Tracks and years come from the coordinates."""

    def called(*args, **kwargs):
        raise AssertionError("the kernel was called while building the graph")

    monkeypatch.setattr(season_module, "reduce_seasons", called)
    lazy = areas(ROWS).chunk(time=3).assign_coords(track=areas(ROWS)["track"])
    with dask.config.set(scheduler=never):
        found = summer_maxima(lazy)
    assert found["maximum"].shape == (2, 4)


def test_the_maximum_grows_with_the_looks_and_the_median_does_not():
    """The bias the docstring warns of: equal lakes, 4 and 16 looks, contracts' 1.03 and 1.76 standard deviations."""
    rng = np.random.default_rng(3)
    for looks, bias in ((4, 1.03), (16, 1.76)):
        years = np.repeat(np.arange(1700, 2250), looks)
        days = np.tile(np.arange(looks), 550)
        times = [f"{year}-07-{day + 1:02d}" for year, day in zip(years, days, strict=True)]
        noise = rng.normal(size=len(times))
        found = summer_maxima(areas([(t, 1, km2, 1.0) for t, km2 in zip(times, noise, strict=True)]))
        assert float(found["maximum"].mean()) == pytest.approx(bias, abs=0.12)
        assert float(found["median"].mean()) == pytest.approx(0, abs=0.07)
        assert set(found["passes"].values.ravel().tolist()) == {looks}


def test_attributes_say_what_was_done():
    """Season and gate are beside the numbers."""
    found = summer_maxima(areas(ROWS), season=("06-15", "10-15"), min_observed=0.5)
    assert found.attrs == {"lake": "gokyo", "season_start": "06-15", "season_end": "10-15", "min_observed": 0.5}
    assert found["maximum"].attrs["units"] == "km2"


def test_no_pass_in_the_season_is_an_error():
    """An empty answer would look like a lake without a trend."""
    with pytest.raises(NoObservations, match=r"none of 12 passes lies in the season 05-01 to 05-02"):
        summer_maxima(areas(ROWS), season=("05-01", "05-02"))


@pytest.mark.parametrize("day", ["7-1", "07/01", "13-01", "02-30", "2020-07-01", "July", "W01-1"])
def test_what_is_no_day_is_refused(day):
    """Months and days have two digits and exist."""
    with pytest.raises(ConfigError, match="is not a day of a season; give month and day as 'MM-DD'"):
        summer_maxima(areas(ROWS), season=(day, "09-30"))


@pytest.mark.parametrize("limit", [-0.1, 90, NAN])
def test_a_gate_outside_0_to_1_is_refused(limit):
    """A percentage is not a fraction."""
    with pytest.raises(ConfigError, match=r"min_observed .* is not between 0 and 1"):
        summer_maxima(areas(ROWS), min_observed=limit)


def test_a_lazy_track_is_refused():
    """It would have to be computed to know the size of the answer."""
    lazy = areas(ROWS).chunk(time=3)
    lazy = lazy.assign_coords(track=lazy["track"].chunk(time=3))
    with pytest.raises(ConfigError, match="track is lazy"):
        summer_maxima(lazy)


def test_areas_without_tracks_and_times_without_dates_are_refused():
    """Tracks are never pooled, so they must be known; so must the season."""
    with pytest.raises(ConfigError, match="lack track"):
        summer_maxima(areas(ROWS).drop_vars("track"))
    with pytest.raises(ConfigError, match="summer_maxima needs dates"):
        summer_maxima(areas(ROWS).assign_coords(time=np.arange(12)))


def test_passes_are_held_against_the_best_of_their_track():
    """A track that never sees the glacier's end is comparable with itself; what it sees at best is told."""
    rows = [("2017-07-01", 121, 1.5, 0.80), ("2017-08-01", 121, 1.6, 0.70), ("2017-07-02", 12, 1.2, 1.0)]
    found = summer_maxima(areas([*rows, ("2017-08-02", 12, 1.9, 0.8)]))
    assert found["maximum"].sel(year=2017).to_series().to_dict() == {12: 1.2, 121: 1.5}
    assert found["passes_excluded"].sel(year=2017).to_series().to_dict() == {12: 1, 121: 1}
    assert found["observed_fraction"].to_series().to_dict() == {12: 1.0, 121: 0.8}


def test_the_fair_maximum_is_the_mean_over_all_subsets():
    """Against every subset of every size, by brute force."""
    values = np.random.default_rng(5).normal(1.5, 0.1, 7)
    given = areas([(f"2020-07-{day + 1:02d}", 1, km2, 1.0) for day, km2 in enumerate(values)])
    for looks in range(1, 8):
        expected = np.mean([max(subset) for subset in combinations(values, looks)])
        assert float(summer_maxima(given, looks=looks)["fair_maximum"][0, 0]) == pytest.approx(expected, rel=1e-12)
    assert np.isnan(summer_maxima(given, looks=8)["fair_maximum"][0, 0])
    assert float(summer_maxima(given, looks=7)["fair_maximum"][0, 0]) == pytest.approx(values.max())


@pytest.mark.parametrize(("count", "looks"), [(5, 2), (16, 4), (3000, 8), (1, 1)])
def test_weights_are_those_of_exact_combinatorics(count, looks):
    """Python's exact binomials, also where they overflow floats."""
    expected = [Fraction(comb(i, looks - 1), comb(count, looks)) for i in range(count)]
    np.testing.assert_allclose(expected_maximum_weights(count, looks), [float(part) for part in expected], rtol=1e-9)


def test_the_percentile_is_the_median_unbiased_one():
    """numpy's quantile, type 8."""
    for count in (1, 2, 5, 6, 13, 40):
        values = np.random.default_rng(count).normal(1.5, 0.1, count)
        given = areas([(f"2020-08-01T00:{minute:02d}", 1, km2, 1.0) for minute, km2 in enumerate(values)])
        expected = np.quantile(values, 0.9, method="median_unbiased")
        assert float(summer_maxima(given)["percentile_90"][0, 0]) == pytest.approx(expected, rel=1e-12)


def test_losing_half_of_the_passes_moves_the_maximum_but_not_the_fair_one():
    """2,000 records, 16 passes of 3 % noise or every other: below 0.3 % (fair), and as theory says (raw)."""
    rng = np.random.default_rng(8)
    km2 = 1 + rng.normal(0, 0.03, (2000, 16))
    given = many(km2, [f"2023-07-{day + 1:02d}" for day in range(16)])
    half = given.assign(area_km2=given["area_km2"].where(np.arange(16) % 2 == 0))
    full, half = (summer_maxima(part) for part in (given, half))
    shift = {name: float((half[name] / full[name] - 1).mean()) for name in ("maximum", "fair_maximum", "median")}
    assert abs(shift["fair_maximum"]) < 0.003
    assert abs(shift["median"]) < 0.003
    assert shift["maximum"] == pytest.approx(-0.03 * (1.766 - 1.424) / (1 + 0.03 * 1.766), abs=0.0015)
    assert set(half["passes"].values.ravel().tolist()) == {8}


def many(km2, days, tracks=None):
    """Areas of many lakes on one axis of time."""
    count = len(days)
    return xr.Dataset(
        {"area_km2": (("lake", "time"), km2), "observed_fraction": (("lake", "time"), np.ones_like(km2))},
        coords={
            "time": np.array(days, "datetime64[s]"),
            "track": ("time", np.zeros(count, np.int16) if tracks is None else np.asarray(tracks, np.int16)),
        },
    )


def test_many_lakes_at_once_are_each_alone():
    """Lakes, passes and tracks vectorised; NaN where a lake has no pass; numpy, dask, and one by one."""
    rng = np.random.default_rng(2)
    km2 = np.where(rng.random((5, 60)) < 0.2, np.nan, rng.normal(1.5, 0.1, (5, 60)))
    days = np.datetime64("2019-06-01") + 12 * np.arange(60)
    given = many(km2, days, np.arange(60) % 2)
    given["observed_fraction"] = given["observed_fraction"].where(rng.random((5, 60)) < 0.9, 0.5)
    whole = summer_maxima(given)
    for lake in range(5):
        xr.testing.assert_identical(whole.isel(lake=lake), summer_maxima(given.isel(lake=lake)))
    lazy = summer_maxima(given.chunk(lake=2, time=7).assign_coords(track=given["track"]))
    xr.testing.assert_identical(lazy.compute(), whole)


def test_ten_thousand_lakes_take_seconds():
    """10,000 lakes of 300 dates, in well under a minute on any machine."""
    rng = np.random.default_rng(0)
    given = many(
        rng.normal(1.5, 0.1, (10_000, 300)), np.datetime64("2016-01-01") + 12 * np.arange(300), np.arange(300) % 2
    )
    begin = time.process_time()
    found = summer_maxima(given)
    assert time.process_time() - begin < 20
    assert found["fair_maximum"].shape == (10_000, 2, 10)


def with_states(codes, start="2018-07-03", step=12):
    """Areas of passes every 12 days with the states given; the area is the number of the pass."""
    days = np.datetime64(start) + step * np.arange(len(codes))
    given = areas([(str(day), 121, float(index), 1.0) for index, day in enumerate(days)])
    return given.assign(state=("time", np.array(codes, np.int8)))


def test_the_season_found_from_the_states_is_the_open_water_between_two_winters():
    """Rough water is counted as excluded; years are cut in the middle of the ice, not at new year."""
    codes = [1] * 14 + [2] * 12 + [3, 3] + [1] * 10 + [4] + [1] * 6 + [2] * 8
    given = with_states(codes)
    found = summer_maxima(given, season="auto", looks=3).sel(track=121)
    assert found["year"].values.tolist() == [2018, 2019]
    assert found["passes"].values.tolist() == [14, 16]
    assert found["passes_excluded"].values.tolist() == [0, 1]
    assert found["maximum"].values.tolist() == [13, 44]
    assert found["median"].values.tolist() == [6.5, np.median([*range(28, 38), *range(39, 45)])]
    assert (found.attrs["season_start"], found.attrs["season_end"]) == ("auto", "auto")
    half_a_year_later = with_states(codes, start="2019-01-01")
    other = summer_maxima(half_a_year_later, season="auto", looks=3).sel(track=121)
    assert other["passes"].values.tolist() == [14, 16]


def test_seasons_from_states_of_many_lakes_are_each_their_own():
    """A lake that thaws late has fewer passes."""
    one = with_states([1] * 10 + [2] * 12 + [1] * 9)
    codes = np.stack([one["state"].values, np.array([1] * 8 + [2] * 16 + [1] * 7, np.int8)])
    days = one["time"].values
    given = many(np.ones((2, 31)), days).assign(state=(("lake", "time"), codes))
    found = summer_maxima(given, season="auto")
    assert found["passes"].isel(track=0).values.tolist() == [[10, 9], [8, 7]]
    swapped = given.assign(state=given["state"].transpose("time", "lake"))
    xr.testing.assert_identical(summer_maxima(swapped, season="auto"), found)


def test_a_lake_that_never_freezes_has_calendar_years():
    """Without ice there is nothing to cut at but new year."""
    found = summer_maxima(with_states([1] * 61, start="2019-01-01"), season="auto").sel(track=121)
    assert found["year"].values.tolist() == [2019, 2020]
    assert found["passes"].values.tolist() == [31, 30]


def test_a_season_cannot_be_found_from_states_that_are_not_known():
    """Unknown, absent and lazy states are refused, each with its repair."""
    given = with_states([1, 1, 2, 1])
    with pytest.raises(ConfigError, match="unknown at every pass; give the days"):
        summer_maxima(given.assign(state=given["state"] * 0), season="auto")
    with pytest.raises(ConfigError, match="state, which is absent"):
        summer_maxima(given.drop_vars("state"), season="auto")
    with pytest.raises(ConfigError, match="state, which is lazy"):
        summer_maxima(given.assign(state=given["state"].chunk(time=2)), season="auto")
    with pytest.raises(NoObservations, match="season found from the states"):
        summer_maxima(given.assign(state=given["state"] * 0 + 2), season="auto")


@pytest.mark.parametrize("looks", [0, 2.5, True, "4"])
def test_a_number_of_looks_that_is_none_is_refused(looks):
    """Whole numbers above 0."""
    with pytest.raises(ConfigError, match="is not a whole number above 0"):
        summer_maxima(areas(ROWS), looks=looks)
