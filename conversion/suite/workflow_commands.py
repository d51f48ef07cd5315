"""GitHub's workflow commands: lines in the log of a step, which it shows as annotations.

The format is that of its documentation: "Workflow commands for GitHub Actions".
"""

import os

SUMMARY, ACTIONS = "GITHUB_STEP_SUMMARY", "GITHUB_ACTIONS"
"""Environment variables: the file of the summary, and whether a run is one of GitHub Actions."""

LINES, LENGTH = 16, 2000
"""Lines and characters of a message that an annotation or the summary has; the log has all of it."""


def is_listening() -> bool:
    """Whether GitHub Actions runs this, or a file for a summary is named."""
    return bool(os.environ.get(SUMMARY)) or is_annotated()


def is_annotated() -> bool:
    """Whether what is written becomes annotations."""
    return os.environ.get(ACTIONS) == "true"


def shorten(message: str) -> str:
    """The beginning of a message."""
    lines = message.strip().splitlines()
    text = "\n".join(lines[:LINES])
    cut = text[:LENGTH]
    return cut if (cut, len(lines)) == (text, len(lines[:LINES])) else f"{cut}\n..."


def annotate_error(message: str) -> list[str]:
    """The workflow command for what could not be done at all; none outside GitHub Actions."""
    return [format_command("error", shorten(message), title="vision-parity")] if is_annotated() else []


def format_command(name: str, message: str, **properties: str) -> str:
    """A workflow command: a line that GitHub reads in the log of a step. Empty properties are left out."""
    given = ",".join(f"{key}={escape_property(value)}" for key, value in properties.items() if value)
    return f"::{name} {given}::{escape_data(message)}" if given else f"::{name}::{escape_data(message)}"


def escape_data(text: str) -> str:
    """Escape the message of a workflow command."""
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def escape_property(text: str) -> str:
    """Escape a property of a workflow command, where a colon and a comma have a meaning, too."""
    return escape_data(text).replace(":", "%3A").replace(",", "%2C")
