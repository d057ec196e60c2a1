"""Users and passwords, and the files of both."""

import base64
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import bcrypt
import pytest
import yaml

from imgservice.config.errors import ConfigError
from imgservice.config.loader import load, located
from imgservice.wiring.listen import addresses, tls_material
from imgservice.wiring.trial import try_build
from tests.real.client import Client
from tests.real.service import Service, wait_until

Users = Mapping[str, Mapping[str, Any]]
USERS: Users = {
    "alice": {"project": "apollo", "roles": ["member"]},
    "rita": {"project": "apollo", "roles": ["reader"]},
    "otto": {"project": "gemini", "roles": ["member"]},
    "root": {"project": "ops", "roles": ["admin"]},
}


def password(user: str) -> str:
    """Return a user's password: nothing that stands in a log by chance."""
    return f"pass phrase of {user}: ß%20"


def write_htpasswd(path: Path, *users: str, cost: int = 4) -> None:
    """Write the file anew, in one step."""
    lines = [
        f"{user}:{bcrypt.hashpw(password(user).encode(), bcrypt.gensalt(cost)).decode()}\n"
        for user in users
    ]
    write(path, "".join(lines))


def write_users(path: Path, users: Users) -> None:
    write(path, yaml.safe_dump(users))


def write(path: Path, text: str) -> None:
    fresh = path.with_name(f"{path.name}.new")
    fresh.write_text(text)
    fresh.replace(path)


def basic(user: str, secret: str | None = None) -> dict[str, str]:
    text = f"{user}:{password(user) if secret is None else secret}".encode()
    return {"Authorization": f"Basic {base64.b64encode(text).decode()}"}


def user(service: Service, name: str) -> Client:
    return attrs.evolve(service.client, headers=basic(name))


def until_status(client: Client, status: int) -> None:
    """Wait for a changed file to be noticed."""
    wait_until(lambda: client.get("/v2/images").status == status)


def refusal(directory: Path, options: Mapping[str, Any]) -> str:
    """Return why a service with these options does not start, as it would be told."""
    config = directory / "refused.yaml"
    config.write_text(yaml.safe_dump(options, sort_keys=False))
    with pytest.raises(ConfigError) as caught:
        loaded = load(config)
        try_build(loaded)
        addresses(loaded)
        tls_material(loaded)
    return located(config, caught.value)


def assert_silent(service: Service, *secrets: str) -> None:
    """See that none of these is in anything that the service has written."""
    written = service.log.read_text() + service.said.read_text()
    for secret in secrets:
        encoded = base64.b64encode(secret.encode()).decode()
        for form in (secret, encoded, repr(secret)):
            assert form not in written, f"{form!r} was logged"
