"""DINOv3's vision transformers."""

from conversion.families.base import Family
from conversion.families.dinov3.capture import EXACT, list_stages
from conversion.families.dinov3.config import BESIDE_CONFIG, Dinov3Spec, build_config, complete, read_config
from conversion.families.dinov3.deviations import LEDGER
from conversion.families.dinov3.external_timm import build_timm
from conversion.families.dinov3.key_map import DROPPED, UNPLACED, select_key_map
from conversion.families.dinov3.original import Dinov3
from conversion.families.dinov3.preprocessing import SquareTensorResize
from conversion.families.dinov3.recognition import (
    fallback,
    list_open,
    note_settings,
    read_values,
    recognise_spec,
)
from conversion.families.dinov3.settings import SETTINGS
from conversion.families.dinov3.timm import translate
from conversion.families.dinov3.training import TRAINING
from conversion.families.shapes import has_rotary_positions

FAMILY = Family(
    name="dinov3",
    model_types=("dinov3_vit",),
    matches=has_rotary_positions,
    build_spec=Dinov3Spec,
    settings=SETTINGS,
    recognise_spec=recognise_spec,
    read_values=read_values,
    list_open=list_open,
    note_settings=note_settings,
    build_config=build_config,
    read_config=read_config,
    beside_config=BESIDE_CONFIG,
    select_key_map=select_key_map,
    dropped=DROPPED,
    unplaced=UNPLACED,
    fallback=fallback,
    complete=complete,
    filled_with_ones=("*.gamma",),
    images=SquareTensorResize(),
    training=TRAINING,
    build_original=Dinov3,
    list_stages=list_stages,
    exact=EXACT,
    ledger=LEDGER,
    translate=translate,
    build_timm=build_timm,
)
