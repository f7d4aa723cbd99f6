"""Take a job: segment a lake's new passes, measure all, and make raw, water, series and alerts visible in one step."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime, timedelta
from pathlib import Path

from sqlalchemy import or_, select, update
from sqlalchemy.orm import Session

from cubekit import cube, pipeline
from cubekit.config import OutputOptions
from cubekit.cube import store
from cubekit.errors import ConfigError, CubeConflict, CubekitError, SourceError
from cubekit.report import LakeReport, Report, write_results
from cubekit.schedulers import compute_on
from cubekit.segmenting import segment_passes
from cubekit.service import releases, warn
from cubekit.service.context import Context, Stopped, logger
from cubekit.service.ingest import Version, pass_versions, version_of
from cubekit.service.letters import wait
from cubekit.service.state import Job, PassTimes, Release, first_look

LEASE = timedelta(hours=2)
"""How long a job belongs to who took it; longer than a decade of passes takes."""

TRIES = 3
"""Of a measurement, when a look changes the cube meanwhile."""


def reclaim(context: Context) -> None:
    """Clear up after processes that were killed: their jobs are free again, and what they left is removed.

    Lakes at which another process is working are left alone.
    """
    for lake in context.lakes:
        try:
            with context.alone(f"infer-{lake}"):
                releases.sweep(context.state, context.out, lake)
                with context.state.write() as session:
                    running = update(Job).where(Job.lake == lake, Job.state == "running")
                    session.execute(running.values(state="queued", leased_until=None))
        except CubeConflict:
            logger.info("%s: another process is at work", lake)


def run_due(context: Context) -> int:
    """Do all jobs that are due.

    Parameters
    ----------
    context
        The service.

    Returns
    -------
    int
        How many releases were made.

    Raises
    ------
    Stopped
        When the service is to end; the job at hand is free again then.

    Notes
    -----
    What fails is tried again with ever longer waits, ``service.max_attempts`` times; the other lakes go on.
    """
    made = 0
    while (job := _lease(context)) is not None:
        try:
            context.check()
            with context.alone(f"infer-{job.lake}"), compute_on(context.study, None):
                _release(context, job)
            made += 1
        except Stopped:
            _give_back(context, job)
            raise
        except Exception as error:  # one lake that fails must not end the others
            logger.warning(
                "%s: the job failed: %s",
                job.lake,
                error,
                exc_info=not isinstance(error, CubekitError),
                extra={"lake": job.lake, "job": job.id, "attempts": job.attempts},
            )
            _failed(context, job, error)
    return made


def _lease(context: Context) -> Job | None:
    """Take the oldest job that is due."""
    now = context.now()
    queued = (Job.state == "queued") & or_(Job.next_try.is_(None), Job.next_try <= now)
    orphaned = (Job.state == "running") & (Job.leased_until < now)
    with context.state.write() as session:
        job = session.scalars(select(Job).where(or_(queued, orphaned)).order_by(Job.id).limit(1)).first()
        if job is not None:
            job.state, job.leased_until, job.attempts = "running", now + LEASE, job.attempts + 1
    return job


def _give_back(context: Context, job: Job) -> None:
    with context.state.write() as session:
        mine = update(Job).where(Job.id == job.id, Job.state == "running")
        session.execute(mine.values(state="queued", leased_until=None, attempts=job.attempts - 1))


def _failed(context: Context, job: Job, error: Exception) -> None:
    now, options = context.now(), context.study.service
    given_up = job.attempts >= options.max_attempts
    values = {
        "state": "failed" if given_up else "queued",
        "finished": now if given_up else None,
        "next_try": now + wait(job.attempts, options.retry_minutes),
        "leased_until": None,
        "error": f"{type(error).__name__}: {error}",
    }
    with context.state.write() as session:
        session.execute(update(Job).where(Job.id == job.id, Job.state == "running").values(**values))


def _release(context: Context, job: Job) -> None:
    """Make a release of a lake's cube as it is by now; whatever is queued for it is done by that."""
    if job.lake not in context.lakes:
        msg = f"lake {job.lake!r} is not in the study any more; put it back, or leave it: nothing else waits for it"
        raise ConfigError(msg)
    path = context.cube(job.lake, job.source)
    if not store.is_living(path):
        msg = f"the cube at {path} is gone; the next look builds it anew"
        raise SourceError(msg)
    with context.state.read() as session:
        queued = Job.lake == job.lake, Job.source == job.source, Job.state.in_(("queued", "running", "failed"))
        covered = list(session.scalars(select(Job.id).where(*queued)))
    lake = context.lakes[job.lake].at_spacing(int(cube.open_cube(path).attrs["spacing"]))
    # Formats are the batch job's: a release has what is served, and nothing that is written outside of it.
    study = context.study.model_copy(update={"output": OutputOptions()})
    for attempt in range(1, TRIES + 1):
        model = segment_passes(study, lake, path, context.progress)
        created = context.now()
        name = releases.name_of(created, cube.history(path)[0].id)
        try:
            with releases.writing(context.out, job.lake, name) as folder:
                measured = pipeline.measure_lake(
                    study, lake, path, model, cube.AppendReport(), folder, context.progress
                )
                _write_tables(context, measured, job, folder, created)
                context.check()
        except CubeConflict:
            if attempt == TRIES:
                raise
            continue
        break
    passes = pipeline.of_study(cube.open_cube(path, as_of=measured.snapshot), context.study)
    served = pass_versions(passes)
    row = Release(
        id=name,
        lake=job.lake,
        source=job.source,
        snapshot=measured.snapshot,
        model=measured.model,
        model_hash=measured.model_hash,
        config_hash=study.fingerprint,
        folder=str(releases.HOME_OF_RELEASES / job.lake / name),
        latest_pass=max(one["acquired"] for one in served.values()),
    )
    with context.state.write() as session:
        row.created = context.now()  # from now on it is seen: who asks for an earlier moment gets what was seen then
        session.add(row)
        session.flush()
        new = _serve(session, row, served)
        events = warn.record(session, row, measured.results.alerts, context.study.service.webhooks)
        done = update(Job).where(Job.id.in_(covered))
        session.execute(done.values(state="done", finished=row.created, leased_until=None, error=None))
    logger.info(
        "%s: released %s, %d passes, %d new, %d alert events",
        *(job.lake, name, len(served), new, len(events)),
        extra={"lake": job.lake, "release": name, "passes": len(served), "new": new, "events": len(events)},
    )


def _serve(session: Session, release: Release, served: Mapping[Version, object]) -> int:
    """Note when passes came to be served."""
    new, began = 0, first_look(session, release.lake)
    waiting = select(PassTimes).where(PassTimes.lake == release.lake, PassTimes.source == release.source)
    for one in session.scalars(waiting.where(PassTimes.served.is_(None))):
        if version_of(one) in served:
            one.served = release.created
            new += 1
            times = {"acquired": one.acquired, "produced": one.produced, "seen": one.seen, "served": release.created}
            told = {name: f"{time:%Y-%m-%dT%H:%M:%SZ}" for name, time in times.items()}
            # What was acquired before the service first looked tells nothing of how fast it is.
            level = logging.INFO if began is not None and one.acquired >= began else logging.DEBUG
            logger.log(
                level, "%s: a pass is served", release.lake, extra={"lake": release.lake, "track": one.track, **told}
            )
    return new


def _write_tables(context: Context, measured: LakeReport, job: Job, folder: Path, created: datetime) -> None:
    report = Report(context.out, {job.lake: measured})
    write_results(context.study, report, folder)
    told = releases.describe(
        measured, report, source=job.source, created=created, config_hash=context.study.fingerprint
    )
    releases.write_description(folder, told)
