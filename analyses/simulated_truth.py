"""Areas against simulated truth: bias, error and what the intervals cover, on lakes that no training saw.

Lakes have the outlines that `simulated_chips` keeps for testing (0.4 km2 and more), in terrain of their own. The truth
is simulated; the user's lake has an outline as an inventory may have it, of another year and not quite right. Each
pass goes through the package's verbs: `prepare`, `equalize`, `segment`, `lake_area`.

The length of the intervals' blocks is fitted on every other lake and tested on the rest; `--fit` writes it into the
card of a shipped model, fitted on all of them.

Run: python analyses/simulated_truth.py MODEL [--lakes N] [--dates N] [--out FILE.csv] [--fit]; MODEL is the name of a
shipped model or a path. On two cores 57 lakes x 40 dates take about ten minutes.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import simulated_chips

from cubekit.preprocess import equalize, prepare
from cubekit.segmentation import load_model, read_card, save_model, segment
from cubekit.segmentation.metrics import confusion
from cubekit.segmentation.shipped import SHIPPED, find
from cubekit.series import lake_area
from cubekit.series._interval import fit_block
from cubekit.sources import simulated

BLOCKS = tuple(float(block) for block in np.geomspace(100, 5000, 12).round())
LARGE = 0.4


def measure(job: tuple[object, int], *, product: str, model: str, dates: int) -> pd.DataFrame:
    """One lake: a row a pass, with the truth, the areas and the bounds of every block."""
    import torch

    torch.set_num_threads(1)
    lake, seed = job
    random = np.random.default_rng((seed, 7))
    growth = float(random.choice([0.0, 5.0, 15.0, 30.0]))
    ds = simulated.simulate(
        lake, start="2017-01-01", end="2024-12-31", product=product, seed=seed, growth_m_per_year=growth
    )
    ds = ds.isel(time=np.sort(random.choice(ds.sizes["time"], dates, replace=False))).compute()
    seen = simulated_chips.inventory_lake(lake, random)
    image = equalize(prepare(ds, seen, filter=simulated_chips.FILTER[product]))
    probability = segment(image, find(model), lake=seen)
    rows, columns = seen.aoi_window
    water = ds["water"].values[:, rows, columns] >= 0.5
    cells = confusion(water, probability.values >= 0.5, image["observed"].values)
    table = pd.DataFrame(
        {
            "lake": lake.id,
            "time": ds["time"].values,
            "track": ds["track"].values,
            "state": ds["state"].values,
            "wind": ds["wind"].values,
            "water_km2": ds["water_km2"].values,
            "iou": cells.tp / np.maximum(cells.tp + cells.fp + cells.fn, 1),
        }
    )
    for block in BLOCKS:
        area = lake_area(probability, seen, block=block)
        table[f"low_{block:.0f}"], table[f"high_{block:.0f}"] = area["area_low"].values, area["area_high"].values
    for name in ("area_km2", "area_subpixel_km2", "observed_fraction"):
        table[name] = area[name].values
    return table


def run(model: str, *, lakes: int, dates: int, seed: int = 11) -> pd.DataFrame:
    """All lakes, two at a time."""
    product = str(read_card(find(model)).preprocessing["source"])
    known = simulated_chips.outlines("test")
    jobs = []
    for number, (name, (outline, altitude)) in enumerate(known.items()):
        own = seed * 100_000 + number
        lake = simulated_chips.make_lake(name, outline, altitude, simulated_chips.SPACING[product], own)
        if lake is not None:
            jobs.append((lake, own))
    with ProcessPoolExecutor(2) as pool:
        done = pool.map(partial(measure, product=product, model=model, dates=dates), jobs[:lakes])
        return pd.concat(list(done), ignore_index=True)


def scores(table: pd.DataFrame) -> dict[str, object]:
    """Bias and error over open water that was seen, of lakes that are large enough; what the intervals cover."""
    good = table[(table.state == "open") & (table.observed_fraction > 0.9) & (table.water_km2 >= LARGE)]
    good = good[good.area_km2.notna()]
    found: dict[str, object] = {"passes": len(table), "lakes": table.lake.nunique()}
    found |= {"open, seen, large": len(good), "of lakes": good.lake.nunique()}
    for name in ("area_km2", "area_subpixel_km2"):
        error = 100 * (good[name] / good.water_km2 - 1)
        per_lake = error.groupby(good.lake).mean()
        found[name] = {
            "bias_percent": error.mean(),
            "bias_by_lake_percent": per_lake.mean(),
            "spread_of_lakes_percent": per_lake.std(),
            "rmse_percent": float(np.sqrt((error**2).mean())),
            "median_absolute_percent": error.abs().median(),
        }
    found["median_iou"] = good.iou.median()
    return found


def intervals(table: pd.DataFrame) -> tuple[object, object, float]:
    """The block fitted on every other lake, on all, and what the first covers on the rest."""
    known = table[table.area_km2.notna() & (table.state == "open") & (table.observed_fraction > 0.9)]
    known = known.reset_index(drop=True)

    def fitted(part: pd.DataFrame) -> object:
        areas = {
            block: pd.DataFrame({"area_low": part[f"low_{block:.0f}"], "area_high": part[f"high_{block:.0f}"]})
            for block in BLOCKS
        }
        return fit_block(areas, part.water_km2.to_numpy(), part.lake.to_numpy())

    names = sorted(known.lake.unique())
    half = known.lake.isin(names[::2])
    first, whole = fitted(known[half].reset_index(drop=True)), fitted(known)
    rest = known[~half]
    block = first.block or BLOCKS[-1]
    inside = (rest[f"low_{block:.0f}"] <= rest.water_km2) & (rest.water_km2 <= rest[f"high_{block:.0f}"])
    return first, whole, float(inside.groupby(rest.lake).mean().mean())


def main(model: str, out: Path | None, *, lakes: int, dates: int, fit: bool) -> None:
    """Measure, print, and keep the block."""
    table = run(model, lakes=lakes, dates=dates)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(out, index=False)
    print(json.dumps(scores(table), indent=1, default=float))
    first, whole, held_out = intervals(table)
    print(f"block fitted on every other lake: {first.block} m, covers {100 * held_out:.1f} % on the others")
    print(f"block fitted on all: {whole.block} m; {whole}")
    if fit:
        if model not in SHIPPED:
            raise SystemExit("only a shipped model gets its block")
        if whole.block is None:
            print(f"no block covers enough: the longest that was tried is taken, {BLOCKS[-1]} m")
        path = find(model)
        card = replace(read_card(path), interval_block_m=float(whole.block or BLOCKS[-1]))
        save_model(load_model(path), card, path, half=True)
        print(f"wrote {path}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("--lakes", type=int, default=1000)
    parser.add_argument("--dates", type=int, default=40)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--fit", action="store_true")
    options = parser.parse_args()
    with dask.config.set(scheduler="synchronous"):
        main(options.model, options.out, lakes=options.lakes, dates=options.dates, fit=options.fit)
