"""Areas of a cube's passes, and what the cube tells beside: states, what each track sees, completion, the front."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray

from cubekit import cube, series
from cubekit.errors import CubeConflict
from cubekit.lakes import Lake
from cubekit.series.state import surface_features

WHOLE = 0.99
"""Share of the lake zone from which a track counts as seeing all of it, so that nothing is to be completed."""

HIDDEN = "it never sees three tenths of the lake itself, which lies in its layover or shadow"
"""Why no area of a track is known."""

_HIDDEN_KEY = "areas of track "
_COMPLETED = {
    "area_completed_km2": "area_km2",
    "area_completed_low": "area_low",
    "area_completed_high": "area_high",
    "completed_km2": "completed_km2",
}


class Areas(NamedTuple):
    """Areas of a lake, in memory.

    Parameters
    ----------
    area
        Over time: what `lake_area` gives, with ``state``, ``state_probability`` and ``vv_above_open`` of `lake_states`;
        ``state_then``, the state as it was known at the time; ``area_completed_km2``, ``area_completed_low``,
        ``area_completed_high`` and ``completed_km2``, where a track's view was completed; and ``front_m``,
        ``front_low``, ``front_high`` where it was asked for.
    tracks
        What `track_views` gives.
    water
        The probability of water as given, lazy, and not known in every pass of a track that the lake is hidden from.
    unknown
        What of all this isn't there, with the reason.
    """

    area: xr.Dataset
    tracks: xr.Dataset
    water: xr.Dataset
    unknown: dict[str, str]


def measure_areas(
    passes: xr.Dataset, water: xr.Dataset, lake: Lake, *, polarisation: str = "vv", front: float | None = None
) -> Areas:
    """Measure a lake at every pass: area, state, what is seen.

    Parameters
    ----------
    passes
        A cube, as `open_cube` gives it.
    water
        The probability of water of the same passes, as `open_water` gives it.
    lake
        At the spacing of the cube.
    polarisation
        What was segmented.
    front
        Where the lake's front is, as `front_position` takes it; None: it isn't measured.

    Returns
    -------
    Areas
        Computed, in two reads of the probability at most, and one of the passes.

    Raises
    ------
    CubeConflict
        When the passes are not the same.
    ConfigError
        As `front_position`, when the front is across the lake's axis.

    Notes
    -----
    A track that never sees enough of the lake to tell its state has no areas, no shore and no front: `unknown` says
    why. A network that knows the lake's outline draws one all the same.
    ``area_km2`` stays what was seen. All that follows (seasons, trends, the fused series, alerts) rests on it: a shore
    that is completed from other tracks is no further look at it, and a lake that drains would drain there too late.
    """
    if not np.array_equal(passes["time"].to_numpy(), water["time"].to_numpy()):
        msg = f"the passes of {lake.id} and their water are not of the same times; run again, when no other run writes"
        raise CubeConflict(msg)
    passes, water = cube.in_fewer_chunks(passes), cube.in_fewer_chunks(water)
    unknown: dict[str, str] = {}
    seen = {"tracks": series.track_views(passes, lake, polarisation=polarisation)}
    if "vv" in passes:
        seen["features"] = surface_features(passes, lake)
    else:
        unknown["states"] = "they are told from VV, which the cube does not hold"
    found: dict[str, xr.Dataset] = dict(zip(seen, compute(*seen.values()), strict=True))
    states = _states(found["features"], lake) if "features" in found else {}
    hidden = _hidden(passes["track"].to_numpy(), states)
    unknown |= {f"{_HIDDEN_KEY}{track}": HIDDEN for track in hidden}
    water = without_hidden(water, hidden)
    probability = water["probability"].assign_attrs(water.attrs)
    threshold = float(water.attrs["threshold"])
    wanted = {"area": series.lake_area(probability, lake, threshold=threshold)}
    if front is not None:
        wanted["front"] = series.front_position(probability, lake, toward=front, threshold=threshold)
    made: dict[str, xr.Dataset] = dict(zip(wanted, compute(*wanted.values()), strict=True))
    area = made["area"].assign(states)
    if "front" in made:
        names = {"position": "front_m", "position_low": "front_low", "position_high": "front_high"}
        area = area.assign({new: made["front"][old].variable for old, new in names.items()})
        area = area.assign_attrs({name: made["front"].attrs[name] for name in ("axis_bearing", "box_width")})
    tracks = found["tracks"]
    blind = tracks["track"].to_numpy()[tracks["zone_seen"].to_numpy() < WHOLE]
    if blind.size and tracks.sizes["track"] > 1:
        partly = np.isin(area["track"].to_numpy(), np.setdiff1d(blind, hidden))
        area = _with_completed(area, probability, lake, threshold, partly)
    elif blind.size:
        unknown["completed areas"] = "there is no other track to complete them from"
    return Areas(area, tracks, water, unknown)


def hidden_tracks(unknown: Mapping[str, str]) -> list[int]:
    """Tracks that the lake is hidden from, by what `measure_areas` found unknown.

    Examples
    --------
    >>> hidden_tracks({"ice": "no winter was seen", "areas of track 12": HIDDEN})
    [12]
    """
    return [int(name.removeprefix(_HIDDEN_KEY)) for name in unknown if name.startswith(_HIDDEN_KEY)]


def without_hidden(water: xr.Dataset, tracks: Sequence[int]) -> xr.Dataset:
    """Take what a network drew where the track sees no lake out of a cube's water.

    Parameters
    ----------
    water
        As `open_water` gives it.
    tracks
        From `hidden_tracks`.

    Returns
    -------
    xarray.Dataset
        Lazy; the probability is NaN in all passes of these tracks, and its coordinate ``observed`` tells what was
        observed all the same. The same Dataset where there are no such tracks.
    """
    if not len(tracks):
        return water
    probability = water["probability"]
    observed = probability.coords.get("observed", probability.notnull()).variable
    told = xr.DataArray(~np.isin(water["track"].to_numpy(), tracks), dims="time")
    return water.assign(probability=probability.where(told).assign_coords(observed=observed))


def _states(features: xr.Dataset, lake: Lake) -> dict[str, xr.Variable]:
    states = series.lake_states(features, lake)
    then = series.lake_states(features, lake, past_only=True)["state"].variable
    then.attrs |= {"long_name": "state of the lake's surface, from this pass and those before it", "units": "1"}
    names = ("state", "state_probability", "vv_above_open")
    return {name: states[name].variable for name in names} | {"state_then": then}


def _hidden(track: NDArray[np.integer[Any]], states: Mapping[str, xr.Variable]) -> list[int]:
    """Tracks to which the lake's state can never be told."""
    if not states:
        return []
    return [int(one) for one in np.unique(track) if not (states["state"].to_numpy()[track == one] > 0).any()]


def _with_completed(
    area: xr.Dataset, probability: xr.DataArray, lake: Lake, threshold: float, partly: NDArray[np.bool_]
) -> xr.Dataset:
    """Complete the passes of the tracks that see the lake `partly`; of the others the area is what it is."""
    outlines = xr.DataArray(np.isin(area["state"].to_numpy(), series.MAYBE_OPEN), dims="time")
    places = np.flatnonzero(partly)
    completed = series.completed_area(probability, lake, threshold=threshold, outlines=outlines)
    (found,) = compute(completed[list(_COMPLETED.values())].isel(time=places))
    columns = {}
    for new, old in _COMPLETED.items():
        values = np.zeros(len(partly)) if old == "completed_km2" else area[old].to_numpy().copy()
        values[places] = found[old].to_numpy()
        attrs = dict(found[old].attrs)
        attrs.pop("ancillary_variables", None)
        columns[new] = ("time", values, attrs | {"long_name": f"{attrs['long_name']}, completed from other tracks"})
    columns["completed_km2"][2]["long_name"] = found["completed_km2"].attrs["long_name"]
    return area.assign(columns)
