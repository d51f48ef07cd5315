"""Data2Vec-Vision (BEiT): pretrained, fine-tuned for classification, and with UPerNet for segmentation."""

from functools import partial

from conversion.families.base import Family
from conversion.families.beit_architecture.config import build_config, complete, read_config
from conversion.families.beit_architecture.external_timm import build_timm
from conversion.families.beit_architecture.mmseg import translate
from conversion.families.beit_architecture.original import derive_position_indices
from conversion.families.beit_architecture.preprocessing import SquareResize
from conversion.families.beit_architecture.recognition import note_settings, recognise_spec
from conversion.families.beit_architecture.settings import SETTINGS
from conversion.families.data2vec_vision.capture import EXACT, list_stages
from conversion.families.data2vec_vision.config import Data2VecVisionSpec
from conversion.families.data2vec_vision.deviations import LEDGER
from conversion.families.data2vec_vision.external import build_external
from conversion.families.data2vec_vision.key_map import DROPPED, select_key_map
from conversion.families.data2vec_vision.original import build_original
from conversion.families.data2vec_vision.recognition import find_lookalikes, is_data2vec_vision, list_open
from conversion.families.data2vec_vision.training import TRAINING
from conversion.families.settings import AUTHORS

FAMILY = Family(
    name="data2vec_vision",
    model_types=("data2vec-vision",),
    matches=is_data2vec_vision,
    build_spec=Data2VecVisionSpec,
    settings=SETTINGS,
    recognise_spec=partial(recognise_spec, Data2VecVisionSpec),
    list_open=list_open,
    find_lookalikes=find_lookalikes,
    note_settings=note_settings,
    build_config=build_config,
    read_config=partial(read_config, Data2VecVisionSpec),
    select_key_map=select_key_map,
    dropped=DROPPED,
    derive=derive_position_indices,
    complete=complete,
    images=SquareResize(),
    training=TRAINING,
    build_original=build_original,
    list_stages=list_stages,
    exact=EXACT,
    ledger=LEDGER,
    build_external=build_external,
    translate=translate,  # timm's BEiT has the original's names
    foreign=AUTHORS,  # mmsegmentation's BEiT has no other settings than theirs
    build_timm=build_timm,
)
