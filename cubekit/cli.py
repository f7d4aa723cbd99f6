"""The command line: thin, one line of error for what a user can mend."""

from __future__ import annotations

import math
import sys
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from cubekit.errors import CubekitError

if TYPE_CHECKING:
    import pandas as pd

    from cubekit.pipeline import Progress
    from cubekit.report import Report

app = typer.Typer(
    help="Sentinel-1 glacial-lake cubes: from scenes to lake-area records.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
# A table is wider than the 80 columns that a pipe or a log file is taken to have.
_WIDTH = None if sys.stdout.isatty() else 140
out = Console(width=_WIDTH, highlight=False)
err = Console(stderr=True, width=_WIDTH, highlight=False)

Scheduler = Annotated[str | None, typer.Option(help='"threads", "processes" or a Dask address, e.g. tcp://host:8786.')]
_DAYS = ["%Y-%m-%d"]
CubePath = Annotated[Path, typer.Argument(help="A cube, e.g. out/cubes/hyp3/tsho_rolpa.")]


@app.command()
def run(
    study: Annotated[Path, typer.Argument(help="The study, a TOML file (`cubekit init` writes one).")],
    scheduler: Scheduler = None,
) -> None:
    """Run a study: search, build, segment, measure, draw, publish. Goes on where it was stopped."""
    from cubekit import pipeline
    from cubekit.config import Study

    loaded = Study.load(study)
    with _progress() as progress:
        report = pipeline.run(loaded, scheduler, progress=progress)
    _show(report)


@app.command()
def demo(
    folder: Annotated[Path, typer.Argument(help="Where everything goes.")] = Path("demo"),
    scheduler: Scheduler = None,
) -> None:
    """Run a study on a simulated archive, and hold its areas against the truth."""
    from cubekit import demo as demonstration

    with _progress() as progress:
        report = demonstration.demo(folder, scheduler=scheduler, progress=progress)
    if report.lakes:
        table = demonstration.against_truth(report)
        table.to_csv(folder / "truth.csv", index=False)
        _show_truth(table)
        error = demonstration.median_error(table)
        known = int(table["error_percent"].notna().sum())
        out.print(f"Median error {error:.2f} % over {known} passes; of {len(table) - known} the area isn't known.\n")
    _show(report)


@app.command()
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


@app.command()
def lakes() -> None:
    """List the lakes of the catalogue."""
    from cubekit.lakes import catalogue

    table = Table("id", "title", "latitude", "longitude", "altitude m", "EPSG", title="Catalogue")
    for lake in catalogue().values():
        latitude, longitude = lake.centre
        table.add_row(lake.id, lake.title, f"{latitude:.4f}", f"{longitude:.4f}", f"{lake.altitude:g}", str(lake.epsg))
    out.print(table)


@app.command()
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


@app.command()
def publish(
    cube: CubePath, target: Annotated[Path, typer.Argument(help="The Zarr to write, e.g. tsho_rolpa.zarr.")]
) -> None:
    """Write a cube out as plain Zarr that any tool opens."""
    from cubekit.cube import publish as publish_cube

    out.print(f"published {publish_cube(cube, target)}", markup=False, soft_wrap=True)


@app.command()
def evaluate(
    model: Annotated[str, typer.Option(help='A .safetensors file; "none" measures the baselines only.')],
    chips: Annotated[Path, typer.Option(help="Folder of chips, named as published or as cubekit writes them.")],
    masks: Annotated[Path, typer.Option(help="Folder of their masks: 0 and 1, or 0 and 255.")],
    split: Annotated[
        str, typer.Option(help="What is tested: random (a fifth), date, lake, track (each in turn), or none (all).")
    ] = "none",
    seed: Annotated[int, typer.Option(help="Of the random split, and of the intervals.")] = 0,
    cut: Annotated[datetime | None, typer.Option(formats=_DAYS, help="First day of testing, for --split date.")] = None,
    until: Annotated[datetime | None, typer.Option(formats=_DAYS, help="Last day of testing.")] = None,
    gap_days: Annotated[float, typer.Option(help="Days before --cut that are left out of training.")] = 0.0,
    hold_out: Annotated[
        str | None, typer.Option(help="The one lake or track (T121) to test, for those splits; by default each.")
    ] = None,
    threshold: Annotated[float | None, typer.Option(help="Probability of water; by default the model's own.")] = None,
    json: Annotated[Path | None, typer.Option(help="Where all numbers go.")] = None,
) -> None:
    """Measure a model against drawn masks, beside baselines that see no radar or need no training."""
    from cubekit.segmentation import evaluation, evaluation_report
    from cubekit.segmentation.pairs import load_pairs

    pairs = load_pairs(chips, masks)
    first, last = (None if day is None else day.date() for day in (cut, until))
    samples = [pair.sample for pair in pairs]
    folds = evaluation.folds_of(samples, split, seed=seed, cut=first, until=last, gap_days=gap_days, hold_out=hold_out)
    predict, card = (None, None) if model == "none" else evaluation.model_predict(Path(model), pairs)
    level = threshold if threshold is not None else card.threshold if card else 0.5
    with _progress() as progress:
        measured = evaluation.evaluate(
            pairs,
            predict,
            folds,
            threshold=level,
            progress=lambda done, total: progress(split, "evaluate", done, total),
        )
    made = evaluation_report.report(measured, seed=seed)
    made |= {"model": card.name if card else None, "threshold": level, "pairs": len(pairs)}
    if json is not None:
        evaluation_report.write_json(made, json)
    _show_scores(evaluation_report.table(made), made)


@app.command()
def train(
    chips: Annotated[Path, typer.Option(help="Folder of chips, named as published or as cubekit writes them.")],
    masks: Annotated[Path, typer.Option(help="Folder of their masks: 0 and 1, or 0 and 255.")],
    folder: Annotated[Path, typer.Option("--out", help="Where the model goes, its history and its checkpoint.")],
    recipe: Annotated[Path | None, typer.Option(help="A TOML file; by default the paper's, but from random.")] = None,
    split: Annotated[
        str, typer.Option(help="What is kept for testing: random (a fifth), date, lake, track, or none.")
    ] = "random",
    seed: Annotated[int, typer.Option(help="Of the random split; that of the training is in the recipe.")] = 0,
    cut: Annotated[datetime | None, typer.Option(formats=_DAYS, help="First day of testing, for --split date.")] = None,
    gap_days: Annotated[float, typer.Option(help="Days before --cut that are left out.")] = 0.0,
    hold_out: Annotated[str | None, typer.Option(help="The lake or track (T121) to test, for those splits.")] = None,
    validation: Annotated[float, typer.Option(help="Share of all chips that chooses the epoch.")] = 0.1,
    licence: Annotated[str, typer.Option(help="Terms of the weights, for the card.")] = "not stated",
    resume: Annotated[bool, typer.Option(help="Go on where it was stopped, or start anew.")] = True,
) -> None:
    """Train a U-Net on chips and their masks. Goes on where it was stopped."""
    from cubekit.segmentation import training, training_data
    from cubekit.segmentation.pairs import load_pairs

    loaded = training.Recipe() if recipe is None else training.Recipe.load(recipe)
    pairs = load_pairs(chips, masks)
    parts = training_data.training_split(
        [pair.sample for pair in pairs],
        split,
        seed=seed,
        cut=None if cut is None else cut.date(),
        gap_days=gap_days,
        hold_out=hold_out,
        validation=validation,
    )
    learned, choosing = ([pairs[index] for index in part] for part in (parts.train, parts.validation))
    counts = f"{len(learned)} for training, {len(choosing)} choose the epoch, {len(parts.test)} are kept for testing"
    out.print(f"{len(pairs)} pairs, split {split} ({parts.name}): {counts}", markup=False)
    with _training_progress(loaded.training.epochs) as progress:
        trained = training.train(
            training_data.PairSamples(learned),
            loaded,
            folder,
            validation=training_data.PairSamples(choosing),
            preprocessing=training_data.fingerprint_of(pairs),
            licence=licence,
            data_note=f"{len(pairs)} pairs of {', '.join(sorted({pair.sample.lake for pair in pairs}))}",
            split=f"{split} ({parts.name}), {counts}",
            lakes=[pair.sample.lake for pair in choosing],
            resume=resume,
            progress=progress,
        )
    row = trained.history[trained.epoch - 1]
    out.print(
        f"epoch {trained.epoch} of {len(trained.history)} is the model: validation IoU {row['validation_iou']:.4f}, "
        f"loss {row['validation_loss']:.4f}, temperature {trained.temperature:.2f}, "
        f"{sum(each['seconds'] for each in trained.history):.0f} s"
    )
    out.print(f"weights {trained.weights}\nwrote {trained.model}", markup=False, soft_wrap=True)


def main() -> None:
    """Run the command line."""
    warnings.showwarning = _show_warning  # type: ignore[assignment]  # without the names that nobody passes
    try:
        app()
    except (CubekitError, OSError) as error:  # an OSError names its file: a full disk, a folder that isn't there
        _complain(str(error))
        sys.exit(1)


def _complain(text: str) -> None:
    err.print(f"error: {' '.join(text.splitlines())}", style="red", soft_wrap=True, markup=False)


def _show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    if issubclass(category, UserWarning):  # what others deprecate is not for who runs a study
        err.print(f"warning: {message}", style="yellow", soft_wrap=True, markup=False)


@contextmanager
def _progress() -> Iterator[Progress]:
    """Show progress bars while a study runs, from its first step on."""
    from rich import progress as bars

    count, clock = bars.MofNCompleteColumn(), bars.TimeElapsedColumn()
    shown = bars.Progress(bars.TextColumn("{task.description}"), bars.BarColumn(), count, clock, console=err)
    tasks: dict[tuple[str, str], bars.TaskID] = {}

    def told(lake: str, stage: str, done: int, total: int) -> None:
        shown.start()
        if (lake, stage) not in tasks:
            tasks[lake, stage] = shown.add_task(f"{lake}: {stage}")
        shown.update(tasks[lake, stage], completed=done, total=total)

    try:
        yield told
    finally:
        if tasks:
            shown.stop()


@contextmanager
def _training_progress(epochs: int) -> Iterator[Any]:
    """Show one bar over all steps, with the last epoch's scores beside it."""
    from rich import progress as bars

    columns = (bars.TextColumn("{task.description}"), bars.BarColumn(), bars.TimeElapsedColumn())
    with bars.Progress(*columns, bars.TimeRemainingColumn(), console=err) as shown:
        task = shown.add_task("training", total=None)

        def told(epoch: int, step: int, steps: int, row: Any) -> None:
            scores = f": loss {row['validation_loss']:.3f}, IoU {row['validation_iou']:.3f}" if row else ""
            done = (epoch - 1) * steps + step
            shown.update(task, completed=done, total=epochs * steps, description=f"epoch {epoch} of {epochs}{scores}")

        yield told


def _show(report: Report) -> None:
    """Show what a run made; a lake that failed makes the exit code 1."""
    for name, lake in report.lakes.items():
        out.print(f"{name}: {lake.append}")
        for reason, count in Counter(lake.append.empty.values()).items():
            out.print(f"  {count} left out: {reason}")
        for old, new in lake.append.superseded.items():
            out.print(f"  {old} left out: {new} is a newer processing of the same scene")
        for granule, reason in lake.append.refused.items():
            err.print(f"  refused {granule}: {reason}", style="yellow", soft_wrap=True, markup=False)
    if report.lakes:
        _show_areas(report)
    for name, error in report.failed.items():
        _complain(f"{name}: {error}")
    if report.failed:
        raise typer.Exit(1)


def _show_areas(report: Report) -> None:
    table = Table(
        "lake", "track", "passes", "known", "seen", "latest", "area km2", "bounds km2", "trend km2/yr", "verdict"
    )
    table.title = "Areas, and trends of the summer medians"
    for row in report.rows():
        known = row.known > 0
        table.add_row(
            row.lake,
            str(row.track),
            str(row.passes),
            str(row.known),
            f"{row.seen:.2f}",
            f"{row.latest:%Y-%m-%d}" if known else "-",
            f"{row.area_km2:.3f}" if known else "not known",
            f"{row.area_low:.3f} to {row.area_high:.3f}" if known else "",
            row.trend,
            row.verdict,
        )
    out.print(table)
    out.print(f"results are in {report.out}", markup=False, soft_wrap=True)


def _show_scores(rows: list[dict[str, Any]], made: dict[str, Any]) -> None:
    columns = ("method", "lake", "images", "IoU", "95 %", "mean IoU", "precision", "recall", "F1", "area %", "shore m")
    shown = Table(*columns, title=f"Split {made['split']['kind']}: {', '.join(made['split']['names'])}")
    for row in rows:
        low, high = row["interval"] or (None, None)
        scores = [_number(row[key]) for key in ("mean_iou", "precision", "recall", "f1")]
        interval = "" if low is None else f"{low:.3f} to {high:.3f}"
        errors = _number(row["area_bias_percent"], "+.1f"), _number(row["boundary_mean_m"], ".0f")
        shown.add_row(row["method"], row["lake"], str(row["images"]), _number(row["iou"]), interval, *scores, *errors)
    out.print(shown)
    for name, gain in made.get("gain", {}).items():
        low, high = gain["interval"]
        between = "" if low is None else f" (95 %: {low:+.3f} to {high:+.3f})"
        out.print(f"model less {name}: {_number(gain['iou'], '+.3f')}{between}")
    for name, baseline in made["baselines"].items():
        out.print(f"{name} knew: {', '.join(f'{basis} {count}' for basis, count in baseline['basis'].items())}")
    for kind, count in made["split"]["leaks"].items():
        out.print(f"leak ({kind}): {count} times two samples that should not be in two parts", style="yellow")
    if made["split"]["kind"] == "none":
        out.print("nothing is held out here: the model may have been trained on these chips")


def _number(value: float | None, form: str = ".3f") -> str:
    return "-" if value is None else format(value, form)


def _show_truth(table: pd.DataFrame) -> None:
    columns = ("lake", "time", "track", "truth km2", "area km2", "bounds km2", "error %", "observed")
    shown = Table(*columns, title="Recovered against simulated truth")
    for row in table.to_dict("records"):
        known = not math.isnan(row["error_percent"])
        shown.add_row(
            row["lake"],
            f"{row['time']:%Y-%m-%d %H:%M}",
            str(row["track"]),
            f"{row['water_km2']:.3f}",
            f"{row['area_km2']:.3f}" if known else "not known",
            f"{row['area_low']:.3f} to {row['area_high']:.3f}" if known else "",
            f"{row['error_percent']:+.1f}" if known else "",
            f"{row['observed_fraction']:.2f}",
        )
    out.print(shown)


if __name__ == "__main__":
    main()
