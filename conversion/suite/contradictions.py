"""Options that do not go together, refused before anything is read."""

from collections.abc import Mapping
from pathlib import Path
from shlex import quote

from conversion.errors import CheckpointError
from conversion.exports.asked import check_asked
from conversion.exports.pictures import list_pictures
from conversion.families.base import load_family
from conversion.families.external import AUTO, BUNDLED, HUB
from conversion.families.image_sizes import check_sizes_agree
from conversion.families.settings import INPUT_SIZE, list_settings, option_of
from conversion.families.timm_code import TIMM_CODE
from conversion.families.variants import VARIANTS
from conversion.intake.transformers_folder import find_main_file, is_transformers_folder
from conversion.state_dicts.recognise import select_settings
from conversion.suite.settings import Request


def refuse_contradictions(request: Request) -> None:
    """Refuse options that do not go together.

    Raises:
        CheckpointError: with the first that was found.
        VariantError: the official variant's family does not know a setting, or not this value of it.
    """
    for check in (
        _check_name,
        _check_sizes,
        _check_weights,
        _check_original,
        _check_mirror,
        _check_converted,
        _check_exports,
    ):
        check(request)


def _check_name(request: Request) -> None:
    if request.name is not None and (request.name in ("", ".", "..") or Path(request.name).name != request.name):
        hint = "Give a name without folders."
        raise CheckpointError(f"--name {request.name!r}: not the name of a folder.", hint=hint)
    if request.name is not None and request.output is not None:
        raise CheckpointError("--name and -o both say where the model goes.", hint="Leave one of them out.")


def _check_sizes(request: Request) -> None:
    check_sizes_agree(request.image_size, request.overrides.get(INPUT_SIZE))


def _check_weights(request: Request) -> None:
    """Whose weights: those of a checkpoint of one's own, which has options of its own, or those of ``--weights``."""
    of_checkpoint = {
        "--name": request.name,
        "--variant": request.variant,
        "--linear-head": request.linear_head,
        "--linear-head-entry": request.linear_head_entry,
        "--depth-head": request.depth_head,
        "--entry": request.entry,
        "--like": request.like,
        **{option_of(name): request.overrides.get(name) for name, each in list_settings().items() if each.is_option},
    }
    misplaced = [] if request.checkpoint is not None else _list_given(of_checkpoint)
    if misplaced and request.keyword in VARIANTS:
        family = load_family(VARIANTS[request.keyword].family)
        select_settings(family, request.overrides)  # what no model of this family has is refused for that
        returned = [option_of(each) for each in family.returned]  # an official model can be made to return these, too
        misplaced = [option for option in misplaced if option not in returned]
    if misplaced:
        hint = "Give its file or folder in place of the variant's name (pytest: --checkpoint=PATH)."
        raise CheckpointError(f"{', '.join(misplaced)}: only for a checkpoint of one's own.", hint=hint)
    if request.linear_head_entry is not None and request.linear_head is None:
        raise CheckpointError("--linear-head-entry belongs to --linear-head, which is not given.")
    if request.checkpoint is not None and request.weights != "synthetic":
        raise CheckpointError("--weights and --checkpoint both say what to verify.", hint="Leave one of them out.")


def _check_original(request: Request) -> None:
    is_named = request.original in (AUTO, BUNDLED, HUB, TIMM_CODE)
    if not is_named and not Path(request.original).expanduser().is_dir():
        hint = f"Give a clone of the authors' repository, {HUB}, {TIMM_CODE} or {BUNDLED}."
        raise CheckpointError(f"--original {request.original}: no such folder.", hint=hint)
    if request.original == TIMM_CODE and request.checkpoint is None:
        hint = "The official files are the authors'; give a file or folder that timm wrote."
        raise CheckpointError(f"--original {TIMM_CODE}: only for a checkpoint of one's own.", hint=hint)


def _check_mirror(request: Request) -> None:
    if request.mirror is None:
        return
    if request.checkpoint is not None:
        raise CheckpointError("--mirror: nothing is downloaded for a checkpoint file.", hint="Leave --mirror out.")
    if request.weights != "pretrained":
        raise CheckpointError("--mirror is where --weights pretrained downloads from, which is not given.")
    if not request.mirror.startswith(("http://", "https://")):
        raise CheckpointError(f"--mirror {request.mirror}: not a URL that begins with http:// or https://.")


def _check_converted(request: Request) -> None:
    """Of a model that is converted already, only the proof can be asked for."""
    path = request.checkpoint
    if path is None or not is_transformers_folder(path) or not find_main_file(path):
        return
    of_conversion = {
        "--save-artifacts": request.artifacts,
        "--save-dtype": request.save_dtype,
        "--image-size": request.image_size,
        "--max-shard-size": request.max_shard_size,
        "--linear-head": request.linear_head,
        "--depth-head": request.depth_head,
        "--entry": request.entry,
        "--like": request.like,
        "--export": request.exports or None,
    }
    if given := _list_given(of_conversion):
        raise CheckpointError(
            f"{path}: is converted already and is verified as it is; {', '.join(given)} "
            f"belong{'s' if len(given) == 1 else ''} to a conversion.",
            hint=f"Convert it anew: vision-parity restore {quote(str(path))} FILE. Then give FILE.",
        )


def _check_exports(request: Request) -> None:
    check_asked(
        request.exports,
        bounds=request.bounds,
        opset=request.opset,
        normalizes=request.normalizes,
        pictures=request.pictures,
    )
    if request.pictures:
        list_pictures(request.pictures)


def _list_given(options: Mapping[str, object]) -> list[str]:
    """Of option to value: which were given."""
    return [option for option, value in options.items() if value is not None]
