"""Four lakes, a decade: from cubes on disk to trends and figures, beside the bare network over the same chips.

What `cubekit run` does once the cubes are there: filter, equalise, segment, store, measure (states, areas and their
intervals, what each track sees), seasons, trends, the fused series, alerts, tables, outlines, figures.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path

import dask
import numpy as np

from benchmarks import Result
from benchmarks import _passes as passes
from benchmarks._timing import THREADS
from cubekit import lakes, pipeline
from cubekit.config import Study
from cubekit.cube import AppendReport
from cubekit.report import Report
from cubekit.segmentation import engines, model_hash, read_card, shipped
from cubekit.segmentation.inference import in_views

LAKES = ("tsho_rolpa", "chamlang_tsho", "tilicho", "gokyo")
MODEL = "opera-30m"
EACH = 650
BARE = 512
"""Chips that the bare network is timed over: each takes as long as the next."""


class _Stages(dict):
    """Seconds of each stage of a run, all lakes together."""

    def __init__(self) -> None:
        super().__init__()
        self._since = time.perf_counter()

    def __call__(self, lake: str, stage: str, done: int, total: int) -> None:  # noqa: ARG002 - a `Progress`
        now = time.perf_counter()
        if done:
            self[stage] = self.get(stage, 0.0) + now - self._since
        self._since = now


def whole(study: Study, stages: _Stages) -> Report:
    """All of it, lake by lake, as `cubekit.run` has it after the cubes."""
    report = Report(study.study.out)
    folder = report.out / pipeline.UNFINISHED
    with dask.config.set(scheduler="threads", num_workers=THREADS):
        for name, lake in pipeline.study_lakes(study).items():
            here, path = lake.at_spacing(30), report.out / "cubes" / "opera" / name
            made_by = pipeline.segment_passes(study, here, path, stages)
            given = (study, here, path, made_by, AppendReport(), folder / name, stages)
            report.lakes[name] = pipeline.measure_lake(*given)
        pipeline.finish(study, report, folder)
    return report


def bare(chips: int, engine: str) -> float:
    """Seconds of the network alone, batch by batch, after one that warms it up."""
    path = shipped.find(MODEL)
    running, views = engines.load(str(path), model_hash(path), engine), read_card(path).views
    batch = np.random.default_rng(0).integers(1, 256, (running.batch, 2, 256, 256), dtype=np.uint8)
    in_views(running, batch, views)
    start = time.perf_counter()
    for begin in range(0, chips, running.batch):
        in_views(running, batch[: min(running.batch, chips - begin)], views)
    return time.perf_counter() - start


def measure(*, tiny: bool = False) -> list[Result]:
    """Once: it takes minutes."""
    each, chosen = (12, LAKES[:1]) if tiny else (EACH, LAKES)
    with tempfile.TemporaryDirectory() as folder:
        study = Study.parse(
            {
                "study": {"name": "decade", "out": folder},
                "lake": [{"id": name} for name in chosen],
                "source": {"uri": "opera"},
                "model": {"path": MODEL, "engine": "torch"},
            }
        )
        for name in chosen:
            path = Path(folder) / "cubes" / "opera" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            passes.write_living(path, lakes.catalogue()[name].at_spacing(30), each)
        exact = engines.resolve("torch")
        count = each * len(chosen)
        alone = bare(min(count, BARE), exact) * count / min(count, BARE)
        stages, start = _Stages(), time.perf_counter()
        report = whole(study, stages)
        seconds = time.perf_counter() - start
    assert sum(len(lake.area["time"]) for lake in report.lakes.values()) == count
    parts = ", ".join(f"{stage} {taken:.0f} s" for stage, taken in stages.items())
    return [
        Result(
            f"{len(chosen)} lakes, {count} passes, cube to trend and figures: the network alone ({exact})",
            seconds / alone,
            1.25,
            at_most=True,
            unit="x the time",
            detail=f"{seconds:.0f} s, the network alone {alone:.0f} s; {parts}",
        )
    ]
