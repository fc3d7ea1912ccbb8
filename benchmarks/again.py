"""What a second load costs, what an edit costs, and what a text costs that occurs many times.

python -m benchmarks.again [--files 20000] [--rounds 3]
"""

from __future__ import annotations

import argparse
import shutil
import statistics
import tempfile
from pathlib import Path

from benchmarks import command
from benchmarks.report import machine, save, table

#: Paragraphs of the document that is edited; each is long enough to be a chunk of its own.
PARAGRAPHS = 1200


def notes(folder: Path, count: int) -> None:
    """`count` different files of one line."""
    for number in range(count):
        path = folder / f"{number // 200:04d}" / f"{number:06d}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"Note {number}: sensor {number % 97} showed {number * 7 % 1009}.\n", "utf-8")


def prose(number: int, repeated: bool = False) -> str:
    """A paragraph of some 200 tokens; the same one each time if `repeated`."""
    mark = 0 if repeated else number
    return " ".join(
        f"In entry {mark * 31 + step} the reading of station {(mark + step) % 53} rose by {step}." for step in range(14)
    )


def main() -> None:
    """Measure, print the table, keep the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--files", type=int, default=20000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        notes(folder / "notes", options.files)
        first = command.load(folder / "data", str(folder / "notes"))
        rates: dict[str, list[float]] = {"by size and time": [], "by hash (--checksum)": []}
        for _ in range(options.rounds):
            for name, extra in zip(rates, ([], ["--checksum"]), strict=True):
                again = command.load(folder / "data", str(folder / "notes"), *extra)
                assert again.answer["unchanged"] == options.files, again.answer
                rates[name].append(options.files / again.answer["seconds"])

        document = folder / "long.txt"
        paragraphs = [prose(number) for number in range(PARAGRAPHS)]
        document.write_text("\n\n".join(paragraphs), "utf-8")
        chunks = command.load(folder / "edit", str(document)).answer["chunks"]
        edited: list[int] = []
        for place in (PARAGRAPHS // 7, PARAGRAPHS // 2, PARAGRAPHS - 20):
            paragraphs[place] = "This paragraph was written anew. " + paragraphs[place]
            document.write_text("\n\n".join(paragraphs), "utf-8")
            edited.append(int(command.load(folder / "edit", str(document)).answer["chunks"]))

        for name, repeated in (("distinct", False), ("equal", True)):
            path = folder / name / "a.txt"
            path.parent.mkdir()
            path.write_text("\n\n".join(prose(number, repeated) for number in range(PARAGRAPHS)), "utf-8")
        same = {}
        for name in ("distinct", "equal"):
            shutil.copytree(folder / "data", folder / f"data-{name}", ignore=lambda _, found: set(found) - {"calibration.json"})
            same[name] = command.load(folder / f"data-{name}", str(folder / name)).answer
    rows: list[tuple[str, object]] = [
        (f"first load of {options.files} files of one line, files/s", round(options.files / first.seconds)),
        *(
            (f"second load of them, {name}, files/s after start-up, median", round(statistics.median(values)))
            for name, values in rates.items()
        ),
        (f"a document of {chunks} chunks, one paragraph edited: chunks embedded, three times", edited),
        ("a document of as many different chunks, seconds", same["distinct"]["seconds"]),
        (f"{same['equal']['chunks']} equal chunks, seconds", same["equal"]["seconds"]),
    ]
    print(machine())
    print(table(("what", "measured"), rows))
    save("again", {"files": options.files, "rates": rates, "chunks": chunks, "embedded_after_edit": edited, "repeated": same})


if __name__ == "__main__":
    main()
