#!/usr/bin/env python3
"""The benchmark: ceilings of this machine, then attune and its peers in turn, and what became of it since last time.

Programs of bench/ and of tools/peers/ run as servers that time one piece of work when told to (--serve), so samples of
attune and of the peers alternate within one run. Writes a table, JSON and pictures. ./dev bench calls this.
"""
import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

import bench_baseline
import bench_mechanisms
import bench_memory
import bench_pictures
from bench_serve import Entry, measure, name_of, start_own, start_peers

ROOT = Path(__file__).resolve().parent.parent
# What a person looks at after a change: every shape and variant once, on one thread.
QUICK = "A+plain,A+grouped,A+window,A+dropout,A+dense_bias,A+alibi,A+soft_cap,A+sink,B+plain,D+plain,E+plain,F"


def served_programs() -> list:
    """Benchmarks that take --serve: those that leave the measuring to bench/runner.hpp."""
    sources = sorted((ROOT / "bench").glob("**/*_bench.cpp"))
    return [s.stem for s in sources if '"runner.hpp"' in s.read_text(encoding="utf-8")]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="./dev bench", description=__doc__.split("\n", maxsplit=1)[0])
    add = parser.add_argument
    add("--quick", action="store_true", help="two minutes, no peers: the main rows on one thread")
    add("--peers", action="store_true", help="PyTorch and ONNX Runtime too, installed into build/peers on first use")
    add("--mechanisms", action="store_true", help="every stage and mechanism (stages_bench) instead of the main rows")
    add("--only", default="", metavar="WORDS", help='rows with one of these words in their names: "A+forward,E"')
    add("--programs", default="", metavar="NAMES", help="comma-separated programs of bench/, or all")
    add("--threads", default="", metavar="LIST", help="numbers of threads, one run each (1,2; with --quick 1)")
    add("--rounds", type=int, default=0, help="samples of each row (9)")
    add("--least", type=float, default=20, metavar="MS", help="a sample takes at least so long (20)")
    add("--json", default="out/bench/bench.json", metavar="FILE", help="(out/bench/bench.json); pictures lie beside it")
    add("--no-memory", action="store_true", help="leave out how much memory calls take (--quick does)")
    add("--save-baseline", action="store_true", help="store the result as what this class of machine can do")
    add("--size", action="store_true", help="size of the stripped libraries, and the time of a build from nothing")
    add("--list", action="store_true", help="print the names of all rows and end")
    add("--which", action="store_true", help=argparse.SUPPRESS)  # what these options need built
    add("--build", default="build/release", metavar="FOLDER", help=argparse.SUPPRESS)
    return parser.parse_args()


def entries_of(own: list, peers: list) -> tuple:
    """All rows of all programs, a name once; and what the first program says of the machine."""
    entries, seen, machine = [], set(), {}
    for server in own:
        try:
            answer = server.ask("rows")
        except RuntimeError:
            continue  # --only left this program nothing
        machine = machine or answer["machine"]
        for number, row in enumerate(answer["rows"]):
            if name_of(row) in seen:
                continue
            seen.add(name_of(row))
            entries.append(Entry(row, server, number))
            if row["variant"] != "growth":  # what it shows is attune's time against its own
                for peer in peers:
                    entries[-1].add_peer(peer)
    return entries, machine


def print_rows(rows: list) -> None:
    print(f"{'':46}{'ms':>10} {'GFLOP/s':>8} {'share':>6} {'spread':>7} {'x plain':>8}  best peer: its time over ours")
    for row in rows:
        rate = row["gbs"] if row["memory_bound"] else row["gflops"]
        share = f"{100 * row['share']:5.1f}%" if row["share"] else "     -"
        over = f"{row['over_plain']:8.3f}" if "over_plain" in row else " " * 8
        peer = f"  {row['best_peer']} {row['ratio']:.2f}x" if row["best_peer"] else ""
        print(f"{name_of(row):46}{row['ms']:10.3f} {rate:8.1f} {share} {100 * row['spread']:6.1f}% {over}{peer}")


def write(result: dict, report: Path) -> None:
    beside = report.with_name(report.name + ".part")
    beside.write_text(json.dumps(result, indent=1), encoding="utf-8")
    beside.rename(report)


def run_threads(options, programs: list, threads: int, rounds: int) -> dict:
    own = start_own(options.build, programs, threads, options.only)
    peers = start_peers(threads) if options.peers else []
    try:
        entries, machine = entries_of(own, peers)
        if not entries:
            raise SystemExit("bench: --only to leave at least one row (--list shows them), none left")
        ceilings = next(e.server for e in entries).ask("ceilings")
        print(f"{machine['cpu']}, {machine['target']}, {machine['compiler']}, threads: {threads}; "
              + ", ".join(f"{k} {v:.1f}" for k, v in ceilings.items()) + " (10^9 a second)")
        rows = measure(entries, rounds, options.least, threads)
        for row, entry in zip(rows, entries):
            row["program"] = entry.server.name
        versions = {}
        for peer in peers:
            if peer.process.poll() is None:
                answer = peer.ask("hello")
                versions[answer["name"]] = answer["version"]
        return {"machine": machine, "ceilings": ceilings, "peers": versions, "rows": rows}
    finally:
        for server in own + peers:
            server.close()


def chosen_programs(options) -> list:
    served = served_programs()
    if options.mechanisms:
        wanted = ["stages_bench"]
    elif options.programs == "all":
        wanted = served
    elif options.programs:
        wanted = options.programs.split(",")
    elif options.quick:
        wanted = ["attention_bench"]
    else:
        wanted = [p for p in ("attention_bench", "decode_bench", "steps_bench") if p in served]
    for program in wanted:
        if program not in served:
            raise SystemExit(f"bench: --programs of {', '.join(served)}; got {program}")
        if not options.which and not (Path(options.build) / program).exists():
            raise SystemExit(f"bench: a program that is built, found no {options.build}/{program}")
    return wanted


def main() -> int:
    options = arguments()
    os.chdir(ROOT)
    if options.which:
        print("\n".join(["attune", "attune_train"] if options.size else chosen_programs(options)))
        return 0
    report = Path(options.json)
    report.parent.mkdir(parents=True, exist_ok=True)
    if options.size:
        sizes = bench_memory.measure_size(options.build)
        report.with_name("size.json").write_text(json.dumps(sizes, indent=1), encoding="utf-8")
        return 0
    programs = chosen_programs(options)
    if options.list:
        for program in programs:
            subprocess.run([str(Path(options.build) / program), "--list"], check=True)
        return 0
    if options.quick and not options.only:
        options.only = QUICK
    rounds = options.rounds or 9
    two = "1" if options.quick or (os.cpu_count() or 1) < 2 else "1,2"
    result = {"command": "./dev bench " + " ".join(sys.argv[1:]), "rounds": rounds, "runs": [], "rows": [], "memory": []}
    for threads in (options.threads or two).split(","):
        run = run_threads(options, programs, int(threads), rounds)
        rows = run.pop("rows")
        result["runs"].append(dict(run, threads=int(threads)))
        result |= {"machine": run["machine"], "peers": run["peers"], "rows": result["rows"] + rows}
        write(result, report)
        print_rows(rows)
    if not options.quick and not options.no_memory and not options.mechanisms:
        rows = result["rows"]
        grown = [r for r in rows if r["threads"] == 1 and (r["shape"] in ("4k", "16k") or r["pass"] == "step")]
        result["memory"] = bench_memory.memory_rows(options.build, grown, options.peers)
        bench_memory.print_memory(result["memory"])
        write(result, report)
    pictures = bench_pictures.draw(result, report.parent)
    if options.mechanisms and bench_mechanisms.costs(result["rows"]):
        print(bench_mechanisms.table(result["rows"]), end="")
        pictures.append(bench_mechanisms.picture(result, report.parent / "mechanisms.svg"))
    print(f"written: {report}" + "".join(f", {p}" for p in pictures))
    if options.save_baseline:
        print(f"written: {bench_baseline.save(result, ROOT)}")
        return 0
    return bench_baseline.compare(result, ROOT, lambda names, threads: again(options, programs, names, threads))


def again(options, programs: list, names: list, threads: int) -> list:
    """Measures some rows once more, without peers."""
    options.peers, options.only = False, ",".join(name.replace(" ", "+") for name in names)
    return run_threads(options, programs, threads, 9)["rows"]


if __name__ == "__main__":
    try:
        sys.exit(main())
    except (RuntimeError, subprocess.CalledProcessError) as error:
        sys.exit(f"bench: {error}")
