"""Where a run computes: threads, processes, or a Dask cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import dask

from cubekit.config import ComputeOptions, Study
from cubekit.errors import ConfigError

ANSWER_SECONDS = 10
"""How long a Dask scheduler may take to answer."""


@contextmanager
def compute_on(study: Study, scheduler: str | None) -> Iterator[None]:
    """Set dask's scheduler for a run.

    Parameters
    ----------
    study
        Says where to compute.
    scheduler
        ``threads``, ``processes`` or a Dask address; overrides the study's.

    Raises
    ------
    ConfigError
        When it is none of these, or no scheduler answers there.
    """
    options = study.compute
    if scheduler is not None:
        options = ComputeOptions.parse({**options.model_dump(), "scheduler": scheduler}, "--scheduler")
    if options.scheduler == "threads":
        with dask.config.set(scheduler="threads", num_workers=options.workers):
            yield
        return
    from distributed import Client, LocalCluster

    if options.scheduler == "processes":
        limits = {"memory_limit": options.memory} if options.memory else {}
        with (
            LocalCluster(n_workers=options.workers, threads_per_worker=1, dashboard_address=None, **limits) as cluster,
            Client(cluster),
        ):
            yield
        return
    try:
        # Not as the default: one that gets no answer would stay it, and all that is computed later would wait for it.
        Client(options.scheduler, timeout=ANSWER_SECONDS, set_as_default=False).close()
    except (OSError, TimeoutError, ValueError) as error:
        msg = (
            f"no Dask scheduler answers at {options.scheduler}: {error}; start one there, or give threads or processes"
        )
        raise ConfigError(msg) from error
    with Client(options.scheduler, timeout=ANSWER_SECONDS):
        yield
