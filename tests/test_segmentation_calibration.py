"""Calibration: one temperature that makes probabilities true, and changes nothing else."""

import numpy as np
import pytest
import torch
from scipy.special import expit
from toys import network, samples

from cubekit.errors import ModelError, NoObservations
from cubekit.segmentation.calibration import LIMITS, LogitCounts, fit_temperature, fold_temperature
from cubekit.segmentation.metrics import calibration_error


def drawn(sureness, count=200_000):
    """What a network says that is too sure by a known factor, and what is true."""
    random = np.random.default_rng(0)
    honest = random.normal(-1, 2, count)
    return (honest * sureness).astype(np.float32), random.random(count) < expit(honest)


def counted(logits, water):
    counts = LogitCounts()
    for part in np.array_split(np.arange(logits.size), 7):
        counts.add(logits[part], water[part])
    return counts


@pytest.mark.parametrize("sureness", [0.5, 1.0, 4.0])
def test_the_temperature_is_how_much_too_sure_it_was(sureness):
    """Found to a percent; the calibration error falls to next to nothing, as measured by another function."""
    logits, water = drawn(sureness)
    temperature = fit_temperature(counted(logits, water))
    assert temperature == pytest.approx(sureness, rel=0.015)
    before, after = (
        calibration_error(water[None, None], expit(logits / given)[None, None]).error for given in (1, temperature)
    )
    assert after < 0.004
    assert sureness == 1 or before > 10 * after


def test_it_is_the_minimum_of_the_cross_entropy():
    """As torch's LBFGS finds it on the logits themselves."""
    logits, water = drawn(3.0, 20_000)
    power = torch.zeros(1, dtype=torch.float64, requires_grad=True)
    optimizer = torch.optim.LBFGS([power], max_iter=100, line_search_fn="strong_wolfe")
    given, target = torch.from_numpy(logits).double(), torch.from_numpy(water).double()

    def closure():
        optimizer.zero_grad()
        loss = torch.nn.functional.binary_cross_entropy_with_logits(given * torch.exp(-power), target)
        loss.backward()
        return loss

    optimizer.step(closure)
    assert fit_temperature(counted(logits, water)) == pytest.approx(np.exp(power.item()), rel=1e-3)


def test_counts_say_what_the_logits_say():
    """Cross entropy and calibration error, up to the width of the steps; infinite logits are counted too."""
    logits, water = drawn(2.0, 50_000)
    counts = counted(logits, water)
    assert counts.total == 50_000
    exact = np.where(water, np.logaddexp(0, -logits / 1.5), np.logaddexp(0, logits / 1.5)).mean()
    assert counts.cross_entropy(1.5) == pytest.approx(exact, rel=1e-4)
    error = calibration_error(water[None, None], expit(logits / 1.5)[None, None]).error
    assert counts.error(1.5) == pytest.approx(error, abs=2e-3)
    counts.add(np.array([-np.inf, np.inf, 1e30]), np.array([False, True, True]))
    assert counts.total == 50_003


def test_without_any_error_it_stops_at_the_limit():
    """Nothing in the data says how unsure to be."""
    logits = np.array([-3.0, 3.0])
    assert fit_temperature(counted(logits, logits > 0)) == pytest.approx(LIMITS[0], rel=1e-3)


def test_nothing_observed_is_refused():
    """There is nothing to calibrate on."""
    with pytest.raises(NoObservations, match="no pixel of the validation was observed"):
        fit_temperature(LogitCounts())


def test_folding_divides_the_logits_and_keeps_their_order():
    """In the weights: the network itself says less sure what it said."""
    tiny = network().eval()
    images = torch.from_numpy(np.stack([chip for chip, _, _ in samples(3)])[:, None]).float() / 255
    with torch.inference_mode():
        before = tiny(images)
        fold_temperature(tiny, 2.5)
        after = tiny(images)
    torch.testing.assert_close(after, before / 2.5)
    assert torch.equal(after > 0, before > 0)
    order = before.flatten().argsort()
    assert (after.flatten()[order].diff() > -1e-6).all()
    assert tiny.segmentation_head[0].weight.requires_grad


def test_a_network_without_a_head_is_refused():
    """It isn't known where its logits come from."""
    with pytest.raises(ModelError, match="no segmentation_head that starts with a convolution"):
        fold_temperature(torch.nn.Conv2d(1, 1, 1), 2.0)
