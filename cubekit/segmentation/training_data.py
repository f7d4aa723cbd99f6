"""Training data from folders: pairs as samples, how their chips were made, and which of them are for what."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, date, datetime, time, timedelta
from typing import Any, NamedTuple

import numpy as np

from cubekit.errors import ConfigError, ModelError
from cubekit.segmentation import splits
from cubekit.segmentation.augmentation import Labelled
from cubekit.segmentation.card import FINGERPRINT_KEYS
from cubekit.segmentation.pairs import Header, Pair, header_of, observed_pixels, read_chip, read_mask
from cubekit.segmentation.priors import Prior, PriorDraws, known_priors, training_priors
from cubekit.segmentation.splits import Sample, Split
from cubekit.sources.names import ProductFile, parse


class PairSamples(Sequence[Labelled]):
    """Pairs as `train` takes them: image, mask and observed, each read when it is asked for.

    Parameters
    ----------
    pairs
        From `load_pairs`.
    priors
        Where the lake of each was, uint8 (y, x), as `training_priors` gives them: the image's second channel. Without
        them the image is the chip.
    draws
        Tells it otherwise in every epoch; without it `priors` stay.
    """

    def __init__(
        self, pairs: Sequence[Pair], priors: Sequence[Prior] | None = None, draws: PriorDraws | None = None
    ) -> None:
        self._pairs, self._priors, self._draws = pairs, priors, draws

    def in_epoch(self, seed: int, epoch: int) -> PairSamples:
        """As they are told in an epoch of a training: the same for the same seed."""
        if self._draws is None:
            return self
        draw = self._draws.draw
        told = [draw(index, np.random.default_rng((seed, epoch, index, 1))) for index in range(len(self))]
        return PairSamples(self._pairs, told)

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: Any) -> Any:
        pair = self._pairs[index]
        chip = read_chip(pair.chip)
        image = chip if self._priors is None else np.stack([chip, self._priors[index]])
        return image, read_mask(pair.mask), observed_pixels(chip)


class Parts(NamedTuple):
    """What `train` takes."""

    samples: PairSamples
    validation: PairSamples
    priors: dict[str, Prior] | None
    """Of training and validation, to be kept with the model; None when it sees none."""


def training_parts(pairs: Sequence[Pair], split: Split, *, prior: bool) -> Parts:
    """Cut pairs into the parts of a training.

    Parameters
    ----------
    pairs
        From `load_pairs`; what `split` was made of.
    split
        From `training_split`. Its test part is not looked at.
    prior
        Whether the network sees where lakes were: that is told from the masks of the training part.

    Raises
    ------
    SourceError
        When a mask or a header can't be read.
    """
    learned, choosing = ([pairs[index] for index in part] for part in (split.train, split.validation))
    if not prior:
        return Parts(PairSamples(learned), PairSamples(choosing), None)
    used = [*learned, *choosing]
    samples, masks = [pair.sample for pair in used], [read_mask(pair.mask) for pair in used]
    headers = [header_of(pair.chip) for pair in used]
    # What chooses the epoch must not tell where its own lakes are.
    told = training_priors(samples, masks, range(len(learned)), range(len(used)), headers)
    count = len(learned)
    draws = PriorDraws(samples[:count], masks[:count], headers[:count])
    return Parts(
        PairSamples(learned, told[:count], draws),
        PairSamples(choosing, told[count:]),
        known_priors(samples, masks),
    )


def faulty_labels(pairs: Sequence[Pair], split: Split) -> list[str]:
    """Find the labels of a training that can't be right; those that are tested are not looked at.

    Parameters
    ----------
    pairs
        From `load_pairs`; what `split` was made of.
    split
        From `training_split`.

    Returns
    -------
    list of str
        Ids of samples of the training and validation parts: at most one in ten of them, the worst first, as
        `label_checks.sound` finds them.

    Raises
    ------
    SourceError
        When a file can't be read.
    """
    from cubekit.segmentation.label_checks import read_label_pairs, sound

    used = [pairs[index] for index in (*split.train, *split.validation)]
    kept = {pair.id for pair in sound(read_label_pairs(used))}
    return sorted(pair.sample.id for pair in used if pair.sample.id not in kept)


def without(pairs: Sequence[Pair], split: Split, ids: Sequence[str]) -> Split:
    """Leave samples out of training and validation; what is tested stays as it is.

    Raises
    ------
    ConfigError
        When nothing would be left to train on, or to choose the epoch by.
    """
    parts = [
        tuple(index for index in part if pairs[index].sample.id not in set(ids))
        for part in (split.train, split.validation)
    ]
    if not all(parts):
        msg = f"without {len(ids)} labels the split {split.name!r} has too few; mend them, or keep all"
        raise ConfigError(msg)
    return replace(split, train=parts[0], validation=parts[1])


def fingerprint_of(pairs: Sequence[Pair]) -> dict[str, Any]:
    """Tell how the chips were made.

    Parameters
    ----------
    pairs
        From `load_pairs`.

    Returns
    -------
    dict
        The fingerprint that a model's card carries. What `write_chips` wrote is read; of chips with a HyP3 product's
        name it is that of the published ones: the product's own filter, the AOI, ``published`` equalisation.

    Raises
    ------
    ModelError
        When a chip tells it neither way, or two were made differently.
    SourceError
        When a chip can't be read.
    """
    found: dict[str, Pair] = {}
    for pair in pairs:
        chain = chain_of(pair, header_of(pair.chip))
        if chain is None:
            msg = (
                f"{pair.chip} doesn't say how it was made, and its name is not that of a HyP3 product; make chips with "
                "to_chips() and write_chips()"
            )
            raise ModelError(msg)
        found.setdefault(json.dumps(chain, sort_keys=True), pair)
    if len(found) > 1:
        (one, first), (other, second) = list(found.items())[:2]
        msg = f"chips were made differently: {first.chip.name} {one}, {second.chip.name} {other}; train on one kind"
        raise ModelError(msg)
    chain = json.loads(next(iter(found), "{}"))
    return {str(key): value for key, value in chain.items()}


def chain_of(pair: Pair, header: Header) -> dict[str, Any] | None:
    """How one chip was made: as it says itself, as its name does when it is a published one, or None.

    Raises
    ------
    ModelError
        When it says so incompletely.
    """
    if header.preprocessing is not None:
        return _chain(header.preprocessing, pair)
    name = parse(pair.chip.name)
    if not isinstance(name, ProductFile) or name.family != "hyp3":
        return None
    return {
        "equalize": "published",
        "polarisation": name.layer,
        "source": name.family,
        "spacing": round(header.spacing),
        "speckle_filter": name.speckle_filter,
        "window": "aoi",
    }


def training_split(
    samples: Sequence[Sample],
    split: str,
    *,
    seed: int = 0,
    cut: date | None = None,
    gap_days: float = 0.0,
    hold_out: str | None = None,
    validation: float = 0.1,
) -> Split:
    """Set apart what is tested, as `cubekit evaluate` does, and what chooses the epoch.

    Parameters
    ----------
    samples
        All of them.
    split
        ``random``: a fifth is tested, as by `random_split`. ``date``: what lies from `cut` on. ``lake``, ``track``:
        `hold_out`. ``none``: nothing.
    seed
        For ``random`` and ``none``.
    cut, gap_days
        For ``date``.
    hold_out
        The lake, or the track as ``T121``.
    validation
        Share of all samples that chooses the epoch, above 0: drawn (``random``, ``none``), or the last before `cut`
        (``date``). With ``lake`` and ``track`` it is the next lake or track by name instead.

    Returns
    -------
    Split
        No part is empty, but the test of ``none``.

    Raises
    ------
    ConfigError
        When there is no such split, one of its options is missing or out of range, or a part is empty.
    """
    if not 0 < validation < 1:
        msg = f"validation is {validation:g}; give a share above 0 and below 1, e.g. 0.1"
        raise ConfigError(msg)
    if split == "random":
        made = splits.random_split(samples, seed=seed, validation=validation)
    elif split == "none":
        drawn = splits.random_split(samples, seed=seed, test=validation)
        made = replace(drawn, kind="none", validation=drawn.test, test=())
    elif split == "date":
        if cut is None:
            msg = "a split by date needs its first day of testing; give --cut, e.g. --cut 2024-01-01"
            raise ConfigError(msg)
        start = _validation_from(samples, cut, gap_days, validation)
        made = splits.by_date(samples, cut, gap_days=gap_days, validation_from=start)
    elif split in {"lake", "track"}:
        leave = splits.leave_one_lake_out if split == "lake" else splits.leave_one_track_out
        folds = dict(leave(samples, validation=True))
        if hold_out not in folds:
            msg = f"hold_out is {hold_out!r}; to leave one {split} out give one of {', '.join(folds)}"
            raise ConfigError(msg)
        made = folds[hold_out]
    else:
        msg = f"split {split!r} isn't known; allowed are {', '.join(splits.SPLITS)}"
        raise ConfigError(msg)
    if not made.validation:
        msg = f"the split {made.name!r} leaves no sample to choose the epoch by; give a larger validation"
        raise ConfigError(msg)
    return made


def _validation_from(samples: Sequence[Sample], cut: date, gap_days: float, share: float) -> date | None:
    """First day of the last share of what lies before the cut and its gap."""
    end = datetime.combine(cut, time(), UTC) - timedelta(days=max(gap_days, 0))
    before = sorted(sample.time for sample in samples if sample.time <= end and sample.time.date() < cut)
    return before[-min(math.ceil(round(share * len(samples), 6)), len(before))].date() if before else None


def _chain(text: str, pair: Pair) -> dict[str, Any]:
    try:
        chain = json.loads(text)
        missing = [key for key in FINGERPRINT_KEYS if key not in chain]
    except (ValueError, TypeError):
        missing = list(FINGERPRINT_KEYS)
    if missing:
        msg = f"{pair.chip} says that it was made by {text!r}, which lacks {', '.join(missing)}; write it anew"
        raise ModelError(msg)
    return dict(chain)
