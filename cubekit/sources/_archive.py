"""What an archive of simulated products knows of itself: how it was made, and the truth of its passes."""

from __future__ import annotations

import json
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import shapely

from cubekit.errors import ConfigError, SourceError
from cubekit.files import replacing
from cubekit.sources._geometry import Pass
from cubekit.sources._products import granules
from cubekit.sources._scenes import Scenery

if TYPE_CHECKING:
    import pandas as pd

TRUTH = "truth.csv"
"""File of an archive with the true area of every pass."""

_SIMULATOR = 2  # raised when the same parameters give other values: archives of another one are refused
_COLUMNS = ("lake", "time", "track", "platform", "absolute_orbit", "water_km2", "state", "granules")


def read_truth(path: str | Path) -> pd.DataFrame:
    """Read the truth of a simulated archive.

    Parameters
    ----------
    path
        Folder of the archive.

    Returns
    -------
    pandas.DataFrame
        A row a pass by time: ``lake``, ``time`` (start of the first product, UTC, without zone), ``track``,
        ``platform``, ``absolute_orbit``, ``water_km2`` (lake's polygon within the AOI), ``state`` (of `STATES`),
        ``granules`` (JSON list).

    Raises
    ------
    SourceError
        When the folder has no truth.
    """
    import pandas as pd

    file = Path(path) / TRUTH
    if not file.is_file():
        msg = f"{file} does not exist; give the folder of an archive that write_archive has made"
        raise SourceError(msg)
    table = pd.read_csv(file, float_precision="round_trip")
    return table.assign(time=pd.to_datetime(table["time"], utc=True).dt.tz_localize(None))


def claim(home: Path, scenery: Scenery) -> None:
    """Refuse a folder that holds another archive."""
    lake = scenery.lake
    mine = {
        "simulator": _SIMULATOR,
        "lake": lake.id,
        "product": scenery.product.name,
        "seed": scenery.seed,
        "looks": scenery.looks,
        "growth_m_per_year": scenery.growth,
        "outburst": None if scenery.outburst is None else str(scenery.outburst),
        "dem": None if scenery.dem is None else zlib.crc32(scenery.dem.read_bytes()),
        "grid": f"EPSG:{lake.epsg} {scenery.corner}",
        "outline": zlib.crc32(shapely.to_wkb(lake.outline) + shapely.to_wkb(lake.aoi)),
    }
    file = home / "archive.json"
    if not file.exists():
        with replacing(file) as temporary:
            temporary.write_text(json.dumps(mine, indent=1))
    stored = json.loads(file.read_text())
    if other := [
        f"{name} {stored.get(name)} (asked: {value})" for name, value in mine.items() if stored.get(name) != value
    ]:
        msg = f"{home} holds a simulated archive made with {', '.join(other)}; give another folder"
        raise ConfigError(msg)


def write_truth(home: Path, scenery: Scenery, found: Sequence[Pass]) -> None:
    """Write the truth of these passes, and keep that of all others."""
    import pandas as pd

    file = home / TRUTH
    if not found and file.exists():
        return
    rows = []
    for one in found:
        start = one.starts[0]
        row = (scenery.lake.id, f"{start:%Y-%m-%dT%H:%M:%SZ}", one.view.track, one.platform, one.orbit)
        names = sorted(granules(scenery.product, one, *scenery.key))
        lake = scenery.dynamics
        rows.append((*row, lake.water_km2(start), lake.cover(start).state, json.dumps(names)))
    table = pd.DataFrame(rows, columns=_COLUMNS)
    if file.exists() and len(kept := pd.read_csv(file, float_precision="round_trip")):
        table = pd.concat([kept, table])
    table = table.drop_duplicates(["platform", "absolute_orbit"]).sort_values(["time", "platform"])
    with replacing(file) as temporary:
        table.to_csv(temporary, index=False)
