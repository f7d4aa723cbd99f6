"""The water of a study's cubes: what of a cube a model has not seen is prepared, segmented and stored."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Protocol

import numpy as np
import xarray as xr
from scipy.ndimage import binary_erosion

from cubekit import cube, preprocess, segmentation
from cubekit.config import PreprocessOptions, Study
from cubekit.errors import CubeConflict, NoObservations
from cubekit.lakes import Lake
from cubekit.segmentation import shipped

BATCH = 64
"""Passes that are segmented and stored together: what a kill can cost, and what is held in memory."""

CALM_METRES = 60.0
"""How far from the outline water is taken to be open, where looks are measured."""


class Progress(Protocol):
    """Told of how far a run is."""

    def __call__(self, lake: str, stage: str, done: int, total: int) -> None:
        """`done` of `total` steps of a stage are done."""


def segment_passes(study: Study, lake: Lake, path: Path, progress: Progress) -> str:
    """Bring the stored probabilities of a lake up to date.

    Returns
    -------
    str
        The model's name.

    Raises
    ------
    ModelError
        When the model was made for other images.
    CubeConflict
        When another process changes the cube meanwhile.
    """
    # One snapshot from here on: another process may write meanwhile.
    passes = cube.in_fewer_chunks(cube.open_cube(path, as_of=cube.history(path)[0].id))
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
    every = segmentation.segment(image, model, lake=lake, engine=study.model.engine)
    engine, name = str(every.attrs.get("engine", study.model.engine)), str(every.attrs["model"])
    chain = _chain(image, lake, engine)
    made_by = (name, str(every.attrs["model_hash"]), chain)
    pending = cube.pending_water(path, passes, *made_by)
    places = np.flatnonzero(pending)
    progress(lake.id, "segment", len(pending) - len(places), len(pending))
    for start in range(0, len(places), BATCH):
        # Taken out before the network sees them: it gets several passes at once, and would run over their neighbours.
        some = image.isel(time=places[start : start + BATCH])
        batch = segmentation.segment(some, model, lake=lake, engine=engine).compute()
        cube.write_water(path, name, batch.assign_attrs(preprocessing=chain))
        progress(lake.id, "segment", len(pending) - len(places) + start + len(batch), len(pending))
    if len(places) and cube.pending_water(path, passes, *made_by).any():
        msg = (
            f"another process has changed {path} or its water meanwhile; run again, each study into an `out` of its own"
        )
        raise CubeConflict(msg)
    return name


def looks_from_lake(options: PreprocessOptions, passes: xr.Dataset) -> str | None:
    """Tell whether the filter takes looks that are measured on the lake.

    Parameters
    ----------
    options
        Of a study.
    passes
        As `open_cube` gives it.

    Returns
    -------
    str or None
        Under which attribute the cube keeps them; None where the study or the product tells the looks, or none are
        needed.
    """
    power = passes[options.polarisation]
    told = options.looks is not None or "looks" in power.attrs
    if told or options.filter == "none" or power.attrs["speckle_filter"] != "none":
        return None
    return f"looks_measured_{options.polarisation}"


def _looks(study: Study, lake: Lake, path: Path, passes: xr.Dataset) -> float | None:
    """Looks for the filter: the study's, None for the product's, or measured once on the lake and kept with it."""
    kept = looks_from_lake(study.preprocess, passes)
    if kept is None:
        return study.preprocess.looks
    if kept in passes.attrs:
        return float(passes.attrs[kept])
    power = passes[study.preprocess.polarisation]
    pixels = int(np.ceil(CALM_METRES / lake.spacing))
    calm = lake.outline_mask.copy(data=binary_erosion(lake.outline_mask.values, iterations=pixels))
    measured = preprocess.equivalent_looks(power, calm).compute()
    looks = float(measured.median())
    if not np.isfinite(looks):
        msg = f"the looks of {lake.id} can't be measured: no open water seen well off its shore; give preprocess.looks"
        raise NoObservations(msg)
    cube.remember(path, {kept: round(looks, 2)})
    return round(looks, 2)


def _chain(image: xr.DataArray, lake: Lake, engine: str) -> str:
    """Everything that makes the water of a pass what it is, as JSON: when it changes, all is segmented anew."""
    steps = ("source", "spacing", "polarisation", "speckle_filter", "filter_looks", "window", "equalize")
    chain = {step: image.attrs[step] for step in steps if step in image.attrs}
    chain["aoi_and_outline"] = hashlib.sha256(lake.aoi.wkb + lake.outline.wkb).hexdigest()[:12]
    if engine.endswith("bfloat16"):  # moves shores by a pixel here and there; engines in float32 agree
        chain["precision"] = "bfloat16"
    return json.dumps(chain, sort_keys=True, default=float)
