"""Routes of what is seen: images of passes, and their rasters."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Query, Request
from starlette.exceptions import HTTPException
from starlette.responses import Response

from cubekit.errors import NoObservations
from cubekit.lakes import Lake
from cubekit.service._api_answer import Answer, tag_of
from cubekit.service._api_cogs import file_name, power_cog, water_cog
from cubekit.service._api_images import draw_shore, picture, png
from cubekit.service._api_parts import UNCHANGED, Parts, contents, problems
from cubekit.service._api_queries import CogQuery, Date, ImageQuery, LakeName, span
from cubekit.service._api_release import Pass
from cubekit.service.state import Release

TIFF = "image/tiff; application=geotiff; profile=cloud-optimized"
_PNG = "image/png"


def router(parts: Parts) -> APIRouter:
    """The routes.

    Parameters
    ----------
    parts
        Of the app.
    """
    routes = APIRouter(tags=["images"])
    image = {**contents(_PNG, "The lake's area of interest, north up."), **UNCHANGED, **problems(404)}

    @routes.get("/images/{lake}/latest", response_class=Response, responses=image)
    async def latest(request: Request, lake: LakeName, query: Annotated[ImageQuery, Query()]) -> Response:
        """The newest pass, with the shore that was found; header X-Pass-Time says when it was."""
        return await image_of(parts, request, parts.lake(lake), None, query)

    @routes.get("/images/{lake}/{date}", response_class=Response, responses=image)
    async def of_date(request: Request, lake: LakeName, date: Date, query: Annotated[ImageQuery, Query()]) -> Response:
        """A pass: of a day's passes the one that saw most, unless a track or a time is given."""
        return await image_of(parts, request, parts.lake(lake), span(date), query)

    part = {206: {"description": "A part of it.", "content": {TIFF: {}}}, **problems(404, 416)}

    @routes.get(
        "/lakes/{lake}/cog/{date}",
        response_class=Response,
        responses={**contents(TIFF, "A cloud-optimised GeoTIFF; takes Range."), **UNCHANGED, **part},
    )
    async def cog(request: Request, lake: LakeName, date: Date, query: Annotated[CogQuery, Query()]) -> Response:
        """A raster of a pass: water (uint8: 0 dry, 1 water, 255 not known) or vv (float32, linear power)."""
        mine = parts.lake(lake)
        release = await parts.released(mine, query.moment)
        place, one = await parts.pass_of(release, span(date), query.track)
        tag = tag_of("cog", release.id, place, query.layer, strong=True)

        def make() -> Answer:
            opened = parts.cubes.of(mine, release)
            if query.layer == "water":
                body = water_cog(opened, one, release)
            else:
                body = power_cog(parts.cubes, opened, one, query.layer)
            name = file_name(mine.id, one, query.layer)
            headers = {**_headers(one), "content-disposition": f'attachment; filename="{name}"'}
            return Answer(body, TIFF, tag=tag, modified=release.created, headers=headers, ranges=True)

        return await _found(parts, request, tag, make, query.layer, one)

    return routes


async def image_of(
    parts: Parts, request: Request | None, lake: Lake, period: tuple[datetime, datetime] | None, query: ImageQuery
) -> Response:
    """An image of a pass, the newest without a period.

    Parameters
    ----------
    parts
        Of the app.
    request
        None: nobody has asked yet, but somebody will.
    lake
        Which.
    period
        When the pass was.
    query
        How it is drawn.
    """
    release = await parts.released(lake, query.moment)
    place, one = await parts.pass_of(release, period, query.track)
    tag = tag_of("image", release.id, place, query.size, query.layer, query.outline)

    def make() -> Answer:
        return _drawn(parts, lake, release, (place, one), query, tag)

    return await _found(parts, request, tag, make, query.layer, one)


async def _found(
    parts: Parts,
    request: Request | None,
    tag: str,
    make: Callable[[], Answer],
    layer: str,
    one: Pass,
) -> Response:
    try:
        if request is None:
            return await parts.answers.of(tag, make)
        return await parts.answer(request, tag, make)
    except NoObservations:
        raise HTTPException(404, f"there is no {layer} of the pass of {one.cells['time']}") from None


def _drawn(parts: Parts, lake: Lake, release: Release, wanted: tuple[int, Pass], query: ImageQuery, tag: str) -> Answer:
    place, one = wanted
    opened = parts.cubes.of(lake, release)
    whole = picture(parts.cubes.image(opened, one, query.layer), query.layer, query.size)
    if query.outline:
        draw_shore(whole, parts.reader.tables(release).outline(place), opened.lake)
    return Answer(png(whole), _PNG, tag=tag, modified=release.created, headers=_headers(one))


def _headers(one: Pass) -> dict[str, str]:
    return {"x-pass-time": one.cells["time"], "x-pass-track": str(one.track)}
