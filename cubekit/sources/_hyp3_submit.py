"""Ordering at HyP3 without ever ordering twice, and looking at how far it is.

Before an order is sent, the manifest says so (`asked`). Whatever happens then (a kill, a timeout, a broken answer), the
next step looks at the service's own list of jobs first, and asks again only for what isn't in it.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from cubekit.errors import ConfigError, SourceError
from cubekit.sources import _earthdata, _http
from cubekit.sources._addresses import place
from cubekit.sources._hyp3_service import BATCH, Refusal, Service, request, serves
from cubekit.sources._orders import AGAIN, Job, Manifest, Order, State, alone, load, save

if TYPE_CHECKING:
    from hyp3_sdk.jobs import Job as ServiceJob

SETTLE = 60.0
"""Seconds that the service may take to finish an order it did not answer (its gateway waits 30), and to list it."""

ATTEMPTS = 3
"""How often an order that isn't answered is sent, after it was looked for."""

_FILE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*\.zip")
_LOG_END = 1 << 16
_SHOWN = 200


@dataclass(frozen=True)
class Quote:
    """What an order would cost.

    Parameters
    ----------
    scenes
        How many are wanted.
    each
        Credits of one.
    left
        Credits that the user has this month; None when that isn't limited.
    """

    scenes: int
    each: float
    left: float | None

    @property
    def total(self) -> float:
        """Credits of all."""
        return self.scenes * self.each

    @property
    def affordable(self) -> int:
        """How many of the scenes can be ordered now; the rest next month."""
        if self.left is None or self.each == 0:
            return self.scenes
        return max(0, min(self.scenes, int(self.left // self.each)))


@dataclass(frozen=True)
class Submitted:
    """What came of submitting.

    Parameters
    ----------
    manifest
        As it is now.
    quote
        What was asked for, None when nothing was left to order.
    ordered
        Granules that were ordered.
    """

    manifest: Manifest
    quote: Quote | None
    ordered: tuple[str, ...]


def wanted(manifest: Manifest, *, again: bool) -> list[Order]:
    """Scenes that an order would be for, by time: what is planned, and with `again` what came to nothing."""
    states = {State.PLANNED} | (AGAIN if again else set())
    now = datetime.now(UTC)
    return [order for order in manifest.orders if order.state(now) in states]


def quote(manifest: Manifest, service: Service, *, again: bool = False) -> Quote:
    """Price what is to be ordered, by the service's own list."""
    scenes = len(wanted(manifest, again=again))
    sample = request("", manifest.name, manifest.resolution)["job_parameters"]
    return Quote(scenes, service.price(sample), service.credits())


def submit(folder: Path, service: Service, *, agree: Callable[[Quote], bool], again: bool = False) -> Submitted:
    """Order what is planned, as far as the credits go.

    Parameters
    ----------
    folder
        Of the order.
    service
        HyP3.
    agree
        Asked once, before anything is spent.
    again
        Also what failed, expired, was refused or is of no use; it costs again.

    Raises
    ------
    ConfigError
        When the folder holds no order.
    SourceError
        When the service can't be had, refuses, or leaves orders unanswered; when another process is at it. What was
        ordered until then is in the manifest.

    Notes
    -----
    A scene that the user has a job for, from this folder or any other, is not ordered: the job is taken over.
    """
    with alone(folder):
        manifest = _settled(folder, load(folder), service)
        remaining = wanted(manifest, again=again)
        if not remaining:
            return Submitted(manifest, None, ())
        price = quote(manifest, service, again=again)
        if not agree(price):
            return Submitted(manifest, price, ())
        remaining = remaining[: price.affordable]
        before = {order.granule: len(order.jobs) for order in manifest.orders}
        unanswered = 0
        while remaining:
            batch, remaining = remaining[:BATCH], remaining[BATCH:]
            manifest, left, answered = _send(folder, manifest, service, batch)
            unanswered = 0 if answered else unanswered + 1
            if unanswered >= ATTEMPTS:
                msg = (
                    f"HyP3 left an order of {len(batch)} scenes unanswered {ATTEMPTS} times; submit again later: "
                    "nothing is ordered twice"
                )
                raise SourceError(msg)
            remaining = left + remaining
        ordered = tuple(order.granule for order in manifest.orders if len(order.jobs) > before[order.granule])
        return Submitted(manifest, price, ordered)


def _send(
    folder: Path, manifest: Manifest, service: Service, batch: Sequence[Order]
) -> tuple[Manifest, list[Order], bool]:
    """Order one batch: the manifest, what of the batch is to be sent again, and whether the service answered."""
    now = datetime.now(UTC)
    manifest = save(folder, manifest.replace(_with(batch, asked=now, refused=None)))
    try:
        made = service.submit([request(order.granule, manifest.name, manifest.resolution) for order in batch])
    except Refusal as refusal:
        named = [order for order in batch if order.granule in refusal.detail]
        if refusal.status != 400 or not named:
            save(folder, manifest.replace(batch))
            raise
        # One scene that can't be processed makes the service refuse all of them.
        reason = " ".join(refusal.detail.partition(":")[0].split())[:_SHOWN]
        rest = [order for order in batch if order not in named]
        manifest = save(folder, manifest.replace([*rest, *_with(named, asked=None, refused=reason)]))
        return manifest, rest, True
    manifest = save(folder, _adopted(manifest, made or (), of={order.granule for order in batch}))
    doubtful = [order for order in manifest.orders if order.asked]
    missing = {order.granule for order in doubtful}
    if missing:
        # From now on: the service may have begun with them only at the end of a long silence.
        manifest = manifest.replace(_with(doubtful, asked=datetime.now(UTC)))
        manifest = _settled(folder, manifest, service)
    left = [order for order in wanted(manifest, again=True) if order.granule in missing]
    return manifest, left, not missing


def status(folder: Path, service: Service) -> Manifest:
    """Look at the service's list of jobs, and write down how far they are.

    Raises
    ------
    ConfigError, SourceError
        As for `submit`.
    """
    with alone(folder):
        manifest, _ = refresh(folder, load(folder), service)
        return manifest


def refresh(folder: Path, manifest: Manifest, service: Service) -> tuple[Manifest, dict[str, ServiceJob]]:
    """Update a manifest from the service's list of jobs; gives also that list, by job."""
    listed = {job.job_id: job for job in service.jobs()}
    changed = []
    for order in manifest.orders:
        if order.files or order.job is None or order.job.status == "FAILED":
            continue
        told = listed.get(order.job.id) or service.job(order.job.id)
        if told is None:
            gone = {"status": "FAILED", "problem": "HyP3 does not know this job any more"}
            changed.append(_newest(order, order.job.model_copy(update=gone)))
        else:
            listed[told.job_id] = told
            changed.append(_newest(order, _record(told, order.job)))
    manifest = _adopted(manifest.replace(changed), listed.values())
    return save(folder, manifest), listed


def _settled(folder: Path, manifest: Manifest, service: Service) -> Manifest:
    """A manifest of which no order is in doubt."""
    manifest, _ = refresh(folder, manifest, service)
    doubtful = [order.asked for order in manifest.orders if order.asked]
    if not doubtful:
        return manifest
    age = (datetime.now(UTC) - max(doubtful)).total_seconds()
    if age < SETTLE:
        time.sleep(min(SETTLE, SETTLE - age))
        manifest, _ = refresh(folder, manifest, service)
    return save(folder, manifest.replace(_with((one for one in manifest.orders if one.asked), asked=None)))


def _adopted(manifest: Manifest, jobs: Iterable[ServiceJob], *, of: set[str] | None = None) -> Manifest:
    """Give orders without a working job one of these, the best that makes the same product.

    Parameters
    ----------
    of
        Granules for which any of these jobs is the answer to an order.
    """
    now = datetime.now(UTC)
    able: dict[str, list[ServiceJob]] = {}
    for job in jobs:
        granules = (job.job_parameters or {}).get("granules") or [""]
        if not job.failed() and not job.expired():
            able.setdefault(str(granules[0]), []).append(job)
    changed = []
    for order in manifest.orders:
        if order.state(now) not in AGAIN | {State.PLANNED, State.ASKED} or (of is not None and order.granule not in of):
            continue
        known = {job.id for job in order.jobs}
        parameters = request(order.granule, manifest.name, manifest.resolution)["job_parameters"]
        fitting = [job for job in able.get(order.granule, ()) if job.job_id not in known and serves(job, parameters)]
        if fitting:
            best = max(fitting, key=lambda job: (job.succeeded(), job.running(), job.request_time))
            taken = {"jobs": (*order.jobs, _record(best, None)), "asked": None, "refused": None}
            changed.append(order.model_copy(update=taken))
    return manifest.replace(changed)


def _record(job: ServiceJob, known: Job | None) -> Job:
    """A job of the service as the manifest keeps it."""
    zips = [file for file in job.files or () if str(file.get("filename", "")).endswith(".zip")]
    problem = known.problem if known else None
    if job.failed():
        problem = problem or _failure(job)
    elif job.succeeded() and (not zips or not _FILE.fullmatch(str(zips[0]["filename"])) or ".." in zips[0]["filename"]):
        zips, problem = [], "HyP3 gives no zip of it"
    document = {
        "id": job.job_id,
        "status": job.status_code,
        "requested": job.request_time,
        "credits": job.credit_cost,
        "expires": job.expiration_time,
        "file": zips[0]["filename"] if zips else None,
        "size": zips[0].get("size") if zips else None,
        "problem": problem,
    }
    try:
        return Job.parse(document, "a job of HyP3")
    except ConfigError as error:
        msg = f"{error}; a newer cubekit may know its shape"
        raise SourceError(msg) from None


def _failure(job: ServiceJob) -> str:
    """Why a job failed: the last line of its log, for the service itself gives no reason."""
    logs = [str(address) for address in job.logs or ()]
    if not logs:
        return "HyP3 could not process it, and keeps no log"
    try:
        with _earthdata.session().get(logs[-1], headers={"Range": f"bytes=-{_LOG_END}"}, timeout=_http.TIMEOUT) as log:
            lines = log.text.splitlines() if log.status_code in {200, 206} else []
    except OSError:  # all errors of requests are of this kind
        lines = []
    said = next((" ".join(line.split())[:_SHOWN] for line in reversed(lines) if line.strip()), "")
    told = f": {said}" if said else ""
    return f"HyP3 could not process it{told} (log: {place(logs[-1])})"


def _newest(order: Order, job: Job) -> Order:
    return order.model_copy(update={"jobs": (*order.jobs[:-1], job)})


def _with(orders: Iterable[Order], **changes: object) -> list[Order]:
    return [order.model_copy(update=changes) for order in orders]
