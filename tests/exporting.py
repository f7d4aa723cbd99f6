"""Passes of a lake to export: full, with an island and a second basin, not observed, drained."""

from __future__ import annotations

import numpy as np
import xarray as xr

MADE_FROM = {"snapshot": "9ZK3Q", "model_hash": "0badcafe", "config_hash": "5eed"}


def passes(lake):
    """Make four passes, in memory."""
    inside = lake.outline_mask.astype("float32")
    row, column = (int(values.mean()) for values in np.nonzero(inside.to_numpy()))
    divided = inside.copy()
    divided[row, :] = 0.1  # two basins
    divided[row + 4 : row + 6, column - 1 : column + 1] = 0.2  # an island
    images = [inside * 0.987654321, divided, inside * np.nan, inside * 0]
    times = np.array(
        ["2021-07-21T00:11:35", "2021-07-21T12:13:55", "2021-08-02T00:11:36", "2021-12-31T23:59:59"], "datetime64[s]"
    )
    stack = xr.concat(images, dim=xr.Variable("time", times)).astype("float32")
    return stack.assign_coords(
        track=("time", np.array([121, 12, 121, 121], np.int16)),
        platform=("time", np.array([0, 1, 2, 3], np.int8)),
        granules=("time", ['["A, \\"quoted\\"", "B"]', '["C"]', '["D"]', "[]"]),
    )
