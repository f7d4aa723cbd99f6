"""Simulated passes as a lazy dataset, laid out as a cube is, with the truth beside them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.lakes import LATTICE_PIXELS
from cubekit.passes import PLATFORMS
from cubekit.sources._geometry import Pass
from cubekit.sources._products import MASK_CODES, granules
from cubekit.sources._scenes import Scenery, shared

_LAYERS = np.dtype([("vv", "f4"), ("vh", "f4"), ("mask", "u1"), ("water", "f4"), ("ponds", "f4")])
_DIRECTIONS = ("ascending", "descending")


def stacked(scenery: Scenery, found: Sequence[Pass]) -> xr.Dataset:
    """The passes as `cubekit.sources.simulated.simulate` returns them.

    Notes
    -----
    Builds one dask task a pass, which makes all its layers at once. What travels with the task is the recipe of the
    scenery, never its terrain.
    """
    import dask.array as da
    from odc.geo.xr import xr_coords

    passes = np.empty(len(found), object)
    passes[:] = found
    shape = (LATTICE_PIXELS, LATTICE_PIXELS)
    packed = da.map_blocks(
        _block,
        da.from_array(passes, chunks=1),
        scenery=scenery,
        new_axis=[1, 2],
        chunks=((1,) * len(found), *((side,) for side in shape)),
        dtype=_LAYERS,
        meta=np.empty((0, 0, 0), _LAYERS),
    )
    attrs: dict[str, dict[str, Any]] = {
        "vv": _power_attrs(scenery, "vv"),
        "vh": _power_attrs(scenery, "vh"),
        "mask": _flags("layover and shadow", MASK_CODES),
        "water": {"long_name": "share of the pixel under this lake, ice included", "units": "1"},
        "ponds": {"long_name": "share of the pixel under other waters, ice included", "units": "1"},
    }
    variables = {}
    for name in _LAYERS.names or ():
        dtype = _LAYERS[name]
        layer = packed.map_blocks(_layer, name=None, layer=name, dtype=dtype, meta=np.empty((0, 0, 0), dtype))
        variables[name] = (("time", "y", "x"), layer, {**attrs[name], "grid_mapping": "spatial_ref"})
    lattice = xr_coords(scenery.lake.lattice, crs_coord_name="spatial_ref")
    return xr.Dataset(variables, coords={**_along_time(scenery, found), **lattice}, attrs=_attrs(scenery))


def _block(passes: NDArray[Any], scenery: Scenery) -> NDArray[Any]:
    """Every layer of one pass."""
    (one,), kept = passes, shared(scenery)
    values, mask = (kept.on_lattice(part) for part in kept.scene(one))
    packed = np.empty((1, *mask.shape), _LAYERS)
    packed["vv"], packed["vh"], packed["mask"] = values[0], values[1], mask
    packed["water"], packed["ponds"] = kept.truth(one.starts[0])
    return packed


def _layer(packed: NDArray[Any], layer: str) -> NDArray[Any]:
    return np.ascontiguousarray(packed[layer])


def _along_time(scenery: Scenery, found: Sequence[Pass]) -> dict[str, Any]:
    # Numbers are drawn from a copy: the scenery that travels with the tasks keeps nothing.
    kept, times = shared(scenery), [one.starts[0] for one in found]
    columns: dict[str, tuple[Any, dict[str, Any]]] = {
        "time": (
            np.array([time.replace(tzinfo=None) for time in times], "datetime64[ns]"),
            {"standard_name": "time", "long_name": "start of the pass over the lake"},
        ),
        "track": (np.array([one.view.track for one in found], "int16"), {"long_name": "relative orbit", "units": "1"}),
        "absolute_orbit": (
            np.array([one.orbit for one in found], "int32"),
            {"long_name": "absolute orbit", "units": "1"},
        ),
        "platform": (
            np.array([PLATFORMS.index(one.platform) for one in found], "int8"),
            _flags("platform", {name.replace("-", "_"): code for code, name in enumerate(PLATFORMS)}),
        ),
        "orbit_direction": (
            np.array([_DIRECTIONS.index(one.view.direction) for one in found], "int8"),
            _flags("orbit direction", {name: code for code, name in enumerate(_DIRECTIONS)}),
        ),
        "granules": (
            np.array([json.dumps(sorted(granules(scenery.product, one, *scenery.key))) for one in found], object),
            {"long_name": "names of the products of this pass, a JSON list"},
        ),
        "water_km2": (
            np.array([kept.dynamics.water_km2(time) for time in times]),
            {"long_name": "true area of the lake within its AOI", "units": "km2"},
        ),
        "state": (
            np.array([kept.dynamics.cover(time).state for time in times]),
            {"long_name": "true state of the lake's surface: open, ice, or thaw (broken ice)"},
        ),
        "wind": (
            np.array([kept.wind(one) for one in found]),
            {"long_name": "true wind that roughens the lake", "units": "m s-1"},
        ),
    }
    return {name: ("time", values, attrs) for name, (values, attrs) in columns.items()}


def _power_attrs(scenery: Scenery, polarisation: str) -> dict[str, Any]:
    attrs = {
        "long_name": f"gamma0 backscatter, {polarisation.upper()}",
        "units": "1",
        "scale": "linear power",
        "polarisation": polarisation,
        "source": "simulated",
        "spacing": scenery.spacing,
        "speckle_filter": scenery.product.speckle_filter,
    }
    return attrs | ({"looks": scenery.looks} if scenery.product.filter_looks is None else {})


def _attrs(scenery: Scenery) -> dict[str, Any]:
    lake = scenery.lake
    return {
        "Conventions": "CF-1.11",
        "title": f"Simulated Sentinel-1 gamma0 backscatter of {lake.title}",
        "lake": lake.id,
        "epsg": lake.epsg,
        "spacing": scenery.spacing,
        "source": "simulated",
        "product": scenery.product.name,
        "speckle_filter": scenery.product.speckle_filter,
        "seed": scenery.seed,
        "growth_m_per_year": scenery.growth,
    }


def _flags(long_name: str, codes: dict[str, int]) -> dict[str, Any]:
    return {"long_name": long_name, "flag_values": list(codes.values()), "flag_meanings": " ".join(codes)}
