"""Blocks of passes: how a function of images in memory becomes one of lazy arrays."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import xarray as xr

from cubekit.errors import ConfigError, GridMismatch

if TYPE_CHECKING:
    from cubekit.lakes import Lake

DIMS = ("time", "y", "x")

PassFunction = Callable[..., npt.NDArray[np.float32]]
"""From images and where they are observed, both (time, y, x), to probabilities of the same shape."""


def map_passes(
    function: PassFunction, da: xr.DataArray, attrs: Mapping[str, Any], *constants: npt.NDArray[Any], batch: int = 1
) -> xr.DataArray:
    """Map a function over the passes of an array, lazily when the array or its `observed` is lazy.

    Parameters
    ----------
    function
        Gets whole images of some passes. It has to be picklable.
    da
        Dims (time, y, x), with the bool coordinate `observed`.
    attrs
        Added to those of `da`.
    constants
        Arrays (1, y, x) that are the same for all passes: further arguments of the function.
    batch
        Passes that the function wants at once at least, where the chunks of lazy data are smaller.

    Returns
    -------
    xarray.DataArray
        `probability`, float32, with the coordinates of `da`.

    Raises
    ------
    ConfigError
        When `da` has other dims, or no such coordinate.
    """
    observed = observed_of(da)
    if da.chunks is None and observed.chunks is None:
        probability = da.copy(data=function(da.data, observed.data, *constants))
    else:
        import dask.array

        # Whole images, passes chunked as they come; never one chunk of all passes when only `observed` is chunked.
        times = da.variable.chunksizes.get("time") or observed.variable.chunksizes["time"]
        whole: dict[str, Any] = {"time": times, "y": -1, "x": -1}
        given, seen = (each.variable.chunk(whole) for each in (da, observed))
        together = {0: _merged(given.chunksizes["time"], batch)}
        # The meta keeps dask from calling the function, and so from loading a model, while the graph is built.
        data = dask.array.map_blocks(
            function,
            given.data.rechunk(together),
            seen.data.rechunk(together),
            *(dask.array.from_array(constant, chunks=-1) for constant in constants),
            dtype=np.float32,
            meta=np.empty((0, 0, 0), np.float32),
        ).rechunk({0: given.chunksizes["time"]})
        # `observed` goes along in the same chunks: xarray takes no array whose parts are chunked differently.
        probability = da.copy(data=data).assign_coords(
            observed=seen if observed.chunks is not None else observed.variable
        )
    probability = probability.rename("probability")
    probability.encoding = {}  # how the input was stored, e.g. as uint8
    probability.attrs.pop("scale", None)  # the scale of the input's values
    probability.attrs |= {"long_name": "probability of water", "units": "1", **attrs}
    return probability


def _merged(chunks: Sequence[int], least: int) -> tuple[int, ...]:
    """Put neighbouring chunks together until each, but the last, has at least so many passes; none is cut."""
    merged: list[int] = []
    for chunk in chunks:
        if merged and merged[-1] < least:
            merged[-1] += chunk
        else:
            merged.append(chunk)
    return tuple(merged)


def on_lattice(mask: xr.DataArray, da: xr.DataArray, lake: Lake) -> npt.NDArray[Any]:
    """Cut the part of a lake's mask that an array covers; refuses arrays that don't lie on the lattice."""
    try:
        cut: npt.NDArray[Any] = mask.sel(y=da["y"], x=da["x"]).values
    except KeyError as error:
        rows, columns = lake.lattice.shape
        msg = (
            f"the array's y and x are not on the lattice of lake {lake.id!r} (EPSG:{lake.epsg}, {lake.spacing} m, "
            f"{rows} x {columns}); give what was made for this lake, or the lake .at_spacing() of the array"
        )
        raise GridMismatch(msg) from error
    return cut


def observed_of(da: xr.DataArray) -> xr.DataArray:
    """Where an array was observed; refuses arrays that are not as `map_passes` takes them."""
    if da.dims != DIMS:
        msg = f"segmentation takes dims {DIMS}, not {da.dims}; transpose(...) or expand_dims('time') first"
        raise ConfigError(msg)
    observed: xr.DataArray | None = da.coords.get("observed")
    if observed is None or observed.dims != DIMS or observed.dtype != np.bool_:
        given = "is missing" if observed is None else f"is {observed.dtype} with dims {observed.dims}"
        msg = (
            f"the coordinate 'observed' {given}; segmentation needs it as bool with dims {DIMS}, as prepare() makes it"
        )
        raise ConfigError(msg)
    return observed
