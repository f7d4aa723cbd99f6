"""The chain from a cube on disk to seasons, in a process of its own: how long, and how much memory at most.

`python -m benchmarks._stream CUBE PASSES` prints both as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

import dask
import xarray as xr

from benchmarks._passes import lake
from benchmarks._timing import THREADS
from cubekit.cube import open_cube
from cubekit.preprocess import prepare
from cubekit.segmentation import segment
from cubekit.series import lake_area, summer_maxima

TOGETHER = 64
"""Passes of one graph, as in the pipeline: a graph holds about 80 kB a pass, which is not to grow with the cube."""


def main(path: str, passes: int) -> None:
    """Passes by the hundred first, for what is loaded and compiled once; then all."""
    here = lake()

    def chain(count: int) -> None:
        cube = open_cube(path)
        parts = []
        for begin in range(0, count, TOGETHER):
            some = cube.isel(time=slice(begin, min(begin + TOGETHER, count)))
            parts.append(lake_area(segment(prepare(some, here), "otsu", lake=here), here).compute())
        summer_maxima(xr.concat(parts, "time"))

    with dask.config.set(scheduler="threads", num_workers=THREADS):
        chain(min(8, passes))
        start = time.perf_counter()
        chain(passes)
        seconds = time.perf_counter() - start
    print(json.dumps({"seconds": seconds, "peak": peak_memory()}))


def peak_memory() -> int:
    """Bytes, of this process: what `getrusage` says of it on Linux may be the peak of who started it."""
    status = Path("/proc/self/status")
    if status.exists():
        line = next(one for one in status.read_text().splitlines() if one.startswith("VmHWM"))
        return int(line.split()[1]) * 1024
    # Kilobytes, but bytes on a Mac
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
