"""What the routes share, and how they answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from anyio import to_thread
from fastapi import Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cubekit.config import Study
from cubekit.lakes import Lake
from cubekit.service._api_answer import PROBLEM, Answer, is_known
from cubekit.service._api_cache import Answers
from cubekit.service._api_cubes import Cubes, name_of
from cubekit.service._api_live import Live
from cubekit.service._api_metrics import Meters
from cubekit.service._api_reads import Reader
from cubekit.service._api_release import Pass
from cubekit.service.state import Release

JSON = "application/json"

_PROBLEM = {PROBLEM: {"schema": {"$ref": "#/components/schemas/Problem"}}}


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """The errors of a route, for OpenAPI."""
    words = {
        401: "The key is missing, unknown, or revoked.",
        404: "There is no such lake, pass or alert.",
        414: "The address is too long.",
        416: "There is no such part.",
        422: "A parameter is not valid.",
        431: "The headers are too long.",
        503: "The service can't answer now.",
    }
    return {status: {"description": words[status], "content": _PROBLEM} for status in (*statuses, 414, 422, 431, 503)}


def contents(media: str, description: str, schema: dict[str, Any] | None = None) -> dict[int | str, dict[str, Any]]:
    """A route that answers with something else than JSON of ours, for OpenAPI; bytes, unless a schema is given."""
    told = schema or {"type": "string", "format": "binary"}
    return {200: {"description": description, "content": {media: {"schema": told}}}}


UNCHANGED: dict[int | str, dict[str, Any]] = {304: {"description": "It is as the client has it."}}
NOTHING: dict[int | str, dict[str, Any]] = {204: {"description": "The lake is known, and nothing lies there."}}


@dataclass
class Parts:
    """Of one app.

    Parameters
    ----------
    study
        What is served.
    live
        Its state.
    answers, reader, cubes, meters
        Of the app.
    """

    study: Study
    live: Live
    answers: Answers
    reader: Reader
    cubes: Cubes
    meters: Meters

    def lake(self, spelled: str) -> Lake:
        """A lake of the study.

        Raises
        ------
        HTTPException
            404 when there is none.
        """
        name = self.live.spelled.get(spelled)
        if name is None:
            known = ", ".join(self.live.lakes)
            raise HTTPException(404, f"there is no lake {spelled!r}; there are {known}")
        return self.live.lakes[name]

    async def release(self, lake: Lake, as_of: datetime | None) -> Release | None:
        """What is served of a lake, now or at a moment."""
        if as_of is None:
            return self.live.view().releases.get(lake.id)
        return await to_thread.run_sync(self.live.release, lake.id, as_of)

    async def released(self, lake: Lake, as_of: datetime | None) -> Release:
        """The same, for what can't be without.

        Raises
        ------
        HTTPException
            404 when nothing was released.
        """
        release = await self.release(lake, as_of)
        if release is None:
            when = "" if as_of is None else f" at {name_of(as_of)}"
            raise HTTPException(404, f"nothing is released of {lake.id}{when}")
        return release

    async def pass_of(
        self, release: Release, period: tuple[datetime, datetime] | None, track: int | None
    ) -> tuple[int, Pass]:
        """A pass of a release, the newest without a period; and its place.

        Raises
        ------
        HTTPException
            404 when there is none.
        """
        tables = self.reader.tables(release)

        def find() -> tuple[int, Pass] | None:
            return tables.newest(track) if period is None else tables.pass_of(*period, track)

        # Tables that were read already are searched at once.
        found = find() if "passes" in vars(tables) else await to_thread.run_sync(find)
        if found is None:
            where = "" if track is None else f" on track {track}"
            when = "" if period is None else f" from {name_of(period[0])} to {name_of(period[1])}"
            raise HTTPException(404, f"there is no pass over {release.lake}{where}{when}")
        return found

    async def answer(self, request: Request, tag: str, make: Callable[[], Answer]) -> Response:
        """Answer with what is kept, or made now; or not at all where the client has it.

        Parameters
        ----------
        request
            The request.
        tag
            Says all that the answer depends on.
        make
            Called on a thread, once.
        """
        given = request.headers.get("if-none-match")
        if given is not None and given.strip() != "*" and is_known(given, tag) and self.answers.get(tag) is None:
            return Response(status_code=304, headers={"etag": tag, "cache-control": "no-cache"})
        return await self.answers.of(tag, make)
