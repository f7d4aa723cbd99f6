"""Areas of several sensors side by side: tracks are named, never pooled."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr

from cubekit.errors import ConfigError
from cubekit.passes import PLATFORMS

_ALONG_TIME = ("time", "track", "platform", "granules")


def join_areas(*areas: xr.Dataset) -> xr.Dataset:
    """Put the areas of a lake from several sensors into one Dataset, each track by its name.

    Parameters
    ----------
    areas
        What `lake_area` returns, of one lake. Sentinel-1's integer ``track`` and ``platform`` become names.

    Returns
    -------
    xarray.Dataset
        Over time, sorted: the variables that all have, ``track`` (``S1-T121``, ``S2-R019``, ``LS-P140``) and
        ``platform`` (``sentinel-1a``) as strings, and ``granules`` where all have them. Attributes that differ
        (``source``, ``model``, ``spacing``) are left out. `summer_maxima`, `trend` and `write_csv` take it as it is:
        areas of different tracks stay different measurements.

    Raises
    ------
    ConfigError
        When nothing is given, the areas are of several lakes, or lack ``track`` or ``platform``.

    Notes
    -----
    Lazy.

    Examples
    --------
    >>> def area(day, track, platform):
    ...     coords = {"time": np.array([day], "datetime64[ns]"), "track": ("time", [track])}
    ...     return xr.Dataset({"area_km2": ("time", [1.5])}, coords | {"platform": ("time", [platform])}, {"lake": "a"})
    >>> joined = join_areas(area("2021-07-02", "S2-R019", "sentinel-2a"), area("2021-07-01", 121, 0))
    >>> joined["track"].values.tolist(), joined["platform"].values.tolist()
    (['S1-T121', 'S2-R019'], ['sentinel-1a', 'sentinel-2a'])
    """
    if not areas:
        msg = "no areas were given; give what lake_area returns, one Dataset a sensor"
        raise ConfigError(msg)
    lakes = sorted({str(area.attrs.get("lake")) for area in areas})
    if len(lakes) > 1:
        msg = f"the areas are of several lakes ({', '.join(lakes)}); join those of one lake"
        raise ConfigError(msg)
    for area in areas:
        if missing := [name for name in ("time", "track", "platform") if name not in area.coords]:
            msg = f"areas lack the coordinate {', '.join(missing)}; give what lake_area returns for passes of a cube"
            raise ConfigError(msg)
    kept = [name for name in _ALONG_TIME if all(name in area.coords for area in areas)]
    shared = [name for name in areas[0].data_vars if all(name in area.data_vars for area in areas)]
    named = [_named(area[shared].drop_vars([name for name in area.coords if name not in kept])) for area in areas]
    return xr.concat(named, "time", combine_attrs="drop_conflicts").sortby("time")


def _named(area: xr.Dataset) -> xr.Dataset:
    """An area whose tracks and platforms are words."""
    words: dict[str, Any] = {"track": "S1-T{:03d}".format, "platform": PLATFORMS.__getitem__}
    columns: dict[str, Any] = {}
    for name, word in words.items():
        values = area[name].to_numpy()
        names = np.empty(values.shape, object)
        names[:] = [word(value) if values.dtype.kind in "iu" else str(value) for value in values.tolist()]
        columns[name] = ("time", names, {"long_name": name})
    return area.drop_vars(list(columns)).assign_coords(columns)
