#!/usr/bin/env python3
"""What each mechanism costs over the plain path, from the rows of stages_bench: a table and a picture.

A mask that shows a share of the pairs is read against that share: its figure is time over (plain's time times the share).

    python3 tools/bench_mechanisms.py out/bench/bench.json [out/bench]
"""
import json
import math
import sys
from pathlib import Path

from bench_pictures import Svg, legend, machine_of

COLUMNS = [(shape, work) for shape in ("A", "D") for work in ("forward", "backward")]


def costs(rows: list) -> dict:
    """variant -> {(shape, pass): (times plain, share of the pairs)}, of the run with the fewest threads."""
    fewest = min(r["threads"] for r in rows)
    rows = [r for r in rows if r["threads"] == fewest and r["dtype"] == "float32" and not r["causal"]]
    plain = {(r["shape"], r["pass"]): r for r in rows if r["variant"] == "plain"}
    found = {}
    for row in rows:
        place = (row["shape"], row["pass"])
        if row["variant"] == "plain" or place not in plain or "over_plain" not in row:
            continue
        share = row["flops"] / plain[place]["flops"]
        found.setdefault(row["variant"], {})[place] = (row["over_plain"] / share, share)
    return found


def ordered(found: dict) -> list:
    """Cheap ones first."""
    return sorted(found, key=lambda variant: (max(cost for cost, _ in found[variant].values()), variant))


def table(rows: list) -> str:
    """As Markdown: times plain for each shape and pass; the share of the pairs where it is not all."""
    found = costs(rows)
    lines = ["| mechanism | pairs shown | " + " | ".join(f"{s} {w}" for s, w in COLUMNS) + " |",
             "|---|---|" + "---:|" * len(COLUMNS)]
    for variant in ordered(found):
        cells = [f"{found[variant][c][0]:.2f}" if c in found[variant] else "" for c in COLUMNS]
        shares = [share for _, share in found[variant].values() if share < 0.999]
        shown = f"{100 * min(shares):.0f} %" if shares else ""
        lines.append(f"| `{variant}` | {shown} | " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


def picture(result: dict, path: Path) -> Path:
    """Times plain, on an axis that doubles: a bar for the forward pass, a thin one for the backward pass, at shape A."""
    found = {v: c for v, c in costs(result["rows"]).items() if ("A", "forward") in c}
    step, left, right = 26, 190, 70
    svg = Svg(760, 110 + step * len(found), "Mechanisms: time over plain attention, for each visible pair")
    svg.text(20, 48, machine_of(result) + "; [1, 8, 1024, 64]", "soft")
    legend(svg, 70, [("ours", "forward"), ("peer", "backward")])
    largest = max([2.0] + [cost for c in found.values() for place, (cost, _) in c.items() if place[0] == "A"])
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


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        sys.exit("bench_mechanisms: the JSON of ./dev bench --mechanisms, got " + " ".join(sys.argv[1:] or ["nothing"]))
    told = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    print(table(told["rows"]), end="")
    if len(sys.argv) == 3:
        print(picture(told, Path(sys.argv[2]) / "mechanisms.svg"))
