"""A day with the openstack command and a clouds.yaml where there is no Keystone."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.real.accounts import USERS, password, write_htpasswd, write_users
from tests.real.openstack import printed
from tests.real.service import Service, running


def nothing_asked(service: Service) -> Mapping[str, Any]:
    return {"auth_type": "none", "auth": {"endpoint": service.client.url}}


def password_of_alice(service: Service) -> Mapping[str, Any]:
    auth = {
        "endpoint": f"{service.client.url}/v2",
        "username": "alice",
        "password": password("alice"),
    }
    return {"auth_type": "http_basic", "auth": auth}


@pytest.mark.parametrize(
    ("mode", "cloud", "owner"),
    [("none", nothing_asked, "admin"), ("basic", password_of_alice, "apollo")],
)
def test_tour(tmp_path: Path, mode: str, cloud: Any, owner: str) -> None:
    htpasswd, users = tmp_path / "htpasswd", tmp_path / "users"
    write_htpasswd(htpasswd, "alice")
    write_users(users, {"alice": USERS["alice"]})
    basic = {"file": str(htpasswd), "users": str(users)}
    clouds, data, saved = (tmp_path / name for name in ("clouds.yaml", "data", "saved"))
    data.write_bytes(b"some data" * 1000)
    with running(tmp_path, {"auth": {"mode": mode, "basic": basic}}) as service:
        clouds.write_text(yaml.safe_dump({"clouds": {"here": cloud(service)}}))

        def image(*arguments: str | Path) -> str:
            environment = {"OS_CLIENT_CONFIG_FILE": str(clouds), "OS_CLOUD": "here"}
            return printed(environment, "image", *arguments)

        made = json.loads(image("create", "--file", data, "-f", "json", "mine"))
        assert (made["owner"], made["status"]) == (owner, "active")
        image("set", "--tag", "red", "--property", "colour=red", "mine")
        listed = json.loads(image("list", "--tag", "red", "-f", "json"))
        assert listed == [{"ID": made["id"], "Name": "mine", "Status": "active"}]
        image("save", "--file", saved, "mine")
        assert saved.read_bytes() == data.read_bytes()
        image("delete", "mine")
        assert json.loads(image("list", "-f", "json")) == []
