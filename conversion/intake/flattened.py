"""Put the parameters of FSDP's ``LOCAL_STATE_DICT`` back into their shapes, as DINOv2's training saves on several GPUs.

Each FSDP unit has its parameters one after another in a flat one, of which each rank holds a part. Their order is that
of the module's parameters. Where FSDP keeps the original parameters, its files have their names and counts, too.
"""

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from conversion.errors import CheckpointError
from conversion.families.base import find_dropped
from conversion.intake.layouts import Layout
from conversion.intake.ranks import FLAT, WHOLE, join_pieces, read_piece
from conversion.intake.steps import CHUNKED_BLOCK, take_off_prefixes
from conversion.parity.metrics import is_bit_equal

FLAT_NAME = re.compile(rf"(?<![^.])_?{FLAT}$")
BLOCK = re.compile(r"^blocks\.(\d+)\.")

ALIGNMENTS = (0, 2, 4, 8)
"""Elements that a parameter begins at a multiple of: as many as 16 bytes hold, of the dtype that the unit computes in.

None where FSDP does not keep the original parameters.
"""

Spans = dict[str, tuple[int, int]]


@dataclass(frozen=True)
class Flattened:
    """What the ranks hold together of one model.

    Attributes:
        units: where a flat parameter's module is in the model, ``blocks.0.``, to its values.
        named: parameter to its values, in one dimension, where FSDP keeps the original parameters.
        prefix: of all its keys.
        left: heads of training losses, by the reason why they are dropped.
        num_ranks: that the run had.
    """

    units: Mapping[str, Tensor]
    named: Mapping[str, Tensor]
    prefix: str
    left: Mapping[str, str]
    num_ranks: int


def is_flattened(state_dict: Mapping[str, Tensor]) -> bool:
    """Whether it holds flattened parameters."""
    return any(FLAT_NAME.search(key) for key in state_dict)


def unflatten_ranks(state_dicts: Sequence[Mapping[str, Tensor]], layout: Layout) -> tuple[dict[str, Tensor], str]:
    """One state dict, in the shapes that are told, from the flattened parameters of all ranks.

    Returns:
        the state dict, under the prefix that its keys have, and what was done.

    Raises:
        CheckpointError: counts, names or values in the files are not those of the shapes that are told.
    """
    held = _collect(state_dicts)
    shapes = layout.fit({name: tensor.numel() for name, tensor in held.named.items()})
    spans = _find_spans(held, shapes, layout.by)
    flat = {name: (unit, span) for unit, each in spans.items() for name, span in each.items()}
    values = {name: held.units[flat[name][0]][slice(*flat[name][1])] for name in shapes}
    problems = [
        f"{name}: not what the flat parameter holds in its place"
        for name, tensor in held.named.items()
        if not is_bit_equal(tensor, values[name])
    ]
    if problems:
        raise CheckpointError("parameters in another order than is known of this model.", problems, WHOLE)
    did = f"{len(shapes)} parameters of {len(held.units)} FSDP unit(s) on {held.num_ranks} ranks put back into the "
    did += f"shapes that {layout.by} tells; their counts agree" + (", and their names" if held.named else "")
    did += "".join(f"; left out, {reason}: {name}" for name, reason in held.left.items())
    return {held.prefix + name: values[name].view(shape) for name, shape in shapes.items()}, did


def _collect(state_dicts: Sequence[Mapping[str, Tensor]]) -> Flattened:
    """Put together what the ranks hold of each flat parameter, and of each original one."""
    keys = dict.fromkeys(key for state_dict in state_dicts for key in state_dict)
    names, _ = take_off_prefixes(keys, find_dropped)
    left = {name.partition(".")[0]: reason for name in names.values() if (reason := find_dropped(name))}
    kept = {key: name for key, name in names.items() if not find_dropped(name)}
    key, name = next(((key, name) for key, name in kept.items() if FLAT_NAME.search(name)), ("", ""))
    if not name:
        raise CheckpointError("flattened parameters of training losses alone.", list(keys), WHOLE)
    units, named, problems = {}, {}, []
    for each, short in kept.items():
        parts = [state_dict[each] for state_dict in state_dicts if each in state_dict]
        try:
            if len(parts) < len(state_dicts):
                raise CheckpointError(f"in {len(parts)} of {len(state_dicts)} rank files")
            pieces = [read_piece(part, rank, is_cut=True) for rank, part in enumerate(parts)]
            whole = join_pieces(pieces, len(state_dicts))
            if whole.ndim != 1:
                raise CheckpointError(f"has the shape {tuple(whole.shape)}, in the place of a flattened one")
        except CheckpointError as error:
            problems.append(f"{each}: {error.headline}")
            continue
        if FLAT_NAME.search(short):
            units[FLAT_NAME.sub("", short)] = whole
        else:
            named[CHUNKED_BLOCK.sub(r"blocks.\2.", short)] = whole
    if problems:
        raise CheckpointError("rank files that do not make up one state dict.", problems, WHOLE)
    return Flattened(units, named, key.removesuffix(name), left, len(state_dicts))


def _find_spans(held: Flattened, shapes: Mapping[str, tuple[int, ...]], by: str) -> dict[str, Spans]:
    """Where each parameter lies in its unit: unit to parameter to its first element, and the one after its last.

    Raises:
        CheckpointError: by no alignment that FSDP knows the counts agree, or by several.
    """
    blocks = sorted((unit for unit in held.units if BLOCK.fullmatch(unit)), key=lambda unit: int(unit.split(".")[1]))
    unknown = sorted(held.units.keys() - {"", *blocks})
    if unknown:
        headline = "flattened parameters of modules that are neither the model nor its blocks."
        raise CheckpointError(headline, unknown, WHOLE)
    found: list[dict[str, Spans]] = []
    problems: list[str] = []
    for alignment in ALIGNMENTS:
        assigned = _assign(held, blocks, shapes, alignment)
        spans = {unit: _lay_out(names, shapes, alignment)[0] for unit, names in assigned.items()}
        differing = [
            f"{held.prefix}{unit}_{FLAT}: {held.units[unit].numel():,} elements, {end:,} by these shapes"
            for unit, names in assigned.items()
            if held.units[unit].numel() not in (end := _lay_out(names, shapes, alignment)[1], _pad(end, held.num_ranks))
        ]
        absent = shapes.keys() - {name for each in spans.values() for name in each}
        differing += [f"{name} {shapes[name]}: in none of them" for name in shapes if name in absent]
        problems = problems or differing
        if not differing and spans not in found:
            found.append(spans)
    if not found:
        raise CheckpointError(f"flattened parameters of another model than {by} tells.", problems, WHOLE)
    if len(found) > 1:
        raise CheckpointError("flattened parameters whose counts fit in several ways.", list(held.units), WHOLE)
    return found[0]


def _assign(
    held: Flattened, blocks: Sequence[str], shapes: Mapping[str, tuple[int, ...]], alignment: int
) -> dict[str, list[str]]:
    """Unit to its parameters: of blocks, or chunks of blocks, as many in turn as there is room for; else the root."""
    grouped: dict[str, list[str]] = {}
    for name in shapes:
        found = BLOCK.match(name) if blocks else None
        grouped.setdefault(found[0] if found else "", []).append(name)
    assigned = {unit: grouped[unit] for unit in ("",) if unit in held.units}
    waiting = [names for unit, names in grouped.items() if unit]
    for unit in blocks:
        taken: list[str] = []
        while waiting and _lay_out(taken + waiting[0], shapes, alignment)[1] <= held.units[unit].numel():
            taken += waiting.pop(0)
        assigned[unit] = taken
    return assigned


def _lay_out(names: Sequence[str], shapes: Mapping[str, tuple[int, ...]], alignment: int) -> tuple[Spans, int]:
    """Where parameters lie that follow each other, and where the last one ends."""
    spans, end = {}, 0
    for name in names:
        start = _pad(end, alignment)
        end = start + math.prod(shapes[name])
        spans[name] = (start, end)
    return spans, end


def _pad(count: int, multiple: int) -> int:
    return -(-count // multiple) * multiple if multiple else count
