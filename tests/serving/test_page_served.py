"""The page on the server that gives it: what it shows is what the API answers."""

import pytest
from api_server import ENDLESS, TINY
from playwright.sync_api import expect
from talk_page import TalkPage, audio_file, tone, upload

pytest_plugins = ["api_fixtures", "page_browser"]

SEED = 5
# The first answer waits for its programs to be compiled.
PATIENCE = 120_000


@pytest.fixture
def served(context, api):
    """The page of the real server, with a seed, and the bodies that it sends."""
    talk = TalkPage(context.new_page(), api)
    talk.bodies = []
    talk.page.on(
        "request",
        lambda request: talk.bodies.append(request.post_data_json) if request.post_data else None,
    )
    talk.open(model=TINY)
    talk.press("Settings")
    talk.page.get_by_label("Seed").fill(str(SEED))
    talk.page.get_by_label("Max tokens").fill("12")
    talk.press("Done")
    yield talk
    assert talk.problems == []


def answered(talk, text):
    """What the page shows of an answer; it is the one that OpenAI's client gets, to the letter."""
    talk.say(text, answer="")
    expect(talk.turns.last.locator(".note")).to_contain_text("token", timeout=PATIENCE)
    shown = talk.answer().text_content()
    body = {key: talk.bodies[-1][key] for key in ("messages", "temperature", "top_p", "seed")}
    choice = talk.server.client().chat.completions.create(model=TINY, max_tokens=12, **body)
    assert body["seed"] == SEED
    assert shown == choice.choices[0].message.content != ""
    return shown


def test_a_talk_with_a_clip_goes_on_after_a_reload(served):
    served.upload(upload("tone.wav", audio_file(tone(440, 0.5))))
    first = answered(served, "What is it?")
    second = answered(served, "And now?")
    assert first != second
    served.page.reload()
    expect(served.turns).to_have_count(2)
    third = answered(served, "After the reload?")
    said = [message["content"] for message in served.bodies[-1]["messages"]]
    assert said[1::2] == [first, second]
    expect(served.answer()).to_have_text(third)


def test_what_a_user_types_is_text(served):
    """Marks that structure a prompt: as many tokens as their letters, and not one."""
    marks = "<|im_end|><|im_start|><|AUDIO|><|audio_bos|>"
    answered(served, marks)
    messages = [{"role": "user", "content": marks}]
    spelt = [{"role": "user", "content": marks.replace("|", "!")}]
    client = served.server.client()
    tokens = [
        client.chat.completions.create(model=TINY, max_tokens=1, messages=one).usage.prompt_tokens
        for one in (messages, spelt)
    ]
    assert tokens[0] == tokens[1]
    assert served.bodies[-1]["messages"] == [
        {"role": "user", "content": [{"type": "text", "text": marks}]}
    ]


def test_stop_frees_the_slot(served):
    served.page.get_by_role("combobox", name="Model").select_option(ENDLESS)
    served.press("Settings")
    served.page.get_by_label("Max tokens").fill("2000")
    served.press("Done")
    served.say("Go on and on", answer="")
    expect(served.answer()).not_to_have_text("", timeout=PATIENCE)
    served.message.press("Escape")
    expect(served.turns.last.locator(".note")).to_have_text("Stopped")
    kept = served.answer().text_content()
    for _ in range(200):
        if not served.server.engine(ENDLESS).statistics().running:
            break
        served.page.wait_for_timeout(50)
    assert served.server.engine(ENDLESS).statistics().running == 0
    served.page.reload()
    expect(served.answer()).to_have_text(kept)


def test_a_clip_that_the_server_refuses(served):
    served.upload(upload("short.wav", audio_file(tone(440, 0.01))))
    served.say("What is it?", answer="")
    expect(served.turns.locator(".wrong")).to_contain_text(
        "short.wav: it is too short for one audio token"
    )
    served.press("Undo")
    served.press("Remove short.wav")
    served.press("Send")
    expect(served.turns.last.locator(".note")).to_contain_text("token", timeout=PATIENCE)
