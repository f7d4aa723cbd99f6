"""The REST API and the page, over what was released."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from cubekit import __version__
from cubekit.config import Study
from cubekit.errors import MissingExtra

try:
    import PIL  # noqa: F401  what the images are drawn with
    from fastapi import FastAPI
    from fastapi.openapi.utils import get_openapi

    from cubekit.service import _api_lakes, _api_rasters, _api_states
    from cubekit.service._api_cache import Answers
    from cubekit.service._api_cubes import Cubes
    from cubekit.service._api_front import Front
    from cubekit.service._api_live import Live
    from cubekit.service._api_metrics import Meters
    from cubekit.service._api_pages import about_api, page_files
    from cubekit.service._api_parts import Parts
    from cubekit.service._api_problems import handle
    from cubekit.service._api_queries import ImageQuery
    from cubekit.service._api_reads import Reader
    from cubekit.service._api_schemas import Problem
    from cubekit.service.state import State
except ImportError as error:
    _msg = f'{error.name} is not installed, and the service needs it; pip install "cubekit[service]"'
    raise MissingExtra(_msg) from error

logger = logging.getLogger("cubekit.service")

POLL_SECONDS = 1.0
"""How often new releases are looked for, so that their images are ready before somebody asks."""

_ABOUT = (
    "Areas of glacial lakes from Sentinel-1, pass by pass, with their intervals, images and alerts. Times are UTC, "
    "areas km2, null is what isn't known. Every read takes as_of, and tells what was served then. Errors are "
    "application/problem+json."
)


def create_app(study: Study) -> FastAPI:
    """Make the app that serves a study.

    Parameters
    ----------
    study
        Its `out` has the state and the releases that `cubekit watch` makes; there may be none yet.

    Returns
    -------
    fastapi.FastAPI
        For one process. What is newly released is served from the next request on; nothing is written but
        acknowledged alerts.

    Raises
    ------
    ConfigError
        When a lake of the study isn't known, or its state can't be opened, or is of another version.
    MissingExtra
        On import, when a library of the extra ``service`` is absent.
    """
    live = Live(study, State.of(study.study.out))
    parts = Parts(study, live, Answers(), Reader(study, live), Cubes(study), Meters(live))

    @asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        warming = asyncio.create_task(_keep_warm(parts))
        try:
            yield
        finally:
            warming.cancel()
            await asyncio.gather(warming, return_exceptions=True)
            live.close()

    app = FastAPI(
        title="cubekit",
        version=__version__,
        description=_ABOUT,
        lifespan=lifespan,
        openapi_url=None,
        docs_url=None,
        redoc_url=None,
        redirect_slashes=False,
        separate_input_output_schemas=False,
    )
    app.state.parts = parts
    for each in (_api_lakes, _api_rasters, _api_states):
        app.include_router(each.router(parts))
    handle(app)
    fixed = page_files() | about_api(_document(app))
    app.add_middleware(Front, live=live, answers=parts.answers, meters=parts.meters, fixed=fixed)
    return app


def _document(app: FastAPI) -> dict[str, Any]:
    """The OpenAPI document, with the shape of errors, which no route has as its own."""
    document = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
    document["components"]["schemas"]["Problem"] = Problem.model_json_schema()
    for unused in ("HTTPValidationError", "ValidationError"):
        document["components"]["schemas"].pop(unused, None)
    return document


async def _keep_warm(parts: Parts) -> None:
    """Draw the newest image of a lake as soon as it is released."""
    drawn: dict[str, str] = {}
    while True:
        try:
            for name, release in parts.live.view().releases.items():
                if drawn.get(name) != release.id:
                    drawn[name] = release.id
                    await _api_rasters.image_of(parts, None, parts.live.lakes[name], None, ImageQuery())
        except Exception as error:  # whoever asks is told; the next release is drawn all the same
            logger.warning("an image could not be drawn: %s", error)
        await asyncio.sleep(POLL_SECONDS)
