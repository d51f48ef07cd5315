"""What tensors cannot tell, as data: the settings, how each is parsed, and its help.

Nothing here imports torch: help, and what is typed wrongly, need not wait for it.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from pathlib import Path
from typing import Any

from conversion.families.images import IMAGENET_MEAN, RESAMPLING, RGB, Channels
from conversion.families.variants import VARIANTS

AUTHORS, TIMM = "the authors' code", "timm's code"
"""Who wrote a state dict, by the names of its keys."""

GATING = "silu"
"""The activation of the authors' gated feed-forward. timm's is gated by GELU unless it was built with another."""

FAMILY = "family"
"""The setting that tells whose model it is, of families whose models no tensor tells apart."""


@dataclass(frozen=True)
class Setting:
    """Something that tensors cannot tell.

    Attributes:
        field: of the spec that it determines; empty where only the usual value is supported.
        parse: from a value or the text of a command line; raises ValueError or TypeError.
        help: what it is, for the help of its option.
        neutral: what stands in for it while nobody has told it.
        fixed_by: whose code has no other value than the usual one: writers of state dicts.
        is_needed: nothing is converted before somebody tells it. Else what depends on it is not claimed.
        is_option: whether it may be given on the command line.
    """

    field: str
    parse: Callable[[Any], object]
    help: str
    neutral: object = None
    fixed_by: frozenset[str] = frozenset()
    is_needed: bool = True
    is_option: bool = True


INPUT_SIZE = "input_size"
"""Setting of the side of the images that an image processor makes."""

LAST_BLOCK = -1
"""Number of the last block."""

BLOCKS_HELP = "blocks, counted from 0, whose outputs a head takes or a feature backbone returns, as 3,5,7,11"


def option_of(name: str) -> str:
    """The option of the command line that gives a setting."""
    return f"--{name.replace('_', '-')}"


def parse_integer(value: Any) -> int:
    """Parse a whole number from 1 up."""
    return _parse_from(1, value)


def parse_count(value: Any) -> int:
    """Parse a whole number from 0 up."""
    return _parse_from(0, value)


def parse_integers(value: Any) -> tuple[int, ...]:
    """Parse several whole numbers from 0 up, given as numbers or as text with commas."""
    return tuple(map(parse_count, value.split(",") if isinstance(value, str) else value))


def parse_blocks(value: Any) -> tuple[int, ...]:
    """Parse numbers of blocks, counted from 0, given as numbers or as text with commas; or ``last``."""
    return (LAST_BLOCK,) if value in ("last", (LAST_BLOCK,)) else parse_integers(value)


def _parse_from(least: int, value: Any) -> int:
    if not isinstance(value, int | str) or isinstance(value, bool):
        raise TypeError(f"{value!r} is no whole number")
    try:
        number = int(value)
    except ValueError:
        number = least - 1
    if number < least:
        raise ValueError(f"{value!r} is no whole number from {least} up")
    return number


def parse_positive(value: Any) -> float:
    """Parse a number above 0."""
    number = float(value)
    if not 0 < number < math.inf:
        raise ValueError(f"{value!r} is not a number above 0")
    return number


def parse_offset(value: Any) -> float:
    """Parse a number from 0 to below 1."""
    number = float(value)
    if not 0 <= number < 1:
        raise ValueError(f"{value!r} is not a number from 0 to below 1")
    return number


def parse_flag(value: Any) -> bool:
    """Parse true or false."""
    flags = {"true": True, "false": False}
    if str(value).lower() not in flags:
        raise ValueError(f"{value!r} is neither true nor false")
    return flags[str(value).lower()]


def parse_choice(*choices: str) -> Callable[[Any], str]:
    """Build the parser of one of a few words."""

    def parse(value: Any) -> str:
        if value not in choices:
            supported = ", ".join(map(repr, choices))
            raise ValueError(f"{value!r} is not supported; only {supported}")
        return str(value)

    return parse


def parse_mean(value: Any) -> Channels:
    """Parse the means of red, green and blue, from 0 to 1, given as numbers or as text with commas."""
    red, green, blue = map(float, _split(value))
    if not all(0 <= each <= 1 for each in (red, green, blue)):
        raise ValueError(f"{value!r}: means of red, green and blue lie between 0 and 1")
    return red, green, blue


def parse_std(value: Any) -> Channels:
    """Parse the standard deviations of red, green and blue, given as numbers or as text with commas."""
    red, green, blue = map(parse_positive, _split(value))
    return red, green, blue


def _split(value: Any) -> list[Any]:
    """Split into three numbers, or the texts of three."""
    parts = list(value.split(",") if isinstance(value, str) else value)
    if len(parts) != len(IMAGENET_MEAN):
        raise ValueError(f"{value!r} is not three numbers, as 0.485,0.456,0.406")
    return parts


LEAST_SHARE = 0.1
"""Of the short edge, in a crop; of less, an image would be made so large that memory ends."""


def parse_crop_pct(value: Any) -> float:
    """Parse the share of the short edge that the crop keeps."""
    share = parse_positive(value)
    if not LEAST_SHARE <= share <= 1:
        raise ValueError(f"{value!r} is no share of an image from {LEAST_SHARE} to 1")
    return share


OF_ANYBODY = frozenset({AUTHORS, TIMM})

GLOBAL_POOL_HELP = "what a timm or linear classifier of one vector pools, without timm's config.json: token or avg"


def parse_pooling(value: Any) -> str:
    """Parse what a classifier pools: the CLS token, also where timm pools nothing, or the mean of the patches."""
    return parse_choice("token", "avg")(value or "token")


TRANSFORMER_SETTINGS = {
    "num_attention_heads": Setting("num_heads", parse_integer, "number of attention heads", neutral=1),
    "layer_norm_eps": Setting("layer_norm_eps", parse_positive, "epsilon of the layer norms", fixed_by=OF_ANYBODY),
    "hidden_act": Setting(
        "", str, "activation of the feed-forward: gelu, or silu where it is gated", fixed_by=OF_ANYBODY
    ),
    "global_pool": Setting("", parse_pooling, GLOBAL_POOL_HELP, fixed_by=OF_ANYBODY),
}
"""What tensors cannot tell of any vision transformer."""

OF_AUTHORS = frozenset({AUTHORS})

NORMALISATION_SETTINGS = {
    "image_mean": Setting("image_mean", parse_mean, "mean of the images, as 0.485,0.456,0.406", fixed_by=OF_AUTHORS),
    "image_std": Setting("image_std", parse_std, "standard deviation, as 0.229,0.224,0.225", fixed_by=OF_AUTHORS),
}

CROP_SETTINGS = {
    "crop_pct": Setting(
        "crop_pct", parse_crop_pct, "share of the short edge that the centre crop keeps, as 0.875", fixed_by=OF_AUTHORS
    ),
    "interpolation": Setting(
        "interpolation", parse_choice(*RESAMPLING), f"of images: {', '.join(RESAMPLING)}", fixed_by=OF_AUTHORS
    ),
    INPUT_SIZE: Setting(
        "input_size", parse_integer, "side of the images that the image processor makes, in pixels", is_needed=False
    ),
}

IMAGE_SETTINGS = {**NORMALISATION_SETTINGS, **{name: CROP_SETTINGS[name] for name in ("crop_pct", "interpolation")}}

SETTINGS = {**TRANSFORMER_SETTINGS, **IMAGE_SETTINGS}
"""What tensors cannot tell of a vision transformer that takes images of one size."""


def list_unused(num_channels: int) -> frozenset[str]:
    """List the settings of images that are of no use to a model of so many channels: it gets no image processor."""
    return frozenset() if num_channels == RGB else frozenset({*NORMALISATION_SETTINGS, *CROP_SETTINGS})


def list_settings() -> dict[str, Setting]:
    """List the settings of all families: what a caller may say that tensors cannot tell."""
    found: dict[str, list[Setting]] = {}
    for family in list_families():
        for name, setting in _load_settings(family).items():
            found.setdefault(name, []).append(setting)
    return {
        name: replace(settings[0], parse=_parse_by_any([each.parse for each in settings]))
        for name, settings in found.items()
    }


def _parse_by_any(parsers: Sequence[Callable[[Any], object]]) -> Callable[[Any], object]:
    """Parse as one of several families does: which one it is, the checkpoint tells later."""

    def parse(value: Any) -> object:
        problems: list[ValueError | TypeError] = []
        for each in parsers:
            try:
                return each(value)
            except (ValueError, TypeError) as error:
                problems.append(error)
        raise problems[0]

    return parse


def list_families() -> list[str]:
    """Name every family that has a row in the table of variants."""
    return list(dict.fromkeys(variant.family for variant in VARIANTS.values()))


def find_module(family: str) -> str:
    """Name the module that holds the ``FAMILY``: the family's own, or a file in its folder."""
    return f"{__package__}.{family}.family" if (Path(__file__).parent / family).is_dir() else f"{__package__}.{family}"


def _load_settings(family: str) -> Mapping[str, Setting]:
    """The settings of one family: a folder has a file of them, a module's ``FAMILY`` names them."""
    module = find_module(family)
    if module.endswith(".family"):
        settings: Mapping[str, Setting] = import_module(f"{__package__}.{family}.settings").SETTINGS
        return settings
    return import_module(module).FAMILY.settings  # type: ignore[no-any-return]
