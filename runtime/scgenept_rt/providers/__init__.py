"""Execution providers: which of them work on this machine, why not, and which one to use.

`diagnose` examines the machine, `select_provider` decides, `verify_active` checks the session that was opened.
Nothing here imports ONNX Runtime before a function is called, and everything works without it.
"""

from scgenept_rt.providers.diagnosis import ProviderStatus, diagnose, diagnose_provider
from scgenept_rt.providers.onnx_runtime import import_onnxruntime, register_tensorrt_rtx
from scgenept_rt.providers.selection import ProviderChoice, select_provider, verify_active
from scgenept_rt.providers.threads import cpu_threads
from scgenept_rt.providers.traits import PROVIDER_NAMES, TRAITS, ProviderName, ProviderTraits

__all__ = [
    "PROVIDER_NAMES",
    "TRAITS",
    "ProviderChoice",
    "ProviderName",
    "ProviderStatus",
    "ProviderTraits",
    "cpu_threads",
    "diagnose",
    "diagnose_provider",
    "import_onnxruntime",
    "register_tensorrt_rtx",
    "select_provider",
    "verify_active",
]
