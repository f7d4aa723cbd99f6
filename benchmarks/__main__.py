"""Run all benchmarks and write benchmarks/RESULTS.md: ratios beside the peers, and what they were run on."""

from __future__ import annotations

import os
import platform
import timeit
from importlib.metadata import version
from pathlib import Path
from types import ModuleType

import numpy as np

from benchmarks import equalize, lee

BENCHMARKS = (lee, equalize)
PACKAGES = ("cubekit", "numpy", "numba", "scipy", "scikit-image", "xarray")
REPEATS = 5


def seconds(function, argument) -> float:
    """The best of some runs, after one that compiles and warms up."""
    function(argument)
    return min(timeit.repeat(lambda: function(argument), number=1, repeat=REPEATS))


def measure(benchmark: ModuleType, size: int = 1024) -> tuple[str, str, float, float]:
    """Claim, peer, and the megapixels per second of both."""
    given = benchmark.make(size)
    amount = benchmark.megapixels(given)
    rates = [amount / seconds(function, given) for function in (benchmark.ours, benchmark.peer)]
    return benchmark.CLAIM, benchmark.PEER, *rates


def copy_rate() -> float:
    """What the machine copies, megapixels of float32 per second: the limit of a filter that reads and writes once."""
    pixels = np.ones(2**24, "float32")
    return pixels.size / 1e6 / seconds(np.copy, pixels)


def main() -> None:
    """Measure, print, write."""
    lines = ["| what | peer | cubekit, Mpx/s | peer, Mpx/s | ratio |", "| --- | --- | --- | --- | --- |"]
    for benchmark in BENCHMARKS:
        claim, peer, ours, theirs = measure(benchmark)
        lines.append(f"| {claim} | {peer} | {ours:.0f} | {theirs:.0f} | {ours / theirs:.1f} |")
    versions = ", ".join(f"{package} {version(package)}" for package in PACKAGES)
    text = (
        "# Benchmarks\n\nMade by `make bench`: best of 5 runs each, in one process, on 4 x 1024 x 1024 pixels.\n\n"
        + "\n".join(lines)
        + f"\n\nThis machine copies {copy_rate():.0f} Mpx/s of float32 on one core; it has {os.cpu_count()} cores.\n\n"
        + f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}: {versions}.\n"
    )
    print(text)
    (Path(__file__).parent / "RESULTS.md").write_text(text)


if __name__ == "__main__":
    main()
