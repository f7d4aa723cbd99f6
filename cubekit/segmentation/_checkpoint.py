"""Checkpoints: all that training needs to go on after a kill, in one file that is whole or not there."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from cubekit.errors import ModelError
from cubekit.files import replacing

if TYPE_CHECKING:
    import torch

    from cubekit.segmentation._loader import Samples

NAME = "checkpoint.pt"


def weights_hash(weights: Mapping[str, torch.Tensor]) -> str:
    """SHA-256 of weights: names, shapes, dtypes and values, in the order of the names."""
    digest = hashlib.sha256()
    for name in sorted(weights):
        values = weights[name].detach().cpu().contiguous()
        digest.update(f"{name} {tuple(values.shape)} {values.dtype}".encode())
        digest.update(values.numpy().tobytes())
    return digest.hexdigest()


def samples_digest(samples: Samples) -> str:
    """What samples are, told from how many they are and from at most 512 of them."""
    digest = hashlib.sha256(str(len(samples)).encode())
    for index in np.unique(np.linspace(0, len(samples) - 1, min(len(samples), 512)).astype(int)):
        for array in samples[int(index)]:
            digest.update(f"{array.shape} {array.dtype}".encode())
            digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def write(folder: Path, content: Mapping[str, Any]) -> None:
    """Write a checkpoint; a kill leaves the one before."""
    import torch

    try:
        with replacing(folder / NAME) as temporary:
            torch.save(dict(content), temporary)
    except OSError as error:
        msg = f"{folder / NAME} can't be written ({error.strerror}); free space there, then start again: it goes on"
        raise ModelError(msg) from error


def read(folder: Path, identity: Mapping[str, Any]) -> dict[str, Any] | None:
    """Read the checkpoint of the same training, or None when there is none.

    Raises
    ------
    ModelError
        When it can't be read, or is that of another training; the message names every difference.
    """
    import torch

    path = folder / NAME
    if not path.is_file():
        return None
    try:
        # Numbers and text only: a checkpoint from a stranger can't run code.
        content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        stored = content["identity"]
    except (OSError, RuntimeError, EOFError, ValueError, KeyError, TypeError, pickle.UnpicklingError) as error:
        first = str(error).splitlines()[0] if str(error) else type(error).__name__
        msg = f"{path} can't be read ({first}); delete it, or start anew with resume=False"
        raise ModelError(msg) from error
    if differing := [
        f"{key} {identity.get(key)!r} (checkpoint: {stored.get(key)!r})"
        for key in sorted(stored.keys() | identity.keys())
        if stored.get(key) != identity.get(key)
    ]:
        msg = f"{path} is of another training: {'; '.join(differing)}; give another folder, or resume=False"
        raise ModelError(msg)
    return content
