"""From the table of areas to seasons and trends of many lakes at once, against pandas and scipy, series by series.

`python -m benchmarks.record [LAKES]` times 10,000 lakes of 300 dates and says how loaded the machine was.
"""

from __future__ import annotations

import os
import sys
import time

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import kendalltau, theilslopes

from cubekit.series import summer_maxima, trend

CLAIM = "seasons and trends of a table of areas (passes)"
PEER = "pandas groupby, scipy's theilslopes and kendalltau"
DATES = 300
LAKES = 10_000


def make(size: int) -> pd.DataFrame:
    """Table of as many lakes: a row a pass, every 12 days on two tracks by turns, a tenth not known."""
    random = np.random.default_rng(0)
    times = np.datetime64("2016-01-01T00:12", "s") + (12 * np.arange(DATES)).astype("timedelta64[D]")
    growth = random.normal(0.01, 0.01, (size, 1)) * np.arange(DATES) / 30.4
    area = 1.5 + growth + random.normal(0, 0.03, (size, DATES))
    area[random.random(area.shape) < 0.1] = np.nan
    rows = {
        "lake": np.repeat(np.arange(size), DATES),
        "time": np.tile(times, size),
        "track": np.tile(np.where(np.arange(DATES) % 2, 12, 121), size),
        "area_km2": area.ravel(),
        "observed_fraction": random.uniform(0.92, 1, area.size),
    }
    return pd.DataFrame(rows)


def as_dataset(table: pd.DataFrame) -> xr.Dataset:
    """Areas over lake and time, as `summer_maxima` takes them."""
    track = table.groupby("time")["track"].first()
    wide = table.set_index(["lake", "time"])[["area_km2", "observed_fraction"]].to_xarray()
    return wide.assign_coords(track=("time", track.to_numpy()))


def ours(table: pd.DataFrame) -> np.ndarray:
    """Cubekit: slope and plain p of the medians, lake and track; the seasons and trends come with all they hold."""
    found = trend(summer_maxima(as_dataset(table))["median"])
    return found[["slope", "p_independent"]].to_array().values


def peer(table: pd.DataFrame) -> np.ndarray:
    """The peer: only the medians of the same seasons, only slope and p."""
    days = table["time"].dt.month * 100 + table["time"].dt.day
    inside = table[days.between(701, 930)]
    medians = inside.groupby(["lake", "track", inside["time"].dt.year])["area_km2"].median().unstack()
    years, found = medians.columns.to_numpy(float), []
    for values in medians.to_numpy():
        known = np.isfinite(values)
        slope = theilslopes(values[known], years[known]).slope
        found.append((slope, kendalltau(years[known], values[known], method="exact").pvalue))
    return np.array(found).T.reshape(2, -1, medians.index.levshape[1])


def megapixels(table: pd.DataFrame) -> float:
    """Work of one call: passes, not pixels, in millions."""
    return len(table) / 1e6


def main(lakes: int) -> None:
    """Time every step of one run."""
    table = make(lakes)
    marks = [time.perf_counter()]
    begin = time.process_time()
    area = as_dataset(table)
    marks.append(time.perf_counter())
    seasons = summer_maxima(area)
    marks.append(time.perf_counter())
    for statistic in ("maximum", "fair_maximum", "percentile_90", "median"):
        trend(seasons[statistic])
    marks.append(time.perf_counter())
    table_s, season_s, trend_s = np.diff(marks)
    used = time.process_time() - begin
    print(f"{lakes} lakes x {DATES} dates, two tracks: {marks[-1] - marks[0]:.1f} s ({used:.1f} s of processor)")
    print(f"table {table_s:.1f} s, seasons {season_s:.1f} s, trends of four statistics {trend_s:.1f} s")
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else LAKES)
