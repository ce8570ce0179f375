"""Every form of a ranking, written into its run folder."""

from vlmtools.crosscheck.folder import write_ranking
from vlmtools.crosscheck.ranking import Ranking
from vlmtools.report.csv import csv
from vlmtools.report.html import html
from vlmtools.report.markdown import markdown
from vlmtools.store import Store


def write_outputs(store: Store, ranking: Ranking) -> None:
    """Write ranking.json, ranking.csv, ranking.md and report.html, each whole or not at all.

    Args:
        store: The run folder.
        ranking: The result.
    """
    write_ranking(store, ranking)
    store.write_file("ranking.csv", csv(ranking))
    store.write_file("ranking.md", markdown(ranking))
    store.write_file("report.html", html(ranking))
