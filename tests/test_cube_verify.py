"""Damage is found wherever it changes or hides a value; what can be made again is, and the rest is named."""

from __future__ import annotations

import json
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import factories
import numpy as np
import pytest
import xarray as xr
import zarr
from test_cube_retention import run, water_of

from cubekit.cube import (
    Remedy,
    append,
    build_cube,
    expire,
    history,
    open_cube,
    open_water,
    pending_water,
    publish,
    repair,
    schema,
    store,
    update,
    verify,
    write_water,
)
from cubekit.errors import ConfigError, SourceError, StorageError
from cubekit.lakes import catalogue
from cubekit.sources import find_scenes

LAKE = catalogue()["tsho_rolpa"].at_spacing(30)
DATES = ("20210709T001135", "20210721T001135", "20210802T001136", "20210814T001136")
Values = dict[str, xr.Dataset]


def scenes(archive: Path):
    return sorted(find_scenes(LAKE, f"folder:{archive}"), key=lambda item: item.datetime)


def segment(path: Path) -> None:
    """Give the cube the water that a model makes of the passes that it hasn't seen."""
    cube = open_cube(path)
    pending = pending_water(path, cube, "otsu", "1", "{}")
    if pending.any():
        write_water(path, "otsu", water_of(cube.isel(time=pending)))


@dataclass
class Made:
    """A cube with a past, its archive and what is published of it; all below one folder."""

    home: Path

    @property
    def archive(self) -> Path:
        return self.home / "archive"

    @property
    def path(self) -> Path:
        return self.home / "out" / "cubes" / "folder" / LAKE.id

    @property
    def published(self) -> Path:
        return self.home / "out" / "zarr" / "folder" / f"{LAKE.id}.zarr"

    def run(self) -> None:
        """What a study does: build or bring up to date, segment, publish."""
        update(LAKE, scenes(self.archive), self.path.parent)
        segment(self.path)
        publish(self.path, self.published)

    def values(self) -> Values:
        """All that anybody reads of the newest snapshot, but the time of writing."""
        cube = open_cube(self.path).drop_vars("ingested")
        return {"passes": cube.load(), "water": open_water(self.path, "otsu").load()}

    def past(self) -> Values:
        """All that anybody reads, of older snapshots too."""
        return {one.id: open_cube(self.path, as_of=one.id).load() for one in history(self.path)} | self.values()

    def served(self) -> Values:
        """What is published."""
        return {"passes": open_cube(self.published).load(), "water": open_water(self.published, "otsu").load()}


def make(home: Path) -> Made:
    made = Made(home)
    for date in DATES[:3]:
        factories.opera(made.archive, LAKE, date, vh=date == DATES[0])
    build_cube(LAKE, scenes(made.archive)[:1], made.path.parent)
    append(made.path, scenes(made.archive))
    segment(made.path)
    newer = factories.pattern((276, 276), 5)
    factories.opera(made.archive, LAKE, DATES[1], values=newer, processed="20250101T000000")
    factories.opera(made.archive, LAKE, DATES[3])
    made.run()
    return made


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Made:
    """Not to be changed."""
    return make(tmp_path_factory.mktemp("original"))


@pytest.fixture(scope="module")
def intact(original: Made) -> Values:
    return original.values()


@pytest.fixture
def made(original: Made, tmp_path: Path) -> Made:
    """A copy to damage."""
    shutil.copytree(original.home, tmp_path / "copy", symlinks=True)
    return Made(tmp_path / "copy")


def equal(one: Values, other: Values) -> bool:
    return one.keys() == other.keys() and all(one[name].identical(other[name]) for name in one)


def read(values) -> Values | None:
    """What a reader gets; None where that can't be read, by whatever error."""
    try:
        return values()
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        return None


def places(top: Path, count: int, seed: int) -> Iterator[tuple[Path, int, int]]:
    """Random bits of files, as many of each kind of file; a kind is a folder."""
    random = np.random.default_rng(seed)
    kinds = defaultdict(list)
    for file in sorted(top.rglob("*")):
        if file.is_file():
            kinds[file.relative_to(top).parts[0]].append(file)
    for number in range(count):
        files = list(kinds.values())[number % len(kinds)]
        file = files[random.integers(len(files))]
        yield file, int(random.integers(file.stat().st_size)), int(random.integers(8))


def flip(file: Path, place: int, bit: int) -> None:
    changed = bytearray(file.read_bytes())
    changed[place] ^= 1 << bit
    file.write_bytes(changed)


def check_flips(made: Made, count: int, seed: int) -> Counter[tuple[str, str, bool]]:
    """Flip one bit after the other, and hold what `verify` says against what readers get."""
    whole, hit = made.past(), Counter()
    for file, place, bit in places(made.path, count, seed):
        kept = file.read_bytes()
        flip(file, place, bit)
        found = verify(made.path)
        got = read(made.past)
        effect = "unreadable" if got is None else "same" if equal(got, whole) else "changed"
        assert effect == "same" or not found.ok, (file, place, bit, effect)
        hit[file.relative_to(made.path).parts[0], effect, not found.ok] += 1
        file.write_bytes(kept)
    return hit


def test_an_intact_cube_is_well(original: Made) -> None:
    """And every chunk of it was read: of 4 passes, and what only the past holds."""
    found = verify(original.path, published=original.published)
    assert found.findings == ()
    assert (found.passes, found.snapshot) == (4, history(original.path)[0].id)
    listed = sum(1 for group in (open_cube(original.path), open_water(original.path, "otsu")) for _ in group.variables)
    assert found.chunks > listed
    assert verify(original.path, workers=3) == verify(original.path)


def test_bits_flipped_in_random_places_are_found(made: Made) -> None:
    hit = check_flips(made, 5, seed=1)
    assert {kind for kind, *_ in hit} == {"chunks", "manifests", "refs", "snapshots", "transactions"}
    assert sum(count for (_, effect, _), count in hit.items() if effect != "same") >= 3


@pytest.mark.slow
def test_bits_flipped_in_a_hundred_random_places_are_found(made: Made, record_property) -> None:
    """All that change a value or hide one; those that are found without that are few."""
    hit = check_flips(made, 100, seed=2)
    record_property("flips", {" ".join(map(str, key)): count for key, count in hit.items()})
    assert sum(count for (_, effect, _), count in hit.items() if effect != "same") >= 50
    assert sum(count for (_, effect, wrong), count in hit.items() if effect == "same" and wrong) <= 10


def check_repairs(made: Made, intact: Values, original: Made, count: int, seed: int) -> Counter[str]:
    """Damage, repair, and run the study again: then all is as it was."""
    how: Counter[str] = Counter()
    for file, place, bit in places(original.path, count, seed):
        shutil.rmtree(made.home)
        shutil.copytree(original.home, made.home, symlinks=True)
        flip(made.path / file.relative_to(original.path), place, bit)
        found = verify(made.path)
        if not any(one.wrong and one.remedy is not Remedy.EXPIRE for one in found.findings):
            how["nothing to do"] += 1
            continue
        done = repair(made.path)
        stuck = any("move the cube away" in left for left in done.left)
        how["rebuilt" if stuck else done.done[0].split(" ")[0]] += 1
        if stuck:
            made.path.rename(made.home / "away")
        made.run()
        assert equal(made.values(), intact), (file, place, bit)
        assert verify(made.path, published=made.published, past=False).ok, (file, place, bit)
    return how


def test_a_repaired_cube_is_as_it_was(made: Made, intact: Values, original: Made) -> None:
    how = check_repairs(made, intact, original, 5, seed=3)
    assert sum(how.values()) == 5


@pytest.mark.slow
def test_cubes_repaired_from_a_hundred_flips_are_as_they_were(
    made: Made, intact: Values, original: Made, record_property
) -> None:
    how = check_repairs(made, intact, original, 100, seed=4)
    record_property("repairs", dict(how))
    assert not how["rebuilt"]
    assert how.keys() >= {"blanked", "went"}


def chunk_of(made: Made, name: str, row: int) -> Path:
    """The file of an image: the one whose loss takes that image, and nothing else."""
    group, _, variable = name.rpartition("/")
    for file in sorted((made.path / "chunks").iterdir()):
        aside = file.with_suffix(".aside")
        file.rename(aside)
        array = zarr.open_group(store.read_store(made.path), path=group, mode="r")[variable]
        gone = []
        for one in range(array.shape[0]):
            try:
                array[one]
            except Exception:
                gone.append(one)
        aside.rename(file)
        if gone == [row]:
            return file
    raise AssertionError(name)


def test_a_flipped_chunk_is_refused_by_every_reader(made: Made) -> None:
    """A bit in what zstd would still decode: xarray alone refuses it."""
    file = chunk_of(made, "passes/vv", 2)
    flip(file, file.stat().st_size // 2, 3)
    cube = xr.open_zarr(store.read_store(made.path), group="passes", consolidated=False)
    with pytest.raises(ValueError, match="checksum"):
        cube["vv"][2].load()


def test_a_damaged_image_of_a_pass(made: Made, intact: Values) -> None:
    """It is named with its granules; repair blanks it, others stay; append brings it back."""
    flip(chunk_of(made, "passes/vv", 2), 1000, 3)
    (one,) = verify(made.path, past=False).findings
    assert (one.part, one.variable, one.row, one.time) == ("passes", "vv", 2, "2021-08-02T00:11:36Z")
    assert (one.remedy, len(one.granules)) == (Remedy.FETCH, 1)
    done = repair(made.path, published=made.published)
    assert (done.done, done.left, done.granules) == (
        ("blanked 1 passes, which wait for their granules",),
        (),
        one.granules,
    )
    blank = open_cube(made.path).load()
    assert np.isnan(blank["vv"][2]).all()
    assert (blank["mask"][2] == schema.NO_DATA).all()
    xr.testing.assert_identical(blank.isel(time=[0, 1, 3]).drop_vars("ingested"), intact["passes"].isel(time=[0, 1, 3]))
    (waiting,) = (one for one in verify(made.path, past=False).findings if one.wrong)
    assert "waits for its granules" in waiting.problem
    assert (waiting.granules, repair(made.path).granules) == (one.granules, one.granules)
    report = append(made.path, [item for item in scenes(made.archive) if item.id in one.granules])
    assert (report.replaced, report.added) == (1, 0)
    segment(made.path)
    assert equal(made.values(), intact)
    assert verify(made.path, past=False).ok


def test_damaged_water_of_a_pass(made: Made, intact: Values) -> None:
    """Only that pass is pending then."""
    flip(chunk_of(made, "water/otsu/probability", 1), 1000, 3)
    (one,) = verify(made.path, past=False).findings
    assert (one.part, one.variable, one.row, one.remedy) == ("water/otsu", "probability", 1, Remedy.SEGMENT)
    assert repair(made.path).done == ("1 passes of water/otsu are to be segmented anew",)
    assert pending_water(made.path, open_cube(made.path), "otsu", "1", "{}").tolist() == [False, True, False, False]
    segment(made.path)
    assert equal(made.values(), intact)
    assert verify(made.path, past=False).ok


def change(made: Made, where: str, **attrs) -> None:
    """An attribute that no commit wrote: as damage to the metadata leaves it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "seal", lambda session: history_seal(made))
        store.commit(made.path, lambda target: zarr.open_group(target, path=where, mode="r+").attrs.update(attrs), "x")


def history_seal(made: Made) -> dict[str, str]:
    repository = store.open_repository(made.path)
    return repository.lookup_snapshot(repository.lookup_branch("main")).metadata["cubekit_seal"]


def test_changed_metadata_is_found_and_the_cube_goes_back(made: Made, intact: Values) -> None:
    """Every reader would take the new corner for true: the seal tells, and the lattice."""
    change(made, "passes", corner=[0.0, 0.0])
    problems = [one.problem for one in verify(made.path).findings if one.wrong]
    assert "its metadata or its list of chunks is not what was committed" in problems
    assert "is not on the lattice that the cube names" in problems
    assert repair(made.path).done[0].startswith("went back to snapshot")
    made.run()
    assert equal(made.values(), intact)


@pytest.mark.parametrize("text", ["", '{"snapshot":"00000000000000000000"}', '{"snapshot"'])
def test_the_name_of_the_newest_snapshot_is_found_again(made: Made, text: str) -> None:
    """Nothing is lost where only the file that names it is damaged."""
    whole, snapshots = made.past(), history(made.path)
    (made.path / "refs" / "branch.main" / "ref.json").write_text(text)
    assert [one.part for one in verify(made.path).findings] == ["repository"]
    assert repair(made.path).left == ()
    assert history(made.path) == snapshots
    assert equal(made.past(), whole)


def test_a_cube_of_which_no_snapshot_is_whole(made: Made) -> None:
    """That can't be mended; nothing is changed."""
    for file in (made.path / "snapshots").iterdir():
        file.write_bytes(file.read_bytes()[:60])
    named = (made.path / "refs" / "branch.main" / "ref.json").read_text()
    done = repair(made.path)
    assert (done.done, done.granules) == ((), ())
    assert "no snapshot is whole: move the cube away" in done.left[0]
    assert (made.path / "refs" / "branch.main" / "ref.json").read_text() == named


def test_changed_metadata_of_water_drops_it(made: Made, intact: Values) -> None:
    change(made, "water/otsu", threshold=0.1)
    assert repair(made.path).done == ("all passes of water/otsu are to be segmented anew",)
    segment(made.path)
    assert equal(made.values(), intact)


def test_a_chunk_that_is_no_longer_listed_is_found(made: Made) -> None:
    """Without the seal it would read as nodata, as any pass may be."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(store, "seal", lambda session: history_seal(made))
        blank = np.float32("nan")

        def lose(target) -> None:
            zarr.open_array(target, path="passes/vv", mode="r+")[1] = blank

        store.commit(made.path, lose, "x")
    assert open_cube(made.path)["vv"][1].isnull().all()
    (one,) = (one for one in verify(made.path, past=False).findings if one.wrong)
    assert (one.part, one.variable, one.remedy) == ("passes", "vv", Remedy.ROLL_BACK)


@pytest.mark.parametrize("kind", ["c", "zarr.json"])
def test_damage_to_what_is_published_is_found_and_mended(made: Made, kind: str) -> None:
    """A byte of a shard, or of its metadata; it is written again, for the living cube is well."""
    whole = made.served()
    files = [file for file in made.published.resolve().rglob("*") if file.is_file()]
    if kind == "c":
        flip(next(file for file in files if "/vv/c/" in str(file)), 5000, 1)
    else:
        file = made.published / "zarr.json"
        file.write_text(file.read_text().replace('"threshold": 0.5', '"threshold": 0.1', 1))
    assert verify(made.path).ok
    assert {one.part for one in verify(made.path, published=made.published).findings} == {"published"}
    assert repair(made.path, published=made.published).done == (f"published {made.published} again",)
    assert verify(made.path, published=made.published).ok
    assert equal(made.served(), whole)


def test_published_that_is_behind_or_not_there(made: Made) -> None:
    factories.opera(made.archive, LAKE, "20210826T001137")
    append(made.path, scenes(made.archive))
    (pending, behind) = verify(made.path, published=made.published, past=False).findings
    assert (pending.wrong, pending.problem.split(";")[0]) == (False, "1 of 5 passes are not segmented as they are")
    assert behind.problem.startswith("is of snapshot ")
    (absent,) = (one for one in verify(made.path, published=made.home / "none.zarr").findings if one.wrong)
    assert absent.problem.endswith("none.zarr is not there")
    assert repair(made.path, published=made.published).done == (f"published {made.published} again",)
    assert open_cube(made.published).sizes["time"] == 5


def test_damage_to_the_past_is_found_and_can_be_forgotten(made: Made, intact: Values) -> None:
    """An image that only older snapshots hold: nothing that is now is wrong; it can't be mended."""
    newest = {file.name: file for file in (made.path / "chunks").iterdir()}
    copy = made.home / "copy"
    shutil.copytree(made.path, copy)
    expire(copy, keep=1, dry_run=False)
    old = sorted(newest.keys() - {file.name for file in (copy / "chunks").iterdir()})
    assert old
    flip(newest[old[0]], 1000, 3)
    assert verify(made.path, past=False).ok
    assert {one.part for one in verify(made.path).findings} == {"history"}
    done = repair(made.path)
    assert (done.done, len(done.left)) == ((), 1)
    assert "expire" in done.left[0]
    expire(made.path, keep=1, dry_run=False)
    assert verify(made.path).ok
    assert equal(made.values(), intact)


def test_an_old_cube_is_told_as_such(tmp_path: Path, monkeypatch) -> None:
    """Without checksums and seals nothing is wrong; an append seals what is there."""
    monkeypatch.setattr(schema, "CODECS", schema.CODECS[:1])
    monkeypatch.setattr(store, "seal", lambda session: None)
    factories.opera(tmp_path, LAKE, DATES[0])
    path = tmp_path / "cubes" / LAKE.id
    build_cube(LAKE, scenes(tmp_path), path.parent)
    monkeypatch.undo()
    found = verify(path)
    assert found.ok
    assert [one.problem.partition(": ")[0].rsplit(" ", 2)[-2:] for one in found.findings] == [
        ["no", "seal"],
        ["no", "checksums"],
    ]
    factories.opera(tmp_path, LAKE, DATES[1])
    append(path, scenes(tmp_path))
    assert ["checksums" in one.problem for one in verify(path, past=False).findings] == [True]


def test_a_damaged_cube_is_not_added_to(made: Made) -> None:
    """An append reads the columns that it adds to: it tells, and changes nothing."""
    for file in (made.path / "manifests").iterdir():
        flip(file, file.stat().st_size // 2, 3)
    before = sorted(file.name for file in made.path.rglob("*"))
    factories.opera(made.archive, LAKE, "20210826T001137")
    with pytest.raises((StorageError, SourceError), match="cubekit verify"):
        append(made.path, scenes(made.archive))
    assert sorted(file.name for file in made.path.rglob("*")) == before


def test_a_damaged_image_is_not_published(made: Made) -> None:
    flip(chunk_of(made, "passes/vv", 2), 1000, 3)
    with pytest.raises(StorageError, match=rf"the cube at {made.path} is damaged, and nothing was written"):
        publish(made.path, made.home / "a.zarr")
    assert not (made.home / "a.zarr").exists()


def test_damage_is_one_line_on_the_command_line(made: Made, capsys) -> None:
    """Whatever is damaged, every command that reads the cube ends with a line, never with a traceback."""
    failed = 0
    for file, place, bit in places(made.path, 30, seed=6):
        if file.parent.name == "chunks":
            continue
        kept = file.read_bytes()
        flip(file, place, bit)
        for command in (("info",), ("history",), ("expire", "--keep", "2")):
            failed += run(command[0], str(made.path), *command[1:])
            assert capsys.readouterr().err.count("\n") <= 1
        file.write_bytes(kept)
    assert failed > 5


def test_what_is_no_cube_is_refused(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="there is no living cube at"):
        verify(tmp_path)


def test_no_workers_are_refused(original: Made) -> None:
    with pytest.raises(ConfigError, match="workers=0 is not allowed; give 1 or more"):
        verify(original.path, workers=0)


def test_on_the_command_line(made: Made, capsys) -> None:
    """Exit code 1 with a table, as JSON too; a repair names the granules; a study's own Zarr is found by itself."""
    assert run("verify", str(made.path)) == 0
    assert "4 passes" in (said := capsys.readouterr().out)
    assert "all is well" in said
    flip(chunk_of(made, "passes/vv", 2), 1000, 3)
    assert run("verify", str(made.path), "--json") == 1
    told = json.loads(capsys.readouterr().out)
    assert [one["remedy"] for one in told["findings"] if one["wrong"]] == ["fetch"]
    assert run("verify", str(made.path), "--repair") == 1
    said = capsys.readouterr().out
    (granule,) = told["findings"][0]["granules"]
    assert f"granules to append again: {granule}" in said
    made.run()
    assert run("verify", str(made.path), "--no-past") == 0
