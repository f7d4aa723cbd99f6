"""Augmentation: chip, mask and observed move together, and nothing is shown that a radar never sees."""

from itertools import product

import numpy as np
import pytest

from cubekit.errors import ConfigError
from cubekit.segmentation.augmentation import augment
from cubekit.segmentation.recipe import AugmentationOptions

STILL = {"flip": False, "turns": False, "forget": 0.0}
ALL = AugmentationOptions(shift=4, jitter=0.2, cutout=5, flip=True, turns=True)
MANY = range(200)


def labelled(side=16, seed=0):
    """Mask and observed can be told from the chip: 0 is nodata, from 200 on is water."""
    chip = np.random.default_rng(seed).integers(0, 256, (side, side), dtype=np.uint8)
    sample = (chip, chip >= 200, chip > 0)
    for array in sample:
        array.flags.writeable = False
    return sample


def test_without_options_nothing_changes():
    """All switched off give the sample back."""
    sample = labelled()
    for index in range(20):
        changed = augment(sample, AugmentationOptions(**STILL), seed=1, epoch=2, index=index)
        assert all(np.array_equal(one, other) for one, other in zip(changed, sample, strict=True))


def test_the_three_move_together():
    """Any move of the chip is that of mask and observed; what comes in or is cut out is nodata, and never water."""
    moving = ALL.model_copy(update={"jitter": 0.0})
    for index in MANY:
        chip, mask, observed = augment(labelled(seed=index), moving, seed=0, epoch=0, index=index)
        assert (chip.dtype, mask.dtype, observed.dtype) == (np.uint8, np.bool_, np.bool_)
        np.testing.assert_array_equal(mask, chip >= 200)
        np.testing.assert_array_equal(observed, chip > 0)


def test_jitter_is_a_factor_and_keeps_nodata():
    """One factor an image, within bounds; 0 stays 0 and nothing else becomes 0."""
    chip = np.arange(256, dtype=np.uint8).reshape(16, 16)
    sample = chip, chip > 300, chip > 0
    factors = []
    for index in MANY:
        changed, mask, observed = augment(
            sample, AugmentationOptions(jitter=0.3, **STILL), seed=0, epoch=0, index=index
        )
        np.testing.assert_array_equal(changed > 0, observed)
        assert not mask.any()
        factor = changed.ravel()[100] / 100
        np.testing.assert_allclose(changed.ravel()[1:], np.clip(np.arange(1, 256) * factor, 1, 255), atol=1.8)
        factors.append(factor)
    assert min(factors) == pytest.approx(0.7, abs=0.02)
    assert max(factors) == pytest.approx(1.3, abs=0.02)
    assert np.mean(factors) == pytest.approx(1, abs=0.03)


def test_the_darkest_grey_is_not_lost():
    """Multiplying 1 by less than a half would round to 0, which means nodata."""
    chip = np.ones((8, 8), np.uint8)
    options = AugmentationOptions(jitter=0.9)
    assert all((augment((chip, chip > 1, chip > 0), options, seed=0, epoch=0, index=n)[0] > 0).all() for n in MANY)


def test_shifts_go_everywhere_alike():
    """All moves up to the largest, each about as often, zeros behind them."""
    chip = np.zeros((9, 9), np.uint8)
    chip[4, 4] = 255
    places = []
    for index in range(2500):
        changed = augment((chip, chip > 0, chip > 0), AugmentationOptions(shift=2), seed=0, epoch=0, index=index)
        places.append(tuple(int(place) - 4 for place in np.argwhere(changed[0])[0]))
    counts = {move: places.count(move) for move in product(range(-2, 3), repeat=2)}
    assert sum(counts.values()) == 2500
    assert min(counts.values()) > 60
    assert max(counts.values()) < 145


def test_a_shift_beyond_the_image_leaves_nothing():
    """It is all nodata then, not an error."""
    sample = (np.full((4, 4), 9, np.uint8), np.ones((4, 4), bool), np.ones((4, 4), bool))
    seen = [augment(sample, AugmentationOptions(shift=50), seed=0, epoch=0, index=n) for n in range(50)]
    assert any(not observed.any() for _, _, observed in seen)


def test_cutouts_are_squares_of_nodata():
    """Of the side asked for, smaller at an edge only, anywhere."""
    side = 12
    sample = (np.full((side, side), 9, np.uint8), np.ones((side, side), bool), np.ones((side, side), bool))
    cut = np.zeros((side, side))
    for index in MANY:
        chip, mask, observed = augment(sample, AugmentationOptions(cutout=4), seed=0, epoch=0, index=index)
        np.testing.assert_array_equal(chip == 0, ~observed)
        np.testing.assert_array_equal(mask, observed)
        rows, columns = np.flatnonzero((~observed).any(1)), np.flatnonzero((~observed).any(0))
        assert (~observed).sum() == rows.size * columns.size
        for places in (rows, columns):
            assert 2 <= places.size <= 4
            assert places.size == 4 or places[0] == 0 or places[-1] == side - 1
        cut += ~observed
    assert cut.min() > 5


@pytest.mark.parametrize(
    ("options", "count"), [({"flip": True}, 2), ({"turns": True}, 4), ({"flip": True, "turns": True}, 8)]
)
def test_mirrors_and_turns_are_those_asked_for(options, count):
    """Both halves of a flip, the four turns, all eight together, each about as often."""
    sample = labelled()
    chip = sample[0]
    every = [np.rot90(one, turns) for one in (chip, chip[:, ::-1]) for turns in range(4)]
    allowed = {2: [every[0], every[4]], 4: every[:4], 8: every}[count]
    seen = [
        augment(sample, AugmentationOptions(**STILL | options), seed=0, epoch=0, index=n)[0].tobytes()
        for n in range(400)
    ]
    counts = [seen.count(one.tobytes()) for one in allowed]
    assert sum(counts) == 400
    assert min(counts) > 400 / count * 0.6


def test_the_look_direction_is_kept_unless_asked():
    """Without flips and turns, whatever else is on, shadows stay on their side."""
    chip = np.zeros((16, 16), np.uint8)
    chip[6:10, 4:8], chip[6:10, 8:12] = 40, 220  # shadow left of a bright slope
    options = AugmentationOptions(shift=4, jitter=0.1, **STILL)
    for index in MANY:
        changed = augment((chip, chip > 300, chip > 0), options, seed=3, epoch=1, index=index)[0].astype(int)
        columns = np.arange(16)[None]
        dark, bright = (changed > 0) & (changed < 100), changed > 150
        assert (columns * dark).sum() / dark.sum() < (columns * bright).sum() / bright.sum()


def test_chance_is_the_sample_s_own():
    """Seed, epoch and sample decide, not the order nor what was drawn before."""
    sample = labelled()

    def made(order):
        return {index: augment(sample, ALL, seed=5, epoch=3, index=index)[0].tobytes() for index in order}

    assert made(range(10)) == made(reversed(range(10)))
    assert len(set(made(range(10)).values())) == 10
    changed = [augment(sample, ALL, seed=s, epoch=e, index=7)[0].tobytes() for s, e in product(range(3), range(3))]
    assert len(set(changed)) == 9


def test_switches_are_independent():
    """Jitter off leaves the moves as they were."""
    sample = labelled()
    still = ALL.model_copy(update={"jitter": 0.0})
    for index in range(30):
        one, other = (augment(sample, options, seed=0, epoch=0, index=index) for options in (ALL, still))
        np.testing.assert_array_equal(one[1], other[1])
        np.testing.assert_array_equal(one[2], other[2])


def test_what_is_no_square_is_not_turned():
    """It would not be of the same shape; a flip is no matter."""
    sample = tuple(np.ones((4, 6), kind) for kind in (np.uint8, bool, bool))
    assert augment(sample, AugmentationOptions(**STILL | {"flip": True}), seed=0, epoch=0, index=0)[0].shape == (4, 6)
    with pytest.raises(ConfigError, match="4 x 6 pixels can't be turned; cut squares, or set turns = false"):
        augment(sample, AugmentationOptions(turns=True), seed=0, epoch=0, index=0)


def labelled_with_prior(side=16):
    """As `labelled`, with a prior that is 255 exactly where water is."""
    chip, mask, observed = labelled(side)
    return np.stack([chip, np.where(mask, 255, 0).astype(np.uint8)]), mask, observed


def test_the_prior_moves_along():
    """Wherever the mask goes, the prior goes; a hole takes the mask, and the prior stays."""
    options = ALL.model_copy(update={"cutout": 0, "forget": 0.0})
    for index in MANY:
        image, mask, _ = augment(labelled_with_prior(), options, seed=0, epoch=0, index=index)
        np.testing.assert_array_equal(image[1] == 255, mask)
    holed = AugmentationOptions(cutout=8, **STILL)
    image, mask, _ = augment(labelled_with_prior(), holed, seed=0, epoch=0, index=0)
    assert (image[1] == 255).sum() == labelled()[1].sum() > mask.sum()


def test_the_prior_is_forgotten_as_often_as_asked():
    """As a whole or not at all, and the chip stays."""
    sample = labelled_with_prior()
    options = AugmentationOptions(flip=False, turns=False, forget=0.3)
    images = [augment(sample, options, seed=0, epoch=0, index=index)[0] for index in range(1000)]
    assert all(np.array_equal(image[0], sample[0][0]) for image in images)
    kept = [image[1].any() for image in images]
    assert all(np.array_equal(image[1], sample[0][1]) for image, there in zip(images, kept, strict=True) if there)
    assert np.mean(kept) == pytest.approx(0.7, abs=0.05)


@pytest.mark.parametrize(("start", "end"), [((20, 30), (28, 44)), ((4, 0), (60, 64))])
def test_crops_hold_what_was_observed(start, end):
    """A window that is larger holds all of it, one that is smaller lies within it; both lie anywhere they can."""
    chip = np.zeros((64, 64), np.uint8)
    chip[start[0] : end[0], start[1] : end[1]] = (
        np.arange(1, 1 + (end[0] - start[0]) * (end[1] - start[1])).reshape(end[0] - start[0], -1) % 200 + 1
    )
    sample = chip, chip > 100, chip > 0
    options = AugmentationOptions(**STILL)
    corners = set()
    for index in range(400):
        cropped, mask, observed = augment(sample, options, seed=0, epoch=0, index=index, crop=32)
        assert cropped.shape == mask.shape == observed.shape == (32, 32)
        np.testing.assert_array_equal(mask, cropped > 100)
        np.testing.assert_array_equal(observed, cropped > 0)
        size = [last - first for first, last in zip(start, end, strict=True)]
        for axis in (0, 1):
            seen = observed.any(axis=1 - axis).sum()
            assert seen == min(size[axis], 32)
        corners.add(cropped.tobytes())
    assert len(corners) > 100


def test_a_crop_larger_than_the_sample_is_refused():
    """Nothing is invented around it."""
    with pytest.raises(ConfigError, match="16 x 16 pixels holds no crop of 32; set a smaller crop"):
        augment(labelled(), AugmentationOptions(**STILL), seed=0, epoch=0, index=0, crop=32)
