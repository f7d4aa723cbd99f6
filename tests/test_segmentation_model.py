"""Models: one safetensors file of weights and card, refused when anything about it is not as it should be."""

import json
import pickle
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime

import numpy as np
import pytest
import safetensors.torch
import torch

from cubekit.errors import MissingExtra, ModelError
from cubekit.segmentation import model as models
from cubekit.segmentation.calibration import fold_temperature
from cubekit.segmentation.card import ModelCard

CHAIN = {
    "equalize": "published",
    "polarisation": "vv",
    "source": "hyp3",
    "spacing": 20,
    "speckle_filter": "lee 7x7",
    "window": "aoi",
}
CARD = ModelCard(
    name="tiny", created=datetime(2025, 12, 1, tzinfo=UTC), preprocessing=CHAIN, licence="CC0-1.0", metrics={"iou": 0.5}
)


@pytest.fixture(scope="module")
def network():
    torch.manual_seed(1)
    return models.build_network().eval()


@pytest.fixture(scope="module")
def path(network, tmp_path_factory):
    return models.save_model(network, CARD, tmp_path_factory.mktemp("models") / "tiny.safetensors")


def write(path, card, weights=None):
    """A safetensors file made without cubekit."""
    metadata = None if card is None else {"cubekit_card": card if isinstance(card, str) else json.dumps(card)}
    safetensors.torch.save_file(weights or {"a": torch.zeros(1)}, str(path), metadata=metadata)
    return path


def test_what_is_loaded_is_what_was_saved(network, path):
    """Every weight and the card come back, in eval mode."""
    loaded = models.load_model(path, expected_hash=models.model_hash(path))
    assert not loaded.training
    assert network.state_dict().keys() == loaded.state_dict().keys()
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in network.state_dict().items())
    assert models.read_card(path) == CARD


def test_equal_models_have_equal_hashes(network, path, tmp_path):
    """The bytes depend on weights and card only, not on the layout of the weights in memory."""
    again = models.save_model(network.to(memory_format=torch.channels_last), CARD, tmp_path / "again.safetensors")
    other = models.save_model(network, replace(CARD, licence="MIT"), tmp_path / "other.safetensors")
    assert models.model_hash(again) == models.model_hash(path) != models.model_hash(other)


def test_the_card_is_read_without_torch(path):
    """Importing the package and reading a card load no torch, nor anything else that is slow."""
    code = (
        "import sys; from cubekit.segmentation import read_card; read_card(sys.argv[1]);"
        "print([m for m in ('torch', 'segmentation_models_pytorch', 'skimage', 'scipy', 'numba') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_a_failed_write_leaves_the_old_file_and_nothing_else(network, tmp_path, monkeypatch):
    """Readers see the old model or the new one."""
    target = tmp_path / "model.safetensors"
    target.write_text("old")
    monkeypatch.setattr(
        models.Path, "replace", lambda *_: (_ for _ in ()).throw(OSError(28, "No space left on device"))
    )
    with pytest.raises(ModelError, match=r"can't be written .No space left"):
        models.save_model(network, CARD, target)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert target.read_text() == "old"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": " "}, "name is ' '"),
        ({"licence": ""}, "licence is ''"),
        ({"created": datetime(2025, 1, 1)}, "created is .* UTC"),  # noqa: DTZ001
        ({"threshold": 1.5}, "threshold is 1.5"),
        ({"encoder": "resnet"}, "encoder is 'resnet', allowed are efficientnet-b3, efficientnet-lite0"),
        ({"channels": ("prior",)}, "channels is .*'prior'.*, allowed are"),
        ({"interval_block_m": 0}, "interval_block_m is 0, give metres above 0, or None"),
        ({"input_scaling": "z-score"}, "input_scaling is 'z-score'"),
        ({"schema_version": 1}, "schema_version is 1, this cubekit reads 3"),
        ({"preprocessing": {"equalize": "published"}}, "lacks polarisation, source, spacing, speckle_filter, window"),
        ({"preprocessing": {**CHAIN, "window": {"aoi": 1}}}, "preprocessing.window is .'aoi': 1."),
        ({"preprocessing": None}, "preprocessing is None"),
        ({"metrics": {"iou": float("nan")}}, "metrics does not go into JSON"),
        ({"training": {"seconds": float("inf")}}, "training does not go into JSON"),
        ({"training": "a day"}, "training is 'a day', give a mapping"),
        ({"name": "", "licence": ""}, "name is .* licence is"),
    ],
)
def test_incomplete_cards_are_refused(change, message):
    """Every fault is named."""
    with pytest.raises(ModelError, match=message):
        replace(CARD, **change)


def test_a_card_does_not_change_with_what_it_was_made_of():
    """A card is frozen, its mappings included."""
    chain = dict(CHAIN)
    card = replace(CARD, preprocessing=chain)
    chain["spacing"] = 30
    assert card.preprocessing["spacing"] == 20


@pytest.mark.parametrize(
    ("card", "message"),
    [
        (None, "carries no model card"),
        ("{", "card is not readable"),
        ("3", "card is not readable"),
        (
            {},
            "channels is missing; created is missing; .*encoder is missing; .*threshold is missing; training",
        ),
        ({**CARD.to_mapping(), "epochs": 3}, "epochs is unknown"),
        ({**CARD.to_mapping(), "created": "yesterday"}, "created is 'yesterday'"),
        ({**CARD.to_mapping(), "schema_version": 9}, "schema_version is 9"),
    ],
)
def test_unusable_cards_in_files_are_refused(card, message, tmp_path):
    """The message starts with the file and is one line."""
    path = write(tmp_path / "strange.safetensors", card)
    with pytest.raises(ModelError, match=message) as caught:
        models.read_card(path)
    assert str(caught.value).startswith(str(path))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [models.read_card, models.load_model])
@pytest.mark.parametrize("content", ["truncated", "text", "pickle", "empty", "header"])
def test_foreign_files_are_refused(reader, content, path, tmp_path):
    """A file that is no safetensors file gives one clear line, and nothing in it is run."""
    whole = path.read_bytes()
    contents = {
        "truncated": whole[: len(whole) // 2],
        "text": b"version https://git-lfs.github.com/spec/v1\n",
        "pickle": pickle.dumps({"weights": 1}),
        "empty": b"",
        "header": whole[:100],
    }
    foreign = tmp_path / "foreign.safetensors"
    foreign.write_bytes(contents[content])
    with pytest.raises(ModelError, match=r"foreign.safetensors is truncated or not a safetensors file") as caught:
        reader(foreign)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", [models.read_card, models.load_model, models.model_hash])
def test_a_missing_file_or_a_folder_is_refused(reader, tmp_path):
    """The message says what else can be given."""
    for nothing in (tmp_path, tmp_path / "absent.safetensors"):
        with pytest.raises(ModelError, match=r"there is no model at .* or 'otsu'"):
            reader(nothing)


def test_another_file_in_the_place_of_the_chosen_one_is_refused(path):
    """A hash that differs is never loaded."""
    with pytest.raises(ModelError, match=r"changed: its sha256 is .* expected was 0000"):
        models.load_model(path, expected_hash="0000")


def test_weights_of_another_network_are_refused(tmp_path):
    """On saving and on loading, before any of it is used."""
    with pytest.raises(ModelError, match=r"the network is not a U-Net of efficientnet-b3 with 1 channels"):
        models.save_model(torch.nn.Linear(1, 1), CARD, tmp_path / "linear.safetensors")
    linear = write(tmp_path / "linear.safetensors", CARD.to_mapping())
    with pytest.raises(
        ModelError, match=r"does not hold the weights of a U-Net of efficientnet-b3.*tensors differ, the first is a"
    ):
        models.load_model(linear)


def test_what_can_not_be_a_model_is_not_saved(network, tmp_path):
    """Other formats, other cards and diverged weights."""
    with pytest.raises(ModelError, match=r"does not end in .safetensors"):
        models.save_model(network, CARD, tmp_path / "model.pt")
    with pytest.raises(ModelError, match="with its ModelCard, not with a dict"):
        models.save_model(network, CARD.to_mapping(), tmp_path / "model.safetensors")
    bias = network.segmentation_head[0].bias
    before = bias.detach().clone()
    bias.data.fill_(float("nan"))
    try:
        with pytest.raises(ModelError, match=r"NaN or infinity, the first is segmentation_head.0.bias"):
            models.save_model(network, CARD, tmp_path / "model.safetensors")
    finally:
        bias.data.copy_(before)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("library", ["torch", "segmentation_models_pytorch", "safetensors.torch"])
def test_without_the_extra_its_name_is_given(library, path, monkeypatch):
    """A user who installed the core learns what to install."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(MissingExtra, match=r'is not installed.*pip install "cubekit\[unet\]"'):
        models.load_model(path)


LITE = replace(CARD, encoder="efficientnet-lite0", channels=("chip", "prior"), interval_block_m=300.0)


@pytest.fixture(scope="module")
def lite():
    torch.manual_seed(2)
    return models.build_network("efficientnet-lite0", 2).eval()


def test_half_precision_is_half_the_size_and_nearly_the_same(lite, tmp_path):
    """Convolutions have three digits left, batch statistics all; loaded, everything is float32."""
    whole = models.save_model(lite, LITE, tmp_path / "whole.safetensors")
    half = models.save_model(lite, LITE, tmp_path / "half.safetensors", half=True)
    assert half.stat().st_size < 0.52 * whole.stat().st_size
    loaded = models.load_model(half).state_dict()
    for name, value in lite.state_dict().items():
        assert loaded[name].dtype == value.dtype
        torch.testing.assert_close(loaded[name], value, rtol=6e-4, atol=6e-8)
        assert value.ndim > 1 or torch.equal(loaded[name], value)
    assert models.read_card(half) == LITE


def test_what_half_precision_can_not_hold_is_refused(lite, tmp_path):
    """An infinite weight would only show in the areas."""
    huge = models.build_network("efficientnet-lite0", 2)
    huge.segmentation_head[0].weight.data[:] = 1e6
    with pytest.raises(
        ModelError, match=r"segmentation_head.0.weight does not fit into float16; save it with half=False"
    ):
        models.save_model(huge, LITE, tmp_path / "huge.safetensors", half=True)
    assert not list(tmp_path.iterdir())


def test_priors_travel_with_the_weights(lite, tmp_path):
    """What is known of the lakes comes back, and is none of the network's weights."""
    known = {
        "gokyo EPSG:32645 2x3 20 descending": np.arange(6, dtype=np.uint8).reshape(2, 3),
        "pond": np.eye(2, dtype=np.uint8),
    }
    path = models.save_model(lite, LITE, tmp_path / "lite.safetensors", priors=known)
    found = models.read_priors(path)
    assert found.keys() == known.keys()
    assert all(np.array_equal(found[name], known[name]) for name in known)
    assert models.load_model(path).state_dict().keys() == lite.state_dict().keys()
    bare = models.save_model(lite, LITE, tmp_path / "bare.safetensors")
    assert models.read_priors(bare) == {}


def test_a_card_of_another_network_is_refused(lite, network, tmp_path):
    """Encoder and channels are the card's."""
    with pytest.raises(ModelError, match="the network is not a U-Net of efficientnet-b3 with 1 channels"):
        models.save_model(lite, CARD, tmp_path / "a.safetensors")
    with pytest.raises(ModelError, match="the network is not a U-Net of efficientnet-lite0 with 2 channels"):
        models.save_model(network, LITE, tmp_path / "b.safetensors")
    with pytest.raises(
        ModelError, match="there is no encoder 'resnet'; allowed are efficientnet-b3, efficientnet-lite0"
    ):
        models.build_network("resnet")


def test_the_odds_of_the_prior_are_added():
    """To a U-Net that says 0: those of a mean mask as they are, of an outline softly, of no prior none."""
    network = models.build_network("efficientnet-lite0", 2, prior_skip=True).eval()
    torch.nn.init.zeros_(network.segmentation_head[0].weight)
    torch.nn.init.zeros_(network.segmentation_head[0].bias)
    images = torch.zeros(3, 2, 64, 64)
    images[:, 0] = torch.rand(3, 64, 64)
    images[0, 1, :, 32:] = 1
    images[1, 1, :, 32:] = 0.75
    with torch.inference_mode():
        outline, mean, nothing = network(images)[:, 0]
    assert not nothing.any()
    assert mean[:, 32:].numpy() == pytest.approx(np.log(0.77 / 0.27), abs=1e-5)
    assert mean[:, :32].numpy() == pytest.approx(np.log(0.02 / 1.02), abs=1e-5)
    assert outline[5].diff().ge(-1e-5).all()
    assert [int((one > 0).sum()) for one in (outline, mean)] == [64 * 32, 64 * 32]
    assert outline[5, 31:33].abs().max() < 0.3
    assert outline[5, [20, 44]].tolist() == pytest.approx([np.log(0.02 / 1.02), np.log(1.02 / 0.02)], abs=1e-4)


def test_the_odds_need_a_prior():
    with pytest.raises(ModelError, match="prior_skip needs the channels chip and prior, and there is 1"):
        models.build_network("efficientnet-lite0", 1, prior_skip=True)


def test_a_network_that_adds_the_odds_is_kept_as_one(tmp_path):
    """Saved and loaded, calibrated in between, the same logits; as another network it is refused."""
    torch.manual_seed(1)
    network = models.build_network("efficientnet-lite0", 2, prior_skip=True).eval()
    images = torch.rand(1, 2, 64, 64)
    with torch.inference_mode():
        before = network(images)
    fold_temperature(network, 2.0, shift=0.25)
    card = replace(CARD, encoder="efficientnet-lite0", channels=("chip", "prior"), prior_skip=True, views=8)
    path = models.save_model(network, card, tmp_path / "skip.safetensors")
    with torch.inference_mode():
        assert torch.allclose(models.load_model(path)(images), before / 2 + 0.25, atol=1e-5)
    with pytest.raises(ModelError, match=r"1 tensors differ, the first is prior_skip"):
        models.save_model(network, replace(card, prior_skip=False), path)
