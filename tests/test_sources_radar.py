"""Geometry of the simulated radar, held against rays traced one by one in float64."""

import math
from time import perf_counter

import numpy as np
import pytest
from scipy.ndimage import binary_dilation, binary_erosion, gaussian_filter

from cubekit import lakes
from cubekit.errors import ConfigError
from cubekit.sources._geometry import views
from cubekit.sources._radar import Look, look_of, observe

SPACING = 20.0
LOOKS = [
    Look(-10.4, 32.0),
    Look(-169.6, 40.0),
    Look(-10.4, 46.0),
    Look(60.0, 38.0),
    Look(-90.0, 38.0),
    Look(135.0, 35.0),
]
RELIEFS = {
    "ridge": lambda x, y: np.maximum(0, 400 - 0.9 * np.abs(x + 0.2 * y)),
    "cone": lambda x, y: np.maximum(0, 500 - 1.1 * np.hypot(x, y)),
    "pyramid": lambda x, y: np.maximum(0, 500 - 1.2 * np.maximum(np.abs(x), np.abs(y))),
    "hollow": lambda x, y: -300 * np.exp(-(x**2 + y**2) / 2 / 200**2),
}


def grid(side=120):
    """Eastings and northings of the pixels' centres, the middle is 0."""
    offsets = (np.arange(side) - (side - 1) / 2) * SPACING
    return np.meshgrid(offsets, -offsets)


def trace(relief, x, y, look, reach=1800.0, step=4.0):
    """Layover and shadow of one point, from a dense profile through it along the look."""
    azimuth, theta = math.radians(look.heading + 90), math.radians(look.incidence)
    ground = np.arange(-reach, reach + step / 2, step)
    height = relief(x + ground * math.sin(azimuth), y + ground * math.cos(azimuth)).astype(np.float64)
    slant = ground * math.sin(theta) - height * math.cos(theta)
    ray = ground * math.cos(theta) + height * math.sin(theta)
    middle = ground.size // 2
    shadow = (ray[:middle] > ray[middle] + 1e-6).any()
    layover = slant[middle + 1] <= slant[middle] or slant[middle] <= slant[middle - 1]
    layover |= (slant[:middle] >= slant[middle]).any() or (slant[middle + 1 :] <= slant[middle]).any()
    return layover, shadow


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize("name", RELIEFS)
def test_traced(name, look):
    """Layover and shadow are those of rays traced one by one, but for pixels on their borders."""
    relief, (x, y) = RELIEFS[name], grid()
    seen = observe(relief(x, y).astype(np.float32), SPACING, look)
    rows, columns = np.indices(x.shape)
    some = (rows % 3 == 0) & (columns % 2 == 0) & (rows > 20) & (rows < 100) & (columns > 20) & (columns < 100)
    traced = np.array([trace(relief, *place, look) for place in zip(x[some], y[some], strict=True)])
    for truth, found in zip(traced.T, (seen.layover, seen.shadow), strict=True):
        # A pixel from the border of what was found, either answer may be right
        inner, outer = binary_erosion(found, np.ones((3, 3)))[some], binary_dilation(found, np.ones((3, 3)))[some]
        assert (~truth[inner]).sum() <= 0.005 * inner.sum()
        assert truth[~outer].sum() <= 0.002 * truth.size  # slivers narrower than a pixel, along crests
        assert abs(truth.mean() - found[some].mean()) < 0.012


def test_something_traced():
    """The reliefs above have layover and shadow for some looks: the comparison compares something."""
    x, y = grid()
    shares = [
        [(seen.layover.mean(), seen.shadow.mean()) for look in LOOKS]
        for relief in RELIEFS.values()
        for seen in [observe(relief(x, y).astype(np.float32), SPACING, LOOKS[0])]
    ]
    assert all(row[0][0] > 0.02 for row in shares)
    assert max(observe(RELIEFS["cone"](x, y).astype(np.float32), SPACING, look).shadow.mean() for look in LOOKS) > 0.01


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize(("slope", "towards"), [(0, 0), (25, 80), (25, 260), (35, 10)])
def test_plane_local_incidence(look, slope, towards):
    """On a plane the local incidence is the angle between ray and normal, everywhere."""
    x, y = grid(40)
    rise, up = math.tan(math.radians(slope)), math.radians(towards)
    seen = observe((rise * (x * math.sin(up) + y * math.cos(up))).astype(np.float32), SPACING, look)
    azimuth, theta = math.radians(look.heading + 90), math.radians(look.incidence)
    to_radar = np.array([-math.sin(azimuth) * math.sin(theta), -math.cos(azimuth) * math.sin(theta), math.cos(theta)])
    normal = np.array([-rise * math.sin(up), -rise * math.cos(up), 1]) / math.hypot(rise, 1)
    angle = math.degrees(math.acos(normal @ to_radar))
    np.testing.assert_allclose(seen.local_incidence, angle, atol=0.02)


@pytest.mark.parametrize("look", LOOKS, ids=str)
@pytest.mark.parametrize(("tilt", "layover", "shadow"), [(3, True, False), (-3, False, False)])
def test_plane_towards_the_radar(look, tilt, layover, shadow):
    """A plane that rises away from the radar lies over exactly when it is steeper than the incidence."""
    x, y = grid(40)
    azimuth, rise = math.radians(look.heading + 90), math.tan(math.radians(look.incidence + tilt))
    seen = observe((rise * (x * math.sin(azimuth) + y * math.cos(azimuth))).astype(np.float32), SPACING, look)
    inner = np.s_[8:-8, 8:-8]
    assert (seen.layover[inner] == layover).all()
    assert (seen.shadow[inner] == shadow).all()


@pytest.mark.parametrize("look", LOOKS, ids=str)
def test_plane_away_from_the_radar(look):
    """A plane that falls away is in shadow exactly when it is steeper than the ray."""
    x, y = grid(40)
    azimuth = math.radians(look.heading + 90)
    for tilt, dark in ((3, True), (-3, False)):
        rise = -math.tan(math.radians(90 - look.incidence + tilt))
        seen = observe((rise * (x * math.sin(azimuth) + y * math.cos(azimuth))).astype(np.float32), SPACING, look)
        assert (seen.shadow[8:-8, 8:-8] == dark).all()
        assert not seen.layover.any()


def test_wall_folds_onto_a_lake():
    """Passive layover on level ground reaches as far as height over tan(incidence), towards the radar."""
    x, _ = grid()
    height, look = 300.0, Look(0.0, 38.0)  # looks east
    seen = observe(np.where(x > 0, height, 0).astype(np.float32), SPACING, look)
    covered = seen.layover[60, :60].sum() * SPACING
    assert covered == pytest.approx(height / math.tan(math.radians(38)), abs=1.5 * SPACING)
    dark = observe(np.where(x > 0, 0, height).astype(np.float32), SPACING, look).shadow[60, 60:].sum() * SPACING
    assert dark == pytest.approx(height * math.tan(math.radians(38)), abs=1.5 * SPACING)


def test_mirrored():
    """Turning the ground and the look by quarters turns the answer, but for pixels between two lines of sight."""
    rough = gaussian_filter(np.random.default_rng(1).normal(0, 3000, (90, 90)), 4).astype(np.float32)
    first = observe(rough, SPACING, Look(-10.4, 38.0))
    for quarters in (1, 2, 3):  # rot90 turns the ground counter-clockwise
        again = observe(np.rot90(rough, quarters).copy(), SPACING, Look(-10.4 - 90 * quarters, 38.0))
        for name in ("layover", "shadow"):
            before, after = np.rot90(getattr(first, name), quarters), getattr(again, name)
            assert before.mean() > 0.01
            assert (before != after).mean() < 0.04
        np.testing.assert_allclose(np.rot90(first.local_incidence, quarters), again.local_incidence, atol=1e-2)


def test_level_ground_stays():
    """Level ground has its constant gamma0 after a trip through the radar image, and a pattern stays in place."""
    flat = observe(np.zeros((96, 96), np.float32), SPACING, Look(-10.4, 38.0))
    even = flat.to_map(flat.to_radar(np.full((2, 96, 96), 0.1, np.float32)))
    np.testing.assert_allclose(even[:, 1:-1, 1:-1], 0.1, rtol=1e-5)
    spot = np.zeros((1, 96, 96), np.float32)
    spot[0, 40:44, 50:54] = 1
    back = flat.to_map(flat.to_radar(spot))[0]
    rows, columns = np.indices(back.shape)
    assert (rows * back).sum() / back.sum() == pytest.approx(41.5, abs=0.05)
    assert (columns * back).sum() / back.sum() == pytest.approx(51.5, abs=0.05)
    assert back.sum() == pytest.approx(16, rel=0.02)


def test_layover_mixes():
    """A dark lake below a wall that folds onto it is as bright as the wall, beyond it as dark as before."""
    x, _ = grid()
    wall = np.clip(x * 1.2, 0, 400).astype(np.float32)
    seen = observe(wall, SPACING, Look(0.0, 34.0))
    power = np.where(x < 0, 0.005, 0.2).astype(np.float32)[None]
    mixed = seen.to_map(seen.to_radar(power))[0]
    folded, clear = seen.layover & (x < -40), ~seen.layover & (x < -600)
    assert folded[20:100].sum() > 200
    assert np.median(mixed[folded]) > 0.08
    np.testing.assert_allclose(mixed[20:100][clear[20:100]], 0.005, rtol=0.01)


def test_shadow_is_empty():
    """Nothing echoes from shadow."""
    x, _ = grid()
    seen = observe(np.where(x > 0, 0, 300).astype(np.float32), SPACING, Look(0.0, 40.0))
    image = seen.to_map(seen.to_radar(np.full((1, 120, 120), 0.2, np.float32)))[0]
    inner = binary_erosion(seen.shadow, iterations=3)
    assert inner.sum() > 500
    assert image[inner].max() < 1e-6


def test_looks_of_sentinel_1():
    """Tracks over Nepal have the headings and incidences of Sentinel-1's."""
    for name in ("tsho_rolpa", "tilicho"):
        for view in views(lakes.catalogue()[name]):
            look = look_of(view)
            assert 29 <= look.incidence <= 46.5
            assert look.heading == pytest.approx(-10.3 if view.direction == "ascending" else -169.7, abs=1.2)


def test_quick():
    """A look at 400 x 400 pixels takes less than 0.3 s."""
    rough = np.random.default_rng(0).normal(0, 30, (400, 400)).astype(np.float32)
    times = []
    for _ in range(3):
        start = perf_counter()
        observe(rough, SPACING, Look(-12.0, 35.0))
        times.append(perf_counter() - start)
    assert min(times) < 0.3


@pytest.mark.parametrize("bad", [np.zeros(5), np.zeros((1, 5)), np.full((4, 4), np.nan)])
def test_bad_elevation(bad):
    """Elevation that is no finite image is refused."""
    with pytest.raises(ConfigError, match="finite, dims"):
        observe(bad.astype(np.float32), SPACING, Look(0.0, 38.0))


@pytest.mark.parametrize("incidence", [0.0, 90.0, math.nan])
def test_bad_incidence(incidence):
    """Incidence straight down or level is refused."""
    with pytest.raises(ConfigError, match="between 0 and 90"):
        observe(np.zeros((4, 4), np.float32), SPACING, Look(0.0, incidence))
