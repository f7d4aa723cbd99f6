"""The benchmark of the record runs, and its peer does the same work."""

from __future__ import annotations

import numpy as np

from benchmarks import record


def test_the_peer_of_the_record_does_the_same_work() -> None:
    """Slopes and plain p of pandas and scipy, series by series, are ours."""
    table = record.make(12)
    np.testing.assert_allclose(record.ours(table), record.peer(table), rtol=1e-9)


def test_the_record_says_how_long_it_took(capsys) -> None:
    """Each step and the load of the machine."""
    record.main(20)
    said = capsys.readouterr().out
    assert said.startswith("20 lakes x 300 dates, two tracks: ")
    assert "load " in said
