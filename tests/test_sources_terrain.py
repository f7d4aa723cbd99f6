"""Drawn terrains are mountains around a flat lake; read ones are what GDAL reads."""

import math
from itertools import pairwise
from pathlib import Path
from time import perf_counter

import numpy as np
import pytest
import rasterio
from odc.geo.geobox import GeoBox
from rasterio.transform import from_origin
from rasterio.warp import transform
from scipy.ndimage import binary_dilation, distance_transform_edt

from cubekit.errors import ConfigError, SourceError
from cubekit.sources._radar import Look, observe
from cubekit.sources._surfaces import Surface
from cubekit.sources._terrain import fractal, make_terrain, read_terrain

SEEDS = range(12)
DEMS = Path(__file__).parents[2] / "shared" / "data" / "dem"


def lake(shape=(320, 320), long=45, wide=14, turned=0.0):
    """An ellipse, turned counter-clockwise from east, degrees."""
    rows, columns = np.indices(shape)
    east, north = columns - shape[1] / 2, shape[0] / 2 - rows
    angle = math.radians(turned)
    along, across = east * math.cos(angle) + north * math.sin(angle), north * math.cos(angle) - east * math.sin(angle)
    return (along / long) ** 2 + (across / wide) ** 2 < 1


@pytest.fixture(scope="module")
def drawn():
    return {seed: make_terrain(lake(turned=37 * seed), 20.0, seed=seed) for seed in SEEDS}


def slopes(terrain, spacing=20.0):
    return np.degrees(np.arctan(np.hypot(*np.gradient(terrain.elevation.astype(np.float64), spacing))))


def test_lake_is_flat(drawn):
    """The lake is level, and its shore rises from it but for the outlet."""
    for seed, terrain in drawn.items():
        water = lake(turned=37 * seed)
        assert (terrain.elevation[water] == 0).all()
        shore = binary_dilation(water, iterations=2) & ~water
        assert (terrain.elevation[shore] > 0).mean() > 0.97
        assert terrain.elevation[shore].min() > -3


def test_relief_and_slopes(drawn):
    """Hundreds of metres of relief within 3 km; slopes mostly of 15 to 45 degrees away from the valley floor."""
    medians = []
    for seed, terrain in drawn.items():
        far = distance_transform_edt(~lake(turned=37 * seed)) * 20
        near = terrain.elevation[far < 2500]
        assert 400 < near.max() - near.min() < 2800
        walls = slopes(terrain)[(far > 500) & (far < 3000)]
        assert np.percentile(walls, 99) < 65
        medians.append(np.median(walls))
    assert 22 < np.mean(medians) < 36
    assert min(medians) > 12


def test_no_steps(drawn):
    """No pixel is a tower or a pit among its neighbours."""
    for terrain in drawn.values():
        rough = (
            terrain.elevation[1:-1, 1:-1]
            - (
                terrain.elevation[:-2, 1:-1]
                + terrain.elevation[2:, 1:-1]
                + terrain.elevation[1:-1, :-2]
                + terrain.elevation[1:-1, 2:]
            )
            / 4
        )
        assert np.abs(rough).max() < 30


def test_tongue_lies_up_glacier():
    """The tongue of a fed lake lies where the axis points, low at the front, with a gentle slope."""
    fed = 0
    rows, columns = np.indices((320, 320))
    for seed in SEEDS:
        terrain = make_terrain(lake(), 20.0, seed=seed, axis=(1.0, 0.0))
        ice = np.isin(terrain.surface, (Surface.DEBRIS_ICE, Surface.GLACIER))
        ahead = ice & (np.abs(rows - 160) < 4) & (columns > 208) & (columns < 230)
        if not ahead.any():
            continue
        fed += 1
        assert not (terrain.surface[140:180, :110] == Surface.DEBRIS_ICE).any()
        assert np.median(slopes(terrain)[ahead]) < 16
        assert 0 < np.median(terrain.elevation[ahead]) < 110
    assert 6 <= fed < 12


@pytest.mark.parametrize(("axis", "where"), [((0.0, 1.0), np.s_[:90]), ((0.0, -1.0), np.s_[230:])])
def test_axis_is_east_and_north(axis, where):
    """The second number of the axis points north, to smaller rows."""
    mask = lake(turned=90)
    found = sum(
        (make_terrain(mask, 20.0, seed=seed, axis=axis).surface[where] == Surface.DEBRIS_ICE).any() for seed in range(4)
    )
    against = sum(
        (make_terrain(mask, 20.0, seed=seed, axis=axis).surface[::-1][where] == Surface.DEBRIS_ICE).any()
        for seed in range(4)
    )
    assert found > 0
    assert against == 0


def test_kinds(drawn):
    """All surfaces occur over a dozen lakes, rock and moraine at each."""
    counts = np.array([np.bincount(terrain.surface.ravel(), minlength=6) for terrain in drawn.values()])
    assert (counts.sum(0) > 0).all()
    assert (counts[:, [Surface.ROCK, Surface.MORAINE]] > 0).all()
    for terrain in drawn.values():
        assert terrain.surface.dtype == np.uint8
        assert terrain.elevation.dtype == np.float32
        assert np.isfinite(terrain.elevation).all()
        steep = slopes(terrain)[terrain.surface == Surface.ROCK]
        assert np.median(steep) > np.median(slopes(terrain)[terrain.surface == Surface.MORAINE]) + 8


def test_radar_sees_mountains(drawn):
    """Layover and shadow are as common as in the Himalaya, and some lakes are partly folded over at steep looks."""
    steep = [observe(terrain.elevation, 20.0, Look(-10.4, 33.0)) for terrain in drawn.values()]
    flat = [observe(terrain.elevation, 20.0, Look(-169.7, 45.0)) for terrain in drawn.values()]
    assert 0.05 < np.mean([seen.layover.mean() for seen in steep]) < 0.4
    assert 0.003 < np.mean([seen.shadow.mean() for seen in flat]) < 0.15
    covered = [seen.layover[lake(turned=37 * seed)].mean() for seed, seen in zip(SEEDS, steep, strict=True)]
    assert sum(share > 0.02 for share in covered) >= 3
    assert sum(share < 0.02 for share in covered) >= 3


@pytest.mark.parametrize("spacing", [20.0, 30.0])
@pytest.mark.parametrize("shape", [(256, 256), (301, 420)])
def test_any_grid(shape, spacing):
    """Any grid and spacing will do, the same seed gives the same terrain and another another."""
    mask = lake(shape)
    first, again, other = (make_terrain(mask, spacing, seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.elevation, again.elevation)
    np.testing.assert_array_equal(first.surface, again.surface)
    assert first.elevation.shape == shape
    assert (first.elevation != other.elevation).mean() > 0.9


@pytest.mark.parametrize("pixels", [1, 2])
def test_tiny_lake(pixels):
    """A lake of a pixel has a terrain as well."""
    mask = np.zeros((256, 256), bool)
    mask[128, 128 : 128 + pixels] = True
    assert np.isfinite(make_terrain(mask, 20.0, seed=1).elevation).all()


def test_lake_at_the_edge():
    """A lake may reach the edge of the grid, or consist of two parts."""
    mask = np.roll(lake(), 150, axis=1)
    terrain = make_terrain(mask, 20.0, seed=2)
    assert (terrain.elevation[mask] == 0).all()
    assert np.isfinite(terrain.elevation).all()


def test_quick():
    """Terrain and a look at 420 x 420 pixels take less than a second."""
    mask = lake((420, 420))
    make_terrain(lake((256, 256)), 20.0, seed=0)
    times = []
    for seed in range(3):
        start = perf_counter()
        observe(make_terrain(mask, 20.0, seed=seed).elevation, 20.0, Look(-10.0, 39.0))
        times.append(perf_counter() - start)
    assert min(times) < 1


@pytest.mark.parametrize("exponent", [2.0, 3.0, 4.0])
def test_power_law(exponent):
    """The power spectrum of a fractal field falls with its exponent."""
    fields = [fractal((256, 256), exponent, np.random.default_rng(seed)).astype(np.float64) for seed in range(6)]
    window = np.hanning(256)[:, None] * np.hanning(256)
    power = np.mean([np.abs(np.fft.fft2(field * window)) ** 2 for field in fields], axis=0)
    wave = np.hypot(np.fft.fftfreq(256)[:, None], np.fft.fftfreq(256)[None]) * 256
    bands = np.geomspace(6, 80, 9)
    means = [power[(wave >= low) & (wave < high)].mean() for low, high in pairwise(bands)]
    slope = np.polyfit(np.log(np.sqrt(bands[:-1] * bands[1:])), np.log(means), 1)[0]
    assert slope == pytest.approx(-exponent, abs=0.25)


@pytest.mark.parametrize(
    "mask", [np.ones((9, 9), bool), np.zeros((9, 9), bool), np.ones((9, 9), np.uint8), np.ones(9, bool)]
)
def test_bad_mask(mask):
    """A mask without land or water, or of another type, is refused."""
    with pytest.raises(ConfigError, match="with water and land"):
        make_terrain(mask, 20.0, seed=0)


@pytest.mark.parametrize("options", [{"seed": -1}, {"seed": 0, "axis": (0.0, 0.0)}, {"seed": 0, "spacing": 0.0}])
def test_bad_options(options):
    """Negative seeds, axes without a direction and pixels without a size are refused."""
    with pytest.raises(ConfigError, match="is not allowed"):
        make_terrain(lake(), options.pop("spacing", 20.0), **options)


def plane(path, *, nodata=None, hole=False, crs="EPSG:32645", degrees=False):
    """A DEM of a plane that rises 0.1 to the east and 0.05 to the north, from 4500 m; returns the path."""
    spacing, side = 30.0, 400
    heights = 4500 + 0.1 * (np.arange(side) + 0.5) * spacing - 0.05 * (np.arange(side)[:, None] + 0.5) * spacing
    heights = heights.astype(np.float32)
    if hole:
        heights[190:200, 190:200] = nodata
    profile = {"driver": "GTiff", "count": 1, "dtype": "float32", "width": side, "height": side, "crs": crs}
    profile |= {"transform": from_origin(500_000, 3_100_000, spacing, spacing), "nodata": nodata}
    with rasterio.open(path, "w", **profile) as dataset:
        dataset.write(heights, 1)
    return path


BOX = GeoBox.from_bbox(
    (503_005, 3_091_007, 503_005 + 5120, 3_091_007 + 5120), crs="EPSG:32645", resolution=20, tight=True
)


def test_read_plane(tmp_path):
    """A plane is resampled exactly; heights are over the lake's level, and the lake is level."""
    mask = lake((256, 256), 12, 6)
    terrain = read_terrain(plane(tmp_path / "dem.tif"), BOX, level=4400.0, lake_mask=mask)
    x, y = (BOX.coordinates[name].values for name in ("x", "y"))
    truth = 4500 + 0.1 * (x - 500_000) - 0.05 * (3_100_000 - y[:, None]) - 4400
    np.testing.assert_allclose(terrain.elevation[~mask], truth[~mask], atol=0.01)
    assert (terrain.elevation[mask] == 0).all()
    middle = read_terrain(tmp_path / "dem.tif", BOX, lake_mask=mask)
    np.testing.assert_allclose(middle.elevation[~mask], (truth - np.median(truth[mask]))[~mask], atol=0.02)
    assert set(np.unique(middle.surface)) <= set(Surface)


def test_read_nodata(tmp_path):
    """A hole in the model is an error, not a pit."""
    path = plane(tmp_path / "dem.tif", nodata=-9999.0, hole=True)
    with pytest.raises(SourceError, match=r"no height for 0\.3% of the grid"):
        read_terrain(path, BOX, lake_mask=lake((256, 256), 12, 6))


def test_read_elsewhere(tmp_path):
    """A model that does not cover the grid is an error that says how much is missing."""
    path = plane(tmp_path / "dem.tif")
    away = GeoBox.from_bbox((510_000, 3_091_000, 515_120, 3_096_120), crs="EPSG:32645", resolution=20, tight=True)
    with pytest.raises(SourceError, match="covers it without holes"):
        read_terrain(path, away, lake_mask=lake((256, 256), 12, 6))


def test_read_nothing(tmp_path):
    """Files that are missing, or no image, are named."""
    (tmp_path / "text.tif").write_text("no image")
    for name in ("absent.tif", "text.tif"):
        with pytest.raises(SourceError, match=f"{name} can't be read as an elevation model"):
            read_terrain(tmp_path / name, BOX, lake_mask=lake((256, 256), 12, 6))


def test_read_no_crs(tmp_path):
    """A model without coordinate reference system is refused."""
    path = plane(tmp_path / "dem.tif", crs=None)
    with pytest.raises(SourceError, match="no coordinate reference system"):
        read_terrain(path, BOX, lake_mask=lake((256, 256), 12, 6))


def test_read_bad_mask(tmp_path):
    """The lake must lie on the grid."""
    path = plane(tmp_path / "dem.tif")
    with pytest.raises(ConfigError, match="on the grid"):
        read_terrain(path, BOX, lake_mask=lake((300, 256), 12, 6))


@pytest.mark.skipif(not DEMS.is_dir(), reason="the SRTM crops of the shared data are not here")
def test_read_srtm():
    """A real SRTM crop of the Karakoram in degrees comes onto a metric grid, with steep rock and ice in it."""
    path = DEMS / "baltoro_srtm_clip.tif"
    with rasterio.open(path) as dataset:
        (east,), (north,) = transform(dataset.crs, "EPSG:32643", *([middle] for middle in dataset.lnglat()))
    box = (east - 3840, north - 3840, east + 3840, north + 3840)
    grid = GeoBox.from_bbox(box, crs="EPSG:32643", resolution=30, tight=True)
    terrain = read_terrain(path, grid, lake_mask=lake((256, 256), 10, 4))
    assert 500 < np.ptp(terrain.elevation) < 4000
    assert (terrain.surface == Surface.ROCK).mean() > 0.05
    assert observe(terrain.elevation, 30.0, Look(-10.0, 35.0)).layover.mean() > 0.01
