"""The weights that come with cubekit: trained on simulated scenes only, no real label and no real scene seen.

Lakes have the shapes of ICIMOD's inventory (CC0), the study's own left out; see `simulated_chips`. A first model learns
from ImageNet's weights what a lake is in HyP3's filtered images; the two that are shipped start from it. Half
precision, temperature-calibrated on chips of the same shapes in other terrain, at other dates.

Run: python analyses/simulation_weights.py [STAGE ...] [--out DIR]. On two cores about 30 minutes for the first and
10 for each of the others, simulation included; killed, the training goes on where it was. It prints what it measured;
the numbers are in the cards. `simulated_truth.py --fit` then fits the intervals.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import dask
import numpy as np
import simulated_chips

from cubekit.segmentation import Recipe, train
from cubekit.segmentation.shipped import SHIPPED, find


class Stage(NamedTuple):
    """What is learned from what, starting where."""

    kinds: tuple[str, ...]
    lakes: int
    start: str
    epochs: int
    max_lr: float


STAGES = {
    "base": Stage(("hyp3",), 150, "imagenet", 8, 1e-3),
    # HyP3 products that are filtered already, and those that `cubekit order` asks for.
    "hyp3-20m": Stage(("hyp3", "hyp3_unfiltered"), 75, "base", 4, 5e-4),
    "opera-30m": Stage(("opera",), 75, "base", 5, 5e-4),
}
DATES = 12


def recipe(stage: Stage, out: Path) -> Recipe:
    """The recipe of a stage."""
    start = str(out / stage.start / "model.safetensors") if stage.start in STAGES else stage.start
    return Recipe.parse(
        {
            "training": {"epochs": stage.epochs},
            "optimizer": {"max_lr": stage.max_lr},
            "augmentation": {"jitter": 0.1},
            "network": {"start": start},
        }
    )


def fingerprint(kinds: Sequence[str]) -> dict[str, object]:
    """How the chips were made; where that differs between kinds, all of it."""
    chains = [simulated_chips.fingerprint(kind) for kind in kinds]
    values = {key: list(dict.fromkeys(chain[key] for chain in chains)) for key in chains[0]}
    return {key: found[0] if len(found) == 1 else found for key, found in values.items()}


def chips(kinds: Sequence[str], folder: Path, part: str, *, lakes: int, dates: int, seed: int) -> simulated_chips.Chips:
    """Chips of these kinds from the folder, simulated when they are not there."""
    found = []
    for kind in kinds:
        file = folder / f"{kind}_{part}_{lakes}x{dates}_{seed}.npz"
        if not file.exists():
            began = time.perf_counter()
            made = simulated_chips.many(kind, lakes=lakes, dates=dates, seed=seed)
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
        given = chips(stage.kinds, out, "train", lakes=stage.lakes, dates=DATES, seed=1)
        held = chips(stage.kinds, out, "validation", lakes=24 // len(stage.kinds), dates=8, seed=2)
        trained = train(
            given,
            recipe(stage, out),
            out / name,
            validation=held,
            preprocessing=fingerprint(stage.kinds),
            licence="Apache-2.0",
            data_note=f"{len(given)} simulated chips of {stage.lakes} lakes, outlines of ICIMOD 2020 (CC0)",
            split="other terrain, other dates, outlines drawn anew",
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
    parser.add_argument("stages", nargs="*", help="by default all, in order")
    parser.add_argument("--out", type=Path, default=Path("weights"))
    options = parser.parse_args()
    with dask.config.set(scheduler="synchronous"):
        main(options.stages or list(STAGES), options.out)
