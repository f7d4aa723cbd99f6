"""From a cube to what is segmented: clip, hide what was not observed, filter."""

from __future__ import annotations

from typing import Literal, get_args

import xarray as xr

from cubekit.cube.schema import observed as observed_in
from cubekit.errors import ConfigError, GridMismatch
from cubekit.lakes import Lake
from cubekit.preprocess._checks import pixels_off
from cubekit.preprocess.speckle import enhanced_lee, lee

Filter = Literal["lee", "enhanced_lee", "none"]


def prepare(
    ds: xr.Dataset,
    lake: Lake,
    *,
    polarisation: str = "vv",
    filter: Filter = "lee",  # noqa: A002  # the name in study.toml
    window: int = 7,
    looks: float | None = None,
) -> xr.DataArray:
    """Clip a cube to the AOI window, set what was not observed to NaN, and filter speckle.

    Parameters
    ----------
    ds
        A cube on the lattice of `lake`, as `open_cube` gives it: dims (time, y, x).
    lake
        The lake, at the spacing of the cube.
    polarisation
        ``vv`` or ``vh``.
    filter
        ``lee``, ``enhanced_lee`` or ``none``. An archive that has filtered already (the attribute ``speckle_filter``
        names its filter) is never filtered again: the attribute ``filter_note`` then says so.
    window, looks
        As in `lee`.

    Returns
    -------
    xarray.DataArray
        float32, gamma0 in linear power, dims (time, y, x), NaN where not observed, which the bool coord ``observed``
        marks. All coords along time stay. The attribute ``window`` is ``aoi``.

    Raises
    ------
    ConfigError
        When the polarisation is absent, the filter isn't known, or as `lee`.
    GridMismatch
        When the cube doesn't lie on the lattice of `lake`.

    Notes
    -----
    Lazy, except where `ds` is in memory. The order is fixed: clip, then filter, so that the result depends on the AOI
    window only (design.md, rule 1).

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> lake = catalogue()["gokyo"]
    >>> power = xr.full_like(lake.outline_mask, 0.02, dtype="float32").expand_dims("time")
    >>> cube = xr.Dataset({"vv": power, "mask": xr.zeros_like(power, dtype="uint8")})
    >>> prepared = prepare(cube, lake, window=7, looks=4.4)
    >>> prepared.attrs["speckle_filter"], bool(prepared.observed.all())
    ('lee 7x7', True)
    """
    if filter not in get_args(Filter):
        msg = f"filter {filter!r} isn't known; allowed are {', '.join(get_args(Filter))}"
        raise ConfigError(msg)
    _check_lattice(ds, lake)
    part = dict(zip(("y", "x"), lake.aoi_window, strict=True))
    clipped = ds.isel(part)
    # Without its own coords, which are those of the power: comparing them might load them
    observed = observed_in(clipped, polarisation).reset_coords(drop=True)
    power = clipped[polarisation].where(observed).assign_coords(observed=observed.variable)
    before = power.attrs.get("speckle_filter", "none")
    power.attrs |= {"window": "aoi", "speckle_filter": before}
    if filter == "none":
        return power
    if before != "none":
        note = f"{filter.replace('_', ' ')} not applied: the archive has filtered already ({before})"
        return power.assign_attrs(filter_note=note)
    return (lee if filter == "lee" else enhanced_lee)(power, window=window, looks=looks)


def _check_lattice(ds: xr.Dataset, lake: Lake) -> None:
    if off := pixels_off(ds, lake, (slice(None), slice(None))):
        name, _, expected = off
        msg = (
            f"the cube's {name} is not the lattice of lake {lake.id!r} at {lake.spacing} m (256 pixels from "
            f"{expected[0]:.0f} to {expected[-1]:.0f} m); give the whole cube, and the lake at its spacing: "
            "lake.at_spacing(...)"
        )
        raise GridMismatch(msg)
