"""Write the movie sentences as the notes' programs read their data: train.csv and test.csv.

movie_sentences.py [FOLDER]
"""

import csv
import random
import sys
from pathlib import Path

from bertolt.data import sample_data


def train_and_test(folder: str = "movie-sentences") -> str:
    """Every fifth of the shuffled rows goes to test.csv; the labels are 0 (negative) and 1."""
    with sample_data.fetch("movie-sentences").open(encoding="utf-8", newline="") as file:
        rows = [(row["text"], int(row["label"] == "positive")) for row in csv.DictReader(file)]
    random.Random(42).shuffle(rows)
    held_out = len(rows) // 5
    Path(folder).mkdir(exist_ok=True)
    for name, part in (("test", rows[:held_out]), ("train", rows[held_out:])):
        with Path(folder, f"{name}.csv").open("w", encoding="utf-8", newline="") as file:
            csv.writer(file).writerows([("text", "label"), *part])
    return folder


if __name__ == "__main__":
    print(train_and_test(*sys.argv[1:2]))
