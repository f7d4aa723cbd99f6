"""The life of an alert: from a first sign over its confirmation to its end. One lake, one pass at a time."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd

from cubekit.errors import ConfigError
from cubekit.series._alert_reference import Pass, Reference, own_noise
from cubekit.series.area import STATES

KINDS = ("first", "confirmed", "further", "closed")
"""What an event can be, in the order of an alert's life."""

OUTCOMES = ("not_confirmed", "returned", "reversed", "settled")
"""How an alert can be closed."""

TOLD = 2.5
"""A pass this many standard deviations off is told as a first sign."""

EACH, TOGETHER, APART, SURE = 1.5, 3.4, 4.25, 3.0
"""Two passes in a row confirm when each is at least 1.5 standard deviations off, both together at least 3.4, and they
agree: they are not more than 4.25 apart, or each alone is beyond 3.

Both together is (z1 + z2) / sqrt(2): 3.4 is reached by chance once in 1,500 pairs, either sign. That they must agree
keeps one wild pass (wind) from being confirmed by any neighbour that is a little off; two passes of the same lake are
4.25 = 3 sqrt(2) apart once in 370.
"""

PAIR_DAYS = 60.0
"""Passes further apart (a winter under ice) do not confirm each other."""

LEAST_CHANGE = 0.05
"""Smaller changes are no alert, however sure: a season unlike the last ones moves a lake by a few per cent."""

RETURNED = 0.5
"""An alert closes when two passes in a row are within half of its change of where the lake would be without it."""

SETTLED_DAYS = 180.0
"""An alert closes when nothing more happened for so long: the new level is then the lake's."""

YOUNG = 4
"""A growth that is gone within so many passes was none; a later fall is a drainage of its own."""

_SMALLEST = 0.01  # of the largest area ever expected; less counts as this much: the logarithm of 0
_SEEN = ("open", "unknown")
_VERSION = 1


class Observation(NamedTuple):
    """One pass as `step` takes it: a row of an areas CSV.

    Parameters
    ----------
    time
        Of the pass, UTC.
    track
        Relative orbit, or its name.
    area_km2, area_low, area_high
        Area and its bounds, km2. NaN is not known: such a pass says nothing.
    observed_fraction
        Of the lake zone, 0 to 1.
    state
        One of `STATES`. Ice, wet snow and rough water carry no alert: their areas are not trusted.
    """

    time: pd.Timestamp
    track: int | str
    area_km2: float
    area_low: float = math.nan
    area_high: float = math.nan
    observed_fraction: float = 1.0
    state: str = "unknown"


class Event(NamedTuple):
    """Something to tell.

    Parameters
    ----------
    alert
        Number of the alert within its lake, from 1. All events of an alert share it.
    kind
        ``first``: one pass is off. ``confirmed``: the next one too. ``further``: a confirmed alert goes on, by at
        least `LEAST_CHANGE` more. ``closed``: see `outcome`.
    sign
        ``growth`` or ``drop``.
    time
        Of the pass that makes the event.
    since
        Of the first pass that was off.
    track
        Of the pass.
    area_km2, expected_km2
        What was seen, and what the past made expect there, without the alert.
    change
        area / expected - 1.
    deviations
        How far off the pass is, in standard deviations of what was expected then; after a confirmation that is the new
        level.
    outcome
        Of a closed alert: ``not_confirmed`` (the next pass was not off), ``returned`` (the area came back),
        ``reversed`` (an alert of the other sign took over), ``settled`` (nothing more for `SETTLED_DAYS`); else empty.
    """

    alert: int
    kind: str
    sign: str
    time: pd.Timestamp
    since: pd.Timestamp
    track: int | str
    area_km2: float
    expected_km2: float
    change: float
    deviations: float
    outcome: str = ""


@dataclass
class _Pending:
    """A pass that is off and waits for the next one."""

    one: Pass
    time: str
    deviations: float
    change: float
    alert: int
    """0 when nothing was told of it."""

    @classmethod
    def load(cls, stored: dict[str, Any]) -> _Pending:
        return cls(**{**stored, "one": Pass(**stored["one"])})


@dataclass
class _Alert:
    """A confirmed alert that is open."""

    number: int
    sign: int
    since: str
    level: float
    growth: float
    moment: float
    change: float
    """The largest against the lake without it, ln."""

    moved: str
    """When it was last confirmed or went further."""

    passes: int = 0
    calm: int = 0


@dataclass
class Memory:
    """All that is carried from pass to pass: `step` without the way through JSON."""

    reference: Reference | None = None
    time: str = ""
    pending: _Pending | None = None
    alert: _Alert | None = None
    alerts: int = 0
    smallest: float = 0.0
    """Smaller areas count as this, km2."""

    @classmethod
    def load(cls, stored: Mapping[str, Any] | None) -> Memory:
        if stored is None:
            return cls()
        if stored.get("version") != _VERSION:
            msg = f"the alert state has the version {stored.get('version')!r}, not {_VERSION}; replay the series anew"
            raise ConfigError(msg)
        pending, alert, reference = stored["pending"], stored["alert"], stored["reference"]
        return cls(
            reference=reference and Reference.load(reference),
            time=stored["time"],
            pending=pending and _Pending.load(pending),
            alert=alert and _Alert(**alert),
            alerts=int(stored["alerts"]),
            smallest=float(stored["smallest"]),
        )

    def dump(self) -> dict[str, Any]:
        return {
            "version": _VERSION,
            "time": self.time,
            "alerts": self.alerts,
            "smallest": self.smallest,
            "reference": self.reference and self.reference.dump(),
            "pending": self.pending and {**vars(self.pending), "one": dict(vars(self.pending.one))},
            "alert": self.alert and dict(vars(self.alert)),
        }

    @property
    def moment(self) -> float:
        """Years since 2000 of the last usable pass; NaN before the first."""
        return self.reference.moment if self.reference else math.nan

    def take(self, seen: Observation, least_change: float, min_observed: float) -> list[Event]:
        time = _utc(seen.time)
        if self.time and time <= _utc(self.time):
            msg = f"a pass of {time} is not later than the last one, {self.time}; replay the series anew to put it in"
            raise ConfigError(msg)
        if seen.state not in STATES:
            msg = f"the pass of {time} has the state {seen.state!r}; allowed are {', '.join(STATES)}"
            raise ConfigError(msg)
        if seen.area_km2 < 0:
            msg = f"the pass of {time} has an area of {seen.area_km2} km2; areas are 0 or more, or NaN where not known"
            raise ConfigError(msg)
        self.time = time.isoformat()
        moment = _years(time)
        if not (seen.area_km2 >= 0 and seen.observed_fraction > 0) or seen.state not in _SEEN:
            return []
        if self.reference is None:
            if not seen.area_km2:
                return []
            self.reference = Reference.begin(moment, math.log(seen.area_km2))
        record = self.reference.track(str(seen.track))
        record.observed = max(record.observed, seen.observed_fraction)
        if seen.observed_fraction < min_observed * record.observed:
            return []
        self.reference.forward(moment)
        return list(self._judge(seen, time, least_change))

    def _judge(self, seen: Observation, time: pd.Timestamp, least_change: float) -> Iterator[Event]:
        reference = self.reference
        if reference is None:
            return
        track = str(seen.track)
        record = reference.tracks[track]
        expected, spread = reference.expected(reference.moment, track)
        usual = math.exp(expected)
        self.smallest = max(self.smallest, _SMALLEST * usual)
        width, unknown = _bounds(seen, usual)
        excess = max(unknown - record.unknown, 0.0) if record.passes else 0.0
        evidence = math.log(max(seen.area_km2, self.smallest)) - expected
        variance = own_noise(record, width)
        if evidence < 0 < excess:
            # What was not seen, beyond what the track never sees, may be water.
            evidence = min(math.log(max(seen.area_km2 + excess * usual, self.smallest)) - expected, 0.0)
            variance += excess**2
        one = Pass(reference.moment, track, expected + evidence, variance)
        weight = 1 / (record.passes + 1)
        record.width += weight * (width - record.width)
        record.unknown += weight * (unknown - record.unknown)
        deviations = evidence / math.sqrt(spread + one.variance)
        now = _Pending(one, self.time, deviations, evidence, 0)
        before, self.pending = self.pending, None
        made = _Maker(seen, time, expected, deviations)
        if before is not None and _confirm(before, now, least_change):
            yield from self._confirmed(before, now, made, least_change)
            return
        if before is not None:
            if before.alert:
                sign = 1 if before.change > 0 else -1
                yield made.event(before.alert, "closed", sign, before.time, "not_confirmed")
            reference.absorb(before.one)
        yield from self._close(one, made)
        if abs(deviations) < EACH:
            reference.absorb(one)
            return
        self.pending = now
        sign = 1 if deviations > 0 else -1
        known = self.alert is not None and self.alert.sign == sign
        if abs(deviations) >= TOLD and abs(math.expm1(evidence)) >= least_change and not known:
            now.alert = self._number()
            yield made.event(now.alert, "first", sign, self.time)

    def _confirmed(self, before: _Pending, now: _Pending, made: _Maker, least_change: float) -> Iterator[Event]:
        """Two passes agree: open an alert, or move or end the open one; then learn the new level."""
        reference, alert = self.reference, self.alert
        if reference is None:
            return
        sign = 1 if now.change > 0 else -1
        change = (before.change + now.change) / 2
        if alert is not None and alert.sign == sign:
            against = self._against(alert, now.one)
            alert.passes, alert.calm = 0, 0
            if sign * against >= sign * alert.change + math.log1p(least_change):
                alert.change, alert.moved = against, self.time
                yield made.event(alert.number, "further", sign, alert.since, against=against)
        elif alert is not None and self._is_return(alert, now.one):
            if before.alert:
                yield made.event(before.alert, "closed", sign, before.time, "returned")
            yield made.event(alert.number, "closed", alert.sign, alert.since, "returned")
            self.alert = None
        else:
            if alert is not None:
                yield made.event(alert.number, "closed", alert.sign, alert.since, "reversed")
            number = before.alert or self._number()
            if not before.alert:
                yield made.event(number, "first", sign, before.time)
            yield made.event(number, "confirmed", sign, before.time)
            level, growth = (float(value) for value in reference.mean[:2])
            self.alert = _Alert(number, sign, before.time, level, growth, reference.moment, change, self.time)
        reference.shift(change)
        reference.absorb(before.one, trusted=True)
        reference.absorb(now.one, trusted=True)

    def _is_return(self, alert: _Alert, one: Pass) -> bool:
        """Tell whether an anomaly of the other sign only brings the lake back."""
        back = abs(self._against(alert, one)) < RETURNED * abs(alert.change)
        return back and (alert.sign < 0 or alert.passes < YOUNG)

    def _close(self, one: Pass, made: _Maker) -> Iterator[Event]:
        """End the open alert when the area has come back, or has long been steady."""
        alert = self.alert
        if alert is None:
            return
        alert.passes += 1
        against = self._against(alert, one)
        alert.calm = alert.calm + 1 if alert.sign * against < RETURNED * abs(alert.change) else 0
        settled = (made.time - _utc(alert.moved)).total_seconds() >= SETTLED_DAYS * 86_400
        if alert.calm >= 2 or settled:
            outcome = "returned" if alert.calm >= 2 else "settled"
            self.alert = None
            yield made.event(alert.number, "closed", alert.sign, alert.since, outcome, against=against)

    def _against(self, alert: _Alert, one: Pass) -> float:
        """How far a pass is from where the lake would be without the alert, ln."""
        reference = self.reference
        if reference is None:
            return 0.0
        expected, _ = reference.expected(one.moment, one.track)
        level = float(reference.mean[0] + reference.mean[1] * (one.moment - reference.moment))
        without = alert.level + alert.growth * (one.moment - alert.moment)
        return one.value - expected + level - without

    def _number(self) -> int:
        self.alerts += 1
        return self.alerts


class _Maker(NamedTuple):
    """What all events of a pass share."""

    seen: Observation
    time: pd.Timestamp
    expected: float
    deviations: float

    def event(
        self, alert: int, kind: str, sign: int, since: str, outcome: str = "", *, against: float | None = None
    ) -> Event:
        area = self.seen.area_km2
        expected = math.exp(self.expected)
        if against is not None and area > 0:
            expected = area / math.exp(against)
        return Event(
            alert=alert,
            kind=kind,
            sign="growth" if sign > 0 else "drop",
            time=self.time,
            since=_utc(since),
            track=self.seen.track,
            area_km2=area,
            expected_km2=expected,
            change=area / expected - 1,
            deviations=self.deviations,
            outcome=outcome,
        )


def _confirm(before: _Pending, now: _Pending, least_change: float) -> bool:
    same = before.deviations * now.deviations > 0
    near = (now.one.moment - before.one.moment) * 365.25 <= PAIR_DAYS
    weak, strong = sorted((abs(before.deviations), abs(now.deviations)))
    sure = weak >= EACH and weak + strong >= TOGETHER * math.sqrt(2)
    agree = weak >= SURE or strong - weak <= APART
    return same and near and sure and agree and abs(math.expm1((before.change + now.change) / 2)) >= least_change


def _bounds(seen: Observation, expected: float) -> tuple[float, float]:
    """Half width of a pass's interval, and what it leaves open for not seen, relative; 0 where not known."""
    if not (math.isfinite(seen.area_low) and math.isfinite(seen.area_high)):
        return 0.0, 0.0
    down, up = seen.area_km2 - seen.area_low, seen.area_high - seen.area_km2
    return max(min(down, up), 0.0) / expected, max(up - down, 0.0) / expected


def _utc(time: Any) -> pd.Timestamp:
    stamp = pd.Timestamp(time)
    return stamp.tz_localize("UTC") if stamp.tz is None else stamp.tz_convert("UTC")


def _years(time: pd.Timestamp) -> float:
    return float((time - _EPOCH).total_seconds() / 86_400 / 365.25)


_EPOCH = pd.Timestamp("2000-01-01", tz="UTC")
