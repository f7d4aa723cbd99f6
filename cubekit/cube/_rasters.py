"""Where the files of a scene are and how to reach them: on this disk or in an archive's cloud."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import TypeVar

import pystac

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
        How, from the start: GDAL remembers of an address that it failed, a new try needs a newly signed one.

    Raises
    ------
    SourceError
        When it can't be read, at once for local files.
    """
    from cubekit.sources._http import retrying

    if not any(asset.href.startswith("http") for scene in scenes for asset in scene.assets.values()):
        return read()
    return retrying(read, what=f"the reading of {scenes[0].id}", transient=(_Unreadable,))


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

    from cubekit.sources._addresses import place
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
            reason = str(error).splitlines()[0].replace(asset.href, place(asset.href))
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
