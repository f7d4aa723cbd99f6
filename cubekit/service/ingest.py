"""One look into the archive for one lake: find what is new, put it into the cube, ask for it to be measured."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pystac
import xarray as xr
from sqlalchemy import select, update
from sqlalchemy.orm import Session

from cubekit import cube, pipeline
from cubekit.cube import store
from cubekit.errors import CubekitError, NoObservations, NothingFound, SourceError
from cubekit.lakes import Lake
from cubekit.passes import PLATFORMS, Pass, group
from cubekit.service import letters
from cubekit.service.context import Context, Stopped, logger
from cubekit.service.state import DeadLetter, Job, Look, PassTimes, Release, last_good_look
from cubekit.sources import find_scenes, opera

WHOLE = timedelta(days=7)
"""Between two looks that ask for all: what the archive's catalogue got late, with an old date, comes then."""

_NEAR = timedelta(days=3)  # days that are searched together


Version = tuple[str, int, datetime, str]
"""What tells one version of a pass from another: platform, absolute orbit, when it was processed, granules."""


def interrupted(context: Context) -> None:
    """Close the looks of a process that was killed: they count as failed, and are made again."""
    with context.state.write() as session:
        unfinished = update(Look).where(Look.ended.is_(None))
        session.execute(unfinished.values(ended=context.now(), error="interrupted"))


def look(context: Context, lake: Lake) -> Look:
    """Look once for what the archive has got for a lake since the last look that ended well.

    Parameters
    ----------
    context
        The service.
    lake
        One of its lakes.

    Returns
    -------
    Look
        What came of it; with ``error`` when the archive, or the cube, failed: nothing is lost then, the next look asks
        for the same again.

    Raises
    ------
    Stopped
        When the service is to end; what was committed stays.

    Notes
    -----
    Of what was found, passes that can't be used go to the dead letters; the rest goes on. The cube is changed before
    the state: killed between the two, the next look finds the passes in the cube, and asks for them to be measured.
    """
    started = context.now()
    with context.state.write() as session:
        row = Look(lake=lake.id, started=started, since=_since(context, session, lake.id, started))
        session.add(row)
    try:
        found = _search(context, lake, row.since)
        row.found = len(found.items)
        report, source = cube.AppendReport(), _source_of(context, found.items)
        tried: Mapping[str, Pass] = {}
        if found.items:
            tried = _named(found.items)
            _, report, _ = pipeline.append_items(context.study, lake, found.items, context.progress)
        row.appended = report.written
        held = None if source is None else _held(context, lake.id, source)
        with context.state.write() as session:
            letters.write(context, session, row, found, tried, report.refused)
            if held is not None:
                _write_passes(context, session, lake.id, str(source), *held)
            row.ended = context.now()
            session.merge(row)
    except Stopped:
        _failed(context, row, "the service was ended")
        raise
    except Exception as error:
        logger.warning(
            "%s: the look failed: %s", lake.id, error, exc_info=not isinstance(error, CubekitError), extra=_told(row)
        )
        _failed(context, row, f"{type(error).__name__}: {error}")
    else:
        logger.info("%s: %d scenes found, %s", lake.id, row.found, report, extra=_told(row))
    return row


def _since(context: Context, session: Session, lake: str, now: datetime) -> datetime | None:
    """From when on what was processed is asked for; None: all, now and then, and where no archive tells what is new."""
    last, whole = last_good_look(session, lake), last_good_look(session, lake, whole=True)
    if last is None or whole is None or now - whole.started >= WHOLE or not _tells_what_is_new(context):
        return None
    return last.started - timedelta(days=context.study.service.overlap_days)


def _tells_what_is_new(context: Context) -> bool:
    return context.study.source.uri.partition("?")[0] == "opera"


def _failed(context: Context, row: Look, reason: str) -> None:
    row.ended, row.error = context.now(), reason
    with context.state.write() as session:
        session.merge(row)


def _told(row: Look) -> dict[str, Any]:
    return {"lake": row.lake, "found": row.found, "appended": row.appended}


def _search(context: Context, lake: Lake, since: datetime | None) -> letters.Found:
    """The scenes of all passes of which something is new, or which are to be tried again."""
    noted = letters.unsolved(context, lake.id)
    with letters.noting() as left_out:
        try:
            items = _items(context, lake, since, noted)
        except NothingFound:
            items = []
    waiting = {one.granule for one in noted if one.platform and not letters.due(one, context.now())}
    found = letters.Found(left_out=left_out, whole=since is None)
    for name, pass_ in _named(items).items():
        if name not in waiting:
            found.items += pass_.scenes
    if context.study.source.download and found.items:
        _download(context, found)
    return found


def _items(context: Context, lake: Lake, since: datetime | None, noted: Sequence[DeadLetter]) -> list[pystac.Item]:
    study = context.study
    start, end = study.period.start, study.period.end
    uri, tracks = study.source.uri, study.source.tracks
    if since is None:
        return list(find_scenes(lake, uri, start, end, tracks=tracks))
    asked: opera.Parameters = {"tracks": tuple(tracks), **opera.parameters(uri.partition("?")[2])}
    try:
        changed = list(opera.find(lake, (start, end), processed_since=since, **asked))
    except NothingFound:
        changed = []
    known = _known(context, lake.id) | {name for one in noted for name in one.granule.split(" + ")}
    wanted = {_key(one): _day(one.datetime) for one in changed if one.id not in known}
    for one in noted:
        if one.acquired and letters.due(one, context.now()):
            wanted[str(one.platform), int(one.absolute_orbit or 0)] = _day(one.acquired)
    # A pass is put together of all of its scenes: those of the same days, new or not.
    items: dict[str, pystac.Item] = {}
    for first, last in _windows(wanted.values()):
        first = first if start is None else max(first, start)  # noqa: PLW2901
        last = last if end is None else min(last, end)  # noqa: PLW2901
        try:
            near = find_scenes(lake, uri, first, last, tracks=tracks)
        except NothingFound:  # what was refused may be gone
            continue
        items |= {one.id: one for one in near if _key(one) in wanted}
    return list(items.values())


def _known(context: Context, lake: str) -> set[str]:
    """Granules that need no second look: those in the cube, and those that have no data there."""
    path = context.cube(lake, "opera")
    if not store.is_living(path):
        return set()
    stored = cube.open_cube(path)
    names = {name for text in stored["granules"].to_numpy().tolist() for name in json.loads(text)}
    empty = json.loads(stored.attrs.get("empty_passes", "{}"))
    return names | {name for one in empty for name in one.split(" + ")}


def _download(context: Context, found: letters.Found) -> None:
    """Fetch granules to disk; passes of which one can't be had wait: half of a pass would be taken for all of it."""
    with letters.noting() as reasons:
        try:
            kept = {one.id: one for one in opera.download(found.items, context.out / "granules")}
        except SourceError as error:
            kept = {}
            reasons |= {one.id: str(error) for one in found.items}
    passes = _named(found.items)
    found.items = []
    for name, pass_ in passes.items():
        lacking = [scene.id for scene in pass_.scenes if scene.id not in kept]
        if lacking:
            found.lost[name] = (pass_, f"{lacking[0]}: {reasons.get(lacking[0], 'it could not be had')}")
        else:
            found.items += [kept[scene.id] for scene in pass_.scenes]


def _held(context: Context, lake: str, source: str) -> tuple[str, dict[Version, dict[str, Any]]] | None:
    """Snapshot of a lake's cube, and the passes that it holds of the study; None where there is no cube yet."""
    path = context.cube(lake, source)
    if not store.is_living(path):
        return None
    snapshot = cube.history(path)[0].id
    try:
        passes = pipeline.of_study(cube.open_cube(path, as_of=snapshot), context.study)
    except NoObservations:
        return None
    return snapshot, pass_versions(passes)


def _write_passes(
    context: Context,
    session: Session,
    lake: str,
    source: str,
    snapshot: str,
    current: Mapping[Version, Mapping[str, Any]],
) -> None:
    """Note the passes that the cube holds by now, and ask for them to be measured when some are not served yet."""
    now = context.now()
    there = select(PassTimes).where(PassTimes.lake == lake, PassTimes.source == source)
    rows = {version_of(one): one for one in session.scalars(there)}
    for version, coordinates in current.items():
        if version not in rows:
            session.add(PassTimes(lake=lake, source=source, seen=now, **coordinates))
    waiting = [version for version in current if version not in rows or rows[version].served is None]
    configuration = context.study.fingerprint
    newest = select(Release).where(Release.lake == lake).order_by(Release.created.desc()).limit(1)
    release = session.scalars(newest).first()
    if not waiting and release is not None and (release.source, release.config_hash) == (source, configuration):
        return
    mine = select(Job).where(Job.lake == lake, Job.source == source, Job.config_hash == configuration)
    for job in session.scalars(mine):
        if job.state == "queued" or job.snapshot == snapshot:
            return
    session.add(Job(lake=lake, source=source, snapshot=snapshot, config_hash=configuration, created=now))


def version_of(row: PassTimes) -> Version:
    """The version of a pass that a row is about."""
    return row.platform, row.absolute_orbit, row.produced, row.granules


def pass_versions(passes: xr.Dataset) -> dict[Version, dict[str, Any]]:
    """The passes of a cube as the state knows them.

    Parameters
    ----------
    passes
        As `open_cube` gives them; only coordinates are read.

    Returns
    -------
    dict
        Columns of `PassTimes` by version.
    """
    names = ("platform", "absolute_orbit", "track", "granules", "time", "processed")
    columns = {name: passes[name].to_numpy() for name in names}
    found: dict[Version, dict[str, Any]] = {}
    for row in range(passes.sizes["time"]):
        platform, orbit = PLATFORMS[int(columns["platform"][row])], int(columns["absolute_orbit"][row])
        produced, granules = _moment(columns["processed"][row]), str(columns["granules"][row])
        found[platform, orbit, produced, granules] = {
            "platform": platform,
            "absolute_orbit": orbit,
            "track": int(columns["track"][row]),
            "granules": granules,
            "acquired": _moment(columns["time"][row]),
            "produced": produced,
        }
    return found


def _moment(value: Any) -> datetime:
    return datetime.fromtimestamp(value.astype("datetime64[s]").astype(int).item(), UTC)


def _source_of(context: Context, items: Sequence[pystac.Item]) -> str | None:
    if items:
        return str(items[0].properties["cubekit:source"])
    return "opera" if _tells_what_is_new(context) else None


def _named(items: Iterable[pystac.Item]) -> dict[str, Pass]:
    """Passes by the names that a report of the cube has for them."""
    given = list(items)
    return {" + ".join(pass_.granules): pass_ for pass_ in group(given)} if given else {}


def _key(item: pystac.Item) -> tuple[str, int]:
    return str(item.properties["platform"]), int(item.properties["sat:absolute_orbit"])


def _day(time: datetime | None) -> date:
    if time is None:
        msg = "a scene has no time"
        raise SourceError(msg)
    return time.astimezone(UTC).date()


def _windows(days: Iterable[date]) -> list[tuple[date, date]]:
    """Few periods that hold all days, with a day on each side: a pass may cross midnight.

    Examples
    --------
    >>> [(str(a), str(b)) for a, b in _windows([date(2023, 7, 9), date(2023, 7, 1), date(2023, 7, 3)])]
    [('2023-06-30', '2023-07-04'), ('2023-07-08', '2023-07-10')]
    """
    windows: list[list[date]] = []
    for day in sorted(set(days)):
        if windows and day - windows[-1][-1] <= _NEAR:
            windows[-1].append(day)
        else:
            windows.append([day])
    one = timedelta(days=1)
    return [(days_[0] - one, days_[-1] + one) for days_ in windows]
