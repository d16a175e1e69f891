"""The page for everyone: by keyboard, by screen reader, on a phone, in the dark; when it fails."""

import re
import threading

from playwright.sync_api import expect
from scripted_server import Answer
from talk_page import TalkPage, audio_file, clips_of, text_of, tone, upload

pytest_plugins = ["page_browser"]


FAILURES = {
    "Clip 1 is no audio.": Answer(status=400, body="Clip 1 is no audio."),
    "All slots are taken.": Answer(status=429, body="All slots are taken."),
    "The server answered 502 without saying why.": Answer(status=502, body=b"<html>Bad gateway"),
    "The turn is too large for the server.": Answer(status=413, body=b""),
    "The engine stopped.": Answer(["Half a"], failure="The engine stopped."),
    "The connection was cut before the answer ended.": Answer(["Half a"], finish=""),
}


def test_a_failure_is_a_sentence_and_can_be_tried_again(talk):
    for sentence, answer in FAILURES.items():
        talk.server.asked.clear()
        talk.server.script.append(answer)
        talk.say("Hello", answer="Half a" if answer.status == 200 else "")
        problem = talk.turns.last.locator(".wrong")
        expect(problem).to_have_text(sentence)
        talk.press("Try again")
        expect(talk.answer()).to_have_text("Well heard.")
        expect(problem).to_be_hidden()
        assert talk.server.asked[0] == talk.server.asked[1]


def test_a_clip_that_is_refused_is_called_by_its_name(talk):
    talk.say("Hello")
    talk.upload(upload("first.wav", audio_file(tone(440))), upload("bad.wav", b"RIFF"))
    expect(talk.page.get_by_role("alert")).to_contain_text("bad.wav cannot be used")
    talk.upload(upload("second.wav", audio_file(tone(440))))
    expect(talk.page.get_by_role("button", name="Remove second.wav")).to_be_visible()
    places = {
        "messages[2].content[1].input_audio.data": "second.wav: it is too long",
        "messages[0].content[0].text": "It is too long",
        "messages": "It is too long",
    }
    talk.server.script += [Answer(status=400, body="it is too long", place=one) for one in places]
    talk.say("And these?", answer="")
    for sentence in places.values():
        expect(talk.turns.last.locator(".wrong")).to_have_text(sentence)
        talk.press("Try again")
    expect(talk.answer()).to_have_text("Well heard.")


def test_the_model_is_not_told_of_a_turn_without_an_answer(talk):
    talk.server.script.append(Answer(status=429, body="Busy."))
    talk.say("First", answer="")
    expect(talk.turns.locator(".wrong")).to_have_text("Busy.")
    talk.say("Second")
    assert len(talk.server.asked[1]["messages"]) == 1
    assert text_of(talk.server.asked[1]) == "Second"
    expect(talk.turns.nth(0)).to_contain_text("the model is not told of this turn")


def test_a_server_that_is_gone(talk):
    talk.page.route("**/v1/chat/completions", lambda route: route.abort())
    talk.say("Hello", answer="")
    expect(talk.turns.locator(".wrong")).to_have_text(re.compile("cannot be reached"))


def test_a_wait_says_how_long(talk):
    talk.page.clock.install()
    gate = threading.Event()
    talk.server.script.append(Answer(["", "At last."], gate))
    talk.say("Hello", answer="")
    talk.page.clock.fast_forward(7000)
    note = talk.turns.last.locator(".note")
    expect(note).to_have_text("Waiting for the first words: 7 s")
    gate.set()
    expect(talk.answer()).to_have_text("At last.")
    expect(note).to_contain_text("2 tokens · first after 7")


def test_the_key_is_asked_for(context, server):
    server.key = "open sesame"
    talk = TalkPage(context.new_page(), server)
    talk.page.goto(server.address)
    expect(talk.page.locator("#settings-problem")).to_have_text("The API key is missing.")
    expect(talk.page.get_by_label("API key")).to_be_focused()
    talk.page.keyboard.type("sesame")
    talk.page.keyboard.press("Enter")
    expect(talk.page.locator("#settings-problem")).to_have_text("The API key is wrong.")
    talk.page.get_by_label("API key").fill("open sesame")
    talk.page.keyboard.press("Enter")
    expect(talk.page.get_by_role("combobox", name="Model")).to_have_value("all4")
    talk.say("Hello")


def test_files_that_are_none(talk):
    talk.upload(
        upload("notes.txt", b"just words", "text/plain"),
        upload("empty.wav", b""),
    )
    expect(talk.notice).to_contain_text("notes.txt cannot be used: this browser cannot decode it.")
    expect(talk.notice).to_contain_text("empty.wav cannot be used: it holds no sound.")
    talk.press("Close this notice")
    expect(talk.notice).to_be_hidden()
    # Wrong inside: the server, which knows more formats, says what it is.
    broken = b"ID3" + bytes(200)
    talk.upload(upload("broken.mp3", broken, "audio/mpeg"))
    expect(talk.page.locator("#clips")).to_contain_text("The server gets the file as it is.")
    talk.press("Send")
    expect(talk.answer()).to_have_text("Well heard.")
    assert clips_of(talk.server.asked[0]) == [broken]
    part = talk.server.asked[0]["messages"][0]["content"][0]
    assert part["input_audio"]["format"] == "mp3"


def test_files_are_dropped(talk):
    drop = talk.page.evaluate_handle(
        """(bytes) => {
            const transfer = new DataTransfer();
            transfer.items.add(new File([new Uint8Array(bytes)], "dropped one.wav"));
            return transfer;
        }""",
        list(audio_file(tone(440, 0.2))),
    )
    talk.page.dispatch_event("body", "dragenter", {"dataTransfer": drop})
    expect(talk.page.get_by_text("Drop audio files")).to_be_visible()
    talk.page.dispatch_event("body", "drop", {"dataTransfer": drop})
    expect(talk.page.get_by_text("Drop audio files")).to_be_hidden()
    expect(talk.page.get_by_role("button", name="Remove dropped one.wav")).to_be_visible()


def test_by_keyboard_alone(talk):
    keyboard = talk.page.keyboard

    def tab_to(name):
        for _ in range(40):
            keyboard.press("Tab")
            label = talk.page.evaluate(
                "() => document.activeElement.getAttribute('aria-label') "
                "|| document.activeElement.textContent"
            )
            if label.strip() == name:
                return
        raise AssertionError(f"no way to {name!r}")

    tab_to("To the message field")
    keyboard.press("Enter")
    expect(talk.message).to_be_focused()
    keyboard.type("Hello")
    keyboard.press("Shift+Enter")
    keyboard.type("there")
    keyboard.press("Enter")
    expect(talk.answer()).to_have_text("Well heard.")
    assert text_of(talk.server.asked[0]) == "Hello\nthere"
    expect(talk.page.get_by_role("status")).to_have_text("The model: Well heard.")
    expect(talk.message).to_be_focused()
    tab_to("Record from the microphone")
    keyboard.press("Enter")
    expect(talk.page.get_by_role("button", name="Done")).to_be_focused()
    keyboard.press("Escape")
    expect(talk.page.locator("#clips li")).to_have_count(1)
    expect(talk.message).to_be_focused()
    keyboard.press("Enter")
    expect(talk.turns).to_have_count(2)
    talk.idle()
    tab_to("Settings")
    keyboard.press("Enter")
    expect(talk.page.get_by_role("dialog", name="Settings")).to_be_visible()
    keyboard.press("Escape")
    expect(talk.page.get_by_role("dialog", name="Settings")).to_be_hidden()
    tab_to("Undo")
    keyboard.press("Enter")
    expect(talk.turns).to_have_count(1)


def test_everything_to_press_has_a_name(talk):
    talk.upload(upload("tone.wav", audio_file(tone(440))))
    talk.say("Hello")
    talk.upload(upload("second.wav", audio_file(tone(440))))
    expect(talk.page.get_by_role("button", name="Remove second.wav")).to_be_visible()
    nameless = talk.page.evaluate(
        """() => [...document.querySelectorAll("button, input:not([hidden]), select, textarea")]
            .filter((one) => !(one.getAttribute("aria-label") || one.textContent.trim()
                || one.labels?.length))
            .map((one) => one.outerHTML)"""
    )
    assert nameless == []


def test_a_phone_has_room(talk):
    talk.page.set_viewport_size({"width": 360, "height": 700})
    talk.upload(upload("a very long name of a file without end.wav", audio_file(tone(440))))
    talk.server.script.append(Answer(["x" * 300, " <|0.10|>"]))
    talk.say("y" * 300, answer="")
    talk.idle()
    wide = "() => document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert talk.page.evaluate(wide) == 0
    assert talk.page.locator("#scroll").evaluate("one => one.scrollWidth - one.clientWidth") == 0
    first = talk.page.get_by_role("button", name=re.compile("^yyy"))
    expect(first).to_be_hidden()
    talk.press("Show the talks")
    expect(first).to_be_visible()
    assert talk.page.evaluate(wide) == 0
    talk.page.keyboard.press("Escape")
    expect(first).to_be_hidden()
    talk.press("Settings")
    assert talk.page.evaluate(wide) == 0


def test_light_and_dark(talk):
    def brightness():
        colour = talk.page.evaluate("() => getComputedStyle(document.body).backgroundColor")
        return sum(map(int, re.findall(r"\d+", colour)[:3])) / 3

    talk.page.emulate_media(color_scheme="dark")
    assert brightness() < 40
    talk.page.emulate_media(color_scheme="light")
    assert brightness() > 230
    talk.press("Colours: as the system. Switch")
    talk.page.emulate_media(color_scheme="dark")
    assert brightness() > 230
    talk.press("Colours: light. Switch")
    talk.page.emulate_media(color_scheme="light")
    assert brightness() < 40
    talk.page.reload()
    assert brightness() < 40


def test_why_there_is_no_microphone(talk):
    talk.open(talk.server.address.replace("localhost", "elsewhere.test"))
    expect(talk.page.get_by_role("button", name="Record from the microphone")).to_be_disabled()
    expect(talk.page.get_by_text("Browsers give a microphone only")).to_contain_text(
        "this one came over http from elsewhere.test. Open it as http://localhost:"
    )
    talk.upload(upload("tone.wav", audio_file(tone(440, 0.5, 8000), 8000)))
    talk.say("All else works")
    assert len(clips_of(talk.server.asked[0])) == 1


def test_the_page_needs_nothing_else(context, server):
    """It opens without asking for anything but itself and the API."""
    asked = []
    page = context.new_page()
    page.on("request", lambda request: asked.append(request.url))
    TalkPage(page, server).open()
    assert asked == [f"{server.address}/", f"{server.address}/v1/models"]
