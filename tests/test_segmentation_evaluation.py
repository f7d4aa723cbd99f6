"""Evaluation: the numbers in the JSON are those of the pixels, the split is kept, and the command prints them."""

import json
import subprocess
import sys
import warnings
from collections.abc import Iterator
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from cubekit import cli
from cubekit.errors import ConfigError, ModelError, SceneWarning, SourceError
from cubekit.segmentation import evaluation, evaluation_report, inference, metrics, priors
from cubekit.segmentation import model as models
from cubekit.segmentation.card import ModelCard
from cubekit.segmentation.evaluation import evaluate, folds_of
from cubekit.segmentation.evaluation_report import report, table
from cubekit.segmentation.pairs import header_of, load_pairs, observed_pixels, read_chip, read_mask

SIZE = 64
LAKES = {"gokyoTsho": (20, 24), "tshoRolpa": (34, 30), "chamlangTsho": (30, 38)}
TIMES = ("20210122T001130", "20210203T001130", "20220122T001130", "20230122T001130", "20240122T001130")
SCORES = ("precision", "recall", "f1", "accuracy")


def write(path: Path, values: np.ndarray, **tags: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": 1, "height": SIZE, "width": SIZE, "dtype": "uint8", "crs": "EPSG:32645"}
    with rasterio.open(path, "w", transform=Affine(20, 0, 466992.2, 0, -20, 3094449.7), **profile) as opened:
        opened.write(values, 1)
        opened.update_tags(**tags)


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> tuple[Path, Path]:
    """Three lakes on five dates: dark discs that breathe, on bright land, padded; masks are a bit off."""
    root = tmp_path_factory.mktemp("pairs")
    rng = np.random.default_rng(0)
    rows, columns = np.mgrid[:SIZE, :SIZE]
    for lake, (row, column) in LAKES.items():
        for number, time in enumerate(TIMES):
            name = f"{lake}/S1A_IW_{time}_DVP_RTC20_G_gpufed_AAAA_VV_clipped_to_{lake}AOI.tif"
            water = np.hypot(rows - row, columns - column) < 8 + number % 3
            chip = np.where(water, rng.integers(1, 60, water.shape), rng.integers(120, 255, water.shape))
            chip[:4], chip[-4:], chip[:, :4], chip[:, -4:] = 0, 0, 0, 0
            write(root / "chips" / name, chip.astype(np.uint8))
            write(root / "masks" / name, np.roll(water, number % 2, axis=0).astype(np.uint8))
    return root / "chips", root / "masks"


@pytest.fixture(scope="module")
def pairs(folders):
    return load_pairs(*folders)


def dark(images: np.ndarray) -> np.ndarray:
    """What is dark is water, also in the padding."""
    return np.where(images < 90, np.float32(0.9), np.float32(0.2))


def darkness(_pair, chip: np.ndarray) -> np.ndarray:
    """The same as a model."""
    return dark(chip)


def made_of(pairs, split="none", predict=darkness, **options):
    folds = folds_of([pair.sample for pair in pairs], split, **options)
    return report(evaluate(pairs, predict, folds), resamples=50)


def test_the_json_has_what_was_asked_for(pairs):
    """The keys of the issue, plain numbers, no NaN."""
    made = made_of(pairs)
    assert {"iou", *SCORES, "confusion", "by_lake", "baselines"} <= set(made)
    assert set(made["iou"]) == {"pooled", "mean"}
    assert set(made["confusion"]) == {"tn", "fp", "fn", "tp"}
    assert set(made["by_lake"]) == {"gokyo", "tsho_rolpa", "chamlang_tsho"}
    assert set(made["baselines"]) == {"mask_only", "previous_outline", "outline", "otsu"}
    for entry in (*made["by_lake"].values(), *made["baselines"].values()):
        assert {"iou", *SCORES, "confusion"} <= set(entry)
    assert made["clusters"] == {"of": "lake-dates", "number": 15}
    assert json.loads(json.dumps(made, allow_nan=False)) == made


def test_the_numbers_are_those_of_the_pixels(pairs):
    """All of it again, from arrays."""
    made = made_of(pairs)
    chips = np.stack([read_chip(pair.chip) for pair in pairs])
    truth = np.stack([read_mask(pair.mask) for pair in pairs])
    observed = np.stack([observed_pixels(chip) for chip in chips])
    counts = metrics.confusion(truth, dark(chips), observed)
    found = metrics.scores(counts)
    assert made["iou"] == pytest.approx({"pooled": found.pooled["iou"], "mean": found.mean["iou"]})
    assert {name: made[name] for name in SCORES} == pytest.approx({name: found.pooled[name] for name in SCORES})
    assert made["confusion"] == {name: cell.sum() for name, cell in counts._asdict().items()}
    assert sum(made["confusion"].values()) == observed.sum() == len(pairs) * (SIZE - 8) ** 2
    assert made["area"] == pytest.approx(metrics.area_errors(truth, dark(chips) > 0.5, 0.0004, observed)._asdict())
    shores = metrics.boundary_distance(truth, dark(chips) > 0.5, 20.0, observed)
    assert made["boundary"]["mean_m"] == pytest.approx(shores.mean.mean())
    assert made["calibration"]["error"] == pytest.approx(
        metrics.calibration_error(truth, dark(chips), observed=observed).error
    )
    whole = metrics.scores(metrics.confusion(truth, dark(chips)))
    assert made["whole_chip"]["iou"]["pooled"] == pytest.approx(whole.pooled["iou"])
    assert whole.pooled["iou"] < found.pooled["iou"] - 0.2  # this model takes padding for water
    gokyo = np.array([pair.sample.lake == "gokyo" for pair in pairs])
    of_lake = metrics.scores(metrics.confusion(truth[gokyo], dark(chips[gokyo]), observed[gokyo]))
    assert made["by_lake"]["gokyo"]["iou"]["pooled"] == pytest.approx(of_lake.pooled["iou"])
    assert made["by_lake"]["gokyo"]["images"] == 5


def test_a_perfect_model_beats_the_baselines(pairs):
    """IoU 1, and a gain with an interval above 0; the interval holds the estimate."""
    made = made_of(pairs, predict=lambda pair, chip: read_mask(pair.mask).astype(np.float32))
    assert (made["iou"]["pooled"], made["f1"], made["calibration"]["error"]) == (1.0, 1.0, 0.0)
    for name, gain in made["gain"].items():
        low, high = gain["interval"]
        assert 0 < low <= gain["iou"] <= high, name
        assert gain["iou"] == pytest.approx(1 - made["baselines"][name]["iou"]["pooled"])


def test_baselines_alone_need_no_model(pairs):
    """The model's numbers are null, those of the baselines are there."""
    made = made_of(pairs, predict=None)
    assert made["iou"] == {"pooled": None, "mean": None}
    assert (made["f1"], made["confusion"], made["by_lake"]) == (None, None, {})
    assert made["baselines"]["mask_only"]["iou"]["pooled"] > 0.5
    assert "gain" not in made
    assert {row["method"] for row in table(made)} == set(evaluation.BASELINES)


@pytest.mark.parametrize(
    ("split", "options", "tested"),
    [
        ("none", {}, 15),
        ("random", {"seed": 3}, 3),
        ("date", {"cut": date(2023, 1, 1)}, 6),
        ("date", {"cut": date(2023, 1, 1), "until": date(2023, 12, 31), "gap_days": 400}, 3),
        ("lake", {}, 15),
        ("lake", {"hold_out": "gokyo"}, 5),
    ],
)
def test_only_the_test_part_is_predicted(pairs, split, options, tested):
    """As many chips as the split tests, each once."""
    seen: list[str] = []

    def predict(pair, chip):
        np.testing.assert_array_equal(chip, read_chip(pair.chip))
        seen.append(pair.sample.id)
        return dark(chip)

    made = made_of(pairs, split, predict, **options)
    assert made["images"] == len(seen) == len(set(seen)) == tested == sum(made["split"]["test"])
    assert made["split"]["leaks"] == {}


def test_leaving_a_lake_out_leaves_the_baselines_without_masks(pairs):
    """They claim no water, and say why."""
    made = made_of(pairs, "lake")
    assert made["baselines"]["mask_only"]["basis"] == {"nothing": 15}
    assert made["baselines"]["mask_only"]["recall"] == 0
    assert made["baselines"]["mask_only"]["precision"] is None
    assert made["baselines"]["otsu"]["iou"]["pooled"] > 0.7  # the largest dark patch
    assert made["split"]["names"] == ["chamlang_tsho", "gokyo", "tsho_rolpa"]
    assert made["clusters"] == {"of": "lakes", "number": 3}


def test_leaks_of_a_split_are_counted(pairs, folders, tmp_path):
    """Two processings of one scene on both sides of a random split."""
    twice = []
    for number, pair in enumerate(pairs[:5]):
        for identifier in ("AAAA", "BBBB"):
            name = pair.chip.name.replace("AAAA", identifier)
            write(tmp_path / "chips" / name, read_chip(pair.chip))
            write(tmp_path / "masks" / name, read_mask(pair.mask).astype(np.uint8))
        twice.append(number)
    made = made_of(load_pairs(tmp_path / "chips", tmp_path / "masks"), "random")
    assert made["split"]["leaks"] == {"scene": 2}


def test_images_without_a_lake_are_counted_not_hidden(tmp_path):
    """One such image: its IoU isn't defined when nothing is found there."""
    name = "S1A_IW_{}_DVP_RTC20_G_gpufed_AAAA_VV_clipped_to_gokyoTshoAOI.tif"
    lake = np.zeros((SIZE, SIZE), np.uint8)
    lake[20:30, 20:30] = 1
    for time, mask in zip(TIMES[:2], (lake, lake * 0), strict=True):
        write(tmp_path / "chips" / name.format(time), np.where(mask, 10, 200).astype(np.uint8))
        write(tmp_path / "masks" / name.format(time), mask)
    made = made_of(load_pairs(tmp_path / "chips", tmp_path / "masks"))
    assert (made["images"], made["images_with_iou"], made["area"]["images_with_lake"]) == (2, 1, 1)
    assert made["iou"] == {"pooled": 1.0, "mean": 1.0}


def test_a_model_that_answers_wrongly_is_refused(pairs):
    """Another shape, NaN, or logits."""
    folds = folds_of([pair.sample for pair in pairs], "none")
    with pytest.raises(ConfigError, match="a probability is needed for each pixel"):
        evaluate(pairs, lambda pair, chip: dark(chip)[1:], folds)
    with pytest.raises(ConfigError, match="have the probability NaN"):
        evaluate(pairs, lambda pair, chip: dark(chip) * np.nan, folds)
    with pytest.raises(ConfigError, match=r"reach from 1\.8 to 8\.1"):
        evaluate(pairs, lambda pair, chip: dark(chip) * 9, folds)


def test_splits_are_known_by_name(pairs):
    """A name that isn't one; a split by date without its day."""
    samples = [pair.sample for pair in pairs]
    with pytest.raises(ConfigError, match="allowed are random, date, lake, track, none"):
        folds_of(samples, "years")
    with pytest.raises(ConfigError, match="no lake 'imja' to hold out; there are chamlang_tsho, gokyo, tsho_rolpa"):
        folds_of(samples, "lake", hold_out="imja")
    with pytest.raises(ConfigError, match="give --cut"):
        folds_of(samples, "date")


CHAIN = {
    "equalize": "published",
    "polarisation": "vv",
    "source": "hyp3",
    "spacing": 20,
    "speckle_filter": "hyp3 enhanced lee 7x7",
    "window": "aoi",
}


@pytest.mark.parametrize(
    ("tags", "change", "words"),
    [
        ({}, {}, None),
        ({}, {"spacing": 30}, "spacing 30 .chip: 20"),
        ({"preprocessing": json.dumps(CHAIN)}, {}, None),
        ({"preprocessing": json.dumps(CHAIN)}, {"source": "opera"}, "source 'opera' .chip: 'hyp3'"),
        ({}, {"speckle_filter": "none"}, "speckle_filter 'none' .chip: 'hyp3 "),
    ],
)
def test_a_model_refuses_chips_made_otherwise(tmp_path, pairs, tags, change, words):
    """By what the chip, or its published name, says of it."""
    card = ModelCard(name="m", created=datetime(2025, 1, 1, tzinfo=UTC), preprocessing={**CHAIN, **change}, licence="x")
    path = tmp_path / pairs[0].chip.name
    write(path, read_chip(pairs[0].chip), **tags)
    chips = [pairs[0]._replace(chip=path)]
    if words is None:
        evaluation.check_chips(card, chips)
    else:
        with pytest.raises(ModelError, match=words):
            evaluation.check_chips(card, chips)


@pytest.fixture
def shown(monkeypatch, capsys) -> Iterator[object]:
    """Calls the command line, and gives what it printed."""

    def call(*arguments: object) -> str:
        monkeypatch.setattr(sys, "argv", ["cubekit", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        text = capsys.readouterr()
        return f"{ended.value.code}\n{text.out}\n{text.err}"

    return call


def test_the_command_writes_what_it_prints(folders, tmp_path, shown, monkeypatch):
    """`cubekit evaluate` with a model: table, gain, JSON."""
    card = ModelCard(name="dark", created=datetime(2025, 1, 1, tzinfo=UTC), preprocessing=CHAIN, licence="x")
    monkeypatch.setattr(evaluation, "model_predict", lambda path, pairs, *, prior: (darkness, card))
    arguments = ("--model", "m.safetensors", "--chips", folders[0], "--masks", folders[1])
    text = shown(
        "evaluate", *arguments, "--split", "date", "--cut", "2023-01-01", "--json", tmp_path / "new" / "o.json"
    )
    made = json.loads((tmp_path / "new" / "o.json").read_text())
    assert text.startswith("0\n")
    assert f"{made['iou']['pooled']:.3f}" in text
    assert f"model less mask_only: {made['gain']['mask_only']['iou']:+.3f}" in text
    assert "from 2023-01-01" in text
    assert (made["model"], made["threshold"], made["pairs"], made["images"]) == ("dark", 0.5, 15, 6)


@pytest.mark.filterwarnings("default")
def test_what_was_trained_on_is_counted(folders, tmp_path, shown, monkeypatch, pairs):
    """A card tells what the training looked at; a test of it is said to be none."""
    ids = [pair.sample.id for pair in pairs if pair.sample.time.year < 2022]
    card = ModelCard(
        name="dark", created=datetime(2025, 1, 1, tzinfo=UTC), preprocessing=CHAIN, licence="x", training={"ids": ids}
    )
    monkeypatch.setattr(evaluation, "model_predict", lambda path, pairs, *, prior: (darkness, card))
    arguments = ("evaluate", "--model", "m.safetensors", "--chips", folders[0], "--masks", folders[1])
    text = shown(*arguments, "--json", tmp_path / "all.json")
    assert "warning: the model was trained on 6 of the tested chips: its scores say little" in text
    assert json.loads((tmp_path / "all.json").read_text())["trained_on"] == 6
    shown(*arguments, "--split", "date", "--cut", "2022-01-01", "--json", tmp_path / "later.json")
    assert json.loads((tmp_path / "later.json").read_text())["trained_on"] == 0


def test_a_network_sees_prior_and_chip_without_padding(pairs, tmp_path):
    """What the model keeps of a lake is laid beside the chip; its answer lies where the chip was."""
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    network = models.build_network("efficientnet-lite0", 2)
    network.segmentation_head[0].bias.data[:] = 0
    card = ModelCard(
        name="sees",
        created=datetime(2025, 1, 1, tzinfo=UTC),
        preprocessing=CHAIN,
        licence="x",
        encoder="efficientnet-lite0",
        channels=("chip", "prior"),
    )
    known = priors.known_priors([pairs[0].sample], [read_mask(pairs[0].mask)])
    path = models.save_model(network, card, tmp_path / "sees.safetensors", priors=known)
    predict, _ = evaluation.model_predict(path, pairs)
    chip = read_chip(pairs[0].chip)
    answer = predict(pairs[0], chip)
    inner = (slice(4, -4), slice(4, -4))
    image = np.stack([chip, np.where(read_mask(pairs[0].mask), np.uint8(255), np.uint8(0))])
    loaded = models.load_model(path)
    np.testing.assert_allclose(answer[inner], inference.predict(loaded, image[None, :, 4:-4, 4:-4])[0], atol=1e-5)
    assert not answer[:4].any()
    other = next(pair for pair in pairs if pair.sample.lake != pairs[0].sample.lake)
    assert np.abs(predict(other, chip)[inner] - answer[inner]).max() > 1e-4
    # As `segment` is told it: by the outline of the catalogue, whatever the model knows.
    by_outline, _ = evaluation.model_predict(path, pairs, prior="outline")
    image[1] = priors.outline_on_chip(pairs[0].sample.lake, header_of(pairs[0].chip))
    wanted = inference.predict(loaded, image[None, :, 4:-4, 4:-4])[0]
    np.testing.assert_allclose(by_outline(pairs[0], chip)[inner], wanted, atol=1e-5)
    with pytest.raises(ConfigError, match="prior 'mine' isn't known; allowed are masks, outline"):
        evaluation.model_predict(path, pairs, prior="mine")


def test_the_command_runs_without_torch(folders, tmp_path):
    """Baselines only, in a process where torch can't be imported."""
    code = (
        "import sys; sys.modules['torch'] = None\n"
        f"sys.argv = ['cubekit', 'evaluate', '--model', 'none', '--chips', {str(folders[0])!r}, "
        f"'--masks', {str(folders[1])!r}, '--json', {str(tmp_path / 'o.json')!r}]\n"
        "from cubekit import cli; cli.main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "mask_only" in done.stdout
    assert json.loads((tmp_path / "o.json").read_text())["model"] is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"--chips": "nowhere"}, "folder nowhere does not exist"),
        ({"--model": "nothing.safetensors"}, "there is no model at nothing.safetensors"),
        ({"--split": "years"}, "split 'years' isn't known"),
        ({"--threshold": "50"}, "threshold 50 is not between 0 and 1"),
        ({"--split": "date"}, "a split by date needs its first day of testing; give --cut"),
    ],
)
def test_mistakes_are_one_line(folders, shown, change, words):
    """What a user can mend."""
    options = {"--model": "none", "--chips": folders[0], "--masks": folders[1], **change}
    text = shown("evaluate", *(word for option in options.items() for word in option))
    assert text.startswith("1\n")
    assert f"error: {words}" in text


def test_mask_only_on_the_published_pairs(npsar):
    """Of the order that README of the data reports: no radar, and 0.8 to 0.92 on random splits."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", SceneWarning)
            found = load_pairs(npsar / "chips", npsar / "masks")
    except SourceError:
        pytest.skip("the published masks are absent")
    samples = [pair.sample for pair in found]
    seeds = [evaluate(found, None, folds_of(samples, "random", seed=seed)) for seed in (0, 4)]
    for measured in seeds:
        pooled = evaluation_report.report(measured, resamples=1)["baselines"]["mask_only"]["iou"]["pooled"]
        assert 0.8 < pooled < 0.93
