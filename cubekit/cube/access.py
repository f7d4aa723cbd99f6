"""Open cubes: lazily, sorted by time, with indexes that make `.sel(track=121)` work."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from xarray.core.indexing import IndexSelResult
from xarray.indexes import PandasIndex

from cubekit.cube import store
from cubekit.cube.schema import POLARISATIONS, variable_attrs
from cubekit.errors import ConfigError, SourceError


class TrackIndex(PandasIndex):
    """Index of a coordinate along time whose values repeat: selecting one keeps the time dimension.

    A pandas index drops the dimension when a value happens to occur once, so that ``cube.sel(track=121).sel(time=…)``
    would fail on the first pass of a track.
    """

    def sel(self, labels: dict[Any, Any], method: Any = None, tolerance: Any = None) -> IndexSelResult:
        """Select all positions of a label, or of a list of labels."""
        ((name, label),) = labels.items()
        if method is not None or tolerance is not None:
            msg = f"{name} is selected exactly, without method or tolerance"
            raise ConfigError(msg)
        if isinstance(label, slice):
            msg = f"{name} is not ordered; give one value or a list, not a slice"
            raise ConfigError(msg)
        wanted = np.atleast_1d(np.asarray(label))
        there = np.asarray(self.index)
        missing = [value for value in wanted.tolist() if value not in there]
        if missing:
            known = ", ".join(str(value) for value in sorted(set(there.tolist())))
            msg = f"there is no pass with {name} {', '.join(map(str, missing))}; this cube has {name} {known or 'none'}"
            raise KeyError(msg)
        return IndexSelResult({self.dim: np.flatnonzero(np.isin(there, wanted))})


def open_cube(path: str | Path, as_of: str | datetime | date | None = None, *, group: str | None = None) -> xr.Dataset:
    """Open a cube, living or published.

    Parameters
    ----------
    path
        A cube that `build_cube` made, or a Zarr that `publish` wrote.
    as_of
        A time (UTC; a date means its end) or a snapshot's id: the cube as it was then. Living cubes only.
    group
        A derived group, such as ``water/otsu``, instead of the passes.

    Returns
    -------
    xarray.Dataset
        Lazy: one dask chunk a pass. Sorted by time. `vv` and `vh`: float32 gamma0 (time, y, x) in linear power, NaN
        where there is no data; `mask`: uint8 flags; along time the coordinates of `schema.TIME_ATTRS`.

    Raises
    ------
    SourceError
        When there is no cube, or no such group, or `as_of` is not understood.
    NoObservations
        When the cube did not exist at `as_of`.

    Examples
    --------
    One track, one month: ``open_cube("out/cubes/hyp3/tsho_rolpa").sel(track=121).sel(time="2019-07")``.
    """
    where = store.local(path)
    if store.is_published(where):
        if as_of is not None:
            msg = f"{where} is a published Zarr, which has no history; as_of works on the living cube"
            raise ConfigError(msg)
        source: Any = str(where)
        options: dict[str, Any] = {"group": group}
    else:
        source = store.read_store(where, as_of)
        options = {"group": group or store.PASSES, "consolidated": False}
    with store.readable(where):
        try:
            # chunks=None reads lazily without dask, so that sorting costs no task.
            opened = xr.open_zarr(source, chunks=None, decode_coords="all", **options)
        except FileNotFoundError as error:
            msg = f"the cube at {where} has no group {group or store.PASSES!r}"
            raise SourceError(msg) from error
        return _prepared(opened)


def open_cubes(root: str | Path, as_of: str | datetime | date | None = None) -> xr.DataTree:
    """Open all cubes below a folder.

    Parameters
    ----------
    root
        Folder of the cubes of one source, such as ``out/cubes/hyp3`` or ``out/zarr/hyp3``.
    as_of
        As in `open_cube`.

    Returns
    -------
    xarray.DataTree
        One node a lake: ``open_cubes(root)["tsho_rolpa"].ds``. Lazy.

    Raises
    ------
    SourceError
        When there is no cube below the folder.
    """
    return xr.DataTree.from_dict({name: open_cube(path, as_of) for name, path in find_cubes(root).items()})


def find_cubes(root: str | Path) -> Mapping[str, Path]:
    """Lake ids and paths of the cubes below a folder, living or published.

    Raises
    ------
    SourceError
        When there is none.
    """
    folder = store.local(root)
    below = sorted(folder.iterdir()) if folder.is_dir() else []
    visible = [path for path in below if not path.name.startswith(".")]
    cubes = {
        path.name.removesuffix(".zarr"): path for path in visible if store.is_living(path) or store.is_published(path)
    }
    if not cubes:
        msg = f"there is no cube below {folder}; give the folder that holds one cube per lake, e.g. out/cubes/hyp3"
        raise SourceError(msg)
    return cubes


def _prepared(opened: xr.Dataset) -> xr.Dataset:
    """Sort by time, chunk by pass, set indexes, and give each variable what later steps must know."""
    order = np.argsort(opened["time"].values, kind="stable")
    if (np.diff(order) != 1).any():
        opened = opened.isel(time=order)
    for name in list(opened.coords):
        if opened[name].dims == ("time",):
            column = opened[name].load()
            # numpy's own strings are still unknown to pandas.
            opened[name] = column.astype(object) if name in {"granules", "scenes"} else column
    cube = opened.assign({name: opened[name].chunk({"time": 1, "y": -1, "x": -1}) for name in opened.data_vars})
    for name in POLARISATIONS:
        if name in cube:
            cube[name].attrs.update(variable_attrs(name, cube.attrs))
    if "track" in cube.coords:
        cube = cube.drop_indexes("track", errors="ignore").set_xindex("track", TrackIndex)
    return cube


def describe(path: str | Path) -> dict[str, Any]:
    """What a cube holds, for `cubekit info`.

    Returns
    -------
    dict
        ``lake``, ``source``, ``lattice``, ``passes`` (track, then year, to count), ``gaps`` (the three longest pauses
        of each track: days, and the day they ended), ``megabytes``, ``history`` (snapshots, newest first), ``empty``
        (passes without data).
    """
    import json

    where = store.local(path)
    cube = open_cube(where)
    table = pd.DataFrame({"track": cube["track"].values.astype(int), "time": cube["time"].values})
    counts: dict[int, dict[int, int]] = {}
    gaps: dict[int, list[tuple[int, str]]] = {}
    for track in sorted(set(table["track"].tolist())):
        times = table.loc[table["track"] == track, "time"]
        counts[track] = {int(year): int(n) for year, n in times.dt.year.value_counts(sort=False).items()}
        pauses = zip(times.diff().dt.days.iloc[1:], times.dt.date.iloc[1:], strict=True)
        gaps[track] = sorted(((int(days), str(day)) for days, day in pauses), reverse=True)[:3]
    size = sum(file.stat().st_size for file in where.rglob("*") if file.is_file())
    return {
        "lake": cube.attrs["lake"],
        "source": cube.attrs["source"],
        "lattice": {name: cube.attrs[name] for name in ("epsg", "spacing", "corner")},
        "passes": counts,
        "gaps": gaps,
        "megabytes": size / 1e6,
        "history": store.history(where) if store.is_living(where) else [],
        "empty": sorted(json.loads(cube.attrs["empty_passes"])),
    }


def in_fewer_chunks(data: xr.Dataset, passes: int = 16) -> xr.Dataset:
    """Put several passes into a chunk, for who reads all: with one each, graphs take longer than what they compute.

    Parameters
    ----------
    data
        As `open_cube` or `open_water` gives it.
    passes
        In a chunk.

    Returns
    -------
    xarray.Dataset
        What is lazy in larger chunks along time; what lies along time alone stays in memory.
    """
    lazy = {name: one.chunk({"time": passes}) for name, one in data.variables.items() if one.chunks}
    return data.assign_coords({name: lazy.pop(name) for name in set(data.coords) & set(lazy)}).assign(lazy)
