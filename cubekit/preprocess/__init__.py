"""From passes to what a network sees: clip, filter, equalise, pad. Lazy functions from xarray to xarray."""

from cubekit.preprocess.chips import to_chips, write_chips
from cubekit.preprocess.equalize import equalize
from cubekit.preprocess.prepare import prepare
from cubekit.preprocess.speckle import enhanced_lee, equivalent_looks, lee

__all__ = ["enhanced_lee", "equalize", "equivalent_looks", "lee", "prepare", "to_chips", "write_chips"]
