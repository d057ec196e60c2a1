"""A real Swift for tests, which speaks S3, too: `swift` is the session's, `started` makes others.

    def test_something(swift: Swift) -> None:
        container = swift.container()                   # new and empty; it is also a bucket
        swift.call("PUT", f"/{container}/object", b"data")
        assert swift.objects(container) == ["object"]
        client = boto3.client("s3", endpoint_url=swift.url, region_name=REGION,
                              aws_access_key_id=ACCESS_KEY, aws_secret_access_key=KEY)

Accounts of tempauth (user, key `KEY`): images:service, which owns the account AUTH_images, and
other:service, which owns AUTH_other. The access key of S3 is the user's name; the bucket is in the
path. One Swift is a process of about 70 MB that starts in a second or two.
"""

import atexit
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cache
from itertools import count
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest

from tests.keystone import PASSWORD, Keystone
from tests.real.client import Client, Reply
from tests.real.service import free_port, missing
from tests.real.warm import CACHE

ENVIRONMENT = CACHE / "swift-venv"
SERVER = Path(__file__).with_name("swift_server.py")
START_TIME = 60.0
ACCOUNT = "AUTH_images"
USER = ACCESS_KEY = "images:service"
OTHER_USER = "other:service"
KEY = "made-up-key"
REGION = "us-east-1"
SMALLEST_PART = 1 << 20
"""Of a multipart upload by S3, except the last one; S3 itself has 5 MiB, which takes longer."""
FILTERS: Mapping[str, Mapping[str, Any]] = {
    "tempauth": {
        "user_images_service": f"{KEY} .admin",
        "user_other_service": f"{KEY} .admin",
        "storage_url_scheme": "default",
    },
    "s3api": {"location": REGION, "s3_acl": "false", "min_segment_size": SMALLEST_PART},
    # What an object by S3 is made of goes with it, and not later.
    "slo": {"allow_async_delete": "false"},
    "versioned_writes": {"allow_object_versioning": "true"},
}


_ROLES = {"operator_roles": "admin, member, service"}


def _validation(keystone: Keystone) -> Mapping[str, Any]:
    """Return the options with which Swift has Keystone validate tokens."""
    return {
        "www_authenticate_uri": keystone.url,
        "auth_url": keystone.url,
        "auth_type": "password",
        "user_domain_id": "default",
        "project_domain_id": "default",
        "project_name": "service",
        "username": "imgservice",
        "password": PASSWORD,
        "delay_auth_decision": "true",
        "service_token_roles_required": "true",
    }


class Swift:
    """One Swift with its own directory and ports; not started when made."""

    def __init__(
        self,
        directory: Path,
        constraints: Mapping[str, Any] | None = None,
        keystone: Keystone | None = None,
        **filters: Mapping[str, Any],
    ) -> None:
        """`constraints` are those of swift.conf; `filters` add to the options of a filter of the
        proxy, such as tempauth={"token_life": 5}.

        With a `keystone`, members of its projects have the accounts AUTH_<id of the project>, and
        there is neither tempauth nor S3.
        """
        self.directory = directory
        ports = [free_port() for _ in range(4)]
        self.port = ports[0]
        self.url = f"http://127.0.0.1:{self.port}"
        """Where S3 is, too."""
        self.auth_url = f"{self.url}/auth/v1.0"
        self.storage_url = f"{self.url}/v1/{ACCOUNT}"
        self._process: subprocess.Popen[bytes] | None = None
        self._token = ""
        self._numbers = count(1)
        names = FILTERS.keys() | filters.keys()
        if keystone is not None:
            filters = {**filters, "authtoken": _validation(keystone), "keystoneauth": _ROLES}
            names |= filters.keys()
        options = {
            "ports": ports,
            "auth": ["authtoken", "keystoneauth"] if keystone else ["s3api", "tempauth"],
            "constraints": constraints or {},
            "filters": {name: {**FILTERS.get(name, {}), **filters.get(name, {})} for name in names},
        }
        directory.mkdir(parents=True, exist_ok=True)
        (directory / "server.json").write_text(json.dumps(options))

    # -- the process ------------------------------------------------------------------------------

    def start(self) -> "Swift":
        """Start it, or start it again with what it holds, and wait until it answers."""
        if not (ENVIRONMENT / "installed").exists():
            missing("there is no Swift; tests/install-openstack installs it")
        with (self.directory / "output").open("ab") as output:
            # -I: beside the server there are modules with the names of others, such as http.
            self._process = subprocess.Popen(
                [ENVIRONMENT / "bin" / "python", "-I", "-W", "ignore", SERVER, self.directory],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        deadline = time.monotonic() + START_TIME
        while not self._answers():
            assert self._process.poll() is None, (self.directory / "output").read_text()[-2000:]
            assert time.monotonic() < deadline, "Swift does not answer"
            time.sleep(0.05)
        return self

    def _answers(self) -> bool:
        with suppress(OSError):
            return Client("127.0.0.1", self.port).get("/healthcheck").status == 200
        return False

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    def signal(self, number: signal.Signals) -> None:
        """SIGSTOP makes it silent, SIGCONT lets it go on, SIGUSR1 makes it forget all tokens."""
        os.kill(self.pid, number)

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Have it stopped, with its connections open, while the block runs."""
        self.signal(signal.SIGSTOP)
        try:
            yield
        finally:
            self.signal(signal.SIGCONT)

    def kill(self) -> None:
        """End it at once; nobody listens at its ports then, until it is started again."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.wait()

    def requests(self) -> list[str]:
        """Return what it was asked so far: the status and the request line of each answer."""
        lines = (self.directory / "requests").read_text().splitlines()
        return [line for line in lines if line[:1].isdigit()]

    # -- its API ----------------------------------------------------------------------------------

    def request(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """Ask it something as images:service; `path` is what comes after the account."""
        for _ in range(2):
            fields = {name.replace("_", "-"): value for name, value in headers.items()}
            fields["X-Auth-Token"] = self._token
            path_of_all = f"/v1/{ACCOUNT}{path}"
            reply = Client("127.0.0.1", self.port).request(method, path_of_all, body, fields)
            if reply.status != 401:
                break
            self._token = self.token()
        return reply

    def call(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Reply:
        """The same; whatever is refused is a failure."""
        reply = self.request(method, path, body, **headers)
        assert reply.status < 300, reply
        return reply

    def token(self, user: str = USER) -> str:
        """Return a token of the user."""
        headers = {"X-Auth-User": user, "X-Auth-Key": KEY}
        reply = Client("127.0.0.1", self.port).request("GET", "/auth/v1.0", None, headers)
        assert reply.status == 200, reply
        return reply.headers["x-auth-token"]

    def container(self) -> str:
        """Make an empty container, which is also a bucket, and return its name."""
        name = f"container-{next(self._numbers)}"
        self.call("PUT", f"/{name}")
        return name

    def objects(self, container: str) -> list[str]:
        """Return the names of all its objects, and parts of multipart uploads."""
        names = self._names(container)
        return names + [f"+segments/{name}" for name in self._names(f"{container}+segments")]

    def _names(self, container: str) -> list[str]:
        reply = self.request("GET", f"/{quote(container)}?format=json")
        return [] if reply.status == 404 else [one["name"] for one in reply.json()]

    def options(self, **more: Any) -> dict[str, Any]:
        """Return the options of a store of type swift; `container` is one of the further ones."""
        return {"type": "swift", "auth_url": self.auth_url, "user": USER, "key": KEY, **more}


@contextmanager
def started(directory: Path, **options: Any) -> Iterator[Swift]:
    """Run a Swift of one's own while the block runs; options as for `Swift`."""
    made = Swift(directory, **options)
    try:
        yield made.start()
    finally:
        made.kill()


@cache
def shared() -> Swift:
    """Return the Swift that the tests of this process share."""
    directory = Path(tempfile.mkdtemp(prefix="imgservice-swift-"))
    made = Swift(directory)
    atexit.register(shutil.rmtree, directory, ignore_errors=True)
    atexit.register(made.kill)
    return made.start()


@pytest.fixture
def swift() -> Swift:
    """The Swift that tests share; who stops it takes `started` instead."""
    return shared()
