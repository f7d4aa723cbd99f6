"""Batches: samples read ahead in one thread, stacked, checked and moved to where the network is."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any, Protocol, cast, runtime_checkable

import numpy as np
import numpy.typing as npt

from cubekit.errors import ConfigError
from cubekit.segmentation.augmentation import Labelled

if TYPE_CHECKING:
    import torch

_AHEAD = 2

Batch = tuple["torch.Tensor", "torch.Tensor", "torch.Tensor"]


class Samples(Protocol):
    """Labelled chips by number, read when they are asked for, by one thread at a time."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int, /) -> Labelled: ...


@runtime_checkable
class Redrawn(Samples, Protocol):
    """Samples that are not the same in every epoch."""

    def in_epoch(self, seed: int, epoch: int, /) -> Samples:
        """As they are in an epoch: of the same number and shapes, the same for the same seed."""
        ...


@dataclass(frozen=True)
class Loader:
    """Makes batches.

    Parameters
    ----------
    shape
        Of every sample's image: rows and columns, before them channels if there are any.
    device
        Where the batches go.
    layout
        Of the images in memory.
    """

    shape: tuple[int, ...]
    device: torch.device
    layout: torch.memory_format

    def batches(
        self,
        samples: Samples,
        parts: Sequence[npt.NDArray[np.int64]],
        change: Callable[[Labelled, int], Labelled] | None = None,
    ) -> Iterator[Batch]:
        """Give images float32 0..1 (n, channel, y, x), masks and observed bool (n, 1, y, x), a batch for each part.

        Raises
        ------
        ConfigError
            When a sample is not as `train` says, naming it.
        """
        import torch

        def read(part: npt.NDArray[np.int64]) -> tuple[npt.NDArray[Any], ...]:
            checked = [(self._checked(samples[index], index), index) for index in part.tolist()]
            made = [sample if change is None else change(sample, index) for sample, index in checked]
            # Channels are counted from the images: a chip alone is one of them.
            stacked = (np.stack(arrays) for arrays in zip(*made, strict=True))
            return tuple(array if array.ndim == 4 else array[:, None] for array in stacked)

        with ThreadPoolExecutor(1) as reader:
            waiting = iter(parts)
            ahead: deque[Future[tuple[npt.NDArray[Any], ...]]] = deque()
            ahead.extend(reader.submit(read, part) for part in islice(waiting, _AHEAD))
            while ahead:
                arrays = ahead.popleft().result()
                ahead.extend(reader.submit(read, part) for part in islice(waiting, 1))
                images, masks, observed = (torch.from_numpy(array).to(self.device) for array in arrays)
                yield images.to(torch.float32).div_(255).contiguous(memory_format=self.layout), masks, observed

    def _checked(self, sample: Labelled, index: int) -> Labelled:
        arrays = tuple(np.asarray(array) for array in sample)
        found = [(str(array.dtype), array.shape) for array in arrays]
        flat = self.shape[-2:]
        if len(self.shape) not in {2, 3} or found != [("uint8", self.shape), ("bool", flat), ("bool", flat)]:
            shown = ", ".join(f"{dtype} {shape}" for dtype, shape in found)
            msg = (
                f"sample {index} is {shown}; give chip uint8, mask bool and observed bool, all (y, x) and of one size, "
                f"that of the first chip: {self.shape}"
            )
            raise ConfigError(msg)
        return cast("Labelled", arrays)
