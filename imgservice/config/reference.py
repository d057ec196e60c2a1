"""Writes the reference page of the configuration from the declarations of the options."""

from collections.abc import Iterator, Mapping
from typing import get_origin

import attrs

from imgservice.config.describe import Field, constraint, section_of, type_name, written
from imgservice.config.sections import Config
from imgservice.domain.options import declaration, key
from imgservice.store import registry

HEAD = """\
<!-- Written by `make config`: change the declarations in imgservice/config/sections/ instead. -->

# Configuration

Every option of the configuration file. The [sample file](../../conf/imgservice.yaml) has all of
them with their defaults. `imgservice check` finds mistakes and prints the values in use.

| type | how it is written |
|---|---|
| duration | a number of seconds, such as `30` or `0.5` |
| size | a number of bytes, or a number with a unit: `10GiB` (1024³), `10GB` (1000³) |
| rate | `{per_second: NUMBER, burst: NUMBER}`: the average, and how many are accepted at once |
| rate of bytes | the same with sizes |
| secret | a string, `{file: PATH}` or `{env: NAME}`; it is masked wherever options are printed |
| string or null | null, which is also written `~`, means that there is no value |

Relative paths start at the working directory.

## Sections and single options
"""
COLUMNS = "| key | type | default | constraint | description |\n|---|---|---|---|---|"


def reference() -> str:
    """Return the page."""
    return HEAD + "\n" + "\n".join([*_table(Config, ""), *_sections(Config, "")]) + "\n"


def _sections(class_: "type[attrs.AttrsInstance]", prefix: str, of: str = "") -> Iterator[str]:
    """Write what the section contains: first a table of its keys, then the sections in it.

    `of` ends the headings of all of them.
    """
    for field in attrs.fields(class_):
        if key(field) == "stores":
            yield from _stores(field)
        elif inner := section_of(field.type):
            path = _path(prefix, field)
            yield from ("", f"{'###' if '.' in path else '##'} {path}{of}", "")
            yield from (declaration(field).doc, "", *_table(inner, path, of))
            yield from _sections(inner, path, of)


def _path(prefix: str, field: Field) -> str:
    """Return the path of the section, with a placeholder where there may be several."""
    suffixes: Mapping[object, str] = {tuple: "[]", Mapping: ".NAME"}
    suffix = suffixes.get(get_origin(field.type), "")
    return f"{prefix}.{key(field)}{suffix}".lstrip(".")


def _stores(field: Field) -> Iterator[str]:
    yield from ("", "## stores", "", declaration(field).doc)
    for name in registry.BUILT_IN:
        driver = registry.driver(name)
        path, of = "stores.NAME", f" of type {name}"
        yield from ("", f"### {path}{of}", "", f"See [Store: {name}](stores/{name}.md).", "")
        yield from (*_table(driver.config, path, of), *_sections(driver.config, path, of))


def _table(class_: "type[attrs.AttrsInstance]", prefix: str, of: str = "") -> Iterator[str]:
    yield COLUMNS
    for field in attrs.fields(class_):
        doc = declaration(field).doc
        cells = (
            _key(field, prefix, of),
            type_name(field.type),
            _default(field),
            constraint(field),
            doc,
        )
        yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"


def _key(field: Field, prefix: str, of: str) -> str:
    if _has_heading(field):
        heading = "stores" if key(field) == "stores" else _path(prefix, field) + of
        anchor = "".join(one for one in heading.lower() if one not in ".[]").replace(" ", "-")
        return f"[`{key(field)}`](#{anchor})"
    return f"`{key(field)}`"


def _has_heading(field: Field) -> bool:
    return section_of(field.type) is not None or key(field) == "stores"


def _default(field: Field) -> str:
    if _has_heading(field):
        return ""
    if field.default is attrs.NOTHING:
        return "required"
    make = getattr(field.default, "factory", None)
    return f"`{written(make() if make else field.default, field.type)}`"


if __name__ == "__main__":
    print(reference(), end="")
