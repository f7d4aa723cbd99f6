"""Speckle filters, the looks they need, and `prepare`: against brute force, simulated speckle, and any chunking."""

import math
import os
import shutil
import subprocess
import sys

import dask
import dask.array
import numpy as np
import pytest
import xarray as xr
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit import lakes
from cubekit.cube.schema import CLEAR, LAYOVER, NO_MAP, SHADOW
from cubekit.errors import ConfigError, GridMismatch
from cubekit.preprocess import _kernels, enhanced_lee, equivalent_looks, lee, prepare, speckle

LOOKS = 4.4
HALF_A_BIT = 6e-8
"""What rounding to float32 costs: all before is exact to far more digits."""

FILTERS = pytest.mark.parametrize("filter_speckle", [lee, enhanced_lee])


def forbidden(*args, **kwargs):
    """Scheduler, or function, that must not be called."""
    raise AssertionError("called while a graph was built")


def power(image, dims=("y", "x"), **attrs):
    return xr.DataArray(image, dims=dims, attrs={"scale": "linear power", "looks": LOOKS} | attrs)


def gamma(shape, looks=LOOKS, mean=0.02, seed=0):
    return np.random.default_rng(seed).gamma(looks, mean / looks, shape).astype(np.float32)


def rough_scene(shape=(37, 41)):
    """Water beside land, holes, a block without data, and a scatterer a million times brighter than water."""
    image = gamma(shape)
    image[:, shape[1] // 2 :] *= 12
    image[shape[0] // 2, shape[1] // 3] = 2e4
    image[np.random.default_rng(1).random(shape) < 0.05] = np.nan
    image[3:14, 5:12] = np.nan
    image[8, 8] = 0.02  # alone in its window, whatever the window
    return image


def brute_force(image, window, estimate):
    """Apply `estimate(pixel, valid pixels of the window)` in float64, pixel by pixel."""
    image = image.astype(np.float64)
    out = np.full(image.shape, np.nan)
    halo = window // 2
    for row, column in np.argwhere(np.isfinite(image)):
        part = image[max(row - halo, 0) : row + halo + 1, max(column - halo, 0) : column + halo + 1]
        out[row, column] = estimate(image[row, column], part[np.isfinite(part)])
    return out


def lee_1980(pixel, part, looks=LOOKS):
    mean, variance, noise = part.mean(), part.var(), 1 / looks
    if mean == 0 and variance == 0:
        return 0.0
    signal = max(0.0, (variance - mean**2 * noise) / (1 + noise))
    return mean + signal / (signal + mean**2 * noise) * (pixel - mean)


def lopes_1990(pixel, part, looks=LOOKS, damping=1.0):
    mean, variation = part.mean(), part.std() / part.mean()
    low, high = 1 / math.sqrt(looks), math.sqrt(1 + 2 / looks)
    if variation <= low:
        return mean
    if variation >= high:
        return pixel
    weight = math.exp(-damping * (variation - low) / (high - variation))
    return mean * weight + pixel * (1 - weight)


REFERENCES = pytest.mark.parametrize(
    ("filter_speckle", "estimate"), [(lee, lee_1980), (enhanced_lee, lopes_1990)], ids=["lee", "enhanced_lee"]
)


# ---- against brute force -----------------------------------------------------------------------------------------


@REFERENCES
@pytest.mark.parametrize("window", [3, 7])
@pytest.mark.parametrize("chunks", [None, (10, 11), (2, 3), (37, 1)])
def test_equals_brute_force_in_float64(filter_speckle, estimate, window, chunks):
    """With holes, at edges, at every seam and beside a scatterer a million times brighter."""
    image = rough_scene()
    da = power(image if chunks is None else dask.array.from_array(image, chunks))
    filtered = filter_speckle(da, window=window)
    assert filtered.dtype == np.float32
    assert (filtered.chunks is None) == (chunks is None)
    np.testing.assert_allclose(filtered.values, brute_force(image, window, estimate), rtol=HALF_A_BIT)


@REFERENCES
def test_equals_brute_force_where_an_image_is_cut_into_strips(filter_speckle, estimate):
    """Wider than a strip, and longer than what is held of one."""
    image = rough_scene((60, 2 * _kernels._PITCH + 3))[:, _kernels._PITCH - 40 :]
    wide = np.concatenate([gamma((60, _kernels._PITCH - 40)), image], axis=1)
    seam = wide[:, _kernels._PITCH - 8 : _kernels._PITCH + 9]
    filtered = filter_speckle(power(wide), window=5).values[:, _kernels._PITCH - 6 : _kernels._PITCH + 7]
    np.testing.assert_allclose(filtered, brute_force(seam, 5, estimate)[:, 2:-2], rtol=HALF_A_BIT)
    lazy = filter_speckle(power(dask.array.from_array(wide, (60, 101))), window=5)
    np.testing.assert_array_equal(lazy, filter_speckle(power(wide), window=5))


def test_a_disk_that_can_not_be_written_keeps_no_kernel_from_running(tmp_path):
    """Beside the module and in the home nothing can be written: it is compiled without being kept."""
    shutil.copy(_kernels.__file__, tmp_path / "kernels.py")
    (tmp_path / "__pycache__").touch()  # a file where the folder would be
    code = "import numpy as np, kernels; a = np.ones(3); kernels._fill(a, 0, 2); print(a)"
    homeless = {name: value for name, value in os.environ.items() if name != "NUMBA_CACHE_DIR"}
    environment = homeless | {"HOME": os.devnull, "XDG_CACHE_HOME": os.devnull, "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-c", code], check=False, capture_output=True, text=True, cwd=tmp_path, env=environment
    )
    assert (done.stdout.strip(), done.returncode) == ("[0. 0. 1.]", 0), done.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["__pycache__", "kernels.py"]


@pytest.mark.parametrize("damping", [0.0, 0.5, 3.0])
@pytest.mark.parametrize("looks", [1.0, 30.0])
def test_damping_and_looks_enter_as_in_the_paper(damping, looks):
    """Each of them changes the result as the formula says."""
    image = rough_scene((20, 22))
    filtered = enhanced_lee(power(image), window=5, looks=looks, damping=damping)
    expected = brute_force(image, 5, lambda pixel, part: lopes_1990(pixel, part, looks, damping))
    np.testing.assert_allclose(filtered.values, expected, rtol=1e-5)


def test_the_argument_looks_wins_over_the_attribute():
    """Looks given by hand are used, and recorded."""
    image = rough_scene((20, 22))
    filtered = lee(power(image, looks=1.0), window=5, looks=30)
    np.testing.assert_allclose(filtered, brute_force(image, 5, lambda i, p: lee_1980(i, p, 30)), rtol=1e-5)
    assert filtered.attrs["filter_looks"] == 30.0


@FILTERS
@pytest.mark.parametrize("dtype", [np.float16, np.float64, ">f4", ">f8"])
def test_any_floating_dtype_gives_float32(filter_speckle, dtype):
    """Big-endian, half and double precision inputs give the same numbers as float32."""
    image = rough_scene((15, 16)).astype(np.float16).astype(dtype)
    filtered = filter_speckle(power(image), window=5)
    assert filtered.dtype == np.float32
    np.testing.assert_array_equal(filtered, filter_speckle(power(image.astype(np.float32)), window=5))


# ---- what must not happen ----------------------------------------------------------------------------------------


@FILTERS
@pytest.mark.parametrize("level", [0.0213, 0.0, 1e-6, 3e4])
def test_a_constant_field_stays_constant(filter_speckle, level):
    """Exactly, with holes, for chunks with seams everywhere."""
    image = np.full((23, 19), level, np.float32)
    image[np.random.default_rng(2).random(image.shape) < 0.3] = np.nan
    np.testing.assert_array_equal(filter_speckle(power(image)), image)
    np.testing.assert_array_equal(filter_speckle(power(dask.array.from_array(image, (4, 5)))), image)


@FILTERS
def test_nothing_travels_farther_than_the_halo(filter_speckle):
    """A scatterer or a hole leaves pixels outside its window as they were, to the last bit."""
    image = gamma((30, 30))
    plain = filter_speckle(power(image), window=7).values
    far = np.ones(image.shape, bool)
    far[12:19, 7:14] = False
    for value in (2e4, np.nan):
        changed = image.copy()
        changed[15, 10] = value
        filtered = filter_speckle(power(changed), window=7).values
        np.testing.assert_array_equal(filtered[far], plain[far])
        assert (filtered[~far] != plain[~far]).any()


@FILTERS
def test_no_data_stays_no_data_and_never_becomes_water(filter_speckle):
    """NaN stays NaN exactly where it was; the shore beside a hole isn't dragged to 0; infinity is no data."""
    image = gamma((30, 30), looks=1e4, mean=0.3)
    image[10:20, 10:20] = np.nan
    image[0, 0] = np.inf
    filtered = filter_speckle(power(image)).values
    np.testing.assert_array_equal(np.isnan(filtered), ~np.isfinite(image))
    assert np.nanmin(filtered) > 0.25


@FILTERS
def test_negative_power_is_allowed(filter_speckle):
    """Noise removal leaves negative power over calm water: turning all signs turns the result's sign."""
    image = gamma((20, 20)) - np.float32(0.01)
    assert image.min() < 0
    filtered = filter_speckle(power(image))
    assert np.isfinite(filtered).all()
    np.testing.assert_array_equal(filter_speckle(power(-image)), -filtered)


# ---- relations ---------------------------------------------------------------------------------------------------


@FILTERS
def test_turning_the_image_turns_the_result(filter_speckle):
    """Transposing, flipping and rotating commute with the filter."""
    image = rough_scene()
    plain = filter_speckle(power(image)).values
    for turn in (np.transpose, np.flipud, np.fliplr, np.rot90):
        np.testing.assert_allclose(filter_speckle(power(turn(image))), turn(plain), rtol=1e-6)


@FILTERS
def test_the_order_of_dims_does_not_matter(filter_speckle):
    """Dims are found by name, and come back in the order they came."""
    stack = power(np.stack([rough_scene((12, 14)), gamma((12, 14))]), dims=("time", "y", "x"))
    plain = filter_speckle(stack, window=5)
    for order in (("x", "time", "y"), ("y", "x", "time"), ("time", "x", "y")):
        for da in (stack.transpose(*order), stack.transpose(*order).chunk(4)):
            filtered = filter_speckle(da, window=5)
            assert filtered.dims == order
            np.testing.assert_allclose(filtered.transpose("time", "y", "x"), plain, rtol=1e-6)


@FILTERS
@pytest.mark.parametrize("factor", [0.125, 1024.0])
def test_scaling_the_power_scales_the_result(filter_speckle, factor):
    """Power times k gives k times the result: the noise is multiplicative."""
    image = rough_scene()
    expected = filter_speckle(power(image)).values * np.float32(factor)
    np.testing.assert_array_equal(filter_speckle(power(image * np.float32(factor))), expected)


@FILTERS
def test_speckle_goes_and_the_mean_stays(filter_speckle):
    """On calm water the number of looks rises by far more than half of the 49 pixels, at the same mean."""
    image = gamma((200, 200), seed=3)
    filtered = filter_speckle(power(image)).values
    assert filtered.mean() == pytest.approx(image.mean(), rel=0.01)
    assert filtered.mean() ** 2 / filtered.var() > 25 * LOOKS


# ---- dask --------------------------------------------------------------------------------------------------------


@st.composite
def chunked(draw, size):
    """Chunks along an axis of `size` pixels."""
    cuts = sorted(draw(st.sets(st.integers(1, size - 1), max_size=size - 1))) if size > 1 else []
    return tuple(int(chunk) for chunk in np.diff([0, *cuts, size]))


@FILTERS
@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.data())
def test_any_chunking_gives_the_same_bits(filter_speckle, data):
    """Chunks of one pixel, axes shorter than the halo, extra dims: all equal numpy."""
    shape = tuple(data.draw(st.integers(1, limit)) for limit in (2, 2, 13, 11))
    window = data.draw(st.sampled_from([3, 5, 7, 11]))
    image = gamma(shape)
    image[np.random.default_rng(4).random(shape) < 0.2] = np.nan
    dims = ("time", "polarisation", "y", "x")
    lazy = dask.array.from_array(image, chunks=tuple(data.draw(chunked(size)) for size in shape))
    filtered = filter_speckle(power(lazy, dims), window=window)
    assert filtered.chunks is not None
    np.testing.assert_array_equal(filtered.compute(scheduler="sync"), filter_speckle(power(image, dims), window=window))


@FILTERS
def test_building_a_graph_computes_and_calls_nothing(filter_speckle, monkeypatch):
    """A graph is built although neither the scheduler nor the filter may be called."""
    lazy = power(dask.array.from_array(rough_scene(), (10, 11)))
    monkeypatch.setattr(speckle, "_filter_block", forbidden)
    with dask.config.set(scheduler=forbidden):
        filtered = filter_speckle(lazy)
    assert (filtered.shape, filtered.dtype) == ((37, 41), np.float32)
    with pytest.raises(AssertionError, match="called while a graph was built"):
        filtered.compute(scheduler="sync")


def test_no_passes_give_no_passes():
    """An empty time axis goes through, in memory and lazily."""
    empty = power(np.empty((0, 9, 9), np.float32), ("time", "y", "x"))
    assert lee(empty).shape == lee(empty.chunk()).compute().shape == (0, 9, 9)


def test_importing_loads_no_heavy_library():
    """Numba and rasterio are loaded when they are used."""
    code = "import sys, cubekit.preprocess; print([m for m in ('numba', 'rasterio', 'torch') if m in sys.modules])"
    printed = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout
    assert printed.strip() == "[]"


# ---- what is refused, and what travels with the data -------------------------------------------------------------


@FILTERS
@pytest.mark.parametrize(
    ("da", "options", "message"),
    [
        (power(gamma((9, 9)), scale="decibel"), {}, r"'decibel'.*only 'linear power'.*10 \*\* \(dB / 10\)"),
        (power(gamma((9, 9)), units="dB"), {}, "'dB'.*only 'linear power'"),
        (
            power(gamma((9, 9)), speckle_filter="hyp3 enhanced lee 7x7"),
            {},
            "hyp3 enhanced lee 7x7.*do not filter twice",
        ),
        (power(np.ones((9, 9), np.uint8)), {}, "uint8; it must be floating point"),
        (power(np.ones((9, 9), complex)), {}, "complex128; it must be floating point"),
        (power(gamma((9, 9)), ("row", "x")), {}, "it needs 'y' and 'x'"),
        (power(gamma((9, 9))), {"window": 4}, "window 4 is not allowed; give an odd number"),
        (power(gamma((9, 9))), {"window": 1}, "window 1 is not allowed"),
        (power(gamma((9, 9))), {"window": 7.0}, "window 7.0 is not allowed"),
        (power(gamma((9, 9))), {"looks": 0}, "looks 0 is not allowed"),
        (power(gamma((9, 9))), {"looks": -3.0}, "looks -3.0 is not allowed"),
        (power(gamma((9, 9))), {"looks": math.nan}, "looks nan is not allowed"),
        (xr.DataArray(gamma((9, 9)), dims=("y", "x")), {}, "number of looks is not known.*equivalent_looks"),
    ],
)
def test_refuses_what_would_give_wrong_numbers(filter_speckle, da, options, message):
    """Each message says what was given and how to repair it."""
    with pytest.raises(ConfigError, match=message):
        filter_speckle(da, **options)


@pytest.mark.parametrize("damping", [-1.0, math.nan, math.inf])
def test_refuses_a_damping_that_is_not_one(damping):
    """Damping is finite and not negative."""
    with pytest.raises(ConfigError, match=r"damping .* at least 0"):
        enhanced_lee(power(gamma((9, 9))), damping=damping)


def test_filtering_the_result_again_is_refused():
    """The attribute that a filter leaves stops the next one."""
    filtered = lee(power(gamma((9, 9))))
    with pytest.raises(ConfigError, match=r"filtered already \(lee 7x7\)"):
        enhanced_lee(filtered, looks=LOOKS)


def test_attributes_coords_and_name_travel_on():
    """What isn't changed stays, the input isn't touched, and looks that are no longer true go."""
    da = power(gamma((2, 9, 9)), ("time", "y", "x"), source="opera", speckle_filter="none").rename("vv")
    da = da.assign_coords(track=("time", [121, 12]), y=np.arange(9.0)[::-1])
    da.encoding = {"dtype": "int16", "_FillValue": 0}
    before = da.copy(deep=True)
    filtered = enhanced_lee(da, window=5, damping=0.5)
    xr.testing.assert_identical(da, before)
    assert filtered.name == "vv"
    assert set(filtered.coords) == {"track", "y"}
    assert filtered.encoding == {}
    assert filtered.attrs == {
        "scale": "linear power",
        "source": "opera",
        "speckle_filter": "enhanced lee 5x5 damping 0.5",
        "filter_looks": LOOKS,
    }
    assert lee(da).attrs["speckle_filter"] == "lee 7x7"


# ---- equivalent number of looks ----------------------------------------------------------------------------------

INSIDE = xr.DataArray(np.hypot(*np.mgrid[-30:30, -30:30]) < 25, dims=("y", "x"))


@pytest.mark.parametrize("looks", [1.0, 4.4, 20.0, 90.0])
def test_measures_the_looks_of_gamma_speckle(looks):
    """Within 10 %, with holes, a boat in each pass and land outside that must not count."""
    stack = gamma((6, 60, 60), looks)
    stack[:, ~INSIDE.values] *= np.random.default_rng(5).uniform(1, 100, (6, (~INSIDE.values).sum()))
    stack[:, 30, 30] = 1e4
    stack[:, 20:24, 35:37] = np.nan
    measured = equivalent_looks(power(stack, ("time", "y", "x")), INSIDE)
    assert measured.dims == ()
    assert float(measured) == pytest.approx(looks, rel=0.1)


def test_each_track_has_its_own_looks():
    """Tracks are sorted; a pass of another kind among many doesn't move the median; a track without data is NaN."""
    stack = np.stack([gamma((60, 60), looks, seed=k) for k, looks in enumerate([4, 4, 4, 1, 12, 12, 12, 4])])
    stack[7] = np.nan
    da = power(stack, ("time", "y", "x")).assign_coords(track=("time", np.int16([121, 121, 121, 121, 12, 12, 12, 85])))
    measured = equivalent_looks(da, INSIDE)
    np.testing.assert_array_equal(measured["track"], [12, 85, 121])
    np.testing.assert_allclose(measured, [12, np.nan, 4], rtol=0.1)


def test_looks_are_lazy_and_the_same_for_any_chunks(monkeypatch):
    """Chunks in y, x and time change nothing; building the graph computes nothing."""
    da = power(gamma((4, 60, 60)), ("time", "y", "x")).assign_coords(track=("time", [1, 1, 2, 2])).set_xindex("track")
    expected = equivalent_looks(da, INSIDE)
    with dask.config.set(scheduler=forbidden):
        lazy = equivalent_looks(da.chunk(time=1, y=17, x=23), INSIDE)
    xr.testing.assert_identical(lazy.compute(), expected)
    monkeypatch.setattr(speckle, "_pass_looks", forbidden)
    assert equivalent_looks(da.chunk(time=1), INSIDE).chunks is not None


def test_a_mask_of_the_whole_lattice_serves_its_window():
    """The mask is brought to the data's pixels by its coordinates; a lake too small for a window is NaN."""
    axis = np.arange(60.0)
    inside = INSIDE.assign_coords(y=axis[::-1], x=axis)
    da = power(gamma((60, 60))).assign_coords(y=axis[::-1], x=axis)
    window = {"y": slice(5, 55), "x": slice(3, 50)}
    expected = equivalent_looks(da.isel(window), inside.isel(window))
    xr.testing.assert_identical(equivalent_looks(da.isel(window), inside), expected)
    assert float(expected) == pytest.approx(LOOKS, rel=0.1)
    assert math.isnan(equivalent_looks(da.isel(y=slice(0, 4)), inside))


@pytest.mark.parametrize(
    ("da", "inside", "message"),
    [
        (power(gamma((60, 60)), scale="dB"), INSIDE, "only 'linear power'"),
        (power(gamma((60, 60))), INSIDE.astype(float), "inside is float64.*give a bool mask"),
        (power(gamma((9, 9))), INSIDE, "give a mask on their pixels"),
        (
            power(gamma((60, 60))).assign_coords(y=np.arange(60) + 0.5),
            INSIDE.assign_coords(y=np.arange(60)),
            "inside does not cover all pixels",
        ),
        (
            power(gamma((2, 60, 60)), ("time", "y", "x")).assign_coords(track=("time", dask.array.ones(2))),
            INSIDE,
            "track is lazy",
        ),
    ],
)
def test_looks_refuse_what_can_not_be_measured(da, inside, message):
    """Wrong scale, wrong mask, a mask elsewhere, unknown tracks."""
    with pytest.raises(ConfigError, match=message):
        equivalent_looks(da, inside)


# ---- prepare -----------------------------------------------------------------------------------------------------

LAKE = lakes.catalogue()["tsho_rolpa"]
AOI = dict(zip(("y", "x"), LAKE.aoi_window, strict=True))


def cube(passes=2, **attrs):
    """A cube on Tsho Rolpa's lattice, with speckle, holes, shadow and layover."""
    y, x = (LAKE.lattice.coordinates[name].values for name in ("y", "x"))
    values = gamma((passes, 256, 256))
    values[:, 100:104, 100:110] = np.nan
    mask = np.full(values.shape, CLEAR, np.uint8)
    mask[:, 120:125, 120:125] = SHADOW
    mask[0, 130:135, 110:115] = LAYOVER
    mask[1:, 140:150] = NO_MAP
    values[0, 130:135, 110:115] = 1e6
    dims = ("time", "y", "x")
    return xr.Dataset(
        {"vv": power(values, dims, speckle_filter="none", polarisation="vv", **attrs), "mask": (dims, mask)},
        coords={
            "time": np.datetime64("2019-07-01", "ns") + np.arange(passes) * np.timedelta64(12, "D"),
            "y": y,
            "x": x,
            "track": ("time", np.full(passes, 121, np.int16)),
            "granules": ("time", [f'["scene{k}"]' for k in range(passes)]),
        },
    )


def test_prepare_clips_hides_and_then_filters():
    """Layover and shadow are NaN before the filter sees them, and nothing outside the AOI window counts."""
    ds = cube()
    prepared = prepare(ds, LAKE)
    seen = np.isfinite(ds["vv"]) & (ds["mask"].isin([CLEAR, NO_MAP]))
    by_hand = ds["vv"].where(seen).isel(AOI)
    np.testing.assert_array_equal(prepared, lee(by_hand))
    np.testing.assert_array_equal(prepared["observed"], seen.isel(AOI))
    assert prepared["observed"].dtype == bool
    assert prepared.dims == ("time", "y", "x")
    assert set(prepared.coords) == {"time", "y", "x", "track", "granules", "observed"}
    assert prepared.attrs["window"] == "aoi"
    assert prepared.attrs["speckle_filter"] == "lee 7x7"
    assert float(prepared.max()) < 1
    outside = ds.copy(deep=True)
    outside["vv"][:, : AOI["y"].start] = 1e6
    xr.testing.assert_identical(prepare(outside, LAKE), prepared)


def test_prepare_takes_each_filter():
    """The filter, its window and its looks are those asked for."""
    ds = cube()
    raw = prepare(ds, LAKE, filter="none")
    assert raw.attrs["speckle_filter"] == "none"
    np.testing.assert_array_equal(raw, ds["vv"].isel(AOI).where(raw["observed"]))
    filtered = prepare(ds, LAKE, filter="enhanced_lee", window=5, looks=9)
    xr.testing.assert_identical(filtered, enhanced_lee(raw, window=5, looks=9))


def test_prepare_does_not_filter_twice():
    """What the archive has filtered is passed on as it is, and says so."""
    ds = cube(source="hyp3")
    ds["vv"].attrs |= {"speckle_filter": "hyp3 enhanced lee 7x7"}
    prepared = prepare(ds, LAKE)
    np.testing.assert_array_equal(prepared, prepare(cube(), LAKE, filter="none"))
    assert prepared.attrs["speckle_filter"] == "hyp3 enhanced lee 7x7"
    assert "lee not applied" in prepared.attrs["filter_note"]
    assert "filter_note" not in ds["vv"].attrs


def test_prepare_is_lazy_and_equals_numpy():
    """Nothing is computed, lazy coords included, and the numbers are those of numpy."""
    ds = cube()
    lazy = ds.chunk(time=1, y=100, x=-1)
    lazy["granules"] = ("time", dask.array.from_array(ds["granules"].values, 1))
    with dask.config.set(scheduler=forbidden):
        prepared = prepare(lazy, LAKE)
    assert prepared.chunks is not None
    assert prepared["observed"].chunks is not None
    xr.testing.assert_identical(prepared.compute(), prepare(ds, LAKE))


def test_prepare_refuses_what_is_not_there():
    """An absent polarisation, an unknown filter, another lattice, a slice of a cube."""
    ds = cube(1)
    with pytest.raises(ConfigError, match="no polarisation 'vh'; it has vv"):
        prepare(ds, LAKE, polarisation="vh")
    with pytest.raises(ConfigError, match="filter 'boxcar' isn't known; allowed are lee, enhanced_lee, none"):
        prepare(ds, LAKE, filter="boxcar")
    with pytest.raises(GridMismatch, match=r"not the lattice of lake 'tsho_rolpa' at 30 m.*at_spacing"):
        prepare(ds, LAKE.at_spacing(30), looks=LOOKS)
    with pytest.raises(GridMismatch, match="give the whole cube"):
        prepare(ds.isel(y=slice(1, None)), LAKE)
    with pytest.raises(GridMismatch, match="cube's x is not the lattice"):
        prepare(ds.assign_coords(x=ds["x"] + 10), LAKE)
