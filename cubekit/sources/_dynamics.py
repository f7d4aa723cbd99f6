"""How a simulated lake changes: its shore, its ice, the wind, the snow around it, and the ponds beside it.

Notes
-----
What is random is drawn from `draws`, keyed by seed and lake, so nothing depends on the order of calls. Fitted to the
Nepalese Himalaya at 4,500 to 5,000 m, where lakes are frozen from December to April or May: the season of ice gets
longer by four days every 100 m, none is left at 1,200 m; south of the equator all seasons are half a year later.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from functools import cached_property

import numpy as np
import shapely
from numpy.typing import NDArray
from shapely.affinity import rotate, translate
from shapely.geometry import LineString, Point, Polygon, box
from shapely.geometry.base import BaseGeometry

from cubekit.errors import ConfigError
from cubekit.lakes import Lake

REFERENCE = datetime(2020, 7, 1, tzinfo=UTC)
"""When the simulated lake has its real outline: ICIMOD's, which the catalogue has, are of 2020."""

HORIZON = datetime(2036, 9, 1, tzinfo=UTC)
"""Until when the ground ahead of a growing lake is kept level."""

STATES = ("open", "ice", "thaw")
"""States of a lake's surface: open water, ice from shore to shore, and broken ice."""

ALTITUDE = 4700.0
"""Assumed for lakes whose altitude isn't known, metres."""

_YEAR = timedelta(days=365.25)
_CUT = 0.75  # part of its length at which the lake is stretched
_DRAIN = timedelta(days=3)  # an outburst empties a lake within hours to days
_ICE_DAYS, _LAPSE = 138.0, 0.04  # days of ice at 4,600 m, and more of them every metre
_MIDWINTER = 60  # middle of the season of ice, days after New Year
# Weibull, scale in m/s of the morning and of the evening. Fitted: 2.9 to 5 m/s is what CMOD5.N asks for to be as bright
# as lakes in HyP3's summer crops, whose medians are -16.6 to -20.5 dB at 33 to 46 degrees and hardly change
_CALM, _BREEZY, _SHAPE = 3.7, 4.2, 4.5
_WINDY, _GALE = 0.1, 5.0  # share of passes with more wind than that, and how much it is at most, m/s: assumed
_APART = 120.0  # of ponds from the lake and from each other, metres
_GENTLE = math.tan(math.radians(14))  # ground on which ponds lie


@dataclass(frozen=True)
class Outburst:
    """A lake that drains within days, and refills or not.

    Parameters
    ----------
    day
        When it begins, at 00 UTC; three days later it is over.
    share
        Part of the lake's area that falls dry, all along the shore: above 0 and below 1.
    refill_years
        How long the lake then takes to be as large as without the outburst; 0 when it never is.

    Raises
    ------
    ConfigError
        When a value is out of range.
    """

    day: date
    share: float = 0.3
    refill_years: float = 0.0

    def __post_init__(self) -> None:
        if not 0 < self.share < 1 or not 0 <= self.refill_years < math.inf:
            msg = (
                f"an outburst of {self.share:g} of the area that refills in {self.refill_years:g} years is none; give "
                "a share above 0 and below 1, and 0 years (never) or more"
            )
            raise ConfigError(msg)

    @classmethod
    def parse(cls, text: str) -> Outburst:
        """Read ``DAY[:SHARE[:REFILL_YEARS]]``, as the URI of the source has it.

        Raises
        ------
        ConfigError
            When it is written otherwise, or a value is out of range.

        Examples
        --------
        >>> Outburst.parse("2021-08-01:0.4")
        Outburst(day=datetime.date(2021, 8, 1), share=0.4, refill_years=0.0)
        """
        day, *numbers = text.split(":")
        try:
            return cls(date.fromisoformat(day), *(float(number) for number in numbers))
        except (ValueError, TypeError):  # TypeError: more numbers than there are parameters
            msg = f"outburst {text!r} isn't understood; write DAY:SHARE:REFILL_YEARS, e.g. 2021-08-01:0.3:5"
            raise ConfigError(msg) from None

    def dry(self, time: datetime) -> float:
        """Part of the lake's area that is dry at a time (UTC, with zone) because of the outburst."""
        since = time - datetime(self.day.year, self.day.month, self.day.day, tzinfo=UTC)
        if since <= timedelta(0):
            return 0.0
        if since < _DRAIN:
            return self.share * (since / _DRAIN)
        if not self.refill_years:
            return self.share
        return self.share * max(0.0, 1 - (since - _DRAIN) / (_YEAR * self.refill_years))


@dataclass(frozen=True)
class Cover:
    """What lies on a lake at one time.

    Attributes
    ----------
    state
        One of `STATES`.
    share
        Part of the lake under ice: 0 open, 1 ice, in between thaw.
    thickness
        Of the ice: 0 at freeze-up, 1 when it is the thickest of the winter.
    wet
        Whether the ice melts at its surface.
    """

    state: str
    share: float
    thickness: float
    wet: bool


@dataclass(frozen=True)
class Dynamics:
    """One lake through the years; growth is in metres a year."""

    lake: Lake
    seed: int
    growth: float
    outburst: Outburst | None = None

    def polygon(self, time: datetime) -> BaseGeometry:
        """Shore at a time (UTC, with zone), in the lake's coordinate reference system.

        The outline is cut across at three quarters of its length, the part with the front (the end with more room in
        the AOI) moves along the long axis, and the cross-section fills the gap: after `REFERENCE` the area grows by
        exactly width times distance. Before, a slice is taken out. The season moves the shore, outermost in
        September, by its level over the slope of the shore. What an outburst takes falls dry all along the shore.
        """
        angle, outline = self._axis
        west, south, east, north = outline.bounds
        cut = west + _CUT * (east - west)
        # A front that would recede beyond the cut stays there.
        moved = max((time - REFERENCE) / _YEAR * self.growth, cut + 1 - east)
        back = outline.intersection(box(west - 1, south - 1, cut, north + 1))
        front = outline.intersection(box(cut + max(-moved, 0), south - 1, east + 1, north + 1))
        section = outline.intersection(LineString([(cut, south - 1), (cut, north + 1)]))
        gap = [
            box(cut, part.bounds[1], cut + moved, part.bounds[3]) for part in shapely.get_parts(section) if moved > 0
        ]
        grown = rotate(shapely.union_all([back, translate(front, moved), *gap]), angle, origin=(0, 0))
        phase = 2 * math.pi * (self._day(time) - 245) / 365.25
        full = grown.buffer(self.shore_metres * math.cos(phase), join_style="mitre")
        dry = self.outburst.dry(time) if self.outburst else 0.0
        return _shrunken(full, 1 - dry) if dry else full

    def water_km2(self, time: datetime) -> float:
        """True area of the lake within its AOI at a time (UTC, with zone), km2 on the ground."""
        area: float = self.polygon(time).intersection(self._aoi).area
        return area / self.lake.spacing**2 * self.lake.pixel_km2

    @cached_property
    def widest(self) -> BaseGeometry:
        """The lake without any outburst at its widest, in the September of `HORIZON`'s year."""
        return Dynamics(self.lake, self.seed, self.growth).polygon(HORIZON)

    @cached_property
    def front_degrees(self) -> float:
        """Direction in which the front moves, counter-clockwise from east, degrees."""
        return self._axis[0]

    @cached_property
    def shore_metres(self) -> float:
        """How far the season moves the shore each way: a level of 0.3 to 0.8 m on a shore of 11 to 27 degrees."""
        level, slope = draws(self.seed, self.lake, "season").uniform((0.3, 0.2), (0.8, 0.5))
        return float(level / slope)

    def cover(self, time: datetime) -> Cover:
        """What lies on the lake at a time (UTC, with zone)."""
        year = (time - timedelta(days=self._late)).year
        for winter in (year, year + 1):
            freeze, breaks, free = self.ice(winter)
            if freeze <= time < free:
                # By the root of the days since freeze-up (Stefan's law)
                thickness = math.sqrt((min(time, breaks) - freeze) / (breaks - freeze))
                if time < breaks:
                    return Cover("ice", 1.0, thickness, wet=breaks - time < timedelta(days=10))
                left = (free - time) / (free - breaks)
                return Cover("thaw", 0.05 + 0.9 * left, thickness * math.sqrt(left), wet=True)
        return Cover("open", 0.0, 0.0, wet=False)

    def ice(self, year: int) -> tuple[datetime, datetime, datetime]:
        """When the winter that ends in a year freezes the lake, breaks up and leaves it free of ice; UTC.

        The three coincide where the lake is too low for ice.
        """
        early, late, lasts = draws(self.seed, self.lake, "ice", year).normal((0, 0, 14), (7, 8, 4))
        middle = datetime(year, 1, 1, tzinfo=UTC) + timedelta(days=_MIDWINTER + self._late)
        half = (_ICE_DAYS + _LAPSE * (self._altitude - 4600)) / 2
        freeze, free = middle - timedelta(days=half + early), middle + timedelta(days=half + late)
        breaks = free - timedelta(days=float(np.clip(lasts, 5, 25)))
        return (freeze, breaks, free) if breaks > freeze else (middle, middle, middle)

    def snow(self, time: datetime) -> tuple[float, float]:
        """Heights above the lake (m) from which land bears dry snow at a time (UTC, with zone), and from which any.

        In between the snow is wet. In winter dry snow lies from near the shore; from March on it turns wet from below,
        and what is wet melts away, until only the heights keep some in summer. Each year is a little different.
        """
        day = (self._day(time) + 92) % 365.25  # since 1 October
        year = (time - timedelta(days=self._late) + timedelta(days=92)).year
        deep, warm = draws(self.seed, self.lake, "snow", year).normal(0, (200, 0.3))
        # Days since 1 October: autumn, midwinter, early spring, spring, early summer, summer, autumn; and heights above
        # a lake at 4,700 m: where snow begins, and over how many metres from there it is wet
        days = (0, 60, 120, 165, 200, 235, 275, 320, 366)
        low = np.interp(day, days, (900, 700, 350, 250, 350, 600, 1000, 1100, 900)) - (self._altitude - ALTITUDE) + deep
        wet = np.interp(day, days, (100, 0, 0, 0, 450, 700, 700, 600, 100)) * math.exp(warm)
        return float(low + wet), float(low)

    def wind(self, time: datetime, quantile: float) -> float:
        """Wind that roughens the lake, m/s: its quantile (0 to 1) at this time (UTC); evenings have more."""
        longitude = self.lake.centre[1]
        local = (time.hour + time.minute / 60 + longitude / 15) % 24
        scale = _BREEZY if 10 <= local < 21 else _CALM
        usual = scale * (-math.log1p(-quantile)) ** (1 / _SHAPE)
        return float(usual + _GALE * max(0.0, quantile - (1 - _WINDY)) / _WINDY)

    @property
    def _altitude(self) -> float:
        return ALTITUDE if self.lake.altitude is None else self.lake.altitude

    @property
    def _late(self) -> float:
        return 0.0 if self.lake.centre[0] >= 0 else 182.6

    def _day(self, time: datetime) -> float:
        return (time - timedelta(days=self._late)).timetuple().tm_yday

    @cached_property
    def _aoi(self) -> BaseGeometry:
        return self.lake.project(shapely.segmentize(self.lake.aoi, 0.001))  # straight in degrees is curved here

    @cached_property
    def _axis(self) -> tuple[float, BaseGeometry]:
        return along_axis(self.lake)


def draws(seed: int, lake: Lake, *key: str | int) -> np.random.Generator:
    """Random numbers of a lake and a key, from their beginning."""
    words = [part if isinstance(part, int) else zlib.crc32(part.encode()) for part in (lake.id, *key)]
    return np.random.default_rng([seed, *words])


def along_axis(lake: Lake) -> tuple[float, BaseGeometry]:
    """Angle (degrees) of the long axis, towards the end with more room in the AOI, and the outline turned onto x."""
    outline, aoi = lake.project(lake.outline), lake.project(lake.aoi)
    ring = np.asarray(shapely.get_coordinates(outline.minimum_rotated_rectangle))
    sides = np.diff(ring[:3], axis=0)
    dx, dy = sides[np.argmax(np.hypot(*sides.T))]
    angle = math.degrees(math.atan2(dy, dx))
    turned, around = (rotate(geometry, -angle, origin=(0, 0)) for geometry in (outline, aoi))
    if turned.bounds[0] - around.bounds[0] > around.bounds[2] - turned.bounds[2]:
        angle += 180
        turned = rotate(turned, 180, origin=(0, 0))
    return angle, turned


def place_ponds(
    widest: BaseGeometry,
    rise: NDArray[np.float32],
    corner: tuple[float, float],
    spacing: float,
    generator: np.random.Generator,
) -> list[Polygon]:
    """Ponds of 0.002 to 0.08 km2 on gentle ground around a lake, never nearer than 120 m to it or to each other.

    Parameters
    ----------
    widest
        The lake at its widest.
    rise
        Slope of the ground, m/m, (y, x) of the grid on which ponds may lie.
    corner, spacing
        Upper left corner and spacing of that grid, in the coordinate reference system of `widest`.
    generator
        Random numbers.

    Returns
    -------
    list of Polygon
        Up to eight; none where the ground is nowhere gentle.
    """
    height, width = rise.shape
    wanted, taken = int(generator.integers(1, 9)), widest
    ponds: list[Polygon] = []
    inside = box(corner[0], corner[1] - height * spacing, corner[0] + width * spacing, corner[1])
    reach = max(np.ptp(widest.bounds[::2]), np.ptp(widest.bounds[1::2])) / 2 + 1500
    middle = widest.centroid
    for _ in range(40 * wanted):
        if len(ponds) == wanted:
            break
        east, north = generator.uniform(-reach, reach, 2)
        x, y = middle.x + east, middle.y + north
        radius = math.sqrt(math.exp(generator.uniform(math.log(2000), math.log(80_000))) / math.pi)
        pond = _blob(x, y, radius, generator)
        row, column = int((corner[1] - y) // spacing), int((x - corner[0]) // spacing)
        if not inside.covers(pond.buffer(2 * spacing)) or rise[row, column] > _GENTLE:
            continue
        if taken.distance(pond) >= _APART:
            ponds.append(pond)
            taken = shapely.union_all([taken, pond])
    return ponds


def _blob(x: float, y: float, radius: float, generator: np.random.Generator) -> Polygon:
    """A rounded shape of about this radius, up to twice as long as wide."""
    angles = np.linspace(0, 2 * math.pi, 48, endpoint=False)
    amplitudes, phases = generator.normal(0, (0.1, 0.07, 0.05)), generator.uniform(0, 2 * math.pi, 3)
    radii = radius * (
        1 + sum(a * np.cos(n * angles + p) for n, a, p in zip((2, 3, 4), amplitudes, phases, strict=True))
    )
    stretch, turn = generator.uniform(1, 1.4), generator.uniform(0, 180)
    ring = np.stack([x + stretch * radii * np.cos(angles), y + radii / stretch * np.sin(angles)], axis=1)
    return rotate(Polygon(ring), turn, origin=Point(x, y))


def _shrunken(polygon: BaseGeometry, share: float) -> BaseGeometry:
    """A polygon less a strip along its shore, so that this share of its area is left."""
    from scipy.optimize import brentq

    left, inner = share * polygon.area, math.sqrt(polygon.area)
    width = brentq(lambda metres: polygon.buffer(-metres).area - left, 0, inner, xtol=1e-4)
    return polygon.buffer(-width)
