"""Tables of RTF files, as their cells' edges and the programs that write them give them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.types import ElementKind
from tests.reading import Read
from tests.rtf import of


def row(*cells: str, definition: str = "", end: str = r"\row") -> str:
    edges = definition or "".join(rf"\cellx{1000 * (at + 1)}" for at in range(len(cells)))
    return rf"\trowd{edges}\pard\intbl " + "".join(rf"{cell}\cell " for cell in cells) + end


def rows_of(found: Read) -> list[tuple[str, str]]:
    return [(e.header, e.text) for e in found.elements if e.kind is ElementKind.TABLE_ROW]


def test_tables(tmp_path: Path) -> None:
    found = of(
        tmp_path, r"Fees:\par" + row("Berth", "Fee") + row("North", r"40\par euro") + row("South", "65") + r"\pard After.\par"
    )
    assert rows_of(found) == [("Berth | Fee", "North | 40 euro"), ("Berth | Fee", "South | 65")]
    assert [found.texts[0], found.texts[-1]] == ["Fees:", "After."]


@pytest.mark.parametrize(
    "body",
    [
        r"\trowd\cellx1\cellx2000\pard Berth\cell Fee\cell\row\trowd\cellx1\cellx2000\pard North\cell 40\cell\row\pard\par",
        r"\pard\intbl Berth\cell Fee\cell\trowd\cellx900\cellx2000\row\pard\intbl North\cell 40\cell\trowd\cellx900\cellx2000\row",
        r"{\trowd\cellx900\cellx2000{{\pard\intbl Berth\par}\cell}{{\pard\intbl Fee\par}\cell}\intbl\row}"
        r"{\trowd\cellx900\cellx2000{{\pard\intbl North\par}\cell}{{\pard\intbl 40\par}\cell}\intbl\row}",
        row("Berth", "Fee") + r"\trowd\cellx1000\cellx2000\pard\intbl North\cell 40\cell",
    ],
    ids=["without intbl", "definition last", "in groups", "without end"],
)
def test_tables_as_programs_write_them(body: str, tmp_path: Path) -> None:
    assert rows_of(of(tmp_path, body)) == [("Berth | Fee", "North | 40")]


def test_merged_cells(tmp_path: Path) -> None:
    wide = row("Zone", "Price", definition=r"\trhdr\cellx1000\cellx3000")
    names = row("", "net", "gross", definition=r"\trhdr\cellx1000\cellx2000\cellx3010")
    first = row("Alps", "1", "2", definition=r"\clvmgf\cellx1000\cellx2000\cellx3000")
    below = row("", "3", "4", definition=r"\clvmrg\cellx1000\cellx2000\cellx3000")
    old = row("Coast", "both", "", definition=r"\cellx1000\clmgf\cellx2000\clmrg\cellx3000")
    header = "Zone | Price net | Price gross"
    assert rows_of(of(tmp_path, wide + names + first + below + old)) == [
        (header, "Alps | 1 | 2"),
        (header, "Alps | 3 | 4"),
        (header, "Coast | both | both"),
    ]


def test_rows_that_are_not_aligned_repeat_no_cell(tmp_path: Path) -> None:
    body = "".join(row(f"k{at}", f"v{at}", definition=rf"\cellx{1000 + 100 * at}\cellx{5000 + 100 * at}") for at in range(9))
    assert [text for _, text in rows_of(of(tmp_path, body))] == [f"k{at} | v{at}" for at in range(1, 9)]


def test_nested_tables(tmp_path: Path) -> None:
    def nested(*cells: str) -> str:
        text = "".join(rf"\pard\intbl\itap2 {cell}\nestcell " for cell in cells)
        return text + r"{\*\nesttableprops\trowd\cellx300\cellx600\nestrow}{\nonesttables\par}"

    inside = nested("Key", "Value") + nested("a", "1") + nested("b", "2")
    body = (
        row("Name", "Facts")
        + r"\trowd\cellx1000\cellx2000\pard\intbl Boat\cell Has:\par "
        + inside
        + r"\pard\intbl\cell\row\pard End.\par"
    )
    found = of(tmp_path, body)
    assert rows_of(found) == [("Name | Facts", "Boat | Has:; Key, Value; a, 1; b, 2")]
    assert found.texts[-1] == "End."


def test_a_table_that_lays_out_a_page_is_read_as_text(tmp_path: Path) -> None:
    assert not rows_of(of(tmp_path, row("Only cell") + r"\pard\par"))
    assert not rows_of(of(tmp_path, row("Left", "word " * 400) + r"\pard\par"))
