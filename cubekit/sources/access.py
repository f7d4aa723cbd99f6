"""Which archives can be used from here: what is installed for them, and whether their logins are found."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec

from cubekit.errors import ConfigError
from cubekit.sources import SCHEMES
from cubekit.sources._earthdata import LOGIN_HOST, TOKEN, credentials

LOGIN = f"an entry for {LOGIN_HOST} in .netrc, or a token in the environment variable {TOKEN}"
"""What a login to Earthdata is."""


@dataclass(frozen=True)
class _Needs:
    """What an archive needs: modules always, modules for some of its services, and a login for some of what it does."""

    modules: tuple[str, ...] = ()
    optional: Mapping[str, str] = field(default_factory=dict)
    login: str = ""


_NEEDS = {
    "folder": _Needs(("rasterio",)),
    "simulated": _Needs(("rasterio", "scipy")),
    "opera": _Needs(("asf_search", "rasterio"), login="to read and to download; searching needs none"),
    "hyp3": _Needs(
        ("asf_search", "hyp3_sdk"), login="to order, to follow orders and to fetch; what has come needs none"
    ),
    "stac": _Needs(("pystac_client", "stackstac"), optional={"planetary_computer": "Planetary Computer"}),
}


@dataclass(frozen=True)
class Access:
    """Whether an archive can be used.

    Parameters
    ----------
    source
        As it is given to `find_scenes`.
    missing
        Modules that it needs and that aren't installed.
    optional
        Modules that aren't installed, and the service that alone needs each.
    login
        What a login to Earthdata is needed for; empty where none is.
    found
        Where a login is, ``EARTHDATA_TOKEN`` or ``.netrc``, never what it is; None where there is none, or none is
        needed.
    fault
        Why what is there can't be a login; empty when nothing is wrong.
    """

    source: str
    missing: tuple[str, ...]
    optional: Mapping[str, str]
    login: str
    found: str | None = None
    fault: str = ""


def access() -> list[Access]:
    """Which archives can be used from here.

    Returns
    -------
    list of Access
        One for each that `find_scenes` takes.

    Notes
    -----
    Looks at what is installed, the environment and .netrc; asks no service, so a login that is found may be outdated.

    Examples
    --------
    >>> [one.missing for one in access() if one.source.startswith("folder")]
    [()]
    """
    found, fault = _login()
    known = []
    for scheme in SCHEMES:
        needs = _NEEDS[re.split(r"\W", scheme, maxsplit=1)[0]]
        known.append(
            Access(
                source=scheme,
                missing=tuple(name for name in needs.modules if find_spec(name) is None),
                optional={name: what for name, what in needs.optional.items() if find_spec(name) is None},
                login=needs.login,
                found=found if needs.login else None,
                fault=fault if needs.login else "",
            )
        )
    return known


def _login() -> tuple[str | None, str]:
    try:
        return credentials(), ""
    except ConfigError as error:
        return None, str(error)
