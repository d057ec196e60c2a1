"""Image formats, and the inspection of uploaded data."""

import attrs

from imgservice.domain.options import option


@attrs.frozen(kw_only=True)
class FormatsOptions:
    disk: tuple[str, ...] = option(
        ("ami", "ari", "aki", "vhd", "vhdx", "vmdk", "raw", "qcow2", "vdi", "iso", "ploop"),
        "Allowed values of disk_format.",
    )
    container: tuple[str, ...] = option(
        ("ami", "ari", "aki", "bare", "ovf", "ova", "docker", "compressed"),
        "Allowed values of container_format.",
    )
    require_match: bool = option(
        True,
        "Refuse data that is not in the declared format, and damaged images. Unsafe images are"
        " always refused.",
    )
    raw_must_be_raw: bool = option(
        False,
        "Refuse data that is declared raw and is in another format, such as qcow2. false: log it,"
        " and show the format to administrators as os_glance_detected_format.",
    )
    vmdk_types: tuple[str, ...] = option(
        ("streamOptimized", "monolithicSparse"), "VMDK subformats that are accepted."
    )
    gpt_safety_checks_nonfatal: tuple[str, ...] = option(
        (), "Checks of the MBR of GPT disks whose failure is only logged."
    )
