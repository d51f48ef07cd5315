"""Data2Vec-Vision (BEiT): pretrained, fine-tuned for classification, and with UPerNet for segmentation."""

from conversion.families.base import Family
from conversion.families.data2vec_vision.capture import EXACT, find_deviation, list_stages
from conversion.families.data2vec_vision.config import (
    BESIDE_CONFIG,
    Data2VecVisionSpec,
    build_config,
    complete,
    read_config,
)
from conversion.families.data2vec_vision.deviations import LEDGER
from conversion.families.data2vec_vision.external import build_external
from conversion.families.data2vec_vision.external_timm import build_timm
from conversion.families.data2vec_vision.key_map import DROPPED, select_key_map
from conversion.families.data2vec_vision.mmseg import translate
from conversion.families.data2vec_vision.original import bake_image_size, derive_position_indices
from conversion.families.data2vec_vision.preprocessing import (
    build_image_processor,
    build_transform,
    find_image_deviation,
)
from conversion.families.data2vec_vision.recognition import (
    SETTINGS,
    find_lookalikes,
    is_data2vec_vision,
    list_open,
    note_settings,
    recognise_spec,
)
from conversion.families.data2vec_vision.segmentation import build_original
from conversion.families.data2vec_vision.training import DEFAULT_ENTRIES, DISTRIBUTIONS, choose_entry, pack
from conversion.families.images import list_unused
from conversion.families.told import AUTHORS

FAMILY = Family(
    name="data2vec_vision",
    model_types=("data2vec-vision",),
    dropped=DROPPED,
    translate=translate,  # timm's BEiT has the original's names
    foreign=AUTHORS,  # mmsegmentation's BEiT has no other settings than theirs
    matches=is_data2vec_vision,
    build_spec=Data2VecVisionSpec,
    settings=SETTINGS,
    recognise_spec=recognise_spec,
    list_open=list_open,
    build_config=build_config,
    read_config=read_config,
    select_key_map=select_key_map,
    derive=derive_position_indices,
    build_original=build_original,
    build_external=build_external,
    hub_repository="",
    entry=choose_entry,
    pack=pack,
    distributions=DISTRIBUTIONS,
    bake_image_size=bake_image_size,
    choose_input_size=lambda spec: spec.image_size,
    build_image_processor=build_image_processor,
    build_transform=build_transform,
    find_image_deviation=find_image_deviation,
    list_stages=list_stages,
    exact=EXACT,
    find_deviation=find_deviation,
    ledger=LEDGER,
    find_lookalikes=find_lookalikes,
    note_settings=note_settings,
    beside_config=BESIDE_CONFIG,
    default_entries=DEFAULT_ENTRIES,
    build_timm=build_timm,
    complete=complete,
    list_unused=lambda spec: list_unused(spec.num_channels),
)
