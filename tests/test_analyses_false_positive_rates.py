"""The table of false positives is made, and says what it should of few draws."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest


@pytest.fixture
def rates(monkeypatch: pytest.MonkeyPatch):
    """Import the script as when it is run."""
    monkeypatch.syspath_prepend(str(Path(__file__).parents[1] / "analyses"))
    import false_positive_rates

    return false_positive_rates


def test_tables_and_figure_are_written(rates, tmp_path, monkeypatch):
    """Rates in per cent, one row a case; a trend plain to see is found in any shape."""
    monkeypatch.setattr(
        rates, "SHAPES", {name: rates.SHAPES[name] for name in ("straight", "saturating", "smooth step")}
    )
    rates.main(60, 1, tmp_path)
    false = pd.read_csv(tmp_path / "tables" / "false_positive_rates.csv")
    assert false[["n", "AR(1)"]].to_numpy().tolist() == [[10, 0.0], [10, 0.4], [60, 0.0], [60, 0.4]]
    assert false["coverage"].between(75, 100).all()
    assert (false["too few"] == 0).all()
    power = pd.read_csv(tmp_path / "tables" / "trend_power.csv")
    assert (power.loc[power["sd a year"] == 5, "power"] == 100).all()
    assert (tmp_path / "images" / "trend_power.png").stat().st_size > 10_000


def test_growth_of_any_shape_is_as_much(rates):
    """From the first to the last value as much as the slope's."""
    for shape in rates.SHAPES:
        grown = rates.growth(shape, 0.5, 10)
        assert grown[-1] - grown[0] == pytest.approx(4.5, rel=0.002)
