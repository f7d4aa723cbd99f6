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
"""Chip (y, x) uint8 as `equalize` makes it, mask (y, x) bool with True on water, observed (y, x) bool."""


def augment(sample: Labelled, options: AugmentationOptions, *, seed: int, epoch: int, index: int) -> Labelled:
    """Change a sample at random, chip, mask and observed alike.

    Parameters
    ----------
    sample
        Chip, mask and observed, all (y, x). A square when ``options.turns``.
    options
        What may be done, and how far. With the defaults the sample comes back as it is.
    seed, epoch, index
        0 or more. Equal ones give equal changes, in whatever order and process samples are made.

    Returns
    -------
    Labelled
        Of the same shape and dtypes; the given arrays are left as they are. What moved in from outside and what was cut
        out is nodata: chip 0, not observed, not water. The chip's 0 stays 0, and nothing else becomes 0.

    Raises
    ------
    ConfigError
        When ``options.turns`` and the sample is no square.

    Examples
    --------
    >>> chip = np.full((4, 4), 100, np.uint8)
    >>> sample = chip, chip > 0, chip > 0
    >>> changed = augment(sample, AugmentationOptions(shift=2, jitter=0.2), seed=0, epoch=1, index=2)
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

    chip, mask, observed = sample
    if options.turns and chip.shape[0] != chip.shape[1]:
        msg = f"a sample of {chip.shape[0]} x {chip.shape[1]} pixels can't be turned; cut squares, or set turns = false"
        raise ConfigError(msg)
    if options.flip and mirrored:
        chip, mask, observed = chip[:, ::-1], mask[:, ::-1], observed[:, ::-1]
    if options.turns and turns:
        chip, mask, observed = np.rot90(chip, turns), np.rot90(mask, turns), np.rot90(observed, turns)
    if options.shift:
        down, right = (int(move * (2 * options.shift + 1)) - options.shift for move in moves)
        chip, mask, observed = (_moved(array, down, right) for array in (chip, mask, observed))
    if options.jitter:
        chip = _jittered(chip, 1 + brighter * options.jitter)
    if options.cutout:
        hole = tuple(_hole(length, options.cutout, float(at)) for length, at in zip(chip.shape, corner, strict=True))
        chip, mask, observed = chip.copy(), mask.copy(), observed.copy()
        chip[hole], mask[hole], observed[hole] = 0, False, False
    return np.ascontiguousarray(chip), np.ascontiguousarray(mask), np.ascontiguousarray(observed)


def _moved(array: npt.NDArray[Any], down: int, right: int) -> npt.NDArray[Any]:
    """Move what an image shows; 0 comes in."""
    moved = np.zeros_like(array)
    height, width = array.shape
    if abs(down) < height and abs(right) < width:
        source = array[max(-down, 0) : height - max(down, 0), max(-right, 0) : width - max(right, 0)]
        moved[max(down, 0) : height + min(down, 0), max(right, 0) : width + min(right, 0)] = source
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
