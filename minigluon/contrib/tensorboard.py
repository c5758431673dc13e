"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

import os
import socket
import struct
import time

__all__ = [
    "LogMetricsCallback",
    "REMAINDERS",
    "SummaryWriter",
    "checked",
    "crc32c",
    "message",
    "remainders",
    "varint",
]


# --- Curves ---------------------------------------------------------------------------------------


def remainders():
    """For each byte its remainder by Castagnoli's polynomial, the lowest bit first."""
    table = list(range(256))
    for _ in range(8):
        table = [r >> 1 ^ (0x82F63B78 if r & 1 else 0) for r in table]
    return table


REMAINDERS = remainders()


def crc32c(data):
    """The check sum of bytes."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = REMAINDERS[(crc ^ byte) & 0xFF] ^ crc >> 8
    return crc ^ 0xFFFFFFFF


def checked(data):
    """Four bytes: the masked check sum."""
    crc = crc32c(data)
    return struct.pack("<I", ((crc >> 15 | crc << 17) + 0xA282EAD8) & 0xFFFFFFFF)


def varint(n):
    """A whole number, seven bits a byte; the last byte has no eighth bit. Negative ones have 64 bits."""
    n, found = n & 0xFFFFFFFFFFFFFFFF, bytearray()
    while n > 0x7F:
        found.append(n & 0x7F | 0x80)
        n >>= 7
    return bytes(found) + bytes([n])


def message(**fields):
    """A protocol buffer of fields such as `f2_int=7`: f, its number, and its type."""
    found = b""
    for name, value in fields.items():
        number, kind = name[1:].split("_")
        code = {"int": 0, "double": 1, "bytes": 2, "float": 5}[kind]
        value = {
            "int": lambda v: varint(v),
            "double": lambda v: struct.pack("<d", v),
            "bytes": lambda v: varint(len(v)) + v,
            "float": lambda v: struct.pack("<f", v),
        }[kind](value)
        found += varint(int(number) * 8 + code) + value
    return found


class SummaryWriter:
    """Writes numbers into an event file of a folder, for TensorBoard to draw."""

    def __init__(self, logdir):
        os.makedirs(logdir, exist_ok=True)
        name = (
            f"events.out.tfevents.{time.time():.0f}.{socket.gethostname()}.{os.getpid()}.{id(self)}"
        )
        self.path = os.path.join(logdir, name)
        self._write(message(f1_double=time.time(), f3_bytes=b"brain.Event:2"))

    def _write(self, data):
        length = struct.pack("<Q", len(data))
        with open(self.path, "ab") as file:
            file.write(length + checked(length) + data + checked(data))

    def add_scalar(self, tag, value, global_step=0):
        """Write a number at a step of the curve `tag`."""
        each = message(f1_bytes=tag.encode(), f2_float=float(value))
        summary = message(f1_bytes=each)
        self._write(message(f1_double=time.time(), f2_int=int(global_step or 0), f5_bytes=summary))


class LogMetricsCallback:
    """Called with a BatchEndParam, writes each value of the metric at its epoch, under `prefix-name`."""

    def __init__(self, logging_dir, prefix=None):
        self.prefix, self.summary_writer = prefix, SummaryWriter(logging_dir)

    def __call__(self, param):
        """Write the metric's values, if there is a metric."""
        for name, value in param.eval_metric.get_name_value() if param.eval_metric else ():
            tag = name if self.prefix is None else f"{self.prefix}-{name}"
            self.summary_writer.add_scalar(tag, value, global_step=param.epoch)
