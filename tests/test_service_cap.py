"""Warnings as CAP 1.2: every message holds what the standard demands, in its order, with its words."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from xml.etree import ElementTree as ET

import pytest
from shapely.geometry import MultiPolygon, Point, Polygon

from cubekit.config import ServiceOptions, Study
from cubekit.errors import ConfigError
from cubekit.lakes import Lake, catalogue
from cubekit.service.cap import NAMESPACE, grade, identifier, message
from cubekit.service.state import Alert, AlertEvent
from cubekit.service.warn import WITHDRAWN

NOON = datetime(2023, 7, 1, 12, tzinfo=UTC)
OPTIONS = ServiceOptions(cap_sender="lakes@example.org")

# OASIS CAP 1.2, sections 3.2.1 to 3.2.4: elements in the order of the schema, with how often each may occur.
ALERT = {
    **dict.fromkeys(("identifier", "sender", "sent", "status", "msgType"), (1, 1)),
    "source": (0, 1),
    "scope": (1, 1),
    **dict.fromkeys(("restriction", "addresses"), (0, 1)),
    "code": (0, None),
    **dict.fromkeys(("note", "references", "incidents"), (0, 1)),
    "info": (0, None),
}
INFO = {
    "language": (0, 1),
    "category": (1, None),
    "event": (1, 1),
    "responseType": (0, None),
    **dict.fromkeys(("urgency", "severity", "certainty"), (1, 1)),
    "audience": (0, 1),
    "eventCode": (0, None),
    **dict.fromkeys(("effective", "onset", "expires", "senderName", "headline", "description"), (0, 1)),
    **dict.fromkeys(("instruction", "web", "contact"), (0, 1)),
    **dict.fromkeys(("parameter", "resource", "area"), (0, None)),
}
AREA = {
    "areaDesc": (1, 1),
    **dict.fromkeys(("polygon", "circle", "geocode"), (0, None)),
    **dict.fromkeys(("altitude", "ceiling"), (0, 1)),
}
PARAMETER = {"valueName": (1, 1), "value": (1, 1)}
WORDS = {
    "status": {"Actual", "Exercise", "System", "Test", "Draft"},
    "msgType": {"Alert", "Update", "Cancel", "Ack", "Error"},
    "scope": {"Public", "Restricted", "Private"},
    "category": {
        "Geo",
        "Met",
        "Safety",
        "Security",
        "Rescue",
        "Fire",
        "Health",
        "Env",
        "Transport",
        "Infra",
        "CBRNE",
        "Other",
    },
    "responseType": {"Shelter", "Evacuate", "Prepare", "Execute", "Avoid", "Monitor", "Assess", "AllClear", "None"},
    "urgency": {"Immediate", "Expected", "Future", "Past", "Unknown"},
    "severity": {"Extreme", "Severe", "Moderate", "Minor", "Unknown"},
    "certainty": {"Observed", "Likely", "Possible", "Unlikely", "Unknown"},
}
TIMES = {"sent", "effective", "onset", "expires"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d[-+]\d\d:\d\d")
PAIR = re.compile(r"-?\d+(\.\d+)?,-?\d+(\.\d+)?")


def check_children(element: ET.Element, rules: dict[str, tuple[int, int | None]]) -> None:
    """Names, order and number of an element's children, and that there is no text between them."""
    names = [child.tag.removeprefix(f"{{{NAMESPACE}}}") for child in element]
    assert all(child.tag.startswith(f"{{{NAMESPACE}}}") for child in element)
    assert set(names) <= set(rules), set(names) - set(rules)
    order = list(rules)
    assert names == sorted(names, key=order.index)
    for name, (least, most) in rules.items():
        assert least <= names.count(name) <= (most if most is not None else len(names)), name
    assert not (element.text or "").strip()
    assert not element.attrib


def valid(content: bytes) -> ET.Element:
    """A message that keeps the rules of CAP 1.2."""
    root = ET.fromstring(content)
    assert root.tag == f"{{{NAMESPACE}}}alert"
    check_children(root, ALERT)
    for info in root.findall(f"{{{NAMESPACE}}}info"):
        check_children(info, INFO)
        for area in info.findall(f"{{{NAMESPACE}}}area"):
            check_children(area, AREA)
        for parameter in info.findall(f"{{{NAMESPACE}}}parameter"):
            check_children(parameter, PARAMETER)
    for element in root.iter():
        name, text = element.tag.removeprefix(f"{{{NAMESPACE}}}"), element.text or ""
        if len(element):
            continue
        assert text.strip() == text != ""
        if name in WORDS:
            assert text in WORDS[name]
        if name in TIMES:  # "Z" must not be used, and UTC is -00:00
            assert TIME.fullmatch(text)
            assert text.endswith("-00:00")
        if name in {"identifier", "sender"}:  # no spaces, commas or restricted characters
            assert not set(text) & set(" ,<&")
        if name == "polygon":
            pairs = text.split(" ")
            assert len(pairs) >= 4
            assert pairs[0] == pairs[-1]
            assert all(PAIR.fullmatch(pair) for pair in pairs)
            assert all(-90 <= float(y) <= 90 and -180 <= float(x) <= 180 for y, x in (p.split(",") for p in pairs))
        if name == "references":
            for triple in text.split(" "):
                sender, name_, sent = triple.split(",")
                assert sender
                assert name_
                assert TIME.fullmatch(sent)
    return root


def text_of(root: ET.Element, name: str) -> str | None:
    found = root.find(f".//{{{NAMESPACE}}}{name}")
    return None if found is None else found.text


def alert(sign: str = "drop") -> Alert:
    return Alert(id=f"tsho_rolpa-20230630T001130Z-{sign}", lake="tsho_rolpa", sign=sign, opened=NOON - timedelta(1))


def event(stage: str, *, sign: str = "drop", change: float | None = -0.2, outcome: str = "", hours: int = 0):
    value = None if change is None else 1.5 * (1 + change)
    times = {"at": NOON + timedelta(hours=hours), "recorded": NOON + timedelta(hours=hours + 9)}
    numbers = {"value": value, "expected": 1.5, "change": change, "deviations": -6.0}
    return AlertEvent(
        alert=alert(sign).id, stage=stage, outcome=outcome, release="R1", track="121", history=False, **times, **numbers
    )


LIFE = [
    event("first"),
    event("confirmed", hours=144),
    event("further 1", hours=288, change=-0.4),
    event("closed", hours=400, outcome="returned"),
]


@pytest.mark.parametrize("length", range(1, 5))
@pytest.mark.parametrize("lake", sorted(catalogue()))
def test_every_message_of_an_alert_is_valid(lake: str, length: int) -> None:
    """At every lake, from the first sign to the end."""
    root = valid(message(alert(), LIFE[:length], catalogue()[lake], OPTIONS))
    assert text_of(root, "msgType") == ("Alert" if length == 1 else "Update")
    assert text_of(root, "status") == "Test"
    assert text_of(root, "identifier") == identifier(LIFE[length - 1])
    assert len((text_of(root, "references") or "").split()) == length - 1


@pytest.mark.parametrize("sign", ["growth", "drop"])
@pytest.mark.parametrize("stage", ["first", "confirmed", "further 2", "closed"])
@pytest.mark.parametrize("change", [None, -0.9, -0.16, -0.06, 0.06, 0.2, 0.5])
def test_every_event_is_valid(sign: str, stage: str, change: float | None) -> None:
    """Whatever its size, and where it isn't known."""
    told = event(stage, sign=sign, change=change, outcome="settled" if stage == "closed" else "")
    valid(message(alert(sign), [told], catalogue()["gokyo"], OPTIONS))


def test_grades_of_a_drop() -> None:
    """From a first sign of a small one to a confirmed large one."""
    assert grade("drop", "first", -0.06) == ("Expected", "Moderate", "Possible", "Assess")
    assert grade("drop", "confirmed", -0.15) == ("Immediate", "Severe", "Observed", "Assess")
    assert grade("drop", "further 1", -0.31) == ("Immediate", "Extreme", "Observed", "Assess")


def test_grades_of_a_growth() -> None:
    """One step less than a drop, and of the future."""
    assert grade("growth", "first", 0.06) == ("Future", "Minor", "Possible", "Monitor")
    assert grade("growth", "confirmed", 0.2) == ("Future", "Moderate", "Observed", "Monitor")
    assert grade("growth", "confirmed", 0.4) == ("Future", "Severe", "Observed", "Monitor")


@pytest.mark.parametrize(
    ("outcome", "certainty"),
    [("returned", "Observed"), ("settled", "Observed"), ("not_confirmed", "Unlikely"), (WITHDRAWN, "Unlikely")],
)
def test_grades_of_what_is_closed(outcome: str, certainty: str) -> None:
    """It is past, and all is clear."""
    assert grade("drop", "closed", -0.5, outcome) == ("Past", "Minor", certainty, "AllClear")


@pytest.mark.parametrize("outcome", ["not_confirmed", WITHDRAWN])
def test_what_was_nothing_is_cancelled(outcome: str) -> None:
    """With a reference to what it cancels."""
    closed = event("closed", hours=144, outcome=outcome)
    root = valid(message(alert(), [LIFE[0], closed], catalogue()["gokyo"], OPTIONS))
    assert text_of(root, "msgType") == "Cancel"
    assert text_of(root, "references") == f"lakes@example.org,{identifier(LIFE[0])},2023-07-01T21:00:00-00:00"


def test_an_actual_warning_has_no_note_that_it_is_none() -> None:
    """Only where the study says so."""
    options = ServiceOptions(cap_sender="lakes@example.org", cap_status="Actual")
    root = valid(message(alert(), LIFE[:1], catalogue()["gokyo"], options))
    assert (text_of(root, "status"), text_of(root, "note")) == ("Actual", None)
    root = valid(message(alert(), LIFE[:1], catalogue()["gokyo"], OPTIONS))
    assert text_of(root, "note") == "Test: nobody need act on this message."


def test_the_polygon_is_the_lake() -> None:
    """Latitude first; simplified where it has many corners, and still the same area to a few per cent."""
    lake = catalogue()["tsho_rolpa"]
    root = valid(message(alert(), LIFE[:1], lake, OPTIONS))
    pairs = [tuple(map(float, pair.split(","))) for pair in str(text_of(root, "polygon")).split()]
    polygon = Polygon([(x, y) for y, x in pairs])
    assert polygon.symmetric_difference(lake.outline).area < 0.03 * lake.outline.area
    assert len(pairs) <= 99


def test_many_corners_and_several_parts() -> None:
    """A lake of two parts, one of a thousand corners."""
    base = catalogue()["tsho_rolpa"]
    y, x = base.centre
    parts = MultiPolygon([Point(x, y).buffer(0.002, quad_segs=300), Point(x + 0.006, y).buffer(0.001)])
    lake = Lake("two", 'Two & a "half" <lake>', parts, base.aoi, base.epsg)
    root = valid(message(alert(), LIFE[:1], lake, OPTIONS))
    assert len(root.findall(f".//{{{NAMESPACE}}}polygon")) == 2


def test_the_same_message_whenever_it_is_written() -> None:
    """Byte for byte, so that nobody takes it for a new one."""
    one, other = (message(alert(), LIFE[:2], catalogue()["gokyo"], OPTIONS) for _ in range(2))
    assert one == other


def test_without_sender_or_event_there_is_no_message() -> None:
    """Who warns must say who they are."""
    with pytest.raises(ConfigError, match=r"warnings have no sender; give service\.cap_sender"):
        message(alert(), LIFE[:1], catalogue()["gokyo"], ServiceOptions())
    with pytest.raises(ConfigError, match="has no event"):
        message(alert(), [], catalogue()["gokyo"], OPTIONS)


@pytest.mark.parametrize("sender", ["two words", "a,b", "a<b", "a&b", "a\nb"])
def test_senders_that_cap_forbids_are_refused(sender: str) -> None:
    """When the study is read."""
    document = {"study": {"name": "one"}, "lake": [{"id": "gokyo"}], "source": {"uri": "opera"}}
    with pytest.raises(ConfigError, match=r"service.cap_sender: a sender has no spaces"):
        Study.parse({**document, "service": {"cap_sender": sender}})
