"""A network and samples small enough to be trained in a test."""

from __future__ import annotations

import numpy as np
import torch

from cubekit.segmentation.recipe import Recipe

SIDE = 32


class Tiny(torch.nn.Module):
    """The parts of a U-Net that training has to get right: batch statistics, chance, and a head of logits."""

    def __init__(self, encoder: str = "efficientnet-b3", channels: int = 1, *, prior_skip: bool = False) -> None:
        super().__init__()
        self.encoder = torch.nn.Sequential(
            torch.nn.Conv2d(channels, 8, 5, padding=2, bias=False), torch.nn.BatchNorm2d(8), torch.nn.ReLU()
        )
        self.drop = torch.nn.Dropout2d(0.1)
        self.segmentation_head = torch.nn.Sequential(torch.nn.Conv2d(8, 1, 3, padding=1))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.segmentation_head(self.drop(self.encoder(images)))


def samples(count: int, seed: int = 0) -> list:
    """Dark lakes in bright speckle: chip, mask, observed; nodata on the left, and some labels are wrong."""
    random = np.random.default_rng(seed)
    made = []
    for _ in range(count):
        row, column, radius = (random.uniform(low, high) for low, high in ((8, 24), (8, 24), (4, 9)))
        rows, columns = np.mgrid[:SIDE, :SIDE]
        mask = (rows - row) ** 2 + (columns - column) ** 2 < radius**2
        chip = np.where(mask, 60, 160) * random.gamma(8, 1 / 8, mask.shape)
        chip = np.clip(chip, 1, 255).astype(np.uint8)
        chip[:, :3] = 0
        label = mask ^ (random.random(mask.shape) < 0.02)
        label[:, :3] = False
        made.append((chip, label, chip > 0))
    return made


def recipe(**sections: dict) -> Recipe:
    """Four epochs of everything that depends on chance or on the step."""
    given = {
        "training": {"epochs": 4, "batch": 4, "crop": 0, "precision": "float32", "choose": "iou"},
        "optimizer": {"name": "adamw", "lr": 0.01, "schedule": "onecycle", "max_lr": 0.05},
        "augmentation": {"shift": 3, "jitter": 0.1, "cutout": 6, "flip": True, "turns": True},
        "network": {"encoder": "efficientnet-b3", "prior": False, "start": "none"},
    }
    return Recipe.parse({name: given.get(name, {}) | sections.get(name, {}) for name in given.keys() | sections.keys()})


def network(seed: int = 0) -> Tiny:
    """Equal for equal seeds."""
    with torch.random.fork_rng([]):
        torch.manual_seed(seed)
        return Tiny()
