"""From a cube on disk to the written mask, against the bare engine on chips that lie ready."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

import dask
import numpy as np
import xarray as xr

from cubekit import lakes
from cubekit.cube import in_fewer_chunks
from cubekit.preprocess import equalize, prepare
from cubekit.segmentation import engines, read_card, segment, shipped, tiles
from cubekit.segmentation.inference import in_views
from cubekit.segmentation.priors import outline_on_window

CLAIM = "segment(), cube to written mask"
PEER = "the bare engine"
LAKE = "tsho_rolpa"
STORED = 64
"""Passes that are written together, as the pipeline does."""


@dataclass(frozen=True)
class Cube:
    """A cube on disk, and the chips that a network gets of it."""

    folder: TemporaryDirectory[str]
    path: Path
    engine: engines.Engine
    chips: np.ndarray
    name: str


def make(size: int, engine: str = "torch") -> Cube:
    """So many passes of speckle on a lake's lattice, as `open_cube` gives them, a chunk a pass."""
    lake = lakes.catalogue()[LAKE].at_spacing(30)
    outline = lake.outline_mask
    random = np.random.default_rng(0)
    power = np.where(outline, 0.01, 0.15).astype("float32") * random.gamma(4.4, 1 / 4.4, (size, *outline.shape))
    passes = xr.Dataset(
        {
            "vv": (("time", "y", "x"), power.astype("float32")),
            "mask": (("time", "y", "x"), np.zeros(power.shape, np.uint8)),
        },
        coords={
            "time": np.datetime64("2015-01-01", "ns") + np.arange(size) * np.timedelta64(6, "D"),
            "y": outline["y"],
            "x": outline["x"],
        },
    )
    passes["vv"].attrs |= {
        "scale": "linear power",
        "polarisation": "vv",
        "source": "opera",
        "spacing": 30,
        "speckle_filter": "none",
        "looks": 4.4,
    }
    folder = TemporaryDirectory()
    path = Path(folder.name) / "cube.zarr"
    passes.chunk(time=1).to_zarr(path, consolidated=False)
    exact = engines.resolve(engine)
    model = shipped.find("opera-30m")
    running = engines.load(str(model), _hash(model), exact)
    image = _image(path).isel(time=slice(0, min(size, STORED))).load()
    stacked = np.stack([image.values, np.broadcast_to(outline_on_window(image, lake), image.shape)], axis=1)
    (tile,) = tiles.cut(image.shape[-2:])
    chips = tile.chip(stacked)
    return Cube(folder, path, running, np.resize(chips, (size, *chips.shape[1:])), exact)


def ours(cube: Cube) -> np.ndarray:
    """Cubekit: read, filter, equalise, segment, write, in batches of which one is in memory."""
    lake = lakes.catalogue()[LAKE].at_spacing(30)
    found = segment(_image(cube.path), shipped.find("opera-30m"), lake=lake, engine=cube.name)
    mask = (found > found.attrs["model_threshold"]).astype("uint8").drop_vars("observed").rename("water")
    written = cube.path.with_name("water.zarr")
    with dask.config.set(scheduler="threads"):
        for start in range(0, mask.sizes["time"], STORED):
            batch = mask.isel(time=slice(start, start + STORED)).compute().to_dataset()
            batch.attrs.clear()
            where = {"mode": "w"} if not start else {"append_dim": "time"}
            batch.to_zarr(written, consolidated=False, **where)
    return xr.open_zarr(written, consolidated=False)["water"].values


def peer(cube: Cube) -> np.ndarray:
    """The peer: nothing but the network, batch by batch, in as many views."""
    batch, views = cube.engine.batch, read_card(shipped.find("opera-30m")).views
    batches = (cube.chips[at : at + batch] for at in range(0, len(cube.chips), batch))
    return np.concatenate([in_views(cube.engine, one, views) for one in batches])


def megapixels(cube: Cube) -> float:
    """Work of one call: pixels that the network sees."""
    return cube.chips[:, 0].size / 1e6


def _image(path: Path) -> xr.DataArray:
    lake = lakes.catalogue()[LAKE].at_spacing(30)
    return equalize(prepare(in_fewer_chunks(xr.open_zarr(path, consolidated=False, chunks={"time": 1})), lake))


def _hash(path: Path) -> str:
    from cubekit.segmentation import model_hash

    return model_hash(path)
