"""Metrics against brute force, scikit-image and tables counted by hand."""

import runpy
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.distance import cdist
from skimage.segmentation import find_boundaries

from cubekit.errors import ConfigError
from cubekit.segmentation import metrics
from cubekit.segmentation.metrics import Confusion

TABLE2 = {"tn": 3_057_227, "fp": 7_787, "fn": 5_807, "tp": 140_443}


def blobs(seed, count=4, size=24):
    """Random smooth-ish masks and probabilities, and where they were observed."""
    rng = np.random.default_rng(seed)
    truth = rng.random((count, size, size)) < 0.4
    probability = np.clip(truth * 0.4 + rng.random((count, size, size)) * 0.6, 0, 1).astype(np.float32)
    return truth, probability, rng.random((count, size, size)) < 0.8


def test_the_paper_s_table_2_follows_from_its_matrix_except_for_the_iou():
    """Four printed numbers are those of the matrix; the IoU of the matrix is 0.91175, not 0.9130."""
    pooled = metrics.scores(Confusion(*(np.array([TABLE2[name]]) for name in Confusion._fields))).pooled
    printed = {"accuracy": 0.9958, "precision": 0.9475, "recall": 0.9603, "f1": 0.9538}
    assert {name: round(pooled[name], 4) for name in printed} == printed
    assert pooled["iou"] == pytest.approx(140_443 / 154_037, abs=1e-15)
    assert pooled["iou"] == pytest.approx(0.9118, abs=1e-4)
    assert abs(pooled["iou"] - 0.9130) > 1e-3
    assert sum(TABLE2.values()) == 49 * 256 * 256


def test_the_analysis_of_table_2_prints_both(capsys):
    """The script shows the printed and the recomputed numbers and says why they differ."""
    runpy.run_path(str(Path(__file__).parents[1] / "analyses" / "table2_metrics.py"), run_name="__main__")
    text = capsys.readouterr().out
    assert all(word in text for word in ("0.9130", "0.91175", "0.9118", "0.9538", "49 chips"))


@pytest.mark.parametrize("seed", range(3))
def test_confusion_counts_every_observed_pixel_once(seed):
    """Against a loop over pixels."""
    truth, probability, observed = blobs(seed, size=9)
    expected = np.zeros((len(truth), 4), int)
    for place in np.ndindex(truth.shape):
        if observed[place]:
            expected[place[0], 2 * truth[place] + (probability[place] >= 0.5)] += 1
    tn, fp, fn, tp = expected.T
    found = metrics.confusion(truth, probability, observed)
    for name, values in {"tn": tn, "fp": fp, "fn": fn, "tp": tp}.items():
        np.testing.assert_array_equal(getattr(found, name), values, err_msg=name)


def test_nan_is_not_observed_by_default():
    """A probability that is not known counts nowhere."""
    truth, probability, observed = blobs(5)
    blank = np.where(observed, probability, np.nan)
    np.testing.assert_array_equal(metrics.confusion(truth, blank), metrics.confusion(truth, probability, observed))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda t, p, o: (t, np.full_like(p, np.nan), o), "observed pixels have the probability NaN"),
        (lambda t, p, o: (t, p[:1], o), "of one shape"),
        (lambda t, p, o: (t.astype(int), p, o), "truth as bool"),
        (lambda t, p, o: (t, (p * 255).astype(np.uint8), o), "prediction as bool or floating-point"),
        (lambda t, p, o: (t, p, o.astype(float)), "observed is float64"),
    ],
)
def test_confusion_refuses_what_it_would_count_wrongly(change, words):
    """Never a wrong number."""
    arrays = change(*blobs(1))
    with pytest.raises(ConfigError, match=words):
        metrics.confusion(*arrays)


def test_scores_are_pooled_and_meant_over_images_that_define_them():
    """By hand: one image all right, one half right, one without any lake."""
    counts = Confusion(*np.array([[0, 0, 0, 10], [4, 2, 2, 2], [10, 0, 0, 0], [9, 1, 0, 0]]).T)
    found = metrics.scores(counts)
    assert found.pooled["iou"] == 12 / 17
    assert found.mean["iou"] == pytest.approx((1 + 1 / 3 + 0) / 3)
    assert found.defined == {"iou": 3, "precision": 3, "recall": 2, "f1": 3, "accuracy": 4}
    assert found.mean["recall"] == pytest.approx((1 + 0.5) / 2)
    assert np.isnan(found.per_image["iou"][2])


def test_f1_is_the_harmonic_mean_of_precision_and_recall():
    """Equation 9, wherever it is defined."""
    found = metrics.scores(Confusion(*np.random.default_rng(0).integers(1, 1000, (4, 50)))).per_image
    harmonic = 2 * found["precision"] * found["recall"] / (found["precision"] + found["recall"])
    np.testing.assert_allclose(found["f1"], harmonic)
    np.testing.assert_allclose(found["iou"], harmonic / (2 - harmonic))


def test_no_images_give_no_scores():
    """Undefined is NaN and counted as such, not 0."""
    found = metrics.scores(metrics.confusion(np.empty((0, 4, 4), np.bool_), np.empty((0, 4, 4), np.bool_)))
    assert np.isnan([*found.pooled.values(), *found.mean.values()]).all()
    assert set(found.defined.values()) == {0}


def test_area_errors_by_hand():
    """Two lakes of 10 and 20 pixels, found with 12 and 18; one image without lake, one not observed."""
    truth, predicted = np.zeros((2, 4, 6, 6), np.bool_)
    for image, (true, found) in enumerate([(10, 12), (20, 18), (0, 3), (5, 0)]):
        truth[image].flat[:true] = True
        predicted[image].flat[:found] = True
    observed = np.ones_like(truth)
    observed[3] = False
    errors = metrics.area_errors(truth, predicted, 0.0004, observed)
    assert errors.bias_km2 == pytest.approx(0.0004 * (2 - 2 + 3) / 3)
    assert errors.rmse_km2 == pytest.approx(0.0004 * np.sqrt((4 + 4 + 9) / 3))
    assert errors.bias_percent == pytest.approx((20 - 10) / 2)
    assert errors.rmse_percent == pytest.approx(np.sqrt((400 + 100) / 2))
    assert (errors.images, errors.images_with_lake) == (3, 2)


def test_a_pixel_may_have_another_area_in_each_image():
    """20 m and 30 m together."""
    truth = np.ones((2, 2, 2), np.bool_)
    errors = metrics.area_errors(truth, np.zeros_like(truth), np.array([0.0004, 0.0009]))
    assert errors.bias_km2 == pytest.approx(-(0.0016 + 0.0036) / 2)


def test_areas_without_a_lake_have_no_percentage():
    """NaN, not 0 %."""
    errors = metrics.area_errors(np.zeros((1, 3, 3), np.bool_), np.ones((1, 3, 3), np.bool_), 0.0004)
    assert np.isnan(errors.bias_percent)
    assert errors.images_with_lake == 0


def discs(offset, radius):
    rows, columns = np.mgrid[:40, :40]
    return np.stack([np.hypot(rows - 18 - offset * image, columns - 20) < radius for image in range(3)])


@pytest.mark.parametrize(("offset", "radius"), [(0, 7), (1, 9), (3, 6.5)])
def test_boundary_distance_against_all_pairs_of_shore_pixels(offset, radius):
    """Against scikit-image's boundaries and every distance between them."""
    truth, predicted = discs(0, 8), discs(offset, radius)
    predicted[1, 2:6, 2:6] = True  # a second piece
    found = metrics.boundary_distance(truth, predicted, 20.0)
    for image, (one, other) in enumerate(zip(truth, predicted, strict=True)):
        shores = [np.argwhere(find_boundaries(mask, connectivity=1, mode="inner")) for mask in (one, other)]
        distances = cdist(*shores) * 20.0
        both = np.concatenate([distances.min(axis=0), distances.min(axis=1)])
        assert found.mean[image] == pytest.approx(both.mean())
        assert found.percentile95[image] == pytest.approx(np.percentile(both, 95))


def test_a_lake_that_is_cut_has_no_shore_there():
    """Neither at the image's edge nor where it was not observed."""
    truth = np.zeros((2, 12, 12), np.bool_)
    truth[:, :, :6] = True
    predicted = truth.copy()
    predicted[0, :, 6] = True
    observed = np.ones_like(truth)
    observed[1, :, 6:] = False
    found = metrics.boundary_distance(truth, predicted, np.array([20.0, 30.0]), observed)
    assert found.mean[0] == 20.0
    assert np.isnan(found.mean[1])


def test_without_a_lake_in_one_of_them_there_is_no_distance():
    """Not known, for none of the two would be right: neither 0 nor infinity."""
    lake = discs(0, 8)
    assert np.isnan(metrics.boundary_distance(lake, np.zeros_like(lake), 20.0)).all()


def test_calibration_against_a_loop_over_bins():
    """Every pixel in the bin that its value lies in; the error weighs bins by their pixels."""
    truth, probability, observed = blobs(2)
    found = metrics.calibration_error(truth, probability, 7, observed)
    p, t = probability[observed].astype(float), truth[observed]
    expected = 0.0
    for number in range(7):
        inside = (p >= number / 7) & ((p < (number + 1) / 7) | (number == 6))
        assert found.pixels[number] == inside.sum()
        if inside.any():
            assert found.frequency[number] == pytest.approx(t[inside].mean())
            assert found.probability[number] == pytest.approx(p[inside].mean())
            expected += inside.mean() * abs(t[inside].mean() - p[inside].mean())
    assert found.error == pytest.approx(expected)
    np.testing.assert_allclose(found.upper - found.lower, 1 / 7)


def test_probabilities_that_are_right_have_no_calibration_error():
    """Water drawn with the probability that is given; twice as sure is worse."""
    rng = np.random.default_rng(0)
    probability = rng.random((4, 200, 200))
    truth = rng.random(probability.shape) < probability
    assert metrics.calibration_error(truth, probability).error < 0.01
    assert metrics.calibration_error(truth, (probability > 0.5).astype(float)).error > 0.2


def test_reliability_counts_add_up_over_images():
    """One image after another is all of them at once."""
    truth, probability, _ = blobs(3)
    parts = sum(metrics.reliability_counts(truth[[n]], probability[[n]]) for n in range(len(truth)))
    assert metrics.calibration_of(parts).error == pytest.approx(metrics.calibration_error(truth, probability).error)


def test_what_is_no_probability_is_refused():
    """Logits would be put in some bin."""
    with pytest.raises(ConfigError, match="from -1 to 3"):
        metrics.calibration_error(np.zeros((1, 1, 2), np.bool_), np.array([[[-1.0, 3.0]]]))


def test_the_interval_of_a_mean_is_the_one_of_statistics():
    """Independent clusters: 1.96 standard errors."""
    values = np.random.default_rng(1).normal(3, 2, 200)
    interval = metrics.bootstrap(values, np.mean, range(200), resamples=4000)
    half = 1.96 * values.std() / np.sqrt(200)
    assert interval.estimate == values.mean()
    assert interval.low == pytest.approx(values.mean() - half, abs=0.05 * half)
    assert interval.high == pytest.approx(values.mean() + half, abs=0.05 * half)


def test_copies_within_a_cluster_add_no_certainty():
    """Ten copies of each row in one cluster: the interval stays, to the bit; as rows of their own it shrinks."""
    values = np.random.default_rng(2).normal(size=30)
    once = metrics.bootstrap(values, np.mean, range(30), resamples=300)
    clustered = metrics.bootstrap(np.repeat(values, 10), np.mean, np.repeat(np.arange(30), 10).tolist(), resamples=300)
    alone = metrics.bootstrap(np.repeat(values, 10), np.mean, range(300), resamples=300)
    assert (clustered.low, clustered.high) == pytest.approx((once.low, once.high))
    assert clustered.clusters == 30
    assert alone.high - alone.low < 0.5 * (once.high - once.low)


def test_an_interval_covers_as_often_as_it_says():
    """Lakes with a level of their own: about 95 % of 95 % intervals hold the true mean when lakes are drawn."""
    rng = np.random.default_rng(3)
    lakes = np.repeat(np.arange(40), 5)
    hits = 0
    for seed in range(150):
        values = rng.normal(size=40)[lakes] + 0.2 * rng.normal(size=200)
        interval = metrics.bootstrap(values, np.mean, lakes.tolist(), resamples=200, seed=seed)
        hits += interval.low <= 0 <= interval.high
    assert 0.88 <= hits / 150 <= 0.99


def test_the_seed_decides():
    """The same seed, the same interval; another one, another."""
    values = np.random.default_rng(4).normal(size=20)
    one, same, other = (metrics.bootstrap(values, np.mean, range(20), resamples=50, seed=seed) for seed in (1, 1, 2))
    assert one == same
    assert one != other


@pytest.mark.parametrize("clusters", [[], ["gokyo"] * 3])
def test_less_than_two_clusters_have_no_interval(clusters):
    """One lake says nothing of others."""
    interval = metrics.bootstrap(np.arange(float(len(clusters))), np.mean, clusters)
    assert np.isnan((interval.low, interval.high)).all()


def test_resamples_without_a_value_are_left_out():
    """One image with a lake among two: drawn without it there is no IoU."""
    interval = metrics.bootstrap(
        np.array([0.5, np.nan]), lambda v: np.nanmean(v) if np.isfinite(v).any() else np.nan, "ab"
    )
    assert (interval.low, interval.high) == (0.5, 0.5)


@pytest.mark.parametrize(
    ("options", "words"), [({"resamples": 0}, "at least 1"), ({"level": 1.0}, "between 0 and 1"), ({}, "3 clusters")]
)
def test_bootstrap_refuses_what_it_can_not_draw(options, words):
    """Rows without cluster, no resamples, no level."""
    clusters = range(2) if options else range(3)
    with pytest.raises(ConfigError, match=words):
        metrics.bootstrap(np.arange(2.0), np.mean, clusters, **options)
