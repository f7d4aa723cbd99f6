"""Scripts that make figures and tables for the documents run, on little, and measure what they say."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import dask
import numpy as np
import pandas as pd
import pytest
import rasterio
from affine import Affine

from cubekit.lakes import catalogue
from cubekit.sources import simulated

ANALYSES = Path(__file__).parents[1] / "analyses"


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts import each other as they do when they are run."""
    monkeypatch.syspath_prepend(str(ANALYSES))


@pytest.fixture(scope="module")
def archive(tmp_path_factory) -> Path:
    """Simulated scenes of Gokyo in summer, in files named as HyP3's."""
    home = tmp_path_factory.mktemp("rtc")
    with dask.config.set(scheduler="synchronous"):
        simulated.write_archive(
            catalogue()["gokyo"],
            home / "gokyoTsho",
            start="2021-07-01",
            end="2021-07-14",
            product="hyp3",
            growth_m_per_year=0.0,
        )
    return home


def test_the_simulator_matches_itself(archive, tmp_path, monkeypatch):
    """Scenes of the simulator, read as if they were real, lie at no distance from what it simulates for them."""
    import simulator_match as match

    monkeypatch.setattr(match, "SEASONS", {match.SUMMER: (6, 7, 8, 9)})
    found = match.main(archive, tmp_path / "match.png", seeds=1).set_index(["surface", "direction"])
    assert set(found.index) == {(s, d) for s in ("water", "land") for d in ("ascending", "descending")}
    water = found.loc["water"]
    assert water["wasserstein_db"].max() < 0.02
    assert water["ks"].max() < 0.02
    np.testing.assert_allclose(water["sim_looks"], water["real_looks"], rtol=1e-3)
    # The file's frame is wider than the lattice, so there is more land in it.
    assert found.loc["land"]["wasserstein_db"].max() < 0.5
    assert (tmp_path / "match.png").stat().st_size > 10_000


def test_another_scene_lies_at_a_distance(archive):
    """Darker by 3 dB is found 3 dB away: the distance is not blind."""
    import simulator_match as match

    quantiles = np.linspace(-22, -18, match.QUANTILES.size)
    seen = match.Seen("gokyo", 12, "ascending", datetime(2021, 7, 3, tzinfo=UTC))
    looks = [
        match.Look(seen, "water", real, quantiles - 3 * (not real), 20.0, np.zeros(len(match.LAGS)))
        for real in (True, False)
    ]
    names = ("surface", "real", "looks", "level")
    table = pd.DataFrame({"look": looks, **{name: [getattr(look, name) for look in looks] for name in names}})
    table = table.assign(lake="gokyo", track=12, direction="ascending", season=match.SUMMER)
    (row,) = match.summary(table).to_dict("records")
    assert row["wasserstein_db"] == pytest.approx(3.0)
    assert row["real_median"] - row["sim_median"] == pytest.approx(3.0)
    (row,) = match.by_track(table).to_dict("records")
    assert (row["real_median"], row["sim_median"]) == (-20.0, -23.0)


def test_looks_and_correlation_are_those_of_the_speckle():
    """Gamma speckle of 12 looks has 12; white noise has no correlation, a mean of two neighbours one half."""
    import simulator_match as match

    grain = np.random.default_rng(0).gamma(12, 1 / 12, (200, 200))
    seen = np.ones(grain.shape, bool)
    seen[:20] = False
    assert match._looks(np.where(seen, grain, np.nan), seen) == pytest.approx(12, rel=0.06)
    white = match._correlation(grain, seen)
    np.testing.assert_allclose(white, 0, atol=0.02)
    pairs = grain + np.roll(grain, 1, axis=1)
    assert match._correlation(pairs, seen)[0] == pytest.approx(0.25, abs=0.02)  # one half in x, none in y


def test_no_scene_is_said_in_a_line(tmp_path):
    """An empty folder ends the script with what is missing."""
    import simulator_match as match

    with pytest.raises(SystemExit, match="no HyP3 scene of"):
        match.compare(tmp_path, 1)


def _write(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    profile = {"driver": "GTiff", "count": 1, "height": 64, "width": 64, "dtype": "uint8", "crs": "EPSG:32645"}
    with rasterio.open(path, "w", transform=Affine(20, 0, 400000, 0, -20, 3000000), **profile) as opened:
        opened.write(values.astype(np.uint8), 1)


@pytest.fixture(scope="module")
def labelled(tmp_path_factory) -> tuple[Path, Path]:
    """Two lakes on three dates: dark squares on bright land, in padding; masks lie a pixel further down."""
    root, random = tmp_path_factory.mktemp("labelled"), np.random.default_rng(0)
    for lake in ("upperPond", "lowerPond"):
        for day in ("20210703", "20220710", "20230705"):
            name = f"{lake}/S1A_IW_{day}T001130_DVP_RTC20_G_gpufed_AAAA_VV_clipped_to_{lake}AOI.tif"
            water = np.zeros((64, 64), bool)
            water[20:40, 20:40] = True
            chip = np.where(water, random.integers(1, 60, water.shape), random.integers(120, 255, water.shape))
            chip[:8], chip[-8:] = 0, 0
            _write(root / "chips" / name, chip)
            _write(root / "masks" / name, np.roll(water, 1, axis=0))
    return root / "chips", root / "masks"


def test_figure_5_counts_what_it_colours(labelled, tmp_path, capsys):
    """IoU of squares moved by a pixel is 19/21; the colours are that many pixels; dates are the first and the last."""
    import figure5_overlays as figure5

    overlays = figure5.main("otsu", *labelled, tmp_path / "figure5.png", dates=2)
    assert [one.pair.sample.time.year for one in overlays] == [2021, 2023] * 2
    assert {round(one.iou, 6) for one in overlays} == {round(19 / 21, 6)}
    colours = {
        name: int((np.abs(overlays[0].image() - colour).max(-1) < 1e-6).sum())
        for name, colour in figure5.COLOURS.items()
    }
    assert colours == {"agree": 380, "found, not drawn": 20, "drawn, not found": 20}
    assert overlays[0].chip.shape == (52, 64)  # the padding is cut off
    assert f"pooled {19 / 21:.4f}, mean {19 / 21:.4f} of 4 of 6 pairs" in capsys.readouterr().out
    assert (tmp_path / "figure5.png").stat().st_size > 10_000


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `train` make, save and load a toy instead of the U-Net."""
    pytest.importorskip("torch")
    import toys

    from cubekit.segmentation import model

    monkeypatch.setattr(model, "build_network", toys.Tiny)


def test_figure_5_tells_what_a_model_has_learned_from(labelled, tmp_path, tiny, capsys):
    """A model's own training chips are marked, others are not."""
    import figure5_overlays as figure5

    from cubekit.segmentation import Recipe, train
    from cubekit.segmentation.pairs import load_pairs
    from cubekit.segmentation.training_data import PairSamples, fingerprint_of

    pairs = load_pairs(*labelled)
    recipe = Recipe.parse({"training": {"epochs": 1, "crop": 0}, "network": {"prior": False, "start": "none"}})
    made = train(
        PairSamples(pairs[:2]),
        recipe,
        tmp_path / "model",
        validation=PairSamples(pairs[:2]),
        preprocessing=fingerprint_of(pairs),
        licence="none",
        data_note="toys",
        split="none",
        ids=[pair.sample.id for pair in pairs[:2]],
    )
    overlays = figure5.main(str(made.model), *labelled, tmp_path / "figure5.png", dates=3)
    assert [one.learned for one in overlays] == [True, True, False, False, False, False]
    assert capsys.readouterr().out.count("in the training") == 2


def test_temporal_against_regional_runs_and_resumes(tmp_path, tiny, capsys):
    """Two designs of two chips, once simulated: the same table from what is kept; every design is tested alike."""
    import temporal_vs_regional as temporal

    designs = (temporal.Design(1, 2), temporal.Design(2, 1))
    plan = temporal.Plan(designs, epochs=1, crop=64, test_dates=2, test_lakes=1, start="none")
    table = temporal.main(plan, tmp_path, seeds=1, workers=1)
    assert list(table["design"]) == ["1x2", "2x1"] * 2
    rows = pd.read_csv(tmp_path / "areas.csv")
    one, other = (rows[rows["design"] == name].reset_index(drop=True) for name in ("1x2", "2x1"))
    assert (one[["test", "lake", "time", "true"]] == other[["test", "lake", "time", "true"]]).all(axis=None)
    assert (rows["time"].str[:4].astype(int) >= 2023).all()
    assert set(rows[rows["test"] == "new lakes"]["lake"].str.split("_").str[0]) == {"test"}
    kept = {path: path.stat().st_mtime_ns for path in (tmp_path / "chips").iterdir()}
    pd.testing.assert_frame_equal(temporal.main(plan, tmp_path, seeds=1, workers=1), table)
    assert {path: path.stat().st_mtime_ns for path in (tmp_path / "chips").iterdir()} == kept


def test_designs_cost_alike(monkeypatch):
    """Budgets that differ are refused; the lakes of a smaller design are the first of a larger one."""
    import temporal_vs_regional as temporal

    with pytest.raises(SystemExit, match="designs cost differently"):
        temporal.Plan((temporal.Design(4, 60), temporal.Design(60, 5)))
    few, many = (temporal.lakes(count, 0, "train") for count in (2, 6))
    assert [lake.id for lake, _ in few] == [lake.id for lake, _ in many[:2]]
    assert all(lake.project(lake.outline).area >= 1e5 for lake, _ in many)


def test_the_table_is_of_lakes():
    """Means are over lakes, not chips; a gain on every lake has an interval above 0."""
    import temporal_vs_regional as temporal

    rows = [
        {"test": "new lakes", "design": design, "seed": seed, "lake": f"l{lake}", "iou": iou, "true": 100, "found": 110}
        for seed in (0, 1)
        for lake, dates in ((0, 1), (1, 9), (2, 5))
        for design, iou in (("4x60", 0.5 + 0.1 * lake), ("60x4", 0.52 + 0.11 * lake))
        for _ in range(dates)
    ]
    first, second = temporal.summary(temporal.by_lake(pd.DataFrame(rows))).to_dict("records")
    assert (first["iou"], second["iou"]) == (pytest.approx(0.6), pytest.approx(0.63))
    assert second["less_first"] == pytest.approx(0.03)
    assert 0.02 <= second["less_low"] < 0.03 < second["less_high"] <= 0.04
    assert first["area_bias_%"] == pytest.approx(10)
    assert first["lakes"] == 6
