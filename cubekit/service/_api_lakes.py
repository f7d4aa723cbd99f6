"""Routes of the lakes: what is known of them, their series, their passes and shores."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from typing import Annotated, Any

from anyio import to_thread
from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from cubekit.service._api_answer import Answer, accepts_gzip, is_known, tag_of
from cubekit.service._api_parts import JSON, NOTHING, UNCHANGED, Parts, contents, problems
from cubekit.service._api_queries import AsOf, Date, LakeName, OfTrack, SeriesQuery, end_of, span, start_of
from cubekit.service._api_reads import encoded
from cubekit.service._api_release import Tables
from cubekit.service._api_schemas import DatesShape, LakeDetail, LakesShape, SeriesShape

GEOJSON = "application/geo+json"

_FEATURE = {"type": "object", "required": ["type", "geometry", "properties"]}


def router(parts: Parts) -> APIRouter:
    """The routes.

    Parameters
    ----------
    parts
        Of the app.
    """
    routes = APIRouter(tags=["lakes"])

    def told(document: dict[str, Any] | None, tag: str, modified: datetime | None) -> Answer:
        if document is None:
            return Answer(b"", None, tag=tag, modified=modified)
        return Answer(encoded(document), JSON, tag=tag, modified=modified)

    @routes.get("/lakes", response_model=LakesShape, responses={**UNCHANGED, **problems()})
    async def lakes(request: Request, query: Annotated[AsOf, Query()]) -> Response:
        """All lakes of the study, each with its newest area, its trend, and how many alerts are open."""
        view = parts.live.view()
        tag = tag_of("lakes", view.token, query.moment)
        return await parts.answer(request, tag, lambda: told(parts.reader.lakes(query.moment), tag, view.changed))

    @routes.get("/lakes/{lake}", response_model=LakeDetail, responses={**UNCHANGED, **problems(404)})
    async def one_lake(request: Request, lake: LakeName, query: Annotated[AsOf, Query()]) -> Response:
        """One lake: what each track knows of it, what isn't known and why, and what it was made with."""
        mine, view = parts.lake(lake), parts.live.view()
        tag = tag_of("lake", mine.id, view.token, query.moment)
        return await parts.answer(request, tag, lambda: told(parts.reader.lake(mine, query.moment), tag, view.changed))

    csv: dict[int | str, dict[str, Any]] = {200: {"content": {"text/csv": {"schema": {"type": "string"}}}}}

    @routes.get(
        "/lakes/{lake}/series",
        response_model=SeriesShape,
        responses={**csv, **NOTHING, **UNCHANGED, **problems(404)},
    )
    async def series(request: Request, lake: LakeName, query: Annotated[SeriesQuery, Query()]) -> Response:
        """The areas pass by pass; as CSV the very rows of the batch job. 204 when nothing lies in the period."""
        mine = parts.lake(lake)
        release = await parts.release(mine, query.moment)
        if release is None:
            return Response(status_code=204)
        chosen = start_of(query.start), end_of(query.end), query.track
        tag = tag_of("series", release.id, *chosen, query.format)
        if query.format == "json":
            return await parts.answer(
                request, tag, lambda: told(parts.reader.series(release, *chosen), tag, release.created)
            )
        given = request.headers.get("if-none-match")
        headers = {"etag": tag, "cache-control": "no-cache"}
        if given is not None and is_known(given, tag):
            return Response(status_code=304, headers=headers)
        tables = parts.reader.tables(release)
        if not await to_thread.run_sync(tables.chosen, *chosen):
            return Response(status_code=204, headers=headers)
        return _streamed(tables, chosen, f"{mine.id}.csv", headers, request.headers.get("accept-encoding", ""))

    @routes.get("/lakes/{lake}/dates", response_model=DatesShape, responses={**NOTHING, **UNCHANGED, **problems(404)})
    async def dates(request: Request, lake: LakeName, query: Annotated[OfTrack, Query()]) -> Response:
        """The passes of a lake: of each there are an outline, images and rasters. 204 when there is none."""
        release = await parts.release(parts.lake(lake), query.moment)
        if release is None:
            return Response(status_code=204)
        tag = tag_of("dates", release.id, query.track)
        return await parts.answer(
            request, tag, lambda: told(parts.reader.dates(release, query.track), tag, release.created)
        )

    @routes.get(
        "/lakes/{lake}/outlines/{date}",
        response_class=Response,
        responses={**contents(GEOJSON, "A feature, WGS84.", _FEATURE), **UNCHANGED, **problems(404)},
    )
    async def outline(request: Request, lake: LakeName, date: Date, query: Annotated[OfTrack, Query()]) -> Response:
        """The shore at a pass: of the day's passes the one that saw most, unless a track or a time is given."""
        release = await parts.released(parts.lake(lake), query.moment)
        place, one = await parts.pass_of(release, span(date), query.track)
        tag = tag_of("outline", release.id, place)
        headers = {"x-pass-time": one.cells["time"], "x-pass-track": str(one.track)}

        def make() -> Answer:
            body = parts.reader.tables(release).outline(place)
            return Answer(body, GEOJSON, tag=tag, modified=release.created, headers=headers)

        return await parts.answer(request, tag, make)

    return routes


def _streamed(
    tables: Tables,
    chosen: tuple[datetime | None, datetime | None, int | None],
    name: str,
    headers: dict[str, str],
    accepted: str,
) -> Response:
    """Rows as they are read: a decade takes no more memory than a day."""
    lines = tables.lines(*chosen)
    headers = {**headers, "content-disposition": f'attachment; filename="{name}"', "vary": "Accept-Encoding"}
    if accepts_gzip(accepted.encode("latin-1", "replace")):
        lines, headers = _compressed(lines), {**headers, "content-encoding": "gzip"}
    return StreamingResponse(lines, headers=headers, media_type="text/csv; charset=utf-8")


def _compressed(parts: Iterator[bytes]) -> Iterator[bytes]:
    import zlib

    packer = zlib.compressobj(6, wbits=31)
    for part in parts:
        if packed := packer.compress(part):
            yield packed
    yield packer.flush()
