"""Commands that look after a cube: its history, what of that may go, and whether it is whole."""

from __future__ import annotations

import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape
from rich.table import Table

from cubekit.cli._show import out
from cubekit.cli.study import CubePath

if TYPE_CHECKING:
    from cubekit.cube import Repair, Verification

AsJson = Annotated[bool, typer.Option("--json", help="As JSON, for programs.")]


def history(cube: CubePath, as_json: AsJson = False) -> None:
    """Show the snapshots of a cube: id, time, passes, message."""
    from cubekit import cube as cubes

    counts = cubes.passes_at(cube)
    snapshots = cubes.history(cube)
    if as_json:
        rows = [
            {"id": one.id, "time": one.time.isoformat(), "passes": counts[one.id], "message": one.message}
            for one in snapshots
        ]
        out.print_json(json.dumps(rows))
        return
    table = Table("id", "time (UTC)", "passes", "message", title=f"{len(snapshots)} snapshots, newest first")
    for one in snapshots:
        table.add_row(one.id, f"{one.time:%Y-%m-%d %H:%M:%S}", str(counts[one.id]), one.message)
    out.print(table)


def expire(
    cube: CubePath,
    older_than: Annotated[float | None, typer.Option(help="Days: younger snapshots stay.", min=0)] = None,
    keep: Annotated[int | None, typer.Option(help="So many of the newest stay, 1 by default.", min=1)] = None,
    keep_snapshot: Annotated[
        list[str] | None, typer.Option(help="A snapshot that stays, by its id; may be repeated.")
    ] = None,
    delete: Annotated[bool, typer.Option("--delete", help="Do it; without this, only tell what would go.")] = False,
) -> None:
    """Forget old snapshots of a cube, and delete what only they hold. What results and releases name stays."""
    from cubekit import cube as cubes

    there = {one.id for one in cubes.history(cube)}
    named = _named(cube.resolve()) & there
    done = cubes.expire(
        cube,
        older_than=None if older_than is None else timedelta(days=older_than),
        keep=keep,
        keep_snapshots=sorted(named | set(keep_snapshot or [])),
        dry_run=not delete,
    )
    for one in done.expired:
        out.print(f"{'expired' if done.done else 'would expire'} {one.time:%Y-%m-%d %H:%M:%S} {one.id} {one.message}")
    for name in sorted(named):
        out.print(f"{name} stays: results or releases of the study name it")
    counts = f"{len(done.expired)} snapshots expired, {len(done.kept)} kept, {done.megabytes:.1f} MB deleted"
    out.print(counts if done.done else f"{len(done.expired)} would expire, {len(done.kept)} stay; --delete does it")


def verify(
    cube: CubePath,
    published: Annotated[
        Path | None, typer.Option(help="The Zarr that was published of it; a study's own is found by itself.")
    ] = None,
    past: Annotated[bool, typer.Option(help="Also read what only older snapshots hold.")] = True,
    repair: Annotated[bool, typer.Option("--repair", help="Mend what can be mended, and say what can't.")] = False,
    workers: Annotated[int, typer.Option(help="Threads that read.", min=1)] = 1,
    as_json: AsJson = False,
) -> None:
    """Read all of a cube and tell what is wrong with it; exit code 1 if anything is."""
    from dataclasses import asdict

    from cubekit import cube as cubes

    published = published or _own_published(cube.resolve())
    found = cubes.verify(cube, published=published, past=past, workers=workers)
    mended = cubes.repair(cube, published=published) if repair and not found.ok else None
    whole = found.ok if mended is None else not (mended.left or mended.granules)
    if as_json:
        told = {"path": str(found.path), "snapshot": found.snapshot, "passes": found.passes, "chunks": found.chunks}
        findings = [asdict(one) for one in found.findings]
        told |= {"ok": found.ok, "findings": findings, "repair": None if mended is None else asdict(mended)}
        out.print_json(json.dumps(told))
    else:
        _show(found)
        if mended is not None:
            _show_repair(mended)
    if not whole:
        raise typer.Exit(1)


def _show(found: Verification) -> None:
    from cubekit.cube import ADVICE

    if found.findings:
        table = Table("part", "of it", "pass", "problem", "what mends it")
        for one in found.findings:
            row = (one.part, one.variable, one.time, one.problem, ADVICE[one.remedy])
            table.add_row(*map(escape, row), style="red" if one.wrong else None)
        out.print(table)
    wrong = sum(one.wrong for one in found.findings)
    verdict = f"{wrong} things wrong" if wrong else "all is well"
    out.print(f"{found.passes} passes, {found.chunks} chunks read: {verdict}")
    granules = sorted({name for one in found.findings if one.wrong for name in one.granules})
    if granules:
        out.print(f"granules of these passes: {', '.join(granules)}", markup=False, soft_wrap=True)


def _show_repair(mended: Repair) -> None:
    for done in mended.done:
        out.print(f"repaired: {done}", markup=False, soft_wrap=True)
    for left in mended.left:
        out.print(f"not repaired: {left}", markup=False, soft_wrap=True)
    if mended.granules:
        out.print(f"granules to append again: {', '.join(mended.granules)}", markup=False, soft_wrap=True)


def _own_published(path: Path) -> Path | None:
    """What the study published, for ``<out>/cubes/<source>/<lake>``."""
    if path.parent.parent.name != "cubes":
        return None
    link = path.parents[2] / "zarr" / path.parent.name / f"{path.name}.zarr"
    return link if link.is_symlink() else None


def _named(path: Path) -> set[str]:
    """Snapshots that the study's tables and the service's releases name, for ``<out>/cubes/<source>/<lake>``."""
    import pandas as pd

    lake, source = path.name, path.parent.name
    if path.parent.parent.name != "cubes":
        return set()
    home = path.parents[2]
    found: set[str] = set()
    table = home / "series" / source / "areas.csv"
    if table.is_file():
        rows = pd.read_csv(table, usecols=["lake", "snapshot"])
        found |= set(rows.loc[rows["lake"] == lake, "snapshot"].dropna())
    if (home / "service" / "state.sqlite").is_file():
        from sqlalchemy import select

        from cubekit.service.state import Job, Release, State

        state = State.of(home)
        with state.read() as session:
            for kind in (Release, Job):  # a job that waits is measured as of its snapshot
                asked = select(kind.snapshot).where(kind.lake == lake, kind.source == source)
                asked = asked if kind is Release else asked.where(Job.state != "done")
                found |= set(session.scalars(asked))
        state.close()
    return found
