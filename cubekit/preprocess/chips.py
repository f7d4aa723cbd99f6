"""Chips: the 256 x 256 images that a network sees, in memory and as GeoTIFFs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyproj
import xarray as xr

from cubekit.errors import ConfigError, GridMismatch
from cubekit.files import replacing
from cubekit.lakes import LATTICE_PIXELS, Lake
from cubekit.passes import PLATFORMS
from cubekit.preprocess._checks import pixels_off, whole_images
from cubekit.preprocess.equalize import Method, equalize

# So many passes are computed at once: workers stay busy, and memory bounded (4 MB).
_BATCH = 64


def to_chips(da: xr.DataArray, lake: Lake, *, method: Method = "published") -> xr.DataArray:
    """Equalise passes and pad them with zeros to 256 x 256, the AOI window in the middle.

    Parameters
    ----------
    da
        Linear power on the AOI window of `lake`, as `prepare` gives it.
    lake
        The lake, on the lattice of `da`.
    method
        As in `equalize`.

    Returns
    -------
    xarray.DataArray
        uint8, 256 pixels along y and x, 0 where not observed or outside the AOI window. The coords y and x go on
        beyond the window at the lattice's spacing; ``observed`` is False there. Other coords stay, unless they lie on y
        or x. Attributes as `equalize` gives them, and ``lake``; ``spatial_ref`` holds the lattice's CRS.

    Raises
    ------
    ConfigError
        As `equalize`.
    GridMismatch
        When `da` doesn't lie on the AOI window of `lake`.

    Notes
    -----
    Lazy where `da` is, one chunk along y and x. An odd pixel goes after the window, as in the published chips.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> lake = catalogue()["gokyo"]
    >>> power = xr.ones_like(lake.outline_mask.isel(dict(zip("yx", lake.aoi_window))), dtype="float32")
    >>> to_chips(power, lake).shape
    (256, 256)
    """
    _check_window(da, lake)
    equalized = equalize(da, method=method)
    pads = {name: _margins(da.sizes[name]) for name in ("y", "x")}
    on_pixels = [name for name, coord in equalized.coords.items() if {"y", "x"} & set(coord.dims)]
    # As a whole, so that an index on track stays one
    kept = equalized.coords.to_dataset().drop_vars(on_pixels).coords
    chips = xr.DataArray(_pad(equalized.variable, pads, constant=0), coords=kept, name=da.name)
    spatial_ref = xr.Variable((), np.int32(0), pyproj.CRS.from_epsg(lake.epsg).to_cf())
    return chips.assign_coords(
        y=_extended(da["y"], pads["y"][0], -lake.spacing),
        x=_extended(da["x"], pads["x"][0], lake.spacing),
        observed=_pad(equalized["observed"].variable, pads, constant=False),
        spatial_ref=spatial_ref,
    ).assign_attrs(lake=lake.id, grid_mapping="spatial_ref")


def write_chips(chips: xr.DataArray, folder: str | Path) -> list[Path]:
    """Write chips as the paper has them: one GeoTIFF a pass, uint8, nodata 0.

    Parameters
    ----------
    chips
        From `to_chips`, dims (time, y, x), with the coords ``track`` and ``platform`` along time.
    folder
        Made when absent. Files of the same names are replaced.

    Returns
    -------
    list of pathlib.Path
        The files by time, e.g. ``S1A_20210122T001130_T121_VV_tsho_rolpa.tif``. Tags hold the preprocessing.

    Raises
    ------
    ConfigError
        When `chips` are not from `to_chips`, lack a coord along time, or two passes would have the same name.

    Notes
    -----
    Computes, 64 passes at a time. A file is written under another name and then renamed, so that none is ever half
    there.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from cubekit.lakes import catalogue
    >>> lake = catalogue()["gokyo"]
    >>> power = xr.ones_like(lake.outline_mask.isel(dict(zip("yx", lake.aoi_window))), dtype="float32")
    >>> passes = power.expand_dims(time=[np.datetime64("2021-01-22T00:11:30", "ns")])
    >>> passes = passes.assign_coords(track=("time", [121]), platform=("time", [0]))
    >>> with TemporaryDirectory() as folder:
    ...     [path.name for path in write_chips(to_chips(passes, lake), folder)]
    ['S1A_20210122T001130_T121_gokyo.tif']
    """
    names = _names(chips)
    profile = _profile(chips)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    tags = {key: str(chips.attrs[key]) for key in ("preprocessing", "lake", "polarisation") if key in chips.attrs}
    passes = chips.transpose("time", "y", "x").variable
    for start in range(0, len(names), _BATCH):
        batch = np.asarray(passes[start : start + _BATCH])
        for name, image in zip(names[start : start + _BATCH], batch, strict=True):
            _write(folder / name, image, profile, tags)
    return [folder / name for name in names]


def _write(path: Path, image: Any, profile: dict[str, Any], tags: dict[str, str]) -> None:
    import rasterio

    with replacing(path) as temporary, rasterio.open(temporary, "w", **profile) as file:
        file.write(image, 1)
        file.update_tags(**tags)


def _profile(chips: xr.DataArray) -> dict[str, Any]:
    from rasterio.transform import from_origin

    if "spatial_ref" not in chips.coords or "crs_wkt" not in chips["spatial_ref"].attrs:
        msg = "the chips have no coord spatial_ref with a CRS; make them with to_chips"
        raise ConfigError(msg)
    y, x = (np.asarray(chips[name].variable) for name in ("y", "x"))
    down, right = float(y[0] - y[1]), float(x[1] - x[0])
    return {
        "driver": "GTiff",
        "dtype": "uint8",
        "count": 1,
        "height": y.size,
        "width": x.size,
        "nodata": 0,
        "compress": "deflate",
        "crs": chips["spatial_ref"].attrs["crs_wkt"],
        "transform": from_origin(float(x[0]) - right / 2, float(y[0]) + down / 2, right, down),
    }


def _names(chips: xr.DataArray) -> list[str]:
    if chips.dtype != np.uint8 or set(chips.dims) != {"time", "y", "x"}:
        msg = f"the chips are {chips.dtype} with dims {chips.dims}; make them with to_chips: uint8 on (time, y, x)"
        raise ConfigError(msg)
    if missing := [name for name in ("time", "track", "platform") if name not in chips.coords]:
        msg = f"the chips have no coord {', '.join(missing)} along time, and files are named after it; keep the cube's"
        raise ConfigError(msg)
    what = "_".join(str(chips.attrs[key]) for key in ("polarisation", "lake") if key in chips.attrs)
    what = what.replace("vv", "VV").replace("vh", "VH")
    times, tracks, platforms = (np.asarray(chips[name].variable) for name in ("time", "track", "platform"))
    names = [
        f"{_short(PLATFORMS[platform])}_{np.datetime_as_string(time, 's').replace('-', '').replace(':', '')}"
        f"_T{track:03d}_{what}.tif"
        for time, track, platform in zip(times, tracks, platforms, strict=True)
    ]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        msg = f"two passes would be written to {', '.join(twice)}; a pass may be given once only"
        raise ConfigError(msg)
    return names


def _short(platform: str) -> str:
    return platform.replace("sentinel-", "S").upper()


def _check_window(da: xr.DataArray, lake: Lake) -> None:
    if off := pixels_off(da, lake, lake.aoi_window):
        name, given, expected = off
        msg = (
            f"the data has {da.sizes.get(name)} pixels along {name}, {_ends(given)}, and the AOI window of lake "
            f"{lake.id!r} at {lake.spacing} m has {expected.size}, {_ends(expected)}; use prepare, and "
            "Lake.at_spacing for another spacing"
        )
        raise GridMismatch(msg)


def _ends(values: Any) -> str:
    return f"from {values[0]:.0f} to {values[-1]:.0f} m" if values.size else "without coordinates"


def _margins(size: int) -> tuple[int, int]:
    before = (LATTICE_PIXELS - size) // 2
    return before, LATTICE_PIXELS - size - before


def _pad(variable: xr.Variable, pads: dict[str, tuple[int, int]], *, constant: int | bool) -> xr.Variable:
    return whole_images(variable.pad({**pads}, constant_values=constant))


def _extended(coord: xr.DataArray, before: int, step: int) -> xr.Variable:
    first = float(coord[0]) - before * step
    return xr.Variable(coord.dims, first + step * np.arange(LATTICE_PIXELS), coord.attrs)
