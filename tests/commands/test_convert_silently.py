"""What `imgservice convert-config` says of what becomes different though no option says so."""

import json
import re
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from imgservice.glance_config import ConversionError, _convert, ini
from imgservice.glance_config.conversion import Folders
from imgservice.glance_config.document import Document
from imgservice.glance_config.secrets import Secrets
from tests.commands.test_convert import LEAST, PASTE, Lab, comments
from tests.real.service import missing
from tests.real.warm import CACHE

GLANCE = CACHE / "glance-venv" / "bin" / "python"
EVERY_OPTION = """
import json
from importlib.metadata import entry_points
wanted = ("glance", "keystonemiddleware", "oslo.db", "oslo.limit", "oslo.log", "oslo.middleware",
          "oslo.policy", "oslo.messaging", "oslo.concurrency", "osprofiler")
print(json.dumps([
    (str(getattr(group, "name", group) or "DEFAULT"), option.name, option.default)
    for point in entry_points(group="oslo.config.opts")
    if point.name.startswith(wanted) and "multi" not in point.name
    for group, options in point.load()()
    for option in options
], default=str))
"""
"""Prints what Glance and its libraries tell of their options."""
LOOPBACK = "[import_filtering_opts]\nallowed_hosts = [127.0.0.1]\n"


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def said(lab: Lab, text: str, *more: object) -> str:
    """Return what standard error and the comments of the output say; both say the same."""
    found = lab.run(f"{LEAST}{text}", *more)
    assert found.exit_code in (0, 3), found.stderr
    written = " ".join(comments(found).replace("#", "").split())
    for line in found.stderr.splitlines():
        about, _, remark = line.removeprefix("imgservice: ").partition(": ")
        if about == "note" and not any(one in remark for one in ("the service", "we listen")):
            assert remark in written
    return written


@pytest.mark.parametrize(
    ("host", "needed"),
    [
        ("127.0.0.1", "127.0.0.1/32"),
        ("127.8.8.8", "127.8.8.8/32"),
        ("::1", "::1/128"),
        ("169.254.169.254", "169.254.169.254/32"),
        ("fd00:ec2::254", "fd00:ec2::254/128"),
        ("localhost", "127.0.0.1/32, ::1/128"),
        (socket.gethostname(), "127.0.0.1/32, ::1/128"),
    ],
)
def test_hosts_that_need_networks(lab: Lab, host: str, needed: str) -> None:
    text = f"[import_filtering_opts]\nallowed_hosts = [{host},192.0.2.7]\n"
    found = lab.run(f"{LEAST}{text}")
    assert found.exit_code == 3
    assert f"{host} would be refused here" in found.stderr
    assert f"add to import.filter.cidrs: {needed}\n" in found.stderr


def test_own_addresses_need_networks(lab: Lab) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            pytest.skip("this host has no address but loopback")
        own = probe.getsockname()[0]
    assert f"cidrs: {own}/32" in said(lab, LOOPBACK.replace("127.0.0.1", own))


def test_hosts_that_need_none(lab: Lab) -> None:
    assert "would be refused" not in said(lab, LOOPBACK.replace("127.0.0.1", "192.0.2.7"))
    named = said(lab, LOOPBACK.replace("127.0.0.1", "images.example.org"))
    assert "Names in import.filter.allowed_hosts that lead to this host" in named


@pytest.mark.parametrize(
    ("changed", "same", "remark"),
    [
        (
            "use_keystone_limits = true",
            "use_keystone_limits = false",
            "Limits of a project are remembered for 5 seconds",
        ),
        ("", "workers = 3", "Glance's files do not say how many processes it has"),
        ("", "enabled_import_methods = []", "Glance offers imports"),
        ("image_cache_dir = /srv/cache", "", "announces the versions 2.14, 2.16 and 2.18"),
        ("[paste_deploy]\nflavor = caching", "", "announces the versions 2.14, 2.16 and 2.18"),
        (
            "",
            "[glance_store]\nfilesystem_store_file_perm = 640",
            "New files in stores get what server.umask leaves",
        ),
    ],
)
def test_what_is_different_is_told(lab: Lab, changed: str, same: str, remark: str) -> None:
    assert remark in said(lab, f"[DEFAULT]\n{changed}\n")
    assert remark not in said(lab, f"[DEFAULT]\n{same}\n")


def test_limits_that_glance_does_not_have_are_told(lab: Lab) -> None:
    assert "Glance limits neither rates nor connections" in said(lab, "")


def test_a_filter_that_was_not_there_is_told(lab: Lab) -> None:
    paste = lab.write("paste.ini", PASTE.replace("= cors people", "= people"))
    text = "[paste_deploy]\nflavor = people\n[cors]\nallowed_origin = https://a\n"
    remark = "The pipeline of Glance has no filter cors"
    assert remark in said(lab, text, paste)
    assert remark not in said(lab, text, lab.write("with.ini", PASTE))
    assert remark not in said(lab, "[cors]\nallowed_origin = https://a\n")


def test_every_option_of_glance_is_accounted_for(lab: Lab) -> None:
    """Each is converted, quoted in a comment with the reason, or told not to be needed."""
    if not GLANCE.exists():
        missing("there is no Glance; tests/install-openstack installs it")
    done = subprocess.run([GLANCE, "-c", EVERY_OPTION], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    options = {(group, name): value for group, name, value in json.loads(done.stdout)}
    assert len(options) > 300
    del options["keystone_authtoken", "auth_section"]  # says where the others are
    path = lab.write("every.conf", LEAST)
    for kind in (written, lambda value: "", lambda value: "1", lambda value: "true"):
        assignments = ini.read_files([path], [])
        for number, ((group, name), value) in enumerate(options.items(), 1):
            assignments.append(ini.Assignment("every", number, group, name, kind(value)))
        told = places(assignments)
        assert [str(one) for one in assignments if one.place not in {*told, *mine(path)}] == []


def mine(path: Path) -> set[str]:
    return {one.place for one in ini.read_files([path], [])}


def places(assignments: Sequence[ini.Assignment]) -> set[str]:
    """Return where what was converted, kept, not needed or wrong stands."""
    wrong: set[str] = set()
    while True:
        given = [one for one in assignments if one.place not in wrong]
        try:
            done = _convert(given, None, Document(""), Secrets(None), Folders([]))
        except ConversionError as error:
            mistakes = set(re.findall(r"every:\d+", str(error)))
            assert mistakes, error
            wrong |= mistakes
        else:
            ignored = [one for one, _ in done.ignored]
            return wrong | {one.place for one in (*done.converted, *done.kept, *ignored)}


def written(value: object) -> str:
    """Write a default as a file has it; of what has none, something."""
    if isinstance(value, list):
        return ",".join(map(str, value))
    if isinstance(value, dict):
        return ",".join(f"{name}:{one}" for name, one in value.items())
    return "something" if value is None else str(value)
