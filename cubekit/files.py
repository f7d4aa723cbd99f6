"""Files that are either whole or not there: written under another name, then renamed."""

from __future__ import annotations

import filecmp
import os
import shutil
import uuid
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give a name beside `path` to write to; on success it becomes `path`, on an error nothing has changed.

    Parameters
    ----------
    path
        The file to make or to replace. Missing folders are made. A file that holds the same bytes already is left as
        it is, so that a run with nothing new changes no file.

    Yields
    ------
    pathlib.Path
        In the same folder, so that the rename is atomic. The block writes and closes it.

    Examples
    --------
    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "new" / "areas.txt"
    >>> with replacing(path) as temporary:
    ...     _ = temporary.write_text("1.5")
    >>> path.read_text()
    '1.5'
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not tempfile: its files are closed to everybody else, also after the rename.
    temporary = path.with_name(f".{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        yield temporary
        _replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def move_all(folder: Path, target: Path, *, leave: Collection[Path] = ()) -> None:
    """Let the files below a folder take their places below another, all in one go.

    Parameters
    ----------
    folder
        Of files that are written and closed, on the file system of `target`. It is gone afterwards.
    target
        Where they go, each to its place. A file that holds the same bytes already is left as it is.
    leave
        Files of `target`, relative to it, that are not among those of `folder`: they are removed.

    Notes
    -----
    A file system can't rename many files at once. All are on disk before the first is renamed, so that what a kill can
    leave undone takes milliseconds, and is done by the next run.

    Examples
    --------
    >>> import tempfile
    >>> home = Path(tempfile.mkdtemp())
    >>> (home / "new" / "series").mkdir(parents=True)
    >>> _ = (home / "new" / "series" / "areas.csv").write_text("1.5")
    >>> move_all(home / "new", home / "out")
    >>> [str(path.relative_to(home)) for path in home.rglob("*.csv")], (home / "new").exists()
    (['out/series/areas.csv'], False)
    """
    made = [path.relative_to(folder) for path in sorted(folder.rglob("*")) if path.is_file()]
    for path in made:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        sync(folder / path)
    for path in made:
        _replace(folder / path, target / path, synced=True)
    for path in set(leave) - set(made):
        (target / path).unlink(missing_ok=True)
    shutil.rmtree(folder)


def _replace(new: Path, path: Path, *, synced: bool = False) -> None:
    if path.is_file() and filecmp.cmp(new, path, shallow=False):
        return
    if not synced:
        sync(new)
    new.replace(path)


def sync(path: Path) -> None:
    """Wait until a file, or the names in a folder, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
