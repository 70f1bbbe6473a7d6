"""Bertolt beside what people use today: same texts, settings, threads and machine.

    python -m benchmarks [--works a,b] [--contestants a,b] [--repeats 3] [--quick] [--list]

A *work* is something to be done (fine-tune on short sentences, answer texts in bulk, …), a
*contestant* is one way to do it. Each measurement is a process of its own. They are interleaved:
every repeat goes through all contestants of a work in turn, beginning with the machine's own rate
of matrix products. Tables, raw numbers and a drawing go to `benchmarks/results/`.

    works.py        the works, as a table
    contestants.py  who takes part in which kind of work
    prepare.py      texts, vocabularies, models and exports that the measurements share
    job.py          what a measurement is given, and how it counts
    ours.py, peer.py, runtimes.py    the measurements: Bertolt, transformers and
                                     sentence-transformers, ONNX Runtime and OpenVINO
    worker.py       runs one of them and prints a line of JSON
    session.py      interleaves the workers
    results.py, drawing.py    what they found, as tables and as a drawing
"""
