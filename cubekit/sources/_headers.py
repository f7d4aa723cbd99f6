"""Headers of GeoTIFFs on this disk: what they tell, or why a file is of no use."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rasterio.io import DatasetReader


@dataclass(frozen=True)
class Header:
    """What the header of one file tells."""

    epsg: int
    shape: tuple[int, int]
    transform: tuple[float, ...]
    bounds: tuple[float, float, float, float]
    tags: Mapping[str, str]


def read_header(file: Path) -> Header | str:
    """The header of a GeoTIFF, or the reason why the file is of no use.

    Parameters
    ----------
    file
        On this disk.

    Returns
    -------
    Header or str
        A reason when it is empty, unreadable, truncated, or its pixels are not square and north up.

    Notes
    -----
    Reads the header and the index of the blocks, no pixels.
    """
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
            return Header(
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
