"""What tests do with the page, and audio files for it."""

import base64
import io

import api_server
import numpy as np
import scripted_server
import soundfile
from playwright.sync_api import Page, expect

MICROPHONE_HERTZ, ABOVE_HERTZ = 1000.0, 11_000.0
"""What the microphone hears; the second lies above all that 16 kHz hold, and would fold back."""


def tone(hertz, seconds=1.0, rate=16_000, channels=1):
    """float32 [n, channels] of one frequency."""
    wave = 0.4 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * rate)) / rate)
    return np.repeat(wave[:, None], channels, axis=1).astype(np.float32)


def audio_file(samples, rate=16_000, kind="WAV", subtype=None):
    """The bytes of an audio file."""
    out = io.BytesIO()
    soundfile.write(out, samples, rate, format=kind, subtype=subtype)
    return out.getvalue()


def upload(name, content, mime="audio/wav"):
    """A file as playwright wants it."""
    return {"name": name, "mimeType": mime, "buffer": content}


def clips_of(body):
    """The clips of the last message of a request: bytes of each."""
    return [
        base64.b64decode(part["input_audio"]["data"])
        for part in body["messages"][-1]["content"]
        if part["type"] == "input_audio"
    ]


def text_of(body):
    """The text of the last message of a request; "" where there is none."""
    return "".join(part.get("text", "") for part in body["messages"][-1]["content"])


def heard(clip):
    """(seconds, rate, the loudest frequency in Hz) of an audio file with one channel."""
    samples, rate = soundfile.read(io.BytesIO(clip), always_2d=True)
    assert samples.shape[1] == 1
    power = np.abs(np.fft.rfft(samples[:, 0] * np.hanning(len(samples))))
    return len(samples) / rate, rate, power.argmax() * rate / len(samples)


def level(clip, hertz):
    """How loud a frequency is in an audio file, in decibels."""
    samples, rate = soundfile.read(io.BytesIO(clip))
    power = np.abs(np.fft.rfft(samples * np.hanning(len(samples)))) ** 2
    near = np.abs(np.arange(len(power)) * rate / len(samples) - hertz) < 20
    return 10 * np.log10(power[near].max() + 1e-12)


class TalkPage:
    """The page and what one does with it.

    Attributes:
        problems: what the browser calls an error: of scripts, or of what the policy forbids.
    """

    def __init__(self, page: Page, server: scripted_server.ScriptedServer | api_server.Running):
        self.page, self.server = page, server
        self.message = page.get_by_role("textbox", name="Message")
        self.turns = page.get_by_role("article")
        self.notice = page.get_by_role("alert")
        self.problems: list[str] = []
        page.on("pageerror", lambda error: self.problems.append(str(error)))
        page.on("console", self._said)

    def _said(self, message):
        # A response of 400 and the like is no error of the page.
        of_server = message.location["url"].startswith("http")
        if message.type == "error" and not (of_server and "Failed to load" in message.text):
            self.problems.append(message.text)

    def open(self, address="", model="all4"):
        self.page.goto(address or self.server.address)
        expect(self.page.get_by_role("combobox", name="Model")).to_have_value(model)

    def answer(self, number=-1):
        return self.turns.nth(number).locator(".answer")

    def press(self, name):
        self.page.get_by_role("button", name=name, exact=True).click()

    def say(self, text, answer="Well heard."):
        before = self.turns.count()
        self.message.fill(text)
        self.message.press("Enter")
        expect(self.turns).to_have_count(before + 1)
        if answer:
            expect(self.answer()).to_have_text(answer)
            self.idle()

    def idle(self):
        expect(self.page.get_by_role("button", name="Send", exact=True)).to_be_visible()

    def upload(self, *files):
        self.page.locator("#files").set_input_files(list(files))
