"""What a second track adds to a lake's record, and which steps are found: simulated decades, and simulated images.

Areas: decades of a lake whose season, growth, ice and missing passes are drawn. Track 121 sees all of it, track 12 four
fifths. The tracks are fused as they saw the lake, and with the hidden fifth completed by what track 121 saw there, and
compared with track 121 alone through the same smoother, at all passes that both tracks bracket. Beside them the bound:
least squares that knows the noise, that the course is a line and a season, and what track 12 misses, but for a constant
where it is not completed. Sentinel-1B comes and goes, 1C comes in 2025, the processor changes twice: no step is true,
so each that is found is invented.

Images: simulated HyP3 scenes of four lakes. From the 11th pass on, every other pass is of a second platform, which lies
a pixel (20 m) off. Counted: both of its first two passes flagged by registration once the second is there; passes of
the first platform flagged; by how much its areas (Otsu's) differ from those of the same scenes in place. Those
differences then are the step of Sentinel-1C in decades, for the test of steps in areas.

Run: python analyses/fusion_gain.py [OUT] [DRAWS] [IMAGES]; OUT is the folder of the table, DRAWS 400 decades and IMAGES
100 stacks of images by default.
"""

from __future__ import annotations

import sys
from datetime import date, timedelta
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import xarray as xr

import cubekit
from cubekit.lakes import catalogue
from cubekit.passes import PLATFORMS
from cubekit.segmentation import segment
from cubekit.series import lake_area
from cubekit.series.fusion import fuse
from cubekit.series.registration import register
from cubekit.sources.simulated import simulate

YEARS, KM2, HIDDEN, NOISE = 10, 1.5, 0.2, 0.02
REVISIT = 36  # days between passes of a platform on a track: every third repeat
MISSING = 0.1
LAWS = {"seen": "2 % of what the track sees", "whole": "2 % of the lake on both tracks"}
S1A, S1B, S1C = (PLATFORMS.index(f"sentinel-1{letter}") for letter in "abc")
LAKES = {"tsho_rolpa": 121, "chamlang_tsho": 121, "tilicho": 19, "gokyo": 121}
REFERENCE, AFTER = 10, 3
DIRECTIONS = ((0, 1), (0, -1), (1, 0), (-1, 0))


def days_of(rng: np.random.Generator) -> pd.DataFrame:
    """Passes of a decade in open water: day since 2016, track, platform; some are missing."""
    parts = []
    for track, first in ((12, 0.5), (121, 5.0)):
        for platform, begin, end, late in ((S1A, 0, 9.99, 0), (S1B, 0.75, 5.97, 12), (S1C, 9.2, 9.99, 24)):
            days = np.arange(first + late, YEARS * 365.25, REVISIT)
            kept = (days >= begin * 365.25) & (days <= end * 365.25) & (rng.random(days.size) > MISSING)
            parts.append(pd.DataFrame({"day": days[kept], "track": track, "platform": platform}))
    passes = pd.concat(parts).sort_values("day", ignore_index=True)
    year = (passes["day"] // 365.25).astype(int).to_numpy()
    day = passes["day"] % 365.25
    thaw, freeze = rng.normal(140, 8, YEARS)[year], rng.normal(345, 7, YEARS)[year]
    return passes[(day > thaw) & (day < freeze)].reset_index(drop=True)


def course(rng: np.random.Generator, day: np.ndarray, *, restless: bool) -> tuple[np.ndarray, np.ndarray]:
    """Growth of the front and the rest of the area: as `cubekit.sources.simulated` has it; or restless."""
    t = day / 365.25
    growth, height = rng.uniform(0, 0.01), rng.uniform(0.003, 0.015)
    if not restless:
        return KM2 * growth * t, KM2 * (1 + height * np.cos(2 * np.pi * (t - 245 / 365.25)))
    # A season lopsided and different from year to year, and a wandering level, as in alert_curve.py.
    peak = 0.62 + rng.normal(0, 0.02, YEARS + 1)[t.astype(int)]
    heights = 2 * height * (1 + rng.normal(0, 0.2, YEARS + 1))[t.astype(int)]
    away = (t % 1 - peak + 0.5) % 1 - 0.5
    season = heights * np.exp(-((away / np.where(away < 0, 0.12, 0.2)) ** 2))
    wander = np.cumsum(rng.normal(0, 0.005, t.size) * np.sqrt(np.diff(t, prepend=t[0])))
    return KM2 * growth * t, KM2 * (1 + season + wander)


def decade(seed: int, law: str, *, restless: bool = False, displaced: float = 0.0) -> tuple[xr.Dataset, xr.Dataset]:
    """Areas as measured, and completed; the same draw for both laws of noise."""
    rng = np.random.default_rng([2016, seed])
    passes = days_of(rng)
    day, track = passes["day"].to_numpy(), passes["track"].to_numpy()
    front, rest = course(rng, day, restless=restless)
    half = track == 12
    hidden = HIDDEN * rest + front * (rng.random() < HIDDEN)
    truth = front + rest
    error = rng.normal(0, NOISE, day.size)  # of a shore found too far out or in: of all that is seen alike
    step = np.where(passes["platform"] == S1C, 1 + displaced, 1.0)
    seen = (
        np.where(half, truth - hidden, truth) + error * np.where(half & (law == "seen"), truth - hidden, truth)
    ) * step
    year = (day // 365.25).astype(int)
    whole = pd.Series((hidden * (1 + error))[~half]).groupby(year[~half]).mean()
    filled = seen + np.where(half, whole.reindex(range(YEARS), method="nearest").to_numpy()[year], 0)
    processors = np.select([day < 2.2 * 365.25, day < 5.8 * 365.25], ["2.8", "2.9"], "3.4")
    area = xr.Dataset(
        {"area_km2": ("time", seen), "observed_fraction": ("time", np.where(half, 1 - HIDDEN, 1.0))},
        coords={
            "time": np.datetime64("2016-01-01", "ns") + (day * 86400).astype("timedelta64[s]"),
            "track": ("time", track.astype(np.int16)),
            "platform": ("time", passes["platform"].to_numpy().astype(np.int8)),
            "processor": ("time", processors),
            "truth": ("time", truth),
        },
    )
    return area, area.assign(area_km2=("time", filled), area_seen_km2=area["area_km2"])


def error_of(area: xr.Dataset, fused: xr.Dataset) -> float:
    """Mean square error where both tracks bracket, per cent of the lake squared."""
    ends = [area["time"].values[area["track"].values == track][[0, -1]] for track in (12, 121)]
    inside = (area["time"] >= max(a for a, _ in ends)) & (area["time"] <= min(b for _, b in ends))
    return float((((fused["area_km2"] / area["truth"] - 1) * 100) ** 2).where(inside).mean())


def bound(area: xr.Dataset, law: str, tracks: tuple[int, ...], *, level: bool = False) -> float:
    """Mean square error of least squares that knows noise, form of the course, and level of track 12 or not."""
    t = (area["time"].values - area["time"].values[0]) / np.timedelta64(1, "D") / 365.25
    half = area["track"].values == 12
    common = np.column_stack([np.ones(t.size), t - t.mean(), np.sin(2 * np.pi * t), np.cos(2 * np.pi * t)])
    noise = 100 * NOISE * np.where(half & (law == "seen"), 1 - HIDDEN, 1.0)
    design = np.column_stack([common, half]) if 12 in tracks and not level else common
    scaled = (design / noise[:, None])[np.isin(area["track"].values, tracks)]
    covariance = np.linalg.inv(scaled.T @ scaled)[:4, :4]
    return float(np.einsum("ij,jk,ik->i", common, covariance, common).mean())


def decades(draws: int, *, restless: bool) -> pd.DataFrame:
    """Errors and invented steps of every draw."""
    rows = []
    for seed in range(draws):
        row: dict[str, float] = {}
        for law in LAWS:
            measured, completed = decade(seed, law, restless=restless)
            if "alone" not in row:  # track 121 is the same under both laws
                alone = measured.assign(area_km2=measured["area_km2"].where(measured["track"] == 121))
                row |= {"alone": error_of(measured, fuse(alone)), "alone bound": bound(measured, law, (121,))}
            for which, area in (("measured", measured), ("completed", completed)):
                if law == "whole" and (restless or which == "measured"):
                    continue
                both = fuse(area)
                name = f"{law} {which}"
                row[name] = error_of(measured, both)
                row[f"{name} bound"] = bound(measured, law, (12, 121), level=which == "completed")
                row[f"{name} steps"] = float(both["step_found"].any())
                inside = (both["area_low"] <= area["truth"]) & (area["truth"] <= both["area_high"])
                row[f"{name} covered"] = float(inside.mean())
        rows.append(row)
    return pd.DataFrame(rows)


def summary(found: pd.DataFrame, name: str) -> pd.DataFrame:
    """Root mean square errors, their ratios with intervals over the draws, and the share of draws with a step."""
    picks = np.random.default_rng(0).integers(0, len(found), (2000, len(found)))
    rows = []
    for column in [column for column in found if column.split()[-1] in ("measured", "completed")]:
        law, which = column.split()
        alone, fused = found["alone"], found[column]
        again = np.sqrt(fused.to_numpy()[picks].mean(1) / alone.to_numpy()[picks].mean(1))
        row = {"course": name, "noise of a pass": LAWS[law], "track 12": which, "draws": len(found)}
        row |= {"rmse_alone_%": np.sqrt(alone.mean()), "rmse_fused_%": np.sqrt(fused.mean())}
        row |= {"ratio": np.sqrt(fused.mean() / alone.mean())}
        row |= {"low": np.quantile(again, 0.025), "high": np.quantile(again, 0.975)}
        if name == "smooth":
            row["bound"] = np.sqrt(found[f"{column} bound"].mean() / found["alone bound"].mean())
        row |= {"covered": found[f"{column} covered"].mean(), "steps_invented": found[f"{column} steps"].mean()}
        rows.append(row)
    return pd.DataFrame(rows)


def images(stacks: int) -> pd.DataFrame:
    """Stacks of images whose second platform lies off: what registration says, and what the areas do."""
    rng = np.random.default_rng(20)
    rows = []
    for number in range(stacks):
        names = list(LAKES)
        name, seed = names[number % len(names)], number // (5 * len(names))
        lake = catalogue()[name]
        start = date(2017, 1, 1) + timedelta(days=int(rng.integers(0, 4 * 365)))
        end = start + timedelta(days=6 * (REFERENCE + AFTER + 2))
        passes = simulate(lake, start=start, end=end, product="hyp3", seed=seed, tracks=[LAKES[name]])
        passes = passes[["vv", "mask"]].isel(time=slice(REFERENCE + AFTER)).load()
        second = np.arange(passes.sizes["time"]) >= REFERENCE
        second[REFERENCE + 1 :: 2] = False
        passes = passes.assign_coords(platform=("time", np.where(second, S1C, S1A).astype(np.int8)))
        down, right = DIRECTIONS[rng.integers(len(DIRECTIONS))]
        moved = passes.copy()
        for variable in ("vv", "mask"):
            values = passes[variable].values.copy()
            values[second] = np.roll(values[second], (down, right), axis=(1, 2))
            moved[variable] = (passes[variable].dims, values, passes[variable].attrs)
        found = register(moved, lake)
        flagged = found["geolocation_step"].values
        one, other = (
            lake_area(segment(cubekit.prepare(some.isel(time=second), lake, filter="none"), "otsu", lake=lake), lake)[
                "area_km2"
            ].values
            for some in (moved, passes)
        )
        change = np.abs(one / other - 1)
        wrong = np.hypot(
            found["shift_east"].values - 20 * right * second, found["shift_north"].values + 20 * down * second
        )
        rows.append(
            {
                "lake": name,
                "found": bool(flagged[second].all()),
                "false": int(flagged[~second].sum()),
                "others": int((~second[REFERENCE:]).sum()),
                "worst_m": float(wrong[REFERENCE:].max()),
                "similarity": float(found["similarity"][REFERENCE:].min()),
                "area_change": float(np.max(change[np.isfinite(change)], initial=0)),
            }
        )
    return pd.DataFrame(rows)


def silent(draws: int, changes: np.ndarray) -> float:
    """Share of decades in which the areas show a step of the displaced platform."""
    rng = np.random.default_rng(3)
    count = 0
    for seed in range(draws):
        fused = fuse(decade(10_000 + seed, "seen", displaced=float(rng.choice(changes)) * rng.choice((-1, 1)))[1])
        count += bool(fused["step_found"].sel(step="platform sentinel-1c"))
    return count / draws


def main(out: Path, draws: int, stacks: int) -> None:
    """Print the tables and write them."""
    out.mkdir(parents=True, exist_ok=True)
    tables = [summary(decades(draws, restless=one), name) for name, one in (("smooth", False), ("restless", True))]
    table = pd.concat(tables, ignore_index=True)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}", na_rep=""))
    table.round(4).to_csv(out / "fusion_gain.csv", index=False)
    with dask.config.set(scheduler="synchronous"):
        found = images(stacks)
    found.round(4).to_csv(out / "geolocation_steps.csv", index=False)
    print(found.groupby("lake")[["found", "false", "worst_m", "similarity"]].agg("mean").round(3).to_string())
    changes = found["area_change"].to_numpy()
    print(
        f"a step of 20 m found within two passes of the platform: {found['found'].mean():.1%} of {len(found)} stacks; "
        f"passes in place flagged: {found['false'].sum()} of {found['others'].sum()}; areas change by "
        f"{100 * np.median(changes):.2f} % (median), {100 * changes.max():.2f} % at most"
    )
    print(f"step of that platform found in areas: {silent(draws, changes):.1%} of {draws} decades")
    print(f"wrote {out / 'fusion_gain.csv'} and {out / 'geolocation_steps.csv'}")


if __name__ == "__main__":
    arguments = sys.argv[1:]
    numbers = [int(number) for number in arguments[1:]]
    main(Path(arguments[0] if arguments else "out/fusion_gain"), *numbers, *(400, 100)[len(numbers) :])
