"""What a failure looks like: faults in models of full size, as ``docs/failures.md`` prints them.

``python -m tests.mutation.failures`` writes that page anew.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path

from torch import Tensor

import conversion
from conversion.artifact.load import load_converted
from conversion.artifact.versions import describe_versions
from conversion.families.base import load_family
from conversion.families.variants import VARIANTS
from conversion.intake.synthetic import draw_state_dict
from conversion.parity.diagnosis import describe_failure
from conversion.parity.faults import zero
from conversion.suite.inputs import InputCase
from tests.support.edits import Fault, change, exchange_projections, set_config
from tests.support.golden import choose_inexact_attention
from tests.support.runs import run_original, verify_input

DOCUMENT = Path(__file__).parents[2] / "docs" / "failures.md"

TEMPLATE = """# What a failure says

Faults put into official variants with synthetic weights, at their native size, float32, on a CPU, with the attention
implementation that is not exact. `python -m tests.mutation.failures` wrote this page, with {versions}.

A message names the first capture point that fails; how far the converted model is off there (*difference*), how much
of that arises in its stage alone (*local*); both models' errors against the original in float64, and what is allowed;
the original's keys that feed that point; and the known fault, if there is one, that makes the original compute the
same, up to rounding, at every capture point of the stage.

{sections}
"""

KEY_BIAS = "encoder.layer.7.attention.attention.key.bias"

FAILURES: Mapping[str, tuple[str, Fault]] = {
    "q and k swapped in block 7 of ViT-B": ("dinov2_vitb14", partial(exchange_projections, 7, "query", "key")),
    "The key bias zeroed in block 7 of ViT-B, which no output shows": (
        "dinov2_vitb14",
        partial(change, KEY_BIAS, zero),
    ),
    "An eps of 1e-12 in Data2Vec-Vision": ("data2vec_vision_base", partial(set_config, "layer_norm_eps", 1e-12)),
}


def print_failure(variant: str, fault: Fault) -> str:
    """The message for a fault in a variant, on its native input."""
    row = VARIANTS[variant]
    family = load_family(row.family)
    spec = family.spec_of(row)
    source: dict[str, Tensor] = draw_state_dict(family, spec, row.name, 0)
    attention = choose_inexact_attention(family)
    model = load_converted(fault(conversion.convert(source, variant)), attention=attention)
    case = InputCase("native", spec.image_size, spec.image_size)
    run = run_original(family, spec, family.load_original(spec, source), case)
    return describe_failure(variant, f"cpu, float32, {attention}", [verify_input(case.name, run, model)])


def main() -> None:
    """Write the page."""
    import transformers

    transformers.utils.logging.disable_progress_bar()
    sections = [f"## {title}\n\n```\n{print_failure(*failure)}\n```" for title, failure in FAILURES.items()]
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(TEMPLATE.format(versions=describe_versions(), sections="\n\n".join(sections)), encoding="utf-8")


if __name__ == "__main__":
    main()
