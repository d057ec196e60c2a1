"""Whom the subject of a certificate stands for."""

from pathlib import Path

import pytest
from cryptography import x509
from hypothesis import given, settings
from hypothesis import strategies as st

from imgservice.auth.certificates import read_subjects, subject_name
from imgservice.concurrency.file_watch import Unreadable
from imgservice.domain.context import Context


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("CN=alice,O=Example", "CN=alice,O=Example"),
        ("CN=alice, O=Example Org", "CN=alice,O=Example Org"),
        ("CN = alice, O = Example", "CN=alice,O=Example"),
        ("CN=Smith\\, John,O=Example", "CN=Smith\\, John,O=Example"),
        ("CN=a = b,O=x", "CN=a = b,O=x"),
        ("CN=alice+UID=7,O=x", "CN=alice+UID=7,O=x"),
        ("emailAddress=a@b.c,CN=alice", "1.2.840.113549.1.9.1=a@b.c,CN=alice"),
        ("1.2.840.113549.1.9.1=a@b.c,CN=alice", "1.2.840.113549.1.9.1=a@b.c,CN=alice"),
        ("CN=Zoë", "CN=Zoë"),
    ],
)
def test_ways_to_write_a_subject(written: str, name: str) -> None:
    assert subject_name(written) == name


@pytest.mark.parametrize("written", ["", "alice", "cn=alice", "CN=a,,O=b", "/CN=a", ","])
def test_no_subject(written: str) -> None:
    with pytest.raises(ValueError, match="is not a subject such as"):
        subject_name(written)


def test_file(tmp_path: Path) -> None:
    file = tmp_path / "subjects"
    file.write_text('"CN=alice, O=Example": {user: alice, project: apollo, roles: [member]}')
    expected = {"CN=alice,O=Example": Context("alice", "apollo", frozenset({"member", "reader"}))}
    assert read_subjects(file) == expected
    file.write_text(
        '"CN=a,O=x": {user: a, project: p, roles: []}\n"CN=a, O=x": {project: p, roles: [admin]}'
    )
    with pytest.raises(Unreadable, match="2: 'CN=a, O=x' is there twice"):
        read_subjects(file)
    file.write_text("alice: {project: p, roles: []}")
    with pytest.raises(Unreadable, match="1: 'alice' is not a subject such as CN=alice"):
        read_subjects(file)


values = st.text(
    st.characters(min_codepoint=32, exclude_categories=["Cs"]), min_size=1, max_size=20
)


@settings(database=None, deadline=None)
@given(st.lists(st.tuples(st.sampled_from(["CN", "O", "OU"]), values), min_size=1, max_size=4))
def test_a_subject_is_found_under_its_own_name(parts: list[tuple[str, str]]) -> None:
    """Whatever is in a certificate, its name as shown can be put into the file."""
    oids = {
        "CN": x509.NameOID.COMMON_NAME,
        "O": x509.NameOID.ORGANIZATION_NAME,
        "OU": x509.NameOID.ORGANIZATIONAL_UNIT_NAME,
    }
    name = x509.Name([x509.NameAttribute(oids[key], value) for key, value in parts])
    assert subject_name(name.rfc4514_string()) == name.rfc4514_string()
