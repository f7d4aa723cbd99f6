"""What a model adds on real labels: random splits, a later year, new lakes; the paper's recipe and cubekit's.

For every split: train on what is not tested, test, and hold the result against baselines that see no radar or need no
training. Training takes all labels: those that the checks find in error are mostly of thawing lakes, and teach more
than they spoil. The test is told with all labels, and with those that pass. The pairs are the paper's own public ones
(no licence: weights made here stay where they are made). `iou_by_outline` is of the same network, told the outline
of the catalogue instead of the masks of its training, as `segment` tells it.

Run: python analyses/real_splits.py CHIPS MASKS OUT [--recipes cubekit paper ...] [--splits random-0 date ...]
What is there is not done again, a killed run goes on. Writes OUT/splits.csv, one row a recipe and split.
"""

from __future__ import annotations

import argparse
import json
import warnings
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pandas as pd

from cubekit.segmentation import Recipe, evaluation, evaluation_report, train
from cubekit.segmentation.label_checks import read_label_pairs, sound
from cubekit.segmentation.pairs import Pair, load_pairs
from cubekit.segmentation.splits import Split
from cubekit.segmentation.training_data import fingerprint_of, training_parts, training_split

CUT = date(2024, 1, 1)
VALIDATION = 0.05
PAPER = Path(__file__).parent / "paper.toml"

# What is tried: cubekit's recipe, and what becomes of it when one part is taken away.
RECIPES = {
    "cubekit": {},
    "from ImageNet": {"network": {"start": "imagenet"}, "training": {"epochs": 30}},
    "from ImageNet, no prior": {"network": {"start": "imagenet", "prior": False}, "training": {"epochs": 30}},
}


def recipe_of(name: str) -> Recipe:
    """A recipe by name; the paper's from random weights, since the hub's can't be counted on."""
    if name == "paper":
        paper = Recipe.load(PAPER)
        return paper.model_copy(update={"network": paper.network.model_copy(update={"start": "none"})})
    return Recipe.parse(RECIPES[name])


def splits_of(pairs: list[Pair]) -> dict[str, Split]:
    """Five random splits, one by date, one for every lake left out."""
    samples = [pair.sample for pair in pairs]
    made = {f"random-{seed}": training_split(samples, "random", seed=seed, validation=VALIDATION) for seed in range(5)}
    made["date"] = training_split(samples, "date", cut=CUT, validation=VALIDATION)
    for lake in sorted({sample.lake for sample in samples}):
        made[f"lake-{lake}"] = training_split(samples, "lake", hold_out=lake)
    return made


def rows_of(name: str, kind: str, split: Split, pairs: list[Pair], faulty: set[str], out: Path) -> Iterator[dict]:
    """Train, test, and give a row for all test labels and one for those that pass the checks."""
    folder = out / f"{name.replace(' ', '_')}_{kind}"
    recipe = recipe_of(name)
    parts = training_parts(pairs, split, prior=recipe.network.prior)
    # Goes on where it was; refuses the folder of another training.
    trained = train(
        parts.samples,
        recipe,
        folder,
        validation=parts.validation,
        preprocessing=fingerprint_of(pairs),
        licence="none: derived from masks without a licence",
        data_note=f"{len(pairs)} real pairs",
        split=f"{kind} ({split.name})",
        priors=parts.priors,
        ids=[pairs[index].sample.id for index in (*split.train, *split.validation)],
        lakes=[pairs[index].sample.lake for index in split.validation],
    )
    passing = tuple(index for index in split.test if pairs[index].sample.id not in faulty)
    predict, card = evaluation.model_predict(trained.model, pairs)
    by_outline, _ = evaluation.model_predict(trained.model, pairs, prior="outline")
    for labels, test in (("all", split.test), ("sound", passing)):
        # The baselines know all that is not tested.
        fold = Split(split.name, split.kind, (*split.train, *split.validation), (), test, split.gap_days)
        made = evaluation_report.report(evaluation.evaluate(pairs, predict, [fold], threshold=card.threshold))
        told = evaluation_report.report(evaluation.evaluate(pairs, by_outline, [fold], threshold=card.threshold))
        (folder / f"{labels}.json").write_text(json.dumps(made, indent=1, default=float))
        row = {"recipe": name, "split": kind, "labels": labels, "train": len(split.train), "test": len(test)}
        row |= {"iou": made["iou"]["pooled"], "iou_mean": made["iou"]["mean"], "f1": made["f1"]}
        row |= {"iou_by_outline": told["iou"]["pooled"]}
        row |= {base: scores["iou"]["pooled"] for base, scores in made["baselines"].items()}
        low, high = made["gain"]["mask_only"]["interval"]
        row |= {"gain": made["gain"]["mask_only"]["iou"], "gain_low": low, "gain_high": high}
        yield row | {"seconds": round(card.training["seconds"]), "epoch": card.metrics["epoch"]}


def main(chips: Path, masks: Path, out: Path, recipes: list[str], kinds: list[str]) -> None:
    """Every recipe on every split."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        pairs = load_pairs(chips, masks)
    labels = read_label_pairs(pairs)
    passed = {pair.id for pair in sound(labels)}
    faulty = {pair.sample.id for pair in pairs} - passed
    print(f"{len(pairs)} pairs, {len(faulty)} of them in error")
    out.mkdir(parents=True, exist_ok=True)
    file = out / "splits.csv"
    for kind, split in splits_of(pairs).items():
        for name in recipes:
            if kinds and kind not in kinds:
                continue
            done = pd.read_csv(file) if file.exists() else pd.DataFrame(columns=["recipe", "split"])
            if ((done.recipe == name) & (done.split == kind)).any():
                continue
            new = pd.DataFrame(list(rows_of(name, kind, split, pairs, faulty, out)))
            pd.concat([done, new]).to_csv(file, index=False) if len(done) else new.to_csv(file, index=False)
            print(new.round(3).to_string(index=False, header=True), flush=True)
    table = pd.read_csv(file)
    random = table[table.split.str.startswith("random")]
    if len(random):
        columns = ["iou", "mask_only", "gain"]
        print(random.groupby(["recipe", "labels"])[columns].agg(["mean", "min", "max"]).round(4).to_string())


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("chips", type=Path)
    parser.add_argument("masks", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--recipes", nargs="*", default=["cubekit"])
    parser.add_argument("--splits", nargs="*", default=[])
    options = parser.parse_args()
    main(options.chips, options.masks, options.out, options.recipes, options.splits)
