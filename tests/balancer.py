"""A real nginx that sends requests to several servers, one by one in turns."""

import os
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.real.client import Client
from tests.real.service import free_port, wait_until
from tests.servers import program
from tests.summary import count_start

CONFIGURATION = """
daemon off;
{user}
worker_processes 1;
pid {directory}/pid;
error_log {directory}/errors;
events {{ worker_connections 256; }}
http {{
    log_format turns "$upstream_addr $request_method $status";
    access_log {directory}/access turns;
    client_body_temp_path {directory}/bodies;
    proxy_temp_path {directory}/answers;
    fastcgi_temp_path {directory}/fastcgi;
    uwsgi_temp_path {directory}/uwsgi;
    scgi_temp_path {directory}/scgi;
    client_max_body_size 0;
    proxy_next_upstream off;
    upstream images {{
{servers}
    }}
    server {{
        listen 127.0.0.1:{port};
        location / {{
            proxy_pass http://images;
            proxy_set_header Host $http_host;
        }}
    }}
}}
"""


@contextmanager
def balanced(directory: Path, targets: Sequence[Client]) -> Iterator[Client]:
    """Run it while the block runs; `directory`/access tells who has answered what."""
    nginx = program("nginx", Path("/usr/sbin"))
    directory.mkdir()
    port = free_port()
    servers = "\n".join(f"        server {one.host}:{one.port} max_fails=0;" for one in targets)
    # As root, its worker would be a user who may not write here.
    user = "user root;" if os.geteuid() == 0 else ""
    values = {"directory": directory, "port": port, "servers": servers, "user": user}
    file = directory / "nginx.conf"
    file.write_text(CONFIGURATION.format(**values))
    command: list[str | Path] = [nginx, "-e", directory / "errors", "-c", file]
    count_start("proxy")
    with (directory / "output").open("ab") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output)
    try:
        client = Client("127.0.0.1", port)
        wait_until((directory / "pid").exists)
        yield client
    finally:
        process.terminate()
        process.wait()
