"""The weights that come with cubekit: trained on simulated scenes only, no real label and no real scene seen.

Lakes have the shapes of ICIMOD's inventory (CC0), the study's own left out; see `simulated_chips`. The model of HyP3's
images starts from ImageNet's weights, that of OPERA's from the first. Half precision, temperature-calibrated on lakes
of other shapes in other terrain.

Run: python analyses/simulation_weights.py [MODEL ...] [--out DIR]; the card tells how long each training took. Killed,
it goes on where it was. It prints what it measured; the numbers are in the cards. `simulated_truth.py --fit` then fits
threshold and intervals on the lakes for validation.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import dask
import numpy as np
import simulated_chips

from cubekit.segmentation import Recipe, train
from cubekit.segmentation.shipped import SHIPPED, find


class Stage(NamedTuple):
    """What is learned from how many lakes of what, starting where."""

    lakes: Mapping[str, int]
    start: str
    epochs: int
    max_lr: float


STAGES = {
    # HyP3 products that are filtered already, and those that `cubekit order` asks for.
    "hyp3-20m": Stage({"hyp3": 480, "hyp3_unfiltered": 200}, "imagenet", 5, 1e-3),
    "opera-30m": Stage({"opera": 400}, "hyp3-20m", 5, 5e-4),
}
DATES = 8
HELD = 24
"""Lakes for validation."""


def recipe(stage: Stage, out: Path) -> Recipe:
    """The recipe of a stage."""
    start = str(out / stage.start / "model.safetensors") if stage.start in STAGES else stage.start
    return Recipe.parse(
        {
            "training": {"epochs": stage.epochs},
            "optimizer": {"max_lr": stage.max_lr},
            "augmentation": {"jitter": 0.1},
            "network": {"start": start, "prior_skip": False, "views": 1},
        }
    )


def fingerprint(kinds: Iterable[str]) -> dict[str, object]:
    """How the chips were made; where that differs between kinds, all of it."""
    chains = [simulated_chips.fingerprint(kind) for kind in kinds]
    values = {key: list(dict.fromkeys(chain[key] for chain in chains)) for key in chains[0]}
    return {key: found[0] if len(found) == 1 else found for key, found in values.items()}


def chips(lakes: Mapping[str, int], folder: Path, split: str, *, seed: int) -> simulated_chips.Chips:
    """Chips of so many lakes of these kinds from the folder, simulated when they are not there."""
    found = []
    for kind, count in lakes.items():
        file = folder / f"{kind}_{split}_{count}x{DATES}_{seed}_{simulated_chips.version()}.npz"
        if not file.exists():
            began = time.perf_counter()
            made = simulated_chips.many(kind, lakes=count, dates=DATES, seed=seed, split=split)
            packed = [np.packbits(each, axis=-1) for each in (made.masks, made.observed)]
            temporary = file.with_suffix(".part.npz")
            np.savez_compressed(
                temporary, images=made.images, masks=packed[0], observed=packed[1], rows=json.dumps(made.rows)
            )
            temporary.rename(file)
            print(f"{file.name}: {len(made)} chips in {time.perf_counter() - began:.0f} s", flush=True)
        stored = np.load(file)
        masks, observed = (np.unpackbits(stored[name], axis=-1).astype(bool) for name in ("masks", "observed"))
        found.append(simulated_chips.Chips(stored["images"], masks, observed, json.loads(str(stored["rows"]))))
    return simulated_chips.joined(found)


def main(stages: Sequence[str], out: Path) -> None:
    """Simulate, train and copy into the package, one stage after the other."""
    out.mkdir(parents=True, exist_ok=True)
    for name in stages:
        stage = STAGES[name]
        given = chips(stage.lakes, out, "train", seed=1)
        held = chips(dict.fromkeys(stage.lakes, HELD // len(stage.lakes)), out, "validation", seed=2)
        trained = train(
            given,
            recipe(stage, out),
            out / name,
            validation=held,
            preprocessing=fingerprint(stage.lakes),
            licence="Apache-2.0",
            data_note=f"{len(given)} simulated chips of {sum(stage.lakes.values())} lakes, "
            f"outlines of ICIMOD 2020 (CC0), simulator {simulated_chips.version()}",
            split="lakes of other outlines, in other terrain",
            lakes=[str(row["lake"]) for row in held.rows],
            half=True,
            progress=_progress,
        )
        if name in SHIPPED:
            target = find(name)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(trained.model, target)
        row = trained.history[trained.epoch - 1]
        print(
            f"{name}: epoch {trained.epoch}, IoU {row['validation_iou']:.4f} "
            f"({row['validation_iou_by_lake']:.4f} over lakes), "
            f"{sum(r['seconds'] for r in trained.history):.0f} s, weights {trained.weights}",
            flush=True,
        )


def _progress(epoch: int, step: int, steps: int, row: object) -> None:
    if step % 20 == 0 or step == steps:
        scores = {} if row is None else {name: round(value, 4) for name, value in dict(row).items()}
        print(f"epoch {epoch} step {step} of {steps} {scores}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("models", nargs="*", help="models; by default all, in order")
    parser.add_argument("--out", type=Path, default=Path("weights"))
    options = parser.parse_args()
    with dask.config.set(scheduler="synchronous"):
        main(options.models or list(STAGES), options.out)
