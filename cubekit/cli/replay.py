"""The command that runs an archive as if it came in live: which alerts there would have been, and how good they are."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from cubekit.cli._show import out
from cubekit.errors import ConfigError, SourceError

_WITHIN = 2  # passes in which a change should be confirmed


def replay(
    series: Annotated[Path, typer.Argument(help="A study that was run (TOML), or an areas CSV.")],
    lake: Annotated[list[str] | None, typer.Option(help="Only this lake; may be repeated.")] = None,
    known: Annotated[
        Path | None, typer.Option(help="CSV of what really happened: lake, time, sign (growth or drop).")
    ] = None,
    change: Annotated[float, typer.Option(help="Change that is put in to see how soon it is confirmed, %.")] = -10.0,
    least_change: Annotated[float, typer.Option(help="Smaller changes are no alert, % of the area.")] = 5.0,
    csv: Annotated[Path | None, typer.Option(help="Where the events go, one a row.")] = None,
) -> None:
    """Run areas as if they came in live: alerts, false ones per lake-decade, and delays of changes put in."""
    import pandas as pd

    from cubekit.series import read_csv
    from cubekit.series.alerts import replay as run
    from cubekit.series.alerts import score, sensitivity

    tables = {path: read_csv(path) for path in _paths(series)}
    happened = None if known is None else _read_known(known)
    rows, told = [], []
    for path, table in tables.items():
        wanted = _chosen(table, lake)
        for name in wanted:
            areas = table[table["lake"] == name]
            events = run(areas, least_change=least_change / 100)
            years = (areas["time"].max() - areas["time"].min()).total_seconds() / 86_400 / 365.25
            of_lake = None if happened is None else happened[happened["lake"] == name]
            counts = score(events, years, of_lake) if years > 0 else None
            trials = sensitivity(areas, change=change / 100, least_change=least_change / 100)
            rows.append((path.parent.name, name, len(areas), years, events, counts, trials))
            told.append(events.assign(source=path.parent.name, lake=name))
    _show(rows, change)
    if csv is not None:
        from cubekit.files import replacing

        with replacing(csv) as temporary:
            pd.concat([one for one in told if len(one)] or told[:1]).to_csv(temporary, index=False)
        out.print(f"wrote {csv}", markup=False, soft_wrap=True)


def _paths(series: Path) -> list[Path]:
    """The areas of a study, one file a source, or the file given."""
    if series.suffix.lower() != ".toml":
        return [series]
    from cubekit.config import Study

    folder = Study.load(series).study.out / "series"
    found = sorted(folder.glob("*/areas.csv"))
    if not found:
        msg = f"{series} has no areas yet: there is no areas.csv below {folder}; run it first: cubekit run {series}"
        raise SourceError(msg)
    return found


def _chosen(table: Any, lake: list[str] | None) -> list[str]:
    names = [str(name) for name in table["lake"].unique()]
    if missing := [name for name in lake or [] if name not in names]:
        msg = f"the areas hold no lake {', '.join(missing)}; they hold {', '.join(names)}"
        raise ConfigError(msg)
    return lake or names


def _read_known(path: Path) -> Any:
    import pandas as pd

    try:
        table = pd.read_csv(path)
        table["time"] = pd.to_datetime(table["time"], utc=True)
    except (OSError, ValueError, KeyError) as error:
        msg = f"{path} can't be read ({type(error).__name__}: {error}); give a CSV with the columns lake, time and sign"
        raise SourceError(msg) from error
    if absent := [name for name in ("lake", "time", "sign") if name not in table]:
        msg = f"{path} lacks the column {', '.join(absent)}; give lake, time and sign"
        raise SourceError(msg)
    return table


def _show(rows: list[tuple[Any, ...]], change: float) -> None:
    alerts = Table("source", "lake", "alert", "sign", "first", "confirmed", "closed", "change", "how it ended")
    alerts.title = "Confirmed alerts"
    table = Table("source", "lake", "passes", "years", "first", "confirmed", "known", "found", "delay days")
    for column in ("false a decade", f"{change:+g} % in {_WITHIN} passes", "days"):
        table.add_column(column)
    table.title = "Replay, each pass judged by those before it"
    for source, name, passes, years, events, counts, trials in rows:
        first = int((events["kind"] == "first").sum())
        cells = ["-"] * 5
        if counts is not None:
            numbers = (counts["confirmed"], counts["known"], counts["found"])
            cells = [*(f"{number:.0f}" for number in numbers), _number(counts["delay_days"], ".0f")]
            cells.append(_number(counts["false_per_decade"], ".2f"))
        share = float((trials["passes"] <= _WITHIN).mean()) if len(trials) else math.nan
        days = float(trials["days"].median()) if len(trials) else math.nan
        put_in = (f"{100 * share:.0f} % of {len(trials)}" if len(trials) else "-", _number(days, ".0f"))
        table.add_row(source, name, str(passes), f"{years:.1f}", str(first), *cells, *put_in)
        for number in events.loc[events["kind"] == "confirmed", "alert"]:
            _add_alert(alerts, source, name, events[events["alert"] == number])
    if alerts.row_count:
        out.print(alerts)
    out.print(table)
    out.print("False are the confirmed alerts that belong to no known event; with none known, all of them.")


def _add_alert(table: Table, source: str, name: str, events: Any) -> None:
    confirmed = events[events["kind"] == "confirmed"].iloc[0]
    closed = events[events["kind"] == "closed"]
    ended = (f"{closed.iloc[0]['time']:%Y-%m-%d}", closed.iloc[0]["outcome"]) if len(closed) else ("", "open")
    dates = (f"{confirmed['since']:%Y-%m-%d}", f"{confirmed['time']:%Y-%m-%d}")
    change = f"{100 * confirmed['change']:+.1f} %"
    table.add_row(source, name, str(confirmed["alert"]), confirmed["sign"], *dates, ended[0], change, ended[1])


def _number(value: float, form: str) -> str:
    return "-" if math.isnan(value) else format(value, form)
