"""The page of the command and the README show every command, as its screens still are."""

from pathlib import Path

import pytest

from conversion.cli.app import app
from tests.support.examples import PAGES, ROOT, list_blocks, list_commands

PAGE = ROOT / "docs" / "commands.md"
README = ROOT / "README.md"
COMMANDS = [str(command.name or command.callback.__name__) for command in app.registered_commands if command.callback]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_readme_has_an_example_of_every_command(command: str) -> None:
    assert command in {example.arguments[0] for example in list_commands(README, "vision-parity")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_no_page_has_a_command_that_is_not_there(page: Path) -> None:
    assert {example.arguments[0] for example in list_commands(page, "vision-parity")} <= set(COMMANDS)


def test_the_readme_is_short() -> None:
    assert len(README.read_text(encoding="utf-8").splitlines()) < 150


def test_screens_are_80_columns_wide() -> None:
    screens = [text for text in list_blocks(PAGE, "") if text.startswith("$ vision-parity")]
    (of_convert,) = [screen for screen in screens if screen.startswith("$ vision-parity convert")]
    for title in ("Conversion", "What transformers does otherwise", "Taken for granted", "The same model: my-model"):
        assert title in of_convert.splitlines()
    lines = [line for screen in screens for line in screen.splitlines()]
    assert [line for line in lines if len(line) > 80] == []
