"""A published cube of any length: a few speckled passes again and again, every three days."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from odc.geo.xr import xr_coords

from cubekit.cube.schema import encoding
from cubekit.lakes import Lake, catalogue

DIFFERENT = 32


def lake() -> Lake:
    """Whose cube it is."""
    return catalogue()["tsho_rolpa"].at_spacing(30)


def write(path: Path, passes: int) -> None:
    """Write it in parts of 64 passes, as long as it may be."""
    here = lake()
    random = np.random.default_rng(0)
    water = here.outline_mask.values
    images = random.gamma(4.4, np.where(water, 0.004, 0.1) / 4.4, (DIFFERENT, 256, 256)).astype("float32")
    images[:, :, :20] = np.nan
    kinds = np.arange(passes) % DIFFERENT
    attrs = {
        "lake": here.id,
        "source": "opera",
        "spacing": 30,
        "speckle_filter": "none",
        "looks": 4.4,
        "polarisations": ["vv"],
        "resampling": "nearest",
    }
    coords = {
        "time": np.datetime64("2000-07-01T00:11:33", "ns") + np.arange(passes) * np.timedelta64(3, "D"),
        "track": ("time", np.where(kinds % 2, 12, 121).astype("int16")),
        "absolute_orbit": ("time", np.arange(passes, dtype="int32")),
        "platform": ("time", np.zeros(passes, "int8")),
        "orbit_direction": ("time", np.zeros(passes, "int8")),
        "granules": ("time", np.array([f'["{number}"]' for number in range(passes)], object)),
        "scenes": ("time", np.array(["{}"] * passes, object)),
    }
    coding = {name: value for name, value in encoding((256, 256), ["vv"]).items() if name in {"vv", "mask", *coords}}
    for start in range(0, passes, 64):
        part = slice(start, min(start + 64, passes))
        vv = images[kinds[part]]
        mask = np.where(np.isfinite(vv), np.uint8(0), np.uint8(255))
        dims = ("time", "y", "x")
        cube = xr.Dataset(
            {"vv": (dims, vv, {"grid_mapping": "spatial_ref"}), "mask": (dims, mask, {"grid_mapping": "spatial_ref"})},
            {**dict(xr_coords(here.lattice, crs_coord_name="spatial_ref")), **_part(coords, part)},
            attrs,
        )
        if start:
            cube.to_zarr(path, append_dim="time", consolidated=False)
        else:
            cube.to_zarr(path, encoding=coding, consolidated=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata isn't part of Zarr v3 yet
        zarr.consolidate_metadata(path)


def _part(coords: dict, part: slice) -> dict:
    return {name: (v[0], v[1][part]) if isinstance(v, tuple) else ("time", v[part]) for name, v in coords.items()}
