"""The file of a model: the weights of one U-Net and its card, in one ``.safetensors`` file.

Safetensors holds numbers and text only: unlike a pickle, a file from a stranger can't run code when it is loaded.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cubekit.errors import MissingExtra, ModelError
from cubekit.files import replacing
from cubekit.segmentation.card import CHANNELS, ENCODERS, ModelCard

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

# The only key: safetensors writes its metadata in no fixed order, and equal models shall have equal hashes.
_METADATA_KEY = "cubekit_card"
_PRIOR = "prior:"

# As segmentation-models-pytorch calls them.
_ENCODERS = dict(zip(ENCODERS, ("efficientnet-b3", "tu-tf_efficientnet_lite0"), strict=True))


def build_network(encoder: str = ENCODERS[0], channels: int = 1, *, prior_skip: bool = False) -> torch.nn.Module:
    """Make a U-Net with random weights.

    Parameters
    ----------
    encoder
        One of `card.ENCODERS`.
    channels
        How many images the network sees at once.
    prior_skip
        Whether the odds of the second one, the prior, are added to the logits.

    Returns
    -------
    torch.nn.Module
        float32 (n, channels, y, x) in 0..1 to float32 logits (n, 1, y, x); sides divide by 32. Nothing is downloaded:
        the encoder's weights are random too.

    Raises
    ------
    MissingExtra
        When torch or segmentation-models-pytorch is not installed.
    ModelError
        When there is no such encoder, or no prior to add.

    Notes
    -----
    U-Net (Ronneberger et al. 2015) on EfficientNet-B3 (Tan & Le 2019), as in the paper, or on EfficientNet-Lite0.
    """
    if encoder not in _ENCODERS:
        msg = f"there is no encoder {encoder!r}; allowed are {', '.join(ENCODERS)}"
        raise ModelError(msg)
    smp = _library("segmentation_models_pytorch")
    if prior_skip:
        if channels < len(CHANNELS):
            msg = f"prior_skip needs the channels {' and '.join(CHANNELS)}, and there is {channels}; give both"
            raise ModelError(msg)
        from cubekit.segmentation._prior_unet import PriorUnet

        return PriorUnet(_ENCODERS[encoder], channels)
    network: torch.nn.Module = smp.Unet(_ENCODERS[encoder], in_channels=channels, classes=1, encoder_weights=None)
    return network


def save_model(
    network: torch.nn.Module,
    card: ModelCard,
    path: str | Path,
    *,
    half: bool = False,
    priors: Mapping[str, npt.NDArray[np.uint8]] | None = None,
) -> Path:
    """Write a network and its card into one file: all of it, or nothing.

    Parameters
    ----------
    network
        As `build_network` makes it for the card's encoder and channels, on any device.
    card
        A card is complete or it can't be made.
    path
        Ends in ``.safetensors``. A file that is there is replaced at once; readers see the old or the new.
    half
        Keep convolutions in float16: half the size, 3 digits. Batch statistics stay float32.
    priors
        Where lakes of the training were, by `priors.prior_keys`: uint8 (y, x), 255 where always water.

    Returns
    -------
    pathlib.Path
        The file written. Equal weights and an equal card give equal bytes.

    Raises
    ------
    MissingExtra
        When torch or safetensors is not installed.
    ModelError
        When the path ends otherwise or can't be written, the card is no card, or the network is of another
        architecture or has weights that are not finite.
    """
    torch, safetensors_torch = _library("torch"), _library("safetensors.torch")
    path = Path(path)
    if path.suffix != ".safetensors":
        msg = f"{path} does not end in .safetensors, the only format models are kept in; rename it"
        raise ModelError(msg)
    if not isinstance(card, ModelCard):
        given = type(card).__name__  # type: ignore[unreachable]  # for callers without a type checker
        msg = f"a model is saved with its ModelCard, not with a {given}; make one, or ModelCard.from_mapping"
        raise ModelError(msg)
    weights = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    if fault := _other_architecture(weights, card):
        msg = (
            f"{path} was not written: the network is not a U-Net of {card.encoder} with {len(card.channels)} channels: "
            f"{fault}; models are made by build_network()"
        )
        raise ModelError(msg)
    if broken := [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]:
        msg = (
            f"{path} was not written: {len(broken)} tensors hold NaN or infinity, the first is {broken[0]}; train again"
        )
        raise ModelError(msg)
    if half:
        weights = {name: tensor.half() if tensor.ndim > 1 else tensor for name, tensor in weights.items()}
        if broken := [name for name, tensor in weights.items() if not bool(torch.isfinite(tensor).all())]:
            msg = f"{path} was not written: {broken[0]} does not fit into float16; save it with half=False"
            raise ModelError(msg)
    weights |= {f"{_PRIOR}{key}": torch.from_numpy(prior) for key, prior in sorted((priors or {}).items())}
    text = json.dumps(card.to_mapping(), sort_keys=True, ensure_ascii=False, allow_nan=False)
    try:
        with replacing(path) as temporary:
            temporary.write_bytes(safetensors_torch.save(weights, metadata={_METADATA_KEY: text}))
    except OSError as error:
        msg = f"{path} can't be written ({error.strerror}); give a path in a folder that exists and may be written"
        raise ModelError(msg) from error
    return path


def read_card(path: str | Path) -> ModelCard:
    """Read a model's card, without its weights and without torch.

    Parameters
    ----------
    path
        A file that `save_model` wrote.

    Returns
    -------
    ModelCard

    Raises
    ------
    MissingExtra
        When safetensors is not installed.
    ModelError
        When there is no such file, it is truncated or no safetensors file, or its card is missing or not usable.
    """
    safetensors = _library("safetensors")
    _check_file(Path(path))
    try:
        with safetensors.safe_open(str(path), framework="numpy") as opened:
            text = (opened.metadata() or {}).get(_METADATA_KEY)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise _foreign(path, error) from error
    if text is None:
        msg = f"{path} carries no model card, so it isn't known what it was trained on; save it with save_model"
        raise ModelError(msg)
    try:
        return ModelCard.from_mapping(json.loads(text))
    except ModelError as error:
        msg = f"{path}: {error}"
        raise ModelError(msg) from error
    except (ValueError, TypeError) as error:
        msg = f"{path}: the model card is not readable ({error}); save the model again with save_model"
        raise ModelError(msg) from error


def model_hash(path: str | Path) -> str:
    """SHA-256 of a model's file, 64 hexadecimal digits.

    Parameters
    ----------
    path
        A file that `save_model` wrote.

    Raises
    ------
    ModelError
        When there is no such file or it can't be read.
    """
    _check_file(Path(path))
    try:
        with Path(path).open("rb") as opened:
            return hashlib.file_digest(opened, "sha256").hexdigest()
    except OSError as error:
        msg = f"{path} can't be read ({error.strerror}); see that its permissions allow it"
        raise ModelError(msg) from error


def load_model(path: str | Path, *, expected_hash: str | None = None) -> torch.nn.Module:
    """Load a model's network, on the CPU and ready to predict.

    Parameters
    ----------
    path
        A file that `save_model` wrote.
    expected_hash
        Its `model_hash` when it was chosen: another file in its place is refused. By default any file will do.

    Returns
    -------
    torch.nn.Module
        In eval mode, float32.

    Raises
    ------
    MissingExtra
        When torch, segmentation-models-pytorch or safetensors is not installed.
    ModelError
        As `read_card`; when the file is not the expected one; when its weights are not those of its card's network.
    """
    card = read_card(path)
    torch = _library("torch")
    safetensors, safetensors_torch = _library("safetensors"), _library("safetensors.torch")
    try:
        # Read once: the bytes whose hash was checked are the bytes that are loaded.
        content = Path(path).read_bytes()
        found = hashlib.sha256(content).hexdigest()
        if expected_hash is not None and found != expected_hash:
            msg = f"{path} changed: its sha256 is {found}, expected was {expected_hash}; give the file that was chosen"
            raise ModelError(msg)
        weights = safetensors_torch.load(content)
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise _foreign(path, error) from error
    weights = {
        name: tensor.float() if tensor.dtype == torch.float16 else tensor
        for name, tensor in weights.items()
        if not name.startswith(_PRIOR)
    }
    if fault := _other_architecture(weights, card):
        msg = (
            f"{path} does not hold the weights of a U-Net of {card.encoder} with {len(card.channels)} channels: "
            f"{fault}; save the model again with save_model"
        )
        raise ModelError(msg)
    network = build_network(card.encoder, len(card.channels), prior_skip=card.prior_skip)
    network.load_state_dict(weights, strict=True)
    return network.eval()


def read_priors(path: str | Path) -> dict[str, npt.NDArray[np.uint8]]:
    """Read where the lakes of a model's training were.

    Parameters
    ----------
    path
        A file that `save_model` wrote.

    Returns
    -------
    dict
        By `priors.prior_keys`: uint8 (y, x), 255 where every mask had water. Empty when the file has none.

    Raises
    ------
    MissingExtra, ModelError
        As `read_card`.
    """
    read_card(path)
    safetensors = _library("safetensors")
    try:
        with safetensors.safe_open(str(path), framework="numpy") as opened:
            names = [name for name in opened.keys() if name.startswith(_PRIOR)]  # noqa: SIM118 - it is no mapping
            return {name.removeprefix(_PRIOR): opened.get_tensor(name) for name in names}
    except (OSError, ValueError, safetensors.SafetensorError) as error:
        raise _foreign(path, error) from error


def _other_architecture(weights: Mapping[str, torch.Tensor], card: ModelCard) -> str:
    """In which weights a state differs from that of a card's network; empty when in none."""
    with _library("torch").device("meta"):  # shapes only: no memory, no random numbers
        built = build_network(card.encoder, len(card.channels), prior_skip=card.prior_skip)
        wanted = {name: (tuple(t.shape), t.dtype) for name, t in built.state_dict().items()}
    given = {name: (tuple(t.shape), t.dtype) for name, t in weights.items()}
    differing = sorted(name for name in wanted.keys() | given.keys() if wanted.get(name) != given.get(name))
    return f"{len(differing)} tensors differ, the first is {differing[0]}" if differing else ""


def _check_file(path: Path) -> None:
    if not path.is_file():
        msg = f"there is no model at {path}; give the path of a .safetensors file, or 'otsu'"
        raise ModelError(msg)


def _foreign(path: str | Path, error: Exception) -> ModelError:
    return ModelError(f"{path} is truncated or not a safetensors file ({error}); save the model again with save_model")


def _library(name: str) -> Any:
    """Import a library of the extra ``unet``, or name the extra."""
    try:
        return import_module(name)
    except ImportError as error:
        msg = f'{error.name or name} is not installed, and a U-Net needs it; pip install "cubekit[unet]"'
        raise MissingExtra(msg) from error
