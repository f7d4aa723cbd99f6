"""Evaluation: a model and the baselines on labelled chips, in one table with intervals."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from cubekit.errors import ConfigError, ModelError
from cubekit.segmentation import metrics, splits
from cubekit.segmentation.baselines import Guess, mask_only, otsu_on_chip, previous_outline
from cubekit.segmentation.card import accepts
from cubekit.segmentation.pairs import Header, Pair, header_of, observed_pixels, read_chip, read_header, read_mask
from cubekit.segmentation.priors import outline_on_chip, prior_of
from cubekit.segmentation.splits import Sample, Split
from cubekit.segmentation.training_data import chain_of

if TYPE_CHECKING:
    from cubekit.segmentation.card import ModelCard

Predict = Callable[[Pair, npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""From a pair and its chip (y, x) to the probability of water in each pixel, 0 to 1."""

BASELINES = ("mask_only", "previous_outline", "outline", "otsu")
"""Names of the baselines, as in the JSON: ``outline`` is that of the catalogue, whatever the training part has."""

PRIORS = ("masks", "outline")
"""What a network may be told of where a lake was."""


class Row(NamedTuple):
    """What one method scored on one image."""

    counts: tuple[int, ...]
    """TN, FP, FN, TP of the observed pixels."""
    whole_chip: tuple[int, ...]
    """The same of all pixels, padding included, as the paper counts them."""
    true_km2: float
    found_km2: float
    boundary_mean: float
    boundary_p95: float


@dataclass(frozen=True)
class Evaluation:
    """What was measured, image by image.

    Parameters
    ----------
    samples
        Those tested, in the order of all rows.
    rows
        By method: ``model`` (absent when there was none) and `BASELINES`.
    bases
        By baseline, what it fell back to and how often.
    reliability
        As `metrics.reliability_counts`, of the model.
    folds
        The splits.
    leaks
        By kind, how many the splits have.
    """

    samples: Sequence[Sample]
    rows: Mapping[str, Sequence[Row]]
    bases: Mapping[str, Mapping[str, int]]
    reliability: npt.NDArray[np.float64]
    folds: Sequence[Split]
    leaks: Mapping[str, int]


def folds_of(
    samples: Sequence[Sample],
    split: str,
    *,
    seed: int = 0,
    cut: date | None = None,
    until: date | None = None,
    gap_days: float = 0.0,
    hold_out: str | None = None,
) -> list[Split]:
    """The splits of a name.

    Parameters
    ----------
    samples
        All of them.
    split
        One of `splits.SPLITS`; ``lake`` and ``track`` give a split for each.
    seed
        For ``random``.
    cut, until, gap_days
        For ``date``, as in `splits.by_date`.
    hold_out
        For ``lake`` and ``track``: the one lake or track (``T121``) that a model was trained without. By default each
        in turn: right for baselines, and for a model that has seen none of them.

    Raises
    ------
    ConfigError
        When there is no such split, lake or track, ``date`` has no `cut`, or it leaves nothing to train on or to test.
    """
    if split == "none":
        return [splits.everything(samples)]
    if split == "random":
        return [splits.random_split(samples, seed=seed)]
    if split in {"lake", "track"}:
        leave_out = splits.leave_one_lake_out if split == "lake" else splits.leave_one_track_out
        made = dict(leave_out(samples))
        if hold_out is not None and hold_out not in made:
            msg = f"there is no {split} {hold_out!r} to hold out; there are {', '.join(made)}"
            raise ConfigError(msg)
        return list(made.values()) if hold_out is None else [made[hold_out]]
    if split != "date":
        msg = f"split {split!r} isn't known; allowed are {', '.join(splits.SPLITS)}"
        raise ConfigError(msg)
    if cut is None:
        msg = "a split by date needs its first day of testing; give --cut, e.g. --cut 2024-01-01"
        raise ConfigError(msg)
    return [splits.by_date(samples, cut, until=until, gap_days=gap_days)]


def evaluate(
    pairs: Sequence[Pair],
    predict: Predict | None,
    folds: Sequence[Split],
    *,
    threshold: float = 0.5,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Measure a model and the baselines on the test part of each split.

    Parameters
    ----------
    pairs
        From `load_pairs`.
    predict
        The model; None measures the baselines only.
    folds
        Splits of the pairs' samples. Baselines know the masks of the training part, never those of the test part.
    threshold
        Probability from which a pixel counts as water.
    progress
        Called with the number of images done and of all.

    Returns
    -------
    Evaluation

    Raises
    ------
    SourceError
        When a chip or a mask can't be read.
    ConfigError
        When the model gives no probabilities, or none in a pixel that was observed.

    Notes
    -----
    What was not observed counts nowhere (`observed_pixels`), except in `Row.whole_chip`. Chips are read once,
    a few at a time.
    """
    samples = [pair.sample for pair in pairs]
    masks = _Masks(pairs)
    tested: list[Sample] = []
    rows: dict[str, list[Row]] = {name: [] for name in (("model",) if predict else ()) + BASELINES}
    bases: dict[str, Counter[str]] = {name: Counter() for name in BASELINES}
    found: Counter[str] = Counter()
    reliability = metrics.reliability_counts(np.empty((0, 0, 0), np.bool_), np.empty((0, 0, 0)))
    total = sum(len(fold.test) for fold in folds)
    for fold in folds:
        found.update(leak.kind for leak in splits.leaks(fold, samples))
        outlines = mask_only(samples, masks, fold.train, fold.test)
        before = previous_outline(samples, masks, fold.train, fold.test)
        images = _predicted(pairs, fold.test, predict)
        for (index, chip, probability), outline, last in zip(images, outlines, before, strict=True):
            truth, observed = masks[index], observed_pixels(chip)
            header = header_of(pairs[index].chip)
            spacing, drawn = header.spacing, _catalogued(samples[index], header)
            around = drawn if outline.water is None else outline
            otsu = Guess(otsu_on_chip(chip, observed, around.water), around.basis)
            for name, guess in zip(BASELINES, (outline, last, drawn, otsu), strict=True):
                water = np.zeros_like(truth) if guess.water is None else guess.water
                rows[name].append(_row(truth, water, observed, spacing))
                bases[name][guess.basis] += 1
            if probability is not None:
                rows["model"].append(_row(truth, probability >= threshold, observed, spacing))
                reliability = reliability + metrics.reliability_counts(
                    truth[None], probability[None], observed=observed[None]
                )
            tested.append(samples[index])
            if progress is not None:
                progress(len(tested), total)
    return Evaluation(tested, rows, bases, reliability, folds, found)


def model_predict(path: str | Path, pairs: Sequence[Pair], *, prior: str = "masks") -> tuple[Predict, ModelCard]:
    """Load a model for `evaluate`, and refuse chips that were plainly made otherwise than those it was trained on.

    Parameters
    ----------
    path
        A file that `save_model` wrote, or the name of a shipped model.
    pairs
        From `load_pairs`.
    prior
        What a network is told of where a lake was: ``masks``, the mean of the masks it was trained on, and of lakes
        that it was not trained on the outline of the catalogue; ``outline``, that outline always, as `segment` does.

    Raises
    ------
    ConfigError
        When `prior` is neither.
    MissingExtra
        When the extra ``unet`` is not installed.
    ModelError
        As `load_model` and `check_chips`.
    """
    from cubekit.segmentation.inference import predict
    from cubekit.segmentation.model import load_model, read_card, read_priors
    from cubekit.segmentation.shipped import find

    if prior not in PRIORS:
        msg = f"prior {prior!r} isn't known; allowed are {', '.join(PRIORS)}"
        raise ConfigError(msg)
    path = find(path)
    card = read_card(path)
    check_chips(card, pairs)
    network = load_model(path)
    known = read_priors(path) if prior == "masks" else {}
    import torch  # not before: load_model names the extra when it is missing

    network = network.to(memory_format=torch.channels_last)

    def probability(pair: Pair, chip: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        image = chip[None]
        if "prior" in card.channels:
            image = np.stack([chip, prior_of(pair.sample, header_of(pair.chip), known)])
        # The padding of a chip is left out: the network sees what `segment` shows it of the same window.
        window = _extent(chip)
        answer = np.zeros(chip.shape, np.float32)
        answer[window] = predict(network, image[None, :, *window], views=card.views)[0]
        return answer

    return probability, card


def trained_on(card: ModelCard, folds: Sequence[Split], samples: Sequence[Sample]) -> int:
    """Count the tested samples that a model has seen when it was trained: as far as its card tells."""
    seen = set(card.training.get("ids", ()))
    return len({samples[index].id for fold in folds for index in fold.test} & seen)


def check_chips(card: ModelCard, pairs: Sequence[Pair]) -> None:
    """Refuse chips that were plainly made otherwise than those a model was trained on.

    Parameters
    ----------
    card
        The model's.
    pairs
        From `load_pairs`. A chip by `write_chips` tells the whole chain that made it, and so does the name of a
        published one; of others the spacing is known.

    Raises
    ------
    ModelError
        With the first such chip and every difference.
    """
    for pair in pairs:
        header = read_header(pair.chip)
        if not isinstance(header, Header):
            continue  # refused with its reason when its pixels are read
        told = chain_of(pair, header) or {"spacing": header.spacing}
        differing = [
            f"{key} {card.preprocessing.get(key)!r} (chip: {value!r})"
            for key, value in sorted(told.items())
            if not accepts(card.preprocessing, key, value)
        ]
        if differing:
            msg = (
                f"model {card.name!r} was trained on other chips than {pair.chip.name}: {'; '.join(differing)}; give "
                "chips made as the model's card says, or a model trained on such chips"
            )
            raise ModelError(msg)


def _catalogued(sample: Sample, header: Header) -> Guess:
    """The outline that the catalogue has of a lake."""
    water = outline_on_chip(sample.lake, header) > 0
    return Guess(water, "catalogue") if water.any() else Guess(None, "nothing")


class _Masks(Sequence[npt.NDArray[np.bool_]]):
    """Masks of pairs, each read when it is asked for."""

    def __init__(self, pairs: Sequence[Pair]) -> None:
        self._pairs = pairs

    def __len__(self) -> int:
        return len(self._pairs)

    def __getitem__(self, index: Any) -> Any:
        return read_mask(self._pairs[index].mask)


def _predicted(
    pairs: Sequence[Pair], test: Sequence[int], predict: Predict | None
) -> Iterator[tuple[int, npt.NDArray[np.uint8], npt.NDArray[np.float32] | None]]:
    """Index, chip and, when there is a model, its probabilities."""
    for index in test:
        chip = read_chip(pairs[index].chip)
        answer = None if predict is None else predict(pairs[index], chip)
        if answer is not None and answer.shape != chip.shape:
            msg = f"the model gave {answer.shape} for a chip {chip.shape}; a probability is needed for each pixel"
            raise ConfigError(msg)
        yield index, chip, answer


def _extent(chip: npt.NDArray[np.uint8]) -> tuple[slice, slice]:
    """Rows and columns that hold anything."""
    rows, columns = np.flatnonzero(chip.any(axis=1)), np.flatnonzero(chip.any(axis=0))
    if not rows.size:
        return slice(0, chip.shape[0]), slice(0, chip.shape[1])
    return slice(int(rows[0]), int(rows[-1]) + 1), slice(int(columns[0]), int(columns[-1]) + 1)


def _row(
    truth: npt.NDArray[np.bool_], water: npt.NDArray[np.bool_], observed: npt.NDArray[np.bool_], spacing: float
) -> Row:
    one, other, seen = truth[None], (water & observed)[None], observed[None]
    counts = metrics.confusion(one, other, seen)
    shore = metrics.boundary_distance(one, other, spacing, seen)
    pixel = (spacing / 1000) ** 2
    return Row(
        tuple(int(cell[0]) for cell in counts),
        tuple(int(cell[0]) for cell in metrics.confusion(one, water[None])),
        float((counts.fn[0] + counts.tp[0]) * pixel),
        float((counts.fp[0] + counts.tp[0]) * pixel),
        float(shore.mean[0]),
        float(shore.percentile95[0]),
    )
