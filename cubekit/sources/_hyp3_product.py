"""A product of HyP3: from its zip to a folder of files that were checked, or the reason why it is of no use."""

from __future__ import annotations

import os
import shutil
import stat
import uuid
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from cubekit.errors import SourceError
from cubekit.sources._headers import read_header
from cubekit.sources._orders import Order
from cubekit.sources.names import ProductFile, parse

_ENCRYPTED = 0x1


def unpack(archive: Path, folder: Path) -> Path:
    """Unpack the zip of a product: whole, or not at all.

    Parameters
    ----------
    archive
        ``NAME.zip``, which holds the folder ``NAME`` and nothing else.
    folder
        Where to; the folder that is returned has a name of its own, below it.

    Returns
    -------
    pathlib.Path
        The folder ``NAME``, in a new folder.

    Raises
    ------
    SourceError
        When it is no whole zip, a checksum is wrong, or a file would lie elsewhere than in ``NAME``.
    OSError
        When the disk is full.
    """
    home = folder / f"{archive.stem}.{uuid.uuid4().hex}"
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [member for member in opened.infolist() if not member.is_dir()]
            _check_members(members, archive.stem)
            for member in members:
                target = home / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with opened.open(member) as packed, target.open("xb") as file:
                    shutil.copyfileobj(packed, file, 1 << 20)
                    file.flush()
                    os.fsync(file.fileno())
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, RuntimeError, FileExistsError) as error:
        discard(home)
        msg = f"its zip is damaged ({type(error).__name__}: {str(error).replace(str(folder), '.')})"
        raise SourceError(msg) from None
    except BaseException:
        discard(home)
        raise
    return home / archive.stem


def _check_members(members: Sequence[zipfile.ZipInfo], product: str) -> None:
    """Only plain files in the folder of the product: a zip may name any place on the disk."""
    if not members:
        msg = "its zip is empty"
        raise SourceError(msg)
    for member in members:
        parts = PurePosixPath(member.filename).parts
        kind = stat.S_IFMT(member.external_attr >> 16)
        foreign = len(parts) != 2 or parts[0] != product or parts[1] == ".." or "\\" in member.filename
        if foreign or kind not in {0, stat.S_IFREG} or member.flag_bits & _ENCRYPTED:
            msg = f"its zip holds {member.filename[:100]!r}, which is no plain file in the folder {product}"
            raise SourceError(msg)


def no_room(archive: Path) -> str:
    """Why a zip can't be unpacked beside itself for now; empty when it can."""
    try:
        with zipfile.ZipFile(archive) as opened:
            needed = sum(member.file_size for member in opened.infolist())
    except (zipfile.BadZipFile, OSError):
        return ""  # `unpack` tells
    free = shutil.disk_usage(archive.parent).free
    if needed <= free:
        return ""
    return f"it can't be unpacked: the disk is full: it needs {needed / 1e9:.1f} GB, {free / 1e9:.1f} GB are free"


def check(product: Path, order: Order, resolution: int) -> dict[str, int]:
    """Check a product that was unpacked.

    Parameters
    ----------
    product
        Its folder.
    order
        What it was ordered for.
    resolution
        Pixel spacing that was ordered, metres.

    Returns
    -------
    dict
        Bytes of each file, by name.

    Raises
    ------
    SourceError
        When a GeoTIFF does not open or is cut short, a layer is missing or lies on another grid, or a name tells of
        another scene, spacing or processing than was ordered.
    """
    layers: dict[str, ProductFile] = {}
    grids = set()
    for file in sorted(path for path in product.iterdir() if path.suffix.lower() in {".tif", ".tiff"}):
        parsed = parse(file.name)
        header = read_header(file)
        if isinstance(parsed, str) or isinstance(header, str):
            msg = f"{file.name}: {parsed if isinstance(parsed, str) else header}"
            raise SourceError(msg)
        if parsed is not None:
            layers[parsed.layer] = parsed
            grids.add((header.epsg, header.shape, header.transform))
            _check_name(parsed, product.name, order, resolution)
    wanted = {"vv", "vh", "mask"} if "_1SDV_" in order.granule else {"vv", "mask"}
    if missing := sorted(wanted - layers.keys()):
        msg = f"it has no {', '.join(missing)}"
        raise SourceError(msg)
    if len(grids) > 1:
        msg = "its files lie on different grids"
        raise SourceError(msg)
    return {path.name: path.stat().st_size for path in sorted(product.iterdir())}


def _check_name(file: ProductFile, product: str, order: Order, resolution: int) -> None:
    unit, _, _, _, start = order.granule.split("_")[:5]
    expected = {
        "product": (file.product, product),
        "platform": (file.platform, f"sentinel-1{unit[-1].lower()}"),
        "start": (f"{file.start:%Y%m%dT%H%M%S}", start),
        "spacing": (file.spacing, resolution),
        "speckle filter": (file.speckle_filter, "none"),
    }
    for what, (found, ordered) in expected.items():
        if found != ordered:
            msg = f"its {what} is {found}, ordered was {ordered}"
            raise SourceError(msg)


def discard(path: Path) -> None:
    """Remove a file or folder, if it is there."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
