"""Roles that include others."""

import pytest

from imgservice.domain.roles import with_implied

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
