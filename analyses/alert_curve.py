"""How soon alerts come, how many are false, and how both depend on the noise of a pass: ten years of simulated lakes.

Prints a table (noise 1 to 5 %, a pass every 6 and every 12 days) and draws its figure. Each lake has a season of its
own, lopsided and different from year to year, a growth, one to three tracks that see more or less of it, and a winter
under ice whose areas are nonsense. After three to nine years a tenth of it drains in a day, or, in another course of
the same lake, it grows by 15 % in a month.

Run: python analyses/alert_curve.py [OUT] [LAKES] [SEED]; OUT is the folder of the figure and the table, LAKES 200 and
SEED 0 by default.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd

from cubekit.series.alerts import Observation, step

YEARS = 10
NOISES = (0.01, 0.02, 0.03, 0.04, 0.05)
REVISITS = (6, 12)
DROP, GROWTH, GROWTH_DAYS, EXCEEDED = 0.10, 0.15, 30.0, 0.10
WITHIN = 2


class Simulated(NamedTuple):
    """One lake: its passes without an event, and where one would begin."""

    days: np.ndarray  # since 2015-01-01
    tracks: np.ndarray
    area: np.ndarray
    frozen: np.ndarray
    width: np.ndarray
    onset: float  # day of the event


def simulate(rng: np.random.Generator, *, noise: float, revisit: float, outliers: float = 0.0) -> Simulated:
    """Draw a lake. `outliers` is the share of open passes of which a fifth of the water is not seen as such."""
    days = np.arange(0, YEARS * 365.25, revisit) + rng.uniform(0, revisit)
    year = (days / 365.25) % 1
    whole = (days // 365.25).astype(int)
    count = rng.integers(1, 4)
    tracks = np.arange(days.size) % count
    summer = rng.uniform(0.55, 0.65) + rng.normal(0, 0.02, YEARS + 1)[whole]
    height = rng.uniform(0, 0.06) * (1 + rng.normal(0, 0.2, YEARS + 1)[whole])
    distance = (year - summer + 0.5) % 1 - 0.5
    season = height * np.exp(-((distance / np.where(distance < 0, 0.12, 0.2)) ** 2))
    wander = np.cumsum(rng.normal(0, 0.005, days.size)) * np.sqrt(revisit / 365.25)
    log_area = np.log(rng.uniform(0.1, 5)) + rng.uniform(-0.01, 0.03) * days / 365.25 + season + wander
    log_area += rng.normal(0, 0.05, count)[tracks]
    area = np.exp(log_area) * (1 + noise * rng.standard_normal(days.size))
    area *= np.where(rng.random(days.size) < outliers, 0.8, 1.0)
    frozen = (year < rng.uniform(0.2, 0.35)) | (year > rng.uniform(0.9, 0.97))
    area = np.where(frozen, area * rng.uniform(0.2, 1.2, days.size), area)
    width = 1.96 * area * np.where(rng.random() < 0.5, noise, 0.04)  # of a fitted block; of half a pixel of shore
    # An event begins in open water, with enough of the season left to be seen in.
    open_days = np.flatnonzero(~frozen & (days > 3 * 365.25) & (days < 9 * 365.25))
    late = frozen[np.minimum(open_days + int(70 / revisit), days.size - 1)]
    onset = float(days[rng.choice(open_days[~late])] - rng.uniform(0, revisit))
    return Simulated(days, tracks, area, frozen, width, onset)


def changed(lake: Simulated, kind: str) -> tuple[np.ndarray, float]:
    """Areas with an event, and the day from which its delay counts."""
    since = lake.days - lake.onset
    if kind == "drop":
        return lake.area * np.where(since >= 0, 1 - DROP, 1.0), lake.onset
    grown = 1 + GROWTH * np.clip(since / GROWTH_DAYS, 0, 1)
    return lake.area * grown, lake.onset + GROWTH_DAYS * EXCEEDED / GROWTH


def passes(lake: Simulated, area: np.ndarray) -> list[Observation]:
    """The passes as they would come in; the ice is known, as `states` finds it."""
    times = pd.Timestamp("2015-01-01", tz="UTC") + pd.to_timedelta(lake.days, unit="D")
    states = np.where(lake.frozen, "ice", "open").tolist()
    columns = (area.tolist(), (area - lake.width).tolist(), (area + lake.width).tolist(), states)
    return [
        Observation(time, int(track), one, low, high, 1.0, state)
        for time, track, one, low, high, state in zip(times, lake.tracks, *columns, strict=True)
    ]


def watch(lake: Simulated) -> dict[str, float]:
    """Run a lake without an event, and both events from its onset on."""
    quiet = passes(lake, lake.area)
    first = int(np.searchsorted(lake.days, lake.onset))
    state, false, at_onset = None, 0, None
    for number, one in enumerate(quiet):
        at_onset = state if number == first else at_onset
        state, events = step(state, one)
        false += sum(event.kind == "confirmed" for event in events)
    row = {"false": false, "decades": float(lake.days[-1] - lake.days[0]) / 3652.5}
    for kind in ("drop", "growth"):
        area, counted = changed(lake, kind)
        number, row[kind], row[f"{kind}_days"] = 0, 0.0, np.nan
        state = at_onset
        for day, one in zip(lake.days[first:], passes(lake, area)[first:], strict=True):
            state, events = step(state, one)
            number += one.state == "open" and day >= counted
            told = any(event.kind == "confirmed" and event.sign == kind for event in events)
            if told or number >= 30:
                row[kind], row[f"{kind}_days"] = float(told and number <= WITHIN), day - lake.onset if told else np.nan
                break
    return row


def curve(lakes: int = 200, *, noises=NOISES, revisits=REVISITS, outliers: float = 0.0, seed: int = 0) -> pd.DataFrame:
    """Draw lakes of every noise and revisit: one row each, of shares, false alarms and delays."""
    rows = []
    for revisit in revisits:
        for noise in noises:
            rng = np.random.default_rng([seed, revisit, round(noise * 1000)])
            drawn = pd.DataFrame(
                [watch(simulate(rng, noise=noise, revisit=revisit, outliers=outliers)) for _ in range(lakes)]
            )
            rows.append(
                {
                    "revisit_days": revisit,
                    "noise_percent": 100 * noise,
                    "outliers_percent": 100 * outliers,
                    "lakes": lakes,
                    "seed": seed,
                    "drops_in_two_passes": drawn["drop"].mean(),
                    "growths_in_two_passes": drawn["growth"].mean(),
                    "false_per_lake_decade": drawn["false"].sum() / drawn["decades"].sum(),
                    "drop_days": drawn["drop_days"].median(),
                    "growth_days": drawn["growth_days"].median(),
                }
            )
    return pd.DataFrame(rows)


def draw(table: pd.DataFrame):
    """Draw the shares that were in time, and the false alarms, over the noise of a pass."""
    import matplotlib.pyplot as plt

    figure, (shares, alarms) = plt.subplots(1, 2, figsize=(9, 3.6), layout="constrained")
    for (revisit, rows), dashes in zip(table.groupby("revisit_days"), ("-", "--"), strict=True):
        noise = rows["noise_percent"]
        shares.plot(noise, 100 * rows["drops_in_two_passes"], f"ko{dashes}", label=f"10 % drop, {revisit} days")
        shares.plot(
            noise, 100 * rows["growths_in_two_passes"], f"^{dashes}", color="0.5", label=f"growth, {revisit} days"
        )
        alarms.plot(noise, rows["false_per_lake_decade"], f"ko{dashes}", label=f"a pass every {revisit} days")
    for axes, limit, label in (
        (shares, 95, "confirmed within two passes, %"),
        (alarms, 0.5, "false alarms a lake-decade"),
    ):
        axes.axhline(limit, color="0.7", lw=0.8)
        axes.set(xlabel="noise of a pass, % of the area", ylabel=label, ylim=(0, None))
        axes.legend(frameon=False)
    return figure


def main(out: Path, lakes: int, seed: int) -> None:
    """Print the curve and a line with wild passes, write both and the figure."""
    out.mkdir(parents=True, exist_ok=True)
    table = curve(lakes, seed=seed)
    print(table.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    wild = curve(lakes, noises=(0.02,), outliers=0.03, seed=seed)
    print(wild.to_string(index=False, float_format=lambda value: f"{value:.3f}"))
    pd.concat([table, wild]).to_csv(out / "alert_curve.csv", index=False)
    draw(table).savefig(out / "alert_curve.png", dpi=150)


if __name__ == "__main__":
    given = sys.argv[1:]
    main(
        Path(given[0] if given else "out/alerts"),
        int(given[1]) if len(given) > 1 else 200,
        int(given[2]) if len(given) > 2 else 0,
    )
