"""The seal of a commit: what is to be found in it, told in the commit itself.

A checksum behind each chunk finds what changed inside it. What it can't find is a chunk that is no longer listed, which
reads as nodata, and an attribute, a length or a corner that changed: Icechunk keeps lists and metadata compressed,
without a checksum. So each commit says of every group and array a digest of its metadata and of which chunks it has.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import zarr
from zarr.core.buffer import default_buffer_prototype

KEY = "cubekit_seal"
"""Name of the seal among a commit's metadata."""

Seal = dict[str, str]
"""Digest of each group and array, by its path; the root's is empty."""


def seal(session: Any) -> Seal:
    """The seal of what an Icechunk session sees, uncommitted changes included.

    Takes 0.05 s for a few passes and 0.08 s for 3,000 with a model's water; no chunk is read.
    """
    return digests(session, nodes(session))


def nodes(session: Any) -> dict[str, bool]:
    """Paths of all groups and arrays, and whether each is an array."""
    root = zarr.open_group(session.store, mode="r")
    below = {path: isinstance(node, zarr.Array) for path, node in root.members(max_depth=None)}
    return {"": False} | dict(sorted(below.items()))


def digests(session: Any, of: Mapping[str, bool]) -> Seal:
    """Digest of each of these groups and arrays."""

    async def all_of() -> Seal:
        return {path: await _digest(session, path, array) for path, array in of.items()}

    with ThreadPoolExecutor(max_workers=1) as thread:  # an event loop of its own: a notebook's is running already
        return thread.submit(asyncio.run, all_of()).result()


async def _digest(session: Any, path: str, array: bool) -> str:
    raw = await session.store.get(f"{path}/zarr.json".lstrip("/"), default_buffer_prototype())
    made = hashlib.sha256(raw.to_bytes())
    if array:
        # As a set: before its commit Icechunk lists a chunk that was rewritten twice.
        chunks = {tuple(chunk) async for chunk in session.chunk_coordinates(f"/{path}")}
        made.update(repr(sorted(chunks)).encode())
    return made.hexdigest()[:16]
