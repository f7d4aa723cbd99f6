"""Make cubekit/data/lakes.geojson: outlines, areas of interest and lattice corners of the four lakes of the paper.

Outlines of Tsho Rolpa, Chamlang Tsho and Tilicho are ICIMOD's of 2020 (HKHLAKEDB, CC0). Gokyo is not in that
inventory: its shore is drawn here from Copernicus Sentinel-1 gamma0, as the contour half way (in linear power) between
lake and shore on the summer means of three tracks.

Run: python analyses/catalogue.py OUTLINES.geojson GOKYO_SCENES_DIR
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pyproj
import rasterio
import shapely
from shapely.geometry import LineString, Polygon, box, mapping, shape
from skimage.measure import find_contours

TARGET = Path(__file__).parent.parent / "cubekit" / "data" / "lakes.geojson"

LAKES = {
    # id: title, altitude, EPSG, the paper's Table 1, margins (west, south, east, north) of the AOI in metres
    "tsho_rolpa": ("Tsho Rolpa", 4580, 32645, (27 + 52 / 60, 86 + 28 / 60), (300, 400, 800, 300)),
    "chamlang_tsho": ("Chamlang Tsho", 4890, 32645, (27 + 46 / 60, 86 + 58 / 60), (300, 300, 300, 300)),
    "tilicho": ("Tilicho", 4919, 32644, (28 + 41 / 60, 83 + 51 / 60), (300, 300, 300, 300)),
    "gokyo": ("Gokyo (Dudh Pokhari)", 4750, 32645, (27 + 57 / 60, 86 + 42 / 60), (250, 250, 250, 250)),
}
# Upper left corners of the lattices at 20 and 30 m: centred on encyclopaedia coordinates, then shifted. Tsho Rolpa's
# lies 480 m further east (it grows up-glacier), Gokyo's and Tilicho's are centred on the outlines.
CORNERS = {
    "tsho_rolpa": {20: (446240, 3084640), 30: (444960, 3085920)},
    "chamlang_tsho": {20: (493500, 3072620), 30: (492210, 3073890)},
    "tilicho": {20: (776180, 3179720), 30: (774900, 3180990)},
    "gokyo": {20: (466980, 3094460), 30: (465690, 3095730)},
}


def transform(geometry, function):
    """Apply a projection of pyproj to a geometry."""
    return shapely.transform(geometry, function, interleaved=False)


def gokyo(folder: Path) -> Polygon:
    """The shore of Gokyo in UTM 45N, from open-water months of the scenes in a folder."""
    tracks: dict[str, list[np.ndarray]] = {}
    for path in sorted(folder.glob("*.tif")):
        month, hour = int(path.name[11:13]), path.name[16:20]
        with rasterio.open(path) as dataset:
            power, affine = dataset.read(1, masked=True).filled(np.nan), dataset.transform
        if 6 <= month <= 10 and np.isfinite(power).mean() > 0.9:
            tracks.setdefault(hour[:2] + ("a" if hour < "1218" else "b"), []).append(power)
    water_share = []
    for scenes in tracks.values():
        mean = np.nanmean(scenes, axis=0)
        decibel = 10 * np.log10(mean)
        centre, rim = np.nanpercentile(decibel, 20), np.nanmedian(decibel)
        dark, bright = np.nanmean(mean[decibel < centre]), np.nanmedian(mean[decibel > rim])
        water_share.append(np.clip((bright - mean) / (bright - dark), 0, 1))
    share = np.nan_to_num(np.mean(water_share, axis=0))
    longest = max(find_contours(share, 0.5), key=lambda ring: Polygon(ring).area)
    rows, columns = longest.T + 0.5
    shore = Polygon([affine * (column, row) for row, column in zip(rows, columns, strict=True)])
    return shapely.simplify(shore.buffer(0), 4.0)


def main(outlines: Path, scenes: Path) -> None:
    """Write the catalogue."""
    known = {
        feature["properties"]["lake"]: shape(feature["geometry"])
        for feature in json.loads(outlines.read_text())["features"]
        if feature["properties"]["inventory_year"] == 2020
    }
    features = []
    for name, (title, altitude, epsg, printed, margins) in LAKES.items():
        there = pyproj.Transformer.from_crs("OGC:CRS84", epsg, always_xy=True).transform
        back = pyproj.Transformer.from_crs(epsg, "OGC:CRS84", always_xy=True).transform
        outline = transform(gokyo(scenes), back) if name == "gokyo" else known[title]
        left, bottom, right, top = transform(outline, there).bounds
        around = box(left - margins[0], bottom - margins[1], right + margins[2], top + margins[3])
        aoi = box(*(round(value, 4) for value in transform(LineString(around.exterior), back).bounds))
        print(f"{name}: {transform(outline, there).area / 1e6:.3f} km2, AOI {aoi.bounds}")
        credit = "drawn from Copernicus Sentinel-1" if name == "gokyo" else "ICIMOD HKHLAKEDB 2020 (CC0)"
        properties = {
            "id": name,
            "title": title,
            "altitude": altitude,
            "epsg": epsg,
            "paper_coordinates": [round(value, 4) for value in printed],
            "corners": {str(spacing): corner for spacing, corner in CORNERS[name].items()},
            "credit": credit,
        }
        outline = shapely.set_precision(outline, 1e-6)
        features.append({"type": "Feature", "properties": properties, "geometry": mapping(outline)})
        features.append({"type": "Feature", "properties": {"id": name, "role": "aoi"}, "geometry": mapping(aoi)})
    lines = ",\n".join(json.dumps(feature) for feature in features)
    TARGET.write_text(f'{{"type": "FeatureCollection", "features": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
