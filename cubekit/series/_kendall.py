"""The null distribution of Mann-Kendall's S: exact for short series, ties included, and of autocorrelated ones."""

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


def p_values(s: NDArray[np.int64], ties: tuple[int, ...], inflation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Two-sided p of many S of series with the same ties.

    Parameters
    ----------
    s
        S of each series.
    ties
        As for `exact_p`.
    inflation
        Variance of each S over that of independent values; where it is 1, p is `p_value`.

    Returns
    -------
    numpy.ndarray
        p, 0 to 1, never below that of independent values in perfect order. Elsewhere by the beta distribution of the
        range and the variance of S (Hamed 2009, J. Hydrol. 365),
        with a continuity correction: S is bounded, and a normal distribution would never find a series in perfect
        order significant when its variance is inflated.

    Examples
    --------
    >>> p_values(np.array([23, 23, 33]), (1,) * 10, np.array([1, 1.73, 1.73])).round(4).tolist()
    [0.0466, 0.1421, 0.0182]
    """
    size, place = np.unique(np.abs(s), return_inverse=True)
    independent = np.array([p_value(int(one), ties) for one in size])[place]
    if (inflation == 1).all() or not _largest(ties):
        return independent
    from scipy.special import betainc

    shape = _shape(ties, inflation)
    correlated = np.minimum(2 * betainc(shape, shape, 0.5 - (np.abs(s) - 1) / (2 * _largest(ties))), 1)
    # Values that turn to and fro say more than independent ones, but no order of so few is rarer than the rarest.
    correlated = np.maximum(correlated, p_value(_largest(ties), ties))
    return np.where(inflation == 1, independent, np.where(s == 0, 1.0, correlated))


def smallest_significant(length: int, level: float, inflation: NDArray[np.float64]) -> NDArray[np.int64]:
    """Smallest S with p < `level` of series of `length` different values; above the largest S where there is none."""
    pairs = length * (length - 1) // 2
    found = np.full(len(inflation), _smallest_of_independent(length, level))
    rows = np.flatnonzero(inflation != 1)
    if not len(rows):
        return found
    from scipy.special import betaincinv

    shape = _shape((1,) * length, inflation[rows])
    # p of S is below the level from the S on that lies above this
    bound = 1 + pairs * (1 - 2 * betaincinv(shape, shape, level / 2))
    whole = np.floor(bound).astype(np.int64) + 1
    found[rows] = whole + (whole - pairs) % 2
    return found


@lru_cache(maxsize=1024)
def _smallest_of_independent(length: int, level: float) -> int:
    pairs, ties = length * (length - 1) // 2, (1,) * length
    return next((s for s in range(pairs % 2, pairs + 1, 2) if p_value(s, ties) < level), pairs + 2)


def _shape(ties: tuple[int, ...], inflation: NDArray[np.float64]) -> NDArray[np.float64]:
    """Both parameters of the beta distribution on the range of S with its variance."""
    return np.asarray((_largest(ties) ** 2 / (_variance(ties) * inflation) - 1) / 2)


def _largest(ties: tuple[int, ...]) -> int:
    """Largest S of values with ties: pairs that differ."""
    return (sum(ties) ** 2 - sum(size**2 for size in ties)) // 2


def _variance(ties: tuple[int, ...]) -> float:
    length = sum(ties)
    return sum(sign * n * (n - 1) * (2 * n + 5) for sign, n in [(1, length), *((-1, size) for size in ties)]) / 18
