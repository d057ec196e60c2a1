"""How many examples hypothesis tries: all of them where CI is set, elsewhere a fifth."""

import os

from hypothesis import HealthCheck, settings

USUAL = 100
FEWEST = 10
PATIENT = (HealthCheck.too_slow,)
"""What is not looked at: on a busy machine an example may take any time."""
SHARING = (*PATIENT, HealthCheck.function_scoped_fixture)
"""The same where all examples of a test share its fixtures."""


def choose_profile() -> None:
    """Choose between the profiles `all` and `few`; `--hypothesis-profile` overrides the choice."""
    for name, number in (("all", USUAL), ("few", USUAL // 5)):
        settings.register_profile(
            name, deadline=None, max_examples=number, suppress_health_check=PATIENT
        )
    settings.load_profile("all" if os.environ.get("CI") else "few")


def examples(number: int) -> int:
    """Return how many a test tries for whom the usual number is not right."""
    return max(FEWEST, number * settings().max_examples // USUAL)
