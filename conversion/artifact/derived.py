"""What a verification card says and something else tells, too: the model, its files, or the rest of the card."""

import json
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath
from typing import Any

from conversion.artifact.card import count_kinds, list_cells, place_of, summarise_points
from conversion.artifact.settings import find_dtypes, find_settings_problems, find_widest
from conversion.artifact.weights import list_keys
from conversion.errors import ConversionError
from conversion.exports.asked import find_export
from conversion.families.base import Family
from conversion.families.settings import LAST_BLOCK
from conversion.families.target import transformers_major
from conversion.families.variants import VARIANTS
from conversion.intake.download import read_checksums
from conversion.parity.deviations import split_names
from conversion.parity.verdict import PointVerdict, Verdict
from conversion.state_dicts.folder import LEFT_OUT, read_left_out
from conversion.state_dicts.recognise import identify_variant, list_official, rows_of
from conversion.state_dicts.restore import find_majors

# entry of a card to what would have to be done to know it
UNPROVEN = {
    "source": "whose weights these are: compare with the original checkpoint",
    "settings that no tensor tells": "whoever trained the model knows them",
    "notes, versions, input_seed, device, original": "who computed what, with what: --deep computes it again, here",
    "figures of capture points": "--deep measures them again",
    "class names": "they are no part of a checkpoint",
    "README.md": "it is for readers, and not compared",
}
"""What no file of an artifact tells, and its card alone says."""


def describe_unproven(*, is_deep: bool = False, has_exports: bool = False) -> str:
    """What is taken from cards as they stand, in a line; where both models are run again, that is less."""
    left = {entry: remedy for entry, remedy in UNPROVEN.items() if not (is_deep and "--deep" in remedy)}
    if is_deep and has_exports:
        left["figures of exports"] = "convert the checkpoint again with --export: it measures them again"
    said = "; ".join(f"{entry} ({remedy})" for entry, remedy in left.items())
    return f"taken from the card, cannot be derived: {said}"


def find_false_entries(card: Mapping[str, Any], family: Family[Any], spec: Any) -> Iterator[str]:
    """List what a card says of a model of this spec that is not so."""
    variants = _list_variants(card, family, spec)
    if card["variant"] not in variants:
        yield f"variant: {card['variant']}, by its spec {' or '.join(variants)}"
    if card["architecture"] != spec.hf_class:
        yield f"architecture: {card['architecture']}, by its spec {spec.hf_class}"
    yield from _find_false_sizes(card, spec)
    yield from _find_false_told(card, family, spec)
    yield from _find_false_counts(card, family, spec)
    yield from _find_false_source(card)


def find_repetitions(card: Mapping[str, Any]) -> Iterator[str]:
    """List cells of the matrix that a card has twice, and inputs that a cell has twice."""
    cells = [", ".join(place_of(cell)) for cell in list_cells(card)]
    yield from (f"{cell}: given twice" for cell in _list_repeated(cells))
    for name, cell in zip(cells, list_cells(card), strict=True):
        inputs = [result["input"] for result in cell["inputs"]]
        yield from (f"{name}, {repeated}: given twice" for repeated in _list_repeated(inputs))


def find_false_exports(card: Mapping[str, Any]) -> Iterator[str]:
    """List what a card says of exports that does not go together."""
    for cell in card["activations"]:
        is_like_one = "exported" in cell or any("likeness" in result for result in cell["inputs"])
        if find_export(place_of(cell)) or is_like_one:
            yield f"{', '.join(place_of(cell))}: an export, among activations"
    for cell in card.get("exports", ()):
        place, exported = place_of(cell), cell["exported"]
        export = find_export(place)
        if export is None or export.cell != place or export.precision != exported["precision"]:
            yield f"{', '.join(place)}: no export of {exported['precision']}"
            continue
        beside = {export.file.rpartition(".")[0] + ".bin", f"{export.file}.data"}
        if export.file not in exported["files"] or exported["files"].keys() - {export.file, *beside}:
            yield f"{', '.join(place)}: files {', '.join(exported['files'])}, by its precision {export.file}"
        is_lossy = cell["verdict"] == Verdict.LOSSY
        if is_lossy and not any(result.get("likeness") for result in cell["inputs"]):
            yield f"{', '.join(place)}: lossy, and the card has no likeness of it"
        figures = [each for result in cell["inputs"] for each in result.get("likeness", {}).values()]
        figures += exported.get("pictures", {}).get("likeness", {}).values()
        if not all(-1.001 <= figure <= 1.001 for each in figures for figure in each):
            yield f"{', '.join(place)}: a likeness that is not between -1 and 1"


def find_false_figures(record: Mapping[str, Any], points: Sequence[PointVerdict]) -> Iterator[str]:
    """List the figures of an input that are not those of its capture points, and points whose own are no numbers.

    Args:
        record: of the input, in the card.
        points: those in it.
    """
    yield from (
        f"{name}: {record[name]}, by its capture points {value}"
        for name, value in summarise_points(points).items()
        if json.dumps(record[name]) != json.dumps(value)  # in which a NaN is a NaN
    )
    close = (point for point in points if point.verdict is Verdict.CLOSE)
    odd = [point.point for point in close if not all(map(math.isfinite, _list_figures(point)))]
    if odd:
        yield f"figures of points that are close are no numbers: {', '.join(odd[:5])}"


def find_false_twin(record: Mapping[str, Any]) -> Iterator[str]:
    """Say of an input that it has not the size for which position embeddings were baked."""
    baked = record["baked_twin"]
    if baked and record["shape"][-2:] != [baked, baked]:
        yield f"baked_twin: {baked}, of an input {tuple(record['shape'])}"


def _list_figures(point: PointVerdict) -> list[float]:
    distances = (point.difference, point.local, point.original_error, point.converted_error, point.scale, point.scatter)
    return [figure for each in distances if each for figure in (each.max_abs, each.rms)]


def find_false_deviation(
    card: Mapping[str, Any], cell: Mapping[str, Any], record: Mapping[str, Any], family: Family[Any], spec: Any
) -> Iterator[str]:
    """List the known deviations that a card says of an input and that do not apply to it, and those that it withholds.

    Where one applies and does not show, every bit agrees without it.
    """
    major = card["versions"].get("transformers", "").partition(".")[0]
    if major != str(transformers_major()):
        return  # another major version has others
    compared = replace(spec, image_size=record["baked_twin"] or spec.image_size)
    applying = family.find_deviation(compared, tuple(record["shape"]), cell["dtype"], cell["attention"])
    names = split_names(applying.name if applying else None)
    if record["input"] == "photo":
        names += [entry.name for entry in family.ledger if not entry.original_attributes]
    known = {entry.name for entry in family.ledger if not entry.avoided}
    untrue = [name for name in split_names(record["deviation"]) if name in known - set(names)]
    if untrue:
        yield f"deviation: {', '.join(untrue)}, which does not apply to an input {tuple(record['shape'])}"
    is_exact = all(isinstance(point, str) for point in record["points"])
    if applying and not record["deviation"] and not is_exact:
        yield f"deviation: none is said to show; {applying.name} applies, and not every point is exact"


def find_false_files(directory: Path, card: Mapping[str, Any], family: Family[Any], spec: Any) -> Iterator[str]:
    """List what a card says of an artifact's files that is not so, and every setting in them that is not as expected.

    Args:
        spec: that the artifact's config describes.
    """
    sizes = {card["baked_image_size"] or family.images.choose_input_size(spec): "what its card and its config say"}
    try:
        yield from find_settings_problems(directory, family, spec, sizes=sizes)
        layout = [f"transformers {major}" for major in find_majors(family, spec, list_keys(directory))]
        if card["layout"] != layout:
            yield f"layout: {', '.join(card['layout'])}, by the keys of the weights {', '.join(layout) or 'none'}"
        dtype = str(find_widest(find_dtypes(directory))).removeprefix("torch.")
        if card.get("dtype", dtype) != dtype:
            yield f"dtype: {card['dtype']}, of the weights {dtype}"
        kept = sorted(read_left_out(directory))
        if card["tensors"]["kept_beside"] != kept:
            yield f"tensors kept_beside: {card['tensors']['kept_beside']}, in {LEFT_OUT} {kept}"
    except ConversionError as error:
        yield error.headline
        yield from error.problems


def find_false_checksums(card: Mapping[str, Any], checksums: Path) -> Iterator[str]:
    """List files that a card calls official, and that are not those on record.

    Args:
        checksums: JSON file, URL path to size and SHA-256, as downloads record them; may be absent.
    """
    if card["source"]["weights"] != "pretrained":
        return
    known = read_checksums(checksums)
    for role, url in VARIANTS[card["variant"]].files.items() if card["variant"] in VARIANTS else ():
        recorded = next((entry.sha256 for path, entry in known.items() if url.endswith(f"/{path}")), None)
        found = [file["sha256"] for file in card["source"]["checkpoints"].get(role, {"files": []})["files"]]
        if recorded is not None and found != [recorded]:
            yield f"source: the {role} has SHA-256 {', '.join(found) or 'none'}, the official file on record {recorded}"


def _list_variants(card: Mapping[str, Any], family: Family[Any], spec: Any) -> list[str]:
    """The names that a model of this spec may go by; baked, it may have had any size before."""
    kinds = "_or_".join((family.name, *family.find_lookalikes(spec, {})))
    if card["baked_image_size"] is None:
        return list(dict.fromkeys([*list_official(family, spec), identify_variant(family, spec), kinds]))
    specs = {row.name: family.spec_of(row) for row in rows_of(family)}
    baked = [name for name, own in specs.items() if replace(own, image_size=spec.image_size) == spec]
    return [*baked, f"{family.name}_custom", kinds]


def _find_false_sizes(card: Mapping[str, Any], spec: Any) -> Iterator[str]:
    baked = card["baked_image_size"]
    if baked is not None and (baked != spec.image_size or not spec.any_size):
        possible = f"by its spec {spec.image_size}" if spec.any_size else "and a model of its spec has one size only"
        yield f"baked_image_size: {baked}, {possible}"


def _find_false_told(card: Mapping[str, Any], family: Family[Any], spec: Any) -> Iterator[str]:
    for name, each in card["told"].items():
        field = family.settings[name].field if name in family.settings else ""
        if not field:
            continue
        found = json.loads(json.dumps(getattr(spec, field)))
        said = [spec.depth - 1] if each["value"] == [LAST_BLOCK] else each["value"]
        if said != found:
            yield f"told {name}: {each['value']!r:.80}, by its spec {found}"


def _find_false_counts(card: Mapping[str, Any], family: Family[Any], spec: Any) -> Iterator[str]:
    keys = card["keys"]
    # the same in the names of every major version: a tensor is renamed or cut, whatever the names are
    targets = list(family.expand_key_map(spec).values())
    counts = count_kinds(targets)
    yield from (f"keys {name}: {keys[name]}, of its spec {n}" for name, n in counts.items() if keys[name] != n)
    if card["tensors"]["compared"] != len(targets):
        yield f"tensors compared: {card['tensors']['compared']}, of its spec {len(targets)}"
    yield from (
        f"keys dropped: {key}: {reason!r}, by the key map {family.explain_absence(key) or 'kept'!r}"
        for key, reason in keys["dropped"].items()
        if reason != family.explain_absence(key)
    )
    lost = [key for key in card["tensors"]["kept_beside"] if key not in keys["dropped"]]
    if lost:
        yield f"tensors kept_beside: {', '.join(lost)}, which keys dropped says nothing of"


def _find_false_source(card: Mapping[str, Any]) -> Iterator[str]:
    source = card["source"]
    if (source["weights"] == "synthetic") != (source["seed"] is not None):
        yield f"source: {source['weights']} weights with the seed {source['seed']}"
    if source["weights"] == "unknown" and source["checkpoints"]:
        yield f"source: unknown weights, from {', '.join(source['checkpoints'])}"
    if source["weights"] != "pretrained":
        return
    row = VARIANTS.get(card["variant"])
    if row is None or not row.is_published:
        yield f"source: pretrained weights; no official checkpoint of {card['variant']} is published"
        return
    for role, url in row.files.items():
        official = PurePosixPath(url).name
        names = [file["name"] for file in source["checkpoints"].get(role, {"files": []})["files"]]
        if names not in ([official], [f"{row.name}-{official}"]):
            yield f"source: pretrained weights; the {role} is {', '.join(names) or 'absent'}, not {official}"


def _list_repeated(names: Iterable[str]) -> list[str]:
    return [name for name, count in Counter(names).items() if count > 1]
