"""Processes that time one piece of work when told to, and the samples that are taken from them in turn."""
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

PEERS = ("pytorch", "onnx_runtime")  # programs of tools/peers/
PEER_PACKAGES = ("torch", "entmax", "onnxruntime", "onnx", "numpy")


class Server:
    """A program that answers each line on its standard input with a line of JSON."""

    def __init__(self, name: str, command: list):
        self.name = name
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)

    def ask(self, line: str) -> dict:
        try:
            self.process.stdin.write(line + "\n")
            self.process.stdin.flush()
            answer = self.process.stdout.readline()
        except BrokenPipeError:
            answer = ""
        if not answer:
            raise RuntimeError(f"{self.name}: an answer to '{line[:60]}', it ended with {self.process.wait()}")
        return json.loads(answer)

    def close(self) -> None:
        try:
            self.process.stdin.close()
        except BrokenPipeError:
            pass  # it ended on its own
        self.process.wait()


def peer_python() -> str:
    """The interpreter that has the peers; ATTUNE_PEERS names another one. Installs them if need be."""
    given = os.environ.get("ATTUNE_PEERS")
    if given:
        return given
    folder = Path("build/peers").absolute()
    python, done = folder / "bin" / "python", folder / "complete"
    if not done.exists():
        print(f"bench: installing {', '.join(PEER_PACKAGES)} into build/peers (several GB, minutes)", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        subprocess.run([str(python), "-m", "pip", "install", "--quiet", "--no-cache-dir", *PEER_PACKAGES], check=True)
        done.touch()
    return str(python)


def start_own(build: str, programs: list, threads: int, only: str) -> list:
    """attune's programs, with the rows whose names contain one of the words in `only`."""
    servers = []
    for program in programs:
        command = [str(Path(build) / program), "--serve", "--threads", str(threads)]
        servers.append(Server(program, command + (["--only", only] if only else [])))
    return servers


def start_peers(threads: int, names=PEERS) -> list:
    python, folder = peer_python(), Path(__file__).parent / "peers"
    return [Server(p, [python, str(folder / f"{p}.py"), "--threads", str(threads)]) for p in names]


def name_of(row: dict) -> str:
    """As the programs name their rows: "A forward plain full float32"."""
    mask = "causal" if row["causal"] else "full"
    return f"{row['shape']} {row['pass']} {row['variant']} {mask} {row['dtype']}"


def spread_of(values: list) -> float:
    """Distance of the quartiles as a share of the median."""
    if len(values) < 3:
        return 0.0
    low, middle, high = statistics.quantiles(values, n=4, method="inclusive")
    return (high - low) / middle if middle > 0 else 0.0


class Entry:
    """One row of attune, the ways in which peers do the same, and their samples: milliseconds, one a round."""

    def __init__(self, row: dict, server: Server, number: int):
        self.row, self.server, self.number = row, server, number
        self.ways = []  # (name, server, number)
        self.ms, self.shares = {}, []  # ms[name][round]; "attune" is ours
        self.failed = {}  # name: why

    def add_peer(self, peer: Server) -> None:
        asked = {key: self.row[key] for key in ("extents", "pass", "variant", "causal", "dtype")}
        for number, name in peer.ask("add " + json.dumps(asked)).get("ways", []):
            self.ways.append((name, peer, number))

    def sample(self, round_number: int, least_ms: float, pause: float) -> None:
        """One sample of everybody; who is first changes from round to round."""
        turns = [("attune", self.server, self.number)] + self.ways
        turns = turns[round_number % len(turns):] + turns[:round_number % len(turns)]
        for name, server, number in turns:
            if name in self.failed or self.skips(name, round_number):
                continue
            time.sleep(pause)
            try:
                answer = server.ask(f"time {number} {least_ms}")
                if "error" in answer:
                    raise RuntimeError(answer["error"])
            except RuntimeError as error:
                if name == "attune":
                    raise
                self.failed[name] = str(error)  # a peer that cannot, or that is gone, must not end the run
                continue
            self.ms.setdefault(name, {})[round_number] = answer["ms"]
            if name == "attune" and answer["ceiling"] > 0:
                work = self.row["bytes"] if self.row["memory_bound"] else self.row["flops"]
                self.shares.append(work / answer["ms"] * 1e-6 / answer["ceiling"])

    def skips(self, name: str, round_number: int) -> bool:
        """A peer that takes over 0.4 s and twice attune's time is sampled in the first three rounds only."""
        taken = self.ms.get(name, {})
        if name == "attune" or round_number < 3 or not taken or not self.ms.get("attune"):
            return False
        last = list(taken.values())[-1]
        return last > 400 and last > 2 * statistics.median(self.ms["attune"].values())

    def ratios(self, name: str) -> list:
        """How many times attune's time another takes, one a round in which both were sampled."""
        ours = self.ms["attune"]
        return [ms / ours[r] for r, ms in self.ms.get(name, {}).items() if r in ours]

    def result(self, plain) -> dict:
        """The row of the report. `plain`: the entry that this one is a variant of, or None."""
        ours = list(self.ms["attune"].values())
        ms = statistics.median(ours)
        row = {key: self.row[key] for key in ("shape", "extents", "pass", "variant", "causal", "dtype", "threads")}
        row |= {"ms": ms, "gflops": self.row["flops"] / ms * 1e-6, "gbs": self.row["bytes"] / ms * 1e-6,
                "memory_bound": self.row["memory_bound"],
                "share": statistics.median(self.shares) if self.shares else None, "spread": spread_of(ours),
                "share_spread": spread_of(self.shares), "samples": len(ours), "best_peer": None, "ratio": None}
        row["flops"], row["bytes"] = self.row["flops"], self.row["bytes"]
        if self.row.get("visited"):
            row["visited"] = self.row["visited"]
        if plain is not None and plain is not self:
            pairs = [ms / plain.ms["attune"][r] for r, ms in self.ms["attune"].items() if r in plain.ms["attune"]]
            row["over_plain"] = statistics.median(pairs)
        row["peers"] = []
        for name, _, _ in self.ways:
            if name not in self.ms:
                row["peers"].append({"name": name, "failed": self.failed.get(name, "not sampled")})
                continue
            times, ratios = list(self.ms[name].values()), self.ratios(name)
            row["peers"].append({"name": name, "ms": statistics.median(times), "spread": spread_of(times),
                                 "ratio": statistics.median(ratios), "samples": len(times)})
        timed = [p for p in row["peers"] if "ratio" in p]
        if timed:
            best = min(timed, key=lambda p: p["ratio"])
            row["best_peer"], row["ratio"] = best["name"], best["ratio"]
        return row


def plain_of(entry: Entry, entries: list):
    """As the programs choose it: the plain row of the same shape, pass, mask and type; of a plain row, float32's."""
    row = dict(entry.row, variant="plain")
    if entry.row["variant"] == "plain":
        row["dtype"] = "float32"
    wanted = name_of(row)
    return next((e for e in entries if name_of(e.row) == wanted), None)


def measure(entries: list, rounds: int, least_ms: float, threads: int) -> list:
    """Samples all entries round after round and returns the rows of the report."""
    pause = 0.0 if threads == 1 else 0.1  # threads of another pool still spin for a while
    start = time.monotonic()
    for number in range(rounds):
        for entry in entries:
            entry.sample(number, least_ms, pause)
        print(f"bench: {threads} thread{'s' if threads > 1 else ''}, round {number + 1} of {rounds}, "
              f"{time.monotonic() - start:.0f} s", file=sys.stderr)
    return [entry.result(plain_of(entry, entries)) for entry in entries]
