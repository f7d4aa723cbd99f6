"""Routes of the alerts, and of how the service itself is."""

from __future__ import annotations

import json
from typing import Annotated

from anyio import to_thread
from fastapi import APIRouter, Depends, Query, Request
from fastapi.security import APIKeyHeader
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cubekit import __version__
from cubekit.service import cap
from cubekit.service._api_alerts import acknowledge, events_of, list_alerts, one_alert
from cubekit.service._api_answer import Answer, tag_of
from cubekit.service._api_metrics import CONTENT
from cubekit.service._api_parts import JSON, UNCHANGED, Parts, contents, problems
from cubekit.service._api_problems import problem
from cubekit.service._api_queries import AlertId, AlertsQuery, AsOf, start_of
from cubekit.service._api_reads import encoded
from cubekit.service._api_schemas import AlertShape, AlertsShape, HealthShape, ReadyShape
from cubekit.service.context import present
from cubekit.service.keys import owner_of
from cubekit.service.ready import lacking

CAP = "application/cap+xml"
LONGEST_KEY = 200
"""Characters of a key, and more."""

_key = APIKeyHeader(name="X-API-Key", auto_error=False, description="From `cubekit keys add`.")
_FRESH = {"cache-control": "no-store"}


def router(parts: Parts) -> APIRouter:
    """The routes.

    Parameters
    ----------
    parts
        Of the app.
    """
    routes = APIRouter()
    live = parts.live

    @routes.get("/alerts", response_model=AlertsShape, responses={**UNCHANGED, **problems(404)}, tags=["alerts"])
    async def alerts(request: Request, query: Annotated[AlertsQuery, Query()]) -> Response:
        """Lakes that grow or drain, the newest first."""
        lakes = list(live.lakes) if query.lake is None else [parts.lake(query.lake).id]
        view = live.view()
        tag = tag_of("alerts", view.token, *lakes, query.stage, query.since, query.as_of, query.limit)

        def make() -> Answer:
            with live.state.read() as session:
                chosen = {"stage": query.stage, "since": start_of(query.since), "as_of": query.moment}
                found = list_alerts(session, lakes, **chosen, limit=query.limit)  # type: ignore[arg-type]
            return Answer(encoded({"alerts": found}), JSON, tag=tag, modified=view.changed)

        return await parts.answer(request, tag, make)

    @routes.get(
        "/alerts/{alert}.cap",
        response_class=Response,
        responses={**contents(CAP, "The newest message of the alert."), **UNCHANGED, **problems(404)},
        tags=["alerts"],
    )
    async def message(request: Request, alert: AlertId, query: Annotated[AsOf, Query()]) -> Response:
        """An alert as CAP 1.2, the Common Alerting Protocol."""
        if not parts.study.service.cap_sender:
            raise HTTPException(404, "this service sends no warnings: its study has no service.cap_sender")
        view = live.view()
        tag = tag_of("cap", view.token, alert, query.as_of)

        def make() -> Answer:
            with live.state.read() as session:
                row = one_alert(session, alert, live.lakes)
                events = [] if row is None else events_of(session, alert, query.moment)
            if row is None or not events:
                raise HTTPException(404, f"there is no alert {alert}")
            body = cap.message(row, events, live.lakes[row.lake], parts.study.service)
            return Answer(body, CAP, tag=tag, modified=view.changed)

        return await parts.answer(request, tag, make)

    @routes.post(
        "/alerts/{alert}/acknowledge",
        response_model=AlertShape,
        responses=problems(401, 404),
        tags=["alerts"],
    )
    async def acknowledged(alert: AlertId, key: Annotated[str | None, Depends(_key)]) -> Response:
        """Say that somebody has seen an alert. Needs a key; who was first stays."""

        def note() -> bytes | None:
            owner = owner_of(live.state, key) if key and len(key) <= LONGEST_KEY else None
            if owner is None:
                raise HTTPException(
                    401, "a key is needed, in the header X-API-Key", headers={"www-authenticate": "ApiKey"}
                )
            found = acknowledge(live.state, alert, live.lakes, owner)
            return None if found is None else encoded(found)

        body = await to_thread.run_sync(note)
        if body is None:
            raise HTTPException(404, f"there is no alert {alert}")
        return Response(body, media_type=JSON, headers=_FRESH)

    @routes.get("/health", response_model=HealthShape, tags=["service"])
    async def health() -> Response:
        """The process lives."""
        body = json.dumps({"status": "ok", "version": __version__})
        return Response(body, media_type=JSON, headers=_FRESH)

    @routes.get("/ready", response_model=ReadyShape, responses=problems(), tags=["service"])
    async def ready() -> Response:
        """Whether there is something to serve, and it is not old; else 503 with the reasons."""
        reasons = await to_thread.run_sync(lacking, parts.study, live.state, live.lakes, present())
        if reasons:
            return problem(503, "; ".join(reasons), reasons=reasons)
        return Response(json.dumps({"status": "ready"}), media_type=JSON, headers=_FRESH)

    @routes.get(
        "/metrics", response_class=Response, responses=contents("text/plain", "For Prometheus."), tags=["service"]
    )
    async def metrics() -> Response:
        """Requests, latencies, and the state of the study."""
        return Response(await to_thread.run_sync(parts.meters.text), headers={**_FRESH, "content-type": CONTENT})

    return routes
