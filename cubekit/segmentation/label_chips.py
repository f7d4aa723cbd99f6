"""Chips to label: GeoTIFFs with a QGIS style, and an empty layer to draw in."""

from __future__ import annotations

import csv
import hashlib
import json
from pathlib import Path
from shutil import copyfile
from tempfile import TemporaryDirectory
from typing import Literal, NamedTuple

import numpy as np
import xarray as xr

from cubekit.errors import ConfigError
from cubekit.files import replacing
from cubekit.lakes import Lake
from cubekit.preprocess.chips import write_chips
from cubekit.segmentation._vector import ogr

FIELDS = ("lake", "date", "who", "remark")
"""Columns of a template, all text: `read_labels` reads the first three."""

CHIP_COLUMNS = ("chip", "lake", "time", "track", "granules", "chip_sha256")
"""Columns of the table of chips."""

_STYLE = """<!DOCTYPE qgis PUBLIC 'http://mrcc.com/qgis.dtd' 'SYSTEM'>
<qgis version="3.28" styleCategories="AllStyleCategories">
  <pipe>
    <rasterrenderer type="singlebandgray" grayBand="1" gradient="BlackToWhite" opacity="1" alphaBand="-1">
      <rasterTransparency>
        <singleValuePixelList>
          <pixelListEntry min="0" max="0" percentTransparent="100"/>
        </singleValuePixelList>
      </rasterTransparency>
      <minMaxOrigin><limits>None</limits><extent>WholeRaster</extent></minMaxOrigin>
      <contrastEnhancement>
        <minValue>{low}</minValue>
        <maxValue>{high}</maxValue>
        <algorithm>StretchToMinimumMaximum</algorithm>
      </contrastEnhancement>
    </rasterrenderer>
    <brightnesscontrast brightness="0" contrast="0" gamma="1"/>
    <rasterresampler maxOversampling="2"/>
  </pipe>
  <blendMode>0</blendMode>
</qgis>
"""


class LabelSet(NamedTuple):
    """What `write_label_chips` wrote."""

    chips: list[Path]
    styles: list[Path]
    template: Path
    table: Path


def write_label_chips(
    chips: xr.DataArray, lake: Lake, folder: str | Path, *, template: Literal["gpkg", "geojson"] = "gpkg"
) -> LabelSet:
    """Write chips to draw labels on, so that QGIS shows them well and has a layer to draw in.

    Parameters
    ----------
    chips
        From `to_chips`, dims (time, y, x); with the coord ``granules`` along time, the table names the scenes.
    lake
        Their lake.
    folder
        Made when absent. Chips of the same names are replaced.
    template
        "gpkg": a GeoPackage in the lattice's CRS. "geojson": a GeoJSON in it; QGIS knows no columns of an empty one.

    Returns
    -------
    LabelSet
        The GeoTIFFs (as `write_chips`); a ``.qml`` style beside each (grey from its least to its largest value, 0
        transparent); ``<lake>_labels.gpkg`` with the empty polygon layer ``labels`` and the columns `FIELDS`;
        ``<lake>_chips.csv`` with `CHIP_COLUMNS`. A template that is there already is never touched: it may hold
        drawings.

    Raises
    ------
    ConfigError
        When the chips are another lake's, or not from `to_chips`, or `template` is another word.
    MissingExtra
        When "gpkg" is asked for and pyogrio is absent.

    Notes
    -----
    In QGIS: drag the chips and the template in, choose a chip, draw the lake in ``labels``, islands with "Add Ring";
    write the chip's date into ``date``, with its time where two passes share a day: 2021-01-22T00:11:30.
    """
    if template not in ("gpkg", "geojson"):
        msg = f"template is {template!r}; allowed are 'gpkg' and 'geojson'"
        raise ConfigError(msg)
    if chips.attrs.get("lake") != lake.id:
        msg = f"the chips are of lake {chips.attrs.get('lake')!r} and not {lake.id!r}; give to_chips this lake"
        raise ConfigError(msg)
    folder = Path(folder)
    drawing = folder / f"{lake.id}_labels.{template}"
    write_template = _geopackage if template == "gpkg" else _geojson
    if not drawing.exists():
        write_template(drawing, lake)
    files = write_chips(chips, folder)
    styles = [_style(path) for path in files]
    return LabelSet(files, styles, drawing, _table(folder / f"{lake.id}_chips.csv", files, chips, lake))


def _style(path: Path) -> Path:
    import rasterio

    with rasterio.open(path) as file:
        image = file.read(1)
    seen = image[image > 0]
    low, high = (int(seen.min()), int(seen.max())) if seen.size else (1, 255)
    target = path.with_suffix(".qml")
    with replacing(target) as temporary:
        temporary.write_text(_STYLE.format(low=low, high=high), encoding="utf-8")
    return target


def _table(path: Path, files: list[Path], chips: xr.DataArray, lake: Lake) -> Path:
    granules = np.asarray(chips["granules"].variable) if "granules" in chips.coords else ["[]"] * len(files)
    times = np.datetime_as_string(np.asarray(chips["time"].variable), "s")
    tracks = np.asarray(chips["track"].variable)
    with replacing(path) as temporary, temporary.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(CHIP_COLUMNS)
        for name, time, track, scenes in zip(files, times, tracks, granules, strict=True):
            digest = hashlib.sha256(name.read_bytes()).hexdigest()
            writer.writerow([name.name, lake.id, f"{time}Z", track, scenes, digest])
    return path


def _geopackage(path: Path, lake: Lake) -> None:
    pyogrio = ogr()
    # GDAL wants the right suffix, and its own temporary files beside it: finished elsewhere, then brought here whole.
    with TemporaryDirectory() as elsewhere, replacing(path) as temporary:
        pyogrio.raw.write(
            Path(elsewhere) / path.name,
            geometry=np.array([], dtype=object),
            field_data=[np.array([], dtype=object) for _ in FIELDS],
            fields=list(FIELDS),
            geometry_type="MultiPolygon",
            crs=f"EPSG:{lake.epsg}",
            layer="labels",
            driver="GPKG",
        )
        copyfile(Path(elsewhere) / path.name, temporary)


def _geojson(path: Path, lake: Lake) -> None:
    crs = {"type": "name", "properties": {"name": f"urn:ogc:def:crs:EPSG::{lake.epsg}"}}
    document = {"type": "FeatureCollection", "name": "labels", "crs": crs, "features": []}
    with replacing(path) as temporary:
        temporary.write_text(json.dumps(document) + "\n", encoding="utf-8")
