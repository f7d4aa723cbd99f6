"""The chain from a cube on disk to seasons, in a process of its own: how long, and how much memory at most.

`python -m benchmarks._stream CUBE PASSES` prints both as JSON.
"""

from __future__ import annotations

import json
import resource
import sys
import time

import dask

from benchmarks._passes import lake
from benchmarks._timing import THREADS
from cubekit.cube import open_cube
from cubekit.preprocess import prepare
from cubekit.segmentation import segment
from cubekit.series import lake_area, summer_maxima


def main(path: str, passes: int) -> None:
    """Passes by the hundred first, for what is loaded and compiled once; then all."""
    here = lake()

    def chain(count: int) -> None:
        cube = open_cube(path).isel(time=slice(count))
        water = segment(prepare(cube, here), "otsu", lake=here)
        area = lake_area(water, here).compute()
        summer_maxima(area)

    with dask.config.set(scheduler="threads", num_workers=THREADS):
        chain(min(8, passes))
        start = time.perf_counter()
        chain(passes)
        seconds = time.perf_counter() - start
    # Kilobytes, but bytes on a Mac
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
    print(json.dumps({"seconds": seconds, "peak": peak}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
