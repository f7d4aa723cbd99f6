"""What the change of direction does to a record: Tsho Rolpa and Chamlang Tsho from real HyP3 scenes, track by track.

Per lake the areas (Otsu, no network) of descending and ascending passes, the offset between them, one fused series, the
published areas, and beside them what the same areas say when they are pooled, as if all tracks saw the same lake. The
scenes of the archive change from ascending to descending in 2020; July of 2015 to 2020 has one scene a year.

Run: python analyses/track_bias.py [SCENES] [OUT]; SCENES defaults to $CUBEKIT_NPSAR/rtc, or where CONTRIBUTING.md says
that the scenes lie.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

import cubekit
from cubekit.cube import build_cube
from cubekit.errors import NoObservations
from cubekit.plots import save_figure
from cubekit.segmentation import segment
from cubekit.series import lake_area, trend
from cubekit.series.fusion import fuse

LAKES = {"tsho_rolpa": "Tsho Rolpa", "chamlang_tsho": "Chamlang Tsho"}
DIRECTIONS = ("ascending", "descending")


def areas(name: str, scenes: Path, out: Path) -> xr.Dataset:
    """Areas of a lake at every pass, in memory."""
    lake = cubekit.lakes.catalogue()[name]
    items = cubekit.find_scenes(lake, f"folder:{scenes}")
    cube = build_cube(lake, items, out / "cubes")
    power = cubekit.prepare(cube, lake, filter="none")  # HyP3 has filtered these scenes already
    found = lake_area(segment(power, "otsu", lake=lake), lake).compute()
    direction = cube["orbit_direction"].to_numpy()
    return found.assign_coords(direction=("time", np.array(DIRECTIONS)[direction]))


def yearly(area: xr.DataArray, months: tuple[int, ...]) -> pd.Series:
    """Median of the months, by year."""
    series = area.to_series().dropna()
    series = series[series.index.month.isin(months)]
    return series.groupby(series.index.year).median()


def slope_of(series: pd.Series) -> str:
    """Trend of a yearly series, in words."""
    if len(series) < 2:
        return "fewer than two years"
    array = xr.DataArray(series.to_numpy(), coords={"year": series.index.to_numpy()}, dims="year")
    found = trend(array)
    low, high = float(found["slope_low"]), float(found["slope_high"])
    verdict = cubekit.series.VERDICTS[int(found["verdict"])].replace("_", " ")
    change = 100 * float(found["slope"]) * (series.index[-1] - series.index[0]) / series.iloc[0]
    return (
        f"{float(found['slope']):+.4f} km2/yr ({low:+.4f} to {high:+.4f}), {change:+.1f} % "
        f"{series.index[0]}-{series.index[-1]}, n = {len(series)}: {verdict}"
    )


def report(name: str, area: xr.Dataset, fused: xr.Dataset, published: pd.DataFrame) -> pd.DataFrame:
    """Print what the record says, and return its table by year."""
    summer = (7, 8, 9)
    print(f"\n{LAKES[name]}: {area.sizes['time']} passes, {int(area['area_km2'].notnull().sum())} with a known area")
    table = fused[
        ["offset", "offset_low", "offset_high", "drift", "noise", "passes", "seen", "level_error", "reference"]
    ]
    print(table.to_dataframe().round(3).to_string())
    columns = {
        direction: yearly(area["area_km2"].where(area["direction"] == direction), summer) for direction in DIRECTIONS
    }
    columns |= {"pooled": yearly(area["area_km2"], summer), "fused": yearly(fused["area_km2"], summer)}
    columns |= {"pooled July": yearly(area["area_km2"], (7,)), "fused July": yearly(fused["area_km2"], (7,))}
    frame = pd.DataFrame(columns)
    frame.index.name = "year"
    print(frame.round(3).to_string())
    for column in frame:
        print(f"  {column:12s} {slope_of(frame[column].dropna())}")
    for column in ("pooled July", "fused July"):
        july = frame[column].reindex(range(2015, 2021)).dropna()
        if len(july) > 1:
            print(f"  {column} {july.index[0]} to {july.index[-1]}: {100 * (july.iloc[-1] / july.iloc[0] - 1):+.1f} %")
    for row in published.itertuples():
        print(f"  ICIMOD {row.inventory_year}: {row.icimod_area_inside_npsar_aoi_km2:.3f} km2 inside the crops")
    steps = fused[["step_size", "step_low", "step_high", "step_p", "step_passes"]].to_dataframe()
    print(steps.round(3).to_string() if len(steps) > 1 else "  one platform only: no step to test")
    return frame


def draw(results: dict[str, tuple[xr.Dataset, xr.Dataset]], published: pd.DataFrame, file: Path) -> Path:
    """Draw the series of both lakes, tracks apart and fused."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(len(results), 1, figsize=(9, 4 * len(results)), sharex=True, layout="constrained")
    for ax, (name, (area, fused)) in zip(np.atleast_1d(axes), results.items(), strict=True):
        for direction, marker, shade in zip(DIRECTIONS, "^v", ("0.6", "0.2"), strict=True):
            some = area.isel(time=np.flatnonzero(area["direction"].to_numpy() == direction))
            ax.plot(some["time"], some["area_km2"], marker, color=shade, ms=4, label=f"{direction} passes")
        pooled = yearly(area["area_km2"], (7, 8, 9))
        middle = pd.to_datetime([f"{year}-08-15" for year in pooled.index])
        ax.plot(middle, pooled, ":", color="0.4", label="summer median, tracks pooled (misleading)")
        times = fused["time"].to_numpy()
        ax.plot(times, fused["area_km2"], "k-", lw=1.5, label="fused, at the reference track's level")
        ax.fill_between(times, fused["area_low"], fused["area_high"], color="0.8", zorder=0)
        rows = published[published["lake"] == LAKES[name]]
        some = rows[rows["inventory_year"] == 2020]
        ax.plot(
            pd.to_datetime(["2021-01-01"] * len(some)),
            some["icimod_area_inside_npsar_aoi_km2"],
            "D",
            mfc="white",
            mec="k",
            label="ICIMOD 2020, inside the crops",
        )
        ax.set_title(LAKES[name])
        ax.set_ylabel("area, km²")
        ax.legend(fontsize=8)
    figure.text(
        0.01, 0.002, "Contains modified Copernicus Sentinel data, processed by ASF HyP3. ICIMOD: CC0", fontsize=6
    )
    return save_figure(np.atleast_1d(axes)[0], file)


def main(scenes: Path, out: Path) -> None:
    """Print the tables, write them and the figure."""
    published = pd.read_csv(scenes.parent.parent / "areas" / "icimod_area_inside_npsar_aoi.csv")
    results, tables = {}, {}
    for name, title in LAKES.items():
        area = areas(name, scenes, out)
        try:
            fused = fuse(area)
        except NoObservations as error:
            print(f"{title}: {error}")
            continue
        results[name] = area, fused
        tables[name] = report(name, area, fused, published[published["lake"] == title])
    pd.concat(tables, names=["lake"]).to_csv(out / "track_bias.csv")
    print(f"\nwrote {draw(results, published, out / 'track_bias.png')} and {out / 'track_bias.csv'}")


if __name__ == "__main__":
    data = Path(os.environ.get("CUBEKIT_NPSAR", "../shared/data/npsar"))
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else data / "rtc",
        Path(sys.argv[2]) if len(sys.argv) > 2 else Path("out/track_bias"),
    )
