"""Data2Vec-Vision: known deviations of transformers and of its official converter, beside those of the architecture."""

from conversion.families.beit_architecture import deviations
from conversion.parity.deviations import Deviation

SEGMENTATION_NAMES = Deviation(
    name="segmentation-head-names",
    where="segmentation models, written for one major version of transformers and read by the other",
    cause="transformers 5 renamed the heads' modules on disk without a mapping, and fills what it misses at random",
    size="78 tensors of an official model",
    counterfactual="the names of the other major version",
    remedy="write the names of the installed major version and note it in the cards; another one is refused",
    avoided=True,
)

PRETRAINING_NORMALISATION = Deviation(
    name="pretraining-normalisation",
    where="the image processor of the pretrained models on the Hub, and the default of transformers' processor",
    cause="it normalises with a mean and standard deviation of 0.5; the authors' pretraining had ImageNet's",
    size="0.28 on average on the normalised pixels of the test photo, 1.1 at most",
    counterfactual="the original's images normalised with 0.5",
    remedy="write ImageNet's mean and standard deviation for pretrained models",
    avoided=True,
)

LEDGER = (*deviations.LEDGER, SEGMENTATION_NAMES, PRETRAINING_NORMALISATION)
