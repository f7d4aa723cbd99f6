"""What is written is read back exactly; outlines have the area that the table says."""

from __future__ import annotations

import json

import numpy as np
import pandas as pd
import pyproj
import pytest
import shapely
import xarray as xr

from cubekit import lakes
from cubekit.errors import ConfigError, GridMismatch, SourceError
from cubekit.series import export, lake_area, outlines, read_csv, write_csv, write_outlines

# The contract with other programs, written out.
HEADER = "lake,time,track,platform,area_km2,area_low,area_high,area_subpixel_km2,observed_fraction,state,granules"


@pytest.fixture(scope="module")
def gokyo():
    return lakes.catalogue()["gokyo"]


def passes(lake):
    """Make four passes: full, with an island and a second basin, not observed, drained."""
    inside = lake.outline_mask.astype("float32")
    row, column = (int(values.mean()) for values in np.nonzero(inside.to_numpy()))
    divided = inside.copy()
    divided[row, :] = 0.1  # two basins
    divided[row + 4 : row + 6, column - 1 : column + 1] = 0.2  # an island
    images = [inside * 0.987654321, divided, inside * np.nan, inside * 0]
    times = np.array(
        ["2021-07-21T00:11:35", "2021-07-21T12:13:55", "2021-08-02T00:11:36", "2021-12-31T23:59:59"], "datetime64[s]"
    )
    stack = xr.concat(images, dim=xr.Variable("time", times)).astype("float32")
    return stack.assign_coords(
        track=("time", np.array([121, 12, 121, 121], np.int16)),
        platform=("time", np.array([0, 1, 2, 3], np.int8)),
        granules=("time", ['["A, \\"quoted\\"", "B"]', '["C"]', '["D"]', "[]"]),
    )


def test_csv_has_the_contract_s_columns_and_words(gokyo, tmp_path):
    """Header, times, platforms and states are as other programs expect them; missing cells are empty."""
    path = write_csv(lake_area(passes(gokyo), gokyo), tmp_path / "areas.csv")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == HEADER
    assert lines[1].startswith("gokyo,2021-07-21T00:11:35Z,121,sentinel-1a,0.4496,")
    assert lines[3] == 'gokyo,2021-08-02T00:11:36Z,121,sentinel-1c,,,,,0.0,unknown,"[""D""]"'
    assert lines[4] == "gokyo,2021-12-31T23:59:59Z,121,sentinel-1d,0.0,0.0,0.0,0.0,1.0,unknown,[]"


def test_csv_reads_back_exactly(gokyo, tmp_path):
    """Every number bit for bit, every date, word and name."""
    area = lake_area(passes(gokyo), gokyo)
    # Values whose shortest decimal form needs all digits.
    area["area_km2"] = area["area_km2"] * np.pi / 3
    table = read_csv(write_csv(area, tmp_path / "areas.csv"))
    assert ",".join(table.columns) == HEADER
    for name in ("area_km2", "area_low", "area_high", "area_subpixel_km2", "observed_fraction"):
        np.testing.assert_array_equal(table[name].to_numpy(), area[name].to_numpy())
    assert table["time"].dtype == pd.DatetimeTZDtype("ns", "UTC")
    np.testing.assert_array_equal(table["time"].dt.tz_localize(None).to_numpy(), area["time"].to_numpy())
    assert table["track"].tolist() == [121, 12, 121, 121]
    assert table["track"].dtype == np.int64
    assert table["platform"].tolist() == ["sentinel-1a", "sentinel-1b", "sentinel-1c", "sentinel-1d"]
    assert table["granules"].tolist() == [['A, "quoted"', "B"], ["C"], ["D"], []]
    assert set(table["state"]) == {"unknown"}
    assert set(table["lake"]) == {"gokyo"}


def test_csv_keeps_fractions_of_a_second(gokyo, tmp_path):
    """Times finer than seconds are not cut."""
    area = lake_area(passes(gokyo), gokyo)
    times = area["time"].to_numpy().astype("datetime64[ns]")
    times[0] += np.timedelta64(865_640, "us")
    table = read_csv(write_csv(area.assign_coords(time=times), tmp_path / "areas.csv"))
    np.testing.assert_array_equal(table["time"].dt.tz_localize(None).to_numpy(), times)


def test_several_lakes_share_a_file(gokyo, tmp_path):
    """A mapping is written lake after lake; a lake may have the name of a missing value."""
    area = lake_area(passes(gokyo), gokyo)
    both = {"null": area.assign_attrs(lake="null"), "gokyo": area}
    table = read_csv(write_csv(both, tmp_path / "areas.csv"))
    assert table["lake"].tolist() == ["null"] * 4 + ["gokyo"] * 4
    pd.testing.assert_frame_equal(
        table.iloc[:4].drop(columns="lake"), table.iloc[4:].drop(columns="lake").reset_index(drop=True)
    )


def test_lazy_areas_are_written_like_computed_ones(gokyo, tmp_path):
    """Writing computes."""
    probability = passes(gokyo)
    eager = write_csv(lake_area(probability, gokyo), tmp_path / "eager.csv")
    lazy = write_csv(lake_area(probability.chunk(time=1), gokyo), tmp_path / "new folder" / "lazy.csv")
    assert lazy.read_bytes() == eager.read_bytes()


def test_granules_may_be_unknown(gokyo, tmp_path):
    """Without names of products the cell is empty, and None when read."""
    area = lake_area(passes(gokyo).drop_vars("granules"), gokyo)
    assert read_csv(write_csv(area, tmp_path / "areas.csv"))["granules"].tolist() == [None] * 4


def test_an_empty_series_is_a_header(gokyo, tmp_path):
    """No pass, no row."""
    path = write_csv(lake_area(passes(gokyo).isel(time=slice(0, 0)), gokyo), tmp_path / "areas.csv")
    assert path.read_text(encoding="utf-8") == HEADER + "\n"
    assert len(read_csv(path)) == 0


def test_a_failing_write_leaves_the_old_file(gokyo, tmp_path, monkeypatch):
    """Neither half a file nor a temporary one is left behind."""
    area = lake_area(passes(gokyo), gokyo)
    path = write_csv(area, tmp_path / "areas.csv")
    before = path.read_bytes()

    def broken(name, dataset):
        yield next(iter(original(name, dataset)))
        raise OSError("disk full")

    original = export._rows
    monkeypatch.setattr(export, "_rows", broken)
    with pytest.raises(OSError, match="disk full"):
        write_csv(area, path)
    assert path.read_bytes() == before
    assert [file.name for file in tmp_path.iterdir()] == ["areas.csv"]


def test_unwritable_areas_are_refused(gokyo, tmp_path):
    """Tracks, platforms and ids are needed, and codes must have a word."""
    area = lake_area(passes(gokyo), gokyo)
    cases = {
        "lack platform, track": area.drop_vars(["track", "platform"]),
        r"platform holds 0, 1, 2, 9; allowed are the codes 0 to 3": area.assign_coords(
            platform=("time", np.array([0, 1, 2, 9], np.int8))
        ),
        "under the id 'tilicho'; use the lake's own id": {"tilicho": area},
        "have no attribute 'lake'": area.drop_attrs(),
    }
    for message, given in cases.items():
        with pytest.raises(ConfigError, match=message):
            write_csv(given, tmp_path / "areas.csv")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "text",
    ["", "time,area_km2\n2021-07-01,1.5\n", HEADER + "\ngokyo,yesterday,121,s,1,1,1,1,1,open,[]\n"],
    ids=["empty", "other columns", "no date"],
)
def test_other_tables_are_refused(tmp_path, text):
    """A table that is not ours is named, not guessed at."""
    path = tmp_path / "other.csv"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(SourceError, match=r"other\.csv"):
        read_csv(path)


def test_an_absent_table_is_named(tmp_path):
    """The message carries the path."""
    with pytest.raises(SourceError, match=r"absent\.csv can't be read as an areas CSV"):
        read_csv(tmp_path / "absent.csv")


@pytest.mark.parametrize("name", ["tsho_rolpa", "chamlang_tsho", "tilicho", "gokyo"])
def test_outlines_have_the_area_of_the_table(name):
    """On the ellipsoid the polygons' area is area_km2 within 0.2 %, also 277 km from a zone's meridian."""
    lake = lakes.catalogue()[name]
    probability = passes(lake)
    area = lake_area(probability, lake)
    features = outlines(probability, lake)["features"]
    for index in (0, 1):
        geometry = shapely.from_geojson(json.dumps(features[index]["geometry"]))
        metres, _ = pyproj.Geod(ellps="WGS84").geometry_area_perimeter(geometry)
        # Positive: outer rings run counter-clockwise, as RFC 7946 asks.
        assert metres / 1e6 == pytest.approx(float(area["area_km2"][index]), rel=2e-3)
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
    collection = outlines(passes(gokyo), gokyo)
    assert collection["type"] == "FeatureCollection"
    first, _, unseen, drained = collection["features"]
    coordinates = shapely.get_coordinates(shapely.from_geojson(json.dumps(first["geometry"])))
    np.testing.assert_array_equal(coordinates, coordinates.round(7))
    assert first["properties"] == {
        "lake": "gokyo",
        "time": "2021-07-21T00:11:35Z",
        "track": 121,
        "platform": "sentinel-1a",
        "area_km2": 0.4496,
        "granules": ['A, "quoted"', "B"],
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


def test_only_a_chunk_of_passes_is_computed_at_a_time(gokyo):
    """Memory stays bounded: the first feature needs the first chunk and no other, and none is computed twice."""
    computed = []

    def noted(block, block_info=None):
        computed.append(block_info[0]["chunk-location"][0])
        return block

    lazy = passes(gokyo).chunk(time=2)
    lazy = lazy.copy(data=lazy.data.map_blocks(noted, dtype=lazy.dtype, meta=np.empty((0, 0, 0), lazy.dtype)))
    features = export._features(lazy, gokyo, 0.5)
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
