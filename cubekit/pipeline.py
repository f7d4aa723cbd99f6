"""From a study to its results: find, update, segment, measure, write. Wires the verbs and nothing else."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pystac
import xarray as xr

from cubekit import cube, lakes, products, segmentation, series
from cubekit.areas import measure_areas
from cubekit.config import Study
from cubekit.errors import ConfigError, CubekitError, NoObservations, SourceError
from cubekit.files import move_all
from cubekit.lakes import Lake
from cubekit.report import LakeReport, Report, write_results
from cubekit.results import measure
from cubekit.schedulers import compute_on
from cubekit.segmentation import shipped
from cubekit.segmenting import Progress, segment_passes
from cubekit.sources import find_scenes, opera

__all__ = [
    "UNFINISHED",
    "Progress",
    "append_items",
    "finish",
    "measure_lake",
    "of_study",
    "run",
    "run_lake",
    "segment_passes",
    "study_lakes",
    "update_cube",
]

logger = logging.getLogger(__name__)

UNFINISHED = ".unfinished"
"""Folder of a study's `out` that a run writes to until all of its files take their places together."""


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
        When the model's file is not one, or a format's library is absent, before anything is built.

    Notes
    -----
    What ends one lake is in ``Report.failed``; the others go on, and its rows of an earlier run stay in the tables.

    Writes below ``study.out``: cubes/<source>/<lake> (living), zarr/<source>/<lake>.zarr (published), and then, all
    together: series/<source>/*.csv, outlines/<source>/<lake>.geojson, figures/<source>/<lake>_*.png, the formats of
    ``study.output``, study.toml and provenance.json. Killed at any moment, the next run goes on; one with nothing new,
    or in which every lake fails, changes no file.
    """
    chosen = study_lakes(study)
    if study.model.path not in {"auto", "otsu"}:
        segmentation.read_card(shipped.find(study.model.path))
    products.check_formats(study.output)
    report = Report(study.study.out)
    unfinished = report.out / UNFINISHED
    try:
        report.out.mkdir(parents=True, exist_ok=True)
        shutil.rmtree(unfinished, ignore_errors=True)  # a killed run's
    except OSError as error:
        msg = f"{report.out} can't be made ({error.strerror}); give another folder as study.out"
        raise ConfigError(msg) from error
    try:
        with compute_on(study, scheduler):
            for name, lake in chosen.items():
                try:
                    report.lakes[name] = run_lake(study, lake, unfinished / name, progress or _silent)
                except Exception as error:
                    # One lake that fails, for whatever reason, must not take the others' results with it.
                    logger.info("%s: %s", name, error, exc_info=not isinstance(error, CubekitError))
                    report.failed[name] = error
                    shutil.rmtree(unfinished / name, ignore_errors=True)
        finish(study, report, unfinished)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
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


def run_lake(study: Study, lake: Lake, folder: Path, progress: Progress) -> LakeReport:
    """Do all that a study asks for at one lake; nobody sees its products yet, but in the cube.

    Parameters
    ----------
    study
        What to do.
    lake
        One of `study_lakes`.
    folder
        Gets the lake's files, as they will lie in the study's `out`; `finish` moves them there.
    progress
        Told of how far it is.

    Returns
    -------
    LakeReport
        Its files are at the paths that they will have.

    Raises
    ------
    CubekitError
        Whatever ends this lake.
    """
    path, appended, lake = update_cube(study, lake, progress)
    model = segment_passes(study, lake, path, progress)
    report = measure_lake(study, lake, path, model, appended, folder, progress)
    progress(lake.id, "publish", 0, 1)
    cube.publish(path, report.zarr)
    progress(lake.id, "publish", 1, 1)
    return report


def update_cube(study: Study, lake: Lake, progress: Progress) -> tuple[Path, cube.AppendReport, Lake]:
    """Find a lake's scenes and put what is new into its cube.

    Returns
    -------
    path : pathlib.Path
        Of the living cube.
    appended : AppendReport
        What became of the passes.
    lake : Lake
        At the spacing of the cube.

    Raises
    ------
    SourceError
        When nothing is found, or none of it can be used.
    """
    options, period = study.source, study.period
    progress(lake.id, "search", 0, 1)
    items = list(find_scenes(lake, options.uri, period.start, period.end, tracks=options.tracks))
    progress(lake.id, "search", 1, 1)
    if options.download:
        items = list(opera.download(items, study.study.out / "granules"))
    path, appended, lake = append_items(study, lake, items, progress)
    if len(appended.refused) == _count_passes(items):
        granule, reason = next(iter(appended.refused.items()))
        msg = (
            f"none of {len(appended.refused)} passes in {options.uri} can be used, and the cube is as it was: "
            f"{granule}: {reason}"
        )
        raise SourceError(msg)
    return path, appended, lake


def append_items(
    study: Study, lake: Lake, items: Sequence[pystac.Item], progress: Progress
) -> tuple[Path, cube.AppendReport, Lake]:
    """Put scenes that were found into a lake's cube, as the study says.

    Parameters
    ----------
    study, lake, progress
        As for `run_lake`.
    items
        Of one source, one at least.

    Returns
    -------
    path, appended, lake
        As `update_cube`. What is refused is in the report.

    Raises
    ------
    CubekitError
        As `cube.update`.
    """
    options = study.source
    lake = lake.at_spacing(int(items[0].properties["cubekit:spacing"]))
    source = str(items[0].properties["cubekit:source"])
    path = study.study.out / "cubes" / source / lake.id
    total, done = _count_passes(items), 0

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
    return path, appended, lake


def _count_passes(items: Sequence[pystac.Item]) -> int:
    return len({(one.properties["platform"], one.properties["sat:absolute_orbit"]) for one in items})


def measure_lake(
    study: Study, lake: Lake, path: Path, model: str, appended: cube.AppendReport, folder: Path, progress: Progress
) -> LakeReport:
    """Measure all passes of a cube that a study asks for, and write the lake's files.

    Parameters
    ----------
    study, lake, folder, progress
        As for `run_lake`; the lake at the spacing of the cube.
    path, appended
        From `update_cube`.
    model
        From `segment_passes`.

    Returns
    -------
    LakeReport
        As for `run_lake`; nothing is at its ``zarr`` yet.

    Raises
    ------
    NoObservations
        When the cube has no pass that the study asks for.
    """
    progress(lake.id, "measure", 0, 1)
    snapshot, source = cube.history(path)[0].id, path.parent.name
    origin = {"snapshot": snapshot, "config_hash": study.fingerprint}
    passes = of_study(cube.open_cube(path, as_of=snapshot), study)
    water = of_study(cube.open_water(path, model, as_of=snapshot), study).assign_attrs(origin)
    front = next((one.front for one in study.lake if one.id == lake.id), None)
    polarisation = study.preprocess.polarisation
    area, tracks, water, unknown = measure_areas(passes, water, lake, polarisation=polarisation, front=front)
    options = study.season
    results = measure(
        area.assign_attrs(origin), season=options.days, min_observed=options.min_observed, looks=options.looks
    )
    results.unknown |= unknown
    progress(lake.id, "measure", 1, 1)
    progress(lake.id, "write", 0, 1)
    made = products.write_lake(folder, source, lake, results, passes[polarisation], water, study.output)
    files = {name: study.study.out / place for name, place in made.items()}
    if "masks" in study.output.formats:
        probability = water["probability"].assign_attrs(water.attrs)
        home, threshold = study.study.out / "masks" / source, float(water.attrs["threshold"])
        files["masks"] = series.write_masks(probability, lake, home, area=results.area, threshold=threshold)
    progress(lake.id, "write", 1, 1)
    return LakeReport(
        cube=path,
        zarr=study.study.out / "zarr" / source / f"{lake.id}.zarr",
        snapshot=snapshot,
        append=appended,
        model=model,
        model_hash=water.attrs["model_hash"],
        preprocessing=water.attrs["preprocessing"],
        tracks=tracks,
        results=results,
        files=files,
    )


def finish(study: Study, report: Report, folder: Path) -> None:
    """Write the tables of the lakes that were run, and let all files take their places together.

    Parameters
    ----------
    study
        What was run.
    report
        What came out. When every lake has failed nothing is written: what is there belongs to an earlier run.
    folder
        Has a folder of each lake's files, as `run_lake` wrote them.
    """
    if not report.lakes:
        return
    together = folder / "all"
    for name in report.lakes:
        move_all(folder / name, together)
    write_results(study, report, together)
    places = {(name, lake.cube.parent.name): lake for name, lake in report.lakes.items()}
    move_all(together, report.out, leave=[path for one in places for path in products.paths(*one).values()])


def of_study(water: xr.Dataset, study: Study) -> xr.Dataset:
    """Choose the passes that a study asks for: a cube may hold more from other runs.

    Parameters
    ----------
    water
        Over time: what `open_cube` or `open_water` gives.
    study
        Its period and tracks count.

    Raises
    ------
    NoObservations
        When there is none.
    """
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


def _silent(lake: str, stage: str, done: int, total: int) -> None:
    """Progress that is not shown."""
