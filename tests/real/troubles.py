"""What a service tells of what it depends on: to its log, to balancers, to `imgservice status`."""

import json

from tests.real.client import Client
from tests.real.commands import run_command
from tests.real.service import IMGSERVICE, Service


def readiness(client: Client) -> tuple[int, list[str]]:
    """Return the status for balancers, and what fails."""
    reply = client.get("/healthcheck/ready")
    return reply.status, reply.json()["failing"]


def told_troubles(service: Service) -> list[str]:
    """Return the lines about the beginnings and ends of troubles; there is no traceback."""
    log = service.log.read_text()
    assert "Traceback" not in log, log[log.index("Traceback") - 300 :][:3000]
    return [line for line in log.splitlines() if " fails: " in line or " works again " in line]


def status(service: Service) -> tuple[int, str]:
    """Return the exit code of `imgservice status`, and what it prints of troubles."""
    done = run_command(IMGSERVICE, "status", "--config", service.config, cwd=service.directory)
    lines = [line for line in done.stdout.splitlines() if line.startswith("trouble: ")]
    return done.returncode, "\n".join(lines)


def details(client: Client, **headers: str) -> str:
    return json.dumps(client.get("/healthcheck?detailed", **headers).json())
