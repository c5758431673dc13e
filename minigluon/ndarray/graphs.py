"""A sparse matrix is a graph, and a mini-batch of a graph is what a few walkers see in a few steps."""

# Written from chapters/17b_neighbours.ipynb: edit the chapter, then run `minigluon export`.

import numpy as np

from minigluon.base import MXNetError
from minigluon.ndarray.ndarray import NDArray, place
from minigluon.ndarray.sparse import CSRNDArray
from minigluon.ops.csr import CSR
from minigluon.ops.random import generator

__all__ = [
    "dgl_adjacency",
    "dgl_csr_neighbor_non_uniform_sample",
    "dgl_csr_neighbor_uniform_sample",
    "dgl_graph_compact",
    "dgl_subgraph",
    "edge_id",
    "like",
    "matrix_of",
    "parts_of",
    "renumbered",
    "sample",
    "sampled",
    "vertices",
    "walk",
]


# --- Neighbours -----------------------------------------------------------------------------------


def parts_of(name, graph, whole=True):
    """Ends of rows, columns and edge numbers of a graph in NumPy's memory;
    MXNetError for what is no graph.
    """
    if not isinstance(graph, CSRNDArray):
        raise MXNetError(f"{name}: a graph is a CSRNDArray, not {type(graph).__name__}")
    if whole and graph.dtype != np.int64:
        raise MXNetError(f"{name}: the numbers of edges are int64, not {graph.dtype.__name__}")
    return graph.indptr.asnumpy(), graph.indices.asnumpy(), graph.data.asnumpy()


def vertices(name, a):
    """Numbers of vertices in NumPy's memory."""
    if not isinstance(a, NDArray) or len(a.shape) != 1:
        raise MXNetError(f"{name}: vertices are a vector, not {a!r}")
    return a.asnumpy().astype("int64")


def like(a, raw):
    """An NDArray where `a` is."""
    return place(raw, a.context)


def matrix_of(graph, shape, values, ends, columns):
    """A graph where another one is."""
    return CSRNDArray(
        CSR(shape, values, ends.astype("int64"), columns.astype("int64")), graph.context
    )


def edge_id(data, u, v):
    """For each pair of vertices the number of the edge between them, -1 where there is none."""
    ends, columns, numbers = parts_of("edge_id", data, whole=False)
    found = np.full(u.shape, -1, data.dtype)
    for i, (a, b) in enumerate(zip(vertices("edge_id", u), vertices("edge_id", v), strict=True)):
        if not (0 <= a < data.shape[0] and 0 <= b < data.shape[1]):
            raise MXNetError(
                f"edge_id: there are no vertices {a} and {b} in a graph of {data.shape}"
            )
        at = ends[a] + np.searchsorted(columns[ends[a] : ends[a + 1]], b)
        if at < ends[a + 1] and columns[at] == b:
            found[i] = numbers[at]
    return like(data, found)


def dgl_adjacency(data):
    """The graph with 1, float32, in the place of each number of an edge."""
    ends, columns, numbers = parts_of("dgl_adjacency", data)
    return matrix_of(data, data.shape, np.ones(len(numbers), "float32"), ends, columns)


def dgl_subgraph(graph, *vertex_lists, return_mapping, num_args=None):
    """The graphs among lists of vertices in ascending order;
    with `return_mapping` also those with the old edge numbers.
    """
    name = "dgl_subgraph"
    ends, columns, numbers = parts_of(name, graph)
    fresh, old = [], []
    for each in vertex_lists:
        chosen = vertices(name, each)
        if (np.diff(chosen) <= 0).any():
            raise MXNetError(f"{name}: The input vertex list has to be sorted, each once: {chosen}")
        if len(chosen) and not 0 <= chosen[0] <= chosen[-1] < graph.shape[0]:
            raise MXNetError(f"{name}: a vertex of {chosen} is not in a graph of {graph.shape[0]}")
        rows = [slice(ends[v], ends[v + 1]) for v in chosen]
        inside = [np.isin(columns[row], chosen) for row in rows]
        kept = [columns[row][good] for row, good in zip(rows, inside)]
        ids = [numbers[row][good] for row, good in zip(rows, inside)]
        pair = renumbered(graph, chosen, kept, ids)
        fresh.append(pair[0])
        old.append(pair[1])
    found = fresh + old if return_mapping else fresh
    return found[0] if len(found) == 1 else found


def renumbered(graph, chosen, kept, ids):
    """The graph of rows of old columns and edge numbers, with new ones,
    and the same with the old numbers.
    """
    ends = np.cumsum([0, *map(len, kept)])
    columns = np.searchsorted(chosen, np.concatenate([[], *kept]).astype("int64"))
    shape, old = (len(chosen),) * 2, np.concatenate([[], *ids]).astype("int64")
    new = np.arange(len(old))
    return matrix_of(graph, shape, new, ends, columns), matrix_of(graph, shape, old, ends, columns)


def walk(parts, seeds, hops, most, room, draw):
    """{vertex: hop}, and {vertex: (columns, edge numbers)} of those that showed their neighbours."""
    ends, columns, numbers = parts
    hop_of, shown, queue = {}, {}, []
    for v in map(int, seeds):
        if v not in hop_of and len(hop_of) < room:
            hop_of[v] = 0
            queue.append(v)
    for u in queue:
        if hop_of[u] >= hops or len(hop_of) >= room:
            break
        part = np.arange(ends[u], ends[u + 1])
        if len(part) > most:
            part = np.sort(draw(part, columns, most))
        shown[u] = columns[part], numbers[part]
        for v in map(int, columns[part]):
            if v not in hop_of and len(hop_of) < room:
                hop_of[v] = hop_of[u] + 1
                queue.append(v)
    return hop_of, shown


def sampled(graph, hop_of, shown, room):
    """The vertices in order and how many there are, the graph of what was shown,
    and the hop of each vertex.
    """
    order = sorted(hop_of)
    ids, layers = np.zeros(room + 1, "int64"), np.zeros(room, "int64")
    ids[: len(order)], ids[-1] = order, len(order)
    layers[: len(order)] = [hop_of[v] for v in order]
    nothing = np.zeros(0, "int64"), np.zeros(0, "int64")
    rows = [shown.get(v, nothing) for v in order]
    ends = np.zeros(room + 1, "int64")
    ends[1 : len(order) + 1] = np.cumsum([len(row[0]) for row in rows])
    ends[len(order) + 1 :] = ends[len(order)]
    columns, numbers = (
        np.concatenate([[], *(row[i] for row in rows)]).astype("int64") for i in (0, 1)
    )
    sub = matrix_of(graph, (room, graph.shape[1]), numbers, ends, columns)
    return like(graph, ids), sub, like(graph, layers)


def sample(name, graph, seed_lists, draw, num_hops, num_neighbor, max_num_vertices):
    """For each list of seeds the vertices, the graph and the hops."""
    parts, found = parts_of(name, graph), []
    for seeds in seed_lists:
        start = vertices(name, seeds)
        if len(start) and not 0 <= start.min() <= start.max() < graph.shape[0]:
            raise MXNetError(f"{name}: a seed of {start} is not in a graph of {graph.shape[0]}")
        walked = walk(parts, start, num_hops, num_neighbor, max_num_vertices, draw)
        found.append(sampled(graph, *walked, max_num_vertices))
    return found


def dgl_csr_neighbor_uniform_sample(
    csr_matrix, *seed_arrays, num_args=None, num_hops=1, num_neighbor=2, max_num_vertices=100
):
    """What is seen from lists of seeds in `num_hops` hops, of each vertex
    at most `num_neighbor` neighbours.

    A list: for each list of seeds the vertices, int64, and their number behind them; then the
    graphs, which have a row a vertex and all columns; then the hop of each vertex.
    """
    random = generator(csr_matrix.context)
    draw = lambda part, columns, most: random.choice(part, most, replace=False)  # noqa: E731
    limits = num_hops, num_neighbor, max_num_vertices
    found = sample("dgl_csr_neighbor_uniform_sample", csr_matrix, seed_arrays, draw, *limits)
    return [each[i] for i in range(3) for each in found]


def dgl_csr_neighbor_non_uniform_sample(
    csr_matrix,
    probability,
    *seed_arrays,
    num_args=None,
    num_hops=1,
    num_neighbor=2,
    max_num_vertices=100,
):
    """The same, with neighbours drawn in proportion to a probability a vertex;
    it comes back for the vertices, before the hops.
    """
    name, random = "dgl_csr_neighbor_non_uniform_sample", generator(csr_matrix.context)
    p = probability.asnumpy()
    if p.shape != csr_matrix.shape[:1] or (p < 0).any():
        raise MXNetError(f"{name}: a probability a vertex, not {p.shape} for {csr_matrix.shape[0]}")

    def draw(part, columns, most):
        with np.errstate(divide="ignore"):
            times = random.exponential(size=len(part)) / p[columns[part]]
        return part[np.argsort(times)[:most]]

    limits = num_hops, num_neighbor, max_num_vertices
    found = sample(name, csr_matrix, seed_arrays, draw, *limits)
    chances = []
    for ids, *_ in found:
        known, part = ids.asnumpy(), np.zeros(max_num_vertices, p.dtype)
        part[: known[-1]] = p[known[: known[-1]]]
        chances.append(like(csr_matrix, part))
    return [each[i] for i in (0, 1) for each in found] + chances + [each[2] for each in found]


def dgl_graph_compact(*graph_data, return_mapping, graph_sizes, num_args=None):
    """Samples with columns for their own vertices only, and edges numbered anew;
    with `return_mapping` also with the old numbers.

    Arguments: the graphs, then the vectors of their vertices; graph_sizes: how many each has.
    """
    name, half = "dgl_graph_compact", len(graph_data) // 2
    sizes = np.ravel(graph_sizes.asnumpy() if isinstance(graph_sizes, NDArray) else graph_sizes)
    if len(graph_data) != 2 * half or len(sizes) != half:
        raise MXNetError(
            f"{name}: graphs, as many vectors, and as many sizes, not {len(graph_data)}, {sizes}"
        )
    fresh, old = [], []
    for graph, ids, size in zip(graph_data[:half], graph_data[half:], map(int, sizes)):
        ends, columns, numbers = parts_of(name, graph)
        chosen = vertices(name, ids)[:size]
        rows = [slice(ends[i], ends[i + 1]) for i in range(size)]
        if not np.isin(columns[: ends[size]], chosen).all():
            raise MXNetError(
                f"{name}: an edge leads to a vertex that is not there: "
                "sample with a larger max_num_vertices"
            )
        pair = renumbered(graph, chosen, [columns[r] for r in rows], [numbers[r] for r in rows])
        fresh.append(pair[0])
        old.append(pair[1])
    found = fresh + old if return_mapping else fresh
    return found[0] if len(found) == 1 else found
