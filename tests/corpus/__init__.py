"""Bad checkpoints: every step of intake broken in its own way, and what each must be refused with."""

from tests.corpus.contents import CONTENT, TENSORS
from tests.corpus.files import CODE, DAMAGED, NO_FILE, SAFETENSORS
from tests.corpus.making import BadInput
from tests.corpus.sets import FOLDERS, RANKS, SHARDS

CORPUS: dict[str, BadInput] = {
    name: bad
    for group in (NO_FILE, DAMAGED, SAFETENSORS, CODE, CONTENT, TENSORS, SHARDS, RANKS, FOLDERS)
    for name, bad in group.items()
}
