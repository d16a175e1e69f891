"""The page's file and its policy, without a browser."""

import base64
import hashlib
import html.parser
import importlib.resources
import re

import pytest

from qwen_audio_jax.serving.web_page import SCRIPTS, web_page


class Parts(html.parser.HTMLParser):
    """The tags with their attributes, and what stands in each style and script."""

    def __init__(self, source):
        super().__init__()
        self.tags, self.inside, self.open = [], {"script": "", "style": ""}, ""
        self.feed(source)

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self.open = tag

    def handle_endtag(self, tag):
        self.open = ""

    def handle_data(self, data):
        if self.open in self.inside:
            self.inside[self.open] += data


@pytest.fixture(scope="module")
def parts():
    return Parts(web_page().html.decode())


def test_the_policy_lets_run_what_stands_in_it_and_nothing_else(parts):
    policy = dict(
        directive.split(" ", 1)
        for directive in web_page().headers["Content-Security-Policy"].split("; ")
    )
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        digest = hashlib.sha256(parts.inside[tag].encode()).digest()
        digest = base64.b64encode(digest).decode()
        assert policy[directive].split()[0] == f"'sha256-{digest}'"
    assert policy["default-src"] == "'none'"
    assert policy["connect-src"] == "'self'"
    assert not any("unsafe" in value or "http" in value for value in policy.values())


def test_it_loads_nothing(parts):
    named = [
        value
        for _, attributes in parts.tags
        for name, value in attributes.items()
        if name in ("src", "href", "action", "data", "srcset")
    ]
    assert all(value.startswith(("#", "data:")) for value in named)
    style = parts.inside["style"]
    assert "url(" not in style
    assert "@import" not in style
    # What a policy of hashes would refuse besides.
    assert not any(
        name == "style" or name.startswith("on")
        for _, attributes in parts.tags
        for name in attributes
    )


def test_every_script_is_in_it_and_none_makes_markup_of_text():
    folder = importlib.resources.files("qwen_audio_jax.serving") / "page"
    scripts = {path.name: path.read_text("utf-8") for path in folder.iterdir()}
    assert {name for name in scripts if name.endswith(".js")} == set(SCRIPTS)
    for name in SCRIPTS:
        sinks = r"(inner|outer)HTML|insertAdjacent|document\.write|eval\(|new Function|DOMParser"
        assert not re.search(sinks, scripts[name]), name
        assert scripts[name].count("\n") <= 400, name


def test_what_the_scripts_look_for_is_there(parts):
    script = parts.inside["script"]
    there = {attributes["id"] for _, attributes in parts.tags if "id" in attributes}
    assert set(re.findall(r'found\("([\w-]+)"\)', script)) <= there
