"""Build a cube from scenes and keep it up to date: idempotent, atomic, one slot a pass."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pystac
import xarray as xr
import zarr

from cubekit.cube import store
from cubekit.cube._ahead import read_ahead, read_all, try_read
from cubekit.cube.access import open_cube
from cubekit.cube.layout import (
    Key,
    Slot,
    Target,
    attributes,
    check_fingerprint,
    rows,
    scenes_of,
    slots,
    source_attributes,
    target_of,
)
from cubekit.cube.read import RESAMPLINGS, Image, merge
from cubekit.cube.schema import POLARISATIONS, encoding
from cubekit.errors import ConfigError, CubeConflict, CubekitError, GridMismatch, NoObservations, SourceError
from cubekit.lakes import Lake
from cubekit.passes import Pass, group

logger = logging.getLogger(__name__)

BATCH = 32
"""Passes that are read together and written in one commit: what a kill can cost; twice as many are held in memory."""

Progress = Callable[[int], None]


@dataclass
class AppendReport:
    """What became of the passes that were given.

    Parameters
    ----------
    added, replaced, skipped
        Passes written to a new slot, rewritten (late burst, newer processing), and unchanged.
    empty
        Passes without any data on the lattice, by name of their products, with the reason.
    refused
        Passes that could not be used, by name of their products, with the reason.
    superseded
        Products of which a newer processing was given too, with the name of that.
    """

    added: int = 0
    replaced: int = 0
    skipped: int = 0
    empty: dict[str, str] = field(default_factory=dict)
    refused: dict[str, str] = field(default_factory=dict)
    superseded: dict[str, str] = field(default_factory=dict)

    @property
    def written(self) -> int:
        """Passes written."""
        return self.added + self.replaced

    def __str__(self) -> str:
        counts = f"{self.added} added, {self.replaced} replaced, {self.skipped} unchanged"
        return counts + "".join(
            f", {len(what)} {name}" for name, what in (("empty", self.empty), ("refused", self.refused)) if what
        )


def update(
    lake: Lake,
    items: Iterable[pystac.Item],
    root: str | Path,
    *,
    polarisations: Sequence[str] = POLARISATIONS,
    resampling: str = "nearest",
    strict_grid: bool | None = None,
    progress: Progress | None = None,
) -> AppendReport:
    """Bring the cube of a lake up to date with scenes, building it when there is none.

    Parameters
    ----------
    lake
        The lake; its cube is at ``root/lake.id``.
    items
        Scenes of one source, as `find_scenes` returns them.
    root
        Folder of the cubes of one source.
    polarisations
        What the cube holds, of what the products have; one that a product lacks is NaN and takes no space.
    resampling
        For the values of scenes that lie off the lattice: ``nearest`` or ``bilinear``.
    strict_grid
        Refuse scenes that lie off the lattice. By default for OPERA, whose grid is the lattice's.
    progress
        Called with the number of passes done since its last call.

    Returns
    -------
    AppendReport
        What became of each pass.

    Raises
    ------
    CubeConflict
        When the cube holds another lattice, source, filter or resampling (nothing is written then), or is being
        written by another process.
    NoObservations
        When there is no cube and no scene has data on the lattice.
    SourceError
        When there is no cube and no scene can be read.
    GridMismatch
        When there is no cube and all scenes lie on other grids than the lattice's.

    Notes
    -----
    Passes are read in parallel by dask's scheduler and written by this process, 32 in a commit, while the next 32 are
    read. A pass whose products
    are stored already is skipped; one that is late by a burst or newer by its processing is rewritten in its own
    commit. Killed at any moment, the cube holds whole passes, and the next call goes on.
    """
    if resampling not in RESAMPLINGS:
        msg = f"resampling {resampling!r} isn't known; allowed are {', '.join(RESAMPLINGS)}"
        raise ConfigError(msg)
    if not polarisations or not set(polarisations) <= set(POLARISATIONS):
        msg = f"polarisations {list(polarisations)} are not allowed; give one or both of {', '.join(POLARISATIONS)}"
        raise ConfigError(msg)
    items = list(items)
    passes = group(items)
    if not passes:
        msg = f"no scenes were given for {lake.id}"
        raise NoObservations(msg)
    attrs = attributes(lake, passes, resampling, polarisations)
    path = store.local(root) / lake.id
    with store.writer(path):
        report = _write(path, passes, target_of(attrs, strict_grid), progress)
    report.superseded = _superseded(items, passes)
    return report


def build_cube(
    lake: Lake,
    items: Iterable[pystac.Item],
    root: str | Path,
    *,
    polarisations: Sequence[str] = POLARISATIONS,
    resampling: str = "nearest",
    strict_grid: bool | None = None,
) -> xr.Dataset:
    """Build the cube of a lake, or bring it up to date, and open it.

    Parameters, errors and notes are those of `update`, which returns the report instead.

    Returns
    -------
    xarray.Dataset
        As `open_cube` gives it: lazy, sorted by time.
    """
    update(lake, items, root, polarisations=polarisations, resampling=resampling, strict_grid=strict_grid)
    return open_cube(store.local(root) / lake.id)


def append(path: str | Path, items: Iterable[pystac.Item], *, strict_grid: bool | None = None) -> AppendReport:
    """Add scenes to a cube that exists.

    Parameters
    ----------
    path
        The living cube.
    items
        Scenes of the cube's own source. A late burst may come alone.
    strict_grid
        As in `build_cube`.

    Returns
    -------
    AppendReport
        Passes added, replaced, skipped, empty and refused, with reasons.

    Raises
    ------
    SourceError
        When there is no living cube.
    CubeConflict, GridMismatch
        When the scenes are of another source, spacing or filter than the cube, or another process is writing. The cube
        is unchanged then.
    """
    where = store.local(path)
    items = list(items)
    passes = group(items)
    store.open_repository(where)
    if not passes:
        return AppendReport()
    with store.writer(where):
        attrs = {**_open(where).attrs, **source_attributes(passes)}
        report = _write(where, passes, target_of(attrs, strict_grid), None)
    report.superseded = _superseded(items, passes)
    return report


def _write(path: Path, passes: Sequence[Pass], target: Target, progress: Progress | None) -> AppendReport:
    report = AppendReport()
    faults: list[CubekitError] = []
    there: dict[Key, Slot] = {}
    known_empty: dict[str, str] = {}
    if store.is_living(path):
        stored = _open(path)
        check_fingerprint(path, stored.attrs, target.attrs)
        with store.readable(path):
            there = slots(stored)
        known_empty = json.loads(stored.attrs["empty_passes"])
    told = progress or _silent
    new, changed = _due(passes, there, known_empty, report)
    told(len(passes) - len(new) - len(changed))
    for batch, images in read_ahead(new, target, BATCH):
        faults += [image for image in images if isinstance(image, CubekitError)]
        empty = _sort_out(batch, images, report)
        known_empty |= {_name(pass_): _version(pass_) for pass_ in empty}
        usable = [(p, i) for p, i in zip(batch, images, strict=True) if isinstance(i, Image) and not i.empty]
        if usable or (empty and store.is_living(path)):
            _commit_batch(path, usable, target, known_empty)
        report.added += len(usable)
        told(len(batch))
    for pass_ in changed:
        _replace(path, pass_, there[pass_.key], target, report)
        told(1)
    if not store.is_living(path):
        name, reason = next(iter({**report.refused, **report.empty}.items()))
        msg = f"none of {len(passes)} passes can be used for {path.name}, so there is no cube: {name}: {reason}"
        if not faults:
            raise NoObservations(msg)
        raise (GridMismatch if all(isinstance(fault, GridMismatch) for fault in faults) else SourceError)(msg)
    logger.info("%s: %s", path, report)
    return report


def _due(
    passes: Sequence[Pass], there: Mapping[Key, Slot], known_empty: Mapping[str, str], report: AppendReport
) -> tuple[list[Pass], list[Pass]]:
    """Passes that are new, and those of which other scenes are stored; reports the rest."""
    new, changed = [], []
    for pass_ in passes:
        slot = there.get(pass_.key)
        if slot is not None and scenes_of(pass_, slot) == slot.scenes:
            report.skipped += 1
        elif slot is not None:
            changed.append(pass_)
        elif known_empty.get(_name(pass_)) == _version(pass_):
            report.empty[_name(pass_)] = "no data on the lattice (known from an earlier run)"
        else:
            new.append(pass_)
    return new, changed


def _sort_out(batch: Sequence[Pass], images: Sequence[Image | CubekitError], report: AppendReport) -> list[Pass]:
    empty = []
    for pass_, image in zip(batch, images, strict=True):
        if isinstance(image, CubekitError):
            report.refused[_name(pass_)] = str(image)
        elif image.empty:
            report.empty[_name(pass_)] = "no data on the lattice: the lake lies outside this swath"
            empty.append(pass_)
    return empty


def _commit_batch(
    path: Path, usable: Sequence[tuple[Pass, Image]], target: Target, known_empty: Mapping[str, str]
) -> None:
    message = f"add {len(usable)} passes"
    if usable:
        message += f", {usable[0][0].time:%Y-%m-%d} to {usable[-1][0].time:%Y-%m-%d}"
    attrs = {"empty_passes": json.dumps(known_empty, sort_keys=True)}
    if not store.is_living(path):
        first = rows(usable, target).assign_attrs(attrs)
        coding = encoding(target.lattice.shape.yx, target.attrs["polarisations"])
        coding = {name: code for name, code in coding.items() if name in first.variables}
        store.create(
            path,
            lambda zarr_store: first.to_zarr(zarr_store, group=store.PASSES, consolidated=False, encoding=coding),
            message,
        )
        return

    def fill(zarr_store: Any) -> None:
        group_ = zarr.open_group(zarr_store, path=store.PASSES, mode="r+")
        kept = group_.attrs.asdict()
        if usable:
            rows(usable, target).to_zarr(zarr_store, group=store.PASSES, append_dim="time", consolidated=False)
        group_.attrs.put(kept | attrs)  # xarray has put the rows' own in their place

    store.commit(path, fill, message)


def _replace(path: Path, pass_: Pass, slot: Slot, target: Target, report: AppendReport) -> None:
    """Rewrite the slot of a pass of which more, or newer, scenes are known than it was made of."""
    given = {str(scene.properties["cubekit:scene"]): scene for scene in pass_.scenes}
    wanted = scenes_of(pass_, slot)
    fresh = [scene for scene in given if slot.scenes.get(scene) != wanted[scene]]
    image: Image | CubekitError
    if set(wanted) == set(given) and scenes_of(pass_) == wanted:
        (image,) = read_all([pass_], target)
    else:
        image = _extend(path, pass_, slot, wanted, fresh, target)
    if isinstance(image, CubekitError):
        report.refused[_name(pass_)] = str(image)
        return
    row = rows([(pass_, image)], target, scenes=wanted)
    # `time` stays as first written: it is what users and derived groups know the pass by.
    row = row.drop_vars([name for name in row.variables if "time" not in row[name].dims] + ["time"])
    region = {"time": slice(slot.index, slot.index + 1)}
    store.commit(
        path,
        lambda zarr_store: row.to_zarr(zarr_store, group=store.PASSES, region=region, consolidated=False),
        f"replace pass {pass_.platform} {pass_.absolute_orbit}: {', '.join(given[scene].id for scene in fresh)}",
    )
    report.replaced += 1


def _extend(
    path: Path, pass_: Pass, slot: Slot, wanted: Mapping[str, Any], fresh: Sequence[str], target: Target
) -> Image | CubekitError:
    """Mosaic new scenes with the stored mosaic, of whose scenes some were not given again.

    Exact where all new scenes lie before, or all after, the stored ones; else the pixels of the stored mosaic would
    have to be told apart, and the pass is refused.
    """
    order = sorted(wanted, key=lambda scene: (wanted[scene]["start"], wanted[scene]["granule"]))
    stored_scenes, count = set(slot.scenes), len(slot.scenes)
    new_last, new_first = set(order[:count]) == stored_scenes, set(order[-count:]) == stored_scenes
    if stored_scenes & set(fresh) or not (new_last or new_first):
        missing = ", ".join(slot.scenes[scene]["granule"] for scene in slot.scenes if scene not in fresh)
        return CubeConflict(f"this pass was made of more scenes than were given; give {missing} again, too")
    scenes = tuple(scene for scene in pass_.scenes if scene.properties["cubekit:scene"] in fresh)
    image = try_read(replace(pass_, scenes=scenes), target)
    if isinstance(image, CubekitError):
        return image
    row = _open(path).isel(time=slot.index).load()
    bands = np.stack([row[name].values for name in target.attrs["polarisations"]])
    stored = Image(bands, row["mask"].values, (float(row["grid_offset_x"]), float(row["grid_offset_y"])))
    return merge(stored, image) if new_last else merge(image, stored)


def _superseded(items: Iterable[pystac.Item], passes: Iterable[Pass]) -> dict[str, str]:
    """Products that lost against a newer processing of the same scene, with the name of that."""
    kept = {scene.properties["cubekit:scene"]: scene.id for pass_ in passes for scene in pass_.scenes}
    return {i.id: kept[i.properties["cubekit:scene"]] for i in items if kept[i.properties["cubekit:scene"]] != i.id}


def _version(pass_: Pass) -> str:
    """What of a pass was there: another processing or another layer makes another one."""
    layers = sorted({layer for scene in pass_.scenes for layer in scene.assets})
    return f"{pass_.processed.isoformat()} {' '.join(layers)}"


def _name(pass_: Pass) -> str:
    return " + ".join(pass_.granules)


def _open(path: Path) -> xr.Dataset:
    with store.readable(path):
        opened: xr.Dataset = xr.open_zarr(store.read_store(path), group=store.PASSES, consolidated=False, chunks=None)
    return opened


def _silent(count: int) -> None:
    """Progress that is not shown."""
