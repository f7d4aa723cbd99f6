"""Dockerfile and compose.yaml: `make lint` checks their grammar, this what they say of the project."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from typer.main import get_command

from cubekit.cli import app

ROOT = Path(__file__).parents[1]
DOCKERFILE = (ROOT / "Dockerfile").read_text()
COMPOSE = yaml.safe_load((ROOT / "compose.yaml").read_text())
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def test_the_image_has_the_extras_that_there_are():
    extras = re.search(r"EXTRAS=(\S+)", DOCKERFILE).group(1).split(",")
    assert set(extras) <= set(PROJECT["optional-dependencies"])
    assert {"unet", "service"} <= set(extras)


def test_what_is_copied_is_there_and_sent():
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for line in re.findall(r"^COPY (?!--from)(.+)$", DOCKERFILE, re.MULTILINE):
        for name in line.split()[:-1]:
            assert (ROOT / name).exists()
            assert f"!{name}" in ignored
    assert PROJECT["version"] in COMPOSE["x-service"]["image"]


def test_all_that_runs_is_not_root():
    """Every stage that nobody builds on comes from the one with a user of its own."""
    stages = re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)
    assert {base for base, name in stages if name in {"cpu", "cuda"}} == {"runtime"}
    runtime = DOCKERFILE[DOCKERFILE.index("AS runtime") : DOCKERFILE.index("AS cuda")]
    assert re.findall(r"^USER (\d+)$", runtime, re.MULTILINE) == ["10001"]
    assert "USER" not in DOCKERFILE[DOCKERFILE.index("AS cuda") :]
    assert stages[-1][1] == "cpu"


@pytest.mark.parametrize("name", ["ingest", "inference", "api"])
def test_each_container_runs_a_command_and_looks_after_itself(name):
    service, command = COMPOSE["services"][name], get_command(app)
    words = [service["command"]]
    check = service["healthcheck"]["test"]
    if check[1] == "cubekit":
        words.append(check[2:])
    for verb, *arguments in words:
        context = command.commands[verb].make_context(verb, [*arguments])
        assert str(context.params["study"]) == service["configs"][0]["target"]
    assert service["volumes"] == ["data:/data"]
    secrets = [f"/run/secrets/{secret}" for secret in service.get("secrets", [])]
    assert sorted(service.get("environment", {}).values()) == secrets
    assert set(service.get("secrets", [])) <= set(COMPOSE["secrets"])
