"""Real image files: a bootable CD, what qemu-img makes of it, and files that must be refused."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import attrs

from tests.real.service import missing

ISO_FOLDER = Path(__file__).parents[2] / ".cache" / "bootable-iso"


@attrs.frozen
class Kind:
    """One way to write the same disk."""

    name: str
    disk_format: str
    qemu_format: str
    options: tuple[str, ...] = ()


KINDS = (
    Kind("iso", "iso", "raw"),
    Kind("raw", "raw", "raw"),
    Kind("qcow2", "qcow2", "qcow2"),
    Kind("vmdk-sparse", "vmdk", "vmdk", ("-o", "subformat=monolithicSparse")),
    Kind("vmdk-stream", "vmdk", "vmdk", ("-o", "subformat=streamOptimized")),
    Kind("vhdx", "vhdx", "vhdx"),
    Kind("vhd", "vhd", "vpc"),
    Kind("vdi", "vdi", "vdi"),
)


@attrs.frozen
class ImageFile:
    """An image file, with what must be told of it once it is uploaded."""

    path: Path
    disk_format: str
    virtual_size: int

    @property
    def data(self) -> bytes:
        return self.path.read_bytes()

    @property
    def md5(self) -> str:
        return hashlib.md5(self.data).hexdigest()

    @property
    def sha512(self) -> str:
        return hashlib.sha512(self.data).hexdigest()


def bootable_iso() -> Path:
    found = sorted(ISO_FOLDER.glob("*.iso"))
    if not found:
        missing("there is no bootable ISO; tests/install-packages fetches one")
    return found[0]


def qemu_img(*arguments: str | Path) -> str:
    program = shutil.which("qemu-img")
    if program is None:
        missing("there is no qemu-img; tests/install-packages installs it")
    command = [program, *map(str, arguments)]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def make(kind: Kind, folder: Path) -> ImageFile:
    """Write the CD as an image of this kind into the folder, once, and ask qemu-img about it."""
    path = folder / f"disk.{kind.name}"
    if not path.exists():
        qemu_img(
            "convert", "-f", "raw", "-O", kind.qemu_format, *kind.options, bootable_iso(), path
        )
    told = json.loads(qemu_img("info", "--output=json", "-f", kind.qemu_format, path))
    return ImageFile(path, kind.disk_format, told["virtual-size"])


def made(name: str, folder: Path) -> ImageFile:
    return make(next(kind for kind in KINDS if kind.name == name), folder)
