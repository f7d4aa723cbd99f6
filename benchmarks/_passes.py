"""Cubes of any length, published or living: a few speckled passes again and again."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import xarray as xr
import zarr
from odc.geo.xr import xr_coords

from cubekit.cube import store
from cubekit.cube.schema import encoding
from cubekit.lakes import Lake, catalogue

DIFFERENT = 32


def lake() -> Lake:
    """Whose cube it is."""
    return catalogue()["tsho_rolpa"].at_spacing(30)


def write(path: Path, passes: int) -> None:
    """Write a published cube, a pass every three days."""
    coding = _coding((256, 256))
    for part in _parts(lake(), passes, np.timedelta64(3, "D")):
        if path.exists():
            part.to_zarr(path, append_dim="time", consolidated=False)
        else:
            part.to_zarr(path, encoding=coding, consolidated=False)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # consolidated metadata isn't part of Zarr v3 yet
        zarr.consolidate_metadata(path)


def write_living(path: Path, here: Lake, passes: int) -> None:
    """Write a living cube of a lake, of as many passes in ten years."""
    for part in _parts(here, passes, np.timedelta64(3652 * 24 * 60 // passes, "m")):
        if store.is_living(path):
            how = {"append_dim": "time", "group": store.PASSES, "consolidated": False}
            store.commit(path, lambda zarr_store: part.to_zarr(zarr_store, **how), "more")  # noqa: B023
        else:
            how = {"encoding": _coding(here.lattice.shape.yx), "group": store.PASSES, "consolidated": False}
            store.create(path, lambda zarr_store: part.to_zarr(zarr_store, **how), "first")  # noqa: B023


def _coding(shape: tuple[int, int]) -> dict:
    names = {"vv", "mask", "time", "track", "absolute_orbit", "platform", "orbit_direction", "granules", "scenes"}
    return {name: value for name, value in encoding(shape, ["vv"]).items() if name in names}


def _parts(here: Lake, passes: int, step: np.timedelta64) -> Iterator[xr.Dataset]:
    """Passes by 64, as many as there shall be."""
    random = np.random.default_rng(0)
    water = here.outline_mask.values
    images = random.gamma(4.4, np.where(water, 0.004, 0.1) / 4.4, (DIFFERENT, *water.shape)).astype("float32")
    images[:, :, :20] = np.nan
    kinds = np.arange(passes) % DIFFERENT
    attrs = {
        "lake": here.id,
        "source": "opera",
        "spacing": here.spacing,
        "speckle_filter": "none",
        "looks": 4.4,
        "polarisations": ["vv"],
        "resampling": "nearest",
    }
    coords = {
        "time": np.datetime64("2000-07-01T00:11:33", "ns") + np.arange(passes) * step,
        "track": ("time", np.where(kinds % 2, 12, 121).astype("int16")),
        "absolute_orbit": ("time", np.arange(passes, dtype="int32")),
        "platform": ("time", np.zeros(passes, "int8")),
        "orbit_direction": ("time", np.zeros(passes, "int8")),
        "granules": ("time", np.array([f'["{number}"]' for number in range(passes)], object)),
        "scenes": ("time", np.array(["{}"] * passes, object)),
    }
    for start in range(0, passes, 64):
        part = slice(start, min(start + 64, passes))
        vv = images[kinds[part]]
        mask = np.where(np.isfinite(vv), np.uint8(0), np.uint8(255))
        dims = ("time", "y", "x")
        yield xr.Dataset(
            {"vv": (dims, vv, {"grid_mapping": "spatial_ref"}), "mask": (dims, mask, {"grid_mapping": "spatial_ref"})},
            {**dict(xr_coords(here.lattice, crs_coord_name="spatial_ref")), **_part(coords, part)},
            attrs,
        )


def _part(coords: dict, part: slice) -> dict:
    return {name: (v[0], v[1][part]) if isinstance(v, tuple) else ("time", v[part]) for name, v in coords.items()}
