"""The service under load: newest image, the same when it is known already, and the series, over 50 connections.

`python -m benchmarks.service_load [SECONDS]` makes a year of passes of one lake, releases them, starts `cubekit serve`
as a process of its own, and asks it from this one, over the loopback: both share the machine's cores.
"""

from __future__ import annotations

import asyncio
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from subprocess import Popen
from urllib.request import urlopen

import numpy as np
import psutil

from benchmarks import Result
from cubekit.config import Study
from cubekit.lakes import catalogue
from cubekit.service.context import Context
from cubekit.service.watch import watch
from cubekit.sources.simulated import write_archive

CONNECTIONS = 50
GOAL_MS = 50.0
"""99 of 100 answers come within that."""

LATEST = "/images/tshorolpa/latest"
SERIES = "/lakes/tsho_rolpa/series"


@dataclass
class Load:
    """What came back."""

    wanted: int
    seconds: list[float] = field(default_factory=list)
    errors: int = 0
    bytes: int = 0

    def percentile(self, share: float) -> float:
        """Milliseconds within which so many percent of the answers came."""
        return float(np.percentile(self.seconds, share)) * 1e3


class Connection(asyncio.Protocol):
    """Asks, waits for the whole answer, and asks again: as little work as can be, for it takes the server's cores."""

    def __init__(self, request: bytes, load: Load, until: float) -> None:
        self._request, self._load, self._until = request, load, until
        self._held = b""
        self._needed = -1
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = transport
        self._ask()

    def _ask(self) -> None:
        self._held, self._needed, self._asked = b"", -1, time.perf_counter()
        self._transport.write(self._request)

    def data_received(self, data: bytes) -> None:
        """Read a part."""
        self._held += data
        if self._needed < 0:
            end = self._held.find(b"\r\n\r\n")
            if end < 0:
                return
            place = self._held.find(b"content-length: ", 0, end)
            length = int(self._held[place + 16 : self._held.find(b"\r", place)]) if place >= 0 else 0
            self._needed = end + 4 + length
        if len(self._held) < self._needed:
            return
        now = time.perf_counter()
        self._load.seconds.append(now - self._asked)
        self._load.bytes += self._needed
        self._load.errors += int(self._held[9:12]) != self._load.wanted
        if now < self._until:
            self._ask()
        else:
            self._transport.close()

    def connection_lost(self, _: Exception | None) -> None:
        """The end, or an error."""
        self._load.errors += time.perf_counter() < self._until
        if not self.done.done():
            self.done.set_result(None)


async def ask(port: int, path: str, *, seconds: float, connections: int, wanted: int = 200, headers: str = "") -> Load:
    """Ask for one thing, again and again, over some connections."""
    load, loop = Load(wanted), asyncio.get_running_loop()
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{headers}\r\n".encode()
    until = time.perf_counter() + seconds
    made = [
        await loop.create_connection(lambda: Connection(request, load, until), "127.0.0.1", port)
        for _ in range(connections)
    ]
    await asyncio.gather(*(connection.done for _, connection in made))
    return load


def release(home: Path, days: int) -> Path:
    """A study whose passes are released; its file."""
    lake = catalogue()["tsho_rolpa"].at_spacing(30)
    end = np.datetime64("2023-01-01") + days
    write_archive(lake, home / "archive", start="2023-01-01", end=str(end))
    document = {
        "study": {"name": "load", "out": home / "out"},
        "lake": [{"id": "tsho_rolpa"}],
        "source": {"uri": f"folder:{home / 'archive'}"},
        "model": {"path": "otsu"},
    }
    study = Study.parse(document)
    context = Context.of(study)
    failed = watch(context, once=True)
    context.state.close()
    if failed:
        message = f"nothing was released of {failed}"
        raise RuntimeError(message)
    path = home / "study.toml"
    path.write_text(study.dump(), encoding="utf-8")
    return path


@contextmanager
def served(study: Path) -> Iterator[tuple[int, psutil.Process]]:
    """The service as a process: its port, and the process."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "cubekit.cli", "serve", str(study), "--port", str(port)]
    process = Popen(command)
    try:
        for _ in range(600):
            try:
                with urlopen(f"http://127.0.0.1:{port}{LATEST}") as answer:
                    answer.read()
                break
            except OSError:
                time.sleep(0.1)
        yield port, psutil.Process(process.pid)
    finally:
        process.terminate()
        process.wait()


def processor_seconds(server: psutil.Process) -> float:
    """What a process has used: whoever else is at work doesn't change it."""
    return server.cpu_times().user + server.cpu_times().system


def measure(*, tiny: bool = False, seconds: float = 15.0) -> list[Result]:
    """The latencies of each, and how much the server's memory grew."""
    seconds, connections, days = (0.5, 4, 12) if tiny else (seconds, CONNECTIONS, 365)
    results = []
    with tempfile.TemporaryDirectory() as home, served(release(Path(home), days)) as (port, server):
        with urlopen(f"http://127.0.0.1:{port}{LATEST}") as answer:
            tag = answer.headers["etag"]
        asked = {
            "newest image": (LATEST, 200, ""),
            "newest image, known already (304)": (LATEST, 304, f"If-None-Match: {tag}\r\n"),
            "series as JSON": (SERIES, 200, ""),
            "series as JSON, gzip": (SERIES, 200, "Accept-Encoding: gzip\r\n"),
        }
        before = 0.0
        for what, (path, wanted, headers) in asked.items():
            used = processor_seconds(server)
            load = asyncio.run(
                ask(port, path, seconds=seconds, connections=connections, wanted=wanted, headers=headers)
            )
            if load.errors:
                message = f"{what}: {load.errors} of {len(load.seconds)} requests went wrong"
                raise RuntimeError(message)
            used = (processor_seconds(server) - used) / len(load.seconds)
            memory = server.memory_info().rss / 2**20
            before = before or memory
            detail = (
                f"{len(load.seconds) / seconds:.0f} requests/s, half within {load.percentile(50):.1f} ms, "
                f"{load.bytes / len(load.seconds) / 1e3:.1f} kB and {used * 1e3:.2f} ms of processor each, "
                f"no error, load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores, server {memory:.0f} MiB"
            )
            name = f"{what}, {connections} connections for {seconds:g} s: 99 % within"
            results.append(Result(name, load.percentile(99), GOAL_MS, at_most=True, unit="ms", detail=detail))
        grown = server.memory_info().rss / 2**20 - before
    results.append(Result("growth of the server's memory after the first load", grown, 16.0, at_most=True, unit="MiB"))
    return results


if __name__ == "__main__":
    for each in measure(seconds=float(sys.argv[1]) if len(sys.argv) > 1 else 60.0):
        print(f"{each.what} {each.measured:.1f} {each.unit} ({each.detail})", flush=True)
