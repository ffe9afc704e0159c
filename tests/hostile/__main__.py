"""Runs the campaign and prints a table of outcomes for docs/reliability.md."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections import defaultdict
from dataclasses import asdict
from pathlib import Path

from .batches import FAMILIES, Case, count_outcomes, load_family, run_cases

# Cases of each family in the published campaign.
SIZES = {"videos": 10_000, "bits": 3_000, "giants": 5, "weights": 2_000, "texts": 1_000}


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.hostile", description=__doc__)
    parser.add_argument("--only", nargs="*", choices=FAMILIES, default=FAMILIES)
    parser.add_argument("--kinds", nargs="*", help="these kinds only")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the cases")
    parser.add_argument("--out", type=Path, help="JSON Lines file for all cases")
    arguments = parser.parse_args()
    all_cases: list[Case] = []
    for name in arguments.only:
        kinds = [kind for kind in load_family(name).KINDS if kind in (arguments.kinds or [kind])]
        num_seeds = max(1, round(SIZES[name] * arguments.scale / len(load_family(name).KINDS)))
        rows = defaultdict(list)
        for kind in kinds:
            with tempfile.TemporaryDirectory() as folder:
                cases = run_cases(name, kind, range(num_seeds), Path(folder))
            rows[kind] = cases
            print(f"{name} {kind}: {dict(count_outcomes(cases))}", file=sys.stderr, flush=True)
            for case in cases:
                if not case.is_good:
                    print(
                        f"  seed {case.seed}: {case.outcome}: {case.message[-400:]}",
                        file=sys.stderr,
                    )
            all_cases += cases
            if arguments.out:
                with arguments.out.open("a") as file:
                    file.writelines(
                        json.dumps({"family": name, **asdict(case)}) + "\n" for case in cases
                    )
        print(_table(name, rows))
    return any(not case.is_good for case in all_cases)


def _table(name: str, rows: dict[str, list[Case]]) -> str:
    """A markdown table: a row per kind, a column per outcome."""
    outcomes = sorted({case.outcome for cases in rows.values() for case in cases})
    head = [name, "inputs", *outcomes, "slowest, s", "most memory, MB"]
    lines = ["| " + " | ".join(head) + " |", "|---" + "|--:" * (len(head) - 1) + "|"]
    every = [case for cases in rows.values() for case in cases]
    for label, cases in [*rows.items(), ("all", every)]:
        counts = count_outcomes(cases)
        cells = [label, str(len(cases)), *(str(counts[outcome]) for outcome in outcomes)]
        cells.append(f"{max(case.seconds for case in cases):.1f}")
        cells.append(f"{max(case.megabytes for case in cases):.0f}")
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
