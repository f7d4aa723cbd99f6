"""`cubekit replay`: what it prints of a study and of a CSV, and what it refuses."""

from __future__ import annotations

import re

import numpy as np
import pandas as pd
import pytest
import typer
import xarray as xr
from typer.testing import CliRunner

from cubekit.cli.replay import replay
from cubekit.config import Study
from cubekit.errors import ConfigError, SourceError
from cubekit.series import write_csv


def areas(lake, drop=None, passes=160):
    """Areas of a quiet lake, of which a fifth drains at a pass."""
    km2 = 1.5 * (1 + 0.01 * np.random.default_rng(1).standard_normal(passes))
    km2[passes if drop is None else drop :] *= 0.8
    columns = {name: ("time", km2 + by) for name, by in (("area_km2", 0), ("area_low", -0.05), ("area_high", 0.05))}
    columns |= {"area_subpixel_km2": ("time", km2), "observed_fraction": ("time", np.ones(passes))}
    coords = {"time": pd.date_range("2016-01-01", periods=passes, freq="12D"), "track": ("time", np.full(passes, 121))}
    coords |= {"platform": ("time", np.zeros(passes, np.int8))}
    return xr.Dataset(columns | {"state": ("time", np.ones(passes, np.int8))}, coords, {"lake": lake})


@pytest.fixture
def csv(tmp_path):
    """Write areas of two lakes where a study would."""
    path = tmp_path / "out" / "series" / "opera" / "areas.csv"
    path.parent.mkdir(parents=True)
    return write_csv({"gokyo": areas("gokyo", 140), "tilicho": areas("tilicho")}, path)


def run(*arguments):
    """Run the command alone."""
    app = typer.Typer()
    app.command()(replay)
    return CliRunner().invoke(app, [str(one) for one in arguments])


def test_a_csv_is_replayed(csv, tmp_path):
    """The drop is told, both lakes have a line, and the events are written."""
    found = run(csv, "--csv", tmp_path / "events.csv")
    assert found.exit_code == 0, found.output
    assert "Confirmed alerts" in found.output
    assert re.search(r"gokyo.*drop.*-(1[789]|2[012])\.\d %", found.output)
    assert found.output.count("tilicho") == 1
    events = pd.read_csv(tmp_path / "events.csv")
    assert events["lake"].unique().tolist() == ["gokyo"]
    assert events["kind"].tolist()[:2] == ["first", "confirmed"]
    assert "100 % of 50" in found.output


def test_what_is_known_is_no_false_alarm(csv, tmp_path):
    """With the drop known, none of the alerts is false and its delay is given."""
    known = tmp_path / "known.csv"
    pd.DataFrame({"lake": ["gokyo"], "time": ["2020-08-05"], "sign": ["drop"]}).to_csv(known, index=False)
    without, beside = run(csv, "--lake", "gokyo"), run(csv, "--lake", "gokyo", "--known", known)
    assert "1.91" in without.output
    assert "1.91" not in beside.output
    assert "0.00" in beside.output
    assert "tilicho" not in beside.output


def test_a_study_is_replayed_after_its_run(csv, tmp_path):
    """A study names its areas; one that was not run yet says so."""
    study = Study.parse(
        {"study": {"name": "a", "out": tmp_path / "out"}, "lake": [{"id": "gokyo"}], "source": {"uri": "folder:x"}}
    )
    toml = tmp_path / "study.toml"
    toml.write_text(study.dump(), encoding="utf-8")
    found = run(toml)
    assert found.exit_code == 0, found.output
    assert "opera" in found.output
    csv.unlink()
    result = run(toml)
    assert isinstance(result.exception, SourceError)
    assert "cubekit run" in str(result.exception)


@pytest.mark.parametrize(
    ("arguments", "error", "match"),
    [
        (["--lake", "imja"], ConfigError, "no lake imja; they hold gokyo, tilicho"),
        (["--known", "absent.csv"], SourceError, "absent.csv can't be read"),
        (["--change", "0"], ConfigError, "change 0"),
    ],
)
def test_what_can_not_be_is_refused(csv, arguments, error, match):
    """Each error is one of cubekit's."""
    result = run(csv, *arguments)
    assert isinstance(result.exception, error)
    assert match in str(result.exception)
