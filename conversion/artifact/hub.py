"""Publish artifacts on the Hub: what is verified, of real weights; in a commit each, which can be repeated."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conversion.artifact.files import is_ours, list_files
from conversion.artifact.verify import verify_artifact
from conversion.errors import PublishError
from conversion.families.variants import VARIANTS
from conversion.state_dicts.folder import MODEL_CARD, PARITY_CARD

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REAL = ("pretrained", "checkpoint")
"""Weights that somebody has trained."""

OF_THE_HUB = {".gitattributes"}
"""What the Hub itself puts into a new repository."""


@dataclass(frozen=True)
class Push:
    """What is to be published, and where.

    Attributes:
        files: of the artifact, name to size in bytes.
        public: to everybody; else to the namespace's members alone.
        message: of the commit.
    """

    directory: Path
    repo_id: str
    files: Mapping[str, int]
    public: bool
    message: str


def plan_push(directory: str | Path, target: str, *, public: bool = False) -> Push:
    """What publishing an artifact would come to. Nothing is sent.

    Args:
        target: a namespace, where official weights have the official model's name, or the variant's; or, with a slash,
            the repository.

    Raises:
        PublishError: its weights are nobody's, or have no name.
        ArtifactError: it is not verified.
    """
    directory = Path(directory)
    card = verify_artifact(directory)
    if card["source"]["weights"] not in REAL:
        raise PublishError(
            f"{directory}: has {card['source']['weights']} weights, which are not published.",
            hint="Convert a checkpoint that somebody has trained: --weights pretrained, or --checkpoint.",
        )
    if "/" not in target and card["source"]["weights"] != "pretrained":
        # other weights of the same shapes have the same variant, and must not take the official ones' place
        raise PublishError(f"{directory}: its weights have no name.", hint=f"Give one: --push-to-hub {target}/NAME.")
    names = sorted([*list_files(directory), MODEL_CARD, PARITY_CARD])
    absent = [name for name in names if not (directory / name).is_file()]
    if absent:
        raise PublishError(f"{directory}: is not whole.", [f"{name}: not there" for name in absent])
    files = {name: (directory / name).stat().st_size for name in names}
    repo_id = target if "/" in target else f"{target}/{name_on_the_hub(card['variant'])}"
    return Push(directory, repo_id, files, public, summarise(card))


def name_on_the_hub(variant: str) -> str:
    """The name of the official model's repository, where there is one; else the variant's, in the Hub's manner."""
    official = VARIANTS[variant].hub_name if variant in VARIANTS else ""
    return official or variant.replace("_", "-")


def summarise(card: Mapping[str, Any]) -> str:
    """What a card comes to, in a line."""
    cells = ", ".join(
        f"{cell['verdict']} with {cell['attention']} in {cell['dtype']} on {cell['device']}"
        for cell in card["activations"]
    )
    return f"{card['variant']}: {card['tensors']['compared']} tensors bit for bit; {cells}"


def push(plan: Push, api: "HfApi | None" = None) -> str:
    """Publish: afterwards the repository holds exactly the artifact's files. What was sent before is not sent again.

    Args:
        api: to whom; the Hub, with the token that the user is logged in with, unless given.

    Returns:
        the address of the commit.

    Raises:
        PublishError: the repository holds something else, or is public already and was not to be; or the Hub refuses.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi

    api = api or HfApi()
    try:
        api.create_repo(plan.repo_id, private=not plan.public, exist_ok=True)
        found = api.model_info(plan.repo_id)
        there = {sibling.rfilename for sibling in found.siblings or ()} - OF_THE_HUB
        _demand_ours(plan, there, is_public=not found.private)
        operations: list[Any] = [CommitOperationAdd(name, plan.directory / name) for name in plan.files]
        operations += [CommitOperationDelete(name) for name in sorted(there - plan.files.keys())]
        # of another's commit in the meantime this one knows nothing: then it is refused
        commit = api.create_commit(plan.repo_id, operations, commit_message=plan.message, parent_commit=found.sha)
        if plan.public and found.private:
            api.update_repo_settings(plan.repo_id, private=False)
    except PublishError:
        raise
    except Exception as error:  # the client raises what its HTTP library does, another one in every major version
        raise PublishError(
            f"{plan.repo_id}: was not published: {_first_line(error)}",
            hint="Log in with a token that may write there (hf auth login, or HF_TOKEN), and run the same again: "
            "what has arrived is not sent twice.",
        ) from error
    return str(commit.commit_url)


def _demand_ours(plan: Push, there: set[str], *, is_public: bool) -> None:
    foreign = sorted(name for name in there if not is_ours(name))
    if foreign or (there and PARITY_CARD not in there):
        problems = [f"not of an artifact: {name}" for name in foreign] or [f"no {PARITY_CARD} in it"]
        hint = "Choose another name: --push-to-hub NAMESPACE/NAME."
        raise PublishError(f"{plan.repo_id}: holds something else; it is not overwritten.", problems, hint)
    if is_public and not plan.public:
        raise PublishError(f"{plan.repo_id}: is public already.", hint="Say --public, if this is to be public, too.")


def _first_line(error: BaseException) -> str:
    """What an error says, without addresses, and without the identifiers of the lines below."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    first = re.sub(r"\w+://[^\s'\"]+", "(address)", first)  # it may let whoever has it upload
    return f"{type(error).__name__}: {first}" if first else type(error).__name__
