"""The null distribution of Mann-Kendall's S, exact for short series, ties included."""

from __future__ import annotations

import math
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

EXACT_UP_TO = 50
"""Longest series with an exact p. Beyond, the normal approximation is right to 0.002."""


@lru_cache(maxsize=4096)
def exact_p(ties: tuple[int, ...]) -> NDArray[np.float64]:
    """Two-sided p of every S, the share of orders with abs(S) >= s at s = 0, 1, ..., for values in random order.

    Parameters
    ----------
    ties
        How often each distinct value occurs, largest first; all ones when no two values are equal.

    Notes
    -----
    S = (pairs that differ) - 2 * (inversions). The inversions of the arrangements of a multiset are counted by the
    coefficients of the q-multinomial (1-q)(1-q^2)...(1-q^n) / prod over the ties t of (1-q)...(1-q^t) (MacMahon 1916);
    without ties these are the Mahonian numbers. Integers throughout, so nothing is rounded.

    Examples
    --------
    >>> exact_p((1, 1, 1)).round(4).tolist()  # 6 orders: S is 3, 1, 1, -1, -1, -3
    [1.0, 1.0, 0.3333, 0.3333]
    """
    length = sum(ties)
    largest = (length * (length - 1) - sum(size * (size - 1) for size in ties)) // 2
    counts = [1] + [0] * largest
    for power in range(1, length + 1):
        for degree in range(largest, power - 1, -1):
            counts[degree] -= counts[degree - power]
    for size in ties:
        for power in range(1, size + 1):
            for degree in range(power, largest + 1):
                counts[degree] += counts[degree - power]
    total, tail, p = sum(counts), 0, np.empty(largest + 1)
    # The distribution is symmetric: |S| = s has the counts of both ends.
    for s in range(largest, -1, -1):
        if (largest - s) % 2 == 0:
            tail += counts[(largest - s) // 2] * (1 if s == 0 else 2)
        p[s] = tail / total
    p.setflags(write=False)
    return p


def normal_p(s: int, ties: tuple[int, ...]) -> float:
    """Two-sided p by the normal approximation, with the correction for ties and for continuity."""
    deviation = math.sqrt(_variance(ties))
    return math.erfc((abs(s) - 1) / deviation / math.sqrt(2)) if s and deviation else 1.0


def p_value(s: int, ties: tuple[int, ...]) -> float:
    """Two-sided p of S: exact for a short series, the normal approximation for a long one."""
    return float(exact_p(ties)[abs(s)]) if sum(ties) <= EXACT_UP_TO else normal_p(s, ties)


def p_values(s: NDArray[np.int64], length: int) -> NDArray[np.float64]:
    """Two-sided p of many S of as many different values each: `p_value` without ties, once for every S that occurs."""
    size, place = np.unique(np.abs(s), return_inverse=True)
    return np.array([p_value(int(one), (1,) * length) for one in size])[place]


@lru_cache(maxsize=1024)
def smallest_significant(length: int, level: float) -> int | None:
    """Find the smallest S with p < `level` for `length` different values; None where there is none."""
    pairs, ties = length * (length - 1) // 2, (1,) * length
    return next((s for s in range(pairs % 2, pairs + 1, 2) if p_value(s, ties) < level), None)


def _variance(ties: tuple[int, ...]) -> float:
    length = sum(ties)
    return sum(sign * n * (n - 1) * (2 * n + 5) for sign, n in [(1, length), *((-1, size) for size in ties)]) / 18
