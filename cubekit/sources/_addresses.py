"""Addresses on the internet: which of them a login is for, and how one is shown without the secret in its query."""

from __future__ import annotations

import logging
import re
from urllib.parse import urlsplit

EARTHDATA = ("earthdata.nasa.gov", "earthdatacloud.nasa.gov", "asf.alaska.edu")
"""Domains that a login to Earthdata is for. Its token is given to them, over https only, and to nobody else."""


def place(url: str) -> str:
    """Host and path of an address, for messages: its query may be a secret.

    Examples
    --------
    >>> place("https://user:word@example.org/a/b.tif?token=secret")
    'example.org/a/b.tif'
    """
    parts = urlsplit(url)
    return f"{parts.hostname or ''}{parts.path}"


def trusted(url: str) -> bool:
    """Whether a login to Earthdata is for an address, and may be sent to it.

    Examples
    --------
    >>> trusted("https://datapool.asf.alaska.edu/RTC/a.tif"), trusted("https://asf.alaska.edu.example.org/a.tif")
    (True, False)
    """
    parts = urlsplit(url)
    host = (parts.hostname or "").lower()
    return parts.scheme == "https" and any(host == domain or host.endswith(f".{domain}") for domain in EARTHDATA)


def without_queries(text: str) -> str:
    """A message without the queries of its addresses: a signed address is a secret.

    Examples
    --------
    >>> without_queries("Error opening 'https://example.org/a.tif?sig=secret': 404")
    "Error opening 'https://example.org/a.tif': 404"
    >>> without_queries("in a.tif?when=10:30:00Z&sig=secret: TIFFReadTile failed")
    'in a.tif: TIFFReadTile failed'
    >>> without_queries("in a.tif?X-Date=1&X-Sig=secret: TIFFReadTile failed; is it a=b?")
    'in a.tif: TIFFReadTile failed; is it a=b?'
    """
    # GDAL names a file with its query and without its host, so a scheme can't be waited for. A colon that ends a query
    # has a space behind it; others are of times in it.
    return re.sub(r"(?<=[\w/.])\?[^\s'\":=]+=(?:[^\s'\":]|:(?!\s|$))*", "", text)


class _Discreet(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = without_queries(record.getMessage()), ()
        return True


_DISCREET = _Discreet()


def keep_gdal_discreet() -> None:
    """Let rasterio and stackstac log without queries: of what it tries again, GDAL tells the whole address."""
    for name in (*(f"rasterio.{part}" for part in ("_base", "_env", "_err", "_io", "_warp")), "stackstac.timer"):
        logging.getLogger(name).addFilter(_DISCREET)  # once, however often it is asked for
