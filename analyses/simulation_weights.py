"""The weights that come with cubekit: trained on simulated scenes only, no real label and no real scene seen.

Lakes have the shapes of ICIMOD's inventory (CC0), the study's own left out; see `simulated_chips`. The model for OPERA
starts from that for HyP3. Half precision, temperature-calibrated on lakes that the training did not see.

Run: python analyses/simulation_weights.py [hyp3|opera ...] [--lakes N] [--dates N] [--out DIR]. On two cores about half
an hour each; killed, the training goes on where it was. It prints what it measured; the numbers are in the cards.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import dask
import numpy as np
import simulated_chips

from cubekit.segmentation import Recipe, train
from cubekit.segmentation.shipped import SHIPPED, find

NAMES = dict(zip(("hyp3", "opera"), SHIPPED, strict=True))

RECIPE = {
    "training": {"epochs": 8, "choose": "iou_by_lake"},
    "augmentation": {"jitter": 0.1, "forget": 0.3},
}
FINE_TUNING = {"training": {"epochs": 6}, "optimizer": {"lr": 2e-5, "max_lr": 5e-4}}


def recipe(product: str, start: Path | None) -> Recipe:
    """The recipe of a product's model, from ImageNet or from another model."""
    sections = {name: dict(options) for name, options in RECIPE.items()}
    if start is not None:
        for name, options in FINE_TUNING.items():
            sections[name] = sections.get(name, {}) | options
        sections["network"] = {"start": str(start)}
    return Recipe.parse(sections)


def chips(product: str, folder: Path, split: str, *, lakes: int, dates: int, seed: int) -> simulated_chips.Chips:
    """Chips from the folder, simulated when they are not there."""
    file = folder / f"{product}_{split}_{lakes}x{dates}_{seed}.npz"
    if not file.exists():
        began = time.perf_counter()
        made = simulated_chips.many(product, lakes=lakes, dates=dates, seed=seed)
        packed = [np.packbits(part, axis=-1) for part in (made.masks, made.observed)]
        temporary = file.with_suffix(".part.npz")
        np.savez_compressed(
            temporary, images=made.images, masks=packed[0], observed=packed[1], rows=json.dumps(made.rows)
        )
        temporary.rename(file)
        print(f"{file.name}: {len(made)} chips in {time.perf_counter() - began:.0f} s")
    stored = np.load(file)
    masks, observed = (np.unpackbits(stored[name], axis=-1).astype(bool) for name in ("masks", "observed"))
    return simulated_chips.Chips(stored["images"], masks, observed, json.loads(str(stored["rows"])))


def main(products: Sequence[str], out: Path, *, lakes: int, dates: int) -> None:
    """Simulate, train and copy into the package, one product after the other."""
    out.mkdir(parents=True, exist_ok=True)
    start = None
    for product in NAMES:
        folder = out / NAMES[product]
        if product in products:
            given = chips(product, out, "train", lakes=lakes, dates=dates, seed=1)
            held = chips(product, out, "validation", lakes=24, dates=8, seed=2)
            trained = train(
                given,
                recipe(product, start),
                folder,
                validation=held,
                preprocessing=simulated_chips.fingerprint(product),
                licence="Apache-2.0",
                data_note=f"{len(given)} simulated chips of {lakes} lakes, outlines of ICIMOD 2020 (CC0)",
                split="other terrain, other dates, outlines drawn anew",
                lakes=[str(row["lake"]) for row in held.rows],
                half=True,
                progress=_progress,
            )
            target = find(NAMES[product])
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(trained.model, target)
            row = trained.history[trained.epoch - 1]
            print(
                f"{NAMES[product]}: epoch {trained.epoch}, IoU {row['validation_iou']:.4f} "
                f"({row['validation_iou_by_lake']:.4f} over lakes), {sum(r['seconds'] for r in trained.history):.0f} s, "
                f"weights {trained.weights}"
            )
        start = folder / "model.safetensors" if (folder / "model.safetensors").exists() else find(NAMES[product])


def _progress(epoch: int, step: int, steps: int, row: object) -> None:
    if step % 20 == 0 or step == steps:
        scores = {} if row is None else {name: round(value, 4) for name, value in dict(row).items()}
        print(f"epoch {epoch} step {step} of {steps} {scores}", file=sys.stderr, flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("products", nargs="*", default=list(NAMES))
    parser.add_argument("--lakes", type=int, default=150)
    parser.add_argument("--dates", type=int, default=12)
    parser.add_argument("--out", type=Path, default=Path("weights"))
    options = parser.parse_args()
    with dask.config.set(scheduler="synchronous"):
        main(options.products, options.out, lakes=options.lakes, dates=options.dates)
