"""Engines: what runs a network over chips. Each is a library on a device, in one precision."""

from __future__ import annotations

import threading
from importlib.util import find_spec
from typing import TYPE_CHECKING, Protocol, get_args

import numpy as np
import numpy.typing as npt

from cubekit.config import EngineName, ExactEngineName
from cubekit.errors import ConfigError, MissingExtra
from cubekit.segmentation import model as models

if TYPE_CHECKING:
    import torch

EXACT: tuple[str, ...] = get_args(ExactEngineName)
ENGINES: tuple[str, ...] = get_args(EngineName)

AGREEMENT = {"float32": 1, "bfloat16": 24}
"""By how many pixels the mask of one pass may differ from that of ``torch-float32``, at most, by precision.

Measured: shipped models, simulated passes of Tsho Rolpa (1,538 and 4,019 pixels of water). float32: none. bfloat16: 0
to 12, and as weights are rounded too, with one sign for most passes of a lake: areas differ by -0.19 % (30 m) and
+0.06 % (20 m) on average, by 0.53 % in a single pass at most.
"""

LONG = 512
"""Passes from which ``auto`` takes OpenVINO: it makes a graph for each size of chips first, 2 to 3 seconds of a core,
and is 1.3 times as fast in float32 from then on."""

BATCH = 4
"""Chips that go through a network at once on a CPU: more are no faster, their layers leave the caches."""

GPU_BATCH = 64
"""Chips that go through a network at once on a GPU."""

# One network a process: a lake is done before the next, and two models at once are rare. Threads share it.
_loaded: dict[tuple[str, str], Engine] = {}
_lock = threading.Lock()


class Engine(Protocol):
    """Runs one network."""

    batch: int
    """Chips that it wants at once."""

    def __call__(self, chips: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Logits (n, y, x) of chips (n, channel, y, x), whose sides divide by 32."""


def resolve(engine: str, *, passes: int = 0) -> str:
    """Choose the exact engine on this machine, without loading a network.

    Parameters
    ----------
    engine
        One of `ENGINES`.
    passes
        How many it will run over; matters for ``auto`` alone.

    Returns
    -------
    str
        One of `EXACT`; these are given back as they are, if they can run here. ``auto`` is always float32, so that
        areas don't depend on the machine: on a GPU where there is one, else of OpenVINO where that is installed and
        there are at least `LONG` passes, else of torch. ``torch`` and ``openvino`` are the fastest of that library:
        bfloat16 where there is a GPU (torch alone) or the processor multiplies bfloat16, else float32.

    Raises
    ------
    ConfigError
        When there is no such engine, or no GPU that it needs.
    MissingExtra
        When its library is not installed.

    Examples
    --------
    >>> resolve("torch-float32")
    'torch-float32'
    """
    if engine not in ENGINES:
        msg = f"engine {engine!r} isn't known; allowed are {', '.join(map(repr, ENGINES))}"
        raise ConfigError(msg)
    if find_spec("torch") is None:
        msg = 'torch is not installed, and a U-Net needs it; pip install "cubekit[unet]"'
        raise MissingExtra(msg)
    openvino = find_spec("openvino") is not None
    if engine.startswith("openvino") and not openvino:
        msg = f'engine {engine!r} needs openvino, which is not there; pip install "cubekit[openvino]", or give "auto"'
        raise MissingExtra(msg)
    gpu = _has_gpu()
    if engine in EXACT:
        if "cuda" in engine and not gpu:
            msg = f"engine {engine!r} needs a GPU that torch can use, and there is none; give 'auto' or 'torch'"
            raise ConfigError(msg)
        return engine
    if engine == "auto":
        library = "torch-cuda" if gpu else "openvino" if openvino and passes >= LONG else "torch"
        return f"{library}-float32"
    if engine == "torch" and gpu:
        return "torch-cuda-bfloat16"
    return f"{engine}-{'bfloat16' if _multiplies_bfloat16() else 'float32'}"


def batch_of(engine: str) -> int:
    """Chips that an exact engine wants at once."""
    return GPU_BATCH if "cuda" in engine else BATCH


def load(path: str, sha256: str, engine: str) -> Engine:
    """Give the engine with the network of a file, made on first use in this process.

    Parameters
    ----------
    path, sha256
        The file of a model, and its hash when it was chosen.
    engine
        One of `EXACT`.

    Raises
    ------
    ModelError, MissingExtra
        As `load_model`.
    """
    with _lock:
        key = (sha256, engine)
        if key not in _loaded:
            network = models.load_model(path, expected_hash=sha256)
            made = make(network, engine)
            _loaded.clear()
            _loaded[key] = made
        return _loaded[key]


def make(network: torch.nn.Module, engine: str) -> Engine:
    """Make an engine of a network.

    Parameters
    ----------
    network
        In eval mode, float32, on the CPU, from `load_model`. It is not changed.
    engine
        One of `EXACT`.

    Returns
    -------
    Engine
        Threads may share it; one at a time runs the network, with all the threads that torch was given.
    """
    bfloat16 = engine.endswith("bfloat16")
    if engine.startswith("openvino"):
        from cubekit.segmentation._engine_openvino import OpenvinoEngine

        return OpenvinoEngine(network, bfloat16=bfloat16)
    from cubekit.segmentation._engine_torch import TorchEngine

    device = "cuda" if "cuda" in engine else "cpu"
    return TorchEngine(network, device=device, bfloat16=bfloat16, batch=batch_of(engine))


def _multiplies_bfloat16() -> bool:
    """Whether the processor has instructions for it: elsewhere bfloat16 is emulated, and slow."""
    import torch

    flags = torch.cpu.get_capabilities()
    return any(bool(flags.get(name)) for name in ("avx512_bf16", "amx_bf16", "bf16"))


def _has_gpu() -> bool:
    import torch

    return bool(torch.cuda.is_available())
