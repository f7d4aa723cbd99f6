"""Cubes: one lake and one source, time x y x x, kept up to date and published."""

from cubekit.cube._findings import ADVICE, Finding, Remedy
from cubekit.cube.access import describe, find_cubes, in_fewer_chunks, open_cube, open_cubes
from cubekit.cube.build import AppendReport, append, build_cube, update
from cubekit.cube.derived import open_water, pending_water, remember, water_models, write_water
from cubekit.cube.publish import publish
from cubekit.cube.repair import Repair, repair
from cubekit.cube.retention import Expiry, expire, passes_at
from cubekit.cube.store import Snapshot, history
from cubekit.cube.verify import Verification, verify

__all__ = [
    "ADVICE",
    "AppendReport",
    "Expiry",
    "Finding",
    "Remedy",
    "Repair",
    "Snapshot",
    "Verification",
    "append",
    "build_cube",
    "describe",
    "expire",
    "find_cubes",
    "history",
    "in_fewer_chunks",
    "open_cube",
    "open_cubes",
    "open_water",
    "passes_at",
    "pending_water",
    "publish",
    "remember",
    "repair",
    "update",
    "verify",
    "water_models",
    "write_water",
]
