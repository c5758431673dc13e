"""Programs on parts of a batch: the claims of operators, whole networks, and what must not be cut."""

from itertools import combinations

import numpy as np
import pytest

import minigluon as mx
import minigluon.ops
from minigluon import autograd, cores, gluon
from minigluon.gluon import nn
from minigluon.op import operators
from minigluon.symbol import parts
from minigluon.symbol.hybrid import Outlines
from minigluon.symbol.space import compose
from minigluon.symbol.symbol import Node, Symbol
from tests.cases import ROWS

minigluon.ops.load()
rows = [row for row in ROWS if row.op in parts.RULES and row.arrays]


def cuttings(row):
    """The arrays of a row, some of them twice as long: once for each choice of these."""
    numbers = [i for i, a in enumerate(row.arrays) if isinstance(a, np.ndarray) and a.ndim]
    for k in range(1, len(numbers) + 1):
        for chosen in combinations(numbers, k):
            yield (
                [
                    np.concatenate([a, a[::-1]]) if i in chosen else a
                    for i, a in enumerate(row.arrays)
                ],
                chosen,
            )


def graph_of(row, arrays, chosen, size):
    """The call on variables, and what is known of it for that share of the batch."""
    outlines, args, given = Outlines(), [], {}
    for i, a in enumerate(arrays):
        entry = (row.nodes[i], 0)
        if isinstance(a, np.ndarray):
            shape = (len(a) // size, *a.shape[1:]) if i in chosen else a.shape
            outlines.put(entry, shape, a.dtype)
            given[entry] = parts.PART if i in chosen else parts.ALL
        args.append(Symbol([entry]) if isinstance(a, np.ndarray) else a)
    return outlines, args, given


def compared(row):
    """How many ways to cut a row's arrays its operator allows; each must give what the whole gives."""
    op, found = operators[row.op], 0
    row.nodes = [Node(f"x{i}") for i in range(len(row.arrays))]
    for arrays, chosen in cuttings(row):
        whole, args, given = graph_of(row, arrays, chosen, 1)
        part, _, _ = graph_of(row, arrays, chosen, 2)
        node = compose(op, args, row.settings)._entries[0][0]
        for outlines in (whole, part):
            outlines.visit(node)
        kinds = parts.kinds_of([node], given, whole, part, 2)
        if kinds is None:
            continue
        cut = [
            [a[: len(a) // 2], a[len(a) // 2 :]] if i in chosen else [a, a]
            for i, a in enumerate(arrays)
        ]
        settings = node.settings
        once = op.kernel(*arrays, **settings)
        halves = [op.kernel(*half, **settings) for half in zip(*cut)]
        if not isinstance(once, tuple):
            once, halves = (once,), [(h,) for h in halves]
        for i, (y, *terms) in enumerate(zip(once, *halves)):
            kind = kinds[node, i]
            joined = terms[0]
            if kind != parts.ALL:
                joined = np.concatenate(terms) if kind == parts.PART else terms[0] + terms[1]
            np.testing.assert_allclose(joined, y, rtol=1e-10, atol=1e-12)
        found += 1
    return found


@pytest.mark.parametrize("row", rows, ids=[row.id for row in rows])
def test_what_an_operator_claims_of_its_kinds_is_true(row):
    compared(row)


def test_operators_do_claim_something():
    found = {row.op: 0 for row in rows}
    for row in rows:
        found[row.op] += compared(row)
    never = sorted(op for op, n in found.items() if not n)
    assert not never, f"no row of these is ever cut: {never}"


class Layer(gluon.HybridBlock):
    """A layer of a transformer, with shared weights so that sums meet."""

    def __init__(self, units):
        super().__init__()
        with self.name_scope():
            self.qkv = nn.Dense(3 * units, flatten=False)
            self.up, self.norm = nn.Dense(units, flatten=False, activation="tanh"), nn.LayerNorm()

    def hybrid_forward(self, F, x):
        q, k, v = F.split(self.qkv(self.norm(x)), num_outputs=3, axis=-1)
        q, k, v = (
            F.reshape(
                F.transpose(F.reshape(p, shape=(0, 0, 2, -1)), axes=(0, 2, 1, 3)), shape=(-3, 0, 0)
            )
            for p in (q, k, v)
        )
        y = F.batch_dot(F.softmax(F.batch_dot(q, k, transpose_b=True)), v)
        y = F.transpose(F.reshape(y, shape=(-4, -1, 2, 0, 0)), axes=(0, 2, 1, 3))
        return x + self.up(self.up(F.reshape(y, shape=(0, 0, -3))))


def perceptron():
    net = nn.HybridSequential()
    net.add(nn.Dense(16, activation="relu"), nn.Dense(8, activation="sigmoid"), nn.Dense(8))
    return net


CASES = {
    "perceptron": (perceptron, (8, 6), gluon.loss.SoftmaxCrossEntropyLoss()),
    "transformer": (lambda: Layer(8), (4, 5, 8), gluon.loss.L2Loss()),
}


def passes(net, x, loss, label, hybrid):
    """Losses, and gradients of input and parameters, twice."""
    net.hybridize(hybrid)
    loss.hybridize(hybrid)
    x.attach_grad()
    found = []
    for _ in range(2):
        with autograd.record():
            value = loss(net(x), label)
        value.backward()
        found += [value, x.grad, *[p.grad() for p in net.collect_params().values()]]
        found = [mx.nd.array(a) for a in found]
    return [a.asnumpy() for a in found], mx.nd.array(net(x)).asnumpy()


def cut_programs(block):
    """How many programs of a block run in parts."""
    programs = [op for g in block._programs.graphs.values() for op in g.programs.values()]
    return sum("in parts" in op.listing for op in programs)


@pytest.fixture
def threads(request, monkeypatch):
    """So many threads, and even small programs run in parts."""
    for name in ("ENOUGH", "TIMES", "LARGE"):
        monkeypatch.setattr(parts, name, 0)
    before = cores.alone.threads
    cores.alone.found[1](request.param)
    yield request.param
    cores.alone.found[1](before)


@pytest.mark.parametrize("threads", [2, 4], indirect=True)
@pytest.mark.parametrize("case", CASES)
def test_networks_in_parts_are_networks_at_once(case, threads):
    make, shape, loss = CASES[case]
    net, rng = make(), np.random.default_rng(0)
    net.initialize(mx.init.Xavier())
    x = mx.nd.array(rng.normal(size=shape))
    label = mx.nd.array(rng.integers(0, 8, shape[0])) if case == "perceptron" else 0 * x
    plain = passes(net, x, loss, label, False)
    cut = passes(net, x, loss, label, True)
    assert cut_programs(net) and cut_programs(loss)
    for a, b in zip((*cut[0], cut[1]), (*plain[0], plain[1]), strict=True):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=1e-6)


REFUSED = {
    "the mean of the batch": lambda F, x: F.broadcast_sub(x, F.mean(x, axis=0, keepdims=True)),
    "softmax over the batch": lambda F, x: F.softmax(x, axis=0),
    "another order": lambda F, x: F.reverse(x, axis=0),
    "the first axis moved": lambda F, x: F.transpose(x),
    "a literal shape": lambda F, x: F.reshape(x, shape=(8, 6, 1)),
    "drawn numbers": lambda F, x: F.Dropout(x, p=0.5, mode="always"),
    "joined batches": lambda F, x: F.concat(x, x, dim=0),
}


@pytest.mark.parametrize("threads", [2], indirect=True)
@pytest.mark.parametrize("name", REFUSED)
def test_what_mixes_samples_is_not_cut(name, threads):
    class Net(gluon.HybridBlock):
        def hybrid_forward(self, F, x):
            return REFUSED[name](F, x)

    net, x = Net(), mx.nd.array(np.random.default_rng(0).normal(size=(8, 6)))
    net.hybridize()
    y = net(x)
    assert not cut_programs(net)
    if name != "drawn numbers":
        np.testing.assert_allclose(y.asnumpy(), REFUSED[name](mx.nd, x).asnumpy(), rtol=1e-6)


def test_batches_are_cut_evenly_or_not_at_all():
    assert [parts.count_for(n, 4) for n in (0, 1, 2, 3, 4, 6, 7, 8, 9)] == [
        1,
        1,
        1,
        1,
        2,
        3,
        1,
        4,
        3,
    ]
