"""From water probabilities to numbers a study can print: areas, seasons, trends, and the files that carry them."""

from cubekit.series.alerts import replay
from cubekit.series.area import MAYBE_OPEN, STATES, lake_area
from cubekit.series.change import front_position, front_rate, water_change
from cubekit.series.climatology import anomalies, climatology, ice_dates
from cubekit.series.completion import completed_area, track_views
from cubekit.series.export import (
    outlines,
    read_csv,
    write_csv,
    write_geopackage,
    write_masks,
    write_netcdf,
    write_outlines,
    write_parquet,
)
from cubekit.series.fusion import fuse
from cubekit.series.join import join_areas
from cubekit.series.registration import register
from cubekit.series.season import summer_maxima
from cubekit.series.state import lake_states
from cubekit.series.trend import VERDICTS, trend
from cubekit.series.volume import volume

__all__ = [
    "MAYBE_OPEN",
    "STATES",
    "VERDICTS",
    "anomalies",
    "climatology",
    "completed_area",
    "front_position",
    "front_rate",
    "fuse",
    "ice_dates",
    "join_areas",
    "lake_area",
    "lake_states",
    "outlines",
    "read_csv",
    "register",
    "replay",
    "summer_maxima",
    "track_views",
    "trend",
    "volume",
    "water_change",
    "write_csv",
    "write_geopackage",
    "write_masks",
    "write_netcdf",
    "write_outlines",
    "write_parquet",
]
