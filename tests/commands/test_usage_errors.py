"""Help, and what is typed wrongly, do not wait for torch: it takes seconds to load."""

import subprocess
import sys
from pathlib import Path

import pytest

# what is typed, and what is answered
ANSWERS = {
    "--help": "prove that the result is the same model",
    "--version": "vision-parity",
    "variants": "facebook/dinov2-small",
    "convert --help": "--num-attention-heads",
    "convert --help-all": "--interpolate-offset",
    "kovert a.pth": "No such command 'kovert'",
    "convert a.pth --nowhere x": "--nowhere",
    "convert absent.pth": "absent.pth: there is no such file.",
    "convert dinov2_vitx14": "Did you mean dinov2_vits14",
    "convert here.pth --linear-head absent.pth": "absent.pth: there is no such file.",
    "convert here.pth --labels absent.txt": "absent.txt",
    "convert here.pth --num-attention-heads six": "'six' is no whole number",
    "convert here.pth --variant dinov2_vitx14": "Did you mean dinov2_vits14",
    "convert here.pth --weights synthetic": "--weights synthetic is for an official variant",
    "convert here.pth --save-dtype float8": "--save-dtype float8: not one of float32",
    "convert here.pth --report page.pdf": "its name must end in .html",
    "compare absent.pth folder": "absent.pth: there is no such file.",
    "inspect absent.pth": "absent.pth: there is no such file.",
    "inspect dinov2_vitx14": "Did you mean dinov2_vits14",
    "verify absent": "absent: there is no such folder.",
    "verify absent gone": "absent, gone: there are no such folders.",
    "restore absent back.pth": "absent: there is no such folder.",
    "publish absent me/model": "absent: there is no such folder.",
    "diff absent gone": "absent, gone: there are no such files or folders.",
    "report here.pth -o page.pdf": "its name must end in .html",
}
ASK = """
import sys
from conversion.cli.app import main
main(sys.argv[1:])
assert not {"torch", "transformers"} & sys.modules.keys(), "torch was loaded"
"""


@pytest.mark.parametrize("typed", ANSWERS)
def test_it_is_said_without_torch(typed: str, tmp_path: Path) -> None:
    (tmp_path / "here.pth").touch()
    done = subprocess.run(
        [sys.executable, "-c", ASK, *typed.split()], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert " ".join(ANSWERS[typed].split()) in " ".join((done.stdout + done.stderr).replace("\u2502", "").split())
