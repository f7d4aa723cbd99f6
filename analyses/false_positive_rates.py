"""How often `trend` finds what isn't there, misses what is, and how often its interval holds the truth.

Series of 10 and 60 values, without and with autocorrelation (AR(1) of 0.4), without a trend and with one of a standard
deviation in five years (10 yearly values; of 60, monthly ones). "Too few seasons" counts as no trend.

Run: python analyses/false_positive_rates.py [DRAWS] [OUT.csv]
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from cubekit.series import trend

PER_YEAR = {10: 1, 60: 12}
SEED = 20_150_609


def draw(rng: np.random.Generator, phi: float, draws: int, n: int) -> np.ndarray:
    """Stationary AR(1) series of variance 1."""
    values = rng.normal(size=(draws, n))
    for step in range(1, n):
        values[:, step] = phi * values[:, step - 1] + np.sqrt(1 - phi**2) * values[:, step]
    return values


def over_years(values: np.ndarray, per_year: int) -> xr.DataArray:
    """As a series of decimal years."""
    years = 2015 + np.arange(values.shape[1]) / per_year
    return xr.DataArray(values, coords={"year": years}, dims=("draw", "year"))


def row(phi: float, n: int, draws: int) -> dict[str, float]:
    """One row of the table, shares in per cent."""
    rng = np.random.default_rng((SEED, n, round(10 * phi)))
    noise = draw(rng, phi, draws, n)
    growth = 0.2 * np.arange(n) / PER_YEAR[n]  # a standard deviation in five years
    still, growing = (over_years(values, PER_YEAR[n]) for values in (noise, noise + growth))
    found, found_growing = trend(still), trend(growing)
    plain = trend(still, autocorrelation=0), trend(growing, autocorrelation=0)
    covered = (found_growing["slope_low"] <= 0.2) & (found_growing["slope_high"] >= 0.2)
    naive = (plain[1]["slope_low"] <= 0.2) & (plain[1]["slope_high"] >= 0.2)
    power, naive_power = (float((one["verdict"] == 2).mean()) for one in (found_growing, plain[1]))
    return {
        "n": n,
        "AR(1)": phi,
        "false positives": 100 * float((found["verdict"] >= 2).mean()),
        "plain MK": 100 * float((plain[0]["verdict"] >= 2).mean()),
        "coverage": 100 * float(covered.mean()),
        "plain coverage": 100 * float(naive.mean()),
        "too few": 100 * float((found["verdict"] == 0).mean()),
        "power": 100 * power,
        "plain power": 100 * naive_power,
        "power ratio": power / naive_power,
    }


def main(draws: int, out: Path | None) -> None:
    """Print the table."""
    table = pd.DataFrame([row(phi, n, draws) for n in (10, 60) for phi in (0.0, 0.4)])
    print(f"{draws} draws each, per cent; nominal 5 % and 95 %")
    print(table.round(2).to_string(index=False))
    if out is not None:
        table.to_csv(out, index=False)


if __name__ == "__main__":
    main(
        int(sys.argv[1]) if len(sys.argv) > 1 else 2000,
        Path(sys.argv[2]) if len(sys.argv) > 2 else None,
    )
