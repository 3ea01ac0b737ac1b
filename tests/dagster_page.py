"""A person's hands and eyes in the Dagster UI: headless Chromium, driven by Playwright."""

import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from playwright.sync_api import Locator, Page, expect, sync_playwright

FLAGS = (
    "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
    "--disable-component-update", "--disable-sync",
)  # fmt: skip
PATIENCE_MS = 60_000
"""How long a page may take to show something on a busy machine; nothing waits when it is there."""

SCREEN = {"width": 1600, "height": 1000}
EDITOR = "document.querySelector('.CodeMirror').CodeMirror"


def chromium() -> str:
    """Return the path of Chromium; where there is none the test is skipped, except in CI, which installs it."""
    if found := shutil.which("chromium"):
        return found
    if os.environ.get("CI") == "true":
        pytest.fail("chromium is not installed (Debian: apt-get install chromium)")
    pytest.skip("chromium is not installed (Debian: apt-get install chromium)")


@contextmanager
def browsing(url: str, profile: Path) -> Iterator["DagsterPage"]:
    """Open a browser on a web server; it is closed at the end.

    Parameters
    ----------
    url : `str`
        Address of the Dagster UI.
    profile : `pathlib.Path`
        A new folder for the browser's profile.
    """
    expect.set_options(timeout=PATIENCE_MS)
    with sync_playwright() as playwright:
        context = playwright.chromium.launch_persistent_context(
            profile, executable_path=chromium(), headless=True, args=FLAGS, viewport=SCREEN
        )
        context.set_default_timeout(PATIENCE_MS)
        yield DagsterPage(context.pages[0], url)
        context.close()


class DagsterPage:
    """One tab of the UI."""

    def __init__(self, page: Page, url: str) -> None:
        self.page, self.url = page, url

    def go(self, path: str) -> None:
        """Open a page by its path."""
        self.page.goto(self.url + path, wait_until="domcontentloaded")

    def sees(self, text: str | re.Pattern) -> Locator:
        """Wait until a text is visible, and return the first place where it is."""
        found = self.page.get_by_text(text).filter(visible=True).first
        expect(found).to_be_visible()
        return found

    def button(self, name: str) -> Locator:
        """Return the last visible button of a name: dialogs come after the page that they lie on."""
        return self.page.get_by_role("button", name=name).filter(visible=True).last

    @contextmanager
    def graph(self, groups: list[str]) -> Iterator[None]:
        """Open the asset graph with its groups unfolded, on a high screen: what is out of sight is not drawn."""
        self.page.set_viewport_size({"width": SCREEN["width"], "height": 2 * SCREEN["width"]})
        try:
            self.go("/asset-groups/?expanded=" + "%2C".join(f"global%40global%3A{group}" for group in groups))
            yield
        finally:
            self.page.set_viewport_size(SCREEN)

    def partition(self, asset: str, key: str) -> None:
        """Open the page of an asset's partition."""
        self.go(f"/assets/{asset}?view=partitions&partition={key}")

    def materialise(self, asset: str, *keys: str) -> None:
        """Open an asset's launch dialog, and choose a partition by its key of each dimension; all if none are given."""
        self.go(f"/assets/{asset}?view=partitions")
        self.button("Materialize").click()
        dialog = self.page.get_by_role("dialog")
        if not keys:
            each = dialog.get_by_role("button", name="All", exact=True)
            expect(each.first).to_be_visible()
            for dimension in each.all():
                dimension.click()
            return
        for key in keys:
            dialog.get_by_text("Select a partition or create one").first.click()
            self.page.get_by_role("menuitem").filter(has_text=key).click()
            self.page.keyboard.press("Escape")

    def launch(self) -> None:
        """Press the button that launches, and wait until the UI says that it has."""
        launch = self.page.get_by_role("dialog").get_by_role("button", name="Launch")
        expect(launch).to_be_enabled()
        launch.click()
        self.sees(re.compile("Launched run|Created backfill"))

    def only_what_is_missing(self) -> None:
        """Leave out, in the launch dialog that is open, what has been made already."""
        self.page.get_by_role("dialog").get_by_text("Backfill only failed and missing partitions").click()

    def materialise_at_once(self, asset: str) -> None:
        """Launch an asset without partitions from its page."""
        self.go(f"/assets/{asset}")
        self.button("Materialize").click()
        self.sees(re.compile("Launched run"))

    def launchpad(self, asset: str) -> dict[str, Any]:
        """Open an asset's launchpad, and return the configuration that it comes up with."""
        self.go(f"/assets/{asset}?view=partitions")
        self.button("Materialize").locator("xpath=following::button[1]").click()
        self.page.get_by_role("menuitem", name="Open launchpad").click()
        self.page.locator(".CodeMirror").wait_for()
        self.page.wait_for_function(f"{EDITOR}.getValue().length > 0")
        return yaml.safe_load(self.page.evaluate(f"{EDITOR}.getValue()"))

    def configure(self, text: str) -> None:
        """Write into the configuration editor of the launch dialog that is open."""
        self.page.get_by_role("dialog").get_by_text("Config", exact=True).click()
        self.button("Add config").click()
        self.sees("No errors")
        self.page.evaluate(f"text => {EDITOR}.setValue(text)", text)

    def picture(self) -> Locator:
        """Open the first picture in the metadata that are shown."""
        self.sees("[Show Markdown]").click()
        picture = self.page.locator("img[src^='data:image/png']").last
        expect(picture).to_be_visible()
        return picture
