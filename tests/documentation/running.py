"""Runs a page: its commands in one shell, with its files where it says that they are."""

import os
import shlex
import signal
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

from tests.documentation.blocks import Block
from tests.documentation.forking import BIN, PROGRAMS, forking
from tests.real.service import free_port

TIMEOUT = 240.0
PRELUDE = """\
set -eo pipefail
service= place=
serves() { (: < "/dev/tcp/127.0.0.1/$1") 2>/dev/null; }
stop() {
    [ -n "$service" ] || return 0
    kill -TERM "$service" 2>/dev/null || true
    for _ in $(seq 300); do kill -0 -- "-$service" 2>/dev/null || break; sleep 0.1; done
    kill -KILL -- "-$service" 2>/dev/null || true
    service=
}
wait_until_it_serves() {
    for _ in $(seq 600); do
        serves "$1" && return
        kill -0 "$service" 2>/dev/null || break
        sleep 0.1
    done
    echo "the service did not start" >&2
    exit 99
}
ended() {
    code=$?
    [ $code = 0 ] || echo "$place: a command ended with $code" >&2
    stop
    exit $code
}
trap ended EXIT
trap 'exit 143' TERM
"""


@attrs.define
class Scene:
    """The surroundings of a page: its directory, its port, and what stands for what it names."""

    directory: Path
    port: int = attrs.field(factory=free_port)
    changes: dict[str, str] = attrs.field(factory=dict)
    """Replaced in all of its blocks, before the paths and ports that are common to all pages."""
    environment: dict[str, str] = attrs.field(factory=dict)
    before: str = ""
    """Commands that bring about what the page takes for granted."""

    @property
    def work(self) -> Path:
        """Return the empty directory in which its commands run."""
        return self.directory / "work"

    @property
    def programs(self) -> Path:
        """Return the directory of the programs that stand for real ones."""
        return self.directory / "bin"

    def program(self, name: str) -> Path:
        return (self.programs if name in PROGRAMS else BIN) / name

    def root(self, path: str) -> Path:
        """Return where a file of the machine is in place of its real path."""
        return self.directory / "root" / path.lstrip("/")

    def text(self, text: str) -> str:
        common = {
            "https://images.example:9292": f"http://127.0.0.1:{self.port}",
            "9292": str(self.port),
            **{f"/opt/imgservice/bin/{each}": str(self.program(each)) for each in PROGRAMS},
            "/opt/imgservice/bin": str(BIN),
            "chown imgservice": f"chown {os.geteuid()}",
            "sudo -u imgservice ": "",
            **{path: str(self.root(path)) for path in ("/etc/imgservice", "/var/lib/imgservice")},
        }
        for before, after in {**self.changes, **common}.items():
            text = text.replace(before, after)
        return text

    def __attrs_post_init__(self) -> None:
        for folder in (self.work, self.directory / "home", self.directory / "steps"):
            folder.mkdir(parents=True)
        for path in ("/etc/imgservice", "/var/lib/imgservice"):
            self.root(path).mkdir(parents=True)


def run(scene: Scene, blocks: list[Block]) -> None:
    """Run the blocks; AssertionError names the first that does not do what the page says."""
    script = PRELUDE + scene.text(scene.before) + "".join(_steps(scene, blocks))
    (scene.directory / "script").write_text(script)
    environment = {
        "PATH": f"{scene.programs}:{BIN}:{os.environ['PATH']}:/usr/sbin",
        "HOME": str(scene.directory / "home"),
        "LANG": "C.UTF-8",
        **scene.environment,
    }
    with forking(scene.programs, f"imgservice-pages-{os.getpid()}-{scene.port}"):
        code, said = _run_script(scene, environment)
    assert code == 0, said + _last_output(scene)
    for step in (scene.directory / "steps").glob("*.out"):
        assert "Traceback" not in step.read_text(), step.read_text()


def _run_script(scene: Scene, environment: Mapping[str, str]) -> tuple[int, str]:
    process = subprocess.Popen(
        ["bash", scene.directory / "script"], cwd=scene.work, env=environment, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True,
    )  # fmt: skip
    try:
        said, _ = process.communicate(timeout=TIMEOUT)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGTERM)  # its trap ends the service
            process.wait()
    return process.returncode, said


def _last_output(scene: Scene) -> str:
    steps = sorted((scene.directory / "steps").glob("*.out"), key=lambda path: int(path.stem))
    return "".join(f"\n-- {path.name}\n{path.read_text()[-3000:]}" for path in steps[-2:])


def _steps(scene: Scene, blocks: list[Block]) -> Iterator[str]:
    for number, block in enumerate(blocks):
        if "not-run" in block.words or "output" in block.words:
            continue
        if block.language == "sh":
            yield _commands(scene, block, number)
        elif block.file:
            yield _placed(scene, block, number)


def _placed(scene: Scene, block: Block, number: int) -> str:
    """Return what puts the file of a block where the page has it."""
    assert block.file is not None
    saved = scene.directory / "steps" / f"{number}.file"
    saved.write_text(scene.text(block.text))
    target = shlex.quote(scene.text(block.file))
    return f'mkdir -p "$(dirname {target})" && cp {saved} {target}\n'


def _commands(scene: Scene, block: Block, number: int) -> str:
    output = scene.directory / "steps" / f"{number}.out"
    text = scene.text(block.text)
    text = _replacing_the_shell(text) if "serve" in block.words else text
    group = f"place={block.place}\n{{\n{text}}} > {output} 2>&1 < /dev/null"
    if "serve" in block.words:
        started = f"stop\nset -m\n{group} &\nset +m\nservice=$!\n"
        return f"{started}wait_until_it_serves {scene.port}\n"
    if "exit" in block.words:
        return f"set +e\n{group}\n[ $? = {block.words['exit']} ] || exit 98\nset -e\n"
    return f"{group}\n"


def _replacing_the_shell(text: str) -> str:
    """Let the last command take the place of the shell, so that it gets the signals itself."""
    lines = text.splitlines()
    last = len(lines) - 1
    while last and lines[last - 1].endswith("\\"):
        last -= 1
    if not lines[last].startswith("exec "):
        lines[last] = f"exec {lines[last]}"
    return "\n".join(lines) + "\n"
