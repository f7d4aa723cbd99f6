"""The models that come with the package: trained on simulated scenes only, one for each kind of image."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from cubekit.errors import ModelError
from cubekit.segmentation.card import accepts
from cubekit.segmentation.model import read_card

SHIPPED = ("hyp3-20m", "opera-30m")
"""Their names: archive and spacing of the images they were made for."""

_FOLDER = Path(__file__).parent.parent / "data" / "models"


def find(model: str | Path) -> Path:
    """Find a model by the name of a shipped one, or by its path.

    Parameters
    ----------
    model
        One of `SHIPPED`, or a path.

    Returns
    -------
    pathlib.Path
        Of its file; whether that exists is for who reads it.
    """
    return _FOLDER / f"{model}.safetensors" if str(model) in SHIPPED else Path(model)


def choose(preprocessing: str) -> Path:
    """Choose the shipped model that was trained on such images.

    Parameters
    ----------
    preprocessing
        The images' fingerprint, as `equalize` writes it into their attributes.

    Returns
    -------
    pathlib.Path
        Of its file.

    Raises
    ------
    MissingExtra
        When safetensors is not installed.
    ModelError
        When there is none.

    Examples
    --------
    >>> chain = {"equalize": "published", "polarisation": "vv", "source": "opera", "spacing": 30,
    ...          "speckle_filter": "lee 7x7", "window": "aoi"}
    >>> choose(json.dumps(chain)).stem
    'opera-30m'
    """
    try:
        wanted = dict(json.loads(preprocessing))
    except (TypeError, ValueError) as error:
        msg = (
            f"{preprocessing!r} doesn't say how the images were made; give what equalize() wrote into their attributes"
        )
        raise ModelError(msg) from error
    cards = {name: read_card(find(name)).preprocessing for name in SHIPPED}
    for name, chain in cards.items():
        if chain.keys() == wanted.keys() and all(accepts(chain, key, value) for key, value in wanted.items()):
            return find(name)
    made = "; ".join(f"{name} for {_told(chain)}" for name, chain in cards.items())
    msg = (
        f"no model comes with cubekit for images made so: {_told(wanted)}. There are {made}. Prepare the images as one "
        'of these, give the path of a model trained on such images as model.path, or "otsu", which needs none'
    )
    raise ModelError(msg)


def _told(chain: Mapping[str, Any]) -> str:
    return ", ".join(
        f"{key} {' or '.join(map(str, value)) if isinstance(value, list) else value}"
        for key, value in sorted(chain.items())
    )
