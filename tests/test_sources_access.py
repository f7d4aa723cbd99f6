"""Which archives can be used: what is installed, and whether a login is found, which is shown nowhere."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path

import pytest

from cubekit.sources import SCHEMES, access
from cubekit.sources.access import Access
from cubekit.sources.access import access as listed

SECRET = "sEcReT-7f3a"


@pytest.fixture(autouse=True)
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without a login; returns where its .netrc would be."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for variable in ("NETRC", "EARTHDATA_TOKEN"):
        monkeypatch.delenv(variable, raising=False)
    return tmp_path / ".netrc"


def one_with_login(monkeypatch: pytest.MonkeyPatch) -> Access:
    monkeypatch.setattr(access, "SCHEMES", ("opera",))
    (one,) = listed()
    return one


def test_every_source_is_listed() -> None:
    """Those that find_scenes takes, in its order."""
    assert [one.source for one in listed()] == list(SCHEMES)


def test_folders_need_no_login() -> None:
    """And nothing that isn't installed with cubekit."""
    (folder,) = [one for one in listed() if one.source.startswith("folder")]
    assert (folder.missing, folder.login, folder.found) == ((), "", None)


def test_what_is_missing_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """By the names of the modules."""
    real = importlib.util.find_spec
    monkeypatch.setattr(access, "find_spec", lambda name: None if name == "asf_search" else real(name))
    assert one_with_login(monkeypatch).missing == ("asf_search",)


def test_no_login_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """With what it would be needed for."""
    one = one_with_login(monkeypatch)
    assert one.found is None
    assert one.login


@pytest.mark.parametrize("where", ["home", "NETRC"])
def test_a_netrc_entry_is_found(nowhere: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, where: str) -> None:
    """Where requests looks for it; the file's other machines don't count."""
    path = nowhere if where == "home" else tmp_path / "elsewhere"
    if where == "NETRC":
        monkeypatch.setenv("NETRC", str(path))
    path.write_text(f"machine example.org login me password {SECRET}\n")
    path.chmod(0o600)
    assert one_with_login(monkeypatch).found is None
    path.write_text(f"machine urs.earthdata.nasa.gov login me password {SECRET}\n")
    one = one_with_login(monkeypatch)
    assert one.found == ".netrc"
    assert SECRET not in repr(one)


def test_a_token_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty one is none."""
    monkeypatch.setenv("EARTHDATA_TOKEN", " ")
    assert one_with_login(monkeypatch).found is None
    monkeypatch.setenv("EARTHDATA_TOKEN", SECRET)
    one = one_with_login(monkeypatch)
    assert one.found == "EARTHDATA_TOKEN"
    assert SECRET not in repr(one)


def test_a_token_that_is_none_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without showing it."""
    monkeypatch.setenv("EARTHDATA_TOKEN", f"{SECRET} twice")
    one = one_with_login(monkeypatch)
    assert one.found is None
    assert re.search("EARTHDATA_TOKEN.*not shown", one.fault)
    assert SECRET not in repr(one)
