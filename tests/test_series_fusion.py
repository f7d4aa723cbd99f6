"""Tracks that see different parts of one lake, against a simulated truth and a brute-force likelihood."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from cubekit.errors import ConfigError, NoObservations
from cubekit.series import _state_space
from cubekit.series.fusion import fuse

NOISE = 0.02


def decade(seed=0, *, years=6, hidden=0.2, growth=0.01, step=0.0, each=24):
    """Simulate two tracks of a growing lake of 1.5 km2; track 12 hides a part, platform C comes in the last third."""
    rng = np.random.default_rng(seed)
    days = np.sort(np.r_[np.arange(0, 365.25 * years, each), np.arange(5, 365.25 * years, each)])
    track = np.where(days % each < 1, 12, 121)
    t = days / 365.25
    truth = 1.5 + growth * t + 0.005 * np.sin(2 * np.pi * t)
    platform = np.where((t > 2 * years / 3) & (rng.random(t.size) < 0.5), 2, 0).astype(np.int8)
    km2 = truth - np.where(track == 12, hidden * 1.5, 0) + step * (platform == 2) + rng.normal(0, NOISE, t.size)
    time = np.datetime64("2015-01-01T00:00", "ns") + (days * 86400).astype("timedelta64[s]")
    return xr.Dataset(
        {
            "area_km2": ("time", km2, {"units": "km2"}),
            "area_low": ("time", km2 - 0.06),
            "area_high": ("time", km2 + 0.06),
            "observed_fraction": ("time", np.where(track == 12, 1 - hidden, 1.0)),
            "state": ("time", np.zeros(t.size, np.int8)),
        },
        coords={
            "time": time,
            "track": ("time", track.astype(np.int16)),
            "platform": ("time", platform),
            "truth": ("time", truth),
        },
        attrs={"lake": "gokyo"},
    )


def never(dsk, keys, **kwargs):
    """Refuse to compute: a dask scheduler for building graphs under."""
    raise AssertionError("computed while building a graph")


def test_the_fused_series_has_the_level_of_the_track_that_sees_most():
    """The hidden part is an offset of the other track, the truth within the intervals, the noise that of the draw."""
    area = decade()
    fused = fuse(area)
    assert fused["track"].values.tolist() == ["12", "121"]
    assert fused["reference"].values.tolist() == [False, True]
    assert fused["seen"].values.tolist() == [0.8, 1.0]
    assert float(fused["offset_low"][0]) < -0.3 < float(fused["offset_high"][0])
    assert float(fused["offset"][1]) == 0
    np.testing.assert_allclose(fused["noise"], NOISE, rtol=0.25)
    np.testing.assert_allclose(fused["level_error"], 0.06 / 1.96, rtol=1e-3)
    error = fused["area_km2"] - area["truth"]
    assert float(np.sqrt((error**2).mean())) < 0.3 * NOISE
    assert float(((fused["area_low"] <= area["truth"]) & (area["truth"] <= fused["area_high"])).mean()) > 0.7
    np.testing.assert_allclose(
        fused["area_high"] - fused["area_km2"], 1.959964 * np.sqrt(np.diag(fused["covariance"])), rtol=1e-6
    )


def test_two_tracks_are_better_than_one():
    """Over ten lakes the fused error is at most 0.9 of that of the better track alone, with the same smoother."""
    errors = []
    for seed in range(10):
        area = decade(seed, each=36)
        alone = area.isel(time=np.flatnonzero(area["track"] == 121))
        both = fuse(area).sel(time=alone["time"].values)
        errors.append([float(((one["area_km2"] - alone["truth"]) ** 2).mean()) for one in (both, fuse(alone))])
    fused, single = np.sqrt(np.mean(errors, axis=0))
    assert fused / single < 0.9


def test_no_step_is_invented_and_a_true_one_found():
    """A platform like the other has none; one that measures 4 % more has, and the fused series is freed of it."""
    none, some = fuse(decade(3)), fuse(decade(3, step=0.06))
    assert none["step"].values.tolist() == ["platform sentinel-1a", "platform sentinel-1c"]
    assert not none["step_found"].any()
    assert np.isnan(float(none["step_p"][0]))  # what the other is compared with
    assert float(none["step_low"][1]) < 0 < float(none["step_high"][1])
    assert some["step_found"].values.tolist() == [False, True]
    assert float(some["step_low"][1]) < 0.06 < float(some["step_high"][1])
    np.testing.assert_allclose(some["area_km2"], none["area_km2"], atol=0.01)


def test_a_platform_of_one_track_only_is_its_offset():
    """What can't be told apart has no number."""
    area = decade(4)
    area["platform"] = ("time", np.where(area["track"] == 12, 1, 0).astype(np.int8))
    fused = fuse(area)
    assert np.isnan(fused["step_size"]).all()
    assert not fused["step_found"].any()


def test_outliers_count_little():
    """Three areas that are half the lake too large move the series by less than a tenth of the noise."""
    area = decade(5)
    damaged = area.copy(deep=True)
    places = [10, 40, 71]
    damaged["area_km2"][places] += 0.75
    good, bad = fuse(area), fuse(damaged)
    assert float(abs(good["area_km2"] - bad["area_km2"]).max()) < NOISE / 2
    assert float(bad["weight"][places].max()) < 0.05


def test_passes_that_are_not_usable_are_not_used():
    """Ice, passes that saw too little and unknown areas have no weight; the fused series still has their dates."""
    area = decade(6)
    area["state"][4] = 2
    area["observed_fraction"][6] = 0.1
    area["area_km2"][[4, 6]] = 9.0
    area["area_km2"][8] = np.nan
    fused = fuse(area)
    assert fused["weight"][[4, 6, 8]].values.tolist() == [0, 0, 0]
    assert float(fused["gap_days"][4]) > 0
    assert np.isfinite(fused["area_km2"]).all()
    assert abs(float(fused["area_km2"][4]) - 1.5) < 0.05
    assert int(fused["passes"].sum()) == area.sizes["time"] - 3


def test_the_likelihood_and_its_slopes_are_those_of_the_definition():
    """Against the density of the values with the design integrated out, and against differences."""
    rng = np.random.default_rng(7)
    t = np.sort(rng.uniform(0, 3, 12))
    group = np.arange(12) % 2
    design = np.column_stack([np.ones(12), t])
    y, weights = rng.normal(size=12), np.ones(12)
    walks = (*_state_space._kernels(t - t[0], t - t[0]), np.multiply.outer(group * t, group * t))

    def value(log):
        variances = np.exp(log)
        v = sum(one * kernel for one, kernel in zip(variances[2:], walks, strict=True)) + np.diag(variances[group])
        # Contrasts that the design does not reach: what is left of them is normal with a known density.
        contrasts = np.linalg.svd(design.T)[2][2:]
        c, z = contrasts @ v @ contrasts.T, contrasts @ y
        return (z @ np.linalg.solve(c, z) + np.linalg.slogdet(c)[1]) / 2

    points = rng.normal(size=(3, 5))
    prior = [((one[:2] - one[:2].mean()) ** 2).sum() / 8 for one in points]
    ours = [_state_space._criterion(one, y, walks, group, design, weights) for one in points]
    gaps = [ours[i][0] - prior[i] - value(points[i]) for i in range(3)]
    np.testing.assert_allclose(gaps, gaps[0], atol=1e-9)  # a constant of the design
    for place in range(5):
        nudge = 1e-5 * np.eye(5)[place]
        up, down = (
            _state_space._criterion(points[0] + sign * nudge, y, walks, group, design, weights)[0] for sign in (1, -1)
        )
        assert (up - down) / 2e-5 == pytest.approx(ours[0][1][place], rel=1e-4, abs=1e-7)


def test_lazy_areas_give_the_same_and_the_graph_computes_nothing():
    """numpy and dask in any chunks agree."""
    area = decade(8, years=2)
    eager = fuse(area)
    lazy = area.copy()
    for name in area.data_vars:
        lazy[name] = area[name].chunk(time=7)
    with dask.config.set(scheduler=never):
        found = fuse(lazy)
    assert found["area_km2"].chunks is not None
    xr.testing.assert_allclose(found.compute(), eager, rtol=1e-12)


def test_unusable_areas_are_refused():
    """Each with what is given and what to do."""
    area = decade(9, years=2)
    with pytest.raises(ConfigError, match="lack observed_fraction"):
        fuse(area.drop_vars("observed_fraction"))
    with pytest.raises(ConfigError, match="min_observed 2 is not between"):
        fuse(area, min_observed=2)
    with pytest.raises(ConfigError, match="more than once; give every pass once"):
        fuse(xr.concat([area, area], "time"))
    with pytest.raises(ConfigError, match="track is lazy"):
        fuse(area.assign_coords(track=area["track"].chunk(time=5)))
    with pytest.raises(NoObservations, match="4 of 4 passes can be used, a fused series needs 5"):
        fuse(area.isel(time=slice(4)))


def completed(seed=0, *, apart=0.0, noise=True, each=24):
    """Simulate as `decade`, with the shore that track 12 does not see completed by what track 121 saw in that year."""
    area = decade(seed, each=each)
    half = (area["track"] == 12).values
    year = area["time"].dt.year.values
    errors = np.random.default_rng([9, seed]).normal(0, NOISE / 14, 3000)[year] * noise
    hidden = np.where(half, 0.2 * 1.5 + apart + errors, 0)
    return area.assign(area_km2=area["area_km2"] + hidden, area_seen_km2=area["area_km2"])


@pytest.mark.parametrize("seed", range(3))
def test_completed_tracks_that_agree_share_their_level(seed):
    """The offset is drawn to 0, and with it the mean of the fused series is known better than by its own track."""
    area = completed(seed, each=48)
    ours = fuse(area)
    own = fuse(area.drop_vars("area_seen_km2"))
    assert abs(float(ours["offset"][0])) < abs(float(own["offset"][0]))
    assert float(ours["covariance"].mean()) < float(own["covariance"].mean())


def test_completed_tracks_that_do_not_agree_keep_their_levels():
    """An offset of five times the noise is found as it is, and does not move the reference's level."""
    ours, near = fuse(completed(3, apart=0.1)), fuse(completed(3))
    assert float(ours["offset_low"][0]) < 0.1 < float(ours["offset_high"][0])
    np.testing.assert_allclose(ours["area_km2"], near["area_km2"], atol=0.5 * NOISE)


def test_errors_of_other_tracks_are_not_taken_in_twice():
    """What was completed differs from year to year by errors only: the fused series does not follow them."""
    with_errors, without = fuse(completed(4)), fuse(completed(4, noise=False))
    shape = with_errors["area_km2"] - without["area_km2"]
    assert float(shape.std()) < 0.02 * NOISE
