"""What is killed: a script that orders and fetches like a user, and dies at a step that it is told.

It reads orders, one a line: a JSON list of `submit` or `fetch`, the number of the step at which to die (0: never), and
the folder. Each is done by a fork, so that loading libraries is done once. Steps are what changes something: a request
is sent, an answer or a piece of a file arrives, a file is written, a file or folder is renamed or removed.
"""

from __future__ import annotations

import functools
import os
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import requests
from forks import serve

# What fetching loads only when it checks.
from rasterio.io import DatasetReader  # noqa: F401

from cubekit.sources import _http, _hyp3_submit, hyp3

STEPS = (
    (requests.adapters.HTTPAdapter, "send"),
    (_http, "_write"),
    (shutil, "copyfileobj"),
    (shutil, "rmtree"),
    (os, "fsync"),
    (Path, "replace"),
    (Path, "unlink"),
)


def dying(function: Callable[..., Any], countdown: list[int]) -> Callable[..., Any]:
    """A step: the process dies before it or after it."""

    @functools.wraps(function)
    def step(*args: Any, **kwargs: Any) -> Any:
        tick(countdown)
        result = function(*args, **kwargs)
        tick(countdown)
        return result

    return step


def tick(countdown: list[int]) -> None:
    countdown[0] -= 1
    if countdown[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def work(what: str, dies_at: int, folder: str) -> None:
    """Follow one order."""
    countdown = [dies_at]
    _hyp3_submit.SETTLE, _http.WAIT, _http.PARALLEL, _http._PIECE = 0.3, 0.01, 1, 1 << 16
    pieces = requests.Response.iter_content

    def arriving(self: requests.Response, *args: Any, **kwargs: Any) -> Iterator[Any]:
        for piece in pieces(self, *args, **kwargs):
            yield piece
            tick(countdown)

    requests.Response.iter_content = arriving  # type: ignore[method-assign]
    for holder, name in STEPS:
        setattr(holder, name, dying(getattr(holder, name), countdown))
    service = hyp3.connect()
    if what == "submit":
        hyp3.submit(Path(folder), service, agree=lambda _: True)
    else:
        failed = hyp3.fetch(Path(folder), service).failed
        assert not failed, failed


if __name__ == "__main__":
    serve(work)
