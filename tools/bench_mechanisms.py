#!/usr/bin/env python3
"""What each mechanism costs over the plain path, from the rows of stages_bench: a table, a picture, and the table in
docs/mechanisms.md and docs/mechanisms.zh.md, between the lines <!-- costs --> and <!-- costs end -->. Of a run with peers
how many times its time PyTorch takes instead, between <!-- peers --> and <!-- peers end -->.

A mask that shows a share of the pairs is read against that share: its figure is time over (plain's time times the share).
Beside it stands the share of the pairs that its tiles hold. Why a figure is above 1.10 stands in mechanism_costs.json:
mechanism -> [English, Chinese].

    python3 tools/bench_mechanisms.py [--fill] RESULT.json [MORE.json ...] [FOLDER FOR THE PICTURE]
"""
import json
import math
import re
import sys
from pathlib import Path

from bench_pictures import Svg, legend, machine_of

COLUMNS = [(shape, work) for shape in ("A", "D") for work in ("forward", "backward")]
ABOVE = 1.105  # what is printed as more than 1.10 wants a reason
REASONS = Path(__file__).with_name("mechanism_costs.json")
PEER_HEADS = [["mechanism", "in PyTorch", "forward, ms", "PyTorch", "backward, ms", "PyTorch"],
              ["机制", "PyTorch 中的写法", "前向，毫秒", "PyTorch", "反向，毫秒", "PyTorch"]]
PAGES = {
    "docs/mechanisms.md": (0, "mechanism", "pairs shown", "visited", "forward", "backward", "D 128 forward",
                           "D 128 backward", "above 1.10, because"),
    "docs/mechanisms.zh.md": (1, "机制", "可见对", "访问对", "前向", "反向", "D 128 前向", "D 128 反向", "高于 1.10 的原因"),
}
ENGLISH = PAGES["docs/mechanisms.md"]


def work_of(row: dict) -> float:
    return row["flops"] if "flops" in row else row["gflops"] * row["ms"]


def costs(rows: list) -> dict:
    """variant -> {(shape, pass): (times plain, share of the pairs shown, share visited)}, of the run with the fewest
    threads; the second share is 0 where nothing is said."""
    fewest = min(r["threads"] for r in rows)
    rows = [r for r in rows if r["threads"] == fewest and r["dtype"] == "float32" and not r["causal"]]
    plain = {(r["shape"], r["pass"]): r for r in rows if r["variant"] == "plain"}
    found = {}
    for row in rows:
        place = (row["shape"], row["pass"])
        if row["variant"] == "plain" or place not in plain or "over_plain" not in row:
            continue
        share = work_of(row) / work_of(plain[place])
        found.setdefault(row["variant"], {})[place] = (row["over_plain"] / share, share, row.get("visited", 0))
    return found


def ordered(found: dict) -> list:
    """Cheap ones first."""
    return sorted(found, key=lambda variant: (max(cost for cost, _, _ in found[variant].values()), variant))


def shares(found: dict, number: int) -> str:
    """Of the shapes, where it is not all pairs."""
    told = {shape: values[number] for (shape, _), values in found.items() if 0 < values[1] < 0.999 and values[number] > 0}
    return ", ".join(dict.fromkeys(f"{100 * told[shape]:.0f} %" for shape in sorted(told)))


def table(rows: list, page: tuple = ENGLISH) -> str:
    """As Markdown: times plain for each shape and pass; the shares of the pairs where it is not all; why it is more."""
    found = costs(rows)
    reasons = json.loads(REASONS.read_text(encoding="utf-8"))
    lines = ["| " + " | ".join(page[1:]) + " |", "|---|---|---|" + "---:|" * len(COLUMNS) + "---|"]
    for variant in ordered(found):
        of = found[variant]
        cells = [f"{of[c][0]:.2f}" if c in of else "" for c in COLUMNS]
        why = reasons.get(variant, ["", ""])[page[0]] if max(cost for cost, _, _ in of.values()) >= ABOVE else ""
        lines.append(f"| `{variant}` | {shares(of, 1)} | {shares(of, 2)} | " + " | ".join(cells) + f" | {why} |")
    return "\n".join(lines) + "\n"


def peer_table(rows: list, index: int = 0) -> str:
    """As Markdown, of shape A: our time, and how many times that the fastest way of PyTorch takes; "" without peers."""
    found = {}
    for row in rows:
        if row["shape"] == "A" and row.get("ratio") and not row["causal"] and row["dtype"] == "float32":
            found.setdefault(row["variant"], {})[row["pass"]] = row
    if not found:
        return ""
    lines = ["| " + " | ".join(PEER_HEADS[index]) + " |", "|---|---|" + "---:|" * 4]
    for variant in sorted(found, key=lambda v: (-min(r["ratio"] for r in found[v].values()), v)):
        cells = []
        for direction in ("forward", "backward"):
            row = found[variant].get(direction)
            cells += [f"{row['ms']:.1f}", f"{row['ratio']:.1f}x"] if row else ["", ""]
        ways = [row["best_peer"].removeprefix("PyTorch").lstrip(", ") or "one call" for row in found[variant].values()]
        lines.append(f"| `{variant}` | {' / '.join(dict.fromkeys(ways))} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def fill(rows: list, root: Path) -> None:
    """The table of the pages that the rows are for: those of a run with peers, or costs."""
    for name, heads in PAGES.items():
        page = root / name
        text = page.read_text(encoding="utf-8")
        against = peer_table(rows, heads[0])
        mark, made = ("peers", against) if against else ("costs", table(rows, heads))
        part = re.compile(rf"(<!-- {mark} -->\n)(.*?)(<!-- {mark} end -->)", re.S)
        if not part.search(text):
            raise SystemExit(f"bench_mechanisms: {name} with <!-- {mark} --> and <!-- {mark} end -->, found none")
        page.write_text(part.sub(lambda m: m[1] + made + m[3], text), encoding="utf-8")


def picture(result: dict, path: Path) -> Path:
    """Times plain, on an axis that doubles: a bar for the forward pass, a thin one for the backward pass, at shape A."""
    found = {v: c for v, c in costs(result["rows"]).items() if ("A", "forward") in c}
    step, left, right = 26, 190, 70
    svg = Svg(760, 110 + step * len(found), "Mechanisms: time over plain attention, for each visible pair")
    svg.text(20, 48, machine_of(result) + "; [1, 8, 1024, 64]", "soft")
    legend(svg, 70, [("ours", "forward"), ("peer", "backward")])
    largest = max([2.0] + [cost for c in found.values() for place, (cost, _, _) in c.items() if place[0] == "A"])
    wide, bottom, high = svg.width - left - right, 90 + step * len(found), math.ceil(math.log2(largest))
    place = lambda cost: left + wide * max(0.0, math.log2(cost) + 1) / (high + 1)
    for power in range(-1, high + 1):
        svg.line(place(2.0**power), 84, place(2.0**power), bottom, "one" if power == 0 else "grid")
        svg.text(place(2.0**power), bottom + 15, f"{2.0**power:g}x", "soft middle")
    for i, variant in enumerate(ordered(found)):
        y = 90 + step * i
        forward = found[variant]["A", "forward"][0]
        svg.text(left - 10, y + 14, variant.replace("_", " "), "end")
        svg.bar(left, y + 2, place(forward) - left, 11, "ours")
        svg.text(place(forward) + 6, y + 12, f"{forward:.2f}", "soft")
        if ("A", "backward") in found[variant]:
            svg.bar(left, y + 14, place(found[variant]["A", "backward"][0]) - left, 6, "peer")
    return svg.save(path)


def main() -> None:
    arguments = [a for a in sys.argv[1:] if a != "--fill"]
    files = [Path(a) for a in arguments if a.endswith(".json")]
    folders = [Path(a) for a in arguments if not a.endswith(".json")]
    if not files or len(folders) > 1:
        sys.exit("bench_mechanisms: the JSON of ./dev bench --mechanisms, got " + " ".join(sys.argv[1:] or ["nothing"]))
    told = [json.loads(f.read_text(encoding="utf-8")) for f in files]
    rows = [row for t in told for row in t["rows"]]
    print(table(rows), end="")
    if "--fill" in sys.argv:
        fill(rows, Path(__file__).resolve().parent.parent)
    if folders:
        print(picture(dict(told[0], rows=rows), folders[0] / "mechanisms.svg"))


if __name__ == "__main__":
    main()
