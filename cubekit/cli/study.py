"""Commands around a study: run it, write one, look at lakes and cubes, publish."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from cubekit.cli._show import out, progress_bars, show_report, show_truth

Scheduler = Annotated[str | None, typer.Option(help='"threads", "processes" or a Dask address, e.g. tcp://host:8786.')]
CubePath = Annotated[Path, typer.Argument(help="A cube, e.g. out/cubes/hyp3/tsho_rolpa.")]


def run(
    study: Annotated[Path, typer.Argument(help="The study, a TOML file (`cubekit init` writes one).")],
    scheduler: Scheduler = None,
) -> None:
    """Run a study: search, build, segment, measure, draw, publish. Goes on where it was stopped."""
    from cubekit import pipeline
    from cubekit.config import Study

    loaded = Study.load(study)
    with progress_bars() as progress:
        report = pipeline.run(loaded, scheduler, progress=progress)
    show_report(report)


def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything goes.")] = Path("demo"),
    scheduler: Scheduler = None,
) -> None:
    """Run a study on a simulated archive, and hold its areas against the truth."""
    from cubekit import demo as demonstration

    with progress_bars() as progress:
        report = demonstration.demo(folder, scheduler=scheduler, progress=progress)
    if report.lakes:
        table = demonstration.against_truth(report)
        table.to_csv(folder / "truth.csv", index=False)
        show_truth(table)
        error = demonstration.median_error(table)
        known = int(table["error_percent"].notna().sum())
        out.print(f"Median error {error:.2f} % over {known} passes; of {len(table) - known} the area isn't known.\n")
    show_report(report)


def init(
    path: Annotated[Path, typer.Argument(help="The TOML file to write.")] = Path("study.toml"),
    lake: Annotated[list[str] | None, typer.Option(help="A lake of the catalogue; may be repeated.")] = None,
    source: Annotated[str, typer.Option(help="The archive.")] = "folder:scenes",
) -> None:
    """Write a study with every key and its meaning."""
    from cubekit.config import Study
    from cubekit.errors import ConfigError
    from cubekit.pipeline import study_lakes

    if path.exists():
        msg = f"{path} exists; give another name"
        raise ConfigError(msg)
    names = lake or ["tsho_rolpa"]
    study = Study.parse(
        {"study": {"name": path.stem}, "lake": [{"id": name} for name in names], "source": {"uri": source}}
    )
    study_lakes(study)
    path.write_text(study.dump(), encoding="utf-8")
    out.print(f"wrote {path}; run it with: cubekit run {path}", markup=False, soft_wrap=True)


def lakes() -> None:
    """List the lakes of the catalogue."""
    from cubekit.lakes import catalogue

    table = Table("id", "title", "latitude", "longitude", "altitude m", "EPSG", title="Catalogue")
    for lake in catalogue().values():
        latitude, longitude = lake.centre
        table.add_row(lake.id, lake.title, f"{latitude:.4f}", f"{longitude:.4f}", f"{lake.altitude:g}", str(lake.epsg))
    out.print(table)


def info(cube: CubePath) -> None:
    """Show what a cube holds: passes per track and year, gaps, size, history."""
    from cubekit.cube import describe

    found = describe(cube)
    lattice = found["lattice"]
    out.print(
        f"[bold]{found['lake']}[/] from {found['source']}, EPSG:{lattice['epsg']}, {lattice['spacing']} m, "
        f"upper left {lattice['corner'][0]:.0f}, {lattice['corner'][1]:.0f}; {found['megabytes']:.1f} MB"
    )
    years = sorted({year for counts in found["passes"].values() for year in counts})
    table = Table("track", *map(str, range(years[0], years[-1] + 1)), "all", title="Passes")
    for track, counts in found["passes"].items():
        numbers = [str(counts.get(year, "")) for year in range(years[0], years[-1] + 1)]
        table.add_row(str(track), *numbers, str(sum(counts.values())))
    out.print(table)
    for track, gaps in found["gaps"].items():
        longest = ", ".join(f"{days} days until {day}" for days, day in gaps)
        out.print(f"longest gaps of track {track}: {longest or 'none'}")
    if found["empty"]:
        out.print(f"{len(found['empty'])} passes had no data on the lattice")
    for snapshot in found["history"]:
        out.print(f"{snapshot.time:%Y-%m-%d %H:%M:%S} {snapshot.id} {snapshot.message}")


def publish(
    cube: CubePath, target: Annotated[Path, typer.Argument(help="The Zarr to write, e.g. tsho_rolpa.zarr.")]
) -> None:
    """Write a cube out as plain Zarr that any tool opens."""
    from cubekit.cube import publish as publish_cube

    out.print(f"published {publish_cube(cube, target)}", markup=False, soft_wrap=True)
