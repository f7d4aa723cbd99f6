"""What every step of the preprocessing asks of its input, and how it lays it out."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError
from cubekit.lakes import Lake

LINEAR = "linear power"

Window = tuple[slice, slice]
Centres = NDArray[Any]


def check_power(da: xr.DataArray, step: str) -> None:
    """Refuse data that is not linear power in floating point on dims y and x.

    Parameters
    ----------
    da
        What a step was given. Only its dims, dtype and attributes are looked at.
    step
        Name of the step, for the message.

    Raises
    ------
    ConfigError
        When a dim is missing, the dtype is not floating point, or an attribute says that it is not linear power.
        Data without the attributes ``scale`` and ``units`` is taken for linear power.
    """
    if not {"y", "x"} <= set(da.dims):
        msg = f"{step}: the data has dims {da.dims}; it needs 'y' and 'x', rename its dims"
        raise ConfigError(msg)
    if not np.issubdtype(da.dtype, np.floating):
        msg = f"{step}: the data is {da.dtype}; it must be floating point, gamma0 in linear power with NaN for no data"
        raise ConfigError(msg)
    scale = da.attrs.get("scale", LINEAR)
    if scale != LINEAR or str(da.attrs.get("units", "1")).lower() in {"db", "decibel", "decibels"}:
        given = scale if scale != LINEAR else da.attrs["units"]
        msg = f"{step}: the data is {given!r}, and only {LINEAR!r} gives unbiased results; convert: 10 ** (dB / 10)"
        raise ConfigError(msg)


def pixels_off(data: xr.Dataset | xr.DataArray, lake: Lake, window: Window) -> tuple[str, Centres, Centres] | None:
    """Compare pixel centres with those of a window of a lake's lattice.

    Returns
    -------
    tuple or None
        The first of y and x that differs, the centres given (none without the coordinate) and those expected; None
        where both agree.
    """
    for name, part in zip(("y", "x"), window, strict=True):
        expected = lake.lattice.coordinates[name].values[part]
        given = np.asarray(data[name].variable) if name in data.coords else np.empty(0)
        if given.shape != expected.shape or not np.allclose(given, expected, rtol=0, atol=1e-3):
            return name, given, expected
    return None


def whole_images(variable: xr.Variable) -> xr.Variable:
    """Rechunk lazily so that y and x are one chunk each; what is in memory stays as it is."""
    whole: dict[Hashable, int] = {"y": -1, "x": -1}
    chunked: xr.Variable = variable.chunk(whole) if variable.chunks else variable
    return chunked


def native(array: NDArray[Any]) -> NDArray[Any]:
    """In an order and a type that numba takes: contiguous, float32 or float64, native bytes."""
    return np.ascontiguousarray(array, np.float64 if array.dtype.itemsize > 4 else np.float32)
