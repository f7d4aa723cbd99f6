"""Simulated HyP3 scenes beside the real ones they are to resemble: levels, looks and correlation, per direction.

Each real crop is set against scenes simulated for its lake, track and day, in terrain drawn at random, cut as the crop
is. In both, water lies 80 m and more inside the outline of the catalogue and land 100 m and more outside it: no drawn
label is used. Outlines are of 2020 and the simulated lakes don't grow. Prints medians, quartiles, looks and distances,
and draws docs/images/simulator_match.png.

Run: python analyses/simulator_match.py [SCENES] [OUT.png] [--seeds N]; SCENES defaults to $CUBEKIT_NPSAR/rtc, or where
CONTRIBUTING.md says that the scenes lie. Some minutes on one core.
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import rasterio
import shapely
from affine import Affine
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from rasterio.features import geometry_mask
from rasterio.warp import transform_geom
from scipy.ndimage import uniform_filter
from scipy.stats import ks_2samp, wasserstein_distance

from cubekit.lakes import Lake, catalogue
from cubekit.passes import ORBIT_SECONDS, absolute_orbit, ascending_node, relative_orbit
from cubekit.plots import save_figure
from cubekit.segmentation.pairs import lake_key
from cubekit.sources import simulated
from cubekit.sources.names import ProductFile, parse

PICTURE = Path(__file__).parent.parent / "docs" / "images" / "simulator_match.png"
INSIDE, OUTSIDE = -80.0, 100.0  # metres from the outline
SEASONS = {"June to September": (6, 7, 8, 9), "January to March": (1, 2, 3), "April and May": (4, 5)}
SUMMER = "June to September"
DIRECTIONS = ("ascending", "descending")
CALM_DB = -17.0  # water darker than this, in the median of a pass, is calm
BRIGHT_DB = -9.0  # no open water is so bright: land folds onto it
WINDOW, FEWEST, LAGS = 7, 60, (1, 2, 3, 4, 6, 8)  # pixels
QUANTILES = (np.arange(200) + 0.5) / 200  # of a pass: all passes count alike


@dataclass(frozen=True)
class Seen:
    """When and from where a scene was taken."""

    lake: str
    track: int
    direction: str
    time: datetime

    @property
    def season(self) -> str | None:
        """One of `SEASONS`."""
        return next((name for name, months in SEASONS.items() if self.time.month in months), None)


@dataclass(frozen=True)
class Look:
    """What one pass shows of one surface."""

    seen: Seen
    surface: str
    real: bool
    quantiles: np.ndarray
    """Of gamma0, dB."""
    looks: float
    """Of water: median over windows; NaN of land."""
    correlation: np.ndarray
    """Of neighbours at `LAGS`, mean of x and y."""

    @property
    def level(self) -> float:
        """Median, dB."""
        return float(np.median(self.quantiles))


def crops(folder: Path) -> Iterator[tuple[Path, Seen]]:
    """Scenes of the catalogue's lakes."""
    known = catalogue()
    for path in sorted(folder.glob("*/*.tif")):
        named, lake = parse(path.name), lake_key(path.parent.name)
        if lake in known and isinstance(named, ProductFile) and named.layer == "vv":
            orbit = absolute_orbit(named.platform, named.start)
            part = (named.start - ascending_node(named.platform, orbit)).total_seconds() / ORBIT_SECONDS % 1
            direction = DIRECTIONS[0.25 <= part < 0.75]
            yield path, Seen(lake, relative_orbit(named.platform, orbit), direction, named.start)


def real_looks(path: Path, lake: Lake, seen: Seen) -> tuple[list[Look], shapely.Geometry]:
    """What a crop shows, and its frame in the lake's coordinates."""
    with rasterio.open(path) as dataset:
        power = dataset.read(1).astype(np.float64)
        shape, affine, crs = dataset.shape, dataset.transform, dataset.crs
        frame = shapely.box(*dataset.bounds)
    here = f"EPSG:{lake.epsg}"
    water, land = (
        shapely.geometry.shape(transform_geom(here, crs, shapely.geometry.mapping(part)))
        for part in _surfaces(lake, shapely.box(-1e7, -1e7, 1e7, 1e7))
    )
    power[~(power > 0)] = np.nan
    framed = shapely.geometry.shape(transform_geom(crs, here, shapely.geometry.mapping(shapely.segmentize(frame, 500))))
    return list(_measured(power, affine, shape, water, land, seen, real=True)), framed


def simulated_looks(lake: Lake, frame: shapely.Geometry, seen: Seen, seed: int) -> list[Look]:
    """What the simulated pass nearest to a real one shows within its frame."""
    days = timedelta(days=12)
    ds = simulated.simulate(
        lake,
        start=(seen.time - days).date(),
        end=(seen.time + days).date(),
        product="hyp3",
        seed=seed,
        growth_m_per_year=0.0,
        tracks=[seen.track],
    )
    apart = np.abs((ds["time"].values - np.datetime64(seen.time.replace(tzinfo=None), "ns")).astype("timedelta64[s]"))
    one = ds.isel(time=int(apart.argmin()))
    water, land = _surfaces(lake, frame)
    power = one["vv"].values.astype(np.float64)
    power[~(power > 0)] = np.nan
    shape, affine = lake.lattice.shape, lake.lattice.transform
    return list(_measured(power, affine, tuple(shape), water, land, seen, real=False))


def compare(folder: Path, seeds: int) -> pd.DataFrame:
    """A row a pass, surface and origin; each real pass beside `seeds` simulated ones."""
    lakes, found = catalogue(), []
    listed = [one for one in crops(folder) if one[1].season]
    if not listed:
        raise SystemExit(f"error: no HyP3 scene of {', '.join(lakes)} below {folder}; give the folder of the scenes")
    # Lake by lake and seed by seed: the simulator keeps the terrain of its last lakes.
    for name in dict.fromkeys(seen.lake for _, seen in listed):
        jobs = []
        for path, seen in (one for one in listed if one[1].lake == name):
            measured, frame = real_looks(path, lakes[name], seen)
            found += measured
            if measured:
                jobs.append((frame, seen))
        for seed in range(seeds):
            for frame, seen in jobs:
                found += simulated_looks(lakes[name], frame, seen, seed)
    columns = {name: [getattr(look, name) for look in found] for name in ("surface", "real", "looks", "level")}
    told = {name: [getattr(look.seen, name) for look in found] for name in ("lake", "track", "direction", "season")}
    return pd.DataFrame({"look": found, **told, **columns})


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """Real against simulated, a row a season, surface and direction; distances are between all pixels."""
    rows = []
    for (season, surface, direction), part in table.groupby(["season", "surface", "direction"], sort=False):
        real, drawn = (part[part["real"] == which] for which in (True, False))
        if real.empty or drawn.empty:
            continue
        row: dict[str, object] = {"season": season, "surface": surface, "direction": direction, "passes": len(real)}
        pixels = [np.concatenate([look.quantiles for look in which["look"]]) for which in (real, drawn)]
        for name, which, values in zip(("real", "sim"), (real, drawn), pixels, strict=True):
            for label, value in zip(("q1", "median", "q3"), np.percentile(values, (25, 50, 75)), strict=True):
                row[f"{name}_{label}"] = value
            calm = which[which["level"] < CALM_DB]
            row[f"{name}_looks"] = calm["looks"].median()
            row[f"{name}_next"] = np.nanmedian([look.correlation[0] for look in which["look"]])
        row["wasserstein_db"] = wasserstein_distance(*pixels)
        row["ks"] = ks_2samp(*pixels).statistic
        rows.append(row)
    return pd.DataFrame(rows)


def by_track(table: pd.DataFrame) -> pd.DataFrame:
    """Summer water, a row a lake and track: level and its spread over passes, looks, share as bright as land."""
    water = table[(table["surface"] == "water") & (table["season"] == SUMMER)]
    rows = []
    for (lake, track), part in water.groupby(["lake", "track"]):
        row: dict[str, object] = {"lake": lake, "track": track}
        for name, which in (("real", part[part["real"]]), ("sim", part[~part["real"]])):
            bright = [np.mean(look.quantiles > BRIGHT_DB) for look in which["look"]]
            row |= {f"{name}_passes": len(which), f"{name}_median": which["level"].median()}
            row |= {f"{name}_sd": which["level"].std(), f"{name}_looks": which["looks"].median()}
            row[f"{name}_bright"] = np.mean(bright) if bright else np.nan
        rows.append(row)
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame):
    """Histograms above, looks and correlation below; returns the first axes."""
    figure = Figure(figsize=(9.5, 5.0), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(2, 4)
    summer = table[table["season"] == SUMMER]
    for column, (surface, direction) in enumerate((s, d) for s in ("water", "land") for d in DIRECTIONS):
        part, panel = summer[(summer["surface"] == surface) & (summer["direction"] == direction)], panels[0, column]
        bins = np.arange(-32, 3, 0.75) if surface == "water" else np.arange(-24, 12, 0.75)
        for real, style in ((True, {"color": "0.75"}), (False, {"color": "#c2185b", "histtype": "step", "lw": 1.5})):
            looks = part[part["real"] == real]["look"]
            if len(looks):
                values = np.clip(np.concatenate([look.quantiles for look in looks]), bins[0], bins[-1])
                panel.hist(values, bins, density=True, label="real" if real else "simulated", **style)
        panel.set(title=f"{surface}, {direction}", xlabel="γ⁰ VV (dB)", yticks=[])
    panels[0, 0].legend(fontsize=8)
    water = table[table["surface"] == "water"]
    for column, direction in enumerate(DIRECTIONS):
        panel = panels[1, column]
        for real, style in ((False, {"color": "#c2185b", "alpha": 0.35}), (True, {"color": "0.25"})):
            part = water[(water["direction"] == direction) & (water["real"] == real)]
            panel.scatter(part["level"], part["looks"], s=9, lw=0, **style)
        panel.axvline(CALM_DB, color="0.6", lw=0.8, ls=":")
        panel.set(title=f"looks on water, {direction}", xlabel="level of the pass (dB)", yscale="log", ylim=(1.5, 100))
    for column, surface in enumerate(("water", "land"), 2):
        panel = panels[1, column]
        for real, color in ((True, "0.25"), (False, "#c2185b")):
            part = summer[(summer["surface"] == surface) & (summer["real"] == real)]["look"]
            if len(part):
                curves = np.stack([look.correlation for look in part])
                low, middle, high = np.nanpercentile(curves, (25, 50, 75), axis=0)
                panel.plot(LAGS, middle, "o-", color=color, ms=3)
                panel.fill_between(LAGS, low, high, color=color, alpha=0.15, lw=0)
        panel.axhline(0, color="0.6", lw=0.8)
        panel.set(title=f"correlation, {surface}", xlabel="distance (pixels of 20 m)", ylim=(-0.2, 1))
    for panel in panels.ravel():
        panel.title.set_fontsize(9)
        panel.tick_params(labelsize=7)
        panel.xaxis.label.set_fontsize(8)
    credit = "Contains modified Copernicus Sentinel data 2015-2025, processed by ASF HyP3"
    figure.suptitle(
        f"Simulated and real HyP3 scenes; histograms and correlation of June to September. {credit}", size=8
    )
    return panels[0, 0]


def _surfaces(lake: Lake, frame: shapely.Geometry) -> tuple[shapely.Geometry, shapely.Geometry]:
    """Water and land that are sure, in the lake's coordinates."""
    outline = lake.project(lake.outline)
    reach = shapely.box(*lake.lattice.boundingbox.bbox).intersection(frame)
    return outline.buffer(INSIDE).intersection(frame), reach.difference(outline.buffer(OUTSIDE))


def _measured(
    power: np.ndarray,
    affine: Affine,
    shape: tuple[int, int],
    water: shapely.Geometry,
    land: shapely.Geometry,
    of: Seen,
    *,
    real: bool,
) -> Iterator[Look]:
    for surface, geometry in (("water", water), ("land", land)):
        if geometry.is_empty:
            continue
        inside = geometry_mask([geometry], shape, affine, invert=True)
        seen = inside & np.isfinite(power)
        if seen.sum() < max(FEWEST, 0.8 * inside.sum()):
            continue
        decibel = 10 * np.log10(np.where(seen, power, 1))
        if surface == "water":
            looks, ratio = _looks(power, seen), power / _smooth(power, seen)
        else:
            looks, ratio = np.nan, decibel
        quantiles = np.quantile(decibel[seen], QUANTILES)
        yield Look(of, surface, real, quantiles, looks, _correlation(ratio, seen))


def _smooth(power: np.ndarray, seen: np.ndarray, side: int = 9) -> np.ndarray:
    """Mean of what is seen around each pixel: level and gusts, without the speckle."""
    total, count = (uniform_filter(part.astype(float), side) for part in (np.where(seen, power, 0), seen))
    return np.where(seen, total, 1) / np.where(seen, count, 1)


def _looks(power: np.ndarray, seen: np.ndarray) -> float:
    """Equivalent looks: the median of squared mean over variance in whole windows."""
    windows, whole = (np.lib.stride_tricks.sliding_window_view(part, (WINDOW, WINDOW)) for part in (power, seen))
    inside = windows[whole.all((-2, -1))]
    if not len(inside):
        return float("nan")
    return float(np.median(inside.mean((1, 2)) ** 2 / inside.var((1, 2), ddof=1)))


def _correlation(values: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Autocorrelation at `LAGS`, of pairs of which both are seen; mean of x and y."""
    rest = np.where(seen, values - values[seen].mean(), 0.0)
    power = (rest[seen] ** 2).mean()
    found = np.full((2, len(LAGS)), np.nan)
    for axis, flipped in enumerate((False, True)):
        field, known = (part.T if flipped else part for part in (rest, seen))
        for column, lag in enumerate(LAGS):
            both = known[:, lag:] & known[:, :-lag]
            if both.sum() >= FEWEST // 2 and power:
                found[axis, column] = (field[:, lag:] * field[:, :-lag])[both].mean() / power
    return found.mean(axis=0)


def main(folder: Path, target: Path, *, seeds: int) -> pd.DataFrame:
    """Measure, print, draw."""
    with dask.config.set(scheduler="synchronous"):
        table = compare(folder, seeds)
    found = summary(table)
    print(found.round(2).to_string(index=False))
    print(by_track(table).round(2).to_string(index=False))
    print(
        f"looks: above of calm water, below {CALM_DB:g} dB; next: correlation of neighbours; "
        f"bright: share above {BRIGHT_DB:g} dB; simulated {seeds} times, each in other terrain"
    )
    save_figure(draw(table), target)
    print(f"wrote {target}")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("scenes", nargs="?", type=Path)
    parser.add_argument("out", nargs="?", type=Path, default=PICTURE)
    parser.add_argument("--seeds", type=int, default=3)
    given = parser.parse_args()
    data = Path(os.environ.get("CUBEKIT_NPSAR", "../shared/data/npsar"))
    main(given.scenes or data / "rtc", given.out, seeds=given.seeds)
