"""Files that are either whole or not there: written under another name, then renamed."""

from __future__ import annotations

import filecmp
import os
import uuid
from collections.abc import Iterator
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
        if path.is_file() and filecmp.cmp(temporary, path, shallow=False):
            return
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
