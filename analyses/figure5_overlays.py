"""The paper's Figure 5: chips, the mask drawn on them, the one found, and where the two agree.

Pink is water in both, red what was found and not drawn, blue what was drawn and not found. Dates are spread evenly over
each lake's, and not chosen by how well they look. IoU counts observed pixels only. Otsu, which needs no training, looks
around the catalogue's outline, or for the largest dark patch where the catalogue has none.

Run: python analyses/figure5_overlays.py --model M --chips DIR --masks DIR [OUT.png] [--dates N]; M is the file of a
model, the name of one that comes with cubekit (hyp3-20m), or otsu. OUT defaults to out/figure5_overlays.png. It shows
the masks: publish it as their licence allows.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Patch

from cubekit.plots import save_figure
from cubekit.segmentation.baselines import otsu_on_chip
from cubekit.segmentation.evaluation import Predict, model_predict
from cubekit.segmentation.metrics import Confusion, confusion, scores
from cubekit.segmentation.pairs import Pair, header_of, load_pairs, observed_pixels, read_chip, read_mask
from cubekit.segmentation.priors import outline_on_chip

COLOURS = {"agree": (0.96, 0.45, 0.71), "found, not drawn": (0.84, 0.11, 0.11), "drawn, not found": (0.10, 0.30, 0.85)}
UNSEEN = (1.0, 1.0, 1.0)
MARGIN = 2  # pixels of padding that are left around a chip


@dataclass(frozen=True)
class Overlay:
    """A chip with both masks, cut to what it holds."""

    pair: Pair
    chip: np.ndarray
    truth: np.ndarray
    found: np.ndarray
    observed: np.ndarray
    counts: Confusion
    learned: bool
    """Whether the model's card says that it was trained on this chip."""

    @property
    def iou(self) -> float:
        """Of the observed pixels."""
        return scores(self.counts).pooled["iou"]

    def image(self) -> np.ndarray:
        """Agreement and error in colours on the chip in grey, float (y, x, 3)."""
        drawn = np.repeat(0.35 + 0.6 * self.chip[..., None] / 255, 3, axis=-1)
        both = (self.truth & self.found, self.found & ~self.truth, self.truth & ~self.found)
        for cell, colour in zip(both, COLOURS.values(), strict=True):
            drawn[cell & self.observed] = colour
        drawn[~self.observed] = UNSEEN
        return drawn


def choose(pairs: Sequence[Pair], dates: int) -> list[Pair]:
    """So many pairs of each lake, spread evenly over its dates."""
    chosen = []
    for lake in dict.fromkeys(pair.sample.lake for pair in pairs):
        own = sorted((pair for pair in pairs if pair.sample.lake == lake), key=lambda pair: pair.sample.time)
        places = np.unique(np.linspace(0, len(own) - 1, dates).round().astype(int)) if dates > 1 else [len(own) // 2]
        chosen += [own[place] for place in places]
    return chosen


def otsu(pair: Pair, chip: np.ndarray) -> np.ndarray:
    """Water by Otsu's threshold around the catalogue's outline, as a probability of 0 or 1."""
    outline = outline_on_chip(pair.sample.lake, header_of(pair.chip)) > 0
    return otsu_on_chip(chip, observed_pixels(chip), outline).astype(np.float32)


def overlay(pair: Pair, predict: Predict, learned: bool) -> Overlay:
    """Read a pair, segment its chip, count."""
    chip, truth = read_chip(pair.chip), read_mask(pair.mask)
    observed, found = observed_pixels(chip), predict(pair, chip) >= 0.5
    counts = confusion(truth[None], found[None], observed[None])
    rows, columns = np.flatnonzero(chip.any(axis=1)), np.flatnonzero(chip.any(axis=0))
    window = tuple(
        slice(max(int(along[0]) - MARGIN, 0), int(along[-1]) + 1 + MARGIN) if along.size else slice(None)
        for along in (rows, columns)
    )
    return Overlay(pair, *(part[window] for part in (chip, truth, found, observed)), counts, learned)


def draw(overlays: Sequence[Overlay], name: str):
    """Four panels a chip, two chips a row; returns the first axes."""
    lines = -(-len(overlays) // 2)
    figure = Figure(figsize=(12, 1.75 * lines + 0.7), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(lines, 8, squeeze=False)
    for panel in panels.ravel():
        panel.axis("off")
    for number, one in enumerate(overlays):
        # Down the left half first, so that the dates of a lake stand below each other.
        row = panels[number % lines, 4 * (number // lines) :]
        found = np.where(one.observed, one.found, 0.5)
        shown = ((one.chip, 255), (one.truth.astype(float), 1), (found.astype(float), 1), (one.image(), None))
        title = f"{one.pair.sample.lake}\n{one.pair.sample.time:%Y-%m-%d} T{one.pair.sample.track:03d}"
        titles = (title, "drawn", "found", f"IoU {one.iou:.3f}{' (learned)' if one.learned else ''}")
        for panel, (image, top), text in zip(row, shown, titles, strict=False):
            panel.imshow(image, cmap="gray", vmin=0, vmax=top, interpolation="nearest")
            panel.set_title(text, fontsize=7)
    figure.legend(
        handles=[Patch(color=colour, label=text) for text, colour in COLOURS.items()],
        loc="outside lower center",
        ncols=3,
        fontsize=8,
        frameon=False,
    )
    figure.suptitle(f"{name}: water drawn and found", fontsize=9)
    return panels[0, 0]


def main(model: str, chips: Path, masks: Path, target: Path, *, dates: int) -> list[Overlay]:
    """Choose, segment, print, draw."""
    pairs = load_pairs(chips, masks)
    chosen = choose(pairs, dates)
    predict, learned = otsu, set()
    if model != "otsu":
        predict, card = model_predict(model, chosen)
        learned = set(card.training.get("ids", ()))
    overlays = [overlay(pair, predict, pair.sample.id in learned) for pair in chosen]
    for one in overlays:
        sample, mark = one.pair.sample, "  in the training" if one.learned else ""
        print(f"{sample.lake:<16} {sample.time:%Y-%m-%d} T{sample.track:03d} {one.iou:6.3f}{mark}")
    together = scores(
        Confusion(*(np.concatenate(cells) for cells in zip(*(one.counts for one in overlays), strict=True)))
    )
    print(
        f"pooled {together.pooled['iou']:.4f}, mean {together.mean['iou']:.4f} of {len(overlays)} of {len(pairs)} pairs"
    )
    save_figure(draw(overlays, Path(model).stem), target)
    print(f"wrote {target}")
    return overlays


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("out", nargs="?", type=Path, default=Path("out/figure5_overlays.png"))
    parser.add_argument("--model", required=True)
    parser.add_argument("--chips", type=Path, required=True)
    parser.add_argument("--masks", type=Path, required=True)
    parser.add_argument("--dates", type=int, default=4)
    given = parser.parse_args()
    main(given.model, given.chips, given.masks, given.out, dates=given.dates)
