"""Where the files of a scene are and how to reach them: on this disk or in an archive's cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, TypeVar

import numpy as np
import pystac
from numpy.typing import NDArray
from odc.geo.geobox import GeoBox

from cubekit.errors import SourceError

Result = TypeVar("Result")


class _Unreadable(SourceError):
    """A file can't be read; where it comes over a network it may be readable the next time."""


def unreadable(message: str) -> SourceError:
    """The error of a file that can't be read, which `persistently` tries again."""
    return _Unreadable(message)


def persistently(scenes: Sequence[pystac.Item], read: Callable[[], Result]) -> Result:
    """Read scenes; what comes over a network is read again when it breaks off.

    Parameters
    ----------
    scenes
        What is read.
    read
        How, from the start: a signed address may have expired.

    Raises
    ------
    SourceError
        When it can't be read, at once for local files.
    """
    import rasterio

    from cubekit.sources._earthdata import FORGETTING
    from cubekit.sources._http import retrying

    if not any(asset.href.startswith("http") for scene in scenes for asset in scene.assets.values()):
        return read()
    attempts = count()

    def attempt() -> Result:
        with rasterio.Env(**(FORGETTING if next(attempts) else {})):
            return read()

    return retrying(attempt, what=f"the reading of {scenes[0].id}", transient=(_Unreadable,))


@contextmanager
def reachable(scenes: Sequence[pystac.Item], layers: Sequence[str]) -> Iterator[tuple[pystac.Item, ...]]:
    """Make scenes readable, inside: logged in, with few bytes, and knowing their grid.

    Parameters
    ----------
    scenes
        As a source found them.
    layers
        The assets that will be read; those that a scene lacks are no matter.

    Yields
    ------
    tuple of pystac.Item
        The scenes with these assets only, with ``proj:code``, ``proj:shape`` and ``proj:transform``. Their addresses
        may be signed: secrets that are good for about an hour.

    Raises
    ------
    SourceError
        When an archive can't be had, a header can't be read, or the files of a scene lie on different grids.
    """
    import rasterio

    from cubekit.sources import _earthdata

    opened = []
    for scene in scenes:
        one = scene.clone()
        one.assets = {name: asset for name, asset in one.assets.items() if name in layers}
        for asset in one.assets.values():
            asset.href = _earthdata.direct(asset.href)
        opened.append(one)
    hrefs = [asset.href for one in opened for asset in one.assets.values()]
    with rasterio.Env(**_earthdata.gdal_options(hrefs)):
        yield tuple(map(_located, opened))


def _located(scene: pystac.Item) -> pystac.Item:
    """The scene with its grid, read from the headers of its files when the archive's catalogue did not know it.

    GDAL keeps the headers of remote files until the pixels are read: this costs no request of its own.
    """
    import rasterio
    from rasterio.errors import RasterioError

    from cubekit.sources._addresses import place, without_queries
    from cubekit.sources._items import grid

    if not scene.assets or {"proj:code", "proj:transform"} <= scene.properties.keys():
        return scene
    grids = []
    for name, asset in sorted(scene.assets.items()):
        try:
            with rasterio.open(asset.href) as dataset:
                epsg, transform = dataset.crs.to_epsg() if dataset.crs else None, dataset.transform
                shape = dataset.shape
        except (RasterioError, OSError) as error:
            reason = without_queries(str(error).splitlines()[0].replace(asset.href, place(asset.href)))
            msg = f"{name} of {scene.id} can't be read: {reason}"
            raise unreadable(msg) from None
        if epsg is None or not transform.is_rectilinear or transform.a != -transform.e:
            msg = f"{name} of {scene.id} has no known reference system, or pixels that are not square and north up"
            raise unreadable(msg)  # so it looks when the header broke off
        grids.append(grid(epsg, shape, transform))
    if any(other != grids[0] for other in grids):
        msg = f"the files of {scene.id} lie on different grids"
        raise SourceError(msg)
    scene.properties.update(grids[0])
    return scene


def copied(
    scene: pystac.Item, assets: Sequence[str], lattice: GeoBox, dtype: np.dtype[Any], fill: Any
) -> NDArray[Any] | None:
    """Copy the lattice's window of files whose pixels are the lattice's.

    Parameters
    ----------
    scene
        A scene that is `reachable`.
    assets
        What to read of it.
    lattice
        North up, with square pixels.
    dtype
        Of the result.
    fill
        Where a file has no data, or does not reach.

    Returns
    -------
    numpy.ndarray or None
        (asset, y, x); None where a file has several bands or other pixels than the lattice: it has to be resampled.

    Raises
    ------
    rasterio.errors.RasterioError, OSError
        When a file can't be read.
    """
    import rasterio
    from rasterio.windows import Window

    values = np.full((len(assets), *lattice.shape.yx), fill, dtype)
    for made, name in zip(values, assets, strict=True):
        with rasterio.open(scene.assets[name].href) as dataset:
            corner = _corner(dataset, lattice)
            if corner is None:
                return None
            starts = [max(-first, 0) for first in corner]
            stops = [
                min(size - first, wanted)
                for size, first, wanted in zip(dataset.shape, corner, lattice.shape.yx, strict=True)
            ]
            if any(stop <= start for start, stop in zip(starts, stops, strict=True)):
                continue
            spans = [(first + a, first + b) for first, a, b in zip(corner, starts, stops, strict=True)]
            window = Window.from_slices(*spans)
            part = made[starts[0] : stops[0], starts[1] : stops[1]]
            if _masks_itself(dataset, fill):
                part[...] = dataset.read(1, window=window, out_dtype=dtype)
            else:
                part[...] = dataset.read(1, window=window, out_dtype=dtype, masked=True).filled(fill)
    return values


def _corner(dataset: Any, lattice: GeoBox) -> tuple[int, int] | None:
    """Row and column, in a file, of the lattice's first pixel; None where their pixels differ."""
    here, there = lattice.transform, dataset.transform
    same = dataset.count == 1 and dataset.crs and lattice.crs and dataset.crs.to_epsg() == lattice.crs.epsg
    if not same or (there.a, there.b, there.d, there.e) != (here.a, here.b, here.d, here.e):
        return None
    row, column = (here.f - there.f) / here.e, (here.c - there.c) / here.a
    return (int(row), int(column)) if row.is_integer() and column.is_integer() else None


def _masks_itself(dataset: Any, fill: Any) -> bool:
    """Whether pixels without data hold what they are to be filled with already, if there are any."""
    from rasterio.enums import MaskFlags

    (flags,) = dataset.mask_flag_enums
    declared = dataset.nodata
    if flags == [MaskFlags.nodata] and declared is not None:
        return bool(declared == fill or (np.isnan(declared) and np.isnan(fill)))
    return bool(flags == [MaskFlags.all_valid])
