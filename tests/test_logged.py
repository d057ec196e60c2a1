"""What lines of the log hold of what clients and other servers choose."""

import json
from pathlib import Path

import pytest
from twisted.logger import LogLevel
from twisted.python.failure import Failure

from imgservice.escaping import escaped, target, words
from imgservice.telemetry.logs import Observer, Output

HARMFUL = (
    "\x00\t\n\r\x0b\x0c\x1b\x7f\x85\x9b\xa0\xad"
    "\u200b\u200e\u202e\u2028\u2029\u2066\ufeff\ue000\U000e0041"
)


def test_harmless_text_stays() -> None:
    text = "Grüße 世界 req-1 \\ \" '"
    assert escaped(text) == text


@pytest.mark.parametrize("harmful", [*HARMFUL, "\udc80"], ids=ascii)
def test_harmful_characters_are_escaped_as_in_json(harmful: str) -> None:
    shown = escaped(f"a{harmful}b")
    assert shown.isprintable()
    assert json.loads(f'"{shown}"') == f"a{harmful}b"


@pytest.mark.parametrize(
    ("values", "line"),
    [
        (["req-1", "::1", "-"], "req-1 ::1 -"),
        (["a b", "c"], "a\\u0020b c"),
        (["a\u2003b", "c"], "a\\u2003b c"),
        (["a", "\x1b[31m"], "a \\u001b[31m"),
    ],
)
def test_each_value_is_one_word_of_the_line(values: list[str], line: str) -> None:
    assert words(values) == line


@pytest.mark.parametrize(
    ("uri", "shown"),
    [
        (b"/v2/images/7", "/v2/images/7"),
        (b"/v2/images?limit=2&name=in:a,b&tag=x", "/v2/images?limit=2&name=in:a,b&tag=x"),
        (b"/v2/images?token=abc", "/v2/images?token=***"),
        (b"/v2/images?X-Auth-Token=abc&limit=2", "/v2/images?X-Auth-Token=***&limit=2"),
        (b"/v2/images?gAAAAABn", "/v2/images?***"),
        (b"/v2/images?limit=2;token=abc", "/v2/images?limit=***"),
        (b"/v2/images?limit=2?token=abc", "/v2/images?limit=***"),
        (b"/v2/images?lim%69t=2", "/v2/images?lim%69t=***"),
        (b"/v2/images?", "/v2/images?"),
        (b"/v2/images?&limit", "/v2/images?&limit"),
        (b"http://me:pa55@host/v2/images?a=b", "http://host/v2/images?a=***"),
        (b"http://me:pa/55@host/v2", "http://host/v2"),
        (b"*", "*"),
    ],
)
def test_what_was_asked_for_without_secrets(uri: bytes, shown: str) -> None:
    assert target(uri) == shown


# -- the observer ---------------------------------------------------------------------------------


def written(tmp_path: Path, as_json: bool, **event: object) -> str:
    path = tmp_path / "log"
    output = Output(str(path))
    Observer(output, as_json, "info")({"log_level": LogLevel.info, "log_time": 0, **event})
    output.flush()
    return path.read_text()


@pytest.mark.parametrize("as_json", [False, True])
def test_no_value_breaks_or_colours_a_line(tmp_path: Path, as_json: bool) -> None:
    value = f"x{HARMFUL}2026-01-01T00:00:00.000Z access forged\udc80"
    text = written(tmp_path, as_json, log_format="it is {value}", value=value)
    assert text.replace("\n", "").isprintable()
    begins = [line for line in text.splitlines() if not line.startswith("  ")]
    assert len(begins) == 1
    if as_json:
        assert "forged" in json.loads(text)["message"]


@pytest.mark.parametrize("as_json", [False, True])
def test_no_error_breaks_a_line(tmp_path: Path, as_json: bool) -> None:
    failure = Failure(ValueError(f"x{HARMFUL}2026 error forged"))
    text = written(tmp_path, as_json, log_format="it failed", log_failure=failure)
    assert text.replace("\n", "").isprintable() and "forged" in text
    assert len([line for line in text.splitlines() if not line.startswith("  ")]) == 1


@pytest.mark.parametrize("noise", ["Starting factory {factory!r}", "Stopping factory {factory!r}"])
def test_factories_are_no_news(tmp_path: Path, noise: str) -> None:
    assert written(tmp_path, False, log_format=noise, factory=1) == ""
