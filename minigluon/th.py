"""To measure a program is to interpret it once more: the same calls, with a clock beside them."""

# Written from chapters/97_instruments.ipynb: edit the chapter, then run `minigluon export`.

# --- What it runs on ------------------------------------------------------------------------------


def __getattr__(name):
    if name.startswith("__"):
        raise AttributeError(name)
    raise AttributeError(
        f"mx.th.{name} would call Lua's Torch, for which MXNet must be built; "
        "arrays go to PyTorch and back by "
        "DLPack: torch.from_dlpack(x), mx.nd.from_dlpack(t)"
    )
