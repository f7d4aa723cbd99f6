"""Baselines, anomalies and dates of ice against loops by hand."""

from __future__ import annotations

import sys

import dask
import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cubekit.errors import ConfigError, NoObservations
from cubekit.series.climatology import anomalies, climatology, ice_dates


def never(dsk, keys, **kwargs):
    """Refuse to compute: a dask scheduler for building graphs under."""
    raise AssertionError("computed while building a graph")


def series(count=120, seed=0, lakes=None):
    """Areas every nine days on two tracks, some NaN; with several lakes where asked."""
    rng = np.random.default_rng(seed)
    shape = (count,) if lakes is None else (lakes, count)
    values = np.where(rng.random(shape) < 0.1, np.nan, rng.normal(1.5, 0.1, shape))
    times = np.datetime64("2018-01-03", "s") + 9 * 86400 * np.arange(count)
    dims = ("time",) if lakes is None else ("lake", "time")
    coords = {"time": times, "track": ("time", np.where(np.arange(count) % 2, 121, 12).astype(np.int16))}
    return xr.DataArray(values, coords, dims, name="area_km2", attrs={"units": "km2"})


def test_the_climatology_is_as_grouped_by_pandas():
    """Median, spread, counts and amplitude of every track and month."""
    given = series()
    found = climatology(given)
    frame = given.to_dataframe(name="km2").reset_index().dropna(subset="km2")
    groups = frame.groupby(["track", frame["time"].dt.month])
    for (track, month), part in groups:
        here = found.sel(track=track, month=month)
        assert int(here["passes"]) == len(part)
        assert int(here["years"]) == part["time"].dt.year.nunique()
        middle = part["km2"].median()
        if len(part) >= 3:
            assert float(here["median"]) == pytest.approx(middle)
            assert float(here["spread"]) == pytest.approx(1.4826 * (part["km2"] - middle).abs().median())
        else:
            assert np.isnan(here["median"])
    amplitude = found["median"].max("month") - found["median"].min("month")
    np.testing.assert_allclose(found["amplitude"], amplitude)
    assert found["median"].attrs["units"] == "km2"


def test_many_lakes_at_once_are_each_alone():
    """Further dims change nothing."""
    given = series(lakes=3)
    for whole, alone in (
        (climatology(given).isel(lake=1), climatology(given.isel(lake=1))),
        (anomalies(given, past_only=True).isel(lake=1), anomalies(given.isel(lake=1), past_only=True)),
    ):
        xr.testing.assert_identical(whole, alone)


@pytest.mark.parametrize("past_only", [False, True])
def test_anomalies_are_as_a_loop_finds_them(past_only):
    """The pass itself never counts; the past only where asked."""
    given = series(seed=2)
    found = anomalies(given, past_only=past_only)
    times, tracks, values = given.indexes["time"], given["track"].values, given.values
    for index, time in enumerate(times):
        alike = (times.month == time.month) & (tracks == tracks[index]) & (np.arange(len(times)) != index)
        if past_only:
            alike &= times < time
        others = values[alike & ~np.isnan(values)]
        assert int(found["passes"][index]) == others.size
        expected = np.median(others) if others.size >= 3 else np.nan
        np.testing.assert_allclose(found["expected"][index], expected)
        np.testing.assert_allclose(found["anomaly"][index], values[index] - expected)


def test_past_anomalies_do_not_look_ahead():
    """Passes that come later change nothing before them, in whatever order they are given."""
    given = series(seed=3)
    whole = anomalies(given, past_only=True).isel(time=slice(80))
    xr.testing.assert_identical(anomalies(given.isel(time=slice(80)), past_only=True), whole)
    order = np.random.default_rng(0).permutation(len(given))
    shuffled = anomalies(given.isel(time=order), past_only=True).sortby("time").isel(time=slice(80))
    xr.testing.assert_identical(shuffled, whole)


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 50, "lake": 1}, {"time": -1, "lake": 2}])
def test_any_chunking_gives_the_same(chunks):
    """numpy and dask, dtypes included."""
    given = series(lakes=3)
    for function in (climatology, anomalies):
        lazy, eager = function(given.chunk(chunks).assign_coords(track=given["track"])), function(given)
        assert {name: lazy[name].dtype for name in lazy} == {name: eager[name].dtype for name in eager}
        xr.testing.assert_identical(lazy.compute(), eager)


def test_building_the_graph_computes_nothing_and_calls_nothing(monkeypatch):
    """Tracks and months come from the coordinates."""

    def called(*args, **kwargs):
        raise AssertionError("a kernel was called while building the graph")

    monkeypatch.setattr(sys.modules["cubekit.series.climatology"], "_monthly", called)
    monkeypatch.setattr(sys.modules["cubekit.series.climatology"], "_against", called)
    given = series().chunk(time=10).assign_coords(track=series()["track"])
    with dask.config.set(scheduler=never):
        assert climatology(given)["median"].shape == (2, 12)
        assert anomalies(given)["anomaly"].shape == (120,)


def states(codes, start="2018-07-03", step=12):
    """States of passes every 12 days."""
    times = np.datetime64(start, "s") + step * 86400 * np.arange(len(codes))
    return xr.Dataset({"state": ("time", np.array(codes, np.int8))}, coords={"time": times})


def test_dates_of_ice_bracket_what_was_put_there():
    """Two winters, each between the last pass without and the first with ice; one odd pass moves nothing."""
    codes = [1] * 14 + [2] * 10 + [3, 3] + [1] * 17 + [2] * 11 + [3] + [1] * 5
    codes[5], codes[18] = 2, 4  # a summer pass taken for ice, and a winter pass for rough water
    given = states(codes)
    times = given.indexes["time"]
    whole = ice_dates(given)
    assert whole["winter"].values.tolist() == [2018, 2019, 2020]  # the record begins before August
    assert np.isnat(whole["freeze_by"].values[0])
    found = whole.sel(winter=[2019, 2020])
    for name, places in {
        "freeze_after": (13, 42),
        "freeze_by": (14, 43),
        "thaw_after": (25, 54),
        "thaw_by": (26, 55),
    }.items():
        assert found[name].values.tolist() == times[list(places)].to_numpy().tolist()
    assert whole["passes"].sum() == len(codes)
    shuffled = given.isel(time=np.random.default_rng(1).permutation(len(codes)))
    xr.testing.assert_identical(ice_dates(shuffled), whole)


def test_what_is_not_bracketed_is_not_known():
    """A record that begins in ice has no freeze-up, a gap of a summer no thaw, and a winter without ice nothing."""
    given = states([2] * 6 + [1] * 14, start="2019-02-01")
    found = ice_dates(given)
    assert np.isnat(found["freeze_by"].values[0])
    assert found["thaw_by"].values[0] == given["time"].values[6]
    gap = ice_dates(given.isel(time=[0, 1, 2, 3, 12, 13, 14]))
    assert np.isnat(gap["thaw_by"].values[0])
    assert np.isnat(gap["thaw_after"].values[0])


def test_ice_that_outlasts_a_summer_has_no_dates_within_it():
    """Where one winter meets the next under ice, no pass with ice is given as one without."""
    given = states([1] * 10 + [2] * 50 + [1] * 10, start="2019-10-01")
    found = ice_dates(given)
    frozen = given["time"].values[given["state"].values == 2]
    assert found["winter"].size >= 2
    for name in ("freeze_after", "thaw_by"):
        assert not np.isin(found[name].values, frozen).any()
        assert found[name].notnull().sum() == 1


def test_winters_of_the_south_are_within_a_calendar_year():
    """Ice from June to September belongs to that year."""
    given = states([1] * 12 + [2] * 9 + [1] * 9, start="2019-01-05")
    found = ice_dates(given).dropna("winter")
    assert found["winter"].values.tolist() == [2019]
    assert found["freeze_by"].values[0] == given["time"].values[12]


def test_bad_input_is_refused():
    """Tracks and dates are needed, in memory."""
    given = series()
    with pytest.raises(ConfigError, match="coordinate track is absent"):
        climatology(given.drop_vars("track"))
    with pytest.raises(ConfigError, match="coordinate track is lazy"):
        anomalies(given.assign_coords(track=given["track"].chunk(time=10)))
    with pytest.raises(ConfigError, match="time is int64"):
        climatology(given.assign_coords(time=np.arange(120)))
    with pytest.raises(ConfigError, match="min_passes 0 is below 1"):
        climatology(given, min_passes=0)


def test_states_that_say_nothing_are_refused():
    """Lazy states lay out the answer; a lake without ice has no dates of it."""
    given = states([1, 1, 2, 1])
    with pytest.raises(ConfigError, match="state over time, in memory"):
        ice_dates(given.chunk(time=2))
    with pytest.raises(ConfigError, match="ice_dates needs dates"):
        ice_dates(given.assign_coords(time=np.arange(4)))
    with pytest.raises(NoObservations, match="none of 3 passes shows ice"):
        ice_dates(states([1, 1, 4]))


def test_months_are_those_of_utc():
    """The last second of June is June's."""
    times = pd.to_datetime(["2020-06-30T23:59:59", "2020-07-01T00:00:00"])
    given = xr.DataArray([1.0, 2.0], {"time": times, "track": ("time", [1, 1])}, "time")
    found = climatology(given, min_passes=1)["median"].sel(track=1)
    assert found.sel(month=[6, 7]).values.tolist() == [1.0, 2.0]
