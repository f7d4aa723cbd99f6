"""Pairs of chips and masks: names are read, what doesn't fit is left out by name, pixels are read when asked for."""

import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from affine import Affine
from rasterio.errors import NotGeoreferencedWarning

from cubekit.errors import SceneWarning, SourceError
from cubekit.lakes import catalogue
from cubekit.preprocess.chips import to_chips, write_chips
from cubekit.segmentation import pairs
from cubekit.segmentation.pairs import lake_key, load_pairs, observed_pixels, read_chip, read_mask

DESCENDING = "S1A_IW_20210122T001130_DVP_RTC20_G_gpufed_5E3C"
ASCENDING = "S1A_IW_20210327T121349_DVP_RTC20_G_gpufed_90E4"
AGAIN = "S1A_IW_20210122T001130_DVP_RTC20_G_gpufed_AAAA"
CORNER = (466992.2, 3094449.7)


def write(path: Path, values=None, *, corner=CORNER, epsg: int | None = 32645, **tags: str) -> Path:
    """One small GeoTIFF; without `epsg` it has no georeference."""
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.full((8, 8), 9, np.uint8) if values is None else values
    profile = {"driver": "GTiff", "count": 1, "height": values.shape[0], "width": values.shape[1]}
    if epsg is not None:
        profile |= {"crs": f"EPSG:{epsg}", "transform": Affine(20, 0, corner[0], 0, -20, corner[1])}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NotGeoreferencedWarning)
        with rasterio.open(path, "w", dtype=values.dtype, **profile) as opened:
            opened.write(values, 1)
            opened.update_tags(**tags)
    return path


def mask(high=1, size=8):
    values = np.zeros((size, size), np.uint8)
    values[2:5, 2:6] = high
    return values


@pytest.fixture
def folders(tmp_path):
    """Two dates of Gokyo, named as published."""
    for product in (DESCENDING, ASCENDING):
        name = f"gokyoTsho/{product}_VV_clipped_to_gokyoTshoAOI.tif"
        write(tmp_path / "chips" / name)
        write(tmp_path / "masks" / name, mask())
    return tmp_path / "chips", tmp_path / "masks"


def test_published_names_give_lake_time_track_and_direction(folders):
    """As inferred from OPERA's burst table: 00:11 T121 descending, 12:13 T012 ascending."""
    found = load_pairs(*folders)
    assert [(p.sample.lake, p.sample.track, p.sample.direction) for p in found] == [
        ("gokyo", 121, "descending"),
        ("gokyo", 12, "ascending"),
    ]
    assert found[0].sample.time == datetime(2021, 1, 22, 0, 11, 30, tzinfo=UTC)
    assert found[0].sample.id == f"gokyo/{DESCENDING}_VV"
    assert found[0].sample.grid == found[1].sample.grid
    sample, chip, drawn = found[0]
    assert (chip.parts[-3], drawn.parts[-3]) == ("chips", "masks")
    assert chip.name == drawn.name
    assert sample.id in str(sample)


@pytest.mark.parametrize(
    "name",
    [
        "{}_VV.tif_clipped_to_gokyoTshoAOI.geojson.tif",
        "{}_VV_clipped_to_gokyoTshoAOI_mask.tif",
        "gokyoTsho/{}_VV.tif",
        "Gokyo/2021/{}_VV_mask.tiff",
        "labels/{}_VV_clipped_to_gokyoTshoAOI.tif",
        "{}_VV_gokyo.tif",
    ],
)
def test_the_same_chip_under_other_names(folders, tmp_path, name):
    """Text after the polarisation, a role, folders: the lake and the product are the same."""
    chips, _ = folders
    write(tmp_path / "other" / name.format(DESCENDING), mask())
    with pytest.warns(SceneWarning, match="1 because it has no mask"):
        found = load_pairs(chips, tmp_path / "other")
    assert [pair.sample.id for pair in found] == [f"gokyo/{DESCENDING}_VV"]


def test_one_scene_over_two_lakes_is_two_samples(folders):
    """A HyP3 product is cut for each AOI."""
    for folder in folders:
        write(folder / f"tshoRolpa/{DESCENDING}_VV_clipped_to_tshoRolpaAOI.tif", mask())
    assert [pair.sample.lake for pair in load_pairs(*folders)] == ["gokyo", "gokyo", "tsho_rolpa"]


def test_two_processings_of_a_scene_keep_their_own_masks(folders):
    """Tilicho's 831F and 9EE4: each chip has the mask of its product."""
    for folder in folders:
        write(folder / f"gokyoTsho/{AGAIN}_VV_clipped_to_gokyoTshoAOI.tif", mask())
    found = load_pairs(*folders)
    assert len(found) == 3
    assert all(pair.chip.name == pair.mask.name for pair in found)
    assert len({pair.sample.scene for pair in found}) == 2


def chips_of(lake, folder):
    """One chip by write_chips, of the scene DESCENDING."""
    window = dict(zip("yx", lake.aoi_window, strict=True))
    power = xr.ones_like(lake.outline_mask.isel(window), dtype="float32")
    power.values[:] = np.random.default_rng(0).uniform(0.01, 1, power.shape)
    power = power.expand_dims(time=[np.datetime64("2021-01-22T00:11:30", "ns")])
    power = power.assign_coords(track=("time", [121]), platform=("time", [0]))
    power.attrs |= {"polarisation": "vv", "source": "hyp3", "spacing": lake.spacing, "speckle_filter": "none"}
    (path,) = write_chips(to_chips(power, lake), folder)
    return path


def test_chips_that_cubekit_writes_are_read(tmp_path):
    """By their own names, and with a mask that was drawn on another product's chip of the same scene."""
    lake = catalogue()["tsho_rolpa"]
    chip = chips_of(lake, tmp_path / "chips")
    assert chip.name == "S1A_20210122T001130_T121_VV_tsho_rolpa.tif"
    write(tmp_path / "own" / chip.name, mask(size=256), epsg=None)
    write(tmp_path / "theirs" / f"{DESCENDING}_VV_clipped_to_tshoRolpaAOI.tif", mask(size=256), epsg=None)
    for masks in ("own", "theirs"):
        (found,) = load_pairs(tmp_path / "chips", tmp_path / masks)
        assert (found.sample.lake, found.sample.track, found.sample.direction) == ("tsho_rolpa", 121, "descending")
    header = pairs.read_header(chip)
    assert header.spacing == 20
    assert '"source": "hyp3"' in header.preprocessing


def test_what_is_left_out_is_listed_with_its_reason(folders):
    """One warning; the rest is there."""
    chips, masks = folders
    good = f"gokyoTsho/{DESCENDING}_VV_clipped_to_gokyoTshoAOI.tif"
    for number, (of_chip, of_mask) in enumerate(
        [
            ({}, {"values": mask(size=9)}),
            ({}, {"corner": (CORNER[0] + 20, CORNER[1])}),
            ({"epsg": None}, {}),
        ]
    ):
        name = (
            f"gokyoTsho/S1A_IW_2022020{number + 1}T001130_DVP_RTC20_G_gpufed_AAA{number}_VV_clipped_to_gokyoTshoAOI.tif"
        )
        write(chips / name, **of_chip)
        write(masks / name, **{"values": mask(), **of_mask})
    write(chips / good.replace("5E3C", "BBBB").replace("20210122", "20210203"))
    write(masks / good.replace("5E3C", "CCCC").replace("20210122", "20210215"), mask())
    write(chips / "dem.tif")
    write(chips / f"{DESCENDING}_VV.tif")
    write(chips / good.replace("_VV_", "_ls_map_"))  # a layer, without a word
    (chips / "gokyoTsho" / f"{DESCENDING}_VV_clipped_to_imjaTshoAOI.tif").write_text("no image")
    write(masks / "imjaTsho" / f"{DESCENDING}_VV_clipped_to_imjaTshoAOI.tif", mask())
    with pytest.warns(SceneWarning, match="8 files are left out") as caught:
        found = load_pairs(chips, masks)
    assert len(found) == 2
    text = str(caught[0].message)
    for reason in (
        "it has 8 x 8 pixels and its mask 9 x 9",
        "its mask lies elsewhere",
        "it has no known coordinate reference system",
        "it has no mask (S1A_IW_20210203",
        "it has no chip (S1A_IW_20210215",
        "neither that of a HyP3 or OPERA product nor one of write_chips (dem.tif)",
        "its lake can't be told",
        "its chip is unreadable",
    ):
        assert reason in text


def test_a_mask_without_georeference_has_the_chip_s(folders):
    """The published ones lost theirs."""
    write(folders[1] / f"gokyoTsho/{DESCENDING}_VV_clipped_to_gokyoTshoAOI.tif", mask(), epsg=None)
    assert len(load_pairs(*folders)) == 2


def test_nothing_is_an_error(folders, tmp_path):
    """No folder, or no pair: said with the reasons."""
    with pytest.raises(SourceError, match="does not exist; give the folder that holds the masks"):
        load_pairs(folders[0], tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(SourceError, match="2 because it has no mask"):
        load_pairs(folders[0], tmp_path / "empty")


def test_pairs_are_found_without_reading_pixels(folders, monkeypatch):
    """Headers only: pixels of thousands of chips are read when they are asked for."""
    monkeypatch.setattr(pairs, "_pixels", lambda path: pytest.fail(f"read {path}"))
    assert len(load_pairs(*folders)) == 2


@pytest.mark.parametrize("high", [1, 255])
def test_masks_hold_0_and_1_or_0_and_255(tmp_path, high):
    """Both are the same mask."""
    np.testing.assert_array_equal(read_mask(write(tmp_path / "m.tif", mask(high))), mask() == 1)


def test_masks_may_be_empty(tmp_path):
    """No lake is a mask too."""
    assert not read_mask(write(tmp_path / "m.tif", mask(0))).any()


def test_other_values_are_refused(tmp_path):
    """What 2 or 128 mean is not known; a crop is no chip."""
    with pytest.raises(SourceError, match="holds 0, 2, and a mask"):
        read_mask(write(tmp_path / "m.tif", mask(2)))
    with pytest.raises(SourceError, match="is float32, and chips are uint8"):
        read_chip(write(tmp_path / "c.tif", mask().astype(np.float32)))
    with pytest.raises(SourceError, match="can't be read"):
        read_chip(tmp_path / "nothing.tif")


def test_the_darkest_pixels_inside_are_observed():
    """Zeros of the padding, what touches it and large holes are not; a few zeros in the lake are."""
    chip = np.zeros((64, 64), np.uint8)
    chip[4:60, 4:60] = 100
    chip[30, 30:34] = 0
    chip[40:50, 40:50] = 0
    chip[4, 4:8] = 0
    expected = np.zeros_like(chip, np.bool_)
    expected[4:60, 4:60] = True
    expected[40:50, 40:50] = False
    expected[4, 4:8] = False
    np.testing.assert_array_equal(observed_pixels(chip), expected)


def test_a_chip_without_padding_is_observed():
    """All of it; and nothing of an empty one."""
    assert observed_pixels(np.full((5, 5), 3, np.uint8)).all()
    assert not observed_pixels(np.zeros((5, 5), np.uint8)).any()


def test_what_the_chip_tells_is_what_was_observed(tmp_path):
    """Against to_chips: an AOI that is all observed, but for the few of its darkest pixels that touch the padding."""
    chip = read_chip(chips_of(catalogue()["tsho_rolpa"], tmp_path))
    rows, columns = np.nonzero(chip)
    window = np.zeros(chip.shape, np.bool_)
    window[rows.min() : rows.max() + 1, columns.min() : columns.max() + 1] = True
    assert (observed_pixels(chip) != window).sum() <= 10
    assert (chip[window] == 0).sum() > 50


@pytest.mark.parametrize(
    ("name", "lake"),
    [
        ("chamlangTsho", "chamlang_tsho"),
        ("clipped_to_tilichoTshoAOI", "tilicho"),
        ("tsho_rolpa", "tsho_rolpa"),
        ("Imja Tsho", "imja_tsho"),
        ("gokyo-AOI", "gokyo"),
    ],
)
def test_lakes_have_the_catalogue_s_ids(name, lake):
    """Whatever the spelling."""
    assert lake_key(name) == lake


def test_the_published_pairs(npsar):
    """All that are at hand, with the tracks that index.csv infers."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SceneWarning)
        found = load_pairs(npsar / "chips", npsar / "masks")
    assert len(found) == sum(1 for _ in (npsar / "masks").rglob("*.tif"))
    tracks = {(pair.sample.track, pair.sample.direction) for pair in found}
    assert tracks <= {
        (121, "descending"),
        (12, "ascending"),
        (85, "ascending"),
        (19, "descending"),
        (92, "descending"),
        (158, "ascending"),
    }
    assert len({pair.sample.grid for pair in found if pair.sample.lake == "tilicho"}) == 2
