"""Public data that cubekit is measured on, fetched from where it is published and checked."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import resources
from pathlib import Path
from types import ModuleType
from urllib.parse import quote

import numpy as np

from cubekit.errors import ConfigError, MissingExtra, SourceError

COMMIT = "3b7dabf25048620b998ea9e34d42d2cc1e049af9"
"""The commit of the authors' repository whose files are fetched."""

VARIABLE = "CUBEKIT_NPSAR"
"""Environment variable that names a folder with the data; then nothing is fetched."""

TERMS = (
    "npSAR-dl (github.com/npsar-nasa/npSAR-dl) states no licence, so its authors keep all rights: measure against it, "
    "but ask them before you pass on any of it, or anything made from its masks, trained weights included; its scenes "
    "contain modified Copernicus Sentinel data"
)
"""What is said at every use."""

TIMEOUT = 60.0
"""Seconds between two bytes of an answer."""

_URL = f"https://raw.githubusercontent.com/npsar-nasa/npSAR-dl/{COMMIT}"
# Our folders, and those of the repository that a file may lie in, the likeliest first. {aoi} is the folder below ours.
_FOLDERS = {
    "rtc": ("Training_Dataset/{aoi}", "Training_Dataset/Backup/{aoi}", "Training_Dataset/fake_{aoi}"),
    "chips": ("SAR_model_data/Prelabelled", "Training_Dataset/Prelabelled"),
    "masks": ("SAR_model_data/Labelled", "Training_Dataset/Labelled"),
}
_AOIS = {
    "chamlangTshoAOI.geojson": ("Backup/chamlangTsho/chamlangTshoAOI.geojson", "chamlangTsho/chamlangTshoAOI.geojson"),
    "gokyoTshoAOI.geojson": ("gokyoTsho/gokyoTshoAOI.geojson",),
    "imjaTsho_TRUE_AOI_no_rasters.geojson": ("imjaTsho/imjaTshoAOI.geojson",),
    "ngozumpa_pond_FILED_AS_imja_AOI.geojson": ("fake_imjaTsho/fake_imjaTshoAOI.geojson",),
    "tilichoTshoAOI.geojson": ("Backup/tilichoTsho/tilichoTshoAOI.geojson", "tilichoTsho/tilichoTshoAOI.geojson"),
    "tshoRolpaAOI.geojson": ("Backup/tshoRolpa/tshoRolpaAOI.geojson", "tshoRolpa/tshoRolpaAOI.geojson"),
}
_NAMED_PLAINLY = "tilichoTsho"
_SHOWN = 5

logger = logging.getLogger(__name__)


def npsar(folder: str | Path | None = None) -> Path:
    """The public crops, chips, masks and areas of interest of the paper, 657 files, 23 MB on disk.

    Parameters
    ----------
    folder
        Where they go; by default the user's cache. What is there already and has its checksum is kept, so a call that
        was cut off goes on. Without `folder`, ``CUBEKIT_NPSAR`` names a folder that has them: nothing is fetched, and
        nothing checked.

    Returns
    -------
    pathlib.Path
        The folder, with

        * ``rtc/<aoi>/``: crops of HyP3 RTC products, float32 gamma0 in linear power, VV, 20 m, 0 is no data;
        * ``chips/<aoi>/``: equalised, padded images, uint8, 256 x 256;
        * ``masks/<aoi>/``: lakes drawn by hand, 256 x 256;
        * ``aoi/``: areas of interest, GeoJSON.

    Raises
    ------
    MissingExtra
        When pooch is not installed.
    ConfigError
        When ``CUBEKIT_NPSAR`` doesn't name such a folder.
    SourceError
        When files can't be had, or are not those that the checksums are of. The others stay, for the next call.

    Warns
    -----
    UserWarning
        That the data have no licence, and what follows from it.

    Notes
    -----
    Source: github.com/npsar-nasa/npSAR-dl at `COMMIT`. Checksums of rasters are of their values, not of their bytes:
    the copy they were computed from had its chips and masks compressed anew.

    What is covered: 299 crops, 192 of 282 chips, 160 of 244 masks, and 6 areas of interest, with our folders and names;
    the repository's masks that were put on the grid of the crops, and our index, are not published.

    **Not verified**, as no connection was at hand: that all files lie at that commit where they are looked for. Its
    README names the folders; paths were seen in an index of the repository's history, at other commits. So every file
    is looked for in the folders of `_FOLDERS` in their order, and taken only when its values are the right ones. The
    published masks may lack a georeference.
    """
    warnings.warn(TERMS, UserWarning, stacklevel=2)
    if folder is None and os.environ.get(VARIABLE):
        return _given(Path(os.environ[VARIABLE]))
    pooch = _pooch()
    target = Path(folder) if folder is not None else Path(pooch.os_cache("cubekit")) / f"npsar-{COMMIT[:7]}"
    failed = {}
    with _quiet(pooch):
        for name, checksum in checksums().items():
            path = target / name
            if not (path.is_file() and _checksum(path) == checksum) and (why := _fetch(pooch, path, name, checksum)):
                failed[name] = why
    if failed:
        first = "; ".join(f"{name}: {why}" for name, why in list(failed.items())[:_SHOWN])
        msg = (
            f"{len(failed)} of {len(checksums())} files of npSAR-dl can't be had ({first}); the others are in "
            f"{target}: try again, or give a folder that has them as {VARIABLE}"
        )
        raise SourceError(msg)
    return target


def checksums() -> Mapping[str, str]:
    """SHA-256 of the values of each raster, and of the bytes of each GeoJSON, by its path below the folder.

    Examples
    --------
    >>> len(checksums()["aoi/gokyoTshoAOI.geojson"])
    64
    """
    text = resources.files("cubekit").joinpath("data", "npsar.json").read_text(encoding="utf-8")
    by_folder: dict[str, dict[str, str]] = json.loads(text)
    return {f"{folder}/{name}": checksum for folder, names in by_folder.items() for name, checksum in names.items()}


def published_paths(name: str) -> tuple[str, ...]:
    """Where a file may lie in the authors' repository, the likeliest place first.

    Parameters
    ----------
    name
        Its path below our folder.

    Examples
    --------
    >>> published_paths("aoi/gokyoTshoAOI.geojson")
    ('Training_Dataset/gokyoTsho/gokyoTshoAOI.geojson',)
    """
    part, _, rest = name.partition("/")
    if part == "aoi":
        return tuple(f"Training_Dataset/{path}" for path in _AOIS[rest])
    aoi, _, file = rest.partition("/")
    if part != "rtc" and aoi != _NAMED_PLAINLY:  # chips and masks have one style of name here, two there
        file = file.replace("_VV_clipped_to_", "_VV.tif_clipped_to_").replace("AOI.tif", "AOI.geojson.tif")
    return tuple(f"{folder.format(aoi=aoi)}/{file}" for folder in _FOLDERS[part])


def _given(folder: Path) -> Path:
    if not (folder / "rtc").is_dir():
        msg = f"{VARIABLE} is {folder}, which has no folder rtc; give the folder that holds rtc, chips, masks and aoi"
        raise ConfigError(msg)
    return folder


def _pooch() -> ModuleType:
    try:
        import pooch
    except ImportError as error:
        msg = f"fetching npSAR-dl needs pooch; install cubekit[datasets], or give a folder that has it as {VARIABLE}"
        raise MissingExtra(msg) from error
    return pooch  # type: ignore[no-any-return, unused-ignore]


@contextmanager
def _quiet(pooch: ModuleType) -> Iterator[None]:
    """Pooch tells of every file that it fetches, and prints its checksum."""
    talking = pooch.get_logger()
    level = talking.level
    talking.setLevel(logging.WARNING)
    try:
        yield
    finally:
        talking.setLevel(level)


def _fetch(pooch: ModuleType, path: Path, name: str, checksum: str) -> str:
    """Fetch a file from the first place that has it; why it can't be had, else nothing."""
    import requests

    reason = ""
    for place in published_paths(name):
        path.unlink(missing_ok=True)
        # The checksum, where it is of the bytes, is pooch's to compare.
        known = None if path.suffix == ".tif" else f"sha256:{checksum}"
        downloader = pooch.HTTPDownloader(timeout=TIMEOUT)
        url = f"{_URL}/{quote(place)}"
        try:
            pooch.retrieve(url, known, fname=path.name, path=path.parent, downloader=downloader)
        except requests.HTTPError as error:
            status = None if error.response is None else error.response.status_code
            if status != 404:
                msg = f"{url} answers {status}; what was fetched is kept, try again later"
                raise SourceError(msg) from error
            reason = reason or "not where it was looked for"
            continue
        except requests.RequestException as error:
            msg = f"{url} can't be fetched ({type(error).__name__}); what was fetched is kept, try again"
            raise SourceError(msg) from error
        except ValueError:  # pooch's word for another checksum
            reason = "another checksum"
            continue
        if _checksum(path) == checksum:
            logger.info("fetched %s", name)
            return ""
        path.unlink()
        reason = "another checksum"
    return reason


def _checksum(path: Path) -> str:
    """SHA-256: of a raster's type, shape and values, of anything else's bytes; empty when a raster can't be read."""
    if path.suffix != ".tif":
        return hashlib.sha256(path.read_bytes()).hexdigest()
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # some of the masks have lost theirs
            with rasterio.open(path) as dataset:
                values = dataset.read(1)
    except RasterioError:
        return ""
    if path.parts[-3] == "masks":
        # Drawn as 0 and 1 or 0 and 255, of any type: what counts is where water is.
        if not set(np.unique(values)) <= {0, 1} and not set(np.unique(values)) <= {0, 255}:
            return ""
        values = (values > 0).astype(np.uint8)
    little = values.astype(values.dtype.newbyteorder("<"), copy=False)
    return hashlib.sha256(f"{values.dtype.name} {values.shape} ".encode() + little.tobytes()).hexdigest()
