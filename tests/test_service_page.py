"""The page, in a real browser: over made-up lakes that have everything, and over what cubekit itself serves.

Needs playwright and a Chromium (Debian: chromium-headless-shell; or name one in CUBEKIT_CHROMIUM); axe is one of the
page's own packages (`npm ci` in web/). With CUBEKIT_SCREENSHOTS=1 the pictures of docs/images are taken anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import made_up_lakes
import pytest
import serving
from made_up_lakes import ALERT, DECADE, NOTHING, REASON, SHORT

from cubekit.service._api_pages import PAGES

sync_api = pytest.importorskip("playwright.sync_api", reason="playwright isn't installed")

ROOT = Path(__file__).parents[1]
WEB = ROOT / "web"
IMAGES = ROOT / "docs" / "images"
AXE = WEB / "node_modules" / "axe-core" / "axe.min.js"
NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
DESKTOP, PHONE = {"width": 1280, "height": 900}, {"width": 360, "height": 740}
# What has the focus, and how that is shown; the slider over the images shows it on its handle.
FOCUS = """() => {
  const one = document.activeElement;
  const shown = one.id === "share" ? document.querySelector(".handle") : one;
  const { outlineStyle, boxShadow } = getComputedStyle(shown, one.id === "share" ? "::after" : null);
  return [one.id || one.dataset.lake || one.className || one.tagName, outlineStyle, boxShadow];
}"""

Open = Callable[..., Any]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A headless Chromium."""
    found = os.environ.get("CUBEKIT_CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    with sync_api.sync_playwright() as playwright:
        if found is None and not Path(playwright.chromium.executable_path).exists():
            pytest.skip("there is no Chromium; install chromium-headless-shell, or name one in CUBEKIT_CHROMIUM")
        launched = playwright.chromium.launch(executable_path=found)
        yield launched
        launched.close()


@pytest.fixture(scope="module")
def lakes() -> Iterator[str]:
    """The address of the made-up lakes."""
    with made_up_lakes.served() as address:
        yield address


@pytest.fixture
def visit(browser: Any, lakes: str) -> Iterator[Open]:
    """Opens the page; in the end nothing may have failed, been refused by the policy, or come from elsewhere."""
    contexts, faults = [], []

    def opened(
        hash_: str = "", *, address: str = lakes, before: Callable[[Any], None] | None = None, **options: Any
    ) -> Any:
        context = browser.new_context(**{"viewport": DESKTOP, **options})
        contexts.append(context)
        page = context.new_page()
        page.add_init_script("addEventListener('securitypolicyviolation', e => console.error('policy', e.blockedURI))")
        page.on("console", lambda one: faults.append(one.text) if one.type == "error" else None)
        page.on("pageerror", lambda one: faults.append(str(one)))
        page.on("response", lambda one: faults.append(f"{one.status} {one.url}") if one.status >= 400 else None)
        page.on("request", lambda one: faults.append(one.url) if not mine(one.url, address) else None)
        if before is not None:
            before(page)
        page.goto(address + hash_)
        page.wait_for_selector("#content:not([hidden])")
        return page

    yield opened
    for context in contexts:
        context.close()
    assert not faults


def mine(url: str, address: str) -> bool:
    """Whether something is from the service itself."""
    parts = urlsplit(url)
    return parts.scheme in {"data", "blob"} or parts.netloc == urlsplit(address).netloc


def settled(page: Any, moment: str) -> str:
    """Waits until the image of a pass is there, and tells what it looks like."""
    image = "document.querySelector('#after-image')"
    ready = f"{image}.src.includes(encodeURIComponent('{moment}')) && {image}.complete && {image}.naturalWidth > 0"
    page.wait_for_function(f"() => {ready} && !{image}.classList.contains('loading')")
    canvas = "const c = document.createElement('canvas'); c.width = c.height = 64"
    drawn = f"c.getContext('2d').drawImage({image}, 0, 0, 64, 64)"
    return str(page.evaluate(f"() => {{ {canvas}; {drawn}; return c.toDataURL(); }}"))


def marked(page: Any) -> tuple[str, float]:
    """The pass that is marked in the chart: its time and place."""
    mark = page.locator("circle.mark.now")
    return mark.get_attribute("data-time"), float(mark.get_attribute("cx"))


def chosen(page: Any, lake: str) -> None:
    """Choose a lake by its entry of the list."""
    page.click(f"#lakes [data-lake={lake}]")
    page.wait_for_function(f"() => location.hash.startsWith('#lake={lake}')")
    page.wait_for_selector("#content:not([hidden])")


def test_lake_date_chart_image_and_csv(visit: Open) -> None:
    """Picks a lake, moves the date: chart and image change; downloads the CSV, which is the service's."""
    page = visit()
    chosen(page, SHORT)
    assert page.inner_text("#lake-name") == "Gokyo (Dudh Pokhari)"
    chosen(page, DECADE)
    times = [one["time"] for one in made_up_lakes.passes(DECADE)]
    before, place = marked(page)
    first = settled(page, before)
    page.focus("#date")
    for key in ("ArrowLeft", "ArrowLeft", "PageDown"):
        page.keyboard.press(key)
    after, now = marked(page)
    assert times.index(before) - times.index(after) == 12
    assert now < place
    assert settled(page, after) != first
    assert f"date={after}" in page.url
    assert page.get_attribute("#date", "aria-valuetext") == page.inner_text("#readout").removesuffix(".")
    page.wait_for_function("() => document.querySelector('#live').textContent.startsWith('Chart and image show')")
    with page.expect_download() as download:
        page.click("#downloads a[download$='.csv']")
    assert download.value.suggested_filename == "tsho_rolpa.csv"
    assert Path(download.value.path()).read_bytes() == made_up_lakes.answer("lakes/tsho_rolpa/series?format=csv")[2]


def test_shared_link(visit: Open) -> None:
    """A link opens the lake, the pass and the track that it was copied from; back goes back."""
    wanted = next(one for one in made_up_lakes.passes(DECADE)[100:] if one["track"] == 85 and one["area_km2"])
    page = visit(f"#lake=tshorolpa&date={wanted['time'][:10]}&track=85")
    assert marked(page)[0] == wanted["time"]
    assert page.input_value("#track") == "85"
    assert {text.split("track ")[1][:2] for text in page.locator("#legend").all_inner_texts()} == {"85"}
    assert "track 85" in page.inner_text("#trend")
    chosen(page, SHORT)
    page.go_back()
    page.wait_for_function("() => document.querySelector('#lake-name').textContent === 'Tsho Rolpa'")
    page.wait_for_selector("#content:not([hidden])")
    assert (marked(page)[0], page.input_value("#track")) == (wanted["time"], "85")


def test_chart(visit: Open) -> None:
    """Every pass is drawn; tracks and states have their own shapes, gaps stay gaps, what is hovered is told."""
    page = visit(f"#lake={DECADE}&track=121")
    mine = [one for one in made_up_lakes.passes(DECADE) if one["track"] == 121]
    known = [one for one in mine if one["area_km2"] is not None]
    drawn = page.locator("#chart path.marker").evaluate_all("all => all.map(one => one.getAttribute('d'))")
    assert sum(path.count("M") for path in drawn) == len(known)
    crosses = page.locator("#chart path.missing").get_attribute("d")
    assert crosses.count("M") == len(mine) - len(known) > 0
    # 24 days lie between two passes, twice the repeat: no two of them are joined.
    assert "L" not in page.locator("#chart path.line").get_attribute("d")
    chart = page.locator("#chart").bounding_box()
    page.mouse.move(chart["x"] + chart["width"] / 2, chart["y"] + chart["height"] / 2)
    told = page.inner_text("#readout")
    assert "track 121" in told
    assert told != page.get_attribute("#date", "aria-valuetext") + "."
    page.select_option("#track", "")
    page.wait_for_function("() => document.querySelectorAll('#chart path.line').length === 3")
    shapes = page.locator("#legend path.marker").evaluate_all(
        "all => all.map(one => one.getAttribute('d') + one.className.baseVal)"
    )
    assert len(set(shapes)) == len(shapes)
    # No pass was used in winter: a line for each year.
    assert page.locator("#chart path.fused").get_attribute("d").count("M") == 10
    page.uncheck("#surfaces")
    assert page.locator("#chart path.marker.ice").count() == 0
    page.select_option("#period", "366")
    labels = page.locator("#chart .axes text").all_text_contents()
    assert {"Jan", "Apr", "Jul", "Oct"} & {*labels}


def test_what_is_not_known_is_said(visit: Open) -> None:
    """In words, with the reason: never an empty chart."""
    page = visit(f"#lake={NOTHING}")
    assert page.inner_text("#chart-message") == "Not known: the area; no pass over this lake has been processed yet."
    assert page.is_hidden("#chart")
    assert page.inner_text("#facts").lower().count("not known") == 2
    assert "Nothing yet" in page.inner_text("#downloads")
    assert page.inner_text("#image-words") == "Not known: an image; there is no pass."
    assert page.is_hidden("#date")
    assert "Not known: the seasons" in page.inner_text("#seasons")
    assert page.inner_text("#alerts") == "None, now or before."
    chosen(page, SHORT)
    assert f"Not known: fused series; {REASON}" in page.inner_text("#unknown")
    assert page.inner_text("#trend").startswith(
        "Not known: the trend of the seasons\u2019 median (track 121, 3 seasons)"
    )
    assert page.locator("#chart path.trend").count() == 0


def test_alerts(visit: Open) -> None:
    """The badge in the list, what happened, whether somebody has seen it, the warning in CAP."""
    page = visit()
    assert page.inner_text(f"#lakes [data-lake={DECADE}] .badge") == "1 alert"
    first, second = page.locator("#alerts li").all_inner_texts()
    assert "The lake shrank: 1.370\xa0km² where 1.590\xa0km² was expected (\u221213.8\xa0%)" in first
    assert "not acknowledged" in first
    assert "acknowledged 25 Jul" in second
    assert page.locator("#alerts a").first.get_attribute("href") == f"alerts/{ALERT}.cap"


def test_keyboard_alone(visit: Open) -> None:
    """Tab comes to everything, its focus can be seen, and lakes are chosen with Enter."""
    page = visit()
    page.wait_for_selector(".maplibregl-canvas")
    reached = []
    for _ in range(60):
        page.keyboard.press("Tab")
        told, outline, shadow = page.evaluate(FOCUS)
        if told == "BODY":
            break
        reached.append(told)
        assert (outline, shadow) != ("none", "none"), told
    wanted = {"theme", "track", "period", "date", "previous", "intervals", "layer", "before", "share", DECADE, SHORT}
    assert wanted <= {*reached}
    page.focus(f"#lakes [data-lake={SHORT}]")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.activeElement.id === 'lake-name'")
    assert page.inner_text("#lake-name").startswith("Gokyo")
    page.focus("#share")
    page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.querySelector('.frame').style.getPropertyValue('--share')") == "51%"


def test_phone(visit: Open) -> None:
    """No lake is wider than 360 pixels."""
    page = visit(viewport=PHONE)
    for lake in (DECADE, SHORT, NOTHING):
        chosen(page, lake)
        assert page.evaluate("() => document.documentElement.scrollWidth") == 360


def test_theme_stays(visit: Open) -> None:
    """As the system has it, until somebody chooses; the choice stays."""
    page = visit(color_scheme="dark")
    ground = "() => getComputedStyle(document.body).backgroundColor"
    dark = page.evaluate(ground)
    page.click("#theme")
    light = page.evaluate(ground)
    page.reload()
    assert page.evaluate(ground) == light != dark


def test_without_webgl(visit: Open) -> None:
    """The list is there, and it is said why the map isn't."""
    page = visit()
    page.add_init_script("HTMLCanvasElement.prototype.getContext = () => null")
    page.reload()
    page.wait_for_selector("#map-message:not([hidden])")
    assert "no WebGL" in page.inner_text("#map-message")
    assert page.locator("#lakes button").count() == 3


def test_basemap(visit: Open, lakes: str) -> None:
    """Only where the service names one; with its attribution."""
    page = visit()
    page.wait_for_selector(".maplibregl-canvas")
    assert page.locator(".maplibregl-ctrl-attrib").count() == 0
    listed = json.loads(made_up_lakes.answer("lakes")[2])
    basemap = {"url": f"{lakes}tiles/{{z}}/{{x}}/{{y}}.png", "attribution": "Made up"}
    tile = made_up_lakes.image(DECADE, "tile", "vv", 256)
    page.route("**/lakes", lambda route: route.fulfill(json={**listed, "basemap": basemap}))
    page.route("**/tiles/**", lambda route: route.fulfill(body=tile, content_type="image/png"))
    with page.expect_response("**/tiles/*/*/*.png"):
        page.reload()
    page.wait_for_selector(".maplibregl-ctrl-attrib")
    assert "Made up" in page.locator(".maplibregl-ctrl-attrib").text_content()


def test_new_data_disturb_nobody(visit: Open) -> None:
    """A new release comes in by itself: the pass, the place of the focus and what is open stay, and it is announced."""
    page = visit(before=lambda page: page.clock.install())
    page.focus("#date")
    page.keyboard.press("ArrowLeft")
    chosen_pass = marked(page)[0]
    listed = json.loads(made_up_lakes.answer("lakes")[2])
    listed["lakes"][0] |= {"release": {"id": "another", "created": "2025-10-02T00:00:00Z"}, "open_alerts": 2}
    page.route("**/lakes", lambda route: route.fulfill(json=listed))
    page.clock.run_for(6 * 60_000)
    page.wait_for_function("() => document.querySelector('#lakes .badge').textContent === '2 alerts'")
    page.clock.run_for(1000)
    page.wait_for_function("() => document.querySelector('#live').textContent === 'New data of Tsho Rolpa.'")
    assert marked(page)[0] == chosen_pass
    assert page.evaluate("() => document.activeElement.id") == "date"


@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_axe_finds_nothing_serious(visit: Open, look: str) -> None:
    """Of WCAG 2.2 AA and axe's best practices; of the lake that has everything and of the one that has nothing."""
    if not AXE.is_file():
        pytest.skip("axe-core isn't installed; run npm ci in web/")
    page = visit(viewport=PHONE if look == "phone" else DESKTOP, color_scheme="dark" if look == "dark" else "light")
    page.wait_for_selector(".maplibregl-canvas")
    settled(page, marked(page)[0])
    page.evaluate(AXE.read_text(encoding="utf-8"))
    for lake in (DECADE, NOTHING) if look == "light" else (DECADE,):
        chosen(page, lake)
        found = page.evaluate("() => axe.run(document)")
        grave = [one for one in found["violations"] if one["impact"] in {"serious", "critical", "moderate"}]
        assert not grave, json.dumps([(one["id"], [node["html"] for node in one["nodes"]]) for one in grave], indent=1)
        assert len(found["passes"]) > 20


@contextmanager
def own_app(study: Any) -> Iterator[str]:
    """Cubekit's own server."""
    uvicorn = pytest.importorskip("uvicorn", reason="the extra cubekit[service] isn't installed")
    from cubekit.service.api import create_app

    server = uvicorn.Server(uvicorn.Config(create_app(study), port=0, log_level="error", ws="none"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive()
        time.sleep(0.02)
    yield f"http://127.0.0.1:{server.servers[0].sockets[0].getsockname()[1]}/"
    server.should_exit = True
    thread.join()


def test_own_service(visit: Open, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Over what cubekit watched and serves: lake, date, chart, image of its cube, and the batch job's own CSV."""
    served = serving.shared(tmp_path_factory)
    with own_app(served.study) as address:
        page = visit(address=address)
        chosen(page, "gokyo")
        assert "Not known" in page.inner_text("#chart-message")
        chosen(page, "tsho_rolpa")
        before, _ = marked(page)
        first = settled(page, before)
        page.focus("#date")
        page.keyboard.press("Home")
        after, _ = marked(page)
        assert (after, before) == ("2020-07-14T00:11:35Z", "2021-08-02T00:11:35Z")
        assert settled(page, after) != first
        assert "The lake shrank" in page.inner_text("#alerts")
        with page.expect_download() as download:
            page.click("#downloads a[download$='.csv']")
        release = served.study.study.out / served.releases[1].folder
        rows = (release / "series" / "opera" / "areas.csv").read_bytes()
        assert Path(download.value.path()).read_bytes() == rows
        # Every other file that is offered is there, too: `visit` would tell of a 404.
        for link in page.locator("#downloads a, #alerts a").all():
            assert page.request.get(address + link.get_attribute("href")).ok
        page.goto("about:blank")


def test_files_are_what_the_sources_give(tmp_path: Path) -> None:
    """The page that is shipped is the one of web/, byte by byte."""
    node = shutil.which("node")
    if node is None or not (WEB / "node_modules" / "esbuild").is_dir():
        pytest.skip("node or the page's packages are absent; run npm ci in web/")
    subprocess.run([node, WEB / "build.js", tmp_path], check=True, capture_output=True, timeout=60)
    assert {one.name: one.read_bytes() for one in tmp_path.iterdir()} == {
        one.name: one.read_bytes() for one in PAGES.iterdir()
    }


def test_shipped_files() -> None:
    """All of them are there, in less than 2 MB, with their licences; nothing is inline or from elsewhere."""
    files = {one.name: one.stat().st_size for one in PAGES.iterdir()}
    assert set(files) == {
        "index.html", "app.js", "app.css", "icon.svg", "maplibre-gl.js", "maplibre-gl-worker.js", "NOTICE.txt"
    }  # fmt: skip
    assert sum(files.values()) < 2e6
    html = (PAGES / "index.html").read_text(encoding="utf-8")
    assert not [word for word in ("style=", "<style", "onclick", "http:", "https:", "//") if word in html]
    notice = (PAGES / "NOTICE.txt").read_text(encoding="utf-8")
    assert "maplibre-gl" in notice
    assert notice.count("Copyright") > 15


@pytest.mark.skipif(not os.environ.get("CUBEKIT_SCREENSHOTS"), reason="CUBEKIT_SCREENSHOTS isn't set")
@pytest.mark.parametrize("look", ["light", "dark", "phone"])
def test_screenshots(visit: Open, look: str) -> None:
    """Takes the pictures of docs/images, of the service that CUBEKIT_SCREENSHOTS names, or of the made-up lakes."""
    from PIL import Image

    given = os.environ["CUBEKIT_SCREENSHOTS"]
    address = {"address": given} if given.startswith("http") else {}
    options = {"viewport": PHONE if look == "phone" else DESKTOP, "color_scheme": "dark" if look == "dark" else "light"}
    page = visit(f"#lake={DECADE}", **address, **options)
    page.wait_for_selector(".maplibregl-canvas")
    settled(page, marked(page)[0])
    page.wait_for_timeout(2000)
    target = IMAGES / f"service-{look}.png"
    height = PHONE["height"] * 2 if look == "phone" else 1560
    page.screenshot(
        path=target, full_page=True, clip={"x": 0, "y": 0, "width": options["viewport"]["width"], "height": height}
    )
    with Image.open(target) as picture:
        picture.convert("RGB").quantize(128, dither=Image.Dither.NONE).save(target, optimize=True)
    assert target.stat().st_size < 300_000
