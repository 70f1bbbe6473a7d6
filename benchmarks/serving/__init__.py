"""Bertolt's server beside those that people run today: same model, texts, machine and hour.

    python -m benchmarks.serving load [--repeats 3] [--seconds 8] [--servers a,b]
    LOCUST=/path/to/locust python -m benchmarks.serving locust
    python -m benchmarks.serving soak [--minutes 10]
    python -m benchmarks.serving reloads [--times 1000]
    python -m benchmarks.serving schema

Each server is a process of its own, and so is the load, which shares no code with any of them: an
event loop with its own connections. Clients that wait for their answers (a closed loop) hide what
happens when a server falls behind, so there is an open loop too: requests are sent when they are
due, whether earlier ones are answered or not, and a latency counts from that moment.

    prepare.py   a fine-tuned model, texts of mixed lengths, what `Predictor` answers to them
    servers.py   who takes part, and how each is started and asked
    pipeline_server.py, onnx_server.py    the peers, as people write them
    client.py    the load, closed and open
    alone.py     the engines by themselves, without a server
    load.py      interleaves servers and loads
    outside.py   the closed loops once more, by locust
    soak.py      ten minutes of good and bad requests, and the memory meanwhile
    reloads.py   new versions taken over under load
    schema.py    whatever the schema allows and forbids, by schemathesis
"""
