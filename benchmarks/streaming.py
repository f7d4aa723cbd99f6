"""Cubes of any length: the chain's memory doesn't grow with the passes, its time no faster than they, opening hardly.

The chain is that of Otsu's threshold, which is all cubekit's own: clip, filter, threshold, measure, seasons.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import numpy as np

from benchmarks import Result
from benchmarks import _passes as passes
from benchmarks._timing import in_a_process
from cubekit.cube import open_cube

LENGTHS = (250, 300, 500, 1000, 2000, 3000)


def opening(path: Path, repeats: int) -> float:
    """Seconds of opening a cube: the least, for all else is noise."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        open_cube(path)
        taken.append(time.perf_counter() - start)
    return min(taken)


def measure(*, tiny: bool = False) -> list[Result]:
    """Growth of peak memory and of time, and how long cubes take to open."""
    lengths = (4, 8) if tiny else LENGTHS
    first, last = lengths[0] if tiny else 300, lengths[-1]
    with tempfile.TemporaryDirectory() as folder:
        short, long = (Path(folder) / f"{count}.zarr" for count in (first, last))
        passes.write(short, first)
        passes.write(long, last)
        ran = {count: in_a_process("benchmarks._stream", str(long), str(count)) for count in lengths}
        opened = [opening(path, 1 if tiny else 9) for path in (short, long)]
    timed = [count for count in lengths if count <= 2000]
    slope = np.polyfit(np.log(timed), np.log([ran[count]["seconds"] for count in timed]), 1)[0]
    peaks = [ran[count]["peak"] / 1e6 for count in (first, last)]
    seconds = ", ".join(f"{count} in {ran[count]['seconds']:.1f} s" for count in timed)
    return [
        Result(
            f"peak memory, {first} to {last} passes",
            100 * (peaks[1] / peaks[0] - 1),
            10,
            at_most=True,
            unit="% more",
            detail=f"{peaks[0]:.0f} MB and {peaks[1]:.0f} MB",
        ),
        Result(
            f"wall time, {timed[0]} to {timed[-1]} passes",
            float(slope),
            1.05,
            at_most=True,
            unit="(slope on log-log)",
            detail=seconds,
        ),
        Result(
            f"open_cube, {first} to {last} passes",
            opened[1] / opened[0],
            unit="x the time",
            detail=f"{1e3 * opened[0]:.0f} ms and {1e3 * opened[1]:.0f} ms",
        ),
    ]
