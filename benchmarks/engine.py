"""Engines on chips of 256 x 256, against the network as it comes: eager torch, float32, channels first."""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import numpy as np
import torch

from cubekit.segmentation import build_network, engines

CLAIM = "engine, U-Net"
PEER = "eager torch, float32"
ENCODERS = ("efficientnet-b3", "efficientnet-lite0")
GFLOP = {"efficientnet-b3": 7.61}
"""Of one chip of 256 x 256."""

CHIP = 256
GEMM = 2048
"""Rows and columns of the bfloat16 matrix product that stands for the processor's limit."""


def make(size: int) -> np.ndarray:
    """So many chips of noise."""
    return np.random.default_rng(0).integers(0, 256, (size, 1, CHIP, CHIP), dtype=np.uint8)


def names() -> tuple[str, ...]:
    """Exact engines that run here."""
    found = [name for name in engines.EXACT if "cuda" not in name or torch.cuda.is_available()]
    return tuple(name for name in found if not name.startswith("openvino") or find_spec("openvino") is not None)


@cache
def network(encoder: str = ENCODERS[0]) -> torch.nn.Module:
    """Random weights: they cost what trained ones do."""
    torch.manual_seed(0)
    return build_network(encoder).eval()


@cache
def _engine(name: str, encoder: str) -> engines.Engine:
    return engines.make(network(encoder), name)


def ours(chips: np.ndarray, name: str | None = None, encoder: str = ENCODERS[0]) -> np.ndarray:
    """Cubekit: the fastest engine of torch, or the one named."""
    running = _engine(name or engines.resolve("torch"), encoder)
    return np.concatenate([running(chips[at : at + running.batch]) for at in range(0, len(chips), running.batch)])


def peer(chips: np.ndarray, encoder: str = ENCODERS[0]) -> np.ndarray:
    """The peer: all chips at once."""
    with torch.inference_mode():
        return network(encoder)(torch.from_numpy(chips).float() / 255)[:, 0].numpy()


def limit(factors: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    """The processor's limit: one bfloat16 matrix product."""
    return factors[0] @ factors[1]


def make_limit(size: int = GEMM) -> tuple[torch.Tensor, torch.Tensor]:
    """Factors of the matrix product."""
    return torch.ones(size, size, dtype=torch.bfloat16), torch.ones(size, size, dtype=torch.bfloat16)


def megapixels(chips: np.ndarray) -> float:
    """Work of one call."""
    return chips.size / 1e6


def main(chips: int = 8, rounds: int = 5) -> None:
    """Print chips/s, ratios to eager float32 and the share of the matrix product, interleaved: medians of ratios."""
    from time import perf_counter

    factors = make_limit()
    given = make(chips)
    for encoder in ENCODERS:
        runs = {PEER: lambda encoder=encoder: peer(given, encoder)}
        runs |= {name: lambda name=name, encoder=encoder: ours(given, name, encoder) for name in names()}
        runs |= {"limit": lambda: limit(factors)}
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for run in runs.values():
            run()
        for _ in range(rounds):
            for name, run in runs.items():
                start = perf_counter()
                run()
                seconds[name].append(perf_counter() - start)
        eager, product = np.array(seconds[PEER]), np.array(seconds.pop("limit"))
        worth = 2 * GEMM**3 / 1e9 / product / GFLOP[encoder] if encoder in GFLOP else np.full(rounds, np.nan)
        for name, taken in seconds.items():
            rate = chips / np.array(taken)
            print(
                f"{encoder} {name}: {np.median(rate):.1f} chips/s, {np.median(eager / taken):.1f} x eager, "
                f"{np.median(rate / worth):.2f} of the matrix product"
            )


if __name__ == "__main__":
    main()
