"""The console in a real browser, on the scheduler as `make run` starts it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page, expect

from tests.acceptance.browser.conftest import Installation

pytestmark = [pytest.mark.processes, pytest.mark.browser]
SECONDS = 1000
PATIENCE = 30 * SECONDS


def _create_task(page: Page, name: str, command: str, schedule: str = "") -> None:
    page.goto("/tasks/new")
    page.get_by_label("Name", exact=True).fill(name)
    page.get_by_label("Command", exact=True).fill(command)
    page.get_by_label("Schedule", exact=True).fill(schedule)
    page.get_by_role("button", name="Create task").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)


def _create_calendar(page: Page, name: str) -> str:
    """The address of a new shared calendar that is open on Mondays."""
    page.goto("/calendars/new")
    page.get_by_label("Name", exact=True).fill(name)
    rules = '{"allowed": [{"kind": "weekly", "days": ["mon"], "from": "09:00", "to": "17:00"}]}'
    page.get_by_label("Rules", exact=True).fill(rules)
    expect(page.locator("#openings").get_by_role("listitem")).to_have_count(6)
    page.get_by_role("button", name="Create calendar").click()
    expect(page.get_by_role("heading", level=1)).to_have_text(name)
    return page.url


def test_a_task_is_created_run_and_its_output_read(page: Page):
    _create_task(
        page, "greet", "echo one; sleep 2; printf '\\033[31mtwo\\033[0m <b>raw</b>\\n' >&2; echo '{\"sum\": 3}'"
    )
    page.get_by_role("button", name="Run now").click()
    page.wait_for_url(re.compile(r"/runs/\d+/$"))
    log = page.get_by_role("list", name="Output")
    expect(log).to_contain_text("one", timeout=PATIENCE)
    expect(page.locator("#region .path [aria-current=step]")).to_have_text(re.compile("succeeded"), timeout=PATIENCE)
    expect(log.locator("li.stderr .sgr-red")).to_have_text("two", timeout=PATIENCE)
    expect(log).to_contain_text("<b>raw</b>")
    expect(log).to_contain_text("End of the output of attempt 1.")
    expect(page.get_by_role("button", name="Run again")).to_be_visible()
    expect(page.locator("#region")).not_to_have_attribute("hx-trigger", re.compile(".*"))


def test_a_running_run_is_cancelled_after_a_confirmation_that_names_it(page: Page):
    _create_task(page, "sleeper", "echo asleep; sleep 300")
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("list", name="Output")).to_contain_text("asleep", timeout=PATIENCE)
    page.get_by_role("button", name="Cancel").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("of sleeper?")
    dialog.get_by_role("button", name="Back").click()
    expect(dialog).to_be_hidden()
    page.get_by_role("button", name="Cancel").click()
    dialog.get_by_role("button", name="Cancel run").click()
    expect(page.locator("#region .path [aria-current=step]")).to_have_text(re.compile("cancelled"), timeout=PATIENCE)


def test_a_run_that_is_started_elsewhere_appears_by_itself_and_not_while_paused(page: Page, installation: Installation):
    _create_task(page, "elsewhere", "true")
    page.goto("/runs/?task_name=elsewhere")
    expect(page.get_by_text("No run matches")).to_be_visible()
    page.keyboard.press("Space")
    expect(page.get_by_role("button", name="Paused")).to_be_visible()
    installation.manage("trigger_task", "elsewhere", "--wait")
    with page.expect_event("console", lambda message: message.text == "waited", timeout=PATIENCE):
        page.evaluate("setTimeout(() => console.log('waited'), 4500)")
    expect(page.get_by_text("No run matches")).to_be_visible()
    page.keyboard.press("Space")
    expect(page.get_by_role("row").filter(has_text="elsewhere")).to_contain_text("succeeded", timeout=PATIENCE)


def test_an_unchanged_region_is_answered_with_304(page: Page):
    page.goto("/tasks/")
    with page.expect_response(lambda response: response.status == 304, timeout=PATIENCE) as answered:
        pass
    assert answered.value.request.headers["hx-ptag"]


def test_the_cron_preview_follows_what_is_typed(page: Page):
    page.goto("/tasks/new")
    schedule = page.get_by_label("Schedule", exact=True)
    schedule.press_sequentially("30 2 * * *")
    preview = page.locator("#fires")
    expect(preview.get_by_role("listitem")).to_have_count(5)
    expect(preview).to_contain_text("minute 30, hour 2")
    schedule.fill("99 2 * * *")
    expect(preview.locator(".field-error")).to_be_visible()
    expect(preview.get_by_role("listitem")).to_have_count(0)


def test_a_filter_that_is_typed_is_kept_in_the_address(page: Page):
    _create_task(page, "needle", "true")
    _create_task(page, "haystack", "true")
    page.goto("/tasks/")
    page.keyboard.press("/")
    page.keyboard.type("need")
    expect(page.get_by_role("link", name="haystack")).to_have_count(0)
    expect(page.get_by_role("link", name="needle")).to_be_visible()
    page.wait_for_url("**/tasks/?name=need")
    page.reload()
    expect(page.get_by_role("searchbox")).to_have_value("need")
    expect(page.get_by_role("link", name="haystack")).to_have_count(0)


def test_every_further_filter_is_answered_typed_or_selected(page: Page):
    for name in ("sieve fine", "sieve coarse"):
        _create_task(page, name, "true")
    page.get_by_role("button", name="Run now").click()
    page.wait_for_url(re.compile(r"/runs/\d+/$"))
    page.goto("/runs/?task_name=sieve")
    rows = page.locator("#region tbody tr")
    search = page.get_by_role("searchbox")
    expect(rows).to_have_count(1)
    for typed, count in (("sieve f", 0), ("sieve c", 1), ("sieve x", 0), ("sieve", 1)):
        search.fill(typed)
        expect(rows).to_have_count(count)
    for kind, count in (("scheduled", 0), ("manual", 1)):
        page.get_by_label("Type").select_option(kind)
        expect(rows).to_have_count(count)
        page.wait_for_url(f"**/runs/?task_name=sieve&run_type={kind}")


def test_keys_move_between_pages_and_rows_and_change_the_theme(page: Page):
    _create_task(page, "keyed", "true")
    page.keyboard.press("g")
    page.keyboard.press("t")
    page.wait_for_url("**/tasks/")
    page.keyboard.press("j")
    page.keyboard.press("Enter")
    page.wait_for_url(re.compile(r"/tasks/\d+/$"))
    page.keyboard.press("?")
    expect(page.get_by_role("dialog", name="Keys")).to_be_visible()
    page.keyboard.press("Escape")
    page.keyboard.press("t")
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")
    page.reload()
    expect(page.locator("html")).to_have_attribute("data-theme", "dark")


def test_a_session_that_has_ended_leads_the_polling_page_to_sign_in(page: Page):
    page.goto("/runs/?state=failed")
    page.context.clear_cookies(name="sessionid")
    page.wait_for_url(re.compile(r"/sign-in/\?next=%2Fruns%2F%3Fstate%3Dfailed$"), timeout=PATIENCE)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_no_page_has_an_accessibility_fault_or_is_wider_than_the_screen(
    sign_in: Callable[..., Page], scheme: str, width: int
):
    page = sign_in(width=width, color_scheme=scheme)
    above = f"above {scheme} {width}"
    _create_task(page, above, "true")
    _create_task(
        page, f"seen {scheme} {width} with a name that is long enough to be cut somewhere", "echo hi", "0 2 * * *"
    )
    task = page.url
    page.get_by_role("link", name="Add upstream").click()
    page.get_by_label("Its name").fill(above)
    page.get_by_label("Condition").fill("state == 'succeeded'")
    page.get_by_role("button", name="Save").click()
    page.wait_for_url(task)
    page.get_by_role("link", name="Edit the dependency").click()
    edge = page.url
    page.goto(task)
    page.get_by_role("button", name="Run now").click()
    page.wait_for_url(re.compile(r"/runs/\d+/$"))
    expect(page.locator("#region .path [aria-current=step]")).to_have_text(re.compile("succeeded"), timeout=PATIENCE)
    pages = [
        "/",
        "/runs/",
        page.url,
        "/tasks/",
        task,
        f"{task}edit",
        f"{task}schedules/new",
        f"{task}dependencies/new",
        edge,
        "/tasks/new",
        "/workers/",
        "/workers/keys/",
    ]
    pages += ["/calendars/", "/calendars/new", _create_calendar(page, f"office {scheme} {width}")]
    for address in pages:
        page.goto(address)
        found = Axe().run(page)
        assert found.violations_count == 0, f"{address}: {found.generate_report()}"
        excess = page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth")
        assert excess <= 0, f"{address} is {excess} px wider than {width} px"


def test_the_pages_work_without_script(sign_in: Callable[..., Page]):
    page = sign_in(java_script_enabled=False, width=390)
    page.get_by_role("button", name="Menu").click()
    page.get_by_role("navigation", name="Pages").get_by_role("link", name="Tasks").click()
    expect(page.get_by_role("heading", level=1)).to_have_text("Tasks")
    page.get_by_role("link", name="New task").click()
    page.get_by_label("Name", exact=True).fill("plain")
    page.get_by_label("Command", exact=True).fill("true")
    page.get_by_role("button", name="Create task").click()
    page.get_by_role("button", name="Run now").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("plain")
