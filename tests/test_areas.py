"""Areas of a cube's passes: states, views and completion beside what was seen."""

from __future__ import annotations

import numpy as np
import pytest
import xarray as xr

from cubekit.areas import hidden_tracks, measure_areas
from cubekit.cube.schema import CLEAR, LAYOVER
from cubekit.errors import ConfigError, CubeConflict
from cubekit.lakes import catalogue
from cubekit.series import completed_area, lake_area, lake_states, outlines

LAKE = catalogue()["gokyo"]
TSHO_ROLPA = catalogue()["tsho_rolpa"]
COUNT = 24


def cube_of(lake=LAKE, *, hidden: bool = True, tracks: tuple[int, ...] = (12, 121)) -> tuple[xr.Dataset, xr.Dataset]:
    """A calm lake seen whole by track 121, its east in layover on track 12; passes and their water."""
    rng = np.random.default_rng(5)
    whole = lake.outline_mask.astype("float32")
    times = np.datetime64("2020-06-01T00:11:35", "ns") + np.arange(COUNT) * np.timedelta64(12, "D")
    track = np.resize(tracks, COUNT).astype("int16")
    speckle = rng.gamma(6, 1 / 6, (COUNT, *whole.shape)).astype("float32")
    vv = np.where(whole.values > 0, 0.005, 0.16).astype("float32") * speckle
    east = np.broadcast_to((whole["x"] > whole["x"].where(whole > 0).mean() + 100).values, whole.shape)
    covered = (track == 12)[:, None, None] & east & hidden
    coords = {"time": times, "track": ("time", track), "y": whole["y"].values, "x": whole["x"].values}
    coords |= {"platform": ("time", np.zeros(COUNT, "int8")), "granules": ("time", ['["one"]'] * COUNT)}
    dims = ("time", "y", "x")
    mask = np.where(covered, np.uint8(LAYOVER), np.uint8(CLEAR))
    passes = xr.Dataset({"vv": (dims, vv), "mask": (dims, mask)}, coords)
    seen = np.where(covered, np.float32("nan"), whole.values)
    attrs = {"lake": lake.id, "threshold": 0.5, "model": "m", "model_hash": "h", "preprocessing": "{}"}
    water = xr.Dataset({"probability": (dims, seen)}, coords, attrs).assign_coords(observed=(dims, ~covered))
    # What lies along time alone is in memory, as of a cube
    layers = {name: passes[name].chunk(time=1) for name in ("vv", "mask")}
    return passes.assign(layers), water.assign(probability=water["probability"].chunk(time=1))


def test_what_was_seen_stays_what_was_seen() -> None:
    """The area is `lake_area`'s; states and the completed area stand beside it."""
    passes, water = cube_of()
    found = measure_areas(passes, water, LAKE)
    assert found.unknown == {}
    alone = lake_area(water["probability"].assign_attrs(water.attrs), LAKE).compute()
    for name in ("area_km2", "area_low", "area_high", "observed_fraction"):
        xr.testing.assert_equal(found.area[name], alone[name])
    states = lake_states(passes, LAKE).compute()
    np.testing.assert_array_equal(found.area["state"], states["state"])
    np.testing.assert_array_equal(found.area["state_probability"], states["state_probability"])
    np.testing.assert_array_equal(found.area["state_then"], lake_states(passes, LAKE, past_only=True)["state"])
    assert found.tracks["recommended"].values.tolist() == [False, True]


def test_the_track_that_sees_less_is_completed() -> None:
    """As `completed_area` does it; the passes of the other are what they are."""
    passes, water = cube_of()
    area = measure_areas(passes, water, LAKE).area
    partly = area["track"].values == 12
    whole = float(LAKE.outline_mask.sum()) * LAKE.pixel_km2
    assert (area["area_km2"][partly] < 0.7 * whole).all()
    np.testing.assert_allclose(area["area_completed_km2"], whole)
    np.testing.assert_array_equal(area["completed_km2"].values > 0, partly)
    outlines = xr.DataArray(np.isin(area["state"].values, [0, 1]), dims="time")
    expected = completed_area(water["probability"].assign_attrs(water.attrs), LAKE, outlines=outlines).compute()
    np.testing.assert_array_equal(area["area_completed_high"][partly], expected["area_high"][partly])
    np.testing.assert_array_equal(area["area_completed_low"][~partly], area["area_low"][~partly])


def test_a_lake_seen_whole_is_not_completed() -> None:
    """There is nothing to complete, and no column that says so."""
    found = measure_areas(*cube_of(hidden=False), LAKE)
    assert "completed_km2" not in found.area
    assert found.unknown == {}


def test_a_track_alone_cant_be_completed() -> None:
    """It is told, and no area is made up."""
    found = measure_areas(*cube_of(tracks=(12,)), LAKE)
    assert "completed_km2" not in found.area
    assert found.unknown == {"completed areas": "there is no other track to complete them from"}


@pytest.mark.parametrize("tracks", [(12, 121), (12,)])
def test_a_track_that_the_lake_is_hidden_from_has_no_areas(tracks: tuple[int, ...]) -> None:
    """Layover as bright as a slope all year, and a network that draws the outline all the same: not known, and why."""
    passes, water = cube_of(hidden=False, tracks=tracks)
    bright = xr.DataArray(passes["track"].values == 12, dims="time")
    found = measure_areas(passes.assign(vv=passes["vv"].where(~bright, 0.4)), water, LAKE)
    assert hidden_tracks(found.unknown) == [12]
    assert found.unknown["areas of track 12"].startswith("it never sees three tenths of the lake itself")
    for name in ("area_km2", "area_low", "area_high", "area_subpixel_km2"):
        assert found.area[name].isnull().values.tolist() == bright.values.tolist()
    assert (found.area["observed_fraction"] == 1).all()
    probability = found.water["probability"].assign_attrs(found.water.attrs)
    shores = outlines(probability, LAKE, area=found.area)["features"]
    assert [one["geometry"] is None for one in shores] == bright.values.tolist()
    assert water["probability"].notnull().all()  # what is stored is what the network said


def test_a_front_of_a_hidden_track_is_not_known() -> None:
    """It is read off the same drawn shore."""
    passes, water = cube_of(TSHO_ROLPA, hidden=False)
    bright = xr.DataArray(passes["track"].values == 12, dims="time")
    found = measure_areas(passes.assign(vv=passes["vv"].where(~bright, 0.4)), water, TSHO_ROLPA, front=120.0).area
    for name in ("front_m", "front_low", "front_high"):
        assert found[name].isnull().values.tolist() == bright.values.tolist()


def test_states_need_vv() -> None:
    """Of a cube of VH only they are unknown, and it is told."""
    passes, water = cube_of(hidden=False)
    found = measure_areas(passes.rename(vv="vh"), water, LAKE, polarisation="vh")
    assert (found.area["state"] == 0).all()
    assert "state_then" not in found.area
    assert found.unknown == {"states": "they are told from VV, which the cube does not hold"}


def test_the_front_is_measured_when_its_place_is_given() -> None:
    """In metres along the lake's axis; across it, the study is wrong."""
    passes, water = cube_of(TSHO_ROLPA, hidden=False)
    few = slice(0, 6)
    found = measure_areas(passes.isel(time=few), water.isel(time=few), TSHO_ROLPA, front=120.0).area
    assert 1500 < float(found["front_m"][0]) < 2500
    assert (found["front_low"] < found["front_m"]).all()
    with pytest.raises(ConfigError, match="toward is 30 degrees"):
        measure_areas(passes, water, TSHO_ROLPA, front=30.0)


def test_passes_and_water_of_other_times_are_refused() -> None:
    """States of one pass must never stand beside the area of another."""
    passes, water = cube_of(hidden=False)
    with pytest.raises(CubeConflict, match="the passes of gokyo and their water are not of the same times"):
        measure_areas(passes.isel(time=slice(1, None)), water, LAKE)


def test_passes_are_read_once_and_water_twice() -> None:
    """Reading is what takes time: all that needs a pass gets it from the same task."""
    read: dict[str, int] = {"vv": 0, "probability": 0}

    def counted(block: np.ndarray, name: str) -> np.ndarray:
        read[name] += 1
        return block

    passes, water = cube_of()
    for name, data in (("vv", passes), ("probability", water)):
        data[name].data = data[name].data.map_blocks(counted, name, dtype=data[name].dtype, meta=data[name].data._meta)
    measure_areas(passes, water, LAKE)
    assert read["vv"] == COUNT
    assert read["probability"] <= 2 * COUNT
