"""Slopes of known ramps; p-values against every permutation; rates over many draws."""

from __future__ import annotations

import itertools
import math
import sys

import dask
import numpy as np
import pytest
import xarray as xr
from scipy.stats import kendalltau, theilslopes

from cubekit.errors import ConfigError
from cubekit.series import _kendall, summer_maxima, trend
from cubekit.series._persistence import estimate, inflation, most

YEARS = np.arange(2015, 2026)
TOO_FEW, NONE, INCREASING, DECREASING = range(4)


def series(values, years=None, **attrs):
    """Make a series over years, any other dims first."""
    values = np.asarray(values, float)
    years = np.arange(2000, 2000 + values.shape[-1]) if years is None else years
    dims = (*("track", "lake", "y", "x")[: values.ndim - 1], "year")
    return xr.DataArray(values, coords={"year": years}, dims=dims, name="area", attrs=attrs)


def plain(values, **options):
    """Compute the trend as of independent seasons: what scipy knows."""
    return trend(values, autocorrelation=0, **options)


def autoregressive(rng, phi, shape):
    """Draw AR(1) series of variance 1, stationary from their first value."""
    values = rng.normal(size=shape)
    for step in range(1, shape[-1]):
        values[..., step] = phi * values[..., step - 1] + np.sqrt(1 - phi**2) * values[..., step]
    return values


def statistic(values):
    """Compute Mann-Kendall's S by its definition."""
    return sum(int(np.sign(later - earlier)) for earlier, later in itertools.combinations(values, 2))


def never(dsk, keys, **kwargs):
    """Refuse to compute: a dask scheduler for building graphs under."""
    raise AssertionError("computed while building a graph")


PATTERNS = [values for n in range(4, 8) for values in (range(n), [0, *range(n - 1)], [0] * (n - 2) + [1, 2])]


@pytest.mark.parametrize("values", [*PATTERNS, [0, 0, 1, 1, 2, 2], [0, 0, 0, 1, 1, 1, 2], [5, 5, 5, 5]], ids=str)
def test_p_equals_the_share_of_all_permutations(values):
    """Every order of the values is tried: the exact p, with and without ties."""
    orders = list(itertools.permutations(values))
    s = np.array([abs(statistic(order)) for order in orders])
    expected = [(s >= one).mean() for one in s[::7]]
    np.testing.assert_allclose(plain(series(orders[::7]))["p_value"], expected, rtol=1e-12)


@pytest.mark.parametrize("n", [4, 8, 9, 10, 15, 29, 50])
def test_p_equals_scipy_s_exact_test(n):
    """An independent exact test without ties gives the same p up to the longest exact series."""
    rng = np.random.default_rng(n)
    draws = rng.normal(size=(20, n)) + np.linspace(0, 2, n) * rng.random((20, 1))
    expected = [kendalltau(np.arange(n), draw, method="exact").pvalue for draw in draws]
    np.testing.assert_allclose(plain(series(draws))["p_value"], expected, rtol=1e-9)


def test_p_of_long_series_is_the_corrected_normal_approximation():
    """Beyond the exact bound p is close to the exact one, and ties are taken into account."""
    rng = np.random.default_rng(4)
    draws = rng.normal(size=(20, 51))
    exact = [kendalltau(np.arange(51), draw, method="exact").pvalue for draw in draws]
    np.testing.assert_allclose(plain(series(draws))["p_value"], exact, atol=0.0021)
    # Ties, against the share among 4,000 random orders.
    tied = np.repeat([0.0, 1.0], 27)
    orders = rng.permuted(np.tile(tied, (4000, 1)), axis=1)
    first, second = np.triu_indices(54, 1)
    s = np.abs(np.sign(orders[:, second] - orders[:, first]).sum(axis=1))
    for order in orders[:20]:
        expected = (s >= abs(statistic(order))).mean()
        assert float(plain(series(order))["p_value"]) == pytest.approx(expected, abs=0.03)


def test_the_smallest_significant_s_is_the_published_one():
    """|S| of 18, 20 and 23 at 8, 9 and 10 values (contracts 7.3), and none up to the largest, 6, at 4."""
    found = [int(_kendall.smallest_significant(n, 0.05, np.ones(1))[0]) for n in (4, 8, 9, 10)]
    assert found == [8, 18, 20, 23]


@pytest.mark.parametrize(("s", "verdicts"), [(23, (INCREASING, DECREASING)), (21, (NONE, NONE))])
def test_the_verdict_changes_at_the_smallest_significant_s(s, verdicts):
    """At 10 values S = 23 is a trend and S = 21 is not, in either direction."""
    order = list(range(10))
    while statistic(order) > s:  # every swap of neighbours takes 2 off S
        position = next(i for i in range(9) if order[i] < order[i + 1])
        order[position], order[position + 1] = order[position + 1], order[position]
    assert statistic(order) == s
    up, down = plain(series(order)), plain(series(order[::-1]))
    assert (int(up["verdict"]), int(down["verdict"])) == verdicts
    assert float(up["p_value"]) == float(down["p_value"])


def test_a_ramp_with_noise_gives_its_slope_back():
    """Over 20,000 lakes the slope is unbiased, and the 95 % interval holds the truth as often as theory says."""
    rng = np.random.default_rng(5)
    true = 0.012
    found = plain(series(1.5 + true * (YEARS - 2015) + rng.normal(0, 0.02, (20_000, 11)), YEARS, units="km2"))
    assert float(found["slope"].mean()) == pytest.approx(true, abs=0.0001)
    covered = (found["slope_low"] <= true) & (true <= found["slope_high"])
    # S is discrete: at 11 values the smallest interval of at least 95 % has 95.95 %.
    assert float(covered.mean()) == pytest.approx(0.9595, abs=0.005)
    assert float((found["verdict"] == INCREASING).mean()) > 0.9
    line = found["intercept"] + found["slope"] * 2020
    assert float(line.mean()) == pytest.approx(1.56, abs=0.001)


def test_an_exact_ramp_is_returned_exactly():
    """No noise: slope, interval and line are the ramp."""
    found = trend(series(3.0 - 0.25 * (YEARS - 2015), YEARS))
    assert [float(found[name]) for name in ("slope", "slope_low", "slope_high")] == pytest.approx([-0.25] * 3)
    assert float(found["intercept"] + found["slope"] * 2015) == pytest.approx(3.0)
    assert int(found["verdict"]) == DECREASING


def test_slope_and_interval_equal_scipy_s():
    """Theil-Sen by another hand; the normal interval of scipy is within a rank of the exact one at n = 40."""
    rng = np.random.default_rng(6)
    years = np.sort(rng.choice(np.arange(1900, 2026), 40, replace=False))
    values = rng.normal(size=40) + 0.01 * years
    found, expected = plain(series(values, years)), theilslopes(values, years)
    assert float(found["slope"]) == pytest.approx(expected.slope, rel=1e-12)
    assert float(found["slope_low"]) == pytest.approx(expected.low_slope, abs=5e-4)
    assert float(found["slope_high"]) == pytest.approx(expected.high_slope, abs=5e-4)


def test_one_outlier_moves_it_little():
    """One corrupted summer shifts a least-squares slope by its own size, this one hardly."""
    rng = np.random.default_rng(7)
    clean = 1.5 + 0.01 * (YEARS - 2015) + rng.normal(0, 0.005, 11)
    damaged = clean.copy()
    damaged[9] += 5
    slopes = [float(plain(series(values, YEARS))["slope"]) for values in (clean, damaged)]
    assert slopes[1] == pytest.approx(slopes[0], abs=0.002)
    assert abs(np.polyfit(YEARS, damaged, 1)[0] - slopes[0]) > 0.1


def test_false_positives_keep_the_level():
    """Of 2,000 series of 10 independent years without trend at most 5 % (7 % with the luck of the draw) get one."""
    found = trend(series(np.random.default_rng(8).normal(size=(2000, 10))))
    rate = float((found["verdict"] >= INCREASING).mean())
    assert 0.03 <= rate <= 0.07


@pytest.mark.parametrize(("n", "phi"), [(10, 0.0), (10, 0.4), (30, 0.4)])
def test_autocorrelated_series_keep_the_level(n, phi):
    """Without a trend few get one, and the interval holds 0 as often as it should; plain Mann-Kendall fails at 0.4."""
    draws = autoregressive(np.random.default_rng(20), phi, (4000, n))
    found = trend(series(draws))
    assert 0.03 < float((found["verdict"] >= INCREASING).mean()) < 0.075
    assert 0.92 < float(((found["slope_low"] <= 0) & (found["slope_high"] >= 0)).mean()) < 0.97
    naive = float((found["p_independent"] < 0.05).mean())
    assert naive > 0.12 if phi else 0.03 < naive < 0.06


def test_little_power_is_lost_where_there_is_no_autocorrelation():
    """One standard deviation in five years is found at least 0.65 times as often as by plain Mann-Kendall."""
    draws = np.random.default_rng(21).normal(size=(6000, 10)) + np.arange(10) / 5
    found = [float((one(series(draws))["verdict"] == INCREASING).mean()) for one in (trend, plain)]
    assert 0.65 < found[0] / found[1] < 0.9


def test_the_autocorrelation_is_found():
    """Long series give theirs back; a gap counts as long as it lasts."""
    draws = autoregressive(np.random.default_rng(22), 0.6, (300, 400))
    x = np.broadcast_to(np.arange(400.0), draws.shape)
    assert float(np.mean(estimate(draws, x))) == pytest.approx(0.6, abs=0.02)
    kept = np.setdiff1d(np.arange(400), np.arange(100, 400, 10))
    assert float(np.mean(estimate(draws[:, kept], x[:, kept]))) == pytest.approx(0.6, abs=0.02)


def variance_of_s(rho, n):
    """Compute the exact variance of S of normal values with the correlations given, by all pairs of pairs."""
    first, second = np.triu_indices(n, 1)
    between = rho[np.ix_(second, second)] - rho[np.ix_(second, first)]
    between += rho[np.ix_(first, first)] - rho[np.ix_(first, second)]
    deviation = np.sqrt(np.diag(between))
    return float((2 / np.pi * np.arcsin(np.clip(between / np.outer(deviation, deviation), -1, 1))).sum())


@pytest.mark.parametrize("phi", [-0.3, 0.0, 0.2, 0.4, 0.6, 0.9])
@pytest.mark.parametrize(
    "x",
    [np.arange(8.0), np.arange(10.0) / 12, np.arange(30.0), [0, 1, 2, 5, 6, 9, 10, 11]],
    ids=["8", "10", "30", "gaps"],
)
def test_the_variance_of_s_is_the_exact_one(phi, x):
    """Hamed and Rao's sum, against all pairs of pairs of a normal AR(1) series: to 5 %, with gaps to 12 %."""
    x = np.asarray(x, float)
    lags = np.rint(np.abs(x[:, None] - x) / np.median(np.diff(x)))
    exact = [variance_of_s(one**lags, len(x)) for one in (phi, 0.0)]
    found = float(inflation(np.array([phi]), x[None])[0])
    assert found == pytest.approx(exact[0] / exact[1], rel=0.12 if lags.max() >= len(x) else 0.05)


@pytest.mark.parametrize("phi", [-0.3, 0.2, 0.4, 0.6])
def test_p_of_autocorrelated_values_is_their_share(phi):
    """The autocorrelation known, p is how often series without a trend have such an S, to the last one."""
    draws = autoregressive(np.random.default_rng(30), phi, (40_000, 10))
    found = trend(series(draws), autocorrelation=phi)
    assert float((found["p_value"] < 0.05).mean()) == pytest.approx(0.045, abs=0.015)
    assert float((found["p_value"] < 0.2).mean()) == pytest.approx(0.18, abs=0.03)
    order = plain(series(np.arange(10)))
    perfect = trend(series(np.arange(10) ** 2), autocorrelation=0.9)
    assert float(order["p_value"]) < float(perfect["p_value"]) < 0.05


def test_p_of_tied_values_allows_for_autocorrelation():
    """Ties lower the largest S and its variance; p grows with the autocorrelation and is 1 where S is 0."""
    tied = series([1, 3, 1, 2, 3, 2, 4, 3, 5, 4])
    grown = [float(trend(tied, autocorrelation=phi)["p_value"]) for phi in (-0.4, 0.0, 0.4, 0.8)]
    assert grown == sorted(grown)
    assert 0 < grown[0] < 0.05 < grown[-1] < 1
    assert float(trend(series(np.full(10, 1.5)), autocorrelation=0.5)["p_value"]) == 1


def curves(n):
    """Growth of 1 that saturates, accelerates, is a square root, or a smooth step."""
    t = np.linspace(0, 1, n)
    return {
        "saturates": np.expm1(-3 * t) / np.expm1(-3),
        "accelerates": np.expm1(3 * t) / np.expm1(3),
        "root": np.sqrt(t),
        "step": 1 / (1 + np.exp(-14 * (t - 0.5))),
    }


@pytest.mark.parametrize("shape", ["saturates", "accelerates", "root", "step"])
@pytest.mark.parametrize("n", [8, 10, 14])
def test_curved_growth_plain_to_the_eye_is_no_autocorrelation(shape, n):
    """A curve leaves residuals from a line that look like autocorrelation: in steady order it is a trend."""
    growth = 1.5 + 0.1 * curves(n)[shape]
    assert int(trend(series(growth))["verdict"]) == INCREASING
    assert int(trend(series(-growth))["verdict"]) == DECREASING
    found = trend(series(growth + np.random.default_rng(31).normal(0, 0.0025, (500, n))))
    assert float((found["verdict"] == INCREASING).mean()) > (0.98 if shape != "step" else 0.6)
    assert float(found["autocorrelation"].max()) <= most(n)


def test_strong_trends_are_found_as_by_plain_mann_kendall():
    """A standard deviation a year: at least 0.95 of plain Mann-Kendall's power; half of one at least 0.75."""
    noise = np.random.default_rng(32).normal(size=(4000, 10))
    for slope, share in ((1.0, 0.95), (0.5, 0.75)):
        draws = series(noise + slope * np.arange(10))
        power = [float((one(draws)["verdict"] == INCREASING).mean()) for one in (trend, plain)]
        assert share < power[0] / power[1] <= 1


def test_gaps_keep_the_level():
    """Autocorrelated series with three years missing get a trend as rarely as others."""
    x = np.array([2000, 2001, 2002, 2004, 2005, 2006, 2008, 2009, 2011, 2012, 2013, 2014, 2015])
    draws = autoregressive(np.random.default_rng(33), 0.4, (4000, 16))[:, x - 2000]
    found = trend(series(draws, x))
    assert 0.03 < float((found["verdict"] >= INCREASING).mean()) < 0.075


def test_an_autocorrelation_that_nothing_can_overcome_has_no_interval():
    """Five values of an autocorrelation of 0.9 prove no trend in any order."""
    found = trend(series(np.arange(5.0)), autocorrelation=0.9)
    assert np.isnan(found["slope_low"])
    assert np.isnan(found["slope_high"])
    assert np.isnan(found["detectable"])
    assert float(found["slope"]) == 1
    assert float(found["p_value"]) > 0.05


def test_an_error_common_to_all_seasons_does_not_widen_the_interval():
    """Areas a tenth too large every year have the same slope; an error that grows has another."""
    values = series(1.5 + 0.01 * np.random.default_rng(23).normal(size=11), YEARS)
    alone = trend(values)
    same = trend(values, low=values - 0.004, high=values + 0.004)
    np.testing.assert_allclose(same["slope_low"], alone["slope_low"])
    growing = xr.DataArray(0.02 * (YEARS - 2014), coords={"year": YEARS}, dims="year")
    wider = trend(values, low=values - growing, high=values + growing)
    assert float(wider["slope_low"]) < float(alone["slope_low"]) - 0.005
    # A fully common error of u standard deviations moves the slope by u * 0.02 / 1.96 a year.
    assert float(wider["slope"] - wider["slope_low"]) == pytest.approx(
        float(np.hypot(alone["slope"] - alone["slope_low"], 0.02)), rel=1e-6
    )


def test_intervals_wider_than_the_scatter_count():
    """Seasons that agree by luck to far better than each is known do not make a sure trend."""
    values = series(1.5 + 0.001 * (YEARS - 2015), YEARS)
    assert int(trend(values)["verdict"]) == INCREASING
    wide = trend(values, low=values - 0.1, high=values + 0.1)
    assert int(wide["verdict"]) == NONE
    weights = (YEARS - YEARS.mean()) / ((YEARS - YEARS.mean()) ** 2).sum()
    expected = 0.1 * np.sqrt((weights**2).sum())
    assert float(wide["slope_high"] - wide["slope"]) == pytest.approx(expected, rel=1e-5)
    assert float(wide["detectable"]) > float(wide["slope_high"])


def test_a_season_without_an_interval_is_missing():
    """Bounds that are not known leave the season out, and bounds may come in another order of years."""
    values = series(np.random.default_rng(24).normal(size=(2, 11)), YEARS)
    low = (values - 1).where(values["year"] != 2018)
    found = trend(values, low=low, high=(values + 1).isel(year=slice(None, None, -1)).sortby("year"))
    assert found["n"].values.tolist() == [10, 10]


def test_the_detectable_trend_is_detected():
    """A trend of that size is found in about 80 %, without autocorrelation to be taken out in 80 % exactly."""
    rng = np.random.default_rng(25)
    draws = rng.normal(size=(3000, 30))
    for one in (trend, plain):
        size = float(one(series(draws))["detectable"].median())
        power = float((one(series(draws + size * np.arange(30)))["verdict"] == INCREASING).mean())
        assert 0.72 < power < 0.88


@pytest.mark.parametrize("n", [5, 8, 10, 23])
def test_an_interval_without_zero_and_a_significant_p_are_the_same(n):
    """Test and interval rest on the same distribution."""
    draws = np.random.default_rng(n).normal(size=(300, n)) + np.linspace(0, 2, n)
    for one in (plain, trend):
        found = one(series(draws))
        without_zero = (found["slope_low"] > 0) | (found["slope_high"] < 0)
        np.testing.assert_array_equal(without_zero, found["p_value"] < 0.05)
        np.testing.assert_array_equal(without_zero & (n >= 8), found["verdict"] >= INCREASING)
        assert 0.02 < float(without_zero.mean()) < 1


def test_missing_seasons_are_dropped_and_keep_their_years():
    """NaN gives the same as leaving the years out, and a gap counts as long as it lasts."""
    rng = np.random.default_rng(9)
    values = 1.5 + 0.01 * (YEARS - 2015) + rng.normal(0, 0.01, 11)
    holes = values.copy()
    holes[[1, 2, 6]] = np.nan
    kept = ~np.isnan(holes)
    found = plain(series(holes, YEARS))
    xr.testing.assert_identical(found, plain(series(values[kept], YEARS[kept])))
    assert int(found["n"]) == 8
    assert float(found["slope"]) == pytest.approx(theilslopes(values[kept], YEARS[kept]).slope, rel=1e-12)
    closed_up = plain(series(values[kept], np.arange(8)))
    assert float(closed_up["slope"]) > 1.15 * float(found["slope"])


def test_the_order_of_years_in_the_array_does_not_matter():
    """Years are sorted by their coordinate."""
    values = np.random.default_rng(10).normal(size=(3, 11))
    shuffled = np.random.default_rng(11).permutation(11)
    xr.testing.assert_identical(trend(series(values[:, shuffled], YEARS[shuffled])), trend(series(values, YEARS)))


@pytest.mark.parametrize("n", range(9))
def test_few_seasons_say_so(n):
    """Below 8 the verdict is too few; p needs 4, the interval 5, the slope 2; nothing is 0 in place of missing."""
    values = np.r_[np.arange(n) * 0.5, np.full(9 - n, np.nan)]
    found = trend(series(values))
    assert int(found["n"]) == n
    assert int(found["verdict"]) == (INCREASING if n >= 8 else TOO_FEW)
    assert bool(np.isnan(found["slope"])) == bool(np.isnan(found["intercept"])) == (n < 2)
    assert bool(np.isnan(found["p_value"])) == (n < 4)
    assert bool(np.isnan(found["slope_low"])) == bool(np.isnan(found["slope_high"])) == (n < 5)


def test_a_constant_series_has_no_trend():
    """All values equal: slope 0, p 1."""
    found = trend(series(np.full(10, 1.5)))
    assert (float(found["slope"]), float(found["p_value"]), int(found["verdict"])) == (0, 1, NONE)


@pytest.mark.parametrize("chunks", [{"year": 3}, {"track": 2, "lake": 1}, {"track": 1, "lake": 2, "year": 1}])
def test_any_chunking_and_any_dims_give_the_same(chunks):
    """numpy and dask, with the year in one chunk or in many, first or last."""
    values = np.random.default_rng(12).normal(size=(5, 3, 11))
    values[values > 1.2] = np.nan
    values[0] = np.nan
    eager = trend(series(values, YEARS, units="km2"))
    for order in (("track", "lake", "year"), ("year", "track", "lake")):
        lazy = trend(series(values, YEARS, units="km2").transpose(*order).chunk(chunks))
        assert lazy["slope"].chunks is not None
        assert {name: lazy[name].dtype for name in lazy} == {name: eager[name].dtype for name in eager}
        xr.testing.assert_identical(lazy.compute(), eager)
    for track, lake in ((1, 2), (4, 0)):
        alone = trend(series(values[track, lake], YEARS, units="km2"))
        xr.testing.assert_identical(eager.isel(track=track, lake=lake), alone)


def test_building_the_graph_computes_nothing():
    """A trend of a lazy series is lazy, and its kernel is not called on a dummy."""

    def unreadable(block):
        raise AssertionError("a block was computed")

    lazy = series(np.zeros((4, 11)), YEARS).chunk(track=1)
    lazy = lazy.copy(data=lazy.data.map_blocks(unreadable, dtype=float, meta=np.empty((0, 0))))
    with dask.config.set(scheduler=never):
        found = trend(lazy)
    assert found["verdict"].dtype == np.int8


def test_blocks_of_series_do_not_matter(monkeypatch):
    """Working in pieces to save memory changes no number."""
    values = np.random.default_rng(13).normal(size=(50, 11))
    whole = trend(series(values, YEARS))
    monkeypatch.setattr(sys.modules["cubekit.series.trend"], "_BLOCK", 1)
    xr.testing.assert_identical(trend(series(values, YEARS)), whole)


def test_units_flags_and_another_dim():
    """Units are per step of the dim, and the codes explain themselves."""
    found = trend(series(np.arange(11), YEARS, units="km2").rename(year="orbit"), dim="orbit")
    assert found["slope"].attrs["units"] == found["slope_low"].attrs["units"] == "km2 orbit-1"
    assert found["verdict"].attrs["flag_meanings"] == "too_few_seasons no_trend_detected increasing decreasing"
    assert found["verdict"].attrs["flag_values"].tolist() == [0, 1, 2, 3]
    assert found["intercept"].attrs["units"] == "km2"


def test_unusable_series_are_refused():
    """Each with what is given and what to do."""
    good = series(np.arange(11), YEARS)
    cases = {
        "not 'time'; name the one": (good, "time"),
        "the series is bool": (good > 3, "year"),
        "'year' has no coordinate": (good.drop_vars("year"), "year"),
        "coordinate of datetime64": (good.assign_coords(year=YEARS.astype("datetime64[D]")), "year"),
        "holds 2016 more than once": (good.assign_coords(year=[2015, 2016, 2016, *range(2017, 2025)]), "year"),
    }
    for message, (given, dim) in cases.items():
        with pytest.raises(ConfigError, match=message):
            trend(given, dim=dim)


def test_unusable_bounds_are_refused():
    """One bound alone, bounds of other years, of other dims or the wrong way round, an impossible autocorrelation."""
    good = series(np.arange(11), YEARS)
    cases = {
        "only high is given": {"high": good},
        "only low is given": {"low": good},
        "low has other values of 'year'": {"low": good.assign_coords(year=YEARS + 1), "high": good},
        "high has the sizes": {"low": good, "high": good.isel(year=slice(5))},
        "a low of the values is above its high": {"low": good + 1, "high": good},
        "autocorrelation 1.0 is not from": {"autocorrelation": 1.0},
    }
    for message, options in cases.items():
        with pytest.raises(ConfigError, match=message):
            trend(good, **options)


def test_seasons_and_trends_of_many_lakes_are_lazy_and_the_same():
    """From areas over lake and time to trends: one graph, nothing computed, any chunking."""
    rng = np.random.default_rng(34)
    days = np.datetime64("2014-01-01T00:12", "s") + (12 * np.arange(340)).astype("timedelta64[D]")
    km2 = 1.5 + 0.0003 * np.arange(340) + rng.normal(0, 0.02, (7, 340))
    km2[rng.random(km2.shape) < 0.1] = np.nan
    area = xr.Dataset(
        {"area_km2": (("lake", "time"), km2), "observed_fraction": (("lake", "time"), np.ones_like(km2))},
        coords={"time": days, "track": ("time", np.arange(340) % 2)},
    )
    eager = trend(summer_maxima(area)["median"])
    assert (eager["verdict"] >= NONE).all()
    for chunks in ({"lake": 2, "time": 50}, {"lake": 7, "time": 1}, {"lake": 1, "time": -1}):
        with dask.config.set(scheduler=never):
            lazy = trend(summer_maxima(area.chunk(chunks).assign_coords(track=area["track"]))["median"])
        xr.testing.assert_identical(lazy.compute(scheduler="synchronous"), eager)


def test_no_order_of_ten_is_rarer_than_the_rarest():
    """Values that rise and turn to and fro: their negative correlation sharpens the test, to 2 / 10! and no further."""
    values = 0.1 * np.arange(10) + 0.003 * np.where(np.arange(10) % 2, 1, -1)
    found = trend(xr.DataArray(values, coords={"year": np.arange(2015, 2025)}, dims="year"))
    assert float(found["autocorrelation"]) < -0.3
    assert float(found["p_value"]) == pytest.approx(2 / math.factorial(10), rel=1e-9)
