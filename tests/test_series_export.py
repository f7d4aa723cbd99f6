"""What is written as a table or a series is read back exactly, and every row names what it was made from."""

from __future__ import annotations

import json
import sys

import h5netcdf
import numpy as np
import pandas as pd
import pyarrow.parquet
import pytest
import xarray as xr
from exporting import MADE_FROM, passes

from cubekit import lakes
from cubekit.cube.schema import TIME_ATTRS
from cubekit.errors import ConfigError, MissingExtra, SourceError
from cubekit.series import join, lake_area, read_csv, write_csv, write_netcdf, write_parquet
from cubekit.series.export import tables
from cubekit.series.export.rows import rows

# The contract with other programs, written out.
HEADER = "lake,time,track,platform,area_km2,area_low,area_high,area_subpixel_km2,observed_fraction,state,granules"
HEADER += ",snapshot,model_hash,config_hash"


@pytest.fixture(scope="module")
def gokyo():
    return lakes.catalogue()["gokyo"]


def test_csv_has_the_contract_s_columns_and_words(gokyo, tmp_path):
    """Header, times, platforms and states are as other programs expect them; missing cells are empty."""
    path = write_csv(lake_area(passes(gokyo), gokyo), tmp_path / "areas.csv")
    lines = path.read_text(encoding="utf-8").splitlines()
    assert lines[0] == HEADER
    assert lines[1].startswith("gokyo,2021-07-21T00:11:35Z,121,sentinel-1a,0.44994")
    assert lines[3] == 'gokyo,2021-08-02T00:11:36Z,121,sentinel-1c,,,,,0.0,unknown,"[""D""]",,,'
    assert lines[4] == "gokyo,2021-12-31T23:59:59Z,121,sentinel-1d,0.0,0.0,0.0,0.0,1.0,unknown,[],,,"


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
        yield next(iter(rows(name, dataset)))
        raise OSError("disk full")

    monkeypatch.setattr(tables, "rows", broken)
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
    ["", "time,area_km2\n2021-07-01,1.5\n", HEADER + "\ngokyo,yesterday,121,s,1,1,1,1,1,open,[],,,\n"],
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


def test_every_row_names_what_it_was_made_from(gokyo, tmp_path):
    """Snapshot, model and study: of all passes, or each its own where sources were joined."""
    area = lake_area(passes(gokyo), gokyo)
    shared = read_csv(write_csv(area.assign_attrs(MADE_FROM), tmp_path / "shared.csv"))
    assert {name: set(shared[name]) for name in MADE_FROM} == {name: {value} for name, value in MADE_FROM.items()}
    own = area.assign_coords(snapshot=("time", np.array(["A", "A", "", "B"], object))).assign_attrs(snapshot="C")
    assert read_csv(write_csv(own, tmp_path / "own.csv"))["snapshot"].fillna("none").tolist() == ["A", "A", "none", "B"]


def without_gaps(table):
    """Give a table whose missing texts are None, as lists of Python's own objects."""
    return {
        name: [list(cell) if isinstance(cell, np.ndarray) else cell for cell in table[name].astype(object)]
        for name in table.columns
        if table[name].dtype.kind == "O"
    }


def test_parquet_reads_back_what_csv_does(gokyo, tmp_path):
    """The same columns, numbers bit for bit, with types, units and nulls; by plain pandas."""
    area = lake_area(passes(gokyo), gokyo).assign_attrs(MADE_FROM)
    area["area_km2"] = area["area_km2"] * np.pi / 3
    both = {"gokyo": area, "null": area.assign_attrs(lake="null").drop_vars("granules").chunk(time=1)}
    expected = read_csv(write_csv(both, tmp_path / "areas.csv"))
    path = write_parquet(both, tmp_path / "areas.parquet")
    table = pd.read_parquet(path)
    assert list(table.columns) == list(expected.columns)
    for name in expected.columns:
        if expected[name].dtype.kind == "f":
            np.testing.assert_array_equal(table[name], expected[name])
    assert without_gaps(table) == without_gaps(expected)
    assert (table["time"] == expected["time"]).all()
    assert (str(table["track"].dtype), table["track"].tolist()) == ("int32", [121, 12, 121, 121] * 2)
    schema = pyarrow.parquet.read_schema(path)
    assert schema.field("area_km2").metadata == {b"units": b"km2"}
    nulls = pyarrow.parquet.read_table(path)["area_km2"].null_count
    assert nulls == 2


def test_parquet_holds_named_tracks(gokyo, tmp_path):
    """Where sensors are joined, tracks are names."""
    area = join.join_areas(lake_area(passes(gokyo), gokyo).reset_coords("granules", drop=True))
    table = pd.read_parquet(write_parquet(area, tmp_path / "areas.parquet"))
    assert table["track"].tolist() == ["S1-T121", "S1-T012", "S1-T121", "S1-T121"]


def test_parquet_keeps_a_lake_in_one_group(gokyo, tmp_path, monkeypatch):
    """A filter on the lake reads its group only; groups are written as they fill."""
    monkeypatch.setattr(tables, "_ROW_GROUP", 6)
    area = lake_area(passes(gokyo), gokyo)
    lakes_of = {name: area.assign_attrs(lake=name) for name in "abcde"}
    file = pyarrow.parquet.ParquetFile(write_parquet(lakes_of, tmp_path / "areas.parquet"))
    assert [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)] == [8, 8, 4]
    assert file.read(["lake"])["lake"].to_pylist() == [name for name in "abcde" for _ in range(4)]


def test_parquet_of_no_pass_has_the_columns(gokyo, tmp_path):
    """An empty table, not a broken file."""
    area = lake_area(passes(gokyo).isel(time=slice(0, 0)), gokyo)
    table = pd.read_parquet(write_parquet(area, tmp_path / "areas.parquet"))
    assert (len(table), ",".join(table.columns)) == (0, HEADER)


@pytest.fixture
def series(gokyo):
    """Areas with all coordinates that a cube's passes have, with their attributes, and a date that is missing."""
    area = lake_area(passes(gokyo), gokyo).assign_attrs(MADE_FROM)
    area["area_km2"] = area["area_km2"] * np.pi / 3
    days = area["time"].to_numpy() + np.timedelta64(1, "D")
    days[2] = np.datetime64("NaT")
    area = area.assign_coords(
        orbit_direction=("time", np.array([1, 0, 1, 1], np.int8)),
        processed=("time", days),
        grid_offset_x=("time", np.array([0, 1.5, 0, 0], np.float32)),
        checked=("time", [True, False, True, True]),
    )
    for name in set(area.coords) & set(TIME_ATTRS):
        area[name].attrs = TIME_ATTRS[name]
    return area


def test_netcdf_reads_back_exactly(gokyo, series, tmp_path):
    """Plain xarray gives every variable, coordinate, type and attribute back, from lazy areas too."""
    eager = write_netcdf(series, gokyo, tmp_path / "eager.nc")
    lazy = write_netcdf(series.chunk(time=1), gokyo, tmp_path / "lazy.nc")
    assert lazy.read_bytes() == eager.read_bytes()
    with xr.open_dataset(eager) as opened:
        read = opened.load()
    for name, variable in series.variables.items():
        np.testing.assert_array_equal(read[name].to_numpy(), variable.to_numpy(), err_msg=name)
        if variable.dtype.kind in "fib":
            assert read[name].dtype == variable.dtype, name
        for key, value in variable.attrs.items():
            np.testing.assert_array_equal(read[name].attrs[key], value, err_msg=f"{name}: {key}")
    assert set(read.coords) - set(series.coords) == {"timeseries_id", "lat", "lon"}
    assert {key: read.attrs[key] for key in series.attrs} == series.attrs
    assert series.encoding == {}
    assert series["platform"].attrs["flag_values"] == [0, 1, 2, 3]  # what was given is as it was


def test_netcdf_follows_the_conventions(gokyo, series, tmp_path):
    """Raw, as another program sees it: geometry, roles, units, flags in their type, coordinates named and filled."""
    series["platform"].attrs = TIME_ATTRS["platform"]
    with h5netcdf.File(write_netcdf(series, gokyo, tmp_path / "series.nc"), "r") as file:
        assert (file.attrs["Conventions"], file.attrs["featureType"]) == ("CF-1.11", "timeSeries")
        assert list(file.dimensions) == ["time"]
        time, area, state = (file.variables[name] for name in ("time", "area_km2", "state"))
        assert (time.attrs["units"], time.dtype, time[0]) == ("seconds since 1970-01-01", np.int64, 1626826295)
        assert (time.attrs["standard_name"], time.attrs["axis"]) == ("time", "T")
        station = file.variables["timeseries_id"]
        assert (station.attrs["cf_role"], station.dimensions, station[...]) == ("timeseries_id", (), b"gokyo")
        for name, standard, at in (("lat", "latitude", gokyo.centre[0]), ("lon", "longitude", gokyo.centre[1])):
            assert (file.variables[name].attrs["standard_name"], file.variables[name][...]) == (standard, at)
        assert {"track", "platform", "lat", "lon", "timeseries_id"} <= set(area.attrs["coordinates"].split())
        assert np.isnan(area.attrs["_FillValue"])
        for variable in (state, file.variables["platform"]):
            assert variable.attrs["flag_values"].dtype == variable.dtype == np.int8
            assert len(variable.attrs["flag_meanings"].split()) == len(variable.attrs["flag_values"])
        filled = {name for name, variable in file.variables.items() if "_FillValue" in variable.attrs}
        assert not filled & {"time", "track", "platform", "lat", "lon", "granules", "timeseries_id"}


@pytest.mark.parametrize(
    ("fraction", "unit"), [(0, "seconds"), (865_640_000, "microseconds"), (865_640_123, "nanoseconds")]
)
def test_netcdf_keeps_fractions_of_a_second(gokyo, series, tmp_path, fraction, unit):
    """Times are whole numbers of the coarsest unit that holds them."""
    times = series["time"].to_numpy().astype("datetime64[ns]")
    times[0] += np.timedelta64(fraction, "ns")
    path = write_netcdf(series.assign_coords(time=times), gokyo, tmp_path / "series.nc")
    with xr.open_dataset(path) as read, h5netcdf.File(path, "r") as file:
        np.testing.assert_array_equal(read["time"].to_numpy(), times)
        assert file.variables["time"].attrs["units"] == f"{unit} since 1970-01-01"


def test_netcdf_holds_no_pass_and_odd_attributes(gokyo, series, tmp_path):
    """No pass is no fault, and what NetCDF has no type for is JSON."""
    empty = series.isel(time=slice(0, 0)).assign_attrs(chain={"filter": "lee"}, fused=False, note=None)
    with xr.open_dataset(write_netcdf(empty, gokyo, tmp_path / "series.nc")) as read:
        assert read.sizes["time"] == 0
        assert [json.loads(read.attrs[name]) for name in ("chain", "fused", "note")] == [{"filter": "lee"}, False, None]


def test_series_that_are_none_are_refused(gokyo, series, tmp_path):
    """Another lake's, or with other dimensions."""
    with pytest.raises(ConfigError, match="the series is of 'tilicho' over time; give areas of 'gokyo'"):
        write_netcdf(series.assign_attrs(lake="tilicho"), gokyo, tmp_path / "series.nc")
    with pytest.raises(ConfigError, match="covariance is not along time alone"):
        write_netcdf(series.assign(covariance=(("time", "other"), np.eye(4))), gokyo, tmp_path / "series.nc")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("library", "extra", "write"),
    [
        ("pyarrow", "parquet", lambda area, lake, path: write_parquet(area, path)),
        ("h5netcdf", "netcdf", write_netcdf),
        ("h5py", "netcdf", write_netcdf),
    ],
)
def test_an_absent_library_is_named_with_its_extra(gokyo, series, tmp_path, monkeypatch, library, extra, write):
    """Before anything is written."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=rf'{library} is not installed.*pip install "cubekit\[{extra}\]"'):
        write(series, gokyo, tmp_path / "file")
    assert list(tmp_path.iterdir()) == []
