"""The models that come with the package: they are there, small, made of simulation only, and found by the images."""

import json

import numpy as np
import pytest

from cubekit import lakes, preprocess, segmentation
from cubekit.errors import ModelError
from cubekit.segmentation import shipped
from cubekit.sources import simulated

CHAIN = {"equalize": "published", "polarisation": "vv", "window": "aoi"}
CHAINS = [
    ("hyp3-20m", CHAIN | {"source": "hyp3", "spacing": 20, "speckle_filter": "hyp3 enhanced lee 7x7"}),
    ("hyp3-20m", CHAIN | {"source": "hyp3", "spacing": 20, "speckle_filter": "lee 7x7"}),
    ("opera-30m", CHAIN | {"source": "opera", "spacing": 30, "speckle_filter": "lee 7x7"}),
]


@pytest.mark.parametrize("name", shipped.SHIPPED)
def test_shipped_models_are_small_and_say_what_they_are(name):
    """Half precision, from simulated chips only, under the project's licence, with a fitted interval."""
    path = shipped.find(name)
    card = segmentation.read_card(path)
    assert path.stat().st_size < 27e6
    assert (card.name, card.licence, card.channels) == (name, "Apache-2.0", ("chip", "prior"))
    assert "simulated chips" in card.training["data"]
    assert card.training["ids"] == []
    assert card.interval_block_m is not None
    network = segmentation.load_model(path)
    assert all(bool(weights.isfinite().all()) for weights in network.state_dict().values())


@pytest.mark.parametrize(("name", "chain"), CHAINS)
def test_the_model_is_chosen_by_how_the_images_were_made(name, chain):
    """The whole chain counts, not the archive's name alone."""
    assert shipped.choose(json.dumps(chain)) == shipped.find(name)
    other = chain | {"speckle_filter": "boxcar 9x9"}
    with pytest.raises(
        ModelError, match=r"no model comes with cubekit for images made so: .*boxcar 9x9.* There are hyp3"
    ):
        shipped.choose(json.dumps(other))


def test_a_path_is_a_path():
    """Names are those of shipped models only."""
    assert str(shipped.find("out/mine.safetensors")) == "out/mine.safetensors"
    assert shipped.find("hyp3-20m").is_file()


@pytest.mark.parametrize(("product", "filter_", "spacing"), [("hyp3", "none", 20), ("opera", "lee", 30)])
def test_shipped_models_find_the_simulated_lake(product, filter_, spacing):
    """Open water in summer, of a lake whose shape was in no training: IoU 0.85 or more with the truth."""
    lake = lakes.catalogue()["tsho_rolpa"].at_spacing(spacing)
    ds = simulated.simulate(lake, start="2021-07-01", end="2021-07-20", product=product, seed=5).compute()
    image = preprocess.equalize(preprocess.prepare(ds, lake, filter=filter_))
    probability = segmentation.segment(image, shipped.choose(image.attrs["preprocessing"]), lake=lake)
    rows, columns = lake.aoi_window
    truth = ds["water"].values[:, rows, columns] >= 0.5
    seen = image["observed"].values
    found = probability.values >= 0.5
    both, either = (truth & found & seen).sum((1, 2)), ((truth | found) & seen).sum((1, 2))
    assert np.median(both / either) > 0.85
