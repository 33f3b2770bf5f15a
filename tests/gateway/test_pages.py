"""The pages in a real browser: labeling by keyboard and by hand, what is not sent yet, votes, and what people are told."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Callable
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from playwright.async_api import Browser, expect

from perdure.config import Settings
from perdure.labeling.ports import NewTask
from perdure.messages.labeling import CampaignCommand
from perdure.metadata.database import Database
from perdure.metadata.repository import CampaignRows
from tests.gateway.browsing import PHONE, chromium, link, needs_chromium, person
from tests.gateway.serving import Process, serving
from tests.gateway.test_approvals import Asked
from tests.gateway.world import Senders
from tests.servers import Stack

pytestmark = needs_chromium
Open = Callable[..., str]
IMAGE = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' width='40' height='30'%3E%3C/svg%3E"


@pytest.fixture(scope="module")
def process(stack: Stack, migrated: Settings) -> Any:
    with serving(stack, migrated) as started:
        yield started


@pytest_asyncio.fixture(scope="module")
async def browser() -> AsyncIterator[Browser]:
    async with chromium() as opened:
        yield opened


@pytest.fixture
def opened(database: Database) -> Open:
    """Opens a campaign with these payloads, named t0 and so on; its name."""

    def open(*payloads: Any, prediction: Any = None, **spec: Any) -> str:
        name, rows = f"p{uuid4().hex[:8]}", CampaignRows(database)
        full = {"question": "Is it spam?", "choices": ["ham", "spam"], "gold": {"rate": 0}, **spec}
        row = rows.open(name, full, f"campaign/{name}", "owner")
        tasks = [NewTask(key=f"t{n}", payload=each, prediction=prediction, priority=-n) for n, each in enumerate(payloads)]
        rows.put_tasks(row.id, tasks)
        return name

    return open


def texts(count: int) -> list[dict[str, str]]:
    return [{"text": f"Message {n}"} for n in range(count)]


async def test_five_tasks_by_keyboard_alone(browser: Browser, process: Process, database: Database, opened: Open, senders: Senders) -> None:
    campaign = opened(*texts(7), overlap={"labels": 1, "most": 3})
    async with person(browser, process.url, database, "kim", "label") as kim:
        await expect(kim.page.get_by_text("7 waiting for you")).to_be_visible()
        await kim.work_on(campaign)
        assert [await kim.answer("2", "Enter") for _ in range(5)] == ["t0", "t1", "t2", "t3", "t4"]
        await kim.all_sent()
        assert senders.statuses(campaign) == {f"t{n}": ["valid"] for n in range(5)}

        await kim.press("u")  # takes t4 back
        assert await kim.task() == "t4"
        await expect(kim.page.get_by_role("radio", name="spam")).to_be_checked()
        await kim.all_sent()
        assert senders.statuses(campaign)["t4"] == ["deleted", "deleted"]
        assert senders.counted(campaign)["t4"] == 0
        await kim.answer("1", "Enter")

        await kim.press("s", "2", "Enter")  # the second reason
        await kim.says("Skipped: broken or empty")
        assert await kim.task() == "t6"
        await kim.press("Enter")
        await kim.says("Choose an answer first")
        await kim.press("?")
        await expect(kim.page.get_by_role("dialog", name="Keys")).to_be_visible()
        await kim.press("Escape", "1", "Enter")
        await expect(kim.page.locator("#work")).to_contain_text("Nothing is waiting for you")
        await kim.all_sent()
    said = "select k.key, a.value, a.reason, a.source, a.duration_ms >= 0 from annotation a join task k on k.id = a.task_id"
    rows = senders.rows(
        f"{said} join campaign c on c.id = k.campaign_id where c.name = :c and a.status <> 'deleted' order by 1", c=campaign
    )
    assert rows == [
        *((f"t{n}", "spam", None, "page:kim", True) for n in range(4)),
        ("t4", "ham", None, "page:kim", True),
        ("t5", None, "broken or empty", "page:kim", True),
        ("t6", "ham", None, "page:kim", True),
    ]


async def test_every_kind_of_task_on_a_phone(
    browser: Browser, process: Process, database: Database, opened: Open, senders: Senders
) -> None:
    shown = [
        opened({"image": IMAGE, "camera": "north"}, {"image": "http://elsewhere.example/x.png"}, shows="image"),
        opened({"income": 42_000, "purpose": "a car"}, shows="row"),
        opened({"prompt": "Eggs?", "left": "Six minutes.", "right": {"text": "No."}}, shows="pair", choices=["left", "right", "tie"]),
        opened({"text": "How old?"}, choices=[]),
    ]
    async with person(browser, process.url, database, "pia", "label", **PHONE) as pia:
        page = pia.page
        await pia.work_on(shown[0])
        assert await page.locator("form.task img").evaluate("image => image.complete && image.naturalWidth") == 40
        await expect(page.locator(".context")).to_contain_text("north")
        await page.get_by_text("spam", exact=True).tap()
        await page.get_by_role("button", name="Submit").tap()
        await expect(page.locator("form.task")).to_contain_text("This image is not loaded")
        await pia.work_on(shown[1])
        await expect(page.get_by_role("row", name="income 42000")).to_be_visible()
        await pia.work_on(shown[2])
        await expect(page.get_by_role("region", name="Right")).to_contain_text("No.")
        await expect(page.get_by_role("radio")).to_have_count(3)
        await pia.work_on(shown[3])
        await page.get_by_label("Is it spam?").fill("41.5")
        await pia.press("Enter")
        await pia.all_sent()
        assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth")
        small = await page.evaluate(
            "[...document.querySelectorAll('main button, #bar button')].filter((b) => b.offsetHeight && b.offsetHeight < 44).length"
        )
        assert small == 0
    value = "select a.value from annotation a join campaign c on c.id = a.campaign_id where c.name = :c"
    assert senders.rows(value, c=shown[0]) == [("spam",)]
    assert senders.rows(value, c=shown[3]) == [(41.5,)]


@pytest.mark.parametrize(("blind", "told"), [(0, True), (1, False)])
async def test_a_prediction_is_confirmed_or_hidden(
    browser: Browser, process: Process, database: Database, opened: Open, senders: Senders, blind: float, told: bool
) -> None:
    prediction = {"label": "spam", "score": 0.83}
    campaign = opened(*texts(2), prediction=prediction, shows="confirm", predictions={"show": True, "blind": blind})
    async with person(browser, process.url, database, f"cy{blind}", "label") as cy:
        await cy.work_on(campaign)
        await expect(cy.page.get_by_text("The model says spam (0.83)")).to_have_count(int(told))
        assert await cy.page.get_by_role("radio", name="spam").is_checked() is told
        if told:
            await cy.page.wait_for_timeout(450)  # what comes faster is a second Enter for the task before
            await cy.answer("Enter")
        else:
            await cy.answer("2", "Enter")
        await cy.answer("1", "Enter")
        await cy.all_sent()
    shown = "select a.value, a.prediction_shown from annotation a join campaign c on c.id = a.campaign_id where c.name = :c order by 1"
    assert senders.rows(shown, c=campaign) == [("ham", told), ("spam", told)]


async def test_markup_in_a_task_is_text(browser: Browser, process: Process, database: Database, opened: Open) -> None:
    evil = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>\"><b>"
    tasks: list[tuple[dict[str, Any], dict[str, Any]]] = [
        ({"text": evil, evil: evil}, {"question": evil, "instructions": evil, "choices": [evil, "ham"]}),
        ({"left": evil, "right": {evil: evil}}, {"shows": "pair", "choices": []}),
        ({"image": f"javascript:{evil}"}, {"shows": "image"}),
    ]
    async with person(browser, process.url, database, "max", "label") as max:
        for payload, spec in tasks:
            await max.work_on(opened(payload, **spec))
            await expect(max.page.locator(".payload")).to_contain_text("<script>")
            assert await max.page.evaluate("window.pwned") is None
            assert await max.page.locator("main b, main script").count() == 0


async def test_what_is_not_sent_waits(
    stack: Stack, migrated: Settings, browser: Browser, database: Database, opened: Open, senders: Senders
) -> None:
    """The gateway is killed in the middle, and another one comes in its place; then the session is over."""
    campaign = opened(*texts(9))
    with serving(stack, migrated) as first:
        port = first.port
        async with person(browser, first.url, database, "lou", "label") as lou:
            await lou.work_on(campaign)
            await lou.answer("1", "Enter")
            await lou.all_sent()
            first.kill()
            for _ in range(2):
                await lou.answer("2", "Enter")  # nobody waits
            await lou.says("not sent yet", "#trouble")
            with serving(stack, migrated, port=port):
                await lou.all_sent()
                await expect(lou.page.locator("#trouble")).to_be_hidden()
                await lou.answer("1", "Enter")
                await lou.all_sent()
                assert sorted(senders.statuses(campaign).values()) == [["valid"]] * 4

                other = await lou.context.new_page()
                await other.goto(first.url + link(database, "lou", "label"))
                await other.get_by_role("button", name="Sign in as lou").click()
                await other.wait_for_url(re.compile("/label$"))
                await lou.answer("1", "Enter")
                await lou.says("You have signed in anew in another window. One answer is kept", "#trouble")
                assert len(senders.statuses(campaign)) == 4
                await lou.work_on(campaign)
                await lou.all_sent()
                assert len(senders.statuses(campaign)) == 5

                await lou.context.clear_cookies()
                await lou.answer("1", "Enter")
                await lou.says("You are signed out", "#trouble")
                await lou.says("One answer is kept", "#trouble")
                assert len(senders.statuses(campaign)) == 5
                await lou.go("/label")
                await expect(lou.page.get_by_role("heading", name="You are signed out")).to_be_visible()
                await lou.go(link(database, "lou", "label"))
                await lou.page.get_by_role("button", name="Sign in as lou").click()
                await lou.work_on(campaign)
                await lou.all_sent()
                assert len(senders.statuses(campaign)) == 6


async def test_windows_leases_and_the_end(browser: Browser, process: Process, database: Database, opened: Open, senders: Senders) -> None:
    campaign = opened(*texts(2), lease="3s")
    held = (
        "select count(*) from assignment a join task k on k.id = a.task_id"
        " where a.state = 'leased' and a.expires_at > now() and k.campaign_id = :c"
    )
    row = CampaignRows(database).named(campaign)
    async with person(browser, process.url, database, "zoe", "label") as zoe:
        await zoe.work_on(campaign)
        await zoe.page.wait_for_timeout(3_500)
        assert senders.rows(held, c=row.id) == [(2,)]  # held for longer than a lease lasts
        await zoe.page.reload()  # gives back, or takes along: whichever, it has them
        await expect(zoe.page.locator("form.task")).to_be_visible()
        other = await zoe.context.new_page()
        await other.goto(f"{process.url}/label/{campaign}")
        await expect(other.locator("form.task")).to_be_visible()
        await zoe.says("not reserved for you any more", "#trouble")  # the other window has it
        await other.close()
        answered = await zoe.answer("1", "Enter")
        await zoe.all_sent()
        rows = CampaignRows(database)
        rows.command(row.id, "close", "x", CampaignCommand(actor="owner", reason="enough"))
        rows.close(row.id, "enough")
        await zoe.press("u")
        await zoe.says("Your answer could not be taken back: the campaign is closed", "#trouble")
        await expect(zoe.page.locator("#work")).to_contain_text("This campaign is closed")
    assert senders.statuses(campaign) == {answered: ["valid"]}


async def test_without_scripts(browser: Browser, process: Process, database: Database, opened: Open, senders: Senders) -> None:
    campaign = opened(*texts(3))
    async with person(browser, process.url, database, "nan", "label", java_script_enabled=False) as nan:
        await nan.go(f"/label/{campaign}")
        await nan.page.get_by_role("link", name="Go on without them").click()
        await nan.page.get_by_role("radio", name="spam").check()
        await nan.page.get_by_role("button", name="Submit").click()
        await nan.says("Answered", ".status")
        await nan.page.get_by_role("button", name="Undo").click()
        assert await nan.task() == "t0"
        await nan.page.get_by_role("radio", name="ham").check()
        await nan.page.get_by_role("button", name="Submit").click()
        await nan.page.get_by_label("Reason").fill("unclear")
        await nan.page.get_by_role("button", name="Skip this task").click()
        assert await nan.task() == "t2"
    assert senders.statuses(campaign) == {"t0": ["deleted", "valid", "deleted"], "t1": ["skipped"]}


async def test_an_owner_sees_and_somebody_else_decides(
    browser: Browser, process: Process, database: Database, opened: Open, senders: Senders
) -> None:
    campaign = opened(*texts(2), overlap={"labels": 2, "most": 2}, deadline="1d")
    for name, key in (("one", "1"), ("two", "2")):
        async with person(browser, process.url, database, name, "label") as each:
            await each.work_on(campaign)
            await each.answer(key, "Enter")
            await each.all_sent()
    rows = CampaignRows(database)
    rows.tick(rows.named(campaign).id)
    async with person(browser, process.url, database, "one") as one:
        await one.go(f"/campaigns/{campaign}")
        await one.says("You have answered this task", "main")
    async with person(browser, process.url, database, "ann") as ann:
        await ann.go("/campaigns")
        await ann.page.get_by_role("link", name=campaign).click()
        await ann.says("of 1 pair of answers", ".figures")
        await expect(ann.page.get_by_role("row", name=re.compile("^one 1 "))).to_be_visible()
        await ann.page.get_by_role("radio", name="spam").check()
        await ann.page.get_by_role("textbox", name="Reason").fill("it sells something")
        await ann.page.get_by_role("button", name="Decide").click()
        await ann.says("No task waits for a decision by hand", "main")
    decided = "select label, decided_by, reason from decision d join campaign c on c.id = d.campaign_id where c.name = :c"
    assert senders.rows(decided, c=campaign) == [("spam", "ann", "it sells something")]


async def test_votes(browser: Browser, process: Process, database: Database, senders: Senders) -> None:
    asked, named = Asked(database, required=2), Asked(database, approvers=("bob",))
    async with person(browser, process.url, database, "ann", "promote:approve") as ann:  # who asked for both
        await expect(ann.page.locator(f"[id='{asked.id}']")).to_contain_text("You asked for this release")
        assert await ann.page.locator(f"[id='{asked.id}'] form").count() == 0
    async with person(browser, process.url, database, "ida", "promote:approve") as ida:
        await expect(ida.page.locator(f"[id='{named.id}']")).to_contain_text("You are no approver here. Those who are: bob")
        mine = ida.page.locator(f"[id='{asked.id}']")
        for told in ("0 of 2 approvals", "roc_auc", "passed", asked.evidence):
            await expect(mine).to_contain_text(told)
        await mine.get_by_label("Reason").fill("better <b>everywhere</b>")
        await mine.locator("input[name=evidence_sha256]").evaluate("(field) => { field.value = '0'.repeat(64) }")
        await mine.get_by_role("button", name="Approve").click()
        await ida.says("other evidence than what is up for decision", ".alert")
        await expect(mine.get_by_label("Reason")).to_have_value("better <b>everywhere</b>")
        await mine.get_by_role("button", name="Approve").click()
        await expect(mine).to_contain_text("You have said: approve")
    async with person(browser, process.url, database, "bob", "promote:approve") as bob:
        await bob.page.locator(f"[id='{asked.id}']").get_by_role("button", name="Reject").click()
        decided = bob.page.locator(f"details[id='{asked.id}']")
        await expect(decided).to_contain_text("rejected")
        await expect(decided).to_contain_text("“better <b>everywhere</b>”".strip("“”"))
    votes = senders.rows("select actor, decision, channel from approval_vote where approval_id = :id order by 1", id=asked.id)
    assert votes == [("bob", "reject", "page"), ("ida", "approve", "page")]
