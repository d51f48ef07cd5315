"""What the files of a folder are by their names: weights, shards, or what training leaves beside a model."""

import re
import shlex
from collections.abc import Iterable, Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from conversion.errors import CheckpointError

INDEX = ".index.json"

MAIN_FILES = ("model.safetensors", f"model.safetensors{INDEX}", "pytorch_model.bin", f"pytorch_model.bin{INDEX}")
"""What transformers loads a model from, in the order in which it looks for them."""

SUFFIXES = (".pth", ".pt", ".bin", ".safetensors", ".ckpt")
"""What ends the name of a checkpoint that is opened here."""

SUFFIXES_OF_WEIGHTS = frozenset({*SUFFIXES, ".gguf", ".h5", ".msgpack", ".npz", ".onnx", ".pkl"})
"""What ends the name of a file that may hold a model."""

BESIDE = (
    # of an artifact
    "left_out.safetensors",
    "model.unverified.safetensors",
    # of transformers' Trainer, and of accelerate's save_state
    "custom_checkpoint_*.pkl",
    "dl_state_dict*.bin",
    "optimizer.bin", "optimizer_[0-9]*.bin", "optimizer.pt",
    "random_states_*.pkl",
    "rng_state.pth", "rng_state_*.pth",
    "sampler.bin", "sampler_[0-9]*.bin",
    "scaler.pt",
    "scheduler.bin", "scheduler_[0-9]*.bin", "scheduler.pt",
    "training_args.bin",
)  # fmt: skip
"""What may lie beside the weights and holds no model."""

SHARD = re.compile(r"(?P<stem>.+)-(?P<number>\d{5})-of-(?P<count>\d{5})(?P<suffix>\.safetensors|\.bin)")
"""A file of several that hold one model, as ``huggingface_hub`` names them."""


def may_hold_model(path: Path) -> bool:
    """Whether a file may hold a model, by its name."""
    return path.suffix in SUFFIXES_OF_WEIGHTS and not any(fnmatchcase(path.name, pattern) for pattern in BESIDE)


def list_weights(files: Iterable[Path]) -> list[Path]:
    """The files that may hold a model and are opened here; a link to another of them is left out."""
    weights = [path for path in files if path.suffix in SUFFIXES and may_hold_model(path)]
    own = {path.resolve() for path in weights if not path.is_symlink()}
    return [path for path in weights if not path.is_symlink() or path.resolve() not in own]


def describe_choice(taken: Sequence[Path], why: str, files: Iterable[Path]) -> str:
    """In a line, which file of a folder was taken, and which that may hold a model were not; empty if all were.

    Args:
        taken: the main file first.
        why: it was.
    """
    chosen = {path.resolve() for path in taken}
    others = [path.name for path in files if may_hold_model(path) and path.resolve() not in chosen]
    if not others:
        return ""
    return f"{taken[0].name} taken, {why}; not taken, though a model may be in it: {', '.join(others)}"


def refuse_shards(files: Iterable[Path]) -> None:
    """Refuse the shards of a model without the index that says which tensor lies in which of them.

    Raises:
        CheckpointError: there are such shards; with what is to be copied beside them.
    """
    models: dict[tuple[str, ...], set[int]] = {}
    for path in files:
        found = SHARD.fullmatch(path.name)
        if found and int(found["count"]) > 1:
            models.setdefault((found["stem"], found["count"], found["suffix"]), set()).add(int(found["number"]))
    for (stem, count, suffix), numbers in models.items():
        names = [f"{stem}-{number:05}-of-{count}{suffix}" for number in range(1, int(count) + 1)]
        absent = [name for number, name in enumerate(names, 1) if number not in numbers]
        index = f"{stem}{suffix}{INDEX}"
        problems = [f"{name}: not there" if name in absent else name for name in names]
        more = " and the shards that are not there" if absent else ""
        raise CheckpointError(
            f"shards of one model, without their index {index}.",
            problems,
            hint=f"Copy {index}{more} into their folder, too, and give the folder.",
        )


def refuse_shard(path: Path) -> None:
    """Refuse one shard of a model that has several.

    Raises:
        CheckpointError: it is one; with where the index lies, or is to be copied to.
    """
    found = SHARD.fullmatch(path.name)
    if not found or int(found["count"]) == 1:
        return
    index = path.with_name(f"{found['stem']}{found['suffix']}{INDEX}")
    if index.is_file():
        headline = f"one of the {int(found['count'])} shards of a model."
        raise CheckpointError(headline, hint=f"Give their index: {suggest(index)}")
    refuse_shards(
        other
        for other in path.parent.iterdir()
        if (match := SHARD.fullmatch(other.name))
        and (match["stem"], match["count"], match["suffix"]) == found.group("stem", "count", "suffix")
    )


def suggest(path: Path) -> str:
    """A command that works on a file."""
    return f"vision-parity inspect {shlex.quote(str(path))}"
