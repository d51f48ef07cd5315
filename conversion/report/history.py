"""The verdicts of a run beside those on record: ``python -m conversion.report.history DIR`` prints what has changed.

What is exact depends on how a processor rounds, so there is a record for each kind, by what torch says that it uses of
it: ``{"AVX512": {"versions": {library: version}, "verdicts": {variant: {device/dtype/attention: {input: verdict}}}}}``.
"""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from conversion.artifact.card import SCHEMA
from conversion.errors import ArtifactError
from conversion.families.variants import VARIANTS
from conversion.parity.verdict import Verdict
from conversion.state_dicts.folder import PARITY_CARD

Records = dict[str, dict[str, Any]]
"""Kind of processor to its record."""

RECORD = Path(__file__).parents[2] / "fixtures" / "verdicts.json"
HEAD = """Verdicts that are not those on record: {}. Where there is none now, a test of that variant failed, or was not
run: only what has passed leaves a card.
"""
UNREADABLE = (AttributeError, KeyError, OSError, TypeError, ValueError)  # what JSON of another shape comes to


def collect(directory: Path) -> Records:
    """All cards in a folder, at any depth, as a record for each kind of processor, with the versions of all machines.

    Raises:
        ArtifactError: there is no card, one cannot be read or holds no comparison, or two contradict each other.
    """
    records: Records = {}
    problems = []
    for path in sorted(directory.rglob(PARITY_CARD)):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            if card["schema"] != SCHEMA or not any(cell["inputs"] for cell in card["activations"]):
                raise ValueError(f"no comparison by {SCHEMA} in it")
            _add_card(records.setdefault(card["versions"]["cpu"], {"versions": {}, "verdicts": {}}), card)
        except UNREADABLE as error:
            problems.append(f"{path}: {error!r}")
    if problems or not records:
        raise ArtifactError(f"{directory}: nothing to compare.", problems or [f"no {PARITY_CARD} in it"])
    for record in records.values():
        record["versions"] = {name: " or ".join(sorted(found)) for name, found in record["versions"].items()}
    return records


def _add_card(record: dict[str, Any], card: Mapping[str, Any]) -> None:
    for cell in card["activations"]:
        inputs = record["verdicts"].setdefault(card["variant"], {}).setdefault(_name_cell(cell), {})
        for result in cell["inputs"]:
            verdict = str(Verdict(result["verdict"]))
            if inputs.setdefault(result["input"], verdict) != verdict:
                raise ValueError(f"{result['input']} is {verdict}, in another card {inputs[result['input']]}")
    for name, version in card["versions"].items():
        record["versions"].setdefault(name, set()).add(str(version))


def _name_cell(cell: Mapping[str, str]) -> str:
    device = cell["device"].partition(":")[0]  # any GPU of a machine stands for all
    return f"{device}/{cell['dtype']}/{cell['attention']}"


def find_changes(before: Records, now: Records) -> list[tuple[str, ...]]:
    """Variant, cell, kind of processor, input, verdict before and now, in the cells that the run has a card of.

    A verdict is held against that of the same kind of processor. Where there is none, it is held against another
    kind's, of which exact and close are the same: another kind may round otherwise.
    """
    old, new = _list_rows(before), _list_rows(now)
    elsewhere = {key[1:]: verdict for key, verdict in old.items()}
    cells, seen = {cell for _, _, cell, _ in new}, {key[1:] for key in new}
    changes = []
    for key, verdict in new.items():
        known = old.get(key, elsewhere.get(key[1:], "none"))
        is_same = verdict == known or (key not in old and {verdict, known} <= {Verdict.EXACT, Verdict.CLOSE})
        changes += [] if is_same else [(key, known, verdict)]
    absent = {key[1:]: key for key in sorted(old, key=lambda key: key[0] in now) if key[2] in cells}
    changes += [(key, old[key], "none") for place, key in absent.items() if place not in seen]
    rows = ((variant, cell, kind, name, *verdicts) for (kind, variant, cell, name), *verdicts in changes)
    return sorted(rows)


def render(before: Records, now: Records) -> str:
    """What has changed, and under which versions, as Markdown; empty if nothing has."""
    changes = find_changes(before, now)
    versions = [
        (kind, name, *(records.get(kind, {"versions": {}})["versions"].get(name, "none") for records in (before, now)))
        for kind in sorted(now)
        for name in sorted({name for records in (before, now) if kind in records for name in records[kind]["versions"]})
    ]
    columns = ("variant", "device/dtype/attention", "processor", "input", "on record", "now")
    changed = [columns, ("---",) * len(columns), *changes]
    tables = [changed, [("processor", "version of", "on record", "now"), ("---",) * 4, *versions]]
    text = ["".join(f"| {' | '.join(row)} |\n" for row in table) for table in tables]
    return "\n".join([HEAD.format(len(changes)), *text]) if changes else ""


def _list_rows(records: Records) -> dict[tuple[str, str, str, str], str]:
    """Kind of processor, variant, cell and input, to verdict."""
    return {
        (kind, variant, cell, name): verdict
        for kind, record in records.items()
        for variant, cells in record["verdicts"].items()
        for cell, inputs in cells.items()
        for name, verdict in inputs.items()
    }


def was_exact(variant: str, family: str, cell: str, processor: str) -> bool:
    """Whether a cell of a variant is on record as exact on this kind of processor, but for known deviations.

    Of a model that is no official variant, whether it is for all those of its family that are on record.
    """
    if not RECORD.exists():  # as where the package alone is installed
        return False
    recorded = read_record().get(processor, {"verdicts": {}})["verdicts"]
    names = [variant] if variant in VARIANTS else [name for name, row in VARIANTS.items() if row.family == family]
    found = [set(recorded[name].get(cell, {}).values()) for name in names if name in recorded]
    return bool(found) and all(verdicts == {str(Verdict.EXACT)} for verdicts in found)


def read_record() -> Records:
    """What is on record, by kind of processor."""
    records: Records = json.loads(RECORD.read_text(encoding="utf-8"))
    return records


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the text of an issue. The status is 1 where something has changed, 2 where nothing can be compared."""
    parser = argparse.ArgumentParser("python -m conversion.report.history")
    parser.add_argument("directory", type=Path, metavar="DIR", help="a run's artifacts, at any depth")
    parser.add_argument(
        "--record", action="store_true", help="compare nothing, but put DIR on record, for the processors that it is of"
    )
    options = parser.parse_args(arguments)
    try:
        now = collect(options.directory)
        if options.record:
            kept = read_record() if RECORD.exists() else {}
            RECORD.write_text(json.dumps(kept | now, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            return 0
        text = render(read_record(), now)
    except (ArtifactError, *UNREADABLE) as error:
        reason = error if isinstance(error, ArtifactError) else f"{RECORD}: {error!r}"
        print(f"Nothing could be compared.\n\n{reason}")  # on stdout: it is an issue's text, too
        return 2
    print(text, end="")
    return 1 if text else 0


if __name__ == "__main__":
    sys.exit(main())
