"""The project's pytest in a terminal."""

import os
import pty
import select
from pathlib import Path

from tests.support.commands import start


def run_in_a_terminal(here: Path, *options: str, plugin: str = "", typed: bytes = b"") -> str:
    """What is shown by a run that ends well; the user has typed ahead."""
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    process = start(here, *options, plugin=plugin, stdin=theirs, stdout=theirs, stderr=theirs)
    os.close(theirs)
    shown = b""
    try:
        while process.poll() is None or select.select([ours], [], [], 0)[0]:
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 65536)
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    assert process.wait() == 0, shown.decode()
    return shown.decode()
