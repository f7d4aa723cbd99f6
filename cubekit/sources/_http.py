"""Talking to archives: what the clients let through is tried again, and files arrive whole or not at all.

Notes
-----
Messages tell host and path of an address, never its query, headers or body: a signed query is a secret.
"""

from __future__ import annotations

import hashlib
import logging
import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from glob import escape
from pathlib import Path
from typing import TypeVar

import filelock
import requests

from cubekit.errors import ConfigError, SourceError
from cubekit.sources._addresses import place, trusted

logger = logging.getLogger(__name__)

ATTEMPTS = 5
"""How often a request is made before it is given up."""

WAIT = 1.0
"""Seconds before the second attempt; each later wait is twice as long."""

LONGEST_WAIT = 300.0
"""A service that asks for a longer wait (``Retry-After``) is not waited for, seconds."""

TIMEOUT = (15.0, 60.0)
"""To connect, and between two bytes of an answer, seconds."""

SEARCH_TIMEOUT = (15.0, 180.0)
"""The same for NASA's catalogue, which may take 170 seconds to answer what a polygon holds."""

PARALLEL = 4
"""Files that are downloaded at a time."""

_PASSING = frozenset({408, 425, 429})
_LOGIN = frozenset({401, 403})
_PIECE = 1 << 16  # when an answer breaks off, so much of it is lost at most

Result = TypeVar("Result")


class _Refusal(SourceError):
    """An answer that holds nothing of use; `passing` when the next one may."""

    def __init__(self, message: str, *, passing: bool, wait: float | None = None) -> None:
        super().__init__(message)
        self.passing, self.wait = passing, wait


@dataclass(frozen=True)
class RemoteFile:
    """A file of an archive, where it is to be put, and how many bytes it has when that is known."""

    url: str
    path: Path
    size: int | None = None


def watch(session: requests.Session) -> None:
    """Let a session raise on answers that `retrying` understands, before the client it is given to misreads them.

    Parameters
    ----------
    session
        A session of `requests`, or of a client's class derived from it. 408, 425, 429, 5xx, and errors of any kind that
        are web pages raise here; a client's own refusals (4xx with JSON) are left to the client.
    """
    session.hooks["response"].append(_judge)


def _judge(response: requests.Response, *_: object, **__: object) -> None:
    status = response.status_code
    if status >= 500 or status in _PASSING or (status >= 400 and "json" not in _content_type(response)):
        response.close()  # nobody else will: who asked gets an error in its place
        raise refusal(response)


def refusal(response: requests.Response) -> _Refusal:
    """What an answer that is an error means."""
    status, where = response.status_code, place(response.url)
    what = f"{where} answers {status} {response.reason or ''}".rstrip()
    if status in _LOGIN:
        if trusted(response.url):
            what += "; log in to Earthdata (.netrc or EARTHDATA_TOKEN), and accept the terms of this archive there"
        else:
            what += "; it lets nobody in without a login or right of its own, and cubekit has none for it"
    # 202: it is still being made.
    return _Refusal(what, passing=status >= 500 or status in _PASSING | {202}, wait=_retry_after(response))


def unusable(response: requests.Response, why: str) -> _Refusal:
    """An answer that looks right and isn't; the next one may be."""
    return _Refusal(f"{place(response.url)} {why}", passing=True, wait=_retry_after(response))


def retrying(call: Callable[[], Result], *, what: str, transient: tuple[type[Exception], ...] = ()) -> Result:
    """Call a service, and call it again when it fails in a way that may pass.

    Parameters
    ----------
    call
        The request, whole: what it began is thrown away.
    what
        What is being done, for the message: "the search for OPERA granules of tsho_rolpa".
    transient
        Errors of the client's own that may pass.

    Returns
    -------
    object
        What `call` returns.

    Raises
    ------
    SourceError
        After `ATTEMPTS` attempts, when the service asks for a longer wait than `LONGEST_WAIT`, or at once when the
        failure will stay.
    ConfigError
        When .netrc, which requests reads, is not text.

    Notes
    -----
    Tried again: no connection, timeouts, broken answers, web pages in place of JSON, 408, 425, 429 and 5xx. Waits for
    what ``Retry-After`` says, else 1, 2, 4, 8 s. The original error isn't chained: its text may hold a signed address.

    Examples
    --------
    >>> retrying(lambda: 7, what="the count")
    7
    """
    understood: tuple[type[Exception], ...] = (_Refusal, requests.RequestException, *transient)
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return call()
        except UnicodeDecodeError:  # requests looks into it at every request
            msg = f"{what} failed: .netrc is not text (nothing of it is shown); write it anew"
            raise ConfigError(msg) from None
        except understood as error:
            failure = _understood(error)
        if not failure.passing:
            msg = f"{what} failed: {failure}"
            raise SourceError(msg)
        wait = WAIT * 2 ** (attempt - 1) if failure.wait is None else failure.wait
        if wait > LONGEST_WAIT:
            msg = f"{what} failed: {failure}, and asks to wait {wait:.0f} s; try again then"
            raise SourceError(msg)
        if attempt < ATTEMPTS:
            logger.warning("%s: %s; attempt %d of %d in %.1f s", what, failure, attempt + 1, ATTEMPTS, wait)
            time.sleep(wait)
    msg = f"{what} failed {ATTEMPTS} times, last: {failure}; nothing was lost, try again later"
    raise SourceError(msg)


def _understood(error: Exception) -> _Refusal:
    """Any error of a request as a refusal, without the address's query."""
    if isinstance(error, _Refusal):
        return error
    response = getattr(error, "response", None)
    if isinstance(error, requests.HTTPError) and response is not None:
        return refusal(response)
    request = getattr(error, "request", None)
    where = place(str(request.url)) if request is not None and request.url else "the service"
    if isinstance(error, requests.exceptions.SSLError) and "CERTIFICATE_VERIFY_FAILED" not in str(error):
        return _Refusal(f"the connection to {where} broke off", passing=True)
    for kind, text, passing in (
        (requests.exceptions.SSLError, "the certificate of {} is not trusted", False),
        (requests.exceptions.ConnectTimeout, "no connection to {} in time", True),
        (requests.exceptions.Timeout, "no answer from {} in time", True),
        (requests.exceptions.ChunkedEncodingError, "the answer from {} broke off", True),
        (requests.exceptions.ContentDecodingError, "the answer from {} is garbled", True),
        (requests.exceptions.JSONDecodeError, "{} answers something else than JSON", True),
        (requests.exceptions.ConnectionError, "no connection to {}", True),
        (requests.exceptions.TooManyRedirects, "{} sends round in a circle, as when a login isn't accepted", False),
        (requests.exceptions.RequestException, "{} can't be asked (" + type(error).__name__ + ")", False),
    ):
        if isinstance(error, kind):
            return _Refusal(text.format(where), passing=passing)
    return _Refusal(str(error).splitlines()[0] if str(error) else type(error).__name__, passing=True)


def refuse_web_page(answer: requests.Response) -> None:
    """Raise when a page for people comes where a file was asked for."""
    if "text/html" in _content_type(answer):
        msg = f"{place(answer.url)} gives a web page instead of a file"
        msg += ", as when nobody is logged in to Earthdata" if trusted(answer.url) else ""
        raise _Refusal(msg, passing=False)


def _retry_after(response: requests.Response) -> float | None:
    value = response.headers.get("Retry-After", "")
    if value.isdigit():
        return float(value)
    with suppress(TypeError, ValueError):
        then = parsedate_to_datetime(value)
        return max(0.0, ((then if then.tzinfo else then.replace(tzinfo=UTC)) - datetime.now(UTC)).total_seconds())
    return None


def _content_type(response: requests.Response) -> str:
    return response.headers.get("Content-Type", "").lower()


def download(url: str, path: Path, *, session: requests.Session, size: int | None = None) -> Path:
    """Download one file: under another name until it is complete, going on where an earlier attempt stopped.

    Parameters
    ----------
    url
        Its address.
    path
        Where it is to be. Missing folders are made. A file that is there and has `size` (or any, when that isn't
        known) is kept.
    session
        Logged in where the archive asks for it.
    size
        Bytes it must have, when the archive tells; else what the answer's header says is asked for.

    Returns
    -------
    pathlib.Path
        `path`.

    Raises
    ------
    SourceError
        When it can't be had, is not of the right size, or a web page comes in its place. What has arrived so far
        stays under its other name, hidden beside `path`, for the next call.

    Notes
    -----
    Not more than one process may download into a folder: `download_all` sees to that.
    """
    if path.is_file() and (size is None or path.stat().st_size == size):
        return path
    _make(path.parent)
    part: Path = retrying(lambda: _fetch(url, path, session, size), what=f"the download of {path.name}")
    part.replace(path)
    return path


def download_all(files: Iterable[RemoteFile], *, session: requests.Session) -> dict[Path, str]:
    """Download files, a few at a time; what fails does not end the others.

    Parameters
    ----------
    files
        What to download; those that are there already cost nothing.
    session
        As in `download`.

    Returns
    -------
    dict of Path to str
        Those that could not be had, with the reason.

    Raises
    ------
    SourceError
        When another process is downloading into one of the folders.
    """
    files = list(files)
    locks = [_lock(folder) for folder in sorted({file.path.parent for file in files})]
    failed: dict[Path, str] = {}

    def fetch(file: RemoteFile) -> None:
        try:
            download(file.url, file.path, session=session, size=file.size)
        except SourceError as error:
            failed[file.path] = str(error)

    try:
        with ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(fetch, files))
    finally:
        for lock in locks:
            lock.release()
    return failed


def _make(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        msg = f"folder {folder} can't be made ({error.strerror}); give another one"
        raise SourceError(msg) from None


def _lock(folder: Path) -> filelock.BaseFileLock:
    _make(folder)
    lock = filelock.FileLock(folder / ".downloads.lock", timeout=0, thread_local=False)
    try:
        lock.acquire()
    except filelock.Timeout:
        msg = f"another process is downloading into {folder}; let it finish, or give another folder"
        raise SourceError(msg) from None
    return lock


def _fetch(url: str, path: Path, session: requests.Session, size: int | None) -> Path:
    """One attempt; returns the complete file under its temporary name.

    That name holds what the server calls this version of the file (its ETag or date, and the size): pieces of two
    versions are never joined.
    """
    parts = sorted(path.parent.glob(f".{escape(path.name)}.*.part"))
    have = parts[0].stat().st_size if parts else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    with session.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        if answer.status_code == 416:  # more is here than there
            _discard(parts)
            msg = f"{place(url)} has fewer bytes than have arrived"
            raise _Refusal(msg, passing=True, wait=0)
        if answer.status_code not in {200, 206}:
            raise refusal(answer)
        refuse_web_page(answer)
        start, total = _extent(answer)
        if size is not None and total is not None and total != size:
            msg = f"{place(url)} has {total} bytes, the archive says {size}"
            raise _Refusal(msg, passing=False)
        part = path.with_name(f".{path.name}.{_version(answer, total)}.part")
        if start not in {0, have} or (start and part not in parts):
            _discard(parts)
            msg = f"{place(url)} has another version than the one that has arrived in part"
            raise _Refusal(msg, passing=True, wait=0)
        _discard(other for other in parts if other != part)
        _write(answer, part, start)
    expected, arrived = size if size is not None else total, part.stat().st_size
    if expected is not None and arrived != expected:
        if arrived > expected:
            _discard([part])
        msg = f"{arrived} of {expected} bytes of {place(url)} arrived"
        raise _Refusal(msg, passing=True)
    return part


def _write(answer: requests.Response, part: Path, start: int) -> None:
    try:
        with part.open("ab" if start else "wb") as file:
            try:
                for piece in answer.iter_content(_PIECE):
                    file.write(piece)
            finally:
                file.flush()
                os.fsync(file.fileno())
    except requests.RequestException:  # is an OSError, too
        raise
    except OSError as error:
        msg = f"{part.parent} can't be written to: {error.strerror}"
        raise _Refusal(msg, passing=False) from None


def _extent(answer: requests.Response) -> tuple[int, int | None]:
    """First byte and total size of what is coming."""
    if answer.status_code == 206:
        span, _, total = answer.headers.get("Content-Range", "").removeprefix("bytes ").partition("/")
        first = span.partition("-")[0]
        if not first.isdigit():
            msg = f"{place(answer.url)} does not say which bytes it sends"
            raise _Refusal(msg, passing=False)
        return int(first), int(total) if total.isdigit() else None
    length = answer.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() else None


def _version(answer: requests.Response, total: int | None) -> str:
    tag = answer.headers.get("ETag") or answer.headers.get("Last-Modified") or ""
    return hashlib.sha256(f"{tag} {total}".encode()).hexdigest()[:12]


def _discard(parts: Iterable[Path]) -> None:
    for part in parts:
        part.unlink(missing_ok=True)
