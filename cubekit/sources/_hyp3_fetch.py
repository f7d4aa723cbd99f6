"""Fetching what HyP3 has made, before it expires: download, unpack, check, note down."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

import requests

from cubekit.errors import SourceError
from cubekit.sources import _earthdata, _http
from cubekit.sources._addresses import place
from cubekit.sources._hyp3_product import check, discard, no_room, unpack
from cubekit.sources._hyp3_service import Refusal, Service
from cubekit.sources._hyp3_submit import refresh
from cubekit.sources._orders import PRODUCTS, WORK, Manifest, Order, State, alone, load, save

if TYPE_CHECKING:
    from hyp3_sdk.jobs import Job as ServiceJob

logger = logging.getLogger(__name__)

COPIES = 2
"""How often a zip is downloaded before its damage is taken for the service's."""

_GONE = frozenset({403, 404, 410})

Told = Callable[[int, int], None]
"""Told how many products are done, of how many."""


@dataclass(frozen=True)
class Fetched:
    """What came of fetching.

    Parameters
    ----------
    manifest
        As it is now.
    products
        Names of the products that have come.
    failed
        Why the others have not, by granule.
    """

    manifest: Manifest
    products: tuple[str, ...] = ()
    failed: Mapping[str, str] = field(default_factory=dict)

    @property
    def expected(self) -> int:
        """How many scenes may still come without another order."""
        states = self.manifest.by_state()
        return sum(len(states.get(state, ())) for state in (State.ASKED, State.PENDING, State.RUNNING, State.READY))


def fetch(folder: Path, service: Service, *, again: bool = False, told: Told | None = None) -> Fetched:
    """Download, unpack and check the products that are ready, what expires first at first.

    Parameters
    ----------
    folder
        Of the order.
    service
        HyP3.
    again
        Also products that were of no use before; they cost nothing.
    told
        Told of progress.

    Raises
    ------
    ConfigError
        When the folder holds no order.
    SourceError
        When the service can't be had or refuses, or another process works on the order.

    Notes
    -----
    May be stopped at any moment: a zip goes on where it stopped, a product appears whole in `PRODUCTS`, and after each
    the manifest is written.
    """
    with alone(folder):
        manifest, listed = refresh(folder, load(folder), service)
        manifest = _tidied(folder, manifest)
        states = manifest.by_state()
        ready = [*states.get(State.READY, ()), *(states.get(State.BROKEN, ()) if again else ())]
        ready.sort(key=lambda order: (_expires(order), order.start))
        done: list[str] = []
        failed: dict[str, str] = {}
        for first in range(0, len(ready), _http.PARALLEL):
            for order, problem in _arrived(folder, ready[first : first + _http.PARALLEL], listed, manifest.resolution):
                manifest = save(folder, manifest.replace([order]))
                if order.files:
                    discard(_zip(folder, order))
                    done.append(_product(order))
                else:
                    failed[order.granule] = problem
            if told:
                told(len(done) + len(failed), len(ready))
        return Fetched(manifest, tuple(done), failed)


def follow(
    folder: Path, connect: Callable[[], Service], *, interval: float, told: Told | None = None
) -> Iterator[Fetched]:
    """Fetch again and again, until nothing more can come: days, as a rule.

    Parameters
    ----------
    folder
        Of the order.
    connect
        Logs in, each time anew: sessions end before orders do.
    interval
        Seconds between two looks.
    told
        Told of progress.

    Yields
    ------
    Fetched
        After each look.

    Raises
    ------
    ConfigError
        When the folder holds no order, or there is no login.
    Refusal
        When the service does not accept the login any more. When it just can't be had, the next look is waited for.
    """
    while True:
        try:
            found = fetch(folder, connect(), told=told)
        except Refusal:
            raise
        except SourceError as error:
            logger.warning("%s; next look in %.0f s", error, interval)
            found = Fetched(load(folder))
        yield found
        if not found.expected:
            return
        time.sleep(interval)


def _arrived(
    folder: Path, orders: Sequence[Order], listed: Mapping[str, ServiceJob], resolution: int
) -> Iterator[tuple[Order, str]]:
    """Each order as it is after its product has come, or not: then with the reason."""
    files = {order.granule: _remote(folder, order, listed) for order in orders}
    session = _earthdata.session()  # gives a token to NASA's hosts only, which products usually aren't on
    absent = _http.download_all(files.values(), session=session)
    for order in orders:
        file = files[order.granule]
        try:
            if file.path in absent:
                yield _absent(order, file.url, session, absent[file.path])
                continue
            if reason := no_room(file.path):
                yield order, reason
                continue
            try:
                content = _take(folder, order, resolution)
            except SourceError as damage:  # once more: it may have suffered on its way
                logger.warning("%s: %s; downloaded again", order.granule, damage)
                discard(file.path)
                failed = _http.download_all([file], session=session)
                if file.path in failed:
                    yield _absent(order, file.url, session, failed[file.path])
                    continue
                content = _take(folder, order, resolution)
            yield _with_problem(order, None).model_copy(update={"files": content}), ""
        except SourceError as damage:
            discard(file.path)
            yield _with_problem(order, str(damage)), str(damage)
        except OSError as error:  # of the disk: the zip stays
            yield order, f"it can't be unpacked: {error.strerror or error}"


def _absent(order: Order, url: str, session: requests.Session, reason: str) -> tuple[Order, str]:
    """An order whose zip can't be had: of no use when the server says that it has none."""
    try:
        with session.get(url, headers={"Range": "bytes=0-0"}, stream=True, timeout=_http.TIMEOUT) as answer:
            gone = answer.status_code if answer.status_code in _GONE else None
    except requests.RequestException:
        gone = None
    if gone is None:
        return order, reason
    problem = f"its zip is not there any more ({place(url)} answers {gone})"
    return _with_problem(order, problem), problem


def _take(folder: Path, order: Order, resolution: int) -> dict[str, int]:
    """Unpack and check a zip, and put the product in its place by a single rename."""
    unpacked = unpack(_zip(folder, order), folder / WORK)
    try:
        content = check(unpacked, order, resolution)
        place = folder / PRODUCTS / unpacked.name
        place.parent.mkdir(exist_ok=True)
        discard(place)
        unpacked.replace(place)
    finally:
        discard(unpacked.parent)
    return content


def _tidied(folder: Path, manifest: Manifest) -> Manifest:
    """Note down products of which a kill kept the manifest from knowing, and clear away what a kill left."""
    work = folder / WORK
    work.mkdir(exist_ok=True)
    for path in work.iterdir():
        if path.is_dir():
            discard(path)
    changed = []
    for order in manifest.orders:
        place = folder / PRODUCTS / _product(order)
        if not order.files and _product(order) and place.is_dir():
            try:
                changed.append(order.model_copy(update={"files": check(place, order, manifest.resolution)}))
            except SourceError as damage:
                logger.warning("%s: %s; fetched again", place, damage)
    manifest = save(folder, manifest.replace(changed)) if changed else manifest
    for order in manifest.orders:
        if order.files:
            discard(_zip(folder, order))
    return manifest


def _remote(folder: Path, order: Order, listed: Mapping[str, ServiceJob]) -> _http.RemoteFile:
    """Where its zip is and goes to. Addresses are the service's of a moment ago, never the manifest's."""
    assert order.job is not None  # it is ready
    url = next(str(file["url"]) for file in listed[order.job.id].files or () if file["filename"] == order.job.file)
    return _http.RemoteFile(url, _zip(folder, order), order.job.size)


def _product(order: Order) -> str:
    return (order.job.product if order.job else None) or ""


def _zip(folder: Path, order: Order) -> Path:
    return folder / WORK / f"{_product(order)}.zip"


def _expires(order: Order) -> datetime:
    return (order.job.expires if order.job else None) or datetime.max.replace(tzinfo=UTC)


def _with_problem(order: Order, problem: str | None) -> Order:
    assert order.job is not None
    return order.model_copy(update={"jobs": (*order.jobs[:-1], order.job.model_copy(update={"problem": problem}))})
