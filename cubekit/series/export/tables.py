"""Areas as CSV and Parquet."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd
import xarray as xr
from dask.base import compute

from cubekit.errors import SourceError
from cubekit.files import replacing
from cubekit.series.export.rows import COLUMNS, NUMBERS, library, names, one_lake, rows

_ROW_GROUP = 100_000
"""Rows of Parquet that are held and written together."""

_UNITS = dict.fromkeys(NUMBERS[:4], "km2") | {"observed_fraction": "1"}


def write_csv(area: xr.Dataset | Mapping[str, xr.Dataset], path: str | Path) -> Path:
    """Write areas as CSV, one row a pass.

    Parameters
    ----------
    area
        What `lake_area` returns, or a mapping from lake id to that for several lakes in one file. Computed here, all
        together, if it is lazy. The attributes ``model_hash``, ``snapshot`` (of the cube) and ``config_hash`` (of the
        study), or coordinates along time of these names, go into every row.
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
    area_high, area_subpixel_km2, observed_fraction, state (a word), granules (a JSON list), snapshot, model_hash,
    config_hash. Numbers are written so that they are read back bit for bit. What is missing is an empty cell, never 0.
    Rows are in the order of the Dataset.
    """
    lakes = one_lake(area)
    computed: tuple[xr.Dataset, ...] = compute(*lakes.values())
    target = Path(path)
    with replacing(target) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(COLUMNS)
        for name, dataset in zip(lakes, computed, strict=True):
            writer.writerows(rows(name, dataset))
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
    texts = [name for name in COLUMNS if name not in {*NUMBERS, "time", "track"}]
    try:
        table = pd.read_csv(
            path,
            dtype={**dict.fromkeys(NUMBERS, "float64"), **dict.fromkeys(texts, "object")},
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
        lists = [names(cell) if isinstance(cell, str) else None for cell in table["granules"]]
        table["granules"] = pd.Series(lists, index=table.index, dtype=object)
    except (OSError, ValueError) as error:
        msg = f"{path} can't be read as an areas CSV ({type(error).__name__}: {error}); make it with write_csv"
        raise SourceError(msg) from error
    return table


def write_parquet(area: xr.Dataset | Mapping[str, xr.Dataset], path: str | Path) -> Path:
    """Write areas as Parquet: the columns of `write_csv` with their types.

    Parameters
    ----------
    area, path
        As for `write_csv`.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ConfigError
        As `write_csv`.
    MissingExtra
        When pyarrow is absent.

    Notes
    -----
    time is a timestamp in UTC (nanoseconds), track int32 (text where a track is a name), areas float64, granules a list
    of text, all else text; what is missing is null. Units stand in the metadata of the columns. Rows of a lake lie
    together, so that a filter on ``lake`` skips the others. ``pandas.read_parquet``, Polars, DuckDB and R read it.
    """
    arrow, parquet = (library(name, "parquet", "Parquet") for name in ("pyarrow", "pyarrow.parquet"))
    lakes = one_lake(area)
    computed: tuple[xr.Dataset, ...] = compute(*lakes.values())
    named = any(dataset["track"].dtype.kind not in "iu" for dataset in computed)
    schema = _schema(arrow, arrow.string() if named else arrow.int32())
    target = Path(path)
    with replacing(target) as temporary, parquet.ParquetWriter(temporary, schema) as writer:
        for group in _groups(rows(name, one) for name, one in zip(lakes, computed, strict=True)):
            columns = dict(zip(COLUMNS, zip(*group, strict=True), strict=True))
            stamps = pd.to_datetime(list(columns["time"]), format="ISO8601", utc=True).as_unit("ns")
            converted: dict[str, Any] = {"time": stamps, "granules": [names(cell) for cell in columns["granules"]]}
            if named:
                converted["track"] = [str(track) for track in columns["track"]]
            writer.write_table(arrow.table({**columns, **converted}, schema=schema))
    return target


def _groups(lakes: Iterator[Iterator[tuple[Any, ...]]]) -> Iterator[list[tuple[Any, ...]]]:
    """Rows in groups of at least `_ROW_GROUP`, no lake in two of them."""
    group: list[tuple[Any, ...]] = []
    for lake in lakes:
        group.extend(lake)
        if len(group) >= _ROW_GROUP:
            yield group
            group = []
    if group:
        yield group


def _schema(arrow: Any, track: Any) -> Any:
    types = dict.fromkeys(COLUMNS, arrow.string()) | dict.fromkeys(NUMBERS, arrow.float64())
    types |= {"time": arrow.timestamp("ns", "UTC"), "track": track, "granules": arrow.list_(arrow.string())}
    fields = [
        arrow.field(name, kind, metadata={"units": _UNITS[name]} if name in _UNITS else None)
        for name, kind in types.items()
    ]
    return arrow.schema(fields)
