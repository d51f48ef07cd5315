"""Keys and shapes of an official file, recorded in ``fixtures/golden/original_keys.json``.

``python -m tests.support.official_keys VARIANT FILE`` records those of a checkpoint. Every map must cover them.
"""

import json
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from conversion import load_checkpoint
from conversion.families.base import load_family
from conversion.families.variants import find_variant
from tests.support.golden import DIRECTORY

RECORDED = DIRECTORY / "original_keys.json"
BLOCK = re.compile(r"(?<=\bblocks\.)\d+(?=\.)")


def describe_keys(state_dict: Mapping[str, Tensor], depth: int) -> dict[str, Any]:
    """Key to shape, keys of all blocks as one, with ``{}`` for the block's number.

    Raises:
        ValueError: what some blocks have, others lack, or have of another shape.
    """
    shapes: dict[str, list[int]] = {}
    for key, tensor in state_dict.items():
        if shapes.setdefault(BLOCK.sub("{}", key), list(tensor.shape)) != list(tensor.shape):
            raise ValueError(f"{key}: {list(tensor.shape)}, of another shape than in other blocks")
    absent = [key for name in shapes for i in range(depth) if (key := name.replace("{}", str(i))) not in state_dict]
    if absent:
        raise ValueError(f"not in every block: {', '.join(absent)}")
    return {"depth": depth, "keys": dict(sorted(shapes.items()))}


def main(name: str, file: str) -> None:
    """Record the keys of a variant's file."""
    variant = find_variant(name)
    spec = load_family(variant.family).spec_of(variant)
    recorded = json.loads(RECORDED.read_text(encoding="utf-8"))
    recorded[name] = describe_keys(load_checkpoint(Path(file), entry=variant.entry), spec.depth)
    RECORDED.write_text(render(recorded), encoding="utf-8")


def render(recorded: Mapping[str, Any]) -> str:
    """A line a key."""
    entries = []
    for name, entry in sorted(recorded.items()):
        lines = ",\n".join(f"  {json.dumps(key)}: {json.dumps(shape)}" for key, shape in entry["keys"].items())
        entries.append(f' {json.dumps(name)}: {{"depth": {json.dumps(entry["depth"])}, "keys": {{\n{lines}}}}}')
    return "{\n" + ",\n".join(entries) + "\n}\n"


if __name__ == "__main__":
    main(*sys.argv[1:])
