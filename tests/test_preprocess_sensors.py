"""Optical sensors: restored, indexed, measured; scenes made to spec with a known lake, served by a STAC API."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import dask
import numpy as np
import pytest
import rasterio
import shapely
import xarray as xr
from affine import Affine
from factories import write_raster
from rasterio.features import geometry_mask
from scipy.ndimage import gaussian_filter
from servers import Answer, serving
from servers.stac import Item, Stac, item

from cubekit import find_scenes, lake_area, summer_maxima
from cubekit.cube.optical import open_scenes
from cubekit.errors import ConfigError, CubekitError, GridMismatch, NoObservations, SceneWarning, SourceError
from cubekit.lakes import Lake, catalogue
from cubekit.preprocess._water_index import water_fraction
from cubekit.preprocess.sensors import (
    SENSORS,
    optical_probability,
    register,
    restore,
    water_index,
)
from cubekit.series import read_csv, write_csv
from cubekit.series.join import join_areas
from cubekit.sources.optical import sentinel2_offset

SUBPIXELS = 8
WATER, LAND = {"green": 0.085, "nir": 0.025}, {"green": 0.13, "nir": 0.21}
YEARS = {2019: -25.0, 2020: -10.0, 2021: 5.0, 2022: 20.0, 2023: 35.0}
"""How far the shore lies beyond the outline, metres."""


def lake_in(lake: Lake, year: int) -> shapely.Geometry:
    """The lake of a year, on the lattice's reference system, within its AOI."""
    grown = lake.project(lake.outline).buffer(YEARS[year])
    return grown.intersection(lake.project(shapely.segmentize(lake.aoi, 0.001)))


def shares(geometry: shapely.Geometry, transform: Affine, shape: tuple[int, int]) -> np.ndarray:
    """Share of each pixel inside a geometry."""
    fine = (shape[0] * SUBPIXELS, shape[1] * SUBPIXELS)
    inside = geometry_mask([geometry], fine, transform * Affine.scale(1 / SUBPIXELS), invert=True)
    return inside.reshape(shape[0], SUBPIXELS, shape[1], SUBPIXELS).mean((1, 3))


def reflectances(share: np.ndarray, pixel: float, seed: int) -> dict[str, np.ndarray]:
    """Land that varies by a fifth over 60 m, water by a tenth, mixed along the shore; noise of 0.004."""
    generator = np.random.default_rng(seed)
    fields = [gaussian_filter(generator.standard_normal(share.shape), 60 / pixel) for _ in range(2)]
    land, water = (1 + spread * field / field.std() for spread, field in zip((0.2, 0.1), fields, strict=True))
    return {
        band: share * WATER[band] * water + (1 - share) * LAND[band] * land + generator.normal(0, 0.004, share.shape)
        for band in WATER
    }


def cloud(shape: tuple[int, int]) -> np.ndarray:
    """A round cloud over the north-western quarter."""
    rows, columns = np.indices(shape)
    return np.hypot(rows - 0.3 * shape[0], columns - 0.25 * shape[1]) < 0.12 * shape[0]


def sentinel2(
    folder: Path, lake: Lake, time: str, *, baseline: str, clouds: bool = False, planetary: bool = True
) -> Item:
    """A scene of Sentinel-2 L2A: 10 m bands, 20 m SCL; named as the Planetary Computer or Earth Search does."""
    start = datetime.strptime(time, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    left, top = lake.corner
    fine, coarse = (Affine(size, 0, left - 400, 0, -size, top + 400) for size in (10, 20))
    pixels = 256 * lake.spacing + 800
    share = shares(lake_in(lake, start.year), fine, (pixels // 10, pixels // 10))
    # Earth Search has applied the offset to its files.
    offset = 0 if float(baseline) < 4 or not planetary else 1000
    bands = reflectances(share, 10, start.year)
    classes = np.where(share.reshape(pixels // 20, 2, pixels // 20, 2).mean((1, 3)) > 0.5, 6, 5).astype("uint8")
    if clouds:
        hidden = cloud(classes.shape)
        classes[hidden] = 9
        for values in bands.values():
            values[np.kron(hidden, np.ones((2, 2), bool))] = 0.6
    stem = f"S2_{time}_{baseline}"
    names = {"green": "B03", "nir": "B08", "scl": "SCL"} if planetary else {key: key for key in ("green", "nir", "scl")}
    for band, values in bands.items():
        numbers = np.clip(np.round(values * 10000 + offset), 1, 65535).astype("uint16")
        write_raster(folder / f"{stem}_{band}.tif", numbers, fine, lake.epsg, 0)
    raster = write_raster(folder / f"{stem}_scl.tif", classes, coarse, lake.epsg, 0)
    assets = {name: f"{stem}_{key}.tif" for key, name in names.items()}
    known: dict[str, Any] = {"platform": "Sentinel-2A", "s2__processing_baseline": baseline}
    if planetary:
        known |= {"sat__relative_orbit": 19, "s2__mgrs_tile": "45RVL"}
        identifier = f"S2A_MSIL2A_{time}_R019_T45RVL_{time}"
    else:
        known |= {"grid__code": "MGRS-45RVL", "earthsearch__boa_offset_applied": float(baseline) >= 4}
        known |= {"platform": "sentinel-2a", "created": "2024-01-01T00:00:00Z"}
        known |= {"s2__product_uri": f"S2A_MSIL2A_{time}_N{baseline.replace('.', '')}_R019_T45RVL_{time}.SAFE"}
        identifier = f"S2A_45RVL_{time[:8]}_0_L2A"
    return item(identifier, "sentinel-2-l2a", raster, start, assets, **known)


def landsat(folder: Path, lake: Lake, time: str, *, unit: int = 8, gaps: bool = False, snow: bool = False) -> Item:
    """A scene of Landsat Collection 2 Level 2: 30 m, pixel centres on multiples of 30 m, QA_PIXEL."""
    start = datetime.strptime(time, "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    left, top = lake.corner
    transform = Affine(30, 0, left - 315, 0, -30, top + 315)
    shape = (256 * lake.spacing // 30 + 21,) * 2
    share = shares(lake_in(lake, start.year), transform, shape)
    quality = np.where(share > 0.5, 21952, 21824).astype("uint16")  # water; clear land
    numbers = {
        band: np.clip(np.round((values + 0.2) / 2.75e-5), 1, 65535).astype("uint16")
        for band, values in reflectances(share, 30, start.year + unit).items()
    }
    if gaps:
        hidden = (np.arange(shape[0])[:, None] + np.arange(shape[1]) // 4) % 33 < 5
        quality[hidden] = 1
        for values in numbers.values():
            values[hidden] = 0
    if snow:
        quality[share > 0.01] = 30048
        for values in numbers.values():
            values[share > 0.01] = 38000
    stem = f"L{unit:02d}_{time}"
    for band, values in numbers.items():
        write_raster(folder / f"{stem}_{band}.tif", values, transform, lake.epsg, 0)
    raster = write_raster(folder / f"{stem}_qa.tif", quality, transform, lake.epsg, 1)
    sensor = "E" if unit == 7 else "C"
    identifier = f"L{sensor}{unit:02d}_L2SP_140041_{time[:8]}_{start.year}1231_02_T1"
    known = {"landsat__wrs_path": "140", "landsat__wrs_row": "041", "landsat__correction": "L2SP"}
    known |= {"platform": f"landsat-{unit}", "landsat__collection_number": "02"}
    assets = {"green": f"{stem}_green.tif", "nir08": f"{stem}_nir.tif", "qa_pixel": f"{stem}_qa.tif"}
    return item(identifier, "landsat-c2-l2", raster, start, assets, projection="epsg", **known)


@contextmanager
def found(lake: Lake, items: list[Item], folder: Path) -> Iterator[tuple[Any, Stac]]:
    """Items as `find_scenes` returns them, and the server, for as long as it is up."""
    server = Stac(items, folder, page=3)
    with serving(server) as url:
        yield find_scenes(lake, f"stac:{url}#{items[0]['collection']}"), server


def truth(lake: Lake, area: xr.Dataset) -> np.ndarray:
    """True areas, km2."""
    return np.array([lake_in(lake, int(year)).area / 1e6 for year in area["time"].dt.year])


SCENES = {
    "planetary": [("20190915T045701", "03.00"), ("20210920T045701", "03.00"), ("20220915T045701", "04.00")],
    "earth search": [("20191002T045701", "02.13"), ("20230910T045701", "05.10")],
}


def test_sentinel2_gives_a_water_area_series(tsho_rolpa: Lake, tmp_path: Path) -> None:
    """Must show 6: by the same verbs, over the change of offset, within 0.5 % of the truth; a cloud takes its part."""
    listed = [sentinel2(tmp_path, tsho_rolpa, *one[:1], baseline=one[1]) for one in SCENES["planetary"]]
    listed.append(sentinel2(tmp_path, tsho_rolpa, "20200916T045701", baseline="05.00", clouds=True))
    with found(tsho_rolpa, listed, tmp_path) as (items, _):
        area = lake_area(optical_probability(open_scenes(tsho_rolpa, items), tsho_rolpa), tsho_rolpa).compute()
    clear = area["time"].dt.year != 2020
    error = (area["area_km2"] / truth(tsho_rolpa, area) - 1).where(clear, drop=True)
    subpixel = (area["area_subpixel_km2"] / truth(tsho_rolpa, area) - 1).where(clear, drop=True)
    assert np.abs(error).max() < 0.005
    assert np.abs(subpixel).max() < 0.005
    cloudy = area.isel(time=1)
    assert cloudy["observed_fraction"] < 0.95
    assert cloudy["area_km2"] <= truth(tsho_rolpa, area)[1] <= cloudy["area_high"]
    assert set(area["track"].values) == {"S2-R019"}
    assert set(area["platform"].values) == {"sentinel-2a"}
    maxima = summer_maxima(area)
    assert maxima["maximum"].sel(track="S2-R019").notnull().sum() == 3


def test_landsat_gives_a_water_area_series(tsho_rolpa: Lake, tmp_path: Path) -> None:
    """Must show 6: 30 m, half a pixel off the lattice; gaps of Landsat 7 are not seen, a snowed-over lake is not 0."""
    lake = tsho_rolpa.at_spacing(30)
    listed = [landsat(tmp_path, lake, f"{year}0918T043824") for year in (2019, 2021, 2023)]
    listed.append(landsat(tmp_path, lake, "20200918T043001", unit=7, gaps=True))
    listed.append(landsat(tmp_path, lake, "20220118T043824", snow=True))
    with found(lake, listed, tmp_path) as (items, _):
        area = lake_area(optical_probability(open_scenes(lake, items), lake), lake).compute()
    error = area["area_km2"].isel(time=[0, 2, 4]) / truth(lake, area)[[0, 2, 4]] - 1
    subpixel = area["area_subpixel_km2"].isel(time=[0, 2, 4]) / truth(lake, area)[[0, 2, 4]] - 1
    assert np.abs(error).max() < 0.005
    assert np.abs(subpixel).max() < 0.005
    gaps, frozen = area.isel(time=1), area.isel(time=3)
    assert 0.75 < gaps["observed_fraction"] < 0.9
    assert gaps["area_km2"] < truth(lake, area)[1] < gaps["area_high"]
    assert np.isnan(frozen["area_km2"])
    assert frozen["observed_fraction"] == 1
    assert set(area["track"].values) == {"LS-P140"}
    assert area["platform"].values.tolist() == ["landsat-8", "landsat-7", "landsat-8", "landsat-8", "landsat-8"]


def test_archives_name_things_differently(tsho_rolpa: Lake, tmp_path: Path) -> None:
    """Earth Search's names, its orbit in the product's name only, and files that have the offset applied already."""
    listed = [
        sentinel2(tmp_path, tsho_rolpa, time, baseline=one, planetary=False) for time, one in SCENES["earth search"]
    ]
    with found(tsho_rolpa, listed, tmp_path) as (items, _):
        ds = open_scenes(tsho_rolpa, items)
        area = lake_area(optical_probability(ds, tsho_rolpa), tsho_rolpa).compute()
    assert ds["offset"].values.tolist() == [0.0, 0.0]
    assert area["track"].values.tolist() == ["S2-R019", "S2-R019"]
    assert np.abs(area["area_km2"] / truth(tsho_rolpa, area) - 1).max() < 0.005


def test_areas_of_all_sensors_in_one_table(tsho_rolpa: Lake, tmp_path: Path) -> None:
    """Sentinel-1's integers become names; together they are written and read back, each its own track."""
    listed = [sentinel2(tmp_path, tsho_rolpa, time, baseline=one) for time, one in SCENES["planetary"][:2]]
    with found(tsho_rolpa, listed, tmp_path) as (items, _):
        optical = lake_area(optical_probability(open_scenes(tsho_rolpa, items), tsho_rolpa), tsho_rolpa).compute()
    coords = {"track": ("time", np.array([121], "int16")), "platform": ("time", np.array([1], "int8"))}
    wet = tsho_rolpa.outline_mask.astype("float32").expand_dims(time=np.array(["2020-08-01"], "datetime64[ns]"))
    radar = lake_area(wet.assign_coords(coords), tsho_rolpa)
    both = join_areas(optical, radar)
    table = read_csv(write_csv(both, tmp_path / "areas.csv"))
    assert table["track"].tolist() == ["S2-R019", "S1-T121", "S2-R019"]
    assert table["platform"].tolist() == ["sentinel-2a", "sentinel-1b", "sentinel-2a"]
    assert table["area_km2"].tolist() == both["area_km2"].values.tolist()
    assert summer_maxima(both)["track"].values.tolist() == ["S1-T121", "S2-R019"]


def test_of_a_scene_processed_twice_the_newest_and_tiles_become_one_pass(tsho_rolpa: Lake, tmp_path: Path) -> None:
    """Two tiles of one pass are mosaicked, though of two baselines; an older processing is not read."""
    here, there = (
        sentinel2(tmp_path / name, tsho_rolpa, "20220915T045701", baseline=baseline)
        for name, baseline in (("a", "04.00"), ("b", "03.01"))
    )
    for one, name in ((here, "a"), (there, "b")):
        for asset in one["assets"].values():
            asset["href"] = asset["href"].replace("//", f"//{name}/")
    there["id"], there["properties"]["s2:mgrs_tile"] = "S2A_other_tile", "45RVM"
    old = {**here, "id": "S2A_old", "properties": {**here["properties"], "processing:datetime": "2022-09-16T00:00:00Z"}}
    old["assets"] = {key: {**asset, "href": "https://127.0.0.1:1/never.tif"} for key, asset in here["assets"].items()}
    here["properties"]["processing:datetime"] = "2023-01-01T00:00:00Z"
    _blank_east(tmp_path / "a")
    with found(tsho_rolpa, [old, there, here], tmp_path) as (items, _):
        ds = open_scenes(tsho_rolpa, items).compute()
    assert len(items) == 3
    assert json.loads(ds["granules"].item()) == sorted([there["id"], here["id"]])
    assert ds["offset"].item() == -1000
    reflectance = restore(ds)["green"].isel(time=0)
    assert np.isfinite(reflectance).all()
    west, east = reflectance.isel(x=slice(0, 128)).mean(), reflectance.isel(x=slice(128, None)).mean()
    assert abs(float(west) - float(east)) < 0.02  # 0.1 if the offset of one tile were taken for both


def _blank_east(folder: Path) -> None:
    """Remove the data of the eastern half of a scene."""
    for path in folder.glob("*.tif"):
        with rasterio.open(path, "r+") as dataset:
            values = dataset.read(1)
            values[:, values.shape[1] // 2 :] = 0
            dataset.write(values, 1)


@pytest.fixture(scope="module")
def raw(tsho_rolpa: Lake) -> xr.Dataset:
    """Three passes in memory, as `open_scenes` gives them."""
    generator = np.random.default_rng(2)
    y, x = (tsho_rolpa.lattice.coordinates[name].values for name in ("y", "x"))
    transform = tsho_rolpa.lattice.transform
    share = np.stack([shares(lake_in(tsho_rolpa, year), transform, (256, 256)) for year in (2019, 2020, 2021)])
    bands = {
        band: np.round((share * WATER[band] + (1 - share) * LAND[band]) * 1e4 + generator.normal(0, 30, share.shape))
        for band in WATER
    }
    codes = generator.choice([4, 5, 6, 7, 9, 11], share.shape, p=[0.3, 0.3, 0.2, 0.1, 0.05, 0.05])
    return xr.Dataset(
        {name: (("time", "y", "x"), values.astype("float32")) for name, values in bands.items()}
        | {"quality": (("time", "y", "x"), codes.astype("uint16"))},
        coords={
            "time": np.array(["2019-09-15", "2020-09-15", "2021-09-15"], "datetime64[ns]"),
            "track": ("time", ["S2-R019"] * 3),
            "platform": ("time", ["sentinel-2a"] * 3),
            "offset": ("time", np.zeros(3, "float32")),
            "y": y,
            "x": x,
        },
        attrs={"sensor": "sentinel-2-l2a", "source": "sentinel-2-l2a"},
    )


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 2, "y": 100, "x": 64}, {"time": -1}])
def test_numpy_and_dask_agree_and_nothing_is_computed(
    chunks: dict[str, int], raw: xr.Dataset, tsho_rolpa: Lake, no_compute: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever the chunks; and building the graph calls nothing."""
    expected = lake_area(optical_probability(raw, tsho_rolpa), tsho_rolpa)
    with monkeypatch.context() as patched, no_compute():
        patched.setattr("cubekit.preprocess.sensors._all_passes", _refuse)
        optical_probability(raw.chunk(chunks), tsho_rolpa)
    with no_compute():
        lazy = optical_probability(raw.chunk(chunks), tsho_rolpa)
        area = lake_area(lazy, tsho_rolpa)
    assert lazy.dtype == np.float32
    assert lazy["observed"].chunks is not None
    xr.testing.assert_identical(area.compute(), expected)


@pytest.mark.parametrize(
    ("water", "land"),
    [
        ({"green": 0.085, "nir": 0.025}, {"green": 0.05, "nir": 0.07}),
        ({"green": 0.06, "nir": 0.02}, {"green": 0.25, "nir": 0.35}),
        ({"green": 0.13, "nir": 0.085}, {"green": 0.13, "nir": 0.21}),
    ],
    ids=["dark land", "bright land", "turbid water"],
)
def test_unmixing_the_shore_places_it_better_than_a_threshold(
    water: dict[str, float], land: dict[str, float], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The smallest lake at 30 m: within 1 %, where NDWI of 0 or more is off by more than 1 %, either way."""
    monkeypatch.setattr(f"{__name__}.WATER", water)
    monkeypatch.setattr(f"{__name__}.LAND", land)
    lake = catalogue()["gokyo"].at_spacing(30)
    layers = []
    for year in YEARS:
        share = shares(lake_in(lake, year), lake.lattice.transform * Affine.scale(1 / 3), (768, 768))
        layers.append(np.stack(list(reflectances(share, 10, year).values())).reshape(2, 256, 3, 256, 3).mean((2, 4)))
    grid = {name: lake.lattice.coordinates[name].values for name in ("y", "x")}
    bands = {name: (("time", "y", "x"), np.stack(layers)[:, index] * 1e4) for index, name in enumerate(WATER)}
    times = np.array([f"{year}-09-15" for year in YEARS], "datetime64[ns]")
    ds = xr.Dataset(bands, coords={**grid, "time": times, "offset": ("time", np.zeros(len(times)))})
    ds = restore(ds.assign(quality=xr.full_like(ds["green"], 5, dtype="uint16")), "sentinel-2-l2a")
    plain = (water_index(ds) >= 0).astype("float32")
    mixed, wet = (lake_area(one, lake)["area_km2"] for one in (optical_probability(ds, lake), plain))
    true = np.array([lake_in(lake, year).area / 1e6 for year in YEARS])
    assert np.abs(mixed / true - 1).max() < 0.01
    assert np.abs(wet / true - 1).min() > 0.01


def _refuse(*_: object, **__: object) -> None:
    raise AssertionError("called while the graph was built")


def test_opening_scenes_asks_for_no_raster(tsho_rolpa: Lake, tmp_path: Path, no_compute: Any) -> None:
    """Nothing is read until something is computed; then each file once."""
    listed = [sentinel2(tmp_path, tsho_rolpa, time, baseline=one) for time, one in SCENES["planetary"][:2]]
    with found(tsho_rolpa, listed, tmp_path) as (items, server):
        with no_compute():
            ds = open_scenes(tsho_rolpa, items)
            probability = optical_probability(ds, tsho_rolpa)
        assert not server.asked(lambda request: request.path.startswith("/files/"))
        assert ds["green"].chunks == ((1, 1), (256,), (256,))
        with dask.config.set(scheduler="synchronous"):
            probability.isel(time=0).compute()
        assert {request.path.split("_")[1] for request in server.asked(lambda r: r.path.startswith("/files/"))} == {
            "20190915T045701"
        }


@pytest.mark.parametrize(("answer", "times"), [(Answer(404, b""), 1), (Answer(503, b""), 4)])
def test_a_raster_that_fails_is_read_again(answer: Answer, times: int, tsho_rolpa: Lake, tmp_path: Path) -> None:
    """As those of Sentinel-1: a bad moment of the archive costs no scene."""
    listed = [sentinel2(tmp_path, tsho_rolpa, "20190915T045701", baseline="03.00")]
    with found(tsho_rolpa, listed, tmp_path) as (items, server):
        expected = open_scenes(tsho_rolpa, items).load()
    with found(tsho_rolpa, listed, tmp_path) as (items, server):
        server.fail(answer, times=times, when=lambda request: request.path.endswith("_nir.tif"))
        xr.testing.assert_identical(open_scenes(tsho_rolpa, items).load(), expected)
    assert server.failed == times


def _cells(quality: list[int], green: float, nir: float, **coords: Any) -> xr.Dataset:
    codes = np.array(quality, "uint16")[None, None]
    numbers = {"green": np.full(codes.shape, green, "float32"), "nir": np.full(codes.shape, nir, "float32")}
    layers = {name: (("time", "y", "x"), values) for name, values in {**numbers, "quality": codes}.items()}
    return xr.Dataset(layers, coords=coords)


def test_every_class_of_sentinel2() -> None:
    """Which of the twelve are seen, and which tell something; the offset of the baseline."""
    raw = _cells(list(range(12)), 2500.0, 1200.0, offset=("time", [-1000.0]))
    restored = restore(raw, "sentinel-2-l2a")
    assert np.flatnonzero(restored["observed"].values[0, 0]).tolist() == [2, 4, 5, 6, 7, 11]
    assert np.flatnonzero(np.isfinite(restored["green"].values[0, 0])).tolist() == [4, 5, 6, 7]
    np.testing.assert_allclose(restored["green"].values[0, 0, 4:8], 0.15, rtol=1e-6)
    np.testing.assert_allclose(water_index(restored).values[0, 0, 4:8], (0.15 - 0.02) / 0.17, rtol=1e-5)


def test_every_bit_of_landsat() -> None:
    """Bits 0 to 4 hide, 5 (snow) tells nothing, the others do not matter; 0 is fill whatever the codes say."""
    raw = _cells([1 << bit for bit in range(16)], 12000.0, 9000.0)
    restored = restore(raw, "landsat-c2-l2")
    assert np.flatnonzero(~restored["observed"].values[0, 0]).tolist() == [0, 1, 2, 3, 4]
    assert np.flatnonzero(np.isnan(restored["nir"].values[0, 0])).tolist() == [0, 1, 2, 3, 4, 5]
    np.testing.assert_allclose(restored["green"].values[0, 0, 6:], 12000 * 2.75e-5 - 0.2, rtol=1e-6)
    assert not restore(_cells([21824], 0.0, 9000.0), "landsat-c2-l2")["observed"].any()


def test_reflectances_below_zero() -> None:
    """They count as 0 in the index, and where both are below there is no index."""
    raw = _cells([6], 1100.0, 900.0, offset=("time", [-1000.0]))
    assert water_index(restore(raw, "sentinel-2-l2a"), "sentinel-2-l2a").item() == 1.0
    raw["green"] -= 300
    assert np.isnan(water_index(restore(raw, "sentinel-2-l2a"), "sentinel-2-l2a").item())


@pytest.mark.parametrize("ratio", [0.3, 1.0, 3.0])
def test_shares_of_mixed_pixels_are_found(ratio: float) -> None:
    """A ratio of mixtures gives back the share that was mixed, however bright the land is."""
    share = np.zeros((40, 40))
    share[10:30, 10:30] = 1
    share[10:30, 9] = np.linspace(0.02, 0.98, 20)
    weight = share * 0.1 + (1 - share) * 0.1 * ratio
    index = (share * 0.1 * 0.5 + (1 - share) * 0.1 * ratio * -0.3) / weight
    found = water_fraction(index, weight, np.ones_like(share, bool), (-0.1, 0.3))
    np.testing.assert_allclose(found, share, atol=1e-6)


@pytest.mark.parametrize(
    ("index", "expected"),
    [
        (np.full((20, 20), 0.4), 1.0),
        (np.full((20, 20), -0.4), 0.0),
        (np.random.default_rng(0).normal(-0.4, 0.02, (20, 20)), 0.0),
        (np.random.default_rng(0).normal(0.6, 0.02, (20, 20)), 1.0),
        (np.where(np.indices((20, 20))[1] < 1, 0.4, np.nan), 1.0),
        (np.full((20, 20), np.nan), np.nan),
    ],
    ids=["water", "land", "noisy land", "noisy water", "few pixels", "nothing"],
)
def test_one_kind_of_surface_is_not_cut_in_two(index: np.ndarray, expected: float) -> None:
    """Otsu's threshold would part it: the bounds do not let it."""
    found = water_fraction(index, np.ones_like(index), np.ones(index.shape, bool), (-0.1, 0.3))
    np.testing.assert_array_equal(found, np.where(np.isnan(index), np.nan, expected).astype("float32"))


@pytest.mark.parametrize(
    ("baseline", "applied", "expected"),
    [("02.14", False, 0), ("03.01", False, 0), ("04.00", False, -1000), ("0509", False, -1000), ("05.11", True, 0)],
)
def test_the_offset_goes_with_the_baseline(baseline: str, applied: bool, expected: float) -> None:
    """Not with the date; and never twice."""
    assert sentinel2_offset(baseline, applied=applied) == expected


def test_what_can_not_be_measured_is_refused(raw: xr.Dataset, tsho_rolpa: Lake) -> None:
    """Each says what was given and how to repair it."""
    cases = [
        (lambda: restore(raw, "sentinel-3"), ConfigError, "sensor 'sentinel-3' isn't known; known are sentinel-2-l2a"),
        (lambda: restore(raw.drop_vars("offset")), ConfigError, "the dataset lacks offset"),
        (lambda: restore(raw.isel(time=0)), ConfigError, r"green has dims \('y', 'x'\)"),
        (lambda: water_index(raw), ConfigError, r"call restore\(ds\) first"),
        (lambda: optical_probability(raw, tsho_rolpa.at_spacing(30)), GridMismatch, "is not the lattice of lake"),
        (lambda: join_areas(xr.Dataset()), ConfigError, "lack the coordinate time, track, platform"),
        (join_areas, ConfigError, "no areas were given"),
        (
            lambda: join_areas(*(xr.Dataset(attrs={"lake": name}) for name in "ab")),
            ConfigError,
            r"several lakes \(a, b\)",
        ),
        (lambda: open_scenes(tsho_rolpa, []), NoObservations, "no scenes were given for tsho_rolpa"),
    ]
    for call, error, message in cases:
        with pytest.raises(error, match=message):
            call()


def test_scenes_that_do_not_fit(tsho_rolpa: Lake, tmp_path: Path) -> None:
    """Landsat on a 20 m lattice, sensors mixed, optical scenes in a radar cube, a file that is gone."""
    from cubekit import build_cube

    lake = tsho_rolpa.at_spacing(30)
    with found(lake, [landsat(tmp_path, lake, "20190918T043824")], tmp_path) as (items, _):
        with pytest.raises(GridMismatch, match=r"pixels of 30 m, .* use lake.at_spacing\(30\)"):
            open_scenes(tsho_rolpa, items)
        other = items[0].clone()
        other.properties["cubekit:sensor"] = "sentinel-2-l2a"
        with pytest.raises(ConfigError, match="give those of one optical sensor at a time"):
            open_scenes(lake, [items[0], other])
        with pytest.raises(SourceError, match="a cube holds Sentinel-1; open optical scenes with"):
            build_cube(lake, items, tmp_path / "cubes")
        items[0].assets["green"].href += ".gone"
        with pytest.raises(CubekitError, match="can't be read"):
            open_scenes(lake, items).compute()


def test_items_that_tell_too_little(tsho_rolpa: Lake, tmp_path: Path) -> None:
    """No baseline, no quality layer, another collection: left out, with the reason."""
    good = sentinel2(tmp_path, tsho_rolpa, "20190915T045701", baseline="03.00")
    silent = {**good, "id": "silent", "properties": {**good["properties"], "s2:processing_baseline": None}}
    blind = {**good, "id": "blind", "assets": {key: good["assets"][key] for key in ("B03", "B08")}}
    lake = tsho_rolpa.at_spacing(30)
    first = {**landsat(tmp_path, lake, "20190918T043824"), "id": "first", "collection": "sentinel-2-l2a"}
    first["properties"] = {**first["properties"], "landsat:collection_number": "01"}
    with (
        pytest.warns(SceneWarning, match="3 items") as caught,
        found(tsho_rolpa, [good, silent, blind, first], tmp_path) as (items, _),
    ):
        assert [one.id for one in items] == [good["id"]]
    text = str(caught[0].message)
    assert re.search("blind: it lacks quality", text)
    assert re.search("silent: it tells no processing baseline", text)
    assert re.search("first: it is of Collection 01", text)


def test_a_sensor_of_ones_own(raw: xr.Dataset, tsho_rolpa: Lake) -> None:
    """What is registered works like the others; `SENSORS` is as before afterwards."""
    mine = replace(SENSORS["sentinel-2-l2a"], id="mine", bounds=(0.0, 0.0))
    register(mine)
    try:
        area = lake_area(optical_probability(raw, tsho_rolpa, sensor="mine"), tsho_rolpa)
    finally:
        del SENSORS["mine"]
    assert area.attrs["model"] == "water index of mine"
    assert area["area_km2"].notnull().all()


def test_the_page_on_sensors_runs() -> None:
    """docs/sensors.md: its example gives the area that it was made with."""
    text = (Path(__file__).parents[1] / "docs" / "sensors.md").read_text()
    names: dict[str, Any] = {}
    try:
        for block in re.findall(r"```python\n(.*?)```", text, re.DOTALL):
            exec(compile(block, "docs/sensors.md", "exec"), names)
    finally:
        SENSORS.pop("nisar-gcov", None)
    assert abs(names["area"]["area_km2"].item() / names["true_km2"] - 1) < 0.02
    assert all(f"`{sensor}`" in text for sensor in SENSORS)


def test_answers_that_fail_while_reading(tsho_rolpa: Lake, tmp_path: Path) -> None:
    """A raster that answers 503 for a while is read all the same."""
    listed = [sentinel2(tmp_path, tsho_rolpa, *SCENES["planetary"][0][:1], baseline="03.00")]
    with found(tsho_rolpa, listed, tmp_path) as (items, server):
        server.fail(Answer(503, b""), times=1, when=lambda request: "green" in request.path)
        ds = open_scenes(tsho_rolpa, items).compute()
    assert np.isfinite(ds["green"]).all()
