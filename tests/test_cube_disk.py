"""A disk that is full, may not be written or is another's, and a clock that goes back: told, and the cube intact."""

from __future__ import annotations

import os
import resource
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import factories
import pytest
import xarray as xr
from test_cube_retention import run

from cubekit.cube import append, build_cube, expire, history, layout, open_cube, publish, verify
from cubekit.errors import StorageError
from cubekit.lakes import catalogue
from cubekit.sources import find_scenes

LAKE = catalogue()["tsho_rolpa"].at_spacing(30)
DATES = ("20210709T001135", "20210721T001135", "20210802T001136", "20210814T001136")
NOBODY = 65534

CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <stdlib.h>
#include <time.h>
int clock_gettime(clockid_t clock, struct timespec *now) {
    static int (*real)(clockid_t, struct timespec *);
    if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
    int result = real(clock, now);
    if (clock == CLOCK_REALTIME) now->tv_sec -= atol(getenv("SECONDS_BACK"));
    return result;
}
"""

APPEND = """
import sys
from cubekit.cube import append
from cubekit.errors import StorageError
from cubekit.sources import find_scenes
from cubekit.lakes import catalogue
try:
    append(sys.argv[1], find_scenes(catalogue()["tsho_rolpa"].at_spacing(30), "folder:" + sys.argv[2]))
except StorageError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    for date in DATES:
        factories.opera(folder, LAKE, date)
    return folder


def scenes(archive: Path):
    return sorted(find_scenes(LAKE, f"folder:{archive}"), key=lambda item: item.datetime)


@pytest.fixture(scope="module")
def original(archive: Path, tmp_path_factory) -> Path:
    """A cube of the first pass."""
    path = tmp_path_factory.mktemp("original") / LAKE.id
    build_cube(LAKE, scenes(archive)[:1], path.parent)
    return path


@pytest.fixture
def path(original: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(original, tmp_path / "cubes" / LAKE.id))


def mount(*words: str) -> None:
    done = subprocess.run(["mount", *words], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount {' '.join(words)}: {done.stderr.strip() or 'not allowed'}")


@contextmanager
def mounted(target: Path, *words: str) -> Iterator[None]:
    """Something mounted at a folder for a while."""
    mount(*words, str(target))
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(target)], check=True)


def check_refused(path: Path, items: list, says: str, original: Path) -> None:
    """The append is refused with a reason; the cube is as it was, and whole."""
    with pytest.raises(StorageError, match=rf"can't be written, and is as it was: {says}"):
        append(path, items)
    xr.testing.assert_identical(open_cube(path).load(), open_cube(original).load())
    assert [one.id for one in history(path)] == [one.id for one in history(original)]
    assert verify(path).ok


def check_goes_on(path: Path, items: list) -> None:
    """Once mended, the same call does it."""
    assert append(path, items).added == len(items) - 1
    assert verify(path).ok


def test_a_full_disk(archive: Path, original: Path, tmp_path: Path, capsys) -> None:
    """A small file system: neither append, nor building, nor publishing leaves half of anything."""
    disk = tmp_path / "disk"
    disk.mkdir()
    size = sum(file.stat().st_size for file in original.rglob("*") if file.is_file())
    with mounted(disk, "-t", "tmpfs", "-o", f"size={size + 300_000}", "tmpfs"):
        path = Path(shutil.copytree(original, disk / "cubes" / LAKE.id))
        check_refused(path, scenes(archive), "the disk is full; make room", original)
        expire(path, keep=1, dry_run=False)  # what the failed append left goes
        with pytest.raises(StorageError, match="the disk is full"):
            build_cube(LAKE, scenes(archive)[1:], disk / "others")
        assert [file.name for file in (disk / "others").iterdir()] == [f".{LAKE.id}.lock"]
        (disk / "ballast").write_bytes(bytes(shutil.disk_usage(disk).free - 20_000))
        with pytest.raises(StorageError, match="the disk is full"):
            publish(path, disk / "a.zarr")
        assert not (disk / "a.zarr").exists()
        assert run("publish", str(path), str(disk / "a.zarr")) == 1
        assert capsys.readouterr().err.count("\n") == 1
        (disk / "ballast").unlink()
        mount("-o", "remount,size=20m", str(disk))
        check_goes_on(path, scenes(archive))
        assert open_cube(publish(path, disk / "a.zarr")).sizes["time"] == len(DATES)


def test_a_file_may_not_grow(archive: Path, original: Path, path: Path) -> None:
    """A limit on the size of files, which needs no file system of its own."""
    kept = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, kept[1]))
    try:
        check_refused(path, scenes(archive), "a file may not become as large", original)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, kept)
    check_goes_on(path, scenes(archive))


def test_a_disk_that_may_only_be_read(archive: Path, original: Path, path: Path, tmp_path: Path) -> None:
    """All that reads works there; all that writes says why it can't."""
    with mounted(path.parent, "--bind", str(path.parent)):
        mount("-o", "remount,ro,bind", str(path.parent))
        check_refused(path, scenes(archive), "its disk may only be read", original)
        with pytest.raises(StorageError, match="its disk may only be read"):
            expire(path, keep=1, dry_run=False)
        assert open_cube(publish(path, tmp_path / "a.zarr")).sizes["time"] == 1
    check_goes_on(path, scenes(archive))


@contextmanager
def as_nobody() -> Iterator[None]:
    """As a user without rights, where this one has them all."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_cube_of_another_user(archive: Path, original: Path, capsys) -> None:
    """It may be read and not written."""
    items = scenes(archive)
    home = Path(tempfile.mkdtemp(prefix="cubekit-test-"))  # pytest's own folders are closed to others
    try:
        path = Path(shutil.copytree(original, home / "cubes" / LAKE.id))
        build_cube(LAKE, items[:1], home / "warm")  # loads what reading needs, from folders that others may not read
        folders = [home, *(folder for folder in home.rglob("*") if folder.is_dir())]
        for folder in folders:
            folder.chmod(0o555)
        with as_nobody():
            with pytest.raises(StorageError, match="this user may not write there"):
                append(path, items)
            assert open_cube(path).load().sizes["time"] == 1
            with pytest.raises(StorageError, match="this user may not write there"):
                publish(path, home / "a.zarr")
            assert run("expire", str(path), "--keep", "1", "--delete") == 1
        assert "this user may not write there" in capsys.readouterr().err
        xr.testing.assert_identical(open_cube(path).load(), open_cube(original).load())
        for folder in folders:
            folder.chmod(0o755)
        check_goes_on(path, items)
    finally:
        shutil.rmtree(home)


@pytest.fixture(scope="module")
def clock(tmp_path_factory) -> Path:
    """A library that sets the clock of the process that loads it."""
    compiler = shutil.which("cc")
    if compiler is None or sys.platform != "linux":
        pytest.skip("a C compiler on Linux is needed to set back the clock of one process")
    home = tmp_path_factory.mktemp("clock")
    (home / "clock.c").write_text(CLOCK)
    command = [compiler, "-shared", "-fPIC", "-o", str(home / "clock.so"), str(home / "clock.c"), "-ldl"]
    subprocess.run(command, check=True, capture_output=True)
    return home / "clock.so"


@pytest.mark.parametrize(
    ("back", "says"),
    [(200, "this machine's clock is behind"), (86_400, "this machine's clock is behind"), (-86_400, "the clocks of")],
)
def test_a_clock_that_is_wrong(clock: Path, archive: Path, path: Path, original: Path, back: int, says: str) -> None:
    """Back a little, back a day, ahead a day: history must grow with time, so the append waits for the right clock."""
    expire(path, keep=1, dry_run=False)
    command = [sys.executable, "-c", APPEND, str(path), str(archive)]
    environment = {**os.environ, "LD_PRELOAD": str(clock), "SECONDS_BACK": str(back)}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, check=True)
    assert says in done.stdout
    xr.testing.assert_identical(open_cube(path).load(), open_cube(original).load())
    assert verify(path).ok
    check_goes_on(path, scenes(archive))


def test_a_time_of_writing_that_is_earlier_than_the_last(archive: Path, path: Path, monkeypatch) -> None:
    """`ingested` is what the clock said, and nothing depends on it."""

    class Earlier(datetime):
        @classmethod
        def now(cls, tz=None):
            return datetime(2001, 1, 1, tzinfo=UTC)

    monkeypatch.setattr(layout, "datetime", Earlier)
    check_goes_on(path, scenes(archive))
    assert open_cube(path)["ingested"].dt.year.values.tolist()[1:] == [2001] * 3
