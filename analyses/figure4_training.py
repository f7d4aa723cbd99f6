"""The paper's Figure 4: loss and IoU of every epoch, training and validation, from a training's history.

The paper's curves settle after epoch 19 and reach an IoU above 0.90 on a random split. Here the training's own numbers
are those before each step, while the weights still move, so they may lie below the validation's.

Run: python analyses/figure4_training.py HISTORY.csv [OUT.png]; `cubekit train` writes the history. OUT defaults to
figure4_training.png beside it.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from cubekit.plots import save_figure


def draw(history: pd.DataFrame):
    """Two panels side by side: loss, and IoU with the best validation epoch marked; returns the first one's axes."""
    figure = Figure(figsize=(11, 4.2), layout="constrained")
    FigureCanvasAgg(figure)
    panels = figure.subplots(1, 2)
    for panel, score, title in zip(panels, ("loss", "iou"), ("Loss (BCE + Dice + focal)", "IoU"), strict=True):
        for part, style in (("train", "-"), ("validation", "--")):
            panel.plot(history["epoch"], history[f"{part}_{score}"], style, label=part, marker="o", markersize=3)
        panel.set(xlabel="epoch", ylabel=title, title=title)
        panel.grid(alpha=0.3)
        panel.legend()
    best = history.loc[history["validation_iou"].idxmax()]
    panels[1].axvline(best["epoch"], color="0.6", linewidth=1, zorder=0)
    text = f"{best['validation_iou']:.3f} in epoch {best['epoch']:.0f}"
    panels[1].annotate(text, (best["epoch"], 0.02), xycoords=("data", "axes fraction"), ha="right", rotation=90)
    panels[1].set_ylim(0, 1)
    panels[0].set_ylim(bottom=0)
    return panels[0]


def main(history: Path, target: Path) -> None:
    """Read, draw, write."""
    table = pd.read_csv(history)
    save_figure(draw(table), target)
    best = table.loc[table["validation_iou"].idxmax()]
    print(f"{len(table)} epochs in {table['seconds'].sum():.0f} s; best validation IoU {best['validation_iou']:.4f}")
    print(f"wrote {target}")


if __name__ == "__main__":
    given = Path(sys.argv[1])
    main(given, Path(sys.argv[2]) if len(sys.argv) > 2 else given.with_name("figure4_training.png"))
