"""What is killed: a script that works like a user's, and tells how far it is.

It reads orders, one a line: a JSON list of `update` or `publish`, the number of steps after which to die (0: never),
and paths. Each is done by a fork, so that loading libraries, which takes longest, is done once and is not what is
killed. A fork writes a line when it starts to work, after every step (values are written, a commit is made), and when
it is done, so that whoever kills it may do so at a moment of its own clock, whatever else the machine does.
"""

from __future__ import annotations

import functools
import os
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What building loads only when it reads.
import rasterio.warp  # noqa: F401
import stackstac  # noqa: F401
import xarray as xr
from forks import say, serve

from cubekit.cube import append, build, publish, store, update
from cubekit.lakes import catalogue
from cubekit.sources import find_scenes

LAKE = catalogue()["tsho_rolpa"].at_spacing(30)
BATCH = 4


def update_all(archive: Path, late: Path, root: Path) -> None:
    """Build a cube from one folder, then append what came late."""
    update(LAKE, find_scenes(LAKE, f"folder:{archive}"), root)
    append(root / LAKE.id, find_scenes(LAKE, f"folder:{late}"))


def publish_all(cube: Path, target: Path) -> None:
    """Publish a cube."""
    publish(cube, target)


def telling(function: Callable[..., Any], countdown: list[int]) -> Callable[..., Any]:
    """Say when a step is done, and die there if that is asked for."""

    @functools.wraps(function)
    def told(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        say("step")
        countdown[0] -= 1
        if countdown[0] == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return result

    return told


def work(what: str, dies_after: int, *paths: str) -> None:
    """Follow one order."""
    countdown = [dies_after]
    build.BATCH = BATCH
    store.create = telling(store.create, countdown)
    store.commit = telling(store.commit, countdown)
    xr.Dataset.to_zarr = telling(xr.Dataset.to_zarr, countdown)  # type: ignore[method-assign]
    if what == "publish":
        Path.rename = telling(Path.rename, countdown)  # type: ignore[method-assign]
        store.point = telling(store.point, countdown)
    say(f"start {os.getpid()}")
    {"update": update_all, "publish": publish_all}[what](*map(Path, paths))
    say("done")


if __name__ == "__main__":
    serve(work)
