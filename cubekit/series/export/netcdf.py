"""Areas as NetCDF, with all that the Dataset holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from dask.base import compute

from cubekit.errors import ConfigError
from cubekit.files import replacing
from cubekit.lakes import Lake
from cubekit.series.export.rows import lake_id, library

_UNITS = ("seconds", "milliseconds", "microseconds", "nanoseconds")


def write_netcdf(area: xr.Dataset, lake: Lake, path: str | Path) -> Path:
    """Write a lake's series as NetCDF-4 by the CF conventions 1.11: discrete sampling geometry ``timeSeries``.

    Parameters
    ----------
    area
        What `lake_area` returns, or any Dataset along time of the same lake. All its variables, coordinates and
        attributes are written. Computed here if it is lazy.
    lake
        Gives the place: a point of the lake.
    path
        Written under another name and then renamed.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    ConfigError
        When a variable has another dimension than time, or the series is of another lake.
    MissingExtra
        When h5netcdf or h5py is absent.

    Notes
    -----
    One time series a file (CF 1.11, appendix H.2.3): dimension ``time``, and the scalars ``timeseries_id``, ``lat``,
    ``lon``. Times are int64 in UTC, in seconds where they are whole ones. What is missing is NaN. Codes have their
    ``flag_values`` in their own type. ``xarray.open_dataset`` gives the same values back.
    """
    for name in ("h5py", "h5netcdf"):
        library(name, "netcdf", "NetCDF")
    if "time" not in area.dims or lake_id(area) != lake.id:
        msg = f"the series is of {lake_id(area)!r} over {', '.join(map(str, area.dims))}; give areas of {lake.id!r}"
        raise ConfigError(msg)
    if other := [str(name) for name, variable in area.variables.items() if set(variable.dims) - {"time"}]:
        msg = f"{', '.join(other)} is not along time alone; a time series holds no other dimension: leave it out"
        raise ConfigError(msg)
    (series,) = compute(area.drop_encoding())
    latitude, longitude = lake.centre
    station = {
        "timeseries_id": ((), lake.id, {"long_name": "lake", "cf_role": "timeseries_id"}),
        "lat": ((), latitude, {"standard_name": "latitude", "long_name": "latitude", "units": "degrees_north"}),
        "lon": ((), longitude, {"standard_name": "longitude", "long_name": "longitude", "units": "degrees_east"}),
    }
    written = series.reset_index([name for name in series.xindexes if name != "time"]).assign_coords(station)
    encoding: dict[str, dict[str, Any]] = {}
    for name, variable in written.variables.items():
        variable.attrs = {key: _attribute(key, value, variable.dtype) for key, value in variable.attrs.items()}
        encoding[str(name)] = _encoding(variable)
    written["time"].attrs |= {"standard_name": "time", "axis": "T"}
    written.attrs = {key: _attribute(key, value, None) for key, value in series.attrs.items()}
    written.attrs |= {"Conventions": "CF-1.11", "featureType": "timeSeries"}
    target = Path(path)
    with replacing(target) as temporary:
        written.to_netcdf(temporary, engine="h5netcdf", encoding=encoding)
    return target


def _attribute(name: Any, value: Any, dtype: np.dtype[Any] | None) -> Any:
    """An attribute as NetCDF holds it: flag values in the type of their variable, JSON for what has no type there."""
    if name == "flag_values" and dtype is not None:
        return np.asarray(value, dtype)
    return json.dumps(value) if isinstance(value, dict | bool | None) else value


def _encoding(variable: xr.Variable) -> dict[str, Any]:
    if variable.dtype.kind != "M":
        # Only data are missing at times: a coordinate with a fill value is against CF.
        return {} if variable.dtype.kind == "f" and variable.dims else {"_FillValue": None}
    known = variable.to_numpy()[~np.isnat(variable.to_numpy())].astype("datetime64[ns]").astype(np.int64)
    unit = next(unit for unit, step in zip(_UNITS, (10**9, 10**6, 10**3, 1), strict=True) if not (known % step).any())
    fill = np.iinfo(np.int64).min if known.size < variable.size else None
    return {
        "units": f"{unit} since 1970-01-01",
        "calendar": "proleptic_gregorian",
        "dtype": "int64",
        "_FillValue": fill,
    }
