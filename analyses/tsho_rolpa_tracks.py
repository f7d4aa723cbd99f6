"""Area of Tsho Rolpa per track, 2015 to 2025, from real HyP3 scenes: what one sees depends on where one looks from.

Runs the study of the lake with the network-free segmenter, writes the areas and a figure, and prints per track the
median summer area beside the published ones. Pooling the tracks would make the lake grow in 2020, when the scenes of
the archive change from ascending to descending.

Run: python analyses/tsho_rolpa_tracks.py [SCENES] [OUT]; SCENES defaults to $CUBEKIT_NPSAR/rtc, or where
CONTRIBUTING.md says that the scenes lie.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd

import cubekit
from cubekit.plots import plot_area, save_figure

PUBLISHED = "ICIMOD 2020: 1.62 km2 whole, 1.58 km2 of it inside these crops; Peppa et al. 2020: 1.61 km2"


def table(area) -> pd.DataFrame:
    """Summer areas (July to September) per track: count, median, spread."""
    frame = area[["area_km2", "observed_fraction"]].to_dataframe().reset_index()
    summer = frame[frame["time"].dt.month.isin([7, 8, 9]) & frame["area_km2"].notna()]
    grouped = summer.groupby("track")
    return pd.DataFrame(
        {
            "passes": frame.groupby("track").size(),
            "known": frame[frame["area_km2"].notna()].groupby("track").size(),
            "summer": grouped.size(),
            "median_km2": grouped["area_km2"].median(),
            "sd_km2": grouped["area_km2"].std(),
            "seen": frame.groupby("track")["observed_fraction"].max(),
        }
    )


def pooled_step(area) -> tuple[float, float]:
    """Median of all July areas before and from 2020 on, tracks pooled: what one must not do."""
    july = area.isel(time=np.flatnonzero(area["time"].dt.month.values == 7))
    late = july["time"].dt.year.values >= 2020
    return float(july["area_km2"][~late].median()), float(july["area_km2"][late].median())


def main(scenes: Path, out: Path) -> None:
    """Run the study, then write and print."""
    study = cubekit.Study.parse(
        {
            "study": {"name": "Tsho Rolpa per track", "out": out},
            "lake": [{"id": "tsho_rolpa"}],
            "source": {"uri": f"folder:{scenes}"},
        }
    )
    report = cubekit.run(study)
    if report.failed:
        raise SystemExit(f"error: {report.failed['tsho_rolpa']}")
    lake = report.lakes["tsho_rolpa"]
    ax = plot_area(lake.area, maxima=lake.maxima, trends=lake.trends["median"])
    ax.set_title("Tsho Rolpa per track. Contains modified Copernicus Sentinel data 2015-2025, processed by ASF HyP3")
    figure = save_figure(ax, out / "tsho_rolpa_tracks.png")
    summary = table(lake.area)
    summary.to_csv(out / "tsho_rolpa_tracks.csv")
    print(summary.round(3).to_string())
    before, after = pooled_step(lake.area)
    print(f"pooled July median before 2020 {before:.3f} km2, from 2020 on {after:.3f} km2: a step made by the geometry")
    print(PUBLISHED)
    print(f"wrote {figure} and {lake.files['areas']}")


if __name__ == "__main__":
    data = Path(os.environ.get("CUBEKIT_NPSAR", "../shared/data/npsar"))
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else data / "rtc",
        Path(sys.argv[2]) if len(sys.argv) > 2 else Path("out/tsho_rolpa_tracks"),
    )
