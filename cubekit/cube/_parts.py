"""What holds for every group of a living cube: it is what was committed, has what the schema says, and can be read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import zarr
from zarr.codecs import Crc32cCodec

from cubekit.cube._findings import Log, Remedy
from cubekit.cube._seal import Seal, digests, nodes
from cubekit.cube.layout import FINGERPRINT, grid, target_of
from cubekit.cube.schema import MASK_ATTRS, SCHEMA_VERSION, TIME_ATTRS, encoding

PASSES_ATTRS = (*FINGERPRINT, "Conventions", "product_spacing", "cubekit_version", "empty_passes")
WATER_ATTRS = ("model", "model_hash", "preprocessing", "threshold", "lake")
WATER_COLUMNS = ("time", "track", "absolute_orbit", "platform", "orbit_direction", "granules", "scenes", "processed")
AXES = ("y", "x", "spatial_ref")
KEY = ("platform", "absolute_orbit")


@dataclass
class Part:
    """A group as it is stored.

    Parameters
    ----------
    name
        ``passes`` or ``water/<model>``.
    arrays
        Those that can be read.
    columns
        Values along time, times as seconds since 1970, and `AXES`.
    attrs
        Of the group.
    """

    name: str
    arrays: Mapping[str, Any]
    columns: Mapping[str, Any]
    attrs: Mapping[str, Any]

    @property
    def rasters(self) -> dict[str, Any]:
        """Arrays of images."""
        return {name: array for name, array in self.arrays.items() if array.ndim == 3}

    @property
    def length(self) -> int:
        """How many passes."""
        return len(self.columns.get("time", ()))

    def keys(self) -> list[tuple[int, int]]:
        """Platform and absolute orbit of each pass."""
        return list(zip(*(self.columns[name].tolist() for name in KEY), strict=True))

    def about(self, row: int) -> dict[str, Any]:
        """What a finding says of a pass."""
        told: dict[str, Any] = {"row": row}
        if row < len(self.columns.get("time", ())):
            told["time"] = f"{datetime.fromtimestamp(int(self.columns['time'][row]), UTC):%Y-%m-%dT%H:%M:%SZ}"
        if row < len(self.columns.get("granules", ())):
            told["granules"] = tuple(json.loads(self.columns["granules"][row]))
        return told


def remedy_of(name: str) -> Remedy:
    """What mends metadata and columns of a group."""
    return Remedy.SEGMENT if name.startswith("water/") else Remedy.ROLL_BACK


def check_seal(log: Log, session: Any, sealed: Seal | None) -> dict[str, bool]:
    """Groups and arrays that are there; notes those that are not what was committed."""
    found: dict[str, bool] | None = log.try_read(lambda: nodes(session), "repository", "", Remedy.ROLL_BACK)
    if found is None:
        return {}
    there = {}
    for path, array in found.items():
        part, variable = split(path)
        with log.unreadable(part, variable, remedy_of(part)):
            digest = digests(session, {path: array})[path]
            if sealed is not None and sealed.get(path) != digest:
                problem = "its metadata or its list of chunks is not what was committed"
                log.add(part, variable, problem, remedy_of(part))
            there[path] = array
    for path in sorted(set(sealed or {}) - set(found)):
        part, variable = split(path)
        log.add(part, variable, "was committed, and is not there", remedy_of(part))
    return there


def split(path: str) -> tuple[str, str]:
    """A part and its variable, from the path of a group or array."""
    names = path.split("/")
    depth = 2 if names[0] == "water" else 1
    return "/".join(names[:depth]) or "repository", "/".join(names[depth:])


def read_part(log: Log, session: Any, name: str, paths: Sequence[str]) -> Part | None:
    """Open a group, and read its columns and axes."""
    remedy = remedy_of(name)
    group = log.try_read(lambda: zarr.open_group(session.store, path=name, mode="r"), name, "", remedy)
    if group is None:
        return None
    arrays = {}
    for path in paths:
        part, variable = split(path)
        if part == name and variable:
            array = log.try_read(lambda v=variable: group[v], name, variable, remedy)  # type: ignore[misc]
            if array is not None:
                arrays[variable] = array
    columns = {}
    for variable, array in arrays.items():
        if array.ndim < 3:
            with log.unreadable(name, variable, remedy):
                columns[variable] = array[...]
                log.chunks += 1
    return Part(name, arrays, columns, group.attrs.asdict())


def check_schema(log: Log, part: Part) -> None:
    """Hold a group against the schema: attributes, variables, types, chunks, checksums."""
    water = part.name.startswith("water/")
    remedy = remedy_of(part.name)

    def wrong(variable: str, problem: str) -> None:
        log.add(part.name, variable, problem, remedy)

    if missing := [name for name in (WATER_ATTRS if water else PASSES_ATTRS) if name not in part.attrs]:
        wrong("", f"lacks the attributes {', '.join(missing)}")
        return
    if not water and part.attrs["schema"] != SCHEMA_VERSION:
        wrong("", f"has schema {part.attrs['schema']}; this cubekit knows {SCHEMA_VERSION}")
    columns = WATER_COLUMNS if water else tuple(TIME_ATTRS)
    rasters = ("probability", "observed") if water else (*part.attrs["polarisations"], "mask")
    if absent := [name for name in (*columns, *rasters, *AXES) if name not in part.arrays]:
        wrong("", f"lacks {', '.join(absent)}")
        return
    shape = tuple(part.arrays[name].shape[0] for name in ("y", "x"))
    coding = encoding((shape[0], shape[1]))
    plain = []
    for name in (*columns, *rasters, *AXES):
        array = part.arrays[name]
        expected = (part.length, *shape) if name in rasters else (part.length,) if name in columns else array.shape
        if array.shape != expected:
            wrong(name, f"has the shape {array.shape}; it should have {expected}")
        dtype, chunks = coding[name].get("dtype"), coding[name].get("chunks")
        if dtype is not None and array.dtype != np.dtype(dtype):
            wrong(name, f"is of type {array.dtype}; it should be {dtype}")
        if chunks is not None and array.chunks != chunks:
            wrong(name, f"has chunks of {array.chunks}; they should be {chunks}")
        if not any(isinstance(codec, Crc32cCodec) for codec in array.compressors):
            plain.append(name)
    if plain:
        problem = f"{', '.join(plain)} have no checksums: an older cubekit wrote them, and a changed value may not show"
        log.add(part.name, "", problem, Remedy.NONE, wrong=False)


def complete(part: Part) -> bool:
    """Whether the columns that tell its passes apart could be read; where not, that is noted already."""
    lengths = {len(part.columns[name]) for name in (*KEY, "time", "scenes", "granules") if name in part.columns}
    return {*KEY, "time", "scenes", "granules"} <= set(part.columns) and len(lengths) == 1


def check_lattice(log: Log, part: Part, cube: Mapping[str, Any]) -> None:
    """Whether the axes are those of the lattice that the cube names."""
    import pyproj

    if not all(name in part.columns for name in AXES):
        return
    with log.unreadable(part.name, "", remedy_of(part.name)):
        expected = grid(target_of(cube, None).lattice)
        for axis in ("y", "x"):
            if not np.array_equal(part.columns[axis], expected[axis].values):
                log.add(part.name, axis, "is not on the lattice that the cube names", remedy_of(part.name))
        code = pyproj.CRS.from_wkt(part.arrays["spatial_ref"].attrs["crs_wkt"]).to_epsg()
        if code != cube["epsg"]:
            problem = f"is EPSG:{code}; the cube's lattice is in EPSG:{cube['epsg']}"
            log.add(part.name, "spatial_ref", problem, remedy_of(part.name))


def check_image(name: str, values: Any) -> str:
    """What can't be in an image of this name; empty where all is well."""
    if name == "mask" and not np.isin(values, MASK_ATTRS["flag_values"]).all():
        return f"holds flags other than {MASK_ATTRS['flag_values']}"
    if name == "probability" and not ((values >= 0) & (values <= 1) | np.isnan(values)).all():
        return "holds probabilities below 0 or above 1"
    return ""
