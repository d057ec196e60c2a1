"""The section auth.keystone: what contradicts itself, and what `imgservice check` finds out."""

import re
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any, cast

import pytest
import yaml

from imgservice.concurrency.reactor import Reactor
from imgservice.config.errors import ConfigError, OptionError
from imgservice.config.loader import parse
from imgservice.wiring.keystone import keystone_challenge, make_keystone_tokens
from tests.keystone import PASSWORD, Keystone
from tests.process.certificates import write_certificate
from tests.real.commands import run_command
from tests.real.service import IMGSERVICE, free_port

RIGHT: dict[str, Any] = {
    "url": "https://keystone.example:5000/v3",
    "username": "imgservice",
    "password": "made-up",
}
CREDENTIAL = {"application_credential_id": "id", "application_credential_secret": "made-up"}


def made(**options: Any) -> None:
    """Make what the options ask for; None leaves one out."""
    given = {key: value for key, value in {**RIGHT, **options}.items() if value is not None}
    text = yaml.safe_dump({"auth": {"mode": "keystone", "keystone": given}})
    config = parse(text, "test.yaml")
    make_keystone_tokens(config, cast(Reactor, None))
    keystone_challenge(config.auth.keystone)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"url": "http://127.0.0.1"},
        {"url": "http://[::1]:5000"},
        {"url": ["https://a/identity/v3/", "https://b/identity"]},
        {"username": None, "password": None, **CREDENTIAL},
        {"user_domain_id": "d", "project_domain_id": "d", "project": "p"},
        {"insecure": True},
        {"www_authenticate_uri": "https://keystone.example"},
    ],
)
def test_what_is_right(options: dict[str, Any]) -> None:
    made(**options)


@pytest.mark.parametrize(
    ("options", "place", "words"),
    [
        ({"url": None}, "auth.keystone.url", "is needed"),
        ({"url": []}, "auth.keystone.url", "is needed"),
        ({"url": "keystone:5000"}, "auth.keystone.url", "expected a URL"),
        ({"url": "ftp://keystone"}, "auth.keystone.url", "expected a URL"),
        ({"url": "http://"}, "auth.keystone.url", "expected a URL"),
        ({"url": "http://host:99999"}, "auth.keystone.url", "expected a URL"),
        ({"url": "http://host:x"}, "auth.keystone.url", "expected a URL"),
        ({"url": "http://[::1"}, "auth.keystone.url", "expected a URL"),
        ({"url": "http://ho st"}, "auth.keystone.url", "expected a URL"),
        ({"url": "http://host\r\nX: y"}, "auth.keystone.url", "expected a URL"),
        ({"url": "http://user:made-up@host"}, "auth.keystone.url", "keys of their own"),
        ({"url": "http://host/?a=b"}, "auth.keystone.url", "keys of their own"),
        ({"password": None}, "auth.keystone.password", "is missing"),
        ({"password": ""}, "auth.keystone.password", "is missing"),
        ({"username": None}, "auth.keystone", "there is none"),
        (CREDENTIAL, "auth.keystone", "username and application_credential_id"),
        ({"token_file": "/x"}, "auth.keystone", "username and token_file"),
        (
            {"username": None, "application_credential_id": "id"},
            "auth.keystone.application_credential_secret",
            "is missing",
        ),
        ({"username": None, "token_file": "/none"}, "auth.keystone.token_file", "No such file"),
        ({"ca_file": "/none"}, "auth.keystone.ca_file", "No such file"),
        ({"ca_file": "/none", "insecure": True}, "auth.keystone.ca_file", "contradict"),
        ({"timeout": 0}, "auth.keystone.timeout", "more than 0"),
        ({"connections": 0}, "auth.keystone.connections", "more than 0"),
        ({"www_authenticate_uri": 'x"y'}, "auth.keystone.www_authenticate_uri", "expected a URL"),
        ({"www_authenticate_uri": "x\ny"}, "auth.keystone.www_authenticate_uri", "expected a URL"),
    ],
)
def test_what_is_wrong(options: dict[str, Any], place: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        made(**options)
    told = re.sub(r"^test\.yaml:\d+: ", "", str(caught.value))  # there if the loader finds it
    assert told.startswith(f"{place}: ")
    assert words in told
    assert "made-up" not in str(caught.value)


@pytest.mark.parametrize("url", [7, {"a": "b"}, [7], True])
def test_urls_are_strings(url: Any) -> None:
    with pytest.raises(ConfigError, match="expected a URL or a list of URLs"):
        made(url=url)


def test_files_that_hold_something_else(tmp_path: Path) -> None:
    file = tmp_path / "file"
    for text in ("", "two words", "one\ntwo", "\xff"):
        file.write_text(text, encoding="latin-1")
        with pytest.raises(OptionError, match=r"auth\.keystone\.token_file"):
            made(username=None, token_file=str(file))
    file.write_text("no certificate")
    with pytest.raises(OptionError, match=r"auth\.keystone\.ca_file"):
        made(ca_file=str(file))
    write_certificate(file, tmp_path / "key")
    made(ca_file=str(file))


# -- imgservice check -----------------------------------------------------------------------------


def check(folder: Path, auth: Any) -> CompletedProcess[str]:
    config = folder / "imgservice.yaml"
    options = {
        "auth": auth,
        "database": {"url": f"sqlite:///{folder / 'imgservice.db'}"},
        "stores": {"local": {"type": "file", "path": str(folder / "images")}},
    }
    config.write_text(yaml.safe_dump(options))
    done = run_command(IMGSERVICE, "check", "--config", config)
    assert PASSWORD not in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    return done


def test_check_with_a_keystone_that_knows_us(keystone: Keystone, tmp_path: Path) -> None:
    done = check(tmp_path, keystone.auth())
    assert done.returncode == 0, done.stderr
    assert "usable" in done.stderr


def test_check_with_one_that_does_not(keystone: Keystone, tmp_path: Path) -> None:
    done = check(tmp_path, keystone.auth(username="nobody"))
    assert done.returncode == 1
    assert "imgservice.yaml:" in done.stderr
    assert "auth.keystone.password: our credentials are refused" in done.stderr


def test_check_with_none(keystone: Keystone, tmp_path: Path) -> None:
    url = f"http://127.0.0.1:{free_port()}/v3"
    done = check(tmp_path, keystone.auth(url=url, timeout=2))
    assert done.returncode == 1
    assert f"auth.keystone.url: {url}: it cannot be reached" in done.stderr
