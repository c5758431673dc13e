"""Graphs and their samples, with MXNet 1.9.1's results where no chance is in them."""

import numpy as np
import pytest

import minigluon as mx
from minigluon import nd

C = nd.contrib
EDGES = [(0, 1), (0, 3), (1, 2), (1, 5), (2, 0), (3, 4), (4, 6), (5, 6), (6, 0), (6, 1)]
MATRIX = np.zeros((7, 7), "int64")
for number, pair in enumerate(EDGES, 1):
    MATRIX[pair] = number


@pytest.fixture
def graph():
    return nd.sparse.csr_matrix(MATRIX, dtype="int64")


def ints(*values):
    return nd.array(values, dtype="int64")


def lists(a):
    if a.stype == "csr":
        return [x.asnumpy().tolist() for x in (a.indptr, a.indices, a.data)]
    return a.asnumpy().tolist()


SAMPLES = [  # hops, seeds, room; vertices and their number, row ends, columns, edges, hops
    (1, [0], 7, [0, 1, 3, 0, 0, 0, 0, 3], [0] + [2] * 7, [1, 3], [1, 2], [0, 1, 1, 0, 0, 0, 0]),
    (
        *(2, [0], 9, [0, 1, 2, 3, 4, 5, 0, 0, 0, 6], [0, 2, 4, 4, 5, 5, 5, 5, 5, 5]),
        *([1, 3, 2, 5, 4], [1, 2, 3, 4, 6], [0, 1, 2, 1, 2, 2, 0, 0, 0]),
    ),
    (
        *(2, [6, 2], 7, [0, 1, 2, 3, 5, 6, 0, 6], [0, 2, 4, 5, 5, 5, 7, 7]),
        *([1, 3, 2, 5, 0, 0, 1], [1, 2, 3, 4, 5, 9, 10], [1, 1, 0, 2, 2, 0, 0]),
    ),
    (
        *(3, [3], 7, [0, 1, 3, 4, 6, 0, 0, 5], [0, 0, 0, 1, 2, 4, 4, 4]),
        *([4, 6, 0, 1], [6, 7, 9, 10], [3, 3, 0, 1, 2, 0, 0]),
    ),
    (1, [0, 4], 3, [0, 1, 4, 3], [0, 2, 2, 2], [1, 3], [1, 2], [0, 1, 0]),
    (2, [0], 4, [0, 1, 2, 3, 4], [0, 2, 4, 4, 4], [1, 3, 2, 5], [1, 2, 3, 4], [0, 1, 2, 1]),
]


@pytest.mark.parametrize("hops,seeds,room,ids,ends,columns,edges,layers", SAMPLES)
def test_samples_without_chance(graph, hops, seeds, room, ids, ends, columns, edges, layers):
    settings = {"num_hops": hops, "num_neighbor": 10, "max_num_vertices": room}
    found = C.dgl_csr_neighbor_uniform_sample(graph, ints(*seeds), num_args=2, **settings)
    assert [lists(a) for a in found] == [ids, [ends, columns, edges], layers]
    assert found[1].shape == (room, 7) and all(a.dtype == np.int64 for a in found)
    weighed = C.dgl_csr_neighbor_non_uniform_sample(graph, nd.arange(7), ints(*seeds), **settings)
    assert [lists(a) for a in (*weighed[:2], weighed[3])] == [ids, [ends, columns, edges], layers]
    size = ids[-1]
    assert lists(weighed[2]) == ids[:size] + [0] * (room - size)


def test_chance(graph):
    mx.random.seed(0)
    settings = {"num_hops": 1, "num_neighbor": 1, "max_num_vertices": 5}
    seen = [set(), set()]
    for _ in range(40):
        out = C.dgl_csr_neighbor_uniform_sample(graph, ints(0), ints(5), num_args=3, **settings)
        assert len(out) == 6 and lists(out[3]) == [[0, 1, 1, 1, 1, 1], [6], [8]]
        seen[0] |= {*lists(out[2])[1]}
        out = C.dgl_csr_neighbor_non_uniform_sample(
            graph, nd.array([0, 1, 0, 0, 0, 0, 0]), ints(0), **settings
        )
        seen[1] |= {*lists(out[1])[1]}
    assert seen == [{1, 3}, {1}]


def test_compact_and_its_mapping(graph):
    settings = {"num_hops": 1, "num_neighbor": 9, "max_num_vertices": 5}
    out = C.dgl_csr_neighbor_uniform_sample(graph, ints(0), ints(5), **settings)
    sizes = [int(a.asnumpy()[-1]) for a in out[:2]]
    found = C.dgl_graph_compact(
        out[2], out[3], out[0], out[1], graph_sizes=sizes, return_mapping=True
    )
    assert [lists(a) for a in found] == [
        [[0, 2, 2, 2], [1, 2], [0, 1]],
        [[0, 1, 1], [1], [0]],
        [[0, 2, 2, 2], [1, 2], [1, 2]],
        [[0, 1, 1], [1], [8]],
    ]
    alone = C.dgl_graph_compact(out[2], out[0], graph_sizes=out[0][-1], return_mapping=False)
    assert lists(alone) == lists(found[0]) and alone.shape == (3, 3)


def test_subgraphs_edges_and_adjacency(graph):
    found = C.dgl_subgraph(graph, ints(0, 1, 2, 5), ints(0, 6), return_mapping=True)
    assert [lists(a) for a in found] == [
        [[0, 1, 3, 4, 4], [1, 2, 3, 0], [0, 1, 2, 3]],
        [[0, 0, 1], [0], [0]],
        [[0, 1, 3, 4, 4], [1, 2, 3, 0], [1, 3, 4, 5]],
        [[0, 0, 1], [0], [9]],
    ]
    one = C.dgl_adjacency(graph)
    assert one.dtype == np.float32 and np.array_equal(one.asnumpy(), MATRIX > 0)
    ids = C.edge_id(graph, ints(0, 0, 6, 3), ints(1, 2, 1, 4))
    assert lists(ids) == [1, -1, 10, 6] and ids.dtype == np.int64
    plain = nd.sparse.csr_matrix(MATRIX, dtype="float32")
    assert C.edge_id(plain, nd.array([0.0]), nd.array([3.0])).dtype == np.float32


@pytest.mark.parametrize(
    "wrong,says",
    [
        (lambda g: C.dgl_adjacency(nd.ones((2, 2))), "CSRNDArray"),
        (lambda g: C.dgl_adjacency(nd.sparse.csr_matrix(MATRIX, dtype="float32")), "int64"),
        (lambda g: C.dgl_subgraph(g, ints(5, 0), return_mapping=True), "sorted"),
        (lambda g: C.dgl_subgraph(g, ints(0, 7), return_mapping=True), "not in a graph of 7"),
        (lambda g: C.dgl_csr_neighbor_uniform_sample(g, ints(7)), "not in a graph of 7"),
        (lambda g: C.dgl_csr_neighbor_uniform_sample(g, nd.ones((1, 1))), "vector"),
        (lambda g: C.dgl_csr_neighbor_non_uniform_sample(g, nd.ones(3), ints(0)), "probability"),
        (lambda g: C.edge_id(g, ints(9), ints(0)), "no vertices 9 and 0"),
        (lambda g: C.dgl_graph_compact(g, graph_sizes=1, return_mapping=False), "as many"),
        (
            lambda g: C.dgl_graph_compact(g, ints(0, 1, 2), graph_sizes=3, return_mapping=False),
            "larger max_num_vertices",
        ),
    ],
)
def test_errors(graph, wrong, says):
    with pytest.raises(mx.MXNetError, match=says):
        wrong(graph)
