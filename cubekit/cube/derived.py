"""What a model makes of a cube, kept beside the passes in the group `water/<model>`."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
import zarr

from cubekit.cube import store
from cubekit.cube.access import open_cube
from cubekit.cube.schema import encoding
from cubekit.errors import ConfigError, GridMismatch

_KEYS = ("time", "track", "absolute_orbit", "platform", "orbit_direction", "granules", "scenes", "processed")
_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]*")
_SAME = ("model_hash", "preprocessing", "threshold")


def pending_water(
    path: str | Path, passes: xr.Dataset, model: str, model_hash: str, preprocessing: str
) -> np.ndarray[Any, np.dtype[np.bool_]]:
    """Which passes a model has not seen as they are.

    Parameters
    ----------
    path
        The living cube.
    passes
        Of that cube, from `open_cube`.
    model
        Name of the model, as in the group ``water/<model>``.
    model_hash, preprocessing
        When they differ from those stored, all passes are pending.

    Returns
    -------
    numpy.ndarray
        bool, in the order of `passes`.

    Raises
    ------
    ConfigError
        When the name is not allowed: before anything is computed that could not be stored.
    """
    _check_name(model)
    pending = np.ones(passes.sizes["time"], dtype=bool)
    if model not in water_models(path):
        return pending
    water = open_water(path, model)
    if (water.attrs.get("model_hash"), water.attrs.get("preprocessing")) != (model_hash, preprocessing):
        return pending
    seen = {(p, o): scenes for p, o, scenes in _rows(water)}
    return np.array([seen.get((p, o)) != scenes for p, o, scenes in _rows(passes)], dtype=bool)


def write_water(path: str | Path, model: str, probability: xr.DataArray) -> None:
    """Store a model's probability of some passes, in one commit.

    Parameters
    ----------
    path
        The living cube.
    model
        Name of the model: lower case letters, digits, ``_``, ``.``, ``-``.
    probability
        float32 (time, y, x), 0 to 1, NaN where not observed or not known, on the AOI window or the whole lattice, in
        memory, with the bool coordinate ``observed``, the coordinates along time of the passes, and the attributes
        ``model``, ``model_hash``, ``preprocessing`` and, where there are, ``model_threshold`` and
        ``interval_block_m``. Passes that are stored
        already are rewritten, others added; those that the cube holds no longer, or with other scenes by now, are left
        out: they were seen as they no longer are. If the attributes differ from those stored, the model or the
        preprocessing has changed, and what is stored is dropped.

    Raises
    ------
    ConfigError
        When the name is not allowed.
    GridMismatch
        When the pixels are not those of the cube's lattice.
    CubeConflict
        When another process is writing to the cube.
    """
    _check_name(model)
    where = store.local(path)
    with store.writer(where):
        store.commit(
            where,
            lambda target: _fill(where, target, model, probability),
            f"water/{model}: {probability.sizes['time']} passes",
        )


def _fill(where: Path, target: Any, model: str, probability: xr.DataArray) -> None:
    cube = open_cube(where)
    group = f"water/{model}"
    attrs = {name: probability.attrs[name] for name in ("model", "model_hash", "preprocessing")}
    attrs |= {"lake": cube.attrs["lake"], "threshold": float(probability.attrs.get("model_threshold", 0.5))}
    if "interval_block_m" in probability.attrs:
        attrs["interval_block_m"] = float(probability.attrs["interval_block_m"])
    rows = probability.drop_attrs().to_dataset(name="probability").reset_coords("observed")
    rows = rows.drop_indexes("track", errors="ignore")
    rows = rows.drop_vars([name for name in rows.coords if name not in {*_KEYS, "y", "x"}])
    for axis in ("y", "x"):
        if not np.isin(rows[axis], cube[axis]).all():
            msg = (
                f"the probability's {axis} is not on the lattice of {cube.attrs['lake']}; give what segment made of it"
            )
            raise GridMismatch(msg)
    current = set(_rows(cube))
    rows = rows.isel(time=[place for place, row in enumerate(_rows(rows)) if row in current])
    if not rows.sizes["time"]:
        return
    rows = rows.reindex(y=cube["y"], x=cube["x"], fill_value={"probability": np.float32("nan"), "observed": False})
    rows["probability"].attrs = {"long_name": "probability of water", "units": "1", "grid_mapping": "spatial_ref"}
    rows["observed"].attrs = {"long_name": "observed, neither layover nor shadow", "grid_mapping": "spatial_ref"}
    rows = rows.assign_coords(spatial_ref=cube["spatial_ref"]).assign_attrs(attrs)
    stored = open_water(where, model) if model in water_models(where) else None
    if stored is None or any(stored.attrs.get(name) != attrs[name] for name in _SAME):
        coding = {name: code for name, code in encoding(_shape(rows)).items() if name in rows.variables}
        rows.to_zarr(target, group=group, mode="w", consolidated=False, encoding=coding)
        return
    raw = xr.open_zarr(target, group=group, consolidated=False, chunks=None)
    slots = {(p, o): i for i, (p, o, _) in enumerate(_rows(raw))}
    places = [slots.get((p, o)) for p, o, _ in _rows(rows)]
    for row, place in enumerate(places):
        if place is not None:
            one = rows.isel(time=[row]).drop_vars(["y", "x", "spatial_ref"])
            one.to_zarr(target, group=group, region={"time": slice(place, place + 1)}, consolidated=False)
    fresh = [row for row, place in enumerate(places) if place is None]
    if fresh:
        rows.isel(time=fresh).to_zarr(target, group=group, append_dim="time", consolidated=False)


def open_water(path: str | Path, model: str, as_of: str | datetime | date | None = None) -> xr.Dataset:
    """Open a model's probability.

    Parameters
    ----------
    path
        A cube, living or published.
    model
        Name of the model, e.g. ``otsu``.
    as_of
        As in `open_cube`.

    Returns
    -------
    xarray.Dataset
        ``probability``: float32 (time, y, x), 0 to 1, NaN where not observed, or where the model could not tell; the
        bool coordinate ``observed`` tells which. Lazy, sorted by time. Passes that the model has seen as they are.

    Raises
    ------
    SourceError
        When the cube has nothing of this model.
    """
    where = store.local(path)
    water = open_cube(where, as_of, group=f"water/{model}").set_coords("observed")
    if store.is_published(where):
        return water
    # A pass that was rewritten since the model saw it is one that it has not seen.
    current = set(_rows(open_cube(where, as_of)))
    return water.isel(time=[place for place, row in enumerate(_rows(water)) if row in current])


def water_models(path: str | Path, as_of: str | datetime | date | None = None) -> list[str]:
    """Names of the models whose probability a cube holds."""
    where = store.local(path)
    source = str(where) if store.is_published(where) else store.read_store(where, as_of)
    with store.readable(where):
        try:
            return sorted(zarr.open_group(source, path="water", mode="r").group_keys())
        except FileNotFoundError:
            return []


def _check_name(model: str) -> None:
    if not _NAME.fullmatch(model):
        msg = f"model name {model!r} is not allowed; use lower-case letters, digits and _.-"
        raise ConfigError(msg)


def _rows(dataset: xr.Dataset) -> list[tuple[int, int, str]]:
    columns = (dataset[name].values.tolist() for name in ("platform", "absolute_orbit", "scenes"))
    return list(zip(*columns, strict=True))


def _shape(dataset: xr.Dataset) -> tuple[int, int]:
    return dataset.sizes["y"], dataset.sizes["x"]


def remember(path: str | Path, attrs: Mapping[str, Any]) -> None:
    """Keep what was measured on a cube among its attributes, in a commit of its own."""
    where = store.local(path)
    with store.writer(where):
        store.commit(
            where,
            lambda target: zarr.open_group(target, path=store.PASSES, mode="r+").attrs.update(attrs),
            f"remember {', '.join(attrs)}",
        )
