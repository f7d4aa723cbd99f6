"""What is in a cube: names, types, encodings and flags (design.md, "The cube")."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from zarr.codecs import Crc32cCodec, ZstdCodec

from cubekit.errors import ConfigError
from cubekit.passes import PLATFORMS

CONVENTIONS = "CF-1.11"
SCHEMA_VERSION = 1

POLARISATIONS = ("vv", "vh")

CLEAR, SHADOW, LAYOVER, BOTH, NO_MAP, NO_DATA = 0, 1, 2, 3, 254, 255
"""Values of `mask`: clear, shadow, layover, both, no layover map for this pass, no data (or not tested by the map)."""

DIRECTIONS = ("ascending", "descending")

EPOCH = "seconds since 1970-01-01"

TIME_CHUNK = 4096
"""Chunk length of coordinates along time: with chunks of 1, 3,000 passes take 7 s to open."""

TIME_ATTRS: dict[str, dict[str, Any]] = {
    "time": {"standard_name": "time", "long_name": "start of the pass over the lake"},
    "track": {"long_name": "relative orbit", "units": "1"},
    "absolute_orbit": {"long_name": "absolute orbit", "units": "1"},
    "platform": {
        "long_name": "platform",
        "flag_values": list(range(len(PLATFORMS))),
        "flag_meanings": " ".join(name.replace("-", "_") for name in PLATFORMS),
    },
    "orbit_direction": {"long_name": "orbit direction", "flag_values": [0, 1], "flag_meanings": " ".join(DIRECTIONS)},
    "granules": {"long_name": "names of the products of this pass, a JSON list"},
    "scenes": {"long_name": "scenes of this pass, a JSON object: granule, start and processing time of each"},
    "processed": {
        "long_name": "newest processing time among the products",
        "comment": "1970-01-01 where the products do not tell",
    },
    "ingested": {"long_name": "time at which cubekit wrote this pass"},
    "grid_offset_x": {"long_name": "eastward distance of the source grid from the lattice", "units": "m"},
    "grid_offset_y": {"long_name": "northward distance of the source grid from the lattice", "units": "m"},
}
"""Coordinates along time and their CF attributes."""

MASK_ATTRS: dict[str, Any] = {
    "long_name": "layover and shadow",
    "flag_values": [CLEAR, SHADOW, LAYOVER, BOTH, NO_MAP, NO_DATA],
    "flag_meanings": "clear shadow layover layover_and_shadow no_layover_map no_data",
}

CODECS = (ZstdCodec(), Crc32cCodec())
"""How every chunk is stored: compressed, with a checksum behind it that every reader of Zarr v3 checks."""

_INTEGERS = {"track": "int16", "absolute_orbit": "int32", "platform": "int8", "orbit_direction": "int8"}
_TIMES = ("time", "processed", "ingested")


def observed(passes: xr.Dataset, polarisation: str) -> xr.DataArray:
    """Where a polarisation was observed: finite, and neither in layover nor in shadow, nor left untested by the map.

    Parameters
    ----------
    passes
        A cube's passes, dims (time, y, x).
    polarisation
        ``vv`` or ``vh``.

    Returns
    -------
    xarray.DataArray
        bool, dims (time, y, x), lazy as the cube is. Not observed is never water, never land, never 0.

    Raises
    ------
    ConfigError
        When the cube lacks the polarisation.
    """
    if polarisation not in passes:
        there = [name for name in POLARISATIONS if name in passes]
        msg = f"the cube has no polarisation {polarisation!r}; it has {', '.join(there) or 'none'}"
        raise ConfigError(msg)
    usable = passes["mask"].isin([CLEAR, NO_MAP])
    finite: xr.DataArray = xr.apply_ufunc(np.isfinite, passes[polarisation], dask="allowed")
    return (finite & usable).rename("observed")


def variable_attrs(polarisation: str, cube: dict[str, Any]) -> dict[str, Any]:
    """Attributes of `vv` or `vh`, given those of the cube: what later steps must know travels with the data."""
    attrs = {
        "long_name": f"gamma0 backscatter, {polarisation.upper()}",
        "units": "1",
        "scale": "linear power",
        "polarisation": polarisation,
        "source": cube["source"],
        "spacing": cube["spacing"],
        "speckle_filter": cube["speckle_filter"],
    }
    return attrs | ({} if cube.get("looks") is None else {"looks": cube["looks"]})


def encoding(shape: tuple[int, int], polarisations: Sequence[str] = POLARISATIONS) -> dict[str, dict[str, Any]]:
    """Zarr encoding of every variable of `passes`, and of `water`, fixed at first write.

    Notes
    -----
    Times are int64 seconds: with xarray's default units an append silently corrupts the dates (contracts 4.4).
    """
    raster = {"chunks": (1, *shape)}
    coding: dict[str, dict[str, Any]] = {
        name: {**raster, "dtype": "float32", "_FillValue": np.float32("nan")} for name in polarisations
    }
    coding["mask"] = {**raster, "dtype": "uint8", "fill_value": NO_DATA}
    coding |= {"probability": {**raster, "dtype": "float32", "_FillValue": np.float32("nan")}}
    coding |= {"observed": {**raster, "dtype": "bool"}, "y": {}, "x": {}, "spatial_ref": {}}
    along_time = {"chunks": (TIME_CHUNK,)}
    for name in TIME_ATTRS:
        coding[name] = dict(along_time)
    for name in _TIMES:
        coding[name] |= {"units": EPOCH, "calendar": "proleptic_gregorian", "dtype": "int64"}
    for name, dtype in _INTEGERS.items():
        coding[name]["dtype"] = dtype
    return {name: code | {"compressors": CODECS} for name, code in coding.items()}
