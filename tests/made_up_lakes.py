"""A server of made-up lakes for the page: a decade with states and gaps, a short record, a lake without any pass.

It answers as the API does (the shapes are checked against the API's own), without cubes: what it tells is arithmetic.
"""

from __future__ import annotations

import io
import json
import math
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import cache
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import numpy as np
from PIL import Image
from scipy.stats import theilslopes
from shapely.geometry import mapping

from cubekit.lakes import catalogue
from cubekit.service import _api_schemas as shapes
from cubekit.service._api_pages import page_files
from cubekit.service._api_release import COLUMNS

DECADE, SHORT, NOTHING = "tsho_rolpa", "gokyo", "tilicho"
ALERT = "tsho_rolpa-20250810T001135Z-drop"
REASON = "there are usable passes of one track only"


def moment(time: datetime) -> str:
    """As the API writes times."""
    return f"{time:%Y-%m-%dT%H:%M:%SZ}"


@cache
def passes(lake: str) -> list[dict[str, Any]]:
    """Passes by time: seasons of ice and snow, a lake that grows, a satellite that fails, some that saw nothing."""
    if lake == NOTHING:
        return []
    random = np.random.default_rng(7)
    first, last = datetime(2016 if lake == DECADE else 2023, 1, 3, tzinfo=UTC), datetime(2025, 9, 30, tzinfo=UTC)
    tracks = (
        {12: (12.2, 0.03, 0.98), 85: (12.4, -0.16, 0.86), 121: (0.2, 0.0, 1.0)}
        if lake == DECADE
        else {121: (0.2, 0.0, 1.0)}
    )
    rows = []
    for track, (hour, offset, seen) in tracks.items():
        time = first + timedelta(hours=hour, days=track % 12)
        while time < last:
            rows.append(_pass(lake, time, track, offset, seen, random))
            time += timedelta(days=24 if track == 121 else 36)
            if (
                lake == DECADE
                and track == 121
                and datetime(2021, 12, 23, tzinfo=UTC) < time < datetime(2023, 2, 1, tzinfo=UTC)
            ):
                time += timedelta(days=24 * 17)
    return sorted(rows, key=lambda one: one["time"])


def _pass(
    lake: str, time: datetime, track: int, offset: float, seen: float, random: np.random.Generator
) -> dict[str, Any]:
    season = {1: "ice", 2: "ice", 3: "ice", 4: "wet_snow", 5: "wet_snow", 12: "ice"}
    state = season.get(time.month, "rough" if random.random() < 0.08 else "open")
    years = (time - datetime(2016, 1, 1, tzinfo=UTC)) / timedelta(days=365.25)
    expected = (
        (1.53 if lake == DECADE else 0.43) + 0.006 * years + offset + 0.02 * math.sin((years % 1 - 0.4) * 2 * math.pi)
    )
    area = (
        expected + random.normal(0, 0.012 if state == "open" else 0.04) - (0.05 if state in {"ice", "wet_snow"} else 0)
    )
    if lake == DECADE and time > datetime(2025, 8, 1, tzinfo=UTC):
        area -= 0.22
    hidden = random.random() < 0.03
    known = {
        "area_km2": round(area, 4),
        "area_low": round(area - 0.05, 4),
        "area_high": round(area + 0.06, 4),
        "area_subpixel_km2": round(area + 0.003, 4),
    }
    return {
        "time": moment(time),
        "track": track,
        "platform": "sentinel-1a",
        **(dict.fromkeys(known) if hidden else known),
        "observed_fraction": 0.0 if hidden else round(seen - (0.3 if random.random() < 0.04 else 0.0), 3),
        "state": "unknown" if hidden else state,
        "state_probability": None if hidden else 0.97,
        "expected_km2": round(expected, 4),
        "anomaly_km2": None if hidden else round(area - expected, 4),
    }


@cache
def seasons(lake: str) -> list[dict[str, Any]]:
    """Statistics of July to September, by track and of all."""
    rows = []
    tracks = sorted({one["track"] for one in passes(lake)})
    offsets = {12: 0.03, 85: -0.16, 121: 0.0}
    for track in [*(["fused"] if len(tracks) > 1 else []), *tracks]:
        for year in sorted({one["time"][:4] for one in passes(lake)}):
            mine = [
                one["area_km2"] - (offsets[one["track"]] if track == "fused" else 0.0)
                for one in passes(lake)
                if one["time"][:4] == year
                and one["time"][5:7] in {"07", "08", "09"}
                and track in {"fused", one["track"]}
                and one["area_km2"] is not None
            ]
            rows.append(
                {
                    "track": str(track),
                    "year": int(year),
                    "maximum": max(mine, default=None),
                    "fair_maximum": float(np.mean(sorted(mine)[-3:])) if len(mine) > 3 else None,
                    "percentile_90": float(np.quantile(mine, 0.9)) if mine else None,
                    "median": float(np.median(mine)) if mine else None,
                    "passes": len(mine),
                    "passes_excluded": 0,
                }
            )
    return rows


@cache
def trends(lake: str) -> list[dict[str, Any]]:
    """Of the medians, by Theil and Sen; the rest is made up."""
    rows = []
    found = seasons(lake)
    for track in dict.fromkeys(one["track"] for one in found):
        known = [(one["year"], one["median"]) for one in found if one["track"] == track and one["median"] is not None]
        n = len(known)
        years, medians = zip(*known, strict=True)
        slope, intercept = (float(one) for one in theilslopes(medians, years)[:2]) if n > 1 else (None, None)
        enough = n >= 8
        error = 0.002 if track == "12" else 0.008
        verdict = "too_few_seasons" if not enough else "increasing" if track == "12" else "no_trend_detected"
        rows.append(
            {
                "statistic": "median",
                "track": track,
                "slope": slope,
                "intercept": intercept,
                "slope_low": slope - error if enough else None,
                "slope_high": slope + error if enough else None,
                "p_value": 0.21 if enough else None,
                "n": n,
                "verdict": verdict,
                "detectable": 0.0061,
                "scatter_verdict": verdict,
            }
        )
    return rows


def fused(lake: str) -> list[dict[str, Any]]:
    """A smooth line through the passes of open water."""
    if lake != DECADE:
        return []
    rows = []
    for one in passes(lake):
        if one["state"] == "open" and one["area_km2"] is not None:
            level = (
                one["expected_km2"]
                - {12: 0.03, 85: -0.16, 121: 0.0}[one["track"]]
                - (0.2 if one["time"] > "2025-08" else 0.0)
            )
            rows.append({"time": one["time"], "area_km2": level, "area_low": level - 0.02, "area_high": level + 0.02})
    return rows


def alerts(lake: str | None) -> list[dict[str, Any]]:
    """One that is open, and one that was closed."""
    if lake not in {None, DECADE}:
        return []
    opened = {
        "id": ALERT, "lake": DECADE, "track": "121", "sign": "drop", "stage": "confirmed",
        "opened": "2025-08-10T00:11:35Z", "confirmed": "2025-08-18T12:14:08Z", "closed": None,
        "area_km2": 1.37, "expected_km2": 1.59, "change_percent": -13.8, "outcome": None, "acknowledged": None,
    }  # fmt: skip
    closed = {
        **opened, "id": "tsho_rolpa-20190712T121408Z-growth", "sign": "growth", "stage": "closed", "track": "12",
        "opened": "2019-07-12T12:14:08Z", "confirmed": None, "closed": "2019-07-24T12:14:08Z", "area_km2": 1.71,
        "expected_km2": 1.58, "change_percent": 8.2, "outcome": "not_confirmed", "acknowledged": "2019-07-25T08:00:00Z",
    }  # fmt: skip
    return [opened, closed]


def lake_of(name: str) -> dict[str, Any]:
    """What is told of a lake at length."""
    lake = catalogue()[name]
    rows = passes(name)
    known = [one for one in rows if one["area_km2"] is not None]
    head = next((one for one in trends(name)), None)
    wanted = ("time", "track", "area_km2", "area_low", "area_high", "state", "observed_fraction")
    tracks = sorted({one["track"] for one in rows})
    return {
        "id": name,
        "name": lake.title,
        "centroid": tuple(lake.outline.centroid.coords[0]),
        "outline": mapping(lake.outline),
        "altitude_m": lake.altitude,
        "source": "opera" if rows else None,
        "tracks": tracks,
        "passes": len(rows),
        "latest": {each: known[-1][each] for each in wanted} if known else None,
        "trend": {each: head[each] for each in shapes.HeadTrend.model_fields} if head else None,
        "open_alerts": sum(one["stage"] != "closed" for one in alerts(name)),
        "release": {"id": "20251001T000000Z-MADEUP", "created": "2025-10-01T00:00:00Z"} if rows else None,
        "aoi": mapping(lake.aoi),
        "image_corners": None,
        "per_track": [
            {
                "track": track, "passes": sum(one["track"] == track for one in rows),
                "known": sum(one["track"] == track for one in known), "seen": 0.9, "latest": None, "area_km2": None,
                "area_low": None, "area_high": None, "trend": "not known", "verdict": "no summer pass",
            }
            for track in tracks
        ],
        "unknown": {"fused series": REASON} if name == SHORT else {},
        "model": "opera-30m" if rows else None,
        "model_hash": "0123456789abcdef" if rows else None,
        "snapshot": "MADEUPSNAPSHOT" if rows else None,
        "config_hash": "fedcba9876543210",
        "volume": None,
    }  # fmt: skip


def image(lake: str, time: str, layer: str, size: int) -> bytes:
    """A dark lake whose water's level of grey tells the pass; another one for each layer."""
    side = 128
    y, x = np.mgrid[:side, :side]
    random = np.random.default_rng(abs(hash_of(time + layer)))
    ground = 120 + 30 * np.sin(x / 9 + y / 17) + random.gamma(4, 8, (side, side))
    water = ((x - 64) / 44) ** 2 + ((y - 64) / 17) ** 2 < 1 + hash_of(time) % 7 / 20
    picture = Image.fromarray(np.where(water, 20 + hash_of(time) % 40, ground).clip(0, 255).astype(np.uint8))
    file = io.BytesIO()
    picture.resize((size, size), Image.Resampling.NEAREST).save(file, "PNG")
    return file.getvalue()


def hash_of(text: str) -> int:
    """The same in every process."""
    return sum(ord(letter) * (place + 1) for place, letter in enumerate(text))


@cache
def answer(address: str) -> tuple[int, str, bytes]:
    """Status, type and body."""
    parts = urlsplit(address)
    path, query = unquote(parts.path), {name: values[0] for name, values in parse_qs(parts.query).items()}
    match path.strip("/").split("/"):
        case ["lakes"]:
            listed = [
                {key: value for key, value in lake_of(name).items() if key in shapes.LakeShape.model_fields}
                for name in (DECADE, SHORT, NOTHING)
            ]
            return told(shapes.LakesShape, {"lakes": listed})
        case ["lakes", lake]:
            return told(shapes.LakeDetail, lake_of(lake))
        case ["lakes", lake, "series"] if not passes(lake):
            return 204, "application/json", b""
        case ["lakes", lake, "series"] if query.get("format") == "csv":
            rows = [one for one in passes(lake) if query.get("track") in {None, str(one["track"])}]
            lines = [",".join(COLUMNS), *(",".join(str(one[name]) for name in COLUMNS) for one in rows)]
            return 200, "text/csv; charset=utf-8", "\n".join(lines).encode()
        case ["lakes", lake, "series"]:
            whole = {"lake": lake, "columns": list(COLUMNS), "rows": passes(lake)}
            return told(
                shapes.SeriesShape, {**whole, "fused": fused(lake), "seasons": seasons(lake), "trends": trends(lake)}
            )
        case ["lakes", lake, "outlines", _]:
            feature = {"type": "Feature", "properties": {}, "geometry": mapping(catalogue()[lake].outline)}
            return 200, "application/geo+json", json.dumps(feature).encode()
        case ["images", lake, time]:
            return 200, "image/png", image(lake, time, query["layer"], int(query["size"]))
        case ["alerts"]:
            return told(shapes.AlertsShape, {"alerts": alerts(query.get("lake"))})
    problem = {"type": "about:blank", "title": "Not Found", "status": 404, "detail": f"there is no {path}"}
    return 404, "application/problem+json", json.dumps(problem).encode()


def told(shape: Any, document: dict[str, Any]) -> tuple[int, str, bytes]:
    """A document, which has the shape that the API gives it."""
    shape.model_validate(document)
    return 200, "application/json", json.dumps(document).encode()


FILES = page_files()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        ready = FILES.get(self.path)
        if ready is not None:
            status, headers, body = ready.reply({})
            sent = [(name.decode(), value.decode()) for name, value in headers]
        else:
            status, kind, body = answer(self.path)
            sent = [("content-type", kind), ("content-length", str(len(body)))]
        self.send_response(status)
        for name, value in sent:
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Nobody reads it."""


class _Server(ThreadingHTTPServer):
    def handle_error(self, *_: Any) -> None:
        """Browsers that are closed break their connections off: the tests look at what arrived, not at this."""


@contextmanager
def served() -> Iterator[str]:
    """Serve them; gives the address of the page."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}/"
        server.shutdown()
