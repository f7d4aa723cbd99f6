"""Areas as CSV and outlines as GeoJSON: what leaves cubekit, whole files only."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyproj
import shapely
import xarray as xr
from dask.base import compute

from cubekit.errors import ConfigError, SourceError
from cubekit.files import replacing
from cubekit.lakes import Lake
from cubekit.passes import PLATFORMS
from cubekit.series._water import check, lake_water, masks, polygons, window
from cubekit.series.area import STATES, lake_area

if TYPE_CHECKING:
    from affine import Affine

COLUMNS = (
    "lake",
    "time",
    "track",
    "platform",
    "area_km2",
    "area_low",
    "area_high",
    "area_subpixel_km2",
    "observed_fraction",
    "state",
    "granules",
)
"""Columns of an areas CSV, in order."""

_NUMBERS = ("area_km2", "area_low", "area_high", "area_subpixel_km2", "observed_fraction")
_TEXTS = ("lake", "platform", "state", "granules")

DECIMALS = 7
"""Of longitude and latitude in GeoJSON, degrees: 1 cm."""


def write_csv(area: xr.Dataset | Mapping[str, xr.Dataset], path: str | Path) -> Path:
    """Write areas as CSV, one row a pass.

    Parameters
    ----------
    area
        What `lake_area` returns, or a mapping from lake id to that for several lakes in one file. Computed here, all
        together, if it is lazy.
    path
        Written under another name and then renamed, so that a reader sees the old file or the new one.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ConfigError
        When a variable or one of the coordinates ``track`` and ``platform`` is absent, a code has no word, or a
        mapping's id is not the one in the attrs.

    Notes
    -----
    Columns: lake, time (UTC, ``2021-07-21T00:11:35Z``), track, platform (``sentinel-1a``), area_km2, area_low,
    area_high, area_subpixel_km2, observed_fraction, state (a word), granules (a JSON list). Numbers are written so that
    they are read back bit for bit. What is missing is an empty cell, never 0. Rows are in the order of the Dataset.
    """
    lakes = {_id(area): area} if isinstance(area, xr.Dataset) else dict(area)
    for name, dataset in lakes.items():
        _check_area(name, dataset)
    computed: tuple[xr.Dataset, ...] = compute(*lakes.values())
    target = Path(path)
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, dataset in zip(lakes, computed, strict=True):
            writer.writerows(_rows(name, dataset))
    return target


def read_csv(path: str | Path) -> pd.DataFrame:
    """Read what `write_csv` wrote.

    Parameters
    ----------
    path
        An areas CSV.

    Returns
    -------
    pandas.DataFrame
        The same columns: time as UTC timestamps, areas and observed_fraction float64 with NaN where missing, track an
        integer (a string where tracks of several sensors are mixed, e.g. ``S2-R019``), granules lists of names or None,
        the others strings.

    Raises
    ------
    SourceError
        When the file is not there, or not such a CSV.
    """
    try:
        table = pd.read_csv(
            path,
            dtype={**dict.fromkeys(_NUMBERS, "float64"), **dict.fromkeys(_TEXTS, "object")},
            # A lake may be called "nan" or "null": only an empty cell is missing.
            keep_default_na=False,
            na_values=[""],
            float_precision="round_trip",
            encoding="utf-8",
        )
        if tuple(table.columns) != COLUMNS:
            msg = f"{path} has the columns {', '.join(table.columns)}; an areas CSV has {', '.join(COLUMNS)}"
            raise SourceError(msg)
        table["time"] = pd.to_datetime(table["time"], format="ISO8601", utc=True)
        names = [json.loads(cell) if isinstance(cell, str) else None for cell in table["granules"]]
        table["granules"] = pd.Series(names, index=table.index, dtype=object)
    except (OSError, ValueError) as error:
        msg = f"{path} can't be read as an areas CSV ({type(error).__name__}: {error}); make it with write_csv"
        raise SourceError(msg) from error
    return table


def outlines(probability: xr.DataArray, lake: Lake, *, threshold: float = 0.5) -> dict[str, Any]:
    """Shores of a lake at every pass, as GeoJSON.

    Parameters
    ----------
    probability, lake, threshold
        As for `lake_area`.

    Returns
    -------
    dict
        A FeatureCollection in WGS84 (RFC 7946: longitude first, outer rings counter-clockwise, 7 decimals). One
        feature a pass, in order: a MultiPolygon along the pixels that `lake_area` counts, islands as holes, and the
        properties lake, time, track, platform, area_km2, granules (a list). The geometry is null when the pass has no
        water or nothing was observed; then area_km2 is 0 or null.

    Raises
    ------
    ConfigError, GridMismatch, LakeError
        As `lake_area`; ConfigError also when ``track`` or ``platform`` is absent.

    Notes
    -----
    Computes, chunk by chunk along time, so no more than a chunk of probabilities is in memory at once.
    """
    return {"type": "FeatureCollection", "features": list(_features(probability, lake, threshold))}


def write_outlines(probability: xr.DataArray, lake: Lake, path: str | Path, *, threshold: float = 0.5) -> Path:
    """Write `outlines` to a GeoJSON file, one feature a line.

    Parameters
    ----------
    probability, lake, threshold
        As for `outlines`.
    path
        Written under another name and then renamed. Features are written as they are made, none is kept in memory.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ConfigError, GridMismatch, LakeError
        As `outlines`; the file is then as it was before.
    """
    target = Path(path)
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8") as file:
        file.write('{"type": "FeatureCollection", "features": [')
        for index, feature in enumerate(_features(probability, lake, threshold)):
            file.write((",\n" if index else "\n") + json.dumps(feature, allow_nan=False))
        file.write("\n]}\n")
    return target


def _features(probability: xr.DataArray, lake: Lake, threshold: float) -> Iterator[dict[str, Any]]:
    check(probability, threshold)
    rows, columns = window(probability, lake)
    zone, outline = masks(lake, rows, columns)
    transform = lake.lattice[rows, columns].transform
    to_degrees = pyproj.Transformer.from_crs(f"EPSG:{lake.epsg}", "OGC:CRS84", always_xy=True)
    start = 0
    for length in probability.chunksizes.get("time", (1,) * probability.sizes["time"]):
        stack = probability.isel(time=slice(start, start + length)).transpose("time", "y", "x").compute()
        areas = lake_area(stack, lake, threshold=threshold)
        _check_area(lake.id, areas)
        for step, row in enumerate(_rows(lake.id, areas)):
            water = lake_water(stack.to_numpy()[step], zone, outline, threshold)
            yield {
                "type": "Feature",
                "geometry": _geometry(water, transform, to_degrees),
                "properties": _properties(dict(zip(COLUMNS, row, strict=True))),
            }
        start += length


def _geometry(water: np.ndarray, transform: Affine, to_degrees: pyproj.Transformer) -> dict[str, Any] | None:
    if not water.any():
        return None

    def degrees(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, ...]:
        return tuple(np.round(values, DECIMALS) for values in to_degrees.transform(x, y))

    # Its stub knows no function of two arrays.
    projected = shapely.transform(polygons(water, transform), degrees, interleaved=False)  # type: ignore[arg-type]
    geometry: dict[str, Any] = json.loads(shapely.to_geojson(shapely.orient_polygons(projected)))
    return geometry


def _properties(row: dict[str, Any]) -> dict[str, Any]:
    kept = {name: row[name] for name in ("lake", "time", "track", "platform", "area_km2")}
    area, granules = kept["area_km2"], row["granules"]
    return {**kept, "area_km2": None if area == "" else area, "granules": json.loads(granules) if granules else None}


def _id(area: xr.Dataset) -> str:
    if "lake" not in area.attrs:
        msg = "the areas have no attribute 'lake'; give what lake_area returns, or a mapping from lake id to it"
        raise ConfigError(msg)
    return str(area.attrs["lake"])


def _check_area(name: str, area: xr.Dataset) -> None:
    needed = {*_NUMBERS, "time", "track", "platform", "state"}
    if absent := sorted(needed - set(area.variables)):
        msg = f"areas of lake {name!r} lack {', '.join(absent)}; give what lake_area returns for passes of a cube"
        raise ConfigError(msg)
    if _id(area) != name:
        msg = f"areas of lake {_id(area)!r} are given under the id {name!r}; use the lake's own id as the key"
        raise ConfigError(msg)


def _rows(name: str, area: xr.Dataset) -> Iterator[tuple[Any, ...]]:
    """Cells as written, '' for missing: Python's own numbers, whose repr reads back bit for bit."""
    times = (pd.Timestamp(time).isoformat() + "Z" for time in area["time"].to_numpy())
    tracks = area["track"].to_numpy().tolist()
    platforms = _words(area["platform"], PLATFORMS)
    numbers = [[value if value == value else "" for value in area[column].to_numpy().tolist()] for column in _NUMBERS]  # noqa: PLR0124
    states = _words(area["state"], STATES)
    granules = area["granules"].to_numpy().tolist() if "granules" in area.variables else [""] * area.sizes["time"]
    return zip([name] * area.sizes["time"], times, tracks, platforms, *numbers, states, granules, strict=True)


def _words(codes: xr.DataArray, words: tuple[str, ...]) -> list[str]:
    values = codes.to_numpy()
    if values.dtype.kind in "OU" and all(isinstance(value, str) for value in values.tolist()):
        return [str(value) for value in values.tolist()]  # names already, as of optical sensors
    if values.dtype.kind not in "iu" or (values.size and not 0 <= values.min() <= values.max() < len(words)):
        given = ", ".join(str(value) for value in np.unique(values).tolist())
        msg = f"{codes.name} holds {given}; allowed are the codes 0 to {len(words) - 1} ({', '.join(words)})"
        raise ConfigError(msg)
    return [words[value] for value in values]
