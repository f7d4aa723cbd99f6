"""OPERA's archive at ASF on this machine, filled with simulated granules as large as real ones."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path

import numpy as np
import pystac
import pytest
import rasterio
import xarray as xr
from affine import Affine
from odc.geo.geobox import GeoBox
from rasterio.shutil import copy
from rasterio.windows import Window
from servers import internet
from servers.cmr import HOST as CMR
from servers.cmr import Cmr, Granule
from servers.files import Earthdata

from cubekit.lakes import Lake, catalogue
from cubekit.sources import _earthdata, _http, find_scenes, folder
from cubekit.sources.simulated import write_archive

LAKES = ("gokyo", "tilicho")
PERIOD = (date(2023, 7, 1), date(2023, 7, 13))


def lake(name: str) -> Lake:
    return catalogue()[name].at_spacing(30)


def publish(source: Path, target: Path, *, margin: int) -> None:
    """A simulated layer as OPERA publishes it: a cloud GeoTIFF as large as a burst, and no sign of the simulator."""
    with rasterio.open(source) as dataset:
        values, profile = dataset.read(1), dataset.profile
        tags = {name: value for name, value in dataset.tags().items() if name != "CUBEKIT_LOOKS"}
    rows, columns = (512 * round((size + 2 * margin) / 512) for size in values.shape)
    if values.dtype == np.uint8:
        whole = np.zeros((rows, columns), "uint8")
    else:
        seed = int.from_bytes(source.stem[-20:].encode(), "big") % 2**32
        whole = np.random.default_rng(seed).gamma(5, 0.03, (rows, columns)).astype("float32")
    top, left = margin - 7, margin + 5
    whole[top : top + values.shape[0], left : left + values.shape[1]] = values
    corner = profile["transform"] * Affine.translation(-left, -top)
    plain = {"driver": "GTiff", "count": 1, "dtype": values.dtype, "crs": profile["crs"], "nodata": profile["nodata"]}
    with rasterio.MemoryFile() as memory:
        with memory.open(**plain, width=columns, height=rows, transform=corner) as dataset:
            dataset.write(whole, 1)
            dataset.update_tags(**{**tags, "SOFTWARE_VERSION": "1.0.4"})
        with memory.open() as dataset:
            options = {"blocksize": 512, "compress": "deflate", "level": 1, "overview_count": 1}
            copy(
                dataset,
                target,
                driver="COG",
                predictor="standard" if values.dtype == np.uint8 else "floating",
                **options,
            )


def archive(home: Path, names: Iterable[str], period: tuple[date, date], *, revisit: int, margin: int) -> Path:
    """Granules of these lakes, flat in one folder as an archive has them."""
    published = home / "published"
    published.mkdir(parents=True)
    for name in names:
        made = write_archive(lake(name), home / name, start=period[0], end=period[1], revisit_days=revisit)
        for file in made:
            publish(file, published / file.name, margin=margin)
    return published


@dataclass
class Asf:
    """The archive and its catalogue, of which a test may change the granules."""

    data: Earthdata
    cmr: Cmr

    @property
    def folder(self) -> Path:
        assert self.data.folder is not None
        return self.data.folder

    def raster_bytes(self) -> int:
        return self.data.sent(lambda request: request.host == self.data.STORAGE)


@contextmanager
def at_asf(data: Earthdata, granules: list[Granule], home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asf]:
    """ASF on this machine, and somebody with a token. Nobody else is reached, and no secret goes astray."""
    cmr = Cmr(granules)
    _earthdata._shared.cache_clear()
    monkeypatch.setattr(_http, "WAIT", 0.01)
    for limit in ("TIMEOUT", "SEARCH_TIMEOUT"):
        monkeypatch.setattr(_http, limit, (5.0, 2.0))
    with internet({CMR: cmr, **data.hosts}, home / "tls") as there:
        for name, value in {**there.environment, _earthdata.TOKEN: data.token}.items():
            monkeypatch.setenv(name, value)
        yield Asf(data, cmr)
    assert not data.leaks
    assert not there.strangers  # failed searches aren't reported to anybody


def stored(dataset: xr.Dataset) -> xr.Dataset:
    """What must be the same however the granules came: all but the moment of writing."""
    return dataset.drop_vars("ingested").load()


def own_blocks(items: Iterable[pystac.Item], grid: GeoBox) -> int:
    """Bytes of the blocks that hold a lattice's pixels, of all layers of local scenes."""
    total = 0
    for item in items:
        for asset in item.assets.values():
            with rasterio.open(asset.href) as dataset:
                left, top = ~dataset.transform * (grid.transform.c, grid.transform.f)
                window = Window(round(left), round(top), *grid.shape.wh).intersection(
                    Window(0, 0, dataset.width, dataset.height)
                )
                height, width = dataset.block_shapes[0]
                for row in range(int(window.row_off) // height, int(window.row_off + window.height - 1) // height + 1):
                    first, last = int(window.col_off) // width, int(window.col_off + window.width - 1) // width
                    for column in range(first, last + 1):
                        tag = dataset.get_tag_item(f"BLOCK_SIZE_{column}_{row}", "TIFF", bidx=1)
                        total += int(tag or 0)
    return total


def find(name: str = "gokyo", uri: str = "opera", period: tuple[date, date] = PERIOD) -> list[pystac.Item]:
    return list(find_scenes(lake(name), uri, *period))


def from_folder(published: Path, name: str = "gokyo", period: tuple[date, date] = PERIOD) -> list[pystac.Item]:
    return list(folder.find(lake(name), period, published))
