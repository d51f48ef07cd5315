"""From what is typed to what is asked of the suite. What is typed wrongly is said before torch is loaded."""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from conversion.errors import CheckpointError, VariantError
from conversion.exports.asked import check_asked
from conversion.families.labels import read_labels
from conversion.families.settings import LAST_BLOCK
from conversion.families.variants import VARIANTS, find_variant
from conversion.intake.absence import check_there
from conversion.report.place import check_place
from conversion.suite.settings import DTYPES, Request


def build_request(
    source: str,
    *,
    variant: str | None = None,
    labels: Path | None = None,
    weights: str = "pretrained",
    **options: Any,
) -> Request:
    """What is asked for, as the suite takes it.

    Args:
        source: a path, or the name of an official variant where there is no such file.
        variant: the official one that the file is said to be of.
        options: as :class:`Request` has them.

    Raises:
        CheckpointError: there is no such file, or two options do not go together.
        VariantError: there is no such variant either; the nearest are named.
    """
    if weights not in ("pretrained", "synthetic"):
        raise CheckpointError(f"--weights {weights}: neither pretrained nor synthetic.")
    if options.get("save_dtype") not in (None, *DTYPES):
        raise CheckpointError(f"--save-dtype {options['save_dtype']}: not one of {', '.join(DTYPES)}.")
    of_exports = {name: options.get(name) for name in ("bounds", "opset", "normalizes", "pictures")}
    check_asked(options.get("exports", ()), **of_exports)
    if options.get("report"):
        check_place(options["report"], "--report")
    for path in filter(None, (options.get("linear_head"), options.get("depth_head"))):
        check_there(path)
    known: dict[str, Any] = {
        "labels": read_labels(labels) if labels else None,
        "variant": find_variant(variant).name if variant else None,
        **options,
    }
    path = Path(source).expanduser()
    if source in VARIANTS and not path.exists():
        return Request(keyword=source, weights=weights, **known)
    check_source(path, source)
    if weights != "pretrained":
        rename = f"Rename {path}, which has the name of an official variant."
        headline = f"{source}: --weights {weights} is for an official variant; this is a file or folder."
        raise CheckpointError(headline, hint=rename if source in VARIANTS else f"Leave --weights {weights} out.")
    if path.is_dir():
        _refuse_converted(path)
    return Request(checkpoint=path, **known)


def choose_kind(kind: str | None, settings: Mapping[str, object]) -> dict[str, object]:
    """Settings, with that of ``--as``: a backbone returns features, of the last block unless told otherwise.

    Raises:
        CheckpointError: there is no such kind, or a model is to have what only a backbone has.
    """
    if kind not in (None, "model", "backbone"):
        raise CheckpointError(f"--as {kind}: neither model nor backbone.")
    given = {name: value for name, value in settings.items() if value is not None}
    if kind == "model" and "out_indices" in given:
        hint = "Leave --out-indices out; or --as model, if the head of a segmentation or depth model takes them."
        raise CheckpointError("--as model: --out-indices is of a feature backbone.", hint=hint)
    of_backbone = {"out_indices": (LAST_BLOCK,), "reshape_hidden_states": True} if kind == "backbone" else {}
    return {**of_backbone, **given}


def check_source(path: Path, source: str) -> None:
    """Refuse a path at which there is nothing; a mere word may have been meant as the name of a variant.

    Raises:
        CheckpointError: there is no such file or folder.
        VariantError: nor is there such a variant; the nearest are named.
    """
    if not path.exists() and not any(sign in source for sign in "./*["):
        try:
            find_variant(source)
        except VariantError as error:
            headline = f"{source}: there is no such file or folder, and no such official variant."
            raise VariantError(headline, error.problems, error.hint) from None
    check_there(path)


def _refuse_converted(path: Path) -> None:
    from conversion.intake.transformers_folder import find_main_file, is_transformers_folder
    from conversion.state_dicts.folder import PARITY_CARD

    if is_transformers_folder(path) and find_main_file(path):
        folder = shlex.quote(str(path))
        check = f"verify {folder}" if (path / PARITY_CARD).exists() else f"compare ORIGINAL {folder}"
        hint = f"To check it: vision-parity {check}. To convert it anew: vision-parity restore {folder} FILE."
        raise CheckpointError(f"{path}: is converted already; the original checkpoint is needed.", hint=hint)
