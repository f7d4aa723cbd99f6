"""Volume of a lake from its area: published scalings, each with where it comes from and how far it is trusted."""

from __future__ import annotations

import math
from collections.abc import Mapping
from types import MappingProxyType
from typing import NamedTuple

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError

RELATIVE_ERROR = 0.44
"""Average error of published scalings on 44 surveyed moraine-dammed lakes, relative: "more than 44 %".

Qi et al. (2025), Hydrol. Earth Syst. Sci. 29, 969, abstract. It is an average: single lakes are off by factors (Cook &
Quincey 2015: volume and area correlate with r2 = 0.91 because area is in both, depth and area with r2 = 0.38 only).
"""


class Scaling(NamedTuple):
    """A power law: volume in m3 = factor * (area in m2) ** exponent.

    Parameters
    ----------
    factor, exponent
        For m2 and m3, also where the source has other units.
    lakes
        What it was fitted to.
    smallest_km2, largest_km2
        Areas that it is used for here, km2; beyond them there is no volume.
    source
        Paper.
    provenance
        ``checked``: read again elsewhere when it was put in here. ``from memory``: not; check it before you publish.
    """

    factor: float
    exponent: float
    lakes: str
    smallest_km2: float
    largest_km2: float
    source: str
    provenance: str

    def volume(self, area_km2: NDArray[np.float64]) -> NDArray[np.float64]:
        """Volume, 10^6 m3; NaN where the area is, or is out of range."""
        inside = (area_km2 >= self.smallest_km2) & (area_km2 <= self.largest_km2)
        return np.where(inside, self.factor * (np.where(inside, area_km2, np.nan) * 1e6) ** self.exponent / 1e6, np.nan)


def _of_square_kilometres(factor: float, exponent: float) -> float:
    """Factor for m2 and m3 of a law for km2 and 10^6 m3."""
    return factor * 1e6 * math.pow(1e-6, exponent)


SCALINGS: Mapping[str, Scaling] = MappingProxyType(
    {
        "huggel2002": Scaling(
            0.104,
            1.42,
            "ice- and moraine-dammed lakes, mostly of the Alps, the Andes and the Himalaya",
            *(0.005, 6.0),
            "Huggel et al. (2002), Can. Geotech. J. 39, 316, doi:10.1139/t01-099",
            "checked (factor and exponent); range from memory",
        ),
        "evans1986": Scaling(
            0.035,
            1.5,
            "ice-dammed lakes, mostly of Canada",
            *(0.005, 6.0),
            "Evans (1986), Can. Geotech. J. 23",
            "from memory",
        ),
        "sakai2012": Scaling(
            _of_square_kilometres(43.24, 1.5307),
            1.5307,
            "moraine-dammed lakes of the Himalaya",
            *(0.02, 6.0),
            "Sakai (2012), Global Environ. Res. 16: V = 43.24 A^1.5307 in 10^6 m3 and km2",
            "from memory",
        ),
        "fujita2013": Scaling(
            _of_square_kilometres(55.0, 1.25),
            1.25,
            "moraine-dammed lakes of the Himalaya",
            *(0.02, 6.0),
            "Fujita et al. (2013), Nat. Hazards Earth Syst. Sci. 13, 1827: mean depth 55 A^0.25 in m and km2",
            "from memory",
        ),
    }
)
"""Scalings by name."""


def volume(area_km2: xr.DataArray, *, scaling: str | None = None) -> xr.Dataset:
    """Volume of a lake from its area, by published scalings.

    Parameters
    ----------
    area_km2
        Areas, km2, any dims; NaN is not known. numpy or dask, any chunks.
    scaling
        One of `SCALINGS`, or None for all.

    Returns
    -------
    xarray.Dataset
        Of the dims of the area and ``scaling``, float64, 10^6 m3:

        ``volume``
            By each scaling; NaN where the area is, or is beyond the areas that the scaling is for.
        ``volume_low``, ``volume_high``
            Of each: divided and multiplied by 1 + `RELATIVE_ERROR`. No 95 % interval: the average error of such
            scalings. Between the scalings there is as much again.

        Coordinates along ``scaling``: ``source``, ``lakes`` (what it was fitted to) and ``provenance``.

    Raises
    ------
    ConfigError
        When the scaling is not known, or the area is not of numbers.

    Notes
    -----
    Lazy. A change of volume is not the difference of two of these: it has the scaling's error in both, and a lake that
    drains does not go down along the curve on which lakes of different size lie.

    Examples
    --------
    >>> tsho_rolpa = xr.DataArray(1.537, attrs={"units": "km2"})
    >>> volume(tsho_rolpa)["volume"].round(0).values.tolist()  # a survey found 86
    [63.0, 67.0, 83.0, 94.0]
    """
    if scaling is not None and scaling not in SCALINGS:
        msg = f"scaling {scaling!r} is not known; allowed are {', '.join(SCALINGS)}, or None for all"
        raise ConfigError(msg)
    if area_km2.dtype.kind not in "fiu":
        msg = f"the area is {area_km2.dtype}; give numbers, in km2"
        raise ConfigError(msg)
    names = list(SCALINGS) if scaling is None else [scaling]
    variable = area_km2.variable.astype(np.float64)
    each = [
        xr.apply_ufunc(SCALINGS[name].volume, variable, dask="parallelized", output_dtypes=[np.float64])
        for name in names
    ]
    stacked = xr.concat([xr.DataArray(one) for one in each], dim="scaling").variable
    found = {
        "volume": stacked,
        "volume_low": stacked / (1 + RELATIVE_ERROR),
        "volume_high": stacked * (1 + RELATIVE_ERROR),
    }
    long_names = ("volume", "volume, low", "volume, high")
    for one, long_name in zip(found.values(), long_names, strict=True):
        one.attrs = {"long_name": f"{long_name}, by area scaling", "units": "1e6 m3"}
    texts = {
        field: ("scaling", [getattr(SCALINGS[name], field) for name in names])
        for field in ("source", "lakes", "provenance")
    }
    coords = area_km2.coords.to_dataset().assign_coords({"scaling": names, **texts})
    return coords.assign(found).assign_attrs(relative_error=RELATIVE_ERROR)
