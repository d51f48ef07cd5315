"""Put together what the ranks of a sharded training run hold of one state dict."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from conversion.errors import CheckpointError
from conversion.intake.unpickling import StandInTensor, read_attribute
from conversion.parity.metrics import is_bit_equal

FLAT = "flat_param"
"""In the name of a tensor that holds all of a module's parameters, flattened: its file does not tell their shapes."""

ALL_RANKS = "Give all rank files of the run, as their folder, with the config.yaml of the training run in it."
WHOLE = (
    "Save the whole state dict where the run was made: with FSDP.state_dict_type(model, "
    "StateDictType.FULL_STATE_DICT): state_dict = model.state_dict()."
)


@dataclass(frozen=True)
class Piece:
    """What one rank holds of a tensor.

    Attributes:
        tensor: its values.
        shape: of the whole.
        dim: along which the whole is cut; None if this rank holds all of it.
        place: where this piece comes among the others.
    """

    tensor: Tensor
    shape: tuple[int, ...]
    dim: int | None
    place: int


def merge_ranks(state_dicts: Sequence[dict[str, Tensor]]) -> tuple[dict[str, Tensor], str]:
    """One state dict from those of all ranks, in the order of their ranks.

    A tensor is put together as its file says that it was cut. Plain tensors are taken as they are where one rank has
    them or all ranks have the same; else they are pieces along the first dimension, as FSDP cuts.

    Returns:
        the state dict, and what was done.

    Raises:
        CheckpointError: pieces do not make up a tensor.
    """
    keys = list(dict.fromkeys(key for state_dict in state_dicts for key in state_dict))
    is_cut = any(_differ([state_dict[key] for state_dict in state_dicts if key in state_dict]) for key in keys)
    merged, problems = {}, []
    for key in keys:
        try:
            held = [read_piece(state_dict[key], rank, is_cut=is_cut) for rank, state_dict in enumerate(state_dicts)
                    if key in state_dict]  # fmt: skip
            merged[key] = join_pieces(held, len(state_dicts))
        except CheckpointError as error:
            problems.append(f"{key}: {error.headline}")
    if problems:
        raise CheckpointError("rank files that do not make up one state dict.", problems, hint=WHOLE)
    how = "put together" if is_cut or _are_pieces(state_dicts) else "taken from whichever has them"
    return merged, f"{len(merged)} tensors of {len(state_dicts)} ranks {how}"


def _are_pieces(state_dicts: Sequence[dict[str, Tensor]]) -> bool:
    return any(isinstance(tensor, StandInTensor) for state_dict in state_dicts for tensor in state_dict.values())


def check_whole(state_dict: dict[str, Tensor], hint: str) -> None:
    """Refuse the pieces of one rank.

    Raises:
        CheckpointError: tensors are pieces, flattened, or hold nothing.
    """
    pieces = [f"{key} {tuple(tensor.shape)}" for key, tensor in state_dict.items() if isinstance(tensor, StandInTensor)]
    flat = [key for key in state_dict if FLAT in key]
    if pieces:
        raise CheckpointError("one rank file of a sharded run.", pieces, ALL_RANKS if flat else hint)
    if flat:
        hint = f"{ALL_RANKS} Or save it anew: {WHOLE[0].lower()}{WHOLE[1:]}"
        raise CheckpointError("flattened parameters, whose shapes their file does not tell.", flat, hint)
    empty = [key for key, tensor in state_dict.items() if tensor.numel() == 0]
    if 2 * len(empty) > len(state_dict):  # whole are at most what is computed, and no parameter
        hint = "If DeepSpeed's ZeRO 3 wrote it, run python zero_to_fp32.py . out in the run's folder, and give out."
        count = f"all {len(empty)}" if len(empty) == len(state_dict) else f"{len(empty)} of {len(state_dict)}"
        raise CheckpointError(f"{count} tensors are empty.", empty, hint)


def read_piece(tensor: Tensor, rank: int, *, is_cut: bool) -> Piece:
    """This rank's piece of a tensor; of a plain one by its rank.

    Args:
        is_cut: whether plain tensors of this run are pieces.

    Raises:
        CheckpointError: it is cut in a way that is not known.
    """
    if not isinstance(tensor, StandInTensor):
        return Piece(tensor, tuple(tensor.shape), 0 if is_cut and tensor.ndim else None, rank)
    for read in READERS:
        piece = read(tensor, rank)
        if piece is not None:
            return piece
    raise CheckpointError("a sharded tensor of an unknown kind")


def _read_dtensor(tensor: Tensor, rank: int) -> Piece | None:
    """A piece of FSDP2, or of another run with ``torch.distributed.tensor``."""
    local, spec = read_attribute(tensor, "_local_tensor"), read_attribute(tensor, "_spec")
    if not isinstance(local, Tensor):
        return None
    placements = read_attribute(spec, "placements") or ()
    # of a mesh of one dimension, the file's own number tells as much
    coordinate = read_attribute(read_attribute(spec, "mesh"), "_coordinate_on_dim") or (rank,) * (len(placements) == 1)
    cuts = []
    for place, placement in zip(coordinate, placements, strict=False):
        kind = type(placement).__qualname__.rpartition(".")[2]
        if kind == "Shard":
            cuts.append((int(read_attribute(placement, "dim")), int(place)))
        elif kind != "Replicate":
            raise CheckpointError(f"cut as {kind}, which is not known here")
    if len(cuts) > 1 or not coordinate:
        raise CheckpointError(f"cut along {len(cuts)} dimensions of its mesh")
    dim, place = cuts[0] if cuts else (None, 0)
    return Piece(local, tuple(tensor.shape), dim, place)


def _read_sharded_tensor(tensor: Tensor, _rank: int) -> Piece | None:
    """A piece of FSDP's ``SHARDED_STATE_DICT``."""
    state = getattr(tensor, "state", None)
    shards = state[0] if isinstance(state, tuple) and state and isinstance(state[0], list) else None
    if shards is None:
        return None
    shape = tuple(tensor.shape)
    if not shards and shape:  # there were more ranks than rows
        return Piece(torch.empty((0, *shape[1:]), dtype=tensor.dtype), shape, 0, shape[0])
    if len(shards) != 1:
        raise CheckpointError(f"{len(shards)} pieces on one rank")
    local, metadata = read_attribute(shards[0], "tensor"), read_attribute(shards[0], "metadata")
    sizes, offsets = read_attribute(metadata, "shard_sizes"), read_attribute(metadata, "shard_offsets")
    cut = [dim for dim, size in enumerate(shape) if size != sizes[dim]]
    if len(cut) > 1:
        raise CheckpointError(f"cut along {len(cut)} dimensions")
    dim = cut[0] if cut else 0 if shape else None
    return Piece(local, shape, dim, offsets[dim] if dim is not None else 0)


READERS: tuple[Callable[[Tensor, int], Piece | None], ...] = (_read_dtensor, _read_sharded_tensor)


def _differ(held: Sequence[Tensor]) -> bool:
    """Whether plain tensors of several ranks are not the same."""
    plain = [tensor for tensor in held if not isinstance(tensor, StandInTensor)]
    return any(not is_bit_equal(plain[0], tensor) for tensor in plain[1:])


def join_pieces(held: Sequence[Piece], num_ranks: int) -> Tensor:
    """The whole tensor from the pieces that ranks hold of it.

    Raises:
        CheckpointError: they do not make it up.
    """
    first = held[0]
    if first.dim is None or (len(held) == 1 and tuple(first.tensor.shape) == first.shape):
        if _differ([piece.tensor for piece in held]):
            raise CheckpointError("not the same on every rank")
        return first.tensor
    by_place = {piece.place: piece for piece in held}
    if any(_differ([piece.tensor, by_place[piece.place].tensor]) for piece in held):
        raise CheckpointError("replicas that are not the same")
    is_plain = all(piece.shape == tuple(piece.tensor.shape) for piece in held)
    pieces = [by_place[place].tensor for place in sorted(by_place)]
    if len({piece.dim for piece in held}) > 1 or len({tuple(_without(piece, first.dim)) for piece in pieces}) > 1:
        raise CheckpointError(f"pieces of shapes {', '.join(str(tuple(piece.shape)) for piece in pieces)}")
    dtypes = {str(piece.dtype) for piece in pieces if piece.numel()}
    if len(dtypes) > 1:
        raise CheckpointError(f"pieces of {' and '.join(sorted(dtypes))}")
    whole = torch.cat(pieces, dim=first.dim)
    if is_plain and len(held) < num_ranks:
        raise CheckpointError(f"in {len(held)} of {num_ranks} rank files, in pieces")
    if not is_plain and tuple(whole.shape) != first.shape:
        raise CheckpointError(f"pieces make up {tuple(whole.shape)}, not {first.shape}: a rank file is missing")
    return whole


def _without(tensor: Tensor, dim: int) -> list[int]:
    return [size for index, size in enumerate(tensor.shape) if index != dim]
