"""Faults of the way to and from the tensors, put into this project's own code: intake, preprocessing, the artifact.

What notices them is that project's own proof: known answers of the intake, the photo from file to output, the checks
before an artifact is published, its verification card.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import Tensor

import conversion
from conversion.artifact import stage as artifact
from conversion.artifact import weights
from conversion.artifact.stage import save_artifact
from conversion.intake import checkpoint, entries, steps
from conversion.intake.synthetic import draw_state_dict
from conversion.state_dicts.folder import PARITY_CARD
from conversion.suite import subject as subject_module
from tests.mutation.file_setup import FileFault
from tests.support.edits import Fault, set_config
from tests.support.golden import read_golden

CHUNKED = steps.CHUNKED_BLOCK


Stepped = tuple[dict[str, Tensor], str]


def strip_once_too_often(patch: pytest.MonkeyPatch) -> None:
    strip = checkpoint.strip_prefixes

    def strip_more(state_dict: Mapping[str, Tensor], is_dropped: Callable[[str], object]) -> Stepped:
        stripped, did = strip(state_dict, is_dropped)
        return {key.partition(".")[2] or key: tensor for key, tensor in stripped.items()}, did

    patch.setattr(checkpoint, "strip_prefixes", strip_more)


def take_the_student(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(entries, "WORDS", {"student": entries.TEACHER, "teacher": entries.STUDENT})


def reverse_the_chunks(patch: pytest.MonkeyPatch) -> None:
    def unchunk_reversed(state_dict: Mapping[str, Tensor]) -> Stepped:
        found = {(int(match[1]), int(match[2])) for key in state_dict if (match := CHUNKED.match(key))}
        counted = {
            chunked: str(index) for index, chunked in enumerate(sorted(found, key=lambda ids: (-ids[0], ids[1])))
        }
        unchunked = {
            CHUNKED.sub(lambda match: f"blocks.{counted[int(match[1]), int(match[2])]}.", key): tensor
            for key, tensor in state_dict.items()
        }
        return unchunked, "blocks counted"

    patch.setattr(checkpoint, "unchunk_blocks", unchunk_reversed)


def give_one_rank_of_two(_: pytest.MonkeyPatch) -> Callable[[Path], None]:
    def keep_half(path: Path) -> None:
        content = torch.load(path)["teacher"]
        torch.save({"teacher": dict(list(content.items())[: len(content) // 2])}, path)

    return keep_half


def change_conversion(fault: Fault) -> Callable[[pytest.MonkeyPatch], None]:
    """Whatever is converted comes out with a fault."""

    def put_in(patch: pytest.MonkeyPatch) -> None:
        convert = conversion.convert
        patch.setattr(conversion, "convert", lambda *args, **kwargs: fault(convert(*args, **kwargs)))

    return put_in


def change_preprocessor(change: Callable[[Mapping[str, Any]], Mapping[str, Any]]) -> Callable[[Any], None]:
    """The written settings of the image processor are others."""
    return change_conversion(lambda out: replace(out, preprocessor={**out.preprocessor, **change(out.preprocessor)}))


def exchange_mean_and_std(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    return {"image_mean": settings["image_std"], "image_std": settings["image_mean"]}


def change_image(change: Callable[[Image.Image], Image.Image]) -> Callable[[pytest.MonkeyPatch], None]:
    """The image processor is given another picture."""

    def put_in(patch: pytest.MonkeyPatch) -> None:
        load = subject_module.load_image_processor

        def load_with_fault(directory: Path) -> Callable[..., Any]:
            processor = load(directory)
            return lambda image, **kwargs: processor(change(image), **kwargs)

        patch.setattr(subject_module, "load_image_processor", load_with_fault)

    return put_in


def reverse_channels(image: Image.Image) -> Image.Image:
    return Image.merge("RGB", image.split()[::-1])


def crop_before_resize(image: Image.Image) -> Image.Image:
    left, upper = (image.width - 224) // 2, (image.height - 224) // 2
    return image.crop((left, upper, left + 224, upper + 224))


def change_what_is_saved(
    change: Callable[[dict[str, Tensor]], object],
) -> Callable[[pytest.MonkeyPatch], None]:
    """Other tensors are written than were given."""

    def put_in(patch: pytest.MonkeyPatch) -> None:
        save = weights.write_safetensors

        def save_with_fault(tensors: dict[str, Tensor], *args: Any, **kwargs: Any) -> None:
            changed = dict(tensors)
            change(changed)
            save(changed, *args, **kwargs)

        patch.setattr(weights, "write_safetensors", save_with_fault)

    return put_in


def cast_one(dtypes: tuple[torch.dtype, ...]) -> Callable[[dict[str, Tensor]], None]:
    def cast(tensors: dict[str, Tensor]) -> None:
        key = next(key for key in tensors if key.endswith("weight"))
        for dtype in dtypes:
            tensors[key] = tensors[key].to(dtype)

    return cast


def flip_a_byte(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(-100, 2)
        byte = file.read(1)[0]
        file.seek(-100, 2)
        file.write(bytes([byte ^ 1]))


def flip_a_byte_on_writing(patch: pytest.MonkeyPatch) -> None:
    save = weights.write_safetensors

    def save_with_fault(tensors: dict[str, Tensor], path: Path, **kwargs: Any) -> None:
        save(tensors, path, **kwargs)
        flip_a_byte(path)

    patch.setattr(weights, "write_safetensors", save_with_fault)


def flip_a_byte_before_publication(patch: pytest.MonkeyPatch) -> None:
    publish = artifact.StagedArtifact.publish

    def publish_with_fault(self: Any, *args: Any) -> None:
        flip_a_byte(self.directory / weights.UNVERIFIED_WEIGHTS)
        publish(self, *args)

    patch.setattr(artifact.StagedArtifact, "publish", publish_with_fault)


def flip_a_byte_afterwards(_: pytest.MonkeyPatch) -> Callable[[Path], None]:
    return lambda directory: flip_a_byte(directory / weights.WEIGHTS)


def take_the_card_of_another_run(_: pytest.MonkeyPatch) -> Callable[[Path], None]:
    def exchange(directory: Path) -> None:
        other = directory.with_name("other")
        golden = read_golden("dinov2_tiny_1layer")
        drawn = draw_state_dict(golden.family, golden.spec, golden.name, 1)
        save_artifact(conversion.convert(drawn, **golden.overrides), other)
        shutil.copy(other / PARITY_CARD, directory / PARITY_CARD)

    return exchange


def edit_the_card(_: pytest.MonkeyPatch) -> Callable[[Path], None]:
    def edit(directory: Path) -> None:
        card = json.loads((directory / PARITY_CARD).read_text())
        (directory / PARITY_CARD).write_text(json.dumps(card | {"result": {}}))

    return edit


def permute_labels(out: conversion.Conversion) -> conversion.Conversion:
    names = list(out.config.id2label.values())
    return set_config("id2label", dict(enumerate(names[1:] + names[:1])), out)


FILE_FAULTS = (
    FileFault("intake", "prefix stripped once too often", strip_once_too_often),
    FileFault("intake", "student in place of the teacher", take_the_student),
    FileFault("intake", "chunks in the wrong order", reverse_the_chunks),
    FileFault("intake", "one rank file of two", give_one_rank_of_two),
    FileFault("preprocessing", "mean and standard deviation exchanged", change_preprocessor(exchange_mean_and_std)),
    FileFault("preprocessing", "bilinear for bicubic", change_preprocessor(lambda _: {"resample": 2})),
    FileFault("preprocessing", "crop before resize", change_image(crop_before_resize)),
    FileFault("preprocessing", "channels in reverse", change_image(reverse_channels)),
    FileFault("artifact", "labels permuted", change_conversion(permute_labels)),
    FileFault("artifact", "a tensor saved in bfloat16", change_what_is_saved(cast_one((torch.bfloat16,)))),
    FileFault(
        "artifact", "a tensor saved through bfloat16", change_what_is_saved(cast_one((torch.bfloat16, torch.float32)))
    ),
    FileFault("artifact", "a key missing", change_what_is_saved(lambda tensors: tensors.popitem())),
    FileFault("artifact", "a byte flipped on writing", flip_a_byte_on_writing),
    FileFault("artifact", "a byte flipped before publication", flip_a_byte_before_publication),
    FileFault("artifact", "a byte flipped afterwards", flip_a_byte_afterwards),
    FileFault("artifact", "the card of another run", take_the_card_of_another_run),
    FileFault("artifact", "a card that says nothing of the files", edit_the_card),
)


def intact(_: pytest.MonkeyPatch) -> None:
    """No fault."""
