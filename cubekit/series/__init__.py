"""From water probabilities to numbers a study can print: areas, seasons, trends, and the files that carry them."""

from cubekit.series.area import STATES, lake_area
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
from cubekit.series.season import summer_maxima
from cubekit.series.trend import VERDICTS, trend

__all__ = [
    "STATES",
    "VERDICTS",
    "lake_area",
    "outlines",
    "read_csv",
    "summer_maxima",
    "trend",
    "write_csv",
    "write_geopackage",
    "write_masks",
    "write_netcdf",
    "write_outlines",
    "write_parquet",
]
