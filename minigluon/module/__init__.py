"""Write the network down first, give it memory second, run it third: the older half of MXNet, on the same graphs and optimizers."""

# Written from chapters/89_module.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.module.base_module import BaseModule
from minigluon.module.bucketing_module import BucketingModule
from minigluon.module.module import Module

# --- One graph for each length --------------------------------------------------------------------

__all__ = ["BaseModule", "BucketingModule", "Module"]
