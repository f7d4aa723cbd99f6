"""Source `folder:PATH`: GeoTIFFs on disk, named as HyP3 RTC products or OPERA RTC-S1 granules."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pystac
from pyproj import Transformer
from shapely.geometry import box, mapping

from cubekit.errors import SceneWarning, SourceError
from cubekit.lakes import Lake
from cubekit.passes import ORBIT_SECONDS, REPEAT_ORBITS, absolute_orbit, ascending_node, relative_orbit
from cubekit.sources import Period
from cubekit.sources.names import FOREIGN, ProductFile, parse

if TYPE_CHECKING:
    from rasterio.io import DatasetReader

UNKNOWN_PROCESSING = datetime(1970, 1, 1, tzinfo=UTC)
"""Stands for a processing time that a product does not tell: older than any other."""

SIMULATOR = "cubekit-simulator"
"""How the tag SOFTWARE_VERSION of simulated granules begins. They never share a cube with real ones."""

LONGEST_PASS = timedelta(minutes=30)
"""A pass over a lake is shorter than this, whatever the number of scenes."""

_FOREIGN = 5


@dataclass(frozen=True)
class _Header:
    """What the header of one file tells."""

    epsg: int
    shape: tuple[int, int]
    transform: tuple[float, ...]
    bounds: tuple[float, float, float, float]
    tags: Mapping[str, str]


@dataclass
class _Found:
    """What a folder holds: layers by product and crop, and the rest."""

    products: dict[tuple[str, str], dict[str, tuple[Path, ProductFile, _Header]]] = field(default_factory=dict)
    left_out: dict[Path, str] = field(default_factory=dict)
    outside: int = 0
    elsewhere: int = 0
    unmasked: dict[tuple[str, str], str] = field(default_factory=dict)


def find(lake: Lake, period: Period, path: str | Path) -> pystac.ItemCollection:
    """Find the scenes of a lake among the GeoTIFFs below a folder.

    Parameters
    ----------
    lake
        The lake; products that do not touch its AOI are other lakes' and left out without a word.
    period
        First and last day, both inclusive, UTC; None leaves a side open. A pass belongs to the day it starts on.
    path
        The folder; folders below it are searched too.

    Returns
    -------
    pystac.ItemCollection
        One item a product (and crop), by time, with the properties of design.md's "scene" and ``cubekit:scene``
        (the same for two processings of a scene), ``cubekit:source``, ``cubekit:spacing``, ``cubekit:speckle_filter``,
        ``cubekit:mask_coding`` and, when known, ``cubekit:looks``.

    Raises
    ------
    SourceError
        When the folder does not exist, or holds no usable scene of this lake in this period.

    Warns
    -----
    SceneWarning
        Once, with the files that can't be used and why: unreadable, truncated, empty, foreign, contradictory.

    Notes
    -----
    Reads names and headers only. Where the metadata lacks it, the absolute orbit is derived from the time
    (`cubekit.passes.absolute_orbit`). HyP3's processing time is that of ``TIFFTAG_DATETIME``, OPERA's is in the name.
    """
    folder = Path(path)
    if not folder.is_dir():
        msg = f"folder {folder} does not exist; give the folder that holds the GeoTIFFs"
        raise SourceError(msg)
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in {".tif", ".tiff"})
    found = _sort(files, lake, period)
    items: list[pystac.Item] = []
    for key, layers in found.products.items():
        made = found.unmasked.get(key) or _item(layers)
        if isinstance(made, str):
            found.left_out.update(dict.fromkeys((file for file, _, _ in layers.values()), made))
        else:
            items.append(made)
    if found.left_out:
        warnings.warn(_listing(folder, found.left_out), SceneWarning, stacklevel=3)
    items = _of_period(items, period)
    if not items:
        first, last = period
        msg = (
            f"no scene of {lake.id} between {first or 'the beginning'} and {last or 'today'} below {folder}: of "
            f"{len(files)} GeoTIFFs {found.outside} lie outside this period, {found.elsewhere} elsewhere, "
            f"{len(found.left_out)} can't be used; give another folder or period"
        )
        raise SourceError(msg)
    items.sort(key=lambda item: (item.datetime or UNKNOWN_PROCESSING, item.id))
    return pystac.ItemCollection(items)


def _sort(files: Iterable[Path], lake: Lake, period: Period) -> _Found:
    """Sort files into products of this lake and period, and those of no use."""
    found = _Found()
    area = box(*lake.project(lake.aoi).bounds)
    for file in files:
        parsed = parse(file.name)
        if parsed is None:
            continue
        if isinstance(parsed, str):
            found.left_out[file] = parsed
            continue
        if not _near(parsed.start, period):
            found.outside += 1
            continue
        header = _read_header(file)
        if isinstance(header, str):
            found.left_out[file] = header
            if parsed.layer == "mask":  # without it layover would pass for observed
                found.unmasked[parsed.product, parsed.scene] = f"its mask {file.name} can't be read"
        elif not _footprint(header, lake.epsg).intersects(area):
            found.elsewhere += 1
        else:
            layers = found.products.setdefault((parsed.product, parsed.scene), {})
            if parsed.layer in layers:
                found.left_out[file] = f"the same layer of the same product as {layers[parsed.layer][0]}"
            else:
                layers[parsed.layer] = (file, parsed, header)
    return found


def _near(time: datetime, period: Period) -> bool:
    first, last = period
    return (first is None or (time + LONGEST_PASS).date() >= first) and (
        last is None or (time - LONGEST_PASS).date() <= last
    )


def _of_period(items: Iterable[pystac.Item], period: Period) -> list[pystac.Item]:
    """Items of the passes that start in a period: a pass may cross midnight, and is not cut there."""
    passes: dict[tuple[str, int], list[pystac.Item]] = {}
    for item in items:
        key = (str(item.properties["platform"]), int(item.properties["sat:absolute_orbit"]))
        passes.setdefault(key, []).append(item)
    first, last = period
    kept = []
    for scenes in passes.values():
        day = min(scene.datetime for scene in scenes if scene.datetime).date()
        if (first is None or day >= first) and (last is None or day <= last):
            kept += scenes
    return kept


def _read_header(file: Path) -> _Header | str:
    """The header of a GeoTIFF, or the reason why the file is of no use."""
    import rasterio
    from rasterio.errors import RasterioError

    size = file.stat().st_size
    if size == 0:
        return "empty (0 bytes)"
    try:
        with rasterio.open(file) as dataset:
            if dataset.driver != "GTiff":
                return f"not a GeoTIFF but {dataset.driver}"
            if dataset.crs is None or dataset.crs.to_epsg() is None:
                return "it has no known coordinate reference system"
            if not dataset.transform.is_rectilinear or dataset.transform.a != -dataset.transform.e:
                return "its pixels are not square and north up"
            if _truncated(dataset, size):
                return "truncated: its last blocks are missing"
            return _Header(
                epsg=dataset.crs.to_epsg(),
                shape=dataset.shape,
                transform=tuple(dataset.transform)[:6],
                bounds=tuple(dataset.bounds),
                tags={**dataset.tags(), "dtype": dataset.dtypes[0]},
            )
    except (RasterioError, OSError) as error:
        return f"unreadable: {str(error).splitlines()[0].replace(str(file), file.name)}"


def _truncated(dataset: DatasetReader, size: int) -> bool:
    """Whether a block of the first band ends beyond the end of the file: a look at the index, not at the data."""
    height, width = dataset.block_shapes[0]
    for row in range(-(-dataset.height // height)):
        for column in range(-(-dataset.width // width)):
            offset = dataset.get_tag_item(f"BLOCK_OFFSET_{column}_{row}", "TIFF", bidx=1)
            length = dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1)
            if offset is not None and length is not None and int(offset) + int(length) > size:
                return True
    return False


def _footprint(header: _Header, epsg: int) -> Any:
    corners = box(*header.bounds)
    if header.epsg == epsg:
        return corners
    return box(*Transformer.from_crs(header.epsg, epsg, always_xy=True).transform_bounds(*header.bounds))


def _item(layers: Mapping[str, tuple[Path, ProductFile, _Header]]) -> pystac.Item | str:
    """One product as a STAC item, or the reason why it is of no use."""
    bands = [name for name in ("vv", "vh") if name in layers]
    if not bands:
        return "a layover map without its VV or VH file"
    _, product, header = layers[bands[0]]
    if any(
        (other.epsg, other.shape, other.transform) != (header.epsg, header.shape, header.transform)
        for _, _, other in layers.values()
    ):
        return "the files of this product lie on different grids"
    if header.transform[0] != product.spacing:
        return f"its pixels are {header.transform[0]:g} m, its name says {product.spacing} m"
    if any(not np.issubdtype(layers[band][2].tags["dtype"], np.floating) for band in bands):
        return f"its values are {header.tags['dtype']}, not floating-point power"
    geometry = _orbit(product, header.tags)
    if isinstance(geometry, str):
        return geometry
    processed = product.processed or _tiff_datetime(header.tags) or UNKNOWN_PROCESSING
    simulated = header.tags.get("SOFTWARE_VERSION", "").startswith(SIMULATOR)
    outline = _footprint(header, 4326)
    item = pystac.Item(
        id=product.product,
        geometry=mapping(outline),
        bbox=list(outline.bounds),
        datetime=product.start,
        properties={
            "platform": product.platform,
            **geometry,
            "processing:datetime": processed.isoformat(),
            "proj:code": f"EPSG:{header.epsg}",
            "proj:shape": list(header.shape),
            "proj:transform": list(header.transform),
            "cubekit:scene": f"{product.platform}_{geometry['sat:absolute_orbit']}_{product.scene}",
            "cubekit:source": "simulated" if simulated else product.family,
            "cubekit:spacing": product.spacing,
            "cubekit:speckle_filter": product.speckle_filter,
            "cubekit:mask_coding": product.family,
        },
        stac_extensions=["https://stac-extensions.github.io/projection/v2.0.0/schema.json"],
    )
    if "CUBEKIT_LOOKS" in header.tags:
        item.properties["cubekit:looks"] = float(header.tags["CUBEKIT_LOOKS"])
    for layer, (file, _, _) in sorted(layers.items()):
        roles = ["data-mask"] if layer == "mask" else ["data"]
        item.add_asset(layer, pystac.Asset(str(file.resolve()), media_type=pystac.MediaType.GEOTIFF, roles=roles))
    return item


def _orbit(product: ProductFile, tags: Mapping[str, str]) -> dict[str, int | str] | str:
    """Orbit numbers and direction: from the metadata where it has them, else from the time."""
    try:
        orbit = int(tags.get("ABSOLUTE_ORBIT_NUMBER") or absolute_orbit(product.platform, product.start))
    except SourceError as error:
        return str(error)
    except ValueError:
        return f"its tag ABSOLUTE_ORBIT_NUMBER is {tags['ABSOLUTE_ORBIT_NUMBER']!r}, not a number"
    computed = relative_orbit(product.platform, orbit)
    track = product.track or computed
    # The count changes at the equator, where the time is right to a second only: there the name wins.
    off = (track - computed + REPEAT_ORBITS // 2) % REPEAT_ORBITS - REPEAT_ORBITS // 2
    if abs(off) > 1 or (off and "ABSOLUTE_ORBIT_NUMBER" in tags):
        return f"its name says relative orbit {track}, its absolute orbit {orbit} is on {computed}"
    orbit += off
    since_node = (product.start - ascending_node(product.platform, orbit)).total_seconds() / ORBIT_SECONDS
    computed_direction = "descending" if 0.25 <= since_node % 1 < 0.75 else "ascending"
    direction = tags.get("ORBIT_PASS_DIRECTION", computed_direction).lower()
    if direction not in {"ascending", "descending"}:
        return f"its tag ORBIT_PASS_DIRECTION is {direction!r}, neither ascending nor descending"
    return {"sat:absolute_orbit": orbit, "sat:relative_orbit": track, "sat:orbit_state": direction}


def _tiff_datetime(tags: Mapping[str, str]) -> datetime | None:
    try:
        return datetime.strptime(tags.get("TIFFTAG_DATETIME", ""), "%Y:%m:%d %H:%M:%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _listing(folder: Path, left_out: Mapping[Path, str]) -> str:
    """Every file with its reason; of the foreign ones, which may be thousands, a few."""
    foreign = [file for file, reason in sorted(left_out.items()) if reason == FOREIGN]
    shown = sorted(set(left_out) - set(foreign)) + foreign[:_FOREIGN]
    lines = [f"  {file.relative_to(folder)}: {left_out[file]}" for file in shown]
    if len(foreign) > _FOREIGN:
        lines.append(f"  and {len(foreign) - _FOREIGN} more of whom the same is true")
    return f"{len(left_out)} files below {folder} are left out:\n" + "\n".join(lines)
