"""The loop: look, infer, tell, on a schedule; or once. Ends when it is asked to, between two commits."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from cubekit.errors import CubeConflict, CubekitError, MissingExtra
from cubekit.service import infer, ingest, notify
from cubekit.service.context import Context, Stopped, logger

POLL_SECONDS = 5.0
"""How often the inference looks for jobs, and the outbox for messages."""


def watch(context: Context, *, once: bool = False, ingest_only: bool = False) -> list[str]:
    """Look into the archive, on the study's schedule or once, and do what follows from it.

    Parameters
    ----------
    context
        The service.
    once
        One look at each lake and all that follows from it; for cron.
    ingest_only
        Only look and append: `run_inference`, in another process, does the rest.

    Returns
    -------
    list of str
        Lakes whose last look failed.

    Raises
    ------
    CubeConflict
        When another process watches for this study.
    ConfigError
        When webhooks can't be signed.
    MissingExtra
        When APScheduler is absent.

    Notes
    -----
    Ends cleanly when ``context.stopping`` is set: after the commit at hand, with its job free for others.
    """
    if not ingest_only:
        notify.secret_of(context.study.service)
    failed: list[str] = []

    def cycle() -> None:
        failed[:] = look_at_all(context)
        if not ingest_only:
            follow()

    def follow() -> None:
        infer.run_due(context)
        notify.deliver(context)

    with context.alone("watch"), _ends_well():
        ingest.interrupted(context)
        if not ingest_only:
            infer.reclaim(context)
        if once:
            cycle()
            return failed
        schedule = [(cycle, timedelta(minutes=context.study.service.interval_minutes))]
        if not ingest_only:
            schedule.append((follow, timedelta(seconds=POLL_SECONDS)))
        _run(context, schedule)
    return failed


def run_inference(context: Context, *, once: bool = False) -> None:
    """Do the jobs that a watching process asks for, and tell of alerts: the other half of `watch`.

    Parameters
    ----------
    context
        The service.
    once
        What is due now, and no more.

    Raises
    ------
    ConfigError, MissingExtra
        As `watch`.
    """
    notify.secret_of(context.study.service)

    def follow() -> None:
        infer.run_due(context)
        notify.deliver(context)

    with _ends_well():
        infer.reclaim(context)
        if once:
            follow()
        else:
            _run(context, [(follow, timedelta(seconds=POLL_SECONDS))])


def look_at_all(context: Context) -> list[str]:
    """Look once for each lake.

    Parameters
    ----------
    context
        The service.

    Returns
    -------
    list of str
        Lakes whose look failed.

    Raises
    ------
    Stopped
        When the service is to end.
    """
    failed = []
    for name, lake in context.lakes.items():
        context.check()
        if ingest.look(context, lake).error is not None:
            failed.append(name)
    return failed


@contextmanager
def ending_on_signals(context: Context) -> Iterator[None]:
    """Let SIGTERM and SIGINT end a service cleanly. For the main thread."""

    def end(number: int, _: object) -> None:
        logger.info("ending: %s", signal.Signals(number).name)
        context.stopping.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _ends_well() -> Iterator[None]:
    try:
        yield
    except Stopped:
        logger.info("ended, as asked")


def _run(context: Context, schedule: list[tuple[Callable[[], None], timedelta]]) -> None:
    """Run until the service is to end: one thing at a time, and what was missed once, not again and again."""
    try:
        from apscheduler.executors.pool import ThreadPoolExecutor
        from apscheduler.schedulers.background import BackgroundScheduler
    except ImportError as error:
        msg = 'apscheduler is not installed, and the service needs it; pip install "cubekit[service]"'
        raise MissingExtra(msg) from error
    scheduler: Any = BackgroundScheduler(
        executors={"default": ThreadPoolExecutor(1)},
        job_defaults={"coalesce": True, "max_instances": 1, "misfire_grace_time": None},
        timezone="UTC",
    )
    for call, interval in schedule:
        scheduler.add_job(
            _guarded(context, call),
            "interval",
            seconds=interval.total_seconds(),
            next_run_time=datetime.now(tz=scheduler.timezone),
        )
    _quiet()
    scheduler.start()
    logger.info("watching %s", ", ".join(context.lakes), extra={"lakes": len(context.lakes)})
    try:
        context.stopping.wait()
    finally:
        context.stopping.set()
        scheduler.shutdown(wait=True)
    logger.info("ended, as asked")


def _guarded(context: Context, call: Callable[[], None]) -> Callable[[], None]:
    """A step of the schedule: what goes wrong in it is told, and the next one comes all the same."""

    def step() -> None:
        try:
            context.check()
            call()
        except Stopped:
            return
        except CubeConflict as error:
            logger.warning("%s", error)
        except Exception as error:  # a full disk today must not end the service
            logger.error("%s", error, exc_info=not isinstance(error, CubekitError))

    return step


def _quiet() -> None:
    """The scheduler warns when a step takes longer than its interval: that is what `coalesce` is for."""
    import logging

    logging.getLogger("apscheduler").setLevel(logging.ERROR)
