"""Answers that are made once and sent often: whole, compressed, in part, or not at all when they are known already."""

from __future__ import annotations

import gzip
import hashlib
import re
import time
from collections.abc import Mapping
from datetime import UTC, datetime
from email.utils import format_datetime, parsedate_to_datetime
from typing import Any, NamedTuple

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from cubekit import __version__

SENT = "cubekit.sent"
"""Key of a request's scope: a list that gets the answer that was sent."""

PROBLEM = "application/problem+json"

SECURITY = {
    "x-content-type-options": "nosniff",
    "x-frame-options": "DENY",
    "referrer-policy": "no-referrer",
    "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
}
"""Headers of every answer; the page has a policy of its own."""

_LEAST = 860  # a packet holds as much anyhow
_LEVEL = 6
_TEXTS = ("text/", "application/json", "application/geo+json", PROBLEM, "application/cap+xml", "image/svg+xml")
_RANGE = re.compile(r"bytes=(\d{0,15})-(\d{0,15})")
_NO_GZIP = re.compile(rb"gzip\s*;\s*q=0(\.0*)?\s*(,|$)")

Headers = list[tuple[bytes, bytes]]


class Reply(NamedTuple):
    """What goes over the wire."""

    status: int
    headers: Headers
    body: bytes


def tag_of(*parts: object, strong: bool = False) -> str:
    """The ETag of what was made of these, by this version of cubekit.

    Examples
    --------
    >>> tag_of("one", 1) == tag_of("one", 1) != tag_of("one", 2)
    True
    """
    text = "\x1f".join(str(part) for part in (__version__, *parts))
    digest = hashlib.sha256(text.encode()).hexdigest()[:24]
    return f'"{digest}"' if strong else f'W/"{digest}"'


class Answer(Response):
    """A whole answer. It doesn't change, so it can be sent to many, at the same time.

    Parameters
    ----------
    body
        All of it.
    media_type
        Of the body; None with an empty one.
    tag
        From `tag_of`.
    modified
        When what it tells of came to be known.
    headers
        Further ones.
    ranges
        Whether parts may be asked for.
    route
        That it is counted under, where no route makes it.
    """

    def __init__(
        self,
        body: bytes,
        media_type: str | None,
        *,
        tag: str,
        modified: datetime | None = None,
        headers: Mapping[str, str] | None = None,
        ranges: bool = False,
        route: str = "",
    ) -> None:
        self.status_code = 200 if media_type is not None else 204
        self.media_type, self.background = media_type, None
        self.body, self.tag, self.ranges = body, tag, ranges
        self.modified = None if modified is None else int(modified.timestamp())
        self.stamp = b"" if modified is None else _http_date(modified)
        self.route = route
        compressed = b""
        if media_type is not None and media_type.startswith(_TEXTS) and len(body) > _LEAST:
            compressed = gzip.compress(body, _LEVEL, mtime=0)
        self.gzipped = compressed if 0 < len(compressed) < len(body) else b""
        base = {"etag": tag, "cache-control": "no-cache", **SECURITY, **(headers or {})}
        if self.gzipped:
            base["vary"] = "Accept-Encoding"
        if ranges:
            base["accept-ranges"] = "bytes"
        self._base = _encoded(base)
        self._typed = self._base if media_type is None else [*self._base, (b"content-type", media_type.encode())]
        self.raw_headers = self._typed

    @property
    def size(self) -> int:
        """Bytes that it takes, about."""
        return len(self.body) + len(self.gzipped) + 2048

    def reply(self, asked: Mapping[bytes, bytes]) -> Reply:
        """Choose what to send.

        Parameters
        ----------
        asked
            Headers of the request, lower case.
        """
        date: Headers = []
        # Not before its second is over: two releases of one second would have one date.
        if self.modified is not None and self.modified < int(time.time()):
            date = [(b"last-modified", self.stamp)]
        if self._is_known(asked, dated=bool(date)):
            return Reply(304, [*self._base, *date], b"")
        if self.status_code == 204:
            return Reply(204, [*self._base, *date], b"")
        if (
            self.ranges
            and b"range" in asked
            and asked.get(b"if-range", self.tag.encode())
            in {
                self.tag.encode(),
                self.stamp if date else b"",
            }
        ):
            part = self._part(asked[b"range"].decode("latin-1"))
            if part is not None:
                return Reply(part.status, [*part.headers, *date], part.body)
        if self.gzipped and accepts_gzip(asked.get(b"accept-encoding", b"")):
            length = str(len(self.gzipped)).encode()
            encoded = [(b"content-encoding", b"gzip"), (b"content-length", length)]
            return Reply(200, [*self._typed, *encoded, *date], self.gzipped)
        return Reply(200, [*self._typed, (b"content-length", str(len(self.body)).encode()), *date], bytes(self.body))

    def _is_known(self, asked: Mapping[bytes, bytes], *, dated: bool) -> bool:
        if b"if-none-match" in asked:
            return is_known(asked[b"if-none-match"].decode("latin-1"), self.tag)
        if dated and self.modified is not None and b"if-modified-since" in asked:
            try:
                since = parsedate_to_datetime(asked[b"if-modified-since"].decode("latin-1"))
                return self.modified <= since.timestamp()
            except (ValueError, OverflowError):
                return False  # what is no date is passed over, says RFC 9110
        return False

    def _part(self, wanted: str) -> Reply | None:
        """One part; several, or what is no range, get the whole."""
        found = _RANGE.fullmatch(wanted.strip())
        if found is None or not any(found.groups()):
            return None
        first, last = found.groups()
        length = len(self.body)
        start = int(first) if first else max(length - int(last), 0)
        end = min(int(last), length - 1) if first and last else length - 1
        if first and last and int(last) < int(first):
            return None
        if start >= length or (not first and not int(last)):
            problem = b'{"type":"about:blank","title":"Range Not Satisfiable","status":416}'
            headers = [*self._base, (b"content-type", PROBLEM.encode())]
            headers += [(b"content-range", b"bytes */%d" % length), (b"content-length", b"%d" % len(problem))]
            return Reply(416, headers, problem)
        body = bytes(self.body[start : end + 1])
        headers = [*self._typed, (b"content-range", b"bytes %d-%d/%d" % (start, end, length))]
        return Reply(206, [*headers, (b"content-length", b"%d" % len(body))], body)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        """Send what the request asks for."""
        if SENT in scope:
            scope[SENT].append(self)
        status, headers, body = self.reply(dict(scope["headers"]))
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})


def is_known(given: str, tag: str) -> bool:
    """Whether an ETag is among those of If-None-Match, compared weakly.

    Examples
    --------
    >>> is_known('"a", W/"b"', '"b"'), is_known('"c"', 'W/"b"'), is_known("*", '"b"')
    (True, False, True)
    """
    bare = tag.removeprefix("W/")
    return given.strip() == "*" or any(one.strip().removeprefix("W/") == bare for one in given.split(","))


def accepts_gzip(accepted: bytes) -> bool:
    """Whether a client takes gzip.

    Examples
    --------
    >>> accepts_gzip(b"br, gzip"), accepts_gzip(b"gzip;q=0"), accepts_gzip(b"")
    (True, False, False)
    """
    return b"gzip" in accepted and not _NO_GZIP.search(accepted)


def _http_date(moment: datetime) -> bytes:
    return format_datetime(moment.astimezone(UTC).replace(microsecond=0), usegmt=True).encode()


def _encoded(headers: Mapping[str, Any]) -> Headers:
    return [(name.encode("latin-1"), str(value).encode("latin-1")) for name, value in headers.items()]
