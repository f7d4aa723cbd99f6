"""Reading the rasters of a pass from the cube, as a release has seen it."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xarray as xr

from cubekit import cube, preprocess
from cubekit.areas import hidden_tracks, without_hidden
from cubekit.config import Study
from cubekit.errors import NoObservations, SourceError
from cubekit.lakes import Lake
from cubekit.passes import PLATFORMS
from cubekit.segmenting import looks_from_lake
from cubekit.service._api_cache import Recent
from cubekit.service._api_release import Pass, Tables
from cubekit.service.state import Release

OPEN = 8
"""Cubes that are held open; an open one holds no raster."""


@dataclass(frozen=True)
class Cube:
    """A lake's cube, as of the snapshot of a release.

    Parameters
    ----------
    lake
        At the spacing of the cube.
    passes, water
        Lazy; water is not known in passes of tracks that the lake is hidden from.
    """

    lake: Lake
    passes: xr.Dataset
    water: xr.Dataset


class Cubes:
    """Cubes of releases, opened once.

    Parameters
    ----------
    study
        Whose.
    """

    def __init__(self, study: Study) -> None:
        self._study = study
        self._open: Recent[str, Cube] = Recent(OPEN)
        self._lock = threading.Lock()

    def of(self, lake: Lake, release: Release) -> Cube:
        """Open the cube of a release.

        Raises
        ------
        SourceError
            When it can't be opened.
        """
        with self._lock:
            found = self._open.get(release.id)
            if found is None:
                path: Path = self._study.study.out / "cubes" / release.source / lake.id
                passes = cube.open_cube(path, as_of=release.snapshot)
                water = cube.open_water(path, release.model, as_of=release.snapshot)
                hidden = hidden_tracks(Tables(self._study.study.out, release).told["not_known"])
                water = without_hidden(water, hidden)
                found = Cube(lake.at_spacing(int(passes.attrs["spacing"])), passes, water)
                self._open.put(release.id, found)
        return found

    def image(self, opened: Cube, wanted: Pass, layer: str) -> xr.DataArray:
        """Read one layer of a pass in the AOI window.

        Parameters
        ----------
        opened
            From `of`.
        wanted
            One of the release's passes.
        layer
            ``vv``, ``vh``: linear power, float32, NaN where there is no data; ``probability``: float32, NaN where not
            observed; ``mask``: uint8 flags; ``chip``: uint8 as a network sees it, with the coordinate ``observed``.

        Returns
        -------
        xarray.DataArray
            Dims y and x, in memory.

        Raises
        ------
        NoObservations
            When the cube has no such layer, or not of this pass.
        SourceError
            When the cube can't be read.
        """
        rows, columns = opened.lake.aoi_window
        if layer == "chip":
            return self._chip(opened, wanted)
        data = opened.water if layer == "probability" else opened.passes
        if layer not in data:
            msg = f"the cube of {opened.lake.id} has no {layer}"
            raise NoObservations(msg)
        one: xr.DataArray = data[layer].isel(time=place_of(data, wanted), y=rows, x=columns)
        one = _read(one)
        if layer in {"vv", "vh"} and not np.isfinite(one).any():  # a pass of one polarisation, in a cube of two
            msg = f"the pass of {name_of(wanted.time)} has no {layer}"
            raise NoObservations(msg)
        return one

    def power(self, opened: Cube, wanted: Pass, polarisation: str) -> xr.DataArray:
        """Read the linear power of a pass on the whole lattice.

        Raises
        ------
        NoObservations, SourceError
            As `image`.
        """
        if polarisation not in opened.passes:
            msg = f"the cube of {opened.lake.id} has no {polarisation}"
            raise NoObservations(msg)
        one: xr.DataArray = opened.passes[polarisation].isel(time=place_of(opened.passes, wanted))
        return _read(one)

    def _chip(self, opened: Cube, wanted: Pass) -> xr.DataArray:
        options = self._study.preprocess
        one = opened.passes.isel(time=[place_of(opened.passes, wanted)])
        kept = looks_from_lake(options, opened.passes)
        prepared = preprocess.prepare(
            one,
            opened.lake,
            polarisation=options.polarisation,
            filter=options.filter,
            window=options.window,
            looks=options.looks if kept is None else opened.passes.attrs[kept],
        )
        image = preprocess.equalize(prepared, method=options.equalize)
        return _read(image.isel(time=0))


def _read(image: xr.DataArray) -> xr.DataArray:
    """Read on this thread: there are several, each with an image of its own."""
    import icechunk

    try:
        return image.compute(scheduler="synchronous")
    except icechunk.IcechunkError as error:
        msg = f"the cube can't be read: {str(error).splitlines()[0].strip()}"
        raise SourceError(msg) from None


def place_of(data: xr.Dataset, wanted: Pass) -> int:
    """Where a pass is along time.

    Raises
    ------
    NoObservations
        When it isn't there.
    """
    same = data["time"].to_numpy() == np.datetime64(wanted.time.astimezone(UTC).replace(tzinfo=None), "ns")
    same &= data["track"].to_numpy() == wanted.track
    same &= data["platform"].to_numpy() == PLATFORMS.index(wanted.cells["platform"])
    places = np.flatnonzero(same)
    if not places.size:
        msg = f"the pass of {name_of(wanted.time)} on track {wanted.track} is not in the cube"
        raise NoObservations(msg)
    return int(places[0])


def name_of(time: datetime) -> str:
    """A moment as the API writes it."""
    return f"{time.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"
