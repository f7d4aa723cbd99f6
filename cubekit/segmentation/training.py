"""Training: from labelled chips and a recipe to a model's file, calibrated and with its card."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubekit.errors import ConfigError, ModelError
from cubekit.segmentation import model as models
from cubekit.segmentation import shipped
from cubekit.segmentation._checkpoint import weights_hash
from cubekit.segmentation._imagenet import imagenet_encoder
from cubekit.segmentation._loader import Samples
from cubekit.segmentation.calibration import LogitCounts, fit_temperature, fold_temperature
from cubekit.segmentation.card import CHANNELS, ModelCard
from cubekit.segmentation.fitting import Progress, Row, fit
from cubekit.segmentation.inference import logits
from cubekit.segmentation.priors import Prior
from cubekit.segmentation.recipe import Recipe

if TYPE_CHECKING:
    import torch

__all__ = ["Progress", "Recipe", "Samples", "Trained", "start_network", "train", "weights_hash"]

MODEL, LAST = "model.safetensors", "last.safetensors"


@dataclass(frozen=True)
class Trained:
    """What a training made.

    Parameters
    ----------
    model, last
        Files with the weights of the chosen epoch and of the last one, both calibrated.
    epoch
        The chosen one, from 1.
    temperature
        By which its logits were divided.
    weights
        SHA-256 of the chosen weights as saved, 64 hexadecimal digits: equal for equal trainings, as the file's own hash
        is not, since its card says when it was made.
    history
        A row an epoch, as in ``history.csv``: see `fitting.Fit`.
    """

    model: Path
    last: Path
    epoch: int
    temperature: float
    weights: str
    history: tuple[Row, ...]


def train(
    samples: Samples,
    recipe: Recipe,
    out: str | Path,
    *,
    validation: Samples,
    preprocessing: Mapping[str, Any],
    licence: str,
    data_note: str,
    split: str,
    lakes: Sequence[str] | None = None,
    priors: Mapping[str, Prior] | None = None,
    ids: Sequence[str] = (),
    half: bool = False,
    resume: bool = True,
    progress: Progress | None = None,
    device: str = "auto",
) -> Trained:
    """Train a network, choose an epoch, calibrate it and save it.

    Parameters
    ----------
    samples, validation
        By number, lazily, from one thread at a time: chip uint8 as `equalize` makes it, mask bool with True on water,
        observed bool, all (y, x), of one size whose sides are multiples of 32. A list of such tuples will do. With the
        recipe's `prior` the first is (2, y, x): the chip, and where the lake was. Learned from are `samples` only;
        `validation` chooses the epoch and the temperature, so it is no test.
    recipe
        See `Recipe`.
    out
        Folder for ``model.safetensors``, ``last.safetensors``, ``history.csv`` and ``checkpoint.pt``; made if absent.
    preprocessing
        Fingerprint of the chain that made the chips, as `equalize` writes it into its attributes.
    licence
        Under which terms the weights may be used.
    data_note, split
        For the card: what was learned from, and how `validation` was set apart.
    lakes
        The lake of each validation sample, for ``choose = "iou_by_lake"``.
    priors
        Where the lakes of the training were, to be kept with the model: see `priors.known_priors`.
    ids
        Of all samples that were looked at, for the card: `cubekit evaluate` says when it tests some of them.
    half
        Save the weights in half precision; they are rounded before they are measured.
    resume
        Go on from the checkpoint in `out`, if there is one; otherwise start anew.
    progress
        Called after every step with the epoch (from 1), steps done, steps in all, and the history's last row or None.
    device
        ``"auto"`` (a GPU where there is one), ``"cpu"`` or ``"cuda"``.

    Returns
    -------
    Trained

    Raises
    ------
    ConfigError
        As `fitting.fit`; when a side is no multiple of 32, or the device is unknown or absent.
    MissingExtra
        When torch, segmentation-models-pytorch or safetensors is not installed.
    ModelError
        As `fitting.fit`; when the card would not be complete, or the start can't be loaded.
    NoObservations
        When no observed validation pixel is water.

    Notes
    -----
    U-Net, losses, epochs and rates as the recipe says; the epoch is the best by its `choose`, the earliest of equals.
    Then the temperature (`calibration`) is fitted on the observed pixels of `validation` and folded into the last
    convolution, so that `segment` needs nothing new. Equal samples, recipe and machine give equal weights, also when
    the training was killed and resumed.
    """
    card = ModelCard(
        name=Path(out).absolute().name,
        created=datetime.now(UTC),
        preprocessing=preprocessing,
        licence=licence,
        encoder=recipe.network.encoder,
        channels=_channels(recipe),
        prior_skip=recipe.network.prior and recipe.network.prior_skip,
        views=recipe.network.views,
    )
    where = _device(device)
    for given in (samples, validation):
        shape = np.shape(given[0][0]) if len(given) else ()
        if any(side % 32 for side in shape[-2:]):
            msg = f"chips of {shape} pixels don't go through a U-Net; give sides that divide by 32"
            raise ConfigError(msg)
        if shape and (shape[0] if len(shape) == 3 else 1) != len(card.channels):
            msg = (
                f"the recipe's network sees {' and '.join(card.channels)}, and the images are {shape}; give both alike"
            )
            raise ConfigError(msg)
    network = start_network(recipe, preprocessing)
    start = weights_hash(network.state_dict())
    network.to(where)
    found = fit(network, samples, recipe, out, validation=validation, lakes=lakes, resume=resume, progress=progress)
    training = {
        "data": data_note,
        "split": split,
        "samples": len(samples),
        "validation_samples": len(validation),
        "recipe": recipe.model_dump(mode="json"),
        "start": start,
        "ids": sorted(ids),
        "device": _device_name(where),
        "seconds": round(sum(row["seconds"] for row in found.history), 1),
    }
    saved = {}
    # The chosen one last: its numbers are those that are returned.
    for name, weights, epoch in ((LAST, found.last, len(found.history)), (MODEL, found.chosen, found.epoch)):
        network.load_state_dict(dict(weights))
        if half:
            _round_to_half(network)
        counts = _logit_counts(network, validation, recipe.network.views)
        temperature = fit_temperature(counts)
        fold_temperature(network, temperature)
        if half:
            _round_to_half(network)
        scores = {key: value for key, value in found.history[epoch - 1].items() if key.startswith("validation_")}
        metrics = scores | {
            "epoch": epoch,
            "temperature": temperature,
            "calibration_error_before": counts.error(1.0),
            "calibration_error": counts.error(temperature),
        }
        digest = weights_hash(network.state_dict())
        made = {**card.to_mapping(), "created": found.finished.isoformat(), "metrics": metrics}
        made["training"] = {**training, "weights": digest}
        kept = ModelCard.from_mapping(made)
        saved[name] = models.save_model(network, kept, Path(out) / name, half=half, priors=priors)
    return Trained(saved[MODEL], saved[LAST], found.epoch, temperature, digest, found.history)


def start_network(recipe: Recipe, preprocessing: Mapping[str, Any] | None = None) -> torch.nn.Module:
    """Make the network that a training starts from, on the CPU.

    Parameters
    ----------
    recipe
        Its seed and its section `network`.
    preprocessing
        How the chips were made: chooses among the shipped models.

    Returns
    -------
    torch.nn.Module
        In train mode; equal for equal recipes. torch's own generators are left as they were.

    Raises
    ------
    MissingExtra
        When torch or segmentation-models-pytorch is not installed.
    ModelError
        When the hub can't be reached for ``"imagenet"``, there is no model at the path or none is shipped for such
        chips, or it has another encoder or other channels.
    """
    torch = models._library("torch")
    start, encoder, channels = recipe.network.start, recipe.network.encoder, _channels(recipe)
    with torch.random.fork_rng([]):
        torch.manual_seed(recipe.training.seed)
        skip = recipe.network.prior and recipe.network.prior_skip
        network = models.build_network(encoder, len(channels), prior_skip=skip)
        if start == "imagenet":
            network.get_submodule("encoder").load_state_dict(imagenet_encoder(encoder, len(channels)))
    if start == "shipped" and preprocessing is None:
        msg = (
            "which shipped model is the start depends on how the chips were made; give preprocessing, or another start"
        )
        raise ModelError(msg)
    if start not in {"imagenet", "none"}:
        path = shipped.choose(json.dumps(dict(preprocessing or {}))) if start == "shipped" else shipped.find(start)
        card = models.read_card(path)
        if (card.encoder, card.channels) != (encoder, channels):
            msg = (
                f"the start {path} is a U-Net of {card.encoder} that sees {' and '.join(card.channels)}, and the "
                f"recipe asks for {encoder} and {' and '.join(channels)}; make both alike"
            )
            raise ModelError(msg)
        if card.prior_skip and not skip:
            msg = f"the start {path} adds the odds of the prior, and the recipe does not; set prior_skip = true"
            raise ModelError(msg)
        # One that doesn't add the odds of the prior may start one that does.
        network.load_state_dict({**network.state_dict(), **models.load_model(path).state_dict()})
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.momentum = recipe.network.batchnorm_momentum
    return network.train()


def _channels(recipe: Recipe) -> tuple[str, ...]:
    return CHANNELS if recipe.network.prior else CHANNELS[:1]


def _round_to_half(network: torch.nn.Module) -> None:
    """Round the weights that `save_model` keeps in half precision, so that what is measured is what is saved."""
    torch = models._library("torch")
    with torch.no_grad():
        for weights in network.state_dict().values():
            if weights.ndim > 1:
                weights.copy_(weights.half())


def _device(name: str) -> torch.device:
    models._library("torch")
    import torch

    there = torch.cuda.is_available()
    if name not in {"auto", "cpu", "cuda"} or (name == "cuda" and not there):
        msg = f"device {name!r} isn't {'known' if there else 'there'}; allowed are 'auto', 'cpu'"
        raise ConfigError(f"{msg} and 'cuda'" if there else msg)
    return torch.device("cuda" if there and name != "cpu" else "cpu")


def _device_name(device: torch.device) -> str:
    """What it was trained on, for the card."""
    torch = models._library("torch")
    if device.type == "cuda":
        return str(torch.cuda.get_device_name(device))
    return f"CPU, {torch.get_num_threads()} threads, torch {torch.__version__}"


def _logit_counts(network: torch.nn.Module, validation: Samples, views: int) -> LogitCounts:
    """Logits of the observed pixels, also where the loss counts all: probabilities are asked for there only."""
    counts = LogitCounts()
    network.eval()
    for index in range(len(validation)):
        image, mask, observed = validation[index]
        found = logits(network, np.asarray(image)[None], views=views)[0]
        counts.add(found[observed], mask[observed])
    return counts
