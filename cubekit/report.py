"""What a run made: in memory, as the summary that it ends with, and as tables with their provenance."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Container, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from cubekit import series
from cubekit.config import Study
from cubekit.cube import AppendReport
from cubekit.results import FAIR, FUSED, Results
from cubekit.tables import COLUMNS, tables, write_text


class SummaryRow(NamedTuple):
    """One lake and track of the table that a run ends with; the last row of a lake is of all its tracks, fused.

    Parameters
    ----------
    lake, track
        Which; ``fused`` for all tracks at the level of the one that sees most.
    passes, known
        All passes, and those whose area is known; of the fused row, those that were used.
    seen
        The most that the track sees of the lake zone; below 1 its areas are lower bounds.
    latest
        The newest pass whose area is known.
    area_km2, area_low, area_high
        Its area; NaN where there is none.
    trend
        Slope of the summer medians and its 95 % interval, km2 per year, as text. Not of the maxima: these grow with the
        number of passes in a summer, which alone made one of the real lakes "grow". The interval carries those of the
        areas, most of which is common to all years.
    verdict
        What the trend's test says, with its p, the number of seasons, and, where no trend is detected, the smallest
        that would have been. ``within the areas' errors``: the measured series has a trend, but the areas' own
        intervals don't exclude that the lake has none.
    """

    lake: str
    track: int | str
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
    tracks
        What each track sees: `track_views`.
    results
        All that the areas say, in memory.
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
    tracks: xr.Dataset
    results: Results
    files: dict[str, Path] = field(default_factory=dict)

    @property
    def area(self) -> xr.Dataset:
        """The areas, pass by pass."""
        return self.results.area

    @property
    def maxima(self) -> xr.Dataset | None:
        """Statistics of the seasons; None where no pass lies in one."""
        return self.results.maxima

    @property
    def trends(self) -> dict[str, xr.Dataset]:
        """Their trends, by statistic; empty where there are no seasons."""
        return self.results.trends


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


def write_results(study: Study, report: Report, folder: Path) -> None:
    """Write the tables of a run, the study, and what the results were made of.

    Parameters
    ----------
    study
        What was run.
    report
        What came out, of one lake at least; the paths that the tables will have are added to it.
    folder
        Where to write; from there the files go to the study's `out`, whose tables are read for the rows of lakes that
        failed this time: what was known of them is still known.
    """
    out = study.study.out
    (folder / "study.toml").write_text(study.dump(), encoding="utf-8")
    by_source: dict[str, dict[str, LakeReport]] = {}
    for name, lake in report.lakes.items():
        by_source.setdefault(lake.cube.parent.name, {})[name] = lake
    for source, results in by_source.items():
        home = Path("series") / source
        (folder / home).mkdir(parents=True, exist_ok=True)
        with _keeping(out, folder, home / "areas.csv", report.failed) as path:
            series.write_csv({name: lake.area for name, lake in results.items()}, path)
        frames = [tables(lake.results, lake.tracks) for lake in results.values()]
        for name in COLUMNS:
            with _keeping(out, folder, home / f"{name}.csv", report.failed) as path:
                rows = [one[name] for one in frames if len(one[name])]
                write_text(pd.concat(rows) if rows else frames[0][name], path)
        for lake in results.values():
            lake.files |= {name: out / home / f"{name}.csv" for name in ("areas", *COLUMNS)}
    made = json.dumps(_provenance(study, report), indent=2, sort_keys=True)
    (folder / "provenance.json").write_text(made + "\n", encoding="utf-8")


@contextmanager
def _keeping(out: Path, folder: Path, table: Path, failed: Container[str]) -> Iterator[Path]:
    """Write a table, and below it the rows that the one in `out` has of lakes that failed."""
    yield folder / table
    if not (out / table).is_file():
        return
    header, *old = (out / table).read_text(encoding="utf-8").splitlines(keepends=True)
    kept = [line for line in old if line.partition(",")[0] in failed]
    with (folder / table).open("r+", encoding="utf-8") as file:
        if kept and header != file.readline():
            warnings.warn(
                f"rows of lakes that failed are not kept in {table}: another version wrote it, with other columns",
                stacklevel=2,
            )
            return
        file.seek(0, 2)
        file.writelines(kept)


def _provenance(study: Study, report: Report) -> dict[str, Any]:
    from cubekit import __version__

    return {
        "cubekit": __version__,
        "study_sha256": hashlib.sha256(study.dump().encode()).hexdigest(),
        "config_hash": study.fingerprint,
        "lakes": {
            name: {
                "cube": str(lake.cube),
                "snapshot": lake.snapshot,
                "model": lake.model,
                "model_hash": lake.model_hash,
                "preprocessing": json.loads(lake.preprocessing),
                "passes": int(lake.area.sizes["time"]),
                "not_known": lake.results.unknown,
            }
            for name, lake in report.lakes.items()
        },
        "failed": {name: f"{type(error).__name__}: {error}" for name, error in report.failed.items()},
    }


def _summary(name: str, lake: LakeReport) -> Iterator[SummaryRow]:
    for track in np.unique(lake.area["track"].values).tolist():
        area = lake.area.isel(time=np.flatnonzero(lake.area["track"].values == track))
        known = area["area_km2"].notnull().values
        seen = float(area["observed_fraction"].max())
        newest = _latest(area, known)
        yield SummaryRow(name, track, len(known), int(known.sum()), seen, *newest, *_told(lake.trends, track))
    if lake.results.fused is not None:
        fused = lake.results.fused
        used = fused["weight"].values > 0
        seen = float(fused["seen"].where(fused["reference"]).max())
        # Its intervals are given the level; what that itself may be wrong by belongs to the area of a day
        level = 1.96 * float(fused["level_error"].where(fused["reference"]).max())
        half = np.hypot((fused["area_high"] - fused["area_low"]) / 2, level)
        bounded = fused.assign(area_low=fused["area_km2"] - half, area_high=fused["area_km2"] + half)
        newest, told = _latest(bounded, used), _told(lake.results.fused_trends, FUSED)
        yield SummaryRow(name, FUSED, len(used), int(used.sum()), seen, *newest, *told)


def _latest(area: xr.Dataset, known: NDArray[np.bool_]) -> tuple[pd.Timestamp | None, float, float, float]:
    """Time, area and bounds of the newest known pass."""
    places = np.flatnonzero(known)
    if not len(places):
        return None, np.nan, np.nan, np.nan
    newest = area.isel(time=places[-1])
    area_km2, low, high = (float(newest[f"area_{which}"]) for which in ("km2", "low", "high"))
    return pd.Timestamp(newest["time"].item()), area_km2, low, high


def _told(trends: dict[str, xr.Dataset], track: int | str) -> tuple[str, str]:
    """A trend and its verdict in words: never a p alone."""
    if FAIR not in trends or track not in trends[FAIR]["track"].values:
        return "not known", "no summer pass"
    one = trends[FAIR].sel(track=track)
    verdict, of_scatter = (series.VERDICTS[int(one[name])] for name in ("verdict", "scatter_verdict"))
    words, count = verdict.replace("_", " "), int(one["n"])
    if verdict == "too_few_seasons":
        words = f"{words}, n {count}"
    elif verdict == "no_trend_detected" != of_scatter:
        words = f"{of_scatter}, within the areas' errors, p {float(one['p_value']):.2g}, n {count}"
    else:
        words = f"{words}, p {float(one['p_value']):.2g}, n {count}"
        if verdict == "no_trend_detected":
            words = f"{words}, below {float(one['detectable']):.2g}"
    if not np.isfinite(float(one["slope"])):
        return "not known", words
    slope, least, most = (float(one[part]) for part in ("slope", "slope_low", "slope_high"))
    interval = f" ({least:+.4f} to {most:+.4f})" if np.isfinite([least, most]).all() else " (interval not known)"
    return f"{slope:+.4f}{interval}", words
