"""Archives: each finds the scenes of a lake and returns them as STAC items, `pystac.ItemCollection`."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime
from inspect import signature
from urllib.parse import parse_qsl

import pystac

from cubekit.errors import ConfigError
from cubekit.lakes import Lake

Period = tuple[date | None, date | None]
"""First and last day, both inclusive, UTC; None leaves that side open."""

SCHEMES = ("folder:PATH", "simulated:PATH[?seed=N&growth=METRES&looks=N&revisit=DAYS]")
"""What `find_scenes` takes."""


def find_scenes(
    lake: Lake, source: str, start: str | date | None = None, end: str | date | None = None
) -> pystac.ItemCollection:
    """Find the scenes of a lake in an archive.

    Parameters
    ----------
    lake
        The lake; scenes that don't touch its AOI are left out.
    source
        ``folder:PATH``, GeoTIFFs named as HyP3 RTC products or OPERA RTC-S1 granules, or ``simulated:PATH?seed=0``, an
        archive that is simulated into a folder (parameters: `cubekit.sources.simulated.find`).
    start, end
        First and last day, both inclusive, UTC; dates or ISO strings. Open by default.

    Returns
    -------
    pystac.ItemCollection
        One item a product, by time.

    Raises
    ------
    ConfigError
        When the source, one of its parameters or the period is not understood.
    SourceError
        When the archive has no scene of this lake in this period.

    Warns
    -----
    SceneWarning
        Lists the files that were left out, with their reasons.

    Notes
    -----
    Reads headers only, not lazily.
    """
    period = parse_period(start, end)
    scheme, _, rest = source.partition(":")
    if scheme == "folder" and rest:
        from cubekit.sources import folder

        return folder.find(lake, period, rest)
    if scheme == "simulated" and rest:
        from cubekit.sources import simulated

        path, _, query = rest.partition("?")
        return simulated.find(lake, period, path, **_parameters(query, simulated.find))
    msg = f"source {source!r} isn't known; allowed are {', '.join(SCHEMES)}"
    raise ConfigError(msg)


def parse_period(start: str | date | None, end: str | date | None) -> Period:
    """Two days, both inclusive, from dates or ISO strings.

    Raises
    ------
    ConfigError
        When one is not a date, or the end lies before the start.

    Examples
    --------
    >>> parse_period("2019-07-01", None)
    (datetime.date(2019, 7, 1), None)
    """
    first, last = _day(start, "start"), _day(end, "end")
    if first is not None and last is not None and last < first:
        msg = f"the period ends ({last}) before it starts ({first}); swap them"
        raise ConfigError(msg)
    return first, last


def _day(value: str | date | None, name: str) -> date | None:
    if value is None or (isinstance(value, date) and not isinstance(value, datetime)):
        return value
    try:
        return _utc(value).date() if isinstance(value, datetime) else date.fromisoformat(value)
    except (ValueError, TypeError):
        msg = f"{name} {value!r} is not a date; write it as 2019-07-01"
        raise ConfigError(msg) from None


def _parameters(query: str, find: Callable[..., object]) -> dict[str, float]:
    """Numbers that a URI gives for the keyword-only parameters of a source."""
    try:
        pairs = [(name, float(value)) for name, value in parse_qsl(query, True, strict_parsing=bool(query))]
    except ValueError:
        msg = f"the parameters {query!r} of the simulated source are not name=number pairs joined by &"
        raise ConfigError(msg) from None
    allowed = [one.name for one in signature(find).parameters.values() if one.kind is one.KEYWORD_ONLY]
    if unknown := [name for name, _ in pairs if name not in allowed]:
        msg = f"the simulated source has no parameter {', '.join(unknown)}; allowed are {', '.join(allowed)}"
        raise ConfigError(msg)
    if len(dict(pairs)) < len(pairs):
        msg = f"the parameters {query!r} of the simulated source name one of them twice; give each once"
        raise ConfigError(msg)
    return dict(pairs)


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
