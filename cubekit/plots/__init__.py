"""Figures: every function takes and returns matplotlib Axes, and keeps no state between calls.

A figure made here is drawn by Agg, never by a window; pyplot is not touched. Hand in your own axes to lay figures out.
"""

from cubekit.plots.areas import plot_area, plot_maxima
from cubekit.plots.chips import plot_chip
from cubekit.plots.figures import save_figure

__all__ = ["plot_area", "plot_chip", "plot_maxima", "save_figure"]
