"""Tokens of the users in a clouds.yaml."""

import json
import urllib.request
from pathlib import Path

import attrs
import yaml

from bench.errors import Wrong

PATIENCE_SECONDS = 30


@attrs.frozen
class Login:
    """A caller of a server that uses Keystone; `project` is an id."""

    token: str = attrs.field(repr=False)
    project: str


def login(clouds: Path, name: str) -> Login:
    """Get a token for the project of a cloud."""
    try:
        auth = yaml.safe_load(clouds.read_text())["clouds"][name]["auth"]
        request = urllib.request.Request(  # noqa: S310 - the URL is from whoever runs this
            auth["auth_url"].rstrip("/") + "/auth/tokens",
            json.dumps(_wanted(auth)).encode(),
            {"Content-Type": "application/json"},
        )
    except (LookupError, TypeError, yaml.YAMLError) as error:
        raise Wrong(f"{clouds} has no usable cloud {name}: {error!r}") from None
    with urllib.request.urlopen(request, timeout=PATIENCE_SECONDS) as answer:  # noqa: S310
        body = json.load(answer)
        return Login(answer.headers["X-Subject-Token"], body["token"]["project"]["id"])


def _wanted(auth: dict[str, str]) -> dict[str, object]:
    user = {
        "name": auth["username"],
        "password": auth["password"],
        "domain": {"id": auth.get("user_domain_id", "default")},
    }
    domain = {"id": auth.get("project_domain_id", "default")}
    return {
        "auth": {
            "identity": {"methods": ["password"], "password": {"user": user}},
            "scope": {"project": {"name": auth["project_name"], "domain": domain}},
        }
    }
