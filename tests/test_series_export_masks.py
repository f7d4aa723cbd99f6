"""Masks hold the pixels that the areas count, and STAC finds them."""

from __future__ import annotations

import json

import numpy as np
import pystac
import pytest
import rasterio
import rioxarray
import shapely
from exporting import MADE_FROM, passes

from cubekit import lakes
from cubekit.errors import ConfigError, GridMismatch
from cubekit.series import lake_area, write_masks
from cubekit.series.export import passes as export_passes

NAMES = [
    "gokyo_20210721T001135_T121_sentinel-1a",
    "gokyo_20210721T121355_T012_sentinel-1b",
    "gokyo_20210802T001136_T121_sentinel-1c",
    "gokyo_20211231T235959_T121_sentinel-1d",
]


@pytest.fixture(scope="module")
def gokyo():
    return lakes.catalogue()["gokyo"]


@pytest.fixture(scope="module")
def given(gokyo):
    """Four passes with orbits, half of the third observed but not told apart."""
    probability = passes(gokyo).assign_attrs(MADE_FROM)
    seen = probability.notnull()
    seen[2, :128] = True
    return probability.assign_coords(
        observed=seen,
        absolute_orbit=("time", np.array([38_870, 27_900, 1, 2], np.int32)),
        orbit_direction=("time", np.array([1, 0, 1, 1], np.int8)),
    )


@pytest.fixture(scope="module")
def written(gokyo, given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("masks")
    return write_masks(given.chunk(time=1), gokyo, folder)


def test_masks_count_as_the_areas_do(gokyo, given, written):
    """Water and dry pixels, read by plain rasterio, are the table's areas to the pixel."""
    area = lake_area(given, gokyo)
    for index, name in enumerate(NAMES):
        with rasterio.open(written.parent / f"{name}.tif") as file:
            mask = file.read(1)
            assert (file.nodata, file.dtypes, file.crs.to_epsg()) == (255, ("uint8",), 32645)
            assert file.transform.almost_equals(gokyo.lattice.transform)
        assert set(np.unique(mask)) <= {0, 1, 255}
        for value, variable in ((1, "area_km2"), (0, "dry_km2")):
            expected = float(area[variable][index])
            assert (mask == value).sum() * gokyo.pixel_km2 == pytest.approx(0 if np.isnan(expected) else expected)
        assert (mask[~gokyo.zone_mask.to_numpy()] == 255).all()


def test_a_mask_lies_on_the_lattice(gokyo, given, written):
    """rioxarray gives the coordinates of the probability back, to the bit."""
    with rioxarray.open_rasterio(written.parent / f"{NAMES[0]}.tif") as mask:
        np.testing.assert_array_equal(mask["x"], given["x"])
        np.testing.assert_array_equal(mask["y"], given["y"])
        np.testing.assert_array_equal(mask[0] == 1, (given[0] >= 0.5) & gokyo.zone_mask)


def test_masks_are_cloud_optimised_and_name_their_origin(written):
    """GDAL says so itself; the tags are the row."""
    with rasterio.open(written.parent / f"{NAMES[0]}.tif") as file:
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        tags = file.tags()
        assert file.block_shapes == [(256, 256)]
    assert {key: tags[key] for key in MADE_FROM} == MADE_FROM
    assert (json.loads(tags["granules"]), float(tags["area_km2"])) == (
        ['A, "quoted"', "B"],
        pytest.approx(1124 * lakes.catalogue()["gokyo"].pixel_km2),
    )


def test_stac_leads_from_the_catalogue_to_every_mask(gokyo, written):
    """pystac walks from catalog.json to each file, with projection, orbit, area and origin."""
    catalogue = pystac.Catalog.from_file(str(written.parents[1] / "catalog.json"))
    (collection,) = catalogue.get_children()
    items = list(catalogue.get_items(recursive=True))
    assert [item.id for item in items] == NAMES
    assert collection.extent.temporal.intervals[0] == [items[0].datetime, items[-1].datetime]
    first, unknown = items[0], items[2]
    assert first.get_collection().id == "gokyo"
    with rasterio.open(first.assets["mask"].get_absolute_href()) as file:
        assert first.properties["proj:code"] == f"EPSG:{file.crs.to_epsg()}"
        assert first.properties["proj:shape"] == list(file.shape)
        assert first.properties["proj:transform"] == list(file.transform)[:6]
    assert first.assets["mask"].media_type == pystac.MediaType.COG
    assert {key: first.properties[f"cubekit:{key}"] for key in MADE_FROM} == MADE_FROM
    assert first.properties["cubekit:granules"] == ['A, "quoted"', "B"]
    assert (first.properties["sat:relative_orbit"], first.properties["sat:absolute_orbit"]) == (121, 38_870)
    assert (first.properties["sat:orbit_state"], first.properties["platform"]) == ("descending", "sentinel-1a")
    assert (first.properties["cubekit:area_km2"], unknown.properties["cubekit:area_km2"]) == (
        pytest.approx(1124 * gokyo.pixel_km2),
        None,
    )
    shape = shapely.geometry.shape(first.geometry)
    assert shape.contains(gokyo.outline)
    assert tuple(first.bbox) == shape.bounds
    assert any("projection/v2" in url for url in first.stac_extensions)


def test_a_window_s_mask_lies_where_the_window_does(gokyo, tmp_path):
    """The AOI window alone, in one chunk of passes: the same pixels."""
    rows, columns = gokyo.aoi_window
    home = write_masks(passes(gokyo)[:, rows, columns].chunk(time=4), gokyo, tmp_path).parent
    with rasterio.open(home / f"{NAMES[0]}.tif") as file:
        assert file.bounds == tuple(gokyo.lattice[rows, columns].boundingbox)
        assert (file.read(1) == 1).sum() == 1124


@pytest.mark.parametrize("together", [1, 3, 32])
def test_only_some_passes_are_computed_at_a_time(gokyo, tmp_path, monkeypatch, together):
    """Their files are there before the next are computed, and none is computed twice."""
    monkeypatch.setattr(export_passes, "TOGETHER", together)
    computed = []

    def noted(block, block_info=None):
        computed.append((block_info[0]["chunk-location"][0], len(list(tmp_path.rglob("*.tif")))))
        return block

    lazy = passes(gokyo).chunk(time=1)
    lazy = lazy.copy(data=lazy.data.map_blocks(noted, dtype=lazy.dtype, meta=np.empty((0, 0, 0), lazy.dtype)))
    write_masks(lazy, gokyo, tmp_path)
    assert sorted(computed) == [(number, number - number % together) for number in range(4)]


def test_nothing_new_changes_no_file(gokyo, given, tmp_path):
    """Written again, every file is the one that was there."""
    write_masks(given, gokyo, tmp_path)
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")}
    write_masks(given, gokyo, tmp_path)
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.*")} == before
    assert len(before) == 10


def test_passes_that_are_gone_leave_no_mask(gokyo, given, tmp_path):
    """A reader of the folder sees what the collection lists; other lakes and other files stay."""
    write_masks(given, gokyo, tmp_path)
    tilicho = lakes.catalogue()["tilicho"]
    write_masks(passes(tilicho)[:1], tilicho, tmp_path)
    (tmp_path / "gokyo" / "notes.txt").write_text("mine")
    write_masks(given[1:], gokyo, tmp_path)
    assert sorted(path.stem for path in (tmp_path / "gokyo").glob("*.tif")) == NAMES[1:]
    assert (tmp_path / "gokyo" / "notes.txt").is_file()
    catalogue = pystac.Catalog.from_file(str(tmp_path / "catalog.json"))
    assert [child.id for child in catalogue.get_children()] == ["gokyo", "tilicho"]
    assert [item.id for item in catalogue.get_items(recursive=True)][:3] == NAMES[1:]


def test_no_pass_is_an_empty_collection(gokyo, given, tmp_path):
    """Valid STAC all the same, with an open period."""
    collection = pystac.Collection.from_file(str(write_masks(given[:0], gokyo, tmp_path)))
    assert list(collection.get_items()) == []
    assert collection.extent.temporal.intervals == [[None, None]]


def test_masks_that_can_t_be_told_apart_or_placed_are_refused(gokyo, given, tmp_path):
    """The collection is then as it was."""
    collection = write_masks(given[:1], gokyo, tmp_path)
    before = collection.read_bytes()
    twice = given.isel(time=[0, 1, 0])
    with pytest.raises(ConfigError, match=f"two passes of 'gokyo' are called {NAMES[0]}"):
        write_masks(twice, gokyo, tmp_path)
    with pytest.raises(GridMismatch, match="lake 'gokyo'"):
        write_masks(passes(gokyo.at_spacing(30)), gokyo, tmp_path)
    assert collection.read_bytes() == before
    collection.write_text("[]")
    with pytest.raises(ConfigError, match=r"collection\.json is not a STAC collection of cubekit"):
        write_masks(given, gokyo, tmp_path)
