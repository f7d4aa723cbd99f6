"""The API against what schemathesis makes of its own description: nothing fails, and all is as described."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
import requests
import schemathesis
import serving
from hypothesis import HealthCheck, given, settings
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from cubekit.service.api import create_app
from cubekit.service.state import Look, State

THERE = {"lake": "tshorolpa", "date": "2021-07-21", "alert": serving.ALERT}
"""Names that there are."""

CHECKS = [
    not_a_server_error,
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
]


@pytest.fixture(scope="module")
def address(tmp_path_factory) -> Iterator[str]:
    """A service that is ready: its lake is released, and was looked for of late."""
    served = serving.copied(serving.shared(tmp_path_factory), tmp_path_factory.mktemp("fuzz"))
    state = State.of(served.study.study.out)
    now = datetime.now(UTC)
    with state.write() as session:
        session.add(Look(lake="tsho_rolpa", started=now, ended=now))
    state.close()
    study = served.study.model_copy(update={"lake": served.study.lake[:1]})
    with serving.running(create_app(study)) as address:
        yield address


@pytest.fixture(scope="module")
def session() -> Iterator[requests.Session]:
    with requests.Session() as session:
        session.trust_env = False
        yield session


@pytest.mark.parametrize("mode", list(GenerationMode))
@pytest.mark.parametrize("real", [True, False], ids=["real", "any"])
def test_nothing_fails(address: str, session: requests.Session, mode: GenerationMode, real: bool) -> None:
    """Valid or not, of a lake that is there or not, what is asked is answered as described, and never with 5xx."""
    described = schemathesis.openapi.from_url(f"{address}/openapi.json")
    statuses = set()
    for operation in (found.ok() for found in described.get_all_operations()):
        if not operation.path_parameters and (mode.is_negative and not operation.query):
            continue  # nothing of it can be wrong
        names = {one.name for one in operation.path_parameters} if real else set()
        strategy = operation.as_strategy(mode, path_parameters={name: THERE[name] for name in names} or None)

        @settings(
            max_examples=8, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
        )
        @given(strategy)
        def ask(case: Any) -> None:
            answer = case.call(session=session, timeout=20)
            case.validate_response(answer, checks=CHECKS)
            statuses.add(answer.status_code)

        ask()
    assert statuses & {200, 204, 401} if real and mode.is_positive else statuses & {404, 422}
