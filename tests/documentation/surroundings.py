"""What single pages take for granted: a clone, servers, files of others, a user's own data."""

import os
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

import pytest
import sqlalchemy as sa

from tests.documentation.blocks import REPOSITORY, blocks
from tests.documentation.forking import BIN
from tests.documentation.running import Scene
from tests.keystone import PASSWORD
from tests.real.service import missing

Surroundings = Callable[[Scene, pytest.FixtureRequest], None]
CONFIG = """\
server: {{listen: ["tcp:{port}:interface=127.0.0.1"], drain_delay: 0}}
database: {{url: "sqlite:///{directory}/imgservice.db"}}
stores: {{local: {{type: file, path: {directory}/images}}}}
"""
SERVE = """\
imgservice run --config {} > /dev/null 2>&1 &
other=$!
trap 'kill $other; ended' EXIT
until serves {}; do kill -0 $other; sleep 0.1; done
"""
"""Runs a service beside the page, which begins when that accepts connections."""
IMAGES = """\
images=http://127.0.0.1:9292/v2/images
for id in 1 2 3; do
    curl -sf -H 'Content-Type: application/json' $images \\
        -d '{"id": "00000000-0000-4000-8000-00000000000'$id'",
             "disk_format": "raw", "container_format": "bare"}'
done
curl -sf -H 'Content-Type: application/octet-stream' -T /bin/sh \\
    $images/00000000-0000-4000-8000-000000000001/file
curl -sf -X DELETE $images/00000000-0000-4000-8000-000000000002
"""


def clone(scene: Scene, _request: pytest.FixtureRequest) -> None:
    """Let the directory be a clone in which `make` finds everything installed."""
    for name in ("Makefile", "pyproject.toml", "constraints.txt", "conf", "compare"):
        (scene.work / name).symlink_to(REPOSITORY / name)
    environment = scene.work / ".venv"
    (environment / "bin").mkdir(parents=True)
    for program in BIN.iterdir():
        (environment / "bin" / program.name).symlink_to(scene.program(program.name))
    for name in ("lib", "pyvenv.cfg"):
        (environment / name).symlink_to(BIN.parent / name)
    for name in (".run", ".test"):
        (environment / name).touch()
    # It listens on 9292, which another program may use.
    _write_config(scene, scene.directory / "port.yaml", scene.work / "var")
    scene.changes["make run\n"] = "make run CONFIG=../port.yaml\n"


def _write_config(scene: Scene, path: Path, data: Path) -> None:
    data.mkdir(parents=True, exist_ok=True)
    path.write_text(CONFIG.format(port=scene.port, directory=data))


def served(scene: Scene, _request: pytest.FixtureRequest) -> None:
    """Run a service whose configuration is imgservice.yaml, in the page's directory."""
    _write_config(scene, scene.work / "imgservice.yaml", scene.work / "var")
    scene.before = SERVE.format("imgservice.yaml", scene.port)


def two_workers(scene: Scene, request: pytest.FixtureRequest) -> None:
    served(scene, request)
    config = scene.work / "imgservice.yaml"
    config.write_text(config.read_text().replace("server: {", "server: {workers: 2, "))
    scene.before += "until imgservice status --config imgservice.yaml; do sleep 0.3; done\n"


def images(scene: Scene, request: pytest.FixtureRequest) -> None:
    """Create a disk to upload."""
    if shutil.which("qemu-img") is None:
        missing("qemu-img is not installed (Debian: qemu-utils)")
    served(scene, request)
    scene.before += "qemu-img create -q -f qcow2 debian.qcow2 100M\n"


def password(scene: Scene, _request: pytest.FixtureRequest) -> None:
    if shutil.which("htpasswd") is None:
        missing("htpasswd is not installed (Debian: apache2-utils)")
    scene.environment["PASSWORD"] = PASSWORD


def policy_folder(scene: Scene, _request: pytest.FixtureRequest) -> None:
    scene.before = "mkdir /etc/imgservice/policy.d\n"


def configured(scene: Scene, _request: pytest.FixtureRequest) -> None:
    """Run a service that has an image with data, one without, and one that was deleted."""
    path = scene.root("/etc/imgservice") / "imgservice.yaml"
    _write_config(scene, path, scene.root("/var/lib/imgservice"))
    scene.before = SERVE.format("/etc/imgservice/imgservice.yaml", scene.port) + IMAGES


def glance(scene: Scene, _request: pytest.FixtureRequest) -> None:
    """Have the files of a Glance."""
    folder = scene.root("/etc/glance")
    folder.mkdir(parents=True)
    scene.changes["/etc/glance"] = str(folder)
    (folder / "glance-api.conf").write_text(
        "[DEFAULT]\nenabled_backends = local:file\nbind_host = 127.0.0.1\n"
        "[glance_store]\ndefault_backend = local\n"
        "[local]\nfilesystem_store_datadir = /var/lib/glance/images\n"
        "[database]\nconnection = mysql+pymysql://glance:secret@db/glance\n"
        "[paste_deploy]\nflavor = keystone\n"
        "[keystone_authtoken]\nauth_url = http://keystone:5000/v3\nusername = glance\n"
        "password = secret\nproject_name = service\nuser_domain_name = Default\n"
        "project_domain_name = Default\n"
    )
    (folder / "glance-image-import.conf").write_text("[image_import_opts]\n")
    paste = "[pipeline:glance-api-keystone]\npipeline = cors authtoken context rootapp\n"
    (folder / "glance-api-paste.ini").write_text(paste)


def one_worker(scene: Scene, _request: pytest.FixtureRequest) -> None:
    """Not as many as there are processors: the tests share their machine."""
    scene.changes["workers: auto"] = "workers: 1"


# -- servers --------------------------------------------------------------------------------------


def certificates(scene: Scene, _request: pytest.FixtureRequest) -> None:
    """Have an authority, and certificates of a server and of a client that it has signed."""
    scene.changes["https://images.example"] = "https://localhost"
    scene.changes['"tcp:9292"'] = '"tcp:9292:interface=127.0.0.1"'
    scene.before = """\
key="-newkey rsa:2048 -nodes -days 2"
openssl req -x509 $key -subj /CN=ca -keyout ca.key -out ca.pem
openssl req -x509 $key -subj /CN=localhost -addext subjectAltName=DNS:localhost -CA ca.pem \
    -CAkey ca.key -addext basicConstraints=CA:false -addext extendedKeyUsage=serverAuth \
    -keyout /etc/imgservice/key.pem -out /etc/imgservice/cert.pem
openssl req -x509 $key -subj /O=Example/CN=alice -CA ca.pem -CAkey ca.key \
    -addext basicConstraints=CA:false -addext extendedKeyUsage=clientAuth \
    -keyout client.key -out client.pem
cp ca.pem /etc/imgservice/client-ca.pem
"""


def database_server(scene: Scene, request: pytest.FixtureRequest) -> None:
    """Have a PostgreSQL in which the page's own statements were executed."""
    server = request.getfixturevalue("postgresql")
    [sql] = [
        one
        for one in blocks("docs/how-to/use-a-database-server.md")
        if one.language == "sql" and "not-run" not in one.words
    ]
    name = f"imgservice_{scene.port}"  # of the user and the database, which tests share
    engine = sa.create_engine(server.admin_url, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        for statement in sql.text.replace("imgservice", name).split(";\n"):
            if statement.strip():
                connection.exec_driver_sql(statement)
    engine.dispose()
    address = server.url.partition("@")[2].partition("/")[0]
    shown = "postgresql://imgservice:made-up@db.example/imgservice"
    scene.changes[shown] = f"postgresql://{name}:made-up@{address}/{name}"


def identity(scene: Scene, request: pytest.FixtureRequest) -> None:
    """Have a Keystone with the user that the page makes, and its administrator's account."""
    keystone = request.getfixturevalue("keystone")
    scene.changes["https://keystone.example:5000/v3"] = keystone.url
    (scene.root("/etc/imgservice") / "keystone-password").write_text(PASSWORD)
    scene.environment |= {
        "OS_AUTH_URL": keystone.url,
        "OS_USERNAME": "admin",
        "OS_PASSWORD": PASSWORD,
        "OS_PROJECT_NAME": "admin",
        "OS_USER_DOMAIN_ID": "default",
        "OS_PROJECT_DOMAIN_ID": "default",
    }


def systemd(scene: Scene, request: pytest.FixtureRequest) -> None:
    """Start what systemd would start when a client connects to the socket of the unit."""
    program = shutil.which("systemd-socket-activate")
    if program is None:
        missing("systemd-socket-activate is not installed (Debian: systemd)")
    clone(scene, request)
    one_worker(scene, request)
    for path in ("/etc/systemd/system", "/run/imgservice"):
        scene.root(path).mkdir(parents=True)
        scene.changes[path] = str(scene.root(path))
    scene.changes["root:imgservice"] = f"{os.geteuid()}:{os.getegid()}"
    scene.changes["domain=INET6"] = "domain=INET"
    unit = (REPOSITORY / "conf" / "systemd" / "imgservice.service").read_text()
    before, start = (_of_unit(unit, name) for name in ("ExecStartPre", "ExecStart"))
    [name] = re.findall(
        "FileDescriptorName=(.*)", (REPOSITORY / "conf/systemd/imgservice.socket").read_text()
    )
    scene.changes["systemctl daemon-reload\n"] = f"{before} > /dev/null\n"
    scene.changes["systemctl enable --now imgservice.socket imgservice.service"] = (
        f"exec {program} -l 127.0.0.1:9292 --fdname={name} {start}"
    )


def _of_unit(unit: str, name: str) -> str:
    command: str
    [command] = re.findall(f"^{name}=(.*)$", unit, re.MULTILINE)
    return command


def container(scene: Scene, _request: pytest.FixtureRequest) -> None:
    """Run what the recipe of the container says that it runs."""
    recipe = (REPOSITORY / "conf" / "container" / "Dockerfile").read_text()
    entry, options = (
        " ".join(re.findall(r'"([^"]*)"', *re.findall(f"^{name} (.*)$", recipe, re.MULTILINE)))
        for name in ("ENTRYPOINT", "CMD")
    )
    run = "docker run --rm -v images:/var/lib/imgservice --entrypoint"
    scene.changes[f"{run} /opt/imgservice/bin/imgservice imgservice"] = (
        "/opt/imgservice/bin/imgservice"
    )
    scene.changes[
        "docker run -d --name images -p 127.0.0.1:9292:9292 -v images:/var/lib/imgservice"
        " --stop-timeout 90 imgservice"
    ] = f"exec {entry} {options}"
    config = (REPOSITORY / "conf" / "container" / "imgservice.yaml").read_text()
    config = config.replace("workers: auto", "workers: 1")
    config = config.replace('"tcp:9292"', '"tcp:9292:interface=127.0.0.1"')
    (scene.root("/etc/imgservice") / "imgservice.yaml").write_text(scene.text(config))


SURROUNDINGS: Mapping[str, Surroundings] = {
    "README.md": clone,
    "docs/tutorial/first-image.md": clone,
    "docs/how-to/basic-auth.md": password,
    "docs/how-to/client-certificates.md": certificates,
    "docs/how-to/come-from-glance.md": glance,
    "docs/how-to/compare-with-glance.md": clone,
    "docs/how-to/look-after-the-database.md": configured,
    "docs/how-to/operate.md": two_workers,
    "docs/how-to/policies.md": policy_folder,
    "docs/how-to/run-in-a-container.md": container,
    "docs/how-to/run-under-systemd.md": systemd,
    "docs/how-to/several-processes.md": one_worker,
    "docs/how-to/use-a-database-server.md": database_server,
    "docs/how-to/use-keystone.md": identity,
    "docs/how-to/verify-an-image.md": images,
}
