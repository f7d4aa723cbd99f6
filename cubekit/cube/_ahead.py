"""Passes read in parallel, the next ones while the last are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import zip_longest

from dask.base import compute
from dask.delayed import delayed

from cubekit.cube.layout import Target
from cubekit.cube.read import Image, read_pass
from cubekit.errors import CubekitError
from cubekit.passes import Pass


def read_all(passes: Sequence[Pass], target: Target) -> list[Image | CubekitError]:
    """Read passes in parallel, by dask's scheduler."""
    read = delayed(try_read, pure=False)
    return list(compute(*(read(pass_, target) for pass_ in passes)))


def read_ahead(
    passes: Sequence[Pass], target: Target, batch: int
) -> Iterator[tuple[Sequence[Pass], list[Image | CubekitError]]]:
    """Batches and what was read of them; the next one is being read while the last is written."""
    batches = [passes[start : start + batch] for start in range(0, len(passes), batch)]
    with ThreadPoolExecutor(1, "read ahead") as ahead:
        coming = [ahead.submit(read_all, one, target) for one in batches[:1]]
        for one, following in zip_longest(batches, batches[1:]):
            images = coming.pop().result()
            if following:
                coming.append(ahead.submit(read_all, following, target))
            yield one, images


def try_read(pass_: Pass, target: Target) -> Image | CubekitError:
    """Read a pass. One bad pass must not end the others: its error is its result."""
    try:
        return read_pass(
            pass_,
            target.lattice,
            polarisations=target.attrs["polarisations"],
            resampling=target.resampling,
            strict_grid=target.strict,
        )
    except CubekitError as error:
        return error
