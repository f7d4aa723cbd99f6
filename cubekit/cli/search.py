"""Commands around archives: what they have of a lake, and which of them can be used."""

from __future__ import annotations

import json as jsons
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape
from rich.table import Column, Table

from cubekit.cli._show import complain, out, progress_bars
from cubekit.errors import ConfigError, CubekitError, LakeError

if TYPE_CHECKING:
    from cubekit.lakes import Lake
    from cubekit.sources.coverage import Found

_DAYS = ["%Y-%m-%d"]
_STANDARD = Path("-")


def search(
    lake: Annotated[list[str], typer.Argument(help="Lakes of the catalogue, or GeoJSON files of lakes.")],
    source: Annotated[
        list[str] | None, typer.Option(help="An archive, as in a study; may be repeated. By default opera.")
    ] = None,
    start: Annotated[datetime | None, typer.Option(formats=_DAYS, help="First day; by default the first ever.")] = None,
    end: Annotated[datetime | None, typer.Option(formats=_DAYS, help="Last day; by default today.")] = None,
    json: Annotated[Path | None, typer.Option(help="Where all counts go, and why passes are not usable.")] = None,
    geojson: Annotated[Path | None, typer.Option(help="Where the footprints of all scenes go.")] = None,
) -> None:
    """Search archives: passes expected, found and usable, by track and year. Reads no pixels, orders nothing.

    A file named - is the standard output, and then no table is shown.
    """
    from cubekit.sources import coverage

    if json == geojson == _STANDARD:
        msg = "only one of --json and --geojson can go to the standard output; name a file for the other"
        raise ConfigError(msg)
    first, last = (None if day is None else day.date() for day in (start, end))
    lakes, sources = lakes_named(lake), list(dict.fromkeys(source or ["opera"]))
    results: list[Found] = []
    failed: list[dict[str, str]] = []
    with progress_bars() as progress:
        for done, one in enumerate(lakes):
            for uri in sources:
                progress(uri, "search", done, len(lakes))
                try:
                    results.append(coverage.search(one, uri, first, last))
                except CubekitError as error:
                    failed.append({"lake": one.id, "source": uri, "error": str(error)})
                progress(uri, "search", done + 1, len(lakes))
    if json is not None:
        made = {
            "searched": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "start": None if first is None else first.isoformat(),
            "end": None if last is None else last.isoformat(),
            "results": [one.summary() for one in results],
            "failed": failed,
        }
        _write(made, json)
    if geojson is not None:
        features = [feature for one in results for feature in one.features()]
        _write({"type": "FeatureCollection", "features": features}, geojson)
    if _STANDARD not in (json, geojson):
        for found in results:
            _show(found)
    for failure in failed:
        complain(f"{failure['lake']} in {failure['source']}: {failure['error']}")
    if failed:
        raise typer.Exit(1)


def sources() -> None:
    """List the archives that can be searched: what is installed for them, and whether a login is found."""
    from cubekit.sources.access import LOGIN, access

    table = Table(Column("source", overflow="fold"), "installed", "login to Earthdata", title="Sources")
    for one in access():
        installed = f"no: {', '.join(one.missing)} missing" if one.missing else "yes"
        for name, what in one.optional.items():
            installed += f"; for {what} also {name}"
        if not one.login:
            login = "needs none"
        elif one.found:
            login = f"found: {one.found}"
        else:
            login = f"{one.fault or 'none found'}; needed {one.login}"
        table.add_row(escape(one.source), installed, escape(login))
    out.print(table)
    out.print(f"A login is {LOGIN}. None was tried.", soft_wrap=True)


def lakes_named(names: list[str]) -> list[Lake]:
    """Lakes by their ids in the catalogue, and all lakes of files, each once."""
    from cubekit.lakes import catalogue, load

    known, chosen = catalogue(), {}
    for name in names:
        if name in known:
            chosen[name] = known[name]
        elif Path(name).suffix.lower() in {".geojson", ".json"}:
            chosen.update(load(name))
        else:
            msg = f"lake {name!r} is not in the catalogue; it has {', '.join(sorted(known))}; or give a .geojson file"
            raise LakeError(msg)
    return list(chosen.values())


def _write(made: dict[str, Any], path: Path) -> None:
    from cubekit.files import replacing

    text = jsons.dumps(made, indent=1, ensure_ascii=False) + "\n"
    if path == _STANDARD:
        typer.echo(text, nl=False)
    else:
        with replacing(path) as temporary:
            temporary.write_text(text, encoding="utf-8")


def _show(found: Found) -> None:
    years = sorted({row.year for row in found.rows})
    numbers = {(row.track, row.year): row for row in found.rows}
    table = Table("track", "direction", "", *map(str, years), "all")
    table.title = f"{found.lake.id} in {escape(found.source)}: passes"
    for track, direction in dict.fromkeys((row.track, row.direction) for row in found.rows):
        rows = [row for row in found.rows if row.track == track]
        for index, name in enumerate(("expected", "found", "usable")):
            heads = (str(track), direction) if index == 0 else ("", "")
            counts = [getattr(numbers.get((track, year)), name, None) for year in years]
            known = [count for row in rows if (count := getattr(row, name)) is not None]
            shown = ["-" if count is None else str(count) for count in counts]
            table.add_row(*heads, name, *shown, str(sum(known)) if known else "-", end_section=index == 2)
    out.print(table)
    for reason, count in found.reasons().items():
        out.print(f"{count} not usable: {reason}", markup=False, soft_wrap=True)
    beyond = dict.fromkeys(str(row.track) for row in found.rows if row.expected is None and row.direction)
    if beyond:
        tracks = ", ".join(beyond)
        out.print(
            f"nothing is expected of track {tracks}: its swath ends before the lake, or about there", soft_wrap=True
        )
