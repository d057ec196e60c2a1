"""How often, how fast and how many at a time: as clients of a running service see it."""

import hashlib
import random
import time
from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from threading import Event
from typing import Any

import attrs
import bcrypt

from tests.real.client import OCTETS, TIMEOUT, Client, Reply, read_reply, receive
from tests.real.roles import caller, patch, replace, trusting
from tests.real.service import Service, running, wait_until

MiB = 1 << 20
ANYBODY = {"address": {"requests": None}}
"""All clients of these tests come from one address."""


def rates(**rate: Any) -> dict[str, Any]:
    return {"rate": {**ANYBODY, **rate}}


@contextmanager
def limited(directory: Path, **limits: Any) -> Iterator[Service]:
    with trusting(directory, limits=limits) as service:
        yield service


def in_parallel(call: Callable[[], Reply], count: int) -> list[Reply]:
    with ThreadPoolExecutor(count) as pool:
        return [future.result() for future in [pool.submit(call) for _ in range(count)]]


def until_refused(ask: Callable[[], Reply]) -> list[Reply]:
    """Ask until that is too often; a busy machine may let some more requests through."""
    replies = [ask()]
    while replies[-1].status != 429:
        assert len(replies) < 1000, "it is never too often"
        replies.append(ask())
    return replies


def statuses(replies: Sequence[Reply]) -> list[int]:
    return [reply.status for reply in replies]


# -- requests -------------------------------------------------------------------------------------


def test_a_project_is_limited_recovers_and_hurts_nobody(tmp_path: Path) -> None:
    with limited(tmp_path, **rates(project={"requests": {"per_second": 1, "burst": 5}})) as service:
        red, blue = caller(service, "red"), caller(service, "blue")
        replies = until_refused(lambda: red.get("/v2/images"))
        assert statuses(replies)[:5] == [200] * 5
        assert statuses([blue.get("/v2/images") for _ in range(3)]) == [200] * 3
        time.sleep(float(replies[-1].headers["retry-after"]))
        assert red.get("/v2/images").status == 200


def test_limited_in_every_form_of_an_error(tmp_path: Path) -> None:
    with limited(
        tmp_path, **rates(user={"requests": {"per_second": 0.005, "burst": 1}})
    ) as service:
        red = caller(service, "red")
        assert red.get("/v2/images").status == 200
        text = red.get("/v2/images")
        assert (text.status, text.reason) == (429, "Too Many Requests")
        assert 100 <= int(text.headers["retry-after"]) <= 200
        assert text.headers["x-openstack-request-id"].startswith("req-")
        assert text.json()["error"]["message"].startswith("Too many requests of your user.")
        document = red.get("/v2/images", Accept="application/json").json()
        assert document["code"] == "429 Too Many Requests"
        assert document["message"].startswith("Too many requests of your user.")
        page = red.get("/v2/images", Accept="text/html")
        assert b"<h1>429 Too Many Requests</h1>" in page.body


def test_connections_of_limited_clients_stay_usable(tmp_path: Path) -> None:
    rate = rates(user={"requests": {"per_second": 0.001, "burst": 1}})
    with limited(tmp_path, **rate) as service, closing(kept_open(service)) as connection:
        connection.connect()
        socket = connection.sock

        def ask(who: str, method: str, body: bytes | None = None) -> int:
            connection.request(method, "/v2/images", body, dict(caller(service, who).headers))
            return read_reply(connection.getresponse()).status

        found = []
        for _ in range(2):
            for method, body in (("GET", None), ("POST", b'{"name": "x"}'), ("PUT", bytes(50_000))):
                found.append(ask("red", method, body))
        assert found == [200] + [429] * 5
        assert ask("blue", "GET") == 200
        assert connection.sock is socket, "it is the same connection"


def kept_open(service: Service) -> HTTPConnection:
    return HTTPConnection("127.0.0.1", service.port, timeout=TIMEOUT)


def test_flood_of_one_project_beside_another(tmp_path: Path) -> None:
    with limited(
        tmp_path, **rates(project={"requests": {"per_second": 5, "burst": 20}})
    ) as service:
        red, blue = caller(service, "red"), caller(service, "blue")
        image = blue.create()
        over = Event()

        def flood() -> list[int]:
            found = []
            while not over.is_set():
                found.append(red.get("/v2/images").status)
            return found

        begun = time.monotonic()
        with ThreadPoolExecutor(4) as pool:
            floods = [pool.submit(flood) for _ in range(4)]
            for _ in range(15):
                assert blue.get(f"/v2/images/{image}").status == 200
                time.sleep(0.1)
            wait_until(lambda: red.get("/v2/images").status == 429)
            over.set()
            answers = [status for future in floods for status in future.result()]
        allowed = 20 + 5 * (time.monotonic() - begun)
        assert 10 < answers.count(200) <= allowed + 1
        assert set(answers) == {200, 429}


def test_administrators_and_services_are_exempt(tmp_path: Path) -> None:
    one = {"per_second": 0.001, "burst": 1}
    rate = {
        "address": {"requests": {"per_second": 0.001, "burst": 4}},
        "user": {"requests": one},
        "project": {"requests": one, "creates": one},
    }
    with limited(tmp_path, rate=rate) as service:
        for roles in ("admin,member", "service,member,reader", "Member,Admin"):
            boss = caller(service, "ops", roles)
            assert statuses([boss.get("/v2/images") for _ in range(10)]) == [200] * 10
            assert boss.create()
        assert caller(service, "red").get("/v2/images").status == 200
        assert caller(service, "red").get("/v2/images").status == 429


def test_no_ordinary_client_meets_the_default_limits(tmp_path: Path) -> None:
    """Many machines of one project are started at the same time, on one host."""
    with limited(tmp_path) as service:
        owner = caller(service, "red")
        image = owner.create()

        def boot() -> Reply:
            return next(
                (
                    reply
                    for reply in (owner.get(f"/v2/images/{image}") for _ in range(40))
                    if reply.status != 200
                ),
                Reply(200, "OK", {}, b""),
            )

        assert set(statuses(in_parallel(boot, 40))) == {200}
        assert {owner.post("/v2/images", {}).status for _ in range(100)} == {201}


# -- creates --------------------------------------------------------------------------------------


def test_ossn_0076_nobody_fills_the_database(tmp_path: Path) -> None:
    begun = time.monotonic()
    creates = {"creates": {"per_second": 2, "burst": 10}}
    with limited(tmp_path, **rates(project=creates)) as service:
        red, blue = caller(service, "red"), caller(service, "blue")
        replies = in_parallel(lambda: red.post("/v2/images", {"name": "x"}), 60)
        made = statuses(replies).count(201)
        allowed = 10 + 2 * (time.monotonic() - begun)
        assert set(statuses(replies)) == {201, 429}
        assert 10 <= made <= allowed
        assert service.rows("SELECT count(*) FROM images WHERE owner = 'red'") == [(made,)]
        assert red.get("/v2/images").status == 200, "looking is not limited by it"
        image = blue.create()
        wait = max(float(one.headers["retry-after"]) for one in replies if one.status == 429)
        time.sleep(wait)
        assert red.post("/v2/images", {}).status == 201
        assert blue.get(f"/v2/images/{image}").status == 200


def test_all_that_makes_rows_is_counted_together(tmp_path: Path) -> None:
    creates = {"creates": {"per_second": 0.001, "burst": 5}}
    with limited(tmp_path, **rates(project=creates)) as service:
        red = caller(service, "red")
        image = red.create(visibility="shared")
        assert red.upload(image, b"data").status == 204
        assert red.put(f"/v2/images/{image}/tags/one", b"").status == 204
        assert red.post(f"/v2/images/{image}/members", {"member": "blue"}).status == 200
        assert patch(red, image, replace("name", "new")).status == 200
        assert red.delete(f"/v2/images/{image}/tags/one").status == 204
        assert red.put(f"/v2/images/{image}/tags/two", b"").status == 204
        assert patch(red, image, replace("name", "newer")).status == 429
        assert red.put(f"/v2/images/{image}/tags/three", b"").status == 429
        assert red.post(f"/v2/images/{image}/members", {"member": "pink"}).status == 429
        assert red.show(image)["tags"] == ["two"]
        assert red.show(image)["name"] == "new"
        assert red.delete(f"/v2/images/{image}").status == 204


# -- addresses ------------------------------------------------------------------------------------


def test_addresses_behind_a_trusted_proxy(tmp_path: Path) -> None:
    options = {
        "server": {"trusted_proxies": ["127.0.0.1"]},
        "limits": {"rate": {"address": {"requests": {"per_second": 0.001, "burst": 3}}}},
    }
    with trusting(tmp_path, **options) as service:

        def seen_from(address: str, count: int) -> list[int]:
            client = caller(service, "red")
            return statuses(
                [client.get("/v2/images", X_Forwarded_For=address) for _ in range(count)]
            )

        assert seen_from("198.51.100.1", 4) == [200, 200, 200, 429]
        assert seen_from("198.51.100.2", 1) == [200]
        assert seen_from("2001:db8::1", 2) == [200, 200]
        assert seen_from("2001:db8::2", 2) == [200, 429]
        assert seen_from("2001:db8:0:1::1", 1) == [200]


def test_the_health_check_is_never_limited(tmp_path: Path) -> None:
    address = {"requests": {"per_second": 0.001, "burst": 2}}
    with limited(tmp_path, rate={"address": address}) as service:
        assert (
            statuses([service.client.get("/versions") for _ in range(4)]) == [200] * 2 + [429] * 2
        )
        assert set(statuses([service.client.get("/healthcheck") for _ in range(50)])) == {200}


def test_guessing_from_an_address_is_limited(tmp_path: Path) -> None:
    failures = {"failures": {"per_second": 0.2, "burst": 5}}
    with limited(tmp_path, rate={"address": failures}) as service:
        guesser = attrs.evolve(service.client, headers={"X-Auth-Token": "guess"})
        *failed, refused = until_refused(lambda: guesser.get("/v2/images"))
        assert statuses(failed)[:5] == [401] * 5
        assert b"failed authentications" in refused.body
        right = caller(service, "red")
        right_with_token = attrs.evolve(right, headers={**right.headers, "X-Auth-Token": "x"})
        assert right_with_token.get("/v2/images").status == 429, "or the guesser would learn of it"
        assert right.get("/v2/images").status == 200
        time.sleep(float(refused.headers["retry-after"]) + 0.2)
        assert right_with_token.get("/v2/images").status == 200


def test_guessing_a_password_is_limited_whatever_the_number_of_connections(tmp_path: Path) -> None:
    passwords = tmp_path / "htpasswd"
    hashed = bcrypt.hashpw(b"right", bcrypt.gensalt(4)).decode()
    passwords.write_text(f"alice:{hashed}\n")
    options = {
        "auth": {"mode": "basic", "basic": {"file": str(passwords)}},
        "limits": {"rate": {"address": {"failures": {"per_second": 3, "burst": 5}}}},
    }
    with running(tmp_path, options) as service:

        def tried(password: str) -> Reply:
            coded = b64encode(f"alice:{password}".encode()).decode()
            return service.client.get("/v2/images", Authorization=f"Basic {coded}")

        assert tried("right").status == 200
        guesses = in_parallel(lambda: tried(str(random.random())), 40)
        assert set(statuses(guesses)) == {401, 429}
        refused = tried("right")
        assert refused.status == 429
        time.sleep(float(refused.headers["retry-after"]) + 0.1)
        assert tried("right").status == 200


# -- uploads at the same time ---------------------------------------------------------------------


def upload_head(image: str, headers: Mapping[str, str]) -> bytes:
    fields = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"PUT /v2/images/{image}/file HTTP/1.1\r\n{fields}\r\n".encode()


@contextmanager
def upload_under_way(service: Service, client: Client, image: str) -> Iterator[Any]:
    """Begin an upload and stop amid its body; yield the socket."""
    with client.connect() as connection:
        head = {**client.headers, **OCTETS, "Host": "here", "Content-Length": "1000"}
        connection.sendall(upload_head(image, head) + bytes(500))
        wait_until(lambda: client.show(image)["status"] == "saving")
        yield connection


def test_uploads_of_a_project_and_in_all(tmp_path: Path) -> None:
    with limited(tmp_path, uploads={"project": 2, "total": 3}) as service:
        red, blue = caller(service, "red"), caller(service, "blue")
        admin = caller(service, "red", "admin,member")
        with ExitStack() as stack:
            images = [red.create() for _ in range(2)]
            under_way = [
                stack.enter_context(upload_under_way(service, red, image)) for image in images
            ]
            late = red.create()
            refused = red.upload(late, bytes(100))
            assert refused.status == 429 and b"of your project" in refused.body
            assert int(refused.headers["retry-after"]) > 0
            assert red.show(late)["status"] == "queued"
            assert blue.upload(blue.create(), b"data").status == 204
            assert admin.upload(admin.create(), b"data").status == 204
            stack.enter_context(upload_under_way(service, blue, blue.create()))
            for client in (red, blue, admin):
                assert client.upload(client.create(), b"data").status == 429
            under_way[0].sendall(bytes(500))
            assert receive(under_way[0]).status == 204
            assert red.upload(late, b"data").status == 204
        wait_until(lambda: red.upload(red.create(), b"data").status == 204)


def test_a_refused_upload_is_not_read(tmp_path: Path) -> None:
    with limited(tmp_path, uploads={"project": 1}) as service:
        red = caller(service, "red")
        busy, late = red.create(), red.create()
        with upload_under_way(service, red, busy):
            head = {**red.headers, **OCTETS, "Host": "here", "Content-Length": str(1 << 40)}
            head["Expect"] = "100-continue"
            reply = red.exchange(upload_head(late, head))
            assert reply.status == 429, "and no 100 before it"
            assert reply.headers["connection"] == "close"
            with closing(kept_open(service)) as patient:
                for status in (429, 429):
                    path = f"/v2/images/{late}/file"
                    patient.request("PUT", path, bytes(100_000), {**red.headers, **OCTETS})
                    assert read_reply(patient.getresponse()).status == status
            assert red.upload(late, bytes(8 * MiB)).status == 429
        wait_until(lambda: red.upload(late, b"data").status == 204)
        assert service.files().keys() == {late}


# -- bytes ----------------------------------------------------------------------------------------


def test_bytes_of_a_project_flow_at_its_rate(tmp_path: Path) -> None:
    rate = {"per_second": "2MiB", "burst": "1MiB"}
    data = random.Random(5).randbytes(6 * MiB)
    at_its_rate = 2.5
    with limited(tmp_path, **rates(project={"bytes_in": rate, "bytes_out": rate})) as service:
        red = caller(service, "red")
        image = red.create()
        begun = time.monotonic()
        assert red.upload(image, data).status == 204
        assert time.monotonic() - begun > 0.9 * at_its_rate
        assert red.show(image)["checksum"] == hashlib.md5(data).hexdigest()

        begun = time.monotonic()
        assert red.download(image).body == data
        assert time.monotonic() - begun > 0.9 * at_its_rate


def test_bytes_of_administrators_have_no_rate(tmp_path: Path) -> None:
    rate, data = {"per_second": "16KiB", "burst": "1KiB"}, bytes(6 * MiB)
    with limited(tmp_path, **rates(project={"bytes_in": rate, "bytes_out": rate})) as service:
        admin, begun = caller(service, "ops", "admin,member"), time.monotonic()
        assert admin.download(admin.active(data)).body == data
        assert time.monotonic() - begun < 120, "where at that rate it would take 768"


def test_a_slowed_transfer_hurts_no_other(tmp_path: Path) -> None:
    rate = {"per_second": "128KiB", "burst": "64KiB"}
    with limited(tmp_path, **rates(project={"bytes_in": rate, "bytes_out": rate})) as service:
        red, blue = caller(service, "red"), caller(service, "blue")
        admin = caller(service, "ops", "admin,member")
        image = admin.active(bytes(MiB), visibility="community")
        with ThreadPoolExecutor(8) as pool:
            uploads = [pool.submit(red.upload, red.create(), bytes(128 << 10)) for _ in range(4)]
            downloads = [pool.submit(red.download, image, Range="bytes=0-131071") for _ in range(4)]
            count = 0
            while not all(one.done() for one in (*uploads, *downloads)):
                assert blue.get(f"/v2/images/{image}").status == 200
                count += 1
            assert count > 5
            assert statuses([one.result() for one in uploads]) == [204] * 4
            assert {len(one.result().body) for one in downloads} == {128 << 10}
