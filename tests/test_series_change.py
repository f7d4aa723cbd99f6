"""Maps of change against a count by hand; fronts that move by a known distance."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from cubekit.errors import ConfigError, GridMismatch
from cubekit.lakes import catalogue
from cubekit.series import VERDICTS
from cubekit.series._front import front_box
from cubekit.series.change import CHANGES, front_position, front_rate, water_change

LAKE = catalogue()["tsho_rolpa"]
OUTLINE = LAKE.outline_mask
ZONE = LAKE.zone_mask.values
EAST = 120.0
PIXEL = LAKE.pixel_km2


def image(mask, track=None):
    """A probability with sharp shores."""
    array = OUTLINE.astype("float32").copy(data=np.asarray(mask, np.float32))
    return array if track is None else array.assign_coords(track=track)


def shifted(mask, columns):
    """Move a mask to the right."""
    return np.roll(mask, columns, axis=1)


def stack(masks, times=None):
    """Make a stack over time."""
    times = (
        np.array([f"{2015 + index}-08-01" for index in range(len(masks))], "datetime64[ns]") if times is None else times
    )
    return xr.concat([image(mask) for mask in masks], "time").assign_coords(
        time=times, track=("time", np.full(len(masks), 121))
    )


def fronts(metres):
    """Water whose front lies at given positions along the axis."""
    along = front_box(LAKE, EAST).along
    whole = OUTLINE.values & ~np.isfinite(np.where(along > 0, along, np.nan))
    return stack([np.where(along <= place, 1.0, whole & ~(along > place)) for place in metres])


def test_the_map_is_the_difference_of_two_masks():
    """Gained, lost, kept and land are counted as a pixel by pixel comparison counts them."""
    before, after = OUTLINE.values, shifted(OUTLINE.values, 3) & ZONE
    found = water_change(image(before), image(after), LAKE)
    code = found["change"].values
    np.testing.assert_array_equal(code == CHANGES.index("gained"), after & ~before)
    np.testing.assert_array_equal(code == CHANGES.index("lost"), before & ~after)
    np.testing.assert_array_equal(code == CHANGES.index("water"), before & after)
    np.testing.assert_array_equal(code == CHANGES.index("outside"), ~ZONE)
    assert float(found["gained_km2"]) == pytest.approx(np.count_nonzero(after & ~before) * PIXEL)
    assert float(found["lost_km2"]) == pytest.approx(np.count_nonzero(before & ~after) * PIXEL)
    assert float(found["not_observed_km2"]) == 0
    assert found["change"].attrs["flag_meanings"].split() == list(CHANGES)


def test_swapping_the_dates_swaps_gained_and_lost():
    """Change has a direction and nothing else of the order."""
    before, after = image(OUTLINE.values), image(shifted(OUTLINE.values, 3) & ZONE)
    forth, back = water_change(before, after, LAKE), water_change(after, before, LAKE)
    assert float(forth["gained_km2"]) == float(back["lost_km2"]) > 0
    assert float(forth["lost_km2"]) == float(back["gained_km2"]) > 0


def test_not_observed_in_either_is_its_own_class():
    """Pixels without a number in one of the passes are neither water nor land, gained nor lost."""
    rng = np.random.default_rng(0)
    before, after = image(OUTLINE.values), image(shifted(OUTLINE.values, 3) & ZONE)
    holes = rng.random((2, *ZONE.shape)) < 0.05
    found = water_change(before.where(~holes[0]), after.where(~holes[1]), LAKE)
    hidden = (holes[0] | holes[1]) & ZONE
    code = found["change"].values
    assert (code[hidden] == CHANGES.index("not_observed")).all()
    areas = [float(found[name]) for name in ("gained_km2", "lost_km2", "water_km2", "not_observed_km2")]
    land = np.count_nonzero(code == CHANGES.index("land")) * PIXEL
    assert sum(areas) + land == pytest.approx(ZONE.sum() * PIXEL)


def test_water_behind_a_gap_is_not_lost():
    """Water outside of the outline that only a strip without data cuts off has not gone."""
    grown = ZONE.copy()
    strip = ZONE & ~OUTLINE.values & _near(OUTLINE.values)
    after = image(grown).where(~strip)
    found = water_change(image(grown), after, LAKE)
    assert float(found["lost_km2"]) == 0
    assert (found["change"].values == CHANGES.index("not_observed")).sum() == (ZONE & ~OUTLINE.values).sum()


def _near(mask):
    """Pixels next to a mask, corners included."""
    from scipy.ndimage import binary_dilation

    return binary_dilation(mask, np.ones((3, 3), bool), iterations=2)


def test_what_a_window_leaves_out_was_not_observed():
    """Half of the lattice: the other half of the zone counts as not observed."""
    half = image(OUTLINE.values).isel(x=slice(0, 128))
    found = water_change(half, half, LAKE)
    assert float(found["not_observed_km2"]) == pytest.approx(np.count_nonzero(ZONE[:, 128:]) * PIXEL)


def test_tracks_are_compared_only_when_asked():
    """Two tracks see one shore differently."""
    one, other = image(OUTLINE.values, 121), image(OUTLINE.values, 19)
    with pytest.raises(ConfigError, match=r"tracks 121 and 19.*across_tracks"):
        water_change(one, other, LAKE)
    found = water_change(one, other, LAKE, across_tracks=True)
    assert (found.attrs["before_track"], found.attrs["after_track"]) == ("121", "19")
    assert "track" not in found.coords


@pytest.mark.parametrize("chunks", [{"x": 64, "y": 100}, {"x": -1, "y": -1}, {"x": 1000, "y": 17}])
def test_maps_and_fronts_are_lazy_and_alike(chunks, no_compute):
    """A graph computes nothing when it is built, and any chunking gives the same."""
    before, after = image(OUTLINE.values), image(shifted(OUTLINE.values, 3) & ZONE)
    probability = fronts([1800, 1900, 2000])
    with no_compute():
        lazy = water_change(before.chunk(chunks), after.chunk(chunks), LAKE)
        front = front_position(probability.chunk(chunks | {"time": 2}), LAKE, toward=EAST)
        rate = front_rate(front.assign_coords(track=probability["track"]))
    assert all(dask.is_dask_collection(one) for one in (lazy["change"], front["position"], rate["slope"]))
    xr.testing.assert_identical(lazy.compute(), water_change(before, after, LAKE))
    eager = front_position(probability, LAKE, toward=EAST)
    xr.testing.assert_identical(front.compute(), eager)
    with pytest.raises(ConfigError, match="track is lazy"):
        front_rate(front)
    xr.testing.assert_identical(rate.compute(), front_rate(eager))


def test_a_front_is_found_where_it_is():
    """Within a third of a pixel, and within its bounds, of fronts across the axis."""
    places = np.array([1000.0, 1310.0, 1755.0, 2020.0])
    found = front_position(fronts(places), LAKE, toward=EAST)
    np.testing.assert_allclose(found["position"], places, atol=LAKE.spacing / 3)
    assert (found["position_low"] <= places).all()
    assert (places <= found["position_high"]).all()
    assert (found["observed_fraction"] == 1).all()


def test_holes_move_no_front_and_many_hide_it():
    """A twentieth of the box not seen: the same position, wider bounds. A fifth: none."""
    whole = fronts([1755.0] * 4)
    rng = np.random.default_rng(2)
    # A hole of one pixel never cuts water off.
    few = whole.where(rng.random(whole.shape) > 0.05)
    found, exact = front_position(few, LAKE, toward=EAST), front_position(whole, LAKE, toward=EAST)
    np.testing.assert_allclose(found["position"], exact["position"], atol=LAKE.spacing / 5)
    assert (found["position_low"] < exact["position_low"]).all()
    assert (found["position_high"] > exact["position_high"]).all()
    many = whole.where(rng.random(whole.shape) > 0.2)
    assert np.isnan(front_position(many, LAKE, toward=EAST)["position"]).all()


def test_a_front_beyond_the_box_has_no_position():
    """A lake that fills the box is not said to end at its end."""
    box = front_box(LAKE, EAST)
    found = front_position(fronts([box.length]), LAKE, toward=EAST)
    assert np.isnan(found["position"]).all()


def test_the_front_s_rate_is_recovered_with_an_interval():
    """25 m a year with 10 m of noise: the slope within its interval, the verdict increasing."""
    rng = np.random.default_rng(4)
    times = np.arange("2015-07-15", "2025-07-15", 183, dtype="datetime64[D]").astype("datetime64[ns]")
    years = (times - times[0]).astype(float) / 365.25 / 86400e9
    metres = 1500 + 25 * years + rng.normal(0, 10, times.size)
    tracks = np.arange(times.size) % 2 * 100 + 19
    front = xr.Dataset({"position": ("time", metres)}, {"time": times, "track": ("time", tracks)})
    rate = front_rate(front)
    assert rate["track"].values.tolist() == [19, 119]
    assert (rate["slope_low"] <= 25).all()
    assert (rate["slope_high"] >= 25).all()
    assert [VERDICTS[code] for code in rate["verdict"].values] == ["increasing"] * 2
    assert rate["slope"].attrs["units"] == "m year-1"


@pytest.mark.parametrize("name", sorted(catalogue()))
def test_every_lake_has_a_box_at_either_end(name):
    """The outline's own front is found at both ends, apart by about the lake's length."""
    lake = catalogue()[name]
    probability = lake.outline_mask.astype("float32").expand_dims(time=np.array(["2021-07-21"], "datetime64[s]"))
    x, y = np.nonzero(lake.outline_mask.values)[1], -np.nonzero(lake.outline_mask.values)[0]
    values, vectors = np.linalg.eigh(np.cov(np.stack([x, y])))
    bearing = float(np.rad2deg(np.arctan2(*vectors[:, -1])))
    ends = [front_position(probability, lake, toward=bearing + turn)["position"].item() for turn in (0, 180)]
    # A lake of even width is sqrt(12) standard deviations long.
    assert sum(ends) == pytest.approx(np.sqrt(12 * values[-1]) * lake.spacing, rel=0.35)


@pytest.mark.parametrize(
    ("call", "error", "match"),
    [
        (lambda: front_position(fronts([1800]), LAKE, toward=30), ConfigError, "toward is 30 degrees.*axis"),
        (lambda: front_position(fronts([1800]), LAKE, toward=np.nan), ConfigError, "toward is nan"),
        (lambda: front_position(fronts([1800]), LAKE, toward=EAST, min_observed=0), ConfigError, "min_observed 0"),
        (lambda: front_position(image(ZONE), LAKE, toward=EAST), ConfigError, "needs time"),
        (lambda: front_rate(xr.Dataset({"position": ("time", [1.0])})), ConfigError, "lacks time, track"),
        (lambda: water_change(image(ZONE) > 0, image(ZONE), LAKE), ConfigError, "bool"),
        (lambda: water_change(image(ZONE), image(ZONE).isel(x=slice(9, None)), LAKE), ConfigError, "windows"),
        (lambda: water_change(image(ZONE), image(ZONE), LAKE.at_spacing(30)), GridMismatch, "30 m"),
        (lambda: water_change(fronts([1800, 1900]), image(ZONE), LAKE), ConfigError, "dims"),
    ],
)
def test_what_can_not_be_is_refused(call, error, match):
    """Each error says what was given."""
    with pytest.raises(error, match=match):
        call()
