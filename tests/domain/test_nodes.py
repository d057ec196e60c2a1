"""Which other node works on an image, if one does."""

from collections.abc import Mapping
from datetime import datetime

import pytest

from imgservice.domain.image import Image, Status
from imgservice.domain.nodes import Nodes, node_url
from imgservice.domain.url_filter import Refused

STAGE, HASH = "os_glance_stage_host", "os_glance_hash_op_host"
OTHER = "http://node2:9292"
MOMENT = datetime(2026, 3, 1)


def image(properties: Mapping[str, str], status: Status = Status.UPLOADING) -> Image:
    return Image("x", status, MOMENT, MOMENT, properties=properties)


@pytest.mark.parametrize(
    "text",
    [OTHER, f"{OTHER}/", "HTTP://Node2.:9292", "http://node2:9292//"],
)
def test_one_node_has_one_url(text: str) -> None:
    assert node_url(text) == OTHER


@pytest.mark.parametrize(
    "text",
    ["", "node2:9292", "file:///etc", "http://", "http://u:p@node2:9292", f"{OTHER}/?a=b", "x\n"],
)
def test_what_is_no_node(text: str) -> None:
    with pytest.raises(Refused):
        node_url(text)
    assert Nodes().at_work(image({STAGE: text, HASH: text})) is None


def test_who_works_on_an_image() -> None:
    assert Nodes().at_work(image({})) is None
    assert Nodes().at_work(image({STAGE: f"{OTHER}/"})) == OTHER
    assert Nodes().at_work(image({STAGE: "", HASH: OTHER})) == OTHER
    assert Nodes().at_work(image({HASH: OTHER}, Status.ACTIVE)) == OTHER


def test_what_was_staged_matters_only_until_it_is_imported() -> None:
    for status in set(Status) - {Status.UPLOADING, Status.IMPORTING}:
        assert Nodes().at_work(image({STAGE: OTHER}, status)) is None


def test_this_node_is_no_other() -> None:
    nodes = Nodes(own={"http://node1:9292"})
    assert nodes.at_work(image({STAGE: "http://NODE1:9292/"})) is None
    assert nodes.at_work(image({STAGE: "http://node1:9292", HASH: OTHER})) == OTHER


def test_only_peers_are_asked_where_they_are_listed() -> None:
    nodes = Nodes(peers={OTHER})
    assert nodes.at_work(image({STAGE: OTHER})) == OTHER
    assert nodes.at_work(image({STAGE: "http://node3:9292"})) is None
    assert Nodes(peers=frozenset()).at_work(image({STAGE: OTHER})) is None
