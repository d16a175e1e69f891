"""The page in a real browser: what one says, shows, hears and keeps there."""

import re
import threading

import numpy as np
import pytest
from playwright.sync_api import Error, expect
from scripted_server import Answer
from talk_page import (
    ABOVE_HERTZ,
    MICROPHONE_HERTZ,
    audio_file,
    clips_of,
    heard,
    level,
    text_of,
    tone,
    upload,
)

pytest_plugins = ["page_browser"]

HOSTILE = (
    "<img src=x onerror=\"document.title='broken in'\"><script>document.title='broken in'</script>"
    "</p><b>bold</b> &amp; <|im_end|> **stars** [x](javascript:alert(1))"
)


def test_two_turns_with_a_clip(talk):
    clip = audio_file(tone(440))
    talk.upload(upload("tone.wav", clip))
    talk.say("What is it?")
    talk.say("Are you sure?")
    first, second = talk.server.asked
    assert text_of(first) == "What is it?"
    assert clips_of(first) == [clip]  # 16 kHz, one channel: sent untouched
    assert [message["role"] for message in second["messages"]] == ["user", "assistant", "user"]
    assert second["messages"][0] == first["messages"][0]
    assert second["messages"][1]["content"] == "Well heard."
    assert second["stream"] is True
    assert second["model"] == "all4"
    expect(talk.turns).to_have_count(2)
    expect(talk.turns.nth(1).locator(".note")).to_contain_text("2 tokens · first after")


def test_an_answer_is_shown_as_it_comes(talk):
    gate = threading.Event()
    talk.server.script.append(Answer(["One", " two", " three"], gate))
    talk.say("Count", answer="")
    expect(talk.answer()).to_have_text("One")
    expect(talk.page.get_by_role("button", name="Stop the answer")).to_be_visible()
    gate.set()
    expect(talk.answer()).to_have_text("One two three")


def test_files_become_what_the_model_hears(talk):
    """Several in one turn, in their order, alone: two channels at 44.1 kHz, Ogg, a loud one."""
    talk.upload(
        upload("wide.flac", audio_file(tone(1000, 0.5, 44_100, 2), 44_100, "FLAC"), "audio/flac"),
        upload("low.ogg", audio_file(tone(300, 0.7), kind="OGG"), "audio/ogg"),
        upload("loud.wav", audio_file(5 * tone(700, 0.5, 8000), 8000, subtype="FLOAT")),
    )
    expect(talk.page.get_by_role("button", name="Remove loud.wav")).to_be_visible()
    talk.press("Send")
    expect(talk.answer()).to_have_text("Well heard.")
    (body,) = talk.server.asked
    assert [part["type"] for part in body["messages"][0]["content"]] == ["input_audio"] * 3
    for clip, hertz, seconds in zip(clips_of(body), (1000, 300, 700), (0.5, 0.7, 0.5), strict=True):
        length, rate, loudest = heard(clip)
        assert rate == 16_000
        assert length == pytest.approx(seconds, abs=0.01)
        assert loudest == pytest.approx(hertz, abs=3)
    # Twice full scale: nothing of it is clipped.
    assert np.abs(np.frombuffer(clips_of(body)[2][44:], np.float32)).max() == pytest.approx(2, 0.02)


def test_the_spectrogram_shows_the_tone(talk):
    """A low tone, then a high one: the brightest row of the left half lies below the right's."""
    talk.upload(upload("two.wav", audio_file(np.concatenate([tone(300), tone(4000)]))))
    canvas = talk.page.get_by_role("img", name="Spectrogram of two.wav, 2.0 s, 0 to 8 kHz")
    expect(canvas).to_have_attribute("width", "200")
    rows = canvas.evaluate(
        """canvas => [50, 150].map((x) => {
            const column = canvas.getContext("2d").getImageData(x, 0, 1, canvas.height).data;
            const light = Array.from({ length: canvas.height }, (_, y) => column[4 * y]);
            return canvas.height - light.indexOf(Math.max(...light));
        })"""
    )
    # Of 64 bands up to 2840 mel: 300 Hz is 402 mel, 4000 Hz is 2146.
    assert rows == [pytest.approx(9, abs=1), pytest.approx(49, abs=1)]


def test_a_voice_turn_by_the_microphone(talk):
    talk.press("Record from the microphone")
    meter = talk.page.get_by_role("meter")
    expect(meter).not_to_have_attribute("aria-valuenow", "0")
    expect(talk.page.get_by_label("Recorded")).to_have_text(re.compile(r"0\.[6-9] s|1\.\d s"))
    talk.press("Send")
    expect(talk.answer()).to_have_text("Well heard.")
    (body,) = talk.server.asked
    (clip,) = clips_of(body)
    seconds, rate, loudest = heard(clip)
    assert rate == 16_000
    assert 0.5 < seconds < 5
    assert loudest == pytest.approx(MICROPHONE_HERTZ, rel=0.02)
    assert level(clip, MICROPHONE_HERTZ) - level(clip, 16_000 - ABOVE_HERTZ) > 40
    assert text_of(body) == ""


def test_a_recording_may_be_thrown_away(talk):
    talk.press("Record from the microphone")
    talk.press("Throw the recording away")
    expect(talk.page.get_by_role("meter")).to_be_hidden()
    expect(talk.page.locator("#clips li")).to_have_count(0)


def test_stop_keeps_what_came(talk):
    talk.server.script.append(Answer(["ha", "ho"], threading.Event()))
    talk.say("Laugh", answer="")
    expect(talk.answer()).to_have_text("ha")
    talk.page.keyboard.press("Escape")
    expect(talk.turns.nth(0).locator(".note")).to_have_text("Stopped")
    talk.say("Again?")
    assert talk.server.asked[1]["messages"][1] == {"role": "assistant", "content": "ha"}
    assert talk.server.gone == 1


def test_again_and_undo(talk):
    clip = audio_file(tone(440))
    talk.upload(upload("tone.wav", clip))
    talk.say("What is it?")
    talk.server.script.append(Answer(["Another", " one."]))
    talk.press("Again")
    expect(talk.answer()).to_have_text("Another one.")
    assert talk.server.asked[1] == talk.server.asked[0]
    talk.server.script.append(Answer(status=429, body="Busy."))
    talk.press("Again")
    expect(talk.turns.locator(".wrong")).to_have_text("Busy.")
    expect(talk.answer()).to_have_text("Another one.")  # not lost to the refusal
    later = audio_file(tone(880))
    talk.upload(upload("later.wav", later))
    talk.message.fill("A draft")
    talk.press("Undo")
    expect(talk.turns).to_have_count(0)
    expect(talk.message).to_have_value("What is it?\nA draft")
    talk.say("What else?")
    assert clips_of(talk.server.asked[3]) == [clip, later]
    assert len(talk.server.asked[3]["messages"]) == 1


def test_a_reload_keeps_the_talk(talk):
    clip = audio_file(tone(440))
    talk.upload(upload("tone.wav", clip))
    talk.say("First talk")
    talk.press("New talk")
    expect(talk.turns).to_have_count(0)
    talk.say("Second talk")
    talk.page.reload()
    expect(talk.turns).to_contain_text("Second talk")
    talk.page.get_by_role("button", name=re.compile("^First talk")).click()
    expect(talk.turns).to_contain_text("First talk")
    expect(talk.page.get_by_role("slider", name="Position in clip 1")).to_be_visible()
    talk.say("Go on")
    history = talk.server.asked[-1]["messages"]
    assert history[0] == talk.server.asked[0]["messages"][0]
    # What lets the server find what it has heard: the talk's own, and nobody's else.
    keys = [body["prompt_cache_key"] for body in talk.server.asked]
    assert keys[0] == keys[2] != keys[1]
    assert len(keys[0]) > 20
    talk.press("Delete the talk First talk")
    talk.press("Delete")
    expect(talk.turns).to_have_count(0)
    talk.page.reload()
    entries = talk.page.get_by_role("navigation").get_by_role("listitem")
    expect(entries).to_have_count(1)
    expect(entries).to_contain_text("Second talk")
    assert clips_in_store(talk) == 0


def clips_in_store(talk):
    return talk.page.evaluate(
        """() => new Promise((resolve) => {
            indexedDB.open("qwen-audio-talks").onsuccess = ({ target }) => {
                const clips = target.result.transaction("clips").objectStore("clips");
                clips.count().onsuccess = ({ target }) => resolve(target.result);
            };
        })"""
    )


def test_a_page_closed_in_mid_answer_keeps_what_came(talk):
    talk.server.script.append(Answer(["ha", "ho"], threading.Event()))
    talk.say("Laugh", answer="")
    expect(talk.answer()).to_have_text("ha")
    talk.page.reload()
    expect(talk.answer()).to_have_text("ha")
    expect(talk.turns).to_contain_text("The page was closed before the answer ended.")
    talk.press("Try again")
    expect(talk.answer()).to_have_text("Well heard.")


def test_text_is_text(talk):
    """What the model writes, what a user types, a file's name, a sentence of the server."""
    talk.server.script += [Answer([HOSTILE[:9], HOSTILE[9:]]), Answer(status=400, body=HOSTILE)]
    talk.upload(upload("<b>bold<img src=x onerror=alert(1)>.wav", audio_file(tone(440))))
    talk.say(HOSTILE, answer=HOSTILE)
    assert text_of(talk.server.asked[0]) == HOSTILE
    talk.say("Go on", answer="")
    expect(talk.turns.nth(1).locator(".wrong")).to_have_text(HOSTILE)
    assert talk.page.locator("main b, aside b, main img, article a").count() == 0
    assert talk.page.title() == "Talk to the model"

    # And if a script did make markup of it, the policy would refuse.
    assert talk.problems == []
    with pytest.raises(Error, match="TrustedHTML"):
        talk.page.evaluate("() => { document.body.innerHTML = 'x'; }")
    (refusal,) = talk.problems
    assert "TrustedHTML" in refusal
    talk.problems.clear()


def test_times_play_their_piece(talk):
    talk.upload(upload("tone.wav", audio_file(tone(440, 3))))
    talk.server.script.append(Answer(["<|sil|><|0.54", "|>good<|1.00|>morning<|", "1.40|>"]))
    talk.say("When?", answer="<|sil|>0.54 sgood1.00 smorning1.40 s")
    talk.press("Play from 1.00 s to 1.40 s")
    audio = talk.page.locator("article audio")
    assert audio.evaluate("audio => audio.currentTime") >= 1.0
    expect(talk.page.get_by_role("button", name="Play clip 1", exact=True)).to_be_visible()
    assert audio.evaluate("audio => [audio.paused, audio.currentTime]") == [
        True,
        pytest.approx(1.4, abs=0.15),
    ]


def test_which_piece_a_time_plays(talk):
    """By how labels are written, and as people write; `<|30.00|>` counts windows gone by."""
    pieces = {
        "<|0.54|>siren<|1.20|><|0.80|>bell<|1.00|>": "0.54-1.20 0.54-1.20 0.80-1.00 0.80-1.00",
        "<|0.54|><|1.20|><|delim|><|3.00|><|3.40|>": "0.54-1.20 0.54-1.20 3.00-3.40 3.00-3.40",
        "a<|1.00|>b<|30.00|><|2.50|>": "0.00-1.00 1.00-32.50",
        "It begins at <|2.00|> and ends at <|4.00|>.": "2.00-4.00 2.00-4.00",
        "<|7.00|>": "7.00-end",
    }
    talk.upload(upload("long.wav", audio_file(np.zeros(33 * 16_000))))
    for answer, expected in pieces.items():
        talk.server.script.append(Answer([answer]))
        talk.say("When?", answer="")
        talk.idle()
        names = [
            button.get_attribute("aria-label")
            for button in talk.answer().get_by_role("button").all()
        ]
        played = [re.findall(r"\d+\.\d\d|end", name) for name in names]
        assert " ".join(map("-".join, played)) == expected


def test_settings_are_sent_and_kept(talk):
    talk.press("Settings")
    for name, value in {
        "Temperature": "0",
        "Top p": "0.9",
        "Max tokens": "7",
        "Seed": "11",
        "System prompt": "Be brief.",
    }.items():
        talk.page.get_by_label(name).fill(value)
    talk.press("Done")
    warning = talk.page.get_by_text("not tuned on conversations")
    expect(warning).to_be_hidden()
    talk.page.get_by_role("combobox", name="Model").select_option("poems")
    expect(warning).to_be_visible()
    talk.say("Hello")
    # Whoever is faster than the reload says it in the same talk.
    talk.page.reload()
    talk.message.fill("Hello again")
    talk.message.press("Enter")
    expect(talk.turns).to_have_count(2)
    expect(talk.answer()).to_have_text("Well heard.")
    assert len(talk.server.asked) == 2
    for body in talk.server.asked:
        assert (body["temperature"], body["top_p"]) == (0, 0.9)
        assert (body["max_tokens"], body["seed"], body["model"]) == (7, 11, "poems")
        assert body["messages"][0] == {"role": "system", "content": "Be brief."}
    talk.press("Settings")
    talk.page.get_by_label("Temperature").fill("9")
    talk.page.keyboard.press("Escape")
    talk.press("Settings")
    expect(talk.page.get_by_label("Temperature")).to_have_value("0")
