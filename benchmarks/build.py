"""A cube built from local COGs, against what only reads the same windows of the same files, on as many threads.

The files are as OPERA's: tiles of 512 x 512 pixels, deflated, a raster several times as wide as the lattice. Building
decodes masks, mosaics, checks, compresses and commits besides; the peers stop at arrays in memory.
"""

from __future__ import annotations

import shutil
import tempfile
from datetime import UTC, datetime, timedelta
from pathlib import Path

import dask
import numpy as np
import pystac
import rasterio
from rasterio.windows import from_bounds

from benchmarks import Result
from benchmarks._timing import THREADS, on_threads, paired, rates, ratio
from cubekit.cube.build import update
from cubekit.lakes import Lake, catalogue
from cubekit.sources import find_scenes

LAYERS = ("vv", "vh", "mask")
SIZE = (1100, 1400)  # rows and columns of a product
ORIGINALS = 4


def write(folder: Path, lake: Lake, scenes: int) -> None:
    """Products with OPERA's names: a few different ones, and links to them on other days."""
    random = np.random.default_rng(0)
    left, top = lake.corner
    transform = rasterio.Affine(lake.spacing, 0, left - 330 * lake.spacing, 0, -lake.spacing, top + 410 * lake.spacing)
    profile = {
        "driver": "GTiff",
        "count": 1,
        "height": SIZE[0],
        "width": SIZE[1],
        "crs": f"EPSG:{lake.epsg}",
        "transform": transform,
        "tiled": True,
        "blockxsize": 512,
        "blockysize": 512,
        "compress": "deflate",
        "predictor": 2,
    }
    layers = {"VV": ("float32", np.nan), "VH": ("float32", np.nan), "mask": ("uint8", 255)}
    made: list[dict[str, Path]] = []
    for number in range(scenes):
        time = datetime(2016, 1, 1, 0, 11, 34, tzinfo=UTC) + timedelta(days=12 * number)
        processed = f"{time + timedelta(hours=9):%Y%m%dT%H%M%SZ}"
        name = f"OPERA_L2_RTC-S1_T121-258664-IW2_{time:%Y%m%dT%H%M%SZ}_{processed}_S1A_30_v1.0"
        paths = {layer: folder / f"{name}_{layer}.tif" for layer in layers}
        for layer, (dtype, nodata) in layers.items():
            if number >= ORIGINALS:
                paths[layer].hardlink_to(made[number % ORIGINALS][layer])
                continue
            values = random.gamma(4.4, 0.05 / 4.4, SIZE) if layer != "mask" else random.random(SIZE) < 0.02
            with rasterio.open(paths[layer], "w", dtype=dtype, nodata=nodata, **profile) as file:
                file.write(values.astype(dtype), 1)
                # Else all links to a file would be of one pass
                file.update_tags(TRACK_NUMBER="121", ORBIT_PASS_DIRECTION="descending")
        made.append(paths)


def windows(item: pystac.Item, lake: Lake) -> list[np.ndarray]:
    """Plain rasterio: the lattice's window of each layer."""
    read = []
    for layer in LAYERS:
        with rasterio.open(item.assets[layer].href) as file:
            read.append(file.read(1, window=from_bounds(*lake.lattice.boundingbox.bbox, file.transform)))
    return read


def odc_stac(items: list[pystac.Item], lake: Lake) -> np.ndarray:
    """odc-stac onto the lattice, loaded."""
    import odc.stac

    with dask.config.set(scheduler="threads", num_workers=THREADS):
        return odc.stac.load(items, bands=list(LAYERS), geobox=lake.lattice, chunks={"time": 1}).compute()


def build(items: list[pystac.Item], lake: Lake, root: Path) -> None:
    """Cubekit, to a cube on disk."""
    shutil.rmtree(root, ignore_errors=True)
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        report = update(lake, items, root)
    if report.added != len(items):
        msg = f"{report} of {len(items)}: {report.refused}"
        raise RuntimeError(msg)


def measure(*, tiny: bool = False) -> list[Result]:
    """Ratios to rasterio's windows and to odc-stac."""
    lake = catalogue()["tsho_rolpa"].at_spacing(30)
    scenes = 2 if tiny else 128
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        (home / "archive").mkdir()
        write(home / "archive", lake, scenes)
        items = list(find_scenes(lake, f"folder:{home / 'archive'}"))
        taken = paired(
            {
                "cubekit": lambda: build(items, lake, home / "cubes"),
                "rasterio": lambda: on_threads(lambda item: windows(item, lake), items),
                "odc-stac": lambda: odc_stac(items, lake),
            },
            1 if tiny else 3,
        )
    detail = rates(taken, scenes, "scenes/s")
    return [
        Result("cube from local COGs: rasterio windows", ratio(taken, "cubekit", "rasterio"), 0.9, detail=detail),
        Result("cube from local COGs: odc-stac, loaded", ratio(taken, "cubekit", "odc-stac"), detail=detail),
    ]
