"""Backscatter of high-mountain surfaces at C band: expected gamma0 of land, open water and lake ice.

Notes
-----
Levels in dB, VV, at an incidence of about 39 degrees. "Range" is what the literature named reports, **as remembered:
the works exist and treat this, but their tables were not at hand**; it says no more than the level is plausible in it.
"Crops" are 211 real HyP3 crops of four Nepalese lakes, 2015 to 2025 (noise removed, it seems): water is what lies
80 m and more inside ICIMOD's outlines of 2020, land what lies 100 m outside them; no drawn label was used. VH is not in
these crops: its levels over VV are from 67 OPERA crops of Californian land (-6 to -10) or assumed.

==================  ============  ==========  ==========================================================================
surface             range         used        origin
==================  ============  ==========  ==========================================================================
rock                -14 to -3     -7.5 (3.6)  range: Ulaby and Dobson 1989; level and spread: crops
moraine             (none known)  -7.5 (3.1)  crops: medians of land by track are -6 to -8.5 at moraine-dammed lakes
debris-covered ice  (none known)  -8.0 (3.4)  assumed close to moraine
glacier, bare ice   -14 to -6     -10.5       range: Partington 1998; level assumed
grass, sparse       -17 to -8     -10.5       range: Ulaby and Dobson 1989; crops at Gokyo have -8.4 to -12
silt, sand          -20 to -11    -14.0       range: smooth soil in Ulaby and Dobson 1989; level assumed
frozen ground       0 to -5       0 to -3     change from thawed: Rignot and Way 1994; crops in winter: -0.5 to -4
dry snow            -1 to +2      +0.5        change from bare ground: Bernier and Fortin 1998; VH more, as Lievens et
                                              al. 2019 find in mountains (+1.5 here, assumed)
wet snow            -23 to -12    -15.5       at least 3 dB below the ground, the threshold of Nagler and Rott 2000;
                                              range: Ulaby and Dobson 1989, Nagler et al. 2016
open water, VV      -30 to -6     by wind     CMOD5.N (Hersbach 2010; its form: Hersbach et al. 2007), all directions.
                                              Crops of June to September: -21.2 to -14.0 (median -19.1), as winds of
                                              3.9 m/s (2.7 to 6.1) at 6 and 5.9 (2.4 to 8.7) at 18 hours local time
open water, VH      -36 to -26    by wind     C-2PO (Zhang and Perrie 2012), from strong winds over sea
new ice             -25 to -14    -19.0       range: Jeffries et al. 1994, Duguay and Lafleur 2003
thick floating ice  -14 to -5     -14.0       range: Jeffries et al. 1994, Surdu et al. 2014, of ice with bubbles;
                                              crops of January to March: -20.7 to -12.4 (90 %), median -15.5
wet ice             -22 to -13    -17.5       assumed from wet snow; crops of April and May: -21.0 to -9.9
==================  ============  ==========  ==========================================================================

In brackets the spread (standard deviation, dB) of the texture. It and its correlation are set so that simulated land
has the spread (2.6 to 4 dB), the variance between neighbours (3 to 7 dB2) and the correlation at 2, 4 and 8 pixels
(0.5, 0.3, 0.2) of the crops. Strozzi et al. 2012 and Wangchuk et al. 2019 describe what confuses radar maps of glacial
lakes: wind, ice, wet snow, shadow.

References
----------
Bernier and Fortin 1998, IEEE TGRS 36. Duguay and Lafleur 2003, Int. J. Remote Sens. 24. Hersbach et al. 2007, J.
Geophys. Res. 112. Hersbach 2010, J. Atmos. Oceanic Technol. 27. Jeffries et al. 1994, J. Geophys. Res. 99. Lievens et
al. 2019, Nature Communications 10. Nagler and Rott 2000, IEEE TGRS 38. Nagler et al. 2016, Remote Sensing 8. Partington
1998, J. Glaciol. 44. Rignot and Way 1994, Remote Sens. Environ. 49. Small 2011, IEEE TGRS 49. Strozzi et al. 2012, Nat.
Hazards Earth Syst. Sci. 12. Surdu et al. 2014, The Cryosphere 8. Torres et al. 2012, Remote Sens. Environ. 120. Ulaby
and Dobson 1989, Handbook of Radar Scattering Statistics for Terrain, Artech House. Wangchuk et al. 2019, Int. J.
Remote Sens. 40. Zhang and Perrie 2012, Bull. Amer. Meteor. Soc. 93.
"""

from __future__ import annotations

import math
from enum import IntEnum
from functools import lru_cache
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray

from cubekit.errors import ConfigError
from cubekit.sources._radar import Observation
from cubekit.sources._speckle import correlated

NOISE_DB = -26.5
"""Noise equivalent sigma0 of IW, dB: specified to be -22 or better (Torres et al. 2012); -25 to -28 is usual in the
middle of a sub-swath (remembered, not looked up). In the crops summer water of -20 dB has 20 looks on track 121, which
asks for -26 to -27, and 6 on track 85 at the far end of the swath (Gokyo), which asks for -22 to -23."""

Floats = NDArray[np.float32]
Season = Literal["dry", "frozen", "dry_snow", "wet_snow"]


class Surface(IntEnum):
    """What lies on the ground where there is no water."""

    ROCK = 0
    MORAINE = 1
    DEBRIS_ICE = 2
    GLACIER = 3
    """Clean ice and firn."""
    GRASS = 4
    SILT = 5
    """Fine sediment, smooth: as dark as rough water."""


# In the order of Surface: VV at 39 degrees; VH over VV; spread of the texture; change when the ground freezes; all dB
_LEVEL = np.array([-7.5, -7.5, -8.0, -10.5, -10.5, -14.0], np.float32)
_CROSS = np.array([-7.5, -6.5, -6.5, -7.0, -6.5, -8.5], np.float32)
_SPREAD = np.array([3.6, 3.1, 3.4, 2.2, 1.9, 1.7], np.float32)
_FROZEN = np.array([-0.5, -1.0, -1.0, 0.0, -3.0, -3.0], np.float32)
_WET_SNOW = np.array([-15.5, -23.0], np.float32)  # VV, VH
_WETTED = 3.0  # dB that wet snow lies below the ground at least
_DRY_SNOW = np.array([0.5, 1.5], np.float32)  # VV, VH over the ground below
_LAKE_TO_LAKE = 1.0  # dB, standard deviation of the level of all land
_NEW_ICE, _THICKER, _WET_ICE, _WINTERS = -19.0, 5.0, -17.5, 1.5  # dB; the last: standard deviation between winters

# CMOD5.N, c1 to c13: A0 in x, A1, A2, the exponent of A3, and s0
_CMOD = (
    (-0.6878, -0.7957, 0.3380, -0.1728),
    (0.0, 0.0040),
    (0.1103, 0.0159),
    (6.7329, 2.7713, -2.2885),
    (0.4971, -0.7250),
)

# Shares of a texture's variance, and the pixels over which they are drawn: at one pixel, in patches, over slopes
_LAND, _WATER, _ICE = ((0.75, 1), (0.15, 6), (0.1, 24)), ((0.4, 8), (0.6, 24)), ((0.3, 1), (0.4, 6), (0.3, 24))


def land_gamma0(
    surface: NDArray[np.uint8],
    local_incidence: Floats,
    *,
    season: Season,
    snow: NDArray[np.bool_] | None,
    texture_seed: int,
) -> Floats:
    """Expected gamma0 of land, terrain-flattened.

    Parameters
    ----------
    surface
        Codes of `Surface` (y, x).
    local_incidence
        Degrees (y, x).
    season
        ``dry`` (thawed, no snow), ``frozen`` (no snow), ``dry_snow`` (on frozen ground) or ``wet_snow``.
    snow
        Where snow lies in the seasons of snow, bool (y, x); None is everywhere. What bears none is thawed beside wet
        snow and frozen beside dry snow.
    texture_seed
        Texture and level of all land: the same for all dates of a lake.

    Returns
    -------
    numpy.ndarray
        VV and VH (band, y, x), linear power, float32.

    Raises
    ------
    ConfigError
        When the season, a code or the shapes are not allowed.

    Notes
    -----
    The texture is lognormal, a little skewed to bright scatterers. Flattening leaves 0.05 dB a degree (Small 2011 has
    less on gentle slopes), 0.17 below 22 degrees, 0.15 above 67: assumed.

    Examples
    --------
    >>> ground, flat = np.full((64, 64), Surface.MORAINE, np.uint8), np.full((64, 64), 39, np.float32)
    >>> thawed = land_gamma0(ground, flat, season="dry", snow=None, texture_seed=1)
    >>> wet = land_gamma0(ground, flat, season="wet_snow", snow=None, texture_seed=1)
    >>> bool((10 * np.log10(wet / thawed)).mean() < -3)
    True
    """
    if season not in get_args(Season):
        msg = f"season {season!r} is not known; give one of {', '.join(get_args(Season))}"
        raise ConfigError(msg)
    if surface.shape != local_incidence.shape or (snow is not None and snow.shape != surface.shape):
        shapes = [None if part is None else part.shape for part in (surface, local_incidence, snow)]
        msg = f"surface, local incidence and snow have the shapes {shapes}; give all on one grid (y, x)"
        raise ConfigError(msg)
    if surface.size and surface.max() >= len(Surface):
        msg = f"surface code {surface.max()} is not known; give 0 to {len(Surface) - 1}, see Surface"
        raise ConfigError(msg)
    turned = np.clip(local_incidence, 10, 80).astype(np.float32) - 39
    left = -0.05 * turned - 0.12 * np.minimum(turned + 17, 0) - 0.1 * np.maximum(turned - 28, 0)
    vv = _LEVEL[surface] + left + _offset(texture_seed, _LAKE_TO_LAKE)
    if season in {"frozen", "dry_snow"}:
        vv += _FROZEN[surface]
    decibel = np.stack([vv, vv + _CROSS[surface] + 0.5 * left])
    spread = _SPREAD[surface]
    covered = np.ones(surface.shape, bool) if snow is None else snow
    if season == "wet_snow":
        decibel = np.where(covered, np.minimum(_WET_SNOW[:, None, None] - 0.12 * turned, decibel - _WETTED), decibel)
        spread = np.where(covered, np.float32(1.5), spread)
    elif season == "dry_snow":
        decibel += covered * _DRY_SNOW[:, None, None]
    common, own = _texture(surface.shape, texture_seed, _LAND)
    decibel[0] += spread * common
    decibel[1] += spread * (0.85 * common + 0.53 * own)
    return _power(decibel)


def water_gamma0(shape: tuple[int, int], *, wind: float, incidence: float, texture_seed: int) -> Floats:
    """Expected gamma0 of open water.

    Parameters
    ----------
    shape
        Rows and columns.
    wind
        Wind at 10 m height that makes the sea as rough, m/s, 0 to 25: at 5,000 m the air weighs 40 % less.
    incidence
        Degrees, 20 to 50.
    texture_seed
        Gusts and lee, 1 dB: another for every pass.

    Returns
    -------
    numpy.ndarray
        VV and VH (band, y, x), linear power, float32; sigma0 over the cosine of the incidence.

    Raises
    ------
    ConfigError
        When wind or incidence is out of range.

    Notes
    -----
    CMOD5.N holds from 0.2 m/s; calmer water is taken to be as dark as then. Lakes with a short fetch are less rough.

    Examples
    --------
    >>> calm, rough = (water_gamma0((32, 32), wind=wind, incidence=39, texture_seed=0).mean((1, 2)) for wind in (2, 9))
    >>> bool((rough > calm).all() and rough[0] > 5 * calm[0])
    True
    """
    if not (0 <= wind <= 25 and 20 <= incidence <= 50):
        msg = f"wind {wind} m/s at {incidence} degrees is not allowed; give 0 to 25 m/s and 20 to 50 degrees"
        raise ConfigError(msg)
    common, own = _texture(shape, texture_seed, _WATER)
    levels = np.array([_wind_sea(wind, incidence), 0.580 * wind - 35.652], np.float32)
    levels -= np.float32(10 * math.log10(math.cos(math.radians(incidence))))
    return _power(levels[:, None, None] + np.stack([common, 0.5 * common + 0.3 * own]))


def ice_gamma0(shape: tuple[int, int], *, thickness: float, wet: bool, texture_seed: int) -> Floats:
    """Expected gamma0 of lake ice.

    Parameters
    ----------
    shape
        Rows and columns.
    thickness
        0 (new ice) to 1 (the thickest of the winter): bubbles brighten it.
    wet
        Whether its surface melts, which hides what is below.
    texture_seed
        Texture (1.5 dB) and level (1.5 dB): the same for all dates of a winter.

    Returns
    -------
    numpy.ndarray
        VV and VH (band, y, x), linear power, float32.

    Raises
    ------
    ConfigError
        When the thickness is out of range.

    Examples
    --------
    >>> new, thick = (ice_gamma0((32, 32), thickness=part, wet=False, texture_seed=0).mean() for part in (0.0, 1.0))
    >>> bool(thick > 2 * new)
    True
    """
    if not 0 <= thickness <= 1:
        msg = f"thickness {thickness} is not allowed; give 0 (new ice) to 1 (the thickest of the winter)"
        raise ConfigError(msg)
    common, own = _texture(shape, texture_seed, _ICE)
    vv = (_WET_ICE if wet else _NEW_ICE + _THICKER * thickness) + _offset(texture_seed, _WINTERS)
    levels = np.array([vv, vv - (8.0 if wet else 9.0 - 2.0 * thickness)], np.float32)
    return _power(levels[:, None, None] + 1.5 * np.stack([common, 0.7 * common + 0.7 * own]))


def brighten(expected: Floats, observation: Observation) -> Floats:
    """What the radar makes of the expected gamma0: pixels in layover share their echoes, slopes are smeared.

    Parameters
    ----------
    expected
        Linear power (band, y, x), on the grid of the observation.
    observation
        What the look sees.

    Returns
    -------
    numpy.ndarray
        float32 (band, y, x): brought to the radar's image and back. A lake below a wall that folds onto it is as
        bright as the wall; crests that the elevation model rounds off are too bright; shadow holds nothing.

    Examples
    --------
    >>> from cubekit.sources._radar import Look, observe
    >>> even = observe(np.zeros((16, 16), np.float32), 20.0, Look(0.0, 39.0))
    >>> bool(np.allclose(brighten(np.ones((2, 16, 16), np.float32), even), 1))
    True
    """
    return observation.to_map(observation.to_radar(expected))


def _wind_sea(wind: float, incidence: float) -> float:
    """Sigma0 of the sea in VV, dB, mean over the directions of the wind: B0 of CMOD5.N."""
    x, speed = (incidence - 40) / 25, max(wind, 0.2)
    a0, a1, a2, gamma, s0 = (sum(c * x**power for power, c in enumerate(part)) for part in _CMOD)
    s = a2 * speed
    a3 = 1 / (1 + math.exp(-max(s, s0)))
    if s < s0:
        a3 *= (s / s0) ** (s0 * (1 - a3))
    return 10 * (gamma * math.log10(a3) + a0 + a1 * speed)


def _offset(seed: int, spread: float) -> np.float32:
    return np.float32(spread * np.random.default_rng([seed, 0x7E86]).standard_normal())


@lru_cache(maxsize=12)
def _texture(shape: tuple[int, int], seed: int, shares: tuple[tuple[float, int], ...]) -> Floats:
    """Two independent fields (2, y, x) of mean 0 and variance 1, drawn in these shares over as many pixels."""
    from scipy.ndimage import map_coordinates

    generator = np.random.default_rng([seed, 0x7E87])
    fields = np.zeros((2, *shape), np.float32)
    for field in fields:
        for share, reach in shares:
            # Drawn on a coarser grid and brought in between, which is as good and quicker
            coarse = correlated((shape[0] // reach + 4, shape[1] // reach + 4), 0.9, generator)
            if reach > 1:
                rows, columns = (np.arange(side, dtype=np.float32) / reach + 1 for side in shape)
                places = np.broadcast_arrays(rows[:, None], columns[None])
                coarse = map_coordinates(coarse, places, order=1) * np.float32(1.3)  # linear steps lower the variance
            field[...] += np.float32(math.sqrt(share)) * coarse[: shape[0], : shape[1]]
        field[...] += 0.12 * (field**2 - 1)
    fields.flags.writeable = False
    return fields


def _power(decibel: NDArray[np.floating]) -> Floats:
    power: Floats = np.exp(np.asarray(decibel, np.float32) * np.float32(math.log(10) / 10))
    return power
