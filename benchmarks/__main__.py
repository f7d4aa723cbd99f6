"""Run benchmarks and write benchmarks/RESULTS.md: ratios to peers, and what they were run on.

`python -m benchmarks` runs all and writes; `python -m benchmarks lee build` runs some and only prints.
"""

from __future__ import annotations

import importlib
import os
import pkgutil
import platform
import sys
import time
import timeit
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from types import ModuleType

import numpy as np

import benchmarks
from benchmarks import Result
from benchmarks._timing import paired, rates, ratio

PACKAGES = (
    "cubekit",
    "numpy",
    "numba",
    "scipy",
    "scikit-image",
    "opencv-python-headless",
    "findpeaks",
    "xarray",
    "dask",
    "zarr",
    "icechunk",
    "rasterio",
    "odc-stac",
    "torch",
    "openvino",
)

SIZES = {"engine": (32, 2), "record": (1000, 3), "segment": (512, 2)}
"""Size and turns of benchmarks without a `measure` of their own: chips, lakes, passes."""


def names() -> list[str]:
    """All benchmarks: the modules of this package without an underscore in front."""
    return sorted(one.name for one in pkgutil.iter_modules(benchmarks.__path__) if not one.name.startswith("_"))


def load(name: str) -> ModuleType:
    """The module of a benchmark."""
    return importlib.import_module(f"benchmarks.{name}")


def measure(benchmark: ModuleType, *, tiny: bool = False) -> list[Result]:
    """Run one: its own `measure`, or `ours` beside `peer` on what `make(size)` gives, `megapixels` of it."""
    if hasattr(benchmark, "measure"):
        return benchmark.measure(tiny=tiny)
    size, turns = (2, 1) if tiny else SIZES[benchmark.__name__.rpartition(".")[2]]
    given = benchmark.make(size)
    functions = {"cubekit": lambda: benchmark.ours(given), "peer": lambda: benchmark.peer(given)}
    taken = paired(functions, turns)
    what, goal = f"{benchmark.CLAIM}: {benchmark.PEER}", getattr(benchmark, "GOAL", None)
    detail = rates(taken, benchmark.megapixels(given), "M/s")
    return [Result(what, ratio(taken, "cubekit", "peer"), goal, detail=detail)]


def limits(*, tiny: bool = False) -> str:
    """What the machine itself can do: copying memory, and the product of matrices in float32."""
    side = 64 if tiny else 2048
    pixels, square = np.ones(4 * side * side, "float32"), np.ones((side, side), "float32")
    copied = np.empty_like(pixels)
    copying = min(timeit.repeat(lambda: np.copyto(copied, pixels), number=1, repeat=9))
    product = min(timeit.repeat(lambda: square @ square, number=1, repeat=5))
    return (
        f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; memcpy {pixels.nbytes / 1e9 / copying:.1f} GB/s "
        f"({pixels.size / 1e6 / copying:.0f} Mpx/s of float32) on one core; "
        f"float32 GEMM {2 * side**3 / 1e9 / product:.0f} GFLOP/s"
    )


def line(result: Result) -> str:
    """A row of the table."""
    goal = "" if result.goal is None else f"{'≤' if result.at_most else '≥'} {result.goal:g}"
    met = {None: "", True: "yes", False: "no"}[result.met]
    return f"| {result.what} | {result.measured:.3g} {result.unit} | {goal} | {met} | {result.detail} |"


def versions() -> str:
    """What was installed."""
    found = []
    for package in PACKAGES:
        try:
            found.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            found.append(f"{package} not installed")
    return f"{platform.python_implementation()} {platform.python_version()} on {platform.machine()}: {', '.join(found)}"


def main(wanted: list[str]) -> None:
    """Measure, print, and write when all were measured."""
    began = time.perf_counter()
    before = limits()
    lines = ["| what, and beside what | measured | goal | met | figures |", "| --- | --- | --- | --- | --- |"]
    for name in wanted or names():
        start = time.perf_counter()
        lines += map(line, measure(load(name)))
        print(f"{name}: {time.perf_counter() - start:.0f} s", flush=True)
    text = (
        "# Benchmarks\n\nMade by `make bench`. Peers run in turn with cubekit, in one run, on as many threads as "
        "cubekit (two) unless said; ratios are medians over the turns, above 1 where cubekit is quicker.\n\n"
        + "\n".join(lines)
        + f"\n\nThe machine at the start: {before}. At the end: {limits()}. {time.perf_counter() - began:.0f} s in all."
        + f"\n\n{versions()}.\n"
    )
    print(text)
    if not wanted:
        (Path(__file__).parent / "RESULTS.md").write_text(text)


if __name__ == "__main__":
    main(sys.argv[1:])
