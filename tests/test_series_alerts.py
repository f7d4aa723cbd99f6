"""Alerts: simulated lakes with known events, a future that must not matter, and the life of an alert."""

from __future__ import annotations

import copy
import json
import math
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import xarray as xr

from cubekit.errors import ConfigError
from cubekit.series import _alert_reference
from cubekit.series._alert_reference import Pass, Reference
from cubekit.series.alerts import Event, Observation, observations, replay, score, sensitivity, step
from cubekit.series.area import STATES

CURVE = runpy.run_path(str(Path(__file__).parents[1] / "analyses" / "alert_curve.py"))


def record(passes=200, *, noise=0.01, days=12, seed=0, area=1.5):
    """Make an areas table of one open lake that only rustles, on one track."""
    rng = np.random.default_rng(seed)
    km2 = area * (1 + noise * rng.standard_normal(passes))
    return pd.DataFrame(
        {
            "time": pd.date_range("2016-01-01", periods=passes, freq=f"{days}D", tz="UTC"),
            "track": 121,
            "area_km2": km2,
            "area_low": km2 - 0.03 * area,
            "area_high": km2 + 0.03 * area,
            "observed_fraction": 1.0,
            "state": "open",
        }
    )


def scaled(table, rows, factor):
    """Multiply areas and bounds of some rows."""
    changed = table.copy()
    columns = [table.columns.get_loc(name) for name in ("area_km2", "area_low", "area_high")]
    changed.iloc[rows, columns] *= factor
    return changed


def story(events):
    """Kinds, signs and outcomes of events."""
    return [(row.kind, row.sign, row.outcome) for row in events.itertuples()]


@pytest.mark.parametrize("revisit", [6, 12])
def test_drops_and_growths_are_confirmed_within_two_passes_and_little_else(revisit):
    """At 2 % noise at least 95 % of events are in time, with at most half a false alarm a lake-decade."""
    row = CURVE["curve"](40, noises=(0.02,), revisits=(revisit,)).iloc[0]
    assert row["drops_in_two_passes"] >= 0.95
    assert row["growths_in_two_passes"] >= 0.95
    assert row["false_per_lake_decade"] <= 0.5


def same_whatever_comes(run, table):
    """Shuffle the areas of the future, and leave them out, after each first sign and after other passes."""
    whole = run(table)
    assert set(whole["kind"]) >= {"first", "confirmed", "closed"}
    rng = np.random.default_rng(0)
    signs = replay(table).query("kind == 'first'")["time"]
    made = 1 + np.flatnonzero(table["time"].isin(signs))
    for now in np.unique(np.append(made[made < len(table)], rng.integers(50, len(table), 4))):
        order = rng.permutation(np.arange(now, len(table)))
        later = table.iloc[order].assign(time=table["time"].iloc[now:].array)
        shuffled = pd.concat([table.iloc[:now], later])
        moment = table["time"].iloc[now - 1]
        expected = whole[whole["time"] <= moment]
        for other in (shuffled, table.iloc[:now]):
            events = run(other)
            pd.testing.assert_frame_equal(
                events[events["time"] <= moment].reset_index(drop=True), expected, check_dtype=False
            )


@pytest.fixture(scope="module")
def drained():
    """Ten noisy years of a lake that drains by a tenth."""
    lake = CURVE["simulate"](np.random.default_rng(5), noise=0.04, revisit=6)
    return pd.DataFrame(CURVE["passes"](lake, CURVE["changed"](lake, "drop")[0]))


def test_what_comes_later_changes_no_earlier_event(drained):
    """Shuffling the areas of the future, or leaving them out, leaves all events up to now as they were."""
    same_whatever_comes(replay, drained)


def ahead_by_a_pass(table):
    """Replay each area as the mean of itself and the next."""
    areas = table["area_km2"].to_numpy()
    return replay(table.assign(area_km2=(areas + np.append(areas[1:], areas[-1])) / 2))


def about_the_median(table):
    """Replay areas as shares of the whole record's median."""
    return replay(table.assign(area_km2=table["area_km2"] / table["area_km2"].median()))


def without_false_starts(table):
    """Tell of no first sign that is not confirmed afterwards."""
    events = replay(table)
    return events[~events["alert"].isin(events.loc[events["outcome"] == "not_confirmed", "alert"])].reset_index(
        drop=True
    )


@pytest.mark.parametrize("looks_ahead", [ahead_by_a_pass, about_the_median, without_false_starts])
def test_a_replay_that_looks_ahead_would_be_found(drained, looks_ahead):
    """The check above fails for three ways to know the future."""
    with pytest.raises(AssertionError, match=r"DataFrame"):
        same_whatever_comes(looks_ahead, drained)


def test_steps_through_json_give_the_events_of_a_replay():
    """A service that stores its state after each pass tells the same, bit for bit, and its state does not grow."""
    table = scaled(record(300), slice(250, None), 0.85)
    state, events, sizes = None, [], []
    for one in observations(table):
        state, told = step(state, one)
        state = json.loads(json.dumps(state, allow_nan=False))
        events += told
        sizes.append(len(json.dumps(state)))
    pd.testing.assert_frame_equal(pd.DataFrame(events, columns=list(Event._fields)), replay(table))
    assert max(sizes[150:]) < 1.5 * sizes[50]


def test_step_leaves_the_state_it_was_given():
    """The same state can be gone on from twice."""
    state = None
    for one in observations(record(80)):
        state, _ = step(state, one)
    kept = copy.deepcopy(state)
    later = Observation(pd.Timestamp("2019-01-01"), 121, 1.2)
    first, second = step(state, later), step(state, later)
    assert state == kept
    assert first == second
    assert [event.kind for event in first[1]] == ["first"]


def test_a_dataset_replays_as_its_table_lazy_or_not():
    """Dataset with codes, dask Dataset and table with words give the same events."""
    table = scaled(record(), slice(190, None), 0.8)
    names = ("area_km2", "area_low", "area_high", "observed_fraction")
    area = xr.Dataset(
        {name: ("time", table[name].to_numpy()) for name in names} | {"state": ("time", np.full(200, 1, np.int8))},
        {"time": table["time"].dt.tz_localize(None).to_numpy(), "track": ("time", np.full(200, 121, np.int16))},
    )
    expected = replay(table)
    assert story(expected)[-1] == ("confirmed", "drop", "")
    for given in (area, area.chunk({"time": 7}), area.isel(time=np.random.default_rng(1).permutation(200))):
        pd.testing.assert_frame_equal(replay(given), expected, check_dtype=False)


def test_a_drained_lake_is_confirmed():
    """An area of 0 is the largest drop there is, not a gap."""
    events = replay(scaled(record(), slice(190, None), 0.0))
    confirmed = events[events["kind"] == "confirmed"].iloc[0]
    assert (confirmed["sign"], confirmed["area_km2"], confirmed["change"]) == ("drop", 0.0, -1.0)
    assert confirmed["expected_km2"] == pytest.approx(1.5, rel=0.02)
    assert events["change"].notna().all()
    # It is drained, not ever more so.
    assert events["kind"].eq("further").sum() == 0


def test_one_wild_pass_is_told_and_taken_back():
    """A first sign without a second one ends as not confirmed, and the reference stays."""
    table = record(noise=0.005)
    table = scaled(table, [150], 0.7)
    events = replay(table)
    assert story(events) == [("first", "drop", ""), ("closed", "drop", "not_confirmed")]
    assert events["alert"].nunique() == 1
    assert events["expected_km2"].iloc[1] == pytest.approx(1.5, rel=0.01)


def test_an_alert_closes_when_the_area_comes_back():
    """A drop that is gone after eight passes is closed as returned, without an alert of growth."""
    events = replay(scaled(record(noise=0.005), slice(150, 158), 0.8))
    kept = [one for one in story(events) if one[0] != "first"]
    assert kept[0] == ("confirmed", "drop", "")
    assert ("closed", "drop", "returned") in kept
    assert not (events["kind"].eq("confirmed") & events["sign"].eq("growth")).any()


def test_an_alert_holds_through_noise_about_its_level():
    """Hysteresis: an area that stays down by 20 % does not open and close the alert."""
    events = replay(scaled(record(noise=0.02), slice(150, 163), 0.8))
    while_open = events[events["time"] < pd.Timestamp("2016-01-01", tz="UTC") + pd.Timedelta(days=12 * 163)]
    assert while_open["kind"].eq("confirmed").sum() == 1
    assert not while_open["outcome"].isin(["returned", "reversed"]).any()


def test_a_new_level_settles():
    """Half a year later a lake that stays smaller is no longer an alert, and its next drop is one."""
    table = scaled(scaled(record(noise=0.005), slice(120, None), 0.8), slice(160, None), 0.8)
    events = replay(table)
    confirmed = events[events["kind"] == "confirmed"]
    assert confirmed["sign"].tolist() == ["drop", "drop"]
    assert confirmed["change"].tolist() == pytest.approx([-0.2, -0.2], abs=0.02)
    closed = events[events["outcome"] == "settled"].iloc[0]
    assert 180 <= (closed["time"] - closed["since"]).days <= 220


def test_an_outburst_of_a_lake_that_had_grown_is_a_drop():
    """Falling back from a growth that had lasted is drainage, though the area is only what it was."""
    events = replay(scaled(record(noise=0.005), slice(150, 160), 1.2))
    assert ("closed", "growth", "reversed") in story(events)
    assert ("confirmed", "drop", "") in story(events)


def test_a_growth_of_three_passes_is_no_drainage_when_it_ends():
    """What was gone at once was no water."""
    events = replay(scaled(record(noise=0.005), slice(150, 153), 1.2))
    assert ("closed", "growth", "returned") in story(events)
    assert not (events["kind"].eq("confirmed") & events["sign"].eq("drop")).any()


def test_a_drop_that_goes_on_is_told_again():
    """A further drop of an open alert is told under its number."""
    table = scaled(scaled(record(noise=0.005), slice(150, None), 0.85), slice(155, None), 0.7)
    events = replay(table)
    assert events["kind"].tolist()[:3] == ["first", "confirmed", "further"]
    assert events["alert"].tolist()[:3] == [1, 1, 1]
    assert events["change"].iloc[2] == pytest.approx(0.85 * 0.7 - 1, abs=0.02)


@pytest.mark.parametrize("state", ["ice", "wet_snow", "rough"])
def test_areas_that_are_not_trusted_carry_no_alert(state):
    """Half the area under ice is no event, and a drop is told once it is seen open."""
    table = scaled(record(), slice(150, 160), 0.5)
    table.loc[150:159, "state"] = state
    assert replay(table).empty
    drained = scaled(table, slice(160, None), 0.7)
    events = replay(drained)
    assert events["time"].iloc[0] == table["time"].iloc[160]
    assert story(events)[1] == ("confirmed", "drop", "")


def test_what_was_not_seen_is_no_drop():
    """A pass that misses a tenth of the lake, which area_high allows for, says nothing; without that it would."""
    table = record(noise=0.005)
    hidden = table.copy()
    hidden.loc[150:152, ["area_km2", "area_low"]] *= 0.9
    hidden.loc[150:152, "observed_fraction"] = 0.95
    assert not replay(hidden)["kind"].eq("confirmed").any()
    seen = scaled(table, slice(150, 153), 0.9)
    assert replay(seen)["kind"].eq("confirmed").any()


def test_a_pass_that_saw_too_little_or_nothing_is_passed_over():
    """Below nine tenths of what the track saw before, or with no area, a pass makes no event."""
    table = scaled(record(), slice(150, 155), 0.5)
    table.loc[150:154, "observed_fraction"] = 0.5
    assert replay(table).empty
    table.loc[150:154, "area_km2"] = np.nan
    table.loc[150:154, "observed_fraction"] = 1.0
    assert replay(table).empty


def test_a_track_that_hides_a_part_of_the_lake_is_no_drop():
    """Areas of a new track are measured against its own, wherever it comes in."""
    table = record(noise=0.005)
    rows = np.arange(100, 200, 2)
    table = scaled(table, rows, 0.8)
    table.loc[rows, "track"] = 19
    assert not replay(table)["kind"].eq("confirmed").any()
    # Once it is known, a drop in it is seen.
    assert replay(scaled(table, slice(180, None), 0.85))["kind"].eq("confirmed").sum() == 1


def test_growth_of_years_and_the_season_are_no_alerts():
    """5 % a year and a season of 8 % are learned, noise of 1 % beside them."""
    table = record(300)
    years = np.arange(300) * 12 / 365.25
    assert not replay(table)["kind"].eq("confirmed").any()
    factor = np.exp(0.05 * years + 0.04 * np.sin(2 * np.pi * years))
    for name in ("area_km2", "area_low", "area_high"):
        table[name] *= factor
    assert not replay(table)["kind"].eq("confirmed").any()


def test_a_young_record_asks_for_more():
    """After one pass a lake is hardly known: 8 % off is no alert yet, later it is."""
    assert not replay(scaled(record(12, noise=0.01), slice(1, None), 0.92))["kind"].eq("confirmed").any()
    assert replay(scaled(record(120, noise=0.01), slice(100, None), 0.92))["kind"].eq("confirmed").any()


def test_the_reference_is_the_best_linear_estimate(monkeypatch):
    """Without drift and clipping, the filter's mean is that of a regression with its prior, tracks and order mixed."""
    for name in ("LEVEL_DRIFT", "GROWTH_DRIFT", "SEASON_DRIFT", "OFFSET_DRIFT"):
        monkeypatch.setattr(_alert_reference, name, 0.0)
    rng = np.random.default_rng(3)
    moments = np.sort(rng.uniform(16, 19, 60))
    tracks = rng.choice(["121", "19", "85"], 60)
    tracks[:3] = ["121", "19", "85"]
    values = rng.normal(0.4, 0.1, 60)
    variances = rng.uniform(0.01, 0.03, 60) ** 2
    reference = Reference.begin(moments[0], values[0])
    for moment, track, value, variance in zip(moments, tracks, values, variances, strict=True):
        reference.track(track)
        reference.forward(moment)
        reference.absorb(Pass(moment, track, value, variance), trusted=True)
    angle = 2 * np.pi * moments
    design = np.stack([np.ones(60), moments - moments[0], *(f(k * angle) for k in (1, 2) for f in (np.cos, np.sin))], 1)
    design = np.hstack([design, np.stack([tracks == "19", tracks == "85"], 1)])
    spread = np.array([1, 0.05, 0.04, 0.04, 0.02, 0.02, 0.2, 0.2])
    prior = np.array([values[0], *np.zeros(7)])
    precision = design.T @ (design / variances[:, None]) + np.diag(spread**-2.0)
    best = np.linalg.solve(precision, design.T @ (values / variances) + prior / spread**2)
    best[0] += best[1] * (moments[-1] - moments[0])
    np.testing.assert_allclose(reference.mean, best, rtol=1e-6, atol=1e-9)
    expected, variance = reference.expected(moments[-1], "85")
    assert expected == pytest.approx(design[-1, 2:6] @ best[2:6] + best[0] + best[7])
    row = np.array([1, moments[-1] - moments[0], *design[-1, 2:6], 0, 1])
    assert variance == pytest.approx(row @ np.linalg.inv(precision) @ row)


@pytest.mark.parametrize("noise", [0.01, 0.04])
def test_the_noise_of_a_track_is_found(noise):
    """After ten years of a pass a week, within a quarter."""
    state = None
    for one in observations(record(500, noise=noise, days=7)):
        state, _ = step(state, one)
    assert math.sqrt(state["reference"]["tracks"]["121"]["variance"]) == pytest.approx(noise, rel=0.25)


def test_score_matches_alerts_to_what_happened():
    """An alert counts for the newest event of its sign that began before it; the rest is false."""
    times = pd.to_datetime(["2018-01-10", "2019-01-10", "2020-01-10", "2020-02-10"], utc=True)
    events = pd.DataFrame(
        {"kind": ["confirmed"] * 3 + ["first"], "sign": ["drop", "growth", "drop", "drop"], "time": times}
    )
    known = pd.DataFrame({"time": ["2018-01-01", "2019-01-01", "2021-01-01"], "sign": ["drop", "drop", "drop"]})
    found = score(events, 5, known)
    assert found == {
        "confirmed": 3,
        "false": 2,
        "false_per_decade": 4.0,
        "known": 3,
        "found": 1,
        "delay_days": pytest.approx(9.0),
    }
    assert math.isnan(score(events.iloc[:0], 5)["delay_days"])


def test_sensitivity_falls_with_noise():
    """Of a quiet lake every drop is seen in two passes, of a noisy one few."""
    quiet, noisy = (sensitivity(record(noise=noise), trials=12) for noise in (0.01, 0.08))
    assert (quiet["passes"] <= 2).all()
    assert (quiet["days"] <= 24).all()
    assert (noisy["passes"] <= 2).mean() < 0.3
    assert (sensitivity(record(), change=0.2, trials=5)["passes"] <= 2).all()
    assert sensitivity(record(20)).empty


def test_states_are_words_or_codes():
    """Both spellings of a state are the same pass."""
    table = record(5)
    words = [one.state for one in observations(table)]
    codes = [one.state for one in observations(table.assign(state=STATES.index("open")))]
    assert words == codes == ["open"] * 5


def refuse_order():
    state, _ = step(None, Observation(pd.Timestamp("2020-01-02"), 121, 1.5))
    step(state, Observation(pd.Timestamp("2020-01-02"), 121, 1.5))


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (refuse_order, "not later than the last one.*replay"),
        (lambda: step(None, Observation(pd.Timestamp("2020-01-02"), 121, -1.0)), "area of -1.0 km2"),
        (lambda: step(None, Observation(pd.Timestamp("2020-01-02"), 121, 1.0, state="frozen")), "'frozen'.*open, ice"),
        (lambda: step({"version": 7}, Observation(pd.Timestamp("2020-01-02"), 121, 1.0)), "version 7.*replay"),
        (lambda: replay(record(3), least_change=0), "least_change 0 is not between"),
        (lambda: replay(record(3), min_observed=2), "min_observed 2 is not between"),
        (lambda: replay(record(3).drop(columns="track")), "lack track"),
        (lambda: replay(record(3).assign(lake=["a", "b", "a"])), "2 lakes"),
        (lambda: replay(record(3).assign(state=9)), "9 is no state"),
        (lambda: sensitivity(record(3), change=0), "change 0"),
        (lambda: score(replay(record(3)), 0), "0 years long"),
        (lambda: score(replay(record(3)), 1, pd.DataFrame({"time": []})), "lack sign"),
        (lambda: score(replay(record(3)), 1, pd.DataFrame({"time": ["2020"], "sign": ["up"]})), "sign up"),
    ],
)
def test_what_can_not_be_is_refused(call, match):
    """Each error says what was given."""
    with pytest.raises(ConfigError, match=match):
        call()
