"""Lake area, pass by pass: what is water, what is dry, and what was not seen."""

from __future__ import annotations

from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError
from cubekit.lakes import Lake
from cubekit.series._interval import DEFAULT_BLOCK_M, UNFITTED_FLOOR
from cubekit.series._water import check, masks, measure, window

STATES = ("unknown", "open", "ice", "wet_snow", "rough")
"""States of a lake's surface by the order of their codes."""

MAYBE_OPEN = (STATES.index("unknown"), STATES.index("open"))
"""Codes of the states in which an area counts: open water, and what can't be told."""

_LONG_NAMES = {
    "area_km2": "lake area",
    "area_low": "lake area, lower bound",
    "area_high": "lake area, upper bound",
    "area_subpixel_km2": "lake area, summed water fraction",
    "dry_km2": "lake zone observed but not water of this lake",
    "not_observed_km2": "lake zone not observed",
}


def lake_area(
    probability: xr.DataArray, lake: Lake, *, threshold: float = 0.5, block: float | None = None
) -> xr.Dataset:
    """Area of a lake at every pass.

    Parameters
    ----------
    probability
        Probability of water, 0 to 1, float, dims time, y and x, NaN where not observed; on the lake's lattice, whole or
        any window of it (what `segment` returns). numpy or dask, any chunks. A bool coordinate ``observed`` of the same
        dims tells what was observed but could not be told apart; without it, observed is where there is a number.
    lake
        Of the same spacing as the probability.
    threshold
        A pixel is wet from this probability on.
    block
        Length over which the errors of a shore are alike, metres, as `fit_block` finds it for calibrated probabilities
        of a model. Without it, the attribute ``interval_block_m`` of `probability`, as a model brings it that such a
        block was fitted to. Without either, 800 m and never less than half a pixel along the shore.

    Returns
    -------
    xarray.Dataset
        Over time, float64, with all coordinates along time of the input (``track``, ``platform``, ``granules`` ...):

        ``area_km2``
            Wet pixels of the lake zone that are connected to the outline, over shared pixel edges. NaN when less than
            half of the outline is known; 0 when none of what is known is wet: a drained lake is a finding. Where
            ``observed_fraction`` is below 1 a lower bound.
        ``area_low``, ``area_high``
            95 % interval of the water that was seen, by a spatial block bootstrap of the probabilities; never narrower
            than rounding to whole pixels makes it, nor, where no block was fitted, than half a pixel along the shore
            (Crofton's length). `area_high` also holds what isn't known and touches the water, or lies in the outline.
            0 <= `area_low` <= `area_km2` <= `area_high`. Passes share part of the error: not to be shrunk by the
            square root of n.
        ``area_subpixel_km2``
            Summed probability of that water and of its rim of two pixels, other waters left out: mixed shore
            pixels count by their fraction. Water that nowhere reaches `threshold` counts as none.
        ``dry_km2``
            The rest of the zone that was observed. Wet pixels that are not connected to the outline (ponds, shadows
            taken for water) are among it, so that area, dry and not observed add up to the zone, pixel by pixel
            (and so does what was observed but not told apart, where there is such). NaN where the area is.
        ``not_observed_km2``, ``observed_fraction``
            Of the zone. What lies outside of the extent of `probability` was not observed.
        ``state``
            int8, CF flags: 0 unknown, 1 open, 2 ice, 3 wet snow, 4 rough. All unknown for now.

    Raises
    ------
    ConfigError
        When dims, dtype, `threshold` or `block` are wrong; on computing, when a probability is below 0 or above 1.
    GridMismatch
        When the pixels are not those of the lake's lattice.
    LakeError
        When the outline holds no pixel centre.

    Notes
    -----
    Lazy with dask; y and x are merged into one chunk a pass, and every pass is labelled once for all variables.
    The area is that on the ground (`Lake.pixel_km2`), not that of the map, which differs by up to 0.1 % at these lakes.

    The bootstrap: what a pixel's probability leaves open is common to a stretch of shore, not to one pixel. So in each
    of 400 draws the image is cut into blocks at a random place, each block draws one number u, and its pixels are water
    where their probability to be this lake's (the highest threshold at which they are connected to the outline) is
    above u. The percentiles 2.5 and 97.5 of the drawn areas are the interval. It sees what the model is unsure of, not
    what it is surely wrong about: an error common to a lake and track, with sharp probabilities, is in no draw. Longer
    blocks make up for it on average (Künsch 1989, Lahiri 2003 on block bootstraps; the blocks here draw what is not
    known instead of drawing again what is). Otsu's probabilities are fractions, not calibrated: no block was fitted.

    Half a pixel along the shore is the usual bound of lake inventories; see Hanshaw and Bookhagen (2014) for a smaller
    1-sigma version of it.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> gokyo = catalogue()["gokyo"]
    >>> probability = gokyo.outline_mask.astype("float32").expand_dims(time=np.array(["2021-07-21"], "datetime64[s]"))
    >>> area = lake_area(probability, gokyo)
    >>> [round(float(area[name][0]), 3) for name in ("area_low", "area_km2", "area_high", "observed_fraction")]
    [0.421, 0.45, 0.479, 1.0]
    """
    check(probability, threshold)
    length, floor = _interval_of(probability, block)
    rows, columns = window(probability, lake)
    zone, outline = masks(lake, rows, columns)
    zone_pixels, outline_pixels = (int(np.count_nonzero(mask)) for mask in (lake.zone_mask, lake.outline_mask))
    stack = probability.variable
    if stack.chunks is not None:
        stack = stack.chunk({"y": -1, "x": -1})
    observed = probability.coords["observed"].variable if "observed" in probability.coords else stack.notnull()
    if tuple(observed.dims) != tuple(stack.dims):
        msg = f"the coordinate 'observed' has dims {observed.dims}, the probability {stack.dims}; they must agree"
        raise ConfigError(msg)
    if observed.chunks is not None:
        observed = observed.chunk({"y": -1, "x": -1})
    counted = xr.apply_ufunc(
        _measure_all,
        stack,
        observed,
        xr.Variable(("y", "x"), zone),
        xr.Variable(("y", "x"), outline),
        kwargs={
            "threshold": float(threshold),
            "block": length / lake.spacing,
            "floor": floor,
            "pixel_km2": lake.pixel_km2,
            "zone_pixels": zone_pixels,
            "outline_pixels": outline_pixels,
        },
        input_core_dims=[["y", "x"]] * 4,
        output_core_dims=[[]] * 7,
        dask="parallelized",
        output_dtypes=[np.float64] * 7,
    )
    *measured, fraction = counted
    variables = dict(zip(_LONG_NAMES, measured, strict=True))
    for name, variable in variables.items():
        variable.attrs = {"long_name": _LONG_NAMES[name], "units": "km2"}
    variables["area_km2"].attrs["ancillary_variables"] = "area_low area_high observed_fraction state"
    fraction.attrs = {"long_name": "observed fraction of the lake zone", "units": "1"}
    state = xr.Variable("time", np.zeros(stack.sizes["time"], np.int8), _flags("state of the lake's surface", STATES))
    coords = probability.coords.to_dataset()
    kept = coords.drop_vars([name for name in coords.coords if coords[name].dims != ("time",)])
    # xarray leaves indexes out of tables: `to_dataframe` would lose the tracks.
    kept = kept.drop_indexes([name for name in kept.xindexes if str(name) != "time"])
    dataset = kept.assign({**variables, "observed_fraction": fraction, "state": state})
    return dataset.assign_attrs(_attrs(probability, lake, threshold, zone_pixels, length, floor))


def _measure_all(
    stack: NDArray[Any],
    observed: NDArray[np.bool_],
    zone: NDArray[np.bool_],
    outline: NDArray[np.bool_],
    *,
    pixel_km2: float,
    **how: Any,
) -> tuple[NDArray[np.float64], ...]:
    """The variables of `_LONG_NAMES`, in km2, and the observed fraction, of every pass."""
    results = np.empty((7, len(stack)))
    for index, (probability, seen) in enumerate(zip(stack, observed, strict=True)):
        results[:, index] = measure(probability, seen, zone, outline, **how)
    return *(results[:6] * pixel_km2), results[6]


def _interval_of(probability: xr.DataArray, block: float | None) -> tuple[float, float]:
    """Block, metres, and least margin, pixels along the shore, of the intervals."""
    name = "block"
    if block is None:
        name, block = "the probability's attribute interval_block_m", probability.attrs.get("interval_block_m")
    if block is None:
        return DEFAULT_BLOCK_M, UNFITTED_FLOOR
    try:
        length = float(block)
    except (TypeError, ValueError):
        length = np.nan
    if not 0 < length < np.inf:
        msg = f"{name} is {block!r}; give a length in metres above 0 (fit_block finds it), or None for the default"
        raise ConfigError(msg)
    return length, 0.0


def _flags(long_name: str, meanings: tuple[str, ...]) -> dict[str, Any]:
    """CF attributes of a variable of codes that count from 0."""
    codes = np.arange(len(meanings), dtype=np.int8)
    return {"long_name": long_name, "flag_values": codes, "flag_meanings": " ".join(meanings)}


def _attrs(
    probability: xr.DataArray, lake: Lake, threshold: float, zone_pixels: int, block: float, floor: float
) -> dict[str, Any]:
    least = f", at least {floor:g} pixels along the shore" if floor else ""
    carried = ("model", "model_hash", "preprocessing", "source")
    return {
        "Conventions": "CF-1.11",
        "title": f"Area of {lake.title}",
        "lake": lake.id,
        "lake_title": lake.title,
        "zone_km2": zone_pixels * lake.pixel_km2,
        "spacing": lake.spacing,
        "threshold": float(threshold),
        "interval_block_m": block,
        "method": (
            "pixels of the lake zone with a water probability of at least the threshold, connected over pixel edges to "
            f"the outline; bounds: 95 % by a spatial block bootstrap of the probabilities{least}, and above it what is "
            "not known and touches the water"
        ),
        **{name: probability.attrs[name] for name in carried if name in probability.attrs},
    }
