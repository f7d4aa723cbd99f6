"""Timing beside peers on a machine whose speed drifts: all in turn, again and again, and the median of the ratios."""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

THREADS = 2


def paired(functions: Mapping[str, Callable[[], Any]], repeats: int) -> dict[str, list[float]]:
    """Seconds of each function, run in turn `repeats` times, after one turn that compiles and warms up."""
    taken: dict[str, list[float]] = {name: [] for name in functions}
    for turn in range(repeats + 1):
        for name, function in functions.items():
            start = time.perf_counter()
            function()
            if turn:
                taken[name].append(time.perf_counter() - start)
    return taken


def ratio(taken: Mapping[str, Sequence[float]], ours: str, peer: str) -> float:
    """How many times quicker we are: the median over the turns."""
    return statistics.median(theirs / own for own, theirs in zip(taken[ours], taken[peer], strict=True))


def rates(taken: Mapping[str, Sequence[float]], amount: float, unit: str) -> str:
    """All median rates in one line."""
    return ", ".join(f"{name} {amount / statistics.median(seconds):.3g} {unit}" for name, seconds in taken.items())


def on_threads(function: Callable[[Any], Any], images: Sequence[Any]) -> list[Any]:
    """Apply a peer to images on as many threads as we use."""
    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(function, images))


def in_a_process(module: str, *arguments: str) -> dict[str, float]:
    """Run a module of ours in a fresh process; it prints its figures as JSON."""
    command = [sys.executable, "-m", module, *arguments]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])
