"""The JSON documents of Keystone."""

from collections.abc import Mapping
from typing import Any

Document = Mapping[str, Any]
"""A JSON object. `Any`: its values are checked where they are read, and by nothing before that."""
