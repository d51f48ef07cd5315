"""The project's pytest in a terminal."""

import os
import pty
import select
from pathlib import Path

from tests.support.commands import ROOT, build_environment, list_arguments
from tests.support.forked import start_pytest


def run_in_a_terminal(here: Path, *options: str, plugin: str = "", typed: bytes = b"") -> str:
    """What is shown by a run that ends well; the user has typed ahead."""
    (here / "disturb.py").write_text(plugin)
    ours, theirs = pty.openpty()
    os.write(ours, typed)
    process = start_pytest(list_arguments(options), here, build_environment(here, ROOT), theirs, theirs)
    os.close(theirs)
    shown = b""
    try:
        while process.is_alive() or select.select([ours], [], [], 0)[0]:
            if select.select([ours], [], [], 0.2)[0]:
                shown += os.read(ours, 65536)
    except OSError:  # the other end is closed
        pass
    finally:
        os.close(ours)
    process.join()
    assert process.exitcode == 0, shown.decode()
    return shown.decode()
