"""Who may do what with which image, by tokens of a real Keystone: as a real Glance decided it."""

import re
from collections.abc import Iterator

import attrs
import pytest

from tests.keystone import PASSWORD, started
from tests.real.matrix import (
    KINDS,
    LISTS,
    Comparison,
    Found,
    Pair,
    Server,
    ask_everything,
    load_wanted,
    ours,
    read_facts,
)
from tests.real.matrix_users import Identity, enrolled


@attrs.frozen
class Asked:
    found: Found
    pair: Pair
    secrets: tuple[str, ...] = attrs.field(repr=False)


@pytest.fixture(scope="module")
def asked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Asked]:
    """Ask everything, once; the services still run then."""
    with started(tmp_path_factory.mktemp("keystone")) as keystone:
        administrator = Identity(keystone.url, keystone.admin())
        directory = tmp_path_factory.mktemp("services")
        with (
            enrolled(administrator) as users,
            ours(directory, keystone.auth()) as pair,
        ):
            server = Server(pair.closed.client.url, pair.open.client.url, users)
            secrets = (PASSWORD, administrator.token, *users.secrets)
            yield Asked(ask_everything(server), pair, secrets)


def test_everybody_is_answered_as_by_glance(asked: Asked) -> None:
    lines = Comparison(read_facts(), asked.found.outcomes).report(load_wanted())
    assert not lines, "\n".join(lines)


def test_who_may_not_see_an_image_cannot_tell_it_from_none(asked: Asked) -> None:
    assert asked.found.told_apart() == []


def test_no_refused_request_changes_an_image(asked: Asked) -> None:
    changed = [cell for cell, outcome in asked.found.outcomes.items() if outcome == "changed"]
    assert changed == []


def test_who_shows_nothing_sees_what_is_open_and_no_more(asked: Asked) -> None:
    """Where that is allowed: as a member of a project to which nobody has given anything."""
    reads = {"show", "download", *(f"list {query}".strip() for query in LISTS)}
    outcomes = asked.found.outcomes
    for caller in ("nobody, open", "garbage, open"):
        for kind in KINDS:
            is_open = kind.visibility in ("public", "community") and not kind.gone
            for question in reads:
                there = outcomes[question, kind.name, "other member"] if is_open else None
                expected = there or ("no" if question.startswith("list") else "404")
                cell = question, kind.name, caller
                assert (cell, outcomes[cell]) == (cell, expected)


def test_nothing_secret_is_logged(asked: Asked) -> None:
    said = asked.pair.said()
    assert said.count("\n") > 10_000
    for secret in (*asked.secrets, "gAAAAA", "$2b$", "not a token of"):
        assert secret not in said
    assert not re.search(r"\b[0-9a-f]{64}\b", said)
