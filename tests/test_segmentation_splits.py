"""Splits: what is promised is kept, whatever the order, and broken promises are found."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from cubekit.errors import ConfigError
from cubekit.segmentation import splits
from cubekit.segmentation.splits import Leak, Sample, Split

START = datetime(2021, 1, 1, tzinfo=UTC)


def sample(number, *, lake="gokyo", day=0.0, track=121):
    direction = "descending" if track in {121, 19} else "ascending"
    # No two tracks pass at the same time
    return Sample(
        f"{lake}/{number:04d}", lake, START + timedelta(days=day, minutes=track), track, direction, f"grid {lake}"
    )


@st.composite
def collections(draw, smallest=6):
    """Samples of a few lakes and tracks, on any days, shuffled."""
    count = draw(st.integers(smallest, 40))
    made = [
        sample(
            number,
            lake=draw(st.sampled_from(["gokyo", "tilicho", "tsho_rolpa", "chamlang_tsho"])),
            day=draw(st.integers(0, 1400)) + 0.5,
            track=draw(st.sampled_from([12, 19, 85, 121])),
        )
        for number in range(count)
    ]
    return draw(st.permutations(made))


def ids(split, samples):
    return {part: [samples[index].id for index in getattr(split, part)] for part in ("train", "validation", "test")}


def everything_once(split, samples, *, missing=0):
    indices = [*split.train, *split.validation, *split.test]
    assert len(indices) == len(set(indices)) == len(samples) - missing


@settings(max_examples=40, deadline=None)
@given(collections(), st.integers(0, 5), st.sampled_from([0.0, 0.1, 0.25]))
def test_a_random_split_takes_the_same_samples_in_any_order(samples, seed, validation):
    """Everything once, the shares as asked for, the same ids from another order."""
    split = splits.random_split(samples, seed=seed, validation=validation)
    everything_once(split, samples)
    assert len(split.test) == -(-len(samples) // 5)
    assert len(split.validation) >= validation * len(samples)
    turned = samples[::-1]
    assert ids(splits.random_split(turned, seed=seed, validation=validation), turned) == ids(split, samples)


def test_the_paper_s_49_of_244():
    """80/20 of 244 as Table 2 counts them; seeds differ."""
    samples = [sample(number, day=number) for number in range(244)]
    tests = [splits.random_split(samples, seed=seed).test for seed in range(5)]
    assert {len(test) for test in tests} == {49}
    assert len(set(tests)) == 5


def test_a_split_is_the_same_in_another_process():
    """Hashes of text differ between processes; splits don't."""
    code = (
        "from datetime import datetime, UTC, timedelta\n"
        "from cubekit.segmentation.splits import *\n"
        "s = [Sample(f'{l}/{n}', l, datetime(2021, 1, 1, tzinfo=UTC) + timedelta(n), t, 'ascending', l)\n"
        "     for n in range(9) for l, t in (('a', 1), ('b', 2), ('c', 3))]\n"
        "print(random_split(s, seed=1), *leave_one_lake_out(s, validation=True), *leave_one_track_out(s))\n"
    )
    out = [
        subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    ]
    assert out[0] == out[1]
    assert "train=" in out[0]


@settings(max_examples=40, deadline=None)
@given(collections(), st.integers(0, 60))
def test_a_split_by_date_keeps_its_gap(samples, gap):
    """No training sample later than the gap before the cut; leaks finds none, however they are ordered."""
    cut = date(2023, 1, 1)
    first = datetime(2023, 1, 1, tzinfo=UTC)
    early, late = (sample(9000 + number, day=day) for number, day in enumerate((0, 1399)))
    samples = [*samples, early, late]
    split = splits.by_date(samples, cut, gap_days=gap)
    assert all(samples[index].time >= first for index in split.test)
    assert all(samples[index].time <= first - timedelta(days=gap) for index in split.train)
    left_out = [one for one in samples if first - timedelta(days=gap) < one.time < first]
    everything_once(split, samples, missing=len(left_out))
    assert splits.leaks(split, samples) == []


def test_a_split_by_date_has_a_validation_and_an_end():
    """Three stretches of time with gaps between; what comes after the end is left out."""
    samples = [sample(number, day=number * 30) for number in range(48)]
    split = splits.by_date(
        samples, date(2023, 1, 1), validation_from=date(2022, 7, 1), until=date(2023, 12, 31), gap_days=45
    )
    parts = {part: [samples[index].time for index in getattr(split, part)] for part in ("train", "validation", "test")}
    assert parts["validation"][0] - parts["train"][-1] >= timedelta(days=45)
    assert parts["test"][0] - parts["validation"][-1] >= timedelta(days=45)
    assert (parts["test"][0].year, parts["test"][-1].year) == (2023, 2023)
    assert max(one.time for one in samples).year == 2024
    assert splits.leaks(split, samples) == []


@settings(max_examples=40, deadline=None)
@given(collections(), st.booleans(), st.sampled_from(["lake", "track"]))
def test_leaving_one_out_leaves_all_of_it_out(samples, validation, kind):
    """Each lake or track is tested once, is in no other part, and the same whatever the order."""
    samples = [*samples, *(sample(9000 + n, lake="abc"[n], track=n, day=n) for n in range(3))]
    make = splits.leave_one_lake_out if kind == "lake" else splits.leave_one_track_out
    made = list(make(samples, validation=validation))
    tested = [index for _, split in made for index in split.test]
    assert sorted(tested) == list(range(len(samples)))
    assert [name for name, _ in made] == sorted(name for name, _ in made)
    turned = samples[::-1]
    for (name, split), (_, again) in zip(made, make(turned, validation=validation), strict=True):
        everything_once(split, samples)
        assert bool(split.validation) == validation
        keys = {"lake": lambda one: one.lake, "track": lambda one: f"T{one.track:03d}"}[kind]
        assert {keys(samples[index]) for index in split.test} == {name}
        assert splits.leaks(split, samples) == []
        assert ids(again, turned) == ids(split, samples)


def test_the_validation_lake_is_the_next_one():
    """After the last the first: every lake is tested once and validates once."""
    samples = [sample(number, lake=lake, day=number) for number, lake in enumerate("abcabc")]
    made = {
        name: samples[split.validation[0]].lake for name, split in splits.leave_one_lake_out(samples, validation=True)
    }
    assert made == {"a": "b", "b": "c", "c": "a"}


@pytest.mark.parametrize(
    ("kind", "changes", "options", "expected"),
    [
        ("random", {"time": START + timedelta(days=1)}, {}, None),
        ("random", {"id": "gokyo/0000", "time": START + timedelta(days=1)}, {}, "sample"),
        ("random", {}, {}, "scene"),
        ("random", {"time": START + timedelta(days=11)}, {"gap_days": 12}, "gap"),
        ("random", {"time": START - timedelta(days=11)}, {"gap_days": 12}, "gap"),
        ("random", {"time": START + timedelta(days=12)}, {"gap_days": 12}, None),
        ("random", {"time": START, "lake": "imja"}, {"gap_days": 12}, None),
        ("lake", {"time": START + timedelta(days=900)}, {}, "lake"),
        ("lake", {"time": START, "lake": "imja"}, {}, None),
        ("track", {"time": START + timedelta(days=900), "lake": "imja"}, {}, "track"),
        ("track", {"time": START + timedelta(days=900), "lake": "imja", "track": 85}, {}, None),
        ("none", {}, {}, None),
    ],
)
def test_a_broken_promise_is_found(kind, changes, options, expected):
    """Each kind of leak, and what looks like one and is none."""
    first = replace(sample(0), time=START)
    samples = [first, replace(first, **{"id": "gokyo/0001", **changes}), sample(9, lake="tilicho", day=500, track=19)]
    found = splits.leaks(Split("by hand", kind, (0, 2), (), (1,)), samples, **options)
    assert [leak.kind for leak in found] == ([expected] if expected else [])


def test_leaks_name_both_samples_and_parts():
    """Also between training and validation; by parts and ids."""
    samples = [sample(0), sample(1), sample(2, day=1)]
    split = Split("by hand", "date", (0,), (1,), (2,), gap_days=5)
    assert splits.leaks(split, samples) == [
        Leak("gap", ("train", "test"), ("gokyo/0000", "gokyo/0002")),
        Leak("scene", ("train", "validation"), ("gokyo/0000", "gokyo/0001")),
        Leak("gap", ("validation", "test"), ("gokyo/0001", "gokyo/0002")),
    ]


def test_a_random_split_of_a_series_leaks_and_one_by_date_does_not():
    """What the issue says of random splits: neighbours in time on both sides."""
    samples = [sample(number, day=12 * number) for number in range(60)]
    random.Random(0).shuffle(samples)
    assert splits.leaks(splits.random_split(samples, seed=0), samples, gap_days=13)
    split = splits.by_date(samples, date(2022, 6, 1), gap_days=13)
    assert splits.leaks(split, samples, gap_days=13) == []


def test_everything_is_tested_without_a_split():
    """In order of ids."""
    samples = [sample(number, day=number) for number in (3, 1, 2)]
    split = splits.everything(samples)
    assert split.train == split.test == (1, 2, 0)
    assert splits.leaks(split, samples) == []


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda s: splits.random_split(s + s, seed=0), "4 ids are there twice, the first is 'gokyo/0000'"),
        (lambda s: splits.random_split(s, seed=0, test=1.0), "leaves 0 of 4 samples for training"),
        (lambda s: splits.random_split(s, seed=0, test=0.0), "and 0 for the test"),
        (lambda s: splits.by_date(s, date(2000, 1, 1)), "leaves 0 of 4 samples"),
        (lambda s: splits.by_date(s, date(2021, 1, 3), gap_days=-1), "a gap of 0 or more"),
        (lambda s: splits.by_date(s, date(2021, 1, 3), validation_from=date(2021, 1, 3)), "before the cut"),
        (splits.leave_one_lake_out, "needs 2 of them, and there is gokyo"),
        (lambda s: splits.leave_one_track_out([*s, sample(7, track=12)], validation=True), "needs 3 of them"),
    ],
)
def test_splits_that_can_not_be_made_are_refused(make, words):
    """At once, also by the generators."""
    samples = [sample(number, day=number) for number in range(4)]
    with pytest.raises(ConfigError, match=words):
        make(samples)
