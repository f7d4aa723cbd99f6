"""The card of a model: what has to be known of it before its numbers can be used."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import MISSING, asdict, dataclass, field, fields
from datetime import UTC, datetime, timedelta
from importlib.metadata import version
from math import inf
from typing import Any

from cubekit.errors import ModelError

ENCODERS = ("efficientnet-b3", "efficientnet-lite0")
"""Encoders of the U-Net: the paper's (13.2 million weights), and a lighter one (5.2 million)."""

CHANNELS = ("chip", "prior")
"""What a network may see: the equalised image, and where the lake has been before (0 where that isn't known)."""

VIEWS = (1, 2, 4, 8)
"""Orientations: the image, its mirror images, half a turn, and all of these by a quarter turn."""

INPUT_SCALING = "uint8/255"
"""What happens to every channel before the network sees it."""

SCHEMA_VERSION = 3
"""Version of the card's layout: 2 brought `training`, 3 `encoder`, `channels` and `interval_block_m`."""

FINGERPRINT_KEYS = ("equalize", "polarisation", "source", "spacing", "speckle_filter", "window")
"""What a card's `preprocessing` has to say at least; `equalize` writes them into its attrs."""


@dataclass(frozen=True, kw_only=True)
class ModelCard:
    """What has to be known of a model before its numbers can be used.

    Parameters
    ----------
    name
        Name for people, e.g. ``himalaya-2025``. Becomes the attribute `model` of probabilities.
    created
        When it was trained, UTC.
    preprocessing
        Fingerprint of the whole chain that made its training chips: at least `FINGERPRINT_KEYS`, and whatever else
        the chain says of itself; values are text, numbers or booleans, or a list of those that were all trained on.
        `segment` refuses data made otherwise.
    licence
        Under which terms the weights may be used.
    threshold
        Probability from which a pixel counts as water, between 0 and 1.
    metrics
        Free: what was measured, e.g. ``{"iou_held_out": 0.86}``.
    training
        Free: how it was made. `train` writes ``data``, ``split``, ``samples``, ``recipe``, ``weights`` (their SHA-256)
        and where and how long.
    encoder
        One of `ENCODERS`.
    channels
        What the network sees, in order: ``("chip",)`` or `CHANNELS`.
    prior_skip
        Whether the odds of the prior are added to the logits: see `model.build_network`.
    views
        In how many orientations the network sees every image, its logits being averaged: one of `VIEWS`.
    interval_block_m
        Length over which errors of its probabilities hang together, metres, as fitted on known areas; what
        `series.lake_area` makes its intervals of. None when it was not fitted.
    input_scaling, schema_version
        `INPUT_SCALING` and `SCHEMA_VERSION`: nothing else can be loaded.
    cubekit_version
        By which version the file was written.

    Raises
    ------
    ModelError
        When a field is empty or not of its kind; the message names every such field.

    Examples
    --------
    >>> chain = {"equalize": "published", "polarisation": "vv", "source": "hyp3", "spacing": 20,
    ...          "speckle_filter": "lee 7x7", "window": "aoi"}
    >>> card = ModelCard(name="demo", created=datetime(2025, 12, 1, tzinfo=UTC), preprocessing=chain, licence="CC0-1.0")
    >>> card.threshold
    0.5
    """

    name: str
    created: datetime
    preprocessing: Mapping[str, Any] = field(hash=False)
    licence: str
    threshold: float = 0.5
    metrics: Mapping[str, Any] = field(default_factory=dict, hash=False)
    training: Mapping[str, Any] = field(default_factory=dict, hash=False)
    encoder: str = ENCODERS[0]
    channels: Sequence[str] = CHANNELS[:1]
    prior_skip: bool = False
    views: int = 1
    interval_block_m: float | None = None
    input_scaling: str = INPUT_SCALING
    cubekit_version: str = field(default_factory=lambda: version("cubekit"))
    schema_version: int = SCHEMA_VERSION

    def __post_init__(self) -> None:
        if wrong := self._faults():
            msg = f"the model card is not usable: {'; '.join(wrong)}"
            raise ModelError(msg)
        # Copies: whoever gave the mappings may go on changing them.
        object.__setattr__(self, "preprocessing", dict(self.preprocessing))
        object.__setattr__(self, "metrics", dict(self.metrics))
        object.__setattr__(self, "training", dict(self.training))
        object.__setattr__(self, "channels", tuple(self.channels))

    def _faults(self) -> list[str]:
        # A card also comes out of a file, where any field may be of any type.
        given: dict[str, Any] = {entry.name: getattr(self, entry.name) for entry in fields(self)}
        wrong = [
            f"{key} is {given[key]!r}, give a text"
            for key in ("name", "licence", "cubekit_version")
            if not isinstance(given[key], str) or not given[key].strip()
        ]
        created, threshold = given["created"], given["threshold"]
        if not isinstance(created, datetime) or created.utcoffset() != timedelta(0):
            wrong.append(f"created is {created!r}, give a datetime in UTC")
        if isinstance(threshold, bool) or not isinstance(threshold, int | float) or not 0 < threshold < 1:
            wrong.append(f"threshold is {threshold!r}, give a number between 0 and 1")
        if given["encoder"] not in ENCODERS:
            wrong.append(f"encoder is {given['encoder']!r}, allowed are {', '.join(ENCODERS)}")
        wrong += _network_faults(given["channels"], given["prior_skip"], given["views"])
        block = given["interval_block_m"]
        if block is not None and (isinstance(block, bool) or not isinstance(block, int | float) or not 0 < block < inf):
            wrong.append(f"interval_block_m is {block!r}, give metres above 0, or None")
        if given["input_scaling"] != INPUT_SCALING:
            wrong.append(f"input_scaling is {given['input_scaling']!r}, allowed is {INPUT_SCALING!r}")
        if given["schema_version"] != SCHEMA_VERSION:
            wrong.append(f"schema_version is {given['schema_version']!r}, this cubekit reads {SCHEMA_VERSION}")
        for key in ("preprocessing", "metrics", "training"):
            if not isinstance(given[key], Mapping):
                wrong.append(f"{key} is {given[key]!r}, give a mapping")
            elif key != "preprocessing" and not _is_json(given[key]):
                wrong.append(f"{key} does not go into JSON, give text, finite numbers, lists and mappings")
        if isinstance(given["preprocessing"], Mapping):
            wrong += _fingerprint_faults(given["preprocessing"])
        return wrong

    @classmethod
    def from_mapping(cls, mapping: Mapping[str, Any]) -> ModelCard:
        """Make a card of what `to_mapping` gave, or of the same read from a file.

        Parameters
        ----------
        mapping
            Every field of the card by its name, `created` in ISO 8601.

        Raises
        ------
        ModelError
            When fields are missing or unknown (all are named), or not usable.
        """
        known = {entry.name for entry in fields(cls)}
        required = {
            entry.name for entry in fields(cls) if entry.default is MISSING and entry.default_factory is MISSING
        }
        # A card without these says nothing of what it was made for, so a file has to state them.
        required |= {
            "threshold",
            "encoder",
            "channels",
            "input_scaling",
            "cubekit_version",
            "schema_version",
            "metrics",
            "training",
        }
        wrong = [f"{key} is missing" for key in sorted(required - set(mapping))]
        wrong += [f"{key} is unknown" for key in sorted(set(mapping) - known)]
        if wrong:
            msg = f"the model card is not usable: {'; '.join(wrong)}; it has {', '.join(sorted(known))}"
            raise ModelError(msg)
        created = mapping["created"]
        with suppress(TypeError, ValueError):  # refused by name, with the other faults, when the card is made
            created = datetime.fromisoformat(created)
        return cls(**{**mapping, "created": created})

    def to_mapping(self) -> dict[str, Any]:
        """Give the card as JSON holds it: plain types, `created` in ISO 8601."""
        plain = {**asdict(self), "channels": list(self.channels)}
        return {**plain, "created": self.created.astimezone(UTC).isoformat()}


def _network_faults(channels: Any, prior_skip: Any, views: Any) -> list[str]:
    wrong = []
    if not isinstance(channels, list | tuple) or tuple(channels) not in {CHANNELS[:1], CHANNELS}:
        wrong.append(f"channels is {channels!r}, allowed are ('chip',) and {CHANNELS}")
    elif not isinstance(prior_skip, bool) or (prior_skip and tuple(channels) != CHANNELS):
        wrong.append(f"prior_skip is {prior_skip!r}, give false, or true with the channels {CHANNELS}")
    if isinstance(views, bool) or views not in VIEWS:
        wrong.append(f"views is {views!r}, allowed are {', '.join(map(str, VIEWS))}")
    return wrong


def _fingerprint_faults(preprocessing: Mapping[str, Any]) -> list[str]:
    missing = [key for key in FINGERPRINT_KEYS if preprocessing.get(key) in (None, "")]
    wrong = [f"preprocessing lacks {', '.join(missing)}"] if missing else []
    odd = [
        f"preprocessing.{key} is {value!r}, give a text, number or boolean"
        for key, value in preprocessing.items()
        if key not in missing
        and not all(isinstance(each, str | int | float) and _is_json(each) for each in _each(value))
    ]
    return wrong + odd


def accepts(preprocessing: Mapping[str, Any], key: str, value: Any) -> bool:
    """Whether a model was trained on data whose chain has this value."""
    return key in preprocessing and value in _each(preprocessing[key])


def _each(value: Any) -> Sequence[Any]:
    return value if isinstance(value, list | tuple) and value else [value]


def _is_json(value: Any) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return True
