"""Completed shores against a lake whose whole shore is known, and against filling in by hand."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from cubekit.errors import ConfigError, GridMismatch
from cubekit.lakes import catalogue
from cubekit.series.area import lake_area
from cubekit.series.completion import complete, completed_area, track_views

DAY = np.timedelta64(1, "D")


@pytest.fixture(scope="module")
def lake():
    """Gokyo on its 30 m lattice."""
    return catalogue()["gokyo"].at_spacing(30)


def never(dsk, keys, **kwargs):
    """Refuse to compute: a dask scheduler for building graphs under."""
    raise AssertionError("computed while building a graph")


@pytest.fixture(scope="module")
def hidden(lake):
    """What track 12 never sees: the southern third of the outline's rows, and all beyond."""
    rows = np.flatnonzero(lake.outline_mask.values.any(axis=1))
    hides = np.zeros(lake.outline_mask.shape, bool)
    hides[int(np.quantile(rows, 0.67)) :] = True
    return hides


def passes(lake, hidden, years=(2019, 2020, 2021), seed=0, each=2):
    """Probabilities of both tracks; the outline shrinks by a pixel at the southern end every year."""
    rng = np.random.default_rng(seed)
    rows = np.flatnonzero(lake.outline_mask.values.any(axis=1))
    images, times, tracks = [], [], []
    for index, year in enumerate(years):
        truth = lake.outline_mask.values.copy()
        truth[rows.max() - index + 1 :] = False
        for number in range(each):
            for track in (12, 121):
                image = np.clip(truth + rng.normal(0, 0.1, truth.shape), 0, 1)
                image[hidden & (track == 12)] = np.nan
                images.append(image)
                times.append(np.datetime64(f"{year}-07-01", "s") + (12 * number + track % 5) * DAY)
                tracks.append(track)
    coords = {"time": times, "y": lake.outline_mask["y"], "x": lake.outline_mask["x"], "track": ("time", tracks)}
    return xr.DataArray(np.array(images, np.float32), coords, ("time", "y", "x"))


def test_the_hidden_shore_is_that_of_the_other_track_in_the_nearest_year(lake, hidden):
    """Pixel by pixel against the mean of the other track's year; what was seen is untouched."""
    given = passes(lake, hidden)
    found = complete(given, lake)
    zone = lake.zone_mask.values
    for index in range(given.sizes["time"]):
        image, track = given.values[index], int(given["track"][index])
        year = given["time"].dt.year == given["time"].dt.year[index]
        other = given.values[(year & (given["track"] != track)).values].mean(axis=0)
        blind = hidden & zone & (track == 12)
        np.testing.assert_allclose(found.values[index], np.where(blind, other, image), rtol=1e-6)
        np.testing.assert_array_equal(found["completed"].values[index], blind)
        np.testing.assert_array_equal(found["observed"].values[index], ~np.isnan(image) | blind)


def test_a_completed_area_is_the_lakes(lake, hidden):
    """Both tracks then show the whole lake, and the flag and the seen area tell which was completed."""
    given = passes(lake, hidden)
    area = completed_area(given, lake)
    alone = lake_area(given, lake)
    half = (area["track"] == 12).values
    np.testing.assert_allclose(area["area_km2"][half], area["area_km2"][~half], rtol=0.01)
    assert (area["area_seen_km2"][half] < 0.8 * area["area_km2"][half]).all()
    np.testing.assert_array_equal(area["completed"], half)
    for name in ("observed_fraction", "not_observed_km2"):
        xr.testing.assert_identical(area[name].variable, alone[name].variable)
    np.testing.assert_array_equal(area["area_seen_km2"], alone["area_km2"])
    blind = (hidden & lake.zone_mask.values).sum() * lake.pixel_km2
    np.testing.assert_allclose(area["completed_km2"], np.where(half, blind, 0))
    bounds = (area["area_low"] <= area["area_km2"]) & (area["area_km2"] <= area["area_high"])
    assert bool(bounds.all())


def test_what_is_missing_by_chance_stays_missing(lake, hidden):
    """A hole in one pass of a track that sees there usually is no shore to complete."""
    given = passes(lake, hidden, each=6)
    given[1, 100:140] = np.nan
    found = complete(given, lake)
    np.testing.assert_array_equal(found[1], given[1])
    assert not found["completed"][1].any()


def test_only_the_past_is_used_where_asked(lake, hidden):
    """Years that come later change nothing; the first year has none before it and stays as seen."""
    given = passes(lake, hidden)
    found = complete(given, lake, past_only=True)
    early = complete(given.isel(time=slice(8)), lake, past_only=True)
    xr.testing.assert_identical(found.isel(time=slice(8)), early)
    assert not found["completed"].isel(time=slice(4)).any()
    assert found["completed"].isel(time=4).any()


def test_outlines_are_taken_from_the_passes_that_may_be(lake, hidden):
    """A pass of ice is no outline."""
    given = passes(lake, hidden)
    icy = given.copy(deep=True)
    icy[1] = 0.0
    allowed = xr.DataArray(np.arange(given.sizes["time"]) != 1, dims="time")
    found, expected = (complete(data, lake, outlines=allowed) for data in (icy, given))
    xr.testing.assert_identical(found.isel(time=0), expected.isel(time=0))
    assert not found.isel(time=0).identical(complete(icy, lake).isel(time=0))


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 5, "y": 100, "x": 50}, {"time": -1}])
def test_any_chunking_gives_the_same(lake, hidden, chunks):
    """numpy and dask, dtypes and the coordinates included."""
    given = passes(lake, hidden)
    lazy = complete(given.chunk(chunks).assign_coords(track=given["track"]), lake)
    eager = complete(given, lake)
    assert lazy.chunks is not None
    assert (lazy.dtype, lazy["completed"].dtype) == (eager.dtype, eager["completed"].dtype) == (np.float32, bool)
    xr.testing.assert_allclose(lazy.compute(), eager, rtol=1e-6)


def test_building_the_graph_computes_nothing(lake, hidden):
    """Also of the areas and of the report."""
    given = passes(lake, hidden)
    given = given.chunk(time=1).assign_coords(track=given["track"])
    ds = xr.Dataset({"vv": given, "mask": xr.zeros_like(given, dtype=np.uint8)})
    with dask.config.set(scheduler=never):
        area = completed_area(given.assign_coords(observed=given.notnull()), lake)
        views = track_views(ds, lake)
    assert area["completed_km2"].chunks is not None
    assert views["zone_seen"].chunks is not None


def test_the_report_tells_what_each_track_sees(lake, hidden):
    """Layover and shadow by the mask, what is seen by pixels, and which track to use."""
    given = passes(lake, hidden)
    mask = xr.zeros_like(given, dtype=np.uint8).where(given.notnull(), 2).astype(np.uint8)
    mask[1] = 1
    ds = xr.Dataset({"vv": given.fillna(0.5), "mask": mask})
    found = track_views(ds, lake)
    zone, outline = lake.zone_mask.values, lake.outline_mask.values
    seen = 1 - (hidden & outline).sum() / outline.sum()
    np.testing.assert_allclose(found["outline_seen"], [seen, 1])
    np.testing.assert_allclose(found["zone_seen"], [1 - (hidden & zone).sum() / zone.sum(), 1])
    np.testing.assert_allclose(found["layover"], [(hidden & zone).sum() / zone.sum(), 0])
    np.testing.assert_allclose(found["shadow"], [0, 1 / 6])
    assert found["passes"].values.tolist() == [6, 6]
    assert found["recommended"].values.tolist() == [False, True]
    lazy = track_views(ds.chunk(time=2, x=100).assign_coords(track=given["track"]), lake)
    xr.testing.assert_allclose(lazy.compute(), found)


def test_a_track_that_saw_nothing_at_all_sees_nothing(lake, hidden):
    """It is blind everywhere, and completed everywhere."""
    given = passes(lake, hidden)
    given[{"time": (given["track"] == 12).values.nonzero()[0]}] = np.nan
    area = completed_area(given, lake)
    assert area["area_seen_km2"][0].isnull()
    assert float(area["area_km2"][0]) == pytest.approx(float(area["area_km2"][1]), rel=0.01)


def test_one_track_alone_has_nobody_to_complete_it(lake, hidden):
    """Its areas stay lower bounds."""
    given = passes(lake, hidden).isel(time=slice(0, None, 2))
    assert set(given["track"].values.tolist()) == {12}
    found = complete(given, lake)
    assert not found["completed"].any()
    np.testing.assert_array_equal(found, given)


def test_bad_input_is_refused(lake, hidden):
    """Tracks, dates, the lattice, and a bool a pass."""
    given = passes(lake, hidden, years=(2020,))
    with pytest.raises(ConfigError, match="coordinate track is absent"):
        complete(given.drop_vars("track"), lake)
    with pytest.raises(ConfigError, match="needs dates"):
        complete(given.assign_coords(time=np.arange(4)), lake)
    with pytest.raises(ConfigError, match="give a bool for each of 4 passes"):
        complete(given, lake, outlines=xr.DataArray([True], dims="time"))
    with pytest.raises(GridMismatch, match="the probability has"):
        complete(given.assign_coords(x=given["x"] + 7), lake)


def test_a_report_needs_masks_and_tracks(lake, hidden):
    """Without the mask nobody knows what hides the shore."""
    given = passes(lake, hidden, years=(2020,))
    with pytest.raises(ConfigError, match="lack mask"):
        track_views(xr.Dataset({"vv": given}), lake)
    ds = xr.Dataset({"vv": given, "mask": xr.zeros_like(given, dtype=np.uint8)})
    with pytest.raises(ConfigError, match="coordinate track is absent"):
        track_views(ds.drop_vars("track"), lake)
