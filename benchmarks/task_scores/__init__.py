"""Tasks beside the peer's Trainer: names, several labels, numbers, endings; over several seeds.

    python -m benchmarks.task_scores --out DIR [--tasks endings,…] [--seeds 0,1,2]

Both sides start from the same checkpoint, learn from the same rows with the same settings and
seeds, and answer the same test rows; both are scored by the same third party (seqeval, SciPy,
scikit-learn). Bertolt is used as people use it, by `bertolt finetune` and `bertolt predict`; the
peer by a program in the way of its own examples. Each run is a process of its own. A run that is
done is not done again.

    comparisons.py  what is compared, and with which settings
    texts.py        the rows of each part, and the corpus of the Chinese encoder
    ours.py         Bertolt's commands, and what they answered
    peer.py         the peer's program
    scoring.py      answers and truth to figures
    page.py         the figures of all runs as tables
"""
