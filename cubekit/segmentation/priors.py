"""Priors: where a lake was before, as a second image beside the chip.

A lake stays where it is, so masks of other dates, or an outline of an inventory, say most of what there is to say. What
a network adds to that shows against the baseline `mask_only`, which sees no radar.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cubekit.segmentation.baselines import mean_masks, same_place
from cubekit.segmentation.splits import Sample

if TYPE_CHECKING:
    import xarray as xr

    from cubekit.lakes import Lake
    from cubekit.segmentation.pairs import Header

Prior = npt.NDArray[np.uint8]
"""(y, x): 255 where the lake always was, 0 where it never was or where nothing is known."""


def prior_keys(sample: Sample) -> tuple[str, str]:
    """Under which names a model keeps where a lake was: with the direction of the look, and without."""
    return f"{sample.lake} {sample.grid} {sample.direction}", f"{sample.lake} {sample.grid}"


def known_priors(samples: Sequence[Sample], masks: Sequence[npt.NDArray[np.bool_]]) -> dict[str, Prior]:
    """Mean masks of all samples, as a model keeps them for samples that it is not trained on.

    Parameters
    ----------
    samples, masks
        Of the training, in the same order; masks bool (y, x).

    Returns
    -------
    dict
        By `prior_keys`.
    """
    sums: dict[str, tuple[npt.NDArray[np.int64], int]] = {}
    for sample, mask in zip(samples, masks, strict=True):
        for key in prior_keys(sample):
            water, count = sums.get(key, (np.zeros(mask.shape, np.int64), 0))
            sums[key] = water + mask, count + 1
    return {key: _bytes(water / count) for key, (water, count) in sums.items()}


def training_priors(
    samples: Sequence[Sample],
    masks: Sequence[npt.NDArray[np.bool_]],
    train: Sequence[int],
    wanted: Sequence[int],
    headers: Sequence[Header],
) -> list[Prior]:
    """Where the lake of each sample was, told by other samples of the training only.

    Parameters
    ----------
    samples, masks, headers
        All of them, in the same order.
    train
        Indices of those whose masks may be used.
    wanted
        Indices of those asked for. A sample's own scene is never used for it.

    Returns
    -------
    list
        For each of `wanted`, in order: the mean mask of the same lake, grid and direction; of the same lake and grid;
        the outline of the catalogue; zeros.
    """
    means = mean_masks(samples, masks, train, wanted)
    return [
        outline_on_chip(samples[index].lake, headers[index]) if mean.water is None else _bytes(mean.water)
        for index, mean in zip(wanted, means, strict=True)
    ]


class PriorDraws:
    """Where the lakes of a training were, told anew in every epoch by some of the other masks.

    The mean of all other masks is lower where the sample's own mask has water, since this one is left out: a network
    can learn to turn that around. Means of half of them and more, as chance has it, hide it. (Of 1 to all of them:
    a random split of the published pairs scores 0.01 lower.)

    Parameters
    ----------
    samples, masks, headers
        Of the training, in the same order; masks bool (y, x), kept in memory as bits.
    """

    def __init__(
        self, samples: Sequence[Sample], masks: Sequence[npt.NDArray[np.bool_]], headers: Sequence[Header]
    ) -> None:
        self._others = same_place(samples)
        self._bits = [np.packbits(mask, axis=-1) for mask in masks]
        self._shapes = [mask.shape for mask in masks]
        self._outlines = [outline_on_chip(sample.lake, header) for sample, header in zip(samples, headers, strict=True)]

    def draw(self, index: int, random: np.random.Generator) -> Prior:
        """Where the lake of a sample was.

        The mean of half to all of the other masks of its lake, grid and, where there are such, direction; the outline
        of the catalogue where there is none.
        """
        others = self._others[index]
        if not others:
            return self._outlines[index]
        chosen = random.choice(others, int(random.integers(-(-len(others) // 2), len(others) + 1)), replace=False)
        bits = np.stack([self._bits[other] for other in chosen])
        return _bytes(np.unpackbits(bits, axis=-1, count=self._shapes[index][-1]).mean(axis=0))


def prior_of(sample: Sample, header: Header, known: Mapping[str, Prior]) -> Prior:
    """Where the lake of a sample was, as a model knows it.

    Parameters
    ----------
    sample, header
        The sample, and its chip's grid.
    known
        What `known_priors` gave of the training: may be empty.

    Returns
    -------
    numpy.ndarray
        uint8 (y, x): what is known of the lake, grid and direction; of the lake and grid; the outline of the catalogue;
        zeros.
    """
    for key in prior_keys(sample):
        if key in known and known[key].shape == header.shape:
            return known[key]
    return outline_on_chip(sample.lake, header)


def outline_on_chip(lake: str, header: Header) -> Prior:
    """A catalogue lake's outline on a chip's grid; zeros for a lake that isn't there, or a grid without reference."""
    from affine import Affine
    from odc.geo.geom import Geometry
    from rasterio.features import geometry_mask

    from cubekit.lakes import catalogue

    known = catalogue()
    if lake not in known or header.epsg is None:
        return np.zeros(header.shape, np.uint8)
    outline = Geometry(known[lake].outline, "EPSG:4326").to_crs(f"EPSG:{header.epsg}")
    inside = geometry_mask([outline.geom], header.shape, Affine(*header.transform), invert=True)
    return np.where(inside, np.uint8(255), np.uint8(0))


def outline_on_window(da: xr.DataArray, lake: Lake) -> Prior:
    """A lake's outline on a window of its lattice.

    Raises
    ------
    GridMismatch
        When `da` does not lie on the lattice.
    """
    from cubekit.segmentation._blocks import on_lattice

    return np.where(on_lattice(lake.outline_mask, da, lake), np.uint8(255), np.uint8(0))


def _bytes(share: npt.NDArray[np.floating]) -> Prior:
    whole: Prior = np.rint(share * 255).astype(np.uint8)
    return whole
