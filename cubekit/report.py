"""What a run made: in memory, as the table that it ends with, and as files with their provenance."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Container, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr

from cubekit import series
from cubekit.config import Study
from cubekit.cube import AppendReport
from cubekit.files import replacing

MAXIMA = (
    "lake",
    "track",
    "year",
    "maximum",
    "median",
    "passes",
    "passes_excluded",
    "time_of_maximum",
    "observed_fraction",
)
TRENDS = ("lake", "statistic", "track", "slope", "slope_low", "slope_high", "intercept", "p_value", "n", "verdict")
"""Columns of the tables of maxima and trends."""

STATISTICS = ("maximum", "median")
"""Statistics of a season whose trends are computed: the paper's, and one that is fair to the number of passes."""

FAIR = "median"
"""The statistic whose trend heads the results."""


class SummaryRow(NamedTuple):
    """One lake and track of the table that a run ends with.

    Parameters
    ----------
    lake, track
        Which.
    passes, known
        All passes, and those whose area is known.
    seen
        The most that the track sees of the lake zone; below 1 its areas are lower bounds.
    latest
        The newest pass whose area is known.
    area_km2, area_low, area_high
        Its area; NaN where there is none.
    trend
        Slope of the summer medians and its 95 % interval, km2 per year, as text. Not of the maxima: these grow with the
        number of passes in a summer, which alone made one of the real lakes "grow".
    verdict
        What the trend's test says.
    """

    lake: str
    track: int
    passes: int
    known: int
    seen: float
    latest: pd.Timestamp | None
    area_km2: float
    area_low: float
    area_high: float
    trend: str
    verdict: str


@dataclass
class LakeReport:
    """What a run made of one lake.

    Parameters
    ----------
    cube, zarr
        Paths of the living cube and the published Zarr.
    snapshot
        Of the cube, when the results were made.
    append
        What became of the passes.
    model, model_hash, preprocessing
        What the areas were made with.
    area, maxima
        Results, in memory. Maxima are None where no pass lies in the season.
    trends
        By statistic of the season, of `STATISTICS`; empty where no pass lies in the season.
    files
        Further paths.
    """

    cube: Path
    zarr: Path
    snapshot: str
    append: AppendReport
    model: str
    model_hash: str
    preprocessing: str
    area: xr.Dataset
    maxima: xr.Dataset | None
    trends: dict[str, xr.Dataset]
    files: dict[str, Path] = field(default_factory=dict)


@dataclass
class Report:
    """What a run made.

    Parameters
    ----------
    out
        The study's folder.
    lakes
        Results by lake id.
    failed
        Errors by lake id: one lake that fails does not end the others.
    """

    out: Path
    lakes: dict[str, LakeReport] = field(default_factory=dict)
    failed: dict[str, Exception] = field(default_factory=dict)

    def rows(self) -> list[SummaryRow]:
        """The summary, one row a lake and track."""
        return [row for name, lake in self.lakes.items() for row in _summary(name, lake)]

    def table(self) -> pd.DataFrame:
        """The summary as a table, with the columns of `SummaryRow`."""
        return pd.DataFrame(self.rows(), columns=list(SummaryRow._fields))


def write_results(study: Study, report: Report) -> None:
    """Write the tables of a run, the study, and what the results were made of.

    Parameters
    ----------
    study
        What was run.
    report
        What came out; the paths of the tables are added to it. When every lake has failed nothing is written: what is
        there belongs to an earlier run.
    """
    if not report.lakes:
        return
    out = study.study.out
    with replacing(out / "study.toml") as temporary:
        temporary.write_text(study.dump(), encoding="utf-8")
    by_source: dict[str, dict[str, LakeReport]] = {}
    for name, lake in report.lakes.items():
        by_source.setdefault(lake.cube.parent.name, {})[name] = lake
    for source, results in by_source.items():
        folder = out / "series" / source
        with _keeping(folder / "areas.csv", report.failed) as path:
            series.write_csv({name: lake.area for name, lake in results.items()}, path)
        with _keeping(folder / "maxima.csv", report.failed) as path:
            maxima = [({"lake": name}, lake.maxima) for name, lake in results.items() if lake.maxima is not None]
            _write_table(maxima, MAXIMA, path)
        with _keeping(folder / "trends.csv", report.failed) as path:
            trends = [
                ({"lake": name, "statistic": which}, trend)
                for name, lake in results.items()
                for which, trend in lake.trends.items()
            ]
            _write_table(trends, TRENDS, path)
        for lake in results.values():
            lake.files |= {name: folder / f"{name}.csv" for name in ("areas", "maxima", "trends")}
    with replacing(out / "provenance.json") as temporary:
        temporary.write_text(json.dumps(_provenance(study, report), indent=2, sort_keys=True) + "\n")


@contextmanager
def _keeping(path: Path, failed: Container[str]) -> Iterator[Path]:
    """Replace a table, but keep the rows of lakes that failed this time: what was known of them is still known."""
    old = path.read_text(encoding="utf-8").splitlines(keepends=True)[1:] if path.is_file() else []
    with replacing(path) as temporary:
        yield temporary
        with temporary.open("a", encoding="utf-8") as file:
            file.writelines(line for line in old if line.partition(",")[0] in failed)


def _write_table(tables: Sequence[tuple[dict[str, str], xr.Dataset]], columns: Sequence[str], path: Path) -> None:
    """Write datasets below each other, each with its labels as columns before its own."""
    frames = [data.reset_coords(drop=True).to_dataframe().reset_index().assign(**labels) for labels, data in tables]
    table = pd.concat(frames) if frames else pd.DataFrame(columns=list(columns))
    if "verdict" in table:
        table["verdict"] = [series.VERDICTS[int(code)] for code in table["verdict"]]
    table[list(columns)].to_csv(path, index=False, date_format="%Y-%m-%dT%H:%M:%SZ")


def _provenance(study: Study, report: Report) -> dict[str, Any]:
    from cubekit import __version__

    return {
        "cubekit": __version__,
        "study_sha256": hashlib.sha256(study.dump().encode()).hexdigest(),
        "lakes": {
            name: {
                "cube": str(lake.cube),
                "snapshot": lake.snapshot,
                "model": lake.model,
                "model_hash": lake.model_hash,
                "preprocessing": json.loads(lake.preprocessing),
                "passes": int(lake.area.sizes["time"]),
            }
            for name, lake in report.lakes.items()
        },
        "failed": {name: f"{type(error).__name__}: {error}" for name, error in report.failed.items()},
    }


def _summary(name: str, lake: LakeReport) -> Iterator[SummaryRow]:
    for track in np.unique(lake.area["track"].values).tolist():
        area = lake.area.isel(time=np.flatnonzero(lake.area["track"].values == track))
        places = np.flatnonzero(area["area_km2"].notnull().values)
        newest = area.isel(time=places[-1]) if len(places) else None
        km2, low, high = (
            np.nan if newest is None else float(newest[which]) for which in ("area_km2", "area_low", "area_high")
        )
        trend, verdict = "not known", "no summer pass"
        if lake.trends and track in lake.trends[FAIR]["track"].values:
            one = lake.trends[FAIR].sel(track=track)
            verdict = series.VERDICTS[int(one["verdict"])].replace("_", " ")
            if np.isfinite(float(one["slope"])):
                slope, least, most = (float(one[part]) for part in ("slope", "slope_low", "slope_high"))
                trend = f"{slope:+.4f} ({least:+.4f} to {most:+.4f})"
        yield SummaryRow(
            lake=name,
            track=track,
            passes=area.sizes["time"],
            known=len(places),
            seen=float(area["observed_fraction"].max()),
            latest=None if newest is None else pd.Timestamp(newest["time"].item()),
            area_km2=km2,
            area_low=low,
            area_high=high,
            trend=trend,
            verdict=verdict,
        )
