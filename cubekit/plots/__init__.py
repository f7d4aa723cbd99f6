"""Figures: every function takes and returns matplotlib Axes, and keeps no state between calls.

A figure made here is drawn by Agg, never by a window; pyplot is not touched. Hand in your own axes to lay figures out.
"""

from cubekit.plots.animation import pass_frames, save_animation
from cubekit.plots.areas import plot_area
from cubekit.plots.calendar import plot_completeness
from cubekit.plots.chips import plot_chip
from cubekit.plots.figures import save_figure
from cubekit.plots.seasons import plot_maxima
from cubekit.plots.shores import plot_outlines

__all__ = [
    "pass_frames",
    "plot_area",
    "plot_chip",
    "plot_completeness",
    "plot_maxima",
    "plot_outlines",
    "save_animation",
    "save_figure",
]
