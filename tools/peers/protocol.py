"""What every peer program of the benchmark does: it stays alive, reads lines, and times one piece of work at a time, so
that tools/bench.py can take its samples in turn with attune's.

    add JSON       {"ways": [[number, name], ...]}: how this peer does that row of work; empty if it cannot
    time N MS      {"ms", "calls"}: one sample of way N, at least MS milliseconds long
    memory N       {"bytes"}: how far resident memory rises during the first call
    drop N         frees what way N holds

A peer gives `ways(row)`: pairs of a name and a function that prepares the work and returns one call.
"""
import argparse
import json
import sys
import time


def status_bytes(key: str) -> int:
    with open("/proc/self/status", encoding="ascii") as file:
        for line in file:
            if line.startswith(key + ":"):
                return int(line.split()[1]) * 1024
    return 0


def sample(call, clock, least_seconds: float, last_seconds: float) -> dict:
    """As attune's runner: one call for the caches unless it is long, then calls for at least that time."""
    if last_seconds < 0.2:
        call()
    calls, start = 0, clock()
    while True:
        call()
        calls += 1
        spent = clock() - start
        if spent >= least_seconds:
            return {"ms": spent / calls * 1e3, "calls": calls}


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=1)
    return parser.parse_args()


def serve(ways, threads: int, describe: dict) -> None:
    # One thread: processor time, so that other programs on the machine count less. Several: the clock on the wall.
    clock = time.process_time if threads == 1 else time.perf_counter
    out = sys.stdout
    sys.stdout = sys.stderr  # libraries that print do not disturb the answers
    made, calls, last = [], {}, {}

    def call_of(number: int):
        if number not in calls:
            calls[number] = made[number]()
            calls[number]()
        return calls[number]

    for line in sys.stdin:
        verb, _, rest = line.strip().partition(" ")
        try:
            if verb == "hello":
                answer = describe
            elif verb == "add":
                answer = {"ways": []}
                for name, make in ways(json.loads(rest)):
                    answer["ways"].append([len(made), name])
                    made.append(make)
            elif verb == "time":
                number, least = rest.split()
                answer = sample(call_of(int(number)), clock, float(least) * 1e-3, last.get(int(number), 0.0))
                last[int(number)] = answer["ms"] * 1e-3
            elif verb == "memory":
                call = made[int(rest)]()
                with open("/proc/self/clear_refs", "w", encoding="ascii") as file:
                    file.write("5")  # the high-water mark starts anew
                before = status_bytes("VmRSS")
                call()
                answer = {"bytes": status_bytes("VmHWM") - before}
            elif verb == "drop":
                calls.pop(int(rest), None)
                answer = {}
            else:
                raise ValueError(f"protocol: hello, add, time, memory or drop, got {line.strip()}")
        except Exception as error:  # a way that a peer's version lacks must not end the run
            answer = {"error": f"{type(error).__name__}: {error}".splitlines()[0][:200]}
        out.write(json.dumps(answer) + "\n")
        out.flush()
