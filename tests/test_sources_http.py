"""What archives do on bad days, by the real requests against a local server: nothing is lost, nothing is half there."""

from __future__ import annotations

import logging
import os
import pickle
import socket
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from pathlib import Path

import numpy as np
import pytest
import requests
from servers import WEB_PAGE, Answer, Request, Service, cut, internet, serving, wait_until
from servers.files import Earthdata, Files, truncated

from cubekit.errors import ConfigError, SourceError
from cubekit.sources import _earthdata, _http
from cubekit.sources._addresses import trusted

CONTENT = np.random.default_rng(0).bytes(300_000)
NAME = "product.tif"
PIECE = 1 << 16


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits and timeouts of a test, not of the internet."""
    monkeypatch.setattr(_http, "WAIT", 0.01)
    monkeypatch.setattr(_http, "TIMEOUT", (2.0, 0.3))
    for variable in (_earthdata.TOKEN, "HTTPS_PROXY", "https_proxy"):
        monkeypatch.delenv(variable, raising=False)
    monkeypatch.setenv("NETRC", "no such file")


@pytest.fixture
def files() -> Files:
    return Files(files={NAME: CONTENT})


@pytest.fixture
def address(files: Files) -> Iterator[str]:
    with serving(files) as base:
        yield f"{base}/{NAME}"


@pytest.fixture
def session() -> requests.Session:
    return requests.Session()


def parts(folder: Path) -> list[Path]:
    return sorted(folder.glob(".*.part"))


class Api(Service):
    """Answers 7 in JSON."""

    def answer(self, request: Request) -> Answer:
        return Answer(200, b"7", {"Content-Type": "application/json"})


def ask(base: str) -> object:
    session = requests.Session()
    _http.watch(session)

    def call() -> object:
        answer = session.get(f"{base}/count?token=planted", timeout=_http.TIMEOUT)
        answer.raise_for_status()
        return answer.json()

    return _http.retrying(call, what="the count")


JSON = {"Content-Type": "application/json"}
PASSING = {
    "429": Answer(429, b'{"errors": ["slow down"]}', {**JSON, "Retry-After": "0"}),
    "429 until a date": Answer(429, b"", {"Retry-After": format_datetime(datetime.now(UTC) - timedelta(seconds=5))}),
    "502, a web page": WEB_PAGE,
    "503, JSON": Answer(503, b'{"errors": ["down"]}', JSON),
    "a web page with 200": Answer(200, b"<html>", {"Content-Type": "text/html"}),
    "half a JSON": Answer(200, b'{"a": ', JSON),
    "silence": Answer(200, b"7", JSON, hang=0.6),
    "breaks off": Answer(200, b"7777", JSON | {"Content-Length": "100"}, cut=2),
}


@pytest.mark.parametrize("name", PASSING)
def test_what_may_pass_is_tried_again(name: str, caplog: pytest.LogCaptureFixture) -> None:
    """Two bad answers, then a good one: the caller gets it, and the log says what was waited for."""
    service = Api()
    service.fail(PASSING[name], times=2)
    with serving(service) as base, caplog.at_level(logging.WARNING):
        assert ask(base) == 7
    assert len(service.log) == 3
    assert len(caplog.records) == 2
    assert "planted" not in caplog.text


@pytest.mark.parametrize("name", PASSING)
def test_what_does_not_pass_ends(name: str) -> None:
    """After five attempts: one line that tells what was tried, and not what the address holds."""
    service = Api()
    service.fail(PASSING[name], times=99)
    with serving(service) as base, pytest.raises(SourceError, match=r"the count failed 5 times, last: ") as caught:
        ask(base)
    assert len(service.log) == 5
    assert "planted" not in str(caught.value)
    assert caught.value.__cause__ is None
    assert caught.value.__suppress_context__ or caught.value.__context__ is None


def test_a_connection_that_ends_in_its_handshake_is_tried_again(files: Files, tmp_path: Path) -> None:
    """Which is no word on a certificate."""
    closed = []
    with socket.create_server(("127.0.0.1", 0)) as door, ThreadPoolExecutor(1) as pool:
        door.settimeout(5)

        def slam() -> None:
            for _ in range(_http.ATTEMPTS):
                visitor = door.accept()[0]
                visitor.recv(1)
                visitor.shutdown(socket.SHUT_RDWR)
                visitor.close()
                closed.append(visitor)

        done = pool.submit(slam)
        url = f"https://127.0.0.1:{door.getsockname()[1]}/{NAME}?token=planted"
        with pytest.raises(SourceError, match=r"failed 5 times, last: (the|no) connection to 127\.0\.0\.1") as caught:
            _http.download(url, tmp_path / NAME, session=requests.Session())
        done.result()
    assert len(closed) == _http.ATTEMPTS
    assert "planted" not in str(caught.value)


def test_a_certificate_that_nobody_vouches_for_ends(earthdata: Earthdata, monkeypatch: pytest.MonkeyPatch) -> None:
    """At once."""
    session = requests.Session()
    session.trust_env = False
    session.proxies = {"https": os.environ["HTTPS_PROXY"]}
    with pytest.raises(SourceError, match=r"certificate of datapool\.asf\.alaska\.edu/.* is not trusted"):
        _http.retrying(lambda: session.get(earthdata.url(NAME), timeout=5), what="the file")
    assert not earthdata.log


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(404, b"<html>", {"Content-Type": "text/html"}), "answers 404"),
        (Answer(401, b"<html>", {"Content-Type": "text/html"}), "answers 401 Unauthorized; it lets nobody in"),
        (Answer(400, b'{"detail": "no credits"}', JSON), "answers 400"),
        (Answer(429, b"", {"Retry-After": "86400"}), "asks to wait 86400 s"),
        (Answer(302, b"", {"Location": "/count"}), "sends round in a circle"),
    ],
)
def test_what_will_stay_is_not_tried_again(answer: Answer, message: str) -> None:
    """A refusal ends at once, an overlong wait too."""
    service = Api()
    service.fail(answer, times=99)
    with serving(service) as base, pytest.raises(SourceError, match=message):
        ask(base)
    assert len(service.log) == 1 or answer.status == 302


def test_waits_as_long_as_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Retry-After wins over our own pace."""
    waited: list[float] = []
    monkeypatch.setattr(_http.time, "sleep", waited.append)
    service = Api()
    service.fail(Answer(429, b"", {"Retry-After": "17"}))
    service.fail(Answer(503, b"", {}), times=2)
    with serving(service) as base:
        ask(base)
    assert waited == [17, 0.02, 0.04]


def test_nobody_there(tmp_path: Path, session: requests.Session) -> None:
    """A server that does not listen is told by its name."""
    with serving(Api()) as base:
        pass
    with pytest.raises(SourceError, match=r"no connection to 127\.0\.0\.1/a\.tif; nothing was lost"):
        _http.download(f"{base}/a.tif", tmp_path / "a.tif", session=session)


def test_downloads_whole(address: str, files: Files, session: requests.Session, tmp_path: Path) -> None:
    """The bytes arrive; a second call asks for nothing."""
    path = tmp_path / "new" / NAME
    assert _http.download(address, path, session=session, size=len(CONTENT)) == path
    assert path.read_bytes() == CONTENT
    _http.download(address, path, session=session, size=len(CONTENT))
    assert len(files.log) == 1
    assert not parts(path.parent)


def test_goes_on_where_it_stopped(address: str, files: Files, session: requests.Session, tmp_path: Path) -> None:
    """Broken off twice, what has arrived is not asked for again."""
    files.fail(cut(100_000), times=2)
    _http.download(address, tmp_path / NAME, session=session)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert [one.headers["Range"] for one in files.asked()] == [None, f"bytes={PIECE}-", f"bytes={2 * PIECE}-"]


def test_goes_on_in_another_run(address: str, files: Files, session: requests.Session, tmp_path: Path) -> None:
    """What a failed call has got serves the next one; under the file's own name there is nothing meanwhile."""
    files.fail(cut(40_000), times=4)
    files.fail(cut(2 * PIECE))
    with pytest.raises(SourceError, match="failed 5 times"):
        _http.download(address, tmp_path / NAME, session=session)
    assert not (tmp_path / NAME).exists()
    assert [one.stat().st_size for one in parts(tmp_path)] == [2 * PIECE]
    _http.download(address, tmp_path / NAME, session=session)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert files.log[-1].request.headers["Range"] == f"bytes={2 * PIECE}-"


def test_never_joins_two_versions(address: str, files: Files, session: requests.Session, tmp_path: Path) -> None:
    """The file changes on the server in the middle: it is begun again."""
    files.fail(cut(100_000))
    files.fail(Answer(503), times=4)
    with pytest.raises(SourceError, match="failed 5 times"):
        _http.download(address, tmp_path / NAME, session=session)
    assert parts(tmp_path)
    changed = CONTENT[::-1]
    files.files[NAME] = changed
    _http.download(address, tmp_path / NAME, session=session)
    assert (tmp_path / NAME).read_bytes() == changed
    assert not parts(tmp_path)


def test_a_server_without_ranges_is_no_harm(
    address: str, files: Files, session: requests.Session, tmp_path: Path
) -> None:
    """It sends all again, from the start: nothing is appended to what was there."""
    files.fail(cut(100_000))
    files.fail(Answer(200, CONTENT, {"ETag": '"other"'}))
    _http.download(address, tmp_path / NAME, session=session)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert not parts(tmp_path)


def test_too_many_bytes_are_begun_again(address: str, session: requests.Session, tmp_path: Path) -> None:
    """What is longer than the file is thrown away."""
    (tmp_path / f".{NAME}.0123456789ab.part").write_bytes(CONTENT + b"more")
    _http.download(address, tmp_path / NAME, session=session)
    assert (tmp_path / NAME).read_bytes() == CONTENT
    assert not parts(tmp_path)


def test_a_file_of_the_wrong_size_is_not_taken(
    address: str, files: Files, session: requests.Session, tmp_path: Path
) -> None:
    """Truncated on the server: its header agrees with itself, the catalogue does not."""
    files.fail(truncated, times=9)
    with pytest.raises(SourceError, match="has 150000 bytes, the archive says 300000"):
        _http.download(address, tmp_path / NAME, session=session, size=len(CONTENT))
    assert not (tmp_path / NAME).exists()


def test_a_truncated_file_on_disk_is_replaced(address: str, session: requests.Session, tmp_path: Path) -> None:
    """The size decides, not that a file is there."""
    (tmp_path / NAME).write_bytes(CONTENT[:1000])
    _http.download(address, tmp_path / NAME, session=session, size=len(CONTENT))
    assert (tmp_path / NAME).read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (Answer(200, b"<html>log in</html>", {"Content-Type": "text/html"}), "a web page instead of a file"),
        (Answer(404), "answers 404"),
        (Answer(403), "answers 403 Forbidden; it lets nobody in"),
        (Answer(206, CONTENT[:9], {"Content-Range": "rubbish"}), "does not say which bytes"),
    ],
)
def test_what_is_not_the_file_is_not_taken(
    answer: Answer, message: str, address: str, files: Files, session: requests.Session, tmp_path: Path
) -> None:
    """It ends at once, and nothing is written."""
    files.fail(answer, times=9)
    with pytest.raises(SourceError, match=message):
        _http.download(f"{address}?signature=planted", tmp_path / NAME, session=session)
    assert len(files.log) == 1
    assert list(tmp_path.iterdir()) == []


def test_still_being_made_is_waited_for(address: str, files: Files, session: requests.Session, tmp_path: Path) -> None:
    """202 is an answer without the file."""
    files.fail(Answer(202, b"soon"))
    _http.download(address, tmp_path / NAME, session=session)
    assert (tmp_path / NAME).read_bytes() == CONTENT


def test_a_folder_that_can_not_be_made_is_said(session: requests.Session, address: str, tmp_path: Path) -> None:
    """It is told which one."""
    (tmp_path / "blocked").write_text("a file, where a folder is wanted")
    with pytest.raises(SourceError, match=r"blocked can't be made \(File exists\)"):
        _http.download(address, tmp_path / "blocked" / NAME, session=session)


def test_one_that_fails_does_not_end_the_others(files: Files, session: requests.Session, tmp_path: Path) -> None:
    """What can't be had is listed; a few at a time, never more."""
    names = [f"{number}.tif" for number in range(12)]
    files.files = {name: CONTENT[:5000] for name in names if name != "3.tif"}
    active, most, lock = 0, 0, threading.Lock()

    def slow(answer: Answer) -> Answer:
        nonlocal active, most
        with lock:
            active += 1
            most = max(most, active)
        wait_until(lambda: active >= _http.PARALLEL or len(files.log) > 4)
        with lock:
            active -= 1
        return answer

    files.fail(slow, times=8)
    with serving(files) as base:
        wanted = [_http.RemoteFile(f"{base}/{name}", tmp_path / name) for name in names]
        failed = _http.download_all(wanted, session=session)
    assert {path.name for path in failed} == {"3.tif"}
    assert "answers 404" in failed[tmp_path / "3.tif"]
    assert sorted(path.name for path in tmp_path.glob("*.tif")) == sorted(files.files)
    assert 1 < most <= _http.PARALLEL


def test_one_process_at_a_time(tmp_path: Path, session: requests.Session) -> None:
    """A second one is refused; its files would be cut into each other's."""
    lock = _http._lock(tmp_path)
    try:
        with pytest.raises(SourceError, match="another process is downloading into"):
            _http.download_all([_http.RemoteFile("http://127.0.0.1:9/a", tmp_path / "a")], session=session)
    finally:
        lock.release()


@pytest.fixture
def earthdata(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Earthdata]:
    """An archive behind Earthdata's login, by its real hosts' names."""
    archive = Earthdata(files={NAME: CONTENT})
    _earthdata._shared.cache_clear()
    with internet(archive.hosts, tmp_path / "tls") as there:
        for name, value in there.environment.items():
            monkeypatch.setenv(name, value)
        yield archive
    assert not archive.leaks
    assert not there.strangers


@pytest.mark.parametrize("by", ["token", ".netrc"])
def test_logs_in(by: str, earthdata: Earthdata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With a token or a password: each goes to its own host only, and is in no repr and no pickle."""
    if by == "token":
        monkeypatch.setenv(_earthdata.TOKEN, f" {earthdata.token}\n")
    else:
        monkeypatch.setenv("NETRC", str(earthdata.netrc(tmp_path / "netrc")))
    assert _earthdata.credentials() == (_earthdata.TOKEN if by == "token" else by)
    session = _earthdata.session()
    _http.download(earthdata.url(NAME), tmp_path / NAME, session=session, size=len(CONTENT))
    assert (tmp_path / NAME).read_bytes() == CONTENT
    signed = _earthdata.direct(earthdata.url(NAME))
    assert signed.startswith(f"https://{earthdata.STORAGE}/{NAME}?")
    shown = f"{session!r} {_earthdata.gdal_options([signed])}".encode() + pickle.dumps(session)
    assert not [secret for secret in (earthdata.token, earthdata.password) if secret.encode() in shown]


def test_logs_in_once(earthdata: Earthdata, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that reads a hundred files sends the password once."""
    monkeypatch.setenv("NETRC", str(earthdata.netrc(tmp_path / "netrc")))
    for _ in range(5):
        _earthdata.direct(earthdata.url(NAME))
    assert len(earthdata.asked(lambda request: request.host == earthdata.LOGIN)) == 1


def test_nobody_is_logged_in(earthdata: Earthdata, tmp_path: Path) -> None:
    """It says what to do, at once."""
    assert _earthdata.credentials() is None
    with pytest.raises(SourceError, match=r"answers 401.*\.netrc or EARTHDATA_TOKEN"):
        _http.download(earthdata.url(NAME), tmp_path / NAME, session=_earthdata.session())
    with pytest.raises(SourceError, match=r"the login for product\.tif failed.*\.netrc or EARTHDATA_TOKEN"):
        _earthdata.direct(earthdata.url(NAME))


def test_a_wrong_token_is_not_shown(earthdata: Earthdata, monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither one that the archive refuses, nor one that can't be sent."""
    monkeypatch.setenv(_earthdata.TOKEN, "planted-token")
    with pytest.raises(SourceError, match="answers 401") as refused:
        _earthdata.direct(earthdata.url(NAME))
    monkeypatch.setenv(_earthdata.TOKEN, "planted\x01token")
    with pytest.raises(ConfigError, match="its value is not shown") as malformed:
        _earthdata.session()
    assert "planted" not in str(refused.value) + str(malformed.value)


def test_a_netrc_that_is_not_text_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without showing what it holds."""
    (tmp_path / "netrc").write_bytes(b"planted \xff\xfe")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    with pytest.raises(ConfigError, match="netrc is not text") as caught:
        _earthdata.credentials()
    assert "planted" not in str(caught.value)
    assert caught.value.__suppress_context__


def test_gdal_does_not_log_signatures(caplog: pytest.LogCaptureFixture) -> None:
    """It tells the whole address of what it tries again."""
    _earthdata.gdal_options(["https://example.org/a.tif"])
    warning = "HTTP error code: 503 - https://example.org/a.tif?X-Amz-Signature=planted. Retrying again in 1.0 secs"
    logging.getLogger("rasterio._env").warning("CPLE_AppDefined in %s", warning)
    (record,) = caplog.records
    assert "503 - https://example.org/a.tif" in record.getMessage()
    assert "planted" not in record.getMessage()


def test_other_hosts_get_no_token(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, files: Files) -> None:
    """A token is for Earthdata: a STAC server elsewhere never sees it, nor one that only ends like it."""
    monkeypatch.setenv(_earthdata.TOKEN, "planted-token")
    with serving(files) as base:
        assert _earthdata.direct(f"{base}/{NAME}") == f"{base}/{NAME}"
        _http.download(f"{base}/{NAME}", tmp_path / NAME, session=_earthdata.session())
    assert [one.headers["Authorization"] for one in files.asked()] == [None]
    assert not trusted("https://notasf.alaska.edu.example.org/a")
    assert not trusted("http://datapool.asf.alaska.edu/a")


def test_a_login_that_goes_round_ends(earthdata: Earthdata, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cookie that is never accepted."""
    monkeypatch.setenv(_earthdata.TOKEN, earthdata.token)
    again = Answer(302, b"", {"Location": earthdata.url(NAME)})
    earthdata.fail(again, times=99)
    with pytest.raises(SourceError, match="sends round in a circle, as when a login isn't accepted"):
        _earthdata.direct(earthdata.url(NAME))
    assert len(earthdata.log) < 20


def test_an_archive_that_is_down_is_waited_for(earthdata: Earthdata, monkeypatch: pytest.MonkeyPatch) -> None:
    """503 at the login's door passes."""
    monkeypatch.setenv(_earthdata.TOKEN, earthdata.token)
    earthdata.fail(replace(WEB_PAGE, status=503), times=2)
    assert earthdata.STORAGE in _earthdata.direct(earthdata.url(NAME))
