"""A loop says what happens in which order; handlers say what happens: so one loop serves every experiment."""

# Written from chapters/89_estimator.ipynb: edit the chapter, then run `minigluon export`.

from minigluon.gluon.contrib.estimator.batch_processor import BatchProcessor
from minigluon.gluon.contrib.estimator.estimator import Estimator
from minigluon.gluon.contrib.estimator.event_handler import (
    BatchBegin,
    BatchEnd,
    CheckpointHandler,
    EarlyStoppingHandler,
    EpochBegin,
    EpochEnd,
    GradientUpdateHandler,
    LoggingHandler,
    MetricHandler,
    StoppingHandler,
    TrainBegin,
    TrainEnd,
    ValidationHandler,
)

# --- The loop -------------------------------------------------------------------------------------

__all__ = [
    "BatchBegin",
    "BatchEnd",
    "BatchProcessor",
    "CheckpointHandler",
    "EarlyStoppingHandler",
    "EpochBegin",
    "EpochEnd",
    "Estimator",
    "GradientUpdateHandler",
    "LoggingHandler",
    "MetricHandler",
    "StoppingHandler",
    "TrainBegin",
    "TrainEnd",
    "ValidationHandler",
]
