"""Alerts of sudden growth and drainage, pass by pass, from the lake's own past."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from cubekit.errors import ConfigError
from cubekit.series._alert_memory import KINDS, LEAST_CHANGE, OUTCOMES, Event, Memory, Observation
from cubekit.series.area import STATES

__all__ = [
    "KINDS",
    "LEAST_CHANGE",
    "OUTCOMES",
    "Event",
    "Observation",
    "observations",
    "replay",
    "score",
    "sensitivity",
    "step",
]

_LONGEST = 10  # usable passes after which a change counts as missed
_YEAR = pd.Timedelta(days=365)

State = dict[str, Any]
"""What `step` hands on: only what JSON can hold, of a size that does not grow with the record."""


def step(
    state: Mapping[str, Any] | None,
    observation: Observation,
    *,
    least_change: float = LEAST_CHANGE,
    min_observed: float = 0.9,
) -> tuple[State, list[Event]]:
    """Take one more pass.

    Parameters
    ----------
    state
        What the call before returned, also after a way through JSON; None for a lake's first pass. Not changed.
    observation
        The next pass, later than all before.
    least_change
        Changes smaller than this share of the area are no alert; above 0 and below 1.
    min_observed
        A pass must have seen at least this share of the most that its track saw up to then, 0 to 1.

    Returns
    -------
    state : dict
        To be handed to the next call. Plain numbers, texts, lists and dicts.
    events : list of Event
        What is to be told, mostly nothing.

    Raises
    ------
    ConfigError
        When the pass is not later than the last one, its state is no word of `STATES`, an area is negative,
        `least_change` or `min_observed` is out of range, or the state is not one of `step`.

    Notes
    -----
    What is expected is a Kalman filter of ln(area) (West & Harrison 1997, chapter 8): a level with a growth, an annual
    and a semi-annual wave, an offset of each track but the first. Of the year it knows nothing at first, and its
    uncertainty says so: alerts become sharp as the season is learned. The noise of each track is estimated from its own
    residuals, each clipped at 2.5 standard deviations, and is never below a quarter of the area's interval. What is off
    by 1.5 standard deviations is not learned from before the next pass is there.

    A pass that sees less than usual is no evidence of a drop as far as ``area_high`` allows for what was not seen.

    Examples
    --------
    >>> days = pd.date_range("2016-01-01", periods=150, freq="12D")
    >>> state, told = None, []
    >>> for number, day in enumerate(days):
    ...     area = (1.5 if number < 145 else 1.3) * (1.01 if number % 2 else 0.99)
    ...     state, events = step(state, Observation(day, 121, area))
    ...     told += events
    >>> [(event.kind, event.sign, round(event.change, 2)) for event in told]
    [('first', 'drop', -0.12), ('confirmed', 'drop', -0.14)]
    """
    _check_rules(least_change, min_observed)
    memory = Memory.load(state)
    events = memory.take(observation, least_change, min_observed)
    return memory.dump(), events


def replay(
    area: xr.Dataset | pd.DataFrame, *, least_change: float = LEAST_CHANGE, min_observed: float = 0.9
) -> pd.DataFrame:
    """Run the areas of a lake as if they came in live, one pass after the other.

    Parameters
    ----------
    area
        What `lake_area` returns, or one lake's rows of what `read_csv` reads. Computed if it is lazy.
    least_change, min_observed
        As for `step`.

    Returns
    -------
    pandas.DataFrame
        One row an event, in order, with the columns of `Event`. Each depends on the passes up to its time alone.

    Raises
    ------
    ConfigError
        As `step`; also when a column is absent or the table holds several lakes.

    Examples
    --------
    >>> days = pd.date_range("2016-01-01", periods=150, freq="12D")
    >>> km2 = np.where(np.arange(150) < 145, 1.5, 1.3) * np.where(np.arange(150) % 2, 1.01, 0.99)
    >>> table = pd.DataFrame({"time": days, "track": 121, "area_km2": km2, "observed_fraction": 1.0, "state": "open"})
    >>> replay(table)["kind"].tolist()
    ['first', 'confirmed']
    """
    _check_rules(least_change, min_observed)
    memory = Memory.load(None)
    events = [event for one in observations(area) for event in memory.take(one, least_change, min_observed)]
    return pd.DataFrame(events, columns=list(Event._fields))


def score(
    events: pd.DataFrame, years: float, known: pd.DataFrame | None = None, *, within_days: float = 60.0
) -> dict[str, float]:
    """Count what a replay confirmed against what is known to have happened.

    Parameters
    ----------
    events
        Of one lake, from `replay`.
    years
        Length of its record, above 0.
    known
        Columns ``time`` and ``sign`` (``growth`` or ``drop``): what really happened at this lake. Without it, all that
        was confirmed counts as false: an upper bound.
    within_days
        A confirmation belongs to the last known event of its sign that began up to so long before.

    Returns
    -------
    dict
        ``confirmed``; ``false`` (that belong to no known event); ``false_per_decade``; ``known``; ``found`` (known
        events that were confirmed); ``delay_days``, median from the beginning of a found event to its confirmation,
        NaN where none was found.

    Raises
    ------
    ConfigError
        When `years` is not above 0, or `known` lacks a column or has another sign.

    Examples
    --------
    >>> told = pd.DataFrame(
    ...     {"kind": ["confirmed"], "sign": ["drop"], "time": pd.to_datetime(["2021-07-21"], utc=True)}
    ... )
    >>> happened = pd.DataFrame({"time": ["2021-07-06"], "sign": ["drop"]})
    >>> score(told, 10, happened)["delay_days"], score(told, 5)["false_per_decade"]
    (15.0, 2.0)
    """
    if not years > 0:
        msg = f"the record is {years} years long; it must be longer than 0"
        raise ConfigError(msg)
    happened = _known(known)
    confirmed = events[events["kind"] == "confirmed"]
    delays: dict[int, float] = {}
    false = 0
    for time, sign in zip(pd.to_datetime(confirmed["time"], utc=True), confirmed["sign"], strict=True):
        days = (time - happened["time"]).dt.total_seconds() / 86_400
        mine = days[(happened["sign"] == sign) & (days >= 0) & (days <= within_days)]
        if mine.empty:
            false += 1
        elif mine.idxmin() not in delays:
            delays[int(mine.idxmin())] = float(mine.min())
    return {
        "confirmed": len(confirmed),
        "false": false,
        "false_per_decade": 10 * false / years,
        "known": len(happened),
        "found": len(delays),
        "delay_days": float(np.median(list(delays.values()))) if delays else math.nan,
    }


def sensitivity(
    area: xr.Dataset | pd.DataFrame,
    *,
    change: float = -0.1,
    trials: int = 50,
    least_change: float = LEAST_CHANGE,
    min_observed: float = 0.9,
) -> pd.DataFrame:
    """Put a sudden change into a real record, at one pass after the other, and see when it is confirmed.

    Parameters
    ----------
    area
        As for `replay`.
    change
        Relative change of the area and its bounds from a pass on: -0.1 is a drop of a tenth. Above -1, not 0.
    trials
        Of at most so many passes, evenly spread from the second year on, each begins a change of its own.
    least_change, min_observed
        As for `step`.

    Returns
    -------
    pandas.DataFrame
        One row a trial: ``time`` (of the first changed pass), ``passes`` and ``days`` from the last pass before it
        until the confirmation; NaN when none came within ten usable passes. Empty when no pass lies a year after the
        first and ten usable passes before the last.

    Raises
    ------
    ConfigError
        As `replay`; also when `change` or `trials` is out of range.

    Notes
    -----
    The noise is the record's own, so this is what an alert can do at this lake, with this archive and this model.
    It is optimistic where the change is hidden by what else an outburst does (ice, debris, turbid and rough water).

    Examples
    --------
    >>> days = pd.date_range("2016-01-01", periods=150, freq="12D")
    >>> km2 = np.where(np.arange(150) % 2, 1.51, 1.49)
    >>> table = pd.DataFrame({"time": days, "track": 121, "area_km2": km2, "observed_fraction": 1.0, "state": "open"})
    >>> sensitivity(table, trials=3)["passes"].tolist()
    [2.0, 2.0, 2.0]
    """
    _check_rules(least_change, min_observed)
    if not -1 < change < np.inf or change == 0 or trials < 1:
        msg = (
            f"change {change} and {trials} trials make no sense; change is above -1 and not 0 (-0.1), trials 1 or more"
        )
        raise ConfigError(msg)
    passes = list(observations(area))
    memory = Memory.load(None)
    usable: list[tuple[int, State]] = []
    for number, one in enumerate(passes):
        before, moment = memory.dump(), memory.moment
        memory.take(one, least_change, min_observed)
        if memory.moment > moment:
            usable.append((number, before))
    # A year to learn from, and as many passes after it as a trial may take.
    starts = [(n, state) for n, state in usable[: 1 - _LONGEST] if passes[n].time - passes[0].time >= _YEAR]
    if not starts:
        return pd.DataFrame({"time": pd.to_datetime([], utc=True), "passes": np.empty(0), "days": np.empty(0)})
    places = np.unique(np.linspace(0, len(starts) - 1, min(trials, len(starts))).round().astype(int))
    rows = [
        (passes[n].time, *_confirmed_after(passes, n, state, change, least_change, min_observed))
        for n, state in (starts[place] for place in places)
    ]
    return pd.DataFrame(rows, columns=["time", "passes", "days"]).astype({"passes": float, "days": float})


def _confirmed_after(
    passes: list[Observation], first: int, state: State, change: float, least_change: float, min_observed: float
) -> tuple[float, float]:
    """Usable passes and days until a change that begins with a pass is confirmed; NaN when it isn't."""
    memory, count = Memory.load(state), 0
    sign = "drop" if change < 0 else "growth"
    for one in passes[first:]:
        moment = memory.moment
        area, low, high = (value * (1 + change) for value in (one.area_km2, one.area_low, one.area_high))
        events = memory.take(one._replace(area_km2=area, area_low=low, area_high=high), least_change, min_observed)
        count += memory.moment > moment
        if any(event.kind in ("confirmed", "further") and event.sign == sign for event in events):
            return float(count), (one.time - passes[first - 1].time).total_seconds() / 86_400
        if count >= _LONGEST:
            break
    return math.nan, math.nan


def _known(known: pd.DataFrame | None) -> pd.DataFrame:
    if known is None:
        return pd.DataFrame({"time": pd.to_datetime([], utc=True), "sign": []})
    if absent := [name for name in ("time", "sign") if name not in known]:
        msg = f"the known events lack {', '.join(absent)}; give the columns time and sign"
        raise ConfigError(msg)
    if other := sorted(set(known["sign"]) - {"growth", "drop"}):
        msg = f"known events have the sign {', '.join(map(str, other))}; allowed are growth and drop"
        raise ConfigError(msg)
    return pd.DataFrame({"time": pd.to_datetime(known["time"], utc=True), "sign": known["sign"]}).reset_index(drop=True)


def observations(area: xr.Dataset | pd.DataFrame) -> Iterator[Observation]:
    """Go through the passes of a lake in the order of their times.

    Parameters
    ----------
    area
        As for `replay`. Without ``area_low`` and ``area_high``, these are not known.

    Raises
    ------
    ConfigError
        When a column is absent or the table holds several lakes.

    Examples
    --------
    >>> row = {"time": [pd.Timestamp("2021-07-21")], "track": [121], "area_km2": [1.5], "observed_fraction": [1.0]}
    >>> next(observations(pd.DataFrame(row | {"state": ["open"]}))).area_km2
    1.5
    """
    needed = ("time", "track", "area_km2", "observed_fraction", "state")
    names = area.variables if isinstance(area, xr.Dataset) else area.columns
    if absent := [name for name in needed if name not in names]:
        msg = f"the areas lack {', '.join(absent)}; give what lake_area returns, or rows of an areas CSV"
        raise ConfigError(msg)
    wanted = [name for name in Observation._fields if name in names]
    if isinstance(area, xr.Dataset):
        loaded = area[wanted].compute()
        table = pd.DataFrame({name: loaded[name].to_numpy() for name in wanted})
    else:
        if "lake" in area and area["lake"].nunique() > 1:
            msg = f"the table holds {area['lake'].nunique()} lakes; give the rows of one: table[table.lake == 'gokyo']"
            raise ConfigError(msg)
        table = area[wanted].copy()
    table["time"] = pd.to_datetime(table["time"], utc=True)
    for row in table.sort_values("time", kind="stable").to_dict("records"):
        named = {str(name): value for name, value in row.items()}
        yield Observation(**{**named, "state": _word(named["state"])})


def _check_rules(least_change: float, min_observed: float) -> None:
    if not 0 < least_change < 1:
        msg = f"least_change {least_change} is not between 0 and 1; 0.05 leaves out changes below 5 % of the area"
        raise ConfigError(msg)
    if not 0 <= min_observed <= 1:
        msg = f"min_observed {min_observed} is not between 0 and 1; 0.9 means nine tenths of the lake zone"
        raise ConfigError(msg)


def _word(state: Any) -> str:
    """The word of a state, given as one or as its code."""
    if isinstance(state, int | np.integer) and 0 <= state < len(STATES):
        return STATES[int(state)]
    if state in STATES:
        return str(state)
    msg = f"{state!r} is no state of a lake; allowed are {', '.join(STATES)}, or the codes 0 to {len(STATES) - 1}"
    raise ConfigError(msg)
