"""Training from folders: what chips say of themselves, what is kept apart, and the command from folders to a model."""

import json
from datetime import UTC, date, datetime, timedelta

import numpy as np
import pytest
import rasterio
import toys
from affine import Affine
from typer.testing import CliRunner

from cubekit.cli import app
from cubekit.errors import ConfigError, ModelError
from cubekit.segmentation import model as models
from cubekit.segmentation.pairs import load_pairs, read_mask
from cubekit.segmentation.splits import SPLITS, Sample, leaks, random_split
from cubekit.segmentation.training_data import (
    PairSamples,
    faulty_labels,
    fingerprint_of,
    training_parts,
    training_split,
    without,
)

START = datetime(2022, 1, 3, 0, 11, 30, tzinfo=UTC)
PUBLISHED = {
    "equalize": "published",
    "polarisation": "vv",
    "source": "hyp3",
    "spacing": 20,
    "speckle_filter": "hyp3 enhanced lee 7x7",
    "window": "aoi",
}
OWN = {**PUBLISHED, "speckle_filter": "lee 7x7", "source": "simulated"}


def write(path, values, **tags):
    path.parent.mkdir(parents=True, exist_ok=True)
    grid = {"crs": "EPSG:32645", "transform": Affine(20, 0, 466992.2, 0, -20, 3094449.7)}
    with rasterio.open(
        path, "w", driver="GTiff", count=1, height=values.shape[0], width=values.shape[1], dtype=values.dtype, **grid
    ) as opened:
        opened.write(values, 1)
        opened.update_tags(**tags)
    return path


def published(number, flags="gpufed"):
    return f"S1A_IW_{START + timedelta(12 * number):%Y%m%dT%H%M%S}_DVP_RTC20_G_{flags}_{number:04X}_VV.tif"


@pytest.fixture
def folders(tmp_path):
    """Twelve dates of two lakes, named as published."""
    for number, (chip, mask, _) in enumerate(toys.samples(24)):
        name = f"{('gokyoTsho', 'tshoRolpa')[number % 2]}/{published(number // 2)}"
        write(tmp_path / "chips" / name, chip)
        write(tmp_path / "masks" / name, mask.astype(np.uint8))
    return tmp_path / "chips", tmp_path / "masks"


def dated(count=40):
    """Three lakes in turn, every four days."""
    return [
        Sample(f"{n:03d}", "abc"[n % 3], START + timedelta(4 * n), (12, 85, 121)[n % 3], "descending", "")
        for n in range(count)
    ]


def test_pairs_are_samples(folders):
    """Chip, mask and observed as they were written; where the chip's edge is 0 nothing was observed."""
    given = PairSamples(load_pairs(*folders))
    assert len(given) == 24
    found = {chip.tobytes(): (mask, observed) for chip, mask, observed in given}
    for chip, mask, observed in toys.samples(24):
        np.testing.assert_array_equal(found[chip.tobytes()][0], mask)
        np.testing.assert_array_equal(found[chip.tobytes()][1], observed)


def test_published_chips_are_known_by_name(folders, tmp_path):
    """HyP3's names tell the product's own filter; unfiltered ones are another fingerprint."""
    assert fingerprint_of(load_pairs(*folders)) == PUBLISHED
    for room in ("chips", "masks"):
        write(tmp_path / "plain" / room / "gokyoTsho" / published(1, "gpuned"), toys.samples(1)[0][1].astype(np.uint8))
    plain = load_pairs(tmp_path / "plain" / "chips", tmp_path / "plain" / "masks")
    assert fingerprint_of(plain) == {**PUBLISHED, "speckle_filter": "none"}


def test_what_chips_say_themselves_counts(tmp_path):
    """The tag that write_chips writes, whatever the name; it has to be whole and the same in all."""
    mask = toys.samples(1)[0][1].astype(np.uint8)
    names = [f"S1A_202201{day:02d}T001130_T121_VV_gokyo.tif" for day in (3, 15)]
    for name in names:
        write(tmp_path / "masks" / name, mask)
        write(tmp_path / "chips" / name, mask, preprocessing=json.dumps(OWN))
    rooms = tmp_path / "chips", tmp_path / "masks"
    assert fingerprint_of(load_pairs(*rooms)) == OWN
    write(rooms[0] / names[1], mask, preprocessing=json.dumps({**OWN, "spacing": 30}))
    with pytest.raises(ModelError, match=r"made differently: S1A_20220103.*20, .* S1A_20220115.* 30, .*train on one"):
        fingerprint_of(load_pairs(*rooms))
    write(rooms[0] / names[1], mask, preprocessing='{"spacing": 20}')
    with pytest.raises(ModelError, match="which lacks equalize, polarisation, source, speckle_filter, window"):
        fingerprint_of(load_pairs(*rooms))
    write(rooms[0] / names[1], mask)
    with pytest.raises(ModelError, match="doesn't say how it was made, and its name is not that of a HyP3 product"):
        fingerprint_of(load_pairs(*rooms))


@pytest.mark.parametrize(
    "options",
    [
        {"split": "random", "seed": 3},
        {"split": "date", "cut": date(2022, 5, 1), "gap_days": 9.0},
        {"split": "lake", "hold_out": "b"},
        {"split": "track", "hold_out": "T085"},
        {"split": "none"},
    ],
)
def test_parts_are_apart(options):
    """No leak that the split promises to avoid, no part empty but the test of none, nothing twice."""
    samples = dated()
    made = training_split(samples, **options)
    assert made.kind == options["split"]
    assert leaks(made, samples) == []
    assert made.train
    assert made.validation
    assert bool(made.test) == (options["split"] != "none")
    every = [*made.train, *made.validation, *made.test]
    assert len(set(every)) == len(every)


def test_what_is_tested_is_what_evaluate_tests():
    """The same seed keeps the same fifth, however large the validation; `none` keeps nothing."""
    samples = dated()
    wanted = random_split(samples, seed=5).test
    assert all(training_split(samples, "random", seed=5, validation=share).test == wanted for share in (0.1, 0.3))
    assert len(training_split(samples, "random", validation=0.1).validation) == 4
    none = training_split(samples, "none", validation=0.25)
    assert (len(none.train), len(none.validation), none.test) == (30, 10, ())


def test_the_last_dates_before_the_gap_choose_the_epoch():
    """By date the validation lies between training and test, a gap away from both."""
    samples = dated()
    made = training_split(samples, "date", cut=date(2022, 5, 1), gap_days=9, validation=0.1)
    last, first = (max(samples[i].time for i in made.train), min(samples[i].time for i in made.validation))
    assert first - last >= timedelta(days=9)
    assert min(samples[i].time for i in made.test) - max(samples[i].time for i in made.validation) >= timedelta(days=9)
    assert len(made.validation) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"split": "year"}, f"split 'year' isn't known; allowed are {', '.join(SPLITS)}"),
        ({"split": "date"}, "a split by date needs its first day of testing"),
        ({"split": "lake"}, "hold_out is None; to leave one lake out give one of a, b, c"),
        ({"split": "track", "hold_out": "b"}, "hold_out is 'b'; to leave one track out give one of T012, T085, T121"),
        ({"split": "random", "validation": 0.0}, "validation is 0; give a share above 0"),
        ({"split": "date", "cut": date(2022, 1, 20), "gap_days": 12.0, "validation": 0.5}, "leaves 0 of 40"),
    ],
)
def test_splits_that_can_not_be_made_are_refused(options, message):
    """With what is missing or allowed."""
    with pytest.raises(ConfigError, match=message):
        training_split(dated(), **options)


@pytest.mark.filterwarnings("default:1 labels look wrong")
def test_the_command_makes_a_model(folders, tmp_path, monkeypatch):
    """From two folders to a file that says how; the same again, and as long as nothing changed nothing is done."""
    monkeypatch.setattr(models, "build_network", toys.Tiny)
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(toys.recipe().dump())
    out = tmp_path / "out"
    arguments = ["train", "--chips", str(folders[0]), "--masks", str(folders[1]), "--recipe", str(recipe)]
    first = CliRunner().invoke(app, [*arguments, "--out", str(out), "--seed", "4"], catch_exceptions=False)
    assert first.exit_code == 0
    assert (
        "24 pairs, split random (seed 4): 17 for training, 2 choose the epoch, 5 are kept for testing" in first.output
    )
    card = models.read_card(out / "model.safetensors")
    assert card.preprocessing == PUBLISHED
    assert card.training["data"] == "24 pairs of gokyo, tsho_rolpa"
    assert card.training["split"].startswith("random (seed 4), 17 for training")
    assert len(card.training["ids"]) == 19
    assert card.licence == "not stated"
    assert card.metrics["validation_iou_by_lake"] > 0
    assert f"weights {card.training['weights']}" in first.output
    again = CliRunner().invoke(app, [*arguments, "--out", str(tmp_path / "b"), "--seed", "4"], catch_exceptions=False)
    assert f"weights {card.training['weights']}" in again.output
    sorted_names = [path.name for path in sorted(out.iterdir())]
    assert sorted_names == ["checkpoint.pt", "history.csv", "last.safetensors", "model.safetensors"]


def test_parts_tell_where_lakes_were_from_the_training_alone(folders):
    """A second channel beside the chip; what chooses the epoch is told by the training, never by itself."""
    pairs = load_pairs(*folders)
    split = training_split([pair.sample for pair in pairs], "random", seed=1, validation=0.1)
    bare = training_parts(pairs, split, prior=False)
    assert bare.priors is None
    assert bare.samples[0][0].shape == (toys.SIDE, toys.SIDE)
    parts = training_parts(pairs, split, prior=True)
    masks = {pair.sample.id: read_mask(pair.mask) for pair in pairs}
    learned, choosing = ([pairs[index].sample for index in part] for part in (split.train, split.validation))
    for samples, wanted in ((parts.samples, learned), (parts.validation, choosing)):
        for number, sample in enumerate(wanted):
            others = [masks[one.id] for one in learned if one.lake == sample.lake and one.id != sample.id]
            image, mask, _ = samples[number]
            np.testing.assert_array_equal(image[0], bare.samples[number][0] if wanted is learned else image[0])
            np.testing.assert_array_equal(image[1], np.rint(np.mean(others, axis=0) * 255))
            np.testing.assert_array_equal(mask, masks[sample.id])
    drawn = [parts.samples.in_epoch(0, epoch)[0] for epoch in (1, 1, 2)]
    np.testing.assert_array_equal(drawn[0][0], drawn[1][0])
    assert any((parts.samples.in_epoch(0, epoch)[0][0][1] != drawn[0][0][1]).any() for epoch in range(2, 9))
    np.testing.assert_array_equal(drawn[2][0][0], bare.samples[0][0])
    assert bare.samples.in_epoch(0, 1) is bare.samples
    used = [one for one in (*learned, *choosing) if one.lake == "gokyo"]
    (known,) = [prior for key, prior in parts.priors.items() if key.startswith("gokyo") and key.endswith("ending")]
    np.testing.assert_array_equal(known, np.rint(np.mean([masks[one.id] for one in used], axis=0) * 255))
    tested = {pairs[index].sample.id for index in split.test}
    assert not tested & {one.id for one in (*learned, *choosing)}


def test_faulty_labels_leave_the_training_and_stay_in_the_test(folders):
    """An empty mask is left out of training and validation, by name; tested masks are not looked at."""
    pairs = load_pairs(*folders)
    split = training_split([pair.sample for pair in pairs], "random", seed=1, validation=0.1)
    for index in (split.train[3], split.test[0]):
        write(pairs[index].mask, np.zeros((toys.SIDE, toys.SIDE), np.uint8))
    faulty = faulty_labels(pairs, split)
    kept = without(pairs, split, faulty)
    assert pairs[split.train[3]].sample.id in faulty
    assert len(faulty) <= 0.1 * (len(split.train) + len(split.validation)) + 1
    assert kept.test == split.test
    assert split.train[3] not in kept.train
    assert {*kept.train, *kept.validation} == {*split.train, *split.validation} - {
        index for index, pair in enumerate(pairs) if pair.sample.id in faulty
    }
    with pytest.raises(ConfigError, match=r"without 24 labels the split .* has too few; mend them, or keep all"):
        without(pairs, split, [pair.sample.id for pair in pairs])
