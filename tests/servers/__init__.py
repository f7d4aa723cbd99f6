"""Services of the internet on 127.0.0.1: the real clients talk to them, by plain HTTP or by their real names over TLS.

`serving` puts one service at ``http://127.0.0.1:PORT``. `internet` is a proxy that answers for whole hosts, with a
certificate of its own: clients that honour HTTPS_PROXY (requests, GDAL) then reach ``https://cmr.earthdata.nasa.gov``
and find the test's service, in this process and in its children, with nothing in cubekit changed.
"""

from __future__ import annotations

import ssl
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qsl, urlsplit


@dataclass(frozen=True)
class Request:
    """What a client asked."""

    method: str
    host: str
    target: str
    headers: Message
    body: bytes = b""

    @property
    def path(self) -> str:
        return urlsplit(self.target).path

    @property
    def query(self) -> dict[str, str]:
        return dict(parse_qsl(urlsplit(self.target).query, keep_blank_values=True))

    @property
    def form(self) -> list[tuple[str, str]]:
        return parse_qsl(self.body.decode(), keep_blank_values=True)


@dataclass(frozen=True)
class Answer:
    """What a service answers.

    Parameters
    ----------
    hang
        Seconds of silence before anything is sent.
    cut
        The connection is closed after so many bytes of the body.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    hang: float = 0.0
    cut: int | None = None


WEB_PAGE = Answer(502, b"<html><h1>Bad Gateway</h1></html>", {"Content-Type": "text/html"})
"""What a load balancer answers when the service behind it is down."""


_KEPT = 1 << 16


@dataclass
class Exchange:
    """A request, what was answered (of long bodies nothing is kept), and how many bytes of its body went out."""

    request: Request
    answer: Answer
    sent: int = 0


class Service:
    """Base of a service: writes down what is asked, and fails when it is told to."""

    def __init__(self) -> None:
        self.log: list[Exchange] = []
        self.failed = 0
        self._faults: list[tuple[Callable[[Request], bool], Callable[[Answer], Answer]]] = []
        self._lock = threading.Lock()

    def answer(self, request: Request) -> Answer:
        """What the service answers when all is well."""
        raise NotImplementedError

    def fail(
        self,
        fault: Answer | Callable[[Answer], Answer],
        *,
        times: int = 1,
        when: Callable[[Request], bool] = lambda request: True,
    ) -> None:
        """Answer `fault` (or what it makes of the right answer) to the next `times` requests that `when` is true of."""
        change = (lambda _: fault) if isinstance(fault, Answer) else fault
        self._faults += [(when, change)] * times

    def recover(self) -> None:
        """Forget the faults that are still to come."""
        with self._lock:
            self._faults.clear()

    def exchange(self, request: Request) -> Exchange:
        """Answer a request, and write it down."""
        with self._lock:
            index = next((i for i, (when, _) in enumerate(self._faults) if when(request)), None)
            fault = None if index is None else self._faults.pop(index)[1]
            self.failed += fault is not None
        answer = self.answer(request)
        made = Exchange(request, answer if fault is None else fault(answer))
        with self._lock:
            self.log.append(made)
        return made

    def sent(self, when: Callable[[Request], bool] = lambda request: True) -> int:
        """Bytes of bodies that went out."""
        return sum(one.sent for one in self.log if when(one.request))

    def asked(self, when: Callable[[Request], bool] = lambda request: True) -> list[Request]:
        """What was asked, in order."""
        return [one.request for one in self.log if when(one.request)]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server
    tunnel = ""

    def log_message(self, *_: object) -> None:
        """Say nothing on stderr."""

    def do_CONNECT(self) -> None:
        """Become the host that the client wants a tunnel to."""
        self.tunnel = self.path.rpartition(":")[0]
        if self.tunnel not in self.server.services:
            self.server.strangers.append(self.tunnel)
            self.send_error(502, "no such host in this internet")
            return
        self.send_response_only(200, "Connection established")
        self.end_headers()
        assert self.server.tls is not None
        self.connection = self.server.tls.wrap_socket(self.connection, server_side=True)
        self.rfile, self.wfile = self.connection.makefile("rb"), self.connection.makefile("wb", 0)
        self.close_connection = False

    def finish(self) -> None:
        super().finish()
        if self.tunnel:
            self.connection.close()

    def _go(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        host = self.tunnel or str(self.headers.get("Host", "")).partition(":")[0]
        request = Request(self.command, host, self.path, self.headers, self.rfile.read(length))
        service = self.server.services.get(self.tunnel or "*")
        if service is None:
            self.send_error(502)
            return
        exchange = service.exchange(request)
        answer = exchange.answer
        if answer.hang:
            self.server.stopped.wait(answer.hang)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        if not {"Content-Length", "Transfer-Encoding"} & set(answer.headers) and answer.status != 304:
            self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command == "HEAD":
            return
        body = answer.body if answer.cut is None else answer.body[: answer.cut]
        for start in range(0, len(body), 1 << 16):
            if start:  # a network, not a copy in memory: who hangs up early is heard in time
                time.sleep(0.0005)
            piece = body[start : start + (1 << 16)]
            self.wfile.write(piece)
            exchange.sent += len(piece)
        if answer.cut is not None:
            self.close_connection = True
        if len(body) > _KEPT:
            exchange.answer = replace(answer, body=b"")

    do_GET = do_POST = do_HEAD = do_PUT = do_PATCH = do_DELETE = _go  # noqa: N815


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 64

    def __init__(self, services: Mapping[str, Service], tls: ssl.SSLContext | None = None) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.services, self.tls = dict(services), tls
        self.stopped = threading.Event()
        self.strangers: list[str] = []
        self.errors: list[BaseException] = []

    def handle_error(self, request: object, client_address: object) -> None:
        """Clients may hang up; anything else is a fault of the test."""
        import sys

        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, ConnectionError | ssl.SSLError | TimeoutError):
            self.errors.append(error)


@contextmanager
def _running(server: _Server) -> Iterator[_Server]:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.stopped.set()
        server.shutdown()
        server.server_close()
        thread.join()
    assert not server.errors, server.errors


@contextmanager
def serving(service: Service) -> Iterator[str]:
    """Serve by plain HTTP; gives the address, without a slash at its end."""
    with _running(_Server({"*": service})) as server:
        yield f"http://127.0.0.1:{server.server_port}"


@dataclass(frozen=True)
class Internet:
    """What a process needs in its environment to see the test's hosts only, and whom else it tried to reach."""

    environment: Mapping[str, str]
    strangers: Sequence[str]


@contextmanager
def internet(services: Mapping[str, Service], folder: Path) -> Iterator[Internet]:
    """Serve hosts by their real names, over TLS.

    Parameters
    ----------
    services
        By host.
    folder
        For certificate and key.
    """
    certificate, key = _certificate(sorted(services), folder)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate, key)
    with _running(_Server(services, tls)) as server:
        proxy = f"http://127.0.0.1:{server.server_port}"
        trust = dict.fromkeys(("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"), str(certificate))
        proxies = dict.fromkeys(("HTTPS_PROXY", "https_proxy"), proxy)
        none = dict.fromkeys(("NO_PROXY", "no_proxy"), "127.0.0.1,localhost")
        yield Internet({**trust, **proxies, **none}, server.strangers)


def _certificate(hosts: Sequence[str], folder: Path) -> tuple[Path, Path]:
    """A certificate that is its own authority, for these hosts, and its key."""
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    names = ",".join(f"DNS:{host}" for host in hosts)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-days", "2", "-subj", "/CN=cubekit tests", "-addext", f"subjectAltName={names}"]
    command += ["-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


def cut(after: int) -> Callable[[Answer], Answer]:
    """A fault: the connection breaks after so many bytes of the right answer."""
    return lambda answer: replace(
        answer, cut=after, headers={"Content-Length": str(len(answer.body)), **answer.headers}
    )


def wait_until(true: Callable[[], bool], *, seconds: float = 20.0) -> None:
    """Wait for another thread or process."""
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end, "it did not happen in time"
        time.sleep(0.02)
