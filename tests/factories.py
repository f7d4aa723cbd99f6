"""Small scenes made on the spot: GeoTIFFs named and tagged as HyP3 and OPERA do, with values a test recognises."""

from __future__ import annotations

from datetime import datetime, timedelta
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from cubekit.lakes import Lake


def write_raster(path: Path, values: np.ndarray, transform: Affine, epsg: int, nodata: float, **tags: str) -> Path:
    """Write one band."""
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {
        "driver": "GTiff",
        "count": 1,
        "height": values.shape[0],
        "width": values.shape[1],
        "dtype": values.dtype,
    }
    profile |= {"tiled": True, "blockxsize": 128, "blockysize": 128, "compress": "deflate"}
    with rasterio.open(path, "w", crs=f"EPSG:{epsg}", transform=transform, nodata=nodata, **profile) as dataset:
        dataset.write(values, 1)
        dataset.update_tags(**tags)
    return path


def pattern(shape: tuple[int, int], seed: int) -> np.ndarray:
    """Positive float32 noise: any two pixels differ, so that a shift by one shows."""
    return np.random.default_rng(seed).uniform(0.01, 0.5, shape).astype("float32")


def grid(lake: Lake, *, margin: int = 10, shift: tuple[float, float] = (0.0, 0.0)) -> tuple[Affine, tuple[int, int]]:
    """A raster that holds the lattice with a margin of pixels on each side, shifted by metres."""
    left, top = lake.corner
    spacing = lake.spacing
    affine = Affine(spacing, 0, left - margin * spacing + shift[0], 0, -spacing, top + margin * spacing + shift[1])
    return affine, (256 + 2 * margin, 256 + 2 * margin)


def hyp3(
    folder: Path,
    lake: Lake,
    time: str,
    *,
    values: np.ndarray | None = None,
    identifier: str = "AAAA",
    processed: str = "2024:01:01 00:00:00",
    platform: str = "S1A",
    flags: str = "gpuned",
    after: str = "",
    shift: tuple[float, float] = (0.0, 0.0),
    epsg: int | None = None,
    ls_map: np.ndarray | None = None,
) -> Path:
    """One HyP3 RTC product of one polarisation; 0 is nodata."""
    affine, shape = grid(lake, shift=shift)
    values = pattern(shape, int(time[-6:])) if values is None else values
    stem = f"{platform}_IW_{time}_DVP_RTC{lake.spacing}_G_{flags}_{identifier}"
    tags = {"TIFFTAG_DATETIME": processed, "AREA_OR_POINT": "Point"}
    if ls_map is not None:
        write_raster(folder / f"{stem}_ls_map{after}.tif", ls_map, affine, epsg or lake.epsg, 0, **tags)
    return write_raster(folder / f"{stem}_VV{after}.tif", values, affine, epsg or lake.epsg, 0, **tags)


def opera(
    folder: Path,
    lake: Lake,
    time: str,
    *,
    values: np.ndarray | None = None,
    mask: np.ndarray | None = None,
    burst: str = "T121-257648-IW2",
    processed: str | None = None,
    platform: str = "S1A",
    shift: tuple[float, float] = (0.0, 0.0),
    epsg: int | None = None,
    orbit: int | None = None,
    vh: bool = False,
    software: str = "1.0.4",
) -> list[Path]:
    """One OPERA RTC-S1 granule: VV, mask and, if asked, VH; NaN is nodata."""
    affine, shape = grid(lake, shift=shift)
    values = pattern(shape, int(time[-6:])) if values is None else values
    mask = np.where(np.isfinite(values), 0, 255).astype("uint8") if mask is None else mask
    start = datetime.strptime(time, "%Y%m%dT%H%M%S")  # noqa: DTZ007
    generated = processed or f"{start + timedelta(hours=6):%Y%m%dT%H%M%S}"
    stem = f"OPERA_L2_RTC-S1_{burst}_{time}Z_{generated}Z_{platform}_{lake.spacing}_v1.0"
    tags = {"SOFTWARE_VERSION": software} | ({"ABSOLUTE_ORBIT_NUMBER": str(orbit)} if orbit else {})
    code = epsg or lake.epsg
    paths = [write_raster(folder / f"{stem}_VV.tif", values, affine, code, float("nan"), **tags)]
    if vh:
        paths.append(write_raster(folder / f"{stem}_VH.tif", values / 5, affine, code, float("nan"), **tags))
    return [*paths, write_raster(folder / f"{stem}_mask.tif", mask, affine, code, 255, **tags)]


def dark_lake(lake: Lake, seed: int, *, looks: float = 6.0, water: float = 0.004, land: float = 0.16) -> np.ndarray:
    """A calm lake in bright land, with speckle: what a segmenter finds, on the raster of `grid`."""
    calm = np.pad(lake.outline_mask.values, 10)
    speckle = np.random.default_rng(seed).gamma(looks, 1 / looks, calm.shape)
    return (np.where(calm, water, land) * speckle).astype("float32")
