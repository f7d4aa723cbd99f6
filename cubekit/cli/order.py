"""Commands around an order at HyP3: plan it, submit it, look at it, fetch what it made."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cubekit.cli._show import complain, out
from cubekit.cli.search import lakes_named
from cubekit.errors import ConfigError

if TYPE_CHECKING:
    from cubekit.lakes import Lake
    from cubekit.sources import Period
    from cubekit.sources.hyp3 import Fetched, Manifest, Quote, Service

app = typer.Typer(help="Order Sentinel-1 scenes at HyP3, follow them over days, fetch them.", no_args_is_help=True)

_DAYS = ["%Y-%m-%d"]
_SHOWN = 20

Folder = Annotated[Path, typer.Argument(help="Folder of the order; give it to a study as hyp3:FOLDER.")]


class Every(StrEnum):
    """How much of a track is ordered."""

    MONTH = "month"
    PASS = "pass"


class Direction(StrEnum):
    """Directions of an orbit."""

    ASCENDING = "ascending"
    DESCENDING = "descending"


@app.command()
def plan(
    folder: Folder,
    lake: Annotated[list[str] | None, typer.Argument(help="Lakes of the catalogue, or GeoJSON files of lakes.")] = None,
    study: Annotated[Path | None, typer.Option(help="A study whose lakes, period and tracks are taken.")] = None,
    start: Annotated[datetime | None, typer.Option(formats=_DAYS, help="First day.")] = None,
    end: Annotated[datetime | None, typer.Option(formats=_DAYS, help="Last day, inclusive.")] = None,
    every: Annotated[
        Every, typer.Option(help="One pass of each track and month, the nearest to its middle; or every pass.")
    ] = Every.MONTH,
    track: Annotated[list[int] | None, typer.Option(help="A relative orbit; may be repeated. By default all.")] = None,
    direction: Annotated[Direction | None, typer.Option(help="By default both.")] = None,
    frame: Annotated[list[int] | None, typer.Option(help="A frame of ASF; may be repeated. By default all.")] = None,
    resolution: Annotated[int, typer.Option(help="Pixel spacing, metres: 20 or 30.")] = 20,
    api: Annotated[str | None, typer.Option(help="Address of HyP3, for HyP3+. By default HyP3 Basic.")] = None,
) -> None:
    """Search scenes and write down which to order. Spends nothing, needs no login."""
    from cubekit.sources import hyp3

    lakes, period, tracks = _wanted(lake or [], study, start, end, track or [])
    if resolution not in {20, 30}:
        msg = f"--resolution {resolution} is not a spacing that lattices have; give 20 or 30"
        raise ConfigError(msg)
    planned = hyp3.plan(
        folder,
        lakes,
        period,
        every=every.value,
        tracks=tracks,
        direction=None if direction is None else direction.value,
        frames=frame or [],
        resolution=20 if resolution == 20 else 30,
        api=api or hyp3.DEFAULT_API,
    )
    for name, choice in planned.choices.items():
        passes, known = choice.passes
        out.print(f"{name}: {passes} of {known} passes are new in the plan, {len(choice.orders)} scenes", markup=False)
        for number, count in sorted(choice.partial.items()):
            out.print(f"  {count} passes of track {number} see only a part of its AOI: not planned", markup=False)
    _show_states(planned.manifest)
    out.print(f"order with: cubekit order submit {folder}", markup=False, soft_wrap=True)


@app.command()
def submit(
    folder: Folder,
    yes: Annotated[bool, typer.Option("--yes", help="Spend the credits without asking.")] = False,
    again: Annotated[
        bool, typer.Option("--again", help="Also what failed, expired, was refused or is of no use: it costs again.")
    ] = False,
) -> None:
    """Order what is planned: tells the price, asks, and orders nothing twice."""
    from cubekit.sources import hyp3

    def agree(quote: Quote) -> bool:
        _show_quote(quote)
        if quote.affordable == 0:
            return False
        return yes or typer.confirm(f"Order {quote.affordable} scenes for {quote.affordable * quote.each:g} credits?")

    service = _service(folder)
    done = hyp3.submit(folder, service, agree=agree, again=again)
    _show_states(done.manifest)
    if done.quote is None:
        out.print("nothing is left to order")
    elif done.ordered:
        out.print(f"ordered {len(done.ordered)} scenes; fetch them with: cubekit order fetch {folder} --follow")
    elif done.quote.affordable == 0:
        complain(
            f"{done.quote.left:g} credits are left, a scene costs {done.quote.each:g}; submit again next month (UTC)"
        )
        raise typer.Exit(1)
    else:
        out.print("nothing was ordered")


@app.command()
def status(folder: Folder) -> None:
    """Ask HyP3 how far the order is; lists what failed, and why."""
    from cubekit.sources import hyp3

    _show_states(hyp3.status(folder, _service(folder)))


@app.command()
def fetch(
    folder: Folder,
    follow: Annotated[bool, typer.Option("--follow", help="Go on until nothing more can come: days, maybe.")] = False,
    minutes: Annotated[float, typer.Option(min=0.01, help="Between two looks, for --follow.")] = 10.0,
    again: Annotated[bool, typer.Option("--again", help="Also products that were of no use before.")] = False,
) -> None:
    """Download, unpack and check what is ready. Goes on where it was stopped."""
    from cubekit.sources import hyp3

    failed: Mapping[str, str] = {}
    if again or not follow:
        failed = _show_fetched(hyp3.fetch(folder, _service(folder), again=again))
    if follow:
        for found in hyp3.follow(folder, lambda: _service(folder), interval=minutes * 60):
            failed = _show_fetched(found)
    _show_states(hyp3.load(folder))
    if failed:
        raise typer.Exit(1)


def _wanted(
    names: list[str], study: Path | None, start: datetime | None, end: datetime | None, tracks: list[int]
) -> tuple[list[Lake], Period, tuple[int, ...]]:
    """Lakes, period and tracks: of the study, where options don't say otherwise."""
    if bool(names) == bool(study):
        msg = "give lakes, or a study with --study" + (", not both" if study else "")
        raise ConfigError(msg)
    first, last = (None if day is None else day.date() for day in (start, end))
    if study is None:
        from cubekit.sources import parse_period

        return lakes_named(names), parse_period(first, last), tuple(tracks)
    from cubekit.config import Study
    from cubekit.pipeline import study_lakes
    from cubekit.sources import parse_period

    loaded = Study.load(study)
    period = parse_period(first or loaded.period.start, last or loaded.period.end)
    return list(study_lakes(loaded).values()), period, tuple(tracks) or loaded.source.tracks


def _service(folder: Path) -> Service:
    from cubekit.sources import hyp3

    return hyp3.connect(hyp3.load(folder).api)


def _show_quote(quote: Quote) -> None:
    left = "not limited" if quote.left is None else f"{quote.left:g}"
    out.print(f"{quote.scenes} scenes at {quote.each:g} credits are {quote.total:g}; you have {left}")
    if 0 < quote.affordable < quote.scenes:
        rest = quote.scenes - quote.affordable
        out.print(f"that is enough for {quote.affordable} now; submit the other {rest} next month (UTC)")


def _show_fetched(found: Fetched) -> Mapping[str, str]:
    out.print(
        f"{datetime.now(UTC):%Y-%m-%d %H:%M} UTC: {len(found.products)} products fetched, {found.expected} may come"
    )
    for granule, reason in sorted(found.failed.items()):
        complain(f"{granule}: {reason}")
    return found.failed


def _show_states(manifest: Manifest) -> None:
    from cubekit.sources.hyp3 import State

    now = datetime.now(UTC)
    states = manifest.by_state(now)
    table = Table("state", "scenes", "tracks", "first", "last", title=f"Order {manifest.name}")
    for state, orders in states.items():
        tracks = ", ".join(str(track) for track in sorted({order.track for order in orders}))
        table.add_row(state, str(len(orders)), tracks, f"{orders[0].start:%Y-%m-%d}", f"{orders[-1].start:%Y-%m-%d}")
    out.print(table)
    lost = [(order, order.reason(now)) for order in manifest.orders if order.reason(now)]
    for order, reason in lost[:_SHOWN]:
        out.print(f"{order.granule} {order.state(now)}: {reason}", markup=False, soft_wrap=True)
    if len(lost) > _SHOWN:
        out.print(f"and {len(lost) - _SHOWN} more")
    if lost:
        out.print("order these again with: cubekit order submit --again (it costs again)")
    ready = states.get(State.READY, ())
    expiries = [order.job.expires for order in ready if order.job and order.job.expires]
    if expiries:
        out.print(f"fetch before {min(expiries):%Y-%m-%d %H:%M} UTC, when the first of the ready ones expires")
