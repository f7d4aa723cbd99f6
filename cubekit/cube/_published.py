"""Whether a published Zarr is what its living cube says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cubekit.cube import store
from cubekit.cube._findings import Log, Remedy
from cubekit.cube.access import open_cube
from cubekit.cube.derived import open_water, water_models
from cubekit.cube.publish import on_times

PART = "published"


def check_published(log: Log, where: Path, link: Path) -> None:
    """Hold a published Zarr against the snapshot that it says it is of, and that against the newest."""

    def wrong(variable: str, problem: str) -> None:
        log.add(PART, variable, problem, Remedy.PUBLISH)

    if not store.is_published(link):
        wrong("", f"{link} is not there" if not link.is_symlink() else f"{link} points to nothing")
        return
    _check_metadata(log, link)
    made = log.try_read(lambda: open_cube(link), PART, "", Remedy.PUBLISH)
    if made is None:
        return
    name, newest = made.attrs.get("snapshot", ""), ""
    living: xr.Dataset | None = None
    models: list[str] = []
    with Log().unreadable(
        "", "", Remedy.NONE
    ):  # the living cube's faults are told already, or its snapshot has expired
        newest = store.history(where)[0].id
        living = open_cube(where, as_of=name)
        models = water_models(where, as_of=name)
    if name != newest:
        wrong("", f"is of snapshot {name or 'unknown'}, not of the newest, {newest or 'which is not known'}")
    groups: list[tuple[str, xr.Dataset | None]] = [("", living)]
    for model in models:
        with log.unreadable(PART, model, Remedy.PUBLISH):
            assert living is not None  # else there are no models
            groups.append((f"water/{model}", on_times(open_water(where, model, as_of=name), living)))
    for group, expected in groups:
        with log.unreadable(PART, group, Remedy.PUBLISH):
            _compare(log, open_cube(link, group=group) if group else made, expected, group)


def _check_metadata(log: Log, link: Path) -> None:
    """What is consolidated, which most read, must be what stands in each array's own file, which some read."""
    with log.unreadable(PART, "", Remedy.PUBLISH):
        root = json.loads((link / "zarr.json").read_bytes())
        for path, told in root["consolidated_metadata"]["metadata"].items():
            own = json.loads((link / path / "zarr.json").read_bytes())
            if own | {"consolidated_metadata": None} != told | {"consolidated_metadata": None}:
                log.add(PART, path, "its own metadata is not what is consolidated", Remedy.PUBLISH)


def _compare(log: Log, found: xr.Dataset, expected: xr.Dataset | None, group: str) -> None:
    """Read all, and hold it against what it was made of, where that can be read."""

    def wrong(variable: str, problem: str, **more: Any) -> None:
        log.add(PART, f"{group}/{variable}".strip("/"), problem, Remedy.PUBLISH, **more)

    own = {"snapshot", "history"}
    if expected is not None:
        for name in sorted((set(found.attrs) | set(expected.attrs)) - own):
            if repr(found.attrs.get(name)) != repr(expected.attrs.get(name)):
                wrong(name, "the attribute is not the living cube's")
        for name in map(str, {*expected.variables} - {*found.variables}):
            wrong(name, "is missing")
        for name in sorted(map(str, expected.coords)):
            same = name in found.coords and found[name].drop_encoding().identical(expected[name].drop_encoding())
            if not same:
                wrong(name, "is not the living cube's")
    for name in map(str, found.data_vars):
        for row in range(found.sizes["time"]):
            time = f"{found['time'].values[row]:}"[:19] + "Z"
            with log.unreadable(PART, f"{group}/{name}".strip("/"), Remedy.PUBLISH, time=time):
                values = found[name][row].values
                log.chunks += 1
                other = _other(expected, name, row)
                if other is not None and not np.array_equal(values, other, equal_nan=values.dtype.kind == "f"):
                    wrong(name, "is not the living cube's", time=time)


def _other(expected: xr.Dataset | None, name: str, row: int) -> Any:
    """The living cube's image, or None where it can't be read, which is told already."""
    if expected is None or name not in expected or row >= expected.sizes["time"]:
        return None
    return Log().try_read(lambda: expected[name][row].values, "", "", Remedy.NONE)
