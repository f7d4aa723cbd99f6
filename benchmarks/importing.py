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
    verbs = "import cubekit; cubekit.open_cube, cubekit.lee, cubekit.equalize, cubekit.lake_area, cubekit.trend"
    codes = {"cubekit": "import cubekit", "xarray": "import xarray", "verbs": verbs}
    taken = paired({name: lambda code=code: _run(code) for name, code in codes.items()}, 1 if tiny else 9)
    own, theirs = (statistics.median(taken[name]) for name in ("cubekit", "xarray"))
    more, with_verbs = (
        statistics.median(a - b for a, b in zip(taken[name], taken["xarray"], strict=True))
        for name in ("cubekit", "verbs")
    )
    loaded = _run(f"import cubekit, sys; print([name for name in {HEAVY} if name in sys.modules])")
    detail = f"{own:.2f} s and {theirs:.2f} s as whole processes; loaded of {', '.join(HEAVY)}: {loaded}"
    return [
        Result("import cubekit over import xarray", more, 0.3, at_most=True, unit="s more", detail=detail),
        Result("the same, and five of its functions asked for", with_verbs, unit="s more"),
    ]
