"""Engines: the same masks whatever runs the network, full batches across blocks, and nothing sent over the network."""

import subprocess
import sys

import numpy as np
import pytest
import torch
import xarray as xr
from scipy.special import expit
from test_segmentation_inference import chips, path  # noqa: F401 - a fixture

from cubekit import lakes
from cubekit.errors import ConfigError, MissingExtra
from cubekit.preprocess import equalize, prepare
from cubekit.segmentation import engines, inference, segment, shipped
from cubekit.segmentation import model as models
from cubekit.segmentation.priors import outline_on_window
from cubekit.sources.simulated import simulate

CPU = [name for name in engines.EXACT if "cuda" not in name]


def needs(engine):
    """Skip where the library of an engine is not installed."""
    if engine.startswith("openvino"):
        pytest.importorskip("openvino", reason="the extra openvino is not installed")


@pytest.fixture(scope="module")
def images():
    """Equalised simulated passes of a small lake, and the model that ships for them."""
    lake = lakes.catalogue()["chamlang_tsho"]
    passes = simulate(lake, start="2021-05-01", end="2021-08-01", product="hyp3", seed=4).isel(time=slice(0, 4))
    image = equalize(prepare(passes, lake)).compute(scheduler="synchronous")
    return lake, image, shipped.choose(image.attrs["preprocessing"])


@pytest.fixture(scope="module")
def reference(images):
    """What the shipped network says in float32, weights as they are."""
    lake, image, model = images
    outline = outline_on_window(image, lake)
    stacked = np.stack([image.values, np.broadcast_to(outline, image.shape)], axis=1)
    found = inference.predict(models.load_model(model), stacked)
    return np.where(image.observed, found, np.nan)


@pytest.mark.parametrize("engine", CPU)
def test_masks_of_all_engines_agree(images, reference, engine):
    """By no more pixels a pass than are stated, float32 in probabilities too; each is named; company doesn't matter."""
    needs(engine)
    lake, image, model = images
    found = segment(image, model, lake=lake, engine=engine)
    assert found.attrs["engine"] == engine
    threshold = found.attrs["model_threshold"]
    differing = ((found.values >= threshold) != (reference >= threshold)).sum(axis=(1, 2))
    precision = engine.rpartition("-")[2]
    assert differing.max() <= engines.AGREEMENT[precision]
    assert (reference >= threshold).sum() > 400  # or the agreement would mean nothing
    np.testing.assert_allclose(found, reference, atol={"float32": 1e-4, "bfloat16": 0.15}[precision])
    # A pass alone, or in chunks of one: the same, also where layers are rounded.
    apart = segment(image.chunk(time=1), model, lake=lake, engine=engine).compute(scheduler="threads")
    alone = segment(image[1:2], model, lake=lake, engine=engine)
    for again, before in ((apart, found), (alone, found[1:2])):
        np.testing.assert_allclose(again, before, atol={"float32": 1e-4, "bfloat16": 0.1}[precision])
        assert ((again >= threshold) != (before >= threshold)).sum() <= 4


class Counting:
    """An engine that remembers how many chips it was given."""

    batch = engines.BATCH

    def __init__(self):
        self.sizes = []

    def __call__(self, given):
        self.sizes.append(len(given))
        return np.full((len(given), *given.shape[-2:]), np.log(0.25 / 0.75), np.float32)


def test_batches_fill_across_blocks(path, monkeypatch):  # noqa: F811
    """Blocks of one pass reach the engine in full batches, and are blocks of one pass again in the result."""
    counting = Counting()
    monkeypatch.setattr(engines, "load", lambda *_: counting)
    given = chips(11)
    given = given.assign_coords(observed=xr.ones_like(given, dtype=bool)).chunk(time=1)
    found = segment(given, path)
    assert found.chunksizes["time"] == (1,) * 11
    np.testing.assert_allclose(found.compute(scheduler="synchronous"), 0.25)
    assert sorted(counting.sizes) == [3, 4, 4]


def test_long_chunks_are_not_cut_and_short_ones_join(path, monkeypatch):  # noqa: F811
    """The engine's batches are cut of a block, whose passes are never computed twice."""
    counting = Counting()
    monkeypatch.setattr(engines, "load", lambda *_: counting)
    given = chips(13)
    given = given.assign_coords(observed=xr.ones_like(given, dtype=bool)).chunk(time=(9, 1, 1, 2))
    found = segment(given, path)
    assert found.chunksizes["time"] == (9, 1, 1, 2)
    found.compute(scheduler="synchronous")
    assert sorted(counting.sizes) == [1, 4, 4, 4]


def test_folding_changes_a_network_by_rounding_alone(path):  # noqa: F811
    """No batch normalisation is left in a folded network, its logits are the same, and the given one is not changed."""
    from cubekit.segmentation._engine_torch import folded

    torch.manual_seed(1)
    for encoder in ("efficientnet-b3", "efficientnet-lite0"):
        network = models.build_network(encoder).eval()
        for module in network.modules():
            if isinstance(module, torch.nn.BatchNorm2d):
                module.running_mean.normal_(0, 0.2)
                module.running_var.uniform_(0.5, 2)
        image = torch.rand(2, 1, 64, 96)
        with torch.no_grad():
            before = network(image)
            changed = folded(network)
            after = changed(image)
            assert torch.equal(network(image), before)
        left = [name for name, module in changed.named_modules() if isinstance(module, torch.nn.BatchNorm2d)]
        assert set(left) <= {"encoder._bn1"}  # of the classifier's head, which a U-Net has but never runs
        torch.testing.assert_close(after, before, atol=1e-4 * float(before.abs().max()), rtol=0)


def test_the_fastest_is_chosen_by_what_is_there(monkeypatch):
    """Auto is float32 everywhere; a library by name is bfloat16 where that is quick; OpenVINO for many passes."""
    there = {"gpu": False, "bfloat16": True, "openvino": True}
    monkeypatch.setattr(engines, "_has_gpu", lambda: there["gpu"])
    monkeypatch.setattr(engines, "_multiplies_bfloat16", lambda: there["bfloat16"])
    monkeypatch.setattr(engines, "find_spec", lambda name: name if there.get(name, True) else None)
    assert engines.resolve("auto", passes=10) == "torch-float32"
    assert engines.resolve("auto", passes=engines.LONG) == "openvino-float32"
    assert engines.resolve("torch") == "torch-bfloat16"
    assert engines.resolve("openvino") == "openvino-bfloat16"
    there |= {"bfloat16": False, "openvino": False}
    assert engines.resolve("auto", passes=engines.LONG) == "torch-float32"
    assert engines.resolve("torch") == "torch-float32"
    with pytest.raises(ConfigError, match="engine 'torch-cuda-float32' needs a GPU"):
        engines.resolve("torch-cuda-float32")
    there["gpu"] = True
    assert engines.resolve("auto", passes=engines.LONG) == "torch-cuda-float32"
    assert engines.resolve("torch") == "torch-cuda-bfloat16"
    assert [engines.resolve(name) for name in CPU if "torch" in name] == ["torch-float32", "torch-bfloat16"]


def test_a_missing_library_is_named_when_the_graph_is_built(path, monkeypatch):  # noqa: F811
    """With the extra that brings it."""
    monkeypatch.setattr(engines, "find_spec", lambda name: None if name == "openvino" else name)
    with pytest.raises(MissingExtra, match=r"pip install .cubekit.openvino."):
        segment(chips(), path, engine="openvino")
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install .cubekit.unet."):
        segment(chips(), path)


def test_openvino_reports_nothing_over_the_network():
    """Importing it for cubekit leaves its telemetry out."""
    needs("openvino")
    script = (
        "import sys; from cubekit.segmentation._engine_openvino import silent_openvino; silent_openvino();"
        "from openvino.tools.ovc import telemetry; print(telemetry.__module__, 'openvino_telemetry' in sys.modules)"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["openvino.tools.ovc.telemetry_stub", "False"]


@pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no GPU")
@pytest.mark.parametrize("engine", ["torch-cuda-float32", "torch-cuda-bfloat16"])
def test_masks_of_a_gpu_agree(images, reference, engine):
    """By no more pixels a pass than are stated."""
    lake, image, model = images
    found = segment(image, model, lake=lake, engine=engine)
    threshold = found.attrs["model_threshold"]
    differing = ((found.values >= threshold) != (reference >= threshold)).sum(axis=(1, 2))
    assert differing.max() <= engines.AGREEMENT[engine.rpartition("-")[2]]


def test_the_benchmarks_run():
    """With tiny sizes: the engine's answers are the peer's, and the written mask has every pass."""
    from benchmarks import engine
    from benchmarks import segment as whole

    given = engine.make(2)[..., :64, :64]
    for name in ("torch-float32", "torch-bfloat16"):
        found = engine.ours(given, name, "efficientnet-lite0")
        expected = engine.peer(given, "efficientnet-lite0")
        atol = {"torch-float32": 1e-4, "torch-bfloat16": 0.15}[name]
        np.testing.assert_allclose(expit(found), expit(expected), atol=atol)
    cube = whole.make(3, "torch-float32")
    with cube.folder:
        assert whole.ours(cube).shape[0] == len(whole.peer(cube)) == 3
