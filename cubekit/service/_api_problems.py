"""Errors as application/problem+json (RFC 9457): what was given, what is allowed, and nothing of this machine."""

from __future__ import annotations

import json
import logging
import sqlite3
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from sqlalchemy.exc import DBAPIError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cubekit.errors import CubekitError
from cubekit.service._api_answer import PROBLEM

logger = logging.getLogger("cubekit.service")

LONGEST = 300
"""Characters of a detail: what was given is not given back at length."""


def problem(status: int, detail: str, *, headers: Mapping[str, str] | None = None, **members: Any) -> Response:
    """An error.

    Parameters
    ----------
    status
        Of HTTP.
    detail
        For people.
    headers
        Further ones.
    **members
        Of the document, beside the standard ones.
    """
    document = {"type": "about:blank", "title": HTTPStatus(status).phrase, "status": status}
    document |= {"detail": detail[:LONGEST], **members}
    body = json.dumps(document).encode()
    return Response(body, status, headers={"cache-control": "no-store", **(headers or {})}, media_type=PROBLEM)


def handle(app: FastAPI) -> None:
    """Let all errors of an app be problems."""

    @app.exception_handler(HTTPException)
    async def _refused(_: Request, error: HTTPException) -> Response:
        return problem(error.status_code, str(error.detail), headers=error.headers)

    @app.exception_handler(RequestValidationError)
    async def _invalid(_: Request, error: RequestValidationError) -> Response:
        faults = _faults(error.errors())
        return problem(422, "; ".join(f"{one['in']}: {one['why']}" for one in faults), errors=faults)

    async def _unreadable(_: Request, error: Exception) -> Response:
        logger.error("a request could not be served: %s", error)
        return problem(503, "what is asked for can't be read at present; try again", headers={"retry-after": "10"})

    for kind in (CubekitError, DBAPIError, sqlite3.Error, OSError):
        app.add_exception_handler(kind, _unreadable)


def _faults(errors: Sequence[Any]) -> list[dict[str, str]]:
    """Where and why, without what was given: it may be large, or a secret."""
    return [
        {"in": " ".join(str(part) for part in one["loc"])[:80], "why": str(one["msg"])[:LONGEST]} for one in errors[:10]
    ]
