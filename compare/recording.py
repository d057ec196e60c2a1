"""The peer's answers as files: every different answer once, and which sequence got which."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from compare.normal import Response
from compare.replay import Played

DIRECTORY = Path(__file__).with_name("recorded")
KEY_LENGTH = 10


def write(played: Mapping[str, Played], directory: Path = DIRECTORY) -> None:
    """Replace what is recorded: one file for every group of sequences."""
    directory.mkdir(exist_ok=True)
    for old in directory.glob("*.json"):
        old.unlink()
    for group in sorted({name.partition("/")[0] for name in played}):
        members = {name: one for name, one in played.items() if name.startswith(f"{group}/")}
        _write_group(directory / f"{group}.json", members)


def _write_group(path: Path, played: Mapping[str, Played]) -> None:
    values: dict[str, Any] = {}
    sequences = {
        name: {
            "answers": [_keep_answer(values, answer) for answer in one.answers],
            "rows": None if one.rows is None else [_keep(values, row) for row in one.rows],
            **({"outcomes": one.outcomes} if one.outcomes else {}),
        }
        for name, one in played.items()
    }
    # A line for each, so that a change of one is a change of one line.
    lines = [f'"{key}": {_text(value)}' for key, value in sorted(values.items())]
    asked = [f"{json.dumps(name)}: {_text(value)}" for name, value in sequences.items()]
    path.write_text(
        '{"values": {\n'
        + ",\n".join(lines)
        + '\n},\n"sequences": {\n'
        + ",\n".join(asked)
        + "\n}}\n",
        encoding="utf-8",
    )


def _keep_answer(values: dict[str, Any], answer: Response) -> str:
    """Images are in many lists: a list only refers to them."""
    body = answer.body
    if _is_list(body):
        body = {**body, "images": [_keep(values, image) for image in body["images"]]}
    return _keep(values, {**attrs.asdict(answer), "body": body})


def _answer(values: Mapping[str, Any], kept: Mapping[str, Any]) -> Response:
    body = kept["body"]
    if _is_list(body):
        body = {**body, "images": [values[key] for key in body["images"]]}
    return Response(kept["status"], kept["headers"], body)


def _is_list(body: Any) -> bool:
    return isinstance(body, dict) and isinstance(body.get("images"), list)


def _text(value: Any) -> str:
    return json.dumps(value, sort_keys=True, separators=(",", ":"))


def _keep(values: dict[str, Any], value: Any) -> str:
    key = hashlib.sha256(_text(value).encode()).hexdigest()[:KEY_LENGTH]
    values[key] = value
    return key


def read(directory: Path = DIRECTORY) -> dict[str, Played]:
    found: dict[str, Played] = {}
    for path in sorted(directory.glob("*.json")):
        document = json.loads(path.read_text(encoding="utf-8"))
        values = document["values"]
        for name, one in document["sequences"].items():
            found[name] = Played(
                [_answer(values, values[key]) for key in one["answers"]],
                _rows(values, one["rows"]),
                one.get("outcomes", []),
            )
    return found


def _rows(values: Mapping[str, Any], keys: Sequence[str] | None) -> list[Any] | None:
    return None if keys is None else [values[key] for key in keys]
