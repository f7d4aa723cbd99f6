"""Volumes against the papers' own formulae and a survey."""

from __future__ import annotations

import dask
import numpy as np
import pytest
import xarray as xr

from cubekit.errors import ConfigError
from cubekit.series.volume import RELATIVE_ERROR, SCALINGS, volume


@pytest.mark.parametrize(
    ("name", "formula"),
    [
        ("huggel2002", lambda km2: 0.104 * (km2 * 1e6) ** 1.42 / 1e6),
        ("evans1986", lambda km2: 0.035 * (km2 * 1e6) ** 1.5 / 1e6),
        ("sakai2012", lambda km2: 43.24 * km2**1.5307),
        ("fujita2013", lambda km2: 55 * km2**0.25 * km2),
    ],
)
def test_each_scaling_is_its_paper_s_formula(name, formula):
    """In the units in which it was published."""
    areas = np.array([0.03, 0.45, 1.537, 4.8])
    found = volume(xr.DataArray(areas, dims="time"), scaling=name)
    np.testing.assert_allclose(found["volume"].squeeze("scaling"), formula(areas), rtol=1e-9)
    assert found["source"].item() == SCALINGS[name].source


def test_a_survey_lies_within_the_bounds():
    """Tsho Rolpa, 1.537 km2, was sounded to hold 85.94 million m3."""
    found = volume(xr.DataArray(1.537))
    assert (found["volume_low"] <= 85.94).all()
    assert (found["volume_high"] >= 85.94).all()
    np.testing.assert_allclose(found["volume_high"] / found["volume"], 1 + RELATIVE_ERROR)


def test_beyond_its_range_a_scaling_gives_nothing():
    """Areas too small, too large, negative or not known have no volume."""
    found = volume(xr.DataArray([0.0001, 50.0, -1.0, 0.0, np.nan], dims="time"))
    assert found["volume"].isnull().all()
    assert found["volume_low"].isnull().all()


def test_volumes_are_lazy_and_keep_the_coordinates(no_compute):
    """Numpy and dask agree in any chunking; tracks stay."""
    areas = xr.DataArray(np.linspace(0.1, 2, 12), {"track": ("time", np.arange(12))}, "time")
    with no_compute():
        lazy = volume(areas.chunk({"time": 5}))
    assert dask.is_dask_collection(lazy["volume"])
    xr.testing.assert_identical(lazy.compute(), volume(areas))
    assert lazy["track"].values.tolist() == list(range(12))
    assert lazy["volume"].attrs["units"] == "1e6 m3"


def test_provenance_is_told():
    """Every scaling says where its numbers come from."""
    assert all(("checked" in one.provenance) or (one.provenance == "from memory") for one in SCALINGS.values())
    assert all(one.smallest_km2 < one.largest_km2 for one in SCALINGS.values())


@pytest.mark.parametrize(
    ("call", "match"),
    [
        (lambda: volume(xr.DataArray(1.0), scaling="mine"), "'mine' is not known.*huggel2002"),
        (lambda: volume(xr.DataArray(["1"])), "give numbers"),
    ],
)
def test_what_can_not_be_is_refused(call, match):
    """Each error says what was given."""
    with pytest.raises(ConfigError, match=match):
        call()
