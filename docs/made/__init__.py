"""The parts of the docs that are made, by what they show. `docs/make_tables.py` writes them."""
