"""Losses: the paper's three, from logits, over the pixels that count.

Equations 1 to 5 of the paper (Adhikari et al., section 3.4). All are written in logarithms of the
sigmoid, so that logits of any size give finite losses and gradients.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

    from cubekit.segmentation.recipe import LossOptions


def bce_loss(logits: torch.Tensor, target: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Binary cross entropy, equation 1.

    Parameters
    ----------
    logits
        Any shape, floating; used in float32 at least.
    target
        bool, same shape: water.
    counted
        bool, same shape: where the loss looks. N of the equation is their number.

    Returns
    -------
    torch.Tensor
        Scalar. Where nothing counts it is 0, and so is its gradient.

    Examples
    --------
    >>> import torch
    >>> logits, target = torch.tensor([0.0, 5.0]), torch.tensor([True, False])
    >>> round(float(bce_loss(logits, target, torch.tensor([True, False]))), 4)
    0.6931
    """
    water, land = _log_probabilities(logits)
    return -_mean(_chosen(target, water, land), counted)


def focal_loss(
    logits: torch.Tensor, target: torch.Tensor, counted: torch.Tensor, *, alpha: float = 0.25, gamma: float = 2.0
) -> torch.Tensor:
    """Focal loss, equation 2 (Lin et al. 2017): what is easy counts little.

    Parameters
    ----------
    logits, target, counted
        As in `bce_loss`.
    alpha
        Weight of water, 0 to 1; land has ``1 - alpha``.
    gamma
        Power of the error that weighs each pixel, 0 or more; at 0 the loss is a weighted BCE.

    Returns
    -------
    torch.Tensor
        Scalar. Where nothing counts it is 0, and so is its gradient.

    Examples
    --------
    >>> import torch
    >>> logits, target = torch.tensor([0.0, 1e4]), torch.tensor([True, True])
    >>> round(float(focal_loss(logits, target, target)) / (0.25 * 0.25 * 0.693147 / 2), 4)
    1.0
    """
    water, land = _log_probabilities(logits)
    # The power as an exponential: that of 0 to a gamma below 1 has no finite gradient.
    on_water = alpha * (gamma * land).exp() * water
    on_land = (1 - alpha) * (gamma * water).exp() * land
    return -_mean(_chosen(target, on_water, on_land), counted)


def dice_loss(logits: torch.Tensor, target: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    """Dice loss, equations 3 and 4 (Milletari et al. 2016), over all pixels of a batch together.

    Parameters
    ----------
    logits, target, counted
        As in `bce_loss`.

    Returns
    -------
    torch.Tensor
        Scalar in 0 to 1. Without any water among what counts it is 1, whatever the logits, and its gradient is 0.

    Examples
    --------
    >>> import torch
    >>> target = torch.tensor([True, False])
    >>> round(float(dice_loss(torch.tensor([0.0, 0.0]), target, torch.tensor([True, True]))), 4)
    0.5
    """
    import torch

    probability = logits.to(_precision(logits)).sigmoid() * counted
    truth = (target & counted).to(probability.dtype)
    both = probability.sum() + truth.sum()
    # 0/0 when every probability underflows and there is no water: the limit of the equation is a loss of 1.
    return 1 - 2 * (probability * truth).sum() / both.clamp_min(torch.finfo(both.dtype).tiny)


def composite_loss(
    logits: torch.Tensor, target: torch.Tensor, observed: torch.Tensor, options: LossOptions
) -> torch.Tensor:
    """Weighted sum of the three, equation 5.

    Parameters
    ----------
    logits, target
        As in `bce_loss`.
    observed
        bool, same shape. What isn't observed carries no loss, unless ``options.observed_only`` is false.
    options
        Weights, alpha and gamma; with the defaults the sum is the paper's.

    Returns
    -------
    torch.Tensor
        Scalar.

    Examples
    --------
    >>> import torch
    >>> from cubekit.segmentation.recipe import LossOptions
    >>> logits, target = torch.zeros(4), torch.tensor([True, False, False, False])
    >>> loss = composite_loss(logits, target, torch.ones(4, dtype=torch.bool), LossOptions(focal=0))
    >>> round(float(loss), 4)  # 0.6931 and 1 - 1/3
    1.3598
    """
    import torch

    counted = observed if options.observed_only else torch.ones_like(observed)
    parts = []
    if options.bce:
        parts.append(options.bce * bce_loss(logits, target, counted))
    if options.dice:
        parts.append(options.dice * dice_loss(logits, target, counted))
    if options.focal:
        focal = focal_loss(logits, target, counted, alpha=options.alpha, gamma=options.gamma)
        parts.append(options.focal * focal)
    return torch.stack(parts).sum()


def _precision(logits: torch.Tensor) -> torch.dtype:
    """At least float32: sums over a batch in bf16 have two digits."""
    import torch

    return torch.promote_types(logits.dtype, torch.float32)


def _log_probabilities(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Logarithms of the probabilities of water and of land."""
    from torch.nn.functional import logsigmoid

    logits = logits.to(_precision(logits))
    return logsigmoid(logits), logsigmoid(-logits)


def _chosen(target: torch.Tensor, water: torch.Tensor, land: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.where(target, water, land)


def _mean(values: torch.Tensor, counted: torch.Tensor) -> torch.Tensor:
    import torch

    kept = torch.where(counted, values, torch.zeros_like(values))
    return kept.sum() / counted.sum().clamp_min(1)
