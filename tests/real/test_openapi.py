"""The OpenAPI document, and an outside tool that drives the server with it."""

import re
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from openapi_spec_validator import validate
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from imgservice.api.v2.patches import READERS
from tests.real.client import Client
from tests.real.service import Service

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]
ROUTES = {
    ("get", "/images"),
    ("post", "/images"),
    ("get", "/images/{image_id}"),
    ("patch", "/images/{image_id}"),
    ("delete", "/images/{image_id}"),
    ("put", "/images/{image_id}/file"),
    ("get", "/images/{image_id}/file"),
    ("put", "/images/{image_id}/tags/{tag}"),
    ("get", "/info/stores"),
    ("get", "/schemas/metadefs/tags"),
    ("get", "/openapi.json"),
}

schemathesis.serializer.alias(list(READERS), "application/json")


@pytest.fixture(scope="module")
def document(service: Service) -> Any:
    reply = service.client.get("/v2/openapi.json")
    assert (reply.status, reply.headers["content-type"]) == (200, "application/json")
    return reply.json()


def operations(document: Any) -> Iterator[tuple[str, str, Any]]:
    for path, item in document["paths"].items():
        for method, operation in item.items():
            yield method, path, operation


def test_the_document_is_valid(document: Any) -> None:
    validate(document)
    found = {(method, path) for method, path, _ in operations(document)}
    assert found >= ROUTES
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(set(ids)) == len(ids)


def test_what_it_says_of_methods_is_true(client: Client, document: Any) -> None:
    for path, item in document["paths"].items():
        url = "/v2" + re.sub("{.*?}", "x", path)
        reply = client.request("TRACE", url)
        assert reply.status == 405
        assert {name.lower() for name in reply.headers["allow"].split(", ")} == set(item)


def test_a_tool_drives_the_server(service: Service, client: Client) -> None:
    schema = schemathesis.openapi.from_url(f"{client.url}/v2/openapi.json")
    asked: set[str] = set()
    statuses: set[int] = set()
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        drive(operation, client, statuses)
        asked.add(operation.label)
    assert len(asked) > len(ROUTES)
    assert {200, 201, 204, 400, 404} <= statuses
    assert "Traceback" not in service.log.read_text()


def image_with_everything(client: Client) -> str:
    image_id = client.active(b"data", x="1", tags=["t"])
    assert client.post(f"/v2/images/{image_id}/members", {"member": "m"}).status == 200
    return image_id


def drive(operation: Any, client: Client, statuses: set[int]) -> None:
    """Ask random things of one route, half of them of an image, a tag, a member that are there."""

    @settings(
        database=None,
        deadline=None,
        derandomize=True,
        max_examples=12,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy(), st.booleans())
    def ask(case: Any, of_ours: bool) -> None:
        if of_ours and "image_id" in case.path_parameters:
            image_id = image_with_everything(client)
            known = {"image_id": image_id, "tag": "t", "member_id": "m", "store_id": "local"}
            case.path_parameters = {name: known[name] for name in case.path_parameters}
        reply = case.call()
        statuses.add(reply.status_code)
        case.validate_response(reply, checks=CHECKS)

    ask()
