"""The closed table of tuners."""

from adapters.methods.base import Method
from adapters.methods.tuners.adalora import ADALORA
from adapters.methods.tuners.adamss import ADAMSS
from adapters.methods.tuners.beft import BEFT
from adapters.methods.tuners.boft import BOFT
from adapters.methods.tuners.c3a import C3A
from adapters.methods.tuners.deft import DEFT
from adapters.methods.tuners.delora import DELORA
from adapters.methods.tuners.fourierft import FOURIERFT
from adapters.methods.tuners.frod import FROD
from adapters.methods.tuners.glora import GLORA
from adapters.methods.tuners.gralora import GRALORA
from adapters.methods.tuners.hira import HIRA
from adapters.methods.tuners.hra import HRA
from adapters.methods.tuners.lily import LILY
from adapters.methods.tuners.loha import LOHA
from adapters.methods.tuners.lokr import LOKR
from adapters.methods.tuners.miss import MISS
from adapters.methods.tuners.oft import OFT
from adapters.methods.tuners.osf import OSF
from adapters.methods.tuners.peanut import PEANUT
from adapters.methods.tuners.poly import POLY
from adapters.methods.tuners.psoft import PSOFT
from adapters.methods.tuners.pvera import PVERA
from adapters.methods.tuners.randlora import RANDLORA
from adapters.methods.tuners.road import ROAD
from adapters.methods.tuners.shira import SHIRA
from adapters.methods.tuners.supertuning import SUPERTUNING
from adapters.methods.tuners.tinylora import TINYLORA
from adapters.methods.tuners.unilora import UNILORA
from adapters.methods.tuners.vblora import VBLORA
from adapters.methods.tuners.vera_vectors import VERA_VECTORS
from adapters.methods.tuners.waveft import WAVEFT

TUNERS: tuple[Method, ...] = (
    ADALORA,
    ADAMSS,
    BEFT,
    BOFT,
    C3A,
    DEFT,
    DELORA,
    FOURIERFT,
    FROD,
    GLORA,
    GRALORA,
    HIRA,
    HRA,
    LILY,
    LOHA,
    LOKR,
    MISS,
    OFT,
    OSF,
    PEANUT,
    POLY,
    PSOFT,
    PVERA,
    RANDLORA,
    ROAD,
    SHIRA,
    SUPERTUNING,
    TINYLORA,
    UNILORA,
    VBLORA,
    VERA_VECTORS,
    WAVEFT,
)
