"""Chips and the masks drawn on them, found in two folders: names and headers first, pixels when they are asked for."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from cubekit.errors import SceneWarning, SourceError
from cubekit.lakes import catalogue
from cubekit.passes import ORBIT_SECONDS, absolute_orbit, ascending_node, relative_orbit
from cubekit.segmentation.splits import Sample
from cubekit.sources.names import FOREIGN, ProductFile, parse

LARGEST_DARK_PATCH = 16
"""Zeros inside a chip that are a larger patch than this, in pixels, were not observed; smaller ones are the darkest."""

# As `write_chips` names them.
_OWN = re.compile(
    r"(?P<product>S1(?P<unit>[A-D])_(?P<start>\d{8}T\d{6})_T(?P<track>\d{3})(?:_V[VH])?)(?P<rest>(?:_.*)?)"
)
_SUFFIXES = re.compile(r"\.tiff?|\.geojson")
_ROLE = re.compile(r"[_-](?:mask|label|chip)s?$", re.IGNORECASE)
_FOREIGN = "its name is neither that of a HyP3 or OPERA product nor one of write_chips"
_SHOWN = 5


class Pair(NamedTuple):
    """A labelled sample and its two files."""

    sample: Sample
    chip: Path
    mask: Path


@dataclass(frozen=True)
class Header:
    """What the header of a chip or a mask tells.

    Parameters
    ----------
    shape
        Rows and columns.
    epsg
        Code of its coordinate reference system, or None.
    transform
        Six numbers of the affine transform, from column and row to metres.
    preprocessing
        The chain that made it, as `equalize` writes it: JSON; None when the file doesn't say.
    """

    shape: tuple[int, int]
    epsg: int | None
    transform: tuple[float, ...]
    preprocessing: str | None

    @property
    def spacing(self) -> float:
        """Side of a pixel, metres."""
        return abs(self.transform[0])

    @property
    def grid(self) -> str:
        """Key of the grid: equal where pixels lie on each other, to a tenth of a metre."""
        numbers = " ".join(f"{round(number, 1) + 0.0:.1f}" for number in self.transform)
        return f"EPSG:{self.epsg} {self.shape[0]}x{self.shape[1]} {numbers}"


@dataclass(frozen=True)
class _Named:
    """What a file's name and folder tell."""

    product: str
    lake: str
    platform: str
    start: datetime
    track: int | None


def load_pairs(chips: str | Path, masks: str | Path) -> list[Pair]:
    """Find the chips that have a mask.

    Parameters
    ----------
    chips, masks
        Folders of GeoTIFFs, searched below too. Names are those of HyP3 products (text may follow ``_VV``, as in the
        published ones: ``…_VV_clipped_to_gokyoTshoAOI.tif``) or of `write_chips`; a mask may end in ``_mask``. The lake
        is what the name says after ``clipped_to_`` or at its end, otherwise the folder.

    Returns
    -------
    list of Pair
        By the samples' ids (``lake/product``). Platform and time give track and direction; the grid is the chip's.

    Raises
    ------
    SourceError
        When a folder does not exist, or no chip has a mask.

    Warns
    -----
    SceneWarning
        Once, with what is left out and why.

    Notes
    -----
    A mask belongs to the chip of the same product and lake; where there is none, to the only one of the same platform,
    time and lake. Sizes have to be equal. A mask without georeference has the chip's; one that lies elsewhere, by more
    than half a pixel, is left out. Reads headers only.
    """
    left_out: dict[Path, str] = {}
    labelled = _listed(Path(masks), "masks", left_out)
    drawn_on = _listed(Path(chips), "chips", left_out)
    found: list[Pair] = []
    used: set[Path] = set()
    by_scene: dict[tuple[str, str, datetime], list[Path]] = {}
    for mask, name in labelled.items():
        by_scene.setdefault((name.lake, name.platform, name.start), []).append(mask)
    same = {(name.lake, name.product): mask for mask, name in labelled.items()}
    scenes = [(name.lake, name.platform, name.start) for name in drawn_on.values()]
    times = Counter(scenes)
    for (chip, name), scene in zip(drawn_on.items(), scenes, strict=True):
        of_scene = by_scene.get(scene, [])
        only = of_scene[0] if len(of_scene) == 1 and times[scene] == 1 else None
        mask_file = same.get((name.lake, name.product), only)
        if mask_file is None:
            left_out[chip] = "it has no mask"
            continue
        used.add(mask_file)
        made = _pair(chip, name, mask_file)
        if isinstance(made, Pair):
            found.append(made)
        else:
            left_out[chip] = made
    left_out.update({mask: "it has no chip" for mask in labelled if mask not in used})
    if not found:
        msg = f"no chip below {chips} has a mask below {masks}: {_listing(left_out) or 'there are no GeoTIFFs'}"
        raise SourceError(msg + "; give two folders whose files have the same names")
    if left_out:
        warnings.warn(f"{len(left_out)} files are left out: {_listing(left_out)}", SceneWarning, stacklevel=2)
    return sorted(found)


def read_header(path: Path) -> Header | str:
    """Read the header of a GeoTIFF; a reason when that can't be done."""
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)  # a mask may lack it, a chip is refused by name
            with rasterio.open(path) as opened:
                epsg = None if opened.crs is None else opened.crs.to_epsg()
                shape = (int(opened.height), int(opened.width))
                return Header(shape, epsg, tuple(opened.transform)[:6], opened.tags().get("preprocessing"))
    except (RasterioError, OSError) as error:
        return f"unreadable: {str(error).splitlines()[0].replace(str(path), path.name)}"


def header_of(path: Path) -> Header:
    """Read the header of a chip that could be read before.

    Raises
    ------
    SourceError
        When it can't be read any more.
    """
    header = read_header(path)
    if isinstance(header, str):
        msg = f"{path} is {header}; take it out or mend it"
        raise SourceError(msg)
    return header


def read_chip(path: Path) -> npt.NDArray[np.uint8]:
    """Read a chip: uint8 (y, x).

    Parameters
    ----------
    path
        As `load_pairs` gave it.

    Raises
    ------
    SourceError
        When it can't be read, or is not uint8.
    """
    values = _pixels(path)
    if values.dtype != np.uint8:
        msg = f"{path} is {values.dtype}, and chips are uint8 as equalize() makes them; give chips, not crops"
        raise SourceError(msg)
    return values.astype(np.uint8, copy=False)


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """Read a mask: bool (y, x), True where water.

    Parameters
    ----------
    path
        As `load_pairs` gave it. Holds 0 and 1, or 0 and 255.

    Raises
    ------
    SourceError
        When it can't be read, or holds other values.
    """
    values = _pixels(path)
    there = np.unique(values)
    if not any(np.isin(there, pair).all() for pair in ((0, 1), (0, 255))):
        shown = ", ".join(f"{value:g}" for value in there[:5])
        msg = f"{path} holds {shown}{'...' if there.size > 5 else ''}, and a mask holds 0 and 1, or 0 and 255; mend it"
        raise SourceError(msg)
    return np.asarray(values != 0)


def observed_pixels(chip: npt.NDArray[np.uint8]) -> npt.NDArray[np.bool_]:
    """Where a chip was observed, as well as the chip alone tells.

    Parameters
    ----------
    chip
        uint8 (y, x).

    Returns
    -------
    numpy.ndarray
        bool (y, x): False in zeros that touch the chip's edge (the padding) through their sides or that are a patch of
        more than `LARGEST_DARK_PATCH` pixels. In a chip both nodata and the darkest pixels are 0, and the darkest lie
        in lakes.

    Notes
    -----
    Held against the HyP3 crops of 168 published chips: of 2.68 million observed pixels 0.02 % are taken for not
    observed, and 0.11 % too many for observed. Zero alone as "not observed" would lose 0.6 % of Tilicho's water.

    Examples
    --------
    >>> chip = np.pad(np.full((3, 3), 7, np.uint8), 1)
    >>> chip[2, 2] = 0
    >>> int(observed_pixels(chip).sum())
    9
    """
    from scipy import ndimage

    labels, _ = ndimage.label(np.pad(chip == 0, 1, constant_values=True))
    size = np.bincount(labels.ravel())
    unobserved = size > LARGEST_DARK_PATCH
    unobserved[labels[0, 0]] = True
    unobserved[0] = False  # all that isn't 0
    return np.asarray(~unobserved[labels][1:-1, 1:-1])


def lake_key(text: str) -> str:
    """Lake id of a folder's or an AOI's name.

    Parameters
    ----------
    text
        E.g. ``gokyoTsho``, ``clipped_to_gokyoTshoAOI``.

    Returns
    -------
    str
        Snake case; the catalogue's id where it has that name with or without ``_tsho``.

    Examples
    --------
    >>> [lake_key(name) for name in ("tshoRolpa", "clipped_to_gokyoTshoAOI", "imjaTsho", "Lower Barun")]
    ['tsho_rolpa', 'gokyo', 'imja_tsho', 'lower_barun']
    """
    text = re.sub(r"^.*clipped_to_", "", text)
    text = re.sub(r"[_-]?AOI$", "", text)
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", text).lower()
    snake = re.sub(r"[^a-z0-9]+", "_", snake).strip("_")
    known = catalogue()
    return next((name for name in (snake, snake.removesuffix("_tsho"), f"{snake}_tsho") if name in known), snake)


def _listed(folder: Path, role: str, left_out: dict[Path, str]) -> dict[Path, _Named]:
    if not folder.is_dir():
        msg = f"folder {folder} does not exist; give the folder that holds the {role}"
        raise SourceError(msg)
    found: dict[Path, _Named] = {}
    seen: dict[tuple[str, str], Path] = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix.lower() not in {".tif", ".tiff"} or path.name.startswith("."):
            continue
        named = _named(path, folder)
        if named is None:
            continue
        if isinstance(named, str):
            left_out[path] = named
        elif (twin := seen.setdefault((named.lake, named.product), path)) != path:
            left_out[path] = f"the same product and lake as {twin.relative_to(folder)}"
        else:
            found[path] = named
    return found


def _named(path: Path, root: Path) -> _Named | str | None:
    """What name and folder tell, a reason why they don't, or None for a layer that is no chip."""
    parsed = parse(path.name)
    if isinstance(parsed, ProductFile):
        if parsed.layer == "mask":
            return None
        product, track = f"{parsed.product}_{parsed.layer.upper()}", parsed.track
        rest, platform, start = path.name.removeprefix(product), parsed.platform, parsed.start
    elif own := _OWN.fullmatch(path.stem):
        product, track, rest = own["product"], int(own["track"]), own["rest"]
        platform = f"sentinel-1{own['unit'].lower()}"
        try:
            start = datetime.strptime(own["start"], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
        except ValueError:
            return f"{own['start']} is not a time"
    else:
        return _FOREIGN if parsed == FOREIGN else parsed
    rest = _ROLE.sub("", _SUFFIXES.sub("", rest)).strip("_. ")
    below = path.relative_to(root).parts
    text = rest if "clipped_to_" in rest or (rest and len(below) == 1) else below[0] if len(below) > 1 else rest
    if not text:
        return "its lake can't be told: its name does not end in one, and it lies in no folder of its own"
    return _Named(product, lake_key(text), platform, start, track)


def _pair(chip: Path, name: _Named, mask: Path) -> Pair | str:
    """The pair, or the reason why it is of no use."""
    headers = [read_header(chip), read_header(mask)]
    for header, role in zip(headers, ("chip", "mask"), strict=True):
        if isinstance(header, str):
            return f"its {role} is {header}"
    of_chip, of_mask = (header for header in headers if isinstance(header, Header))
    if of_chip.epsg is None:
        return "it has no known coordinate reference system"
    if of_chip.shape != of_mask.shape:
        return f"it has {_size(of_chip)} pixels and its mask {_size(of_mask)}"
    if of_mask.epsg is not None:
        corners = zip(of_chip.transform, of_mask.transform, strict=True)
        if of_mask.epsg != of_chip.epsg or any(abs(a - b) > of_chip.spacing / 2 for a, b in corners):
            return "its mask lies elsewhere"
    try:
        orbit = absolute_orbit(name.platform, name.start)
    except SourceError as error:
        return str(error)
    track = name.track or relative_orbit(name.platform, orbit)
    since_node = (name.start - ascending_node(name.platform, orbit)).total_seconds() / ORBIT_SECONDS
    direction = "descending" if 0.25 <= since_node % 1 < 0.75 else "ascending"
    sample = Sample(f"{name.lake}/{name.product}", name.lake, name.start, track, direction, of_chip.grid)
    return Pair(sample, chip, mask)


def _size(header: Header) -> str:
    return f"{header.shape[0]} x {header.shape[1]}"


def _pixels(path: Path) -> npt.NDArray[np.generic]:
    import rasterio
    from rasterio.errors import NotGeoreferencedWarning, RasterioError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", NotGeoreferencedWarning)
            with rasterio.open(path) as opened:
                return np.asarray(opened.read(1))
    except (RasterioError, OSError) as error:
        msg = f"{path} can't be read ({str(error).splitlines()[0]}); take it out or mend it"
        raise SourceError(msg) from error


def _listing(left_out: Mapping[Path, str]) -> str:
    """Reasons, each with its number of files and the first of them."""
    files: dict[str, list[Path]] = {}
    for path, reason in sorted(left_out.items()):
        files.setdefault(reason, []).append(path)
    return "; ".join(
        f"{len(paths)} because {reason} ({', '.join(path.name for path in paths[:_SHOWN])}"
        f"{', ...' if len(paths) > _SHOWN else ''})"
        for reason, paths in files.items()
    )
