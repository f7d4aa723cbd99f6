"""Optical scenes on a lake's lattice: read lazily where they are, one time step a pass."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pystac
import xarray as xr
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from cubekit.cube._rasters import persistently
from cubekit.cube._values import block_means, finer
from cubekit.cube.access import TrackIndex
from cubekit.cube.read import _stack
from cubekit.errors import ConfigError, GridMismatch, NoObservations
from cubekit.lakes import Lake
from cubekit.sources._items import LONGEST_PASS, UNKNOWN_PROCESSING
from cubekit.sources.optical import PRODUCTS, Product
from cubekit.sources.stac import signed

_ATTRS: dict[str, dict[str, Any]] = {
    "time": {"standard_name": "time", "long_name": "start of the pass over the lake"},
    "track": {"long_name": "track across sensors"},
    "platform": {"long_name": "platform"},
    "offset": {"long_name": "to be added to digital numbers", "units": "1"},
    "granules": {"long_name": "names of the products of this pass, a JSON list"},
    "processed": {"long_name": "newest processing time among the products"},
}

Layers = tuple[NDArray[np.float32], NDArray[np.uint16]]


def open_scenes(lake: Lake, items: Iterable[pystac.Item]) -> xr.Dataset:
    """Optical scenes of a lake, on its lattice, as they are: digital numbers and codes of quality.

    Parameters
    ----------
    lake
        The lake; its spacing must be a multiple of the sensor's: 20 or 30 m for Sentinel-2, 30 m for Landsat.
    items
        Scenes of one sensor, as `find_scenes` returns them for ``stac:URL#COLLECTION``.

    Returns
    -------
    xarray.Dataset
        Lazy, one dask chunk (1, 256, 256) a pass, by time.

        ``green``, ``nir``
            float32 (time, y, x), digital numbers, NaN where there is no data. Pixels finer than the lattice's are
            averaged.
        ``quality``
            uint16 (time, y, x), the sensor's own codes (SCL, QA_PIXEL), nearest pixel.

        Along time: ``time`` (start of the first scene, UTC), ``track`` (``S2-R019``), ``platform`` (``sentinel-2a``),
        ``offset`` (what is to be added to digital numbers), ``granules`` (JSON list), ``processed``. The attribute
        ``sensor`` names the sensor, for `cubekit.preprocess.sensors.restore`.

    Raises
    ------
    ConfigError
        When the items are not optical scenes, or of several sensors.
    GridMismatch
        When the sensor's pixels do not divide the lattice's.
    NoObservations
        When there are no items.
    SourceError
        On computing, when a raster can't be read.

    Notes
    -----
    A pass is all tiles of one platform and track within half an hour; of one scene processed twice the newest stays.
    Where tiles overlap, the first that has data is taken. Scenes in another UTM zone than the lattice's are resampled,
    nearest. Landsat's pixels lie half a pixel off every 30 m lattice, so its water does, too: by up to 15 m.
    """
    import dask.array
    from dask.delayed import delayed

    items = list(items)
    product = _product(items, lake)
    passes = _passes(items)
    read = delayed(_read_pass, pure=False)
    shape = tuple(lake.lattice.shape)
    layers: dict[str, list[Any]] = {name: [] for name in (*product.bands, "quality")}
    for scenes in passes:
        layers_of_pass = read(scenes, lake.lattice, product.sensor)
        numbers = dask.array.from_delayed(layers_of_pass[0], (len(product.bands), *shape), np.float32)
        for index, name in enumerate(product.bands):
            layers[name].append(numbers[index])
        layers["quality"].append(dask.array.from_delayed(layers_of_pass[1], shape, np.uint16))
    grid = lake.lattice.coordinates
    made = xr.Dataset(
        {name: (("time", "y", "x"), dask.array.stack(each)) for name, each in layers.items()},
        coords={**_along_time(passes), "y": grid["y"].values, "x": grid["x"].values},
        attrs={
            "sensor": product.sensor,
            "source": str(items[0].properties["cubekit:source"]),
            "lake": lake.id,
            "epsg": lake.epsg,
            "spacing": lake.spacing,
        },
    )
    for name in product.bands:
        made[name].attrs = {"long_name": f"digital numbers, {name}", "units": "1"}
    made["quality"].attrs = {"long_name": "codes of quality"}
    return made.set_xindex("track", TrackIndex)


def _product(items: Sequence[pystac.Item], lake: Lake) -> Product:
    """The product that all items are of."""
    if not items:
        msg = f"no scenes were given for {lake.id}"
        raise NoObservations(msg)
    sensors = {str(item.properties.get("cubekit:sensor", "radar")) for item in items}
    product = next((one for one in PRODUCTS if {one.sensor} == sensors), None)
    if product is None:
        known = ", ".join(one.sensor for one in PRODUCTS)
        msg = f"the scenes are of {', '.join(sorted(sensors))}; give those of one optical sensor at a time ({known})"
        raise ConfigError(msg)
    if lake.spacing % product.band_spacing:
        msg = (
            f"{product.sensor} has pixels of {product.band_spacing} m, which do not divide the {lake.spacing} m of the "
            f"lattice of {lake.id}; use lake.at_spacing({product.spacing})"
        )
        raise GridMismatch(msg)
    return product


def _passes(items: Sequence[pystac.Item]) -> list[list[pystac.Item]]:
    """Scenes of one platform and track within half an hour, newest processing of each, by time."""
    newest: dict[str, pystac.Item] = {}
    for item in items:
        known = newest.get(str(item.properties["cubekit:scene"]))
        if known is None or _rank(item) > _rank(known):
            newest[str(item.properties["cubekit:scene"])] = item
    passes: list[list[pystac.Item]] = []
    latest: dict[tuple[str, str], list[pystac.Item]] = {}
    for item in sorted(newest.values(), key=lambda one: (_time(one), one.id)):
        key = (str(item.properties["platform"]), str(item.properties["cubekit:track"]))
        if key in latest and _time(item) - _time(latest[key][0]) < LONGEST_PASS:
            latest[key].append(item)
        else:
            latest[key] = [item]
            passes.append(latest[key])
    return passes


def _rank(item: pystac.Item) -> tuple[datetime, str]:
    return _processed(item), item.id


def _processed(item: pystac.Item) -> datetime:
    return datetime.fromisoformat(str(item.properties["processing:datetime"]))


def _time(item: pystac.Item) -> datetime:
    return item.datetime or UNKNOWN_PROCESSING


def _along_time(passes: Sequence[Sequence[pystac.Item]]) -> dict[str, Any]:
    firsts = [scenes[0] for scenes in passes]
    granules = [json.dumps(sorted(scene.id for scene in scenes)) for scenes in passes]
    columns = {
        "time": np.array([_stamp(_time(first)) for first in firsts]),
        "track": np.array([str(first.properties["cubekit:track"]) for first in firsts], object),
        "platform": np.array([str(first.properties["platform"]) for first in firsts], object),
        "offset": np.array([float(first.properties["cubekit:offset"]) for first in firsts], np.float32),
        "granules": np.array(granules, object),
        "processed": np.array([_stamp(max(map(_processed, scenes))) for scenes in passes]),
    }
    return {name: ("time", column, _ATTRS[name]) for name, column in columns.items()}


def _stamp(time: datetime) -> Any:
    return np.datetime64(time.astimezone(UTC).replace(tzinfo=None), "s").astype("datetime64[ns]")


def _read_pass(scenes: Sequence[pystac.Item], lattice: GeoBox, sensor: str) -> Layers:
    """Digital numbers (band, y, x) and codes of quality of a pass; the first scene that has data wins."""
    product = next(one for one in PRODUCTS if one.sensor == sensor)
    numbers = np.full((len(product.bands), *lattice.shape), np.nan, np.float32)
    quality = np.full(lattice.shape, product.quality_fill, np.uint16)
    for scene in scenes:
        read, codes = _read_scene(scene, lattice, product)
        # Tiles of one pass may be of two baselines: all are brought to the offset of the first.
        read += np.float32(scene.properties["cubekit:offset"] - scenes[0].properties["cubekit:offset"])
        take = ~np.isfinite(numbers).all(axis=0) & np.isfinite(read).all(axis=0)
        numbers[:, take], quality[take] = read[:, take], codes[take]
    return numbers, quality


def _read_scene(scene: pystac.Item, lattice: GeoBox, product: Product) -> Layers:
    return persistently([scene], lambda: _read_once(scene, lattice, product))


def _read_once(scene: pystac.Item, lattice: GeoBox, product: Product) -> Layers:
    import rasterio

    from cubekit.sources import _earthdata

    readable = signed(scene).clone()
    code = lattice.crs.epsg if lattice.crs else None
    readable.properties.setdefault("proj:code", f"EPSG:{code}")  # the reader asks; rasters know their own
    count = int(lattice.resolution.x) // product.band_spacing
    fine = lattice if count == 1 else finer(lattice, product.band_spacing)
    fill = np.uint16(product.quality_fill)
    with rasterio.Env(**_earthdata.gdal_options([asset.href for asset in readable.assets.values()])):
        read = _stack(readable, list(product.bands), fine, "nearest", np.dtype("float32"), np.float32("nan"))
        codes = _stack(readable, ["quality"], lattice, "nearest", np.dtype("uint16"), fill)[0]
    return block_means(np.where(read == 0, np.float32("nan"), read), count), codes  # 0 is no data in both products
