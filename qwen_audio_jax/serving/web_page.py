"""The page at `/`: one HTML file, put together of the parts in `page/`.

It loads nothing: style and scripts stand in it, and its Content-Security-Policy names them by their
hashes, so nothing else that gets into the page can run. `blob:` is for what the page makes itself:
clips to play, and the AudioWorklet that takes the microphone's samples, which browsers load from an
address only.
"""

import base64
import dataclasses
import functools
import hashlib
import importlib.resources

SCRIPTS = (
    "elements.js",
    "icons.js",
    "wave.js",
    "resampling.js",
    "spectrogram.js",
    "player.js",
    "time_marks.js",
    "recorder.js",
    "api.js",
    "store.js",
    "talk.js",
    "settings.js",
    "composer.js",
    "turns.js",
    "talks_list.js",
    "main.js",
)
"""The parts of the script in their order; they share one scope."""


@dataclasses.dataclass(frozen=True)
class Page:
    """The page as it is sent.

    Attributes:
        html: the file, UTF-8.
        headers: what goes with it, the Content-Security-Policy among them.
    """

    html: bytes
    headers: dict[str, str]


@functools.cache
def web_page() -> Page:
    """Puts the page together; it is the same for everyone."""
    folder = importlib.resources.files(__package__) / "page"

    def read(name: str) -> str:
        return (folder / name).read_text(encoding="utf-8")

    style, script = read("page.css"), "\n".join(map(read, SCRIPTS))
    html = read("page.html")
    # The style first: a script may well spell the style's mark.
    for mark, part in (("/* page.css */", style), ("/* scripts */", script)):
        before, found, after = html.partition(mark)
        if not found or "</style" in part or "</script" in part:
            raise ValueError(f"page.html must hold {mark}, and no part may close its element")
        html = before + part + after
    return Page(html.encode(), _headers(style, script))


def _headers(style: str, script: str) -> dict[str, str]:
    policy = {
        "default-src": "'none'",
        "script-src": f"{_hash(script)} blob:",
        "style-src": _hash(style),
        "connect-src": "'self'",
        "img-src": "data:",
        "media-src": "blob:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
        # No text becomes markup in it: the browser refuses every such assignment.
        "require-trusted-types-for": "'script'",
        "trusted-types": "'none'",
    }
    return {
        "Content-Security-Policy": "; ".join(f"{key} {value}" for key, value in policy.items()),
        "Permissions-Policy": "microphone=(self), camera=(), geolocation=()",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
        "Cache-Control": "no-cache",
    }


def _hash(text: str) -> str:
    return f"'sha256-{base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()}'"
