"""What was drawn, point by point and word by word; pixels are left to eyes."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import xarray as xr
from matplotlib.figure import Figure

from cubekit import lakes, plots
from cubekit.errors import ConfigError, GridMismatch, NoObservations
from cubekit.plots.trends import season_middle
from cubekit.series import lake_area, outlines, summer_maxima, trend

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
    p = float(trends["p_value"].sel(track=121))
    assert text == f"T121 maximum: +0.01 km²/year (95 %: +0.01 to +0.01), p = {p:.2g}, n = 11: increasing"
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
    assert enclosed == pytest.approx(float(area["area_km2"][0]), rel=1e-3)  # of the map
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


@pytest.fixture(scope="module")
def stated(area):
    """The areas with states: one of each in a summer, the poor pass iced, one not known."""
    codes = np.ones(area.sizes["time"], np.int8)
    codes[:6] = (1, 2, 3, 2, 4, 0)  # the second has no area, the fourth is poor
    return area.assign(state=("time", codes))


def test_states_are_told_by_colour_and_by_half(area, stated):
    """Open water looks as its track; ice, wet snow and rough water fill another half of the marker each."""
    ax = plots.plot_area(stated)
    assert len(line(ax, "T121 descending").get_xdata()) == 44 - 3
    looks = {}
    for word in ("wet snow", "rough water", "state not known"):
        points = line(ax, f"_{word} T121 descending")
        assert len(points.get_xdata()) == 1
        assert points.get_marker() == line(ax, "T121 descending").get_marker()
        looks[word] = (points.get_fillstyle(), points.get_markerfacecolor())
    assert len(set(looks.values())) == 3
    assert {fill for fill, _ in looks.values()} == {"left", "bottom", "full"}
    known = stated["time"].values[2]
    assert line(ax, "_wet snow T121 descending").get_xdata()[0] == known
    assert len(line(ax, "_hollow T121 descending").get_xdata()) == 11  # too little seen, whatever the state
    assert {"ice", "wet snow", "rough water", "state not known"} <= set(legend(ax))
    assert not {"ice", "state not known"} & set(
        legend(plots.plot_area(area.assign(state=("time", np.zeros(69, np.int8)))))
    )


def test_medians_are_bars_at_their_seasons(area, maxima):
    """One bar a season with a pass, as high as its median."""
    ax = plots.plot_area(area, maxima=maxima)
    (bars,) = (each for each in ax.collections if each.get_label() == "_medians T121")
    heights = [segment[0][1] for segment in bars.get_segments()]
    np.testing.assert_allclose(heights, maxima["median"].sel(track=121))
    assert "season's median" in legend(ax)


def test_seasons_that_were_found_are_called_so(area):
    """A season of open water has no days."""
    found = summer_maxima(area).assign_attrs(season_start="auto", season_end="auto")
    ax = plots.plot_area(area, maxima=found, trends=trend(found["median"]))
    assert "season's maximum (open water)" in legend(ax)


def test_a_trend_s_interval_is_a_band_about_its_middle(area, maxima, trends):
    """At the middle year it has no width, at the ends that of the slopes."""
    given = trends.assign(slope_low=trends["slope"] - 0.002, slope_high=trends["slope"] + 0.004)
    ax = plots.plot_area(area, maxima=maxima, trends=given)
    (band,) = (each for each in ax.collections if each.get_label() == "_interval T121 maximum")
    corners = band.get_paths()[0].vertices
    first, last = corners[:, 0].min(), corners[:, 0].max()
    assert np.ptp(corners[corners[:, 0] == first, 1]) == pytest.approx(5 * 0.006)
    assert np.ptp(corners[corners[:, 0] == last, 1]) == pytest.approx(5 * 0.006)
    assert corners[corners[:, 0] == last, 1].max() == pytest.approx(1.57 + 5 * 0.014)
    assert corners[:, 1].min() == pytest.approx(1.57 - 5 * 0.014)
    unknown = trends.assign(slope_low=trends["slope"] * np.nan)
    bare = plots.plot_area(area, maxima=maxima, trends=unknown)
    assert not [each for each in bare.collections if str(each.get_label()).startswith("_interval")]


def fused_of(area):
    """What `fuse` returns, as far as it is drawn: a level, and how far from the passes used."""
    chosen = area.isel(time=np.flatnonzero(area["track"].to_numpy() == 121)).drop_vars(["track", "orbit_direction"])
    gaps = np.where(chosen["time"].dt.year == 2019, 200.0, 3.0)
    return chosen[["area_km2", "area_low", "area_high"]].fillna(1.5).assign(gap_days=("time", gaps))


def test_the_fused_series_has_gaps(area):
    """One black line with its band; broken over winters, and absent where no pass was used."""
    fused = fused_of(area)
    names = xr.Dataset({"reference": ("track", [False, True])}, {"track": ["12", "121"]})
    ax = plots.plot_area(area, fused=fused.merge(names))
    drawn = line(ax, "all tracks fused at the level of T121, band: 95 %")
    known = np.isfinite(drawn.get_ydata())
    assert known.sum() == (len(YEARS) - 1) * 6
    assert (~known).sum() == len(YEARS) - 2
    assert not (drawn.get_xdata()[known].astype("datetime64[Y]") == np.datetime64("2019")).any()
    assert drawn.get_color() == "black"
    (band,) = (each for each in ax.collections if each.get_label() == "_interval of the fused series")
    assert len(band.get_paths()) == len(YEARS) - 1
    assert "all tracks fused, band: 95 %" in legend(plots.plot_area(area, fused=fused.chunk(time=5)))


def test_fairer_statistics_stand_beside_the_maxima(area):
    """Where a season has them."""
    found = summer_maxima(area)
    ax = plots.plot_maxima(found)
    for word, name in (("fair maximum", "fair_maximum"), ("90th percentile", "percentile_90")):
        np.testing.assert_array_equal(line(ax, f"T121 {word}").get_ydata(), found[name].sel(track=121))
    bare = plots.plot_maxima(found.drop_vars(["fair_maximum", "percentile_90"]))
    assert not [text for text in legend(bare) if "fair" in text or "90th" in text]


def shores_of(lake):
    """Shores of four dates, the last without water, out of order, on the whole and half of the outline."""
    inside = lake.outline_mask.astype("float32")
    half = inside.copy()
    half[: int(np.nonzero(inside.to_numpy())[0].mean())] = 0
    times = np.array(["2025-07-01", "2016-07-01", "2020-12-31", "2021-07-01"], "datetime64[s]")
    stack = xr.concat([inside, half, inside, inside * 0], dim=xr.Variable("time", times)).astype("float32")
    coords = {"track": ("time", np.full(4, 121, np.int16)), "platform": ("time", np.zeros(4, np.int8))}
    return outlines(stack.assign_coords(coords), lake)


def test_shores_are_coloured_by_their_date(gokyo):
    """Early ones are dark, also in grey; each has its area, in kilometres; none is invented."""
    collection = shores_of(gokyo)
    ax = plots.plot_outlines(collection, gokyo)
    (drawn,) = ax.collections
    years = drawn.get_array()
    assert sorted({int(year) for year in years}) == [2016, 2020, 2025]
    assert years.tolist() == sorted(years)
    km2 = {}
    for year, ring in zip(years, drawn.get_segments(), strict=True):
        km2[int(year)] = (
            km2.get(int(year), 0) + abs(np.dot(ring[:-1, 0], ring[1:, 1]) - np.dot(ring[1:, 0], ring[:-1, 1])) / 2
        )
    expected = {
        int(feature["properties"]["time"][:4]): feature["properties"]["area_km2"]
        for feature in collection["features"]
        if feature["geometry"]
    }
    assert km2 == pytest.approx(expected, rel=1e-3)  # of the map
    grey = drawn.get_cmap()(np.linspace(0, 1, 32))[:, :3] @ (0.299, 0.587, 0.114)
    assert (np.diff(grey) > 0).all()
    assert legend(ax) == ["shores found, by year", "outline of the catalogue"]
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("easting (km)", "northing (km)")
    assert ax.get_title() == "Gokyo (Dudh Pokhari), 3 shores"
    assert "year" in {axes.get_ylabel() for axes in ax.get_figure().axes}


def test_one_shore_s_date_and_other_collections(gokyo):
    """A single date is drawn; what is no collection of this lake's shores is refused."""
    collection = shores_of(gokyo)
    one = {"type": "FeatureCollection", "features": collection["features"][:1]}
    assert plots.plot_outlines(one, gokyo).get_title() == "Gokyo (Dudh Pokhari), one shore"
    with pytest.raises(ConfigError, match="the shores are of gokyo, the lake is 'tilicho'"):
        plots.plot_outlines(collection, lakes.catalogue()["tilicho"])
    with pytest.raises(ConfigError, match="give what outlines returns"):
        plots.plot_outlines({"type": "Polygon"}, gokyo)


def test_the_calendar_counts_usable_and_all_passes(area):
    """Each month has its counts; months without a pass are hatched, those outside of the series are not."""
    ax = plots.plot_completeness(area)
    counts = {(text.get_position()[1], text.get_position()[0]): text.get_text() for text in ax.texts}
    assert counts[2015, 7] == "2/3"  # of three in July one has no area
    assert counts[2015, 8] == "2/3"  # of three in August one saw too little
    assert counts[2020, 8] == "3/4"
    total = np.sum([[int(part) for part in text.split("/")] for text in counts.values()], axis=0)
    assert total.tolist() == [47, 69]
    gaps = {patch.get_label() for patch in ax.patches}
    assert {"_gap 2015-09", "_gap 2025-06"} <= gaps
    assert not {"_gap 2015-06", "_gap 2025-09"} & gaps
    assert len(gaps) == 10 * 10  # of ten years between, ten months each
    shown = ax.images[0].get_array()
    assert shown.shape == (11, 12)
    assert shown.count() == 22
    assert (ax.get_ylabel(), ax.get_title()) == ("year", "Tsho Rolpa T012, T121")
    assert [tick.get_text() for tick in ax.get_xticklabels()][6] == "Jul"


def test_the_calendar_counts_as_the_seasons_do(area):
    """Usable passes of July to September are those of `summer_maxima`, at any gate."""
    for gate in (0.4, 0.9, 1.0):
        ax = plots.plot_completeness(area, min_observed=gate)
        usable = sum(int(text.get_text().split("/")[0]) for text in ax.texts)
        assert usable == int(summer_maxima(area, min_observed=gate)["passes"].sum())


def test_a_calendar_of_nothing_is_refused(area):
    """There is no month to draw."""
    with pytest.raises(NoObservations, match="no pass to count"):
        plots.plot_completeness(area.isel(time=slice(0, 0)))


def film_of(lake, count=3):
    """Passes that grow brighter, with their shores, lazy."""
    times = np.array([f"202{year}-07-01" for year in range(count)], "datetime64[s]")
    image = image_of(lake).drop_vars(["time", "track", "platform"])
    images = xr.concat([image * (1 + step) for step in range(count)], dim=xr.Variable("time", times))
    return images.chunk(time=1), (images * 0 + lake.outline_mask).fillna(0).astype("float32").chunk(time=1)


def test_frames_share_their_greys_and_are_drawn_one_by_one(gokyo, area):
    """No flicker, and no pass is computed before it is asked for but for the limits."""
    images, probability = film_of(gokyo)
    computed = []

    def noted(block, block_info=None):
        computed.append(block_info[0]["chunk-location"][0])
        return block

    counted = probability.copy(data=probability.data.map_blocks(noted, dtype="float32", meta=np.empty((0, 0, 0), "f4")))
    frames = plots.pass_frames(images, counted, gokyo, area=area)
    first = next(frames)
    assert computed == [0]
    second, third = frames
    assert computed == [0, 1, 2]
    assert first.images[0].get_clim() == second.images[0].get_clim() == third.images[0].get_clim()
    assert "2021-07-01" in second.get_title()
    beside = second.get_figure().axes[1]
    assert beside.get_ylabel() == "area (km²)"
    assert str(line(beside, "_this pass").get_xdata()[0])[:10] == "2021-07-01"
    alone = next(plots.pass_frames(images, probability, gokyo))
    assert len(alone.get_figure().axes) == 2  # with the colour bar
    assert list(plots.pass_frames(images[:0], probability[:0], gokyo)) == []


def test_frames_need_passes_that_go_together(gokyo):
    """A shore of another day is no shore of this."""
    images, probability = film_of(gokyo)
    with pytest.raises(ConfigError, match="not of the same times"):
        next(plots.pass_frames(images, probability[::-1], gokyo))


def small_frames(count, size=(2, 1)):
    for step in range(count):
        ax = Figure(figsize=size).subplots()
        ax.plot([0, step])
        yield ax


def test_a_film_has_its_frames_and_their_time(tmp_path):
    """Every figure is a frame, shown as long as asked, for ever; the same figures give the same bytes."""
    from PIL import Image

    path = plots.save_animation(small_frames(4), tmp_path / "new" / "film.gif", seconds=0.25)
    before = path.read_bytes()
    with Image.open(path) as opened:
        assert (opened.format, opened.n_frames, opened.size) == ("GIF", 4, (160, 80))
        assert (opened.info["duration"], opened.info["loop"]) == (250, 0)
    assert plots.save_animation(small_frames(4), path, seconds=0.25).read_bytes() == before
    assert [file.name for file in path.parent.iterdir()] == ["film.gif"]


def test_films_that_can_t_be_are_refused(tmp_path):
    """Each with its reason, and no half a film is left."""
    with pytest.raises(ConfigError, match=r"film\.mp4 does not end in \.gif"):
        plots.save_animation(small_frames(1), tmp_path / "film.mp4")
    with pytest.raises(ConfigError, match="no frame to save"):
        plots.save_animation([], tmp_path / "film.gif")
    with pytest.raises(ConfigError, match="0 seconds a frame are too few"):
        plots.save_animation(small_frames(1), tmp_path / "film.gif", seconds=0)
    with pytest.raises(ConfigError, match="a frame has"):
        plots.save_animation([*small_frames(1), *small_frames(1, (3, 3))], tmp_path / "film.gif")
    assert list(tmp_path.iterdir()) == []


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
