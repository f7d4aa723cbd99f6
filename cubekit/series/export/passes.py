"""Water of a lake pass by pass, with the row that goes with it: what outlines and masks are made of."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError
from cubekit.lakes import Lake
from cubekit.series._water import check, lake_water, masks, window
from cubekit.series.area import lake_area
from cubekit.series.export.rows import PROVENANCE, check_area, rows

if TYPE_CHECKING:
    from affine import Affine

DRY, WATER, NOT_KNOWN = 0, 1, 255
"""Values of a mask."""

TOGETHER = 32
"""Passes that are computed at once, or as many as a chunk has: a graph of its own for each takes longer than it."""


class Water(NamedTuple):
    """One pass.

    Parameters
    ----------
    row
        Its cells, in the order of `COLUMNS`.
    coords
        Its coordinates along time.
    mask
        uint8: `DRY`, `WATER` of this lake, `NOT_KNOWN` (also outside of the lake zone).
    transform
        Of the mask, in the lattice's coordinate reference system.
    """

    row: tuple[Any, ...]
    coords: dict[str, Any]
    mask: NDArray[np.uint8]
    transform: Affine


def each_pass(probability: xr.DataArray, lake: Lake, area: xr.Dataset | None, threshold: float) -> Iterator[Water]:
    """Passes in order, computed some chunks along time at once: no more of the probabilities is in memory.

    Raises
    ------
    ConfigError, GridMismatch, LakeError
        As `lake_area`; ConfigError also when `area` has other passes, or ``track`` or ``platform`` is absent.
    """
    check(probability, threshold)
    rows_of, columns = window(probability, lake)
    zone, outline = masks(lake, rows_of, columns)
    transform = lake.lattice[rows_of, columns].transform
    if area is not None:
        check_area(lake.id, area)
        if not np.array_equal(area["time"].to_numpy(), probability["time"].to_numpy()):
            msg = (
                f"the areas have {area.sizes['time']} passes, the probability {probability.sizes['time']}, or their "
                "times differ; give the areas of these passes, in this order"
            )
            raise ConfigError(msg)
        area = area.compute()
    for part in _parts(probability):
        stack = probability.isel(time=part).transpose("time", "y", "x").compute()
        measured = lake_area(stack, lake, threshold=threshold) if area is None else area.isel(time=part)
        made_from = {name: stack.attrs[name] for name in PROVENANCE if name in stack.attrs}
        measured = measured.assign_attrs(made_from | measured.attrs)
        check_area(lake.id, measured)
        known = zone & stack.notnull().to_numpy()
        if "observed" in stack.coords:
            known &= stack["observed"].transpose("time", "y", "x").to_numpy()
        coords = {str(name): np.broadcast_to(one, len(stack)) for name, one in measured.coords.items()}
        for step, row in enumerate(rows(lake.id, measured)):
            water = lake_water(stack.to_numpy()[step], known[step], outline, threshold)
            mask = np.where(water, np.uint8(WATER), np.where(known[step], np.uint8(DRY), np.uint8(NOT_KNOWN)))
            yield Water(row, {name: values.item(step) for name, values in coords.items()}, mask, transform)


def _parts(probability: xr.DataArray) -> Iterator[slice]:
    """Whole chunks along time, `TOGETHER` passes or the first chunk that reaches them."""
    start = stop = 0
    for length in probability.chunksizes.get("time", (1,) * probability.sizes["time"]):
        stop += length
        if stop - start >= TOGETHER:
            yield slice(start, stop)
            start = stop
    if stop > start:
        yield slice(start, stop)
