"""HyP3 by its own client, with timeouts, attempts, and errors that tell what to do."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import parse_qs, urlsplit

import requests
from requests.adapters import HTTPAdapter

from cubekit.errors import ConfigError, MissingExtra, SourceError
from cubekit.sources import _earthdata, _http
from cubekit.sources._addresses import place, trusted

if TYPE_CHECKING:
    from hyp3_sdk import HyP3
    from hyp3_sdk.jobs import Job

logger = logging.getLogger(__name__)

JOB = "RTC_GAMMA"
"""The service's name for radiometric terrain correction."""

DEFAULT_API = "https://hyp3-api.asf.alaska.edu"
"""HyP3 Basic; HyP3+ is at hyp3-plus.asf.alaska.edu."""

BATCH = 200
"""Jobs that the service takes at a time."""

_SHOWN = 500

Answer = TypeVar("Answer")


class Refusal(SourceError):
    """The service refuses what it was asked (4xx): nothing has come of it."""

    def __init__(self, status: int, detail: str) -> None:
        self.status, self.detail = status, detail
        shown = " ".join(detail.split())[:_SHOWN]
        if status in {401, 403}:
            shown += (
                "; look at EARTHDATA_TOKEN or the entry urs.earthdata.nasa.gov of .netrc, and at your account there"
            )
        super().__init__(f"HyP3 refuses ({status}): {shown}")


class _Patient(HTTPAdapter):
    """The client asks without timeouts."""

    def send(self, request: requests.PreparedRequest, *arguments: Any, **options: Any) -> requests.Response:
        options["timeout"] = options.get("timeout") or _http.TIMEOUT
        return super().send(request, *arguments, **options)


def _refuse(response: requests.Response, *_: object, **__: object) -> None:
    """Raise on refusals with the status, which the client drops."""
    if 400 <= response.status_code < 500:
        raise _refusal(response)


def _refusal(response: requests.Response) -> Refusal:
    try:
        detail = str(response.json()["detail"])
    except (ValueError, KeyError, TypeError):
        detail = response.reason or "no reason is given"
    return Refusal(response.status_code, detail)


@dataclass(frozen=True)
class Service:
    """HyP3 as one user sees it: everything here asks it.

    Raises
    ------
    SourceError
        By each method, when the service can't be had after several attempts, or answers in an unknown shape.
    Refusal
        By each method, when it refuses.
    """

    client: HyP3

    def jobs(self, name: str | None = None) -> list[Job]:
        """List the user's own jobs of terrain correction, newest first; all, or those of a name."""
        return _ask(lambda: list(self.client.find_jobs(name=name, job_type=JOB)), "the list of jobs at HyP3")

    def job(self, identifier: str) -> Job | None:
        """One job, or None when the service doesn't know it."""
        try:
            return _ask(lambda: self.client.get_job_by_id(identifier), "the look at a job at HyP3")
        except Refusal as refusal:
            if refusal.status == 404:
                return None
            raise

    def credits(self) -> float | None:
        """What the user has left this month; None when that is not limited."""
        left = _ask(lambda: self.client.my_info()["remaining_credits"], "the question for credits at HyP3")
        return None if left is None else float(left)

    def price(self, parameters: Mapping[str, object]) -> float:
        """Credits of one job with these parameters, by the service's own table."""
        return _ask(lambda: _price(self.client.costs(), parameters), "the price list of HyP3")

    def submit(self, jobs: Sequence[Mapping[str, Any]]) -> list[Job] | None:
        """Order jobs, at most `BATCH`. Asked once: None when it isn't known whether they were taken.

        Raises
        ------
        Refusal
            When nothing was ordered.
        """
        from hyp3_sdk.exceptions import HyP3SDKError

        try:
            return list(self.client.submit_prepared_jobs([dict(job) for job in jobs]))
        except Refusal as refusal:
            if refusal.status not in _PASSING:
                raise
            why = str(refusal)
        except (SourceError, requests.RequestException, HyP3SDKError, *_MISSHAPEN) as error:
            # Of the client's errors only the kind is told: their text may hold addresses.
            why = str(error) if isinstance(error, SourceError) else type(error).__name__
        logger.warning("an order of %d scenes is in doubt: %s", len(jobs), why)
        return None


_PASSING = frozenset({408, 409, 425, 429})
_MISSHAPEN = (KeyError, TypeError, ValueError, AttributeError, IndexError)


def connect(api: str = DEFAULT_API) -> Service:
    """Log in, with ``EARTHDATA_TOKEN`` or else `.netrc`.

    Parameters
    ----------
    api
        Address of the service: within asf.alaska.edu, over https.

    Raises
    ------
    ConfigError
        When the address is another one, which a login isn't sent to, or there is no login.
    MissingExtra
        When hyp3_sdk is not installed.
    Refusal
        When Earthdata does not accept the login.
    SourceError
        When Earthdata can't be had after several attempts.
    """
    check_address(api)
    try:
        from hyp3_sdk import HyP3
    except ModuleNotFoundError as error:
        msg = f"{error.name} is not installed; install it with: pip install 'cubekit[hyp3]'"
        raise MissingExtra(msg) from None
    login = _earthdata.credentials()
    if login is None:
        msg = (
            "HyP3 asks for an Earthdata login, and none is found; set EARTHDATA_TOKEN, or write user and password for "
            "urs.earthdata.nasa.gov into .netrc"
        )
        raise ConfigError(msg)
    token = os.environ[_earthdata.TOKEN].strip() if login == _earthdata.TOKEN else ""
    client = HyP3(api_url=api, token=token)
    if login != _earthdata.TOKEN:
        session = _http.retrying(_logged_in, what="the login to Earthdata")
        session.headers["User-Agent"] = client.session.headers["User-Agent"]
        client.session = session
    for scheme in ("https://", "http://"):
        client.session.mount(scheme, _Patient())
    _http.watch(client.session)
    client.session.hooks["response"].append(_refuse)
    return Service(client)


def _logged_in() -> requests.Session:
    """A session logged in by `.netrc`, as the client makes it; but that would wait for ever, and takes 502 for a no."""
    from hyp3_sdk.util import AUTH_URL

    session = requests.Session()
    answer = session.get(AUTH_URL, timeout=_http.TIMEOUT)
    refused = parse_qs(urlsplit(answer.url).query).get("error_msg", [])
    if answer.status_code in {401, 403} or refused:
        raise _not_accepted(refused)
    if answer.status_code >= 400:
        raise _http.refusal(answer)
    return session


def _not_accepted(reasons: Sequence[str]) -> Refusal:
    return Refusal(401, ": ".join(["Earthdata does not accept the login found in .netrc", *reasons[:1]]))


def check_address(api: str) -> None:
    """Raise ConfigError unless a login may be sent to an address."""
    if urlsplit(api).username or not trusted(api):
        msg = f"{place(api)!r} is no address of HyP3; give one like {DEFAULT_API}"
        raise ConfigError(msg)


def request(granule: str, name: str, resolution: int) -> dict[str, Any]:
    """One job as the service takes it: gamma0 in linear power, not filtered, not matched to the DEM.

    Notes
    -----
    HyP3's filter works with 60 looks at 20 m and can't be undone; matching shifts every date differently.
    """
    from hyp3_sdk import HyP3

    prepared: dict[str, Any] = HyP3.prepare_rtc_job(
        granule,
        name=name,
        resolution=resolution,
        radiometry="gamma0",
        scale="power",
        speckle_filter=False,
        dem_matching=False,
        dem_name="copernicus",
        include_dem=False,
        include_inc_map=False,
        include_rgb=False,
        include_scattering_area=False,
    )
    return prepared


_DEFAULTS = {
    "resolution": 30,
    "radiometry": "gamma0",
    "scale": "power",
    "speckle_filter": False,
    "dem_matching": False,
    "dem_name": "copernicus",
}


def serves(job: Job, wanted: Mapping[str, Any]) -> bool:
    """Whether a job makes the product that `wanted` (of `request`) would: layers that come with it don't matter."""
    given = job.job_parameters or {}
    return (
        job.job_type == JOB
        and list(given.get("granules", ())) == wanted["granules"]
        and all(given.get(name, default) == wanted[name] for name, default in _DEFAULTS.items())
    )


def _price(table: Sequence[Mapping[str, Any]], parameters: Mapping[str, object]) -> float:
    entry = next(entry for entry in table if entry["job_type"] == JOB)
    if "cost_table" not in entry:
        return float(entry["cost"])
    value = parameters[entry["cost_parameter"]]
    return float(next(row["cost"] for row in entry["cost_table"] if row["parameter_value"] == value))


def _ask(call: Callable[[], Answer], what: str) -> Answer:
    from hyp3_sdk.exceptions import HyP3SDKError

    try:
        return _http.retrying(call, what=what, transient=(HyP3SDKError,))
    except (*_MISSHAPEN, StopIteration) as error:
        msg = f"{what} is not understood ({type(error).__name__}: {error}); a newer cubekit may know its shape"
        raise SourceError(msg) from None
