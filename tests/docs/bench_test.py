#!/usr/bin/env python3
"""The tools of the benchmark: samples in turn, ratios, what counts as slower than noise, tables and pictures."""
import contextlib
import io
import json
import subprocess
import sys
import tempfile
import unittest
import xml.etree.ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tools"))
import bench_baseline  # noqa: E402
import bench_mechanisms  # noqa: E402
import bench_pictures  # noqa: E402
import bench_table  # noqa: E402
from bench_serve import Entry, measure, name_of, spread_of  # noqa: E402

ROW = {"shape": "A", "extents": [1, 8, 8, 1024, 1024, 64], "pass": "forward", "variant": "plain", "causal": False,
       "dtype": "float32", "threads": 1, "flops": 2e9, "bytes": 4e6, "memory_bound": False}
MACHINE = {"cpu": "Some CPU (TM) 1", "target": "avx2", "bf16": False, "compiler": "g++ 12"}
CEILINGS = {"fma_float32": 100.0, "fma_float64": 50.0, "fma_bfloat16": 0.0, "exp2": 9.0, "l2_read": 90.0,
            "memory_read": 20.0}


class Clockwork:
    """A server that answers from a list, and says when it was asked."""

    name = "clockwork"

    def __init__(self, name: str, times: list, log: list):
        self.own, self.times, self.log = name, list(times), log

    def ask(self, line: str) -> dict:
        verb, _, rest = line.partition(" ")
        if verb == "add":
            assert json.loads(rest)["extents"] == ROW["extents"]
            return {"ways": [[0, self.own]]}
        self.log.append(self.own)
        ms = self.times.pop(0)
        if ms == "gone":
            raise RuntimeError("gone")
        return {"error": "broken"} if ms is None else {"ms": ms, "ceiling": 100.0, "calls": 1}


def measured(ours: list, peers: dict, log: list, rounds: int = 4) -> dict:
    entry = Entry(ROW, Clockwork("attune", ours, log), 0)
    for name, times in peers.items():
        entry.add_peer(Clockwork(name, times, log))
    with contextlib.redirect_stderr(io.StringIO()):
        return measure([entry], rounds, 1.0, 1)[0]


def report(rows: list) -> dict:
    return {"machine": MACHINE, "peers": {"P": "1"}, "rounds": 4, "rows": rows,
            "runs": [{"threads": 1, "ceilings": CEILINGS}],
            "memory": [{"row": name_of(ROW), "bytes": 1e6, "peers": [{"name": "P", "bytes": 2e6}]}]}


class BenchTest(unittest.TestCase):
    def test_samples_are_taken_in_turn_and_ratios_within_a_round(self):
        log = []
        row = measured([40, 50, 40, 80], {"p": [80, 100, 80, 160], "q": [60, 60, 60, 60]}, log)
        self.assertEqual(log, ["attune", "p", "q", "p", "q", "attune", "q", "attune", "p", "attune", "p", "q"])
        self.assertEqual([p["ratio"] for p in row["peers"]], [2.0, 1.35])
        self.assertEqual((row["best_peer"], row["ratio"], row["ms"]), ("q", 1.35, 45))
        self.assertAlmostEqual(row["share"], (2e9 / 0.04 + 2e9 / 0.05) / 2 / 100e9)

    def test_a_peer_that_fails_is_left_out_and_says_why(self):
        row = measured([10] * 4, {"p": [None], "q": [20] * 4, "r": [30, "gone"]}, [])
        self.assertEqual(row["peers"][0], {"name": "p", "failed": "broken"})
        self.assertEqual(row["peers"][2]["samples"], 1)
        self.assertEqual(row["best_peer"], "q")

    def test_a_very_slow_peer_is_sampled_three_times(self):
        row = measured([10] * 9, {"p": [500] * 3}, [], 9)
        self.assertEqual((row["peers"][0]["samples"], row["samples"]), (3, 9))

    def test_spread_is_the_distance_of_the_quartiles(self):
        self.assertAlmostEqual(spread_of([1, 2, 3, 4, 5]), 2 / 3)
        self.assertEqual(spread_of([1, 9]), 0)

    def test_baseline_speaks_only_of_what_is_slower_twice(self):
        fast, slow = measured([40] * 4, {}, []), measured([50] * 4, {}, [])
        said = io.StringIO()
        with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(said):
            root = Path(folder)
            self.assertEqual(bench_baseline.compare(report([slow]), root, None), 0)  # nothing stored yet
            self.assertEqual(bench_baseline.save(report([fast]), root).name, "some-cpu-tm-1-avx2.json")
            self.assertIn("no baseline", said.getvalue())
            said.truncate(0)
            said.seek(0)
            self.assertEqual(bench_baseline.compare(report([fast]), root, None), 0)
            self.assertEqual(bench_baseline.compare(report([slow]), root, lambda names, threads: [fast]), 0)
            self.assertEqual(said.getvalue(), "")
            self.assertEqual(bench_baseline.compare(report([slow]), root, lambda names, threads: [slow]), 1)
            self.assertIn(name_of(ROW), said.getvalue())
            self.assertIn("-20.0 %", said.getvalue())

    def test_noise_widens_what_passes(self):
        noisy = measured([40, 44, 48, 52], {}, [])
        before = {"figure": noisy["share"] * 1.1, "spread": 0.0}
        self.assertFalse(bench_baseline.slower(noisy, before))
        self.assertTrue(bench_baseline.slower(noisy | {"share_spread": 0.0}, before))

    def test_pictures_are_drawings(self):
        row = measured([40] * 4, {"p": [60] * 4}, [])
        rows = [row | {"pass": p, "causal": c} for p in ("forward", "backward") for c in (0, 1)]
        with tempfile.TemporaryDirectory() as folder:
            drawn = bench_pictures.draw(report(rows), Path(folder))
            self.assertEqual([p.name for p in drawn], ["shares.svg", "ratios.svg", "roofline.svg"])
            for picture in drawn:
                tree = xml.etree.ElementTree.parse(picture)
                for element in tree.iter():
                    for key in ("x", "y", "width", "height", "cx", "cy"):
                        if key in element.attrib:
                            self.assertTrue(-1 <= float(element.attrib[key]) <= 2000, (picture, element.attrib))

    def test_tables_replace_what_lies_between_their_marks(self):
        row = measured([40] * 4, {"p": [60] * 4}, [])
        with tempfile.TemporaryDirectory() as folder:
            page = Path(folder) / "page.md"
            page.write_text("a\n<!-- bench:plain -->\nold\n<!-- bench:end -->\nb\n"
                            "<!-- bench:other -->\nkept\n<!-- bench:end -->\n", encoding="utf-8")
            made = bench_table.tables(report([row]), Path(folder), bench_table.Language(0))
            for _ in range(2):  # the second time changes nothing
                bench_table.fill(page, made)
                text = page.read_text(encoding="utf-8")
                self.assertIn("| A forward | 40.00 ±0 % | 50 % | 1.50x p |", text)
                self.assertNotIn("old", text)
                self.assertTrue(text.startswith("a\n<!-- bench:plain -->\n"))
                self.assertIn("b\n<!-- bench:other -->\nkept\n", text)

    def test_mechanisms_are_read_against_plain_and_what_they_show(self):
        half = dict(ROW, flops=1e9)
        rows = [dict(row, variant=variant, **more) for row, variant, more in (
            (ROW, "plain", {}), (ROW, "unheard_of", {"over_plain": 1.5}),
            (half, "random", {"over_plain": 0.6, "visited": 0.75}))]
        self.assertEqual(bench_mechanisms.costs(rows), {"unheard_of": {("A", "forward"): (1.5, 1.0, 0)},
                                                        "random": {("A", "forward"): (1.2, 0.5, 0.75)}})
        why, reason = json.loads(bench_mechanisms.REASONS.read_text(encoding="utf-8"))["random"]
        self.assertEqual(bench_mechanisms.table(rows).splitlines()[2:],
                         [f"| `random` | 50 % | 75 % | 1.20 |  |  |  | {why} |", "| `unheard_of` |  |  | 1.50 |  |  |  |  |"])
        with tempfile.TemporaryDirectory() as folder:
            (Path(folder) / "docs").mkdir()
            for page in bench_mechanisms.PAGES:
                (Path(folder) / page).write_text("a\n<!-- costs -->\nold\n<!-- costs end -->\nb\n"
                                                 "<!-- peers -->\nkept\n<!-- peers end -->\n", encoding="utf-8")
            bench_mechanisms.fill(rows, Path(folder))
            text = (Path(folder) / "docs" / "mechanisms.zh.md").read_text(encoding="utf-8")
            self.assertIn(reason, text)
            self.assertNotIn("old", text)
            self.assertTrue(text.startswith("a\n<!-- costs -->\n| 机制"))
            self.assertTrue(text.endswith("|\n<!-- costs end -->\nb\n<!-- peers -->\nkept\n<!-- peers end -->\n"))
            against = [dict(row, ms=2.0, best_peer="PyTorch, plain form", ratio=3.25) for row in rows[1:]]
            bench_mechanisms.fill(against, Path(folder))
            text = (Path(folder) / "docs" / "mechanisms.zh.md").read_text(encoding="utf-8")
            self.assertIn(reason, text, "costs are those of a run without peers")
            self.assertIn("| `random` | plain form | 2.0 | 3.2x |  |  |\n", text)
            self.assertNotIn("kept", text)
        with tempfile.TemporaryDirectory() as folder:
            path = bench_mechanisms.picture(report(rows), Path(folder) / "mechanisms.svg")
            xml.etree.ElementTree.parse(path)
            self.assertIn("unheard of", path.read_text(encoding="utf-8"))

    def test_a_peer_answers_every_line(self):
        program = ("import sys; sys.path.insert(0, sys.argv.pop(1))\nimport protocol\n"
                   "protocol.serve(lambda row: [('w', lambda: lambda: print(row))] if row else [], 1, {'name': 'me'})")
        lines = ["hello", 'add {"pass": 1}', "add {}", "time 0 1", "time 7 1", "nonsense", "drop 0"]
        command = [sys.executable, "-c", program, str(ROOT / "tools" / "peers")]
        out = subprocess.run(command, input="\n".join(lines) + "\n", capture_output=True, text=True,
                             check=True).stdout.splitlines()
        answers = [json.loads(line) for line in out]
        self.assertEqual(answers[:3], [{"name": "me"}, {"ways": [[0, "w"]]}, {"ways": []}])
        self.assertGreaterEqual(answers[3]["ms"] * answers[3]["calls"], 1)
        self.assertEqual([list(a) for a in answers[4:]], [["error"], ["error"], []])


if __name__ == "__main__":
    unittest.main()
