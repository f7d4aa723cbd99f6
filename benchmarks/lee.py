"""Lee 7x7 that ignores nodata, on two cores, against the same filter of box filters (normalised convolution).

The peers work on two threads, too, one image each. OpenCV computes in float32, where the variance beside a bright
scatterer is lost; the other peers in float64. xarray-spatial has no such filter.
"""

from __future__ import annotations

import statistics
import time

import numpy as np
import xarray as xr
from scipy.ndimage import uniform_filter

from benchmarks import Result
from benchmarks._timing import on_threads, paired, rates, ratio
from cubekit.preprocess import lee

LOOKS = 4.4
NOISE = 1 / LOOKS


def make(size: int, images: int = 24) -> xr.DataArray:
    """Speckle with a tenth of it missing."""
    random = np.random.default_rng(0)
    power = random.gamma(LOOKS, 0.05 / LOOKS, (images, size, size)).astype("float32")
    power[random.random(power.shape) < 0.1] = np.nan
    return xr.DataArray(power, dims=("time", "y", "x"), attrs={"scale": "linear power", "looks": LOOKS})


def ours(image: xr.DataArray) -> np.ndarray:
    """Cubekit."""
    return lee(image, window=7).values


def scipy_lee(image: np.ndarray) -> np.ndarray:
    """Three box filters in float64."""
    valid = np.isfinite(image)
    filled = np.where(valid, image, 0).astype("float64")
    count = np.maximum(uniform_filter(valid.astype("float64"), 7, mode="constant"), 1e-9)
    mean = uniform_filter(filled, 7, mode="constant") / count
    variance = uniform_filter(filled**2, 7, mode="constant") / count - mean**2
    noise = mean**2 * NOISE
    signal = np.maximum((variance - noise) / (1 + NOISE), 0)
    weight = signal / (signal + noise)
    return np.where(valid, mean + weight * (filled - mean), np.nan).astype("float32")


def opencv_lee(image: np.ndarray) -> np.ndarray:
    """Three box filters in float32, and OpenCV's own arithmetic, in place where it can be."""
    import cv2

    filled = cv2.patchNaNs(image.copy(), 0.0)
    valid = cv2.compare(image, image, cv2.CMP_EQ)
    square = {"ddepth": cv2.CV_32F, "ksize": (7, 7), "normalize": False, "borderType": cv2.BORDER_CONSTANT}
    count = cv2.max(cv2.boxFilter(valid, **square), 1.0)  # times 255, as OpenCV's masks are
    mean = cv2.divide(cv2.boxFilter(filled, **square), count, scale=255.0)
    variance = cv2.divide(cv2.sqrBoxFilter(filled, **square), count, scale=255.0)
    level = cv2.multiply(mean, mean)
    cv2.subtract(variance, level, dst=variance)
    noise = cv2.multiply(level, NOISE)
    signal = cv2.max(cv2.addWeighted(variance, 1 / (1 + NOISE), noise, -1 / (1 + NOISE), 0), 0.0)
    weight = cv2.divide(signal, cv2.add(signal, noise))
    filtered = cv2.add(mean, cv2.multiply(weight, cv2.subtract(filled, mean)))
    filtered[valid == 0] = np.nan
    return filtered


def findpeaks_rate(size: int) -> float:
    """Pixels per second of findpeaks, which has the filter written in Python, without regard to nodata."""
    from findpeaks.filters.lee import lee_filter

    image = np.random.default_rng(0).gamma(LOOKS, 1 / LOOKS, (size, size)).astype("float32")
    start = time.perf_counter()
    lee_filter(image, win_size=7, cu=NOISE**0.5)
    return image.size / (time.perf_counter() - start)


def measure(*, tiny: bool = False) -> list[Result]:
    """Ratios to SciPy, OpenCV and findpeaks."""
    import cv2

    cv2.setNumThreads(1)  # the images are what is parallel
    power = make(32 if tiny else 1024)
    images = list(power.values)
    taken = paired(
        {
            "cubekit": lambda: on_threads(ours, list(power)),
            "SciPy": lambda: on_threads(scipy_lee, images),
            "OpenCV": lambda: on_threads(opencv_lee, images),
        },
        1 if tiny else 9,
    )
    detail = rates(taken, power.size / 1e6, "Mpx/s")
    slow = findpeaks_rate(16 if tiny else 192)
    own = power.size / statistics.median(taken["cubekit"])
    return [
        Result("Lee 7x7, float32 with NaN, two threads: SciPy", ratio(taken, "cubekit", "SciPy"), 12, detail=detail),
        Result("Lee 7x7, float32 with NaN, two threads: OpenCV", ratio(taken, "cubekit", "OpenCV"), 4, detail=detail),
        Result("Lee 7x7: findpeaks (one thread, no nodata)", own / slow, detail=f"findpeaks {slow / 1e6:.2g} Mpx/s"),
    ]
