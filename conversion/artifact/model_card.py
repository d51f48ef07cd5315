"""The model card beside a converted model, ``README.md``: what its user has to know, with the Hub's front matter."""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from conversion.families.base import Family, load_family
from conversion.families.told import describe_told
from conversion.families.variants import VARIANTS
from conversion.parity.deviations import split_names
from conversion.state_dicts.convert import Conversion

# task: pipeline on the Hub, class that loads a model of it
TASKS = {
    "backbone":              ("image-feature-extraction", "AutoModel"),
    "image-classification":  ("image-classification",     "AutoModelForImageClassification"),
    "semantic-segmentation": ("image-segmentation",       "AutoModelForSemanticSegmentation"),
}  # fmt: skip
TEMPLATE = Path(__file__).with_name("model_card.md.jinja")
ORGANISATION = "facebook"
"""Whose official conversions are on the Hub."""


def render_model_card(conversion: Conversion, card: Mapping[str, Any]) -> str:
    """The text of ``README.md``.

    Args:
        card: the content of ``parity.json``.
    """
    from huggingface_hub import ModelCard, ModelCardData

    pipeline, auto_class = TASKS[conversion.spec.task]
    family = load_family(conversion.family)
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
        is_synthetic=card["source"]["weights"] == "synthetic",
        auto_class=auto_class,
        twins=sorted({result["input"] for result in results if result["baked_twin"]}),
        is_aligned=any(result.get("aligned") for result in results),
        attention=family.choose_attention(),
        deviations=list(_list_deviations(family, results)),
        told=describe_told(conversion.told),
    )
    return str(rendered.content)


def _describe_official(name: str) -> dict[str, Any]:
    """What is known of official weights: their license, the data they have seen, and the same model on the Hub."""
    variant = VARIANTS[name]
    known = {
        "license": variant.license,
        "datasets": list(variant.datasets),
        "base_model": f"{ORGANISATION}/{variant.hub_name}" if variant.hub_name else "",
    }
    return {field: value for field, value in known.items() if value}


def _list_tags(conversion: Conversion, card: Mapping[str, Any]) -> Iterator[str]:
    yield "vision"
    yield conversion.family.replace("_", "-")
    if card["activations"]:
        yield "parity-verified"
    if card["source"]["weights"] == "synthetic":
        yield "synthetic-weights"


def _list_deviations(family: Family[Any], results: Iterable[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """Entries of the ledger that concern a user of this artifact, each with what it was measured to come to here."""
    shown: dict[str, dict[str, float]] = {}
    for result in results:
        largest = max(
            (point["difference"]["max_abs"] for point in result["points"] if "difference" in point), default=0.0
        )
        for name in split_names(result["deviation"]):
            inputs = shown.setdefault(name, {})
            inputs[result["input"]] = max(largest, inputs.get(result["input"], 0.0))
    for entry in family.ledger:
        if entry.name in shown or (not entry.original_attributes and not entry.avoided):
            yield {"entry": entry, "sizes": shown.get(entry.name, {})}
