"""The public data sets that can be read."""

from __future__ import annotations

from soloatlas.tables import markdown_table as table


def dataset_tables() -> str:
    """The public data sets, and how each is shared out."""
    from soloatlas.data.cohorts.catalogue import DATASETS
    from soloatlas.data.cohorts.dataset import splits_of, wanted

    about = [[f"`{d.name}`", d.what, d.used, d.licence, d.ask] for d in DATASETS.values()]
    shares = [
        [f"`{d.name}`", name, *("the rest" if n is None else n for n in wanted(split).values()), split["rule"]]
        for d in DATASETS.values()
        for name, split in splits_of(d.name).items()
    ]
    first = table(["name", "what", "used", "licence", "where to ask"], about)
    return f"{first}\n\n{table(['data set', 'split', 'pool and atlas', 'dev', 'test', 'rule'], shares)}"
