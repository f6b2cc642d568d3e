"""The closed table of tuners."""

from adapters.methods.base import Method
from adapters.methods.tuners.adalora import ADALORA
from adapters.methods.tuners.boft import BOFT
from adapters.methods.tuners.c3a import C3A
from adapters.methods.tuners.delora import DELORA
from adapters.methods.tuners.fourierft import FOURIERFT
from adapters.methods.tuners.gralora import GRALORA
from adapters.methods.tuners.hira import HIRA
from adapters.methods.tuners.hra import HRA
from adapters.methods.tuners.loha import LOHA
from adapters.methods.tuners.lokr import LOKR
from adapters.methods.tuners.miss import MISS
from adapters.methods.tuners.oft import OFT
from adapters.methods.tuners.randlora import RANDLORA
from adapters.methods.tuners.road import ROAD
from adapters.methods.tuners.shira import SHIRA
from adapters.methods.tuners.vblora import VBLORA
from adapters.methods.tuners.vera_vectors import VERA_VECTORS
from adapters.methods.tuners.waveft import WAVEFT

TUNERS: tuple[Method, ...] = (
    ADALORA,
    BOFT,
    C3A,
    DELORA,
    FOURIERFT,
    GRALORA,
    HIRA,
    HRA,
    LOHA,
    LOKR,
    MISS,
    OFT,
    RANDLORA,
    ROAD,
    SHIRA,
    VBLORA,
    VERA_VECTORS,
    WAVEFT,
)
