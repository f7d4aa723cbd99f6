"""Releases: folders written once, renamed into place, never changed; a row of the state makes one served."""

from __future__ import annotations

import json
import logging
import math
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import select

from cubekit.files import sync
from cubekit.report import LakeReport, Report, SummaryRow
from cubekit.results import FAIR
from cubekit.service.state import HOME, Release, State

logger = logging.getLogger("cubekit.service")

HOME_OF_RELEASES = HOME / "releases"
"""Relative to a study's `out`."""

DESCRIPTION = "release.json"
"""File of a release that says what it is."""

_BESIDE = ".new"


def name_of(created: datetime, snapshot: str) -> str:
    """The name of a release: when it was made, and of which snapshot; sorts by time.

    Examples
    --------
    >>> from datetime import UTC
    >>> name_of(datetime(2023, 7, 1, 12, tzinfo=UTC), "1CECHNKREP0F1RSTCMT0")
    '20230701T120000000000Z-1CECHNKREP0F'
    """
    return f"{created:%Y%m%dT%H%M%S%fZ}-{snapshot[:12]}"


@contextmanager
def writing(out: Path, lake: str, name: str) -> Iterator[Path]:
    """Give a folder to write a release to; when the block ends well it is on disk, whole, in its place.

    Parameters
    ----------
    out
        Of the study.
    lake, name
        Of the release.

    Yields
    ------
    pathlib.Path
        Beside the place. On an error nothing stays of it.
    """
    target = out / HOME_OF_RELEASES / lake / name
    beside = target.with_name(f".{name}{_BESIDE}")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    try:
        yield beside
        for path in [*beside.rglob("*"), beside]:
            sync(path)
        beside.rename(target)
        sync(target.parent)
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def sweep(state: State, out: Path, lake: str) -> list[str]:
    """Remove what killed processes left of a lake: folders that no row tells of. Nobody else may write there.

    Parameters
    ----------
    state, out
        Of the study.
    lake
        Which.

    Returns
    -------
    list of str
        Names of what was removed.
    """
    home = out / HOME_OF_RELEASES / lake
    if not home.is_dir():
        return []
    with state.read() as session:
        known = set(session.scalars(select(Release.id).where(Release.lake == lake)))
    left = sorted(path for path in home.iterdir() if path.name not in known)
    for path in left:
        shutil.rmtree(path)
        logger.info("%s: removed %s, which was never released", lake, path.name)
    return [path.name for path in left]


def describe(lake: LakeReport, report: Report, *, source: str, created: datetime, config_hash: str) -> dict[str, Any]:
    """What a release is, for `DESCRIPTION`: numbers that are not known are None.

    Parameters
    ----------
    lake
        What was measured.
    report
        It alone.
    source
        Of the cube.
    created
        When the release was made.
    config_hash
        Of the study.
    """
    rows = [_plain(row) for row in report.rows()]
    trends = {} if FAIR not in lake.trends else lake.trends
    times = lake.area["time"].to_numpy()
    return {
        "lake": str(lake.area.attrs["lake"]),
        "source": source,
        "snapshot": lake.snapshot,
        "model": lake.model,
        "model_hash": lake.model_hash,
        "config_hash": config_hash,
        "preprocessing": json.loads(lake.preprocessing),
        "created": f"{created:%Y-%m-%dT%H:%M:%S.%fZ}",
        "passes": len(times),
        "latest_pass": None if not len(times) else f"{np.datetime_as_string(times.max(), unit='s')}Z",
        "statistics": sorted(trends),
        "tracks": rows,
        "not_known": dict(lake.results.unknown),
    }


def write_description(folder: Path, description: dict[str, Any]) -> None:
    """Write `DESCRIPTION` into a release."""
    text = json.dumps(description, indent=2, sort_keys=True, allow_nan=False)
    (folder / DESCRIPTION).write_text(text + "\n", encoding="utf-8")


def _plain(row: SummaryRow) -> dict[str, Any]:
    """A row of the summary as JSON has it."""
    told = row._asdict()
    for name, value in told.items():
        if isinstance(value, float) and not math.isfinite(value):
            told[name] = None
    told["latest"] = None if row.latest is None else f"{row.latest:%Y-%m-%dT%H:%M:%SZ}"
    return told
