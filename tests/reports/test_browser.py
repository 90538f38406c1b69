"""The page in a real browser: Chromium, headless, with what CI hosts forbid forbidden."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import tarfile
import threading
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("google-chrome")
STRICT_POLICY = "default-src 'none'; style-src 'unsafe-inline'; form-action 'none'; base-uri 'none'"
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--enable-logging=stderr",
    "--virtual-time-budget=20000",
)
DARK, LIGHT = 0, 1
PAGES = ["full_page", "hostile_page", "trend_page"]
AND_MANY = [*PAGES, "two_hundred", "long_trend_page"]

pytestmark = [
    pytest.mark.long,
    pytest.mark.browser,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine"),
]


@pytest.fixture
def browse(tmp_path):
    """Load a page; return what was asked to be printed and what the console said."""

    def load(url, *flags, scripts=True):
        profile = tmp_path / f"profile-{scripts}"
        settings = {
            "profile": {"default_content_setting_values": {"javascript": 1 + (not scripts)}}
        }
        (profile / "Default").mkdir(parents=True, exist_ok=True)
        (profile / "Default" / "Preferences").write_text(json.dumps(settings))
        command = [CHROMIUM, *FLAGS, f"--user-data-dir={profile}", *flags, url]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
        return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]

    return load


@pytest.fixture
def probe(browse, tmp_path):
    """Run a script in a page and return the JSON that its last expression resolves to."""

    def run(page, script, *flags):
        file = tmp_path / "probed.html"
        tail = (
            "<script>(async () => { const found = await (async () => {" + script + "})();"
            "const out = document.createElement('pre'); out.id = 'probe';"
            "out.textContent = JSON.stringify(found); document.body.append(out); })()</script>"
        )
        file.write_text(page.replace("</body>", f"{tail}</body>"), encoding="utf-8")
        dom, _ = browse(file.as_uri(), "--dump-dom", *flags)
        return json.loads(html.unescape(re.search(r'<pre id="probe">(.*?)</pre>', dom, re.S)[1]))

    return run


@pytest.fixture
def framed():
    """A script for `probe` that runs another one on a page in a frame, all its folds open."""

    def script(page, width, inner):
        text = json.dumps(page).replace("</", "<\\/")
        return f"""
            const frame = document.createElement('iframe');
            frame.style.cssText = 'width: {width}px; height: 900px; border: 0';
            const loaded = new Promise(resolve => frame.onload = resolve);
            frame.srcdoc = {text};
            document.body.append(frame);
            await loaded;
            const inside = frame.contentDocument;
            inside.querySelectorAll('details').forEach(each => each.open = true);
            {inner}
        """

    return script


@pytest.fixture
def server():
    """Serve one page, under a policy if one is set; note every request."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self):
            requests.append(self.path)
            self.send_response(200)
            if httpd.policy:
                self.send_header("Content-Security-Policy", httpd.policy)
            self.send_header("Cache-Control", "no-store")
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(httpd.page.encode())

        def log_message(self, *_):
            pass

    requests = []
    httpd = HTTPServer(("127.0.0.1", 0), Handler)
    httpd.requests, httpd.policy = requests, None
    thread = threading.Thread(target=httpd.serve_forever)
    thread.start()
    yield httpd
    httpd.shutdown()
    thread.join()
    httpd.server_close()


@pytest.fixture(scope="session")
def axe(tmp_path_factory):
    """The source of axe-core, from npm."""
    if not shutil.which("npm"):
        pytest.skip("axe-core comes from npm, and there is no npm on this machine")
    folder = tmp_path_factory.mktemp("axe")
    command = ["npm", "pack", "axe-core@4", "--silent"]
    try:
        subprocess.run(command, cwd=folder, capture_output=True, timeout=60, check=True)
    except subprocess.SubprocessError:
        pytest.skip("npm cannot fetch axe-core here")
    (archive,) = folder.glob("*.tgz")
    with tarfile.open(archive) as files:
        return files.extractfile("package/axe.min.js").read().decode()


@pytest.fixture
def screenshot(browse, server, tmp_path):
    """The picture of the served page, and what the console said meanwhile."""

    def take(*, scripts):
        picture = tmp_path / f"page-{scripts}.png"
        flags = (f"--screenshot={picture}", "--window-size=1024,6000")
        url = f"http://127.0.0.1:{server.server_port}/"
        _, console = browse(url, *flags, scripts=scripts)
        return picture.read_bytes(), console

    return take


@pytest.mark.parametrize("page", PAGES)
def test_it_looks_the_same_without_scripts_and_under_a_strict_policy(
    screenshot, server, request, page
):
    server.page = request.getfixturevalue(page)
    free, _ = screenshot(scripts=True)
    server.requests.clear()
    server.policy = STRICT_POLICY
    strict, console = screenshot(scripts=False)
    assert strict == free
    assert console == []
    assert server.requests == ["/"]


def test_a_page_that_breaks_the_policy_is_noticed(screenshot, server):
    server.page = "<style>body { background: url(/image) }</style>"
    screenshot(scripts=True)
    assert "/image" in server.requests
    server.policy = STRICT_POLICY
    _, console = screenshot(scripts=True)
    assert console


def test_a_page_that_needs_scripts_is_noticed(screenshot, server):
    server.page = "<body><script>document.body.append('content')</script></body>"
    assert screenshot(scripts=True)[0] != screenshot(scripts=False)[0]


@pytest.mark.parametrize("page", AND_MANY)
def test_nothing_overflows_from_phone_to_wide_screen(probe, request, page):
    text = json.dumps(request.getfixturevalue(page)).replace("</", "<\\/")
    script = f"""
        const page = {text};
        const widths = [360, 1024, 1920];
        const loaded = widths.map(width => new Promise(resolve => {{
            const frame = document.createElement('iframe');
            frame.style.cssText = `width: ${{width}}px; height: 900px; border: 0`;
            frame.onload = () => resolve(frame);
            frame.srcdoc = page;
            document.body.append(frame);
        }}));
        const found = [];
        for (const frame of await Promise.all(loaded)) {{
            const inside = frame.contentDocument;
            inside.querySelectorAll('details').forEach(each => each.open = true);
            const root = inside.documentElement;
            found.push([root.clientWidth, root.scrollWidth]);
        }}
        return found;
    """
    sizes = probe("<!doctype html><body></body>", script)
    assert [width > 340 for width, _ in sizes] == [True] * 3
    assert [wide for wide, scrolled in sizes if scrolled > wide] == []


def test_on_a_phone_the_heading_is_short_and_no_table_is_cut(probe, framed, full_page):
    script = """
        const heading = inside.querySelector('h1');
        const lines = heading.offsetHeight / parseFloat(getComputedStyle(heading).lineHeight);
        const shown = each => each.offsetHeight > 0;
        const cells = [...inside.querySelectorAll('#all-budgets tbody tr')].map(
            row => [...row.cells].filter(shown).map(cell => cell.textContent.trim().slice(-18)));
        const wide = [...inside.querySelectorAll('.scroll, .rows')]
            .filter(each => each.scrollWidth > each.clientWidth && !each.closest('details'));
        return [Math.round(lines), cells[0].slice(-2), wide.map(each => each.textContent)];
    """
    script = script.replace("</", "<\\/")
    lines, cells, wide = probe("<!doctype html><body></body>", framed(full_page, 390, script))
    assert lines <= 3
    assert cells == ["49.336 GFLOP", "✕ +0.9 %"]
    assert wide == []


def test_the_filter_shows_the_budgets_whose_name_has_the_words(probe, framed, two_hundred):
    script = """
        const box = inside.querySelector('input[type=search]');
        const shown = () => [...inside.querySelectorAll('#all-budgets tbody tr, .line')]
            .filter(each => each.checkVisibility())
            .map(each => each.querySelector('a, b').textContent);
        const found = [shown().length];
        for (const words of ['Budget-12', 'nothing', '']) {
            box.value = words;
            box.dispatchEvent(new Event('input'));
            found.push(shown());
        }
        return [...found, inside.querySelectorAll('.file[open]').length];
    """
    page, script = "<!doctype html><body></body>", framed(two_hundred, 1280, script)
    every, some, none, again, opened = probe(page, script)
    assert every == 200
    assert sorted(some) == [f"budget-{number}" for number in range(120, 130)]
    assert none == []
    assert len(again) == 12
    assert opened == 0


def test_on_a_phone_every_name_of_a_flame_graph_is_whole(probe, framed, full_page):
    script = """
        const spans = [...inside.querySelectorAll('.flame span')];
        const whole = span => span.offsetHeight && span.scrollWidth <= span.clientWidth;
        return [spans.length, spans.filter(whole).length];
    """
    boxes, whole = probe("<!doctype html><body></body>", framed(full_page, 390, script))
    assert boxes == whole > 20


def test_a_click_on_a_box_widens_it_and_one_above_goes_back(probe, framed, full_page):
    script = """
        const label = name => [...inside.querySelectorAll('.flame')[1].querySelectorAll('label')]
            .find(each => each.textContent.trim().startsWith(name));
        const width = name => Math.round(label(name).getBoundingClientRect().width);
        const widths = [];
        for (const name of ['everything', 'layer_0..3', 'everything']) {
            label(name).click();
            widths.push(['everything', 'lm_head', 'layer_0..3', 'moe'].map(width));
        }
        return widths;
    """
    before, zoomed, after = probe("<!doctype html><body></body>", framed(full_page, 1280, script))
    assert before == after
    whole, _, layers, inside = before
    # The layers are 1,670,728,552 of 48,917,969,080; of a layer, 411,663,420 of 417,682,138 is moe.
    assert layers == pytest.approx(whole * 0.03415, abs=3)
    assert inside == pytest.approx(layers * 0.98559, abs=3)
    assert zoomed == [whole, 0, pytest.approx(whole, abs=3), pytest.approx(whole * 0.98559, abs=3)]


@pytest.mark.parametrize("scheme", [DARK, LIGHT], ids=["dark", "light"])
@pytest.mark.parametrize("page", AND_MANY)
def test_axe_finds_no_violation(probe, axe, request, page, scheme):
    script = (
        "document.querySelectorAll('details').forEach(each => each.open = true);"
        "const dark = matchMedia('(prefers-color-scheme: dark)').matches;"
        "const found = await axe.run(document, {resultTypes: ['violations']});"
        "return [dark, found.violations.map(v => [v.id, v.nodes.map(n => n.html.slice(0, 200))])];"
    )
    text = request.getfixturevalue(page).replace("</body>", f"<script>{axe}</script></body>")
    dark, violations = probe(text, script, f"--blink-settings=preferredColorScheme={scheme}")
    assert dark == (scheme == DARK)
    assert violations == []
