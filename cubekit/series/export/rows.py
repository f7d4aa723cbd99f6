"""One row a pass: the columns that every format carries, and where their cells come from."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from importlib import import_module
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from cubekit.errors import ConfigError, MissingExtra
from cubekit.passes import PLATFORMS
from cubekit.series.area import STATES

NUMBERS = ("area_km2", "area_low", "area_high", "area_subpixel_km2", "observed_fraction")

PROVENANCE = ("snapshot", "model_hash", "config_hash")
"""What a row was made from, beside its granules: the cube's snapshot, the model, the study."""

COLUMNS = ("lake", "time", "track", "platform", *NUMBERS, "state", "granules", *PROVENANCE)
"""Columns of an areas table, in order."""


def one_lake(area: xr.Dataset | Mapping[str, xr.Dataset]) -> dict[str, xr.Dataset]:
    """Areas by lake id, checked.

    Raises
    ------
    ConfigError
        When a variable or one of the coordinates ``track`` and ``platform`` is absent, or an id is not the lake's.
    """
    lakes = {lake_id(area): area} if isinstance(area, xr.Dataset) else dict(area)
    for name, dataset in lakes.items():
        check_area(name, dataset)
    return lakes


def lake_id(area: xr.Dataset) -> str:
    """The id of the lake that areas are of.

    Raises
    ------
    ConfigError
        When they don't say.
    """
    if "lake" not in area.attrs:
        msg = "the areas have no attribute 'lake'; give what lake_area returns, or a mapping from lake id to it"
        raise ConfigError(msg)
    return str(area.attrs["lake"])


def check_area(name: str, area: xr.Dataset) -> None:
    """Refuse what rows can't be made of.

    Raises
    ------
    ConfigError
        When a variable or one of the coordinates ``track`` and ``platform`` is absent, or they are of another lake.
    """
    needed = {*NUMBERS, "time", "track", "platform", "state"}
    if absent := sorted(needed - set(area.variables)):
        msg = f"areas of lake {name!r} lack {', '.join(absent)}; give what lake_area returns for passes of a cube"
        raise ConfigError(msg)
    if lake_id(area) != name:
        msg = f"areas of lake {lake_id(area)!r} are given under the id {name!r}; use the lake's own id as the key"
        raise ConfigError(msg)


def rows(name: str, area: xr.Dataset) -> Iterator[tuple[Any, ...]]:
    """Cells of every pass in the order of `COLUMNS`, None for missing: Python's own numbers, exact in repr and JSON.

    Raises
    ------
    ConfigError
        When a code of platform or state has no word.
    """
    length = area.sizes["time"]
    times = (f"{pd.Timestamp(time).isoformat()}Z" for time in area["time"].to_numpy())
    tracks = area["track"].to_numpy().tolist()
    platforms = _words(area["platform"], PLATFORMS)
    numbers = [[None if value != value else value for value in area[key].to_numpy().tolist()] for key in NUMBERS]  # noqa: PLR0124
    states = _words(area["state"], STATES)
    origins = [_texts(area, key) for key in ("granules", *PROVENANCE)]
    return zip([name] * length, times, tracks, platforms, *numbers, states, *origins, strict=True)


def properties(row: tuple[Any, ...]) -> dict[str, Any]:
    """A row by its columns, granules as a list."""
    cells = dict(zip(COLUMNS, row, strict=True))
    return cells | {"granules": names(cells["granules"])}


def names(cell: str | None) -> list[str] | None:
    """Names of granules from their JSON, None where they aren't known."""
    if cell is None:
        return None
    found: list[str] = json.loads(cell)
    return found


def library(name: str, extra: str, what: str) -> Any:
    """Import a library of an extra.

    Raises
    ------
    MissingExtra
        When it is absent; the message names the extra.
    """
    try:
        return import_module(name)
    except ImportError as error:
        msg = f'{error.name or name} is not installed, and {what} needs it; pip install "cubekit[{extra}]"'
        raise MissingExtra(msg) from error


def _texts(area: xr.Dataset, name: str) -> list[str | None]:
    """One text a pass: of the variable along time, else the attribute that all share."""
    if name in area.variables:
        return [None if value is None or value == "" else str(value) for value in area[name].to_numpy().tolist()]
    shared = area.attrs.get(name)
    return [None if shared is None else str(shared)] * area.sizes["time"]


def _words(codes: xr.DataArray, words: tuple[str, ...]) -> list[str]:
    values = codes.to_numpy()
    if values.dtype.kind in "OU" and all(isinstance(value, str) for value in values.tolist()):
        return [str(value) for value in values.tolist()]  # names already, as of optical sensors
    if values.dtype.kind not in "iu" or (values.size and not 0 <= values.min() <= values.max() < len(words)):
        given = ", ".join(str(value) for value in np.unique(values).tolist())
        msg = f"{codes.name} holds {given}; allowed are the codes 0 to {len(words) - 1} ({', '.join(words)})"
        raise ConfigError(msg)
    return [words[value] for value in values]
