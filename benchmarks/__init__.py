"""Claims of speed, each measured beside its peers in the same run.

Each module whose name has no underscore in front is a benchmark: it holds ``measure(*, tiny=False)``, which returns a
list of `Result`. With ``tiny`` the inputs are as small as they can be: the tests run it so, and it can't rot.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Result:
    """One line of RESULTS.md.

    Parameters
    ----------
    what
        The claim, and the peer it is measured against.
    measured
        A ratio of rates (ours over the peer's), unless `unit` says otherwise.
    goal
        What it should be; None where it is only reported.
    at_most
        Whether the goal is an upper limit.
    unit
        Of `measured`, such as ``s``.
    detail
        The absolute figures, and what else has to be said.
    """

    what: str
    measured: float
    goal: float | None = None
    at_most: bool = False
    unit: str = "x"
    detail: str = ""

    @property
    def met(self) -> bool | None:
        """Whether the goal is reached; None where there is none."""
        if self.goal is None:
            return None
        return self.measured <= self.goal if self.at_most else self.measured >= self.goal
