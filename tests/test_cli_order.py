"""`cubekit order`: what is asked, told and refused, in the words of the command line."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from orders import LAKE, PERIOD, World
from typer.testing import CliRunner, Result

from cubekit.cli import order
from cubekit.errors import ConfigError, CubekitError, LakeError
from cubekit.sources import find_scenes, hyp3

DAYS = ["--start", str(PERIOD[0]), "--end", str(PERIOD[1])]


def call(*arguments: object, answer: str | None = None) -> Result:
    """Run a command; what cubekit raises on purpose is raised."""
    done = CliRunner().invoke(order.app, [str(one) for one in arguments], input=answer)
    if isinstance(done.exception, CubekitError):
        raise done.exception
    assert done.exception is None or isinstance(done.exception, SystemExit), done.exception
    return done


def told(done: Result) -> str:
    return " ".join(re.sub(r"[│┃─━┏┓┗┛┡┩└┘┬┴┼╇╈]", " ", done.output).split())


def test_an_order_from_plan_to_scenes(world: World) -> None:
    """Every step tells what it did and what comes next."""
    planned = told(call("plan", world.folder, "tsho_rolpa", *DAYS))
    assert "tsho_rolpa: 3 of 6 passes are new in the plan, 3 scenes" in planned
    assert "planned 3 121 2019-01-21 2019-03-10" in planned
    assert f"order with: cubekit order submit {world.folder}" in planned
    submitted = told(call("submit", world.folder, answer="y\n"))
    assert "3 scenes at 15 credits are 45; you have 8000" in submitted
    assert "Order 3 scenes for 45 credits? [y/N]" in submitted
    assert "ordered 3 scenes; fetch them with: cubekit order fetch" in submitted
    assert "nothing is left to order" in told(call("submit", world.folder))
    first, second, third = world.hyp3.jobs.values()
    world.hyp3.succeed([first])
    world.hyp3.give_up([second], log="no orbit file")
    looked = told(call("status", world.folder))
    assert all(text in looked for text in ("pending 1", "ready 1", "failed 1", "no orbit file", "submit --again"))
    assert re.search(r"fetch before 20\d\d-\d\d-\d\d \d\d:\d\d UTC", looked)
    world.hyp3.succeed([third])
    fetched = told(call("fetch", world.folder, "--follow", "--minutes", "0.01"))
    assert "2 products fetched, 0 may come" in fetched
    assert "fetched 2" in fetched
    with pytest.warns(match="1 scenes of the order"):
        assert len(find_scenes(LAKE, f"hyp3:{world.folder}")) == 2
    assert "ordered 1 scenes" in told(call("submit", world.folder, "--again", "--yes"))
    assert len(world.hyp3.jobs) == 4


@pytest.mark.parametrize("answer", ["n\n", "\n", ""])
def test_without_a_yes_nothing_is_spent(world: World, answer: str) -> None:
    """No, nothing, and nobody there to ask."""
    call("plan", world.folder, "tsho_rolpa", *DAYS)
    call("submit", world.folder, answer=answer)
    assert (world.hyp3.jobs, world.hyp3.credits) == ({}, 8000)


def test_credits_for_a_part(world: World) -> None:
    """The rest is told, and stays planned."""
    world.hyp3.credits = 40.0
    call("plan", world.folder, "tsho_rolpa", *DAYS)
    submitted = told(call("submit", world.folder, "--yes"))
    assert "that is enough for 2 now; submit the other 1 next month (UTC)" in submitted
    assert "planned 1" in submitted
    broke = call("submit", world.folder, "--yes")
    assert broke.exit_code == 1
    assert len(world.hyp3.jobs) == 2


def test_products_that_did_not_come_make_the_exit_code(world: World) -> None:
    """And are named."""
    call("plan", world.folder, "tsho_rolpa", *DAYS)
    call("submit", world.folder, "--yes")
    world.hyp3.succeed()
    world.hyp3.files.popitem()
    fetched = call("fetch", world.folder)
    assert fetched.exit_code == 1
    assert "broken 1" in told(fetched)


def test_a_study_tells_lakes_period_and_tracks(world: World, tmp_path: Path) -> None:
    """Options win over it."""
    study = tmp_path / "study.toml"
    study.write_text(
        '[study]\nname = "a"\n[[lake]]\nid = "tsho_rolpa"\n[[lake]]\nid = "gokyo"\n[source]\nuri = "hyp3:order"\n'
        "tracks = [121]\n[period]\nstart = 2019-02-01\nend = 2019-03-31\n"
    )
    call("plan", world.folder, "--study", study)
    manifest = hyp3.load(world.folder)
    assert [(one.lakes, one.start.month) for one in manifest.orders] == [
        (("gokyo", "tsho_rolpa"), 2),
        (("gokyo", "tsho_rolpa"), 3),
    ]
    assert "int,PATH_NUMBER,121" in [value for _, value in world.cmr.asked()[0].form]
    call("plan", world.folder, "--study", study, "--start", "2019-01-01", "--every", "pass")
    assert len(hyp3.load(world.folder).orders) == 6


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (["plan", "order"], ConfigError, "give lakes, or a study with --study"),
        (["plan", "order", "gokyo", "--study", "s.toml"], ConfigError, "not both"),
        (["plan", "order", "atlantis"], LakeError, "lake 'atlantis' is not in the catalogue"),
        (["plan", "order", "gokyo", "--resolution", "10"], ConfigError, "--resolution 10 is not a spacing"),
        (["plan", "order", "gokyo", "--start", "2020-01-02", "--end", "2020-01-01"], ConfigError, "swap them"),
        (["status", "order"], ConfigError, "holds no order"),
        (["submit", "order"], ConfigError, "holds no order"),
        (["fetch", "order"], ConfigError, "holds no order"),
    ],
)
def test_what_can_not_be_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], error: type[CubekitError], message: str
) -> None:
    """With one line, before anything is asked or written."""
    monkeypatch.chdir(tmp_path)
    with pytest.raises(error, match=message):
        call(*arguments)
    assert list(tmp_path.iterdir()) == []


def test_the_commands_load_nothing_heavy() -> None:
    """The command line stays quick."""
    code = (
        "import sys, cubekit.cli.order; print([n for n in ('asf_search', 'hyp3_sdk', 'rasterio') if n in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=dict(os.environ)
    )
    assert done.stdout.strip() == "[]"
