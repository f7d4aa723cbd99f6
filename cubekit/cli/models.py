"""Commands around models: measure one, train one."""

from __future__ import annotations

import warnings
from datetime import datetime
from pathlib import Path
from typing import Annotated

import typer

from cubekit.cli._show import out, progress_bars, show_scores, training_progress

_DAYS = ["%Y-%m-%d"]


def evaluate(
    model: Annotated[str, typer.Option(help='A .safetensors file; "none" measures the baselines only.')],
    chips: Annotated[Path, typer.Option(help="Folder of chips, named as published or as cubekit writes them.")],
    masks: Annotated[Path, typer.Option(help="Folder of their masks: 0 and 1, or 0 and 255.")],
    split: Annotated[
        str, typer.Option(help="What is tested: random (a fifth), date, lake, track (each in turn), or none (all).")
    ] = "none",
    seed: Annotated[int, typer.Option(help="Of the random split, and of the intervals.")] = 0,
    cut: Annotated[datetime | None, typer.Option(formats=_DAYS, help="First day of testing, for --split date.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=_DAYS, help="Last day of testing.")] = None,
    gap_days: Annotated[float, typer.Option(help="Days before --cut that are left out of training.")] = 0.0,
    hold_out: Annotated[
        str | None, typer.Option(help="The one lake or track (T121) to test, for those splits; by default each.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Probability of water; by default the model's own.")] = None,
    prior: Annotated[
        str, typer.Option(help="Where a lake was, by the masks of the training (masks) or the catalogue (outline).")
    ] = "masks",
    json: Annotated[Path | None, typer.Option(help="Where all numbers go.")] = None,
) -> None:
    """Measure a model against drawn masks, beside baselines that see no radar or need no training."""
    from cubekit.errors import ConfigError
    from cubekit.segmentation import evaluation, evaluation_report
    from cubekit.segmentation.pairs import load_pairs

    pairs = load_pairs(chips, masks)
    first, last = (None if day is None else day.date() for day in (cut, until))
    samples = [pair.sample for pair in pairs]
    folds = evaluation.folds_of(samples, split, seed=seed, cut=first, until=last, gap_days=gap_days, hold_out=hold_out)
    predict, card = (None, None) if model == "none" else evaluation.model_predict(model, pairs, prior=prior)
    level = threshold if threshold is not None else card.threshold if card else 0.5
    if not 0 < level < 1:
        msg = f"threshold {level:g} is not between 0 and 1; 0.5 is the usual one"
        raise ConfigError(msg)
    with progress_bars() as progress:
        measured = evaluation.evaluate(
            pairs,
            predict,
            folds,
            threshold=level,
            progress=lambda done, total: progress(split, "evaluate", done, total),
        )
    made = evaluation_report.report(measured, seed=seed)
    seen = evaluation.trained_on(card, folds, samples) if card else 0
    if seen:
        warnings.warn(f"the model was trained on {seen} of the tested chips: its scores say little", stacklevel=1)
    made |= {
        "trained_on": seen,
        "model": card.name if card else None,
        "threshold": level,
        "prior": prior,
        "pairs": len(pairs),
    }
    if json is not None:
        evaluation_report.write_json(made, json)
    show_scores(evaluation_report.table(made), made)


def train(
    chips: Annotated[Path, typer.Option(help="Folder of chips, named as published or as cubekit writes them.")],
    masks: Annotated[Path, typer.Option(help="Folder of their masks: 0 and 1, or 0 and 255.")],
    folder: Annotated[Path, typer.Option("--out", help="Where the model goes, its history and its checkpoint.")],
    recipe: Annotated[Path | None, typer.Option(help="A TOML file; by default cubekit's own.")] = None,
    split: Annotated[
        str, typer.Option(help="What is kept for testing: random (a fifth), date, lake, track, or none.")
    ] = "random",
    seed: Annotated[int, typer.Option(help="Of the random split; that of the training is in the recipe.")] = 0,
    cut: Annotated[datetime | None, typer.Option(formats=_DAYS, help="First day of testing, for --split date.")] = None,
    gap_days: Annotated[float, typer.Option(help="Days before --cut that are left out.")] = 0.0,
    hold_out: Annotated[str | None, typer.Option(help="The lake or track (T121) to test, for those splits.")] = None,
    validation: Annotated[float, typer.Option(help="Share of all chips that chooses the epoch and calibrates.")] = 0.05,
    drop_faulty: Annotated[
        bool, typer.Option(help="Leave out labels that the checks find in error, at most one in ten; else only say so.")
    ] = False,
    licence: Annotated[str, typer.Option(help="Terms of the weights, for the card.")] = "not stated",
    resume: Annotated[bool, typer.Option(help="Go on where it was stopped, or start anew.")] = True,
) -> None:
    """Train a U-Net on chips and their masks. Goes on where it was stopped."""
    from cubekit.segmentation import training, training_data
    from cubekit.segmentation.pairs import load_pairs

    loaded = training.Recipe() if recipe is None else training.Recipe.load(recipe)
    pairs = load_pairs(chips, masks)
    parts = training_data.training_split(
        [pair.sample for pair in pairs],
        split,
        seed=seed,
        cut=None if cut is None else cut.date(),
        gap_days=gap_days,
        hold_out=hold_out,
        validation=validation,
    )
    if faulty := training_data.faulty_labels(pairs, parts):
        done = "left out" if drop_faulty else "kept, see --drop-faulty"
        warnings.warn(f"{len(faulty)} labels look wrong ({done}): {', '.join(faulty[:5])}", stacklevel=1)
    if drop_faulty:
        parts = training_data.without(pairs, parts, faulty)
    learned, choosing = (len(part) for part in (parts.train, parts.validation))
    counts = f"{learned} for training, {choosing} choose the epoch, {len(parts.test)} are kept for testing"
    out.print(f"{len(pairs)} pairs, split {split} ({parts.name}): {counts}", markup=False)
    given = training_data.training_parts(pairs, parts, prior=loaded.network.prior)
    with training_progress(loaded.training.epochs) as progress:
        trained = training.train(
            given.samples,
            loaded,
            folder,
            validation=given.validation,
            preprocessing=training_data.fingerprint_of(pairs),
            licence=licence,
            data_note=f"{len(pairs)} pairs of {', '.join(sorted({pair.sample.lake for pair in pairs}))}",
            split=f"{split} ({parts.name}), {counts}",
            lakes=[pairs[index].sample.lake for index in parts.validation],
            priors=given.priors,
            ids=[pairs[index].sample.id for index in (*parts.train, *parts.validation)],
            resume=resume,
            progress=progress,
        )
    row = trained.history[trained.epoch - 1]
    out.print(
        f"epoch {trained.epoch} of {len(trained.history)} is the model: validation IoU {row['validation_iou']:.4f}, "
        f"loss {row['validation_loss']:.4f}, temperature {trained.temperature:.2f}, "
        f"{sum(each['seconds'] for each in trained.history):.0f} s"
    )
    out.print(f"weights {trained.weights}\nwrote {trained.model}", markup=False, soft_wrap=True)
