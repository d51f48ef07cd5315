"""``python -m conversion``: ``verify`` holds artifacts against their cards, ``report`` makes a page of records."""

import argparse
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from conversion.artifact.derived import describe_unproven
from conversion.artifact.verify import verify_artifact
from conversion.errors import ConversionError
from conversion.families.external import BUNDLED
from conversion.parity.verdict import OURS, Tolerances

CHECKOUT = Path(__file__).parents[1]
CHECKSUMS = CHECKOUT / "fixtures" / "checksums.json"
"""Of official files, as downloads record them; an installed package has none."""


def verify(options: argparse.Namespace) -> int:
    """Verify every artifact; the status is 1 if one is not what it should be."""
    tolerances, status = Tolerances(**{name: getattr(options, name) for name in asdict(OURS)}), 0
    is_said = False
    for directory in options.directories:
        try:
            card = verify_artifact(directory, tolerances, CHECKSUMS)
        except ConversionError as error:
            print(error, file=sys.stderr)
            status = 1
            continue
        print(f"{directory}: {card['verdict']}: {describe(card)}")
        if not is_said:
            print(describe_unproven())
            is_said = True
        if options.deep:
            status = compare_again(directory, card) or status
    return status


def describe(card: Mapping[str, Any]) -> str:
    """What was compared, in a line."""
    points = sum(len(result["points"]) for cell in card["activations"] for result in cell["inputs"])
    inputs = sum(len(cell["inputs"]) for cell in card["activations"])
    tensors = card["tensors"]["compared"]
    return f"{tensors} tensors; {points} capture points, on {inputs} inputs; {len(card['result'])} files as they were"


def compare_again(directory: Path, card: Mapping[str, Any]) -> int:
    """Run the comparison once more, in the cells of the matrix that the card has: pytest's status."""
    cells = card["activations"]
    axes = [
        f"--{axis}={name}"
        for axis in ("device", "dtype", "attention")
        for name in dict.fromkeys(cell[axis] for cell in cells)
    ]
    for original in sorted({cell["original"] for cell in cells} - {BUNDLED}):
        print(f"{directory}: was compared with {original}; the bundled original takes its place")
    status = 0
    for seed in sorted({cell["input_seed"] for cell in cells}):
        command = [sys.executable, "-m", "pytest", f"--checkpoint={directory.absolute()}", f"--seed={seed}", *axes]
        status = subprocess.run(command, cwd=CHECKOUT, check=False).returncode or status
    return status


def report(options: argparse.Namespace) -> int:
    """Make one page of all records in some folders; the status is 1 if there is none, or one cannot be used."""
    from conversion.report.records import gather
    from conversion.report.render import demand_place, describe_counts, write_report

    try:
        demand_place(options.output, "--output")
        record = gather(options.folders)
        write_report(record, options.output)
    except (ConversionError, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    print(f"{options.output}: {describe_counts(record)}")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit status."""
    parser = argparse.ArgumentParser("python -m conversion")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")
    command = commands.add_parser("verify", help="is this artifact what its card says, and does the card say enough?")
    command.add_argument("directories", type=Path, nargs="+", metavar="DIR", help="as --save-artifacts left it")
    command.add_argument("--deep", action="store_true", help="run the comparison again, too; needs a checkout")
    for name, default in asdict(OURS).items():
        option = f"--{name.replace('_', '-')}"
        command.add_argument(option, type=float, default=default, metavar="X", help=f"to judge by, not by {default:g}")
    command.set_defaults(run=verify)
    command = commands.add_parser("report", help="one HTML page of the records in these folders, whoever left them")
    command.add_argument(
        "folders", type=Path, nargs="+", metavar="PATH", help="artifacts, records beside reports, both"
    )
    command.add_argument("--output", type=Path, default=Path("report.html"), metavar="FILE", help="(report.html)")
    command.set_defaults(run=report)
    options = parser.parse_args(arguments)
    return int(options.run(options))


if __name__ == "__main__":
    sys.exit(main())
