"""Compiled loops (numba). Imported only when one of them is called: numba is slow to load.

Windows. Along a row of the image, then down the columns, each window is summed afresh, in float64 and always in the
same order. Running sums would need fewer additions, but would carry the rounding error of a bright scatterer over to
all water behind it, and make the result depend on where a block starts. What is added here is 0 or, for squares,
positive: nothing cancels but the variance, whose error is 1e-15 of the squared mean, far below the noise it is
compared with. An image is worked through in strips that fit the processor's first cache, so that it is read once and
written once, and nothing of its size is held besides. The window's side is the length of a tuple: part of the type, so
that the compiler unrolls what runs over it, and the loops along a row vectorise.

Equalisation. One pass for the extremes, one for the histogram, one for the grey values; the bins are kept in the
result until it is overwritten.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from typing import Any

import numba
import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32] | NDArray[np.float64]
Doubles = NDArray[np.float64]
Counts = NDArray[np.uint16]
Window = tuple[int, ...]
"""As many numbers as the window has pixels along a side, whatever they are."""

BINS = 256

_PITCH = 256
"""Pixels of a row of a strip: a constant, so that all rows of a window are known to lie in one array."""

_STEP = 26
"""Rows of a strip between two moves of its last ones to its top."""

logger = logging.getLogger(__name__)


def _compiled(function: Callable[..., Any]) -> Any:
    """Compile on the first call, once per machine: the result is kept beside the module or in the user's cache.

    Where neither can be written (a read-only install without a home), it is compiled in each process.
    """
    try:
        return numba.njit(nogil=True, cache=True, error_model="numpy")(function)
    except RuntimeError:
        logger.info("compiled kernels can't be kept on this disk; set NUMBA_CACHE_DIR to a folder that can be written")
        return numba.njit(nogil=True, error_model="numpy")(function)


@_compiled
def _fill(array: Any, first: int, last: int) -> None:
    for i in range(first, last):
        array[i] = 0


@_compiled
def _to_top(array: Any, size: int) -> None:
    start = array.size - size
    for i in range(size):
        array[i] = array[start + i]


@_compiled
def _take(image: Floats, values: Doubles, squares: Doubles, valid: Counts) -> None:
    """Values, their squares, and 1 where there is data; 0 where there is none."""
    for i in range(image.size):
        value = np.float64(image[i])
        known = abs(value) < np.inf
        values[i] = value if known else 0.0
        squares[i] = value * value if known else 0.0
    for i in range(image.size):
        valid[i] = np.uint16(1) if abs(image[i]) < np.inf else np.uint16(0)


@_compiled
def _along(row: Any, window: Window, sums: Any) -> None:
    """Sums over the window along a row that is padded."""
    for i in range(sums.size):
        total = row[i]
        for k in range(1, len(window)):
            total += row[np.uintp(i) + np.uintp(k)]  # not negative, which spares a check that stops vectorising
        sums[i] = total


@_compiled
def _down(rows: Any, window: Window, sums: Any) -> None:
    """Sums over the window down the columns of the rows that begin here."""
    for i in range(sums.size):
        total = rows[i]
        for k in range(1, len(window)):
            total += rows[np.uintp(i) + np.uintp(k * _PITCH)]
        sums[i] = total


@_compiled
def _lee(image: Floats, count: Counts, total: Doubles, squares: Doubles, noise: float, out: Any) -> None:
    """Lee 1980. Multiplied by count² (1 + noise), so that one division is left and nothing cancels."""
    for i in range(out.size):
        value, n = np.float64(image[i]), np.float64(np.int32(count[i]))
        speckle = total[i] * total[i] * noise
        signal = n * squares[i] - total[i] * total[i] - speckle
        signal = signal if signal > 0.0 else 0.0
        speckle *= 1.0 + noise
        below = n * (signal + speckle)
        estimate = (total[i] * speckle + signal * n * value) / below
        estimate = estimate if below > 0.0 else 0.0  # mean and variance are 0
        out[i] = estimate if abs(value) < np.inf else np.nan


@_compiled
def _enhanced_lee(
    image: Floats, count: Counts, total: Doubles, squares: Doubles, looks: float, damping: float, out: Any
) -> None:
    """Lopes 1990. Spread and level are those of the window times its count."""
    low, high = math.sqrt(1.0 / looks), math.sqrt(1.0 + 2.0 / looks)
    for i in range(out.size):
        value, n = np.float64(image[i]), np.float64(np.int32(count[i]))
        if not abs(value) < np.inf:
            out[i] = np.nan
            continue
        mean = total[i] / n
        level = abs(total[i])
        spread = math.sqrt(max(n * squares[i] - total[i] * total[i], 0.0))
        # Compared without dividing: a mean of 0 needs no case of its own
        if spread <= low * level:
            out[i] = mean
        elif spread >= high * level:
            out[i] = value
        else:
            variation = spread / level
            weight = math.exp(-damping * (variation - low) / (high - variation))
            out[i] = mean * weight + value * (1.0 - weight)


@_compiled
def filtered(stack: Floats, window: Window, looks: float, damping: float) -> NDArray[np.float32]:
    """Filter every image of a stack (images, rows, columns): Lee, or enhanced Lee where `damping` isn't NaN."""
    images, height, width = stack.shape
    out = np.empty(stack.shape, np.float32)
    side = len(window)
    halo = side // 2
    kept = (side - 1) * _PITCH  # of the rows before, in each array
    size = kept + _STEP * _PITCH
    totals, squares, counts = np.zeros(size), np.zeros(size), np.zeros(size, np.uint16)  # along the rows
    row, row_squares, row_valid = np.zeros(_PITCH + side), np.zeros(_PITCH + side), np.zeros(_PITCH + side, np.uint16)
    total, square, count = np.empty(_PITCH), np.empty(_PITCH), np.empty(_PITCH, np.uint16)
    for image in range(images):
        for left in range(0, width, _PITCH):
            right = min(left + _PITCH, width)
            columns = right - left
            first, last = max(left - halo, 0), min(right + halo, width)
            begin = first - left + halo
            _fill(row, 0, row.size)
            _fill(row_squares, 0, row.size)
            _fill(row_valid, 0, row.size)
            _fill(totals, 0, kept)
            _fill(squares, 0, kept)
            _fill(counts, 0, kept)
            here = kept
            for y in range(height + halo):
                if here == size:
                    _to_top(totals, kept)
                    _to_top(squares, kept)
                    _to_top(counts, kept)
                    here = kept
                end, top = here + columns, here - kept
                if y < height:
                    _take(stack[image, y, first:last], row[begin:], row_squares[begin:], row_valid[begin:])
                    _along(row, window, totals[here:end])
                    _along(row_squares, window, squares[here:end])
                    _along(row_valid, window, counts[here:end])
                else:
                    _fill(totals, here, end)
                    _fill(squares, here, end)
                    _fill(counts, here, end)
                if y >= halo:
                    _down(totals[top:], window, total[:columns])
                    _down(squares[top:], window, square[:columns])
                    _down(counts[top:], window, count[:columns])
                    given, made = stack[image, y - halo, left:right], out[image, y - halo, left:right]
                    if math.isnan(damping):
                        _lee(given, count, total, square, 1.0 / looks, made)
                    else:
                        _enhanced_lee(given, count, total, square, looks, damping, made)
                here += _PITCH
    return out


@_compiled
def squared_variation(image: Floats, inside: NDArray[np.bool_], side: int) -> Doubles:
    """Variance over squared mean of every window that is finite and inside throughout, in a flat array.

    In two passes, for the variance of a calm window may be as small as it likes.
    """
    out = np.empty(image.size)
    found = 0
    pixels = np.float64(side * side)
    for top in range(image.shape[0] - side + 1):
        for left in range(image.shape[1] - side + 1):
            total, full = 0.0, True
            for y in range(top, top + side):
                for x in range(left, left + side):
                    full = full and inside[y, x] and math.isfinite(image[y, x])
                    total += np.float64(image[y, x])
                if not full:
                    break
            mean = total / pixels
            if not full or mean <= 0.0:
                continue
            variance = 0.0
            for y in range(top, top + side):
                for x in range(left, left + side):
                    variance += (np.float64(image[y, x]) - mean) ** 2
            out[found] = variance / pixels / (mean * mean)
            found += 1
    return out[:found]


@_compiled
def _bins(values: Any, valid: Any, low: float, step: float, bins: Any) -> None:
    """The bin of each value, 0 where it isn't valid.

    The edges are ``low + k step``, rounded twice as NumPy rounds them: a value on an edge belongs to the bin above.
    """
    inverse = 1.0 / step
    for i in range(bins.size):
        value = np.float64(values[i]) if valid[i] else low
        bin_ = np.floor((value - low) * inverse)
        bin_ = bin_ if bin_ < BINS else BINS - 1.0
        bin_ -= 1.0 if value < bin_ * step + low else 0.0
        bin_ += 1.0 if value >= (bin_ + 1.0) * step + low else 0.0
        bin_ = bin_ if bin_ < BINS else BINS - 1.0
        bins[i] = np.uint8(np.int32(bin_))


@_compiled
def equalized(stack: Floats, valid: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Equalise the histogram of the valid values of every image of a stack (images, pixels); 0 elsewhere."""
    images, size = stack.shape
    out = np.empty(stack.shape, np.uint8)
    tallies = np.empty((4, BINS), np.int64)
    grey, slope = np.empty(BINS), np.empty(BINS)
    for image in range(images):
        values, known, bins = stack[image], valid[image], out[image]
        low, high, number = np.inf, -np.inf, 0
        for i in range(size):
            value = np.float64(values[i])
            low = value if known[i] and value < low else low
            high = value if known[i] and value > high else high
            number += known[i]
        if not low < high:
            _fill(bins, 0, size)
            continue
        step = (high - low) / BINS
        _bins(values, known, low, step, bins)
        # Neighbours are often of one bin: several tallies, so that none waits for the last one
        tallies[:] = 0
        for i in range(size):
            tallies[i & 3, bins[i]] += 1
        tallies[0, 0] -= size - number
        first = tallies[0, 0] + tallies[1, 0] + tallies[2, 0] + tallies[3, 0]
        cumulated = 0
        for k in range(BINS):
            cumulated += tallies[0, k] + tallies[1, k] + tallies[2, k] + tallies[3, k]
            # The least value is in the first bin and the greatest in the last: the difference is never 0
            grey[k] = np.float64((cumulated - first) * 255) / np.float64(number - first)
        for k in range(BINS - 1):
            edge = k * step + low
            slope[k] = (grey[k + 1] - grey[k]) / ((k + 1) * step + low - edge)
        slope[BINS - 1] = 0.0
        for i in range(size):
            edge = np.float64(bins[i]) * step + low
            level = slope[bins[i]] * (np.float64(values[i]) - edge) + grey[bins[i]]
            bins[i] = np.uint8(np.int32(level)) if known[i] else np.uint8(0)
    return out
