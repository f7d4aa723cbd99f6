"""Benchmarks can't rot: each runs on a small input, and does the same work as its peers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from benchmarks import Result, equalize, lee
from benchmarks.__main__ import SIZES, limits, line, load, measure, names, versions

NEEDS = {
    "lee": ("cv2", "findpeaks"),
    "build": ("odc.stac",),
    "engine": ("torch", "segmentation_models_pytorch"),
    "segment": ("torch", "segmentation_models_pytorch"),
}
"""What a benchmark needs of the extras `bench` and `unet`."""


@pytest.mark.parametrize("name", names())
# What a peer warns of is its own affair
@pytest.mark.filterwarnings("ignore")
def test_benchmarks_run(name: str) -> None:
    """Each gives a figure for everything it claims, and a row of the table."""
    for needed in NEEDS.get(name, ()):
        pytest.importorskip(needed, reason=f"{needed} is in the extra bench or unet", exc_type=ImportError)
    results = measure(load(name), tiny=True)
    assert results
    for result in results:
        assert math.isfinite(result.measured)
        assert result.what in line(result)


def test_what_has_no_measure_has_a_size() -> None:
    """Each benchmark either measures itself, or is known by its size."""
    assert {name for name in names() if not hasattr(load(name), "measure")} <= SIZES.keys()


def test_a_row_says_whether_the_goal_is_met() -> None:
    """Upper and lower limits, and none."""
    assert "| 13 x | ≥ 12 | yes |" in line(Result("Lee", 13.0, 12))
    assert "| 11 x | ≥ 12 | no |" in line(Result("Lee", 11.0, 12))
    assert "| 0.4 s | ≤ 0.3 | no |" in line(Result("import", 0.4, 0.3, at_most=True, unit="s"))
    assert "| 7 x |  |  |" in line(Result("findpeaks", 7.0))


def test_the_machine_and_the_versions_are_told() -> None:
    """Both limits, and every package, there or not."""
    assert "memcpy" in limits(tiny=True)
    assert "GFLOP/s" in limits(tiny=True)
    assert f"numpy {np.__version__}" in versions()


def test_scipy_does_the_same_work_as_lee() -> None:
    """SciPy's filter is ours to rounding: the comparison is fair."""
    for image in lee.make(64, 2):
        np.testing.assert_allclose(lee.ours(image), lee.scipy_lee(image.values), rtol=1e-6)


def test_opencv_does_the_same_work_as_lee() -> None:
    """OpenCV's is, in float32."""
    pytest.importorskip("cv2", reason="OpenCV is in the extra bench")
    for image in lee.make(64, 2):
        np.testing.assert_allclose(lee.ours(image), lee.opencv_lee(image.values), rtol=1e-4)


def test_the_peer_of_equalize_does_nearly_the_same_work() -> None:
    """scikit-image interpolates at bin centres: within a few grey levels of ours."""
    for image in equalize.make(64, 2):
        theirs = np.nan_to_num(equalize.peer(image.values)) * 255
        assert np.abs(equalize.ours(image).astype(float) - theirs).max() < 8
