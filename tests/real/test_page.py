"""
The page in a real browser: Chromium, headless, against a runtime in a process of its own.

Rule: everything is awaited, nothing is slept for, and no duration is asserted on; a slow machine is only slower.
Without Chromium these are skipped, unless CALLSHEET_REQUIRE_CHROMIUM=1 says that there must be one.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from attrs import define, field
from playwright.sync_api import Browser, ConsoleMessage, Locator, Page, expect, sync_playwright
from playwright.sync_api import TimeoutError as NotInTime

from .page_worker import EVIL, EVIL_ERROR

ROOT: Final = Path(__file__).parents[2]
CHROMIUM: Final = next(filter(None, map(shutil.which, ["chromium", "chromium-browser", "google-chrome"])), None)
REQUIRED: Final = os.environ.get("CALLSHEET_REQUIRE_CHROMIUM") == "1"
ARGUMENTS: Final = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
)
PATIENCE_MS: Final = 60_000


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """One Chromium with a fresh profile; each test has a context of its own in it."""
    if CHROMIUM is None:
        reason = "there is no Chromium on this machine (Debian: apt install chromium)"
        if REQUIRED:
            pytest.fail(f"{reason}, and CALLSHEET_REQUIRE_CHROMIUM=1 demands it")
        pytest.skip(reason)
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


@define(eq=False)
class Worker:
    """The other process."""

    folder: Path
    port: int = 0
    token: str = field(factory=lambda: secrets.token_hex(32))
    process: subprocess.Popen[str] = field(init=False)
    link: str = field(init=False)

    def start(self) -> None:
        """Start it, or start it again on the same port."""
        program = [sys.executable, "-W", "error", "-m", "tests.real.page_worker"]
        self.process = subprocess.Popen(
            [*program, str(self.folder / "jobs.db"), str(self.port), self.token],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.link = self.line()
        self.port = int(re.search(r":(\d+)/", self.link)[1])  # type: ignore[index]

    def line(self) -> str:
        """The next line that it prints."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline().strip()
        assert line, "the worker has ended"
        return line

    def tell(self, line: str) -> None:
        """Have it do something."""
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()

    def enqueue(self, task: str) -> str:
        """The id of the new run."""
        self.tell(f"enqueue {task}")
        return self.line()

    def kill(self) -> None:
        """As `kill -9` does."""
        self.process.kill()
        self.process.communicate()


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    """At work, with a monitor."""
    worker = Worker(tmp_path)
    try:
        worker.start()
        yield worker
    finally:
        worker.kill()


@define(eq=False)
class Visit:
    """A page, and everything that went wrong on it."""

    page: Page
    troubles: list[str] = field(factory=list)

    def __attrs_post_init__(self) -> None:
        self.page.set_default_timeout(PATIENCE_MS)
        self.page.on("console", lambda message: self._heard(message))  # noqa: PLW0108 -- it marks bound methods
        self.page.on("pageerror", lambda error: self.troubles.append(f"uncaught: {error}"))
        self.page.add_init_script(
            "addEventListener('securitypolicyviolation', (e) => console.error('CSP', e.violatedDirective, e.blockedURI))"
        )

    def _heard(self, message: ConsoleMessage) -> None:
        if message.type in ("error", "warning"):
            self.troubles.append(f"{message.type}: {message.text}")

    def open(self, link: str) -> None:
        """Follow the link, and wait until it is live."""
        self.page.goto(link)
        expect(self.page.locator("#link")).to_have_attribute("data-state", "live")

    def row(self, run_id: str) -> Locator:
        """Of the table."""
        return self.page.locator(f'tr[data-run="{run_id}"]')

    def status(self, run_id: str) -> Locator:
        """What its row says."""
        return self.row(run_id).locator(".badge")

    def result(self, text: str | re.Pattern[str]) -> Locator:
        """What an order came to."""
        return self.page.locator(".toast", has_text=text)


@pytest.fixture
def visit(browser: Browser) -> Iterator[Visit]:
    """A new visitor, without a history; nothing may go wrong."""
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    visit = Visit(context.new_page())
    yield visit
    context.close()
    assert visit.troubles == []


def test_the_tree_the_queues_and_a_run_are_seen_as_they_are(worker: Worker, visit: Visit) -> None:
    """A run appears, starts and succeeds before one's eyes, without a reload."""
    visit.open(worker.link)
    tree = visit.page.locator("#tree .name")
    for name in ("root", "scheduler", "journal", "calendar", "tasks", "test/page", "wait", "queues", "monitor"):
        expect(tree.get_by_text(name, exact=True)).to_have_count(1)
    queue = visit.page.locator("#queues li", has_text="test/page-jobs")
    expect(queue).to_contain_text("0 of 5 slots")

    run = worker.enqueue("wait")
    expect(visit.status(run)).to_have_text("running")
    expect(visit.row(run)).to_contain_text("1/5")
    expect(queue).to_contain_text("1 of 5 slots")
    expect(visit.page.locator("#tree li", has_text="wait")).to_contain_text("1 on stage")
    expect(visit.page.locator(".stat.running b")).to_have_text("1")

    worker.tell("release")
    expect(visit.status(run)).to_have_text("succeeded")
    expect(queue).to_contain_text("0 of 5 slots")
    expect(visit.page.locator(".stat.succeeded b")).to_have_text("1")


def test_the_secret_leaves_the_address_bar_and_outlives_a_reload(worker: Worker, visit: Visit) -> None:
    """It is kept for this tab only."""
    visit.open(worker.link)
    assert visit.page.url == f"http://127.0.0.1:{worker.port}/"
    assert worker.token not in visit.page.content()

    visit.page.reload()

    expect(visit.page.locator("#link")).to_have_attribute("data-state", "live")
    assert visit.page.evaluate("Object.keys(localStorage).length + document.cookie.length") == 0


def test_a_run_is_canceled_by_clicking(worker: Worker, visit: Visit) -> None:
    """The result is shown, the row follows, and what was running has stopped."""
    visit.open(worker.link)
    run = worker.enqueue("wait")
    expect(visit.status(run)).to_have_text("running")

    visit.row(run).get_by_role("button", name="Cancel").click()

    expect(visit.result("Canceled")).to_contain_text(run[-8:])
    expect(visit.status(run)).to_have_text("canceled")
    expect(visit.row(run)).to_contain_text("by the monitor")
    expect(visit.page.locator("#queues li", has_text="test/page-jobs")).to_contain_text("0 of 5 slots")


def test_a_run_is_replayed_by_clicking(worker: Worker, visit: Visit) -> None:
    """The result names the new run, whose row says where it came from."""
    visit.open(worker.link)
    run = worker.enqueue("fail")
    expect(visit.status(run)).to_have_text("dead lettered")
    expect(visit.row(run)).to_contain_text("no such address")

    visit.row(run).get_by_role("button", name="Replay").click()

    result = visit.result(f"Replayed …{run[-8:]} as")
    new = result.locator("button").get_attribute("title")
    assert new is not None
    assert new != run
    visit.page.locator("#runs-title").hover()  # rows do not move under the pointer
    expect(visit.row(new)).to_contain_text(f"replay of …{run[-8:]}")
    expect(visit.status(new)).to_have_text("dead lettered")


def test_details_open_by_keyboard(worker: Worker, visit: Visit) -> None:
    """Attempts, error and history; Escape closes them and the focus is where it was."""
    run = worker.enqueue("fail")
    visit.open(worker.link)
    expect(visit.status(run)).to_have_text("dead lettered")

    visit.row(run).locator("button.id").focus()
    visit.page.keyboard.press("Enter")
    drawer = visit.page.locator("#drawer")
    expect(drawer).to_contain_text(run)
    expect(drawer.locator(".attempts li")).to_have_count(1)
    expect(drawer.locator("pre")).to_contain_text("Discard: no such address")
    expect(drawer.locator(".history .badge")).to_have_text(["dead lettered", "running", "queued"])

    visit.page.keyboard.press("Escape")
    expect(drawer).to_be_hidden()
    assert visit.page.evaluate("document.activeElement.title") == run


def test_markup_in_names_and_errors_is_text(worker: Worker, visit: Visit) -> None:
    """W8: everywhere it is shown, nothing of it runs, and the policy had nothing to stop."""
    visit.open(worker.link)
    run = worker.enqueue("evil")
    name = EVIL.replace("/", "|")

    expect(visit.status(run)).to_have_text("dead lettered")
    expect(visit.row(run).locator(".task")).to_have_text(name)
    expect(visit.page.locator("#tree .name", has_text=name)).to_have_text(name)
    visit.row(run).locator("button.id").click()
    expect(visit.page.locator("#drawer .error").first).to_contain_text(
        "</td></title><script>window.stolen = 1</script>"
    )
    expect(visit.page.locator("#drawer pre")).to_contain_text(EVIL_ERROR[:60])

    assert visit.page.evaluate("window.stolen") is None
    assert visit.page.locator("main img, main script, aside img, aside script").count() == 0


def test_schedules_are_steered_and_looked_at(worker: Worker, visit: Visit) -> None:
    """There is no list before there are any; by mouse and by keyboard, and the result is shown with the run that it made."""
    visit.open(worker.link)
    panel = visit.page.locator("#schedules-panel")
    expect(visit.page.locator("#queues li").first).to_be_visible()
    expect(panel).to_be_hidden()
    worker.tell("schedule")
    hourly = panel.locator("#schedules > li", has_text="hourly")
    expect(hourly).to_contain_text("every 3600 s · fail")
    expect(hourly.locator(".badge")).to_have_text("on")
    expect(panel.locator("#schedules > li")).to_have_count(2)

    hourly.get_by_role("button", name="Pause").click()
    expect(visit.result("Paused hourly")).to_be_visible()
    expect(hourly.locator(".badge")).to_have_text("paused")
    hourly.get_by_role("button", name="Resume").focus()
    visit.page.keyboard.press("Enter")
    expect(hourly.locator(".badge")).to_have_text("on")
    assert "Pause schedule hourly" == visit.page.evaluate("document.activeElement.ariaLabel")

    hourly.get_by_role("button", name="Details").click()
    expect(hourly.locator(".times li")).to_have_count(5)
    hourly.get_by_role("button", name="Trigger").click()
    run = visit.result("Triggered hourly").locator("button").get_attribute("title")
    assert run is not None
    expect(hourly).to_contain_text("1 run · 0 skipped")
    expect(hourly.locator(".times").last).to_contain_text("triggered")
    worker.tell("schedule sooner")
    expect(visit.row(worker.enqueue("fail"))).to_be_visible()
    expect(panel.locator("#schedules > li")).to_have_count(2)  # nothing comes or moves under the pointer
    visit.page.locator("#runs-title").hover()
    expect(panel.locator("#schedules > li .name").first).to_have_text("sooner")
    expect(visit.status(run)).to_have_text("dead lettered")
    hourly.locator(".times button").click()
    expect(visit.page.locator("#drawer")).to_contain_text(run)


def test_markup_in_a_schedule_is_text(worker: Worker, visit: Visit) -> None:
    """W8: in its key and its task; its times are told by its own clocks and in UTC."""
    visit.open(worker.link)
    worker.tell("schedule")
    evil = visit.page.locator("#schedules > li", has_text="Europe/Berlin")
    expect(evil.locator(".name")).to_have_text(EVIL)
    expect(evil).to_contain_text(f"30 2 * * * in Europe/Berlin · {EVIL.replace('/', '|')}")
    expect(evil.locator(".facts")).to_have_attribute(
        "title", "2099-03-28 02:30:00+01:00 Europe/Berlin\n2099-03-28 01:30:00 UTC"
    )
    evil.get_by_role("button", name="Details").click()
    expect(evil.locator("h3").first).to_have_text("Next times, Europe/Berlin")
    expect(evil.locator(".times li").nth(1)).to_have_text("2099-03-29 03:00:00")
    evil.get_by_role("button", name="Pause").click()
    expect(visit.result("Paused")).to_contain_text(EVIL)

    assert visit.page.evaluate("window.stolen") is None
    assert visit.page.locator("main img, main script, .toast img, .toast script").count() == 0


def test_filters_find_by_status_and_by_text(worker: Worker, visit: Visit) -> None:
    """And say how many there are."""
    waiting, failed = worker.enqueue("wait"), worker.enqueue("fail")
    visit.open(worker.link)
    expect(visit.page.locator("tbody tr")).to_have_count(2)

    visit.page.locator(".stat.dead_lettered").click()
    expect(visit.page.locator("tbody tr")).to_have_count(1)
    expect(visit.row(failed)).to_be_visible()
    expect(visit.page.locator("#runs-note")).to_contain_text("1 of 1 dead lettered")
    visit.page.locator(".stat.dead_lettered").click()

    visit.page.keyboard.press("/")
    visit.page.keyboard.type("wait")
    expect(visit.page.locator("tbody tr")).to_have_count(1)
    expect(visit.row(waiting)).to_be_visible()
    visit.page.keyboard.type("$^.*")
    expect(visit.page.locator("#empty")).to_have_text("None of the recent runs matches.")


def test_the_table_stands_still_while_one_reads(worker: Worker, visit: Visit) -> None:
    """No row moves under the pointer, and none at all while it is paused; what came meanwhile is counted."""
    first = worker.enqueue("wait")
    visit.open(worker.link)
    visit.row(first).hover()

    second = worker.enqueue("wait")
    expect(visit.page.locator("#held")).to_have_text("1 new when you leave the table")
    expect(visit.row(second)).to_have_count(0)
    visit.page.locator("#runs-title").hover()
    expect(visit.row(second)).to_be_visible()

    visit.page.get_by_role("button", name="Pause").click()
    worker.tell("release")
    expect(visit.page.locator(".stat.succeeded b")).to_have_text("2")
    expect(visit.page.locator("#held")).to_contain_text("since")
    expect(visit.status(first)).to_have_text("running")
    visit.page.get_by_role("button", name="Resume").click()
    expect(visit.status(first)).to_have_text("succeeded")


def test_a_parked_task_stands_out(worker: Worker, visit: Visit) -> None:
    """With the reason, and its runs say what they wait for."""
    visit.open(worker.link)
    worker.tell("park")
    node = visit.page.locator("#tree li.loud")
    expect(node).to_contain_text("parked")
    expect(node).to_contain_text("AssertionError")
    expect(visit.page.locator("#tree-note")).to_have_text("1 needs attention")

    run = worker.enqueue("fail")

    expect(visit.row(run).locator("td.due")).to_have_text("parked")


def test_the_page_says_when_it_is_cut_off_and_comes_back_by_itself(worker: Worker, browser: Browser) -> None:
    """After `kill -9` of the runtime: greyed, with its age, buttons off; live again when the runtime is."""
    context = browser.new_context()
    visit = Visit(context.new_page())
    visit.open(worker.link)
    run = worker.enqueue("wait")
    expect(visit.status(run)).to_have_text("running")

    worker.kill()
    expect(visit.page.locator("#link")).to_have_attribute("data-state", "waiting")
    expect(visit.page.locator("#link")).to_contain_text(re.compile(r"Not connected, this is \d+ s old; next try"))
    expect(visit.page.locator("body")).to_have_class("old")
    expect(visit.row(run).locator("button.act")).to_be_disabled()

    worker.start()
    expect(visit.page.locator("#link")).to_have_attribute("data-state", "live")
    expect(visit.status(run)).to_have_text("running")
    expect(visit.row(run)).to_contain_text("2/5")
    expect(visit.row(run).locator("button.act")).to_be_enabled()
    context.close()
    assert [] == [each for each in visit.troubles if "ERR_CONNECTION_REFUSED" not in each]


def test_without_its_secret_the_page_asks_for_it(worker: Worker, visit: Visit) -> None:
    """It shows nothing, says why, and takes the link or the token."""
    visit.page.goto(f"http://127.0.0.1:{worker.port}/")
    expect(visit.page.locator("#login h1")).to_have_text("Open the link that the program printed")
    expect(visit.page.locator("main")).to_be_hidden()

    visit.page.fill("#login-token", "wrong" * 10)
    visit.page.keyboard.press("Enter")
    expect(visit.page.locator("#login h1")).to_have_text("This secret is not valid (any more)")
    visit.page.fill("#login-token", worker.link)
    visit.page.keyboard.press("Enter")

    expect(visit.page.locator("#link")).to_have_attribute("data-state", "live")
    expect(visit.page.locator("#login")).to_be_hidden()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 420])
def test_nothing_sticks_out_sideways(worker: Worker, browser: Browser, scheme: Any, width: int) -> None:
    """Readable in light and dark, on a desk and on a phone, with names that are far too long."""
    for task in ("wait", "fail", "evil"):
        worker.enqueue(task)
    worker.tell("schedule")
    context = browser.new_context(color_scheme=scheme, viewport={"width": width, "height": 800})
    visit = Visit(context.new_page())
    visit.open(worker.link)
    expect(visit.page.locator("tbody tr")).to_have_count(3)
    expect(visit.page.locator("tbody tr").first.locator("button.act")).to_be_in_viewport()

    visit.page.locator("#schedules").get_by_role("button", name="Details").first.click()
    expect(visit.page.locator("#schedules .times li")).to_have_count(5)
    assert visit.page.evaluate("document.documentElement.scrollWidth - innerWidth") <= 0
    schedules = visit.page.locator("#schedules")
    assert schedules.evaluate("(list) => list.scrollWidth - list.clientWidth") <= 0
    context.close()
    assert visit.troubles == []


def test_the_page_during_the_demonstration(browser: Browser) -> None:
    """The tree and a run that changes, through the worker's death; then one run is replayed and another is canceled."""
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "callsheet.cli",
        "demo",
        "--monitor",
        "--seed",
        "7",
        "--runs",
        "115",  # fewer than a snapshot has: the run that is watched is in sight whenever the page comes back
    ]
    environment = {**os.environ, "COLUMNS": "250", "PYTHONUNBUFFERED": "1"}
    with subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as demo:
        try:
            context = browser.new_context(viewport={"width": 1280, "height": 800})
            visit = Visit(context.new_page())
            visit.open(link_of(demo))
            watch_the_demonstration(visit)
            context.close()
        finally:
            demo.terminate()
            demo.communicate()
    assert [] == [each for each in visit.troubles if "ERR_CONNECTION_REFUSED" not in each]


def link_of(demo: subprocess.Popen[str]) -> str:
    """The link that the demonstration prints."""
    assert demo.stdout is not None
    said = ""
    for line in demo.stdout:
        said += line
        found = re.search(r"http://\S+/#token=\w+", line)
        if found is not None:
            return found[0]
    pytest.fail(said)


def watch_the_demonstration(visit: Visit) -> None:
    """What the page must show while it runs, and after."""
    page = visit.page
    expect(page.locator("#tree .name").get_by_text("deliver-webhook", exact=True)).to_have_count(1)
    boot = page.locator("#runtime").inner_text().split(" · ")[0]

    unfinished = page.locator(
        "tbody tr:has(.badge.running), tbody tr:has(.badge.queued), tbody tr:has(.badge.scheduled)"
    )
    run = unfinished.first.get_attribute("data-run")
    assert run is not None
    expect(visit.status(run)).to_have_text(re.compile("^(succeeded|dead lettered)$"))

    page.locator(".stat.dead_lettered").click()
    dead = page.locator("tbody tr:has(.badge.dead_lettered)", has_text="410").first
    dead.get_by_role("button", name="Replay").click()
    expect(visit.result("Replayed").first).to_be_visible()
    page.locator(".stat.dead_lettered").click()

    # one that is refused again and again is retried for some seconds: time enough to cancel it, or to try once more
    for _ in range(20):
        page.locator(".stat.dead_lettered").click()
        exhausted = page.locator("tbody tr", has_text="6 of 6 attempts spent").first
        exhausted.get_by_role("button", name="Replay").click()
        new = visit.result("Replayed").last.locator("button").get_attribute("title")
        page.locator(".stat.dead_lettered").click()
        assert new is not None
        try:
            visit.row(new).get_by_role("button", name="Cancel").click(timeout=2_000)
            expect(visit.result("Canceled")).to_be_visible(timeout=2_000)
        except (NotInTime, AssertionError):
            continue
        expect(visit.status(new)).to_have_text("canceled")
        break
    else:
        pytest.fail("no run could be canceled in time")
    expect(page.locator("#runtime")).not_to_contain_text(boot)  # it was killed and started again meanwhile
