"""The model for OPERA's 30 m on real scenes: HyP3's crops averaged to 30 m, beside the hand-drawn masks.

No labelled OPERA scene of the study lakes is at hand. So the real crops (20 m, HyP3's filter applied) are averaged in
linear power onto each lake's 30 m lattice, filtered by `lee` with the looks that are left in them, equalised, and
segmented by `opera-30m`, which has seen neither a real scene nor a label. The masks (those put back on the crops' own
grid) are averaged alike; half a pixel of water is water. What OPERA's own processing would give is not tested by this.
The pond filed as `imjaTsho` has no outline in the catalogue and is left out.

Run: python analyses/real_at_30m.py [NPSAR] [--model NAME]; NPSAR defaults to $CUBEKIT_NPSAR.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np
import pandas as pd
import rioxarray
import xarray as xr
from odc.geo.xr import xr_reproject

from cubekit.lakes import Lake, catalogue
from cubekit.preprocess import equalize, equivalent_looks, prepare
from cubekit.segmentation import segment, shipped

FOLDERS = {"tshoRolpa": "tsho_rolpa", "gokyoTsho": "gokyo", "tilichoTsho": "tilicho"}


def averaged(path: Path, lake: Lake) -> xr.DataArray:
    """A raster's mean over the pixels of a lake's lattice, NaN where it has no data."""
    with rioxarray.open_rasterio(path, masked=True) as opened:
        values = opened.isel(band=0, drop=True).astype("float32").load()
    return xr_reproject(values, lake.lattice, resampling="average", dst_nodata=np.nan)


def passes_of(folder: Path, masks: Path, lake: Lake) -> tuple[xr.Dataset, xr.DataArray]:
    """Scenes as if OPERA had made them, and where the masks have water."""
    crops = {path.name.split("_VV")[0]: path for path in folder.glob("*.tif")}
    drawn = {path.name.split("_VV")[0]: path for path in masks.glob("*.tif")}
    names = sorted(crops.keys() & drawn.keys())
    power = [averaged(crops[name], lake) for name in names]
    water = [averaged(drawn[name], lake) for name in names]
    times = pd.to_datetime([name.split("_")[2] for name in names])
    power = [one.where(one > 0) for one in power]  # HyP3's nodata, where the file does not say so
    vv = xr.concat(power, "time").assign_coords(time=times).drop_vars("spatial_ref").astype("float32")
    attrs = {"source": "opera", "spacing": 30, "speckle_filter": "none", "polarisation": "vv"}
    mask = xr.where(vv.notnull(), np.uint8(0), np.uint8(255))
    found = xr.Dataset({"vv": vv.assign_attrs(attrs), "mask": mask}, attrs=attrs)
    return found, xr.concat(water, "time").assign_coords(time=times).drop_vars("spatial_ref") >= 0.5


def counts(lake: Lake, npsar: Path, folder: str, model: str) -> pd.DataFrame:
    """Pixels that are water in both, and in either, of each scene, beside the same of the outline alone."""
    passes, water = passes_of(npsar / "rtc" / folder, npsar / "masks_on_crop_grid" / folder, lake)
    calm = lake.outline_mask.copy(data=lake.outline_mask.values)
    looks = float(equivalent_looks(passes["vv"], calm).median())
    image = equalize(prepare(passes, lake, looks=looks))
    probability = segment(image, shipped.find(model), lake=lake)
    seen = image["observed"].values
    rows, columns = lake.aoi_window
    truth = water.values[:, rows, columns] & seen
    said = (probability.values >= probability.attrs["model_threshold"]) & seen
    outline = lake.outline_mask.values[rows, columns] & seen
    table = pd.DataFrame({"lake": lake.id, "time": passes["time"].values, "looks": looks})
    for name, found in (("model", said), ("outline", outline)):
        table[f"{name}_both"] = (truth & found).sum(axis=(1, 2))
        table[f"{name}_either"] = (truth | found).sum(axis=(1, 2))
    return table


def pooled(table: pd.DataFrame, name: str) -> float:
    """IoU over all pixels."""
    return float(table[f"{name}_both"].sum() / table[f"{name}_either"].sum())


def main(npsar: Path, model: str) -> None:
    """Print the pooled IoU of each lake and of all, with an interval by scenes."""
    known = catalogue()
    table = pd.concat([counts(known[name].at_spacing(30), npsar, folder, model) for folder, name in FOLDERS.items()])
    for name, one in [*table.groupby("lake"), ("all", table)]:
        random = np.random.default_rng(0)
        drawn = [pooled(one.iloc[random.integers(len(one), size=len(one))], "model") for _ in range(2000)]
        low, high = np.percentile(drawn, [2.5, 97.5])
        print(
            f"{name}: {len(one)} scenes, looks {one['looks'].mean():.0f}, {model} {pooled(one, 'model'):.3f} "
            f"({low:.3f} to {high:.3f}), the outline alone {pooled(one, 'outline'):.3f}"
        )


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("npsar", type=Path, nargs="?", default=os.environ.get("CUBEKIT_NPSAR"))
    parser.add_argument("--model", default="opera-30m")
    options = parser.parse_args()
    main(Path(options.npsar), options.model)
