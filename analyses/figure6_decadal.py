"""Figure 6, and better: the areas of four real lakes over a decade, and of a simulated one beside its truth.

Runs the study of the four lakes and that of a simulated decade of Tsho Rolpa with the shipped network, and draws per
lake what is known: passes by track and state, the medians and maxima of the seasons with their trends, the fused
series of all tracks. Beside them the shores of
the seasons' maxima on the track that sees most, and a calendar of what was observed. With --film also an animation of
that track.

Run: python analyses/figure6_decadal.py [SCENES] [OUT] [--film]; SCENES defaults to $CUBEKIT_NPSAR/rtc, or where
CONTRIBUTING.md says that the scenes lie.
"""

from __future__ import annotations

import os
import sys
from datetime import date
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

import cubekit
from cubekit import cube, plots, series
from cubekit.lakes import catalogue
from cubekit.products import best_track
from cubekit.sources.simulated import read_truth

LAKES = ("tsho_rolpa", "chamlang_tsho", "tilicho", "gokyo")
SIMULATED = "tsho_rolpa"
START, END = date(2016, 1, 1), date(2025, 12, 31)
CREDIT = "Contains modified Copernicus Sentinel data 2015-2025, processed by ASF HyP3"


def real_study(scenes: Path, out: Path) -> cubekit.Study:
    """Four lakes from scenes in a folder."""
    return cubekit.Study.parse(
        {
            "study": {"name": "figure 6, four lakes", "out": out / "real"},
            "lake": [{"id": name} for name in LAKES],
            "source": {"uri": f"folder:{scenes}"},
            "model": {"path": "hyp3-20m"},
        }
    )


def simulated_study(out: Path) -> cubekit.Study:
    """A decade at every third repeat, with known water."""
    return cubekit.Study.parse(
        {
            "study": {"name": "figure 6, simulated", "out": out / "simulated"},
            "lake": [{"id": SIMULATED}],
            "source": {"uri": f"simulated:{out / 'simulated' / 'archive'}?seed=6&revisit=36"},
            "period": {"start": START, "end": END},
        }
    )


def draw_lake(ax, lake) -> None:
    """Draw one lake's panel, and print its trends."""
    results = lake.results
    if results.maxima is None:
        print(f"{lake.area.attrs['lake']}: {results.unknown['seasons']}")
    median = results.trends.get("median")
    plots.plot_area(results.area, ax, maxima=results.maxima, trends=median, fused=results.fused)
    for name, reason in results.unknown.items():
        print(f"{lake.area.attrs['lake']}: no {name}, {reason}")
    fused = results.fused_trends.get("median")
    for trends in (one for one in (median, fused) if one is not None):
        for track in trends["track"].values:
            one = trends.sel(track=track)
            slope, low, high = (float(one[name]) for name in ("slope", "slope_low", "slope_high"))
            print(
                f"{lake.area.attrs['lake']} {track}: {int(one['n'])} seasons, {slope:+.4f} km2/year "
                f"({low:+.4f} to {high:+.4f}), {series.VERDICTS[int(one['verdict'])]}"
            )


def draw_shores(ax, lake) -> None:
    """Shores at the seasons' maxima, on the track that sees most."""
    track = best_track(lake.results)
    times = lake.maxima["time_of_maximum"].sel(track=track).dropna("year").values
    water = probability_of(lake, track)
    where = catalogue()[lake.area.attrs["lake"]].at_spacing(lake.area.attrs["spacing"])
    chosen = water.isel(time=np.flatnonzero(np.isin(water["time"].values, times)))
    areas = lake.area.isel(time=np.flatnonzero(np.isin(lake.area["time"].values, chosen["time"].values)))
    plots.plot_outlines(series.outlines(chosen, where, area=areas), where, ax)
    ax.set_title(f"{ax.get_title()} at the seasons' maxima, T{track:03d}")


def probability_of(lake, track: int) -> xr.DataArray:
    """Stored probabilities of a track."""
    water = cube.open_water(lake.cube, lake.model, as_of=lake.snapshot)
    probability = water["probability"].assign_attrs(water.attrs)
    return probability.isel(time=np.flatnonzero(water["track"].values == track))


def film(lake, path: Path) -> Path:
    """The decade of the track that sees most, in its AOI window."""
    track = best_track(lake.results)
    where = catalogue()[lake.area.attrs["lake"]].at_spacing(lake.area.attrs["spacing"])
    rows, columns = where.aoi_window
    passes = cube.open_cube(lake.cube, as_of=lake.snapshot)["vv"].sel(track=track)[:, rows, columns]
    water = probability_of(lake, track)[:, rows, columns]
    return plots.save_animation(plots.pass_frames(passes, water, where, area=lake.area), path)


def run(study: cubekit.Study) -> cubekit.pipeline.Report:
    """Run a study, or stop with the first error."""
    report = cubekit.run(study)
    for name, error in report.failed.items():
        raise SystemExit(f"error: {name}: {error}")
    return report


def main(scenes: Path, out: Path, *, with_film: bool) -> None:
    """Run both studies, then draw and print."""
    real, simulated = run(real_study(scenes, out)), run(simulated_study(out))
    figure = Figure(figsize=(18, 24), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(4, 2).ravel()
    for ax, name in zip(panels, LAKES, strict=False):
        draw_lake(ax, real.lakes[name])
    made = simulated.lakes[SIMULATED]
    draw_lake(panels[4], made)
    truth = read_truth(simulated.out / "archive" / SIMULATED).sort_values("time")
    panels[4].plot(
        truth["time"], truth["water_km2"], color="red", linewidth=1.5, linestyle=":", label="simulated truth"
    )
    plots.looks.legend(panels[4])
    panels[4].set_title(f"{panels[4].get_title()}, simulated")
    draw_shores(panels[5], real.lakes["tsho_rolpa"])
    plots.plot_completeness(real.lakes["tsho_rolpa"].area, panels[6])
    plots.plot_maxima(made.maxima, panels[7], trends=made.trends["median"])
    panels[7].set_title(f"{panels[7].get_title()}, simulated: statistics of the seasons")
    figure.suptitle(CREDIT)
    print(f"wrote {plots.save_figure(panels[0], out / 'figure6_decadal.png')}")
    if with_film:
        print(f"wrote {film(real.lakes['tsho_rolpa'], out / 'figure6_decadal.gif')}")


if __name__ == "__main__":
    given = [argument for argument in sys.argv[1:] if argument != "--film"]
    data = Path(os.environ.get("CUBEKIT_NPSAR", "../shared/data/npsar"))
    main(
        Path(given[0]) if given else data / "rtc",
        Path(given[1]) if len(given) > 1 else Path("out/figure6_decadal"),
        with_film="--film" in sys.argv,
    )
