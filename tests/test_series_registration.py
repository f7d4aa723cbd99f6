"""Images that were moved by known amounts, and what the areas do not see of it."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr
from scipy import ndimage

from cubekit.errors import ConfigError
from cubekit.lakes import catalogue
from cubekit.series.registration import register

LAKE = catalogue()["gokyo"]
SHIFTS = np.array([(0, 0), (0, 0), (0, 0), (1, 0), (0, -1), (0.5, 0.25), (-2, 3)], float)  # rows down, columns right


def cube(shifts=SHIFTS, *, seed=0, platform=None, track=None):
    """Make passes over rough terrain with speckle of 4.4 looks, each moved by its shift, in pixels."""
    rng = np.random.default_rng(seed)
    terrain = ndimage.gaussian_filter(rng.normal(size=(256, 256)), 2.0)
    terrain *= 4 / terrain.std()
    images = []
    for shift in shifts:
        level = ndimage.shift(terrain, shift, order=3, mode="reflect") - 12
        images.append(10 ** (level / 10) * rng.gamma(4.4, 1 / 4.4, level.shape))
    time = np.datetime64("2021-01-01T00:11", "ns") + 12 * np.arange(len(shifts)) * np.timedelta64(1, "D")
    return xr.Dataset(
        {"vv": (("time", "y", "x"), np.array(images, np.float32))},
        coords={
            "time": time,
            "y": LAKE.outline_mask["y"],
            "x": LAKE.outline_mask["x"],
            "track": ("time", np.full(len(shifts), 121) if track is None else np.array(track)),
            "platform": ("time", np.zeros(len(shifts), np.int8) if platform is None else np.array(platform)),
        },
    )


def never(dsk, keys, **kwargs):
    """Refuse to compute: a dask scheduler for building graphs under."""
    raise AssertionError("computed while building a graph")


def test_known_shifts_are_found():
    """Whole and fractional ones to a quarter of a pixel, in metres, north and east positive."""
    found = register(cube(), LAKE, reference_passes=3)
    np.testing.assert_allclose(found["shift_north"], -20 * SHIFTS[:, 0], atol=5)
    np.testing.assert_allclose(found["shift_east"], 20 * SHIFTS[:, 1], atol=5)
    assert float(found["similarity"].min()) > 0.5


@pytest.mark.parametrize("seed", range(3))
def test_a_step_of_one_platform_is_found_within_two_passes(seed):
    """20 m of one platform from its first pass on; the other platform's passes in between stay clear."""
    shifts = np.zeros((10, 2))
    platform = np.array([0, 0, 0, 0, 0, 2, 0, 2, 0, 2])
    shifts[platform == 2] = (0, 1)
    found = register(cube(shifts, seed=seed, platform=platform), LAKE, reference_passes=4)
    assert found["geolocation_step"].values.tolist() == (platform == 2).tolist()


def test_what_is_too_unlike_has_no_known_shift():
    """An image of nothing but speckle: its shift is not known, and the passes around it are still neighbours."""
    shifts = np.zeros((9, 2))
    shifts[6:] = (0, 1.5)
    ds = cube(shifts)
    ds["vv"][7] = np.random.default_rng(5).gamma(4.4, 0.02, ds["vv"][7].shape).astype(np.float32)
    found = register(ds, LAKE, reference_passes=4)
    assert abs(float(found["similarity"][7])) < 0.1
    assert np.isnan(found[["shift_east", "shift_north"]].isel(time=7).to_array()).all()
    assert np.flatnonzero(found["geolocation_step"]).tolist() == [6, 8]


def test_one_pass_alone_is_no_step():
    """A single pass that lies off, or two that lie off in opposite directions, prove nothing."""
    shifts = np.zeros((8, 2))
    shifts[4] = (2, 0)
    shifts[6], shifts[7] = (0, 2), (0, -2)
    found = register(cube(shifts), LAKE, reference_passes=3)
    assert not found["geolocation_step"].any()


def test_what_the_lake_does_is_no_shift():
    """A lake that turns from dark to bright and grows leaves the shifts as they are."""
    ds = cube(np.zeros((6, 2)))
    water = LAKE.outline_mask.values
    ds["vv"][:3] = xr.where(LAKE.outline_mask, 1e-3, ds["vv"][:3]).transpose("time", "y", "x")
    ds["vv"][3:] = xr.where(LAKE.outline_mask, 1.0, ds["vv"][3:]).transpose("time", "y", "x")
    assert water.any()
    found = register(ds, LAKE, reference_passes=3)
    assert float(np.hypot(found["shift_east"], found["shift_north"]).max()) < 5


def test_tracks_have_their_own_references():
    """Two views of a valley that differ are each compared with themselves."""
    one, two = cube(np.zeros((4, 2)), seed=1), cube(np.zeros((4, 2)), seed=2, track=[12] * 4)
    two = two.assign_coords(time=two["time"] + np.timedelta64(6, "h"))
    found = register(xr.concat([one, two], "time").sortby("time"), LAKE, reference_passes=2)
    assert float(np.hypot(found["shift_east"], found["shift_north"]).max()) < 5


def test_an_image_of_which_little_was_seen_has_no_shift():
    """Missing is missing, never 0."""
    ds = cube(np.zeros((4, 2)))
    ds["vv"][3, :200] = np.nan
    found = register(ds, LAKE, reference_passes=2)
    assert np.isnan(found["shift_east"].values).tolist() == [False, False, False, True]
    assert not found["geolocation_step"].any()


def test_what_comes_later_changes_nothing_before():
    """The reference is made of the first passes only."""
    ds = cube()
    early = register(ds.isel(time=slice(5)), LAKE, reference_passes=3)
    whole = register(ds, LAKE, reference_passes=3).isel(time=slice(5))
    np.testing.assert_array_equal(early["shift_east"], whole["shift_east"])


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 3, "y": 100, "x": 64}])
def test_lazy_cubes_give_the_same_and_the_graph_computes_nothing(chunks):
    """numpy and dask in any chunks agree."""
    ds = cube(SHIFTS[:5])
    lazy = ds.chunk(chunks).assign_coords(track=ds["track"], platform=ds["platform"])
    with dask.config.set(scheduler=never):
        found = register(lazy, LAKE, reference_passes=3)
    assert found["shift_east"].chunks is not None
    xr.testing.assert_allclose(found.compute(), register(ds, LAKE, reference_passes=3))


def test_unusable_cubes_are_refused():
    """Each with what is given and what to do."""
    ds = cube(SHIFTS[:2])
    with pytest.raises(ConfigError, match="the cube lacks vh"):
        register(ds, LAKE, polarisation="vh")
    with pytest.raises(ConfigError, match="reference_passes is 0"):
        register(ds, LAKE, reference_passes=0)
    with pytest.raises(ConfigError, match="track is lazy"):
        register(ds.assign_coords(track=ds["track"].chunk(time=1)), LAKE)
