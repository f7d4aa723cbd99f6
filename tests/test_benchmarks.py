"""Benchmarks can't rot: each runs on a small input, and does the same work as its peer."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks import equalize, lee
from benchmarks.__main__ import BENCHMARKS, copy_rate, measure


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda module: module.__name__)
def test_benchmarks_run(benchmark) -> None:
    """Each gives two rates."""
    *_, ours, peer = measure(benchmark, 64)
    assert ours > 0
    assert peer > 0


def test_every_benchmark_is_listed() -> None:
    """A benchmark that nobody runs is none."""
    assert set(BENCHMARKS) == {lee, equalize}
    assert copy_rate() > 0


def test_the_peer_of_lee_does_the_same_work() -> None:
    """Scipy's filter is ours to rounding: the comparison is fair."""
    power = lee.make(64)
    np.testing.assert_allclose(lee.ours(power), lee.peer(power), rtol=2e-4)


def test_the_peer_of_equalize_does_nearly_the_same_work() -> None:
    """scikit-image interpolates at bin centres: within two grey levels of ours."""
    power = equalize.make(64)
    theirs = np.nan_to_num(equalize.peer(power)) * 255
    assert np.abs(equalize.ours(power).astype(float) - theirs).max() < 8
