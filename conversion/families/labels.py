"""Class names: from the package that carries them, or from a file of the user's."""

import json
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path

from conversion.errors import CheckpointError

IMAGENET_CLASSES = 1000


@cache
def imagenet_labels() -> tuple[str, ...]:
    """Read the 1000 ImageNet-1k class names in the order of the logits, from timm, without a network."""
    from timm.data.imagenet_info import ImageNetInfo

    info = ImageNetInfo()
    return tuple(info.index_to_description(index) for index in range(info.num_classes()))


def read_labels(path: Path) -> tuple[str, ...]:
    """Read class names from a file, in the order of the logits.

    Args:
        path: a name a line; or, as ``.json``, a list of names or ``{"0": name, "1": name, ...}``, as on the Hub.

    Raises:
        CheckpointError: it cannot be read as either.
    """
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else text.splitlines()
        if isinstance(content, dict):
            content = [content[str(index)] for index in range(len(content))]
        if not isinstance(content, list):
            raise TypeError(f"a {type(content).__name__}, not a list")
    except FileNotFoundError as error:
        raise CheckpointError(f"{path}: there is no such file.", hint="Check its path.") from error
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise CheckpointError(
            f"{path}: cannot be read as class names ({type(error).__name__}: {error}).",
            hint='Give a name a line; or JSON, a list of names or {"0": name, "1": name, ...}.',
        ) from error
    try:
        return check_labels(content)
    except CheckpointError as error:
        raise CheckpointError(f"{path}: {error.headline}", error.problems) from None


def check_labels(labels: Iterable[str]) -> tuple[str, ...]:
    """Check that every class has a name.

    Raises:
        CheckpointError: there are none, or something else among them.
    """
    if isinstance(labels, str | Mapping):
        raise CheckpointError(f"Class names are a sequence in the order of the logits, not a {type(labels).__name__}.")
    names = tuple(labels)
    problems = [f"{index}: {name!r}" for index, name in enumerate(names) if not isinstance(name, str) or not name]
    if problems or not names:
        raise CheckpointError("Not every class has a name." if names else "There are no class names.", problems)
    return names


def is_imagenet(task: str, num_classes: int) -> bool:
    """Whether a model has as many classes as ImageNet's classifiers, whose names it gets unless others are told."""
    return task == "image-classification" and num_classes == IMAGENET_CLASSES


def choose_labels(task: str, num_classes: int, given: Iterable[str] | None) -> tuple[str, ...]:
    """Choose a name for each class, in the order of the logits: those given, ImageNet's, or the library's ``LABEL_n``.

    Args:
        given: None for ImageNet's of a classifier with its 1000 classes, and for the library's of another.

    Raises:
        CheckpointError: there are more or fewer names than classes, or something else among them.
    """
    if given is not None:
        labels = check_labels(given)
        if len(labels) != num_classes:
            raise CheckpointError(f"{len(labels)} class names were given; the model has {num_classes} classes.")
        return labels
    if is_imagenet(task, num_classes):
        return imagenet_labels()
    return name_classes(num_classes)


def name_classes(num_classes: int) -> tuple[str, ...]:
    """Name classes as the library does whose names nobody tells."""
    return tuple(f"LABEL_{index}" for index in range(num_classes))


def build_labels(labels: tuple[str, ...]) -> dict[str, object]:
    """Build ``id2label`` and ``label2id`` of a transformers config."""
    # two classes may share a name, never an index: the last one wins in label2id, as in the official models
    return {"id2label": dict(enumerate(labels)), "label2id": {label: index for index, label in enumerate(labels)}}
