"""pystac-client's requests, with the patience that all archives are met with."""

from __future__ import annotations

import json
from typing import Any

import requests
from pystac_client.exceptions import APIError
from pystac_client.stac_api_io import StacApiIO

from cubekit.errors import SourceError
from cubekit.sources._http import retrying, watch


def patient_io(what: str) -> StacApiIO:
    """What makes pystac-client's requests, each repeated when it fails in a way that may pass.

    Parameters
    ----------
    what
        What is being done, for messages.
    """
    made = _PatientIO(max_retries=None)
    made.what = what
    watch(made.session)
    return made


class _PatientIO(StacApiIO):
    what = "the search"

    def request(
        self,
        href: str,
        method: str | None = None,
        headers: dict[str, str] | None = None,
        parameters: dict[str, Any] | None = None,
    ) -> str:
        """Make a request; SourceError when it fails for good, APIError when the service refuses it."""
        return retrying(lambda: self._once(href, method, headers, parameters), what=self.what)

    def _once(
        self, href: str, method: str | None, headers: dict[str, str] | None, parameters: dict[str, Any] | None
    ) -> str:
        try:
            text = str(super().request(href, method, headers, parameters))
        except APIError as error:
            cause = error.__context__  # pystac-client keeps its text only
            if isinstance(cause, SourceError | requests.RequestException):
                raise cause from None
            raise
        try:
            json.loads(text)
        except ValueError:
            raise requests.exceptions.JSONDecodeError("not JSON", "", 0) from None
        return text
