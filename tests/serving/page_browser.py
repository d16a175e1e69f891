"""The page in a real Chromium, whose microphone hears a file; a plugin of the page's tests."""

import shutil

import pytest
import scripted_server
from playwright.sync_api import sync_playwright
from talk_page import ABOVE_HERTZ, MICROPHONE_HERTZ, TalkPage, audio_file, tone

CHROMIUMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@pytest.fixture(scope="module")  # playwright has a loop of asyncio that no other file may find
def chromium(tmp_path_factory):
    """A browser, its microphone two tones."""
    spoken = tmp_path_factory.mktemp("microphone") / "spoken.wav"
    both = tone(MICROPHONE_HERTZ, 2.0, 48_000) + tone(ABOVE_HERTZ, 2.0, 48_000)
    spoken.write_bytes(audio_file(both, 48_000))
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
    context = chromium.new_context(viewport={"width": 1280, "height": 860})
    context.set_default_timeout(10_000)
    yield context
    context.close()


@pytest.fixture
def talk(context, server):
    """The page, opened; it may write nothing to the console that a browser calls an error."""
    opened = TalkPage(context.new_page(), server)
    opened.open()
    yield opened
    assert opened.problems == []
