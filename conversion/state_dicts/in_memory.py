"""The names that transformers 5 has in memory for a DINOv2, put back into those of its files.

``model.state_dict()`` gives them, and so do accelerate's ``save_state`` and ``save_model``; ``save_pretrained`` writes
the names of files. ``from_pretrained`` of transformers 5 reads both.
"""

from torch import Tensor, cat

from conversion.mapping.key_map import StateDict
from conversion.state_dicts.other_kinds import IN_TRANSFORMERS

# in memory, in files
RENAMED = (
    (".attention.q_proj.", ".attention.attention.query."),
    (".attention.k_proj.", ".attention.attention.key."),
    (".attention.v_proj.", ".attention.attention.value."),
    (".attention.o_proj.", ".attention.output.dense."),
    (".mlp.down_proj.",    ".mlp.weights_out."),
)  # fmt: skip

GATE, UP, GATED = ".mlp.gate_proj.", ".mlp.up_proj.", ".mlp.weights_in."
"""The two halves of a gated feed-forward in memory, and what files have: the one above the other."""


def name_as_in_files(state_dict: StateDict) -> tuple[dict[str, Tensor], str]:
    """Give tensors the names that they have in files, and say so; as they are where none has a name of memory's.

    A half of a gated feed-forward that lacks the other keeps its name, under which nothing is known.
    """
    named: dict[str, Tensor] = {}
    for key, tensor in state_dict.items():
        partner = key.replace(UP, GATE) if UP in key else key.replace(GATE, UP)
        if IN_TRANSFORMERS not in key:
            named[key] = tensor
        elif GATE in key and partner in state_dict:
            named[key.replace(GATE, GATED)] = cat([tensor, state_dict[partner]])  # (H, ...), (H, ...) -> (2H, ...)
        elif UP not in key or partner not in state_dict:
            named[_rename(key)] = tensor
    count = len(state_dict.keys() - named.keys())
    did = f"{count} tensors with the names of transformers 5's memory, given those of its files" if count else ""
    return named, did


def _rename(key: str) -> str:
    for in_memory, in_files in RENAMED:
        key = key.replace(in_memory, in_files)
    return key
