"""Score caption files with CHAIR and write one row per file, to hold against a reference-free ranking.

    python scripts/chair_table.py captions/*.jsonl.gz --truth coco_gt_objects.json.gz \
        --id-field image_id --text-field caption > chair.csv
    vlmtools correlate chair.csv --against CHAIR_i --scores ranking.json

The truth file maps image ids to the COCO objects that are present.
"""

import argparse
import csv
import sys

from vlmtools.responders.recorded import read_sources
from vlmtools.scoring.chair import load_truth, score


def main() -> None:
    """Print the table as CSV."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("files", nargs="+")
    parser.add_argument("--truth", required=True)
    parser.add_argument("--id-field", default="id")
    parser.add_argument("--text-field", default="text")
    asked = parser.parse_args()
    truth = load_truth(asked.truth)
    table = csv.writer(sys.stdout)
    table.writerow(["name", "CHAIR_s", "CHAIR_i", "recall", "captions", "mentions", "words per caption"])
    for path in asked.files:
        for source in read_sources(path, id_field=asked.id_field, text_field=asked.text_field):
            found = score({item: said.text for item, said in source.answers.items()}, truth)
            rates = (found.chair_s, found.chair_i, found.recall)
            table.writerow(
                [source.name, *rates, found.n_captions, found.n_mentions, f"{found.mean_words:.1f}"]
            )


if __name__ == "__main__":
    main()
