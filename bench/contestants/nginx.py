"""nginx as the limit: sendfile for downloads, its WebDAV module for uploads."""

import contextlib
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from bench.address import LOOPBACK, Address, free_port
from bench.contestants.certificate import Certificate
from bench.contestants.contestant import Plain, wait_for
from bench.errors import LeftOut
from bench.processes import started

CONFIGURATION = """
{user}
worker_processes {workers};
daemon off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 8192; }}
http {{
    access_log off;
    sendfile on;
    sendfile_max_chunk 2m;
    tcp_nopush on;
    keepalive_requests 100000000;
    keepalive_timeout 900;
    client_max_body_size 0;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
    server {{
        listen {host}:{port} backlog=4096{tls};
        root {folder}/files;
        dav_methods PUT DELETE;
    }}
}}
"""
TLS = """ ssl;
        ssl_certificate {certificate};
        ssl_certificate_key {key};
        ssl_protocols TLSv1.2 TLSv1.3"""


@contextlib.contextmanager
def nginx(
    folder: Path, column: str = "limit", certificate: Certificate | None = None
) -> Iterator[Plain]:
    """Start nginx with a worker for each core and an empty root; stop it in the end."""
    program = shutil.which("nginx", path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    if not program:
        raise LeftOut("nginx is not installed (Debian's package: nginx-light)")
    (folder / "files").mkdir(parents=True)
    trusted = certificate.file if certificate else None
    address = Address(LOOPBACK, free_port(), certificate=trusted)
    configuration = folder / "nginx.conf"
    configuration.write_text(_configuration(folder, address, certificate))
    argv = [program, "-p", str(folder), "-c", str(configuration), "-e", "stderr"]
    with started(argv, "nginx", folder) as process:
        wait_for(address, process)
        yield Plain(column, address, process.pid)


def _configuration(folder: Path, address: Address, certificate: Certificate | None) -> str:
    tls = TLS.format(certificate=certificate.file, key=certificate.key) if certificate else ""
    return CONFIGURATION.format(
        # Its workers become nobody when root starts it, and could not write here.
        user="user root;" if os.geteuid() == 0 else "",
        workers=os.cpu_count(),
        folder=folder,
        host=address.host,
        port=address.port,
        tls=tls,
    )
