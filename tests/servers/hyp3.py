"""HyP3: jobs, prices, users, and the place where products lie; and the scenes it takes, as CMR knows them."""

from __future__ import annotations

import base64
import io
import json
import re
import secrets
import threading
import time
import uuid
import zipfile
from collections.abc import Callable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import factories
import numpy as np
from shapely.geometry.base import BaseGeometry

from cubekit.lakes import Lake
from servers import Answer, Request, Service
from servers.files import file_answer

Job = dict[str, Any]

API = "hyp3-api.asf.alaska.edu"
STORE = "d3gm2hf49xd6jj.cloudfront.net"
"""Where products lie: not a host of NASA, so no login may come here."""
LOGIN, CUMULUS = "urs.earthdata.nasa.gov", "cumulus.asf.alaska.edu"
"""Who knows passwords, and who gives the cookie for them that the service takes in place of a token."""

_GRANULE = re.compile(r"S1[ABCD]_IW_(GRDH|SLC_)_1S[SD][VH]_\w{50}")
_PARAMETERS: dict[str, tuple[Any, ...]] = {
    "resolution": (30.0, 20.0, 10.0),
    "radiometry": ("gamma0", "sigma0"),
    "scale": ("power", "decibel", "amplitude"),
    "dem_name": ("copernicus",),
    **dict.fromkeys(
        ("speckle_filter", "dem_matching", "include_dem", "include_inc_map", "include_scattering_area", "include_rgb"),
        (False, True),
    ),
}
"""Allowed values, the default first."""


class Hyp3(Service):
    """The service of one user, on both of its hosts, and the login to it by user and password on two others.

    Parameters
    ----------
    product
        Makes a product of a job: its name and its zip.
    credits
        What the user has left; None when that isn't limited.
    page
        Jobs that a page of the list holds.
    lag
        Seconds before a job that was ordered is in the list.
    instant
        Whether jobs are done as soon as they are ordered.
    """

    COSTS = ((30.0, 5.0), (20.0, 15.0), (10.0, 60.0))

    def __init__(
        self,
        product: Callable[[Job], tuple[str, bytes]],
        *,
        credits: float | None = 8000.0,  # noqa: A002  as the service calls it
        page: int = 1000,
        lag: float = 0.0,
        instant: bool = False,
    ) -> None:
        super().__init__()
        self.product, self.credits, self.page, self.lag, self.instant = product, credits, page, lag, instant
        self.token, self.signature = f"token.{secrets.token_hex(12)}", secrets.token_hex(12)
        self.password, self.code, self.cookie = (secrets.token_hex(8) for _ in range(3))
        self.jobs: dict[str, Job] = {}
        self.files: dict[str, bytes] = {}
        self.unknown: set[str] = set()
        self.gone = 404
        self.leaks: list[str] = []
        self._seen: dict[str, float] = {}
        self._state = threading.RLock()

    @property
    def hosts(self) -> dict[str, Service]:
        """For `internet`."""
        return dict.fromkeys((API, STORE, LOGIN, CUMULUS), self)

    def answer(self, request: Request) -> Answer:
        answers = {STORE: self._store, LOGIN: self._log_in, CUMULUS: self._give_cookie}
        with self._state:
            return answers.get(request.host, self._api)(request)

    # What the service does on its own, in time.

    def succeed(self, jobs: Iterable[Job] | None = None, *, days: float = 14) -> None:
        """Finish jobs, all by default."""
        with self._state:
            for job in list(self.jobs.values()) if jobs is None else jobs:
                if job["status_code"] not in {"PENDING", "RUNNING"}:
                    continue
                name, content = self.product(job)
                key = f"{job['job_id']}/{name}.zip"
                self.files[key] = content
                url = f"https://{STORE}/{key}?Signature={self.signature}"
                file = {"filename": f"{name}.zip", "size": len(content), "url": url}
                file["s3"] = {"bucket": "hyp3-contentbucket", "key": key}
                job |= {"status_code": "SUCCEEDED", "files": [file], "processing_times": [836.557], "logs": []}
                job |= {"execution_started": True, "browse_images": [], "thumbnail_images": []}
                self.expire([job], days=days)

    def expire(self, jobs: Iterable[Job], *, days: float = -1) -> None:
        """Let products end so many days from now."""
        for job in jobs:
            end = datetime.now(UTC) + timedelta(days=days)
            job["expiration_time"] = end.isoformat(timespec="seconds")
            if days <= 0:
                for file in job["files"]:
                    self.files.pop(file["s3"]["key"], None)

    def give_up(self, jobs: Iterable[Job], log: str | None = None) -> None:
        """Let jobs fail, with a log or none."""
        for job in jobs:
            job |= {"status_code": "FAILED", "processing_times": None, "logs": [], "expiration_time": None}
            if log is not None:
                key = f"{job['job_id']}/{job['job_id']}.log"
                self.files[key] = log.encode()
                job["logs"] = [f"https://{STORE}/{key}?Signature={self.signature}"]

    def of(self, granule: str) -> list[Job]:
        """Jobs of a granule."""
        return [job for job in self.jobs.values() if job["job_parameters"]["granules"] == [granule]]

    @property
    def granules(self) -> list[str]:
        """What was ordered, as often as it was."""
        return sorted(job["job_parameters"]["granules"][0] for job in self.jobs.values())

    # The interface.

    def _log_in(self, request: Request) -> Answer:
        word = base64.b64encode(f"somebody:{self.password}".encode()).decode()
        if request.headers.get("Authorization") != f"Basic {word}":
            return Answer(401, b"<html>Log in</html>", {"Content-Type": "text/html"})
        return Answer(302, b"", {"Location": f"{request.query['redirect_uri']}?code={self.code}"})

    def _give_cookie(self, request: Request) -> Answer:
        if request.query.get("code") != self.code:
            return Answer(200, b"<html>", {"Content-Type": "text/html"})  # with error_msg: why not
        cookie = f"asf-urs={self.cookie}; Domain=.asf.alaska.edu; Path=/; Secure"
        return Answer(200, b"<html>", {"Content-Type": "text/html", "Set-Cookie": cookie})

    def _api(self, request: Request) -> Answer:
        if request.method == "GET" and request.path == "/costs":
            table = [{"parameter_value": value, "cost": cost} for value, cost in self.COSTS]
            rtc = {"job_type": "RTC_GAMMA", "cost_parameter": "resolution", "cost_table": table}
            return _json([{"job_type": "AUTORIFT", "cost": 25.0}, rtc])
        by_cookie = f"asf-urs={self.cookie}" in (request.headers.get("Cookie") or "")
        if not by_cookie and request.headers.get("Authorization") != f"Bearer {self.token}":
            return _problem(401, "Provided apikey is not valid")
        if request.path == "/user":
            names = sorted({job["name"] for job in self.jobs.values() if "name" in job})
            return _json({"user_id": "somebody", "remaining_credits": self.credits, "job_names": names})
        if request.path == "/jobs":
            return self._order(json.loads(request.body)) if request.method == "POST" else self._list(request.query)
        if (found := re.fullmatch(r"/jobs/([0-9a-f-]{36})", request.path)) and request.method == "GET":
            job = self.jobs.get(found[1])
            return _problem(404, f"job_id does not exist: {found[1]}") if job is None else _json(job)
        return _problem(404, "The requested URL was not found on the server.")

    def _order(self, body: Mapping[str, Any]) -> Answer:
        asked = body["jobs"]
        if not 1 <= len(asked) <= 200:
            return _problem(400, f"{asked!r} is too long")
        for job in asked:
            if fault := _fault(job):
                return _problem(400, fault)
        granules = [job["job_parameters"]["granules"][0] for job in asked]
        if missing := [granule for granule in granules if granule in self.unknown]:
            return _problem(400, f"Some requested scenes could not be found: {', '.join(missing)}")
        prices = [dict(self.COSTS)[float(job["job_parameters"].get("resolution", 30.0))] for job in asked]
        if self.credits is not None:
            if sum(prices) > self.credits:
                told = f"These jobs would cost {sum(prices)} credits, but you have only {self.credits} remaining."
                return _problem(400, told)
            self.credits -= sum(prices)
        made = [self._take(job, price) for job, price in zip(asked, prices, strict=True)]
        if self.instant:
            self.succeed(made)
        return _json({"jobs": made})

    def _take(self, job: Mapping[str, Any], price: float) -> Job:
        defaults = {name: values[0] for name, values in _PARAMETERS.items()}
        made = {
            "job_id": str(uuid.uuid4()),
            "user_id": "somebody",
            "status_code": "PENDING",
            "execution_started": False,
            "request_time": datetime.now(UTC).isoformat(timespec="seconds"),
            "priority": 9999,
            **job,
            "job_parameters": {**defaults, **job["job_parameters"]},
            "credit_cost": price,
        }
        self.jobs[made["job_id"]] = made
        self._seen[made["job_id"]] = time.monotonic() + self.lag
        return made

    def _list(self, query: Mapping[str, str]) -> Answer:
        now = time.monotonic()
        listed = [job for key, job in reversed(self.jobs.items()) if self._seen.get(key, 0.0) <= now]
        start = int(query.get("start_token", 0))
        page = listed[start : start + self.page]
        kept = [job for job in page if all(job.get(name) == query[name] for name in query if name != "start_token")]
        told: dict[str, Any] = {"jobs": kept}  # filtered after it is cut into pages, as the service does it
        if start + self.page < len(listed):
            pairs = "&".join(f"{name}={value}" for name, value in query.items() if name != "start_token")
            told["next"] = f"https://{API}/jobs?{pairs}&start_token={start + self.page}"
        return _json(told)

    def _store(self, request: Request) -> Answer:
        if request.headers.get("Authorization") or request.headers.get("Cookie"):
            self.leaks.append(f"{request.target} was given a login")
        content = self.files.get(request.path.lstrip("/"))
        if content is None or request.query.get("Signature") != self.signature:
            return Answer(self.gone, b"<Error><Code>NoSuchKey</Code></Error>", {"Content-Type": "application/xml"})
        return file_answer(request, content)


def _fault(job: Mapping[str, Any]) -> str | None:
    """What the service's schema has against a job."""
    if set(job) - {"job_type", "name", "job_parameters"} or job.get("job_type") != "RTC_GAMMA":
        return "Additional properties are not allowed, or the job type is unknown"
    if not 1 <= len(job.get("name", "x")) <= 100:
        return f"{job['name']!r} is too long"
    parameters = job["job_parameters"]
    granules = parameters.get("granules", [])
    if len(granules) != 1 or len(granules[0]) != 67 or not _GRANULE.fullmatch(granules[0]):
        return f"{granules!r} is not valid under any of the given schemas"
    for name, value in parameters.items():
        if name != "granules" and value not in _PARAMETERS.get(name, ()):
            return f"{value!r} is not one of {list(_PARAMETERS.get(name, ()))!r}"
    return None


def _json(content: object, status: int = 200, kind: str = "application/json") -> Answer:
    return Answer(status, json.dumps(content).encode(), {"Content-Type": kind})


def _problem(status: int, detail: str) -> Answer:
    titles = {400: "Bad Request", 401: "Unauthorized", 403: "Forbidden", 404: "Not Found"}
    content = {"status": status, "detail": detail, "title": titles.get(status, "?"), "type": "about:blank"}
    return _json(content, status, "application/problem+json")


def granule_name(start: datetime, orbit: int, *, unit: str = "A", seconds: int = 25, checksum: str = "C795") -> str:
    """Name of a Sentinel-1 scene, 67 characters."""
    times = "_".join(f"{moment:%Y%m%dT%H%M%S}" for moment in (start, start + timedelta(seconds=seconds)))
    return f"S1{unit}_IW_GRDH_1SDV_{times}_{orbit:06d}_{orbit * 7 % 0xFFFFFF:06X}_{checksum}"


def grd_granule(
    name: str, outline: BaseGeometry, *, track: int, direction: str, frame: int = 80, processed: str = "2021-01-01"
) -> dict[str, Any]:
    """One Sentinel-1 GRD scene as CMR knows it."""
    unit, _, _, _, start, stop, orbit = name.split("_")[:7]
    begins, ends = (f"{datetime.strptime(one, '%Y%m%dT%H%M%S'):%Y-%m-%dT%H:%M:%S}.000Z" for one in (start, stop))  # noqa: DTZ007
    attributes = {
        "ASCENDING_DESCENDING": direction.upper(),
        "BEAM_MODE": "IW",
        "BEAM_MODE_TYPE": "IW",
        "BYTES": "885840896",
        "CENTER_LAT": str(outline.centroid.y),
        "CENTER_LON": str(outline.centroid.x),
        "FRAME_NUMBER": str(frame),
        "MD5SUM": "ae94d5f09bb00118e2c1429de067fad4",
        "PATH_NUMBER": str(track),
        "POLARIZATION": "VV+VH",
        "PROCESSING_DATE": f"{processed}T08:46:30.876016",
        "PROCESSING_TYPE": "GRD_HD",
    }
    points = [{"Latitude": y, "Longitude": x} for x, y in outline.exterior.coords]
    platform = f"SENTINEL-1{unit[-1]}"
    return {
        "meta": {
            "concept-type": "granule",
            "concept-id": f"G{abs(hash(name)) % 10**10}-ASF",
            "native-id": f"{name}-GRD_HD",
            "provider-id": "ASF",
            "revision-date": begins,
        },
        "umm": {
            "GranuleUR": f"{name}-GRD_HD",
            "TemporalExtent": {"RangeDateTime": {"BeginningDateTime": begins, "EndingDateTime": ends}},
            "OrbitCalculatedSpatialDomains": [{"OrbitNumber": int(orbit)}],
            "AdditionalAttributes": [{"Name": key, "Values": [value]} for key, value in attributes.items()],
            "SpatialExtent": {
                "HorizontalSpatialDomain": {"Geometry": {"GPolygons": [{"Boundary": {"Points": points}}]}}
            },
            "CollectionReference": {"ShortName": f"{platform}_DP_GRD_HIGH", "Version": "1"},
            "RelatedUrls": [{"Type": "GET DATA", "URL": f"https://datapool.asf.alaska.edu/GRD_HD/SA/{name}.zip"}],
            "DataGranule": {
                "DayNightFlag": "Unspecified",
                "ProductionDateTime": begins,
                "Identifiers": [{"Identifier": name, "IdentifierType": "ProducerGranuleId"}],
                "ArchiveAndDistributionInformation": [{"Name": "Not provided", "Size": 844.8, "SizeUnit": "MB"}],
            },
            "Platforms": [{"ShortName": platform, "Instruments": [{"ShortName": "C-SAR"}]}],
        },
    }


def product_of(folder: Path, *lakes: Lake) -> Callable[[Job], tuple[str, bytes]]:
    """Make a job's product: small rasters around the lakes, one after the other, in a zip as the service makes it.

    Parameters
    ----------
    folder
        For scratch.
    lakes
        The scene shows the first one that its start, in seconds, is divided by: see `grid`.
    """

    def product(job: Job) -> tuple[str, bytes]:
        granule, parameters = job["job_parameters"]["granules"][0], job["job_parameters"]
        unit, _, _, kind, start = granule.split("_")[:5]
        lake = lakes[int(start[-2:]) % len(lakes)].at_spacing(int(parameters["resolution"]))
        first = (parameters["radiometry"][0], parameters["scale"][0])
        flags = "{}{}u{}e{}".format(*first, "nf"[parameters["speckle_filter"]], "dm"[parameters["dem_matching"]])
        name = f"{unit}_IW_{start}_{kind[2:]}P_RTC{lake.spacing}_G_{flags}_{job['job_id'][:4].upper()}"
        affine, shape = factories.grid(lake)
        home = folder / job["job_id"] / name
        tags = {"TIFFTAG_DATETIME": "2024:01:01 00:00:00", "AREA_OR_POINT": "Point"}
        values = factories.dark_lake(lake, int(start[2:8] + start[-6:])).round(3)
        layers = {"VV": values, "VH": values / 5, "ls_map": np.ones(shape, "uint8")}
        for layer, raster in layers.items():
            factories.write_raster(home / f"{name}_{layer}.tif", raster, affine, lake.epsg, 0, **tags)
        (home / f"{name}.README.md.txt").write_text("What this product is.\n")
        return name, zipped({f"{name}/{path.name}": path.read_bytes() for path in sorted(home.iterdir())})

    return product


def zipped(files: Mapping[str, bytes]) -> bytes:
    """A zip of these files."""
    held = io.BytesIO()
    with zipfile.ZipFile(held, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return held.getvalue()
