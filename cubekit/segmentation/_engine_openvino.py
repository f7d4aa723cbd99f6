"""Engine of OpenVINO, on the CPU: one chip a stream, a stream for each core or so."""

from __future__ import annotations

import importlib
import sys
import threading
from types import ModuleType
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from cubekit.segmentation._engine_torch import folded
from cubekit.segmentation.engines import BATCH

_TELEMETRY = "openvino_telemetry"


class OpenvinoEngine:
    """Runs a network with OpenVINO.

    Parameters
    ----------
    network
        In eval mode, float32. It is not changed.
    bfloat16
        Whether layers are bfloat16 rather than float32.

    Notes
    -----
    A chip is a request of its own, so an answer doesn't depend on what is asked beside it. A graph is made for each
    size of chips when the first come: some seconds.
    """

    def __init__(self, network: torch.nn.Module, *, bfloat16: bool) -> None:
        self._library = silent_openvino()
        self._network = folded(network)
        self._precision = "bf16" if bfloat16 else "f32"
        self._queues: dict[tuple[int, ...], Any] = {}
        self._lock = threading.Lock()
        self.batch = BATCH

    def __call__(self, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits."""
        answers = np.empty((len(chips), *chips.shape[-2:]), np.float32)
        images = chips.astype(np.float32)
        images /= np.float32(255)
        with self._lock:
            queue = self._queue(chips.shape[1:])
            queue.set_callback(lambda request, place: answers.__setitem__(place, request.output_tensors[0].data[0, 0]))
            for place in range(len(images)):
                queue.start_async({0: images[place : place + 1]}, place)
            queue.wait_all()
        return answers

    def _queue(self, shape: tuple[int, ...]) -> Any:
        if shape not in self._queues:
            program = torch.export.export(self._network, (torch.zeros(1, *shape),))
            compiled = self._library.Core().compile_model(
                self._library.convert_model(program),
                "CPU",
                {
                    "PERFORMANCE_HINT": "THROUGHPUT",
                    "INFERENCE_PRECISION_HINT": self._precision,
                    # As many as torch was given: a worker of Dask has its share of the cores.
                    "INFERENCE_NUM_THREADS": torch.get_num_threads(),
                },
            )
            self._queues[shape] = self._library.AsyncInferQueue(compiled)
            self.batch = max(BATCH, 2 * len(self._queues[shape]))
        return self._queues[shape]


def silent_openvino() -> ModuleType:
    """Import OpenVINO without its telemetry: it reports each import over the network unless told not to."""
    if "openvino" not in sys.modules and _TELEMETRY not in sys.modules:
        sys.modules[_TELEMETRY] = None  # type: ignore[assignment]  # importing it fails, and OpenVINO does without
        try:
            return importlib.import_module("openvino")
        finally:
            del sys.modules[_TELEMETRY]
    return importlib.import_module("openvino")
