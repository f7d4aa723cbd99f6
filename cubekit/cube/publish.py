"""Publish a living cube as plain, sorted, sharded, consolidated Zarr v3 that any tool opens."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path
from typing import Any

import xarray as xr

from cubekit.cube import store
from cubekit.cube.access import open_cube
from cubekit.cube.derived import open_water, water_models
from cubekit.cube.schema import TIME_ATTRS, encoding

SHARD = 64
"""Passes in a shard, one file: a decade of a lake is a handful of files, yet one pass is read alone."""


def publish(path: str | Path, out: str | Path) -> Path:
    """Write a living cube out as a plain Zarr.

    Parameters
    ----------
    path
        The living cube.
    out
        The Zarr to write, e.g. ``out/zarr/hyp3/tsho_rolpa.zarr``. An older one there is replaced whole.

    Returns
    -------
    pathlib.Path
        Where it was written. Nothing is written when it holds the newest snapshot already.

    Raises
    ------
    SourceError
        When there is no living cube.

    Notes
    -----
    The passes lie in the root group, sorted by time, so that ``xarray.open_zarr(out)`` opens them; each model's
    probability lies in the group ``water/<model>``, on the same times (NaN where the model has not seen the pass). It
    is written beside and then swapped: readers see the old one or the new one.
    """
    where, target = store.local(path), store.local(out)
    target.parent.mkdir(parents=True, exist_ok=True)
    with store.writer(target):
        store.recover(target)
        snapshot = store.history(where)[0].id
        if store.is_published(target) and _snapshot(target) == snapshot:
            return target
        beside = target.with_name(f".{target.name}.new")
        shutil.rmtree(beside, ignore_errors=True)  # a killed writer's
        cube = open_cube(where, as_of=snapshot)
        cube.attrs |= {"snapshot": snapshot, "history": f"published from snapshot {snapshot}"}
        _write(cube, beside, None)
        for model in water_models(where):
            water = open_water(where, model, as_of=snapshot)
            _write(_on_times(water, cube), beside, f"water/{model}")
        _consolidate(beside)
        store.swap(beside, target)
    return target


def _snapshot(target: Path) -> Any:
    import zarr

    return zarr.open_group(str(target), mode="r").attrs.get("snapshot")


def _on_times(water: xr.Dataset, cube: xr.Dataset) -> xr.Dataset:
    """A model's passes on all times of the cube: a child's times must be its parent's.

    A pass whose scenes have changed since the model saw it is NaN, as one it has not seen.
    """
    keys = ("platform", "absolute_orbit", "scenes")
    have = {key: i for i, key in enumerate(zip(*(water[k].values.tolist() for k in keys), strict=True))}
    rows = [have.get(key, -1) for key in zip(*(cube[k].values.tolist() for k in keys), strict=True)]
    filled = xr.DataArray(rows, dims="time") >= 0
    chosen = water.reset_coords("observed")[["probability", "observed"]].drop_indexes(["time", "track"])
    chosen = chosen.reset_coords(drop=True).isel(time=[max(row, 0) for row in rows])
    chosen["observed"] = chosen["observed"] & filled
    chosen["probability"] = chosen["probability"].where(filled)
    return chosen.assign_coords(cube.coords).assign_attrs(water.attrs)


def _write(dataset: xr.Dataset, target: Path, group: str | None) -> None:
    plain = dataset.drop_indexes("track")
    length = plain.sizes["time"]
    shape = (plain.sizes["y"], plain.sizes["x"])
    coding = {name: code for name, code in encoding(shape).items() if name in plain.variables}
    for name in plain.variables:
        plain[name].encoding = {}
    for name in plain.data_vars:
        coding.setdefault(str(name), {"dtype": plain[name].dtype})
        coding[str(name)] |= {"chunks": (1, *shape), "shards": (min(SHARD, max(length, 1)), *shape)}
    for name in TIME_ATTRS:
        if name in coding:
            coding[name]["chunks"] = (max(length, 1),)
    shards = plain.assign({name: plain[name].chunk({"time": SHARD}) for name in plain.data_vars})
    shards.to_zarr(str(target), group=group, mode="w", encoding=coding, consolidated=False, zarr_format=3)


def _consolidate(target: Path) -> None:
    import zarr

    with warnings.catch_warnings():
        # Consolidated is what it is meant to be: xarray writes and reads it so, the v3 text just hasn't got there.
        warnings.filterwarnings("ignore", "Consolidated metadata is currently not part", category=UserWarning)
        zarr.consolidate_metadata(str(target))
