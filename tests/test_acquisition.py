"""Studies through each archive's real client, from an empty disk: cubes are those of the same scenes in a folder."""

from __future__ import annotations

import io
import json
import logging
import secrets
import signal
import subprocess
import sys
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from pathlib import Path

import archives
import orders
import pandas as pd
import pytest
import xarray as xr
from archives import archive, at_asf, own_blocks
from servers import Request, serving, wait_until
from servers.cmr import opera_granules
from servers.files import Earthdata
from servers.stac import Stac, opera_items
from shapely.geometry import box
from typer.testing import CliRunner

from cubekit import cube, open_cubes
from cubekit.cli import app
from cubekit.lakes import Lake, catalogue
from cubekit.sources import folder, hyp3

pytestmark = pytest.mark.slow

LAKES = ("gokyo", "tilicho")
YEARS = (date(2022, 1, 1), date(2023, 12, 31))
Record = Callable[[str, object], None]


@dataclass
class Desk:
    """Where somebody works with secrets in the environment: what they ran, and what was said."""

    home: Path
    secrets: list[str]
    signatures: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def cubekit(self, *arguments: object, code: int = 0) -> str:
        """Run a command in this process; what it says."""
        done = CliRunner().invoke(app, [str(one) for one in arguments])
        self.said.append(f"{done.output} {done.stderr} {done.exception!r}")
        assert done.exit_code == code, self.said[-1]
        return done.output

    def process(self, *arguments: object) -> subprocess.Popen[str]:
        """Run a command in a process of its own."""
        command = [sys.executable, "-m", "cubekit.cli", *map(str, arguments)]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def end(self, process: subprocess.Popen[str], *, kill: bool = False) -> int:
        """Wait for a process, or kill it; its exit code."""
        if kill:
            process.send_signal(signal.SIGKILL)
        self.said.append(process.communicate()[0])
        return process.returncode

    def study(self, name: str, uri: str, period: tuple[date, date], more: str = "") -> Path:
        """Write a study, which writes below its name."""
        lines = ["[study]", f'name = "{name}"', f"out = {json.dumps(str(self.home / name))}"]
        lines += [line for one in LAKES for line in ("[[lake]]", f'id = "{one}"')]
        lines += ["[source]", f"uri = {json.dumps(uri)}", more]
        lines += ["[period]", f"start = {period[0]}", f"end = {period[1]}"]
        path = self.home / f"{name}.toml"
        path.write_text("\n".join([*lines, "[model]", 'path = "otsu"', ""]))
        return path

    def run(self, name: str, uri: str, period: tuple[date, date], **options: object) -> dict[str, xr.Dataset]:
        """Run a study; its cubes, without the moment of writing."""
        self.cubekit("run", self.study(name, uri, period, **options))
        return self.cubes(name)

    def cubes(self, name: str) -> dict[str, xr.Dataset]:
        (root,) = (self.home / name / "cubes").iterdir()
        return {
            lake: node.to_dataset().drop_vars("ingested").load() for lake, node in open_cubes(root).children.items()
        }

    def areas(self, name: str) -> str:
        """Rows of the areas, without the hashes of the study, whose source is another, and of the cube's snapshot."""
        (table,) = (self.home / name / "series").glob("*/areas.csv")
        kept = pd.read_csv(table, dtype=str).drop(columns=["snapshot", "config_hash"])
        assert len(kept)
        assert kept["granules"].notna().all()
        return kept.to_csv(index=False)

    def betrayals(self) -> list[str]:
        """Where a secret is: files, what cubes hold packed, and what was said."""
        found = []
        hidden = self.secrets + self.signatures
        for path in self.home.rglob("*"):
            if path.is_file():
                content = path.read_bytes()
                found += [str(path) for secret in hidden if secret.encode() in content]
        for root in self.home.glob("*/cubes/*"):
            for lake, path in cube.find_cubes(root).items():
                held = json.dumps(cube.open_cube(path).drop_vars(["vv", "vh", "mask"]).to_dict(), default=str)
                held += str(cube.history(path))
                found += [f"the cube of {lake}" for secret in hidden if secret in held]
        return found + ["what was said" for text in self.said for secret in hidden if secret in text]


@pytest.fixture
def desk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> Iterator[Desk]:
    """Secrets planted in the environment; at the end they are nowhere else."""
    planted = {
        name: f"planted-{secrets.token_hex(12)}" for name in ("PC_SDK_SUBSCRIPTION_KEY", "AWS_SECRET_ACCESS_KEY")
    }
    for name, value in planted.items():
        monkeypatch.setenv(name, value)
    caplog.set_level(logging.DEBUG)
    made = Desk(tmp_path / "desk", list(planted.values()))
    made.home.mkdir()
    yield made
    # Who asks urllib3 for DEBUG gets every request's path, of which a signature, good for an hour, is a part.
    ours = [one for one in caplog.records if one.levelno >= logging.INFO or one.name.startswith("cubekit")]
    made.said += [one.getMessage() for one in ours]
    assert made.said
    assert made.betrayals() == []
    assert not [secret for secret in made.secrets if secret in caplog.text]


def same(cubes: dict[str, xr.Dataset], others: dict[str, xr.Dataset]) -> int:
    """Cubes are identical, of two tracks each; how many passes they hold."""
    assert cubes.keys() == others.keys()
    for lake, one in cubes.items():
        xr.testing.assert_identical(one, others[lake])
        assert len(set(one["track"].values.tolist())) == 2
    return sum(one.sizes["time"] for one in cubes.values())


@pytest.fixture(scope="module")
def granules(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two lakes, two tracks each, two years; every fifth repeat cycle, as the disk allows."""
    return archive(tmp_path_factory.mktemp("archive"), LAKES, YEARS, revisit=60, margin=500)


def test_opera(granules: Path, desk: Desk, monkeypatch: pytest.MonkeyPatch, record_property: Record) -> None:
    """In place and downloaded: the folder's cubes and areas; few bytes; a rerun asks for no raster byte."""
    expected = desk.run("folder", f"folder:{granules}", YEARS)
    own = sum(own_blocks(folder.find(archives.lake(one), YEARS, granules), archives.lake(one).lattice) for one in LAKES)
    data = Earthdata(granules)
    with at_asf(data, opera_granules(granules, data.url), desk.home.parent, monkeypatch) as asf:
        desk.secrets += [data.token, data.password, data.cookie]
        desk.signatures += ["X-Amz-Signature", data.code]
        record_property("passes", same(desk.run("opera", "opera", YEARS), expected))
        asked = asf.raster_bytes()
        record_property("MB asked for", round(asked / 1e6, 1))
        record_property("bytes asked for over the lattice's own blocks", round(asked / own, 3))
        assert asked <= 1.3 * own
        desk.run("opera", "opera", YEARS)
        assert asf.raster_bytes() == asked
        same(desk.run("downloaded", "opera", YEARS, more="download = true"), expected)
        everything = asf.raster_bytes() - asked
        assert everything == sum(path.stat().st_size for path in granules.iterdir())
        desk.run("downloaded", "opera", YEARS, more="download = true")
        assert asf.raster_bytes() == asked + everything
    assert desk.areas("opera") == desk.areas("folder") == desk.areas("downloaded")


def test_stac(granules: Path, desk: Desk, record_property: Record) -> None:
    """However items tell their projection."""
    expected = desk.run("folder", f"folder:{granules}", YEARS)
    for projection in ("epsg", "code", "none"):
        server = Stac(opera_items(granules, "OPERA_L2_RTC-S1_V1_1", projection), granules, page=25)
        with serving(server) as url:
            address = f"stac:{url}#OPERA_L2_RTC-S1_V1_1"
            passes = same(desk.run(f"stac_{projection}", address, YEARS), expected)
            record_property(f"passes, projection told by {projection}", passes)
            asked = server.sent(fetched)
            desk.run(f"stac_{projection}", address, YEARS)
        # Headers only, and only where the items do not tell what they hold.
        assert server.sent(fetched) - asked <= (0 if projection != "none" else 40_000 * len(server.items))
        assert desk.areas(f"stac_{projection}") == desk.areas("folder")


def fetched(request: Request) -> bool:
    return request.path.startswith("/files/")


def scenes(lake: Lake, second: int) -> list[dict]:
    """What the catalogue has of a lake: two tracks for two years, every cycle."""
    footprint = box(*lake.aoi.buffer(0.05).bounds)
    made = []
    for first in (orders.FIRST, orders.AFTERNOON):
        for cycle in range(61):
            start = (first + timedelta(days=12 * cycle)).replace(second=second)
            made.append(orders.catalogued(orders.granule(start), footprint))
    return made


@contextmanager
def hyp3_of(lakes: Sequence[Lake], home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[orders.World]:
    known = [one for number, lake in enumerate(lakes) for one in scenes(lake, 30 + number)]
    with orders.at_hyp3(home, monkeypatch, *lakes, granules=known) as world:
        yield world


def whole(world: orders.World, order: Path) -> int:
    """Every product of an order that may be used has the service's bytes; how many there are."""
    made = {}
    for content in world.hyp3.files.values():
        with zipfile.ZipFile(io.BytesIO(content)) as packed:
            made |= {name: packed.read(name) for name in packed.namelist()}
    used = [path for path in (order / "products").rglob("*") if path.is_file()]
    assert all(path.read_bytes() == made[str(path.relative_to(order / "products"))] for path in used)
    products = {path.parent for path in used}
    assert all(len(list(product.iterdir())) == 4 for product in products)
    return len(products)


def test_hyp3(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Record) -> None:
    """SIGKILLed after the order was sent, and five times while it is fetched: nothing is ordered twice, nothing
    truncated is used, and the cubes are those of the service's own zips in a folder."""
    years = (date(2019, 1, 1), date(2020, 12, 31))
    lakes, order = [catalogue()[name] for name in LAKES], desk.home / "order"
    uri = f"hyp3:{order}"
    with hyp3_of(lakes, tmp_path, monkeypatch) as world:
        desk.secrets.append(world.hyp3.token)
        desk.signatures.append(world.hyp3.signature)
        desk.cubekit("order", "plan", order, "--study", desk.study("study", uri, years))
        wanted = [one.granule for one in hyp3.load(order).orders]
        assert len(wanted) == 2 * 2 * 24
        world.hyp3.fail(lambda answer: replace(answer, hang=60), when=orders.posted)
        submission = desk.process("order", "submit", order, "--yes")
        wait_until(lambda: len(world.hyp3.jobs) == len(wanted), seconds=120)
        assert desk.end(submission, kill=True) == -signal.SIGKILL
        assert desk.end(desk.process("order", "submit", order, "--yes")) == 0
        assert Counter(world.hyp3.granules) == Counter(wanted)
        world.hyp3.succeed()
        total = sum(map(len, world.hyp3.files.values()))
        halves = 0
        for share in (0.02, 0.2, 0.4, 0.6, 0.8):
            fetching = desk.process("order", "fetch", order)
            wait_until(lambda share=share: world.hyp3.sent(orders.from_store) > share * total, seconds=120)
            assert desk.end(fetching, kill=True) == -signal.SIGKILL
            halves += any(part.stat().st_size for part in order.glob(".work/.*.part"))
            whole(world, order)
        assert halves
        assert desk.end(desk.process("order", "fetch", order)) == 0
        assert whole(world, order) == len(wanted)
        assert Counter(world.hyp3.granules) == Counter(wanted)
        record_property("scenes ordered, each once", len(wanted))
        record_property("kills with a part of a zip on disk", halves)
        record_property("bytes fetched over the bytes of all zips", world.hyp3.sent(orders.from_store) / total)
        cubes = desk.run("study", uri, years)
        for content in world.hyp3.files.values():
            with zipfile.ZipFile(io.BytesIO(content)) as packed:
                packed.extractall(desk.home / "zips")
    expected = desk.run("folder", f"folder:{desk.home / 'zips'}", years)
    record_property("passes", same(cubes, expected))
    assert desk.areas("study") == desk.areas("folder")
