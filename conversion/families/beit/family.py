"""BEiT and BEiT v2: pretrained by masked image modeling, fine-tuned for classification, and with UPerNet."""

from conversion.families.base import Family
from conversion.families.beit.capture import EXACT, list_stages
from conversion.families.beit.config import BeitSpec, build_config, read_config
from conversion.families.beit.deviations import LEDGER
from conversion.families.beit.external import build_external
from conversion.families.beit.key_map import DROPPED, UNPLACED, select_key_map
from conversion.families.beit.original import build_original
from conversion.families.beit.recognition import find_lookalikes, list_open, recognise_spec
from conversion.families.beit.training import TRAINING
from conversion.families.beit_architecture.config import complete
from conversion.families.beit_architecture.external_timm import build_timm
from conversion.families.beit_architecture.mmseg import translate
from conversion.families.beit_architecture.original import derive_position_indices
from conversion.families.beit_architecture.preprocessing import SquareResize
from conversion.families.beit_architecture.recognition import is_beit_like, note_settings
from conversion.families.beit_architecture.settings import SETTINGS
from conversion.families.settings import AUTHORS

FAMILY = Family(
    name="beit",
    model_types=("beit",),
    matches=is_beit_like,
    yields_to="data2vec_vision",
    build_spec=BeitSpec,
    settings=SETTINGS,
    recognise_spec=recognise_spec,
    list_open=list_open,
    find_lookalikes=find_lookalikes,
    note_settings=note_settings,
    build_config=build_config,
    read_config=read_config,
    select_key_map=select_key_map,
    dropped=DROPPED,
    unplaced=UNPLACED,
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
