"""The comparison itself: what it sees, what it overlooks on purpose, and what it calls stale."""

import re
from configparser import RawConfigParser
from datetime import datetime
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import attrs
import pytest
import sqlalchemy as sa
import yaml

from compare.differences import Difference, Wanted, compare, judge
from compare.normal import Names, Response, normal_answer
from compare.origin import origin
from compare.recording import read, write
from compare.replay import Played
from compare.rows import broken_rows
from compare.sequences import ROLES, Race, RequestSequence, Step, fill, load
from compare.servers import Reply
from compare.variants import merged, our_options, peer_options, variants
from imgservice.db.schema.tables import glance_metadata, image_tags, images

REPOSITORY = Path(__file__).parents[1]
IMAGE = "01234567-89ab-cdef-0123-456789abcdef"
NAMES = Names({"image": IMAGE}, frozenset([IMAGE]))


ONE = RequestSequence(
    "a/sequence", [Step("demo", "GET", "/v2/images", {}, None, {}, chunked=False, brief=False)]
)


def differences(peer: Response, ours: Response) -> list[tuple[str, str, str]]:
    found = compare(ONE, Played([peer], None), Played([ours], None)).differences
    return [(each.aspect, each.peer, each.ours) for each in found]


def answer(status: int = 200, body: object = None, **headers: str) -> Response:
    return Response(status, headers, body)


def test_users_are_told_every_difference_that_is_meant_to_be() -> None:
    """A new one is written in docs/reference/differences-from-glance.md too, one that is gone is
    taken from there."""
    entries: list[Any] = []
    for path in ("compare/wanted.yaml", "tests/real/matrix_wanted.yaml"):
        entries += yaml.safe_load((REPOSITORY / path).read_text())
    reasons = {" ".join(entry["reason"].split()) for entry in entries}
    page = (REPOSITORY / "docs/reference/differences-from-glance.md").read_text()
    told = {" ".join(one.split()) for one in re.findall(r"^- (.*(?:\n  .*)*)", page, re.MULTILINE)}
    assert reasons - told == set()
    assert told - reasons == set()


def test_every_kind_of_difference_is_seen() -> None:
    assert differences(answer(body={"a": [1]}), answer(body={"a": [1]})) == []
    assert differences(answer(200, body=1), answer(404, body=2)) == [("status", "200", "404")]
    assert differences(answer(allow="GET"), answer()) == [("header:allow", '"GET"', "(absent)")]
    assert differences(answer(body={"a": [1]}), answer(body={"a": [2]})) == [("body/a/0", "1", "2")]
    assert differences(answer(body=True), answer(body="True")) == [("body", "true", '"True"')]
    assert differences(answer(body={"a": 1}), answer(body={})) == [("body/a", "1", "(absent)")]


def test_rows_are_compared_where_both_are_known() -> None:
    empty, full = Played([answer()], []), Played([answer()], [{"images": []}])
    assert [one.aspect for one in compare(ONE, empty, full).differences] == ["rows"]
    assert compare(ONE, Played([answer()], None), full).differences == []


def test_an_order_is_one_difference() -> None:
    first, second = {"id": "1", "name": "a"}, {"id": "2", "name": "b"}
    peer, ours = answer(body={"images": [first, second]}), answer(body={"images": [second, first]})
    assert differences(peer, ours) == [("body/images:order", '["1", "2"]', '["2", "1"]')]


def test_what_differs_from_run_to_run_is_taken_out() -> None:
    body = (
        f'{{"self": "/v2/images/{IMAGE}", "created_at": "2026-01-01T00:00:00Z",'
        ' "tags": ["b", "a"], "next": "/v2/images?b=1&a=2"}'
    )
    headers = {"content-type": "application/json", "location": f"http://a:1/v2/images/{IMAGE}"}
    found = normal_answer(Reply(200, headers, body.encode()), NAMES)
    assert found.headers["location"] == "<url>/v2/images/<image>"
    assert found.body == {
        "self": "/v2/images/<image>",
        "created_at": "<time>",
        "tags": ["a", "b"],
        "next": {"path": "/v2/images", "query": {"a": ["2"], "b": ["1"]}},
    }


def test_an_order_that_is_left_to_chance_is_none() -> None:
    body = b"""{"stores": "b,a", "locations": [{"url": "b", "metadata": {}},
        {"url": "a", "metadata": {}}]}"""
    found = normal_answer(Reply(200, {"content-type": "application/json"}, body), NAMES).body
    assert found["stores"] == "a,b"
    assert [one["url"] for one in found["locations"]] == ["a", "b"]


def test_of_an_error_the_words_are_free() -> None:
    body = b'{"message": "No.", "code": "404 Not Found", "title": "Not Found"}'
    found = normal_answer(Reply(404, {"content-type": "application/json"}, body), NAMES)
    assert found.body == {"message": "str", "code": "404 Not Found", "title": "Not Found"}


def test_the_list_of_wanted_differences() -> None:
    seen = Difference("list/sort", "3 demo GET /v2/images", "status", "500", "200")
    fits = Wanted("better", sequence="list/*", aspect="status", peer="500")
    stale = Wanted("no more", sequence="list/*", aspect="body/*")
    verdict = judge([seen], [fits, stale])
    assert (verdict.unexplained, verdict.stale) == ([], [stale])
    assert judge([seen], [stale]).unexplained == [seen]


def test_recorded_answers_are_read_as_they_were_written(tmp_path: Path) -> None:
    played = {
        "a/1": Played([answer(body={"b": None}, allow="GET"), answer(404)], [{"images": []}]),
        "b/1": Played([answer(body={"images": [{"id": "1"}], "first": {}})], None),
        "b/2": Played([], None, ["200 409; a"]),
    }
    write(played, tmp_path)
    assert read(tmp_path) == played


@pytest.mark.parametrize(
    ("value", "filled"),
    [("${a}", [1]), ("x${b}", "x2"), ({"${b}": ["${a}"]}, {"2": [[1]]}), ("{a}", "{a}"), (5, 5)],
)
def test_parameters_are_filled_in(value: object, filled: object) -> None:
    assert fill(value, {"a": [1], "b": 2}) == filled


def test_every_role_and_hundreds_of_sequences() -> None:
    sequences = load()
    assert {step.role for one in sequences for step in one.steps} == set(ROLES)
    assert {one.variant for one in sequences} == {None, *variants()}
    assert len(sequences) > 300


# -- variants -------------------------------------------------------------------------------------


def test_a_file_may_be_for_several_variants(tmp_path: Path) -> None:
    step = "[{as: demo, do: GET /v2/images}]"
    (tmp_path / "common.yaml").write_text("common: {}")
    (tmp_path / "a.yaml").write_text(
        "variant: [schema, required]\n"
        f"sequences: [{{name: both, steps: {step}}}, {{name: one, variant: none, steps: {step}}}]"
    )
    assert [(one.name, one.variant) for one in load(tmp_path)] == [
        ("a/schema/both", "schema"), ("a/required/both", "required"), ("a/one", "none"),
    ]  # fmt: skip


def test_every_variant_has_what_both_servers_need(tmp_path: Path) -> None:
    for name in variants():
        text = peer_options(name, "127.0.0.1", 9095, tmp_path)
        assert "{" not in text
        RawConfigParser().read_string(text)
        ours = str(our_options(name, tmp_path, "http://127.0.0.1:9095"))
        assert "{origin" not in ours and "{files" not in ours
    assert our_options(None, tmp_path, "http://127.0.0.1:9095") == {}
    assert (tmp_path / "schema-image.json").exists()


def test_options_are_merged_in_depth() -> None:
    one = {"a": {"b": 1, "c": 2}, "d": [1]}
    assert merged(one, {"a": {"b": 3}, "d": [2]}) == {"a": {"b": 3, "c": 2}, "d": [2]}


def test_the_origin_serves_its_data() -> None:
    with origin() as url:
        for path in ("/disk.raw", "/moved.raw"):
            with urlopen(url + path) as reply:
                assert reply.read() == b"0123456789"
        with pytest.raises(HTTPError, match="404"):
            urlopen(f"{url}/missing.raw")


# -- races ----------------------------------------------------------------------------------------

RACE = attrs.evolve(ONE, race=Race(ONE.steps, (), 3, "", ["200 409; ?", "409 200; ?"]))


def test_an_outcome_must_be_possible_on_both_sides() -> None:
    right = Played([], None, ["200 409; a", "409 200; b"])
    lost = Played([], None, ["200 200; a", "200 409; a"])
    assert compare(RACE, right, Played([], None, ["409 200; b"])).differences == []
    [peer] = compare(RACE, lost, right).differences
    assert (peer.aspect, peer.peer, peer.ours) == ("outcome", "200 200; a", "(absent)")
    [ours] = compare(RACE, right, lost).differences
    assert (ours.peer, ours.ours) == ("(absent)", "200 200; a")
    assert RACE.requests == 6


def test_what_chance_decides_is_never_stale() -> None:
    assert judge([], [Wanted("chance", sometimes=True)]).stale == []


def test_rows_that_cannot_be_true_are_told(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/glance.db"
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        glance_metadata.create_all(connection)
        connection.execute(images.insert(), [_image("1"), _image("2"), _image("3", deleted=True)])
        connection.execute(image_tags.insert(), [_tag("1"), _tag("1"), _tag("3")])
        connection.execute(images.update().values(status="saving").where(images.c.id == "2"))
    assert broken_rows(url, ["1"]) == ["image_tags twice", "active with 0 locations"]
    assert broken_rows(url, ["2"]) == ["left saving"]
    assert broken_rows(url, ["3"]) == ["image_tags of a deleted image"]


def _image(image_id: str, deleted: bool = False) -> dict[str, object]:
    return {
        "id": image_id, "status": "active", "deleted": deleted, "min_disk": 0, "min_ram": 0,
        "protected": False, "visibility": "shared", "os_hidden": False,
        "created_at": datetime(2026, 1, 1), "updated_at": datetime(2026, 1, 1),
    }  # fmt: skip


def _tag(image_id: str) -> dict[str, object]:
    moment = datetime(2026, 1, 1)
    return {
        "image_id": image_id, "value": "a", "created_at": moment, "updated_at": moment,
        "deleted": False,
    }  # fmt: skip
