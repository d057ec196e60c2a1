"""The proxies of conf/, with our addresses and paths in place of the examples'."""

import os
import ssl
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.process.certificates import write_certificate
from tests.real.client import Client
from tests.real.service import free_port, wait_until
from tests.servers import program
from tests.summary import count_start

EXAMPLES = Path(__file__).parent.parent / "conf"
NGINX = """
daemon off;
{user}
worker_processes 1;
pid {directory}/pid;
events {{ worker_connections 256; }}
http {{
    access_log {directory}/access;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/answers;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    include {directory}/imgservice.conf;
}}
"""


@contextmanager
def nginx(directory: Path, service_port: int, store: Path) -> Iterator[Client]:
    """Run conf/nginx in front of a service; `directory`/access tells what it answered."""
    binary = program("nginx", Path("/usr/sbin"))
    directory.mkdir()
    port, certificate, key = free_port(), directory / "crt.pem", directory / "key.pem"
    write_certificate(certificate, key)
    example = _example(
        "nginx/imgservice.conf",
        {
            "    server 127.0.0.1:9292;": f"    server 127.0.0.1:{service_port};",
            "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
            "/etc/nginx/images.example.crt": str(certificate),
            "/etc/nginx/images.example.key": str(key),
            "/var/lib/imgservice/images/": f"{store}/",
        },
    )
    (directory / "imgservice.conf").write_text(example)
    # As root, its worker would be a user who may not write here.
    user = "user root;" if os.geteuid() == 0 else ""
    (directory / "nginx.conf").write_text(NGINX.format(directory=directory, user=user))
    command: list[str | Path] = [binary, "-e", directory / "errors", "-c", directory / "nginx.conf"]
    with _running(directory, command):
        yield _client(port, certificate)


@contextmanager
def haproxy(directory: Path, ports: Sequence[int]) -> Iterator[Client]:
    """Run conf/haproxy in front of two services; `directory`/stats is its control socket."""
    binary = program("haproxy", Path("/usr/sbin"))
    directory.mkdir()
    port, certificate, key = free_port(), directory / "crt.pem", directory / "key.pem"
    write_certificate(certificate, key)
    both = directory / "both.pem"
    both.write_bytes(certificate.read_bytes() + key.read_bytes())
    example = _example(
        "haproxy/imgservice.cfg",
        {
            "    maxconn 20000": f"    maxconn 200\n    stats socket {directory}/stats",
            "bind :443": f"bind 127.0.0.1:{port}",
            "/etc/haproxy/images.example.pem": str(both),
            "10.0.0.11:9292\n    server": f"127.0.0.1:{ports[0]}\n    server",
            "10.0.0.12:9292": f"127.0.0.1:{ports[1]}",
            "inter 2s": "inter 200ms",
        },
    )
    (directory / "haproxy.cfg").write_text(example)
    with _running(directory, [binary, "-db", "-f", directory / "haproxy.cfg"]):
        yield _client(port, certificate)


def _example(name: str, changes: Mapping[str, str]) -> str:
    text = (EXAMPLES / name).read_text()
    for before, after in changes.items():
        assert text.count(before) == 1, before
        text = text.replace(before, after)
    return text


def _client(port: int, authority: Path) -> Client:
    client = Client("127.0.0.1", port, tls=ssl.create_default_context(cafile=authority))

    def answers() -> bool:
        try:
            return client.get("/healthcheck").status == 200
        except OSError:
            return False

    wait_until(answers)
    return client


@contextmanager
def _running(directory: Path, command: Sequence[str | Path]) -> Iterator[None]:
    count_start("proxy")
    with (directory / "output").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        yield
    finally:
        process.terminate()
        process.wait()
