"""Polygons become masks wherever and in whatever file they were drawn, and a table knows where each mask comes from."""

import csv
import json
import sys
import xml.etree.ElementTree as ET

import geopandas
import numpy as np
import pyproj
import pytest
import rasterio
import shapely
import xarray as xr
from odc.geo.geobox import GeoBox
from shapely.geometry import MultiPolygon, Point, Polygon, box

from cubekit.errors import ConfigError, LakeError, MissingExtra, SourceError
from cubekit.preprocess import to_chips
from cubekit.segmentation.label_chips import write_label_chips
from cubekit.segmentation.label_records import read_provenance, verify_provenance, write_masks
from cubekit.segmentation.labels import chip_grid, rasterize_label, read_labels

UTM = "EPSG:32645"
TIMES = np.array(["2021-01-22T00:11:30", "2021-01-22T12:22:20", "2021-07-21T00:11:35"], "datetime64[ns]")


@pytest.fixture(scope="module")
def lake(tsho_rolpa):
    return tsho_rolpa


@pytest.fixture(scope="module")
def shore(lake):
    """A lake of two basins, one with an island, in the lattice's CRS."""
    x, y = lake.project(lake.outline).centroid.coords[0]
    ring = Point(x, y).buffer(400).difference(Point(x + 37, y - 55).buffer(120))
    return MultiPolygon([ring, Point(x + 900, y + 300).buffer(150)])


def frame(geometries, crs=UTM, **columns):
    return geopandas.GeoDataFrame(columns, geometry=geometries, crs=crs)


def brute(geometry, geobox, subpixels=1):
    """Share of a pixel's sub-pixel centres that lie inside, point by point."""
    steps = (np.arange(subpixels) + 0.5) / subpixels
    rows, columns = geobox.shape
    row, column = np.meshgrid(
        (np.arange(rows)[:, None] + steps).ravel(), (np.arange(columns)[:, None] + steps).ravel(), indexing="ij"
    )
    x = geobox.transform.c + geobox.transform.a * column
    y = geobox.transform.f + geobox.transform.e * row
    shapely.prepare(geometry)
    inside = shapely.contains_xy(geometry, x, y)
    return inside.reshape(rows, subpixels, columns, subpixels).mean(axis=(1, 3))


# ---- reading -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["gpkg", "geojson", "shp"])
@pytest.mark.parametrize("crs", [UTM, "EPSG:4326", "EPSG:32644", "EPSG:3857"])
def test_the_mask_is_the_same_from_every_format_and_crs(tmp_path, lake, shore, suffix, crs):
    """Only pixels that a re-projected shore cuts within 2 cm of their centre may differ."""
    drawn = frame([shore], date=["2021-01-22"], lake=["tsho_rolpa"]).to_crs(crs)
    path = tmp_path / f"drawn.{suffix}"
    drawn.to_file(path)
    (label,) = read_labels(path)
    assert (label.lake, label.time, label.whole_day) == ("tsho_rolpa", np.datetime64("2021-01-22", "s"), True)
    mask = rasterize_label(label, lake)
    expected = lake.rasterize(shore)
    near = lake.rasterize(shore.boundary.buffer(0.5))
    np.testing.assert_array_equal(mask.values | near.values, expected.values | near.values)
    assert mask.dtype == bool
    assert near.values.sum() < 40 < expected.values.sum()


def test_a_mask_is_by_pixel_centre_and_keeps_its_island(lake, shore, tmp_path):
    """The mask equals a brute force over pixel centres, on the lattice and on a shifted grid."""
    frame([shore], date=["2021-01-22"]).to_file(tmp_path / "a.gpkg")
    (label,) = read_labels(tmp_path / "a.gpkg", lake="tsho_rolpa")
    shifted = GeoBox((90, 110), lake.lattice.transform * lake.lattice.transform.translation(75.3, 81.7), UTM)
    for grid in (lake.lattice, shifted):
        np.testing.assert_array_equal(rasterize_label(label, grid).values, brute(shore, grid) > 0.5)
    hole = shore.geoms[0].interiors[0].centroid
    assert not rasterize_label(label, lake).sel(x=hole.x, y=hole.y, method="nearest")


def test_fractions_count_sub_pixels(lake, shore, tmp_path):
    """Fractions equal a brute force over sub-pixels, and their sum is the polygon's area."""
    frame([shore], date=["2021-01-22"]).to_file(tmp_path / "a.gpkg")
    (label,) = read_labels(tmp_path / "a.gpkg", lake="tsho_rolpa")
    fractions = rasterize_label(label, lake, subpixels=8)
    assert fractions.dtype == np.float32
    np.testing.assert_allclose(fractions.values, brute(shore, lake.lattice, 8), atol=1e-6)
    assert float(fractions.sum()) * lake.spacing**2 == pytest.approx(shore.area, rel=1e-3)


def test_a_layer_a_date(lake, shore, tmp_path):
    """Layers named with their date are read by time; a layer without geometry is passed over."""
    path = tmp_path / "a.gpkg"
    for name in ("tsho_rolpa 2021-07-21", "2021-01-22T00:11:30", "20220101"):
        frame([shore]).to_file(path, layer=name)
    import pyogrio

    pyogrio.write_dataframe(geopandas.pd.DataFrame({"style": ["x"]}), path, layer="layer_styles")
    labels = read_labels(path, lake="tsho_rolpa")
    assert [str(label.time) for label in labels] == [
        "2021-01-22T00:11:30",
        "2021-07-21T00:00:00",
        "2022-01-01T00:00:00",
    ]
    assert [label.whole_day for label in labels] == [False, True, True]


def test_features_of_one_lake_and_time_are_joined(lake, shore, tmp_path):
    """Two basins drawn as two features make one label; another lake in the column stays apart."""
    basins = [*shore.geoms, box(*shore.bounds)]
    table = frame(basins, date=["2021-01-22"] * 3, lake=[None, None, "other"], who=["Ana", "Ben", None])
    table.to_file(tmp_path / "a.gpkg")
    other, joined = read_labels(tmp_path / "a.gpkg", lake="tsho_rolpa")
    assert (other.lake, joined.lake, joined.who, joined.features) == ("other", "tsho_rolpa", "Ana, Ben", ("1", "2"))
    np.testing.assert_array_equal(rasterize_label(joined, lake), lake.rasterize(shore))


@pytest.mark.parametrize("kind", ["date", "datetime"])
def test_date_fields_are_read(shore, tmp_path, kind):
    """A field of type date or date and time says the same as text."""
    value = geopandas.pd.Timestamp("2021-01-22T00:11:30Z")
    frame([shore], date=[value.date() if kind == "date" else value]).to_file(tmp_path / "a.gpkg")
    (label,) = read_labels(tmp_path / "a.gpkg", lake="x")
    assert str(label.time) == ("2021-01-22T00:00:00" if kind == "date" else "2021-01-22T00:11:30")


BOWTIE = Polygon([(0, 0), (1, 1), (1, 0), (0, 1)])
WRONG = {
    "crossing": (
        BOWTIE,
        "2021-01-22",
        LakeError,
        r"a\.geojson, layer 'a', feature 7 is not a valid polygon: Self-inter",
    ),
    "a point": (Point(1, 1), "2021-01-22", LakeError, "feature 7 is a Point; draw water as Polygon"),
    "nothing": (None, "2021-01-22", LakeError, "feature 7 has no geometry"),
    "no date": (box(0, 0, 1, 1), None, SourceError, "feature 7 has the date 'a'; write 2021-01-22 or"),
    "no such day": (box(0, 0, 1, 1), "2021-02-31", SourceError, "feature 7 has the date '2021-02-31'"),
}


@pytest.mark.parametrize("case", WRONG)
def test_a_bad_feature_is_refused_by_name(tmp_path, case):
    """The message names file, layer and feature."""
    geometry, date, error, match = WRONG[case]
    drawn = None if geometry is None else shapely.geometry.mapping(geometry)
    feature = {"type": "Feature", "id": 7, "properties": {"date": date}, "geometry": drawn}
    (tmp_path / "a.geojson").write_text(json.dumps({"type": "FeatureCollection", "features": [feature]}))
    with pytest.raises(error, match=match):
        read_labels(tmp_path / "a.geojson", lake="x")


def test_what_is_missing_is_named(tmp_path, shore):
    """No lake, no CRS, no file, two layers of one date: each says what to do."""
    frame([shore], date=["2021-01-22"]).to_file(tmp_path / "a.gpkg")
    with pytest.raises(SourceError, match=r"names no lake in column 'lake'; fill it in, or give lake="):
        read_labels(tmp_path / "a.gpkg")
    frame([shore], date=["2021-01-22"]).to_file(tmp_path / "b.shp")
    (tmp_path / "b.prj").unlink()
    with pytest.raises(SourceError, match="layer 'b', declares no CRS; set it in QGIS"):
        read_labels(tmp_path / "b.shp", lake="x")
    with pytest.raises(SourceError, match="can't be read"):
        read_labels(tmp_path / "absent.gpkg", lake="x")
    for name in ("2021-01-22", "again 2021-01-22"):
        frame([shore]).to_file(tmp_path / "c.gpkg", layer=name)
    with pytest.raises(SourceError, match="is drawn in layers '2021-01-22' and 'again 2021-01-22'; keep one"):
        read_labels(tmp_path / "c.gpkg", lake="x")


def test_without_pyogrio_geojson_still_works(tmp_path, shore, monkeypatch):
    """A GeoPackage names the extra to install; GeoJSON is read, in the CRS that QGIS writes too."""
    drawn = frame([shore], date=["2021-01-22"])
    drawn.to_file(tmp_path / "a.gpkg")
    drawn.to_file(tmp_path / "a.geojson", RFC7946="NO")
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    (label,) = read_labels(tmp_path / "a.geojson", lake="x")
    assert label.crs == pyproj.CRS(UTM)
    with pytest.raises(MissingExtra, match=r'pip install "cubekit\[vector\]"'):
        read_labels(tmp_path / "a.gpkg", lake="x")


def test_refuses_bad_grids(tmp_path, lake, shore):
    """Sub-pixels out of range, and a raster without georeference."""
    frame([shore], date=["2021-01-22"]).to_file(tmp_path / "a.gpkg")
    (label,) = read_labels(tmp_path / "a.gpkg", lake="x")
    with pytest.raises(ConfigError, match="subpixels is 0; give 1 for masks"):
        rasterize_label(label, lake, subpixels=0)
    profile = {"driver": "GTiff", "dtype": "uint8", "count": 1, "height": 4, "width": 4}
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning):
        rasterio.open(tmp_path / "x.tif", "w", **profile).close()
    with pytest.warns(rasterio.errors.NotGeoreferencedWarning), pytest.raises(SourceError, match="no georeference"):
        chip_grid(tmp_path / "x.tif")


# ---- chips out, masks in, provenance -----------------------------------------------------------------------------


@pytest.fixture
def chips(lake):
    rng = np.random.default_rng(3)
    rows, columns = lake.aoi_window
    y, x = (lake.lattice.coordinates[name].values for name in ("y", "x"))
    y, x = y[rows], x[columns]
    power = rng.gamma(4, 0.05, (3, y.size, x.size)).astype(np.float32)
    granules = [json.dumps([f"scene {number}"]) for number in range(3)]
    coords = {"time": TIMES, "y": y, "x": x, "track": ("time", [121, 85, 121]), "platform": ("time", [0, 0, 0])}
    da = xr.DataArray(power, dims=("time", "y", "x"), coords=coords | {"granules": ("time", granules)})
    return to_chips(da.assign_attrs(polarisation="vv"), lake)


def test_chips_come_with_style_template_and_table(tmp_path, chips, lake):
    """QGIS finds a style beside each chip, with the chip's own limits, and an empty polygon layer in its CRS."""
    written = write_label_chips(chips, lake, tmp_path)
    assert len(written.chips) == len(written.styles) == 3
    for chip, style in zip(written.chips, written.styles, strict=True):
        assert style == chip.with_suffix(".qml")
        root = ET.parse(style).getroot()
        image = rasterio.open(chip).read(1)
        limits = [root.findtext(f".//contrastEnhancement/{name}Value") for name in ("min", "max")]
        assert limits == [str(image[image > 0].min()), str(image.max())]
        assert root.find(".//pixelListEntry").attrib == {"min": "0", "max": "0", "percentTransparent": "100"}
    template = geopandas.read_file(written.template)
    assert template.empty
    assert template.crs == UTM
    assert {"lake", "date", "who"} < set(template.columns)
    assert read_labels(written.template, lake="tsho_rolpa") == []
    with written.table.open(encoding="utf-8") as file:
        assert [row["granules"] for row in csv.DictReader(file)] == [f'["scene {number}"]' for number in range(3)]


@pytest.mark.parametrize("template", ["gpkg", "geojson"])
def test_a_template_with_drawings_is_never_touched(tmp_path, chips, lake, template):
    """Writing the chips again leaves the file a user has drawn in."""
    path = write_label_chips(chips, lake, tmp_path, template=template).template
    assert read_labels(path, lake="tsho_rolpa") == []
    path.write_bytes(b"drawn")
    write_label_chips(chips, lake, tmp_path, template=template)
    assert path.read_bytes() == b"drawn"


def test_chips_of_another_lake_or_template_are_refused(tmp_path, chips, lake):
    """Nothing is written then."""
    with pytest.raises(ConfigError, match="template is 'shp'; allowed are 'gpkg' and 'geojson'"):
        write_label_chips(chips, lake, tmp_path, template="shp")
    with pytest.raises(ConfigError, match="chips are of lake 'gokyo' and not 'tsho_rolpa'"):
        write_label_chips(chips.assign_attrs(lake="gokyo"), lake, tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.fixture
def drawn(tmp_path, chips, lake, shore):
    """Chips with two labels drawn in their template, and the masks of them."""
    path = write_label_chips(chips, lake, tmp_path / "chips").template
    dates = ["2021-01-22T00:11:30", "2021-07-21"]
    table = frame([shore, shore.buffer(40)], lake=["tsho_rolpa"] * 2, date=dates, who=["Ana", "Ben"])
    table.to_file(path, layer="labels")
    return path, write_masks(read_labels(path), tmp_path / "chips", tmp_path / "masks", lake="tsho_rolpa")


def test_masks_lie_on_their_chips(drawn, shore, lake):
    """A mask has its chip's name and grid; the table says who, when, which scene, and all is as it says."""
    _, table = drawn
    rows = read_provenance(table)
    assert list(rows["who"]) == ["Ana", "Ben"]
    assert list(rows["granules"]) == [["scene 0"], ["scene 2"]]
    assert list(rows["time"]) == ["2021-01-22T00:11:30Z", "2021-07-21"]
    for name, chip, water in zip(rows["mask"], rows["chip"], (shore, shore.buffer(40)), strict=True):
        with rasterio.open(table.parent / name) as mask, rasterio.open(table.parent / chip) as image:
            assert (mask.crs, mask.transform, mask.shape) == (image.crs, image.transform, image.shape)
            pixels = mask.read(1)
        assert pixels.max() == 1
        assert pixels.sum() * lake.spacing**2 == pytest.approx(water.area, rel=0.02)
    assert verify_provenance(table).empty


def test_every_change_is_found(drawn):
    """A pixel of a mask, a chip, a file that is gone, one polygon: each is found, and only it."""
    path, table = drawn
    names = list(read_provenance(table)["mask"])
    moved = geopandas.read_file(path, layer="labels")
    moved.loc[1, "geometry"] = shapely.affinity.translate(moved.geometry[1], 1, 0)
    moved.to_file(path, layer="labels")
    found = verify_provenance(table)
    assert found[["mask", "part"]].to_numpy().tolist() == [[names[1], "label"]]
    with rasterio.open(table.parent / names[0], "r+") as file:
        image = file.read(1)
        image[0, 0] = 1
        file.write(image, 1)
    (table.parent.parent / "chips" / names[1]).unlink()
    found = verify_provenance(table)
    expected = {(names[0], "mask"), (names[1], "chip"), (names[1], "label")}
    assert set(found[["mask", "part"]].itertuples(index=False, name=None)) == expected


def test_the_hash_is_of_the_polygons_not_of_the_file(drawn, tmp_path):
    """Saving the same drawing again, in another order, is no change."""
    path, table = drawn
    same = geopandas.read_file(path, layer="labels").iloc[::-1]
    path.unlink()
    same.to_file(path, layer="labels")
    assert verify_provenance(table).empty


def test_masks_need_a_chip_and_a_name(tmp_path, chips, lake, shore):
    """A day with two passes, a day without one, and nobody named are refused before the table is written."""
    write_label_chips(chips, lake, tmp_path)
    for date, who, match in [
        ("2021-01-22", "Ana", "fits S1A_.*001130.*, S1A_.*122220.*; give the time too"),
        ("2020-01-01", "Ana", "has no chip of that time"),
        ("2021-07-21", None, "nobody is named"),
    ]:
        frame([shore], date=[date], who=[who]).to_file(tmp_path / "x.gpkg")
        labels = read_labels(tmp_path / "x.gpkg", lake="tsho_rolpa")
        with pytest.raises(ConfigError, match=match):
            write_masks(labels, tmp_path, tmp_path / "masks", lake="tsho_rolpa")
    assert not (tmp_path / "masks").exists()


def test_rows_of_other_masks_stay(drawn, tmp_path):
    """Writing one label again replaces its row only."""
    path, table = drawn
    before = read_provenance(table)
    (_, label) = read_labels(path)
    write_masks([label], tmp_path / "chips", tmp_path / "masks", lake="tsho_rolpa", who="Eve")
    after = read_provenance(table)
    assert list(after["who"]) == ["Ana", "Eve"]
    assert after.iloc[0].equals(before.iloc[0])
    assert list(after["mask_sha256"]) == list(before["mask_sha256"])
    table.rename(tmp_path / "moved.csv")
    with pytest.raises(SourceError, match="can't be read as a provenance table"):
        read_provenance(table)
