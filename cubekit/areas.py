"""Areas of a cube's passes, and what the cube tells beside: states, what each track sees, completion, the front."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import xarray as xr
from dask.base import compute
from numpy.typing import NDArray

from cubekit import series
from cubekit.errors import CubeConflict
from cubekit.lakes import Lake
from cubekit.series.state import surface_features

WHOLE = 0.99
"""Share of the lake zone from which a track counts as seeing all of it, so that nothing is to be completed."""

HIDDEN = "it never sees three tenths of the lake itself, which lies in its layover or shadow"
"""Why no area of a track is known."""

_USABLE = [series.STATES.index(name) for name in ("unknown", "open")]
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
    unknown
        What of all this isn't there, with the reason.
    """

    area: xr.Dataset
    tracks: xr.Dataset
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
    A track that never sees enough of the lake to tell its state has no areas: `unknown` says why.
    ``area_km2`` stays what was seen. All that follows (seasons, trends, the fused series, alerts) rests on it: a shore
    that is completed from other tracks is no further look at it, and a lake that drains would drain there too late.
    """
    if not np.array_equal(passes["time"].to_numpy(), water["time"].to_numpy()):
        msg = f"the passes of {lake.id} and their water are not of the same times; run again, when no other run writes"
        raise CubeConflict(msg)
    probability = water["probability"].assign_attrs(water.attrs)
    threshold = float(water.attrs["threshold"])
    wanted = {
        "area": series.lake_area(probability, lake, threshold=threshold),
        "tracks": series.track_views(passes, lake, polarisation=polarisation),
    }
    if "vv" in passes:
        wanted["features"] = surface_features(passes, lake)
    if front is not None:
        wanted["front"] = series.front_position(probability, lake, toward=front, threshold=threshold)
    made: dict[str, xr.Dataset] = dict(zip(wanted, compute(*wanted.values()), strict=True))
    area, unknown = made["area"], {}
    hidden = np.zeros(area.sizes["time"], np.bool_)
    if "features" in made:
        area = _with_states(area, made["features"], lake)
        hidden = _hidden(area)
    else:
        unknown["states"] = "they are told from VV, which the cube does not hold"
    if "front" in made:
        names = {"position": "front_m", "position_low": "front_low", "position_high": "front_high"}
        area = area.assign({new: made["front"][old].variable for old, new in names.items()})
        area = area.assign_attrs({name: made["front"].attrs[name] for name in ("axis_bearing", "box_width")})
    blind = made["tracks"]["track"].to_numpy()[made["tracks"]["zone_seen"].to_numpy() < WHOLE]
    if blind.size and made["tracks"].sizes["track"] > 1:
        partly = np.isin(area["track"].to_numpy(), blind)
        area = _with_completed(area, probability, lake, threshold, partly, hidden)
    elif blind.size:
        unknown["completed areas"] = "there is no other track to complete them from"
    if hidden.any():
        unknown |= {f"areas of track {track}": HIDDEN for track in np.unique(area["track"].to_numpy()[hidden]).tolist()}
        columns = [name for name in map(str, area) if name.startswith("area_") or name in {"dry_km2", "completed_km2"}]
        area = area.assign({name: area[name].where(xr.DataArray(~hidden, dims="time")) for name in columns})
    return Areas(area, made["tracks"], unknown)


def _with_states(area: xr.Dataset, features: xr.Dataset, lake: Lake) -> xr.Dataset:
    states = series.lake_states(features, lake)
    then = series.lake_states(features, lake, past_only=True)["state"].variable
    then.attrs |= {"long_name": "state of the lake's surface, from this pass and those before it", "units": "1"}
    names = ("state", "state_probability", "vv_above_open")
    return area.assign({name: states[name].variable for name in names} | {"state_then": then})


def _hidden(area: xr.Dataset) -> NDArray[np.bool_]:
    """Passes of tracks to which the lake is hidden: a network that knows its outline still draws one."""
    _, codes = np.unique(area["track"].to_numpy(), return_inverse=True)
    told = np.bincount(codes, weights=area["state"].to_numpy() > 0) > 0
    return ~told[codes]


def _with_completed(
    area: xr.Dataset,
    probability: xr.DataArray,
    lake: Lake,
    threshold: float,
    partly: NDArray[np.bool_],
    hidden: NDArray[np.bool_],
) -> xr.Dataset:
    """Complete the passes of the tracks that see the lake `partly`; of the others the area is what it is."""
    outlines = xr.DataArray(np.isin(area["state"].to_numpy(), _USABLE) & ~hidden, dims="time")
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
