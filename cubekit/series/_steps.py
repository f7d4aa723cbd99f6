"""Steps of a series where something about its measurement changes: sizes, and tests made together."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from cubekit.series._state_space import Course


def find_steps(
    course: Course,
    rows: NDArray[np.intp],
    *,
    indicators: NDArray[np.bool_],
    levels: list[NDArray[np.intp]],
    first_step: list[int],
    fewest: int,
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Size, standard deviation and p of every step, each against the level of its covariate with most passes."""
    from scipy.special import stdtr

    size, sd, p = (np.full(len(indicators), np.nan) for _ in range(3))
    tested: list[int] = []
    basis = course.design
    for codes, first in zip(levels, first_step, strict=True):
        passes = np.bincount(codes[rows], minlength=int(codes.max()) + 1)
        for level in np.argsort(-passes)[1:]:
            column = indicators[first + level][rows].astype(np.float64)
            if passes[level] >= fewest and _apart(basis, column):
                tested.append(first + int(level))
                basis = np.column_stack([basis, column])
    if tested:
        found, covariance = course.extended(indicators[tested][:, rows].T.astype(np.float64))
        deviation = np.sqrt(np.diag(covariance))
        size[tested], sd[tested] = found, deviation
        freedom = max(1, len(rows) - basis.shape[1] - len(course.noise))
        p[tested] = _holm(2 * stdtr(freedom, -np.abs(found / deviation)))
    return size, sd, p


def _apart(basis: NDArray[np.float64], column: NDArray[np.float64]) -> bool:
    """Whether a column is more than a sum of others (to 1 % of its length)."""
    rest = column - basis @ np.linalg.lstsq(basis, column)[0]
    return bool(np.linalg.norm(rest) > 0.01 * np.linalg.norm(column))


def _holm(p: NDArray[np.float64]) -> NDArray[np.float64]:
    """P-values of tests that were made together (Holm 1979)."""
    order = np.argsort(p)
    adjusted = np.empty(len(p))
    adjusted[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return adjusted
