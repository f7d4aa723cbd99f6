"""What the command line shows: consoles, errors and warnings, progress bars, tables."""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import typer
from rich.console import Console
from rich.table import Table

if TYPE_CHECKING:
    import pandas as pd

    from cubekit.pipeline import Progress
    from cubekit.report import Report

# A table is wider than the 80 columns that a pipe or a log file is taken to have.
_WIDTH = None if sys.stdout.isatty() else 160
out = Console(width=_WIDTH, highlight=False)
err = Console(stderr=True, width=_WIDTH, highlight=False)


def complain(text: str) -> None:
    """Show an error as one line."""
    err.print(f"error: {' '.join(text.splitlines())}", style="red", soft_wrap=True, markup=False)


def show_warning(message: Warning | str, category: type[Warning], *_: Any) -> None:
    """Show a warning that is for the user, in place of `warnings.showwarning`."""
    if issubclass(category, UserWarning):  # what others deprecate is not for who runs a study
        err.print(f"warning: {message}", style="yellow", soft_wrap=True, markup=False)


@contextmanager
def progress_bars() -> Iterator[Progress]:
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
def training_progress(epochs: int) -> Iterator[Any]:
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


def show_report(report: Report) -> None:
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
        _areas(report)
    for name, error in report.failed.items():
        complain(f"{name}: {error}")
    if report.failed:
        raise typer.Exit(1)


def _areas(report: Report) -> None:
    table = Table(
        "lake", "track", "passes", "known", "seen", "latest", "area km2", "bounds km2", "trend km2/yr", "verdict"
    )
    table.title = "Areas, and trends of the summer medians; fused: all tracks at the level of the one that sees most"
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
    for name, lake in report.lakes.items():
        for what, reason in lake.results.unknown.items():
            out.print(f"{name}: {what} not known: {reason}", markup=False, soft_wrap=True)
        for alert in lake.results.alerts.query("kind == 'confirmed'").itertuples():
            change = f"{alert.change:+.0%} since {alert.since:%Y-%m-%d}, confirmed on {alert.time:%Y-%m-%d}"
            out.print(f"{name}: {alert.sign} of the area, {change}", markup=False, soft_wrap=True)
    out.print(f"results are in {report.out}", markup=False, soft_wrap=True)


def show_scores(rows: list[dict[str, Any]], made: dict[str, Any]) -> None:
    """Show how well a model and the baselines did, and what they knew."""
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


def show_truth(table: pd.DataFrame) -> None:
    """Show measured areas beside simulated ones."""
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
