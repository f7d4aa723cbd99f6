"""Source `folder:PATH`: GeoTIFFs on disk, named as HyP3 RTC products or OPERA RTC-S1 granules."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pystac
from pyproj import Transformer
from shapely.geometry import box

from cubekit.errors import NothingFound, SceneWarning, SourceError
from cubekit.lakes import Lake
from cubekit.sources import Period
from cubekit.sources._headers import Header, read_header
from cubekit.sources._items import UNKNOWN_PROCESSING, grid, item, near, nothing_found, of_period, orbit_of
from cubekit.sources.names import FOREIGN, ProductFile, parse

SIMULATOR = "cubekit-simulator"
"""How the tag SOFTWARE_VERSION of simulated granules begins. They never share a cube with real ones."""

PROJECTION = "https://stac-extensions.github.io/projection/v2.0.0/schema.json"

_FOREIGN = 5


@dataclass
class _Found:
    """What a folder holds: layers by product and crop, and the rest."""

    products: dict[tuple[str, str], dict[str, tuple[Path, ProductFile, Header]]] = field(default_factory=dict)
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
        When the folder does not exist.
    NothingFound
        When it holds no usable scene of this lake in this period.

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
        named = {str(file.relative_to(folder)): reason for file, reason in found.left_out.items()}
        warnings.warn(SceneWarning(_listing(folder, found.left_out), named), stacklevel=4)
    items = of_period(items, period)
    if not items:
        why = (
            f"below {folder}: of {len(files)} GeoTIFFs {found.outside} lie outside this period, {found.elsewhere} "
            f"elsewhere, {len(found.left_out)} can't be used; give another folder or period"
        )
        raise NothingFound(nothing_found(lake.id, period, why))
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
        if not near(parsed.start, period):
            found.outside += 1
            continue
        header = read_header(file)
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


def _footprint(header: Header, epsg: int) -> Any:
    corners = box(*header.bounds)
    if header.epsg == epsg:
        return corners
    return box(*Transformer.from_crs(header.epsg, epsg, always_xy=True).transform_bounds(*header.bounds))


def _item(layers: Mapping[str, tuple[Path, ProductFile, Header]]) -> pystac.Item | str:
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
    orbit = orbit_of(product, header.tags)
    if isinstance(orbit, str):
        return orbit
    simulated = header.tags.get("SOFTWARE_VERSION", "").startswith(SIMULATOR)
    made = item(
        product,
        orbit,
        _footprint(header, 4326),
        {layer: str(file.resolve()) for layer, (file, _, _) in layers.items()},
        processed=product.processed or _tiff_datetime(header.tags) or UNKNOWN_PROCESSING,
        source="simulated" if simulated else None,
    )
    made.properties.update(grid(header.epsg, header.shape, header.transform))
    made.stac_extensions.append(PROJECTION)
    if "CUBEKIT_LOOKS" in header.tags:
        made.properties["cubekit:looks"] = float(header.tags["CUBEKIT_LOOKS"])
    return made


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
