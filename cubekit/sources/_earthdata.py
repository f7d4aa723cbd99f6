"""Earthdata login: from `.netrc` or the environment only, given to the hosts it is for, and shown nowhere."""

from __future__ import annotations

import netrc
import os
import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from cubekit.errors import ConfigError
from cubekit.sources import _http
from cubekit.sources._addresses import keep_gdal_discreet, place, trusted

TOKEN = "EARTHDATA_TOKEN"
"""Environment variable that holds a token of Earthdata Login."""

LOGIN_HOST = "urs.earthdata.nasa.gov"
"""The machine in `.netrc` that holds user and password."""

FORGETTING = {"CPL_VSIL_CURL_NON_CACHED": "/vsicurl/"}
"""Option of GDAL for what is tried again: else it remembers, as long as the process lives, that an address failed, and
doesn't ask it."""

_REDIRECTS = 10
_TOKEN = re.compile(r"[A-Za-z0-9._~+/=-]+")


def credentials() -> str | None:
    """Where a login was found: ``EARTHDATA_TOKEN``, ``.netrc`` or None. Not whether it is valid.

    Raises
    ------
    ConfigError
        When the variable holds something that can't be a token, or .netrc is not text.
    """
    if _token():
        return TOKEN
    try:
        entry = netrc.netrc(str(_netrc_file())).authenticators(LOGIN_HOST)
    except (OSError, netrc.NetrcParseError):
        return None
    except UnicodeDecodeError:  # which requests would fall over, too
        msg = f"{_netrc_file()} is not text (nothing of it is shown); write it anew"
        raise ConfigError(msg) from None
    return ".netrc" if entry else None


class _Session(requests.Session):
    """Gives the token to trusted hosts, also after redirects; user and password of `.netrc` go where requests says."""

    def __init__(self, token: str | None) -> None:
        super().__init__()
        self._token = token

    def prepare_request(self, request: requests.Request) -> requests.PreparedRequest:
        prepared = super().prepare_request(request)
        self._sign(prepared)
        return prepared

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        super().rebuild_auth(prepared_request, response)
        self._sign(prepared_request)

    def _sign(self, prepared: requests.PreparedRequest) -> None:
        url = str(prepared.url)
        if self._token and trusted(url) and urlsplit(url).hostname != LOGIN_HOST:
            prepared.headers["Authorization"] = f"Bearer {self._token}"


def session() -> requests.Session:
    """Make a session for downloads, logged in with what `credentials` finds.

    Raises
    ------
    ConfigError
        When the variable holds something that can't be a token.

    Notes
    -----
    Nothing is asked here. A password from `.netrc` is sent when Earthdata Login asks for it, the cookie it answers
    with is kept in memory.
    """
    return _Session(_token())


def direct(url: str) -> str:
    """Where a file of a trusted host can be read without login: the signed address that the archive redirects to.

    Parameters
    ----------
    url
        Address of the file in the archive's catalogue.

    Returns
    -------
    str
        A secret that is good for about an hour: for reading, not for keeping or showing. `url` itself where the host
        is not `trusted`, or does not redirect.

    Raises
    ------
    SourceError
        When the archive refuses, or can't be had after several attempts.

    Notes
    -----
    GDAL could follow the redirects itself, but curl takes token and password along to hosts they are not for (which
    storage then refuses), and logs in again for every range of bytes. Here a process logs in once.
    """
    if not trusted(url):
        return url
    name = place(url).rpartition("/")[2]
    return _http.retrying(lambda: _redirected(url), what=f"the login for {name}")


def _redirected(url: str) -> str:
    session = _shared(_token(), str(_netrc_file()))
    answer = session.get(url, allow_redirects=False, stream=True, timeout=_http.TIMEOUT)
    for _ in range(_REDIRECTS):
        answer.close()
        following = answer.next
        if following is None:
            if answer.status_code != 200:
                raise _http.refusal(answer)
            _http.refuse_web_page(answer)
            return url
        address = str(following.url)
        if not trusted(address):
            return address
        settings = session.merge_environment_settings(address, {}, True, None, None)
        answer = session.send(following, allow_redirects=False, timeout=_http.TIMEOUT, **settings)
    raise requests.TooManyRedirects(request=answer.request)


@cache
def _shared(token: str | None, _netrc: str) -> requests.Session:
    """One session a process, for its cookies: logging in takes three requests."""
    return _Session(token)


def gdal_options(hrefs: Iterable[str]) -> dict[str, Any]:
    """Options with which GDAL reads these files in place: with few bytes, and tried again.

    Parameters
    ----------
    hrefs
        Paths or addresses.

    Returns
    -------
    dict
        For `rasterio.Env`; empty when all files are local. Holds no secret.
    """
    if not any(href.startswith(("http://", "https://")) for href in hrefs):
        return {}
    keep_gdal_discreet()
    options: dict[str, Any] = {
        # Ask for no neighbours of the file, which may be worth as many requests as the file itself.
        "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
        # The blocks of a window that lie side by side in one request.
        "GDAL_HTTP_MERGE_CONSECUTIVE_RANGES": "YES",
        "GDAL_HTTP_MULTIRANGE": "YES",
        "GDAL_HTTP_MAX_RETRY": 2,  # the whole is tried again, too
        "GDAL_HTTP_RETRY_DELAY": _http.WAIT,
        "GDAL_HTTP_CONNECTTIMEOUT": int(_http.TIMEOUT[0]),
        "GDAL_HTTP_LOW_SPEED_LIMIT": 1,  # bytes a second
        "GDAL_HTTP_LOW_SPEED_TIME": int(_http.TIMEOUT[1]),
    }
    # rasterio brings certificates of its own, and would refuse a proxy that requests was told to trust.
    if bundle := os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"):
        options["GDAL_CURL_CA_BUNDLE"] = bundle
    return options


def _token() -> str | None:
    token = os.environ.get(TOKEN, "").strip()
    if not token:
        return None
    if not _TOKEN.fullmatch(token):
        msg = f"{TOKEN} holds characters that no token has (its value is not shown); copy the token again"
        raise ConfigError(msg)
    return token


def _netrc_file() -> Path:
    return Path(os.environ.get("NETRC") or Path.home() / ".netrc")
