"""``--push-to-hub``: what has passed is shown, asked about, and published, at the end of a run."""

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import pytest

from conversion.artifact.hub import Push, name_in, plan_push, push
from conversion.artifact.repository import check_login, check_repositories
from conversion.errors import ConversionError, PublishError
from conversion.families.base import Spec
from conversion.suite.progress import describe_size
from conversion.suite.settings import Request


def refuse_pushes(request: Request, hosts: Sequence[str]) -> None:
    """Refuse what the options alone say could not be published in the end, before anything is made.

    Args:
        hosts: pytest-xdist's specifications of workers.

    Raises:
        PublishError: it could not.
    """
    if request.target is None:
        if request.public or request.is_agreed:
            raise PublishError("--public and --yes belong to --push-to-hub, which is not given.")
        return
    if request.artifacts is None:
        raise PublishError("--push-to-hub publishes what --save-artifacts keeps, which is not given.")
    if request.checkpoint is None and request.weights == "synthetic":
        raise PublishError(
            "--push-to-hub: synthetic weights are not published.", hint="Give --weights pretrained, or --checkpoint."
        )
    namespace, has_name, _ = request.target.partition("/")
    check_target(request.target, "--push-to-hub ")
    if request.checkpoint is not None and not has_name:
        raise PublishError("--push-to-hub: what --checkpoint holds has no name.", hint=f"Give one: {namespace}/NAME.")
    if any("popen" not in host for host in hosts):
        raise PublishError("--push-to-hub: artifacts of other hosts do not lie here.", hint="Publish on one host.")


def check_target(text: str, option: str = "") -> None:
    """Check that it can be a namespace on the Hub, or a repository in one.

    Args:
        option: that it was given by, for the message.

    Raises:
        PublishError: it can be neither.
    """
    if not is_target(text):
        hint = "A name has letters, digits, -, _ and ., 96 characters at most, and does not end in .git."
        raise PublishError(f"{option}{text!r}: cannot be a namespace, or NAMESPACE/NAME, on the Hub.", hint=hint)


def is_target(text: str) -> bool:
    """Whether this can be a namespace on the Hub, or a repository in one."""
    from huggingface_hub import utils  # here, since every run reads this file, and few publish

    rules: Any = utils
    try:
        for part in (*text.split("/"), text):
            rules.validate_repo_id(part)
    except ValueError:
        return False
    return True


def check_publisher(request: Request) -> None:
    """Ask the Hub whether whoever is logged in may write to where artifacts are to go.

    Raises:
        PublishError: they may not, or it cannot be asked.
    """
    if request.target is not None:
        check_login(request.target)


def check_places(request: Request, specs: Mapping[str, Spec]) -> None:
    """Ask the Hub whether the artifacts of variants can go where they are to go.

    Args:
        specs: of the variants that were selected, by name.

    Raises:
        PublishError: one cannot, or the Hub cannot be asked.
    """
    if request.target is not None:
        _check_place_for_each(request.target, specs)
        baked = {name: request.image_size if spec.any_size else None for name, spec in specs.items()}
        places = {name_in(request.target, name, size): name for name, size in baked.items()}
        check_repositories(places, public=request.public)


def _check_place_for_each(target: str, names: Collection[str]) -> None:
    if "/" in target and len(names) > 1:
        hint = "Give the namespace alone, or choose one variant with -k."
        raise PublishError(f"--push-to-hub {target}: one repository for {len(names)} variants.", names, hint)


def publish(request: Request, kept: Sequence[str], write: Callable[[str], None], ask: Callable[[str], str]) -> bool:
    """Publish the artifacts that a run has left. Whether all went well.

    Args:
        write: a line for the user.
        ask: the user; gives the answer.
    """
    try:
        plans = _plan(request, kept)
    except ConversionError as error:
        write(str(error))
        return False
    for plan in plans:
        write(describe(plan))
    if not plans or not (request.is_agreed or ask("Publish? [y/N] ").strip().lower() in ("y", "yes")):
        write("Nothing was published.")
        return False
    is_well = True
    for plan in plans:
        try:
            write(f"{plan.repo_id}: published, {push(plan)}")
        except ConversionError as error:
            write(str(error))
            is_well = False
    return is_well


def _plan(request: Request, kept: Sequence[str]) -> list[Push]:
    assert request.target is not None
    assert request.artifacts is not None
    _check_place_for_each(request.target, kept)
    return [plan_push(request.artifacts / name, request.target, public=request.public) for name in kept]


def describe(plan: Push) -> str:
    """What would be published, in a line."""
    visibility = "public" if plan.public else "private"
    size = describe_size(sum(plan.files.values()))
    return f"{plan.directory.name} to {plan.repo_id}, {visibility}: {', '.join(plan.files)}, {size}"


def ask_in_terminal(config: pytest.Config) -> Callable[[str], str]:
    """Ask whoever sits there; where nobody does, the answer is no, and the way out is said."""

    def ask(question: str) -> str:
        capture = config.pluginmanager.getplugin("capturemanager")
        capture.suspend_global_capture(in_=True)
        try:
            if not sys.stdin.isatty():
                print("Nobody is there to be asked: --yes answers for them.")
                return ""
            print(question, end="", flush=True)
            return sys.stdin.readline()
        finally:
            capture.resume_global_capture()

    return ask
