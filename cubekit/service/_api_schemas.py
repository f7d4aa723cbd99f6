"""What is answered, for OpenAPI: the shapes of the documents. Null is what isn't known."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict

Sign = Literal["growth", "drop"]
Stage = Literal["first", "confirmed", "closed"]


class Shape(BaseModel):
    """A document, and nothing else in it."""

    model_config = ConfigDict(extra="forbid")


class ReleaseName(Shape):
    """What is served."""

    id: str
    created: str


class LatestArea(Shape):
    """The newest pass whose area is known."""

    time: str
    track: int
    area_km2: float
    area_low: float | None
    area_high: float | None
    state: str
    observed_fraction: float | None


class HeadTrend(Shape):
    """The trend that heads the results, km2 per year."""

    track: str
    statistic: str
    slope: float | None
    slope_low: float | None
    slope_high: float | None
    p_value: float | None
    n: int
    verdict: str


class LakeShape(Shape):
    """A lake in short."""

    id: str
    name: str
    centroid: tuple[float, float]
    outline: dict[str, Any]
    altitude_m: float | None
    source: str | None
    tracks: list[int]
    passes: int
    latest: LatestArea | None
    trend: HeadTrend | None
    open_alerts: int
    release: ReleaseName | None


class LakesShape(Shape):
    """All lakes of the study."""

    lakes: list[LakeShape]


class TrackRow(Shape):
    """What is known from one track, or of all (fused)."""

    track: int | str
    passes: int
    known: int
    seen: float | None
    latest: str | None
    area_km2: float | None
    area_low: float | None
    area_high: float | None
    trend: str
    verdict: str


class LakeDetail(LakeShape):
    """A lake at length."""

    aoi: dict[str, Any]
    image_corners: list[tuple[float, float]] | None
    per_track: list[TrackRow]
    unknown: dict[str, str]
    model: str | None
    model_hash: str | None
    snapshot: str | None
    config_hash: str | None
    volume: dict[str, Any] | None


class SeriesRow(Shape):
    """One pass."""

    time: str
    track: int
    platform: str
    area_km2: float | None
    area_low: float | None
    area_high: float | None
    area_subpixel_km2: float | None
    observed_fraction: float | None
    state: str
    state_probability: float | None
    expected_km2: float | None
    anomaly_km2: float | None


class FusedRow(Shape):
    """One pass at the level of all tracks."""

    time: str
    area_km2: float | None
    area_low: float | None
    area_high: float | None


class SeriesShape(Shape):
    """The series of a lake."""

    lake: str
    columns: list[str]
    rows: list[SeriesRow]
    fused: list[FusedRow]
    seasons: list[dict[str, Any]]
    trends: list[dict[str, Any]]


class DateRow(Shape):
    """A pass of which there are images."""

    time: str
    track: int
    observed_fraction: float | None
    area_km2: float | None
    state: str


class DatesShape(Shape):
    """All passes of a lake."""

    dates: list[DateRow]


class AlertShape(Shape):
    """An alert."""

    id: str
    lake: str
    track: str
    sign: Sign
    stage: Stage
    opened: str
    confirmed: str | None
    closed: str | None
    area_km2: float | None
    expected_km2: float | None
    change_percent: float | None
    outcome: str | None
    acknowledged: str | None


class AlertsShape(Shape):
    """Alerts, the newest first."""

    alerts: list[AlertShape]


class HealthShape(Shape):
    """The process lives."""

    status: Literal["ok"]
    version: str


class ReadyShape(Shape):
    """It can serve."""

    status: Literal["ready"]


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    errors: list[dict[str, Any]] | None = None
    reasons: list[str] | None = None
