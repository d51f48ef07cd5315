"""What ``compare`` compares with: a folder on this disk, or a repository on the Hub, through the cache."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from conversion.artifact.library_fields import OVERRIDING
from conversion.artifact.repository import TIMEOUT, describe_error
from conversion.artifact.weights import INDEX, SHARDS, WEIGHTS, find_main_file, is_published
from conversion.errors import CheckpointError, concerning
from conversion.intake.transformers_folder import check_transformers_folder, is_transformers_folder
from conversion.state_dicts.folder import CONFIG, PREPROCESSOR
from conversion.suite.publishing import is_target

SETTINGS = (CONFIG, PREPROCESSOR, *OVERRIDING)
"""Files that say what ``from_pretrained`` makes of the weights."""

# in the order in which from_pretrained looks for the first of each
KINDS_OF_WEIGHTS = (
    (WEIGHTS,),
    (INDEX, SHARDS),
    ("pytorch_model.bin",),
    ("pytorch_model.bin.index.json", "pytorch_model-?????-of-?????.bin"),
)

LOG_IN = "Log in with a token that may read it: hf auth login, or HF_TOKEN."

COMMIT_DIGITS = 12
"""Digits of a commit that are shown."""


@dataclass(frozen=True)
class Target:
    """A folder that ``from_pretrained`` reads.

    Attributes:
        origin: of a copy from the Hub: which commit it is, and whether the Hub was asked; else empty.
    """

    folder: Path
    origin: str = ""


def find_target(name: str, revision: str | None = None) -> Target:
    """The folder of this name; or, if there is none, a copy of a repository's files.

    Args:
        revision: of a repository: a branch, a tag or a commit; its main branch unless given.

    Raises:
        CheckpointError: there is neither, it holds no model of a known family, or the Hub does not give it.
    """
    folder = Path(name).expanduser()
    if folder.exists() and revision is not None:
        headline = f"--revision {revision} is of a repository on the Hub; {name} lies here."
        raise CheckpointError(headline, hint="Leave --revision out.")
    if not folder.exists() and name.count("/") == 1 and is_target(name):
        target = fetch_repository(name, revision or "main")
    elif folder.is_dir():
        target = Target(folder)
    elif folder.exists():
        of_model = is_transformers_folder(folder.parent)
        hint = (
            f"Give the folder that it lies in: {folder.parent}" if of_model else "Give a folder that convert has made."
        )
        raise CheckpointError(f"{name}: is a file, and no folder of a converted model.", hint=hint)
    else:
        raise CheckpointError(f"{name}: there is no such folder.", hint="Check its path.")
    with concerning(name):
        check_transformers_folder(target.folder)
    if not is_published(target.folder):
        hint = "Convert the original checkpoint again."
        problems = [f"{find_main_file(target.folder).name}: from_pretrained does not read it"]
        raise CheckpointError(f"{name}: a conversion was killed here before it was verified.", problems, hint)
    if not any((target.folder / kind[0]).exists() for kind in KINDS_OF_WEIGHTS):
        headline = f"{name}: holds a {CONFIG}, and no weights that transformers reads."
        raise CheckpointError(headline, hint=f"Copy {WEIGHTS} into it; of a repository, name a --revision that has it.")
    return target


def fetch_repository(repo_id: str, revision: str) -> Target:
    """Copy what is compared of a repository into the cache of ``huggingface_hub``; what is there stays.

    Where the Hub does not answer, the copy in the cache is taken.

    Raises:
        CheckpointError: the Hub has no such repository, or does not give it; or it does not answer, and there is no
            copy.
    """
    from huggingface_hub import HfApi, snapshot_download

    try:
        found = HfApi().model_info(repo_id, revision=revision, timeout=TIMEOUT)
        names = choose_files(sibling.rfilename for sibling in found.siblings or ())
        folder = Path(snapshot_download(repo_id, revision=revision, allow_patterns=names))
    except Exception as error:  # the client raises what its HTTP library does, another one in every major version
        if isinstance(error, OSError) and error.errno is not None:  # of this disk
            raise
        if refusal := explain_refusal(repo_id, revision, error):
            raise refusal from error
        copy = find_copy(repo_id, revision)
        if copy is None:
            hint = "Check the path, or the network. In huggingface_hub's cache there is no copy either."
            problems = [describe_error(error)]
            headline = f"{repo_id}: there is no such folder here, and it cannot be fetched from the Hub."
            raise CheckpointError(headline, problems, hint) from error
        return Target(copy, f"commit {copy.name[:COMMIT_DIGITS]}, the cache's copy: the Hub does not answer")
    return Target(folder, f"commit {folder.name[:COMMIT_DIGITS]}")


def choose_files(names: Iterable[str]) -> list[str]:
    """Patterns of what is needed of a repository: settings, and of the weights the kind that is loaded."""
    there = set(names)
    return [*SETTINGS, *next((kind for kind in KINDS_OF_WEIGHTS if kind[0] in there), ())]


def find_copy(repo_id: str, revision: str) -> Path | None:
    """The copy of a repository in the cache, if there is one with weights."""
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import LocalEntryNotFoundError

    for kind in KINDS_OF_WEIGHTS:
        patterns = [*SETTINGS, *kind]
        try:
            folder = snapshot_download(repo_id, revision=revision, allow_patterns=patterns, local_files_only=True)
        except (LocalEntryNotFoundError, OSError):  # none, or not all of its files
            continue
        if (Path(folder) / kind[0]).exists():
            return Path(folder)
    return None


def explain_refusal(repo_id: str, revision: str, error: Exception) -> CheckpointError | None:
    """Why the Hub does not give a repository; None where it did not answer."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):  # which is a RepositoryNotFoundError, too
        hint = f"Ask for access on its page on the Hub. {LOG_IN}"
        return CheckpointError(f"{repo_id}: is gated, and does not give its files to whoever asks here.", hint=hint)
    if isinstance(error, errors.RevisionNotFoundError):
        return CheckpointError(f"{repo_id}: has no revision {revision!r}.", hint="Give a branch, a tag or a commit.")
    if isinstance(error, errors.RepositoryNotFoundError):
        headline = f"{repo_id}: there is no such folder here, and no such repository on the Hub."
        return CheckpointError(headline, hint=f"Check its name. If it is private: {LOG_IN[0].lower()}{LOG_IN[1:]}")
    if isinstance(error, errors.HfHubHTTPError) and error.response.status_code < 500:
        status = error.response.status_code
        said = "does not accept the token" if status == 401 else f"answered {status}"
        return CheckpointError(f"{repo_id}: the Hub {said}.", [describe_error(error)], LOG_IN)
    return None
