"""Commands of the service: watch, infer, serve, and the keys of those who may acknowledge alerts."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from cubekit.cli._show import err, out

if TYPE_CHECKING:
    from cubekit.config import Study
    from cubekit.service.context import Context

StudyFile = Annotated[Path, typer.Argument(help="The study, a TOML file (`cubekit init` writes one).")]
Name = Annotated[str, typer.Argument(help="Whose key it is.")]

keys = typer.Typer(help="Keys of those who may acknowledge alerts.", no_args_is_help=True)


def watch(
    study: StudyFile,
    once: Annotated[bool, typer.Option("--once", help="One look and what follows from it; for cron.")] = False,
    ingest_only: Annotated[
        bool, typer.Option("--ingest-only", help="Only look and append; `cubekit infer` does the rest.")
    ] = False,
) -> None:
    """Look for new passes on a schedule, measure them, release what came out, and warn."""
    from cubekit.service.watch import ending_on_signals
    from cubekit.service.watch import watch as run

    context = _context(study)
    with ending_on_signals(context):
        failed = run(context, once=once, ingest_only=ingest_only)
    context.state.close()
    if once and failed:
        err.print(f"the look failed for {', '.join(failed)}; it is made again next time", markup=False, soft_wrap=True)
        raise typer.Exit(1)


def infer(
    study: StudyFile,
    once: Annotated[bool, typer.Option("--once", help="What is due now, and no more.")] = False,
) -> None:
    """Measure what `cubekit watch --ingest-only` brings, release what came out, and warn."""
    from cubekit.service.watch import ending_on_signals, run_inference

    context = _context(study)
    with ending_on_signals(context):
        run_inference(context, once=once)
    context.state.close()


def serve(
    study: StudyFile,
    host: Annotated[str | None, typer.Option(help="Address to listen on, in place of the study's.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on, in place of the study's.", min=0)] = None,
) -> None:
    """Serve what is known of the lakes: a page, and an API for programs."""
    from cubekit.errors import MissingExtra
    from cubekit.service import logs

    try:
        import uvicorn

        from cubekit.service.api import create_app
    except ImportError as error:
        msg = f'{error.name} is not installed, and the service needs it; pip install "cubekit[service]"'
        raise MissingExtra(msg) from error
    loaded = _study(study)
    logs.to_stderr()
    options = loaded.service
    for number in (signal.SIGTERM, signal.SIGINT):
        # uvicorn ends cleanly on its own handlers, then raises the signal again: that must not look like a crash.
        signal.signal(number, lambda *_: None)
    uvicorn.run(
        create_app(loaded),
        host=host or options.host,
        port=options.port if port is None else port,
        log_config=None,
        access_log=False,
        server_header=False,
    )


def ready(study: StudyFile) -> None:
    """Tell whether a service looks, and has something to serve: exit code 0, or 1 and the reasons."""
    from cubekit.service.context import present
    from cubekit.service.ready import lacking

    context = _context(study)
    reasons = lacking(context.study, context.state, context.lakes, present())
    context.state.close()
    for reason in reasons:
        err.print(reason, markup=False, soft_wrap=True)
    if reasons:
        raise typer.Exit(1)
    out.print("ready")


@keys.command()
def add(study: StudyFile, name: Name) -> None:
    """Make a key, and show it once: it can't be shown again."""
    from cubekit.service.keys import add_key
    from cubekit.service.state import State

    state = State.of(_study(study).study.out)
    out.print(add_key(state, name), markup=False, soft_wrap=True)
    state.close()


@keys.command()
def show(study: StudyFile) -> None:
    """Show whose keys there are."""
    from cubekit.service.keys import list_keys
    from cubekit.service.state import State

    state = State.of(_study(study).study.out)
    table = Table("name", "made", "revoked", title="Keys")
    for key in list_keys(state):
        table.add_row(key.name, f"{key.created:%Y-%m-%d %H:%M}", f"{key.revoked:%Y-%m-%d %H:%M}" if key.revoked else "")
    out.print(table)
    state.close()


@keys.command()
def revoke(study: StudyFile, name: Name) -> None:
    """Let a key open nothing from now on."""
    from cubekit.service.keys import revoke_key
    from cubekit.service.state import State

    state = State.of(_study(study).study.out)
    revoke_key(state, name)
    out.print(f"revoked {name}", markup=False, soft_wrap=True)
    state.close()


def _study(path: Path) -> Study:
    from cubekit.config import Study

    return Study.load(path)


def _context(path: Path) -> Context:
    from cubekit.service import logs
    from cubekit.service.context import Context

    logs.to_stderr()
    return Context.of(_study(path))
