"""Inference with a network: lazy, the same for any chunks, and only on data made as the model's training data."""

import dataclasses
import json
from datetime import UTC, datetime

import cloudpickle
import dask
import numpy as np
import pytest
import shapely
import torch
import xarray as xr

from cubekit import lakes
from cubekit.errors import ConfigError, GridMismatch, ModelError
from cubekit.segmentation import engines, inference, segment, tiles
from cubekit.segmentation import model as models
from cubekit.segmentation.card import VIEWS, ModelCard

CHAIN = {
    "equalize": "published",
    "polarisation": "vv",
    "source": "hyp3",
    "spacing": 20,
    "speckle_filter": "hyp3 enhanced lee 7x7",
    "window": "aoi",
}


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    """A network of random weights, whose answers spread over 0..1."""
    torch.manual_seed(0)
    network = models.build_network()
    network.segmentation_head[0].weight.data *= 20
    card = ModelCard(
        name="random", created=datetime(2025, 1, 1, tzinfo=UTC), preprocessing=CHAIN, licence="CC0-1.0", threshold=0.4
    )
    return models.save_model(network, card, tmp_path_factory.mktemp("models") / "random.safetensors")


def chips(times=3, shape=(57, 40), seed=0):
    """Equalised passes; the last of them and a corner of the first are not observed."""
    rng = np.random.default_rng(seed)
    data = rng.integers(0, 256, (times, *shape), dtype=np.uint8)
    observed = np.ones(data.shape, bool)
    observed[0, :5, :9] = False
    observed[-1] = False
    data[~observed] = 0
    return xr.DataArray(
        data,
        dims=("time", "y", "x"),
        coords={
            "time": np.datetime64("2020-07-01", "ns") + np.arange(times) * np.timedelta64(12, "D"),
            "y": np.arange(shape[0])[::-1] * 20.0,
            "x": np.arange(shape[1]) * 20.0,
            "track": ("time", np.full(times, 121, np.int16)),
            "observed": (("time", "y", "x"), observed),
        },
        attrs={"preprocessing": json.dumps(CHAIN, sort_keys=True), "spacing": 20},
        name="vv",
    )


def forbid(*_args, **_kwargs):
    """Stand in for what may not be called."""
    msg = "called while the graph was built"
    raise AssertionError(msg)


@pytest.fixture(scope="module")
def eager(path):
    return segment(chips(), path)


def test_the_result_keeps_what_it_was_given(path, eager):
    """Name, dtype, range, coordinates, attributes; NaN exactly where not observed."""
    given = chips()
    assert (eager.name, eager.dtype, eager.dims) == ("probability", np.float32, given.dims)
    assert set(eager.coords) == set(given.coords)
    assert eager.attrs["model"] == "random"
    assert eager.attrs["model_hash"] == models.model_hash(path)
    assert eager.attrs["model_threshold"] == 0.4
    assert eager.attrs["engine"] == ("torch-cuda-float32" if torch.cuda.is_available() else "torch-float32")
    assert eager.attrs["preprocessing"] == given.attrs["preprocessing"]
    np.testing.assert_array_equal(eager.notnull(), given.observed)
    seen = eager.values[given.observed.values]
    assert seen.min() >= 0
    assert seen.max() <= 1
    assert seen.std() > 0.05  # or the tolerances below would mean nothing


def test_a_pass_is_what_the_network_says_of_its_chip(path, eager):
    """The window lies in the middle of 256 x 256 zeros, values are divided by 255, the logit goes through a sigmoid."""
    given = chips()
    chip = np.zeros((256, 256), np.float32)
    chip[99 : 99 + 57, 108 : 108 + 40] = given[1].values / np.float32(255)
    with torch.no_grad():
        logit = models.load_model(path)(torch.from_numpy(chip)[None, None])[0, 0].numpy()
    expected = 1 / (1 + np.exp(-logit[99 : 99 + 57, 108 : 108 + 40]))
    np.testing.assert_allclose(eager[1], expected, atol=1e-5)


@pytest.mark.parametrize("chunks", [{"time": 1, "y": 20, "x": 17}, {"time": (2, 1)}])
@pytest.mark.parametrize("lazy_observed", [True, False])
def test_chunks_make_no_difference(path, eager, chunks, lazy_observed):
    """Batches of other passes, and chunks across the lake, give the same probabilities."""
    given = chips().chunk(chunks)
    if not lazy_observed:
        given = given.assign_coords(observed=given.observed.compute())
    found = segment(given, path)
    assert found.chunksizes["y"] == (57,)
    assert found.chunksizes["time"] == given.chunksizes["time"]
    xr.testing.assert_allclose(found.compute(), eager, atol=1e-5, rtol=0)


def test_lazy_observed_alone_makes_it_lazy(path):
    """Nothing lazy is computed behind the user's back."""
    given = chips()
    found = segment(given.assign_coords(observed=given.observed.chunk({"time": 1})), path)
    assert found.chunksizes["time"] == (1, 1, 1)


def test_building_the_graph_computes_nothing_and_loads_no_model(path, monkeypatch):
    """Neither a scheduler, nor the block function, nor the network is touched; the card and hash are read."""
    monkeypatch.setattr(engines, "load", forbid)
    monkeypatch.setattr(inference, "_predict_with", forbid)
    with dask.config.set(scheduler=forbid):
        found = segment(chips().chunk({"time": 1, "y": 20}), path)
    assert found.data._meta.dtype == np.float32


def test_the_graph_travels_as_path_and_hash(path, eager):
    """It pickles small, without the 50 MB of weights, and gives the same at its destination."""
    pickled = cloudpickle.dumps(segment(chips().chunk({"time": 1}), path))
    assert len(pickled) < 100_000
    xr.testing.assert_allclose(cloudpickle.loads(pickled).compute(), eager, atol=1e-5, rtol=0)


def test_the_model_is_loaded_once_a_process(path, monkeypatch):
    """Also when several threads ask at once."""
    calls = []
    load = models.load_model
    monkeypatch.setattr(engines, "_loaded", {})
    monkeypatch.setattr(models, "load_model", lambda *args, **kwargs: calls.append(args) or load(*args, **kwargs))
    segment(chips(12).chunk({"time": 1}), path).compute(scheduler="threads", num_workers=4)
    assert len(calls) == 1


def test_a_file_that_changes_after_the_graph_was_built_is_refused(path, tmp_path, monkeypatch):
    """The hash is verified where the model is loaded."""
    monkeypatch.setattr(engines, "_loaded", {})
    copy = tmp_path / "copy.safetensors"
    copy.write_bytes(path.read_bytes())
    found = segment(chips().chunk({"time": 1}), copy)
    changed = bytearray(copy.read_bytes())
    changed[-1] ^= 1
    copy.write_bytes(changed)
    with pytest.raises(ModelError, match="changed: its sha256 is"):
        found.compute(scheduler="synchronous")


def test_a_pass_without_data_needs_no_network(path, monkeypatch):
    """Passes beside the swath cost nothing."""
    monkeypatch.setattr(engines, "load", forbid)
    assert segment(chips()[-1:], path).isnull().all()


def test_every_difference_in_preprocessing_is_named(path):
    """Stored and given value of each key that differs, keys that only one side has included; the others are not."""
    given = chips()
    other = {**CHAIN, "speckle_filter": "none", "spacing": 30, "clip": 0.5}
    del other["window"]
    given.attrs["preprocessing"] = json.dumps(other)
    with pytest.raises(ModelError, match="trained on other data") as caught:
        segment(given, path)
    message = str(caught.value)
    for part in (
        "speckle_filter 'hyp3 enhanced lee 7x7' (data: 'none')",
        "spacing 20 (data: 30)",
        "window 'aoi' (data: not stated)",
        "clip not stated (data: 0.5)",
    ):
        assert part in message
    assert "equalize" not in message.split("prepare the data", maxsplit=1)[0]


@pytest.mark.parametrize("text", [None, "published", "[]"])
def test_data_that_does_not_say_how_it_was_made_is_refused(path, text):
    """Without a fingerprint there is nothing to compare; all that is wanted is listed."""
    given = chips()
    given.attrs["preprocessing"] = text
    with pytest.raises(ModelError, match=r"was trained on equalize 'published', .*doesn't say how it was made"):
        segment(given, path)


def test_what_is_not_allowed_is_refused(path, tmp_path):
    """Engine, dtype, dims, observed, lake and file, each with what is allowed."""
    given = chips()
    with pytest.raises(ConfigError, match="engine 'onnx' isn't known; allowed are 'auto', 'torch', 'openvino'"):
        segment(given, path, engine="onnx")
    with pytest.raises(ConfigError, match=r"takes uint8 .* not float64"):
        segment(given / 255, path)
    with pytest.raises(ConfigError, match=r"takes dims .'time', 'y', 'x'."):
        segment(given.transpose("y", "x", "time"), path)
    with pytest.raises(ConfigError, match="'observed' is missing"):
        segment(given.drop_vars("observed"), path)
    with pytest.raises(ConfigError, match="'observed' is uint8"):
        segment(given.assign_coords(observed=given.observed.astype(np.uint8)), path)
    with pytest.raises(ConfigError, match="give lake="):
        segment(given, "otsu")
    with pytest.raises(ConfigError, match=r"takes linear power .* not uint8"):
        segment(given, "otsu", lake=lakes.catalogue()["gokyo"])
    with pytest.raises(ModelError, match="there is no model at"):
        segment(given, tmp_path / "absent.safetensors")


@pytest.mark.parametrize("shape", [(1, 1), (57, 40), (256, 256), (257, 255), (300, 449), (511, 64), (1001, 703)])
def test_weights_of_tiles_sum_to_one_everywhere(shape):
    """Odd sizes and tails included; each tile holds what it says and lies inside."""
    total = np.zeros(shape)
    for tile in tiles.cut(shape):
        assert (tile.weight > 0).all()
        assert total[tile.source].shape == tile.weight.shape == np.empty((256, 256))[tile.target].shape
        total[tile.source] += tile.weight
    np.testing.assert_allclose(total, 1, rtol=1e-12)


@pytest.mark.parametrize("shape", [(57, 40), (300, 449), (511, 64)])
def test_cutting_and_blending_the_identity_gives_the_image_back(shape):
    """Each pixel comes from its own place, through batches that end amid a pass."""
    images = np.random.default_rng(0).integers(0, 256, (3, *shape), dtype=np.uint8)
    sizes = []

    class Logit(torch.nn.Conv2d):  # parameters, which tell where it is
        def forward(self, batch):
            sizes.append(len(batch))
            return torch.logit(batch, eps=1e-6)

    found = inference.predict(Logit(1, 1, 1), images)
    np.testing.assert_allclose(found, images / 255, atol=1e-5)
    assert max(sizes) <= engines.BATCH


@pytest.mark.parametrize("views", VIEWS)
def test_views_are_the_mean_over_a_group_of_orientations(views):
    """Against torch's own flips and turns; an answer in 8 views turns with its image, in one it doesn't."""
    torch.manual_seed(5)
    network = torch.nn.Conv2d(2, 1, 5, padding=2).eval()
    chips = np.random.default_rng(1).integers(0, 256, (3, 2, 64, 96), dtype=np.uint8)
    images = torch.from_numpy(chips).float() / 255
    mirrored = [(), (3,), (2,), (2, 3)]
    kinds = [(turned, dims) for turned in (False, True) for dims in mirrored][:views]
    with torch.inference_mode():
        answers = []
        for turned, dims in kinds:
            seen = torch.flip(images.transpose(2, 3) if turned else images, dims)
            answer = torch.flip(network(seen), dims)
            answers.append((answer.transpose(2, 3) if turned else answer)[:, 0])
    np.testing.assert_allclose(inference.logits(network, chips, views=views), torch.stack(answers).mean(0), atol=1e-5)
    turned = inference.logits(network, np.ascontiguousarray(np.rot90(chips, axes=(2, 3))), views=views)
    same = np.allclose(np.rot90(turned, -1, axes=(1, 2)), inference.logits(network, chips, views=views), atol=1e-4)
    assert same == (views == 8)


def test_the_card_says_in_how_many_views_a_model_sees(path, tmp_path):
    """`segment` asks in as many, and says the same whatever the chunks."""
    network, card = models.load_model(path), models.read_card(path)
    four = models.save_model(network, dataclasses.replace(card, views=4), tmp_path / "four.safetensors")
    given = chips(3)
    expected = inference.predict(network, given.values, views=4)
    for chunks in (None, 1, 2):
        found = segment(given if chunks is None else given.chunk(time=chunks), four)
        np.testing.assert_allclose(found, np.where(given["observed"], expected, np.nan), atol=1e-5)


def test_tiles_blend_smoothly():
    """Two tiles that disagree leave no seam: neighbouring pixels differ by a hundredth of the disagreement or so."""
    parts = tiles.cut((256, 448))
    answers = np.stack([np.full((256, 256), value, np.float32) for value in (0, 1)])
    assert np.abs(np.diff(tiles.blend(answers, parts), axis=1)).max() < 0.04


@pytest.fixture(scope="module")
def sees_outline(tmp_path_factory):
    """A network of random weights that sees the outline beside the image."""
    torch.manual_seed(3)
    network = models.build_network("efficientnet-lite0", 2)
    network.segmentation_head[0].weight.data *= 20
    card = ModelCard(
        name="outlined",
        created=datetime(2025, 1, 1, tzinfo=UTC),
        preprocessing=CHAIN,
        licence="CC0-1.0",
        encoder="efficientnet-lite0",
        channels=("chip", "prior"),
        interval_block_m=240.0,
    )
    return models.save_model(network, card, tmp_path_factory.mktemp("models") / "outlined.safetensors")


def on_gokyo(times=2):
    """Passes over a window of Gokyo's lattice."""
    lake = lakes.catalogue()["gokyo"]
    rows, columns = lake.aoi_window
    shape = rows.stop - rows.start, columns.stop - columns.start
    grid = lake.outline_mask.isel(y=rows, x=columns)
    return lake, chips(times, shape).assign_coords(y=grid["y"], x=grid["x"])


def test_the_outline_is_seen_beside_the_image(sees_outline):
    """The network gets the lake's own outline on the window, whatever the chunks; another outline, another answer."""
    lake, images = on_gokyo(3)
    found = segment(images, sees_outline, lake=lake)
    rows, columns = lake.aoi_window
    outline = np.where(lake.outline_mask.values[rows, columns], np.uint8(255), np.uint8(0))
    stacked = np.stack([images.values, np.broadcast_to(outline, images.shape)], axis=1)
    expected = inference.predict(models.load_model(sees_outline), stacked[:2])
    np.testing.assert_allclose(found.values[:2], np.where(images.observed[:2], expected, np.nan), atol=1e-3)
    assert found.attrs["interval_block_m"] == 240.0
    lazy = segment(images.chunk(time=1), sees_outline, lake=lake)
    np.testing.assert_allclose(lazy.values, found.values, atol=1e-3)
    elsewhere = dataclasses.replace(lake, outline=shapely.affinity.translate(lake.outline, 0.001, 0))
    assert np.nanmax(np.abs(segment(images, sees_outline, lake=elsewhere).values - found.values)) > 0.01


def test_a_network_that_sees_the_outline_needs_the_lake(sees_outline):
    """It is named; a lake that lies elsewhere is refused."""
    _, images = on_gokyo()
    with pytest.raises(ConfigError, match="model 'outlined' sees the lake's outline; give lake="):
        segment(images, sees_outline)
    with pytest.raises(GridMismatch, match="not on the lattice of lake 'tilicho'"):
        segment(images, sees_outline, lake=lakes.catalogue()["tilicho"])
