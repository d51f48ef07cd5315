"""Every field of config.json and preprocessor_config.json: what the family writes, or the library's default for it."""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import reduce
from pathlib import Path
from typing import TYPE_CHECKING, Any

from conversion.artifact.config_fields import flatten, list_fields, mend
from conversion.artifact.library_fields import (
    ANY_TEXT,
    BACKENDS,
    BESIDE_BACKBONE,
    CALL_FIELDS,
    DTYPES,
    IDLE_IN_PART,
    OLD_CONFIG_FIELDS,
    OLD_PROCESSOR_NAMES,
    OVERRIDING,
    PROCESSOR_CLASSES,
    SWITCHES,
)
from conversion.artifact.load import load_image_processor
from conversion.artifact.rounded import can_hold
from conversion.artifact.weights import AGAIN, is_pickled, list_weights
from conversion.errors import ArtifactError
from conversion.families.base import Family, Spec
from conversion.families.configs import ORIGINAL_LACKS
from conversion.intake.restored import read_weights
from conversion.parity.deviations import Deviation
from conversion.state_dicts.folder import CONFIG, PREPROCESSOR, read_config, read_settings

if TYPE_CHECKING:
    import torch
    from transformers import PretrainedConfig

MAX_SHOWN = 120
"""Characters of a value in a message."""

ABSENT = object()

SAFETENSORS_DTYPES = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""The file format's names of floating-point dtypes, to torch's."""


def find_config_problems(directory: Path, family: Family[Any], spec: Spec, labels: Sequence[str] = ()) -> Iterator[str]:
    """List every field of ``config.json`` that is not what a model of this spec has.

    Args:
        labels: class names in the order of the logits; the config's own unless given.

    Raises:
        CheckpointError: it is no config that the library reads.
    """
    raw, config = flatten(read_settings(directory / CONFIG)), read_config(directory)
    own: dict[Any, str] = config.id2label or {}
    names = tuple(labels) or tuple(own.get(index, "") for index in range(spec.num_classes))
    wanted_config = family.build_config(spec, names)
    found, wanted = list_fields(config), list_fields(wanted_config)
    entries = [entry for entry in family.ledger if _is_in(config, entry, spec)]
    known: dict[str, object] = {**OLD_CONFIG_FIELDS, "num_labels": len(own), ORIGINAL_LACKS: [], **wanted}
    others = {*ANY_TEXT, *DTYPES, "id2label", "label2id"}
    for field in dict.fromkeys([*known.keys() & found.keys(), *wanted, *raw]):
        part, _, name = field.rpartition(".")
        if name in (IDLE_IN_PART if part else others):
            continue
        if field in BESIDE_BACKBONE and "backbone_config.model_type" in wanted:
            continue
        if field not in raw and field not in found:
            continue  # one of ours that the library does not know, in another's conversion: no output depends on it
        if part and name in OLD_CONFIG_FIELDS and field not in wanted:
            known[field] = OLD_CONFIG_FIELDS[name]
        if field not in known:
            yield f"{field}: {_show(raw[field])}; the original's {type(wanted_config).__name__} has no such field"
            continue
        # what the file says, and what the library makes of it: it may overlook one, or derive it from others
        values = [each[field] for each in (raw, found) if each.get(field) is not None] or [None]
        if not all(_is_same(value, known[field]) for value in values):
            problem = _describe_difference(field, values[0], known[field], field in raw)
            explained = [entry for entry in entries if not _is_in(mend(config, wanted_config, field), entry, spec)]
            entries = [entry for entry in entries if entry not in explained]
            yield "; ".join([problem, *map(name_deviation, explained)])
    yield from map(name_deviation, entries)
    yield from _compare_labels(found["id2label"] or {}, wanted["id2label"], spec)
    said = raw.get("label2id")
    yield from _compare_indices(found["label2id"] if said is None else said, found["id2label"] or {})
    yield from _compare_dtypes(directory, raw)


def _is_in(config: "PretrainedConfig", entry: Deviation, spec: Spec) -> bool:
    """Whether a config brings a known deviation about."""
    try:
        return entry.in_config(config, spec)
    except AttributeError:  # its backbone is another kind of model, which is a problem of its own
        return False


def find_processor_problems(
    directory: Path, family: Family[Any], spec: Spec, sizes: Mapping[int, str]
) -> Iterator[str]:
    """List every field of ``preprocessor_config.json`` that is not what images for a model of this spec need.

    Args:
        sizes: sides of the images that it may make, in pixels, each with the reason.

    Raises:
        CheckpointError: it is no JSON object.
        ArtifactError: the library has no image processor that it describes.
    """
    raw = read_settings(directory / PREPROCESSOR)
    if "auto_map" in raw:
        yield f"auto_map: {_show(raw['auto_map'])}; code that comes with a model is not run"
        return
    processor = load_image_processor(directory)
    fields = json.loads(json.dumps(processor.to_dict(), default=str))
    side = _find_side(fields)
    chosen = side if side is not None and side in sizes else next(iter(sizes))
    expected = dict(family.images.build_image_processor(spec, chosen))
    wanted_class = strip_backend(str(expected.pop("image_processor_type")))
    found_class = strip_backend(type(processor).__name__)
    if found_class != wanted_class:
        yield f"image_processor_type: {found_class!r}, expected {wanted_class!r}"
    if "default_to_square" in raw and "size" in expected:  # not every backend has it; it follows from the size
        expected["default_to_square"] = "shortest_edge" not in str(expected["size"])
    for field in dict.fromkeys([*expected, *raw]):
        name = OLD_PROCESSOR_NAMES.get(field, field)
        switch = SWITCHES.get(name, "")
        is_idle = switch in expected and not expected[switch] and not fields.get(switch)
        if field in PROCESSOR_CLASSES or is_idle:
            continue
        found = fields.get(field) if field in ("size", "crop_size") else raw.get(field, fields.get(name))
        default = getattr(type(processor)(), name, ABSENT)
        if name in expected:
            allowed: tuple[object, ...] = (expected[name],)
        else:
            allowed = CALL_FIELDS.get(name, ()) + (() if default is ABSENT or callable(default) else (default,))
        if not allowed:
            yield f"{field}: {_show(found)}; {found_class} has no such field"
        elif not any(_is_same(found, value) for value in allowed):
            sided = f" ({_describe_sizes(sizes)})" if field in ("size", "crop_size") and side not in sizes else ""
            yield _describe_difference(field, found, allowed[0], field in raw) + sided


def find_settings_problems(
    directory: Path, family: Family[Any], spec: Spec, *, labels: Sequence[str] = (), sizes: Mapping[int, str]
) -> Iterator[str]:
    """List what is wrong with the settings of a folder: of the config, of the image processor if it has one, beside.

    Args, Raises: as of :func:`find_config_problems` and :func:`find_processor_problems`.
    """
    yield from (f"{CONFIG}: {problem}" for problem in find_config_problems(directory, family, spec, labels))
    is_known = bool(family.images.build_image_processor(spec, next(iter(sizes))))  # else there is none to compare with
    if (directory / PREPROCESSOR).exists() and is_known:
        found = find_processor_problems(directory, family, spec, sizes)
        yield from (f"{PREPROCESSOR}: {problem}" for problem in found)
    yield from find_overriding_files(directory)


def find_overriding_files(directory: Path) -> Iterator[str]:
    """List files that change what ``from_pretrained`` loads beside the files that are compared."""
    yield from (f"{name}: {reason}" for name, reason in OVERRIDING.items() if (directory / name).exists())


def list_sizes(family: Family[Any], spec: Spec) -> dict[int, str]:
    """The sides of images that a model of this spec is meant for, in pixels, each with the reason."""
    native = {spec.image_size: "the native size"}  # first, and by this reason
    meant = {family.images.choose_input_size(spec): "the size that it is meant for"}
    official = dict.fromkeys(family.images.list_other_sizes(spec), "the size of the official evaluation")
    return native | meant | official | native


def strip_backend(name: str) -> str:
    """The name of an image processor's class whatever its backend."""
    return next((name.removesuffix(backend) for backend in BACKENDS if name.endswith(backend)), name)


def find_dtypes(directory: Path) -> set[str]:
    """The floating-point dtypes in a folder's weights, pickled ones where there are no others; none without weights."""
    from safetensors import SafetensorError, safe_open

    if is_pickled(directory):
        pickled = {str(tensor.dtype).removeprefix("torch.") for tensor in read_weights(directory).values()}
        return pickled & set(SAFETENSORS_DTYPES.values())

    dtypes = set()
    for path in list_weights(directory):
        if not path.exists():
            continue
        try:
            with safe_open(path, framework="pt") as file:
                dtypes |= {file.get_slice(key).get_dtype() for key in file.keys()}  # noqa: SIM118 (not a mapping)
        except (OSError, SafetensorError) as error:
            raise ArtifactError(f"{path}: cannot be read: {error}", hint=AGAIN) from error
    return {SAFETENSORS_DTYPES[name] for name in dtypes if name in SAFETENSORS_DTYPES}


def find_widest(names: Iterable[str]) -> "torch.dtype | None":
    """The dtype that has every value of those of these names; None where there are none."""
    import torch

    dtypes = [getattr(torch, name) for name in sorted(names)]
    return reduce(torch.promote_types, dtypes) if dtypes else None


def _compare_dtypes(directory: Path, raw: Mapping[str, Any]) -> Iterator[str]:
    """Compare the dtype that a model is loaded in with that of its weights, the widest if there are several.

    A wider one rounds nothing.
    """
    import torch

    dtypes = find_dtypes(directory)
    own = find_widest(dtypes)
    if own is None:
        return
    widest = str(own).removeprefix("torch.")
    said = {field: raw[field] for field in DTYPES if raw.get(field) is not None}
    for field, found in said.items():
        loaded = getattr(torch, str(found).removeprefix("torch."), None)
        if not (isinstance(loaded, torch.dtype) and loaded.is_floating_point and can_hold(loaded, own)):
            yield f"{field}: {_show(found)}, expected {widest!r}, the dtype of the weights"
    if not said and len(dtypes) > 1:
        yield f"dtype: absent, expected {widest!r}: the weights are {' and '.join(sorted(dtypes))}"


def _compare_labels(found: Mapping[str, str], wanted: Mapping[str, str], spec: Spec) -> Iterator[str]:
    if not spec.num_classes:
        if found != wanted:
            yield f"id2label: {len(found)} names; the model has no classes"
        return
    yield from (
        f"id2label: class {index} is {found.get(index)!r}, not {wanted.get(index)!r}"
        for index in dict.fromkeys([*wanted, *found])
        if found.get(index) != wanted.get(index)
    )


def _compare_indices(label2id: Any, id2label: Mapping[str, str]) -> Iterator[str]:
    if not isinstance(label2id, Mapping):
        yield f"label2id: {_show(label2id)}, not a name's index for each name"
        return
    # two classes may share a name: then either index will do
    wrong = [
        f"{label!r} is {index}, of which id2label says {id2label.get(str(index))!r}"
        for label, index in label2id.items()
        if id2label.get(str(index)) != label
    ]
    wrong += [f"{label!r} is not there" for label in dict.fromkeys(id2label.values()) if label not in label2id]
    if wrong:
        yield f"label2id: {'; '.join(wrong[:3])}{f'; and {len(wrong) - 3} more' if len(wrong) > 3 else ''}"


def name_deviation(entry: Deviation) -> str:
    """What a problem says of a known deviation."""
    return f"known deviation {entry.name!r}: {entry.cause}"


def _describe_difference(field: str, found: object, wanted: object, is_there: bool) -> str:
    absent = "" if is_there else ", the library's default for what is absent"
    return f"{field}: {_show(found)}{absent}, expected {_show(wanted)}"


def _find_side(fields: Mapping[str, Any]) -> int | None:
    """The side of the square images that an image processor makes, in pixels; None where they are not square."""
    size = fields.get("crop_size" if fields.get("do_center_crop") else "size") or {}
    height, width = size.get("height"), size.get("width")
    return height if isinstance(height, int) and height == width else None


def _is_same(found: Any, wanted: Any) -> bool:
    """Whether two values of JSON are the same; 1 is 1.0, but not true."""
    if isinstance(wanted, Mapping):
        return (
            isinstance(found, Mapping)
            and found.keys() == wanted.keys()
            and all(_is_same(found[key], value) for key, value in wanted.items())
        )
    if isinstance(wanted, list | tuple):
        return isinstance(found, list | tuple) and len(found) == len(wanted) and all(map(_is_same, found, wanted))
    return isinstance(found, bool) == isinstance(wanted, bool) and bool(found == wanted)


def _describe_sizes(sizes: Mapping[int, str]) -> str:
    return ", ".join(f"{size} is {reason}" for size, reason in sizes.items())


def _show(value: object) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN else f"{text[:MAX_SHOWN]}..."
