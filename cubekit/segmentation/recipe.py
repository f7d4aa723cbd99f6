"""A recipe: how a network is trained, read from TOML, checked, and written back with comments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal, Self

from pydantic import Field, model_validator

from cubekit.config import Document, Section


class TrainingOptions(Section):
    """How long, how, and which epoch is kept."""

    epochs: int = Field(18, ge=1, description="Times that every sample is seen.")
    batch: int = Field(16, ge=1, description="Samples in a step, at most; an epoch is cut into equal steps.")
    seed: int = Field(0, ge=0, description="Of the first weights, the order, the augmentation and the dropout.")
    crop: int = Field(
        160,
        ge=0,
        multiple_of=32,
        description="Side of the random window that a training step sees of a chip, pixels; 0: whole chips.",
    )
    precision: Literal["float32", "bf16"] = Field(
        "bf16", description="Of the training steps: float32, or bf16 (mixed); evaluation is always float32."
    )
    channels_last: bool = Field(True, description="Layout of images in memory: the faster one on CPUs and new GPUs.")
    choose: Literal["iou", "iou_by_lake", "loss", "last"] = Field(
        "last",
        description="Which epoch becomes the model: by the validation's IoU, its mean over lakes, loss; or the last.",
    )


class OptimizerOptions(Section):
    """What moves the weights, and how fast."""

    name: Literal["adam", "adamw"] = Field("adamw", description="adam or adamw.")
    lr: float = Field(4e-5, gt=0, lt=1, description="Learning rate; with onecycle the one it starts from.")
    weight_decay: float | None = Field(
        None, ge=0, description="When left out that of the optimizer: 0 for adam, 0.01 for adamw."
    )
    schedule: Literal["none", "onecycle"] = Field(
        "onecycle", description="none: lr throughout; onecycle: up to max_lr over three tenths of the steps, then to 0."
    )
    max_lr: float | None = Field(
        1e-3, gt=0, lt=1, description="Peak of onecycle, above lr; left out where there is no schedule."
    )

    @model_validator(mode="before")
    @classmethod
    def _no_peak(cls, given: Any) -> Any:
        """Without a schedule there is no peak, unless one is asked for."""
        if isinstance(given, Mapping) and given.get("schedule") == "none":
            return {"max_lr": None, **given}
        return given

    @model_validator(mode="after")
    def _peak(self) -> Self:
        if (self.schedule == "onecycle") != (self.max_lr is not None):
            msg = f"schedule {self.schedule!r} with max_lr {self.max_lr}; onecycle needs max_lr, none has none"
            raise ValueError(msg)
        if self.max_lr is not None and self.max_lr <= self.lr:
            msg = f"max_lr {self.max_lr:g} is the peak, so it must be above lr, {self.lr:g}"
            raise ValueError(msg)
        return self


class LossOptions(Section):
    """Weights of the three losses, and what they count."""

    bce: float = Field(1.0, ge=0, description="Weight of the binary cross entropy.")
    dice: float = Field(1.0, ge=0, description="Weight of the Dice loss.")
    focal: float = Field(1.0, ge=0, description="Weight of the focal loss.")
    alpha: float = Field(0.25, ge=0, le=1, description="Focal: weight of water; land has 1 - alpha.")
    gamma: float = Field(2.0, ge=0, description="Focal: how much less what is easy counts.")
    observed_only: bool = Field(
        True, description="Count observed pixels only, in loss and scores; false: nodata is land, as in the paper."
    )

    @model_validator(mode="after")
    def _some(self) -> Self:
        if not self.bce + self.dice + self.focal:
            msg = "bce, dice and focal are all 0; give one of them a weight"
            raise ValueError(msg)
        return self


class NetworkOptions(Section):
    """What the network is, and what it starts from."""

    encoder: Literal["efficientnet-b3", "efficientnet-lite0"] = Field(
        "efficientnet-lite0", description="efficientnet-b3, the paper's, or efficientnet-lite0, four times as fast."
    )
    prior: bool = Field(
        True, description="A second channel: where the lake was, from its other training masks or its known outline."
    )
    prior_skip: bool = Field(
        True,
        description="Add the odds of the prior, where there is one, to what the network says: it learns what changed.",
    )
    views: Literal[1, 2, 4, 8] = Field(
        8, description="Orientations in which the finished model sees every image; more is slower, and better."
    )
    start: str = Field(
        "shipped",
        min_length=1,
        description='"shipped": the model that comes with cubekit for such chips; "imagenet": the encoder\'s published '
        'weights; "none": random; or the path of a model.',
    )
    batchnorm_momentum: float = Field(
        0.1, gt=0, le=1, description="EfficientNet's own 0.01 keeps evaluation at 0 for hundreds of steps."
    )


class AugmentationOptions(Section):
    """Changes that make new samples of old ones; all but flip and turns respect the radar's geometry."""

    forget: float = Field(
        0.3, ge=0, le=1, description="How often the prior is not told, so that the network learns to do without it."
    )

    shift: int = Field(0, ge=0, description="Move by up to so many pixels along each axis; what comes in is nodata.")
    jitter: float = Field(0.0, ge=0, lt=1, description="Multiply the greys by up to 1 +- this; 0 stays nodata.")
    cutout: int = Field(0, ge=0, description="Side of a square that becomes nodata, pixels; 0 cuts nothing.")
    flip: bool = Field(
        True, description="Mirror left and right: turns an ascending look into a descending one. Not per track."
    )
    turns: bool = Field(
        True, description="Turn by multiples of 90 degrees: looks that no satellite has. Not per track."
    )


class Recipe(Document):
    """A whole recipe.

    Raises
    ------
    ConfigError
        From `load` and `parse`, when a key is unknown or out of range; every fault is named.

    Notes
    -----
    The defaults are cubekit's own, made for few labels and for a CPU; the losses are the paper's. The paper's recipe,
    section 3.3 (EfficientNet-B3, 40 epochs, batch 32, Adam at 1e-4), is ``analyses/paper.toml``.

    Examples
    --------
    >>> recipe = Recipe.parse({"optimizer": {"name": "adam", "lr": 1e-4, "schedule": "none"}})
    >>> recipe.training.epochs, recipe.optimizer.max_lr, recipe.network.encoder
    (18, None, 'efficientnet-lite0')
    """

    kind: ClassVar[str] = "a recipe"
    sample: ClassVar[str] = "Recipe().dump() writes one"

    training: TrainingOptions = TrainingOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    loss: LossOptions = LossOptions()
    network: NetworkOptions = NetworkOptions()
    augmentation: AugmentationOptions = AugmentationOptions()
