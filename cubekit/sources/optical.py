"""Optical archives: what their items call bands and tracks, and what of an item later steps must know."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Properties = Mapping[str, Any]

OFFSET_BASELINE = 4.0
"""Processing baseline from which Sentinel-2 L2A holds 1000 more than reflectance x 10000 (04.00, January 2022)."""

BOA_ADD_OFFSET = -1000.0
"""What is to be added to Sentinel-2 L2A digital numbers from `OFFSET_BASELINE` on."""

_S2_ID = re.compile(r"S2[A-D]_MSIL2A_\d{8}T\d{6}_(?:N(?P<baseline>\d{4})_)?R(?P<track>\d{3})_T(?P<tile>\w{5})_")
_LANDSAT_ID = re.compile(r"L[A-Z](?P<unit>\d{2})_L2S[PR]_(?P<path>\d{3})(?P<row>\d{3})_\d{8}_(?P<processed>\d{8})_")


@dataclass(frozen=True)
class Product:
    """An optical product, as STAC items of any archive describe it.

    Parameters
    ----------
    sensor
        Its id among the sensors of `cubekit.preprocess.sensors`.
    platforms
        What its platforms' names start with.
    track
        How a track is named, `str.format` of the number: ``S2-R019``.
    bands
        Names that a band goes by in archives (lower case, the first found is taken), by the band's own name.
    quality
        Names that the layer of quality codes goes by.
    quality_fill
        Code of that layer where there is no data.
    band_spacing
        Pixels of the bands, metres.
    spacing
        Spacing of the lattice they are best brought to, metres.
    describe
        From an item's id and properties to ``track`` (the number), ``tile``, and optionally ``offset`` (to be added to
        digital numbers) and ``processed`` (YYYYMMDD); or the reason why the item is of no use.
    """

    sensor: str
    platforms: tuple[str, ...]
    track: str
    bands: Mapping[str, tuple[str, ...]]
    quality: tuple[str, ...]
    quality_fill: int
    band_spacing: int
    spacing: int
    describe: Callable[[str, Properties], dict[str, Any] | str]


def sentinel2_offset(baseline: str, *, applied: bool = False) -> float:
    """What is to be added to the digital numbers of Sentinel-2 L2A.

    Parameters
    ----------
    baseline
        Processing baseline, ``04.00`` or ``0400``. It decides, not the date: old scenes are processed again.
    applied
        Whether the archive has applied it to its files already (Earth Search says so in an item's
        ``earthsearch:boa_offset_applied``).

    Returns
    -------
    float
        -1000 or 0.

    Raises
    ------
    ValueError
        When the baseline is not a number.

    Notes
    -----
    Source: ESA's product specification of baseline 04.00; `BOA_ADD_OFFSET` is the same for all bands.

    Examples
    --------
    >>> sentinel2_offset("05.10"), sentinel2_offset("0301"), sentinel2_offset("04.00", applied=True)
    (-1000.0, 0.0, 0.0)
    """
    number = float(baseline) if "." in baseline else float(baseline) / 100
    return BOA_ADD_OFFSET if number >= OFFSET_BASELINE and not applied else 0.0


def of_platform(platform: str) -> Product | None:
    """The product of a platform, as ``sentinel-2a`` or ``LANDSAT_8`` name it; None when it isn't an optical one here.

    Examples
    --------
    >>> of_platform("LANDSAT_8").sensor
    'landsat-c2-l2'
    """
    name = platform_name(platform)
    return next((product for product in PRODUCTS if name.startswith(product.platforms)), None)


def platform_name(platform: str) -> str:
    """A platform's name as STAC writes it: lower case, parts joined by hyphens.

    Examples
    --------
    >>> platform_name("LANDSAT_8"), platform_name("Sentinel-2A")
    ('landsat-8', 'sentinel-2a')
    """
    return re.sub(r"[\s_-]+", "-", platform.strip().lower())


def _sentinel2(identifier: str, properties: Properties) -> dict[str, Any] | str:
    names = (identifier, str(properties.get("s2:product_uri", "")))
    found = next((match for name in names if (match := _S2_ID.match(name))), None)
    baseline = properties.get("s2:processing_baseline") or properties.get("processing:version")
    baseline = baseline or (found["baseline"] if found else None)
    if baseline is None:
        return "it tells no processing baseline (s2:processing_baseline), on which the offset of its values depends"
    try:
        offset = sentinel2_offset(str(baseline), applied=properties.get("earthsearch:boa_offset_applied") is True)
    except ValueError:
        return f"its processing baseline is {baseline!r}, not a number"
    track = properties.get("sat:relative_orbit") or (found["track"] if found else None)
    tile = properties.get("grid:code") or properties.get("s2:mgrs_tile") or (found["tile"] if found else None)
    if track is None:
        return "it tells no relative orbit (sat:relative_orbit)"
    return {"track": int(track), "tile": str(tile or identifier).removeprefix("MGRS-"), "offset": offset}


def _landsat(identifier: str, properties: Properties) -> dict[str, Any] | str:
    found = _LANDSAT_ID.match(identifier)
    path = properties.get("landsat:wrs_path") or (found["path"] if found else None)
    row = properties.get("landsat:wrs_row") or (found["row"] if found else None)
    if path is None:
        return "it tells no WRS path (landsat:wrs_path)"
    if not str(properties.get("landsat:correction", "L2SP")).startswith("L2"):
        return f"it is {properties['landsat:correction']}, not a Level-2 product"
    collection = str(properties.get("landsat:collection_number", "02"))
    if int(collection) != 2:
        return f"it is of Collection {collection}, whose scale is another one than Collection 2's"
    described: dict[str, Any] = {"track": int(path), "tile": f"{int(path):03d}{int(row or 0):03d}"}
    return described | ({"processed": found["processed"]} if found else {})


PRODUCTS = (
    Product(
        sensor="sentinel-2-l2a",
        platforms=("sentinel-2",),
        track="S2-R{:03d}",
        bands={"green": ("green", "b03", "b03-10m", "b03_10m"), "nir": ("nir", "b08", "b08-10m", "b08_10m")},
        quality=("scl", "scl-20m", "scl_20m"),
        quality_fill=0,
        band_spacing=10,
        spacing=20,
        describe=_sentinel2,
    ),
    Product(
        sensor="landsat-c2-l2",
        platforms=("landsat-",),
        track="LS-P{:03d}",
        bands={"green": ("green",), "nir": ("nir08", "nir")},
        quality=("qa_pixel",),
        quality_fill=1,
        band_spacing=30,
        spacing=30,
        describe=_landsat,
    ),
)
"""Optical products that `stac:` sources understand."""
