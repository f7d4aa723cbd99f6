"""The shore that a track never sees, completed from the other tracks' outlines, and what each track sees."""

from __future__ import annotations

import operator
from functools import reduce
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from cubekit.cube.schema import BOTH, LAYOVER, NO_DATA, SHADOW
from cubekit.cube.schema import observed as observed_in
from cubekit.errors import ConfigError
from cubekit.lakes import Lake
from cubekit.series._water import check, masks, window
from cubekit.series.area import lake_area

NEVER = 0.1
"""Share of a track's passes below which a pixel counts as never seen by it, of the share of its best seen pixel."""

ENOUGH = 0.9
"""Share of what the best track sees of the lake, from which a track is recommended."""


def track_views(passes: xr.Dataset, lake: Lake, *, polarisation: str = "vv") -> xr.Dataset:
    """What each track sees of a lake, what hides the rest, and which tracks to use.

    Parameters
    ----------
    passes
        A cube on the lattice of `lake`, or a window of it, with ``mask`` and ``track`` (in memory).
    lake
        The lake, at the spacing of the cube.
    polarisation
        ``vv`` or ``vh``.

    Returns
    -------
    xarray.Dataset
        By track:

        ``zone_seen``, ``outline_seen``
            Share of the lake zone, and of the lake's outline, that the track sees: pixels that it observed in at least
            a tenth as many passes as its best seen pixel.
        ``layover``, ``shadow``, ``no_data``
            Mean share of the zone that the mask marks so; what is both counts as layover and as shadow.
        ``passes``
            int32.
        ``recommended``
            bool: it sees at least 0.9 of what the best track sees of the outline. Areas of the others should be
            completed (`completed_area`) or left out.

    Raises
    ------
    ConfigError
        When ``mask``, ``track`` or the polarisation is absent, or ``track`` is lazy.
    GridMismatch
        When the pixels are not those of the lake's lattice.
    LakeError
        When the outline holds no pixel centre.

    Notes
    -----
    Lazy with dask.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> lake = catalogue()["gokyo"]
    >>> power = xr.full_like(lake.outline_mask, 0.01, dtype="float32").expand_dims(time=2)
    >>> ds = xr.Dataset({"vv": power, "mask": xr.zeros_like(power, dtype="uint8")})
    >>> views = track_views(ds.assign_coords(track=("time", [12, 121])), lake)
    >>> views["outline_seen"].values.tolist(), views["recommended"].values.tolist()
    ([1.0, 1.0], [True, True])
    """
    if "mask" not in passes:
        msg = "the passes lack mask; give a cube, as open_cube gives it"
        raise ConfigError(msg)
    tracks, codes = _tracks(passes)
    seen = observed_in(passes, polarisation)
    rows, columns = window(seen, lake)
    zone, outline = masks(lake, rows, columns)
    dims = ("y", "x")
    in_zone, in_outline = xr.DataArray(zone, dims=dims), xr.DataArray(outline, dims=dims)
    whole = {"zone": int(lake.zone_mask.sum()), "outline": int(lake.outline_mask.sum())}
    hidden = {"layover": (LAYOVER, BOTH), "shadow": (SHADOW, BOTH), "no_data": (NO_DATA,)}
    columns_: dict[str, list[xr.DataArray]] = {name: [] for name in ("zone_seen", "outline_seen", *hidden)}
    for code in range(len(tracks)):
        members = np.flatnonzero(codes == code)
        sight = ~_blind(seen.isel(time=members))
        columns_["zone_seen"].append((sight & in_zone).sum(dims) / whole["zone"])
        columns_["outline_seen"].append((sight & in_outline).sum(dims) / whole["outline"])
        mask = passes["mask"].isel(time=members)
        for name, values in hidden.items():
            columns_[name].append((mask.isin(values) & in_zone).mean("time").sum(dims) / whole["zone"])
    words = {
        "zone_seen": "share of the lake zone that the track sees",
        "outline_seen": "share of the lake's outline that the track sees",
        "layover": "mean share of the lake zone in layover",
        "shadow": "mean share of the lake zone in shadow",
        "no_data": "mean share of the lake zone without data",
    }
    found = xr.Dataset(coords={"track": ("track", tracks, dict(passes["track"].attrs))}, attrs={"lake": lake.id})
    for name, parts in columns_.items():
        variable = xr.concat(parts, "track")
        found[name] = ("track", variable.astype(np.float64).data, {"long_name": words[name], "units": "1"})
    found["passes"] = ("track", np.bincount(codes).astype(np.int32), {"long_name": "passes", "units": "1"})
    best = found["outline_seen"].max()
    found["recommended"] = (found["outline_seen"] >= ENOUGH * best).assign_attrs(long_name="whether to use this track")
    return found


def complete(
    probability: xr.DataArray, lake: Lake, *, outlines: xr.DataArray | None = None, past_only: bool = False
) -> xr.DataArray:
    """Fill in what a track never sees with what the other tracks saw there, nearest in years.

    Parameters
    ----------
    probability
        As in `lake_area`, with the coordinate ``track`` in memory.
    lake
        Of the same spacing as the probability.
    outlines
        bool over time: the passes that others may be completed from, e.g. ``states.state == 1`` (open water). By
        default all.
    past_only
        Complete from years before that of the pass only, for near-real-time.

    Returns
    -------
    xarray.DataArray
        As `probability`, float; in the lake zone, pixels that were not observed and that this track never sees (in less
        than a tenth as many passes as its best seen pixel) are the mean of the other tracks in the nearest year, the
        earlier of two. The bool coordinate ``completed`` marks them, ``observed`` marks them and what was observed.
        What no other track saw stays NaN; so does what is missing by chance only, from this pass alone.

    Raises
    ------
    ConfigError, GridMismatch, LakeError
        As `lake_area`; when ``track`` is absent or lazy, time holds no dates, or `outlines` is not bool over time.

    Notes
    -----
    Lazy with dask: one mean a track and year is shared by all passes. What a track never sees is the terrain's doing
    and is taken from all of its passes, with `past_only` too.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> lake = catalogue()["gokyo"]
    >>> whole = lake.outline_mask.astype("float32")
    >>> half = whole.where(whole["x"] < whole["x"].where(whole > 0).mean())
    >>> both = xr.concat([whole, half], "time").assign_coords(
    ...     time=np.array(["2021-07-01", "2021-07-02"], "datetime64[s]"), track=("time", [121, 12])
    ... )
    >>> filled = complete(both, lake)
    >>> bool((filled.isel(time=1) == whole).where(lake.zone_mask, True).all())
    True
    """
    check(probability, 0.5)
    rows, columns = window(probability, lake)
    zone = xr.DataArray(masks(lake, rows, columns)[0], dims=("y", "x"))
    tracks, codes = _tracks(probability)
    times = probability.indexes.get("time")
    if not isinstance(times, pd.DatetimeIndex):
        msg = f"time is {probability['time'].dtype}; completing from the nearest year needs dates (datetime64)"
        raise ConfigError(msg)
    usable = _usable(outlines, len(times))
    years = times.year.to_numpy()
    # Coordinates that may be lazy are left out of what follows: comparing them would load them
    bare = xr.DataArray(probability.variable, dims=probability.dims).transpose("time", "y", "x")
    if "observed" in probability.coords:
        seen = xr.DataArray(probability.coords["observed"].variable).transpose("time", "y", "x")
    else:
        seen = bare.notnull()
    blind = [_blind(seen.isel(time=np.flatnonzero(codes == code))) for code in range(len(tracks))]
    means = {
        (code, year): _mean(bare.isel(time=members))
        for code in range(len(tracks))
        for year in np.unique(years)
        if (members := np.flatnonzero((codes == code) & (years == year) & usable)).size
    }
    parts: list[xr.DataArray] = []
    targets: dict[tuple[int, int], int] = {}
    for code, year in sorted({(int(code), int(year)) for code, year in zip(codes, years, strict=True)}):
        near = sorted({other for _, other in means if not past_only or other < year}, key=lambda y: (abs(y - year), y))
        filling = xr.full_like(blind[code], np.nan, dtype=bare.dtype)
        for other in near:
            sums = [mean for (track, when), mean in means.items() if when == other and track != code]
            if sums:
                total, count = (reduce(operator.add, [part[place] for part in sums]) for place in (0, 1))
                filling = filling.where(filling.notnull(), total / count.where(count > 0))
        targets[code, year] = len(parts)
        parts.append(filling.where(blind[code] & zone).astype(bare.dtype))
    which = np.array([targets[int(code), int(year)] for code, year in zip(codes, years, strict=True)])
    fillings = xr.concat(parts, "time").isel(time=which)
    completed = ~seen & fillings.notnull()
    filled = bare.where(~completed, fillings).transpose(*probability.dims)
    result = probability.copy(data=filled.data)
    known = (seen | completed).transpose(*probability.dims)
    return result.assign_coords(observed=known.variable, completed=completed.transpose(*probability.dims).variable)


def completed_area(
    probability: xr.DataArray,
    lake: Lake,
    *,
    threshold: float = 0.5,
    block: float | None = None,
    outlines: xr.DataArray | None = None,
    past_only: bool = False,
) -> xr.Dataset:
    """Area of a lake at every pass, completed for the shore that its track never sees.

    Parameters
    ----------
    probability, lake, threshold, block
        As in `lake_area`.
    outlines, past_only
        As in `complete`.

    Returns
    -------
    xarray.Dataset
        As `lake_area` gives it, of the completed probability, and:

        ``area_seen_km2``
            The area of what was seen alone.
        ``completed_km2``
            float64: lake zone that was completed, be it water or not.
        ``completed``
            bool: whether anything was.

        ``observed_fraction`` and ``not_observed_km2`` stay those of what was seen: completing is no observing.

    Raises
    ------
    ConfigError, GridMismatch, LakeError
        As `complete` and `lake_area`.

    Notes
    -----
    Lazy with dask. A shore from another year is where it was then: a front that moves where a track doesn't see it
    moves once a year. The probabilities of other tracks widen the interval by what they were unsure of, not by that.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> lake = catalogue()["gokyo"]
    >>> whole = lake.outline_mask.astype("float32")
    >>> half = whole.where(whole["y"] < whole["y"].where(whole > 0).mean() + 150)
    >>> both = xr.concat([whole, half], "time").assign_coords(
    ...     time=np.array(["2021-07-01", "2021-07-02"], "datetime64[s]"), track=("time", [121, 12])
    ... )
    >>> area = completed_area(both, lake)
    >>> area["area_km2"].values.round(2).tolist(), area["completed"].values.tolist()
    ([0.45, 0.45], [False, True])
    """
    filled = complete(probability, lake, outlines=outlines, past_only=past_only)
    rows, columns = window(probability, lake)
    zone = xr.DataArray(masks(lake, rows, columns)[0], dims=("y", "x"))
    area = lake_area(filled.drop_vars("completed"), lake, threshold=threshold, block=block)
    seen = lake_area(probability, lake, threshold=threshold, block=block)
    marked = xr.DataArray(filled["completed"].variable)
    square = (marked & zone).sum(("y", "x")).variable * lake.pixel_km2
    square.attrs = {"long_name": "lake zone completed from other tracks", "units": "km2"}
    flag = square > 0
    flag.attrs = {"long_name": "whether the area was completed from other tracks"}
    area_seen = seen["area_km2"].variable.copy(deep=False)
    area_seen.attrs = {**area_seen.attrs, "long_name": "lake area of what was seen"}
    kept = {name: seen[name].variable for name in ("observed_fraction", "not_observed_km2")}
    return area.assign({"area_seen_km2": area_seen, "completed_km2": square, "completed": flag, **kept})


def _tracks(data: xr.Dataset | xr.DataArray) -> tuple[NDArray[Any], NDArray[np.int64]]:
    if "track" not in data.coords or data["track"].chunks is not None:
        given = "is lazy" if "track" in data.coords else "is absent"
        msg = f"the coordinate track {given}; what is seen depends on it: give it, in memory (assign_coords(track=...))"
        raise ConfigError(msg)
    tracks, codes = np.unique(data["track"].to_numpy(), return_inverse=True)
    return tracks, codes.astype(np.int64)


def _usable(outlines: xr.DataArray | None, count: int) -> NDArray[np.bool_]:
    if outlines is None:
        return np.ones(count, bool)
    if outlines.dtype != bool or outlines.shape != (count,) or outlines.chunks is not None:
        msg = (
            f"outlines is {outlines.dtype} of shape {outlines.shape}; give a bool for each of {count} passes, in memory"
        )
        raise ConfigError(msg)
    return outlines.to_numpy()


def _blind(seen: xr.DataArray) -> xr.DataArray:
    """Pixels that a track never sees: of one that saw nothing at all, all of them."""
    share = seen.mean("time")
    return share <= NEVER * share.max(("y", "x"))


def _mean(probability: xr.DataArray) -> tuple[xr.DataArray, xr.DataArray]:
    """Sum and count of what is known of some passes."""
    known = probability.notnull()
    return probability.where(known, 0).sum("time"), known.sum("time")
