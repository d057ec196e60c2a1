"""Secrets are not printed, however they are written."""

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgservice.domain.units import Secret, masked


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("postgresql://u:p@h/db", "postgresql://u:***@h/db"),
        ("postgresql://u:p@s/s@h:5432/db", "postgresql://u:***@h:5432/db"),
        ("postgresql://u/x:p@h/db", "postgresql://***:***@h/db"),
        ("postgresql://u:a?b@h/d", "postgresql://***"),
        ("postgresql://h/db?password=a@b&user=u", "postgresql://***"),
        ("postgresql:///db?host=/run/pg&user=u&sslpassword=q", "postgresql:///db?host=/run/pg&user=u&sslpassword=***"),
        ("postgresql://h/db?password=a&b&user=u", "postgresql://h/db?password=***"),
        ("postgresql://u:nohost/db", "postgresql://***"),
        ("postgresql://u@h/db", "postgresql://u@h/db"),
        ("postgresql://[::1]:5432/db", "postgresql://[::1]:5432/db"),
        ("mysql://u:p@[::1]/db?charset=utf8mb4", "mysql://u:***@[::1]/db?charset=utf8mb4"),
        ("sqlite:////var/lib/a@b.db", "sqlite:////var/lib/a@b.db"),
    ],
)  # fmt: skip
def test_urls(url: str, shown: str) -> None:
    assert masked(url) == shown
    assert repr(Secret(url)) == shown


def test_what_is_no_url_is_not_shown_at_all() -> None:
    assert repr(Secret("host=h password=p")) == "***"


@given(
    st.lists(st.sampled_from(string.punctuation + " ä"), max_size=3),
    st.sampled_from(["", "u", "u.v"]),
    st.sampled_from(["h", "h:5432", "[::1]:5432", ""]),
    st.sampled_from(["", "/db", "/db?sslmode=require"]),
)
def test_no_piece_of_a_password_is_shown(marks: list[str], user: str, host: str, rest: str) -> None:
    pieces = "qzx".join([*marks, ""] if marks else ["qzx"])
    for password in (f"qzx{pieces}", f"{pieces}qzx"):
        assert "qzx" not in masked(f"postgresql://{user}:{password}@{host}{rest}")
