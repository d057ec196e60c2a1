"""Maps the subjects of client certificates to users."""

import re
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import attrs
from cryptography import x509

from imgservice.auth.users_file import read_users
from imgservice.domain.context import Context

_LONG_NAMES = {"emailAddress": x509.NameOID.EMAIL_ADDRESS}
"""OpenSSL's names of attributes that have no short name in RFC 4514."""

_BLANKS = re.compile(r"(^|(?<!\\)[,+]) *([A-Za-z][A-Za-z0-9-]*|[0-9][0-9.]*) *= *")
"""Blanks that RFC 4514 does not allow, but people and OpenSSL write, after commas or around =."""


@attrs.frozen
class Subject:
    """The subject of a certificate whose signature was checked in the handshake."""

    name: str
    """As in RFC 4514: CN=alice,O=Example."""
    not_after: datetime


def subject_of(certificate: x509.Certificate) -> Subject:
    return Subject(certificate.subject.rfc4514_string(), certificate.not_valid_after_utc)


def read_subjects(path: Path) -> Mapping[str, Context]:
    """Return the user of each subject; `Unreadable` names the line of a mistake."""
    return read_users(path, subject_name)


def subject_name(text: str) -> str:
    """Write a subject as `subject_of` does; `ValueError` if the text is no subject."""
    try:
        parsed = x509.Name.from_rfc4514_string(_BLANKS.sub(r"\1\2=", text), _LONG_NAMES)
    except ValueError:
        parsed = x509.Name([])
    if not list(parsed):
        raise ValueError(
            f"{text!r} is not a subject such as CN=alice,O=Example;"
            " openssl x509 -noout -subject -nameopt RFC2253 -in FILE prints it"
        )
    return parsed.rfc4514_string()
