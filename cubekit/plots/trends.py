"""Trends as lines with their intervals, where their seasons stand."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from cubekit.plots.looks import unit
from cubekit.series.season import SEASON
from cubekit.series.trend import VERDICTS

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def season_days(maxima: xr.Dataset | None) -> tuple[str, str]:
    """First and last day of the seasons, ``MM-DD``; those of the default where they were found from the states."""
    attrs = {} if maxima is None else maxima.attrs
    start, end = (str(attrs.get(name, day)) for name, day in zip(("season_start", "season_end"), SEASON, strict=True))
    return SEASON if "auto" in {start, end} else (start, end)


def season_middle(years: NDArray[np.int64], maxima: xr.Dataset | None) -> NDArray[np.datetime64]:
    """Where on the time axis a season of a year stands."""
    start, end = season_days(maxima)

    def days(texts: list[str]) -> NDArray[np.datetime64]:
        months = np.array([text[:-3] for text in texts], "datetime64[M]").astype("datetime64[D]")
        days_later = np.array([int(text[-2:]) - 1 for text in texts], "timedelta64[D]")
        return np.asarray(months + days_later)

    first = days([f"{year:04d}-{start}" for year in years])
    last = days([f"{year + (end < start):04d}-{end}" for year in years])
    return np.asarray(first + (last - first) / 2)


def known_years(maximum: xr.DataArray) -> NDArray[np.int64]:
    """Years that have a value."""
    return np.asarray(maximum["year"].to_numpy()[np.isfinite(maximum.to_numpy())], dtype=np.int64)


def calendar_years(passes: xr.Dataset) -> NDArray[np.int64]:
    """Years that have a known pass."""
    known = passes["time"].to_numpy()[np.isfinite(passes["area_km2"].to_numpy())]
    return np.unique(known.astype("datetime64[Y]").astype(np.int64) + 1970)


def draw_trend(
    ax: Axes, found: xr.Dataset, years: NDArray[np.int64], *, at: NDArray[Any], style: dict[str, Any], name: str
) -> None:
    """Draw a trend over its years; one of too few seasons is a line of text only.

    The band holds the lines with the ends of the slope's interval, turned about the middle of the years.
    """
    slope, low, high, intercept, p = (
        float(found[key]) for key in ("slope", "slope_low", "slope_high", "intercept", "p_value")
    )
    count, verdict = int(found["n"]), VERDICTS[int(found["verdict"])]
    if found.attrs.get("of", "None") != "None":
        name = f"{name} {found.attrs['of']}".replace("_", " ")
    if verdict == VERDICTS[0] or not len(years):
        ax.plot([], [], linestyle="none", label=f"{name}: too few seasons for a trend (n = {count})")
        return
    label = (
        f"{name}: {slope:+.2g} {unit(found['slope'])} (95 %: {low:+.2g} to {high:+.2g}), "
        f"p = {p:.2g}, n = {count}: {verdict.replace('_', ' ')}"
    )
    ends = [0, -1]
    line = intercept + slope * years[ends]
    ax.plot(at[ends], line, color=style["color"], linestyle=style["linestyle"], linewidth=1.8, label=label)
    if np.isfinite([low, high]).all():
        turned = line.mean() + np.outer((low, high), years - years[ends].mean())
        ax.fill_between(
            at,
            turned.min(axis=0),
            turned.max(axis=0),
            color=style["color"],
            alpha=0.15,
            linewidth=0,
            label=f"_interval {name}",
        )
