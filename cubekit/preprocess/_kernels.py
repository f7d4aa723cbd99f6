"""Compiled loops over moving windows (numba). Imported only when one of them is called: numba is slow to load.

Every window is summed afresh, in float64 and in two passes (mean, then squared distances from it). Running sums along
a row would be quicker, but would carry the rounding error of a bright scatterer over to all water behind it, and make
the result depend on where a block starts. The loops run along a row in the innermost place, where they vectorise
without changing the order in which a window is summed.
"""

from __future__ import annotations

import math

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
Doubles = NDArray[np.float64]


@numba.njit(nogil=True, cache=True)
def _padded(image: Floats, halo: int) -> tuple[Doubles, Doubles]:
    """Values with 0 for no data, and 1 where there is data; both with a border of zeros."""
    rows, columns = image.shape
    values = np.zeros((rows + 2 * halo, columns + 2 * halo))
    valid = np.zeros_like(values)
    for row in range(rows):
        for column in range(columns):
            if math.isfinite(image[row, column]):
                values[row + halo, column + halo] = image[row, column]
                valid[row + halo, column + halo] = 1.0
    return values, valid


@numba.njit(nogil=True, cache=True)
def _row_moments(values: Doubles, valid: Doubles, row: int, halo: int, moments: Doubles) -> None:
    """Write count, mean and variance of the valid pixels in the windows along a row into `moments` (3, columns)."""
    count, mean, variance = moments[0], moments[1], moments[2]
    columns, side = count.size, 2 * halo + 1
    moments[:] = 0.0
    for r in range(row, row + side):
        for shift in range(side):
            for column in range(columns):
                count[column] += valid[r, column + shift]
                mean[column] += values[r, column + shift]
    for column in range(columns):
        mean[column] /= max(count[column], 1.0)
    for r in range(row, row + side):
        for shift in range(side):
            for column in range(columns):
                distance = values[r, column + shift] - mean[column]
                variance[column] += valid[r, column + shift] * distance * distance
    for column in range(columns):
        variance[column] /= max(count[column], 1.0)


@numba.njit(nogil=True, cache=True)
def lee(stack: Floats, halo: int, looks: float, damping: float) -> NDArray[np.float32]:  # noqa: ARG001
    """Lee 1980 on every image of a stack (images, rows, columns); `damping` has no meaning here."""
    out = np.full(stack.shape, np.nan, np.float32)
    moments = np.empty((3, stack.shape[2]))
    speckle = 1.0 / looks  # squared coefficient of variation of the noise
    for k in range(stack.shape[0]):
        values, valid = _padded(stack[k], halo)
        for row in range(stack.shape[1]):
            _row_moments(values, valid, row, halo, moments)
            for column in range(stack.shape[2]):
                if valid[row + halo, column + halo] == 0.0:
                    continue
                mean, variance = moments[1, column], moments[2, column]
                noise = mean * mean * speckle
                signal = max(0.0, (variance - noise) / (1.0 + speckle))
                # No signal: also where mean and variance are 0, and the weight would be 0 / 0
                weight = signal / (signal + noise) if signal > 0.0 else 0.0
                out[k, row, column] = mean + weight * (values[row + halo, column + halo] - mean)
    return out


@numba.njit(nogil=True, cache=True)
def enhanced_lee(stack: Floats, halo: int, looks: float, damping: float) -> NDArray[np.float32]:
    """Enhanced Lee (Lopes 1990) on every image of a stack (images, rows, columns)."""
    out = np.full(stack.shape, np.nan, np.float32)
    moments = np.empty((3, stack.shape[2]))
    low, high = math.sqrt(1.0 / looks), math.sqrt(1.0 + 2.0 / looks)
    for k in range(stack.shape[0]):
        values, valid = _padded(stack[k], halo)
        for row in range(stack.shape[1]):
            _row_moments(values, valid, row, halo, moments)
            for column in range(stack.shape[2]):
                if valid[row + halo, column + halo] == 0.0:
                    continue
                value, mean = values[row + halo, column + halo], moments[1, column]
                # Compared without dividing: a mean of 0 needs no case of its own
                spread, level = math.sqrt(moments[2, column]), abs(mean)
                if spread <= low * level:
                    out[k, row, column] = mean
                elif spread >= high * level:
                    out[k, row, column] = value
                else:
                    variation = spread / level
                    weight = math.exp(-damping * (variation - low) / (high - variation))
                    out[k, row, column] = mean * weight + value * (1.0 - weight)
    return out


@numba.njit(nogil=True, cache=True)
def squared_variation(image: Floats, inside: NDArray[np.bool_], halo: int) -> Doubles:
    """Variance over squared mean of every window that is finite and inside throughout, in a flat array."""
    out = np.empty(image.size)
    found = 0
    values, valid = _padded(np.where(inside, image, np.nan), halo)
    moments = np.empty((3, image.shape[1]))
    full = (2 * halo + 1) ** 2
    for row in range(image.shape[0]):
        _row_moments(values, valid, row, halo, moments)
        for column in range(image.shape[1]):
            count, mean = moments[0, column], moments[1, column]
            if count == full and mean > 0.0:
                out[found] = moments[2, column] / (mean * mean)
                found += 1
    return out[:found]
