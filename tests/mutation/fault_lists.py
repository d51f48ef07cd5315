"""Which faults there are: of the key map, of each tensor, of the config; each wherever it applies."""

import re
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, combinations
from typing import Any

from torch import Tensor

from conversion.mapping import key_map
from conversion.parity.faults import TENSOR_FAULTS, list_orders
from conversion.parity.metrics import is_bit_equal
from tests.mutation.injection import FaultyModel, Injection

BLOCK = re.compile(r"\.layer\.(\d+)\.")
MOST_BLOCKS = 4
"""Of a depth model that has faults put into each of them; a longer one has them in its first two and its last."""

# kind to what becomes of the config; where it has no such setting, or nothing changes, there is no fault
CONFIG_FAULTS: dict[str, Callable[[Any], Mapping[str, object]]] = {
    "eps 1e-12": lambda _: {"layer_norm_eps": 1e-12},
    "eps 1e-5": lambda _: {"layer_norm_eps": 1e-5},
    "eps 2e-6": lambda _: {"layer_norm_eps": 2e-6},
    "twice the heads": lambda c: {"num_attention_heads": 2 * c.num_attention_heads},
    "half the heads": lambda c: {"num_attention_heads": c.num_attention_heads // 2},
    "tanh GELU": lambda c: {"hidden_act": c.hidden_act if uses_swiglu(c) else "gelu_pytorch_tanh"},
    # where positions are rotary, no output depends on it
    "a larger image": lambda c: {"image_size": c.image_size + (0 if hasattr(c, "rope_theta") else c.patch_size)},
    "half the patch size": lambda c: {"patch_size": c.patch_size // 2},
    "a layer too many": lambda c: {"num_hidden_layers": c.num_hidden_layers + 1},
    "a layer too few": lambda c: {"num_hidden_layers": c.num_hidden_layers - 1},
    "no bias of q, k, v": lambda _: {"qkv_bias": False},
    "the other feed-forward": lambda c: {"use_swiglu_ffn": not c.use_swiglu_ffn},
    "a wider feed-forward": lambda _: {"mlp_ratio": 6},
    "a register too many": lambda c: {"num_register_tokens": c.num_register_tokens + 1},
    "the other pooling": lambda c: {"use_mean_pooling": not c.use_mean_pooling},
    "mask token the other way": lambda c: {"use_mask_token": not c.use_mask_token},
    "shared for per-layer position bias, or the other way": lambda c: {
        "use_shared_relative_position_bias": c.use_relative_position_bias,
        "use_relative_position_bias": c.use_shared_relative_position_bias,
    },
    "position embeddings that are not there": lambda _: {"use_absolute_position_embeddings": True},
    "another base of the rotary periods": lambda c: {"rope_theta": 1.01 * c.rope_theta},
    "the other kind of feed-forward": lambda c: {"use_gated_mlp": not c.use_gated_mlp},
    "another activation of the gate": lambda c: {"hidden_act": "gelu" if c.use_gated_mlp else c.hidden_act},
    "a narrower feed-forward": lambda c: {"intermediate_size": c.intermediate_size // 2},
    "a bias of k": lambda c: {"key_bias": not c.key_bias},
    "no bias of q": lambda _: {"query_bias": False},
    "no bias of the output projection": lambda _: {"proj_bias": False},
    "no layer scale": lambda _: {"layer_scale_init_value": 0.0},
}
SEGMENTATION_FAULTS: dict[str, Callable[[Any], Mapping[str, object]]] = {
    "out_indices one less": lambda c: {"out_indices": [index - 1 for index in c.out_indices]},
    "out_indices as in the original": lambda c: {"out_indices": [index - 2 for index in c.out_indices]},
    "another pooled map": lambda c: {"pool_scales": [*c.pool_scales[:-1], c.pool_scales[-1] + 1]},
    "no auxiliary head": lambda _: {"use_auxiliary_head": False},
}
DEPTH_ANYTHING_FAULTS: dict[str, Callable[[Any], Mapping[str, object]]] = {
    "twice the largest depth": lambda c: {"max_depth": 2 * c.max_depth},
    "the other kind of depth": lambda c: {
        "depth_estimation_type": {"metric": "relative", "relative": "metric"}[c.depth_estimation_type]
    },
    "a head of another patch size": lambda c: {"patch_size": 2 * c.patch_size},
}
DPT_FAULTS: dict[str, Callable[[Any], Mapping[str, object]]] = {
    "no projection in the head": lambda _: {"add_projection": False},
    "biases in the fusion": lambda _: {"use_bias_in_fusion_residual": True},
    "class token left out": lambda _: {"readout_type": "ignore"},
}
BACKBONE_FAULTS: dict[str, Callable[[Any], Mapping[str, object]]] = {
    "out_indices from zero": lambda c: {"out_indices": [index - 1 for index in c.out_indices]},
    "norm of features the other way": lambda c: {"apply_layernorm": not c.apply_layernorm},
    "features of the last blocks": lambda c: {
        "out_indices": list(range(c.num_hidden_layers - 3, c.num_hidden_layers + 1))
    },
}
"""Of a backbone within a depth model, beside :data:`CONFIG_FAULTS`."""
WITHIN_ROUNDING = frozenset({"eps 1e-12", "eps 2e-6"})
"""In float32 these change less than rounding does, unless an input is masked. A depth model takes no masked input."""


def list_injections(faulty_model: FaultyModel) -> Iterator[Injection]:
    """Every fault on every tensor and setting that it applies to."""
    for injection in chain(
        list_map_faults(faulty_model), list_tensor_faults(faulty_model), list_config_faults(faulty_model)
    ):
        if injection.config or not all(_is_same(faulty_model, *change) for change in injection.tensors.items()):
            yield injection


def _is_same(faulty_model: FaultyModel, key: str, tensor: Tensor | None) -> bool:
    own = faulty_model.out.state_dict.get(key)
    return own is not None and tensor is not None and is_bit_equal(own, tensor)


def list_map_faults(faulty_model: FaultyModel) -> Iterator[Injection]:
    """Wrong tables: targets exchanged, sent to the neighbouring block, dropped."""
    placed = {name for names in faulty_model.table.values() for name in names}  # what is filled in is not among them
    tensors = {key: tensor for key, tensor in choose_tensors(faulty_model).items() if key in placed}
    for left, right in combinations(tensors, 2):
        if (tensors[left].shape, tensors[left].dtype) == (tensors[right].shape, tensors[right].dtype):
            kind = describe_pair(left, right)
            yield rename_targets(faulty_model, kind, f"{left} and {right}", {left: right, right: left})
    for names in faulty_model.table.values():
        biases = [name.replace(".weight", ".bias") for name in names]
        fused = [own for own in (names, biases) if len(own) > 1 and all(name in tensors for name in own)]
        for order in list_orders(len(names)) if fused and names[0].endswith(".weight") else []:
            renamed = {own[index]: own[source] for own in fused for index, source in enumerate(order)}
            yield rename_targets(faulty_model, "q, k, v in another order", f"{names[0]} {order}", renamed)
    for name in tensors:
        yield Injection("target dropped", name, {name: None})
        if neighbour := name_in_next_block(name):
            yield rename_targets(faulty_model, "target sent to the next block", name, {name: neighbour})


def choose_tensors(faulty_model: FaultyModel) -> dict[str, Tensor]:
    """The tensors that faults are put into; of a long depth model, which takes minutes, those of three blocks."""
    tensors = dict(faulty_model.out.state_dict)
    blocks = {key: int(found[1]) for key in tensors if (found := BLOCK.search(key))}
    last = max(blocks.values(), default=0)
    is_long = faulty_model.spec.task == "depth-estimation" and last >= MOST_BLOCKS
    chosen = {0, 1, last} if is_long else set(range(last + 1))
    return {key: tensor for key, tensor in tensors.items() if blocks.get(key, 0) in chosen}


def rename_targets(faulty_model: FaultyModel, kind: str, where: str, renamed: Mapping[str, str]) -> Injection:
    """The fault that is a key map with other names for some targets."""
    table = {source: tuple(renamed.get(name, name) for name in names) for source, names in faulty_model.table.items()}
    converted = key_map.convert(faulty_model.out.source, table)
    changed: dict[str, Tensor | None] = {name: None for name in renamed if name not in converted}
    return Injection(kind, where, changed | {name: converted[name] for name in set(renamed.values())}, table)


def describe_pair(left: str, right: str) -> str:
    """The kind of fault that exchanging these two targets is."""
    blocks = [found[1] if (found := BLOCK.search(name)) else None for name in (left, right)]
    if None in blocks:
        return "targets exchanged, outside of blocks"
    if blocks[0] == blocks[1]:
        return "targets exchanged, within a block"
    return "targets exchanged, between blocks"


def name_in_next_block(key: str) -> str:
    """The same tensor's key in the next block; empty outside of blocks."""
    found = BLOCK.search(key)
    return f"{key[: found.start(1)]}{int(found[1]) + 1}{key[found.end(1) :]}" if found else ""


def list_tensor_faults(faulty_model: FaultyModel) -> Iterator[Injection]:
    """What can become of each tensor by itself."""
    tensors = faulty_model.out.state_dict
    for key, tensor in choose_tensors(faulty_model).items():
        for kind, fault in TENSOR_FAULTS.items():
            if (changed := fault(tensor)) is not None:
                yield Injection(kind, key, {key: changed})
        if name_in_next_block(key):
            neighbour = name_in_next_block(key)
            neighbour = neighbour if neighbour in tensors else BLOCK.sub(".layer.0.", key)
            yield Injection("tensor of another block", key, {key: tensors[neighbour]})


def list_config_faults(faulty_model: FaultyModel) -> Iterator[Injection]:
    """Wrong settings, whatever notices them: loading, or activations."""
    config, task = faulty_model.out.config, faulty_model.spec.task
    if task == "depth-estimation":
        yield from change_config(config, "", DPT_FAULTS if config.model_type == "dpt" else DEPTH_ANYTHING_FAULTS)
        left_out = WITHIN_ROUNDING if faulty_model.dtype == "float32" else ()
        faults = {kind: change for kind, change in (CONFIG_FAULTS | BACKBONE_FAULTS).items() if kind not in left_out}
        yield from change_config(config.backbone_config, "backbone_config.", faults)
    else:
        is_segmentation = task == "semantic-segmentation"
        yield from change_config(config, "", CONFIG_FAULTS | (SEGMENTATION_FAULTS if is_segmentation else {}))


def change_config(
    config: Any, part: str, faults: Mapping[str, Callable[[Any], Mapping[str, object]]]
) -> Iterator[Injection]:
    """The faults that change something of a config, or of a part of one."""
    for kind, change in faults.items():
        try:
            changed = {name: value for name, value in change(config).items() if getattr(config, name) != value}
        except AttributeError:
            continue
        if changed:
            named = {f"{part}{name}": value for name, value in changed.items()}
            yield Injection(f"config: {kind}", str(named), config=named)


def uses_swiglu(config: Any) -> bool:
    """Whether its feed-forward is SwiGLU, which has an activation of its own."""
    return bool(getattr(config, "use_swiglu_ffn", False))
