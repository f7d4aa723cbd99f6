"""Sensors other than Sentinel-1: one restoration and one water index each, behind one shape (the paper's Figure 2).

`restore` makes physical values of what an archive delivers and hides what the sensor did not see; `water_index` makes
of them one number a pixel, high for water; `optical_probability` makes of that number what `lake_area` takes.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError, GridMismatch
from cubekit.lakes import Lake
from cubekit.preprocess._checks import pixels_off, whole_images
from cubekit.preprocess._water_index import water_fraction

NDWI_BOUNDS = (-0.1, 0.3)
"""What Otsu's threshold of NDWI is kept between: McFeeters' own is 0, which turbid water and shadow move."""

# Scene classification of Sentinel-2 L2A.
_SCL_UNSEEN = (0, 1, 3, 8, 9, 10)  # no data, saturated, cloud shadow, clouds of medium and high probability, cirrus
_SCL_UNTOLD = (2, 11)  # topographic shadow, snow and ice
_SENTINEL2_SCALE = 1e-4

# Bits of Landsat's QA_PIXEL.
_QA_UNSEEN = 0b11111  # fill, dilated cloud, cirrus, cloud, cloud shadow
_QA_UNTOLD = 0b100000  # snow
_LANDSAT_SCALE, _LANDSAT_OFFSET = 2.75e-5, -0.2

Restoration = Callable[[xr.Dataset], xr.Dataset]
Index = Callable[[xr.Dataset], xr.DataArray]


@dataclass(frozen=True)
class Sensor:
    """A sensor: what it delivers, how that is restored, and what tells water from land.

    Parameters
    ----------
    id
        As the attribute ``sensor`` of its datasets has it.
    title
        For people.
    variables
        What its datasets hold, dims (time, y, x).
    restoration
        From such a dataset to one of physical values: float32, NaN where they tell nothing, with the bool coordinate
        ``observed`` (time, y, x): what the sensor saw, be it snow. Lazy.
    index
        From what is restored to the water index, the higher the more likely water: a ratio of linear mixtures. Lazy.
    weight
        The denominator of that ratio, positive.
    bounds
        What the threshold of the index is kept between.
    """

    id: str
    title: str
    variables: tuple[str, ...]
    restoration: Restoration
    index: Index
    weight: Index
    bounds: tuple[float, float]


def restore(ds: xr.Dataset, sensor: str | Sensor | None = None) -> xr.Dataset:
    """Physical values of what a sensor delivers, NaN where it did not see the ground.

    Parameters
    ----------
    ds
        As `cubekit.cube.optical.open_scenes` gives it: dims (time, y, x), the sensor's variables (``green``, ``nir``,
        ``quality``), for Sentinel-2 the coordinate ``offset`` along time.
    sensor
        A sensor or the id of one; by default what the attribute ``sensor`` says.

    Returns
    -------
    xarray.Dataset
        float32 variables (surface reflectance, 1, for optical sensors), NaN where not seen and where what was seen
        tells nothing of water (snow, topographic shadow); the bool coordinate ``observed`` is true for the latter. The
        attribute ``restored`` is the sensor's id.

    Raises
    ------
    ConfigError
        When the sensor isn't known, or a variable, dim or coordinate is absent.

    Notes
    -----
    Lazy. Sentinel-2: (DN + offset) / 10000; SCL 0, 1, 3, 8, 9, 10 are not seen, 2 and 11 seen but untold. Landsat:
    2.75e-5 DN - 0.2; QA_PIXEL bits 0 to 4 are not seen, 5 (snow) is untold. Landsat 7's gaps of 2003 on are fill.

    Examples
    --------
    >>> raw = xr.Dataset({name: (("time", "y", "x"), np.full((1, 1, 1), 1600.0)) for name in ("green", "nir")})
    >>> raw = raw.assign(quality=xr.full_like(raw["nir"], 6, dtype="uint16"), offset=("time", [-1000.0]))
    >>> restored = restore(raw.set_coords("offset"), "sentinel-2-l2a")
    >>> round(float(restored["green"].item()), 3), bool(restored["observed"].item())
    (0.06, True)
    """
    chosen = _sensor(ds, sensor)
    if missing := [name for name in chosen.variables if name not in ds.variables]:
        msg = f"{chosen.id} needs {', '.join(chosen.variables)}; the dataset lacks {', '.join(missing)}"
        raise ConfigError(msg)
    for name in chosen.variables:
        if name in ds.data_vars and set(ds[name].dims) != {"time", "y", "x"}:
            msg = f"{name} has dims {ds[name].dims}; it needs time, y and x (expand_dims('time') adds the first)"
            raise ConfigError(msg)
    return chosen.restoration(ds).assign_attrs({**ds.attrs, "sensor": chosen.id, "restored": chosen.id})


def water_index(ds: xr.Dataset, sensor: str | Sensor | None = None) -> xr.DataArray:
    """The water index of a sensor: one number a pixel, the higher the more likely water.

    Parameters
    ----------
    ds
        What `restore` returns.
    sensor
        As for `restore`.

    Returns
    -------
    xarray.DataArray
        ``water_index``, float32 (time, y, x), NaN where not known. Of optical sensors NDWI, (green - nir) / (green +
        nir) (McFeeters 1996), -1 to 1, of reflectances below 0 taken as 0.

    Raises
    ------
    ConfigError
        When the sensor isn't known, or the dataset was not restored.

    Notes
    -----
    Lazy.
    """
    chosen = _sensor(ds, sensor)
    if ds.attrs.get("restored") != chosen.id:
        msg = f"the dataset holds what {chosen.id} delivers, not what is restored; call restore(ds) first"
        raise ConfigError(msg)
    index = chosen.index(ds).astype(np.float32).rename("water_index")
    return index.assign_attrs(long_name=f"water index, {chosen.title}", units="1", sensor=chosen.id)


def optical_probability(ds: xr.Dataset, lake: Lake, *, sensor: str | Sensor | None = None) -> xr.DataArray:
    """Probability of water from a water index: what `cubekit.lake_area` takes.

    Parameters
    ----------
    ds
        As for `restore`, or what it returns, on the lattice of `lake`, with the coordinates ``time``, ``track``,
        ``platform`` (those of `cubekit.cube.optical.open_scenes`).
    lake
        Its zone (the outline and 200 m around it) is where the threshold is taken from.
    sensor
        As for `restore`.

    Returns
    -------
    xarray.DataArray
        ``probability``, float32 (time, y, x), 0 to 1: 1 in water, 0 on land, the share of water in shore pixels; NaN
        where it isn't known. The bool coordinate ``observed`` is true also where what was seen tells nothing (snow).
        All coordinates along time stay. Attributes ``model``, ``preprocessing`` and ``source`` as of `segment`.

    Raises
    ------
    ConfigError
        As `restore`.
    GridMismatch
        When the dataset is not on the lattice of `lake`.

    Notes
    -----
    Lazy; y and x become one chunk. The rule, pass by pass: Otsu's threshold of the index in the zone, kept between the
    sensor's bounds, parts water from land; along the shore the index is unmixed with the median levels of both
    (`cubekit.preprocess._water_index.water_fraction`). Bare lake ice counts as water, as NDWI has it; snow does not
    count at all.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> gokyo = catalogue()["gokyo"]
    >>> wet = gokyo.outline_mask.expand_dims(time=np.array(["2021-10-02"], "datetime64[ns]"))
    >>> raw = xr.Dataset({"green": xr.where(wet, 600.0, 1200.0), "nir": xr.where(wet, 200.0, 2000.0)})
    >>> raw["quality"] = xr.where(wet, 6, 5).astype("uint16")
    >>> raw = raw.assign_coords(offset=("time", [0.0]), track=("time", ["S2-R019"]))
    >>> float(optical_probability(raw, gokyo, sensor="sentinel-2-l2a").sum()) == float(wet.sum())
    True
    """
    chosen = _sensor(ds, sensor)
    if off := pixels_off(ds, lake, (slice(None), slice(None))):
        msg = (
            f"the dataset's {off[0]} is not the lattice of lake {lake.id!r} at {lake.spacing} m; open it for this "
            "lake, or give the lake at the spacing of the dataset: lake.at_spacing(...)"
        )
        raise GridMismatch(msg)
    restored = ds if ds.attrs.get("restored") == chosen.id else restore(ds, chosen)
    index, weight = water_index(restored, chosen), chosen.weight(restored)
    zone = lake.zone_mask.variable
    shares = xr.apply_ufunc(
        _all_passes,
        whole_images(index.variable.transpose("time", "y", "x")),
        whole_images(weight.variable.transpose("time", "y", "x")),
        zone,
        kwargs={"bounds": chosen.bounds},
        input_core_dims=[["y", "x"]] * 3,
        output_core_dims=[["y", "x"]],
        dask="parallelized",
        output_dtypes=[np.float32],
    )
    chain = {"sensor": chosen.id, "index": index.attrs["long_name"], "bounds": chosen.bounds, "version": 1}
    attrs = {
        "long_name": "probability of water",
        "units": "1",
        "model": f"water index of {chosen.id}",
        "preprocessing": json.dumps(chain, sort_keys=True),
        "source": str(ds.attrs.get("source", chosen.id)),
    }
    return xr.DataArray(shares, coords=index.coords, name="probability", attrs=attrs)


def register(sensor: Sensor) -> None:
    """Make a sensor known by its id.

    Parameters
    ----------
    sensor
        Takes the place of one of the same id.
    """
    SENSORS[sensor.id] = sensor


def _sensor(ds: xr.Dataset, sensor: str | Sensor | None) -> Sensor:
    if isinstance(sensor, Sensor):
        return sensor
    name = ds.attrs.get("sensor") if sensor is None else sensor
    if name not in SENSORS:
        msg = f"sensor {name!r} isn't known; known are {', '.join(SENSORS)} (register adds one)"
        raise ConfigError(msg)
    return SENSORS[name]


def _all_passes(
    index: NDArray[np.float32], weight: NDArray[np.float32], zone: NDArray[np.bool_], *, bounds: tuple[float, float]
) -> NDArray[np.float32]:
    shares = np.empty(index.shape, np.float32)
    for place, (one, its_weight) in enumerate(zip(index, weight, strict=True)):
        shares[place] = water_fraction(one, its_weight, zone, bounds)
    return shares


def _reflectance(ds: xr.Dataset, values: dict[str, xr.DataArray], seen: xr.DataArray, told: xr.DataArray) -> xr.Dataset:
    """A dataset of reflectances, NaN where not seen or not told; a pixel is seen where all bands have data."""
    finite = xr.apply_ufunc(np.isfinite, sum(values.values()), dask="allowed")
    observed = (seen & finite).reset_coords(drop=True).transpose("time", "y", "x")
    usable = observed & told.reset_coords(drop=True)
    attrs = {"long_name": "surface reflectance", "units": "1"}
    kept = {name: value.where(usable).astype(np.float32).assign_attrs(attrs) for name, value in values.items()}
    return xr.Dataset(kept).assign_coords({**ds.coords, "observed": observed.variable})


def _restore_sentinel2(ds: xr.Dataset) -> xr.Dataset:
    quality = ds["quality"]
    values = {name: (ds[name] + ds["offset"]) * _SENTINEL2_SCALE for name in ("green", "nir")}
    return _reflectance(ds, values, ~quality.isin(_SCL_UNSEEN), ~quality.isin(_SCL_UNTOLD))


def _restore_landsat(ds: xr.Dataset) -> xr.Dataset:
    quality = ds["quality"].astype(np.uint16)
    values = {name: ds[name].where(ds[name] != 0) * _LANDSAT_SCALE + _LANDSAT_OFFSET for name in ("green", "nir")}
    return _reflectance(ds, values, (quality & _QA_UNSEEN) == 0, (quality & _QA_UNTOLD) == 0)


def _total(ds: xr.Dataset) -> xr.DataArray:
    return ds["green"].clip(min=0) + ds["nir"].clip(min=0)


def _ndwi(ds: xr.Dataset) -> xr.DataArray:
    total = _total(ds)
    return (ds["green"].clip(min=0) - ds["nir"].clip(min=0)) / total.where(total > 0)


SENSORS: dict[str, Sensor] = {
    sensor.id: sensor
    for sensor in (
        Sensor(
            id="sentinel-2-l2a",
            title="Sentinel-2 L2A NDWI",
            variables=("green", "nir", "quality", "offset"),
            restoration=_restore_sentinel2,
            index=_ndwi,
            weight=_total,
            bounds=NDWI_BOUNDS,
        ),
        Sensor(
            id="landsat-c2-l2",
            title="Landsat Collection 2 Level 2 NDWI",
            variables=("green", "nir", "quality"),
            restoration=_restore_landsat,
            index=_ndwi,
            weight=_total,
            bounds=NDWI_BOUNDS,
        ),
    )
}
"""Sensors by their id."""
