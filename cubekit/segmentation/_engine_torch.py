"""Engine of torch: channels last, batch statistics folded, float32 or bfloat16, on the CPU or on one GPU."""

from __future__ import annotations

import copy
import threading

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

STRIDE = 32
"""Sides of what a network sees divide by this."""


class TorchEngine:
    """Runs a network with torch.

    Parameters
    ----------
    network
        In eval mode, float32. It is not changed.
    device
        ``"cpu"`` or ``"cuda"``.
    bfloat16
        Whether weights and layers are bfloat16; logits are float32 either way.
    batch
        Chips that it wants at once.
    """

    def __init__(self, network: nn.Module, *, device: str, bfloat16: bool, batch: int) -> None:
        self.batch = batch
        self._device = torch.device(device)
        self._kind = torch.bfloat16 if bfloat16 else torch.float32
        self._network = folded(network).to(self._device, self._kind).to(memory_format=torch.channels_last)
        # One batch at a time, with all of torch's threads: two would wait for each other at every layer.
        self._lock = threading.Lock()

    def __call__(self, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits."""
        given = torch.from_numpy(chips)
        if self._device.type == "cuda":
            given = given.pin_memory()  # outside of the lock: while another batch is on the GPU
        # cuDNN would multiply float32 with 10 bits of precision, and masks would depend on the machine.
        with self._lock, torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            # Bytes travel, not floats: a quarter of the traffic.
            images = given.to(self._device, non_blocking=True).to(torch.float32).div_(255.0)
            images = images.to(self._kind).contiguous(memory_format=torch.channels_last)
            answer = self._network(images)[:, 0].float().cpu()
        logits: npt.NDArray[np.float32] = answer.numpy()
        return logits


def folded(network: nn.Module) -> nn.Module:
    """Copy a network with the batch statistics multiplied into the convolutions before them.

    A pass over memory less a layer, and in bfloat16 one rounding less: statistics are applied in float32.
    """
    network = copy.deepcopy(network)
    names = {module: name for name, module in network.named_modules()}
    # By the identity of what they made, which is kept, or another tensor might get its identity.
    made: dict[int, tuple[nn.Conv2d, torch.Tensor]] = {}
    pairs: list[tuple[nn.Conv2d, nn.BatchNorm2d]] = []

    def remember(module: nn.Module, given: tuple[torch.Tensor, ...], answer: torch.Tensor) -> None:
        if isinstance(module, nn.Conv2d):
            made[id(answer)] = module, answer
        elif isinstance(module, nn.BatchNorm2d) and id(given[0]) in made:
            pairs.append((made[id(given[0])][0], module))

    hooks = [module.register_forward_hook(remember) for module in names]
    channels = next(module for module in names if isinstance(module, nn.Conv2d)).in_channels
    with torch.inference_mode():
        network(torch.zeros(1, channels, STRIDE, STRIDE))
    for hook in hooks:
        hook.remove()
    for convolution, norm in pairs:
        if norm.running_mean is None or norm.running_var is None:
            continue  # it takes the statistics of each batch, so there is nothing to fold
        weight, bias = fuse_conv_bn_weights(
            convolution.weight,
            convolution.bias,
            norm.running_mean,
            norm.running_var,
            norm.eps,
            norm.weight,
            norm.bias,
        )
        convolution.weight, convolution.bias = weight, bias
        parent, _, name = names[norm].rpartition(".")
        # timm's batch normalisation brings the activation after it along.
        setattr(network.get_submodule(parent), name, getattr(norm, "act", nn.Identity()))
    return network
