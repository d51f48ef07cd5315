"""Where in an exported graph a fault can be put: tensors by name, nodes by their first output."""

import re
from collections.abc import Callable, Iterator
from itertools import combinations
from typing import Any

Graph = Any
"""A ``GraphProto``. What is read of one here needs no import of onnx, which not everybody has."""

FLOAT, INT64, BOOL, FLOAT16 = 1, 7, 9, 10
"""ONNX's numbers for data types."""

EMBEDDINGS, BLOCK = "at.embeddings", re.compile(r"at\.block\.(\d+)")

KEY_BIAS = re.compile(r"\b(k_proj|key)\.bias$")
"""A bias of keys adds the same to all scores of a query, and softmax takes it away again: no output depends on it."""


def find_node(graph: Graph, output: str) -> tuple[int, Any]:
    """Find which node in order has this output, and the node itself."""
    return next((index, node) for index, node in enumerate(graph.node) if output in node.output)


def find_tensor(graph: Graph, name: str) -> Any:
    """Find the initializer of this name; None where a node computes it."""
    return next((tensor for tensor in graph.initializer if tensor.name == name), None)


def read_number(graph: Graph, output: str, name: str) -> float:
    """Read an attribute of a node that is a number; 0 if it has none of this name."""
    _, node = find_node(graph, output)
    return next((float(each.i if each.type == each.INT else each.f) for each in node.attribute if each.name == name), 0)


def describe(graph: Graph, place: tuple[str, ...]) -> str:
    """Describe a place: tensors by name and shape, nodes by operator, output and the block that they are in."""
    named = {tensor.name: f"{tensor.name} {'x'.join(map(str, tensor.dims))}".strip() for tensor in graph.initializer}
    block = 0
    for node in graph.node:
        named[node.output[0]] = f"{node.op_type} {node.output[0]}, block {block}"
        block += bool(BLOCK.fullmatch(node.output[0]))
    return " and ".join(named.get(name, name) for name in place)


def list_floats(graph: Graph) -> list[Any]:
    """List the tensors of floating point that an output depends on: no key bias, and no fill of a mask."""
    chosen = {name for node in graph.node if node.op_type == "Where" for name in node.input[1:]}
    return [
        tensor
        for tensor in graph.initializer
        if tensor.data_type == FLOAT and not KEY_BIAS.search(tensor.name) and (tensor.dims or tensor.name not in chosen)
    ]


def list_tensors(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List those tensors by name."""
    return ((tensor.name,) for tensor in list_floats(graph))


def list_pairs(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List those tensors two by two, where they have one shape.

    The class token and its position embedding are left out: nothing but their sum is used.
    """
    for left, right in combinations(list_floats(graph), 2):
        if list(left.dims) == list(right.dims) and list(left.dims[:2]) != [1, 1]:
            yield left.name, right.name


def list_matrices(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List what linear layers multiply by."""
    return ((tensor.name,) for tensor in list_floats(graph) if len(tensor.dims) == 2)


def list_square_matrices(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List those of them that have as many rows as columns."""
    return (place for place in list_matrices(graph) if len(set(find_tensor(graph, *place).dims)) == 1)


def list_masks(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List the tensors of booleans, which are folded masks."""
    return ((tensor.name,) for tensor in graph.initializer if tensor.data_type == BOOL)


def list_nodes(*operators: str) -> Callable[[Graph], Iterator[tuple[str, ...]]]:
    """List all nodes of these operators."""
    return lambda graph: ((node.output[0],) for node in graph.node if node.op_type in operators)


def list_concats(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List where rows of tokens are put together."""
    return (place for place in list_nodes("Concat")(graph) if read_number(graph, place[0], "axis") == 1)


def list_ends(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List what embeddings and blocks hand on."""
    return ((node.output[0],) for node in graph.node if node.output[0] == EMBEDDINGS or BLOCK.match(node.output[0]))


def list_inputs(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List the input, which is the images."""
    return ((each.name,) for each in graph.input)


def list_biases(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List where a bias is added; each with what it is added to."""
    return _list_by_tensor(graph, ("Add",), lambda tensor: len(tensor.dims) == 1 and not KEY_BIAS.search(tensor.name))


def list_scales(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List where scores are scaled, or queries and keys; each with what is."""
    return _list_by_tensor(graph, ("Mul", "Div"), lambda tensor: not tensor.dims)


def list_layer_scales(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List where the branches of blocks are scaled; each with the branch."""
    return _list_by_tensor(graph, ("Mul",), lambda tensor: len(tensor.dims) == 1)


def _list_by_tensor(
    graph: Graph, operators: tuple[str, ...], accepts: Callable[[Any], bool]
) -> Iterator[tuple[str, ...]]:
    """List the nodes with such a tensor for one of two operands; each with the other one."""
    tensors = {tensor.name for tensor in graph.initializer if tensor.data_type == FLOAT and accepts(tensor)}
    for node in graph.node:
        if node.op_type in operators and len(tensors & set(node.input)) == 1:
            yield node.output[0], next(name for name in node.input if name not in tensors)


def list_residuals(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List where a branch is added to what it came from; each with the branch."""
    branches = {output for output, _ in list_layer_scales(graph)}
    for node in graph.node:
        if node.op_type == "Add" and (found := branches & set(node.input)):
            yield node.output[0], found.pop()


def list_merged_heads(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List where axes are transposed between a product, or a reshaping, and a reshaping; each with its input."""
    reshaped = {node.input[0] for node in graph.node if node.op_type == "Reshape"}
    before = {node.output[0] for node in graph.node if node.op_type in ("MatMul", "Reshape")}
    for node in graph.node:
        if node.op_type == "Transpose" and node.input[0] in before and node.output[0] in reshaped:
            yield node.output[0], node.input[0]


def list_averaged(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List where tokens are chosen that are averaged; each with all tokens."""
    averaged = {node.input[0] for node in graph.node if node.op_type == "ReduceMean"}
    for node in graph.node:
        if node.op_type == "Slice" and node.output[0] in averaged:
            yield node.output[0], node.input[0]


def list_pooled(graph: Graph) -> Iterator[tuple[str, ...]]:
    """List where one token is taken."""
    return ((node.output[0],) for node in graph.node if node.output[0] == "pooler_output" and node.op_type == "Gather")


def list_computed_from_shapes(graph: Graph) -> list[str]:
    """List the values that depend on the shape of the input, and on nothing else of it."""
    known, found = {tensor.name for tensor in graph.initializer}, list[str]()
    for node in graph.node:
        inputs = {name for name in node.input if name}
        if node.op_type == "Shape" or (inputs <= known | set(found) and inputs & set(found)):
            found += node.output
    return found
