"""One series of a lake from all its tracks: offsets and noise of each estimated together, steps tested, none pooled."""

from __future__ import annotations

from functools import partial
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError, NoObservations
from cubekit.series._state_space import CLIP, as_years, fit
from cubekit.series._steps import find_steps
from cubekit.series.area import MAYBE_OPEN
from cubekit.series.season import MIN_OBSERVED

COVARIATES = ("platform", "processor")
"""Coordinates along time whose changes are tested for steps, where they are there."""

LEVEL = 0.01
"""Level of the tests of all steps of a lake together (Holm 1979). Strict: a step that is found is taken out, and taking
out one that was none costs more than a second track gains."""

FEWEST = 5
"""Passes with a known area without which nothing is fused; and a platform has to have for a test."""

_NORMAL = 1.959964
_AS_MUCH = 0.05
"""Observed fractions of the lake zone that differ by less say nothing on which track sees more of the lake itself."""
_SEASONAL_MONTHS, _SEASONAL_YEARS = 8, 3
_LONG_NAMES = {
    "area_km2": ("fused lake area, at the level of the reference track", "km2"),
    "area_low": ("fused lake area, lower end of its 95 % interval", "km2"),
    "area_high": ("fused lake area, upper end of its 95 % interval", "km2"),
    "covariance": ("covariance of the fused areas", "km4"),
    "weight": ("weight of the pass in the fused series", "1"),
    "gap_days": ("time to the nearest pass that was used", "days"),
    "offset": ("area of the track minus that of the reference track", "km2"),
    "offset_low": ("lower end of the offset's 95 % interval", "km2"),
    "offset_high": ("upper end of the offset's 95 % interval", "km2"),
    "drift": ("change of the offset", "km2 year-1"),
    "noise": ("standard deviation of a pass of the track", "km2"),
    "passes": ("passes used", "1"),
    "seen": ("largest observed fraction of the lake zone", "1"),
    "level_error": ("standard deviation of areas by their own intervals, median over passes", "km2"),
    "reference": ("whether the fused series has the level of this track", None),
    "step_size": ("step of the area", "km2"),
    "step_low": ("lower end of the step's 95 % interval", "km2"),
    "step_high": ("upper end of the step's 95 % interval", "km2"),
    "step_p": ("two-sided p of the step, Holm's for all steps of the lake", "1"),
    "step_passes": ("passes used", "1"),
    "step_found": ("whether there is a step", None),
}


class _Layout(NamedTuple):
    """What the coordinates say: names of tracks and of further levels of covariates, and the code of every pass."""

    tracks: list[str]
    track: NDArray[np.intp]
    steps: list[str]
    indicators: NDArray[np.bool_]  # (step, time)
    levels: list[NDArray[np.intp]]  # of each covariate, the code of every pass
    first_step: list[int]  # of each covariate, where its levels begin among the steps


def fuse(area: xr.Dataset, *, min_observed: float = MIN_OBSERVED) -> xr.Dataset:
    """Fuse the areas of all tracks into one series, at the level of the track that sees most of the lake.

    Parameters
    ----------
    area
        What `lake_area` or `join_areas` returns, over time, with the coordinate ``track`` in memory, and of one lake.
        Where it has the coordinates ``source``, ``platform`` or ``processor`` along time they are taken into account:
        a track of two sources counts as two; changes of platform and processor are tested. Areas of `completed_area`,
        which has ``area_seen_km2`` too, are expected to have one level, see Notes.
    min_observed
        Passes that saw less than this share of the most that their track has ever seen of the lake zone are not used,
        nor those of an ice-covered, snow-covered or rough lake (``state``), nor those without an area.

    Returns
    -------
    xarray.Dataset
        Over time, at all passes, also those not used:

        ``area_km2``, ``area_low``, ``area_high``
            float64, km2: the fused area and its 95 % interval, given the level of the reference track.
        ``covariance``
            km4, dims time and ``time_other``, of the fused areas: neighbours share their error.
        ``weight``
            How much of a pass was believed: 1, less where it lies more than 3 standard deviations off, 0 unused.
        ``gap_days``
            Days to the nearest pass that was used.

        Over ``track`` (strings):

        ``offset``, ``offset_low``, ``offset_high``
            km2, of a track minus the reference, amid the period; 0 for this. NaN for a track without a usable pass.
        ``drift``
            km2 per year, of the offset: a track that does not see all of a lake need not see all of its growth. Drawn
            to 0 as far as the passes allow.
        ``noise``
            km2, standard deviation of one of its passes.
        ``passes``
            int32, used.
        ``seen``
            The most that a pass of it saw of the lake zone.
        ``reference``
            bool, true for one: the track whose level the fused series has.
        ``level_error``
            km2, standard deviation of the areas by their own intervals, median over its passes: at most this is common
            to all of them, and so is in no interval above.

        Over ``step`` (e.g. ``platform sentinel-1c``, against the platform with most passes), also where none is found:

        ``step_size``, ``step_low``, ``step_high``, ``step_p``, ``step_passes``, ``step_found``
            km2; two-sided p, by Holm's method for all steps tested; bool at 1 %. NaN where it can't be told from
            the offset of a track, or has fewer than 5 passes. A step that is found is taken out of the fused series.

    Raises
    ------
    ConfigError
        When a variable or coordinate is absent, ``track`` or a covariate is lazy, times repeat within a track, or
        `min_observed` is not from 0 to 1.
    NoObservations
        On computing, when fewer than 5 passes can be used.

    Notes
    -----
    area = course + season + offset and drift of the track + step + noise of the track. The course is a local linear
    trend (random walks of level and slope); the season one harmonic of the year, where at least three years and eight
    months of the year were seen; offsets and steps are unknown constants. All variances by restricted maximum
    likelihood, all constants by generalised least squares, in one go, so that the uncertainty of the offsets is in the
    covariance.
    Passes far off lose weight (Huber).

    Which level: no series knows the part of the shore that its track never sees, so the reference is the track whose
    passes see most of the lake zone; among those within 0.05 of it, the one with the largest median area: water under a
    cliff's layover is observed, but bright, and missing from the area (Tsho Rolpa's ascending track 85 sees as much of
    the zone as the descending 121, and a sixth less water). Its own bias
    stays: ``level_error`` bounds it.

    Completed areas (with ``area_seen_km2``): what was completed in the mean over a track's passes is added to all of
    them, as each year's own would bring the errors of the other tracks in twice; what the hidden shore did meanwhile
    is left to the drift. The offsets are then normal around 0 with a variance of their own, by restricted likelihood
    too: tracks that agree share their level and gain most from each other, tracks that don't keep theirs
    (`analyses/fusion_gain.py`).

    The series is smooth, its errors are shared by neighbours: a test for trends takes it for sure. Test the passes.

    Steps are tested with the variances found without them, which is cautious. A platform that replaces another for good
    can hardly be told from a lake that changes at that time: its interval is wide, and says so.

    Lazy with dask: time is merged into one chunk. The time it takes grows with the cube of the passes used.

    Examples
    --------
    >>> times = np.arange("2019-01-01", "2022-01-01", np.timedelta64(12, "D"), "datetime64[D]").astype("datetime64[ns]")
    >>> track = np.where(np.arange(times.size) % 2, 121, 12)
    >>> km2 = np.where(track == 121, 1.6, 1.3) + 0.003 * np.random.default_rng(0).normal(size=times.size)
    >>> seen = np.where(track == 121, 1.0, 0.8)
    >>> area = xr.Dataset({"area_km2": ("time", km2), "observed_fraction": ("time", seen)}, {"time": times})
    >>> fused = fuse(area.assign_coords(track=("time", track)))
    >>> fused["track"].values.tolist(), fused["reference"].values.tolist(), fused["offset"].round(2).values.tolist()
    (['12', '121'], [False, True], [-0.3, 0.0])
    """
    times, layout = _check(area, min_observed)
    inputs = [_whole(area[name]) for name in ("area_km2", "observed_fraction")]
    names_given = [name for name in ("area_low", "area_high", "state", "area_seen_km2") if name in area.variables]
    optional = {name: _whole(area[name]) for name in names_given}
    names = {
        "time": ("area_km2", "area_sd", "weight", "gap_days"),
        "track": ("offset", "offset_sd", "drift", "noise", "passes", "seen", "level_error", "reference"),
        "step": ("step_size", "step_sd", "step_p", "step_passes", "step_found"),
    }
    dims = [[dim] for dim, some in names.items() for _ in some]
    results = xr.apply_ufunc(
        _fuse,
        *inputs,
        *optional.values(),
        kwargs={
            "names": tuple(optional),
            "t": as_years(times.to_numpy()),
            "months": times.month.to_numpy(),
            "layout": layout,
            "min_observed": float(min_observed),
        },
        input_core_dims=[["time"]] * (len(inputs) + len(optional)),
        output_core_dims=[["time", "time_other"], *dims],
        dask="parallelized",
        output_dtypes=[np.float64] * (1 + len(dims)),
        dask_gufunc_kwargs={
            "output_sizes": {"time_other": times.size, "track": len(layout.tracks), "step": len(layout.steps)}
        },
    )
    found = dict(zip(("covariance", *(name for some in names.values() for name in some)), results, strict=True))
    return _described(found, area, times, layout, min_observed)


def _check(area: xr.Dataset, min_observed: float) -> tuple[pd.DatetimeIndex, _Layout]:
    if absent := [name for name in ("area_km2", "observed_fraction", "track", "time") if name not in area.variables]:
        msg = f"the areas lack {', '.join(absent)}; give what lake_area returns for passes of a cube"
        raise ConfigError(msg)
    times = area.indexes.get("time")
    if not isinstance(times, pd.DatetimeIndex):
        msg = f"time is {area['time'].dtype}; fuse needs dates (datetime64)"
        raise ConfigError(msg)
    if not 0 <= min_observed <= 1:
        msg = f"min_observed {min_observed} is not between 0 and 1; 0.9 means nine tenths of the lake zone"
        raise ConfigError(msg)
    coordinates = [name for name in ("track", "source", *COVARIATES) if name in area.coords]
    if lazy := [name for name in coordinates if area[name].chunks is not None]:
        name = lazy[0]
        msg = f"{name} is lazy, but lays out the result; load it first: area.assign_coords({name}=area.{name}.load())"
        raise ConfigError(msg)
    labels = _words(area, "track")
    if "source" in area.coords and area["source"].dims == ("time",):
        labels = np.array([f"{track} {source}" for track, source in zip(labels, _words(area, "source"), strict=True)])
    tracks, track = np.unique(labels, return_inverse=True)
    if (repeated := pd.MultiIndex.from_arrays([times, labels]).duplicated()).any():
        one = int(np.flatnonzero(repeated)[0])
        msg = f"track {labels[one]} has {times[one]} more than once; give every pass once"
        raise ConfigError(msg)
    steps: list[str] = []
    indicators: list[NDArray[np.bool_]] = []
    levels: list[NDArray[np.intp]] = []
    first_step: list[int] = []
    for name in COVARIATES:
        if name in area.coords and area[name].dims == ("time",):
            words = _words(area, name)
            kinds, codes = np.unique(words, return_inverse=True)
            levels.append(codes)
            first_step.append(len(steps))
            steps += [f"{name} {kind}" for kind in kinds]
            indicators += [codes == code for code in range(len(kinds))]
    empty = np.empty((0, times.size), np.bool_)
    stacked = np.stack(indicators) if indicators else empty
    return times, _Layout(tracks.tolist(), track, steps, stacked, levels, first_step)


def _words(area: xr.Dataset, name: str) -> NDArray[Any]:
    """Values of a coordinate as words; a platform's code as its name."""
    from cubekit.passes import PLATFORMS

    values = area[name].to_numpy()
    if name == "platform" and values.dtype.kind in "iu" and ((values >= 0) & (values < len(PLATFORMS))).all():
        values = np.array(PLATFORMS)[values]
    return values.astype(str)


def _whole(array: xr.DataArray) -> xr.Variable:
    return array.variable if array.chunks is None else array.variable.chunk({"time": -1})


def _fuse(
    area: NDArray[Any],
    fraction: NDArray[Any],
    *optional: NDArray[Any],
    names: tuple[str, ...],
    t: NDArray[np.float64],
    months: NDArray[Any],
    layout: _Layout,
    min_observed: float,
) -> tuple[NDArray[np.float64], ...]:
    count = len(layout.tracks)
    given = dict(zip(names, optional, strict=True))
    seen = np.array([np.nan_to_num(fraction[layout.track == one]).max() for one in range(count)])
    used = np.isfinite(area) & (fraction >= min_observed * seen[layout.track])
    if "state" in given:
        used &= np.isin(given["state"], MAYBE_OPEN)
    rows = np.flatnonzero(used)
    if rows.size < FEWEST:
        msg = f"{rows.size} of {used.size} passes can be used, a fused series needs {FEWEST}; give a longer period"
        raise NoObservations(msg)
    passes = np.bincount(layout.track[rows], minlength=count)
    near = "area_seen_km2" in given
    if near:
        area = completed_alike(area, given["area_seen_km2"], layout.track, rows)
    reference = _reference(area, seen, layout.track, rows)
    # Tracks without a pass have no number among the groups
    number = np.cumsum(passes > 0) - 1
    others = [one for one in np.flatnonzero(passes) if one != reference]
    free = [] if near else others
    design = np.column_stack(
        [_common(t, t[rows], months[rows]), *((layout.track == one).astype(np.float64) for one in free)]
    )
    fitted = partial(
        fit,
        area[rows].astype(np.float64),
        t[rows],
        number[layout.track[rows]],
        reference=int(number[reference]),
        near=near,
    )
    course = fitted(design[rows])
    size, sd, p = find_steps(
        course,
        rows,
        indicators=layout.indicators,
        levels=layout.levels,
        first_step=layout.first_step,
        fewest=FEWEST,
    )
    taken = np.flatnonzero(p < LEVEL)
    if taken.size:
        columns = layout.indicators[taken].T.astype(np.float64)
        design = np.column_stack([design, columns])
        course = fitted(design[rows])
    offset, offset_sd, noise = (np.full(count, np.nan) for _ in range(3))
    drift = noise.copy()
    noise[passes > 0], drift[passes > 0] = course.noise, course.drift
    offset[reference] = offset_sd[reference] = 0.0
    first = design.shape[1] - len(free) - taken.size
    places = np.arange(first, first + len(free))
    offset[free] = course.coefficients[places]
    offset_sd[free] = np.sqrt(np.diag(course.covariance)[places])
    if near:
        offset[others], offset_sd[others] = course.offset[number[others]], course.offset_sd[number[others]]
    level_error = np.full(count, np.nan)
    if {"area_low", "area_high"} <= given.keys():
        half = (given["area_high"] - given["area_low"]) / 2 / _NORMAL
        for one in np.flatnonzero(passes):
            level_error[one] = np.median(half[rows][layout.track[rows] == one])
    # At the reference's level: columns of tracks and steps are 0
    target = design.copy()
    target[:, first:] = 0
    value, covariance = course.at(np.maximum(t, t[rows].min()), target)
    before = t < t[rows].min()  # the course begins with the first pass that was used
    value[before], covariance[before], covariance[:, before] = np.nan, np.nan, np.nan
    weight = np.zeros(len(t))
    weight[rows] = course.weights
    gap = np.abs(t[:, None] - t[rows]).min(axis=1) * 365.25
    step_passes = layout.indicators[:, rows].sum(axis=1).astype(np.float64)
    return (
        *(covariance, value, np.sqrt(np.diag(covariance)), weight, gap),
        *(offset, offset_sd, drift, noise, passes.astype(np.float64), seen, level_error, np.arange(count) == reference),
        *(size, sd, p, step_passes, (p < LEVEL).astype(np.float64)),
    )


def _reference(area: NDArray[Any], seen: NDArray[np.float64], track: NDArray[np.intp], rows: NDArray[np.intp]) -> int:
    """Number of the track whose level the series gets: see the notes of `fuse`."""
    typical = np.full(len(seen), -np.inf)
    for one in np.unique(track[rows]):
        typical[one] = np.median(area[rows][track[rows] == one])
    best = seen[np.isfinite(typical)].max()
    return int(np.argmax(np.where(seen >= best - _AS_MUCH, typical, -np.inf)))


def completed_alike(
    area: NDArray[Any], seen: NDArray[Any], track: NDArray[np.intp], rows: NDArray[np.intp]
) -> NDArray[np.float64]:
    """Areas of a track that were `seen`, with the mean of what its `rows` were completed by: the same for all.

    Each pass's own completion would bring the other tracks' errors in twice.
    """
    count = int(track.max()) + 1
    hidden = np.bincount(track[rows], (area - seen)[rows], minlength=count)
    mean = hidden / np.maximum(np.bincount(track[rows], minlength=count), 1)
    return np.asarray(seen + mean[track], np.float64)


def _common(t: NDArray[np.float64], used: NDArray[np.float64], months: NDArray[Any]) -> NDArray[np.float64]:
    """Columns that all tracks share: level, slope, and the season where enough of the year was seen."""
    columns = [np.ones(len(t)), t - used.mean()]
    if np.unique(months).size >= _SEASONAL_MONTHS and np.ptp(used) >= _SEASONAL_YEARS:
        columns += [np.sin(2 * np.pi * t), np.cos(2 * np.pi * t)]
    return np.column_stack(columns)


def _described(
    found: dict[str, Any], area: xr.Dataset, times: pd.DatetimeIndex, layout: _Layout, min_observed: float
) -> xr.Dataset:
    """The results as a Dataset with bounds, units and words."""
    for name, prefix in (("area_km2", "area"), ("offset", "offset"), ("step_size", "step")):
        spread = found.pop(f"{prefix}_sd")
        found[f"{prefix}_low"] = found[name] - _NORMAL * spread
        found[f"{prefix}_high"] = found[name] + _NORMAL * spread
    for name in ("passes", "step_passes"):
        found[name] = found[name].astype(np.int32)
    for name in ("reference", "step_found"):
        found[name] = found[name].astype(np.bool_)
    coords = {"time": times, "track": layout.tracks, "step": np.array(layout.steps, dtype=str)}
    dataset = xr.Dataset({name: found[name] for name in _LONG_NAMES}, coords=coords)
    for name, (long_name, unit) in _LONG_NAMES.items():
        dataset[name].attrs = {"long_name": long_name} | ({"units": unit} if unit else {})
    dataset["area_km2"].attrs["ancillary_variables"] = "area_low area_high covariance weight gap_days"
    kept = ("lake", "lake_title", "model", "model_hash", "preprocessing")
    return dataset.assign_attrs(
        {name: area.attrs[name] for name in kept if name in area.attrs},
        method=(
            "local linear trend with a season, an offset and a noise per track, steps of covariates where found: "
            f"restricted maximum likelihood, generalised least squares, residuals beyond {CLIP:g} sd given less weight"
        ),
        min_observed=float(min_observed),
    )
