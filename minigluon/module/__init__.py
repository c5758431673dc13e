"""A module knows its inputs, its outputs and the gradients of its inputs: enough to put modules in a row, and to write one in Python."""

# Written from chapters/89a_chains_of_modules.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.module import executor_group
from minigluon.module.base_module import BaseModule
from minigluon.module.bucketing_module import BucketingModule
from minigluon.module.module import Module
from minigluon.module.python_module import PythonLossModule, PythonModule
from minigluon.module.sequential_module import SequentialModule

# --- Chains of modules ----------------------------------------------------------------------------

__all__ = [
    "BaseModule",
    "BucketingModule",
    "Module",
    "PythonLossModule",
    "PythonModule",
    "SequentialModule",
    "executor_group",  # which gives a module its `_exec_group`
]
