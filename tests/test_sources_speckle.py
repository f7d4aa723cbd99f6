"""Simulated speckle against its distribution, and HyP3's filter against the package's own."""

import math

import numpy as np
import pytest
import xarray as xr
from scipy.stats import gamma, kstest

from cubekit.errors import ConfigError
from cubekit.preprocess import enhanced_lee
from cubekit.sources._radar import Look, observe
from cubekit.sources._speckle import acquire, correlated, hyp3_filter, speckle


def lagged(field, rows, columns):
    """Correlation of a periodic field with itself, moved."""
    centred = field.astype(np.float64) - field.mean(dtype=np.float64)
    return (centred * np.roll(centred, (rows, columns), (0, 1))).mean() / (centred**2).mean()


@pytest.mark.parametrize("correlation", [0.0, 0.5, 0.9, 2.0])
@pytest.mark.parametrize("looks", [1.0, 4.4, 12.0, 60.0])
def test_looks_and_mean(looks, correlation):
    """Mean 1, and as many looks as were asked for within 2 %."""
    field = speckle((1600, 1600), looks, correlation=correlation, generator=np.random.default_rng(1)).astype(np.float64)
    assert field.mean() == pytest.approx(1, abs=0.006)
    assert field.mean() ** 2 / field.var() == pytest.approx(looks, rel=0.02)
    assert field.min() >= 0


@pytest.mark.parametrize("correlation", [0.0, 0.9])
def test_gamma(correlation):
    """Its distribution is the gamma distribution."""
    field = speckle((900, 900), 3.0, correlation=correlation, generator=np.random.default_rng(2))
    apart = field[::9, ::9].ravel()
    assert kstest(apart, gamma(3.0, scale=1 / 3).cdf).pvalue > 0.01


@pytest.mark.parametrize("correlation", [0.5, 0.75, 1.05, 2.0, 5.0])
def test_autocorrelation(correlation):
    """The intensity's autocorrelation is the Gaussian one asked for, in all directions."""
    field = speckle((2000, 2000), 5.0, correlation=correlation, generator=np.random.default_rng(3))
    for rows, columns in ((0, 1), (1, 0), (1, 1), (0, 2), (3, 0)):
        wanted = math.exp(-(rows**2 + columns**2) / correlation**2)
        assert lagged(field, rows, columns) == pytest.approx(wanted, abs=0.02)


def test_uncorrelated():
    """Without correlation every pixel is drawn for itself."""
    field = speckle((1000, 1000), 5.0, correlation=0.0, generator=np.random.default_rng(4))
    assert abs(lagged(field, 0, 1)) < 0.004


def test_correlated_is_normal():
    """The Gaussian field has mean 0, variance 1 and the autocorrelation."""
    field = correlated((1500, 1500), 3.0, np.random.default_rng(5))
    assert field.mean() == pytest.approx(0, abs=0.01)
    assert field.var() == pytest.approx(1, abs=0.02)
    assert lagged(field, 3, 0) == pytest.approx(math.exp(-1), abs=0.02)


def test_seeded():
    """The same generator gives the same speckle, another another."""
    fields = [speckle((64, 64), 4.0, correlation=0.9, generator=np.random.default_rng(seed)) for seed in (1, 1, 2)]
    assert fields[0].dtype == np.float32
    np.testing.assert_array_equal(fields[0], fields[1])
    assert not (fields[0] == fields[2]).any()


@pytest.mark.parametrize("looks", [0.0, -1.0, math.nan, math.inf])
def test_bad_looks(looks):
    """Looks that are none are refused, by the filter as well."""
    with pytest.raises(ConfigError, match="looks"):
        speckle((8, 8), looks, correlation=0.0, generator=np.random.default_rng(0))
    with pytest.raises(ConfigError, match="looks"):
        hyp3_filter(np.ones((8, 8), np.float32), looks)


@pytest.mark.parametrize("correlation", [-0.1, 9.0, math.nan])
def test_bad_correlation(correlation):
    """Correlations out of range are refused."""
    with pytest.raises(ConfigError, match="correlation"):
        speckle((8, 8), 4.0, correlation=correlation, generator=np.random.default_rng(0))


@pytest.mark.parametrize("looks", [3.0, 30.0, 60.0, 180.0])
@pytest.mark.parametrize("holes", [False, True])
def test_filter_is_enhanced_lee(looks, holes):
    """HyP3's filter is the package's enhanced Lee with 7 x 7 pixels and damping 1, with holes as well."""
    generator = np.random.default_rng(6)
    power = speckle((90, 110), 5.0, correlation=0.9, generator=generator) * np.float32(0.02)
    power[:, 60:] *= 20
    power[40, 30] = 50
    power[70:85, 10:30] = 0
    if holes:
        power[generator.random(power.shape) < 0.05] = np.nan
        power[10:30, 50:75] = np.nan
    ours = hyp3_filter(power, looks)
    theirs = enhanced_lee(xr.DataArray(power, dims=("y", "x")), window=7, looks=looks, damping=1.0).values
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    np.testing.assert_allclose(ours, theirs, rtol=2e-5, atol=1e-9)


def test_filter_raises_looks():
    """Told 60 looks it smooths little, but some."""
    power = speckle((400, 400), 4.4, correlation=0.0, generator=np.random.default_rng(7))
    filtered = hyp3_filter(power, 60.0).astype(np.float64)
    assert 12 < filtered.mean() ** 2 / filtered.var() < 25  # contracts: 14 to 21 for filters told 180 to 30
    assert filtered.mean() == pytest.approx(1, abs=0.01)


def flat_image(*, looks, correlation=0.7, filter_looks=None, noise=0.0, level=0.1, heading=-10.4, side=360):
    """An image of level, even ground, less its border."""
    even = observe(np.zeros((side, side), np.float32), 20.0, Look(heading, 39.0))
    options = {"noise": noise, "looks": looks, "correlation": correlation, "filter_looks": filter_looks}
    expected = np.full((1, side, side), level, np.float32)
    return acquire(expected, even, **options, generator=np.random.default_rng(8))[0, 2:-2, 2:-2].astype(np.float64)


@pytest.mark.parametrize("heading", [-10.4, -169.7, 37.0])
@pytest.mark.parametrize("correlation", [0.0, 0.7, 1.2])
def test_looks_on_the_map(heading, correlation):
    """The map has the looks asked for, whatever resampling did to the radar image."""
    image = flat_image(looks=6.0, correlation=correlation, heading=heading)
    assert image.mean() == pytest.approx(0.1, rel=0.01)
    assert image.mean() ** 2 / image.var() == pytest.approx(6.0, rel=0.05)


def test_calm_water_of_hyp3():
    """Filtered images have looks and correlation as calm water in HyP3's crops."""
    image = flat_image(looks=10.0, correlation=0.9, filter_looks=60.0, noise=0.0045, level=0.02)
    centred = image - image.mean()
    neighbours = (centred[:, 1:] * centred[:, :-1]).mean() / centred.var()
    second = (centred[:, 2:] * centred[:, :-2]).mean() / centred.var()
    assert 18 < image.mean() ** 2 / image.var() < 34
    assert 0.4 < neighbours < 0.62  # over all the image: windows of 7 x 7 pixels show less
    assert 0.03 < second < 0.3


def test_noise_is_subtracted():
    """The noise leaves the mean of what is brighter than it, and makes dark water rougher."""
    bright, dark = (flat_image(looks=12.0, noise=0.004, level=level) for level in (0.1, 0.004))
    assert bright.mean() == pytest.approx(0.1, rel=0.01)
    assert dark.mean() == pytest.approx(0.004, rel=0.05)
    assert dark.mean() ** 2 / dark.var() < 5
    assert bright.mean() ** 2 / bright.var() > 9
    assert dark.min() >= 0
