"""A smooth course under several series that are offset from each other: variances by restricted likelihood."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

CLIP = 3.0
"""Residuals beyond this many standard deviations count less, with the square of what is too much (Huber)."""

# Variances per year of level and slope, in those of a pass's noise. The lower ends keep a course from being taken for a
# line when a short or noisy series can't show that it is none: intervals would then be too narrow.
_LEVEL, _SLOPE = (1e-2, 1e3), (1e-3, 1e3)
_NOISE = (1e-3, 1e3)
_DRIFT = (1e-8, 1e2)
_OFFSET = (1e-8, 1e6)
_LIKE_THE_OTHERS = 1.0  # standard deviation of log noise among groups: what a group of few passes has by default


@dataclass(frozen=True)
class Course:
    """A fitted course.

    Attributes
    ----------
    coefficients, covariance
        Of the columns of the design, by generalised least squares.
    noise
        Standard deviation of a pass, by group.
    weights
        Of the values, 0 to 1: below 1 where one lies far off.
    level, slope
        Variances per year, and per year cubed, of the random walks of level and slope.
    drift
        Of each group, per year, relative to the reference.
    offset, offset_sd
        Of each group from the reference, and the standard deviation of what is left unknown of it; 0 where offsets are
        in the design.
    """

    t: Floats
    design: Floats
    coefficients: Floats
    covariance: Floats
    noise: Floats
    weights: Floats
    level: float
    slope: float
    drift: Floats
    offset: Floats
    offset_sd: Floats
    _inverse: Floats
    _residual: Floats

    def at(self, t: Floats, design: Floats) -> tuple[Floats, Floats]:
        """Value and covariance of the course at other times, none before the first, with the design's columns there."""
        start = float(self.t.min())
        between = _walk(t, self.t, start, self.level, self.slope)
        gain = between @ self._inverse
        fixed = design - gain @ self.design
        value = design @ self.coefficients + gain @ self._residual
        covariance = _walk(t, t, start, self.level, self.slope) - gain @ between.T + fixed @ self.covariance @ fixed.T
        return value, (covariance + covariance.T) / 2

    def extended(self, columns: Floats) -> tuple[Floats, Floats]:
        """Coefficients of further columns, and their covariance, with all variances as they are."""
        design = np.column_stack([self.design, columns])
        information = design.T @ self._inverse @ design
        covariance: Floats = np.asarray(np.linalg.inv(information), np.float64)
        values = self.design @ self.coefficients + self._residual
        found = covariance @ (design.T @ self._inverse @ values)
        first = self.design.shape[1]
        return found[first:], covariance[first:, first:]


def fit(y: Floats, t: Floats, group: NDArray[np.intp], design: Floats, *, reference: int, near: bool = False) -> Course:
    """Fit a course to values of several groups.

    Parameters
    ----------
    y, t
        Values, and their times in years, any order.
    group
        Number of the group of each value, from 0, none left out.
    design
        Columns that are known but for their coefficient, of full rank; the first is 1 and the second `t`.
    reference
        The group that the course belongs to.
    near
        Whether the levels of the other groups are expected to be that of the reference: normal around it, with a
        variance of their own. Otherwise their offsets belong into the design.

    Notes
    -----
    y = design @ coefficients + course(t) + noise. The course is a random walk of the level plus one of the slope (a
    local linear trend, whose start is in the first two columns); the noise is independent with a variance per group.
    All groups but the reference may drift from it, each along a line of its own slope, normal around 0. All variances
    are found by restricted maximum likelihood (Patterson and Thompson 1971), with a weak prior that the noise of one
    group is like that of the others. With `near` so are the offsets of the groups, as one more effect.
    """
    from scipy.optimize import minimize

    groups = int(group.max()) + 1
    rough = y - design @ np.linalg.lstsq(design, y)[0]
    scale = 1.4826 * float(np.median(np.abs(rough - np.median(rough))))
    if scale < 1e-9 * float(np.abs(y).max()):  # most values on one line: nothing to divide by
        scale = max(float(rough.std()), 1e-9 * float(np.abs(y).max()), 1e-12)
    values, weights = y / scale, np.ones(len(y))
    start = t.min()
    away = np.where(group == reference, 0.0, t - t.mean())
    same = (group[:, None] == group) * np.multiply.outer(away, away)
    walks: tuple[Floats, ...] = (*_kernels(t - start, t - start), same)
    bounds = [tuple(np.log(limits)) for limits in (*[_NOISE] * groups, _LEVEL, _SLOPE, _DRIFT)]
    log = np.r_[np.zeros(groups), np.log([5e-2, 1e-2, 1e-3])]
    if near:
        apart = (group[:, None] == group) * np.multiply.outer(group != reference, group != reference).astype(np.float64)
        walks, bounds, log = (*walks, apart), [*bounds, tuple(np.log(_OFFSET))], np.r_[log, np.log(1e-1)]
    for _ in range(3):
        log = minimize(
            _criterion,
            log,
            (values, walks, group, design, weights),
            jac=True,
            method="L-BFGS-B",
            bounds=bounds,
            options={"ftol": 1e-6, "gtol": 0.02},
        ).x
        inverse, projected, information, _ = _solve(np.exp(log), walks, group, design, weights)
        deviations = projected @ values / np.sqrt(np.maximum(np.diag(projected), 1e-12))
        updated = weights * np.minimum(1, CLIP / np.maximum(np.abs(deviations), 1e-12)) ** 2
        updated = np.maximum(updated, 1e-4)
        if np.allclose(updated, weights, atol=0.01):
            break
        weights = updated
    inverse, projected, information, _ = _solve(np.exp(log), walks, group, design, weights)
    covariance = np.asarray(np.linalg.inv(information), np.float64)
    coefficients = covariance @ (design.T @ inverse @ values)
    variances = np.exp(log) * scale**2
    pull = projected @ values
    level, slope, drifting, *offsets = variances[groups:]
    drift = drifting / scale * np.bincount(group, away * pull, minlength=groups)
    offset, offset_sd = np.zeros(groups), np.zeros(groups)
    for one in np.flatnonzero(np.arange(groups) != reference) if near else ():
        of_group, (variance,) = group == one, offsets
        offset[one] = variance / scale * pull[of_group].sum()
        known = variance / scale**2 * projected[np.ix_(of_group, of_group)].sum()
        offset_sd[one] = np.sqrt(max(0.0, variance * (1 - known)))
    return Course(
        t=t,
        design=design,
        coefficients=coefficients * scale,
        covariance=covariance * scale**2,
        noise=np.sqrt(variances[:groups]),
        weights=weights,
        level=float(level),
        slope=float(slope),
        drift=drift,
        offset=offset,
        offset_sd=offset_sd,
        _inverse=inverse / scale**2,
        _residual=(values - design @ coefficients) * scale,
    )


def _kernels(one: Floats, other: Floats) -> tuple[Floats, Floats]:
    """Covariances of random walks of level and of slope that start at 0, of variance 1 a year."""
    least, most = np.minimum.outer(one, other), np.maximum.outer(one, other)
    return least, np.asarray(least**2 * (3 * most - least) / 6, np.float64)


def _walk(one: Floats, other: Floats, start: float, level: float, slope: float) -> Floats:
    by_level, by_slope = _kernels(one - start, other - start)
    return level * by_level + slope * by_slope


def _solve(
    variances: Floats, walks: tuple[Floats, ...], group: NDArray[np.intp], design: Floats, weights: Floats
) -> tuple[Floats, Floats, Floats, float]:
    """Inverse covariance of the values, the same with the design projected out, the design's information, log det."""
    from scipy import linalg

    noises = len(variances) - len(walks)
    covariance = np.zeros_like(walks[0])
    for variance, kernel in zip(variances[noises:], walks, strict=True):
        covariance += variance * kernel
    covariance[np.diag_indices_from(covariance)] += variances[:noises][group] / weights
    factor, _ = linalg.lapack.dpotrf(covariance, lower=1)
    determinant = 2 * float(np.log(np.diag(factor)).sum())
    inverse, _ = linalg.lapack.dpotri(factor, lower=1)
    inverse = np.tril(inverse) + np.tril(inverse, -1).T
    seen = inverse @ design
    information = design.T @ seen
    return inverse, inverse - seen @ np.linalg.solve(information, seen.T), information, determinant


def _criterion(
    log: Floats, y: Floats, walks: tuple[Floats, ...], group: NDArray[np.intp], design: Floats, weights: Floats
) -> tuple[float, Floats]:
    """Minus the restricted log likelihood, and its slopes by the logarithms of the variances."""
    variances = np.exp(log)
    _, projected, information, determinant = _solve(variances, walks, group, design, weights)
    pull = projected @ y
    value = (y @ pull + determinant + np.linalg.slogdet(information)[1]) / 2
    slopes = np.empty(len(log))
    noises = len(log) - len(walks)
    by_value = (np.diag(projected) - pull**2) / weights
    slopes[:noises] = np.bincount(group, by_value, minlength=noises) * variances[:noises] / 2
    for place, kernel in enumerate(walks, start=noises):
        slopes[place] = (np.vdot(projected, kernel) - pull @ kernel @ pull) * variances[place] / 2
    unlike = log[:noises] - log[:noises].mean()
    value += float(unlike @ unlike) / 2 / (2 * _LIKE_THE_OTHERS) ** 2
    slopes[:noises] += unlike / (2 * _LIKE_THE_OTHERS) ** 2
    return float(value), slopes


def as_years(times: NDArray[Any]) -> Floats:
    """Times in years of 365.25 days since 2000."""
    return np.asarray((times - np.datetime64("2000-01-01")) / np.timedelta64(1, "s") / (365.25 * 86400), np.float64)
