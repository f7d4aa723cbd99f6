"""Calibration: probabilities that mean what they say, by one temperature.

Guo et al. 2017: a network's logits are divided by a scalar T that minimises the cross entropy of samples it was not
trained on. T moves no logit across 0, so areas at a threshold of 0.5 and the order of pixels stay as they are.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from cubekit.errors import ModelError, NoObservations
from cubekit.segmentation.metrics import calibration_of

if TYPE_CHECKING:
    import torch

LIMITS = (0.05, 20.0)
"""Between these lies T. A validation without any error would have T = 0: no probability but 0 and 1."""

_FURTHEST = 128
_PER_UNIT = 64


class LogitCounts:
    """How often each logit occurred on water and on land: all that calibration needs, in 256 kB whatever the number.

    Logits are counted in steps of 1/64, and beyond 128 as 128.

    Examples
    --------
    >>> counts = LogitCounts()
    >>> counts.add(np.array([4.0, 4.0, -4.0, -4.0]), np.array([True, False, False, False]))
    >>> bool(counts.error(1.0) > 0.2), counts.total
    (True, 4)
    """

    def __init__(self) -> None:
        self.logits: npt.NDArray[np.float64] = np.arange(-_FURTHEST * _PER_UNIT, _FURTHEST * _PER_UNIT + 1) / _PER_UNIT
        self.water: npt.NDArray[np.int64] = np.zeros(self.logits.size, np.int64)
        self.land: npt.NDArray[np.int64] = np.zeros(self.logits.size, np.int64)

    @property
    def total(self) -> int:
        """Pixels that were counted."""
        return int(self.water.sum() + self.land.sum())

    def add(self, logits: npt.NDArray[np.floating], water: npt.NDArray[np.bool_]) -> None:
        """Count some pixels: their logits and what they are, both (n,)."""
        step = np.rint(np.clip(logits, -_FURTHEST, _FURTHEST).astype(np.float64) * _PER_UNIT).astype(np.int64)
        step += _FURTHEST * _PER_UNIT
        self.water += np.bincount(step[water], minlength=self.logits.size)
        self.land += np.bincount(step[~water], minlength=self.logits.size)

    def cross_entropy(self, temperature: float) -> float:
        """Mean cross entropy, natural logarithm, when logits are divided by `temperature`."""
        logits = self.logits / temperature
        return float((self.water @ np.logaddexp(0, -logits) + self.land @ np.logaddexp(0, logits)) / self.total)

    def error(self, temperature: float, bins: int = 15) -> float:
        """Expected calibration error, 0 to 1, when logits are divided by `temperature`: see `calibration_error`."""
        from scipy.special import expit

        probability = expit(self.logits / temperature)
        place = np.minimum((probability * bins).astype(np.int64), bins - 1)
        pixels = self.water + self.land
        weights = (pixels, pixels * probability, self.water)
        return calibration_of(np.stack([np.bincount(place, weight, bins) for weight in weights])).error


def fit_temperature(counts: LogitCounts) -> float:
    """Find the temperature that minimises the cross entropy.

    Parameters
    ----------
    counts
        Of samples that the network was not trained on.

    Returns
    -------
    float
        T within `LIMITS`; above 1 for a network that is too sure of itself.

    Raises
    ------
    NoObservations
        When nothing was counted.

    Examples
    --------
    >>> counts = LogitCounts()  # says 98 %, is right in 3 of 4
    >>> counts.add(np.array([4.0] * 4), np.array([True, True, True, False]))
    >>> round(fit_temperature(counts), 2), round(float(4 / np.log(3)), 2)
    (3.64, 3.64)
    """
    from scipy.optimize import minimize_scalar

    if not counts.total:
        msg = "no pixel of the validation was observed, so nothing can be calibrated; give other validation samples"
        raise NoObservations(msg)
    # One minimum: the cross entropy is convex in 1/T.
    low, high = np.log(LIMITS)
    found = minimize_scalar(
        lambda power: counts.cross_entropy(np.exp(power)), bounds=(low, high), method="bounded", options={"xatol": 1e-7}
    )
    return float(np.exp(found.x))


def fold_temperature(network: torch.nn.Module, temperature: float, *, shift: float = 0.0) -> None:
    """Divide a network's logits by a temperature and move them, in place, in the weights of its last convolution.

    Parameters
    ----------
    network
        As `build_network` makes it: its `segmentation_head` ends in logits.
    temperature
        Above 0.
    shift
        Added afterwards: what was water from the probability p on is so from 0.5 on with log(1 / p - 1).

    Raises
    ------
    ModelError
        When the network's head does not start with a convolution that has a bias.
    """
    import torch

    head = getattr(network, "segmentation_head", None)
    last = head[0] if isinstance(head, torch.nn.Sequential) else None
    if not isinstance(last, torch.nn.Conv2d) or last.bias is None:
        msg = "the network has no segmentation_head that starts with a convolution; make it with build_network()"
        raise ModelError(msg)
    with torch.no_grad():
        last.weight /= temperature
        last.bias /= temperature
        last.bias += shift
        if "prior_skip" in dict(network.named_buffers()):
            network.get_buffer("prior_skip").div_(temperature)
