"""Policy files, as operators have them, against a running service."""

import json
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from imgservice.cli import main
from tests.real.client import Client
from tests.real.commands import run_command
from tests.real.policy_matrix import CALLERS, POLICIES, outcomes
from tests.real.roles import caller, trusting
from tests.real.service import TWISTD, Service, wait_until

FACTS = json.loads(Path(__file__).with_name("policy_outcomes.json").read_text())
"""What a Glance 33 answered."""
UNLIMITED = {
    "rate": {
        "address": {"requests": None},
        "user": {"requests": None},
        "project": {"requests": None, "creates": None},
    }
}
"""These tests ask a lot in little time."""


# -- as Glance ------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", POLICIES)
def test_answers_are_those_of_a_glance(name: str, tmp_path: Path) -> None:
    wanted = POLICIES[name]
    policy = tmp_path / "policy.yaml"
    policy.write_text("")
    options = {"policy": {"file": str(policy)}, "limits": UNLIMITED}
    with trusting(tmp_path, **options) as service:

        def change() -> None:
            replace_file(policy, wanted.text)
            if wanted.new_defaults:
                wait_until_read(service)
            else:
                restart(service, enforce_new_defaults=False)

        found = outcomes(service.client, change)
    differences = [
        (caller, about, number, ours, theirs)
        for caller in CALLERS
        for about, answers in found[caller].items()
        for number, ours, theirs in compared(answers, FACTS[name][caller][about])
    ]
    assert differences == []


def compared(ours: str, theirs: str) -> Iterator[tuple[int, str, str]]:
    """Yield the answers that differ, but for where we mean it.

    Who may not see an image is told so by some requests in Glance, and learns that it is there; and
    who sees it but does not own it is told by DELETE that it is not there. By the former defaults a
    member that removes another one is told that it may not, here that there is none.
    """
    seen, *_ = ours.split()
    for number, (one, other) in enumerate(zip(ours.split(), theirs.split(), strict=True)):
        hidden = (seen == "404" or number == 7) and (one, other) == ("404", "403")
        visible = seen == "200" and (one, other) == ("403", "404") and number >= 17
        if one != other and not hidden and not visible:
            yield number, one, other


def wait_until_read(service: Service, times: int = 1) -> None:
    wait_until(lambda: prodded(service).count("Read again") >= times)


def prodded(service: Service) -> str:
    """Return the log after a request: files are checked with each request."""
    caller(service, "ours").get("/v2/images?limit=1")
    return service.log.read_text()


def restart(service: Service, **options: Any) -> None:
    service.stop()
    service.options["policy"] |= options
    service.config.write_text(yaml.safe_dump(service.options))
    service.start()


# -- changes of the files -------------------------------------------------------------------------


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    path = tmp_path / "policy.yaml"
    path.write_text("get_image: '@'\n")
    return path


@pytest.fixture
def service(tmp_path: Path, policy: Path) -> Iterator[Service]:
    folder = tmp_path / "policy.d"
    folder.mkdir()
    options = {"policy": {"file": str(policy), "dirs": [str(folder)]}, "limits": UNLIMITED}
    with trusting(tmp_path, **options) as started:
        yield started


def test_a_changed_file_holds_without_a_restart(service: Service, policy: Path) -> None:
    member, admin = caller(service, "ours"), caller(service, "ops", "admin")
    image_id = member.active(b"data")
    assert member.download(image_id).status == 200
    policy.write_text("download_image: role:admin\n")
    wait_until(lambda: member.download(image_id).status == 403)
    assert admin.download(image_id).status == 200
    (policy.parent / "policy.d" / "more.json").write_text('{"download_image": "role:member"}')
    wait_until(lambda: member.download(image_id).status == 200)
    assert admin.download(image_id).status == 403
    (policy.parent / "policy.d" / "more.json").unlink()
    wait_until(lambda: admin.download(image_id).status == 200)
    assert member.download(image_id).status == 403


def test_a_broken_file_changes_nothing_and_is_told_once(service: Service, policy: Path) -> None:
    member = caller(service, "ours")
    policy.write_text("get_image: '!'\n")
    image_id = member.create()
    wait_until(lambda: member.get(f"/v2/images/{image_id}").status == 404)
    complaint = "keeping the previous version"
    mistakes = ("get_image: role:\nget_image", "get_image: rule:nowhere", "[")
    for number, broken in enumerate(mistakes, 1):
        replace_file(policy, broken)
        wait_until(lambda told=number: prodded(service).count(complaint) >= told)
        for _ in range(10):
            assert member.get(f"/v2/images/{image_id}").status == 404
            time.sleep(0.2)
        assert service.log.read_text().count(complaint) == number
    policy.unlink()
    wait_until(lambda: "cannot be read: No such file" in prodded(service))
    assert member.get(f"/v2/images/{image_id}").status == 404
    policy.write_text("get_image: '@'\n")
    wait_until(lambda: member.get(f"/v2/images/{image_id}").status == 200)


def test_no_request_fails_while_files_are_read(service: Service, policy: Path) -> None:
    member = caller(service, "ours")
    image_id = member.create()
    failed: list[Any] = []
    stopped = threading.Event()

    def ask() -> None:
        while not stopped.is_set():
            reply = member.get(f"/v2/images/{image_id}")
            if reply.status != 200:
                failed.append(reply)

    callers = [threading.Thread(target=ask) for _ in range(4)]
    for one in callers:
        one.start()
    try:
        for number in range(4):
            rules = f"get_image: role:reader\nmine: role:{number}\nmodify_image: rule:mine"
            replace_file(policy, rules)
            wait_until_read(service, number + 1)
    finally:
        stopped.set()
        for one in callers:
            one.join()
    assert failed == []


def replace_file(path: Path, text: str) -> None:
    new = path.with_suffix(".new")
    new.write_text(text)
    new.replace(path)


# -- lists ----------------------------------------------------------------------------------------


def test_pages_of_a_filtered_list_lose_nothing(tmp_path: Path, policy: Path) -> None:
    policy.write_text("get_image: not 'secret':%(colour)s\n")
    with trusting(tmp_path, policy={"file": str(policy)}) as service:
        member = caller(service, "ours")
        for number in range(10):
            member.create(name=f"{number}", colour="plain" if number in (0, 1, 7) else "secret")
        names, path, pages = [], "/v2/images?limit=2&sort=name:asc", 0
        while path:
            page = member.get(path).json()
            names += [image["name"] for image in page["images"]]
            path, pages = page.get("next"), pages + 1
        assert names == ["0", "1", "7"]
        assert pages >= 5


def test_who_may_not_list_gets_not_even_an_empty_page(tmp_path: Path, policy: Path) -> None:
    policy.write_text("get_images: role:lister\n")
    with trusting(tmp_path, policy={"file": str(policy)}) as service:
        for query in ("", "?limit=0", "?limit=1"):
            assert caller(service, "ours").get(f"/v2/images{query}").status == 403
            assert caller(service, "ours", "lister").get(f"/v2/images{query}").status == 200


def test_what_is_nobodys_is_listed_only_where_it_is_for_all(tmp_path: Path) -> None:
    with trusting(tmp_path) as service:
        member, admin = caller(service, "ours"), caller(service, "ops", "admin,member,reader")
        for visibility, status in (("private", 404), ("shared", 200), ("public", 200)):
            image_id = admin.create(owner=None, visibility=visibility)
            assert member.get(f"/v2/images/{image_id}").status == status
            for query in ("visibility=all", "visibility=shared", ""):
                listed = member.get(f"/v2/images?member_status=all&{query}").json()["images"]
                is_listed = visibility == "public" and query != "visibility=shared"
                assert (image_id in [image["id"] for image in listed]) is is_listed


# -- scopes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("scope", [{"OpenStack-System-Scope": "all"}, {"X-Domain-Id": "a-domain"}])
@pytest.mark.parametrize("text", ["", "get_image: role:admin\nget_images: '@'\nadd_image: '@'\n"])
def test_only_who_asks_for_a_project_gets_in(
    scope: dict[str, str], text: str, tmp_path: Path, policy: Path
) -> None:
    policy.write_text(text)
    with trusting(tmp_path, policy={"file": str(policy)}) as service:
        image_id = caller(service, "ours", "member,reader,admin").create()
        client = Client(
            "127.0.0.1",
            service.port,
            {"X-Identity-Status": "Confirmed", "X-User-Id": "u", "X-Roles": "admin", **scope},
        )
        assert client.get("/v2/images").status == 403
        assert client.get(f"/v2/images/{image_id}").status == 404
        assert client.delete(f"/v2/images/{image_id}").status == 404
        assert client.post("/v2/images", {}).status == 403
        restart(service, enforce_scope=False)
        assert client.get(f"/v2/images/{image_id}").status == 200


# -- before the start -----------------------------------------------------------------------------


def started(directory: Path, options: dict[str, Any]) -> tuple[int, str]:
    service = Service(directory, options)
    command = ["--nodaemon", "--pidfile=", "imgservice", "--config", str(service.config)]
    ended = run_command(TWISTD, *command, cwd=directory)
    return ended.returncode, ended.stderr


def checked(directory: Path, options: dict[str, Any]) -> tuple[int, str]:
    service = Service(directory, options)
    ended = CliRunner().invoke(main, ["check", "--config", str(service.config)])
    return ended.exit_code, ended.stderr


@pytest.mark.parametrize("ask", [started, checked])
@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "policy.yaml: cannot be read: No such file or directory"),
        ("a: role:a\nget_image: role:a or\n", "policy.yaml:2: get_image: Failed to understand"),
        ("get_image: rule:a", "policy.yaml:1: get_image: there is no rule 'a'"),
        ("a: rule:a\nget_image: rule:a", "policy.yaml:1: a: it refers to itself through 'a'"),
    ],
)
def test_a_file_with_mistakes_stops_the_start(
    ask: Callable[..., tuple[int, str]], text: str | None, message: str, tmp_path: Path
) -> None:
    path = tmp_path / "policy.yaml"
    if text is not None:
        path.write_text(text)
    code, said = ask(tmp_path, {"policy": {"file": str(path)}})
    assert code == 1
    assert "imgservice.yaml:" in said
    assert ": policy: " in said
    assert message in said


def test_check_warns_of_names_that_mean_nothing(tmp_path: Path, policy: Path) -> None:
    policy.write_text("get_imag: role:a\n")
    options = {"policy": {"file": str(policy)}}
    code, said = checked(tmp_path, options)
    assert code == 0
    assert f"warning: {policy}:1: get_imag: no rule has this name" in said
    shutil.rmtree(tmp_path / "images")
    with trusting(tmp_path, **options) as service:
        assert service.log.read_text().count("did you mean get_image?") == 1


def test_check_warns_of_roles_that_nobody_has(tmp_path: Path, policy: Path) -> None:
    users = tmp_path / "users.yaml"
    users.write_text("alice: {project: p, roles: [uploader]}\n")
    htpasswd = tmp_path / "htpasswd"
    htpasswd.touch()
    basic = {"file": str(htpasswd), "users": str(users)}
    policy.write_text(
        'add_image: role:uploader or role:Member\nget_image: "role:admn or role:reader"\n'
        "delete_image: role:deleter\n"
    )
    options: dict[str, Any] = {"policy": {"file": str(policy)}}
    for auth in ({"mode": "basic", "basic": basic}, {"mode": "trusted_headers"}):
        code, said = checked(tmp_path, {**options, "auth": auth})
        assert code == 0, said
        assert f"{policy}:2: get_image: no user and no default rule has the role 'admn'" in said
        assert "did you mean admin?" in said
        # In Keystone, or behind a proxy, somebody may have it.
        assert (f"{policy}:3: delete_image: no user" in said) == (auth["mode"] == "basic")
        assert ":1: add_image" not in said or auth["mode"] != "basic"
    shutil.rmtree(tmp_path / "images")
    with trusting(tmp_path, **options) as service:
        assert service.log.read_text().count("did you mean admin?") == 1


def test_without_policy_files_the_library_is_not_loaded(tmp_path: Path) -> None:
    script = (
        "import sys; from imgservice.wiring.policy import make_rules;"
        "from imgservice.config.sections import Config;"
        "import imgservice.commands.check, imgservice.tap;"
        "make_rules(Config()); print([m for m in sys.modules if m.startswith('oslo_policy')])"
    )
    ended = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert ended.stdout == "[]\n", ended.stderr
