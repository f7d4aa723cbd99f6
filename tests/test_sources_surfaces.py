"""Levels of simulated backscatter against the models and ranges that their table names."""

import math
from time import perf_counter

import numpy as np
import pytest

from cubekit.errors import ConfigError
from cubekit.sources import _surfaces
from cubekit.sources._radar import Look, observe
from cubekit.sources._surfaces import NOISE_DB, Surface, brighten, ice_gamma0, land_gamma0, water_gamma0

SHAPE = (256, 256)
SEASONS = ("dry", "frozen", "dry_snow", "wet_snow")


def decibel(power):
    return 10 * np.log10(np.asarray(power, np.float64))


def land(surface, *, season="dry", snow=None, seed=3, incidence=39.0):
    ground = np.full(SHAPE, surface, np.uint8)
    angle = np.full(SHAPE, incidence, np.float32)
    return decibel(land_gamma0(ground, angle, season=season, snow=snow, texture_seed=seed))


def cmod5n(wind, incidence, direction):
    """CMOD5.N with its harmonics, written down for one value after Hersbach 2010."""
    c = [-0.6878, -0.7957, 0.3380, -0.1728, 0, 0.0040, 0.1103, 0.0159, 6.7329, 2.7713, -2.2885, 0.4971, -0.7250]
    c += [
        0.0450,
        0.0066,
        0.3222,
        0.0120,
        22.7,
        2.0813,
        3.0,
        8.3659,
        -3.3428,
        1.3236,
        6.2437,
        2.3893,
        0.3249,
        4.159,
        1.693,
    ]
    x = (incidence - 40) / 25
    a0, a1, a2 = c[0] + c[1] * x + c[2] * x**2 + c[3] * x**3, c[4] + c[5] * x, c[6] + c[7] * x
    gamma, s0 = c[8] + c[9] * x + c[10] * x**2, c[11] + c[12] * x
    s = a2 * wind
    f = 1 / (1 + math.exp(-max(s, s0))) * ((s / s0) ** (s0 * (1 - 1 / (1 + math.exp(-s0)))) if s < s0 else 1)
    b0 = 10 ** (a0 + a1 * wind) * f**gamma
    b1 = c[13] * (1 + x) - c[14] * wind * (0.5 + x - math.tanh(4 * (x + c[15] + c[16] * wind)))
    b1 /= 1 + math.exp(0.34 * (wind - c[17]))
    y0, n = c[18], c[19]
    a, b = y0 - (y0 - 1) / n, 1 / (n * (y0 - 1) ** (n - 1))
    v0, d1, d2 = c[20] + c[21] * x + c[22] * x**2, c[23] + c[24] * x + c[25] * x**2, c[26] + c[27] * x
    y = (wind + v0) / v0
    v2 = y if y >= y0 else a + b * (y - 1) ** n
    b2 = (-d1 + d2 * v2) * math.exp(-v2)
    return b0 * (1 + b1 * math.cos(direction) + b2 * math.cos(2 * direction)) ** 1.6


@pytest.mark.parametrize("incidence", [32.0, 40.0, 45.0])
@pytest.mark.parametrize("wind", [1.0, 3.0, 6.0, 12.0])
def test_wind_sea_is_cmod(wind, incidence):
    """VV of water lies between the extremes over wind directions of the whole CMOD5.N, near its mean."""
    power = water_gamma0(SHAPE, wind=wind, incidence=incidence, texture_seed=0)[0]
    over = [cmod5n(wind, incidence, angle) for angle in np.linspace(0, 2 * math.pi, 72, endpoint=False)]
    level = np.median(decibel(power)) + 10 * math.log10(math.cos(math.radians(incidence)))
    assert decibel(min(over)) - 0.5 < level < decibel(max(over)) + 0.5
    assert level == pytest.approx(decibel(np.mean(over)), abs=1.2)


def test_known_values_of_cmod():
    """B0 at 40 degrees: published curves have about -21 dB at 4 m/s and -15 at 10 m/s, mean over directions."""
    assert _surfaces._wind_sea(4, 40) == pytest.approx(-21.3, abs=0.7)
    assert _surfaces._wind_sea(10, 40) == pytest.approx(-15.3, abs=0.7)


def test_water_grows_with_wind():
    """Water gets brighter with the wind and darker with the incidence; strong wind reaches the level of land."""
    levels = [
        np.median(decibel(water_gamma0(SHAPE, wind=w, incidence=35, texture_seed=0)), (1, 2)) for w in range(0, 21, 2)
    ]
    assert (np.diff(levels, axis=0) > 0).all()
    near, far = (np.median(water_gamma0(SHAPE, wind=4, incidence=angle, texture_seed=0)[0]) for angle in (31, 45))
    assert near > 2.5 * far
    assert levels[-1][0] > np.median(land(Surface.GRASS)[0]) - 2
    assert levels[1][0] < NOISE_DB + 6 < np.median(land(Surface.SILT)[0])


def test_calm_below_the_model():
    """Water without wind is as dark as at the lowest wind of the model."""
    calm, least = (water_gamma0(SHAPE, wind=wind, incidence=39, texture_seed=0)[0] for wind in (0.0, 0.2))
    np.testing.assert_array_equal(calm, least)


RANGES = {
    Surface.ROCK: (-14, -3),
    Surface.MORAINE: (-14, -3),
    Surface.DEBRIS_ICE: (-14, -3),
    Surface.GLACIER: (-14, -6),
    Surface.GRASS: (-17, -8),
    Surface.SILT: (-20, -11),
}


@pytest.mark.parametrize("surface", list(Surface))
def test_land_in_its_range(surface):
    """Each surface's median is in the range of its table for nearly all lakes, VH 5 to 11 dB below VV."""
    medians = np.array([np.median(land(surface, seed=seed), (1, 2)) for seed in range(12)])
    low, high = RANGES[surface]
    assert ((medians[:, 0] > low) & (medians[:, 0] < high)).mean() > 0.8
    assert ((medians[:, 0] - medians[:, 1] > 5) & (medians[:, 0] - medians[:, 1] < 11)).all()


def test_wet_snow_is_dark():
    """Wet snow lies at least 3 dB below the ground under it, nowhere above, and only where it lies."""
    snow = np.zeros(SHAPE, bool)
    snow[:, 100:] = True
    bare, wet = land(Surface.MORAINE), land(Surface.MORAINE, season="wet_snow", snow=snow)
    np.testing.assert_allclose(wet[:, :, :100], bare[:, :, :100], atol=1e-4)
    change = (wet - bare)[:, :, 100:]
    assert np.median(change[0]) < -3
    assert -23 < np.median(wet[0, :, 100:]) < -12
    everywhere = land(Surface.MORAINE, season="wet_snow")
    np.testing.assert_allclose(everywhere[:, :, 100:], wet[:, :, 100:], atol=1e-4)


@pytest.mark.parametrize(("surface", "low", "high"), [(Surface.GRASS, -5, -2), (Surface.ROCK, -1.5, 0)])
def test_frozen(surface, low, high):
    """Frozen ground is darker, grass by 2 to 5 dB."""
    change = np.median(land(surface, season="frozen") - land(surface))
    assert low <= change <= high


def test_dry_snow_is_transparent():
    """Dry snow changes VV by less than 1 dB and VH by more than VV."""
    change = np.median(land(Surface.MORAINE, season="dry_snow") - land(Surface.MORAINE, season="frozen"), (1, 2))
    assert 0 <= change[0] < 1 < change[1]


def test_residual_incidence():
    """What flattening leaves: slopes that face the radar are brighter, steadily."""
    levels = [np.median(land(Surface.MORAINE, incidence=angle)[0]) for angle in (12, 20, 30, 40, 55, 75)]
    assert (np.diff(levels) < 0).all()
    assert levels[2] - levels[3] < 1


@pytest.mark.parametrize("season", SEASONS)
def test_seeded(season):
    """The same seed gives the same land, another another; the texture stays from season to season."""
    first, again, other = (land(Surface.ROCK, season=season, seed=seed) for seed in (5, 5, 6))
    np.testing.assert_array_equal(first, again)
    assert np.corrcoef(first[0].ravel(), other[0].ravel())[0, 1] < 0.1
    assert np.corrcoef(first[0].ravel(), land(Surface.ROCK, seed=5)[0].ravel())[0, 1] > 0.8


def test_texture():
    """Texture has the spread of its table, is correlated in VV and VH, and in space over a few pixels."""
    vv, vh = land(Surface.MORAINE)
    assert vv.std() == pytest.approx(3.1, rel=0.15)
    assert 0.7 < np.corrcoef(vv.ravel(), vh.ravel())[0, 1] < 0.95
    near, far = (np.corrcoef(vv[:, lag:].ravel(), vv[:, :-lag].ravel())[0, 1] for lag in (2, 16))
    assert 0.1 < near < 0.5
    assert far < 0.2


def test_ice():
    """Ice brightens as it thickens from about as dark as water; wet ice is dark; levels differ between winters."""
    winters = range(12)
    dry = np.array(
        [
            [
                np.median(decibel(ice_gamma0(SHAPE, thickness=part, wet=False, texture_seed=seed)[0]))
                for part in (0, 0.5, 1)
            ]
            for seed in winters
        ]
    )
    assert (np.diff(dry, axis=1) > 1.5).all()
    assert dry[:, 0].mean() == pytest.approx(-19, abs=1)
    assert dry[:, 2].mean() == pytest.approx(-14, abs=1)
    assert 0.7 < dry[:, 1].std() < 2.5
    wet = [np.median(decibel(ice_gamma0(SHAPE, thickness=1, wet=True, texture_seed=seed)[0])) for seed in winters]
    assert (np.array(wet) < dry[:, 2] - 2).all()
    vv, vh = ice_gamma0(SHAPE, thickness=0.5, wet=False, texture_seed=1)
    assert 6 < np.median(decibel(vv)) - np.median(decibel(vh)) < 10


def test_types():
    """All are float32, positive, (band, y, x)."""
    flat = np.full((40, 50), 39, np.float32)
    images = [
        land_gamma0(np.zeros((40, 50), np.uint8), flat, season="dry", snow=None, texture_seed=0),
        water_gamma0((40, 50), wind=3, incidence=39, texture_seed=0),
        ice_gamma0((1, 1), thickness=0.2, wet=True, texture_seed=0),
    ]
    for image in images:
        assert image.dtype == np.float32
        assert (image > 0).all()
        assert image.ndim == 3
        assert len(image) == 2


def test_brighten_covers_a_lake():
    """A lake under a wall that folds onto it is no longer dark, and the expected values stay as they were."""
    x = (np.arange(120) - 59.5) * 20
    elevation = np.broadcast_to(np.clip(x * 1.3, 0, 500), (120, 120)).astype(np.float32)
    seen = observe(elevation, 20.0, Look(0.0, 33.0))
    expected = np.where(elevation > 0, np.float32(0.2), np.float32(0.005))[None].repeat(2, 0)
    before = expected.copy()
    image = brighten(expected, seen)
    np.testing.assert_array_equal(expected, before)
    covered = seen.layover & (elevation == 0)
    covered[:20] = covered[-20:] = False
    assert covered.sum() > 300
    assert np.median(decibel(image[0][covered])) > -12


def test_quick():
    """Land, water and layover of one date take less than 0.15 s on 420 x 420 pixels, texture at hand."""
    generator = np.random.default_rng(0)
    ground = generator.integers(0, 6, (420, 420)).astype(np.uint8)
    seen = observe(generator.normal(0, 5, (420, 420)).astype(np.float32), 20.0, Look(-10.0, 39.0))
    times = []
    for _ in range(4):
        start = perf_counter()
        image = land_gamma0(ground, seen.local_incidence, season="dry", snow=None, texture_seed=0)
        image[:, 100:200, 100:300] = water_gamma0((100, 200), wind=3.0, incidence=39.0, texture_seed=1)
        brighten(image, seen)
        times.append(perf_counter() - start)
    assert min(times) < 0.15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"season": "summer", "snow": None}, "season 'summer' is not known"),
        ({"season": "wet_snow", "snow": np.zeros((3, 3), bool)}, "on one grid"),
    ],
)
def test_bad_land(options, message):
    """Unknown seasons and other shapes are refused."""
    with pytest.raises(ConfigError, match=message):
        land_gamma0(np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.float32), **options, texture_seed=0)


def test_bad_surface():
    """Unknown codes are refused."""
    with pytest.raises(ConfigError, match="surface code 9"):
        land_gamma0(np.full((4, 4), 9, np.uint8), np.zeros((4, 4), np.float32), season="dry", snow=None, texture_seed=0)


@pytest.mark.parametrize(("wind", "incidence"), [(-1, 39), (26, 39), (3, 10), (3, 60), (math.nan, 39)])
def test_bad_water(wind, incidence):
    """Winds and incidences beyond the model are refused."""
    with pytest.raises(ConfigError, match="0 to 25 m/s"):
        water_gamma0((4, 4), wind=wind, incidence=incidence, texture_seed=0)


@pytest.mark.parametrize("thickness", [-0.1, 1.1, math.nan])
def test_bad_ice(thickness):
    """Thickness is 0 to 1."""
    with pytest.raises(ConfigError, match="thickness"):
        ice_gamma0((4, 4), thickness=thickness, wet=False, texture_seed=0)
