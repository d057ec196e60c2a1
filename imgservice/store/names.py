"""Names of objects, which are the ids of images."""

import re

OBJECT_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")
"""They do not begin with a dot: those of partial files do."""
NO_OBJECT = "has no such object"
"""What a store says of a URL where there is none."""


def checked_name(image_id: str) -> str:
    """Return the id; `ValueError` if no object can have this name."""
    if not OBJECT_NAME.fullmatch(image_id):
        raise ValueError(f"no object can be named by the image id {image_id!r}")
    return image_id
