"""Intervals against simulated truth: shores with known correlated errors, where the right interval can be computed."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from scipy import ndimage, stats
from skimage.morphology import reconstruction

from cubekit import lakes
from cubekit.errors import ConfigError
from cubekit.segmentation import segment
from cubekit.series import lake_area
from cubekit.series._interval import TAIL, bounds, drawn_counts, fit_block
from cubekit.series._water import lake_probability, lake_water

SIZE = 96
ROWS, COLUMNS = np.mgrid[:SIZE, :SIZE]
EDGES = ndimage.generate_binary_structure(2, 1)
BLOCKS = (1, 3, 5, 6, 7, 8, 9, 10, 12, 15, 20, 30, 60, 1000)


def errors(rng, length, count):
    """Draw Gaussian fields of variance 1 whose correlation at distance d is exp(-d^2 / 2 length^2)."""
    frequency = np.fft.fftfreq(SIZE)[:, None] ** 2 + np.fft.rfftfreq(SIZE) ** 2
    gain = np.exp(-((np.pi * length) ** 2) * frequency)
    fields = np.fft.irfft2(np.fft.rfft2(rng.normal(size=(count, SIZE, SIZE))) * gain, s=(SIZE, SIZE))
    return fields / np.sqrt((np.fft.irfft2(gain, s=(SIZE, SIZE)) ** 2).sum())


def inwards(rng):
    """Give the distance inwards from the shore of a round-ish lake of random size and shape, pixels."""
    y, x = ROWS - SIZE / 2 + rng.uniform(-1, 1), COLUMNS - SIZE / 2 + rng.uniform(-1, 1)
    angle, radius = np.arctan2(y, x), rng.uniform(12, 32)
    wobble = sum(rng.normal(0, 0.1 / k) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4))
    return radius * (1 + wobble) - np.hypot(y, x)


def simulated(seed, number, passes, *, length=3.0, softness=1.0, common=0.0):
    """Give probabilities (calibrated by construction), true counts and lakes; `common` is an error of the lake."""
    rng = np.random.default_rng(seed)
    images, truth = [], []
    for _ in range(number):
        distance = inwards(rng)
        shift = np.sqrt(1 - common**2) * errors(rng, length, passes) + common * rng.normal()
        truth += list(np.count_nonzero(distance + softness * shift > 0, axis=(1, 2)))
        images += [stats.norm.cdf(distance / softness).astype(np.float32)] * passes
    return images, np.array(truth), np.repeat(np.arange(number), passes)


def intervals(images, block):
    """Give the intervals of counts with a fitted block; passes of one image share them."""
    found, last = [], None
    for image in images:
        if image is not last:
            wet, last = int(np.count_nonzero(image >= 0.5)), image
            both = bounds(image, wet, 2 * np.sqrt(np.pi * wet), block=block, floor=0.0)
        found.append(both)
    low, high = np.array(found).T
    return {"area_low": low, "area_high": high}


def soft(lake, scale=0.7):
    """Give probabilities of a lake's outline with a soft shore, one pass."""
    outline = lake.outline_mask.to_numpy()
    distance = ndimage.distance_transform_edt(outline) - ndimage.distance_transform_edt(~outline)
    image = lake.outline_mask.copy(data=stats.logistic.cdf(distance / scale)).astype("float32")
    return image.expand_dims(time=np.array(["2021-07-21"], "datetime64[s]"))


@pytest.fixture(scope="module")
def gokyo():
    return lakes.catalogue()["gokyo"]


@pytest.mark.parametrize("block", [1.0, 4.5, 12.0, 30.0, 1e6])
def test_drawn_counts_have_the_exact_mean_and_spread(block):
    """Two pixels of a block are both water with the smaller of their probabilities; all pairs summed in float64."""
    chance = stats.norm.cdf(inwards(np.random.default_rng(3)))
    rows, columns = np.nonzero((chance >= TAIL) & (chance <= 1 - TAIL))
    p = chance[rows, columns]
    together = np.ones((p.size, p.size))
    for along in (rows, columns):
        together *= np.maximum(1 - np.abs(along[:, None] - along) / block, 0)
    spread = np.sqrt((together * (np.minimum(p[:, None], p) - p[:, None] * p)).sum())
    found = drawn_counts(chance, block)
    assert found.size == 400
    assert found.mean() == pytest.approx(p.sum() + np.count_nonzero(chance > 1 - TAIL), abs=4 * spread / 20)
    assert found.std() == pytest.approx(spread, rel=0.12)


def test_one_block_over_the_whole_lake_draws_its_contours():
    """With one number u for all pixels, the interval lies between the contours of 97.5 % and 2.5 %."""
    chance = stats.norm.cdf(inwards(np.random.default_rng(4)) / 2)
    low, high = np.quantile(drawn_counts(chance, 1e6), [0.025, 0.975])
    wide = [np.count_nonzero(chance > level) for level in (0.985, 0.965, 0.035, 0.015)]
    assert wide[0] <= low <= wide[1]
    assert wide[2] <= high <= wide[3]


@pytest.mark.parametrize("length", [1.0, 2.0, 4.0])
@pytest.mark.parametrize("softness", [0.7, 1.5])
def test_the_interval_is_the_right_one_when_the_block_is_the_errors_length(length, softness):
    """A shore moved by a Gaussian field needs blocks of its integral scale, sqrt(2 pi) times its length."""
    rng = np.random.default_rng(5)
    distance = inwards(rng)
    truth = np.concatenate(
        [np.count_nonzero(distance + softness * errors(rng, length, 100) > 0, axis=(1, 2)) for _ in range(8)]
    )
    right = np.subtract(*np.quantile(truth, [0.975, 0.025]))
    drawn = drawn_counts(stats.norm.cdf(distance / softness), np.sqrt(2 * np.pi) * length)
    assert np.subtract(*np.quantile(drawn, [0.975, 0.025])) == pytest.approx(right, rel=0.2)
    assert drawn.mean() == pytest.approx(truth.mean(), abs=0.1 * right)


def test_intervals_cover_93_to_97_percent_on_other_lakes():
    """The block fitted on some lakes is that of their errors, and covers passes of others as often as it says."""
    images, truth, names = simulated(6, 40, 10)
    fit = fit_block({block: intervals(images, block) for block in BLOCKS}, truth, names)
    assert 5 <= fit.block <= 12  # sqrt(2 pi) times 3 is 7.5
    assert fit.coverage.low < 0.95 <= fit.coverage.estimate < fit.coverage.high
    assert 0.93 <= fit.held_out.estimate <= 0.97
    images, truth, _ = simulated(7, 100, 20)
    held = intervals(images, fit.block)
    assert 0.93 <= np.mean((held["area_low"] <= truth) & (truth <= held["area_high"])) <= 0.97


def test_independent_pixels_would_give_intervals_far_too_narrow():
    """Errors of neighbours are alike: drawn pixel by pixel, 95 % is less than 75 %."""
    images, truth, _ = simulated(8, 60, 10)
    alone = intervals(images, 1)
    assert np.mean((alone["area_low"] <= truth) & (truth <= alone["area_high"])) < 0.75


def test_an_error_common_to_a_lake_needs_longer_blocks_and_shows_in_the_clusters():
    """Half of the variance common to all passes of a lake: longer blocks, and a coverage less well known."""
    fits = []
    for common in (0.0, np.sqrt(0.5)):
        images, truth, names = simulated(9, 40, 10, common=common)
        fits.append(fit_block({block: intervals(images, block) for block in BLOCKS}, truth, names))
    alone, shared = fits
    assert shared.block >= 2 * alone.block
    assert shared.coverage.estimate >= 0.95
    narrow, wide = (fit.coverage.high - fit.coverage.low for fit in fits)
    assert wide > 1.3 * narrow
    assert shared.by_lake.min() < 0.6 < alone.by_lake.min()


def test_rounding_to_whole_pixels_is_never_left_out():
    """Of sharp masks of discs that fall anywhere on the grid, the interval holds the true area in 93 to 97 %."""
    rng = np.random.default_rng(10)
    hits = []
    for radius, y, x in zip(rng.uniform(5, 40, 1500), *rng.uniform(47, 49, (2, 1500)), strict=True):
        sharp = (np.hypot(ROWS - y, COLUMNS - x) < radius).astype(np.float32)
        wet = np.count_nonzero(sharp)
        low, high = bounds(sharp, wet, 2 * np.pi * radius, block=10, floor=0.0)
        hits.append(low <= np.pi * radius**2 <= high)
    assert 0.93 <= np.mean(hits) <= 0.97


@pytest.mark.parametrize("smooth", [0.0, 1.5])
def test_lake_probability_is_the_highest_threshold_of_connection(smooth):
    """The probability to be this lake's water: scikit-image's reconstruction, and `lake_water` at every threshold."""
    rng = np.random.default_rng(11)
    noise = ndimage.gaussian_filter(rng.random((SIZE, SIZE)), smooth)
    image = ((noise - noise.min()) / np.ptp(noise)).astype(np.float32)
    known, outline = rng.random(image.shape) > 0.1, np.hypot(ROWS - 40, COLUMNS - 50) < 15
    found = lake_probability(image, known, outline)
    flat = np.where(image < TAIL, 0, np.where(image > 1 - TAIL, 1, image)) * known
    expected = reconstruction(np.where(outline, flat, 0), flat, footprint=EDGES)
    np.testing.assert_array_equal(found, expected.astype(np.float32))
    for threshold in (0.1, 0.37, 0.5, 0.8):
        np.testing.assert_array_equal(found >= threshold, lake_water(image, known, outline, threshold))


def test_draws_do_not_depend_on_where_the_lake_lies_in_the_image():
    """A window gives what the lattice gives."""
    chance = stats.norm.cdf(inwards(np.random.default_rng(12)))
    moved = np.zeros((256, 200))
    moved[33 : 33 + SIZE, 71 : 71 + SIZE] = chance
    np.testing.assert_array_equal(drawn_counts(moved, 7.3), drawn_counts(chance, 7.3))


def test_a_pond_behind_a_sill_widens_the_interval_by_the_sill_s_probability(gokyo):
    """Surely water, perhaps connected: in the upper bound if the sill may be water, in neither if it is land."""
    outline, zone = gokyo.outline_mask.to_numpy(), gokyo.zone_mask.to_numpy()
    ring = ndimage.binary_dilation(outline, iterations=2) & ~outline
    pond = zone & ndimage.binary_dilation(outline, iterations=6) & ~outline & ~ring
    images = []
    for sill in (0.0, 0.3):
        image = outline + 1.0 * pond + sill * ring
        images.append(gokyo.outline_mask.copy(data=image).astype("float32").expand_dims(time=1))
    shut, leaking = (lake_area(image, gokyo, block=1e5).isel(time=0) for image in images)
    km2 = pond.sum() * gokyo.pixel_km2
    assert float(shut["area_high"]) < float(shut["area_km2"]) + 0.1 * km2
    assert float(leaking["area_km2"]) == float(shut["area_km2"])
    assert float(leaking["area_high"]) > float(leaking["area_km2"]) + km2


def test_what_is_not_seen_is_no_dam(gokyo):
    """Water of 0.45 behind a hidden ring is in the upper bound, with the ring; in the lower one neither is."""
    outline, zone = gokyo.outline_mask.to_numpy(), gokyo.zone_mask.to_numpy()
    ring = ndimage.binary_dilation(outline, iterations=2) & ~outline & zone
    behind = ndimage.binary_dilation(outline, iterations=6) & ~outline & ~ring & zone
    image = gokyo.outline_mask.copy(data=outline + 0.45 * behind).astype("float32").expand_dims(time=1)
    hidden = image.where(~gokyo.outline_mask.copy(data=ring))
    pixel = gokyo.pixel_km2
    found = lake_area(hidden, gokyo, block=1e5).isel(time=0)
    alone = lake_area(hidden.where(hidden != np.float32(0.45), 0), gokyo, block=1e5).isel(time=0)
    assert float(found["area_high"]) == pytest.approx((outline | ring | behind).sum() * pixel, rel=1e-9)
    assert float(alone["area_high"]) == pytest.approx((outline | ring).sum() * pixel, rel=0.05)
    for name in ("area_km2", "area_low"):
        assert float(found[name]) == float(alone[name])


@pytest.mark.parametrize("block", [None, 20.0, 240.0, 1e5])
@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_the_area_lies_in_its_interval(gokyo, block, threshold):
    """Whatever the threshold, the block, the noise and the gaps."""
    rng = np.random.default_rng(13)
    shape = (6, *gokyo.lattice.shape)
    values = np.clip(soft(gokyo).to_numpy() + rng.normal(0, 0.3, shape), 0, 1).astype("float32")
    values[rng.random(shape) < np.linspace(0, 0.4, 6)[:, None, None]] = np.nan
    values[0] = 0
    template = soft(gokyo).isel(time=np.zeros(6, int))
    found = lake_area(template.copy(data=values), gokyo, threshold=threshold, block=block)
    assert (found["area_low"] >= 0).all()
    assert (found["area_low"] <= found["area_km2"]).all()
    assert (found["area_km2"] <= found["area_high"]).all()
    assert (found["area_high"] <= found.attrs["zone_km2"] * 1.2).all()


def test_a_fitted_block_is_taken_from_the_argument_then_from_the_attributes(gokyo):
    """A model's block travels with its probabilities; what the caller gives goes before it."""
    image = soft(gokyo)
    carried = image.assign_attrs(interval_block_m=400.0)
    xr.testing.assert_identical(lake_area(carried, gokyo), lake_area(image, gokyo, block=400))
    xr.testing.assert_identical(lake_area(carried, gokyo, block=60), lake_area(image, gokyo, block=60))
    width = [
        float((one["area_high"] - one["area_low"])[0])
        for one in (lake_area(image, gokyo, block=block) for block in (60, 400, 1e5))
    ]
    assert width[0] < width[1] < width[2]
    assert lake_area(carried, gokyo).attrs["interval_block_m"] == 400


def test_without_a_fitted_block_it_is_never_less_than_half_a_pixel_along_the_shore(gokyo):
    """Probabilities nobody has tested may be as sharp as they like."""
    sharp = gokyo.outline_mask.astype("float32").expand_dims(time=1)
    careful, fitted = (lake_area(sharp, gokyo, block=block).isel(time=0) for block in (None, 240))
    half_pixel = gokyo.project(gokyo.outline).length * gokyo.spacing / 2 / 1e6
    for bound in ("area_low", "area_high"):
        assert abs(float(careful[bound] - careful["area_km2"])) == pytest.approx(half_pixel, rel=0.1)
        assert abs(float(fitted[bound] - fitted["area_km2"])) < 0.3 * half_pixel
    assert "at least 0.5 pixels along the shore" in careful.attrs["method"]
    assert "at least" not in fitted.attrs["method"].partition("bounds")[2]


def test_a_lake_that_is_nowhere_likely_may_still_be_there(gokyo):
    """All of it at 0.4: the area is 0, and the upper bound most of the outline."""
    image = 0.4 * gokyo.outline_mask.astype("float32").expand_dims(time=1)
    found = lake_area(image, gokyo, block=1e5).isel(time=0)
    outline = float(gokyo.outline_mask.sum()) * gokyo.pixel_km2
    assert (float(found["area_low"]), float(found["area_km2"])) == (0, 0)
    assert float(found["area_high"]) == pytest.approx(outline)


def test_otsu_s_intervals_hold_the_truth(gokyo):
    """Fractions of 0 and 1 are not calibrated: half a pixel holds speckled lakes of known size."""
    rng = np.random.default_rng(14)
    truth = gokyo.outline_mask.to_numpy()
    power = np.where(truth, 0.01, 0.15) * rng.gamma(30, 1 / 30, (12, *truth.shape))
    template = gokyo.outline_mask.astype("float32").expand_dims(time=12)
    scene = template.copy(data=power.astype("float32")).assign_attrs(scale="linear power")
    area = lake_area(segment(scene.assign_coords(observed=scene > 0), "otsu", lake=gokyo), gokyo)
    km2 = truth.sum() * gokyo.pixel_km2
    assert ((area["area_low"] < km2) & (km2 < area["area_high"])).mean() >= 0.95


@pytest.mark.parametrize("block", [0, -20.0, np.nan, np.inf, "long"])
def test_a_block_that_is_no_length_is_refused(gokyo, block):
    """From the argument and from the attributes, by its name."""
    image = soft(gokyo)
    with pytest.raises(ConfigError, match=r"block is .*; give a length in metres above 0"):
        lake_area(image, gokyo, block=block)
    with pytest.raises(ConfigError, match=r"attribute interval_block_m is .*; give a length in metres above 0"):
        lake_area(image.assign_attrs(interval_block_m=block), gokyo)


def table(widths, blocks=(20, 40, 80)):
    """Give areas of 8 lakes x 5 passes off by -0.1 to 0.1 km2, with intervals of given half widths."""
    truth, names = np.full(40, 1.0), np.repeat([f"lake {k}" for k in range(8)], 5)
    area = truth + np.resize(np.linspace(-0.1, 0.1, 5), 40)
    return (
        {
            block: pd.DataFrame({"area_low": area - w, "area_high": area + w})
            for block, w in zip(blocks, widths, strict=True)
        },
        truth,
        names,
    )


def test_the_smallest_block_that_covers_is_chosen():
    """From it on all blocks cover; a lucky one before a failing one is not taken."""
    assert fit_block(*table([0.06, 0.11, 0.2])).block == 40
    assert fit_block(*table([0.11, 0.06, 0.2])).block == 80
    fit = fit_block(*table([0.06, 0.11, 0.2]), coverage=0.6)
    assert fit.block == 20
    assert fit.by_block["coverage"].tolist() == [0.6, 1.0, 1.0]
    assert fit.by_block["below"].tolist() == [0.2, 0.0, 0.0]
    assert fit.by_lake.to_dict() == {f"lake {k}": 0.6 for k in range(8)}
    assert fit.coverage == (0.6, 0.6, 0.6, 8)


def test_no_block_is_chosen_when_none_covers():
    """None keeps the careful bound of `lake_area`; the figures are those of the widest block."""
    fit = fit_block(*table([0.01, 0.03, 0.06]))
    assert fit.block is None
    assert fit.coverage.estimate == 0.6
    assert fit.held_out.estimate == 0.6


def test_lakes_are_drawn_and_not_passes():
    """Coverage of whole lakes, all or nothing, is as uncertain as 8 draws, not as 40."""
    areas, truth, names = table([0.2], blocks=(20,))
    truth[names == "lake 3"] = 9.0
    low, high = fit_block(areas, truth, names, coverage=0.5).coverage[1:3]
    assert (low, high) == (pytest.approx(0.625, abs=0.1), 1.0)


def test_passes_without_an_area_are_left_out():
    """NaN is no miss and no hit."""
    areas, truth, names = table([0.06, 0.11, 0.2])
    expected = fit_block({block: one.iloc[3:] for block, one in areas.items()}, truth[3:], names[3:])
    for one in areas.values():
        one.iloc[:3] = np.nan
    found = fit_block(areas, truth, names)
    assert found.coverage == expected.coverage
    pd.testing.assert_frame_equal(found.by_block, expected.by_block)


def test_a_lake_s_held_out_block_is_fitted_without_it():
    """One lake needs a longer block than the others: with their block it is not covered."""
    areas, truth, names = table([0.11, 0.2, 0.4])
    truth[names == "lake 0"] += 0.25
    fit = fit_block(areas, truth, names)
    assert fit.block == 80
    assert fit.coverage.estimate == 1.0
    assert fit.held_out.estimate < 0.95


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"areas": {}}, "give the areas of at least one block"),
        ({"coverage": 95}, "coverage 95 is not between 0 and 1"),
        ({"truth": np.ones(7)}, "give one value a pass in each"),
        ({"truth": np.zeros(40)}, "must be finite and above 0"),
        ({"lakes": ["one"] * 40}, r"are of 1 lake\(s\); give those of two or more"),
    ],
)
def test_what_cannot_be_fitted_is_refused(change, message):
    """Each message says what to give."""
    areas, truth, names = table([0.06, 0.11, 0.2])
    given = {"areas": areas, "truth": truth, "lakes": names, **change}
    with pytest.raises(ConfigError, match=message):
        fit_block(**given)


def test_blocks_of_different_passes_are_refused():
    """Coverages of different passes can't be compared."""
    areas, truth, names = table([0.06, 0.11, 0.2])
    areas[40].iloc[5] = np.nan
    with pytest.raises(ConfigError, match="areas of different passes"):
        fit_block(areas, truth, names)
