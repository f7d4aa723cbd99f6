"""From passes and their images to what a cube stores, and back."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from odc.geo.geobox import GeoBox

from cubekit.cube.read import Image
from cubekit.cube.schema import CONVENTIONS, DIRECTIONS, MASK_ATTRS, SCHEMA_VERSION, TIME_ATTRS
from cubekit.errors import CubeConflict, GridMismatch
from cubekit.lakes import LATTICE_PIXELS, Lake
from cubekit.passes import Pass

STRICT_SOURCES = ("opera", "simulated")
"""Sources whose grid is known to be the lattice's: another one is a mistake, refused unless strict_grid is False."""

Key = tuple[int, int]

FINGERPRINT = (
    "schema",
    "lake",
    "epsg",
    "spacing",
    "corner",
    "source",
    "speckle_filter",
    "looks",
    "polarisations",
    "resampling",
)


@dataclass(frozen=True)
class Target:
    """What every pass of a cube shares; stored as its attributes."""

    lattice: GeoBox
    attrs: Mapping[str, Any]
    resampling: str
    strict: bool


Scenes = dict[str, dict[str, Any]]
"""Scenes of a pass: granule, start, processing time and layers of each."""


@dataclass(frozen=True)
class Slot:
    """A stored pass: where it is, and the scenes it was made of."""

    index: int
    scenes: Scenes


def rows(usable: Sequence[tuple[Pass, Image]], target: Target, scenes: Mapping[str, Any] | None = None) -> xr.Dataset:
    """Passes as they are stored: one row each.

    Parameters
    ----------
    usable
        Passes and their images.
    target
        What the cube's passes share.
    scenes
        For a pass of which more scenes are known than were given, `scenes_of` of all.
    """
    now = np.datetime64(datetime.now(UTC).replace(tzinfo=None), "s")
    per_pass = [scenes or scenes_of(pass_) for pass_, _ in usable]

    def stamp(time: datetime | str) -> Any:
        time = datetime.fromisoformat(time) if isinstance(time, str) else time
        utc = time if time.tzinfo is None else time.astimezone(UTC)
        seconds = np.datetime64(utc.replace(tzinfo=None), "s")
        return np.asarray(seconds).astype("datetime64[ns]")[()]

    columns: dict[str, Any] = {
        "time": [stamp(pass_.time) for pass_, _ in usable],
        "track": np.array([pass_.track for pass_, _ in usable], "int16"),
        "absolute_orbit": np.array([pass_.absolute_orbit for pass_, _ in usable], "int32"),
        "platform": np.array([pass_.key[0] for pass_, _ in usable], "int8"),
        "orbit_direction": np.array([DIRECTIONS.index(pass_.direction) for pass_, _ in usable], "int8"),
        # As objects: xarray writes them with Zarr's variable-length string type, which every reader knows.
        "granules": np.array([json.dumps(sorted({s["granule"] for s in k.values()})) for k in per_pass], object),
        "scenes": np.array([json.dumps(known, sort_keys=True) for known in per_pass], object),
        "processed": [stamp(max(s["processed"] for s in known.values())) for known in per_pass],
        "ingested": np.full(len(usable), now.astype("datetime64[ns]")),
        "grid_offset_x": np.array([image.offset[0] for _, image in usable], "float32"),
        "grid_offset_y": np.array([image.offset[1] for _, image in usable], "float32"),
    }
    coords = {name: ("time", column, TIME_ATTRS[name]) for name, column in columns.items()}
    rasters = ("time", "y", "x")
    bands = np.stack([image.bands for _, image in usable], axis=1)
    variables: dict[str, Any] = {name: (rasters, bands[i]) for i, name in enumerate(target.attrs["polarisations"])}
    variables["mask"] = (rasters, np.stack([image.mask for _, image in usable]), MASK_ATTRS)
    made = xr.Dataset(variables, coords={**coords, **grid(target.lattice)}, attrs=dict(target.attrs))
    for name in variables:
        made[name].attrs["grid_mapping"] = "spatial_ref"
    return made


def grid(lattice: GeoBox) -> dict[Any, xr.DataArray]:
    """Axes and grid mapping of a lattice."""
    from odc.geo.xr import xr_coords

    return dict(xr_coords(lattice, crs_coord_name="spatial_ref"))


def scenes_of(pass_: Pass, slot: Slot | None = None) -> Scenes:
    """The scenes a pass is to be made of: those given and those stored, the newest processing of each.

    Of one processing the one with more layers: a mask that was not there yet may come later.
    """
    scenes = dict(slot.scenes) if slot else {}
    for item in pass_.scenes:
        name, layers = str(item.properties["cubekit:scene"]), sorted(item.assets)
        processed = str(item.properties["processing:datetime"])
        known = scenes.get(name)
        if known is None or (processed, len(layers)) > (known["processed"], len(known["layers"])):
            start = item.datetime.isoformat() if item.datetime else ""
            scenes[name] = {"granule": item.id, "start": start, "processed": processed, "layers": layers}
    return scenes


def slots(stored: xr.Dataset) -> dict[Key, Slot]:
    """Stored passes by their key."""
    columns = (stored[name].values.tolist() for name in ("platform", "absolute_orbit", "scenes"))
    return {
        (platform, orbit): Slot(index, json.loads(scenes))
        for index, (platform, orbit, scenes) in enumerate(zip(*columns, strict=True))
    }


def attributes(lake: Lake, passes: Sequence[Pass], resampling: str, polarisations: Sequence[str]) -> dict[str, Any]:
    """Attributes of a cube: of its lake, its lattice and its source."""
    from cubekit import __version__

    assert lake.corner is not None  # set by Lake
    return {
        "Conventions": CONVENTIONS,
        "title": f"Sentinel-1 gamma0 backscatter of {lake.title}",
        "schema": SCHEMA_VERSION,
        "lake": lake.id,
        "lake_title": lake.title,
        "epsg": lake.epsg,
        "spacing": lake.spacing,
        "corner": list(lake.corner),
        "resampling": resampling,
        "polarisations": list(polarisations),
        "cubekit_version": __version__,
        "empty_passes": "{}",
        **source_attributes(passes),
    }


def source_attributes(passes: Sequence[Pass]) -> dict[str, Any]:
    """What all scenes of a cube must agree on."""
    attrs: dict[str, Any] = {}
    scenes = [scene for pass_ in passes for scene in pass_.scenes]
    for name in ("source", "speckle_filter", "spacing", "looks"):
        values = sorted({scene.properties.get(f"cubekit:{name}") for scene in scenes}, key=str)
        if len(values) > 1:
            one = ", ".join(f"{value!r}" for value in values)
            msg = f"the scenes differ in their {name}: {one}; a cube holds one, so give them one at a time"
            raise CubeConflict(msg)
        attrs[name] = values[0]
    spacing = attrs.pop("spacing")
    return attrs | {"product_spacing": spacing}


def target_of(attrs: Mapping[str, Any], strict_grid: bool | None) -> Target:
    """The target that a cube's attributes describe."""
    if attrs["product_spacing"] != attrs["spacing"]:
        product, lattice = attrs["product_spacing"], attrs["spacing"]
        msg = (
            f"the scenes have pixels of {product} m, the lattice of {attrs['lake']} of {lattice} m; "
            f"use the lake's lattice of {product} m: lake.at_spacing({product})"
        )
        raise GridMismatch(msg)
    left, top = attrs["corner"]
    reach = LATTICE_PIXELS * attrs["spacing"]
    lattice = GeoBox.from_bbox(
        (left, top - reach, left + reach, top), crs=f"EPSG:{attrs['epsg']}", resolution=attrs["spacing"], tight=True
    )
    strict = attrs["source"] in STRICT_SOURCES if strict_grid is None else strict_grid
    return Target(lattice, attrs, str(attrs["resampling"]), strict)


def check_fingerprint(path: Path, stored: Mapping[str, Any], requested: Mapping[str, Any]) -> None:
    """Refuse passes of another kind than those stored, naming every field that differs."""
    differing = [
        f"{name}: stored {stored.get(name)!r}, requested {requested.get(name)!r}"
        for name in FINGERPRINT
        if stored.get(name) != requested.get(name)
    ]
    if differing:
        msg = f"the cube at {path} is of another kind ({'; '.join(differing)}); nothing was written: use another root"
        raise CubeConflict(msg)
