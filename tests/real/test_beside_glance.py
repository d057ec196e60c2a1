"""A real Glance and an imgservice on one database and one set of stores, each asked in turns."""

import io
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import attrs
import pytest
import sqlalchemy as sa

from compare.beside import Services, run_beside
from compare.differences import judge, load_wanted
from compare.report import report
from compare.sequences import RequestSequence, load
from compare.servers import Peer, log_in
from compare.turns import can_take_turns, compare_turns
from tests import glance
from tests.balancer import balanced
from tests.glance import Glance
from tests.keystone import PASSWORD, Keystone
from tests.real.client import Client
from tests.real.openstack import printed
from tests.real.roles import patch, replace
from tests.real.service import Service, wait_until
from tests.servers import Server
from tests.sharing.other import Other

ACCOUNTS = {
    "admin": ("admin", "admin"),
    "demo": ("demo", "demo"),
    "alt": ("alt", "alt"),
    "reader": ("reader", "demo"),
    "service": ("service-only", "service"),
}
LIVES = 8
SAMPLE = 600
"""Of so many sequences one is asked, beside all whole lives."""

# What the clients warn of is not ours to mend.
pytestmark = pytest.mark.filterwarnings("ignore")


@attrs.frozen
class Pair:
    keystone: Keystone
    glance: Glance
    ours: Service

    @property
    def both(self) -> list[Client]:
        return [self.glance.client, self.ours.client]

    def peer(self) -> Peer:
        accounts = {
            role: {
                "auth_url": self.keystone.url,
                "username": user,
                "password": PASSWORD,
                "project_name": project,
            }
            for role, (user, project) in ACCOUNTS.items()
        }
        return log_in(self.glance.client.url, accounts, self.glance.database, "")

    def other_rows(self) -> Mapping[str, int]:
        """Count the rows of Glance's tables that have nothing to do with images as they are."""
        engine = sa.create_engine(self.glance.database, poolclass=sa.NullPool)
        names = [
            name
            for name in sa.inspect(engine).get_table_names()
            if not name.startswith(("image", "imgsvc_"))
        ]
        with engine.connect() as connection:
            counts = {
                name: connection.scalar(sa.select(sa.func.count()).select_from(sa.table(name)))
                for name in names
            }
        assert "tasks" in counts
        return {name: count or 0 for name, count in counts.items()}

    def assert_quiet(self) -> None:
        """Nothing has gone wrong inside of ours."""
        assert "Traceback" not in self.ours.log.read_text()


@pytest.fixture(scope="module", params=["postgresql", "mariadb"])
def pair(
    request: pytest.FixtureRequest, identity: Keystone, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Pair]:
    server: Server = request.getfixturevalue(request.param)
    directory = tmp_path_factory.mktemp("beside")
    with glance.started(directory / "glance", server.create("beside_glance"), identity) as there:
        here = there.beside(directory / "imgservice")
        try:
            yield Pair(identity, there, here.start())
        finally:
            here.end()


# -- requests in turns ----------------------------------------------------------------------------


def chosen() -> list[RequestSequence]:
    possible = [one for one in load() if can_take_turns(one)]
    lives = [one for one in possible if one.name.startswith("lives/")]
    return [*lives, *[one for one in possible if one not in lives][::SAMPLE]]


def test_answers_and_rows_are_those_of_glance_alone(pair: Pair) -> None:
    sequences, others = chosen(), pair.other_rows()
    compared = list(compare_turns(pair.peer(), [one.url for one in pair.both], sequences))
    verdict = judge([found for one in compared for found in one.differences], load_wanted())
    text = "\n".join(report(verdict, len(sequences), 0, sum(one.compared for one in compared)))
    assert not verdict.unexplained, text
    assert pair.other_rows() == others
    pair.assert_quiet()


def test_images_live_on_both_at_the_same_time(pair: Pair) -> None:
    headers = {"X-Auth-Token": pair.keystone.token("admin", "admin")}
    services = Services([one.url for one in pair.both], headers)
    outcome = run_beside(services, 300.0, LIVES)
    assert (outcome.wrong, outcome.lives) == ([], LIVES)
    pair.assert_quiet()


@pytest.mark.parametrize("pair", ["postgresql"], indirect=True)
def test_copies_keep_their_order(pair: Pair, tmp_path: Path) -> None:
    """Glance shows, and reads from, the copy that the database happens to give it first."""
    token = {"X-Auth-Token": pair.keystone.token("admin", "admin")}
    there, ours = (attrs.evolve(client, headers=token) for client in pair.both)
    image_id = there.active(b"data")
    copy = {"method": {"name": "copy-image"}, "stores": ["second"]}
    assert there.post(f"/v2/images/{image_id}/import", copy).status == 202
    both = {"local", "second"}  # in the order in which this Glance has written them
    wait_until(lambda: set(there.show(image_id)["stores"].split(",")) == both, 120)
    Other.on(pair.ours.options["database"]["url"]).run("ANALYZE image_locations")
    shared = {name: value for name, value in pair.ours.options.items() if name != "server"}
    service = Service(tmp_path, {**shared, "locations": {"show": True}})
    try:
        changing = attrs.evolve(service.start().client, headers=token)
        shown = changing.show(image_id)["locations"]
        shown[0]["metadata"]["more"] = "1"
        assert patch(changing, image_id, replace("locations", shown)).status == 200
    finally:
        service.end()
    for client in (there, ours):
        assert client.show(image_id)["stores"] == "local,second"
    pair.assert_quiet()


# -- real clients, and a real balancer between ----------------------------------------------------


@attrs.frozen
class Balanced:
    """The clients' view: one cloud with one address of its images."""

    pair: Pair
    client: Client
    directory: Path
    clouds: Path

    def openstack(self, cloud: str, *arguments: str | Path) -> Any:
        """Run `openstack image`, and return what it prints if that is JSON."""
        environment = {"OS_CLIENT_CONFIG_FILE": str(self.clouds)}
        said = printed(environment, "--os-cloud", cloud, "image", *arguments)
        return json.loads(said) if "json" in arguments else None

    def assert_shared(self) -> None:
        """Both have answered, about as often, and no request has failed in a server."""
        lines = (self.directory / "access").read_text().splitlines()
        answers = Counter(line.split()[0] for line in lines)
        assert len(answers) == 2
        assert min(answers.values()) > len(lines) // 3, answers
        assert [line for line in lines if line.split()[-1] >= "500"] == []
        self.pair.assert_quiet()


@pytest.fixture
def cloud(pair: Pair, tmp_path: Path) -> Iterator[Balanced]:
    with balanced(tmp_path / "nginx", pair.both) as client:
        clouds = pair.keystone.clouds(tmp_path / "clouds.yaml", client.url)
        made = Balanced(pair, client, tmp_path / "nginx", clouds)
        yield made
        made.assert_shared()


@pytest.mark.parametrize("pair", ["postgresql"], indirect=True)
def test_openstack_command(cloud: Balanced, tmp_path: Path) -> None:
    keystone = cloud.pair.keystone
    data, saved = tmp_path / "data", tmp_path / "saved"
    data.write_bytes(os.urandom(300_000))
    made = cloud.openstack("demo", "create", "--file", data, "--tag", "red", "-f", "json", "mine")
    assert made["status"] == "active"
    cloud.openstack("demo", "set", "--property", "colour=red", "--tag", "blue", "mine")
    cloud.openstack("demo", "add", "project", made["id"], keystone.projects["alt"])
    cloud.openstack("alt", "set", "--accept", made["id"])
    cloud.openstack("alt", "save", "--file", saved, made["id"])
    assert saved.read_bytes() == data.read_bytes()
    cloud.openstack("admin", "set", "--deactivate", made["id"])
    [listed] = cloud.openstack("demo", "list", "--long", "-f", "json")
    assert (listed["Name"], listed["Status"], listed["Size"]) == ("mine", "deactivated", 300_000)
    assert sorted(listed["Tags"]) == ["blue", "red"]
    cloud.openstack("demo", "delete", "mine")
    token = keystone.token("demo", "demo")
    for _ in cloud.pair.both:
        gone = cloud.client.get(f"/v2/images/{made['id']}", X_Auth_Token=token)
        assert gone.status == 404


def test_sdk(cloud: Balanced, tmp_path: Path) -> None:
    import openstack
    from openstack.config import OpenStackConfig

    data, saved = tmp_path / "data", tmp_path / "saved"
    data.write_bytes(os.urandom(1_000_000))
    region = OpenStackConfig(config_files=[str(cloud.clouds)]).get_one("demo")
    with closing(openstack.connection.Connection(config=region)) as connection:
        images = connection.image
        names = [f"sdk {number}" for number in range(5)]
        formats = {"disk_format": "raw", "container_format": "bare"}
        made = [images.create_image(name, filename=str(data), **formats) for name in names]
        for image in made:
            images.add_tag(image, "mine")
            images.update_image(image.id, os_distro="debian", min_ram=64)
            images.download_image(image.id, output=str(saved))
            assert saved.read_bytes() == data.read_bytes()
        listed = [one.name for one in images.images(tag="mine", limit=2, sort="name:asc")]
        assert listed == names
        for image in made:
            images.delete_image(image.id, ignore_missing=False)
        assert list(images.images(tag="mine")) == []
        connection.session.session.close()


def test_glanceclient(cloud: Balanced) -> None:
    from glanceclient import Client as Glanceclient

    token, alt = cloud.pair.keystone.token("demo", "demo"), cloud.pair.keystone.projects["alt"]
    client = Glanceclient("2", endpoint=cloud.client.url, token=token)
    data = os.urandom(200_000)
    for number in range(5):
        made = client.images.create(
            name="mine", disk_format="raw", container_format="bare", one="x"
        )
        client.images.upload(made.id, io.BytesIO(data))
        client.images.update(made.id, remove_props=["one"], two="y")
        client.image_tags.update(made.id, f"tag {number}")
        client.image_members.create(made.id, alt)
        [member] = client.image_members.list(made.id)
        assert (member.member_id, member.status) == (alt, "pending")
        assert b"".join(client.images.data(made.id)) == data
        shown = client.images.get(made.id)
        assert ("one" in shown, shown.two, shown.tags) == (False, "y", [f"tag {number}"])
        client.image_members.delete(made.id, alt)
        assert [one.id for one in client.images.list(filters={"name": "mine"})] == [made.id]
        client.images.delete(made.id)
    client.http_client.session.close()
