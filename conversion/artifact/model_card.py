"""The model card beside a converted model, ``README.md``: what its user has to know, with the Hub's front matter."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from conversion.artifact.answer import TASKS, build_answer, describe_judged, describe_off
from conversion.artifact.sizes import describe_sizes
from conversion.artifact.usage import write_export_usage, write_usage
from conversion.families.configs import UNLABELED
from conversion.families.variants import VARIANTS
from conversion.state_dicts.convert import Conversion

TEMPLATE = Path(__file__).with_name("model_card.md.jinja")


def render_model_card(conversion: Conversion, card: Mapping[str, Any]) -> str:
    """The text of ``README.md``.

    Args:
        card: the content of ``parity.json``.
    """
    from huggingface_hub import ModelCard, ModelCardData

    spec = conversion.spec
    pipeline, _ = TASKS[spec.task if spec.num_classes or spec.task in UNLABELED else "backbone"]
    answer = build_answer(card)
    data = ModelCardData(
        library_name="transformers",
        pipeline_tag=pipeline,
        tags=list(_list_tags(conversion, card)),
        **_describe_official(conversion.variant) if card["source"]["weights"] == "pretrained" else {},
    )
    results = [result for cell in card["activations"] for result in cell["inputs"]]
    rendered = ModelCard.from_template(
        data,
        template_path=str(TEMPLATE),
        conversion=conversion,
        card=card,
        answer=answer,
        describe_judged=describe_judged,
        describe_off=describe_off,
        sizes=describe_sizes(answer.sizes),
        usage=write_usage(card, f"path/to/{conversion.variant}"),
        exports=[
            (judged, cell["exported"], write_export_usage(cell, f"path/to/{conversion.variant}"))
            for judged, cell in zip(answer.exports, card.get("exports", ()), strict=True)
        ],
        twins=sorted({result["input"] for result in results if result["baked_twin"]}),
        is_aligned=any(result.get("aligned") for result in results),
    )
    return str(rendered.content)


def _describe_official(name: str) -> dict[str, Any]:
    """What is known of official weights: their license, the data they have seen, and the same model on the Hub."""
    variant = VARIANTS[name]
    known = {
        "license": variant.license,
        "datasets": list(variant.datasets),
        "base_model": variant.hub_repository,
    }
    return {field: value for field, value in known.items() if value}


def _list_tags(conversion: Conversion, card: Mapping[str, Any]) -> Iterator[str]:
    yield "vision"
    yield conversion.family.replace("_", "-")
    if card["activations"]:
        yield "parity-verified"
    if card["source"]["weights"] == "synthetic":
        yield "synthetic-weights"
