"""Custom properties that are not for everybody: the operator's file at work.

`GLANCE` is what a Glance 33 answered to the same requests with the same files.
"""

import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner

from imgservice.cli import main
from tests.real.client import Client, Reply
from tests.real.roles import OLDER_PATCH, PATCH, TRUSTED, add, identity, patch, remove, replace
from tests.real.service import Service, running, wait_until

FORMATS = ("roles", "policies")
FILES = {
    "roles": """\
[^open$]
create = @
read = @
update = @
delete = @

[^closed$]
create = !
read = !
update = !
delete = !

[^each]
create = Creator, admin
read = watcher,creator,updater,deleter
update = updater
delete = deleter

[^blind]
create = member
read = watcher
update = updater
delete = deleter

[^empty$]
create =
read = @
update =
delete =

[inside]
create = @
read = @
update = !
delete = !
""",
    "policies": """\
[^open$]
create = @
read = @
update = @
delete = @

[^closed$]
create = !
read = !
update = !
delete = !

[^each]
create = can_create
read = can_read
update = can_update
delete = can_delete

[^blind]
create = everybody
read = can_watch
update = can_update
delete = can_delete

[^empty$]
create =
read = @
update =
delete =

[inside]
create = @
read = @
update = !
delete = !
""",
}
POLICY = """\
can_create: role:creator or role:admin
can_read: role:watcher or role:creator or role:updater or role:deleter
can_update: role:updater
can_delete: role:deleter
can_watch: role:watcher
everybody: role:member
"""
PROPERTIES = ("open", "closed", "each_one", "blind_one", "empty", "an_inside_one", "other")
"""The last one is in no section."""
ROLES = {
    "plain": "",
    "creator": "creator",
    "watcher": "watcher",
    "updater": "updater",
    "deleter": "deleter",
    "admin": "admin",
    "service-creator": "",
}
"""Beside member and reader."""
GLANCE = {
    "create": """
        plain           ok     403    403    lost   403    ok     403
        creator         ok     403    ok     lost   403    ok     403
        watcher         ok     403    403    ok     403    ok     403
        updater         ok     403    403    lost   403    ok     403
        deleter         ok     403    403    lost   403    ok     403
        admin           ok     403    lost   lost   403    ok     403
        service-creator ok     403    ok     lost   403    ok     403
    """,
    "show": """
        plain           yes    no     no     no     yes    yes    no
        creator         yes    no     yes    no     yes    yes    no
        watcher         yes    no     yes    yes    yes    yes    no
        updater         yes    no     yes    no     yes    yes    no
        deleter         yes    no     yes    no     yes    yes    no
        admin           yes    no     no     no     yes    yes    no
        service-creator yes    no     yes    no     yes    yes    no
    """,
    "add": """
        plain           ok     403    403    500    403    ok     403
        creator         ok     403    ok     500    403    ok     403
        watcher         ok     403    403    ok     403    ok     403
        updater         ok     403    403    500    403    ok     403
        deleter         ok     403    403    500    403    ok     403
        admin           ok     403    500    500    403    ok     403
        service-creator ok     403    ok     500    403    ok     403
    """,
    "add over": """
        plain           ok     403    403    500    403    403    403
        creator         ok     403    403    500    403    403    403
        watcher         ok     403    403    403    403    403    403
        updater         ok     403    ok     500    403    403    403
        deleter         ok     403    403    500    403    403    403
        admin           ok     403    500    500    403    403    403
        service-creator ok     403    403    500    403    403    403
    """,
    "strictly over": """
        plain           409    403    403    500    409    409    403
        creator         409    403    409    500    409    409    403
        watcher         409    403    409    409    409    409    403
        updater         409    403    409    500    409    409    403
        deleter         409    403    409    500    409    409    403
        admin           409    403    500    500    409    409    403
        service-creator 409    403    409    500    409    409    403
    """,
    "replace": """
        plain           ok     409    409    409    403    403    409
        creator         ok     409    403    409    403    403    409
        watcher         ok     409    403    403    403    403    409
        updater         ok     409    ok     409    403    403    409
        deleter         ok     409    403    409    403    403    409
        admin           ok     409    409    409    403    403    409
        service-creator ok     409    403    409    403    403    409
    """,
    "remove": """
        plain           ok     409    409    409    403    403    409
        creator         ok     409    403    409    403    403    409
        watcher         ok     409    403    403    403    403    409
        updater         ok     409    403    409    403    403    409
        deleter         ok     409    ok     409    403    403    409
        admin           ok     409    409    409    403    403    409
        service-creator ok     409    403    409    403    403    409
    """,
}
"""For each caller what became of each property: ok - as asked for; lost - an answer of success, and
nothing stored; or the status of the answer."""


def expected(way: str, who: str, answers: Mapping[str, str]) -> Mapping[str, str]:
    """Return what we do: as Glance, but that it drops or trips over what one may not read.

    There we record what may be created ("blind"), and replace what one may also update.
    """
    found = {}
    for name, answer in answers.items():
        if answer == "500" and "over" in way:
            answer = "blind" if who == "updater" else "403"
        found[name] = "blind" if answer in ("lost", "500") else answer
    return found


def rows(table: str) -> Iterator[tuple[str, Mapping[str, str]]]:
    for line in table.strip().splitlines():
        who, *answers = line.split()
        yield who, dict(zip(PROPERTIES, answers, strict=True))


@attrs.frozen
class Protected:
    """A service with protected properties, and a Glance's way to fill its database."""

    service: Service

    def caller(self, who: str) -> Client:
        headers = identity("ours", ",".join(filter(None, ("member,reader", ROLES[who]))))
        if who.startswith("service-"):
            headers |= {
                "X-Service-Identity-Status": "Confirmed",
                "X-Service-User-Id": "nova",
                "X-Service-Roles": who.removeprefix("service-"),
            }
        return attrs.evolve(self.service.client, headers=headers)

    def image(self, **properties: str) -> str:
        """Return an image that has the properties, whoever may create them."""
        image_id = self.caller("plain").create()
        with closing(sqlite3.connect(self.service.database, timeout=60)) as connection:
            for name, value in properties.items():
                connection.execute(
                    "INSERT INTO image_properties"
                    " (image_id, name, value, created_at, updated_at, deleted)"
                    " VALUES (?, ?, ?, datetime(), datetime(), 0)",
                    (image_id, name, value),
                )
            connection.commit()
        return image_id

    def stored(self, image_id: str, name: str) -> str | None:
        found = self.service.rows(
            "SELECT value FROM image_properties WHERE image_id = ? AND name = ? AND deleted = 0",
            image_id,
            name,
        )
        return found[0][0] if found else None

    def outcome(self, reply: Reply, image_id: str, name: str, before: str | None) -> str:
        """Tell what became of the property, in the words of the tables."""
        stored = self.stored(image_id, name) if image_id else None
        if reply.status not in (200, 201):
            assert stored == before
            return str(reply.status)
        if stored != "new":
            return "lost"
        return "ok" if reply.json().get(name) == "new" else "blind"


@pytest.fixture(scope="module", params=FORMATS)
def protected(request: pytest.FixtureRequest, tmp_path_factory: Any) -> Iterator[Protected]:
    directory = tmp_path_factory.mktemp(request.param)
    with running(directory, options(directory, request.param)) as service:
        yield Protected(service)


def options(directory: Path, format_: str) -> Mapping[str, Any]:
    file, policy = directory / "protections.conf", directory / "policy.yaml"
    file.write_text(FILES[format_])
    policy.write_text(POLICY)
    protections = {"property_protections": {"file": str(file), "format": format_}}
    more = {} if format_ == "roles" else {"file": str(policy)}
    return {
        **TRUSTED,
        "policy": {**more, **protections},
        "limits": {"rate": {"project": {"creates": None}}},
    }


def ask(protected: Protected, way: str, client: Client, name: str) -> str:
    """Ask in one of the ways of the tables, and tell what became of it."""
    if way == "create":
        reply = client.post("/v2/images", {name: "new"})
        image_id = reply.json()["id"] if reply.status == 201 else ""
        return protected.outcome(reply, image_id, name, None)
    before = None if way == "add" else "was"
    image_id = protected.image(**({name: before} if before else {}))
    if way == "show":
        return "yes" if name in client.show(image_id) else "no"
    reply = change(way, client, image_id, name)
    if way == "remove" and reply.status == 200:
        assert protected.stored(image_id, name) is None
        return "ok"
    return protected.outcome(reply, image_id, name, before)


def change(way: str, client: Client, image_id: str, name: str) -> Reply:
    if way == "strictly over":
        operation = {"add": f"/{name}", "value": "new"}
        return patch(client, image_id, operation, type_=OLDER_PATCH)
    if way == "remove":
        return patch(client, image_id, remove(name))
    return patch(client, image_id, replace(name, "new") if way == "replace" else add(name, "new"))


@pytest.mark.parametrize("way", GLANCE)
def test_a_protected_property_is_treated_as_in_glance(protected: Protected, way: str) -> None:
    for who, answers in rows(GLANCE[way]):
        client = protected.caller(who)
        found = {name: ask(protected, way, client, name) for name in PROPERTIES}
        assert found == expected(way, who, answers), who


@pytest.mark.parametrize("name", PROPERTIES)
def test_no_change_loses_what_its_author_cannot_read(protected: Protected, name: str) -> None:
    """Glance loses it at the next change, whatever that is about."""
    client, image_id = protected.caller("plain"), protected.image(**{name: "was"})
    assert patch(client, image_id, replace("name", "other"), add("open", "1")).status == 200
    assert client.put(f"/v2/images/{image_id}/tags/blue", b"").status == 204
    assert client.upload(image_id, b"data").status == 204
    assert client.request("POST", f"/v2/images/{image_id}/actions/deactivate").status == 204
    assert protected.stored(image_id, name) == ("1" if name == "open" else "was")


@pytest.mark.parametrize("who", ROLES)
def test_a_filter_finds_nothing_by_what_one_cannot_read(protected: Protected, who: str) -> None:
    """In Glance it finds the image, and so tells the value to whoever guesses it."""
    client = protected.caller(who)
    for name in PROPERTIES:
        image_id = protected.image(**{name: "was"})
        found = client.get(f"/v2/images?{name}=was&id={image_id}").json()["images"]
        shown = name in client.show(image_id)
        assert [image["id"] for image in found] == ([image_id] if shown else [])
        assert client.get(f"/v2/images?{name}=other&id={image_id}").json()["images"] == []


def test_a_list_shows_what_a_single_image_shows(protected: Protected) -> None:
    client = protected.caller("updater")
    image_id = protected.image(**dict.fromkeys(PROPERTIES, "1"))
    [listed] = client.get(f"/v2/images?id={image_id}").json()["images"]
    assert listed == client.show(image_id)
    assert {"open", "each_one", "empty", "an_inside_one"} == set(PROPERTIES) & listed.keys()


def test_an_image_with_properties_that_one_may_not_remove_can_be_deleted(
    protected: Protected,
) -> None:
    image_id = protected.image(closed="was", empty="was")
    assert protected.caller("plain").delete(f"/v2/images/{image_id}").status == 204


def test_a_change_of_which_one_part_is_forbidden_changes_nothing(protected: Protected) -> None:
    client, image_id = protected.caller("plain"), protected.image()
    assert patch(client, image_id, add("open", "1"), add("closed", "1")).status == 403
    assert "open" not in client.show(image_id)


def test_a_refusal_names_the_property(protected: Protected) -> None:
    client = protected.caller("plain")
    reply = client.post("/v2/images", {"open": "1", "closed": "1"})
    assert reply.status == 403
    assert b"Attribute 'closed' is reserved." in reply.body


def test_entity_tags_are_of_what_one_sees(protected: Protected) -> None:
    image_id = protected.image(each_one="was")
    plain, updater = protected.caller("plain"), protected.caller("updater")
    tags = [one.get(f"/v2/images/{image_id}").headers["etag"] for one in (plain, updater)]
    assert tags[0] != tags[1]
    assert plain.get(f"/v2/images/{image_id}", If_None_Match=tags[1]).status == 200
    assert plain.get(f"/v2/images/{image_id}", If_None_Match=tags[0]).status == 304
    body = b'[{"op": "replace", "path": "/each_one", "value": "new"}]'
    for tag, status in ((tags[0], 412), (tags[1], 200)):
        headers = {"Content-Type": PATCH, "If-Match": tag}
        reply = updater.request("PATCH", f"/v2/images/{image_id}", body, headers)
        assert reply.status == status


def test_anonymous_readers_have_no_role_here(tmp_path: Path) -> None:
    more: dict[str, Any] = dict(options(tmp_path, "roles"))
    (tmp_path / "protections.conf").write_text(
        "[members]\ncreate = @\nread = member,reader\nupdate = @\ndelete = @\n"
        "[all]\ncreate = @\nread = @\nupdate = @\ndelete = @\n"
    )
    more["auth"] = {**more["auth"], "anonymous_read": True}
    with running(tmp_path, more) as service:
        admin = attrs.evolve(service.client, headers=identity("ops", "admin,member,reader"))
        image_id = admin.create(visibility="public", for_members="1", for_all="1")
        assert {"for_members", "for_all"} <= admin.show(image_id).keys()
        document = service.client.show(image_id)
        assert "for_all" in document
        assert "for_members" not in document
        found = service.client.get("/v2/images?for_members=1").json()["images"]
        assert found == []


# -- the file -------------------------------------------------------------------------------------

SECTION = "[{}]\ncreate = @\nread = {}\nupdate = @\ndelete = @\n"


def replaced(file: Path, text: str) -> None:
    """Put another file in its place, as editors do."""
    new = file.with_suffix(".new")
    new.write_text(text)
    new.replace(file)


def test_the_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    file = tmp_path / "protections.conf"
    more = options(tmp_path, "roles")
    file.write_text(SECTION.format("colour", "@"))
    with running(tmp_path, more) as service:
        client = attrs.evolve(service.client, headers=identity("ours", "member,reader"))
        image_id = client.create(colour="blue")

        def told(text: str) -> bool:
            assert "colour" not in client.show(image_id)
            return text in service.log.read_text()

        assert client.show(image_id)["colour"] == "blue"
        replaced(file, SECTION.format("colour", "painter"))
        wait_until(lambda: "colour" not in client.show(image_id))
        replaced(file, "[colour]\ncreate = @\n")
        wait_until(lambda: told(f"{file}:1: [colour] does not say who may read"))
        file.unlink()
        wait_until(lambda: told(f"{file}: cannot be read"))
        assert "colour" not in client.show(image_id)
        replaced(file, SECTION.format("colour", "@"))
        wait_until(lambda: "colour" in client.show(image_id))
        log = service.log.read_text()
        assert log.count("does not say who may read") == 1
        assert log.count("cannot be read") == 1


MISTAKES = {
    "[a\ncreate = @\n": (1, "expected a section"),
    "create = @\n": (1, "expected a section"),
    "[a]\ncreate = @\n[b]\n": (1, "[a] does not say who may read"),
    "# who\n[a]\ncreate = @, !\nread = @\nupdate = @\ndelete = @\n": (3, "contradict each other"),
    SECTION.format("ok", "@") + "\n[a(]\ncreate = @\n": (7, "[a(] is not a regular expression"),
    SECTION.format("a", "@") + SECTION.format("a", "@"): (6, "section 'a' already exists"),
    "[a]\ncreate = @\nread = 50%\nupdate = @\ndelete = @\n": (3, "[a] read: '%' must be followed"),
    "[a]\ncreate = @\nCREATE = @\n": (3, "option 'create' in section 'a' already exists"),
    "[a]\nnonsense\n": (2, "neither a section nor a key with a value"),
}


@pytest.mark.parametrize("text", MISTAKES)
def test_a_mistake_in_the_file_is_found_before_the_start(tmp_path: Path, text: str) -> None:
    service = Service(tmp_path, options(tmp_path, "roles"))
    file = tmp_path / "protections.conf"
    file.write_text(text)
    line, told = MISTAKES[text]
    checked = CliRunner().invoke(main, ["check", "--config", str(service.config)])
    assert checked.exit_code == 1
    [said] = checked.stderr.splitlines()
    assert f"policy.property_protections.file: {file}:{line}: " in said
    assert told in said


def test_the_service_does_not_start_with_a_mistake_in_the_file(tmp_path: Path) -> None:
    service = Service(tmp_path, options(tmp_path, "roles"))
    (tmp_path / "protections.conf").write_text("[a]\nnonsense\n")
    with pytest.raises(AssertionError) as failed:
        service.start()
    checked = CliRunner().invoke(main, ["check", "--config", str(service.config)])
    assert checked.stderr.strip() == str(failed.value).splitlines()[0]


def test_the_service_does_not_start_without_the_file(tmp_path: Path) -> None:
    more = options(tmp_path, "roles")
    (tmp_path / "protections.conf").unlink()
    with pytest.raises(AssertionError, match=r"protections\.conf: cannot be read: No such file"):
        Service(tmp_path, more).start()


def test_a_policy_must_have_the_rules_that_the_file_names(tmp_path: Path) -> None:
    """In Glance a name that is misspelt means the rule `default`, which is for everybody."""
    more = options(tmp_path, "policies")
    (tmp_path / "policy.yaml").write_text(POLICY.replace("can_update:", "can_updaet:"))
    with pytest.raises(AssertionError, match=r":16: \[\^each\] update: .*no rule 'can_update'"):
        Service(tmp_path, more).start()


def test_roles_that_nobody_has_are_told(tmp_path: Path) -> None:
    users, file = tmp_path / "users.yaml", tmp_path / "protections.conf"
    users.write_text("alice: {project: p, roles: [Billing]}\n")
    (tmp_path / "htpasswd").touch()
    more = dict(options(tmp_path, "roles"))
    section = "[{}]\ncreate = billing, admn\nread = @\nupdate = !\ndelete = {}\n"
    file.write_text(section.format("^x", "accountants") + section.format("os_glance_x", "admn"))
    basic = {"file": str(tmp_path / "htpasswd"), "users": str(users)}
    for auth in ({"mode": "basic", "basic": basic}, {"mode": "trusted_headers"}):
        service = Service(tmp_path, {**more, "auth": auth})
        checked = CliRunner().invoke(main, ["check", "--config", str(service.config)])
        assert checked.exit_code == 0, checked.stderr
        told = [line for line in checked.stderr.splitlines() if f"{file}:" in line]
        assert f"{file}:2: [^x] create: no user and no default rule has the role 'admn'" in told[0]
        assert "did you mean admin?" in told[0]
        # Behind a proxy somebody may have the other one.
        others = [f"{file}:5: [^x] delete: " in line for line in told[1:]]
        assert others == ([True] if auth["mode"] == "basic" else [])
    with running(tmp_path, more) as service:
        assert service.log.read_text().count("did you mean admin?") == 1
        replaced(file, section.format("^x", "readers"))
        client = Protected(service).caller("watcher")
        wait_until(lambda: client.get("/v2/images") and "'readers'" in service.log.read_text())


def test_rules_are_those_of_the_policy_at_present(tmp_path: Path) -> None:
    more = options(tmp_path, "policies")
    policy = tmp_path / "policy.yaml"
    with running(tmp_path, more) as service:
        protected = Protected(service)
        client, image_id = protected.caller("watcher"), protected.image(each_one="was")
        assert "each_one" in client.show(image_id)
        replaced(policy, POLICY.replace("role:watcher or role:creator", "role:creator"))
        wait_until(lambda: "each_one" not in client.show(image_id))
        replaced(policy, POLICY)
        wait_until(lambda: "each_one" in client.show(image_id))
        replaced(policy, POLICY.replace("can_read:", "can_raed:"))
        wait_until(lambda: "each_one" not in client.show(image_id))
