"""What noticed which fault; ``python -m tests.mutation.kill_matrix`` writes it for reports and ``docs/``."""

import json
import tempfile
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch

from conversion.artifact.versions import describe_versions
from conversion.exports.asked import Export, check_installed
from conversion.report.render import KILL_MATRIX
from tests.mutation.assumptions import judge_assumptions
from tests.mutation.fault_lists import list_injections
from tests.mutation.field_faults import judge_fields
from tests.mutation.file_faults import FILE_FAULTS
from tests.mutation.file_setup import FileSetup
from tests.mutation.graph_setup import (
    EXPORTERS_ATOL,
    GRAPH_LEVELS,
    GRAPH_OTHERS,
    GRAPHS,
    ExportedGraph,
    GraphOutcome,
)
from tests.mutation.injection import LEVELS, OTHERS, FaultyModel, Outcome
from tests.mutation.recorded_faults import RECORDED, build_full_size, list_recorded
from tests.support.golden import ARCHITECTURES, read_golden

DOCUMENT = Path(__file__).parents[2] / "docs" / "sensitivity.md"

TEMPLATE = """# What would have been noticed

A suite that passes says something only if it would have failed. Here faults are put in, one at a time, and what
notices them is counted: the levels of proof of this project (identity, intake, keys, tensors, activations, artifact),
and, for comparison, rules that others go by. A fault may be noticed by several.

`python -m tests.mutation.kill_matrix` wrote this page, with {versions}.
`pytest tests/mutation/test_sensitivity.py tests/mutation/test_graph_faults.py` judges the same faults and demands that
none survives.

- The faults of map, tensors and config are put into tiny models of these architectures ({models}), each on every tensor
  that it applies to, and judged with the attention implementation that is *not* exact: each stands out from rounding.
- The depth models ({others}) are not in the table, since they would take most of an hour. The test judges a fault of
  each kind on each kind of tensor of them, cut to five blocks. With `--all` they are whole, and every fault is put into
  their first two blocks and the last, as blocks are alike. They take no masked input. Without one, an eps of 1e-12 or
  2e-6 for 1e-6 changes less than rounding does in float32; so these two are put into their backbones in float64.
- A fault of the key map is in the table that restores, too: where two targets are exchanged, the bytes come back right,
  and activations alone notice it.
- *identity* is that nothing is assumed for both models alike: a setting that no tensor tells is told by somebody, or
  the conversion is refused, or nothing is claimed that depends on it. No comparison of the two notices such a fault.
- *intake* is a file of known content read back; *keys* that all are there, and no others; *tensors* that restoring
  gives the source back, bit for bit; *activations* the capture points, judged by the float64 yardstick; *artifact*
  what transformers says on loading, and the checks of files, config and cards. What happens to files after they are
  published is noticed by `conversion.check_card`, which is the user's to call.
- A field of `config.json` or `preprocessor_config.json` is each that the library's class has, in the file or not, with
  another value, and some of others. What notices it compares every field with what is expected.
- The other rules look at the outputs for one image: the CLS token of the last layer, all that the model returns, its
  cosine. They see neither intake nor preprocessing nor files. What is missing when transformers loads it is filled at
  random for them.
- The faults of exported graphs are put into the ONNX graphs of {graphs}, a backbone for images of any size and a
  classifier of one size, and judged as an export is: at the end of every block, on one image, on three, and, where the
  graph takes them, on other sizes. *runtime* is that ONNX Runtime does not run it. Exporters look at one image, within
  {atol}; on one of native size, the position embeddings are not resampled.
- Some changes to a graph are no faults, and are close: biases of keys zeroed, as they add the same to all scores of a
  query, which softmax takes away; the class token and its own position embedding exchanged, as only their sum is used.
- An eps of 1e-5 for 1e-6 in one norm alone is at the edge of rounding in float32. Where tokens have a variance of 2.7,
  it changes what the norm gives by 2e-6 of it, and the end of the block by a little less than twice the original's own
  error, which is close. In all norms at once it is noticed, and so is 1e-4 in any one.

## Tiny models, every tensor

{matrix}

## A full-size ViT-S

The 1,232 faults by which the official converters' check was measured (they compare the CLS token at 1e-3).

{recorded}

## Exported graphs

{exported}
"""

COUNTED = tuple(name for name in ARCHITECTURES if read_golden(name).spec.task != "depth-estimation")
"""The models whose faults are counted; a depth model's take ten times as long."""

Table = dict[str, Any]


def tabulate(
    title: str, outcomes: Iterable[Outcome], levels: Sequence[str] = LEVELS, others: Sequence[str] = OTHERS
) -> Table:
    """A row for each kind of fault, and their sum."""
    by_kind: dict[str, list[Outcome]] = {}
    for outcome in outcomes:
        by_kind.setdefault(outcome.kind, []).append(outcome)
    by_kind["all"] = list(chain(*by_kind.values()))
    return {
        "title": title,
        "columns": ["fault", "number", *levels, "survive", *others],
        "rows": [tabulate_row(kind, own, levels, others) for kind, own in by_kind.items()],
    }


def tabulate_row(name: str, outcomes: Sequence[Outcome], levels: Sequence[str], others: Sequence[str]) -> list[str]:
    """How many there were, what noticed how many, and how many nothing did."""
    counts = Counter(rule for outcome in outcomes for rule in outcome.noticed_by)
    numbers = [len(outcomes), *(counts[level] for level in levels), sum(outcome.survives for outcome in outcomes)]
    shares = [f"{counts[rule]} ({counts[rule] / len(outcomes):.0%})" for rule in others]
    return [name, *(f"{number:,}" for number in numbers), *shares]


def render_page(record: Mapping[str, Any]) -> str:
    """The page of a record."""
    matrix, recorded, exported = map(render_table, record["tables"])
    return TEMPLATE.format(
        versions=record["versions"],
        models=", ".join(COUNTED),
        others=", ".join(name for name in ARCHITECTURES if name not in COUNTED),
        graphs=" and ".join(GRAPHS),
        atol=" or ".join(f"{atol:g}" for atol in EXPORTERS_ATOL),
        matrix=matrix,
        recorded=recorded,
        exported=exported,
    )


def render_table(table: Table) -> str:
    """A table in Markdown, its last row in bold."""
    *rows, (name, *sums) = table["rows"]
    lines = [table["columns"], ["---"] * len(table["columns"]), *rows, [f"**{name}**", *sums]]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def judge_tiny_models() -> list[Outcome]:
    """Every fault of map, tensors and config."""
    faulty_models = [FaultyModel.of(model) for model in COUNTED]
    return [
        faulty_model.judge(injection) for faulty_model in faulty_models for injection in list_injections(faulty_model)
    ]


def judge_settings() -> list[Outcome]:
    """Every field of the settings files, in every architecture."""
    return [outcome for model in COUNTED for outcome in judge_fields(model)]


def judge_what_is_assumed() -> list[Outcome]:
    """Every setting that no tensor tells, in every architecture."""
    return [outcome for model in COUNTED for outcome in judge_assumptions(model)]


def judge_file_faults() -> list[Outcome]:
    """Every fault on the way to and from the tensors."""
    outcomes = []
    for fault in FILE_FAULTS:
        with tempfile.TemporaryDirectory() as directory, pytest.MonkeyPatch.context() as patch:
            outcomes.append(FileSetup(read_golden("dinov2_tiny_1layer"), Path(directory), patch).judge(fault))
    return outcomes


def judge_full_size() -> list[Outcome]:
    """The recorded faults, in a ViT-S of full size."""
    faulty_model = build_full_size()
    return [faulty_model.judge(injection) for injection in list_recorded(faulty_model)]


def judge_graphs() -> list[GraphOutcome]:
    """Every fault in an exported graph."""
    graphs = map(ExportedGraph, GRAPHS)
    return [graph.judge(fault) for graph in graphs for fault in graph.list_faults()]


def describe_runtime() -> str:
    """What runs the exported graphs."""
    import onnxruntime

    return f"onnxruntime {onnxruntime.__version__}"


JUDGES = (judge_tiny_models, judge_settings, judge_what_is_assumed, judge_file_faults)


def main() -> None:
    """Judge everything, and write the page."""
    import transformers

    check_installed([Export("onnx", "float32")])
    torch.set_num_threads(1)
    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    tables = [
        tabulate("Tiny models, every tensor", list(chain(*(judge() for judge in JUDGES)))),
        tabulate("A full-size ViT-S", judge_full_size()),
        tabulate("Exported graphs", judge_graphs(), GRAPH_LEVELS, GRAPH_OTHERS),
    ]
    assert len(tables[1]["rows"]) == len(RECORDED) + 1
    record = {"versions": f"{describe_versions()}, {describe_runtime()}", "tables": tables}
    KILL_MATRIX.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    DOCUMENT.write_text(render_page(record), encoding="utf-8")


if __name__ == "__main__":
    main()
