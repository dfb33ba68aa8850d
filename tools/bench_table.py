#!/usr/bin/env python3
"""Puts the figures of a benchmark run into the documents: tables between their marks, pictures into docs/images/.

    python3 tools/bench_table.py [out/bench/bench.json] [--print]

A page holds lines "<!-- bench:NAME -->" and "<!-- bench:end -->"; what lies between is replaced. size.json beside the
report, written by ./dev bench --size, is used if it is there.
"""
import json
import re
import sys
from pathlib import Path

import bench_pictures

ROOT = Path(__file__).resolve().parent.parent
WORDS = {  # English, Chinese
    "row": ("row", "行"), "ms": ("ms", "毫秒"), "share": ("share", "占比"), "spread": ("spread", "离散"),
    "thread1": ("1 thread", "1 线程"), "thread": ("{} threads", "{} 线程"), "over": ("x plain", "相对普通"),
    "peer": ("over the best peer", "相对最快的同类"), "peers": ("over peers", "相对同类"),
    "what": ("what", "项目"), "rate": ("10^9 a second", "每秒 10^9"),
    "tokens": ("tokens", "词元"), "doubling": ("per doubling", "每翻倍"), "memory": ("memory, MB", "内存，MB"),
    "others": ("peers", "同类"), "forward": ("forward", "前向"), "backward": ("backward", "反向"),
    "fma_float32": ("float32 multiply-add, operations", "float32 乘加（运算）"),
    "fma_float64": ("float64 multiply-add, operations", "float64 乘加（运算）"),
    "fma_bfloat16": ("bfloat16 multiply-add, operations", "bfloat16 乘加（运算）"),
    "exp2": ("exp2, numbers, one core", "exp2（个数，单核）"),
    "l2_read": ("reading L2, bytes, one core", "读二级缓存（字节，单核）"),
    "memory_read": ("reading memory, bytes", "读内存（字节）"),
    "library": ("{}, stripped", "{}，去除调试信息后"),
    "cold": ("everything built from nothing", "从零构建全部"),
}


class Language:
    def __init__(self, index: int):
        self.index = index

    def __call__(self, key: str, *values) -> str:
        return WORDS[key][self.index].format(*values)


def markdown(head: list, lines: list) -> str:
    if not lines:
        return ""
    rows = [head, ["---"] * len(head)] + lines
    return "\n" + "\n".join("| " + " | ".join(str(c) for c in row) + " |" for row in rows) + "\n\n"


def cells_of(row, over: bool) -> list:
    """Time, share, ratio to the best peer of one row, or to the plain row and all peers; blank where there is none."""
    if row is None:
        return ["", "", ""] + [""] * over
    share = f"{100 * row['share']:.0f} %" if row["share"] else ""
    timed = sorted((p for p in row["peers"] if "ratio" in p), key=lambda p: p["ratio"])
    peer = ", ".join(f"{p['ratio']:.2f}x {p['name']}" for p in (timed if over else timed[:1]))
    cells = [f"{row['ms']:.2f} ±{50 * row['spread']:.0f} %", share, peer]
    return cells[:2] + ([f"{row['over_plain']:.2f}" if "over_plain" in row else ""] if over else []) + cells[2:]


def table(rows: list, say: Language, over: bool) -> str:
    """A line a row, beside each other what differs in the number of threads alone."""
    threads = sorted({r["threads"] for r in rows})
    named = {}
    for row in rows:
        named.setdefault(bench_pictures.words_of(row), {})[row["threads"]] = row
    head, peers = [say("row")], say("peers" if over else "peer")
    for number in threads:
        count = say("thread1") if number == 1 else say("thread", number)
        head += [f"{count}: {say('ms')}", say("share")] + ([say("over")] if over else []) + [peers]
    line_of = lambda runs: sum((cells_of(runs.get(number), over) for number in threads), [])
    return markdown(head, [[name] + line_of(runs) for name, runs in named.items()])


def ceilings(result: dict, say: Language) -> str:
    runs = result["runs"]
    counts = [say("thread1") if r["threads"] == 1 else say("thread", r["threads"]) for r in runs]
    head = [f"{say('what')} ({say('rate')})"] + counts
    lines = [[say(key)] + [f"{r['ceilings'][key]:.1f}" for r in runs] for key in runs[0]["ceilings"]]
    machine = result["machine"]
    versions = "".join(f"; {name} {version}" for name, version in result["peers"].items())
    return f"\n{machine['cpu']}, {machine['target']}, {machine['compiler']}{versions}\n" + markdown(head, lines)


def growth(result: dict, say: Language) -> str:
    """Time of one head at 1k, 2k, ... tokens, the factor to the line above, and memory beside the arguments."""
    rows = [r for r in result["rows"] if r["variant"] == "growth" and r["threads"] == 1]
    memory = {m["row"]: m for m in result["memory"]}
    head, held_by = [say("tokens")], [f"{who}, {say('memory')}" for who in ("attune", "PyTorch")]
    for direction in ("forward", "backward"):
        head += [f"{say(direction)}, {say('ms')}", say("doubling")] + held_by
    lines, before = [], {}
    for shape in dict.fromkeys(r["shape"] for r in rows):
        line = [shape]
        for direction in ("forward", "backward"):
            row = next((r for r in rows if r["shape"] == shape and r["pass"] == direction), None)
            held = memory.get(f"{shape} {direction} growth full float32", {"peers": []})
            peer = next((p["bytes"] for p in held["peers"] if p["name"] == "PyTorch"), None)
            factor = f"{row['ms'] / before[direction]:.2f}x" if row and direction in before else ""
            line += [f"{row['ms']:.2f}" if row else "", factor]
            line += ["" if b is None else f"{b / 1e6:.1f}" for b in (held.get("bytes"), peer)]
            if row:
                before[direction] = row["ms"]
        lines.append(line)
    return markdown(head, lines)


def memory(result: dict, say: Language) -> str:
    """Memory of the variants at 4k tokens and of training steps, attune's and the peers'."""
    lines = []
    for held in result["memory"]:
        if " growth " not in held["row"] and held["bytes"] is not None:
            peers = ", ".join(f"{p['name']} {p['bytes'] / 1e6:.1f}" for p in held["peers"] if p["bytes"] is not None)
            name = held["row"].replace(" full", "").replace(" float32", "").replace("_", " ")
            lines.append([name, f"{held['bytes'] / 1e6:.1f}", peers])
    return markdown([say("row"), f"attune, {say('memory')}", f"{say('others')}, {say('memory')}"], lines)


def size(folder: Path, say: Language) -> str:
    path = folder / "size.json"
    if not path.exists():
        return "\n"
    sizes = json.loads(path.read_text(encoding="utf-8"))
    lines = [[say("library", name), f"{value / 1e6:.2f} MB"] for name, value in sizes.items() if name.endswith(".a")]
    return markdown([say("what"), ""], lines + [[say("cold"), f"{sizes['cold_build_seconds']:.0f} s"]])


def tables(result: dict, folder: Path, say: Language) -> dict:
    rows = result["rows"]
    attention = [r for r in rows if r["pass"] in ("forward", "backward") and r["variant"] != "growth"]
    return {
        "ceilings": ceilings(result, say),
        "plain": table([r for r in attention if r["variant"] == "plain" and r["dtype"] == "float32"], say, False),
        "variants": table([r for r in attention if r["variant"] != "plain"], say, True),
        "types": table([r for r in attention if r["variant"] == "plain" and r["dtype"] != "float32"], say, True),
        "decode": table([r for r in rows if r["pass"] == "decode"], say, False),
        "steps": table([r for r in rows if r["pass"] == "step"], say, False),
        "growth": growth(result, say), "memory": memory(result, say), "size": size(folder, say),
    }


def fill(page: Path, made: dict) -> None:
    def put(found) -> str:
        return found[1] + made.get(found[2], found[3]) + found[4]

    text = page.read_text(encoding="utf-8")
    marked = re.compile(r"(<!-- bench:(?!end)(\w+) -->\n)(.*?)(<!-- bench:end -->)", re.S)
    page.write_text(marked.sub(put, text), encoding="utf-8")


def main() -> int:
    words = [w for w in sys.argv[1:] if w != "--print"]
    report = Path(words[0] if words else "out/bench/bench.json")
    result = json.loads(report.read_text(encoding="utf-8"))
    if "--print" in sys.argv:
        for name, text in tables(result, report.parent, Language(0)).items():
            print(f"{name}\n{text}")
        return 0
    for index, page in enumerate(("docs/benchmarks.md", "docs/benchmarks.zh.md")):
        fill(ROOT / page, tables(result, report.parent, Language(index)))
    for picture in bench_pictures.draw(result, ROOT / "docs" / "images" / "bench"):
        print(picture.relative_to(ROOT))
    return 0


if __name__ == "__main__":
    sys.exit(main())
