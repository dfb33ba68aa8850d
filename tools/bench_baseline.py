"""What a class of machine could do when somebody last looked: bench/baseline/<class>.json, and what became slower.

Rows are compared by their share of the ceiling that was measured beside them, so that a processor that runs slower
today does not count; rows without a ceiling by their time. A row is slower than noise if it lost more than 2 % and
one and a half times the distance of the quartiles, of both runs together, and did so again when measured once more.
"""
import json
import re
from pathlib import Path

from bench_serve import name_of


def class_of(machine: dict) -> str:
    """The processor's name and the instruction set: "amd-epyc-avx512"."""
    words = re.sub(r"[^a-z0-9]+", "-", machine["cpu"].lower()).strip("-") or "unknown"
    return f"{words}-{machine['target']}" + ("-bf16" if machine["bf16"] and machine["target"] == "avx512" else "")


def path_of(machine: dict, root: Path) -> Path:
    return root / "bench" / "baseline" / f"{class_of(machine)}.json"


def key_of(row: dict) -> str:
    return f"{name_of(row)} {row['threads']}"


def figure_of(row: dict) -> dict:
    """Larger is faster: the share of the ceiling, or calls a second."""
    if row["share"]:
        return {"figure": row["share"], "spread": row["share_spread"]}
    return {"figure": 1e3 / row["ms"], "spread": row["spread"]}


def save(result: dict, root: Path) -> Path:
    """Rows that this run did not measure keep what they had."""
    path = path_of(result["machine"], root)
    stored = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {"rows": {}}
    stored = {"cpu": result["machine"]["cpu"], "target": result["machine"]["target"],
              "compiler": result["machine"]["compiler"], "rows": stored["rows"]}
    for row in result["rows"]:
        stored["rows"][key_of(row)] = {k: round(v, 4) for k, v in figure_of(row).items()}
    stored["rows"] = dict(sorted(stored["rows"].items()))
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(path.name + ".part")
    beside.write_text(json.dumps(stored, indent=1) + "\n", encoding="utf-8")
    beside.rename(path)
    return path


def slower(row: dict, before: dict) -> bool:
    now = figure_of(row)
    noise = 0.02 + 1.5 * (now["spread"] + before["spread"])
    return now["figure"] < before["figure"] * (1 - noise)


def compare(result: dict, root: Path, again) -> int:
    """Says which rows became slower than noise; 1 if any, else 0 and no word."""
    path = path_of(result["machine"], root)
    if not path.exists():
        print(f"no baseline for this class of machine; --save-baseline writes {path.relative_to(root)}")
        return 0
    stored = json.loads(path.read_text(encoding="utf-8"))["rows"]
    suspects = [r for r in result["rows"] if key_of(r) in stored and slower(r, stored[key_of(r)])]
    confirmed = []
    for threads in sorted({r["threads"] for r in suspects}):
        for row in again([name_of(r) for r in suspects if r["threads"] == threads], threads):
            if key_of(row) in stored and slower(row, stored[key_of(row)]):
                confirmed.append(row)
    if not confirmed:
        return 0
    print(f"slower than noise, against {path.relative_to(root)}:")
    for row in confirmed:
        now, before = figure_of(row)["figure"], stored[key_of(row)]["figure"]
        print(f"  {name_of(row):46} {row['threads']} thread{'s' if row['threads'] > 1 else ' '}  "
              f"{now:.3f} instead of {before:.3f}, {100 * (now / before - 1):+.1f} %")
    return 1
