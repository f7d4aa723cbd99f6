"""What the names of HyP3 RTC products and OPERA RTC-S1 granules say, field by field."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime

HYP3_FILTER = "hyp3 enhanced lee 7x7"
"""What HyP3's own speckle filter is called in cubes and fingerprints."""

FOREIGN = "its name is neither that of a HyP3 RTC product nor of an OPERA RTC-S1 granule"

_HYP3 = re.compile(
    r"(?P<product>S1(?P<unit>[A-D])_IW_(?P<start>\d{8}T\d{6})_(?P<polarisations>[DS][VH])(?P<orbit>[PRO])"
    r"_RTC(?P<spacing>\d\d)_G_(?P<radiometry>[gs])(?P<scale>[pda])u(?P<filtered>[nf])e(?P<matched>[dm])_[0-9A-F]{4})"
    r"_(?P<layer>VV|VH|HH|HV|ls_map|inc_map|dem|area|rgb)(?P<rest>(?:[._].*)?)\.tiff?",
)
_OPERA = re.compile(
    r"(?P<product>OPERA_L2_RTC-S1_(?P<burst>T(?P<track>\d{3})-\d{6}-IW[123])_(?P<start>\d{8}T\d{6})Z"
    r"_(?P<processed>\d{8}T\d{6})Z_S1(?P<unit>[A-D])_(?P<spacing>\d\d)_(?P<version>v\d+\.\d+))"
    r"_(?P<layer>VV|VH|HH|HV|mask)(?P<rest>(?:[._].*)?)\.tiff?",
)
_LAYERS = {"VV": "vv", "VH": "vh", "ls_map": "mask", "mask": "mask"}


@dataclass(frozen=True)
class ProductFile:
    """One GeoTIFF of a product, as its name tells.

    Parameters
    ----------
    product
        Name of the product or granule, without the layer.
    family
        ``hyp3`` or ``opera``.
    layer
        ``vv``, ``vh`` or ``mask``.
    platform
        ``sentinel-1a`` to ``sentinel-1d``.
    start
        Start of the scene (HyP3) or of the burst (OPERA), UTC.
    spacing
        Pixel spacing, metres.
    scene
        What stays the same within an orbit when the scene is processed again, the crop it was cut to included: the
        burst (its start may move by a second), or the start of HyP3's scene.
    speckle_filter
        ``none``, or what the archive filtered with.
    track
        Relative orbit, when the name carries it.
    processed
        Processing time, UTC, when the name carries it.
    """

    product: str
    family: str
    layer: str
    platform: str
    start: datetime
    spacing: int
    scene: str
    speckle_filter: str = "none"
    track: int | None = None
    processed: datetime | None = None


def parse(name: str) -> ProductFile | str | None:
    """Read a file name.

    Parameters
    ----------
    name
        The file's name, without folders. Text may follow the layer, as when a product was cropped.

    Returns
    -------
    ProductFile, str or None
        What the name says, or the reason why the file is of no use here; None for a layer that is sound and not needed
        (incidence angles, DEM, static layers).

    Examples
    --------
    >>> parse("S1A_IW_20180128T161201_DVP_RTC30_G_gpuned_FD6A_VV.tif").product
    'S1A_IW_20180128T161201_DVP_RTC30_G_gpuned_FD6A'
    >>> parse("dem.tif")
    'its name is neither that of a HyP3 RTC product nor of an OPERA RTC-S1 granule'
    """
    if found := _HYP3.fullmatch(name):
        return _hyp3(found)
    if found := _OPERA.fullmatch(name):
        return _opera(found)
    if name.startswith("OPERA_L2_RTC-S1-STATIC_"):
        return None
    return FOREIGN


def _hyp3(found: re.Match[str]) -> ProductFile | str | None:
    if found["layer"] not in _LAYERS:
        return None
    if found["radiometry"] != "g":
        return "sigma0; cubes hold gamma0: order radiometry=gamma0"
    if found["scale"] != "p":
        return f"{'decibel' if found['scale'] == 'd' else 'amplitude'}; cubes hold linear power: order scale=power"
    if found["matched"] == "m":
        return "matched to the DEM, which shifts every date differently: order dem_matching=False"
    start = _utc(found["start"])
    if start is None:
        return f"{found['start']} is not a time"
    crop = re.sub(r"\.tiff?|\.geojson", "", found["rest"])
    return ProductFile(
        product=found["product"],
        family="hyp3",
        layer=_LAYERS[found["layer"]],
        platform=f"sentinel-1{found['unit'].lower()}",
        start=start,
        spacing=int(found["spacing"]),
        scene=f"{found['start']}_{found['polarisations']}{crop}",
        speckle_filter=HYP3_FILTER if found["filtered"] == "f" else "none",
    )


def _opera(found: re.Match[str]) -> ProductFile | str | None:
    if found["layer"] not in _LAYERS:
        return None
    start, processed = _utc(found["start"]), _utc(found["processed"])
    if start is None or processed is None:
        return f"{found['start']} or {found['processed']} is not a time"
    return ProductFile(
        product=found["product"],
        family="opera",
        layer=_LAYERS[found["layer"]],
        platform=f"sentinel-1{found['unit'].lower()}",
        start=start,
        spacing=int(found["spacing"]),
        scene=f"{found['burst']}{found['rest']}",
        track=int(found["track"]),
        processed=processed,
    )


def _utc(text: str) -> datetime | None:
    try:
        return datetime.strptime(text, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
