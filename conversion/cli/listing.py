"""``vision-parity variants``: the table of official variants."""

import json
from typing import Any

import typer
from rich.console import Console
from rich.table import Table

from conversion.families.variants import VARIANTS


def show_variants(*, as_json: bool) -> None:
    """Write the official variants."""
    rows: list[dict[str, Any]] = [
        {
            "variant": row.name,
            "family": row.family,
            "published": row.is_published,
            "hub": row.hub_repository or None,
        }
        for row in VARIANTS.values()
    ]
    if as_json:
        typer.echo(json.dumps(rows, indent=1))
        return
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="bold")
    table.add_column("variant", no_wrap=True)
    table.add_column("official model on the Hub", overflow="fold")
    for row in rows:
        table.add_row(row["variant"], row["hub"] or ("" if row["published"] else "a recipe: no weights are published"))
    Console().print(table)
