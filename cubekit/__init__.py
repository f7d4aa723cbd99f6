"""cubekit: an xarray and Dask datacube toolkit for Sentinel-1 glacial-lake analysis."""

from importlib.metadata import version

import lazy_loader

__version__ = version("cubekit")

# `import cubekit` loads no torch, numba or rasterio, and little else: a verb loads what it needs.
__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
