"""Speckle filters, and the number of looks they need. Linear power in, linear power out.

Holes stay holes: statistics are taken over the valid pixels of a window, no border is invented, and nothing is ever
reflected across missing data (design.md, rule 1).
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError
from cubekit.preprocess._checks import check_power, native, whole_images


def lee(da: xr.DataArray, *, window: int = 7, looks: float | None = None) -> xr.DataArray:
    """Filter speckle after Lee (1980), for multiplicative noise.

    A pixel becomes ``m + W (I - m)`` with ``W = Q / (Q + m² Cu²)`` and ``Q = max(0, (s² - m² Cu²) / (1 + Cu²))``, where
    m and s² are mean and variance of the valid pixels in the window around it, and ``Cu² = 1 / looks``.

    Parameters
    ----------
    da
        Linear power, floating point, with dims ``y`` and ``x`` and any others. What is not finite is no data.
    window
        Side of the square window, pixels: odd, at least 3. At an edge of `da` it is clipped.
    looks
        Equivalent number of looks of `da`. By default its attribute ``looks``.

    Returns
    -------
    xarray.DataArray
        float32, the same dims, coords and unit, NaN exactly where `da` is not finite. The attribute ``speckle_filter``
        reads e.g. ``lee 7x7``, ``filter_looks`` holds the looks used; ``looks`` goes, for it is no longer true.

    Raises
    ------
    ConfigError
        When `da` is not linear power in floating point on y and x, was filtered before, or `window` or `looks` is
        not allowed or not known.

    Notes
    -----
    Lazy where `da` is, for any chunks, with a halo of ``window // 2`` pixels; the result doesn't depend on them.

    References
    ----------
    J.-S. Lee, Digital image enhancement and noise filtering by use of local statistics, IEEE TPAMI 2 (1980).

    Examples
    --------
    >>> calm = xr.DataArray(np.full((4, 4), 0.02, np.float32), dims=("y", "x"), attrs={"scale": "linear power"})
    >>> filtered = lee(calm, window=3, looks=4.4)
    >>> bool((filtered == calm).all()), filtered.attrs["speckle_filter"]
    (True, 'lee 3x3')
    """
    return _filter(da, "lee", window, looks)


def enhanced_lee(
    da: xr.DataArray, *, window: int = 7, looks: float | None = None, damping: float = 1.0
) -> xr.DataArray:
    """Filter speckle with the enhanced Lee filter of Lopes et al. (1990).

    With ``Ci = s / m`` of the window, ``Cu = 1 / sqrt(looks)`` and ``Cmax = sqrt(1 + 2 / looks)``, a pixel becomes m
    where ``Ci <= Cu`` (homogeneous), stays as it is where ``Ci >= Cmax`` (a point target), and otherwise becomes
    ``m w + I (1 - w)`` with ``w = exp(-damping (Ci - Cu) / (Cmax - Ci))``. It blurs shores less than `lee`.

    Parameters
    ----------
    da
        Linear power, floating point, with dims ``y`` and ``x`` and any others. What is not finite is no data.
    window
        Side of the square window, pixels: odd, at least 3. At an edge of `da` it is clipped.
    looks
        Equivalent number of looks of `da`. By default its attribute ``looks``.
    damping
        At least 0; larger values smooth textured areas less.

    Returns
    -------
    xarray.DataArray
        float32, the same dims, coords and unit, NaN exactly where `da` is not finite. The attribute ``speckle_filter``
        reads e.g. ``enhanced lee 7x7 damping 1``, ``filter_looks`` holds the looks used; ``looks`` goes.

    Raises
    ------
    ConfigError
        As `lee`, and when `damping` is negative or not finite.

    Notes
    -----
    Lazy where `da` is, for any chunks, with a halo of ``window // 2`` pixels; the result doesn't depend on them.
    Where noise removal has left a negative mean, its magnitude counts.

    References
    ----------
    A. Lopes, R. Touzi and E. Nezry, Adaptive speckle filters and scene heterogeneity, IEEE TGRS 28 (1990).

    Examples
    --------
    >>> scatterer = xr.DataArray(np.full((5, 5), 0.02, np.float32), dims=("y", "x"))
    >>> scatterer[2, 2] = 100.0
    >>> filtered = enhanced_lee(scatterer, window=3, looks=4.4)
    >>> float(filtered[2, 2]), filtered.attrs["speckle_filter"]
    (100.0, 'enhanced lee 3x3 damping 1')
    """
    if isinstance(damping, bool) or not math.isfinite(damping) or damping < 0:
        msg = f"damping {damping!r} is not a number of at least 0; 1 is usual"
        raise ConfigError(msg)
    return _filter(da, "enhanced_lee", window, looks, damping=float(damping))


def equivalent_looks(da: xr.DataArray, inside: xr.DataArray, *, window: int = 7) -> xr.DataArray:
    """Measure the equivalent number of looks, mean² over variance on calm water, of each track.

    Parameters
    ----------
    da
        Linear power, not filtered, floating point, with dims ``y``, ``x`` and usually ``time``. NaN is no data.
    inside
        True on open water well off the shore (a lake's outline, eroded): bool, dims (y, x), on all of `da`'s pixels.
    window
        Side of the square windows in which mean and variance are taken, pixels: odd, at least 3.

    Returns
    -------
    xarray.DataArray
        float64, named ``looks``: dim ``track`` (sorted) where `da` has the coord ``track`` along time, otherwise
        without y, x and time. NaN where no window is valid and inside throughout.

    Raises
    ------
    ConfigError
        When `da` is not linear power in floating point on y and x, `inside` is not bool on its pixels, or the coord
        ``track`` isn't in memory.

    Notes
    -----
    Per pass the median of s²/m² over all windows that are full, which waves of brightness, ice and boats in some of
    them don't move; then the median over the passes of a track. For L looks and n independent pixels gamma speckle has
    exactly ``E[s²/m²] = (n - 1) / (n L + 1)`` (the shares of a sum of gamma variates have a Dirichlet distribution),
    which is solved for L. The median lies below the mean, so with a window of 7 L is 2 % high (4 % for one look; 1 %
    with a window of 9). Neighbours correlated by resampling make a window look calmer than the lake. Lazy where `da`
    is.

    Examples
    --------
    >>> speckle = np.random.default_rng(0).gamma(5.0, 0.02 / 5.0, (64, 64)).astype(np.float32)
    >>> inside = xr.DataArray(np.ones((64, 64), bool), dims=("y", "x"))
    >>> round(float(equivalent_looks(xr.DataArray(speckle, dims=("y", "x")), inside)))
    5
    """
    check_power(da, "equivalent_looks")
    halo = _halo(window)
    if inside.dtype != bool or set(inside.dims) != {"y", "x"}:
        msg = f"inside is {inside.dtype} with dims {inside.dims}; give a bool mask with dims ('y', 'x')"
        raise ConfigError(msg)
    try:
        inside = inside.sel({name: da[name] for name in ("y", "x") if name in da.indexes and name in inside.indexes})
    except KeyError as error:
        msg = "inside does not cover all pixels of the data; give a mask on their lattice, e.g. from lake.rasterize"
        raise ConfigError(msg) from error
    if any(inside.sizes[name] != da.sizes[name] for name in ("y", "x")):
        msg = f"inside has sizes {dict(inside.sizes)}, the data {dict(da.sizes)}; give a mask on their pixels"
        raise ConfigError(msg)
    per_pass = xr.apply_ufunc(
        _pass_looks,
        whole_images(da.variable),
        inside.variable,
        input_core_dims=[["y", "x"], ["y", "x"]],
        kwargs={"halo": halo},
        dask="parallelized",
        output_dtypes=[np.float64],
    )
    attrs = {"long_name": "equivalent number of looks", "units": "1"}
    if "time" not in da.dims:
        return xr.DataArray(per_pass, name="looks", attrs=attrs)
    if "track" not in da.coords or da["track"].dims != ("time",):
        return xr.DataArray(_median_over_time(per_pass), name="looks", attrs=attrs)
    if da["track"].chunks is not None:
        msg = "the coord track is lazy, and its values are needed now; load it first: da['track'].load()"
        raise ConfigError(msg)
    tracks = np.asarray(da["track"].variable)
    known = np.unique(tracks)
    each = [xr.DataArray(_median_over_time(per_pass.isel(time=np.flatnonzero(tracks == track)))) for track in known]
    return xr.concat(each, dim="track").assign_coords(track=known).rename("looks").assign_attrs(attrs)


def _filter(
    da: xr.DataArray, kind: str, window: int, looks: float | None, *, damping: float | None = None
) -> xr.DataArray:
    check_power(da, kind)
    before = da.attrs.get("speckle_filter", "none")
    if before != "none":
        msg = f"{kind}: the data is filtered already ({before}); do not filter twice, use it as it is"
        raise ConfigError(msg)
    halo = _halo(window)
    used = _looks(da, looks)
    options: dict[str, Any] = {
        "axes": (da.get_axis_num("y"), da.get_axis_num("x")),
        "halo": halo,
        "looks": used,
        "damping": math.nan if damping is None else damping,
    }
    filtered = da.copy(data=_filter_lazily(da.data, options) if da.chunks else _filter_block(da.values, **options))
    side = 2 * halo + 1
    name = f"{kind.replace('_', ' ')} {side}x{side}" + ("" if damping is None else f" damping {damping:g}")
    filtered.attrs = {key: value for key, value in da.attrs.items() if key != "looks"}
    filtered.attrs |= {"speckle_filter": name, "filter_looks": used}
    # How the input was stored (its dtype, chunks, fill value) says nothing about the result
    filtered.encoding = {}
    return filtered


def _filter_lazily(data: Any, options: dict[str, Any]) -> Any:
    import dask.array

    halo, axes = options["halo"], options["axes"]
    # An axis not longer than the halo must be one block; an axis of one block needs no halo
    data = data.rechunk({axis: -1 for axis in axes if data.shape[axis] <= halo})
    depth = {axis: halo if axis in axes and data.numblocks[axis] > 1 else 0 for axis in range(data.ndim)}
    return dask.array.map_overlap(
        _filter_block,
        data,
        depth=depth,
        boundary="none",
        dtype=np.float32,
        meta=np.empty((0,) * data.ndim, np.float32),
        **options,
    )


def _filter_block(
    block: NDArray[Any], *, axes: tuple[int, int], halo: int, looks: float, damping: float
) -> NDArray[np.float32]:
    from cubekit.preprocess import _kernels

    moved = np.moveaxis(block, axes, (-2, -1))
    stack = native(moved.reshape(-1, *moved.shape[-2:]))
    filtered = _kernels.filtered(stack, (0,) * (2 * halo + 1), looks, damping).reshape(moved.shape)
    return np.ascontiguousarray(np.moveaxis(filtered, (-2, -1), axes))


def _pass_looks(power: NDArray[Any], inside: NDArray[np.bool_], *, halo: int) -> NDArray[np.float64]:
    """Measure the looks of every image of (..., y, x)."""
    from cubekit.preprocess import _kernels

    inside, side = np.ascontiguousarray(inside), 2 * halo + 1
    out = np.full(power.shape[:-2], np.nan)
    for index in np.ndindex(out.shape):
        variation = _kernels.squared_variation(native(power[index]), inside, side)
        if variation.size:
            pixels = side**2
            middle = float(np.median(variation))
            out[index] = ((pixels - 1) / middle - 1) / pixels if middle > 0 else np.inf
    return out


def _median_over_time(per_pass: xr.Variable) -> xr.Variable:
    whole = per_pass.chunk({"time": -1}) if per_pass.chunks else per_pass
    median: xr.Variable = xr.apply_ufunc(
        _finite_median, whole, input_core_dims=[["time"]], dask="parallelized", output_dtypes=[np.float64]
    )
    return median


def _finite_median(values: NDArray[np.float64]) -> NDArray[np.float64]:
    out = np.full(values.shape[:-1], np.nan)
    for index in np.ndindex(out.shape):
        known = values[index][~np.isnan(values[index])]
        if known.size:
            out[index] = np.median(known)
    return out


def _halo(window: int) -> int:
    if isinstance(window, bool) or not isinstance(window, int | np.integer) or window < 3 or window % 2 == 0:
        msg = f"window {window!r} is not allowed; give an odd number of pixels of at least 3, e.g. 7"
        raise ConfigError(msg)
    return int(window) // 2


def _looks(da: xr.DataArray, looks: float | None) -> float:
    known = da.attrs.get("looks") if looks is None else looks
    if known is None:
        msg = (
            "the number of looks is not known: the data has no attribute 'looks'; give looks=..., "
            "e.g. 4.4 for Sentinel-1 IW GRD, or measure it with equivalent_looks"
        )
        raise ConfigError(msg)
    if isinstance(known, bool) or not math.isfinite(known) or known <= 0:
        msg = f"looks {known!r} is not allowed; give the equivalent number of looks, above 0, e.g. 4.4"
        raise ConfigError(msg)
    return float(known)
