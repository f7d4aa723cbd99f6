"""Inference: probabilities of water, lazily, pass by pass."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import ConfigError, ModelError
from cubekit.segmentation import engines
from cubekit.segmentation import model as models
from cubekit.segmentation._blocks import map_passes
from cubekit.segmentation.card import accepts
from cubekit.segmentation.priors import outline_on_window
from cubekit.segmentation.tiles import blend, cut

if TYPE_CHECKING:
    import torch

    from cubekit.lakes import Lake
    from cubekit.segmentation.card import ModelCard

Answer = Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]]
"""Logits (n, y, x) of chips (n, channel, y, x)."""


def segment(da: xr.DataArray, model: str | Path, *, lake: Lake | None = None, engine: str = "auto") -> xr.DataArray:
    """Probability that a pixel is water.

    Parameters
    ----------
    da
        Dims (time, y, x), with the bool coordinate `observed` of the same dims. For a U-Net: uint8 as `equalize`
        makes it, with its attribute `preprocessing`. For ``"otsu"``: float, linear power, as `prepare` makes it.
    model
        Path of a ``.safetensors`` file that `save_model` wrote, or ``"otsu"`` (see `otsu.segment_otsu`).
    lake
        Needed for ``"otsu"``, which starts from the lake's outline, and for a U-Net whose card has the channel
        ``prior``, which sees the outline beside the image.
    engine
        What runs a U-Net, one of `engines.ENGINES`: ``"auto"``, ``"torch"``, ``"openvino"``, or an exact one as the
        attribute `engine` of a result names it.

    Returns
    -------
    xarray.DataArray
        `probability`, float32 in 0..1, NaN where not observed; dims and coordinates of `da`. Attributes `model` (name),
        `model_hash` and, for a U-Net, `engine`, the exact one, `model_threshold`, the probability from which its card
        counts a pixel as water, and `interval_block_m` where the card has it.

    Raises
    ------
    ConfigError
        When `da`, `lake` or `engine` is not as above.
    GridMismatch
        When the outline is needed and `da` does not lie on the lake's lattice.
    MissingExtra
        When a U-Net is given and the extra ``unet`` is not installed, or the extra ``openvino`` for such an engine.
    ModelError
        When the file is no model, or was trained on another preprocessing than that of `da`; the message lists every
        difference. When the graph runs: when the file is no longer the same.

    Notes
    -----
    Lazy when `da` or `observed` is: only the card and the hash of the file are read, and no network is loaded. Chunks
    along y and x are merged, chunks along time are kept. The network sees several of them at once: who computes one
    pass of a lazy cube computes its neighbours too, so select passes before, not after. The model travels to workers as
    path and hash, and is loaded once per process. A window up to 256 x 256 lies in the middle of zeros, as in the
    published chips; a larger one is cut into overlapping tiles whose probabilities are blended.

    ``"auto"`` computes in float32, and its masks are those of ``"torch-float32"`` on every machine, to a pixel. What
    rounds to bfloat16, as ``"torch"`` and ``"openvino"`` do where the processor can, is 1.5 to 2 times as fast, and
    differs in up to `engines.AGREEMENT` pixels a pass: areas that are compared should come from one engine.
    A pass's answer depends neither on chunks nor on what is in its batch by more than rounding.

    Examples
    --------
    >>> from cubekit import lakes
    >>> lake = lakes.catalogue()["gokyo"]
    >>> outline = lake.outline_mask
    >>> power = xr.where(outline, 0.01, 0.2).astype("float32").expand_dims(time=1)
    >>> power = power.assign_coords(observed=power > 0).assign_attrs(scale="linear power")
    >>> bool(((segment(power, "otsu", lake=lake) > 0.5) == outline).all())
    True
    """
    if engine not in engines.ENGINES:
        msg = f"engine {engine!r} isn't known; allowed are {', '.join(map(repr, engines.ENGINES))}"
        raise ConfigError(msg)
    if str(model) == "otsu":
        from cubekit.segmentation.otsu import segment_otsu

        if lake is None:
            msg = "model 'otsu' starts from the lake's outline; give lake=, e.g. lakes.catalogue()['tsho_rolpa']"
            raise ConfigError(msg)
        return segment_otsu(da, lake)
    path = Path(model).absolute()
    card = models.read_card(path)
    if da.dtype != np.uint8:
        msg = f"a U-Net takes uint8 as equalize() makes it, not {da.dtype}; equalize first"
        raise ConfigError(msg)
    _check_preprocessing(card, da.attrs.get("preprocessing"), path)
    sha256 = models.model_hash(path)
    # Chosen here, not where it runs: all workers use the same, and the result tells which.
    exact = engines.resolve(engine, passes=da.sizes.get("time", 0))
    batch = engines.batch_of(exact)
    function = partial(_predict_with, path=str(path), sha256=sha256, engine=exact, views=card.views)
    attrs = {"model": card.name, "model_hash": sha256, "model_threshold": card.threshold, "engine": exact}
    if card.interval_block_m is not None:
        attrs["interval_block_m"] = card.interval_block_m
    if "prior" not in card.channels:
        return map_passes(function, da, attrs, batch=batch)
    if lake is None:
        msg = f"model {card.name!r} sees the lake's outline; give lake=, e.g. lakes.catalogue()['tsho_rolpa']"
        raise ConfigError(msg)
    return map_passes(function, da, attrs, outline_on_window(da, lake)[None], batch=batch)


def predict(network: torch.nn.Module, images: npt.NDArray[np.uint8], *, views: int = 1) -> npt.NDArray[np.float32]:
    """Run a network over images in memory.

    Parameters
    ----------
    network
        In eval mode, from `load_model`.
    images
        uint8 (time, y, x), or (time, channel, y, x) for a network of several channels; any size, 0 where not observed.
    views
        In how many orientations, one of `card.VIEWS`.

    Returns
    -------
    numpy.ndarray
        float32 (time, y, x), probability of water 0..1, also where nothing was observed: the caller blanks that.

    Notes
    -----
    At most `engines.BATCH` chips at once, in float32, channels last (oneDNN's fastest layout on CPUs), weights as they
    are: what evaluates a training.
    """
    images = images[:, None] if images.ndim == 3 else images
    return _in_batches(partial(logits, network, views=views), images, engines.BATCH)


def logits(network: torch.nn.Module, chips: npt.NDArray[np.uint8], *, views: int = 1) -> npt.NDArray[np.float32]:
    """Ask a network for the logits (n, y, x) of chips (n, channel, y, x) or (n, y, x), whose sides divide by 32.

    Parameters
    ----------
    network
        In eval mode, on any device.
    chips
        uint8.
    views
        In how many orientations, one of `card.VIEWS`.
    """
    import torch

    device = next(network.parameters()).device

    def answer(given: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            images = torch.from_numpy(given).to(device).to(torch.float32).div_(255.0)
            found: npt.NDArray[np.float32] = (
                network(images.contiguous(memory_format=torch.channels_last))[:, 0].cpu().numpy()
            )
        return found

    return in_views(answer, chips[:, None] if chips.ndim == 3 else chips, views)


def in_views(answer: Answer, chips: npt.NDArray[np.uint8], views: int) -> npt.NDArray[np.float32]:
    """Mean logits of an image, mirrored and turned: what hangs on how it lies is no feature of the lake."""
    mean = np.zeros((len(chips), *chips.shape[-2:]), np.float32)
    for view in range(views):
        seen = chips.swapaxes(-2, -1) if view & 4 else chips
        seen = seen[..., :: -1 if view & 2 else 1, :: -1 if view & 1 else 1]
        found = answer(np.ascontiguousarray(seen))
        found = found[..., :: -1 if view & 2 else 1, :: -1 if view & 1 else 1]
        mean += found.swapaxes(-2, -1) if view & 4 else found
    mean /= views
    return mean


def _in_batches(answer: Answer, images: npt.NDArray[np.uint8], size: int) -> npt.NDArray[np.float32]:
    """Cut images into chips, ask for at most so many at once, and put the probabilities together."""
    from scipy.special import expit

    probability = np.empty((len(images), *images.shape[-2:]), np.float32)
    tiles = cut(images.shape[-2:])
    jobs = [(number, tile) for number in range(len(images)) for tile in range(len(tiles))]
    tiled = np.empty((len(tiles), *tiles[0].shape), np.float32)
    for start in range(0, len(jobs), size):
        batch = jobs[start : start + size]
        answers = answer(np.stack([tiles[tile].chip(images[number]) for number, tile in batch]))
        for (number, tile), one in zip(batch, expit(answers), strict=True):
            tiled[tile] = one
            if tile == len(tiles) - 1:
                probability[number] = blend(tiled, tiles)
    return probability


def _predict_with(
    images: npt.NDArray[np.uint8],
    observed: npt.NDArray[np.bool_],
    prior: npt.NDArray[np.uint8] | None = None,
    *,
    path: str,
    sha256: str,
    engine: str,
    views: int,
) -> npt.NDArray[np.float32]:
    """Run on a worker: one block of whole images of some passes."""
    probability = np.full(images.shape, np.nan, np.float32)
    seen = observed.any(axis=(1, 2))
    if seen.any():  # a pass without data costs nothing, not even the model
        given = images[seen]
        given = given[:, None] if prior is None else np.stack([given, np.broadcast_to(prior, given.shape)], axis=1)
        running = engines.load(path, sha256, engine)
        probability[seen] = _in_batches(partial(in_views, running, views=views), given, running.batch)
    probability[~observed] = np.nan
    return probability


def _check_preprocessing(card: ModelCard, text: Any, path: Path) -> None:
    """Refuse data made otherwise than what the model was trained on."""
    try:
        given = json.loads(text)
    except (TypeError, ValueError):
        given = None
    if not isinstance(given, Mapping):
        wanted = ", ".join(f"{key} {value!r}" for key, value in sorted(card.preprocessing.items()))
        msg = (
            f"model {card.name!r} ({path.name}) was trained on {wanted}, and the data doesn't say how it was made "
            f"(attribute 'preprocessing' is {text!r}); make it with prepare() and equalize()"
        )
        raise ModelError(msg)
    differing = [
        f"{key} {_shown(card.preprocessing, key)} (data: {_shown(given, key)})"
        for key in sorted({*card.preprocessing, *given})
        if key not in given or not accepts(card.preprocessing, key, given[key])
    ]
    if differing:
        msg = (
            f"model {card.name!r} ({path.name}) was trained on other data than this: {'; '.join(differing)}; prepare "
            "the data as the model's card says, or give a model trained on such data"
        )
        raise ModelError(msg)


def _shown(mapping: Mapping[str, Any], key: str) -> str:
    return repr(mapping[key]) if key in mapping else "not stated"
