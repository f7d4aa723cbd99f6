"""Alerts as CAP 1.2, the Common Alerting Protocol (OASIS, 2010): what warning systems read."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta, timezone
from typing import NamedTuple
from xml.etree import ElementTree as ET

from shapely.geometry.base import BaseGeometry

from cubekit.config import ServiceOptions
from cubekit.errors import ConfigError
from cubekit.lakes import Lake
from cubekit.service.state import Alert, AlertEvent
from cubekit.service.warn import WITHDRAWN

NAMESPACE = "urn:oasis:names:tc:emergency:cap:1.2"
"""Of the elements."""

VALID_DAYS = 24
"""A warning is outdated so long after the pass that it rests on: two repeat cycles."""

_UTC = timezone(timedelta(0))
_SEVERE, _EXTREME = 0.15, 0.30
_CORNERS = 99  # readers may refuse longer polygons


class Grade(NamedTuple):
    """How grave a message is, in the words of CAP."""

    urgency: str
    severity: str
    certainty: str
    response: str


def grade(sign: str, stage: str, change: float | None, outcome: str = "") -> Grade:
    """Grade an alert's event.

    Parameters
    ----------
    sign
        ``growth`` or ``drop``.
    stage
        ``first``, ``confirmed``, ``further N`` or ``closed``.
    change
        area / expected - 1; None when it isn't known.
    outcome
        Of a closed alert.

    Returns
    -------
    Grade
        ``certainty``: Possible of a first sign (one pass), Observed of what two passes agree on, Unlikely of what was
        not confirmed or withdrawn. ``urgency``: Past of what is closed; else, of a drop (water is leaving, or has
        left), Expected at its first sign and Immediate once it is confirmed; of a growth Future. ``severity``, of a
        drop: Extreme from 30 % of the area on, Severe from 15 % on, else Moderate; of a growth one step less; Minor of
        what is closed.

    Notes
    -----
    A satellite passes every few days: Immediate says that who is responsible should look now, not that water comes now.

    Examples
    --------
    >>> grade("drop", "confirmed", -0.2)
    Grade(urgency='Immediate', severity='Severe', certainty='Observed', response='Assess')
    """
    if stage == "closed":
        certainty = "Unlikely" if outcome in {"not_confirmed", WITHDRAWN} else "Observed"
        return Grade("Past", "Minor", certainty, "AllClear")
    severities = ("Moderate", "Severe", "Extreme") if sign == "drop" else ("Minor", "Moderate", "Severe")
    size = abs(change or 0.0)
    severity = severities[(size >= _SEVERE) + (size >= _EXTREME)]
    certainty = "Possible" if stage == "first" else "Observed"
    if sign == "growth":
        return Grade("Future", severity, certainty, "Monitor")
    return Grade("Expected" if stage == "first" else "Immediate", severity, certainty, "Assess")


def message(alert: Alert, events: Sequence[AlertEvent], lake: Lake, options: ServiceOptions) -> bytes:
    """Write the message of an alert's newest event.

    Parameters
    ----------
    alert
        The alert.
    events
        Of it, in order; the last is told, and refers to those before it.
    lake
        Where.
    options
        Of the study: sender and status.

    Returns
    -------
    bytes
        XML in UTF-8. ``Alert`` of a first event, ``Update`` of a later one, ``Cancel`` of one that closes an alert
        that was not confirmed or was withdrawn.

    Raises
    ------
    ConfigError
        When the study names no sender, or there is no event.
    """
    if not options.cap_sender:
        msg = 'warnings have no sender; give service.cap_sender in the study, e.g. "lakes@example.org"'
        raise ConfigError(msg)
    if not events:
        msg = f"alert {alert.id} has no event, so there is nothing to tell"
        raise ConfigError(msg)
    event = events[-1]
    root = ET.Element("alert", xmlns=NAMESPACE)
    kind = "Alert" if len(events) == 1 else "Update"
    if event.stage == "closed" and event.outcome in {"not_confirmed", WITHDRAWN} and len(events) > 1:
        kind = "Cancel"
    _add(root, "identifier", identifier(event))
    _add(root, "sender", options.cap_sender)
    _add(root, "sent", _time(event.recorded))
    _add(root, "status", options.cap_status)
    _add(root, "msgType", kind)
    _add(root, "scope", "Public")
    if options.cap_status != "Actual":
        _add(root, "note", f"{options.cap_status}: nobody need act on this message.")
    if len(events) > 1:
        before = (f"{options.cap_sender},{identifier(one)},{_time(one.recorded)}" for one in events[:-1])
        _add(root, "references", " ".join(before))
    _add(root, "incidents", alert.id)
    _add_info(root, alert, event, lake)
    ET.indent(root)
    text: bytes = ET.tostring(root, encoding="utf-8", xml_declaration=True)
    return text


def identifier(event: AlertEvent) -> str:
    """Name of the message of an event: the same whenever it is written."""
    return f"cubekit-{event.alert}-{event.stage.replace(' ', '-')}"


def _add_info(root: ET.Element, alert: Alert, event: AlertEvent, lake: Lake) -> None:
    told = grade(alert.sign, event.stage, event.change, event.outcome)
    name = lake.title
    what = "drained" if alert.sign == "drop" else "grown"
    info = ET.SubElement(root, "info")
    _add(info, "language", "en")
    for category in ("Geo", "Env"):
        _add(info, "category", category)
    _add(info, "event", f"Glacial lake {'drainage' if alert.sign == 'drop' else 'growth'}")
    _add(info, "responseType", told.response)
    _add(info, "urgency", told.urgency)
    _add(info, "severity", told.severity)
    _add(info, "certainty", told.certainty)
    _add(info, "effective", _time(event.recorded))
    _add(info, "onset", _time(alert.opened))
    _add(info, "expires", _time(max(event.recorded, event.at) + timedelta(days=VALID_DAYS)))
    if event.stage == "closed":
        _add(info, "headline", f"{name}: alert closed ({event.outcome.replace('_', ' ')})")
    else:
        sure = "may have" if event.stage == "first" else "has"
        _add(info, "headline", f"{name} {sure} {what}{_by(event.change)}")
    _add(info, "description", _described(alert, event))
    for key, value in (
        ("area_km2", _number(event.value)),
        ("expected_km2", _number(event.expected)),
        ("change", _number(event.change)),
        ("stage", event.stage),
        ("track", event.track),
        ("release", event.release),
    ):
        parameter = ET.SubElement(info, "parameter")
        _add(parameter, "valueName", key)
        _add(parameter, "value", value)
    area = ET.SubElement(info, "area")
    where = f"{name}, {lake.centre[0]:.4f} N {lake.centre[1]:.4f} E"
    _add(area, "areaDesc", where)
    for polygon in getattr(lake.outline, "geoms", [lake.outline]):
        _add(area, "polygon", _corners(polygon))
    if lake.altitude is not None:
        _add(area, "altitude", f"{lake.altitude / 0.3048:.0f}")  # feet, says the standard


def _described(alert: Alert, event: AlertEvent) -> str:
    seen = "no area" if event.value is None else f"{event.value:.3f} km2 of water"
    expected = "nothing could be expected" if event.expected is None else f"{event.expected:.3f} km2 were expected"
    off = "" if event.change is None else f" ({event.change:+.1%})"
    return (
        f"Sentinel-1 saw {seen} at {event.at:%Y-%m-%d %H:%M} UTC on track {event.track}, where {expected} from the "
        f"lake's past{off}. The first pass that was off is of {alert.opened:%Y-%m-%d %H:%M} UTC. Measured by machine "
        "from radar images; not checked by anybody."
    )


def _by(change: float | None) -> str:
    return "" if change is None else f" by {abs(change):.0%}"


def _number(value: float | None) -> str:
    return "not known" if value is None else f"{value:.6f}"


def _corners(polygon: BaseGeometry) -> str:
    """Latitude,longitude pairs, the first again at the end; the outline coarsened until few are left."""
    ring = polygon.exterior  # type: ignore[attr-defined]
    tolerance = 1e-5
    while len(ring.coords) > _CORNERS:
        ring = polygon.simplify(tolerance).exterior  # type: ignore[attr-defined]
        tolerance *= 2
    return " ".join(f"{y:.5f},{x:.5f}" for x, y, *_ in ring.coords)


def _add(parent: ET.Element, name: str, text: str) -> None:
    ET.SubElement(parent, name).text = text


def _time(moment: datetime) -> str:
    """As CAP wants it: to the second, and UTC as -00:00, never as Z."""
    return f"{moment.astimezone(_UTC):%Y-%m-%dT%H:%M:%S}-00:00"
