"""``vision-parity publish``: the Hub is asked first; then the model is verified, shown, and sent."""

from pathlib import Path

import typer

from conversion.artifact.hub import name_repository, plan_push, push
from conversion.artifact.reading import read_card
from conversion.artifact.repository import check_login, check_repositories, describe_place
from conversion.report.text import fold
from conversion.suite.publishing import check_target, describe


def publish(directory: Path, target: str, *, dry_run: bool, public: bool, is_agreed: bool) -> bool:
    """Publish an artifact. Whether anything was sent.

    Args:
        target: the repository; or, of official weights, a namespace.
        dry_run: show what would be sent, and what lies there as far as that can be seen; nobody need be logged in.
        is_agreed: do not ask.

    Raises:
        ConversionError: it is not verified, or cannot be published there.
    """
    check_target(target)
    card = read_card(directory)
    repo_id, variant = name_repository(directory, card, target), card["variant"]
    if not dry_run:
        check_login(repo_id)
        check_repositories({repo_id: variant}, public=public)
    plan = plan_push(directory, target, public=public)
    said = [describe(plan), *([describe_place(repo_id, public=public, variant=variant)] if dry_run else [])]
    typer.echo("\n".join(line for text in said for line in fold(text)))
    if dry_run or not (is_agreed or typer.confirm("Publish?")):
        typer.echo("Nothing was sent.")
        return False
    typer.echo(f"{plan.repo_id}: published, {push(plan)}")
    return True
