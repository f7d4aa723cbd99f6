"""From a study to its results: find, build, segment, measure, draw, publish. Wires the verbs and nothing else."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

import dask
import numpy as np
import xarray as xr
from scipy.ndimage import binary_erosion

from cubekit import cube, lakes, preprocess, segmentation, series
from cubekit.config import ComputeOptions, Study
from cubekit.errors import ConfigError, CubeConflict, CubekitError, NoObservations, SourceError
from cubekit.lakes import Lake
from cubekit.report import FAIR, STATISTICS, LakeReport, Report, write_results
from cubekit.segmentation import shipped
from cubekit.sources import find_scenes, opera

logger = logging.getLogger(__name__)

BATCH = 64
"""Passes that are segmented and stored together: what a kill can cost, and what is held in memory."""

CALM_METRES = 60.0
"""How far from the outline water is taken to be open, where looks are measured."""

ANSWER_SECONDS = 10
"""How long a Dask scheduler may take to answer."""


class Progress(Protocol):
    """Told of how far a run is."""

    def __call__(self, lake: str, stage: str, done: int, total: int) -> None:
        """`done` of `total` steps of a stage are done."""


def run(study: Study, scheduler: str | None = None, *, progress: Progress | None = None) -> Report:
    """Run a whole study, or what of it is not done yet.

    Parameters
    ----------
    study
        What to do.
    scheduler
        ``threads``, ``processes`` or a Dask address; overrides the study's.
    progress
        Told of how far it is.

    Returns
    -------
    Report
        Paths, results and the summary table.

    Raises
    ------
    ConfigError
        When a lake isn't known, the folder can't be made, or the scheduler can't be used.
    ModelError, MissingExtra
        When the model's file is not one, before anything is built.

    Notes
    -----
    What ends one lake is in ``Report.failed``; the others go on, and its rows of an earlier run stay in the tables.

    Writes below ``study.out``: cubes/<source>/<lake> (living), zarr/<source>/<lake>.zarr (published),
    series/<source>/{areas,maxima,trends}.csv, outlines/<source>/<lake>.geojson, figures/<source>/<lake>_*.png,
    study.toml and provenance.json. Killed at any moment, the next run goes on; one with nothing new, or in which every
    lake fails, changes no file.
    """
    chosen = study_lakes(study)
    if study.model.path not in {"auto", "otsu"}:
        segmentation.read_card(shipped.find(study.model.path))
    report = Report(study.study.out)
    try:
        report.out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"{report.out} can't be made ({error.strerror}); give another folder as study.out"
        raise ConfigError(msg) from error
    with _compute_on(study, scheduler):
        for name, lake in chosen.items():
            try:
                report.lakes[name] = _run_lake(study, lake, progress or _silent)
            except Exception as error:
                # One lake that fails, for whatever reason, must not take the others' results with it.
                logger.info("%s: %s", name, error, exc_info=not isinstance(error, CubekitError))
                report.failed[name] = error
    write_results(study, report)
    return report


def study_lakes(study: Study) -> Mapping[str, Lake]:
    """The lakes of a study, by id.

    Raises
    ------
    ConfigError
        When one isn't known, or is given twice.
    """
    chosen: dict[str, Lake] = {}
    for options in study.lake:
        known = lakes.catalogue() if options.geojson is None else lakes.load(options.geojson)
        where = "the catalogue" if options.geojson is None else str(options.geojson)
        if options.id is not None and options.id not in known:
            msg = f"lake {options.id!r} is not in {where}; it has {', '.join(sorted(known))}"
            raise ConfigError(msg)
        for name in known if options.id is None else [options.id]:
            if name in chosen:
                msg = f"lake {name!r} is given twice"
                raise ConfigError(msg)
            chosen[name] = known[name]
    return chosen


def _run_lake(study: Study, lake: Lake, progress: Progress) -> LakeReport:
    options, period = study.source, study.period
    progress(lake.id, "search", 0, 1)
    items = list(find_scenes(lake, options.uri, period.start, period.end, tracks=options.tracks))
    progress(lake.id, "search", 1, 1)
    if options.download:
        items = list(opera.download(items, study.study.out / "granules"))
    lake = lake.at_spacing(int(items[0].properties["cubekit:spacing"]))
    source = str(items[0].properties["cubekit:source"])
    path = study.study.out / "cubes" / source / lake.id
    total = len({(i.properties["platform"], i.properties["sat:absolute_orbit"]) for i in items})
    done = 0

    def built(count: int) -> None:
        nonlocal done
        done += count
        progress(lake.id, "build", done, total)

    appended = cube.update(
        lake,
        items,
        path.parent,
        polarisations=options.polarisations,
        resampling=options.resampling,
        strict_grid=options.strict_grid,
        progress=built,
    )
    if len(appended.refused) == total:
        granule, reason = next(iter(appended.refused.items()))
        msg = f"none of {total} passes in {options.uri} can be used, and the cube is as it was: {granule}: {reason}"
        raise SourceError(msg)
    model = _segment(study, lake, path, progress)
    progress(lake.id, "measure", 0, 1)
    snapshot = cube.history(path)[0].id
    water = _of_study(cube.open_water(path, model, as_of=snapshot), study)
    area, maxima, trends = _measure(study, lake, water)
    progress(lake.id, "measure", 1, 1)
    progress(lake.id, "publish", 0, 1)
    zarr = cube.publish(path, study.study.out / "zarr" / source / f"{lake.id}.zarr")
    progress(lake.id, "publish", 1, 1)
    result = LakeReport(
        cube=path,
        zarr=zarr,
        snapshot=snapshot,
        append=appended,
        model=model,
        model_hash=water.attrs["model_hash"],
        preprocessing=water.attrs["preprocessing"],
        area=area,
        maxima=maxima,
        trends=trends,
    )
    _draw(study, lake, result, water, source)
    return result


def _segment(study: Study, lake: Lake, path: Path, progress: Progress) -> str:
    """Bring the stored probabilities of a lake up to date; gives the model's name."""
    # One snapshot from here on: another process may write meanwhile.
    passes = cube.open_cube(path, as_of=cube.history(path)[0].id)
    options = study.preprocess
    prepared = preprocess.prepare(
        passes,
        lake,
        polarisation=options.polarisation,
        filter=options.filter,
        window=options.window,
        looks=_looks(study, lake, path, passes),
    )
    network = study.model.path != "otsu"
    image = preprocess.equalize(prepared, method=options.equalize) if network else prepared
    model = shipped.find(study.model.path)
    if study.model.path == "auto":
        model = shipped.choose(image.attrs["preprocessing"])
    probability = segmentation.segment(image, model, lake=lake, engine=study.model.engine)
    probability.attrs["preprocessing"] = _chain(image, lake)
    name = str(probability.attrs["model"])
    made_by = (name, str(probability.attrs["model_hash"]), str(probability.attrs["preprocessing"]))
    pending = cube.pending_water(path, passes, *made_by)
    places = np.flatnonzero(pending)
    progress(lake.id, "segment", len(pending) - len(places), len(pending))
    for start in range(0, len(places), BATCH):
        batch = probability.isel(time=places[start : start + BATCH]).compute()
        cube.write_water(path, name, batch)
        progress(lake.id, "segment", len(pending) - len(places) + start + len(batch), len(pending))
    if len(places) and cube.pending_water(path, passes, *made_by).any():
        msg = (
            f"another process has changed {path} or its water meanwhile; run again, each study into an `out` of its own"
        )
        raise CubeConflict(msg)
    return name


def _looks(study: Study, lake: Lake, path: Path, passes: xr.Dataset) -> float | None:
    """Looks for the filter: the study's, the product's, or measured once on the lake and kept with the cube."""
    options = study.preprocess
    power = passes[options.polarisation]
    if options.looks is not None or options.filter == "none" or power.attrs["speckle_filter"] != "none":
        return options.looks
    if "looks" in power.attrs:
        return None  # the filter takes the product's
    kept = f"looks_measured_{options.polarisation}"
    if kept in passes.attrs:
        return float(passes.attrs[kept])
    pixels = int(np.ceil(CALM_METRES / lake.spacing))
    calm = lake.outline_mask.copy(data=binary_erosion(lake.outline_mask.values, iterations=pixels))
    measured = preprocess.equivalent_looks(power, calm).compute()
    looks = float(measured.median())
    if not np.isfinite(looks):
        msg = f"the looks of {lake.id} can't be measured: no open water seen well off its shore; give preprocess.looks"
        raise NoObservations(msg)
    cube.remember(path, {kept: round(looks, 2)})
    return round(looks, 2)


def _chain(image: xr.DataArray, lake: Lake) -> str:
    """Everything that makes the image of a pass what it is, as JSON: when it changes, all is segmented anew."""
    steps = ("source", "spacing", "polarisation", "speckle_filter", "filter_looks", "window", "equalize")
    chain = {step: image.attrs[step] for step in steps if step in image.attrs}
    geometry = hashlib.sha256(lake.aoi.wkb + lake.outline.wkb).hexdigest()[:12]
    return json.dumps(chain | {"aoi_and_outline": geometry}, sort_keys=True, default=float)


def _of_study(water: xr.Dataset, study: Study) -> xr.Dataset:
    """The passes that the study asks for: a cube may hold more from other runs."""
    keep = xr.ones_like(water["time"], dtype=bool)
    if study.period.start:
        keep &= water["time"] >= np.datetime64(study.period.start)
    if study.period.end:
        keep &= water["time"] < np.datetime64(study.period.end) + np.timedelta64(1, "D")
    if study.source.tracks:
        keep &= water["track"].isin(list(study.source.tracks))
    chosen = water.isel(time=np.flatnonzero(keep.values))
    if not chosen.sizes["time"]:
        msg = f"the cube of {water.attrs['lake']} has no pass in this period and on these tracks"
        raise NoObservations(msg)
    return chosen


def _measure(
    study: Study, lake: Lake, water: xr.Dataset
) -> tuple[xr.Dataset, xr.Dataset | None, dict[str, xr.Dataset]]:
    options = study.season
    probability = water["probability"].assign_attrs(water.attrs)
    area = series.lake_area(probability, lake, threshold=float(water.attrs["threshold"])).compute()
    try:
        maxima = series.summer_maxima(area, season=(options.start, options.end), min_observed=options.min_observed)
    except NoObservations:  # no pass lies in the season: the areas are still known
        return area, None, {}
    return area, maxima, {statistic: series.trend(maxima[statistic]) for statistic in STATISTICS}


def _draw(study: Study, lake: Lake, result: LakeReport, water: xr.Dataset, source: str) -> None:
    from cubekit import plots

    out = study.study.out
    threshold = float(water.attrs["threshold"])
    probability = water["probability"].assign_attrs(water.attrs)
    outlines = out / "outlines" / source / f"{lake.id}.geojson"
    series.write_outlines(probability, lake, outlines, threshold=threshold)
    figures = out / "figures" / source
    area = plots.plot_area(result.area, maxima=result.maxima, trends=result.trends.get(FAIR))
    plots.save_figure(area, figures / f"{lake.id}_area.png")
    result.files |= {"outlines": outlines, "area figure": figures / f"{lake.id}_area.png"}
    known = np.flatnonzero(result.area["area_km2"].notnull().values)
    if len(known):
        time = result.area["time"].values[known[-1]]
        image = cube.open_cube(result.cube, as_of=result.snapshot)[study.preprocess.polarisation].sel(time=time)
        chip = plots.plot_chip(image.load(), probability.sel(time=time).load(), lake)
        plots.save_figure(chip, figures / f"{lake.id}_latest.png")
        result.files["latest figure"] = figures / f"{lake.id}_latest.png"


@contextmanager
def _compute_on(study: Study, scheduler: str | None) -> Iterator[None]:
    """Set dask's scheduler for a run."""
    options = study.compute
    if scheduler is not None:
        options = ComputeOptions.parse({**options.model_dump(), "scheduler": scheduler}, "--scheduler")
    if options.scheduler == "threads":
        with dask.config.set(scheduler="threads", num_workers=options.workers):
            yield
        return
    from distributed import Client, LocalCluster

    if options.scheduler == "processes":
        limits = {"memory_limit": options.memory} if options.memory else {}
        with (
            LocalCluster(n_workers=options.workers, threads_per_worker=1, dashboard_address=None, **limits) as cluster,
            Client(cluster),
        ):
            yield
        return
    try:
        client = Client(options.scheduler, timeout=ANSWER_SECONDS)
    except (OSError, TimeoutError, ValueError) as error:
        msg = (
            f"no Dask scheduler answers at {options.scheduler}: {error}; start one there, or give threads or processes"
        )
        raise ConfigError(msg) from error
    with client:
        yield


def _silent(lake: str, stage: str, done: int, total: int) -> None:
    """Progress that is not shown."""
