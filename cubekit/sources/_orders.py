"""The manifest of an order: which scenes are wanted, which jobs make them, which products have come."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import ClassVar, Literal

import filelock
from pydantic import Field

from cubekit.config import Section
from cubekit.errors import ConfigError, SourceError
from cubekit.files import replacing

MANIFEST = "order.json"
"""Name of the manifest in an order's folder."""

PRODUCTS = "products"
"""Where the products are, one folder each; what is in there is whole and was checked."""

WORK = ".work"
"""Where zips arrive and are unpacked; nothing reads it but `fetch`."""

RESOLUTIONS = (20, 30)
"""Spacings that a lattice can have and HyP3 makes, metres."""


class State(StrEnum):
    """Where a scene stands."""

    PLANNED = "planned"
    ASKED = "asked"  # it was sent, and what came of it isn't known yet
    PENDING = "pending"
    RUNNING = "running"
    READY = "ready"
    FETCHED = "fetched"
    FAILED = "failed"
    EXPIRED = "expired"
    BROKEN = "broken"
    REFUSED = "refused"


AGAIN = frozenset({State.FAILED, State.EXPIRED, State.BROKEN, State.REFUSED})
"""States that nothing leads out of but another order."""


class Job(Section):
    """A job of the service, as it was when last looked at. No address: those may be signed."""

    id: str
    status: Literal["PENDING", "RUNNING", "SUCCEEDED", "FAILED"]
    requested: datetime
    credits: float | None = None
    expires: datetime | None = None
    file: str | None = Field(None, description="Name of the zip.")
    size: int | None = Field(None, description="Bytes of the zip.")
    problem: str | None = Field(None, description="Why it failed, or why its product is of no use.")

    @property
    def product(self) -> str | None:
        """Name of the product, once there is one."""
        return None if self.file is None else self.file.removesuffix(".zip")


class Order(Section):
    """One scene that is wanted, for all lakes that it shows."""

    granule: str = Field(pattern=r"^S1[A-D]_IW_GRDH_1S[SD][VH]_\d{8}T\d{6}_\d{8}T\d{6}_\d{6}_[0-9A-F]{6}_[0-9A-F]{4}$")
    lakes: tuple[str, ...]
    track: int
    direction: Literal["ascending", "descending"]
    frame: int | None = None
    start: datetime
    jobs: tuple[Job, ...] = Field((), description="Newest last; those before it failed, expired or were of no use.")
    asked: datetime | None = Field(None, description="When it was sent, until the answer is known.")
    refused: str | None = Field(None, description="Why the service did not take it.")
    files: Mapping[str, int] = Field({}, description="Bytes of each file of the product that was fetched.")

    @property
    def job(self) -> Job | None:
        """The newest job."""
        return self.jobs[-1] if self.jobs else None

    @property
    def scene(self) -> str:
        """The granule without its checksum: the same when ESA has processed the scene again."""
        return self.granule.rpartition("_")[0]

    def state(self, now: datetime) -> State:
        """Where the scene stands at a time (UTC, with a time zone)."""
        if self.files:
            return State.FETCHED
        if self.asked:
            return State.ASKED
        if self.refused:
            return State.REFUSED
        if self.job is None:
            return State.PLANNED
        if self.job.status != "SUCCEEDED":
            return State(self.job.status.lower())
        if self.job.expires is not None and self.job.expires <= now:
            return State.EXPIRED
        return State.BROKEN if self.job.problem else State.READY

    def reason(self, now: datetime) -> str:
        """Why nothing more comes of it; empty for the other states."""
        state = self.state(now)
        if state is State.REFUSED:
            return self.refused or ""
        if state is State.EXPIRED and self.job and self.job.expires:
            late = f"kept until {self.job.expires:%Y-%m-%d %H:%M} UTC, and not fetched by then"
            return f"{late}; before that: {self.job.problem}" if self.job.problem else late
        return (self.job.problem or "") if state in AGAIN and self.job else ""


class Manifest(Section):
    """What a folder is to hold, and how far that is."""

    kind: ClassVar[str] = "an order"
    sample: ClassVar[str] = "`cubekit order plan` writes one"

    version: Literal[1] = 1
    name: str = Field(description="Name of the jobs, by which the service finds them.", min_length=1, max_length=100)
    api: str = Field(description="Address of the service.")
    resolution: Literal[20, 30] = Field(description="Pixel spacing, metres.")
    orders: tuple[Order, ...] = ()

    def replace(self, changed: Iterable[Order]) -> Manifest:
        """The same manifest with other versions of some orders, told by their granules."""
        new = {order.granule: order for order in changed}
        return self.model_copy(update={"orders": tuple(new.get(order.granule, order) for order in self.orders)})

    def by_state(self, now: datetime | None = None) -> dict[State, tuple[Order, ...]]:
        """Orders by where they stand, by time; now by default."""
        now = now or datetime.now(UTC)
        return {
            state: tuple(order for order in self.orders if order.state(now) is state)
            for state in State
            if any(order.state(now) is state for order in self.orders)
        }


def load(folder: Path) -> Manifest:
    """Read the manifest of a folder.

    Raises
    ------
    ConfigError
        When there is none, or it isn't one.
    """
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        msg = f"{folder} holds no order ({MANIFEST}); plan one with: cubekit order plan {folder} LAKE"
        raise ConfigError(msg) from None
    except (OSError, ValueError) as error:
        msg = f"{path} can't be read ({type(error).__name__}); restore it, or plan the same order into another folder"
        raise ConfigError(msg) from None
    if not isinstance(document, dict):
        msg = f"{path} is not an order but a {type(document).__name__}; restore it, or plan into another folder"
        raise ConfigError(msg)
    return Manifest.parse(document, str(path))


def save(folder: Path, manifest: Manifest) -> Manifest:
    """Write a manifest, whole or not at all, by time of the scenes; returns it as written."""
    ordered = tuple(sorted(manifest.orders, key=lambda order: (order.start, order.granule)))
    manifest = manifest.model_copy(update={"orders": ordered})
    with replacing(folder / MANIFEST) as temporary:
        temporary.write_text(manifest.model_dump_json(indent=1) + "\n", encoding="utf-8")
    return manifest


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Be the only process that works on an order.

    Raises
    ------
    SourceError
        When another one does.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = filelock.FileLock(folder / ".order.lock", timeout=0)
    try:
        lock.acquire()
    except filelock.Timeout:
        msg = f"another process works on the order in {folder}; wait until it is done"
        raise SourceError(msg) from None
    try:
        for left in folder.glob(f".{MANIFEST}.*.tmp"):  # by a kill
            left.unlink()
        yield
    finally:
        lock.release()
