"""``--push-to-hub``: what has passed is shown, asked about, and published, at the end of a run."""

import sys
from collections.abc import Callable, Sequence

import pytest

from conversion.artifact.hub import Push, plan_push, push
from conversion.errors import ConversionError, PublishError
from conversion.suite.progress import describe_size
from conversion.suite.settings import Request


def refuse_pushes(request: Request, hosts: Sequence[str]) -> None:
    """Refuse what could not be published in the end, before anything is made.

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
    namespace, has_name, name = request.target.partition("/")
    if not namespace or (has_name and not name):
        raise PublishError(f"--push-to-hub {request.target!r}: is neither a namespace nor NAMESPACE/NAME.")
    if request.checkpoint is not None and not has_name:
        raise PublishError("--push-to-hub: what --checkpoint holds has no name.", hint=f"Give one: {namespace}/NAME.")
    if any("popen" not in host for host in hosts):
        raise PublishError("--push-to-hub: artifacts of other hosts do not lie here.", hint="Publish on one host.")
    from huggingface_hub import get_token  # here, since every run reads this file, and few publish

    if get_token() is None:
        raise PublishError("--push-to-hub: nobody is logged in.", hint="hf auth login, or HF_TOKEN.")


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
    if "/" in request.target and len(kept) > 1:
        hint = "Give the namespace alone, or choose one variant with -k."
        raise PublishError(f"--push-to-hub {request.target}: one repository for {len(kept)} variants.", kept, hint)
    return [plan_push(request.artifacts / variant, request.target, public=request.public) for variant in kept]


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
