"""Baselines: what they know, what they fall back to, and that they never see what they are tested on."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest

from cubekit.errors import ConfigError
from cubekit.segmentation.baselines import Guess, mask_only, otsu_on_chip, previous_outline
from cubekit.segmentation.splits import Sample

START = datetime(2021, 1, 1, tzinfo=UTC)


def sample(number, *, day, lake="gokyo", grid="A", direction="descending"):
    return Sample(f"{lake}/{number}", lake, START + timedelta(days=day), 121, direction, grid)


def bar(width, size=8):
    mask = np.zeros((size, size), np.bool_)
    mask[:, :width] = True
    return mask


SAMPLES = [
    sample(0, day=0),
    sample(1, day=10),
    sample(2, day=20),
    sample(3, day=25, direction="ascending"),
    sample(4, day=30),
    sample(5, day=35, direction="ascending"),
    sample(6, day=40, grid="B"),
    sample(7, day=50, lake="imja"),
]
MASKS = [bar(width) for width in (1, 2, 5, 8, 3, 7, 4, 6)]


def widths(guesses):
    return [(None if one.water is None else int(one.water[0].sum()), one.basis) for one in guesses]


def test_the_mean_training_mask_against_numpy():
    """Mean of all of the same lake, grid and direction, from half on."""
    rng = np.random.default_rng(0)
    masks = [rng.random((6, 6)) < 0.5 for _ in range(9)]
    samples = [sample(number, day=number) for number in range(9)]
    (guess,) = mask_only(samples, masks, range(8), [8])
    np.testing.assert_array_equal(guess.water, np.mean(masks[:8], axis=0) >= 0.5)


def test_mask_only_falls_back_along_its_keys():
    """Same direction; both directions; nothing of another grid or lake."""
    found = widths(mask_only(SAMPLES, MASKS, [0, 1, 2], [4, 5, 6, 7]))
    assert found == [
        (2, "lake, grid, direction"),
        (2, "lake, grid"),
        (None, "nothing"),
        (None, "nothing"),
    ]


def test_the_previous_outline_falls_back_along_its_keys():
    """The last one before; of either direction; the first one after; nothing."""
    assert widths(previous_outline(SAMPLES, MASKS, [0, 1, 2, 3], [4, 5, 6])) == [
        (5, "lake, grid, direction, before"),
        (8, "lake, grid, direction, before"),
        (None, "nothing"),
    ]
    assert widths(previous_outline(SAMPLES, MASKS, [2, 4], [5, 0])) == [
        (3, "lake, grid, before"),
        (5, "lake, grid, direction, after"),
    ]
    assert widths(previous_outline(SAMPLES, MASKS, [3, 5], [0])) == [(8, "lake, grid, after")]


@pytest.mark.parametrize("baseline", [mask_only, previous_outline])
def test_a_sample_is_never_guessed_from_itself(baseline):
    """Nor from another processing of its scene, when all are there for training: another mask of it changes nothing."""
    samples = [*SAMPLES, sample(8, day=20)]
    everything = range(len(samples))
    one = widths(baseline(samples, [*MASKS, bar(5)], everything, [2]))
    masks = [*MASKS, bar(1)]
    masks[2] = bar(8)
    assert widths(baseline(samples, masks, everything, [2])) == one


def test_alone_it_knows_nothing():
    """One sample, and that is the one asked for."""
    assert widths(mask_only(SAMPLES, MASKS, range(8), [7])) == [(None, "nothing")]
    assert widths(previous_outline(SAMPLES, MASKS, range(8), [7])) == [(None, "nothing")]


@pytest.mark.parametrize("baseline", [mask_only, previous_outline])
def test_masks_of_the_test_part_are_not_read(baseline):
    """What a baseline may not know it never asks for."""

    class Guarded(list):
        def __getitem__(self, index):
            assert index in {0, 1, 3}, f"mask {index} was read"
            return super().__getitem__(index)

    assert all(isinstance(one, Guess) for one in baseline(SAMPLES, Guarded(MASKS), [0, 1, 3], [2, 4, 5, 6, 7]))


def test_each_sample_needs_its_mask():
    """Refused, not cut to the shorter."""
    with pytest.raises(ConfigError, match="8 samples and 7 masks"):
        list(mask_only(SAMPLES, MASKS[:7], [0], [1]))


def scene(seed=0, size=60):
    """A dark lake on rough land, in grey values, and its outline of another date."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[:size, :size]
    lake = np.hypot(rows - 30, columns - 28) < 12
    chip = np.where(lake, rng.integers(1, 60, lake.shape), rng.integers(120, 255, lake.shape)).astype(np.uint8)
    outline = np.hypot(rows - 31, columns - 30) < 9
    return chip, lake, outline


def test_otsu_finds_the_dark_patch_at_the_outline():
    """All of the lake, though the outline is smaller; a shadow that doesn't touch it isn't taken."""
    chip, lake, outline = scene()
    chip[2:9, 20:60] = 5
    found = otsu_on_chip(chip, np.ones_like(lake), outline)
    assert (found & ~lake).sum() == 0
    assert found.sum() > 0.97 * lake.sum()


def test_otsu_without_an_outline_takes_the_largest_dark_patch():
    """A lake that nothing is known of; a smaller shadow stays out."""
    chip, lake, _ = scene()
    chip[50:56, 40:56] = 5
    for outline in (None, np.zeros_like(lake)):
        found = otsu_on_chip(chip, np.ones_like(lake), outline)
        assert (found ^ lake).mean() < 0.01


def test_otsu_looks_at_observed_pixels_only():
    """Zeros of the padding are not the lake."""
    chip, lake, outline = scene()
    observed = np.ones_like(lake)
    observed[:, 30:] = False
    chip[~observed] = 0
    found = otsu_on_chip(chip, observed, outline)
    assert not (found & ~observed).any()
    assert (found ^ (lake & observed)).mean() < 0.02


@pytest.mark.parametrize(
    "chip", [np.full((60, 60), 7, np.uint8), np.where(scene()[1], np.uint8(200), np.uint8(10))], ids=["flat", "bright"]
)
def test_otsu_says_no_water_where_nothing_dark_touches_the_outline(chip):
    """One value has no threshold; a lake brighter than its land is not found, and its land isn't taken."""
    _, lake, _ = scene()
    small = np.zeros_like(lake)
    small[28:33, 26:31] = True
    assert not otsu_on_chip(chip, np.ones_like(lake), small).any()


def test_otsu_with_hardly_a_pixel_says_no_water():
    """Too few to be two classes."""
    chip, lake, outline = scene()
    observed = np.zeros_like(lake)
    observed[30, 10:30] = True
    assert not otsu_on_chip(chip, observed, outline).any()
