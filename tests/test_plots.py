"""What was drawn, point by point and word by word; pixels are left to eyes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from cubekit import lakes, plots
from cubekit.errors import ConfigError, GridMismatch
from cubekit.plots.areas import season_middle
from cubekit.series import lake_area, summer_maxima, trend

YEARS = np.arange(2015, 2026)


@pytest.fixture(scope="module")
def area():
    """Make a rising track 121 with a missing pass and a poor one each summer, and three passes of track 12."""
    rows = []
    for year in YEARS:
        km2 = 1.5 + 0.01 * (year - 2015)
        rows += [(f"{year}-07-01T00:11:35", 121, km2, 1.0), (f"{year}-07-13T00:11:35", 121, np.nan, 0.0)]
        rows += [(f"{year}-07-25T00:11:35", 121, km2 + 0.02, 1.0), (f"{year}-08-06T00:11:35", 121, km2 / 2, 0.5)]
        rows += [(f"{year}-08-18T00:11:35", 121, km2 - 0.01, 0.95), (f"{year}-08-30T00:11:35", 121, km2 - 0.03, 1.0)]
    rows += [(f"{year}-08-02T12:13:55", 12, 1.2, 1.0) for year in (2019, 2020, 2022)]
    times, tracks, km2, fractions = (np.array(column) for column in zip(*rows, strict=True))
    units = {"units": "km2"}
    return xr.Dataset(
        {
            "area_km2": ("time", km2, units),
            "area_low": ("time", km2 - 0.07, units),
            "area_high": ("time", km2 + 0.09, units),
            "observed_fraction": ("time", fractions),
        },
        coords={
            "time": times.astype("datetime64[s]"),
            "track": ("time", tracks.astype(np.int16)),
            "orbit_direction": ("time", (tracks == 121).astype(np.int8)),
        },
        attrs={"lake": "tsho_rolpa", "lake_title": "Tsho Rolpa"},
    ).sortby("time")


@pytest.fixture(scope="module")
def maxima(area):
    return summer_maxima(area)


@pytest.fixture(scope="module")
def trends(maxima):
    return trend(maxima["maximum"])


def line(ax, label):
    """Find the one line that is labelled so."""
    (found,) = (each for each in ax.lines if each.get_label() == label)
    return found


def legend(ax):
    """Give the legend's texts."""
    return [text.get_text() for text in ax.get_legend().get_texts()]


def test_every_known_pass_is_a_point_of_its_track(area):
    """Missing passes are not drawn, poorly observed ones are hollow, and the values are the areas."""
    ax = plots.plot_area(area)
    full, hollow = line(ax, "T121 descending"), line(ax, "_hollow T121 descending")
    assert (len(full.get_xdata()), len(hollow.get_xdata())) == (44, 11)
    assert len(line(ax, "T012 ascending").get_xdata()) == 3
    assert len(line(ax, "_hollow T012 ascending").get_xdata()) == 0
    assert (full.get_linestyle(), hollow.get_markerfacecolor()) == ("None", "none")
    expected = area["area_km2"].where((area["track"] == 121) & (area["observed_fraction"] >= 0.9), drop=True)
    np.testing.assert_array_equal(full.get_ydata(), expected)


def test_the_line_breaks_at_missing_passes_and_between_tracks(area):
    """Only passes 12 days apart are joined: of each summer, the last two."""
    ax = plots.plot_area(area)
    joined = np.asarray(line(ax, "_joined T121 descending").get_ydata(), float)
    pairs = np.isfinite(joined[1:]) & np.isfinite(joined[:-1])
    assert pairs.sum() == len(YEARS)
    assert set(joined[np.isfinite(joined)]) == set(np.asarray(line(ax, "T121 descending").get_ydata()))
    alone = np.asarray(line(ax, "_joined T012 ascending").get_ydata(), float)
    assert not (np.isfinite(alone[1:]) & np.isfinite(alone[:-1])).any()


def test_the_line_breaks_where_passes_are_absent(area):
    """A pass that is not even in the series is missing all the same: 24 days are not joined."""
    ax = plots.plot_area(area.isel(time=area["observed_fraction"].to_numpy() >= 0.9))
    joined = np.asarray(line(ax, "_joined T121 descending").get_ydata(), float)
    pairs = np.isfinite(joined[1:]) & np.isfinite(joined[:-1])
    assert pairs.sum() == len(YEARS)


def test_intervals_run_from_low_to_high(area):
    """One bar a known pass, with the dataset's own bounds."""
    ax = plots.plot_area(area)
    segments = [np.asarray(segment) for collection in ax.collections for segment in collection.get_segments()]
    assert len(segments) == 55 + 3
    for segment in segments:
        middle = segment[0, 1] + 0.07
        assert np.isclose(area["area_km2"], middle).any()
        assert segment[1, 1] == pytest.approx(middle + 0.09)


def test_tracks_differ_in_more_than_colour(area):
    """Read in grey, markers tell tracks apart."""
    ax = plots.plot_area(area)
    assert line(ax, "T012 ascending").get_marker() != line(ax, "T121 descending").get_marker()


def test_axes_carry_units_and_the_lake_s_name(area):
    """A figure explains itself."""
    ax = plots.plot_area(area)
    assert (ax.get_title(), ax.get_ylabel(), ax.get_xlabel()) == ("Tsho Rolpa", "area (km²)", "time (UTC)")
    assert "hollow: saw less than 90 % of what its track sees at best" in legend(ax)
    assert "bars: area_low to area_high" in legend(ax)
    assert not any(text.startswith("_") for text in legend(ax))


def test_maxima_are_ringed_where_they_occurred(area, maxima):
    """One ring a season with a usable pass."""
    ax = plots.plot_area(area, maxima=maxima)
    rings = line(ax, "_maxima T121")
    np.testing.assert_allclose(rings.get_ydata(), 1.52 + 0.01 * (YEARS - 2015))
    assert [str(time)[:10] for time in rings.get_xdata()] == [f"{year}-07-25" for year in YEARS]
    assert len(line(ax, "_maxima T012").get_xdata()) == 3
    assert "season's maximum (07-01 to 09-30)" in legend(ax)


def test_the_gate_is_that_of_the_maxima(area):
    """A pass that counts for the maximum is not hollow."""
    ax = plots.plot_area(area, maxima=summer_maxima(area, min_observed=0.4))
    assert len(line(ax, "T121 descending").get_xdata()) == 55
    assert not any("hollow" in text for text in legend(ax))


def test_the_trend_is_a_line_with_its_numbers_in_the_legend(area, maxima, trends):
    """Slope, interval, p, n and verdict; where there are too few seasons words instead of a line."""
    ax = plots.plot_area(area, maxima=maxima, trends=trends)
    (text,) = (text for text in legend(ax) if text.startswith("T121 maximum:"))
    assert text == "T121 maximum: +0.01 km²/year (95 %: +0.01 to +0.01), p = 5e-08, n = 11: increasing"
    drawn = line(ax, text)
    np.testing.assert_allclose(drawn.get_ydata(), [1.52, 1.62])
    assert [str(time)[:7] for time in drawn.get_xdata()] == ["2015-08", "2025-08"]
    (few,) = (text for text in legend(ax) if text.startswith("T012 maximum:"))
    assert few == "T012 maximum: too few seasons for a trend (n = 3)"
    assert len(line(ax, few).get_xdata()) == 0


def test_trends_need_no_maxima(area, trends):
    """Without them the line runs over the years of the series."""
    ax = plots.plot_area(area, trends=trends)
    (text,) = (text for text in legend(ax) if "km²/year" in text)
    np.testing.assert_allclose(line(ax, text).get_ydata(), [1.52, 1.62])


def test_a_winter_season_s_line_stands_at_its_middle(area):
    """A season across new year is drawn where it is, not in the summer before."""
    found = season_middle(np.array([2019]), xr.Dataset(attrs={"season_start": "12-01", "season_end": "02-29"}))
    assert str(found[0]) == "2020-01-15"


def test_lazy_areas_are_drawn_like_computed_ones(area):
    """Drawing computes."""
    lazy = area.chunk(time=7).assign_coords(track=area["track"])
    drawn, expected = (line(plots.plot_area(each), "T121 descending").get_ydata() for each in (lazy, area))
    np.testing.assert_array_equal(drawn, expected)


def test_nothing_observed_gives_empty_axes(area):
    """Never a line at 0."""
    ax = plots.plot_area(area.assign(area_km2=area["area_km2"] * np.nan))
    assert sum(np.isfinite(np.asarray(each.get_ydata(), float)).sum() for each in ax.lines) == 0


def test_given_axes_are_drawn_on_and_returned(area, maxima):
    """Users lay out figures themselves."""
    upper, lower = Figure().subplots(2)
    assert plots.plot_area(area, upper) is upper
    assert plots.plot_maxima(maxima, lower) is lower
    assert upper.get_figure() is lower.get_figure()


def test_maxima_stand_with_the_number_of_looks(area, maxima, trends):
    """The count that a maximum depends on is beside it; missing years are gaps."""
    ax = plots.plot_maxima(maxima, trends=trends)
    largest = line(ax, "T012 maximum (number of passes)")
    np.testing.assert_array_equal(np.isfinite(largest.get_ydata()), np.isin(YEARS, [2019, 2020, 2022]))
    counts = [text.get_text() for text in ax.texts]
    assert sorted(counts) == ["1"] * 3 + ["4"] * 8 + ["4"] * 3
    np.testing.assert_allclose(line(ax, "T121 median").get_ydata(), 1.495 + 0.01 * (YEARS - 2015))
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("year", "area of the season (km²)")
    assert any(text.startswith("T121 maximum: +0.01 km²/year") for text in legend(ax))


@pytest.fixture(scope="module")
def gokyo():
    return lakes.catalogue()["gokyo"]


def image_of(lake):
    """Make a pass in linear power: dark water, bright land, a corner without data."""
    power = xr.where(lake.outline_mask, 0.01, 0.1).astype("float32").assign_attrs(polarisation="vv")
    power[:20, :20] = np.nan
    power[30, 30] = 0
    return power.assign_coords(time=np.datetime64("2021-07-21T00:11:35"), track=121, platform=0)


def test_a_chip_is_drawn_in_decibel_with_both_shores(gokyo):
    """Linear power becomes dB, nodata stays nodata, the title tells the pass."""
    pond = gokyo.outline_mask.astype("float32")
    pond[5:8, 5:8] = 1
    ax = plots.plot_chip(image_of(gokyo), pond, gokyo)
    shown = ax.images[0].get_array()
    assert shown.mask.sum() == 401
    np.testing.assert_allclose(np.unique(shown.compressed()), [-20, -10], atol=1e-5)
    assert ax.get_title() == "Gokyo (Dudh Pokhari), 2021-07-21 00:11:35 UTC, T121, sentinel-1a"
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("easting (km)", "northing (km)")
    assert legend(ax) == ["shore found (p = 0.5)", "outline of the catalogue"]
    assert {axes.get_ylabel() for axes in ax.get_figure().axes} == {"northing (km)", "γ⁰ VV (dB)"}
    # The pond is no part of the lake: one ring, around as much as lake_area counts.
    x, y = line(ax, "shore found (p = 0.5)").get_data()
    enclosed = abs(np.dot(x[:-1], y[1:]) - np.dot(x[1:], y[:-1])) / 2
    area = lake_area(pond.expand_dims(time=np.array(["2021-07-21"], "datetime64[s]")), gokyo)
    assert enclosed == pytest.approx(float(area["area_km2"][0]))
    assert len(ax.lines) == 2


def test_without_a_lake_every_water_has_a_shore(gokyo):
    """The pond is drawn too, and there is one entry in the legend."""
    pond = gokyo.outline_mask.astype("float32")
    pond[5:8, 5:8] = 1
    ax = plots.plot_chip(image_of(gokyo), pond)
    assert len(ax.lines) == 2
    assert legend(ax) == ["shore found (p = 0.5)"]


def test_a_pass_without_water_says_so(gokyo):
    """No shore is no silent figure."""
    ax = plots.plot_chip(image_of(gokyo), gokyo.outline_mask * 0.0, gokyo)
    assert legend(ax)[0] == "no shore found (p = 0.5)"


def test_an_equalised_chip_is_drawn_as_it_is(gokyo):
    """uint8 is not a power, and its zeros are nodata only where `observed` says so."""
    chip = (gokyo.outline_mask * 100).astype("uint8")
    observed = xr.ones_like(chip, dtype=bool)
    observed[:3, :4] = False
    ax = plots.plot_chip(chip.assign_coords(observed=(("y", "x"), observed.data)))
    shown = ax.images[0].get_array()
    assert shown.mask.sum() == 12
    assert set(np.unique(shown.compressed())) == {0, 100}
    assert ax.images[0].get_clim() == (0, 255)


def test_a_pass_without_data_is_drawn_empty(gokyo):
    """All NaN is a white, hatched image and no error."""
    ax = plots.plot_chip(image_of(gokyo) * np.nan, lake=gokyo)
    assert ax.images[0].get_array().mask.all()


def test_a_chip_covers_the_ground_it_shows(gokyo):
    """The image lies where its pixels are, edges included."""
    rows, columns = gokyo.aoi_window
    ax = plots.plot_chip(image_of(gokyo)[rows, columns])
    box = gokyo.lattice[rows, columns].boundingbox
    np.testing.assert_allclose(ax.images[0].get_extent(), np.array([box.left, box.right, box.bottom, box.top]) / 1e3)


def test_what_is_no_single_pass_is_refused(gokyo):
    """Each with what to do."""
    image = image_of(gokyo)
    with pytest.raises(ConfigError, match="select one pass first"):
        plots.plot_chip(image.expand_dims("time"))
    with pytest.raises(ConfigError, match="the image is int16"):
        plots.plot_chip((image * 0).fillna(0).astype("int16"))
    with pytest.raises(GridMismatch, match="lies on other pixels than the image"):
        plots.plot_chip(image, gokyo.at_spacing(30).outline_mask * 1.0)
    with pytest.raises(GridMismatch, match="no coordinates y and x"):
        plots.plot_chip(image.drop_vars(["x", "y"]))


def test_datasets_of_another_kind_are_refused(area, maxima):
    """What is missing is named, with the function that gives it."""
    with pytest.raises(ConfigError, match=r"area_km2, area_low.* give what lake_area returns"):
        plots.plot_area(maxima)
    with pytest.raises(ConfigError, match=r"maximum, median.* give what summer_maxima returns"):
        plots.plot_maxima(area)


def test_saving_is_atomic_and_gives_the_same_bytes(area, tmp_path):
    """Two runs make one file, without a version or date in it, at 150 dpi, and nothing beside it."""
    from PIL import Image

    first = plots.save_figure(plots.plot_area(area), tmp_path / "figures" / "area.png")
    before = first.read_bytes()
    assert plots.save_figure(plots.plot_area(area), first).read_bytes() == before
    assert [file.name for file in first.parent.iterdir()] == ["area.png"]
    with Image.open(first) as image:
        assert image.info["dpi"] == pytest.approx((150, 150), abs=0.1)
        assert not {"Software", "Creation Time"} & set(image.info)


def test_only_png_is_written(area, tmp_path):
    """Another ending would lie about the format."""
    with pytest.raises(ConfigError, match=r"area\.pdf does not end in \.png"):
        plots.save_figure(plots.plot_area(area), tmp_path / "area.pdf")


def test_importing_plots_loads_no_matplotlib():
    """Nor does drawing touch pyplot, which keeps figures alive."""
    code = (
        "import sys, numpy as np, xarray as xr; from cubekit import plots; assert 'matplotlib' not in sys.modules;"
        "t = ('time', [1.0]); n = ('area_km2', 'area_low', 'area_high', 'observed_fraction');"
        "d = xr.Dataset({k: t for k in n}, "
        "{'time': np.array(['2021-07-01'], 'datetime64[s]'), 'track': ('time', [1])});"
        "plots.plot_area(d); assert 'matplotlib.pyplot' not in sys.modules"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
