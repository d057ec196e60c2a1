"""An event-driven server for the OpenStack Images API."""

__version__ = "0.1.0"

USER_AGENT = f"imgservice/{__version__}"
"""What we call ourselves where we are the client."""
