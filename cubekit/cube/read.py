"""From the scenes of one pass to one time step on the lattice."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pystac
from affine import Affine
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from cubekit.cube._rasters import copied, persistently, reachable, unreadable
from cubekit.cube._values import block_means, finer, mask_nodata
from cubekit.cube.schema import BOTH, CLEAR, LAYOVER, NO_DATA, NO_MAP, POLARISATIONS, SHADOW
from cubekit.errors import GridMismatch, SourceError
from cubekit.passes import Pass
from cubekit.sources._addresses import without_queries
from cubekit.sources.stac import signed

RESAMPLINGS = ("nearest", "bilinear")
"""How the values of scenes that lie off the lattice may be resampled (cubic makes negative power). Masks: nearest."""

# HyP3's layover and shadow map is a bit field: 1 tested, 2 and 8 slopes, 4 in layover, 16 in shadow; 0 not tested.
_HYP3_LAYOVER, _HYP3_SHADOW = 4, 16

Array = NDArray[Any]


@dataclass(frozen=True)
class Image:
    """One pass, or one scene of it, on the lattice.

    Parameters
    ----------
    bands
        float32 (polarisation, y, x), linear power, NaN where there is no data, in the order asked for.
    mask
        uint8 (y, x), the cube's flags.
    offset
        Eastward and northward distance of the source grid from the lattice, metres; NaN where it is not one number
        (another CRS, or scenes that differ).
    """

    bands: Array
    mask: Array
    offset: tuple[float, float]

    @property
    def valid(self) -> Array:
        """Where some polarisation has data: bool (y, x)."""
        return np.asarray(np.isfinite(self.bands).any(axis=0))

    @property
    def empty(self) -> bool:
        """Whether there is no data at all."""
        return not self.valid.any()


def read_pass(
    pass_: Pass,
    lattice: GeoBox,
    *,
    polarisations: Sequence[str] = POLARISATIONS,
    resampling: str = "nearest",
    strict_grid: bool = False,
) -> Image:
    """Read the scenes of a pass onto a lattice and mosaic them.

    Parameters
    ----------
    pass_
        The pass.
    lattice
        The lake's grid.
    polarisations
        What to read, in this order; one that a scene lacks is NaN.
    resampling
        For the values of scenes that lie off the lattice: ``nearest`` (default) or ``bilinear``. Scenes on the
        lattice are copied bit for bit whatever is given.
    strict_grid
        Refuse scenes that lie off the lattice.

    Returns
    -------
    Image
        The mosaic: each pixel comes from the first scene that has data there, with the mask of that same scene.

    Raises
    ------
    GridMismatch
        When a scene has another spacing than the lattice, or `strict_grid` is set and it lies off the lattice.
    SourceError
        When a scene can't be read.

    Notes
    -----
    Reads the lattice's window only. Not lazy: it is what a worker does.
    """

    def read() -> Image:
        with reachable(pass_.scenes, (*polarisations, "mask")) as scenes:
            return _read(scenes, lattice, polarisations, resampling, strict_grid)

    return persistently(pass_.scenes, read)


def _read(
    scenes: Sequence[pystac.Item], lattice: GeoBox, polarisations: Sequence[str], resampling: str, strict_grid: bool
) -> Image:
    offsets = [grid_offset(scene, lattice) for scene in scenes]
    if strict_grid and (off := [(s, o) for s, o in zip(scenes, offsets, strict=True) if o != (0.0, 0.0)]):
        scene, (east, north) = off[0]
        where = "in another CRS" if np.isnan(east) else f"{east:g} m east and {north:g} m north of it"
        there = f"{scene.id} ({_code(scene)}) lies off the lattice (EPSG:{_epsg(lattice)})"
        msg = f"{there}, {where}; this source's grid should be the lattice's: strict_grid = false resamples it"
        raise GridMismatch(msg)
    images = [_read_scene(s, lattice, o, polarisations, resampling) for s, o in zip(scenes, offsets, strict=True)]
    mosaic = images[0]
    for image in images[1:]:
        mosaic = merge(mosaic, image)
    return mosaic


def merge(first: Image, second: Image) -> Image:
    """Mosaic two images of one pass: the first one wins where it has data, mask included.

    Notes
    -----
    More polarisations win over fewer, so that a scene that lacks one does not take it from the next. Where neither has
    data, the mask is that of the first scene that covers the pixel (it may say shadow). Merging is associative, so that
    a scene that comes late ends as if it had come in time.
    """
    has, other = (np.isfinite(image.bands).sum(axis=0) for image in (first, second))
    take_first = ((has >= other) & (has > 0)) | ((has == 0) & (other == 0) & (first.mask != NO_DATA))
    same = all(a == b or (np.isnan(a) and np.isnan(b)) for a, b in zip(first.offset, second.offset, strict=True))
    return Image(
        bands=np.where(take_first, first.bands, second.bands),
        mask=np.where(take_first, first.mask, second.mask),
        offset=first.offset if same else (float("nan"), float("nan")),
    )


def grid_offset(scene: pystac.Item, lattice: GeoBox) -> tuple[float, float]:
    """Eastward and northward distance of a scene's grid from the lattice, metres, at most half a pixel.

    Returns
    -------
    tuple of float
        (0, 0) where the grids agree, NaN where the scene comes in another CRS.

    Raises
    ------
    GridMismatch
        When the spacings differ.
    """
    affine = Affine(*scene.properties["proj:transform"][:6])
    spacing = lattice.resolution.x
    if _averaged(scene, lattice) > 1:
        spacing = affine.a
    if affine.a != spacing or affine.e != -spacing:
        msg = (
            f"{scene.id} has pixels of {affine.a:g} m, the lattice of {spacing:g} m; "
            f"use the lake's lattice of {affine.a:g} m (Lake.at_spacing)"
        )
        raise GridMismatch(msg)
    if _code(scene) != f"EPSG:{_epsg(lattice)}":
        return float("nan"), float("nan")
    left, top = lattice.transform.c, lattice.transform.f
    # At exactly half a pixel the nearest pixel is the one to the south-east.
    east = spacing / 2 - (spacing / 2 - (affine.c - left)) % spacing
    north = (affine.f - top + spacing / 2) % spacing - spacing / 2
    return float(np.float32(east)), float(np.float32(north))  # as stored


def _averaged(scene: pystac.Item, lattice: GeoBox) -> int:
    """How many pixels of a scene, in x and in y, are averaged into one of the lattice; 1: they are of one size."""
    count = lattice.resolution.x / float(scene.properties.get("cubekit:native_spacing", lattice.resolution.x))
    return int(count) if count.is_integer() else 1


def _epsg(lattice: GeoBox) -> int | None:
    return lattice.crs.epsg if lattice.crs else None


def _code(scene: pystac.Item) -> str:
    return str(scene.properties["proj:code"])


def _read_scene(
    scene: pystac.Item, lattice: GeoBox, offset: tuple[float, float], polarisations: Sequence[str], resampling: str
) -> Image:
    names = [name for name in polarisations if name in scene.assets]
    if not names:
        msg = f"{scene.id} has none of {', '.join(polarisations)}"
        raise SourceError(msg)
    coding, scene = scene.properties.get("cubekit:mask_coding"), signed(scene)
    nodata = scene.properties.get("cubekit:nodata", ())
    zero_border = bool(scene.properties.get("cubekit:zero_border", False))
    undeclared = bool(nodata) or zero_border or coding == "hyp3"  # in the file, as far as is known
    exact = offset == (0.0, 0.0) or (undeclared and not all(_declares_nodata(scene, name) for name in names))
    # What isn't declared as nodata would be mixed into the shore; what is averaged is not to be blurred before.
    count = _averaged(scene, lattice)
    method = "nearest" if exact or count > 1 else resampling
    fine = lattice if count == 1 else finer(lattice, lattice.resolution.x / count)
    read = _stack(scene, names, fine, method, np.dtype("float32"), np.float32("nan"))
    if nodata or zero_border:
        read = mask_nodata(read, nodata, zero_border=zero_border)
    read = block_means(read, count)
    bands = np.full((len(polarisations), *lattice.shape), np.nan, dtype="float32")
    for name, band in zip(names, read, strict=True):
        bands[polarisations.index(name)] = band
    if coding == "hyp3":
        bands[bands == 0] = np.nan  # HyP3's nodata, also where a crop lost the declaration
    valid = np.isfinite(bands).any(axis=0)
    if "mask" in scene.assets:
        fill = np.uint8(0 if coding == "hyp3" else NO_DATA)
        codes = _stack(scene, ["mask"], lattice, "nearest", np.dtype("uint8"), fill)[0]
        mask = _decode_hyp3(codes) if coding == "hyp3" else _decode_opera(codes, scene.id)
    else:
        mask = np.full(lattice.shape, NO_MAP, dtype="uint8")
    # Not covered, or the map says clear where there is no data: no data. Shadow without data stays shadow.
    mask = np.where(~valid & np.isin(mask, (CLEAR, NO_MAP)), NO_DATA, mask)
    return Image(bands=bands, mask=mask.astype("uint8"), offset=offset)


def _declares_nodata(scene: pystac.Item, asset: str) -> bool:
    import rasterio
    from rasterio.errors import RasterioError

    try:
        with rasterio.open(scene.assets[asset].href) as dataset:
            return dataset.nodata is not None
    except (RasterioError, OSError) as error:
        msg = f"{scene.id} can't be read: {without_queries(str(error).splitlines()[0])}"
        raise SourceError(msg) from None


def _decode_hyp3(codes: Array) -> Array:
    layover, shadow = (codes & _HYP3_LAYOVER) > 0, (codes & _HYP3_SHADOW) > 0
    decoded = SHADOW * shadow + LAYOVER * layover
    return np.where(codes == 0, NO_DATA, decoded).astype("uint8")


def _decode_opera(codes: Array, name: str) -> Array:
    unknown = set(np.unique(codes).tolist()) - {CLEAR, SHADOW, LAYOVER, BOTH, NO_DATA}
    if unknown:
        msg = f"the mask of {name} holds {sorted(unknown)}; OPERA's codes are 0, 1, 2, 3 and 255"
        raise SourceError(msg)
    return codes


def _stack(
    scene: pystac.Item, assets: Sequence[str], lattice: GeoBox, resampling: str, dtype: np.dtype[Any], fill: Any
) -> Array:
    """Read assets of one scene onto the lattice, copied where its pixels are the lattice's: the only call of stackstac.

    It takes several times as long as the reading itself, which only resampling is worth. It needs to be told
    everything: it reads only proj:epsg, takes the extent from the bounding box in degrees unless it is given, places
    pixels by their corners, and gives float64 filled with 0.
    """
    import stackstac
    from dask.base import compute
    from rasterio.enums import Resampling
    from rasterio.errors import RasterioError

    try:
        if (values := copied(scene, assets, lattice, dtype, fill)) is not None:
            return values
    except (RasterioError, OSError) as error:
        msg = f"{scene.id} can't be read: {without_queries(str(error).splitlines()[0])}"
        raise unreadable(msg) from None if "?" in str(error) else error
    # As a dict, with proj:epsg: stackstac reads nothing else, and pystac rewrites it.
    item = scene.to_dict(include_self_link=False, transform_hrefs=False)
    item["properties"]["proj:epsg"] = int(_code(scene).removeprefix("EPSG:"))
    stacked = stackstac.stack(
        [item],
        assets=list(assets),
        epsg=_epsg(lattice),
        resolution=float(lattice.resolution.x),
        bounds=tuple(lattice.boundingbox.bbox),
        snap_bounds=False,
        resampling=Resampling[resampling],
        dtype=dtype,
        fill_value=fill,
        rescale=False,
        xy_coords="center",
        properties=False,
        band_coords=False,
        errors_as_nodata=(),
    )
    if not stacked.shape[0]:  # it leaves out what lies beside the lattice
        return np.full((len(assets), *lattice.shape), fill, dtype)
    try:
        # A pass is one task already, on a thread or on a worker: its few blocks are read here, one by one. Not by
        # dask.config.set, which all threads share: when two of them leave it, it may stay set.
        (values,) = compute(stacked.data[0], scheduler="synchronous")
        return np.asarray(values)
    except (RasterioError, RuntimeError, OSError) as error:
        msg = f"{scene.id} can't be read: {without_queries(str(error).splitlines()[0])}"
        raise unreadable(msg) from None if "?" in str(error) else error
