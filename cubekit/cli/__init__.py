"""The command line: thin, one line of error for what a user can mend."""

from __future__ import annotations

import sys
import warnings

import typer

from cubekit.cli import care, models, order, replay, search, service, study
from cubekit.cli._show import complain, show_warning
from cubekit.errors import CubekitError

app = typer.Typer(
    help="Sentinel-1 glacial-lake cubes: from scenes to lake-area records.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)
for _command in (
    *(study.run, study.demo, study.init, study.lakes, study.info, study.publish),
    *(care.verify, care.history, care.expire),
    *(search.search, search.sources),
    *(models.evaluate, models.train),
    replay.replay,
    *(service.watch, service.infer, service.serve, service.ready),
):
    app.command()(_command)
app.add_typer(order.app, name="order")
app.add_typer(service.keys, name="keys")


def main() -> None:
    """Run the command line."""
    warnings.showwarning = show_warning  # type: ignore[assignment]  # without the names that nobody passes
    try:
        app()
    except (CubekitError, OSError) as error:  # an OSError names its file: a full disk, a folder that isn't there
        complain(str(error))
        sys.exit(1)
