"""Equalisation and chips: against the paper's own chips where they are at hand, brute force, and scikit-image."""

import json
import os
import re
from pathlib import Path

import dask
import dask.array
import numpy as np
import pyproj
import pytest
import rasterio
import skimage.exposure
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit import lakes
from cubekit.errors import ConfigError, GridMismatch
from cubekit.preprocess import chips as chips_module
from cubekit.preprocess import equalize, to_chips, write_chips

NPSAR = Path(os.environ.get("CUBEKIT_NPSAR", Path(__file__).parents[2] / "shared" / "data" / "npsar"))
METHODS = pytest.mark.parametrize("method", ["published", "robust"])
LAKE = lakes.catalogue()["tsho_rolpa"]
AOI = dict(zip(("y", "x"), LAKE.aoi_window, strict=True))


def forbidden(*args, **kwargs):
    """Scheduler, or function, that must not be called."""
    raise AssertionError("called while a graph was built")


def power(image, dims=("y", "x"), **attrs):
    return xr.DataArray(image, dims=dims, attrs={"scale": "linear power"} | attrs)


def scene(shape=(40, 50), seed=0):
    """Skewed values as linear power has them, with holes."""
    image = np.random.default_rng(seed).lognormal(-2, 1, shape).astype(np.float32)
    image[np.random.default_rng(seed + 1).random(shape) < 0.1] = np.nan
    return image


def aoi_passes(passes=3):
    """Passes on Tsho Rolpa's AOI window."""
    rows, columns = (AOI[name].stop - AOI[name].start for name in ("y", "x"))
    image = np.stack([scene((rows, columns), seed) for seed in range(passes)])
    attrs = {"polarisation": "vv", "source": "hyp3", "spacing": np.int64(20), "window": "aoi"}
    da = power(image, ("time", "y", "x"), speckle_filter="lee 7x7", **attrs)
    return da.assign_coords(
        **{name: LAKE.lattice.coordinates[name].values[part] for name, part in AOI.items()},
        time=np.datetime64("2021-01-22T00:11:30", "ns") + np.arange(passes) * np.timedelta64(12, "D"),
        track=("time", np.full(passes, 121, np.int16)),
        platform=("time", np.zeros(passes, np.int8)),
    )


# ---- the published chips -----------------------------------------------------------------------------------------


def published_pairs():
    """Crops of HyP3 products and the chips that the paper's authors made of them."""

    def scene_id(path):
        return path.parent.name, re.split(r"_VV", path.name)[0]

    crops = {scene_id(path): path for path in NPSAR.glob("rtc/*/*.tif")}
    found = [(crops.get(scene_id(path)), path) for path in sorted(NPSAR.glob("chips/*/*.tif"))]
    return [(crop, chip) for crop, chip in found if crop is not None]


def read(path):
    with rasterio.open(path) as file:
        return file.read(1)


@pytest.mark.skipif(not NPSAR.is_dir(), reason=f"the paper's data is not at {NPSAR}; set CUBEKIT_NPSAR")
def test_reproduces_the_published_chips():
    """At least 97 of 100 chips bit for bit, all others within 1."""
    worst = []
    for crop, chip in published_pairs():
        values = read(crop)
        grey = equalize(power(np.where(values == 0, np.nan, values)))
        pads = [chips_module._margins(size) for size in values.shape]
        worst.append(np.abs(np.pad(grey.values, pads).astype(int) - read(chip)).max())
    assert len(worst) >= 100
    assert max(worst) <= 1
    assert np.mean(np.array(worst) == 0) >= 0.97


# ---- the definition ----------------------------------------------------------------------------------------------


def by_definition(values):
    """Rule 3 in integers: `values` are whole numbers from 0 to 256, so that the bins' edges are 0, 1, 2, ... 256."""
    counts = [int(np.sum(values == k)) for k in range(256)]
    counts[255] += int(np.sum(values == 256))
    cumulated = np.cumsum(counts).tolist()
    total = cumulated[-1] - cumulated[0]
    return [(cumulated[min(int(value), 255)] - cumulated[0]) * 255 // total for value in values]


def test_follows_the_definition():
    """Whole numbers, where each step can be done without rounding."""
    values = np.random.default_rng(0).integers(0, 257, 5000)
    values[:2] = 0, 256
    grey = equalize(power(values.reshape(50, 100).astype(np.float32)))
    np.testing.assert_array_equal(grey.values.ravel(), by_definition(values))


def test_values_between_edges_are_interpolated_from_the_left_edge():
    """A value in the middle of a bin lies half-way between the cdf of its bin and of the next, truncated."""
    image = np.array([[0, 0.5, 1, 256]], np.float32)
    # cdf 2, 3, 3, ..., 4: shifted and scaled 0, 127.5, ..., 255
    np.testing.assert_array_equal(equalize(power(image)), [[0, 63, 127, 255]])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    st.integers(0, 2**32 - 1),
    st.sampled_from([np.float32, np.float64]),
    st.sampled_from([1e-30, 1.0, 1e30]),
    st.sampled_from([1, 4, 300]),
)
def test_equals_numpy_bit_for_bit(seed, dtype, scale, levels):
    """np.histogram, cumsum, np.interp: for any range and type, with many values on edges of bins."""
    random = np.random.default_rng(seed)
    image = random.lognormal(-2, 2, (30, 40)) if levels == 1 else random.integers(0, levels, (30, 40)) / 7
    image = (image * scale).astype(dtype)
    valid = random.random(image.shape) < 0.8
    values = image[valid].astype(np.float64)
    counts, edges = np.histogram(values, 256)
    cumulated = counts.cumsum()
    scaled = (cumulated - cumulated[0]) * 255 / (cumulated[-1] - cumulated[0])
    expected = np.interp(values, edges[:-1], scaled).astype(np.uint8)
    grey = equalize(power(np.where(valid, image, np.nan).astype(dtype)))
    np.testing.assert_array_equal(grey.values[valid], expected)


def test_is_close_to_scikit_image_which_uses_bin_centres():
    """With scikit-image's mask, both differ by no more than the greatest bin."""
    image = np.random.default_rng(0).uniform(0.1, 0.9, (100, 100))
    valid = np.random.default_rng(1).random(image.shape) < 0.8
    peer = skimage.exposure.equalize_hist(image, nbins=256, mask=valid) * 255
    grey = equalize(power(np.where(valid, image, np.nan)))
    assert np.abs(grey.values - peer)[valid].max() < 3
    assert (grey.values[~valid] == 0).all()


@METHODS
def test_grey_values_are_uniform_and_in_order(method):
    """Equalised: a share g/255 of the pixels is darker than g, and no brighter pixel gets a darker grey."""
    image = np.random.default_rng(0).uniform(0.1, 1, (200, 200)).astype(np.float32)
    grey = equalize(power(image), method=method)
    assert grey.dtype == np.uint8
    assert (grey.values.min(), grey.values.max()) == (0, 255)
    shares = [(grey.values < level).mean() for level in range(0, 256, 15)]
    np.testing.assert_allclose(shares, np.arange(0, 256, 15) / 255, atol=0.015)
    assert (np.diff(grey.values.ravel()[np.argsort(image.ravel())].astype(int)) >= 0).all()


@METHODS
@pytest.mark.parametrize("fill", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_zero_and_does_not_count(method, fill):
    """No data is 0, and what is valid gets what it gets alone."""
    image = scene()
    valid = np.isfinite(image)
    grey = equalize(power(np.where(valid, image, np.float32(fill))), method=method)
    alone = equalize(power(image[valid][None]), method=method)
    np.testing.assert_array_equal(grey.values[valid], alone.values[0])
    assert (grey.values[~valid] == 0).all()
    np.testing.assert_array_equal(grey["observed"], valid)


@METHODS
def test_what_is_not_observed_is_zero_and_does_not_count(method):
    """Layover keeps its values, which must not stretch the histogram."""
    image = scene()
    observed = np.isfinite(image) & (np.arange(50) < 35)
    image[:, 40] = 1e6
    da = power(image).assign_coords(observed=(("y", "x"), observed))
    grey = equalize(da, method=method)
    hidden = equalize(power(np.where(observed, image, np.nan)), method=method)
    xr.testing.assert_identical(grey, hidden)
    assert (grey.values[~observed] == 0).all()
    assert grey["observed"].dtype == bool


@METHODS
@pytest.mark.parametrize("fill", [np.nan, 0.3, 0.0, -0.01])
def test_a_pass_with_nothing_to_rank_is_zero(method, fill):
    """Nothing valid, or one value only: 0; `observed` tells which."""
    image = np.full((5, 6), fill, np.float32)
    grey = equalize(power(image), method=method)
    assert (grey.values == 0).all()
    np.testing.assert_array_equal(grey["observed"], np.isfinite(image))


@METHODS
def test_values_as_close_as_float32_allows_are_told_apart(method):
    """Two neighbouring float32 values become 0 and 255."""
    pair = np.array([[0.25, np.nextafter(np.float32(0.25), np.float32(1))]], np.float32)
    np.testing.assert_array_equal(equalize(power(pair), method=method), [[0, 255]])


def test_a_scatterer_ruins_the_published_method_and_not_the_robust_one():
    """One pixel a million times brighter leaves one grey value of the published method (contracts, section 6)."""
    image = np.random.default_rng(0).lognormal(-2, 1, (100, 100)).astype(np.float32)
    plain = equalize(power(image), method="robust").values.astype(int)
    image[50, 50] = 1e5
    dark = np.delete(equalize(power(image)).values.ravel(), 50 * 100 + 50)
    assert np.unique(dark).size == 1
    robust = equalize(power(image), method="robust").values.astype(int)
    assert np.abs(np.delete((robust - plain).ravel(), 50 * 100 + 50)).max() <= 2


def test_robust_clips_decibels_to_percentiles():
    """The same as the published method on dB, clipped: shown in numpy, step by step."""
    image = np.random.default_rng(0).lognormal(-2, 1, (100, 100)).astype(np.float32)
    decibels = 10 * np.log10(image.astype(np.float64))
    clipped = np.clip(decibels, *np.percentile(decibels, [0.5, 99.5]))
    expected = equalize(power(clipped - clipped.min()))
    off = np.abs(equalize(power(image), method="robust").values.astype(int) - expected.values.astype(int))
    assert off.max() <= 1  # shifting the decibels rounds them
    assert (off > 0).mean() < 0.001


def test_robust_takes_power_below_zero_for_the_lower_limit():
    """Noise removal leaves 0 and less over calm water: as dark as the darkest."""
    image = scene()
    image[0, :5] = 0, -0.01, -1e-9, 0, -3
    grey = equalize(power(image), method="robust")
    assert (grey.values[0, :5] == 0).all()
    assert grey["observed"].values[0, :5].all()
    without = np.where(image > 0, image, np.nan)
    positive = equalize(power(without), method="robust").values.astype(int)[image > 0]
    assert np.abs(positive - grey.values[image > 0]).max() <= 1


# ---- lazily, and each pass on its own ----------------------------------------------------------------------------


@METHODS
@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.integers(1, 3), st.integers(1, 20), st.integers(1, 20), st.permutations(["time", "y", "x"]))
def test_any_chunking_and_order_of_dims_gives_the_same(method, time, y, x, order):
    """Chunks are laid together lazily; every pass is what it is alone."""
    da = power(np.stack([scene((15, 17), seed) for seed in range(3)]), ("time", "y", "x"))
    expected = xr.concat([equalize(da[k], method=method) for k in range(3)], "time")
    lazy = da.transpose(*order).chunk({"time": time, "y": y, "x": x})
    grey = equalize(lazy, method=method)
    assert grey.chunks is not None
    assert grey.dims == tuple(order)
    xr.testing.assert_identical(grey.compute(scheduler="sync"), expected.transpose(*order))


def test_building_graphs_computes_and_calls_nothing(monkeypatch):
    """Equalisation and chips are lazy, `observed` beside them too."""
    da = aoi_passes().chunk(time=1, y=50)
    da = da.assign_coords(observed=np.isfinite(da))
    # `cubekit.preprocess.equalize` is the function, whose module has the same name
    monkeypatch.setitem(equalize.__globals__, "_equalize", forbidden)
    with dask.config.set(scheduler=forbidden):
        grey, made = equalize(da), to_chips(da, LAKE)
    assert grey.chunks is not None
    assert grey["observed"].chunks is not None
    assert made.chunks == ((1, 1, 1), (256,), (256,))
    assert made["observed"].chunks == ((1, 1, 1), (256,), (256,))


# ---- what travels with the data ----------------------------------------------------------------------------------


def test_the_fingerprint_tells_the_whole_chain():
    """Sorted JSON in plain types; what isn't known is null; power's attributes no longer true are gone."""
    da = aoi_passes()
    da.encoding = {"dtype": "float32", "_FillValue": np.nan}
    grey = equalize(da, method="robust")
    assert grey.attrs["preprocessing"] == (
        '{"equalize": "robust", "polarisation": "vv", "source": "hyp3", "spacing": 20, "speckle_filter": "lee 7x7", '
        '"window": "aoi"}'
    )
    assert grey.attrs["equalize"] == "robust"
    assert grey.attrs["scale"] == "equalised"
    assert grey.attrs["source"] == "hyp3"
    assert grey.encoding == {}
    assert set(grey.coords) == {"time", "y", "x", "track", "platform", "observed"}
    assert da.attrs["scale"] == "linear power"
    assert "observed" not in da.coords
    assert json.loads(equalize(power(scene())).attrs["preprocessing"])["source"] is None
    assert json.loads(equalize(power(scene(), spacing=20.0)).attrs["preprocessing"])["spacing"] == 20


@pytest.mark.parametrize(
    ("da", "options", "message"),
    [
        (power(scene()), {"method": "clahe"}, "equalize method 'clahe' isn't known; allowed are published, robust"),
        (power(scene(), scale="dB"), {}, "only 'linear power'"),
        (power(np.ones((3, 3), np.uint8)), {}, "uint8; it must be floating point"),
        (power(scene(), ("row", "column")), {}, "it needs 'y' and 'x'"),
    ],
)
def test_refuses_what_is_not_power(da, options, message):
    """Each message says what was given."""
    with pytest.raises(ConfigError, match=message):
        equalize(da, **options)


# ---- chips -------------------------------------------------------------------------------------------------------


@METHODS
def test_chips_hold_the_window_in_the_middle(method):
    """Each pixel keeps its coordinates; around the window all is 0 and not observed."""
    da = aoi_passes()
    grey = equalize(da, method=method)
    made = to_chips(da, LAKE, method=method)
    assert made.shape == (3, 256, 256)
    assert made.dtype == np.uint8
    rows, columns = da.shape[1:]
    top, left = (256 - rows) // 2, (256 - columns) // 2
    np.testing.assert_array_equal(made[:, top : top + rows, left : left + columns], grey)
    inside = made.sel(y=da["y"], x=da["x"])
    np.testing.assert_array_equal(inside, grey)
    np.testing.assert_array_equal(inside["observed"], grey["observed"])
    assert int(made.sum()) == int(grey.sum())
    assert int(made["observed"].sum()) == int(grey["observed"].sum())
    assert made["observed"].dtype == bool
    np.testing.assert_array_equal(np.diff(made["y"]), -20)
    np.testing.assert_array_equal(np.diff(made["x"]), 20)
    assert made.attrs == grey.attrs | {"lake": "tsho_rolpa", "grid_mapping": "spatial_ref"}
    assert set(made.coords) == {"time", "y", "x", "track", "platform", "observed", "spatial_ref"}


@pytest.mark.parametrize("size", [1, 53, 57, 144, 255, 256])
def test_margins_are_those_of_the_published_chips(size):
    """(256 - size) // 2 before; both margins and the window make 256."""
    before, after = chips_module._margins(size)
    assert before == (256 - size) // 2
    assert before + size + after == 256


def test_chips_are_the_same_lazily():
    """Chunked in time, y and x; an index on track stays."""
    da = aoi_passes().set_xindex("track")
    assert "track" in to_chips(da, LAKE).xindexes
    xr.testing.assert_identical(to_chips(da.chunk(time=2, y=40, x=99), LAKE).compute(), to_chips(da, LAKE))


def test_chips_refuse_another_grid():
    """Another window, spacing or half a pixel's shift."""
    da = aoi_passes()
    with pytest.raises(GridMismatch, match="AOI window of lake 'tsho_rolpa' at 20 m has"):
        to_chips(da.isel(y=slice(1, None)), LAKE)
    with pytest.raises(GridMismatch, match="at 30 m has"):
        to_chips(da, LAKE.at_spacing(30))
    with pytest.raises(GridMismatch, match="pixels along x"):
        to_chips(da.assign_coords(x=da["x"] + 10), LAKE)
    with pytest.raises(GridMismatch, match="without coordinates"):
        to_chips(da.drop_vars("y"), LAKE)


@pytest.mark.parametrize("chunks", [None, {"time": 1}])
def test_written_chips_read_back_equal(tmp_path, chunks):
    """Values, place, CRS, nodata and names; two batches, and a second run replaces the first."""
    made = to_chips(aoi_passes(67), LAKE)
    made = made if chunks is None else made.chunk(chunks)
    folder = tmp_path / "new" / "chips"
    for _ in range(2):
        paths = write_chips(made, folder)
    assert paths[0].name == "S1A_20210122T001130_T121_VV_tsho_rolpa.tif"
    assert sorted(folder.iterdir()) == sorted(paths)
    assert len(paths) == 67
    for path, image in zip(paths, made.compute(), strict=True):
        with rasterio.open(path) as file:
            np.testing.assert_array_equal(file.read(1), image)
            assert file.crs == pyproj.CRS.from_epsg(LAKE.epsg)
            assert (file.nodata, file.dtypes, file.compression.value) == (0, ("uint8",), "DEFLATE")
            assert file.tags()["preprocessing"] == made.attrs["preprocessing"]
            assert file.xy(0, 0) == (float(made["x"][0]), float(made["y"][0]))
            assert file.xy(255, 255) == (float(made["x"][255]), float(made["y"][255]))


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path, monkeypatch):
    """A file is there as a whole or not at all."""
    made = to_chips(aoi_passes(1), LAKE)
    (path,) = write_chips(made, tmp_path)
    before = path.read_bytes()
    monkeypatch.setattr(rasterio.io.DatasetWriter, "update_tags", forbidden, raising=False)
    with pytest.raises(AssertionError, match="called while"):
        write_chips(made * 0, tmp_path)
    assert [*tmp_path.iterdir()] == [path]
    assert path.read_bytes() == before


def test_writing_refuses_what_are_not_chips(tmp_path):
    """Power, chips without a coord for their names, without a CRS, or of the same name."""
    made = to_chips(aoi_passes(2), LAKE)
    with pytest.raises(ConfigError, match=r"float32 with dims .* make them with to_chips"):
        write_chips(aoi_passes(1), tmp_path / "none")
    with pytest.raises(ConfigError, match="no coord track, platform along time"):
        write_chips(made.drop_vars(["track", "platform"]), tmp_path / "none")
    with pytest.raises(ConfigError, match="no coord spatial_ref with a CRS"):
        write_chips(made.drop_vars("spatial_ref"), tmp_path / "none")
    with pytest.raises(ConfigError, match=r"two passes would be written to S1A_20210122T001130_T121_VV"):
        write_chips(made.isel(time=[0, 0]), tmp_path / "none")
    assert not (tmp_path / "none").exists()
