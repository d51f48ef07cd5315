"""Ask the Hub whether a repository can be published to: who is logged in, and what lies there already."""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from conversion.artifact.files import is_ours
from conversion.errors import PublishError
from conversion.state_dicts.folder import PARITY_CARD

if TYPE_CHECKING:
    from huggingface_hub import HfApi

OF_THE_HUB = {".gitattributes"}
"""What the Hub itself puts into a new repository."""

TIMEOUT = 10.0
"""Seconds to wait for an answer of the Hub."""

LOG_IN = "Log in with a token that may write there: hf auth login, or HF_TOKEN."
OTHER_NAME = "Choose another name, NAMESPACE/NAME."


@dataclass(frozen=True)
class Repository:
    """A model repository on the Hub.

    Attributes:
        files: names, without what the Hub itself puts there.
        sha: of the latest commit.
        variant: that its verification card speaks of; empty where there is no card.
    """

    repo_id: str
    is_public: bool
    files: frozenset[str]
    sha: str | None
    variant: str


def check_login(target: str, api: "HfApi | None" = None) -> None:
    """Check that somebody is logged in who may write to a namespace.

    Args:
        target: a namespace, or a repository in it.
        api: the Hub, with the token that the user is logged in with, unless given.

    Raises:
        PublishError: nobody is, the token may not, or the Hub cannot be asked.
    """
    from huggingface_hub import HfApi, get_token

    api = api or HfApi()
    if (api.token or get_token()) is None:
        raise PublishError(f"{target}: nobody is logged in.", hint=LOG_IN)
    user = _ask(target, lambda: dict(_fetch(f"{api.endpoint}/api/whoami-v2", api).json()))
    if obstacle := find_obstacle(user, target):
        raise PublishError(f"{target}: cannot be published to.", [obstacle], LOG_IN)


def find_obstacle(user: Mapping[str, Any], target: str) -> str | None:
    """Why a user may not write to a namespace, or to a repository in it; None unless that is sure.

    Args:
        user: as the Hub describes who is logged in.
    """
    if user.get("type") != "user":  # what an organisation's or an application's token may do is not said
        return None
    name, namespace = str(user.get("name")), target.partition("/")[0]
    roles = {str(each.get("name")): each.get("roleInOrg") for each in user.get("orgs") or ()}
    role_in = {organisation.lower(): role for organisation, role in roles.items()}  # names differ in more than case
    token = (user.get("auth") or {}).get("accessToken") or {}
    said = f"the token {token.get('displayName')!r} of {name}"
    if namespace.lower() not in (name.lower(), *role_in):
        return f"{name} is logged in, and may write to {', '.join([name, *roles])}; {namespace} is none of these"
    if role_in.get(namespace.lower()) == "read":
        return f"{name} may only read what {namespace} has"
    if token.get("role") == "read":
        return f"{said} may only read"
    if token.get("role") == "fineGrained" and not _is_granted(token.get("fineGrained") or {}, target):
        return f"{said} is fine-grained, and not granted to write there"
    return None


def _is_granted(grants: Mapping[str, Any], target: str) -> bool:
    """Whether a fine-grained token may write to a namespace or a repository, or to one repository of the namespace."""
    target = target.lower()
    namespace = target.partition("/")[0]
    if "scoped" not in grants:
        return True  # as far as is known
    for scope in grants["scoped"]:
        name = str((scope.get("entity") or {}).get("name")).lower()
        is_there = name in (namespace, target) or ("/" not in target and name.startswith(f"{namespace}/"))
        if is_there and "repo.write" in (scope.get("permissions") or ()):
            return True
    return False


def find_repository(repo_id: str, api: "HfApi | None" = None) -> Repository | None:
    """What lies on the Hub under a name; None if nothing does that the user may see.

    Raises:
        PublishError: the Hub cannot be asked, or refuses to say.
    """
    from huggingface_hub import HfApi, hf_hub_url
    from huggingface_hub.errors import RepositoryNotFoundError

    api = api or HfApi()
    try:
        found = _ask(repo_id, lambda: api.model_info(repo_id, timeout=TIMEOUT), RepositoryNotFoundError)
    except RepositoryNotFoundError:
        return None
    files = frozenset(sibling.rfilename for sibling in found.siblings or ()) - OF_THE_HUB
    variant = ""
    if PARITY_CARD in files:
        address = hf_hub_url(repo_id, PARITY_CARD, revision=found.sha, endpoint=api.endpoint)
        variant = _read_variant(_ask(repo_id, lambda: _fetch(address, api)))
    return Repository(repo_id, not found.private, files, found.sha, variant)


def check_repository(found: Repository, *, public: bool, variant: str) -> None:
    """Check that an artifact may take the place of what lies in a repository.

    Args:
        public: the artifact is to be seen by everybody.
        variant: of the artifact; any if empty.

    Raises:
        PublishError: something else lies there, or it is public already and was not to be.
    """
    foreign = sorted(name for name in found.files if not is_ours(name))
    if foreign or (found.files and PARITY_CARD not in found.files):
        problems = [f"not of an artifact: {name}" for name in foreign] or [f"no {PARITY_CARD} in it"]
        raise PublishError(f"{found.repo_id}: holds something else; it is not overwritten.", problems, OTHER_NAME)
    if variant and found.files and found.variant != variant:
        held = found.variant or f"a {PARITY_CARD} that names no variant"
        raise PublishError(f"{found.repo_id}: holds {held}, not {variant}; it is not overwritten.", hint=OTHER_NAME)
    if found.is_public and not public:
        raise PublishError(f"{found.repo_id}: is public already.", hint="Say --public, if this is to be public, too.")


def check_repositories(variants: Mapping[str, str], *, public: bool, api: "HfApi | None" = None) -> None:
    """Check that artifacts can be published to repositories, of which some may not be there yet.

    Args:
        variants: repository to the variant that is to go there; empty where it is not known.

    Raises:
        PublishError: one cannot; with every one that cannot.
    """
    errors: list[PublishError] = []
    for repo_id, variant in variants.items():
        found = find_repository(repo_id, api)  # where the Hub cannot be asked of one, it cannot of the next
        try:
            if found:
                check_repository(found, public=public, variant=variant)
        except PublishError as error:
            errors.append(error)
    if len(errors) == 1:
        raise errors[0]
    if errors:
        problems = [" ".join([error.headline, "; ".join(error.problems)]).strip() for error in errors]
        hints = " ".join(dict.fromkeys(error.hint for error in errors))
        raise PublishError(f"{len(errors)} of {len(variants)} repositories cannot be published to.", problems, hints)


def describe_place(repo_id: str, *, public: bool, variant: str, api: "HfApi | None" = None) -> str:
    """What would become of what lies in a repository, in a line; where the Hub cannot be asked, why.

    Raises:
        PublishError: an artifact cannot be published there.
    """
    try:
        found = find_repository(repo_id, api)
    except PublishError as error:
        return " ".join([error.headline, *error.problems])
    if found is None:
        visibility = "public" if public else "private"
        return f"{repo_id}: is not there, or not to be seen without its owner's login; it would be made, {visibility}."
    check_repository(found, public=public, variant=variant)
    held = f"holds {found.variant}, which would be replaced" if found.files else "is empty"
    becomes = ", and would become public" if public and not found.is_public else ""
    return f"{repo_id}: is {'public' if found.is_public else 'private'}, {held}{becomes}."


def describe_error(error: BaseException) -> str:
    """What an error of the client says, without addresses, and without the identifiers of the lines below."""
    first = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    first = re.sub(r"\w+://[^\s'\"]+", "(address)", first)  # it may let whoever has it upload
    return f"{type(error).__name__}: {first}" if first else type(error).__name__


def _fetch(address: str, api: "HfApi") -> Any:
    from huggingface_hub import utils

    client: Any = utils  # its types are those of another HTTP library in every major version
    response = client.get_session().get(address, headers=client.build_hf_headers(token=api.token), timeout=TIMEOUT)
    client.hf_raise_for_status(response)
    return response


def _ask(about: str, request: Callable[[], Any], *expected: type[Exception]) -> Any:
    """The answer to a request, where there is one.

    Raises:
        PublishError: there is none, or a refusal other than those expected.
    """
    from huggingface_hub.errors import HfHubHTTPError

    try:
        return request()
    except expected:
        raise
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status == 401:
            raise PublishError(f"{about}: the Hub does not accept the token.", hint=LOG_IN) from error
        hint = LOG_IN if status == 403 else "Try again later."
        raise PublishError(f"{about}: the Hub answered {status}.", [describe_error(error)], hint) from error
    except Exception as error:  # the client raises what its HTTP library does, another one in every major version
        hint = "Check the network (and HF_ENDPOINT, HF_HUB_OFFLINE, if set), and run the same again."
        raise PublishError(f"{about}: the Hub cannot be reached.", [describe_error(error)], hint) from error


def _read_variant(answer: Any) -> str:
    try:
        return str(answer.json()["variant"])
    except (ValueError, KeyError, TypeError):
        return ""
