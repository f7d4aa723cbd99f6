"""Checks of hand-drawn masks: empty, off the lattice, misregistered, implausible, copied, of another place."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from cubekit.errors import ConfigError, SourceError
from cubekit.lakes import catalogue
from cubekit.segmentation._label_faults import (
    AREA,
    GAIN,
    GROUP,
    OFF_GRID,
    OUTSIDE,
    OVERLAP,
    PLACE,
    SHIFT,
    SIGMAS,
    SURE,
    UNUSABLE,
    Finding,
    LabelPair,
    Looked,
    by_itself,
    common_movement,
    duplicates,
    look,
    majority_likeness,
    places,
    plausibility,
    radiometry,
    registration,
)
from cubekit.segmentation._registration import moved
from cubekit.segmentation.pairs import Pair

__all__ = [
    "AREA",
    "AT_MOST",
    "COLUMNS",
    "GAIN",
    "GROUP",
    "IMJA_TSHO",
    "OFF_GRID",
    "OUTSIDE",
    "OVERLAP",
    "PLACE",
    "SHIFT",
    "SIGMAS",
    "SURE",
    "LabelPair",
    "check_labels",
    "known_positions",
    "mend",
    "read_label_pairs",
    "sound",
]

COLUMNS = ("id", "lake", "kind", "severity", "value", "limit", "text")
"""Columns of a table of findings."""

AT_MOST = 0.1
"""Part of a set that `sound` drops: who drops more than one label in ten chooses a test set rather than checks it."""


IMJA_TSHO = (27.898, 86.925)
"""Latitude and longitude of Imja Tsho, which the catalogue lacks: the published chips so named show a pond."""


def known_positions() -> dict[str, tuple[float, float]]:
    """Latitude and longitude of the lakes of the catalogue, and of Imja Tsho, by id.

    Examples
    --------
    >>> sorted(known_positions())
    ['chamlang_tsho', 'gokyo', 'imja_tsho', 'tilicho', 'tsho_rolpa']
    """
    return {name: lake.centre for name, lake in catalogue().items()} | {"imja_tsho": IMJA_TSHO}


def read_label_pairs(pairs: Iterable[Pair]) -> list[LabelPair]:
    """Read the pixels and grids of pairs of files.

    Parameters
    ----------
    pairs
        From `load_pairs`.

    Returns
    -------
    list of LabelPair
        In their order; a group is a lake, a grid and a direction. Masks keep whatever values they hold.

    Raises
    ------
    SourceError
        When a file can't be read.
    """
    made = []
    for sample, chip, mask in pairs:
        (image, chip_profile), (water, mask_profile) = (_opened(path) for path in (chip, mask))
        group = f"{sample.lake} {sample.grid} {sample.direction}"
        made.append(LabelPair(sample.id, sample.lake, group, image, water, chip_profile, mask_profile))
    return made


def check_labels(
    pairs: Iterable[LabelPair], *, positions: Mapping[str, tuple[float, float]] | None = None
) -> pd.DataFrame:
    """Find masks that can't be right.

    Parameters
    ----------
    pairs
        `LabelPair`, or anything with its attributes. All of a set at once: a mask is compared with its group.
    positions
        Latitude and longitude of lakes by the name the pairs have; `known_positions` by default. Lakes not in it are
        not checked for their place.

    Returns
    -------
    pandas.DataFrame
        One row a finding, columns `COLUMNS`; none when all is well. ``severity`` is "error" where this mask should not
        be learnt from, "warning" where it can be repaired or is right elsewhere. ``kind``:

        ============== ========= ===================================================================================
        empty          error     no water
        values         error     more than two values, or NaN
        off_lattice    error     another size, CRS or corner than the chip
        georeference   warning   the mask has none and the chip has; sizes agree
        outside        error     more than `OUTSIDE` of it outside the chip's data
        bright         error     median inside not below the median of the 5 pixels around it
        misregistered  error     off by more than `SHIFT`, against the other masks of its group too
        misregistered  warning   the whole group is off by more than `SHIFT`: `mend` moves it back
        area           error     beyond `SIGMAS` and `AREA` from the median of its group
        overlap        error     IoU with the majority mask of its group below `OVERLAP`
        duplicate      error     the same mask as another pair's, where it agrees better with that one's group
        duplicate      warning   the same mask as another pair's, otherwise
        place          warning   the lake is not where its chips are; ``value`` is the distance in km
        ============== ========= ===================================================================================

    Raises
    ------
    ConfigError
        When two pairs have the same id, or an array is not 2-D.

    Notes
    -----
    Groups of fewer than `GROUP` masks have no median: for them area and overlap are not checked. Eager, 0.03 s a pair.

    Examples
    --------
    >>> chip = np.full((256, 256), 200, np.uint8)
    >>> check_labels([LabelPair("a", "gokyo", "gokyo T121", chip, np.zeros_like(chip))])[["kind", "severity"]]
        kind severity
    0  empty    error
    """
    pairs = list(pairs)
    _refuse(pairs)
    findings: list[Finding] = []
    groups: dict[str, list[Looked]] = defaultdict(list)
    for pair in pairs:
        found = list(by_itself(pair))
        findings += found
        if not any(finding.kind in UNUSABLE for finding in found):
            groups[pair.group].append(look(pair))
    likeness: dict[str, float] = {}
    for members in groups.values():
        likeness |= majority_likeness(members)
        findings += [*registration(members), *plausibility(members, likeness)]
    looked = [member for members in groups.values() for member in members]
    findings += [finding for member in looked for finding in radiometry(member)]
    findings += [*duplicates(looked, likeness), *places(pairs, known_positions() if positions is None else positions)]
    order = {pair.id: index for index, pair in enumerate(pairs)}
    findings.sort(key=lambda finding: order[finding.id])
    return pd.DataFrame(findings, columns=list(COLUMNS)).astype({"value": "float64", "limit": "float64"})


def sound(
    pairs: Sequence[LabelPair], findings: pd.DataFrame | None = None, *, at_most: float = AT_MOST
) -> list[LabelPair]:
    """Pairs without an error.

    Parameters
    ----------
    pairs
        As for `check_labels`.
    findings
        What `check_labels` said of them; made here if not given.
    at_most
        Part of the pairs that may be dropped, 0..1. When more have an error, the worst are dropped, by how many times
        the limit their worst finding is. Masks that can't be used at all (empty, off the lattice, other values) are
        always dropped.

    Returns
    -------
    list
        The pairs that stay, in their order.

    Raises
    ------
    ConfigError
        When `at_most` is not between 0 and 1.
    """
    if not 0 <= at_most <= 1:
        msg = f"at_most is {at_most}; give a part of the pairs from 0 to 1, e.g. {AT_MOST}"
        raise ConfigError(msg)
    table = check_labels(pairs) if findings is None else findings
    errors = table[table["severity"] == "error"]
    gravity: dict[str, float] = {}
    for name, kind, value, limit in zip(errors["id"], errors["kind"], errors["value"], errors["limit"], strict=True):
        gravity[name] = max(gravity.get(name, 0.0), _times(kind, value, limit))
    worst = sorted(gravity, key=lambda name: -gravity[name])
    allowed = int(at_most * len(pairs))
    dropped = {name for rank, name in enumerate(worst) if rank < allowed or np.isinf(gravity[name])}
    return [pair for pair in pairs if pair.id not in dropped]


def mend(pairs: Iterable[LabelPair]) -> dict[str, Any]:
    """Masks of groups that are misregistered as a whole, moved back.

    Parameters
    ----------
    pairs
        As for `check_labels`.

    Returns
    -------
    dict
        Pair id to mask (bool): shifted and stretched by the median of its group. Other pairs are not in it.

    Notes
    -----
    Only the median movement of at least `GROUP` masks is undone: one mask alone says too little on where it belongs.
    """
    groups: dict[str, list[Looked]] = defaultdict(list)
    for pair in pairs:
        if not any(finding.kind in UNUSABLE for finding in by_itself(pair)):
            groups[pair.group].append(look(pair))
    return {
        member.pair.id: moved(member.water, movement)
        for members in groups.values()
        if (movement := common_movement(members)) is not None
        for member in members
    }


def _refuse(pairs: list[LabelPair]) -> None:
    seen: set[str] = set()
    for pair in pairs:
        if pair.id in seen:
            msg = f"two pairs have the id {pair.id!r}; ids must be unique, e.g. lake and file name"
            raise ConfigError(msg)
        seen.add(pair.id)
        if np.ndim(pair.chip) != 2 or np.ndim(pair.mask) != 2:
            msg = (
                f"pair {pair.id!r}: chip and mask have {np.ndim(pair.chip)} and {np.ndim(pair.mask)} dims; give 2 each"
            )
            raise ConfigError(msg)


def _times(kind: str, value: float, limit: float) -> float:
    """How many times worse than the limit."""
    if kind in UNUSABLE:
        return float("inf")
    if kind == "bright":
        return 1 + -value / 25.5
    return limit / max(value, 1e-3) if kind == "overlap" else value / limit


def _opened(path: Path) -> tuple[Any, dict[str, Any]]:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a finding says so
            with rasterio.open(path) as file:
                return file.read(1), dict(file.profile)
    except (RasterioError, OSError) as error:
        msg = f"{path} can't be read ({error}); take it out or mend it"
        raise SourceError(msg) from error
