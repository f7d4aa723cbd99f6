"""Areas against exactly known shapes, a flood fill by hand, and what happens where nothing was seen."""

from __future__ import annotations

import dask
import numpy as np
import pyproj
import pytest
import shapely
import xarray as xr
from scipy import ndimage
from shapely.geometry import Point

from cubekit import lakes
from cubekit.errors import ConfigError, GridMismatch, LakeError
from cubekit.series import area as area_module
from cubekit.series import lake_area

SPACING = 20
CENTRE = (448_327.0, 3_081_913.0)  # not on a pixel corner, nor on a pixel centre
RADIUS = 600.0
IN_ZONE = ("area_km2", "dry_km2", "not_observed_km2")
LAKE_AREAS = ("area_km2", "area_low", "area_high", "area_subpixel_km2")


def make_lake(outline_radius=RADIUS, reach=1200.0):
    """Make a round lake of known radius, AOI a box around it."""
    to_degrees = pyproj.Transformer.from_crs("EPSG:32645", "OGC:CRS84", always_xy=True).transform
    shapes = (
        Point(CENTRE).buffer(outline_radius, quad_segs=64),
        shapely.segmentize(Point(CENTRE).buffer(reach).envelope, 50),
    )
    outline, aoi = (shapely.transform(shape, to_degrees, interleaved=False) for shape in shapes)
    return lakes.Lake(id="disc", title="Disc", outline=outline, aoi=aoi, epsg=32645, spacing=SPACING)


@pytest.fixture(scope="module")
def lake():
    return make_lake()


PIXEL = make_lake().pixel_km2


def on_the_ground(shape, lake):
    """Area of a shape on the map, as it is on the ground, km2."""
    return shape.area / lake.spacing**2 * lake.pixel_km2


def fractions(lake, shape):
    """Give the exact share of every lattice pixel that a shape covers."""
    x, y = (lake.outline_mask[name].to_numpy() for name in ("x", "y"))
    half = lake.spacing / 2
    pixels = shapely.box(x[None] - half, y[:, None] - half, x[None] + half, y[:, None] + half)
    covered = shapely.area(shapely.intersection(pixels, shape)) / lake.spacing**2
    return xr.DataArray(np.clip(covered, 0, 1), coords={"y": y, "x": x}, dims=("y", "x"))


def stack(*images):
    """Stack images as passes 12 days apart, with the coordinates a cube has along time."""
    times = np.datetime64("2021-07-01T00:11:35", "s") + np.arange(len(images)) * np.timedelta64(12, "D")
    together = xr.concat([image.astype("float32") for image in images], dim=xr.Variable("time", times))
    together.name = "probability"
    together.attrs = {"model": "unet", "model_hash": "abc", "preprocessing": "{}"}
    number = np.arange(len(images))
    return together.assign_coords(
        track=("time", np.full(len(images), 121, np.int16)),
        platform=("time", (number % 2).astype(np.int8)),
        granules=("time", [f'["scene {i}"]' for i in number]),
        observed=(together.dims, together.notnull().data),
        spatial_ref=0,
    )


def noise(lake, passes=6, missing=0.2, seed=0):
    """Make random, spotty probabilities over the whole lattice, with random gaps."""
    rng = np.random.default_rng(seed)
    template = lake.outline_mask.astype("float32")
    images = [template.copy(data=rng.random(template.shape, np.float32)) for _ in range(passes)]
    return stack(*(image.where(rng.random(image.shape) >= missing) for image in images))


def never(dsk, keys, **kwargs):
    """Refuse to compute: a dask scheduler for building graphs under."""
    raise AssertionError("computed while building a graph")


@pytest.mark.parametrize("radius", [200.0, 431.7, 600.0, 745.0])
@pytest.mark.parametrize("shift", [(0.0, 0.0), (7.3, -4.1)])
def test_summed_fractions_of_a_disc_equal_its_true_area(lake, radius, shift):
    """On an image of exact fractions the sub-pixel area is the truth, wherever the disc falls on the grid."""
    disc = Point(CENTRE[0] + shift[0], CENTRE[1] + shift[1]).buffer(radius, quad_segs=64)
    found = lake_area(stack(fractions(lake, disc)), lake)
    assert float(found["area_subpixel_km2"][0]) == pytest.approx(on_the_ground(disc, lake), rel=1e-6)
    # The thresholded one is off by a few mixed pixels of its shore.
    assert float(found["area_km2"][0]) == pytest.approx(on_the_ground(disc, lake), rel=0.01)


def test_summed_fractions_of_a_slender_rotated_ellipse_equal_its_true_area(lake):
    """Pointed ends, where whole pixels stay below the threshold, are in the rim as well."""
    ellipse = shapely.affinity.rotate(shapely.affinity.scale(Point(CENTRE).buffer(1.0, quad_segs=64), 700, 90), 27)
    found = lake_area(stack(fractions(lake, ellipse)), lake)
    assert float(found["area_subpixel_km2"][0]) == pytest.approx(on_the_ground(ellipse, lake), rel=1e-6)


def test_summed_probability_of_a_soft_shore_is_nearly_the_true_area(lake):
    """Of a logistic shore of half a pixel, as a network draws it, the rim leaves out less than 0.1 %."""
    x, y = lake.outline_mask["x"], lake.outline_mask["y"]
    inwards = RADIUS - np.hypot(x - CENTRE[0], y - CENTRE[1])
    soft = (1 / (1 + np.exp(-inwards / (0.5 * SPACING)))).transpose("y", "x")
    found = lake_area(stack(soft), lake)
    assert float(found["area_subpixel_km2"][0]) == pytest.approx(float(soft.sum()) * PIXEL, rel=1e-3)


@pytest.mark.parametrize("radius", [200.0, 431.7, 600.0, 745.0])
def test_bounds_are_half_a_pixel_along_a_disc_s_shore(lake, radius):
    """The margin is the true circumference times half a pixel within 3 %; counting pixel edges would be 27 % above."""
    found = lake_area(stack(fractions(lake, Point(CENTRE).buffer(radius, quad_segs=64))), lake)
    margin = 2 * np.pi * radius * SPACING / 2 / 1e6
    assert float((found["area_high"] - found["area_km2"])[0]) == pytest.approx(margin, rel=0.03)
    assert float((found["area_km2"] - found["area_low"])[0]) == pytest.approx(margin, rel=0.03)


def test_the_lower_bound_is_never_negative(lake):
    """A single wet pixel has a margin larger than itself."""
    image = lake.outline_mask.astype("float32") * 0
    image[128, 128] = 1
    found = lake_area(stack(image), lake)
    assert float(found["area_km2"][0]) == pytest.approx(PIXEL)
    assert float(found["area_low"][0]) == 0
    assert float(found["area_high"][0]) > PIXEL


def flood(wet, seeds):
    """Fill from seeds over pixel edges, by hand."""
    reached, waiting = set(), [tuple(seed) for seed in np.argwhere(wet & seeds)]
    while waiting:
        row, column = waiting.pop()
        if (row, column) in reached or not (0 <= row < wet.shape[0] and 0 <= column < wet.shape[1]):
            continue
        if wet[row, column]:
            reached.add((row, column))
            waiting += [(row + 1, column), (row - 1, column), (row, column + 1), (row, column - 1)]
    return reached


def test_area_equals_a_flood_fill_from_the_outline(lake):
    """What counts is what water flowing over pixel edges would reach from inside the outline, within the zone."""
    probability = noise(lake, passes=4)
    found = lake_area(probability, lake, threshold=0.4)
    zone, outline = lake.zone_mask.to_numpy(), lake.outline_mask.to_numpy()
    expected = [len(flood((image >= 0.4) & zone, outline)) for image in probability.to_numpy()]
    np.testing.assert_allclose(found["area_km2"], np.array(expected) * PIXEL, rtol=1e-12)


@pytest.mark.parametrize("missing", [0.0, 0.3, 0.45])
def test_area_dry_and_not_observed_add_up_to_the_zone(lake, missing):
    """No pixel of the zone is lost or counted twice, wet ones that are not connected included."""
    found = lake_area(noise(lake, missing=missing), lake)
    pixels = sum(found[name] for name in IN_ZONE) / (PIXEL)
    expected = int(lake.zone_mask.sum())
    np.testing.assert_allclose(pixels, expected, rtol=0, atol=1e-6)
    assert found.attrs["zone_km2"] == expected * PIXEL
    np.testing.assert_allclose(found["observed_fraction"], 1 - found["not_observed_km2"] / found.attrs["zone_km2"])


def test_other_waters_and_noise_are_dry_and_not_in_the_sub_pixel_area(lake):
    """A pond that does not touch the outline and noise away from the shore change no area of the lake."""
    clean = fractions(lake, Point(CENTRE).buffer(500))
    noisy = clean.copy()
    x, y = lake.outline_mask["x"], lake.outline_mask["y"]
    distance = np.hypot(x - CENTRE[0], y - CENTRE[1]).transpose("y", "x").to_numpy()
    noisy.data[distance > 570] = 0.009
    pond = (distance > 650) & (distance < 750) & (x.to_numpy()[None] > CENTRE[0])
    noisy.data[pond] = 1.0
    found = lake_area(stack(clean, noisy), lake)
    for name in (*LAKE_AREAS, "dry_km2"):
        assert float(found[name][1]) == pytest.approx(float(found[name][0]), rel=1e-12), name


def test_likely_water_apart_from_the_lake_is_in_its_upper_bound_only(lake):
    """Inside the outline 0.3 may be water of the lake, below the threshold it is none."""
    clean = fractions(lake, Point(CENTRE).buffer(400))
    doubtful = clean.copy()
    x, y = lake.outline_mask["x"], lake.outline_mask["y"]
    doubtful.data[(np.hypot(x - CENTRE[0], y - CENTRE[1]).transpose("y", "x").to_numpy() > 500)] = 0.3
    found = lake_area(stack(clean, doubtful), lake)
    for name in ("area_km2", "area_low", "area_subpixel_km2"):
        assert float(found[name][1]) == pytest.approx(float(found[name][0]), rel=0.01), name
    assert float(found["area_high"][1]) > 1.3 * float(found["area_high"][0])


def test_a_pond_beside_the_shore_is_not_in_the_rim(lake):
    """Water of another component stays out of the sub-pixel area, even when it lies within the rim's reach."""
    outline = lake.outline_mask.to_numpy()
    clean = lake.outline_mask.astype("float32")
    row = 128
    shore = np.flatnonzero(outline[row])[-1]
    with_pond = clean.copy()
    with_pond[row, shore + 2] = 1.0
    found = lake_area(stack(clean, with_pond), lake)
    assert float(found["area_subpixel_km2"][1]) == float(found["area_subpixel_km2"][0])


def test_a_dam_one_pixel_wide_holds_also_where_it_runs_diagonally(lake):
    """A wet pixel that touches the lake at a corner only is not connected; one that shares an edge is."""
    outline = lake.outline_mask.to_numpy()
    row, column = next(
        (row, column)
        for row, column in np.argwhere(lake.zone_mask.to_numpy() & ~outline)
        if outline[row - 1 : row + 2, column - 1 : column + 2].sum() == 1
        and not (outline[[row - 1, row + 1], column].any() or outline[row, [column - 1, column + 1]].any())
    )
    images = [lake.outline_mask.astype("float32") for _ in range(3)]
    images[1][row, column] = 1
    images[2][row, column - 1 : column + 2] = 1
    found = lake_area(stack(*images), lake)["area_km2"].to_numpy() / (PIXEL)
    assert round(found[1] - found[0]) == 0
    assert round(found[2] - found[0]) == 3


def test_nothing_observed_is_missing_and_never_zero(lake):
    """A pass without data has no area, no dry land, and an observed fraction of 0."""
    found = lake_area(stack(lake.outline_mask, lake.outline_mask.astype("float32") * np.nan), lake).isel(time=1)
    for name in (*LAKE_AREAS, "dry_km2"):
        assert np.isnan(found[name]), name
    assert float(found["observed_fraction"]) == 0
    assert float(found["not_observed_km2"]) == found.attrs["zone_km2"]


def test_a_drained_lake_is_zero(lake):
    """Where the lake was looked at and no water found, its area is 0 and the zone is dry."""
    found = lake_area(stack(lake.outline_mask.astype("float32") * 0), lake).isel(time=0)
    assert [float(found[name]) for name in LAKE_AREAS] == [0, 0, 0, 0]
    assert float(found["dry_km2"]) == found.attrs["zone_km2"]


def test_a_lake_behind_a_hole_is_missing_though_its_surroundings_were_seen(lake):
    """When the outline was not observed, water around it says nothing of the lake; the zone is accounted for."""
    image = (lake.zone_mask & ~lake.outline_mask).astype("float32").where(~lake.outline_mask)
    found = lake_area(stack(image), lake).isel(time=0)
    assert np.isnan([float(found[name]) for name in LAKE_AREAS]).all()
    assert np.isnan(float(found["dry_km2"]))
    assert float(found["observed_fraction"]) == pytest.approx(1 - float(lake.outline_mask.sum() / lake.zone_mask.sum()))


def test_the_aoi_window_gives_the_same_as_the_whole_lattice(lake):
    """The zone lies within the AOI, so the window loses nothing."""
    probability = noise(lake)
    rows, columns = lake.aoi_window
    xr.testing.assert_identical(lake_area(probability[:, rows, columns], lake), lake_area(probability, lake))


def test_zone_outside_the_extent_was_not_observed(lake):
    """A window that cuts the zone gives what the lattice gives with NaN there."""
    probability = noise(lake).drop_vars("observed")
    cut = probability.where(probability["x"] <= CENTRE[0] + 100)
    expected = lake_area(cut, lake)
    found = lake_area(probability.sel(x=slice(None, CENTRE[0] + 100)), lake)
    xr.testing.assert_identical(found, expected)
    assert float(found["observed_fraction"].max()) < 0.7


@pytest.mark.parametrize("chunks", [{"time": 1}, {"time": 4, "y": 100, "x": 37}, {"time": -1, "y": 1}])
def test_any_chunking_gives_the_same(lake, chunks):
    """Chunk edges through the lake change nothing."""
    probability = noise(lake)
    lazy = lake_area(probability.chunk(chunks), lake)
    assert lazy["area_km2"].chunks is not None
    xr.testing.assert_identical(lazy.compute(), lake_area(probability, lake))


def test_building_the_graph_computes_nothing_and_calls_nothing(lake, monkeypatch):
    """Neither a value of the input nor a call of the kernel is needed to build the graph."""

    def called(*args, **kwargs):
        raise AssertionError("the kernel was called while building the graph")

    monkeypatch.setattr(area_module, "_measure_all", called)
    with dask.config.set(scheduler=never):
        lazy = lake_area(noise(lake).chunk({"time": 1}), lake)
    assert {name: lazy[name].dtype for name in LAKE_AREAS} == dict.fromkeys(LAKE_AREAS, np.dtype("float64"))


def test_every_pass_is_measured_once_for_all_variables(lake, monkeypatch):
    """The variables share their work."""
    calls = []
    original = area_module.measure

    def counted(*args, **kwargs):
        calls.append(1)
        return original(*args, **kwargs)

    monkeypatch.setattr(area_module, "measure", counted)
    lake_area(noise(lake, passes=5).chunk({"time": 1}), lake).compute(scheduler="synchronous")
    assert len(calls) == 5


def test_the_order_of_passes_does_not_matter(lake):
    """Every pass is measured by itself."""
    probability = noise(lake)
    reverse = {"time": slice(None, None, -1)}
    xr.testing.assert_identical(lake_area(probability.isel(reverse), lake), lake_area(probability, lake).isel(reverse))


def test_no_pass_gives_an_empty_series(lake):
    """An empty cube is not an error."""
    found = lake_area(noise(lake).isel(time=slice(0, 0)), lake)
    assert found["area_km2"].shape == (0,)


def test_coordinates_and_attributes_travel(lake):
    """What describes a pass stays beside its area; what describes pixels does not."""
    probability = noise(lake)
    found = lake_area(probability, lake, threshold=0.25)
    assert set(found.coords) == {"time", "track", "platform", "granules"}
    for name in ("track", "platform", "granules"):
        xr.testing.assert_equal(found[name].variable, probability[name].variable)
    assert {"lake", "threshold", "model", "model_hash", "preprocessing", "method", "Conventions"} <= set(found.attrs)
    assert (found.attrs["lake"], found.attrs["threshold"], found.attrs["model_hash"]) == ("disc", 0.25, "abc")
    assert {found[name].attrs["units"] for name in (*LAKE_AREAS, *IN_ZONE)} == {"km2"}


def test_a_track_index_survives(lake):
    """A cube's index of tracks still selects in the areas."""
    found = lake_area(noise(lake).set_xindex("track"), lake)
    assert found.sel(track=121).sizes["time"] == 6


def test_state_is_a_cf_flag_and_unknown_for_now(lake):
    """Codes are int8 with their meanings beside them."""
    state = lake_area(noise(lake), lake)["state"]
    assert (state.dtype, int(state.max())) == (np.int8, 0)
    assert state.attrs["flag_meanings"] == "unknown open ice wet_snow rough"
    assert state.attrs["flag_values"].tolist() == [0, 1, 2, 3, 4]


def test_the_threshold_itself_is_wet(lake):
    """A probability equal to the threshold counts, also where float32 rounds the threshold."""
    found = lake_area(stack(lake.outline_mask * 0.6), lake, threshold=0.6)
    assert float(found["area_km2"][0]) > 0


def test_the_catalogue_s_outlines_measure_their_own_area():
    """An image of the outline is as large as the outline, at both spacings, within the margin of its shore."""
    for lake in (one.at_spacing(spacing) for one in lakes.catalogue().values() for spacing in (20, 30)):
        found = lake_area(stack(lake.outline_mask), lake).isel(time=0)
        true = on_the_ground(lake.project(lake.outline), lake)
        assert float(found["area_km2"]) == pytest.approx(true, rel=0.01), lake.id
        assert float(found["area_low"]) < true < float(found["area_high"]), lake.id
        half_pixel = lake.project(lake.outline).length * lake.spacing / 2 / 1e6
        assert float(found["area_high"] - found["area_km2"]) == pytest.approx(half_pixel, rel=0.1), lake.id


@pytest.mark.parametrize("threshold", [0.0, 1.0, 50, -0.1, np.nan])
def test_a_threshold_outside_0_to_1_is_refused(lake, threshold):
    """A percentage is not a probability."""
    with pytest.raises(ConfigError, match=r"threshold .* is not between 0 and 1"):
        lake_area(stack(lake.outline_mask), lake, threshold=threshold)


def test_integers_are_refused(lake):
    """A mask or a chip has no NaN, so it cannot say what was not observed."""
    with pytest.raises(ConfigError, match="probability is uint8; give floats from 0 to 1"):
        lake_area(stack(lake.outline_mask).astype("uint8"), lake)


def test_a_single_image_is_refused(lake):
    """Without time there is no series."""
    with pytest.raises(ConfigError, match=r"it needs time, y and x"):
        lake_area(stack(lake.outline_mask).isel(time=0), lake)


@pytest.mark.parametrize("value", [1.5, -0.2, np.inf])
def test_values_that_are_no_probabilities_are_refused(lake, value):
    """Percent, decibel and logits are noticed on computing."""
    with pytest.raises(ConfigError, match="must lie between 0 and 1"):
        lake_area(stack(lake.outline_mask * value), lake)


@pytest.mark.parametrize(
    "shifted",
    [{"x": 10.0, "y": 0.0}, {"x": 0.0, "y": -10.0}, {"x": 5120.0, "y": 0.0}, {"x": 20.0, "y": 0.0}],
)
def test_another_grid_is_refused(lake, shifted):
    """Half a pixel, a pixel beyond the edge, or another place is not this lattice."""
    probability = stack(lake.outline_mask)
    moved = probability.assign_coords({name: probability[name] + by for name, by in shifted.items()})
    with pytest.raises(GridMismatch, match=r"give it on that lattice \(y descending\)"):
        lake_area(moved, lake)


def test_another_spacing_an_upturned_image_and_missing_coordinates_are_refused(lake):
    """The three other ways not to be on the lattice."""
    probability = stack(lake.outline_mask)
    for other in (
        stack(lake.at_spacing(30).outline_mask),
        probability.isel(y=slice(None, None, -1)),
        probability.drop_vars(["y"]),
    ):
        with pytest.raises(GridMismatch, match="lake 'disc': the probability has"):
            lake_area(other, lake)


def test_a_lake_smaller_than_a_pixel_is_refused():
    """An outline without a pixel centre could never be found wet."""
    tiny = make_lake(outline_radius=2.0)
    with pytest.raises(LakeError, match="holds no pixel centre"):
        lake_area(stack(tiny.outline_mask), tiny)


def test_area_of_a_lake_mostly_unseen_is_not_known(lake):
    """With less than half of the outline known there is no area, only what was seen; never 0."""
    found = lake_area(noise(lake, missing=0.6), lake)
    assert np.isnan(found["area_km2"]).all()
    assert np.isnan(found["area_high"]).all()
    assert (found["observed_fraction"] > 0.3).all()
    assert np.isnan(found["dry_km2"]).all()


def test_the_bound_holds_the_part_of_the_outline_that_is_not_known(lake):
    """Hide a corner of a lake: the area falls short by it, the upper bound does not."""
    whole = lake.outline_mask.astype("float32").expand_dims(time=1)
    seen = xr.DataArray(np.arange(256) % 256 < 128, dims="x", coords={"x": whole["x"]})
    hidden = lake_area(whole.where(seen | (whole["y"] > float(whole["y"].mean()))), lake)
    assert float(hidden["area_km2"][0]) < 0.8 * float(lake_area(whole, lake)["area_km2"][0])
    assert float(hidden["area_high"][0]) > float(lake_area(whole, lake)["area_km2"][0])


def test_observed_but_not_told_apart_is_not_missing(lake):
    """A pass that a model could not tell apart was observed all the same: no area, observed fraction 1."""
    probability = xr.full_like(noise(lake), np.nan).drop_vars("observed")
    seen = probability.assign_coords(observed=probability.isnull())
    found = lake_area(seen, lake)
    assert np.isnan(found["area_km2"]).all()
    np.testing.assert_array_equal(found["observed_fraction"], 1)
    np.testing.assert_array_equal(lake_area(probability, lake)["observed_fraction"], 0)


def test_the_upper_bound_holds_water_beyond_a_hidden_strip(lake):
    """A lake has outgrown its outline, and a strip is not seen: the bound holds what may be water behind it."""
    outline = lake.outline_mask.values
    grown = ndimage.binary_dilation(outline, iterations=6)
    strip = ndimage.binary_dilation(outline, iterations=2) & ~outline
    truth = lake.outline_mask.copy(data=grown).astype("float32").expand_dims(time=1)
    found = lake_area(truth.where(~lake.outline_mask.copy(data=strip)), lake).isel(time=0)
    assert float(found["area_km2"]) < 0.9 * grown.sum() * PIXEL
    assert float(found["area_high"]) >= grown.sum() * PIXEL


def test_the_upper_bound_leaves_out_what_dry_land_parts_from_the_lake(lake):
    """What isn't seen beyond a dry shore is not water of this lake."""
    outline = lake.outline_mask
    ring = ndimage.binary_dilation(outline.values, iterations=3)
    seen = outline.copy(data=ring)
    whole = outline.astype("float32").expand_dims(time=1)
    hidden, complete = lake_area(whole.where(seen), lake), lake_area(whole, lake)
    assert float(hidden["observed_fraction"][0]) < 0.9
    assert float(hidden["area_high"][0]) == float(complete["area_high"][0])
