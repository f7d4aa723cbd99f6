"""Cubes: built, appended to, replaced in place; idempotent, atomic, refusing what does not belong."""

from __future__ import annotations

from pathlib import Path

import factories
import numpy as np
import pytest
import rasterio
import xarray as xr

from cubekit.cube import append, build_cube, history, open_cube, update
from cubekit.cube.read import Image, merge, read_pass
from cubekit.cube.schema import BOTH, CLEAR, LAYOVER, NO_DATA, NO_MAP, SHADOW, observed
from cubekit.errors import ConfigError, CubeConflict, GridMismatch, NoObservations, SourceError
from cubekit.lakes import Lake, catalogue
from cubekit.passes import group
from cubekit.sources import find_scenes

# Track 121 over the Khumbu, 12 days apart, and track 12 ascending in between.
DATES = ("20210709T001135", "20210721T001135", "20210802T001136", "20210814T001136")
ASCENDING = "20210725T121355"


def scenes(folder: Path, lake: Lake):
    return list(find_scenes(lake, f"folder:{folder}"))


def lattice_part(values: np.ndarray, margin: int = 10) -> np.ndarray:
    return values[margin:-margin, margin:-margin]


def stored(path: Path, **selection) -> xr.Dataset:
    """A cube in memory without what tells when it was written."""
    return open_cube(path).drop_vars(["ingested"]).drop_attrs().load()


@pytest.fixture
def archive(tmp_path: Path, opera_lake: Lake) -> Path:
    """Four descending OPERA passes and an ascending one."""
    folder = tmp_path / "archive"
    for date in DATES:
        factories.opera(folder, opera_lake, date, vh=True)
    factories.opera(folder, opera_lake, ASCENDING, burst="T012-024518-IW2", vh=True)
    return folder


def test_scenes_on_the_lattice_are_copied_bit_for_bit(tmp_path: Path, archive: Path, opera_lake: Lake) -> None:
    """Every pass holds exactly the pixels of its file, each date its own, VH a fifth of VV, offsets 0."""
    cube = build_cube(opera_lake, scenes(archive, opera_lake), tmp_path / "cubes")
    assert cube.sizes == {"time": 5, "y": 256, "x": 256}
    for date in (*DATES, ASCENDING):
        expected = lattice_part(factories.pattern((276, 276), int(date[-6:])))
        time = f"{date[:4]}-{date[4:6]}-{date[6:8]}T{date[9:11]}:{date[11:13]}:{date[13:]}"
        row = cube.sel(time=time)
        np.testing.assert_array_equal(row.vv.values, expected)
        np.testing.assert_array_equal(row.vh.values, expected / 5)
    assert not cube.grid_offset_x.values.any()
    assert not cube.grid_offset_y.values.any()
    assert cube.time.to_index().is_monotonic_increasing
    assert cube.track.values.tolist() == [121, 121, 12, 121, 121]
    assert cube.orbit_direction.values.tolist() == [1, 1, 0, 1, 1]
    assert cube.granules.values[0] == f'["OPERA_L2_RTC-S1_T121-257648-IW2_{DATES[0]}Z_20210709T061135Z_S1A_30_v1.0"]'


def test_second_build_writes_nothing(tmp_path: Path, archive: Path, opera_lake: Lake) -> None:
    """A rerun skips every pass and makes no snapshot."""
    root = tmp_path / "cubes"
    first = update(opera_lake, scenes(archive, opera_lake), root)
    snapshots = history(root / opera_lake.id)
    files = sorted((p, p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file() and p.suffix != ".lock")
    second = update(opera_lake, scenes(archive, opera_lake), root)
    assert (first.added, first.skipped, second.added, second.skipped) == (5, 0, 0, 5)
    assert history(root / opera_lake.id) == snapshots
    assert sorted((p, p.stat().st_mtime_ns) for p in root.rglob("*") if p.is_file() and p.suffix != ".lock") == files


def test_order_of_scenes_does_not_matter(tmp_path: Path, archive: Path, opera_lake: Lake) -> None:
    """The same scenes in any order, at once or one by one, give the same cube."""
    items = scenes(archive, opera_lake)
    build_cube(opera_lake, items, tmp_path / "a")
    build_cube(opera_lake, items[3:4], tmp_path / "b")
    for item in (items[4], items[0], items[2], items[1]):
        assert append(tmp_path / "b" / opera_lake.id, [item]).added == 1
    xr.testing.assert_identical(stored(tmp_path / "a" / opera_lake.id), stored(tmp_path / "b" / opera_lake.id))


def test_late_pass_and_as_of(tmp_path: Path, archive: Path, opera_lake: Lake) -> None:
    """A pass that comes late ends in its place, and as_of still shows what was."""
    items = scenes(archive, opera_lake)
    path = tmp_path / "cubes" / opera_lake.id
    build_cube(opera_lake, [items[0], items[4]], path.parent)
    before = history(path)[0]
    append(path, items[1:4])
    assert open_cube(path).sizes["time"] == 5
    assert open_cube(path).time.to_index().is_monotonic_increasing
    for as_of in (before.id, before.time, before.time.isoformat()):
        assert open_cube(path, as_of=as_of).sizes["time"] == 2


def test_as_of_before_the_cube_existed(tmp_path: Path, archive: Path, opera_lake: Lake) -> None:
    """Before its first snapshot a cube did not exist."""
    build_cube(opera_lake, scenes(archive, opera_lake)[:1], tmp_path)
    with pytest.raises(NoObservations, match=r"did not exist on 2020-01-01T23:59:59Z; its first snapshot is of"):
        open_cube(tmp_path / opera_lake.id, as_of="2020-01-01")


def test_as_of_must_be_understood(tmp_path: Path, archive: Path, opera_lake: Lake) -> None:
    """Neither a snapshot nor a time."""
    build_cube(opera_lake, scenes(archive, opera_lake)[:1], tmp_path)
    with pytest.raises(SourceError, match="as_of 'yesterday' is neither a snapshot of this cube nor a time"):
        open_cube(tmp_path / opera_lake.id, as_of="yesterday")


def two_bursts(folder: Path, lake: Lake) -> tuple[list[Path], list[Path], np.ndarray, np.ndarray]:
    """Two bursts of one pass: the first sees the north, the second the south, both a strip in the middle."""
    north, south = (factories.pattern((276, 276), seed) for seed in (1, 2))
    north[150:], south[:130] = np.nan, np.nan
    first = factories.opera(folder / "first", lake, "20210721T001135", values=north, burst="T121-257648-IW2")
    second = factories.opera(folder / "second", lake, "20210721T001138", values=south, burst="T121-257649-IW2")
    return first, second, north, south


@pytest.mark.parametrize("order", [("first", "second"), ("second", "first")])
def test_late_burst_ends_as_if_in_time(tmp_path: Path, opera_lake: Lake, order: tuple[str, str]) -> None:
    """A burst that comes alone and late, be it the first or the second, ends as if both had come together."""
    *_, north, south = two_bursts(tmp_path, opera_lake)
    together = build_cube(opera_lake, scenes(tmp_path, opera_lake), tmp_path / "together").load()
    path = tmp_path / "late" / opera_lake.id
    build_cube(opera_lake, scenes(tmp_path / order[0], opera_lake), path.parent)
    was = history(path)[0].id
    report = append(path, scenes(tmp_path / order[1], opera_lake))
    assert (report.added, report.replaced) == (0, 1)
    late = open_cube(path).load()
    np.testing.assert_array_equal(late.vv, together.vv)
    np.testing.assert_array_equal(late.mask, together.mask)
    assert late.granules.values.tolist() == together.granules.values.tolist()
    np.testing.assert_array_equal(together.vv[0], lattice_part(np.where(np.isfinite(north), north, south)))
    assert np.isnan(open_cube(path, as_of=was).vv.values).any()
    assert append(path, scenes(tmp_path, opera_lake)).skipped == 1


def test_newer_processing_replaces_and_older_does_not(tmp_path: Path, opera_lake: Lake) -> None:
    """A newer processing rewrites its slot, an older one that comes later is skipped."""
    make = lambda name, processed, seed: factories.opera(  # noqa: E731
        tmp_path / name, opera_lake, DATES[0], processed=processed, values=factories.pattern((276, 276), seed)
    )
    make("old", "20210710T000000", 1), make("new", "20220101T000000", 2), make("other", "20210901T000000", 3)
    path = tmp_path / "cubes" / opera_lake.id
    build_cube(opera_lake, scenes(tmp_path / "old", opera_lake), path.parent)
    was = history(path)[0].id
    assert append(path, scenes(tmp_path / "new", opera_lake)).replaced == 1
    assert append(path, scenes(tmp_path / "other", opera_lake)).skipped == 1
    new, old = (lattice_part(factories.pattern((276, 276), seed)) for seed in (2, 1))
    np.testing.assert_array_equal(open_cube(path).vv[0].values, new)
    np.testing.assert_array_equal(open_cube(path, as_of=was).vv[0].values, old)
    assert str(open_cube(path).processed.values[0]).startswith("2022-01-01T00:00:00")


def test_two_processings_given_together_are_one_pass(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """The newest is written, and the report names the one that was left out for it."""
    factories.hyp3(tmp_path, tsho_rolpa, DATES[0], identifier="9EE4", processed="2025:09:28 09:40:29")
    factories.hyp3(tmp_path, tsho_rolpa, DATES[0], identifier="831F", processed="2025:09:28 12:28:21")
    report = update(tsho_rolpa, scenes(tmp_path, tsho_rolpa), tmp_path / "c")
    stem = f"S1A_IW_{DATES[0]}_DVP_RTC20_G_gpuned"
    assert report.added == 1
    assert report.superseded == {f"{stem}_9EE4": f"{stem}_831F"}
    assert open_cube(tmp_path / "c" / tsho_rolpa.id).granules.values.tolist() == [f'["{stem}_831F"]']


def test_newer_processing_of_one_burst_needs_the_other(tmp_path: Path, opera_lake: Lake) -> None:
    """A newer processing of one of two bursts can't be mosaicked without the other: refused, and taken with it."""
    *_, north, _ = two_bursts(tmp_path, opera_lake)
    path = tmp_path / "cubes" / opera_lake.id
    build_cube(
        opera_lake, scenes(tmp_path / "first", opera_lake) + scenes(tmp_path / "second", opera_lake), path.parent
    )
    factories.opera(tmp_path / "newer", opera_lake, "20210721T001135", values=north * 2, processed="20230101T000000")
    snapshots = history(path)
    alone = append(path, scenes(tmp_path / "newer", opera_lake))
    assert "give OPERA_L2_RTC-S1_T121-257649-IW2" in next(iter(alone.refused.values()))
    assert history(path) == snapshots
    both = append(path, scenes(tmp_path / "newer", opera_lake) + scenes(tmp_path / "second", opera_lake))
    assert both.replaced == 1
    np.testing.assert_array_equal(open_cube(path).vv[0, :100].values, lattice_part(north * 2)[:100])


def test_ascending_and_descending_of_a_day_are_two_passes(tmp_path: Path, opera_lake: Lake) -> None:
    """00:11 and 12:13 UTC of one date share a solar day at 87 degrees east, and are two steps."""
    factories.opera(tmp_path, opera_lake, "20210721T001135")
    factories.opera(tmp_path, opera_lake, "20210713T121354", burst="T012-024518-IW2")
    factories.opera(tmp_path, opera_lake, "20210725T001136", burst="T121-257648-IW2", platform="S1B", orbit=None)
    with pytest.warns(UserWarning, match="its name says relative orbit 121"):  # S1B was not there on that day
        items = scenes(tmp_path, opera_lake)
    assert build_cube(opera_lake, items, tmp_path / "c").track.values.tolist() == [12, 121]


def test_empty_passes_are_left_out_and_remembered(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """A scene that is all nodata makes no step; a rerun does not read it again, and nothing is written."""
    factories.hyp3(tmp_path, tsho_rolpa, DATES[0])
    factories.hyp3(tmp_path, tsho_rolpa, DATES[1], values=np.zeros((276, 276), "float32"))
    first = update(tsho_rolpa, scenes(tmp_path, tsho_rolpa), tmp_path / "c")
    assert first.added == 1
    assert list(first.empty.values()) == ["no data on the lattice: the lake lies outside this swath"]
    snapshots = history(tmp_path / "c" / tsho_rolpa.id)
    second = update(tsho_rolpa, scenes(tmp_path, tsho_rolpa), tmp_path / "c")
    assert (second.added, second.skipped) == (0, 1)
    assert "known from an earlier run" in next(iter(second.empty.values()))
    assert history(tmp_path / "c" / tsho_rolpa.id) == snapshots


def test_only_empty_passes_make_no_cube(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """When nothing was observed there is no cube, and an error that says why."""
    factories.hyp3(tmp_path, tsho_rolpa, DATES[1], values=np.zeros((276, 276), "float32"))
    items = scenes(tmp_path, tsho_rolpa)
    with pytest.raises(NoObservations, match=r"none of 1 passes can be used.*outside this swath"):
        build_cube(tsho_rolpa, items, tmp_path / "c")


def test_zero_is_nodata_in_hyp3_only(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """HyP3's 0 becomes NaN, and where a crop has lost the declaration too."""
    values = factories.pattern((276, 276), 1)
    values[100:120] = 0
    path = factories.hyp3(tmp_path, tsho_rolpa, DATES[0], values=values)
    with rasterio.open(path, "r+") as dataset:
        dataset.nodata = None
    cube = build_cube(tsho_rolpa, scenes(tmp_path, tsho_rolpa), tmp_path / "c")
    np.testing.assert_array_equal(np.isnan(cube.vv[0].values), lattice_part(values == 0))
    assert set(np.unique(cube.mask[0].values)) == {NO_MAP, NO_DATA}


def test_masks_of_both_archives_are_decoded(tmp_path: Path, tsho_rolpa: Lake, opera_lake: Lake) -> None:
    """HyP3's bit field and OPERA's codes give the same flags; shadow without data stays shadow."""
    bits = np.full((276, 276), 1, "uint8")
    bits[20:40], bits[40:60], bits[60:80], bits[80:100] = 1 + 16, 1 + 4, 1 + 4 + 16, 1 + 2 + 8
    values = np.where((bits & 20) > 0, 0, factories.pattern(bits.shape, 1)).astype("float32")
    factories.hyp3(tmp_path / "hyp3", tsho_rolpa, DATES[0], values=values, ls_map=bits)
    codes = np.zeros((276, 276), "uint8")
    codes[20:40], codes[40:60], codes[60:80] = SHADOW, LAYOVER, BOTH
    kept = np.where(np.isin(codes, (SHADOW, BOTH)), np.nan, factories.pattern(codes.shape, 1)).astype("float32")
    factories.opera(tmp_path / "opera", opera_lake, DATES[0], values=kept, mask=codes)
    for name, lake in (("hyp3", tsho_rolpa), ("opera", opera_lake)):
        cube = build_cube(lake, scenes(tmp_path / name, lake), tmp_path / f"c-{name}")
        np.testing.assert_array_equal(cube.mask[0].values, lattice_part(codes))
        np.testing.assert_array_equal(observed(cube, "vv")[0].values, lattice_part(codes) == CLEAR)
    # OPERA keeps the values in layover: they are there, and not observed.
    assert np.isfinite(cube.vv[0].values[30:50]).all()


def test_what_the_map_did_not_test_is_not_observed(tmp_path: Path, tsho_rolpa: Lake, opera_lake: Lake) -> None:
    """HyP3's 0 and OPERA's 255 say that nothing is known of layover there: data or not, it counts as not observed."""
    bits = np.where(np.arange(276) < 100, 0, 1).astype("uint8") * np.ones((276, 1), "uint8")
    factories.hyp3(tmp_path / "hyp3", tsho_rolpa, DATES[0], ls_map=bits)
    codes = np.where(bits == 0, NO_DATA, CLEAR).astype("uint8")
    factories.opera(tmp_path / "opera", opera_lake, DATES[0], mask=codes)
    for name, lake in (("hyp3", tsho_rolpa), ("opera", opera_lake)):
        cube = build_cube(lake, scenes(tmp_path / name, lake), tmp_path / f"c-{name}")
        np.testing.assert_array_equal(observed(cube, "vv")[0].values, lattice_part(bits) == 1)


@pytest.mark.parametrize("late", ["mask", "VH"])
def test_a_layer_that_comes_late_is_taken_in(tmp_path: Path, opera_lake: Lake, late: str) -> None:
    """A mask or a polarisation that was not there yet makes the pass anew; one that has gone takes nothing away."""
    codes = np.full((276, 276), LAYOVER, "uint8")
    files = factories.opera(tmp_path / "archive", opera_lake, DATES[0], vh=True, mask=codes)
    (file,) = [file for file in files if file.name.endswith(f"_{late}.tif")]
    file.rename(tmp_path / file.name)
    path = tmp_path / "cubes" / opera_lake.id
    build_cube(opera_lake, scenes(tmp_path / "archive", opera_lake), path.parent)
    (tmp_path / file.name).rename(file)
    assert append(path, scenes(tmp_path / "archive", opera_lake)).replaced == 1
    file.unlink()
    assert append(path, scenes(tmp_path / "archive", opera_lake)).skipped == 1
    cube = open_cube(path)
    assert (cube.mask.values == LAYOVER).all()
    assert np.isfinite(cube.vh.values).all()


def test_a_burst_without_a_polarisation_does_not_take_it_from_the_next(tmp_path: Path, opera_lake: Lake) -> None:
    """Where the first burst has VV only, and the second both, both come from the second."""
    factories.opera(tmp_path, opera_lake, "20210721T001135", burst="T121-257648-IW2")
    factories.opera(tmp_path, opera_lake, "20210721T001138", burst="T121-257649-IW2", vh=True)
    cube = build_cube(opera_lake, scenes(tmp_path, opera_lake), tmp_path / "c")
    expected = lattice_part(factories.pattern((276, 276), 1138))
    np.testing.assert_array_equal(cube.vv[0].values, expected)
    np.testing.assert_array_equal(cube.vh[0].values, expected / 5)


def test_late_burst_off_the_lattice_keeps_its_offset(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """An offset that is no binary number ends the same, in time or late."""
    for name, time in (("a", "20210721T001135"), ("b", "20210721T001200")):
        factories.hyp3(tmp_path / name, tsho_rolpa, time, shift=(3.3, -1.1))
    path = tmp_path / "c" / tsho_rolpa.id
    build_cube(tsho_rolpa, scenes(tmp_path / "a", tsho_rolpa), path.parent)
    assert append(path, scenes(tmp_path / "b", tsho_rolpa)).replaced == 1
    assert float(open_cube(path).grid_offset_x[0]) == pytest.approx(3.3)


def test_undeclared_nodata_is_never_mixed_into_a_shore(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """HyP3's 0 that a crop no longer declares is not interpolated: no value comes out that is in no file."""
    values = np.full((276, 276), 0.2, "float32")
    values[:, 100:150] = 0
    path = factories.hyp3(tmp_path, tsho_rolpa, DATES[0], values=values, shift=(7, 0))
    with rasterio.open(path, "r+") as dataset:
        dataset.nodata = None
    cube = build_cube(tsho_rolpa, scenes(tmp_path, tsho_rolpa), tmp_path / "c", resampling="bilinear")
    found = cube.vv[0].values
    assert set(np.unique(found[np.isfinite(found)])) == {np.float32(0.2)}


def test_other_looks_are_another_cube(tmp_path: Path, opera_lake: Lake) -> None:
    """The looks that a product tells are part of what a cube holds."""
    for number, looks in enumerate(("6", "6", "3")):
        for file in factories.opera(tmp_path / f"{number}", opera_lake, DATES[number]):
            with rasterio.open(file, "r+") as dataset:
                dataset.update_tags(CUBEKIT_LOOKS=looks)
    path = tmp_path / "c" / opera_lake.id
    cube = build_cube(opera_lake, scenes(tmp_path / "0", opera_lake), path.parent)
    assert cube.vv.attrs["looks"] == 6.0
    assert append(path, scenes(tmp_path / "1", opera_lake)).added == 1
    other = scenes(tmp_path / "2", opera_lake)
    with pytest.raises(CubeConflict, match=r"looks: stored 6\.0, requested 3\.0"):
        append(path, other)


def test_the_mask_comes_from_the_burst_of_the_pixel(tmp_path: Path, opera_lake: Lake) -> None:
    """Where the first burst has no data, value and mask are the second's."""
    north, south = (factories.pattern((276, 276), seed) for seed in (1, 2))
    north[140:] = np.nan
    masks = np.where(np.isnan(north), NO_DATA, CLEAR).astype("uint8"), np.full((276, 276), LAYOVER, "uint8")
    for time, values, mask, burst in (("20210721T001135", north, masks[0], 8), ("20210721T001138", south, masks[1], 9)):
        factories.opera(tmp_path, opera_lake, time, values=values, mask=mask, burst=f"T121-25764{burst}-IW2")
    cube = build_cube(opera_lake, scenes(tmp_path, opera_lake), tmp_path / "c")
    assert (cube.mask[0].values[:130] == CLEAR).all()
    assert (cube.mask[0].values[130:] == LAYOVER).all()


def test_merge_is_associative() -> None:
    """Three scenes give one mosaic however they are grouped."""
    random = np.random.default_rng(0)

    def image() -> Image:
        bands = np.where(random.random((2, 20, 20)) < 0.5, np.nan, random.random((2, 20, 20))).astype("float32")
        mask = random.choice([CLEAR, SHADOW, NO_DATA], (20, 20)).astype("uint8")
        return Image(bands, np.where(np.isfinite(bands).any(0), CLEAR, mask).astype("uint8"), (0.0, 0.0))

    a, b, c = image(), image(), image()
    left, right = merge(merge(a, b), c), merge(a, merge(b, c))
    np.testing.assert_array_equal(left.bands, right.bands)
    np.testing.assert_array_equal(left.mask, right.mask)


@pytest.mark.parametrize("resampling", ["nearest", "bilinear"])
def test_shifted_scenes_are_resampled_and_their_offset_recorded(
    tmp_path: Path, tsho_rolpa: Lake, resampling: str
) -> None:
    """Off the lattice by (7, -4) m: nearest copies the nearest pixel; the offset is written down with its sign."""
    affine, shape = factories.grid(tsho_rolpa, shift=(7, -4))
    x = affine.c + 20 * (np.arange(shape[1]) + 0.5) - 446240
    y = affine.f - 20 * (np.arange(shape[0]) + 0.5) - 3079520
    ramp = (x[None, :] + 2 * y[:, None] + 1e5).astype("float32")
    factories.hyp3(tmp_path, tsho_rolpa, DATES[0], values=ramp, shift=(7, -4))
    cube = build_cube(tsho_rolpa, scenes(tmp_path, tsho_rolpa), tmp_path / "c", resampling=resampling)
    assert (float(cube.grid_offset_x[0]), float(cube.grid_offset_y[0])) == (7, -4)
    truth = (cube.x - 446240) + 2 * (cube.y - 3079520) + 1e5
    error = (cube.vv[0] - truth).transpose("y", "x").values
    # The nearest pixel lies 7 m east and 4 m south of the centre; a ramp shows exactly that. GDAL's warped VRT, through
    # which stackstac reads, interpolates as if it lay 0.02 pixels (0.4 m) off.
    expected, tolerance = (7 - 2 * 4, 0.02) if resampling == "nearest" else (0, 1.3)
    np.testing.assert_allclose(error, expected, atol=tolerance)


def test_an_offset_of_half_a_pixel_has_the_sign_of_the_pixel_that_is_read(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """At exactly half a pixel two pixels are as near: the offset tells which of them was read."""
    affine, shape = factories.grid(tsho_rolpa, shift=(10, 10))
    x = (affine.c + 20 * (np.arange(shape[1]) + 0.5) - 446240)[None, :] * np.ones((shape[0], 1)) + 1e4
    y = (affine.f - 20 * (np.arange(shape[0]) + 0.5) - 3079520)[:, None] * np.ones((1, shape[1])) + 1e4
    for name, values, offset in (("x", x, "grid_offset_x"), ("y", y, "grid_offset_y")):
        factories.hyp3(tmp_path / name, tsho_rolpa, DATES[0], values=values.astype("float32"), shift=(10, 10))
        cube = build_cube(tsho_rolpa, scenes(tmp_path / name, tsho_rolpa), tmp_path / f"c-{name}")
        place = cube[name] - {"x": 446240, "y": 3079520}[name] + 1e4
        np.testing.assert_allclose((cube.vv[0] - place).values, float(cube[offset][0]), atol=0.01)


def test_another_zone_is_reprojected(tmp_path: Path) -> None:
    """Tilicho arrives in 32645, too: every pixel then comes from within a pixel of where it lies."""
    tilicho = catalogue()["tilicho"]
    import pyproj
    from affine import Affine

    to_45 = pyproj.Transformer.from_crs(32644, 32645, always_xy=True).transform
    left, bottom, right, top = pyproj.Transformer.from_crs(32644, 32645, always_xy=True).transform_bounds(
        *tilicho.lattice.boundingbox.bbox
    )
    affine = Affine(20, 0, left - 500, 0, -20, top + 500)
    shape = (int((top - bottom + 1000) / 20), int((right - left + 1000) / 20))
    columns = np.broadcast_to(np.arange(shape[1]) + 1, shape).astype("float32")
    name = "S1A_IW_20210328T001922_DVP_RTC20_G_gpuned_0001_VV.tif"
    factories.write_raster(tmp_path / name, columns, affine, 32645, 0, TIFFTAG_DATETIME="2024:01:01 00:00:00")
    cube = build_cube(tilicho, scenes(tmp_path, tilicho), tmp_path / "c")
    x, y = np.meshgrid(cube.x.values, cube.y.values)
    expected = (to_45(x, y)[0] - affine.c) / 20 + 0.5
    assert np.abs(cube.vv[0].values - expected).max() <= 0.51
    assert np.isnan(float(cube.grid_offset_x[0]))


def test_chunks_types_and_cf(tmp_path: Path, archive: Path, opera_lake: Lake) -> None:
    """What is stored is what design.md says: types, chunks, CF flags, a grid mapping that rioxarray reads."""
    import rioxarray  # noqa: F401
    import zarr

    from cubekit.cube import store

    cube = build_cube(opera_lake, scenes(archive, opera_lake), tmp_path / "cubes")
    group_ = zarr.open_group(store.read_store(tmp_path / "cubes" / opera_lake.id), path="passes", mode="r")
    assert {name: (str(group_[name].dtype), group_[name].chunks) for name in ("vv", "vh", "mask", "time", "track")} == {
        "vv": ("float32", (1, 256, 256)),
        "vh": ("float32", (1, 256, 256)),
        "mask": ("uint8", (1, 256, 256)),
        "time": ("int64", (4096,)),
        "track": ("int16", (4096,)),
    }
    assert group_["time"].attrs["units"] == "seconds since 1970-01-01"
    assert group_["mask"].attrs["flag_values"] == [0, 1, 2, 3, 254, 255]
    assert len(group_["platform"].attrs["flag_meanings"].split()) == 4
    assert cube.attrs["Conventions"] == "CF-1.11"
    assert cube.rio.crs.to_epsg() == 32645
    assert cube.vv.rio.transform() == opera_lake.lattice.transform


def test_missing_polarisation_takes_no_space(tmp_path: Path, opera_lake: Lake) -> None:
    """A product without VH adds no chunk of VH."""
    factories.opera(tmp_path / "a", opera_lake, DATES[0])
    build_cube(opera_lake, scenes(tmp_path / "a", opera_lake), tmp_path / "c")
    chunks = list((tmp_path / "c" / opera_lake.id / "chunks").iterdir())
    assert np.isnan(open_cube(tmp_path / "c" / opera_lake.id).vh.values).all()
    # One of vv and one of the mask, and at most the small ones of the coordinates
    assert sum(chunk.stat().st_size > 10_000 for chunk in chunks) == 1


@pytest.fixture
def small(tmp_path: Path, tsho_rolpa: Lake) -> Path:
    """A HyP3 cube of two passes."""
    for date in DATES[:2]:
        factories.hyp3(tmp_path / "archive", tsho_rolpa, date)
    build_cube(tsho_rolpa, scenes(tmp_path / "archive", tsho_rolpa), tmp_path / "cubes")
    return tmp_path / "cubes" / tsho_rolpa.id


def conflicts(lake: Lake):
    """What differs, how a scene is made so, and what the error must say."""
    return {
        "source": (
            lambda f: factories.opera(f, lake, DATES[2]),
            CubeConflict,
            "source: stored 'hyp3', requested 'opera'",
        ),
        "filtered": (
            lambda f: factories.hyp3(f, lake, DATES[2], flags="gpufed"),
            CubeConflict,
            "speckle_filter: stored 'none', requested 'hyp3 enhanced lee 7x7'",
        ),
        "spacing": (
            lambda f: factories.hyp3(f, lake.at_spacing(30), DATES[2]),
            GridMismatch,
            "pixels of 30 m, the lattice of tsho_rolpa of 20 m",
        ),
    }


@pytest.mark.parametrize("what", ["source", "filtered", "spacing"])
def test_what_does_not_belong_is_refused_before_writing(
    tmp_path: Path, small: Path, tsho_rolpa: Lake, what: str
) -> None:
    """Another source, filter or spacing is refused, naming field, stored and requested; the cube is untouched."""
    make, error, message = conflicts(tsho_rolpa)[what]
    make(tmp_path / "other")
    items = scenes(tmp_path / "other", tsho_rolpa)
    before, snapshots = stored(small), history(small)
    with pytest.raises(error, match=message):
        append(small, items)
    assert history(small) == snapshots
    xr.testing.assert_identical(stored(small), before)


@pytest.mark.parametrize(
    ("field", "changes"),
    [
        ("resampling: stored 'nearest', requested 'bilinear'", {"resampling": "bilinear"}),
        (r"polarisations: stored \['vv', 'vh'\], requested \['vv'\]", {"polarisations": ["vv"]}),
    ],
)
def test_another_kind_of_cube_is_refused(
    tmp_path: Path, small: Path, tsho_rolpa: Lake, field: str, changes: dict
) -> None:
    """The same scenes on other terms are another cube."""
    items = scenes(tmp_path / "archive", tsho_rolpa)
    snapshots = history(small)
    with pytest.raises(CubeConflict, match=field):
        update(tsho_rolpa, items, small.parent, **changes)
    assert history(small) == snapshots


def test_another_lattice_is_refused(tmp_path: Path, small: Path, tsho_rolpa: Lake) -> None:
    """A lattice moved by a pixel, and one in another zone, are named together with what is stored."""
    from dataclasses import replace

    moved = replace(tsho_rolpa, corner=(446260.0, 3084640.0))
    items = scenes(tmp_path / "archive", tsho_rolpa)
    with pytest.raises(
        CubeConflict, match=r"corner: stored \[446240.0, 3084640.0\], requested \[446260.0, 3084640.0\]"
    ):
        update(moved, items, small.parent)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"resampling": "lanczos"}, "'lanczos' isn't known; allowed are nearest"),
        ({"polarisations": ["hh"]}, r"\['hh'\] are not allowed"),
    ],
)
def test_unknown_options_are_refused(tmp_path: Path, tsho_rolpa: Lake, changes: dict, message: str) -> None:
    """Options that don't exist are refused with those that do."""
    with pytest.raises(ConfigError, match=message):
        update(tsho_rolpa, [], tmp_path, **changes)


@pytest.mark.parametrize(
    ("made", "reason"),
    [
        ({"shift": (10, 0)}, "lies off the lattice .*10 m east.*strict_grid = false resamples"),
        ({"epsg": 32644}, "EPSG:32644.*in another CRS"),
    ],
)
def test_strict_grid_refuses_with_the_reason(tmp_path: Path, opera_lake: Lake, made: dict, reason: str) -> None:
    """OPERA's grid is the lattice's: one shifted, or in another zone, is refused; strict_grid=False takes it."""
    if "epsg" in made:  # 32644 coordinates of the same place
        import pyproj

        there = pyproj.Transformer.from_crs(32645, 32644, always_xy=True).transform(*opera_lake.corner)
        made = {
            **made,
            "shift": tuple(float(30 * round((a - b) / 30)) for a, b in zip(there, opera_lake.corner, strict=True)),
        }
    factories.opera(tmp_path, opera_lake, DATES[0], **made)
    items = scenes(tmp_path, opera_lake)
    with pytest.raises(GridMismatch, match=reason):
        build_cube(opera_lake, items, tmp_path / "c")
    assert not (tmp_path / "c" / opera_lake.id).exists()
    assert update(opera_lake, items, tmp_path / "c", strict_grid=False).added == 1


def test_a_bad_pass_does_not_end_the_others(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """A file whose blocks are damaged is refused with its name; the other passes are written."""
    for date in DATES[:3]:
        factories.hyp3(tmp_path / "a", tsho_rolpa, date)
    items = scenes(tmp_path / "a", tsho_rolpa)
    victim = Path(items[1].assets["vv"].href)
    content = bytearray(victim.read_bytes())
    content[4000:200000] = bytes(196000)
    victim.write_bytes(content)
    report = update(tsho_rolpa, items, tmp_path / "c")
    assert report.added == 2
    ((name, reason),) = report.refused.items()
    assert name == items[1].id
    assert "can't be read" in reason


def test_mixed_sources_are_refused(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """HyP3 and OPERA never share a cube."""
    factories.hyp3(tmp_path, tsho_rolpa, DATES[0])
    factories.opera(tmp_path, tsho_rolpa, DATES[1])
    items = scenes(tmp_path, tsho_rolpa)
    with pytest.raises(CubeConflict, match="differ in their source: 'hyp3', 'opera'"):
        build_cube(tsho_rolpa, items, tmp_path / "c")


def test_two_writers_exclude_each_other(tmp_path: Path, small: Path, tsho_rolpa: Lake, monkeypatch) -> None:
    """While one process writes, another is told so."""
    from filelock import FileLock

    from cubekit.cube import store

    monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
    items = scenes(tmp_path / "archive", tsho_rolpa)
    with (
        FileLock(small.with_name(f".{small.name}.lock")),
        pytest.raises(CubeConflict, match="another process is writing"),
    ):
        append(small, items)


def test_offset_and_reading_at_the_border(opera_lake: Lake, tmp_path: Path) -> None:
    """A scene that covers a corner of the lattice fills just that corner; the rest is no data."""
    from affine import Affine

    left, top = opera_lake.corner
    values = factories.pattern((100, 100), 3)
    name = f"OPERA_L2_RTC-S1_T121-257648-IW2_{DATES[0]}Z_20210710T000000Z_S1A_30_v1.0_VV.tif"
    affine = Affine(30, 0, left + 100 * 30, 0, -30, top - 100 * 30)
    factories.write_raster(tmp_path / name, values, affine, opera_lake.epsg, float("nan"))
    (only,) = group(scenes(tmp_path, opera_lake))
    image = read_pass(only, opera_lake.lattice, polarisations=("vv",), strict_grid=True)
    np.testing.assert_array_equal(image.bands[0, 100:200, 100:200], values)
    assert int(image.valid.sum()) == 100 * 100
    assert set(np.unique(image.mask)) == {NO_MAP, NO_DATA}
