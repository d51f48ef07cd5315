"""Faults in an exported graph: each makes the export lossy, or keeps it from running; none is exact or close.

Without ``--all``, one of each kind on each sort of place. What is rewritten without changing the function is no fault,
and must raise no alarm.
"""

import re
from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from conversion.exports import onnx_graph
from conversion.exports.asked import Export
from conversion.parity.verdict import Verdict
from conversion.suite.exported import find_unwanted_loss, verify_export
from conversion.suite.settings import Request
from conversion.suite.subject import Subject
from tests.mutation.graph_faults import FOLDED, KINDS, GraphFault, put_in, read_tensor, write_tensor
from tests.mutation.graph_places import KEY_BIAS, Graph, find_node, find_tensor, list_layer_scales, list_nodes
from tests.mutation.graph_setup import GRAPHS, ExportedGraph, open_graph
from tests.support.golden import read_golden
from tests.support.sampling import Sampler

for package in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(package, reason="runtimes are in the extra 'export'")

pytestmark = pytest.mark.xdist_group("exported graphs")  # which are written once, for all tests

build_graph = cache(ExportedGraph)


def list_sorts(fault: GraphFault) -> list[tuple[str, str]]:
    """What kind of fault it is, at what sort of place: of two where two are exchanged; blocks are alike."""
    return [(fault.kind, place) for place in re.sub(r"\d+", "", fault.where).split(" and ")]


@pytest.mark.parametrize("name", GRAPHS)
def test_no_fault_in_a_graph_survives(
    name: str, sampler: Sampler, record_property: Callable[[str, object], None]
) -> None:
    graph = build_graph(name)
    faults = graph.list_faults()
    assert len(faults) > 800
    outcomes = [graph.judge(fault, asks_others=False) for fault in sampler.draw(faults, list_sorts)]
    survivors = [f"{outcome.kind}: {outcome.where}" for outcome in outcomes if outcome.survives]
    record_property("faults", len(outcomes))
    record_property("survivors", survivors)
    assert not survivors
    assert {outcome.kind for outcome in outcomes} == {fault.kind for fault in faults}


def test_every_kind_of_fault_applies_to_a_graph() -> None:
    kinds = {fault.kind for name in GRAPHS for fault in build_graph(name).list_faults()}
    assert kinds == {*KINDS, FOLDED}


def test_every_block_has_its_faults() -> None:
    """Three blocks each; what is in front of the first counts as in it, and what is behind the last as in a fourth."""
    for name in GRAPHS:
        places = [fault.where for fault in build_graph(name).list_faults() if fault.kind == "tanh GELU"]
        assert [place[-7:] for place in places] == ["block 0", "block 1", "block 2"]


def test_what_is_resampled_is_seen_on_images_of_another_size() -> None:
    """One image of native size, as exporters look at, shows none of these faults."""
    graph = build_graph("dinov2_tiny_reg")
    faults = [fault for fault in graph.list_faults() if fault.kind.startswith("resampling")]
    outcomes = [graph.judge(fault) for fault in faults]
    assert len(outcomes) == 5
    assert [outcome.noticed_by for outcome in outcomes] == [{"activations"}] * 5
    assert "native" not in {outcome.on for outcome in outcomes}


@pytest.mark.parametrize("name", GRAPHS)
def test_an_intact_graph_raises_no_alarm(name: str) -> None:
    graph = build_graph(name)
    assert graph.judge(GraphFault("none", "", lambda: graph.model)).noticed_by == set()


@pytest.mark.parametrize("name", GRAPHS)
def test_layer_scale_folded_into_weights_raises_no_alarm(name: str) -> None:
    """The same function, which rounds at other places."""
    check_same(build_graph(name), fold_layer_scales)


def fold_layer_scales(graph: Graph) -> None:
    for output, branch in list_layer_scales(graph):
        product, bias = sorted(find_node(graph, branch)[1].input, key=lambda name: find_tensor(graph, name) is not None)
        weight = find_node(graph, product)[1].input[1]
        scale = next(name for name in find_node(graph, output)[1].input if name != branch)
        values = read_tensor(graph, scale)
        for name in (weight, bias):
            write_tensor(graph, name, read_tensor(graph, name) * values)
        write_tensor(graph, scale, np.ones_like(values))


def test_zeroed_biases_of_keys_raise_no_alarm() -> None:
    """They add the same to all scores of a query, which is why they are left out of the faults."""
    check_same(build_graph("dinov2_tiny_reg"), zero_key_biases)


def zero_key_biases(graph: Graph) -> None:
    names = [tensor.name for tensor in graph.initializer if KEY_BIAS.search(tensor.name)]
    assert len(names) == 3
    for name in names:
        assert np.any(read_tensor(graph, name))
        write_tensor(graph, name, np.zeros_like(read_tensor(graph, name)))


def check_same(graph: ExportedGraph, rewrite: Callable[[Graph], None]) -> None:
    changed = put_in(graph.model, rewrite)
    assert changed != graph.model
    assert graph.judge(GraphFault("none", "", lambda: changed)).noticed_by == set()
    run = open_graph(changed)
    assert {graph.verify(name, graph.compute(run, name)).verdict for name in graph.runs} == {Verdict.CLOSE}


def test_an_export_with_a_fault_is_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The whole way: the fault is in the file that the exporter wrote."""
    import onnx

    write = onnx_graph.write_tapped

    def write_with_fault(traced: Any, path: Path, opset: int | None = None) -> int:
        version = write(traced, path, opset)
        model = onnx.load(path)
        (place, *_) = list_nodes("Gelu")(model.graph)
        onnx.save(put_in(model, KINDS["tanh GELU"][1], *place), path)
        return version

    monkeypatch.setattr(onnx_graph, "write_tapped", write_with_fault)
    golden = read_golden("dinov2_tiny_1layer")
    torch.save(golden.backbone, tmp_path / "tiny.pth")
    request = Request(seed=0, checkpoint=tmp_path / "tiny.pth", overrides=golden.overrides)
    with closing(Subject("dinov2_custom", request)) as subject:
        cell = verify_export(subject, Export("onnx", "float32"))
    assert cell.verdict is Verdict.LOSSY
    loss = find_unwanted_loss(cell, [])
    assert loss is not None
    assert "most of it arises in block.0" in loss
    assert "It is not kept." in loss
