"""What the change of direction does to a record: Tsho Rolpa and Chamlang Tsho from real HyP3 scenes, track by track.

Per lake the areas of the shipped network, descending and ascending, the offsets between the tracks, one fused series of
the passes over open water, the published areas, and beside them what the same areas say when they are pooled, as if all
tracks saw the same lake. The scenes of the archive change from ascending to descending in 2020; of 2015 to 2020 it has
one July a year. The study is that of figure6_decadal.py, with its cubes and its folder.

Run: python analyses/track_bias.py [SCENES] [OUT]; SCENES defaults to $CUBEKIT_NPSAR/rtc, or where CONTRIBUTING.md says
that the scenes lie; OUT to that of figure6_decadal.py. Needs the extra unet.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from figure6_decadal import CREDIT, real_study, run
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import cubekit
from cubekit.plots import save_figure
from cubekit.results import evened, usable_passes
from cubekit.series import trend
from cubekit.series.fusion import fuse
from cubekit.series.season import MIN_OBSERVED

LAKES = {"tsho_rolpa": "Tsho Rolpa", "chamlang_tsho": "Chamlang Tsho"}
DIRECTIONS = ("ascending", "descending")
SUMMER, JULY = (7, 8, 9), (7,)
MARKERS = {12: ("s", "0.65"), 85: ("^", "0.5"), 121: ("v", "0.2")}
EARLY = range(2015, 2021)
# In papers, of the whole lake; where they were read is beside them in literature_in_text.csv.
LITERATURE = {"Tsho Rolpa": [("2019-01-01", 1.61, "Peppa et al. 2020, whole lake")]}


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
    return (
        f"{float(found['slope']):+.4f} km2/yr ({low:+.4f} to {high:+.4f}), p = {float(found['p_value']):.2g}, "
        f"{series.index[0]}-{series.index[-1]}, n = {len(series)}: {verdict}"
    )


def slope_fused(fused: xr.Dataset) -> str:
    """Slope through a fused series, in words. It is smooth, so the interval is that of its covariance, and no test."""
    known = np.flatnonzero(fused["weight"].to_numpy() > 0)
    times = fused["time"].to_numpy()[known]
    t = (times - times.min()) / np.timedelta64(1, "D") / 365.25
    t -= t.mean()
    line = t / (t @ t)
    slope = float(line @ fused["area_km2"].to_numpy()[known])
    half = 1.96 * float(np.sqrt(line @ fused["covariance"].to_numpy()[np.ix_(known, known)] @ line))
    return f"{slope:+.4f} km2/yr ({slope - half:+.4f} to {slope + half:+.4f}), by its covariance"


def change(series: pd.Series) -> str:
    """From the first to the last July of 2015 to 2020, in words."""
    july = series.reindex(EARLY).dropna()
    return f"{july.index[0]} to {july.index[-1]}: {100 * (july.iloc[-1] / july.iloc[0] - 1):+.1f} %"


def table_of(area: xr.Dataset, fused: xr.Dataset) -> pd.DataFrame:
    """Medians of summers and Julys by direction and track, pooled and fused, by year."""
    columns = {}
    for direction, word in enumerate(DIRECTIONS):
        columns[word] = yearly(area["area_km2"].where(area["orbit_direction"] == direction), SUMMER)
    for track in np.unique(area["track"]).tolist():
        columns[f"T{track:03d}"] = yearly(area["area_km2"].where(area["track"] == track), SUMMER)
    for name, series in (("pooled", area), ("fused", fused)):
        columns[name], columns[f"{name} July"] = (yearly(series["area_km2"], months) for months in (SUMMER, JULY))
    frame = pd.DataFrame(columns)
    frame.index.name = "year"
    return frame


def report(name: str, area: xr.Dataset, fused: xr.Dataset, published: pd.DataFrame) -> pd.DataFrame:
    """Print what the record says, and return its table by year."""
    used = int(fused["passes"].sum())
    print(f"\n{LAKES[name]}: {area.sizes['time']} passes, {used} of them over open water and fused")
    columns = ["offset", "offset_low", "offset_high", "noise", "passes", "seen", "level_error", "reference"]
    print(fused[columns].to_dataframe().round(3).to_string())
    frame = table_of(area, fused)
    print(frame.round(3).to_string(na_rep=""))
    for column in frame:
        if not column.startswith("fused"):
            print(f"  {column:12s} {slope_of(frame[column].dropna())}")
    print(f"  fused        {slope_fused(fused)}")
    for column in ("pooled July", "fused July"):
        print(f"  {column} {change(frame[column])}")
    for row in published.itertuples():
        print(f"  ICIMOD {row.inventory_year}: {row.icimod_area_inside_npsar_aoi_km2:.3f} km2 inside the crops")
    return frame


def draw_published(ax: Axes, name: str, published: pd.DataFrame) -> None:
    """Draw areas of others."""
    known = published[published["inventory_year"] == 2020]
    ax.plot(
        pd.to_datetime(["2021-01-01"] * len(known)),
        known["icimod_area_inside_npsar_aoi_km2"],
        "D",
        mfc="white",
        mec="k",
        ms=8,
        zorder=4,
        label="ICIMOD 2020, inside the crops",
    )
    for day, km2, label in LITERATURE.get(LAKES[name], []):
        ax.plot(pd.to_datetime([day]), [km2], "p", mfc="white", mec="k", ms=9, zorder=4, label=label)


def draw_fused(ax: Axes, area: xr.Dataset, fused: xr.Dataset) -> None:
    """Draw the tracks apart, and what they say together."""
    in_use = fused["weight"].to_numpy() > 0
    for track in np.unique(area["track"]).tolist():
        of_track = area["track"].to_numpy() == track
        marker, shade = MARKERS[track]
        direction = DIRECTIONS[int(area["orbit_direction"].to_numpy()[of_track][0])]
        looks = {"marker": marker, "color": shade, "ls": "none", "ms": 5}
        some = area.isel(time=np.flatnonzero(of_track & in_use))
        ax.plot(some["time"], some["area_km2"], label=f"T{track:03d} {direction}, used", **looks)
        rest = area.isel(time=np.flatnonzero(of_track & ~in_use))
        if rest.sizes["time"]:
            ax.plot(rest["time"], rest["area_km2"], mfc="none", label=f"T{track:03d}, not used (ice, snow)", **looks)
    times = fused["time"].to_numpy()
    ax.fill_between(times, fused["area_low"], fused["area_high"], color="0.85", zorder=0)
    reference = str(fused["track"].values[fused["reference"].values][0])
    ax.plot(times, fused["area_km2"], "k-", lw=1.5, label=f"fused, at the level of T{reference}; band: 95 %")


def draw_pooled(ax: Axes, area: xr.Dataset, fused: xr.Dataset) -> None:
    """Draw the medians of July as they are when tracks are pooled, and fused."""
    julys = {"pooled": yearly(area["area_km2"], JULY), "fused": yearly(fused["area_km2"], JULY)}
    for (name, july), look in zip(julys.items(), (":s", "-o"), strict=True):
        middle = pd.to_datetime([f"{year}-07-16" for year in july.index])
        shade = "0.45" if name == "pooled" else "k"
        ax.plot(middle, july, look, color=shade, lw=1.5, label=f"{name}, {change(july)}")
    ascending = yearly(area["area_km2"].where(area["orbit_direction"] == 0), JULY).index
    descending = yearly(area["area_km2"].where(area["orbit_direction"] == 1), JULY).index
    bottom = ax.get_ylim()[0]
    for year in ascending.union(descending):
        letters = "A" * (year in ascending) + "D" * (year in descending)
        ax.annotate(
            letters,
            (pd.Timestamp(f"{year}-07-16"), bottom),
            ha="center",
            fontsize=7,
            xytext=(0, 3),
            textcoords="offset points",
        )
    ax.plot([], [], ls="none", label="A, D: July has ascending, descending passes")


def draw(results: dict[str, tuple[xr.Dataset, xr.Dataset]], published: pd.DataFrame, file: Path) -> Path:
    """Draw both lakes: on the left as cubekit has it, on the right what pooling makes of it."""
    figure = Figure(figsize=(14, 5.2 * len(results)), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(results), 2, sharex=True, sharey="row", squeeze=False)
    for (left, right), (name, (area, fused)) in zip(panels, results.items(), strict=True):
        rows = published[published["lake"] == LAKES[name]]
        draw_fused(left, area, fused)
        left.set_title(f"{LAKES[name]}: tracks apart, and fused")
        draw_published(left, name, rows)
        draw_published(right, name, rows)
        draw_pooled(right, area, fused)
        right.set_title(f"{LAKES[name]}: July medians, tracks pooled (misleading) and fused")
        for ax in (left, right):
            ax.set(xlabel="time (UTC)", ylabel="area (km²)")
            ax.tick_params(labelbottom=True, labelleft=True)
            ax.grid(visible=True, lw=0.3, color="0.8")
            ax.legend(fontsize=8, ncols=2, frameon=False, loc="upper left", bbox_to_anchor=(0, -0.12))
    figure.supxlabel(f"{CREDIT}. Outlines of 2020: ICIMOD, CC0", fontsize=7)
    return save_figure(panels[0, 0], file)


def main(scenes: Path, out: Path) -> None:
    """Print the tables, write them and the figure."""
    published = pd.read_csv(scenes.parent.parent / "areas" / "icimod_area_inside_npsar_aoi.csv")
    lakes = run(real_study(scenes, out)).lakes
    results, tables = {}, {}
    for name, title in LAKES.items():
        area = lakes[name].results.area
        results[name] = area, fuse(evened(area, usable_passes(area, MIN_OBSERVED))).compute()
        tables[name] = report(name, *results[name], published[published["lake"] == title])
    pd.concat(tables, names=["lake"]).round(4).to_csv(out / "track_bias.csv")
    print(f"\nwrote {draw(results, published, out / 'track_bias.png')} and {out / 'track_bias.csv'}")


if __name__ == "__main__":
    data = Path(os.environ.get("CUBEKIT_NPSAR", "../shared/data/npsar"))
    main(
        Path(sys.argv[1]) if len(sys.argv) > 1 else data / "rtc",
        Path(sys.argv[2]) if len(sys.argv) > 2 else Path("out/figure6_decadal"),
    )
