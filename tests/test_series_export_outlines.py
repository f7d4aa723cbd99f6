"""Shores have the area that the table says, in every format, and carry what they were made from."""

from __future__ import annotations

import json
import sys
import time

import geopandas
import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
from exporting import MADE_FROM, passes

from cubekit import lakes
from cubekit.errors import ConfigError, GridMismatch, MissingExtra
from cubekit.series import lake_area, outlines, write_geopackage, write_outlines
from cubekit.series.export import passes as export_passes
from cubekit.series.export.outlines import _features


@pytest.fixture(scope="module")
def gokyo():
    return lakes.catalogue()["gokyo"]


@pytest.mark.parametrize("name", ["tsho_rolpa", "chamlang_tsho", "tilicho", "gokyo"])
def test_outlines_have_the_area_of_the_table(name):
    """On the ellipsoid the polygons' area is area_km2 within 0.02 %, also 277 km from a zone's meridian."""
    lake = lakes.catalogue()[name]
    probability = passes(lake)
    area = lake_area(probability, lake)
    features = outlines(probability, lake)["features"]
    for index in (0, 1):
        geometry = shapely.from_geojson(json.dumps(features[index]["geometry"]))
        metres, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(geometry)
        # Positive: outer rings run counter-clockwise, as RFC 7946 asks.
        assert metres / 1e6 == pytest.approx(float(area["area_km2"][index]), rel=2e-4)
        assert features[index]["properties"]["area_km2"] == float(area["area_km2"][index])
        assert geometry.geom_type == "MultiPolygon"
        assert geometry.is_valid


def test_outlines_lie_on_the_lake_with_islands_and_basins(gokyo):
    """The shape is in the right place, islands are holes and every basin is a part."""
    full, divided, *_ = (feature["geometry"] for feature in outlines(passes(gokyo), gokyo)["features"])
    shore = shapely.from_geojson(json.dumps(full))
    common = shapely.intersection(shore, gokyo.outline).area / shapely.union(shore, gokyo.outline).area
    assert common > 0.93
    basins = shapely.from_geojson(json.dumps(divided))
    assert len(basins.geoms) >= 2
    assert sum(len(part.interiors) for part in basins.geoms) == 1


def test_outlines_have_seven_decimals_and_the_pass_s_properties(gokyo):
    """Coordinates are to the centimetre; a pass without water or without data has no geometry."""
    collection = outlines(passes(gokyo).assign_attrs(MADE_FROM), gokyo)
    assert collection["type"] == "FeatureCollection"
    first, _, unseen, drained = collection["features"]
    coordinates = shapely.get_coordinates(shapely.from_geojson(json.dumps(first["geometry"])))
    np.testing.assert_array_equal(coordinates, coordinates.round(7))
    assert first["properties"] == {
        "lake": "gokyo",
        "time": "2021-07-21T00:11:35Z",
        "track": 121,
        "platform": "sentinel-1a",
        "area_km2": pytest.approx(1124 * gokyo.pixel_km2),
        "state": "unknown",
        "granules": ['A, "quoted"', "B"],
        **MADE_FROM,
    }
    assert (unseen["geometry"], unseen["properties"]["area_km2"]) == (None, None)
    assert (drained["geometry"], drained["properties"]["area_km2"]) == (None, 0)


@pytest.mark.parametrize("length", [1, 3])
def test_the_file_holds_the_same_in_any_chunking(gokyo, tmp_path, length):
    """Chunks of passes, the AOI window or the whole lattice: the same features, as strict JSON."""
    probability = passes(gokyo)
    rows, columns = gokyo.aoi_window
    window = probability[:, rows, columns].chunk(time=length, y=20)
    path = write_outlines(window, gokyo, tmp_path / "out" / "outlines.geojson")

    def refuse(constant):
        raise AssertionError(constant)

    written = json.loads(path.read_text(encoding="utf-8"), parse_constant=refuse)
    assert written == outlines(probability, gokyo)
    assert [file.name for file in path.parent.iterdir()] == ["outlines.geojson"]


def test_only_some_passes_are_computed_at_a_time(gokyo, monkeypatch):
    """Memory stays bounded: the first feature needs the first chunk and no other, and none is computed twice."""
    monkeypatch.setattr(export_passes, "TOGETHER", 1)
    computed = []

    def noted(block, block_info=None):
        computed.append(block_info[0]["chunk-location"][0])
        return block

    lazy = passes(gokyo).chunk(time=2)
    lazy = lazy.copy(data=lazy.data.map_blocks(noted, dtype=lazy.dtype, meta=np.empty((0, 0, 0), lazy.dtype)))
    features = _features(lazy, gokyo, None, 0.5)
    next(features)
    assert computed == [0]
    assert len(list(features)) == 3
    assert computed == [0, 1]


def test_outlines_of_no_pass_are_an_empty_collection(gokyo, tmp_path):
    """Valid GeoJSON all the same."""
    path = write_outlines(passes(gokyo).isel(time=slice(0, 0)), gokyo, tmp_path / "none.geojson")
    assert json.loads(path.read_text(encoding="utf-8")) == {"type": "FeatureCollection", "features": []}


def test_outlines_on_another_grid_leave_no_file(gokyo, tmp_path):
    """Refused before anything is renamed."""
    with pytest.raises(GridMismatch, match="lake 'gokyo'"):
        write_outlines(passes(gokyo.at_spacing(30)), gokyo, tmp_path / "outlines.geojson")
    assert list(tmp_path.iterdir()) == []


def test_unseen_pixels_are_no_shore(gokyo):
    """A probability where nothing was observed counts for the outline as little as for the area."""
    probability = passes(gokyo)[:1]
    seen = probability.notnull()
    seen[:, :, : int(np.nonzero(gokyo.outline_mask.to_numpy())[1].mean())] = False
    given = probability.assign_coords(observed=seen)
    (feature,) = outlines(given, gokyo)["features"]
    geometry = shapely.from_geojson(json.dumps(feature["geometry"]))
    metres, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(geometry)
    assert metres / 1e6 == pytest.approx(float((seen & (probability >= 0.5)).sum()) * gokyo.pixel_km2, rel=2e-4)


def test_areas_that_are_known_are_not_measured_again(gokyo, monkeypatch):
    """Rows are those of the areas given, states included, and must be of the same passes."""
    from cubekit.series.export import passes as passes_module

    area = lake_area(passes(gokyo), gokyo).assign_attrs(MADE_FROM)
    area["state"] = ("time", np.array([1, 2, 0, 3], np.int8))
    monkeypatch.setattr(passes_module, "lake_area", None)
    features = outlines(passes(gokyo).chunk(time=3), gokyo, area=area.chunk(time=2))["features"]
    assert [feature["properties"]["state"] for feature in features] == ["open", "ice", "unknown", "wet_snow"]
    assert {feature["properties"]["config_hash"] for feature in features} == {"5eed"}
    with pytest.raises(ConfigError, match="the areas have 3 passes, the probability 4"):
        outlines(passes(gokyo), gokyo, area=area.isel(time=slice(3)))


@pytest.mark.parametrize("name", ["tsho_rolpa", "tilicho"])
def test_a_geopackage_reads_back_with_exact_areas(name, tmp_path):
    """GeoPandas sees the lattice's CRS, polygons as large as the table says (on the map), and every column."""
    lake = lakes.catalogue()[name]
    probability = passes(lake).assign_attrs(MADE_FROM)
    area = lake_area(probability, lake)
    path = write_geopackage(probability.chunk(time=1), lake, tmp_path / "new" / "outlines.gpkg")
    table = geopandas.read_file(path, layer=name)
    assert table.crs.to_epsg() == lake.epsg
    np.testing.assert_allclose(table.area[:2] / lake.spacing**2 * lake.pixel_km2, area["area_km2"][:2], rtol=1e-12)
    np.testing.assert_array_equal(table["area_km2"], area["area_km2"])
    np.testing.assert_array_equal(table["area_low"], area["area_low"])
    assert (table["time"] == pd.to_datetime(area["time"].to_numpy()).tz_localize("UTC")).all()
    assert table["track"].tolist() == [121, 12, 121, 121]
    assert [json.loads(cell) for cell in table["granules"]] == [['A, "quoted"', "B"], ["C"], ["D"], []]
    assert {key: set(table[key]) for key in MADE_FROM} == {key: {value} for key, value in MADE_FROM.items()}
    assert table.geometry.isna().tolist() == [False, False, True, True]
    assert [file.name for file in path.parent.iterdir()] == ["outlines.gpkg"]


def test_a_geopackage_written_again_is_the_same(gokyo, tmp_path):
    """No date of today is in it; and GDAL's settings are as before."""
    import pyogrio

    path = write_geopackage(passes(gokyo), gokyo, tmp_path / "outlines.gpkg")
    before = path.read_bytes()
    time.sleep(1.1)
    other = write_geopackage(passes(gokyo), gokyo, tmp_path / "again.gpkg")
    assert other.read_bytes() == before
    assert pyogrio.get_gdal_config_option("OGR_CURRENT_DATE") is None


def test_a_geopackage_that_fails_leaves_no_file(gokyo, tmp_path, monkeypatch):
    """Neither its own nor a temporary one, whatever fails."""
    from pyogrio import raw

    def broken(path, *args, **kwargs):
        path.write_text("half")
        raise OSError("disk full")

    with pytest.raises(GridMismatch, match="lake 'gokyo'"):
        write_geopackage(passes(gokyo.at_spacing(30)), gokyo, tmp_path / "outlines.gpkg")
    monkeypatch.setattr(raw, "write", broken)
    with pytest.raises(OSError, match="disk full"):
        write_geopackage(passes(gokyo), gokyo, tmp_path / "outlines.gpkg")
    monkeypatch.setitem(sys.modules, "pyogrio", None)
    with pytest.raises(MissingExtra, match=r'pyogrio is not installed.*"cubekit\[vector\]"'):
        write_geopackage(passes(gokyo), gokyo, tmp_path / "outlines.gpkg")
    assert list(tmp_path.iterdir()) == []


def test_a_geopackage_of_no_pass_has_its_columns(gokyo, tmp_path):
    """A layer without features."""
    table = geopandas.read_file(write_geopackage(passes(gokyo)[:0], gokyo, tmp_path / "none.gpkg"))
    assert (len(table), list(table.columns)[:3]) == (0, ["lake", "time", "track"])
