"""The watch: nothing lost, nothing twice, whatever fails and whenever it is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

import pytest
import watching
import xarray as xr
from archives import Asf, at_asf
from servers import WEB_PAGE, Answer, wait_until
from servers.files import Earthdata, truncated
from sqlalchemy import select
from watching import LAKE, LIVE, Clock

from cubekit import cube, products
from cubekit.errors import ConfigError, CubeConflict
from cubekit.segmenting import segment_passes
from cubekit.service import infer, ingest, letters, watch
from cubekit.service.context import Context
from cubekit.service.state import DeadLetter, Job, Look, PassTimes, Release

DAY = timedelta(days=1)


@pytest.fixture(autouse=True)
def _no_figures(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(products, "_draw_series", lambda *_: set())
    monkeypatch.setattr(products, "_draw_maps", lambda *_: set())


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ten passes before the service began, and ten after."""
    home = tmp_path_factory.mktemp("store")
    watching.simulate(home / "store")
    return home


@pytest.fixture
def coming(store: Path, tmp_path: Path) -> watching.Coming:
    """Those granules on their way into an archive of the test's own."""
    return watching.on_their_way(store / "store", tmp_path / "archive")


@pytest.fixture
def asf(coming: watching.Coming, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Asf]:
    """ASF, whose archive is where granules come to."""
    coming.folder.mkdir()
    data = Earthdata(coming.folder)
    with at_asf(data, [], tmp_path, monkeypatch) as there:
        yield there


@pytest.fixture
def context(tmp_path: Path) -> Iterator[Context]:
    """A service that looks at OPERA's archive for the first time."""
    made = Context.of(watching.study(tmp_path, "opera"), now=Clock(LIVE))
    yield made
    made.state.close()


def come(context: Context, asf: Asf, coming: watching.Coming, moment: object) -> int:
    """Let the clock go on, and the archive have what is processed by then."""
    context.now.moment = moment
    count = coming.come(moment)
    asf.cmr.granules = watching.catalogued(asf.folder, asf.data.url)
    return count


def look(context: Context) -> Look:
    return ingest.look(context, context.lakes[LAKE.id])


def stored(context: Context) -> int:
    return int(cube.open_cube(context.cube(LAKE.id, "opera")).sizes["time"])


def dead(context: Context) -> list[DeadLetter]:
    with context.state.read() as session:
        return list(session.scalars(select(DeadLetter).order_by(DeadLetter.id)))


def jobs(context: Context) -> list[str]:
    with context.state.read() as session:
        return [job.state for job in session.scalars(select(Job).order_by(Job.id))]


def test_a_look_asks_for_what_was_processed_since_the_last(context: Context, asf: Asf, coming: watching.Coming) -> None:
    """Less the overlap; with nothing new that is one search and no byte of a raster, and no job."""
    come(context, asf, coming, LIVE)
    first = look(context)
    assert (first.error, first.since, first.found, first.appended) == (None, None, 10, 10)
    assert jobs(context) == ["queued"]
    searches, asked = len(asf.cmr.log), asf.raster_bytes()
    context.now.moment += timedelta(hours=1)
    second = look(context)
    assert (second.error, second.found, second.appended) == (None, 0, 0)
    assert second.since == first.started - 5 * DAY
    (search,) = asf.cmr.searches[searches:]
    assert search["updated_since"] == f"{first.started - 5 * DAY:%Y-%m-%dT%H:%M:%SZ}"
    assert asf.raster_bytes() == asked
    assert jobs(context) == ["queued"]


def test_a_new_granule_is_found_and_nothing_else_is_read(context: Context, asf: Asf, coming: watching.Coming) -> None:
    """The passes of its days are searched, that of the granule is read."""
    come(context, asf, coming, LIVE)
    look(context)
    asked = asf.raster_bytes()
    assert come(context, asf, coming, LIVE + 3 * DAY) == 1
    found = look(context)
    assert (found.error, found.found, found.appended) == (None, 1, 1)
    newest = max(asf.folder.glob("*_VV.tif"), key=lambda path: path.name.split("_")[4])
    assert (
        0
        < asf.raster_bytes() - asked
        <= 1.5 * sum(path.stat().st_size for path in asf.folder.glob(newest.name.replace("_VV.tif", "_*")))
    )
    with context.state.read() as session:
        rows = session.scalars(select(PassTimes)).all()
    assert len(rows) == 11
    assert sum(row.seen > LIVE + DAY for row in rows) == 1


def test_what_is_processed_anew_replaces_what_was_there(context: Context, asf: Asf, coming: watching.Coming) -> None:
    """Though it was acquired weeks ago: one more version, one more job, no more passes."""
    come(context, asf, coming, LIVE)
    look(context)
    moment, platform, burst = watching.times(LIVE - 30 * DAY, LIVE)[2]
    stamp, newer = f"{moment:%Y%m%dT%H%M%S}", f"{LIVE + DAY:%Y%m%dT%H%M%S}"
    watching.factories.opera(
        asf.folder, LAKE, stamp, values=watching.image(7, 0.0), burst=burst, platform=platform, processed=newer
    )
    with context.state.write() as session:
        session.query(Job).update({"state": "done"})
    come(context, asf, coming, LIVE + 2 * DAY)
    found = look(context)
    assert (found.error, found.appended, stored(context)) == (None, 2, 11)
    with context.state.read() as session:
        versions = Counter(session.scalars(select(PassTimes.absolute_orbit)))
    assert sorted(versions.values()) == [1] * 10 + [2]
    assert jobs(context) == ["done", "queued"]


def test_a_late_burst_is_put_to_its_pass(context: Context, asf: Asf, coming: watching.Coming) -> None:
    """The pass is read whole: also when the burst alone could not be put into its place."""
    come(context, asf, coming, LIVE)
    look(context)
    moment, platform, _ = watching.times(LIVE - 30 * DAY, LIVE)[1]
    stamp, newer = f"{moment - timedelta(seconds=3):%Y%m%dT%H%M%S}", f"{LIVE + DAY:%Y%m%dT%H%M%S}"
    burst = "T121-257647-IW2" if moment.hour == 0 else "T012-023789-IW1"
    watching.factories.opera(
        asf.folder, LAKE, stamp, values=watching.image(8, 0.0), burst=burst, platform=platform, processed=newer
    )
    come(context, asf, coming, LIVE + DAY + timedelta(hours=1))
    found = look(context)
    assert (found.error, found.found, found.appended, stored(context)) == (None, 2, 1, 10)


@pytest.mark.parametrize("fault", [WEB_PAGE, Answer(503), Answer(200, b"{}", {"Content-Type": "application/json"})])
def test_an_archive_that_is_down_is_a_failed_look(
    context: Context, asf: Asf, coming: watching.Coming, fault: Answer
) -> None:
    """The next one asks for what was processed since the last that ended well: nothing is lost."""
    come(context, asf, coming, LIVE)
    first = look(context)
    new = come(context, asf, coming, LIVE + 6 * DAY)
    assert new > 0
    asf.cmr.fail(fault, times=99)
    failed = look(context)
    assert "SourceError: the search for OPERA granules of tsho_rolpa" in str(failed.error)
    assert (failed.appended, stored(context)) == (0, 10)
    asf.cmr.recover()
    found = look(context)
    assert (found.error, found.since) == (None, first.started - 5 * DAY)
    assert (found.appended, stored(context)) == (new, 10 + new)


def test_a_first_look_that_finds_nothing_is_a_good_one(context: Context, asf: Asf, coming: watching.Coming) -> None:
    """A lake that was not seen yet."""
    context.now.moment = LIVE - 31 * DAY
    found = look(context)
    assert (found.error, found.found) == (None, 0)
    come(context, asf, coming, LIVE - 28 * DAY)
    found = look(context)
    assert found.since is not None
    assert found.appended == len(list(asf.folder.glob("*_VV.tif"))) > 0


def test_what_the_catalogue_got_late_comes_with_a_look_at_all(
    context: Context, asf: Asf, coming: watching.Coming
) -> None:
    """Once a week: a granule whose date is older than the last look, by more than the overlap."""
    come(context, asf, coming, LIVE)
    late = asf.cmr.granules.pop(2)
    assert look(context).appended == 9
    asf.cmr.granules.append(late)
    context.now.moment = LIVE + 6 * DAY
    assert look(context).appended == 0
    context.now.moment = LIVE + 7 * DAY + timedelta(minutes=1)
    found = look(context)
    assert (found.since, found.found, found.appended) == (None, 10, 1)
    context.now.moment += timedelta(hours=1)
    assert look(context).since is not None


def newest(asf: Asf) -> Path:
    return max(asf.folder.glob("*_VV.tif"), key=lambda path: path.name.split("_")[4])


def test_a_bad_granule_does_not_stop_the_rest(context: Context, asf: Asf, coming: watching.Coming) -> None:
    """It is noted with the reason, tried again when it is due and not before, and forgotten when it is mended, long
    after the search for new granules would have found it."""
    come(context, asf, coming, LIVE)
    look(context)
    come(context, asf, coming, LIVE + 7 * DAY - timedelta(hours=1))
    bad = newest(asf)
    whole = bad.read_bytes()
    bad.write_bytes(whole[: len(whole) // 2])
    found = look(context)
    assert (found.error, found.found, found.appended, stored(context)) == (None, 2, 1, 11)
    (letter,) = dead(context)
    assert bad.name.startswith(letter.granule)
    assert (letter.attempts, letter.solved) == (1, None)
    assert letter.reason
    assert letter.next_try - letter.last == timedelta(minutes=30)
    asked = asf.raster_bytes()
    assert look(context).error is None
    assert dead(context)[0].attempts == 1
    assert asf.raster_bytes() == asked
    for attempt in range(2, 5):
        context.now.moment = dead(context)[0].next_try
        look(context)
        assert dead(context)[0].attempts == attempt
    assert dead(context)[0].next_try - dead(context)[0].last == timedelta(hours=4)
    bad.write_bytes(whole)
    context.now.moment += 60 * DAY
    found = look(context)
    assert (found.error, found.appended, stored(context)) == (None, 1, 12)
    (letter,) = dead(context)
    assert letter.solved is not None
    assert letter.next_try is None
    assert look(context).found == 0


def test_what_was_given_up_is_tried_once_a_week(context: Context, asf: Asf, coming: watching.Coming) -> None:
    """Nothing is lost for good: archives mend what they have."""
    options = context.study.service.model_copy(update={"max_attempts": 2})
    context.study = context.study.model_copy(update={"service": options})
    come(context, asf, coming, LIVE)
    look(context)
    come(context, asf, coming, LIVE + 3 * DAY)
    newest(asf).write_bytes(b"nothing of use")
    look(context)
    context.now.moment += DAY
    look(context)
    (letter,) = dead(context)
    assert (letter.attempts, letter.next_try - letter.last) == (2, letters.GIVEN_UP)


def test_a_granule_that_the_archive_withdrew_is_asked_for_again(
    context: Context, asf: Asf, coming: watching.Coming
) -> None:
    """And does not keep others from being found."""
    come(context, asf, coming, LIVE)
    look(context)
    come(context, asf, coming, LIVE + 3 * DAY)
    bad = newest(asf)
    bad.write_bytes(b"nothing of use")
    look(context)
    bad.unlink()
    come(context, asf, coming, LIVE + 8 * DAY)
    assert look(context).appended == 2
    assert (dead(context)[0].attempts, dead(context)[0].reason) == (2, "the archive has it no longer")


def test_downloads_that_fail_are_dead_letters_too(asf: Asf, coming: watching.Coming, tmp_path: Path) -> None:
    """The pass waits whole; the others are used."""
    study = watching.study(tmp_path, "opera")
    source = study.source.model_copy(update={"download": True})
    context = Context.of(study.model_copy(update={"source": source}), now=Clock(LIVE))
    come(context, asf, coming, LIVE)
    gone = newest(asf)
    asf.data.fail(Answer(404), times=99, when=lambda request: gone.name in request.path)
    assert look(context).appended == 9
    (letter,) = dead(context)
    assert gone.name.startswith(letter.granule)
    assert "404" in letter.reason
    asf.data.recover()
    context.now.moment = letter.next_try
    assert look(context).appended == 1
    assert dead(context)[0].solved is not None
    context.state.close()


def in_folder(tmp_path: Path, coming: watching.Coming) -> Context:
    context = Context.of(watching.study(tmp_path), now=Clock(LIVE))
    coming.come(LIVE)
    return context


def test_a_file_that_cannot_be_read_is_a_dead_letter(coming: watching.Coming, tmp_path: Path) -> None:
    """In a folder, which is searched whole each time: used as soon as it is mended."""
    context = in_folder(tmp_path, coming)
    bad = sorted(coming.folder.glob("*_VV.tif"))[3]
    whole = bad.read_bytes()
    bad.write_bytes(whole[:200])
    assert look(context).appended == 9
    noted = {letter.granule: letter for letter in dead(context)}
    assert set(noted) == {bad.name, bad.name.replace("_VV", "_mask")}
    assert "unreadable" in noted[bad.name].reason
    assert all(letter.platform is letter.solved is None for letter in noted.values())
    bad.write_bytes(whole)
    assert look(context).appended == 1
    assert all(letter.solved is not None for letter in dead(context))
    context.state.close()


def test_killed_between_cube_and_state_nothing_is_lost(
    coming: watching.Coming, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next look finds nothing new in the archive, and asks for what the cube holds to be measured."""
    context = in_folder(tmp_path, coming)

    def killed(*_: object) -> None:
        msg = "killed"
        raise RuntimeError(msg)

    with monkeypatch.context() as patched:
        patched.setattr(letters, "write", killed)
        assert look(context).error == "RuntimeError: killed"
    assert (stored(context), jobs(context)) == (10, [])
    found = look(context)
    assert (found.error, found.appended, jobs(context)) == (None, 0, ["queued"])
    context.state.close()


def test_a_look_that_was_killed_is_closed_by_the_next_process(coming: watching.Coming, tmp_path: Path) -> None:
    """As one that failed."""
    context = in_folder(tmp_path, coming)
    with context.state.write() as session:
        session.add(Look(lake=LAKE.id, started=LIVE))
    assert watch.watch(context, once=True) == []
    with context.state.read() as session:
        looks = session.scalars(select(Look).order_by(Look.id)).all()
    assert [one.error for one in looks] == ["interrupted", None]
    assert all(one.ended for one in looks)
    context.state.close()


def test_one_lakes_fault_does_not_stop_the_others(
    coming: watching.Coming, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever it is."""
    context = in_folder(tmp_path, coming)
    other = watching.catalogue()["gokyo"]
    context.lakes = {other.id: other, **context.lakes}
    search = ingest.find_scenes

    def failing(lake: object, *arguments: object, **options: object) -> object:
        if lake.id == other.id:
            msg = "unforeseen"
            raise ZeroDivisionError(msg)
        return search(lake, *arguments, **options)

    monkeypatch.setattr(ingest, "find_scenes", failing)
    assert watch.watch(context, once=True) == [other.id]
    assert watching.check_served(context.out) is not None
    context.state.close()


def test_two_do_not_watch_at_a_time(coming: watching.Coming, tmp_path: Path) -> None:
    """The second says so."""
    context = in_folder(tmp_path, coming)
    with context.alone("watch"), pytest.raises(CubeConflict, match="another process is at watch of the study"):
        watch.watch(context, once=True)
    context.state.close()


def test_webhooks_without_secret_are_refused_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when the first alert comes."""
    monkeypatch.delenv("CUBEKIT_WEBHOOK_SECRET", raising=False)
    context = Context.of(watching.study(tmp_path, webhooks=["https://example.org/lakes"]), now=Clock(LIVE))
    for run in (watch.watch, watch.run_inference):
        with pytest.raises(ConfigError, match="webhooks are signed, and there is no secret"):
            run(context, once=True)
    context.state.close()


# The three commands, as processes.


def write_study(tmp_path: Path, **service: object) -> Path:
    path = tmp_path / "study.toml"
    path.write_text(watching.study(tmp_path, **service).dump())
    return path


def command(*arguments: object) -> list[str]:
    return [sys.executable, "-m", "cubekit.cli", *map(str, arguments)]


def test_watch_once_for_cron(coming: watching.Coming, tmp_path: Path) -> None:
    """Exit code 0 and a release; its log is JSON; with the archive gone it is 1, and the release still there."""
    coming.come(LIVE)
    path = write_study(tmp_path)
    done = subprocess.run(command("watch", "--once", path), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert any(line["message"].startswith(f"{LAKE.id}: released") and line["passes"] == 10 for line in lines)
    name = watching.check_served(tmp_path / "out")
    assert name is not None
    coming.folder.rename(tmp_path / "elsewhere")
    failed = subprocess.run(command("watch", "--once", path), capture_output=True, text=True)
    assert (failed.returncode, watching.check_served(tmp_path / "out")) == (1, name)
    assert "the look failed for tsho_rolpa" in failed.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_watch_and_infer_as_processes_end_when_they_are_asked_to(
    coming: watching.Coming, tmp_path: Path, number: signal.Signals
) -> None:
    """One looks, the other releases, on a schedule; both end with 0, and nothing is left half done."""
    coming.come(LIVE)
    path = write_study(tmp_path, interval_minutes=0.02)
    out = tmp_path / "out"
    with (tmp_path / "log").open("w") as log:
        both = [subprocess.Popen(command(*what, path), stderr=log) for what in (("watch", "--ingest-only"), ("infer",))]
        try:
            wait_until((out / "service" / "state.sqlite").exists, seconds=120)
            wait_until(lambda: watching.check_served(out) is not None, seconds=120)
            first = watching.check_served(out)
            coming.come(LIVE + 3 * DAY)
            wait_until(lambda: watching.check_served(out) != first, seconds=120)
            for process in both:
                process.send_signal(number)
            assert [process.wait(60) for process in both] == [0, 0], (tmp_path / "log").read_text()
        finally:
            for process in both:
                process.kill()
                process.wait()
    context = Context.of(watching.study(tmp_path))
    assert set(jobs(context)) <= {"done", "queued"}
    with context.state.read() as session:
        releases = set(session.scalars(select(Release.id)))
    assert {one.name for one in (out / "service" / "releases" / LAKE.id).iterdir()} == releases
    context.state.close()


def test_keys_from_the_command_line(tmp_path: Path) -> None:
    """A key is shown once, and the list does not have it."""
    from typer.testing import CliRunner

    from cubekit.cli import app

    path, runner = write_study(tmp_path), CliRunner()
    key = runner.invoke(app, ["keys", "add", str(path), "warden"]).output.strip()
    assert key.startswith("warden.")
    assert len(key) > 40
    listed = runner.invoke(app, ["keys", "show", str(path)]).output
    assert "warden" in listed
    assert key not in listed
    assert runner.invoke(app, ["keys", "revoke", str(path), "warden"]).output == "revoked warden\n"


# Killed, and with faults.


class Killer:
    """The script of `watching`, whose forks are killed."""

    def __init__(self, errors: Path) -> None:
        self.errors = errors
        with errors.open("w") as stderr:
            self.script = subprocess.Popen(
                [sys.executable, watching.__file__],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
            )

    def order(self, study: Path, moment: object, *, dies_after: float | None = None) -> tuple[float, bool]:
        """Watch once; seconds that it took, and whether it was killed."""
        self.script.stdin.write(json.dumps([str(study), moment.isoformat(), True]) + "\n")
        self.script.stdin.flush()
        started = self.script.stdout.readline().split()
        assert started[:1] == ["start"], self.errors.read_text()
        begun = time.monotonic()
        if dies_after is not None:
            time.sleep(dies_after)
            os.kill(int(started[1]), signal.SIGKILL)
        ended = self.script.stdout.readline().split()
        assert ended in (["ended", "0"], ["ended", "-9"]), self.errors.read_text()
        return time.monotonic() - begun, ended == ["ended", "-9"]

    def close(self) -> None:
        self.script.stdin.close()
        self.script.wait()
        self.script.stdout.close()


@pytest.fixture
def killer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Killer]:
    monkeypatch.setenv("CUBEKIT_WEBHOOK_SECRET", watching.SECRET)
    made = Killer(tmp_path / "errors.txt")
    yield made
    made.close()


def same(one: dict[str, object], other: dict[str, object]) -> None:
    """Two services have come to the same."""
    xr.testing.assert_identical(one["passes"], other["passes"])
    assert {**one, "passes": None} == {**other, "passes": None}


def killed_watch(
    store: Path,
    home: Path,
    killer: Killer,
    days: Sequence[int],
    kills: int,
    record: Callable[[str, object], None],
    seed: int,
) -> None:
    """Let a month come until these days, kill the service at random moments, and compare with a month in peace."""
    chance = random.Random(seed)
    steps = [LIVE + day * DAY for day in days]
    expected: dict[str, object] = {}
    took = 1.0
    for name in ("peace", "killed"):
        (home / name).mkdir()
        coming = watching.on_their_way(store / "store", home / name / "archive")
        with watching.hooked() as (hook, url):
            path = write_study(home / name, webhooks=[url])
            reader = watching.Reader(home / name / "out")
            dead = 0
            with reader.reading():
                for number, step in enumerate(steps):
                    coming.come(step)
                    wanted = kills * (number + 1) // len(steps) if name == "killed" else 0
                    share = 1.0
                    while dead < wanted:
                        # One that ends before it is killed has done its work: the next look is a short one.
                        ended = not killer.order(path, step, dies_after=chance.random() * share * took)[1]
                        dead += not ended
                        share = max(0.5 * share, 0.02) if ended else min(1.5 * share, 1.0)
                    seconds, was_killed = killer.order(path, step + timedelta(hours=12))
                    assert not was_killed
                    took = 0.5 * (took + seconds) if name == "peace" and number else took
            out = home / name / "out"
            outcome = watching.outcome(out)
            told = hook.told
        # Each event has one key and one body, however often it was told.
        assert len({key for key, _ in told}) == len(set(told)) == len(outcome["told"])
        stages = Counter((json.loads(body)["alert"], json.loads(body)["stage"]) for _, body in set(told))
        assert set(stages.values()) == {1}
        assert {stage for _, stage in stages} >= {"first", "confirmed", "closed"}
        state = Context.of(watching.study(home / name))
        with state.state.read() as session:
            kept = set(session.scalars(select(Release.id)))
            assert set(session.scalars(select(Job.state))) == {"done"}
        state.state.close()
        assert {one.name for one in (out / "service" / "releases" / LAKE.id).iterdir()} == kept
        assert reader.seen <= kept
        if name == "peace":
            expected = outcome
        else:
            same(outcome, expected)
            again = len(told) - len(set(told))
            record("killed before their end", dead)
            record("checks of the reader", reader.checks)
            record("messages told twice, under the same key", again)
            assert dead == kills


def test_a_watch_that_is_killed_ends_as_one_in_peace(
    store: Path, tmp_path: Path, killer: Killer, record_property: Callable[[str, object], None]
) -> None:
    """A few kills; a reader checks all along."""
    killed_watch(store, tmp_path, killer, (0, 13, 18, 31), 5, record_property, seed=1)


@pytest.mark.slow
def test_a_watch_that_is_killed_fifty_times_ends_as_one_in_peace(
    store: Path, tmp_path: Path, killer: Killer, record_property: Callable[[str, object], None]
) -> None:
    """Nothing lost, nothing twice, no half state served, no alert twice."""
    killed_watch(store, tmp_path, killer, (0, 13, 18, 31), 50, record_property, seed=2)


FAULTS = ("nothing", "raster", "catalogue", "model", "hook", "cut", "page", "raster", "model", "nothing", "nothing")
"""What goes wrong at each look of a month, every three days."""


@dataclass
class Faults:
    """What goes wrong while a month is replayed."""

    context: Context
    asf: Asf
    hook: watching.Hook
    patched: pytest.MonkeyPatch

    def happen(self, what: str) -> None:
        from_store = self.asf.data.STORAGE
        if what in {"catalogue", "page"}:
            self.asf.cmr.fail(WEB_PAGE if what == "page" else Answer(503), times=99)
        elif what in {"raster", "cut"}:
            fault = Answer(503) if what == "raster" else truncated
            self.asf.data.fail(fault, times=99, when=lambda request: request.host == from_store)
        elif what == "hook":
            self.hook.fail(Answer(500), times=99)
        elif what == "model":
            self.patched.setattr(infer, "segment_passes", lambda *_: 1 / 0)

    def end(self) -> None:
        for service in (self.asf.cmr, self.asf.data, self.hook):
            service.recover()
        self.patched.setattr(infer, "segment_passes", segment_passes)

    def count(self) -> Counter[str]:
        """How often what failed."""
        with self.context.state.read() as session:
            looks = sum(one.error is not None for one in session.scalars(select(Look)))
            tried = sum(job.attempts > 1 for job in session.scalars(select(Job)))
        noted = len(dead(self.context))
        return Counter({"looks": looks, "jobs": tried, "granules": noted, "messages": self.hook.failed})


def replayed(
    store: Path, home: Path, monkeypatch: pytest.MonkeyPatch, *, faulty: bool
) -> tuple[dict[str, object], Counter[str]]:
    """A month of the archive, a look every three days, with `FAULTS` or without."""
    home.mkdir()
    monkeypatch.setenv("CUBEKIT_WEBHOOK_SECRET", watching.SECRET)
    coming = watching.on_their_way(store / "store", home / "archive")
    coming.folder.mkdir()
    data = Earthdata(coming.folder)
    with monkeypatch.context() as patched, watching.hooked() as (hook, url), at_asf(data, [], home, patched) as asf:
        context = Context.of(watching.study(home, "opera", webhooks=[url]), now=Clock(LIVE))
        faults = Faults(context, asf, hook, patched)
        for step, fault in enumerate(FAULTS):
            come(context, asf, coming, LIVE + 3 * step * DAY + timedelta(hours=12))
            if faulty:
                faults.happen(fault)
            watch.watch(context, once=True)
            faults.end()
        outcome, count = watching.outcome(context.out), faults.count()
        assert all(one.solved is not None for one in dead(context))
        assert len(hook.told) == len(set(hook.told)) == len(outcome["told"])
        context.state.close()
    return outcome, count


def nameless(outcome: dict[str, object]) -> dict[str, object]:
    """Alerts by their signs: one whose first pass came late has the name of the pass that was there."""
    signs = {name: sign for name, (sign, *_) in outcome["alerts"].items()}
    withdrawn = {name for name, (*_, how) in outcome["alerts"].items() if how == "withdrawn"}
    alerts = sorted(value for name, value in outcome["alerts"].items() if name not in withdrawn)
    events, told = (
        sorted((signs[name], *rest) for name, *rest in outcome[which] if name not in withdrawn)
        for which in ("events", "told")
    )
    return outcome | {"alerts": alerts, "events": events, "told": told}


@pytest.mark.slow
def test_a_month_with_faults_ends_as_one_without(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, record_property: Callable[[str, object], None]
) -> None:
    """The archive is down, rasters break off, the webhook and the model fail: the end is the same."""
    peace, none = replayed(store, tmp_path / "peace", monkeypatch, faulty=False)
    faulty, count = replayed(store, tmp_path / "faulty", monkeypatch, faulty=True)
    record_property("what failed", dict(count))
    assert not +none
    assert min(count["looks"], count["jobs"], count["granules"], count["messages"]) >= 1
    same(nameless(faulty), nameless(peace))
