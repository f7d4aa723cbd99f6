"""From a study to its results: find, build, segment, measure, draw, publish. Wires the verbs and nothing else."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import dask
import numpy as np
import pandas as pd
import xarray as xr
from scipy.ndimage import binary_erosion

from cubekit import cube, lakes, preprocess, segmentation, series
from cubekit.config import ComputeOptions, Study
from cubekit.cube import AppendReport
from cubekit.errors import ConfigError, CubekitError, NoObservations
from cubekit.files import replacing
from cubekit.lakes import Lake
from cubekit.sources import find_scenes

logger = logging.getLogger(__name__)

BATCH = 64
"""Passes that are segmented and stored together: what a kill can cost, and what is held in memory."""

CALM_METRES = 60.0
"""How far from the outline water is taken to be open, where looks are measured."""


class SummaryRow(NamedTuple):
    """One lake and track of the table that a run ends with.

    Parameters
    ----------
    lake, track
        Which.
    passes, known
        All passes, and those whose area is known.
    seen
        The most that the track sees of the lake zone; below 1 its areas are lower bounds.
    latest
        The newest pass whose area is known.
    area_km2, area_low, area_high
        Its area; NaN where there is none.
    trend
        Slope of the summer maxima and its 95 % interval, km2 per year, as text.
    verdict
        What the trend's test says.
    """

    lake: str
    track: int
    passes: int
    known: int
    seen: float
    latest: pd.Timestamp | None
    area_km2: float
    area_low: float
    area_high: float
    trend: str
    verdict: str


class Progress(Protocol):
    """Told of how far a run is."""

    def __call__(self, lake: str, stage: str, done: int, total: int) -> None:
        """`done` of `total` steps of a stage are done."""


@dataclass
class LakeReport:
    """What a run made of one lake.

    Parameters
    ----------
    cube, zarr
        Paths of the living cube and the published Zarr.
    snapshot
        Of the cube, when the results were made.
    append
        What became of the passes.
    model, model_hash, preprocessing
        What the areas were made with.
    area, maxima, trends
        Results, in memory.
    files
        Further paths.
    """

    cube: Path
    zarr: Path
    snapshot: str
    append: AppendReport
    model: str
    model_hash: str
    preprocessing: str
    area: xr.Dataset
    maxima: xr.Dataset
    trends: xr.Dataset
    files: dict[str, Path] = field(default_factory=dict)


@dataclass
class Report:
    """What a run made.

    Parameters
    ----------
    out
        The study's folder.
    lakes
        Results by lake id.
    failed
        Errors by lake id: one lake that fails does not end the others.
    """

    out: Path
    lakes: dict[str, LakeReport] = field(default_factory=dict)
    failed: dict[str, CubekitError] = field(default_factory=dict)

    def rows(self) -> list[SummaryRow]:
        """The summary, one row a lake and track."""
        return [row for name, lake in self.lakes.items() for row in _summary(name, lake)]

    def table(self) -> pd.DataFrame:
        """The summary as a table, with the columns of `SummaryRow`."""
        return pd.DataFrame(self.rows(), columns=list(SummaryRow._fields))


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
        When a lake isn't known, or the scheduler can't be used.

    Notes
    -----
    Writes below ``study.out``: cubes/<source>/<lake> (living), zarr/<source>/<lake>.zarr (published),
    series/<source>/{areas,maxima,trends}.csv, outlines/<source>/<lake>.geojson, figures/<source>/<lake>_*.png,
    study.toml and provenance.json. Killed at any moment, the next run goes on; one with nothing new changes no file.
    """
    chosen = study_lakes(study)
    report = Report(study.study.out)
    with _compute_on(study, scheduler):
        for name, lake in chosen.items():
            try:
                report.lakes[name] = _run_lake(study, lake, progress or _silent)
            except CubekitError as error:
                logger.warning("%s: %s", name, error)
                report.failed[name] = error
    _export(study, report)
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
    items = list(find_scenes(lake, options.uri, period.start, period.end))
    if options.tracks:
        items = [item for item in items if item.properties["sat:relative_orbit"] in options.tracks]
    if not items:
        msg = f"no scene of {lake.id} on the tracks {', '.join(map(str, options.tracks))} in {options.uri}"
        raise NoObservations(msg)
    progress(lake.id, "search", 1, 1)
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
        study.study.out / "cubes" / source,
        polarisations=options.polarisations,
        resampling=options.resampling,
        strict_grid=options.strict_grid,
        progress=built,
    )
    model = _segment(study, lake, path, progress)
    progress(lake.id, "measure", 0, 1)
    water = _of_study(cube.open_water(path, model), study)
    area, maxima, trends = _measure(study, lake, water)
    progress(lake.id, "measure", 1, 1)
    progress(lake.id, "publish", 0, 1)
    zarr = cube.publish(path, study.study.out / "zarr" / source / f"{lake.id}.zarr")
    progress(lake.id, "publish", 1, 1)
    result = LakeReport(
        cube=path,
        zarr=zarr,
        snapshot=cube.history(path)[0].id,
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
    passes = cube.open_cube(path)
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
    probability = segmentation.segment(image, study.model.path, lake=lake, engine=study.model.engine)
    probability.attrs["preprocessing"] = _chain(image, lake)
    name = str(probability.attrs["model"])
    pending = cube.pending_water(path, name, probability.attrs["model_hash"], probability.attrs["preprocessing"])
    places = np.flatnonzero(pending)
    progress(lake.id, "segment", len(pending) - len(places), len(pending))
    for start in range(0, len(places), BATCH):
        batch = probability.isel(time=places[start : start + BATCH]).compute()
        cube.write_water(path, name, batch)
        progress(lake.id, "segment", len(pending) - len(places) + start + len(batch), len(pending))
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


def _measure(study: Study, lake: Lake, water: xr.Dataset) -> tuple[xr.Dataset, xr.Dataset, xr.Dataset]:
    options = study.season
    probability = water["probability"].assign_attrs(water.attrs)
    area = series.lake_area(probability, lake, threshold=float(water.attrs["threshold"])).compute()
    maxima = series.summer_maxima(area, season=(options.start, options.end), min_observed=options.min_observed)
    trends = series.trend(maxima["maximum"])
    return area, maxima, trends


def _draw(study: Study, lake: Lake, result: LakeReport, water: xr.Dataset, source: str) -> None:
    from cubekit import plots

    out = study.study.out
    threshold = float(water.attrs["threshold"])
    probability = water["probability"].assign_attrs(water.attrs)
    outlines = out / "outlines" / source / f"{lake.id}.geojson"
    series.write_outlines(probability, lake, outlines, threshold=threshold)
    figures = out / "figures" / source
    area = plots.plot_area(result.area, maxima=result.maxima, trends=result.trends)
    plots.save_figure(area, figures / f"{lake.id}_area.png")
    result.files |= {"outlines": outlines, "area figure": figures / f"{lake.id}_area.png"}
    known = np.flatnonzero(result.area["area_km2"].notnull().values)
    if len(known):
        time = result.area["time"].values[known[-1]]
        image = cube.open_cube(result.cube)[study.preprocess.polarisation].sel(time=time)
        chip = plots.plot_chip(image.load(), probability.sel(time=time).load(), lake)
        plots.save_figure(chip, figures / f"{lake.id}_latest.png")
        result.files["latest figure"] = figures / f"{lake.id}_latest.png"


def _export(study: Study, report: Report) -> None:
    out = study.study.out
    with replacing(out / "study.toml") as temporary:
        temporary.write_text(study.dump(), encoding="utf-8")
    by_source: dict[str, dict[str, LakeReport]] = {}
    for name, lake in report.lakes.items():
        by_source.setdefault(lake.cube.parent.name, {})[name] = lake
    for source, results in by_source.items():
        folder = out / "series" / source
        series.write_csv({name: lake.area for name, lake in results.items()}, folder / "areas.csv")
        _write_table({name: lake.maxima for name, lake in results.items()}, folder / "maxima.csv")
        _write_table({name: lake.trends for name, lake in results.items()}, folder / "trends.csv")
        for lake in results.values():
            lake.files |= {name: folder / f"{name}.csv" for name in ("areas", "maxima", "trends")}
    if report.lakes:
        with replacing(out / "provenance.json") as temporary:
            temporary.write_text(json.dumps(_provenance(study, report), indent=2, sort_keys=True) + "\n")


def _write_table(datasets: Mapping[str, xr.Dataset], path: Path) -> None:
    tables = [data.reset_coords(drop=True).to_dataframe().reset_index().assign(lake=n) for n, data in datasets.items()]
    table = pd.concat(tables)
    if "verdict" in table:
        table["verdict"] = [series.VERDICTS[int(code)] for code in table["verdict"]]
    columns = ["lake", *(name for name in table.columns if name != "lake")]
    with replacing(path) as temporary:
        table[columns].to_csv(temporary, index=False, date_format="%Y-%m-%dT%H:%M:%SZ")


def _provenance(study: Study, report: Report) -> dict[str, Any]:
    from cubekit import __version__

    return {
        "cubekit": __version__,
        "study_sha256": hashlib.sha256(study.dump().encode()).hexdigest(),
        "lakes": {
            name: {
                "cube": str(lake.cube),
                "snapshot": lake.snapshot,
                "model": lake.model,
                "model_hash": lake.model_hash,
                "preprocessing": json.loads(lake.preprocessing),
                "passes": int(lake.area.sizes["time"]),
            }
            for name, lake in report.lakes.items()
        },
        "failed": {name: str(error) for name, error in report.failed.items()},
    }


def _summary(name: str, lake: LakeReport) -> Iterator[SummaryRow]:
    for track in np.unique(lake.area["track"].values).tolist():
        area = lake.area.isel(time=np.flatnonzero(lake.area["track"].values == track))
        places = np.flatnonzero(area["area_km2"].notnull().values)
        newest = area.isel(time=places[-1]) if len(places) else None
        km2, low, high = (
            np.nan if newest is None else float(newest[which]) for which in ("area_km2", "area_low", "area_high")
        )
        trend, verdict = "not known", "no summer pass"
        if track in lake.trends["track"].values:
            one = lake.trends.sel(track=track)
            verdict = series.VERDICTS[int(one["verdict"])].replace("_", " ")
            if np.isfinite(float(one["slope"])):
                slope, least, most = (float(one[part]) for part in ("slope", "slope_low", "slope_high"))
                trend = f"{slope:+.4f} ({least:+.4f} to {most:+.4f})"
        yield SummaryRow(
            lake=name,
            track=track,
            passes=area.sizes["time"],
            known=len(places),
            seen=float(area["observed_fraction"].max()),
            latest=None if newest is None else pd.Timestamp(newest["time"].item()),
            area_km2=km2,
            area_low=low,
            area_high=high,
            trend=trend,
            verdict=verdict,
        )


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
        client = Client(options.scheduler, timeout=10)
    except (OSError, TimeoutError, ValueError) as error:
        msg = f"no Dask scheduler answers at {options.scheduler}: {error}"
        raise ConfigError(msg) from error
    with client:
        yield


def _silent(lake: str, stage: str, done: int, total: int) -> None:
    """Progress that is not shown."""
