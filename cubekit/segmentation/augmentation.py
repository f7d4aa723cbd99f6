"""Augmentation: new samples from old ones, without showing the network what a radar never sees.

A Sentinel-1 pass looks from one side: slopes that face it are bright and fold over, slopes behind them lie in shadow.
Mirroring or turning an image moves the radar, so a network for one track must not see that; moving the image, making it
brighter or losing a part of it happens to any track.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cubekit.errors import ConfigError
from cubekit.segmentation.recipe import AugmentationOptions

Labelled = tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_], npt.NDArray[np.bool_]]
"""Image uint8, mask bool with True on water, observed bool, the last two (y, x).

The image is a chip (y, x) as `equalize` makes it, or (channel, y, x): the chip, and where the lake was, 0 to 255.
"""


def augment(
    sample: Labelled, options: AugmentationOptions, *, seed: int, epoch: int, index: int, crop: int = 0
) -> Labelled:
    """Change a sample at random, image, mask and observed alike.

    Parameters
    ----------
    sample
        A square when ``options.turns``, unless it is cropped to one.
    options
        What may be done, and how far.
    seed, epoch, index
        0 or more. Equal ones give equal changes, in whatever order and process samples are made.
    crop
        Side of the window that is cut out first, pixels; it holds what was observed, or lies within it. 0: all.

    Returns
    -------
    Labelled
        Of the same shape, or cropped, and the same dtypes; the given arrays are left as they are. What moved in from
        outside and what was cut out is nodata: chip 0, not observed, not water. The chip's 0 stays 0, and nothing else
        becomes 0. Where the lake was moves along, stays under a hole, or is forgotten as a whole.

    Raises
    ------
    ConfigError
        When ``options.turns`` and the sample is no square, or it is smaller than the crop.

    Examples
    --------
    >>> chip = np.full((4, 4), 100, np.uint8)
    >>> sample = chip, chip > 0, chip > 0
    >>> changed = augment(sample, AugmentationOptions(shift=2, jitter=0.2), seed=0, epoch=1, index=2, crop=2)
    >>> bool((changed[2] == (changed[0] > 0)).all())
    True
    """
    random = np.random.default_rng((seed, epoch, index))
    # All are drawn, whatever is switched on: switching one off changes nothing in the others.
    mirrored = random.random() < 0.5
    turns = int(random.integers(4))
    moves = random.random(2)
    brighter = random.uniform(-1, 1)
    corner = random.random(2)
    forgotten = random.random() < options.forget
    cut = random.random(2)

    image, mask, observed = sample
    flat = image.ndim == 2
    image = image[None] if flat else image
    if crop:
        window = _window(observed, crop, cut)
        image, mask, observed = image[:, *window], mask[window], observed[window]
    if options.turns and mask.shape[0] != mask.shape[1]:
        msg = f"a sample of {mask.shape[0]} x {mask.shape[1]} pixels can't be turned; cut squares, or set turns = false"
        raise ConfigError(msg)
    if options.flip and mirrored:
        image, mask, observed = image[..., ::-1], mask[..., ::-1], observed[..., ::-1]
    if options.turns and turns:
        image = np.rot90(image, turns, axes=(-2, -1))
        mask, observed = np.rot90(mask, turns), np.rot90(observed, turns)
    if options.shift:
        down, right = (int(move * (2 * options.shift + 1)) - options.shift for move in moves)
        image, mask, observed = (_moved(array, down, right) for array in (image, mask, observed))
    image, mask, observed = image.copy(), mask.copy(), observed.copy()
    if options.jitter:
        image[0] = _jittered(image[0], 1 + brighter * options.jitter)
    if options.cutout:
        hole = tuple(_hole(length, options.cutout, float(at)) for length, at in zip(mask.shape, corner, strict=True))
        image[0][hole], mask[hole], observed[hole] = 0, False, False
    if forgotten:
        image[1:] = 0
    return image[0] if flat else image, mask, observed


def _window(observed: npt.NDArray[np.bool_], side: int, at: npt.NDArray[np.float64]) -> tuple[slice, slice]:
    """A square anywhere around what was observed when that fits in, and anywhere within it otherwise."""
    if side > min(observed.shape):
        msg = (
            f"a sample of {observed.shape[0]} x {observed.shape[1]} pixels holds no crop of {side}; set a smaller crop"
        )
        raise ConfigError(msg)
    starts = []
    for axis, share in enumerate(at):
        seen = np.flatnonzero(observed.any(axis=1 - axis))
        first, end = (int(seen[0]), int(seen[-1]) + 1) if seen.size else (0, observed.shape[axis])
        low, high = sorted((first, end - side))
        low, high = max(low, 0), min(high, observed.shape[axis] - side)
        starts.append(low + int(share * (high - low + 1)))
    row, column = starts
    return slice(row, row + side), slice(column, column + side)


def _moved(array: npt.NDArray[Any], down: int, right: int) -> npt.NDArray[Any]:
    """Move what an image shows; 0 comes in."""
    moved = np.zeros_like(array)
    height, width = array.shape[-2:]
    if abs(down) < height and abs(right) < width:
        source = array[..., max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
        moved[..., max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = source
    return moved


def _jittered(chip: npt.NDArray[np.uint8], factor: float) -> npt.NDArray[np.uint8]:
    """Multiply the greys; 0 is nodata and stays so, and no grey becomes nodata."""
    greys = np.arange(256) * factor
    table: npt.NDArray[np.uint8] = np.clip(np.rint(greys), 1, 255).astype(np.uint8)
    table[0] = 0
    return np.asarray(table[chip])


def _hole(length: int, side: int, at: float) -> slice:
    """Where a square lies along one axis: its middle anywhere, cut off at the edges."""
    first = round(at * length - side / 2)
    return slice(max(first, 0), max(first + side, 0))
