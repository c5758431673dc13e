"""Remember the mean gradient of one place: then a batch need only say how things have changed since."""

# Written from chapters/89c_variance_reduction.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.contrib.svrg_optimization import svrg_module, svrg_optimizer
from minigluon.contrib.svrg_optimization.svrg_module import SVRGModule

__all__ = ["SVRGModule", "svrg_module", "svrg_optimizer"]
