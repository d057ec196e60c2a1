"""The name under which a downloaded image is saved."""

import re
import unicodedata
from collections.abc import Mapping
from urllib.parse import quote

from imgservice.domain.image import Image

LONGEST = 200
"""Bytes of a name; file systems allow 255, and programs may append numbers."""
EXTENSIONS: Mapping[str, str] = {
    "raw": "raw",
    "qcow2": "qcow2",
    "vmdk": "vmdk",
    "vdi": "vdi",
    "vhd": "vhd",
    "vhdx": "vhdx",
    "iso": "iso",
    "ploop": "hds",
    "ami": "ami",
    "aki": "aki",
    "ari": "ari",
}
CONTAINERS: Mapping[str, str] = {"ova": "ova", "docker": "tar"}
"""Containers, of which the download is the container and not the disk in it."""
_UNSAFE = re.compile(r'[/\\<>:"|?*%]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\.|$)", re.IGNORECASE)
"""Names of devices on Windows, with any extension."""


def disposition(image: Image) -> str:
    """Return a Content-Disposition that saves the image under its name (RFC 6266)."""
    name = file_name(image)
    plain = _ascii(name)
    value = f'attachment; filename="{plain}"'
    return value if plain == name else f"{value}; filename*=UTF-8''{quote(name, safe='')}"


def file_name(image: Image) -> str:
    """Return the image's name, or else its id, as a name that is safe on every file system."""
    base = _safe(image.name or "") or image.id
    extension = _extension(image)
    if extension is None or base.lower().endswith(f".{extension}"):
        return base
    return f"{base}.{extension}"


def _extension(image: Image) -> str | None:
    container, disk = image.container_format or "", image.disk_format or ""
    return CONTAINERS.get(container) or (EXTENSIONS.get(disk) if container == "bare" else None)


def _safe(name: str) -> str:
    # No invisible characters: one that reverses the direction of text can fake an extension.
    seen = "".join("_" if _is_hidden(one) else one for one in unicodedata.normalize("NFC", name))
    cut = _UNSAFE.sub("_", seen).encode()[:LONGEST].decode("utf-8", "ignore")
    safe = cut.strip(" .")
    return f"_{safe}" if _RESERVED.match(safe) else safe


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character)[0] in "CZ" and character != " "


def _ascii(name: str) -> str:
    """Return the name in ASCII, for clients that read nothing else; it needs no quoting."""
    letters = unicodedata.normalize("NFKD", name).encode("ascii", "ignore").decode()
    plain = _UNSAFE.sub("_", letters).lstrip(" ")  # a full-width slash has become a slash
    return plain if plain and not plain.startswith(".") else f"image{plain}"
