"""Masks on disk and where they come from: who drew what, when, on which scene, and whether it is still so."""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd

import cubekit
from cubekit.errors import ConfigError, LakeError, SourceError
from cubekit.files import replacing
from cubekit.segmentation.labels import Label, chip_grid, rasterize_label, read_labels

COLUMNS = (
    "mask",
    "chip",
    "lake",
    "time",
    "who",
    "when",
    "granules",
    "label_file",
    "layer",
    "mask_sha256",
    "chip_sha256",
    "label_sha256",
    "cubekit",
)
"""Columns of a provenance table. Paths are relative to its folder; ``granules`` is a JSON list; ``label_sha256`` is of
the polygons (`Label.sha256`), since QGIS changes the bytes of a GeoPackage by opening it."""

TABLE = "provenance.csv"
"""Name of the table in a folder of masks."""

_TIME = re.compile(r"\d{8}T\d{6}")


def write_masks(
    labels: Iterable[Label], chips: str | Path, folder: str | Path, *, lake: str, who: str | None = None
) -> Path:
    """Write the masks of a lake's chips, and the table of where each comes from.

    Parameters
    ----------
    labels
        From `read_labels`; those of other lakes are passed over.
    chips
        Folder of the chips that were drawn on; their names hold the time of the pass, ``20210122T001130``. A table
        ``<lake>_chips.csv`` beside them names their granules.
    folder
        Where masks go, under the names of their chips: uint8, 1 water, 0 land, on the chip's grid.
    lake
        The lake the chips show.
    who
        Who drew; by default what the column ``who`` of the vector file says.

    Returns
    -------
    pathlib.Path
        The table, ``provenance.csv`` in `folder`. Rows of masks that are written anew are replaced, others stay.

    Raises
    ------
    ConfigError
        When a label has no chip of its time, or gives a day only on which there are several passes, or nobody is named.
    SourceError
        When a chip can't be read, or the table there is no such table.

    Notes
    -----
    Masks are written first, the table last, each under another name and then renamed.
    """
    import rasterio

    chips, folder = Path(chips), Path(folder)
    times = {path: match[0] for path in sorted(chips.glob("*.tif")) if (match := _TIME.search(path.name))}
    scenes = _granules(chips / f"{lake}_chips.csv")
    rows = {} if not (folder / TABLE).exists() else {row["mask"]: row for row in _rows(folder / TABLE)}
    used: set[Path] = set()
    when = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    for label in labels:
        if label.lake != lake:
            continue
        author = who or label.who
        if not author:
            msg = f"nobody is named for the label of {lake} at {label.time}; fill the column 'who', or give who="
            raise ConfigError(msg)
        chip = _chip(label, times, chips)
        if chip in used:
            msg = f"two labels of {lake} are for the chip {chip.name}; keep one, or correct its date"
            raise ConfigError(msg)
        used.add(chip)
        grid = chip_grid(chip)
        mask = rasterize_label(label, grid).to_numpy().astype(np.uint8)
        profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "compress": "deflate", "nbits": 1}
        profile |= {"height": grid.shape[0], "width": grid.shape[1], "transform": grid.transform}
        profile |= {"crs": str(grid.crs)}
        target = folder / chip.name
        with replacing(target) as temporary, rasterio.open(temporary, "w", **profile) as file:
            file.write(mask, 1)
        rows[target.name] = {
            "mask": target.name,
            "chip": _relative(chip, folder),
            "lake": lake,
            "time": f"{label.time}Z"[:10] if label.whole_day else f"{label.time}Z",
            "who": author,
            "when": when,
            "granules": scenes.get(chip.name, "[]"),
            "label_file": _relative(label.file, folder),
            "layer": label.layer,
            "mask_sha256": _sha256(target),
            "chip_sha256": _sha256(chip),
            "label_sha256": label.sha256,
            "cubekit": str(cubekit.__version__),
        }
    with replacing(folder / TABLE) as temporary, temporary.open("w", encoding="utf-8", newline="") as table:
        writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows[name] for name in sorted(rows))
    return folder / TABLE


def read_provenance(path: str | Path) -> pd.DataFrame:
    """Read a provenance table.

    Returns
    -------
    pandas.DataFrame
        Columns `COLUMNS`, all text but ``granules``, which holds lists of names.

    Raises
    ------
    SourceError
        When the file is not there, or not such a table.
    """
    table = pd.DataFrame(_rows(Path(path)), columns=list(COLUMNS), dtype=object)
    try:
        table["granules"] = pd.Series([json.loads(cell) for cell in table["granules"]], dtype=object)
    except ValueError as error:
        msg = f"{path} has granules that are no JSON lists ({error}); make it with write_masks"
        raise SourceError(msg) from error
    return table


def verify_provenance(path: str | Path, *, lake_column: str = "lake", date_column: str = "date") -> pd.DataFrame:
    """Find masks that are no longer what the table says.

    Parameters
    ----------
    path
        A provenance table, in its folder.
    lake_column, date_column
        As they were given to `read_labels`.

    Returns
    -------
    pandas.DataFrame
        One row for each thing that changed: ``mask``, ``part`` ("mask", "chip" or "label"), ``text``. Empty when every
        file still has its hash, and the polygons of every mask are still as they were drawn.

    Raises
    ------
    SourceError
        When the table can't be read.
    MissingExtra
        When polygons lie in a GeoPackage or Shapefile and pyogrio is absent.
    """
    path = Path(path)
    folder = path.parent
    changed: list[tuple[str, str, str]] = []
    drawn: dict[tuple[str, str], set[str] | str] = {}
    for row in _rows(path):
        for part in ("mask", "chip"):
            file = folder / row[part]
            if not file.is_file():
                changed.append((row["mask"], part, f"{row[part]} is not there"))
            elif _sha256(file) != row[f"{part}_sha256"]:
                changed.append((row["mask"], part, f"{row[part]} has changed since {row['when']}"))
        key = row["label_file"], row["lake"]
        if key not in drawn:
            drawn[key] = _drawn(folder / key[0], key[1], lake_column, date_column)
        hashes = drawn[key]
        if isinstance(hashes, str):
            changed.append((row["mask"], "label", hashes))
        elif row["label_sha256"] not in hashes:
            text = f"the polygons of {row['time']} in {row['label_file']} have changed since {row['when']}"
            changed.append((row["mask"], "label", text))
    return pd.DataFrame(changed, columns=["mask", "part", "text"])


def _drawn(file: Path, lake: str, lake_column: str, date_column: str) -> set[str] | str:
    """Hashes of the labels of a file, or why there are none."""
    try:
        return {
            label.sha256 for label in read_labels(file, lake=lake, lake_column=lake_column, date_column=date_column)
        }
    except (SourceError, LakeError) as error:
        return str(error)


def _chip(label: Label, times: dict[Path, str], chips: Path) -> Path:
    stamp = str(label.time).replace("-", "").replace(":", "")
    length = 8 if label.whole_day else 15
    found = [path for path, time in times.items() if time[:length] == stamp[:length]]
    if len(found) == 1:
        return found[0]
    if not found:
        msg = f"the label of {label.lake} at {stamp[:length]} has no chip of that time in {chips}; correct its date"
    else:
        names = ", ".join(path.name for path in found)
        msg = f"the label of {label.lake} at {stamp[:length]} fits {names}; give the time too, e.g. 2021-01-22T00:11:30"
    raise ConfigError(msg)


def _granules(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    with path.open(encoding="utf-8", newline="") as file:
        return {row["chip"]: row["granules"] for row in csv.DictReader(file)}


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        with path.open(encoding="utf-8", newline="") as file:
            reader = csv.DictReader(file)
            rows = list(reader)
            columns = tuple(reader.fieldnames or ())
    except (OSError, ValueError) as error:
        msg = f"{path} can't be read as a provenance table ({type(error).__name__}: {error}); make it with write_masks"
        raise SourceError(msg) from error
    if columns != COLUMNS:
        msg = f"{path} has the columns {', '.join(columns)}; a provenance table has {', '.join(COLUMNS)}"
        raise SourceError(msg)
    return rows


def _relative(path: Path, folder: Path) -> str:
    """Path from a folder, with / on every system."""
    return Path(os.path.relpath(path.resolve(), folder.resolve())).as_posix()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
