"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

import logging
import sys
from logging import CRITICAL, DEBUG, ERROR, INFO, WARNING

__all__ = ["COLOURS", "Formatter", "NOTSET", "getLogger", "get_logger"]


# --- What it runs on ------------------------------------------------------------------------------

NOTSET = logging.NOTSET
COLOURS = {CRITICAL: 31, ERROR: 31, WARNING: 33, INFO: 32, DEBUG: 34}


class Formatter(logging.Formatter):
    """Lines that begin with the level's letter, the time and the place; in colours on a terminal."""

    def __init__(self, colored=True):
        super().__init__(datefmt="%m%d %H:%M:%S")
        self._colored = colored

    def format(self, record):
        colour = COLOURS.get(record.levelno)
        before, after = (f"\x1b[{colour}m", "\x1b[0m") if self._colored and colour else ("", "")
        head = f"{record.levelname[0]}%(asctime)s %(process)d %(pathname)s:%(funcName)s:%(lineno)d"
        self._style._fmt = f"{before}{head}{after}] %(message)s"
        return super().format(record)


def get_logger(name=None, filename=None, filemode=None, level=WARNING):
    """A logger that writes to a file, or to the screen; asked for again, the same."""
    logger = logging.getLogger(name)
    if name is not None and not getattr(logger, "_init_done", None):
        logger._init_done = True
        handler = (
            logging.FileHandler(filename, filemode or "a") if filename else logging.StreamHandler()
        )
        handler.setFormatter(Formatter(colored=not filename and sys.stderr.isatty()))
        logger.addHandler(handler)
        logger.setLevel(level)
    return logger


getLogger = get_logger
