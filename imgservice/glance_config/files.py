"""Files that belong to the configuration: policies, protected properties, the schema."""

from imgservice.glance_config.conversion import Conversion
from imgservice.glance_config.ini import Assignment

_DEFAULT_RULES = ("policy.yaml", "policy.json")


def convert_files(conversion: Conversion) -> None:
    _convert_policy_file(conversion)
    _convert_policy_folders(conversion)
    _convert_property_protections(conversion)
    schema = conversion.folders.find("schema-image.json")
    if schema is not None:
        remark = "read by Glance by default"
        conversion.put("api.schema_file", str(schema), None, remark)


def _convert_policy_file(conversion: Conversion) -> None:
    one = conversion.given.find("oslo_policy/policy_file")
    name = conversion.read(one, str) or "policy.yaml"
    found = conversion.folders.find(name)
    if found is not None:
        remark = "" if one else "read by Glance by default"
        conversion.put("policy.file", str(found), one, remark)
    elif one is not None and name.startswith("/"):
        _put_missing(conversion, "policy.file", name, one)
    elif one is not None:
        matters = name not in _DEFAULT_RULES
        reason = "there is no such file here: the default rules hold, as in Glance in that case"
        conversion.keep("policy", [one], reason, matters)


def _convert_policy_folders(conversion: Conversion) -> None:
    """Leave out directories that do not exist: Glance ignores them, and we would not start."""
    given = conversion.given.find_all("oslo_policy/policy_dirs")
    folders = []
    for one in given:
        name = conversion.read(one, str)
        found = conversion.folders.find(name) if name else None
        if found is not None:
            folders.append(str(found))
            conversion.converted.add(one)
        elif name is not None:
            reason = "there is no such directory here, so it has no effect"
            conversion.keep("policy", [one], reason)
    standard = conversion.folders.find("policy.d") if not given else None
    if folders:
        conversion.put("policy.dirs", folders, given[-1])
    elif standard is not None:
        remark = "read by Glance by default"
        conversion.put("policy.dirs", [str(standard)], None, remark)


def _convert_property_protections(conversion: Conversion) -> None:
    one = conversion.given.find("DEFAULT/property_protection_file")
    name = conversion.read(one, str)
    if one is None or name is None:
        return
    found = conversion.folders.find(name) if name else None
    if found is not None:
        conversion.put("policy.property_protections.file", str(found), one)
    elif name:
        _put_missing(conversion, "policy.property_protections.file", name, one)
    else:
        conversion.ignore(one, "is empty")


def _put_missing(conversion: Conversion, path: str, name: str, one: Assignment) -> None:
    conversion.put(path, name, one)
    conversion.notes.append(f"{one}: {name} is not there; the service does not start without it")
