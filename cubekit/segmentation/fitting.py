"""Fitting: the loop over epochs, the same to the last bit for the same seed, killed in between or not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from cubekit.errors import ConfigError, ModelError, NoObservations
from cubekit.files import replacing
from cubekit.segmentation import _checkpoint
from cubekit.segmentation._loader import Batch, Loader, Redrawn, Samples
from cubekit.segmentation.augmentation import Labelled, augment
from cubekit.segmentation.losses import composite_loss

if TYPE_CHECKING:
    import torch

    from cubekit.segmentation.recipe import Recipe

Row = Mapping[str, float]
Progress = Callable[[int, int, int, Row | None], None]
"""Called after every step with the epoch (from 1), steps done and steps in all, and the history's last row if any."""

HISTORY = "history.csv"


@dataclass(frozen=True)
class Fit:
    """What came out.

    Parameters
    ----------
    chosen, last
        Weights of the chosen epoch and of the last one, on the CPU.
    epoch
        The chosen one, from 1.
    history
        A row an epoch: `epoch`, `train_loss`, `train_iou` (both while the weights move), `validation_loss`,
        `validation_iou`, `validation_iou_by_lake` where lakes were given, `lr`, `seconds`.
    finished
        When the last epoch ended, UTC.
    """

    chosen: Mapping[str, torch.Tensor]
    last: Mapping[str, torch.Tensor]
    epoch: int
    history: tuple[Row, ...]
    finished: datetime


def fit(
    network: torch.nn.Module,
    samples: Samples,
    recipe: Recipe,
    folder: str | Path,
    *,
    validation: Samples,
    lakes: Sequence[str] | None = None,
    resume: bool = True,
    progress: Progress | None = None,
) -> Fit:
    """Move a network's weights.

    Parameters
    ----------
    network
        Logits (n, 1, y, x) from images (n, channel, y, x) in 0..1; on the device that is to be used. Changed in place:
        it ends with the last epoch's weights.
    samples, validation
        Chips of one size. Only those of `samples` are augmented and learned from.
    recipe
        Its `network` section is not looked at: the network is there.
    folder
        For ``history.csv`` and ``checkpoint.pt``, both written anew after every epoch.
    lakes
        The lake of each validation sample, for the score ``iou_by_lake``.
    resume
        Go on from the checkpoint in `folder` if there is one; otherwise start anew.
    progress
        Called after every step.

    Returns
    -------
    Fit

    Raises
    ------
    ConfigError
        When there are no samples, or one isn't chip uint8, mask bool and observed bool, all (y, x) and of one size, or
        `lakes` does not fit `validation` or is needed and absent.
    ModelError
        When the loss is no number any more, or the checkpoint is unreadable, of another training or can't be written.
    NoObservations
        When no validation pixel that counts is water, so that there is no IoU.

    Notes
    -----
    Every epoch seeds torch, the order of samples and their augmentation from the recipe's seed and its own number, so
    that a checkpoint need not carry the state of any generator. On one machine, with one number of threads, a training
    that was killed and resumed gives the weights of one that wasn't, bit for bit.
    """
    if recipe.training.choose == "iou_by_lake" and lakes is None:
        msg = "choose = 'iou_by_lake' needs the lake of every validation sample; give lakes=, or choose = 'iou'"
        raise ConfigError(msg)
    if lakes is not None and len(lakes) != len(validation):
        msg = f"{len(lakes)} lakes for {len(validation)} validation samples; give one for each"
        raise ConfigError(msg)
    for name, given in (("training", samples), ("validation", validation)):
        if not len(given):
            msg = f"there are no {name} samples; give at least one"
            raise ConfigError(msg)
    folder = Path(folder)
    loop = _Loop(network, samples, recipe)
    identity = {
        **{
            f"{section}.{key}": value
            for section, options in recipe.model_dump(mode="json").items()
            for key, value in options.items()
        },
        "samples": _checkpoint.samples_digest(samples),
        "validation": _checkpoint.samples_digest(validation),
        "lakes": sorted(set(lakes or ())),
        "start": _checkpoint.weights_hash(network.state_dict()),
    }
    history: list[dict[str, float]] = []
    chosen, best = _on_cpu(network), 0
    finished = datetime.now(UTC)
    if resume and (stored := _checkpoint.read(folder, identity)) is not None:
        loop.load_state(stored)
        history, chosen, best = stored["history"], stored["chosen"], stored["best"]
        finished = datetime.fromisoformat(stored["finished"])
        _write_history(folder, history)  # the kill may have come between the two files
    with _deterministic(loop.device):
        for epoch in range(len(history) + 1, recipe.training.epochs + 1):
            began = time.perf_counter()
            row = {"epoch": epoch, **loop.train(epoch, progress, history[-1] if history else None)}
            row |= {f"validation_{name}": value for name, value in loop.evaluate(validation, lakes).items()}
            row |= {"lr": loop.lr, "seconds": time.perf_counter() - began}
            history.append(row)
            if _score(row, recipe) > max((_score(past, recipe) for past in history[:-1]), default=-np.inf):
                chosen, best = _on_cpu(network), epoch
            finished = datetime.now(UTC)
            _checkpoint.write(
                folder,
                {
                    **loop.state(),
                    "identity": identity,
                    "history": history,
                    "chosen": chosen,
                    "best": best,
                    "finished": finished.isoformat(),
                },
            )
            _write_history(folder, history)
    return Fit(chosen, _on_cpu(network), best, tuple(history), finished)


class _Loop:
    """Network, optimizer and schedule, and what they see."""

    def __init__(self, network: torch.nn.Module, samples: Samples, recipe: Recipe) -> None:
        import torch

        self.network, self.samples, self.recipe = network, samples, recipe
        self.device = next(network.parameters()).device
        self.layout = torch.channels_last if recipe.training.channels_last else torch.contiguous_format
        network.to(memory_format=self.layout)
        self.steps = -(-len(samples) // recipe.training.batch)
        self.loader = Loader(np.shape(samples[0][0]), self.device, self.layout)
        options = recipe.optimizer
        kind = {"adam": torch.optim.Adam, "adamw": torch.optim.AdamW}[options.name]
        decay = {} if options.weight_decay is None else {"weight_decay": options.weight_decay}
        self.optimizer: torch.optim.Optimizer = kind(network.parameters(), lr=options.lr, **decay)
        self.schedule: torch.optim.lr_scheduler.OneCycleLR | None = None
        if options.max_lr is not None:
            self.schedule = torch.optim.lr_scheduler.OneCycleLR(
                self.optimizer,
                max_lr=options.max_lr,
                total_steps=self.steps * recipe.training.epochs,
                div_factor=options.max_lr / options.lr,
            )
        self.lr = options.lr

    def state(self) -> dict[str, Any]:
        """Everything that a step depends on and that an epoch does not begin with."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "schedule": self.schedule.state_dict() if self.schedule is not None else None,
        }

    def load_state(self, stored: Mapping[str, Any]) -> None:
        self.network.load_state_dict(stored["network"])
        self.optimizer.load_state_dict(stored["optimizer"])
        if self.schedule is not None:
            self.schedule.load_state_dict(stored["schedule"])

    def train(self, epoch: int, progress: Progress | None, latest: Row | None) -> dict[str, float]:
        """One epoch: loss and IoU as they were before each step."""
        import torch

        options = self.recipe.training
        seeds = np.random.SeedSequence((options.seed, epoch))
        torch.manual_seed(int(seeds.generate_state(1, np.uint64)[0]))
        order = np.random.default_rng(seeds).permutation(len(self.samples))

        def changed(sample: Labelled, index: int) -> Labelled:
            return augment(
                sample, self.recipe.augmentation, seed=options.seed, epoch=epoch, index=index, crop=options.crop
            )

        self.network.train()
        told = self.samples
        samples = told.in_epoch(options.seed, epoch) if isinstance(told, Redrawn) else told
        # Summed where the network is: asking after each step would make a GPU wait.
        loss_sum = torch.zeros((), dtype=torch.float64, device=self.device)
        counts = torch.zeros(3, dtype=torch.int64, device=self.device)
        # Equal steps: a last one of a few samples would have its own batch statistics.
        parts = np.array_split(order, self.steps)
        for step, (images, masks, observed) in enumerate(self.loader.batches(samples, parts, changed), 1):
            with torch.autocast(self.device.type, torch.bfloat16, enabled=options.precision == "bf16"):
                logits = self.network(images)
            loss = composite_loss(logits, masks, observed, self.recipe.loss)
            self.optimizer.zero_grad(set_to_none=True)
            loss.backward()  # type: ignore[no-untyped-call]
            self.lr = self.optimizer.param_groups[0]["lr"]
            self.optimizer.step()
            if self.schedule is not None:
                self.schedule.step()
            loss_sum += loss.detach().double() * len(images)
            counts += self._confusion(logits.detach(), masks, observed).sum(0)
            if progress is not None:
                progress(epoch, step, self.steps, latest)
        loss_mean = float(loss_sum) / len(order)
        if not np.isfinite(loss_mean):
            msg = f"the loss of epoch {epoch} is {loss_mean}; lower lr or max_lr, now {self.lr:g} at its end"
            raise ModelError(msg)
        return {"train_loss": loss_mean, "train_iou": _iou(counts.cpu().numpy())}

    def evaluate(self, samples: Samples, lakes: Sequence[str] | None) -> dict[str, float]:
        """Loss and IoU on samples as they are, in float32."""
        import torch

        loss_sum = 0.0
        counts = []
        for masks, observed, logits in predicted(self.network, samples, self.recipe, self.loader):
            loss_sum += float(composite_loss(logits, masks, observed, self.recipe.loss)) * len(masks)
            counts.append(self._confusion(logits, masks, observed))
        each = torch.cat(counts).cpu().numpy()
        scores = {"loss": loss_sum / len(samples), "iou": _iou(each.sum(0))}
        if not np.isfinite(scores["loss"]):
            msg = f"the loss of the validation samples is {scores['loss']}; lower lr or max_lr, now {self.lr:g}"
            raise ModelError(msg)
        if np.isnan(scores["iou"]):
            msg = "no pixel of the validation samples that counts is water, so there is no IoU; give others"
            raise NoObservations(msg)
        if lakes is not None:
            by_lake = [_iou(each[np.asarray(lakes) == lake].sum(0)) for lake in sorted(set(lakes))]
            scores["iou_by_lake"] = float(np.nanmean(by_lake))  # a lake without water has no IoU
        return scores

    def _confusion(self, logits: torch.Tensor, masks: torch.Tensor, observed: torch.Tensor) -> torch.Tensor:
        """Pixels that are truly, falsely and not said to be water, (n, 3), among those that count."""
        import torch

        counted = observed if self.recipe.loss.observed_only else torch.ones_like(observed)
        said, water = (logits > 0) & counted, masks & counted
        cells = (said & water, said & ~water, ~said & water)
        return torch.stack([cell.sum((1, 2, 3)) for cell in cells], 1)


def predicted(network: torch.nn.Module, samples: Samples, recipe: Recipe, loader: Loader) -> Iterator[Batch]:
    """Masks, observed and logits, batch by batch in order, in eval mode and float32."""
    import torch

    parts = np.array_split(np.arange(len(samples)), -(-len(samples) // recipe.training.batch))
    network.eval()
    for images, masks, observed in loader.batches(samples, parts):
        with torch.inference_mode():
            logits = network(images)
        yield masks, observed, logits


def _score(row: Row, recipe: Recipe) -> float:
    """More is better."""
    choose = recipe.training.choose
    if choose == "last":
        return row["epoch"]
    return -row["validation_loss"] if choose == "loss" else row[f"validation_{choose}"]


def _iou(counts: npt.NDArray[np.int64]) -> float:
    """True over true, false and missed; NaN where there is no water to find."""
    true, false, missed = (int(count) for count in counts)
    return true / (true + false + missed) if true + missed else float("nan")


def _on_cpu(network: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: values.detach().cpu().clone() for name, values in network.state_dict().items()}


def _write_history(folder: Path, history: Sequence[Row]) -> None:
    import pandas as pd

    with replacing(folder / HISTORY) as temporary:
        pd.DataFrame(history).to_csv(temporary, index=False, float_format="%.6g")


@contextmanager
def _deterministic(device: torch.device) -> Iterator[None]:
    """Ask torch for the same bits every time, and leave its settings and generators as they were.

    An operation that has no such implementation warns by name and is run all the same.
    """
    import torch

    before, warned = torch.are_deterministic_algorithms_enabled(), torch.is_deterministic_algorithms_warn_only_enabled()
    with torch.random.fork_rng([device] if device.type == "cuda" else []):
        torch.use_deterministic_algorithms(True, warn_only=True)
        try:
            yield
        finally:
            torch.use_deterministic_algorithms(before, warn_only=warned)
