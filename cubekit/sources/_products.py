"""Files of simulated passes, as the archives have them: names, tags, layers and codes of OPERA RTC-S1 and HyP3 RTC."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from importlib import metadata
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cubekit.files import replacing
from cubekit.sources._geometry import Pass
from cubekit.sources.folder import SIMULATOR
from cubekit.sources.names import HYP3_FILTER

MASK_CODES = {"clear": 0, "shadow": 1, "layover": 2, "layover_and_shadow": 3, "no_layover_map": 254, "no_data": 255}
"""Codes of masks in cubes; those that occur here are OPERA's as well."""

_STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"
# Bits: 1 tested, 4 in layover, 16 in shadow. HyP3's 2 and 8, slopes steeper than the look, are left out.
_LS_MAP = {0: 1, 1: 17, 2: 5, 3: 21, 255: 0}

Raster = NDArray[Any]


@dataclass(frozen=True)
class RadarProduct:
    """A kind of product.

    Parameters
    ----------
    name
        As `PRODUCTS` has it.
    spacing
        Of its pixels, metres.
    looks
        Equivalent number of looks before any filter, unless told otherwise.
    correlation
        Of the speckle in the radar image, as `cubekit.sources._speckle.acquire` takes it, pixels.
    filter_looks
        What HyP3 tells its filter, or None where none is applied.
    """

    name: str
    spacing: int
    looks: float
    correlation: float
    filter_looks: float | None = None

    @property
    def opera(self) -> bool:
        """Whether it is OPERA's: in bursts, NaN where there is no data."""
        return self.name == "opera"

    @property
    def layers(self) -> tuple[str, str, str]:
        """Names of its files: the two polarisations, and the map of layover and shadow."""
        return ("VV", "VH", "mask" if self.opera else "ls_map")

    @property
    def speckle_filter(self) -> str:
        """As cubes call it."""
        return "none" if self.filter_looks is None else HYP3_FILTER


# Fitted to water. OPERA's crops of the sea off California have 5 to 7 looks in 9 x 9 pixels where swell is low; their
# neighbours correlate by 0.05 in x and 0.28 in y; here by 0.25 in both, which resampling makes of none.
PRODUCTS: Mapping[str, RadarProduct] = MappingProxyType(
    {
        one.name: one
        for one in (
            RadarProduct("opera", 30, 6.0, 0.0),
            RadarProduct("hyp3", 20, 12.0, 0.7, 60.0),
            RadarProduct("hyp3_unfiltered", 20, 12.0, 0.7),
        )
    }
)
"""What can be simulated: OPERA RTC-S1 at 30 m, HyP3 RTC at 20 m with HyP3's speckle filter, and without."""


def granules(product: RadarProduct, one: Pass, *key: object) -> tuple[str, ...]:
    """Names of a pass's products: OPERA's one a burst, of HyP3 one, whose id is made of the key and the pass."""
    unit = f"S1{one.platform[-1].upper()}"
    if product.opera:
        return tuple(
            f"OPERA_L2_RTC-S1_T{one.view.track:03d}-{burst:06d}-{one.view.swath}_{start:%Y%m%dT%H%M%SZ}"
            f"_{one.processed:%Y%m%dT%H%M%SZ}_{unit}_{product.spacing}_v1.0"
            for burst, start in zip(one.view.bursts, one.starts, strict=True)
        )
    identifier = zlib.crc32(repr((*key, one.platform, one.orbit)).encode()) & 0xFFFF
    flag = "n" if product.filter_looks is None else "f"
    return (f"{unit}_IW_{one.starts[0]:%Y%m%dT%H%M%S}_DVP_RTC{product.spacing}_G_gpu{flag}ed_{identifier:04X}",)


def write_granules(
    product: RadarProduct,
    one: Pass,
    files: Sequence[Sequence[Path]],
    images: Iterable[tuple[float, Sequence[Raster]]],
    *,
    left: float,
    epsg: int,
    looks: float,
) -> None:
    """Write the products of a pass, each whole or not at all.

    Parameters
    ----------
    product
        Their kind.
    one
        The pass.
    files
        Of each product one a layer.
    images
        Of each product its upper edge and its VV, VH (float32 gamma0 in linear power, NaN for no data) and mask
        (uint8, the cube's codes).
    left, epsg
        Left edge and coordinate reference system of all.
    looks
        Of the speckle before any filter.
    """
    for index, ((top, layers), paths) in enumerate(zip(images, files, strict=True)):
        bounds = _bounds(left, top, layers[0].shape, product.spacing)
        tags = _opera_tags(one, index, bounds, epsg) if product.opera else _hyp3_tags(one)
        tags |= {"SOFTWARE_VERSION": f"{SIMULATOR} {_version()}"}
        if product.filter_looks is None:  # of filtered speckle it isn't known
            tags |= {"CUBEKIT_LOOKS": looks}
        with ExitStack() as granule:
            # Renamed in reverse, when all are written: a product shows when its VV does, the last.
            for name, path, values in zip(product.layers, paths, layers, strict=True):
                temporary = granule.enter_context(replacing(path))
                layer = {"LAYER_NAME": name} if product.opera else {}
                _write_layer(temporary, values, product, (left, top), epsg, tags | layer)


def _write_layer(
    file: Path,
    values: Raster,
    product: RadarProduct,
    corner: tuple[float, float],
    epsg: int,
    tags: Mapping[str, object],
) -> None:
    import rasterio
    from rasterio.transform import from_origin

    codes = values.dtype == np.uint8
    if not product.opera:
        values = _ls_map(values) if codes else np.nan_to_num(values, nan=0.0)
    nodata = (255 if codes else np.nan) if product.opera else 0
    height, width = values.shape
    profile = {"driver": "GTiff", "count": 1, "dtype": values.dtype, "width": width, "height": height, "nodata": nodata}
    profile |= {"crs": f"EPSG:{epsg}", "transform": from_origin(*corner, product.spacing, product.spacing)}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    with rasterio.open(file, "w", predictor=2 if codes else 3, **profile) as dataset:
        dataset.update_tags(**tags)
        dataset.write(values, 1)


def _ls_map(codes: Raster) -> Raster:
    bits = np.zeros(256, np.uint8)
    bits[list(_LS_MAP)] = list(_LS_MAP.values())
    return np.asarray(bits[codes])


def _hyp3_tags(one: Pass) -> dict[str, object]:
    return {"AREA_OR_POINT": "Point", "TIFFTAG_DATETIME": f"{one.processed:%Y:%m:%d %H:%M:%S}"}


def _opera_tags(one: Pass, index: int, bounds: list[float], epsg: int) -> dict[str, object]:
    """OPERA's tags of one burst of a pass."""
    burst, start = one.view.bursts[index], one.starts[index]
    return {
        "ABSOLUTE_ORBIT_NUMBER": one.orbit,
        "BOUNDING_BOX": bounds,
        "BOUNDING_BOX_EPSG_CODE": epsg,
        "BURST_ID": f"t{one.view.track:03d}_{burst:06d}_{one.view.swath.lower()}",
        "LOOK_DIRECTION": "right",
        "ORBIT_PASS_DIRECTION": one.view.direction,
        "PLATFORM": f"Sentinel-1{one.platform[-1].upper()}",
        "PROCESSING_DATETIME": f"{one.processed:{_STAMP}}",
        "PROCESSING_INFORMATION_FILTERING_APPLIED": False,
        "PRODUCT_VERSION": "1.0",
        "SUB_SWATH_ID": one.view.swath,
        "TRACK_NUMBER": one.view.track,
        "ZERO_DOPPLER_START_TIME": f"{start:{_STAMP}}",
        "ZERO_DOPPLER_END_TIME": f"{start + timedelta(seconds=3.1):{_STAMP}}",
    }


def _bounds(left: float, top: float, shape: Sequence[int], spacing: int) -> list[float]:
    return [left, top - shape[0] * spacing, left + shape[1] * spacing, top]


@cache
def _version() -> str:
    try:
        return metadata.version("cubekit")
    except metadata.PackageNotFoundError:
        return "0"
