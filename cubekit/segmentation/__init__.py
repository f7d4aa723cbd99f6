"""Segmentation: from a filtered or equalised image to the probability of water in each pixel.

Importing this package loads neither torch nor scikit-image nor scipy: they are imported where a model is built or run.
"""

from __future__ import annotations

from cubekit.segmentation.card import ModelCard
from cubekit.segmentation.inference import segment
from cubekit.segmentation.model import build_network, load_model, model_hash, read_card, save_model
from cubekit.segmentation.recipe import Recipe
from cubekit.segmentation.training import train

__all__ = [
    "ModelCard",
    "Recipe",
    "build_network",
    "load_model",
    "model_hash",
    "read_card",
    "save_model",
    "segment",
    "train",
]
