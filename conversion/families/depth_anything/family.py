"""Depth Anything, V1 and V2: DINOv2 with a depth head, whose depth is relative or in metres."""

from conversion.families.base import Family
from conversion.families.depth_anything.capture import list_stages
from conversion.families.depth_anything.config import DepthAnythingSpec, build_config, read_config
from conversion.families.depth_anything.deviations import LEDGER
from conversion.families.depth_anything.key_map import select_key_map
from conversion.families.depth_anything.original import DepthAnything
from conversion.families.depth_anything.preprocessing import AspectResize, list_usage
from conversion.families.depth_anything.recognition import is_depth_anything, list_open, recognise_spec
from conversion.families.depth_anything.settings import SETTINGS
from conversion.families.depth_architecture.capture import EXACT
from conversion.families.depth_architecture.config import BESIDE_CONFIG, RESAMPLING
from conversion.families.depth_architecture.original import bake_image_size
from conversion.families.depth_architecture.training import TRAINING

FAMILY = Family(
    name="depth_anything",
    model_types=("depth_anything",),
    matches=is_depth_anything,
    build_spec=DepthAnythingSpec,
    settings=SETTINGS,
    constants=RESAMPLING,
    recognise_spec=recognise_spec,
    list_open=list_open,
    build_config=build_config,
    read_config=read_config,
    beside_config=BESIDE_CONFIG,
    select_key_map=select_key_map,
    bake_image_size=bake_image_size,
    images=AspectResize(),
    attention_in="backbone_config",
    list_usage=list_usage,
    training=TRAINING,
    build_original=DepthAnything,
    list_stages=list_stages,
    exact=EXACT,
    ledger=LEDGER,
)
