"""Execution providers: which of them work on this machine, why not, and which one to use.

`diagnose` examines the machine, `select_provider` decides, `verify_active` checks the session that was opened.
Nothing here imports ONNX Runtime before a function is called, and everything works without it.
"""

from scgenept_rt.providers.diagnosis import diagnose, diagnose_provider
from scgenept_rt.providers.onnx_runtime import import_onnxruntime
from scgenept_rt.providers.selection import ProviderChoice, select_provider, verify_active
from scgenept_rt.providers.traits import PROVIDER_NAMES, TRAITS

__all__ = [
    "PROVIDER_NAMES",
    "TRAITS",
    "ProviderChoice",
    "diagnose",
    "diagnose_provider",
    "import_onnxruntime",
    "select_provider",
    "verify_active",
]
