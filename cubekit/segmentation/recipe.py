"""A recipe: how a network is trained, read from TOML, checked, and written back with comments."""

from __future__ import annotations

from typing import ClassVar, Literal, Self

from pydantic import Field, model_validator

from cubekit.config import Document, Section


class TrainingOptions(Section):
    """How long, how, and which epoch is kept."""

    epochs: int = Field(40, ge=1, description="Times that every sample is seen.")
    batch: int = Field(32, ge=1, description="Samples in a step, at most; an epoch is cut into equal steps.")
    seed: int = Field(0, ge=0, description="Of the first weights, the order, the augmentation and the dropout.")
    precision: Literal["float32", "bf16"] = Field(
        "float32", description="Of the training steps: float32, or bf16 (mixed); evaluation is always float32."
    )
    channels_last: bool = Field(True, description="Layout of images in memory: the faster one on CPUs and new GPUs.")
    choose: Literal["iou", "iou_by_lake", "loss", "last"] = Field(
        "iou",
        description="Which epoch becomes the model: by the validation's IoU, its mean over lakes, loss; or the last.",
    )


class OptimizerOptions(Section):
    """What moves the weights, and how fast."""

    name: Literal["adam", "adamw"] = Field("adam", description="adam or adamw.")
    lr: float = Field(1e-4, gt=0, lt=1, description="Learning rate; with onecycle the one it starts from.")
    weight_decay: float | None = Field(
        None, ge=0, description="When left out that of the optimizer: 0 for adam, 0.01 for adamw."
    )
    schedule: Literal["none", "onecycle"] = Field(
        "none", description="none: lr throughout; onecycle: up to max_lr over three tenths of the steps, then to 0."
    )
    max_lr: float | None = Field(None, gt=0, lt=1, description="Peak of onecycle, above lr.")

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
    """What the network starts from."""

    start: str = Field(
        "none",
        min_length=1,
        description='"none": random; "imagenet": those of the encoder, from the hub; or the path of a model, for all.',
    )
    batchnorm_momentum: float = Field(
        0.1, gt=0, le=1, description="EfficientNet's own 0.01 keeps evaluation at 0 for hundreds of steps."
    )


class AugmentationOptions(Section):
    """Changes that make new samples of old ones; the first three respect the radar's geometry."""

    shift: int = Field(0, ge=0, description="Move by up to so many pixels along each axis; what comes in is nodata.")
    jitter: float = Field(0.0, ge=0, lt=1, description="Multiply the greys by up to 1 +- this; 0 stays nodata.")
    cutout: int = Field(0, ge=0, description="Side of a square that becomes nodata, pixels; 0 cuts nothing.")
    flip: bool = Field(
        False, description="Mirror left and right: turns an ascending look into a descending one. Not per track."
    )
    turns: bool = Field(
        False, description="Turn by multiples of 90 degrees: looks that no satellite has. Not per track."
    )


class Recipe(Document):
    """A whole recipe.

    Raises
    ------
    ConfigError
        From `load` and `parse`, when a key is unknown or out of range; every fault is named.

    Notes
    -----
    The defaults are the paper's, section 3.3 (40 epochs, batch 32, lr 1e-4, BCE + Dice + focal), but for the start,
    which is random here, and for `observed_only`. Its recipe as published is ``analyses/paper.toml``.

    Examples
    --------
    >>> recipe = Recipe.parse({"optimizer": {"name": "adamw", "schedule": "onecycle", "max_lr": 1e-3}})
    >>> recipe.training.epochs, recipe.optimizer.lr, recipe.augmentation.flip
    (40, 0.0001, False)
    """

    kind: ClassVar[str] = "a recipe"
    sample: ClassVar[str] = "Recipe().dump() writes one"

    training: TrainingOptions = TrainingOptions()
    optimizer: OptimizerOptions = OptimizerOptions()
    loss: LossOptions = LossOptions()
    network: NetworkOptions = NetworkOptions()
    augmentation: AugmentationOptions = AugmentationOptions()
