"""Source `simulated:PATH`: a lake that grows, as OPERA RTC-S1 would see it, with the truth beside the files.

Notes
-----
What is random depends on the seed, the lake and the pass only, so an archive can be resumed or extended and its files
stay the same. The levels of backscatter are measured on real crops or assumed, none is from a cited paper yet:
`cubekit.sources._scenes` lists where each comes from, `cubekit.sources._geometry` who sees a lake and when.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from datetime import date, timedelta
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pystac
import shapely

from cubekit.errors import ConfigError, SourceError
from cubekit.files import replacing
from cubekit.lakes import Lake
from cubekit.sources import Period, folder, parse_period
from cubekit.sources._geometry import SPACING, Pass, chosen, delivered, passes
from cubekit.sources._scenes import LOOKS, REFERENCE, Codes, Floats, Scenery

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["LOOKS", "REFERENCE", "TRUTH", "find", "read_truth", "write_archive"]

TRUTH = "truth.csv"
"""File of an archive with the true area of every pass."""

_LAYERS = ("VV", "VH", "mask")
_STAMP = "%Y-%m-%dT%H:%M:%S.%fZ"


def write_archive(
    lake: Lake,
    path: str | Path,
    *,
    start: str | date | None,
    end: str | date | None,
    seed: int = 0,
    looks: float = LOOKS,
    growth_m_per_year: float = 20.0,
    revisit_days: int = 12,
    tracks: Sequence[int] | None = None,
) -> list[Path]:
    """Simulate OPERA RTC-S1 granules of one lake, and write those that are missing.

    Parameters
    ----------
    lake
        Its outline is the lake of `REFERENCE`. Scenes lie on the grid of its 30 m lattice.
    path
        Folder of the archive, made when absent: granules, `TRUTH` and ``archive.json``.
    start, end
        First and last day, both inclusive, UTC.
    seed
        0 or more.
    looks
        Equivalent number of looks of the speckle.
    growth_m_per_year
        How fast the front moves up-glacier, 0 to 100.
    revisit_days
        Per platform and track, a multiple of 12.
    tracks
        Relative orbits. By default the nearest ascending and the nearest descending one.

    Returns
    -------
    list of Path
        Files of the passes in this period by time, also those that were there. float32 gamma0 in linear power, NaN in
        shadow and beyond the swath; masks uint8 in OPERA's codes.

    Raises
    ------
    ConfigError
        When a parameter is out of range, a track does not see the lake, or the folder holds an archive that was
        made with other parameters.

    Notes
    -----
    Shore pixels mix land and water in linear power by their shares. Speckle is gamma distributed, multiplicative and
    independent between pixels and polarisations (OPERA's is somewhat correlated). Descending tracks see the lake in
    two bursts that overlap, with the same values. The files of a granule are renamed into place when all are complete.

    The outline is stretched at three quarters of its length, towards the end with more room in the AOI; after
    `REFERENCE` the area grows by width times distance. The season moves the shore by up to 2 m.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from cubekit.lakes import catalogue
    >>> with TemporaryDirectory() as home:
    ...     files = write_archive(catalogue()["gokyo"], home, start="2023-07-01", end="2023-07-08")
    >>> files[0].name
    'OPERA_L2_RTC-S1_T012-023790-IW1_20230703T121409Z_..._S1A_30_v1.0_VV.tif'
    """
    first, last = parse_period(start, end)
    if first is None or last is None:
        msg = f"a simulated archive needs its first and last day, got {first} and {last}; give start and end"
        raise ConfigError(msg)
    checks = (
        (seed >= 0, f"seed {seed}: 0 or more"),
        (0 < looks < math.inf, f"looks {looks}: above 0"),
        (0 <= growth_m_per_year <= 100, f"growth {growth_m_per_year} m a year: 0 to 100"),
        (revisit_days > 0 and revisit_days % 12 == 0, f"revisit of {revisit_days} days: a multiple of 12"),
    )
    if wrong := "; ".join(message for good, message in checks if not good):
        msg = f"the simulation allows only ({wrong}); change it"
        raise ConfigError(msg)
    scenery = Scenery(lake.at_spacing(SPACING), int(seed), float(looks), float(growth_m_per_year))
    seen, cycles = chosen(lake, tracks), revisit_days // 12
    home = Path(path)
    home.mkdir(parents=True, exist_ok=True)
    _claim(home, scenery)
    found = [one for view in seen for one in passes(view, first, last, cycles=cycles, draws=scenery.draws)]
    found.sort(key=lambda one: (one.starts[0], one.platform))
    files = []
    for one in found:
        granules = [[home / f"{name}_{layer}.tif" for layer in _LAYERS] for name in one.granules]
        if not all(file.exists() for granule in granules for file in granule):
            _write(scenery, one, granules)
        files += [file for granule in granules for file in granule]
    _write_truth(home, scenery, found)
    return files


def find(
    lake: Lake,
    period: Period,
    path: str | Path,
    *,
    seed: float = 0,
    growth: float = 20.0,
    looks: float = LOOKS,
    revisit: float = 12,
) -> pystac.ItemCollection:
    """Find the scenes of a lake in a simulated archive, which is made where it is missing.

    Parameters
    ----------
    lake
        The lake.
    period
        First and last day, both inclusive, UTC; both are needed.
    path
        Folder that holds the archives, each in a folder named as its lake.
    seed, growth, looks, revisit
        As `write_archive`'s ``seed``, ``growth_m_per_year``, ``looks`` and ``revisit_days``. Passes that an earlier
        call with a shorter revisit has written stay there, but are left out.

    Returns
    -------
    pystac.ItemCollection
        As `cubekit.sources.folder.find` gives it.

    Raises
    ------
    ConfigError
        As `write_archive`, and when seed or revisit is not a whole number.
    SourceError
        When no pass lies in this period.
    """
    for name, value, default in (("seed", seed, 0), ("revisit", revisit, 12)):
        if not float(value).is_integer():
            msg = f"{name} {value} is not a whole number; give e.g. {default}"
            raise ConfigError(msg)
    home, (first, last), days = Path(path) / lake.id, period, int(revisit)
    write_archive(
        lake, home, start=first, end=last, seed=int(seed), growth_m_per_year=growth, looks=looks, revisit_days=days
    )
    items = [
        item for item in folder.find(lake, period, home) if delivered(item.properties["sat:absolute_orbit"], days // 12)
    ]
    if not items:
        msg = f"no pass of {lake.id} between {first} and {last} with a revisit of {days} days; widen the period"
        raise SourceError(msg)
    return pystac.ItemCollection(items)


def read_truth(path: str | Path) -> pd.DataFrame:
    """Read the truth of a simulated archive.

    Parameters
    ----------
    path
        Folder of the archive.

    Returns
    -------
    pandas.DataFrame
        A row a pass by time: ``lake``, ``time`` (start of the first burst, UTC, without zone), ``track``,
        ``platform``, ``absolute_orbit``, ``water_km2`` (lake's polygon within the AOI), ``granules`` (JSON list).

    Raises
    ------
    SourceError
        When the folder has no truth.
    """
    import pandas as pd

    file = Path(path) / TRUTH
    if not file.is_file():
        msg = f"{file} does not exist; give the folder of an archive that write_archive has made"
        raise SourceError(msg)
    table = pd.read_csv(file, float_precision="round_trip")
    return table.assign(time=pd.to_datetime(table["time"], utc=True).dt.tz_localize(None))


def _claim(home: Path, scenery: Scenery) -> None:
    """Refuse a folder that holds another archive."""
    lake = scenery.lake
    mine = {
        "lake": lake.id,
        "seed": scenery.seed,
        "looks": scenery.looks,
        "growth_m_per_year": scenery.growth,
        "grid": f"EPSG:{lake.epsg} {scenery.corner}",
        "outline": zlib.crc32(shapely.to_wkb(lake.outline) + shapely.to_wkb(lake.aoi)),
    }
    file = home / "archive.json"
    if not file.exists():
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(mine, indent=1))
    stored = json.loads(file.read_text())
    if other := [
        f"{name} {stored.get(name)} (asked: {value})" for name, value in mine.items() if stored.get(name) != value
    ]:
        msg = f"{home} holds a simulated archive made with {', '.join(other)}; give another folder"
        raise ConfigError(msg)


def _write(scenery: Scenery, one: Pass, granules: Sequence[Sequence[Path]]) -> None:
    """Write the granules of a pass, each whole or not at all."""
    for index, ((top, layers), files) in enumerate(zip(scenery.bursts(one), granules, strict=True)):
        tags = _tags(scenery, one, index, top, layers[0].shape)
        with ExitStack() as granule:
            # Renamed in reverse, when all are written: a granule shows when its VV does, the last.
            for name, file, values in zip(_LAYERS, files, layers, strict=True):
                temporary = granule.enter_context(replacing(file))
                _write_layer(temporary, values, scenery, top, {**tags, "LAYER_NAME": name})


def _write_layer(file: Path, values: Floats | Codes, scenery: Scenery, top: float, tags: Mapping[str, object]) -> None:
    import rasterio
    from rasterio.transform import from_origin

    height, width = values.shape
    profile = {"driver": "GTiff", "count": 1, "dtype": values.dtype, "width": width, "height": height}
    profile |= {"crs": f"EPSG:{scenery.lake.epsg}", "transform": from_origin(scenery.corner[0], top, SPACING, SPACING)}
    profile |= {"tiled": True, "blockxsize": 512, "blockysize": 512, "compress": "deflate", "zlevel": 1}
    codes = values.dtype == np.uint8
    profile |= {"nodata": 255, "predictor": 2} if codes else {"nodata": np.nan, "predictor": 3}
    with rasterio.open(file, "w", **profile) as dataset:
        dataset.write(values, 1)
        dataset.update_tags(**tags)


def _tags(scenery: Scenery, one: Pass, index: int, top: float, shape: tuple[int, ...]) -> dict[str, object]:
    """OPERA's tags of one burst of a pass, and the number of looks."""
    burst, start, left = one.view.bursts[index], one.starts[index], scenery.corner[0]
    return {
        "ABSOLUTE_ORBIT_NUMBER": one.orbit,
        "BOUNDING_BOX": [left, top - shape[0] * SPACING, left + shape[1] * SPACING, top],
        "BOUNDING_BOX_EPSG_CODE": scenery.lake.epsg,
        "BURST_ID": f"t{one.view.track:03d}_{burst:06d}_{one.view.swath.lower()}",
        "CUBEKIT_LOOKS": scenery.looks,
        "LOOK_DIRECTION": "right",
        "ORBIT_PASS_DIRECTION": one.view.direction,
        "PLATFORM": f"Sentinel-1{one.platform[-1].upper()}",
        "PROCESSING_DATETIME": f"{one.processed:{_STAMP}}",
        "PROCESSING_INFORMATION_FILTERING_APPLIED": False,
        "PRODUCT_VERSION": "1.0",
        "SOFTWARE_VERSION": f"{folder.SIMULATOR} {_version()}",
        "SUB_SWATH_ID": one.view.swath,
        "TRACK_NUMBER": one.view.track,
        "ZERO_DOPPLER_START_TIME": f"{start:{_STAMP}}",
        "ZERO_DOPPLER_END_TIME": f"{start + timedelta(seconds=3.1):{_STAMP}}",
    }


def _write_truth(home: Path, scenery: Scenery, found: Sequence[Pass]) -> None:
    """Write the truth of these passes, and keep that of all others."""
    import pandas as pd

    file = home / TRUTH
    if not found and file.exists():
        return
    rows = []
    for one in found:
        start = one.starts[0]
        row = (scenery.lake.id, f"{start:%Y-%m-%dT%H:%M:%SZ}", one.view.track, one.platform, one.orbit)
        rows.append((*row, scenery.water_km2(start), json.dumps(sorted(one.granules))))
    table = pd.DataFrame(rows, columns=["lake", "time", "track", "platform", "absolute_orbit", "water_km2", "granules"])
    if file.exists() and len(kept := pd.read_csv(file, float_precision="round_trip")):
        table = pd.concat([kept, table])
    table = table.drop_duplicates(["platform", "absolute_orbit"]).sort_values(["time", "platform"])
    with replacing(file) as temporary:
        table.to_csv(temporary, index=False)


@cache
def _version() -> str:
    try:
        return metadata.version("cubekit")
    except metadata.PackageNotFoundError:
        return "0"
