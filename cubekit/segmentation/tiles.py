"""Tiles: any window as chips that the network takes, and their answers put together again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

CHIP = 256
"""Rows and columns of a chip, at most."""

STEP = 32
"""Sides of what a network sees divide by this: it halves its images five times."""

MARGIN = 8
"""Zeros around a window that is smaller than a chip, pixels, at least where a chip has room for them.

Networks that were trained on windows of 160 x 160 do better with few zeros than padded to 256 x 256: on the real pairs
IoU 0.781 against 0.767 (trained on simulation only) and 0.885 against 0.877 (trained up to 2023, tested on 2024).
"""

OVERLAP = 64
"""Pixels that neighbouring tiles share at least: the network knows little of the surroundings near a chip's edge."""


@dataclass(frozen=True)
class Tile:
    """One chip's place in a window.

    Parameters
    ----------
    source
        Rows and columns of the window that the chip shows.
    target
        Where they lie on the chip; the rest of it is 0.
    weight
        float64, shape of `source`: its share of each pixel. Over all tiles of a window they sum to 1.
    shape
        Rows and columns of the chip.
    """

    source: tuple[slice, slice]
    target: tuple[slice, slice]
    weight: npt.NDArray[np.float64]
    shape: tuple[int, int]

    def chip(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Cut this chip out of an image (..., y, x); 0 outside of it."""
        chip = np.zeros((*image.shape[:-2], *self.shape), image.dtype)
        chip[(..., *self.target)] = image[(..., *self.source)]
        return chip


def cut(shape: tuple[int, ...]) -> list[Tile]:
    """Cover a window with chips.

    Parameters
    ----------
    shape
        Rows and columns of the window.

    Returns
    -------
    list of Tile
        One when the window fits on a chip: it lies in its middle, the odd row or column of zeros below or to the right
        of it, as in the published chips; of these only as many zeros are kept as make the sides divide by `STEP`.
        Otherwise tiles that share `OVERLAP` pixels or more; the last one ends with the window, so nothing is left out.
        All have one shape.

    Examples
    --------
    >>> [tile.source for tile in cut((100, 300))]
    [(slice(0, 100, None), slice(0, 256, None)), (slice(0, 100, None), slice(44, 300, None))]
    >>> cut((100, 300))[0].shape
    (128, 256)
    """
    rows, columns = (_cut_line(length) for length in shape)
    return [
        Tile((row, column), (row_on_chip, column_on_chip), row_weight[:, None] * column_weight, (height, width))
        for row, row_on_chip, row_weight, height in rows
        for column, column_on_chip, column_weight, width in columns
    ]


def blend(chips: npt.NDArray[np.float32], tiles: Sequence[Tile]) -> npt.NDArray[np.float32]:
    """Put the answers for all tiles of one window together.

    Parameters
    ----------
    chips
        (number of tiles, y, x), in the order of `tiles`.
    tiles
        As `cut` gave them.

    Returns
    -------
    numpy.ndarray
        float32, shape of the window: the mean of what its tiles say of a pixel, weighted so that no seam shows.
    """
    height, width = (max(tile.source[axis].stop for tile in tiles) for axis in (0, 1))
    window = np.zeros((height, width))
    for tile, chip in zip(tiles, chips, strict=True):
        window[tile.source] += tile.weight * chip[tile.target]
    return window.astype(np.float32)


def _cut_line(length: int) -> list[tuple[slice, slice, npt.NDArray[np.float64], int]]:
    """Cover one axis: where each tile lies, where that is on the chip, its weight in each of its pixels; the length."""
    if length <= CHIP:
        side = min(CHIP, -(-(length + 2 * MARGIN) // STEP) * STEP)
        first = (side - length) // 2
        return [(slice(0, length), slice(first, first + length), np.ones(length), side)]
    starts = [*range(0, length - CHIP, CHIP - OVERLAP), length - CHIP]
    # Rises over the overlap from a chip's edge as sin^2 and is never 0: where a tile is alone, its share is 1.
    distance = np.minimum(np.arange(CHIP), np.arange(CHIP)[::-1]) + 0.5
    bell = np.sin(np.pi / 2 * np.minimum(distance / OVERLAP, 1.0)) ** 2
    total = np.zeros(length)
    for start in starts:
        total[start : start + CHIP] += bell
    return [(slice(s, s + CHIP), slice(0, CHIP), bell / total[s : s + CHIP], CHIP) for s in starts]
