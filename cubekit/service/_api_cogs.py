"""Rasters of a pass as cloud-optimised GeoTIFF."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cubekit import series
from cubekit.errors import NoObservations
from cubekit.passes import PLATFORMS
from cubekit.series.export.rows import NUMBERS
from cubekit.service._api_cubes import Cube, Cubes, name_of, place_of
from cubekit.service._api_release import Pass
from cubekit.service.state import Release


def water_cog(opened: Cube, wanted: Pass, release: Release) -> bytes:
    """The water of a lake at a pass, as `cubekit.series.write_masks` writes it.

    Parameters
    ----------
    opened
        The release's cube.
    wanted
        One of its passes.
    release
        Named in the tags.

    Returns
    -------
    bytes
        GeoTIFF, uint8: 0 dry, 1 water, 255 not known; the same bytes each time.
    """
    place = place_of(opened.water, wanted)
    probability = opened.water["probability"].isel(time=[place])
    area = _area(probability, wanted, release)
    with tempfile.TemporaryDirectory() as folder:
        threshold = float(opened.water.attrs["threshold"])
        series.write_masks(probability, opened.lake, folder, area=area, threshold=threshold)
        (path,) = Path(folder, opened.lake.id).glob("*.tif")
        return path.read_bytes()


def power_cog(cubes: Cubes, opened: Cube, wanted: Pass, polarisation: str) -> bytes:
    """The backscatter of a pass on the lake's lattice.

    Returns
    -------
    bytes
        GeoTIFF, float32, linear power, NaN where there is no data.

    Raises
    ------
    NoObservations
        When the cube lacks it.
    """
    import rasterio

    power = cubes.power(opened, wanted, polarisation).transpose("y", "x").to_numpy()
    if not np.isfinite(power).any():
        msg = f"the pass of {name_of(wanted.time)} has no {polarisation}"
        raise NoObservations(msg)
    rows, columns = power.shape
    profile: dict[str, Any] = {"driver": "COG", "width": columns, "height": rows, "count": 1, "dtype": "float32"}
    profile |= {"crs": f"EPSG:{opened.lake.epsg}", "transform": opened.lake.lattice.transform, "nodata": np.nan}
    with rasterio.MemoryFile() as memory:
        with memory.open(**profile, compress="DEFLATE", predictor="FLOATING_POINT", blocksize=256) as file:
            file.write(power, 1)
            file.set_band_description(1, f"gamma0 {polarisation.upper()}, linear power")
            file.update_tags(lake=opened.lake.id, time=name_of(wanted.time), track=str(wanted.track))
        return bytes(memory.read())


def file_name(lake: str, wanted: Pass, layer: str) -> str:
    """The name of a raster for who keeps it."""
    return f"{lake}_{wanted.time:%Y%m%dT%H%M%S}_T{wanted.track:03d}_{wanted.cells['platform']}_{layer}.tif"


def _area(probability: xr.DataArray, wanted: Pass, release: Release) -> xr.Dataset:
    """The area of a pass as the release has it, for the tags."""
    numbers = {name: wanted.cells[name] for name in NUMBERS}
    values: dict[str, Any] = {
        name: ("time", [np.nan if number is None else number]) for name, number in numbers.items()
    }
    values["state"] = ("time", np.array([wanted.cells["state"]], object))
    along = {name: ("time", probability[name].to_numpy()) for name in ("time", "track", "granules")}
    code = np.array([PLATFORMS.index(wanted.cells["platform"])], np.int8)
    origin = {name: getattr(release, name) for name in ("snapshot", "model_hash", "config_hash")}
    return xr.Dataset(values, {**along, "platform": ("time", code)}, {"lake": release.lake, **origin})
