"""What losing half of the passes does to the statistics of a season, without any change of the lake.

2,000 simulated records of 2016 to 2025: 16 passes a summer of a lake that doesn't change, areas of 3 % noise; in a
second version every other pass of 2022 to 2025 is gone, as when Sentinel-1B was lost. Prints by how much each statistic
of 2022 to 2025 shifts (mean over the records, and the standard deviation between records), beside what theory says of
the maximum, and draws the bias of each statistic over the number of passes.

Run: python analyses/season_statistic_bias.py [FIGURE]; some seconds.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr
from scipy import integrate, stats

from cubekit.series.season import summer_maxima

mpl.use("Agg")
import matplotlib.pyplot as plt

DRAWS, YEARS, PASSES, NOISE, LOOKS = 2000, np.arange(2016, 2026), 16, 0.03, 4
KINDS = {
    "maximum": ("maximum", "o", "-"),
    "percentile_90": ("90th percentile", "^", ":"),
    "fair_maximum": (f"fair maximum (of {LOOKS})", "s", "--"),
    "median": ("median", "x", "-."),
}


def records(passes: int, draws: int, rng: np.random.Generator, *, cycle: float = 0.0, years=YEARS) -> xr.Dataset:
    """Areas of lakes of 1 km2 that don't change, but for their season and noise: dims lake and time."""
    days = np.linspace(0, 88, passes).astype("timedelta64[D]").astype("timedelta64[s]")
    times = np.concatenate([np.datetime64(f"{year}-07-02", "s") + days for year in years])
    season = 1 + cycle * np.sin(np.pi * np.tile(np.arange(passes), len(years)) / max(passes - 1, 1))
    area = season * (1 + rng.normal(0, NOISE, (draws, len(times))))
    return xr.Dataset(
        {"area_km2": (("lake", "time"), area), "observed_fraction": (("lake", "time"), np.ones_like(area))},
        coords={"time": times, "track": ("time", np.full(len(times), 121))},
    )


def halved(area: xr.Dataset, rng: np.random.Generator, *, every_other: bool) -> xr.Dataset:
    """Without half of the passes from 2022 on: every other, or drawn at random for each lake and year."""
    late = area["time"].dt.year.values >= 2022
    shape = area["area_km2"].shape
    order = np.arange(shape[1]) % 2 if every_other else rng.random((shape[0], shape[1] // PASSES, PASSES))
    if not every_other:
        order = (np.argsort(np.argsort(order, axis=-1), axis=-1) % 2).reshape(shape)
    return area.assign(area_km2=area["area_km2"].where(~(late & (order == 1))))


def largest_of(count: int) -> float:
    """Mean of the largest of some standard normal numbers."""
    density = lambda x: x * count * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1)  # noqa: E731
    return float(integrate.quad(density, -10, 10)[0])


def shifts(full: xr.Dataset, half: xr.Dataset) -> pd.DataFrame:
    """Shift of the mean of 2022 to 2025 of every statistic, per cent."""
    before, after = (
        summer_maxima(area, looks=LOOKS).isel(track=0).sel(year=slice(2022, 2025)) for area in (full, half)
    )
    rows = {}
    for name, (label, _, _) in KINDS.items():
        change = 100 * (after[name].mean("year") / before[name].mean("year") - 1)
        rows[label] = {"mean %": float(change.mean()), "sd %": float(change.std())}
    return pd.DataFrame(rows).T


def figure(path: Path, rng: np.random.Generator) -> None:
    """Draw the bias of every statistic over the number of passes."""
    counts = (4, 5, 6, 8, 10, 12, 16, 20, 24, 32)
    years = np.arange(2000, 2004)
    found = [summer_maxima(records(n, DRAWS, rng, years=years), looks=LOOKS).isel(track=0) for n in counts]
    fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    theory = np.arange(4, 33)
    ax.plot(theory, [100 * NOISE * largest_of(int(n)) for n in theory], color="0.7", lw=4, label="theory, maximum")
    for shade, (name, (label, marker, line)) in zip(("0", "0.25", "0", "0.4"), KINDS.items(), strict=True):
        bias = [100 * (float(part[name].mean()) - 1) for part in found]
        ax.plot(counts, bias, line, marker=marker, color=shade, ms=4, lw=1, label=label)
    ax.axvspan(7.5, 8.5, color="0.93", zorder=0)
    ax.axvspan(15.5, 16.5, color="0.93", zorder=0)
    ax.set(xlabel="passes a season", ylabel="mean above the true area (%)", xlim=(3, 33), ylim=(-0.4, None))
    ax.legend(fontsize=8, frameon=False, ncols=2, loc="center right", bbox_to_anchor=(1, 0.3))
    ax.set_title(f"A lake that doesn't change, {NOISE:.0%} noise a pass, {DRAWS} records", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(fig)


def main(path: Path) -> None:
    """Print and draw."""
    rng = np.random.default_rng(20220101)
    for cycle in (0.0, 0.02):
        full = records(PASSES, DRAWS, rng, cycle=cycle)
        for every_other in (True, False):
            lost = "every other pass" if every_other else "a random half"
            print(f"\n{lost} of 2022-2025 lost, seasonal cycle {cycle:.0%}")
            print(shifts(full, halved(full, rng, every_other=every_other)).round(3).to_string())
    expected = NOISE * (largest_of(PASSES // 2) - largest_of(PASSES)) / (1 + NOISE * largest_of(PASSES))
    print(f"\ntheory, maximum without a cycle: {100 * expected:.3f} %")
    figure(path, rng)
    print(f"wrote {path}, {path.stat().st_size / 1000:.0f} kB")


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path("docs/images/season_statistic_bias.png"))
