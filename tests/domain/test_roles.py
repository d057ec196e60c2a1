"""Roles that include others."""

import pytest

from imgservice.domain.roles import KnownRoles, with_implied

READER = {"reader"}
MEMBER = {"member", *READER}
MANAGER = {"manager", *MEMBER}
ADMIN = {"admin", *MANAGER}


@pytest.mark.parametrize(
    ("named", "all_of_them"),
    [
        ([], set()),
        (["Reader"], READER),
        (["MEMBER"], MEMBER),
        (["manager"], MANAGER),
        (["admin"], ADMIN),
        (["member", "admin"], ADMIN),
        (["service"], {"service"}),
        (["Auditor", "member"], {"auditor", *MEMBER}),
    ],
)
def test_roles_include_others(named: list[str], all_of_them: set[str]) -> None:
    assert with_implied(named) == all_of_them


@pytest.mark.parametrize(
    ("role", "are_all", "warning"),
    [
        ("admin", True, None),
        ("Member", True, None),
        ("service", True, None),
        ("admn", True, "did you mean admin?"),
        ("admn", False, "did you mean admin?"),
        ("image_uploader", True, "(known: "),
        ("image_uploader", False, None),
    ],
)
def test_names_that_may_be_mistakes(role: str, are_all: bool, warning: str | None) -> None:
    said = KnownRoles(are_all=are_all).warning(role)
    assert (said is None) == (warning is None)
    assert warning is None or (said is not None and warning in said and repr(role) in said)
