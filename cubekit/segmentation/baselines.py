"""Baselines: what a model has to beat, because it needs less.

Two of them see no radar at all: lakes stay where they are, so a mask of another date says most of what there is to say.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cubekit.errors import ConfigError
from cubekit.segmentation.otsu import otsu_threshold
from cubekit.segmentation.splits import Sample

Booleans = npt.NDArray[np.bool_]

ZONE_PIXELS = 10
"""How far from the training outline Otsu's baseline looks, pixels: 200 m at 20 m, the lake zone of design.md."""

NARROWEST = 3
"""Side of the square that dark parts have to hold, pixels: rough land has threads of dark pixels along every shore."""

FEWEST_PIXELS = 30
"""Fewer observed pixels than this in the zone part into no two classes."""


class Guess(NamedTuple):
    """What a baseline says of one sample, and from what it knows."""

    water: Booleans | None
    """(y, x); None when it knows nothing: then no water is claimed."""
    basis: str
    """Which key it fell back to: ``lake, grid, direction``, ``lake, grid``, ..., or ``nothing``."""


class Mean(NamedTuple):
    """What the masks of other dates say of one sample."""

    water: npt.NDArray[np.float64] | None
    """(y, x): share of the masks that have water, 0 to 1; None when there is none."""
    basis: str
    """As in `Guess`."""


class _Sum(NamedTuple):
    water: npt.NDArray[np.int64]
    masks: int


def mask_only(
    samples: Sequence[Sample], masks: Sequence[Booleans], train: Sequence[int], test: Sequence[int]
) -> Iterator[Guess]:
    """Mean training mask of the same lake, grid and direction, water from 0.5 on: no radar at all.

    Parameters
    ----------
    samples
        All of them.
    masks
        Their masks, bool (y, x), in the same order; read when needed, each of `train` once.
    train, test
        Indices. A sample's own scene is never used for it, so the two may be the same: then each sample is guessed from
        all others.

    Yields
    ------
    Guess
        For each of `test`, in order. Where no training mask has the same lake, grid and direction, those of the same
        lake and grid; then nothing.

    Raises
    ------
    ConfigError
        When samples and masks are not as many.
    """
    for mean in mean_masks(samples, masks, train, test):
        yield Guess(None if mean.water is None else mean.water >= 0.5, mean.basis)


def mean_masks(
    samples: Sequence[Sample], masks: Sequence[Booleans], train: Sequence[int], test: Sequence[int]
) -> Iterator[Mean]:
    """Mean training mask of the same lake, grid and direction: what `mask_only` cuts at 0.5.

    Parameters
    ----------
    samples, masks, train, test
        As in `mask_only`.

    Yields
    ------
    Mean
        For each of `test`, in order.

    Raises
    ------
    ConfigError
        As `mask_only`.
    """
    _check(samples, masks)
    sums: dict[str, _Sum] = {}
    of_scene: dict[tuple[str, object], list[int]] = {}
    for index in train:
        of_scene.setdefault(samples[index].scene, []).append(index)
        mask = masks[index]
        for key in _keys(samples[index]).values():
            before = sums.get(key)
            water = mask.astype(np.int64) if before is None else before.water + mask
            sums[key] = _Sum(water, 1 if before is None else before.masks + 1)
    for index in test:
        mean = Mean(None, "nothing")
        own = of_scene.get(samples[index].scene, [])
        for basis, key in _keys(samples[index]).items():
            whole = sums.get(key)
            if whole is None:
                continue
            mine = [masks[other] for other in own if key in _keys(samples[other]).values()]
            count = whole.masks - len(mine)
            if count:
                water = whole.water - sum(mine, np.zeros_like(whole.water))
                mean = Mean(water / count, basis)
                break
        yield mean


def same_place(samples: Sequence[Sample]) -> list[list[int]]:
    """For each sample the others of the same lake, grid and direction, or where there are none of lake and grid.

    Another processing of its own scene is no other.
    """
    groups: dict[str, list[int]] = {}
    for index, sample in enumerate(samples):
        for key in _keys(sample).values():
            groups.setdefault(key, []).append(index)
    found = []
    for sample in samples:
        kinds = ([one for one in groups[key] if samples[one].scene != sample.scene] for key in _keys(sample).values())
        found.append(next(filter(None, kinds), []))
    return found


def previous_outline(
    samples: Sequence[Sample], masks: Sequence[Booleans], train: Sequence[int], test: Sequence[int]
) -> Iterator[Guess]:
    """Last training mask of the same lake, grid and direction before the sample.

    Parameters
    ----------
    samples, masks, train, test
        As in `mask_only`.

    Yields
    ------
    Guess
        For each of `test`, in order. Where there is none before: the last one of the same lake and grid before; then
        the first one after (same direction, then either), which a series in use would not have; then nothing.

    Raises
    ------
    ConfigError
        As `mask_only`.
    """
    _check(samples, masks)
    groups: dict[str, list[int]] = {}
    for index in sorted(train, key=lambda index: (samples[index].time, samples[index].id)):
        for key in _keys(samples[index]).values():
            groups.setdefault(key, []).append(index)
    for index in test:
        when = samples[index].time
        keys = _keys(samples[index])
        before = {
            f"{basis}, before": [one for one in groups.get(key, []) if samples[one].time < when]
            for basis, key in keys.items()
        }
        after = {
            f"{basis}, after": [one for one in groups.get(key, []) if samples[one].time > when][:1]
            for basis, key in keys.items()
        }
        best = next(((basis, found[-1]) for basis, found in {**before, **after}.items() if found), None)
        yield Guess(None, "nothing") if best is None else Guess(masks[best[1]], best[0])


def otsu_on_chip(chip: npt.NDArray[np.uint8], observed: Booleans, outline: Booleans | None) -> Booleans:
    """Otsu's threshold of the grey values in one chip: the dark patch that touches a known outline.

    Parameters
    ----------
    chip
        uint8 (y, x).
    observed
        bool (y, x).
    outline
        bool (y, x): the lake as the training masks have it. None, or empty: the largest dark patch is taken.

    Returns
    -------
    numpy.ndarray
        bool (y, x): water. All False where the values don't part into two, or nothing dark touches the outline.

    Notes
    -----
    The threshold (Otsu 1979) is that of the pixels within `ZONE_PIXELS` of the outline, and water lies within them:
    equalised grey values of a whole chip are evenly spread, and Otsu's threshold of those is their median whatever the
    chip shows. Dark parts that hold no square of `NARROWEST` pixels are cut off first.

    Examples
    --------
    >>> chip = np.full((20, 20), 200, np.uint8)
    >>> chip[5:10, 5:10] = 10
    >>> outline = np.zeros((20, 20), np.bool_)
    >>> outline[6:9, 6:9] = True
    >>> bool((otsu_on_chip(chip, chip > 0, outline) == (chip == 10)).all())
    True
    """
    from scipy import ndimage

    known = outline is not None and bool(outline.any())
    zone = observed
    if outline is not None and known:
        zone = observed & np.asarray(ndimage.binary_dilation(outline, iterations=ZONE_PIXELS), np.bool_)
    nothing = np.zeros(chip.shape, np.bool_)
    if np.count_nonzero(zone) < FEWEST_PIXELS:
        return nothing
    threshold = otsu_threshold(chip[zone].astype(np.float64))
    if threshold is None:
        return nothing
    square = np.ones((NARROWEST, NARROWEST), np.bool_)
    dark = np.asarray(ndimage.binary_opening(zone & (chip < threshold), square), np.bool_)
    labels, count = ndimage.label(dark)
    if not count:
        return nothing
    if outline is not None and known:
        touching = np.unique(labels[dark & outline])
        return np.isin(labels, touching[touching > 0])
    size = np.bincount(labels.ravel())
    size[0] = 0
    return np.asarray(labels == size.argmax())


def _keys(sample: Sample) -> dict[str, str]:
    """Keys under which masks are alike, by what they have in common, the finest first."""
    return {
        "lake, grid, direction": f"{sample.lake}|{sample.grid}|{sample.direction}",
        "lake, grid": f"{sample.lake}|{sample.grid}",
    }


def _check(samples: Sequence[Sample], masks: Sequence[Booleans]) -> None:
    if len(samples) != len(masks):
        msg = f"{len(samples)} samples and {len(masks)} masks; give each sample its mask"
        raise ConfigError(msg)
