"""What stands before the routes: answers that are ready are sent from here, and every answer is safe and counted."""

from __future__ import annotations

import logging
import sqlite3
import time
from collections.abc import Mapping
from typing import NamedTuple

from sqlalchemy.exc import DBAPIError
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from cubekit.service._api_answer import SECURITY, SENT, Answer
from cubekit.service._api_cache import Answers, Recent
from cubekit.service._api_live import Live
from cubekit.service._api_metrics import Meters
from cubekit.service._api_problems import problem

logger = logging.getLogger("cubekit.service")

LONGEST_PATH, LONGEST_QUERY, LONGEST_HEADERS = 512, 1024, 16 * 1024
"""Bytes of what is listened to."""

REQUESTS = 4096
"""Requests whose answers are known."""

_SAFE = [(name.encode(), value.encode()) for name, value in SECURITY.items()]
_NAMES = {name for name, _ in _SAFE}


class Known(NamedTuple):
    """What a request was answered with."""

    version: int
    tag: str
    route: str


class Front:
    """Middleware of the app.

    Parameters
    ----------
    app
        The routes.
    live, answers, meters
        Of the service.
    fixed
        Answers that never change, by their paths.
    """

    def __init__(
        self, app: ASGIApp, *, live: Live, answers: Answers, meters: Meters, fixed: Mapping[str, Answer]
    ) -> None:
        self._app, self._live, self._answers, self._meters, self._fixed = app, live, answers, meters, fixed
        self._known: Recent[tuple[bytes, bytes], Known] = Recent(REQUESTS)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started, method = time.perf_counter(), scope["method"]
        seen = _Seen(send, bare=method == "HEAD")
        if method == "HEAD":  # it is a GET whose body is kept back
            scope = {**scope, "method": "GET"}
        route = ""
        try:
            ready, route = self._ready(scope)
            if ready is not None:
                await ready(scope, receive, seen.send)
            else:
                route = await self._asked(scope, receive, seen.send)
        except Exception:
            logger.exception("%s could not be answered", scope["path"])
            if seen.status:
                raise  # half of it is sent: all that is left is to break off
            await problem(500, "the service failed; it was written down")(scope, receive, seen.send)
        finally:
            known = method if method in {"GET", "HEAD", "POST"} else "other"
            self._meters.count(known, route or "none", seen.status or 500, time.perf_counter() - started)

    def _ready(self, scope: Scope) -> tuple[Response | None, str]:
        """An answer that needs no route, and the route that made it."""
        path, query, size = _raw(scope), scope["query_string"], sum(len(a) + len(b) for a, b in scope["headers"])
        if len(path) > LONGEST_PATH or len(query) > LONGEST_QUERY:
            return problem(414, f"an address has {LONGEST_PATH} bytes at most, and {LONGEST_QUERY} after the ?"), ""
        if size > LONGEST_HEADERS:
            return problem(431, f"headers have {LONGEST_HEADERS} bytes at most, together"), ""
        if scope["method"] != "GET":
            return None, ""
        if (fixed := self._fixed.get(scope["path"])) is not None:
            return fixed, fixed.route
        known = self._known.get((path, query))
        if known is None or known.version != self._version():
            return None, ""
        return self._answers.get(known.tag), known.route

    async def _asked(self, scope: Scope, receive: Receive, send: Send) -> str:
        version = self._version()
        sent: list[Answer] = []
        scope[SENT] = sent
        await self._app(scope, receive, send)
        route = str(getattr(scope.get("route"), "path", ""))
        # What is newer than the version is asked for again, never the other way round.
        if sent and version is not None and scope["method"] == "GET":
            self._known.put((_raw(scope), scope["query_string"]), Known(version, sent[0].tag, route))
        return route

    def _version(self) -> int | None:
        try:
            return self._live.view().version
        except (sqlite3.Error, DBAPIError):
            return None  # the route says so


class _Seen:
    """What is sent, on its way: its status is noted, what is lacking of `SECURITY` is added."""

    def __init__(self, send: Send, *, bare: bool) -> None:
        self._send, self._bare, self.status = send, bare, 0

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            headers = message["headers"]
            there = {name for name, _ in headers}
            if not there >= _NAMES:
                headers = [*headers, *((name, value) for name, value in _SAFE if name not in there)]
                message = {**message, "headers": headers}
        elif self._bare:
            message = {**message, "body": b""}
        await self._send(message)


def _raw(scope: Scope) -> bytes:
    raw: bytes = scope.get("raw_path") or scope["path"].encode()
    return raw
