"""The comparison itself: what it sees, what it overlooks on purpose, and what it calls stale."""

from pathlib import Path

import pytest

from compare.differences import Difference, Wanted, compare, judge
from compare.normal import Answer, Names, normal_answer
from compare.recording import read, write
from compare.replay import Played
from compare.sequences import RequestSequence, Step, fill, load
from compare.servers import Reply

IMAGE = "01234567-89ab-cdef-0123-456789abcdef"
NAMES = Names({"image": IMAGE}, frozenset([IMAGE]))


ONE = RequestSequence(
    "a/sequence", [Step("demo", "GET", "/v2/images", {}, None, {}, chunked=False, brief=False)]
)


def differences(peer: Answer, ours: Answer) -> list[tuple[str, str, str]]:
    found = compare(ONE, Played([peer], None), Played([ours], None)).differences
    return [(each.aspect, each.peer, each.ours) for each in found]


def answer(status: int = 200, body: object = None, **headers: str) -> Answer:
    return Answer(status, headers, body)


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
    assert {step.role for one in sequences for step in one.steps} == {
        "admin", "demo", "alt", "reader", "nobody", "invalid",
    }  # fmt: skip
    assert len(sequences) > 300
