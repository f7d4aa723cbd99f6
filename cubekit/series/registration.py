"""Whether every image lies where its track's others do: steps of the geolocation, which areas can't show."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.errors import ConfigError

if TYPE_CHECKING:
    from cubekit.lakes import Lake

REFERENCE_PASSES = 10
"""First passes of a track that its reference is the mean of: what comes later never changes what was found before."""

TOLERANCE = 0.5
"""Shift that counts, pixels."""

FARTHEST = 6
"""Shift that is looked for, pixels: geolocation steps are of tens of metres, a peak farther off is one of chance."""

LEAST_SIMILARITY = 0.15
"""Correlation from which a shift is known. Simulated passes in place mostly reach 0.37 and more, fewer where wet snow
has come or gone since the first ones; speckle alone stays below 0.1."""

_SMALLEST_SHARE = 0.3  # of the image that both have to show
_FLOOR = 1e-5


def register(
    ds: xr.Dataset, lake: Lake, *, polarisation: str = "vv", reference_passes: int = REFERENCE_PASSES
) -> xr.Dataset:
    """Shift of every image against the first ones of its track, and the steps among them.

    Parameters
    ----------
    ds
        A cube of one lake: the polarisation in linear power, dims time, y and x, on the lake's lattice or a window of
        it; coordinate ``track`` in memory; ``platform`` where there is one. numpy or dask.
    lake
        Its zone is left out: a lake that freezes, roughens or grows is no shift.
    polarisation
        Variable to register.
    reference_passes
        The reference of a track is the mean, in dB, of its first so many passes.

    Returns
    -------
    xarray.Dataset
        Over time:

        ``shift_east``, ``shift_north``
            float64, metres: how far the image lies from the reference. NaN where the two share less than 0.3 of the
            image, or are too unlike (`LEAST_SIMILARITY`).
        ``similarity``
            Correlation of the two after the shift, -1 to 1.
        ``geolocation_step``
            bool: this pass and the one before or after it of the same track and platform whose shift is known both lie
            more than half a pixel off, in the same direction. One pass alone proves nothing.

    Raises
    ------
    ConfigError
        When the polarisation or the coordinate ``track`` is absent or lazy, or `reference_passes` is below 1.
    GridMismatch
        When the pixels are not those of the lake's lattice.

    Notes
    -----
    Correlation by Fourier transform (Kuglin and Hines 1975, without their division by the amplitudes, which weighs
    the high frequencies of speckle like those of terrain) of images in dB, what wasn't observed and the lake zone
    set to the mean, tapered to the edges; its highest value within `FARTHEST`, between pixels by a parabola. A
    shift of a whole image leaves the area as it is, so only the image itself can show it; what it moves is the
    shore, and with it `outlines`.

    Lazy with dask: y and x are merged into one chunk, and every task holds one pass and its track's reference.

    Examples
    --------
    >>> from cubekit.lakes import catalogue
    >>> from cubekit.sources.simulated import simulate
    >>> gokyo = catalogue()["gokyo"].at_spacing(30)
    >>> passes = simulate(gokyo, start="2023-07-01", end="2023-08-20", tracks=[12])
    >>> found = register(passes, gokyo)
    >>> bool(abs(found["shift_east"]).max() < 10), bool(found["geolocation_step"].any())
    (True, False)
    """
    tracks, platforms = _check(ds, polarisation, reference_passes)
    from cubekit.series._water import window

    rows, columns = window(ds[polarisation], lake)
    land = ~lake.zone_mask.to_numpy()[rows, columns]
    power = ds[polarisation].variable.transpose("time", "y", "x")
    if power.chunks is not None:
        power = power.chunk({"time": 1, "y": -1, "x": -1})
    codes, code = np.unique(tracks, return_inverse=True)
    order = np.argsort(ds["time"].to_numpy(), kind="stable")
    level = 10 * np.log10(np.maximum(power, _FLOOR))
    first = [order[code[order] == one][:reference_passes] for one in range(len(codes))]
    of_time = xr.DataArray(level)
    means: list[xr.DataArray] = [xr.DataArray(_mean(of_time.isel(time=some).variable)) for some in first]
    references = xr.concat(means, dim="track").variable
    shifts = xr.apply_ufunc(
        _shifts,
        level,
        references.isel(track=xr.Variable("time", code)),
        xr.Variable(("y", "x"), land),
        input_core_dims=[["y", "x"]] * 3,
        output_core_dims=[[]] * 3,
        dask="parallelized",
        output_dtypes=[np.float64] * 3,
    )
    down, right, similarity = shifts
    north, east = -down * lake.spacing, right * lake.spacing
    steps = xr.apply_ufunc(
        _steps,
        *(one if one.chunks is None else one.chunk({"time": -1}) for one in (north, east)),
        kwargs={"groups": _groups(tracks, platforms, order), "tolerance": TOLERANCE * lake.spacing},
        input_core_dims=[["time"]] * 2,
        output_core_dims=[["time"]],
        dask="parallelized",
        output_dtypes=[np.bool_],
    )
    coords = ds.coords.to_dataset()
    found = coords.drop_vars([name for name in coords.coords if coords[name].dims != ("time",)]).assign(
        shift_east=east, shift_north=north, similarity=similarity, geolocation_step=steps
    )
    for name, long_name in (("shift_east", "shift to the east"), ("shift_north", "shift to the north")):
        found[name].attrs = {"long_name": f"{long_name} of the image against its track's first", "units": "m"}
    found["similarity"].attrs = {"long_name": "correlation with the track's first images", "units": "1"}
    found["geolocation_step"].attrs = {"long_name": "whether two neighbours of a platform lie off alike"}
    return found.assign_attrs(lake=lake.id, reference_passes=reference_passes, tolerance_m=TOLERANCE * lake.spacing)


def _check(ds: xr.Dataset, polarisation: str, reference_passes: int) -> tuple[NDArray[Any], NDArray[Any]]:
    if absent := [name for name in (polarisation, "track", "time") if name not in ds.variables]:
        msg = f"the cube lacks {', '.join(absent)}; it has {', '.join(map(str, ds.variables))}"
        raise ConfigError(msg)
    if reference_passes < 1:
        msg = f"reference_passes is {reference_passes}; a reference needs at least 1 pass"
        raise ConfigError(msg)
    names = [name for name in ("track", "platform") if name in ds.coords]
    if lazy := [name for name in names if ds[name].chunks is not None]:
        name = lazy[0]
        msg = f"{name} is lazy, but lays out the result; load it first: ds.assign_coords({name}=ds.{name}.load())"
        raise ConfigError(msg)
    tracks = ds["track"].to_numpy()
    return tracks, ds["platform"].to_numpy() if "platform" in ds.coords else np.zeros(len(tracks))


def _mean(level: xr.Variable) -> xr.Variable:
    """Mean over time of what was observed, NaN where nothing was."""
    count = level.notnull().sum("time")
    mean: xr.Variable = level.sum("time", skipna=True) / count.where(count > 0)
    return mean


def _groups(tracks: NDArray[Any], platforms: NDArray[Any], order: NDArray[np.intp]) -> list[NDArray[np.intp]]:
    """Passes of one track and platform, in the order of their times."""
    _, track = np.unique(tracks, return_inverse=True)
    _, platform = np.unique(platforms, return_inverse=True)
    group = track * (int(platform.max(initial=0)) + 1) + platform
    return [order[group[order] == one] for one in np.unique(group)]


def _shifts(
    images: NDArray[Any], references: NDArray[Any], land: NDArray[np.bool_]
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    found = np.full((3, *images.shape[:-2]), np.nan)
    for place in np.ndindex(images.shape[:-2]):
        found[(slice(None), *place)] = _shift(images[place], references[place], land)
    return found[0], found[1], found[2]


def _shift(image: NDArray[Any], reference: NDArray[Any], land: NDArray[np.bool_]) -> tuple[float, float, float]:
    """Shift of an image down and right from its reference, pixels, and their correlation when it is taken back."""
    from scipy import ndimage, signal

    seen = np.isfinite(image) & np.isfinite(reference) & land
    if seen.mean() < _SMALLEST_SHARE:
        return np.nan, np.nan, np.nan
    taper = np.multiply.outer(*(np.hanning(size + 2)[1:-1] for size in image.shape))
    one, other = (np.where(seen, values - values[seen].mean(), 0).astype(np.float64) for values in (image, reference))
    # Speckle has all frequencies, terrain the lower ones: without the highest the peak is broad enough to be found.
    one, other = (ndimage.gaussian_filter(values * seen, 1.0) * taper for values in (one, other))
    whole = signal.correlate(one, other, mode="same", method="fft")
    first = [max(size // 2 - FARTHEST, 0) for size in image.shape]
    near = whole[tuple(slice(at, size // 2 + FARTHEST + 1) for at, size in zip(first, image.shape, strict=True))]
    row, column = (int(at) for at in np.unravel_index(int(near.argmax()), near.shape))
    if row in {0, near.shape[0] - 1} or column in {0, near.shape[1] - 1}:
        return np.nan, np.nan, np.nan  # the top lies outside
    down = first[0] + row + _top(near[row - 1 : row + 2, column]) - image.shape[0] // 2
    right = first[1] + column + _top(near[row, column - 1 : column + 2]) - image.shape[1] // 2
    back = ndimage.shift(one, (-down, -right), order=1)
    spread = float(np.sqrt((back**2).sum() * (other**2).sum()))
    similarity = float((back * other).sum()) / spread if spread else np.nan
    if not similarity >= LEAST_SIMILARITY:
        return np.nan, np.nan, similarity
    return float(down), float(right), similarity


def _top(values: NDArray[np.float64]) -> float:
    """Where the parabola through three values, the middle one the highest, has its top: -0.5 to 0.5."""
    before, at, after = values.tolist()
    bend = before - 2 * at + after
    return 0.5 * (before - after) / bend if bend else 0.0


def _steps(
    north: NDArray[np.float64], east: NDArray[np.float64], *, groups: list[NDArray[np.intp]], tolerance: float
) -> NDArray[np.bool_]:
    step = np.zeros(north.shape, np.bool_)
    far = np.hypot(north, east) > tolerance
    for every in groups:
        passes = every[np.isfinite(north[every])]
        one, two = passes[:-1], passes[1:]
        alike = north[one] * north[two] + east[one] * east[two] > 0
        both = far[one] & far[two] & alike
        step[one[both]] = True
        step[two[both]] = True
    return step
