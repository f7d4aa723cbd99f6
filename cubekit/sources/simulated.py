"""Source `simulated:PATH`: a lake that changes, as OPERA RTC-S1 or HyP3 RTC would see it, with the truth beside it.

Notes
-----
What is random depends on the seed, the lake and the pass only, so an archive can be resumed or extended and its files
stay the same, and any pass can be simulated alone. Where the physics comes from is said in the modules beside this one:
`_terrain`, `_radar` (layover and shadow), `_surfaces` (backscatter), `_speckle`, `_dynamics` (the lake through the
years), `_geometry` (who sees a lake and when).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from datetime import date
from pathlib import Path

import pystac
import xarray as xr

from cubekit.errors import ConfigError, GridMismatch, SourceError
from cubekit.lakes import Lake
from cubekit.sources import Period, folder, parse_period
from cubekit.sources._archive import TRUTH, claim, read_truth, write_truth
from cubekit.sources._dynamics import REFERENCE, STATES, Outburst
from cubekit.sources._geometry import Pass, chosen, delivered, passes
from cubekit.sources._products import PRODUCTS, granules, write_granules
from cubekit.sources._scenes import Scenery
from cubekit.sources._stack import stacked

__all__ = ["PRODUCTS", "REFERENCE", "STATES", "TRUTH", "Outburst", "find", "read_truth", "simulate", "write_archive"]


def simulate(
    lake: Lake,
    *,
    start: str | date | None,
    end: str | date | None,
    product: str = "opera",
    seed: int = 0,
    growth_m_per_year: float = 20.0,
    looks: float | None = None,
    revisit_days: int = 12,
    tracks: Sequence[int] | None = None,
    dem: str | Path | None = None,
    outburst: Outburst | None = None,
) -> xr.Dataset:
    """Simulate the passes over a lake, as a cube of them would hold them, with the truth.

    Parameters
    ----------
    lake
        Its outline is the lake of `REFERENCE`. At the spacing of the product: 30 m for OPERA, 20 m for HyP3.
    start, end, product, seed, growth_m_per_year, looks, revisit_days, tracks, dem, outburst
        As in `write_archive`.

    Returns
    -------
    xarray.Dataset
        Dims (time, y, x), on the whole lattice of the lake, by time:

        ``vv``, ``vh``
            float32, gamma0 in linear power, NaN for no data; attributes as in cubes.
        ``mask``
            uint8, layover and shadow in the codes of cubes.
        ``water``, ``ponds``
            float32, 0 to 1: share of a pixel under this lake and under other waters, ice included; also where the
            radar can't see it.

        Coordinates along time: ``track``, ``absolute_orbit``, ``platform``, ``orbit_direction``, ``granules`` as in
        cubes, and of the truth ``water_km2`` (the lake within its AOI), ``state`` (``open``, ``ice``, or ``thaw``:
        broken ice), ``wind`` (m/s).

    Raises
    ------
    ConfigError
        As `write_archive`.
    GridMismatch
        When the lake isn't at the spacing of the product.
    SourceError
        When no pass lies in this period.

    Notes
    -----
    Lazy: one dask chunk a pass, of which any can be computed alone. Each worker keeps the terrain and the looks of its
    last lakes, so that a pass after the first of its lake takes some 0.1 s. The same arguments give the same values as
    the archive that `write_archive` writes.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> ds = simulate(catalogue()["gokyo"].at_spacing(30), start="2023-07-01", end="2023-07-12")
    >>> dict(ds.sizes), ds.vv.attrs["source"], ds.state.values.tolist()
    ({'time': 2, 'y': 256, 'x': 256}, 'simulated', ['open', 'open'])
    """
    scenery = _scenery(lake, product, seed, looks, growth_m_per_year, dem, outburst)
    if lake.spacing != scenery.spacing:
        msg = (
            f"lake {lake.id!r} is on its lattice of {lake.spacing} m, pixels of {product} are {scenery.spacing} m; "
            f"give lake.at_spacing({scenery.spacing})"
        )
        raise GridMismatch(msg)
    found = _found(scenery, start, end, revisit_days, tracks)
    if not found:
        raise SourceError(_nothing(lake, *parse_period(start, end), revisit_days))
    return stacked(scenery, found)


def write_archive(
    lake: Lake,
    path: str | Path,
    *,
    start: str | date | None,
    end: str | date | None,
    product: str = "opera",
    seed: int = 0,
    looks: float | None = None,
    growth_m_per_year: float = 20.0,
    revisit_days: int = 12,
    tracks: Sequence[int] | None = None,
    dem: str | Path | None = None,
    outburst: Outburst | None = None,
) -> list[Path]:
    """Simulate the products of one lake, and write those that are missing.

    Parameters
    ----------
    lake
        Its outline is the lake of `REFERENCE`. Scenes lie on the grid of its lattice at the spacing of the product.
    path
        Folder of the archive, made when absent: products, `TRUTH` and ``archive.json``.
    start, end
        First and last day, both inclusive, UTC.
    product
        One of `PRODUCTS`: ``opera`` (OPERA RTC-S1, 30 m), ``hyp3`` (HyP3 RTC, 20 m, with HyP3's speckle filter) or
        ``hyp3_unfiltered``.
    seed
        0 or more.
    looks
        Equivalent number of looks of the speckle, before any filter. By default as the product has it.
    growth_m_per_year
        How fast the front moves up-glacier, 0 to 100.
    revisit_days
        Per platform and track, a multiple of 12.
    tracks
        Relative orbits. By default the nearest ascending and the nearest descending one.
    dem
        A GeoTIFF of heights in metres around the lake, instead of a terrain drawn at random.
    outburst
        When the lake drains, and how far. By default never.

    Returns
    -------
    list of Path
        Files of the passes in this period by time, also those that were there. float32 gamma0 in linear power, no data
        (NaN in OPERA's, 0 in HyP3's) in shadow and beyond the swath; masks uint8 in the codes of their archive.

    Raises
    ------
    ConfigError
        When a parameter is out of range, a track does not see the lake, or the folder holds an archive that was
        made with other parameters.
    SourceError
        When the elevation model can't be read or doesn't cover the lake.

    Notes
    -----
    Shore pixels mix land and water in linear power by their shares. Layover and shadow follow from terrain and look.
    Descending tracks see the lake in two bursts of OPERA's that overlap, with the same values. The files of a product
    are renamed into place when all are complete.

    The outline is stretched at three quarters of its length, towards the end with more room in the AOI; after
    `REFERENCE` the area grows by width times distance. The season moves the shore by some metres. The lake freezes in
    winter, and breaks up in spring.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> from cubekit.lakes import catalogue
    >>> with TemporaryDirectory() as home:
    ...     files = write_archive(catalogue()["gokyo"], home, start="2023-07-01", end="2023-07-08")
    >>> files[0].name
    'OPERA_L2_RTC-S1_T012-023790-IW1_20230703T121409Z_..._S1A_30_v1.0_VV.tif'
    """
    scenery = _scenery(lake, product, seed, looks, growth_m_per_year, dem, outburst)
    found = _found(scenery, start, end, revisit_days, tracks)
    home = Path(path)
    home.mkdir(parents=True, exist_ok=True)
    claim(home, scenery)
    files = []
    for one in found:
        names = granules(scenery.product, one, *scenery.key)
        products = [[home / f"{name}_{layer}.tif" for layer in scenery.product.layers] for name in names]
        if not all(file.exists() for layers in products for file in layers):
            corner, epsg = scenery.corner, scenery.lake.epsg
            images = scenery.bursts(one)
            write_granules(scenery.product, one, products, images, left=corner[0], epsg=epsg, looks=scenery.looks)
        files += [file for layers in products for file in layers]
    write_truth(home, scenery, found)
    return files


def find(
    lake: Lake,
    period: Period,
    path: str | Path,
    *,
    seed: float = 0,
    growth: float = 20.0,
    looks: float | None = None,
    revisit: float = 12,
    product: str = "opera",
    dem: str | None = None,
    outburst: str | None = None,
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
    seed, growth, looks, revisit, product, dem
        As `write_archive`'s ``seed``, ``growth_m_per_year``, ``looks``, ``revisit_days``, ``product`` and ``dem``.
        Passes that an earlier call with a shorter revisit has written stay there, but are left out.
    outburst
        ``DAY[:SHARE[:REFILL_YEARS]]``, e.g. ``2021-08-01:0.3:5`` (`Outburst.parse`).

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
        lake,
        home,
        start=first,
        end=last,
        product=product,
        seed=int(seed),
        looks=looks,
        growth_m_per_year=growth,
        revisit_days=days,
        dem=dem,
        outburst=None if outburst is None else Outburst.parse(outburst),
    )
    items = [
        item for item in folder.find(lake, period, home) if delivered(item.properties["sat:absolute_orbit"], days // 12)
    ]
    if not items:
        raise SourceError(_nothing(lake, first, last, days))
    return pystac.ItemCollection(items)


def _scenery(
    lake: Lake,
    product: str,
    seed: int,
    looks: float | None,
    growth: float,
    dem: str | Path | None,
    outburst: Outburst | None,
) -> Scenery:
    """Check what describes a simulation."""
    if product not in PRODUCTS:
        msg = f"product {product!r} can't be simulated; allowed are {', '.join(PRODUCTS)}"
        raise ConfigError(msg)
    kind = PRODUCTS[product]
    looks = kind.looks if looks is None else looks
    checks = (
        (seed >= 0, f"seed {seed}: 0 or more"),
        (0 < looks < math.inf, f"looks {looks}: above 0"),
        (0 <= growth <= 100, f"growth {growth} m a year: 0 to 100"),
        (dem is None or Path(dem).is_file(), f"dem {dem}: an existing file"),
    )
    if wrong := "; ".join(message for good, message in checks if not good):
        msg = f"the simulation allows only ({wrong}); change it"
        raise ConfigError(msg)
    place = None if dem is None else Path(dem)
    return Scenery(lake.at_spacing(kind.spacing), kind, int(seed), float(looks), float(growth), outburst, place)


def _found(
    scenery: Scenery,
    start: str | date | None,
    end: str | date | None,
    revisit_days: int,
    tracks: Sequence[int] | None,
) -> list[Pass]:
    """Passes of a period, by time."""
    first, last = parse_period(start, end)
    if first is None or last is None:
        msg = f"a simulated archive needs its first and last day, got {first} and {last}; give start and end"
        raise ConfigError(msg)
    if revisit_days <= 0 or revisit_days % 12:
        msg = f"the simulation allows only (revisit of {revisit_days} days: a multiple of 12); change it"
        raise ConfigError(msg)
    cycles, draws, in_bursts = revisit_days // 12, scenery.draws, scenery.product.opera
    found = [
        one
        for view in chosen(scenery.lake, tracks)
        for one in passes(view, first, last, cycles=cycles, draws=draws, in_bursts=in_bursts)
    ]
    return sorted(found, key=lambda one: (one.starts[0], one.platform))


def _nothing(lake: Lake, first: date | None, last: date | None, days: int) -> str:
    return f"no pass of {lake.id} between {first} and {last} with a revisit of {days} days; widen the period"
