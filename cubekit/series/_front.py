"""The box in which a lake's front is measured, and the positions in it. Plain numpy, but for the yearly medians."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError
from cubekit.lakes import Lake
from cubekit.series._water import lake_water, masks

BEYOND_M = 1000.0
"""How far the box reaches beyond the end of the outline, metres."""

WIDTH = 0.5
"""Of the box, by the mean width of the lake: its sides stay clear of the shores along the lake."""

ACROSS = 60.0
"""Degrees from the axis at which a bearing no longer tells its end."""

BEND = 45.0
"""Degrees that the half at the front may be turned against the whole lake."""


class Box(NamedTuple):
    """The box of a front."""

    along: NDArray[np.float64]
    """Metres from the middle of the lake along the axis, of the pixels in the box, on the whole lattice; else NaN."""

    bearing: float
    """Of the axis, degrees clockwise from grid north."""

    width: float
    length: float
    """Metres."""


def front_box(lake: Lake, toward: float) -> Box:
    """Lay the box along the half of the outline that ends at the front.

    Raises
    ------
    ConfigError
        When the bearing points across the lake's axis, or is no number.
    """
    if not np.isfinite(toward):
        msg = f"toward is {toward}; give a bearing in degrees clockwise from north, e.g. 90 for a front in the east"
        raise ConfigError(msg)
    _, outline = masks(lake, slice(None), slice(None))
    mask = lake.outline_mask
    x, y = (np.asarray(values, np.float64) for values in np.meshgrid(mask["x"].values, mask["y"].values))
    points = np.stack([x[outline], y[outline]], axis=1)
    wanted = np.array([np.sin(np.deg2rad(toward)), np.cos(np.deg2rad(toward))])
    middle = points.mean(axis=0)
    axis = _main_axis(points, wanted)
    if axis @ wanted < np.cos(np.deg2rad(ACROSS)):
        bearing = _bearing(axis)
        msg = (
            f"toward is {toward:g} degrees, but the axis of {lake.id!r} runs from {(bearing + 180) % 360:.0f} to "
            f"{bearing:.0f}; give the one of these where the front is"
        )
        raise ConfigError(msg)
    half = points[(points - middle) @ axis > 0]
    # A lake may bend: the half at the front has an axis of its own, unless it is wider than long.
    own = _main_axis(half, axis)
    axis = own if own @ axis > np.cos(np.deg2rad(BEND)) else axis
    centre = half.mean(axis=0)
    ahead = (half - centre) @ axis
    start, end = float(ahead.min()), float(ahead.max())
    lake_width = len(half) * lake.spacing**2 / (end - start + lake.spacing)
    width = max(WIDTH * lake_width, 3.0 * lake.spacing)
    along = (x - centre[0]) * axis[0] + (y - centre[1]) * axis[1]
    across = (x - centre[0]) * axis[1] - (y - centre[1]) * axis[0]
    window = np.zeros(outline.shape, np.bool_)
    window[lake.aoi_window] = True
    strip = (np.abs(across) <= width / 2) & (along >= start)
    # Whole to its end: where the AOI cuts a corner off, the box ends before it.
    cut = along[strip & ~window]
    stop = min(end + BEYOND_M, float(cut.min()) - lake.spacing / 2 if cut.size else np.inf)
    inside, length = strip & (along <= stop), stop - start
    return Box(np.where(inside, along - start, np.nan), _bearing(axis), float(width), length)


def positions(
    stack: NDArray[Any],
    zone: NDArray[np.bool_],
    outline: NDArray[np.bool_],
    along: NDArray[np.float64],
    *,
    threshold: float,
    box_pixels: int,
    length: float,
    spacing: float,
    min_observed: float,
) -> tuple[NDArray[np.float64], ...]:
    """Position, lower and upper bound, metres, and observed fraction of the box, of every pass."""
    flat = stack.reshape(-1, *stack.shape[-2:])
    results = np.full((4, len(flat)), np.nan)
    inside = ~np.isnan(along)
    metres = length / box_pixels  # of the front, per pixel of the box
    for index, probability in enumerate(flat):
        observed = ~np.isnan(probability)
        water = lake_water(np.where(observed, probability, 0.0), (zone | inside) & observed, outline, threshold)
        seen = int(np.count_nonzero(inside & observed))
        results[3, index] = seen / box_pixels
        if seen < min_observed * box_pixels:
            continue
        count = float(np.count_nonzero(water & inside))
        unknown = np.sort(along[inside & ~observed])
        outer = box_pixels - int(np.count_nonzero(inside))
        place = _filled(count, unknown, metres)
        if place > length - 2 * spacing:
            continue
        results[0, index] = place
        results[1, index] = max(count * metres - spacing / 2, 0.0)
        results[2, index] = min((count + unknown.size + outer) * metres + spacing / 2, length)
    return tuple(row.reshape(stack.shape[:-2]) for row in results)


def yearly_medians(front: xr.Dataset) -> xr.DataArray:
    """Medians of the positions of each track and year, dims track and year.

    Raises
    ------
    ConfigError
        When the positions or their tracks are absent, there is none of them, or the tracks are lazy.
    """
    if absent := [name for name in ("position", "time", "track") if name not in front.variables]:
        msg = f"the front lacks {', '.join(absent)}; give what front_position returns for passes of a cube"
        raise ConfigError(msg)
    times = front.indexes.get("time")
    if not isinstance(times, pd.DatetimeIndex) or not len(times):
        msg = f"the front has {front.sizes.get('time', 0)} passes with dates; choose at least one"
        raise ConfigError(msg)
    if front["track"].chunks is not None:
        msg = "track is lazy, but lays out the result; load it first: front.assign_coords(track=front.track.load())"
        raise ConfigError(msg)
    tracks, codes = np.unique(front["track"].to_numpy(), return_inverse=True)
    years = np.arange(times.year.min(), times.year.max() + 1)
    groups = codes * len(years) + times.year.to_numpy() - years[0]
    position = front["position"].variable
    medians = xr.apply_ufunc(
        _medians,
        position if position.chunks is None else position.chunk({"time": -1}),
        xr.Variable("time", groups),
        kwargs={"shape": (len(tracks), len(years))},
        input_core_dims=[["time"]] * 2,
        output_core_dims=[["track", "year"]],
        dask="parallelized",
        output_dtypes=[np.float64],
        dask_gufunc_kwargs={"output_sizes": {"track": len(tracks), "year": len(years)}},
    )
    medians.attrs = {"long_name": "median position of the front", "units": "m"}
    return xr.DataArray(medians, {"track": tracks, "year": years}, name="position")


def _medians(
    position: NDArray[np.float64], groups: NDArray[np.int64], *, shape: tuple[int, int]
) -> NDArray[np.float64]:
    medians = np.full(shape, np.nan)
    for group in np.unique(groups):
        values = position[(groups == group) & ~np.isnan(position)]
        if values.size:
            medians[np.unravel_index(group, shape)] = np.median(values)
    return medians


def _filled(count: float, unknown: NDArray[np.float64], metres: float) -> float:
    """Position when unknown pixels nearer than it are water."""
    place = count * metres
    while True:
        further = (count + np.searchsorted(unknown, place)) * metres
        if further <= place:
            return place
        place = float(further)


def _main_axis(points: NDArray[np.float64], toward: NDArray[np.float64]) -> NDArray[np.float64]:
    """Unit vector of the largest spread, in the sense of another vector."""
    _, vectors = np.linalg.eigh(np.cov(points.T))
    axis: NDArray[np.float64] = vectors[:, -1]
    return axis if axis @ toward >= 0 else -axis


def _bearing(axis: NDArray[np.float64]) -> float:
    return float(np.rad2deg(np.arctan2(axis[0], axis[1])) % 360)
