"""Labelled chips of simulated lakes: what the shipped models are trained on, and what other analyses draw from.

Lakes have the shapes of ICIMOD's inventory of 2020 (CC0), the study's own left out, in simulated terrain; each is seen
by all its tracks, over years. Every second lake of 0.4 km2 and more is kept for testing, and of the others every
eighth, by size, for validation.

A chip is what the package's own verbs make of a simulated pass: `prepare`, `equalize`, padded to 256 x 256. Its mask is
the lake where it covers half a pixel or more, ice included; ponds beside it are none of it. Its prior is the outline as
an inventory might have it: of another year, moved, grown or shrunken.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, replace
from datetime import date
from functools import partial
from pathlib import Path

import numpy as np
import pyproj
import shapely
from shapely.affinity import scale, translate

from cubekit.lakes import Lake
from cubekit.preprocess import equalize, prepare
from cubekit.sources import simulated

OUTLINES = Path(__file__).parent / "outlines_icimod_2020.geojson"
SPACING = {"hyp3": 20, "hyp3_unfiltered": 20, "opera": 30}
FILTER = {"hyp3": "none", "hyp3_unfiltered": "lee", "opera": "lee"}
SIDE = 256


def outlines(split: str) -> dict[str, tuple[shapely.Polygon, float]]:
    """Outlines (WGS84) and altitudes of the lakes for ``train``, ``validation`` or ``test``, by id."""
    features = json.loads(OUTLINES.read_text())["features"]
    kept = "test" if split == "test" else "train"
    found = {
        feature["properties"]["id"]: (shapely.geometry.shape(feature["geometry"]), feature["properties"]["altitude"])
        for feature in features
        if feature["properties"]["split"] == kept
    }
    if split == "test":
        return found
    by_size = sorted(found, key=lambda name: found[name][0].area)
    return {name: found[name] for place, name in enumerate(by_size) if (place % 8 == 4) == (split == "validation")}


def version() -> str:
    """Of the simulator and of this recipe for chips, by what their files say: chips of another one are made anew."""
    parts = ("_terrain", "_radar", "_surfaces", "_speckle", "_dynamics", "_geometry", "_scenes", "_stack", "simulated")
    files = [Path(__file__), OUTLINES, *(Path(simulated.__file__).parent / f"{part}.py" for part in parts)]
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:8]


def make_lake(name: str, outline: shapely.Polygon, altitude: float, spacing: int, seed: int) -> Lake | None:
    """A lake with an AOI of chance around it, as narrow or wide as those of the study; None when it is too large."""
    random = np.random.default_rng((seed, spacing))
    zone = int((outline.centroid.x + 180) // 6 + 1)
    to_metres = pyproj.Transformer.from_crs(4326, 32600 + zone, always_xy=True)
    projected = shapely.transform(outline, to_metres.transform, interleaved=False)
    west, south, east, north = projected.bounds
    room = SIDE * spacing - 4 * spacing
    if max(east - west, north - south) > room - 400:
        return None
    margins = random.uniform(60, 200 + 100 * spacing * random.random(4), 4)
    # Where there is no room for all of it, both sides give way alike.
    for axis, size in ((0, east - west), (1, north - south)):
        both = margins[axis] + margins[axis + 2]
        margins[[axis, axis + 2]] *= min(1.0, (room - size) / both)
    box = shapely.box(west - margins[0], south - margins[1], east + margins[2], north + margins[3])
    back = partial(to_metres.transform, direction="INVERSE")
    aoi = shapely.transform(shapely.segmentize(box, 100.0), back, interleaved=False)
    return Lake(name, name, outline, aoi, 32600 + zone, spacing, altitude=altitude)


@dataclass(frozen=True)
class Chips:
    """Images uint8 (n, 2, 256, 256): chip and prior; masks and observed bool (n, 256, 256); a row of truth for each."""

    images: np.ndarray
    masks: np.ndarray
    observed: np.ndarray
    rows: list[dict[str, object]]

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        return self.images[index], self.masks[index], self.observed[index]


def chips_of(lake: Lake, product: str, *, dates: int, seed: int, years: tuple[int, int] = (2017, 2024)) -> Chips:
    """Chips of one lake at dates of chance, half of them from July to September."""
    random = np.random.default_rng((seed, 1))
    growth = float(random.choice([0.0, 5.0, 15.0, 30.0]))
    start, end = date(years[0], 1, 1), date(years[1], 12, 31)
    ds = simulated.simulate(lake, start=start, end=end, product=product, seed=seed, growth_m_per_year=growth)
    summer = ds["time"].dt.month.isin([7, 8, 9]).values
    chance = np.where(summer, 0.5 / summer.sum(), 0.5 / (~summer).sum())
    chosen = np.sort(random.choice(ds.sizes["time"], dates, replace=False, p=chance))
    ds = ds.isel(time=chosen).compute()
    image = equalize(prepare(ds, lake, filter=FILTER[product]))
    rows, columns = lake.aoi_window
    water = ds["water"].values[:, rows, columns]
    priors = np.stack([prior(lake, random)[rows, columns] for _ in range(dates)])
    area = ds["water_km2"].values
    truth = [
        {
            "lake": lake.id,
            "time": str(ds["time"].values[index])[:19],
            "track": int(ds["track"].values[index]),
            "state": str(ds["state"].values[index]),
            "wind": float(ds["wind"].values[index]),
            "water_km2": float(area[index]),
            "observed": float((image["observed"].values[index] & (water[index] > 0)).sum() / (water[index] > 0).sum()),
        }
        for index in range(dates)
    ]
    observed = _padded(image["observed"].values)
    images = np.stack([_padded(image.values), _padded(priors)], axis=1)
    return Chips(images, _padded(water >= 0.5), observed, truth)


def fingerprint(product: str) -> dict[str, object]:
    """How the chips of a product are made, as `equalize` writes it."""
    name, (outline, altitude) = next(iter(outlines("train").items()))
    lake = make_lake(name, outline, altitude, SPACING[product], 0)
    ds = simulated.simulate(lake, start="2021-07-01", end="2021-07-20", product=product)
    text = equalize(prepare(ds.isel(time=[0]), lake, filter=FILTER[product])).attrs["preprocessing"]
    return json.loads(text)


def prior(lake: Lake, random: np.random.Generator) -> np.ndarray:
    """The lake's outline as an inventory may have it, uint8 0 or 255 on the lattice."""
    outline = drawn(lake, random)
    if outline.is_empty:
        return np.zeros((SIDE, SIDE), np.uint8)
    return np.where(lake.rasterize(outline).values, np.uint8(255), np.uint8(0))


def inventory_lake(lake: Lake, random: np.random.Generator) -> Lake:
    """The lake as its user has it: with an outline that is not that of the truth."""
    to_metres = pyproj.Transformer.from_crs(4326, lake.epsg, always_xy=True)
    outline = shapely.intersection(drawn(lake, random), lake.project(lake.aoi).buffer(-1))
    degrees = shapely.transform(outline, partial(to_metres.transform, direction="INVERSE"), interleaved=False)
    return replace(lake, outline=shapely.intersection(degrees, lake.aoi))


def drawn(lake: Lake, random: np.random.Generator) -> shapely.Geometry:
    """The lake's outline as an inventory may have it, in the coordinates of its lattice."""
    outline = lake.project(lake.outline)
    outline = scale(outline, *(1 + random.normal(0, 0.06, 2)))
    outline = translate(outline, *random.normal(0, 25, 2))
    outline = outline.buffer(random.normal(0, 25))
    if random.random() < 0.4:  # of another year: a part of one end is missing
        west, south, east, north = outline.bounds if not outline.is_empty else (0, 0, 0, 0)
        share = random.uniform(0, 0.2)
        cut = [west, south, east, north]
        side = int(random.integers(4))
        length = (east - west) if side % 2 == 0 else (north - south)
        cut[side] += (1 if side < 2 else -1) * share * length
        outline = outline.intersection(shapely.box(*cut))
    return outline


def many(product: str, *, lakes: int, dates: int, seed: int, split: str = "train", workers: int = 2) -> Chips:
    """Chips of many lakes, each outline once or more, in other terrain every time."""
    jobs = list(_jobs(product, lakes, seed, split))
    with ProcessPoolExecutor(workers) as pool:
        return joined(list(pool.map(partial(_one, product=product, dates=dates), jobs, chunksize=4)))


def joined(parts: Sequence[Chips]) -> Chips:
    """Chips of several sets, one after the other."""
    return Chips(
        np.concatenate([part.images for part in parts]),
        np.concatenate([part.masks for part in parts]),
        np.concatenate([part.observed for part in parts]),
        [row for part in parts for row in part.rows],
    )


def _jobs(product: str, lakes: int, seed: int, split: str) -> Iterator[tuple[Lake, int]]:
    """Lakes of all sizes alike: the inventory has ten small ones for a large one."""
    known = sorted(outlines(split).items(), key=lambda one: one[1][0].area)
    random = np.random.default_rng((seed, 2))
    number = 0
    while number < lakes:
        # Strata of size, one after the other.
        stratum = np.array_split(np.arange(len(known)), 4)[number % 4]
        name, (outline, altitude) = known[int(random.choice(stratum))]
        own = seed * 100_000 + number
        lake = make_lake(f"{name}_{number}", outline, altitude, SPACING[product], own)
        if lake is not None:
            yield lake, own
            number += 1


def _one(job: tuple[Lake, int], product: str, dates: int) -> Chips:
    return chips_of(job[0], product, dates=dates, seed=job[1])


def _padded(array: np.ndarray) -> np.ndarray:
    """Put windows into the middle of chips, as the published ones are."""
    rows, columns = array.shape[-2:]
    top, left = (SIDE - rows) // 2, (SIDE - columns) // 2
    padded = np.zeros((*array.shape[:-2], SIDE, SIDE), array.dtype)
    padded[..., top : top + rows, left : left + columns] = array
    return padded
