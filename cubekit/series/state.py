"""What lies on a lake, pass by pass: open water, ice, melting ice or wet snow, rough water."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError, NoObservations
from cubekit.lakes import Lake
from cubekit.preprocess.prepare import prepare
from cubekit.series._surface_model import ROUGH_DB, Surface, filtered, smoothed
from cubekit.series.area import STATES

SURFACES = ("open", "ice", "wet_snow", "rough")
"""States that have a probability, by the order along ``surface``."""

CELL_METRES = 60
"""Side of the cells that backscatter is averaged over: speckle is lower, patterns of ice are kept."""

SHORE_METRES = 60
"""How far from the outline cells begin: the shore moves, and cliffs lie on it."""

_FEWEST = 40  # cells below which smaller ones, nearer to the shore, are taken
_ROUGH_SPREAD = 0.5  # dB, uncertainty of how far a pass lies above the usual open water


def surface_features(passes: xr.Dataset, lake: Lake) -> xr.Dataset:
    """Backscatter of the inner lake at every pass: all that `lake_states` looks at, and small enough to keep.

    Parameters
    ----------
    passes
        A cube on the lattice of `lake`, as `open_cube` gives it: ``vv``, ``mask`` and, where there is one, ``vh``, dims
        (time, y, x).
    lake
        The lake, at the spacing of the cube.

    Returns
    -------
    xarray.Dataset
        By time, with the coordinates along time of the cube:

        ``vv_cells``
            float32, dB, dims (time, cell): mean VV of cells of 60 m that lie 60 m and more inside the outline; of
            single pixels, down to the shore, where there are fewer than 40 such cells. NaN where less than half of a
            cell was observed.
        ``vh``
            float32, dB: median of the cells in VH; NaN where the cube has no VH.

    Raises
    ------
    ConfigError
        When the cube lacks VV.
    GridMismatch
        When the cube doesn't lie on the lattice of `lake`.
    LakeError
        When the outline holds no pixel centre.

    Notes
    -----
    Lazy with dask, one pass at a time.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> lake = catalogue()["gokyo"]
    >>> power = xr.full_like(lake.outline_mask, 0.01, dtype="float32").expand_dims(time=1)
    >>> features = surface_features(xr.Dataset({"vv": power, "mask": xr.zeros_like(power, dtype="uint8")}), lake)
    >>> features.sizes["cell"], float(features["vv_cells"].median().round(3)), float(features["vh"][0])
    (77, -20.0, nan)
    """
    layout = _layout(lake)
    cells = _cells(passes, lake, "vv", layout)
    kept = cells.coords.to_dataset()
    kept = kept.drop_vars([name for name in kept.coords if kept[name].dims != ("time",)])
    if "vh" in passes:
        vh = xr.apply_ufunc(
            _median,
            _cells(passes, lake, "vh", layout).variable,
            input_core_dims=[["cell"]],
            dask="parallelized",
            output_dtypes=[np.float32],
        )
    else:
        vh = xr.Variable("time", np.full(cells.sizes["time"], np.nan, np.float32))
    vh.attrs = {"long_name": "median gamma0 of the inner lake, VH", "units": "dB"}
    cells.attrs = {"long_name": "gamma0 of cells of the inner lake, VV", "units": "dB"}
    return kept.assign(vv_cells=cells.variable, vh=vh).assign_attrs(lake=lake.id, cell_m=layout[2] * lake.spacing)


def lake_states(passes: xr.Dataset, lake: Lake, *, past_only: bool = False) -> xr.Dataset:
    """State of a lake's surface at every pass, from its own history, with probabilities.

    Parameters
    ----------
    passes
        A cube on the lattice of `lake`, or what `surface_features` made of one; with the coordinates ``time`` and
        ``track``. VV is enough.
    lake
        The lake, at the spacing of the cube.
    past_only
        False: every pass is judged from all passes, before and after it (smoothed), for records. True: from itself and
        those before it (filtered), for near-real-time: a pass that is added changes nothing before it.

    Returns
    -------
    xarray.Dataset
        By time, in the order given, with the coordinates along time of `passes`:

        ``state``
            int8, CF flags as in `lake_area`: 0 unknown, 1 open, 2 ice, 3 wet snow, 4 rough. The likeliest; unknown
            where less than 30 % of the inner lake was observed, cells that the track sees brighter than -9 dB at more
            than half of its passes (layover) counted out. *Wet snow* is all that melts on a lake: snow or ice
            wet at its surface, and ice that breaks up. *Rough* is open water of twice the power (3 dB) of what its
            track usually sees of it, where a lake and its shore can hardly be told apart.
        ``probabilities``
            float64, dims (time, surface), of ``open``, ``ice``, ``wet_snow`` and ``rough``; they add up to 1. Also
            where the state is unknown: then from the passes around it.
        ``state_probability``
            float64, of the state; NaN where it is unknown.
        ``vv_above_open``
            float64, dB: median VV over that of the track's calm open water.

    Raises
    ------
    ConfigError
        When the cube lacks VV, ``time`` or ``track``, or ``time`` holds no dates.
    GridMismatch
        When the cube doesn't lie on the lattice of `lake`.
    LakeError
        When the outline holds no pixel centre.
    NoObservations
        When there is no pass.

    Notes
    -----
    Lazy with dask; one small table a lake is computed at once, of one number a cell and pass.

    A hidden Markov model (Rabiner 1989) in continuous time: the lake is open, under new ice, under thicker ice, or
    melting, and turns from one into the other at constant rates (200, 28, 90 and 11 days on average), whatever the
    month. New ice, dark as what melts is, and thicker ice are both *ice*. All tracks see the same cover. What a pass
    shows is judged against calm open water as its own track sees it: VV, VH, the spread of cells, and how alike the
    pattern on the lake is to that of the track's pass before (and after): ice keeps its pattern of cracks and bubbles
    through the winter, while waves forget theirs. What open water looks like, the pattern of layover on it included,
    and how well ice keeps its pattern, are learned from the lake itself by expectation and maximisation (Dempster et
    al. 1977).

    A record that begins in winter can't know its open water: with `past_only`, states of the first winter are the least
    certain, and freeze-up and break-up are told a pass or two late. Nor can a track that has seen the lake hardly but
    in winter and spring: some passes of ice are then taken for its open water. A track in whose layover most of the
    lake lies has unknown states only.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> rng = np.random.default_rng(1)  # from April on waves, in winter bubbles that stay where they are
    >>> ice = np.arange(30)[:, None] % 30 >= 18
    >>> cells = np.where(ice, -14 + rng.normal(0, 2, (1, 80)), -20 + rng.normal(0, 1, (30, 80)))
    >>> times = np.datetime64("2021-04-20", "s") + 12 * 86400 * np.arange(30)
    >>> features = xr.Dataset(
    ...     {"vv_cells": (("time", "cell"), cells.astype("f4")), "vh": ("time", np.full(30, np.nan, "f4"))},
    ...     coords={"time": times, "track": ("time", np.full(30, 121))},
    ... )
    >>> states = lake_states(features, catalogue()["gokyo"])
    >>> [STATES[code] for code in states["state"].values[15:21]]
    ['open', 'open', 'open', 'ice', 'ice', 'ice']
    """
    for name in ("time", "track"):
        if name not in passes.coords:
            msg = f"the passes lack the coordinate {name}; give a cube, or what surface_features made of one"
            raise ConfigError(msg)
    if passes["time"].dtype.kind != "M":
        msg = f"time is {passes['time'].dtype}; lake_states needs dates (datetime64)"
        raise ConfigError(msg)
    if not passes.sizes["time"]:
        msg = "there are no passes, so no state of any; give a cube with at least one"
        raise NoObservations(msg)
    features = passes if "vv_cells" in passes else surface_features(passes, lake)
    numbers = xr.apply_ufunc(
        _states,
        *(_whole(features[name]) for name in ("vv_cells", "vh", "time", "track")),
        kwargs={"past_only": past_only},
        input_core_dims=[["time", "cell"], ["time"], ["time"], ["time"]],
        output_core_dims=[["time"], ["time", "surface"], ["time"], ["time"]],
        dask="parallelized",
        output_dtypes=[np.int8, np.float64, np.float64, np.float64],
        dask_gufunc_kwargs={"output_sizes": {"surface": len(SURFACES)}},
    )
    attrs: dict[str, dict[str, Any]] = {
        "state": {
            "long_name": "state of the lake's surface",
            "flag_values": np.arange(len(STATES), dtype=np.int8),
            "flag_meanings": " ".join(STATES),
            "ancillary_variables": "state_probability",
        },
        "probabilities": {"long_name": "probability of each state of the lake's surface", "units": "1"},
        "state_probability": {"long_name": "probability of the state of the lake's surface", "units": "1"},
        "vv_above_open": {"long_name": "VV over that of calm open water on the same track", "units": "dB"},
    }
    for (_, described), variable in zip(attrs.items(), numbers, strict=True):
        variable.attrs = described
    kept = features.coords.to_dataset()
    kept = kept.drop_vars([name for name in kept.coords if kept[name].dims != ("time",)])
    kept = kept.drop_indexes([name for name in kept.xindexes if str(name) != "time"])
    found = kept.assign(dict(zip(attrs, numbers, strict=True))).assign_coords(surface=list(SURFACES))
    method = "hidden Markov model in continuous time, " + ("past only (filtered)" if past_only else "smoothed")
    return found.assign_attrs(lake=lake.id, method=method)


def _whole(array: xr.DataArray) -> xr.Variable:
    return array.variable if array.chunks is None else array.variable.chunk(-1)


def _states(
    cells: NDArray[np.float32],
    vh: NDArray[np.float32],
    times: NDArray[np.datetime64],
    tracks: NDArray[Any],
    *,
    past_only: bool,
) -> tuple[NDArray[Any], ...]:
    order = np.argsort(times, kind="stable")
    days = (times[order] - times[order[0]]) / np.timedelta64(1, "s") / 86400
    codes = np.unique(tracks, return_inverse=True)[1][order]
    surface = Surface(days, codes.astype(np.int64), cells[order].astype(np.float64), vh[order].astype(np.float64))
    covers, over = (filtered if past_only else smoothed)(surface)
    water, new_ice, ice, melt = covers.T
    rough = np.where(np.isfinite(over), _beyond(over), 0.0)
    chances = np.empty((len(order), len(SURFACES)))
    chances[order] = np.stack([water * (1 - rough), new_ice + ice, melt, water * rough], axis=1)
    above = np.empty(len(order))
    above[order] = over
    seen = np.isfinite(above)
    codes_of = np.array([STATES.index(name) for name in SURFACES], np.int8)
    state = np.where(seen, codes_of[chances.argmax(axis=1)], 0).astype(np.int8)
    return state, chances, np.where(seen, chances.max(axis=1), np.nan), above


def _beyond(over: NDArray[np.float64]) -> NDArray[np.float64]:
    """Probability that open water is rough."""
    from scipy.special import ndtr

    return np.asarray(ndtr((np.nan_to_num(over) - ROUGH_DB) / _ROUGH_SPREAD))


def _layout(lake: Lake) -> tuple[NDArray[np.intp], NDArray[np.intp], int]:
    """Pixels of the AOI window in the order of their cells, where each cell begins among them, and its side in pixels.

    The first array is of indices into the flattened window.
    """
    from scipy import ndimage

    from cubekit.series._water import masks

    _, outline = masks(lake, *lake.aoi_window)
    # A pixel's distance is to the centre of the nearest one outside; the shore is half a pixel nearer
    distance = (ndimage.distance_transform_edt(np.pad(outline, 1))[1:-1, 1:-1] - 0.5) * lake.spacing
    size = max(1, CELL_METRES // lake.spacing)
    best: tuple[NDArray[np.intp], NDArray[np.intp], int] | None = None
    for margin, side in ((SHORE_METRES, size), (SHORE_METRES, 1), (SHORE_METRES / 2, 1), (0, 1)):
        rows, columns = np.nonzero(distance > margin)
        cell = rows // side * outline.shape[1] + columns // side
        order = np.argsort(cell, kind="stable")
        _, begins, counts = np.unique(cell[order], return_index=True, return_counts=True)
        whole = np.repeat(counts >= 0.6 * side**2, counts)
        pixels = (rows * outline.shape[1] + columns)[order][whole]
        begins = np.unique(cell[order][whole], return_index=True)[1] if pixels.size else begins[:0]
        best = pixels, begins, side
        if begins.size >= _FEWEST:
            break
    assert best is not None
    return best


def _cells(
    passes: xr.Dataset, lake: Lake, polarisation: str, layout: tuple[NDArray[np.intp], NDArray[np.intp], int]
) -> xr.DataArray:
    power = prepare(passes, lake, polarisation=polarisation, filter="none")
    if power.chunks is not None:
        power = power.chunk({"y": -1, "x": -1})
    pixels, begins, _ = layout
    found: xr.DataArray = xr.apply_ufunc(
        _means,
        power.drop_vars("observed"),
        kwargs={"pixels": pixels, "begins": begins},
        input_core_dims=[["y", "x"]],
        output_core_dims=[["cell"]],
        dask="parallelized",
        output_dtypes=[np.float32],
        dask_gufunc_kwargs={"output_sizes": {"cell": len(begins)}},
    )
    return found


def _means(power: NDArray[Any], *, pixels: NDArray[np.intp], begins: NDArray[np.intp]) -> NDArray[np.float32]:
    """Means of cells, dB; NaN where less than half of a cell was observed."""
    values = power.reshape(*power.shape[:-2], -1)[..., pixels].astype(np.float64)
    seen = np.isfinite(values)
    total = np.add.reduceat(np.where(seen, values, 0.0), begins, axis=-1)
    count = np.add.reduceat(seen, begins, axis=-1, dtype=np.int64)
    whole = np.diff(np.append(begins, pixels.size))
    mean = total / np.maximum(count, 1)
    # Noise that was removed may leave nothing, or less
    decibel = 10 * np.log10(np.maximum(mean, 1e-6))
    return np.where(count >= 0.5 * whole, decibel, np.nan).astype(np.float32)


def _median(cells: NDArray[np.float32]) -> NDArray[np.float32]:
    found = np.full(cells.shape[:-1], np.nan, np.float32)
    known = np.isfinite(cells).sum(axis=-1) >= max(1, 0.3 * cells.shape[-1])
    if known.any():
        found[known] = np.nanmedian(cells[known], axis=-1)
    return found
