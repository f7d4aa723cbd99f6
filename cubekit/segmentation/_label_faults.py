"""The faults that `check_labels` looks for, each a generator of findings."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from cubekit.errors import ConfigError
from cubekit.segmentation._registration import Displacement, displacement, shore_length

OUTSIDE = 0.05
"""Part of a mask that may lie outside the chip's data. Drawn shores cross its border by a pixel or so."""

OFF_GRID = 0.1
"""Pixels a mask's corner may be away from its chip's: what rounding in a header leaves, less than any resampling."""

SHIFT = 1.5
"""Pixels (root mean square along the shore) a mask may be off. The authors' masks at Gokyo are off by 1 through
resampling, and careful drawing leaves 0.5 to 1; at 20 m, 1.5 pixels move a lake of 1 km2 by 5 % of its area."""

GAIN = 0.2
"""Part of the unexplained variance that moving a mask must remove, before it counts as misregistered: radar shadow and
snow beside a lake draw a mask of the right place some pixels towards them, but gain 0.05 to 0.15 only."""

SURE = 3.0
"""Standard deviations by which a single mask's movement must exceed `SHIFT`: 1 in 700 of those at the limit."""

SIGMAS = 4.0
"""Robust standard deviations an area may be away from its group's median: 1 in 16,000 of a normal spread."""

AREA = 0.10
"""Part by which an area must differ as well: consecutive dates of one lake and direction differ by as much."""

OVERLAP = 0.5
"""Least IoU with the majority mask of the group. Labels of the same lake and direction agree by 0.7 to 0.95; below 0.5
less than two thirds of the water is shared, and one of the two is another thing."""

GROUP = 5
"""Masks a group must have before its median says something."""

PLACE = 1.0
"""Kilometres that the known position of a lake may lie outside the data of its chips."""

_RING = 5
UNUSABLE = ("empty", "values", "off_lattice")
"""Kinds of findings after which nothing else can be checked."""


@dataclass(frozen=True, eq=False)
class LabelPair:
    """A chip and the mask that was drawn on it.

    Parameters
    ----------
    id
        Unique name, e.g. the file's.
    lake
        Name of the lake, as labelled.
    group
        Pairs of one group show the same lake on the same grid from the same side: areas and shapes are compared within.
    chip
        uint8, 2-D, 0 = no data (or darkest).
    mask
        2-D, water > 0, land 0.
    chip_profile, mask_profile
        As `rasterio` gives them; ``crs`` and ``transform`` are looked at. Empty: not known, and not compared.
    """

    id: str
    lake: str
    group: str
    chip: Any = field(repr=False)
    mask: Any = field(repr=False)
    chip_profile: Mapping[str, Any] = field(default_factory=dict, repr=False)
    mask_profile: Mapping[str, Any] = field(default_factory=dict, repr=False)


class Finding(NamedTuple):
    """A row of the table."""

    id: str
    lake: str
    kind: str
    severity: str
    value: float
    limit: float
    text: str


@dataclass(frozen=True, eq=False)
class Looked:
    """A usable pair and what is computed of it once."""

    pair: LabelPair
    water: Any
    valid: Any
    place: Displacement | None
    sha256: str


def by_itself(pair: LabelPair) -> Iterator[Finding]:
    """What is wrong with a mask, or with its grid beside the chip's."""
    mask, chip = np.asarray(pair.mask), np.asarray(pair.chip)

    def found(kind: str, severity: str, value: float, limit: float, text: str) -> Finding:
        return Finding(pair.id, pair.lake, kind, severity, value, limit, text)

    values = np.unique(mask)
    if values.size > 2 or not np.isfinite(values).all() or (values.size == 2 and values[0] != 0):
        text = f"the mask has {values.size} values, the first {values[:3].tolist()}; a mask is 0 and one other"
        yield found("values", "error", values.size, 2, text)
    elif not (mask > 0).any():
        yield found("empty", "error", 0, 1, "the mask has no water; draw it, or leave the pair out")
    if mask.shape != chip.shape:
        text = f"the mask has {mask.shape} pixels and the chip {chip.shape}; rasterise it on the chip's grid"
        yield found("off_lattice", "error", float(np.abs(np.subtract(mask.shape, chip.shape)).max()), 0, text)
        return
    there, here = (_grid(profile) for profile in (pair.chip_profile, pair.mask_profile))
    if there is None:
        return
    if here is None:
        if pair.mask_profile:
            text = "the mask has lost its georeference and is taken to lie on its chip pixel for pixel"
            yield found("georeference", "warning", 1, 0, text)
        return
    if here[0] != there[0]:
        yield found("off_lattice", "error", 1, 0, f"the mask is in {here[0]} and the chip in {there[0]}")
        return
    away = _corners_apart(here[1], there[1], mask.shape)
    if away > OFF_GRID:
        text = f"a corner of the mask lies {away:.2f} pixels from the chip's; rasterise it on the chip's grid"
        yield found("off_lattice", "error", away, OFF_GRID, text)


def _grid(profile: Mapping[str, Any]) -> tuple[Any, Any] | None:
    """CRS and transform; None when there is no georeference."""
    crs, transform = profile.get("crs"), profile.get("transform")
    if not crs or transform is None or tuple(transform)[:6] == (1, 0, 0, 0, 1, 0):
        return None
    return crs, transform


def _corners_apart(one: Any, other: Any, shape: tuple[int, ...]) -> float:
    """Largest distance of two grids' corners, pixels of the second."""
    rows, columns = shape
    corners = np.array([(0, 0, 1), (columns, 0, 1), (0, rows, 1), (columns, rows, 1)], dtype=np.float64).T
    first, second = (np.array(tuple(transform)[:6], dtype=np.float64).reshape(2, 3) for transform in (one, other))
    metres = np.hypot(*((first - second) @ corners))
    return float(metres.max() / np.sqrt(abs(np.linalg.det(second[:, :2]))))


def look(pair: LabelPair) -> Looked:
    """Compute once what several checks need."""
    from skimage.morphology import convex_hull_image

    water, chip = np.asarray(pair.mask) > 0, np.asarray(pair.chip)
    # Zeros inside the AOI are water as often as no data, so the AOI is what lies between the pixels that are not 0.
    bright = chip > 0
    valid = convex_hull_image(bright) if bright.any() else bright  # type: ignore[no-untyped-call]
    digest = hashlib.sha256(np.packbits(water).tobytes() + repr(water.shape).encode()).hexdigest()
    return Looked(pair, water, valid, displacement(chip, water, valid), digest)


def radiometry(member: Looked) -> Iterator[Finding]:
    """Outside the chip's data, or brighter than its surroundings."""
    from scipy import ndimage

    pair, water, valid = member.pair, member.water, member.valid
    outside = float((water & ~valid).sum() / water.sum())
    if outside > OUTSIDE:
        text = f"{outside:.0%} of the mask lies where the chip has no data; is it another lake's?"
        yield Finding(pair.id, pair.lake, "outside", "error", outside, OUTSIDE, text)
    ring = ndimage.binary_dilation(water, iterations=_RING) & ~water & valid
    inside = water & valid
    if ring.any() and inside.any():
        chip = np.asarray(pair.chip)
        contrast = float(np.median(chip[ring])) - float(np.median(chip[inside]))
        if contrast <= 0:
            text = f"the mask is brighter than what surrounds it, by {-contrast:.0f} of 255; water is darker"
            yield Finding(pair.id, pair.lake, "bright", "error", contrast, 0, text)


def common_movement(members: list[Looked]) -> Any | None:
    """The movement that a whole group needs, or None when it lies well (or can't be told)."""
    placed = [member.place for member in members if member.place is not None]
    if len(placed) < GROUP:
        return None
    movement = np.median([place.parameters for place in placed], axis=0)
    off = shore_length(_majority(members), movement)
    return movement if off > SHIFT and np.median([place.gain for place in placed]) > GAIN else None


def registration(members: list[Looked]) -> Iterator[Finding]:
    """Masks that lie beside their lake, all of a group or one alone."""
    common = common_movement(members)
    shared = np.zeros(4) if common is None else common
    if common is not None:
        off = shore_length(_majority(members), common)
        text = (
            f"all masks of {members[0].pair.group!r} are off: {common[0]:+.1f} down, {common[1]:+.1f} right pixels, "
            f"stretched by {common[2]:+.1%} and {common[3]:+.1%}; mend moves them back"
        )
        for member in members:
            yield Finding(member.pair.id, member.pair.lake, "misregistered", "warning", off, SHIFT, text)
    for member in members:
        place = member.place
        if place is None or place.gain < GAIN or place.rms - SURE * place.rms_error < SHIFT:
            continue
        own = shore_length(member.water, place.parameters - shared)
        if own - SURE * place.rms_error > SHIFT:
            down, right = place.parameters[:2]
            text = (
                f"the mask fits its chip better when moved by {own:.1f} ± {place.rms_error:.1f} pixels "
                f"({down:+.1f} down, {right:+.1f} right at the chip's centre); draw it again"
            )
            yield Finding(member.pair.id, member.pair.lake, "misregistered", "error", own, SHIFT, text)


def _majority(members: list[Looked]) -> Any:
    return np.mean([member.water for member in members], axis=0) >= 0.5


def majority_likeness(members: list[Looked]) -> dict[str, float]:
    """IoU of each mask with the majority mask of its group, by id."""
    if len({member.water.shape for member in members}) > 1:
        sizes = sorted({member.water.shape for member in members})
        msg = f"masks of group {members[0].pair.group!r} have different sizes {sizes}; a group is one grid"
        raise ConfigError(msg)
    majority = _majority(members)
    return {
        member.pair.id: float((member.water & majority).sum() / max((member.water | majority).sum(), 1))
        for member in members
    }


def plausibility(members: list[Looked], likeness: Mapping[str, float]) -> Iterator[Finding]:
    """Areas and shapes that differ from those of the group."""
    if len(members) < GROUP:
        return
    areas = np.array([member.water.sum() for member in members], dtype=np.float64)
    median = float(np.median(areas))
    sigma = 1.4826 * float(np.median(np.abs(areas - median)))
    limit = max(SIGMAS * sigma, AREA * median)
    for member, area in zip(members, areas, strict=True):
        pair, away = member.pair, abs(float(area) - median)
        if away > limit:
            text = f"{area:.0f} pixels, and its group has a median of {median:.0f}, robust sigma {sigma:.0f}"
            yield Finding(pair.id, pair.lake, "area", "error", away, limit, text)
        if likeness[pair.id] < OVERLAP:
            text = f"IoU {likeness[pair.id]:.2f} with the majority mask of its group"
            yield Finding(pair.id, pair.lake, "overlap", "error", likeness[pair.id], OVERLAP, text)


def duplicates(looked: list[Looked], likeness: Mapping[str, float]) -> Iterator[Finding]:
    """One mask under several names."""
    same: dict[str, list[Looked]] = defaultdict(list)
    for member in looked:
        same[member.sha256].append(member)
    for members in same.values():
        if len(members) == 1:
            continue
        best = max(likeness[member.pair.id] for member in members)
        for member in members:
            pair, others = member.pair, ", ".join(other.pair.id for other in members if other is not member)
            severity = "error" if likeness[pair.id] < best else "warning"
            text = f"the same mask, pixel for pixel, as {others}; was it saved under a wrong name?"
            yield Finding(pair.id, pair.lake, "duplicate", severity, len(members), 1, text)


def places(pairs: list[LabelPair], positions: Mapping[str, tuple[float, float]]) -> Iterator[Finding]:
    """Chips that don't show the lake they are named after."""
    import pyproj

    for pair in pairs:
        grid = _grid(pair.chip_profile)
        rows, columns = np.nonzero(np.asarray(pair.chip))
        if pair.lake not in positions or grid is None or not rows.size:
            continue
        latitude, longitude = positions[pair.lake]
        to_grid = pyproj.Transformer.from_crs("OGC:CRS84", pyproj.CRS.from_user_input(grid[0]), always_xy=True)
        x, y = to_grid.transform(longitude, latitude)
        a, b, c, d, e, f = tuple(grid[1])[:6]
        column, row = np.linalg.solve([[a, b], [d, e]], [x - c, y - f])
        away = np.hypot(_beyond(row, rows) * np.hypot(b, e), _beyond(column, columns) * np.hypot(a, d)) / 1000
        if not away <= PLACE:
            across, along = (columns.min() + columns.max() + 1) / 2, (rows.min() + rows.max() + 1) / 2
            centre = float(np.hypot(a * across + b * along + c - x, d * across + e * along + f - y) / 1000)
            text = f"{pair.lake} ({latitude:.3f} N {longitude:.3f} E) is {centre:.0f} km from the chip's middle"
            yield Finding(pair.id, pair.lake, "place", "warning", centre, PLACE, text)


def _beyond(index: float, indices: Any) -> float:
    """How far outside the range of indices."""
    return max(float(indices.min()) - index, index - float(indices.max()) - 1, 0.0)
