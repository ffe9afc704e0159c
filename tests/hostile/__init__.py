"""Hostile and damaged inputs of all kinds, made from fixed seeds.

    python -m tests.hostile                 # the campaign of docs/reliability.md, about an hour
    python -m tests.hostile --only texts --scale 0.1

Each family of inputs is a module with `KINDS`, `prepare` and `run`. Batches run in processes of
their own, so that a crash or a hang inside a native library is an outcome like any other.
"""
