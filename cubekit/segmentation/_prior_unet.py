"""A U-Net that says how much there is to change: its answer is added to the odds of the prior."""

from __future__ import annotations

import segmentation_models_pytorch as smp
import torch
from torch.nn.functional import avg_pool2d

EDGE = 0.02
"""What a prior leaves open where it is surest: its log odds are 3.9 at most."""

_WIDTH = 7
_PASSES = 2


class PriorUnet(smp.Unet):  # type: ignore[misc]  # smp has no types
    """A U-Net with a skip connection from the prior to the logits.

    Parameters
    ----------
    encoder, channels
        As segmentation-models-pytorch takes them; the second channel is the prior, 0 to 1.

    Notes
    -----
    A U-Net's last skip connection is at half the resolution, and from a hundred labels it doesn't learn to hand a mean
    mask through: random splits of the published pairs scored below that mask. Here it starts from the mask (residual
    learning, He et al. 2016). Where the prior is 0 everywhere it isn't known, and nothing is added. A prior of 0 and 1
    only is one outline, and its shore is some two pixels off: it is smoothed, by some 2.8 pixels.
    """

    def __init__(self, encoder: str, channels: int) -> None:
        super().__init__(encoder, in_channels=channels, classes=1, encoder_weights=None)
        # Learned from the first step on, so 1 will do; calibration divides it.
        self.register_buffer("prior_skip", torch.ones(()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Logits (n, 1, y, x) of images (n, channels, y, x)."""
        logits: torch.Tensor = super().forward(images)
        odds = prior_odds(images[:, 1:2]).to(images.dtype)
        skip: torch.Tensor = self.prior_skip
        return logits + skip * odds


def prior_odds(prior: torch.Tensor) -> torch.Tensor:
    """Log odds of priors (n, 1, y, x), 0 to 1, in float32; 0 throughout for one that isn't known."""
    prior = prior.float()
    smooth = prior
    for _ in range(_PASSES):
        smooth = avg_pool2d(smooth, _WIDTH, stride=1, padding=_WIDTH // 2, count_include_pad=False)
    within = ((prior > 0) & (prior < 1)).flatten(1).any(1).view(-1, 1, 1, 1)
    told = torch.where(within, prior, smooth)
    known = (prior > 0).flatten(1).any(1).view(-1, 1, 1, 1)
    return torch.log((told + EDGE) / (1 - told + EDGE)) * known
