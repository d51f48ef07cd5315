"""Bad checkpoints: every step of intake broken in its own way, and what each must be refused with."""

from tests.support.corpus.contents import CONTENT, TENSORS
from tests.support.corpus.distributed import DISTRIBUTED
from tests.support.corpus.files import CODE, DAMAGED, NO_FILE, SAFETENSORS
from tests.support.corpus.folders import PARTIAL
from tests.support.corpus.hostile import PICKLES, SHOWN_TWICE, VIEWS
from tests.support.corpus.making import BadInput
from tests.support.corpus.sets import FOLDERS, RANKS, SHARDS

CORPUS: dict[str, BadInput] = {
    name: bad
    for group in (
        NO_FILE,
        DAMAGED,
        SAFETENSORS,
        CODE,
        CONTENT,
        TENSORS,
        SHARDS,
        RANKS,
        FOLDERS,
        DISTRIBUTED,
        PARTIAL,
        PICKLES,
        SHOWN_TWICE,
        VIEWS,
    )
    for name, bad in group.items()
}
