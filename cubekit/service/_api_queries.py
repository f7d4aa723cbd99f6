"""What may be asked: parameters with their bounds. Anything else is refused."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated, Literal

from fastapi import Path
from pydantic import AfterValidator, BaseModel, ConfigDict, Field, model_validator

DAY = r"(19|20)\d\d-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])"
TIME = r"([01]\d|2[0-3]):[0-5]\d(:[0-5]\d(\.\d{1,6})?)?(Z|[+-]([01]\d|2[0-3]):[0-5]\d)?"
MOMENT = rf"^{DAY}(T{TIME})?$"
"""A day, or a time of it, in UTC unless it says otherwise: ISO 8601."""

LONGEST = 40
"""Characters of a moment, and more."""

_PARTS = re.compile(MOMENT)


def span(text: str) -> tuple[datetime, datetime]:
    """First and last moment of a day, of a minute, of a second, or of a finer time as it is written.

    Raises
    ------
    ValueError
        When there is no such day.

    Examples
    --------
    >>> [f"{time:%dT%H:%M:%S.%f}" for time in span("2021-07-21")]
    ['21T00:00:00.000000', '21T23:59:59.999999']
    >>> [f"{time:%dT%H:%M:%S.%f}" for time in span("2021-07-21T02:11:35+02:00")]
    ['21T00:11:35.000000', '21T00:11:35.999999']
    """
    parts = _PARTS.fullmatch(text)
    if parts is None:
        msg = f"{text[:LONGEST]!r} is not a time; write 2021-07-21 or 2021-07-21T00:11:35Z"
        raise ValueError(msg)
    start = datetime.fromisoformat(text)  # refuses the 31st of June
    start = start.replace(tzinfo=UTC) if start.tzinfo is None else start.astimezone(UTC)
    _, _, _, clock, _, seconds, fraction, *_ = parts.groups()
    if clock is None:
        length = timedelta(days=1)
    elif seconds is None:
        length = timedelta(minutes=1)
    else:
        length = timedelta(seconds=1) if fraction is None else timedelta(microseconds=10 ** (7 - len(fraction)))
    return start, start + length - timedelta(microseconds=1)


def _checked(text: str) -> str:
    span(text)
    return text


def end_of(text: str | None) -> datetime | None:
    """The last moment of what is written; None of nothing."""
    return None if text is None else span(text)[1]


def start_of(text: str | None) -> datetime | None:
    """The first moment of what is written; None of nothing."""
    return None if text is None else span(text)[0]


def _moment(description: str) -> object:
    return Field(description=description, pattern=MOMENT, max_length=LONGEST, examples=["2026-01-01"])


LakeName = Annotated[
    str,
    Path(
        pattern=r"^[a-z0-9_]+$",
        max_length=64,
        description="Id of a lake, also without its underscores: tsho_rolpa or tshorolpa.",
        examples=["tsho_rolpa"],
    ),
]
Date = Annotated[
    str,
    Path(
        pattern=MOMENT,
        max_length=LONGEST,
        description="A day (UTC) or the time of a pass.",
        examples=["2021-07-21", "2021-07-21T00:11:35Z"],
    ),
    AfterValidator(_checked),
]
AlertId = Annotated[
    str,
    Path(pattern=r"^[a-z0-9_]+-\d{8}T\d{6}Z-(growth|drop)$", max_length=100, description="Id of an alert."),
]
Moment = Annotated[str, AfterValidator(_checked)]
Track = Annotated[int, Field(ge=1, le=175, description="Relative orbit.")]
Layer = Literal["vv", "vh", "probability", "mask", "chip"]


class AsOf(BaseModel):
    """Every read can be of the past."""

    model_config = ConfigDict(extra="forbid")
    as_of: Annotated[Moment | None, _moment("What was served at this time; a day means its end.")] = None

    @property
    def moment(self) -> datetime | None:
        """The last moment that is asked for."""
        return end_of(self.as_of)


class OfTrack(AsOf):
    """Passes, perhaps of one track."""

    track: Track | None = None


class SeriesQuery(OfTrack):
    """A stretch of the series."""

    start: Annotated[Moment | None, _moment("First day or time.")] = None
    end: Annotated[Moment | None, _moment("Last day or time, inclusive.")] = None
    format: Annotated[Literal["json", "csv"], Field(description="csv is streamed.")] = "json"

    @model_validator(mode="after")
    def _ordered(self) -> SeriesQuery:
        first, last = start_of(self.start), end_of(self.end)
        if first is not None and last is not None and last < first:
            msg = f"it ends ({self.end}) before it starts ({self.start}); swap them"
            raise ValueError(msg)
        return self


class ImageQuery(OfTrack):
    """An image of a pass."""

    size: Annotated[int, Field(ge=64, le=2048, description="Longer side, pixels.")] = 512
    layer: Annotated[Layer, Field(description="Backscatter in dB, probability, layover and shadow, or chip.")] = "vv"
    outline: Annotated[bool, Field(description="Draw the shore that was found.")] = True


class CogQuery(OfTrack):
    """A raster of a pass."""

    layer: Annotated[Literal["water", "vv"], Field(description="Water of the lake, or backscatter.")] = "water"


class AlertsQuery(AsOf):
    """Some of the alerts."""

    lake: Annotated[str | None, Field(pattern=r"^[a-z0-9_]+$", max_length=64, description="Of this lake.")] = None
    stage: Annotated[Literal["first", "confirmed", "closed"] | None, Field(description="That are so far.")] = None
    since: Annotated[Moment | None, _moment("Whose newest event is of a pass from this time on.")] = None
    limit: Annotated[int, Field(ge=1, le=1000, description="The newest so many.")] = 200
