"""Lakes: the catalogue, GeoJSON in, the lattice, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pyproj
import pytest
import shapely
from shapely.geometry import MultiPolygon, Point, box, mapping

from cubekit.errors import LakeError
from cubekit.lakes import Lake, catalogue, load

SQUARE = box(86.95, 27.75, 86.96, 27.76)


def feature(geometry, **properties):
    return {"type": "Feature", "properties": {"id": "pond"} | properties, "geometry": mapping(geometry)}


def write(path: Path, *features, **more) -> Path:
    path.write_text(json.dumps({"type": "FeatureCollection", "features": list(features)} | more))
    return path


@pytest.mark.parametrize("name", ["tsho_rolpa", "chamlang_tsho", "tilicho", "gokyo"])
@pytest.mark.parametrize("spacing", [20, 30])
def test_outline_in_aoi_in_lattice(name: str, spacing: int) -> None:
    """Every lake of the catalogue lies in its AOI, with its zone, and that on its lattice, corners on the spacing."""
    lake = catalogue()[name].at_spacing(spacing)
    lattice = box(*lake.lattice.boundingbox.bbox)
    assert lake.aoi.covers(lake.outline)
    assert lattice.covers(lake.project(lake.aoi))
    zone = lake.project(lake.outline).buffer(200)
    assert lake.project(lake.aoi).intersection(zone).area > 0.99 * zone.area
    assert lake.lattice.shape == (256, 256)
    assert all(value % spacing == 0 for value in lake.lattice.boundingbox.bbox)


@pytest.mark.parametrize(
    ("name", "area", "epsg"),
    [
        ("tsho_rolpa", 1.62, 32645),  # ICIMOD 2020
        ("chamlang_tsho", 0.836, 32645),  # ICIMOD 2020
        ("tilicho", 3.53, 32644),  # ICIMOD 2020; 14 km west of the zone border
        ("gokyo", 0.43, 32645),  # published 0.429 to 0.45
    ],
)
def test_catalogue_areas_are_those_published(name: str, area: float, epsg: int) -> None:
    """Outlines have the published areas, in vectors and in pixels."""
    lake = catalogue()[name]
    assert lake.epsg == epsg
    assert lake.project(lake.outline).area / 1e6 == pytest.approx(area, rel=0.05)
    assert float(lake.outline_mask.sum()) * 400 / 1e6 == pytest.approx(area, rel=0.05)


def test_paper_coordinates_are_kept_and_not_used() -> None:
    """Table 1 is kept as printed; three of its points lie outside the outlines (Tilicho by 200 m)."""
    outside = 0
    for lake in catalogue().values():
        latitude, longitude = lake.paper_coordinates
        outside += not lake.outline.covers(Point(longitude, latitude))
        assert lake.outline.covers(Point(*reversed(lake.centre)))
    assert outside == 3


def test_aoi_window_is_the_aoi_on_the_lattice(tsho_rolpa: Lake) -> None:
    """The window holds every pixel that the AOI touches, and no row or column more."""
    rows, columns = tsho_rolpa.aoi_window
    touched = tsho_rolpa.rasterize(tsho_rolpa.project(shapely.segmentize(tsho_rolpa.aoi, 1e-4)).buffer(10)).values
    ys, xs = np.nonzero(touched)
    assert abs(rows.start - ys.min()) <= 1
    assert abs(rows.stop - 1 - ys.max()) <= 1
    assert abs(columns.start - xs.min()) <= 1
    assert abs(columns.stop - 1 - xs.max()) <= 1


def test_masks_lie_on_the_lattice(tsho_rolpa: Lake) -> None:
    """Masks carry the lattice's pixel centres, and the zone holds the outline."""
    assert tsho_rolpa.outline_mask.x.values[0] == tsho_rolpa.corner[0] + 10
    assert tsho_rolpa.outline_mask.y.values[0] == tsho_rolpa.corner[1] - 10
    assert bool((tsho_rolpa.zone_mask | ~tsho_rolpa.outline_mask).all())


def test_changing_the_spacing_and_back_is_the_same_lake(tsho_rolpa: Lake) -> None:
    """A lattice that was moved stays where it is."""
    from dataclasses import replace

    moved = replace(tsho_rolpa, corner=(446340.0, 3084740.0))
    assert moved.at_spacing(30).at_spacing(20).corner == moved.corner


def test_wkt_round_trips(tsho_rolpa: Lake) -> None:
    """The AOI as WKT is the AOI."""
    assert shapely.from_wkt(tsho_rolpa.wkt).equals(tsho_rolpa.aoi)


def test_user_lake_from_polygon_multipolygon_and_declared_crs(tmp_path: Path) -> None:
    """Polygon, MultiPolygon and a file in UTM give the same lattice; the AOI is 400 m around, the EPSG the UTM zone."""
    to_utm = pyproj.Transformer.from_crs("OGC:CRS84", 32645, always_xy=True).transform
    utm = shapely.transform(SQUARE, to_utm, interleaved=False)
    declared = {"crs": {"type": "name", "properties": {"name": "urn:ogc:def:crs:EPSG::32645"}}}
    made = [
        load(write(tmp_path / "a.geojson", feature(SQUARE)))["pond"],
        load(write(tmp_path / "b.geojson", feature(MultiPolygon([SQUARE]))))["pond"],
        load(write(tmp_path / "c.geojson", feature(utm), **declared))["pond"],
    ]
    assert {lake.corner for lake in made} == {made[0].corner}
    assert {lake.epsg for lake in made} == {32645}
    outline, aoi = (made[0].project(g).bounds for g in (made[0].outline, made[0].aoi))
    np.testing.assert_allclose(np.subtract(outline, aoi), [400, 400, -400, -400], atol=1)


def test_user_aoi_and_spacing_are_taken(tmp_path: Path) -> None:
    """An AOI of its own, a spacing and a title are taken as given."""
    aoi = box(86.94, 27.74, 86.97, 27.77)
    path = write(tmp_path / "a.geojson", feature(SQUARE, title="Pond", spacing=30), feature(aoi, role="aoi"))
    lake = load(path)["pond"]
    assert (lake.title, lake.spacing) == ("Pond", 30)
    assert lake.aoi.equals(aoi)


CROSSING = shapely.Polygon([(86.95, 27.75), (86.96, 27.76), (86.96, 27.75), (86.95, 27.76)])
BAD = {
    "point": (feature(Point(86.95, 27.75)), "is a Point; give a Polygon or MultiPolygon"),
    "self-crossing": (feature(CROSSING), "not a valid polygon: Self-intersection.*without crossing itself"),
    "swapped, impossible": (feature(box(28.67, 83.83, 28.71, 83.87)), "latitudes 83.8300 to 83.8700; are they swapped"),
    "swapped, plausible": (feature(box(35.9, 76.0, 35.91, 76.01)), "look swapped.*longitude first"),
    "metres undeclared": (feature(box(446240, 3079520, 446300, 3079600)), "another CRS that the file doesn't declare"),
    "too large": (feature(box(86.90, 27.70, 87.00, 27.80)), r"does not fit on its lattice of 5120 x 5120 m.*30 m"),
    "id": (feature(SQUARE, id="My Pond"), "'My Pond' is not snake case"),
    "no id": ({"type": "Feature", "properties": {}, "geometry": mapping(SQUARE)}, "no 'id'"),
    "spacing": (feature(SQUARE, spacing=25), "spacing 25 m is not one of"),
    "epsg": (feature(SQUARE, epsg="EPSG:32645"), "epsg 'EPSG:32645' and spacing 20 must be whole numbers"),
    "degrees": (feature(SQUARE, epsg=4326), "EPSG:4326 is not a projected system in metres"),
    "only an AOI": (feature(SQUARE, role="aoi"), "an AOI without an outline"),
    "geometry": ({"type": "Feature", "properties": {"id": "pond"}, "geometry": None}, "can't be read as GeoJSON"),
}


@pytest.mark.parametrize(("given", "message"), BAD.values(), ids=BAD.keys())
def test_unusable_lakes_are_refused(tmp_path: Path, given: dict, message: str) -> None:
    """Each unusable lake is refused with its reason and the repair."""
    path = write(tmp_path / "bad.geojson", given)
    with pytest.raises(LakeError, match=message):
        load(path)


def test_swapped_coordinates_can_be_confirmed(tmp_path: Path) -> None:
    """A lake that only looks swapped is taken when its author says so."""
    path = write(tmp_path / "a.geojson", feature(box(35.9, 76.0, 35.91, 76.01), axis_order_checked=True))
    assert load(path)["pond"].epsg == 32636


def test_outline_beyond_aoi_is_refused(tmp_path: Path) -> None:
    """A lake larger than its AOI is refused."""
    path = write(tmp_path / "a.geojson", feature(SQUARE), feature(box(86.951, 27.74, 86.97, 27.77), role="aoi"))
    with pytest.raises(LakeError, match="reaches beyond its AOI"):
        load(path)


@pytest.mark.parametrize(
    ("text", "message"), [("not json", "can't be read as GeoJSON"), ("{}", "can't be read"), ("[]", "can't")]
)
def test_foreign_files_are_refused(tmp_path: Path, text: str, message: str) -> None:
    """A file that is not GeoJSON is refused in one line."""
    path = tmp_path / "a.geojson"
    path.write_text(text)
    with pytest.raises(LakeError, match=message):
        load(path)


def test_unknown_declared_crs_is_refused(tmp_path: Path) -> None:
    """A CRS that isn't known is refused."""
    path = write(tmp_path / "a.geojson", feature(SQUARE), crs={"properties": {"name": "EPSG:999999"}})
    with pytest.raises(LakeError, match=r"declares the CRS 'EPSG:999999'"):
        load(path)


def test_empty_collection_and_doubles_are_refused(tmp_path: Path) -> None:
    """A file without lakes is refused."""
    with pytest.raises(LakeError, match="holds no lake"):
        load(write(tmp_path / "a.geojson"))


def test_a_lake_given_twice_is_refused(tmp_path: Path) -> None:
    """Two lakes of one id are refused."""
    path = write(tmp_path / "a.geojson", feature(SQUARE), feature(SQUARE))
    with pytest.raises(LakeError, match="'pond' is given twice"):
        load(path)
