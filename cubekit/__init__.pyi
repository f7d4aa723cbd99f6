from . import cube, errors, lakes, passes, plots, preprocess, segmentation, series, sources
from .config import Study
from .cube import append, build_cube, open_cube, open_cubes, publish
from .pipeline import run
from .preprocess import enhanced_lee, equalize, lee, prepare, to_chips
from .segmentation import segment
from .series import lake_area, summer_maxima, trend
from .sources import find_scenes

__version__: str

__all__ = [
    "Study",
    "append",
    "build_cube",
    "cube",
    "enhanced_lee",
    "equalize",
    "errors",
    "find_scenes",
    "lake_area",
    "lakes",
    "lee",
    "open_cube",
    "open_cubes",
    "passes",
    "plots",
    "prepare",
    "preprocess",
    "publish",
    "run",
    "segment",
    "segmentation",
    "series",
    "sources",
    "summer_maxima",
    "to_chips",
    "trend",
]
