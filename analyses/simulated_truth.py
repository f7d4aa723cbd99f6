"""Areas against simulated truth: bias, error and what the intervals cover, on lakes that no training saw.

Lakes have the outlines that `simulated_chips` keeps for testing (0.4 km2 and more), in terrain of their own. The truth
is simulated; the user's lake has an outline as an inventory may have it, of another year and not quite right. Each
pass goes through the package's verbs: `prepare`, `equalize`, `segment`, `lake_area`.

`--fit` does the same on the lakes for validation: it moves the logits of a shipped model so that mean area over open
water has no bias (lakes alike), then fits the length of the intervals' blocks for its card. Without it the lakes for
testing tell how good the model is.

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
import xarray as xr

from cubekit.lakes import Lake
from cubekit.preprocess import equalize, prepare
from cubekit.segmentation import load_model, read_card, save_model, segment
from cubekit.segmentation.calibration import fold_temperature
from cubekit.segmentation.metrics import confusion
from cubekit.segmentation.shipped import SHIPPED, find
from cubekit.series import lake_area
from cubekit.series._interval import fit_block
from cubekit.sources import simulated

BLOCKS = tuple(float(block) for block in np.geomspace(100, 5000, 12).round())
LEVELS = tuple(float(level) for level in np.arange(0.15, 0.601, 0.05).round(2))
LARGE = 0.4


def measure(job: tuple[object, int], *, product: str, model: str, dates: int, fit: str) -> pd.DataFrame:
    """One lake: a row a pass, with the truth, the areas and their bounds; by every level or block that is tried."""
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
    probability = segment(image, find(model), lake=seen).compute()
    threshold = float(probability.attrs["model_threshold"])
    rows, columns = seen.aoi_window
    water = ds["water"].values[:, rows, columns] >= 0.5
    cells = confusion(water, probability.values >= threshold, image["observed"].values)
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
    for level in LEVELS if fit == "level" else ():
        table[f"area_{level:.2f}"] = areas(probability, seen, level)["area_km2"]
    for block in BLOCKS if fit == "block" else ():
        bounds = areas(probability, seen, threshold, "area_low", "area_high", block=block)
        table[f"low_{block:.0f}"], table[f"high_{block:.0f}"] = bounds["area_low"], bounds["area_high"]
    return table.assign(**areas(probability, seen, threshold, "area_low", "area_high"))


def areas(
    probability: xr.DataArray, lake: Lake, threshold: float, *bounds: str, block: float | None = None
) -> dict[str, np.ndarray]:
    """Areas of every pass, and what was seen."""
    area = lake_area(probability, lake, threshold=threshold, block=block)
    return {name: area[name].values for name in ("area_km2", "area_subpixel_km2", "observed_fraction", *bounds)}


def run(model: str, *, lakes: int, dates: int, fit: str = "") -> pd.DataFrame:
    """All lakes, two at a time; to fit a ``level`` or a ``block``, every large one for validation in four terrains."""
    product = str(read_card(find(model)).preprocessing["source"])
    known = simulated_chips.outlines("validation" if fit else "test")
    jobs = []
    for seed in (12, 13, 14, 15) if fit else (11,):
        for number, (name, (outline, altitude)) in enumerate(known.items()):
            own = seed * 100_000 + number
            lake = simulated_chips.make_lake(name, outline, altitude, simulated_chips.SPACING[product], own)
            if lake is not None and (not fit or lake.project(outline).area >= 0.3e6):
                jobs.append((replace(lake, id=f"{name}_{seed}"), own))
    with ProcessPoolExecutor(2) as pool:
        done = pool.map(partial(measure, product=product, model=model, dates=dates, fit=fit), jobs[:lakes])
        return pd.concat(list(done), ignore_index=True)


def counted(table: pd.DataFrame) -> pd.DataFrame:
    """Open water that was seen, of lakes that are large enough."""
    good = table[(table.state == "open") & (table.observed_fraction > 0.9) & (table.water_km2 >= LARGE)]
    return good[good.area_km2.notna()].reset_index(drop=True)


def scores(table: pd.DataFrame) -> dict[str, object]:
    """Bias and error of what counts; what the intervals cover."""
    good = counted(table)
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
    if "area_low" in good:
        inside = ((good.area_low <= good.water_km2) & (good.water_km2 <= good.area_high)).groupby(good.lake).mean()
        drawn = np.random.default_rng(0).choice(inside.to_numpy(), (5000, len(inside))).mean(axis=1)
        found["covered_percent"] = 100 * inside.mean()
        found["covered_percent_interval"] = (100 * np.percentile(drawn, [2.5, 97.5])).tolist()
        found["median_width_percent"] = (100 * (good.area_high - good.area_low) / good.water_km2).median()
    return found


def best_level(table: pd.DataFrame) -> float:
    """The probability from which lakes have, on average, the area that they have."""
    good = counted(table)
    bias = [(good[f"area_{level:.2f}"] / good.water_km2 - 1).groupby(good.lake).mean().mean() for level in LEVELS]
    print("bias by level, per cent:", dict(zip(LEVELS, np.round(100 * np.array(bias), 2).tolist(), strict=True)))
    return float(np.interp(0, bias[::-1], LEVELS[::-1]))


def best_block(table: pd.DataFrame) -> float:
    """Whose intervals cover 95 % of what counts, or the longest that was tried."""
    good = counted(table)
    bounds = {
        block: good[[f"low_{block:.0f}", f"high_{block:.0f}"]].set_axis(["area_low", "area_high"], axis=1)
        for block in BLOCKS
    }
    found = fit_block(bounds, good.water_km2.to_numpy(), good.lake.to_numpy())
    print(found)
    return float(found.block or BLOCKS[-1])


def main(model: str, out: Path | None, *, lakes: int, dates: int, fit: bool) -> None:
    """Measure, print, and keep the block."""
    if fit and model not in SHIPPED:
        raise SystemExit("only a shipped model is fitted")
    if fit:
        path = find(model)
        level = best_level(run(model, lakes=lakes, dates=dates, fit="level"))
        network, card = load_model(path), read_card(path)
        fold_temperature(network, 1.0, shift=float(np.log(1 / level - 1)))
        save_model(network, card, path, half=True)
        block = best_block(run(model, lakes=lakes, dates=dates, fit="block"))
        save_model(network, replace(card, interval_block_m=block), path, half=True)
        print(f"wrote {path}: what was water from {level:.3f} on is so from 0.5 on; block {block:g} m")
        return
    table = run(model, lakes=lakes, dates=dates)
    if out is not None:
        out.parent.mkdir(parents=True, exist_ok=True)
        table.to_csv(out, index=False)
    print(json.dumps(scores(table), indent=1, default=float))


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
