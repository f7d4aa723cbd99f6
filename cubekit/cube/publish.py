"""Publish a living cube as plain, sorted, sharded, consolidated Zarr v3 that any tool opens."""

from __future__ import annotations

import shutil
import warnings
from pathlib import Path

import xarray as xr

from cubekit.cube import store
from cubekit.cube.access import open_cube
from cubekit.cube.derived import open_water, water_models
from cubekit.cube.schema import TIME_ATTRS, encoding

SHARD = 64
"""Passes in a shard, one file: a decade of a lake is a handful of files, yet one pass is read alone."""


def publish(path: str | Path, out: str | Path, *, anew: bool = False) -> Path:
    """Write a living cube out as a plain Zarr.

    Parameters
    ----------
    path
        The living cube.
    out
        The Zarr to write, e.g. ``out/zarr/hyp3/tsho_rolpa.zarr``. An older one there is replaced whole.
    anew
        Write it even where it holds the newest snapshot already, such as when `verify` found it damaged.

    Returns
    -------
    pathlib.Path
        Where it was written. Nothing is written when it holds the newest snapshot already, unless `anew`.

    Raises
    ------
    SourceError
        When there is no living cube.
    CubeConflict
        When there is something else at `out`, or another process is publishing.

    Notes
    -----
    The passes lie in the root group, sorted by time, so that ``xarray.open_zarr(out)`` opens them; each model's
    probability lies in the group ``water/<model>``, on the same times (NaN where the model has not seen the pass).

    `out` is a link to a folder ``.<name>.<snapshot>`` beside it, which is written whole and never touched again; the
    last but one stays for those who still read it. `open_cube` follows the link when it opens, so that what is open
    does not change under its reader; with plain xarray, open ``Path(out).resolve()`` where that may happen.
    """
    where, link = store.local(path), store.local(Path(out).parent) / Path(out).name
    store.open_repository(where)  # what is no cube is refused before anything is made
    with store.writer(link):
        snapshot = store.history(where)[0].id
        target = link.with_name(f".{link.name}.{snapshot}")
        previous = link.resolve()
        if anew or not store.is_published(target):
            beside = link.with_name(f".{link.name}.new")
            shutil.rmtree(beside, ignore_errors=True)  # a killed writer's
            with store.writable(link, where):
                _write_all(where, snapshot, beside)
                if target.exists():
                    shutil.rmtree(target)
                beside.rename(target)
        if previous != target:
            store.point(link, target)
            for old in link.parent.glob(f".{link.name}.*"):
                if old.is_dir() and old not in {target, previous}:
                    shutil.rmtree(old, ignore_errors=True)
    return link


def _write_all(where: Path, snapshot: str, target: Path) -> None:
    cube = open_cube(where, as_of=snapshot)
    cube.attrs |= {"snapshot": snapshot, "history": f"published from snapshot {snapshot}"}
    _write(cube, target, None)
    for model in water_models(where, as_of=snapshot):
        _write(on_times(open_water(where, model, as_of=snapshot), cube), target, f"water/{model}")
    _consolidate(target)


def on_times(water: xr.Dataset, cube: xr.Dataset) -> xr.Dataset:
    """A model's passes on all times of the cube: a child's times must be its parent's."""
    keys = ("platform", "absolute_orbit")
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
