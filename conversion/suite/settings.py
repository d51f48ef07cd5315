"""What the command line asks of every variant."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from conversion.exports.asked import Export
from conversion.exports.bounds import Bound

DTYPES = ("float32", "float64", "bfloat16", "float16")
"""Names of torch dtypes: of the weights that are saved, and of what both models run in."""


@dataclass(frozen=True)
class Request:
    """See the options, of which these are the values.

    Attributes:
        keyword: the expression of ``-k``.
        is_all: ``--all`` was given.
        is_thorough: every attention implementation is verified on every input.
        save_dtype: that weights are cast to, one of :data:`DTYPES`.
        variant: official one that ``checkpoint`` is said to be.
        linear_head_entry: name of the head to take, where that file holds several.
        name: of the folder under ``artifacts``, in place of the variant's.
        output: the folder to write, in place of one under ``artifacts``.
        exports: what the artifact is exported to.
        bounds: what an export has to keep.
        opset: of ONNX.
        pictures: folder of the user's own, for exports.
        normalizes: an export's graph takes images from 0 to 1, and normalises them.
    """

    keyword: str = ""
    is_all: bool = False
    is_thorough: bool = False
    seed: int = 0
    weights: str = "synthetic"
    mirror: str | None = None
    checkpoint: Path | None = None
    variant: str | None = None
    linear_head: Path | None = None
    linear_head_entry: str | None = None
    depth_head: Path | None = None
    entry: str | None = None
    like: str | None = None
    save_dtype: str | None = None
    labels: tuple[str, ...] | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    image_size: int | None = None
    max_shard_size: str | None = None
    original: str = "auto"
    artifacts: Path | None = None
    name: str | None = None
    output: Path | None = None
    require_exact: bool = False
    report: Path | None = None
    target: str | None = None
    public: bool = False
    is_agreed: bool = False
    exports: tuple[Export, ...] = ()
    bounds: tuple[Bound, ...] = ()
    opset: int | None = None
    pictures: Path | None = None
    normalizes: bool = False

    @property
    def is_named(self) -> bool:
        """Whether its user says where the model goes."""
        return self.output is not None or self.name is not None

    def name_artifact(self, variant: str, baked: int | None) -> str:
        """The name of the folder under ``artifacts``: the variant's, with the size that it is baked for."""
        return self.name or (f"{variant}_{baked}" if baked else variant)
