"""Two hosts for a test: namespaces with a wire between them where these can be made, else this host and its loopback.

Either way the second is behind a real sshd, with keys, a checkout and a working folder of its own.
"""

import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
SEARCHED = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin:/usr/local/sbin"
NEEDED = ("sshd", "ssh", "ssh-keygen", "rsync")
NETWORK = "10.213.77"
REMOVED = ("CI", "PYTHONPATH")
PATIENCE = 10
"""Seconds for sshd to start."""

# the other host may not ask; a dead one is noticed; nothing of the user's own keys and hosts is looked at
SSH_CONFIG = """\
Host other
  HostName {address}
  Port {port}
  User {user}
  IdentityFile {folder}/key
  IdentitiesOnly yes
  UserKnownHostsFile {folder}/known_hosts
  BatchMode yes
  ConnectTimeout 10
  ServerAliveInterval 5
"""
SSHD_CONFIG = """\
ListenAddress {address}
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/key.pub
PasswordAuthentication no
KbdInteractiveAuthentication no
StrictModes no
UsePAM no
PidFile none
"""


@dataclass(frozen=True)
class Hosts:
    """Two hosts: ``here`` and ``there`` are checkouts, ``other`` is the second's name for ssh.

    Attributes:
        prefix: what puts a command on the first host.
    """

    here: Path
    there: Path
    ssh_config: Path
    prefix: tuple[str, ...]

    @property
    def tx(self) -> tuple[str, ...]:
        """The options that divide a run between the two."""
        alone = "env:OMP_NUM_THREADS=1"  # they share the cores of one machine, and neither knows of the other
        other = f"ssh=other//ssh_config={self.ssh_config}//python={sys.executable}//chdir={self.there}"
        return f"--tx=popen//{alone}", f"--tx={other}//{alone}"

    def start(self, *command: str) -> "subprocess.Popen[str]":
        """Start a command on the first host, in its checkout."""
        environment = {key: value for key, value in os.environ.items() if "PYTEST" not in key and key not in REMOVED}
        return subprocess.Popen(
            [*self.prefix, *command], cwd=self.here, env=environment, text=True,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, *command: str) -> tuple[int, str]:
        with self.start(*command) as process:
            output, _ = process.communicate()
        return process.returncode, output

    def pytest(self, *options: str) -> tuple[int, str]:
        return self.run(sys.executable, "-m", "pytest", "-v", "-p", "no:cacheprovider", *self.tx, *options)


def find_missing() -> list[str]:
    """Programs without which there are no two hosts."""
    return [program for program in NEEDED if not shutil.which(program, path=SEARCHED)]


@contextmanager
def start_hosts(folder: Path) -> Iterator[Hosts]:
    """Two hosts, gone afterwards."""
    with ExitStack() as stack:
        here, there = (_check_out(folder / name / "parity") for name in ("here", "there"))
        namespaces = stack.enter_context(_wire())
        address = f"{NETWORK}.2" if namespaces else "127.0.0.1"
        port = _find_port()
        values = {"address": address, "port": port, "folder": folder, "user": getpass.getuser()}
        for name in ("key", "host_key"):
            subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True)
        host_key = (folder / "host_key.pub").read_text(encoding="utf-8")
        (folder / "known_hosts").write_text(f"[{address}]:{port} {host_key}", encoding="utf-8")
        (folder / "ssh_config").write_text(SSH_CONFIG.format(**values), encoding="utf-8")
        (folder / "sshd_config").write_text(SSHD_CONFIG.format(**values), encoding="utf-8")
        first, second = (tuple(_enter(name)) for name in namespaces) if namespaces else ((), ())
        stack.enter_context(_serve(second, folder))
        yield Hosts(here, there, folder / "ssh_config", first)


def _check_out(folder: Path) -> Path:
    folder.mkdir(parents=True)
    for name in ("conftest.py", "pyproject.toml", "README.md"):
        shutil.copy(ROOT / name, folder)
    for name in ("conversion", "fixtures", "tests"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    return folder


def _find_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


def _enter(namespace: str) -> list[str]:
    return ["ip", "netns", "exec", namespace]


@contextmanager
def _wire() -> Iterator[tuple[str, str] | None]:
    """Two network namespaces and a wire between them; nothing where they may not be made."""
    first, second = names = (f"parity{os.getpid()}a", f"parity{os.getpid()}b")
    commands = [
        *(f"ip netns add {name}" for name in names),
        f"ip -n {first} link add wire type veth peer name wire netns {second}",
        f"ip -n {first} addr add {NETWORK}.1/24 dev wire",
        f"ip -n {second} addr add {NETWORK}.2/24 dev wire",
        *(f"ip -n {name} link set {device} up" for name in names for device in ("lo", "wire")),
    ]
    is_made = bool(shutil.which("ip")) and all(
        subprocess.run(command.split(), capture_output=True, check=False).returncode == 0 for command in commands
    )
    try:
        yield names if is_made else None
    finally:
        for name in names if shutil.which("ip") else ():
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)


@contextmanager
def _serve(prefix: tuple[str, ...], folder: Path) -> Iterator[None]:
    """An sshd on the second host, ended with all its connections."""
    sshd = [shutil.which("sshd", path=SEARCHED) or "sshd", "-D", "-e", "-f", str(folder / "sshd_config")]
    log = folder / "sshd.log"
    if os.geteuid() == 0:  # as root it wants an empty folder, which a system that never ran it does not have
        Path("/run/sshd").mkdir(exist_ok=True)
    with log.open("w", encoding="utf-8") as file:
        process = subprocess.Popen([*prefix, *sshd], stderr=file, start_new_session=True)
    try:
        deadline = time.monotonic() + PATIENCE
        while "listening" not in log.read_text(encoding="utf-8"):
            is_alive = process.poll() is None and time.monotonic() < deadline
            assert is_alive, log.read_text(encoding="utf-8")
            time.sleep(0.05)
        yield
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
