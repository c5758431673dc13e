"""Back-propagation through time as one sweep, between one large product for the inputs and one for the weights."""

# Written from chapters/61_recurrent_layers.ipynb: edit the chapter, then run `minigluon export`.

import re

import minigluon.ndarray as nd
import minigluon.symbol as sym
from minigluon.gluon.block import HybridBlock, Outline
from minigluon.gluon.rnn.rnn_cell import (
    BidirectionalCell,
    DropoutCell,
    GRUCell,
    HybridSequentialRNNCell,
    LSTMCell,
    RNNCell,
    made,
)
from minigluon.ndarray.ndarray import NDArray
from minigluon.ops.rnn import GATES, packed
from minigluon.symbol.symbol import Symbol

__all__ = ["ARRAYS", "CELLS", "GRU", "LSTM", "RNN"]


# --- Layers ---------------------------------------------------------------------------------------

ARRAYS = (NDArray, Symbol, Outline)
CELLS = {"rnn_relu": RNNCell, "rnn_tanh": RNNCell, "lstm": LSTMCell, "gru": GRUCell}


class _RNNLayer(HybridBlock):
    """What the three layers have in common."""

    _node_names = {"rnn": "rnn0"}

    def __init__(
        self,
        hidden_size,
        num_layers,
        layout,
        dropout,
        bidirectional,
        input_size,
        i2h_weight_initializer,
        h2h_weight_initializer,
        i2h_bias_initializer,
        h2h_bias_initializer,
        mode,
        projection_size,
        h2r_weight_initializer,
        lstm_state_clip_min,
        lstm_state_clip_max,
        lstm_state_clip_nan,
        dtype,
        use_sequence_length=False,
        **kwargs,
    ):
        super().__init__(**kwargs)
        assert layout in ("TNC", "NTC"), f"Invalid layout {layout}; must be one of ['TNC' or 'NTC']"
        self._hidden_size, self._num_layers, self._layout = hidden_size, num_layers, layout
        self._projection_size, self._dropout = projection_size or None, dropout
        self._dir, self._input_size, self._mode = 2 if bidirectional else 1, input_size, mode
        self._initializers = {
            "i2h_weight": i2h_weight_initializer,
            "h2h_weight": h2h_weight_initializer,
            "i2h_bias": i2h_bias_initializer,
            "h2h_bias": h2h_bias_initializer,
        }
        self._h2r_weight_initializer = h2r_weight_initializer
        self._limits = lstm_state_clip_min, lstm_state_clip_max, lstm_state_clip_nan
        self._dtype, self._use_sequence_length = dtype, use_sequence_length
        self.skip_states, self._by_kind, self._gates = None, {}, GATES[mode]
        for i in range(num_layers):
            for side in "lr"[: self._dir]:
                self._weights(f"{side}{i}_", i)

    # --- Layers -----------------------------------------------------------------------------------

    def _weights(self, prefix, layer):
        """Make the parameters of one layer and direction."""
        rows = self._gates * self._hidden_size
        recurrent = self._projection_size or self._hidden_size
        inputs = recurrent * self._dir if layer else self._input_size
        shapes = ((rows, inputs), (rows, recurrent), (rows,), (rows,))
        for (name, init), shape in zip(self._initializers.items(), shapes):
            self._register_param(prefix + name, shape, init, self._dtype)
        if self._projection_size:
            shape = (self._projection_size, self._hidden_size)
            init = self._h2r_weight_initializer
            self._register_param(prefix + "h2r_weight", shape, init, self._dtype)

    def _register_param(self, name, shape, init, dtype):
        p = self.params.get(name, shape=shape, init=init, allow_deferred_init=True, dtype=dtype)
        setattr(self, name, p)
        return p

    def __repr__(self):
        rows, inputs = self.l0_i2h_weight.shape
        words = [f"{inputs or None} -> {rows // self._gates}", self._layout]
        words += [f"num_layers={self._num_layers}"] if self._num_layers != 1 else []
        words += [f"dropout={self._dropout}"] if self._dropout != 0 else []
        words += ["bidirectional"] if self._dir == 2 else []
        return f"{type(self).__name__}({', '.join(words)})"

    def state_info(self, batch_size=0):
        """Shapes, layouts and types of the states: a list of dictionaries."""
        cells, sizes = self._num_layers * self._dir, [self._projection_size or self._hidden_size]
        sizes += [self._hidden_size] * (self._mode == "lstm")
        known = {"__layout__": "LNC", "dtype": self._dtype}
        return [{"shape": (cells, batch_size, n), **known} for n in sizes]

    def begin_state(self, batch_size=0, func=nd.zeros, **kwargs):
        """The first states, made by `func(name=…, shape=…, …)`, as a list."""
        return [
            made(func, f"{self.prefix}h0_{i}", {**info, **kwargs})
            for i, info in enumerate(self.state_info(batch_size))
        ]

    def __call__(self, inputs, states=None, sequence_length=None, **kwargs):
        self.skip_states = states is None
        if len(getattr(inputs, "shape", "TNC")) != 3:
            raise ValueError(
                f"{self.name}: inputs of shape {inputs.shape}; a layer wants {self._layout}, three axes"
            )
        if states is None:
            states = self._first(inputs)
        elif isinstance(states, ARRAYS):
            states = [states]
        wanted = len(self.state_info())
        if len(states) != wanted:
            raise ValueError(f"{self.name} has {wanted} states, but got {len(states)}")
        lengths = (sequence_length,) if self._use_sequence_length else ()
        return super().__call__(inputs, states, *lengths, **kwargs)

    def _first(self, inputs):
        """The states to begin with, for such inputs."""
        if isinstance(inputs, Symbol):
            return self.begin_state(0, func=sym.zeros)
        batch = inputs.shape[self._layout.find("N")]
        if isinstance(inputs, Outline):
            return [Outline(info["shape"], inputs.dtype) for info in self.state_info(batch)]
        return self.begin_state(batch, ctx=inputs.context, dtype=inputs.dtype)

    def forward(self, inputs, states, *lengths):
        if isinstance(inputs, Outline):
            for side in "lr"[: self._dir]:
                weight = getattr(self, f"{side}0_i2h_weight")
                weight.shape = (weight.shape[0], inputs.shape[2])
        if not isinstance(inputs, NDArray):
            return super().forward(inputs, states, *lengths)
        self._programs = self._by_kind.get(self.skip_states)  # with states and without
        out = super().forward(inputs, states, *lengths)
        self._by_kind[self.skip_states] = self._programs
        return out

    def _clear_cached_op(self):
        self._by_kind = {}
        super()._clear_cached_op()

    def cast(self, dtype):
        """Convert all parameters to `dtype`."""
        super().cast(dtype)
        self._dtype = dtype

    def hybrid_forward(self, F, inputs, states, sequence_length=None, **params):
        if not isinstance(inputs, Symbol) and not self.skip_states:
            batch = inputs.shape[self._layout.find("N")]
            for state, info in zip(states, self.state_info(batch)):
                if state.shape != info["shape"]:
                    raise ValueError(
                        f"Invalid recurrent state shape. Expecting {info['shape']}, got {state.shape}."
                    )
        out, *states = self._run(F, inputs, states, sequence_length, params)
        return out if self.skip_states else (out, states)

    def _run(self, F, inputs, states, lengths, params):
        """Output and states of the operator."""
        if self._layout == "NTC":
            inputs = F.swapaxes(inputs, dim1=0, dim2=1)
        weights = [params[name] for name in self._order()]
        if isinstance(weights[0], Symbol):
            vector = F._rnn_param_concat(*[w.reshape(-1) for w in weights], dim=0)
        else:
            vector = packed(*weights)
        low, high, no_nan = self._limits
        given = {"sequence_length": lengths} if self._use_sequence_length else {}
        out = F.RNN(
            inputs,
            vector,
            *states,
            **given,
            use_sequence_length=self._use_sequence_length,
            state_size=self._hidden_size,
            projection_size=self._projection_size,
            num_layers=self._num_layers,
            bidirectional=self._dir == 2,
            p=self._dropout,
            state_outputs=True,
            mode=self._mode,
            lstm_state_clip_min=low,
            lstm_state_clip_max=high,
            lstm_state_clip_nan=no_nan,
        )
        first = F.swapaxes(out[0], dim1=0, dim2=1) if self._layout == "NTC" else out[0]
        return first, *[out[i + 1] for i in range(len(states))]

    def _order(self):
        """Names of the parameters in the order of the packed vector."""
        kinds = ["i2h", "h2h", "h2r"] if self._projection_size else ["i2h", "h2h"]
        cells = [f"{d}{i}" for i in range(self._num_layers) for d in "lr"[: self._dir]]
        weights = [f"{cell}_{kind}_weight" for cell in cells for kind in kinds]
        return weights + [f"{cell}_{kind}_bias" for cell in cells for kind in kinds[:2]]

    def _collect_params_with_prefix(self, prefix=""):
        """The parameters by the names that MXNet's files give them."""
        start = prefix + "." if prefix else ""
        found = {}
        for name, p in self._reg_params.items():
            side, layer, rest = re.match(r"(l|r)(\d+)_(.*)", name).groups()
            middle = f"{side}_cell." if self._dir == 2 else ""
            found[f"{start}_unfused.{layer}.{middle}{rest}"] = p
        return found

    def _unfuse(self):
        """The same network as a stack of cells, which share this layer's parameters."""
        assert not self._projection_size, "_unfuse does not support projection layer yet!"
        assert not any(self._limits[:2]), "_unfuse does not support state clipping yet!"
        stack = HybridSequentialRNNCell(prefix=self.prefix, params=self.params)
        inputs = self._input_size
        with stack.name_scope():
            for i in range(self._num_layers):
                cells = [self._cell(f"{side}{i}_", inputs) for side in "lr"[: self._dir]]
                stack.add(BidirectionalCell(*cells) if self._dir == 2 else cells[0])
                if self._dropout > 0 and i != self._num_layers - 1:
                    stack.add(DropoutCell(self._dropout))
                inputs = self._hidden_size * self._dir
        return stack

    unfuse = _unfuse

    def _cell(self, prefix, inputs):
        """One layer in one direction as a cell."""
        kind = self._mode.removeprefix("rnn_")
        own = {"activation": kind} if self._mode.startswith("rnn_") else {}
        own |= {f"{name}_initializer": init for name, init in self._initializers.items()}
        return CELLS[self._mode](self._hidden_size, input_size=inputs, prefix=prefix, **own)


class RNN(_RNNLayer):
    """Elman's network, with `activation` 'relu' or 'tanh'."""

    def __init__(
        self,
        hidden_size,
        num_layers=1,
        activation="relu",
        layout="TNC",
        dropout=0,
        bidirectional=False,
        i2h_weight_initializer=None,
        h2h_weight_initializer=None,
        i2h_bias_initializer="zeros",
        h2h_bias_initializer="zeros",
        input_size=0,
        dtype="float32",
        **kwargs,
    ):
        super().__init__(
            hidden_size,
            num_layers,
            layout,
            dropout,
            bidirectional,
            input_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            "rnn_" + activation,
            None,
            None,
            None,
            None,
            False,
            dtype,
            **kwargs,
        )


class LSTM(_RNNLayer):
    """Long short-term memory, with gates i, f, g, o and states h and c."""

    def __init__(
        self,
        hidden_size,
        num_layers=1,
        layout="TNC",
        dropout=0,
        bidirectional=False,
        input_size=0,
        i2h_weight_initializer=None,
        h2h_weight_initializer=None,
        i2h_bias_initializer="zeros",
        h2h_bias_initializer="zeros",
        projection_size=None,
        h2r_weight_initializer=None,
        state_clip_min=None,
        state_clip_max=None,
        state_clip_nan=False,
        dtype="float32",
        **kwargs,
    ):
        super().__init__(
            hidden_size,
            num_layers,
            layout,
            dropout,
            bidirectional,
            input_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            "lstm",
            projection_size,
            h2r_weight_initializer,
            state_clip_min,
            state_clip_max,
            state_clip_nan,
            dtype,
            **kwargs,
        )


class GRU(_RNNLayer):
    """Gated recurrent units, with gates r, z, n."""

    def __init__(
        self,
        hidden_size,
        num_layers=1,
        layout="TNC",
        dropout=0,
        bidirectional=False,
        input_size=0,
        i2h_weight_initializer=None,
        h2h_weight_initializer=None,
        i2h_bias_initializer="zeros",
        h2h_bias_initializer="zeros",
        dtype="float32",
        **kwargs,
    ):
        super().__init__(
            hidden_size,
            num_layers,
            layout,
            dropout,
            bidirectional,
            input_size,
            i2h_weight_initializer,
            h2h_weight_initializer,
            i2h_bias_initializer,
            h2h_bias_initializer,
            "gru",
            None,
            None,
            None,
            None,
            False,
            dtype,
            **kwargs,
        )
