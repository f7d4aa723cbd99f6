"""How often `trend` finds what isn't there, misses what is, and how often its interval holds the truth.

Series of 10 yearly and 60 monthly values, without and with autocorrelation (AR(1) of 0.4), without a trend and with one
of a standard deviation in five years. "Too few seasons" counts as no trend. A second table has the power for strong
trends, straight and curved, of independent values, beside plain Mann-Kendall's; the figure draws it over the slope.

Run: python analyses/false_positive_rates.py [DRAWS] [SEED] [OUT]; OUT defaults to docs, seconds to minutes.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib as mpl
import numpy as np
import pandas as pd
import xarray as xr

from cubekit.series import trend

mpl.use("Agg")
import matplotlib.pyplot as plt

YEARS = {10: np.arange(10.0), 60: np.arange(60) / 12}
WEAK, STRONG, PLAIN_TO_SEE = 0.2, (0.5, 1.0), 5.0
SEED = 20_150_609
SHAPES = {
    "straight": lambda t: t,
    "saturating": lambda t: np.expm1(-3 * t) / np.expm1(-3),
    "accelerating": lambda t: np.expm1(3 * t) / np.expm1(3),
    "square root": np.sqrt,
    "smooth step": lambda t: 1 / (1 + np.exp(-14 * (t - 0.5))),
}


def draw(rng: np.random.Generator, phi: float, draws: int, n: int) -> np.ndarray:
    """Stationary AR(1) series of variance 1."""
    values = rng.normal(size=(draws, n))
    for step in range(1, n):
        values[:, step] = phi * values[:, step - 1] + np.sqrt(1 - phi**2) * values[:, step]
    return values


def over_years(values: np.ndarray) -> xr.DataArray:
    """As a series of decimal years."""
    years = 2015 + YEARS[values.shape[1]]
    return xr.DataArray(values, coords={"year": years}, dims=("draw", "year"))


def growth(shape: str, slope: float, n: int) -> np.ndarray:
    """Growth of some shape that is, from the first year to the last, as much as the slope's."""
    years = YEARS[n]
    return slope * years[-1] * SHAPES[shape](years / years[-1])


def power(values: np.ndarray) -> tuple[float, float]:
    """Share of the series found to increase, by `trend` and by plain Mann-Kendall."""
    series = over_years(values)
    both = trend(series), trend(series, autocorrelation=0)
    return tuple(float((found["verdict"] == 2).mean()) for found in both)


def row(phi: float, n: int, draws: int, seed: int) -> dict[str, float]:
    """One row of the first table, shares in per cent."""
    noise = draw(np.random.default_rng((seed, n, round(10 * phi))), phi, draws, n)
    still, growing = (over_years(values) for values in (noise, noise + WEAK * YEARS[n]))
    found, plain = (trend(still), trend(growing)), [trend(one, autocorrelation=0) for one in (still, growing)]
    covered = [(part["slope_low"] <= WEAK) & (part["slope_high"] >= WEAK) for part in (found[1], plain[1])]
    ours, theirs = power(noise + WEAK * YEARS[n])
    return {
        "n": n,
        "AR(1)": phi,
        "false positives": 100 * float((found[0]["verdict"] >= 2).mean()),
        "plain MK": 100 * float((plain[0]["verdict"] >= 2).mean()),
        "coverage": 100 * float(covered[0].mean()),
        "plain coverage": 100 * float(covered[1].mean()),
        "too few": 100 * float((found[0]["verdict"] == 0).mean()),
        "power": 100 * ours,
        "plain power": 100 * theirs,
        "power ratio": ours / theirs,
    }


def strong(draws: int, seed: int) -> pd.DataFrame:
    """Power for strong trends of independent values, per cent."""
    rows = []
    for n in YEARS:
        noise = draw(np.random.default_rng((seed, n, 77)), 0.0, draws, n)
        for slope in (*STRONG, PLAIN_TO_SEE):
            for shape in SHAPES:
                ours, theirs = power(noise + growth(shape, slope, n))
                one = {"n": n, "sd a year": slope, "growth": shape, "power": 100 * ours, "plain power": 100 * theirs}
                rows.append(one | {"power ratio": ours / theirs})
    return pd.DataFrame(rows)


def figure(path: Path, draws: int, seed: int) -> None:
    """Draw the power of ten summers over the slope."""
    slopes = np.array([0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1, 1.25, 1.5, 2])
    noise = draw(np.random.default_rng((seed, 10, 78)), 0.0, draws, 10)
    fig, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
    for shape, line in (("straight", "-"), ("saturating", "--"), ("smooth step", ":")):
        both = np.array([power(noise + growth(shape, slope, 10)) for slope in slopes])
        ax.plot(slopes, 100 * both[:, 1], line, color="0.65", lw=1.5, label=f"{shape}, plain Mann-Kendall")
        ax.plot(slopes, 100 * both[:, 0], line, color="0", lw=1.5, marker=".", label=f"{shape}, trend")
    ax.set(xlabel="growth (standard deviations of a summer, per year)", ylabel="found to increase (%)", ylim=(0, 101))
    ax.legend(fontsize=8, frameon=False, loc="lower right")
    ax.set_title(f"Ten summers, independent noise, {draws} series a point", fontsize=9)
    path.parent.mkdir(parents=True, exist_ok=True)
    fig.savefig(path, dpi=110, metadata={"Software": None})
    plt.close(fig)


def main(draws: int, seed: int, out: Path) -> None:
    """Print the tables, write them and the figure."""
    tables = {
        "false_positive_rates": pd.DataFrame([row(phi, n, draws, seed) for n in YEARS for phi in (0.0, 0.4)]),
        "trend_power": strong(draws, seed),
    }
    print(f"{draws} draws each, seed {seed}, per cent; nominal 5 % and 95 %")
    (out / "tables").mkdir(parents=True, exist_ok=True)
    for name, table in tables.items():
        print(f"\n{table.round(2).to_string(index=False)}")
        table.round(3).to_csv(out / "tables" / f"{name}.csv", index=False)
    figure(out / "images" / "trend_power.png", draws, seed)
    print(f"\nwrote two tables and a figure to {out}")


if __name__ == "__main__":
    given = dict(enumerate(sys.argv[1:]))
    main(int(given.get(0, 2000)), int(given.get(1, SEED)), Path(given.get(2, "docs")))
