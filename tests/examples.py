"""How many examples hypothesis tries: all of them where CI is set, elsewhere a fifth."""

import os

from hypothesis import settings

USUAL = 100
FEWEST = 10


def choose_profile() -> None:
    """Choose between the profiles `all` and `few`; `--hypothesis-profile` overrides the choice."""
    # On a busy machine an example may take any time.
    settings.register_profile("all", deadline=None, max_examples=USUAL)
    settings.register_profile("few", deadline=None, max_examples=USUAL // 5)
    settings.load_profile("all" if os.environ.get("CI") else "few")


def examples(number: int) -> int:
    """Return how many a test tries for whom the usual number is not right."""
    return max(FEWEST, number * settings().max_examples // USUAL)
