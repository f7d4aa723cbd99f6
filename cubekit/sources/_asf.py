"""Searches at ASF by its own client, asf_search, made whole: nothing lost silently, nothing sent but the search."""

from __future__ import annotations

import copy
import io
import json
import logging
from collections.abc import Mapping
from typing import Any

import asf_search
import requests
from asf_search.search.search_generator import as_ASFProduct

from cubekit import __version__
from cubekit.errors import SourceError
from cubekit.sources import _http

# The client posts failed searches to ASF, without a timeout: offline that hides the real error.
asf_search.REPORT_ERRORS = False

logger = logging.getLogger(__name__)

# What the client's parser raises at a granule that lacks what it takes for granted.
_UNPARSED = (KeyError, TypeError, IndexError, ValueError, AttributeError)


class _Session(asf_search.ASFSession):  # type: ignore[misc]  # the client has no types
    """One search's session: waits longer than the client, hands it only granules that it can read."""

    def __init__(self) -> None:
        super().__init__()
        # The client takes a session for its default one when headers, cookies and login are the same.
        self.headers["User-Agent"] += f"; cubekit/{__version__}"
        self.left_out: dict[str, str] = {}
        self._unread = 0
        _http.watch(self)

    def request(self, *arguments: Any, **options: Any) -> requests.Response:
        options["timeout"] = _http.SEARCH_TIMEOUT
        return self._readable(super().request(*arguments, **options))

    def _readable(self, response: requests.Response) -> requests.Response:
        """The answer without granules that would end the whole search; its count says so."""
        if "umm_json" not in str(response.url) or response.status_code != 200:
            return response
        answer = response.json()
        if not isinstance(answer, dict) or not {"items", "hits"} <= answer.keys():
            raise _http.unusable(response, "answers without granules and their count")
        kept = []
        for item in answer["items"]:
            readable = self._checked(item)
            if isinstance(readable, str):
                self._unread += 1
                self.left_out[_name(item, self._unread)] = readable
            else:
                kept.append(readable)
        return _replaced(response, {**answer, "items": kept, "hits": answer["hits"] - self._unread})

    def _checked(self, item: dict[str, Any]) -> dict[str, Any] | str:
        """A granule that the client can read, mended if need be, or why it can't."""
        problem = ""
        for mend in (dict, _mended):
            try:
                readable = mend(item)
                as_ASFProduct(readable, session=self)
            except _UNPARSED as error:
                problem = f"its metadata can't be read ({type(error).__name__}: {error})"
            else:
                return readable
        return problem


def _name(item: Any, number: int) -> str:
    try:
        return str(item["umm"].get("GranuleUR") or item["meta"]["native-id"])
    except _UNPARSED:
        return f"granule without a name, {number}"


def _mended(item: dict[str, Any]) -> dict[str, Any]:
    """With the sizes that are missing: they matter to downloads only, which ask the server."""
    mended = copy.deepcopy(item)
    granule = mended.get("umm", {}).setdefault("DataGranule", {})
    files = granule.get("ArchiveAndDistributionInformation") or []
    granule["ArchiveAndDistributionInformation"] = [
        {"SizeInBytes": None, "Format": None, **file} for file in files if "Name" in file
    ]
    return mended


def _replaced(response: requests.Response, answer: object) -> requests.Response:
    body = json.dumps(answer).encode()
    replaced = requests.Response()
    replaced.status_code, replaced.url, replaced.request = response.status_code, response.url, response.request
    replaced.headers = response.headers.copy()
    for header in ("Content-Length", "Content-Encoding", "Transfer-Encoding"):
        replaced.headers.pop(header, None)
    replaced.encoding, replaced.raw = "utf-8", io.BytesIO(body)
    return replaced


def search(options: Mapping[str, Any], *, what: str) -> tuple[dict[str, asf_search.ASFProduct], dict[str, str]]:
    """Ask for granules, all of them.

    Parameters
    ----------
    options
        Of `asf_search.ASFSearchOptions`. One value each: the client answers lists by several searches, and tells only
        of the last one whether it was complete.
    what
        What is searched, for messages.

    Returns
    -------
    tuple of dict
        Products by their file id, each once, and the reasons of those that the client can't read, by name.

    Raises
    ------
    SourceError
        When the service refuses the search, or can't be had after several attempts.
    """

    def ask() -> tuple[dict[str, asf_search.ASFProduct], dict[str, str]]:
        # A fresh one each time: a search that was left early leaves its place in the session.
        session = _Session()
        try:
            found = asf_search.search(opts=asf_search.ASFSearchOptions(**options, session=session))
            found.raise_if_incomplete()
        except asf_search.ASFSearch4xxError as error:
            msg = f"{what} is refused: {error}"
            raise SourceError(msg) from None
        return {product.properties["fileID"]: product for product in found}, session.left_out

    return _http.retrying(ask, what=what, transient=(asf_search.ASFSearchError,))
