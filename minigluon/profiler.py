"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

import json
import os
import threading
import time

from minigluon.base import BadName, MXNetError
from minigluon.ndarray.ndarray import NDArray
from minigluon.op import interpreters

__all__ = [
    "Counter",
    "Domain",
    "Event",
    "Frame",
    "Marker",
    "Recorder",
    "SETTINGS",
    "Span",
    "Task",
    "as_json",
    "as_table",
    "dump",
    "dump_profile",
    "dumps",
    "pause",
    "profiler_set_config",
    "profiler_set_state",
    "recorder",
    "resume",
    "set_config",
    "set_kvstore_handle",
    "set_state",
    "summed",
]


# --- The profiler ---------------------------------------------------------------------------------

SETTINGS = {
    "filename": "profile.json",
    "profile_all": False,
    "profile_symbolic": False,
    "profile_imperative": False,
    "profile_memory": False,
    "profile_api": False,
    "contiguous_dump": False,
    "continuous_dump": False,
    "dump_period": 1.0,
    "aggregate_stats": False,
    "profile_process": "worker",
}


class Recorder:
    """What has happened: `events` are tuples (name, category, start, seconds, thread)."""

    def __init__(self):
        self.settings, self.state, self.paused = dict(SETTINGS), "stop", False
        self.events, self.samples, self.carry_out = [], [], None
        self.earlier = []  # the events before the last reset of the tables

    def watch(self, on):
        """Put the clock into the dispatcher, or take it out again."""
        if on and self.carry_out is None:
            self.carry_out = interpreters[NDArray]
            interpreters[NDArray] = self.timed
        elif not on and self.carry_out is not None:
            interpreters[NDArray], self.carry_out = self.carry_out, None

    def timed(self, op, args, settings):
        """Carry out a call with a clock beside it."""
        start = time.perf_counter()
        try:
            return self.carry_out(op, args, settings)
        finally:
            self.note(op.name, "operator", start)

    def note(self, name, category, start):
        """Note that something began at `start` and ends now."""
        seconds = time.perf_counter() - start
        self.events.append((name, category, start, seconds, threading.get_ident()))


recorder = Recorder()


def set_config(**kwargs):
    """Settings, such as `filename` and `aggregate_stats`; MXNetError for one that there is not."""
    unknown = kwargs.keys() - SETTINGS.keys()
    if unknown:
        raise MXNetError(f"set_config has no {', '.join(sorted(unknown))}: it has {[*SETTINGS]}")
    recorder.settings.update(kwargs)


def set_state(state="stop", profile_process="worker"):
    """'run' begins to record calls, 'stop' ends it; what has been recorded stays."""
    if state not in ("run", "stop"):
        raise BadName(f"set_state: 'run' or 'stop', not {state!r}")
    recorder.state, recorder.paused = state, False
    recorder.watch(state == "run")


def pause(profile_process="worker"):
    """Record nothing until `resume`."""
    recorder.paused = True
    recorder.watch(False)


def resume(profile_process="worker"):
    """Go on after `pause`."""
    recorder.paused = False
    recorder.watch(recorder.state == "run")


def dump(finished=True, profile_process="worker"):
    """Write the events into `filename`, in the format of Chrome's traces;
    `finished` ends the recording.
    """
    if finished:
        set_state("stop")
    traced = [
        {
            "name": n,
            "cat": c,
            "ph": "X",
            "ts": at * 1e6,
            "dur": s * 1e6,
            "pid": os.getpid(),
            "tid": t,
        }
        for n, c, at, s, t in recorder.earlier + recorder.events
    ]
    traced += [
        {
            "name": n,
            "cat": c,
            "ph": kind,
            "ts": at * 1e6,
            "pid": os.getpid(),
            "args": {n: value},
            "s": "p",
        }
        for n, c, kind, at, value in recorder.samples
    ]
    with open(recorder.settings["filename"], "w", encoding="utf-8") as file:
        json.dump({"traceEvents": traced, "displayTimeUnit": "ms"}, file)


def dumps(reset=False, format="table", sort_by="total", ascending=False):
    """The times by name, in milliseconds: a table, or with `format='json'` an object.

    `sort_by` is 'total', 'avg', 'min', 'max' or 'count'; after a `reset` the sums begin anew;
    `dump` still writes every event.
    """
    assert format in ("table", "json"), f"dumps: format is 'table' or 'json', not {format!r}"
    keys = {"count": 0, "total": 1, "min": 2, "max": 3, "avg": 4}
    assert sort_by in keys, f"dumps: sort_by is one of {[*keys]}, not {sort_by!r}"
    found = {}
    for category, times in summed(recorder.events).items():
        order = sorted(times.items(), key=lambda kv: kv[1][keys[sort_by]], reverse=not ascending)
        found[category] = dict(order)
    if reset:
        recorder.earlier, recorder.events = recorder.earlier + recorder.events, []
    return as_json(found, keys) if format == "json" else as_table(found)


def summed(events):
    """{category: {name: (count, total, least, greatest, mean)}} of events, in milliseconds."""
    times = {}
    for name, category, _, seconds, _ in events:
        times.setdefault(category, {}).setdefault(name, []).append(1000 * seconds)
    return {
        category: {n: (len(t), sum(t), min(t), max(t), sum(t) / len(t)) for n, t in each.items()}
        for category, each in times.items()
    }


def as_table(found):
    """The sums as a table of text."""
    lines = ["", "Profile Statistics:"]
    heads = "Name", "Total Count", "Time (ms)", "Min Time (ms)", "Max Time (ms)", "Avg Time (ms)"
    for category, rows in found.items():
        lines += [
            category,
            "=================",
            f"{heads[0]:<28}" + "".join(f"{h:>15}" for h in heads[1:]),
        ]
        lines.append(f"{'----':<28}" + "".join(f"{'-' * len(h):>15}" for h in heads[1:]))
        for name, (count, *values) in rows.items():
            lines.append(f"{name[:28]:<28}{count:>15}" + "".join(f"{v:>15.4f}" for v in values))
        lines.append("")
    return "\n".join(lines) + "\n"


def as_json(found, keys):
    """The sums as JSON."""
    unit = {"Time": "ms"}
    names = [key.capitalize() for key in keys]
    times = {c: {n: dict(zip(names, row)) for n, row in rows.items()} for c, rows in found.items()}
    return json.dumps({"Time": times, "Memory": {}, "Unit": unit})


def profiler_set_config(mode="symbolic", filename="profile.json"):
    """The older name of `set_config`."""
    set_config(filename=filename, **{f"profile_{mode}": True})


profiler_set_state, dump_profile = set_state, dump  # older names, too


def set_kvstore_handle(handle):
    """Say which store's server is meant by `profile_process="server"`:
    stores here have no server to profile.
    """


class Domain:
    """A name under which tasks, frames, counters and markers stand together."""

    def __init__(self, name):
        self.name = name

    def __str__(self):
        return self.name

    def new_task(self, name):
        """A `Task` of this domain."""
        return Task(self, name)

    def new_frame(self, name):
        """A `Frame` of this domain."""
        return Frame(self, name)

    def new_counter(self, name, value=None):
        """A `Counter` of this domain."""
        return Counter(self, name, value)

    def new_marker(self, name):
        """A `Marker` of this domain."""
        return Marker(self, name)


class Span:
    """A stretch of time between `start` and `stop`, or a `with` block."""

    def __init__(self, name, category):
        self.name, self._category, self._start = name, category, None

    def start(self):
        """Begin."""
        self._start = time.perf_counter()

    def stop(self):
        """End; the stretch is noted while the profiler runs."""
        if self._start is not None and recorder.carry_out is not None:
            recorder.note(self.name, self._category, self._start)
        self._start = None

    def __enter__(self):
        self.start()
        return self

    def __exit__(self, *_):
        self.stop()

    def __str__(self):
        return self.name


class Task(Span):
    """A piece of work, possibly over several threads."""

    def __init__(self, domain, name):
        super().__init__(name, str(domain))


class Frame(Span):
    """One of many pieces alike, such as a batch."""

    def __init__(self, domain, name):
        super().__init__(name, str(domain))


class Event(Span):
    """A stretch of time within a thread."""

    def __init__(self, name):
        super().__init__(name, "event")


class Counter:
    """A number that changes in time; its values go into the trace."""

    def __init__(self, domain, name, value=None):
        self.name, self._domain, self.value = name, str(domain), 0
        if value is not None:
            self.set_value(value)

    def set_value(self, value):
        """Give it a value."""
        self.value = value
        if recorder.carry_out is not None:
            now = time.perf_counter()
            recorder.samples.append((self.name, self._domain, "C", now, value))

    def increment(self, delta=1):
        """Add to it."""
        self.set_value(self.value + delta)

    def decrement(self, delta=1):
        """Take from it."""
        self.set_value(self.value - delta)

    def __iadd__(self, delta):
        self.increment(delta)
        return self

    def __isub__(self, delta):
        self.decrement(delta)
        return self

    def __str__(self):
        return self.name


class Marker:
    """A moment in the trace."""

    def __init__(self, domain, name):
        self.name, self._domain = name, str(domain)

    def mark(self, scope="process"):
        """Note that it is now."""
        if recorder.carry_out is not None:
            recorder.samples.append((self.name, self._domain, "i", time.perf_counter(), scope))


if os.environ.get("MXNET_PROFILER_AUTOSTART") == "1":
    set_state("run")
