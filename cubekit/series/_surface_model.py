"""A hidden Markov model of a lake's surface in continuous time. Plain numpy, one lake at a time.

Notes
-----
The lake has one cover (open water, ice, or melting ice) that its tracks see in turn. What a pass shows of it is
relative to what its own track shows of open water, which is learned from the lake's own passes: the level in VV and in
VH, the spread, and the pattern on the lake (layover brightens the foot of a cliff at every pass). No date enters but as
the time between passes. Spreads and shifts below are those of simulated lakes and of HyP3's crops (see
`cubekit.sources._surfaces` for what these rest on), wide enough for both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

COVERS = ("open", "new_ice", "ice", "melt")

ROUGH_DB = 3.0
"""Above its usual level in VV, open water counts as rough: twice the power."""

_PER_DAY = np.array(
    [
        [0, 1 / 200, 1 / 20000, 1 / 2000],
        [1 / 300, 0, 1 / 35, 1 / 300],
        [1 / 1000, 0, 0, 1 / 100],
        [1 / 14, 0, 1 / 60, 0],
    ]
)
"""Rates from cover (row) to cover: open water for 200 days, new ice for 28, thicker for 90, melt for 11, on average.

New and melting ice look alike; what tells them apart is that one comes before the thicker ice and one after it.
"""

_LONGEST = 45  # days between passes whose patterns are compared: ice grows and cracks

# Of VV over the track's open water, dB: mean and standard deviation. Open water is a mixture, of wind and rough water
_VV = {"open": (0.0, 1.7), "rough": (5.0, 2.2), "new_ice": (1.0, 2.5), "ice": (4.2, 2.8), "melt": (2.0, 2.2)}
_VH = {"open": (0.0, 0.8), "rough": (1.5, 1.0), "new_ice": (3.5, 2.0), "ice": (7.0, 3.0), "melt": (3.0, 2.0)}
# Log of the interquartile range
_SPREAD = {"open": (0.0, 0.25), "rough": (0.0, 0.25), "new_ice": (0.05, 0.3), "ice": (0.05, 0.3), "melt": (0.3, 0.5)}
_GALES = 0.1  # share of rough passes
# Correlation with the pattern of the pass before or after
_ALIKE = {"open": 0.0, "ice": 0.55, "melt": 0.25}
_ALIKE_SPREAD = {"open": 0.13, "ice": 0.2, "melt": 0.25}
_LEAST_ALIKE = 0.35
_ALIKE_PULL = 4  # passes that what is learned of it is drawn to this by
_FIRST = 0.15  # share of ice whose neighbour is of another cover or winter
_OUTLIER = 0.02
_TEMPER = 0.7  # exponent of likelihoods: passes of one winter are alike beyond their cover

_NEVER_WATER = -9.0  # dB; a cell above it at more than half of a track's passes is in layover

_PRIOR_VV, _PRIOR_VH, _PRIOR_SPREAD = (-19.5, 2.0), (-29.0, 3.0), (0.5, 0.4)
_PRIOR_PATTERN = 1.0  # dB, root mean square
_NO_WINTER = 300  # days; no ice lies that long
_CLEARLY = 8.0  # logarithm of how much likelier the passes are
_ROUNDS = 8
_PULL = 1.0  # passes that the pattern of open water is drawn to none by


@dataclass(frozen=True)
class Surface:
    """What the passes of one lake show of it, sorted by time.

    Attributes
    ----------
    days
        float64, days since any moment.
    track
        Integers from 0.
    cells
        VV of cells well inside the lake, dB (pass, cell), NaN where not observed.
    vh
        Median of the cells in VH, dB, NaN where there is none.
    """

    days: Floats
    track: NDArray[np.int64]
    cells: Floats
    vh: Floats

    def until(self, count: int) -> Surface:
        """The first passes."""
        return Surface(self.days[:count], self.track[:count], self.cells[:count], self.vh[:count])


class Water(NamedTuple):
    """What calm open water looks like, by track; and how well ice keeps its pattern."""

    vv: Floats  # dB, as is VH
    vh: Floats
    spread: Floats  # log of the interquartile range
    pattern: Floats  # (track, cell), dB beside the median
    noise: Floats  # standard deviation of the correlation of two passes
    ice: Floats  # mean correlation of two passes of ice


@dataclass(frozen=True)
class _Measured:
    vv: Floats
    vh: Floats
    spread: Floats
    centred: Floats  # (pass, cell)


def smoothed(surface: Surface) -> tuple[Floats, Floats]:
    """Probability of each cover (pass, cover) and VV over the track's open water, dB, from all passes."""
    measured = _measure(surface, _in_sight(surface))
    water = _learned(surface, measured)
    likelihood = np.exp(_likelihoods(surface, measured, water, ahead=True))
    return _forward_backward(surface.days, likelihood), measured.vv - water.vv[surface.track]


def filtered(surface: Surface) -> tuple[Floats, Floats]:
    """As `smoothed`, but every pass is judged from itself and those before it.

    What open water looks like is learned anew whenever there are a tenth more passes; so a pass added at the end
    changes nothing before it.
    """
    count = len(surface.days)
    chances, over = np.empty((count, len(COVERS))), np.empty(count)
    begin = 0
    while begin < count:
        # What is learned from the passes up to the first of a batch serves all of the batch
        end = min(count, begin + 1 + begin // 10)
        known, part = surface.until(begin + 1), surface.until(end)
        sight = _in_sight(known, tracks=int(part.track.max()) + 1)
        seen, shown = _measure(known, sight), _measure(part, sight)
        water = _learned(known, seen, tracks=len(sight))
        likelihood = np.exp(_likelihoods(part, shown, water, ahead=False))
        chances[begin:end] = _forward(part.days, likelihood)[0][begin:]
        over[begin:end] = (shown.vv - water.vv[part.track])[begin:]
        begin = end
    return chances, over


def _in_sight(surface: Surface, tracks: int | None = None) -> NDArray[np.bool_]:
    """Cells (track, cell) that a track sees dark at half of its passes; those in the layover of a cliff seldom are.

    A track that no pass is of yet sees all.
    """
    count = int(surface.track.max()) + 1 if tracks is None else tracks
    sight = np.ones((count, surface.cells.shape[1]), bool)
    for track in np.unique(surface.track):
        own = surface.cells[surface.track == track]
        ordered = np.sort(own, axis=0)  # NaN last
        place = (np.maximum(np.isfinite(own).sum(axis=0), 1) - 1) // 2
        sight[track] = np.take_along_axis(ordered, place[None], axis=0)[0] <= _NEVER_WATER
    return sight


def _measure(surface: Surface, sight: NDArray[np.bool_]) -> _Measured:
    """Median and log of the interquartile range of the cells of every pass; what the cells are beside the median."""
    cells = np.where(sight[surface.track], surface.cells, np.nan)
    known = np.isfinite(cells).sum(axis=1) >= max(4, 0.3 * cells.shape[1])
    quarters = np.full((len(cells), 3), np.nan)
    if known.any():
        quarters[known] = np.nanpercentile(cells[known], [25, 50, 75], axis=1).T
    vv = quarters[:, 1]
    spread = np.log(np.maximum(quarters[:, 2] - quarters[:, 0], 0.1))
    centred = np.clip(cells - vv[:, None], -8, 8)
    return _Measured(vv, np.where(known, surface.vh, np.nan), spread, centred)


def _learned(surface: Surface, measured: _Measured, tracks: int | None = None) -> Water:
    """What open water looks like, from the first guess that explains the passes best.

    The first takes for water the dark half of each track as far as water is usually that dark: a record that begins in
    winter would else take its ice for water. Of a track that sees its water brighter, it knows none, and finds that all
    its passes are alike, as only ice is. So once a record is longer than a winter, the dark halves are tried as they
    are; they must explain the passes clearly better.
    """
    count = int(surface.track.max()) + 1 if tracks is None else tracks
    bounds = [sum(_PRIOR_VV)]
    if surface.days[-1] - surface.days[0] >= _NO_WINTER:
        bounds.append(np.inf)
    usual, *others = (_fit(surface, measured, _start(surface, measured, bound), _ROUNDS, count) for bound in bounds)
    for other in others:
        if _evidence(surface, measured, other) > _evidence(surface, measured, usual) + _CLEARLY:
            return other
    return usual


def _evidence(surface: Surface, measured: _Measured, water: Water) -> float:
    """Log of how likely the passes are with such open water, and that water itself."""
    log = _likelihoods(surface, measured, water, ahead=True)
    total = _forward(surface.days, np.exp(log - log.max(axis=1, keepdims=True)))[2] + log.max(axis=1).sum()
    for value, (usual, spread) in (
        (water.vv, _PRIOR_VV),
        (water.vh, _PRIOR_VH),
        (water.spread, _PRIOR_SPREAD),
        (np.sqrt((water.pattern**2).mean(axis=1)), (0.0, _PRIOR_PATTERN)),
    ):
        total -= 0.5 * (((value - usual) / spread) ** 2).sum()
    return float(total)


def _start(surface: Surface, measured: _Measured, bound: float) -> Floats:
    """First guess of how likely a pass is of open water: the dark half of its track, as far as below a bound (dB)."""
    guess = np.zeros(len(surface.days))
    for track in np.unique(surface.track):
        members = np.flatnonzero((surface.track == track) & np.isfinite(measured.vv))
        if members.size:
            vv = measured.vv[members]
            dark = (vv <= np.median(vv)) & (vv < bound)
            guess[members] = np.where(dark, 0.9, 0.0)
    return guess


def _fit(surface: Surface, measured: _Measured, guess: Floats, rounds: int, tracks: int) -> Water:
    """Expectation and maximisation: what open water looks like, and which passes are of it."""
    water = _open_water(surface, measured, guess, np.zeros_like(guess), tracks)
    for _ in range(rounds):
        chance = _forward_backward(surface.days, np.exp(_likelihoods(surface, measured, water, ahead=True)))
        calm = chance[:, 0] * _calm(measured.vv - water.vv[surface.track])
        water = _open_water(surface, measured, calm, chance[:, 1] + chance[:, 2], tracks)
    return water


def _calm(over: Floats) -> Floats:
    """How likely open water is not rough."""
    usual, rough = (1 - _GALES) * _normal(over, *_VV["open"]), _GALES * _normal(over, *_VV["rough"])
    return np.where(np.isfinite(over), usual / (usual + rough), 0.0)


def _open_water(surface: Surface, measured: _Measured, weight: Floats, ice: Floats, tracks: int) -> Water:
    """Means of what is likely calm open water, drawn to what it is elsewhere where little of it was seen.

    `weight` and `ice` are how likely each pass is of calm open water and of ice.
    """
    levels = []
    for values, (usual, spread), noise in (
        (measured.vv, _PRIOR_VV, _VV["open"][1]),
        (measured.vh, _PRIOR_VH, _VH["open"][1]),
        (measured.spread, _PRIOR_SPREAD, _SPREAD["open"][1]),
    ):
        own = np.where(np.isfinite(values), weight, 0.0)
        total = np.bincount(surface.track, own * np.nan_to_num(values), tracks)
        pull = (noise / spread) ** 2
        levels.append((total + pull * usual) / (np.bincount(surface.track, own, tracks) + pull))
    pattern = np.zeros((tracks, measured.centred.shape[1]))
    seen = np.isfinite(measured.centred)
    filled = np.where(seen, measured.centred, 0.0)
    for track in range(tracks):
        members = surface.track == track
        total = weight[members] @ filled[members]
        pattern[track] = total / (weight[members] @ seen[members] + _PULL)
    before, _ = _alike(surface, measured, pattern)
    both = np.where(np.isfinite(before), weight * _previous(surface, weight), 0.0)
    squares = np.bincount(surface.track, both * np.nan_to_num(before) ** 2, tracks)
    number = np.bincount(surface.track, both, tracks) + _ALIKE_PULL
    waves = np.sqrt((squares + _ALIKE_PULL * _ALIKE_SPREAD["open"] ** 2) / number)
    both = np.where(np.isfinite(before), ice * _previous(surface, ice), 0.0)
    number = np.bincount(surface.track, both, tracks) + _ALIKE_PULL
    kept = (np.bincount(surface.track, both * np.nan_to_num(before), tracks) + _ALIKE_PULL * _ALIKE["ice"]) / number
    return Water(levels[0], levels[1], levels[2], pattern, waves, np.maximum(kept, _LEAST_ALIKE))


def _previous(surface: Surface, values: Floats) -> Floats:
    """Value of the pass before of the same track, 0 for none."""
    before = np.zeros_like(values)
    for track in np.unique(surface.track):
        members = np.flatnonzero(surface.track == track)
        before[members[1:]] = values[members[:-1]]
    return before


def _likelihoods(surface: Surface, measured: _Measured, water: Water, *, ahead: bool) -> Floats:
    """Logarithm, of every pass under every cover; the pass after counts where `ahead`."""
    count = len(surface.days)
    log = np.zeros((count, len(COVERS)))
    shifts = (
        (measured.vv - water.vv[surface.track], _VV),
        (measured.vh - water.vh[surface.track], _VH),
        (measured.spread - water.spread[surface.track], _SPREAD),
    )
    # Wind moves VV and VH together, so their mixture is one of pairs
    known = [np.isfinite(shift) for shift, _ in shifts]
    for index, cover in enumerate(COVERS):
        kinds = (("open", 1 - _GALES), ("rough", _GALES)) if cover == "open" else ((cover, 1.0),)
        chance = np.zeros(count)
        for kind, share in kinds:
            term = np.full(count, share)
            for (shift, model), there in zip(shifts, known, strict=True):
                term *= np.where(there, _normal(np.nan_to_num(shift), *model[kind]), 1.0)
            chance += term
        # Any cover may for once look like none, so that no single pass decides
        floor = np.ones(count)
        for (_, model), there in zip(shifts, known, strict=True):
            floor *= np.where(there, _OUTLIER * _normal(0.0, 0.0, 6 * model["ice"][1]), 1.0)
        log[:, index] = np.log(chance + floor)
    before, after = _alike(surface, measured, water.pattern)
    alike = np.fmax(before, after) if ahead else before
    noise = water.noise[surface.track]
    # The larger of two is larger than one, by chance alone
    best = np.where(np.isfinite(before) & np.isfinite(after) & ahead, 1 / np.sqrt(np.pi), 0.0) * noise
    open_ = _normal(alike, best, noise * np.where(best > 0, 0.83, 1.0))
    ice = (1 - _FIRST) * _normal(alike, water.ice[surface.track], _ALIKE_SPREAD["ice"]) + _FIRST * open_
    melt = _normal(alike, _ALIKE["melt"], np.hypot(_ALIKE_SPREAD["melt"], noise))
    log += np.where(np.isfinite(alike)[:, None], np.log(np.stack([open_, ice, ice, melt], axis=1) + 0.02), 0.0)
    return np.asarray(log * _TEMPER)


def _alike(surface: Surface, measured: _Measured, pattern: Floats) -> tuple[Floats, Floats]:
    """Correlation of the pattern of each pass with that of its track's pass before, and after; NaN for none."""
    rest = measured.centred - pattern[surface.track]
    before, after = np.full((2, len(rest)), np.nan)
    for track in np.unique(surface.track):
        members = np.flatnonzero((surface.track == track) & np.isfinite(measured.vv))
        first, second = members[:-1], members[1:]
        near = surface.days[second] - surface.days[first] <= _LONGEST
        first, second = first[near], second[near]
        both = np.isfinite(rest[first]) & np.isfinite(rest[second])
        number = np.maximum(both.sum(axis=1), 1)
        one, other = (np.where(both, rest[part], 0.0) for part in (first, second))
        one, other = (np.where(both, part - (part.sum(axis=1) / number)[:, None], 0.0) for part in (one, other))
        scale = np.sqrt((one**2).sum(axis=1) * (other**2).sum(axis=1))
        found = np.where((number >= 12) & (scale > 0), (one * other).sum(axis=1) / np.maximum(scale, 1e-12), np.nan)
        before[second] = found
        after[first] = found
    return before, after


@lru_cache(maxsize=4096)
def _steps(hours: int) -> Floats:
    """Probability to pass from cover to cover within a time."""
    from scipy.linalg import expm

    rates = _PER_DAY - np.diag(_PER_DAY.sum(axis=1))
    return np.asarray(expm(rates * hours / 24))


def _forward(days: Floats, likelihood: Floats) -> tuple[Floats, list[Floats], float]:
    """Chances given the passes up to each, the steps between them, and the logarithm of the likelihood of all."""
    chances, total = np.empty_like(likelihood), 0.0
    steps = [_steps(round(gap * 24)) for gap in np.diff(days)]
    chance = _steps(24 * 36525)[0]  # where a century leads
    for index, here in enumerate(likelihood):
        if index:
            chance = chance @ steps[index - 1]
        chance = chance * here
        whole = float(chance.sum())
        chance /= whole
        total += math.log(whole)
        chances[index] = chance
    return chances, steps, total


def _forward_backward(days: Floats, likelihood: Floats) -> Floats:
    chances, steps, _ = _forward(days, likelihood)
    later = np.ones(likelihood.shape[1])
    for index in range(len(days) - 2, -1, -1):
        later = steps[index] @ (likelihood[index + 1] * later)
        later /= later.sum()
        chances[index] *= later
    return np.asarray(chances / chances.sum(axis=1, keepdims=True))


def _normal(value: Floats | float, mean: Floats | float, spread: Floats | float) -> Floats:
    return np.asarray(np.exp(-0.5 * ((value - mean) / spread) ** 2) / (spread * np.sqrt(2 * np.pi)))
