"""Opening cubes: lazily, by lake, track and date; publishing; what a model makes of them."""

from __future__ import annotations

from pathlib import Path

import factories
import numpy as np
import pytest
import xarray as xr

from cubekit.cube import (
    append,
    build_cube,
    describe,
    history,
    open_cube,
    open_cubes,
    open_water,
    pending_water,
    publish,
    remember,
    store,
    water_models,
    write_water,
)
from cubekit.errors import ConfigError, CubeConflict, GridMismatch, SourceError
from cubekit.lakes import Lake
from cubekit.sources import find_scenes

DATES = ("20210721T001135", "20210802T001136", "20210709T001135")


def scenes(folder: Path, lake: Lake):
    return list(find_scenes(lake, f"folder:{folder}"))


@pytest.fixture
def root(tmp_path: Path, tsho_rolpa: Lake) -> Path:
    """Two passes of track 121 and one of track 12, the oldest written last."""
    for date in (*DATES, "20210725T121355"):
        factories.hyp3(tmp_path / "archive", tsho_rolpa, date)
    items = scenes(tmp_path / "archive", tsho_rolpa)
    build_cube(tsho_rolpa, items[1:], tmp_path / "cubes")
    append(tmp_path / "cubes" / "tsho_rolpa", items[:1])
    return tmp_path / "cubes"


def test_slicing_by_lake_track_and_date(root: Path) -> None:
    """The line a user must be able to write: lake, track, month."""
    cube = open_cubes(root)["tsho_rolpa"].ds
    july = cube.sel(track=121).sel(time="2021-07")
    assert [str(t)[:10] for t in july.time.values] == ["2021-07-09", "2021-07-21"]
    assert cube.sel(time=slice("2021-07-10", "2021-07-31")).track.values.tolist() == [121, 12]
    assert cube.sel(track=[12, 121]).sizes["time"] == 4


def test_a_single_pass_of_a_track_keeps_its_time(root: Path) -> None:
    """A track with one pass is still a series: selecting it, then a date, works."""
    cube = open_cube(root / "tsho_rolpa")
    assert cube.sel(track=12).sizes["time"] == 1
    assert cube.sel(track=12).sel(time="2021-07").sizes["time"] == 1


def test_unknown_track_is_named_with_those_there_are(root: Path) -> None:
    """A track that the cube lacks is refused with those it has."""
    cube = open_cube(root / "tsho_rolpa")
    with pytest.raises(KeyError, match="no pass with track 85; this cube has track 12, 121"):
        cube.sel(track=85)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"track": slice(1, 20)}, "give one value or a list, not a slice"),
        ({"track": 12, "method": "nearest"}, "selected exactly"),
    ],
)
def test_tracks_are_selected_exactly(root: Path, arguments: dict, message: str) -> None:
    """Tracks have no order and no neighbours."""
    cube = open_cube(root / "tsho_rolpa")
    with pytest.raises(ConfigError, match=message):
        cube.sel(**arguments)


def test_opening_is_lazy(root: Path, no_compute) -> None:
    """Opening, selecting and sorting compute nothing, and chunks are passes."""
    with no_compute():
        cube = open_cube(root / "tsho_rolpa").sel(track=121).sel(time="2021-07")
    assert cube.vv.chunks == ((1, 1), (256,), (256,))


def test_nothing_there_is_an_error(tmp_path: Path) -> None:
    """Where there is no cube, the error says how to get one."""
    with pytest.raises(SourceError, match=r"there is no cube at .*nowhere; build one"):
        open_cube(tmp_path / "nowhere")


def test_no_cubes_below_is_an_error(tmp_path: Path) -> None:
    """A folder without cubes is no root of cubes."""
    with pytest.raises(SourceError, match="there is no cube below"):
        open_cubes(tmp_path)


def test_object_stores_are_refused_for_now(tmp_path: Path) -> None:
    """A URL of an object store is not taken for a folder."""
    with pytest.raises(SourceError, match="cubes can't be kept at s3:// yet"):
        open_cube("s3://bucket/cube")


def test_published_zarr_opens_with_plain_xarray(root: Path, tmp_path: Path) -> None:
    """The published Zarr is sorted and the same, in plain xarray, with time slices."""
    target = publish(root / "tsho_rolpa", tmp_path / "zarr" / "tsho_rolpa.zarr")
    plain, living = xr.open_zarr(target), open_cube(root / "tsho_rolpa")
    assert plain.time.to_index().is_monotonic_increasing
    chosen = slice("2021-07-10", "2021-07-31")
    for name in ("vv", "mask", "track", "time"):
        np.testing.assert_array_equal(plain.sel(time=chosen)[name].values, living.sel(time=chosen)[name].values)
    xr.testing.assert_equal(open_cube(target).load(), living.load())
    assert open_cubes(target.parent)["tsho_rolpa"].ds.sel(track=12).sizes["time"] == 1


def test_published_zarr_is_sharded_and_consolidated(root: Path, tmp_path: Path) -> None:
    """One file a shard, one chunk a pass, and metadata in one read."""
    import zarr

    target = publish(root / "tsho_rolpa", tmp_path / "a.zarr")
    array = zarr.open_group(str(target), mode="r")["vv"]
    assert (array.chunks, array.shards) == ((1, 256, 256), (4, 256, 256))
    assert '"consolidated_metadata"' in (target / "zarr.json").read_text()
    assert len([file for file in (target / "vv" / "c").rglob("*") if file.is_file()]) == 1


def test_publishing_again_writes_only_what_is_new(root: Path, tmp_path: Path, tsho_rolpa: Lake) -> None:
    """Nothing new, nothing written; a new pass, a new Zarr behind the same name, and the last but one stays."""
    target = publish(root / "tsho_rolpa", tmp_path / "zarr" / "a.zarr")
    first = target.resolve()
    publish(root / "tsho_rolpa", target)
    assert target.resolve() == first
    for day, kept in (("20210814T001137", 2), ("20210826T001138", 2)):
        factories.hyp3(tmp_path / day, tsho_rolpa, day)
        append(root / "tsho_rolpa", scenes(tmp_path / day, tsho_rolpa))
        publish(root / "tsho_rolpa", target)
        assert len([path for path in target.parent.iterdir() if path.is_dir() and not path.is_symlink()]) == kept
    assert xr.open_zarr(target).sizes["time"] == 6
    assert not first.exists()


def test_what_is_open_does_not_change_under_its_reader(root: Path, tmp_path: Path, tsho_rolpa: Lake) -> None:
    """A published cube that is open, lazily, keeps its passes when an earlier one is published behind its back."""
    target = publish(root / "tsho_rolpa", tmp_path / "a.zarr")
    opened, expected = open_cube(target), open_cube(root / "tsho_rolpa").vv.values
    factories.hyp3(tmp_path / "more", tsho_rolpa, "20210627T001134")
    append(root / "tsho_rolpa", scenes(tmp_path / "more", tsho_rolpa))
    publish(root / "tsho_rolpa", target)
    assert open_cube(target).sizes["time"] == 5
    np.testing.assert_array_equal(opened.vv.values, expected)


def test_publishing_over_something_else_is_refused(root: Path, tmp_path: Path) -> None:
    """What cubekit did not publish, it does not replace."""
    (tmp_path / "mine.zarr").mkdir()
    with pytest.raises(CubeConflict, match=r"mine\.zarr exists and was not published by cubekit"):
        publish(root / "tsho_rolpa", tmp_path / "mine.zarr")


def test_killed_while_publishing_leaves_the_old_one(root: Path, tmp_path: Path, monkeypatch) -> None:
    """Killed before the link moves, readers see the old one; the next call ends it."""
    target = publish(root / "tsho_rolpa", tmp_path / "a.zarr")
    remember(root / "tsho_rolpa", {"note": 1})
    with monkeypatch.context() as patched:
        patched.setattr(store, "point", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            publish(root / "tsho_rolpa", target)
    assert "note" not in xr.open_zarr(target).attrs
    assert xr.open_zarr(publish(root / "tsho_rolpa", target)).attrs["note"] == 1


def test_published_zarr_has_no_history(root: Path, tmp_path: Path) -> None:
    """Time travel is the living cube's."""
    target = publish(root / "tsho_rolpa", tmp_path / "a.zarr")
    with pytest.raises(ConfigError, match="published Zarr, which has no history"):
        open_cube(target, as_of="2021-07-01")


def probability(cube: xr.Dataset, **attrs: str) -> xr.DataArray:
    """A stand-in for what a model makes: VV itself, on a window of the lattice."""
    window = cube.vv.isel(y=slice(50, 150), x=slice(60, 200)).load()
    return window.assign_coords(observed=window.notnull()).assign_attrs(
        {"model": "otsu", "model_hash": "1", "preprocessing": "{}"} | attrs
    )


def test_water_is_kept_pass_by_pass(root: Path, tmp_path: Path, tsho_rolpa: Lake) -> None:
    """What a model has seen is stored on the lattice and no longer pending; what is new is pending."""
    path = root / "tsho_rolpa"
    cube = open_cube(path)
    assert pending_water(path, open_cube(path), "otsu", "1", "{}").all()
    write_water(path, "otsu", probability(cube.isel(time=[0, 2])))
    assert pending_water(path, open_cube(path), "otsu", "1", "{}").tolist() == [False, True, False, True]
    write_water(path, "otsu", probability(cube.isel(time=[1, 2, 3])))
    assert not pending_water(path, open_cube(path), "otsu", "1", "{}").any()
    water = open_water(path, "otsu")
    assert water.probability.shape == cube.vv.shape
    inside = water.probability.isel(y=slice(50, 150), x=slice(60, 200))
    np.testing.assert_array_equal(inside.values, cube.vv.isel(y=slice(50, 150), x=slice(60, 200)).values)
    assert int(water.probability.notnull().sum()) == inside.size
    assert water.sel(track=12).sizes["time"] == 1


def test_a_changed_pass_is_pending_again(root: Path, tmp_path: Path, tsho_rolpa: Lake) -> None:
    """A newer processing makes its pass pending, and publishes it as not seen until the model has seen it."""
    path = root / "tsho_rolpa"
    write_water(path, "otsu", probability(open_cube(path)))
    factories.hyp3(tmp_path / "newer", tsho_rolpa, DATES[0], identifier="BBBB", processed="2025:01:01 00:00:00")
    append(path, scenes(tmp_path / "newer", tsho_rolpa))
    assert pending_water(path, open_cube(path), "otsu", "1", "{}").tolist() == [False, True, False, False]
    published = open_water(publish(path, tmp_path / "a.zarr"), "otsu")
    assert published.probability.notnull().any(("y", "x")).values.tolist() == [True, False, True, True]
    write_water(path, "otsu", probability(open_cube(path).isel(time=[1])))
    assert not pending_water(path, open_cube(path), "otsu", "1", "{}").any()
    assert open_water(path, "otsu").sizes["time"] == 4


@pytest.mark.parametrize("changed", [("2", "{}"), ("1", '{"window": 9}')])
def test_another_model_or_preprocessing_starts_anew(root: Path, changed: tuple[str, str]) -> None:
    """Probabilities of another model or preprocessing never stand beside each other."""
    path = root / "tsho_rolpa"
    write_water(path, "otsu", probability(open_cube(path)))
    assert pending_water(path, open_cube(path), "otsu", *changed).all()
    write_water(
        path, "otsu", probability(open_cube(path).isel(time=[3]), model_hash=changed[0], preprocessing=changed[1])
    )
    assert open_water(path, "otsu").sizes["time"] == 1


def test_water_is_published_on_the_times_of_its_cube(root: Path, tmp_path: Path) -> None:
    """A tree of the published Zarr opens: the child has its parent's times, NaN where nothing was segmented."""
    path = root / "tsho_rolpa"
    write_water(path, "otsu", probability(open_cube(path).isel(time=[1, 2])))
    target = publish(path, tmp_path / "a.zarr")
    assert water_models(path) == water_models(target) == ["otsu"]
    tree = xr.open_datatree(target, engine="zarr")
    assert tree["water/otsu"].ds.sizes["time"] == tree.ds.sizes["time"] == 4
    seen = open_water(target, "otsu").probability.notnull().any(("y", "x"))
    assert seen.values.tolist() == [False, True, True, False]


def test_water_off_the_lattice_is_refused(root: Path) -> None:
    """A probability that lies elsewhere is not stored as nothing."""
    shifted = probability(open_cube(root / "tsho_rolpa"))
    shifted = shifted.assign_coords(y=shifted.y + 10)
    with pytest.raises(GridMismatch, match="y is not on the lattice of tsho_rolpa"):
        write_water(root / "tsho_rolpa", "otsu", shifted)


def test_a_slow_writer_does_not_bring_back_what_was_replaced(root: Path, tmp_path: Path, tsho_rolpa: Lake) -> None:
    """What was made of scenes that have been replaced meanwhile is not stored, and not served."""
    path = root / "tsho_rolpa"
    old = probability(open_cube(path))
    write_water(path, "otsu", old)
    factories.hyp3(tmp_path / "newer", tsho_rolpa, DATES[0], identifier="BBBB", processed="2025:01:01 00:00:00")
    append(path, scenes(tmp_path / "newer", tsho_rolpa))
    assert open_water(path, "otsu").sizes["time"] == 3
    write_water(path, "otsu", old)
    assert open_water(path, "otsu").sizes["time"] == 3
    write_water(path, "otsu", probability(open_cube(path).isel(time=[1])))
    assert open_water(path, "otsu").sizes["time"] == 4


def test_what_changes_nothing_makes_no_snapshot(root: Path, tmp_path: Path, tsho_rolpa: Lake) -> None:
    """Water made only of what has been replaced, or an attribute that is there, is no commit and no error."""
    path = root / "tsho_rolpa"
    stale = probability(open_cube(path).isel(time=[1]))
    factories.hyp3(tmp_path / "newer", tsho_rolpa, DATES[0], identifier="BBBB", processed="2025:01:01 00:00:00")
    append(path, scenes(tmp_path / "newer", tsho_rolpa))
    snapshots = history(path)
    write_water(path, "otsu", stale)
    remember(path, {"lake": "tsho_rolpa"})
    assert history(path) == snapshots
    assert water_models(path) == []


def test_a_link_has_the_lock_of_its_cube(root: Path, tmp_path: Path, monkeypatch) -> None:
    """Reached through a link, a cube is the same cube."""
    monkeypatch.setattr(store, "LOCK_SECONDS", 0.1)
    link = tmp_path / "link"
    link.symlink_to(root / "tsho_rolpa")
    with (
        store.writer(store.local(root / "tsho_rolpa")),
        pytest.raises(CubeConflict, match="another process is writing"),
    ):
        remember(link, {"a": 1})


def test_model_names_are_checked(root: Path) -> None:
    """A model's name becomes a group's."""
    part = probability(open_cube(root / "tsho_rolpa"))
    with pytest.raises(ConfigError, match=r"model name '\.\./evil' is not allowed"):
        write_water(root / "tsho_rolpa", "../evil", part)


def test_water_of_an_unknown_model_is_an_error(root: Path) -> None:
    """What was never segmented can't be opened."""
    with pytest.raises(SourceError, match="has no group 'water/unet'"):
        open_water(root / "tsho_rolpa", "unet")


def test_what_was_measured_is_remembered(root: Path, tmp_path: Path, tsho_rolpa: Lake) -> None:
    """Attributes are kept in a commit, beside those that were there, and no append takes them away."""
    remember(root / "tsho_rolpa", {"looks_measured_vv": 9.5})
    factories.hyp3(tmp_path / "more", tsho_rolpa, "20210814T001137")
    append(root / "tsho_rolpa", scenes(tmp_path / "more", tsho_rolpa))
    attrs = open_cube(root / "tsho_rolpa").attrs
    assert (attrs["looks_measured_vv"], attrs["lake"]) == (9.5, "tsho_rolpa")


def test_describe_counts_passes_and_gaps(root: Path) -> None:
    """Passes by track and year, the longest gaps, the history."""
    found = describe(root / "tsho_rolpa")
    assert found["passes"] == {12: {2021: 1}, 121: {2021: 3}}
    assert found["gaps"] == {12: [], 121: [(12, "2021-08-02"), (11, "2021-07-21")]} or found["gaps"][121][0][0] == 12
    assert [snapshot.message[:5] for snapshot in found["history"]] == ["add 1", "add 3"]
    assert history(root / "tsho_rolpa") == found["history"]


def test_a_killed_creation_leaves_nothing_in_the_way(tmp_path: Path, tsho_rolpa: Lake) -> None:
    """The remains of a writer that was killed while it created a cube are no cube, and are cleared away."""
    remains = tmp_path / "cubes" / ".tsho_rolpa.new" / "refs"
    remains.mkdir(parents=True)
    factories.hyp3(tmp_path / "archive", tsho_rolpa, DATES[0])
    with pytest.raises(SourceError, match="there is no cube below"):
        open_cubes(tmp_path / "cubes")
    assert not store.is_living(tmp_path / "cubes" / "tsho_rolpa")
    build_cube(tsho_rolpa, scenes(tmp_path / "archive", tsho_rolpa), tmp_path / "cubes")
    assert not remains.exists()


def test_tables_of_areas_keep_their_tracks(root: Path, tsho_rolpa: Lake) -> None:
    """The index that makes `.sel(track=…)` work on cubes does not swallow the track in a table of areas."""
    from cubekit.series import lake_area

    area = lake_area(probability(open_cube(root / "tsho_rolpa")).clip(0, 1), tsho_rolpa)
    assert area.to_dataframe()["track"].tolist() == [121, 121, 12, 121]
