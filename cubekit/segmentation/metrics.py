"""Metrics: how far predicted water is from drawn water, and how sure that number is.

Pure functions on arrays (image, y, x). What was not observed is never counted. A ratio whose denominator is 0 is NaN,
and how many images define it is told, because a mean over those that do hides the others.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cubekit.errors import ConfigError
from cubekit.segmentation.bootstrap import Interval, bootstrap

__all__ = [
    "SCORES",
    "AreaErrors",
    "BoundaryDistance",
    "Calibration",
    "Confusion",
    "Interval",
    "Scores",
    "area_errors",
    "area_errors_of",
    "bootstrap",
    "boundary_distance",
    "calibration_error",
    "calibration_of",
    "confusion",
    "reliability_counts",
    "scores",
]

Booleans = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float64]
Integers = npt.NDArray[np.int64]

SCORES = ("iou", "precision", "recall", "f1", "accuracy")
"""Names of the scores, in the order of tables."""


class Confusion(NamedTuple):
    """Observed pixels counted by truth and prediction: int64, one number an image."""

    tn: Integers
    fp: Integers
    fn: Integers
    tp: Integers


@dataclass(frozen=True)
class Scores:
    """Scores by name (`SCORES`).

    Parameters
    ----------
    pooled
        From the counts of all images together.
    mean
        Over the images that define the score; NaN when none does.
    defined
        How many images do. An image without lake in truth and in prediction defines only its accuracy.
    per_image
        float64, one an image, NaN where not defined.
    """

    pooled: Mapping[str, float]
    mean: Mapping[str, float]
    defined: Mapping[str, int]
    per_image: Mapping[str, Floats]


class AreaErrors(NamedTuple):
    """Predicted minus true areas over images; the percentages are of each image's own true area."""

    bias_km2: float
    rmse_km2: float
    bias_percent: float
    rmse_percent: float
    images: int
    """With anything observed: those that `bias_km2` and `rmse_km2` are of."""
    images_with_lake: int
    """Those that the percentages are of."""


class BoundaryDistance(NamedTuple):
    """Distances between two shores, metres: float64, one an image, NaN where one of them has no shore."""

    mean: Floats
    percentile95: Floats


class Calibration(NamedTuple):
    """Expected calibration error, and the reliability table it comes from: arrays of one number a bin."""

    error: float
    lower: Floats
    upper: Floats
    pixels: Integers
    probability: Floats
    """Mean predicted probability; NaN in an empty bin."""
    frequency: Floats
    """Share of the bin's pixels that are water; NaN in an empty bin."""


def confusion(
    truth: npt.NDArray[Any],
    predicted: npt.NDArray[Any],
    observed: Booleans | None = None,
    *,
    threshold: float = 0.5,
) -> Confusion:
    """Count pixels by truth and prediction.

    Parameters
    ----------
    truth
        bool (image, y, x), True where water.
    predicted
        The same shape: bool, or floating-point probability, water from `threshold` on.
    observed
        The same shape. By default all pixels, less those whose probability is NaN.
    threshold
        Between 0 and 1.

    Returns
    -------
    Confusion

    Raises
    ------
    ConfigError
        When shapes or types are others, or a probability is NaN where `observed` says that there is one.

    Examples
    --------
    >>> truth = np.array([[[True, True, False, False]]])
    >>> [int(count[0]) for count in confusion(truth, np.array([[[0.9, 0.2, 0.5, np.nan]]]))]
    [0, 1, 1, 1]
    """
    seen = _observed(truth, predicted, observed)
    water = predicted if predicted.dtype == np.bool_ else predicted >= threshold
    cells = (~truth & ~water, ~truth & water, truth & ~water, truth & water)
    return Confusion(*(np.count_nonzero(cell & seen, axis=(1, 2)).astype(np.int64) for cell in cells))


def scores(counts: Confusion) -> Scores:
    """Accuracy, precision, recall, F1 and IoU: equations 6 to 10 of the paper.

    Parameters
    ----------
    counts
        From `confusion`.

    Returns
    -------
    Scores

    Notes
    -----
    F1 is taken as 2 TP / (2 TP + FP + FN): equal to equation 9 wherever that is defined, and 0 where precision or
    recall is 0 or undefined for want of any right pixel.

    Examples
    --------
    >>> table2 = Confusion(*(np.array([n]) for n in (3_057_227, 7_787, 5_807, 140_443)))
    >>> {name: round(value, 4) for name, value in scores(table2).pooled.items()}
    {'iou': 0.9117, 'precision': 0.9475, 'recall': 0.9603, 'f1': 0.9538, 'accuracy': 0.9958}
    """
    pooled = {name: float(value) for name, value in _ratios(*(np.sum(cell) for cell in counts)).items()}
    per_image = _ratios(*counts)
    defined = {name: int(np.isfinite(values).sum()) for name, values in per_image.items()}
    mean = {name: float(np.nanmean(values)) if defined[name] else np.nan for name, values in per_image.items()}
    return Scores(pooled, mean, defined, per_image)


def area_errors(
    truth: Booleans, predicted: Booleans, pixel_km2: float | Floats, observed: Booleans | None = None
) -> AreaErrors:
    """Bias and root-mean-square error of areas.

    Parameters
    ----------
    truth, predicted
        bool (image, y, x).
    pixel_km2
        Area of a pixel, one for all images or one an image: 0.0004 at 20 m.
    observed
        As in `confusion`; water elsewhere counts in neither area.

    Returns
    -------
    AreaErrors
        NaN where no image defines the number.

    Raises
    ------
    ConfigError
        As `confusion`.

    Examples
    --------
    >>> truth = np.ones((1, 10, 10), np.bool_)
    >>> predicted = truth.copy()
    >>> predicted[0, 0] = False
    >>> round(area_errors(truth, predicted, 0.0004).bias_percent, 6)
    -10.0
    """
    seen = _observed(truth, predicted, observed)
    true, found = (np.count_nonzero(mask & seen, axis=(1, 2)) * pixel_km2 for mask in (truth, predicted))
    return area_errors_of(true[seen.any(axis=(1, 2))], found[seen.any(axis=(1, 2))])


def area_errors_of(true_km2: Floats, found_km2: Floats) -> AreaErrors:
    """As `area_errors`, from areas in km2, one an image."""
    error = found_km2 - true_km2
    lake = true_km2 > 0
    percent = 100 * error[lake] / true_km2[lake]
    return AreaErrors(*_bias_rmse(error), *_bias_rmse(percent), int(error.size), int(lake.sum()))


def boundary_distance(
    truth: Booleans, predicted: Booleans, spacing: float | Floats, observed: Booleans | None = None
) -> BoundaryDistance:
    """Distance between the shores of truth and prediction, both ways.

    Parameters
    ----------
    truth, predicted
        bool (image, y, x).
    spacing
        Pixel spacing, metres, one for all images or one an image.
    observed
        As in `confusion`.

    Returns
    -------
    BoundaryDistance
        Of the distances from each shore pixel to the nearest one of the other mask, from truth to prediction and from
        prediction to truth together: their mean (the mean symmetric surface distance) and 95th percentile.

    Raises
    ------
    ConfigError
        As `confusion`.

    Notes
    -----
    A shore pixel is observed water with observed land on one of its four sides: where the image ends or was not
    observed, the lake goes on as far as is known. Both masks may be any number of pieces.

    Examples
    --------
    >>> truth = np.zeros((1, 9, 9), np.bool_)
    >>> truth[0, 2:7, 2:7] = True
    >>> boundary_distance(truth, np.roll(truth, 1, axis=1), 20.0).mean.round(2)
    array([10.])
    """
    seen = _observed(truth, predicted, observed)
    spacings = np.broadcast_to(np.asarray(spacing, np.float64), len(truth))
    both = [
        _distances(_shore(one, where), _shore(other, where)) * metres
        for one, other, where, metres in zip(truth, predicted, seen, spacings, strict=True)
    ]
    mean = np.array([values.mean() if values.size else np.nan for values in both])
    return BoundaryDistance(mean, np.array([np.percentile(values, 95) if values.size else np.nan for values in both]))


def calibration_error(
    truth: Booleans, probability: npt.NDArray[np.floating[Any]], bins: int = 15, observed: Booleans | None = None
) -> Calibration:
    """Expected calibration error: mean distance of probability from frequency over bins, weighted by their pixels.

    Parameters
    ----------
    truth
        bool (image, y, x).
    probability
        Floating-point, 0 to 1, the same shape.
    bins
        Of equal width; a value on an edge belongs to the bin above.
    observed
        As in `confusion`.

    Returns
    -------
    Calibration
        `error` is NaN when no pixel is observed.

    Raises
    ------
    ConfigError
        As `confusion`; when a probability is not one.

    Notes
    -----
    Naeini et al. 2015 and Guo et al. 2017, for the probability of water rather than that of the winning class. Most
    pixels are plainly land and weigh the error down: look at the table.

    Examples
    --------
    >>> truth = np.array([[[True, False, False, False]]])
    >>> calibration_error(truth, np.full((1, 1, 4), 0.75)).error
    0.5
    """
    return calibration_of(reliability_counts(truth, probability, bins, observed))


def reliability_counts(
    truth: Booleans, probability: npt.NDArray[np.floating[Any]], bins: int = 15, observed: Booleans | None = None
) -> Floats:
    """Pixels, sum of probabilities and water pixels of each bin: float64 (3, bins), to be added over images."""
    seen = _observed(truth, probability, observed)
    values = probability[seen].astype(np.float64)
    if values.size and (values.min() < 0 or values.max() > 1):
        msg = f"probabilities reach from {values.min():g} to {values.max():g}; give them between 0 and 1"
        raise ConfigError(msg)
    place = np.minimum((values * bins).astype(np.int64), bins - 1)
    return np.stack([np.bincount(place, weights, bins) for weights in (np.ones_like(values), values, truth[seen])])


def calibration_of(counts: Floats) -> Calibration:
    """As `calibration_error`, from `reliability_counts`."""
    number, probabilities, water = counts
    edges = np.linspace(0, 1, number.size + 1)
    with np.errstate(invalid="ignore"):
        probability, frequency = probabilities / number, water / number
    total = number.sum()
    error = float(np.abs(probabilities - water).sum() / total) if total else np.nan
    return Calibration(error, edges[:-1], edges[1:], number.astype(np.int64), probability, frequency)


def _bias_rmse(error: Floats) -> tuple[float, float]:
    return (float(error.mean()), float(np.sqrt((error**2).mean()))) if error.size else (np.nan, np.nan)


def _ratios(tn: Any, fp: Any, fn: Any, tp: Any) -> dict[str, Floats]:
    over = {
        "iou": (tp, tp + fp + fn),
        "precision": (tp, tp + fp),
        "recall": (tp, tp + fn),
        "f1": (2 * tp, 2 * tp + fp + fn),
        "accuracy": (tp + tn, tp + tn + fp + fn),
    }
    with np.errstate(invalid="ignore"):  # 0/0 is NaN, and nothing else can be divided by 0 here
        return {name: np.true_divide(*over[name]) for name in SCORES}


def _observed(truth: npt.NDArray[Any], predicted: npt.NDArray[Any], observed: Booleans | None) -> Booleans:
    """Where pixels count; refuses arrays that aren't as the functions here take them."""
    kinds = (truth.dtype == np.bool_, predicted.dtype == np.bool_ or np.issubdtype(predicted.dtype, np.floating))
    if truth.ndim != 3 or truth.shape != predicted.shape or not all(kinds):
        msg = (
            f"truth is {truth.dtype} {truth.shape} and the prediction {predicted.dtype} {predicted.shape}; give both "
            "as (image, y, x) of one shape, the truth as bool and the prediction as bool or floating-point probability"
        )
        raise ConfigError(msg)
    known = np.ones(truth.shape, np.bool_) if predicted.dtype == np.bool_ else ~np.isnan(predicted)
    if observed is None:
        return known
    if observed.dtype != np.bool_ or observed.shape != truth.shape:
        msg = f"observed is {observed.dtype} {observed.shape}; give bool {truth.shape}, as the truth"
        raise ConfigError(msg)
    if unknown := int(np.count_nonzero(observed & ~known)):
        msg = f"{unknown} observed pixels have the probability NaN; leave them out of observed, or give them a number"
        raise ConfigError(msg)
    return observed


def _shore(water: Booleans, seen: Booleans) -> Booleans:
    """Observed water with observed land on one of its sides."""
    land = np.pad(seen & ~water, 1)
    beside = land[:-2, 1:-1] | land[2:, 1:-1] | land[1:-1, :-2] | land[1:-1, 2:]
    return water & seen & beside


def _distances(one: Booleans, other: Booleans) -> Floats:
    """From each pixel of either to the nearest of the other, in pixels; none when one of them is empty."""
    from scipy import ndimage

    if not one.any() or not other.any():
        return np.empty(0)
    rows, columns = np.nonzero(one | other)
    window = slice(rows.min(), rows.max() + 1), slice(columns.min(), columns.max() + 1)  # nothing counts outside
    one, other = one[window], other[window]
    to_other, to_one = (np.asarray(ndimage.distance_transform_edt(~mask)) for mask in (other, one))
    return np.concatenate([to_other[one], to_one[other]])
