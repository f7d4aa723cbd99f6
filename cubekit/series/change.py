"""Change of a lake: maps of what was gained and lost between two dates, and how far its front has moved."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError
from cubekit.lakes import Lake
from cubekit.series._front import Box, front_box, yearly_medians
from cubekit.series._front import positions as _positions
from cubekit.series._water import check, lake_water, masks, window
from cubekit.series.trend import trend

CHANGES = ("outside", "not_observed", "land", "water", "gained", "lost")
"""Classes of `water_change` by the order of their codes."""

OUTSIDE, NOT_OBSERVED, LAND, WATER, GAINED, LOST = range(6)


def water_change(
    before: xr.DataArray, after: xr.DataArray, lake: Lake, *, threshold: float = 0.5, across_tracks: bool = False
) -> xr.Dataset:
    """Map what became water and what ceased to be, between two passes.

    Parameters
    ----------
    before, after
        Probability of water, dims y and x, float, NaN where not observed, both on the same window of the lake's
        lattice: ``probability.sel(time=...)``, or a composite. numpy or dask, any chunks.
    lake
        Of the same spacing.
    threshold
        A pixel is wet from this probability on.
    across_tracks
        Two tracks see the same shore differently; passes of two are compared only if this is true.

    Returns
    -------
    xarray.Dataset
        ``change``
            uint8 over y and x, CF flags: 0 outside (not in the lake zone), 1 not observed (in one of the two, or it
            can't be told whether the water is this lake's), 2 land, 3 water, 4 gained, 5 lost.
        ``gained_km2``, ``lost_km2``, ``water_km2``, ``not_observed_km2``
            Their areas, float64; the last also holds what of the zone lies outside of the given window. Gained and lost
            are what was seen in both: with a part not observed, lower bounds.

    Raises
    ------
    ConfigError
        When dims, dtype or `threshold` are wrong, or the passes are of two tracks and `across_tracks` is false.
    GridMismatch
        When the pixels are not those of the lake's lattice, or not the same in both.
    LakeError
        When the outline holds no pixel centre.

    Notes
    -----
    Lazy; y and x are merged into one chunk. Water is this lake's where it is connected to the outline over edges, as
    in `lake_area`. A gap is no dam: wet pixels that only a gap cuts off are not observed, not lost.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> gokyo = catalogue()["gokyo"]
    >>> whole = gokyo.outline_mask.astype("float32")
    >>> half = whole.where(whole.x < float(whole.x.mean()), 0)
    >>> found = water_change(whole, half, gokyo)
    >>> round(float(found["lost_km2"] + found["water_km2"]), 4), float(found["gained_km2"])
    (0.4499, 0.0)
    """
    for one in (before, after):
        if set(one.dims) != {"y", "x"}:
            msg = (
                f"a pass has the dims {one.dims}; give one of dims y and x, e.g. by probability.sel(time='2021-07-21')"
            )
            raise ConfigError(msg)
        check(one.expand_dims("time"), threshold)
    _check_tracks(before, after, across_tracks)
    rows, columns = window(before, lake)
    if (rows, columns) != window(after, lake):
        msg = "the two passes cover different windows of the lattice; cut both to the same one"
        raise ConfigError(msg)
    zone, outline = masks(lake, rows, columns)
    outer = int(np.count_nonzero(lake.zone_mask)) - int(np.count_nonzero(zone))
    results = xr.apply_ufunc(
        _compare,
        _whole(before),
        _whole(after),
        xr.Variable(("y", "x"), zone),
        xr.Variable(("y", "x"), outline),
        kwargs={"threshold": float(threshold), "pixel_km2": lake.pixel_km2, "outer": outer},
        input_core_dims=[["y", "x"]] * 4,
        output_core_dims=[["y", "x"], [], [], [], []],
        dask="parallelized",
        output_dtypes=[np.uint8, *[np.float64] * 4],
    )
    change, *areas = results
    change.attrs = {
        "long_name": "change of water",
        "flag_values": np.arange(len(CHANGES), dtype=np.uint8),
        "flag_meanings": " ".join(CHANGES),
    }
    names = ("gained_km2", "lost_km2", "water_km2", "not_observed_km2")
    long_names = ("area gained", "area lost", "water in both", "lake zone not observed in both")
    for area, long_name in zip(areas, long_names, strict=True):
        area.attrs = {"long_name": long_name, "units": "km2"}
    # Scalar coordinates are of one pass each; only those of the grid are of both.
    grid = before.coords.to_dataset()
    kept = grid.drop_vars([name for name in grid.coords if name not in ("y", "x", "spatial_ref")])
    attrs = {"lake": lake.id, "spacing": lake.spacing, "threshold": float(threshold)}
    for role, one in (("before", before), ("after", after)):
        attrs |= {f"{role}_{name}": str(one[name].values) for name in ("time", "track") if _scalar(one, name)}
    return kept.assign({"change": change, **dict(zip(names, areas, strict=True))}).assign_attrs(attrs)


def front_position(
    probability: xr.DataArray, lake: Lake, *, toward: float, threshold: float = 0.5, min_observed: float = 0.9
) -> xr.Dataset:
    """Position of a lake's front along its axis at every pass.

    Parameters
    ----------
    probability
        As for `lake_area`: dims time, y and x, NaN where not observed, on the lake's lattice. numpy or dask, any
        chunks.
    lake
        Of the same spacing.
    toward
        Where the front is, seen from the lake's middle: degrees clockwise from grid north (90 is east). The axis is
        that of the half of the outline on this side; the bearing only chooses the end.
    threshold
        A pixel is wet from this probability on.
    min_observed
        Share of the box that must be observed for a position.

    Returns
    -------
    xarray.Dataset
        Over time, float64, with the coordinates along time of the input:

        ``position``
            Metres along the axis from the outline's middle to the front, the mean across the box. NaN where too little
            was observed, or the front has left the box.
        ``position_low``, ``position_high``
            Half a pixel to either side, and what was not observed as land or as water.
        ``observed_fraction``
            Of the box.

        Attributes: ``axis_bearing`` (degrees), ``box_width``, ``box_length`` (metres).

    Raises
    ------
    ConfigError
        When dims, dtype, `threshold` or `min_observed` are wrong, or `toward` points across the axis.
    GridMismatch, LakeError
        As `lake_area`.

    Notes
    -----
    The box method of glacier fronts (Moon & Joughin 2008; Lea et al. 2014): the area of the lake in a box around the
    axis, half as wide as the lake, from its middle to a kilometre beyond its end, divided by the width. A whole front
    counts, not one point of it, so its position is better known than a pixel. Not observed pixels count as water up to
    the position that the others give.

    Lazy; y and x are merged into one chunk a pass.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> lake = catalogue()["tsho_rolpa"]
    >>> times = np.array(["2021-07-21"], "datetime64[s]")
    >>> front = front_position(lake.outline_mask.astype("float32").expand_dims(time=times), lake, toward=120)
    >>> round(float(front["position"][0]), -2)
    2000.0
    """
    check(probability, threshold)
    if not 0 < min_observed <= 1:
        msg = f"min_observed {min_observed} is not above 0 and up to 1; 0.9 means nine tenths of the box"
        raise ConfigError(msg)
    rows, columns = window(probability, lake)
    zone, outline = masks(lake, rows, columns)
    box: Box = front_box(lake, toward)
    results = xr.apply_ufunc(
        _positions,
        _whole(probability),
        xr.Variable(("y", "x"), zone),
        xr.Variable(("y", "x"), outline),
        xr.Variable(("y", "x"), box.along[rows, columns]),
        kwargs={
            "threshold": float(threshold),
            "box_pixels": int(np.count_nonzero(~np.isnan(box.along))),
            "length": box.length,
            "spacing": float(lake.spacing),
            "min_observed": float(min_observed),
        },
        input_core_dims=[["y", "x"]] * 4,
        output_core_dims=[[]] * 4,
        dask="parallelized",
        output_dtypes=[np.float64] * 4,
    )
    names = {
        "position": ("position of the front along the axis", "m"),
        "position_low": ("position of the front, lower bound", "m"),
        "position_high": ("position of the front, upper bound", "m"),
        "observed_fraction": ("observed fraction of the box", "1"),
    }
    for result, (long_name, units) in zip(results, names.values(), strict=True):
        result.attrs = {"long_name": long_name, "units": units}
    coords = probability.coords.to_dataset()
    kept = coords.drop_vars([name for name in coords.coords if coords[name].dims != ("time",)])
    kept = kept.drop_indexes([name for name in kept.xindexes if str(name) != "time"])
    return kept.assign(dict(zip(names, results, strict=True))).assign_attrs(
        lake=lake.id,
        lake_title=lake.title,
        axis_bearing=box.bearing,
        box_width=box.width,
        box_length=box.length,
        threshold=float(threshold),
    )


def front_rate(front: xr.Dataset) -> xr.Dataset:
    """How fast a front moves, per track.

    Parameters
    ----------
    front
        What `front_position` returns, with the coordinate ``track``; choose the passes first (those of the summer, or
        of open water).

    Returns
    -------
    xarray.Dataset
        What `trend` returns, over ``track``: ``slope`` in m per year with its 95 % interval, ``p_value``, ``n`` (years)
        and a verdict, of the medians of each year's positions.

    Raises
    ------
    ConfigError
        When the positions or their tracks are absent, there is none of them, or the tracks are lazy.

    Notes
    -----
    Per track, as each has its own view of the front. Lazy.

    Examples
    --------
    >>> times = np.arange("2015-07-15", "2025-07-15", 366, dtype="datetime64[D]").astype("datetime64[ns]")
    >>> metres = ("time", 1000 + 20.0 * np.arange(times.size), {"units": "m"})
    >>> front = xr.Dataset({"position": metres}, {"time": times, "track": ("time", np.full(times.size, 121))})
    >>> front_rate(front)["slope"].values.tolist()
    [20.0]
    """
    return trend(yearly_medians(front))


def _compare(
    before: NDArray[Any],
    after: NDArray[Any],
    zone: NDArray[np.bool_],
    outline: NDArray[np.bool_],
    *,
    threshold: float,
    pixel_km2: float,
    outer: int,
) -> tuple[NDArray[np.uint8], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """Give the map, and the areas of gained, lost, water and not observed."""
    wet, known = zip(*(_told(one, zone, outline, threshold) for one in (before, after)), strict=True)
    change = np.where(zone, np.uint8(NOT_OBSERVED), np.uint8(OUTSIDE))
    both = zone & known[0] & known[1]
    for code, was, became in ((LAND, False, False), (WATER, True, True), (GAINED, False, True), (LOST, True, False)):
        change[both & (wet[0] == was) & (wet[1] == became)] = code
    counts = np.bincount(change.ravel(), minlength=len(CHANGES)).astype(np.float64)
    counts[NOT_OBSERVED] += outer
    gained, lost, water, unknown = (
        np.asarray(counts[code] * pixel_km2) for code in (GAINED, LOST, WATER, NOT_OBSERVED)
    )
    return change, gained, lost, water, unknown


def _told(
    probability: NDArray[Any], zone: NDArray[np.bool_], outline: NDArray[np.bool_], threshold: float
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """Tell which pixels are this lake's water, and of which this is known."""
    observed = ~np.isnan(probability)
    water = lake_water(np.where(observed, probability, 0.0), zone & observed, outline, threshold)
    possible = lake_water(np.where(observed, probability, 1.0), zone, outline, threshold)
    return water, observed & (water | ~possible)


def _whole(array: xr.DataArray) -> xr.Variable:
    return array.variable if array.chunks is None else array.variable.chunk({"y": -1, "x": -1})


def _scalar(array: xr.DataArray, name: str) -> bool:
    return name in array.coords and array[name].ndim == 0


def _check_tracks(before: xr.DataArray, after: xr.DataArray, across_tracks: bool) -> None:
    if across_tracks or not (_scalar(before, "track") and _scalar(after, "track")):
        return
    tracks = [str(one["track"].values) for one in (before, after)]
    if tracks[0] != tracks[1]:
        msg = (
            f"the passes are of the tracks {tracks[0]} and {tracks[1]}, which see the shore differently: take two of "
            "one track, or give across_tracks=True"
        )
        raise ConfigError(msg)
