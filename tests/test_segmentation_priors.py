"""Priors: where a lake was, told by other samples of the training only, by what a model keeps, or by an outline."""

from datetime import UTC, datetime, timedelta

import numpy as np
import pytest
import xarray as xr

from cubekit import lakes
from cubekit.errors import GridMismatch
from cubekit.segmentation.pairs import Header
from cubekit.segmentation.priors import (
    PriorDraws,
    known_priors,
    outline_on_chip,
    outline_on_window,
    prior_keys,
    prior_of,
    training_priors,
)
from cubekit.segmentation.splits import Sample

START = datetime(2021, 1, 1, tzinfo=UTC)
LAKE = lakes.catalogue()["gokyo"]


def sample(number, lake="gokyo", direction="descending", grid="A"):
    return Sample(f"{lake}/{number}", lake, START + timedelta(number), 121, direction, grid)


def header(lake=LAKE):
    """The grid of a lake's lattice."""
    return Header((256, 256), lake.epsg, tuple(lake.lattice.affine)[:6], None)


def mask(*rows):
    return np.array(rows, bool)


SAMPLES = [sample(0), sample(1), sample(2, direction="ascending"), sample(3, lake="pond"), sample(4, grid="B")]
MASKS = [mask([1, 1, 0, 0]), mask([1, 0, 0, 0]), mask([0, 0, 1, 1]), mask([0, 0, 0, 1]), mask([1, 1, 1, 1])]
HEADERS = [Header((1, 4), None, (20.0, 0.0, 0.0, 0.0, -20.0, 0.0), None)] * 5


def test_a_sample_never_tells_its_own_lake():
    """Its own mask is left out, so what it is told changes with the others' only."""
    told = training_priors(SAMPLES, MASKS, range(5), range(5), HEADERS)
    np.testing.assert_array_equal(told[0], [[255, 0, 0, 0]])
    np.testing.assert_array_equal(told[1], [[255, 255, 0, 0]])
    changed = [~MASKS[0], *MASKS[1:]]
    np.testing.assert_array_equal(training_priors(SAMPLES, changed, range(5), [0], HEADERS)[0], told[0])


def test_without_its_direction_any_direction_tells():
    """Alone of its direction, a sample is told by the others of its lake and grid; alone of its lake, nothing."""
    told = training_priors(SAMPLES, MASKS, range(5), range(5), HEADERS)
    np.testing.assert_array_equal(told[2], [[255, 128, 0, 0]])
    assert not told[3].any()
    assert not told[4].any()


def test_only_the_training_tells():
    """Masks that are tested or choose the epoch are not looked at."""
    told = training_priors(SAMPLES, MASKS, [0], [1], HEADERS)
    np.testing.assert_array_equal(told[0], [[255, 255, 0, 0]])


def test_two_processings_of_a_scene_do_not_tell_each_other():
    """They have the same water: to tell it would be to give the answer away."""
    twin = Sample("gokyo/0b", "gokyo", START, 121, "descending", "A")
    samples, masks = [SAMPLES[0], twin, SAMPLES[1]], [MASKS[0], MASKS[0], MASKS[1]]
    told = training_priors(samples, masks, range(3), [0], HEADERS[:3])
    np.testing.assert_array_equal(told[0], [[255, 0, 0, 0]])


def test_draws_are_means_of_other_masks():
    """Of half to all of them, the same for the same seed; of a lake that has no other the catalogue's outline."""
    rng = np.random.default_rng(0)
    samples, headers = [sample(number) for number in range(6)], [header()] * 6
    masks = [rng.random((256, 256)) < 0.5 for _ in samples]
    draws = PriorDraws(samples, masks, headers)
    told = [draws.draw(2, np.random.default_rng((7, epoch))) for epoch in range(60)]
    counts = set()
    for one in told:
        levels = np.unique(one)
        counts.add(len(levels) - 1)
        np.testing.assert_array_equal(levels, np.rint(np.arange(len(levels)) / (len(levels) - 1) * 255))
        # Where all others are dry it is 0, whatever its own mask says.
        assert not one[~np.any([mask for place, mask in enumerate(masks) if place != 2], axis=0)].any()
    assert counts == {3, 4, 5}
    np.testing.assert_array_equal(told[0], draws.draw(2, np.random.default_rng((7, 0))))
    alone = PriorDraws(samples[:1], masks[:1], headers[:1]).draw(0, np.random.default_rng(0))
    np.testing.assert_array_equal(alone == 255, LAKE.outline_mask.values)


def test_draws_do_not_give_the_answer_away():
    """Averaged over epochs, a draw is what the other masks say; not the own mask, nor its twin, turned around."""
    twin = Sample("pond/0b", "pond", START, 121, "descending", "A")
    samples = [sample(0, "pond"), twin, sample(1, "pond"), sample(2, "pond", "ascending")]
    masks = [mask([1, 1, 0, 0]), mask([1, 1, 0, 0]), mask([0, 1, 1, 0]), mask([0, 0, 0, 1])]
    draws = PriorDraws(samples, masks, HEADERS[:4])
    for epoch in range(20):
        random = np.random.default_rng(epoch)
        np.testing.assert_array_equal(draws.draw(0, random), [[0, 255, 255, 0]])
    # The only one of its direction is told by the others of the lake; a lake alone, by nothing.
    assert not any(draws.draw(3, np.random.default_rng(epoch))[0, 3] for epoch in range(20))
    alone = PriorDraws([SAMPLES[3]], [MASKS[3]], HEADERS[:1])
    assert not alone.draw(0, np.random.default_rng(0)).any()


def test_a_model_keeps_means_by_direction_and_without():
    """Keys are lake, grid and direction; lake and grid."""
    known = known_priors(SAMPLES[:3], MASKS[:3])
    assert set(known) == {"gokyo A descending", "gokyo A ascending", "gokyo A"}
    np.testing.assert_array_equal(known["gokyo A descending"], [[255, 128, 0, 0]])
    np.testing.assert_array_equal(known["gokyo A"], np.rint(np.array([[2, 1, 1, 1]]) / 3 * 255))
    assert {one.dtype for one in known.values()} == {np.dtype(np.uint8)}
    assert set(prior_keys(SAMPLES[2])) == {"gokyo A ascending", "gokyo A"}


def test_what_a_model_keeps_comes_before_an_outline():
    """By direction, else without, else the outline of the catalogue, else nothing."""
    known = known_priors(SAMPLES[:2], MASKS[:2])
    small = HEADERS[0]
    np.testing.assert_array_equal(prior_of(SAMPLES[1], small, known), known["gokyo A descending"])
    np.testing.assert_array_equal(prior_of(SAMPLES[2], small, known), known["gokyo A"])
    np.testing.assert_array_equal(prior_of(SAMPLES[4], header(), known) == 255, LAKE.outline_mask.values)
    assert not prior_of(SAMPLES[3], header(), known).any()
    # A grid of the same name and another size can't be laid over it.
    assert prior_of(SAMPLES[1], header(), known).shape == (256, 256)


def test_outlines_lie_where_the_lake_is():
    """On the lattice pixel for pixel; in the neighbouring zone of UTM at the same place to a pixel."""
    lake = lakes.catalogue()["tilicho"]
    np.testing.assert_array_equal(outline_on_chip("tilicho", header(lake)) == 255, lake.outline_mask.values)
    there = lake.lattice.to_crs("EPSG:32645", resolution=20)
    moved = outline_on_chip("tilicho", Header(there.shape, 32645, tuple(there.affine)[:6], None))
    assert moved.astype(bool).sum() == pytest.approx(lake.outline_mask.values.sum(), rel=0.01)
    assert not outline_on_chip("tilicho", Header((9, 9), None, (1.0,) * 6, None)).any()


def test_the_outline_on_a_window_is_cut_from_the_lattice():
    """Of a window that lies elsewhere it isn't invented."""
    rows, columns = LAKE.aoi_window
    window = xr.zeros_like(LAKE.outline_mask.isel(y=rows, x=columns), dtype=np.uint8)
    np.testing.assert_array_equal(outline_on_window(window, LAKE) == 255, LAKE.outline_mask.values[rows, columns])
    moved = window.assign_coords(x=window["x"] + 7)
    with pytest.raises(GridMismatch, match="not on the lattice of lake 'gokyo'"):
        outline_on_window(moved, LAKE)
