"""A module knows its inputs, its outputs and the gradients of its inputs: enough to put modules in a row, and to write one in Python."""

# Written from chapters/89a_chains_of_modules.ipynb: edit the chapter, then run `minigluon export`.

# --- Chains of modules ----------------------------------------------------------------------------


def _split_input_slice(batch_size, work_load_list):
    """For each device the slice of a batch that its share of the work takes; ValueError if one gets nothing."""
    total, found, begin = sum(work_load_list), [], 0
    counts = [round(load * batch_size / total) for load in work_load_list]
    counts[-1] += max(batch_size - sum(counts), 0)
    for count in counts:
        begin = min(begin, batch_size)
        end = min(begin + count, batch_size)
        if begin >= end:
            raise ValueError("Too many slices. Some splits are empty.")
        found.append(slice(begin, end))
        begin = end
    return found


def _check_arguments(symbol):
    """Raise ValueError where two arguments, or two states, of a graph have one name."""
    for names in (symbol.list_arguments(), symbol.list_auxiliary_states()):
        twice = [name for name in dict.fromkeys(names) if names.count(name) > 1]
        if twice:
            raise ValueError(f"Find duplicated argument name {twice[0]!r}: each needs its own")
