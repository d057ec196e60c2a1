"""What every test may ask for."""

from tests.keystone import keystone

__all__ = ["keystone"]
