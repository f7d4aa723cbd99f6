"""`import cubekit` over `import xarray`, each in fresh processes, in turn."""

from __future__ import annotations

import statistics
import subprocess
import sys

from benchmarks import Result
from benchmarks._timing import paired

HEAVY = ("torch", "numba", "rasterio", "scipy", "skimage", "matplotlib")


def _run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def measure(*, tiny: bool = False) -> list[Result]:
    """Seconds more, and what is loaded."""
    names = ("import cubekit", "import xarray")
    taken = paired({name: lambda name=name: _run(name) for name in names}, 1 if tiny else 11)
    own, theirs = (statistics.median(taken[name]) for name in names)
    more = statistics.median(a - b for a, b in zip(taken[names[0]], taken[names[1]], strict=True))
    loaded = _run(f"import cubekit, sys; print([name for name in {HEAVY} if name in sys.modules])")
    detail = f"{own:.2f} s and {theirs:.2f} s as whole processes; loaded of {', '.join(HEAVY)}: {loaded}"
    return [Result("import cubekit over import xarray", more, 0.3, at_most=True, unit="s more", detail=detail)]
