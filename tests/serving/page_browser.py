"""The page in a real Chromium, whose microphone hears a file; a plugin of the page's tests."""

import shutil

import pytest
import scripted_server
from playwright.sync_api import sync_playwright
from talk_page import MICROPHONE_HERTZ, TalkPage, audio_file, tone

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="session")
def chromium(tmp_path_factory):
    """A browser, its microphone a tone of `MICROPHONE_HERTZ`."""
    spoken = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    spoken.write_bytes(audio_file(tone(MICROPHONE_HERTZ, 2.0, 48_000), 48_000))
    found = next(filter(None, map(shutil.which, CHROMIUMS)), None)
    if found is None:
        pytest.skip(f"no Chromium is installed, looked for {', '.join(CHROMIUMS)}")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=found,
            args=[
                "--no-sandbox",  # else it does not start as root
                "--use-fake-device-for-media-stream",
                "--use-fake-ui-for-media-stream",
                f"--use-file-for-fake-audio-capture={spoken}",
                "--autoplay-policy=no-user-gesture-required",
                "--host-resolver-rules=MAP elsewhere.test 127.0.0.1",
            ],
        )
        yield browser
        browser.close()


@pytest.fixture(scope="session")
def one_server():
    with scripted_server.running() as server:
        yield server


@pytest.fixture
def server(one_server):
    one_server.script.clear()
    one_server.asked.clear()
    one_server.gone, one_server.key = 0, ""
    return one_server


@pytest.fixture
def context(chromium):
    """A profile of its own, which nothing wrote into; no test waits long for what never comes."""
    context = chromium.new_context(
        permissions=["microphone"], viewport={"width": 1280, "height": 860}
    )
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def talk(context, server):
    """The page, opened; it may write nothing to the console that a browser calls an error."""
    page = context.new_page()
    problems = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on(
        "console",
        lambda said: (
            problems.append(said.text)
            if said.type == "error" and "Failed to load resource" not in said.text
            else None
        ),
    )
    opened = TalkPage(page, server)
    opened.open()
    yield opened
    assert not problems
