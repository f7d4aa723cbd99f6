"""The files of one lake: outlines, figures, and the formats that a study asks for."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cubekit import series
from cubekit.config import OutputOptions
from cubekit.errors import MissingExtra
from cubekit.lakes import Lake
from cubekit.results import FAIR, Results

_NEEDED = {
    "parquet": ("parquet", ("pyarrow",)),
    "netcdf": ("netcdf", ("h5py", "h5netcdf")),
    "geopackage": ("vector", ("pyogrio",)),
}
_FIGURES = ("area", "seasons", "fused", "shores", "calendar", "latest")


def check_formats(output: OutputOptions) -> None:
    """See that what the formats need is installed, before anything is built.

    Parameters
    ----------
    output
        Of a study.

    Raises
    ------
    MissingExtra
        When it isn't; the message names the extra.
    """
    for name in output.formats:
        extra, libraries = _NEEDED.get(name, ("", ()))
        for library in libraries:
            try:
                import_module(library)
            except ImportError as error:
                msg = f'{library} is not installed, and the format {name!r} needs it; pip install "cubekit[{extra}]"'
                raise MissingExtra(msg) from error


def paths(lake: str, source: str) -> dict[str, Path]:
    """Where the files of a lake lie, relative to the study's folder, by their names; masks are not among them.

    Examples
    --------
    >>> str(paths("gokyo", "opera")["area figure"])
    'figures/opera/gokyo_area.png'
    """
    found = {f"{name} figure": Path("figures") / source / f"{lake}_{name}.png" for name in _FIGURES}
    found["animation"] = Path("figures") / source / f"{lake}_decade.gif"
    found["outlines"] = Path("outlines") / source / f"{lake}.geojson"
    found["geopackage"] = Path("outlines") / source / f"{lake}.gpkg"
    found["netcdf"] = Path("series") / source / f"{lake}.nc"
    found["parquet"] = Path("series") / source / f"{lake}.parquet"
    return found


def write_lake(
    folder: Path,
    source: str,
    lake: Lake,
    results: Results,
    images: xr.DataArray,
    water: xr.Dataset,
    output: OutputOptions,
) -> dict[str, Path]:
    """Write what a lake has to show.

    Parameters
    ----------
    folder
        Stands for the study's folder.
    source
        Of the lake's cube.
    lake
        At the spacing of the cube.
    results
        Of the lake; provenance is in the attributes of the areas.
    images, water
        The passes as they are drawn, linear power, and their probability of water; lazy.
    output
        What is asked for.

    Returns
    -------
    dict of str to pathlib.Path
        Relative to `folder`, by the names of `paths`. A figure of what isn't known isn't drawn.
    """
    where = paths(lake.id, source)
    probability = water["probability"].assign_attrs(water.attrs)
    shores: dict[str, Any] = {"area": results.area, "threshold": float(water.attrs["threshold"])}
    made = {"outlines"}
    series.write_outlines(probability, lake, folder / where["outlines"], **shores)
    if "geopackage" in output.formats:
        series.write_geopackage(probability, lake, folder / where["geopackage"], **shores)
    if "netcdf" in output.formats:
        series.write_netcdf(_along_time(results), lake, folder / where["netcdf"])
    if "parquet" in output.formats:
        series.write_parquet(results.area, folder / where["parquet"])
    made |= {"geopackage", "netcdf", "parquet"} & set(output.formats)
    made |= _draw_series(folder, where, results) | _draw_maps(folder, where, lake, results, images, probability)
    if "animation" in output.formats:
        made |= _animate(folder / where["animation"], lake, results, images, probability, output.frames)
    return {name: where[name] for name in sorted(made)}


def _along_time(results: Results) -> xr.Dataset:
    """All that is known of each pass, the fused series beside it, in an order that doesn't depend on the cube's."""
    names = {"area_km2": "fused_km2", "area_low": "fused_low", "area_high": "fused_high", "weight": "fused_weight"}
    fused = {} if results.fused is None else {new: results.fused[old].variable for old, new in names.items()}
    area = results.area.assign(fused)
    coords = {name: area.coords[name].variable for name in sorted(map(str, area.coords))}
    variables = {name: area[name].variable for name in sorted(map(str, area.data_vars))}
    return xr.Dataset(variables, coords, dict(sorted(area.attrs.items())))


def _draw_series(folder: Path, where: dict[str, Path], results: Results) -> set[str]:
    from cubekit import plots

    trends = results.trends.get(FAIR)
    drawn = {
        "area figure": plots.plot_area(results.area, maxima=results.maxima, trends=trends, fused=results.fused),
        "calendar figure": plots.plot_completeness(results.area),
    }
    if results.maxima is not None:
        drawn["seasons figure"] = plots.plot_maxima(results.maxima, trends=trends)
    if results.fused_maxima is not None:
        drawn["fused figure"] = plots.plot_maxima(results.fused_maxima, trends=results.fused_trends[FAIR])
    for name, ax in drawn.items():
        plots.save_figure(ax, folder / where[name])
    return set(drawn)


def _draw_maps(
    folder: Path, where: dict[str, Path], lake: Lake, results: Results, images: xr.DataArray, probability: xr.DataArray
) -> set[str]:
    from cubekit import plots

    known = np.flatnonzero(results.area["area_km2"].notnull().values)
    if not len(known):
        return set()
    newest = known[-1]
    chip = plots.plot_chip(images.isel(time=newest).load(), probability.isel(time=newest).load(), lake)
    plots.save_figure(chip, folder / where["latest figure"])
    if results.maxima is None:
        return {"latest figure"}
    largest = results.maxima["time_of_maximum"].sel(track=best_track(results)).to_numpy()
    of_track = results.area["track"].to_numpy() == best_track(results)
    places = np.flatnonzero(of_track & np.isin(results.area["time"].to_numpy(), largest))
    threshold = float(results.area.attrs["threshold"])
    area = results.area.isel(time=places)
    collection = series.outlines(probability.isel(time=places), lake, area=area, threshold=threshold)
    plots.save_figure(plots.plot_outlines(collection, lake), folder / where["shores figure"])
    return {"latest figure", "shores figure"}


def best_track(results: Results) -> Any:
    """Find the track that sees most of a lake: the reference of the fused series, where there is one.

    A track that the lake is hidden from may observe every pixel, in layover: only passes with an area count.
    """
    tracks = np.unique(results.area["track"].to_numpy()).tolist()
    if results.fused is not None:
        reference = results.fused["track"].to_numpy()[results.fused["reference"].to_numpy()].item()
        return next(track for track in tracks if str(track) == reference)
    known = results.area["observed_fraction"].where(results.area["area_km2"].notnull())
    fraction, of = known.to_numpy(), results.area["track"].to_numpy()
    return max(tracks, key=lambda track: float(np.nan_to_num(fraction[of == track]).max()))


def _animate(
    path: Path, lake: Lake, results: Results, images: xr.DataArray, probability: xr.DataArray, frames: int
) -> set[str]:
    """A film of one track, since two see the valley from two sides."""
    from cubekit import plots

    known = results.area["area_km2"].notnull().to_numpy() & (results.area["track"].to_numpy() == best_track(results))
    places = np.flatnonzero(known)
    if not len(places):
        return set()
    chosen = places[np.unique(np.linspace(0, len(places) - 1, min(frames, len(places))).round().astype(int))]
    film = plots.pass_frames(images.isel(time=chosen), probability.isel(time=chosen), lake, area=results.area)
    plots.save_animation(film, path)
    return {"animation"}
