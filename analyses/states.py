"""State of the surface of Tsho Rolpa and Tilicho at every date, from real HyP3 scenes; and how often it is right.

Real scenes: writes one CSV a lake (state, probabilities, both judged from all dates and from past dates only), and
prints the states by month. Simulated lakes: prints how often the state is right, with VV and VH and with VV alone. Open
water counts as rough where the wind raises the sea of CMOD5.N by 3 dB over its level at the track's median wind; ice
that breaks up is "wet_snow".

Run: python analyses/states.py [SCENES] [OUT] [--simulated]; SCENES defaults to $CUBEKIT_NPSAR/rtc, or where
CONTRIBUTING.md says that the scenes lie. --simulated takes some ten minutes.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import xarray as xr

import cubekit
from cubekit.errors import SceneWarning
from cubekit.lakes import catalogue
from cubekit.series.area import STATES
from cubekit.series.state import lake_states, surface_features
from cubekit.sources._surfaces import _wind_sea
from cubekit.sources.simulated import simulate

REAL = ("tsho_rolpa", "tilicho")
SIMULATED = (
    ("gokyo", "hyp3", 11),
    ("tsho_rolpa", "opera", 12),
    ("chamlang_tsho", "hyp3", 13),
    ("tilicho", "opera", 14),
)
START, END = "2020-06-15", "2024-02-28"


def real(name: str, scenes: Path, root: Path) -> pd.DataFrame:
    """State of every date of a real lake."""
    lake = catalogue()[name]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SceneWarning)
        items = cubekit.find_scenes(lake, f"folder:{scenes}")
    cube = cubekit.build_cube(lake, items, root)
    features = surface_features(cube, lake).compute()
    states, online = (lake_states(features, lake, past_only=past) for past in (False, True))
    frame = pd.DataFrame({"lake": name, "time": states["time"].values, "track": states["track"].values})
    frame["state"] = [STATES[code] for code in states["state"].values]
    frame["probability"] = states["state_probability"].values
    for surface in states["surface"].values:
        frame[f"p_{surface}"] = states["probabilities"].sel(surface=surface).values
    frame["vv_db"] = features["vv_cells"].median("cell").values
    frame["vv_above_open_db"] = states["vv_above_open"].values
    frame["state_past_only"] = [STATES[code] for code in online["state"].values]
    frame["probability_past_only"] = online["state_probability"].values
    frame["granules"] = features["granules"].values
    return frame.round(3)


def truth_of(ds: xr.Dataset) -> np.ndarray:
    """Codes of `STATES` of simulated passes."""
    tracks, wind = ds["track"].values, ds["wind"].values
    usual = {track: _wind_sea(float(np.median(wind[tracks == track])), 39) for track in np.unique(tracks)}
    rough = [_wind_sea(float(speed), 39) > usual[track] + 3 for speed, track in zip(wind, tracks, strict=True)]
    names = {"ice": "ice", "thaw": "wet_snow"}
    found = [
        names.get(str(state), "rough" if above else "open")
        for state, above in zip(ds["state"].values, rough, strict=True)
    ]
    return np.array([STATES.index(name) for name in found])


def score() -> None:
    """Print how often the states of simulated lakes are right."""
    totals: dict[tuple[str, str], list[np.ndarray]] = {}
    for name, product, seed in SIMULATED:
        lake = catalogue()[name].at_spacing(30 if product == "opera" else 20)
        ds = simulate(lake, start=START, end=END, product=product, seed=seed)
        with dask.config.set(scheduler="threads"):
            features = surface_features(ds, lake).compute()
        truth = truth_of(ds)
        for bands in ("VV+VH", "VV"):
            given = features if bands == "VV+VH" else features.assign(vh=features["vh"] * np.nan)
            for past in (False, True):
                state = lake_states(given, lake, past_only=past)["state"].values
                table = np.zeros((5, 5), int)
                np.add.at(table, (truth, state), 1)
                which = "past only" if past else "smoothed"
                totals.setdefault((bands, which), []).append(table)
                later = features["time"].values >= np.datetime64("2021-06-15")
                print(
                    f"{name:14s} {product:6s} {bands:6s} {which:10s} right {np.mean(state == truth):.1%}, "
                    f"after a year {np.mean((state == truth)[later]):.1%}",
                    flush=True,
                )
    for (bands, which), tables in totals.items():
        table = np.sum(tables, axis=0)
        rates = [np.trace(part) / part.sum() for part in tables]
        water = np.isin(range(5), [1, 4])
        cover = table[np.ix_(water, water)].sum() + table[np.ix_(~water, ~water)].sum()
        print(f"\n{bands}, {which}: right {np.trace(table) / table.sum():.1%} of {table.sum()} dates (lakes: ", end="")
        print(f"{min(rates):.1%} to {max(rates):.1%}); water or ice right {cover / table.sum():.1%}")
        print(pd.DataFrame(table, index=[f"is {name}" for name in STATES], columns=STATES).iloc[1:].to_string())


def main(scenes: Path, out: Path, *, simulated: bool) -> None:
    """Write and print."""
    out.mkdir(parents=True, exist_ok=True)
    for name in REAL:
        with tempfile.TemporaryDirectory() as root:
            frame = real(name, scenes, Path(root))
        file = out / f"{name}_states.csv"
        frame.to_csv(file, index=False)
        print(f"\n{name}: dates by month and state")
        print(pd.crosstab(frame["state"], frame["time"].dt.month).to_string())
        agree = (frame["state"] == frame["state_past_only"]).mean()
        print(f"past dates only gives the same state at {agree:.0%} of {len(frame)} dates; wrote {file}")
    if simulated:
        score()


if __name__ == "__main__":
    data = Path(os.environ.get("CUBEKIT_NPSAR", "../shared/data/npsar"))
    places = [Path(word) for word in sys.argv[1:] if not word.startswith("--")]
    main(
        places[0] if places else data / "rtc",
        places[1] if len(places) > 1 else Path("out/states"),
        simulated="--simulated" in sys.argv,
    )
