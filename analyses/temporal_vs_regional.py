"""The paper's first objective, "temporal-first": the same number of labels, spent on few lakes or on many.

Simulated HyP3 scenes with known truth. Every design has the same number of labelled chips, the same recipe and as many
steps, and its first lakes are the same: the lakes that one wants to monitor. Tested on new dates (later years) of
those, and on lakes whose outlines no training saw. The network sees the radar only, no outline.

Run: python analyses/temporal_vs_regional.py [--designs 4x60,60x4] [--seeds 3] [--epochs 8] [--crop 128] [--out DIR].
On two idle cores a quarter of an hour or so (estimated), half of it for the scenes. They and finished trainings are
kept in DIR (default out/temporal_vs_regional), so a run that was stopped goes on. Writes areas.csv (a row a chip),
table.csv and temporal_vs_regional.png.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import multiprocessing
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import simulated_chips
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cubekit.lakes import Lake
from cubekit.plots import save_figure
from cubekit.segmentation import Recipe, train
from cubekit.segmentation.bootstrap import Interval, bootstrap
from cubekit.segmentation.inference import predict
from cubekit.segmentation.metrics import confusion, scores
from cubekit.segmentation.model import load_model

PRODUCT = "hyp3"
LEARNED, TESTED = (2017, 2022), (2023, 2024)  # years
LEAST_KM2, LEAST_SEEN = 0.1, 0.5  # lakes smaller, and chips that show less of the lake, are left out
TESTS = {"new dates": "new dates of the same lakes", "new lakes": "new lakes"}


@dataclass(frozen=True)
class Design:
    """How a budget is spent."""

    lakes: int
    dates: int

    @property
    def chips(self) -> int:
        """The budget."""
        return self.lakes * self.dates

    def __str__(self) -> str:
        return f"{self.lakes}x{self.dates}"

    @classmethod
    def parse(cls, text: str) -> Design:
        """From e.g. ``4x60``."""
        lakes, dates = text.split("x")
        return cls(int(lakes), int(dates))


@dataclass(frozen=True)
class Plan:
    """What is simulated and trained for each seed."""

    designs: tuple[Design, ...]
    epochs: int = 8
    crop: int = 128
    test_dates: int = 12
    test_lakes: int = 12
    start: str = "imagenet"

    def __post_init__(self) -> None:
        if len({design.chips for design in self.designs}) != 1:
            told = ", ".join(f"{design} = {design.chips}" for design in self.designs)
            raise SystemExit(f"error: designs cost differently ({told}); give some of equal lakes times dates")

    @property
    def core(self) -> int:
        """How many lakes all designs share."""
        return min(design.lakes for design in self.designs)

    def dates(self, number: int) -> int:
        """How many labelled dates of a lake any design needs."""
        return max((design.dates for design in self.designs if number < design.lakes), default=0)

    @property
    def recipe(self) -> Recipe:
        """Equal for all designs."""
        return Recipe.parse(
            {
                "training": {"epochs": self.epochs, "batch": 16, "crop": self.crop, "choose": "last"},
                "network": {"prior": False, "start": self.start},
                "augmentation": {"jitter": 0.1, "forget": 0.0},
            }
        )


def lakes(count: int, seed: int, split: str) -> list[tuple[Lake, int]]:
    """Lakes of chance with the seeds of their terrain, sizes drawn from four classes in turn."""
    known = sorted(simulated_chips.outlines(split).items(), key=lambda one: one[1][0].area)
    random = np.random.default_rng((seed, 3 if split == "train" else 4))
    spacing, found = simulated_chips.SPACING[PRODUCT], []
    while len(found) < count:
        # From the largest down, so that few lakes are not the smallest ones.
        stratum = np.array_split(np.arange(len(known)), 4)[3 - len(found) % 4]
        name, (outline, altitude) = known[int(random.choice(stratum))]
        own = int(random.integers(2**31))
        lake = simulated_chips.make_lake(f"{split}_{name}_{len(found)}", outline, altitude, spacing, own)
        if lake is not None and lake.project(outline).area >= LEAST_KM2 * 1e6:
            found.append((lake, own))
    return found


def chips(job: tuple[Lake, int, int, tuple[int, int]], folder: Path) -> simulated_chips.Chips:
    """Chips of one lake in an order of chance, from the folder or simulated."""
    lake, seed, dates, years = job
    name = hashlib.sha256(repr((lake.outline.wkt, lake.aoi.wkt, seed, dates, years)).encode()).hexdigest()[:16]
    file = folder / f"{name}.npz"
    if not file.exists():
        with dask.config.set(scheduler="synchronous"):
            made = simulated_chips.chips_of(lake, PRODUCT, dates=dates, seed=seed, years=years)
        order = np.random.default_rng((seed, 5)).permutation(dates)
        rows = [made.rows[place] for place in order]
        temporary = file.with_suffix(".part.npz")
        np.savez_compressed(
            temporary,
            images=made.images[order],
            masks=made.masks[order],
            observed=made.observed[order],
            rows=json.dumps(rows),
        )
        temporary.rename(file)
    with np.load(file) as stored:
        rows = json.loads(str(stored["rows"]))
        return simulated_chips.Chips(stored["images"], stored["masks"], stored["observed"], rows)


def samples(parts: Sequence[simulated_chips.Chips], dates: int) -> list[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """The first chips of each lake, without their priors."""
    return [
        (part.images[place, 0], part.masks[place], part.observed[place])
        for part in parts
        for place in range(min(dates, len(part)))
    ]


def tested(model: Path, parts: Sequence[simulated_chips.Chips]) -> list[dict[str, object]]:
    """A row a chip: IoU and areas of what was observed."""
    network, found = load_model(model), []
    for part in parts:
        for place, row in enumerate(part.rows):
            if float(row["observed"]) < LEAST_SEEN:
                continue
            observed, truth = part.observed[place], part.masks[place]
            water = predict(network, part.images[place, :1])[0] >= 0.5
            score = scores(confusion(truth[None], water[None], observed[None])).pooled["iou"]
            areas = {"true": int((truth & observed).sum()), "found": int((water & observed).sum())}
            known = {name: row[name] for name in ("lake", "time", "track", "state")}
            found.append({**known, "iou": score, **areas})
    return found


def run_seed(plan: Plan, seed: int, out: Path, workers: int) -> list[dict[str, object]]:
    """Simulate, train every design and test it."""
    most = max(design.lakes for design in plan.designs)
    learned, others = lakes(most, seed, "train"), lakes(plan.test_lakes, seed, "test")
    jobs = [(*one, plan.dates(number), LEARNED) for number, one in enumerate(learned)]
    later = [(*one, plan.test_dates, TESTED) for one in learned[: plan.core]]
    new = [(*one, max(1, plan.test_dates // 2), TESTED) for one in others]
    folder = out / "chips"
    folder.mkdir(parents=True, exist_ok=True)
    began = time.perf_counter()
    every = [*jobs, *later, *new]
    make = partial(chips, folder=folder)
    if workers > 1:  # spawned: torch's threads don't survive a fork
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            parts = list(pool.map(make, every))
    else:
        parts = list(map(make, every))
    print(f"seed {seed}: {sum(map(len, parts))} chips in {time.perf_counter() - began:.0f} s", file=sys.stderr)
    train_parts, tests = parts[:most], (parts[most : most + len(later)], parts[most + len(later) :])
    fingerprint = simulated_chips.fingerprint(PRODUCT)
    recipe = plan.recipe
    recipe = Recipe.parse({**recipe.model_dump(), "training": {**recipe.training.model_dump(), "seed": seed}})
    key = hashlib.sha256(f"{plan}{seed}".encode()).hexdigest()[:8]
    rows = []
    for design in plan.designs:
        given = samples(train_parts[: design.lakes], design.dates)
        began = time.perf_counter()
        made = train(
            given,
            recipe,
            out / f"{design}_{seed}_{key}",
            validation=given[:: max(1, len(given) // 8)],  # the last epoch is taken: this moves nothing that is tested
            preprocessing=fingerprint,
            licence="Apache-2.0",
            data_note=f"{len(given)} simulated chips: {design.lakes} lakes, {design.dates} dates of each",
            split="tested on later years and on other lakes",
        )
        print(f"seed {seed}, {design}: trained in {time.perf_counter() - began:.0f} s", file=sys.stderr)
        for test, part in zip(TESTS, tests, strict=True):
            rows += [{"design": str(design), "seed": seed, "test": test, **row} for row in tested(made.model, part)]
    return rows


def by_lake(rows: pd.DataFrame) -> pd.DataFrame:
    """A row a lake, design and test: mean IoU, bias and spread of its areas over dates in percent."""
    rows = rows[rows["true"] > 0].assign(error=lambda part: 100 * (part["found"] / part["true"] - 1))
    grouped = rows.groupby(["test", "design", "seed", "lake"], sort=False)
    return pd.DataFrame(
        {
            "iou": grouped["iou"].mean(),
            "bias": grouped["error"].median(),
            "spread": grouped["error"].std(),
            "chips": grouped.size(),
        }
    ).reset_index()


def interval(table: pd.DataFrame, name: str = "iou") -> Interval:
    """Of the mean over lakes, by drawing lakes; a lake of another seed lies in other terrain."""
    known = table.dropna(subset=[name])
    clusters = list(zip(known["seed"], known["lake"], strict=True))
    return bootstrap(known[name].to_numpy(), lambda values: float(np.mean(values)), clusters)


def summary(lake_rows: pd.DataFrame) -> pd.DataFrame:
    """A row a test and design, and below them each design less the first."""
    found = []
    for test, part in lake_rows.groupby("test", sort=False):
        names = list(dict.fromkeys(part["design"]))
        first = part[part["design"] == names[0]].set_index(["seed", "lake"])
        for name in names:
            own = part[part["design"] == name]
            seeds = own.groupby("seed")["iou"].mean()
            mean, spread = interval(own), interval(own, "spread")
            row = {
                "test": test,
                "design": name,
                "iou": mean.estimate,
                "low": mean.low,
                "high": mean.high,
                "least": seeds.min(),
                "most": seeds.max(),
                "area_bias_%": own["bias"].median(),
                "area_spread_%": spread.estimate,
                "lakes": mean.clusters,
            }
            if name != names[0]:
                paired = own.set_index(["seed", "lake"])[["iou"]] - first[["iou"]]
                less = interval(paired.reset_index())
                row |= {"less_first": less.estimate, "less_low": less.low, "less_high": less.high}
            found.append(row)
    return pd.DataFrame(found)


def draw(lake_rows: pd.DataFrame, table: pd.DataFrame):
    """A panel a test: mean and interval, the seeds as dots; returns the first axes."""
    figure = Figure(figsize=(7.5, 3.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, len(TESTS), sharey=True)
    for panel, (test, title) in zip(panels, TESTS.items(), strict=True):
        part = table[table["test"] == test].reset_index(drop=True)
        known = part[["low", "high"]].fillna({"low": part["iou"], "high": part["iou"]})
        reach = np.abs(known.to_numpy().T - part["iou"].to_numpy())
        panel.errorbar(part.index, part["iou"], yerr=reach, fmt="o", color="#c2185b", capsize=4)
        for place, name in enumerate(part["design"]):
            own = lake_rows[(lake_rows["test"] == test) & (lake_rows["design"] == name)]
            seeds = own.groupby("seed")["iou"].mean()
            panel.plot(np.full(len(seeds), place + 0.12), seeds, ".", color="0.5")
        panel.set(title=title, xticks=part.index, xticklabels=part["design"], xlabel="lakes x dates")
        panel.margins(x=0.3)
        panel.grid(axis="y", alpha=0.3)
    panels[0].set_ylabel("IoU, mean over lakes")
    return panels[0]


def main(plan: Plan, out: Path, *, seeds: int, workers: int) -> pd.DataFrame:
    """Run, print, write."""
    rows = pd.DataFrame([row for seed in range(seeds) for row in run_seed(plan, seed, out, workers)])
    rows.to_csv(out / "areas.csv", index=False)
    lake_rows = by_lake(rows)
    table = summary(lake_rows)
    table.to_csv(out / "table.csv", index=False)
    budget = plan.designs[0].chips
    print(f"{budget} labelled chips each, {seeds} seeds, {plan.epochs} epochs; 95 % intervals by drawing lakes")
    print(table.round(3).to_string(index=False, na_rep=""))
    print(f"wrote {save_figure(draw(lake_rows, table), out / 'temporal_vs_regional.png')}")
    return table


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--designs", default="4x60,60x4", help="lakes x dates, of equal products")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=Plan.epochs)
    parser.add_argument("--crop", type=int, default=Plan.crop)
    parser.add_argument("--test-dates", type=int, default=Plan.test_dates)
    parser.add_argument("--test-lakes", type=int, default=Plan.test_lakes)
    parser.add_argument("--start", default=Plan.start, help="imagenet, none, or a model")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("out/temporal_vs_regional"))
    given = parser.parse_args()
    main(
        Plan(
            tuple(map(Design.parse, given.designs.split(","))),
            given.epochs,
            given.crop,
            given.test_dates,
            given.test_lakes,
            given.start,
        ),
        given.out,
        seeds=given.seeds,
        workers=given.workers,
    )
