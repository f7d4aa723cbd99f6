"""Where a mask lies on its chip: the shift and stretch that let it explain the image best."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMOOTHING = 1.5
"""Standard deviation of the Gaussian that both image and mask are smoothed with, pixels: wide enough that a mask two or
three pixels off still overlaps its shore, and that speckle averages out."""

BAND = 10.0
"""Only pixels this near to the mask's shore are looked at: what lies beyond says nothing on where the shore is."""

STRETCH = 0.05
"""Standard deviation of a stretch before an image is looked at (5 %): a pond of ten pixels says little on stretch, and
without this its noise would pass for one. A lake a hundred pixels long overrules it."""

# A first look every 2 pixels this far, since Gauss-Newton finds a shore only within some 3 pixels.
_REACH, _STEP = 6, 2
_ITERATIONS, _SMALL = 25, 1e-3
# Neighbouring pixels of the smoothed image are not independent: one in this many is.
_CORRELATED = 4 * np.pi * SMOOTHING**2
_MARGIN = 16


@dataclass(frozen=True)
class Displacement:
    """How a mask has to move to fit its chip: by shift + stretch * offset from the chip's centre.

    Attributes
    ----------
    parameters
        Shift down, shift right (pixels), stretch along y, stretch along x (pixels per pixel).
    error
        Their standard deviations.
    rms
        Root mean square length of the movement along the mask's shore, pixels.
    rms_error
        Its standard deviation.
    gain
        The part of the variance near the shore that the mask leaves unexplained, and that goes when it is moved, 0..1.
    """

    parameters: NDArray[np.float64]
    error: NDArray[np.float64]
    rms: float
    rms_error: float
    gain: float


def displacement(image: Any, mask: Any, valid: Any) -> Displacement | None:
    """Shift and stretch of a mask, by least squares of brightness = a + b * smoothed mask.

    Parameters
    ----------
    image
        2-D, any real dtype; water is darker (or brighter) than land.
    mask, valid
        2-D bool: water as labelled; where the image means something.

    Returns
    -------
    Displacement or None
        None when there is too little shore in sight (fewer than 30 pixels) or the fit does not settle.

    Notes
    -----
    Gauss-Newton as of Lucas and Kanade (1981), for shift and two stretches, started from the best shift of a coarse
    search. Its precision on a sharp shore is some tenths of a pixel.
    """
    from scipy import ndimage

    rows, columns = np.nonzero(mask)
    if not rows.size:
        return None
    window = (
        slice(max(int(rows.min()) - _MARGIN, 0), int(rows.max()) + _MARGIN + 1),
        slice(max(int(columns.min()) - _MARGIN, 0), int(columns.max()) + _MARGIN + 1),
    )
    water, seen = mask[window], valid[window]
    soft = ndimage.gaussian_filter(water.astype(np.float64), SMOOTHING)
    weight = ndimage.gaussian_filter(seen.astype(np.float64), SMOOTHING)
    smooth = ndimage.gaussian_filter(np.where(seen, image[window], 0).astype(np.float64), SMOOTHING)
    smooth /= np.maximum(weight, 1e-6)
    distance = np.where(water, ndimage.distance_transform_edt(water), ndimage.distance_transform_edt(~water))
    near = seen & (distance <= BAND)
    y, x = (index.astype(np.float64) for index in np.nonzero(near))
    if y.size < 30 or np.ptp(soft[near]) < 0.5:
        return None
    brightness = smooth[near]
    # Offsets from the chip's centre, in pixels: the frame in which a whole set is resampled
    down = y + window[0].start - (mask.shape[0] - 1) / 2
    right = x + window[1].start - (mask.shape[1] - 1) / 2
    fitted = _fit(brightness, soft, (y, x), (down, right))
    if fitted is None:
        return None
    parameters, covariance, residual = fitted
    still = _correlation(brightness, soft[near])
    shore = distance[near] <= 1
    rms, rms_error = _length(parameters, covariance, down[shore], right[shore])
    variance = float(brightness.var()) * (1 - still**2)
    return Displacement(parameters, np.sqrt(np.diag(covariance)), rms, rms_error, max(0.0, 1 - residual / variance))


def moved(mask: Any, parameters: Any) -> NDArray[np.bool_]:
    """A mask after shift and stretch: bool, its values at the nearest pixel."""
    from scipy import ndimage

    rows, columns = np.indices(mask.shape, dtype=np.float64)
    centre = (mask.shape[0] - 1) / 2, (mask.shape[1] - 1) / 2
    # Back from where a pixel goes to where it came from
    back = [
        (index - middle - shift) / (1 + stretch) + middle
        for index, middle, shift, stretch in zip((rows, columns), centre, parameters[:2], parameters[2:], strict=True)
    ]
    shifted: NDArray[np.bool_] = ndimage.map_coordinates(mask.astype(np.float64), back, order=1) >= 0.5
    return shifted


def shore_length(mask: Any, parameters: Any) -> float:
    """Root mean square movement along a mask's shore, pixels."""
    from scipy import ndimage

    edge = mask & ~ndimage.binary_erosion(mask)
    rows, columns = np.nonzero(edge)
    centre = (mask.shape[0] - 1) / 2, (mask.shape[1] - 1) / 2
    return _length(np.asarray(parameters), np.zeros((4, 4)), rows - centre[0], columns - centre[1])[0]


def _fit(brightness: Any, soft: Any, where: Any, offset: Any) -> tuple[Any, Any, float] | None:
    from scipy import ndimage

    (y, x), (down, right) = where, offset
    slopes = np.gradient(soft)
    # Stretch about the lake's own middle while fitting: far from it, shift and stretch could hardly be told apart.
    middle = down.mean(), right.mean()
    half = max(float(np.ptp(down)), 1.0) / 2, max(float(np.ptp(right)), 1.0) / 2
    v, u = (down - middle[0]) / half[0], (right - middle[1]) / half[1]
    p = np.array([*_coarse(brightness, soft, y, x), 0.0, 0.0])
    settled = False
    for _ in range(_ITERATIONS):
        at = [y - p[0] - p[2] * v, x - p[1] - p[3] * u]
        model, by_row, by_column = (ndimage.map_coordinates(part, at, order=1) for part in (soft, *slopes))
        design = np.stack([np.ones_like(model), model], axis=1)
        linear = np.linalg.lstsq(design, brightness)[0]
        jacobian = np.column_stack([design, *(-linear[1] * part for part in (by_row, by_column))])
        jacobian = np.column_stack([jacobian, jacobian[:, 2] * v, jacobian[:, 3] * u])
        residual = brightness - design @ linear
        normal = jacobian.T @ jacobian
        normal += 1e-6 * np.diag(np.diag(normal)) + 1e-9 * np.eye(6)
        pull = jacobian.T @ residual
        prior = residual.var() * _CORRELATED / (STRETCH * np.array(half)) ** 2
        normal[[4, 5], [4, 5]] += prior
        pull[4:] -= prior * p[2:]
        step = np.clip(np.linalg.solve(normal, pull)[2:], -1, 1)
        p = p + step
        if settled := bool(np.abs(step).max() < _SMALL):
            break
    far = bool(np.abs(p[:2]).max() > 2 * _REACH or np.abs(p[2:]).max() > 2 * _REACH)
    if far or not (settled or np.abs(step).max() < 0.1):
        return None
    covariance = np.linalg.inv(normal)[2:, 2:] * residual.var() * _CORRELATED
    # From the lake's middle and half its extent to the chip's centre and pixels
    to_chip = np.array(
        [
            [1, 0, -middle[0] / half[0], 0],
            [0, 1, 0, -middle[1] / half[1]],
            [0, 0, 1 / half[0], 0],
            [0, 0, 0, 1 / half[1]],
        ]
    )
    return to_chip @ p, to_chip @ covariance @ to_chip.T, float(residual.var())


def _coarse(brightness: Any, soft: Any, y: Any, x: Any) -> tuple[float, float]:
    from scipy import ndimage

    steps = range(-_REACH, _REACH + 1, _STEP)
    shifts = [(float(down), float(right)) for down in steps for right in steps]
    # Neighbours say nearly the same
    brightness, y, x = brightness[::3], y[::3], x[::3]
    scores = [
        abs(_correlation(brightness, ndimage.map_coordinates(soft, [y - down, x - right], order=1)))
        for down, right in shifts
    ]
    return shifts[int(np.argmax(scores))]


def _correlation(one: Any, other: Any) -> float:
    spread = one.std() * other.std()
    return float(((one - one.mean()) * (other - other.mean())).mean() / spread) if spread > 0 else 0.0


def _length(parameters: Any, covariance: Any, down: Any, right: Any) -> tuple[float, float]:
    """Root mean square movement over offsets, and its standard deviation to first order."""
    zero, one = np.zeros_like(down, dtype=np.float64), np.ones_like(down, dtype=np.float64)
    by_row, by_column = np.stack([one, zero, down, zero], axis=1), np.stack([zero, one, zero, right], axis=1)
    moment = (by_row.T @ by_row + by_column.T @ by_column) / max(down.size, 1)
    rms = float(np.sqrt(parameters @ moment @ parameters))
    slope = moment @ parameters / max(rms, 1e-9)
    return rms, float(np.sqrt(max(slope @ covariance @ slope, 0.0)))
