"""Names under which downloads are saved: no image can choose a place, or another header."""

from datetime import datetime
from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from imgservice.api.filenames import disposition, file_name
from imgservice.domain.image import Image, Status

NOW = datetime(2026, 1, 2)
ID = "0f4d1c4e-2f5a-4d4a-9d5c-3f5d6a7b8c9d"


def image(name: str | None, disk: str | None = "qcow2", container: str | None = "bare") -> Image:
    return Image(
        ID, Status.ACTIVE, NOW, NOW, name=name, disk_format=disk, container_format=container
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Debian 13", "Debian 13.qcow2"),
        ("debian.qcow2", "debian.qcow2"),
        ("debian.QCOW2", "debian.QCOW2"),
        ("debian.raw", "debian.raw.qcow2"),
        (None, f"{ID}.qcow2"),
        ("", f"{ID}.qcow2"),
        (" . ", f"{ID}.qcow2"),
        ("../../etc/passwd", "_.._etc_passwd.qcow2"),
        ("..\\..\\boot.ini", "_.._boot.ini.qcow2"),
        (".bashrc", "bashrc.qcow2"),
        ("a\r\nSet-Cookie: b", "a__Set-Cookie_ b.qcow2"),
        ('a"; filename=b.exe', "a_; filename=b.exe.qcow2"),
        ("gpj.exe\u202e", "gpj.exe_.qcow2"),
        ("a\u2028b\x1b[0m", "a_b_[0m.qcow2"),
        ("CON", "_CON.qcow2"),
        ("nul.raw", "_nul.raw.qcow2"),
        ("100%25", "100_25.qcow2"),
        ("Übung", "Übung.qcow2"),
    ],
)
def test_names(name: str | None, expected: str) -> None:
    assert file_name(image(name)) == expected


@pytest.mark.parametrize(
    ("disk", "container", "expected"),
    [
        ("raw", "bare", "x.raw"),
        ("iso", "bare", "x.iso"),
        ("vmdk", "ova", "x.ova"),
        ("raw", "docker", "x.tar"),
        ("raw", "compressed", "x"),
        ("own-format", "bare", "x"),
        (None, None, "x"),
    ],
)
def test_extensions(disk: str | None, container: str | None, expected: str) -> None:
    assert file_name(image("x", disk, container)) == expected


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("plain", 'attachment; filename="plain.qcow2"'),
        ("Übung", "attachment; filename=\"Ubung.qcow2\"; filename*=UTF-8''%C3%9Cbung.qcow2"),
        ("镜像", "attachment; filename=\"image.qcow2\"; filename*=UTF-8''%E9%95%9C%E5%83%8F.qcow2"),
        (
            "\uff0f\uff02",  # wide: a slash and a quotation mark
            "attachment; filename=\"__.qcow2\"; filename*=UTF-8''%EF%BC%8F%EF%BC%82.qcow2",
        ),
    ],
)  # fmt: skip
def test_headers(name: str, expected: str) -> None:
    assert disposition(image(name)) == expected


@given(st.text(max_size=400), st.sampled_from(["raw", "qcow2", None]))
def test_whatever_the_name_is(name: str, disk: str | None) -> None:
    saved, header = file_name(image(name, disk)), disposition(image(name, disk))
    assert not set(saved) & set('/\\<>:"|?*%\r\n\t\0')
    assert saved.strip(" .")
    assert not saved.startswith(".")
    assert len(saved.encode()) <= 255
    assert header.isascii()
    assert header.isprintable()
    plain, _, more = header.removeprefix('attachment; filename="').partition('"')
    assert plain
    assert not plain.startswith(".")
    assert more == "" or unquote(more.removeprefix("; filename*=UTF-8''")) == saved
