"""DINOv2 with its authors' depth head, as DPT has it, trained on NYU Depth v2 or KITTI."""

from conversion.families.base import Family
from conversion.families.depth_architecture.capture import EXACT
from conversion.families.depth_architecture.config import BESIDE_CONFIG, RESAMPLING
from conversion.families.depth_architecture.original import bake_image_size
from conversion.families.depth_architecture.training import TRAINING
from conversion.families.dinov2_depth.capture import list_stages
from conversion.families.dinov2_depth.config import Dinov2DepthSpec, build_config, complete, read_config
from conversion.families.dinov2_depth.deviations import LEDGER
from conversion.families.dinov2_depth.key_map import select_key_map
from conversion.families.dinov2_depth.original import Dinov2Depth
from conversion.families.dinov2_depth.preprocessing import WholeImage, list_usage
from conversion.families.dinov2_depth.recognition import is_dinov2_depth, list_open, recognise_spec
from conversion.families.dinov2_depth.settings import SETTINGS
from conversion.families.heads import DEPTH_HEAD

FAMILY = Family(
    name="dinov2_depth",
    model_types=("dpt",),
    matches=is_dinov2_depth,
    build_spec=Dinov2DepthSpec,
    settings=SETTINGS,
    constants=RESAMPLING,
    recognise_spec=recognise_spec,
    list_open=list_open,
    build_config=build_config,
    read_config=read_config,
    beside_config=BESIDE_CONFIG | {"max_depth"},
    select_key_map=select_key_map,
    bake_image_size=bake_image_size,
    complete=complete,
    images=WholeImage(),
    attention_in="backbone_config",
    list_usage=list_usage,
    head=DEPTH_HEAD,
    training=TRAINING,
    build_original=Dinov2Depth,
    list_stages=list_stages,
    exact=EXACT,
    ledger=LEDGER,
)
