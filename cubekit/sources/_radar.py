"""How a side-looking radar sees a terrain: local incidence, layover and shadow, from geometry alone.

Notes
-----
Over a few kilometres the waves are plane and the Earth is flat. A point at ground range g (along the look) and height
h then has the slant range ``g sin(incidence) - h cos(incidence)``, and lies on the ray
``g cos(incidence) + h sin(incidence)``. Along a line of sight on the ground a point is in layover when another point
of the line has the same slant range, and in shadow when a nearer point lies above its ray.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from cubekit.errors import ConfigError
from cubekit.passes import ORBIT_SECONDS
from cubekit.sources._geometry import _EARTH_RADIUS, _EARTH_RATE, _INCLINATION, View

if TYPE_CHECKING:
    from scipy.sparse import csr_array

_SHARPNESS = 35.0  # m, standard deviation of the blur in the heights of the terrain correction: see Observation
_LEAST_AREA = 0.03  # of a level pixel: cells that show less hold no echo (OPERA's floor of the correction is -30 dB)
_ORBIT_HEIGHT = 693.0  # km, of Sentinel-1 (Torres et al. 2012)

Floats = NDArray[np.float32]
Flags = NDArray[np.bool_]


@dataclass(frozen=True)
class Look:
    """From where a radar looks to the right: its heading, clockwise from north, and the incidence angle, degrees."""

    heading: float
    incidence: float


@dataclass(frozen=True)
class Observation:
    """What a look sees of a terrain, on its grid (y, x), and where the echoes lie in the radar's own image.

    The radar image has dims (line, range): lines a pixel apart across the look, ranges as far apart as pixels are on
    level ground. Slopes that face the radar are short in it and, brought back to the map, smeared along the look;
    what is in layover lies on top of each other.

    Attributes
    ----------
    local_incidence
        Angle between the ray and the normal of the ground, degrees, float32: above 90 where the ground turns away.
    layover, shadow
        bool. Layover is active (the folded slope) and passive (what shares its slant range); neither excludes the
        other.
    line, place
        Where a pixel lies in the radar image: fractional line and range, float32.
    area
        Area that a pixel shows to the ray, in areas of a level pixel seen from above, float32; 0 in shadow.
    flattening
        That area as the terrain correction takes it, from a model that knows the ground less sharply, float32.
    """

    local_incidence: Floats
    layover: Flags
    shadow: Flags
    line: Floats
    place: Floats
    area: Floats
    flattening: Floats

    @property
    def radar_shape(self) -> tuple[int, int]:
        """Lines and ranges of the radar image."""
        return math.ceil(float(self.line.max())) + 1, math.ceil(float(self.place.max())) + 1

    def to_radar(self, power: Floats) -> Floats:
        """Bring gamma0 from the map to the radar image, with its terrain correction.

        Parameters
        ----------
        power
            Linear power (band, y, x).

        Returns
        -------
        numpy.ndarray
            float32 (band, line, range): in each cell the echoes of all pixels over the area that the terrain
            correction reckons with (Small 2011); 0 where nothing echoes.
        """
        flat = power.reshape(len(power), -1).T
        image = self._spread @ (flat * self.area.reshape(-1, 1))
        image *= self._normalisation
        return np.ascontiguousarray(image.T).reshape(len(power), *self.radar_shape)

    def to_map(self, image: Floats) -> Floats:
        """Bring a radar image to the map, bilinearly.

        Parameters
        ----------
        image
            Radar image (band, line, range).

        Returns
        -------
        numpy.ndarray
            float32 (band, y, x). Pixels in shadow hold what the image has at their range: often nothing but noise.
        """
        flat = self._gather @ image.reshape(len(image), -1).T
        return np.ascontiguousarray(flat.T, np.float32).reshape(len(image), *self.line.shape)

    @cached_property
    def _gather(self) -> csr_array:
        """Weights of the four cells around each pixel (pixel, cell)."""
        from scipy.sparse import csr_array

        lines, ranges = self.radar_shape
        low, near = (np.clip(np.floor(at), 0, None) for at in (self.line.ravel(), self.place.ravel()))
        low, near = np.minimum(low, lines - 2), np.minimum(near, ranges - 2)
        down, far = self.line.ravel() - low, self.place.ravel() - near
        first = low.astype(np.int32) * ranges + near.astype(np.int32)
        cells = np.stack([first, first + 1, first + ranges, first + ranges + 1], axis=1)
        parts = np.stack([(1 - down) * (1 - far), (1 - down) * far, down * (1 - far), down * far], axis=1)
        ends = np.arange(0, cells.size + 1, 4, dtype=np.int32)
        return csr_array((parts.ravel(), cells.ravel(), ends), shape=(first.size, lines * ranges))

    @cached_property
    def _spread(self) -> csr_array:
        return self._gather.T.tocsr()

    @cached_property
    def _normalisation(self) -> Floats:
        """One over the area of each cell (cell, 1) that the terrain correction divides by, 0 where there is none."""
        area = self._spread @ self.flattening.reshape(-1, 1)
        return np.where(area > _LEAST_AREA, 1 / np.maximum(area, _LEAST_AREA), 0).astype(np.float32)


def look_of(view: View) -> Look:
    """How a track looks at its lake.

    Parameters
    ----------
    view
        A track that sees a lake.

    Returns
    -------
    Look
        Heading in which the look is perpendicular to the ground track, turned by the convergence of the meridians
        between nadir and lake; incidence from the ground range: the orbit is 693 km above a sphere. Both in degrees.

    Notes
    -----
    Right to about 0.3 degrees. Grid north is taken for true north, which in a UTM zone adds up to 3 degrees times the
    sine of the latitude.

    Examples
    --------
    >>> look = look_of(View(12, "ascending", 461.0, 480.0))
    >>> round(look.heading, 1), round(look.incidence, 1)
    (-10.4, 38.3)
    """
    along = 2 * math.pi * view.seconds / ORBIT_SECONDS
    latitude = math.asin(math.sin(_INCLINATION) * math.sin(along))
    # The velocity of the track over ground that turns below it, in orbital radii: east and north
    turned = ORBIT_SECONDS * _EARTH_RATE / (2 * math.pi)
    east = math.cos(_INCLINATION) / math.cos(latitude) - turned * math.cos(latitude)
    north = math.sin(_INCLINATION) * math.cos(along) / math.cos(latitude)
    azimuth, arc = math.atan2(east, north) + math.pi / 2, view.ground_range / _EARTH_RADIUS
    there = math.atan2(
        math.sin(azimuth) * math.cos(latitude),
        math.cos(latitude) * math.cos(arc) * math.cos(azimuth) - math.sin(latitude) * math.sin(arc),
    )
    radius = _EARTH_RADIUS + _ORBIT_HEIGHT
    slant = math.sqrt(_EARTH_RADIUS**2 + radius**2 - 2 * _EARTH_RADIUS * radius * math.cos(arc))
    heading = math.degrees(there) - 90
    return Look((heading + 180) % 360 - 180, math.degrees(math.asin(radius * math.sin(arc) / slant)))


def observe(elevation: Floats, spacing: float, look: Look) -> Observation:
    """Find what a look sees of a terrain.

    Parameters
    ----------
    elevation
        Heights (y, x), metres, finite; y runs south.
    spacing
        Side of a pixel, metres.
    look
        Where the radar looks from.

    Returns
    -------
    Observation
        On the grid of `elevation`. What lies outside it neither lays over nor casts a shadow: keep a margin.

    Raises
    ------
    ConfigError
        When the elevation is not a finite array (y, x) of at least 2 x 2 pixels, or the incidence is not between
        0 and 90 degrees.

    Notes
    -----
    The grid is sheared until its lines run along the look (heights in between are interpolated), which holds for any
    heading. On a line, layover is exact for the sampled heights: r at a point is not above all before it, or not below
    all after it. So is shadow, by the highest ray before it.

    Examples
    --------
    >>> ridge = np.maximum(0, 300 - 20 * np.abs(np.arange(-32, 32))) * np.ones((64, 1))  # slopes of 45 degrees
    >>> seen = observe(ridge.astype(np.float32), 20.0, Look(0.0, 35.0))
    >>> seen.layover[32, 16:34].all(), seen.shadow.any()
    (np.True_, np.False_)
    """
    if elevation.ndim != 2 or min(elevation.shape) < 2 or not np.isfinite(elevation).all():
        msg = (
            f"the elevation of shape {elevation.shape} must be finite, dims (y, x), and at least 2 x 2 pixels; fill it"
        )
        raise ConfigError(msg)
    if not 0 < look.incidence < 90:
        msg = f"incidence {look.incidence} is not between 0 and 90 degrees; Sentinel-1 has 29 to 46"
        raise ConfigError(msg)
    from scipy.ndimage import gaussian_filter

    azimuth, incidence = math.radians(look.heading + 90), math.radians(look.incidence)
    east, north, sine, cosine = math.sin(azimuth), math.cos(azimuth), math.sin(incidence), math.cos(incidence)
    direction, incident = (east, north), (sine, cosine)
    elevation = np.asarray(elevation, np.float32)
    facing, steepness = _facing(elevation, spacing, direction, incident)
    local = np.degrees(np.arccos(np.clip(facing / steepness, -1, 1)))
    nearest, slant, ray = _lines(elevation, spacing, direction, incident)
    layover, shadow = (flags[nearest] for flags in _hidden(slant, ray))
    lit = np.where(shadow, np.float32(0), 1)
    known, _ = _facing(gaussian_filter(elevation, _SHARPNESS / spacing, mode="nearest"), spacing, direction, incident)
    rows, columns = np.indices(elevation.shape, np.float32)
    line = rows * east + columns * north
    place = columns * east - rows * north - elevation * (cosine / (sine * spacing))
    return Observation(
        local,
        layover,
        shadow,
        line - line.min(),
        place - place.min(),
        lit * np.maximum(facing, 0),
        lit * np.maximum(known, 0),
    )


def _facing(
    elevation: Floats, spacing: float, direction: tuple[float, float], incidence: tuple[float, float]
) -> tuple[Floats, Floats]:
    """Area that the ground shows to the ray and area of the ground itself, in areas of a level pixel from above."""
    (east, north), (sine, cosine) = direction, incidence
    south_rise, east_rise = np.gradient(elevation, spacing)
    facing = np.asarray(cosine + sine * (east * east_rise - north * south_rise), np.float32)
    return facing, np.asarray(np.sqrt(1 + south_rise**2 + east_rise**2), np.float32)


def _lines(
    elevation: Floats, spacing: float, direction: tuple[float, float], incidence: tuple[float, float]
) -> tuple[tuple[NDArray[np.intp], NDArray[np.intp]], NDArray[np.float64], NDArray[np.float64]]:
    """Shear a grid until its lines run along the look.

    Returns
    -------
    tuple
        Nearest line and place on it of every pixel (y, x), as an index; slant range and ray along the lines (line,
        place), in metres, NaN outside the grid.
    """
    (east, north), (sine, cosine) = direction, incidence
    rows, columns = np.indices(elevation.shape)
    # Places on a line are counted along the axis that the look is nearer to, in the direction in which it goes.
    across, along, slope = (rows, columns, -north / abs(east)) if abs(east) >= abs(north) else (columns, rows, 0.0)
    if abs(east) < abs(north):
        slope = east / abs(north)
        elevation, backwards = elevation.T, north > 0
    else:
        backwards = east < 0
    size, length = elevation.shape
    if backwards:
        elevation, along = elevation[:, ::-1], length - 1 - along
    offset = max(slope * (length - 1), 0.0)
    drift = slope * np.arange(length) - offset
    count = math.ceil(size - 1 + abs(slope) * (length - 1)) + 1
    source = np.arange(count)[:, None] + drift
    low = np.clip(np.floor(source).astype(np.intp), 0, size - 2)
    part = np.clip(source - low, 0, 1)
    places = np.arange(length)[None]
    heights = elevation[low, places] * (1 - part) + elevation[low + 1, places] * part
    heights[(source <= -1) | (source >= size)] = np.nan
    ground = np.arange(length) * spacing * math.hypot(1, slope)
    line = np.asarray(np.rint(across - drift[along]), np.intp)
    return (line, np.asarray(along, np.intp)), ground * sine - heights * cosine, ground * cosine + heights * sine


def _hidden(slant: NDArray[np.float64], ray: NDArray[np.float64]) -> tuple[Flags, Flags]:
    """Layover and shadow along lines (line, place)."""
    outside = np.isnan(slant)
    before = np.maximum.accumulate(np.where(outside, -np.inf, slant), axis=1)[:, :-1]
    after = np.minimum.accumulate(np.where(outside, np.inf, slant)[:, ::-1], axis=1)[:, -2::-1]
    above = np.maximum.accumulate(np.where(outside, -np.inf, ray), axis=1)[:, :-1]
    layover, shadow = np.zeros(slant.shape, bool), np.zeros(slant.shape, bool)
    layover[:, 1:] = slant[:, 1:] <= before
    layover[:, :-1] |= slant[:, :-1] >= after
    shadow[:, 1:] = ray[:, 1:] < above
    return layover, shadow
