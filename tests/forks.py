"""Orders from standard input, each followed in a fork that may be killed: what a test of crashes talks to.

Forks come from a process that has loaded everything, so that a test of many kills doesn't import it each time.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable


def say(what: str) -> None:
    """Tell the test a line."""
    sys.stdout.write(f"{what}\n")
    sys.stdout.flush()


def serve(work: Callable[..., None]) -> None:
    """Follow orders, JSON lists of what `work` takes, and say how each ended: its status, or minus its signal."""
    child = 0
    for order in sys.stdin:
        if child:
            os.waitpid(child, 0)  # not before: until then its number is nobody else's, and killing it hurts nobody
        child = os.fork()
        if child == 0:
            try:
                work(*json.loads(order))
            except BaseException:
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        ended = os.waitid(os.P_PID, child, os.WEXITED | os.WNOWAIT)
        say(f"ended {ended.si_status if ended.si_code == os.CLD_EXITED else -ended.si_status}")
