"""What leaves cubekit: areas as tables, shores as vectors, water as rasters. Whole files only, one verb a format."""

from cubekit.series.export.masks import write_masks
from cubekit.series.export.netcdf import write_netcdf
from cubekit.series.export.outlines import outlines, write_geopackage, write_outlines
from cubekit.series.export.rows import COLUMNS
from cubekit.series.export.tables import read_csv, write_csv, write_parquet

__all__ = [
    "COLUMNS",
    "outlines",
    "read_csv",
    "write_csv",
    "write_geopackage",
    "write_masks",
    "write_netcdf",
    "write_outlines",
    "write_parquet",
]
