"""What is killed: `python crashing.py update|publish …` works like a user's script, and tells how far it is.

It writes a line when it starts to work and after every step that others can see, so that whoever kills it may do so
at a moment of its own clock, whatever else the machine does.
"""

from __future__ import annotations

import functools
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

# What building loads only when it reads: loading is not what shall be killed.
import rasterio.warp  # noqa: F401
import stackstac  # noqa: F401

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


def telling(function: Callable[..., Any], dies_after: list[int]) -> Callable[..., Any]:
    """Say when a step is done, and die there if that is asked for."""

    @functools.wraps(function)
    def told(*args: Any, **kwargs: Any) -> Any:
        result = function(*args, **kwargs)
        step(dies_after)
        return result

    return told


def step(dies_after: list[int]) -> None:
    """One line a step; at the one that the countdown ends with, die."""
    say("step")
    dies_after[0] -= 1
    if dies_after[0] == 0:
        os.kill(os.getpid(), signal.SIGKILL)


def say(what: str) -> None:
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def main(what: str, dies_after: str, *paths: str) -> None:
    """Run one of the two; `dies_after` is a number of steps, 0 for never."""
    countdown = [int(dies_after)]
    build.BATCH = BATCH
    store.create = telling(store.create, countdown)
    store.commit = telling(store.commit, countdown)
    module = sys.modules[publish.__module__]  # its name in the package is the function's
    module._write = telling(module._write, countdown)  # type: ignore[attr-defined]
    if what == "publish":
        Path.rename = telling(Path.rename, countdown)  # type: ignore[method-assign]
        store.point = telling(store.point, countdown)
    say("start")
    {"update": update_all, "publish": publish_all}[what](*map(Path, paths))
    say("done")


if __name__ == "__main__":
    main(*sys.argv[1:])
