"""Workers of pytest-xdist that are forked off this process, which has imported the libraries."""

import os
import signal
import sys
from typing import IO, Any

from execnet import gateway_io


class ForkedWorker:
    """A process that waits for what execnet has it run, as one does that execnet starts; to execnet a ``Popen``.

    Args:
        others: forked before, whose pipes this one must not keep open.
    """

    stdin: IO[bytes]
    stdout: IO[bytes]

    def __init__(self, others: list["ForkedWorker"]) -> None:
        (its_input, to_it), (from_it, its_output) = os.pipe(), os.pipe()
        self.pid = os.fork()
        if not self.pid:
            for other in others:
                other.stdin.close()
                other.stdout.close()
            for mine in (to_it, from_it):
                os.close(mine)
            for stream, source in enumerate((its_input, its_output)):
                os.dup2(source, stream)
                os.close(source)
            serve()
        for its in (its_input, its_output):
            os.close(its)
        self.stdin, self.stdout = os.fdopen(to_it, "wb"), os.fdopen(from_it, "rb")

    def wait(self) -> int:
        return os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)


def serve() -> None:
    """Run what execnet's own processes run: the line that comes first, if any comes."""
    sys.argv = ["-c"]
    sys.stdin = os.fdopen(0, closefd=False)
    if line := sys.stdin.readline():
        exec(eval(line), {"__name__": "__main__"})
    sys.exit()


def fork_workers(count: int) -> None:
    """Fork so many workers now, before this process has threads; execnet takes these, and then starts others itself."""
    spare: list[ForkedWorker] = []
    for _ in range(count):
        spare.append(ForkedWorker(spare))

    class Master(gateway_io.Popen2IOMaster):
        def __init__(self, args: list[str], execmodel: Any) -> None:
            if spare:
                self.popen: Any = spare.pop(0)
                gateway_io.Popen2IO.__init__(self, self.popen.stdin, self.popen.stdout, execmodel=execmodel)
            else:
                super().__init__(args, execmodel)

    gateway_io.Popen2IOMaster = Master
