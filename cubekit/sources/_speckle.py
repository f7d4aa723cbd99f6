"""Speckle as multilooked and resampled products have it, and the filter that HyP3 applies to some.

Notes
-----
Speckle of L looks is gamma distributed with mean 1 and variance 1/L (Goodman 1976; Ulaby, Moore and Fung 1982).
Resampling to a map correlates neighbours.
"""

from __future__ import annotations

import math
from functools import cache
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cubekit.errors import ConfigError

if TYPE_CHECKING:
    from cubekit.sources._radar import Observation

_KERNEL = 64  # pixels of the ring on which a kernel is found: far longer than any correlation
_NODES = np.linspace(-6.0, 6.0, 4097)

Floats = NDArray[np.float32]


def speckle(shape: tuple[int, int], looks: float, *, correlation: float, generator: np.random.Generator) -> Floats:
    """Draw speckle to multiply a mean intensity with.

    Parameters
    ----------
    shape
        Rows and columns.
    looks
        Equivalent number of looks: mean squared over variance.
    correlation
        Distance at which the autocorrelation has fallen to 1/e, pixels, 0 to 8; it is ``exp(-(d / correlation)**2)``.
        0 draws every pixel for itself.
    generator
        Random numbers.

    Returns
    -------
    numpy.ndarray
        float32 (y, x), gamma distributed with mean 1 and variance 1 / looks in each pixel.

    Raises
    ------
    ConfigError
        When looks isn't above 0, or the correlation is out of range.

    Notes
    -----
    A Gaussian copula: white noise, filtered to the wanted autocorrelation, is mapped to the quantiles of the gamma
    distribution. The field is periodic. The map lowers the correlation of the intensity a little (by 0.01 for 4
    looks or more, 0.04 for one look).

    Examples
    --------
    >>> field = speckle((512, 512), 4.4, correlation=0.9, generator=np.random.default_rng(0))
    >>> round(float(field.mean()), 1), round(float(field.mean() ** 2 / field.var()), 1)
    (1.0, 4.4)
    """
    if not 0 < looks < math.inf:
        msg = f"looks {looks} is not allowed; give the equivalent number of looks, above 0, e.g. 4.4"
        raise ConfigError(msg)
    if not 0 <= correlation <= 8:
        msg = f"correlation {correlation} is not allowed; give 0 to 8 pixels, e.g. 0.9"
        raise ConfigError(msg)
    if correlation == 0:
        return generator.standard_gamma(looks, shape, np.float32) / np.float32(looks)
    quantiles = _quantiles(float(looks))
    return np.interp(correlated(shape, correlation, generator), _NODES, quantiles).astype(np.float32)


def acquire(
    expected: Floats,
    observation: Observation,
    *,
    noise: float,
    looks: float,
    correlation: float,
    filter_looks: float | None,
    generator: np.random.Generator,
) -> Floats:
    """Take an image of a scene as its product shows it: all that happens in radar geometry happens there.

    Parameters
    ----------
    expected
        Expected gamma0 on the map, linear power (band, y, x).
    observation
        What the look sees; takes the image to the radar and back, with layover and the smear on slopes.
    noise
        Power of the sensor's noise, as gamma0; its mean is subtracted again, as the archives do. What falls below 0
        is 0.
    looks
        Equivalent number of looks on the map, of level ground and without filter.
    correlation
        Of the speckle in the radar image, pixels; see `speckle`. Resampling to the map adds to it.
    filter_looks
        What HyP3's filter is told, or None for no filter.
    generator
        Random numbers.

    Returns
    -------
    numpy.ndarray
        float32 (band, y, x). In shadow it holds what noise is left.

    Raises
    ------
    ConfigError
        As `speckle` and `hyp3_filter`.

    Notes
    -----
    Bilinear resampling at places that fall anywhere between cells keeps ``(2/3 + r/3)**2`` of the variance of speckle
    with the correlation r between neighbours, which is allowed for: `looks` is what the map shows. 10 looks with a
    correlation of 0.9 and the filter of 60 give water of -17 dB 35 looks and of -20 dB 20 with a noise of -26.5 dB, or
    5 with one of -22 dB, and correlations of 0.45 and 0.04 at one and two pixels, in the median of windows of 7 x 7
    pixels. HyP3's crops have 17 to 37, 20 and 6 looks there, and 0.35 to 0.5 and 0 to 0.17.

    Examples
    --------
    >>> from cubekit.sources._radar import Look, observe
    >>> even = observe(np.zeros((64, 64), np.float32), 20.0, Look(-12.0, 39.0))
    >>> water = np.full((2, 64, 64), 0.02, np.float32)
    >>> options = {"noise": 0.003, "looks": 10.0, "correlation": 0.9, "filter_looks": 60.0}
    >>> image = acquire(water, even, **options, generator=np.random.default_rng(0))
    >>> image.shape, round(float(image.mean()), 2)
    ((2, 64, 64), 0.02)
    """
    neighbours = math.exp(-((1 / correlation) ** 2)) if correlation else 0.0
    drawn = looks * (2 / 3 + neighbours / 3) ** 2
    image = observation.to_radar(expected)
    for band in image:
        grain = speckle(observation.radar_shape, drawn, correlation=correlation, generator=generator)
        noisy = np.maximum((band + np.float32(noise)) * grain - np.float32(noise), 0)
        band[...] = noisy if filter_looks is None else hyp3_filter(noisy, filter_looks)
    return observation.to_map(image)


def correlated(shape: tuple[int, int], correlation: float, generator: np.random.Generator) -> Floats:
    """Draw a periodic Gaussian field of mean 0 and variance 1 with autocorrelation ``exp(-(d / correlation)**2)``.

    Parameters
    ----------
    shape
        Rows and columns.
    correlation
        Pixels, above 0, at most 8.
    generator
        Random numbers.

    Returns
    -------
    numpy.ndarray
        float32 (y, x).

    Examples
    --------
    >>> field = correlated((512, 512), 2.0, np.random.default_rng(0))
    >>> round(float((field * np.roll(field, 2, axis=1)).mean() / field.var()), 1)
    0.4
    """
    from scipy.ndimage import convolve1d

    field = generator.standard_normal(shape, np.float32)
    kernel = _kernel(float(correlation))
    for axis in (0, 1):
        field = convolve1d(field, kernel, axis=axis, mode="wrap")
    return field


def hyp3_filter(power: Floats, looks: float) -> Floats:
    """Filter speckle as HyP3 does in products with the flag ``f``: enhanced Lee, 7 x 7 pixels, damping 1.

    Parameters
    ----------
    power
        Intensity (y, x); what is not finite is no data.
    looks
        Number of looks the filter is told. HyP3 tells 60 at 20 m (30 times its looks), far more than there are, so
        that it smooths little.

    Returns
    -------
    numpy.ndarray
        float32, NaN where `power` is not finite.

    Raises
    ------
    ConfigError
        When looks isn't above 0.

    Notes
    -----
    As `cubekit.preprocess.enhanced_lee` (Lopes et al. 1990): ``Ci = s / m`` of the valid pixels in the window,
    ``Cu = 1 / sqrt(looks)``, ``Cmax = sqrt(1 + 2 / looks)``. HyP3 filters in radar geometry, before the terrain
    correction.

    Examples
    --------
    >>> hyp3_filter(np.full((8, 8), 0.1, np.float32), 60)[0, 0]
    np.float32(0.1)
    """
    from scipy.ndimage import convolve1d

    if not 0 < looks < math.inf:
        msg = f"looks {looks} is not allowed; give what the filter is told, above 0, e.g. 60 for HyP3 at 20 m"
        raise ConfigError(msg)
    valid = np.isfinite(power)
    values = np.where(valid, power, 0).astype(np.float64)

    def total(field: NDArray[np.float64]) -> NDArray[np.float64]:
        box = np.ones(7)  # summed afresh in every window: a running sum would carry errors along
        return np.asarray(convolve1d(convolve1d(field, box, axis=0, mode="constant"), box, axis=1, mode="constant"))

    count = np.maximum(total(valid.astype(np.float64)), 1)
    mean = total(values) / count
    spread = np.sqrt(np.maximum(total(values**2) / count - mean**2, 0))
    low, high, level = math.sqrt(1 / looks), math.sqrt(1 + 2 / looks), np.abs(mean)
    between = (spread > low * level) & (spread < high * level)
    variation = np.divide(spread, level, out=np.full_like(spread, low), where=between)
    weight = np.where(spread <= low * level, 1.0, 0.0)
    weight[between] = np.exp(-(variation - low) / (high - variation))[between]
    return np.where(valid, mean * weight + values * (1 - weight), np.nan).astype(np.float32)


@cache
def _kernel(correlation: float) -> NDArray[np.float64]:
    """Symmetric kernel that gives white noise of variance 1 this autocorrelation, and leaves its variance."""
    lags = np.fft.fftfreq(_KERNEL, 1 / _KERNEL)
    spectrum = np.fft.fft(np.exp(-((lags / correlation) ** 2))).real
    kernel = np.fft.fftshift(np.fft.ifft(np.sqrt(np.maximum(spectrum, 0))).real)[1:]
    reach = math.ceil(2 * correlation) + 2
    kernel = kernel[_KERNEL // 2 - 1 - reach : _KERNEL // 2 + reach]
    return np.asarray(kernel / math.sqrt((kernel**2).sum()))


@cache
def _quantiles(looks: float) -> NDArray[np.float64]:
    """Intensity of mean 1 whose gamma distribution reaches as far as the normal one at the nodes."""
    from scipy.special import gammaincinv, ndtr

    return np.asarray(gammaincinv(looks, ndtr(_NODES)) / looks)
