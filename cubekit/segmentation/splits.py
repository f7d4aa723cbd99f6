"""Splits of labelled samples into training, validation and test, and a check of what they promise.

A random split of dates of the same lakes says little: a baseline that sees no radar scores as high. What a model adds
shows on dates, lakes and tracks that it has not seen.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from itertools import pairwise, product
from typing import Literal, NamedTuple, get_args

import numpy as np

from cubekit.errors import ConfigError

Kind = Literal["random", "date", "lake", "track", "none"]

SPLITS: tuple[str, ...] = get_args(Kind)
"""Names of the splits, as training and evaluation are asked for them."""


@dataclass(frozen=True, order=True)
class Sample:
    """One labelled image.

    Parameters
    ----------
    id
        Unique among samples, and the same wherever the files lie: all orders here are by it.
    lake
        Lake or AOI it shows.
    time
        Start of its scene, UTC.
    track
        Relative orbit.
    direction
        ``ascending`` or ``descending``.
    grid
        Key of the grid it lies on; masks of equal keys can be laid over each other.
    """

    id: str
    lake: str
    time: datetime
    track: int
    direction: str
    grid: str

    @property
    def scene(self) -> tuple[str, datetime]:
        """What two processings of one scene over one lake have in common."""
        return self.lake, self.time


@dataclass(frozen=True)
class Split:
    """Which samples are for what, as indices into the list that was split, each part in order of the samples' ids.

    Parameters
    ----------
    name
        For people: ``seed 3``, ``from 2024-01-01``, a lake, a track.
    kind
        What it promises: ``date`` that parts lie `gap_days` apart, ``lake`` and ``track`` that no lake or track is in
        two of them; all, but ``none``, that no sample is.
    train, validation, test
        Indices. Samples in a gap are in none.
    gap_days
        Days between the parts of a split by date.
    """

    name: str
    kind: Kind
    train: tuple[int, ...]
    validation: tuple[int, ...]
    test: tuple[int, ...]
    gap_days: float = 0.0


class Leak(NamedTuple):
    """Two samples, in two parts of a split, that should not both be there."""

    kind: str
    """``sample``, ``scene``, ``gap``, ``lake`` or ``track``."""
    parts: tuple[str, str]
    ids: tuple[str, str]


def random_split(samples: Sequence[Sample], *, seed: int, test: float = 0.2, validation: float = 0.0) -> Split:
    """Draw the parts by chance, as the paper does (80/20).

    Parameters
    ----------
    samples
        In any order: the same ids are drawn.
    seed
        Of the draw.
    test, validation
        Shares, rounded up: 49 of the paper's 244.

    Returns
    -------
    Split
        Of kind ``random``. Dates of one lake, and two processings of one scene, may fall on both sides: see `leaks`.

    Raises
    ------
    ConfigError
        When ids are not unique, or nothing is left to train on or to test.

    Examples
    --------
    >>> start = datetime(2021, 1, 1, tzinfo=UTC)
    >>> samples = [Sample(f"{n:03d}", "gokyo", start + timedelta(n), 121, "descending", "") for n in range(244)]
    >>> split = random_split(samples, seed=0)
    >>> len(split.train), len(split.test)
    (195, 49)
    """
    order = _order(samples)
    counts = [math.ceil(round(len(samples) * share, 6)) for share in (test, validation)]
    drawn = [order[place] for place in np.random.default_rng(seed).permutation(len(order))]
    ends = counts[0], counts[0] + counts[1]
    parts = {index: int(np.searchsorted(ends, place, side="right")) for place, index in enumerate(drawn)}
    return _made(f"seed {seed}", "random", samples, lambda index: ("test", "validation", "train")[parts[index]])


def by_date(
    samples: Sequence[Sample],
    cut: date,
    *,
    gap_days: float = 0.0,
    validation_from: date | None = None,
    until: date | None = None,
) -> Split:
    """Train on what came before a day, test on what came from it on.

    Parameters
    ----------
    samples
        In any order.
    cut
        First day of the test part, UTC.
    gap_days
        Samples in the last days before a later part are left out: consecutive dates look alike.
    validation_from
        First day of the validation part, which ends where the test part, less the gap, begins.
    until
        Last day of the test part; what comes after is left out.

    Returns
    -------
    Split
        Of kind ``date``.

    Raises
    ------
    ConfigError
        When ids are not unique, the gap is negative, `validation_from` is not before `cut`, or nothing is left to train
        on or to test.

    Examples
    --------
    >>> times = [datetime(*day, tzinfo=UTC) for day in ((2023, 12, 1), (2023, 12, 30), (2024, 1, 5))]
    >>> samples = [Sample(f"{n}", "gokyo", when, 121, "descending", "") for n, when in enumerate(times)]
    >>> split = by_date(samples, date(2024, 1, 1), gap_days=12)
    >>> split.train, split.test
    ((0,), (2,))
    """
    if gap_days < 0 or (validation_from is not None and validation_from >= cut):
        msg = f"gap_days is {gap_days:g}, validation_from {validation_from}, cut {cut}; give a gap of 0 or more, and "
        raise ConfigError(msg + "a validation that begins before the cut")
    gap = timedelta(days=gap_days)
    test, validation = (datetime.combine(day, time(), UTC) for day in (cut, validation_from or cut))

    def part(index: int) -> str:
        when = samples[index].time
        if when >= test:
            return "test" if until is None or when.date() <= until else "none"
        if validation <= when <= test - gap:
            return "validation"
        return "train" if when < validation and when <= validation - gap else "none"

    name = f"from {cut}" + (f" until {until}" if until else "")
    return _made(name, "date", samples, part, gap_days)


def leave_one_lake_out(samples: Sequence[Sample], *, validation: bool = False) -> Iterator[tuple[str, Split]]:
    """Test on each lake what was trained on the others.

    Parameters
    ----------
    samples
        In any order.
    validation
        Keep the next lake by name (after the last the first) for validation: where training on lakes is stopped has to
        be chosen on a lake, since on dates of known lakes a network seems to get better long after it overfits.

    Yields
    ------
    (str, Split)
        The lake and its split, of kind ``lake``; lakes by name.

    Raises
    ------
    ConfigError
        When ids are not unique, or there are too few lakes: two, or three with a validation.
    """
    return _leave_one_out(samples, "lake", lambda sample: sample.lake, validation)


def leave_one_track_out(samples: Sequence[Sample], *, validation: bool = False) -> Iterator[tuple[str, Split]]:
    """Test on each track what was trained on the others; as `leave_one_lake_out`, names like ``T121``."""
    return _leave_one_out(samples, "track", lambda sample: f"T{sample.track:03d}", validation)


def everything(samples: Sequence[Sample]) -> Split:
    """No split: all samples are tested, and all are there for baselines, which leave out the scene they are asked for.

    Parameters
    ----------
    samples
        In any order.

    Returns
    -------
    Split
        Of kind ``none``.
    """
    order = tuple(_order(samples))
    return Split("all", "none", order, (), order)


def leaks(split: Split, samples: Sequence[Sample], *, gap_days: float | None = None) -> list[Leak]:
    """Find the pairs of samples that make a split look better than it is.

    Parameters
    ----------
    split
        Of `samples`.
    samples
        In the order that was split.
    gap_days
        Also find samples of one lake that lie fewer days apart; by default what a split by date promises, and nothing
        in others.

    Returns
    -------
    list of Leak
        By parts and ids: the same sample twice; the same scene of the same lake twice (two processings); the same lake
        within the gap; the same lake, or track, where the split promises to leave it out. Empty for kind ``none``.

    Examples
    --------
    >>> times = [datetime(2021, 3, day, tzinfo=UTC) for day in (1, 2, 28)]
    >>> samples = [Sample(f"{n}", "gokyo", when, 121, "descending", "") for n, when in enumerate(times)]
    >>> [leak.ids for leak in leaks(random_split(samples, seed=0, test=0.5), samples, gap_days=12)]
    [('1', '0')]
    """
    if split.kind == "none":
        return []
    gap = gap_days if gap_days is not None else split.gap_days if split.kind == "date" else 0.0
    parts = {name: [samples[index] for index in getattr(split, name)] for name in ("train", "validation", "test")}
    found = [
        Leak(kind, (one, other), (first.id, second.id))
        for one, other in (("train", "validation"), ("train", "test"), ("validation", "test"))
        for first, second in product(parts[one], parts[other])
        if (kind := _leak(first, second, split.kind, timedelta(days=gap)))
    ]
    return sorted(found, key=lambda leak: (leak.parts, leak.ids))


def _leak(first: Sample, second: Sample, kind: Kind, gap: timedelta) -> str:
    if first.id == second.id:
        return "sample"
    if first.scene == second.scene:
        return "scene"
    if first.lake == second.lake and abs(first.time - second.time) < gap:
        return "gap"
    if kind == "lake" and first.lake == second.lake:
        return "lake"
    return "track" if kind == "track" and first.track == second.track else ""


def _leave_one_out(
    samples: Sequence[Sample], kind: Literal["lake", "track"], key: Callable[[Sample], str], validation: bool
) -> Iterator[tuple[str, Split]]:
    _order(samples)
    names = sorted({key(sample) for sample in samples})
    if len(names) < 2 + validation:
        msg = f"leaving one {kind} out needs {2 + validation} of them, and there is {', '.join(names) or 'none'}"
        raise ConfigError(msg + "; give more samples, or split by date")

    def splits() -> Iterator[tuple[str, Split]]:
        for place, name in enumerate(names):
            kept = names[(place + 1) % len(names)] if validation else None
            roles = {kept: "validation", name: "test"}
            of_sample = [roles.get(key(sample), "train") for sample in samples]
            yield name, _made(name, kind, samples, of_sample.__getitem__)

    return splits()


def _made(name: str, kind: Kind, samples: Sequence[Sample], part: Callable[[int], str], gap_days: float = 0.0) -> Split:
    parts: dict[str, list[int]] = {"train": [], "validation": [], "test": [], "none": []}
    for index in _order(samples):
        parts[part(index)].append(index)
    if not parts["train"] or not parts["test"]:
        msg = (
            f"the split {name!r} leaves {len(parts['train'])} of {len(samples)} samples for training and "
            f"{len(parts['test'])} for the test; both need one: give other shares, another day or more samples"
        )
        raise ConfigError(msg)
    return Split(name, kind, tuple(parts["train"]), tuple(parts["validation"]), tuple(parts["test"]), gap_days)


def _order(samples: Sequence[Sample]) -> list[int]:
    """Indices by id, whatever the order of the samples."""
    order = sorted(range(len(samples)), key=lambda index: samples[index].id)
    if twice := sorted({samples[a].id for a, b in pairwise(order) if samples[a].id == samples[b].id}):
        msg = f"{len(twice)} ids are there twice, the first is {twice[0]!r}; give each sample once"
        raise ConfigError(msg)
    return order
