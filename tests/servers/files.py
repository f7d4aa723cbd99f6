"""A file server with Range, and an archive behind a login as Earthdata's: redirects, cookies, signed addresses."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from collections.abc import Mapping
from dataclasses import replace
from itertools import count
from pathlib import Path
from urllib.parse import parse_qsl, quote, urlencode, urlsplit

from servers import Answer, Request, Service

_RANGE = re.compile(r"bytes=(\d*)-(\d*)")


def file_answer(request: Request, content: bytes, *, etag: str | None = None) -> Answer:
    """A file or the part of it that is asked for, as a web server answers."""
    tag = etag or f'"{hashlib.sha256(content).hexdigest()[:16]}"'
    headers = {"Accept-Ranges": "bytes", "ETag": tag, "Content-Type": "application/octet-stream"}
    asked = _RANGE.fullmatch(request.headers.get("Range") or "")
    if asked is None or asked.groups() == ("", ""):
        return Answer(200, content, {**headers, "Content-Length": str(len(content))})
    first, last = asked.groups()
    start = int(first) if first else max(0, len(content) - int(last))
    stop = min(int(last) + 1, len(content)) if first and last else len(content)
    if start >= stop:
        return Answer(416, b"", {"Content-Range": f"bytes */{len(content)}"})
    span = {"Content-Range": f"bytes {start}-{stop - 1}/{len(content)}", "Content-Length": str(stop - start)}
    return Answer(206, content[start:stop], headers | span)


class Files(Service):
    """Files of a folder, and of memory, to everybody: ``/name``."""

    def __init__(self, folder: Path | None = None, files: Mapping[str, bytes] | None = None) -> None:
        super().__init__()
        self.folder, self.files = folder, dict(files or {})

    def content(self, name: str) -> bytes | None:
        """The bytes of a file."""
        if name in self.files:
            return self.files[name]
        path = self.folder / name if self.folder else None
        return path.read_bytes() if path is not None and path.is_file() else None

    def answer(self, request: Request) -> Answer:
        content = self.content(request.path.lstrip("/"))
        return Answer(404, b"not here") if content is None else file_answer(request, content)


class Earthdata(Files):
    """An archive at ASF: three hosts that send round until somebody is logged in.

    ``DATA`` gives a file to nobody: with a valid token or session cookie it sends to a signed address on ``STORAGE``,
    without to ``LOGIN``, which wants user and password and sends back with a code, for which ``DATA`` sets the cookie.
    ``STORAGE`` knows signatures only: it refuses another login beside them, and, as signed addresses are for GET, HEAD.
    """

    DATA = "datapool.asf.alaska.edu"
    LOGIN = "urs.earthdata.nasa.gov"
    STORAGE = "asf-products.s3.us-west-2.amazonaws.com"
    CLIENT = "BO_n7nTIlMljdvU6kRRB3g"

    def __init__(self, folder: Path | None = None, files: Mapping[str, bytes] | None = None) -> None:
        super().__init__(folder, files)
        self.user, self.password = "somebody", f"password-{secrets.token_hex(8)}"
        self.token = f"token.{secrets.token_hex(12)}"
        self.cookie, self.code, self.key = (secrets.token_hex(8) for _ in range(3))
        self.leaks: list[str] = []
        self._moments = count()

    @property
    def hosts(self) -> dict[str, Service]:
        """For `internet`."""
        return dict.fromkeys((self.DATA, self.LOGIN, self.STORAGE), self)

    def url(self, name: str) -> str:
        """Where a file is, as the catalogue says."""
        return f"https://{self.DATA}/RTC/OPERA-S1/{name}"

    def answer(self, request: Request) -> Answer:
        self._watch(request)
        return {self.DATA: self._data, self.LOGIN: self._login, self.STORAGE: self._storage}[request.host](request)

    def _watch(self, request: Request) -> None:
        """Secrets belong to their hosts: the password to the login, token and cookie to the archive."""
        sent = request.headers.get("Authorization") or ""
        basic = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if (basic in sent and request.host != self.LOGIN) or (self.token in sent and request.host != self.DATA):
            self.leaks.append(f"{request.host} was given {sent.partition(' ')[0]}")
        if self.cookie in (request.headers.get("Cookie") or "") and request.host != self.DATA:
            self.leaks.append(f"{request.host} was given the cookie")

    def _data(self, request: Request) -> Answer:
        if request.path == "/login":
            if request.query.get("code") != self.code:
                return Answer(401, b"bad code")
            cookie = f"asf-urs={self.cookie}; Path=/; Secure; HttpOnly"
            return Answer(302, b"", {"Location": request.query["state"], "Set-Cookie": cookie})
        known = request.headers.get("Authorization") == f"Bearer {self.token}"
        if known or f"asf-urs={self.cookie}" in (request.headers.get("Cookie") or ""):
            name = request.path.rpartition("/")[2]
            if self.content(name) is None:
                return Answer(404, b"not here")
            when = str(next(self._moments))
            signature = urlencode({"X-Amz-Date": when, "X-Amz-Signature": self._signature(name, when)})
            return Answer(303, b"", {"Location": f"https://{self.STORAGE}/{name}?{signature}"})
        back = urlencode({"redirect_uri": f"https://{self.DATA}/login", "state": request.target})
        where = f"https://{self.LOGIN}/oauth/authorize?client_id={self.CLIENT}&response_type=code&{back}"
        return Answer(302, b"", {"Location": where})

    def _login(self, request: Request) -> Answer:
        word = base64.b64encode(f"{self.user}:{self.password}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {word}":
            return Answer(401, b"<html>Log in</html>", {"WWW-Authenticate": "Basic", "Content-Type": "text/html"})
        query = dict(parse_qsl(urlsplit(request.target).query))
        back = f"{query['redirect_uri']}?code={self.code}&state={quote(query['state'])}"
        return Answer(302, b"", {"Location": back})

    def _storage(self, request: Request) -> Answer:
        if request.headers.get("Authorization"):
            return Answer(400, b"<Error>Only one auth mechanism allowed</Error>", {"Content-Type": "application/xml"})
        name = request.path.lstrip("/")
        if request.method == "HEAD" or not self._valid(request, name):
            return Answer(403, b"<Error>SignatureDoesNotMatch</Error>", {"Content-Type": "application/xml"})
        content = self.content(name)
        return Answer(404) if content is None else file_answer(request, content)

    def _valid(self, request: Request, name: str) -> bool:
        return request.query.get("X-Amz-Signature") == self._signature(name, request.query.get("X-Amz-Date", ""))

    def _signature(self, name: str, when: str) -> str:
        return hashlib.sha256(f"{self.key}{name}{when}".encode()).hexdigest()

    @property
    def secrets(self) -> tuple[str, ...]:
        """What must be found nowhere."""
        return self.password, self.token, self.cookie, self.code, self.key

    def netrc(self, path: Path) -> Path:
        """Write user and password where a client looks for them."""
        path.write_text(f"machine {self.LOGIN} login {self.user} password {self.password}\n")
        path.chmod(0o600)
        return path


def truncated(answer: Answer) -> Answer:
    """A fault: the server thinks that the file is shorter."""
    half = answer.body[: len(answer.body) // 2]
    return replace(answer, body=half, headers={**answer.headers, "Content-Length": str(len(half))})
