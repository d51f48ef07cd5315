"""Faults put into an exported graph, one at a time, wherever they apply: each a function of the graph.

They are what exporters, optimizers of graphs and quantizers have been seen to do.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from conversion.exports.tracing import EXAMPLE
from tests.mutation.graph_places import (
    FLOAT,
    FLOAT16,
    Graph,
    describe,
    find_node,
    find_tensor,
    list_averaged,
    list_biases,
    list_concats,
    list_ends,
    list_inputs,
    list_layer_scales,
    list_masks,
    list_matrices,
    list_merged_heads,
    list_nodes,
    list_pairs,
    list_pooled,
    list_residuals,
    list_scales,
    list_square_matrices,
    list_tensors,
    read_number,
)

Array = NDArray[Any]
FOLDED = "computed from the size of the images, folded"
MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@dataclass(frozen=True)
class GraphFault:
    """A fault at one place.

    Attributes:
        where: in words.
        build: makes the graph that has it; the intact one is left alone.
    """

    kind: str
    where: str
    build: Callable[[], Any]


def list_faults(model: Any, folded: Mapping[str, Array]) -> Iterator[GraphFault]:
    """List every fault at every place of a ``ModelProto``, but those that change nothing.

    Args:
        folded: value that is computed from the size of the images to what it is for those that it was traced with.
    """
    for kind, (list_places, change) in KINDS.items():
        for place in list_places(model.graph):
            build = partial(put_in, model, change, *place)
            if build() != model:
                yield GraphFault(kind, describe(model.graph, place), build)
    for value, tensor in folded.items():
        yield GraphFault(FOLDED, describe(model.graph, (value,)), partial(put_in, model, fold, value, tensor))


def put_in(model: Any, change: Callable[..., None], *place: object) -> Any:
    """Copy a ``ModelProto``, and change the graph of the copy."""
    changed = type(model)()
    changed.CopyFrom(model)
    change(changed.graph, *place)
    return changed


def read_tensor(graph: Graph, name: str) -> Array:
    """Read an initializer."""
    from onnx import numpy_helper

    tensor: Array = numpy_helper.to_array(find_tensor(graph, name))
    return tensor


def write_tensor(graph: Graph, name: str, values: Array) -> None:
    """Write an initializer, in place of the one of this name if there is one."""
    from onnx import numpy_helper

    written = numpy_helper.from_array(np.ascontiguousarray(values), name)
    (find_tensor(graph, name) or graph.initializer.add()).CopyFrom(written)


def map_tensor(function: Callable[[Array], Array]) -> Callable[[Graph, str], None]:
    """Make a fault of a function of a tensor."""

    def change(graph: Graph, name: str) -> None:
        tensor = read_tensor(graph, name)
        changed = function(tensor)
        if not np.array_equal(tensor, changed):
            write_tensor(graph, name, changed)

    return change


def exchange(graph: Graph, left: str, right: str) -> None:
    """Exchange two tensors."""
    values = read_tensor(graph, left), read_tensor(graph, right)
    write_tensor(graph, right, values[0])
    write_tensor(graph, left, values[1])


def round_to_int8(tensor: Array) -> Array:
    """Round to integers from -127 to 127 of one scale, and back."""
    scale = np.abs(tensor).max() / 127
    return np.asarray(np.round(tensor / scale) * scale, tensor.dtype)


def mask_last(mask: Array) -> Array:
    """Leave the last token out of a mask of all, which is broadcast to scores ``(images, heads, queries, keys)``."""
    changed = np.repeat(mask, mask.shape[-2], axis=-1)
    changed[..., -1] = False
    return changed


def set_attribute(name: str, value: object) -> Callable[[Graph, str], None]:
    """Make a fault of another value of an attribute."""

    def change(graph: Graph, output: str) -> None:
        from onnx import helper

        _, node = find_node(graph, output)
        held = next((each for each in node.attribute if each.name == name), None)
        (held or node.attribute.add()).CopyFrom(helper.make_attribute(name, value))

    return change


def set_every_eps(graph: Graph, _: str) -> None:
    """Give all norms another eps, the one that PyTorch's layer norm has unless told otherwise."""
    for (output,) in list_nodes("LayerNormalization")(graph):
        set_attribute("epsilon", 1e-5)(graph, output)


def turn_antialias(graph: Graph, output: str) -> None:
    """Resample with antialias where it was without, and the other way."""
    set_attribute("antialias", int(not read_number(graph, output, "antialias")))(graph, output)


def take_other_cubic(graph: Graph, output: str) -> None:
    """Resample with the cubic that PyTorch has without antialias where it was the one with, and the other way."""
    other = -0.5 if read_number(graph, output, "cubic_coeff_a") == -0.75 else -0.75
    set_attribute("cubic_coeff_a", other)(graph, output)


def replace_node(graph: Graph, output: str, operator: str, *inputs: str) -> None:
    """Compute an output by another node."""
    from onnx import helper

    find_node(graph, output)[1].CopyFrom(helper.make_node(operator, list(inputs), [output]))


def pass_on(graph: Graph, output: str, operand: str) -> None:
    """Leave a node out: its output is its operand."""
    replace_node(graph, output, "Identity", operand)


def pass_on_first(graph: Graph, output: str) -> None:
    """Leave a node out: its output is its first input."""
    pass_on(graph, output, find_node(graph, output)[1].input[0])


def fold(graph: Graph, value: str, tensor: Array) -> None:
    """Put a tensor in the place of what is computed."""
    write_tensor(graph, f"{value}.folded", tensor)
    pass_on(graph, value, f"{value}.folded")


def begin_at_second(graph: Graph, output: str) -> None:
    """Leave the first token out of a mask."""
    replace_node(graph, output, "Greater", *find_node(graph, output)[1].input)


def end_at_example(graph: Graph, output: str) -> None:
    """Have a mask end behind as many tokens as the patches of the images that a graph is traced with."""
    write_tensor(graph, "fault.end", np.asarray(EXAMPLE[1] * EXAMPLE[2]))
    replace_node(graph, output, "Less", find_node(graph, output)[1].input[0], "fault.end")


def cast_to_float16(graph: Graph, output: str) -> None:
    """Cast an output to float16, and back."""
    from onnx import helper

    index, node = find_node(graph, output)
    node.output[0] = f"{output}.whole"
    half = f"{output}.half"
    graph.node.insert(index + 1, helper.make_node("Cast", [node.output[0]], [half], to=FLOAT16))
    graph.node.insert(index + 2, helper.make_node("Cast", [half], [output], to=FLOAT))


def exchange_last_inputs(graph: Graph, output: str) -> None:
    """Exchange the last two inputs of a node."""
    _, node = find_node(graph, output)
    node.input[-1], node.input[-2] = node.input[-2], node.input[-1]


def take_next_token(graph: Graph, output: str) -> None:
    """Take the second token in place of the first."""
    write_tensor(graph, "fault.next", np.asarray(1))
    replace_node(graph, output, "Gather", find_node(graph, output)[1].input[0], "fault.next")
    set_attribute("axis", 1)(graph, output)


def change_images(graph: Graph, images: str, *nodes: Any) -> None:
    """Put nodes before all others, the last of which makes ``fault.images``, which the others read."""
    for node in graph.node:
        node.input[:] = ["fault.images" if name == images else name for name in node.input]
    for index, node in enumerate(nodes):
        graph.node.insert(index, node)


def normalize_again(graph: Graph, images: str) -> None:
    """Take mean and standard deviation of images that were normalized."""
    from onnx import helper

    for name, values in (("fault.mean", MEAN), ("fault.std", STD)):
        write_tensor(graph, name, np.asarray(values, np.float32).reshape(1, 3, 1, 1))
    centre = helper.make_node("Sub", [images, "fault.mean"], ["fault.centred"])
    change_images(graph, images, centre, helper.make_node("Div", ["fault.centred", "fault.std"], ["fault.images"]))


def reverse_channels(graph: Graph, images: str) -> None:
    """Read blue, green, red."""
    from onnx import helper

    write_tensor(graph, "fault.order", np.asarray([2, 1, 0]))
    change_images(graph, images, helper.make_node("Gather", [images, "fault.order"], ["fault.images"], axis=1))


Places = Callable[[Graph], Iterator[tuple[str, ...]]]

# kind to the places that it applies to, and what is changed there
KINDS: dict[str, tuple[Places, Callable[..., None]]] = {
    "tensor zeroed": (list_tensors, map_tensor(np.zeros_like)),
    "tensors exchanged": (list_pairs, exchange),
    "tensor through float16": (list_tensors, map_tensor(lambda tensor: tensor.astype(np.float16).astype(np.float32))),
    "matrix through int8": (list_matrices, map_tensor(round_to_int8)),
    "square matrix transposed": (list_square_matrices, map_tensor(np.transpose)),
    "bias left out": (list_biases, pass_on),
    "eps of a norm 1e-4": (list_nodes("LayerNormalization"), set_attribute("epsilon", 1e-4)),
    "eps of all norms 1e-5": (list_inputs, set_every_eps),
    "norm left out": (list_nodes("LayerNormalization"), pass_on_first),
    "tanh GELU": (list_nodes("Gelu"), set_attribute("approximate", "tanh")),
    "softmax over queries": (list_nodes("Softmax"), set_attribute("axis", -2)),
    "softmax over heads": (list_nodes("Softmax"), set_attribute("axis", 1)),
    "scale of attention left out": (list_scales, pass_on),
    "heads not put behind tokens": (list_merged_heads, pass_on),
    "layer scale left out": (list_layer_scales, pass_on),
    "residual left out": (list_residuals, pass_on),
    "cast to float16 and back": (list_ends, cast_to_float16),
    "tokens in another order": (list_concats, exchange_last_inputs),
    "mask without the last token": (list_masks, map_tensor(mask_last)),
    "mask without the first token": (list_nodes("GreaterOrEqual"), begin_at_second),
    "mask of as many tokens as were traced": (list_nodes("GreaterOrEqual"), end_at_example),
    "resampling: linear": (list_nodes("Resize"), set_attribute("mode", "linear")),
    "resampling: the other cubic": (list_nodes("Resize"), take_other_cubic),
    "resampling: antialias the other way": (list_nodes("Resize"), turn_antialias),
    "resampling: corners aligned": (
        list_nodes("Resize"),
        set_attribute("coordinate_transformation_mode", "align_corners"),
    ),
    "resampling: asymmetric": (list_nodes("Resize"), set_attribute("coordinate_transformation_mode", "asymmetric")),
    "pooled with the class token": (list_averaged, pass_on),
    "pooled from another token": (list_pooled, take_next_token),
    "images normalized twice": (list_inputs, normalize_again),
    "channels in reverse": (list_inputs, reverse_channels),
}
