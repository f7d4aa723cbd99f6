"""Source `hyp3:FOLDER`: Sentinel-1 scenes that HyP3 corrects on order, from the search to products on disk.

An order lives in a folder, over days: `plan` searches and chooses, `submit` orders, `status` looks, `fetch` and
`follow` bring the products, `find` gives them as scenes. What is where is in ``order.json``; every step may be killed
and begun again.
"""

from __future__ import annotations

import uuid
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Literal

import pystac

from cubekit.errors import ConfigError, NothingFound, SceneWarning
from cubekit.lakes import Lake
from cubekit.sources import Period
from cubekit.sources import folder as folder_source
from cubekit.sources._hyp3_fetch import Fetched, fetch, follow
from cubekit.sources._hyp3_search import Choice, Direction, Every, choose, merge, search
from cubekit.sources._hyp3_service import DEFAULT_API, Refusal, Service, check_address, connect
from cubekit.sources._hyp3_submit import Quote, Submitted, quote, status, submit
from cubekit.sources._items import near, nothing_found
from cubekit.sources._orders import (
    MANIFEST,
    PRODUCTS,
    RESOLUTIONS,
    Job,
    Manifest,
    Order,
    State,
    alone,
    load,
    save,
)

__all__ = [
    "DEFAULT_API",
    "MANIFEST",
    "PRODUCTS",
    "RESOLUTIONS",
    "Choice",
    "Fetched",
    "Job",
    "Manifest",
    "Order",
    "Planned",
    "Quote",
    "Refusal",
    "Service",
    "State",
    "Submitted",
    "connect",
    "fetch",
    "find",
    "follow",
    "load",
    "plan",
    "quote",
    "status",
    "submit",
]

_SHOWN = 20


@dataclass(frozen=True)
class Planned:
    """What a plan added.

    Parameters
    ----------
    manifest
        As it is now.
    choices
        What was chosen, by lake.
    """

    manifest: Manifest
    choices: Mapping[str, Choice]


def plan(
    folder: str | Path,
    lakes: Iterable[Lake],
    period: Period,
    *,
    every: Every = "month",
    tracks: Sequence[int] = (),
    direction: Direction | None = None,
    frames: Sequence[int] = (),
    resolution: Literal[20, 30] = 20,
    api: str = DEFAULT_API,
) -> Planned:
    """Search scenes of lakes, choose, and write down what is to be ordered. Orders nothing.

    Parameters
    ----------
    folder
        Of the order; made when absent. Into a folder that holds a plan, only what is new is added.
    lakes
        The lakes; a scene that shows several is ordered once.
    period
        First and last day, both inclusive, UTC.
    every
        ``month`` takes, as the paper does, one pass of each track and month: the one nearest to the month's middle
        that sees the whole AOI. ``pass`` takes all that do.
    tracks, direction, frames
        Relative orbits, ``ascending`` or ``descending``, and ASF's frames; all by default.
    resolution
        Pixel spacing, metres: 20 or 30. Products are gamma0 in linear power, neither filtered nor matched to the DEM.
    api
        Address of HyP3.

    Returns
    -------
    Planned
        The manifest, and what was chosen by lake.

    Raises
    ------
    ConfigError
        When an option isn't allowed, or is another one than the folder's plan was made with.
    SourceError
        When the archive can't be had, a lake has no scene, or another process works on the order.

    Notes
    -----
    Asks ASF's catalogue, which needs no login. Source of the choice by month: the paper's section on acquisition.
    """
    if resolution not in RESOLUTIONS:
        msg = f"resolution {resolution} m is not one of {RESOLUTIONS}, which lattices have"
        raise ConfigError(msg)
    check_address(api)
    home = Path(folder)
    with alone(home):
        if (home / MANIFEST).exists():
            manifest = load(home)
            asked = {"resolution": resolution, "api": api}
            for name, value in asked.items():
                if getattr(manifest, name) != value:
                    msg = f"{home} holds a plan with {name} {getattr(manifest, name)}, not {value}; give another folder"
                    raise ConfigError(msg)
        else:
            manifest = Manifest(name=f"cubekit-{uuid.uuid4().hex[:12]}", api=api, resolution=resolution)
        choices: dict[str, Choice] = {}
        for lake in lakes:
            scenes = search(lake, period, tracks=tracks, direction=direction, frames=frames)
            choices[lake.id] = choose(lake, scenes, every, known=manifest.orders)
            manifest = manifest.model_copy(update={"orders": merge(manifest.orders, choices[lake.id].orders)})
        return Planned(save(home, manifest), choices)


def find(lake: Lake, period: Period, path: str | Path) -> pystac.ItemCollection:
    """Find the scenes of a lake among the products that an order has brought.

    Parameters
    ----------
    lake
        The lake; products that do not touch its AOI are left out without a word.
    period
        First and last day, both inclusive, UTC; None leaves a side open.
    path
        Folder of the order.

    Returns
    -------
    pystac.ItemCollection
        As `cubekit.sources.folder.find`, of the products that were fetched and are as they were then.

    Raises
    ------
    ConfigError
        When the folder holds no order.
    SourceError
        When no product of this lake and period has come.

    Warns
    -----
    SceneWarning
        Tells which scenes of this lake and period haven't come, and which products were changed since.

    Notes
    -----
    Reads names and headers only, asks no service.
    """
    home = Path(path)
    manifest = load(home)
    mine = [order for order in manifest.orders if lake.id in order.lakes and near(order.start, period)]
    now = datetime.now(UTC)
    lines = [f"  {order.granule}: {_standing(order, now)}" for order in mine if not order.files]
    whole = set()
    for order in manifest.orders:
        changed = _changed(home, order)
        if order.files and not changed and order.job and order.job.product:
            whole.add(order.job.product)
        elif changed and order in mine:
            lines.append(f"  {order.granule}: {changed}")
    if lines:
        more = [f"  and {len(lines) - _SHOWN} more"] if len(lines) > _SHOWN else []
        told = "\n".join([*lines[:_SHOWN], *more])
        msg = f"{len(lines)} scenes of the order in {home} are left out:\n{told}"
        warnings.warn(msg, SceneWarning, stacklevel=4)
    items: list[pystac.Item] = []
    if whole:
        found = folder_source.find(lake, period, home / PRODUCTS)
        items = [item for item in found if item.id in whole]
    if not items:
        why = f"has come to {home}; look with: cubekit order status {home}"
        raise NothingFound(nothing_found(lake.id, period, why))
    return pystac.ItemCollection(items)


def _standing(order: Order, now: datetime) -> str:
    reason = order.reason(now)
    return f"{order.state(now)}{f' ({reason})' if reason else ''}"


def _changed(home: Path, order: Order) -> str:
    """What was done to a product since it was fetched; empty when nothing."""
    if not order.files or order.job is None:
        return ""
    place = home / PRODUCTS / str(order.job.product)
    for name, size in order.files.items():
        file = place / name
        if not file.is_file():
            return f"{name} was removed since it was fetched"
        if file.stat().st_size != size:
            return f"{name} has {file.stat().st_size} bytes, {size} when it was fetched"
    return ""
