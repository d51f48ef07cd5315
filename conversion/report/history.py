"""The verdicts of a run beside those on record: ``python -m conversion.report.history DIR`` prints what has changed.

A record is ``{"versions": {library: version}, "verdicts": {variant: {device/dtype/attention: {input: verdict}}}}``.
"""

import argparse
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from conversion.artifact.card import SCHEMA
from conversion.errors import ArtifactError
from conversion.parity.verdict import Verdict
from conversion.state_dicts.folder import PARITY_CARD

RECORD = Path(__file__).parents[2] / "fixtures" / "verdicts.json"
HEAD = """Verdicts that are not those on record: {}. Where there is none now, a test of that variant failed, or was not
run: only what has passed leaves a card.
"""
UNREADABLE = (AttributeError, KeyError, OSError, TypeError, ValueError)  # what JSON of another shape comes to


def collect(directory: Path) -> dict[str, Any]:
    """All cards in a folder, at any depth, as one record; of several machines, with the versions of each.

    Raises:
        ArtifactError: there is no card, one cannot be read or holds no comparison, or two contradict each other.
    """
    verdicts: dict[str, dict[str, dict[str, str]]] = {}
    versions: dict[str, set[str]] = {}
    problems = []
    for path in sorted(directory.rglob(PARITY_CARD)):
        try:
            card = json.loads(path.read_text(encoding="utf-8"))
            if card["schema"] != SCHEMA or not any(cell["inputs"] for cell in card["activations"]):
                raise ValueError(f"no comparison by {SCHEMA} in it")
            for cell in card["activations"]:
                device = cell["device"].partition(":")[0]  # any GPU of a machine stands for all
                name = f"{device}/{cell['dtype']}/{cell['attention']}"
                inputs = verdicts.setdefault(card["variant"], {}).setdefault(name, {})
                for result in cell["inputs"]:
                    verdict = str(Verdict(result["verdict"]))
                    if inputs.setdefault(result["input"], verdict) != verdict:
                        raise ValueError(f"{result['input']} is {verdict}, in another card {inputs[result['input']]}")
            for name, version in card["versions"].items():
                versions.setdefault(name, set()).add(str(version))
        except UNREADABLE as error:
            problems.append(f"{path}: {error!r}")
    if problems or not verdicts:
        raise ArtifactError(f"{directory}: nothing to compare.", problems or [f"no {PARITY_CARD} in it"])
    return {"versions": {name: " or ".join(sorted(found)) for name, found in versions.items()}, "verdicts": verdicts}


def find_changes(before: dict[str, Any], now: dict[str, Any]) -> list[tuple[str, ...]]:
    """Variant, cell, input, verdict before and now, in the cells of the matrix that the run has a card of."""
    old, new = ({row[:3]: row[3] for row in _list_rows(record)} for record in (before, now))
    keys = sorted(key for key in old.keys() | new.keys() if key[1] in {cell for _, cell, _ in new})
    return [(*key, old.get(key, "none"), new.get(key, "none")) for key in keys if old.get(key) != new.get(key)]


def render(before: dict[str, Any], now: dict[str, Any]) -> str:
    """What has changed, and under which versions, as Markdown; empty if nothing has."""
    changes = find_changes(before, now)
    names = sorted(before["versions"].keys() | now["versions"].keys())
    versions = [(name, *(record["versions"].get(name, "none") for record in (before, now))) for name in names]
    changed = [("variant", "device/dtype/attention", "input", "on record", "now"), ("---",) * 5, *changes]
    tables = [changed, [("version of", "on record", "now"), ("---",) * 3, *versions]]
    text = ["".join(f"| {' | '.join(row)} |\n" for row in table) for table in tables]
    return "\n".join([HEAD.format(len(changes)), *text]) if changes else ""


def _list_rows(record: dict[str, Any]) -> list[tuple[str, ...]]:
    cells = [(variant, *cell) for variant, found in record["verdicts"].items() for cell in found.items()]
    return [(variant, cell, *result) for variant, cell, inputs in cells for result in inputs.items()]


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the text of an issue. The status is 1 where something has changed, 2 where nothing can be compared."""
    parser = argparse.ArgumentParser("python -m conversion.report.history")
    parser.add_argument("directory", type=Path, metavar="DIR", help="a run's artifacts, at any depth")
    parser.add_argument("--record", action="store_true", help="compare nothing, but put DIR on record")
    options = parser.parse_args(arguments)
    try:
        now = collect(options.directory)
        if options.record:
            RECORD.write_text(json.dumps(now, indent=1, sort_keys=True) + "\n", encoding="utf-8")
            return 0
        text = render(json.loads(RECORD.read_text(encoding="utf-8")), now)
    except (ArtifactError, *UNREADABLE) as error:
        reason = error if isinstance(error, ArtifactError) else f"{RECORD}: {error!r}"
        print(f"Nothing could be compared.\n\n{reason}")  # on stdout: it is an issue's text, too
        return 2
    print(text, end="")
    return 1 if text else 0


if __name__ == "__main__":
    sys.exit(main())
