"""Archives: each finds the scenes of a lake and returns them as STAC items, `pystac.ItemCollection`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, date, datetime
from inspect import signature
from typing import Any
from urllib.parse import parse_qsl

import pystac

from cubekit.errors import ConfigError, SourceError
from cubekit.lakes import Lake

Period = tuple[date | None, date | None]
"""First and last day, both inclusive, UTC; None leaves that side open."""

SCHEMES = (
    "folder:PATH",
    "simulated:PATH[?seed=N&growth=METRES&looks=N&revisit=DAYS&product=NAME&dem=FILE&outburst=DAY]",
    "stac:URL#COLLECTION",
    "hyp3:FOLDER",
    "opera[?tracks=N,N&platforms=NAME,NAME&direction=NAME&polarisations=vv,vh]",
)
"""What `find_scenes` takes."""


def find_scenes(
    lake: Lake,
    source: str,
    start: str | date | None = None,
    end: str | date | None = None,
    *,
    tracks: Sequence[int] = (),
) -> pystac.ItemCollection:
    """Find the scenes of a lake in an archive.

    Parameters
    ----------
    lake
        The lake; scenes that don't touch its AOI are left out.
    source
        ``folder:PATH``, GeoTIFFs named as HyP3 RTC products or OPERA RTC-S1 granules, or ``simulated:PATH?seed=0``, an
        archive that is simulated into a folder (parameters: `cubekit.sources.simulated.find`), or
        ``stac:URL#COLLECTION``, a collection of a STAC API (`cubekit.sources.stac.find`), or
        ``opera``, OPERA RTC-S1 granules at ASF (parameters: `cubekit.sources.opera.find`), or
        ``hyp3:FOLDER``, what an order at HyP3 has brought to a folder (`cubekit.sources.hyp3.find`).
    start, end
        First and last day, both inclusive, UTC; dates or ISO strings. Open by default.
    tracks
        Relative orbits of Sentinel-1; all by default. ``opera`` is asked for these only.

    Returns
    -------
    pystac.ItemCollection
        One item a product, by time.

    Raises
    ------
    ConfigError
        When the source, one of its parameters or the period is not understood.
    SourceError
        When the archive has no scene of this lake in this period, or none on these tracks.

    Warns
    -----
    SceneWarning
        Lists the files that were left out, with their reasons.

    Notes
    -----
    Reads headers only, not lazily.
    """
    found = _find(lake, source, parse_period(start, end), tracks)
    there = {int(item.properties.get("sat:relative_orbit", 0)) for item in found}
    if not tracks or there <= set(tracks):
        return found
    kept = [item for item in found if item.properties.get("sat:relative_orbit") in tracks]
    if not kept:
        wanted, known = (", ".join(map(str, sorted(given))) for given in (tracks, there - {0}))
        msg = f"no scene of {lake.id} on the tracks {wanted} in {source}; it has {known or 'none'}: change the tracks"
        raise SourceError(msg)
    return pystac.ItemCollection(kept)


def _find(lake: Lake, source: str, period: Period, tracks: Sequence[int]) -> pystac.ItemCollection:
    scheme, _, rest = source.partition(":")
    if scheme == "folder" and rest:
        from cubekit.sources import folder

        return folder.find(lake, period, rest)
    if scheme == "simulated" and rest:
        from cubekit.sources import simulated

        path, _, query = rest.partition("?")
        return simulated.find(lake, period, path, **_parameters(query, simulated.find))
    if scheme == "stac" and rest:
        from cubekit.sources import stac

        return stac.find(lake, period, rest)
    if scheme == "hyp3" and rest:
        from cubekit.sources import hyp3

        return hyp3.find(lake, period, rest)
    if (parts := source.partition("?"))[0] == "opera":
        from cubekit.sources import opera

        asked: opera.Parameters = {"tracks": tuple(tracks), **opera.parameters(parts[2])}
        return opera.find(lake, period, **asked)
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


def _parameters(query: str, find: Callable[..., object]) -> dict[str, Any]:
    """Numbers and texts that a URI gives for the keyword-only parameters of a source."""
    keywords = [one for one in signature(find).parameters.values() if one.kind is one.KEYWORD_ONLY]
    numbers = {one.name for one in keywords if "float" in str(one.annotation)}
    allowed = [one.name for one in keywords]
    try:
        given = parse_qsl(query, True, strict_parsing=bool(query))
        if unknown := [name for name, _ in given if name not in allowed]:
            msg = f"the simulated source has no parameter {', '.join(unknown)}; allowed are {', '.join(allowed)}"
            raise ConfigError(msg)
        pairs = {name: float(value) if name in numbers else value for name, value in given}
    except ValueError:
        msg = (
            f"the parameters {query!r} of the simulated source are not name=value pairs joined by &, with numbers for "
            f"{', '.join(name for name in allowed if name in numbers)}"
        )
        raise ConfigError(msg) from None
    if len(pairs) < len(given):
        msg = f"the parameters {query!r} of the simulated source name one of them twice; give each once"
        raise ConfigError(msg)
    return pairs


def _utc(time: datetime) -> datetime:
    return time.replace(tzinfo=UTC) if time.tzinfo is None else time.astimezone(UTC)
