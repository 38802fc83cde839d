"""A real browser for the tests of what people see."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, expect, sync_playwright

TIMEOUT_SECONDS = 20
NAMES = ("chromium", "chromium-browser", "google-chrome")


def browser_path() -> str | None:
    """The Chromium of this machine, or None."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextmanager
def running_browser() -> Iterator[Browser]:
    """A headless Chromium, which ends with the block; the test is skipped where there is none."""
    path = browser_path()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is installed")
    # Chromium's own sandbox does not start as root, nor in most containers.
    arguments = ["--no-sandbox", "--disable-dev-shm-usage"]
    expect.set_options(timeout=1000 * TIMEOUT_SECONDS)
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=arguments)
        try:
            yield browser
        finally:
            browser.close()


@contextmanager
def opened(
    browser: Browser, url: str, *, width: int = 1280, height: int = 860, **options: Any
) -> Iterator[Page]:
    """A page in a profile of its own; nothing may have been wrong in its console at the end.

    Arguments:
        width, height: of the window, in pixels.
        options: of Playwright's `new_context`, such as `color_scheme` or `has_touch`.
    """
    context = browser.new_context(viewport={"width": width, "height": height}, **options)
    context.set_default_timeout(1000 * TIMEOUT_SECONDS)
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda message: (
            problems.append(message.text) if message.type in ("error", "warning") else None
        ),
    )
    try:
        page.goto(url)
        yield page
        assert not problems, problems
    finally:
        context.close()


@contextmanager
def opened_on_phone(browser: Browser, url: str, **options: Any) -> Iterator[Page]:
    """A page in the window of a phone, with touch."""
    with opened(
        browser, url, width=360, height=740, is_mobile=True, has_touch=True, **options
    ) as page:
        yield page
