"""What is demanded of an artifact's files: the config describes the original, the tensors give it back."""

from collections.abc import Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from conversion.artifact.weights import read_tensors
from conversion.errors import ArtifactError
from conversion.families.base import list_differences, load_family
from conversion.parity.metrics import is_bit_equal
from conversion.state_dicts.convert import Conversion
from conversion.state_dicts.folder import CONFIG, read_config, read_left_out
from conversion.state_dicts.restore import restore_each


def check_config(conversion: Conversion, directory: Path, labels: Sequence[str]) -> None:
    """Demand that what ``from_pretrained`` will build is what the original is made of, with no known deviation in it.

    Args:
        labels: that its classes must have, in the order of the logits.

    Raises:
        ArtifactError: the config describes another model; with the remedy, where the deviation is known.
    """
    config, family = read_config(directory), load_family(conversion.family)
    problems = list(list_differences(family.read_spec(config, conversion.spec), conversion.spec).values())
    found: dict[Any, str] = config.id2label or {}
    problems += [
        f"id2label: class {index} is {found.get(index)!r}, not {label!r}"
        for index, label in enumerate(labels)
        if found.get(index) != label
    ]
    causes = [entry for entry in family.ledger if entry.in_config(config, conversion.spec)]
    problems += [f"known deviation {entry.name!r}: {entry.cause}" for entry in causes]
    if problems:
        hint = " ".join(f"{entry.remedy[0].upper()}{entry.remedy[1:]}." for entry in causes)
        raise ArtifactError(
            f"{conversion.variant}: {CONFIG} describes another model than the original.", problems, hint
        )


def check_tensors(conversion: Conversion, directory: Path) -> None:
    """Level 2 of the proof: what is in the files, restored, is the source bit for bit.

    Raises:
        ArtifactError: it is not; with every tensor that differs.
    """
    source = {**conversion.source, **conversion.left_out}
    problems, missing = [], dict.fromkeys(source)
    # one at a time: what was split is put together in new memory
    restored = restore_each(read_tensors(directory), read_config(directory))
    for key, tensor in chain(restored, read_left_out(directory).items()):
        missing.pop(key, None)
        if key not in source:
            problems.append(f"{key}: only in the artifact")
        elif not is_bit_equal(source[key].cpu(), tensor):
            problems.append(
                f"{key}: source {tuple(source[key].shape)} {source[key].dtype}, restored {tuple(tensor.shape)} "
                f"{tensor.dtype}, not bit for bit equal"
            )
    problems += [f"{key}: only in the source" for key in missing]
    if problems:
        raise ArtifactError(f"{conversion.variant}: the artifact does not give the source back.", problems)
