"""The options of the suite, and what they ask for."""

import argparse
import os
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from conversion.artifact.weights import check_size
from conversion.errors import ConversionError
from conversion.exports.asked import parse_export
from conversion.exports.bounds import parse_bound
from conversion.families.external import AUTO
from conversion.families.labels import read_labels
from conversion.families.settings import list_settings, option_of, parse_count, parse_integer
from conversion.families.variants import VARIANTS
from conversion.suite.settings import DTYPES, Request


def _path(text: str) -> Path:
    return Path(text).expanduser()  # behind an equals sign a shell leaves ~ as it is


def _parse(parse: Callable[[str], object], text: str) -> object:
    try:
        return parse(text)
    except (ValueError, ConversionError) as error:
        raise argparse.ArgumentTypeError(str(error)) from None


OF_MODELS: Mapping[str, Mapping[str, Any]] = {
    "--weights": {
        "choices": ("synthetic", "pretrained"),
        "default": "synthetic",
        "help": "seeded weights, no network; or the official downloads (default: synthetic)",
    },
    "--mirror": {"metavar": "URL", "help": "where to download from, in place of the official address"},
    "--checkpoint": {
        "type": _path,
        "metavar": "PATH",
        "help": "verify and convert this: a file, a folder, 'run/*.rank_*.pth'",
    },
    "--entry": {"metavar": "NAME", "help": "of --checkpoint: the entry that holds the model"},
    "--like": {
        "metavar": "NAME",
        "help": "of --checkpoint: the official model that tells shapes of FSDP's flat parameters",
    },
    "--linear-head": {"type": _path, "metavar": "PATH", "help": "the classifier file that goes with --checkpoint"},
    "--linear-head-entry": {"metavar": "NAME", "help": "of several heads in that file: the one to take"},
    "--depth-head": {"type": _path, "metavar": "PATH", "help": "DINOv2's depth head file that goes with --checkpoint"},
    "--save-dtype": {"choices": DTYPES, "metavar": "NAME", "help": "cast the weights (default: their own dtype)"},
    "--original": {
        "default": AUTO,
        "metavar": "PATH",
        "help": "whose code is the reference: bundled, hub, timm, or a clone of the authors' repository (timm for "
        "files that only timm writes, else bundled)",
    },
}
"""What is read, and whose code is the reference. The families' settings come next."""

OF_RUNS: Mapping[str, Mapping[str, Any]] = {
    "--labels": {"type": _path, "metavar": "PATH", "help": "class names: a name a line, or JSON"},
    "--device": {"action": "append", "metavar": "NAME", "help": "axis of the matrix (default: those present)"},
    "--dtype": {"action": "append", "metavar": "NAME", "help": "axis of the matrix (default: float32)"},
    "--attention": {"action": "append", "metavar": "NAME", "help": "axis of the matrix (default: eager, sdpa)"},
    "--image-size": {
        "type": partial(_parse, parse_integer),
        "metavar": "N",
        "help": "bake position embeddings for N x N pixels",
    },
    "--require-exact": {
        "action": "store_true",
        "help": "close is not enough where exact is on record of this kind of processor (default: on if CI is set)",
    },
    "--all": {
        "action": "store_true",
        "dest": "is_all",
        "help": "verify large variants whole, and try every fault and file; else what is not named by -k is shortened",
    },
    "--thorough": {
        "action": "store_true",
        "help": "verify every attention implementation on every input (default: the one that can be exact; the other "
        "on those of few patches). --all and --attention do so, too",
    },
    "--save-artifacts": {"action": "store_true", "help": "keep the converted models that passed"},
    "--max-shard-size": {
        "type": partial(_parse, check_size),
        "metavar": "SIZE",
        "help": "write shards of at most this size, as 5GB (one file)",
    },
    "--artifacts-dir": {"type": _path, "default": Path("artifacts"), "metavar": "DIR", "help": "where (artifacts)"},
    "--name": {"dest": "artifact_name", "metavar": "NAME", "help": "of its folder (the variant's)"},
    "--parity-report": {"type": _path, "metavar": "FILE", "help": "write what was found as one HTML file, for people"},
    "--export": {
        "action": "append",
        "type": partial(_parse, parse_export),
        "metavar": "RUNTIME",
        "help": "export to onnx, openvino or torch, judge that, too, and keep it in the artifact; a precision may "
        "follow, as onnx:float16 or onnx:int8",
    },
    "--require": {
        "action": "append",
        "type": partial(_parse, parse_bound),
        "metavar": "BOUND",
        "help": "what an export has to keep: cosine=0.99 or top1=0.95; and, as ratio=3, how many times the original's "
        "own error one may have that is not of integers",
    },
    "--pictures": {
        "type": _path,
        "metavar": "DIR",
        "help": "of your own: int8-static is calibrated on them, and exports are measured on them",
    },
    "--opset": {"type": partial(_parse, parse_count), "metavar": "N", "help": "of an ONNX export (torch's choice)"},
    "--normalize": {"action": "store_true", "help": "an export's graph takes images from 0 to 1 and normalises them"},
    "--push-to-hub": {
        "metavar": "NAMESPACE",
        "help": "publish what passed: NAMESPACE; or NAMESPACE/NAME, to that repository",
    },
    "--public": {"action": "store_true", "help": "publish to everybody (to the namespace alone)"},
    "--yes": {"action": "store_true", "help": "publish without asking"},
    "--seed": {
        "type": partial(_parse, parse_count),
        "default": 0,
        "metavar": "N",
        "help": "of synthetic weights and inputs",
    },
}


def add_options(group: pytest.OptionGroup) -> None:
    """Add all options, and those of the families' settings, to a group of pytest's."""
    settings = {
        option_of(name): {"type": partial(_parse, setting.parse), "help": setting.help}
        for name, setting in list_settings().items()
        if setting.is_option
    }
    for name, option in {**OF_MODELS, **settings, **OF_RUNS}.items():
        group.addoption(name, **option)


def read_request(option: argparse.Namespace) -> Request:
    """What the values of the options ask of every variant."""
    settings = {name: getattr(option, name) for name, setting in list_settings().items() if setting.is_option}
    return Request(
        keyword=option.keyword,
        is_all=option.is_all,
        is_thorough=option.thorough or option.is_all or bool(option.attention),
        seed=option.seed,
        weights=option.weights,
        mirror=option.mirror,
        checkpoint=option.checkpoint,
        variant=option.keyword if option.checkpoint and option.keyword in VARIANTS else None,
        entry=option.entry,
        like=option.like,
        linear_head=option.linear_head,
        linear_head_entry=option.linear_head_entry,
        depth_head=option.depth_head,
        save_dtype=option.save_dtype,
        labels=read_labels(option.labels) if option.labels else None,
        overrides={name: value for name, value in settings.items() if value is not None},
        image_size=option.image_size,
        max_shard_size=option.max_shard_size,
        original=option.original,
        artifacts=option.artifacts_dir if option.save_artifacts else None,
        name=option.artifact_name,
        require_exact=option.require_exact or os.environ.get("CI", "").lower() in ("true", "1"),
        report=option.parity_report,
        target=option.push_to_hub,
        public=option.public,
        is_agreed=option.yes,
        exports=tuple(dict.fromkeys(option.export or ())),
        bounds=tuple(option.require or ()),
        opset=option.opset,
        pictures=option.pictures,
        normalizes=option.normalize,
    )
