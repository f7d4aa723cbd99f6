"""HyP3 on this machine, with the catalogue of scenes that it can be asked for."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import pytest
from servers import Internet, Request, internet
from servers.cmr import HOST as CMR
from servers.cmr import Cmr, Granule
from servers.hyp3 import STORE, Hyp3, granule_name, grd_granule, product_of
from shapely.geometry import box

from cubekit.lakes import Lake, catalogue
from cubekit.passes import absolute_orbit, relative_orbit
from cubekit.sources import _http, _hyp3_submit, hyp3

LAKE = catalogue()["tsho_rolpa"]
FIRST = datetime(2019, 1, 9, 0, 11, 35, tzinfo=UTC)
"""A pass of Sentinel-1A over the lakes, descending on track 121."""
AFTERNOON = datetime(2019, 1, 4, 12, 13, 12, tzinfo=UTC)
"""Another, ascending."""
PERIOD = (date(2019, 1, 1), date(2019, 3, 31))
AROUND = box(86.0, 27.0, 88.0, 28.5)
"""A scene that shows all lakes of the Khumbu."""


def granule(start: datetime, **options: object) -> str:
    return granule_name(start, absolute_orbit("sentinel-1a", start), **options)


def passes(first: datetime, count: int) -> list[str]:
    return [granule(first + timedelta(days=12 * cycle)) for cycle in range(count)]


def catalogued(name: str, outline: object = AROUND, **options: object) -> dict:
    start = datetime.strptime(name.split("_")[4], "%Y%m%dT%H%M%S").replace(tzinfo=UTC)
    track = relative_orbit("sentinel-1a", int(name.split("_")[6]))
    direction = "descending" if start.hour < 6 else "ascending"
    return grd_granule(name, outline, **{"track": track, "direction": direction, **options})


@dataclass
class World:
    """The internet of a test: a catalogue, HyP3, and nothing else."""

    cmr: Cmr
    hyp3: Hyp3
    internet: Internet
    folder: Path

    def plan(self, *lakes: Lake, folder: Path | None = None, **options: object) -> hyp3.Planned:
        return hyp3.plan(folder or self.folder, lakes or [LAKE], PERIOD, **options)

    def submit(self, folder: Path | None = None, *, again: bool = False) -> hyp3.Submitted:
        return hyp3.submit(folder or self.folder, hyp3.connect(), agree=lambda _: True, again=again)

    def fetch(self, **options: object) -> hyp3.Fetched:
        return hyp3.fetch(self.folder, hyp3.connect(), **options)

    def status(self) -> hyp3.Manifest:
        return hyp3.status(self.folder, hyp3.connect())

    def ordered(self) -> list[dict]:
        """Every job of every order that was sent."""
        sent = self.hyp3.asked(lambda request: request.method == "POST" and request.path == "/jobs")
        return [job for request in sent for job in json.loads(request.body)["jobs"]]


def posted(request: Request) -> bool:
    return request.method == "POST"


def listing(request: Request) -> bool:
    return request.method == "GET" and request.path == "/jobs"


def from_store(request: Request) -> bool:
    return request.host == STORE


@contextmanager
def at_hyp3(
    home: Path, monkeypatch: pytest.MonkeyPatch, *lakes: Lake, granules: Iterable[Granule] | None = None
) -> Iterator[World]:
    """A patient service, an impatient client; six passes of a track between January and March 2019 by default."""
    cmr = Cmr(granules or (catalogued(name) for name in passes(FIRST, 6)))
    service = Hyp3(product_of(home / "scratch", *lakes or [LAKE]))
    with internet({CMR: cmr, **service.hosts}, home / "tls") as net:
        for name, value in net.environment.items():
            monkeypatch.setenv(name, value)
        monkeypatch.setenv("EARTHDATA_TOKEN", service.token)
        monkeypatch.setenv("NETRC", str(home / "no.netrc"))
        monkeypatch.setattr(_http, "WAIT", 0.01)
        monkeypatch.setattr(_hyp3_submit, "SETTLE", 0.2)
        yield World(cmr, service, net, home / "order")
        assert not service.leaks
        assert not net.strangers
