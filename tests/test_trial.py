"""Building the service once to check a configuration leaves nothing behind."""

import threading
from pathlib import Path

import pytest

from imgservice.config.errors import OptionError
from imgservice.config.loader import parse
from imgservice.wiring.trial import try_build

KEYSTONE = "{mode: keystone, keystone: {url: 'http://127.0.0.1:9', username: u, password: p}}"


def _running() -> tuple[list[threading.Thread], int]:
    return threading.enumerate(), len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("auth", ["{mode: none}", KEYSTONE])
@pytest.mark.parametrize(
    "url", ["sqlite:///images.db", "postgresql://127.0.0.1:9/x", "mysql://127.0.0.1:9/x"]
)
def test_nothing_is_started_or_created(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, auth: str, url: str
) -> None:
    monkeypatch.chdir(tmp_path)
    config = parse(f"database: {{url: '{url}'}}\nauth: {auth}", "x.yaml")
    before = _running()
    try_build(config)
    assert _running() == before
    assert list(tmp_path.iterdir()) == []


def test_a_database_url_that_cannot_be_used_is_named() -> None:
    with pytest.raises(OptionError, match=r"^database\.url: "):
        try_build(parse("database: {url: nonsense}", "x.yaml"))


def test_possible_mistakes_in_files_are_told(tmp_path: Path) -> None:
    rules = tmp_path / "policy.yaml"
    rules.write_text("get_image: role:nobody_has_it\n")
    told: list[str] = []
    try_build(parse(f"policy: {{file: {rules}}}", "x.yaml"), told.append)
    assert "nobody_has_it" in told[0]
