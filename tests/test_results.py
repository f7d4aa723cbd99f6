"""What areas say: by track and fused, with a reason for whatever can't be known."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cubekit.errors import ConfigError
from cubekit.passes import PLATFORMS
from cubekit.results import FAIR, FUSED, STATISTICS, evened, levelled, measure, season_trends, seasons, usable_passes
from cubekit.series import STATES, VERDICTS, summer_maxima, trend

OPEN, ICE = STATES.index("open"), STATES.index("ice")
OFFSET, DRIFT = -0.25, -0.004


def areas(
    *, growth: float = 0.01, noise: float = 0.002, years: int = 10, tracks: tuple[int, ...] = (12, 121)
) -> xr.Dataset:
    """Two tracks, one of which sees less of the lake and of its growth; ice from December to May."""
    rng = np.random.default_rng(3)
    times = pd.date_range("2015-01-05", periods=years * 30, freq="12D")
    track = np.resize(tracks, times.size)
    since = np.asarray((times - times[0]) / pd.Timedelta(days=365.25))
    km2 = 1.5 + growth * since + rng.normal(0, noise, times.size)
    km2 += np.where(track == 12, OFFSET + DRIFT * (since - since.mean()), 0)
    state = np.where(np.isin(times.month, [12, 1, 2, 3, 4, 5]), ICE, OPEN)
    values = {"area_km2": km2, "area_low": km2 - 0.05, "area_high": km2 + 0.05}
    values |= {"observed_fraction": np.where(track == 12, 0.85, 1.0), "state": state.astype("int8")}
    return xr.Dataset(
        {name: ("time", column) for name, column in values.items()},
        coords={"time": times.to_numpy(), "track": ("time", track), "platform": ("time", np.zeros(times.size, "int8"))},
        attrs={"lake": "gokyo", "lake_title": "Gokyo", "threshold": 0.5},
    )


def test_tracks_stay_apart_and_are_fused() -> None:
    """Seasons and trends are by track; the fused ones have a track of their own, with the growth of the lake."""
    found = measure(areas())
    assert found.unknown == {}
    assert found.maxima["track"].values.tolist() == [12, 121]
    assert set(found.trends) == set(found.fused_trends) == set(STATISTICS)
    assert found.fused_maxima["track"].values.tolist() == [FUSED]
    slope = float(found.fused_trends[FAIR].sel(track=FUSED)["slope"])
    assert slope == pytest.approx(0.01, abs=0.001)
    assert "covariance" not in found.fused


def test_passes_are_brought_to_the_level_of_the_reference() -> None:
    """Offset and drift are taken out of areas and bounds; passes of ice were not used and aren't there."""
    area = areas(noise=1e-4)
    found = measure(area)
    level = levelled(found.area, found.fused)
    assert set(level["track"].values) == {FUSED}
    assert (level["state"] == OPEN).all()
    since = np.asarray((level.indexes["time"] - area.indexes["time"][0]) / pd.Timedelta(days=365.25))
    np.testing.assert_allclose(level["area_km2"], 1.5 + 0.01 * since, atol=0.002)
    np.testing.assert_allclose(level["area_high"] - level["area_low"], 0.1)


def test_completed_tracks_are_fused_at_one_level() -> None:
    """A track that hides a part is completed by the same at all its passes; then it has hardly an offset left."""
    area = areas(noise=0.01)
    hides = area["track"] == 12
    more = np.where(hides, -OFFSET + np.random.default_rng(1).normal(0, 0.03, area.sizes["time"]), 0.0)
    found = measure(area.assign(area_completed_km2=area["area_km2"] + more))
    usable = usable_passes(area, 0.9)
    whole = evened(area.assign(area_completed_km2=area["area_km2"] + more), usable)
    added = (whole["area_km2"] - area["area_km2"]).values
    np.testing.assert_allclose(added[hides.values], more[hides.values & usable].mean())
    np.testing.assert_array_equal(added[~hides.values], 0)
    np.testing.assert_array_equal(whole["area_seen_km2"], area["area_km2"])
    assert abs(float(found.fused["offset"].sel(track="12"))) < 0.02
    assert float(measure(area).fused["offset"].sel(track="12")) == pytest.approx(OFFSET, abs=0.02)
    assert evened(area, usable) is area
    # The areas that are told stay those that were seen.
    np.testing.assert_array_equal(found.area["area_km2"], area["area_km2"])


def test_a_step_that_was_found_is_taken_out() -> None:
    """Of the platform that has it, and of no other."""
    area = areas(noise=1e-3, growth=0.0, tracks=(12, 121, 121))
    other = np.arange(area.sizes["time"]) % 2 == 1
    area = area.assign_coords(platform=("time", np.where(other, 1, 0).astype("int8")))
    moved = {name: area[name] + np.where(other, 0.03, 0.0) for name in ("area_km2", "area_low", "area_high")}
    found = measure(area.assign(moved))
    assert found.fused["step"].values[found.fused["step_found"].values].tolist() == [f"platform {PLATFORMS[1]}"]
    level = levelled(found.area, found.fused)
    assert float(level["area_km2"].std()) < 0.004


def test_seasons_of_a_lake_that_stays_are_no_trend() -> None:
    """The fused series is smooth, and a test would take its smoothness for a trend; its levelled passes are not."""
    verdicts = []
    for seed in range(20):
        area = areas(growth=0.0, years=10)
        noise = np.random.default_rng(seed).normal(0, 0.01, area.sizes["time"])
        found = measure(area.assign({name: area[name] + noise for name in ("area_km2", "area_low", "area_high")}))
        one = found.fused_trends[FAIR].sel(track=FUSED)
        verdicts.append((VERDICTS[int(one["verdict"])], VERDICTS[int(one["scatter_verdict"])]))
    assert {both[0] for both in verdicts} == {"no_trend_detected"}
    assert sum(both[1] != "no_trend_detected" for both in verdicts) <= 4


def test_bounds_of_a_season_are_those_of_its_passes() -> None:
    """The same statistic of the lower and the upper bounds: no narrower for the number of passes."""
    area = areas()
    found = seasons(area, ("07-01", "09-30"), min_observed=0.9, looks=2)
    xr.testing.assert_identical(found[FAIR], summer_maxima(area, looks=2)[FAIR])
    for name in STATISTICS:
        np.testing.assert_allclose(found[f"{name}_high"] - found[name], 0.05)
        np.testing.assert_allclose(found[name] - found[f"{name}_low"], 0.05)


def test_trends_are_told_with_and_without_the_areas_errors() -> None:
    """The scatter alone is what `trend` gives without bounds; with them the interval is wider."""
    maxima = seasons(areas(), ("07-01", "09-30"), min_observed=0.9, looks=4)
    found = season_trends(maxima)["maximum"]
    alone = trend(maxima["maximum"])
    np.testing.assert_array_equal(found["scatter_low"], alone["slope_low"])
    np.testing.assert_array_equal(found["scatter_verdict"], alone["verdict"])
    assert (found["slope_low"] < found["scatter_low"]).all()
    assert (found["slope_high"] > found["scatter_high"]).all()


def test_one_track_is_not_fused() -> None:
    """There is nothing to fuse; the volumes are then of the track itself."""
    found = measure(areas(tracks=(121,)))
    assert (found.fused, found.fused_maxima, found.fused_trends) == (None, None, {})
    assert found.unknown == {"fused series": "there are usable passes of one track only"}
    np.testing.assert_array_equal(found.volumes["area_km2"], found.maxima[FAIR].sel(track=121))


def test_without_fusion_volumes_are_of_the_track_that_sees_most() -> None:
    """Of two tracks, of which one is never usable."""
    area = areas()
    frozen = area.assign(state=area["state"].where(area["track"] == 121, ICE))
    found = measure(frozen)
    assert found.fused is None
    np.testing.assert_array_equal(found.volumes["area_km2"], found.maxima[FAIR].sel(track=121))


def test_what_cant_be_known_has_a_reason() -> None:
    """No ice, no pass in the season, no state to find it from, too few passes to fuse."""
    area = areas()
    unknown = area.assign(state=xr.zeros_like(area["state"]))
    assert "none of 300 passes shows ice" in measure(unknown).unknown["ice"]
    found = measure(unknown, season="auto")
    assert found.unknown["seasons"] == "they are to be found from the states, of which none is known"
    assert found.unknown["fused seasons"] == found.unknown["seasons"]
    assert found.unknown["volumes"] == "no season has an area"
    assert found.fused is not None
    few = measure(area.isel(time=slice(18, 22)))
    assert "a fused series needs 5" in few.unknown["fused series"]


def test_a_season_found_from_the_states() -> None:
    """All passes of open water count, in their years."""
    found = measure(areas(), season="auto")
    assert found.maxima.attrs["season_start"] == "auto"
    assert int(found.maxima["passes"].sum()) == int((areas()["state"] == OPEN).sum())


def test_what_is_usual_is_of_open_water() -> None:
    """Passes of ice have an expected area, of the open passes of their month if there are any, and no anomaly."""
    found = measure(areas())
    ice = found.area["state"] == ICE
    assert found.area["anomaly_km2"].where(ice, drop=True).isnull().all()
    july = found.area["time"].dt.month == 7
    assert found.area["expected_km2"].where(july, drop=True).notnull().all()
    assert found.climatology["median"].sel(month=1).isnull().all()
    assert found.ice.sizes["winter"] >= 9


def test_usable_passes() -> None:
    """Known area, enough seen, no ice."""
    area = areas().isel(time=slice(15, 20)).copy(deep=True)  # July to August
    area["area_km2"][0] = np.nan
    area["observed_fraction"][1] = 0.3
    area["state"][2] = ICE
    assert usable_passes(area, 0.9).tolist() == [False, False, False, True, True]


def test_alerts_rest_on_what_was_known_then() -> None:
    """A state that is only told by what came later must not keep an alert away."""
    area = areas(growth=0.0, noise=0.001, tracks=(121,), years=6).copy(deep=True)
    area["state"][:] = OPEN
    late = slice(150, None)
    for name in ("area_km2", "area_low", "area_high"):
        area[name][late] *= 0.85
    assert set(measure(area).alerts["kind"]) >= {"first", "confirmed"}
    hindsight = area.assign(state=area["state"].copy(data=np.where(np.arange(180) >= 150, ICE, OPEN).astype("int8")))
    assert "confirmed" not in set(measure(hindsight).alerts["kind"])
    assert "confirmed" in set(measure(hindsight.assign(state_then=area["state"])).alerts["kind"])


def test_areas_that_are_none_are_refused() -> None:
    """As the verbs of the series do."""
    with pytest.raises(ConfigError, match="min_observed 2 is not between 0 and 1"):
        measure(areas(), min_observed=2)
