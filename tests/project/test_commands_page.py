"""The page of the command shows every command, as its screens still are."""

import re
from pathlib import Path

import pytest

from conversion.cli.app import app

PAGE = Path(__file__).parents[2] / "docs" / "commands.md"
README = Path(__file__).parents[2] / "README.md"
COMMANDS = [str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_has_an_example_of_every_command(command: str) -> None:
    assert f"\nvision-parity {command}" in README.read_text(encoding="utf-8")


def test_no_page_has_a_command_that_is_not_there() -> None:
    text = PAGE.read_text(encoding="utf-8") + README.read_text(encoding="utf-8")
    assert set(re.findall(r"^(?:\$ )?vision-parity (\w+)", text, re.MULTILINE)) <= set(COMMANDS)


def test_screens_are_80_columns_wide() -> None:
    screens = re.findall(r"^```\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE)
    of_convert = next(screen for screen in screens if "vision-parity convert" in screen)
    lines = of_convert.partition("\n  from transformers")[0].splitlines()
    assert max(map(len, lines)) <= 80
    for title in ("Conversion", "What transformers does otherwise", "Taken for granted", "The same model: my-model"):
        assert title in lines
