"""What a lake's area is expected to be: level, growth, season and tracks, learned pass by pass from the past only."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

SHARED = 6
"""Numbers that all tracks share: level, growth a year, two harmonics of the year. Offsets of tracks follow."""

LEVEL_SPREAD = 1.0
GROWTH_SPREAD = 0.05
SEASON_SPREAD = 0.04, 0.02
OFFSET_SPREAD = 0.2
"""Standard deviations before anything was seen, in ln(area): of the level, growth a year, the cosines and sines of the
year and of the half year, and the offset of a further track (which may hide a fifth of the lake)."""

LEVEL_DRIFT, GROWTH_DRIFT, SEASON_DRIFT, OFFSET_DRIFT = 0.007, 0.01, 0.003, 0.003
"""How far these wander in a year, standard deviations. The level forgets in a year or so: a month's growth stays an
anomaly, a decade's does not become one."""

FIRST_NOISE, FIRST_WEIGHT, LONGEST_MEMORY = 0.03, 5, 100
"""Noise of a track taken to be before it is seen, for how many passes that counts, and passes that are remembered."""

LEAST_NOISE = 0.003
"""No series is quieter than this: the rounding to whole pixels alone makes that of a small lake."""

OWN_SHARE = 0.25
"""Part of an area's interval that is the pass's own; the rest is common to the passes of a track, and no noise."""

CLIP = 2.5
"""A pass moves the reference no further than one at so many standard deviations (Huber 1964)."""

_CLIPPED_MEAN = 0.97756
"""Mean of min(z**2, CLIP**2) for normal z, so that the noise is estimated without bias."""


@dataclass
class Track:
    """What is known of one track."""

    variance: float = FIRST_NOISE**2
    """Of a pass about the reference."""

    passes: int = 0
    observed: float = 0.0
    """The largest observed fraction up to now."""

    width: float = 0.0
    """Mean distance from area_low to area_km2, relative."""

    unknown: float = 0.0
    """Mean of what area_high holds for what was not seen, relative."""


@dataclass
class Pass:
    """One usable pass, as the reference takes it."""

    moment: float
    """Years since 2000."""

    track: str
    value: float
    """ln(area in km2)."""

    variance: float
    """Of its own noise."""


@dataclass
class Reference:
    """A Kalman filter of ln(area): a level that grows, an annual and a semi-annual wave, and one offset a track."""

    moment: float
    mean: NDArray[np.float64]
    covariance: NDArray[np.float64]
    tracks: dict[str, Track] = field(default_factory=dict)

    @classmethod
    def begin(cls, moment: float, value: float) -> Reference:
        """Begin at a first value, knowing nothing else."""
        mean = np.zeros(SHARED)
        mean[0] = value
        annual, semi = SEASON_SPREAD
        spread = np.array([LEVEL_SPREAD, GROWTH_SPREAD, annual, annual, semi, semi])
        return cls(moment, mean, np.diag(spread**2))

    @classmethod
    def load(cls, stored: dict[str, Any]) -> Reference:
        """Read what `dump` gave."""
        tracks = {name: Track(**one) for name, one in stored["tracks"].items()}
        return cls(float(stored["moment"]), np.array(stored["mean"]), np.array(stored["covariance"]), tracks)

    def dump(self) -> dict[str, Any]:
        """Give all of it as what JSON can hold, exactly."""
        tracks = {name: dict(vars(one)) for name, one in self.tracks.items()}
        mean, covariance = self.mean.tolist(), self.covariance.tolist()
        return {"moment": self.moment, "mean": mean, "covariance": covariance, "tracks": tracks}

    def track(self, name: str) -> Track:
        """Find a track, or take it up with an offset that is not known yet."""
        if name not in self.tracks:
            if self.tracks:  # the first one is what the level is of
                size = self.mean.size
                wider = np.zeros((size + 1, size + 1))
                wider[:size, :size] = self.covariance
                wider[size, size] = OFFSET_SPREAD**2
                self.mean, self.covariance = np.append(self.mean, 0.0), wider
            self.tracks[name] = Track()
        return self.tracks[name]

    def forward(self, moment: float) -> None:
        """Go on to a later moment: the level grows, everything becomes a little less certain."""
        step = moment - self.moment
        self.moment = moment
        self.mean[0] += self.mean[1] * step
        covariance = self.covariance
        covariance[0] += covariance[1] * step
        covariance[:, 0] += covariance[:, 1] * step
        index = np.diag_indices(self.mean.size)
        drift = np.full(self.mean.size, OFFSET_DRIFT**2)
        drift[:SHARED] = (LEVEL_DRIFT**2, GROWTH_DRIFT**2, *(SEASON_DRIFT**2,) * 4)
        covariance[index] += drift * step

    def design(self, moment: float, track: str) -> NDArray[np.float64]:
        """Tell how the numbers make up a pass of a track at a moment."""
        angle = 2 * math.pi * moment
        row = np.zeros(self.mean.size)
        row[:SHARED] = (
            *(1.0, moment - self.moment),
            *(math.cos(angle), math.sin(angle), math.cos(2 * angle), math.sin(2 * angle)),
        )
        place = list(self.tracks).index(track)
        if place:
            row[SHARED + place - 1] = 1.0
        return row

    def expected(self, moment: float, track: str) -> tuple[float, float]:
        """Tell ln(area) and its variance, without a pass's own noise."""
        row = self.design(moment, track)
        return float(row @ self.mean), float(row @ self.covariance @ row)

    def absorb(self, one: Pass, *, trusted: bool = False) -> None:
        """Learn from a pass, clipped unless it is trusted, and from how far off it was the noise of its track."""
        row = self.design(one.moment, one.track)
        toward = self.covariance @ row
        total = float(row @ toward) + one.variance
        residual = one.value - float(row @ self.mean)
        record = self.tracks[one.track]
        if not trusted:
            # While the reference itself is uncertain, a residual says little of the noise.
            gain = (one.variance / total) ** 2 / (FIRST_WEIGHT + min(record.passes, LONGEST_MEMORY))
            ratio = min(residual**2 / total, CLIP**2) / _CLIPPED_MEAN
            record.variance = max(record.variance * (1 + gain * (ratio - 1)), LEAST_NOISE**2)
            record.passes += 1
            residual = math.copysign(min(abs(residual), CLIP * math.sqrt(total)), residual)
        self.mean = self.mean + toward * (residual / total)
        covariance = self.covariance - np.outer(toward, toward) / total
        self.covariance = (covariance + covariance.T) / 2

    def shift(self, change: float) -> None:
        """Let the level be anywhere within about a change: what comes next says where it is now."""
        self.covariance[0, 0] += change**2


def own_noise(record: Track, width: float) -> float:
    """Variance of one pass: what its track's passes had, more where its interval is wider than usual.

    Parameters
    ----------
    record
        Of the pass's track.
    width
        Distance from area_low to area_km2, or to area_high for what is too small, relative; 0 when not known.
    """
    wider = max(width / record.width, 1.0) if record.width > 0 else 1.0
    return max(record.variance * wider**2, (OWN_SHARE * width / 1.96) ** 2, LEAST_NOISE**2)
