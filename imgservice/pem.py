"""Certificates in PEM files, which may have other text and keys between them."""

import re

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]++-----END CERTIFICATE-----")


def certificate_blocks(text: bytes) -> list[bytes]:
    """Return the certificates in PEM, in their order."""
    return _CERTIFICATE.findall(text)
