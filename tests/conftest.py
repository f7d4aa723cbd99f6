"""What all tests share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dask
import pytest

from cubekit.lakes import Lake, catalogue

sys.path.insert(0, str(Path(__file__).parent))  # the factories

# Tests share two cores between two processes: libraries that start a thread a core would fight.
for variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(variable, "1")


@contextmanager
def computing_is_forbidden() -> Iterator[None]:
    """Fail when something is computed inside: building a graph must compute nothing."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a graph was computed while it was built")

    with dask.config.set(scheduler=refuse):
        yield


@pytest.fixture
def no_compute() -> object:
    """The context manager `computing_is_forbidden`."""
    return computing_is_forbidden


@pytest.fixture(scope="session")
def tsho_rolpa() -> Lake:
    """Tsho Rolpa on its 20 m lattice."""
    return catalogue()["tsho_rolpa"]


@pytest.fixture(scope="session")
def opera_lake() -> Lake:
    """Tsho Rolpa on its 30 m lattice, as OPERA's products lie."""
    return catalogue()["tsho_rolpa"].at_spacing(30)


@pytest.fixture(scope="session")
def npsar() -> Path:
    """The folder of the authors' public data; the test is skipped where it is absent (it has no licence to ship)."""
    here = Path(os.environ.get("CUBEKIT_NPSAR", Path(__file__).parents[2] / "shared" / "data" / "npsar"))
    if not (here / "index.csv").is_file():
        pytest.skip("the npsar scenes are absent; set CUBEKIT_NPSAR to their folder")
    return here


@pytest.fixture(scope="session")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """OPERA's granules of two lakes, two tracks each, one repeat cycle."""
    from archives import LAKES, PERIOD, archive

    return archive(tmp_path_factory.mktemp("opera"), LAKES, PERIOD, revisit=12, margin=500)


@pytest.fixture
def asf(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """ASF with the granules of `published`, and somebody with a token."""
    from archives import at_asf
    from servers.cmr import opera_granules
    from servers.files import Earthdata

    data = Earthdata(published)
    with at_asf(data, opera_granules(published, data.url), tmp_path, monkeypatch) as there:
        yield there


@pytest.fixture
def world(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    """Six passes of a track between January and March 2019, a patient HyP3, an impatient client."""
    from orders import at_hyp3

    with at_hyp3(tmp_path, monkeypatch) as made:
        yield made
