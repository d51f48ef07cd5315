"""Publish artifacts on the Hub: what is verified, of real weights; in a commit each, which can be repeated."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conversion.artifact.card import hash_file, list_cells
from conversion.artifact.files import list_files
from conversion.artifact.repository import check_repository, describe_error, find_repository
from conversion.artifact.verify import verify_artifact
from conversion.errors import PublishError
from conversion.exports.asked import list_exported
from conversion.families.variants import VARIANTS
from conversion.state_dicts.folder import MODEL_CARD, PARITY_CARD

if TYPE_CHECKING:
    from huggingface_hub import HfApi

REAL = ("pretrained", "checkpoint")
"""Weights that somebody has trained."""


@dataclass(frozen=True)
class Push:
    """What is to be published, and where.

    Attributes:
        variant: that the artifact is of.
        files: of the artifact, name to size in bytes.
        hashes: name to SHA-256 of what was verified.
        public: to everybody; else to the namespace's members alone.
        message: of the commit.
    """

    directory: Path
    repo_id: str
    variant: str
    files: Mapping[str, int]
    hashes: Mapping[str, str]
    public: bool
    message: str


def plan_push(directory: str | Path, target: str, *, public: bool = False) -> Push:
    """What publishing an artifact would come to. Nothing is sent.

    Args:
        target: a namespace, where official weights have the official model's name, or the variant's; or, with a slash,
            the repository.

    Raises:
        PublishError: its weights are random or unknown, or the target gives them no name.
        ArtifactError: it is not verified.
    """
    directory = Path(directory)
    card = verify_artifact(directory)
    repo_id = name_repository(directory, card, target)
    names = sorted([*list_files(directory), *list_exported(directory), MODEL_CARD, PARITY_CARD])
    absent = [name for name in names if not (directory / name).is_file()]
    if absent:
        problems = [f"{name}: not there" for name in absent]
        raise PublishError(f"{directory}: is not whole.", problems, "Convert the checkpoint again.")
    files = {name: (directory / name).stat().st_size for name in names}
    proven = dict(card["result"])
    for cell in card.get("exports", ()):
        proven |= cell["exported"]["files"]
    hashes = {name: proven.get(name) or hash_file(directory / name) for name in names}
    return Push(directory, repo_id, card["variant"], files, hashes, public, summarise(card))


def name_repository(directory: Path, card: Mapping[str, Any], target: str) -> str:
    """The repository that an artifact goes to.

    Args:
        card: of the artifact.
        target: see :func:`plan_push`.

    Raises:
        PublishError: its weights are random or unknown, or the target gives them no name.
    """
    if card["source"]["weights"] not in REAL:
        raise PublishError(
            f"{directory}: has {card['source']['weights']} weights, which are not published.",
            hint="Convert a trained checkpoint in its place.",
        )
    if "/" not in target and card["source"]["weights"] != "pretrained":
        # other weights of the same shapes have the same variant, and must not take the official ones' place
        raise PublishError(f"{directory}: its weights have no name.", hint=f"Give them one: {target}/NAME.")
    return name_in(target, card["variant"], card["baked_image_size"])


def name_in(target: str, variant: str, baked: int | None = None) -> str:
    """The repository of a variant: in a namespace by its own name; or the one that is given, with a slash.

    Args:
        baked: the image size that position embeddings are baked for.
    """
    return target if "/" in target else f"{target}/{name_on_the_hub(variant, baked)}"


def name_on_the_hub(variant: str, baked: int | None = None) -> str:
    """The name of the official model's repository, where there is one; else the variant's, in the Hub's manner."""
    official = VARIANTS[variant].hub_name if variant in VARIANTS else ""
    return (official or variant.replace("_", "-")) + (f"-{baked}" if baked else "")


def summarise(card: Mapping[str, Any]) -> str:
    """What a card comes to, in a line."""
    cells = ", ".join(
        f"{cell['verdict']} with {cell['attention']} in {cell['dtype']} on {cell['device']}"
        for cell in list_cells(card)
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
        found = find_repository(plan.repo_id, api)
        if found is None:
            headline = f"{plan.repo_id}: the Hub made it, and does not find it."
            raise PublishError(headline, hint="Run the same again.")
        check_repository(found, public=plan.public, variant=plan.variant)
        additions = [CommitOperationAdd(name, plan.directory / name) for name in plan.files]
        _check_unchanged(plan, {each.path_in_repo: each.upload_info.sha256.hex() for each in additions})
        deletions = [CommitOperationDelete(name) for name in sorted(found.files - plan.files.keys())]
        # of another's commit in the meantime this one knows nothing: then it is refused
        commit = api.create_commit(
            plan.repo_id, [*additions, *deletions], commit_message=plan.message, parent_commit=found.sha
        )
    except PublishError:
        raise
    except Exception as error:  # the client raises what its HTTP library does, another one in every major version
        raise PublishError(
            f"{plan.repo_id}: was not published: {describe_error(error)}",
            hint="Run the same again: what has arrived is not sent twice. If the Hub refused it, log in first with a "
            "token that may write there (hf auth login, or HF_TOKEN).",
        ) from error
    if plan.public and not found.is_public:
        _make_public(plan.repo_id, api)
    return str(commit.commit_url)


def _check_unchanged(plan: Push, hashes: Mapping[str, str]) -> None:
    """Check that what is about to be sent is what was verified: somebody may have been asked in between."""
    changed = [f"{name}: was changed since" for name, sha256 in hashes.items() if sha256 != plan.hashes[name]]
    if changed:
        raise PublishError(f"{plan.directory}: is not what was verified.", changed, "Run the same again.")


def _make_public(repo_id: str, api: "HfApi") -> None:
    try:
        api.update_repo_settings(repo_id, private=False)
    except Exception as error:  # as in push
        raise PublishError(
            f"{repo_id}: its files have arrived, and it is still private: {describe_error(error)}",
            hint="Run the same again, or make it public in its settings on the Hub.",
        ) from error
