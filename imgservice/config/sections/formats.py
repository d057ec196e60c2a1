"""Which image formats are accepted."""

import attrs

from imgservice.domain.options import option


@attrs.frozen(kw_only=True)
class FormatsOptions:
    disk: tuple[str, ...] = option(
        ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"),
        "Disk formats that may be declared.",
    )
    container: tuple[str, ...] = option(
        ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"),
        "Container formats that may be declared.",
    )
    require_match: bool = option(
        True,
        "Refuse data whose format is not the declared one, and damaged images; what is not safe"
        " to use is always refused.",
    )
    raw_must_be_raw: bool = option(
        False,
        "Refuse data that is declared raw and is in another format, such as qcow2; false: it is"
        " logged, and administrators see the format as os_glance_detected_format.",
    )
    vmdk_types: tuple[str, ...] = option(
        ("streamOptimized", "monolithicSparse"), "VMDK subformats that are accepted."
    )
    gpt_safety_checks_nonfatal: tuple[str, ...] = option(
        (), "Checks of a GPT disk's MBR whose failure is only logged."
    )
