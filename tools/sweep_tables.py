#!/usr/bin/env python3
"""Fills the tables of docs/learning_rate.md and .zh.md from the reports of sweeps, and copies the pictures beside them.

    attune sweep --preset full
    attune sweep recipes/sweeps/translation.toml
    tools/sweep_tables.py out/sweep_full out/sweep_translation

A table stands between `<!-- sweep NAME -->` and `<!-- end -->`; sweeps that are not given keep theirs.
"""
import json
import shutil
import sys
from pathlib import Path
from statistics import median

DOCS = Path(__file__).resolve().parent.parent / "docs"
PICTURES = {"characters": "loss_tiny_novels.svg", "recall": "loss_tiny_recall.svg",
            "translation": "score_translate_en_de.svg"}
WORDS = {"en": {"remedy": "remedy", "best": "best loss, at rate", "range": "LRS→ (range over seeds)", "share": "x base",
                "top": "loss at 1e-1 / 3e-1", "sick": "largest logit, entropy at 3e-1", "rate": "learning rate",
                "loss": "loss of each seed", "right": "right answers", "sharp": "entropy of the sharpest head",
                "score": "BLEU", "held": "held-out loss", "logit": "largest logit", "entropy": "entropy"},
         "zh": {"remedy": "方法", "best": "最佳损失，学习率", "range": "LRS→（种子范围）", "share": "与 base 之比",
                "top": "1e-1 / 3e-1 的损失", "sick": "3e-1 时最大 logit，熵", "rate": "学习率",
                "loss": "各种子的损失", "right": "答对的比例", "sharp": "最尖的头的熵",
                "score": "BLEU", "held": "留出集损失", "logit": "最大 logit", "entropy": "熵"}}


def number(x) -> float:
    return x if isinstance(x, (int, float)) else float("inf")  # "nan": a run that was lost


class Report:
    def __init__(self, report: dict, folder: Path):
        self.name, self.folder, self.summary, self.rows = report["sweep"], folder, report["summary"], report["rows"]
        self.values = sorted({row["value"] for row in self.rows})
        self.remedies = list(dict.fromkeys(row["remedy"] for row in self.rows))

    def all(self, remedy: str, value: float, key: str) -> list[float]:
        return [number(r[key]) for r in self.rows if r["remedy"] == remedy and r["value"] == value]

    def middle(self, remedy: str, value: float, key: str) -> float:
        return median(self.all(remedy, value, key))

    def share(self, summary: dict) -> float:
        return summary["lrs_right"] / next(s["lrs_right"] for s in self.summary if s["remedy"] == "base")


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join("| " + " | ".join(line) + " |\n" if line is not lines[1] else "|" + "|".join(line) + "|\n"
                   for line in lines)


def characters(r: Report, w: dict) -> str:
    below, top = r.values[-2:]
    return table([w[k] for k in ("remedy", "best", "range", "share", "top", "sick")],
                 [[s["remedy"], f"{s['best_loss']:.3f}, {s['best_learning_rate']:g}",
                   f"{s['lrs_right']:.3f} ({s['lrs_right_low']:.3f} .. {s['lrs_right_high']:.3f})",
                   f"{r.share(s):.2f}",
                   f"{r.middle(s['remedy'], below, 'loss'):.2f} / {r.middle(s['remedy'], top, 'loss'):.2f}",
                   f"{r.middle(s['remedy'], top, 'max_logit'):.3g}, {r.middle(s['remedy'], top, 'entropy'):.2f}"]
                  for s in r.summary])


def isolate(r: Report, w: dict) -> str:
    return table([w["remedy"], *(f"x {v:g}" for v in r.values)],
                 [[remedy, *(f"{r.middle(remedy, v, 'loss'):.3f}, {r.middle(remedy, v, 'max_logit'):.3g}, "
                             f"{r.middle(remedy, v, 'entropy'):.2f}" for v in r.values)] for remedy in r.remedies])


def recall(r: Report, w: dict) -> str:
    rows = []
    for s in r.summary:
        row = [s["remedy"], f"{s['lrs_right']:.2f}", f"{r.share(s):.2f}"]
        for v in r.values:
            losses = r.all(s["remedy"], v, "loss")
            row.append(f"{median(losses):.2f} ({sum(x < 0.2 for x in losses)}/{len(losses)})")
        rows.append(row)
    return table([w["remedy"], "LRS→", w["share"], *(f"{v:g}" for v in r.values)], rows)


def benign(r: Report, w: dict) -> str:
    rows = []
    for v in r.values:
        for remedy in r.remedies:
            rows.append([f"{v:g}", remedy, " ".join(f"{x:.4f}" for x in r.all(remedy, v, "loss")),
                         " ".join(f"{100 * x:.4g} %" for x in r.all(remedy, v, "score")),
                         f"{r.middle(remedy, v, 'smallest_entropy'):.2f}"])
    return table([w[k] for k in ("rate", "remedy", "loss", "right", "sharp")], rows)


def translation(r: Report, w: dict) -> str:
    rows = []
    for v in r.values:
        row = [f"{v:g}"]
        for key, form in (("score", ".1f"), ("loss", ".2f"), ("max_logit", ".3g"), ("entropy", ".2f")):
            row.append(" / ".join(format(r.middle(remedy, v, key), form) for remedy in r.remedies))
        rows.append(row)
    both = " (" + " / ".join(r.remedies) + ")"
    return table([w["rate"], w["score"] + both, w["held"], w["logit"], w["entropy"]], rows)


TABLES = {"characters": characters, "isolate": isolate, "recall": recall, "benign": benign, "translation": translation}


def fill(text: str, name: str, filling: str) -> str:
    begin = text.index(f"<!-- sweep {name} -->\n") + len(f"<!-- sweep {name} -->\n")
    return text[:begin] + filling + text[text.index("<!-- end -->", begin):]


def main(folders: list[str]) -> None:
    if not folders:
        sys.exit(__doc__)
    reports = []
    for folder in map(Path, folders):
        report = json.loads((folder / "report.json").read_text())
        if "sweeps" in report:
            reports += [Report(one, folder / one["sweep"]) for one in report["sweeps"]]
        else:
            reports.append(Report(report, folder))
    for page, language in ((DOCS / "learning_rate.md", "en"), (DOCS / "learning_rate.zh.md", "zh")):
        text = page.read_text()
        for report in reports:
            text = fill(text, report.name, TABLES[report.name](report, WORDS[language]))
        page.write_text(text)
    for report in reports:
        if report.name in PICTURES:
            shutil.copy(report.folder / PICTURES[report.name], DOCS / "images/learning_rate" / f"{report.name}.svg")


if __name__ == "__main__":
    main(sys.argv[1:])
