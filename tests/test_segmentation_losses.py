"""Losses: the paper's equations, in float64 as they are printed, and safe where those are not."""

import numpy as np
import pytest
import torch
from torch.nn.functional import binary_cross_entropy_with_logits

from cubekit.segmentation.losses import bce_loss, composite_loss, dice_loss, focal_loss
from cubekit.segmentation.recipe import LossOptions


def paper(logits, y, observed, alpha=0.25, gamma=2.0):
    """Equations 1 to 4 over the observed pixels, as printed."""
    p, y = 1 / (1 + np.exp(-logits[observed])), y[observed].astype(float)
    n = p.size
    bce = -1 / n * np.sum(y * np.log(p) + (1 - y) * np.log(1 - p))
    focal = alpha * (1 - p) ** gamma * y * np.log(p) + (1 - alpha) * p**gamma * (1 - y) * np.log(1 - p)
    dice = 2 * np.sum(p * y) / (np.sum(p) + np.sum(y))
    return bce, 1 - dice, -1 / n * np.sum(focal)


def drawn(seed, dtype=torch.float64):
    random = np.random.default_rng(seed)
    logits, target = random.normal(0, 3, (3, 1, 8, 9)), random.random((3, 1, 8, 9)) < 0.3
    observed = random.random((3, 1, 8, 9)) < 0.8
    return (logits, target, observed), (
        torch.tensor(logits, dtype=dtype, requires_grad=True),
        torch.from_numpy(target),
        torch.from_numpy(observed),
    )


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(("alpha", "gamma"), [(0.25, 2.0), (0.6, 0.5), (1.0, 0.0)])
def test_losses_are_those_of_the_paper(seed, alpha, gamma):
    """Each of the three, and their sum (equation 5), to the digits of float64."""
    arrays, tensors = drawn(seed)
    wanted = paper(*arrays, alpha, gamma)
    found = (bce_loss(*tensors), dice_loss(*tensors), focal_loss(*tensors, alpha=alpha, gamma=gamma))
    np.testing.assert_allclose([loss.item() for loss in found], wanted, rtol=1e-12)
    total = composite_loss(*tensors, LossOptions(alpha=alpha, gamma=gamma))
    np.testing.assert_allclose(total.item(), sum(wanted), rtol=1e-12)


def test_defaults_are_the_paper_s():
    """Alpha 0.25, gamma 2, equal weights."""
    arrays, tensors = drawn(7)
    np.testing.assert_allclose(composite_loss(*tensors, LossOptions()).item(), sum(paper(*arrays)), rtol=1e-12)


def test_weights_scale_and_switch_off():
    """A sum of what was asked for."""
    arrays, tensors = drawn(1)
    bce, dice, focal = paper(*arrays)
    found = composite_loss(*tensors, LossOptions(bce=0, dice=2, focal=0.5))
    np.testing.assert_allclose(found.item(), 2 * dice + 0.5 * focal, rtol=1e-12)
    assert composite_loss(*tensors, LossOptions(dice=0, focal=0)).item() == pytest.approx(bce)


def test_bce_is_torch_s_own():
    """Value and gradient, over the observed pixels."""
    _, (logits, target, observed) = drawn(3)
    own = torch.autograd.grad(bce_loss(logits, target, observed), logits)[0]
    torchs = binary_cross_entropy_with_logits(logits[observed], target[observed].double())
    torch.testing.assert_close(bce_loss(logits, target, observed), torchs)
    torch.testing.assert_close(own, torch.autograd.grad(torchs, logits)[0])


def test_focal_without_focus_is_half_the_bce():
    """Gamma 0 and alpha a half."""
    _, tensors = drawn(4)
    torch.testing.assert_close(focal_loss(*tensors, alpha=0.5, gamma=0.0), bce_loss(*tensors) / 2)


@pytest.mark.parametrize("loss", [bce_loss, dice_loss, focal_loss])
def test_gradients_are_those_of_the_values(loss):
    """Against finite differences."""
    _, (logits, target, observed) = drawn(5)
    few = logits.detach()[:1, :, :3, :4].clone().requires_grad_()
    cut = (slice(1), slice(None), slice(3), slice(4))
    assert torch.autograd.gradcheck(lambda given: loss(given, target[cut], observed[cut]), few)


@pytest.mark.parametrize("size", [30.0, 90.0, 1e4, 1e36])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("gamma", [0.0, 0.5, 2.0])
def test_saturated_logits_are_safe(size, dtype, gamma):
    """Right and wrong by any margin: loss and gradients stay finite, and what is wrong is pulled back."""
    logits = torch.tensor([size, -size, size, -size], dtype=dtype, requires_grad=True)
    target = torch.tensor([True, False, False, True])
    observed = torch.ones(4, dtype=torch.bool)
    loss = composite_loss(logits, target, observed, LossOptions(gamma=gamma, bce=1e-3))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert torch.isfinite(loss)
    assert torch.isfinite(gradient).all()
    assert gradient[2] > 0 > gradient[3]


def test_mixed_precision_is_summed_in_float32():
    """bf16 has two digits: a mean over many pixels in it would stand still."""
    logits = torch.full((1, 1, 256, 256), 0.01, dtype=torch.bfloat16)
    target = torch.zeros((1, 1, 256, 256), dtype=torch.bool)
    for loss in (bce_loss, focal_loss, dice_loss):
        assert loss(logits, target, ~target).dtype == torch.float32
    exact = np.log1p(np.exp(logits[0, 0, 0, 0].item()))
    assert bce_loss(logits, target, ~target).item() == pytest.approx(exact, rel=1e-5)


@pytest.mark.parametrize("loss", [bce_loss, dice_loss, focal_loss])
def test_what_is_not_observed_carries_no_loss(loss):
    """Neither its logits nor its labels matter, and no gradient goes there."""
    _, (logits, target, observed) = drawn(6)
    (gradient,) = torch.autograd.grad(loss(logits, target, observed), logits)
    assert not gradient[~observed].any()
    assert gradient[observed].all()
    other = torch.where(observed, logits, torch.full_like(logits, 1e6))
    assert loss(other, target ^ ~observed, observed).item() == loss(logits, target, observed).item()


def test_the_paper_counts_all_pixels():
    """With observed_only off, nodata is land."""
    (logits, target, observed), tensors = drawn(8)
    found = composite_loss(*tensors, LossOptions(observed_only=False)).item()
    assert found == pytest.approx(sum(paper(logits, target, np.ones_like(observed))))
    assert found != pytest.approx(sum(paper(logits, target, observed)))


@pytest.mark.parametrize("loss", [bce_loss, focal_loss])
def test_nothing_observed_costs_nothing(loss):
    """No 0/0, and no pull anywhere."""
    _, (logits, target, observed) = drawn(9)
    none = torch.zeros_like(observed)
    (gradient,) = torch.autograd.grad(loss(logits, target, none), logits)
    assert loss(logits, target, none).item() == 0
    assert not gradient.any()


@pytest.mark.parametrize("size", [3.0, 1e4])
def test_dice_without_water(size):
    """A loss of 1 without gradient, also where every probability underflows to 0."""
    logits = torch.full((2, 3), -size, requires_grad=True)
    none = torch.zeros((2, 3), dtype=torch.bool)
    loss = dice_loss(logits, none, ~none)
    (gradient,) = torch.autograd.grad(loss, logits)
    assert loss.item() == 1
    assert not gradient.any()
