"""The demonstration: a simulated archive with known water, run like a real one, and held against its truth."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd

from cubekit.config import Study
from cubekit.pipeline import Progress, run
from cubekit.report import Report
from cubekit.series import read_csv
from cubekit.sources.simulated import read_truth

LAKES = ("tsho_rolpa", "gokyo")
START, END = date(2016, 1, 1), date(2025, 12, 31)
ARCHIVE = "seed=7&revisit=36"


def demo_study(folder: str | Path) -> Study:
    """The study of the demonstration: two lakes, two tracks, a decade at every third repeat.

    Parameters
    ----------
    folder
        Where everything goes, the simulated archive included.
    """
    out = Path(folder)
    return Study.parse(
        {
            "study": {"name": "demonstration", "out": out},
            "lake": [{"id": name} for name in LAKES],
            "source": {"uri": f"simulated:{out / 'archive'}?{ARCHIVE}"},
            "period": {"start": START, "end": END},
        }
    )


def demo(folder: str | Path, *, scheduler: str | None = None, progress: Progress | None = None) -> Report:
    """Write the demonstration's study, and run it.

    Parameters
    ----------
    folder
        Where everything goes.
    scheduler, progress
        As in `cubekit.run`.
    """
    study = demo_study(folder)
    study.study.out.mkdir(parents=True, exist_ok=True)
    return run(study, scheduler, progress=progress)


def against_truth(report: Report) -> pd.DataFrame:
    """Recovered areas beside the simulated water.

    Parameters
    ----------
    report
        Of a run on a simulated archive.

    Returns
    -------
    pandas.DataFrame
        One row a pass: lake, time, track, area_km2, area_low, area_high, area_subpixel_km2, observed_fraction, the
        truth's water_km2 and state (open, ice, thaw), error_percent (of area_km2; NaN where the area isn't known).
    """
    columns = ["lake", "time", "track", "area_km2", "area_low", "area_high", "area_subpixel_km2", "observed_fraction"]
    areas = read_csv(next(iter(report.lakes.values())).files["areas"])[columns]
    truth = pd.concat([read_truth(report.out / "archive" / name) for name in report.lakes])
    truth["time"] = truth["time"].dt.tz_localize("UTC")
    table = areas.merge(
        truth[["lake", "time", "track", "water_km2", "state"]], on=["lake", "time", "track"], how="left"
    )
    table["error_percent"] = 100 * (table["area_km2"] / table["water_km2"] - 1)
    return table


def median_error(table: pd.DataFrame) -> float:
    """Median over the passes of the absolute error, per cent; passes whose area isn't known don't count."""
    return float(np.nanmedian(np.abs(table["error_percent"])))
