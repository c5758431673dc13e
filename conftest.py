"""How the tests run."""


def pytest_itemcollected(item):
    """Let nbval compare cells whose stored execution count is null, as the book's are."""
    cell = getattr(item, "cell", None)
    if cell is not None and cell.get("execution_count", 0) is None:
        cell.execution_count = 0
