"""Otsu's segmenter against simulated truth, where it has to say nothing, and on real scenes where they are at hand."""

import os
from functools import cache
from pathlib import Path

import cloudpickle
import dask
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from rasterio.features import geometry_mask, rasterize
from rasterio.transform import from_bounds
from scipy import ndimage
from shapely.geometry import Point

from cubekit import lakes
from cubekit.errors import ConfigError, GridMismatch
from cubekit.preprocess.speckle import lee
from cubekit.segmentation import otsu, segment

NPSAR = Path(os.environ.get("CUBEKIT_NPSAR", Path(__file__).parents[1] / ".." / "shared" / "data" / "npsar"))
FINE = 10  # sub-pixels a side


def fraction_of(geometry, lattice):
    """Fraction of each pixel inside a geometry, from sub-pixels of a tenth."""
    rows, columns = lattice.shape
    transform = from_bounds(*lattice.boundingbox.bbox, columns * FINE, rows * FINE)
    fine = rasterize([geometry], (rows * FINE, columns * FINE), transform=transform)
    return fine.reshape(rows, FINE, columns, FINE).mean(axis=(1, 3))


@cache
def truth(name, spacing):
    """Water fraction, outline and zone of a lake of the catalogue over its AOI window."""
    lake = lakes.catalogue()[name].at_spacing(spacing)
    window = lake.aoi_window
    water = fraction_of(lake.project(lake.outline), lake.lattice)
    return water[window], lake.outline_mask.values[window], lake.zone_mask.values[window]


def texture(shape, rng, sd=2.0):
    """Log-normal, correlated over a few pixels: dB, mean 0."""
    rough = ndimage.gaussian_filter(rng.normal(size=shape), 2.0, mode="wrap")
    return rough * sd / rough.std()


def observe(water, seed, *, looks=10, water_db=(-20, -16), land_db=(-11, -6)):
    """Rough land and calm water, mixed in power, as many looks see it and a Lee filter leaves it."""
    rng = np.random.default_rng(seed)
    calm, bright = 10 ** (rng.uniform(*water_db) / 10), 10 ** (rng.uniform(*land_db) / 10)
    land = bright * 10 ** (texture(water.shape, rng) / 10)
    power = (water * calm + (1 - water) * land) * rng.gamma(looks, 1 / looks, water.shape)
    image = xr.DataArray(power.astype(np.float32), dims=("y", "x"), attrs={"scale": "linear power"})
    return lee(image, window=7, looks=float(looks)).values


def find(power, outline, zone, observed=None):
    return otsu.water_probability(power, np.ones(power.shape, bool) if observed is None else observed, outline, zone)


def passes(times=3):
    """A lazy-able array of passes over Gokyo; the second is frozen."""
    lake = lakes.catalogue()["gokyo"]
    rows, columns = lake.aoi_window
    water, _, _ = truth("gokyo", 20)
    data = np.stack([observe(water * (number != 1), number) for number in range(times)])
    observed = np.ones(data.shape, bool)
    observed[:, :6] = False
    data[~observed] = np.nan
    y, x = lake.outline_mask.y[rows], lake.outline_mask.x[columns]
    time = np.datetime64("2020-07-01", "ns") + np.arange(times) * np.timedelta64(12, "D")
    given = xr.DataArray(data, dims=("time", "y", "x"), coords={"time": time, "y": y, "x": x}, name="vv")
    given = given.assign_coords(track=("time", np.full(times, 12, np.int16)), observed=(given.dims, observed))
    return given.assign_attrs(scale="linear power", spacing=20, speckle_filter="lee 7x7"), lake


@pytest.mark.parametrize("seed", range(3))
def test_the_threshold_is_otsus(seed):
    """The between-class variance, by brute force over every split, is largest there."""
    rng = np.random.default_rng(seed)
    values = np.concatenate([rng.normal(-18, 1, 90), rng.normal(-8, 2, 60 + 40 * seed)]).round(1)
    splits = (np.unique(values)[1:] + np.unique(values)[:-1]) / 2

    def between(threshold):
        low, high = values[values < threshold], values[values >= threshold]
        return low.size * high.size * (high.mean() - low.mean()) ** 2

    assert between(otsu.otsu_threshold(values)) == pytest.approx(max(map(between, splits)), rel=1e-12)


def test_no_threshold_parts_equal_values():
    """A constant image has no classes, nor has an empty one."""
    assert otsu.otsu_threshold(np.full(9, -12.5)) is None
    assert otsu.otsu_threshold(np.empty(0)) is None


@pytest.mark.parametrize("spacing", [20, 30])
@pytest.mark.parametrize("name", ["tsho_rolpa", "chamlang_tsho", "tilicho", "gokyo"])
def test_areas_of_real_outlines_are_nearly_unbiased(name, spacing):
    """Thresholded and summed areas of a simulated lake: within 2 % on the mean, and seven of eight scenes within 5 %.

    The others are scenes of 5 to 8 dB of contrast on rough land, where single ones were up to 14 % too large in 900.
    """
    water, outline, zone = truth(name, spacing)
    found = [find(observe(water, seed), outline, zone) for seed in range(100, 124)]
    hard = np.array([np.count_nonzero(p >= 0.5) for p in found]) / water.sum() - 1
    soft = np.array([p.sum() for p in found]) / water.sum() - 1
    for bias in (hard, soft):
        assert abs(bias.mean()) < 0.02
        assert np.count_nonzero(np.abs(bias) > 0.05) <= len(found) // 8
        assert np.abs(bias).max() < 0.15


@pytest.mark.parametrize("name", ["tsho_rolpa", "chamlang_tsho", "tilicho", "gokyo"])
def test_each_area_is_right_where_water_is_dark(name):
    """With 10 dB or more between water and land every scene is within 4 %, at 20 and 30 m."""
    for spacing in (20, 30):
        water, outline, zone = truth(name, spacing)
        for seed in range(200, 212):
            found = find(observe(water, seed, water_db=(-20, -19), land_db=(-9, -6)), outline, zone)
            assert np.count_nonzero(found >= 0.5) == pytest.approx(water.sum(), rel=0.04)
            assert found.sum() == pytest.approx(water.sum(), rel=0.04)


@pytest.mark.parametrize("squeeze", [1.0, 0.5])
def test_areas_of_discs_and_ellipses_are_nearly_unbiased(squeeze):
    """Shapes of known area, their centres at any place within a pixel."""
    lattice = lakes.catalogue()["gokyo"].lattice[:90, :90]
    biases = []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        east, south = 20 * rng.uniform(44, 46, 2)
        middle = Point(lattice.boundingbox.left + east, lattice.boundingbox.top - south)
        shape = shapely.affinity.scale(middle.buffer(420, 64), 1, squeeze)
        water = fraction_of(shape, lattice)
        outline, zone = (
            geometry_mask([g], lattice.shape, lattice.transform, invert=True) for g in (shape, shape.buffer(200))
        )
        found = find(observe(water, seed), outline, zone)
        biases.append([np.count_nonzero(found >= 0.5) * 400 / shape.area - 1, found.sum() * 400 / shape.area - 1])
    assert np.abs(np.mean(biases, axis=0)).max() < 0.02
    assert np.mean(np.abs(biases) > 0.05, axis=0).max() < 0.15


def test_the_shore_is_half_way_in_power():
    """Without noise the fraction of a mixed pixel is found exactly, where half way in dB would call it land."""
    water = np.zeros((40, 40))
    water[10:30, 10:30] = 1
    water[10:30, 9] = 0.6
    water[9, 10:30] = 0.3
    outline, zone = water > 0.5, np.ones(water.shape, bool)
    power = water * 0.01 + (1 - water) * 0.25
    assert 10 * np.log10(power[20, 9]) > (10 * np.log10(0.01) + 10 * np.log10(0.25)) / 2
    np.testing.assert_allclose(find(power, outline, zone), water, atol=1e-5)


def test_the_outline_does_not_decide_the_area():
    """The lake is found where it is dark, though the outline at hand is smaller, larger or of another year."""
    water, outline, zone = truth("chamlang_tsho", 20)
    power = observe(water, 5)
    expected = np.count_nonzero(find(power, outline, zone) >= 0.5)
    for other in (ndimage.binary_erosion(outline, iterations=3), ndimage.binary_dilation(outline, iterations=3)):
        found = np.count_nonzero(find(power, other, zone) >= 0.5)
        assert found == pytest.approx(expected, rel=0.02)


def test_a_lake_that_shrank_is_found_small():
    """Half of the lake turned to land: half of the area, not the outline's."""
    water, outline, zone = truth("tsho_rolpa", 20)
    left = water.copy()
    left[:, left.shape[1] // 2 :] = 0
    assert 0.3 < left.sum() / water.sum() < 0.7
    assert np.nansum(find(observe(left, 3), outline, zone)) == pytest.approx(left.sum(), rel=0.05)


@pytest.mark.parametrize("name", ["tsho_rolpa", "gokyo"])
def test_a_lake_as_bright_as_the_land_is_not_known(name):
    """Ice and waves: no probability, instead of none of water, whatever the texture looks like."""
    water, outline, zone = truth(name, 20)
    known = [np.isfinite(find(observe(np.zeros_like(water), seed), outline, zone)).any() for seed in range(20)]
    assert sum(known) == 0


def test_a_frozen_lake_beside_a_shadow_is_not_known():
    """Two classes there are, but the dark one is not the lake."""
    water, outline, zone = truth("tsho_rolpa", 20)
    power = observe(np.zeros_like(water), 1)
    shadow = zone & ~ndimage.binary_dilation(outline, iterations=2)
    shadow[:, : shadow.shape[1] // 2] = False
    power[shadow] = 0.005
    assert np.isnan(find(power, outline, zone)).all()


def test_too_few_observed_pixels_are_not_known():
    """A handful of pixels in the lake, or around it, has no distribution."""
    water, outline, zone = truth("gokyo", 20)
    power = observe(water, 2)
    for part in (outline, zone & ~outline):
        observed = np.ones(part.shape, bool)
        observed[part] = False
        observed.flat[np.flatnonzero(part)[:20]] = True
        assert np.isnan(find(power, outline, zone, observed)).all()
    assert np.isnan(find(power, outline, zone, np.zeros(power.shape, bool))).all()


def test_what_is_not_observed_is_never_water_and_does_not_move_the_shore():
    """A hole across the shore is NaN; its values, dark as water or not a number, are not looked at."""
    water, outline, zone = truth("tsho_rolpa", 20)
    power = observe(water, 4)
    whole = find(power, outline, zone)
    rows, columns = np.nonzero(outline)
    hole = np.zeros(outline.shape, bool)
    hole[rows.min() - 4 : rows.min() + 8, columns[0] - 10 : columns[0] + 10] = True
    results = []
    for value in (np.nan, 0.0, 1e-3, 1e3):
        damaged = np.where(hole, np.float32(value), power)
        results.append(find(damaged, outline, zone, ~hole))
    assert np.isnan(results[0][hole]).all()
    assert np.isfinite(results[0][~hole]).all()
    for other in results[1:]:
        np.testing.assert_array_equal(other, results[0])
    # The threshold is that of all pixels seen, so a pixel far away may change sides; the lake does not.
    far = ~ndimage.binary_dilation(hole, iterations=8)
    assert results[0][far].sum() == pytest.approx(whole[far].sum(), rel=0.003)


def test_shadow_beyond_a_corner_or_the_zone_is_not_water():
    """Dark patches leak in neither through corners nor far from the lake; none but the zone bounds those that touch."""
    outline = np.zeros((60, 60), bool)
    outline[20:40, 20:40] = True
    zone = ndimage.binary_dilation(outline, np.ones((3, 3)), iterations=8)
    rng = np.random.default_rng(0)
    power = np.where(outline, 0.015, 0.2) * rng.gamma(50, 1 / 50, outline.shape)
    corner, tongue = np.zeros_like(outline), np.zeros_like(outline)
    corner[12:20, 12:20] = True
    tongue[40:60, 26:34] = True
    power[corner | tongue] = 0.01
    found = find(power, outline, zone)
    assert (found[corner] < 0.5).all()
    assert (found[~zone] == 0).all()
    assert (found[outline] >= 0.5).all()


@pytest.mark.parametrize("turn", [lambda a: a[::-1], lambda a: a[:, ::-1], lambda a: a.T])
def test_directions_are_alike(turn):
    """Turned images give the turned result."""
    water, outline, zone = truth("gokyo", 20)
    power = observe(water, 6)
    np.testing.assert_allclose(
        turn(find(power, outline, zone)), find(turn(power), turn(outline), turn(zone)), atol=1e-6
    )


def test_calibration_does_not_matter():
    """Twice the power everywhere is the same lake."""
    water, outline, zone = truth("gokyo", 20)
    power = observe(water, 7)
    np.testing.assert_allclose(find(power, outline, zone), find(2 * power, outline, zone), atol=1e-5)


def test_passes_keep_what_they_came_with():
    """Name, dtype, coordinates, attributes; NaN where not observed and in the frozen pass."""
    given, lake = passes()
    found = segment(given, "otsu", lake=lake)
    assert (found.name, found.dtype, found.dims) == ("probability", np.float32, given.dims)
    assert set(found.coords) == set(given.coords)
    assert found.attrs == {
        "model": "otsu",
        "model_hash": otsu.METHOD_HASH,
        "long_name": "probability of water",
        "units": "1",
        "spacing": 20,
        "speckle_filter": "lee 7x7",
    }
    np.testing.assert_array_equal(found[::2].notnull(), given.observed[::2])
    assert found[1].isnull().all()
    assert float(found.max()) == 1
    assert float(found.min()) == 0


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": (2, 1), "y": 20, "x": 11}])
def test_chunks_make_no_difference_at_all(chunks):
    """Each pass is on its own: lazy results are equal bit for bit."""
    given, lake = passes()
    found = segment(given.chunk(chunks), "otsu", lake=lake)
    xr.testing.assert_identical(found.compute(), segment(given, "otsu", lake=lake))


def test_building_the_graph_computes_nothing(monkeypatch):
    """Neither a scheduler nor the block function is called, and the graph goes through a pickle."""
    given, lake = passes()
    expected = segment(given, "otsu", lake=lake)

    def forbid(*_args, **_kwargs):
        msg = "called while the graph was built"
        raise AssertionError(msg)

    with monkeypatch.context() as patch, dask.config.set(scheduler=forbid):
        patch.setattr(otsu, "_segment_block", forbid)
        segment(given.chunk({"time": 1, "y": 20}), "otsu", lake=lake)
    pickled = cloudpickle.dumps(segment(given.chunk({"time": 1}), "otsu", lake=lake))
    xr.testing.assert_identical(cloudpickle.loads(pickled).compute(), expected)


def test_another_grid_or_scale_is_refused():
    """The message names the lattice and what is wanted."""
    given, lake = passes()
    with pytest.raises(GridMismatch, match=r"not on the lattice of lake 'gokyo' \(EPSG:32645, 30 m"):
        segment(given, "otsu", lake=lake.at_spacing(30))
    with pytest.raises(GridMismatch, match="not on the lattice of lake 'tilicho'"):
        segment(given.drop_vars(["y", "x"]), "otsu", lake=lakes.catalogue()["tilicho"])
    with pytest.raises(ConfigError, match="its scale is 'dB'"):
        segment(given.assign_attrs(scale="dB"), "otsu", lake=lake)


def test_the_hash_names_the_method():
    """Any change of a parameter or of the steps shows; this value changes with them, on purpose only."""
    assert otsu.METHOD_HASH.startswith("otsu-")
    assert otsu.METHOD == (2, 30, 0.8, 0.2, 3, 5, 3, 5, 10, 1e-4)


@pytest.mark.parametrize(("folder", "name", "least"), [("tshoRolpa", "tsho_rolpa", 0.87), ("gokyoTsho", "gokyo", 0.84)])
def test_real_lakes_are_found(folder, name, least):
    """Pooled IoU with hand-drawn masks on real HyP3 scenes, over the passes that are separable, most of them."""
    masks = sorted((NPSAR / "masks_on_crop_grid" / folder).glob("*.tif"))
    if not masks:
        pytest.skip(f"no real scenes at {NPSAR}")
    lake = lakes.catalogue()[name]
    projected = lake.project(lake.outline)
    both = either = known = 0
    scenes = {(path.name.split("_VV")[0]): path for path in (NPSAR / "rtc" / folder).glob("*.tif")}
    for path in masks:
        with rasterio.open(scenes[path.name.split("_VV")[0]]) as opened:
            power, transform, epsg = opened.read(1), opened.transform, opened.crs.to_epsg()
        assert epsg == lake.epsg
        with rasterio.open(path) as opened:
            mask = opened.read(1) > 0
        outline, zone = (
            geometry_mask([shape], power.shape, transform, invert=True) for shape in (projected, projected.buffer(200))
        )
        found = find(power, outline, zone, power > 0)
        if np.isfinite(found).any():
            known += 1
            both += np.count_nonzero((found >= 0.5) & mask)
            either += np.count_nonzero((found >= 0.5) | (mask & (power > 0)))
    assert both / either > least
    assert known / len(masks) > 0.6
